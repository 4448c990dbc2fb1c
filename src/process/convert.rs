//! `convert`: an office document becomes a PDF, by LibreOffice where it is installed.
//!
//! LibreOffice wants files, so a few lines of shell stand around it. Both see one tmpfs that they
//! can write to, no network and nothing of this machine's but programs and fonts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::document::DocumentRoom;
use super::own::plain;
use super::program::{ProgramProcessor, Work, verdict};
use super::{ProcessError, Processor};
use crate::jail::{Bubblewrap, ProgramLimits};
use crate::problem::Slug;

const NAME: &str = "convert";

/// What LibreOffice reads that people send.
const MEDIA_TYPES: &[&str] = &[
    "application/msword",
    "application/rtf",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "text/csv",
    "text/html",
    "text/plain",
];

/// An exit code of our own: LibreOffice made nothing of the document.
const NOTHING_MADE: u8 = 65;

/// Reads the document from stdin and writes the PDF to stdout. The office's own word goes nowhere:
/// it may quote the document.
const SCRIPT: &str = "cat >/tmp/document || exit 1
soffice -env:UserInstallation=file:///tmp/profile --headless --norestore --nolockcheck \
--nodefault --convert-to pdf --outdir /tmp/made /tmp/document >/dev/null 2>&1
[ -s /tmp/made/document.pdf ] || exit 65
cat /tmp/made/document.pdf";

/// Its threads and helpers are many and its address space is large; most of it is never touched.
const LIMITS: ProgramLimits = ProgramLimits {
    memory_bytes: 4 << 30,
    time: Duration::from_mins(2),
    output_bytes: 256 << 20,
    scratch_bytes: 512 << 20,
    processes: 96,
};

fn soffice() -> Option<PathBuf> {
    let places = ["/usr/bin/soffice", "/usr/local/bin/soffice"];
    places.into_iter().map(PathBuf::from).find(|place| place.exists())
}

/// Whether LibreOffice is where the system keeps its programs.
#[must_use]
pub fn is_installed() -> bool {
    soffice().is_some() && Path::new("/bin/sh").exists()
}

/// The processor; `None` where LibreOffice is not installed.
pub(super) fn processor(
    room: &DocumentRoom,
    bubblewrap: &Bubblewrap,
) -> Option<Arc<dyn Processor>> {
    if !is_installed() {
        return None;
    }
    let words = ["/bin/sh", "-c", SCRIPT].map(str::to_owned);
    let sandbox = bubblewrap.sandbox(&words, &[], LIMITS)?;
    let work = Work {
        sandbox: Arc::new(sandbox),
        limits: LIMITS,
        media_type: "application/pdf",
        streams: false,
        verdict: judged,
        jail: room.jail.clone(),
        pool: room.pool.clone(),
        clock: room.clock.clone(),
    };
    Some(Arc::new(ProgramProcessor::with(plain(NAME, MEDIA_TYPES), work)))
}

fn judged(code: u8) -> ProcessError {
    if code == NOTHING_MADE {
        return ProcessError::refused(Slug::DocumentDamaged);
    }
    verdict(code)
}
