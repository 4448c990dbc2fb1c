//! Memory as a published contract: one budget, a permit for every buffer.
//!
//! A permit travels with the bytes it pays for and gives its share back when they are dropped, so
//! memory cannot be spent twice or forgotten. When the budget is spent, requests wait a moment and
//! then get 503; the process is never killed for memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{Clock, within};

/// How long a request may wait for memory before it is refused.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The grain the budget is counted in, bytes.
const GRAIN: u64 = 1024;

/// The memory that all buffers together may hold.
#[derive(Clone)]
pub struct Budget {
    grains: Arc<Semaphore>,
    total: u32,
}

/// A share of the budget, held as long as the buffer it pays for.
#[derive(Debug)]
pub struct Permit(OwnedSemaphorePermit);

/// The budget stayed spent for as long as a request may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory budget is spent")]
pub struct Exhausted;

impl Budget {
    /// A budget of `bytes`, rounded down to whole KiB; at most 4 TiB.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let total = u32::try_from(bytes / GRAIN).unwrap_or(u32::MAX);
        Self { grains: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// A permit for `bytes`, waiting at most [`PATIENCE`].
    ///
    /// # Errors
    /// When the budget stays spent, or could never hold that much.
    pub async fn acquire(&self, bytes: usize, clock: &dyn Clock) -> Result<Permit, Exhausted> {
        if let Ok(permit) = self.try_acquire(bytes) {
            return Ok(permit);
        }
        let grains = grains(bytes);
        if grains > self.total {
            return Err(Exhausted);
        }
        let waiting = self.grains.clone().acquire_many_owned(grains);
        match within(clock, PATIENCE, waiting).await {
            Some(Ok(permit)) => Ok(Permit(permit)),
            Some(Err(_)) | None => Err(Exhausted),
        }
    }

    /// A permit for `bytes` if there is room this moment.
    ///
    /// # Errors
    /// When there is not.
    pub fn try_acquire(&self, bytes: usize) -> Result<Permit, Exhausted> {
        let permit = self.grains.clone().try_acquire_many_owned(grains(bytes));
        permit.map(Permit).map_err(|_| Exhausted)
    }

    /// Bytes held by permits now.
    #[must_use]
    pub fn used(&self) -> u64 {
        u64::from(self.total).saturating_sub(self.grains.available_permits() as u64) * GRAIN
    }

    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.total) * GRAIN
    }
}

impl Permit {
    /// Gives back all but what `bytes` need: for a buffer that turned out smaller.
    pub fn shrink_to(&mut self, bytes: usize) {
        let excess = self.0.num_permits().saturating_sub(grains(bytes) as usize);
        drop(self.0.split(excess));
    }
}

fn grains(bytes: usize) -> u32 {
    u32::try_from((bytes as u64).div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{VirtualClock, Wall};

    #[test]
    fn permits_come_back_when_dropped_and_shrink() {
        let budget = Budget::of(10 * 1024);
        let mut permit = budget.try_acquire(8 * 1024).unwrap();
        assert!(budget.try_acquire(3 * 1024).is_err());
        permit.shrink_to(1);
        assert_eq!(budget.used(), 1024);
        drop(permit);
        assert_eq!((budget.used(), budget.total()), (0, 10 * 1024));
    }

    #[tokio::test]
    async fn a_spent_budget_refuses_after_a_second_and_serves_a_waiter_before() {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let budget = Budget::of(1024);
        let held = budget.try_acquire(1024).unwrap();
        let mut waiter = Box::pin(budget.acquire(10, &clock));
        assert!(futures_util::poll!(&mut waiter).is_pending());
        clock.advance(PATIENCE);
        assert_eq!(waiter.await.unwrap_err(), Exhausted);

        let mut waiter = Box::pin(budget.acquire(10, &clock));
        assert!(futures_util::poll!(&mut waiter).is_pending());
        drop(held);
        assert!(waiter.await.is_ok());
    }
}
