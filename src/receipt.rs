//! Evidence: what was accepted, and the statement that its keys were destroyed.
//!
//! A receipt holds no name, size, type, digest or address. Its final form demands a
//! [`KeysDestroyed`](crate::keyring::KeysDestroyed), or a [`KeysLost`] after a crash. It is signed
//! by a key of this run alone, which the log key vouches for, and its blinded hash stands in a log
//! that anybody can check.
//!
//! What is acknowledged is written: a row is in the journal before its upload, its deletion or its
//! hand-over is answered, so a kill loses none of them. Requests that come together are written,
//! and promised a place in the log, together (`scribe`). The journal is synced with every
//! checkpoint, never for a file: a loss of power may lose the rows of the last minute.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::{Boot, Clock, Wall};
use crate::disk::{StateDir, StateError};
use crate::entropy::{Entropy, EntropyError};
use crate::file::{Epoch, FileId, TenantId};
use crate::region::Region;
use crate::secret::Slab;
use crate::store::Answer;

mod archive;
mod audit;
mod book;
mod buckets;
mod bytes;
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
mod promise;
mod proof;
mod row;
mod run;
mod scribe;
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
use ledger::Ledger;
use log::Log;
use note::{BootNote, Kind};
use pen::Pen;
use row::Row;
use scribe::Scribe;
use trail::Trails;
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
    /// Where this run's key lies, with the secrets of files: it is destroyed with them.
    pub slab: Slab,
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
    /// This run's number, and the key that signs for it; put away at the end. If it is destroyed
    /// with all other secrets, another run begins.
    run: AtomicU32,
    /// The number this process began with.
    first_run: u32,
    pen: Mutex<Option<Pen>>,
    slab: Slab,
    region: Region,
    build: &'static str,
    accepted_limits: Vec<String>,
    runs: RwLock<HashMap<u32, Arc<BootNote>>>,
    log: Log,
    ledger: Option<Ledger>,
    kept: Mutex<Kept>,
    /// Rows that wait to be written, all that came together with one write.
    scribe: Scribe,
    /// Lines of audit trails that are in memory alone, and one at a time who writes them down.
    trails: Mutex<Trails>,
    sealing: Mutex<()>,
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
    trails: trail::Sealed,
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
            slab: Slab::lock_at_most(0).map_err(|_| EvidenceError::Unlocked)?,
        };
        Self::open(clock, entropy, options)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the journal is at: what is written from now on lies there or later.
    fn segment(&self) -> u32 {
        self.ledger.as_ref().map_or(0, Ledger::segment)
    }
}
