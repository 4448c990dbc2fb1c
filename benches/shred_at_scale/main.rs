//! Two hundred thousand files with one deadline: unreadable at once, cleaned up behind everybody's
//! back, and what the clean-up costs whoever reads meanwhile.
//!
//! The stages run in this process over memory alone, on a clock moved by hand: the deadline comes
//! when all files are in. `shred_at_scale [FILES]`; fewer files need less locked memory, and less
//! of the other kind (200 000 take about 1 GiB).

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures: time is what the machine's clock says"
)]

mod house;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dayfly::secret::Slab;
use dayfly::table::LiveFile;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use house::House;

const FILES: usize = 200_000;
/// Files that live on, and are read from before, during and after.
const READ: usize = 200;
/// Files of those that die which are tried at the moment their epoch key is gone.
const TRIED: usize = 1000;
/// How long reads are measured before the deadline.
const BEFORE: Duration = Duration::from_secs(3);
/// Between two reads of one reader: readers that never rest measure themselves.
const PAUSE: Duration = Duration::from_millis(2);
const READERS: usize = 2;
const FILE_BYTES: usize = 300;
/// Room for other keys than those of files: the epochs' own.
const SPARE: usize = 16;
/// What a slab of the largest size wants.
const LOCKED_BYTES: u64 = 64 << 20;
const TTL: Duration = Duration::from_secs(1800);
const LONGER: Duration = Duration::from_secs(3600);

fn main() -> Result<()> {
    // `cargo test` and `cargo bench` hand over words that start with a dash.
    let given = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let wanted = given.map_or(Ok(FILES), |word| word.parse()).context("how many files?")?;
    let slab = slab()?;
    let room = slab.capacity();
    println!("locked pages      {} with room for {room} secrets", slab.kind().as_str());
    let files = wanted.min(room.saturating_sub(READ + SPARE));
    if files < wanted {
        println!(
            "NOT {wanted} files: RLIMIT_MEMLOCK leaves room for {files}, and may not be raised"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(files, slab))
}

/// As many locked pages as may be had.
fn slab() -> Result<Slab> {
    let limit = Rlimit { current: Some(LOCKED_BYTES), maximum: Some(LOCKED_BYTES) };
    if setrlimit(Resource::Memlock, limit).is_err() {
        let most = getrlimit(Resource::Memlock).maximum;
        // Where even this is refused, the room for secrets will tell.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: most, maximum: most });
    }
    Ok(Slab::lock()?)
}

async fn measure(files: usize, slab: Slab) -> Result<()> {
    let house = Arc::new(House::new(slab)?);
    let start = Instant::now();
    let mut dying = Vec::with_capacity(files.min(TRIED));
    for at in 0..files {
        let file = house.put(TTL, FILE_BYTES).await?;
        if at % (files / TRIED).max(1) == 0 {
            dying.push(file);
        }
    }
    let mut living = Vec::with_capacity(READ);
    for _ in 0..READ {
        living.push(house.put(LONGER, FILE_BYTES).await?);
    }
    println!("{files} files taken in {:.1?}", start.elapsed());
    let end = dying[0].expires_at();
    ensure!(dying.iter().all(|file| file.expires_at() == end), "one deadline");
    for file in dying.iter().take(10) {
        ensure!(house.read(file).await.is_ok(), "it lives before its deadline");
    }

    let before = Readers::start(&house, &living);
    tokio::time::sleep(BEFORE).await;
    let before = before.end().await?;

    house.come_to(end);
    let during = Readers::start(&house, &living);
    let start = Instant::now();
    let sweeping = tokio::spawn({
        let house = house.clone();
        async move { house.pipeline.sweep().await }
    });
    while house.keys.epochs_held().all() > 1 {
        std::hint::spin_loop();
    }
    let dead = start.elapsed();
    for file in &dying {
        ensure!(house.keys.input_key(&file.origin.keys).is_err(), "a file outlived its epoch");
        ensure!(house.read(file).await.is_err(), "a file outlived its epoch");
    }
    let tried = start.elapsed();
    sweeping.await?;
    let destroyed = start.elapsed();
    let left = house.pipeline.pending_deletes();
    while house.pipeline.pending_deletes() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let cleaned = start.elapsed();
    let during = during.end().await?;
    drop(dying);
    ensure!(house.pipeline.census().files == READ as u64, "the others live on");
    ensure!(house.vault.usage().blobs == READ as u64, "no byte of a dead file is left");

    println!("epoch key dead    {dead:.1?} after the deadline: all are unreadable");
    println!("a sample of {:<5} was tried, none opened: {tried:.1?}", TRIED.min(files));
    println!("last secret dead  {destroyed:.1?} ({left} blobs still to be released)");
    println!("last byte freed   {cleaned:.1?}");
    before.print("reads before");
    during.print("reads during");
    let (one, other) = (before.percentile(99.0), during.percentile(99.0));
    println!("p99 during/before {:.2}", other.as_secs_f64() / one.as_secs_f64());
    Ok(())
}

/// Readers under way.
struct Readers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Result<Vec<Duration>>>>,
}

/// What they measured, in order of length.
struct Times(Vec<Duration>);

impl Readers {
    fn start(house: &Arc<House>, files: &[Arc<LiveFile>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |first: usize| {
            let (house, files, stop) = (house.clone(), files.to_vec(), stop.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for file in files.iter().cycle().skip(first) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let start = Instant::now();
                    house.read(file).await?;
                    times.push(start.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(times)
            })
        };
        let tasks = (0..READERS).map(task).collect();
        Self { stop, tasks }
    }

    async fn end(self) -> Result<Times> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await??);
        }
        all.sort_unstable();
        ensure!(!all.is_empty(), "the readers never came to read");
        Ok(Times(all))
    }
}

impl Times {
    fn percentile(&self, percent: f64) -> Duration {
        let at = (self.0.len() as f64 * percent / 100.0) as usize;
        self.0[at.min(self.0.len() - 1)]
    }

    fn print(&self, what: &str) {
        let (median, most) = (self.percentile(50.0), self.percentile(100.0));
        let p99 = self.percentile(99.0);
        let count = self.0.len();
        println!("{what:<17} p50 {median:.1?}  p99 {p99:.1?}  longest {most:.1?}  of {count}");
    }
}
