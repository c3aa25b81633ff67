//! A lease on a file (fcntl(2), F_SETLEASE): while it is held, no other process has the file open, and a process that
//! wants to open or truncate it waits until the lease is given back. One of the `unsafe` submodules.
#![allow(unsafe_code)]

use super::super::trace::traced;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// F_SETSIG, which the libc crate lacks. It has the same value on all supported architectures.
const F_SETSIG: libc::c_int = 10;

/// A lease that is given back when it is dropped.
#[derive(Debug)]
pub struct Lease<'a>(&'a File);

impl<'a> Lease<'a> {
    /// Takes a write lease on `file`. `None` if none is available: another process has the file open or mapped, we
    /// neither own it nor have CAP_LEASE, or the file system does not support leases.
    pub fn take(file: &'a File) -> Option<Lease<'a>> {
        // A waiting process is reported by a signal. The default, SIGIO, would end this process; SIGURG is ignored.
        fcntl(file, F_SETSIG, libc::SIGURG, "F_SETSIG, SIGURG").ok()?;
        fcntl(file, libc::F_SETLEASE, libc::F_WRLCK, "F_SETLEASE, F_WRLCK").ok()?;
        Some(Lease(file))
    }

    /// Whether no other process waits for the file. If one does, the kernel ends the lease after
    /// /proc/sys/fs/lease-break-time, 45 seconds, unless it is given back before.
    pub fn stands(&self) -> bool {
        // SAFETY: F_GETLEASE takes no argument and touches no memory of ours.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_GETLEASE) == libc::F_WRLCK }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Closing the file would also give it back.
        let _ = fcntl(self.0, libc::F_SETLEASE, libc::F_UNLCK, "F_SETLEASE, F_UNLCK");
    }
}

fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int, shown: &str) -> nix::Result<libc::c_int> {
    let fd = file.as_raw_fd();
    // SAFETY: these commands take a number and touch no memory of ours.
    let result = Errno::result(unsafe { libc::fcntl(fd, command, argument) });
    traced(result, || format!("fcntl({fd}, {shown})"))
}
