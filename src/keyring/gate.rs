//! The gate in front of one file's secret: opening runs behind its read side, destruction takes its
//! write side. And the era of all secrets of a process, which can be ended over all gates at once.
//!
//! The lock comes from the parent module, so that the model checker in `interleavings` runs this
//! very file over a lock of its own.

use std::time::Duration;

use super::{AtomicU64, Ordering, PoisonError, RwLock};
use crate::clock::Now;
use crate::file::Deadline;

/// Opens until it is closed or due, whichever comes first; then never again.
pub(super) struct Gate<Secret, Proof>(RwLock<Life<Secret, Proof>>);

/// Counts how often all secrets were condemned, and knows who is using one.
pub(super) struct Era {
    number: AtomicU64,
    users: RwLock<()>,
}

impl Era {
    pub(super) fn first() -> Self {
        Self { number: AtomicU64::new(0), users: RwLock::new(()) }
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// Runs `work` on a secret of era `born` while the end of that era waits; `None` if it has
    /// ended. Must not be nested.
    pub(super) fn during<T>(&self, born: u64, work: impl FnOnce() -> T) -> Option<T> {
        let _user = self.users.read().unwrap_or_else(PoisonError::into_inner);
        (self.number() == born).then(work)
    }

    /// Ends the era: once this has returned, nobody uses a secret of it any more.
    pub(super) fn end(&self) {
        self.number.fetch_add(1, Ordering::SeqCst);
        drop(self.users.write().unwrap_or_else(PoisonError::into_inner));
    }
}

enum Life<Secret, Proof> {
    Live { secret: Secret, deadline: Deadline },
    Over(Proof),
}

impl<Secret, Proof: Clone> Gate<Secret, Proof> {
    pub(super) fn new(secret: Secret, deadline: Deadline) -> Self {
        Self(RwLock::new(Life::Live { secret, deadline }))
    }

    /// The deadline, or `None` once the gate is closed.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Life::Live { deadline, .. } => Some(*deadline),
            Life::Over(_) => None,
        }
    }

    /// Runs `work` while closing waits; `None` if the gate is closed or due. The time is asked for
    /// behind the gate.
    pub(super) fn pass<T>(
        &self,
        now: impl FnOnce() -> Now,
        work: impl FnOnce(&Secret) -> T,
    ) -> Option<T> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Life::Live { secret, deadline } if !deadline.is_due(now()) => Some(work(secret)),
            Life::Live { .. } | Life::Over(_) => None,
        }
    }

    /// Brings the deadline forward; returns the one that now holds, `None` if the gate is closed.
    pub(super) fn shorten(&self, now: Now, ttl: Duration) -> Option<Deadline> {
        match &mut *self.0.write().unwrap_or_else(PoisonError::into_inner) {
            Life::Live { deadline, .. } => {
                *deadline = deadline.shortened(now, ttl);
                Some(*deadline)
            }
            Life::Over(_) => None,
        }
    }

    /// Closes the gate for good and drops the secret. The first call makes the proof, before the
    /// secret goes; every call returns that one.
    pub(super) fn close(&self, prove: impl FnOnce(Deadline) -> Proof) -> Proof {
        let mut life = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let deadline = match &*life {
            Life::Over(proof) => return proof.clone(),
            Life::Live { deadline, .. } => *deadline,
        };
        let proof = prove(deadline);
        *life = Life::Over(proof.clone());
        proof
    }
}
