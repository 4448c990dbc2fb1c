//! Deadline buckets: which have a key, and which had one. A bucket that has ended stays over for
//! its files, whatever a clock shows later and though its number may come again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{Gone, Keyring, KeyringError};
use crate::clock::{Now, Wall};
use crate::entropy::Entropy;
use crate::file::{Deadline, Epoch};
use crate::secret::Secret;

/// One key's bucket, known to every file that was sealed under it.
pub struct Bucket {
    /// Another one for each key of this process.
    number: u64,
    epoch: Epoch,
    keeper: &'static str,
    ends: Deadline,
    ended: OnceLock<Wall>,
}

impl Bucket {
    /// Tells it from every other, one of the same epoch included.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The backend that keeps its key.
    #[must_use]
    pub const fn keeper(&self) -> &'static str {
        self.keeper
    }

    /// When its key dies.
    #[must_use]
    pub const fn ends(&self) -> Deadline {
        self.ends
    }

    /// Whether its key is destroyed: none of its files ever opens again.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// When its key was destroyed.
    pub(super) fn ended_at(&self) -> Option<Wall> {
        self.ended.get().copied()
    }
}

/// The buckets that have a key now.
pub(super) struct Buckets {
    keyring: Arc<dyn Keyring>,
    /// Held while the keyring makes or ends keys: a key and its bucket never differ.
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    buckets: BTreeMap<Epoch, Arc<Bucket>>,
    next: u64,
}

impl Buckets {
    pub fn new(keyring: Arc<dyn Keyring>) -> Self {
        Self { keyring, live: Mutex::default() }
    }

    pub fn keyring(&self) -> &dyn Keyring {
        &*self.keyring
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket of that deadline, with a key. One that is due begins anew, with another key: the
    /// wall clock was set back, and its number has come again before it was swept.
    pub fn admit(
        &self,
        deadline: Deadline,
        now: Now,
        entropy: &dyn Entropy,
    ) -> Result<Arc<Bucket>, KeyringError> {
        let (mut live, epoch) = (self.live(), deadline.epoch());
        if let Some(bucket) = live.buckets.get(&epoch) {
            if !bucket.ends.is_due(now) {
                return Ok(bucket.clone());
            }
            live.sweep(&*self.keyring, now);
        }
        let admitted = self.keyring.admit(deadline, entropy)?;
        let (number, ended) = (live.next, OnceLock::new());
        live.next += 1;
        let (keeper, ends) = (admitted.keeper, admitted.ends);
        let bucket = Arc::new(Bucket { number, epoch, keeper, ends, ended });
        live.buckets.insert(epoch, bucket.clone());
        Ok(bucket)
    }

    /// Copies a bucket's key out, for one derivation: its own, and not that of a later one of the
    /// same number.
    pub fn read(&self, bucket: &Bucket, out: &mut Secret<32>) -> Result<(), Gone> {
        self.keyring.read(bucket.epoch, out)?;
        // Asked afterwards: if it lives still, so it did while its key was read.
        if bucket.has_ended() { Err(Gone) } else { Ok(()) }
    }

    /// Destroys the keys of all buckets that have ended; returns how many.
    pub fn sweep(&self, now: Now) -> usize {
        self.live().sweep(&*self.keyring, now)
    }

    pub fn destroy_all(&self, now: Now) {
        let mut live = self.live();
        self.keyring.destroy_all();
        for bucket in std::mem::take(&mut live.buckets).into_values() {
            bucket.ended.get_or_init(|| now.wall);
        }
    }
}

impl Live {
    fn sweep(&mut self, keyring: &dyn Keyring, now: Now) -> usize {
        let swept = keyring.sweep(now);
        for bucket in swept.iter().filter_map(|epoch| self.buckets.remove(epoch)) {
            bucket.ended.get_or_init(|| now.wall);
        }
        swept.len()
    }
}
