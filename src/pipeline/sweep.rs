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
    /// Ends lives as they fall due, until the gateway stops.
    pub async fn sweep_forever(self: Arc<Self>) {
        let mut naps = 0;
        while !self.shutdown.has_begun() {
            self.sweep().await;
            naps += 1;
            if naps % NAPS_PER_LOOK == 0 {
                self.evidence.sweep();
            }
            let nap = self.table.next_due(self.clock.now()).map_or(NAP, |due| due.min(NAP));
            let nap = self.clock.sleep(nap.max(Duration::from_millis(1)));
            futures_util::future::select(nap, std::pin::pin!(self.shutdown.begun())).await;
        }
    }

    /// Ends everything that is due now. Epoch keys go first: with them, all files of their bucket
    /// are unreadable at once, however many they are.
    pub async fn sweep(&self) {
        self.keys.sweep_epochs();
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

    /// Destroys every key of this process: the last act before it exits.
    pub fn forget_all(&self) {
        self.keys.destroy_epochs();
        for file in self.table.all() {
            self.shredder.shred(&file, Reason::Shutdown);
        }
    }
}
