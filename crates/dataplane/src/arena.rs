//! A memory allocator for a program that ends after a millisecond: it hands out a fixed block from its beginning to its
//! end and takes back only what it gave last.
//!
//! musl's allocator returns memory to the kernel as soon as it can, and the plugin spends a tenth of its life in
//! `mmap` and `munmap`. What does not fit into the block comes from the system's allocator as ever. Not for daemons.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The block. It costs memory only where it has been written to.
const BYTES: usize = 1 << 20;

/// The allocator, for `#[global_allocator]`.
#[derive(Debug)]
pub struct Arena {
    block: UnsafeCell<[u8; BYTES]>,
    used: AtomicUsize,
}

#[expect(unsafe_code, reason = "an allocator shares its memory")]
// SAFETY: `used` gives each byte of the block to one allocation at a time, by compare-and-exchange; the block itself is
// never looked at as a whole.
unsafe impl Sync for Arena {}

impl Arena {
    /// An allocator with nothing given away.
    #[expect(clippy::large_stack_arrays, reason = "a static's block is made when the program is built")]
    #[expect(clippy::new_without_default, reason = "it is for a static, which needs a const")]
    pub const fn new() -> Self {
        Self { block: UnsafeCell::new([0; BYTES]), used: AtomicUsize::new(0) }
    }

    fn base(&self) -> usize {
        self.block.get() as usize
    }

    fn holds(&self, pointer: *mut u8) -> bool {
        (self.base()..self.base() + BYTES).contains(&(pointer as usize))
    }

    /// Moves the end of what is used, where it is still `from`.
    fn advance(&self, from: usize, to: usize) -> bool {
        self.used.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[expect(unsafe_code, reason = "an allocator's interface is unsafe")]
// SAFETY: each method below hands out memory that nobody else has, of the size and alignment asked for, and moves
// nothing that is in use.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            let used = self.used.load(Ordering::Acquire);
            let start = (self.base() + used).next_multiple_of(layout.align()) - self.base();
            match start.checked_add(layout.size()).filter(|end| *end <= BYTES) {
                Some(end) if self.advance(used, end) => {
                    // SAFETY: start is inside the block.
                    return unsafe { self.block.get().cast::<u8>().add(start) };
                }
                Some(_) => {}
                // SAFETY: the caller's promises are passed on.
                None => return unsafe { System.alloc(layout) },
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if self.holds(pointer) {
            let start = pointer as usize - self.base();
            self.advance(start + layout.size(), start);
        } else {
            // SAFETY: what is not in the block came from the system's allocator, with this layout.
            unsafe { System.dealloc(pointer, layout) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.holds(pointer) {
            // SAFETY: what is not in the block came from the system's allocator, with this layout.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        let start = pointer as usize - self.base();
        let fits = start.checked_add(size).is_some_and(|end| end <= BYTES);
        if size <= layout.size() || (fits && self.advance(start + layout.size(), start + size)) {
            return pointer;
        }
        // SAFETY: the alignment is one that was valid before, and the size is the caller's, which promises that it is.
        let grown = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !grown.is_null() {
            // SAFETY: both have at least the old size, and the new one is nobody else's.
            unsafe { std::ptr::copy_nonoverlapping(pointer, grown, layout.size()) };
        }
        grown
    }
}

#[cfg(test)]
mod tests;
