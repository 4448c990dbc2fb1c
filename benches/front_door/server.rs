//! The two servers: started here, measured from outside, and ended with this program.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::load::{Stored, Target, delete_all};

const PATIENCE: Duration = Duration::from_secs(15);

/// 52 characters, as a key's secret has. It opens a gateway that lives as long as this program.
const SECRET: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

/// A running server with its own folder.
pub struct Server {
    pub name: &'static str,
    is_dayfly: bool,
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
    idle_rss: u64,
}

/// CPU ticks used by a server and all its processes before a measurement.
pub struct Before(u64);

impl Server {
    pub fn nginx(under: &Path) -> Result<Self> {
        let dir = folder(under)?;
        let addr = free_address()?;
        let path = dir.path().display();
        // Started by root, nginx would give its workers another user, who may not write here.
        let user = if geteuid().is_root() { "user root;" } else { "" };
        let settings = format!(
            "daemon off; {user} worker_processes 2; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off; sendfile on; client_max_body_size 0;\n\
             client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi;\n\
             scgi_temp_path {path}/scgi; keepalive_requests 100000;\n\
             server {{ listen {addr}; root {path}/files; dav_methods PUT; }}\n}}\n"
        );
        fs::create_dir(dir.path().join("files"))?;
        fs::write(dir.path().join("nginx.conf"), settings)?;
        let mut command = Command::new("nginx");
        command.arg("-e").arg(dir.path().join("error.log"));
        command.arg("-c").arg(dir.path().join("nginx.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("nginx cannot be started: is it installed?")?;
        let mut server = Self { name: "nginx", is_dayfly: false, child, addr, dir, idle_rss: 0 };
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            ensure!(start.elapsed() < PATIENCE, "nginx does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        server.idle_rss = server.peak();
        Ok(server)
    }

    pub fn dayfly(under: &Path, program: &Path) -> Result<Self> {
        Self::gateway("dayfly", under, program, false)
    }

    /// A gateway that keeps its receipts in a state folder and logs them, or keeps them in memory
    /// without a log.
    pub fn gateway(name: &'static str, under: &Path, program: &Path, proves: bool) -> Result<Self> {
        let dir = folder(under)?;
        let state = dir.path().join("state");
        let proof = if proves {
            format!("[state]\ndir = \"{}\"\n", state.display())
        } else {
            "[retention]\nlog = \"off\"\n".to_owned()
        };
        Self::with(name, dir, program, &proof)
    }

    /// A gateway that keeps no receipts of what is gone, with other limits.
    pub fn limited(under: &Path, program: &Path, limits: &str) -> Result<Self> {
        let sections = format!("[retention]\nlog = \"off\"\nreceipts = \"0s\"\n[limits]\n{limits}");
        Self::with("dayfly", folder(under)?, program, &sections)
    }

    fn with(name: &'static str, dir: TempDir, program: &Path, sections: &str) -> Result<Self> {
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(SECRET));
        let settings = format!(
            "region = \"local\"\n{sections}\
             [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [log]\nlevel = \"warn\"\n\
             [vault]\nstore = \"local\"\nkeyring = \"memory\"\n\
             [vault.local]\ndir = \"{}\"\nmax = \"50GiB\"\n\
             [regions.local]\njurisdiction = \"none\"\n\
             [tenants.bench]\nregions = [\"local\"]\nmax_live_bytes = \"50GiB\"\n\
             [[keys]]\nid = \"bench\"\ntenant = \"bench\"\nroles = [\"client\"]\nsha256 = \"{hash}\"\n\
             [accept]\nswap = true\nkdump = true\nplain_http = true\n",
            dir.path().join("spool").display()
        );
        fs::write(dir.path().join("dayfly.toml"), settings)?;
        let log = fs::File::create(dir.path().join("stderr"))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(dir.path().join("dayfly.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().context("dayfly cannot be started")?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { name, is_dayfly: true, child, addr: unknown, dir, idle_rss: 0 };
        server.addr = server.ready_line().with_context(|| server.complaint())?;
        server.idle_rss = server.peak();
        Ok(server)
    }

    /// Waits for `dayfly listening on http://ADDR admin …` and goes on reading what follows.
    fn ready_line(&mut self) -> Result<SocketAddr> {
        let stdout = self.child.stdout.take().context("no standard output")?;
        let wait = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&wait))?;
        ensure!(ready > 0, "dayfly says nothing");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let addr = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let addr = addr.with_context(|| format!("no ready line, but {line:?}"))?.parse()?;
        thread::spawn(move || {
            let mut rest = [0; 4096];
            while stdout.read(&mut rest).is_ok_and(|read| read > 0) {}
        });
        Ok(addr)
    }

    fn complaint(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default();
        format!("dayfly did not start; it wrote:\n{log}")
    }

    pub fn target(&self) -> Target {
        let ours = self.is_dayfly;
        let bearer = format!("Authorization: Bearer dfk_bench_{SECRET}\r\n");
        Target {
            addr: self.addr,
            prefix: if ours { "/v1/files/" } else { "/" },
            headers: if ours { bearer } else { String::new() },
            answers_with_id: ours,
        }
    }

    /// Removes what was stored: by the API, or nginx's files from its folder.
    pub fn forget<'a>(
        &self,
        target: &Target,
        stored: impl Iterator<Item = &'a Stored>,
    ) -> Result<()> {
        if self.is_dayfly {
            return delete_all(target, stored);
        }
        for path in stored {
            // A download's file may have been named by two uploads; gone is gone.
            let _ =
                fs::remove_file(self.dir.path().join("files").join(path.trim_start_matches('/')));
        }
        Ok(())
    }

    /// Sets the memory peak back to what is used now, and reads the CPU time so far.
    pub fn begin_measure(&self) -> Before {
        for process in self.processes() {
            // Where the kernel forbids it, the peak is the one since the start.
            let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
        }
        Before(self.ticks())
    }

    /// CPU time since, and the peak of resident memory, in bytes: all processes together.
    pub fn end_measure(&self, before: Before) -> (Duration, u64) {
        let ticks = self.ticks().saturating_sub(before.0);
        let per_second = rustix::param::clock_ticks_per_second();
        (Duration::from_millis(ticks * 1000 / per_second), self.peak())
    }

    /// Resident memory before the first request, bytes.
    pub fn idle_rss(&self) -> u64 {
        self.idle_rss
    }

    fn peak(&self) -> u64 {
        self.processes().into_iter().filter_map(peak_rss).sum()
    }

    fn ticks(&self) -> u64 {
        self.processes().into_iter().filter_map(cpu_ticks).sum()
    }

    /// The server's process and all its descendants.
    fn processes(&self) -> Vec<u32> {
        let (mut found, mut next) = (vec![self.child.id()], 0);
        while let Some(process) = found.get(next).copied() {
            next += 1;
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for thread in threads.flatten() {
                let children = fs::read_to_string(thread.path().join("children"));
                let children = children.unwrap_or_default();
                found.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            }
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(process, Signal::TERM);
        }
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn folder(under: &Path) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("front-door-").tempdir_in(under)?)
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// User and system time of a process with all its threads, and of its children that have ended.
fn cpu_ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; fields 14 to 17 are the 12th to 15th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// The peak of resident memory, bytes.
fn peak_rss(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
