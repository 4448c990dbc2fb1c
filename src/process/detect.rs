//! `detect`: the media type of a document, by its content alone; what else it could be opened as,
//! and whether it is what somebody declared it to be.

use serde_json::json;

use super::document::DocumentKind;
use super::frame::{Fault, MediaType, Request};
use super::options::{Kind, Setting};
use super::worker::Answer;

mod archive;
pub(super) use archive::ENCRYPTED_OFFICE;
mod claim;
mod markup;
mod polyglot;

/// Bytes of a document it looks at. A longer zip is judged by its first members.
const PREFIX: u64 = 16 << 20;

/// Bytes of a text that are looked at.
const TEXT_WINDOW: usize = 64 << 10;

pub(super) const KIND: DocumentKind = DocumentKind {
    name: "detect",
    media_types: &["*/*"],
    settings: &[Setting {
        name: "declared",
        kind: Kind::MediaType,
        about: "The media type the document is said to have; the answer's `matches` tells whether \
            it is true.",
        refusal: "declared is a media type",
    }],
    prefix: Some(PREFIX),
};

/// A media type and the extension files of it usually have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub media_type: &'static str,
    pub extension: &'static str,
}

const fn format(media_type: &'static str, extension: &'static str) -> Format {
    Format { media_type, extension }
}

/// The worker's side.
pub(super) fn answer(request: &Request, document: &[u8]) -> Result<Answer, Fault> {
    let whole = (document.len() as u64) < PREFIX;
    let found = sniff(document, whole);
    let mut json = json!({ "media_type": found.media_type, "extension": found.extension });
    // Said only where there is something to say.
    let also = polyglot::also(document, whole, found);
    if !also.is_empty() {
        json["also"] = json!(also);
    }
    if let Some(claim) = request.options.get("declared") {
        json["matches"] = json!(claim::holds(claim, document, found));
    }
    Ok(Answer { media_type: MediaType::Json, bytes: json.to_string().into_bytes() })
}

/// What `document` is; `whole` if it is not only the beginning of it.
pub(super) fn sniff(document: &[u8], whole: bool) -> Format {
    if document.starts_with(b"PK")
        && let Some(zip) = archive::zip(document, whole)
    {
        return zip;
    }
    // Readers take a PDF's mark further in, too; what only talks of PDF does not end like one.
    match polyglot::pdf_mark(document) {
        Some(0) => return format("application/pdf", "pdf"),
        Some(_) if !whole || polyglot::has_pdf_end(document) => {
            return format("application/pdf", "pdf");
        }
        _ => {}
    }
    if document.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return archive::ole(document);
    }
    if document.starts_with(b"{\\rtf") {
        return format("application/rtf", "rtf");
    }
    let known = infer::get(document).filter(|known| {
        let is_text = known.matcher_type() == infer::MatcherType::Text;
        // Two letters are no proof of an executable, nor is talk of PDF one of a PDF.
        let unsure = ["application/vnd.microsoft.portable-executable", "application/pdf"];
        !is_text && !unsure.contains(&known.mime_type())
    });
    if let Some(known) = known {
        return format(known.mime_type(), known.extension());
    }
    if document.starts_with(b"MZ") && document[..document.len().min(512)].contains(&0) {
        return format("application/vnd.microsoft.portable-executable", "exe");
    }
    let window = &document[..document.len().min(TEXT_WINDOW)];
    let cut = window.len() < document.len() || !whole;
    match readable(window, cut) {
        Some(text) => markup::text(&text, if whole { document } else { b"" }),
        None => format("application/octet-stream", "bin"),
    }
}

/// The beginning of a text, if the bytes look like one.
fn readable(window: &[u8], cut: bool) -> Option<String> {
    if window.is_empty() {
        return None;
    }
    if encoding_rs::Encoding::for_bom(window).is_some() {
        return Some(super::text::decode(window));
    }
    match std::str::from_utf8(window) {
        Ok(text) if is_clean(window) => return Some(text.to_owned()),
        // A character may be cut in two at the window's end.
        Err(error) if cut && error.error_len().is_none() && is_clean(window) => {
            return String::from_utf8(window[..error.valid_up_to()].to_vec()).ok();
        }
        _ => {}
    }
    is_clean(window).then(|| super::text::decode(window))
}

/// No control character but white space, escape and form feed.
fn is_clean(bytes: &[u8]) -> bool {
    let odd = |byte: &&u8| matches!(byte, 0..=8 | 11 | 14..=26 | 28..=31 | 127);
    bytes.iter().filter(odd).count() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(document: &[u8]) -> &'static str {
        sniff(document, true).media_type
    }

    #[test]
    fn content_tells_the_type() {
        let cases: &[(&[u8], &str)] = &[
            (b"%PDF-1.7\n", "application/pdf"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", "image/png"),
            (b"{\\rtf1\\ansi x}", "application/rtf"),
            (b"\n <!DOCTYPE html><p>x", "text/html"),
            (b"<!-- c --><HTML>", "text/html"),
            (b"<?xml version='1.0'?><!-- c --><svg:svg xmlns:svg='x'/>", "image/svg+xml"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
            (b"<?xml version='1.0'?><html xmlns='x'/>", "application/xhtml+xml"),
            (b"<?xml version='1.0'?><root/>", "application/xml"),
            (b"{\"a\": [1, 2]}", "application/json"),
            (b"{not json}", "text/plain"),
            (b"Return-Path: <a@b>\r\nFrom: a\r\nSubject: b\r\n\r\nhi", "message/rfc822"),
            (b"a,b,c\n1,2,3\n4,\"5,5\",6\n", "text/csv"),
            (b"Hello, world.\nIt is, perhaps, a text.\n", "text/plain"),
            (b"caf\xe9 ol\xe9\n", "text/plain"),
            (b"\xff\xfeh\0i\0", "text/plain"),
            (b"\0\x01\x02", "application/octet-stream"),
            (b"", "application/octet-stream"),
            (b"MZ is a text too", "text/plain"),
        ];
        for (document, expected) in cases {
            assert_eq!(media_type(document), *expected, "{}", document.escape_ascii());
        }
    }

    #[test]
    fn a_text_cut_inside_a_character_is_still_one() {
        let text = "ä".repeat(TEXT_WINDOW);
        assert_eq!(media_type(&text.as_bytes()[..TEXT_WINDOW * 2 - 2]), "text/plain");
        assert_eq!(media_type(&[b"a", text.as_bytes()].concat()), "text/plain");
    }
}
