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
    /// In a nonlinear view: where that offset stands in the view.
    pub view: Option<u64>,
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
    /// The file is not of a kind that can be mapped.
    Unmappable(Unmappable),
    /// A safety rule forbids writing to it.
    Refused(Refusal),
    /// Another process holds the advisory lock, or a lease, for longer than we would wait.
    Locked,
    /// A resource limit; it says which, and what would raise it.
    Limit(Limit),
    /// The mapping, as it was made, does not allow this operation.
    Protection(Protection),
    /// The region is a nonlinear view, and that keeps it from this; why, to follow a comma.
    Nonlinear(&'static str),
    /// The region cannot become a nonlinear view.
    Arrange(Hindrance),
    /// A signal asked to stop; its number.
    Interrupted(i32),
}

/// What has no pages that could be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmappable {
    /// A folder.
    Directory,
    /// A pipe with a name.
    Fifo,
    /// A socket of the AF_UNIX family.
    Socket,
    /// A character device that is not opened for its registers.
    CharDevice,
    /// A file of /proc or /sys that the kernel writes as it is read.
    Pseudo,
}

/// What the mapping lacks: rights (PROT_READ, PROT_WRITE), a file that it shares, or the right range of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// It was made without PROT_READ.
    NoRead,
    /// It was made without PROT_WRITE.
    ReadOnly,
    /// The file was opened for reading.
    FileReadOnly,
    /// There is no file.
    NoFile,
    /// It is private, or memory alone: stores end with it.
    NeverReachesFile,
    /// It is private, and the file behind it is to be resized.
    PrivateResize,
    /// The file is to end before the range that is mapped.
    BeginsBehindEnd,
    /// The file is to be resized, and the mapping is of a part before its end.
    EndsBeforeFile,
    /// The file is to be resized, and is longer than when it was opened.
    FileGrown,
    /// The file became longer by our hand and by another's at the same moment.
    GrownTogether,
    /// The length is more than an address space has.
    TooLong,
    /// The length is 0.
    Empty,
    /// Memory of MAP_SHARED and MAP_ANONYMOUS has its length for life.
    SharedAnonymous,
    /// The file is a device, whose length is its own.
    DeviceLength,
    /// The file is a block device that is set read-only.
    ReadOnlyDevice,
    /// The file is a memfd that is sealed against writing (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE).
    Sealed,
    /// The file is a memfd that is sealed against becoming longer or shorter (F_SEAL_GROW, F_SEAL_SHRINK).
    SealedLength,
}

/// Why a region cannot be arranged by the method asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// It is private.
    Private,
    /// mmap(2) needs a file.
    NoFile,
    /// remap_file_pages(2) needs a descriptor that may write.
    ReadOnly,
    /// Anonymous huge pages cannot be mapped a second time.
    HugeMemory,
    /// A mapping longer than its file would make a file of hugetlbfs longer.
    HugeFile,
}

/// Why a file is not written to without `--force`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Set-user-ID or set-group-ID: a store through a mapping does not clear the bit as write(2) does.
    SetId,
    /// File capabilities: a store through a mapping does not remove them as write(2) does.
    Capabilities,
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
            view: None,
            cause,
            stored: 0,
        }
    }

    /// Where in the region it was: in the view, where that is nonlinear, else in the file.
    pub fn place(&self) -> Option<u64> {
        self.view.or(self.span.map(Span::start))
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
        if let Some(view) = self.view {
            write!(f, " (at {view:#x} of the view)")?;
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
            Cause::Vanished => write!(
                f,
                "a page was gone for a moment, as when a file is truncated and made longer again"
            ),
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
            Cause::Unmappable(kind) => kind.fmt(f),
            Cause::Refused(refusal) => refusal.fmt(f),
            Cause::Locked => write!(f, "another process holds a lock on it"),
            Cause::Limit(limit) => limit.fmt(f),
            Cause::Protection(lack) => lack.fmt(f),
            Cause::Nonlinear(why) => write!(f, "the mapping is a nonlinear view, {why}"),
            Cause::Arrange(hindrance) => hindrance.fmt(f),
            Cause::Interrupted(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "interrupted by {name}"),
                // Real-time signals have numbers alone.
                Err(_) => write!(f, "interrupted by SIGRTMIN+{}", signal - libc::SIGRTMIN()),
            },
        }
    }
}

impl fmt::Display for Unmappable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unmappable::Directory => "it is a directory",
            Unmappable::Fifo => "it is a FIFO",
            Unmappable::Socket => "it is a socket",
            Unmappable::CharDevice => "it is a character device",
            Unmappable::Pseudo => "it is a file of the kernel's without a length",
        })
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protection::NoRead => "the mapping gives no right to read (PROT_NONE)",
            Protection::ReadOnly => "the mapping is read-only",
            Protection::FileReadOnly => "the file is open for reading only",
            Protection::NoFile => "anonymous memory has no file",
            Protection::NeverReachesFile => "changes in it never reach a file",
            Protection::PrivateResize => "the mapping is private, and its file is not to be changed",
            Protection::BeginsBehindEnd => "the mapping begins behind the new end",
            Protection::EndsBeforeFile => "the mapping does not end where its file does",
            Protection::FileGrown => "another process has made the file longer meanwhile",
            Protection::GrownTogether => {
                "another process appended to the file at the same moment; zeros may follow what it wrote"
            }
            Protection::TooLong => "the length is more than a mapping can have",
            Protection::Empty => "a mapping has at least one page",
            Protection::SharedAnonymous => "shared anonymous memory stays as long as it was made",
            Protection::DeviceLength => "it is a device, whose length cannot be set",
            Protection::ReadOnlyDevice => "the block device is read-only",
            Protection::Sealed => "it is a memfd that is sealed against writing (F_SEAL_WRITE)",
            Protection::SealedLength => "it is a memfd whose length is sealed (F_SEAL_GROW, F_SEAL_SHRINK)",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::SetId => "it is set-user-ID or set-group-ID, and a mapped store would leave the bit set",
            Refusal::Capabilities => "it has file capabilities, and a mapped store would leave them",
            Refusal::ReadOnlyMode => "its mode has no write permission bit",
            Refusal::CharDevice => "it is a character device",
            Refusal::BlockDevice => "it is a block device",
            Refusal::BusyBlockDevice => "it is a block device in use (mounted, or held by another driver)",
        })
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hindrance::Private => "the mapping is private, and pages that stores have copied in it would be lost",
            Hindrance::NoFile => "anonymous memory has no file that mmap(2) could map page by page",
            Hindrance::ReadOnly => {
                "remap_file_pages(2) takes only a mapping that is shared through a descriptor open for writing (else EINVAL)"
            }
            Hindrance::HugeMemory => "the kernel makes no second mapping of anonymous huge pages (EINVAL)",
            Hindrance::HugeFile => {
                "remap_file_pages(2) begins with a linear mapping as long as the view, and on hugetlbfs that makes the file longer"
            }
        })
    }
}
