//! The live files: which exist, whose they are, when they fall due. Everything here dies with them.
//!
//! The table knows where sealed bytes are and who may ask for them, but no name, no type and no
//! content: those are sealed, and open only through the vault.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::budget::Permit;
use crate::clock::{Boot, Now, Wall};
use crate::crypto::SealedRecord;
use crate::file::{Deadline, FileId, Role, TenantId};
use crate::keyring::{FileKeys, Gone};
use crate::region::Region;
use crate::store::BlobId;

mod claims;
mod connections;
mod cut;
mod grants;
mod idempotency;
mod jobs;
mod nursery;
mod queues;
mod quota;
mod standing;
mod uploads;

pub use claims::{CONFIRM_WITHIN, CONTINUE_WITHIN, Claim, ClaimError, Claims};
pub use connections::{
    Asked, Browser, Confirmation, ConnectionId, Connections, Ending, Exchange, Full, LetGo, Mark,
    Opened, Permission, PermissionParts, Revocation, Standing, Terms as ConnectionTerms, Until,
    View as Connection,
};
pub use cut::Cut;
pub use grants::{DownloadScope, Grant, Grants, Scope, Spent, TooMany, UploadScope, Use};
pub use idempotency::{Fingerprint, Idempotency, Outcome, Running, Seen};
pub use jobs::{Job, Jobs, KEPT_AFTER, NoJob, Stop, Wish};
pub use nursery::{Closed, Nursery};
use queues::Queues;
pub use quota::{Quotas, Reservation};
pub use standing::{Ended, Era, Standings, Suspended};
pub use uploads::{
    Face, Held, NotNow, Progress, Purpose, Standpoint, Upload, UploadParts, Uploads,
};

/// Which of the vault's two places holds a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Sealed, in memory: small segments as far as the budget goes.
    Memory,
    /// The configured store.
    Store,
}

/// One sealed segment of a file, as its record lists it (VAULT.md). The list's order is the file's;
/// an index only tells segments of one file apart.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub role: Role,
    pub index: u32,
    pub plain_bytes: u64,
    pub commitment: [u8; 32],
    pub place: Place,
    pub blob: BlobId,
}

/// What an entry is to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file that can be listed, read and deleted.
    File,
    /// A processing request under way: only its receipt is ever asked for.
    Run,
}

/// What all segments of one file are sealed under: the parts of the header they share, the tenant
/// the cipher binds, and the keys.
#[derive(Clone)]
pub struct Origin {
    pub keys: Arc<FileKeys>,
    pub tenant: TenantId,
    pub region: Region,
    /// The first deadline: a shortened life keeps it here.
    pub deadline: Deadline,
}

/// Segments of another file that were joined into this one, with the keys they are sealed under.
pub struct Part {
    pub origin: Origin,
    pub segments: Vec<Segment>,
}

/// A file whose keys exist.
pub struct LiveFile {
    pub id: FileId,
    pub kind: Kind,
    pub origin: Origin,
    pub created: Now,
    /// Its name and type, sealed; a run has none.
    pub record: Option<SealedRecord>,
    /// What was joined, in order: its bytes come before the file's own.
    pub parts: Vec<Part>,
    /// In which order parts come, where it is not each once.
    pub order: Vec<u32>,
    pub segments: Vec<Segment>,
    /// A strong, random entity tag, quotes included.
    pub etag: String,
    /// Pays for this entry and its record.
    pub rent: Permit,
    pub claims: Option<Claims>,
    /// Fires when the keys are destroyed: deliveries and jobs stop.
    pub cut: Cut,
    pub reservation: Reservation,
    /// Whether its blobs were given to the cleaner.
    pub released: AtomicBool,
}

