//! What ties a receipt to ciphertext without telling anything of it (VAULT.md, "Receipts").

use sha2::{Digest, Sha256};

use crate::file::FileId;

/// K over the segments' commitments, in order: whoever shows ciphertext and a key that opens it has
/// contradicted a signed statement. At acceptance, before they exist, there are none.
pub(super) fn commit(salt: &[u8; 32], file: FileId, commitments: &[[u8; 32]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"dayfly/v1 receipt\0");
    hash.update(salt);
    hash.update(file.as_bytes());
    hash.update(u32::try_from(commitments.len()).unwrap_or(u32::MAX).to_be_bytes());
    for commitment in commitments {
        hash.update(commitment);
    }
    hash.finalize().into()
}
