//! Where sealed bytes rest. A store sees nothing but sealed runs, and only `crypto` makes those.
//!
//! A blob becomes readable when its writer is committed, which demands the segment's end, which
//! only a sealer that reached the end of its input can give. It is deleted with a [`Doomed`].

use std::ops::Range;

use async_trait::async_trait;

use crate::body::{BodyError, Buffer};
use crate::crypto::{SealedRun, SegmentEnd};
use crate::keyring::Doomed;
use crate::region::Region;

#[cfg(test)]
mod faulty;
mod local;
mod memory;
mod pack;
mod s3;

#[cfg(test)]
pub(crate) use faulty::{Faults, FaultyStore};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use s3::{
    Checked, HomeError, Lender, PlaceError, S3Error, S3Options, S3Parts, S3Store, Unfit,
    check_bucket, endpoint,
};

/// What can go wrong in any store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room: the disk's, or the operator's limit.
    #[error("the store is full")]
    Full,
    /// The blob is not there.
    #[error("the store does not hold this blob")]
    Missing,
    /// The process or the machine is short of descriptors or memory for a moment.
    #[error("the machine has nothing to spare at the moment")]
    Short,
    /// The store failed; trying again may help.
    #[error("the store failed")]
    Failed,
    /// It can no longer forget what it is given: it takes nothing new.
    #[error("the store is not fit to take anything in")]
    Unfit,
}

impl From<StoreError> for BodyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::StorageFull,
            StoreError::Short => Self::Overloaded,
            StoreError::Missing | StoreError::Failed => Self::Storage,
            StoreError::Unfit => Self::Unfit,
        }
    }
}

/// A committed blob's name in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(u64);

/// What a store answered to a delete, as receipts repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bytes are released.
    Deleted,
    /// Not yet: the delete is being retried.
    Pending,
}

impl Answer {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Pending => "pending",
        }
    }
}

/// Sealed bytes held, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub blobs: u64,
    pub bytes: u64,
}

/// What is known of the place behind a store.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What its server last reported; absent for stores of our own.
    pub checked: Option<Checked>,
    /// Why it takes nothing new in; what it holds can still be read and deleted.
    pub unfit: Option<Unfit>,
}

/// A place for sealed segments, pinned to one region.
#[async_trait]
pub trait Store: Send + Sync {
    /// Its name in receipts, status and metrics.
    fn name(&self) -> &'static str;

    /// The region its bytes rest in.
    fn region(&self) -> Region;

    /// Starts a blob.
    ///
    /// # Errors
    /// When the store has no room or fails.
    async fn begin(&self) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Fills `into` with the sealed bytes that start at `offset`.
    ///
    /// # Errors
    /// When the blob is missing, shorter, or the store fails.
    async fn read(&self, blob: BlobId, offset: u64, into: &mut Buffer) -> Result<(), StoreError>;

    /// Reads a stretch of a blob in order, for a store where that is cheaper than many reads.
    fn reader(&self, _blob: BlobId, _stretch: Range<u64>) -> Option<Box<dyn BlobReader>> {
        None
    }

    /// Releases a blob's bytes. Deleting what is gone already succeeds.
    ///
    /// # Errors
    /// When the store fails; the caller tries again until it succeeds.
    async fn delete(&self, blob: BlobId, leave: Doomed<'_>) -> Result<Answer, StoreError>;

    /// What it holds.
    fn usage(&self) -> Usage;

    /// Writes that are under way, and what broken ones left and still has to go.
    fn unsettled(&self) -> u64 {
        0
    }

    /// Whether it is fit to take anything in, as far as it was checked.
    fn standing(&self) -> Standing {
        Standing::default()
    }
}

/// A stretch of a blob, read from its start to its end.
#[async_trait]
pub trait BlobReader: Send {
    /// Fills `into` with the next sealed bytes.
    ///
    /// # Errors
    /// When the stretch is shorter, the blob is missing, or the store fails.
    async fn read(&mut self, into: &mut Buffer) -> Result<(), StoreError>;
}

/// A blob being written. Dropped before its commit, it leaves nothing behind.
#[async_trait]
pub trait BlobWriter: Send {
    /// Adds the next run.
    ///
    /// # Errors
    /// When the store has no room or fails; the writer is then of no more use.
    async fn append(&mut self, run: SealedRun) -> Result<(), StoreError>;

    /// Makes the blob readable.
    ///
    /// # Errors
    /// When the store fails.
    async fn commit(self: Box<Self>, end: &SegmentEnd) -> Result<BlobId, StoreError>;
}

#[cfg(test)]
mod tests;
