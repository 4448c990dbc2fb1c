//! `exec`: a program of the operator's that reads stdin and writes stdout, under bubblewrap.
//!
//! Bytes pass through it as they come. It may answer before it has read all, and stop reading when
//! it knows enough; its end decides: only a program that ended well gave a whole answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use zeroize::Zeroizing;

use super::document::DocumentRoom;
use super::feed::Feed;
use super::own::plain;
use super::{Description, Options, Output, ProcessError, Processor, Step, StepStream};
use crate::body::{BodyError, Buffer, Pool};
use crate::budget::PATIENCE;
use crate::clock::{Clock, within};
use crate::jail::{Bubblewrap, Jail, Leash, Program, ProgramLimits, Sandbox, exit_code};
use crate::metrics;
use crate::problem::Slug;

/// A program and what it may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub name: String,
    /// The program and its arguments. Files that an absolute path names are shown to it.
    pub words: Vec<String>,
    /// Further files and folders it may read.
    pub reads: Vec<PathBuf>,
    pub limits: ProgramLimits,
    /// Of its output.
    pub media_type: &'static str,
    /// Of what it reads; empty for anything.
    pub accepts: Vec<&'static str>,
}

/// A piece of a program's output at a time, bytes.
const PIECE: usize = 64 << 10;

/// What bubblewrap says of a program is a few short lines.
const MOST_STATUS: usize = 4096;

/// The `exec` processor, and `convert`.
pub(super) struct ProgramProcessor {
    description: Description,
    work: Work,
}

/// All that one run needs.
#[derive(Clone)]
pub(super) struct Work {
    pub sandbox: Arc<Sandbox>,
    pub limits: ProgramLimits,
    pub media_type: &'static str,
    /// Whether its output leaves as it comes.
    pub streams: bool,
    /// What an exit code other than 0 means.
    pub verdict: fn(u8) -> ProcessError,
    pub jail: Arc<Jail>,
    pub pool: Arc<Pool>,
    pub clock: Arc<dyn Clock>,
}

impl ProgramProcessor {
    /// `None` where the command cannot be a command.
    pub(super) fn new(
        command: &Command,
        bubblewrap: &Bubblewrap,
        room: &DocumentRoom,
    ) -> Option<Self> {
        let sandbox = bubblewrap.sandbox(&command.words, &command.reads, command.limits)?;
        let description = plain(&command.name, &command.accepts);
        let work = Work {
            sandbox: Arc::new(sandbox),
            limits: command.limits,
            media_type: command.media_type,
            streams: true,
            verdict,
            jail: room.jail.clone(),
            pool: room.pool.clone(),
            clock: room.clock.clone(),
        };
        Some(Self { description, work })
    }

    pub(super) const fn with(description: Description, work: Work) -> Self {
        Self { description, work }
    }
}

/// A program that a signal ended ran into a limit, or broke on its input; any other code is its
/// own word.
pub(super) fn verdict(code: u8) -> ProcessError {
    if code < 128 {
        return ProcessError::because(Slug::UpstreamFailed, "The program ended with a failure.");
    }
    ran_over("program-killed")
}

fn ran_over(why: &'static str) -> ProcessError {
    metrics::count_by(metrics::WORKER_FAILURES, "why", why);
    ProcessError::refused(Slug::ProcessorLimit)
}

impl Processor for ProgramProcessor {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        options.read(&[])?;
        Ok(Box::new(self.work.clone()))
    }
}

