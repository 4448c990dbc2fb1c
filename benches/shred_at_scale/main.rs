//! Two hundred thousand files with one deadline: unreadable at once, cleaned up behind everybody's
//! back, receipts signed, and what the clean-up costs whoever reads meanwhile.
//!
//! The stages run in this process over memory alone; deadlines come by a clock that is moved by
//! hand. A read is measured as a client would: from the moment a thread of its own hands it to the
//! runtime until that thread has the answer. Quiet windows and sweeps alternate in one run, a share
//! of the files dying in each, so that a noisy machine disturbs both; then all that are left die at
//! once. `shred_at_scale [FILES]`; fewer files need less locked memory, and less of the other kind
//! (200 000 take about 1 GiB).

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures: time is what the machine's clock says, and its readers are no tasks"
)]

mod house;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use dayfly::secret::Slab;
use dayfly::table::LiveFile;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::runtime::Handle;

use house::House;

const FILES: usize = 200_000;
/// Files that live on, and are read from before, during and after.
const READ: usize = 200;
/// Files of those that die which are tried at the moment their epoch key is gone.
const TRIED: usize = 1000;
/// Sweeps whose reads are held against those of the quiet windows before each.
const ROUNDS: usize = 5;
/// Between two reads of one reader.
const PAUSE: Duration = Duration::from_millis(1);
const READERS: usize = 2;
const FILE_BYTES: usize = 300;
/// Room for other keys than those of files: the epochs' own.
const SPARE: usize = 16;
/// What a slab of the largest size wants, and the ciphers of streams.
const LOCKED_BYTES: u64 = 64 << 20;
const TTL: Duration = Duration::from_secs(1800);
/// Longer than all that the clock is set forward.
const LONGER: Duration = Duration::from_secs(23 * 3600);

fn main() -> Result<()> {
    // `cargo test` and `cargo bench` hand over words that start with a dash.
    let given = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let wanted = given.map_or(Ok(FILES), |word| word.parse()).context("how many files?")?;
    // Where the hard limit may not be raised, the slab takes what it allows.
    let limit = Rlimit { current: Some(LOCKED_BYTES), maximum: Some(LOCKED_BYTES) };
    let raised = setrlimit(Resource::Memlock, limit).is_ok();
    let slab = Slab::lock()?;
    let room = slab.capacity();
    let how = if raised { "raised" } else { "as it was" };
    println!("locked pages      {} for {room} secrets, the limit {how}", slab.kind().as_str());
    let files = wanted.min(room.saturating_sub(READ + SPARE));
    if files < wanted {
        println!("NOT {wanted} files: RLIMIT_MEMLOCK leaves room for {files}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let house = Arc::new({
        let _inside = runtime.enter();
        House::new(slab)?
    });
    runtime.block_on(async {
        let mut living = Vec::with_capacity(READ);
        let end = house.end_in(LONGER);
        for _ in 0..READ {
            living.push(house.put(end, FILE_BYTES).await?);
        }
        rounds(&house, &living, files).await?;
        at_once(&house, &living, files).await
    })
}

/// Takes files in that end together; a sample of them, and the moment.
async fn fill(house: &House, files: usize) -> Result<Vec<Arc<LiveFile>>> {
    let (end, mut sample) = (house.end_in(TTL), Vec::new());
    for at in 0..files {
        let file = house.put(end, FILE_BYTES).await?;
        if at % (files / TRIED).max(1) == 0 {
            sample.push(file);
        }
    }
    ensure!(sample.iter().all(|file| file.expires_at() == end), "one deadline");
    Ok(sample)
}

