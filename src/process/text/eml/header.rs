//! Header fields of a mail: unfolded, their parameters read (RFC 2045, 2231), their words decoded
//! (RFC 2047).

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};

use super::super::plain;
use super::transfer;

/// Fields a part may have; more are not looked at.
const MAX_FIELDS: usize = 1000;

/// The fields at the head of a mail or part, unfolded.
pub(super) struct Headers {
    fields: Vec<(String, String)>,
}

impl Headers {
    /// The fields, and the body after the first empty line.
    pub(super) fn read(bytes: &[u8]) -> (Self, &[u8]) {
        let (mut fields, mut rest): (Vec<(String, String)>, &[u8]) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let (line, after) = rest.split_at(end);
            rest = after;
            let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
            let line = line.trim_ascii();
            if line.is_empty() {
                break;
            }
            let text = plain::decode(line);
            if is_folded {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(' ');
                    value.push_str(&text);
                }
            } else if let Some((name, value)) = text.split_once(':')
                && fields.len() < MAX_FIELDS
            {
                fields.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        (Self { fields }, rest)
    }

    /// All of them, as they were written.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A field with parameters: `text/plain; charset=utf-8`.
pub(super) struct Header {
    /// In lower case.
    pub value: String,
    parameters: Vec<(String, String)>,
}

impl Header {
    pub(super) fn of(field: &str) -> Self {
        let mut parts = Self::cut(field).into_iter();
        let value = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let pair = |part: String| {
            let (name, value) = part.split_once('=')?;
            let value = value.trim();
            let quoted = value.strip_prefix('"').map(unquoted);
            let value = quoted.unwrap_or_else(|| value.to_owned());
            Some((name.trim().to_ascii_lowercase(), value))
        };
        Self { value, parameters: parts.filter_map(pair).collect() }
    }

    /// The parts between semicolons that stand in no quotes.
    fn cut(field: &str) -> Vec<String> {
        let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
        for c in field.chars() {
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && quoted && !escaped;
            match parts.last_mut() {
                Some(part) if c != ';' || quoted => part.push(c),
                _ => parts.push(String::new()),
            }
        }
        parts
    }

    /// A parameter, also one in pieces or with an encoding of its own (RFC 2231).
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let find = |wanted: &str| {
            self.parameters.iter().find(|(known, _)| known == wanted).map(|(_, value)| value)
        };
        if let Some(value) = find(name) {
            return Some(value.clone());
        }
        if let Some(value) = find(&format!("{name}*")) {
            return Some(extended(value));
        }
        let piece = |at: usize| {
            let plain = find(&format!("{name}*{at}"));
            plain.or_else(|| find(&format!("{name}*{at}*")))
        };
        let whole: String = (0..100).map_while(|at| piece(at).map(String::as_str)).collect();
        (!whole.is_empty()).then(|| extended(&whole))
    }
}

/// What stands between quotes, up to the second one, its escapes taken away.
fn unquoted(rest: &str) -> String {
    let (mut text, mut chars) = (String::new(), rest.chars());
    while let Some(c) = chars.next().filter(|c| *c != '"') {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

/// `utf-8'en'%C3%A4` as text.
fn extended(value: &str) -> String {
    let mut parts = value.splitn(3, '\'');
    let (Some(label), Some(_), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return value.to_owned();
    };
    let bytes: Cow<'_, [u8]> = percent_encoding::percent_decode_str(text).into();
    let encoding = Encoding::for_label(label.as_bytes()).unwrap_or(UTF_8);
    encoding.decode(&bytes).0.into_owned()
}

/// A field's text, its encoded words decoded: `=?utf-8?B?…?=`.
pub(super) fn decoded(field: &str) -> String {
    let (mut text, mut rest, mut after_word) = (String::new(), field, false);
    while let Some((before, word)) = rest.split_once("=?") {
        let Some((decoded, after)) = encoded_word(word) else {
            text.push_str(before);
            text.push_str("=?");
            rest = word;
            after_word = false;
            continue;
        };
        // White space between two encoded words is no text.
        if !(after_word && before.trim().is_empty()) {
            text.push_str(before);
        }
        text.push_str(&decoded);
        rest = after;
        after_word = true;
    }
    text.push_str(rest);
    text
}

/// What follows `=?`, up to `?=`.
fn encoded_word(word: &str) -> Option<(String, &str)> {
    let (label, rest) = word.split_once('?')?;
    let (coding, rest) = rest.split_once('?')?;
    let (content, after) = rest.split_once("?=")?;
    let label = label.split('*').next()?;
    let encoding = Encoding::for_label(label.as_bytes())?;
    let bytes = match coding {
        "B" | "b" => transfer::base64(content.as_bytes()),
        "Q" | "q" => transfer::quoted(content.replace('_', " ").as_bytes()),
        _ => return None,
    };
    Some((encoding.decode_without_bom_handling(&bytes).0.into_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_parameters_are_decoded_or_left_as_they_are() {
        assert_eq!(decoded("=?utf-8?Q?a_=C3=A9?= =?UTF-8?b?eA==?= y =?x"), "a éx y =?x");
        assert_eq!(decoded("=?no-such?Q?a?="), "=?no-such?Q?a?=");
        let header = Header::of("Text/Plain; name*0*=utf-8''%C3%A4; name*1=b; c=\"x;\\\"y\"; d");
        assert_eq!(header.value, "text/plain");
        assert_eq!(header.get("name").unwrap(), "äb");
        assert_eq!(header.get("c").unwrap(), "x;\"y");
        assert_eq!(header.get("d"), None);
    }

    #[test]
    fn fields_are_unfolded() {
        let (headers, body) = Headers::read(b"A: one\r\n two\r\nnonsense\r\nB:x\r\n\r\nbody\r\n");
        assert_eq!((headers.get("a"), headers.get("b")), (Some("one two"), Some("x")));
        assert_eq!(body, b"body\r\n");
    }
}
