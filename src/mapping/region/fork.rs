//! A child process that inherits the mappings: fork(2). Part of the door for `unsafe`.
#![allow(unsafe_code)]

use super::super::error::{Error, Result};
use super::super::trace::traced;
use super::Region;
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

impl Region {
    /// To be called in a forked child: what was not inherited is not to be used, for other memory may be there by now.
    pub fn look_after_fork(&mut self) {
        // A child inherits no locks, see mlock(2).
        self.locked = None;
        if self.dont_fork {
            self.not_inherited = true;
            // Not ours to unmap.
            std::mem::forget(self.window.take());
        }
    }
}

/// Runs `work` in a forked child, which has every mapping as it stands (shared ones with us, private ones as a copy
/// that is made on write), and waits for it. Gives the child's exit code: what `work` gave, or 128 and the number of
/// the signal that ended it.
///
/// No other thread of the caller may hold a lock: a child has no other thread, and it would stay locked.
///
/// # Errors
/// What fork(2) says.
pub fn in_child(work: impl FnOnce() -> u8) -> Result<u8> {
    let failed = |errno| Error::sys("fork", None, errno);
    // SAFETY: no other thread runs, or only one that a script which failed has left waiting for its source: it holds no
    // lock that the child asks for (stdin is taken once, and the C library makes its allocator whole). So the child may
    // do all that we may; it leaves by _exit and never returns into what the parent would do next.
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
