//! The one place that opens files: the configuration to read, and nameless ones to write.
//!
//! What the gateway writes is sealed: `store` accepts nothing else. (Only the command line's client
//! writes what it was given, for its own user: [`Draft`].) A nameless file has no directory
//! entry from its first byte on, so a killed process leaves nothing behind but freed blocks.

use std::fs::{DirBuilder, File};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod given;
mod private;
pub use given::{Draft, open};
pub use private::{SecretFileError, read_secret};

/// Reads a small text file, such as the configuration or a secret beside it.
///
/// # Errors
/// When it cannot be opened or is not UTF-8.
#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
pub fn read_text(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// Where the embedded default puts sealed files: a folder of this user's under the system's
/// temporary one.
#[must_use]
pub fn temporary_home() -> PathBuf {
    std::env::temp_dir().join(format!("dayfly-{}", rustix::process::geteuid().as_raw()))
}

/// Lets this process open as many files as the system allows it: each live file beyond a quarter
/// of a MiB holds one.
pub fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If the kernel refuses, uploads beyond the old limit answer 507, and nothing else changes.
    let _ = setrlimit(Resource::Nofile, most);
}

/// Reads all of `into` from `at` on, waiting for the disk if it must.
///
/// # Errors
/// Those of the file system, and when the file ends before.
pub fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(into, at)
}

/// As [`read_at`], from the page cache alone: never waits.
///
/// # Errors
/// As there; [`io::ErrorKind::WouldBlock`] where the disk would have to be waited for, or the file
/// system cannot tell.
pub fn read_cached_at(file: &File, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
    while !into.is_empty() {
        let read = preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT);
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => (into, at) = (&mut into[read..], at + read as u64),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// One of the ways to read above.
pub type ReadAt = fn(&File, &mut [u8], u64) -> io::Result<()>;

/// A directory for sealed temporary files, ours alone.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
}

/// Why a directory cannot hold sealed files.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("it cannot be made or entered ({0})")]
    Unusable(io::ErrorKind),
    #[error("others than its owner may enter it: chmod 0700")]
    Open,
    #[error("it belongs to another user")]
    Foreign,
    #[error("no nameless file can be made in it ({0})")]
    NoFile(io::ErrorKind),
}

impl Spool {
    /// Opens the directory, making it with mode 0700 if it is missing, and tries a file in it.
    ///
    /// # Errors
    /// When it is not ours alone or takes no file.
    pub fn open(dir: &Path) -> Result<Self, SpoolError> {
        private_dir(dir)?;
        let spool = Self { dir: dir.to_owned() };
        spool.nameless().map_err(|error| SpoolError::NoFile(error.kind()))?;
        Ok(spool)
    }

    /// A new file without a name, for reading and writing.
    ///
    /// # Errors
    /// Those of the file system.
    #[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
    pub fn nameless(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.dir)
    }
}

/// Makes a directory with mode 0700, or checks that an existing one is ours alone.
///
/// # Errors
/// When it cannot be made, is open to others, or is somebody else's.
pub fn private_dir(dir: &Path) -> Result<(), SpoolError> {
    let unusable = |error: io::Error| SpoolError::Unusable(error.kind());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
    let found = std::fs::metadata(dir).map_err(unusable)?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(SpoolError::Foreign);
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(SpoolError::Open);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_is_made_private_and_its_files_have_no_name() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/spool");
        let spool = Spool::open(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let _file = spool.nameless().unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("open");
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Spool::open(&dir), Err(SpoolError::Open)));
    }
}
