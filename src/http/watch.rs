//! Readers that stop reading.
//!
//! Over HTTP/1.1 the socket itself notices. Over HTTP/2 a client can leave one stream's window shut
//! while others go on: its delivery is then never polled, and neither the least rate, the deadline
//! nor a DELETE could end it from within. Somebody has to look from outside.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::clock::{Boot, Clock};
use crate::deliver::{Lifeline, Progress};
use crate::table::Cut;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);
/// How long a delivery that was cut may take to notice by itself.
const CUT_WITHIN: Duration = Duration::from_secs(3);
/// The window a rate is judged over, and the grace before the first.
const WINDOW: Duration = Duration::from_secs(10);

/// Every delivery under way.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Vec<Watched>>>);

struct Watched {
    progress: Weak<Progress>,
    lifeline: Lifeline,
    /// Ends the connection it is sent on.
    kill: Cut,
    window_began: Boot,
    grace: bool,
    cut_seen: Option<Boot>,
}

impl Watch {
    /// Watches over a delivery; `kill` ends its connection.
    pub(super) fn enroll(
        &self,
        progress: &Arc<Progress>,
        lifeline: Lifeline,
        kill: Cut,
        now: Boot,
    ) {
        let progress = Arc::downgrade(progress);
        let watched =
            Watched { progress, lifeline, kill, window_began: now, grace: true, cut_seen: None };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
    }

    /// Looks after them until the process ends. `min_rate` in bytes per second; 0 for none.
    pub async fn keep(self, clock: Arc<dyn Clock>, min_rate: u64) {
        loop {
            clock.sleep(ROUND).await;
            let now = clock.now().boot;
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain_mut(|watched| watched.may_go_on(now, min_rate));
        }
    }
}

impl Watched {
    fn may_go_on(&mut self, now: Boot, min_rate: u64) -> bool {
        let Some(progress) = self.progress.upgrade().filter(|progress| !progress.has_ended())
        else {
            return false;
        };
        if self.lifeline.is_cut() {
            let seen = *self.cut_seen.get_or_insert(now);
            return self.unless(now.since(seen) >= CUT_WITHIN);
        }
        if progress.is_ours() {
            self.window_began = now;
        }
        if now.since(self.window_began) < WINDOW {
            return true;
        }
        let slow = progress.take_moved() < min_rate.saturating_mul(WINDOW.as_secs());
        let late = slow && !self.grace;
        (self.window_began, self.grace) = (now, false);
        self.unless(late)
    }

    fn unless(&self, over: bool) -> bool {
        if over {
            self.kill.fire();
        }
        !over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Era;

    fn at(second: u64) -> Boot {
        Boot::from_start(Duration::from_secs(second))
    }

    fn watched(progress: &Arc<Progress>, cut: Cut) -> Watched {
        let watch = Watch::default();
        let lifeline = Lifeline::new(cut, Era::default());
        watch.enroll(progress, lifeline, Cut::default(), at(0));
        let mut all = watch.0.lock().unwrap();
        all.pop().unwrap()
    }

    #[test]
    fn a_reader_that_stops_is_ended_after_the_grace() {
        let progress = Arc::default();
        let mut watched = watched(&progress, Cut::default());
        let ended = (1..60).find(|second| !watched.may_go_on(at(*second), 1024));
        assert_eq!(ended, Some(20));
        assert!(watched.kill.has_fired());
    }

    #[test]
    fn a_delivery_that_was_cut_and_is_not_polled_takes_its_connection_along() {
        let progress = Arc::default();
        let cut = Cut::default();
        let mut watched = watched(&progress, cut.clone());
        cut.fire();
        let ended = (1..60).find(|second| !watched.may_go_on(at(*second), 0));
        assert_eq!(ended, Some(4));
    }
}
