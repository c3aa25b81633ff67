//! What failed, where, and whether bytes were touched. Tips and paths are added by the verbs.

use super::limits::Limit;
use super::range::ByteRange;
use nix::errno::Errno;
use std::fmt;

/// A failure of the core: one operation, the file range it was about, and the cause.
#[derive(Debug)]
pub struct Error {
    /// What was being done, as a verb phrase: "store", "map", "flush".
    pub action: &'static str,
    /// The file range concerned; it starts at the first offset that failed.
    pub span: Option<ByteRange>,
    /// In a nonlinear view: the offset in the view that corresponds to the start of `span`.
    pub view: Option<u64>,
    /// Why.
    pub cause: ErrorKind,
    /// How many bytes had been stored before the failure, counted from the first segment: an exact prefix.
    pub stored: u64,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The system call's own error.
    Sys(Errno),
    /// The file is shorter than when it was opened.
    Shrunk {
        /// Length now, in bytes.
        len: u64,
    },
    /// A page was missing and is present again: the file was truncated and extended, and the old contents of the page
    /// are lost.
    Vanished,
    /// A load or store of device memory raised SIGBUS.
    Bus,
    /// The kernel was to copy device memory, which may be accessed only by [`super::Region::load_units`] and
    /// [`super::Region::store_units`].
    DeviceMemory,
    /// The range lies past the end of the file.
    PastEnd {
        /// Length at open, in bytes.
        len: u64,
    },
    /// The range lies outside the mapped range, which is the field.
    NotMapped(ByteRange),
    /// The process is a child that did not inherit the mapping (MADV_DONTFORK).
    NotInherited,
    /// Another mapping is at the requested address.
    AddressTaken(usize),
    /// An address that is not a multiple of the page size. The fields are the address and the page size.
    Unaligned(usize, u64),
    /// Another mapping follows directly, and this one may not move.
    NoRoomBehind,
    /// No room for the blocks that a store needs: ENOSPC or EDQUOT, as reported by the file system when it was asked.
    Full(Errno),
    /// The file is of a type that cannot be mapped.
    UnsupportedFileType(UnsupportedFileType),
    /// A safety rule forbids writing to the file.
    Refused(WriteGuard),
    /// Another process held the advisory lock, or a lease, for longer than the timeout.
    Locked,
    /// A resource limit. The field says which, and what would raise it.
    Limit(Limit),
    /// The mapping was made in a way that does not allow this operation.
    AccessDenied(AccessDenied),
    /// The region is a nonlinear view, which does not support the operation. The field is the reason, as a phrase that
    /// follows a comma.
    Nonlinear(&'static str),
    /// The region cannot become a nonlinear view.
    Arrange(RemapUnsupported),
    /// A signal asked to stop. The field is its number.
    Interrupted(i32),
}

/// A type of file that has no pages to map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsupportedFileType {
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A socket of the AF_UNIX family.
    Socket,
    /// A character device that was not opened for register access.
    CharDevice,
    /// A file of /proc or /sys whose contents the kernel generates when it is read.
    Pseudo,
}

/// What the mapping lacks: rights (PROT_READ, PROT_WRITE), a file that it shares, or the right range of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessDenied {
    /// It was made without PROT_READ.
    NoRead,
    /// It was made without PROT_WRITE.
    ReadOnly,
    /// The file was opened for reading.
    FileReadOnly,
    /// There is no file.
    NoFile,
    /// It is private, or has no file: its stores are lost when it is unmapped.
    NeverReachesFile,
    /// It is private, and the file that it maps is to be resized.
    PrivateResize,
    /// The file would end before the mapped range.
    BeginsBehindEnd,
    /// The file is to be resized, and the mapping ends before the file does.
    EndsBeforeFile,
    /// The file is to be resized, and is longer than when it was opened.
    FileGrown,
    /// This process and another one extended the file at the same time.
    GrownTogether,
    /// The length exceeds the address space.
    TooLong,
    /// The length is 0.
    Empty,
    /// The length of a MAP_SHARED and MAP_ANONYMOUS mapping cannot change.
    SharedAnonymous,
    /// The file is a device, whose length is fixed.
    DeviceLength,
    /// The file is a block device that is set read-only.
    ReadOnlyDevice,
    /// The file is a memfd that is sealed against writing (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE).
    Sealed,
    /// The file is a memfd that is sealed against changes of its length (F_SEAL_GROW, F_SEAL_SHRINK).
    SealedLength,
}

