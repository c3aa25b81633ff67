//! `-v`: each mapping system call as it is made, written the way strace writes it.

use nix::errno::Errno;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static SINK: OnceLock<fn(&str)> = OnceLock::new();
static ON: AtomicBool = AtomicBool::new(false);

/// Where every mapping system call goes while [`trace`] is on, as one line without its newline. Once a process: later
/// calls change nothing.
pub fn trace_to(sink: fn(&str)) {
    // A second caller would be the same program asking again; the first answer stands.
    let _ = SINK.set(sink);
}

/// From now on, system calls are traced, or no longer.
pub fn trace(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Passes `result` through; when tracing, writes `call() = result` first.
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

/// Makes a call again while a signal interrupts it: nothing is decided then. But no more than a thousand times, for a
/// filter (seccomp) that answers EINTR to every call would keep the program for ever.
///
/// # Errors
/// What the call says; EINTR when that is all it ever said.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..1000 {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
    call()
}

/// An address, which strace writes in hex and NULL when zero.
pub(super) struct Address(pub usize);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("NULL"),
            address => write!(f, "{address:#x}"),
        }
    }
}
