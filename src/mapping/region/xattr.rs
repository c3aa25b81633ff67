//! Extended attributes of an open file. One of the `unsafe` submodules.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The maximum length of the value of an attribute, in bytes: XATTR_SIZE_MAX.
pub(in crate::mapping) const LONGEST: usize = 64 << 10;

/// The value of an extended attribute of up to `most` bytes: fgetxattr(2). If `most` is 0, the value is not read, and
/// is empty. `None` if the file has no attribute of this name, or its file system does not support attributes.
///
/// # Errors
/// Any error of the call, such as ERANGE for a longer value, except ENODATA, EOPNOTSUPP and ENOSYS.
pub(in crate::mapping) fn xattr(file: &File, name: &CStr, most: usize) -> nix::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; most];
    // SAFETY: the kernel writes at most `most` bytes, which is the length of the buffer; the name ends with a 0.
    let result = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), most) };
    match Errno::result(result) {
        Ok(len) => {
            value.truncate(len as usize);
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes an extended attribute: fremovexattr(2). It is no error if the attribute does not exist.
pub(in crate::mapping) fn remove_xattr(file: &File, name: &CStr) -> nix::Result<()> {
    // SAFETY: the name ends with a 0; no memory of ours is written to.
    let result = unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}
