//! Files of whoever runs a command: read as they lie, and written whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Opens a file of the user's for reading.
///
/// # Errors
/// Those of the file system.
#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
pub fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// A file in the making. It gets its name when it is complete; dropped before, it is removed.
pub struct Draft(Inner);

enum Inner {
    Beside {
        file: NamedTempFile,
        target: PathBuf,
        replace: bool,
    },
    /// A pipe or a device takes what comes, as it comes.
    Straight(File),
}

impl Draft {
    /// A draft of `target`, readable by this user alone. An existing file is replaced at the end,
    /// and only if `replace` says so.
    ///
    /// # Errors
    /// Those of the file system; `AlreadyExists` if nothing may be replaced.
    #[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
    pub fn of(target: &Path, replace: bool) -> io::Result<Self> {
        // A link is followed, so that what it points to is replaced and not the link.
        let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        match std::fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) if !replace => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(found) if !found.is_file() => {
                let file = File::options().write(true).open(&target)?;
                return Ok(Self(Inner::Straight(file)));
            }
            Ok(_) | Err(_) => {}
        }
        let beside = target.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".dayfly-").suffix(".part");
        let file = builder.tempfile_in(beside.unwrap_or(Path::new(".")))?;
        Ok(Self(Inner::Beside { file, target, replace }))
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Inner::Beside { file, .. } => file.write_all(bytes),
            Inner::Straight(file) => file.write_all(bytes),
        }
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Inner::Straight(_) => Ok(()),
            Inner::Beside { file, target, replace: true } => {
                file.persist(target).map(drop).map_err(|error| error.error)
            }
            Inner::Beside { file, target, replace: false } => {
                file.persist_noclobber(target).map(drop).map_err(|error| error.error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_has_its_name_only_when_it_is_complete() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("a");
        let mut draft = Draft::of(&target, false).unwrap();
        draft.write(b"half").unwrap();
        assert!(!target.exists());
        drop(draft);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        let mut draft = Draft::of(&target, false).unwrap();
        draft.write(b"whole").unwrap();
        draft.finish().unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().len(), 5);
        assert!(Draft::of(&target, false).is_err(), "what is there is not replaced unasked");
        Draft::of(&target, true).unwrap().finish().unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().len(), 0);
    }

    #[test]
    fn a_device_is_written_to_and_a_link_is_followed() {
        let mut null = Draft::of(Path::new("/dev/null"), true).unwrap();
        null.write(b"gone").unwrap();
        null.finish().unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("file"), home.path().join("link"));
        Draft::of(&file, false).unwrap().finish().unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut draft = Draft::of(&link, true).unwrap();
        draft.write(b"new").unwrap();
        draft.finish().unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 3);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}
