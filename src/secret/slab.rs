//! Locked pages cut into 32-byte slots: where secrets that live longer than a call are kept.
//!
//! A full slab refuses; it never falls back to ordinary memory (VAULT.md).

use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zeroize::Zeroize;

use super::Secret;
use super::pages::{Pages, SlabKind};

const SLOT_BYTES: usize = 32;
/// More than this is never locked: half a million files.
const LARGEST_BYTES: usize = 16 << 20;
const SMALLEST_BYTES: usize = 64 << 10;

/// No page could be locked at all.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no memory can be locked for secrets: raise RLIMIT_MEMLOCK (8 MiB is enough to start)")]
pub struct SlabError;

/// A fixed number of 32-byte slots in locked pages.
#[derive(Clone)]
pub struct Slab(Arc<Mutex<Slots>>);

struct Slots {
    pages: Pages,
    /// Slots in use that are no file's.
    aside: usize,
    fresh: u32,
    free: Vec<u32>,
}

/// What this process may lock, bytes: all that its hard limit allows, which needs no privilege.
fn lockable() -> u64 {
    let most = getrlimit(Resource::Memlock).maximum;
    if setrlimit(Resource::Memlock, Rlimit { current: most, maximum: most }).is_err() {
        return getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    }
    most.unwrap_or(u64::MAX)
}

/// One secret's place; dropping it wipes the secret.
pub struct Slot {
    slab: Slab,
    index: u32,
    aside: bool,
}

impl Slot {
    /// A copy of the secret: zeros, once the slab was wiped.
    #[must_use]
    pub fn secret(&self) -> Secret<32> {
        let mut secret = Secret::zero();
        self.slab.read(self, &mut secret);
        secret
    }
}

impl Slab {
    /// Locks most of what RLIMIT_MEMLOCK allows, at most 16 MiB: of 8 MiB, room for 204 800
    /// secrets. The rest is for the ciphers of running streams, 2800 of them at a time.
    ///
    /// # Errors
    /// When not even 64 KiB can be locked.
    pub fn lock() -> Result<Self, SlabError> {
        let most = lockable() / 32 * 25;
        Self::lock_at_most(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Locks `bytes`, or as many halvings fewer as the machine allows.
    ///
    /// # Errors
    /// When not even 64 KiB can be locked.
    pub fn lock_at_most(bytes: usize) -> Result<Self, SlabError> {
        let mut bytes = bytes.clamp(SMALLEST_BYTES, LARGEST_BYTES);
        while bytes >= SMALLEST_BYTES {
            // Whole pages, whatever their size here.
            bytes -= bytes % SMALLEST_BYTES;
            if let Some(pages) = Pages::lock(bytes) {
                let slots = Slots { pages, aside: 0, fresh: 0, free: Vec::new() };
                return Ok(Self(Arc::new(Mutex::new(slots))));
            }
            bytes /= 2;
        }
        Err(SlabError)
    }

    /// Stores a copy of `secret`; `None` when the slab is full.
    pub fn put(&self, secret: &Secret<32>) -> Option<Slot> {
        self.claim(secret, false)
    }

    /// As [`Slab::put`], for a secret of the process itself: it is not counted among those in use,
    /// and wiped with them.
    pub fn put_aside(&self, secret: &Secret<32>) -> Option<Slot> {
        self.claim(secret, true)
    }

    fn claim(&self, secret: &Secret<32>, aside: bool) -> Option<Slot> {
        let mut slots = self.slots();
        let index = slots.claim()?;
        slots.slot(index).copy_from_slice(secret.expose());
        slots.aside += usize::from(aside);
        Some(Slot { slab: self.clone(), index, aside })
    }

    pub fn read(&self, slot: &Slot, out: &mut Secret<32>) {
        out.expose_mut().copy_from_slice(self.slots().slot(slot.index));
    }

    #[must_use]
    pub fn kind(&self) -> SlabKind {
        self.slots().pages.kind()
    }

    /// Slots in use, those that were put aside left out.
    #[must_use]
    pub fn used(&self) -> usize {
        let slots = self.slots();
        slots.fresh as usize - slots.free.len() - slots.aside
    }

    /// Slots in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots().pages.bytes() / SLOT_BYTES
    }

    /// Wipes every slot, in use or not: each then holds an all-zero secret, which opens nothing.
    pub fn wipe(&self) {
        let mut slots = self.slots();
        let used = slots.fresh as usize * SLOT_BYTES;
        slots.pages.all()[..used].zeroize();
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.slab.slots();
        slots.slot(self.index).zeroize();
        slots.free.push(self.index);
        slots.aside -= usize::from(self.aside);
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let used = self.fresh as usize * SLOT_BYTES;
        self.pages.all()[..used].zeroize();
    }
}

impl Slots {
    fn claim(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = self.fresh;
        (((index as usize) + 1) * SLOT_BYTES <= self.pages.bytes()).then(|| {
            self.fresh += 1;
            index
        })
    }

