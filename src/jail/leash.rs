//! The hold on one worker: it is killed when its time is up, or when nobody waits for it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::watched;
use crate::clock::Clock;
use crate::tasks::Tasks;

/// Kills its worker when dropped. The worker's place is free again once the process has ended.
pub struct Leash {
    pidfd: Arc<OwnedFd>,
    timer: Option<oneshot::Sender<Duration>>,
    /// How long it may run once the timer was started.
    wall: Duration,
    /// The place it takes up; none while it only waits for work.
    place: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    ended: watch::Receiver<bool>,
}

impl Leash {
    pub(super) fn new(
        pidfd: OwnedFd,
        wall: Duration,
        tasks: &Tasks,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd);
        let (timer, started) = oneshot::channel();
        let (tell, ended) = watch::channel(false);
        // Made before the watch can fail: an early return must kill too.
        let (timer, place) = (Some(timer), Arc::new(Mutex::new(None)));
        let leash = Self { pidfd: pidfd.clone(), timer, wall, place: place.clone(), ended };
        let exit = watched(pidfd, Interest::READABLE)?;
        tasks.spawn(async move {
            see_out(exit, started, &*clock).await;
            drop(place.lock().unwrap_or_else(PoisonError::into_inner).take());
            tell.send_replace(true);
        });
        Ok(leash)
    }

    /// It works from now on: it takes up `place` until its process has ended, and may run for
    /// `wall`.
    pub(super) fn begin(&mut self, place: OwnedSemaphorePermit, wall: Duration) {
        self.wall = wall;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    /// Whether the process was not yet seen to have ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Lets the kill timer run from now on. Until then the worker waits for its input, and how
    /// long that may take is not the worker's doing. Only the first call counts.
    pub fn start_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            // Refused only when the worker has ended.
            let _ = timer.send(self.wall);
        }
    }

    /// Kills the worker now.
    pub fn kill(&self) {
        kill(&self.pidfd);
    }

    /// Completes when the process has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // An error means that the runtime is being torn down: nothing is left to wait for.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if self.is_alive() {
            self.kill();
        }
    }
}

/// Waits for the process's end, and brings it about when the time is up.
async fn see_out(
    exit: AsyncFd<Arc<OwnedFd>>,
    started: oneshot::Receiver<Duration>,
    clock: &dyn Clock,
) {
    let timer = std::pin::pin!(async {
        match started.await {
            Ok(wall) => clock.sleep(wall).await,
            // The leash is gone, and a leash that goes kills.
            Err(_) => std::future::pending().await,
        }
    });
    let end = std::pin::pin!(exit.readable());
    if let Either::Right(((), end)) = select(end, timer).await {
        kill(exit.get_ref());
        let _ = end.await;
    }
}

/// A pidfd never names another process, so a late kill is harmless (ESRCH).
fn kill(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}
