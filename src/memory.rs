//! What happens when no memory is left: before a file is changed the program may end, afterwards it must not.

use nix::libc::RLIM_INFINITY;
use nix::sys::resource::{Resource, getrlimit};
use std::sync::atomic::{AtomicBool, Ordering};

static CHANGING: AtomicBool = AtomicBool::new(false);

/// Whether a file may be changed in part. The rest of the work then needs little memory, which comes from a reserve.
/// Otherwise the program ends with code 2 and the message of [`explain`].
pub fn is_changing() -> bool {
    CHANGING.load(Ordering::Relaxed)
}

/// Must be called right before a file is changed.
pub fn begin_change() {
    CHANGING.store(true, Ordering::Relaxed);
}

/// Must be called when a verb of a session begins: the changes of the one before it are complete.
pub fn end_change() {
    CHANGING.store(false, Ordering::Relaxed);
}

/// Why the system refused `size` bytes, and what to do about it.
pub fn explain(size: usize) -> (String, &'static str) {
    let limit = |resource| getrlimit(resource).ok().map(|(soft, _)| soft).filter(|soft| *soft != RLIM_INFINITY);
    match (limit(Resource::RLIMIT_AS), limit(Resource::RLIMIT_DATA)) {
        (Some(limit), _) => (
            format!("the address space limit RLIMIT_AS is {limit} bytes, and {size} more are needed"),
            "raise the limit: 'ulimit -v unlimited', or 'ulimit -v' and a number of KiB",
        ),
        (None, Some(limit)) => (
            format!("the data limit RLIMIT_DATA is {limit} bytes, and {size} more are needed"),
            "raise the limit: 'ulimit -d unlimited', or 'ulimit -d' and a number of KiB",
        ),
        (None, None) => (format!("the system refused {size} bytes"), "see 'free' and /proc/sys/vm/overcommit_memory"),
    }
}
