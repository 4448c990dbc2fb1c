//! A clock moved by hand, for simulations and tests of deadlines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Boot, Clock, Now, Sleep, Wall};

/// Both clocks stand still until somebody moves them.
#[derive(Clone)]
pub struct VirtualClock {
    now: Arc<Mutex<Now>>,
    moved: watch::Sender<()>,
}

impl VirtualClock {
    /// A clock that shows `wall` and some time since boot.
    #[must_use]
    pub fn at(wall: Wall) -> Self {
        let boot = Boot::from_start(Duration::from_secs(3600));
        Self { now: Arc::new(Mutex::new(Now { wall, boot })), moved: watch::Sender::new(()) }
    }

    /// Lets `span` pass on both clocks.
    pub fn advance(&self, span: Duration) {
        self.change(|now| Now { wall: now.wall.plus(span), boot: now.boot.plus(span) });
    }

    /// Sets the wall clock without any time passing, as an operator or NTP does.
    pub fn step_wall(&self, to: Wall) {
        self.change(|now| Now { wall: to, boot: now.boot });
    }

    fn change(&self, step: impl FnOnce(Now) -> Now) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = step(*now);
        drop(now);
        self.moved.send_replace(());
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, span: Duration) -> Sleep {
        let due = self.now().boot.plus(span);
        let (clock, mut moved) = (self.clone(), self.moved.subscribe());
        Box::pin(async move {
            while clock.now().boot < due {
                if moved.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}