impl LiveFile {
    /// Plaintext bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pieces().flat_map(|(_, segments)| segments).map(|segment| segment.plain_bytes).sum()
    }

    /// All segments in the order of their bytes, with what each is sealed under. A part that was
    /// joined twice is there twice.
    pub fn pieces(&self) -> impl Iterator<Item = (&Origin, &[Segment])> {
        let parts = places(&self.order, self.parts.len()).filter_map(|place| self.parts.get(place));
        let parts = parts.map(|part| (&part.origin, &part.segments[..]));
        parts.chain(std::iter::once((&self.origin, &self.segments[..])))
    }

    /// All segments it has, each once.
    pub fn holdings(&self) -> impl Iterator<Item = (&Origin, &[Segment])> {
        let parts = self.parts.iter().map(|part| (&part.origin, &part.segments[..]));
        parts.chain(std::iter::once((&self.origin, &self.segments[..])))
    }

    /// The moment it ends; the moment it was sealed for if it is over already.
    #[must_use]
    pub fn expires_at(&self) -> Wall {
        self.origin.keys.deadline().unwrap_or(self.origin.deadline).expires_at()
    }
}

/// The places of `count` parts in the order their bytes come: each once, if none is said.
pub fn places(order: &[u32], count: usize) -> impl Iterator<Item = usize> + '_ {
    let once = if order.is_empty() { 0..count } else { 0..0 };
    once.chain(order.iter().map(|place| *place as usize))
}

/// What the sweeper may take until a file counts as overdue.
pub const GRACE: Duration = Duration::from_secs(5);

/// What forgetting the records of files without keys may take.
pub const FORGOTTEN_WITHIN: Duration = Duration::from_secs(300);

/// What the table holds, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    pub files: u64,
    pub bytes: u64,
    /// Age of the oldest live file.
    pub oldest: Duration,
    /// Files whose keys are alive [`GRACE`] past their deadline, or that are still known
    /// [`FORGOTTEN_WITHIN`] after it: must be 0.
    pub overdue: u64,
}

/// All live files of this process.
#[derive(Default)]
pub struct Table(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    files: HashMap<FileId, Row>,
    by_tenant: HashMap<TenantId, Theirs>,
    queues: Queues,
    by_age: BTreeMap<u64, Boot>,
    bytes: u64,
    next: u64,
}

/// One tenant's files in the order they came. The numbers are the tenant's own: a cursor tells
/// nobody how much others upload.
#[derive(Default)]
struct Theirs {
    next: u64,
    files: BTreeMap<u64, Arc<LiveFile>>,
}

struct Row {
    number: u64,
    theirs: u64,
    due: Deadline,
    file: Arc<LiveFile>,
}

impl Table {
    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a file known. Its deadline decides when it falls due.
    ///
    /// # Errors
    /// When its keys are destroyed already.
    pub fn insert(&self, file: Arc<LiveFile>) -> Result<(), Gone> {
        let due = file.origin.keys.deadline().ok_or(Gone)?;
        let mut rows = self.rows();
        let number = rows.next;
        rows.next += 1;
        rows.bytes += file.size();
        rows.queues.enter(&file, due);
        rows.by_age.insert(number, file.created.boot);
        let mut their_number = 0;
        if file.kind == Kind::File {
            let theirs = rows.by_tenant.entry(file.origin.tenant).or_default();
            their_number = theirs.next;
            theirs.next += 1;
            theirs.files.insert(their_number, file.clone());
        }
        rows.files.insert(file.id, Row { number, theirs: their_number, due, file });
        Ok(())
    }

    /// A tenant's own file; another tenant's and an unknown one look the same.
    #[must_use]
    pub fn get(&self, id: FileId, tenant: TenantId) -> Option<Arc<LiveFile>> {
        let rows = self.rows();
        let file = &rows.files.get(&id)?.file;
        (file.origin.tenant == tenant && file.kind == Kind::File).then(|| file.clone())
    }

    /// Forgets a file; `None` if it was forgotten already.
    pub fn remove(&self, id: FileId) -> Option<Arc<LiveFile>> {
        let mut rows = self.rows();
        let Row { number, theirs: their_number, due, file } = rows.files.remove(&id)?;
        rows.bytes -= file.size();
        rows.queues.leave(&file, due);
        rows.by_age.remove(&number);
        if file.kind == Kind::File
            && let Some(theirs) = rows.by_tenant.get_mut(&file.origin.tenant)
        {
            theirs.files.remove(&their_number);
        }
        Some(file)
    }

