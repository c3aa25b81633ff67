//! Where glibc enters the program. Beside the core, the one place with `unsafe`.
//!
//! Rust's runtime, which otherwise comes first, does two things that mmapctl must not do. It opens /dev/null for reading
//! and writing in place of a closed stdout, which takes output and loses it without an error. And it maps a second stack,
//! to say that the first has overflowed, and panics where RLIMIT_AS leaves no room for it: SIGABRT, where a message and
//! exit code 2 are promised. What else it does is done here.
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

// SAFETY: this is the type that C gives it, and nothing else of that name is linked.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    if let Err(error) = occupy_standard_descriptors() {
        let why = describe(&error);
        let text = format!(
            "error: stdin, stdout or stderr is closed, and /dev/null cannot take its place: {why}\n  tip: open all three\n"
        );
        // It may be what is closed.
        let _ = std::io::stderr().write_all(text.as_bytes());
        return c_int::from(Exit::Failed as u8);
    }
    // SAFETY: no handler is installed. Ignored, it makes a write to a pipe without readers fail, and not end the program.
    // Of a signal that there is, that cannot fail.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    // SAFETY: it gets the number of a signal that has come, and touches no memory of ours.
    mmapctl::signals::raise_unnamed_by(|signal| _ = unsafe { libc::raise(signal) });
    mmapctl::inherited::borrow_by(|fd| {
        // SAFETY: it asks about a number, and touches no memory.
        let is_open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
        // SAFETY: the caller has opened it, and it is open until the one who borrows it closes it.
        is_open.then(|| unsafe { BorrowedFd::borrow_raw(fd) })
    });
    // glibc hands the arguments to whoever wants them before main; Rust's library does.
    let code = mmapctl::cli::run(std::env::args_os());
    // What must be heard was written where a failure is noticed.
    let _ = std::io::stdout().flush();
    c_int::from(code)
}

/// Opens something in place of what is closed of stdin, stdout and stderr, or the next file would have its number, and
/// messages were written into it. What is opened refuses to be read as stdin, or written as the others, with EBADF.
fn occupy_standard_descriptors() -> std::io::Result<()> {
    for number in 0..=2 {
        // SAFETY: it asks about a number, and touches no memory.
        let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) });
        // A filter (seccomp) may refuse the question.
        if flags == Err(Errno::EBADF) {
            let how = if number == 0 { OFlag::O_WRONLY } else { OFlag::O_RDONLY };
            // The lowest number that is free is this one. It stays open, for children too, which open files as well.
            let _ = open("/dev/null", how, Mode::empty())?.into_raw_fd();
        }
    }
    Ok(())
}