/// Quiet windows and sweeps in turn.
async fn rounds(house: &Arc<House>, living: &[Arc<LiveFile>], files: usize) -> Result<()> {
    let mut ratios = Vec::new();
    let (mut all_quiet, mut all_busy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let sample = fill(house, files / 2).await?;
        let end = sample[0].expires_at();
        drop(sample);
        let readers = Readers::start(house, living);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let quiet = readers.end()?;
        house.come_to(end);
        let readers = Readers::start(house, living);
        sweep(house).await;
        let busy = readers.end()?;
        ratios.push(busy.percentile(99.0).as_secs_f64() / quiet.percentile(99.0).as_secs_f64());
        all_quiet.extend(quiet.0);
        all_busy.extend(busy.0);
    }
    println!("{ROUNDS} rounds of {} files, each after a quiet second", files / 2);
    Times::of(all_quiet)?.print("reads, quiet");
    Times::of(all_busy)?.print("reads, sweeping");
    let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    println!("p99 sweeping/quiet {} (median {:.2})", each.join(" "), ratios[ROUNDS / 2]);
    Ok(())
}

/// As the sweeper does it, and until the last byte is released and the last receipt is signed.
async fn sweep(house: &Arc<House>) {
    let sweeping = tokio::spawn({
        let house = house.clone();
        async move { house.pipeline.sweep().await }
    });
    let _ = sweeping.await;
    while house.pipeline.pending_deletes() > 0 || house.evidence.unsigned() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// All at once, and by the first request after a sleep.
async fn at_once(house: &Arc<House>, living: &[Arc<LiveFile>], files: usize) -> Result<()> {
    let start = Instant::now();
    let dying = fill(house, files).await?;
    println!("{files} files taken in {:.1?}", start.elapsed());
    for file in dying.iter().take(10) {
        ensure!(house.read(file).await.is_ok(), "it lives before its deadline");
    }
    house.pipeline.wake().await;
    let readers = Readers::start(house, living);
    house.come_to(dying[0].expires_at());
    let start = Instant::now();
    house.pipeline.wake().await;
    let woken = start.elapsed();
    ensure!(house.keys.epochs_held().all() == 1, "the epoch key of the dead is gone");
    for file in &dying {
        ensure!(house.keys.input_key(&file.origin.keys).is_err(), "a file outlived its epoch");
        ensure!(house.read(file).await.is_err(), "a file outlived its epoch");
    }
    let left = house.keys.files_alive() - READ;
    let start = Instant::now();
    sweep(house).await;
    let cleaned = start.elapsed();
    let busy = readers.end()?;
    let tried = dying.len();
    drop(dying);
    ensure!(house.pipeline.census().files == READ as u64, "the others live on");
    ensure!(house.vault.usage().blobs == READ as u64, "no byte of a dead file is left");
    println!("first request     {woken:.1?} after the deadline: no file opens ({tried} tried)");
    println!("{left} more records and blobs forgotten in {cleaned:.1?}");
    busy.print("reads meanwhile");
    Ok(())
}

/// Readers under way, each a thread that hands reads to the runtime.
struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Duration>>>>,
}

/// What they measured, in order of length.
struct Times(Vec<Duration>);

impl Readers {
    fn start(house: &Arc<House>, files: &[Arc<LiveFile>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let runtime = Handle::current();
        let thread = |first: usize| {
            let (house, files, stop) = (house.clone(), files.to_vec(), stop.clone());
            let runtime = runtime.clone();
            std::thread::spawn(move || read(&runtime, &house, &files[first..], &stop))
        };
        let threads = (0..READERS).map(thread).collect();
        Self { stop, threads }
    }

    fn end(self) -> Result<Times> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| anyhow!("a reader panicked"))??);
        }
        Times::of(all)
    }
}

fn read(
    runtime: &Handle,
    house: &Arc<House>,
    files: &[Arc<LiveFile>],
    stop: &AtomicBool,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for file in files.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (house, file) = (house.clone(), file.clone());
        let (answer, answered) = std::sync::mpsc::channel();
        let start = Instant::now();
        runtime.spawn(async move {
            // Nobody waits any more if this fails.
            let _ = answer.send(house.read(&file).await);
        });
        answered.recv().context("the runtime is gone")??;
        times.push(start.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(times)
}

impl Times {
    fn of(mut all: Vec<Duration>) -> Result<Self> {
        all.sort_unstable();
        ensure!(!all.is_empty(), "the readers never came to read");
        Ok(Self(all))
    }

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
