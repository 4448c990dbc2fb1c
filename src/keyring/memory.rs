//! Epoch keys in this process's locked pages: they die with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Admitted, Gone, Held, Keyring, KeyringError};
use crate::clock::Now;
use crate::entropy::Entropy;
use crate::file::{Deadline, Epoch};
use crate::secret::{Secret, Slab, Slot};

/// The `memory` backend: one slot of the slab per bucket, at most 171 of them.
pub struct MemoryKeyring {
    slab: Slab,
    keys: Mutex<BTreeMap<Epoch, Bucket>>,
}

struct Bucket {
    key: Slot,
    ends: Deadline,
}

impl MemoryKeyring {
    #[must_use]
    pub fn new(slab: Slab) -> Self {
        Self { slab, keys: Mutex::default() }
    }

    /// The bucket, if its key is here.
    pub(super) fn holds(&self, epoch: Epoch) -> Option<Admitted> {
        let keeper = self.name();
        self.keys().get(&epoch).map(|bucket| Admitted { keeper, ends: bucket.ends })
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, BTreeMap<Epoch, Bucket>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keyring for MemoryKeyring {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn admit(&self, deadline: Deadline, entropy: &dyn Entropy) -> Result<Admitted, KeyringError> {
        let (mut keys, keeper) = (self.keys(), self.name());
        if let Some(bucket) = keys.get(&deadline.epoch()) {
            return Ok(Admitted { keeper, ends: bucket.ends });
        }
        let mut key = Secret::<32>::zero();
        entropy.fill(key.expose_mut())?;
        if key.is_zero() {
            return Err(KeyringError::ZeroSecret);
        }
        let key = self.slab.put(&key).ok_or(KeyringError::Full)?;
        keys.insert(deadline.epoch(), Bucket { key, ends: deadline });
        Ok(Admitted { keeper, ends: deadline })
    }

    fn read(&self, epoch: Epoch, out: &mut Secret<32>) -> Result<(), Gone> {
        let keys = self.keys();
        let bucket = keys.get(&epoch).ok_or(Gone)?;
        self.slab.read(&bucket.key, out);
        Ok(())
    }

    fn sweep(&self, now: Now) -> Vec<Epoch> {
        let mut keys = self.keys();
        let due = keys.extract_if(.., |_, bucket| bucket.ends.is_due(now));
        due.map(|(epoch, _wiped_here)| epoch).collect()
    }

    fn destroy_all(&self) {
        self.keys().clear();
    }

    fn held(&self) -> Held {
        Held { kernel: 0, memory: self.keys().len() }
    }
}
