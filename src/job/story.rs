//! What happened to a job, in order: a short list of events that can be told again.
//!
//! States are always kept, there are three at most. Progress is told in strides, and where the list
//! is full the oldest of it is forgotten: a reader that comes back late sees every state and the
//! latest progress, and a job costs the same however long it runs.

use std::collections::VecDeque;

use super::State;

/// Events kept of one job.
const KEPT: usize = 24;
/// Percent between two tellings of progress within one step.
const STRIDE: u8 = 5;

/// How far a job has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The step at work, counted from 0; `None` before the first and after the last.
    pub step: Option<usize>,
    /// Bytes the step has read of its input.
    pub bytes_in: u64,
    /// Bytes of that input, where they are known.
    pub bytes_total: Option<u64>,
    /// Of the whole job; it never falls.
    pub percent: u8,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    State,
    Progress,
}

/// The job as it was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts up from 1.
    pub id: u64,
    pub topic: Topic,
    pub state: State,
    pub progress: Progress,
}

/// A job's state, its progress, and how they came about.
#[derive(Debug)]
pub struct Story {
    last: u64,
    state: State,
    progress: Progress,
    /// The step and percent that were told last.
    told: (Option<usize>, u8),
    events: VecDeque<Event>,
}

impl Default for Story {
    fn default() -> Self {
        let (progress, told) = (Progress::default(), (None, 0));
        let mut story =
            Self { last: 0, state: State::Queued, progress, told, events: VecDeque::new() };
        story.tell(Topic::State);
        story
    }
}

impl Story {
    /// The job as it is now; its `id` is that of the latest event.
    #[must_use]
    pub const fn now(&self) -> Event {
        let Self { last, state, progress, .. } = self;
        Event { id: *last, topic: Topic::State, state: *state, progress: *progress }
    }

    /// The first event after the one numbered `after` that is still known.
    #[must_use]
    pub fn after(&self, after: u64) -> Option<Event> {
        self.events.iter().find(|event| event.id > after).copied()
    }

    pub(super) fn enter(&mut self, state: State) {
        self.state = state;
        if state == State::Succeeded {
            self.progress.percent = 100;
        }
        if state.is_final() {
            self.progress.step = None;
        }
        self.tell(Topic::State);
    }

    /// Notes how far it has come; whether that was worth an event.
    pub(super) fn advance(&mut self, progress: Progress) -> bool {
        if self.state != State::Running {
            return false;
        }
        let percent = self.progress.percent.max(progress.percent.min(99));
        self.progress = Progress { percent, ..progress };
        let (step, before) = self.told;
        let worth = step != progress.step || percent >= before.saturating_add(STRIDE);
        if worth {
            self.tell(Topic::Progress);
        }
        worth
    }

    fn tell(&mut self, topic: Topic) {
        self.last += 1;
        let Self { last, state, progress, .. } = *self;
        self.told = (progress.step, progress.percent);
        if self.events.len() >= KEPT
            && let Some(oldest) = self.events.iter().position(|old| old.topic == Topic::Progress)
        {
            self.events.remove(oldest);
        }
        self.events.push_back(Event { id: last, topic, state, progress });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: usize, percent: u8) -> Progress {
        Progress { step: Some(step), percent, ..Progress::default() }
    }

    fn told(story: &Story, mut after: u64) -> Vec<Event> {
        std::iter::from_fn(|| {
            let event = story.after(after)?;
            after = event.id;
            Some(event)
        })
        .collect()
    }

    #[test]
    fn states_are_never_forgotten_however_much_progress_there_is() {
        let mut story = Story::default();
        story.enter(State::Running);
        for step in 0..1000 {
            story.advance(at(step, 0));
        }
        story.enter(State::Failed);
        let events = told(&story, 0);
        assert!(events.len() <= KEPT);
        let states: Vec<State> = events
            .iter()
            .filter(|event| event.topic == Topic::State)
            .map(|event| event.state)
            .collect();
        assert_eq!(states, [State::Queued, State::Running, State::Failed]);
        assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert_eq!(events.last().unwrap().id, story.now().id);
    }

    #[test]
    fn progress_is_told_in_strides_and_never_falls() {
        let mut story = Story::default();
        story.enter(State::Running);
        let worth: Vec<bool> = [(0, 0), (0, 3), (0, 5), (0, 9), (0, 4), (1, 4), (1, 100)]
            .map(|(step, percent)| story.advance(at(step, percent)))
            .to_vec();
        assert_eq!(worth, [true, false, true, false, false, true, true]);
        let percents: Vec<u8> =
            told(&story, 2).iter().map(|event| event.progress.percent).collect();
        assert_eq!(percents, [0, 5, 9, 99], "a hundred is kept for success");
        story.enter(State::Succeeded);
        assert_eq!((story.now().progress.percent, story.now().progress.step), (100, None));
    }

    #[test]
    fn a_reader_that_comes_back_misses_nothing_that_is_kept() {
        let mut story = Story::default();
        story.enter(State::Running);
        story.advance(at(0, 50));
        story.enter(State::Cancelled);
        assert_eq!(told(&story, 2).iter().map(|event| event.id).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(story.after(4), None);
        assert_eq!(story.after(u64::MAX), None);
    }
}
