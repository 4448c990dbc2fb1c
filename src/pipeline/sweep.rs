//! Ending lives on time: whatever is due on either clock, at its second, with no cap per round.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Pipeline;
use crate::clock::Now;
use crate::file::Reason;
use crate::keyring::Suspicion;
use crate::tasks::Leisure;

/// The longest nap: a step of the wall clock is noticed this soon.
const NAP: Duration = Duration::from_secs(1);
/// A sweeper that was not heard of for this long has slept, with the process or with the machine.
const ASLEEP: Duration = Duration::from_secs(2);
/// Files looked up at a time.
const BATCH: usize = 16;
/// While the records of many are forgotten, what falls due meanwhile waits no longer than this.
const LOOK: Duration = Duration::from_millis(10);
/// Naps between two looks at old receipts.
const NAPS_PER_LOOK: u32 = 60;

/// When keys that are due were last destroyed, on both clocks; and which generation of condemned
/// ones was buried.
#[derive(Clone, Default)]
pub(super) struct Beat {
    last: Arc<Mutex<Option<Now>>>,
    buried: Arc<AtomicU64>,
}

impl Beat {
    fn set(&self, now: Now) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether either clock has gone on without anybody looking.
    fn is_missing(&self, now: Now) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| now.boot.since(last.boot).max(last.wall.until(now.wall)) >= ASLEEP)
    }
}

impl Pipeline {
    /// Before every request. If the machine has become another, every key is destroyed; if the
    /// process or the machine has slept, or a clock was set forward, every key that fell due
    /// meanwhile is destroyed first, however many files that ends. Otherwise two clocks and a
    /// socket are looked at.
    pub async fn wake(&self) {
        if self.machine.is_another() {
            self.keys.condemn(Suspicion::NewMachine);
        }
        if self.beat.is_missing(self.clock.now()) {
            self.end_keys().await;
            // Few records are forgotten at once, too; of many the rest is left to the sweeper.
            for file in self.table.due(self.clock.now(), BATCH) {
                self.shredder.shred(&file, Reason::Expired);
            }
        }
    }

    /// Once nothing new is taken in, waits until the last file has died, those that were arriving
    /// included; then has the gateway stop.
    pub async fn drain(self: Arc<Self>) {
        self.shutdown.draining().await;
        while (self.keys.files_alive() > 0 || self.has_unfinished_jobs())
            && !self.shutdown.has_begun()
        {
            let nap = self.clock.sleep(NAP / 10);
            futures_util::future::select(nap, std::pin::pin!(self.shutdown.begun())).await;
        }
        self.shutdown.begin();
    }

    /// Ends lives as they fall due, for as long as the process runs: while it drains, too.
    pub async fn sweep_forever(self: Arc<Self>) {
        let mut naps: u32 = 0;
        loop {
            if self.machine.is_another() {
                self.keys.condemn(Suspicion::NewMachine);
            }
            self.sweep().await;
            naps = naps.wrapping_add(1);
            if naps.is_multiple_of(NAPS_PER_LOOK) {
                self.evidence.sweep();
            }
            let nap = self.table.next_due(self.clock.now()).map_or(NAP, |due| due.min(NAP));
            self.clock.sleep(nap.max(Duration::from_millis(1))).await;
        }
    }

    /// Ends everything that is due now: first all keys, then file by file, in portions that leave
    /// the cores to requests.
    pub async fn sweep(&self) {
        self.end_keys().await;
        self.jobs.sweep(self.clock.now());
        self.sweep_uploads();
        // Asked first: what is condemned from here on is buried by the next sweep.
        let generation = self.keys.generation();
        if self.beat.buried.swap(generation, Ordering::SeqCst) != generation {
            self.bury_condemned().await;
        }
        let mut leisure = Leisure::new(self.clock.clone());
        let mut looked = self.clock.now().boot;
        loop {
            let due = self.table.due(self.clock.now(), BATCH);
            if due.is_empty() {
                return;
            }
            for file in due {
                self.shredder.shred(&file, Reason::Expired);
                drop(file);
                leisure.rest(0).await;
            }
            let now = self.clock.now();
            if now.boot.since(looked) >= LOOK {
                self.end_keys().await;
                looked = now.boot;
            }
        }
    }

    /// Destroys every key that is due: those of buckets, with which all their files are unreadable
    /// at once, however many they are; those of uploads under way; and the secrets of files that do
    /// not end with their bucket's key. When this returns, nothing that is due can be opened by
    /// anybody, whatever he has.
    async fn end_keys(&self) {
        let now = self.clock.now();
        self.keys.sweep_epochs();
        for keys in self.nursery.due(now) {
            self.keys.destroy(&keys, Reason::Expired);
        }
        loop {
            let alone = self.table.due_alone(now, BATCH * 8);
            for file in &alone {
                for (origin, _) in file.pieces() {
                    self.keys.destroy(&origin.keys, Reason::Expired);
                }
            }
            // Reported afterwards: whoever else looks meanwhile gets them too, and does not pass
            // before they are gone.
            self.table.keys_gone(&alone);
            if alone.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
        self.beat.set(now);
    }

    /// Files whose keys were condemned have been unreadable since; here they get their receipt.
    async fn bury_condemned(&self) {
        let mut leisure = Leisure::new(self.clock.clone());
        for file in self.table.all() {
            if file.origin.keys.deadline().is_none() {
                self.shredder.shred(&file, Reason::KeyLost);
                leisure.rest(0).await;
            }
        }
    }

    /// Destroys every key of this process, and lets none be made: the last act before it exits.
    pub fn forget_all(&self) {
        self.shredder.make_haste();
        self.close_uploads();
        for keys in self.nursery.close() {
            self.keys.destroy(&keys, Reason::Shutdown);
        }
        self.keys.destroy_epochs();
        for file in self.table.all() {
            self.shredder.shred(&file, Reason::Shutdown);
        }
        self.jobs.clear();
    }
}
