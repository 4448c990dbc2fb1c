//! The one place that spawns: every task is counted while it runs, and its panic is remembered.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::task::JoinHandle;

mod leisure;
pub use leisure::Leisure;

/// Spawns tasks and knows how many still run.
#[derive(Clone)]
pub struct Tasks {
    running: watch::Sender<usize>,
    panicked: Arc<AtomicU64>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { running: watch::Sender::new(0), panicked: Arc::default() }
    }
}

/// Counts a task from its birth to its end, a panic included.
struct Running {
    tasks: Tasks,
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tasks.panicked.fetch_add(1, Ordering::Relaxed);
        }
        self.tasks.running.send_modify(|count| *count -= 1);
    }
}

impl Tasks {
    /// Runs `work` on its own.
    #[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.running.send_modify(|count| *count += 1);
        let guard = Running { tasks: self.clone() };
        tokio::spawn(async move {
            let _guard = guard;
            work.await
        })
    }

    /// Tasks that ended in a panic since the start.
    #[must_use]
    pub fn panicked(&self) -> u64 {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Completes once no task runs.
    pub async fn idle(&self) {
        let mut running = self.running.subscribe();
        // The sender lives in self: this only returns when the count is zero.
        let _ = running.wait_for(|count| *count == 0).await;
    }

    /// Tasks running now.
    #[must_use]
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }
}

/// The wish to end, seen by everyone who holds a clone.
#[derive(Clone)]
pub struct Shutdown(watch::Sender<Wish>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Wish {
    Serve,
    /// Nothing new; what is there lives out its life.
    Drain,
    Stop,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(Wish::Serve))
    }
}

impl Shutdown {
    /// Asks everyone to stop.
    pub fn begin(&self) {
        self.0.send_replace(Wish::Stop);
    }

    /// Asks everyone to take nothing new in. A wish to stop stays one.
    pub fn drain(&self) {
        self.0.send_if_modified(|wish| {
            let first = *wish == Wish::Serve;
            *wish = if first { Wish::Drain } else { *wish };
            first
        });
    }

    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() == Wish::Stop
    }

    /// Whether nothing new is to be taken in.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() != Wish::Serve
    }

    /// Completes once [`Shutdown::begin`] was called.
    pub async fn begun(&self) {
        self.reached(Wish::Stop).await;
    }

    /// Completes once nothing new is to be taken in.
    pub async fn draining(&self) {
        self.reached(Wish::Drain).await;
    }

    async fn reached(&self, least: Wish) {
        let mut wish = self.0.subscribe();
        // The sender lives in self: this only returns when the wish came true.
        let _ = wish.wait_for(|wish| *wish >= least).await;
    }
}

/// Runs a blocking call (a disk read or write) on this thread, letting the runtime move its other
/// tasks elsewhere meanwhile. Measured to cost less than handing the bytes to another thread.
pub fn blocking<T>(call: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(call)
}
