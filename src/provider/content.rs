//! The bytes of an item: pinned to one revision, every length checked, hashed as the provider does.

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, TRANSFER_ENCODING,
};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body_util::BodyExt;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::ProviderError;
use crate::egress::{Answer, EgressError, Outgoing};

/// What an id leads to.
pub enum Found {
    File(Box<Pinned>),
    /// A folder, by the id that it is listed with.
    Folder(String),
}

/// One file at one revision: whatever differs later is another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// What it is asked for by.
    pub id: String,
    /// As the provider has it: not yet made safe.
    pub name: String,
    pub media_type: Option<String>,
    /// `None` where it is only known once it was made.
    pub bytes: Option<u64>,
    pub revision: Option<String>,
    pub check: Option<Check>,
    /// Set where the provider makes the bytes when they are asked for: no part can be asked for
    /// then, and no two answers need be the same.
    pub export: Option<Export>,
    /// Google: what a link-shared item has to be asked for with.
    pub key: Option<String>,
}

/// What a document without bytes of its own is made into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub media_type: String,
    /// Google: where it can be had when it is too large for the API.
    pub link: Option<String>,
}

/// A provider's own hash of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Dropbox: SHA-256 over the SHA-256 of each 4 MiB.
    Blocks([u8; 32]),
    Sha256([u8; 32]),
    Md5([u8; 16]),
}

impl Check {
    /// A hash in hexadecimal; `None` if it is not one of that length.
    fn parse<const N: usize>(hex: &str) -> Option<[u8; N]> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
        bytes.try_into().ok()
    }

    #[must_use]
    pub fn blocks(hex: &str) -> Option<Self> {
        Self::parse(hex).map(Self::Blocks)
    }

    #[must_use]
    pub fn sha256(hex: &str) -> Option<Self> {
        Self::parse(hex).map(Self::Sha256)
    }

    #[must_use]
    pub fn md5(hex: &str) -> Option<Self> {
        Self::parse(hex).map(Self::Md5)
    }
}

/// Bytes of a block of Dropbox's hash.
const BLOCK: usize = 4 << 20;

/// Computes a [`Check`] as bytes go by.
pub struct Hasher(Kind);

enum Kind {
    Blocks { all: Sha256, block: Sha256, filled: usize },
    Sha256(Sha256),
    Md5(Md5),
}

impl Hasher {
    /// The kind of hash that `check` is.
    #[must_use]
    pub fn like(check: &Check) -> Self {
        Self(match check {
            Check::Blocks(_) => {
                Kind::Blocks { all: Sha256::new(), block: Sha256::new(), filled: 0 }
            }
            Check::Sha256(_) => Kind::Sha256(Sha256::new()),
            Check::Md5(_) => Kind::Md5(Md5::new()),
        })
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        match &mut self.0 {
            Kind::Sha256(hash) => hash.update(bytes),
            Kind::Md5(hash) => hash.update(bytes),
            Kind::Blocks { all, block, filled } => {
                while !bytes.is_empty() {
                    let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - *filled));
                    block.update(now);
                    *filled += now.len();
                    if *filled == BLOCK {
                        all.update(block.finalize_reset());
                        *filled = 0;
                    }
                    bytes = rest;
                }
            }
        }
    }

    #[must_use]
    pub fn finish(self) -> Check {
        match self.0 {
            Kind::Sha256(hash) => Check::Sha256(hash.finalize().into()),
            Kind::Md5(hash) => Check::Md5(hash.finalize().into()),
            Kind::Blocks { mut all, block, filled } => {
                if filled > 0 {
                    all.update(block.finalize());
                }
                Check::Blocks(all.finalize().into())
            }
        }
    }
}

/// An answer that carries a file's bytes, from the one that was asked for on.
pub struct Content {
    body: Answer,
    /// Bytes to pass over: the answer begins with the file's first.
    skip: u64,
    /// Bytes still to come; `None` where only the answer's own end tells.
    left: Option<u64>,
    /// Of the whole file, where it is known.
    pub total: Option<u64>,
    /// What is known of the bytes only now that they were made.
    pub check: Option<Check>,
}

impl Content {
    /// Holds an answer against what was pinned and asked for.
    ///
    /// # Errors
    /// When these cannot be the bytes: another range, another length, another encoding, or an end
    /// that nobody could tell from a broken connection.
    pub fn begin(
        response: Response<Answer>,
        pinned: &Pinned,
        from: u64,
    ) -> Result<Self, ProviderError> {
        let (head, body) = response.into_parts();
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        if text(CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(ProviderError::Nonsense);
        }
        let declared = text(CONTENT_LENGTH).map(|length| length.parse::<u64>());
        let declared = declared.transpose().map_err(|_| ProviderError::Nonsense)?;
        let fits = |own: Option<u64>, other: Option<u64>| {
            own.zip(other).is_none_or(|(own, other)| own == other)
        };
        if head.status == StatusCode::PARTIAL_CONTENT {
            let range = text(CONTENT_RANGE).and_then(Part::parse).ok_or(ProviderError::Nonsense)?;
            let length = range.last - range.first + 1;
            let asked = from > 0 && range.first == from && range.last < range.total;
            if !asked || !fits(Some(range.total), pinned.bytes) || !fits(Some(length), declared) {
                return Err(ProviderError::Nonsense);
            }
            let (left, total) = (Some(length), Some(range.total));
            return Ok(Self { body, skip: 0, left, total, check: None });
        }
        if !fits(pinned.bytes, declared) {
            return Err(ProviderError::Nonsense);
        }
        // A server that knows no ranges: what is here already is passed over, if a hash tells in
        // the end that it was the same.
        if from > 0 && pinned.check.is_none() {
            return Err(ProviderError::Nonsense);
        }
        let total = pinned.bytes.or(declared);
        if total.is_none() && !ends_itself(&head.headers, head.version) {
            return Err(ProviderError::Nonsense);
        }
        Ok(Self { body, skip: from, left: total, total, check: None })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`ProviderError::Unreachable`] or [`ProviderError::Timeout`] when it broke off or stalled,
    /// which the rest can be asked for after; [`ProviderError::Nonsense`] when there is more than
    /// there can be.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ProviderError> {
        loop {
            let Some(frame) = self.body.frame().await else {
                // A clean end before the last byte is a cut all the same.
                let whole = self.left.is_none_or(|left| left == 0);
                return if whole { Ok(None) } else { Err(ProviderError::Unreachable) };
            };
            let frame = frame.map_err(|error| match error {
                EgressError::Timeout => ProviderError::Timeout,
                _ => ProviderError::Unreachable,
            })?;
            let Ok(mut bytes) = frame.into_data() else { continue };
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(bytes.len() as u64).ok_or(ProviderError::Nonsense)?;
            }
            let passed = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= passed as u64;
            drop(bytes.split_to(passed));
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }
}

