//! Bytes on their way: pooled buffers that pay for themselves, and the stream they travel in.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::Stream;

use crate::budget::{Budget, Exhausted, Permit};
use crate::clock::Clock;

/// How a stream of bytes can end other than well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The sender stopped before the end, or the connection broke.
    #[error("the body ended too early")]
    Truncated,
    /// Below the least rate for too long.
    #[error("the body was too slow")]
    TooSlow,
    /// One byte too many.
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    /// The tenant's live bytes are used up.
    #[error("the quota is used up")]
    Quota,
    /// The bytes do not match the digest that was sent with them.
    #[error("the body does not match its digest")]
    DigestMismatch,
    /// Not the multipart syntax of RFC 7578, or too many parts.
    #[error("the multipart body is damaged")]
    Multipart,
    /// The file's keys were destroyed while it was read.
    #[error("the file is gone")]
    Gone,
    /// A sealed chunk did not verify: nothing of it was released.
    #[error("a sealed chunk did not verify")]
    Damaged,
    /// The store failed.
    #[error("the store failed")]
    Storage,
    /// The store has no room left.
    #[error("the store is full")]
    StorageFull,
    /// The store can no longer forget what it is given: never written to.
    #[error("the store is not fit to take anything in")]
    Unfit,
    /// The store rests in another region than the file: never written to.
    #[error("the store is of another region")]
    Region,
    /// The memory budget stayed spent.
    #[error("the memory budget is spent")]
    Overloaded,
    /// A stage before this one failed after its first byte had left.
    #[error("the stream was cut")]
    Cut,
}

impl BodyError {
    /// Whether the bytes before it are good: the sender stopped, or was stopped, and may go on
    /// from there.
    #[must_use]
    pub const fn breaks_off(self) -> bool {
        match self {
            Self::Truncated | Self::TooSlow | Self::Cut => true,
            Self::TooLarge { .. }
            | Self::Quota
            | Self::DigestMismatch
            | Self::Multipart
            | Self::Gone
            | Self::Damaged
            | Self::Storage
            | Self::StorageFull
            | Self::Unfit
            | Self::Region
            | Self::Overloaded => false,
        }
    }
}

impl From<Exhausted> for BodyError {
    fn from(_: Exhausted) -> Self {
        Self::Overloaded
    }
}

/// A stream of plaintext. An item that is an error is the last one.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Hands out buffers of one size, each with its permit, and keeps a few for the next.
pub struct Pool {
    budget: Budget,
    size: usize,
    /// Nothing in them but zeroes and ciphertext.
    idle: Mutex<Vec<Box<[u8]>>>,
}

/// Idle buffers kept for reuse. They hold no permit: their memory is part of the idle process.
const IDLE_BUFFERS: usize = 32;

impl Pool {
    /// A pool of buffers of `size` bytes, paid from `budget`.
    #[must_use]
    pub fn new(budget: Budget, size: usize) -> Arc<Self> {
        Arc::new(Self { budget, size, idle: Mutex::new(Vec::new()) })
    }

    /// An empty buffer with room for `capacity` bytes, at most the pool's size.
    ///
    /// # Errors
    /// When the budget stays spent.
    pub async fn take(
        self: &Arc<Self>,
        capacity: usize,
        clock: &dyn Clock,
    ) -> Result<Buffer, Exhausted> {
        // A buffer much smaller than the pool's is made to measure: many small files live at once.
        let pooled = capacity > self.size / 2;
        let capacity = if pooled { self.size } else { capacity };
        let permit = self.budget.acquire(capacity, clock).await?;
        let bytes = if pooled { self.reuse() } else { zeroes(capacity) };
        Ok(Buffer { bytes, len: 0, sealed: false, permit, home: self.clone() })
    }

    /// The size of the largest buffer, bytes.
    #[must_use]
    pub const fn buffer_bytes(&self) -> usize {
        self.size
    }

    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    fn reuse(&self) -> Box<[u8]> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| zeroes(self.size))
    }

    /// Takes back a buffer without plaintext.
    fn give_back(&self, bytes: Box<[u8]>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() == self.size && idle.len() < IDLE_BUFFERS {
            idle.push(bytes);
        }
    }
}

