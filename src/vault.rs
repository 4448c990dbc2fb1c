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
use crate::budget::{Budget, PATIENCE, Permit};
use crate::clock::{Clock, within};
use crate::crypto::{
    Header, Opener, PREFIX_BYTES, RUN_BYTES, Runs, SealStream, SealedRun, Sealer, SegmentEnd,
    sealed_len,
};
use crate::entropy::Entropy;
use crate::file::{FileId, Role};
use crate::keyring::{Doomed, KeyringError, Keys};
use crate::metrics;
use crate::store::{
    Answer, BlobId, BlobReader, BlobWriter, MemoryStore, Standing, Store, StoreError, Usage,
};
use crate::table::{LiveFile, Origin, Place, Segment};

mod note;
mod record;
mod salts;
mod token;
pub use note::Note;
pub use record::{Digests, Record};
use salts::Salts;

/// A sealed segment up to this many bytes stays in memory as far as the budget goes: one run.
const SMALL_BYTES: usize = RUN_BYTES;

/// What a live file takes in memory beside its record and its sealed bytes: its keys, its places in
/// the table's queues, its receipt. Measured with 40 000 of them: 2.1 KiB, the record included.
const ENTRY_BYTES: usize = 1792;

/// Seals, opens, and knows where.
pub struct Vault {
    // Dependencies.
    clock: Arc<dyn Clock>,
    salts: Salts,
    keys: Arc<Keys>,
    pool: Arc<Pool>,
    /// Memory that is promised to bodies under way.
    turns: Budget,
    memory: MemoryStore,
    store: Arc<dyn Store>,
}

/// One segment's header: its file's part and its own.
const fn header(origin: &Origin, role: Role, index: u32, file: FileId) -> Header {
    Header {
        role,
        region: origin.region,
        file,
        epoch: origin.deadline.epoch(),
        expires_at: origin.deadline.sealed_unix(),
        index,
    }
}

/// A body's turn, held for as long as it comes in. Without it more bodies would begin than memory
/// can carry to their end, and most would be refused half-way.
#[must_use]
pub struct Turn {
    _held: Option<Permit>,
}

/// What became of an append.
pub struct Appended {
    /// What came, sealed; nothing if not a byte did.
    pub segment: Option<Segment>,
    /// What it broke off with, if it did.
    pub broke: Option<BodyError>,
}

