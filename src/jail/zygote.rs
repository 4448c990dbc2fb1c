//! The zygote: executed by `main` before the first thread, it executes every worker.
//!
//! It holds no secret, has one thread, and lives as long as the gateway's end of its socket: the
//! kernel closes that however the gateway dies, and takes the workers with the zygote.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getpid, getppid, pidfd_open,
    set_parent_process_death_signal, setrlimit,
};

use super::message::{Answer, Order, receive, send};
use super::{JailError, WORKER_NAME, ZYGOTE_NAME, pair};
use crate::secret::forbid_dumps;

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

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

/// The zygote's own main: serves orders until the gateway's end closes.
#[must_use]
pub fn zygote_main() -> ExitCode {
    // Its folder is the root, so that it keeps no file system busy and workers learn no path.
    if forbid_dumps().is_err() || rustix::process::chdir("/").is_err() {
        return ExitCode::FAILURE;
    }
    ignore_signals();
    let mut brood = Vec::new();
    while let Ok(true) = serve(rustix::stdio::stdin(), &mut brood) {}
    // The kernel kills what is left when this process ends; this only makes it certain.
    for (mut worker, _pidfd) in brood {
        let _ = worker.kill();
    }
    ExitCode::SUCCESS
}

/// Waits for one thing to happen and deals with it; false when the gateway is gone.
fn serve(socket: BorrowedFd, brood: &mut Vec<(Child, OwnedFd)>) -> io::Result<bool> {
    let mut watched = vec![PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    watched.extend(brood.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)));
    match poll(&mut watched, None) {
        Err(rustix::io::Errno::INTR) => return Ok(true),
        polled => polled?,
    };
    let called = !watched[0].revents().is_empty();
    // Reaping keeps the process table clean; the gateway watches its own copy of the pidfd.
    brood.retain_mut(|(worker, _)| !matches!(worker.try_wait(), Ok(Some(_))));
    if !called {
        return Ok(true);
    }
    let Some((words, fds)) = receive(socket)? else { return Ok(false) };
    let order = Order::from_words(words);
    let started = match <[OwnedFd; 2]>::try_from(fds) {
        Ok([stdin, stdout]) => start_worker(&order, stdin, stdout),
        Err(_) => Err(io::ErrorKind::InvalidInput.into()),
    };
    match started {
        Ok((worker, pidfd)) => {
            send(socket, Answer { id: order.id, errno: 0 }.words(), &[pidfd.as_fd()])?;
            brood.push((worker, pidfd));
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            send(socket, Answer { id: order.id, errno }.words(), &[])?;
        }
    }
    Ok(true)
}

#[expect(clippy::disallowed_methods, reason = "processes are started here alone")]
fn start_worker(order: &Order, stdin: OwnedFd, stdout: OwnedFd) -> io::Result<(Child, OwnedFd)> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(WORKER_NAME).env_clear();
    command.stdin(stdin).stdout(stdout).stderr(Stdio::null());
    let (order, zygote) = (*order, getpid());
    // SAFETY: system calls only, no allocation; and the zygote has a single thread.
    unsafe { command.pre_exec(move || confine(&order, zygote)) };
    let mut worker = command.spawn()?;
    let opened = pidfd_open(Pid::from_child(&worker), PidfdFlags::empty());
    match opened {
        Ok(pidfd) => Ok((worker, pidfd)),
        Err(error) => {
            let _ = worker.kill();
            let _ = worker.wait();
            Err(error.into())
        }
    }
}

/// Runs in the child, between fork and exec.
fn confine(order: &Order, zygote: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(zygote) {
        // It died before the line above: nobody would kill this worker any more.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    rustix::thread::set_no_new_privs(true)?;
    limit(Resource::As, order.memory_bytes)?;
    limit(Resource::Stack, order.stack_bytes)?;
    limit(Resource::Cpu, order.cpu_seconds)?;
    limit(Resource::Nofile, LOADING_FILES)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    // No thread and no child: a worker is one thread of one process (root is exempt from this).
    limit(Resource::Nproc, 0)?;
    limit(Resource::Memlock, 0)?;
    limit(Resource::Msgqueue, 0)?;
    close_the_rest()
}

fn limit(resource: Resource, to: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })?)
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

/// A service manager sends SIGTERM to every process of the gateway, but the gateway alone decides
/// when the last request is served. Workers inherit this; they are only ever killed.
fn ignore_signals() {
    let asked = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1];
    for signal in asked {
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The first thing a worker does: nobody may read its memory, and it may open nothing more.
///
/// # Errors
/// When the kernel refuses; the worker must then end.
pub fn settle_worker() -> Result<(), rustix::io::Errno> {
    forbid_dumps()?;
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: Some(3) })
}
