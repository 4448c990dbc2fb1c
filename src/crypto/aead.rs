//! AES-256-GCM over one chunk (NIST SP 800-38D), from either of two implementations.
//!
//! Both agree byte for byte. aws-lc-rs is several times faster with wide vector units and does the
//! bulk; the aes-gcm crate does records and tokens.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::layout::TAG_BYTES;

/// Length of a nonce, bytes.
pub(super) const NONCE_BYTES: usize = 12;

/// Whose AES-256-GCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The aws-lc-rs crate: AWS-LC, C and assembly.
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

/// The implementation refused a key or a chunk it must take: out of memory, or a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("AES-256-GCM failed")]
pub struct CipherError;

/// A keyed AES-256-GCM.
///
/// Dropping it zeroes the expanded key: the aes-gcm crate by its `zeroize` feature, AWS-LC because
/// its `OPENSSL_free` cleanses each block it frees. AWS-LC's context lies on the ordinary heap,
/// which is undumpable with the whole process but not locked.
pub(super) enum Cipher {
    AwsLc(LessSafeKey),
    // On the heap: a moved value would leave round keys behind on the stack.
    RustCrypto(Box<Aes256Gcm>),
}

impl Cipher {
    pub(super) fn new(of: Implementation, key: &[u8; 32]) -> Result<Self, CipherError> {
        Ok(match of {
            Implementation::AwsLc => {
                let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CipherError)?;
                Self::AwsLc(LessSafeKey::new(key))
            }
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
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), chunk);
                let tag = tag.map_err(|_| CipherError)?;
                tag.as_ref().try_into().map_err(|_| CipherError)
            }
            Self::RustCrypto(key) => key
                .encrypt_inout_detached(&nonce.into(), &[], chunk.into())
                .map(Into::into)
                .map_err(|_| CipherError),
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
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let opened = key.open_in_place_separate_tag(nonce, Aad::empty(), tag, chunk);
                opened.map(drop).map_err(|_| CipherError)
            }
            Self::RustCrypto(key) => key
                .decrypt_inout_detached(&nonce.into(), &[], chunk.into(), tag.into())
                .map_err(|_| CipherError),
        }
    }
}
