//! Sealing as a stream adaptor that marks its own end: there is no `finish()` to forget.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;

use crate::body::{BodyError, Buffer, Pool};
use crate::budget::Exhausted;
use crate::clock::Clock;

use super::aead::CipherError;
use super::layout::{PREFIX_BYTES, RUN_BYTES, body_len};
use super::seal::{Filled, OpenRun, SealedRun, Sealer};

type Taking = Pin<Box<dyn Future<Output = Result<Buffer, Exhausted>> + Send>>;

/// Plaintext in, sealed runs out.
///
/// The last run, and no other, carries the [`SegmentEnd`](super::SegmentEnd). An input that ends in
/// an error is passed on as that error: no last chunk is sealed, and what was begun is wiped. No
/// buffer is held before a byte for it has come.
pub struct SealStream<S> {
    input: S,
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    declared: Option<u64>,
    /// Whether the segment may end where its input breaks off, and with what it did.
    keeps_what_came: bool,
    broke: Option<BodyError>,
    /// Taken at the end, so that the keys go with the last run and not with the stream.
    sealer: Option<Sealer>,
    frame: Bytes,
    input_ended: bool,
    run: Option<OpenRun>,
    taking: Option<Taking>,
}

impl<S: Stream<Item = Result<Bytes, BodyError>> + Unpin> SealStream<S> {
    /// Seals `input` into buffers from `pool`. `declared` is how many bytes the sender said would
    /// come, if it did: only a hint, by which a small file gets a small buffer.
    ///
    /// # Panics
    /// When the pool's buffers are shorter than [`RUN_BYTES`].
    pub fn new(
        sealer: Sealer,
        input: S,
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
        declared: Option<u64>,
    ) -> Self {
        assert!(pool.buffer_bytes() >= RUN_BYTES, "a run fits a buffer");
        Self {
            input,
            pool,
            clock,
            declared,
            keeps_what_came: false,
            broke: None,
            sealer: Some(sealer),
            frame: Bytes::new(),
            input_ended: false,
            run: None,
            taking: None,
        }
    }

    /// For an append that can be continued: where its input [breaks off](BodyError::breaks_off),
    /// the segment ends early and is whole, and [`SealStream::broke`] says why. Any other error is
    /// passed on as ever. It waits for memory as long as it takes: what was sealed is worth it.
    #[must_use]
    pub fn keeping_what_came(mut self) -> Self {
        self.keeps_what_came = true;
        self
    }

    /// What the input broke off with, once the last run has come.
    #[must_use]
    pub const fn broke(&self) -> Option<BodyError> {
        self.broke
    }

    fn take(&mut self, capacity: usize) {
        let (pool, clock, patient) = (self.pool.clone(), self.clock.clone(), self.keeps_what_came);
        self.taking = Some(Box::pin(async move {
            loop {
                match pool.take(capacity, &*clock).await {
                    Err(Exhausted) if patient => {}
                    taken => return taken,
                }
            }
        }));
    }

    /// Waits for the buffer that was asked for, and puts it to use.
    fn poll_taking(
        &mut self,
        sealer: &Sealer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), BodyError>> {
        let Some(taking) = &mut self.taking else { return Poll::Ready(Ok(())) };
        let taken = ready!(taking.as_mut().poll(cx));
        self.taking = None;
        self.run = Some(match (taken?, self.run.take()) {
            (larger, Some(run)) => run.moved_to(larger),
            (empty, None) => OpenRun::begin(empty, sealer),
        });
        Poll::Ready(Ok(()))
    }

    /// Waits for the next frame, if the one before is used up.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while self.frame.is_empty() && !self.input_ended {
            // Even empty it holds on to the buffer it was read into, and who reads the next one
            // could not use that again: it would take, and later wipe, another.
            self.frame = Bytes::new();
            match ready!(Pin::new(&mut self.input).poll_next(cx)) {
                Some(Err(error)) if self.keeps_what_came && error.breaks_off() => {
                    (self.broke, self.input_ended) = (Some(error), true);
                }
                Some(frame) => self.frame = frame?,
                None => self.input_ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_run(
        &mut self,
        sealer: &mut Sealer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Step, BodyError>> {
        loop {
            ready!(self.poll_taking(sealer, cx))?;
            ready!(self.poll_frame(cx))?;
            let Some(mut run) = self.run.take() else {
                self.take(self.room_for_next(sealer));
                continue;
            };
            match run.fill(sealer, &mut self.frame).map_err(cut)? {
                Filled::Run => return Poll::Ready(Ok(Step::Full(run))),
                Filled::Buffer => self.take(RUN_BYTES),
                Filled::Frame if self.input_ended => return Poll::Ready(Ok(Step::Last(run))),
                Filled::Frame => {}
            }
            self.run = Some(run);
        }
    }

    /// Room the next run needs: all that was declared and has not come, at most a whole run.
    fn room_for_next(&self, sealer: &Sealer) -> usize {
        let here = self.frame.len() as u64;
        let left = match (self.input_ended, self.declared) {
            (true, _) => here,
            (false, Some(declared)) => declared.saturating_sub(sealer.plain_len()).max(here),
            (false, None) => u64::MAX,
        };
        let prefix = if sealer.is_new() { PREFIX_BYTES } else { 0 };
        let run = body_len(left).saturating_add(prefix as u64);
        usize::try_from(run).unwrap_or(RUN_BYTES).min(RUN_BYTES)
    }
}

enum Step {
    Full(OpenRun),
    Last(OpenRun),
}

fn cut(_: CipherError) -> BodyError {
    BodyError::Cut
}

impl<S: Stream<Item = Result<Bytes, BodyError>> + Unpin> Stream for SealStream<S> {
    type Item = Result<SealedRun, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Whatever returns without putting it back has ended the segment, and dropped the keys.
        let Some(mut sealer) = this.sealer.take() else { return Poll::Ready(None) };
        let run = match this.poll_run(&mut sealer, cx) {
            Poll::Pending => {
                this.sealer = Some(sealer);
                return Poll::Pending;
            }
            Poll::Ready(Ok(Step::Full(run))) => {
                this.sealer = Some(sealer);
                Ok(run.close())
            }
            Poll::Ready(Ok(Step::Last(run))) => run.finish(sealer).map_err(cut),
            Poll::Ready(Err(error)) => {
                (this.run, this.frame) = (None, Bytes::new());
                Err(error)
            }
        };
        Poll::Ready(Some(run))
    }
}
