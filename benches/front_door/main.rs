//! Dayfly's front door beside nginx: the same bodies, the same disk, turn by turn.
//!
//! nginx stores what it is sent, Dayfly seals it first, so the ratio is the price of the promise.
//! Both run on loopback with the load generator on the same machine: compare the columns with each
//! other, not with a network. Run `benches/front-door`, which installs nginx where it is missing.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a program beside the gateway: it starts servers and measures them from outside"
)]

mod load;
mod overload;
mod report;
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use load::{Target, download, upload_each, upload_many};
use report::{Run, Scenario};
use server::Server;

const HELP: &str = "\
front_door [--quick] [--only nginx|dayfly | --proof [--before FILE] | --overload]
           [--large | --flat | --pick WORDS] [--pairs N] [--dir DIR] [--dayfly FILE]

  --quick        small bodies, two pairs: shows that everything runs, measures little
  --only NAME    one server alone
  --large        one body of 2 GiB, and sixteen of 1 GiB
  --flat         the same bytes over 1, 4, 16 and 64 connections
  --pick WORDS   the scenarios whose name holds these words
  --overload     ten times the load in a small memory, then 2 000 slow clients; Dayfly alone
  --proof        the price of proof: receipts in memory without a log, beside a log and a state folder
  --before FILE  with --proof: another build for the first column
  --pairs N      how often each scenario runs on each server, at most 50 (5)
  --dir DIR      where both servers keep their files: both on one file system (the build folder's)
  --dayfly FILE  the program to measure (the one cargo has just built)";

/// No run starts later than this after the first.
const LIMIT: Duration = Duration::from_secs(20 * 60);
const MIB: u64 = 1 << 20;

/// Which scenarios are run.
#[derive(Clone, Copy)]
enum Set {
    Usual,
    Large,
    Flat,
    Proof,
}

struct Options {
    quick: bool,
    only: Option<String>,
    proof: bool,
    overload: bool,
    set: Set,
    pick: Option<String>,
    before: Option<PathBuf>,
    pairs: usize,
    dir: PathBuf,
    dayfly: PathBuf,
}

impl Options {
    /// Reads the command line; `None` when it asked for help.
    fn read() -> Result<Option<Self>> {
        let mut options = Self {
            quick: false,
            only: None,
            proof: false,
            overload: false,
            set: Set::Usual,
            pick: None,
            before: None,
            pairs: 0,
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            dayfly: PathBuf::from(env!("CARGO_BIN_EXE_dayfly")),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--quick" => options.quick = true,
                "--only" => options.only = Some(value()?),
                "--proof" => (options.proof, options.set) = (true, Set::Proof),
                "--overload" => options.overload = true,
                "--large" => options.set = Set::Large,
                "--flat" => options.set = Set::Flat,
                "--pick" => options.pick = Some(value()?),
                "--before" => options.before = Some(value()?.into()),
                "--pairs" => options.pairs = value()?.parse().context("--pairs wants a number")?,
                "--dir" => options.dir = value()?.into(),
                "--dayfly" => options.dayfly = value()?.into(),
                "--help" => return Ok(None),
                // cargo adds it.
                "--bench" => {}
                _ => bail!("unknown argument {word}\n{HELP}"),
            }
        }
        if options.pairs == 0 {
            options.pairs = if options.quick { 2 } else { 5 };
        }
        options.pairs = options.pairs.min(50);
        Ok(Some(options))
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == name)
    }
}

fn scenarios(options: &Options) -> Vec<Scenario> {
    let quick = options.quick;
    let (large, many, read, small) = if quick {
        (64 * MIB, 16 * MIB, 32 * MIB, 20)
    } else {
        (1024 * MIB, 256 * MIB, 256 * MIB, 200)
    };
    let mut all = match options.set {
        Set::Proof => {
            let each = if quick { 50 } else { 1500 };
            vec![
                Scenario::small("4 KiB uploads, 32 connections", 32, each, 4096),
                Scenario::churn("4 KiB uploaded and deleted, 32 connections", 32, each, 4096),
            ]
        }
        Set::Large => vec![
            Scenario::upload("upload, one body", 1, 2 * large),
            Scenario::upload("upload, 16 large bodies", 16, 4 * many),
        ],
        Set::Flat => vec![
            Scenario::upload("upload, 1 at once", 1, 8 * many),
            Scenario::upload("upload, 4 at once", 4, 2 * many),
            Scenario::upload("upload, 16 at once", 16, many / 2),
            Scenario::upload("upload, 64 at once", 64, many / 8),
            Scenario::download("download, 1 at once", 1, 8 * many),
            Scenario::download("download, 64 at once", 64, many / 8),
        ],
        Set::Usual => vec![
            Scenario::upload("upload, 1 at once", 1, large),
            Scenario::upload("upload, 16 at once", 16, many),
            Scenario::download("download, 1 at once", 1, 4 * read),
            Scenario::download("download, 8 at once", 8, read),
            Scenario::small("4 KiB uploads, 32 connections", 32, small, 4096),
            Scenario::churned("4 KiB uploads after deletes, 32 connections", 32, small, 4096),
        ],
    };
    if let Some(words) = &options.pick {
        all.retain(|scenario| scenario.name().contains(words.as_str()));
    }
    all
}

