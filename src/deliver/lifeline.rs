//! What a stream depends on: its file's keys, and its tenant's standing.

use std::future::Future;

use futures_util::future::{Either, select};

use crate::table::{Cut, Era};

/// Ends the stream that holds it, from outside.
#[derive(Clone, Default)]
pub struct Lifeline {
    cut: Cut,
    era: Era,
}

impl Lifeline {
    #[must_use]
    pub const fn new(cut: Cut, era: Era) -> Self {
        Self { cut, era }
    }

    /// Whether the stream must end.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.has_fired() || self.era.end().is_some()
    }

    /// Completes when the stream must end.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let (cut, era) = (self.cut.fired(), self.era.ended());
        async move {
            match select(Box::pin(cut), Box::pin(era)).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
    }
}
