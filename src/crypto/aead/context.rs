//! AWS-LC's AES-256-GCM with its key schedule in a place of our choice: locked pages.
//!
//! aws-lc-rs allocates a cipher's context on the C heap. AWS-LC itself also sets one up in memory
//! it is given, and for this cipher keeps all of its state inside that (`aead_aes_gcm_init` in
//! e_aes.c writes to `ctx->state` and allocates nothing). So nothing secret is anywhere else.

use std::ptr::null;

use aws_lc_sys::{
    EVP_AEAD_CTX, EVP_AEAD_CTX_init, EVP_AEAD_CTX_open_gather, EVP_AEAD_CTX_seal_scatter,
    EVP_aead_aes_256_gcm,
};

use super::super::layout::TAG_BYTES;
use super::{CipherError, NONCE_BYTES};
use crate::secret::{AllZero, Locked};

/// A keyed cipher of AWS-LC; moving the handle does not move the context.
pub(in crate::crypto) struct Context(Locked<Keyed>);

#[repr(transparent)]
struct Keyed(EVP_AEAD_CTX);

// SAFETY: zeros are a context that is not set up (EVP_AEAD_CTX_zero makes just that), and AWS-LC's
// cleanup of this cipher does nothing: the context owns no memory.
unsafe impl AllZero for Keyed {}

// SAFETY: AWS-LC binds no context to a thread (openssl/aead.h).
unsafe impl Send for Keyed {}
// SAFETY: sealing and opening take a const context; one may be used by several threads at a time
// (openssl/aead.h), and once set up nothing writes to it.
unsafe impl Sync for Keyed {}

impl Context {
    pub(super) fn new(key: &[u8; 32]) -> Result<Self, CipherError> {
        let mut keyed = Locked::<Keyed>::zeroed().ok_or(CipherError::Full)?;
        // SAFETY: the context is a zeroed one that stays at its place; the key is 32 bytes, as this
        // cipher's are; there is no engine.
        let done = unsafe {
            let (key, length) = (key.as_ptr(), key.len());
            EVP_AEAD_CTX_init(
                &raw mut keyed.0,
                EVP_aead_aes_256_gcm(),
                key,
                length,
                TAG_BYTES,
                std::ptr::null_mut(),
            )
        };
        if done == 1 { Ok(Self(keyed)) } else { Err(CipherError::Failed) }
    }

    /// Encrypts `chunk` in place and returns its tag.
    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        chunk: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], CipherError> {
        let (mut tag, mut tag_len) = ([0; TAG_BYTES], 0);
        // SAFETY: the context is set up. In and out are the same `chunk.len()` bytes, which
        // sealing in place allows; at most 16 bytes go to the tag; no other input has a length.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                &raw const self.0.0,
                chunk.as_mut_ptr(),
                tag.as_mut_ptr(),
                &raw mut tag_len,
                tag.len(),
                nonce.as_ptr(),
                nonce.len(),
                chunk.as_ptr(),
                chunk.len(),
                null(),
                0,
                null(),
                0,
            )
        };
        if done == 1 && tag_len == TAG_BYTES { Ok(tag) } else { Err(CipherError::Failed) }
    }

    /// Decrypts `chunk` in place if `tag` verifies.
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        chunk: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), CipherError> {
        // SAFETY: the context is set up. In and out are the same `chunk.len()` bytes, which opening
        // in place allows; the tag is 16 bytes; there are no additional data.
        let done = unsafe {
            EVP_AEAD_CTX_open_gather(
                &raw const self.0.0,
                chunk.as_mut_ptr(),
                nonce.as_ptr(),
                nonce.len(),
                chunk.as_ptr(),
                chunk.len(),
                tag.as_ptr(),
                tag.len(),
                null(),
                0,
            )
        };
        if done == 1 { Ok(()) } else { Err(CipherError::Failed) }
    }
}
