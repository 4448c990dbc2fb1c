//! Locked pages for 32-byte secrets: not in core dumps, not in swap, not in a forked child.
//!
//! memfd_secret(2) where the kernel has it: such pages are unmapped from the kernel's own map, so
//! not even /proc/pid/mem shows them. Elsewhere anonymous pages, mlocked and MADV_DONTDUMP. Both
//! are MADV_DONTFORK. A full slab refuses; it never falls back to ordinary memory (VAULT.md).

use std::ffi::c_void;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};
use zeroize::Zeroize;

use crate::secret::Secret;

const SLOT_BYTES: usize = 32;
/// More than this is never locked: half a million files.
const LARGEST_BYTES: usize = 16 << 20;
const SMALLEST_BYTES: usize = 64 << 10;

/// No page could be locked at all.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no memory can be locked for secrets: raise RLIMIT_MEMLOCK (8 MiB is enough to start)")]
pub struct SlabError;

/// What kind of pages the machine gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlabKind {
    MemfdSecret,
    Mlock,
}

impl SlabKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemfdSecret => "memfd_secret",
            Self::Mlock => "mlock",
        }
    }
}

/// A fixed number of 32-byte slots in locked pages.
#[derive(Clone)]
pub struct Slab(Arc<Mutex<Pages>>);

struct Pages {
    base: NonNull<u8>,
    bytes: usize,
    kind: SlabKind,
    fresh: u32,
    free: Vec<u32>,
}

// SAFETY: the pages belong to this value alone and are reached only under the slab's mutex.
unsafe impl Send for Pages {}

/// One secret's place; dropping it wipes the secret.
pub(super) struct Slot {
    slab: Slab,
    index: u32,
}

impl Slab {
    /// Locks as many pages as half of RLIMIT_MEMLOCK allows, at most 16 MiB.
    ///
    /// # Errors
    /// When not even 64 KiB can be locked.
    pub fn lock() -> Result<Self, SlabError> {
        let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
        let half = usize::try_from(limit / 2).unwrap_or(usize::MAX);
        let mut bytes = half.clamp(SMALLEST_BYTES, LARGEST_BYTES).next_power_of_two();
        loop {
            if let Some(pages) = Pages::secret(bytes).or_else(|| Pages::locked(bytes)) {
                return Ok(Self(Arc::new(Mutex::new(pages))));
            }
            bytes /= 2;
            if bytes < SMALLEST_BYTES {
                return Err(SlabError);
            }
        }
    }

    /// Stores a copy of `secret`; `None` when the slab is full.
    pub(super) fn put(&self, secret: &Secret<32>) -> Option<Slot> {
        let mut pages = self.pages();
        let index = pages.claim()?;
        pages.slot(index).copy_from_slice(secret.expose());
        Some(Slot { slab: self.clone(), index })
    }

    pub(super) fn read(&self, slot: &Slot, out: &mut Secret<32>) {
        out.expose_mut().copy_from_slice(self.pages().slot(slot.index));
    }

    #[must_use]
    pub fn kind(&self) -> SlabKind {
        self.pages().kind
    }

    /// Slots in use.
    #[must_use]
    pub fn used(&self) -> usize {
        let pages = self.pages();
        pages.fresh as usize - pages.free.len()
    }

    /// Slots in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pages().bytes / SLOT_BYTES
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut pages = self.slab.pages();
        pages.slot(self.index).zeroize();
        pages.free.push(self.index);
    }
}

impl Pages {
    fn secret(bytes: usize) -> Option<Self> {
        // SAFETY: memfd_secret takes one flag word and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        rustix::fs::ftruncate(&fd, bytes as u64).ok()?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours. The
        // descriptor may be closed right after: the mapping keeps the pages.
        let base =
            unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, fd.as_fd(), 0).ok()? };
        Self::shield(base, bytes, SlabKind::MemfdSecret)
    }

    fn locked(bytes: usize) -> Option<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: as above, anonymous memory at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags).ok()? };
        // SAFETY: base..base+bytes is the mapping made above; locking changes no contents.
        if unsafe { mlock(base, bytes) }.is_err() {
            // SAFETY: the mapping is ours and nothing points into it yet.
            let _ = unsafe { munmap(base, bytes) };
            return None;
        }
        // SAFETY: the same mapping; DONTDUMP changes no contents.
        let _ = unsafe { madvise(base, bytes, Advice::LinuxDontDump) };
        Self::shield(base, bytes, SlabKind::Mlock)
    }

    fn shield(base: *mut c_void, bytes: usize, kind: SlabKind) -> Option<Self> {
        // SAFETY: base..base+bytes is a mapping of ours; DONTFORK changes no contents.
        let shielded = unsafe { madvise(base, bytes, Advice::LinuxDontFork) };
        let base = NonNull::new(base.cast::<u8>())?;
        let pages = Self { base, bytes, kind, fresh: 0, free: Vec::new() };
        shielded.is_ok().then_some(pages)
    }

    fn claim(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = self.fresh;
        (((index as usize) + 1) * SLOT_BYTES <= self.bytes).then(|| {
            self.fresh += 1;
            index
        })
    }

    fn slot(&mut self, index: u32) -> &mut [u8] {
        let at = index as usize * SLOT_BYTES;
        assert!(at + SLOT_BYTES <= self.bytes, "slots are only handed out inside the pages");
        // SAFETY: at..at+32 lies inside the mapping (asserted), which lives as long as self and is
        // reached only through &mut self.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(at), SLOT_BYTES) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the whole mapping is ours; writing it is what it is for.
        let all = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) };
        all[..self.fresh as usize * SLOT_BYTES].zeroize();
        // SAFETY: no slot outlives the slab (each holds a clone of it), so nothing points in.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
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
        let slab = Slab::lock().unwrap();
        let (one, two) = (slab.put(&secret(1)).unwrap(), slab.put(&secret(2)).unwrap());
        let mut out = Secret::zero();
        slab.read(&one, &mut out);
        assert_eq!(out.expose(), &[1; 32]);
        let index = one.index;
        drop(one);
        assert_eq!(slab.pages().slot(index), [0; 32]);
        assert_eq!(slab.used(), 1);
        slab.read(&two, &mut out);
        assert_eq!(out.expose(), &[2; 32]);
    }

    #[test]
    fn a_full_slab_refuses_until_a_slot_is_free() {
        let slab = Slab::lock().unwrap();
        let mut all: Vec<_> = std::iter::from_fn(|| slab.put(&secret(7))).collect();
        assert_eq!(all.len(), slab.capacity());
        all.pop();
        assert!(slab.put(&secret(8)).is_some());
    }

    #[test]
    fn the_pages_are_locked_and_kept_from_children() {
        let slab = Slab::lock().unwrap();
        let base = slab.pages().base.as_ptr() as usize;
        let maps = crate::disk::read_text("/proc/self/smaps".as_ref()).unwrap();
        let ours = maps.split(&format!("{base:08x}-")).nth(1).unwrap();
        let flags = ours.split("VmFlags:").nth(1).unwrap().lines().next().unwrap();
        assert!(flags.contains(" dc"), "MADV_DONTFORK: {flags}");
        assert!(flags.contains(" lo"), "locked: {flags}");
    }
}
