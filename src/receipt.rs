//! Evidence: what was accepted, and the statement that its keys were destroyed.
//!
//! A receipt holds no name, size, type, digest or address. Its final form demands a
//! [`KeysDestroyed`], or a [`KeysLost`] after a crash. It is signed by a key of this run alone,
//! which the log key vouches for, and its blinded hash stands in a log that anybody can check.
//!
//! What is acknowledged is written: a row is in the journal before its upload, its deletion or its
//! hand-over is answered, so a kill loses none of them. It is synced with every checkpoint, never
//! for a file: a loss of power may lose the rows of the last minute.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::{Boot, Clock, Wall};
use crate::disk::{StateDir, StateError};
use crate::entropy::{Entropy, EntropyError, random};
use crate::file::{Epoch, FileId, TenantId};
use crate::keyring::KeysDestroyed;
use crate::metrics;
use crate::region::Region;
use crate::store::Answer;

mod archive;
mod audit;
mod buckets;
mod checkpoint;
mod commitment;
mod desk;
mod ending;
mod journal;
mod ledger;
mod lockers;
mod log;
mod note;
mod open;
mod pen;
mod proof;
mod row;
mod trail;
mod tree;
mod verify;

#[cfg(test)]
mod tests;

pub use audit::{Action, Audit, Line, Object};
pub use ending::{Ending, KeysLost};
pub use proof::{NoProof, Proof, PublicNote};
pub use tree::{LEAF_BYTES, TreeError};
pub use verify::{Verdict, verify};

use buckets::Buckets;
use commitment::commit;
use ledger::Ledger;
use log::Log;
use note::{BootNote, Kind};
use pen::Pen;
use row::Row;
use tree::LeafBytes;

/// Receipts kept without a state folder; past it the oldest final one is forgotten.
pub const MOST: usize = 200_000;

/// From an acceptance until its leaf is in the log at the latest. Mostly it is there after the next
/// checkpoint; a gateway that is down may need the rest.
pub const MERGE_WITHIN: Duration = Duration::from_hours(24);

/// How long the accounts of filed buckets are kept, seconds: longer than any file can live.
const BUCKETS_KEPT_SECONDS: u64 = 3 * 86_400;

/// Who may read the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Public,
    /// Whoever has a key.
    Tenants,
    /// Nobody: there is no log. Receipts are signed all the same.
    Off,
}

/// Why evidence cannot be kept or signed.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("no memory can be locked for a key")]
    Unlocked,
    #[error("a row cannot be sealed")]
    Sealing,
    /// What is there was sealed under another log key.
    #[error("the evidence belongs to another log key")]
    Foreign,
    #[error("the log key cannot be read: it is a line PRIVATE+KEY+<name>+<id>+<key>")]
    LogKey,
    #[error("the evidence cannot be read or written ({0})")]
    Io(std::io::ErrorKind),
    #[error("the archive of receipts is damaged")]
    Archive,
    /// The checkpoint is not one of this log key's.
    #[error("the checkpoint is not one that the log key has signed")]
    Checkpoint,
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    State(#[from] StateError),
    /// This run has put its pen away.
    #[error("the gateway has stopped")]
    Stopped,
}

impl From<std::io::Error> for EvidenceError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// The statement about one file.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub file: FileId,
    pub region: Region,
    pub accepted_at: Wall,
    pub expires_at: Wall,
    pub destroyed: Option<Ending>,
    /// The backend that kept the key of the file's deadline.
    pub keyring: &'static str,
    pub blobs: Vec<(&'static str, Answer)>,
    /// Processors that were handed plaintext.
    pub handed_to: Vec<String>,
    pub commitment: [u8; 32],
    pub commitment_salt: [u8; 32],
    /// Limits of the machine that were accepted by name.
    pub accepted_limits: Vec<String>,
    pub build: String,
    /// Its leaf in the log.
    pub log_index: Option<u64>,
}

