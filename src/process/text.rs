//! `text`: the words of a document, plain or as Markdown.

use super::detect::{self, sniff};
use super::document::DocumentKind;
use super::frame::{Fault, MediaType, Request};
use super::options::{Kind, Setting};
use super::worker::Answer;

mod docx;
mod html;
mod pdf;
mod plain;
mod writer;

pub(super) use plain::decode;

pub(super) const KIND: DocumentKind = DocumentKind {
    name: "text",
    media_types: &[
        "application/pdf",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.ms-word.document.macroEnabled.12",
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
        about: "plain, with a form feed between pages, or markdown; plain by default.",
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
        match sniff(document, true).media_type {
            "application/pdf" => pdf::text(document, password)?,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
            | "application/vnd.ms-word.document.macroEnabled.12" => docx::text(document, markdown)?,
            "text/html" | "application/xhtml+xml" => html::text(document, markdown)?,
            "text/plain"
            | "text/csv"
            | "text/tab-separated-values"
            | "application/json"
            | "text/calendar"
            | "text/vcard" => plain::text(document),
            encrypted if encrypted == detect::ENCRYPTED_OFFICE.media_type => {
                return Err(Fault::Encrypted);
            }
            _ => return Err(Fault::Unsupported),
        }
    };
    Ok(Answer { media_type, bytes: text.into_bytes() })
}
