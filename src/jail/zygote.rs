//! The zygote: executed by `main` before the first thread, it executes every worker and program.
//!
//! It holds no secret, has one thread, and lives as long as the gateway's end of its socket: the
//! kernel closes that however the gateway dies, and takes the workers with the zygote.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getpid,
    getrlimit, pidfd_open, pidfd_send_signal, set_dumpable_behavior, setrlimit, waitid,
};

use super::birth::Birth;
use super::message::{Answer, Kind, Order, receive, send};
use super::{JailError, PROBE_NAME, WORKER_NAME, ZYGOTE_NAME, namespaces, pair, sandbox};

/// Descriptors a worker may have open while it is being loaded; afterwards three.
const LOADING_FILES: u64 = 16;

/// The gateway's hold on its zygote.
pub struct Zygote {
    socket: OwnedFd,
    pid: Pid,
}

impl Zygote {
    /// Executes `program` (the gateway's own) as the zygote. Call it before the first thread, so
    /// that nothing of the running gateway can be inherited.
    ///
    /// # Errors
    /// When the program cannot be executed.
    #[expect(clippy::disallowed_methods, reason = "processes are started here alone")]
    pub fn start(program: &Path) -> Result<Self, JailError> {
        let (socket, theirs) = pair()?;
        let mut command = Command::new(program);
        command.arg0(ZYGOTE_NAME).env_clear();
        command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        // A process group of its own: a Ctrl-C at a terminal is for the gateway, which drains.
        command.process_group(0);
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(close_the_rest) };
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        Ok(Self { socket, pid })
    }

    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

/// What the zygote has at hand for each birth.
struct Nursery {
    /// Itself.
    own: OwnedFd,
    null: OwnedFd,
    /// Whether it stands in namespaces of its own, so that each child can have one of processes.
    apart: bool,
    /// The children that live.
    brood: Vec<OwnedFd>,
}

/// The zygote's own main: serves orders until the gateway's end closes.
#[must_use]
pub fn zygote_main() -> ExitCode {
    // Before it becomes undumpable, and may no longer write its own files under /proc.
    if forbid_contents_in_dumps().is_err() {
        return ExitCode::FAILURE;
    }
    // Refused in many containers: each worker then tells that it lives in the gateway's own.
    let apart = namespaces::enter().is_ok();
    // Its folder is the root, so that it keeps no file system busy and workers learn no path.
    let undumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if undumpable.is_err() || rustix::process::chdir("/").is_err() {
        return ExitCode::FAILURE;
    }
    ignore_signals();
    let own = pidfd_open(getpid(), PidfdFlags::empty());
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let (Ok(own), Ok(null)) = (own, null) else { return ExitCode::FAILURE };
    let mut nursery = Nursery { own, null, apart, brood: Vec::new() };
    while let Ok(true) = nursery.serve(rustix::stdio::stdin()) {}
    // The kernel kills what is left when this process ends; this only makes it certain.
    for child in nursery.brood {
        let _ = pidfd_send_signal(&child, Signal::KILL);
    }
    ExitCode::SUCCESS
}

