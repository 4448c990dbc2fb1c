//! The wish that a stream should end now, seen by everyone who carries the file's bytes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Fires once and stays fired. Every live file has one, so it is small.
#[derive(Clone, Default)]
pub struct Cut(Arc<Wish>);

#[derive(Default)]
struct Wish {
    fired: AtomicBool,
    waiting: Notify,
}

impl Cut {
    /// Ends every stream that watches.
    pub fn fire(&self) {
        self.0.fired.store(true, Ordering::Release);
        self.0.waiting.notify_waiters();
    }

    #[must_use]
    pub fn has_fired(&self) -> bool {
        self.0.fired.load(Ordering::Acquire)
    }

    /// Completes once fired.
    pub fn fired(&self) -> impl Future<Output = ()> + Send + use<> {
        let wish = self.0.clone();
        async move {
            let mut waiting = std::pin::pin!(wish.waiting.notified());
            // Waiting from here on: whatever fires later wakes us, whatever fired before is seen.
            waiting.as_mut().enable();
            if !wish.fired.load(Ordering::Acquire) {
                waiting.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_and_who_comes_later_both_hear_of_it() {
        let cut = Cut::default();
        let mut early = Box::pin(cut.fired());
        assert!(futures_util::poll!(&mut early).is_pending());
        let unpolled = cut.fired();
        cut.clone().fire();
        early.await;
        unpolled.await;
        cut.fired().await;
        assert!(cut.has_fired());
    }
}
