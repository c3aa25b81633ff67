//! A child process that inherits the mappings: fork(2). One of the `unsafe` submodules.
#![allow(unsafe_code)]

use super::super::error::{Error, Result};
use super::super::trace::traced;
use super::Region;
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

impl Region {
    /// Must be called in a forked child. A mapping that was not inherited must not be used, because other memory may be
    /// at its address.
    pub fn look_after_fork(&mut self) {
        // A child inherits no locks, see mlock(2).
        self.locked = None;
        if self.dont_fork {
            self.not_inherited = true;
            // The window must not be unmapped here.
            std::mem::forget(self.window.take());
        }
    }
}

/// Runs `work` in a forked child, which has every mapping as it is (shared ones together with the parent, private ones
/// copied on write), and waits for it. Returns the child's exit code: the result of `work`, or 128 plus the number of
/// the signal that ended it.
///
/// No other thread of the caller may hold a lock: a child has no other thread, so the lock would stay locked.
///
/// # Errors
/// Any error of fork(2).
pub fn in_child(work: impl FnOnce() -> u8) -> Result<u8> {
    let failed = |errno| Error::sys("fork", None, errno);
    // SAFETY: no other thread runs, except possibly one that a failed script left waiting for its source: it holds no
    // lock that the child needs (stdin is taken once, and the C library makes its allocator consistent). So the child
    // may do everything that the parent may; it exits by _exit and never returns into the parent's code.
    let child = match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            let code = work();
            // SAFETY: ends the process without the parent's clean-up.
            unsafe { libc::_exit(libc::c_int::from(code)) }
        }
        ForkResult::Parent { child } => child,
    };
    let _ = traced(Ok(child), || "fork()".into());
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code as u8),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as u8),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}