/// What is said about a file when it is accepted.
#[derive(Clone, Debug)]
pub struct Acceptance {
    pub file: FileId,
    pub tenant: TenantId,
    pub region: Region,
    pub accepted_at: Wall,
    pub expires_at: Wall,
    /// The deadline bucket it was sealed for.
    pub epoch: Epoch,
    pub keyring: &'static str,
    pub commitments: Vec<[u8; 32]>,
    pub blobs: Vec<&'static str>,
    pub handed_to: Vec<String>,
}

/// What the evidence is to be kept by.
pub struct Options {
    pub retention: Duration,
    pub access: Access,
    pub region: Region,
    pub build: &'static str,
    pub accepted_limits: Vec<String>,
    /// Where it outlives a restart; `None`: in memory, and gone with this process.
    pub state: Option<StateDir>,
    /// Where the log key is, if not in the state folder.
    pub log_key_file: Option<std::path::PathBuf>,
}

/// All receipts of this gateway.
pub struct Evidence {
    // Dependencies.
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    // Configuration.
    retention: Duration,
    access: Access,
    // State.
    /// This run's number, and the key that signs for it; put away at the end.
    run: u32,
    pen: Mutex<Option<Pen>>,
    runs: RwLock<HashMap<u32, Arc<BootNote>>>,
    log: Log,
    ledger: Option<Ledger>,
    kept: Mutex<Kept>,
    /// One at a time signs what is final: whoever comes later finds it signed.
    signing: tokio::sync::Mutex<()>,
    /// One checkpoint at a time.
    round: tokio::sync::Mutex<checkpoint::Beat>,
}

#[derive(Default)]
struct Kept {
    rows: HashMap<FileId, Row>,
    /// Final receipts, the oldest first. Those of live files are never forgotten.
    over: VecDeque<(Boot, FileId)>,
    /// Final ones that wait for their signature.
    unsigned: VecDeque<FileId>,
    /// Leaves that wait for the next checkpoint.
    pending: Vec<Pending>,
    /// Final ones whose last leaf is in the log: the archive's next ones.
    done: Vec<FileId>,
    buckets: Buckets,
    /// Lines of audit trails that wait to be filed, and the number of the next one.
    lines: Vec<archive::Line>,
    next_line: u64,
    /// Public notes of a log in memory, by their leaf.
    notes: BTreeMap<LeafBytes, ([u8; 32], String)>,
    /// Everything before it is pruned.
    minimum_index: u64,
}

/// A leaf that is not in the log yet.
#[derive(Clone, Copy)]
struct Pending {
    leaf: LeafBytes,
    /// Whose it is; none for leaves of rows that are not kept.
    file: Option<FileId>,
    kind: Kind,
    /// Of the row's final note.
    revision: u32,
    /// Where the journal holds it.
    segment: u32,
}

impl Pending {
    /// The leaf of a note that anybody may read.
    const fn public(leaf: LeafBytes, segment: u32) -> Self {
        Self { leaf, file: None, kind: Kind::Closing, revision: 0, segment }
    }

    /// What tells it from others in the journal where no row does.
    fn head(&self) -> [u8; 16] {
        head(&self.leaf)
    }
}

fn head(leaf: &LeafBytes) -> [u8; 16] {
    let mut head = [0; 16];
    head.copy_from_slice(&leaf[1..17]);
    head
}

