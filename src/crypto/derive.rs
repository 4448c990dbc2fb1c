//! From two secrets to one segment's keys: HKDF-SHA-512 (RFC 5869; VAULT.md, "Key derivation").
//!
//! What is secret here lives for microseconds: in locked pages where it is handed on, because a
//! move would leave a copy behind on the stack, and on stack that is overwritten afterwards.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha512;
use zeroize::{Zeroizing, zeroize_stack};

use crate::file::{Epoch, FileId, TenantId};
use crate::secret::{Locked, Secret};

use super::aead::{Cipher, CipherError, Implementation, NONCE_BYTES};
use super::header::HEADER_BYTES;
use super::layout::{COMMITMENT_BYTES, SALT_BYTES};

const WITH_EPOCH: &[u8] = b"dayfly/v1 input key\0";
const WITHOUT_EPOCH: &[u8] = b"dayfly/v1 input key, no epoch\0";
pub(super) const SEGMENT: &[u8] = b"dayfly/v1 segment\0";
/// The label of C2SP chunked-encryption for this AEAD.
pub(super) const SCHEDULE: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// Why no key can be derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret of 32 zero bytes is a broken random source (VAULT.md, rule 6).
    #[error("a secret is all zero")]
    AllZero,
    /// An epoch key for a file that has no epoch, or none for one that has.
    #[error("the epoch key and the epoch disagree")]
    Epoch,
    /// No more memory can be locked; an unlocked page is never taken instead.
    #[error("the locked pages for running streams are full")]
    Full,
}

/// The key of one segment's key schedule. Used once, then gone: it is consumed by whoever seals or
/// opens, before the first chunk.
pub struct InputKey(Locked<Secret<32>>);

impl InputKey {
    /// Joins the two secrets of a file at rest; a file without an epoch has one.
    ///
    /// # Errors
    /// When a secret is all zero, an epoch key is missing or too many, or no memory can be locked.
    pub fn derive(
        epoch_key: Option<&Secret<32>>,
        file_secret: &Secret<32>,
        file: &FileId,
        epoch: Epoch,
    ) -> Result<Self, KeyError> {
        if epoch_key.is_some() == (epoch == Epoch::None) {
            return Err(KeyError::Epoch);
        }
        if file_secret.is_zero() || epoch_key.is_some_and(Secret::is_zero) {
            return Err(KeyError::AllZero);
        }
        let label = if epoch_key.is_some() { WITH_EPOCH } else { WITHOUT_EPOCH };
        let salt = epoch_key.map_or(&[][..], |key| &key.expose()[..]);
        let info = [label, file.as_bytes(), &epoch.code().to_be_bytes()];
        let mut key = Locked::<Secret<32>>::zeroed().ok_or(KeyError::Full)?;
        hkdf(salt, file_secret.expose(), &info, key.expose_mut());
        zeroize_stack::<STACK_BYTES>();
        Ok(Self(key))
    }

    #[cfg(test)]
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut key = Locked::<Secret<32>>::zeroed().unwrap();
        *key.expose_mut() = bytes;
        Self(key)
    }

    #[cfg(test)]
    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl fmt::Debug for InputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputKey(..)")
    }
}

/// What one segment is sealed with.
pub(super) struct SegmentKeys {
    pub(super) cipher: Cipher,
    // Without the key a nonce tells nothing: it may be copied about.
    base_nonce: [u8; NONCE_BYTES],
    pub(super) commitment: [u8; COMMITMENT_BYTES],
}

impl SegmentKeys {
    /// The key schedule of C2SP chunked-encryption, with header and tenant as its context.
    pub(super) fn derive(
        input_key: InputKey,
        salt: &[u8; SALT_BYTES],
        header: &[u8; HEADER_BYTES],
        tenant: &TenantId,
        of: Implementation,
    ) -> Result<Self, CipherError> {
        Self::schedule(input_key, salt, &[SEGMENT, header, tenant.as_bytes()], of)
    }

    /// The bare key schedule, for a context in parts.
    pub(super) fn schedule(
        input_key: InputKey,
        salt: &[u8; SALT_BYTES],
        context: &[&[u8]; 3],
        of: Implementation,
    ) -> Result<Self, CipherError> {
        let keys = schedule(&input_key, salt, context, of);
        drop(input_key);
        zeroize_stack::<STACK_BYTES>();
        keys
    }

    /// The nonce of chunk `index`: the base nonce XOR the index as a 96-bit big-endian number.
    pub(super) fn nonce(&self, index: u64) -> [u8; NONCE_BYTES] {
        let mut nonce = self.base_nonce;
        for (byte, of_index) in nonce[4..].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= of_index;
        }
        nonce
    }
}

#[inline(never)]
fn schedule(
    input_key: &InputKey,
    salt: &[u8; SALT_BYTES],
    context: &[&[u8]; 3],
    of: Implementation,
) -> Result<SegmentKeys, CipherError> {
    let mut okm = Zeroizing::new([0; 32 + NONCE_BYTES + COMMITMENT_BYTES]);
    let info = [SCHEDULE, salt, context[0], context[1], context[2]];
    expand(input_key.0.expose(), &info, &mut *okm);
    let (mut key, mut base_nonce) = (Secret::<32>::zero(), [0; NONCE_BYTES]);
    let mut commitment = [0; COMMITMENT_BYTES];
    key.expose_mut().copy_from_slice(&okm[..32]);
    base_nonce.copy_from_slice(&okm[32..44]);
    commitment.copy_from_slice(&okm[44..]);
    Ok(SegmentKeys { cipher: Cipher::new(of, key.expose())?, base_nonce, commitment })
}

/// HKDF-Extract, then HKDF-Expand. The hash states zero themselves when dropped.
#[inline(never)]
pub(super) fn hkdf(salt: &[u8], ikm: &[u8], info: &[&[u8]], out: &mut [u8]) {
    let expanded = Hkdf::<Sha512>::new(Some(salt), ikm).expand_multi_info(info, out);
    assert!(expanded.is_ok(), "HKDF-SHA-512 gives at most 16320 bytes");
}

/// HKDF-Expand alone, which is what C2SP chunked-encryption asks for.
///
/// HMAC pads a short key with zeros to its block, so 32 more of them leave the result unchanged;
/// the crate wants a pseudorandom key of a whole hash.
#[inline(never)]
pub(super) fn expand(key: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    let mut padded = Zeroizing::new([0; 64]);
    padded[..32].copy_from_slice(key);
    let expanded = Hkdf::<Sha512>::from_prk(&*padded).map(|hkdf| hkdf.expand_multi_info(info, out));
    assert!(matches!(expanded, Ok(Ok(()))), "a key of 64 bytes gives at most 16320 bytes");
}

/// Stack the derivations use at most, bytes, with margin: a test looks for what they left.
const STACK_BYTES: usize = 16 << 10;

/// Overwrites the stack that the cipher of a record used: in Rust it keeps round keys there, where
/// it has no register for them, and without optimisation many copies.
pub(super) fn wipe_record_stack() {
    zeroize_stack::<{ 64 << 10 }>();
}

/// Overwrites the stack that a cipher used: it may leave the last block it had in hand there.
/// Shallow, and fast enough to follow every run.
#[inline(never)]
pub(super) fn wipe_cipher_stack() {
    let mut dead = [0u8; 8 << 10];
    std::hint::black_box(&mut dead);
}
