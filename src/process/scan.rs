//! `scan`: clamd looks at the whole file, in memory, and nothing passes that it has not seen.
//!
//! The file is handed over as a descriptor of memory (FILDES over the unix socket). INSTREAM would
//! have clamd write the plaintext to a temporary file.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::document::DocumentRoom;
use super::own::plain;
use super::{Description, Options, Output, ProcessError, Processor, Step, StepStream};
use crate::body::{BodyError, Pool};
use crate::budget::Permit;
use crate::clock::{Clock, within};
use crate::problem::Slug;

/// Where clamd listens, and what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanner {
    pub socket: PathBuf,
    /// The largest file it is given, bytes. clamd calls a file beyond its own MaxFileSize clean
    /// without having looked at it, so this must not be more than that.
    pub max_bytes: u64,
    /// The longest wait for its verdict.
    pub time: Duration,
}

/// The longest answer there is: a signature's name.
const MOST_ANSWER: u64 = 4096;

const CLEAN: &[u8] = b"{\"verdict\":\"clean\"}";

/// The `scan` processor.
pub(super) struct ScanProcessor {
    description: Description,
    scan: Scan,
}

#[derive(Clone)]
struct Scan {
    scanner: Scanner,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
}

impl ScanProcessor {
    pub(super) fn new(scanner: Scanner, room: &DocumentRoom) -> Self {
        let (pool, clock) = (room.pool.clone(), room.clock.clone());
        Self { description: plain("scan", &[]), scan: Scan { scanner, pool, clock } }
    }
}

impl Processor for ScanProcessor {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        options.read(&[])?;
        Ok(Box::new(self.scan.clone()))
    }
}

#[async_trait]
impl Step for Scan {
    fn streams(&self) -> bool {
        false
    }

    fn judges(&self) -> bool {
        true
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        let file = self.collect(input).await?;
        let asked = within(&*self.clock, self.scanner.time, self.ask(&file)).await;
        let Some(Ok(answer)) = asked else {
            return Err(ProcessError::refused(Slug::ScannerUnavailable));
        };
        judge(&answer)?;
        let body = stream::iter([Ok(Bytes::from_static(CLEAN))]);
        Ok(Output { media_type: "application/json", body: Box::pin(body) })
    }
}

/// A file in memory. Its pages belong to the kernel, but they are memory all the same.
struct InMemory {
    file: OwnedFd,
    _permits: Vec<Permit>,
}

impl Scan {
    async fn collect(&self, mut input: StepStream) -> Result<InMemory, ProcessError> {
        let file = memfd_create(c"scan", MemfdFlags::CLOEXEC).map_err(|_| ProcessError::Failed)?;
        let (mut permits, mut length) = (Vec::new(), 0u64);
        while let Some(bytes) = input.next().await {
            let bytes = bytes?;
            length += bytes.len() as u64;
            if length > self.scanner.max_bytes {
                let detail = "The file is larger than what the scanner looks at.";
                return Err(ProcessError::because(Slug::ProcessorLimit, detail));
            }
            let permit = self.pool.budget().acquire(bytes.len(), &*self.clock).await;
            permits.push(permit.map_err(BodyError::from)?);
            write_all(&file, &bytes).map_err(|_| ProcessError::Overloaded)?;
        }
        Ok(InMemory { file, _permits: permits })
    }

    /// clamd's answer, without its end mark.
    async fn ask(&self, file: &InMemory) -> io::Result<Vec<u8>> {
        let mut clamd = UnixStream::connect(&self.scanner.socket).await?;
        clamd.write_all(b"zFILDES\0").await?;
        clamd.async_io(Interest::WRITABLE, || hand_over(&clamd, &file.file)).await?;
        let mut answer = Vec::new();
        clamd.take(MOST_ANSWER).read_to_end(&mut answer).await?;
        match answer.pop() {
            Some(0) => Ok(answer),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::write(file, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// One byte with the descriptor beside it, as clamd wants it.
fn hand_over(clamd: &UnixStream, file: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [file.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(clamd, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Only one answer is good: any word that is not known to be good passes nothing.
fn judge(answer: &[u8]) -> Result<(), ProcessError> {
    if answer.ends_with(b": OK") {
        return Ok(());
    }
    let found = answer.ends_with(b" FOUND");
    let limits = b"Heuristics.Limits.Exceeded";
    Err(ProcessError::refused(match found {
        // It gave up before its end (AlertExceedsMax): nothing is known of the rest.
        true if answer.windows(limits.len()).any(|part| part == limits) => Slug::ProcessorLimit,
        true => Slug::Malware,
        false => Slug::ScannerUnavailable,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_answer_lets_a_file_pass() {
        let slug = |answer: &[u8]| match judge(answer) {
            Ok(()) => None,
            Err(ProcessError::Refused { slug, .. }) => Some(slug),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(slug(b"fd[10]: OK"), None);
        assert_eq!(slug(b"fd[10]: Eicar-Signature FOUND"), Some(Slug::Malware));
        assert_eq!(
            slug(b"fd[10]: Heuristics.Limits.Exceeded.MaxFileSize FOUND"),
            Some(Slug::ProcessorLimit)
        );
        for other in [&b""[..], b"OK", b"fd[10]: Can't open file ERROR", b"UNKNOWN COMMAND"] {
            assert_eq!(slug(other), Some(Slug::ScannerUnavailable), "{}", other.escape_ascii());
        }
    }
}
