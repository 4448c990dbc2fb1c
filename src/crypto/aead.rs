//! AES-256-GCM over one chunk (NIST SP 800-38D), from either of two implementations.
//!
//! Both agree byte for byte. AWS-LC is several times faster with wide vector units and does the
//! bulk; the aes-gcm crate does records and tokens.

use super::layout::TAG_BYTES;
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use context::Context;

mod context;

/// Length of a nonce, bytes.
pub(super) const NONCE_BYTES: usize = 12;

/// Whose AES-256-GCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// AWS-LC: C and assembly.
    AwsLc,
    /// The aes-gcm crate: Rust.
    RustCrypto,
}

impl Implementation {
    /// For the bytes of files.
    pub const BULK: Self = Self::AwsLc;
    /// For records and tokens.
    pub const SMALL: Self = Self::RustCrypto;
}

/// No cipher, or none for this chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// No more memory can be locked; an unlocked page is never taken instead.
    #[error("the locked pages for running streams are full")]
    Full,
    /// The implementation refused a key or a chunk it must take: a bug.
    #[error("AES-256-GCM failed")]
    Failed,
}

/// A keyed AES-256-GCM. Dropping it zeroes the expanded key.
///
/// AWS-LC's, which last as long as a stream runs, lie in locked pages. The aes-gcm crate's are for
/// records and tokens, lie on the ordinary heap for microseconds, and are zeroed by that crate.
pub(super) enum Cipher {
    AwsLc(Context),
    // On the heap: a moved value would leave round keys behind on the stack.
    RustCrypto(Box<Aes256Gcm>),
}

impl Cipher {
    pub(super) fn new(of: Implementation, key: &[u8; 32]) -> Result<Self, CipherError> {
        Ok(match of {
            Implementation::AwsLc => Self::AwsLc(Context::new(key)?),
            Implementation::RustCrypto => Self::RustCrypto(Box::new(Aes256Gcm::new(key.into()))),
        })
    }

    /// Encrypts `chunk` in place and returns its tag. A nonce must never come twice.
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_BYTES],
        chunk: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], CipherError> {
        match self {
            Self::AwsLc(context) => context.seal(&nonce, chunk),
            Self::RustCrypto(key) => key
                .encrypt_inout_detached(&nonce.into(), &[], chunk.into())
                .map(Into::into)
                .map_err(|_| CipherError::Failed),
        }
    }

    /// Decrypts `chunk` in place if `tag` verifies. After an error `chunk` holds nothing of use
    /// and must be wiped.
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        chunk: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), CipherError> {
        match self {
            Self::AwsLc(context) => context.open(&nonce, chunk, tag),
            Self::RustCrypto(key) => key
                .decrypt_inout_detached(&nonce.into(), &[], chunk.into(), tag.into())
                .map_err(|_| CipherError::Failed),
        }
    }
}
