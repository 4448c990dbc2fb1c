//! What a refused client still sends over HTTP/2.
//!
//! Dropping an unread body resets its stream, and clients are known to lose the answer with it. So
//! the body of a refused request is read on for a moment, and thrown away. (Over HTTP/1.1 the
//! socket does the same when it closes.)

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body::{Frame, SizeHint};

use super::socket::{DISCARD_BYTES, DISCARD_FOR};
use crate::clock::{Clock, within};

/// A body that comes back here if it is dropped before its end.
#[derive(Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Body>>>);

impl Leftover {
    /// Lends the body to whoever handles the request.
    pub fn lend(&self, body: Body) -> Body {
        Body::new(Lent { body: Some(body), home: self.clone() })
    }

    /// Reads what was left for a moment.
    pub async fn discard(self, clock: Arc<dyn Clock>) {
        let Some(body) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let mut body = body.into_data_stream();
        let mut left = DISCARD_BYTES;
        let reading = async {
            while let Some(Ok(frame)) = body.next().await {
                left = left.saturating_sub(frame.len());
                if left == 0 {
                    return;
                }
            }
        };
        within(&*clock, DISCARD_FOR, reading).await;
    }
}

struct Lent {
    body: Option<Body>,
    home: Leftover,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !http_body::Body::is_end_stream(body)) {
            *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