/// Fresh memory; the kernel hands out large pieces as zeroes, untouched until they are used.
fn zeroes(bytes: usize) -> Box<[u8]> {
    vec![0; bytes].into_boxed_slice()
}

/// Bytes with the permit that pays for them. Wiped, unless they are sealed, and given back when
/// dropped.
pub struct Buffer {
    /// No plaintext from `len` on, so that nothing has to be cleared before it is filled.
    bytes: Box<[u8]>,
    len: usize,
    /// Nothing but ciphertext in it: to wipe that would only cost time.
    sealed: bool,
    permit: Permit,
    home: Arc<Pool>,
}

impl Buffer {
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Room left, bytes.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Appends as much of `from` as there is room for; returns how much that was.
    pub fn append(&mut self, from: &[u8]) -> usize {
        let taken = from.len().min(self.room());
        self.bytes[self.len..self.len + taken].copy_from_slice(&from[..taken]);
        self.len += taken;
        taken
    }

    /// Sets the length. New bytes are there to be written over: nothing is to be read from them.
    /// Never beyond the capacity.
    pub fn resize(&mut self, len: usize) {
        assert!(len <= self.bytes.len(), "a buffer never outgrows its permit");
        if len < self.len {
            wipe(&mut self.bytes[len..self.len]);
        }
        self.len = len;
    }

    /// Says that what it holds is ciphertext, and stays so: only a sealer can know.
    pub const fn mark_sealed(&mut self) {
        self.sealed = true;
    }

    /// Gives back the room that stayed empty, for a buffer that will be kept.
    pub fn shrink(&mut self) {
        if self.room() > 0 {
            let kept = self.as_slice().into();
            let mut old = std::mem::replace(&mut self.bytes, kept);
            if !self.sealed {
                wipe(&mut old[..self.len]);
            }
            self.home.give_back(old);
            self.permit.shrink_to(self.len);
        }
    }

    /// As `Bytes` that give the buffer back when the last of them is dropped.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Zeroes at the speed of memset (zeroize writes byte by byte, at twice the cost of sealing); the
/// barrier keeps the compiler from leaving it out because nobody reads it.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.sealed {
            // Only what was filled: wiping it all would touch pages never used.
            wipe(&mut self.bytes[..self.len]);
        }
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn buffers_come_back_empty_wiped_and_paid_for() {
        let pool = Pool::new(Budget::of(1 << 20), 4096);
        let mut buffer = pool.take(4096, &SystemClock).await.unwrap();
        assert_eq!(buffer.append(&[7; 5000]), 4096);
        let place = buffer.as_slice().as_ptr();
        assert_eq!(pool.budget().used(), 4096);
        drop(buffer.into_bytes());
        assert_eq!(pool.budget().used(), 0);
        let mut again = pool.take(4096, &SystemClock).await.unwrap();
        again.resize(4096);
        assert_eq!(again.as_slice().as_ptr(), place, "reused");
        assert!(again.as_slice().iter().all(|byte| *byte == 0));
    }

    #[tokio::test]
    async fn plaintext_is_wiped_whatever_its_buffer_held_before() {
        let pool = Pool::new(Budget::of(1 << 20), 4096);
        let mut buffer = pool.take(4096, &SystemClock).await.unwrap();
        buffer.append(&[7; 4096]);
        buffer.mark_sealed();
        drop(buffer);
        let mut again = pool.take(4096, &SystemClock).await.unwrap();
        assert_eq!(again.len(), 0);
        again.append(&[9; 2000]);
        drop(again);
        let mut last = pool.take(4096, &SystemClock).await.unwrap();
        last.resize(4096);
        assert!(last.as_slice()[..2000].iter().all(|byte| *byte == 0), "plaintext is left");
    }

    #[tokio::test]
    async fn a_kept_buffer_gives_its_empty_room_back() {
        let pool = Pool::new(Budget::of(1 << 20), 64 << 10);
        let mut buffer = pool.take(64 << 10, &SystemClock).await.unwrap();
        buffer.append(b"small");
        buffer.shrink();
        assert_eq!((buffer.as_slice(), pool.budget().used()), (&b"small"[..], 1024));
    }
}