    fn slot(&mut self, index: u32) -> &mut [u8] {
        let at = index as usize * SLOT_BYTES;
        &mut self.pages.all()[at..at + SLOT_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret<32> {
        let mut secret = Secret::zero();
        secret.expose_mut().fill(byte);
        secret
    }

    #[test]
    fn a_slot_keeps_its_secret_and_wipes_it_when_dropped() {
        let slab = Slab::lock_at_most(256 << 10).unwrap();
        let (one, two) = (slab.put(&secret(1)).unwrap(), slab.put(&secret(2)).unwrap());
        let mut out = Secret::zero();
        slab.read(&one, &mut out);
        assert_eq!(out.expose(), &[1; 32]);
        let index = one.index;
        drop(one);
        assert_eq!(slab.slots().slot(index), [0; 32]);
        assert_eq!(slab.used(), 1);
        slab.read(&two, &mut out);
        assert_eq!(out.expose(), &[2; 32]);
    }

    #[test]
    fn what_was_put_aside_is_wiped_with_the_others_and_not_counted() {
        let slab = Slab::lock_at_most(256 << 10).unwrap();
        let (aside, _counted) = (slab.put_aside(&secret(1)).unwrap(), slab.put(&secret(2)));
        assert_eq!((slab.used(), aside.secret().expose()), (1, &[1; 32]));
        slab.wipe();
        assert!(aside.secret().is_zero());
        drop(aside);
        assert_eq!(slab.used(), 1);
    }

    #[test]
    fn a_wiped_slab_holds_zeros_where_secrets_were() {
        let slab = Slab::lock_at_most(256 << 10).unwrap();
        let held = slab.put(&secret(1)).unwrap();
        slab.wipe();
        let mut out = secret(9);
        slab.read(&held, &mut out);
        assert!(out.is_zero());
    }

    #[test]
    fn a_full_slab_refuses_until_a_slot_is_free() {
        let slab = Slab::lock_at_most(64 << 10).unwrap();
        let mut all: Vec<_> = std::iter::from_fn(|| slab.put(&secret(7))).collect();
        assert_eq!(all.len(), slab.capacity());
        all.pop();
        assert!(slab.put(&secret(8)).is_some());
    }

    #[cfg(not(miri))]
    #[test]
    fn the_pages_are_locked_and_kept_from_children() {
        let slab = Slab::lock_at_most(256 << 10).unwrap();
        let base = slab.slots().pages.base().as_ptr() as usize;
        let maps = super::super::pages::smaps();
        let ours = maps.split(&format!("{base:08x}-")).nth(1).unwrap();
        let flags = ours.split("VmFlags:").nth(1).unwrap().lines().next().unwrap();
        assert!(flags.contains(" dc"), "MADV_DONTFORK: {flags}");
        assert!(flags.contains(" lo"), "locked: {flags}");
    }
}
