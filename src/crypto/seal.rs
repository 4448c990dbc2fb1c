//! Sealing without I/O: plaintext is copied once into its place in a buffer and sealed there.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::body::{BodyError, Buffer};
use crate::entropy::{Entropy, EntropyError, random};
use crate::file::TenantId;

use super::aead::{CipherError, Implementation};
use super::derive::{InputKey, SegmentKeys, wipe_cipher_stack};
use super::header::{HEADER_BYTES, Header};
use super::layout::{
    CHUNK_BYTES, COMMITMENT_BYTES, PREFIX_BYTES, RUN_CHUNKS, SALT_BYTES, TAG_BYTES,
};

/// Why a segment cannot be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No salt to be had: the request is refused.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

impl From<SealError> for BodyError {
    fn from(error: SealError) -> Self {
        match error {
            // Without a salt the request is refused; as everywhere else, for the moment.
            SealError::Cipher(CipherError::Full) | SealError::Entropy(_) => Self::Overloaded,
            SealError::Cipher(CipherError::Failed) => Self::Cut,
        }
    }
}

/// The proof that a segment was sealed to its last chunk. Only sealing makes one, and only once.
#[derive(Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    plain_len: u64,
    commitment: [u8; COMMITMENT_BYTES],
}

impl SegmentEnd {
    /// Bytes of plaintext in the segment.
    #[must_use]
    pub const fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// What the record lists, so that no other segment opens in this one's place.
    #[must_use]
    pub const fn commitment(&self) -> &[u8; COMMITMENT_BYTES] {
        &self.commitment
    }
}

/// Sealed bytes, in the order they are stored. Only this room makes them.
pub struct SealedRun {
    sealed: Buffer,
    end: Option<SegmentEnd>,
}

impl SealedRun {
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.sealed.as_slice()
    }

    /// Whether the segment ends with this run.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.end.is_some()
    }

    /// Takes the proof that the segment is complete; only its last run has one.
    #[must_use]
    pub const fn take_end(&mut self) -> Option<SegmentEnd> {
        self.end.take()
    }

    /// Gives back the room that stayed empty, for a run that will be kept in memory.
    pub fn shrink(&mut self) {
        self.sealed.shrink();
    }
}

impl AsRef<[u8]> for SealedRun {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for SealedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedRun({} B, {:?})", self.sealed.len(), self.end)
    }
}

/// One segment about to be sealed: its keys, and how far it is.
pub struct Sealer {
    keys: SegmentKeys,
    prefix: [u8; PREFIX_BYTES],
    next_chunk: u64,
    plain_len: u64,
}

impl Sealer {
    /// Begins a segment with a new salt; `input_key` is gone when this returns.
    ///
    /// # Errors
    /// When there is no salt to be had, or the cipher cannot be set up.
    pub fn new(
        header: &Header,
        tenant: &TenantId,
        input_key: InputKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, SealError> {
        Self::with(Implementation::BULK, header, tenant, input_key, entropy)
    }

    /// As [`Sealer::new`], with a given implementation of the cipher.
    ///
    /// # Errors
    /// As there.
    pub fn with(
        of: Implementation,
        header: &Header,
        tenant: &TenantId,
        input_key: InputKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, SealError> {
        let (header, salt) = (header.to_bytes(), random::<SALT_BYTES>(entropy)?);
        let keys = SegmentKeys::derive(input_key, &salt, &header, tenant, of)?;
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..HEADER_BYTES].copy_from_slice(&header);
        prefix[HEADER_BYTES..HEADER_BYTES + SALT_BYTES].copy_from_slice(&salt);
        prefix[HEADER_BYTES + SALT_BYTES..].copy_from_slice(&keys.commitment);
        Ok(Self { keys, prefix, next_chunk: 0, plain_len: 0 })
    }

    /// Header, salt and commitment, which come before the first chunk.
    pub(super) const fn prefix(&self) -> &[u8; PREFIX_BYTES] {
        &self.prefix
    }

    /// Plaintext bytes sealed so far.
    pub(super) const fn plain_len(&self) -> u64 {
        self.plain_len
    }

    /// Whether the prefix still has to be written.
    pub(super) const fn is_new(&self) -> bool {
        self.next_chunk == 0
    }

    /// Seals the next chunk in place and returns its tag. A short chunk is the last one.
    pub(super) fn seal_chunk(&mut self, chunk: &mut [u8]) -> Result<[u8; TAG_BYTES], CipherError> {
        debug_assert!(chunk.len() <= CHUNK_BYTES, "a chunk never outgrows the format");
        let tag = self.keys.cipher.seal(self.keys.nonce(self.next_chunk), chunk)?;
        self.next_chunk += 1;
        self.plain_len += chunk.len() as u64;
        Ok(tag)
    }

    /// After the last chunk: the proof, and the end of the keys.
    pub(super) fn end(self) -> SegmentEnd {
        SegmentEnd { plain_len: self.plain_len, commitment: self.keys.commitment }
    }
}

/// A run that is being filled. What is in it may still be plaintext: it never leaves unsealed.
pub(super) struct OpenRun {
    buffer: Buffer,
    /// Where the chunk begins that is not sealed yet.
    chunk_at: usize,
    chunks: usize,
}

/// Why filling stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// The frame is used up.
    Frame,
    /// The run holds as many chunks as a run may.
    Run,
    /// The buffer was made for fewer bytes than came.
    Buffer,
}

