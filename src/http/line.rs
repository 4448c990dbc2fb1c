//! How busy a connection is: requests under way, and how long there has been none.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use http_body::{Frame, SizeHint};

use super::watch::Watch;
use crate::clock::{Boot, Clock};
use crate::deliver::{Lifeline, Progress};
use crate::table::{Cut, Era};

/// What is handed to HTTP/2 at once, bytes. It keeps a whole frame until the client takes it, so
/// small ones let it feel a client that takes nothing.
const SLICE: usize = 64 << 10;

/// One connection, seen by its requests.
pub(super) struct Line {
    clock: Arc<dyn Clock>,
    under_way: AtomicUsize,
    /// Since when there is none, milliseconds of the boot clock.
    idle_since: AtomicU64,
}

impl Line {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let idle_since = AtomicU64::new(millis(&*clock));
        Arc::new(Self { clock, under_way: AtomicUsize::new(0), idle_since })
    }

    /// A request has come; it is over when this is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    /// Completes once there has been no request for `patience`. What else the client may send in
    /// that time, PING for one, is none.
    pub async fn idle(&self, patience: Duration) {
        loop {
            let still = self.idle_for().unwrap_or(Duration::ZERO);
            if still >= patience {
                return;
            }
            self.clock.sleep(patience.saturating_sub(still)).await;
        }
    }

    fn idle_for(&self) -> Option<Duration> {
        if self.under_way.load(Ordering::Acquire) > 0 {
            return None;
        }
        let since = self.idle_since.load(Ordering::Acquire);
        Some(Duration::from_millis(millis(&*self.clock).saturating_sub(since)))
    }
}

fn millis(clock: &dyn Clock) -> u64 {
    let since_boot = clock.now().boot.since(Boot::from_start(Duration::ZERO));
    u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX)
}

/// A request under way.
pub(super) struct Busy(Arc<Line>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(millis(&*self.0.clock), Ordering::Release);
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Busy {
    /// Rides with the answer until its last byte was handed on. Over HTTP/2 it is watched: with its
    /// window shut a client keeps even a short one here, and nobody inside would notice.
    pub fn ride(self, response: Response, version: Version, watch: &Watch, kill: &Cut) -> Response {
        let two = version == Version::HTTP_2;
        let known = http_body::Body::size_hint(response.body()).exact();
        let watched = two && known != Some(0);
        let progress = watched.then(|| {
            let progress = Arc::<Progress>::default();
            let now = self.0.clock.now().boot;
            let lifeline = Lifeline::new(Cut::default(), Era::default());
            watch.enroll(&progress, lifeline, kill.clone(), now);
            progress
        });
        let slice = if two { SLICE } else { usize::MAX };
        response.map(|body| {
            Body::new(Answer { body, rest: Bytes::new(), slice, progress, _busy: self })
        })
    }
}

/// An answer's body, with what must stay as long as it does.
struct Answer {
    body: Body,
    rest: Bytes,
    slice: usize,
    progress: Option<Arc<Progress>>,
    _busy: Busy,
}

impl Answer {
    fn next_slice(&mut self) -> Frame<Bytes> {
        let most = self.slice.min(self.rest.len());
        if let Some(progress) = &self.progress {
            progress.moved(most as u64);
        }
        Frame::data(self.rest.split_to(most))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.next_slice())));
        }
        let next = Pin::new(&mut this.body).poll_frame(cx);
        if let Some(progress) = &this.progress {
            // What we have to wait for ourselves is not held against the client.
            progress.waits_for_us(next.is_pending());
        }
        match next {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    this.rest = data;
                    Poll::Ready(Some(Ok(this.next_slice())))
                }
                Err(trailers) => Poll::Ready(Some(Ok(trailers))),
            },
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        inner.exact().map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{VirtualClock, Wall};

    #[tokio::test]
    async fn a_line_is_idle_only_between_requests() {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let line = Line::new(Arc::new(clock.clone()));
        let patience = Duration::from_secs(10);
        let mut idle = Box::pin(line.idle(patience));
        assert!(futures_util::poll!(&mut idle).is_pending());
        clock.advance(Duration::from_secs(9));
        let busy = line.begin();
        clock.advance(Duration::from_secs(60));
        assert!(futures_util::poll!(&mut idle).is_pending());
        drop(busy);
        clock.advance(Duration::from_secs(9));
        assert!(futures_util::poll!(&mut idle).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(futures_util::poll!(&mut idle).is_ready());
    }

    #[tokio::test]
    async fn an_answer_is_handed_on_in_slices_over_two_and_whole_over_one() {
        use http_body_util::BodyExt;
        for (version, frames) in [(Version::HTTP_2, 4), (Version::HTTP_11, 1)] {
            let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
            let line = Line::new(Arc::new(clock));
            let response = Response::new(Body::from(vec![7_u8; 3 * SLICE + 1]));
            let (watch, kill) = (Watch::default(), Cut::default());
            let mut body = line.begin().ride(response, version, &watch, &kill).into_body();
            let mut seen = Vec::new();
            while let Some(frame) = body.frame().await {
                seen.push(frame.unwrap().into_data().unwrap().len());
            }
            assert_eq!((seen.len(), seen.iter().sum::<usize>()), (frames, 3 * SLICE + 1));
            assert_eq!(line.under_way.load(Ordering::Acquire), 1);
            drop(body);
            assert_eq!(line.under_way.load(Ordering::Acquire), 0);
        }
    }
}
