//! The name of a file that is still arriving: the same bits as its id, in other words.

use std::fmt;
use std::str::FromStr;

use super::{FileId, FileIdError};

/// An upload's id: shown as `upl_` and the 26 characters of the id its file will have, so that what
/// became of it can be told from the file's receipt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(FileId);

impl UploadId {
    #[must_use]
    pub const fn of(file: FileId) -> Self {
        Self(file)
    }

    /// The file it becomes.
    #[must_use]
    pub const fn file(self) -> FileId {
        self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.to_string();
        write!(f, "upl_{}", file.strip_prefix("file_").unwrap_or(&file))
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UploadId {
    type Err = FileIdError;

    fn from_str(text: &str) -> Result<Self, FileIdError> {
        let digits = text.strip_prefix("upl_").ok_or(FileIdError)?;
        format!("file_{digits}").parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_named_after_its_file() {
        let file = FileId::from_bytes([7; 16]);
        let upload = UploadId::of(file);
        let text = upload.to_string();
        assert_eq!(text[4..], file.to_string()[5..]);
        assert_eq!(text.parse(), Ok(upload));
        assert!(file.to_string().parse::<UploadId>().is_err());
        assert!(text[..29].parse::<UploadId>().is_err());
    }
}
