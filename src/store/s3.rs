//! Sealed segments as objects of one bucket, in one region.
//!
//! An object's name is random and says nothing of the file. A writer's requests are carried by a
//! session that outlives it, so that a client who leaves leaves nothing behind. What the bucket is
//! (its region, versions, locks, copies) is asked at the start and again and again; a bucket that
//! can no longer forget takes nothing in.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Answer, BlobId, BlobReader, BlobWriter, Standing, Store, StoreError, Usage};
use crate::body::Buffer;
use crate::budget::Budget;
use crate::clock::{Boot, Clock};
use crate::egress::Egress;
use crate::entropy::Entropy;
use crate::keyring::Doomed;
use crate::metrics;
use crate::region::Region;
use crate::tasks::Tasks;

mod bucket;
mod check;
mod fault;
mod home;
mod options;
mod reader;
mod retry;
#[cfg(feature = "instance-role")]
mod role;
mod wire;
mod writer;

pub use check::{Checked, Unfit};
pub use home::HomeError;
pub use options::{Lender, PlaceError, S3Options, check_bucket, endpoint};

use bucket::{Bucket, Listed};
use fault::Fault;
use home::Home;
use reader::Reader;
use writer::Writer;

/// Between two tries of a delete that failed; doubles up to [`SLOWEST`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(60);
/// A request that was given up may still arrive: what it would leave is deleted once more.
const STRAGGLERS: Duration = Duration::from_secs(45);

/// A bucket of which nothing was heard for so many checks takes nothing in until it is heard of.
const MOST_MISSED: u32 = 3;
/// A server that did not answer is asked again after this long, or sooner where checks are closer.
const ASK_AGAIN: Duration = Duration::from_mins(5);

/// Why there is no such store.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// What a store needs from outside.
pub struct S3Parts {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub egress: Egress,
    pub tasks: Tasks,
    pub budget: Budget,
}

/// A store in a bucket.
#[derive(Clone)]
pub struct S3Store(Arc<Inner>);

struct Inner {
    // Dependencies.
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tasks: Tasks,
    budget: Budget,
    bucket: Bucket,
    home: Home,
    // State.
    shelf: Mutex<Shelf>,
    /// Writers at work, and objects without an owner that still wait to be deleted.
    unsettled: AtomicU64,
    standing: Mutex<Standing>,
    /// When the server last said what the bucket is.
    heard: Mutex<Option<Boot>>,
    // Configuration.
    region: Region,
    /// The storage's own name of its region.
    wanted: String,
    check_every: Duration,
}

#[derive(Default)]
struct Shelf {
    blobs: HashMap<BlobId, Blob>,
    /// Names that are being written, or deleted because they never became a blob.
    reserved: HashSet<Arc<str>>,
    bytes: u64,
    next: u64,
}

/// What a session that ended without a blob may have left in the bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It never sent anything.
    Nothing,
    Object,
    /// Parts, an object, or requests that are still on their way.
    Anything,
}

struct Blob {
    key: Arc<str>,
    bytes: u64,
}

impl S3Store {
    /// A store for `region` in the bucket. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the bucket has no address, or this run no name of its own.
    pub fn new(region: Region, options: &S3Options, parts: S3Parts) -> Result<Self, S3Error> {
        let S3Parts { clock, entropy, egress, tasks, budget } = parts;
        let bucket = Bucket::new(options, egress, clock.clone(), entropy.clone())?;
        let home = Home::take(&*entropy)?;
        Ok(Self(Arc::new(Inner {
            clock,
            entropy,
            tasks,
            budget,
            bucket,
            home,
            shelf: Mutex::default(),
            unsettled: AtomicU64::new(0),
            standing: Mutex::default(),
            heard: Mutex::default(),
            region,
            wanted: options.region.clone(),
            check_every: options.check_every,
        })))
    }