#[async_trait]
impl Step for Work {
    fn streams(&self) -> bool {
        self.streams
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        // A step that does not stream has its input sealed and a place in the queue: it can wait.
        let patience = if self.streams { PATIENCE } else { self.limits.time };
        let program = self.jail.launch(&self.sandbox, patience).await?;
        let Program { stdin, stdout, status, leash } = program;
        let feed = Feed {
            stdin: Some(stdin),
            left: u64::MAX,
            whole: true,
            limit: u64::MAX,
            patience: self.limits.time,
            clock: self.clock.clone(),
        };
        let feeding = feed.run(Zeroizing::default(), input);
        let (time_left, output_left) = (self.limits.time, self.limits.output_bytes);
        let media_type = self.media_type;
        let talk = Talk {
            feeding: Some(Box::pin(feeding)),
            stdout,
            status,
            leash,
            piece: None,
            time_left,
            output_left,
            work: *self,
        };
        let body = stream::try_unfold(Some(talk), |talk| async move {
            let Some(mut talk) = talk else { return Ok(None) };
            match talk.next().await? {
                Some(bytes) => Ok(Some((bytes, Some(talk)))),
                None => Ok(None),
            }
        });
        Ok(Output { media_type, body: Box::pin(body) })
    }
}

/// The conversation with one program. Dropping it kills the program and all it has started.
struct Talk {
    feeding: Option<BoxFuture<'static, Result<(), ProcessError>>>,
    stdout: pipe::Receiver,
    status: pipe::Receiver,
    leash: Leash,
    piece: Option<Buffer>,
    /// How long it may still be waited for. A slow sender or reader is not its doing, so only
    /// waits count that nobody else could end.
    time_left: Duration,
    output_left: u64,
    work: Work,
}

impl Talk {
    /// The next piece of output; `None` after the last, when input and program have ended well.
    async fn next(&mut self) -> Result<Option<Bytes>, ProcessError> {
        if self.piece.is_none() {
            let taken = self.work.pool.take(PIECE, &*self.work.clock).await;
            let mut buffer = taken.map_err(|_| ProcessError::Body(BodyError::Overloaded))?;
            buffer.resize(PIECE);
            self.piece = Some(buffer);
        }
        let read = self.read().await?;
        let Some(mut buffer) = self.piece.take() else { return Err(ProcessError::Failed) };
        buffer.resize(read);
        if read == 0 {
            drop(buffer);
            self.finish().await?;
            return Ok(None);
        }
        let rest = self.output_left.checked_sub(read as u64);
        self.output_left = rest.ok_or_else(|| ran_over("limit"))?;
        Ok(Some(buffer.into_bytes()))
    }

    /// Reads into the piece, feeding the program meanwhile.
    async fn read(&mut self) -> Result<usize, ProcessError> {
        loop {
            let Some(piece) = &mut self.piece else { return Err(ProcessError::Failed) };
            let reading = std::pin::pin!(self.stdout.read(piece.as_mut_slice()));
            let Some(feeding) = &mut self.feeding else {
                let started = self.work.clock.now().boot;
                let read = within(&*self.work.clock, self.time_left, reading).await;
                let spent = self.work.clock.now().boot.since(started);
                self.time_left = self.time_left.saturating_sub(spent);
                let read = read.ok_or_else(|| ran_over("limit"))?;
                // A pipe that cannot be read has no writer left.
                return Ok(read.unwrap_or(0));
            };
            // Feeding first: an input that broke wins over what becomes of half of it.
            let fed = match select(feeding, reading).await {
                Either::Left((fed, _)) => fed,
                Either::Right((read, _)) => return Ok(read.unwrap_or(0)),
            };
            self.feeding = None;
            fed?;
        }
    }

    /// The output has ended: so must the input, then the program.
    async fn finish(&mut self) -> Result<(), ProcessError> {
        if let Some(feeding) = self.feeding.take() {
            feeding.await?;
        }
        let mut said = Vec::new();
        let mut status = (&mut self.status).take(MOST_STATUS as u64);
        let ended = status.read_to_end(&mut said);
        let ended = within(&*self.work.clock, self.time_left, ended).await;
        self.leash.kill();
        if ended.is_none() {
            return Err(ran_over("limit"));
        }
        match exit_code(&said) {
            Some(0) => Ok(()),
            Some(code) => Err((self.work.verdict)(code)),
            None => Err(ran_over("program-killed")),
        }
    }
}
