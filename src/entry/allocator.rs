//! Allocates memory from the C library, or, when that fails, from a reserve; otherwise the program ends with a message.
//! By default, Rust would abort with SIGABRT, which would leave a file half-written.
#![allow(unsafe_code)]

use mmapctl::error::{Exit, out_of_memory};
use mmapctl::memory::is_changing;
use nix::libc;
use nix::unistd::gettid;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// The size of the reserve in bytes. It takes only address space until it is used.
const SIZE: usize = 2 << 20;

/// The allocator of the program.
pub struct Allocator;

/// Memory that is handed out once and not reused.
struct Reserve {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: `used` ensures that each piece of the bytes is handed out to one caller only.
unsafe impl Sync for Reserve {}

static RESERVE: Reserve = Reserve {
    bytes: UnsafeCell::new([0; SIZE]),
    used: AtomicUsize::new(0),
};

/// The thread that is ending the program because memory has run out; 0 if there is none.
static ENDING: AtomicI32 = AtomicI32::new(0);

impl Reserve {
    fn base(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    fn has(&self, memory: *mut u8) -> bool {
        memory.addr().wrapping_sub(self.base().addr()) < SIZE
    }

    /// Zeroed memory, or null if the reserve is used up.
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

/// What to return if the C library has no memory.
fn instead(layout: Layout) -> *mut u8 {
    if is_changing() {
        return RESERVE.take(layout);
    }
    let thread = gettid().as_raw();
    match ENDING.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        // Making the message takes memory itself.
        Err(ending) if ending == thread => return RESERVE.take(layout),
        Err(_) => loop {
            // Another thread is about to end the process.
            std::thread::sleep(std::time::Duration::MAX);
        },
    }
    let text = out_of_memory(layout.size());
    // If stderr is closed, the exit code remains.
    let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
    // SAFETY: it ends the process at once, without running exit handlers, because any lock may be held here.
    unsafe { libc::_exit(Exit::Failed as libc::c_int) }
}

// SAFETY: memory is from the C library, as in `System`, or a piece of the reserve that no other caller has, aligned and
// as long as requested; each is returned to where it came from.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of `System`.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { instead(layout) } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of `System`.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() { instead(layout) } else { memory }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !RESERVE.has(memory) {
            // SAFETY: the memory was allocated there.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !RESERVE.has(memory) {
            // SAFETY: the memory was allocated there, and the caller's contract is that of `System`.
            let moved = unsafe { System.realloc(memory, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller ensures that the size is valid for a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let moved = instead(wanted);
        if !moved.is_null() {
            // SAFETY: both have at least this many bytes, and they do not overlap.
            unsafe { moved.copy_from_nonoverlapping(memory, layout.size().min(size)) };
            // SAFETY: the old memory is not used any more.
            unsafe { self.dealloc(memory, layout) };
        }
        moved
    }
}
