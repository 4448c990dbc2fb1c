//! The folder of what outlives a restart: one gateway's at a time, its files for their owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{SpoolError, private_dir};

/// Why a folder cannot hold the state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Folder(#[from] SpoolError),
    /// Two gateways would fork the log.
    #[error("another gateway uses it")]
    Taken,
    #[error("a file in it cannot be read or written ({0})")]
    File(io::ErrorKind),
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        Self::File(error.kind())
    }
}

/// A folder that is ours alone, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens the folder, making it with mode 0700 if it is missing, and locks it.
    ///
    /// # Errors
    /// When it is not ours alone, or another gateway has locked it.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        private_dir(dir)?;
        let lock = open(&dir.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| StateError::Taken)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Opens one of its files to read and write, making it with mode 0600 if it is missing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn file(&self, name: &str) -> io::Result<File> {
        open(&self.dir.join(name))
    }

    /// A file's content; `None` if there is no such file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        read(&self.dir.join(name))
    }

    /// Puts `content` in the place of a file's, whole or not at all, and durably.
    ///
    /// # Errors
    /// Those of the file system; the old content then stays.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        replace(&self.dir.join(name), content)
    }

    /// Every file's name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.dir)?.filter_map(Result::ok);
        Ok(names.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Returns when the names of its files are durable.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> io::Result<()> {
        open_dir(&self.dir)?.sync_all()
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }
}

/// The content of a secret's file; `None` if it is missing.
///
/// # Errors
/// Those of the file system.
#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`StateDir::replace`], anywhere: written beside it, synced, and renamed.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (dir, beside) = (path.parent().unwrap_or(Path::new("/")), path.with_extension("new"));
    let mut file = open(&beside)?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_data()?;
    std::fs::rename(&beside, path)?;
    open_dir(dir)?.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
fn open_dir(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_has_one_user_and_files_are_replaced_whole() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("state");
        let state = StateDir::open(&dir).unwrap();
        assert!(matches!(StateDir::open(&dir), Err(StateError::Taken)));
        assert_eq!(state.read("a").unwrap(), None);
        state.replace("a", b"first, and longer").unwrap();
        state.replace("a", b"second").unwrap();
        assert_eq!(state.read("a").unwrap().unwrap(), b"second");
        assert_eq!(state.names().unwrap().len(), 2, "nothing is left beside it");
        drop(state);
        StateDir::open(&dir).unwrap();
    }
}
