//! Where an open file is mounted. One of the `unsafe` submodules.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The number of the mount through which a file was opened: statx(2) with STATX_MNT_ID. `None` before Linux 5.8.
pub fn mount_id(fd: BorrowedFd<'_>) -> Option<u64> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is empty and ends with a 0, and the kernel writes the structure.
    let result = unsafe {
        libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_MNT_ID, stat.as_mut_ptr())
    };
    Errno::result(result).ok()?;
    // SAFETY: every bit pattern is a valid structure of numbers, also the zeros.
    let stat = unsafe { stat.assume_init() };
    (stat.stx_mask & libc::STATX_MNT_ID != 0).then_some(stat.stx_mnt_id)
}
