//! Who holds the secrets, and the proof that they are gone.
//!
//! Opening a file needs its own `file_secret` and, for a life of 300 s and more, the `epoch_key`
//! of its deadline bucket (VAULT.md, rule 2). [`Keys`] keeps both, hands out a derived key for one
//! opening, and destroys them: by hand, or because either clock has reached the deadline. Only
//! destroying yields [`KeysDestroyed`], and only that, or a segment that never entered a record,
//! lets stored bytes be deleted: deletion is the destruction of keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::{Clock, Now, Wall};
use crate::crypto::{InputKey, KeyError};
use crate::entropy::{Entropy, EntropyError};
use crate::file::{Deadline, Epoch, FileId, Reason};
use crate::metrics;
use crate::secret::{Secret, Slab, Slot};

mod bucket;
mod gate;
#[cfg(test)]
mod interleavings;
mod kernel;
mod keyctl;
mod memory;

pub use bucket::Bucket;
use bucket::Buckets;
use gate::{Era, Gate};
pub use kernel::{KernelKeyring, ProcessKeyring, Unusable};
pub use memory::MemoryKeyring;

/// Keeper of epoch keys, one per deadline bucket.
pub trait Keyring: Send + Sync {
    /// Its name in `check`, in status and in receipts.
    fn name(&self) -> &'static str;

    /// Makes sure the deadline's bucket has a key. The bucket ends with the first deadline that was
    /// admitted to it: after a clock step that may be earlier than a later one.
    ///
    /// # Errors
    /// When no key can be drawn or kept.
    fn admit(&self, deadline: Deadline, entropy: &dyn Entropy) -> Result<Admitted, KeyringError>;

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
    fn held(&self) -> Held;
}

/// A bucket that has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The backend that keeps it.
    pub keeper: &'static str,
    /// When it dies, and with it whatever was sealed under it.
    pub ends: Deadline,
}

/// Epoch keys held, by who keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub kernel: usize,
    pub memory: usize,
}

impl Held {
    #[must_use]
    pub const fn all(self) -> usize {
        self.kernel + self.memory
    }
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
    /// The kernel took no key, or would not time or shield it.
    #[error("the kernel keeps no key")]
    Refused,
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
    /// This process never held a key for it: left by one that has ended, or by a broken write.
    Orphan,
}

/// Why every key had to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// The random source gave the same salt twice in a row.
    SameSalt,
    /// The machine was copied, or restored from a snapshot: its generation changed.
    NewMachine,
}

impl Suspicion {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SameSalt => "same-salt",
            Self::NewMachine => "new-machine",
        }
    }
}

/// The live secrets of one file, and the gate in front of them.
///
/// Opening runs behind the gate's read side, destruction takes its write side: once
/// [`Keys::destroy`] has returned, no chunk of the file is ever opened again.
pub struct FileKeys {
    file: FileId,
    epoch: Epoch,
    /// The bucket whose key it needs beside its own secret.
    bucket: Option<Arc<Bucket>>,
    /// The era of all secrets of the process that this one was drawn in, and that of now: they
    /// differ once all were condemned.
    born: u64,
    era: Arc<Era>,
    gate: Gate<Counted, Arc<KeysDestroyed>>,
}

/// A secret, and a share in the count of those that exist.
struct Counted {
    secret: Slot,
    _share: Arc<()>,
}

impl FileKeys {
    #[must_use]
    pub const fn file(&self) -> FileId {
        self.file
    }

