//! Uploads that come in several requests: found, written by one at a time, and ended here.
//!
//! Each is in one [`Stage`], and the one who writes holds it ([`Held`]): what may be done next
//! consumes what was there before, so that an upload cannot be finished twice or written by two.
//! Whoever comes while somebody writes makes an abandoned writer let go; its bytes are kept. `G` is
//! what grows, in the words of whoever takes files in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Closed, Cut, Origin};
use crate::budget::Permit;
use crate::clock::{Clock, Now, within};
use crate::crypto::SealedRecord;
use crate::file::{FileId, TenantId, UploadId};
use crate::policy::{GrantId, Who};

/// A writer that has moved nothing for so long, while another waits, is abandoned.
const ABANDONED: Duration = Duration::from_millis(250);
/// So often another looks whether the writer has moved before it gives up.
const LOOKS: u32 = 3;
/// What a writer that was told to let go may take: it seals what it has, and writes it down.
const LETS_GO_WITHIN: Duration = Duration::from_secs(5);

/// Which protocol an upload was begun in. It answers to no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// tus 1.0.0.
    Tus,
    /// draft-ietf-httpbis-resumable-upload.
    Draft,
}

/// What an upload is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A file.
    Whole,
    /// A part of a file that is joined later.
    Part,
    /// A file that was joined from parts.
    Joined,
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are kept.
    pub offset: u64,
    /// Bytes it will have, once that is known. It never changes then.
    pub length: Option<u64>,
}

impl Progress {
    #[must_use]
    pub fn is_complete(self) -> bool {
        self.length == Some(self.offset)
    }
}

/// An upload, and where it stands.
pub struct Upload<G> {
    pub id: UploadId,
    pub who: Who,
    pub face: Face,
    pub purpose: Purpose,
    pub origin: Origin,
    pub created: Now,
    /// The most bytes it may have.
    pub max_bytes: u64,
    /// What its sender says of it, sealed.
    pub note: SealedRecord,
    /// Pays for this entry.
    pub rent: Permit,
    stage: Mutex<Stage<G>>,
    changed: watch::Sender<()>,
    writers: Arc<AtomicUsize>,
}

/// What an upload is made of.
pub struct UploadParts {
    pub who: Who,
    pub face: Face,
    pub purpose: Purpose,
    pub origin: Origin,
    pub created: Now,
    pub max_bytes: u64,
    pub note: SealedRecord,
    pub rent: Permit,
}

enum Stage<G> {
    /// Nobody writes.
    Resting(Progress, G),
    Writing(Writer),
    /// It has become a file.
    Complete(FileId, u64),
    /// It has become part of one.
    Moved(u64),
    Over,
}

enum Attempt<G> {
    Taken(Held<G>, Progress, G),
    /// Somebody else writes.
    Theirs(Writer),
}

/// Somebody who writes, seen from outside.
#[derive(Clone, Default)]
struct Writer {
    let_go: Cut,
    moved: Arc<AtomicU64>,
}

/// Where an upload stands, for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standpoint {
    Resting(Progress),
    Complete(FileId, u64),
    Moved(u64),
}

/// Why an upload cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// Somebody else writes, and is alive.
    #[error("another request writes to the upload")]
    Busy,
    #[error("the upload is complete")]
    Complete(FileId, u64),
    #[error("the upload is part of a file")]
    Moved(u64),
    #[error("the upload has ended")]
    Over,
}

/// The one right to write to an upload. Dropped without a word of what became of it, the upload is
/// over.
pub struct Held<G> {
    upload: Arc<Upload<G>>,
    writer: Writer,
    settled: bool,
}

impl<G> Upload<G> {
    fn stage(&self) -> MutexGuard<'_, Stage<G>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to write, and what has grown. A writer that still moves is left alone.
    ///
    /// # Errors
    /// When it is complete, has ended, or somebody who is alive writes.
    pub async fn take(
        self: &Arc<Self>,
        clock: &dyn Clock,
    ) -> Result<(Held<G>, Progress, G), NotNow> {
        let mut looks = 0;
        loop {
            // From here on every change wakes us, whatever happens before we wait.
            let mut changed = self.changed.subscribe();
            let writer = match self.try_take()? {
                Attempt::Taken(held, progress, growing) => return Ok((held, progress, growing)),
                Attempt::Theirs(writer) => writer,
            };
            let before = writer.moved.load(Ordering::Relaxed);
            if within(clock, ABANDONED, changed.changed()).await.is_some() {
                continue;
            }
            if writer.moved.load(Ordering::Relaxed) == before {
                writer.let_go.fire();
                within(clock, LETS_GO_WITHIN, changed.changed()).await.ok_or_busy()?;
            }
            looks += 1;
            if looks == LOOKS {
                return Err(NotNow::Busy);
            }
        }
    }

