//! A piece of an upload on its way in, while others may want its place.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::Summer;
use crate::body::{BodyError, ByteStream};

type Wanted = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream that ends when somebody else wants to write, tells that it moves, takes no byte too
/// many, and is summed up on the way.
pub struct Attended {
    input: ByteStream,
    wanted: Wanted,
    pulse: Arc<AtomicU64>,
    left: u64,
    summer: Option<Sum>,
}

/// Where the sum is found when the stream has ended.
pub type Sum = Arc<Mutex<Option<Summer>>>;

impl Attended {
    /// At most `left` bytes of `input`, until `wanted` completes.
    #[must_use]
    pub fn new(
        input: ByteStream,
        wanted: Wanted,
        pulse: Arc<AtomicU64>,
        left: u64,
        summer: Option<Sum>,
    ) -> Self {
        Self { input, wanted, pulse, left, summer }
    }
}

impl Stream for Attended {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.wanted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        let next = std::task::ready!(this.input.poll_next_unpin(cx));
        let Some(Ok(frame)) = &next else { return Poll::Ready(next) };
        let bytes = frame.len() as u64;
        if bytes > this.left {
            return Poll::Ready(Some(Err(BodyError::TooLarge { limit: this.left })));
        }
        this.left -= bytes;
        this.pulse.fetch_add(bytes, Ordering::Relaxed);
        if let Some(sum) = &this.summer
            && let Some(summer) = &mut *sum.lock().unwrap_or_else(PoisonError::into_inner)
        {
            summer.update(frame);
        }
        Poll::Ready(next)
    }
}
