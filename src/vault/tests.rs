//! The vault over both places: what was sealed comes back, and only while its keys exist.

use std::time::Duration;

use futures_util::TryStreamExt;

use super::*;
use crate::budget::Budget;
use crate::clock::{VirtualClock, Wall};
use crate::entropy::SystemEntropy;
use crate::file::{Deadline, FileId, Reason, TenantId};
use crate::keyring::MemoryKeyring;
use crate::region::Region;
use crate::secret::Slab;
use crate::table::{Cut, Kind, Quotas};

struct House {
    vault: Arc<Vault>,
    keys: Arc<Keys>,
    clock: VirtualClock,
    region: Region,
    tenant: TenantId,
}

fn house() -> House {
    house_with(Arc::new(SystemEntropy))
}

fn house_with(entropy: Arc<dyn Entropy>) -> House {
    let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
    let shared = Arc::new(clock.clone());
    let slab = Slab::lock_at_most(256 << 10).unwrap();
    let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
    let keys = Arc::new(Keys::new(shared.clone(), entropy.clone(), epochs, slab));
    let region: Region = "eu".parse().unwrap();
    let pool = Pool::new(Budget::of(64 << 20), RUN_BYTES);
    let memory = MemoryStore::new(region, 1 << 20);
    let store = Arc::new(MemoryStore::new(region, 16 << 20));
    let vault = Arc::new(Vault::new(shared, entropy, keys.clone(), pool, memory, store));
    House { vault, keys, clock, region, tenant: TenantId::of("acme") }
}

impl House {
    async fn seal(&self, region: Region, plain: &[u8]) -> Result<Arc<LiveFile>, BodyError> {
        let deadline = Deadline::fix(self.clock.now(), Duration::from_secs(3600)).unwrap();
        let id = FileId::draw(&SystemEntropy).unwrap();
        let keys = Arc::new(self.keys.create(id, deadline).unwrap());
        let origin = Origin { keys, tenant: self.tenant, region, deadline };
        let frames: Vec<_> =
            plain.chunks(50_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let segment =
            self.vault.seal(&origin, (Role::Input, 0), stream::iter(frames), None).await?;
        let mut record = Record::default();
        record.name = Some("a name".to_owned());
        let record = self.vault.seal_record(&origin, &record)?;
        Ok(Arc::new(LiveFile {
            id,
            kind: Kind::File,
            released: std::sync::atomic::AtomicBool::new(false),
            reservation: Quotas::default().open(origin.tenant),
            origin,
            created: self.clock.now(),
            record: Some(record),
            parts: Vec::new(),
            order: Vec::new(),
            segments: vec![segment],
            etag: String::new(),
            rent: self.vault.rent(0).unwrap(),
            claims: None,
            cut: Cut::default(),
        }))
    }

    async fn open(&self, file: &Arc<LiveFile>, range: Range<u64>) -> Result<Vec<u8>, BodyError> {
        let frames: Vec<Bytes> =
            self.vault.open(&file.origin, &file.segments, range).try_collect().await?;
        Ok(frames.concat())
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_range_of_what_was_sealed_comes_back() {
    let house = house();
    for len in [0, 1, 16_384, 262_144, 1_000_000] {
        let plain = text(len);
        let file = house.seal(house.region, &plain).await.unwrap();
        for range in [0..len, 0..len.min(1), len / 3..len / 2, len.saturating_sub(1)..len] {
            let opened = house.open(&file, range.start as u64..range.end as u64).await.unwrap();
            assert!(opened == plain[range.clone()], "{len} {range:?}");
        }
        let expected = if len < 262_144 { Place::Memory } else { Place::Store };
        assert_eq!(file.segments[0].place, expected, "{len}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn destruction_in_mid_read_ends_the_stream_before_its_next_chunk() {
    let house = house();
    let file = house.seal(house.region, &text(1_000_000)).await.unwrap();
    let mut reading = house.vault.open(&file.origin, &file.segments, 0..1_000_000);
    assert!(reading.next().await.unwrap().is_ok());
    house.keys.destroy(&file.origin.keys, Reason::Deleted);
    assert_eq!(reading.next().await, Some(Err(BodyError::Gone)));
    assert_eq!(house.open(&file, 0..1).await, Err(BodyError::Gone));
    assert!(house.vault.record(&file).is_err(), "the name is gone with the keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_in_mid_read_ends_the_stream_without_anybody_sweeping() {
    let house = house();
    let file = house.seal(house.region, &text(1_000_000)).await.unwrap();
    let mut reading = house.vault.open(&file.origin, &file.segments, 0..1_000_000);
    assert!(reading.next().await.unwrap().is_ok());
    house.clock.advance(Duration::from_secs(3600));
    assert_eq!(reading.next().await, Some(Err(BodyError::Gone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_region_is_never_written_to() {
    let house = house();
    let refused = house.seal("us".parse().unwrap(), &text(300_000)).await.err();
    assert_eq!(refused, Some(BodyError::Region));
    assert_eq!(house.vault.usage().blobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_cannot_open_even_past_every_check() {
    let house = house();
    let file = house.seal(house.region, &text(1000)).await.unwrap();
    let Ok(mut file) = Arc::try_unwrap(file) else { panic!("held once") };
    file.origin.tenant = TenantId::of("mallory");
    let file = Arc::new(file);
    assert_eq!(house.open(&file, 0..1000).await, Err(BodyError::Damaged));
    assert!(house.vault.record(&file).is_err());
}

/// A source that gives one salt for ever, once told to; secrets stay random.
#[derive(Default)]
struct Stuck(std::sync::atomic::AtomicBool);

impl Entropy for Stuck {
    fn fill(&self, out: &mut [u8]) -> Result<(), crate::entropy::EntropyError> {
        let stuck = self.0.load(std::sync::atomic::Ordering::SeqCst);
        if stuck && out.len() == 24 {
            out.fill(9);
            return Ok(());
        }
        SystemEntropy.fill(out)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_equal_salts_in_a_row_destroy_every_key_and_seal_nothing() {
    let entropy = Arc::new(Stuck::default());
    let house = house_with(entropy.clone());
    let before = house.seal(house.region, &text(1000)).await.unwrap();
    entropy.0.store(true, std::sync::atomic::Ordering::SeqCst);
    // The file's own salt is the first of its kind, its record's the second.
    let refused = house.seal(house.region, &text(1000)).await.err();
    assert_eq!(refused, Some(BodyError::Overloaded));
    assert_eq!(house.open(&before, 0..1000).await, Err(BodyError::Gone));
    assert!(house.vault.record(&before).is_err());
    assert_eq!((house.keys.generation(), house.keys.epochs_held().all()), (1, 0));
    entropy.0.store(false, std::sync::atomic::Ordering::SeqCst);
    let after = house.seal(house.region, &text(1000)).await.unwrap();
    assert_eq!(house.open(&after, 0..1000).await.unwrap(), text(1000));
}
