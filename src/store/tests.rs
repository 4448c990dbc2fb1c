//! One suite that every store must pass.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::*;
use crate::body::Pool;
use crate::budget::Budget;
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Header, InputKey, RUN_BYTES, SealStream, Sealer, sealed_len};
use crate::disk::Spool;
use crate::entropy::SystemEntropy;
use crate::file::{Epoch, FileId, Role, TenantId};
use crate::secret::Secret;

type Frames = stream::Iter<std::vec::IntoIter<Result<Bytes, BodyError>>>;

struct Bench {
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    region: Region,
    _home: tempfile::TempDir,
    stores: Vec<Arc<dyn Store>>,
}

fn bench(limit: u64) -> Bench {
    let (home, region) = (tempfile::tempdir().unwrap(), "eu".parse().unwrap());
    let spool = Spool::open(&home.path().join("spool")).unwrap();
    let stores: Vec<Arc<dyn Store>> = vec![
        Arc::new(MemoryStore::new(region, limit)),
        Arc::new(LocalStore::new(region, spool, limit, Arc::new(SystemClock))),
    ];
    let pool = Pool::new(Budget::of(64 << 20), RUN_BYTES);
    Bench { pool, clock: Arc::new(SystemClock), region, _home: home, stores }
}

impl Bench {
    /// Sealed runs of `bytes` of plaintext; with `broken`, the input fails at its end.
    fn sealed(&self, bytes: usize, broken: bool) -> SealStream<Frames> {
        let mut secret = Secret::<32>::zero();
        secret.expose_mut().fill(7);
        let file = FileId::from_bytes([1; 16]);
        let key = InputKey::derive(None, &secret, &file, Epoch::None).unwrap();
        let header = Header {
            role: Role::Input,
            region: self.region,
            file,
            epoch: Epoch::None,
            expires_at: 1,
            index: 0,
        };
        let tenant = TenantId::of("acme");
        let sealer = Sealer::new(&header, &tenant, key, &SystemEntropy).unwrap();
        let mut frames = vec![Ok(Bytes::from(vec![9; bytes]))];
        frames.extend(broken.then_some(Err(BodyError::Truncated)));
        let input = stream::iter(frames);
        SealStream::new(sealer, input, self.pool.clone(), self.clock.clone(), None)
    }

    async fn put(&self, store: &dyn Store, bytes: usize) -> Result<(BlobId, Vec<u8>), StoreError> {
        let (mut sealed, mut copy) = (self.sealed(bytes, false), Vec::new());
        let mut writer = store.begin().await?;
        while let Some(run) = sealed.next().await {
            let mut run = run.unwrap();
            copy.extend_from_slice(run.as_slice());
            let end = run.take_end();
            writer.append(run).await?;
            if let Some(end) = end {
                return Ok((writer.commit(&end).await?, copy));
            }
        }
        panic!("a sealer ends with an end");
    }

    async fn read(&self, store: &dyn Store, blob: BlobId, at: u64, len: usize) -> Option<Vec<u8>> {
        let mut buffer = self.pool.take(len.max(1), &*self.clock).await.unwrap();
        buffer.resize(len);
        store.read(blob, at, &mut buffer).await.ok()?;
        Some(buffer.as_slice().to_vec())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read_at_every_offset() {
    let bench = bench(48 << 20);
    for store in &bench.stores {
        for size in [0, 1, 16_383, 16_384, 300_000, 1 << 20, 17 << 20] {
            let (blob, sealed) = bench.put(&**store, size).await.unwrap();
            assert_eq!(sealed.len() as u64, sealed_len(size as u64));
            // The last ones lie around the end of what goes into packs.
            let around = [16 << 20, (16 << 20) - RUN_BYTES, 63 * RUN_BYTES, 63 * RUN_BYTES - 1];
            let around = around.into_iter().filter(|at| *at < sealed.len());
            let anywhere = [0, 119, sealed.len() / 2, sealed.len() - 1];
            for at in anywhere.into_iter().chain(around) {
                let len = (sealed.len() - at).min(RUN_BYTES);
                let read = bench.read(&**store, blob, at as u64, len).await.unwrap();
                assert!(read == sealed[at..at + len], "{} {size} {at}", store.name());
            }
            assert_eq!(bench.read(&**store, blob, sealed.len() as u64, 1).await, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_blob_is_gone_and_deleting_it_again_succeeds() {
    let bench = bench(16 << 20);
    for store in &bench.stores {
        let (blob, _) = bench.put(&**store, 100_000).await.unwrap();
        assert_eq!(store.usage().blobs, 1);
        for _ in 0..2 {
            let answer = store.delete(blob, Doomed::SegmentDiscarded).await;
            assert_eq!(answer, Ok(Answer::Deleted));
        }
        assert_eq!(bench.read(&**store, blob, 0, 1).await, None);
        assert_eq!(store.usage(), Usage::default());
    }
    assert_eq!(bench.pool.budget().used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_dropped_leaves_nothing() {
    let bench = bench(16 << 20);
    for store in &bench.stores {
        let mut sealed = bench.sealed(1 << 20, true);
        let mut writer = store.begin().await.unwrap();
        let mut ended = None;
        while let Some(run) = sealed.next().await {
            match run {
                Ok(run) => writer.append(run).await.unwrap(),
                Err(error) => ended = Some(error),
            }
        }
        assert_eq!(ended, Some(BodyError::Truncated), "a broken input never yields an end");
        drop(writer);
        assert_eq!(store.usage(), Usage::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_limit_a_store_is_full_until_something_goes() {
    let bench = bench(300_000);
    for store in &bench.stores {
        let (blob, _) = bench.put(&**store, 200_000).await.unwrap();
        assert_eq!(bench.put(&**store, 200_000).await.unwrap_err(), StoreError::Full);
        store.delete(blob, Doomed::SegmentDiscarded).await.unwrap();
        bench.put(&**store, 200_000).await.unwrap();
    }
}
