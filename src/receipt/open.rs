//! Opening the evidence: of nothing, or of what earlier runs have left, a crash included.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use hkdf::Hkdf;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::archive::{Archive, Line};
use super::checkpoint::Beat;
use super::desk::ALIVE;
use super::ending::{Ending, KeysLost};
use super::journal::{Entry, Journal, Segment};
use super::ledger::Ledger;
use super::lockers::Lockers;
use super::log::Log;
use super::note::{BootNote, Kind};
use super::pen::{ED25519, Pen};
use super::row::Row;
use super::run::{About, begin};
use super::scribe::Scribe;
use super::tree::{LeafBytes, TreeError};
use super::{Access, Evidence, EvidenceError, Kept, Options, Pending};
use crate::clock::{Clock, Now, Wall};
use crate::disk::{StateDir, read_state, replace_state};
use crate::entropy::Entropy;
use crate::secret::{Locked, Secret};

const LOG_KEY: &str = "log.key";

/// What earlier runs have left.
#[derive(Default)]
struct Left {
    kept: Kept,
    runs: HashMap<u32, Arc<BootNote>>,
    last_run: u32,
    /// Up to where the journal says which leaf is whose.
    settled: u64,
    /// Leaves that the journal says are in the log.
    logged: HashSet<[u8; 16]>,
}

impl Evidence {
    /// Opens the evidence and begins a run: its boot note is in the log, and published, when this
    /// returns. Files that an earlier run left alive have lost their keys: their receipts say so.
    ///
    /// # Errors
    /// When the state cannot be read, is not what the log key has signed, or cannot be written.
    pub fn open(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        mut options: Options,
    ) -> Result<Self, EvidenceError> {
        let dir = options.state.take().map(Arc::new);
        let key = log_key(&*entropy, dir.as_deref(), &options)?;
        let now = clock.now();
        let mut left = Left::default();
        let mut ledger = None;
        if let Some(dir) = &dir {
            ledger = Some(open_ledger(&entropy, dir, key.seed().expose(), &mut left)?);
        }
        let log = match (&dir, options.access) {
            (Some(dir), Access::Public | Access::Tenants) => Log::open(key, dir.clone())?,
            _ => Log::in_memory(key)?,
        };
        if let Some(ledger) = ledger.as_ref().filter(|_| options.access != Access::Off) {
            // An older copy of the log alone: others have seen more of it.
            if log.size() < left.settled.max(ledger.archive.sizes(0)?.1) {
                return Err(TreeError::Shorter.into());
            }
            left.find_logged(&log)?;
        }
        let run = left.last_run + 1;
        let (at, region, build) = (now.wall, options.region, options.build);
        let about = About { at, region, build, limits: &options.accepted_limits };
        let begun = begin(log.key(), &options.slab, &*entropy, &about)?;
        if let Some(ledger) = &ledger {
            ledger.archive.add_run(run, &begun.signed)?;
        }
        left.runs.insert(run, Arc::new(begun.note));
        left.settle(ledger.as_ref(), run, now)?;
        let evidence = Self {
            clock,
            entropy,
            retention: options.retention,
            access: options.access,
            run: AtomicU32::new(run),
            first_run: run,
            pen: Mutex::new(Some(begun.pen)),
            slab: options.slab,
            region,
            build,
            accepted_limits: options.accepted_limits,
            runs: RwLock::new(left.runs),
            log,
            ledger,
            kept: Mutex::new(left.kept),
            scribe: Scribe::default(),
            trails: Mutex::default(),
            sealing: Mutex::default(),
            signing: tokio::sync::Mutex::default(),
            round: tokio::sync::Mutex::new(Beat { checkpoint: now.boot, sweep: None }),
        };
        evidence.log_boot(&begun.text, begun.signed)?;
        evidence.be_alive();
        Ok(evidence)
    }

    /// The boot note's leaf, a batch of its own, published at once.
    fn log_boot(&self, text: &str, signed: String) -> Result<(), EvidenceError> {
        if self.access == Access::Off {
            return Ok(());
        }
        let (leaf, blind, signed) = self.blinded(Kind::Boot, text, signed)?;
        match &self.ledger {
            Some(ledger) => ledger.archive.publish(&[(leaf, blind, signed)])?,
            None => drop(self.kept().notes.insert(leaf, (blind, signed))),
        }
        self.log.append(&[leaf])?;
        self.log.publish()
    }
}

