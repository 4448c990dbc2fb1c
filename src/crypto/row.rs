//! Rows of evidence, sealed one by one: AES-256-GCM with a random nonce under a key of their own.
//!
//! Not the segment's format: a row outlives the keys of the file it speaks of, and holds nothing
//! of what was in it.

use super::aead::{Cipher, CipherError, Implementation, NONCE_BYTES};
use super::layout::TAG_BYTES;
use crate::secret::Secret;

/// Length of a row's nonce, bytes. Random ones repeat with 2^-32 after 2^32 rows under one key
/// (NIST SP 800-38D, section 8.3); a key is for one tenant's rows of one day.
pub const ROW_NONCE_BYTES: usize = NONCE_BYTES;

/// Seals `row` in place and appends its tag.
///
/// # Errors
/// When the cipher fails, which is a bug.
pub fn seal_row(
    key: &Secret<32>,
    nonce: [u8; ROW_NONCE_BYTES],
    row: &mut Vec<u8>,
) -> Result<(), CipherError> {
    let cipher = Cipher::new(Implementation::SMALL, key.expose())?;
    let tag = cipher.seal(nonce, row)?;
    row.extend_from_slice(&tag);
    Ok(())
}

/// Opens `sealed` in place and takes its tag off.
///
/// # Errors
/// When it was not sealed with this key and nonce, or was changed since.
pub fn open_row(
    key: &Secret<32>,
    nonce: [u8; ROW_NONCE_BYTES],
    sealed: &mut Vec<u8>,
) -> Result<(), CipherError> {
    let (_, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(CipherError::Failed)?;
    let tag = *tag;
    sealed.truncate(sealed.len() - TAG_BYTES);
    Cipher::new(Implementation::SMALL, key.expose())?.open(nonce, sealed, &tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_opens_with_its_own_key_and_nonce_alone() {
        let (mut key, mut other) = (Secret::zero(), Secret::zero());
        (key.expose_mut()[0], other.expose_mut()[0]) = (1, 2);
        let mut row = b"a row".to_vec();
        seal_row(&key, [1; 12], &mut row).unwrap();
        for (key, nonce, changed) in [(&key, 1, true), (&key, 2, false), (&other, 1, false)] {
            let mut sealed = row.clone();
            sealed[0] ^= u8::from(changed);
            assert!(open_row(key, [nonce; 12], &mut sealed).is_err());
        }
        open_row(&key, [1; 12], &mut row).unwrap();
        assert_eq!(row, b"a row");
        assert!(open_row(&key, [1; 12], &mut vec![0; 15]).is_err());
    }
}
