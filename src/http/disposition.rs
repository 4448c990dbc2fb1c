//! File names in Content-Disposition, read (RFC 6266) and written (RFC 8187).

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

/// The file name a request's Content-Disposition gives: `filename*` before `filename`.
pub(super) fn read(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_DISPOSITION)?;
    let value = String::from_utf8_lossy(value.as_bytes());
    let (_, parameters) = value.split_once(';')?;
    let (mut plain, mut extended) = (None, None);
    let mut rest = parameters.chars().peekable();
    while let Some((name, value)) = parameter(&mut rest) {
        match name.trim().to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value),
            "filename*" => extended = decode(&value),
            _ => {}
        }
    }
    extended.or(plain)
}

/// The next `name=value`, and the `;` after it; a quoted value may hold `;` and escapes.
fn parameter(rest: &mut Peekable<Chars<'_>>) -> Option<(String, String)> {
    rest.peek()?;
    let mut name = String::new();
    while let Some(c) = rest.next_if(|c| *c != '=' && *c != ';') {
        name.push(c);
    }
    let mut value = String::new();
    if rest.next() != Some('=') {
        // A word without a value says nothing.
        name.clear();
    } else {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = rest.next_if_eq(&'"').is_some();
        while let Some(c) = rest.next_if(|c| quoted || *c != ';') {
            match c {
                '"' if quoted => break,
                '\\' if quoted => value.extend(rest.next()),
                other => value.push(other),
            }
        }
        if !quoted {
            value.truncate(value.trim_end().len());
        }
        // What stands between a closing quote and the next parameter means nothing.
        while rest.next_if(|c| *c != ';').is_some() {}
        rest.next();
    }
    Some((name, value))
}

/// `charset'language'percent-encoded` (RFC 8187); `None` if it is damaged.
fn decode(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, text) = rest.split_once('\'')?;
    let bytes = percent_decode_str(text);
    match charset.trim().to_ascii_lowercase().as_str() {
        "utf-8" => bytes.decode_utf8().ok().map(std::borrow::Cow::into_owned),
        "iso-8859-1" => Some(bytes.map(char::from).collect()),
        _ => None,
    }
}

/// Always an attachment; the name percent-encoded, so that no character of it can end the header.
pub(super) fn write(name: Option<&str>) -> String {
    let Some(name) = name else { return "attachment".to_owned() };
    let mut header = "attachment; filename*=UTF-8''".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            header.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(header, "%{byte:02X}");
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_it_is_written() {
        for (value, expected) in [
            ("attachment; filename=a.txt", Some("a.txt")),
            ("attachment; filename=\"a;b.txt\"; x=1", Some("a;b.txt")),
            ("attachment; filename=\"a\\\"b.txt\"", Some("a\"b.txt")),
            ("attachment; filename=\"a.txt\"; filename*=UTF-8''%c3%a9.txt", Some("é.txt")),
            ("attachment; filename=\"a.txt\"; filename*=UTF-8''%ff", Some("a.txt")),
            ("attachment; filename*=iso-8859-1'en'%e9.txt", Some("é.txt")),
            ("attachment; FileName = spaced.txt ", Some("spaced.txt")),
            ("attachment; filename=\"never ends", Some("never ends")),
            ("attachment; filename", None),
            ("attachment;;;", None),
            ("attachment", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_DISPOSITION, value.parse().unwrap());
            assert_eq!(read(&headers).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_name_cannot_end_its_header() {
        assert_eq!(write(None), "attachment");
        assert_eq!(
            write(Some("a\"; b\r\n é.pdf")),
            "attachment; filename*=UTF-8''a%22%3B%20b%0D%0A%20%C3%A9.pdf"
        );
    }
}
