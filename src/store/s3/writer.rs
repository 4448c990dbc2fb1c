//! Writing an object: one request for a small one, parallel parts for others, and a session that
//! sees every request to its end, so that a writer may be dropped at any moment.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::bucket::Frames;
use super::fault::Fault;
use super::{Inner, Left};
use crate::crypto::{SealedRun, SegmentEnd};
use crate::store::{BlobId, BlobWriter, StoreError};

/// A part's least size: 24 sealed runs. Above the 5 MiB that S3 demands of all parts but the last.
const PART_BYTES: u64 = 6 << 20;
/// S3 takes 10 000 parts: after so many their size doubles, so that any object fits and no file
/// under 5 GiB needs a larger buffer.
const PARTS_OF_A_SIZE: usize = 1000;
/// Parts of one object on their way at once, while memory is not short.
const PARALLEL: u32 = 2;

/// What a writer tells its session.
enum Order {
    Part(Frames, OwnedSemaphorePermit),
    Commit(Frames, oneshot::Sender<Result<Committed, StoreError>>),
}

/// An object that is complete. Unless it is taken it is deleted again.
struct Committed {
    store: Arc<Inner>,
    id: Option<BlobId>,
}

impl Drop for Committed {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.store.unclaimed(id);
        }
    }
}

/// An object being written. Dropped before its commit, its session leaves nothing behind.
pub(super) struct Writer {
    store: Arc<Inner>,
    filling: Frames,
    parts: usize,
    slots: Arc<Semaphore>,
    orders: mpsc::Sender<Order>,
    failure: Arc<OnceLock<Fault>>,
}

impl Writer {
    /// Begins an object under a name that nobody has used.
    pub fn begin(store: &Arc<Inner>) -> Result<Self, StoreError> {
        let key = store.reserve()?;
        let (orders, inbox) = mpsc::channel(PARALLEL as usize);
        let failure = Arc::new(OnceLock::new());
        let session = Session {
            store: store.clone(),
            key,
            inbox,
            upload: None,
            done: Vec::new(),
            bytes: 0,
            failure: failure.clone(),
        };
        drop(store.tasks.spawn(session.run()));
        let slots = Arc::new(Semaphore::new(PARALLEL as usize));
        let (store, filling) = (store.clone(), Frames::default());
        Ok(Self { store, filling, parts: 0, slots, orders, failure })
    }

    const fn part_bytes(&self) -> u64 {
        let doublings = self.parts / PARTS_OF_A_SIZE;
        PART_BYTES << if doublings > 9 { 9 } else { doublings }
    }

    fn failed(&self) -> StoreError {
        self.failure.get().map_or(StoreError::Failed, |fault| (*fault).into())
    }

    /// Hands a full part on. While memory is short, one is on its way at a time.
    async fn send(&mut self) -> Result<(), StoreError> {
        let short = self.store.budget.used() > self.store.budget.total() / 2;
        let slots = if short { PARALLEL } else { 1 };
        let slot = self.slots.clone().acquire_many_owned(slots).await;
        let slot = slot.map_err(|_| StoreError::Failed)?;
        self.parts += 1;
        let order = Order::Part(std::mem::take(&mut self.filling), slot);
        self.orders.send(order).await.map_err(|_| self.failed())
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn append(&mut self, run: SealedRun) -> Result<(), StoreError> {
        if self.failure.get().is_some() {
            return Err(self.failed());
        }
        // The run's buffer and its permit go along: nothing is copied.
        self.filling.push(Bytes::from_owner(run));
        if self.filling.bytes() >= self.part_bytes() { self.send().await } else { Ok(()) }
    }

    async fn commit(mut self: Box<Self>, _end: &SegmentEnd) -> Result<BlobId, StoreError> {
        let (answer, answered) = oneshot::channel();
        let order = Order::Commit(std::mem::take(&mut self.filling), answer);
        self.orders.send(order).await.map_err(|_| self.failed())?;
        let mut committed = answered.await.map_err(|_| self.failed())??;
        committed.id.take().ok_or(StoreError::Failed)
    }
}

type Sending = BoxFuture<'static, Result<(i32, String), Fault>>;

/// The half of a writer that speaks to the bucket. It is never dropped in mid-request.
struct Session {
    store: Arc<Inner>,
    key: Arc<str>,
    inbox: mpsc::Receiver<Order>,
    /// The upload's id, once there is a part.
    upload: Option<Arc<str>>,
    done: Vec<(i32, String)>,
    bytes: u64,
    failure: Arc<OnceLock<Fault>>,
}

impl Session {
    async fn run(mut self) {
        let worked = self.work().await;
        let Err(fault) = worked else { return };
        if let Some(fault) = fault {
            let _ = self.failure.set(fault);
        }
        self.inbox.close();
        let Self { store, key, bytes, upload, inbox, .. } = self;
        // Nobody waits for what is left in it, and the bytes there hold memory.
        drop(inbox);
        let begun = upload.is_some() || bytes > 0;
        store.discard(key, if begun { Left::Anything } else { Left::Nothing }).await;
    }

