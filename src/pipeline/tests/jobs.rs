//! Jobs over a clock moved by hand, with steps that begin and end on order.

use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::file::Role;
use crate::job::State;
use crate::process::Recipe;
use crate::table::{KEPT_AFTER, Kind};

/// Steps named `hold`: each says that it has begun, and ends when it is let go.
struct Workshop {
    registry: Registry,
    began: mpsc::UnboundedReceiver<u8>,
    go: Arc<Semaphore>,
    /// Steps that find no memory before one does.
    overloads: Arc<std::sync::atomic::AtomicUsize>,
}

#[derive(Clone)]
struct Hold {
    about: Description,
    streams: bool,
    began: mpsc::UnboundedSender<u8>,
    go: Arc<Semaphore>,
    overloads: Arc<std::sync::atomic::AtomicUsize>,
}

#[async_trait::async_trait]
impl Step for Hold {
    fn streams(&self) -> bool {
        self.streams
    }

    async fn run(self: Box<Self>, mut input: StepStream) -> Result<Output, ProcessError> {
        let media_type = "text/plain";
        if self.streams {
            return Ok(Output { media_type, body: input });
        }
        let mut all = Vec::new();
        while let Some(bytes) = input.next().await.transpose()? {
            all.push(bytes);
        }
        let first = all.first().and_then(|bytes| bytes.first()).copied();
        self.began.send(first.unwrap_or_default()).unwrap();
        let less = |left: usize| left.checked_sub(1);
        if self.overloads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(ProcessError::Overloaded);
        }
        self.go.acquire().await.unwrap().forget();
        Ok(Output { media_type, body: Box::pin(stream::iter(all.into_iter().map(Ok))) })
    }
}

impl Processor for Hold {
    fn describe(&self) -> &Description {
        &self.about
    }

    fn prepare(&self, _: &Options) -> Result<Box<dyn Step>, ProcessError> {
        Ok(Box::new(self.clone()))
    }
}

impl Workshop {
    /// `hold` is a document step, `pass` one that streams.
    fn open() -> Self {
        let (sender, began) = mpsc::unbounded_channel();
        let (go, overloads) = (Arc::new(Semaphore::new(0)), Arc::default());
        let mut registry = Registry::default();
        for (name, streams) in [("hold", false), ("pass", true)] {
            let options = serde_json::Value::Null;
            let about = Description { name: name.to_owned(), media_types: Vec::new(), options };
            let (began, go, overloads) = (sender.clone(), go.clone(), Arc::clone(&overloads));
            registry.add(Arc::new(Hold { about, streams, began, go, overloads }));
        }
        Self { registry, began, go, overloads }
    }

    fn order(&self, steps: &str, sources: &[&Arc<LiveFile>]) -> Order {
        let steps = self.registry.parse(steps).unwrap();
        Order {
            sources: sources.iter().map(|file| (*file).clone()).collect(),
            pulls: Vec::new(),
            deliver: None,
            recipe: Recipe::new(steps, Vec::new(), None).unwrap(),
            ttl: None,
            consume: false,
            webhook: None,
            always_digest: false,
        }
    }

    fn let_go(&self, steps: usize) {
        self.go.add_permits(steps);
    }
}

impl House {
    fn ask(&self, order: Order) -> Arc<AnyJob> {
        self.pipeline.submit(tenant(), &self.terms(3600), order).unwrap()
    }

    fn reason(&self, file: FileId) -> Option<Reason> {
        let receipt = self.pipeline.receipt(file, tenant())?;
        receipt.destroyed.map(|proof| proof.reason())
    }

