//! Opening: nothing is decrypted before the segment is the listed one, and nothing is released
//! before its tag verified.

use std::ops::Range;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::body::{BodyError, Buffer};
use crate::file::TenantId;

use super::aead::{CipherError, Implementation};
use super::derive::{InputKey, SegmentKeys, wipe_cipher_stack};
use super::header::{HEADER_BYTES, Header};
use super::layout::{COMMITMENT_BYTES, Layout, PREFIX_BYTES, SALT_BYTES, TAG_BYTES};

/// Why a segment does not open. No more is said than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The stored header is not the one this file's segment must have.
    #[error("not this segment's header")]
    Header,
    /// Not the listed segment, or not with this key and tenant.
    #[error("not the listed commitment")]
    Commitment,
    /// A chunk did not verify, or the length is not the listed one.
    #[error("a sealed chunk did not verify")]
    Damaged,
    /// No more memory can be locked for the cipher.
    #[error("the locked pages for running streams are full")]
    Full,
}

impl From<OpenError> for BodyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Header | OpenError::Commitment | OpenError::Damaged => Self::Damaged,
            OpenError::Full => Self::Overloaded,
        }
    }
}

/// A segment that was found to be the listed one. Opens its chunks in any order.
pub struct Opener {
    pub(super) keys: SegmentKeys,
    pub(super) layout: Layout,
}

impl Opener {
    /// Checks a segment by its stored first 120 bytes; `input_key` is gone when this returns.
    ///
    /// `header`, `commitment` and `plain_len` (bytes) are what the file's record lists, never what
    /// was stored with the segment.
    ///
    /// # Errors
    /// [`OpenError::Header`] when the stored header differs or is cut short,
    /// [`OpenError::Commitment`] when this is another segment or the keys are another's.
    pub fn new(
        header: &Header,
        tenant: &TenantId,
        input_key: InputKey,
        commitment: &[u8; COMMITMENT_BYTES],
        plain_len: u64,
        prefix: &[u8],
    ) -> Result<Self, OpenError> {
        let listed = Listed { header, commitment, layout: Layout::of(plain_len) };
        Self::with(Implementation::BULK, listed, tenant, input_key, prefix)
    }

    /// As [`Opener::new`], with a given implementation of the cipher.
    ///
    /// # Errors
    /// As there.
    pub fn with(
        of: Implementation,
        listed: Listed<'_>,
        tenant: &TenantId,
        input_key: InputKey,
        prefix: &[u8],
    ) -> Result<Self, OpenError> {
        let prefix: &[u8; PREFIX_BYTES] = prefix.try_into().map_err(|_| OpenError::Header)?;
        let (stored_header, rest) = prefix.split_at(HEADER_BYTES);
        let (salt, stored_commitment) = rest.split_at(SALT_BYTES);
        let header = listed.header.to_bytes();
        if stored_header != header {
            return Err(OpenError::Header);
        }
        if !bool::from(stored_commitment.ct_eq(listed.commitment)) {
            return Err(OpenError::Commitment);
        }
        let mut own = [0; SALT_BYTES];
        own.copy_from_slice(salt);
        let keys = SegmentKeys::derive(input_key, &own, &header, tenant, of);
        let keys = keys.map_err(|error| match error {
            CipherError::Full => OpenError::Full,
            CipherError::Failed => OpenError::Commitment,
        })?;
        if !bool::from(keys.commitment.ct_eq(listed.commitment)) {
            return Err(OpenError::Commitment);
        }
        Ok(Self { keys, layout: listed.layout })
    }

    /// Where the segment's chunks lie.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Opens `chunks` in place: `buffer` holds exactly their stored bytes before, and exactly their
    /// plaintext after.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when one of them does not verify, is missing or has bytes after it;
    /// the whole buffer is then wiped and empty.
    pub fn open_run(&self, chunks: Range<u64>, buffer: &mut Buffer) -> Result<(), OpenError> {
        let opened = self.open_chunks(chunks, buffer.as_mut_slice());
        // A buffer wipes what it gives up.
        buffer.resize(opened.unwrap_or(0));
        opened.map(drop)
    }

    /// As [`Opener::open_run`] in a slice; returns how much plaintext it starts with, bytes. After
    /// an error the slice is zero.
    pub(super) fn open_chunks(
        &self,
        chunks: Range<u64>,
        sealed: &mut [u8],
    ) -> Result<usize, OpenError> {
        let opened = self.try_open_chunks(chunks, sealed);
        wipe_cipher_stack();
        if opened.is_err() {
            sealed.zeroize();
        }
        opened
    }

    fn try_open_chunks(&self, chunks: Range<u64>, sealed: &mut [u8]) -> Result<usize, OpenError> {
        let stored = self.layout.stored(&chunks).ok_or(OpenError::Damaged)?;
        if sealed.len() as u64 != stored.end - stored.start {
            return Err(OpenError::Damaged);
        }
        let (mut from, mut to) = (0, 0);
        for index in chunks {
            let len = self.layout.plain_of(index);
            let (chunk, rest) = sealed[from..].split_at_mut(len);
            let mut tag = [0; TAG_BYTES];
            tag.copy_from_slice(&rest[..TAG_BYTES]);
            let nonce = self.keys.nonce(index);
            self.keys.cipher.open(nonce, chunk, &tag).map_err(|_| OpenError::Damaged)?;
            // Closes the gap the tags leave. The chunk is still in the first-level cache.
            if from != to {
                sealed.copy_within(from..from + len, to);
            }
            from += len + TAG_BYTES;
            to += len;
        }
        Ok(to)
    }
}

/// What the file's record says of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub header: &'a Header,
    pub commitment: &'a [u8; COMMITMENT_BYTES],
    pub layout: Layout,
}
