//! What must not be lost between two checkpoints: written before anybody is answered.
//!
//! Frames are appended with write(2) and no sync: they survive a kill of the process, and may not
//! survive a loss of power. A frame that was torn ends its segment.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::tree::{LEAF_BYTES, LeafBytes};
use crate::disk::StateDir;

/// A segment that is longer than this is followed by another.
const SEGMENT_BYTES: u64 = 32 << 20;
const PREFIX: &str = "journal-";
const CHECK_BYTES: usize = 8;
/// Ranges of frames that could not be written and whose writers may still ask.
const FAILURES: usize = 64;

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Rows, sealed together.
    Rows(Vec<u8>),
    /// A leaf that was promised, where no rows are kept.
    Leaf(LeafBytes),
    /// From this index on these are in the log: each a row's leaf of that kind, or a leaf whose
    /// hash begins like that.
    Logged { first: u64, leaves: Vec<([u8; 16], u8)> },
    /// Everything in the log up to this size has been written down.
    Settled { size: u64 },
    /// A line of a tenant's audit trail, sealed, with its number and when it is to be forgotten.
    Line { tag: [u8; 16], number: u64, until: u64, sealed: Vec<u8> },
}

impl Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4 + CHECK_BYTES]);
        match self {
            Self::Rows(sealed) => {
                out.push(1);
                out.extend_from_slice(sealed);
            }
            Self::Leaf(leaf) => {
                out.push(2);
                out.extend_from_slice(leaf);
            }
            Self::Logged { first, leaves } => {
                out.push(3);
                out.extend_from_slice(&first.to_be_bytes());
                for (key, kind) in leaves {
                    out.extend_from_slice(key);
                    out.push(*kind);
                }
            }
            Self::Settled { size } => {
                out.push(4);
                out.extend_from_slice(&size.to_be_bytes());
            }
            Self::Line { tag, number, until, sealed } => {
                out.push(5);
                out.extend_from_slice(tag);
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&until.to_be_bytes());
                out.extend_from_slice(sealed);
            }
        }
        let body = start + 4 + CHECK_BYTES;
        let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
        let check = Sha256::digest(&out[body..]);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        out[start + 4..body].copy_from_slice(&check[..CHECK_BYTES]);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        Some(match kind {
            1 => Self::Rows(rest.to_vec()),
            2 => Self::Leaf(<[u8; LEAF_BYTES]>::try_from(rest).ok()?),
            3 => {
                let (first, rest) = rest.split_at_checked(8)?;
                let (leaves, rest) = rest.as_chunks::<17>();
                let leaf = |leaf: &[u8; 17]| Some((*leaf.first_chunk()?, leaf[16]));
                let leaves = leaves.iter().map(leaf).collect::<Option<_>>()?;
                rest.is_empty().then_some(())?;
                Self::Logged { first: number(first)?, leaves }
            }
            4 => Self::Settled { size: number(rest)? },
            5 => {
                let (tag, rest) = rest.split_first_chunk()?;
                let (at, rest) = rest.split_at_checked(8)?;
                let (until, sealed) = rest.split_at_checked(8)?;
                let (number, until) = (number(at)?, number(until)?);
                Self::Line { tag: *tag, number, until, sealed: sealed.to_vec() }
            }
            _ => return None,
        })
    }
}

