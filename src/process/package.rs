//! Zip packages (Office, OpenDocument, EPUB): members, read within bounds.

use std::io::{Cursor, Read};

use memchr::memmem;
use zip::ZipArchive;
use zip::result::ZipError;

use super::frame::Fault;
use super::text;

/// Bytes all members read may unpack to.
const MAX_UNPACKED: u64 = 96 << 20;

/// A member larger than this may not unpack to more than `MAX_RATIO` times its packed size.
const RATIO_FROM: u64 = 8 << 20;
const MAX_RATIO: u64 = 200;

/// Members a package may have.
const MAX_MEMBERS: usize = 10_000;

/// Directory entries a zip may have at all, those of zips stored in it included. Each is a few
/// hundred bytes once it was read.
const MAX_ENTRIES: usize = 200_000;

/// A directory entry's signature (APPNOTE, 4.3.12).
const ENTRY: &[u8] = b"PK\x01\x02";

/// A zip, unless its directory alone would take more room than a worker has.
///
/// # Errors
/// `Complex` for too many entries, `Damaged` for what is no zip.
pub(super) fn archive(document: &[u8]) -> Result<ZipArchive<Cursor<&[u8]>>, Fault> {
    // Counted, not believed: what the directory says of its length is the sender's word.
    if memmem::find_iter(document, ENTRY).take(MAX_ENTRIES + 1).count() > MAX_ENTRIES {
        return Err(Fault::Complex);
    }
    ZipArchive::new(Cursor::new(document)).map_err(|_| Fault::Damaged)
}

/// A package, and how much of it may still be unpacked.
pub(super) struct Package<'d> {
    archive: ZipArchive<Cursor<&'d [u8]>>,
    left: u64,
}

impl<'d> Package<'d> {
    pub(super) fn open(document: &'d [u8]) -> Result<Self, Fault> {
        let archive = archive(document)?;
        if archive.len() > MAX_MEMBERS {
            return Err(Fault::Complex);
        }
        Ok(Self { archive, left: MAX_UNPACKED })
    }

    /// The text of a member, found regardless of case; `None` if there is none of that name.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<String>, Fault> {
        Ok(self.bytes(name)?.map(|bytes| text::decode(&bytes)))
    }

    /// The bytes of a member, found like [`Package::read`].
    pub(super) fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let same = |known: &&[u8]| known.eq_ignore_ascii_case(name.as_bytes());
        let exact = self.archive.index_for_name(name);
        let Some(index) = exact.or_else(|| self.archive.file_names_raw().position(|n| same(&n)))
        else {
            return Ok(None);
        };
        let member = match self.archive.by_index(index) {
            Ok(member) => member,
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                return Err(Fault::Encrypted);
            }
            Err(_) => return Err(Fault::Damaged),
        };
        let packed = member.compressed_size();
        let most = self.left.min(packed.saturating_mul(MAX_RATIO).max(RATIO_FROM));
        // Counted while it unpacks: what the header declares is the sender's word.
        let mut bytes = Vec::new();
        let read = member.take(most + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > most {
            return Err(Fault::Bomb);
        }
        read.map_err(|_| Fault::Damaged)?;
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }
}
