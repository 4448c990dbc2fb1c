//! A connection's id.

use std::fmt;
use std::str::FromStr;

use crate::entropy::{Entropy, EntropyError};
use crate::file::{FileId, FileIdError};

/// An unguessable id: 128 random bits, shown as `conn_` and 26 base32 characters. The keys that its
/// token is sealed under carry the same bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(FileId);

impl ConnectionId {
    /// A new random id.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn draw(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        FileId::draw(entropy).map(Self)
    }

    /// The id that the keys carry.
    #[must_use]
    pub const fn keys(self) -> FileId {
        self.0
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The connection whose keys carry this id.
    #[must_use]
    pub const fn of_keys(id: FileId) -> Self {
        Self(id)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        write!(f, "conn_{}", text.trim_start_matches("file_"))
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConnectionId {
    type Err = FileIdError;

    fn from_str(text: &str) -> Result<Self, FileIdError> {
        let digits = text.strip_prefix("conn_").ok_or(FileIdError)?;
        format!("file_{digits}").parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_under_its_own_name_alone() {
        let id = ConnectionId::of_keys(FileId::from_bytes(*b"0123456789abcdef"));
        let text = id.to_string();
        assert_eq!(text.len(), 5 + 26);
        assert_eq!(text.parse::<ConnectionId>(), Ok(id));
        assert!(text.replace("conn_", "file_").parse::<ConnectionId>().is_err());
        assert!(id.keys().to_string().parse::<ConnectionId>().is_err());
    }
}
