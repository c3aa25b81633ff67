//! `-v`: prints each mapping system call in the format of strace.

use nix::errno::Errno;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static SINK: OnceLock<fn(&str)> = OnceLock::new();
static ON: AtomicBool = AtomicBool::new(false);

/// Sets the function that receives each mapping system call while [`trace`] is on, as one line without a newline. Only
/// the first call has an effect.
pub fn trace_to(sink: fn(&str)) {
    // A later call comes from the same program, and the first function is kept.
    let _ = SINK.set(sink);
}

/// Turns tracing of system calls on or off.
pub fn trace(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Returns `result`. If tracing is on, prints `call() = result` first.
pub(super) fn traced<T: fmt::Display>(result: Result<T, Errno>, call: impl FnOnce() -> String) -> Result<T, Errno> {
    if ON.load(Ordering::Relaxed)
        && let Some(sink) = SINK.get()
    {
        match &result {
            Ok(value) => sink(&format!("{} = {value}", call())),
            Err(errno) => sink(&format!("{} = -1 {errno:?} ({})", call(), errno.desc())),
        }
    }
    result
}

/// Repeats a call while it is interrupted by a signal, since that does not decide its result. The limit is a thousand
/// times, because a filter (seccomp) that answers EINTR to every call would make it loop forever.
///
/// # Errors
/// Any error of the call; EINTR if it never returned anything else.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..1000 {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
    call()
}

/// An address, formatted as by strace: in hex, or NULL if it is zero.
pub(super) struct Address(pub usize);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("NULL"),
            address => write!(f, "{address:#x}"),
        }
    }
}
