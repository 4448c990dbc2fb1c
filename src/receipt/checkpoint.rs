//! Checkpoints: every minute a shuffled batch of leaves, and everything that is final is filed.

use std::collections::HashSet;
use std::time::Duration;

use super::archive::{Filed, Line, Round};
use super::buckets::{Account, Bucket};
use super::journal::{Entry, Journal};
use super::note::{self, Kind};
use super::row::Row;
use super::tree::LeafBytes;
use super::{Access, Evidence, EvidenceError, Kept, Ledger, Pending};
use crate::clock::{Boot, Wall};
use crate::entropy::{Entropy, EntropyError, random};
use crate::file::FileId;
use crate::metrics;
use crate::tasks;

/// Between two checkpoints.
pub const EVERY: Duration = Duration::from_secs(60);
/// Between two looks at what is older than the retention.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Leaves of longer ago than the retention and this are pruned: time for monitors to catch up.
pub(super) const PRUNE_AFTER: Duration = Duration::from_hours(48);
/// Rows looked at before requests get a turn.
const CHUNK: usize = 2048;

/// When the last checkpoint was published, and old rows were last looked for.
pub(super) struct Beat {
    pub checkpoint: Boot,
    pub sweep: Option<Boot>,
}

impl Evidence {
    pub(super) async fn is_checkpoint_due(&self) -> bool {
        let last = self.round.lock().await.checkpoint;
        self.clock.now().boot.since(last) >= EVERY
    }

    /// Until the next checkpoint, roughly: for a client that asks too early.
    pub(super) fn next_checkpoint(&self) -> Duration {
        let last = self.round.try_lock().map(|beat| beat.checkpoint);
        let due = last
            .map_or(Duration::ZERO, |last| EVERY.saturating_sub(self.clock.now().boot.since(last)));
        due + Duration::from_secs(2)
    }

    /// Puts what waits into the log, publishes a checkpoint over it, and files what is final.
    ///
    /// # Errors
    /// When the log or the archive cannot be written; what was to be filed then stays.
    pub async fn checkpoint(&self) -> Result<(), EvidenceError> {
        let mut beat = self.round.lock().await;
        beat.checkpoint = self.clock.now().boot;
        let closed = self.closing_leaves()?;
        let logged = self.blocking(|| self.log_pending());
        if logged.is_err() {
            // They are stated with the next checkpoint.
            self.kept().buckets.reopen(&closed);
        }
        let logged = logged?;
        for chunk in logged.chunks(CHUNK) {
            {
                let mut kept = self.kept();
                for (pending, index) in chunk {
                    kept.is_logged(*pending, *index);
                }
            }
            tokio::task::yield_now().await;
        }
        self.file_finals(&logged, closed).await?;
        let now = self.clock.now();
        if beat.sweep.is_none_or(|last| now.boot.since(last) >= SWEEP_EVERY) {
            beat.sweep = Some(now.boot);
            self.blocking(|| self.sweep_ledger(now.wall))?;
        }
        Ok(())
    }

