//! What the gateway and a worker say to each other.
//!
//! To the worker: a length (u32, little-endian), the request as JSON, then the document up to the
//! pipe's end. From it: frames of a kind (u8), a length (u32, little-endian) and a payload. Every
//! word a worker may use is on a closed list here, so that a worker taken over by its document
//! can lie about the document and about nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::problem::Slug;

/// The longest request, bytes.
pub(super) const MAX_REQUEST: usize = 64 << 10;

/// The longest payload of a frame, bytes.
pub(super) const MAX_PAYLOAD: usize = 64 << 10;

/// Kind and length of a frame.
pub(super) const FRAME_HEAD: usize = 5;

/// What a worker is to do with the document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub step: String,
    pub options: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Only the first bytes of a longer document follow.
    pub prefix: bool,
    /// The document is at most this long, bytes.
    pub max_document: u64,
    /// The output may be this long, bytes.
    pub max_output: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The output's media type.
    Head = 1,
    /// A piece of the output.
    Data = 2,
    /// The output is complete.
    End = 3,
    /// There is no output; the payload is a fault.
    Problem = 4,
}

impl Kind {
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Head),
            2 => Some(Self::Data),
            3 => Some(Self::End),
            4 => Some(Self::Problem),
            _ => None,
        }
    }
}

macro_rules! media_types {
    ($($variant:ident $word:literal;)*) => {
        /// The media types a document step can give.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum MediaType { $($variant,)* }

        impl MediaType {
            pub(super) const ALL: &[Self] = &[$(Self::$variant),*];

            pub(super) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

media_types! {
    Json "application/json";
    Plain "text/plain; charset=utf-8";
    Markdown "text/markdown; charset=utf-8";
    Bytes "application/octet-stream";
    Jpeg "image/jpeg";
    Png "image/png";
    Webp "image/webp";
    Gif "image/gif";
    Tiff "image/tiff";
    Pdf "application/pdf";
    Docx "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    Xlsx "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    Pptx "application/vnd.openxmlformats-officedocument.presentationml.presentation";
    Odt "application/vnd.oasis.opendocument.text";
    Ods "application/vnd.oasis.opendocument.spreadsheet";
    Odp "application/vnd.oasis.opendocument.presentation";
}

impl MediaType {
    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str().as_bytes() == word)
    }
}

/// Why a document gives no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not a format the step reads.
    Unsupported,
    /// It unpacks to too much.
    Bomb,
    /// A member of it would leave the folder it is unpacked in.
    UnsafePath,
    /// The archive has no such member, or none that can be given.
    NoMember,
    /// An image of too many pixels.
    Pixels,
    /// It nests too deep, or has too many parts.
    Complex,
    /// It needs a password, or another one.
    Encrypted,
    /// It does not follow its own format.
    Damaged,
    /// Time, memory or output ran out.
    Limit,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Unsupported,
        Self::Bomb,
        Self::UnsafePath,
        Self::NoMember,
        Self::Pixels,
        Self::Complex,
        Self::Encrypted,
        Self::Damaged,
        Self::Limit,
    ];

    pub(super) const fn slug(self) -> Slug {
        match self {
            Self::Unsupported => Slug::UnsupportedMediaType,
            Self::Bomb => Slug::ArchiveBomb,
            Self::UnsafePath => Slug::ArchiveUnsafePath,
            Self::NoMember => Slug::BadOption,
            Self::Pixels => Slug::ImageTooLarge,
            Self::Complex => Slug::DocumentTooComplex,
            Self::Encrypted => Slug::DocumentEncrypted,
            Self::Damaged => Slug::DocumentDamaged,
            Self::Limit => Slug::ProcessorLimit,
        }
    }

    /// What the slug alone does not tell.
    pub(super) const fn detail(self) -> Option<&'static str> {
        match self {
            Self::NoMember => Some("member names no file of the archive, or more than one"),
            Self::Unsupported
            | Self::Bomb
            | Self::UnsafePath
            | Self::Pixels
            | Self::Complex
            | Self::Encrypted
            | Self::Damaged
            | Self::Limit => None,
        }
    }

    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.slug().as_str().as_bytes() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_on_the_lists_are_understood() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.slug().as_str().as_bytes()), Some(fault));
        }
        assert_eq!(Fault::parse(b"unauthenticated"), None);
        assert_eq!(MediaType::parse(b"application/json"), Some(MediaType::Json));
        assert_eq!(MediaType::parse(b"text/html"), None);
        assert_eq!((Kind::from_byte(4), Kind::from_byte(5)), (Some(Kind::Problem), None));
    }
}
