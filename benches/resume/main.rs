//! Resumable uploads beside the reference server of tus: creation with 256 MiB on one connection,
//! and with 64 MiB on each of sixteen, turn by turn on one disk; four parts joined beside one
//! stream.
//!
//! Dayfly seals what it is sent, the other stores it. Both and the load share one machine: compare
//! the columns with each other. Run `benches/resume-beside`, which installs the other server.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a program beside the gateway: it starts servers and measures them from outside"
)]

mod load;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use load::Target;

const MIB: u64 = 1 << 20;
/// 52 characters, as a key's secret has. It opens a gateway that lives as long as this program.
const SECRET: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

/// A server that was started for this.
struct Server {
    name: &'static str,
    child: Child,
    target: Target,
    _dir: TempDir,
}

/// What one run has cost.
struct Cost {
    took: Duration,
    cpu: f64,
    peak_mib: u64,
}

impl Server {
    fn start(
        name: &'static str,
        mut command: Command,
        path: &'static str,
        dir: TempDir,
    ) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().context("no output")?);
        stdout.read_line(&mut line)?;
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let at = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let authority = at.with_context(|| format!("{name} did not start: {line:?}"))?.to_owned();
        let headers = match name {
            "dayfly" => format!("Authorization: Bearer dfk_bench_{SECRET}\r\n"),
            _ => String::new(),
        };
        let target = Target { authority, path, headers };
        Ok(Self { name, child, target, _dir: dir })
    }

    fn dayfly(under: &Path) -> Result<Self> {
        let dir = tempfile::tempdir_in(under)?;
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(SECRET));
        let settings = format!(
            "region = \"local\"\n[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [log]\nlevel = \"warn\"\n[vault]\nstore = \"local\"\nkeyring = \"memory\"\n\
             [vault.local]\ndir = \"{}\"\nmax = \"50GiB\"\n[regions.local]\njurisdiction = \"none\"\n\
             [tenants.bench]\nregions = [\"local\"]\nmax_live_bytes = \"50GiB\"\n\
             [[keys]]\nid = \"bench\"\ntenant = \"bench\"\nroles = [\"client\"]\nsha256 = \"{hash}\"\n\
             [accept]\nswap = true\nkdump = true\nno_namespaces = true\n",
            dir.path().join("spool").display()
        );
        let file = dir.path().join("dayfly.toml");
        fs::write(&file, settings)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_dayfly"));
        command.arg("serve").arg("--config").arg(file);
        Self::start("dayfly", command, "/v1/tus", dir)
    }

    fn reference(under: &Path, modules: &Path) -> Result<Self> {
        let dir = tempfile::tempdir_in(under)?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/resume/peer.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(dir.path()).env("DAYFLY_TUS", modules);
        Self::start("@tus/server", command, "/files", dir)
    }

    fn cpu(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
            / 1024
    }

    fn run(&self, count: usize, bytes: u64) -> Result<Cost> {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
        let before = self.cpu();
        let (took, made) = self.target.together(count, bytes, "")?;
        let cost = Cost { took, cpu: self.cpu() - before, peak_mib: self.peak_mib() };
        for path in made {
            self.target.delete(&path)?;
        }
        Ok(cost)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(process, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// One scenario on all servers, turn by turn.
fn beside(servers: &[Server], count: usize, each: u64, rounds: usize) -> Result<()> {
    let total = (count as u64 * each) as f64 / MIB as f64;
    let mut costs: Vec<Vec<Cost>> = servers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (server, costs) in servers.iter().zip(&mut costs) {
            costs.push(server.run(count, each)?);
        }
    }
    println!("{count} × {} MiB, medians of {rounds}", each / MIB);
    for (server, costs) in servers.iter().zip(&costs) {
        let rate = median(costs.iter().map(|cost| total / cost.took.as_secs_f64()).collect());
        let cpu = median(costs.iter().map(|cost| cost.cpu / total * 1024.0).collect());
        let peak = costs.iter().map(|cost| cost.peak_mib).max().unwrap_or(0);
        println!("  {:12} {rate:7.0} MiB/s   {cpu:6.2} CPU-s/GiB   peak {peak} MiB", server.name);
    }
    Ok(())
}

/// Four parts at once, joined, beside one stream of as many bytes.
fn parallel(server: &Server, bytes: u64, rounds: usize) -> Result<()> {
    let (mut one, mut four) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (took, made) = server.target.together(1, bytes, "")?;
        one.push(took.as_secs_f64());
        server.target.delete(&made[0])?;
        let start = std::time::Instant::now();
        let (_, parts) = server.target.together(4, bytes / 4, "Upload-Concat: partial\r\n")?;
        let joined = server.target.join(&parts)?;
        four.push(start.elapsed().as_secs_f64());
        server.target.delete(&joined)?;
    }
    println!("four parts joined: {:.2} of one stream's throughput", median(one) / median(four));
    Ok(())
}

fn main() -> Result<()> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a target folder")?;
    let modules = std::env::var_os("DAYFLY_TUS").map_or(target.join("tus"), PathBuf::from);
    let quick = std::env::args().any(|word| word == "--quick");
    let (each, rounds) = if quick { (16 * MIB, 1) } else { (256 * MIB, 5) };
    let servers = [Server::dayfly(target)?, Server::reference(target, &modules)?];
    beside(&servers, 1, each, rounds)?;
    beside(&servers, 16, each / 4, rounds)?;
    parallel(&servers[0], each, rounds)
}
