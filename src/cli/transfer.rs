//! Bytes between files here and the gateway: streamed, counted, and shown on a terminal.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressStyle};

use super::client::{ClientError, Pulse};
use crate::body::BodyError;
use crate::disk::{self, Draft};
use crate::egress::{Answer, Outgoing};
use crate::tasks::blocking;

/// What is read or written at once, bytes.
const PIECE: usize = 256 << 10;

/// Whether this name stands for stdin or stdout.
pub fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A bar on a terminal, and nothing anywhere else.
pub fn bar(shown: bool, length: Option<u64>, label: &str) -> ProgressBar {
    if !shown || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if length.is_some() {
        "{msg:24!} {wide_bar} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}"
    } else {
        "{msg:24!} {spinner} {binary_bytes} {binary_bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(super::client::printable(label));
    bar
}

/// Something to send: a file, or what comes in on stdin.
pub struct Source {
    from: Box<dyn Read + Send>,
    pub length: Option<u64>,
}

impl Source {
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, ClientError> {
        if is_dash(path) {
            return Ok(Self { from: Box::new(io::stdin()), length: None });
        }
        let local = |error: io::Error| ClientError::local(path, &error);
        let file = disk::open(path).map_err(local)?;
        let found = file.metadata().map_err(local)?;
        if found.is_dir() {
            return Err(local(io::ErrorKind::IsADirectory.into()));
        }
        // A pipe's or a device's length says nothing.
        let length = found.is_file().then_some(found.len());
        Ok(Self { from: Box::new(file), length })
    }

    /// The source as a request's body.
    pub fn body(self, pulse: Pulse, bar: ProgressBar) -> Outgoing {
        Sending { from: self.from, left: self.length, pulse, bar }.boxed_unsync()
    }
}

/// A body that reads as it is sent. A file that turns out shorter breaks the request off.
struct Sending {
    from: Box<dyn Read + Send>,
    left: Option<u64>,
    pulse: Pulse,
    bar: ProgressBar,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let most =
            this.left.map_or(PIECE, |left| PIECE.min(usize::try_from(left).unwrap_or(PIECE)));
        if most == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; most];
        let read = blocking(|| {
            loop {
                match this.from.read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => return read,
                }
            }
        });
        // However long the source took, the gateway is not to blame for it.
        this.pulse.beat();
        let Ok(read) = read else { return Poll::Ready(Some(Err(BodyError::Truncated))) };
        if read == 0 {
            let short = this.left.is_some_and(|left| left > 0);
            return Poll::Ready(short.then_some(Err(BodyError::Truncated)));
        }
        piece.truncate(read);
        this.left = this.left.map(|left| left - read as u64);
        this.bar.inc(read as u64);
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Where an answer's bytes go.
pub enum Target {
    Stdout,
    File { path: PathBuf, draft: Draft },
}

impl Target {
    /// # Errors
    /// When the file cannot be made, or is there already and may not be replaced.
    pub fn open(path: &Path, replace: bool) -> Result<Self, ClientError> {
        if is_dash(path) {
            return Ok(Self::Stdout);
        }
        let draft = Draft::of(path, replace).map_err(|error| ClientError::local(path, &error))?;
        Ok(Self::File { path: path.to_owned(), draft })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        match self {
            Self::Stdout => {
                let written = blocking(|| io::stdout().lock().write_all(bytes));
                written.map_err(|error| ClientError::local(Path::new("-"), &error))
            }
            Self::File { path, draft } => {
                blocking(|| draft.write(bytes)).map_err(|error| ClientError::local(path, &error))
            }
        }
    }

    /// Takes all of an answer. Only a whole one gets the file's name; how many bytes it had.
    ///
    /// # Errors
    /// When the answer breaks off, or a byte cannot be written.
    pub async fn fill(
        mut self,
        answer: Response<Answer>,
        bar: &ProgressBar,
    ) -> Result<u64, ClientError> {
        let (mut body, mut size) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            self.write(&data)?;
            size += data.len() as u64;
            bar.inc(data.len() as u64);
        }
        match self {
            Self::Stdout => {
                let flushed = io::stdout().lock().flush();
                flushed.map_err(|error| ClientError::local(Path::new("-"), &error))?;
            }
            Self::File { path, draft } => {
                draft.finish().map_err(|error| ClientError::local(&path, &error))?;
            }
        }
        Ok(size)
    }
}
