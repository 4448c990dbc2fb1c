//! What a thief finds in the gateway's memory once files are over: none of their keys and bytes;
//! and with the spool's files beside it, nothing that opens.
//!
//! The victim is this very program, executed under another name: the stages over seeded entropy,
//! so that every key is known to the thief, who keeps none where the search looks. The thief
//! derives the keys by its own reading of VAULT.md, and shows that they are the right ones: with
//! them it opens what it took from the spool while the files lived.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails loudly")]

mod derive;
mod search;
mod thief;
mod victim;

use std::time::Duration;

use dayfly::clock::{Clock, SystemClock};
use derive::Opened;
use search::{Found, Needle, What};
use thief::{Dump, Thief};

/// Freed memory holds nothing, as in the gateway itself.
#[global_allocator]
static MEMORY: dayfly::secret::Wiping = dayfly::secret::Wiping;

/// Files the thief is after.
const FILES: usize = 200;
/// Each more than a chunk long, and none a whole number of chunks.
const BYTES: usize = 20_000;
/// The promise: this long after the end nothing is found.
const WITHIN: Duration = Duration::from_secs(5);
/// Windows of the dump that are tried as keys where time is short.
const FEW: usize = 1000;

/// What the victim does.
#[test]
fn victim() {
    victim::main();
}

/// Every kind of needle that must be gone; `epochs` too once the deadline has passed.
fn needles(files: &[Opened], epochs: bool) -> Vec<Needle> {
    let mut needles = Vec::new();
    // Most files share their bucket's key.
    let mut keys: Vec<_> = files.iter().filter_map(|file| file.epoch_key).collect();
    keys.sort_unstable();
    keys.dedup();
    needles.extend(keys.iter().filter(|_| epochs).map(|key| Needle::key(What::EpochKey, key)));
    for file in files {
        needles.push(Needle::key(What::FileSecret, &file.file_secret));
        needles.push(Needle::key(What::InputKey, &file.input_key));
        needles.push(Needle::key(What::ChunkKey, &file.chunk_key));
        needles.push(Needle::key(What::RecordKey, &file.record_key));
        needles.push(Needle::text(&file.word));
    }
    needles
}

/// What is left at the end of the time that the promise leaves; and the memory it was not found in.
#[track_caller]
fn look(thief: &Thief, needles: &[Needle]) -> Dump {
    let began = SystemClock.now().boot;
    loop {
        let dump = thief.dump().expect("it was readable before");
        let found = search::find(needles, &dump);
        if found.is_empty() {
            return dump;
        }
        let over = SystemClock.now().boot.since(began) > WITHIN;
        assert!(
            !over,
            "{} pieces are left: {}",
            found.len(),
            search::told(&found.iter().collect::<Vec<_>>())
        );
    }
}

/// Puts files into a victim, and proves the needles before anything is looked for.
fn rob(pages: &str) -> Option<(Thief, Vec<Opened>)> {
    let mut thief = Thief::start(pages);
    if thief.dump().is_none_or(|dump| dump.bytes() < 1 << 20) {
        println!("SKIPPED: the search of another process's memory is not allowed here");
        return None;
    }
    let long = thief.put(FILES * 3 / 4, 3600, BYTES);
    let short = thief.put(FILES / 4, 120, BYTES);
    thief.tell("read");
    let (spool, drawn) = (thief.spool(BYTES), thief.drawn());
    let files = derive::all(&[long, short].concat(), &drawn, &spool);
    assert_eq!(files.len(), FILES, "each file opens with the keys the thief derived");
    let with_epoch = files.iter().filter(|file| file.epoch_key.is_some()).count();
    assert_eq!(with_epoch, FILES * 3 / 4);
    Some((thief, files))
}

/// How many of a kind were found, and where.
fn shown(found: &[Found], what: What) -> (usize, String) {
    let of: Vec<&Found> = found.iter().filter(|one| one.what == what).collect();
    let mut which: Vec<usize> = of.iter().map(|one| one.needle).collect();
    which.sort_unstable();
    which.dedup();
    (which.len(), search::told(&of))
}

/// The control: in pages that can be read, the very search that must find nothing later finds every
/// live secret.
#[test]
fn keys_that_live_in_readable_pages_are_found_and_gone_with_their_files() {
    let Some((mut thief, files)) = rob("mlock") else { return };
    let all = needles(&files, true);
    thief.tell("stream");
    let found = search::find(&all, &thief.dump().unwrap());
    for (what, count) in [
        (What::FileSecret, FILES),
        (What::EpochKey, 1),
        // The one stream that runs; the others were derived, used and wiped.
        (What::ChunkKey, 1),
        (What::InputKey, 0),
        (What::RecordKey, 0),
    ] {
        let (shown, places) = shown(&found, what);
        assert_eq!(shown, count, "{what:?} while they live: {places}");
    }
    thief.tell("unstream");
    thief.tell("delete");
    let dump = look(&thief, &needles(&files, false));
    let (epochs, _) = shown(&search::find(&all, &dump), What::EpochKey);
    assert!(epochs > 0, "their bucket has not ended");
    thief.tell("expire");
    look(&thief, &all);
}

#[test]
fn nothing_of_deleted_files_is_in_memory() {
    let Some((mut thief, files)) = rob("secret") else { return };
    thief.tell("stream");
    thief.tell("unstream");
    thief.tell("delete");
    look(&thief, &needles(&files, false));
}

#[test]
fn nothing_of_expired_files_is_in_memory_and_none_opens_with_spool_and_dump() {
    for pages in ["secret", "mlock"] {
        let Some((mut thief, files)) = rob(pages) else { return };
        thief.tell("stream");
        thief.tell("unstream");
        thief.tell("expire");
        let dump = look(&thief, &needles(&files, true));
        // Not only are the right keys not there: no window of the dump is one, whatever it is.
        let windows = dump.windows();
        let tried = if long() { windows.len() } else { windows.len().min(FEW) };
        let step = (windows.len() / tried.max(1)).max(1);
        for window in windows.iter().step_by(step) {
            for file in &files {
                assert!(!file.opens_with(window), "a file opens with a piece of the dump");
            }
        }
        println!("{pages}: {} windows of {} tried on each file", tried, windows.len());
        // The control: the right one would have been noticed.
        assert!(files.iter().all(|file| file.opens_with(&file.input_key)));
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a test runs is no setting of the gateway")]
fn long() -> bool {
    std::env::var("DAYFLY_TIER").is_ok_and(|tier| tier == "long")
}