    /// Disk work moves other tasks elsewhere; memory is not worth that.
    pub(super) fn blocking<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.ledger.is_some() { tasks::blocking(work) } else { work() }
    }

    /// A leaf for each bucket that has ended; its note is public before it is logged.
    fn closing_leaves(&self) -> Result<Vec<(Bucket, Account)>, EvidenceError> {
        if self.access == Access::Off {
            return Ok(Vec::new());
        }
        let boot = self.boot_note(self.present_run()?).ok_or(EvidenceError::Stopped)?;
        let closed = {
            let mut kept = self.kept();
            let now = self.clock.now().wall;
            kept.buckets.forget(now);
            kept.buckets.close(now)
        };
        let mut notes = Vec::with_capacity(closed.len());
        for (bucket, account) in &closed {
            let (accepted, destroyed) = (account.accepted, account.destroyed);
            let text = note::closing(bucket.end(), bucket.length, accepted, destroyed, &boot);
            notes.push(self.public_note(Kind::Closing, &text)?);
        }
        let done = self.publish_notes(notes);
        if done.is_err() {
            self.kept().buckets.reopen(&closed);
        }
        done.map(|()| closed)
    }

    /// Signs a note that anybody may read, and draws its blind.
    fn public_note(
        &self,
        kind: Kind,
        text: &str,
    ) -> Result<(LeafBytes, [u8; 32], String), EvidenceError> {
        let signed = self.pen().as_ref().and_then(|pen| pen.sign_note(text));
        self.blinded(kind, text, signed.ok_or(EvidenceError::Stopped)?)
    }

    /// A signed note that anybody may read, with its leaf and a blind for it.
    pub(super) fn blinded(
        &self,
        kind: Kind,
        text: &str,
        signed: String,
    ) -> Result<(LeafBytes, [u8; 32], String), EvidenceError> {
        let blind = random::<32>(&*self.entropy)?;
        Ok((note::leaf(kind, &blind, text), blind, signed))
    }

    /// Keeps public notes, and puts their leaves among those that wait.
    pub(super) fn publish_notes(
        &self,
        notes: Vec<(LeafBytes, [u8; 32], String)>,
    ) -> Result<(), EvidenceError> {
        if notes.is_empty() {
            return Ok(());
        }
        let segment = match &self.ledger {
            Some(ledger) => {
                self.blocking(|| ledger.archive.publish(&notes))?;
                let entries: Vec<_> = notes.iter().map(|(leaf, ..)| Entry::Leaf(*leaf)).collect();
                let segment = ledger.segment();
                ledger.journal.append(&entries)?;
                segment
            }
            None => 0,
        };
        let mut kept = self.kept();
        for (leaf, blind, text) in notes {
            kept.pending.push(Pending::public(leaf, segment));
            if self.ledger.is_none() {
                kept.notes.insert(leaf, (blind, text));
            }
        }
        Ok(())
    }

    /// Appends what waits in an order that tells nothing, and signs. Returns where each leaf is.
    fn log_pending(&self) -> Result<Vec<(Pending, u64)>, EvidenceError> {
        let mut batch = std::mem::take(&mut self.kept().pending);
        // No leaf is in the log before its row is in the journal.
        self.write_out();
        let mut put = || {
            shuffle(&mut batch, &*self.entropy)?;
            let leaves: Vec<LeafBytes> = batch.iter().map(|pending| pending.leaf).collect();
            if leaves.is_empty() { Ok(self.log.size()) } else { self.log.append(&leaves) }
        };
        let first = match put() {
            Ok(first) => first,
            Err(error) => {
                self.kept().pending.append(&mut batch);
                return Err(error);
            }
        };
        // What is in the tree is in the log, even if its checkpoint has to wait for the next one.
        if self.log.size() != self.log.published().size
            && let Err(error) = self.log.publish()
        {
            metrics::count(metrics::EVIDENCE_FAILURES, 1);
            tracing::error!("a checkpoint cannot be published: {error}");
        }
        Ok(batch.into_iter().zip(first..).collect())
    }

    /// Writes down where leaves are, then files the rows that nothing more will happen to.
    async fn file_finals(
        &self,
        logged: &[(Pending, u64)],
        closed: Vec<(Bucket, Account)>,
    ) -> Result<(), EvidenceError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let mut entries = Vec::with_capacity(logged.len() / CHUNK + 2);
        for chunk in logged.chunks(CHUNK) {
            let kept = self.kept();
            let leaves = chunk.iter().map(|(pending, _)| {
                let row = pending.file.and_then(|file| kept.rows.get(&file));
                let row = row.filter(|_| !self.retention.is_zero());
                (row.map_or(pending.head(), |row| row.key), pending.kind as u8)
            });
            let leaves = leaves.collect();
            entries.extend(chunk.first().map(|(_, first)| Entry::Logged { first: *first, leaves }));
        }
        entries.push(Entry::Settled { size: self.log.size() });
        self.blocking(|| ledger.journal.append(&entries))?;
        let finals = self.finals();
        let mut round = Round { closed, ..Round::default() };
        for chunk in finals.chunks(CHUNK) {
            let rows: Vec<Row> = {
                let kept = self.kept();
                chunk.iter().filter_map(|file| kept.rows.get(file)).cloned().collect()
            };
            for row in rows {
                let Some(end) = &row.end else { continue };
                round.rows.push(Filed {
                    key: row.key,
                    until: end.at().plus(self.retention).unix_seconds() + 1,
                    bucket: Bucket::of(&row),
                    sealed: ledger.seal(&row)?,
                });
            }
            tokio::task::yield_now().await;
        }
        round.lines = self.kept().trails.blocks.iter().map(|(_, block)| block.clone()).collect();
        round.size = Some((self.log.published().size, self.clock.now().wall.unix_seconds()));
        if let Err(error) = self.blocking(|| ledger.archive.file(&round)) {
            self.put_back(finals);
            return Err(error);
        }
        self.let_go(&finals, &round.lines);
        self.blocking(|| self.tidy_journal(ledger))
    }

    /// Final rows that are signed, logged and answered by their stores.
    fn finals(&self) -> Vec<FileId> {
        if self.retention.is_zero() {
            return Vec::new();
        }
        let (mut kept, off) = (self.kept(), self.access == Access::Off);
        let Kept { done, rows, .. } = &mut *kept;
        let done = done.drain(..).filter_map(|file| rows.get(&file)).filter(|row| {
            let logged = off || (row.accept_index.is_some() && row.final_index.is_some());
            // Nobody answers any more for the stores of an earlier run.
            let answered = !row.is_waiting() || !self.is_ours(row.run);
            row.signature.is_some() && logged && answered
        });
        done.map(|row| row.file).collect()
    }

    /// They could not be filed: the next round tries again.
    fn put_back(&self, finals: Vec<FileId>) {
        self.kept().done.extend(finals);
    }

    /// Rows that the archive has are not kept in memory. None of them can have changed meanwhile:
    /// their stores have answered.
    fn let_go(&self, filed: &[FileId], lines: &[Line]) {
        let mut kept = self.kept();
        for file in filed {
            kept.rows.remove(file);
        }
        let Kept { over, rows, .. } = &mut *kept;
        over.retain(|(_, file)| rows.contains_key(file));
        // What came since stands behind them; a trail that was forgotten meanwhile is gone whole.
        let filed: HashSet<_> = lines.iter().map(|line| (line.tag, line.number)).collect();
        kept.trails.blocks.retain(|(_, block)| !filed.contains(&(block.tag, block.number)));
    }

    /// Forgets segments that hold nothing any more; rows that would keep many are written anew.
    fn tidy_journal(&self, ledger: &Ledger) -> Result<(), EvidenceError> {
        ledger.journal.sync()?;
        ledger.journal.turn()?;
        let current = ledger.segment();
        if ledger.journal.oldest() == current {
            return Ok(());
        }
        let mut kept = self.kept();
        let oldest = |kept: &Kept| {
            let rows = kept.rows.values().map(|row| row.segment);
            let pending = kept.pending.iter().map(|pending| pending.segment);
            let blocks = kept.trails.blocks.iter().map(|(segment, _)| *segment);
            rows.chain(pending).chain(blocks).min().unwrap_or(current)
        };
        let first = oldest(&kept);
        if current - first.min(current) > Journal::fair(kept.rows.len()) {
            let stale = kept.rows.values_mut().filter(|row| row.segment == first).take(CHUNK);
            let moved: Vec<_> = stale
                .map(|row| {
                    row.segment = current;
                    row.clone()
                })
                .collect();
            drop(kept);
            ledger.write_rows(moved.iter())?;
            kept = self.kept();
        }
        let first = oldest(&kept);
        drop(kept);
        Ok(ledger.journal.forget_before(first)?)
    }

    /// Forgets what is older than the retention: rows one by one, keys by the day.
    fn sweep_ledger(&self, now: Wall) -> Result<(), EvidenceError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        while ledger.archive.sweep(now.unix_seconds())? {}
        let kept = self.retention.max(PRUNE_AFTER);
        let over = |day: u32| {
            let end = Wall::from_unix(Duration::from_secs((u64::from(day) + 1) * 86_400));
            end.plus(kept) <= now
        };
        ledger.lockers.destroy(|_, day| over(day))?;
        let horizon = self.retention + PRUNE_AFTER;
        let horizon = now.since_epoch().checked_sub(horizon).unwrap_or_default().as_secs();
        let (below, _) = ledger.archive.sizes(horizon)?;
        let from = std::mem::replace(&mut self.kept().minimum_index, below);
        let mut public = Vec::new();
        for index in from..below {
            let leaf = self.log.leaf(index)?;
            if leaf[0] == Kind::Boot as u8 || leaf[0] == Kind::Closing as u8 {
                public.push(leaf);
            }
        }
        if below > from { ledger.archive.prune(&public, below) } else { Ok(()) }
    }
}

impl Kept {
    fn is_logged(&mut self, pending: Pending, index: u64) {
        let Some(row) = pending.file.and_then(|file| self.rows.get_mut(&file)) else { return };
        match pending.kind {
            Kind::Acceptance => row.accept_index = Some(index),
            // A note that was written anew meanwhile waits for a leaf of its own.
            Kind::Destruction | Kind::Amendment if row.revision != pending.revision => {}
            Kind::Destruction | Kind::Amendment => {
                row.final_index = Some(index);
                self.done.push(row.file);
            }
            Kind::Boot | Kind::Closing => {}
        }
    }
}

/// Every order is as likely as any other.
fn shuffle(batch: &mut [Pending], entropy: &dyn Entropy) -> Result<(), EntropyError> {
    let mut random = vec![0; batch.len() * 8];
    entropy.fill(&mut random)?;
    let (draws, _) = random.as_chunks::<8>();
    for (at, draw) in draws.iter().enumerate().skip(1) {
        // 2^64 is so much more than a batch that no place is favoured.
        let other = u64::from_be_bytes(*draw) % (at as u64 + 1);
        batch.swap(at, usize::try_from(other).unwrap_or(at));
    }
    Ok(())
}
