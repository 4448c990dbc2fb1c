//! Work that can wait, in portions: between two of them the cores are free for requests.
//!
//! A task that only yields takes a whole core for as long as it has work. Its thread is then one
//! that the kernel gives no haste to, and requests that share a core with it wait for milliseconds.
//! So such work stops by the clock, and sleeps.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Boot, Clock};

/// What is done at a time.
const PORTION: Duration = Duration::from_micros(100);
/// Between two portions: the shortest sleep there is.
const PAUSE: Duration = Duration::from_millis(1);
/// Units of work after which others get a turn, by a clock that stands still, too.
const UNITS: u32 = 16;
/// Portions grow by one for so much that waits, so that nobody gets ahead of the work for long.
const MORE_FOR: u64 = 100_000;

/// The pace of one who works in portions.
pub struct Leisure {
    clock: Arc<dyn Clock>,
    began: Boot,
    units: u32,
}

impl Leisure {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let began = clock.now().boot;
        Self { clock, began, units: 0 }
    }

    /// After each unit of work, some microseconds of it; `waiting` is how many are left, as far as
    /// that is known. Returns at once as long as the portion lasts.
    pub async fn rest(&mut self, waiting: u64) {
        let portion = PORTION * (1 + u32::try_from(waiting / MORE_FOR).unwrap_or(u32::MAX).min(99));
        self.units += 1;
        if self.clock.now().boot.since(self.began) >= portion {
            self.clock.sleep(PAUSE).await;
        } else if self.units >= UNITS {
            tokio::task::yield_now().await;
        } else {
            return;
        }
        self.units = 0;
        self.began = self.clock.now().boot;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::clock::{VirtualClock, Wall};

    #[tokio::test]
    async fn work_stops_by_the_clock_and_goes_on_after_a_pause() {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let mut leisure = Leisure::new(Arc::new(clock.clone()));
        assert!(leisure.rest(0).now_or_never().is_some());
        clock.advance(PORTION);
        assert!(leisure.rest(MORE_FOR).now_or_never().is_some(), "there is more to do");
        let mut resting = Box::pin(leisure.rest(0));
        assert!(futures_util::poll!(&mut resting).is_pending());
        clock.advance(PAUSE);
        assert!(resting.now_or_never().is_some());
        assert!(leisure.rest(0).now_or_never().is_some(), "a new portion");
    }

    #[tokio::test]
    async fn by_a_clock_that_stands_still_others_have_their_turn() {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let mut leisure = Leisure::new(Arc::new(clock));
        let waits = (0..UNITS).filter(|_| leisure.rest(0).now_or_never().is_none()).count();
        assert_eq!(waits, 1);
        leisure.rest(0).await;
    }
}
