//! How a delivery goes, seen from outside: a reader that stops asking is never polled, so nobody
//! inside the stream can notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared between a delivery and whoever watches over it.
#[derive(Default)]
pub struct Progress {
    moved: AtomicU64,
    waits_for_us: AtomicBool,
    ended: AtomicBool,
}

impl Progress {
    /// So many bytes were handed on.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether it is our own side that is waited for.
    pub fn waits_for_us(&self, waits: bool) {
        self.waits_for_us.store(waits, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Bytes handed on since the last time this was asked.
    pub fn take_moved(&self) -> u64 {
        self.moved.swap(0, Ordering::Relaxed)
    }

    /// Whether the delivery waits for store or memory: then its reader is not to blame.
    pub fn is_ours(&self) -> bool {
        self.waits_for_us.load(Ordering::Relaxed)
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}
