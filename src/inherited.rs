//! Descriptors that the caller has opened for us, as it is with --ready-fd. They are looked at before we open any file,
//! which would otherwise have the same number.

use nix::errno::Errno;
use nix::unistd::{close, write};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

/// Borrows a descriptor by its number, see [`borrow_by`].
static BORROW: OnceLock<fn(i32) -> BorrowedFd<'static>> = OnceLock::new();

/// Sets what makes a descriptor of its number, which takes `unsafe`. It is asked for descriptors that [`is_writable`]
/// has found open, and that nobody else closes.
pub fn borrow_by(borrow: fn(i32) -> BorrowedFd<'static>) {
    let _ = BORROW.set(borrow);
}

/// Whether a descriptor is open for writing: proc_pid_fdinfo(5).
pub fn is_writable(fd: i32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & nix::libc::O_ACCMODE != nix::libc::O_RDONLY)
}

/// Writes all of `bytes` and closes the descriptor: a reader that waits for its end has it then.
pub fn write_and_close(fd: i32, mut bytes: &[u8]) -> nix::Result<()> {
    let borrow = BORROW.get().ok_or(Errno::EBADF)?;
    while !bytes.is_empty() {
        match write(borrow(fd), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    close(fd)
}
