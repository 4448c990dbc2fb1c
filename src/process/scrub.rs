//! `scrub`: takes out of a file what tells of people, devices, places, times and software.
//!
//! Images lose nothing but that: no pixel is decoded, and orientation and colours stay. PDFs and
//! Office packages are written anew. A second worker, started afresh, reads the result as
//! `metadata` would; unless it finds nothing, there is no result. What can hold something that is
//! not understood here is refused, not passed on.

use async_trait::async_trait;

use super::detect::{self, sniff};
use super::document::{DocumentKind, DocumentProcessor, DocumentRoom, DocumentStep};
use super::frame::{Fault, MediaType, Request};
use super::metadata::{self, JUDGE};
use super::options::bad;
use super::worker::Answer;
use super::{Description, Options, Output, ProcessError, Processor, Step, StepStream};
use crate::problem::Slug;

mod images;
mod markup;
mod office;
mod pdf;
mod tiff;

const KIND: DocumentKind = DocumentKind {
    name: "scrub",
    media_types: &[
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/gif",
        "image/tiff",
        "application/pdf",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.oasis.opendocument.text",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.presentation",
    ],
    settings: &[],
    prefix: None,
};

/// What a result that still tells something is refused with.
const NOT_CLEAN: &str = "something personal could not be taken out; nothing is handed out";

/// The `scrub` processor: one worker writes, another one judges.
pub(super) struct Scrub {
    room: DocumentRoom,
    writing: DocumentProcessor,
}

impl Scrub {
    pub(super) fn new(mut room: DocumentRoom) -> Self {
        // What comes out is about as long as what went in.
        room.limits.output_bytes = room.limits.output_bytes.max(room.max_document);
        Self { writing: DocumentProcessor::new(room.clone(), &KIND), room }
    }
}

impl Processor for Scrub {
    fn describe(&self) -> &Description {
        self.writing.describe()
    }

    fn prepare(&self, options: &Options) -> Result<Box<dyn Step>, ProcessError> {
        let writing = self.writing.prepare(options)?;
        Ok(Box::new(Scrubbing { room: self.room.clone(), writing }))
    }
}

struct Scrubbing {
    room: DocumentRoom,
    writing: Box<dyn Step>,
}

#[async_trait]
impl Step for Scrubbing {
    fn streams(&self) -> bool {
        false
    }

    fn approval(&self) -> Option<Box<dyn Step>> {
        Some(Box::new(Judging { room: self.room.clone() }))
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        self.writing.run(input).await
    }
}

/// Reads a scrubbed document again: silence is approval.
struct Judging {
    room: DocumentRoom,
}

#[async_trait]
impl Step for Judging {
    fn streams(&self) -> bool {
        false
    }

    async fn run(self: Box<Self>, input: StepStream) -> Result<Output, ProcessError> {
        let request = Request {
            step: metadata::KIND.name.to_owned(),
            options: [(JUDGE.to_owned(), String::new())].into(),
            ..Request::default()
        };
        let step = DocumentStep::new(self.room, request, None).map_err(|_| bad(NOT_CLEAN))?;
        Box::new(step).run(input).await.map_err(|error| match error {
            ProcessError::Refused { slug: Slug::DocumentTooComplex, .. } => {
                ProcessError::because(Slug::DocumentTooComplex, NOT_CLEAN)
            }
            other => other,
        })
    }
}

/// The worker's side.
pub(super) fn answer(request: &Request, document: &[u8]) -> Result<Answer, Fault> {
    let media_type = sniff(document, true).media_type;
    if media_type == detect::ENCRYPTED_OFFICE.media_type {
        return Err(Fault::Encrypted);
    }
    let kind = MediaType::parse(media_type.as_bytes());
    let kind = kind.or((media_type == "image/apng").then_some(MediaType::Png));
    let media_type = kind.ok_or(Fault::Unsupported)?;
    let password = request.password.as_deref();
    let bytes = scrubbed(media_type, document, password, 0)?;
    Ok(Answer { media_type, bytes })
}

/// Documents inside of one another that are scrubbed; deeper ones are refused.
const MAX_DEPTH: usize = 3;

fn scrubbed(
    media_type: MediaType,
    document: &[u8],
    password: Option<&str>,
    depth: usize,
) -> Result<Vec<u8>, Fault> {
    if depth == MAX_DEPTH {
        return Err(Fault::Complex);
    }
    match media_type {
        MediaType::Jpeg => images::jpeg(document),
        MediaType::Png => images::png(document),
        MediaType::Webp => images::webp(document),
        MediaType::Gif => images::gif(document),
        MediaType::Tiff => tiff::tiff(document),
        MediaType::Pdf => pdf::pdf(document, password),
        MediaType::Docx | MediaType::Xlsx | MediaType::Pptx => office::ooxml(document, depth),
        MediaType::Odt | MediaType::Ods | MediaType::Odp => office::open_document(document, depth),
        MediaType::Json | MediaType::Plain | MediaType::Markdown | MediaType::Bytes => {
            Err(Fault::Unsupported)
        }
    }
}
