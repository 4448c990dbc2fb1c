//! Salts, and the one sign a process has that its random source repeats itself.

use std::sync::{Arc, Mutex, PoisonError};

use crate::entropy::{Entropy, EntropyError};
use crate::keyring::{Keys, Suspicion};

/// Draws salts. Two equal ones in a row: every key is destroyed, and no salt is given out
/// (VAULT.md, rule 6).
pub(super) struct Salts {
    // Dependencies.
    entropy: Arc<dyn Entropy>,
    keys: Arc<Keys>,
    // State.
    last: Mutex<Vec<u8>>,
}

impl Salts {
    pub(super) fn new(entropy: Arc<dyn Entropy>, keys: Arc<Keys>) -> Self {
        Self { entropy, keys, last: Mutex::default() }
    }
}

impl Entropy for Salts {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        // Held over the draw: what is compared is then what the source gave in a row.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.entropy.fill(out)?;
        if *last == out {
            self.keys.condemn(Suspicion::SameSalt);
            return Err(EntropyError);
        }
        last.clear();
        last.extend_from_slice(out);
        Ok(())
    }
}
