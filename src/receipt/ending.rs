//! How a file ended: the only way to a final receipt leads through one of two proofs.

use crate::clock::Wall;
use crate::file::Reason;
use crate::keyring::{KeyKind, KeysDestroyed};

/// The keys died with the process that held them. Made where its evidence is opened by its
/// successor, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysLost {
    /// When that process last wrote that it was alive.
    pub(super) last_seen: Wall,
    /// When its successor found that it was not.
    pub(super) found: Wall,
}

/// The end of a file, as its receipt says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    at: Wall,
    reason: Reason,
    keys: Vec<(KeyKind, Wall)>,
    lost: Option<KeysLost>,
}

impl From<&KeysDestroyed> for Ending {
    fn from(proof: &KeysDestroyed) -> Self {
        let (at, reason) = (proof.at(), proof.reason());
        Self { at, reason, keys: proof.keys().to_vec(), lost: None }
    }
}

impl From<KeysLost> for Ending {
    fn from(lost: KeysLost) -> Self {
        let keys = vec![(KeyKind::FileSecret, lost.found)];
        Self { at: lost.found, reason: Reason::KeyLost, keys, lost: Some(lost) }
    }
}

impl Ending {
    /// An ending that was written down by this gateway.
    pub(super) const fn read_back(
        at: Wall,
        reason: Reason,
        keys: Vec<(KeyKind, Wall)>,
        lost: Option<KeysLost>,
    ) -> Self {
        Self { at, reason, keys, lost }
    }

    /// When the keys were destroyed; for lost ones, when they were known to be gone.
    #[must_use]
    pub const fn at(&self) -> Wall {
        self.at
    }

    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    #[must_use]
    pub fn keys(&self) -> &[(KeyKind, Wall)] {
        &self.keys
    }

    /// When the process that held lost keys was last seen alive.
    #[must_use]
    pub fn last_seen_alive(&self) -> Option<Wall> {
        self.lost.map(|lost| lost.last_seen)
    }

    pub(super) const fn lost(&self) -> Option<KeysLost> {
        self.lost
    }
}