/// Bodies up to here need no turn: they are through before anybody could wait for them.
const SHORT_BYTES: usize = RUN_BYTES / 4;

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
        let salts = Salts::new(entropy, keys.clone());
        let turns = Budget::of(pool.budget().total() / 16 * 15);
        Self { clock, salts, keys, pool, turns, memory, store }
    }

    /// Seals a stream as one segment, as it arrives. `declared` bytes are a hint.
    ///
    /// # Errors
    /// The input's own error, or that of memory, keys or store; nothing is kept then.
    pub async fn seal<S>(
        &self,
        origin: &Origin,
        (role, index): (Role, u32),
        input: S,
        declared: Option<u64>,
    ) -> Result<Segment, BodyError>
    where
        S: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        let mut sealed = self.sealing(origin, (role, index), input, declared)?;
        let first = sealed.next().await.ok_or(BodyError::Cut)??;
        self.keep(origin, (role, index), first, &mut sealed).await
    }

    /// As [`Vault::seal`], for a stream that can be continued elsewhere: where it
    /// [breaks off](BodyError::breaks_off), what came before is kept.
    ///
    /// # Errors
    /// Any other error of the input, or that of keys or store; nothing is kept then.
    pub async fn append<S>(
        &self,
        origin: &Origin,
        at: (Role, u32),
        input: S,
        declared: Option<u64>,
    ) -> Result<Appended, BodyError>
    where
        S: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        let mut sealed = self.sealing(origin, at, input, declared)?.keeping_what_came();
        let first = sealed.next().await.ok_or(BodyError::Cut)??;
        if first.is_last() && first.as_slice().len() as u64 == sealed_len(0) {
            return Ok(Appended { segment: None, broke: sealed.broke() });
        }
        let segment = self.keep(origin, at, first, &mut sealed).await?;
        Ok(Appended { segment: Some(segment), broke: sealed.broke() })
    }

    fn sealing<S>(
        &self,
        origin: &Origin,
        (role, index): (Role, u32),
        input: S,
        declared: Option<u64>,
    ) -> Result<SealStream<S>, BodyError>
    where
        S: Stream<Item = Result<Bytes, BodyError>> + Unpin,
    {
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, role, index, origin.keys.file());
        let sealer = Sealer::new(&header, &origin.tenant, input_key, &self.salts)?;
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        Ok(SealStream::new(sealer, input, pool, clock, declared))
    }

    /// Writes a segment where it belongs: what is small and whole stays in memory.
    async fn keep(
        &self,
        origin: &Origin,
        (role, index): (Role, u32),
        first: SealedRun,
        sealed: &mut (impl Stream<Item = Result<SealedRun, BodyError>> + Unpin),
    ) -> Result<Segment, BodyError> {
        let bytes = first.as_slice().len();
        let small = first.is_last() && bytes <= SMALL_BYTES;
        let (place, writer) = match small.then(|| self.memory.begin_small(bytes)).flatten() {
            Some(writer) => (Place::Memory, writer),
            None => (Place::Store, self.store.begin().await?),
        };
        let (end, blob) = self.write(place, writer, origin, first, sealed).await?;
        let (plain_bytes, commitment) = (end.plain_len(), *end.commitment());
        Ok(Segment { role, index, plain_bytes, commitment, place, blob })
    }

    async fn write(
        &self,
        place: Place,
        mut writer: Box<dyn BlobWriter>,
        origin: &Origin,
        first: SealedRun,
        rest: &mut (impl Stream<Item = Result<SealedRun, BodyError>> + Unpin),
    ) -> Result<(SegmentEnd, BlobId), BodyError> {
        // Region is part of the key, of the store and of the policy's answer: all must agree.
        if self.place(place).region() != origin.region {
            metrics::count(metrics::REGION_MISMATCHES, 1);
            return Err(BodyError::Region);
        }
        let mut next = Some(Ok(first));
        while let Some(run) = next {
            let mut run = run?;
            let end = run.take_end();
            writer.append(run).await?;
            if let Some(end) = end {
                // Keys that died while their last bytes arrived must not leave a readable blob.
                origin.keys.while_alive(|| self.clock.now(), || ()).map_err(|_| BodyError::Gone)?;
                let blob = writer.commit(&end).await?;
                return Ok((end, blob));
            }
            next = rest.next().await;
        }
        // A sealer that stops without an end has met an error of its own.
        Err(BodyError::Cut)
    }

    /// The plaintext bytes in `range` of these segments in a row, each released only after its
    /// chunk verified, and none after the keys were destroyed.
    #[must_use]
    pub fn open(
        self: &Arc<Self>,
        origin: &Origin,
        segments: &[Segment],
        range: Range<u64>,
    ) -> ByteStream {
        self.open_pieces(std::iter::once((origin, segments)), range)
    }

    /// As [`Vault::open`], over segments that are sealed under several files' keys.
    #[must_use]
    pub fn open_pieces<'a>(
        self: &Arc<Self>,
        pieces: impl Iterator<Item = (&'a Origin, &'a [Segment])>,
        range: Range<u64>,
    ) -> ByteStream {
        let mut start = 0;
        let mut reading = Reading {
            vault: self.clone(),
            origins: Vec::new(),
            parts: VecDeque::new(),
            current: None,
        };
        for (origin, segments) in pieces {
            let whose = reading.origins.len();
            for segment in segments {
                let end = start + segment.plain_bytes;
                let within = |at: u64| at.clamp(start, end) - start;
                let wanted = within(range.start)..within(range.end);
                if !wanted.is_empty() {
                    reading.parts.push_back((whose, *segment, wanted));
                }
                start = end;
            }
            reading.origins.push(origin.clone());
        }
        Box::pin(stream::try_unfold(reading, Reading::next))
    }

    /// The plaintext bytes in `range` of a file.
    #[must_use]
    pub fn open_file(self: &Arc<Self>, file: &LiveFile, range: Range<u64>) -> ByteStream {
        self.open_pieces(file.pieces(), range)
    }

    async fn opener(&self, origin: &Origin, segment: &Segment) -> Result<Opener, BodyError> {
        let mut prefix = self.buffer(PREFIX_BYTES).await;
        prefix.resize(PREFIX_BYTES);
        self.place(segment.place).read(segment.blob, 0, &mut prefix).await?;
        let input_key = self.keys.input_key(&origin.keys).map_err(keyless)?;
        let header = header(origin, segment.role, segment.index, origin.keys.file());
        let (listed, bytes) = (&segment.commitment, segment.plain_bytes);
        Ok(Opener::new(&header, &origin.tenant, input_key, listed, bytes, prefix.as_slice())?)
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
    /// When the budget stays spent, or the store takes nothing in.
    pub async fn admit(&self, declared: Option<u64>) -> Result<Turn, BodyError> {
        if self.store.standing().unfit.is_some() {
            return Err(BodyError::Unfit);
        }
        let bytes = declared.map_or(RUN_BYTES, |declared| sealed_len(declared) as usize);
        let bytes = bytes.min(RUN_BYTES);
        let asking = async {
            let turn = match bytes > SHORT_BYTES {
                true => Some(self.turns.acquire(bytes, &*self.clock).await?),
                false => None,
            };
            drop(self.pool.budget().acquire(bytes, &*self.clock).await?);
            Ok(Turn { _held: turn })
        };
        within(&*self.clock, PATIENCE, asking).await.unwrap_or(Err(BodyError::Overloaded))
    }

    /// Memory for what is kept of a file beside its bytes.
    ///
    /// # Errors
    /// When the budget is spent.
    pub fn rent(&self, record_bytes: usize) -> Result<Permit, BodyError> {
        Ok(self.pool.budget().try_acquire(record_bytes + ENTRY_BYTES)?)
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

    /// What is known of the place behind the store.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.store.standing()
    }

    /// Writes under way, and what broken ones left.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.store.unsettled()
    }

    fn place(&self, place: Place) -> &dyn Store {
        match place {
            Place::Memory => &self.memory,
            Place::Store => &*self.store,
        }
    }
}

