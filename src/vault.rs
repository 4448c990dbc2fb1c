//! Sealed on the way in, opened on the way out; at rest there is nothing but ciphertext.
//!
//! The vault derives a file's key for one sealing or opening, picks the place for its bytes, and
//! lets a chunk go only after its tag has verified and while the file's keys still exist.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::body::{BodyError, Buffer, ByteStream, Pool};
use crate::clock::Clock;
use crate::crypto::{
    Header, Opener, PREFIX_BYTES, RUN_BYTES, Runs, SealStream, SealedRun, Sealer, sealed_len,
};
use crate::entropy::Entropy;
use crate::file::{Deadline, Role, TenantId};
use crate::keyring::{Doomed, FileKeys, Keys};
use crate::region::Region;
use crate::store::{Answer, BlobId, MemoryStore, Store, StoreError, Usage};
use crate::table::{LiveFile, Place, Segment};

mod record;
pub use record::{Digests, Record};

/// A sealed segment up to this many bytes stays in memory as far as the budget goes: one run.
const SMALL_BYTES: usize = RUN_BYTES;

/// Seals, opens, and knows where.
pub struct Vault {
    // Dependencies.
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    keys: Arc<Keys>,
    pool: Arc<Pool>,
    memory: MemoryStore,
    store: Arc<dyn Store>,
}

/// What is being sealed: the parts of its header.
#[derive(Clone, Copy)]
pub struct Sealing<'a> {
    pub keys: &'a FileKeys,
    pub tenant: TenantId,
    pub region: Region,
    pub deadline: Deadline,
    pub role: Role,
    pub index: u32,
}

impl Sealing<'_> {
    const fn header(&self) -> Header {
        Header {
            role: self.role,
            region: self.region,
            file: self.keys.file(),
            epoch: self.deadline.epoch(),
            expires_at: self.deadline.sealed_unix(),
            index: self.index,
        }
    }
}

