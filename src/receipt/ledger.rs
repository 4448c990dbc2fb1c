//! The evidence on disk: journal, archive, and the keys that both are sealed under.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::hmac;

use super::EvidenceError;
use super::archive::Archive;
use super::journal::{Entry, Journal};
use super::lockers::{Lockers, Tag};
use super::row::Row;
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
    /// The tags of tenants that were met. They come from the policy, so they are few.
    pub tags: RwLock<HashMap<TenantId, Tag>>,
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
        let known = self.tags.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied();
        known.unwrap_or_else(|| {
            let tag = self.cut(&[b"tenant\0", tenant.as_bytes()]);
            self.tags.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, tag);
            tag
        })
    }

    /// Where a tenant's suspension is written down.
    pub fn suspension(&self, tenant: TenantId) -> Tag {
        self.cut(&[b"suspension\0", tenant.as_bytes()])
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
        let mut bytes = Vec::with_capacity(512);
        row.encode(&mut bytes);
        self.lockers.seal(self.tag(row.tenant), row.day(), bytes)
    }

    pub fn seal_block(&self, block: &Block) -> Result<Entry, EvidenceError> {
        let sealed = self.lockers.seal(self.tag(block.tenant), block.day, block.bytes.clone())?;
        Ok(Entry::Rows(sealed))
    }

    /// Returns when the rows are written.
    pub fn write_rows<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Result<(), EvidenceError> {
        let mut blocks = Vec::new();
        rows.for_each(|row| Block::add(&mut blocks, row));
        let entries = blocks.iter().map(|block| self.seal_block(block));
        Ok(self.journal.append(&entries.collect::<Result<Vec<_>, _>>()?)?)
    }

    pub fn unseal(&self, sealed: &[u8]) -> Option<Row> {
        let row = Row::decode(&self.lockers.open_sealed(sealed)?)?;
        Some(Row { key: self.key(row.file, row.tenant), ..row })
    }

    /// The rows of a block; what does not open was erased with its key.
    pub fn unseal_block(&self, sealed: &[u8]) -> Vec<Row> {
        let bytes = self.lockers.open_sealed(sealed).unwrap_or_default();
        let rows = rows(&bytes).filter_map(Row::decode);
        rows.map(|row| Row { key: self.key(row.file, row.tenant), ..row }).collect()
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

/// Rows of one tenant and day, to be sealed together: each with its length before it.
pub(super) struct Block {
    tenant: TenantId,
    day: u32,
    bytes: Vec<u8>,
}

/// Longer than this, rows go into another block.
const BLOCK_BYTES: usize = 256 << 10;

impl Block {
    /// Adds a row to the block it belongs in.
    pub fn add(blocks: &mut Vec<Self>, row: &Row) {
        let (tenant, day) = (row.tenant, row.day());
        let fits = |block: &Self| {
            (block.tenant, block.day) == (tenant, day) && block.bytes.len() < BLOCK_BYTES
        };
        let at = blocks.iter().position(fits).unwrap_or_else(|| {
            blocks.push(Self { tenant, day, bytes: Vec::with_capacity(4096) });
            blocks.len() - 1
        });
        let bytes = &mut blocks[at].bytes;
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        row.encode(bytes);
        let length = (bytes.len() - start - 4) as u32;
        bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// The bytes of each row of a block.
fn rows(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (row, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        bytes = rest;
        Some(row)
    })
}

/// The day of a moment, counted from 1970.
pub(super) fn day(at: Wall) -> u32 {
    u32::try_from(at.unix_seconds() / DAY).unwrap_or(u32::MAX)
}
