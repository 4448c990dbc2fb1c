//! The worker's side of a document step: one request, one document, one answer, and its end.

use std::io::{self, IoSlice, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use rustix::buffer::spare_capacity;

use super::ProcessError;
use super::frame::{Fault, Kind, MAX_PAYLOAD, MAX_REQUEST, MediaType, Request};
use super::{archive, detect, metadata, scrub, selftest, text};
use crate::jail;

/// What a document step made of a document.
pub(super) struct Answer {
    pub media_type: MediaType,
    pub bytes: Vec<u8>,
}

/// Room for a document; for a longer one it grows.
const FIRST_ROOM: usize = 1 << 20;

/// What a worker touches while it still waits: the first pages of a document and of what becomes of
/// it need not be asked of the kernel one by one when they are wanted.
const WARM: usize = 3 << 20;

/// The worker's own main. It runs on the first thread, whose stack grows to the limit it was
/// given: a recursion that overflows it ends this process and nothing else.
#[must_use]
pub fn worker_main() -> ExitCode {
    if jail::settle_worker().is_err() {
        return ExitCode::FAILURE;
    }
    // A panic's message may quote the document.
    std::panic::set_hook(Box::new(|_| {}));
    warm_up();
    let room = Vec::with_capacity(FIRST_ROOM + 1);
    let done = catch_unwind(AssertUnwindSafe(|| {
        let request = read_request(&mut Pipe).map_err(|_| Fault::Limit)?;
        // Its output leaves while its input still comes.
        if request.step == archive::NAME {
            return archive::serve(&request, Pipe, &mut Pipe).map(|()| None);
        }
        work(&request, room).map(Some)
    }));
    let answer = match done.unwrap_or(Err(Fault::Damaged)) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(answer)) => Ok(answer),
        Err(fault) => Err(fault),
    };
    match write_answer(&mut Pipe, &answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Fills the heap with pages that are there. Nothing is given back from here on: this process is
/// used once.
fn warm_up() {
    #[cfg(target_env = "gnu")]
    // SAFETY: settings of the allocator alone, before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
    drop(std::hint::black_box(vec![1_u8; WARM]));
}

/// `document` is empty: room for what is to be read.
fn work(request: &Request, mut document: Vec<u8>) -> Result<Answer, Fault> {
    if request.step == selftest::NAME && !selftest::reads(request) {
        return selftest::answer(request, &[]);
    }
    read_document(&mut document, request.max_document).map_err(|_| Fault::Limit)?;
    let answer = match request.step.as_str() {
        selftest::NAME => selftest::answer(request, &document),
        _ => parse(request, &document),
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
        "metadata" => metadata::answer(request, document),
        "scrub" => scrub::answer(request, document),
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

/// Reads to the pipe's end; an error if there are more than `most` bytes.
fn read_document(document: &mut Vec<u8>, most: u64) -> io::Result<()> {
    loop {
        if document.len() == document.capacity() {
            // Doubles.
            document.reserve(document.len().max(FIRST_ROOM));
        }
        let read = || rustix::io::read(rustix::stdio::stdin(), spare_capacity(document));
        let read = rustix::io::retry_on_intr(read)?;
        if document.len() as u64 > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if read == 0 {
            return Ok(());
        }
    }
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
    // In one go, so that whoever reads is woken once.
    let both = [IoSlice::new(&head), IoSlice::new(payload)];
    let written = out.write_vectored(&both)?;
    out.write_all(&head[written.min(head.len())..])?;
    out.write_all(&payload[written.saturating_sub(head.len())..])
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

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(rustix::stdio::stdout(), pieces)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
