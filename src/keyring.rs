//! Who holds the secrets, and the proof that they are gone.
//!
//! Opening a file needs its own `file_secret` and, for a life of 300 s and more, the `epoch_key`
//! of its deadline bucket (VAULT.md, rule 2). [`Keys`] keeps both, hands out a derived key for one
//! opening, and destroys them: by hand, or because either clock has reached the deadline. Only
//! destroying yields [`KeysDestroyed`], and only that, or a segment that never entered a record,
//! lets stored bytes be deleted: deletion is the destruction of keys.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::clock::{Clock, Now, Wall};
use crate::crypto::{InputKey, KeyError};
use crate::entropy::{Entropy, EntropyError};
use crate::file::{Deadline, Epoch, FileId, Reason};
use crate::secret::Secret;

mod gate;
#[cfg(test)]
mod interleavings;
mod memory;
mod slab;

pub use memory::MemoryKeyring;
pub use slab::{Slab, SlabError, SlabKind};

use gate::Gate;
use slab::Slot;

/// Keeper of epoch keys, one per deadline bucket.
pub trait Keyring: Send + Sync {
    /// Its name in `check`, in status and in receipts.
    fn name(&self) -> &'static str;

    /// Makes sure the deadline's bucket has a key. The bucket ends with the first deadline that
    /// was admitted to it: after a clock step a later one may lose its key early, never late.
    ///
    /// # Errors
    /// When no key can be drawn or kept.
    fn admit(&self, deadline: Deadline, entropy: &dyn Entropy) -> Result<(), KeyringError>;

    /// Copies the bucket's key out, for one derivation.
    ///
    /// # Errors
    /// When the bucket's key is gone.
    fn read(&self, epoch: Epoch, out: &mut Secret<32>) -> Result<(), Gone>;

    /// Destroys the keys of all buckets that have ended; returns those buckets.
    fn sweep(&self, now: Now) -> Vec<Epoch>;

    /// Destroys every key.
    fn destroy_all(&self);

    /// How many keys are held.
    fn held(&self) -> usize;
}

/// The keys are destroyed, or the deadline has passed: nothing opens any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file's keys are gone")]
pub struct Gone;

/// No key could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The locked pages are used up; an unlocked page is never taken instead.
    #[error("the locked pages for secrets are full")]
    Full,
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A secret of zeros is a broken random source (VAULT.md, rule 6).
    #[error("the random source gave an all-zero secret")]
    ZeroSecret,
    /// The deadline has passed before the first byte.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Which key a receipt speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    FileSecret,
    Epoch,
}

impl KeyKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FileSecret => "file_secret",
            Self::Epoch => "epoch",
        }
    }
}

/// Proof that a file's keys were destroyed: only this module can make one.
#[derive(Clone, Debug)]
pub struct KeysDestroyed {
    file: FileId,
    at: Wall,
    reason: Reason,
    keys: Vec<(KeyKind, Wall)>,
}

impl KeysDestroyed {
    #[must_use]
    pub const fn file(&self) -> FileId {
        self.file
    }

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
}

/// Leave to delete stored bytes (VAULT.md, rule 5).
pub enum Doomed<'a> {
    KeysDestroyed(&'a KeysDestroyed),
    /// The segment never entered a record, and its commitment is forgotten.
    SegmentDiscarded,
}

/// The live secrets of one file, and the gate in front of them.
///
/// Opening runs behind the gate's read side, destruction takes its write side: once
/// [`Keys::destroy`] has returned, no chunk of the file is ever opened again.
pub struct FileKeys {
    file: FileId,
    epoch: Epoch,
    gate: Gate<Slot, Arc<KeysDestroyed>>,
}

impl FileKeys {
    #[must_use]
    pub const fn file(&self) -> FileId {
        self.file
    }

    /// The deadline, or `None` once the keys are destroyed.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.gate.deadline()
    }

    /// Runs `work` while destruction waits: for one run of chunks, never across an await.
    ///
    /// # Errors
    /// When the keys are destroyed or either clock has reached the deadline.
    pub fn while_alive<T>(&self, now: Now, work: impl FnOnce() -> T) -> Result<T, Gone> {
        self.gate.pass(|| now, |_| work()).ok_or(Gone)
    }

    /// Brings the deadline forward; returns the one that now holds.
    ///
    /// # Errors
    /// When the keys are destroyed already.
    pub fn shorten(&self, now: Now, ttl: std::time::Duration) -> Result<Deadline, Gone> {
        self.gate.shorten(now, ttl).ok_or(Gone)
    }
}

