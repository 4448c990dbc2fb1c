//! Whether a counted delivery arrived.
//!
//! The last byte handed to the kernel is not yet the last byte read: it may still wait in a buffer
//! when the client goes away. A client shows that it has everything by what it does next on the
//! connection: asks for something else, or closes it properly. A reset shows the opposite.

use std::sync::{Arc, Mutex, PoisonError};

use super::WhenEnded;
use crate::table::{Claim, LiveFile};

/// Deliveries of one connection whose last byte has left.
#[derive(Clone, Default)]
pub struct Unconfirmed(Arc<Mutex<Vec<Ended>>>);

/// A delivery after its last byte.
pub(super) struct Ended {
    pub file: Arc<LiveFile>,
    pub claim: Option<Claim>,
    pub when_ended: WhenEnded,
}

impl Ended {
    pub fn settle(mut self, whole: bool) {
        if let Some(claim) = &mut self.claim
            && whole
        {
            claim.complete();
        }
        // The claim first: what is done afterwards asks whether any is left.
        self.claim = None;
        (self.when_ended)(&self.file, whole);
    }
}

impl Unconfirmed {
    pub(super) fn add(&self, mut ended: Ended) {
        if let Some(claim) = &mut ended.claim {
            claim.await_confirmation();
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
    }

    /// The client has got everything so far.
    pub fn confirm(&self) {
        self.settle(true);
    }

    /// The connection broke: nobody knows what the client has got.
    pub fn deny(&self) {
        self.settle(false);
    }

    fn settle(&self, whole: bool) {
        let ended = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for one in ended {
            one.settle(whole);
        }
    }
}