/// The entries of a segment's bytes, up to the first that is torn.
fn entries(mut bytes: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>()
        && let Some((check, rest)) = rest.split_first_chunk::<CHECK_BYTES>()
        && let Some((body, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)
        && Sha256::digest(body)[..CHECK_BYTES] == *check
        && let Some(entry) = Entry::decode(body)
    {
        found.push(entry);
        bytes = rest;
    }
    found
}

/// A segment's number, and what it holds.
pub(super) type Segment = (u32, Vec<Entry>);

/// The journal of this run, and the segments of earlier ones that still hold something.
pub(super) struct Journal {
    dir: Arc<StateDir>,
    /// The writer's, to be read without waiting for a write.
    segment: AtomicU32,
    waiting: Mutex<Waiting>,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Waiting {
    frames: Vec<u8>,
    last: u64,
}

struct Writer {
    file: File,
    segment: u32,
    oldest: u32,
    length: u64,
    /// Frames up to this one are written, or have failed.
    done: u64,
    failed: VecDeque<(u64, u64)>,
}

impl Journal {
    /// Reads every segment there is, the oldest first, and begins a new one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(dir: Arc<StateDir>) -> io::Result<(Self, Vec<Segment>)> {
        let numbers = segments(&dir)?;
        let mut found = Vec::new();
        for segment in &numbers {
            let bytes = dir.read(&name(*segment))?.unwrap_or_default();
            found.push((*segment, entries(&bytes)));
        }
        let segment = numbers.last().map_or(1, |last| last + 1);
        let file = dir.file(&name(segment))?;
        dir.sync()?;
        let (oldest, failed) = (numbers.first().copied().unwrap_or(segment), VecDeque::new());
        let writer = Writer { file, segment, oldest, length: 0, done: 0, failed };
        let (waiting, writer) = (Mutex::default(), Mutex::new(writer));
        let journal = Self { dir, segment: AtomicU32::new(segment), waiting, writer };
        Ok((journal, found))
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that is written to. What is appended later lies there or in a later one.
    pub fn segment(&self) -> u32 {
        self.segment.load(Ordering::Acquire)
    }

    /// Returns when the entries are written: from here on a kill does not lose them.
    ///
    /// # Errors
    /// Those of the file system; the entries then are not in the journal.
    pub fn append(&self, entries: &[Entry]) -> io::Result<()> {
        let mine = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            entries.iter().for_each(|entry| entry.encode(&mut waiting.frames));
            waiting.last += 1;
            waiting.last
        };
        let mut writer = self.writer();
        if writer.done < mine {
            let (frames, last) = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                (std::mem::take(&mut waiting.frames), waiting.last)
            };
            let range = (writer.done + 1, last);
            writer.done = last;
            if let Err(error) = writer.write(&frames) {
                writer.failed.push_back(range);
                if writer.failed.len() > FAILURES {
                    writer.failed.pop_front();
                }
                return Err(error);
            }
        }
        let failed = writer.failed.iter().any(|(from, to)| (*from..=*to).contains(&mine));
        if failed { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Returns when everything that was appended so far outlives a loss of power, too.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> io::Result<()> {
        // Through another handle: whoever appends need not wait.
        let file = self.writer().file.try_clone()?;
        file.sync_data()
    }

    /// The oldest segment there is.
    pub fn oldest(&self) -> u32 {
        self.writer().oldest
    }

    /// Begins a new segment once this one is long.
    ///
    /// # Errors
    /// Those of the file system; the old one then goes on.
    pub fn turn(&self) -> io::Result<()> {
        let mut writer = self.writer();
        if writer.length >= SEGMENT_BYTES {
            writer.file.sync_data()?;
            writer.file = self.dir.file(&name(writer.segment + 1))?;
            self.dir.sync()?;
            writer.segment += 1;
            self.segment.store(writer.segment, Ordering::Release);
            writer.length = 0;
        }
        Ok(())
    }

    /// Removes the segments before `first`, the oldest first.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget_before(&self, first: u32) -> io::Result<()> {
        let first = first.min(self.segment());
        for segment in segments(&self.dir)?.into_iter().filter(|segment| *segment < first) {
            self.dir.remove(&name(segment))?;
        }
        self.writer().oldest = first;
        Ok(())
    }

    /// Segments worth keeping for that many rows: with more, old rows are written anew.
    pub const fn fair(rows: usize) -> u32 {
        4 + (rows as u64 * 2048 / SEGMENT_BYTES) as u32
    }
}

impl Writer {
    /// At the end of what is whole: a write that failed half way is written over.
    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frames, self.length)?;
        self.length += frames.len() as u64;
        Ok(())
    }
}

fn name(segment: u32) -> String {
    format!("{PREFIX}{segment:010}")
}

fn segments(dir: &StateDir) -> io::Result<Vec<u32>> {
    let names = dir.names()?;
    let numbers = names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Entry> {
        vec![
            Entry::Rows(vec![7; 300]),
            Entry::Leaf([2; LEAF_BYTES]),
            Entry::Logged { first: 9, leaves: vec![([3; 16], 1), ([5; 16], 2)] },
            Entry::Settled { size: 10 },
            Entry::Line { tag: [4; 16], number: 5, until: 6, sealed: vec![8; 20] },
        ]
    }

    #[test]
    fn a_journal_torn_at_any_byte_gives_the_entries_before_it() {
        let home = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(home.path().join("s").as_path()).unwrap());
        let (journal, _) = Journal::open(dir.clone()).unwrap();
        journal.append(&all()[..2]).unwrap();
        journal.append(&all()[2..]).unwrap();
        let bytes = dir.read(&name(1)).unwrap().unwrap();
        let mut ends = Vec::new();
        for count in 0..=all().len() {
            let mut frames = Vec::new();
            all()[..count].iter().for_each(|entry| entry.encode(&mut frames));
            ends.push(frames.len());
        }
        for cut in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(entries(&bytes[..cut]), all()[..whole], "cut at {cut}");
        }
        let mut changed = bytes.clone();
        changed[ends[1] + 20] ^= 1;
        assert_eq!(entries(&changed).len(), 1, "a changed frame ends the segment");
        drop(journal);
        let (journal, found) = Journal::open(dir).unwrap();
        assert_eq!((journal.segment(), found), (2, vec![(1, all())]));
    }

    #[test]
    fn everybody_is_written_while_others_write() {
        let home = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(home.path().join("s").as_path()).unwrap());
        let (journal, _) = Journal::open(dir.clone()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for index in 0..500 {
                        let entry = Entry::Logged { first: index, leaves: vec![([thread; 16], 1)] };
                        journal.append(&[entry]).unwrap();
                    }
                });
            }
        });
        let found = entries(&dir.read(&name(1)).unwrap().unwrap());
        assert_eq!(found.len(), 2000);
        for thread in 0..4 {
            let theirs = found.iter().filter_map(|entry| match entry {
                Entry::Logged { first, leaves } if leaves[0].0[0] == thread => Some(*first),
                _ => None,
            });
            assert!(theirs.eq(0..500), "each one's entries stand in its order");
        }
    }
}
