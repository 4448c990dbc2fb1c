//! The structured fields of draft-ietf-httpbis-resumable-upload. A value of the wrong type counts
//! as none at all (RFC 9651, section 4.2).

use http::{HeaderMap, HeaderName, header};
use sfv::{BareItem, Item, Parser};

/// Interop versions that are spoken. Others get no interim answer.
const VERSIONS: [i64; 2] = [8, 9];

/// What bodies of appends are.
const CONTENT_TYPE: &str = "application/partial-upload";

fn item(headers: &HeaderMap, name: &'static str) -> Option<BareItem> {
    let mut lines = headers.get_all(HeaderName::from_static(name)).iter();
    let line = lines.next()?;
    // Several lines of one field are a list, and no item.
    if lines.next().is_some() {
        return None;
    }
    let item: Item = Parser::new(line.as_bytes()).parse().ok()?;
    Some(item.bare_item)
}

fn number(headers: &HeaderMap, name: &'static str) -> Option<u64> {
    match item(headers, name)? {
        BareItem::Integer(number) => u64::try_from(i64::from(number)).ok(),
        _ => None,
    }
}

/// Whether the upload ends with this request; `None` if it is no request of this protocol.
pub(in crate::http) fn complete(headers: &HeaderMap) -> Option<bool> {
    match item(headers, "upload-complete")? {
        BareItem::Boolean(complete) => Some(complete),
        _ => None,
    }
}

pub(super) fn offset(headers: &HeaderMap) -> Option<u64> {
    number(headers, "upload-offset")
}

pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    number(headers, "upload-length")
}

/// The interop version, if it is one of ours.
pub(super) fn version(headers: &HeaderMap) -> Option<i64> {
    match item(headers, "upload-draft-interop-version")? {
        BareItem::Integer(version) => Some(i64::from(version)).filter(|it| VERSIONS.contains(it)),
        _ => None,
    }
}

pub(super) fn is_partial(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case(CONTENT_TYPE))
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
    fn only_values_of_the_right_type_count() {
        for (text, read) in [
            ("?1", Some(true)),
            ("?0", Some(false)),
            (" ?1;a=1 ", Some(true)),
            ("1", None),
            ("true", None),
            ("?2", None),
            ("?1, ?0", None),
        ] {
            assert_eq!(complete(&with("upload-complete", text)), read, "{text}");
        }
        for (text, read) in [
            ("0", Some(0)),
            ("12;x", Some(12)),
            ("-1", None),
            ("1.0", None),
            ("\"1\"", None),
            ("?1", None),
            ("99999999999999999", None),
        ] {
            assert_eq!(offset(&with("upload-offset", text)), read, "{text}");
        }
        for (text, read) in [("8", Some(8)), ("9", Some(9)), ("7", None), ("8.0", None)] {
            assert_eq!(version(&with("upload-draft-interop-version", text)), read, "{text}");
        }
    }
}