    /// The backend that keeps the rarer of its keys: the epoch's, or its own if it has no other.
    #[must_use]
    pub fn keeper(&self) -> &'static str {
        self.bucket.as_ref().map_or("memory", |bucket| bucket.keeper())
    }

    /// The bucket whose key it needs beside its own secret; a short life has none.
    #[must_use]
    pub const fn bucket(&self) -> Option<&Arc<Bucket>> {
        self.bucket.as_ref()
    }

    /// The deadline, or `None` once its keys, or one of them, are destroyed: whatever a clock may
    /// show later, such a file is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.gate.deadline().filter(|_| !self.is_over())
    }

    /// Whether it ended together with others, its own gate untouched.
    fn is_over(&self) -> bool {
        self.is_condemned() || self.bucket.as_ref().is_some_and(|bucket| bucket.has_ended())
    }

    /// Whether the secret was wiped in its slot, with all others ([`Keys::condemn`]).
    fn is_condemned(&self) -> bool {
        self.era.number() != self.born
    }

    /// Whether the end of its bucket's key ends this file too: what was neither shortened nor has
    /// a life of its own. Its secret is then worth nothing from that moment on.
    #[must_use]
    pub fn ends_with_bucket(&self) -> bool {
        let both = self.deadline().zip(self.bucket.as_ref());
        both.is_some_and(|(own, bucket)| own.ends_with(bucket.ends()))
    }

    /// Runs `work` while destruction waits: for one run of chunks, never across an await. The time
    /// is asked for behind the gate.
    ///
    /// # Errors
    /// When the keys are destroyed or either clock has reached the deadline.
    pub fn while_alive<T>(
        &self,
        now: impl FnOnce() -> Now,
        work: impl FnOnce() -> T,
    ) -> Result<T, Gone> {
        let opened = self
            .gate
            .pass(now, |_| (!self.is_over()).then(|| self.era.during(self.born, work)).flatten());
        opened.flatten().ok_or(Gone)
    }

    /// Brings the deadline forward; returns the one that now holds.
    ///
    /// # Errors
    /// When the keys are destroyed already.
    pub fn shorten(&self, now: Now, ttl: std::time::Duration) -> Result<Deadline, Gone> {
        if self.is_over() {
            return Err(Gone);
        }
        self.gate.shorten(now, ttl).ok_or(Gone)
    }
}

/// Every secret of this process.
pub struct Keys {
    // Dependencies.
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    // State.
    slab: Slab,
    buckets: Buckets,
    era: Arc<Era>,
    /// A clone for each file whose secret exists.
    counted: Arc<()>,
}

