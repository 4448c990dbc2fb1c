//! What a file is to the gateway: an id, an owner, a deadline. Its bytes are elsewhere, sealed.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use crate::entropy::{Entropy, EntropyError, random};

mod deadline;
mod upload;
pub use deadline::{BETWEEN_READINGS, Deadline, Epoch, MAX_TTL, TtlError};
pub use upload::UploadId;

/// An unguessable file id: 128 random bits, shown as `file_` and 26 base32 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId([u8; 16]);

/// The text is not `file_` and 26 lower-case base32 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a file id")]
pub struct FileIdError;

impl FileId {
    /// A new random id.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        random(entropy).map(Self)
    }

    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file_{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FileId {
    type Err = FileIdError;

    fn from_str(text: &str) -> Result<Self, FileIdError> {
        let digits = text.strip_prefix("file_").ok_or(FileIdError)?;
        if digits.len() != 26 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(FileIdError);
        }
        let bytes =
            BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).map_err(|_| FileIdError)?;
        bytes.try_into().map(Self).map_err(|_| FileIdError)
    }
}

/// Who a file belongs to, as the key derivation binds it: never stored beside the file (VAULT.md).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId([u8; 16]);

impl TenantId {
    /// The first 16 bytes of SHA-256 over a label and the tenant's name (VAULT.md).
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"dayfly/v1 tenant\0");
        hash.update(name.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantId(..)")
    }
}

/// What a sealed segment holds; bound by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    Input = 0,
    Output = 1,
    Intermediate = 2,
    /// A file's name, media type and digests, sealed like its bytes.
    Record = 3,
    Token = 4,
}

/// Why a file's keys were destroyed, as receipts and 410 answers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Deleted,
    Expired,
    Downloaded,
    Consumed,
    Cancelled,
    Failed,
    Erased,
    KeyLost,
    Shutdown,
}

impl Reason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Downloaded => "downloaded",
            Self::Consumed => "consumed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Erased => "erased",
            Self::KeyLost => "key-lost",
            Self::Shutdown => "shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_id_prints_and_parses() {
        let id = FileId::from_bytes(*b"0123456789abcdef");
        let text = id.to_string();
        assert_eq!(text.len(), 5 + 26);
        assert_eq!(text.parse::<FileId>(), Ok(id));
        assert!(text.to_uppercase().parse::<FileId>().is_err());
        assert!(text[..30].parse::<FileId>().is_err());
        // 128 bits leave two spare bits in the last character: only zero ones are an id.
        assert!(format!("{}7", &text[..30]).parse::<FileId>().is_err());
    }

    #[test]
    fn the_tenant_id_of_acme_is_the_vault_pages() {
        let hex = data_encoding::HEXLOWER.encode(TenantId::of("acme").as_bytes());
        assert_eq!(hex, "26a29bbf74cc00734cbba26c2357cd7e");
    }
}
