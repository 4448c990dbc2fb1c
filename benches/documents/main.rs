//! Document steps beside the tools people start for each file: the same files, turn by turn.
//!
//! The gateway runs as users run it, over sockets on loopback with a few kept connections; the
//! tool is started once a file, one at a time and as many at once as there are connections.
//! `cargo bench --bench documents -- text` runs one part. Ends with status 1 below a promise.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a program beside the gateway: it starts servers and tools, and measures from outside"
)]

mod gateway;
mod text;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use gateway::Gateway;

/// Connections that are kept open, and tools at once in the second comparison.
pub const AT_ONCE: usize = 2;

/// How often each side runs; the median counts.
const ROUNDS: usize = 3;

fn main() -> Result<ExitCode> {
    let mut wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if wanted.is_empty() {
        wanted.push("text".to_owned());
    }
    let mut kept = true;
    for part in wanted {
        kept &= match part.as_str() {
            "text" => text::run()?,
            _ => bail!("unknown part {part}: text"),
        };
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One side of a comparison, with its name.
pub struct Side<'a> {
    pub name: &'a str,
    pub run: &'a dyn Fn() -> Result<()>,
}

/// Runs our side and theirs in turns and prints the medians; true if ours is `promise` times as
/// fast as the first of theirs.
///
/// # Errors
/// When a run fails.
pub fn compare(
    what: &str,
    files: usize,
    promise: f64,
    ours: &Side,
    theirs: &[Side],
) -> Result<bool> {
    let all: Vec<&Side> = std::iter::once(ours).chain(theirs).collect();
    let mut times = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for (side, times) in all.iter().zip(&mut times) {
            let began = Instant::now();
            (side.run)()?;
            times.push(began.elapsed());
        }
    }
    println!("{what}");
    let medians: Vec<Duration> = times.iter_mut().map(|times| median(times)).collect();
    for (side, time) in all.iter().zip(&medians) {
        let each = time.as_secs_f64() * 1000.0 / files as f64;
        let ratio = time.as_secs_f64() / medians[0].as_secs_f64();
        println!("  {:<34} {time:>9.2?}  {each:>7.2} ms a file  {ratio:>6.2}", side.name);
    }
    let ratio = medians[1].as_secs_f64() / medians[0].as_secs_f64();
    println!("  promised {promise} times, measured {ratio:.2}");
    Ok(ratio >= promise)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Runs `each` over all files on `AT_ONCE` threads, each with a connection of its own.
///
/// # Errors
/// The first that occurs.
pub fn through(
    gateway: &Gateway,
    path: &str,
    files: &[Vec<u8>],
    check: &(dyn Fn(usize, &[u8]) -> Result<()> + Sync),
) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|first| {
                scope.spawn(move || {
                    let mut connection = gateway.connect()?;
                    for at in (first..files.len()).step_by(AT_ONCE) {
                        check(at, &connection.post(path, &files[at])?)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}
