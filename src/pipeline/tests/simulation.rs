//! Random days of a house, held against a model that knows no keys and no tasks.
//!
//! After every step each file is asked for: what the model says is readable is, byte for byte, and
//! nothing else is. `DAYFLY_TIER=long` runs fifty times as many days.

use std::pin::Pin;
use std::sync::LazyLock;

use futures_util::StreamExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::model::{Buckets, Came, Counted, End, KeyOf, Known};
use super::*;
use crate::clock::Now;
use crate::entropy::SeededEntropy;
use crate::table::Origin;

#[derive(Clone, Debug)]
enum Op {
    Put {
        size: usize,
        ttl: u64,
        downloads: Option<u64>,
    },
    /// An upload that sends a little, and waits.
    Begin {
        size: usize,
        ttl: u64,
    },
    Finish(Index),
    Abandon(Index),
    Run {
        size: usize,
        whole: bool,
    },
    /// A job that makes a file of a file.
    Work {
        file: Index,
        consume: bool,
    },
    /// A delivery from `from` parts in 64 of the file on, of which so many pieces are taken.
    Read {
        file: Index,
        from: u64,
        continued: bool,
        pieces: usize,
        keep: bool,
    },
    Pull(Index),
    Close(Index),
    Shorten {
        file: Index,
        ttl: u64,
    },
    Delete(Index),
    Advance {
        by: By,
        sweep: bool,
    },
    /// Hours that the wall clock jumps.
    Step {
        hours: i64,
        sweep: bool,
    },
    Sweep,
    Crash,
    Fault {
        call: usize,
        times: u32,
    },
}

#[derive(Clone, Debug)]
enum By {
    Millis(u64),
    /// To the end of a file's life, or the moment before.
    End {
        file: Index,
        before: bool,
    },
}

const LARGEST: usize = 300_000;

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let size = || {
        prop_oneof![
            3 => prop::sample::select(vec![0, 1, 100, 16_383, 16_384, 16_385, 40_000]),
            1 => Just(LARGEST),
        ]
    };
    let ttl = || prop::sample::select(vec![1, 5, 61, 299, 300, 600, 4200, 4500, 4501, 84_600]);
    let millis =
        prop::sample::select(vec![1, 999, 1000, 59_999, 60_000, 301_000, 601_000, 3_600_000]);
    let by = prop_oneof![
        2 => millis.prop_map(By::Millis),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(file, before)| By::End { file, before }),
    ];
    let read = (any::<Index>(), 0..65_u64, any::<bool>(), 0..4_usize, any::<bool>());
    let op = prop_oneof![
        6 => (size(), ttl(), proptest::option::of(1..3_u64))
            .prop_map(|(size, ttl, downloads)| Op::Put { size, ttl, downloads }),
        2 => (size(), ttl()).prop_map(|(size, ttl)| Op::Begin { size, ttl }),
        2 => any::<Index>().prop_map(Op::Finish),
        1 => any::<Index>().prop_map(Op::Abandon),
        1 => (size(), any::<bool>()).prop_map(|(size, whole)| Op::Run { size, whole }),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(file, consume)| Op::Work { file, consume }),
        6 => read.prop_map(|(file, from, continued, pieces, keep)| {
            Op::Read { file, from, continued, pieces, keep }
        }),
        3 => any::<Index>().prop_map(Op::Pull),
        2 => any::<Index>().prop_map(Op::Close),
        2 => (any::<Index>(), ttl()).prop_map(|(file, ttl)| Op::Shorten { file, ttl }),
        2 => any::<Index>().prop_map(Op::Delete),
        5 => (by, any::<bool>()).prop_map(|(by, sweep)| Op::Advance { by, sweep }),
        2 => (prop::sample::select(vec![-48, -1, -1, 1, 48]), any::<bool>())
            .prop_map(|(hours, sweep)| Op::Step { hours, sweep }),
        1 => Just(Op::Sweep),
        1 => Just(Op::Crash),
        2 => (0..5_usize, 1..3_u32).prop_map(|(call, times)| Op::Fault { call, times }),
    ];
    vec(op, 1..40)
}