/// Why the requested method cannot arrange the pages of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemapUnsupported {
    /// It is private.
    Private,
    /// mmap(2) needs a file.
    NoFile,
    /// remap_file_pages(2) needs a descriptor that is open for writing.
    ReadOnly,
    /// Anonymous huge pages cannot be mapped a second time.
    HugeMemory,
    /// A mapping longer than its file would extend a file of hugetlbfs.
    HugeFile,
}

/// Why a file is not written to without `--force`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteGuard {
    /// Set-user-ID or set-group-ID: a store through a mapping does not clear the bit as write(2) does.
    SetId,
    /// File capabilities: a store through a mapping does not remove them as write(2) does.
    Capabilities,
    /// No write permission bit is set, although we (as root) could open it.
    ReadOnlyMode,
    /// A character device: what a store to its memory does is unknown.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A block device in use: mounted, used as swap, or held by another driver.
    BusyBlockDevice,
}

/// The action of an error that leaves durability in doubt.
pub(super) const FLUSH: &str = "flush";

/// The core's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure before any byte was stored.
    pub fn new(action: &'static str, span: Option<ByteRange>, cause: ErrorKind) -> Error {
        Error {
            action,
            span,
            view: None,
            cause,
            stored: 0,
        }
    }

    /// Where in the region it was: the offset in the view if that is nonlinear, otherwise in the file.
    pub fn place(&self) -> Option<u64> {
        self.view.or(self.span.map(ByteRange::start))
    }

    /// Whether a flush failed, after which nothing about the stored bytes of the device is certain.
    pub fn is_of_flush(&self) -> bool {
        self.action == FLUSH
    }

    /// A failed system call.
    pub fn sys(action: &'static str, span: Option<ByteRange>, errno: Errno) -> Error {
        Error::new(action, span, ErrorKind::Sys(errno))
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

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The description is for people; the name in parentheses is for searching.
            ErrorKind::Sys(Errno::ENODEV) => write!(f, "it does not support memory mapping (ENODEV)"),
            ErrorKind::Sys(Errno::EOPNOTSUPP) => write!(f, "the file system does not support it (EOPNOTSUPP)"),
            ErrorKind::Sys(errno) => write!(f, "{} ({errno:?})", errno.desc()),
            ErrorKind::Shrunk { len } => write!(f, "the file was truncated meanwhile; it now ends at {len:#x}"),
            ErrorKind::Vanished => {
                write!(f, "a page was missing for a moment, as when a file is truncated and made longer again")
            }
            ErrorKind::Bus => write!(f, "the device did not answer (SIGBUS)"),
            ErrorKind::DeviceMemory => write!(f, "it is device memory, which needs accesses of one width"),
            ErrorKind::PastEnd { len } => write!(f, "the file ends at {len:#x} ({len} bytes)"),
            ErrorKind::NotMapped(span) => write!(f, "only {span} is mapped"),
            ErrorKind::NotInherited => write!(f, "the child did not inherit the mapping (MADV_DONTFORK)"),
            ErrorKind::AddressTaken(address) => write!(f, "there is a mapping at {address:#x} already (EEXIST)"),
            ErrorKind::Unaligned(address, page) => {
                write!(f, "the address {address:#x} is not a multiple of the page size, {page:#x}")
            }
            ErrorKind::NoRoomBehind => write!(f, "another mapping follows it directly, and it may not move (ENOMEM)"),
            ErrorKind::Full(Errno::EDQUOT) => write!(f, "no room: the disk quota is used up (EDQUOT)"),
            ErrorKind::Full(errno) => write!(f, "no room: the file system is full ({errno:?})"),
            ErrorKind::UnsupportedFileType(kind) => kind.fmt(f),
            ErrorKind::Refused(refusal) => refusal.fmt(f),
            ErrorKind::Locked => write!(f, "another process holds a lock on it"),
            ErrorKind::Limit(limit) => limit.fmt(f),
            ErrorKind::AccessDenied(lack) => lack.fmt(f),
            ErrorKind::Nonlinear(why) => write!(f, "the mapping is a nonlinear view, {why}"),
            ErrorKind::Arrange(hindrance) => hindrance.fmt(f),
            ErrorKind::Interrupted(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "interrupted by {name}"),
                // Real-time signals have numbers only.
                Err(_) => write!(f, "interrupted by SIGRTMIN+{}", signal - libc::SIGRTMIN()),
            },
        }
    }
}

