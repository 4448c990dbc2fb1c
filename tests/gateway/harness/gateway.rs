//! The real program as a child process, and what must hold when it ends.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use super::client::Client;
use super::setup::{Setup, key_of};
use super::wait::eventually;

/// To print the ready line, and to end after a signal (the drain included).
const PATIENCE: Duration = Duration::from_secs(40);

/// The program's own account of its end.
const FORGOT: &str = "dayfly forgot everything: keys=0 blobs=0 budget_used=0 panicked=0";

/// A running gateway. Dropped, it is ended, and has to have kept its promises.
pub struct TestGateway {
    child: Child,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    pub setup: Setup,
    dir: TempDir,
    output: Output,
    ready_line: String,
    /// Whether the embedded default runs, which shows its key once, on purpose.
    embedded: bool,
    signalled: bool,
    killed: bool,
}

/// Everything a program wrote, as it writes it.
#[derive(Clone, Default)]
struct Output {
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

/// How a program that was run to its end has ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl TestGateway {
    /// A gateway with the configuration that suits most tests.
    #[track_caller]
    pub fn start() -> Self {
        Setup::new().start()
    }

    #[track_caller]
    pub(super) fn with(setup: Setup) -> Self {
        let dir = folder();
        let setup = setup.spool(&dir.path().join("spool"));
        let config = dir.path().join("dayfly.toml");
        std::fs::write(&config, setup.toml()).unwrap();
        let mut command = program(setup.which());
        command.arg("serve").arg("--config").arg(config);
        Self::launch(command, setup, dir, false)
    }

    /// `dayfly serve` as somebody types it first, but on a free port.
    #[track_caller]
    pub fn embedded() -> Self {
        let mut command = program(None);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        Self::launch(command, Setup::new(), folder(), true)
    }

