//! Sealed segments in nameless temporary files of one directory.
//!
//! A file has no name from its first byte on: nothing to list, nothing left after a kill. Writes
//! go straight from the task (measured: handing them to another thread costs more), without any
//! fsync: what a crash may lose is unreadable anyway, because its keys are lost with the process.
//! Only a disk that keeps writers waiting is waited for aside, so that other tasks go on.
//!
//! The first [`PACKED_BYTES`] of a blob share pack files with others, and only what is longer has
//! a file of its own for the rest, so that many files need few descriptors.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;

use super::pack::{self, Packs, Stretch};
use super::{Answer, BlobId, BlobWriter, Store, StoreError, Usage};
use crate::body::Buffer;
use crate::clock::{Boot, Clock};
use crate::crypto::{SealedRun, SegmentEnd};
use crate::disk::{ReadAt, Spool, read_at, read_cached_at};
use crate::keyring::Doomed;
use crate::region::Region;
use crate::tasks::blocking;

/// What of a blob goes into packs, bytes: longer ones pay for a descriptor.
const PACKED_BYTES: u64 = 16 << 20;

/// A store of at most `limit` sealed bytes in a spool.
#[derive(Clone)]
pub struct LocalStore(Arc<Shelf>);

struct Shelf {
    region: Region,
    spool: Spool,
    packs: Packs,
    packed_bytes: u64,
    room: Room,
    tide: Tide,
    blobs: Mutex<HashMap<BlobId, Arc<Blob>>>,
    next: AtomicU64,
}

/// A write that takes longer than this waited for the disk: the kernel holds writers back when too
/// much of what they wrote is still on its way there. Much longer than the scheduler keeps a thread
/// waiting behind a crowd of others, which looks the same from here and must not count.
const SLOW_WRITE: Duration = Duration::from_millis(60);
/// For how long writes then expect to wait.
const SLOW_FOR: Duration = Duration::from_secs(1);
/// A write that takes less than this has not waited: the disk is not slow, or no more.
const QUICK_WRITE: Duration = Duration::from_millis(5);

/// Whether writes go straight to the page cache, or wait for the disk.
struct Tide {
    clock: Arc<dyn Clock>,
    slow_until: Mutex<Option<Boot>>,
}

impl Tide {
    /// Writes; aside from the runtime's other tasks if it will probably take its time. (To step
    /// aside costs a wake-up of another thread each time: as much as the write, where it is quick.)
    fn write(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let began = self.clock.now().boot;
        let is_slow = self.slow_until().is_some_and(|until| began < until);
        let written = if is_slow { blocking(write) } else { write() };
        let now = self.clock.now().boot;
        let took = now.since(began);
        if took > SLOW_WRITE {
            *self.slow_until() = Some(now.plus(SLOW_FOR));
        } else if is_slow && took < QUICK_WRITE {
            *self.slow_until() = None;
        }
        written
    }

    fn slow_until(&self) -> std::sync::MutexGuard<'_, Option<Boot>> {
        self.slow_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes on the disk against the operator's limit.
struct Room {
    limit: u64,
    used: AtomicU64,
}

impl Room {
    fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let fits = |used: u64| used.checked_add(bytes).filter(|after| *after <= self.limit);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(|_| ()).map_err(|_| StoreError::Full)
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A blob's bytes: stretches in order, each with the offset it starts at, then its own file.
#[derive(Default)]
struct Blob {
    packed: Vec<(u64, Stretch)>,
    packed_bytes: u64,
    own: Option<File>,
    own_bytes: u64,
}

impl Blob {
    fn read(&self, mut offset: u64, mut out: &mut [u8], read: ReadAt) -> io::Result<()> {
        let first = self.packed.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        for (place, (start, stretch)) in self.packed.iter().enumerate().skip(first) {
            if out.is_empty() || offset >= self.packed_bytes {
                break;
            }
            let end = self.packed.get(place + 1).map_or(self.packed_bytes, |(start, _)| *start);
            let here = usize::try_from(end - offset).unwrap_or(usize::MAX).min(out.len());
            let (now, later) = out.split_at_mut(here);
            stretch.read(offset - start, now, read)?;
            (out, offset) = (later, offset + here as u64);
        }
        match &self.own {
            _ if out.is_empty() => Ok(()),
            Some(file) => read(file, out, offset - self.packed_bytes),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// What it takes on the disk, bytes.
    fn footprint(&self) -> u64 {
        self.own_bytes + self.packed.iter().map(|(_, stretch)| stretch.footprint()).sum::<u64>()
    }

    fn release(&self) -> io::Result<()> {
        self.packed.iter().try_for_each(|(_, stretch)| stretch.release())
    }
}

impl LocalStore {
    #[must_use]
    pub fn new(region: Region, spool: Spool, limit: u64, clock: Arc<dyn Clock>) -> Self {
        let packed_bytes = if pack::possible(&spool) { PACKED_BYTES } else { 0 };
        let room = Room { limit, used: AtomicU64::new(0) };
        let packs = Packs::new(spool.clone());
        let tide = Tide { clock, slow_until: Mutex::new(None) };
        let (blobs, next) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shelf { region, spool, packs, packed_bytes, room, tide, blobs, next }))
    }
}

impl Shelf {
    fn blobs(&self) -> std::sync::MutexGuard<'_, HashMap<BlobId, Arc<Blob>>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, blob: &mut Blob, bytes: &[u8]) -> io::Result<()> {
        if blob.own.is_none() && blob.packed_bytes + bytes.len() as u64 <= self.packed_bytes {
            let stretch = self.packs.write(bytes)?;
            blob.packed.push((blob.packed_bytes, stretch));
            blob.packed_bytes += bytes.len() as u64;
            return Ok(());
        }
        let file = match blob.own.take() {
            Some(file) => file,
            None => self.spool.nameless()?,
        };
        let file = blob.own.insert(file);
        file.write_all_at(bytes, blob.own_bytes)?;
        blob.own_bytes += bytes.len() as u64;
        Ok(())
    }
}

#[async_trait]
impl Store for LocalStore {
    fn name(&self) -> &'static str {
        "local"
    }

