//! The text of 200 small PDFs: the gateway beside pdftotext, started for each.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use lopdf::content::{Content, Operation};
use lopdf::{Document, Object, Stream, dictionary};
use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::{AT_ONCE, Side, compare, through};

const FILES: usize = 200;
const PAGES: usize = 2;
const LINES: usize = 40;

/// As issue 11 asks.
const PROMISE: f64 = 2.0;

/// Prints the comparison; true if the promise is kept.
///
/// # Errors
/// When the gateway or pdftotext cannot be run, or gives a wrong text.
pub fn run() -> Result<bool> {
    let dir = TempDir::new()?;
    let (mut files, mut places): (Vec<Vec<u8>>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for number in 0..FILES {
        let bytes = letter(number)?;
        let place = dir.path().join(format!("{number}.pdf"));
        std::fs::write(&place, &bytes)?;
        files.push(bytes);
        places.push(place);
    }
    let gateway = Gateway::start()?;
    let check = |number: usize, text: &[u8]| holds(number, text);
    let ours = || through(&gateway, "/v1/process/text", &files, &check);
    let one = || places.iter().enumerate().try_for_each(|(at, place)| pdftotext(at, place));
    let several = || pdftotext_at_once(&places);
    // The first requests find caches cold.
    ours()?;
    let name = format!("dayfly, {AT_ONCE} connections");
    let at_once = format!("pdftotext, {AT_ONCE} at once");
    let theirs = [
        Side { name: "pdftotext, one after the other", run: &one },
        Side { name: &at_once, run: &several },
    ];
    let size = files.iter().map(Vec::len).sum::<usize>() / FILES;
    let what = format!("text of {FILES} PDFs of {PAGES} pages, {size} bytes each");
    compare(&what, FILES, PROMISE, &Side { name: &name, run: &ours }, &theirs)
}

fn pdftotext(number: usize, place: &PathBuf) -> Result<()> {
    let mut command = Command::new("pdftotext");
    command.arg(place).arg("-").stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().context("pdftotext cannot be run: install poppler-utils")?;
    ensure!(output.status.success(), "pdftotext failed");
    holds(number, &output.stdout)
}

fn pdftotext_at_once(places: &[PathBuf]) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = places.get(at) else { return anyhow::Ok(()) };
                pdftotext(at, place)?;
            }
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}

/// Both sides must have done the work.
fn holds(number: usize, text: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(text);
    let last = format!("letter {number} page {} line {}", PAGES, LINES);
    ensure!(text.contains(&last), "the text of letter {number} is not whole");
    Ok(())
}

/// A letter as office programs make them: compressed pages, a standard font.
fn letter(number: usize) -> Result<Vec<u8>> {
    let mut document = Document::with_version("1.5");
    let pages = document.new_object_id();
    let font = document.add_object(dictionary! {
        "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica",
        "Encoding" => "WinAnsiEncoding",
    });
    let mut kids: Vec<Object> = Vec::new();
    for page in 1..=PAGES {
        let mut operations = vec![
            Operation::new("BT", vec![]),
            Operation::new("Tf", vec!["F1".into(), 11.into()]),
            Operation::new("TL", vec![14.into()]),
            Operation::new("Td", vec![72.into(), 760.into()]),
        ];
        for line in 1..=LINES {
            let words = format!("letter {number} page {page} line {line} and some words to read");
            operations.push(Operation::new("Tj", vec![Object::string_literal(words)]));
            operations.push(Operation::new("T*", vec![]));
        }
        operations.push(Operation::new("ET", vec![]));
        let content = Content { operations }.encode()?;
        let content = document.add_object(Stream::new(dictionary! {}, content));
        kids.push(
            document
                .add_object(dictionary! {
                    "Type" => "Page", "Parent" => pages, "Contents" => content,
                    "MediaBox" => vec![0.into(), 0.into(), 595.into(), 842.into()],
                    "Resources" => dictionary! { "Font" => dictionary! { "F1" => font } },
                })
                .into(),
        );
    }
    let count = i64::try_from(kids.len())?;
    let tree = dictionary! { "Type" => "Pages", "Kids" => kids, "Count" => count };
    document.objects.insert(pages, tree.into());
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
    document.trailer.set("Root", catalog);
    document.compress();
    let mut bytes = Vec::new();
    document.save_to(&mut bytes)?;
    Ok(bytes)
}
