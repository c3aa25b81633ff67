//! Where glibc enters the program. Apart from the mapping module, the only place with `unsafe`.
//!
//! Rust's runtime, which otherwise runs first, does two things that mmapctl must not do. In place of a closed stdout it
//! opens /dev/null for reading and writing, which accepts output and loses it without an error. And it maps an
//! alternate stack to report a stack overflow, and panics if RLIMIT_AS leaves no room for it: that is SIGABRT, where a
//! message and exit code 2 are promised. Its other tasks are done here.
#![allow(unsafe_code)]

mod allocator;

use mmapctl::error::Exit;
use mmapctl::text::describe;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use std::ffi::{c_char, c_int};
use std::io::Write;
use std::os::fd::{BorrowedFd, IntoRawFd};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

// SAFETY: C declares `main` with this type, and no other symbol of this name is linked.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    if let Err(error) = occupy_standard_descriptors() {
        let why = describe(&error);
        let text = format!(
            "error: stdin, stdout or stderr is closed, and /dev/null cannot take its place: {why}\n  tip: open all three\n"
        );
        // stderr itself may be what is closed.
        let _ = std::io::stderr().write_all(text.as_bytes());
        return c_int::from(Exit::Failed as u8);
    }
    // SAFETY: no handler is installed. If SIGPIPE is ignored, a write to a pipe without readers fails, and does not end
    // the program. For an existing signal, this cannot fail.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    // SAFETY: no handler is installed. If the caller ignores SIGCHLD, as daemons do, the kernel would not keep the exit
    // codes of children.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    // SAFETY: the argument is the number of a signal that was received, and no memory of the program is touched.
    mmapctl::signals::raise_unnamed_by(|signal| _ = unsafe { libc::raise(signal) });
    mmapctl::inherited::borrow_by(|fd| {
        // SAFETY: this queries a descriptor number, and touches no memory.
        let is_open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
        // SAFETY: the caller has opened it, and it stays open until the borrower closes it.
        is_open.then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    });
    // On glibc, Rust's standard library receives the arguments before main.
    let code = mmapctl::cli::run(std::env::args_os());
    // Output that matters was flushed earlier, where a failure is reported.
    let _ = std::io::stdout().flush();
    c_int::from(code)
}

/// Opens something in place of each of stdin, stdout and stderr that is closed. Otherwise the next file would get its
/// number, and messages would be written into that file. Reading what replaces stdin, and writing to what replaces the
/// others, fails with EBADF.
fn occupy_standard_descriptors() -> std::io::Result<()> {
    for number in 0..=2 {
        // SAFETY: this queries a descriptor number, and touches no memory.
        let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) });
        // A filter (seccomp) may refuse the query.
        if flags == Err(Errno::EBADF) {
            let how = if number == 0 { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
            // The lowest free number is this one. It stays open, also for child processes, which open files as well.
            let _ = open("/dev/null", how, Mode::empty())?.into_raw_fd();
        }
    }
    Ok(())
}
