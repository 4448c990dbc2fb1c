//! Small things sealed whole, in memory: a file's name and type (role 3), a token (role 4).
//!
//! The format is the segment's own, so that a record also opens chunk by chunk.

use std::fmt;

use zeroize::Zeroizing;

use crate::entropy::Entropy;
use crate::file::TenantId;

use super::aead::{CipherError, Implementation};
use super::derive::{InputKey, wipe_record_stack};
use super::header::Header;
use super::layout::{CHUNK_BYTES, COMMITMENT_BYTES, Layout, PREFIX_BYTES, sealed_len};
use super::open::{Listed, OpenError, Opener};
use super::seal::{SealError, Sealer, SegmentEnd};

/// A whole sealed segment in memory. Only this room makes one.
pub struct SealedRecord {
    sealed: Box<[u8]>,
    end: SegmentEnd,
}

impl SealedRecord {
    #[must_use]
    pub const fn as_slice(&self) -> &[u8] {
        &self.sealed
    }

    /// Plaintext length and commitment, for whoever lists the record.
    #[must_use]
    pub const fn end(&self) -> &SegmentEnd {
        &self.end
    }
}

impl fmt::Debug for SealedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedRecord({} B)", self.sealed.len())
    }
}

/// Seals `plaintext` as a segment of its own; `input_key` is gone when this returns.
///
/// # Errors
/// When there is no salt to be had, or the cipher fails.
pub fn seal_record(
    header: &Header,
    tenant: &TenantId,
    input_key: InputKey,
    entropy: &dyn Entropy,
    plaintext: &[u8],
) -> Result<SealedRecord, SealError> {
    let mut sealer = Sealer::with(Implementation::SMALL, header, tenant, input_key, entropy)?;
    // Made to measure: a vector that grew would leave plaintext behind.
    let mut sealed = Vec::with_capacity(sealed_len(plaintext.len() as u64) as usize);
    sealed.extend_from_slice(sealer.prefix());
    let done = seal_chunks(&mut sealer, plaintext, &mut sealed);
    wipe_record_stack();
    done?;
    Ok(SealedRecord { sealed: sealed.into_boxed_slice(), end: sealer.end() })
}

#[inline(never)]
fn seal_chunks(sealer: &mut Sealer, plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), CipherError> {
    let (full, last) = plain.as_chunks::<CHUNK_BYTES>();
    for chunk in full.iter().map(|chunk| &chunk[..]).chain([last]) {
        let at = sealed.len();
        sealed.extend_from_slice(chunk);
        let tag = sealer.seal_chunk(&mut sealed[at..])?;
        sealed.extend_from_slice(&tag);
    }
    Ok(())
}

/// Opens a whole segment whose commitment is known.
///
/// # Errors
/// As [`Opener::new`] and [`Opener::open_run`].
pub fn open_record(
    header: &Header,
    tenant: &TenantId,
    input_key: InputKey,
    commitment: &[u8; COMMITMENT_BYTES],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    // The length is not listed, but bound: a segment cut at a chunk's end has no short last chunk.
    let layout = Layout::of_sealed(sealed.len() as u64).ok_or(OpenError::Damaged)?;
    let (prefix, body) = sealed.split_at(PREFIX_BYTES);
    let listed = Listed { header, commitment, layout };
    let opener = Opener::with(Implementation::SMALL, listed, tenant, input_key, prefix)?;
    let mut plaintext = Zeroizing::new(body.to_vec());
    let opened = opener.open_chunks(0..layout.chunks(), &mut plaintext);
    wipe_record_stack();
    plaintext.truncate(opened?);
    Ok(plaintext)
}
