//! The 64 bytes in the clear before a segment (VAULT.md). Bound into the keys, so no edit survives.

use crate::file::{Epoch, FileId, Role};
use crate::region::Region;

/// Length of a segment's header, bytes.
pub const HEADER_BYTES: usize = 64;

/// What a segment is, as its reader expects it.
///
/// There is no parser: whoever opens a segment builds the header from its own table and compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub role: Role,
    pub region: Region,
    pub file: FileId,
    pub epoch: Epoch,
    /// The deadline it was sealed with, unix seconds.
    pub expires_at: u64,
    /// Position of the segment in its file, from 0.
    pub index: u32,
}

impl Header {
    /// The header as it is stored and bound.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(b"DAY1");
        bytes[4] = SUITE;
        bytes[5] = self.role as u8;
        bytes[8..24].copy_from_slice(self.region.padded());
        bytes[24..40].copy_from_slice(self.file.as_bytes());
        bytes[40..48].copy_from_slice(&self.epoch.code().to_be_bytes());
        bytes[48..56].copy_from_slice(&self.expires_at.to_be_bytes());
        bytes[56..60].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }
}

/// AES-256-GCM with HKDF-SHA-512, the only suite there is.
const SUITE: u8 = 0x01;