    /// Moves the clock until something has happened.
    async fn advance_until<T>(&self, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        loop {
            if let Some(done) = what.as_mut().now_or_never() {
                return done;
            }
            // In steps so small that the clock does not run past a life while others wait.
            self.clock.advance(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
    }

    /// Once the cleaner has come by.
    async fn is_cleaned(&self) {
        self.advance_until(self.pipeline.cleaned()).await;
    }

    /// Shreds what lives, forgets every job, and finds nothing left.
    async fn closes(&self) {
        self.pipeline.jobs.close();
        self.pipeline.jobs_are_over().await;
        self.pipeline.forget_all();
        self.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_is_a_file_with_its_sources_deadline_and_intermediates_die_with_the_job() {
    let (house, mut shop) = (house(), Workshop::open());
    let file = house.put(3600, None, bytes(1 << 20)).await.unwrap();
    house.clock.advance(Duration::from_secs(1800));
    let job = house.ask(shop.order("hold+pass+hold", &[&file]));
    shop.began.recv().await.unwrap();
    assert_eq!(house.vault.usage().blobs, 1);
    shop.let_go(1);
    shop.began.recv().await.unwrap();
    house.is_cleaned().await;
    assert_eq!(house.vault.usage().blobs, 2, "the source, and what this step reads");
    assert_eq!(house.pipeline.list(tenant(), None, 10).0.len(), 1, "nobody sees them");
    shop.let_go(1);
    job.board.ended().await;
    assert_eq!((job.board.state(), job.board.now().progress.percent), (State::Succeeded, 100));
    let outputs = house.pipeline.outputs(&job);
    let [output] = outputs.as_slice() else { panic!("one output") };
    assert_eq!((output.kind, output.segments[0].role), (Kind::File, Role::Output));
    assert_eq!(output.size(), 1 << 20);
    let (theirs, own) = (file.origin.deadline, output.origin.deadline);
    assert_eq!((own.epoch(), own.sealed_unix()), (theirs.epoch(), theirs.sealed_unix()));
    assert_eq!(output.expires_at(), file.expires_at());
    for id in [file.id, output.id] {
        let receipt = house.pipeline.receipt(id, tenant()).unwrap();
        assert_eq!(receipt.expires_at, file.expires_at());
        assert!(receipt.handed_to.contains(&"hold".to_owned()), "{:?}", receipt.handed_to);
    }
    house.is_cleaned().await;
    assert_eq!(house.vault.usage().blobs, 2, "the intermediates are gone");
    drop((file, outputs, job));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_outlives_a_life_that_was_shortened_or_asked_shorter() {
    for shorten in [true, false] {
        let (house, shop) = (house(), Workshop::open());
        let file = house.put(3600, None, bytes(100)).await.unwrap();
        let mut order = shop.order("hold", &[&file]);
        if shorten {
            house.pipeline.shorten(&file, Duration::from_secs(100)).unwrap();
        } else {
            order.ttl = Some(Duration::from_secs(100));
        }
        let job = house.ask(order);
        shop.let_go(1);
        job.board.ended().await;
        let output = house.pipeline.outputs(&job).pop().unwrap();
        let end = house.clock.now().wall.plus(Duration::from_secs(100));
        assert_eq!((output.expires_at(), job.deadline.expires_at()), (end, end));
        assert_eq!(output.origin.deadline.epoch(), file.origin.deadline.epoch());
        let read = house.vault.open(&output.origin, &output.segments, 0..100);
        let read: Vec<Bytes> = read.try_collect().await.unwrap();
        assert_eq!(read.concat(), [7; 100]);
        house.clock.advance(Duration::from_secs(100));
        house.pipeline.sweep().await;
        assert_eq!(house.reason(output.id), Some(Reason::Expired));
        assert_eq!(house.reason(file.id), shorten.then_some(Reason::Expired));
        drop((file, output, job, read));
        house.closes().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_be_cancelled_in_every_state_and_leaves_nothing_but_its_record() {
    let (house, mut shop) = (house(), Workshop::open());
    let file = house.put(3600, None, bytes(1 << 20)).await.unwrap();
    // Two workers: the third waits.
    let jobs = [0; 3].map(|_| house.ask(shop.order("hold+pass+hold", &[&file])));
    for _ in 0..2 {
        shop.began.recv().await.unwrap();
    }
    let states = || jobs.each_ref().map(|job| job.board.state());
    assert_eq!(states(), [State::Running, State::Running, State::Queued]);
    house.pipeline.cancel(&jobs[2]).await;
    assert_eq!(states(), [State::Running, State::Running, State::Cancelled]);
    shop.let_go(1);
    shop.began.recv().await.unwrap();
    for job in &jobs[..2] {
        house.pipeline.cancel(job).await;
    }
    assert_eq!(states(), [State::Cancelled; 3]);
    house.is_cleaned().await;
    assert_eq!((house.vault.usage().blobs, house.keys.files_alive()), (1, 1), "the source stays");
    let job = house.ask(shop.order("hold", &[&file]));
    shop.let_go(1);
    job.board.ended().await;
    let output = house.pipeline.outputs(&job).pop().unwrap().id;
    for _ in 0..2 {
        house.pipeline.cancel(&job).await;
        assert_eq!(job.board.state(), State::Succeeded, "what is final stays");
        assert_eq!(house.reason(output), Some(Reason::Cancelled));
    }
    assert_eq!(job.board.now().id, house.pipeline.job(job.id, tenant()).unwrap().board.now().id);
    drop((file, job, jobs));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_with_its_source_whatever_it_is_doing() {
    for running in [true, false] {
        for reason in [Reason::Deleted, Reason::Expired] {
            let (house, mut shop) = (house(), Workshop::open());
            let file = house.put(3600, None, bytes(1 << 20)).await.unwrap();
            let others = house.put(7200, None, bytes(100)).await.unwrap();
            let busy = [0; 2].map(|_| house.ask(shop.order("hold", &[&others])));
            for _ in 0..2 {
                shop.began.recv().await.unwrap();
            }
            let job = house.ask(shop.order("hold", &[&others, &file]));
            if running {
                house.pipeline.cancel(&busy[0]).await;
                shop.began.recv().await.unwrap();
            }
            if reason == Reason::Deleted {
                house.pipeline.delete(&file);
            } else {
                house.clock.advance(Duration::from_secs(3600));
                house.pipeline.sweep().await;
            }
            job.board.ended().await;
            if reason == Reason::Deleted {
                assert_eq!(job.board.state(), State::Failed);
                assert_eq!(job.failure.get(), Some(&PipelineError::Lost(file.id, reason)));
            } else {
                assert_eq!((job.board.state(), job.failure.get()), (State::Expired, None));
            }
            assert_eq!(busy[1].board.state(), State::Running, "others go on");
            drop((file, others, job, busy));
            house.closes().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_expires_by_its_own_life_and_is_forgotten_a_while_later() {
    let (house, mut shop) = (house(), Workshop::open());
    let file = house.put(3600, None, bytes(100)).await.unwrap();
    let mut order = shop.order("hold", &[&file]);
    order.ttl = Some(Duration::from_secs(60));
    let job = house.ask(order);
    shop.began.recv().await.unwrap();
    house.clock.advance(Duration::from_secs(59));
    house.pipeline.sweep().await;
    assert_eq!(job.board.state(), State::Running);
    house.clock.advance(Duration::from_secs(1));
    house.pipeline.sweep().await;
    job.board.ended().await;
    assert_eq!(job.board.state(), State::Expired);
    assert!(house.pipeline.find(file.id, tenant()).is_some(), "its source lives on");
    house.clock.advance(KEPT_AFTER - Duration::from_secs(1));
    house.pipeline.sweep().await;
    assert!(house.pipeline.job(job.id, tenant()).is_some());
    house.clock.advance(Duration::from_secs(1));
    house.pipeline.sweep().await;
    assert!(house.pipeline.job(job.id, tenant()).is_none());
    drop((file, job));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_consumed_by_success_alone() {
    for succeeds in [true, false] {
        let (house, mut shop) = (house(), Workshop::open());
        let file = house.put(3600, Some(1), bytes(100)).await.unwrap();
        let mut order = shop.order("hold", &[&file]);
        order.consume = true;
        let job = house.ask(order);
        shop.began.recv().await.unwrap();
        if succeeds {
            shop.let_go(1);
            job.board.ended().await;
            assert_eq!(house.reason(file.id), Some(Reason::Consumed));
            assert_eq!(house.pipeline.outputs(&job).len(), 1);
        } else {
            house.pipeline.cancel(&job).await;
            assert_eq!(house.reason(file.id), None);
        }
        drop((file, job));
        house.closes().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_becomes_an_output_or_none_does() {
    let (house, mut shop) = (house(), Workshop::open());
    let one = house.put(3600, None, bytes(100)).await.unwrap();
    let other = house.put(7200, None, bytes(200)).await.unwrap();
    let job = house.ask(shop.order("hold", &[&other, &one]));
    assert_eq!(job.deadline.expires_at(), one.expires_at(), "the earliest of its sources'");
    shop.let_go(2);
    job.board.ended().await;
    let sizes: Vec<u64> = house.pipeline.outputs(&job).iter().map(|file| file.size()).collect();
    assert_eq!(sizes, [200, 100]);
    drop(job);
    for _ in 0..2 {
        shop.began.recv().await.unwrap();
    }
    let job = house.ask(shop.order("hold", &[&other, &one]));
    shop.let_go(1);
    for _ in 0..2 {
        shop.began.recv().await.unwrap();
    }
    house.faults.commits.store(1, Ordering::Relaxed);
    shop.let_go(1);
    job.board.ended().await;
    let stored = PipelineError::Body(BodyError::Storage);
    assert_eq!((job.board.state(), job.failure.get()), (State::Failed, Some(&stored)));
    house.is_cleaned().await;
    assert_eq!(house.vault.usage().blobs, 4, "two sources, and the first job's two outputs");
    drop((one, other, job));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_finds_no_memory_tries_again_later() {
    let (house, mut shop) = (house(), Workshop::open());
    let file = house.put(84_600, None, bytes(100)).await.unwrap();
    shop.overloads.store(3, Ordering::SeqCst);
    shop.let_go(1);
    let job = house.ask(shop.order("hold", &[&file]));
    for _ in 0..4 {
        house.advance_until(shop.began.recv()).await.unwrap();
    }
    job.board.ended().await;
    assert_eq!(job.board.state(), State::Succeeded);
    drop((file, job));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_jobs_of_one_tenant_delay_anothers_by_one_jobs_time() {
    let (house, mut shop) = (house(), Workshop::open());
    let body = |first: u8| -> ByteStream { Box::pin(stream::iter([Ok(Bytes::from(vec![first]))])) };
    let file = house.put(3600, None, body(b'm')).await.unwrap();
    let many: Vec<_> = (0..1000).map(|_| house.ask(shop.order("hold", &[&file]))).collect();
    for _ in 0..2 {
        assert_eq!(shop.began.recv().await, Some(b'm'));
    }
    let other = TenantId::of("other");
    let upload = Upload {
        input: body(b'o'),
        declared: None,
        name: None,
        declared_type: None,
        downloads: None,
        digester: Digester::default(),
    };
    let sealed = house.pipeline.seal(other, &house.terms(3600), upload).await.unwrap();
    let theirs = house.pipeline.publish(sealed).unwrap();
    let order = shop.order("hold", &[&theirs]);
    let job = house.pipeline.submit(other, &house.terms(3600), order).unwrap();
    while house.pipeline.turns.waiting(other, turns::Lane::Job) == 0 {
        tokio::task::yield_now().await;
    }
    shop.let_go(1);
    assert_eq!(shop.began.recv().await, Some(b'o'), "the very next job to begin");
    shop.let_go(2);
    job.board.ended().await;
    let waiting = many.iter().filter(|job| !job.board.state().is_final()).count();
    assert!(waiting >= 997, "{waiting}");
    house.pipeline.delete(&theirs);
    drop((file, theirs, job, many));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_jobs_as_long_as_it_was_told_and_then_cancels_them() {
    let (house, mut shop) = (house(), Workshop::open());
    let file = house.put(3600, None, bytes(100)).await.unwrap();
    let jobs = [0; 4].map(|_| house.ask(shop.order("hold", &[&file])));
    for _ in 0..2 {
        shop.began.recv().await.unwrap();
    }
    let pipeline = Arc::new(house.pipeline.clone());
    let mut winding = Box::pin(pipeline.wind_down(Duration::from_secs(30)));
    assert!(winding.as_mut().now_or_never().is_none(), "nobody asked for it");
    house.pipeline.shutdown.begin();
    assert!(winding.as_mut().now_or_never().is_none());
    shop.let_go(1);
    shop.began.recv().await.unwrap();
    let count = |state| jobs.iter().filter(|job| job.board.state() == state).count();
    house.clock.advance(Duration::from_secs(28));
    assert!(winding.as_mut().now_or_never().is_none());
    assert_eq!((count(State::Succeeded), count(State::Running)), (1, 2), "they go on meanwhile");
    house.clock.advance(Duration::from_secs(2));
    winding.await;
    assert_eq!((count(State::Succeeded), count(State::Cancelled)), (1, 3));
    let again = house.pipeline.submit(tenant(), &house.terms(3600), shop.order("hold", &[&file]));
    assert_eq!(again.err(), Some(PipelineError::Stopped));
    drop((file, jobs));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_machine_ends_jobs_with_the_keys() {
    let (house, mut shop) = (house(), Workshop::open());
    house.pipeline.wake().await;
    let file = house.put(3600, None, bytes(100)).await.unwrap();
    let job = house.ask(shop.order("hold", &[&file]));
    shop.began.recv().await.unwrap();
    house.machine.0.store(true, Ordering::SeqCst);
    house.pipeline.wake().await;
    // Its keys are gone; the sweeper, whose round is due within a second, says what that ends.
    house.pipeline.sweep().await;
    job.board.ended().await;
    assert_eq!(job.failure.get(), Some(&PipelineError::Lost(file.id, Reason::KeyLost)));
    drop((file, job));
    house.closes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_jobs_are_counted_and_the_oldest_that_has_ended_makes_room() {
    let (house, shop) = (house(), Workshop::open());
    let file = house.put(3600, None, bytes(1)).await.unwrap();
    let first = house.ask(shop.order("hold", &[&file]));
    let jobs: Vec<_> = (1..1200).map(|_| house.ask(shop.order("hold", &[&file]))).collect();
    let more = || house.pipeline.submit(tenant(), &house.terms(60), shop.order("hold", &[&file]));
    assert_eq!(more().err(), Some(PipelineError::TooManyJobs));
    assert!(house.pipeline.has_room_for_jobs(tenant()).is_err());
    house.pipeline.cancel(&jobs[7]).await;
    assert!(house.pipeline.has_room_for_jobs(tenant()).is_ok());
    assert!(more().is_ok());
    assert!(house.pipeline.job(jobs[7].id, tenant()).is_none());
    assert!(house.pipeline.job(first.id, tenant()).is_some(), "it has not ended");
    drop((file, first, jobs));
    house.closes().await;
}
