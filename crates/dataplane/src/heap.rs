//! A memory allocator for a daemon: small pieces come from a heap that keeps what is free, large ones from the system, which
//! returns them to the kernel when they are.
//!
//! musl's own allocator maps and unmaps memory for a few pieces at a time, which costs a start with thousands of peers a sixth of
//! the processor time of its planning. The heap does not, but what a large piece leaves in it would stay the daemon's for good.

use std::alloc::{GlobalAlloc, Layout, System};

use dlmalloc::GlobalDlmalloc;

/// From how many bytes on a piece is large.
const LARGE: usize = 64 * 1024;

/// The allocator, for `#[global_allocator]`.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

fn is_large(size: usize) -> bool {
    size >= LARGE
}

#[expect(unsafe_code, reason = "an allocator's interface is unsafe")]
// SAFETY: each piece comes from, and goes back to, the one allocator that its size stands for, with the caller's own promises.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { if is_large(layout.size()) { System.alloc(layout) } else { GlobalDlmalloc.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe {
            if is_large(layout.size()) { System.alloc_zeroed(layout) } else { GlobalDlmalloc.alloc_zeroed(layout) }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that this is the layout that the piece was asked for with, so it came from there.
        unsafe {
            if is_large(layout.size()) {
                System.dealloc(pointer, layout);
            } else {
                GlobalDlmalloc.dealloc(pointer, layout);
            }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (is_large(layout.size()), is_large(size)) {
            // SAFETY: as for `dealloc`; it stays with the same allocator.
            (false, false) => unsafe { GlobalDlmalloc.realloc(pointer, layout, size) },
            // SAFETY: the same.
            (true, true) => unsafe { System.realloc(pointer, layout, size) },
            _ => {
                // SAFETY: the alignment was valid before, and the caller promises that the size is.
                let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
                if !moved.is_null() {
                    // SAFETY: both are at least as long as the shorter one, and the new one is nobody else's. The old one is
                    // the caller's to give.
                    unsafe {
                        std::ptr::copy_nonoverlapping(pointer, moved, layout.size().min(size));
                        self.dealloc(pointer, layout);
                    }
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests;
