//! `text`: the words of a document, plain or as Markdown: one file per format.

use super::detect::{self, sniff};
use super::document::DocumentKind;
use super::frame::{Fault, MediaType, Request};
use super::options::{Kind, Setting};
use super::worker::Answer;

mod csv;
mod docx;
mod eml;
mod epub;
mod grid;
mod html;
mod odf;
mod ooxml;
mod pdf;
mod plain;
mod pptx;
mod rtf;
mod writer;
mod xlsx;
mod xml;

pub(super) use plain::decode;

pub(super) const KIND: DocumentKind = DocumentKind {
    name: "text",
    media_types: &[
        "application/pdf",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.ms-word.document.macroEnabled.12",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-excel.sheet.macroEnabled.12",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.ms-powerpoint.presentation.macroEnabled.12",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.text-template",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
        "application/epub+zip",
        "application/rtf",
        "message/rfc822",
        "message/news",
        "text/html",
        "application/xhtml+xml",
        "text/plain",
        "text/csv",
        "text/tab-separated-values",
        "text/markdown",
        "text/calendar",
        "text/vcard",
        "application/json",
    ],
    settings: &[Setting {
        name: "format",
        kind: Kind::OneOf(&["plain", "markdown"]),
        about: "plain or markdown; plain by default. In both, a form feed parts pages, slides, \
            sheets and chapters.",
        refusal: "format is plain or markdown",
    }],
    prefix: None,
};

/// The worker's side.
pub(super) fn answer(request: &Request, document: &[u8]) -> Result<Answer, Fault> {
    let markdown = request.options.get("format").is_some_and(|format| format == "markdown");
    let media_type = if markdown { MediaType::Markdown } else { MediaType::Plain };
    let password = request.password.as_deref();
    let text = if document.is_empty() {
        String::new()
    } else {
        read(sniff(document, true).media_type, document, password, markdown)?
    };
    Ok(Answer { media_type, bytes: text.into_bytes() })
}

fn read(
    media_type: &str,
    document: &[u8],
    password: Option<&str>,
    markdown: bool,
) -> Result<String, Fault> {
    if let Some(kind) = media_type.strip_prefix("application/vnd.oasis.opendocument.") {
        let kind = match kind {
            "text" | "text-template" => odf::Kind::Text,
            "spreadsheet" => odf::Kind::Sheets,
            "presentation" => odf::Kind::Slides,
            _ => return Err(Fault::Unsupported),
        };
        return odf::text(document, kind, markdown);
    }
    match media_type {
        "application/pdf" => pdf::text(document, password),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
        | "application/vnd.ms-word.document.macroEnabled.12" => docx::text(document, markdown),
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        | "application/vnd.ms-excel.sheet.macroEnabled.12" => xlsx::text(document, markdown),
        "application/vnd.openxmlformats-officedocument.presentationml.presentation"
        | "application/vnd.ms-powerpoint.presentation.macroEnabled.12" => {
            pptx::text(document, markdown)
        }
        "application/epub+zip" => epub::text(document, markdown),
        "application/rtf" => rtf::text(document, markdown),
        "message/rfc822" | "message/news" => eml::text(document, markdown),
        "text/html" | "application/xhtml+xml" => html::text(document, markdown),
        "text/csv" => csv::text(document, false, markdown),
        "text/tab-separated-values" => csv::text(document, true, markdown),
        "text/plain" | "application/json" | "text/calendar" | "text/vcard" => {
            Ok(plain::text(document))
        }
        encrypted if encrypted == detect::ENCRYPTED_OFFICE.media_type => Err(Fault::Encrypted),
        _ => Err(Fault::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    /// A zip with these members.
    pub(super) fn package(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in parts {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }
}
