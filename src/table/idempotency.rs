//! Requests that may be repeated: remembered by a keyed hash, never by their body or answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Boot, Clock};
use crate::file::{FileId, TenantId};
use crate::job::JobId;

/// A keyed hash over a request's method, path, query, length and body.
pub type Fingerprint = [u8; 32];

/// Remembered no longer than a file can live.
const KEPT: Duration = Duration::from_hours(24);
/// Remembered at most, over all tenants; past it the oldest is forgotten.
const MOST: usize = 100_000;

/// What an earlier request with the same key made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub fingerprint: Fingerprint,
    pub files: Vec<FileId>,
    /// Whether the answer was a list of several files.
    pub several: bool,
    /// The job it started.
    pub job: Option<JobId>,
}

/// What is known of a key.
pub enum Seen {
    /// Nothing: the request is the first, and runs.
    First(Running),
    /// The first request still runs.
    Running,
    /// The first request has ended.
    Done(Outcome),
}

/// Keys in use, by tenant and a keyed hash of key and path.
#[derive(Clone)]
pub struct Idempotency {
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<HashMap<Name, Entry>>>,
}

type Name = (TenantId, [u8; 32]);

struct Entry {
    since: Boot,
    outcome: Option<Outcome>,
}

/// The first request with a key; forgotten again if it ends without an outcome.
pub struct Running {
    all: Idempotency,
    name: Name,
    settled: bool,
}

impl Idempotency {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Arc::default() }
    }

    /// Looks a key up, and takes it if nobody had it.
    #[must_use]
    pub fn look(&self, tenant: TenantId, key: [u8; 32]) -> Seen {
        let now = self.clock.now().boot;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (tenant, key);
        match seen.get(&name) {
            Some(entry) if now.since(entry.since) < KEPT => match &entry.outcome {
                Some(outcome) => Seen::Done(outcome.clone()),
                None => Seen::Running,
            },
            Some(_) | None => {
                if seen.len() >= MOST {
                    forget_oldest(&mut seen);
                }
                seen.insert(name, Entry { since: now, outcome: None });
                Seen::First(Running { all: self.clone(), name, settled: false })
            }
        }
    }
}

fn forget_oldest(seen: &mut HashMap<Name, Entry>) {
    let done = seen.iter().filter(|(_, entry)| entry.outcome.is_some());
    if let Some(oldest) = done.min_by_key(|(_, entry)| entry.since).map(|(name, _)| *name) {
        seen.remove(&oldest);
    }
}

impl Running {
    /// The request has made its files.
    pub fn settle(mut self, outcome: Outcome) {
        let mut seen = self.all.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = seen.get_mut(&self.name) {
            entry.outcome = Some(outcome);
        }
        self.settled = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.settled {
            let mut seen = self.all.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{VirtualClock, Wall};

    #[test]
    fn a_key_runs_then_is_done_and_a_failed_one_is_free_again() {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let all = Idempotency::new(Arc::new(clock.clone()));
        let (acme, key) = (TenantId::of("acme"), [1; 32]);
        let Seen::First(first) = all.look(acme, key) else { panic!("new") };
        assert!(matches!(all.look(acme, key), Seen::Running));
        assert!(matches!(all.look(TenantId::of("other"), key), Seen::First(_)));
        drop(first);
        let Seen::First(again) = all.look(acme, key) else { panic!("free again") };
        let outcome =
            Outcome { fingerprint: [2; 32], files: Vec::new(), several: false, job: None };
        again.settle(outcome.clone());
        assert!(matches!(all.look(acme, key), Seen::Done(done) if done == outcome));
        clock.advance(KEPT);
        assert!(matches!(all.look(acme, key), Seen::First(_)));
    }
}
