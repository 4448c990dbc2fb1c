//! Everything a tenant has alive, as one zip that is made while it is sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::{Lifeline, Outflow, Progress};
use crate::body::{BodyError, ByteStream};
use crate::metrics;

/// An export as a response's body. Its length is not known before its end; if it is cut, it has
/// none.
pub struct Export {
    bytes: ByteStream,
    lifeline: Lifeline,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    progress: Arc<Progress>,
}

impl Export {
    #[must_use]
    pub fn new(bytes: ByteStream, lifeline: Lifeline) -> Self {
        let cut = Box::pin(lifeline.cut());
        Self { bytes, lifeline, cut, progress: Arc::default() }
    }
}

impl Stream for Export {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        }
        let polled = this.bytes.poll_next_unpin(cx);
        this.progress.waits_for_us(polled.is_pending());
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            if this.lifeline.is_cut() {
                return Poll::Ready(Some(Err(BodyError::Gone)));
            }
            metrics::count(metrics::DOWNLOAD_BYTES, bytes.len() as u64);
            this.progress.moved(bytes.len() as u64);
        }
        polled
    }
}

impl Outflow for Export {
    fn left(&self) -> Option<u64> {
        None
    }

    fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn lifeline(&self) -> Lifeline {
        self.lifeline.clone()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.progress.end();
    }
}