impl Evidence {
    /// Evidence in memory, with a log of its own, for tests and measurements.
    ///
    /// # Errors
    /// When no key can be drawn or locked.
    pub fn new(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        retention: Duration,
    ) -> Result<Self, EvidenceError> {
        let options = Options {
            retention,
            access: Access::Public,
            region: "local".parse().unwrap_or_else(|_| unreachable!("\"local\" is a region")),
            build: concat!("dayfly ", env!("CARGO_PKG_VERSION")),
            accepted_limits: Vec::new(),
            state: None,
            log_key_file: None,
        };
        Self::open(clock, entropy, options)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an acceptance: from here on the file has a receipt.
    ///
    /// # Errors
    /// When no salt can be drawn, or nothing can be written; the file must then not be accepted.
    pub fn accept(&self, said: Acceptance) -> Result<(), EvidenceError> {
        let row = self.new_row(said)?;
        let segment = self.ledger.as_ref().map_or(0, Ledger::segment);
        let boot = self.boot_note(row.run).ok_or(EvidenceError::Stopped)?;
        let leaf = (self.access != Access::Off).then(|| row.acceptance_leaf(&boot));
        if let Some(ledger) = &self.ledger {
            if self.retention.is_zero() {
                ledger.write_leaf(leaf)?;
            } else {
                ledger.write_row(&row)?;
            }
        }
        let mut kept = self.kept();
        if self.ledger.is_none()
            && kept.rows.len() >= MOST
            && let Some((_, oldest)) = kept.over.pop_front()
        {
            kept.rows.remove(&oldest);
        }
        kept.buckets.accepted(&row);
        let (file, kind) = (Some(row.file), Kind::Acceptance);
        kept.pending.extend(leaf.map(|leaf| Pending { leaf, file, kind, revision: 0, segment }));
        kept.rows.insert(row.file, Row { segment, ..row });
        Ok(())
    }

    fn new_row(&self, said: Acceptance) -> Result<Row, EntropyError> {
        let salt = random::<32>(&*self.entropy)?;
        Ok(Row {
            file: said.file,
            tenant: said.tenant,
            region: said.region,
            accepted_at: said.accepted_at,
            first_expires_at: said.expires_at,
            expires_at: said.expires_at,
            epoch: said.epoch,
            keyring: said.keyring,
            first_blobs: u8::try_from(said.blobs.len()).unwrap_or(u8::MAX),
            blobs: said.blobs.into_iter().map(|store| (store, Answer::Pending)).collect(),
            first_handed: u8::try_from(said.handed_to.len()).unwrap_or(u8::MAX),
            handed_to: said.handed_to,
            salt,
            commitment: commit(&salt, said.file, &said.commitments),
            run: self.run,
            accept_index: None,
            end: None,
            end_run: 0,
            signature: None,
            signed_run: 0,
            final_index: None,
            revision: 0,
            version: 0,
            segment: 0,
            over: None,
        })
    }

    /// All bytes of a file that was accepted before them are sealed: what they commit to, and where
    /// they are.
    pub fn complete(&self, file: FileId, commitments: &[[u8; 32]], blobs: &[&'static str]) {
        self.change(file, |row| {
            let live = row.end.is_none();
            if live {
                row.commitment = commit(&row.salt, file, commitments);
                row.blobs = blobs.iter().map(|store| (*store, Answer::Pending)).collect();
            }
            live
        });
    }

    /// A life was shortened: the receipt says the earlier end.
    pub fn shorten(&self, file: FileId, expires_at: Wall) {
        self.change(file, |row| {
            let sooner = row.end.is_none() && expires_at < row.expires_at;
            if sooner {
                row.expires_at = expires_at;
            }
            sooner
        });
    }

    /// Names processors that were handed a live file's plaintext.
    pub fn hand(&self, file: FileId, processors: &[String]) {
        processors.iter().for_each(|name| self.hand_over(file, name));
    }

    /// A processor is about to be handed plaintext of an accepted file: its receipt names it from
    /// here on, a crash notwithstanding.
    pub fn hand_over(&self, file: FileId, processor: &str) {
        self.change(file, |row| {
            let new = row.end.is_none() && !row.handed_to.iter().any(|name| name == processor);
            if new {
                row.handed_to.push(processor.to_owned());
            }
            new
        });
    }

    /// Makes the receipt final and returns it. Only the first proof counts.
    pub fn finish(&self, proof: &Arc<KeysDestroyed>) -> Option<Receipt> {
        let now = self.clock.now().boot;
        let file = proof.file();
        let mut kept = self.kept();
        let row = kept.rows.get_mut(&file)?;
        if row.end.is_some() {
            let row = row.clone();
            drop(kept);
            return Some(self.shown(&row));
        }
        row.end = Some(Ending::from(&**proof));
        (row.end_run, row.signed_run) = (self.run, self.run);
        row.over = Some(now);
        row.version += 1;
        let row = self.relabelled(row);
        kept.buckets.destroyed(&row);
        kept.over.push_back((now, file));
        kept.unsigned.push_back(file);
        drop(kept);
        self.write_down(&row);
        Some(self.shown(&row))
    }

    /// Notes what the store answered to the delete of the file's `index`th blob. It is written down
    /// when the final note is signed.
    pub fn answered(&self, file: FileId, index: usize, answer: Answer) {
        let mut kept = self.kept();
        let Some(row) = kept.rows.get_mut(&file) else { return };
        let Some(blob) = row.blobs.get_mut(index).filter(|blob| blob.1 != answer) else { return };
        blob.1 = answer;
        row.version += 1;
        if row.signature.take().is_some() {
            // The note that was signed said less: it is followed by another.
            row.revision += 1;
            row.signed_run = self.run;
            kept.unsigned.push_back(file);
        }
    }

    /// A tenant's own receipt; another tenant's and an unknown one look the same.
    #[must_use]
    pub fn get(&self, file: FileId, tenant: TenantId) -> Option<Receipt> {
        self.find(file, tenant).map(|row| self.shown(&row))
    }

    fn find(&self, file: FileId, tenant: TenantId) -> Option<Row> {
        let kept = self.kept();
        if let Some(row) = kept.rows.get(&file) {
            let over = row.over.map(|over| self.clock.now().boot.since(over));
            let there = row.tenant == tenant && over.is_none_or(|age| age < self.retention);
            return there.then(|| row.clone());
        }
        drop(kept);
        let row = self.ledger.as_ref()?.find(file, tenant)?;
        let end = row.end.as_ref()?.at();
        (end.plus(self.retention) > self.clock.now().wall).then_some(row)
    }

    fn shown(&self, row: &Row) -> Receipt {
        let run = if row.end.is_some() { row.signed_run } else { row.run };
        match self.boot_note(run) {
            Some(boot) => row.receipt(&boot.build, &boot.limits),
            None => row.receipt("", &[]),
        }
    }

    fn boot_note(&self, run: u32) -> Option<Arc<BootNote>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }

    /// Changes a row and writes it down, unless nothing has changed.
    fn change(&self, file: FileId, change: impl FnOnce(&mut Row) -> bool) {
        let mut kept = self.kept();
        let Some(row) = kept.rows.get_mut(&file) else { return };
        if change(row) {
            row.version += 1;
            let row = self.relabelled(row);
            drop(kept);
            self.write_down(&row);
        }
    }

    /// The row, whose bytes will lie in this segment of the journal or a later one.
    fn relabelled(&self, row: &mut Row) -> Row {
        row.segment = self.ledger.as_ref().map_or(0, Ledger::segment);
        row.clone()
    }

    /// A failure to write must not undo what has happened: the row stays in memory, and is filed
    /// with the next checkpoint that succeeds.
    fn write_down(&self, row: &Row) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| !self.retention.is_zero()) else {
            return;
        };
        if let Err(error) = ledger.write_row(row) {
            metrics::count(metrics::EVIDENCE_FAILURES, 1);
            tracing::error!("a receipt cannot be written: {error}");
        }
    }

    fn pen(&self) -> std::sync::MutexGuard<'_, Option<Pen>> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets final receipts that are kept in memory alone and older than the retention.
    pub fn sweep(&self) {
        if self.ledger.is_some() && !self.retention.is_zero() {
            // The archive forgets them, with the checkpoint.
            return;
        }
        let now = self.clock.now().boot;
        let mut kept = self.kept();
        while let Some((over, file)) = kept.over.front().copied()
            && now.since(over) >= self.retention
            && kept.rows.get(&file).is_none_or(|row| row.signature.is_some())
        {
            kept.over.pop_front();
            kept.rows.remove(&file);
        }
    }

    /// Acceptances without a destruction ten minutes past their deadline: must be 0.
    #[must_use]
    pub fn overdue(&self) -> u64 {
        self.kept().buckets.overdue(self.clock.now().wall)
    }
}
