//! Where receipts rest once they are final and logged: sealed rows, found by an HMAC.
//!
//! One transaction for each checkpoint files a whole batch. What is older than the retention is
//! taken out row by row, and its key destroyed by the day: a B-tree's free pages keep old bytes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::EvidenceError;
use super::buckets::{Account, Bucket};
use super::tree::{LEAF_BYTES, LeafBytes};

type Key = [u8; 16];

const ROWS: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("rows");
/// Unix seconds until which a row is kept.
const UNTIL: TableDefinition<'_, (u64, &Key), ()> = TableDefinition::new("until");
/// Accounts of filed rows: accepted, destroyed, and what the last closing leaf states.
const BUCKETS: TableDefinition<'_, (u64, u64), Counts> = TableDefinition::new("buckets");
/// Notes that anybody may read, by their leaf: blind, then text.
const NOTES: TableDefinition<'_, &[u8; LEAF_BYTES], &[u8]> = TableDefinition::new("notes");
/// The boot note of each run.
const RUNS: TableDefinition<'_, u32, &str> = TableDefinition::new("runs");
/// Checkpoints: size, and when it was published in unix seconds.
const SIZES: TableDefinition<'_, u64, u64> = TableDefinition::new("sizes");
/// Audit trails, in sealed blocks of lines: tenant and the last line's number, to when in unix
/// seconds it is kept and the block.
const LINES: TableDefinition<'_, (&Key, u64), (u64, &[u8])> = TableDefinition::new("lines");
/// Tenants that are suspended.
const SUSPENDED: TableDefinition<'_, &Key, ()> = TableDefinition::new("suspended");

type Counts = (u64, u64, Option<(u64, u64)>);

/// Pages kept in memory, bytes. Beside the budget, like the program's own.
const CACHE_BYTES: usize = 8 << 20;
/// Rows taken out in one transaction.
const SWEPT: usize = 10_000;

fn broken<E: Into<redb::Error>>(error: E) -> EvidenceError {
    let error: redb::Error = error.into();
    match error {
        redb::Error::Io(error) => EvidenceError::Io(error.kind()),
        _ => EvidenceError::Archive,
    }
}

/// A row to be filed.
pub(super) struct Filed {
    pub key: Key,
    /// Unix seconds.
    pub until: u64,
    pub bucket: Bucket,
    pub sealed: Vec<u8>,
}

/// Some lines of an audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub tag: Key,
    /// The last one's.
    pub number: u64,
    /// Unix seconds.
    pub until: u64,
    pub sealed: Vec<u8>,
}

/// What one checkpoint files.
#[derive(Default)]
pub(super) struct Round {
    pub rows: Vec<Filed>,
    pub closed: Vec<(Bucket, Account)>,
    pub lines: Vec<Line>,
    /// The size of the checkpoint, and when it was published.
    pub size: Option<(u64, u64)>,
}

pub(super) struct Archive(Database);

impl Archive {
    pub fn open(file: File) -> Result<Self, EvidenceError> {
        let (mut builder, pages) = (Database::builder(), FileBackend::new(file).map_err(broken)?);
        let database =
            builder.set_cache_size(CACHE_BYTES).create_with_backend(pages).map_err(broken)?;
        // Every table is there from the start, so that reading one never fails for want of it.
        let write = database.begin_write().map_err(broken)?;
        write.open_table(ROWS).map_err(broken)?;
        write.open_table(UNTIL).map_err(broken)?;
        write.open_table(BUCKETS).map_err(broken)?;
        write.open_table(NOTES).map_err(broken)?;
        write.open_table(RUNS).map_err(broken)?;
        write.open_table(SIZES).map_err(broken)?;
        write.open_table(LINES).map_err(broken)?;
        write.open_table(SUSPENDED).map_err(broken)?;
        write.commit().map_err(broken)?;
        Ok(Self(database))
    }