    fn region(&self) -> Region {
        self.0.region
    }

    async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
        let (shelf, blob) = (self.0.clone(), Some(Blob::default()));
        Ok(Box::new(Writer { shelf, blob, taken: 0 }))
    }

    async fn read(&self, blob: BlobId, offset: u64, into: &mut Buffer) -> Result<(), StoreError> {
        let blob = self.0.blobs().get(&blob).cloned().ok_or(StoreError::Missing)?;
        let into = into.as_mut_slice();
        let read = match blob.read(offset, into, read_cached_at) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                blocking(|| blob.read(offset, into, read_at))
            }
            cached => cached,
        };
        read.map_err(|error| classify(&error))
    }

    async fn delete(&self, id: BlobId, _leave: Doomed<'_>) -> Result<Answer, StoreError> {
        let Some(blob) = self.0.blobs().get(&id).cloned() else { return Ok(Answer::Deleted) };
        // Closing the last descriptor frees the blocks: 23 ms for 256 MiB on ext4 (measured). A
        // reader that still holds the blob lets it go when its next chunk is refused.
        blocking(|| {
            blob.release().map_err(|error| classify(&error))?;
            if self.0.blobs().remove(&id).is_some() {
                self.0.room.give_back(blob.footprint());
            }
            drop(blob);
            Ok(Answer::Deleted)
        })
    }

    fn usage(&self) -> Usage {
        let blobs = self.0.blobs().len() as u64;
        Usage { blobs, bytes: self.0.room.used.load(Ordering::Relaxed) }
    }
}

struct Writer {
    shelf: Arc<Shelf>,
    /// `None` once committed.
    blob: Option<Blob>,
    /// Room taken, bytes: what the blob fills on the disk, and what a failed write may have filled.
    taken: u64,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn append(&mut self, run: SealedRun) -> Result<(), StoreError> {
        let bytes = pack::blocks(run.as_slice().len() as u64);
        self.shelf.room.take(bytes)?;
        self.taken += bytes;
        let blob = self.blob.as_mut().ok_or(StoreError::Failed)?;
        let written = self.shelf.tide.write(|| self.shelf.write(blob, run.as_slice()));
        written.map_err(|error| classify(&error))
    }

    async fn commit(mut self: Box<Self>, _end: &SegmentEnd) -> Result<BlobId, StoreError> {
        let mut blob = self.blob.take().ok_or(StoreError::Failed)?;
        blob.packed.shrink_to_fit();
        // The blob gives the bytes back when it is deleted; the drop below must not.
        self.shelf.room.give_back(std::mem::take(&mut self.taken) - blob.footprint());
        let id = BlobId(self.shelf.next.fetch_add(1, Ordering::Relaxed));
        self.shelf.blobs().insert(id, Arc::new(blob));
        Ok(id)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(unfinished) = self.blob.take() {
            // A stretch that gives no blocks back now does so when its pack goes.
            let _ = blocking(|| unfinished.release());
            blocking(|| drop(unfinished));
        }
        self.shelf.room.give_back(self.taken);
    }
}

fn classify(error: &io::Error) -> StoreError {
    // Neither is the store's fault, nor there to stay: no 500 for everybody who uploads just now.
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN];
    if Errno::from_io_error(error).is_some_and(|errno| short.contains(&errno)) {
        return StoreError::Short;
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full
        }
        io::ErrorKind::UnexpectedEof => StoreError::Missing,
        _ => StoreError::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{VirtualClock, Wall};

    #[test]
    fn only_a_disk_that_keeps_writers_waiting_counts_as_slow() {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        let tide = Tide { clock: Arc::new(clock.clone()), slow_until: Mutex::new(None) };
        let slow_after = |millis| {
            let write = || {
                clock.advance(Duration::from_millis(millis));
                Ok(())
            };
            tide.write(write).unwrap();
            tide.slow_until().is_some()
        };
        assert!(!slow_after(1) && !slow_after(30), "a thread that waited for its turn");
        assert!(slow_after(200));
        assert!(slow_after(10), "still held back");
        assert!(!slow_after(1), "no more");
    }

    #[test]
    fn a_machine_out_of_descriptors_is_busy_and_not_broken() {
        for (errno, means) in [
            (Errno::MFILE, StoreError::Short),
            (Errno::NFILE, StoreError::Short),
            (Errno::NOMEM, StoreError::Short),
            (Errno::NOSPC, StoreError::Full),
            (Errno::IO, StoreError::Failed),
        ] {
            assert_eq!(classify(&errno.into()), means);
        }
    }
}