impl OpenRun {
    /// Begins a run in an empty buffer, with the prefix if it is the segment's first.
    pub(super) fn begin(mut buffer: Buffer, sealer: &Sealer) -> Self {
        if sealer.is_new() {
            buffer.append(sealer.prefix());
        }
        Self { chunk_at: buffer.len(), buffer, chunks: 0 }
    }

    /// Goes on in a larger buffer.
    pub(super) fn moved_to(self, mut buffer: Buffer) -> Self {
        buffer.append(self.buffer.as_slice());
        Self { buffer, ..self }
    }

    /// Plaintext bytes of the chunk that is not sealed yet.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len() - self.chunk_at
    }

    /// Takes from `frame` what fits, sealing each chunk as it gets full. A full chunk is never the
    /// last one, so nothing has to be known of what follows.
    pub(super) fn fill(
        &mut self,
        sealer: &mut Sealer,
        frame: &mut Bytes,
    ) -> Result<Filled, CipherError> {
        let filled = self.take(sealer, frame);
        wipe_cipher_stack();
        filled
    }

    fn take(&mut self, sealer: &mut Sealer, frame: &mut Bytes) -> Result<Filled, CipherError> {
        while !frame.is_empty() {
            if self.chunks == RUN_CHUNKS {
                return Ok(Filled::Run);
            }
            let room = self.buffer.room().saturating_sub(TAG_BYTES);
            let fits = frame.len().min(CHUNK_BYTES - self.pending()).min(room);
            if fits == 0 {
                return Ok(Filled::Buffer);
            }
            self.buffer.append(&frame[..fits]);
            frame.advance(fits);
            if self.pending() == CHUNK_BYTES {
                self.seal_chunk(sealer)?;
            }
        }
        Ok(if self.chunks == RUN_CHUNKS { Filled::Run } else { Filled::Frame })
    }

    fn seal_chunk(&mut self, sealer: &mut Sealer) -> Result<(), CipherError> {
        let tag = sealer.seal_chunk(&mut self.buffer.as_mut_slice()[self.chunk_at..])?;
        let placed = self.buffer.append(&tag);
        assert_eq!(placed, TAG_BYTES, "room for a tag is kept free");
        self.chunk_at = self.buffer.len();
        self.chunks += 1;
        Ok(())
    }

    /// A full run, with more to follow.
    pub(super) fn close(mut self) -> SealedRun {
        assert_eq!(self.pending(), 0, "plaintext never leaves");
        self.buffer.mark_sealed();
        SealedRun { sealed: self.buffer, end: None }
    }

    /// The last run: seals the chunk that was begun, be it empty.
    pub(super) fn finish(mut self, mut sealer: Sealer) -> Result<SealedRun, CipherError> {
        let sealed = self.seal_chunk(&mut sealer);
        wipe_cipher_stack();
        sealed?;
        self.buffer.mark_sealed();
        Ok(SealedRun { sealed: self.buffer, end: Some(sealer.end()) })
    }
}
