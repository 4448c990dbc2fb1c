//! Worker processes: started early, confined, and killed when they stay too long.
//!
//! Whatever parses untrusted content runs in a process of its own, so that a panic, a runaway, a
//! memory bomb or a flaw that runs code costs one request. Workers are never forked from the
//! running gateway, which holds keys: a small process started before the first thread, the zygote,
//! executes them afresh with an empty environment and no descriptor but their two pipes, in
//! namespaces of their own; landlock and a list of system calls close the rest before a worker
//! reads its first byte ([`Walls`]). Programs that are not ours run under bubblewrap
//! ([`Sandbox`]). This room knows no processor; what a worker does with its pipes is said in
//! `process`.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::budget::PATIENCE;
use crate::clock::{Clock, within};
use crate::tasks::Tasks;

mod birth;
mod filter;
mod leash;
mod message;
mod namespaces;
mod pool;
mod probe;
mod sandbox;
mod walls;
mod zygote;

pub use leash::Leash;
pub use probe::{Holds, NoPrograms};
pub use sandbox::{Bubblewrap, Proc, ProgramLimits, Sandbox, exit_code};
pub use walls::{Walls, settle_worker};
pub use zygote::{Zygote, zygote_main};

use message::{Answer, Kind, Order};
use pool::Pool;

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
    /// A worker does not stand behind the walls it should.
    #[error("a worker cannot be confined")]
    Unconfined,
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
    /// A worker that only tries its walls.
    Probe,
}

const ZYGOTE_NAME: &str = "dayfly-zygote";
const WORKER_NAME: &str = "dayfly-worker";
const PROBE_NAME: &str = "dayfly-probe";

/// Reads the role from the program's own name, which only [`Zygote::start`] and the zygote set to
/// these.
#[must_use]
pub fn role() -> Option<Role> {
    match std::env::args_os().next()?.as_bytes() {
        name if name == ZYGOTE_NAME.as_bytes() => Some(Role::Zygote),
        name if name == WORKER_NAME.as_bytes() => Some(Role::Worker),
        name if name == PROBE_NAME.as_bytes() => Some(Role::Probe),
        _ => None,
    }
}

