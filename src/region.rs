//! A region's name: where bytes may rest.

use std::fmt;
use std::str::FromStr;

/// A region's name, `[a-z0-9-]{1,16}`, in the 16 zero-padded bytes the sealed header binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region([u8; 16]);

/// The name is not `[a-z0-9-]{1,16}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a region's name is 1 to 16 of a-z, 0-9 and '-'")]
pub struct RegionError;

impl Region {
    /// ASCII, zero padded: bytes 8..24 of a segment's header (VAULT.md).
    #[must_use]
    pub const fn padded(&self) -> &[u8; 16] {
        &self.0
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        // Only ASCII passes `from_str`, the sole way to make one.
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl FromStr for Region {
    type Err = RegionError;

    fn from_str(name: &str) -> Result<Self, RegionError> {
        let fits = (1..=16).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            return Err(RegionError);
        }
        let mut padded = [0; 16];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self(padded))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["local", "eu-central-1", "a", "abcdefghijklmnop"] {
            assert_eq!(name.parse::<Region>().unwrap().to_string(), name);
        }
        for name in ["", "EU", "a b", "abcdefghijklmnopq", "ü", "a\0"] {
            assert_eq!(name.parse::<Region>(), Err(RegionError), "{name:?}");
        }
    }
}
