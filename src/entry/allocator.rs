//! Where memory comes from: the C library, and where it has none left, a reserve; or the program ends, and says why.
//! Rust's own answer is SIGABRT, which would leave a file half-written.
#![allow(unsafe_code)]

use mmapctl::error::{Exit, out_of_memory};
use mmapctl::memory::is_changing;
use nix::libc;
use nix::unistd::gettid;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// How much the reserve has, in bytes. It takes address space alone until it is used.
const SIZE: usize = 2 << 20;

/// The allocator of the program.
pub struct Allocator;

/// Memory that is handed out once.
struct Reserve {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: each piece of the bytes is handed out to one caller alone, by `used`.
unsafe impl Sync for Reserve {}

static RESERVE: Reserve = Reserve {
    bytes: UnsafeCell::new([0; SIZE]),
    used: AtomicUsize::new(0),
};

/// The thread that ends the program for want of memory; 0 while none does.
static ENDING: AtomicI32 = AtomicI32::new(0);

impl Reserve {
    fn base(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    fn has(&self, memory: *mut u8) -> bool {
        memory.addr().wrapping_sub(self.base().addr()) < SIZE
    }

    /// Zeroed memory, or null when it is used up.
    fn take(&self, layout: Layout) -> *mut u8 {
        let base = self.base();
        let place = |used: usize| (base.addr() + used).next_multiple_of(layout.align()) - base.addr();
        let end = |used: usize| place(used).checked_add(layout.size()).filter(|end| *end <= SIZE);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end) {
            Ok(used) => base.wrapping_add(place(used)),
            Err(_) => std::ptr::null_mut(),
        }
    }
}

/// What to give where the C library gives nothing.
fn instead(layout: Layout) -> *mut u8 {
    if is_changing() {
        return RESERVE.take(layout);
    }
    let thread = gettid().as_raw();
    match ENDING.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        // The message takes memory itself.
        Err(ending) if ending == thread => return RESERVE.take(layout),
        Err(_) => loop {
            // Another thread is about to end them all.
            std::thread::sleep(std::time::Duration::MAX);
        },
    }
    let text = out_of_memory(layout.size());
    // A closed stderr leaves the exit code.
    let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
    // SAFETY: it ends the process, at once: any lock may be held here.
    unsafe { libc::_exit(Exit::Failed as libc::c_int) }
}

// SAFETY: memory is the C library's, as in `System`, or a piece of the reserve that nobody else has, aligned and as long
// as asked; each goes back to where it came from.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of `System`.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { instead(layout) } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() { instead(layout) } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !RESERVE.has(memory) {
            // SAFETY: it came from there.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !RESERVE.has(memory) {
            // SAFETY: it came from there, and the caller's contract is that of `System`.
            let moved = unsafe { System.realloc(memory, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller sees to it that the size is one of a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let moved = instead(wanted);
        if !moved.is_null() {
            // SAFETY: both have as many bytes, and they are two pieces of memory.
            unsafe { moved.copy_from_nonoverlapping(memory, layout.size().min(size)) };
            // SAFETY: nobody uses it any more.
            unsafe { self.dealloc(memory, layout) };
        }
        moved
    }
}
