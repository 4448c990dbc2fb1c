//! The header fields of tus 1.0.0, read strictly: what cannot be read is refused, not guessed.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::http::Problem;
use crate::http::query::number;
use crate::intake::Checksum;
use crate::pipeline::Check;
use crate::problem::Slug;

/// The one version there is.
pub(super) const VERSION: &str = "1.0.0";
/// What bodies of this protocol are.
const CONTENT_TYPE: &str = "application/offset+octet-stream";

pub(super) fn bad(detail: &'static str) -> Problem {
    Problem::because(Slug::BadRequest, detail)
}

/// The one value of a field, if it is there; given twice, it is refused.
pub(super) fn one<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("A header field of the upload is given twice."));
    }
    let text = first.to_str().map_err(|_| bad("A header field of the upload is no text."))?;
    Ok(Some(text.trim()))
}

fn bytes(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Problem> {
    let Some(text) = one(headers, name)? else { return Ok(None) };
    let count = Some(text).filter(|text| !text.is_empty()).and_then(number);
    count.map(Some).ok_or_else(|| bad("An offset or a length is a whole number of bytes."))
}

/// Refuses another version of the protocol.
pub(super) fn version(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get("tus-resumable") {
        Some(version) if version.as_bytes() == VERSION.as_bytes() => Ok(()),
        Some(_) | None => {
            let spoken = HeaderName::from_static("tus-version");
            Err(Problem::new(Slug::TusVersion).with(spoken, HeaderValue::from_static(VERSION)))
        }
    }
}

/// `Upload-Offset`.
pub(super) fn offset(headers: &HeaderMap) -> Result<u64, Problem> {
    bytes(headers, "upload-offset")?.ok_or_else(|| bad("Upload-Offset is missing."))
}

/// `Upload-Length`, where a request may say it and need not.
pub(super) fn length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    bytes(headers, "upload-length")
}

/// Exactly one of `Upload-Length` and `Upload-Defer-Length: 1`; `None` for a length that is said
/// later.
pub(super) fn length_or_later(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    match (length(headers)?, one(headers, "upload-defer-length")?) {
        (Some(length), None) => Ok(Some(length)),
        (None, Some("1")) => Ok(None),
        (None, Some(_)) => Err(bad("Upload-Defer-Length is 1, or is not there.")),
        (Some(_), Some(_)) => Err(bad("Upload-Length and Upload-Defer-Length exclude each other.")),
        (None, None) => Err(bad("Upload-Length or Upload-Defer-Length is missing.")),
    }
}

/// Refuses a body of another type than this protocol's.
pub(super) fn content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if kind.is_some_and(|kind| kind.eq_ignore_ascii_case(CONTENT_TYPE)) {
        return Ok(());
    }
    let detail = "The body's type is application/offset+octet-stream.";
    Err(Problem::because(Slug::UnsupportedMediaType, detail))
}

/// `Upload-Checksum`, as a field or announced as a trailer.
pub(super) fn check(
    headers: &HeaderMap,
    trailers: impl FnOnce() -> Option<HeaderMap> + Send + 'static,
) -> Result<Check, Problem> {
    if let Some(text) = one(headers, "upload-checksum")? {
        let checksum = Checksum::parse(text).map_err(|_| unreadable())?;
        return Ok(Check::Against(checksum));
    }
    let announced = headers.get_all(header::TRAILER).iter().any(|names| {
        let names = names.to_str().unwrap_or_default().split(',');
        names.map(str::trim).any(|name| name.eq_ignore_ascii_case("upload-checksum"))
    });
    if !announced {
        return Ok(Check::Nothing);
    }
    Ok(Check::Trailing(Box::new(move || {
        let trailers = trailers()?;
        Checksum::parse(one(&trailers, "upload-checksum").ok()??).ok()
    })))
}

pub(super) fn unreadable() -> Problem {
    bad("Upload-Checksum is sha1, sha256 or crc32c, a space, and the checksum in base64.")
}

/// What an upload is to become.
pub(super) enum Concat {
    Whole,
    Part,
    /// The ids of parts to be joined, in order.
    Final(Vec<String>),
}

/// Parts that are joined at most: a line of them fits a request's head.
const MOST_PARTS: usize = 1000;

/// `Upload-Concat`.
pub(super) fn concat(headers: &HeaderMap) -> Result<Concat, Problem> {
    let unreadable = "Upload-Concat is partial, or final; and the parts' addresses.";
    let Some(text) = one(headers, "upload-concat")? else { return Ok(Concat::Whole) };
    if text == "partial" {
        return Ok(Concat::Part);
    }
    let parts = text.strip_prefix("final;").ok_or_else(|| bad(unreadable))?;
    let id = |address: &str| {
        let (before, id) = address.rsplit_once('/')?;
        before.ends_with("/v1/tus").then(|| id.to_owned())
    };
    let parts: Option<Vec<String>> = parts.split_ascii_whitespace().map(id).collect();
    let parts = parts.filter(|parts| (1..=MOST_PARTS).contains(&parts.len()));
    parts.map(Concat::Final).ok_or_else(|| bad(unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn numbers_are_digits_alone() {
        for (text, read) in [("0", Some(0)), ("17", Some(17)), (" 17 ", Some(17))] {
            assert_eq!(offset(&with("upload-offset", text)).ok(), read, "{text}");
        }
        for bad in ["", "-1", "+1", "1.5", "0x10", "1e3", "18446744073709551616", "1 2"] {
            assert!(offset(&with("upload-offset", bad)).is_err(), "{bad}");
        }
        assert!(offset(&HeaderMap::new()).is_err());
        let mut twice = with("upload-offset", "1");
        twice.append("upload-offset", "1".parse().unwrap());
        assert!(offset(&twice).is_err());
    }

    #[test]
    fn a_length_is_said_now_or_later_and_not_both() {
        assert_eq!(length_or_later(&with("upload-length", "5")).ok(), Some(Some(5)));
        assert_eq!(length_or_later(&with("upload-defer-length", "1")).ok(), Some(None));
        assert!(length_or_later(&with("upload-defer-length", "2")).is_err());
        assert!(length_or_later(&HeaderMap::new()).is_err());
    }

    #[test]
    fn parts_are_named_by_their_addresses() {
        let read = |text: &str| match concat(&with("upload-concat", text)) {
            Ok(Concat::Final(ids)) => Some(ids.join(",")),
            Ok(Concat::Part) => Some("part".to_owned()),
            Ok(Concat::Whole) | Err(_) => None,
        };
        assert_eq!(read("partial").as_deref(), Some("part"));
        assert_eq!(
            read("final;/v1/tus/upl_a https://eu.example/v1/tus/upl_b").as_deref(),
            Some("upl_a,upl_b")
        );
        for bad in ["final", "final;", "final; ", "final;upl_a", "final;/v1/files/upl_a", "whole"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
