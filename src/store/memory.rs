//! Sealed runs kept in memory, each with the permit that pays for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{Answer, BlobId, BlobWriter, Store, StoreError, Usage};
use crate::body::Buffer;
use crate::crypto::{SealedRun, SegmentEnd};
use crate::keyring::Doomed;
use crate::region::Region;

/// A store of at most `limit` sealed bytes.
#[derive(Clone)]
pub struct MemoryStore {
    region: Region,
    limit: u64,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    blobs: HashMap<BlobId, Arc<Blob>>,
    bytes: u64,
    next: u64,
}

/// Runs in order, each with the offset it starts at.
struct Blob {
    runs: Vec<(u64, SealedRun)>,
    bytes: u64,
}

impl MemoryStore {
    #[must_use]
    pub fn new(region: Region, limit: u64) -> Self {
        Self { region, limit, shelf: Arc::default() }
    }

    /// Starts a blob of at most `bytes`, whose room is taken at once; `None` if there is none.
    #[must_use]
    pub fn begin_small(&self, bytes: usize) -> Option<Box<dyn BlobWriter>> {
        let bytes = bytes as u64;
        self.reserve(bytes).ok()?;
        let (store, runs) = (self.clone(), Vec::new());
        Some(Box::new(Writer { store, runs, bytes: 0, ahead: bytes }))
    }

    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let mut shelf = self.shelf();
        if shelf.bytes + bytes > self.limit {
            return Err(StoreError::Full);
        }
        shelf.bytes += bytes;
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn region(&self) -> Region {
        self.region
    }

    async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(Writer { store: self.clone(), runs: Vec::new(), bytes: 0, ahead: 0 }))
    }

    async fn read(&self, blob: BlobId, offset: u64, into: &mut Buffer) -> Result<(), StoreError> {
        let blob = self.shelf().blobs.get(&blob).cloned().ok_or(StoreError::Missing)?;
        blob.copy(offset, into.as_mut_slice())
    }

    async fn delete(&self, blob: BlobId, _leave: Doomed<'_>) -> Result<Answer, StoreError> {
        let gone = {
            let mut shelf = self.shelf();
            let gone = shelf.blobs.remove(&blob);
            shelf.bytes -= gone.as_ref().map_or(0, |blob| blob.bytes);
            gone
        };
        drop(gone);
        Ok(Answer::Deleted)
    }

    fn usage(&self) -> Usage {
        let shelf = self.shelf();
        Usage { blobs: shelf.blobs.len() as u64, bytes: shelf.bytes }
    }
}

impl Blob {
    fn copy(&self, mut offset: u64, mut out: &mut [u8]) -> Result<(), StoreError> {
        let first = self.runs.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        for (start, run) in &self.runs[first..] {
            if out.is_empty() {
                break;
            }
            let inside = usize::try_from(offset - start).map_err(|_| StoreError::Missing)?;
            let run = run.as_slice().get(inside..).ok_or(StoreError::Missing)?;
            let taken = run.len().min(out.len());
            out[..taken].copy_from_slice(&run[..taken]);
            out = &mut out[taken..];
            offset += taken as u64;
        }
        if out.is_empty() { Ok(()) } else { Err(StoreError::Missing) }
    }
}

struct Writer {
    store: MemoryStore,
    runs: Vec<(u64, SealedRun)>,
    bytes: u64,
    /// Room that was taken and is not filled yet.
    ahead: u64,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn append(&mut self, mut run: SealedRun) -> Result<(), StoreError> {
        run.shrink();
        let bytes = run.as_slice().len() as u64;
        let covered = bytes.min(self.ahead);
        self.store.reserve(bytes - covered)?;
        self.ahead -= covered;
        self.runs.push((self.bytes, run));
        self.bytes += bytes;
        Ok(())
    }

    async fn commit(mut self: Box<Self>, _end: &SegmentEnd) -> Result<BlobId, StoreError> {
        let mut runs = std::mem::take(&mut self.runs);
        // Small blobs are many, and a vector begins with room for four.
        runs.shrink_to_fit();
        let blob = Blob { runs, bytes: self.bytes };
        // The shelf counts the bytes from here on; the drop below must not give them back.
        self.bytes = 0;
        let mut shelf = self.store.shelf();
        let id = BlobId(shelf.next);
        shelf.next += 1;
        shelf.blobs.insert(id, Arc::new(blob));
        Ok(id)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.store.shelf().bytes -= self.bytes + self.ahead;
    }
}
