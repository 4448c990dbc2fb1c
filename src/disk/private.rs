//! Secrets that lie in files: read only if no stranger can.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::given::open;

/// Why a file cannot be used as a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("it cannot be read ({0})")]
    Unreadable(io::ErrorKind),
    #[error("others may read or change it: chmod 0600, or 0640 for a group of its own")]
    Open,
    #[error("it belongs to another user, who could change it")]
    Foreign,
    #[error("it is longer than a secret")]
    TooLong,
}

/// More than any key or certificate chain needs, bytes.
const MOST: u64 = 1 << 20;

/// Reads a secret, which is wiped when it is dropped.
///
/// # Errors
/// When it is somebody else's, open to others, or cannot be read.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let unreadable = |error: io::Error| SecretFileError::Unreadable(error.kind());
    let file = open(path).map_err(unreadable)?;
    // Asked of the open file, not of its name: what is judged is what is read.
    let found = file.metadata().map_err(unreadable)?;
    if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
        return Err(SecretFileError::Foreign);
    }
    if found.mode() & 0o027 != 0 {
        return Err(SecretFileError::Open);
    }
    // Reserved at once: a buffer that grows leaves copies behind.
    let room = usize::try_from(found.len().min(MOST)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MOST { Err(SecretFileError::TooLong) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test makes the file it reads")]
    fn a_secret_that_others_may_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        std::fs::write(&path, b"secret").unwrap();
        for (mode, good) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = read_secret(&path);
            assert_eq!(read.is_ok_and(|bytes| bytes.as_slice() == b"secret"), good, "{mode:o}");
        }
        assert!(matches!(
            read_secret(&home.path().join("none")),
            Err(SecretFileError::Unreadable(io::ErrorKind::NotFound))
        ));
    }
}
