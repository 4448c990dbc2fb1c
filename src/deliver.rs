//! Handing files out: which bytes a request may have, and a body that carries its own guards.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::body::{BodyError, ByteStream};
use crate::metrics;
use crate::table::{Claim, LiveFile};

mod conditions;
pub use conditions::{Conditions, Selection};

/// What is done once a delivery has ended: the file, and whether all of it was handed on.
pub type WhenEnded = Box<dyn FnOnce(&Arc<LiveFile>, bool) + Send>;

/// A response's body. It ends the moment its file's keys are destroyed, and settles its claim when
/// its last byte has been handed on or it is dropped.
pub struct Delivery {
    file: Arc<LiveFile>,
    plain: ByteStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    left: Option<u64>,
    whole: bool,
    claim: Option<Claim>,
    when_ended: Option<WhenEnded>,
}

impl Delivery {
    /// Delivers `plain`, which is `bytes` of `file` where that is known beforehand.
    #[must_use]
    pub fn new(
        file: Arc<LiveFile>,
        plain: ByteStream,
        bytes: Option<u64>,
        claim: Option<Claim>,
        when_ended: WhenEnded,
    ) -> Self {
        let cut = Box::pin(file.cut.fired());
        let when_ended = Some(when_ended);
        let mut delivery = Self { file, plain, cut, left: bytes, whole: false, claim, when_ended };
        if bytes == Some(0) {
            // An empty file has no first byte to spend a claim with: its head is the delivery.
            delivery.completed();
        }
        delivery
    }

    /// Bytes still to be handed on, where that is known.
    #[must_use]
    pub const fn left(&self) -> Option<u64> {
        self.left
    }

    fn handed_on(&mut self, bytes: u64) {
        metrics::count(metrics::DOWNLOAD_BYTES, bytes);
        if let Some(claim) = &mut self.claim {
            claim.spend();
        }
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        if self.left == Some(0) {
            self.completed();
        }
    }

    fn completed(&mut self) {
        self.whole = true;
        if let Some(claim) = &mut self.claim {
            claim.complete();
        }
    }
}

impl Stream for Delivery {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        }
        let Poll::Ready(next) = this.plain.poll_next_unpin(cx) else { return Poll::Pending };
        match &next {
            Some(Ok(bytes)) => this.handed_on(bytes.len() as u64),
            None if this.left.is_none() => this.completed(),
            Some(Err(_)) | None => {}
        }
        Poll::Ready(next)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // The claim first: what is done afterwards asks whether any is left.
        self.claim = None;
        if let Some(when_ended) = self.when_ended.take() {
            when_ended(&self.file, self.whole);
        }
    }
}
