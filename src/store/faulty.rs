//! A store that fails on order: what the world does, on the day a test wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::{Answer, BlobId, BlobWriter, Store, StoreError, Usage};
use crate::body::Buffer;
use crate::crypto::{SealedRun, SegmentEnd};
use crate::keyring::Doomed;
use crate::region::Region;

/// How often each call still fails.
#[derive(Clone, Default)]
pub struct Faults {
    pub begins: Arc<AtomicU32>,
    pub appends: Arc<AtomicU32>,
    pub commits: Arc<AtomicU32>,
    pub reads: Arc<AtomicU32>,
    pub deletes: Arc<AtomicU32>,
}

fn fails(left: &AtomicU32) -> Result<(), StoreError> {
    let took = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    if took.is_ok() { Err(StoreError::Failed) } else { Ok(()) }
}

/// Any store, with faults in front of it.
pub struct FaultyStore<S> {
    pub inner: S,
    pub faults: Faults,
}

#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn region(&self) -> Region {
        self.inner.region()
    }

    async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
        fails(&self.faults.begins)?;
        let (writer, faults) = (self.inner.begin().await?, self.faults.clone());
        Ok(Box::new(FaultyWriter { writer, faults }))
    }

    async fn read(&self, blob: BlobId, offset: u64, into: &mut Buffer) -> Result<(), StoreError> {
        fails(&self.faults.reads)?;
        self.inner.read(blob, offset, into).await
    }

    async fn delete(&self, blob: BlobId, leave: Doomed<'_>) -> Result<Answer, StoreError> {
        fails(&self.faults.deletes)?;
        self.inner.delete(blob, leave).await
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

struct FaultyWriter {
    writer: Box<dyn BlobWriter>,
    faults: Faults,
}

#[async_trait]
impl BlobWriter for FaultyWriter {
    async fn append(&mut self, run: SealedRun) -> Result<(), StoreError> {
        fails(&self.faults.appends)?;
        self.writer.append(run).await
    }

    async fn commit(self: Box<Self>, end: &SegmentEnd) -> Result<BlobId, StoreError> {
        fails(&self.faults.commits)?;
        self.writer.commit(end).await
    }
}
