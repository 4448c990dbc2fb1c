//! Epoch keys in the kernel: it ends them on time even when this process is stopped or hangs.
//!
//! They lie in the process keyring with rights for its possessor alone (VAULT.md, "Keeper of epoch
//! keys"). Another process of the user, a forked child, a program in a user namespace: none of
//! them possesses it. The kernel refuses a key from its timeout on, and ends it with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::BASE32_NOPAD;
use rustix::io::Errno;

use super::keyctl::{self, POSSESSOR_ONLY, Serial};
use super::memory::MemoryKeyring;
use super::{Admitted, Gone, Held, Keyring, KeyringError};
use crate::clock::{Clock, Now, within_one_second};
use crate::entropy::{Entropy, EntropyError, SystemEntropy, random};
use crate::file::{BETWEEN_READINGS, Deadline, Epoch};
use crate::metrics;
use crate::secret::{Secret, Slab};

/// Why the kernel cannot keep keys here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("this kernel has no keyrings")]
    Missing,
    /// What a container's default seccomp profile does.
    #[error("the process may not use keyrings (a container's default profile forbids it)")]
    Forbidden,
    #[error("the user's quota of kernel keys is used up (/proc/sys/kernel/keys/maxkeys)")]
    Quota,
    #[error("a trial key could not be {0} ({1})")]
    Trial(&'static str, Errno),
    #[error("a trial key did not keep to {0}")]
    Broken(&'static str),
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Proof that this process has its keyring, and that the kernel keeps its word there.
#[derive(Clone, Copy, Debug)]
pub struct ProcessKeyring(());

impl ProcessKeyring {
    /// Makes the keyring and puts a trial key through a life. Call it before the first other
    /// thread: threads that exist already would not possess the keyring.
    ///
    /// # Errors
    /// When keys cannot be kept, timed, shielded or ended here.
    pub fn prepare() -> Result<Self, Unusable> {
        keyctl::join().map_err(|errno| Unusable::of("joined to a keyring", errno))?;
        let mut secret = Secret::<32>::zero();
        SystemEntropy.fill(secret.expose_mut())?;
        let trial = Key::add(&secret).map_err(|errno| Unusable::of("added", errno))?;
        let serial = trial.0;
        trial.end_in(60).map_err(|errno| Unusable::of("timed", errno))?;
        trial.shield().map_err(|errno| Unusable::of("shielded", errno))?;
        let mut out = Secret::zero();
        trial.read(&mut out).map_err(|errno| Unusable::of("read", errno))?;
        if out.expose() != secret.expose() {
            return Err(Unusable::Broken("its content"));
        }
        if keyctl::permissions(serial) != Ok(POSSESSOR_ONLY) {
            return Err(Unusable::Broken("its permissions"));
        }
        if keyctl::set_timeout(serial, 120).is_ok() {
            return Err(Unusable::Broken("its timeout"));
        }
        drop(trial);
        if keyctl::read(serial, &mut out).is_ok() {
            return Err(Unusable::Broken("its end"));
        }
        Ok(Self(()))
    }
}

impl Unusable {
    const fn of(step: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::NOSYS => Self::Missing,
            Errno::PERM => Self::Forbidden,
            Errno::DQUOT => Self::Quota,
            errno => Self::Trial(step, errno),
        }
    }
}

/// The `kernel` backend; what the user's quota has no room for goes to the `memory` one.
pub struct KernelKeyring {
    // Dependencies.
    clock: Arc<dyn Clock>,
    overflow: MemoryKeyring,
    // State.
    keys: Mutex<BTreeMap<Epoch, Bucket>>,
}

struct Bucket {
    key: Key,
    ends: Deadline,
    /// The kernel has ended the key before us: it goes with the next sweep.
    lost: bool,
}

impl KernelKeyring {
    #[must_use]
    pub fn new(_: ProcessKeyring, clock: Arc<dyn Clock>, slab: Slab) -> Self {
        Self { clock, overflow: MemoryKeyring::new(slab), keys: Mutex::default() }
    }

    /// The number of a bucket's key: for tests that try to get at it from elsewhere.
    #[must_use]
    pub fn serial(&self, epoch: Epoch) -> Option<i32> {
        self.keys().get(&epoch).map(|bucket| bucket.key.0.0)
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, BTreeMap<Epoch, Bucket>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key for the bucket, with its end and its permissions: without them it is dropped, and
    /// nothing was sealed with it.
    fn keep(&self, secret: &Secret<32>, ends: Deadline) -> Result<Key, Refused> {
        let key = Key::add(secret)?;
        within_one_second(|| match seconds_left(ends, self.clock.now()) {
            0 => Err(Refused::Late),
            seconds => Ok(key.end_in(seconds)?),
        })?;
        key.shield()?;
        Ok(key)
    }
}

/// Whole seconds until the first of the two clocks ends the bucket, counted as the kernel does: it
/// adds them to the second that CLOCK_REALTIME shows, so that a key ends with a bucket that ends
/// with a second, and before any other.
fn seconds_left(ends: Deadline, now: Now) -> u32 {
    let by_boot = now.wall.plus(now.boot.until(ends.boot())).plus(BETWEEN_READINGS);
    let end = ends.expires_at().min(by_boot).unix_seconds();
    u32::try_from(end.saturating_sub(now.wall.unix_seconds())).unwrap_or(0)
}

/// Why the kernel did not take a key.
enum Refused {
    Late,
    Kernel(Errno),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

impl Keyring for KernelKeyring {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn admit(&self, deadline: Deadline, entropy: &dyn Entropy) -> Result<Admitted, KeyringError> {
        let (mut keys, keeper) = (self.keys(), self.name());
        let epoch = deadline.epoch();
        if let Some(bucket) = keys.get(&epoch) {
            return Ok(Admitted { keeper, ends: bucket.ends });
        }
        if let Some(bucket) = self.overflow.holds(epoch) {
            return Ok(bucket);
        }
        let mut secret = Secret::<32>::zero();
        entropy.fill(secret.expose_mut())?;
        if secret.is_zero() {
            return Err(KeyringError::ZeroSecret);
        }
        match self.keep(&secret, deadline) {
            Ok(key) => {
                keys.insert(epoch, Bucket { key, ends: deadline, lost: false });
                Ok(Admitted { keeper, ends: deadline })
            }
            Err(Refused::Late) => Err(KeyringError::Gone(Gone)),
            Err(Refused::Kernel(Errno::DQUOT)) => {
                metrics::count(metrics::KEYRING_FALLBACKS, 1);
                tracing::warn!(
                    "the user's quota of kernel keys is used up: one deadline's key stays in memory"
                );
                self.overflow.admit(deadline, entropy)
            }
            Err(Refused::Kernel(_)) => Err(KeyringError::Refused),
        }
    }

    fn read(&self, epoch: Epoch, out: &mut Secret<32>) -> Result<(), Gone> {
        let mut keys = self.keys();
        let Some(bucket) = keys.get_mut(&epoch) else { return self.overflow.read(epoch, out) };
        // Expired, ended by somebody else, not ours: whatever the kernel says, nothing opens.
        bucket.key.read(out).map_err(|errno| {
            bucket.lost |= matches!(errno, Errno::KEYEXPIRED | Errno::KEYREVOKED | Errno::NOKEY);
            Gone
        })
    }

    fn sweep(&self, now: Now) -> Vec<Epoch> {
        let mut ended = self.overflow.sweep(now);
        let mut keys = self.keys();
        let due = keys.extract_if(.., |_, bucket| bucket.lost || bucket.ends.is_due(now));
        ended.extend(due.map(|(epoch, _ended_here)| epoch));
        ended
    }

    fn destroy_all(&self) {
        self.overflow.destroy_all();
        self.keys().clear();
    }

    fn held(&self) -> Held {
        Held { kernel: self.keys().len(), ..self.overflow.held() }
    }
}

/// A key of ours in the process keyring; dropping it ends it.
struct Key(Serial);

impl Key {
    fn add(secret: &Secret<32>) -> Result<Self, Errno> {
        // Says nothing; only tells keys apart, because a keyring has one of each description.
        let name = random::<16>(&SystemEntropy).map_err(|_| Errno::IO)?;
        let mut name = BASE32_NOPAD.encode(&name).into_bytes();
        name.push(0);
        let name = std::ffi::CStr::from_bytes_with_nul(&name).map_err(|_| Errno::INVAL)?;
        keyctl::add(name, secret).map(Self)
    }

    fn end_in(&self, seconds: u32) -> Result<(), Errno> {
        keyctl::set_timeout(self.0, seconds)
    }

    fn shield(&self) -> Result<(), Errno> {
        keyctl::set_permissions(self.0, POSSESSOR_ONLY)
    }

    fn read(&self, out: &mut Secret<32>) -> Result<(), Errno> {
        keyctl::read(self.0, out)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        keyctl::destroy(self.0);
    }
}

#[cfg(test)]
pub(super) mod tests;
