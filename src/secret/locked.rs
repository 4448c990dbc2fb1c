//! Values in locked pages: the keyed ciphers of running streams, and keys on their way to them.
//!
//! One arena for the process, because such values are made wherever a stream begins. It grows by
//! a block at a time as far as RLIMIT_MEMLOCK goes, and then refuses.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize;

use super::Secret;
use super::pages::Pages;

/// Room for the largest value, a keyed AES-256-GCM of AWS-LC (584 bytes); whole cache lines.
const CELL_BYTES: usize = 640;
const ALIGNMENT: usize = 64;
const BLOCK_BYTES: usize = 64 << 10;

/// A type whose values may be made and unmade as plain bytes.
///
/// # Safety
/// All-zero bytes are a valid value, and overwriting a value with zeros is all that dropping it
/// must do: it owns nothing.
pub unsafe trait AllZero {}

// SAFETY: an array of bytes; what its drop does is zero them.
unsafe impl<const N: usize> AllZero for Secret<N> {}

/// A value in locked pages, at the same place for as long as it lives: moving the handle leaves no
/// copy behind. Zeroed on drop.
pub struct Locked<T: AllZero> {
    cell: NonNull<T>,
    owns: PhantomData<T>,
}

// SAFETY: the cell belongs to this handle alone, like the content of a Box.
unsafe impl<T: AllZero + Send> Send for Locked<T> {}
// SAFETY: as with a Box, a shared handle gives shared references only.
unsafe impl<T: AllZero + Sync> Sync for Locked<T> {}

struct Arena {
    /// Kept for ever: cells point into them.
    blocks: Vec<Pages>,
    /// Zeroed and unused.
    free: Vec<Free>,
}

struct Free(NonNull<u8>);

// SAFETY: a pointer to a cell that nobody uses; it says nothing about a thread.
unsafe impl Send for Free {}

static ARENA: Mutex<Arena> = Mutex::new(Arena { blocks: Vec::new(), free: Vec::new() });

impl Arena {
    fn claim(&mut self) -> Option<NonNull<u8>> {
        if self.free.is_empty() {
            let block = Pages::lock(BLOCK_BYTES)?;
            for at in (0..=BLOCK_BYTES - CELL_BYTES).step_by(CELL_BYTES) {
                // SAFETY: at + CELL_BYTES lies inside the block, which is never unmapped.
                self.free.push(Free(unsafe { block.base().add(at) }));
            }
            self.blocks.push(block);
        }
        self.free.pop().map(|cell| cell.0)
    }

    /// Takes a cell back, and zeroes it.
    ///
    /// # Safety
    /// The cell is one of this arena's, and nobody uses it any more.
    unsafe fn give_back(&mut self, cell: NonNull<u8>) {
        // SAFETY: a cell is CELL_BYTES of a block that is never unmapped, and is nobody else's.
        unsafe { std::slice::from_raw_parts_mut(cell.as_ptr(), CELL_BYTES) }.zeroize();
        self.free.push(Free(cell));
    }
}

impl<T: AllZero> Locked<T> {
    const FITS: () = assert!(size_of::<T>() <= CELL_BYTES && align_of::<T>() <= ALIGNMENT);

    /// A value of zeros, to be filled in place; `None` when no more memory can be locked.
    #[must_use]
    pub fn zeroed() -> Option<Self> {
        const { Self::FITS };
        let cell = ARENA.lock().unwrap_or_else(PoisonError::into_inner).claim()?;
        Some(Self { cell: cell.cast(), owns: PhantomData })
    }
}

impl<T: AllZero> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the cell is ours, large and aligned enough (FITS; blocks start on pages, and a
        // cell is a whole number of cache lines), and holds a T: zeros at first (AllZero).
        unsafe { self.cell.as_ref() }
    }
}

impl<T: AllZero> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and &mut self is the only way to it.
        unsafe { self.cell.as_mut() }
    }
}

impl<T: AllZero> Drop for Locked<T> {
    fn drop(&mut self) {
        let mut arena = ARENA.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `zeroed` took the cell from there, and this handle was its only user; zeros end
        // the value (AllZero).
        unsafe { arena.give_back(self.cell.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_where_it_is_when_its_handle_moves() {
        let mut value = Locked::<Secret<32>>::zeroed().unwrap();
        assert!(value.is_zero());
        value.expose_mut().fill(7);
        let at = value.cell;
        let moved = value;
        assert_eq!((moved.cell, moved.expose()), (at, &[7; 32]));
    }

    #[test]
    fn a_cell_is_zero_when_it_is_free_again() {
        let mut arena = Arena { blocks: Vec::new(), free: Vec::new() };
        let cell = arena.claim().unwrap();
        // SAFETY: the cell was just handed out, to nobody else.
        let bytes = unsafe { std::slice::from_raw_parts_mut(cell.as_ptr(), CELL_BYTES) };
        bytes.fill(7);
        // SAFETY: it is this arena's, and `bytes` is not used past this line.
        unsafe { arena.give_back(cell) };
        // SAFETY: the arena lives, and with it the block.
        assert_eq!(unsafe { std::slice::from_raw_parts(cell.as_ptr(), CELL_BYTES) }, [0; 640]);
    }

    #[test]
    fn cells_are_aligned_and_apart() {
        let many: Vec<_> = (0..300).map(|_| Locked::<Secret<32>>::zeroed().unwrap()).collect();
        let mut places: Vec<usize> = many.iter().map(|one| one.cell.as_ptr() as usize).collect();
        assert!(places.iter().all(|at| at % ALIGNMENT == 0));
        places.sort_unstable();
        assert!(places.windows(2).all(|two| two[1] - two[0] >= CELL_BYTES));
    }

    #[cfg(not(miri))]
    #[test]
    fn cells_are_in_locked_pages() {
        let one = Locked::<Secret<32>>::zeroed().unwrap();
        let smaps = super::super::pages::smaps();
        let flags = flags_at(&smaps, one.cell.as_ptr() as usize).unwrap();
        assert!(flags.contains(" dc") && flags.contains(" lo"), "{flags}");
    }

    #[cfg(not(miri))]
    fn flags_at(smaps: &str, at: usize) -> Option<&str> {
        let mut inside = false;
        for line in smaps.lines() {
            if let Some((from, to)) = line.split(' ').next().and_then(|word| word.split_once('-')) {
                let bounds = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16));
                if let (Ok(from), Ok(to)) = bounds {
                    inside = (from..to).contains(&at);
                }
            }
            if inside && line.starts_with("VmFlags:") {
                return Some(line);
            }
        }
        None
    }
}