impl Vault {
    /// A vault over `store`, with `memory` for what is small.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        keys: Arc<Keys>,
        pool: Arc<Pool>,
        memory: MemoryStore,
        store: Arc<dyn Store>,
    ) -> Self {
        Self { clock, entropy, keys, pool, memory, store }
    }

    /// Seals a stream as one segment, as it arrives. `declared` bytes are a hint.
    ///
    /// # Errors
    /// The input's own error, or that of memory, keys or store; nothing is kept then.
    pub async fn seal<S>(
        &self,
        sealing: Sealing<'_>,
        input: S,
        declared: Option<u64>,
    ) -> Result<Segment, BodyError>
    where
        S: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        let input_key = self.keys.input_key(sealing.keys).map_err(|_| BodyError::Gone)?;
        let sealer = Sealer::new(&sealing.header(), &sealing.tenant, input_key, &*self.entropy)
            .map_err(|_| BodyError::Cut)?;
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        let mut sealed = SealStream::new(sealer, input, pool, clock, declared);
        let first = sealed.next().await.ok_or(BodyError::Cut)??;
        let small = first.is_last() && first.as_slice().len() <= SMALL_BYTES;
        if small && self.memory.has_room(first.as_slice().len()) {
            self.write(Place::Memory, &sealing, first, &mut sealed).await
        } else {
            self.write(Place::Store, &sealing, first, &mut sealed).await
        }
    }

    async fn write(
        &self,
        place: Place,
        sealing: &Sealing<'_>,
        first: SealedRun,
        rest: &mut (impl Stream<Item = Result<SealedRun, BodyError>> + Unpin),
    ) -> Result<Segment, BodyError> {
        let store = self.place(place);
        // Region is part of the key, of the store and of the policy's answer: all must agree.
        if store.region() != sealing.region {
            return Err(BodyError::Region);
        }
        let mut writer = store.begin().await?;
        let mut next = Some(Ok(first));
        while let Some(run) = next {
            let mut run = run?;
            let end = run.take_end();
            writer.append(run).await?;
            if let Some(end) = end {
                // Keys that died while their last bytes arrived must not leave a readable blob.
                sealing.keys.while_alive(self.clock.now(), || ()).map_err(|_| BodyError::Gone)?;
                let blob = writer.commit(&end).await?;
                return Ok(Segment {
                    role: sealing.role,
                    index: sealing.index,
                    plain_bytes: end.plain_len(),
                    commitment: *end.commitment(),
                    place,
                    blob,
                });
            }
            next = rest.next().await;
        }
        // A sealer that stops without an end has met an error of its own.
        Err(BodyError::Cut)
    }

    /// The file's plaintext bytes in `range`, each released only after its chunk verified, and none
    /// after the file's keys were destroyed.
    #[must_use]
    pub fn open(self: &Arc<Self>, file: &Arc<LiveFile>, range: Range<u64>) -> ByteStream {
        let mut start = 0;
        let mut parts = VecDeque::new();
        for segment in &file.segments {
            let end = start + segment.plain_bytes;
            let wanted = range.start.clamp(start, end) - start..range.end.clamp(start, end) - start;
            if !wanted.is_empty() {
                parts.push_back((*segment, wanted));
            }
            start = end;
        }
        let reading = Reading { vault: self.clone(), file: file.clone(), parts, current: None };
        Box::pin(stream::try_unfold(reading, Reading::next))
    }

    async fn opener(&self, file: &LiveFile, segment: &Segment) -> Result<Opener, BodyError> {
        let mut prefix = self.buffer(PREFIX_BYTES).await;
        prefix.resize(PREFIX_BYTES);
        self.place(segment.place).read(segment.blob, 0, &mut prefix).await?;
        let input_key = self.keys.input_key(&file.keys).map_err(|_| BodyError::Gone)?;
        let (header, listed) = (header(file, segment.role, segment.index), &segment.commitment);
        let (tenant, bytes) = (&file.tenant, segment.plain_bytes);
        Ok(Opener::new(&header, tenant, input_key, listed, bytes, prefix.as_slice())?)
    }

    /// A buffer for a reader. It waits as long as it takes: whoever reads slowly holds the memory
    /// that others wait for, and the least rate sees to those.
    async fn buffer(&self, bytes: usize) -> Buffer {
        loop {
            if let Ok(buffer) = self.pool.take(bytes, &*self.clock).await {
                return buffer;
            }
        }
    }

    /// Waits for memory for a body of `declared` bytes, so that a gateway without any refuses it
    /// before it is read.
    ///
    /// # Errors
    /// When the budget stays spent.
    pub async fn admit(&self, declared: Option<u64>) -> Result<(), BodyError> {
        let bytes = declared.map_or(RUN_BYTES, |declared| sealed_len(declared) as usize);
        self.pool.take(bytes.min(RUN_BYTES), &*self.clock).await?;
        Ok(())
    }

    /// Deletes a segment's bytes.
    ///
    /// # Errors
    /// When the store fails; it is then to be tried again.
    pub async fn release(
        &self,
        place: Place,
        blob: BlobId,
        leave: Doomed<'_>,
    ) -> Result<Answer, StoreError> {
        self.place(place).delete(blob, leave).await
    }

    /// The name of the store a place stands for.
    #[must_use]
    pub fn store_name(&self, place: Place) -> &'static str {
        self.place(place).name()
    }

    /// What memory and store hold.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (memory, store) = (self.memory.usage(), self.store.usage());
        Usage { blobs: memory.blobs + store.blobs, bytes: memory.bytes + store.bytes }
    }

    fn place(&self, place: Place) -> &dyn Store {
        match place {
            Place::Memory => &self.memory,
            Place::Store => &*self.store,
        }
    }
}

fn header(file: &LiveFile, role: Role, index: u32) -> Header {
    Header {
        role,
        region: file.region,
        file: file.id,
        epoch: file.sealed_deadline.epoch(),
        expires_at: file.sealed_deadline.sealed_unix(),
        index,
    }
}

/// One reader's way through a file's segments.
struct Reading {
    vault: Arc<Vault>,
    file: Arc<LiveFile>,
    parts: VecDeque<(Segment, Range<u64>)>,
    current: Option<(Segment, Opener, Runs)>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        loop {
            let Some((segment, opener, runs)) = &mut self.current else {
                let Some((segment, wanted)) = self.parts.pop_front() else { return Ok(None) };
                let opener = self.vault.opener(&self.file, &segment).await?;
                let runs = opener.layout().runs(wanted);
                self.current = Some((segment, opener, runs));
                continue;
            };
            let Some(run) = runs.next() else {
                self.current = None;
                continue;
            };
            let length = (run.stored.end - run.stored.start) as usize;
            let mut buffer = self.vault.buffer(length).await;
            buffer.resize(length);
            let store = self.vault.place(segment.place);
            store.read(segment.blob, run.stored.start, &mut buffer).await?;
            let now = self.vault.clock.now();
            let keys = &self.file.keys;
            keys.while_alive(now, || opener.open_run(run.chunks, &mut buffer))
                .map_err(|_| BodyError::Gone)??;
            let plain = buffer.into_bytes().slice(run.wanted);
            if !plain.is_empty() {
                return Ok(Some((plain, self)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
