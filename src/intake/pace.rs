//! The least rate a stream must keep, judged over windows of ten seconds after ten of grace.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::body::{BodyError, ByteStream};
use crate::clock::{Boot, Clock, Sleep};

/// Length of a window, and of the grace before the first that counts.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Counts what moves, and the time the other side kept us waiting for it. Time spent on our own
/// side of the stream is never held against anyone.
pub struct Pace {
    clock: Arc<dyn Clock>,
    least: u64,
    moved: u64,
    grace: bool,
    waited: Duration,
    waiting_since: Option<Boot>,
    timer: Option<Sleep>,
}

impl Pace {
    /// At least `min_rate` bytes per second; 0 for no least rate.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, min_rate: u64) -> Self {
        Self {
            clock,
            least: min_rate.saturating_mul(WINDOW.as_secs()),
            moved: 0,
            grace: true,
            waited: Duration::ZERO,
            waiting_since: None,
            timer: None,
        }
    }

    /// Keeps a whole stream to the least rate.
    pub fn keep(mut self, mut stream: ByteStream) -> impl Stream<Item = Result<Bytes, BodyError>> {
        futures_util::stream::poll_fn(move |cx| match stream.poll_next_unpin(cx) {
            Poll::Ready(next) => {
                self.moved(next.as_ref().map_or(0, |frame| frame.as_ref().map_or(0, Bytes::len)));
                Poll::Ready(next)
            }
            Poll::Pending => self.poll_too_slow(cx).map(|()| Some(Err(BodyError::TooSlow))),
        })
    }

    /// `bytes` have moved.
    pub fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += self.clock.now().boot.since(since);
        }
    }

    /// To be asked whenever the other side keeps us waiting: ready once it was too slow.
    pub fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.least == 0 {
            return Poll::Pending;
        }
        loop {
            let now = self.clock.now().boot;
            let since = *self.waiting_since.get_or_insert(now);
            let waited = self.waited + now.since(since);
            if waited >= WINDOW {
                let slow = !self.grace && self.moved < self.least;
                (self.grace, self.moved, self.waited) = (false, 0, Duration::ZERO);
                (self.waiting_since, self.timer) = (Some(now), None);
                if slow {
                    return Poll::Ready(());
                }
                continue;
            }
            // A timer set for an earlier wait may ring too soon; it is then set again.
            let timer = self.timer.get_or_insert_with(|| self.clock.sleep(WINDOW - waited));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{VirtualClock, Wall};

    fn clock() -> VirtualClock {
        VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)))
    }

    async fn ask(pace: &mut Pace) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(pace.poll_too_slow(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_drip_is_too_slow_after_the_grace_and_a_steady_flow_never_is() {
        let mut verdicts = Vec::new();
        for rate in [10, 2000] {
            let clock = clock();
            let mut pace = Pace::new(Arc::new(clock.clone()), 1024);
            let mut slow = None;
            for second in 0..60 {
                pace.moved(rate);
                if ask(&mut pace).await {
                    slow.get_or_insert(second);
                }
                clock.advance(Duration::from_secs(1));
            }
            verdicts.push(slow);
        }
        assert_eq!(verdicts, [Some(20), None]);
    }

    #[tokio::test]
    async fn time_nobody_waited_for_does_not_count() {
        let clock = clock();
        let mut pace = Pace::new(Arc::new(clock.clone()), 1024);
        for _ in 0..100 {
            assert!(!ask(&mut pace).await);
            pace.moved(1);
            // Our own store was slow: an hour passes, and none of it is the sender's.
            clock.advance(Duration::from_secs(3600));
        }
    }
}
