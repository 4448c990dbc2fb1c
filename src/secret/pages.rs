//! Locked pages: not in core dumps, not in swap, not in a forked child.
//!
//! memfd_secret(2) where the kernel has it: such pages are unmapped from the kernel's own map, so
//! not even /proc/pid/mem shows them. Elsewhere anonymous pages, mlocked and MADV_DONTDUMP. Both
//! are MADV_DONTFORK. Where neither is to be had there are none: ordinary memory never stands in
//! for them (VAULT.md).
//!
//! Miri knows none of these system calls: there pages of the allocator stand in, so that whatever
//! points into pages can be run under it.

use std::ffi::c_void;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, munmap};

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

/// A mapping of locked pages, zero at first; wiped and unmapped on drop.
pub(super) struct Pages {
    base: NonNull<u8>,
    bytes: usize,
    kind: SlabKind,
}

// SAFETY: the pages belong to this value alone, wherever it is; who reaches into them sees to it
// that one thread does at a time.
unsafe impl Send for Pages {}

impl Pages {
    /// Maps and locks `bytes`, a whole number of pages; `None` where the kernel refuses.
    #[cfg(not(miri))]
    pub(super) fn lock(bytes: usize) -> Option<Self> {
        Self::secret(bytes).or_else(|| Self::locked(bytes))
    }

    #[cfg(miri)]
    pub(super) fn lock(bytes: usize) -> Option<Self> {
        // SAFETY: the layout has a size: nobody asks for no pages.
        let base = unsafe { std::alloc::alloc_zeroed(Self::stand_in(bytes)) };
        Some(Self { base: NonNull::new(base)?, bytes, kind: SlabKind::Mlock })
    }

    #[cfg(miri)]
    fn stand_in(bytes: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(bytes, 4096).unwrap()
    }

    #[cfg_attr(miri, expect(dead_code, reason = "Miri knows none of these system calls"))]
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

    #[cfg_attr(miri, expect(dead_code, reason = "Miri knows none of these system calls"))]
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

    #[cfg_attr(miri, expect(dead_code, reason = "Miri knows none of these system calls"))]
    fn shield(base: *mut c_void, bytes: usize, kind: SlabKind) -> Option<Self> {
        let pages = Self { base: NonNull::new(base.cast::<u8>())?, bytes, kind };
        // SAFETY: base..base+bytes is a mapping of ours; DONTFORK changes no contents.
        let shielded = unsafe { madvise(base, bytes, Advice::LinuxDontFork) };
        shielded.is_ok().then_some(pages)
    }

    pub(super) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn kind(&self) -> SlabKind {
        self.kind
    }

    pub(super) const fn all(&mut self) -> &mut [u8] {
        // SAFETY: the whole mapping is ours, initialised by the kernel, and lives as long as self.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // Whoever handed out parts of it has wiped those; wiping the rest would only touch pages
        // that were never used.
        #[cfg(not(miri))]
        // SAFETY: the mapping is ours, and whoever hands out parts of it keeps self alive.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        #[cfg(miri)]
        // SAFETY: as above, of the allocator, with the layout it was asked for.
        unsafe {
            std::alloc::dealloc(self.base.as_ptr(), Self::stand_in(self.bytes));
        }
    }
}

/// What the kernel says of this process's mappings, for the tests of this room.
#[cfg(test)]
#[cfg(not(miri))]
#[expect(clippy::disallowed_methods, reason = "this room is below the seam that opens files")]
pub(super) fn smaps() -> String {
    std::fs::read_to_string("/proc/self/smaps").unwrap()
}
