//! What an allocator promises, on both sides of the size at which it changes.

use std::alloc::{GlobalAlloc, Layout};

use super::{Heap, LARGE};

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 16).expect("a layout")
}

#[test]
#[expect(unsafe_code, reason = "an allocator's interface is unsafe")]
fn what_is_written_stays_through_all_sizes() {
    let sizes = [1, 100, LARGE - 1, LARGE, 3 * LARGE, LARGE + 1, LARGE - 1, 50, 2 * LARGE, 7];
    let mut length = sizes[0];
    // SAFETY: the layout has a size.
    let mut pointer = unsafe { Heap.alloc(layout(length)) };
    for (mark, size) in (1..).zip(sizes) {
        // SAFETY: it came with this layout, and the new size is not zero.
        pointer = unsafe { Heap.realloc(pointer, layout(length), size) };
        assert!(!pointer.is_null() && pointer.addr().is_multiple_of(16), "{size} bytes");
        // SAFETY: it has `size` bytes, all of which are written before they are read.
        let bytes = unsafe {
            if size > length {
                pointer.add(length).write_bytes(mark - 1, size - length);
            }
            std::slice::from_raw_parts_mut(pointer, size)
        };
        let kept = length.min(size);
        assert!(mark == 1 || bytes[..kept].iter().all(|byte| *byte == mark - 1), "{size} bytes after {length}");
        bytes.fill(mark);
        length = size;
    }
    // SAFETY: it came with this layout.
    unsafe { Heap.dealloc(pointer, layout(length)) };
}

#[test]
#[expect(unsafe_code, reason = "an allocator's interface is unsafe")]
fn zeroed_memory_is_zero_where_it_was_used_before() {
    for size in [64, LARGE - 1, LARGE] {
        for _ in 0..3 {
            // SAFETY: the layout has a size; it is read within that, and given back with the same.
            unsafe {
                let pointer = Heap.alloc_zeroed(layout(size));
                let bytes = std::slice::from_raw_parts_mut(pointer, size);
                assert!(bytes.iter().all(|byte| *byte == 0), "{size} bytes");
                bytes.fill(0xff);
                Heap.dealloc(pointer, layout(size));
            }
        }
    }
}