    fn try_take(self: &Arc<Self>) -> Result<Attempt<G>, NotNow> {
        let mut stage = self.stage();
        let writer = Writer::default();
        match std::mem::replace(&mut *stage, Stage::Writing(writer.clone())) {
            Stage::Resting(progress, growing) => {
                self.writers.fetch_add(1, Ordering::AcqRel);
                let held = Held { upload: self.clone(), writer, settled: false };
                Ok(Attempt::Taken(held, progress, growing))
            }
            Stage::Writing(theirs) => {
                *stage = Stage::Writing(theirs.clone());
                Ok(Attempt::Theirs(theirs))
            }
            Stage::Complete(file, bytes) => {
                *stage = Stage::Complete(file, bytes);
                Err(NotNow::Complete(file, bytes))
            }
            Stage::Moved(bytes) => {
                *stage = Stage::Moved(bytes);
                Err(NotNow::Moved(bytes))
            }
            Stage::Over => {
                *stage = Stage::Over;
                Err(NotNow::Over)
            }
        }
    }

    /// Where it stands. Whoever writes lets go for this, so that what is told holds until the next
    /// append: at once if nothing comes any more, and within a second whatever comes. Bytes of a
    /// broken connection that are still on their way in are waited for so long.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn look(&self, clock: &dyn Clock) -> Result<Standpoint, NotNow> {
        let mut looks = 0;
        loop {
            let mut changed = self.changed.subscribe();
            let writer = match &*self.stage() {
                Stage::Resting(progress, _) => return Ok(Standpoint::Resting(*progress)),
                Stage::Complete(file, bytes) => return Ok(Standpoint::Complete(*file, *bytes)),
                Stage::Moved(bytes) => return Ok(Standpoint::Moved(*bytes)),
                Stage::Over => return Err(NotNow::Over),
                Stage::Writing(writer) => writer.clone(),
            };
            let before = writer.moved.load(Ordering::Relaxed);
            if within(clock, ABANDONED, changed.changed()).await.is_some() {
                continue;
            }
            looks += 1;
            if looks == LOOKS || writer.moved.load(Ordering::Relaxed) == before {
                writer.let_go.fire();
                within(clock, LETS_GO_WITHIN, changed.changed()).await.ok_or_busy()?;
            }
        }
    }

    /// Whether nobody writes, and it goes on there.
    #[must_use]
    pub fn rests_at(&self, offset: u64) -> bool {
        matches!(&*self.stage(), Stage::Resting(progress, _) if progress.offset == offset)
    }

    /// Whether it is part of a file.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        matches!(&*self.stage(), Stage::Moved(_))
    }

    /// The file it has become, if it has.
    #[must_use]
    pub fn file(&self) -> Option<FileId> {
        match &*self.stage() {
            Stage::Complete(file, _) => Some(*file),
            Stage::Resting(..) | Stage::Writing(_) | Stage::Moved(_) | Stage::Over => None,
        }
    }

    /// Ends it, and gives back what had grown, to be destroyed. Whoever writes finds out.
    pub fn end(&self) -> Option<G> {
        let before = {
            let mut stage = self.stage();
            match &*stage {
                Stage::Complete(..) | Stage::Moved(_) => return None,
                Stage::Resting(..) | Stage::Writing(_) | Stage::Over => {}
            }
            std::mem::replace(&mut *stage, Stage::Over)
        };
        self.changed.send_replace(());
        match before {
            Stage::Resting(_, growing) => Some(growing),
            Stage::Writing(writer) => {
                writer.let_go.fire();
                None
            }
            Stage::Complete(..) | Stage::Moved(_) | Stage::Over => None,
        }
    }

    /// Whether its keys exist and neither clock has reached their end.
    #[must_use]
    pub fn is_alive(&self, now: Now) -> bool {
        self.origin.keys.deadline().is_some_and(|end| !end.is_due(now))
    }
}

trait OrBusy {
    fn ok_or_busy(self) -> Result<(), NotNow>;
}

impl<T> OrBusy for Option<T> {
    fn ok_or_busy(self) -> Result<(), NotNow> {
        self.map(drop).ok_or(NotNow::Busy)
    }
}

impl<G> Held<G> {
    /// Completes when somebody else wants to write.
    pub fn wanted(&self) -> impl Future<Output = ()> + Send + use<G> {
        self.writer.let_go.fired()
    }

    /// Counts bytes as they come: whoever waits sees that this writer is alive.
    #[must_use]
    pub fn pulse(&self) -> Arc<AtomicU64> {
        self.writer.moved.clone()
    }

    /// Puts it back for the next. What has grown comes back if the upload was ended meanwhile.
    pub fn rest(self, progress: Progress, growing: G) -> Option<G> {
        match self.settle(Stage::Resting(progress, growing)) {
            Err(Stage::Resting(_, growing)) => Some(growing),
            Ok(()) | Err(_) => None,
        }
    }

    /// It has become a file; false if it was ended meanwhile.
    #[must_use]
    pub fn complete(self, file: FileId, bytes: u64) -> bool {
        self.settle(Stage::Complete(file, bytes)).is_ok()
    }

    /// It has become part of a file; false if it was ended meanwhile.
    #[must_use]
    pub fn moved(self, bytes: u64) -> bool {
        self.settle(Stage::Moved(bytes)).is_ok()
    }

