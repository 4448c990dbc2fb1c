//! The one source of randomness: getrandom(2), and a refusal where it fails.

use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha512};

mod machine;
pub use machine::{Machine, SystemMachine};

/// The kernel gave no random bytes. The request that needed them is refused (VAULT.md, rule 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel's random source failed; the request is refused rather than served with weak keys"
)]
pub struct EntropyError;

/// Where secrets, salts and ids come from.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `out` with random bytes.
    ///
    /// # Errors
    /// When the source fails; `out` must then not be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// `N` random bytes.
///
/// # Errors
/// When the source fails.
pub fn random<const N: usize>(source: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut bytes = [0; N];
    source.fill(&mut bytes)?;
    Ok(bytes)
}

/// getrandom(2), never a generator of our own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        let mut rest = out;
        while !rest.is_empty() {
            match getrandom(&mut *rest, GetRandomFlags::empty()) {
                Ok(0) => return Err(EntropyError),
                Ok(n) => rest = &mut rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(EntropyError),
            }
        }
        Ok(())
    }
}

/// The same bytes for the same seed: for simulations, whose failures must be repeatable.
pub struct SeededEntropy {
    seed: u64,
    drawn: Mutex<u64>,
}

impl SeededEntropy {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: Mutex::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        for block in out.chunks_mut(64) {
            let mut hash = Sha512::new();
            hash.update(self.seed.to_be_bytes());
            hash.update(drawn.to_be_bytes());
            *drawn += 1;
            block.copy_from_slice(&hash.finalize()[..block.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gives_different_bytes_each_time() {
        let (a, b) = (random::<32>(&SystemEntropy), random::<32>(&SystemEntropy));
        assert_ne!(a.unwrap(), b.unwrap());
    }

    #[test]
    fn a_seed_repeats_itself_and_differs_from_another() {
        let draw = |seed| random::<100>(&SeededEntropy::new(seed)).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