/// Ends of epoch keys that are remembered: more than there can be buckets at a time.
const REMEMBERED: usize = 512;

/// Every secret of this process.
pub struct Keys {
    // Dependencies.
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    epochs: Arc<dyn Keyring>,
    // State.
    slab: Slab,
    /// When epoch keys of late were destroyed, for receipts to say.
    ended: Mutex<BTreeMap<Epoch, Wall>>,
}

impl Keys {
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        epochs: Arc<dyn Keyring>,
        slab: Slab,
    ) -> Self {
        Self { clock, entropy, epochs, slab, ended: Mutex::default() }
    }

    /// The name of the backend that keeps epoch keys.
    #[must_use]
    pub fn keyring_name(&self) -> &'static str {
        self.epochs.name()
    }

    /// Secrets for a new file.
    ///
    /// # Errors
    /// When the locked pages are full or the random source fails.
    pub fn create(&self, file: FileId, deadline: Deadline) -> Result<FileKeys, KeyringError> {
        if deadline.is_due(self.clock.now()) {
            return Err(KeyringError::Gone(Gone));
        }
        let mut secret = Secret::<32>::zero();
        self.entropy.fill(secret.expose_mut())?;
        if secret.is_zero() {
            return Err(KeyringError::ZeroSecret);
        }
        if deadline.epoch() != Epoch::None {
            self.epochs.admit(deadline, &*self.entropy)?;
            // After a clock step a bucket may begin anew: its new key has not ended.
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.remove(&deadline.epoch());
        }
        let slot = self.slab.put(&secret).ok_or(KeyringError::Full)?;
        Ok(FileKeys { file, epoch: deadline.epoch(), gate: Gate::new(slot, deadline) })
    }

    /// The key that seals or opens this file's segments, derived afresh: nothing derived is kept.
    ///
    /// # Errors
    /// When the keys are destroyed or either clock has reached the deadline.
    pub fn input_key(&self, keys: &FileKeys) -> Result<InputKey, Gone> {
        keys.gate.pass(|| self.clock.now(), |secret| self.derive(keys, secret)).ok_or(Gone)?
    }

    fn derive(&self, keys: &FileKeys, secret: &Slot) -> Result<InputKey, Gone> {
        let mut file_secret = Secret::<32>::zero();
        self.slab.read(secret, &mut file_secret);
        let mut epoch_key = Secret::<32>::zero();
        let epoch_key = if keys.epoch == Epoch::None {
            None
        } else {
            self.epochs.read(keys.epoch, &mut epoch_key)?;
            Some(&epoch_key)
        };
        // Zero secrets were refused when they were made, so a refusal here means they were wiped.
        InputKey::derive(epoch_key, &file_secret, &keys.file, keys.epoch)
            .map_err(|_: KeyError| Gone)
    }

    /// Destroys the file's own secret, now. The first call decides time and reason; every call
    /// returns that same proof.
    pub fn destroy(&self, keys: &FileKeys, reason: Reason) -> Arc<KeysDestroyed> {
        let now = self.clock.now();
        keys.gate.close(|deadline| {
            // A bucket that has ended takes its key along: swept first, so that the proof says so.
            if deadline.is_due(now) {
                self.sweep_at(now);
            }
            let mut gone = vec![(KeyKind::FileSecret, now.wall)];
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            gone.extend(ended.get(&keys.epoch).map(|at| (KeyKind::Epoch, *at)));
            drop(ended);
            Arc::new(KeysDestroyed { file: keys.file, at: now.wall, reason, keys: gone })
        })
    }

    /// Destroys the epoch keys whose bucket has ended; returns how many.
    pub fn sweep_epochs(&self) -> usize {
        self.sweep_at(self.clock.now())
    }

    fn sweep_at(&self, now: Now) -> usize {
        let swept = self.epochs.sweep(now);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.extend(swept.iter().map(|epoch| (*epoch, now.wall)));
        while ended.len() > REMEMBERED {
            ended.pop_first();
        }
        swept.len()
    }

    /// Destroys every epoch key: without them nothing rounded opens.
    pub fn destroy_epochs(&self) {
        self.epochs.destroy_all();
    }

    /// File secrets held now.
    #[must_use]
    pub fn secrets_held(&self) -> usize {
        self.slab.used()
    }

    /// Epoch keys held now.
    #[must_use]
    pub fn epochs_held(&self) -> usize {
        self.epochs.held()
    }
}

#[cfg(test)]
mod tests;
