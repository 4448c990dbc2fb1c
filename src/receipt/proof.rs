//! What others are shown: signed notes, promises, proofs of inclusion, and the log itself.

use data_encoding::BASE64;

use super::checkpoint::PRUNE_AFTER;
use super::note::{self, BootNote, Kind};
use super::pen::join;
use super::row::Row;
use super::tree::LeafBytes;
use super::{Access, Evidence, MERGE_WITHIN};
use crate::file::{FileId, TenantId};

/// A note, and its way from a leaf to a checkpoint: what `dayfly verify` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The signed note.
    pub note: String,
    /// The leaf's first byte.
    pub kind: u8,
    pub blind: [u8; 32],
    pub index: u64,
    /// From the leaf's sibling up (RFC 6962, section 2.1.1).
    pub path: Vec<[u8; 32]>,
    pub checkpoint: String,
}

/// A note of the gateway's own, in the log for everybody.
pub type PublicNote = Proof;

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoProof {
    /// No such receipt, or no log.
    Unknown,
    /// The next checkpoint will have it: about this many seconds.
    NotYet(u32),
}

impl Evidence {
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// The receipt as a signed note.
    #[must_use]
    pub fn note(&self, file: FileId, tenant: TenantId) -> Option<String> {
        let row = self.signed_row(file, tenant)?;
        self.note_of(&row)
    }

    /// The row; if it is final, with its signature.
    fn signed_row(&self, file: FileId, tenant: TenantId) -> Option<Row> {
        let mut row = self.find(file, tenant)?;
        // An answer of a store may come between: then there is another text to sign.
        for _ in 0..4 {
            if row.end.is_none() || row.signature.is_some() {
                return Some(row);
            }
            match self.sign_now(row) {
                Some(signed) => return Some(signed),
                None => row = self.find(file, tenant)?,
            }
        }
        None
    }

    fn note_of(&self, row: &Row) -> Option<String> {
        let signed =
            |boot: &BootNote, signature| join(&note::destruction(row, boot)?, &boot.pen, signature);
        if row.end.is_some() {
            return signed(&*self.boot_note(row.signed_run)?, row.signature.as_ref()?);
        }
        let text = note::acceptance(row, &*self.boot_note(row.run)?);
        // A pen of another run cannot say it: the file's keys were destroyed with its own.
        let pen = self.pen();
        if row.run == self.run() { pen.as_ref()?.sign_note(&text) } else { None }
    }

    /// The receipt's place in the log: that of its final note once there is one.
    ///
    /// # Errors
    /// When there is no such receipt or no log, or the next checkpoint has yet to come.
    pub fn proof(&self, file: FileId, tenant: TenantId) -> Result<Proof, NoProof> {
        if self.access == Access::Off {
            return Err(NoProof::Unknown);
        }
        let row = self.signed_row(file, tenant).ok_or(NoProof::Unknown)?;
        let later = u32::try_from(self.next_checkpoint().as_secs()).unwrap_or(60);
        let (kind, revision, index) = match row.end {
            None => (Kind::Acceptance, 0, row.accept_index),
            Some(_) => (row.final_kind(), row.revision, row.final_index),
        };
        let index = index.ok_or(NoProof::NotYet(later))?;
        let note = self.note_of(&row).ok_or(NoProof::Unknown)?;
        let blind = row.blind(kind as u8, revision);
        self.proven(note, kind as u8, blind, index).ok_or(NoProof::NotYet(later))
    }

    fn proven(&self, note: String, kind: u8, blind: [u8; 32], index: u64) -> Option<Proof> {
        let published = self.log.published();
        let path = self.log.path(&published, index)?.into_iter().map(|hash| hash.0).collect();
        Some(Proof { note, kind, blind, index, path, checkpoint: published.note.clone() })
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn checkpoint_note(&self) -> String {
        self.log.published().note.clone()
    }

    /// The log key's public half, a line.
    #[must_use]
    pub fn log_key(&self) -> String {
        self.log.key().verifier() + "\n"
    }

    /// A tile of hashes, or of entries if `level` is `None`, of the published tree.
    #[must_use]
    pub fn tile(&self, level: Option<u8>, index: u64, width: u32) -> Option<Vec<u8>> {
        let Some(level) = level else {
            let end = index.checked_mul(256)?.checked_add(256)?;
            let pruned = end <= self.kept().minimum_index;
            return if pruned { None } else { self.log.entries(index, width) };
        };
        self.log.tile(level, index, width)
    }

    /// The note behind a boot or closing leaf.
    #[must_use]
    pub fn public_note_at(&self, index: u64) -> Option<PublicNote> {
        let published = self.log.published();
        let leaf = (index < published.size).then(|| self.log.leaf(index).ok())??;
        let (blind, note) = self.public_note_of(&leaf)?;
        self.proven(note, leaf[0], blind, index)
    }

    fn public_note_of(&self, leaf: &LeafBytes) -> Option<([u8; 32], String)> {
        match &self.ledger {
            Some(ledger) => ledger.archive.note(leaf).ok()?,
            None => self.kept().notes.get(leaf).cloned(),
        }
    }

    /// What the log keeps and for how long, for whoever watches it.
    #[must_use]
    pub fn log_policy(&self) -> String {
        let access = match self.access {
            Access::Public => "public",
            Access::Tenants => "tenants",
            Access::Off => "off",
        };
        let seconds = (self.retention + PRUNE_AFTER).as_secs();
        format!(
            "dayfly/v1 log policy\norigin {}\naccess {access}\ncheckpoint-every 60s\n\
             merge-within {}s\nentries-kept {seconds}s\nhashes-kept forever\nminimum-index {}\n\
             leaf-bytes 33\nkinds 0 boot, 1 acceptance, 2 destruction, 3 closing, 4 amendment\n",
            self.log.origin(),
            MERGE_WITHIN.as_secs(),
            self.kept().minimum_index,
        )
    }
}

impl Proof {
    /// As JSON fields: hashes in base64, as notes have them.
    #[must_use]
    pub fn base64(&self) -> (String, Vec<String>) {
        let path = self.path.iter().map(|hash| BASE64.encode(hash)).collect();
        (BASE64.encode(&self.blind), path)
    }
}