    fn settle(mut self, next: Stage<G>) -> Result<(), Stage<G>> {
        self.settled = true;
        let settled = {
            let mut stage = self.upload.stage();
            match &*stage {
                Stage::Writing(_) => {
                    *stage = next;
                    Ok(())
                }
                // It was ended while we wrote.
                Stage::Resting(..) | Stage::Complete(..) | Stage::Moved(_) | Stage::Over => {
                    Err(next)
                }
            }
        };
        self.upload.changed.send_replace(());
        settled
    }
}

impl<G> Drop for Held<G> {
    fn drop(&mut self) {
        self.upload.writers.fetch_sub(1, Ordering::AcqRel);
        if !self.settled {
            let mut stage = self.upload.stage();
            if matches!(&*stage, Stage::Writing(_)) {
                *stage = Stage::Over;
            }
            drop(stage);
            self.upload.changed.send_replace(());
        }
    }
}

/// Every upload of this process that can be asked for.
pub struct Uploads<G> {
    rows: Mutex<Rows<G>>,
    /// How many write, to uploads that are not known any more, too.
    writers: Arc<AtomicUsize>,
}

struct Rows<G> {
    all: HashMap<UploadId, Arc<Upload<G>>>,
    closed: bool,
}

impl<G> Default for Uploads<G> {
    fn default() -> Self {
        let rows = Rows { all: HashMap::new(), closed: false };
        Self { rows: Mutex::new(rows), writers: Arc::default() }
    }
}

impl<G> Uploads<G> {
    fn rows(&self) -> MutexGuard<'_, Rows<G>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an upload known.
    ///
    /// # Errors
    /// When the gateway has stopped.
    pub fn begin(
        &self,
        parts: UploadParts,
        progress: Progress,
        growing: G,
    ) -> Result<Arc<Upload<G>>, Closed> {
        self.insert(parts, Stage::Resting(progress, growing))
    }

    /// Makes an upload known that is a file already.
    ///
    /// # Errors
    /// When the gateway has stopped.
    pub fn joined(
        &self,
        parts: UploadParts,
        file: FileId,
        bytes: u64,
    ) -> Result<Arc<Upload<G>>, Closed> {
        self.insert(parts, Stage::Complete(file, bytes))
    }

    fn insert(&self, parts: UploadParts, stage: Stage<G>) -> Result<Arc<Upload<G>>, Closed> {
        let UploadParts { who, face, purpose, origin, created, max_bytes, note, rent } = parts;
        let id = UploadId::of(origin.keys.file());
        let (stage, writers) = (Mutex::new(stage), self.writers.clone());
        let changed = watch::Sender::new(());
        let upload = Arc::new(Upload {
            id,
            who,
            face,
            purpose,
            origin,
            created,
            max_bytes,
            note,
            rent,
            stage,
            changed,
            writers,
        });
        let mut rows = self.rows();
        if rows.closed {
            return Err(Closed);
        }
        rows.all.insert(id, upload.clone());
        Ok(upload)
    }

    /// An upload, for whoever began it; to everybody else it does not exist.
    #[must_use]
    pub fn get(&self, id: UploadId, tenant: TenantId, who: &Who) -> Option<Arc<Upload<G>>> {
        let rows = self.rows();
        let upload = rows.all.get(&id)?;
        (upload.origin.tenant == tenant && upload.who == *who).then(|| upload.clone())
    }

    /// Whether a grant has begun an upload: it may go on with that one, be its uses spent or not.
    #[must_use]
    pub fn is_of_grant(&self, id: UploadId, grant: GrantId) -> bool {
        self.rows().all.get(&id).is_some_and(|upload| upload.who.grant == Some(grant))
    }

    /// How many uploads somebody has that are not complete.
    #[must_use]
    pub fn open_of(&self, who: &Who) -> usize {
        let rows = self.rows();
        let theirs = rows.all.values().filter(|upload| upload.who == *who);
        theirs.filter(|upload| upload.file().is_none()).count()
    }

    /// All uploads of a tenant.
    #[must_use]
    pub fn of(&self, tenant: TenantId) -> Vec<Arc<Upload<G>>> {
        let rows = self.rows();
        rows.all.values().filter(|upload| upload.origin.tenant == tenant).cloned().collect()
    }

    /// Forgets an upload.
    pub fn forget(&self, id: UploadId) {
        let forgotten = self.rows().all.remove(&id);
        drop(forgotten);
    }

    /// Takes out what has ended with its keys.
    #[must_use]
    pub fn sweep(&self, now: Now) -> Vec<Arc<Upload<G>>> {
        let mut rows = self.rows();
        let dead = rows.all.extract_if(|_, upload| !upload.is_alive(now));
        dead.map(|(_, upload)| upload).collect()
    }

    /// Lets nobody in any more; returns all that are here.
    #[must_use]
    pub fn close(&self) -> Vec<Arc<Upload<G>>> {
        let mut rows = self.rows();
        rows.closed = true;
        std::mem::take(&mut rows.all).into_values().collect()
    }

    /// Whether nobody writes.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.writers.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests;
