//! What the sender of an upload says of it, sealed while its bytes still arrive.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Vault, header, keyless};
use crate::body::BodyError;
use crate::crypto::{SealedRecord, open_record, seal_record};
use crate::file::Role;
use crate::table::Origin;

/// Names, types and other words of the sender's. Wiped when dropped.
#[derive(Default, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Note {
    pub name: Option<String>,
    pub declared_type: Option<String>,
    /// As it was sent, to be repeated.
    pub metadata: Option<String>,
    /// How it was joined, as it was sent.
    pub concat: Option<String>,
    pub downloads: Option<u64>,
}

/// A file's own record is its record 0; this is another.
const INDEX: u32 = 1;

impl Vault {
    /// Seals a note under its upload's keys.
    ///
    /// # Errors
    /// When the keys are gone or the random source fails.
    pub fn seal_note(&self, origin: &Origin, note: &Note) -> Result<SealedRecord, BodyError> {
        let plain = serde_json::to_vec(note).map(Zeroizing::new).map_err(|_| BodyError::Cut)?;
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, Role::Record, INDEX, origin.keys.file());
        Ok(seal_record(&header, &origin.tenant, input_key, &self.salts, &plain)?)
    }

    /// Opens an upload's note.
    ///
    /// # Errors
    /// When the keys are gone, or the note is not the one that was sealed.
    pub fn note(&self, origin: &Origin, sealed: &SealedRecord) -> Result<Note, BodyError> {
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, Role::Record, INDEX, origin.keys.file());
        let listed = sealed.end().commitment();
        let plain = open_record(&header, &origin.tenant, input_key, listed, sealed.as_slice())?;
        serde_json::from_slice(&plain).map_err(|_| BodyError::Damaged)
    }
}
