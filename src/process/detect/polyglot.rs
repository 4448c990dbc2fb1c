//! Files that are also something else: what another reader would take them for.

use memchr::memmem;

use super::{Format, archive};

/// Bytes at the beginning in which browsers look for markup, and PDF readers for their mark.
const BEGINNING: usize = 1024;

/// Media types that `document`, known to be `found`, could be opened as too.
pub(super) fn also(document: &[u8], whole: bool, found: Format) -> Vec<&'static str> {
    let mut others = Vec::new();
    let mut add = |media_type: &'static str, is_so: bool| {
        if is_so && found.media_type != media_type {
            others.push(media_type);
        }
    };
    let is_pdf = found.media_type == "application/pdf";
    if is_pdf && let Some(first) = infer::get(document) {
        // Its mark stands behind that of another format.
        add(first.mime_type(), first.matcher_type() != infer::MatcherType::Text);
    }
    let is_zip = document.starts_with(b"PK");
    if !is_pdf {
        let is_pdf = whole && pdf_mark(document).is_some() && has_pdf_end(document);
        add("application/pdf", is_pdf);
    }
    add("application/zip", !is_zip && whole && archive::ends_as_zip(document));
    let kind = found.media_type.split('/').next().unwrap_or_default();
    if matches!(kind, "image" | "audio" | "video") && found.extension != "svg" {
        add("text/html", holds_markup(document));
        let behind = document.get(1..).unwrap_or_default();
        add("application/vnd.rar", memmem::find(behind, b"Rar!\x1a\x07").is_some());
        add("application/x-7z-compressed", memmem::find(behind, b"7z\xbc\xaf\x27\x1c").is_some());
    }
    others
}

/// Where a PDF's mark stands, which need not be the very beginning.
pub(super) fn pdf_mark(document: &[u8]) -> Option<usize> {
    memmem::find(&document[..document.len().min(BEGINNING)], b"%PDF-")
}

/// Whether a PDF ends here: the place of its table, or its last line.
pub(super) fn has_pdf_end(document: &[u8]) -> bool {
    memmem::rfind(document, b"startxref").is_some() || memmem::rfind(document, b"%%EOF").is_some()
}

fn holds_markup(document: &[u8]) -> bool {
    let beginning = document[..document.len().min(BEGINNING)].to_ascii_lowercase();
    [&b"<script"[..], b"<html", b"<!doctype html", b"<iframe"]
        .iter()
        .any(|mark| memmem::find(&beginning, mark).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::sniff;
    use super::*;

    fn said(document: &[u8]) -> (&'static str, Vec<&'static str>) {
        let found = sniff(document, true);
        (found.media_type, also(document, true, found))
    }

    fn zip(name: &str, content: &[u8]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        writer.start_file(name, stored).unwrap();
        std::io::Write::write_all(&mut writer, content).unwrap();
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn what_is_two_things_is_said_to_be_two() {
        let gif = b"GIF89a\x01\0\x01\0\0\0\0;".to_vec();
        let pdf = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\nstartxref\n0\n%%EOF\n".to_vec();
        let archive = zip("a", b"x");
        assert_eq!(said(&gif), ("image/gif", vec![]));
        assert_eq!(said(&pdf), ("application/pdf", vec![]));
        assert_eq!(said(&archive), ("application/zip", vec![]));
        assert_eq!(said(&[gif.clone(), archive.clone()].concat()).1, ["application/zip"]);
        assert_eq!(said(&[pdf.clone(), archive.clone()].concat()).1, ["application/zip"]);
        let both = said(&[gif.clone(), pdf.clone()].concat());
        assert_eq!(both, ("application/pdf", vec!["image/gif"]));
        let script = [&gif[..], b"<SCRIPT>alert(1)</SCRIPT>"].concat();
        assert_eq!(said(&script), ("image/gif", vec!["text/html"]));
        let rar = [&gif[..], b"Rar!\x1a\x07\x00"].concat();
        assert_eq!(said(&rar).1, ["application/vnd.rar"]);
    }

    #[test]
    fn a_zip_of_a_pdf_is_a_zip_and_talk_of_pdf_is_talk() {
        let pdf = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\nstartxref\n0\n%%EOF\n";
        assert_eq!(said(&zip("a.pdf", pdf)), ("application/zip", vec!["application/pdf"]));
        assert_eq!(said(b"A file that begins with %PDF-1.4 is a PDF.\n"), ("text/plain", vec![]));
    }
}