impl Nursery {
    /// Waits for one thing to happen and deals with it; false when the gateway is gone.
    fn serve(&mut self, socket: BorrowedFd) -> io::Result<bool> {
        let mut watched = vec![PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        watched.extend(self.brood.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => return Ok(true),
            polled => polled?,
        };
        let called = !watched[0].revents().is_empty();
        let ended = watched.iter().skip(1).any(|child| !child.revents().is_empty());
        drop(watched);
        if ended {
            // Reaping keeps the process table clean; the gateway watches its own pidfd.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            self.brood
                .retain(|pidfd| matches!(waitid(WaitId::PidFd(pidfd.as_fd()), options), Ok(None)));
        }
        if !called {
            return Ok(true);
        }
        let Some((words, fds)) = receive(socket)? else { return Ok(false) };
        let order = Order::from_words(words);
        let started = match &order {
            Some(order) => self.start(order, &fds),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        let id = words[0];
        match started {
            Ok(pidfd) => {
                send(socket, Answer { id, errno: 0 }.words(), &[pidfd.as_fd()])?;
                self.brood.push(pidfd);
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                send(socket, Answer { id, errno }.words(), &[])?;
            }
        }
        Ok(true)
    }

    fn start(&self, order: &Order, fds: &[OwnedFd]) -> io::Result<OwnedFd> {
        match (order.kind, fds) {
            (Kind::Worker, [stdin, stdout]) => self.worker(order, WORKER_NAME, stdin, stdout),
            (Kind::Probe, [stdin, stdout]) => self.worker(order, PROBE_NAME, stdin, stdout),
            (Kind::Program, [stdin, stdout, status, filter, arguments]) => {
                self.program(order, [stdin, stdout, &self.null, status, filter], arguments)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn worker(
        &self,
        order: &Order,
        name: &str,
        stdin: &OwnedFd,
        stdout: &OwnedFd,
    ) -> io::Result<OwnedFd> {
        Birth {
            program: c"/proc/self/exe",
            arguments: &[CString::new(name)?, CString::new(order.walls.to_string())?],
            fds: &[stdin.as_fd(), stdout.as_fd(), self.null.as_fd()],
            limits: &[
                (Resource::As, order.memory_bytes),
                (Resource::Stack, order.stack_bytes),
                (Resource::Cpu, order.cpu_seconds),
                (Resource::Nofile, LOADING_FILES),
                (Resource::Fsize, 0),
                (Resource::Core, 0),
                // No thread and no child: a worker is one thread of one process. Root is exempt
                // from this; the filter is not.
                (Resource::Nproc, 0),
                (Resource::Memlock, 0),
                (Resource::Msgqueue, 0),
            ],
            apart: self.apart,
            usual_signals: false,
            parent: self.own.as_fd(),
        }
        .give()
    }

    /// What a program may use of memory, time and processes, bubblewrap's arguments say: limits on
    /// processes count from the inside.
    fn program(
        &self,
        order: &Order,
        fds: [&OwnedFd; 5],
        arguments: &OwnedFd,
    ) -> io::Result<OwnedFd> {
        let arguments = sandbox::read_arguments(arguments)?;
        let program = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
        Birth {
            program,
            arguments: &arguments,
            fds: &fds.map(AsFd::as_fd),
            limits: &[
                (Resource::Cpu, order.cpu_seconds),
                (Resource::Memlock, 0),
                (Resource::Msgqueue, 0),
            ],
            // Not bubblewrap itself: it looks its child up under /proc, which here shows the
            // gateway's processes. What it runs is apart from everybody, and dies with it.
            apart: false,
            usual_signals: true,
            parent: self.own.as_fd(),
        }
        .give()
    }
}

/// Whatever this process starts, programs that are not ours too: a dump of theirs is written
/// neither to a file nor to a pipe (a hard limit of 1; at 0 the kernel would still feed a pipe),
/// and should one be, it holds no memory. A limit that is 0 already stays so.
fn forbid_contents_in_dumps() -> io::Result<()> {
    let most = getrlimit(Resource::Core).maximum.map_or(1, |most| most.min(1));
    setrlimit(Resource::Core, Rlimit { current: Some(most), maximum: Some(most) })?;
    let file = open("/proc/self/coredump_filter", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, b"0")?;
    Ok(())
}

/// Marks every descriptor but the first three to be closed by exec. Marked rather than closed:
/// the standard library reports a failed exec through one of them.
fn close_the_rest() -> io::Result<()> {
    // SAFETY: touches no memory; the descriptors stay valid until exec.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals that mean nothing to the zygote and its workers.
pub(super) const IGNORED: [libc::c_int; 5] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1];

/// A service manager sends SIGTERM to every process of the gateway, but the gateway alone decides
/// when the last request is served. Workers inherit this; they are only ever killed.
fn ignore_signals() {
    for signal in IGNORED {
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