    pub fn row(&self, key: &Key) -> Result<Option<Vec<u8>>, EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let rows = read.open_table(ROWS).map_err(broken)?;
        Ok(rows.get(key).map_err(broken)?.map(|found| found.value().to_vec()))
    }

    /// Files a round, all of it or nothing, durably.
    pub fn file(&self, round: &Round) -> Result<(), EvidenceError> {
        let write = self.0.begin_write().map_err(broken)?;
        {
            let mut rows = write.open_table(ROWS).map_err(broken)?;
            let mut until = write.open_table(UNTIL).map_err(broken)?;
            let mut buckets = write.open_table(BUCKETS).map_err(broken)?;
            let mut fresh: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            // In the order of their keys: neighbours lie on one page.
            let mut sorted: Vec<&Filed> = round.rows.iter().collect();
            sorted.sort_unstable_by_key(|row| row.key);
            for row in sorted {
                let known = rows.insert(&row.key, &row.sealed[..]).map_err(broken)?.is_some();
                until.insert((row.until, &row.key), ()).map_err(broken)?;
                let bucket = (row.bucket.end, row.bucket.length);
                *fresh.entry(bucket).or_default() += u64::from(!known);
            }
            for (bucket, more) in fresh {
                let there = buckets.get(bucket).map_err(broken)?.map(|there| there.value());
                let (accepted, destroyed, closed) = there.unwrap_or_default();
                let counts = (accepted + more, destroyed + more, closed);
                buckets.insert(bucket, counts).map_err(broken)?;
            }
            for (bucket, account) in &round.closed {
                let bucket = (bucket.end, bucket.length);
                let there = buckets.get(bucket).map_err(broken)?.map(|there| there.value());
                let (accepted, destroyed, _) = there.unwrap_or_default();
                let counts = (accepted, destroyed, account.closed);
                buckets.insert(bucket, counts).map_err(broken)?;
            }
            let mut lines = write.open_table(LINES).map_err(broken)?;
            for line in &round.lines {
                let kept = (line.until, &line.sealed[..]);
                lines.insert((&line.tag, line.number), kept).map_err(broken)?;
            }
            if let Some((size, at)) = round.size {
                write.open_table(SIZES).map_err(broken)?.insert(size, at).map_err(broken)?;
            }
        }
        write.commit().map_err(broken)
    }

    /// Every bucket's account of filed rows.
    pub fn buckets(&self) -> Result<Vec<(Bucket, Account)>, EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let buckets = read.open_table(BUCKETS).map_err(broken)?;
        let mut found = Vec::new();
        for entry in buckets.iter().map_err(broken)? {
            let (key, counts) = entry.map_err(broken)?;
            let ((end, length), (accepted, destroyed, closed)) = (key.value(), counts.value());
            found.push((Bucket { end, length }, Account { accepted, destroyed, closed }));
        }
        Ok(found)
    }

    /// Writes down notes that anybody may read, before their leaves are in the log.
    pub fn publish(&self, notes: &[(LeafBytes, [u8; 32], String)]) -> Result<(), EvidenceError> {
        let write = self.0.begin_write().map_err(broken)?;
        {
            let mut table = write.open_table(NOTES).map_err(broken)?;
            for (leaf, blind, text) in notes {
                let bytes = [&blind[..], text.as_bytes()].concat();
                table.insert(leaf, &bytes[..]).map_err(broken)?;
            }
        }
        write.commit().map_err(broken)
    }

    /// The public note behind a leaf, and its blind.
    pub fn note(&self, leaf: &LeafBytes) -> Result<Option<([u8; 32], String)>, EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let notes = read.open_table(NOTES).map_err(broken)?;
        let found = notes.get(leaf).map_err(broken)?;
        Ok(found.and_then(|found| {
            let (blind, text) = found.value().split_first_chunk::<32>()?;
            Some((*blind, std::str::from_utf8(text).ok()?.to_owned()))
        }))
    }

    pub fn add_run(&self, run: u32, note: &str) -> Result<(), EvidenceError> {
        let write = self.0.begin_write().map_err(broken)?;
        write.open_table(RUNS).map_err(broken)?.insert(run, note).map_err(broken)?;
        write.commit().map_err(broken)
    }

    pub fn runs(&self) -> Result<Vec<(u32, String)>, EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let runs = read.open_table(RUNS).map_err(broken)?;
        let mut found = Vec::new();
        for entry in runs.iter().map_err(broken)? {
            let (run, note) = entry.map_err(broken)?;
            found.push((run.value(), note.value().to_owned()));
        }
        Ok(found)
    }

    /// The largest checkpoint that was published before `at`, and the newest of all.
    pub fn sizes(&self, at: u64) -> Result<(u64, u64), EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let sizes = read.open_table(SIZES).map_err(broken)?;
        let newest = sizes.last().map_err(broken)?.map_or(0, |(size, _)| size.value());
        let mut before = 0;
        for entry in sizes.iter().map_err(broken)? {
            let (size, published) = entry.map_err(broken)?;
            if published.value() >= at {
                break;
            }
            before = size.value();
        }
        Ok((before, newest))
    }

    /// Shows an audit trail's blocks from the one that holds the line before `before` down, until
    /// `see` has seen enough.
    pub fn lines(
        &self,
        tag: &Key,
        before: u64,
        now: u64,
        mut see: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let lines = read.open_table(LINES).map_err(broken)?;
        let across = lines.range((tag, before)..=(tag, u64::MAX)).map_err(broken)?.take(1);
        let below = lines.range((tag, 0)..(tag, before)).map_err(broken)?.rev();
        for entry in across.chain(below) {
            let (_, kept) = entry.map_err(broken)?;
            let (until, sealed) = kept.value();
            if until > now && !see(sealed) {
                break;
            }
        }
        Ok(())
    }

    /// The number after the last line of each trail.
    pub fn next_lines(&self) -> Result<HashMap<Key, u64>, EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let lines = read.open_table(LINES).map_err(broken)?;
        let (mut next, mut from) = (HashMap::new(), [0; 16]);
        // From trail to trail: a look at each one's last line.
        while let Some(first) = lines.range((&from, 0)..).map_err(broken)?.next() {
            let tag = *first.map_err(broken)?.0.value().0;
            let last = lines.range((&tag, 0)..=(&tag, u64::MAX)).map_err(broken)?.next_back();
            if let Some(last) = last {
                next.insert(tag, last.map_err(broken)?.0.value().1 + 1);
            }
            let Some(after) = u128::from_be_bytes(tag).checked_add(1) else { break };
            from = after.to_be_bytes();
        }
        Ok(next)
    }

    /// Takes a whole trail out.
    pub fn forget_lines(&self, tag: &Key) -> Result<(), EvidenceError> {
        let write = self.0.begin_write().map_err(broken)?;
        {
            let mut lines = write.open_table(LINES).map_err(broken)?;
            let all = (tag, 0)..=(tag, u64::MAX);
            lines.retain_in(all, |_, _| false).map_err(broken)?;
        }
        write.commit().map_err(broken)
    }

    pub fn suspend(&self, tenant: &Key, suspended: bool) -> Result<(), EvidenceError> {
        let write = self.0.begin_write().map_err(broken)?;
        {
            let mut all = write.open_table(SUSPENDED).map_err(broken)?;
            if suspended {
                all.insert(tenant, ()).map_err(broken)?;
            } else {
                all.remove(tenant).map_err(broken)?;
            }
        }
        write.commit().map_err(broken)
    }

    pub fn is_suspended(&self, tenant: &Key) -> Result<bool, EvidenceError> {
        let read = self.0.begin_read().map_err(broken)?;
        let all = read.open_table(SUSPENDED).map_err(broken)?;
        Ok(all.get(tenant).map_err(broken)?.is_some())
    }

    /// Takes out what was kept long enough; returns whether there is more.
    pub fn sweep(&self, now: u64) -> Result<bool, EvidenceError> {
        let write = self.0.begin_write().map_err(broken)?;
        let mut swept = 0;
        {
            let mut rows = write.open_table(ROWS).map_err(broken)?;
            let mut until = write.open_table(UNTIL).map_err(broken)?;
            let mut past = Vec::new();
            for entry in until.range(..(now, &[0; 16])).map_err(broken)?.take(SWEPT) {
                let (key, _) = entry.map_err(broken)?;
                past.push((key.value().0, *key.value().1));
            }
            for (at, key) in &past {
                rows.remove(key).map_err(broken)?;
                until.remove((*at, key)).map_err(broken)?;
            }
            swept += past.len();
            let mut lines = write.open_table(LINES).map_err(broken)?;
            lines.retain(|_, (until, _)| until > now).map_err(broken)?;
            let mut buckets = write.open_table(BUCKETS).map_err(broken)?;
            let kept = |(end, _): (u64, u64), _| end + super::BUCKETS_KEPT_SECONDS > now;
            buckets.retain(kept).map_err(broken)?;
        }
        write.commit().map_err(broken)?;
        Ok(swept >= SWEPT)
    }

    /// Takes out the public notes of pruned leaves, and the sizes of pruned checkpoints.
    pub fn prune(&self, leaves: &[LeafBytes], below: u64) -> Result<(), EvidenceError> {
        let write = self.0.begin_write().map_err(broken)?;
        {
            let mut notes = write.open_table(NOTES).map_err(broken)?;
            for leaf in leaves {
                notes.remove(leaf).map_err(broken)?;
            }
            let mut sizes = write.open_table(SIZES).map_err(broken)?;
            sizes.retain(|size, _| size >= below).map_err(broken)?;
        }
        write.commit().map_err(broken)
    }
}