/// What every file is a part of.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let noise = (0..LARGEST as u64 + 4096).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8);
    noise.collect::<Vec<u8>>().into()
});

/// A day in a house of its own, and the model beside it.
struct Day {
    // Dropped in this order: what runs, then the house, then the runtime.
    deliveries: Vec<Held>,
    uploads: Vec<Slow>,
    house: House,
    runtime: Runtime,
    clock: VirtualClock,
    seed: u64,
    files: Vec<Known>,
    /// Beside `files`: what a thief of the table would have.
    origins: Vec<(Origin, Vec<crate::table::Segment>)>,
    runs: Vec<(FileId, Reason)>,
    lost: Vec<FileId>,
    buckets: Buckets,
}

/// A delivery that somebody reads at their own pace.
struct Held {
    file: usize,
    body: Delivery,
    at: u64,
    begun: bool,
    claim: Option<(String, Came)>,
}

type Uploading = Pin<Box<dyn Future<Output = Result<Arc<LiveFile>, PipelineError>>>>;

/// An upload that waits for the rest of its bytes.
struct Slow {
    rest: mpsc::UnboundedSender<Bytes>,
    work: Uploading,
    sent: u64,
    offset: usize,
    size: usize,
    end: End,
    key: Option<KeyOf>,
    destroyed: bool,
}

fn open_house(clock: &VirtualClock, seed: u64) -> (House, Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let inside = runtime.enter();
    let house = house_over(clock, Arc::new(SeededEntropy::new(seed)));
    drop(inside);
    (house, runtime)
}

fn content(offset: usize, size: usize) -> Bytes {
    PATTERN.slice(offset..offset + size)
}

