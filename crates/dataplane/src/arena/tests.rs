use super::*;

#[expect(unsafe_code, reason = "an allocator's interface is unsafe")]
#[test]
fn what_was_given_last_is_taken_back_and_grows_in_place() {
    static ARENA: Arena = Arena::new();
    let layout = Layout::from_size_align(100, 8).expect("a layout");
    // SAFETY: each pointer is used with the layout that it was given for, and not after it was given back.
    unsafe {
        let one = ARENA.alloc(layout);
        let two = ARENA.alloc(layout);
        assert!(two as usize >= one as usize + 100, "two allocations share no byte");
        assert_eq!(ARENA.realloc(two, layout, 5000), two, "the last one grows where it is");
        one.write_bytes(7, 100);
        let moved = ARENA.realloc(one, layout, 200);
        assert_ne!(moved, one, "one that is not the last moves");
        assert_eq!(std::slice::from_raw_parts(moved, 100), [7; 100]);
        let more = Layout::from_size_align(200, 8).expect("a layout");
        ARENA.dealloc(moved, more);
        assert_eq!(ARENA.alloc(more), moved);
    }
}

#[expect(unsafe_code, reason = "an allocator's interface is unsafe")]
#[test]
fn what_does_not_fit_comes_from_the_system() {
    static ARENA: Arena = Arena::new();
    let layout = Layout::from_size_align(BYTES + 1, 4096).expect("a layout");
    // SAFETY: as above.
    unsafe {
        let large = ARENA.alloc(layout);
        assert!(!ARENA.holds(large));
        let grown = ARENA.realloc(large, layout, 2 * BYTES);
        assert!(!ARENA.holds(grown));
        ARENA.dealloc(grown, Layout::from_size_align(2 * BYTES, 4096).expect("a layout"));
    }
}
