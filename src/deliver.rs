//! Handing files out: which bytes a request may have, and a body that carries its own guards.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::body::{BodyError, ByteStream};
use crate::metrics;
use crate::table::{Claim, Era, LiveFile};

mod conditions;
mod confirm;
mod export;
mod lifeline;
mod progress;
mod webhook;
mod zip;

pub use conditions::{Conditions, Selection};
pub use confirm::Unconfirmed;
pub use export::Export;
pub use lifeline::Lifeline;
pub use progress::Progress;
pub use webhook::{Heard, Message, Webhook};
pub use zip::{Archive, Directory, MEMBER_BYTES, Place};

/// What is done once a delivery has ended: the file, and whether all of it was handed on.
pub type WhenEnded = Box<dyn FnOnce(&Arc<LiveFile>, bool) + Send>;

/// A response's body that somebody outside can watch over, and end.
pub trait Outflow: Stream<Item = Result<Bytes, BodyError>> + Send + Unpin {
    /// Bytes still to be handed on, where that is known.
    fn left(&self) -> Option<u64>;

    /// How it goes, for whoever watches over slow readers.
    fn progress(&self) -> Arc<Progress>;

    /// What it depends on.
    fn lifeline(&self) -> Lifeline;
}

/// A file's bytes as a body. It ends the moment the file's keys are destroyed or its tenant's era
/// is over, and settles its claim when its last byte has been handed on or it is dropped.
pub struct Delivery {
    file: Arc<LiveFile>,
    plain: ByteStream,
    lifeline: Lifeline,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    left: Option<u64>,
    whole: bool,
    claim: Option<Claim>,
    when_ended: Option<WhenEnded>,
    unconfirmed: Option<Unconfirmed>,
    progress: Arc<Progress>,
}

impl Delivery {
    /// Delivers `plain`, which is `bytes` of `file` where that is known beforehand, within an era
    /// of its tenant.
    #[must_use]
    pub fn new(
        (file, era): (Arc<LiveFile>, Era),
        plain: ByteStream,
        bytes: Option<u64>,
        claim: Option<Claim>,
        when_ended: WhenEnded,
    ) -> Self {
        let lifeline = Lifeline::new(file.cut.clone(), era);
        let cut = Box::pin(lifeline.cut());
        let when_ended = Some(when_ended);
        // An empty file has no first byte to spend a claim with: its head is the delivery.
        let whole = bytes == Some(0);
        let (unconfirmed, progress) = (None, Arc::default());
        let left = bytes;
        Self { file, plain, lifeline, cut, left, whole, claim, when_ended, unconfirmed, progress }
    }

    /// Counts the delivery as whole only once the client has shown that it has it.
    #[must_use]
    pub fn confirmed_by(mut self, unconfirmed: Unconfirmed) -> Self {
        self.unconfirmed = Some(unconfirmed);
        self
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
            // Cut while it was opened: it stays here.
            Some(Ok(_)) if this.lifeline.is_cut() => {
                return Poll::Ready(Some(Err(BodyError::Gone)));
            }
            Some(Ok(bytes)) => this.handed_on(bytes.len() as u64),
            None => this.whole |= this.left.is_none(),
            Some(Err(_)) => {}
        }
        Poll::Ready(next)
    }
}

impl Outflow for Delivery {
    fn left(&self) -> Option<u64> {
        self.left
    }

    fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn lifeline(&self) -> Lifeline {
        self.lifeline.clone()
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