    /// Asks the server what the bucket is, and goes by it from here on.
    ///
    /// # Errors
    /// Why the bucket cannot take files in, or that the server did not say.
    pub async fn check(&self) -> Result<Checked, Unfit> {
        let inner = &self.0;
        let found = inner.bucket.check(&inner.wanted, inner.clock.now().wall).await;
        let stale = inner.hears(&found);
        let mut standing = inner.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Ok(checked) => {
                *standing = Standing { checked: Some(checked.clone()), unfit: None };
            }
            Err(unfit) if unfit.is_told() => standing.unfit = Some(unfit.clone()),
            // What was said last still stands, for a while.
            Err(_) => standing.unfit = standing.unfit.take().or(stale),
        }
        metrics::set(metrics::STORE_UNFIT, f64::from(u8::from(standing.unfit.is_some())));
        found
    }

    /// Sweeps now, then checks and sweeps again and again for as long as the process runs.
    pub async fn watch(self) {
        let every = self.0.check_every;
        let mut pause = every;
        loop {
            if let Err(fault) = self.sweep().await {
                tracing::warn!("the bucket was not swept: {fault}");
            }
            self.0.clock.sleep(pause).await;
            pause = every;
            match self.check().await {
                Ok(_) => {}
                Err(unfit) if unfit.is_told() => {
                    tracing::error!("the bucket is not fit to take files in: {unfit}");
                }
                Err(silent) => {
                    tracing::warn!("the bucket was not checked: {silent}");
                    pause = every.min(ASK_AGAIN);
                }
            }
        }
    }

    /// Removes what nobody owns: unfinished uploads and objects of runs that have ended, and of
    /// this one what no file or writer knows.
    async fn sweep(&self) -> Result<(), Fault> {
        let inner = &self.0;
        let mut failed = None;
        let mut found = inner.bucket.uploads(home::ROOT).await?;
        found.extend(inner.bucket.objects(home::ROOT).await?);
        // Asked after the lists were made: a name is known before anything is sent under it.
        let known = inner.known();
        for one in found.into_iter().filter(|one| inner.is_orphan(one, &known)) {
            let removed = match &one.upload {
                Some(upload) => inner.bucket.abort(&one.key, upload).await,
                None => inner.bucket.delete(&one.key, Doomed::Orphan).await,
            };
            match removed {
                Ok(()) => metrics::count(metrics::STORE_ORPHANS, 1),
                Err(fault) => failed = Some(fault),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Inner {
    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when the server has said what the bucket is; otherwise, whether that is too long ago.
    fn hears(&self, found: &Result<Checked, Unfit>) -> Option<Unfit> {
        let now = self.clock.now().boot;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref().err().is_none_or(Unfit::is_told) {
            *heard = Some(now);
        }
        let silence = now.since(heard.unwrap_or(now));
        let hours = silence.as_secs() / 3600;
        (silence > self.check_every * MOST_MISSED).then_some(Unfit::Stale { hours })
    }

    /// A name for a new object, known to be ours until it is a blob or was discarded.
    fn reserve(&self) -> Result<Arc<str>, StoreError> {
        let key = self.home.name(&*self.entropy).map_err(|_| StoreError::Failed)?;
        self.shelf().reserved.insert(key.clone());
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        Ok(key)
    }

    /// The object is complete: a blob from here on.
    fn committed(&self, key: &Arc<str>, bytes: u64) -> BlobId {
        let mut shelf = self.shelf();
        let id = BlobId(shelf.next);
        shelf.next += 1;
        shelf.bytes += bytes;
        shelf.blobs.insert(id, Blob { key: key.clone(), bytes });
        shelf.reserved.remove(key);
        drop(shelf);
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
        id
    }

    fn forget(&self, id: BlobId) -> Option<Blob> {
        let mut shelf = self.shelf();
        let blob = shelf.blobs.remove(&id)?;
        shelf.bytes -= blob.bytes;
        Some(blob)
    }

    /// A blob that its writer did not live to take.
    fn unclaimed(self: &Arc<Self>, id: BlobId) {
        let Some(blob) = self.forget(id) else { return };
        self.shelf().reserved.insert(blob.key.clone());
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        drop(self.tasks.spawn(async move { this.discard(blob.key, Left::Object).await }));
    }

    /// Removes what a session may have left, again and again until the bucket says it is gone.
    async fn discard(self: &Arc<Self>, key: Arc<str>, left: Left) {
        let mut pause = FIRST_RETRY;
        while let Err(fault) = self.remove(&key, left).await {
            metrics::count(metrics::STORE_DELETE_FAILURES, 1);
            tracing::warn!("what an upload left could not be removed yet: {fault}");
            self.clock.sleep(self.bucket.retry.jittered(pause)).await;
            pause = (pause * 2).min(SLOWEST);
        }
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
        if left == Left::Anything {
            self.clock.sleep(STRAGGLERS).await;
            // What fails now is found by the next sweep: the name is nobody's any more.
            let _ = self.remove(&key, left).await;
        }
        self.shelf().reserved.remove(&key);
    }

    /// By name, not by id: an upload whose id was lost on its way here is found as well.
    async fn remove(&self, key: &str, left: Left) -> Result<(), Fault> {
        if left == Left::Nothing {
            return Ok(());
        }
        if left == Left::Anything {
            for one in self.bucket.uploads(key).await? {
                if let Some(upload) = &one.upload {
                    self.bucket.abort(&one.key, upload).await?;
                }
            }
        }
        self.bucket.delete(key, Doomed::SegmentDiscarded).await
    }

    /// Every name of ours that somebody answers for.
    fn known(&self) -> HashSet<Arc<str>> {
        let shelf = self.shelf();
        let blobs = shelf.blobs.values().map(|blob| &blob.key);
        blobs.chain(&shelf.reserved).cloned().collect()
    }

    fn is_orphan(&self, one: &Listed, known: &HashSet<Arc<str>>) -> bool {
        if self.home.is_ours(&one.key) {
            return !known.contains(one.key.as_str());
        }
        self.home.is_abandoned(&one.key, one.since, self.clock.now().wall)
    }

    fn key(&self, blob: BlobId) -> Option<(Arc<str>, u64)> {
        self.shelf().blobs.get(&blob).map(|blob| (blob.key.clone(), blob.bytes))
    }
}

#[async_trait]
impl Store for S3Store {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn region(&self) -> Region {
        self.0.region
    }

    async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
        if self.standing().unfit.is_some() {
            return Err(StoreError::Unfit);
        }
        Ok(Box::new(Writer::begin(&self.0)?))
    }

    async fn read(&self, blob: BlobId, offset: u64, into: &mut Buffer) -> Result<(), StoreError> {
        let (key, bytes) = self.0.key(blob).ok_or(StoreError::Missing)?;
        let end = offset.saturating_add(into.len() as u64);
        if end > bytes {
            return Err(StoreError::Missing);
        }
        Reader::new(self.0.clone(), key, offset..end).fill(into.as_mut_slice()).await
    }

    fn reader(&self, blob: BlobId, stretch: Range<u64>) -> Option<Box<dyn BlobReader>> {
        let (key, bytes) = self.0.key(blob)?;
        let stretch = stretch.start..stretch.end.min(bytes);
        Some(Box::new(Reader::new(self.0.clone(), key, stretch)))
    }

    async fn delete(&self, blob: BlobId, leave: Doomed<'_>) -> Result<Answer, StoreError> {
        let Some((key, _)) = self.0.key(blob) else { return Ok(Answer::Deleted) };
        self.0.bucket.delete(&key, leave).await?;
        drop(self.0.forget(blob));
        Ok(Answer::Deleted)
    }

    fn usage(&self) -> Usage {
        let shelf = self.0.shelf();
        let blobs = shelf.blobs.len() as u64 + self.0.unsettled.load(Ordering::Relaxed);
        Usage { blobs, bytes: shelf.bytes }
    }

    fn unsettled(&self) -> u64 {
        self.0.unsettled.load(Ordering::Relaxed)
    }

    fn standing(&self) -> Standing {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
pub(crate) mod tests;