    #[track_caller]
    fn launch(mut command: Command, setup: Setup, dir: TempDir, embedded: bool) -> Self {
        command.current_dir(dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("dayfly starts");
        let output = Output::default();
        let ready = output.collect(&mut child);
        let Ok(ready_line) = ready.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("dayfly did not get ready; it wrote:\n{}", output.stderr());
        };
        let plain = ready_line.replace("https://", "http://");
        let mut found = plain.split(' ').filter_map(|word| word.strip_prefix("http://"));
        let mut address = || found.next().and_then(|address| address.trim().parse().ok());
        let (Some(public), Some(admin)) = (address(), address()) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("no ready line: {ready_line:?}; it wrote:\n{}", output.stderr());
        };
        let (signalled, killed) = (false, false);
        Self { child, public, admin, setup, dir, output, ready_line, embedded, signalled, killed }
    }

    /// The first line on stdout, with its end.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// A client of the tenant `acme`.
    pub fn client(&self) -> Client {
        self.client_of("acme")
    }

    /// Whoever holds the test key with that id.
    pub fn client_of(&self, key: &str) -> Client {
        Client::new(self.public, Some(key_of(key)))
    }

    pub fn anonymous(&self) -> Client {
        Client::new(self.public, None)
    }

    /// The admin listener.
    pub fn operator(&self) -> Client {
        Client::operator(self.admin)
    }

    /// A metric's value, over all its labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.operator().get("/metrics").expect(200).body_text();
        let mut values = page.lines().filter_map(|line| {
            let (head, value) = line.rsplit_once(' ')?;
            (head.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        let first = values.next().unwrap_or_else(|| panic!("no metric {name} in\n{page}"));
        first + values.sum::<f64>()
    }

    /// Waits until nothing lives and no buffer is held: every request has ended.
    #[track_caller]
    pub fn is_empty_again(&self) {
        for name in ["dayfly_live_files", "dayfly_live_bytes", "dayfly_budget_used_bytes"] {
            self.comes_to(name, 0.0);
        }
    }

    /// Waits until a metric has that value.
    #[track_caller]
    pub fn comes_to(&self, name: &str, value: f64) {
        let same = || ((self.metric(name) - value).abs() < 0.5).then_some(());
        eventually(&format!("{name} comes to {value}"), same);
    }

    /// Processor time the gateway has used, by its own code and the kernel's for it.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process())).unwrap();
        // After the name, which may hold anything: field 3 is first, 14 and 15 are the times.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
        ticks.sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
    }

    /// Memory the gateway has resident.
    pub fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.process())).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }

    pub fn stdout(&self) -> String {
        self.output.stdout()
    }

    pub fn stderr(&self) -> String {
        self.output.stderr()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("dayfly.toml")
    }

    /// Replaces the configuration file by another text.
    pub fn rewrite(&self, toml: &str) {
        let fresh = self.dir.path().join("fresh.toml");
        std::fs::write(&fresh, toml).unwrap();
        std::fs::rename(fresh, self.config()).unwrap();
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; after SIGTERM the gateway ends by itself.
    pub fn signal(&mut self, signal: Signal) {
        self.signalled |= signal == Signal::TERM || signal == Signal::INT;
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Ends the process without giving it a chance, and waits for that.
    pub fn kill(&mut self) {
        self.killed = true;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end.
    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        if let Some(status) = self.child.try_wait().unwrap() {
            return status;
        }
        let handle = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&patience));
        if ended.unwrap() == 0 {
            self.kill();
            panic!("dayfly did not end after SIGTERM; it wrote:\n{}", self.stderr());
        }
        self.child.wait().unwrap()
    }

    /// Waits for the end, and asserts that everything was forgotten.
    #[track_caller]
    pub fn ends_well(&mut self) {
        let status = self.wait();
        // The last words may still be in the pipe.
        eventually("the output is read to its end", || {
            (Arc::strong_count(&self.output.stderr) == 1).then_some(())
        });
        let stderr = self.stderr();
        let last = stderr.lines().last().unwrap_or_default();
        assert_eq!(status.code(), Some(0), "{status}; it wrote:\n{}", tail(&stderr));
        assert!(last.ends_with(FORGOT), "no account of the end:\n{}", tail(&stderr));
        self.killed = true;
        if !self.embedded {
            let all = self.stdout() + &stderr;
            for secret in self.setup.secrets() {
                assert!(!all.contains(secret), "a key's secret was written:\n{}", tail(&all));
            }
        }
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if self.killed {
            return;
        }
        if std::thread::panicking() {
            self.kill();
            super::wait::skip(&format!("the rest of a failed test:\n{}", tail(&self.stderr())));
            return;
        }
        if !self.signalled {
            assert_eq!(self.metric("dayfly_tasks_panicked_total").to_bits(), 0, "a task panicked");
            assert_eq!(self.metric("dayfly_overdue_deletions").to_bits(), 0, "a life ran over");
            self.signal(Signal::TERM);
        }
        self.ends_well();
    }
}

impl Output {
    /// Reads both streams in the background; the first line of stdout is handed over.
    fn collect(&self, child: &mut Child) -> mpsc::Receiver<String> {
        let (first, ready) = mpsc::channel();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let into = self.stdout.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            if stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
                into.lock().unwrap().extend_from_slice(line.as_bytes());
                let _ = first.send(line);
                copy(stdout, &into);
            }
        });
        let (stderr, into) = (child.stderr.take().unwrap(), self.stderr.clone());
        std::thread::spawn(move || copy(stderr, &into));
        ready
    }

    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().unwrap()).into_owned()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }
}

fn copy(mut from: impl Read, into: &Mutex<Vec<u8>>) {
    let mut piece = [0; 4096];
    while let Ok(read) = from.read(&mut piece) {
        if read == 0 {
            return;
        }
        into.lock().unwrap().extend_from_slice(&piece[..read]);
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

pub(super) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("gateway-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The program under test, without anything of this environment.
pub(super) fn program(which: Option<&Path>) -> Command {
    let mut command = Command::new(which.unwrap_or(Path::new(env!("CARGO_BIN_EXE_dayfly"))));
    command.env_clear();
    command
}

/// Runs `dayfly` with these arguments to its end.
#[track_caller]
pub fn run(arguments: &[&str]) -> Ended {
    let output =
        program(None).args(arguments).stdin(Stdio::null()).output().expect("dayfly starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
