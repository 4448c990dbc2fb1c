//! The live files: which exist, whose they are, when they fall due. Everything here dies with them.
//!
//! The table knows where sealed bytes are and who may ask for them, but no name, no type and no
//! content: those are sealed, and open only through the vault.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Boot, Now, Wall};
use crate::crypto::SealedRecord;
use crate::file::{Deadline, FileId, Role, TenantId};
use crate::keyring::{FileKeys, Gone};
use crate::region::Region;
use crate::store::BlobId;

mod claims;
mod cut;
mod idempotency;
mod quota;

pub use claims::{CONTINUE_WITHIN, Claim, ClaimError, Claims};
pub use cut::Cut;
pub use idempotency::{Fingerprint, Idempotency, Outcome, Running, Seen};
pub use quota::{Quotas, Reservation};

/// Which of the vault's two places holds a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Sealed, in memory: small segments as far as the budget goes.
    Memory,
    /// The configured store.
    Store,
}

/// One sealed segment of a file, as its record lists it (VAULT.md).
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

/// A file whose keys exist.
pub struct LiveFile {
    pub id: FileId,
    pub kind: Kind,
    pub origin: Origin,
    pub created: Now,
    /// Its name and type, sealed; a run has none.
    pub record: Option<SealedRecord>,
    pub segments: Vec<Segment>,
    /// A strong, random entity tag, quotes included.
    pub etag: String,
    pub claims: Option<Claims>,
    /// Fires when the keys are destroyed: deliveries and jobs stop.
    pub cut: Cut,
    pub reservation: Reservation,
}

impl LiveFile {
    /// Plaintext bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.plain_bytes).sum()
    }

    /// The moment it ends; the moment it was sealed for if it is over already.
    #[must_use]
    pub fn expires_at(&self) -> Wall {
        self.origin.keys.deadline().unwrap_or(self.origin.deadline).expires_at()
    }
}

/// What the table holds, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    pub files: u64,
    pub bytes: u64,
    /// Age of the oldest live file.
    pub oldest: Duration,
    /// Files alive past their deadline: must be 0.
    pub overdue: u64,
}

/// All live files of this process.
#[derive(Default)]
pub struct Table(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    files: HashMap<FileId, Row>,
    by_tenant: HashMap<TenantId, BTreeMap<u64, Arc<LiveFile>>>,
    // A file is due on the first of two clocks, so it stands in two queues.
    by_boot: BTreeSet<(Boot, FileId)>,
    by_wall: BTreeSet<(Wall, FileId)>,
    by_age: BTreeMap<u64, Boot>,
    bytes: u64,
    next: u64,
}

struct Row {
    number: u64,
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
        rows.queue(file.id, due);
        rows.by_age.insert(number, file.created.boot);
        if file.kind == Kind::File {
            rows.by_tenant.entry(file.origin.tenant).or_default().insert(number, file.clone());
        }
        rows.files.insert(file.id, Row { number, due, file });
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
        let Row { number, due, file } = rows.files.remove(&id)?;
        rows.bytes -= file.size();
        rows.unqueue(id, due);
        rows.by_age.remove(&number);
        if let Some(theirs) = rows.by_tenant.get_mut(&file.origin.tenant) {
            theirs.remove(&number);
            if theirs.is_empty() {
                rows.by_tenant.remove(&file.origin.tenant);
            }
        }
        Some(file)
    }

    /// Moves a file whose deadline came forward to its new place in the queues.
    pub fn reschedule(&self, id: FileId, due: Deadline) {
        let mut rows = self.rows();
        let Some(row) = rows.files.get_mut(&id) else { return };
        let before = std::mem::replace(&mut row.due, due);
        rows.unqueue(id, before);
        rows.queue(id, due);
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
        let mut page = theirs.range(..cursor.unwrap_or(u64::MAX)).rev().peekable();
        let mut files = Vec::new();
        let mut last = None;
        while let Some((number, file)) = page.next_if(|_| files.len() < limit) {
            files.push(file.clone());
            last = Some(*number);
        }
        (files, last.filter(|_| page.peek().is_some()))
    }

    /// Up to `limit` files that are due on either clock.
    #[must_use]
    pub fn due(&self, now: Now, limit: usize) -> Vec<Arc<LiveFile>> {
        let rows = self.rows();
        let boot = rows.by_boot.iter().take_while(|(at, _)| *at <= now.boot).map(|(_, id)| id);
        let wall = rows.by_wall.iter().take_while(|(at, _)| *at <= now.wall).map(|(_, id)| id);
        let ids: BTreeSet<&FileId> = boot.take(limit).chain(wall.take(limit)).collect();
        ids.into_iter().filter_map(|id| rows.files.get(id)).map(|row| row.file.clone()).collect()
    }

    /// How long until the first file falls due, by either clock.
    #[must_use]
    pub fn next_due(&self, now: Now) -> Option<Duration> {
        let rows = self.rows();
        let boot = rows.by_boot.first().map(|(at, _)| now.boot.until(*at));
        let wall = rows.by_wall.first().map(|(at, _)| now.wall.until(*at));
        boot.into_iter().chain(wall).min()
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
        let by_boot = rows.by_boot.iter().take_while(|(at, _)| *at <= now.boot).count();
        let by_wall = rows.by_wall.iter().take_while(|(at, _)| *at <= now.wall).count();
        let overdue = by_boot.max(by_wall);
        Census {
            files: rows.files.len() as u64,
            bytes: rows.bytes,
            oldest: oldest.unwrap_or_default(),
            overdue: overdue as u64,
        }
    }
}

impl Rows {
    fn queue(&mut self, id: FileId, due: Deadline) {
        self.by_boot.insert((due.boot(), id));
        self.by_wall.insert((due.expires_at(), id));
    }

    fn unqueue(&mut self, id: FileId, due: Deadline) {
        self.by_boot.remove(&(due.boot(), id));
        self.by_wall.remove(&(due.expires_at(), id));
    }
}
