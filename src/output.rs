//! Where output goes and how it looks: the global options, stdout, and notes on stderr.

use crate::edit::{Error, ErrorContext, Result};
use crate::signals;
use clap::{Args, ValueEnum};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a wait for room in stdout checks whether to stop, in milliseconds.
const LOOK: u16 = 100;

/// Whether anything was written to stdout by this process, and whether a file was changed.
static WRITTEN: AtomicBool = AtomicBool::new(false);
static CHANGED: AtomicBool = AtomicBool::new(false);

/// Flags that every verb takes, before or after its name.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Print each report and each error as one JSON object
    #[arg(help_heading = "Global options", long, global = true)]
    pub json: bool,
    /// Print no report and no progress bar
    #[arg(help_heading = "Global options", short, long, global = true)]
    pub quiet: bool,
    /// Print each mapping system call on stderr, as strace does
    #[arg(help_heading = "Global options", short, long, global = true)]
    pub verbose: bool,
    /// Colour the output
    #[arg(help_heading = "Global options", long, global = true, value_name = "WHEN")]
    color: Option<When>,
    /// Show progress bars
    #[arg(help_heading = "Global options", long, global = true, value_name = "WHEN")]
    progress: Option<When>,
}

/// A choice that `auto` leaves to where the output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// If the output is a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Globals {
    /// When to colour stdout and stderr.
    pub fn color(&self) -> When {
        self.color.unwrap_or(When::Auto)
    }

    /// When to show progress bars.
    pub fn progress(&self) -> When {
        self.progress.unwrap_or(When::Auto)
    }

    /// These flags combined with `more`.
    pub fn with(&self, more: &Globals) -> Globals {
        Globals {
            json: self.json || more.json,
            quiet: self.quiet || more.quiet,
            verbose: self.verbose || more.verbose,
            color: more.color.or(self.color),
            progress: more.progress.or(self.progress),
        }
    }
}

impl When {
    /// Whether a stream gets colour. For `auto`, NO_COLOR, CLICOLOR_FORCE and TERM=dumb are respected.
    pub fn color(self, stream: &impl anstream::stream::RawStream) -> bool {
        match self {
            When::Always => true,
            When::Never => false,
            // anstream takes any value of it, also 0.
            When::Auto
                if std::env::var_os("CLICOLOR_FORCE").is_some_and(|force| force == "0") && !stream.is_terminal() =>
            {
                false
            }
            When::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
        }
    }
}

/// The columns and lines of the terminal that stdout is; `None` if it is none, or does not report its size
/// (TIOCGWINSZ).
pub fn terminal() -> Option<(usize, usize)> {
    let (columns, lines) = terminal_size::terminal_size_of(io::stdout())?;
    Some((columns.0.into(), lines.0.into()))
}

/// stdout, for bytes that are written to it directly.
pub fn raw_stdout() -> io::Stdout {
    WRITTEN.store(true, Ordering::Relaxed);
    io::stdout()
}

/// Whether anything was written to stdout by this process.
pub fn is_written() -> bool {
    WRITTEN.load(Ordering::Relaxed)
}

/// Whether this process has changed a file.
pub fn is_changed() -> bool {
    CHANGED.load(Ordering::Relaxed)
}

/// Notes that a file was changed: if output is lost from now on, the exit code is 3.
pub fn note_change() {
    CHANGED.store(true, Ordering::Relaxed);
}

/// Writes `bytes` to stdout, and waits if it does not accept more (a terminal or pipe set to O_NONBLOCK).
///
/// # Errors
/// Errors of write(2); for EPIPE, [`RootCause::ReaderGone`](crate::edit::RootCause).
pub fn out(bytes: &[u8]) -> Result<()> {
    let stdout = raw_stdout();
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut piece = rest;
        if signals::are_awaited() {
            // As much as a pipe with room accepts without blocking, because a blocking write would not notice a signal.
            piece = &rest[..rest.len().min(libc::PIPE_BUF)];
            let mut room = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut room, LOOK) == Ok(0) {
                if signals::is_asked_to_stop() {
                    return Err(Error::reader_gone());
                }
                continue;
            }
        }
        match nix::unistd::write(&stdout, piece) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EPIPE) => return Err(Error::reader_gone()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut room = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
                // An interrupted wait is a short one.
                let _ = poll(&mut room, PollTimeout::NONE);
            }
            Err(errno) => return Err(io::Error::from(errno)).context("cannot write to stdout"),
        }
    }
    Ok(())
}

/// Prints a note on stderr, in text output only.
pub fn print_note(globals: &Globals, text: &str) {
    if !globals.quiet && !globals.json {
        // A closed stderr is no reason to stop.
        let _ = io::stderr().write_all(format!("note: {text}\n").as_bytes());
    }
}

/// Writes diagnostics to stderr; a failure cannot be reported anywhere.
pub fn write_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
