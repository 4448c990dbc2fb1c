//! Trying again: only what may succeed the next time, with pauses that grow and are never alike.

use std::sync::Arc;
use std::time::Duration;

use super::fault::Fault;
use crate::clock::Clock;
use crate::entropy::{Entropy, random};
use crate::metrics;

/// How often a request is sent at most.
pub(super) const TRIES: u32 = 6;
/// The pause after the first try, about; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);
/// No further try begins this long after the first.
const WHOLE: Duration = Duration::from_secs(60);

/// Sends again what the server was too busy for.
pub(super) struct Retry {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

impl Retry {
    /// Runs `attempt` until it ends in something else than [`Fault::Busy`], or patience does.
    pub async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let start = self.clock.now().boot;
        let mut failures = 0;
        loop {
            let tried = attempt().await;
            let spent = failures + 1 == TRIES || self.clock.now().boot.since(start) >= WHOLE;
            if spent || !matches!(tried, Err(Fault::Busy)) {
                return tried;
            }
            self.pause(failures).await;
            failures += 1;
        }
    }

    /// Waits before the next try, after so many failures before this one.
    pub async fn pause(&self, failures: u32) {
        metrics::count(metrics::STORE_RETRIES, 1);
        let span = (FIRST * 2u32.saturating_pow(failures)).min(LONGEST);
        self.clock.sleep(self.jittered(span)).await;
    }

    /// Between half of `span` and all of it: many who failed together do not come back together.
    pub fn jittered(&self, span: Duration) -> Duration {
        // Without entropy pauses are all alike, which is only impolite.
        let part = random::<2>(&*self.entropy).map_or(u16::MAX, u16::from_be_bytes);
        span / 2 + span.mul_f64(f64::from(part) / f64::from(u16::MAX)) / 2
    }
}
