//! Ending lives on time: whatever is due on either clock, at its second, with no cap per round.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Pipeline;
use crate::clock::Now;
use crate::file::Reason;
use crate::keyring::Suspicion;

/// The longest nap: a step of the wall clock is noticed this soon.
const NAP: Duration = Duration::from_secs(1);
/// A sweeper that was not heard of for this long has slept, with the process or with the machine.
const ASLEEP: Duration = Duration::from_secs(2);
/// Files ended before other tasks get a turn.
const BATCH: usize = 16;
/// Naps between two looks at old receipts.
const NAPS_PER_LOOK: u32 = 60;

/// When the sweeper was last at work, on both clocks, and which generation of keys it buried.
#[derive(Clone, Default)]
pub(super) struct Beat(Arc<Mutex<Option<(Now, u64)>>>);

impl Beat {
    fn set(&self, now: Now, generation: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, generation));
    }

    /// Whether either clock has gone on without the sweeper, or keys were condemned since.
    fn is_missing(&self, now: Now, generation: u64) -> bool {
        self.last().is_none_or(|(last, buried)| {
            let slept = now.boot.since(last.boot).max(last.wall.until(now.wall));
            slept >= ASLEEP || buried != generation
        })
    }

    fn last(&self) -> Option<(Now, u64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// Before every request. If the machine has become another, every key is destroyed; if the
    /// process or the machine has slept, or a clock was set forward, whatever fell due meanwhile is
    /// ended first. Otherwise two clocks and a socket are looked at.
    pub async fn wake(&self) {
        if self.machine.is_another() {
            self.keys.condemn(Suspicion::NewMachine);
        }
        if self.beat.is_missing(self.clock.now(), self.keys.generation()) {
            self.sweep().await;
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

    /// Ends everything that is due now. Epoch keys go first: with them, all files of their bucket
    /// are unreadable at once, however many they are.
    pub async fn sweep(&self) {
        self.keys.sweep_epochs();
        self.jobs.sweep(self.clock.now());
        for keys in self.nursery.due(self.clock.now()) {
            self.keys.destroy(&keys, Reason::Expired);
        }
        // Asked first: what is condemned from here on is buried by the next sweep.
        let generation = self.keys.generation();
        if self.beat.last().is_some_and(|(_, buried)| buried != generation) {
            self.bury_condemned().await;
        }
        loop {
            let now = self.clock.now();
            let due = self.table.due(now, BATCH);
            for file in &due {
                self.shredder.shred(file, Reason::Expired);
            }
            self.beat.set(now, generation);
            if due.is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Files whose keys were condemned have been unreadable since; here they get their receipt.
    async fn bury_condemned(&self) {
        for batch in self.table.all().chunks(BATCH) {
            for file in batch.iter().filter(|file| file.origin.keys.deadline().is_none()) {
                self.shredder.shred(file, Reason::KeyLost);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Destroys every key of this process, and lets none be made: the last act before it exits.
    pub fn forget_all(&self) {
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
