//! Ending lives on time: whatever is due on either clock, at its second, with no cap per round.

use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use crate::file::Reason;

/// The longest nap: a step of the wall clock is noticed this soon.
const NAP: Duration = Duration::from_secs(1);
/// Files ended before other tasks get a turn.
const BATCH: usize = 1000;
/// Naps between two looks at old receipts.
const NAPS_PER_LOOK: u32 = 60;

impl Pipeline {
    /// Ends lives as they fall due, for as long as the process runs: while it drains, too.
    pub async fn sweep_forever(self: Arc<Self>) {
        let mut naps: u32 = 0;
        loop {
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
        for keys in self.nursery.due(self.clock.now()) {
            self.keys.destroy(&keys, Reason::Expired);
        }
        loop {
            let due = self.table.due(self.clock.now(), BATCH);
            if due.is_empty() {
                return;
            }
            for file in &due {
                self.shredder.shred(file, Reason::Expired);
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
    }
}
