//! What failed, where, and whether bytes were touched. No tip and no path: those are the verb's facts to add.

use super::limits::Limit;
use super::span::Span;
use nix::errno::Errno;
use std::fmt;

/// A failure of the core: one operation, the file range it was about, and the cause.
#[derive(Debug)]
pub struct Error {
    /// What was being done, as a verb phrase: "store", "map", "flush".
    pub action: &'static str,
    /// The file range concerned; it starts at the first offset that failed.
    pub span: Option<Span>,
    /// Why.
    pub cause: Cause,
    /// How many bytes had been stored before it, counted from the first piece on: an exact prefix.
    pub stored: u64,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The system call's own error.
    Sys(Errno),
    /// The file is shorter than when it was opened; its length now, in bytes.
    Shrunk {
        /// Length now, in bytes.
        len: u64,
    },
    /// A page was gone and is there again: the file was shorter for a moment, and what stood there is lost.
    Vanished,
    /// A load or store of device memory was answered with SIGBUS.
    Bus,
    /// A copy of the kernel's was asked for of device memory, which only [`super::Region::load_units`] and
    /// [`super::Region::store_units`] touch.
    DeviceMemory,
    /// The range lies past the end of the file.
    PastEnd {
        /// Length at open, in bytes.
        len: u64,
    },
    /// The range lies outside of what is mapped; that range.
    NotMapped(Span),
    /// The process is a child that did not inherit the mapping (MADV_DONTFORK).
    NotInherited,
    /// Another mapping is at the address asked for.
    AddressTaken(usize),
    /// An address that is not a multiple of the page size; both.
    Unaligned(usize, u64),
    /// Another mapping is right behind, and this one may not move.
    NoRoomBehind,
    /// No room for the blocks that a store needs: ENOSPC or EDQUOT, found by asking the file system.
    Full(Errno),
    /// The file is not of a kind that can be mapped; the kind, as "a FIFO".
    Unmappable(&'static str),
    /// A safety rule forbids writing to it.
    Refused(Refusal),
    /// Another process holds the advisory lock, or a lease, for longer than we would wait.
    Locked,
    /// A resource limit; it says which, and what would raise it.
    Limit(Limit),
    /// The mapping does not have the right for this operation (its protection or visibility).
    Protection(&'static str),
    /// A signal asked to stop; its number.
    Interrupted(i32),
}

/// Why a file is not written to without `--force`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Set-user-ID or set-group-ID: a store through a mapping does not clear the bit as write(2) does.
    SetId,
    /// No write permission bit is set, yet we (as root) could open it.
    ReadOnlyMode,
    /// A character device: its memory may be anything.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A block device in use: mounted, swap, or held by another driver.
    BusyBlockDevice,
}

/// The action of an error that leaves durability in doubt.
pub(super) const FLUSH: &str = "flush";

/// The core's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure before any byte was stored.
    pub fn new(action: &'static str, span: Option<Span>, cause: Cause) -> Error {
        Error {
            action,
            span,
            cause,
            stored: 0,
        }
    }

    /// Whether it was a flush that failed, after which nothing about the device is certain.
    pub fn is_of_flush(&self) -> bool {
        self.action == FLUSH
    }

    /// A failed system call.
    pub fn sys(action: &'static str, span: Option<Span>, errno: Errno) -> Error {
        Error::new(action, span, Cause::Sys(errno))
    }

    /// A failed call of the standard library.
    pub fn io(action: &'static str, error: &std::io::Error) -> Error {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Error::sys(action, None, errno)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.action)?;
        if let Some(span) = self.span {
            write!(f, " {span}")?;
        }
        write!(f, ": {}", self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What strangers read is the description; the name behind it is for searching.
            Cause::Sys(Errno::ENODEV) => write!(f, "it does not support memory mapping (ENODEV)"),
            Cause::Sys(Errno::EOPNOTSUPP) => write!(f, "the file system does not support it (EOPNOTSUPP)"),
            Cause::Sys(errno) => write!(f, "{} ({errno:?})", errno.desc()),
            Cause::Shrunk { len } => write!(f, "the file was truncated under us; it now ends at {len:#x}"),
            Cause::Vanished => write!(f, "the file was truncated under us, and made longer again"),
            Cause::Bus => write!(f, "the device did not answer (SIGBUS)"),
            Cause::DeviceMemory => write!(f, "it is the memory of a device, for accesses of one width"),
            Cause::PastEnd { len } => write!(f, "the file ends at {len:#x} ({len} bytes)"),
            Cause::NotMapped(span) => write!(f, "only {span} is mapped"),
            Cause::NotInherited => write!(f, "the child did not inherit the mapping (MADV_DONTFORK)"),
            Cause::AddressTaken(address) => write!(f, "there is a mapping at {address:#x} already (EEXIST)"),
            Cause::Unaligned(address, page) => {
                write!(
                    f,
                    "the address {address:#x} is not a multiple of the page size, {page:#x}"
                )
            }
            Cause::NoRoomBehind => write!(f, "another mapping is right behind it, and it may not move (ENOMEM)"),
            Cause::Full(Errno::EDQUOT) => write!(f, "no room: the disk quota is used up (EDQUOT)"),
            Cause::Full(errno) => write!(f, "no room: the file system is full ({errno:?})"),
            Cause::Unmappable(kind) => write!(f, "it is {kind}"),
            Cause::Refused(refusal) => refusal.fmt(f),
            Cause::Locked => write!(f, "another process holds a lock on it"),
            Cause::Limit(limit) => limit.fmt(f),
            Cause::Protection(why) => write!(f, "{why}"),
            Cause::Interrupted(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "interrupted by {name}"),
                Err(_) => write!(f, "interrupted by signal {signal}"),
            },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::SetId => "it is set-user-ID or set-group-ID, and a mapped store would leave the bit set",
            Refusal::ReadOnlyMode => "its mode has no write permission bit",
            Refusal::CharDevice => "it is a character device",
            Refusal::BlockDevice => "it is a block device",
            Refusal::BusyBlockDevice => "it is a block device in use (mounted, or held by another driver)",
        })
    }
}
