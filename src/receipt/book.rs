//! The rows, as requests meet them: what is accepted, changed, ended, and looked up.

use std::sync::{Arc, PoisonError};

use super::commitment::commit;
use super::ending::Ending;
use super::note::{BootNote, Kind};
use super::row::Row;
use super::{Acceptance, Access, Evidence, EvidenceError, MOST, Pending, Receipt};
use crate::clock::Wall;
use crate::entropy::{EntropyError, random};
use crate::file::{FileId, TenantId};
use crate::keyring::KeysDestroyed;
use crate::store::Answer;

impl Evidence {
    /// Records an acceptance: from here on the file has a receipt. Before anybody is told of it,
    /// [`Evidence::acknowledge`] it.
    ///
    /// # Errors
    /// When no salt or key can be drawn; the file must then not be accepted.
    pub fn accept(&self, said: Acceptance) -> Result<(), EvidenceError> {
        let mut row = self.new_row(said, self.present_run()?)?;
        let boot = self.boot_note(row.run).ok_or(EvidenceError::Stopped)?;
        let file = row.file;
        row.leaf = (self.access != Access::Off).then(|| row.acceptance_leaf(&boot));
        row.segment = self.segment();
        let mut kept = self.kept();
        if self.ledger.is_none()
            && kept.rows.len() >= MOST
            && let Some((_, oldest)) = kept.over.pop_front()
        {
            kept.rows.remove(&oldest);
        }
        kept.buckets.accepted(&row);
        let (kind, segment) = (Kind::Acceptance, row.segment);
        let pending = |leaf| Pending { leaf, file: Some(file), kind, revision: 0, segment };
        kept.pending.extend(row.leaf.map(pending));
        kept.rows.insert(file, row);
        // Before the lock is let go: whoever finds its leaf waiting finds it in the queue.
        self.is_new(file);
        Ok(())
    }

    fn new_row(&self, said: Acceptance, run: u32) -> Result<Row, EntropyError> {
        let salt = random::<32>(&*self.entropy)?;
        let key = self.ledger.as_ref().map(|ledger| ledger.key(said.file, said.tenant));
        Ok(Row {
            file: said.file,
            tenant: said.tenant,
            region: said.region,
            accepted_at: said.accepted_at,
            first_expires_at: said.expires_at,
            expires_at: said.expires_at,
            epoch: said.epoch,
            keyring: said.keyring,
            first_blobs: u8::try_from(said.blobs.len()).unwrap_or(u8::MAX),
            blobs: said.blobs.into_iter().map(|store| (store, Answer::Pending)).collect(),
            first_handed: u8::try_from(said.handed_to.len()).unwrap_or(u8::MAX),
            handed_to: said.handed_to,
            salt,
            commitment: commit(&salt, said.file, &said.commitments),
            run,
            accept_index: None,
            end: None,
            end_run: 0,
            signature: None,
            signed_run: 0,
            final_index: None,
            revision: 0,
            version: 0,
            key: key.unwrap_or_default(),
            leaf: None,
            is_lost: false,
            segment: 0,
            over: None,
        })
    }