impl Keys {
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        epochs: Arc<dyn Keyring>,
        slab: Slab,
    ) -> Self {
        let (era, counted) = (Arc::new(Era::first()), Arc::default());
        Self { clock, entropy, slab, buckets: Buckets::new(epochs), era, counted }
    }

    /// The name of the backend that keeps epoch keys.
    #[must_use]
    pub fn keyring_name(&self) -> &'static str {
        self.buckets.keyring().name()
    }

    /// Secrets for a new file, which ends with its bucket's key if that ends first.
    ///
    /// # Errors
    /// When the locked pages are full or the random source fails.
    pub fn create(&self, file: FileId, deadline: Deadline) -> Result<FileKeys, KeyringError> {
        let now = self.clock.now();
        if deadline.is_due(now) {
            return Err(KeyringError::Gone(Gone));
        }
        // Asked first: what is drawn from here on dies with the next condemnation.
        let born = self.era.number();
        let mut secret = Secret::<32>::zero();
        self.entropy.fill(secret.expose_mut())?;
        if secret.is_zero() {
            return Err(KeyringError::ZeroSecret);
        }
        let bucket = match deadline.epoch() {
            Epoch::None => None,
            Epoch::Minute(_) | Epoch::Quarter(_) => {
                Some(self.buckets.admit(deadline, now, &*self.entropy)?)
            }
        };
        let ends = bucket.as_ref().map(|bucket| bucket.ends());
        let deadline = ends.map_or(deadline, |ends| deadline.no_later_than(ends, now));
        let secret = self.slab.put(&secret).ok_or(KeyringError::Full)?;
        let counted = Counted { secret, _share: self.counted.clone() };
        let (gate, era) = (Gate::new(counted, deadline), self.era.clone());
        Ok(FileKeys { file, epoch: deadline.epoch(), bucket, born, era, gate })
    }

    /// The key that seals or opens this file's segments, derived afresh: nothing derived is kept.
    ///
    /// # Errors
    /// [`KeyringError::Gone`] when the keys are destroyed or either clock has reached the deadline,
    /// [`KeyringError::Full`] when no more memory can be locked.
    pub fn input_key(&self, keys: &FileKeys) -> Result<InputKey, KeyringError> {
        let now = || self.clock.now();
        let derived = keys
            .gate
            .pass(now, |counted| keys.era.during(keys.born, || self.derive(keys, &counted.secret)));
        derived.flatten().unwrap_or(Err(KeyringError::Gone(Gone)))
    }

    fn derive(&self, keys: &FileKeys, secret: &Slot) -> Result<InputKey, KeyringError> {
        let mut file_secret = Secret::<32>::zero();
        self.slab.read(secret, &mut file_secret);
        let mut epoch_key = Secret::<32>::zero();
        let epoch_key = match &keys.bucket {
            None => None,
            Some(bucket) => {
                self.buckets.read(bucket, &mut epoch_key)?;
                Some(&epoch_key)
            }
        };
        // Zero secrets were refused when they were made, so a refusal here means they were wiped.
        InputKey::derive(epoch_key, &file_secret, &keys.file, keys.epoch).map_err(|error| {
            match error {
                KeyError::AllZero | KeyError::Epoch => KeyringError::Gone(Gone),
                KeyError::Full => KeyringError::Full,
            }
        })
    }

    /// Destroys the file's own secret, now. The first call decides time and reason; every call
    /// returns that same proof.
    pub fn destroy(&self, keys: &FileKeys, reason: Reason) -> Arc<KeysDestroyed> {
        let now = self.clock.now();
        keys.gate.close(|deadline| {
            // A bucket that has ended takes its key along: swept first, so that the proof says so.
            let bucket = keys.bucket.as_ref();
            if deadline.is_due(now) && bucket.is_none_or(|bucket| !bucket.has_ended()) {
                self.buckets.sweep(now);
            }
            let mut gone = vec![(KeyKind::FileSecret, now.wall)];
            let ended = bucket.and_then(|bucket| bucket.ended_at());
            let condemned = keys.is_condemned().then_some(now.wall);
            if bucket.is_some() {
                gone.extend(ended.or(condemned).map(|at| (KeyKind::Epoch, at)));
            }
            let reason = if keys.is_condemned() { Reason::KeyLost } else { reason };
            Arc::new(KeysDestroyed { file: keys.file, at: now.wall, reason, keys: gone })
        })
    }

    /// Destroys the epoch keys whose bucket has ended; returns how many.
    pub fn sweep_epochs(&self) -> usize {
        self.buckets.sweep(self.clock.now())
    }

    /// Destroys every epoch key: without them nothing rounded opens.
    pub fn destroy_epochs(&self) {
        self.buckets.destroy_all(self.clock.now());
    }

    /// Destroys every key of this process at once: the machine has shown that what it drew, or
    /// draws, may not be ours alone (VAULT.md, rule 6). The secrets are wiped where they lie, so
    /// this takes as long for one file as for a hundred thousand; files drawn afterwards live. Once
    /// it has returned no chunk of the others is ever opened: it waits for the runs that are being
    /// opened, some microseconds each. Never call it from within one.
    pub fn condemn(&self, why: Suspicion) {
        self.era.end();
        self.destroy_epochs();
        self.slab.wipe();
        metrics::count_by(metrics::KEYS_CONDEMNED, "why", why.as_str());
        tracing::error!(why = why.as_str(), "every key was destroyed");
    }

    /// How often [`Keys::condemn`] was called.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.era.number()
    }

    /// Files whose own secret exists, those included that are still arriving.
    #[must_use]
    pub fn files_alive(&self) -> usize {
        Arc::strong_count(&self.counted) - 1
    }

    /// Locked slots in all.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slab.capacity()
    }

    /// Locked slots in use: file secrets, and epoch keys that are kept in memory.
    #[must_use]
    pub fn secrets_held(&self) -> usize {
        self.slab.used()
    }

    /// Epoch keys held now.
    #[must_use]
    pub fn epochs_held(&self) -> Held {
        self.buckets.keyring().held()
    }
}

#[cfg(test)]
mod tests;
