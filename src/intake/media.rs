//! A file's type as its first bytes tell it, or else as its sender said.
//!
//! Only magic numbers are compared here. Whatever needs parsing happens in a worker.

const UNKNOWN: &str = "application/octet-stream";
/// What command-line clients send when nobody chose a type: it says nothing about the file.
const MEANINGLESS: [&str; 2] = ["application/x-www-form-urlencoded", UNKNOWN];

/// The folder each kind of Office Open XML document keeps its parts in.
const OFFICE: [(&[u8], &str); 3] = [
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
];

/// The media type of a file that starts with `head` and was declared as `declared`.
#[must_use]
pub fn media_type(head: &[u8], declared: Option<&str>) -> String {
    if let Some(kind) = infer::get(head) {
        let found = kind.mime_type();
        return if found == "application/zip" { inside_zip(head) } else { found }.to_owned();
    }
    let declared = declared.and_then(essence).filter(|said| !MEANINGLESS.contains(&said.as_str()));
    declared.unwrap_or_else(|| if is_text(head) { "text/plain" } else { UNKNOWN }.to_owned())
}

/// Office documents are zip archives: the names of their first members tell them apart.
fn inside_zip(head: &[u8]) -> &'static str {
    let names = |wanted: &[u8]| {
        let starts = head.windows(4).enumerate().filter(|(_, four)| *four == b"PK\x03\x04");
        // A local file header has its name after 30 bytes (APPNOTE.TXT, section 4.3.7).
        starts.filter_map(|(at, _)| head.get(at + 30..)).any(|name| name.starts_with(wanted))
    };
    OFFICE.iter().find(|(folder, _)| names(folder)).map_or("application/zip", |(_, kind)| kind)
}

/// What a sender declared, if it can be a media type: kept as it was sent, up to 255 bytes.
#[must_use]
pub fn declared_type(value: &str) -> Option<String> {
    (value.len() <= 255 && essence(value).is_some()).then(|| value.to_owned())
}

/// `type/subtype` of a Content-Type value, if it is well formed (RFC 9110, section 8.3.1).
pub(super) fn essence(value: &str) -> Option<String> {
    let essence = value.split(';').next()?.trim().to_ascii_lowercase();
    let token = |part: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !part.is_empty() && part.len() <= 100 && part.bytes().all(fits)
    };
    let (kind, subtype) = essence.split_once('/')?;
    (token(kind) && token(subtype)).then_some(essence)
}

fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The head may end inside a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() && !"\t\r\n\u{c}".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_wins_over_the_claim_and_the_claim_over_a_guess() {
        let pdf = b"%PDF-1.7\n%\xe2\xe3";
        for (head, declared, expected) in [
            (&pdf[..], Some("text/html"), "application/pdf"),
            (&b"a,b\n1,2\n"[..], Some("text/csv; charset=utf-8"), "text/csv"),
            (&b"a,b\n"[..], Some("application/x-www-form-urlencoded"), "text/plain"),
            (&b"hello"[..], None, "text/plain"),
            (&b"\x00\x01\x02"[..], None, UNKNOWN),
            (&b""[..], None, UNKNOWN),
            (&b"\x00"[..], Some("evil\r\nheader: x"), UNKNOWN),
            ("grü\u{df}".as_bytes(), None, "text/plain"),
        ] {
            assert_eq!(media_type(head, declared), expected);
        }
    }
}