impl Day {
    fn new() -> Self {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_millis(1_800_000_012_345)));
        let (house, runtime) = open_house(&clock, 1);
        Self {
            deliveries: Vec::new(),
            uploads: Vec::new(),
            house,
            runtime,
            clock,
            seed: 1,
            files: Vec::new(),
            origins: Vec::new(),
            runs: Vec::new(),
            lost: Vec::new(),
            buckets: Buckets::default(),
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// Where the next file's bytes begin: no two files begin alike.
    fn offset(&self) -> usize {
        (self.files.len() + self.uploads.len() + self.lost.len()) * 61 % 4096
    }

    fn live(&self, index: &Index) -> Option<usize> {
        let live: Vec<usize> =
            (0..self.files.len()).filter(|at| self.files[*at].over.is_none()).collect();
        (!live.is_empty()).then(|| *index.get(&live))
    }

    fn find(&self, at: usize) -> Option<Arc<LiveFile>> {
        self.house.pipeline.find(self.files[at].id, tenant())
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Put { size, ttl, downloads } => {
                let upload = self.begin(*size, *ttl, *downloads);
                self.finish(upload, *downloads);
            }
            Op::Begin { size, ttl } => {
                let upload = self.begin(*size, *ttl, None);
                self.uploads.push(upload);
            }
            Op::Finish(index) if !self.uploads.is_empty() => {
                let upload = self.uploads.swap_remove(index.index(self.uploads.len()));
                self.finish(upload, None);
            }
            Op::Abandon(index) if !self.uploads.is_empty() => {
                let upload = self.uploads.swap_remove(index.index(self.uploads.len()));
                self.abandon(upload);
            }
            Op::Run { size, whole } => self.run(*size, *whole),
            Op::Work { file, consume } => self.work(file, *consume),
            Op::Read { file, from, continued, pieces, keep } => {
                if let Some(at) = self.live(file) {
                    self.read(at, *from, *continued, *pieces, *keep);
                }
            }
            Op::Pull(index) if !self.deliveries.is_empty() => {
                let mut held = self.deliveries.swap_remove(index.index(self.deliveries.len()));
                match self.pull(&mut held) {
                    true => self.deliveries.push(held),
                    false => self.close(held),
                }
            }
            Op::Close(index) if !self.deliveries.is_empty() => {
                let held = self.deliveries.swap_remove(index.index(self.deliveries.len()));
                self.close(held);
            }
            Op::Shorten { file, ttl } => self.shorten(file, *ttl),
            Op::Delete(index) => {
                if let Some(at) = self.live(index) {
                    let file = self.find(at).unwrap();
                    let receipt = self.house.pipeline.delete(&file).unwrap();
                    assert_eq!(receipt.destroyed.unwrap().reason(), Reason::Deleted);
                    self.files[at].over = Some(Reason::Deleted);
                }
            }
            Op::Advance { by, sweep } => self.advance(by, *sweep),
            Op::Step { hours, sweep } => self.step(*hours, *sweep),
            Op::Sweep => self.sweep(),
            Op::Crash => self.crash(),
            Op::Fault { call, times } => self.faults()[*call].store(*times, Ordering::Relaxed),
            Op::Finish(_) | Op::Abandon(_) | Op::Pull(_) | Op::Close(_) => {}
        }
    }

    fn faults(&self) -> [&std::sync::atomic::AtomicU32; 5] {
        let Faults { begins, appends, commits, reads, deletes } = &self.house.faults;
        [begins, appends, commits, reads, deletes]
    }

    /// Whether the next write, or the next read, meets a store that fails.
    fn fails(&self, reading: bool) -> bool {
        let faults = self.faults();
        let met = if reading { &faults[3..4] } else { &faults[..3] };
        met.iter().any(|left| left.load(Ordering::Relaxed) > 0)
    }

    fn begin(&mut self, size: usize, ttl: u64, downloads: Option<u64>) -> Slow {
        let (mut end, bucket) = End::promised(self.now(), ttl);
        let key = self.buckets.admit(bucket, &mut end, self.clock.now());
        let (rest, bytes) = mpsc::unbounded_channel::<Bytes>();
        let input = stream::unfold(bytes, |mut bytes| async {
            bytes.recv().await.map(|frame| (Ok(frame), bytes))
        });
        let upload = Upload {
            input: Box::pin(input),
            declared: None,
            name: Some("planted".to_owned()),
            declared_type: None,
            downloads,
            digester: Digester::default(),
        };
        let (pipeline, terms) = (self.house.pipeline.clone(), self.house.terms(ttl));
        let mut work: Uploading = Box::pin(async move {
            let sealed = pipeline.seal(tenant(), &terms, upload).await?;
            pipeline.publish(sealed)
        });
        let (offset, sent) = (self.offset(), size.min(10));
        rest.send(content(offset, sent)).unwrap();
        let inside = self.runtime.enter();
        assert!(work.as_mut().now_or_never().is_none(), "it waits for its bytes");
        drop(inside);
        Slow { rest, work, sent: sent as u64, offset, size, end, key, destroyed: false }
    }

    fn finish(&mut self, upload: Slow, downloads: Option<u64>) {
        let (now, fails) = (self.now(), self.fails(false));
        let Slow { rest, work, sent, offset, size, end, key, destroyed } = upload;
        for frame in content(offset, size).slice(sent as usize..).chunks(60_000) {
            rest.send(Bytes::copy_from_slice(frame)).unwrap();
        }
        drop(rest);
        let done = self.runtime.block_on(work);
        let lives = !destroyed && !end.is_due(now) && self.buckets.hold(key);
        if !destroyed && end.is_due(now) {
            self.notice(key);
        }
        let Ok(file) = done else {
            assert!(!lives || fails, "an upload failed for no reason: {:?}", done.err());
            return;
        };
        assert!(lives && !fails, "an upload should have failed");
        self.origins.push((file.origin.clone(), file.segments.clone()));
        self.files.push(Known {
            id: file.id,
            offset,
            size: size as u64,
            end,
            first: end,
            key,
            counted: downloads.map(Counted::new),
            token: None,
            over: None,
        });
    }

    fn abandon(&mut self, upload: Slow) {
        let due = upload.end.is_due(self.now()) && !upload.destroyed;
        let key = upload.key;
        drop(upload);
        if due {
            self.notice(key);
        }
    }

    /// Whoever ends something that is due has all buckets swept, unless its own has ended before.
    fn notice(&mut self, key: Option<KeyOf>) {
        if self.buckets.hold(key) {
            self.buckets.sweep(self.clock.now());
        }
    }

    fn run(&mut self, size: usize, whole: bool) {
        let (mut end, bucket) = End::promised(self.now(), 3600);
        self.buckets.admit(bucket, &mut end, self.clock.now());
        let mut registry = Registry::default();
        registry.add(Arc::new(Echo::default()));
        let plan = registry.parse("echo").unwrap().prepare(&[], None).unwrap();
        let bytes = content(self.offset(), size);
        let input = Box::pin(stream::iter([Ok(bytes.clone())]));
        let job = Run { input, digester: Digester::default(), plan, steps: Vec::new() };
        let terms = self.house.terms(3600);
        let run = self.house.pipeline.run(tenant(), &terms, job);
        let id = self.runtime.block_on(async {
            let mut ran = run.await.unwrap();
            while whole && let Some(frame) = ran.body.next().await {
                assert!(frame.unwrap() == bytes);
            }
            ran.id
        });
        self.runs.push((id, if whole { Reason::Consumed } else { Reason::Cancelled }));
    }

    fn work(&mut self, index: &Index, consume: bool) {
        let Some(at) = self.live(index) else { return };
        let (now, source) = (self.now(), self.find(at).unwrap());
        let known = &self.files[at];
        let (offset, size, first) = (known.offset, known.size, known.first);
        let due = (size == 0 || !self.fails(true)) && !self.fails(false);
        let (source_end, bucket) = (known.end, known.key.map(|(bucket, _)| bucket));
        let mut end = first;
        let key = self.buckets.admit(bucket, &mut end, now);
        let own = end;
        end.no_later_than_source(source_end, first, now);
        let mut registry = Registry::default();
        registry.add(Arc::new(Echo::default()));
        let steps = registry.parse("echo").unwrap();
        let order = Order {
            sources: vec![source],
            pulls: Vec::new(),
            deliver: None,
            recipe: crate::process::Recipe::new(steps, Vec::new(), None).unwrap(),
            ttl: None,
            consume,
            webhook: None,
            always_digest: false,
        };
        let (pipeline, terms) = (self.house.pipeline.clone(), self.house.terms(3600));
        let job = self.runtime.block_on(async {
            let job = pipeline.submit(tenant(), &terms, order).unwrap();
            pipeline.jobs_are_over().await;
            job
        });
        let succeeded = job.board.state() == crate::job::State::Succeeded;
        assert_eq!(succeeded, due, "{:?}", job.failure.get());
        if !succeeded {
            return;
        }
        if consume {
            self.files[at].over = Some(Reason::Consumed);
        }
        let output = pipeline.outputs(&job).pop().unwrap();
        self.origins.push((output.origin.clone(), output.segments.clone()));
        let (id, counted, token, over) = (output.id, None, None, None);
        let first = own;
        let made = Known { id, offset, size, end, first, key, counted, token, over };
        self.files.push(made);
    }

    fn read(&mut self, at: usize, from: u64, continued: bool, pieces: usize, keep: bool) {
        let (now, file) = (self.now(), self.find(at).unwrap());
        let known = &mut self.files[at];
        let range = known.size * from / 64..known.size;
        let token = known.token.clone().filter(|_| continued);
        let goes_on = match (&mut known.counted, &token) {
            (Some(counted), Some(token)) => counted.continues(token, now),
            _ => false,
        };
        let none_left = known.counted.as_ref().is_some_and(|counted| counted.left == 0);
        let delivery = self.house.pipeline.deliver(&file, range.clone(), token.as_deref());
        if none_left && !goes_on {
            assert_eq!(delivery.err(), Some(PipelineError::Downloaded));
            return;
        }
        let (body, given) = delivery.unwrap();
        assert_eq!(given.is_some(), known.counted.is_some());
        if let (Some(counted), Some(given)) = (&mut known.counted, &given) {
            match goes_on {
                true => assert_eq!(Some(given), token.as_ref()),
                false => counted.begin(given.clone()),
            }
        }
        known.token = given.clone().or(known.token.take());
        let came = match (range.is_empty(), goes_on) {
            (true, _) => Came::Whole,
            (false, true) => Came::Back,
            (false, false) => Came::Nowhere,
        };
        let claim = given.map(|token| (token, came));
        let mut held = Held { file: at, body, at: range.start, begun: false, claim };
        for _ in 0..pieces {
            if !self.pull(&mut held) {
                return self.close(held);
            }
        }
        if keep { self.deliveries.push(held) } else { self.close(held) }
    }

    /// Takes one piece; says whether there may be another.
    fn pull(&mut self, held: &mut Held) -> bool {
        let (now, fails) = (self.now(), self.fails(true));
        let known = &mut self.files[held.file];
        let next = self.runtime.block_on(held.body.next());
        if known.over.is_some() {
            assert_eq!(next, Some(Err(BodyError::Gone)), "a piece after the end");
            return false;
        }
        if held.at == known.size {
            assert_eq!(next, None);
            return false;
        }
        let Some(Ok(bytes)) = next else {
            assert!(fails, "a delivery broke for no reason: {next:?}");
            return false;
        };
        assert!(!fails && !known.end.is_due(now), "a piece that should not be");
        assert!(bytes == content(known.offset + held.at as usize, bytes.len()), "wrong bytes");
        held.at += bytes.len() as u64;
        held.begun = true;
        if let (Some(counted), Some((token, came))) = (&mut known.counted, &mut held.claim) {
            counted.spend(token);
            *came = if held.at == known.size { Came::Whole } else { Came::Partly };
        }
        true
    }

    fn close(&mut self, held: Held) {
        let (now, Held { file, body, claim, .. }) = (self.now(), held);
        let inside = self.runtime.enter();
        drop(body);
        drop(inside);
        if let (Some(counted), Some((token, came))) = (&mut self.files[file].counted, claim) {
            counted.settle(&token, came, now);
        }
    }

    fn shorten(&mut self, index: &Index, ttl: u64) {
        let Some(at) = self.live(index) else { return };
        let file = self.find(at).unwrap();
        self.house.pipeline.shorten(&file, Duration::from_secs(ttl)).unwrap();
        let now = self.now();
        self.files[at].end.shorten(now, ttl);
    }

    fn advance(&mut self, by: &By, sweep: bool) {
        let span = match by {
            By::Millis(millis) => Duration::from_millis(*millis),
            By::End { file, before } => {
                let Some(at) = self.live(file) else { return };
                let left = self.files[at].end.left(self.now());
                left.saturating_sub(Duration::from_millis(u64::from(*before)))
            }
        };
        self.clock.advance(span);
        self.nothing_due_opens();
        if sweep {
            self.sweep();
        }
    }

    fn step(&mut self, hours: i64, sweep: bool) {
        let now = self.now().wall.since_epoch();
        let span = Duration::from_hours(hours.unsigned_abs());
        self.clock.step_wall(Wall::from_unix(if hours > 0 { now + span } else { now - span }));
        self.nothing_due_opens();
        if sweep {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let now = self.now();
        self.runtime.block_on(self.house.pipeline.sweep());
        self.buckets.sweep(now);
        for upload in &mut self.uploads {
            upload.destroyed |= upload.end.is_due(now) || !self.buckets.hold(upload.key);
        }
        for file in self.files.iter_mut().filter(|file| file.over.is_none()) {
            let over = file.end.is_due(now) || !self.buckets.hold(file.key);
            file.over = over.then_some(Reason::Expired);
        }
    }

    /// The process dies: all that is left is the clock, and what clients remember.
    fn crash(&mut self) {
        let inside = self.runtime.enter();
        self.deliveries.clear();
        self.uploads.clear();
        drop(inside);
        self.seed += 1;
        (self.house, self.runtime) = open_house(&self.clock, self.seed);
        self.origins.clear();
        self.buckets = Buckets::default();
        self.lost.extend(self.files.drain(..).map(|file| file.id));
        self.lost.extend(self.runs.drain(..).map(|(id, _)| id));
    }

    /// Opens a file as whoever got past every check of the table would.
    fn steal(&self, at: usize) -> Result<Bytes, BodyError> {
        let (origin, segments) = &self.origins[at];
        let end = self.files[at].size;
        let mut body = self.house.vault.open(origin, segments, end.saturating_sub(5000)..end);
        self.runtime.block_on(async {
            let mut all = Vec::new();
            while let Some(piece) = body.next().await {
                all.extend_from_slice(&piece?);
            }
            Ok(all.into())
        })
    }

    /// Before anybody has noticed that time is over.
    fn nothing_due_opens(&self) {
        let faults = self.faults()[3].swap(0, Ordering::Relaxed);
        for (at, file) in self.files.iter().enumerate() {
            let over = file.end.is_due(self.now()) || !self.buckets.hold(file.key);
            if file.size > 0 && (file.over.is_some() || over) {
                assert!(self.steal(at).is_err(), "{}: opened after its end", file.id);
            }
        }
        self.faults()[3].store(faults, Ordering::Relaxed);
    }

    /// House and model agree on everything.
    fn compare(&mut self) {
        self.nothing_due_opens();
        let faults = self.faults()[3].swap(0, Ordering::Relaxed);
        for at in 0..self.files.len() {
            self.compare_file(at);
        }
        self.faults()[3].store(faults, Ordering::Relaxed);
        for (id, reason) in &self.runs {
            assert!(self.house.pipeline.find(*id, tenant()).is_none(), "a run is no file");
            let receipt = self.house.pipeline.receipt(*id, tenant()).unwrap();
            assert_eq!(receipt.destroyed.unwrap().reason(), *reason);
        }
        for id in &self.lost {
            assert!(self.house.pipeline.find(*id, tenant()).is_none(), "a file from before");
            assert!(self.house.pipeline.receipt(*id, tenant()).is_none());
        }
        self.compare_sums();
        // Tasks get their turn: the cleaner, and whoever waits for a broken delivery.
        self.runtime.block_on(async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        });
    }

    fn compare_file(&mut self, at: usize) {
        let (now, found) = (self.now(), self.find(at));
        let known = &self.files[at];
        let (due, key) = (known.end.is_due(now), known.key);
        // Or its bucket ended while a clock was ahead, which has been set back since.
        let over = due || !self.buckets.hold(key);
        if known.over.is_none() && over {
            if due {
                self.notice(key);
            }
            self.files[at].over = Some(Reason::Expired);
        }
        let known = &mut self.files[at];
        let spent = known.counted.as_ref().is_some_and(|counted| counted.are_spent(now));
        if known.over.is_none() && spent {
            known.over = Some(Reason::Downloaded);
        }
        let known = &self.files[at];
        let receipt = self.house.pipeline.receipt(known.id, tenant()).unwrap();
        assert_eq!(receipt.expires_at, known.end.wall, "the receipt's end");
        let proof = receipt.destroyed;
        assert_eq!(proof.as_ref().map(|proof| proof.reason()), known.over, "{}", known.id);
        if let Some(proof) = proof {
            assert!(found.is_none(), "found after its end");
            assert!(known.size == 0 || self.steal(at).is_err(), "opened after its end");
            let epoch = proof.keys().iter().any(|(kind, _)| kind.as_str() == "epoch");
            let held = known.key.is_some() && self.buckets.hold(known.key);
            assert!(!epoch || (known.key.is_some() && !held), "a receipt buries a key that lives");
            return;
        }
        let file = found.expect("a file that should live");
        assert_eq!(file.expires_at(), known.end.wall);
        assert_eq!(file.claims.as_ref().map(Claims::left), known.counted.as_ref().map(|c| c.left));
        assert!(self.house.pipeline.record(&file).is_ok(), "the record");
        if known.size > 0 {
            let tail = known.size.saturating_sub(5000) as usize..known.size as usize;
            let expected = content(known.offset + tail.start, tail.len());
            let bytes = self.steal(at).expect("what is known opens");
            assert!(bytes == expected, "wrong bytes");
        }
    }

    fn compare_sums(&self) {
        let live = || self.files.iter().filter(|file| file.over.is_none());
        let census = self.house.pipeline.census();
        assert_eq!((census.files, census.overdue), (live().count() as u64, 0));
        assert_eq!(census.bytes, live().map(|file| file.size).sum::<u64>());
        let held = |at: usize| self.deliveries.iter().any(|held| held.file == at);
        let kept = (0..self.files.len()).filter(|at| self.files[*at].over.is_none() || held(*at));
        let kept: u64 = kept.map(|at| self.files[at].size).sum();
        let arriving: u64 = self.uploads.iter().map(|upload| upload.sent).sum();
        assert_eq!(self.house.pipeline.quotas.used(tenant()), kept + arriving, "quota");
        let arriving = self.uploads.iter().filter(|upload| !upload.destroyed).count();
        assert_eq!(self.house.keys.epochs_held().all(), self.buckets.count(), "epoch keys");
        let secrets = live().count() + arriving + self.buckets.count();
        assert_eq!(self.house.keys.secrets_held(), secrets, "secrets");
    }

    /// Everybody goes home, and nothing is left.
    fn end(mut self) {
        while let Some(held) = self.deliveries.pop() {
            self.close(held);
        }
        while let Some(upload) = self.uploads.pop() {
            self.abandon(upload);
        }
        self.compare();
        for at in 0..self.files.len() {
            if let Some(file) = self.find(at) {
                self.house.pipeline.delete(&file);
            }
        }
        self.house.pipeline.jobs.clear();
        self.runtime.block_on(self.house.is_empty());
        for file in &self.files {
            let receipt = self.house.pipeline.receipt(file.id, tenant()).unwrap();
            assert_eq!(receipt.blobs, [("memory", Answer::Deleted)]);
        }
    }
}

/// A step that hands on what it gets.
struct Echo(Description);

impl Default for Echo {
    fn default() -> Self {
        let (name, options) = ("echo".to_owned(), serde_json::Value::Null);
        Self(Description { name, media_types: Vec::new(), options })
    }
}

#[async_trait::async_trait]
impl Step for Echo {
    fn streams(&self) -> bool {
        true
    }

    async fn run(self: Box<Self>, body: StepStream) -> Result<Output, ProcessError> {
        Ok(Output { media_type: "application/octet-stream", body })
    }
}

impl Processor for Echo {
    fn describe(&self) -> &Description {
        &self.0
    }

    fn prepare(&self, _: &Options) -> Result<Box<dyn Step>, ProcessError> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a test runs is no setting of the gateway")]
fn days() -> u32 {
    match std::env::var("DAYFLY_TIER").as_deref() {
        Ok("long") => 100_000,
        _ => 2000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: days(), ..ProptestConfig::default() })]

    #[test]
    fn no_day_differs_from_the_model(ops in ops()) {
        let mut day = Day::new();
        for op in &ops {
            day.act(op);
            day.compare();
        }
        day.end();
    }
}