/// Runs one scenario on one server: only the middle is measured.
fn measure(server: &Server, scenario: &Scenario) -> Result<Run> {
    let target = server.target();
    let stored = match scenario {
        Scenario::Download { bytes, .. } => upload_many(&target, 1, *bytes)?,
        Scenario::Small { connections, each, bytes, churned: true, .. } => {
            let gone = upload_each(&target, *connections, *each, *bytes)?;
            server.forget(&target, gone.iter())?;
            Vec::new()
        }
        _ => Vec::new(),
    };
    // What earlier runs left for the disk to write is not this run's burden. (Deletes that are to
    // be felt were a moment ago: no sync between.)
    if !matches!(scenario, Scenario::Small { churned: true, .. }) {
        rustix::fs::sync();
    }
    let before = server.begin_measure();
    let start = Instant::now();
    let made = match scenario {
        Scenario::Upload { connections, bytes, .. } => upload_many(&target, *connections, *bytes)?,
        Scenario::Small { connections, each, bytes, .. } => {
            upload_each(&target, *connections, *each, *bytes)?
        }
        Scenario::Churn { connections, each, bytes, .. } => {
            load::churn(&target, *connections, *each, *bytes)?;
            Vec::new()
        }
        Scenario::Download { connections, bytes, .. } => {
            download(&target, &stored, *connections, *bytes)?;
            Vec::new()
        }
    };
    let wall = start.elapsed();
    let (cpu, rss) = server.end_measure(before);
    if let (Scenario::Small { bytes, .. }, Some(path)) = (scenario, made.last()) {
        load::compare(&target, path, *bytes)?;
    }
    server.forget(&target, stored.iter().chain(&made))?;
    Ok(Run { wall, cpu, rss, over_idle: rss.saturating_sub(server.idle_rss()) })
}

/// Shows once, unmeasured, that each server gives back exactly what it was sent.
fn prove(server: &Server) -> Result<()> {
    let target: Target = server.target();
    let stored = upload_many(&target, 1, 3 * MIB + 7)?;
    load::compare(&target, stored.first().context("one upload")?, 3 * MIB + 7)?;
    server.forget(&target, stored.iter())
}

fn main() -> Result<()> {
    let Some(options) = Options::read()? else {
        println!("{HELP}");
        return Ok(());
    };
    if options.overload {
        return overload::run(&options.dir, &options.dayfly, options.quick);
    }
    let mut servers = Vec::new();
    if options.proof {
        let before = options.before.as_ref().unwrap_or(&options.dayfly);
        servers.push(Server::gateway("without", &options.dir, before, false)?);
        servers.push(Server::gateway("with", &options.dir, &options.dayfly, true)?);
    } else if options.wants("nginx") {
        servers.push(Server::nginx(&options.dir)?);
    }
    if !options.proof && options.wants("dayfly") {
        servers.push(Server::dayfly(&options.dir, &options.dayfly)?);
    }
    if servers.is_empty() {
        bail!("--only takes nginx or dayfly");
    }
    for server in &servers {
        prove(server).with_context(|| format!("{} does not keep what it is sent", server.name))?;
    }
    let (start, mut late) = (Instant::now(), false);
    let mut results = Vec::new();
    for scenario in scenarios(&options) {
        let mut runs = vec![Vec::new(); servers.len()];
        for _ in 0..options.pairs {
            late = late || start.elapsed() > LIMIT;
            if late {
                break;
            }
            for (server, runs) in servers.iter().zip(&mut runs) {
                let run = measure(server, &scenario);
                runs.push(run.with_context(|| format!("{}: {}", server.name, scenario.name()))?);
            }
        }
        results.push((scenario, runs));
    }
    let names: Vec<&str> = servers.iter().map(|server| server.name).collect();
    print!("{}", report::table(&names, &results));
    if late {
        println!("Stopped after {} minutes: some scenarios have fewer runs.", LIMIT.as_secs() / 60);
    }
    Ok(())
}
