//! A lease on a file (fcntl(2), F_SETLEASE): while it is held, nobody else has the file open, and who wants to open or
//! truncate it waits until it is given back. Part of the door for `unsafe`.
#![allow(unsafe_code)]

use super::super::trace::traced;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// F_SETSIG, which the libc crate lacks; the same on all architectures of Linux that this is for.
const F_SETSIG: libc::c_int = 10;

/// A lease that ends with its owner.
#[derive(Debug)]
pub struct Lease<'a>(&'a File);

impl<'a> Lease<'a> {
    /// A write lease on `file`. `None` where there is none to be had: somebody else has the file open or mapped, it is
    /// neither ours nor are we privileged (CAP_LEASE), or the file system knows no leases.
    pub fn take(file: &'a File) -> Option<Lease<'a>> {
        // That somebody waits is told by a signal, which would be SIGIO and end the process; SIGURG is ignored.
        fcntl(file, F_SETSIG, libc::SIGURG, "F_SETSIG, SIGURG").ok()?;
        fcntl(file, libc::F_SETLEASE, libc::F_WRLCK, "F_SETLEASE, F_WRLCK").ok()?;
        Some(Lease(file))
    }

    /// Whether nobody waits for the file. Who does is let in by the kernel after /proc/sys/fs/lease-break-time, 45
    /// seconds, if it is not given back before.
    pub fn stands(&self) -> bool {
        // SAFETY: F_GETLEASE takes no argument and touches no memory of ours.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) == libc::F_WRLCK }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Closing the file would give it back just as well.
        let _ = fcntl(self.0, libc::F_SETLEASE, libc::F_UNLCK, "F_SETLEASE, F_UNLCK");
    }
}

fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int, shown: &str) -> nix::Result<libc::c_int> {
    let fd = file.as_raw_fd();
    // SAFETY: these commands take a number and touch no memory of ours.
    let result = Errno::result(unsafe { libc::fcntl(fd, command, argument) });
    traced(result, || format!("fcntl({fd}, {shown})"))
}
