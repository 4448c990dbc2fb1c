//! The worker's side of a document step: one request, one document, one answer, and its end.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use super::ProcessError;
use super::frame::{Fault, Kind, MAX_PAYLOAD, MAX_REQUEST, MediaType, Request};
use super::{detect, selftest, text};
use crate::jail;

/// What a document step made of a document.
pub(super) struct Answer {
    pub media_type: MediaType,
    pub bytes: Vec<u8>,
}

/// Bytes of a document that are taken in one go.
const FIRST_ROOM: usize = 256 << 10;

/// The worker's own main. It runs on the first thread, whose stack grows to the limit it was
/// given: a recursion that overflows it ends this process and nothing else.
#[must_use]
pub fn worker_main() -> ExitCode {
    if jail::settle_worker().is_err() {
        return ExitCode::FAILURE;
    }
    // A panic's message may quote the document.
    std::panic::set_hook(Box::new(|_| {}));
    let answer = catch_unwind(AssertUnwindSafe(|| work(&mut Pipe))).unwrap_or(Err(Fault::Damaged));
    match write_answer(&mut Pipe, &answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn work(input: &mut impl Read) -> Result<Answer, Fault> {
    let request = read_request(input).map_err(|_| Fault::Limit)?;
    if request.step == selftest::NAME && !selftest::reads(&request) {
        return selftest::answer(&request, &[]);
    }
    // Room from the start: growing from nothing takes a dozen reads, and as many copies.
    let mut document = Vec::with_capacity(FIRST_ROOM);
    let most = request.max_document.saturating_add(1);
    input.take(most).read_to_end(&mut document).map_err(|_| Fault::Limit)?;
    if document.len() as u64 > request.max_document {
        return Err(Fault::Limit);
    }
    let answer = match request.step.as_str() {
        selftest::NAME => selftest::answer(&request, &document),
        _ => parse(&request, &document),
    }?;
    // Told as a fault, so that the gateway need not read it all to find out.
    if answer.bytes.len() as u64 > request.max_output {
        return Err(Fault::Limit);
    }
    Ok(answer)
}

/// The steps that read documents.
fn parse(request: &Request, document: &[u8]) -> Result<Answer, Fault> {
    match request.step.as_str() {
        "detect" => detect::answer(request, document),
        "text" => text::answer(request, document),
        _ => Err(Fault::Unsupported),
    }
}

/// What a document step makes of a document, here and now: to tell what the jail costs, and to
/// try parsers by the ten thousand. Never for a document of somebody else's.
///
/// # Errors
/// The refusal a worker would have sent.
pub fn unjailed(
    step: &str,
    options: &[(&str, &str)],
    document: &[u8],
) -> Result<Vec<u8>, ProcessError> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let request =
        Request { step: step.to_owned(), options: options.collect(), ..Request::default() };
    let answer = parse(&request, document).map_err(|fault| ProcessError::refused(fault.slug()))?;
    Ok(answer.bytes)
}

fn read_request(input: &mut impl Read) -> io::Result<Request> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    input.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

fn write_answer(out: &mut impl Write, answer: &Result<Answer, Fault>) -> io::Result<()> {
    match answer {
        Ok(answer) => {
            write_frame(out, Kind::Head, answer.media_type.as_str().as_bytes())?;
            for piece in answer.bytes.chunks(MAX_PAYLOAD) {
                write_frame(out, Kind::Data, piece)?;
            }
            write_frame(out, Kind::End, b"")
        }
        Err(fault) => write_frame(out, Kind::Problem, fault.slug().as_str().as_bytes()),
    }
}

pub(super) fn write_frame(out: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut head = [kind as u8, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    out.write_all(&head)?;
    out.write_all(payload)
}

/// The worker's two pipes, unbuffered: the standard handles copy, and scan for line ends.
pub(super) struct Pipe;

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), into)?)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
