//! Forgetting. The order cannot be got wrong: keys, then the record, then the stored bytes, then
//! the receipt (VAULT.md, rule 5).
//!
//! Destroying the keys is the deletion, and takes microseconds. Releasing the bytes is hygiene: it
//! follows in the background, and a store that fails is asked again until it succeeds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::clock::{Boot, Clock};
use crate::file::{FileId, Reason};
use crate::keyring::{Doomed, FileKeys, Keys, KeysDestroyed};
use crate::metrics;
use crate::receipt::{Evidence, Receipt};
use crate::store::BlobId;
use crate::table::{LiveFile, Place, Table};
use crate::tasks::Leisure;
use crate::vault::Vault;

/// Between two tries of a delete that failed; doubles up to [`SLOWEST`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(60);
/// Deletes under way at once: a far store takes its time over each.
const AT_ONCE: usize = 32;

/// Destroys keys now and has bytes released later.
#[derive(Clone)]
pub struct Shredder {
    // Dependencies.
    clock: Arc<dyn Clock>,
    keys: Arc<Keys>,
    table: Arc<Table>,
    evidence: Arc<Evidence>,
    // State.
    /// Held from a file's keys to its receipt, some microseconds.
    order: Arc<Mutex<()>>,
    leftovers: mpsc::UnboundedSender<Leftover>,
    pending: Arc<AtomicU64>,
    /// Nobody is served any more: the cleaner need not leave the cores to requests.
    alone: Arc<AtomicBool>,
}

/// A blob that nothing opens any more.
struct Leftover {
    leave: Leave,
    place: Place,
    blob: BlobId,
}

/// Why it may be deleted.
enum Leave {
    /// Its keys are destroyed; whose receipt says so, and where.
    Destroyed { proof: Arc<KeysDestroyed>, of: FileId, index: usize },
    /// It is in no record.
    Discarded,
}

/// The background half of a [`Shredder`].
pub struct Cleaner {
    broom: Broom,
    leftovers: mpsc::UnboundedReceiver<Leftover>,
}

