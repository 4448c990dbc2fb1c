//! Keys of what is still being taken in: not files yet, but already with a deadline.
//!
//! An upload's keys belong to its request. Should the request outlive the deadline, for whatever
//! reason (a suspended machine, a clock step, a client that drips), the sweeper finds them here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::clock::Now;
use crate::file::FileId;
use crate::keyring::FileKeys;

/// Keys of requests under way.
#[derive(Clone, Default)]
pub struct Nursery(Arc<Mutex<Cradles>>);

#[derive(Default)]
struct Cradles {
    keys: HashMap<FileId, Weak<FileKeys>>,
    closed: bool,
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
    pub fn enter(&self, keys: &Arc<FileKeys>) -> Result<(), Closed> {
        let mut cradles = self.cradles();
        if cradles.closed {
            return Err(Closed);
        }
        cradles.keys.insert(keys.file(), Arc::downgrade(keys));
        Ok(())
    }

    /// The keys belong to a file now, or to nothing.
    pub fn leave(&self, file: FileId) {
        self.cradles().keys.remove(&file);
    }

    /// Keys that are due on either clock.
    #[must_use]
    pub fn due(&self, now: Now) -> Vec<Arc<FileKeys>> {
        let is_due = |keys: &Arc<FileKeys>| keys.deadline().is_some_and(|end| end.is_due(now));
        let cradles = self.cradles();
        cradles.keys.values().filter_map(Weak::upgrade).filter(is_due).collect()
    }

    /// Lets nobody in any more; returns all that are here.
    #[must_use]
    pub fn close(&self) -> Vec<Arc<FileKeys>> {
        let mut cradles = self.cradles();
        cradles.closed = true;
        cradles.keys.values().filter_map(Weak::upgrade).collect()
    }
}
