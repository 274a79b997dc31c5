//! How much memory a decoder asks for at once. Included by path where it is used; a test program that does must make
//! [`Meter`] its allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, noting the largest request of each thread.
pub(crate) struct Meter;

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only passes calls on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

fn note(bytes: usize) {
    // A thread that ends allocates without its cell.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

/// Runs a decoder on this thread; answers its result and the largest allocation that it asked for, bytes.
pub(crate) fn measured<T>(run: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.with(|largest| largest.set(0));
    let result = run();
    (result, LARGEST.with(Cell::get))
}
