//! Between HTTP bodies and our streams of bytes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Version, header};
use http_body::{Frame, SizeHint};

use super::Gate;
use super::accept::Peer;
use super::socket::CutMark;
use crate::body::{BodyError, ByteStream};
use crate::clock::{Clock, within};
use crate::deliver::{Delivery, Export, Outflow};

/// A request's body as a stream; nothing of it is read before the stream is first polled.
pub(super) fn incoming(body: Body) -> ByteStream {
    Box::pin(body.into_data_stream().map(|frame| frame.map_err(|_| BodyError::Truncated)))
}

/// The length a request declares, bytes.
pub(super) fn declared(request: &Request) -> Option<u64> {
    let value = request.headers().get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Reads a small body whole.
///
/// # Errors
/// When it is longer than `most` bytes, breaks off, or takes longer than [`SMALL_WITHIN`].
pub(super) async fn small(body: Body, most: u64, clock: &dyn Clock) -> Result<Vec<u8>, BodyError> {
    let mut body = incoming(body);
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.next().await.transpose()? {
            if (bytes.len() + frame.len()) as u64 > most {
                return Err(BodyError::TooLarge { limit: most });
            }
            bytes.extend_from_slice(&frame);
        }
        Ok(bytes)
    };
    within(clock, SMALL_WITHIN, reading).await.unwrap_or(Err(BodyError::TooSlow))
}

/// How long a small body may take.
const SMALL_WITHIN: Duration = Duration::from_secs(10);

/// What flows out as a response's body. If it breaks over HTTP/1.1, the connection is ended without
/// lingering; over HTTP/2 its stream is reset.
pub(super) struct Outgoing<O> {
    flow: O,
    cut: Option<CutMark>,
}

impl Outgoing<Delivery> {
    /// A file's bytes, watched over until they have left.
    pub fn body(gate: &Gate, delivery: Delivery, to: &Recipient) -> Body {
        // On a connection that carries one response at a time, what comes next tells whether this
        // one arrived.
        let delivery = match &to.peer {
            Some(peer) if to.is_one() => delivery.confirmed_by(peer.unconfirmed.clone()),
            Some(_) | None => delivery,
        };
        Outgoing::watched(gate, delivery, to)
    }
}

impl Outgoing<Export> {
    /// An export, watched over until it has left.
    pub fn export(gate: &Gate, export: Export, to: &Recipient) -> Body {
        Outgoing::watched(gate, export, to)
    }
}

impl<O: Outflow + 'static> Outgoing<O> {
    fn watched(gate: &Gate, flow: O, to: &Recipient) -> Body {
        let Some(peer) = &to.peer else { return Body::new(Self { flow, cut: None }) };
        let now = gate.clock.now().boot;
        gate.watch.enroll(&flow.progress(), flow.lifeline(), peer.kill.clone(), now);
        let cut = to.is_one().then(|| peer.cut.clone());
        Body::new(Self { flow, cut })
    }
}

/// Who a response goes to, and how.
pub(super) struct Recipient {
    peer: Option<Peer>,
    version: Version,
}

impl Recipient {
    pub fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<Peer>().cloned();
        Self { peer, version: request.version() }
    }

    /// Whether its connection carries one response at a time.
    fn is_one(&self) -> bool {
        self.version <= Version::HTTP_11
    }
}

impl<O: Outflow> http_body::Body for Outgoing<O> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = Pin::new(&mut self.flow).poll_next(cx);
        if let (Poll::Ready(Some(Err(_))), Some(cut)) = (&next, &self.cut) {
            cut.set();
        }
        next.map(|item| item.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.flow.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.flow.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
