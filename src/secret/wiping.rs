//! An allocator that zeroes memory as it is freed: whatever a library kept of a request, its read
//! buffer, a header map, a string half grown, is gone when that library lets go of it.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, wiping what comes back. `main` makes it the program's own.
///
/// C libraries (AWS-LC, zstd) have an allocator of their own; AWS-LC cleanses what it frees.
pub struct Wiping;

// SAFETY: every call goes to System under the caller's own contract; what is written is memory that
// the caller has just given up and that System has not been told of yet.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, as GlobalAlloc demands it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, as GlobalAlloc demands it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller owns these bytes until System has them back; they are only written.
        unsafe { block.write_bytes(0, layout.size()) };
        // A block that is about to be freed is dead to the compiler, which would leave the zeroing
        // out: here somebody else may look at it.
        std::hint::black_box(block);
        // SAFETY: the caller's block and layout.
        unsafe { System.dealloc(block, layout) }
    }

    // `realloc` stays GlobalAlloc's own: it allocates, copies and deallocates, and so never leaves
    // the old place behind unwiped.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_or_shrinks_keeps_its_content() {
        let layout = Layout::from_size_align(48, 16).unwrap();
        // SAFETY: the layout has a size; each block is used within it, and given back once, with
        // the layout it then has.
        unsafe {
            let block = Wiping.alloc_zeroed(layout);
            assert_eq!(std::slice::from_raw_parts(block, 48), [0; 48]);
            block.write_bytes(7, 48);
            let block = Wiping.realloc(block, layout, 4096);
            assert_eq!(std::slice::from_raw_parts(block, 48), [7; 48]);
            let block = Wiping.realloc(block, Layout::from_size_align(4096, 16).unwrap(), 16);
            assert_eq!(std::slice::from_raw_parts(block, 16), [7; 16]);
            Wiping.dealloc(block, Layout::from_size_align(16, 16).unwrap());
        }
    }
}
