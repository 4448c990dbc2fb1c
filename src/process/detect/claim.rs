//! Whether a file is what somebody says it is.

use super::Format;

/// Names for the same thing.
const SAME: [(&str, &str); 14] = [
    ("application/x-pdf", "application/pdf"),
    ("application/x-zip", "application/zip"),
    ("application/x-zip-compressed", "application/zip"),
    ("application/x-gzip", "application/gzip"),
    ("application/x-rar-compressed", "application/vnd.rar"),
    ("application/x-rtf", "application/rtf"),
    ("text/rtf", "application/rtf"),
    ("text/xml", "application/xml"),
    ("text/json", "application/json"),
    ("image/jpg", "image/jpeg"),
    ("image/pjpeg", "image/jpeg"),
    ("image/x-png", "image/png"),
    ("image/x-tiff", "image/tiff"),
    ("application/x-msdownload", "application/vnd.microsoft.portable-executable"),
];

/// Whether `claim`, a media type, is true of what was found. A wider type is true too: every type
/// is `application/octet-stream`, every text `text/plain`, every package `application/zip`.
pub(super) fn holds(claim: &str, document: &[u8], found: Format) -> bool {
    // A plus sign in a query is a space once it was decoded.
    let claim = claim.trim().replace(' ', "+").to_ascii_lowercase();
    let known = SAME.iter().find(|(other, _)| *other == claim).map(|(_, name)| *name);
    let claim = known.unwrap_or(&claim);
    let found_type = found.media_type;
    let is_text = found_type.starts_with("text/")
        || found_type.ends_with("xml")
        || matches!(found_type, "application/json" | "application/rtf" | "message/rfc822");
    match claim {
        "application/octet-stream" => true,
        "application/zip" => document.starts_with(b"PK"),
        "text/plain" => is_text,
        "text/markdown" => found_type == "text/plain",
        "application/xml" => found_type.ends_with("xml"),
        claim => claim == found_type,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sniff;
    use super::*;

    #[test]
    fn other_names_and_wider_types_are_true() {
        let holds = |claim: &str, document: &[u8]| holds(claim, document, sniff(document, true));
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";
        assert!(holds("image/png", png) && holds("Image/X-PNG", png));
        assert!(holds("application/octet-stream", png));
        assert!(!holds("image/jpeg", png) && !holds("text/plain", png));
        let svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>";
        assert!(holds("image/svg xml", svg) && holds("text/xml", svg) && holds("text/plain", svg));
        assert!(!holds("text/html", svg));
    }
}
