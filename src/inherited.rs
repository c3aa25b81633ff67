//! Descriptors that the caller has opened for us, as it is with --ready-fd. They are looked at before we open any file,
//! which would otherwise have the same number.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::unistd::{close, write};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

/// Borrows a descriptor by its number, see [`borrow_by`].
static BORROW: OnceLock<fn(i32) -> Option<BorrowedFd<'static>>> = OnceLock::new();

/// Sets what makes a descriptor of its number, if that is open; it takes `unsafe`. Nobody else may close the descriptor.
pub fn borrow_by(borrow: fn(i32) -> Option<BorrowedFd<'static>>) {
    let _ = BORROW.set(borrow);
}

fn borrow(fd: i32) -> nix::Result<BorrowedFd<'static>> {
    BORROW.get().and_then(|borrow| borrow(fd)).ok_or(Errno::EBADF)
}

/// Keeps a descriptor from the commands that we run, if it is open for writing; says whether it is.
pub fn claim(fd: i32) -> bool {
    let Ok(fd) = borrow(fd) else { return false };
    let flags = fcntl(fd, FcntlArg::F_GETFL);
    let writable = flags.is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY);
    writable && fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok()
}

/// Writes all of `bytes` and closes the descriptor: a reader that waits for its end has it then.
pub fn write_and_close(fd: i32, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match write(borrow(fd)?, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    close(fd)
}