/// Why there is no key, as a reader or writer of a body sees it.
const fn keyless(error: KeyringError) -> BodyError {
    match error {
        KeyringError::Gone(_) => BodyError::Gone,
        KeyringError::Full
        | KeyringError::Refused
        | KeyringError::Entropy(_)
        | KeyringError::ZeroSecret => BodyError::Overloaded,
    }
}

/// One reader's way through a file's segments.
struct Reading {
    vault: Arc<Vault>,
    /// What the segments are sealed under, by the number that stands with each.
    origins: Vec<Origin>,
    parts: VecDeque<(usize, Segment, Range<u64>)>,
    current: Option<Current>,
}

/// The segment a reader is in.
struct Current {
    whose: usize,
    segment: Segment,
    opener: Opener,
    runs: Runs,
    /// Where the store reads in order.
    stretch: Option<Box<dyn BlobReader>>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BodyError> {
        loop {
            let Some(Current { whose, segment, opener, runs, stretch }) = &mut self.current else {
                let Some((whose, segment, wanted)) = self.parts.pop_front() else {
                    return Ok(None);
                };
                let opener = self.vault.opener(&self.origins[whose], &segment).await?;
                let runs = opener.layout().runs(wanted);
                let store = self.vault.place(segment.place);
                let stretch = runs.stored().and_then(|range| store.reader(segment.blob, range));
                self.current = Some(Current { whose, segment, opener, runs, stretch });
                continue;
            };
            let Some(run) = runs.next() else {
                self.current = None;
                continue;
            };
            let length = (run.stored.end - run.stored.start) as usize;
            let mut buffer = self.vault.buffer(length).await;
            buffer.resize(length);
            match stretch {
                Some(stretch) => stretch.read(&mut buffer).await?,
                None => {
                    let store = self.vault.place(segment.place);
                    store.read(segment.blob, run.stored.start, &mut buffer).await?;
                }
            }
            let (keys, clock) = (&self.origins[*whose].keys, &self.vault.clock);
            keys.while_alive(|| clock.now(), || opener.open_run(run.chunks, &mut buffer))
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