    /// All bytes of a file that was accepted before them are sealed: what they commit to, and where
    /// they are.
    pub fn complete(&self, file: FileId, commitments: &[[u8; 32]], blobs: &[&'static str]) {
        self.change(file, |row| {
            let live = row.end.is_none();
            if live {
                row.commitment = commit(&row.salt, file, commitments);
                row.blobs = blobs.iter().map(|store| (*store, Answer::Pending)).collect();
            }
            live
        });
    }

    /// A life was shortened: the receipt says the earlier end.
    pub fn shorten(&self, file: FileId, expires_at: Wall) {
        self.change(file, |row| {
            let sooner = row.end.is_none() && expires_at < row.expires_at;
            if sooner {
                row.expires_at = expires_at;
            }
            sooner
        });
    }

    /// Processors are about to be handed a live file's plaintext: its receipt names them from here
    /// on, a crash notwithstanding.
    pub fn hand(&self, file: FileId, processors: &[String]) {
        self.change(file, |row| {
            let known = row.handed_to.len();
            for name in processors.iter().filter(|_| row.end.is_none()) {
                if !row.handed_to.contains(name) {
                    row.handed_to.push(name.clone());
                }
            }
            row.handed_to.len() > known
        });
        self.write_out();
    }

    /// Makes the receipt final and returns it. Only the first proof counts.
    pub fn finish(&self, proof: &Arc<KeysDestroyed>) -> Option<Receipt> {
        let now = self.clock.now().boot;
        let file = proof.file();
        let mut kept = self.kept();
        let row = kept.rows.get_mut(&file)?;
        let first = row.end.is_none();
        if first {
            row.end = Some(Ending::from(&**proof));
            (row.end_run, row.signed_run) = (self.run(), self.run());
            row.over = Some(now);
            row.version += 1;
        }
        let row = row.clone();
        if first {
            kept.buckets.destroyed(&row);
            kept.over.push_back((now, file));
            kept.unsigned.push_back(file);
            self.has_changed(file);
        }
        drop(kept);
        self.write_if_many();
        Some(self.shown(&row))
    }

    /// Notes what the store answered to the delete of the file's `index`th blob. It is written down
    /// when the final note is signed.
    pub fn answered(&self, file: FileId, index: usize, answer: Answer) {
        let mut kept = self.kept();
        let Some(row) = kept.rows.get_mut(&file) else { return };
        let Some(blob) = row.blobs.get_mut(index).filter(|blob| blob.1 != answer) else { return };
        blob.1 = answer;
        row.version += 1;
        if row.signature.take().is_some() {
            // The note that was signed said less: it is followed by another.
            row.revision += 1;
            row.signed_run = self.run();
            kept.unsigned.push_back(file);
        }
    }

    /// A tenant's own receipt; another tenant's and an unknown one look the same.
    #[must_use]
    pub fn get(&self, file: FileId, tenant: TenantId) -> Option<Receipt> {
        self.find(file, tenant).map(|row| self.shown(&row))
    }

    pub(super) fn find(&self, file: FileId, tenant: TenantId) -> Option<Row> {
        let kept = self.kept();
        if let Some(row) = kept.rows.get(&file) {
            let over = row.over.map(|over| self.clock.now().boot.since(over));
            let there = row.tenant == tenant && over.is_none_or(|age| age < self.retention);
            return there.then(|| row.clone());
        }
        drop(kept);
        let row = self.ledger.as_ref()?.find(file, tenant)?;
        let end = row.end.as_ref()?.at();
        (end.plus(self.retention) > self.clock.now().wall).then_some(row)
    }

    fn shown(&self, row: &Row) -> Receipt {
        let run = if row.end.is_some() { row.signed_run } else { row.run };
        match self.boot_note(run) {
            Some(boot) => row.receipt(&boot.build, &boot.limits),
            None => row.receipt("", &[]),
        }
    }

    pub(super) fn boot_note(&self, run: u32) -> Option<Arc<BootNote>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }

    /// Changes a row, and has it written down unless nothing has changed.
    fn change(&self, file: FileId, change: impl FnOnce(&mut Row) -> bool) {
        let mut kept = self.kept();
        let Some(row) = kept.rows.get_mut(&file) else { return };
        if change(row) {
            row.version += 1;
            self.has_changed(file);
        }
    }

    /// Forgets what is kept in memory alone and older than the retention.
    pub fn sweep(&self) {
        self.sweep_trails();
        if self.ledger.is_some() && !self.retention.is_zero() {
            // The archive forgets receipts, with the checkpoint.
            return;
        }
        let now = self.clock.now().boot;
        let mut kept = self.kept();
        while let Some((over, file)) = kept.over.front().copied()
            && now.since(over) >= self.retention
            && kept.rows.get(&file).is_none_or(|row| row.signature.is_some())
        {
            kept.over.pop_front();
            kept.rows.remove(&file);
        }
    }

    /// Acceptances without a destruction ten minutes past their deadline: must be 0.
    #[must_use]
    pub fn overdue(&self) -> u64 {
        self.kept().buckets.overdue(self.clock.now().wall)
    }
}
