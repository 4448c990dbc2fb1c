//! Workers that were started ahead, so that a request does not wait for the start.
//!
//! Each is fresh, has its walls up, holds no byte of anybody's, and serves one request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::{Limits, Worker};

/// The most that wait at a time: each holds a few MiB.
const MOST: usize = 4;

/// Those that wait, and what they may use.
pub(super) struct Pool {
    size: usize,
    waiting: Mutex<Vec<(Limits, Worker)>>,
    filling: AtomicBool,
    /// Told when the last one was taken.
    emptied: Arc<Notify>,
}

impl Pool {
    /// For as many as there are places, up to a few.
    pub(super) fn new(places: usize) -> Self {
        let (waiting, filling) = (Mutex::default(), AtomicBool::new(false));
        Self { size: places.min(MOST), waiting, filling, emptied: Arc::default() }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(Limits, Worker)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that lives and was started with these limits.
    pub(super) fn take(&self, limits: &Limits) -> Option<Worker> {
        let mut waiting = self.waiting();
        waiting.retain(|(_, worker)| worker.leash.is_alive());
        let at = waiting.iter().position(|(theirs, _)| alike(theirs, limits));
        let taken = at.map(|at| waiting.swap_remove(at).1);
        if waiting.is_empty() {
            self.emptied.notify_one();
        }
        taken
    }

    /// Completes when nobody waits any more.
    pub(super) fn emptied(&self) -> impl Future<Output = ()> + Send + use<> {
        let emptied = self.emptied.clone();
        async move { emptied.notified().await }
    }

    /// Whether one with these limits is missing. Those with others make room.
    pub(super) fn lacks(&self, limits: &Limits) -> bool {
        let mut waiting = self.waiting();
        waiting.retain(|(theirs, worker)| alike(theirs, limits) && worker.leash.is_alive());
        waiting.len() < self.size
    }

    pub(super) fn add(&self, limits: Limits, worker: Worker) {
        self.waiting().push((limits, worker));
    }

    /// True for the one caller that is to fill the pool; it calls [`Pool::filled`] afterwards.
    pub(super) fn begin_to_fill(&self) -> bool {
        !self.filling.swap(true, Ordering::AcqRel)
    }

    pub(super) fn filled(&self) {
        self.filling.store(false, Ordering::Release);
    }
}

/// Whether a worker started for one can serve the other: what the kernel holds it to is the same.
fn alike(one: &Limits, other: &Limits) -> bool {
    let held = |limits: &Limits| (limits.memory_bytes, limits.stack_bytes, limits.cpu);
    held(one) == held(other)
}
