//! Bytes between files here and the gateway: streamed, counted, and shown on a terminal.

use std::io::{self, IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressStyle};

use super::client::{Client, ClientError, Pulse};
use crate::body::BodyError;
use crate::clock::{Clock, Sleep, SystemClock};
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

    /// What of a file comes after its first `offset` bytes.
    ///
    /// # Errors
    /// When it cannot be read, or has become shorter.
    pub fn open_at(path: &Path, offset: u64) -> Result<Self, ClientError> {
        let local = |error: io::Error| ClientError::local(path, &error);
        let mut file = disk::open(path).map_err(local)?;
        let length = file.metadata().map_err(local)?.len();
        let left = length.checked_sub(offset);
        let left = left.ok_or_else(|| local(io::ErrorKind::UnexpectedEof.into()))?;
        file.seek(io::SeekFrom::Start(offset)).map_err(local)?;
        Ok(Self { from: Box::new(file), length: Some(left) })
    }

    /// A request that sends the source.
    ///
    /// # Errors
    /// When the path is no path.
    pub fn request(
        self,
        client: &Client,
        (method, path): (Method, &str),
        (pulse, bar): (&Pulse, &ProgressBar),
    ) -> Result<Request<Outgoing>, ClientError> {
        let long = self.length.is_none_or(|length| length > LONG);
        let word = (long && client.asks_first()).then(Word::default);
        let waiting = word.clone().map(|word| (word, SystemClock.sleep(UNASKED)));
        let (pulse, bar) = (pulse.clone(), bar.clone());
        let body = Sending { from: self.from, left: self.length, pulse, bar, waiting };
        let mut request = client.request(method, path, body.boxed_unsync())?;
        if let Some(word) = word {
            let expect = HeaderValue::from_static("100-continue");
            request.headers_mut().insert(header::EXPECT, expect);
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == StatusCode::CONTINUE {
                    word.say();
                }
            });
        }
        Ok(request)
    }
}

/// A body beyond this waits until it is asked for, bytes: a shorter one is on its way at once.
const LONG: u64 = 256 << 10;
/// It goes out unasked after this: not every proxy passes the question on.
const UNASKED: Duration = Duration::from_secs(2);

/// The gateway's word that it wants the body (100 Continue, RFC 9110, section 10.1.1).
#[derive(Clone, Default)]
struct Word(Arc<(AtomicBool, AtomicWaker)>);

impl Word {
    fn say(&self) {
        self.0.0.store(true, Ordering::Release);
        self.0.1.wake();
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.1.register(cx.waker());
        if self.0.0.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A body that reads as it is sent. A file that turns out shorter breaks the request off.
struct Sending {
    from: Box<dyn Read + Send>,
    left: Option<u64>,
    pulse: Pulse,
    bar: ProgressBar,
    waiting: Option<(Word, Sleep)>,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some((word, unasked)) = &mut this.waiting {
            if word.poll(cx).is_pending() && unasked.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.waiting = None;
        }
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
