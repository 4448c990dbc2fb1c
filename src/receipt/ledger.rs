//! The evidence on disk: journal, archive, and the keys that both are sealed under.

use aws_lc_rs::hmac;

use super::EvidenceError;
use super::archive::Archive;
use super::journal::{Entry, Journal};
use super::lockers::{Lockers, Tag};
use super::row::Row;
use super::tree::LeafBytes;
use crate::clock::Wall;
use crate::file::{FileId, TenantId};

const DAY: u64 = 86_400;

pub(super) struct Ledger {
    pub journal: Journal,
    pub archive: Archive,
    pub lockers: Lockers,
    /// Where the sign of life is written.
    pub alive: std::fs::File,
    /// Makes keys of rows and tags of tenants: a file's id and a tenant's name are nowhere in the
    /// clear, and a guess at either cannot be checked.
    pub index: hmac::Key,
}

impl Ledger {
    pub fn segment(&self) -> u32 {
        self.journal.segment()
    }

    /// Writes the sign of life: unix milliseconds.
    pub fn beat(&self, now: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.alive, &now.to_be_bytes(), 0)
    }

    /// Where a file's row is: only its tenant finds it.
    pub fn key(&self, file: FileId, tenant: TenantId) -> [u8; 16] {
        self.cut(&[b"row\0", tenant.as_bytes(), file.as_bytes()])
    }

    pub fn tag(&self, tenant: TenantId) -> Tag {
        self.cut(&[b"tenant\0", tenant.as_bytes()])
    }

    fn cut(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = hmac::Context::with_key(&self.index);
        parts.iter().for_each(|part| mac.update(part));
        let mut cut = [0; 16];
        cut.copy_from_slice(&mac.sign().as_ref()[..16]);
        cut
    }

    /// A row, sealed under its tenant's key of the day it speaks of.
    pub fn seal(&self, row: &Row) -> Result<Vec<u8>, EvidenceError> {
        let of = row.end.as_ref().map_or(row.accepted_at, super::Ending::at);
        self.lockers.seal(self.tag(row.tenant), day(of), row.encode())
    }

    pub fn entry(&self, row: &Row) -> Result<Entry, EvidenceError> {
        Ok(Entry::Row { key: self.key(row.file, row.tenant), sealed: self.seal(row)? })
    }

    /// Returns when the row is written.
    pub fn write_row(&self, row: &Row) -> Result<(), EvidenceError> {
        Ok(self.journal.append(&[self.entry(row)?])?)
    }

    pub fn write_leaf(&self, leaf: Option<LeafBytes>) -> Result<(), EvidenceError> {
        leaf.map_or(Ok(()), |leaf| Ok(self.journal.append(&[Entry::Leaf(leaf)])?))
    }

    pub fn unseal(&self, sealed: &[u8]) -> Option<Row> {
        Row::decode(&self.lockers.open_sealed(sealed)?)
    }

    /// A filed row.
    pub fn find(&self, file: FileId, tenant: TenantId) -> Option<Row> {
        let sealed = match self.archive.row(&self.key(file, tenant)) {
            Ok(sealed) => sealed?,
            Err(error) => {
                tracing::error!("a receipt cannot be read: {error}");
                return None;
            }
        };
        self.unseal(&sealed).filter(|row| row.file == file && row.tenant == tenant)
    }
}

/// The day of a moment, counted from 1970.
pub(super) fn day(at: Wall) -> u32 {
    u32::try_from(at.unix_seconds() / DAY).unwrap_or(u32::MAX)
}