/// The log key: from its file, or drawn and written there.
fn log_key(
    entropy: &dyn Entropy,
    dir: Option<&StateDir>,
    options: &Options,
) -> Result<Pen, EvidenceError> {
    let found = match (&options.log_key_file, dir) {
        (Some(path), _) => read_state(path)?,
        (None, Some(dir)) => dir.read(LOG_KEY)?,
        (None, None) => None,
    };
    if let Some(text) = found.map(Zeroizing::new) {
        return parse_key(&text).ok_or(EvidenceError::LogKey);
    }
    let region = options.region;
    let key = Pen::draw(entropy, |public| {
        let head = data_encoding::HEXLOWER.encode(&public[..4]);
        format!("dayfly/{region}/{head}")
    })?;
    let line = Zeroizing::new(format!("{}\n", private_line(&key).as_str()));
    match (&options.log_key_file, dir) {
        (Some(path), _) => write_key(path, line.as_bytes())?,
        (None, Some(dir)) => dir.replace(LOG_KEY, line.as_bytes())?,
        (None, None) => {}
    }
    Ok(key)
}

fn write_key(path: &Path, line: &[u8]) -> Result<(), EvidenceError> {
    Ok(replace_state(path, line)?)
}

/// The signer line that programs for signed notes read.
fn private_line(key: &Pen) -> Zeroizing<String> {
    let verifier = key.verifier();
    // The key itself may hold a plus: base64 has one.
    let head = verifier.splitn(3, '+').take(2).collect::<Vec<_>>().join("+");
    let seed = Zeroizing::new([&[ED25519], &key.seed().expose()[..]].concat());
    Zeroizing::new(format!("PRIVATE+KEY+{head}+{}", BASE64.encode(&seed)))
}

fn parse_key(text: &[u8]) -> Option<Pen> {
    let line = std::str::from_utf8(text).ok()?.trim().strip_prefix("PRIVATE+KEY+")?;
    let (name, rest) = line.split_once('+')?;
    let bytes = Zeroizing::new(BASE64.decode(rest.split_once('+')?.1.as_bytes()).ok()?);
    let (kind, secret) = bytes.split_first()?;
    let mut seed = Locked::<Secret<32>>::zeroed()?;
    seed.expose_mut().copy_from_slice(secret.try_into().map(|seed: &[u8; 32]| seed).ok()?);
    let pen = Pen::read(seed, name).ok()?;
    let same = private_line(&pen).as_str().strip_prefix("PRIVATE+KEY+") == Some(line);
    (*kind == ED25519 && signed_note::is_key_name_valid(name) && same).then_some(pen)
}

/// A key that follows from the log key.
fn derived(seed: &[u8; 32], label: &[u8]) -> Result<Locked<Secret<32>>, EvidenceError> {
    let mut key = Locked::<Secret<32>>::zeroed().ok_or(EvidenceError::Unlocked)?;
    let expanded = Hkdf::<Sha512>::new(None, seed).expand(label, key.expose_mut());
    expanded.map_err(|_| EvidenceError::Sealing).map(|()| key)
}

fn open_ledger(
    entropy: &Arc<dyn Entropy>,
    dir: &Arc<StateDir>,
    seed: &[u8; 32],
    left: &mut Left,
) -> Result<Ledger, EvidenceError> {
    let wrap = derived(seed, b"dayfly/v1 evidence keys\0")?;
    let index = derived(seed, b"dayfly/v1 evidence index\0")?;
    let lockers = Lockers::open(entropy.clone(), dir.file("evidence.keys")?, wrap)?;
    let archive = Archive::open(dir.file("evidence.redb")?)?;
    let (journal, found) = Journal::open(dir.clone())?;
    let index = hmac::Key::new(hmac::HMAC_SHA256, index.expose());
    let alive = dir.file(ALIVE)?;
    let ledger = Ledger { journal, archive, lockers, alive, index, tags: RwLock::default() };
    for (run, note) in ledger.archive.runs()? {
        left.last_run = left.last_run.max(run);
        left.runs.extend(BootNote::read(&note).map(|note| (run, Arc::new(note))));
    }
    for (bucket, account) in ledger.archive.buckets()? {
        left.kept.buckets.restore(bucket, account);
    }
    left.kept.trails.next = ledger.archive.next_lines()?;
    left.read(&ledger, found)?;
    Ok(ledger)
}

