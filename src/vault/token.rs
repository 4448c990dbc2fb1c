//! Small secrets of a connection, sealed whole: its token (role 4), and whose account it opens.

use zeroize::Zeroizing;

use super::{Vault, header, keyless};
use crate::body::BodyError;
use crate::crypto::{SealedRecord, open_record, seal_record};
use crate::file::Role;
use crate::table::Origin;

impl Vault {
    /// Seals a few bytes under the origin's keys, as the segment of that role and index. An index
    /// is never sealed twice: a token that replaces another takes the next one.
    ///
    /// # Errors
    /// When the keys are gone or the random source fails.
    pub fn seal_small(
        &self,
        origin: &Origin,
        (role, index): (Role, u32),
        plain: &[u8],
    ) -> Result<SealedRecord, BodyError> {
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, role, index, origin.keys.file());
        Ok(seal_record(&header, &origin.tenant, input_key, &self.salts, plain)?)
    }

    /// Opens what [`Vault::seal_small`] sealed, for one use.
    ///
    /// # Errors
    /// When the keys are gone, or these are not the bytes that were sealed.
    pub fn open_small(
        &self,
        origin: &Origin,
        (role, index): (Role, u32),
        sealed: &SealedRecord,
    ) -> Result<Zeroizing<Vec<u8>>, BodyError> {
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, role, index, origin.keys.file());
        let listed = sealed.end().commitment();
        Ok(open_record(&header, &origin.tenant, input_key, listed, sealed.as_slice())?)
    }
}
