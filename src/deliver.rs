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
mod confirm;
mod progress;
mod webhook;

pub use conditions::{Conditions, Selection};
pub use confirm::Unconfirmed;
pub use progress::Progress;
pub use webhook::{Heard, Message, Webhook};

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
    unconfirmed: Option<Unconfirmed>,
    progress: Arc<Progress>,
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
        // An empty file has no first byte to spend a claim with: its head is the delivery.
        let whole = bytes == Some(0);
        let (unconfirmed, progress) = (None, Arc::default());
        Self { file, plain, cut, left: bytes, whole, claim, when_ended, unconfirmed, progress }
    }

    /// Counts the delivery as whole only once the client has shown that it has it.
    #[must_use]
    pub fn confirmed_by(mut self, unconfirmed: Unconfirmed) -> Self {
        self.unconfirmed = Some(unconfirmed);
        self
    }

    /// How the delivery goes, for whoever watches over slow readers.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
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
        self.progress.moved(bytes);
        self.whole |= self.left == Some(0);
    }
}

impl Stream for Delivery {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        }
        let polled = this.plain.poll_next_unpin(cx);
        this.progress.waits_for_us(polled.is_pending());
        let Poll::Ready(next) = polled else { return Poll::Pending };
        match &next {
            Some(Ok(bytes)) => this.handed_on(bytes.len() as u64),
            None => this.whole |= this.left.is_none(),
            Some(Err(_)) => {}
        }
        Poll::Ready(next)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.progress.end();
        let (claim, Some(when_ended)) = (self.claim.take(), self.when_ended.take()) else { return };
        let ended = confirm::Ended { file: self.file.clone(), claim, when_ended };
        match &self.unconfirmed {
            Some(unconfirmed) if self.whole && ended.claim.is_some() => unconfirmed.add(ended),
            _ => ended.settle(self.whole),
        }
    }
}