impl Left {
    /// The newest state of every row in the journal that is not in the archive.
    fn read(&mut self, ledger: &Ledger, segments: Vec<Segment>) -> Result<(), EvidenceError> {
        let mut by_key: HashMap<[u8; 16], Row> = HashMap::new();
        let mut places: Vec<([u8; 16], u8, u64)> = Vec::new();
        for (segment, entries) in segments {
            for entry in entries {
                match entry {
                    Entry::Rows(sealed) => {
                        for row in ledger.unseal_block(&sealed) {
                            let (key, row) = (row.key, Row { segment, ..row });
                            let old = by_key.get(&key);
                            if old.is_none_or(|old| old.version <= row.version) {
                                by_key.insert(key, row);
                            }
                        }
                    }
                    Entry::Leaf(leaf) => self.kept.pending.push(Pending::public(leaf, segment)),
                    Entry::Logged { first, leaves } => {
                        let leaves = leaves.into_iter().zip(first..);
                        places.extend(leaves.map(|((key, kind), index)| (key, kind, index)));
                    }
                    Entry::Settled { size } => self.settled = self.settled.max(size),
                    Entry::Line { tag, number, until, sealed } => {
                        self.kept.trails.restore(segment, Line { tag, number, until, sealed });
                    }
                }
            }
        }
        self.logged.extend(places.iter().map(|(key, ..)| *key));
        for (key, kind, index) in places {
            let Some(row) = by_key.get_mut(&key) else { continue };
            if kind == Kind::Acceptance as u8 {
                row.accept_index = Some(index);
            } else if kind == row.final_kind() as u8 && row.signature.is_some() {
                row.final_index = Some(index);
            }
        }
        for (key, row) in by_key {
            let filed = ledger.archive.row(&key)?.is_some();
            if !filed {
                self.kept.buckets.accepted(&row);
                if row.end.is_some() {
                    self.kept.buckets.destroyed(&row);
                }
                self.kept.rows.insert(row.file, row);
            }
        }
        Ok(())
    }

    /// Finds each row's leaves in the log. Those that are not there wait for the next checkpoint;
    /// they were promised.
    fn find_logged(&mut self, log: &Log) -> Result<(), EvidenceError> {
        let mut fresh = HashMap::new();
        for index in self.settled..log.size() {
            fresh.insert(log.leaf(index)?, index);
        }
        let logged = &self.logged;
        self.kept.pending.retain(|pending| {
            !logged.contains(&pending.head()) && !fresh.contains_key(&pending.leaf)
        });
        let place = |known: Option<u64>, leaf: &LeafBytes| {
            let same = |index: &u64| log.leaf(*index).is_ok_and(|there| there == *leaf);
            known.filter(same).or_else(|| fresh.get(leaf).copied())
        };
        for row in self.kept.rows.values_mut() {
            let (file, segment) = (Some(row.file), row.segment);
            if let Some(boot) = self.runs.get(&row.run) {
                let (leaf, kind) = (row.acceptance_leaf(boot), Kind::Acceptance);
                row.accept_index = place(row.accept_index, &leaf);
                if row.accept_index.is_none() {
                    self.kept.pending.push(Pending { leaf, file, kind, revision: 0, segment });
                }
            }
            let boot = self.runs.get(&row.signed_run).filter(|_| row.signature.is_some());
            if let Some(leaf) = boot.and_then(|boot| row.final_leaf(boot)) {
                let (kind, revision) = (row.final_kind(), row.revision);
                row.final_index = place(row.final_index, &leaf);
                if row.final_index.is_none() {
                    self.kept.pending.push(Pending { leaf, file, kind, revision, segment });
                }
            }
        }
        Ok(())
    }

    /// Gives every row that an earlier run left its end, and has it signed by this one.
    fn settle(&mut self, ledger: Option<&Ledger>, run: u32, now: Now) -> Result<(), EvidenceError> {
        let Some(ledger) = ledger else { return Ok(()) };
        let lost = KeysLost { last_seen: last_seen(ledger, now.wall), found: now.wall };
        let segment = ledger.segment();
        let mut ended = Vec::new();
        for row in self.kept.rows.values_mut() {
            row.over = Some(now.boot);
            if row.end.is_none() {
                row.end = Some(Ending::from(lost));
                (row.end_run, row.signed_run) = (run, run);
                row.version += 1;
                row.segment = segment;
                self.kept.buckets.destroyed(row);
                ended.push(row.clone());
            }
            if row.signature.is_none() {
                self.kept.unsigned.push_back(row.file);
            } else {
                self.kept.done.push(row.file);
            }
        }
        ledger.write_rows(ended.iter())
    }
}

/// When the earlier run was last heard of; now, if its sign of life cannot be read.
fn last_seen(ledger: &Ledger, now: Wall) -> Wall {
    let mut millis = [0; 8];
    let read = std::os::unix::fs::FileExt::read_exact_at(&ledger.alive, &mut millis, 0);
    read.map_or(now, |()| Wall::from_unix(Duration::from_millis(u64::from_be_bytes(millis))))
}
