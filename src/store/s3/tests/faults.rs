//! A server that misbehaves: every fault ends in success or in an error, and leaves nothing.

use futures_util::{StreamExt, stream};

use super::bucket_stub::{Bucket as Stub, Call, Trap, Wrong};
use super::*;
use crate::body::{BodyError, Pool};
use crate::clock::{Now, Sleep, VirtualClock, Wall};
use crate::crypto::{Header, InputKey, RUN_BYTES, SealStream, Sealer};
use crate::file::{Epoch, FileId, Role, TenantId};
use crate::secret::Secret;

/// A clock that runs through pauses and stands still before timeouts: nobody waits for a backoff,
/// and nothing times out unless the test says so.
#[derive(Clone)]
struct Hasty(VirtualClock);

/// Pauses between two tries are shorter, timeouts longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

impl Clock for Hasty {
    fn now(&self) -> Now {
        self.0.now()
    }

    fn sleep(&self, span: Duration) -> Sleep {
        if span > LONGEST_PAUSE {
            let until_told = Clock::sleep;
            return until_told(&self.0, span);
        }
        Box::pin(tokio::task::yield_now())
    }
}

struct Bench {
    stub: Stub,
    clock: Hasty,
    store: S3Store,
    pool: Arc<Pool>,
}

/// Three parts, the last one short.
const LARGE: usize = 14 << 20;
/// One request.
const SMALL: usize = 400_000;

impl Bench {
    fn new() -> Self {
        let stub = Stub::start();
        let at = Wall::from_unix(Duration::from_secs(1_800_000_000));
        let clock = Hasty(VirtualClock::at(at));
        let store = store_at(&options(&stub.endpoint(), "bucket"), Arc::new(clock.clone()));
        let pool = Pool::new(Budget::of(64 << 20), RUN_BYTES);
        Self { stub, clock, store, pool }
    }

    /// Writes so many bytes of plaintext, and returns what was stored.
    async fn put(&self, bytes: usize) -> Result<(BlobId, Vec<u8>), StoreError> {
        let mut secret = Secret::<32>::zero();
        secret.expose_mut().fill(7);
        let file = FileId::from_bytes([1; 16]);
        let key = InputKey::derive(None, &secret, &file, Epoch::None).unwrap();
        let region = "eu".parse().unwrap();
        let (role, epoch) = (Role::Input, Epoch::None);
        let header = Header { role, region, file, epoch, expires_at: 1, index: 0 };
        let sealer = Sealer::new(&header, &TenantId::of("acme"), key, &SystemEntropy).unwrap();
        let frame: Result<_, BodyError> = Ok(bytes::Bytes::from(vec![9; bytes]));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let input = stream::iter([frame]);
        let mut sealed = SealStream::new(sealer, input, self.pool.clone(), clock, None);
        let (mut writer, mut copy) = (self.store.begin().await?, Vec::new());
        loop {
            let mut run = sealed.next().await.unwrap().unwrap();
            copy.extend_from_slice(run.as_slice());
            let end = run.take_end();
            writer.append(run).await?;
            if let Some(end) = end {
                return Ok((writer.commit(&end).await?, copy));
            }
        }
    }

