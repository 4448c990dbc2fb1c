//! The socket under a connection: it keeps slow readers to the least rate, lets a refused sender
//! finish hearing its refusal, and ends a cut response with a reset.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::accept::{Door, Peer};
use super::frames::Frames;
use super::interim::Interim;
use super::tls::Stream;
use crate::clock::{Clock, Sleep};
use crate::deliver::Unconfirmed;
use crate::intake::Pace;

/// What a client that goes on sending after its refusal may still send, bytes and time.
pub(super) const DISCARD_BYTES: usize = 1 << 20;
pub(super) const DISCARD_FOR: Duration = Duration::from_secs(2);

/// Set when a response on this connection was cut: what is still in the socket must not arrive as
/// if it were the message's end.
#[derive(Clone, Default)]
pub(super) struct CutMark(Arc<AtomicBool>);

impl CutMark {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client's connection.
pub(super) struct Socket {
    stream: Stream,
    clock: Arc<dyn Clock>,
    pace: Pace,
    cut: CutMark,
    unconfirmed: Unconfirmed,
    frames: Frames,
    greeting: Option<Greeting>,
    farewell: Option<Farewell>,
    interim: Interim,
    /// An interim answer that is being written.
    aside: Vec<u8>,
    /// Whether what hyper last wrote was taken whole: it is then between two messages.
    between: bool,
}

/// The time a client has for its first bytes. hyper's own limit on a head starts only once the
/// protocol is known, which takes up to the 24 bytes of HTTP/2's preface (RFC 9113, section 3.4).
struct Greeting {
    until: Sleep,
    left: usize,
}

const PREFACE_BYTES: usize = 24;

/// The lingering close: our half is closed, and what still comes is thrown away for a while.
struct Farewell {
    until: Sleep,
    left: usize,
}

impl Socket {
    pub fn new(stream: Stream, clock: Arc<dyn Clock>, door: &Door, peer: &Peer) -> Self {
        let pace = Pace::new(clock.clone(), door.min_rate);
        let until = clock.sleep(door.header_timeout);
        let greeting = Some(Greeting { until, left: PREFACE_BYTES });
        let (cut, unconfirmed) = (peer.cut.clone(), peer.unconfirmed.clone());
        let frames = Frames::new(clock.now().boot);
        let (interim, aside, between) = (peer.interim.clone(), Vec::new(), true);
        Self {
            stream,
            clock,
            pace,
            cut,
            unconfirmed,
            frames,
            greeting,
            farewell: None,
            interim,
            aside,
            between,
        }
    }

    /// Writes what waits to be said before the answer. Once begun, nothing comes between.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.interim.listen(cx);
        if self.between && self.aside.is_empty() {
            self.aside = self.interim.take();
        }
        while !self.aside.is_empty() {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.aside))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.aside.drain(..wrote);
            if self.aside.is_empty() {
                // TLS keeps what it has sealed until it is told to send it.
                drop(Pin::new(&mut self.stream).poll_flush(cx));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Notes whether a write was taken whole.
    fn noted(
        &mut self,
        result: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        self.between = matches!(&result, Poll::Ready(Ok(bytes)) if *bytes == offered);
        result
    }

    /// Whether the client is still within its time for its first bytes.
    fn poll_greeting(&mut self, read: usize, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(greeting) = &mut self.greeting else { return Poll::Pending };
        greeting.left = greeting.left.saturating_sub(read);
        if greeting.left == 0 {
            self.greeting = None;
            return Poll::Pending;
        }
        greeting.until.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }

    fn wrote(
        &mut self,
        result: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                // Whoever is answered has spoken.
                self.greeting = None;
                self.pace.moved(bytes);
                self.frames.wrote(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => {
                self.unconfirmed.deny();
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                ready!(self.pace.poll_too_slow(cx));
                self.cut.set();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_interim(cx) {
            return Poll::Ready(Err(error));
        }
        let before = into.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, into);
        let read = into.filled().len() - before;
        if read > 0 && !self.frames.is_over() {
            let Self { frames, clock, .. } = &mut *self;
            if !frames.read(&into.filled()[before..], || clock.now().boot) {
                self.cut.set();
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        match &result {
            // The next request, or a proper end. Many a client leaves TLS without its goodbye.
            Poll::Ready(Ok(())) => self.unconfirmed.confirm(),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.unconfirmed.confirm();
            }
            Poll::Ready(Err(_)) => self.unconfirmed.deny(),
            Poll::Pending => {}
        }
        match self.poll_greeting(read, cx) {
            Poll::Ready(late) if result.is_pending() => Poll::Ready(Err(late)),
            Poll::Ready(_) | Poll::Pending => result,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        let result = self.noted(result, bytes.len());
        self.wrote(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        let result = self.noted(result, slices.iter().map(|slice| slice.len()).sum());
        self.wrote(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes our half, then reads on for a moment: a close with unread bytes would reset the
    /// connection, and the client would lose the answer that told it to stop.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        let clock = &this.clock;
        let farewell = this.farewell.get_or_insert_with(|| Farewell {
            until: clock.sleep(DISCARD_FOR),
            left: DISCARD_BYTES,
        });
        let mut scratch = [MaybeUninit::<u8>::uninit(); 16 << 10];
        loop {
            if farewell.left == 0 || farewell.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = ReadBuf::uninit(&mut scratch);
            // Below TLS: what is thrown away need not be opened.
            match ready!(Pin::new(this.stream.tcp_mut()).poll_read(cx, &mut bytes)) {
                Ok(()) if !bytes.filled().is_empty() => {
                    farewell.left = farewell.left.saturating_sub(bytes.filled().len());
                }
                Ok(()) => {
                    this.unconfirmed.confirm();
                    return Poll::Ready(Ok(()));
                }
                Err(_) => {
                    this.unconfirmed.deny();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.cut.0.load(Ordering::Relaxed) {
            self.unconfirmed.deny();
            // A reset throws away what the kernel has not sent yet. If it cannot be set the close
            // is an ordinary one, and the message still ends before its declared length.
            let _ = socket2::SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
        } else {
            // Silence to the end, and no reset: it has arrived.
            self.unconfirmed.confirm();
        }
    }
}
