//! More than it can carry: ten times the clients in a small memory, and 2 000 that dawdle.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::load::{Connection, Pattern, Target, delete_all, upload_many};
use crate::server::Server;

const MIB: u64 = 1 << 20;
/// What many clients saw together.
#[derive(Default)]
struct Seen {
    served: usize,
    /// From the first byte of a request that was refused to the last of its answer.
    refused: Vec<Duration>,
    slowest: Duration,
    took: Duration,
}

impl Seen {
    fn per_second(&self) -> f64 {
        self.served as f64 / self.took.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.served += other.served;
        self.refused.extend(other.refused);
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Both measurements, on gateways of their own.
pub fn run(under: &Path, program: &Path, quick: bool) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let span = Duration::from_secs(if quick { 1 } else { 5 });
    for (what, bytes) in [("1 MiB", MIB), ("4 KiB", 4096)] {
        let server = Server::limited(under, program, "memory = \"16MiB\"\n")?;
        shed(&server, what, bytes, span)?;
    }
    let server = Server::limited(under, program, "header_timeout = \"60s\"\n")?;
    crowd(&server, if quick { 200 } else { 2000 })
}

/// Goodput at its peak and with ten times as many clients, and how soon the others are refused.
fn shed(server: &Server, what: &str, bytes: u64, span: Duration) -> Result<()> {
    let target = server.target();
    press(&target, 16, bytes, span / 4)?;
    let mut peak: Option<(usize, f64)> = None;
    for clients in [4, 8, 16, 32] {
        let rate = press(&target, clients, bytes, span / 2)?.per_second();
        if peak.is_none_or(|(_, best)| rate > best) {
            peak = Some((clients, rate));
        }
    }
    let (clients, peak) = peak.context("four rounds")?;
    let (clients, before) = (clients * 10, server.begin_measure());
    let mut beyond = press(&target, clients, bytes, span)?;
    let (cpu, rss) = server.end_measure(before);
    beyond.refused.sort();
    let late = beyond.refused.get(beyond.refused.len() * 99 / 100);
    println!(
        "{what} uploads in 16 MiB: {peak:.0}/s by {} clients; {:.0}/s (x {:.2}) by {clients}, {} \
         refused, 99 % within {:.0?}, slowest answer {:.0?}; CPU {cpu:.1?}, RSS {:.1} MiB over idle",
        clients / 10,
        beyond.per_second(),
        beyond.per_second() / peak,
        beyond.refused.len(),
        late.copied().unwrap_or_default(),
        beyond.slowest,
        rss.saturating_sub(server.idle_rss()) as f64 / MIB as f64,
    );
    Ok(())
}

/// Uploads and deletes without a pause by so many clients at once, refused or not.
fn press(target: &Target, clients: usize, bytes: u64, span: Duration) -> Result<Seen> {
    let (over, pattern, began) = (AtomicBool::new(false), Pattern::new(), Instant::now());
    let one = || {
        let (mut seen, mut open) = (Seen::default(), None);
        while !over.load(Ordering::Relaxed) {
            let mut connection = match open.take() {
                Some(connection) => connection,
                None => Connection::open(target)?,
            };
            let asked = Instant::now();
            let attempt = connection.attempt(bytes, &pattern)?;
            let took = asked.elapsed();
            seen.slowest = seen.slowest.max(took);
            if let Some(stored) = attempt.stored {
                seen.served += 1;
                connection.delete(&stored)?;
                open = Some(connection);
                continue;
            }
            ensure!([429, 503].contains(&attempt.status), "an upload got {}", attempt.status);
            ensure!(attempt.retry_after, "no Retry-After");
            seen.refused.push(took);
        }
        Ok(seen)
    };
    let mut all = Seen::default();
    thread::scope(|scope| {
        let running: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        thread::sleep(span);
        over.store(true, Ordering::Relaxed);
        all.took = began.elapsed();
        for client in running {
            match client.join() {
                Ok(seen) => all.add(seen?),
                Err(_) => bail!("a client's thread panicked"),
            }
        }
        Ok(())
    })?;
    Ok(all)
}

/// The slowest but one in a hundred of good clients' work, alone and beside many who dawdle.
fn crowd(server: &Server, count: usize) -> Result<()> {
    let target = server.target();
    let large = upload_many(&target, 1, 8 * MIB)?;
    good(&target)?;
    for _ in 0..3 {
        let alone = good(&target)?;
        let slow: Result<Vec<_>> = (0..count).map(|at| dawdle(&target, at, &large[0])).collect();
        let beside = good(&target)?;
        println!(
            "p99 of 4 KiB up, down and deleted: {alone:.2?} alone, {beside:.2?} (x {:.2}) beside \
             {count} slow ones",
            beside.as_secs_f64() / alone.as_secs_f64()
        );
        drop(slow?);
    }
    delete_all(&target, large.iter())
}

fn good(target: &Target) -> Result<Duration> {
    let (mut connection, pattern) = (Connection::open(target)?, Pattern::new());
    let mut took = Vec::new();
    for _ in 0..2000 {
        let began = Instant::now();
        let stored = connection.attempt(4096, &pattern)?.stored.context("taken")?;
        connection.download(&format!("{stored}/content"), &mut |_, _| Ok(()))?;
        connection.delete(&stored)?;
        took.push(began.elapsed());
    }
    took.sort();
    Ok(took[took.len() * 99 / 100])
}

/// Says nothing, half a head, half a body, or reads nothing of an answer.
fn dawdle(target: &Target, at: usize, large: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target.addr)?;
    let headers = &target.headers;
    let said = match at % 4 {
        0 => return Ok(stream),
        1 => "GET /v1/whoami HTTP/1.1\r\nHost: x\r\nA: ".to_owned(),
        2 => format!(
            "POST /v1/files HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 1048576\r\n\r\na little"
        ),
        _ => format!("GET {large} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"),
    };
    stream.write_all(said.as_bytes())?;
    Ok(stream)
}
