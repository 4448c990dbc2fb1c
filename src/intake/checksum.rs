//! The checksum of one piece of an upload, as tus sends it along.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use data_encoding::BASE64;
use subtle::ConstantTimeEq;

/// The algorithms, as they are announced. SHA-1 is the one that every client of tus can; nothing
/// here rests on it.
pub const ALGORITHMS: &str = "sha1,sha256,crc32c";

/// An `Upload-Checksum` that names no algorithm of ours, or whose value is not one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checksum of a known algorithm")]
pub struct ChecksumError;

/// A checksum that a piece is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Kind,
    value: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sha1,
    Sha256,
    Crc32c,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Crc32c];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Crc32c => "crc32c",
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Crc32c => 4,
        }
    }
}

impl Checksum {
    /// Reads `<algorithm> <base64>`; a CRC's bytes are in network order.
    ///
    /// # Errors
    /// When it is no checksum of one of the [`ALGORITHMS`].
    pub fn parse(header: &str) -> Result<Self, ChecksumError> {
        let (name, value) = header.trim().split_once(' ').ok_or(ChecksumError)?;
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let algorithm = known.ok_or(ChecksumError)?;
        let value = BASE64.decode(value.trim().as_bytes()).map_err(|_| ChecksumError)?;
        if value.len() == algorithm.bytes() {
            Ok(Self { algorithm, value })
        } else {
            Err(ChecksumError)
        }
    }
}

/// What a piece's checksum is computed with, as it streams.
pub struct Summer(Vec<State>);

enum State {
    Sha(Kind, Context),
    Crc(u32),
}

impl Summer {
    /// For a checksum that is known beforehand.
    #[must_use]
    pub fn of(expected: &Checksum) -> Self {
        Self(vec![State::of(expected.algorithm)])
    }

    /// For one that comes after the bytes: nobody knows yet by which algorithm.
    #[must_use]
    pub fn any() -> Self {
        Self(Kind::ALL.into_iter().map(State::of).collect())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        for state in &mut self.0 {
            match state {
                State::Sha(_, context) => context.update(bytes),
                State::Crc(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            }
        }
    }

    /// Whether the bytes have that checksum.
    #[must_use]
    pub fn is(self, expected: &Checksum) -> bool {
        self.0.into_iter().any(|state| match state {
            State::Sha(kind, context) if kind == expected.algorithm => {
                context.finish().as_ref().ct_eq(&expected.value).into()
            }
            State::Crc(crc) if expected.algorithm == Kind::Crc32c => {
                crc.to_be_bytes()[..] == expected.value[..]
            }
            State::Sha(..) | State::Crc(_) => false,
        })
    }
}

impl State {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Sha1 => Self::Sha(kind, Context::new(&SHA1_FOR_LEGACY_USE_ONLY)),
            Kind::Sha256 => Self::Sha(kind, Context::new(&SHA256)),
            Kind::Crc32c => Self::Crc(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Of "hello world" (the example of tus 1.0.0), of "123456789" (RFC 3720's check value).
    const SHA1: &str = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
    const CRC: &str = "crc32c 4waSgw==";

    fn is(header: &str, bytes: &[u8]) -> bool {
        let expected = Checksum::parse(header).unwrap();
        let (mut known, mut any) = (Summer::of(&expected), Summer::any());
        for half in bytes.chunks(bytes.len() / 2 + 1) {
            known.update(half);
            any.update(half);
        }
        let found = known.is(&expected);
        assert_eq!(any.is(&expected), found);
        found
    }

    #[test]
    fn checksums_are_those_of_their_specifications() {
        assert!(is(SHA1, b"hello world") && !is(SHA1, b"hello World"));
        assert!(is(CRC, b"123456789") && !is(CRC, b"123456780"));
        let sha256 =
            format!("sha256 {}", BASE64.encode(&<sha2::Sha256 as sha2::Digest>::digest(b"abc")));
        assert!(is(&sha256, b"abc") && !is(&sha256, b"abd"));
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        for bad in [
            "",
            "sha1",
            "sha1 ",
            "sha1 abc",
            "sha1 AAAA",
            "md5 AAAA",
            "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
        ] {
            assert_eq!(Checksum::parse(bad), Err(ChecksumError), "{bad}");
        }
    }
}
