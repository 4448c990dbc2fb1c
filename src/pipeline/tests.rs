//! The stages together, over a clock moved by hand and a store that fails on order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::*;
use crate::body::{ByteStream, Pool};
use crate::budget::Budget;
use crate::clock::{VirtualClock, Wall};
use crate::crypto::RUN_BYTES;
use crate::entropy::SystemEntropy;
use crate::intake::Digester;
use crate::keyring::MemoryKeyring;
use crate::process::{Description, Options, Output, Processor, Registry, Step, StepStream};
use crate::region::Region;
use crate::secret::Slab;
use crate::store::{Answer, Faults, FaultyStore, MemoryStore};

mod clocks;
mod growing;
mod jobs;
mod model;
mod rights;
mod simulation;

struct House {
    pipeline: Pipeline,
    keys: Arc<Keys>,
    vault: Arc<Vault>,
    budget: Budget,
    clock: VirtualClock,
    machine: Arc<Copied>,
    faults: Faults,
    region: Region,
    /// Secrets the locked pages can hold.
    slots: usize,
}

const ACME: &str = "acme";

/// A machine that is copied on order.
#[derive(Default)]
struct Copied(AtomicBool);

impl Machine for Copied {
    fn is_another(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

fn house() -> House {
    let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
    house_over(&clock, Arc::new(SystemEntropy))
}

fn house_over(clock: &VirtualClock, entropy: Arc<dyn Entropy>) -> House {
    let (clock, shared) = (clock.clone(), Arc::new(clock.clone()));
    let slab = Slab::lock_at_most(256 << 10).unwrap();
    let slots = slab.capacity();
    let epochs = Arc::new(MemoryKeyring::new(slab.clone()));
    let keys = Arc::new(Keys::new(shared.clone(), entropy.clone(), epochs, slab));
    let region: Region = "eu".parse().unwrap();
    let budget = Budget::of(64 << 20);
    let pool = Pool::new(budget.clone(), RUN_BYTES);
    let (inner, faults) = (MemoryStore::new(region, 32 << 20), Faults::default());
    let store = Arc::new(FaultyStore { inner, faults: faults.clone() });
    // Nothing fits in memory: every blob goes through the faulty store.
    let memory = MemoryStore::new(region, 0);
    let vault =
        Arc::new(Vault::new(shared.clone(), entropy.clone(), keys.clone(), pool, memory, store));
    let table = Arc::new(Table::default());
    let retention = Duration::from_hours(720);
    let evidence = Arc::new(Evidence::new(shared.clone(), entropy.clone(), retention).unwrap());
    let (tasks, machine) = (Tasks::default(), Arc::<Copied>::default());
    let (shredder, cleaner) =
        Shredder::new(shared.clone(), keys.clone(), table.clone(), vault.clone(), evidence.clone());
    tasks.spawn(cleaner.run());
    let egress = Egress::new(shared.clone(), tasks.clone(), true);
    let pipeline = Pipeline::new(Parts {
        clock: shared,
        entropy,
        keys: keys.clone(),
        table,
        vault: vault.clone(),
        evidence,
        shredder,
        tasks,
        shutdown: Shutdown::default(),
        machine: machine.clone(),
        egress,
        jobs: 1200,
        workers: 2,
        runs: 4,
        min_rate: 0,
    });
    House { pipeline, keys, vault, budget, clock, machine, faults, region, slots }
}

impl House {
    fn terms(&self, ttl: u64) -> Terms {
        Terms {
            region: self.region,
            ttl: Duration::from_secs(ttl),
            max_bytes: 10 << 20,
            max_live_bytes: 20 << 20,
        }
    }

    async fn put(
        &self,
        ttl: u64,
        downloads: Option<u64>,
        input: ByteStream,
    ) -> Result<Arc<LiveFile>, PipelineError> {
        let upload = Upload {
            input,
            declared: None,
            name: None,
            declared_type: None,
            downloads,
            digester: Digester::default(),
        };
        let sealed = self.pipeline.seal(tenant(), &self.terms(ttl), upload).await?;
        self.pipeline.publish(sealed)
    }

    /// Nothing of anything is left, once the cleaner has come by.
    async fn is_empty(&self) {
        while self.pipeline.pending_deletes() > 0 {
            // Not so far that a busy machine's cleaner comes after the receipts are forgotten.
            self.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        assert_eq!(self.vault.usage(), crate::store::Usage::default());
        assert_eq!(self.budget.used(), 0);
        assert_eq!(self.pipeline.quotas.used(tenant()), 0);
        assert_eq!(self.pipeline.census().files, 0);
        self.keys.destroy_epochs();
        assert_eq!(self.keys.secrets_held(), 0);
    }
}

fn tenant() -> TenantId {
    TenantId::of(ACME)
}

fn bytes(len: usize) -> ByteStream {
    let frames: Vec<_> = vec![7; len].chunks(60_000).map(Bytes::copy_from_slice).map(Ok).collect();
    Box::pin(stream::iter(frames))
}

/// A body that sends a little, and then nothing more.
fn stalled() -> ByteStream {
    Box::pin(stream::iter([Ok(Bytes::from_static(b"so far"))]).chain(stream::pending()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_abandoned_leaves_nothing() {
    let house = house();
    let mut upload = Box::pin(house.put(3600, None, stalled()));
    assert!(upload.as_mut().now_or_never().is_none());
    assert_eq!(house.keys.secrets_held(), 2);
    drop(upload);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_slower_than_its_life_ends_with_it() {
    let house = house();
    let mut upload = Box::pin(house.put(600, None, stalled()));
    assert!(upload.as_mut().now_or_never().is_none());
    house.clock.advance(Duration::from_secs(600));
    assert_eq!(upload.await.err(), Some(PipelineError::Expired));
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_of_the_store_leaves_nothing_and_the_next_upload_works() {
    let house = house();
    let faults = &house.faults;
    for fault in [&faults.begins, &faults.appends, &faults.commits] {
        fault.store(1, Ordering::Relaxed);
        let refused = house.put(3600, None, bytes(1 << 20)).await.err();
        assert_eq!(refused, Some(PipelineError::Body(BodyError::Storage)));
        house.is_empty().await;
        let file = house.put(3600, None, bytes(1 << 20)).await.unwrap();
        house.pipeline.delete(&file);
        drop(file);
        house.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_fails_keeps_no_key_and_is_tried_until_it_succeeds() {
    let house = house();
    let file = house.put(3600, None, bytes(1 << 20)).await.unwrap();
    house.faults.deletes.store(7, Ordering::Relaxed);
    let receipt = house.pipeline.delete(&file).unwrap();
    assert!(receipt.destroyed.is_some(), "final at once");
    assert_eq!(receipt.blobs, [("memory", Answer::Pending)]);
    assert!(house.keys.input_key(&file.origin.keys).is_err());
    let id = file.id;
    drop(file);
    house.is_empty().await;
    assert_eq!(house.faults.deletes.load(Ordering::Relaxed), 0);
    let receipt = house.pipeline.receipt(id, tenant()).unwrap();
    assert_eq!(receipt.blobs, [("memory", Answer::Deleted)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_end_at_their_second_on_either_clock_and_not_before() {
    let house = house();
    for ttl in [1, 299, 300, 3600, 4501, 84_600] {
        let file = house.put(ttl, None, bytes(10)).await.unwrap();
        let (id, left) = (file.id, house.clock.now().wall.until(file.expires_at()));
        drop(file);
        house.clock.advance(left - Duration::from_millis(1));
        house.pipeline.sweep().await;
        assert!(house.pipeline.find(id, tenant()).is_some(), "{ttl}: a moment early");
        house.clock.advance(Duration::from_millis(1));
        assert!(house.pipeline.find(id, tenant()).is_none(), "{ttl}: unswept, and over");
        house.pipeline.sweep().await;
        let receipt = house.pipeline.receipt(id, tenant()).unwrap();
        assert_eq!(receipt.destroyed.unwrap().reason(), Reason::Expired);
    }
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_lengthens_no_life_and_one_set_forward_ends_it() {
    for forward in [true, false] {
        let house = house();
        let file = house.put(3600, None, bytes(10)).await.unwrap();
        let (id, now) = (file.id, house.clock.now().wall.since_epoch());
        drop(file);
        let hour = Duration::from_hours(1);
        if forward {
            house.clock.step_wall(Wall::from_unix(now + hour));
        } else {
            house.clock.step_wall(Wall::from_unix(now - hour * 48));
            house.clock.advance(hour);
        }
        house.pipeline.sweep().await;
        assert!(house.pipeline.find(id, tenant()).is_none());
        assert_eq!(house.keys.epochs_held().all(), 0, "the bucket's key is gone too");
        house.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counted_file_is_shredded_when_its_last_delivery_has_ended() {
    let house = house();
    let file = house.put(3600, Some(1), bytes(1 << 20)).await.unwrap();
    let id = file.id;
    let (mut delivery, claim) = house.pipeline.deliver(&file, 0..1 << 20, None).unwrap();
    drop(file);
    assert!(delivery.next().await.unwrap().is_ok());
    drop(delivery);
    let file = house.pipeline.find(id, tenant()).expect("it may be continued");
    let again = house.pipeline.deliver(&file, 100..1 << 20, claim.as_deref());
    let rest: Vec<Bytes> = again.unwrap().0.try_collect().await.unwrap();
    assert_eq!(rest.iter().map(Bytes::len).sum::<usize>(), (1 << 20) - 100);
    drop((rest, file));
    assert!(house.pipeline.find(id, tenant()).is_none());
    let proof = house.pipeline.receipt(id, tenant()).unwrap().destroyed.unwrap();
    assert_eq!(proof.reason(), Reason::Downloaded);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_last_delivery_is_shredded_when_it_can_no_longer_be_continued() {
    let house = house();
    let file = house.put(3600, Some(1), bytes(1 << 20)).await.unwrap();
    let id = file.id;
    let (mut delivery, _) = house.pipeline.deliver(&file, 0..1 << 20, None).unwrap();
    drop(file);
    assert!(delivery.next().await.unwrap().is_ok());
    drop(delivery);
    house.clock.advance(crate::table::CONTINUE_WITHIN);
    assert!(house.pipeline.find(id, tenant()).is_none());
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_for_uploads_that_run_at_once() {
    let house = house();
    let (one, two) =
        tokio::join!(house.put(3600, None, bytes(9 << 20)), house.put(3600, None, bytes(9 << 20)));
    let third = house.put(3600, None, bytes(9 << 20)).await;
    assert_eq!(third.err(), Some(PipelineError::Body(BodyError::Quota)));
    for file in [one.unwrap(), two.unwrap()] {
        house.pipeline.delete(&file);
    }
    house.is_empty().await;
}

/// A document step that never answers.
struct Silent(Description);

#[async_trait::async_trait]
impl Step for Silent {
    fn streams(&self) -> bool {
        false
    }

    async fn run(self: Box<Self>, _: StepStream) -> Result<Output, ProcessError> {
        std::future::pending().await
    }
}

impl Processor for Silent {
    fn describe(&self) -> &Description {
        &self.0
    }

    fn prepare(&self, _: &Options) -> Result<Box<dyn Step>, ProcessError> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_machine_has_no_keys_at_its_next_request_and_goes_on_with_new_ones() {
    let house = house();
    house.pipeline.wake().await;
    let files = [
        house.put(3600, None, bytes(100)).await.unwrap(),
        house.put(60, None, bytes(1 << 20)).await.unwrap(),
    ];
    let mut reading = house.vault.open(&files[1].origin, &files[1].segments, 0..1 << 20);
    assert!(reading.next().await.unwrap().is_ok());
    house.machine.0.store(true, Ordering::SeqCst);
    house.pipeline.wake().await;
    assert!(reading.next().await.unwrap().is_err(), "its bytes may have gone first");
    drop(reading);
    for file in files {
        assert!(house.keys.input_key(&file.origin.keys).is_err());
        assert!(house.pipeline.find(file.id, tenant()).is_none());
        let proof = house.pipeline.receipt(file.id, tenant()).unwrap().destroyed.unwrap();
        assert_eq!(proof.reason(), Reason::KeyLost);
    }
    house.is_empty().await;
    let file = house.put(3600, None, bytes(100)).await.unwrap();
    house.pipeline.wake().await;
    assert!(house.pipeline.find(file.id, tenant()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sleep_or_a_step_the_first_request_finds_nothing_that_is_due() {
    let gaps: [fn(&VirtualClock); 2] = [
        |clock| clock.advance(Duration::from_secs(3610)),
        |clock| clock.step_wall(clock.now().wall.plus(Duration::from_secs(3610))),
    ];
    for gap in gaps {
        let house = house();
        house.pipeline.wake().await;
        for ttl in [60, 3600, 3600] {
            drop(house.put(ttl, None, bytes(100)).await.unwrap());
        }
        gap(&house.clock);
        // The sweeper never runs in this house: only the request itself can have done it.
        assert_eq!((house.pipeline.census().overdue, house.keys.files_alive()), (3, 3));
        house.pipeline.wake().await;
        assert_eq!((house.pipeline.census().overdue, house.keys.files_alive()), (0, 0));
        assert_eq!(house.keys.epochs_held().all(), 0);
        house.is_empty().await;
    }
}

#[tokio::test]
async fn a_record_that_nobody_forgets_is_overdue_though_its_keys_are_gone() {
    let house = house();
    for ttl in [60, 3600] {
        drop(house.put(ttl, None, bytes(10)).await.unwrap());
    }
    house.clock.advance(Duration::from_secs(3600));
    house.keys.sweep_epochs();
    for file in house.pipeline.table.due_alone(house.clock.now(), 10) {
        house.keys.destroy(&file.origin.keys, Reason::Expired);
        house.pipeline.table.keys_gone(&[file]);
    }
    house.clock.advance(Duration::from_secs(60));
    let past = |house: &House| house.pipeline.census().overdue;
    assert_eq!(past(&house), 1, "of the short life the record is an hour late");
    house.clock.advance(crate::table::FORGOTTEN_WITHIN);
    assert_eq!(past(&house), 2);
    house.pipeline.sweep().await;
    house.is_empty().await;
}

/// Hundreds of files are due: the first request waits for their keys, and not for their records.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_sleep_every_key_that_is_due_is_gone_before_the_first_request() {
    let house = house();
    house.pipeline.wake().await;
    let mut files = Vec::new();
    for at in 0..300 {
        let file = house.put([60, 3600, 3600][at % 3], None, bytes(100)).await.unwrap();
        if at % 3 == 1 {
            house.pipeline.shorten(&file, Duration::from_secs(100)).unwrap();
        }
        files.push(file);
    }
    let living = house.put(7200, None, bytes(100)).await.unwrap();
    house.clock.advance(Duration::from_secs(3601));
    // A step back would revive what nobody has destroyed.
    house.pipeline.wake().await;
    let now = house.clock.now().wall.since_epoch();
    house.clock.step_wall(Wall::from_unix(now - Duration::from_hours(48)));
    assert_eq!(house.keys.epochs_held().all(), 1, "the living file's");
    assert!(house.pipeline.census().files > 100, "their records were not waited for");
    let own_secrets = house.keys.files_alive();
    assert!((1..=101).contains(&own_secrets), "{own_secrets}: of those that ended with a bucket");
    for file in &files {
        assert!(house.keys.input_key(&file.origin.keys).is_err());
    }
    assert!(house.keys.input_key(&living.origin.keys).is_ok());
    house.pipeline.sweep().await;
    assert_eq!((house.pipeline.census().files, house.keys.files_alive()), (1, 1));
    drop(files);
    house.pipeline.delete(&living);
    drop(living);
    house.is_empty().await;
}

/// A run of chunks that is being opened while all keys are condemned ends first; then none opens.
#[tokio::test(flavor = "multi_thread")]
async fn a_condemnation_waits_for_the_run_that_is_being_opened() {
    let house = house();
    let file = house.put(3600, None, bytes(100)).await.unwrap();
    let (entered, inside) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (keys, clock) = (&file.origin.keys, &house.clock);
        let reader = scope.spawn(move || {
            let opened = keys.while_alive(
                || clock.now(),
                || {
                    entered.send(()).unwrap();
                    wait.recv().unwrap();
                },
            );
            opened.is_ok()
        });
        inside.recv().unwrap();
        let condemner = scope.spawn(|| house.keys.condemn(crate::keyring::Suspicion::NewMachine));
        while house.keys.generation() == 0 {
            std::thread::yield_now();
        }
        let early = condemner.is_finished();
        go_on.send(()).unwrap();
        assert!(reader.join().unwrap());
        condemner.join().unwrap();
        assert!(!early, "it returned while a run was being opened");
        assert!(keys.while_alive(|| clock.now(), || ()).is_err());
    });
    drop(house.pipeline.find(file.id, tenant()));
    drop(file);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_leaves_the_last_slots_to_the_others() {
    let house = house();
    house.pipeline.share_among(4);
    let mut files = Vec::new();
    let refused = loop {
        match house.put(3600, None, bytes(0)).await {
            Ok(file) => files.push(file),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, PipelineError::Body(BodyError::Quota));
    let terms = house.terms(3600);
    assert!(!house.pipeline.has_quota(tenant(), &terms, Some(0)), "told before its body");
    assert!(house.pipeline.has_quota(TenantId::of("other"), &terms, Some(0)));
    let kept_back = house.slots - files.len();
    assert!(kept_back >= house.slots / 8, "{kept_back} of {}", house.slots);
    for file in files {
        house.pipeline.delete(&file);
    }
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_client_leaves_while_a_worker_is_at_it_leaves_nothing() {
    let house = house();
    let about = Description {
        name: "silent".to_owned(),
        media_types: Vec::new(),
        options: serde_json::Value::Null,
    };
    let mut registry = Registry::default();
    registry.add(Arc::new(Silent(about)));
    let plan = registry.parse("silent").unwrap().prepare(&[], None).unwrap();
    let (input, digester, steps) = (bytes(1 << 20), Digester::default(), Vec::new());
    let job = Run { input, digester, plan, steps };
    let terms = house.terms(3600);
    let mut run = Box::pin(house.pipeline.run(tenant(), &terms, job));
    while house.vault.usage().blobs == 0 {
        assert!(run.as_mut().now_or_never().is_none(), "the step never answers");
        tokio::task::yield_now().await;
    }
    drop(run);
    house.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_nothing_that_is_due() {
    let house = house();
    for ttl in [60, 3600] {
        drop(house.put(ttl, None, bytes(100)).await.unwrap());
    }
    assert_eq!(house.pipeline.list(tenant(), None, 10).0.len(), 2);
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(house.pipeline.list(tenant(), None, 10).0.len(), 1);
    assert_eq!(house.keys.files_alive(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_files_and_for_what_is_arriving_and_then_stops() {
    let house = house();
    let file = house.put(3600, None, bytes(100)).await.unwrap();
    let mut upload = Box::pin(house.put(3600, None, stalled()));
    assert!(upload.as_mut().now_or_never().is_none());
    let mut drain = Box::pin(Arc::new(house.pipeline.clone()).drain());
    assert!(drain.as_mut().now_or_never().is_none(), "nobody asked for it");
    house.pipeline.shutdown.drain();
    assert!(house.pipeline.shutdown.is_draining() && !house.pipeline.shutdown.has_begun());
    for end in [true, false] {
        house.clock.advance(Duration::from_secs(1));
        assert!(drain.as_mut().now_or_never().is_none(), "something lives");
        assert!(!house.pipeline.shutdown.has_begun());
        if end {
            house.pipeline.delete(&file);
        }
    }
    drop(upload);
    house.clock.advance(Duration::from_secs(1));
    drain.await;
    assert!(house.pipeline.shutdown.has_begun());
}