/// What releasing a blob takes.
struct Broom {
    clock: Arc<dyn Clock>,
    vault: Arc<Vault>,
    evidence: Arc<Evidence>,
    pending: Arc<AtomicU64>,
    alone: Arc<AtomicBool>,
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
        let (pending, alone) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let broom = Broom {
            clock: clock.clone(),
            vault,
            evidence: evidence.clone(),
            pending: pending.clone(),
            alone: alone.clone(),
        };
        let order = Arc::default();
        let shredder = Self { clock, keys, table, evidence, order, leftovers, pending, alone };
        (shredder, Cleaner { broom, leftovers: queue })
    }

    /// Destroys a live file. When this returns, no chunk of it is ever opened again; the receipt is
    /// final, its store answers still to come. Shredding twice returns the same receipt.
    pub fn shred(&self, file: &LiveFile, reason: Reason) -> Option<Receipt> {
        let due = file.origin.keys.deadline();
        let _in_order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = self.keys.destroy(&file.origin.keys, reason);
        let parts = file.parts.iter().map(|part| self.keys.destroy(&part.origin.keys, reason));
        let proofs: Vec<_> = parts.chain([proof.clone()]).collect();
        self.table.remove(file.id);
        file.cut.fire();
        for proof in proofs.iter().filter(|proof| proof.file() != file.id) {
            // A part may have a receipt of its own.
            let _ = self.evidence.finish(proof);
        }
        let receipt = self.evidence.finish(&proof);
        if !file.released.swap(true, Ordering::AcqRel) {
            metrics::count_by(metrics::FILES_DESTROYED, "reason", proof.reason().as_str());
            if let Some(due) = due.filter(|_| proof.reason() == Reason::Expired) {
                let lag = self.clock.now().boot.since(due.boot());
                metrics::observe(metrics::DESTROY_LAG, lag.as_secs_f64());
            }
            let segments = file.holdings().zip(&proofs);
            let segments = segments.flat_map(|((_, listed), proof)| {
                listed.iter().map(move |segment| (segment, proof))
            });
            for (index, (segment, proof)) in segments.enumerate() {
                let leave = Leave::Destroyed { proof: proof.clone(), of: file.id, index };
                self.leave(leave, segment.place, segment.blob);
            }
        }
        receipt
    }

    /// Returns when no file is between its record and its receipt: whoever finds no file then finds
    /// the final receipt.
    pub fn settled(&self) {
        drop(self.order.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Destroys the keys of a file that never became one, and has its committed blobs released;
    /// an unfinished blob goes with its writer.
    pub fn discard(&self, keys: &FileKeys, reason: Reason, blobs: &[(Place, BlobId)]) {
        let proof = {
            let _in_order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            let proof = self.keys.destroy(keys, reason);
            // One that was accepted early has a receipt.
            let _ = self.evidence.finish(&proof);
            proof
        };
        metrics::count_by(metrics::FILES_DESTROYED, "reason", proof.reason().as_str());
        for (index, (place, blob)) in blobs.iter().enumerate() {
            let leave = Leave::Destroyed { proof: proof.clone(), of: proof.file(), index };
            self.leave(leave, *place, *blob);
        }
    }

    /// Destroys the keys of a file that is not complete, now; whoever has its bytes finds out.
    pub fn end(&self, keys: &FileKeys, reason: Reason) -> Option<Receipt> {
        let _in_order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.evidence.finish(&self.keys.destroy(keys, reason))
    }

    /// Has a segment's bytes released that never entered a record. Whoever calls this has forgotten
    /// its commitment: nothing opens it any more.
    pub fn discard_segment(&self, place: Place, blob: BlobId) {
        self.leave(Leave::Discarded, place, blob);
    }

    /// The gateway ends: what is left is released without pauses.
    pub fn make_haste(&self) {
        self.alone.store(true, Ordering::Relaxed);
    }

    /// Blobs without keys that still wait to be released.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    fn leave(&self, leave: Leave, place: Place, blob: BlobId) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let leftover = Leftover { leave, place, blob };
        if self.leftovers.send(leftover).is_err() {
            // The cleaner ends only with the process, and the bytes of nameless files with it.
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Cleaner {
    /// Releases bytes until every [`Shredder`] is gone. A blob whose delete fails waits for its
    /// next try beside the others, never in front of them.
    pub async fn run(self) {
        let Self { broom, mut leftovers } = self;
        let mut again: Vec<Retry> = Vec::new();
        let mut under_way = FuturesUnordered::new();
        let mut leisure = Leisure::new(broom.clock.clone());
        loop {
            let now = broom.clock.now().boot;
            let (due, later): (Vec<_>, Vec<_>) =
                again.into_iter().partition(|retry: &Retry| retry.at <= now);
            again = later;
            for Retry { leftover, pause, .. } in due {
                under_way.push(broom.release(leftover, (pause * 2).min(SLOWEST)));
            }
            let alarm = again.iter().map(|retry| now.until(retry.at)).min();
            tokio::select! {
                biased;
                Some(retry) = under_way.next() => {
                    again.extend(retry);
                    // Hygiene can wait: requests come first.
                    if !broom.alone.load(Ordering::Relaxed) {
                        leisure.rest(broom.pending.load(Ordering::Relaxed)).await;
                    }
                }
                next = leftovers.recv(), if under_way.len() < AT_ONCE => match next {
                    Some(leftover) => under_way.push(broom.release(leftover, FIRST_RETRY)),
                    None => return,
                },
                () = broom.alarm(alarm) => {}
            }
        }
    }
}

impl Broom {
    async fn alarm(&self, after: Option<Duration>) {
        match after {
            Some(wait) => self.clock.sleep(wait).await,
            None => std::future::pending().await,
        }
    }

    /// Deletes a blob; if the store fails, says when to try again.
    async fn release(&self, leftover: Leftover, pause: Duration) -> Option<Retry> {
        let leave = match &leftover.leave {
            Leave::Destroyed { proof, .. } => Doomed::KeysDestroyed(proof),
            Leave::Discarded => Doomed::SegmentDiscarded,
        };
        match self.vault.release(leftover.place, leftover.blob, leave).await {
            Ok(answer) => {
                if let Leave::Destroyed { of, index, .. } = leftover.leave {
                    self.evidence.answered(of, index, answer);
                }
                self.pending.fetch_sub(1, Ordering::Relaxed);
                None
            }
            Err(_) => {
                metrics::count(metrics::STORE_DELETE_FAILURES, 1);
                Some(Retry { at: self.clock.now().boot.plus(pause), pause, leftover })
            }
        }
    }
}

/// A blob that its store would not delete yet.
struct Retry {
    at: Boot,
    pause: Duration,
    leftover: Leftover,
}
