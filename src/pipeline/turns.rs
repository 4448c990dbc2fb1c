//! Whose turn it is: a slot for each worker, shared fairly by the tenants that want one.
//!
//! A free slot goes to the tenant that holds the fewest, and of several to the one that was served
//! longest ago. So a tenant with a thousand jobs waiting delays another's single one by no more
//! than what is at work already: one job's time. Within a tenant, requests that somebody waits for
//! and jobs take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, within};
use crate::file::TenantId;

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A processing request: a client waits for it.
    Run,
    Job,
}

/// The slots, and everybody who waits for one.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    line: Mutex<Line>,
    /// Changes whenever somebody has left the line.
    moved: watch::Sender<()>,
}

struct Line {
    free: usize,
    served: u64,
    tenants: HashMap<TenantId, Theirs>,
}

#[derive(Default)]
struct Theirs {
    held: usize,
    /// When it was last served, counted in turns.
    last: u64,
    runs: VecDeque<oneshot::Sender<Turn>>,
    jobs: VecDeque<oneshot::Sender<Turn>>,
    /// Whether a job comes before a run next.
    job_next: bool,
}

/// The right to a slot; dropping it passes it on.
pub struct Turn {
    turns: Turns,
    tenant: TenantId,
}

/// A place in the line.
pub struct Place {
    turns: Turns,
    tenant: TenantId,
    lane: Lane,
    turn: oneshot::Receiver<Turn>,
}

impl Place {
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Waits until its turn has come.
    pub async fn turn(mut self) -> Turn {
        loop {
            if let Ok(turn) = self.turn.await {
                return turn;
            }
            // Nobody drops a waiter that still waits; if somebody did, this one lines up again.
            self = self.turns.line_up(self.tenant, self.lane);
        }
    }
}

impl Turns {
    /// As many slots as there are workers.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let line = Line { free: slots, served: 0, tenants: HashMap::new() };
        Self(Arc::new(Shared { line: Mutex::new(line), moved: watch::Sender::new(()) }))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot. Dropped, it leaves the line.
    pub async fn take(&self, tenant: TenantId, lane: Lane) -> Turn {
        self.line_up(tenant, lane).turn().await
    }

    /// Takes the last place in the line. Dropped, it leaves the line.
    #[must_use]
    pub fn line_up(&self, tenant: TenantId, lane: Lane) -> Place {
        let (waiter, turn) = oneshot::channel();
        let mut line = self.line();
        line.tenants.entry(tenant).or_default().lane(lane).push_back(waiter);
        drop(line);
        self.pass_on();
        Place { turns: self.clone(), tenant, lane, turn }
    }

    /// A tenant's own that wait in a lane.
    #[must_use]
    pub fn waiting(&self, tenant: TenantId, lane: Lane) -> usize {
        let mut line = self.line();
        let theirs = line.tenants.get_mut(&tenant);
        theirs.map_or(0, |theirs| {
            let lane = theirs.lane(lane);
            lane.retain(|waiter| !waiter.is_closed());
            lane.len()
        })
    }

    /// Waits, at most `patience`, until fewer than `most` of a tenant's own wait in a lane; whether
    /// that came true.
    pub async fn has_place(
        &self,
        tenant: TenantId,
        lane: Lane,
        most: usize,
        (clock, patience): (&dyn Clock, Duration),
    ) -> bool {
        let mut moved = self.0.moved.subscribe();
        let waiting = async {
            while self.waiting(tenant, lane) >= most {
                // The sender lives in self: there is always another change to wait for.
                let _ = moved.changed().await;
            }
        };
        within(clock, patience, waiting).await.is_some()
    }

    /// Gives free slots to those whose turn it is.
    fn pass_on(&self) {
        let mut called = Vec::new();
        let mut line = self.line();
        while line.free > 0
            && let Some((tenant, waiter)) = line.next()
        {
            called.push((waiter, Turn { turns: self.clone(), tenant }));
        }
        drop(line);
        // Outside the lock: a turn that nobody takes comes back here by its drop.
        for (waiter, turn) in called {
            drop(waiter.send(turn));
        }
        self.0.moved.send_replace(());
    }
}

impl Line {
    fn next(&mut self) -> Option<(TenantId, oneshot::Sender<Turn>)> {
        for theirs in self.tenants.values_mut() {
            theirs.forget_the_gone();
        }
        let waiting = self.tenants.iter_mut().filter(|(_, theirs)| theirs.waits());
        let (tenant, theirs) = waiting.min_by_key(|(_, theirs)| (theirs.held, theirs.last))?;
        let waiter = theirs.call()?;
        self.served += 1;
        self.free -= 1;
        (theirs.held, theirs.last) = (theirs.held + 1, self.served);
        Some((*tenant, waiter))
    }
}

impl Theirs {
    const fn lane(&mut self, lane: Lane) -> &mut VecDeque<oneshot::Sender<Turn>> {
        match lane {
            Lane::Run => &mut self.runs,
            Lane::Job => &mut self.jobs,
        }
    }

    /// Whoever stands first and has left makes room; the others are found when they come first.
    fn forget_the_gone(&mut self) {
        for lane in [&mut self.runs, &mut self.jobs] {
            while lane.front().is_some_and(oneshot::Sender::is_closed) {
                lane.pop_front();
            }
        }
    }

    fn waits(&self) -> bool {
        !self.runs.is_empty() || !self.jobs.is_empty()
    }