    /// Follows orders until the object is committed. `Err(None)`: the writer was dropped.
    async fn work(&mut self) -> Result<(), Option<Fault>> {
        let mut sending: FuturesUnordered<Sending> = FuturesUnordered::new();
        loop {
            match self.next(&mut sending).await? {
                None => return Err(None),
                Some(Order::Part(frames, slot)) => {
                    self.part(frames, Some(slot), &mut sending).await?
                }
                Some(Order::Commit(last, answer)) => {
                    let committed = self.commit(last, &mut sending).await;
                    let told = match committed {
                        Ok(()) => Ok(self.store.committed(&self.key, self.bytes)),
                        Err(fault) => Err(fault.into()),
                    };
                    let store = self.store.clone();
                    let told = told.map(|id| Committed { store, id: Some(id) });
                    // A writer that is gone drops what it is told, and that deletes the object.
                    drop(answer.send(told));
                    return committed.map_err(Some);
                }
            }
        }
    }

    /// The next order, while parts are on their way.
    async fn next(
        &mut self,
        sending: &mut FuturesUnordered<Sending>,
    ) -> Result<Option<Order>, Option<Fault>> {
        loop {
            if sending.is_empty() {
                return Ok(self.inbox.recv().await);
            }
            let order = std::pin::pin!(self.inbox.recv());
            match select(order, sending.next()).await {
                Either::Left((order, _)) => return Ok(order),
                Either::Right((Some(sent), _)) => self.done.push(sent.map_err(Some)?),
                Either::Right((None, _)) => {}
            }
        }
    }

    async fn part(
        &mut self,
        frames: Frames,
        slot: Option<OwnedSemaphorePermit>,
        sending: &mut FuturesUnordered<Sending>,
    ) -> Result<(), Option<Fault>> {
        self.bytes += frames.bytes();
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let begun = self.store.bucket.begin(&self.key).await.map_err(Some)?;
                self.upload.insert(begun.into()).clone()
            }
        };
        let number = i32::try_from(self.done.len() + sending.len() + 1);
        let number = number.map_err(|_| Some(Fault::Strange))?;
        let (store, key) = (self.store.clone(), self.key.clone());
        sending.push(Box::pin(async move {
            let tag = store.bucket.part(&key, &upload, number, &frames).await?;
            drop((frames, slot));
            Ok((number, tag))
        }));
        Ok(())
    }

    async fn commit(
        &mut self,
        last: Frames,
        sending: &mut FuturesUnordered<Sending>,
    ) -> Result<(), Fault> {
        if self.upload.is_none() {
            self.bytes = last.bytes();
            return self.store.bucket.put(&self.key, &last).await;
        }
        if last.bytes() > 0 {
            let sent = self.part(last, None, sending).await;
            sent.map_err(|fault| fault.unwrap_or(Fault::Strange))?;
        }
        while let Some(sent) = sending.next().await {
            self.done.push(sent?);
        }
        self.done.sort_unstable();
        let upload = self.upload.clone().unwrap_or_default();
        self.store.bucket.complete(&self.key, &upload, &self.done, self.bytes).await
    }
}
