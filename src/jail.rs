//! Worker processes: started early, confined, and killed when they stay too long.
//!
//! Whatever parses untrusted content runs in a process of its own, so that a panic, a runaway or a
//! memory bomb costs one request. Workers are never forked from the running gateway, which holds
//! keys: a small process started before the first thread, the zygote, executes them afresh with an
//! empty environment and no descriptor but their two pipes. This room knows no processor; what a
//! worker does with its pipes is said in `process`.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, Semaphore};

use crate::budget::PATIENCE;
use crate::clock::{Clock, within};
use crate::tasks::Tasks;

mod leash;
mod message;
mod zygote;

pub use leash::Leash;
pub use zygote::{Zygote, settle_worker, zygote_main};

use message::{Answer, Order};

/// What one worker may use. The kernel holds it to these; nothing rests on its good will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Address space, bytes (RLIMIT_AS): program, stack and heap together.
    pub memory_bytes: u64,
    /// Stack of its one thread, bytes (RLIMIT_STACK); counts towards the address space.
    pub stack_bytes: u64,
    /// Processor time, in whole seconds rounded up (RLIMIT_CPU).
    pub cpu: Duration,
    /// Time by the clock from [`Leash::start_timer`] on; then it is killed.
    pub wall: Duration,
    /// How long its start may wait for a free place.
    pub patience: Duration,
    /// Bytes it may answer with. The reader of its pipe counts them.
    pub output_bytes: u64,
}

impl Default for Limits {
    /// 512 MiB of memory, 64 MiB of it stack; 30 s; 64 MiB of output: a book of 2 000 pages needs
    /// a tenth of each.
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            stack_bytes: 64 << 20,
            cpu: Duration::from_secs(30),
            wall: Duration::from_secs(30),
            patience: PATIENCE,
            output_bytes: 64 << 20,
        }
    }
}

/// Why no worker could be started.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// Every worker stayed busy for as long as a request may wait.
    #[error("all workers are busy")]
    Busy,
    /// The zygote has ended; only a restart of the gateway brings workers back.
    #[error("the process that starts workers has ended")]
    Gone,
    /// The kernel refused.
    #[error("a worker cannot be started: {0}")]
    Start(#[from] io::Error),
}

/// What this process was executed to be, if not the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Zygote,
    Worker,
}

const ZYGOTE_NAME: &str = "dayfly-zygote";
const WORKER_NAME: &str = "dayfly-worker";

/// Reads the role from the program's own name, which only [`Zygote::start`] and the zygote set to
/// these.
#[must_use]
pub fn role() -> Option<Role> {
    match std::env::args_os().next()?.as_bytes() {
        name if name == ZYGOTE_NAME.as_bytes() => Some(Role::Zygote),
        name if name == WORKER_NAME.as_bytes() => Some(Role::Worker),
        _ => None,
    }
}

/// Starts workers, a fixed number of them at a time.
pub struct Jail {
    line: Mutex<Line>,
    slots: Arc<Semaphore>,
    places: usize,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
}

/// The gateway's end of the zygote's socket: one order and its answer at a time.
struct Line {
    socket: AsyncFd<Arc<OwnedFd>>,
    last_id: u64,
}

/// A worker process with the gateway's ends of its pipes. Dropping the leash kills it.
pub struct Worker {
    pub stdin: pipe::Sender,
    pub stdout: pipe::Receiver,
    pub leash: Leash,
}

impl Jail {
    /// A jail of at most `workers` processes at a time. Call it inside the runtime.
    ///
    /// # Errors
    /// When the zygote's socket cannot be watched.
    pub fn new(
        zygote: Zygote,
        workers: NonZeroUsize,
        tasks: Tasks,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JailError> {
        let socket = zygote.into_socket();
        rustix::io::ioctl_fionbio(&socket, true).map_err(io::Error::from)?;
        let socket = watched(socket, Interest::READABLE | Interest::WRITABLE)?;
        let slots = Arc::new(Semaphore::new(workers.get()));
        let line = Mutex::new(Line { socket, last_id: 0 });
        Ok(Self { line, slots, places: workers.get(), tasks, clock })
    }

    /// Starts a worker, waiting at most `limits.patience` for a free place.
    ///
    /// # Errors
    /// When all places stay taken, the zygote is gone, or the kernel refuses.
    pub async fn spawn(&self, limits: &Limits) -> Result<Worker, JailError> {
        let waiting = self.slots.clone().acquire_owned();
        let slot = match within(&*self.clock, limits.patience, waiting).await {
            Some(Ok(slot)) => slot,
            Some(Err(_)) | None => return Err(JailError::Busy),
        };
        let (their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let stdin = pipe::Sender::from_owned_fd(stdin)?;
        let stdout = pipe::Receiver::from_owned_fd(stdout)?;
        let pidfd = self.line.lock().await.order(limits, their_stdin, their_stdout).await?;
        let clock = self.clock.clone();
        let leash = Leash::new(pidfd, limits.wall, slot, &self.tasks, clock)?;
        Ok(Worker { stdin, stdout, leash })
    }

    /// Places free now.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.slots.available_permits()
    }

    /// Places taken now.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.places - self.idle()
    }

    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

impl Line {
    /// Sends an order and waits for the pidfd. Dropped halfway, it leaves an answer nobody waits
    /// for: the next order knows it by its id, and kills that worker.
    async fn order(
        &mut self,
        limits: &Limits,
        stdin: OwnedFd,
        stdout: OwnedFd,
    ) -> Result<OwnedFd, JailError> {
        self.last_id += 1;
        let order = Order {
            id: self.last_id,
            memory_bytes: limits.memory_bytes,
            stack_bytes: limits.stack_bytes,
            cpu_seconds: limits.cpu.as_secs() + u64::from(limits.cpu.subsec_nanos() > 0),
        };
        let send = |socket: &Arc<OwnedFd>| {
            message::send(socket.as_fd(), order.words(), &[stdin.as_fd(), stdout.as_fd()])
        };
        self.socket.async_io(Interest::WRITABLE, send).await.map_err(|_| JailError::Gone)?;
        drop((stdin, stdout));
        loop {
            let receive = |socket: &Arc<OwnedFd>| message::receive(socket.as_fd());
            let received = self.socket.async_io(Interest::READABLE, receive).await;
            let Some((words, mut fds)) = received.map_err(|_| JailError::Gone)? else {
                return Err(JailError::Gone);
            };
            let answer = Answer::from_words(words);
            match fds.pop() {
                Some(pidfd) if answer.id == order.id => return Ok(pidfd),
                None if answer.id == order.id => return Err(JailError::Start(answer.error())),
                Some(stale) => drop(pidfd_send_signal(&stale, Signal::KILL)),
                None => {}
            }
        }
    }
}

/// A socket pair that keeps messages whole.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// A descriptor the runtime waits for.
fn watched<F: Into<Arc<OwnedFd>>>(fd: F, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an OwnedFd stays open as long as it lives, and an Arc never changes the one it holds.
    let watched = unsafe { AsyncFd::register_with_interest(fd.into(), interest) };
    Ok(watched?)
}