    /// Moves a file whose deadline came forward to its new place in the queues. The deadline is
    /// asked for under the table's lock: of two that race, the earlier one stands.
    pub fn reschedule(&self, id: FileId) {
        let mut rows = self.rows();
        let Some(row) = rows.files.get_mut(&id) else { return };
        let Some(due) = row.file.origin.keys.deadline() else { return };
        let before = std::mem::replace(&mut row.due, due);
        let file = row.file.clone();
        rows.queues.leave(&file, before);
        rows.queues.enter(&file, due);
    }

    /// A tenant's files, newest first, from the one after `cursor` on; and the cursor of the next
    /// page, if there is one.
    #[must_use]
    pub fn list(
        &self,
        tenant: TenantId,
        cursor: Option<u64>,
        limit: usize,
    ) -> (Vec<Arc<LiveFile>>, Option<u64>) {
        let rows = self.rows();
        let Some(theirs) = rows.by_tenant.get(&tenant) else { return (Vec::new(), None) };
        let mut page = theirs.files.range(..cursor.unwrap_or(u64::MAX)).rev().peekable();
        let mut files = Vec::new();
        let mut last = None;
        while let Some((number, file)) = page.next_if(|_| files.len() < limit) {
            files.push(file.clone());
            last = Some(*number);
        }
        (files, last.filter(|_| page.peek().is_some()))
    }

    /// Everything of one tenant: its files, and its runs under way.
    #[must_use]
    pub fn of(&self, tenant: TenantId) -> Vec<Arc<LiveFile>> {
        let rows = self.rows();
        let theirs = rows.files.values().filter(|row| row.file.origin.tenant == tenant);
        theirs.map(|row| row.file.clone()).collect()
    }

    /// Up to `limit` files that are over: their keys are gone, or due on either clock.
    #[must_use]
    pub fn due(&self, now: Now, limit: usize) -> Vec<Arc<LiveFile>> {
        let rows = self.rows();
        let ids = rows.queues.over(now, limit);
        ids.into_iter().filter_map(|id| rows.files.get(&id)).map(|row| row.file.clone()).collect()
    }

    /// Up to `limit` files that are due on either clock and have no bucket's key to end with, or
    /// end before it. Each is given until its keys were reported gone.
    #[must_use]
    pub fn due_alone(&self, now: Now, limit: usize) -> Vec<Arc<LiveFile>> {
        let rows = self.rows();
        let ids = rows.queues.due_alone(now, limit);
        ids.into_iter().filter_map(|id| rows.files.get(&id)).map(|row| row.file.clone()).collect()
    }

    /// The keys of these are destroyed: only their records are left to be forgotten, whatever the
    /// clocks show from here on.
    pub fn keys_gone(&self, files: &[Arc<LiveFile>]) {
        let mut rows = self.rows();
        for file in files {
            let Some(due) = rows.files.get(&file.id).map(|row| row.due) else { continue };
            rows.queues.keys_gone(file.id, due);
        }
    }

    /// How long until the first file falls due, by either clock.
    #[must_use]
    pub fn next_due(&self, now: Now) -> Option<Duration> {
        self.rows().queues.next_due(now)
    }

    /// Every live file.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<LiveFile>> {
        self.rows().files.values().map(|row| row.file.clone()).collect()
    }

    #[must_use]
    pub fn census(&self, now: Now) -> Census {
        let rows = self.rows();
        let oldest = rows.by_age.first_key_value().map(|(_, born)| now.boot.since(*born));
        Census {
            files: rows.files.len() as u64,
            bytes: rows.bytes,
            oldest: oldest.unwrap_or_default(),
            overdue: rows.queues.overdue(now) as u64,
        }
    }
}