    /// Reads it all, in order.
    async fn get(&self, blob: BlobId, bytes: usize) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.store.reader(blob, 0..bytes as u64).ok_or(StoreError::Missing)?;
        let mut all = Vec::new();
        while all.len() < bytes {
            let mut buffer = self.pool.take(RUN_BYTES, &SystemClock).await.unwrap();
            buffer.resize(RUN_BYTES.min(bytes - all.len()));
            reader.read(&mut buffer).await?;
            all.extend_from_slice(buffer.as_slice());
        }
        Ok(all)
    }

    /// Deletes until it succeeds; returns how often it failed.
    async fn delete(&self, blob: BlobId) -> u32 {
        let mut failures = 0;
        while self.store.delete(blob, Doomed::SegmentDiscarded).await.is_err() {
            failures += 1;
        }
        failures
    }

    /// A minute later nothing is left: no object, no upload, no memory, no name.
    async fn leaves_nothing(&self, what: &str) {
        // Until every session has ended or waits for its second look.
        while self.store.unsettled() > 0 {
            tokio::task::yield_now().await;
        }
        // A second look begins when the first has ended, so its minute may begin a moment later.
        self.clock.0.advance(Duration::from_secs(60));
        while !self.store.0.shelf().reserved.is_empty() {
            self.clock.0.advance(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
        assert_eq!(self.stub.left(), [""; 0], "{what}");
        assert_eq!(self.store.usage(), Usage::default(), "{what}");
        // What hyper still holds of a request that was given up goes with its connection.
        while self.pool.budget().used() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_a_passing_fault_succeeds() {
    for (bytes, call, times, wrong) in [
        (LARGE, Call::Begin, 2, Wrong::Status(500, "InternalError")),
        (LARGE, Call::Part, 2, Wrong::Status(500, "InternalError")),
        (LARGE, Call::Part, 4, Wrong::Status(503, "SlowDown")),
        (LARGE, Call::Part, 1, Wrong::Reset),
        (LARGE, Call::Complete, 2, Wrong::ErrorIn200("SlowDown")),
        (LARGE, Call::Complete, 2, Wrong::ErrorIn200("InternalError")),
        (LARGE, Call::Complete, 1, Wrong::Lost),
        (SMALL, Call::Put, 2, Wrong::Status(500, "InternalError")),
        (SMALL, Call::Put, 4, Wrong::Status(503, "SlowDown")),
        (SMALL, Call::Put, 1, Wrong::Reset),
        (SMALL, Call::Put, 1, Wrong::Lost),
    ] {
        let (bench, what) = (Bench::new(), format!("{call:?} {wrong:?}"));
        bench.stub.spoil(call, times, wrong);
        let (blob, stored) =
            bench.put(bytes).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(bench.get(blob, stored.len()).await == Ok(stored), "{what}");
        assert_eq!(bench.delete(blob).await, 0);
        bench.leaves_nothing(&what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_stands_still_is_sent_again_when_its_time_is_over() {
    for (bytes, call) in [(LARGE, Call::Part), (SMALL, Call::Put), (LARGE, Call::Complete)] {
        let bench = Bench::new();
        bench.stub.spoil(call, 1, Wrong::Stall);
        let watch = async {
            tokio::task::block_in_place(|| bench.stub.until_stalled(1));
            bench.clock.0.advance(Duration::from_secs(50));
        };
        let (put, ()) = futures_util::future::join(bench.put(bytes), watch).await;
        let (blob, stored) = put.unwrap_or_else(|error| panic!("{call:?}: {error}"));
        assert!(bench.get(blob, stored.len()).await == Ok(stored), "{call:?}");
        assert_eq!(bench.delete(blob).await, 0);
        bench.leaves_nothing(&format!("{call:?} stalled")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_a_lasting_fault_fails_and_leaves_nothing() {
    let trap = Trap::set();
    for (bytes, call, wrong) in [
        (LARGE, Call::Begin, Wrong::Status(500, "InternalError")),
        (LARGE, Call::Begin, Wrong::Lost),
        (LARGE, Call::Part, Wrong::Status(503, "SlowDown")),
        (LARGE, Call::Part, Wrong::Redirect(301, trap.addr)),
        (LARGE, Call::Part, Wrong::Redirect(307, trap.addr)),
        (LARGE, Call::Part, Wrong::OtherTag),
        (LARGE, Call::Part, Wrong::Status(403, "AccessDenied")),
        (LARGE, Call::Complete, Wrong::ErrorIn200("SlowDown")),
        (SMALL, Call::Put, Wrong::Status(500, "InternalError")),
        (SMALL, Call::Put, Wrong::Redirect(301, trap.addr)),
        (SMALL, Call::Put, Wrong::Redirect(307, trap.addr)),
    ] {
        let (bench, what) = (Bench::new(), format!("{call:?} {wrong:?}"));
        bench.stub.spoil(call, 100, wrong);
        assert_eq!(bench.put(bytes).await.unwrap_err(), StoreError::Failed, "{what}");
        bench.leaves_nothing(&what).await;
    }
    assert_eq!(trap.bytes(), 0, "the redirect's target heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_storage_says_so() {
    let bench = Bench::new();
    bench.stub.spoil(Call::Put, 100, Wrong::Status(507, "QuotaExceeded"));
    assert_eq!(bench.put(SMALL).await.unwrap_err(), StoreError::Full);
    bench.leaves_nothing("full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_goes_on_where_it_broke() {
    let trap = Trap::set();
    for (wrong, times, good) in [
        (Wrong::Truncated, 3, true),
        (Wrong::Status(500, "InternalError"), 2, true),
        (Wrong::Status(503, "SlowDown"), 100, false),
        (Wrong::Redirect(307, trap.addr), 100, false),
        (Wrong::Redirect(301, trap.addr), 100, false),
    ] {
        let (bench, what) = (Bench::new(), format!("{wrong:?}"));
        let (blob, stored) = bench.put(LARGE).await.unwrap();
        bench.stub.spoil(Call::Get, times, wrong);
        let read = bench.get(blob, stored.len()).await;
        assert_eq!(read.is_ok(), good, "{what}");
        assert!(read.is_err() || read == Ok(stored), "{what}");
        bench.delete(blob).await;
        bench.leaves_nothing(&what).await;
    }
    assert_eq!(trap.bytes(), 0, "the redirect's target heard of it");
    let bench = Bench::new();
    let (blob, stored) = bench.put(SMALL).await.unwrap();
    bench.stub.spoil(Call::Get, 1, Wrong::Stall);
    let watch = async {
        tokio::task::block_in_place(|| bench.stub.until_stalled(1));
        bench.clock.0.advance(Duration::from_secs(50));
    };
    let (read, ()) = futures_util::future::join(bench.get(blob, stored.len()), watch).await;
    assert!(read == Ok(stored), "a read that stood still");
    bench.delete(blob).await;
    bench.leaves_nothing("a read that stood still").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_fails_is_told_and_succeeds_later() {
    let bench = Bench::new();
    let (blob, _) = bench.put(SMALL).await.unwrap();
    bench.stub.spoil(Call::Delete, 3, Wrong::Status(500, "InternalError"));
    assert_eq!(bench.delete(blob).await, 3);
    bench.leaves_nothing("a failing delete").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_write_left_is_removed_however_often_that_fails() {
    let bench = Bench::new();
    bench.stub.spoil(Call::Complete, 100, Wrong::Status(403, "AccessDenied"));
    bench.stub.spoil(Call::Abort, 9, Wrong::Status(500, "InternalError"));
    bench.stub.spoil(Call::Delete, 9, Wrong::Status(503, "SlowDown"));
    assert_eq!(bench.put(LARGE).await.unwrap_err(), StoreError::Failed);
    // Its pauses grow beyond what this clock runs through.
    while bench.store.unsettled() > 0 {
        bench.clock.0.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    bench.leaves_nothing("failing clean-up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_takes_orphans_and_leaves_what_is_known_or_others() {
    let bench = Bench::new();
    let (blob, _) = bench.put(SMALL).await.unwrap();
    let ours = bench.store.0.home.name(&SystemEntropy).unwrap();
    let dead = home::Home::take(&SystemEntropy).unwrap().name(&SystemEntropy).unwrap();
    let alive = home::Home::take(&SystemEntropy).unwrap();
    let theirs = alive.name(&SystemEntropy).unwrap();
    for key in [&*ours, &*dead, &*theirs, "dayfly/notes.txt", "other/file"] {
        bench.stub.plant(key);
    }
    bench.store.sweep().await.unwrap();
    let mut left = bench.stub.left();
    let (kept, _) = bench.store.0.key(blob).unwrap();
    let mut expected = vec![theirs.to_string(), kept.to_string()];
    expected.extend(["dayfly/notes.txt".to_owned(), "other/file".to_owned()]);
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_dropped_at_any_point_leaves_nothing() {
    let bench = Bench::new();
    for polls in [0, 1, 2, 3, 4, 6, 9, 13, 19, 28, 40, 58] {
        let mut put = Box::pin(bench.put(LARGE));
        for _ in 0..polls {
            if futures_util::poll!(&mut put).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(put);
        while bench.store.unsettled() > 0 {
            tokio::task::yield_now().await;
        }
        let blobs: Vec<BlobId> = bench.store.0.shelf().blobs.keys().copied().collect();
        for blob in blobs {
            // It was complete before it was dropped, and its owner deletes it.
            bench.delete(blob).await;
        }
        bench.leaves_nothing(&format!("dropped after {polls} polls")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_leaves_for_another_origin() {
    let stub = Stub::start();
    let mut options = options(&stub.endpoint(), "bucket");
    // The SDK would ask bucket.127.0.0.1, which is nobody's.
    options.path_style = false;
    let error = Bucket::new(
        &options,
        Egress::new(Arc::new(SystemClock), Tasks::default(), true),
        Arc::new(SystemClock),
        Arc::new(SystemEntropy),
    );
    assert!(error.is_err(), "a bucket in front of an address is no host");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_keeps_bytes_is_a_refusal_of_its_own() {
    let bench = Bench::new();
    let replicated = "<ReplicationConfiguration><Role>r</Role><Rule><Status>Enabled</Status>\
        <Destination><Bucket>arn:aws:s3:::other</Bucket></Destination></Rule>\
        </ReplicationConfiguration>";
    let blocks = "<BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>\
        <BlockPublicPolicy>true</BlockPublicPolicy>";
    let three =
        format!("<PublicAccessBlockConfiguration>{blocks}</PublicAccessBlockConfiguration>");
    let wanted = REGION.to_owned();
    for (question, answer, unfit) in [
        ("replication", replicated, Unfit::Replication),
        (
            "object-lock",
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>\
             </ObjectLockConfiguration>",
            Unfit::ObjectLock,
        ),
        (
            "versioning",
            "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
            Unfit::Versioning("on"),
        ),
        (
            "versioning",
            "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>",
            Unfit::Versioning("suspended"),
        ),
        ("publicAccessBlock", &three, Unfit::Public),
        (
            "location",
            "<LocationConstraint>us-west-2</LocationConstraint>",
            Unfit::Region { found: "us-west-2".to_owned(), wanted },
        ),
    ] {
        bench.store.check().await.unwrap();
        bench.stub.pretend(question, answer);
        assert_eq!(bench.store.check().await, Err(unfit), "{question}: {answer}");
        assert_eq!(bench.put(SMALL).await.unwrap_err(), StoreError::Unfit, "{question}");
        bench.stub.mend();
    }
    let checked = bench.store.check().await.unwrap();
    assert_eq!((checked.replication, checked.object_lock), ("not-offered", "not-offered"));
    bench.leaves_nothing("refusals").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_nothing_is_heard_of_takes_nothing_in_after_three_checks() {
    let bench = Bench::new();
    bench.store.check().await.unwrap();
    for (hours, open) in [(1, true), (1, true), (1, true), (1, false), (1, false)] {
        bench.stub.spoil(Call::Other, 100, Wrong::Status(500, "InternalError"));
        bench.clock.0.advance(Duration::from_hours(hours));
        let silent = bench.store.check().await.unwrap_err();
        assert!(!silent.is_told(), "{silent}");
        assert_eq!(bench.store.standing().unfit.is_none(), open);
        bench.stub.mend();
        match bench.put(SMALL).await {
            Ok((blob, _)) => assert!(open && bench.delete(blob).await == 0),
            Err(error) => assert!(!open && error == StoreError::Unfit, "{error}"),
        }
    }
    bench.store.check().await.unwrap();
    let (blob, _) = bench.put(SMALL).await.unwrap();
    assert_eq!(bench.delete(blob).await, 0);
    bench.leaves_nothing("silence").await;
}
