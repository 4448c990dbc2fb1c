//! A job's states as types: whoever holds one may turn it into the next, and only that.
//!
//! [`Queued`] and [`Running`] are held by the one task that does the work, so a job starts once and
//! ends once. Everybody else holds the [`Board`] it is told on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Event, Progress, State, Story};
use crate::metrics;

/// What everybody may read of a job. A reader copies one event at a time and holds no lock.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

struct Shared {
    story: Mutex<Story>,
    /// The number of the latest event.
    told: watch::Sender<u64>,
}

/// A job that waits for its turn. Dropped, it has failed.
pub struct Queued(Option<Board>);

/// A job at work. Dropped, it has failed.
pub struct Running(Option<Board>);

/// Where a job at work tells how far it has come.
#[derive(Clone)]
pub struct Reporter(Option<Board>);

impl Board {
    fn story(&self) -> MutexGuard<'_, Story> {
        self.0.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job as it is now.
    #[must_use]
    pub fn now(&self) -> Event {
        self.story().now()
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.now().state
    }

    /// The first event after the one numbered `after` that is still known.
    #[must_use]
    pub fn after(&self, after: u64) -> Option<Event> {
        self.story().after(after)
    }

    /// Completes once there is an event after the one numbered `after`.
    pub async fn beyond(&self, after: u64) {
        let mut told = self.0.told.subscribe();
        // The sender lives in self: this only returns when it came true.
        let _ = told.wait_for(|last| *last > after).await;
    }

    /// Completes once the job has ended.
    pub async fn ended(&self) {
        let mut told = self.0.told.subscribe();
        let _ = told.wait_for(|_| self.state().is_final()).await;
    }

    fn enter(&self, state: State) {
        let last = {
            let mut story = self.story();
            metrics::shift_by(metrics::JOBS, "state", story.now().state.as_str(), -1.0);
            story.enter(state);
            story.now().id
        };
        if state.is_final() {
            metrics::count_by(metrics::JOBS_ENDED, "state", state.as_str());
        } else {
            metrics::shift_by(metrics::JOBS, "state", state.as_str(), 1.0);
        }
        self.0.told.send_replace(last);
    }
}

impl Queued {
    /// A job that was just accepted.
    #[must_use]
    pub fn new() -> (Self, Board) {
        let story = Story::default();
        let told = watch::Sender::new(story.now().id);
        let board = Board(Arc::new(Shared { story: Mutex::new(story), told }));
        metrics::shift_by(metrics::JOBS, "state", State::Queued.as_str(), 1.0);
        (Self(Some(board.clone())), board)
    }

    /// Its turn has come.
    #[must_use]
    pub fn start(mut self) -> Running {
        let board = self.0.take();
        if let Some(board) = &board {
            board.enter(State::Running);
        }
        Running(board)
    }

    /// It ends before its turn.
    pub fn cancel(mut self) {
        end(&mut self.0, State::Cancelled);
    }

    /// Its deadline came before its turn.
    pub fn expire(mut self) {
        end(&mut self.0, State::Expired);
    }

    /// It cannot be done any more.
    pub fn fail(mut self) {
        end(&mut self.0, State::Failed);
    }
}

impl Reporter {
    /// Tells how far the job has come; of no effect once it has ended.
    pub fn advance(&self, progress: Progress) {
        let Some(board) = &self.0 else { return };
        let told = {
            let mut story = board.story();
            story.advance(progress).then(|| story.now().id)
        };
        if let Some(last) = told {
            board.0.told.send_replace(last);
        }
    }
}

impl Running {
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        Reporter(self.0.clone())
    }

    /// All of it is done, and its outputs are known.
    pub fn succeed(mut self) {
        end(&mut self.0, State::Succeeded);
    }

    pub fn cancel(mut self) {
        end(&mut self.0, State::Cancelled);
    }

    pub fn expire(mut self) {
        end(&mut self.0, State::Expired);
    }

    pub fn fail(mut self) {
        end(&mut self.0, State::Failed);
    }
}

fn end(board: &mut Option<Board>, state: State) {
    if let Some(board) = board.take() {
        board.enter(state);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        end(&mut self.0, State::Failed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0, State::Failed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_job_whose_task_is_lost_has_failed() {
        let (queued, board) = Queued::new();
        drop(queued);
        assert_eq!(board.state(), State::Failed);
        let (queued, board) = Queued::new();
        drop(queued.start());
        assert_eq!(board.state(), State::Failed);
    }

    #[test]
    fn an_end_is_told_once_and_wakes_who_waits_for_it() {
        let (queued, board) = Queued::new();
        let mut ended = Box::pin(board.ended());
        let running = queued.start();
        assert!(ended.as_mut().now_or_never().is_none());
        running.succeed();
        assert!(ended.now_or_never().is_some());
        assert_eq!(board.now().id, 3);
        assert!(board.beyond(2).now_or_never().is_some());
        assert!(board.beyond(3).now_or_never().is_none());
    }
}
