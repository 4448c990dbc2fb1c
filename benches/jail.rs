//! What the jail costs: the text of a 1 MiB file read by a worker, and read here, in turns.
//!
//! `cargo bench --bench jail`. Ends with status 1 if the difference of the medians is over 3 ms.
//! A request that finds no worker waiting pays for its start too: that is measured apart.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement tells its figures")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dayfly::body::Pool;
use dayfly::budget::Budget;
use dayfly::clock::{Clock, SystemClock};
use dayfly::jail::{Jail, Limits, Zygote};
use dayfly::process::{DocumentRoom, Registry, unjailed};
use dayfly::tasks::Tasks;
use futures_util::{StreamExt, stream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_dayfly");
const ROUNDS: usize = 200;
const MOST: Duration = Duration::from_millis(3);

fn main() -> ExitCode {
    let zygote = Zygote::start(Path::new(PROGRAM)).unwrap();
    let walls = zygote.examine().unwrap().walls;
    println!("walls: {walls:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let cost = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let workers = NonZeroUsize::new(2).unwrap();
        let jail = Jail::new(zygote, workers, walls, Tasks::default(), clock.clone()).unwrap();
        let room = DocumentRoom {
            jail: Arc::new(jail),
            pool: Pool::new(Budget::of(64 << 20), 256 << 10),
            clock,
            limits: Limits::default(),
            max_document: 64 << 20,
        };
        measure(&room).await
    });
    println!("the jail costs {} at the median", shown(cost));
    if cost > MOST { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn measure(room: &DocumentRoom) -> Duration {
    let words = b"The quick brown fox jumps over the lazy dog. It is, perhaps, a text.\n";
    let document = Bytes::from(words.repeat((1 << 20) / words.len()));
    let expected = unjailed("text", &[], &document).unwrap();
    let registry = Registry::built_in(room);
    let (mut jailed, mut here, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = room.clock.now().boot;
        let plan = registry.parse("text").unwrap().prepare(&[], None).unwrap();
        let step = plan.into_steps().pop().unwrap();
        let pieces: Vec<_> = (0..document.len())
            .step_by(256 << 10)
            .map(|at| Ok(document.slice(at..(at + (256 << 10)).min(document.len()))))
            .collect();
        let mut body = step.run(Box::pin(stream::iter(pieces))).await.unwrap().body;
        let mut length = 0;
        while let Some(bytes) = body.next().await {
            length += bytes.unwrap().len();
        }
        jailed.push(room.clock.now().boot.since(began));
        assert_eq!(length, expected.len());
        drop(body);

        let began = room.clock.now().boot;
        let text = unjailed("text", &[], std::hint::black_box(&document)).unwrap();
        here.push(room.clock.now().boot.since(began));
        assert_eq!(text.len(), expected.len());

        // Time for the next worker to be started.
        room.clock.sleep(Duration::from_millis(40)).await;
    }
    for round in 0..ROUNDS / 4 {
        // Limits that nobody else has: no worker waits for these.
        let odd = Limits { cpu: Duration::from_secs(31 + round as u64), ..room.limits };
        let began = room.clock.now().boot;
        drop(room.jail.spawn(&odd).await.unwrap());
        starts.push(room.clock.now().boot.since(began));
        room.clock.sleep(Duration::from_millis(40)).await;
    }
    let (jailed, here, starts) = (Figures::of(jailed), Figures::of(here), Figures::of(starts));
    println!("text of 1 MiB, {ROUNDS} times   median      90 %");
    for (name, figures) in [("in the jail", &jailed), ("here", &here), ("a cold start", &starts)] {
        println!("{name:<24} {:>9} {:>9}", shown(figures.median), shown(figures.most));
    }
    jailed.median.saturating_sub(here.median)
}

struct Figures {
    median: Duration,
    most: Duration,
}

impl Figures {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { median: times[times.len() / 2], most: times[times.len() * 9 / 10] }
    }
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
