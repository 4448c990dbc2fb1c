//! Forgetting. The order cannot be got wrong: keys, then the record, then the stored bytes, then
//! the receipt (VAULT.md, rule 5).
//!
//! Destroying the keys is the deletion, and takes microseconds. Releasing the bytes is hygiene: it
//! follows in the background, and a store that fails is asked again until it succeeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::file::{FileId, Reason};
use crate::keyring::{Doomed, FileKeys, Keys, KeysDestroyed};
use crate::metrics;
use crate::receipt::{Evidence, Receipt};
use crate::store::BlobId;
use crate::table::{LiveFile, Place, Table};
use crate::vault::Vault;

/// Between two tries of a delete that failed; doubles up to [`SLOWEST`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(60);

/// Destroys keys now and has bytes released later.
#[derive(Clone)]
pub struct Shredder {
    // Dependencies.
    clock: Arc<dyn Clock>,
    keys: Arc<Keys>,
    table: Arc<Table>,
    evidence: Arc<Evidence>,
    // State.
    leftovers: mpsc::UnboundedSender<Leftover>,
    pending: Arc<AtomicU64>,
}

/// A blob whose keys are destroyed.
struct Leftover {
    proof: Arc<KeysDestroyed>,
    index: usize,
    place: Place,
    blob: BlobId,
}

/// The background half of a [`Shredder`].
pub struct Cleaner {
    clock: Arc<dyn Clock>,
    vault: Arc<Vault>,
    evidence: Arc<Evidence>,
    leftovers: mpsc::UnboundedReceiver<Leftover>,
    pending: Arc<AtomicU64>,
}

impl Shredder {
    /// A shredder, and the cleaner to run in the background.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        keys: Arc<Keys>,
        table: Arc<Table>,
        vault: Arc<Vault>,
        evidence: Arc<Evidence>,
    ) -> (Self, Cleaner) {
        let (leftovers, queue) = mpsc::unbounded_channel();
        let pending = Arc::new(AtomicU64::new(0));
        let cleaner = Cleaner {
            clock: clock.clone(),
            vault,
            evidence: evidence.clone(),
            leftovers: queue,
            pending: pending.clone(),
        };
        (Self { clock, keys, table, evidence, leftovers, pending }, cleaner)
    }

    /// Destroys a live file. When this returns, no chunk of it is ever opened again; the receipt is
    /// final, its store answers still to come. Shredding twice returns the same receipt.
    pub fn shred(&self, file: &LiveFile, reason: Reason) -> Option<Receipt> {
        let due = file.origin.keys.deadline();
        let proof = self.keys.destroy(&file.origin.keys, reason);
        let first = self.table.remove(file.id).is_some();
        file.cut.fire();
        let receipt = self.evidence.finish(&proof);
        if first {
            metrics::count_by(metrics::FILES_DESTROYED, "reason", proof.reason().as_str());
            if let Some(due) = due.filter(|_| proof.reason() == Reason::Expired) {
                let late = due.boot();
                let lag = self.clock.now().boot.since(late);
                metrics::observe(metrics::DESTROY_LAG, lag.as_secs_f64());
            }
            for (index, segment) in file.segments.iter().enumerate() {
                self.leave(&proof, index, segment.place, segment.blob);
            }
        }
        receipt
    }

    /// Destroys the keys of a file that never became one, and has its committed blobs released;
    /// an unfinished blob goes with its writer.
    pub fn discard(&self, keys: &FileKeys, reason: Reason, blobs: &[(Place, BlobId)]) {
        let proof = self.keys.destroy(keys, reason);
        metrics::count_by(metrics::FILES_DESTROYED, "reason", proof.reason().as_str());
        for (index, (place, blob)) in blobs.iter().enumerate() {
            self.leave(&proof, index, *place, *blob);
        }
    }

    /// Blobs without keys that still wait to be released.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    fn leave(&self, proof: &Arc<KeysDestroyed>, index: usize, place: Place, blob: BlobId) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let leftover = Leftover { proof: proof.clone(), index, place, blob };
        if self.leftovers.send(leftover).is_err() {
            // The cleaner ends only with the process, and the bytes of nameless files with it.
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Cleaner {
    /// Releases bytes until every [`Shredder`] is gone.
    pub async fn run(mut self) {
        while let Some(leftover) = self.leftovers.recv().await {
            self.release(&leftover).await;
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn release(&self, leftover: &Leftover) {
        let Leftover { proof, index, place, blob } = leftover;
        let file: FileId = proof.file();
        let mut pause = FIRST_RETRY;
        loop {
            let leave = Doomed::KeysDestroyed(proof);
            match self.vault.release(*place, *blob, leave).await {
                Ok(answer) => return self.evidence.answered(file, *index, answer),
                Err(_) => metrics::count(metrics::STORE_DELETE_FAILURES, 1),
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(SLOWEST);
        }
    }
}
