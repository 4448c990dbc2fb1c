//! Texts that are texts already: only their encoding is to be found.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::Encoding;

/// Bytes the encoding is guessed from.
const GUESS_WINDOW: usize = 1 << 20;

/// The text with line ends as line feeds.
pub(super) fn text(document: &[u8]) -> String {
    let text = decode(document);
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

/// Decodes by byte order mark, else as UTF-8 if it is valid, else as the likeliest legacy
/// encoding. A mark is no part of the text.
pub(in crate::process) fn decode(document: &[u8]) -> String {
    if let Some((encoding, mark)) = Encoding::for_bom(document) {
        return encoding.decode_without_bom_handling(&document[mark..]).0.into_owned();
    }
    match std::str::from_utf8(document) {
        Ok(text) => text.to_owned(),
        Err(_) => guess(document).decode_without_bom_handling(document).0.into_owned(),
    }
}

/// The likeliest encoding of bytes that are not UTF-8.
pub(super) fn guess(document: &[u8]) -> &'static Encoding {
    let window = &document[..document.len().min(GUESS_WINDOW)];
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(window, window.len() == document.len());
    detector.guess(None, Utf8Detection::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_found_by_mark_validity_or_likelihood() {
        assert_eq!(text(b"\xef\xbb\xbfna\xc3\xafve\r\nx\ry"), "naïve\nx\ny");
        assert_eq!(text(b"\xfe\xff\0h\0i"), "hi");
        assert_eq!(text(b"\xff\xfeh\0i\0"), "hi");
        assert_eq!(text("Größe".as_bytes()), "Größe");
        assert_eq!(text(b"Der Gr\xf6\xdfe nach, sagt er."), "Der Größe nach, sagt er.");
        let (shift_jis, _, _) = encoding_rs::SHIFT_JIS.encode("これは日本語の文章です。");
        assert_eq!(text(&shift_jis), "これは日本語の文章です。");
    }
}