    fn call(&mut self) -> Option<oneshot::Sender<Turn>> {
        let job = (self.job_next && !self.jobs.is_empty()) || self.runs.is_empty();
        self.job_next = !job;
        if job { self.jobs.pop_front() } else { self.runs.pop_front() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.turns.line();
        line.free += 1;
        if let Some(theirs) = line.tenants.get_mut(&self.tenant) {
            theirs.held -= 1;
        }
        drop(line);
        self.turns.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::of(name)
    }

    /// Puts somebody in the line.
    fn wait(turns: &Turns, name: &str, lane: Lane) -> BoxFuture<'static, Turn> {
        let (turns, tenant) = (turns.clone(), tenant(name));
        let mut waiting = async move { turns.take(tenant, lane).await }.boxed();
        assert!(waiting.as_mut().now_or_never().is_none(), "every slot is taken");
        waiting
    }

    #[test]
    fn a_thousand_jobs_delay_another_tenants_one_by_what_is_at_work_already() {
        for slots in [1, 2, 5] {
            let turns = Turns::new(slots);
            let take = || turns.take(tenant("many"), Lane::Job).now_or_never().unwrap();
            let mut at_work: VecDeque<Turn> = (0..slots).map(|_| take()).collect();
            let mut many: VecDeque<_> =
                (0..1000).map(|_| wait(&turns, "many", Lane::Job)).collect();
            let mut one = wait(&turns, "one", Lane::Job);
            drop(at_work.pop_front());
            assert!(one.as_mut().now_or_never().is_some(), "{slots}: its turn is the very next");
            // Then a slot each, as far as there are two; and all of them where one is gone.
            for _ in 0..999 {
                drop(at_work.pop_front());
                let next = many.pop_front().unwrap().now_or_never();
                at_work.push_back(next.expect("the others go on in their order"));
            }
        }
    }

    #[test]
    fn two_tenants_with_much_to_do_share_every_slot() {
        let turns = Turns::new(3);
        let mut waiting: Vec<_> = (0..30)
            .map(|at| if at < 20 { "long" } else { "short" })
            .map(|name| (name, turns.clone()))
            .map(|(name, turns)| (name, async move { turns.take(tenant(name), Lane::Job).await }))
            .map(|(name, waiting)| (name, waiting.boxed()))
            .collect();
        let mut order = Vec::new();
        let mut at_work: VecDeque<(&str, Turn)> = VecDeque::new();
        while order.len() < 30 {
            let mut still = Vec::new();
            for (name, mut one) in waiting {
                match one.as_mut().now_or_never() {
                    Some(turn) => {
                        order.push(name);
                        at_work.push_back((name, turn));
                    }
                    None => still.push((name, one)),
                }
            }
            waiting = still;
            drop(at_work.pop_front());
        }
        for window in order[3..20].windows(6) {
            let short = window.iter().filter(|name| **name == "short").count();
            assert!((2..=4).contains(&short), "{order:?}");
        }
    }

    #[test]
    fn within_a_tenant_somebody_who_waits_comes_after_one_job_at_most() {
        let turns = Turns::new(1);
        let first = turns.take(tenant("a"), Lane::Job).now_or_never().unwrap();
        let mut jobs: Vec<_> = (0..5).map(|_| wait(&turns, "a", Lane::Job)).collect();
        let mut run = wait(&turns, "a", Lane::Run);
        drop(first);
        let next = run.as_mut().now_or_never().expect("a run comes before the other jobs");
        let mut again = wait(&turns, "a", Lane::Run);
        drop(next);
        assert!(again.as_mut().now_or_never().is_none(), "and then a job");
        assert!(jobs[0].as_mut().now_or_never().is_some());
    }

    #[test]
    fn whoever_leaves_the_line_is_passed_over_and_a_turn_nobody_took_is_not_lost() {
        let turns = Turns::new(1);
        let held = turns.take(tenant("a"), Lane::Run).now_or_never().unwrap();
        let (gone, mut stays) = (wait(&turns, "a", Lane::Run), wait(&turns, "b", Lane::Run));
        let called = wait(&turns, "c", Lane::Run);
        assert_eq!(turns.waiting(tenant("a"), Lane::Run), 1);
        drop(gone);
        assert_eq!(turns.waiting(tenant("a"), Lane::Run), 0);
        drop(held);
        // One of b and c was called; c leaves without looking.
        drop(called);
        assert!(stays.as_mut().now_or_never().is_some());
        drop(stays);
        assert!(turns.take(tenant("d"), Lane::Job).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_full_line_is_waited_for_and_then_refused() {
        let clock = crate::clock::VirtualClock::at(crate::clock::Wall::from_unix(
            Duration::from_secs(1_800_000_000),
        ));
        let turns = Turns::new(1);
        let held = turns.take(tenant("a"), Lane::Run).await;
        let waiting = wait(&turns, "a", Lane::Run);
        let patience = Duration::from_secs(1);
        let place = || turns.has_place(tenant("a"), Lane::Run, 1, (&clock, patience));
        let mut full = Box::pin(place());
        assert!(full.as_mut().now_or_never().is_none());
        clock.advance(patience);
        assert!(!full.await);
        assert!(turns.has_place(tenant("b"), Lane::Run, 1, (&clock, patience)).await);
        let mut full = Box::pin(place());
        assert!(full.as_mut().now_or_never().is_none());
        drop(held);
        drop(waiting.await);
        assert!(full.await);
    }
}