/// The probe's own main: tries every wall, says what stands, and ends.
#[must_use]
pub fn probe_main() -> ExitCode {
    match walls::probe() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Starts workers and programs, a fixed number of each at a time.
pub struct Jail(Arc<Inner>);

struct Inner {
    // Dependencies.
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    // Configuration.
    places: usize,
    walls: Walls,
    // State.
    line: Mutex<Line>,
    slots: Arc<Semaphore>,
    programs: Arc<Semaphore>,
    pool: Pool,
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

/// A program under bubblewrap. Dropping the leash kills it, and all that it has started.
pub struct Program {
    pub stdin: pipe::Sender,
    pub stdout: pipe::Receiver,
    /// Where bubblewrap tells its end ([`exit_code`]).
    pub status: pipe::Receiver,
    pub leash: Leash,
}

/// What a worker's pipes hold: most documents pass in one go, where 64 KiB at a time would have the
/// two processes take turns on a busy machine. The kernel takes pages only as they are filled.
const PIPE_BYTES: usize = 1 << 20;

/// To be loaded and to put its walls up. Reading the program from a slow disk counts.
const START_WITHIN: Duration = Duration::from_secs(20);

impl Jail {
    /// A jail of at most `workers` processes at a time, each behind `walls`. Call it inside the
    /// runtime.
    ///
    /// # Errors
    /// When the zygote's socket cannot be watched.
    pub fn new(
        zygote: Zygote,
        workers: NonZeroUsize,
        walls: Walls,
        tasks: Tasks,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JailError> {
        let socket = zygote.into_socket();
        rustix::io::ioctl_fionbio(&socket, true).map_err(io::Error::from)?;
        let socket = watched(socket, Interest::READABLE | Interest::WRITABLE)?;
        let places = workers.get();
        Ok(Self(Arc::new(Inner {
            tasks,
            clock,
            places,
            walls,
            line: Mutex::new(Line { socket, last_id: 0 }),
            slots: Arc::new(Semaphore::new(places)),
            programs: Arc::new(Semaphore::new(places)),
            pool: Pool::new(places),
        })))
    }

    /// A worker that was started ahead, or else a new one, waiting at most `limits.patience` for a
    /// free place.
    ///
    /// # Errors
    /// When all places stay taken, the zygote is gone, or the kernel refuses.
    pub async fn spawn(&self, limits: &Limits) -> Result<Worker, JailError> {
        let place = self.0.place(&self.0.slots, limits.patience).await?;
        let mut worker = match self.0.pool.take(limits) {
            Some(worker) => worker,
            None => match self.0.start(limits).await {
                // Ended before its walls stood, and so before it had anything: another may live.
                Err(JailError::Start(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.0.start(limits).await?
                }
                started => started?,
            },
        };
        worker.leash.begin(place, limits.wall);
        self.fill(*limits, worker.leash.ended());
        Ok(worker)
    }

    /// Starts workers for the next requests, in the background: once this one's work is done, whose
    /// processors a start would take, or when no other waits any more.
    fn fill(&self, limits: Limits, done: impl Future<Output = ()> + Send + 'static) {
        if !self.0.pool.begin_to_fill() {
            return;
        }
        // Not held while it waits: a jail that is dropped takes its workers with it.
        let (inner, emptied) = (Arc::downgrade(&self.0), self.0.pool.emptied());
        self.0.tasks.spawn(async move {
            select(std::pin::pin!(done), std::pin::pin!(emptied)).await;
            let Some(inner) = inner.upgrade() else { return };
            while inner.pool.lacks(&limits) {
                // Whoever needs one will meet the error.
                let Ok(worker) = inner.start(&limits).await else { break };
                inner.pool.add(limits, worker);
            }
            inner.pool.filled();
        });
    }

    /// Starts a program, waiting at most `patience` for a free place.
    ///
    /// # Errors
    /// As [`Jail::spawn`].
    pub async fn launch(&self, what: &Sandbox, patience: Duration) -> Result<Program, JailError> {
        let inner = &self.0;
        let place = inner.place(&inner.programs, patience).await?;
        let (their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let (status, their_status) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let stdin = pipe::Sender::from_owned_fd(stdin)?;
        let stdout = pipe::Receiver::from_owned_fd(stdout)?;
        let status = pipe::Receiver::from_owned_fd(status)?;
        let [filter, arguments] = what.descriptors()?;
        let fds = vec![their_stdin, their_stdout, their_status, filter, arguments];
        let limits = Limits { cpu: what.limits.time, ..Limits::default() };
        let mut line = inner.line.lock().await;
        let pidfd = line.order(Kind::Program, &limits, Walls::NONE, fds).await?;
        drop(line);
        let (tasks, clock) = (&inner.tasks, inner.clock.clone());
        let mut leash = Leash::new(pidfd, what.limits.time, tasks, clock)?;
        leash.begin(place, what.limits.time);
        Ok(Program { stdin, stdout, status, leash })
    }

    /// Places free now.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.0.slots.available_permits()
    }

    /// Places taken now.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.0.places - self.idle()
    }

    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }
}

impl Inner {
    async fn place(
        &self,
        places: &Arc<Semaphore>,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit, JailError> {
        match within(&*self.clock, patience, places.clone().acquire_owned()).await {
            Some(Ok(place)) => Ok(place),
            Some(Err(_)) | None => Err(JailError::Busy),
        }
    }

    /// A new worker that stands behind its walls and waits for its input.
    async fn start(&self, limits: &Limits) -> Result<Worker, JailError> {
        let (their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
        for end in [&stdin, &stdout] {
            // A refusal (pipe-user-pages-soft) costs some switches between the two processes.
            let _ = fcntl_setpipe_size(end, PIPE_BYTES);
        }
        let stdin = pipe::Sender::from_owned_fd(stdin)?;
        let mut stdout = pipe::Receiver::from_owned_fd(stdout)?;
        let fds = vec![their_stdin, their_stdout];
        let mut line = self.line.lock().await;
        let pidfd = line.order(Kind::Worker, limits, self.walls, fds).await?;
        drop(line);
        let clock = self.clock.clone();
        let leash = Leash::new(pidfd, limits.wall, &self.tasks, clock)?;
        let standing = within(&*self.clock, START_WITHIN, stdout.read_u8()).await;
        match standing {
            Some(Ok(bits)) if Walls::from_bits(bits).include(self.walls) => {
                Ok(Worker { stdin, stdout, leash })
            }
            Some(Err(error)) => Err(JailError::Start(error)),
            Some(Ok(_)) | None => Err(JailError::Unconfined),
        }
    }
}

impl Line {
    /// Sends an order and waits for the pidfd. Dropped halfway, it leaves an answer nobody waits
    /// for: the next order knows it by its id, and kills that worker.
    async fn order(
        &mut self,
        kind: Kind,
        limits: &Limits,
        walls: Walls,
        fds: Vec<OwnedFd>,
    ) -> Result<OwnedFd, JailError> {
        self.last_id += 1;
        let order = Order {
            id: self.last_id,
            kind,
            walls: walls.bits(),
            memory_bytes: limits.memory_bytes,
            stack_bytes: limits.stack_bytes,
            cpu_seconds: limits.cpu.as_secs() + u64::from(limits.cpu.subsec_nanos() > 0),
        };
        let send = |socket: &Arc<OwnedFd>| {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            message::send(socket.as_fd(), order.words(), &fds)
        };
        self.socket.async_io(Interest::WRITABLE, send).await.map_err(|_| JailError::Gone)?;
        drop(fds);
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
