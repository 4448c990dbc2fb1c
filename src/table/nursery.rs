//! Keys of what is still being taken in: not files yet, but already with a deadline.
//!
//! An upload's keys belong to its request. Should the request outlive the deadline, for whatever
//! reason (a suspended machine, a clock step, a client that drips), the sweeper finds them here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::clock::Now;
use crate::file::{FileId, TenantId};
use crate::keyring::FileKeys;

/// Keys of requests under way.
#[derive(Clone, Default)]
pub struct Nursery(Arc<Mutex<Cradles>>);

#[derive(Default)]
struct Cradles {
    keys: HashMap<FileId, Cradle>,
    closed: bool,
}

struct Cradle {
    keys: Weak<FileKeys>,
    tenant: TenantId,
}

/// The gateway has destroyed its keys and takes nothing in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway has stopped")]
pub struct Closed;

impl Nursery {
    fn cradles(&self) -> std::sync::MutexGuard<'_, Cradles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches over keys until they are let go.
    ///
    /// # Errors
    /// When the gateway has stopped.
    pub fn enter(&self, keys: &Arc<FileKeys>, tenant: TenantId) -> Result<(), Closed> {
        let mut cradles = self.cradles();
        if cradles.closed {
            return Err(Closed);
        }
        cradles.keys.insert(keys.file(), Cradle { keys: Arc::downgrade(keys), tenant });
        Ok(())
    }

    /// The keys belong to a file now, or to nothing.
    pub fn leave(&self, file: FileId) {
        self.cradles().keys.remove(&file);
    }

    /// Keys that are due on either clock, or whose bucket has ended.
    #[must_use]
    pub fn due(&self, now: Now) -> Vec<Arc<FileKeys>> {
        let is_due = |keys: &Arc<FileKeys>| keys.deadline().is_none_or(|end| end.is_due(now));
        self.cradles().all().filter(is_due).collect()
    }

    /// Keys of one tenant.
    #[must_use]
    pub fn of(&self, tenant: TenantId) -> Vec<Arc<FileKeys>> {
        let cradles = self.cradles();
        let theirs = cradles.keys.values().filter(|cradle| cradle.tenant == tenant);
        theirs.filter_map(|cradle| cradle.keys.upgrade()).collect()
    }

    /// Lets nobody in any more; returns all that are here.
    #[must_use]
    pub fn close(&self) -> Vec<Arc<FileKeys>> {
        let mut cradles = self.cradles();
        cradles.closed = true;
        cradles.all().collect()
    }
}

impl Cradles {
    fn all(&self) -> impl Iterator<Item = Arc<FileKeys>> + '_ {
        self.keys.values().filter_map(|cradle| cradle.keys.upgrade())
    }
}
