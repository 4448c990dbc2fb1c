//! The evidence's own work, beside the requests: signing, checkpoints, and the last of both.

use std::sync::Arc;
use std::time::Duration;

use super::journal::Entry;
use super::note::{self, Kind};
use super::row::Row;
use super::tree::LeafBytes;
use super::{Access, Evidence, EvidenceError, Pending};
use crate::clock::Boot;
use crate::metrics;
use crate::tasks::{Leisure, Shutdown};

/// Between two looks at what there is to do; also how exactly a crash can be dated.
const TICK: Duration = Duration::from_secs(1);
/// What a final note waits for its stores' answers at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Notes signed at a time: some 30 µs each.
const BATCH: usize = 2;
/// Where a run writes that it is alive: unix milliseconds.
pub(super) const ALIVE: &str = "alive";

/// A final row that is signed.
struct Signed {
    row: Row,
    signature: [u8; 64],
    leaf: LeafBytes,
    kind: Kind,
}

impl Evidence {
    /// Signs and publishes until asked to stop. [`Evidence::close`] does the rest.
    pub async fn keep(self: Arc<Self>, shutdown: Shutdown) {
        let mut more = false;
        while !shutdown.has_begun() {
            if !more {
                let nap = self.clock.sleep(TICK);
                futures_util::future::select(nap, std::pin::pin!(shutdown.begun())).await;
            }
            more = self.tick().await;
        }
    }

    /// Signs what is ready, and publishes a checkpoint if one is due; says whether there is more to
    /// sign than a tick has time for.
    pub async fn tick(&self) -> bool {
        self.be_alive();
        self.write_out();
        self.write_trails();
        let more = self.sign_finals(false).await;
        if self.is_checkpoint_due().await
            && let Err(error) = self.checkpoint().await
        {
            metrics::count(metrics::EVIDENCE_FAILURES, 1);
            tracing::error!("no checkpoint: {error}");
        }
        more
    }

    /// Signs everything, publishes the last checkpoint, and puts the pen away: nothing is ever
    /// signed in this run's name again.
    pub async fn close(&self) {
        self.write_trails();
        self.sign_finals(true).await;
        if let Err(error) = self.checkpoint().await {
            metrics::count(metrics::EVIDENCE_FAILURES, 1);
            tracing::error!("the last checkpoint cannot be published: {error}");
        }
        self.be_alive();
        drop(self.pen().take());
    }

    /// A successor dates a crash by it. Not synced: after a loss of power the file may be older.
    pub(super) fn be_alive(&self) {
        let Some(ledger) = &self.ledger else { return };
        let now = self.clock.now().wall.since_epoch().as_millis() as u64;
        if let Err(error) = ledger.beat(now) {
            tracing::warn!("the sign of life cannot be written: {}", error.kind());
        }
    }

    /// Signs final rows, those that wait for a store's answer too if `all`. Otherwise it leaves the
    /// cores to requests, and says whether it stopped early.
    pub(super) async fn sign_finals(&self, all: bool) -> bool {
        let _alone = self.signing.lock().await;
        if self.present_run().is_err() {
            return false;
        }
        let mut leisure = Leisure::new(self.clock.clone());
        let began = self.clock.now().boot;
        let mut left = self.kept().unsigned.len();
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            self.sign_batch(batch, all);
            if all {
                tokio::task::yield_now().await;
                continue;
            }
            leisure.rest(left as u64 / 20).await;
            if self.clock.now().boot.since(began) >= TICK {
                return left > 0;
            }
        }
        false
    }

    /// Final receipts that wait for their signature.
    #[must_use]
    pub fn unsigned(&self) -> usize {
        self.kept().unsigned.len()
    }

    fn sign_batch(&self, most: usize, all: bool) {
        let now = self.clock.now().boot;
        let mut ready = Vec::with_capacity(most);
        {
            let mut kept = self.kept();
            for _ in 0..most {
                let Some(file) = kept.unsigned.pop_front() else { break };
                let waits = kept.rows.get(&file).filter(|row| row.signature.is_none());
                let Some(row) = waits else { continue };
                if all || !self.is_ours(row.run) || is_ready(row, now) {
                    ready.push(row.clone());
                } else {
                    kept.unsigned.push_back(file);
                }
            }
        }
        let signed: Vec<Signed> = ready.into_iter().filter_map(|row| self.signed(row)).collect();
        self.keep_signed(signed);
    }

    fn signed(&self, mut row: Row) -> Option<Signed> {
        row.signed_run = self.run();
        let text = note::destruction(&row, &*self.boot_note(row.signed_run)?)?;
        let signature = self.pen().as_ref()?.sign(&text)?;
        let kind = row.final_kind();
        let leaf = note::leaf(kind, &row.blind(kind as u8, row.revision), &text);
        Some(Signed { row, signature, leaf, kind })
    }

    /// Signatures of rows that have not changed meanwhile; the others are signed next time.
    fn keep_signed(&self, signed: Vec<Signed>) {
        let segment = self.segment();
        let mut written = Vec::with_capacity(signed.len());
        let mut leaves = Vec::new();
        let mut kept = self.kept();
        for Signed { row, signature, leaf, kind } in signed {
            let Some(there) = kept.rows.get_mut(&row.file) else { continue };
            if there.version != row.version {
                kept.unsigned.push_back(row.file);
                continue;
            }
            (there.signature, there.signed_run) = (Some(signature), row.signed_run);
            there.final_index = None;
            there.version += 1;
            there.segment = segment;
            written.push(there.clone());
            if self.access == Access::Off {
                kept.done.push(row.file);
            } else {
                leaves.push(leaf);
                let (file, revision) = (Some(row.file), row.revision);
                kept.pending.push(Pending { leaf, file, kind, revision, segment });
            }
        }
        drop(kept);
        let Some(ledger) = &self.ledger else { return };
        let done = if self.retention.is_zero() {
            let leaves: Vec<_> = leaves.into_iter().map(Entry::Leaf).collect();
            ledger.journal.append(&leaves).map_err(EvidenceError::from)
        } else {
            ledger.write_rows(written.iter())
        };
        if let Err(error) = done {
            metrics::count(metrics::EVIDENCE_FAILURES, 1);
            tracing::error!("signed receipts cannot be written: {error}");
        }
    }

    /// Signs one row's final note now, for whoever asks for it.
    pub(super) fn sign_now(&self, row: Row) -> Option<Row> {
        let signed = self.signed(row)?;
        let file = signed.row.file;
        self.keep_signed(vec![signed]);
        let row = self.kept().rows.get(&file).cloned()?;
        row.signature.is_some().then_some(row)
    }
}

fn is_ready(row: &Row, now: Boot) -> bool {
    !row.is_waiting() || row.over.is_none_or(|over| now.since(over) >= ANSWER_WITHIN)
}