impl fmt::Display for UnsupportedFileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnsupportedFileType::Directory => "it is a directory",
            UnsupportedFileType::Fifo => "it is a FIFO",
            UnsupportedFileType::Socket => "it is a socket",
            UnsupportedFileType::CharDevice => "it is a character device",
            UnsupportedFileType::Pseudo => "it is a kernel file without a length",
        })
    }
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessDenied::NoRead => "the mapping does not permit reading (PROT_NONE)",
            AccessDenied::ReadOnly => "the mapping is read-only",
            AccessDenied::FileReadOnly => "the file is open for reading only",
            AccessDenied::NoFile => "anonymous memory has no file",
            AccessDenied::NeverReachesFile => "changes in it never reach a file",
            AccessDenied::PrivateResize => "the mapping is private, and its file is not to be changed",
            AccessDenied::BeginsBehindEnd => "the mapping begins after the new end",
            AccessDenied::EndsBeforeFile => "the mapping does not end where its file does",
            AccessDenied::FileGrown => "another process has made the file longer meanwhile",
            AccessDenied::GrownTogether => {
                "another process appended to the file at the same moment; zeros may follow what it wrote"
            }
            AccessDenied::TooLong => "the length is greater than a mapping can have",
            AccessDenied::Empty => "a mapping has at least one page",
            AccessDenied::SharedAnonymous => "shared anonymous memory cannot become longer than it was made",
            AccessDenied::DeviceLength => "it is a device, whose length cannot be set",
            AccessDenied::ReadOnlyDevice => "the block device is read-only",
            AccessDenied::Sealed => "it is a memfd that is sealed against writing (F_SEAL_WRITE)",
            AccessDenied::SealedLength => "it is a memfd whose length is sealed (F_SEAL_GROW, F_SEAL_SHRINK)",
        })
    }
}

impl fmt::Display for WriteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteGuard::SetId => "it is set-user-ID or set-group-ID, and a mapped store would leave the bit set",
            WriteGuard::Capabilities => "it has file capabilities, and a mapped store would leave them",
            WriteGuard::ReadOnlyMode => "its mode has no write permission bit",
            WriteGuard::CharDevice => "it is a character device",
            WriteGuard::BlockDevice => "it is a block device",
            WriteGuard::BusyBlockDevice => "it is a block device in use (mounted, or held by another driver)",
        })
    }
}

impl fmt::Display for RemapUnsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RemapUnsupported::Private => "the mapping is private, and pages that stores have copied in it would be lost",
            RemapUnsupported::NoFile => "anonymous memory has no file that mmap(2) could map page by page",
            RemapUnsupported::ReadOnly => {
                "remap_file_pages(2) takes only a mapping that is shared through a descriptor open for writing (else EINVAL)"
            }
            RemapUnsupported::HugeMemory => "the kernel makes no second mapping of anonymous huge pages (EINVAL)",
            RemapUnsupported::HugeFile => {
                "remap_file_pages(2) begins with a linear mapping as long as the view, and on hugetlbfs that makes the file longer"
            }
        })
    }
}
