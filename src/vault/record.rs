//! What a file is called and what it claims to be: sealed like its bytes (VAULT.md, rule 1).

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Vault, header, keyless};
use crate::body::BodyError;
use crate::crypto::{SealedRecord, open_record, seal_record};
use crate::file::Role;
use crate::table::{LiveFile, Origin};

/// Digests of a file's bytes, base64 (RFC 9530).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Zeroize)]
pub struct Digests {
    #[serde(rename = "sha-256", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(rename = "sha-512", skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
}

impl Digests {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }
}

/// The part of a file that names it. Wiped when dropped.
#[derive(Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Record {
    pub name: Option<String>,
    pub media_type: String,
    pub declared_media_type: Option<String>,
    pub digests: Digests,
}

impl Vault {
    /// Seals a record under its file's keys.
    ///
    /// # Errors
    /// When the keys are gone or the random source fails.
    pub fn seal_record(&self, origin: &Origin, record: &Record) -> Result<SealedRecord, BodyError> {
        let plain = serde_json::to_vec(record).map(Zeroizing::new).map_err(|_| BodyError::Cut)?;
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, Role::Record, 0, origin.keys.file());
        Ok(seal_record(&header, &origin.tenant, input_key, &self.salts, &plain)?)
    }

    /// Opens a file's record.
    ///
    /// # Errors
    /// When the keys are gone, or the record is not the one that was sealed.
    pub fn record(&self, file: &LiveFile) -> Result<Record, BodyError> {
        let origin = &file.origin;
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, Role::Record, 0, file.id);
        let sealed = file.record.as_ref().ok_or(BodyError::Damaged)?;
        let listed = sealed.end().commitment();
        let plain = open_record(&header, &origin.tenant, input_key, listed, sealed.as_slice())?;
        serde_json::from_slice(&plain).map_err(|_| BodyError::Damaged)
    }
}