/// Whether an answer's end can be told from a connection that broke.
fn ends_itself(headers: &HeaderMap, version: Version) -> bool {
    let coded = headers.get(TRANSFER_ENCODING).and_then(|value| value.to_str().ok());
    let chunked = coded.is_some_and(|coding| coding.to_ascii_lowercase().ends_with("chunked"));
    version == Version::HTTP_2 || chunked || headers.contains_key(CONTENT_LENGTH)
}

/// Whether an answer of this type can be a file of that one: a page or an error in place of a file
/// is neither.
#[must_use]
pub fn is_of_type(headers: &HeaderMap, expected: Option<&str>) -> bool {
    let essence = |kind: &str| kind.split(';').next().unwrap_or_default().trim().to_lowercase();
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence);
    let suspicious = said.filter(|kind| matches!(kind.as_str(), "text/html" | "application/json"));
    suspicious.is_none_or(|kind| expected.map(essence) == Some(kind))
}

/// `Content-Range: bytes first-last/total` (RFC 9110, section 14.4).
struct Part {
    first: u64,
    last: u64,
    total: u64,
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse().ok();
        let part = Self { first: number(first)?, last: number(last)?, total: number(total)? };
        (part.first <= part.last).then_some(part)
    }
}

/// A file on its way back to a person's storage.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Safe to save under.
    pub name: String,
    pub media_type: String,
    pub bytes: u64,
    /// `None` for the account's root.
    pub folder: Option<String>,
    /// As [`Account::root`](super::Account::root).
    pub root: Option<String>,
}

/// An upload that a provider has agreed to, by its own name for it. It opens what it names, so it
/// is never printed.
pub struct Session(pub(super) zeroize::Zeroizing<String>);

/// The next bytes of a parcel.
pub struct Chunk {
    pub at: u64,
    pub bytes: u64,
    pub body: Outgoing,
}

impl Chunk {
    /// No bytes, at `at`.
    #[must_use]
    pub fn nothing(at: u64) -> Self {
        Self { at, bytes: 0, body: crate::egress::nothing() }
    }
}

/// How far a parcel has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Everything before this byte is there.
    Upto(u64),
    Whole(Stored),
}

/// A file that a provider has put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: String,
    pub bytes: Option<u64>,
    pub check: Option<Check>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(parts: &[&[u8]]) -> Check {
        let mut hasher = Hasher::like(&Check::Blocks([0; 32]));
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }

    /// Values computed by another implementation of Dropbox's page "Content hash".
    #[test]
    fn dropboxs_hash_is_the_documented_one_however_the_bytes_come() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Some(blocks(&[])), Check::blocks(empty));
        let hello = "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50";
        assert_eq!(Some(blocks(&[b"hel", b"", b"lo"])), Check::blocks(hello));
        let zeroes = vec![0; BLOCK + 1];
        let one = "c7e946d101855255d919ef0c70718633adf77d3dfb3adeeecf5d0cb4e951be58";
        assert_eq!(Some(blocks(&[&zeroes[..7], &zeroes[7..BLOCK]])), Check::blocks(one));
        let more = "14a4d47f23a30177885d9820122f17d2d3a55fe63f7f5c27b95f689e0b2accd6";
        assert_eq!(Some(blocks(&[&zeroes])), Check::blocks(more));
        let a = vec![b'a'; 10_000_000];
        let ten = "c9efa5085973fe911cd2e58685733c3fe6fd640e7f6af4be02e0aa783650ba60";
        assert_eq!(Some(blocks(&[&a[..5_000_001], &a[5_000_001..]])), Check::blocks(ten));
    }

    #[test]
    fn a_range_is_read_exactly_or_not_at_all() {
        let part = Part::parse("bytes 5-9/10").unwrap();
        assert_eq!((part.first, part.last, part.total), (5, 9, 10));
        for bad in ["", "bytes 5-9", "bytes */10", "bytes 9-5/10", "5-9/10", "bytes 5-9/*"] {
            assert!(Part::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_page_is_a_file_only_where_a_page_was_expected() {
        let of = |kind: &'static str| {
            HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(kind))])
        };
        assert!(is_of_type(&of("application/pdf"), Some("image/png")));
        assert!(is_of_type(&of("text/html; charset=utf-8"), Some("text/html")));
        assert!(!is_of_type(&of("text/html; charset=utf-8"), Some("image/png")));
        assert!(!is_of_type(&of("application/json"), None));
    }
}
