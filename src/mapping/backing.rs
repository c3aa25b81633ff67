//! What is mapped: a file, or anonymous memory. Opening it, its facts, its lock, its length and its blocks.
//!
//! Nothing above this file asks how a [`Backing`] was made.

mod closing;
mod lock;
mod rights;

use super::error::{AccessDenied, Error, ErrorKind, Result, UnsupportedFileType, WriteGuard};
use super::range::ByteRange;
use super::region::{huge_memfd, memfd};
use super::trace::uninterrupted;
use closing::sends_at_close;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, PosixFadviseAdvice, fcntl, posix_fadvise};
use nix::sys::statfs::{self, FsType, fstatfs};
use nix::sys::uio::pread;
pub use rights::Privileges;
use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The memory behind a mapping, open and with its facts as they were at open.
#[derive(Debug)]
pub struct Backing {
    pub(super) file: Option<File>,
    /// The path that it was opened by; `None` for memory.
    path: Option<PathBuf>,
    facts: FileInfo,
    /// How long the advisory lock is waited for; `None` where it was never asked for.
    patience: Option<Duration>,
    /// Whether the lock is ours now.
    held: bool,
    /// Something was written by way of this, see closing.rs.
    pub(super) written: AtomicBool,
}

/// What a file was when it was opened. Lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// The kind of object.
    pub kind: Kind,
    /// Length: of the file, of the device, or of the anonymous memory asked for.
    pub len: u64,
    /// The page size of a mapping of it: the system's, or the huge page of a hugetlbfs.
    pub page: u64,
    /// Whether it was opened for writing, without which a flush through it proves nothing.
    pub writable: bool,
    /// `st_mode`; 0 for anonymous memory.
    pub mode: u32,
    /// Whether cachestat(2) speaks for it. On overlayfs the page cache belongs to the layer below.
    pub counts_cache: bool,
    /// Whether a mapping of it may be the memory of a device rather than the page cache: a character device, or a
    /// file of sysfs (the resource files of PCI).
    pub device_memory: bool,
    /// Whether its file system sends dirty pages at close(2), and may fail only then.
    pub sends_at_close: bool,
    /// Which file it is; all 0 for anonymous memory.
    pub identity: FileId,
    /// Opening it for writing has made it a file of its own: it had other names (hard links) on the lower layer of an
    /// overlayfs, which keep the old bytes.
    pub left_its_links: bool,
    /// The privileges that it gives when it is run; looked for only where it was opened for writing.
    pub privileges: Privileges,
}

/// Which file it is, under whatever name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_nlink`: how many names it has.
    pub names: u64,
}

impl FileInfo {
    /// Whether there are bytes beyond the mapping: a file's or a device's.
    pub fn is_file(&self) -> bool {
        matches!(
            self.kind,
            Kind::Regular | Kind::BlockDevice | Kind::CharDevice | Kind::Memfd
        )
    }

    /// Whether its length is known, so that a place can be counted from its end.
    pub fn has_end(&self) -> bool {
        self.kind != Kind::CharDevice
    }

    /// Whether parts of it may have no blocks. Sysfs answers ENXIO to SEEK_DATA, as if all were one hole.
    pub fn has_holes(&self) -> bool {
        matches!(self.kind, Kind::Regular | Kind::Memfd) && !self.device_memory
    }
}

/// The kinds of object that can be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A block device.
    BlockDevice,
    /// A character device, opened for its registers; what is behind an offset is up to its driver.
    CharDevice,
    /// A file in memory that has no name, see memfd_create(2).
    Memfd,
    /// `/dev/zero`, whose mappings are anonymous memory.
    Zero,
    /// MAP_ANONYMOUS: no file at all.
    Anonymous,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// O_RDONLY.
    Read,
    /// O_RDWR: a shared mapping that stores needs both.
    Write,
    /// O_RDWR where that is allowed, otherwise O_RDONLY (see [`FileInfo::writable`]), otherwise O_WRONLY: enough to be flushed.
    WriteIfAllowed,
    /// O_RDONLY for [`super::Region::load_units`]: character devices are welcome.
    ReadRegisters,
    /// O_RDWR for [`super::Region::store_units`].
    WriteRegisters,
}

impl Access {
    fn is_to_registers(self) -> bool {
        matches!(self, Access::ReadRegisters | Access::WriteRegisters)
    }
}

impl Backing {
    /// open(2), never with O_CREAT or O_TRUNC and never waiting for a FIFO's other end. Where another process
    /// holds a lease on the file, tries again for `patience`.
    ///
    /// # Errors
    /// What open says; [`ErrorKind::UnsupportedFileType`] for what has no pages (folders, FIFOs, sockets, files of /proc and
    /// cgroups), and for character devices unless it is their registers that are wanted.
    pub fn open(path: &Path, access: Access, patience: Duration) -> Result<Backing> {
        let open_with = |read: bool, write: bool| {
            let mut options = OpenOptions::new();
            // By O_SYNC /dev/mem knows that a mapping is to go past the caches (devmem2 opens it so, too); to other
            // files it means nothing here, as nothing is written by write(2).
            let uncached = if access.is_to_registers() { libc::O_SYNC } else { 0 };
            options
                .read(read)
                .write(write)
                .custom_flags(libc::O_NONBLOCK | uncached);
            // With O_NONBLOCK a leased file is EWOULDBLOCK at once; the lease's holder has been told to let go, and one
            // like us does so in milliseconds.
            patiently(patience.max(LEASE), || match options.open(path) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
                other => Some(other),
            })
        };
        let open = |write: bool| open_with(true, write);
        let refused = |errno| matches!(errno, Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY);
        // Opening a file of overlayfs for writing copies it up to the upper layer.
        let access = match access {
            Access::WriteIfAllowed if is_overlay(path) => Access::Read,
            access => access,
        };
        let names = |path| std::fs::metadata(path).map_or(0, |meta| meta.nlink());
        let names_before = match access {
            Access::Write if is_overlay(path) => names(path),
            _ => 0,
        };
        let (opened, writable) = match access {
            Access::Read | Access::ReadRegisters => (open(false), false),
            Access::Write | Access::WriteRegisters => (open(true), true),
            Access::WriteIfAllowed => match open(true) {
                Some(Err(error)) if refused(errno_of(&error)) => match open(false) {
                    // Not for us to read: it cannot be mapped, and need not be.
                    Some(Err(error)) if errno_of(&error) == Errno::EACCES => (open_with(false, true), false),
                    other => (other, false),
                },
                other => (other, true),
            },
        };
        let file = match opened {
            None => return Err(Error::new("open it", None, ErrorKind::Locked)),
            Some(Err(error)) => return Err(unopened(path, &error)),
            Some(Ok(file)) => file,
        };
        let mut backing = Backing::new(file, writable, access.is_to_registers())?;
        backing.facts.left_its_links = backing.facts.identity.names < names_before;
        backing.path = Some(path.to_path_buf());
        Ok(backing)
    }

    fn new(mut file: File, writable: bool, registers: bool) -> Result<Backing> {
        let failed = |error: std::io::Error| Error::io("read its metadata", &error);
        let meta = file.metadata().map_err(failed)?;
        let kind = meta.file_type();
        let unmappable = |kind| Err(Error::new("map it", None, ErrorKind::UnsupportedFileType(kind)));
        let (kind, len) = if kind.is_file() {
            (Kind::Regular, meta.len())
        } else if kind.is_block_device() {
            // st_size of a device is 0; its end is where seeking ends.
            (Kind::BlockDevice, file.seek(SeekFrom::End(0)).map_err(failed)?)
        } else if kind.is_char_device() && registers {
            (Kind::CharDevice, ENDLESS)
        } else if kind.is_char_device() && meta.rdev() == nix::sys::stat::makedev(1, 5) {
            (Kind::Zero, 0)
        } else if kind.is_dir() {
            return unmappable(UnsupportedFileType::Directory);
        } else if kind.is_fifo() {
            return unmappable(UnsupportedFileType::Fifo);
        } else if kind.is_socket() {
            return unmappable(UnsupportedFileType::Socket);
        } else {
            return unmappable(UnsupportedFileType::CharDevice);
        };
        let fs = fstatfs(&file).map_err(|errno| Error::sys("identify its file system", None, errno))?;
        if kind == Kind::Regular && len == 0 && PSEUDO.contains(&fs.filesystem_type()) {
            return unmappable(UnsupportedFileType::Pseudo);
        }
        let page = match fs.filesystem_type() {
            statfs::HUGETLBFS_MAGIC => fs.block_size() as u64,
            _ => super::page_size(),
        };
        let facts = FileInfo {
            kind,
            len,
            page,
            writable,
            mode: meta.mode(),
            counts_cache: fs.filesystem_type() != statfs::OVERLAYFS_SUPER_MAGIC && kind != Kind::Zero,
            device_memory: kind == Kind::CharDevice || fs.filesystem_type() == statfs::SYSFS_MAGIC,
            sends_at_close: kind == Kind::Regular && sends_at_close(fs.filesystem_type()),
            identity: FileId {
                device: meta.dev(),
                inode: meta.ino(),
                names: meta.nlink(),
            },
            left_its_links: false,
            privileges: match kind {
                Kind::Regular if writable => Privileges::of(&file, meta.mode()),
                _ => Privileges::default(),
            },
        };
        Ok(Backing {
            patience: None,
            held: false,
            written: AtomicBool::new(false),
            file: Some(file),
            path: None,
            facts,
        })
    }

    /// A file in memory of `len` bytes, made of huge pages of `huge` bytes where given: memfd_create(2). `name` is
    /// what /proc shows.
    ///
    /// # Errors
    /// ENODEV or EINVAL for a size of huge pages that this machine has not; [`ErrorKind::Limit`] on mapping it.
    pub fn memfd(name: &CStr, len: u64, huge: Option<u64>) -> Result<Backing> {
        let made = match huge {
            None => memfd(name),
            Some(page) => huge_memfd(name, page),
        };
        let file = made.map_err(|errno| Error::sys("make a memfd", None, errno))?;
        let mut backing = Backing::new(file, true, false)?;
        backing.facts.kind = Kind::Memfd;
        // What 64 bits cannot count, a file cannot have.
        let whole = len.checked_next_multiple_of(huge.unwrap_or(1));
        backing.set_len(whole.unwrap_or(u64::MAX))?;
        Ok(backing)
    }

    /// Anonymous memory of `len` bytes, in huge pages of `huge` bytes where given; it exists once a
    /// [`super::Region`] maps it.
    pub fn anonymous(len: u64, huge: Option<u64>) -> Backing {
        Backing {
            patience: None,
            held: false,
            written: AtomicBool::new(false),
            file: None,
            path: None,
            facts: FileInfo {
                kind: Kind::Anonymous,
                len,
                page: huge.unwrap_or_else(super::page_size),
                writable: true,
                mode: 0,
                counts_cache: false,
                device_memory: false,
                sends_at_close: false,
                identity: FileId::default(),
                left_its_links: false,
                privileges: Privileges::default(),
            },
        }
    }

    /// `/dev/zero` has no length of its own: gives it one.
    pub fn with_len(mut self, len: u64) -> Backing {
        self.facts.len = len;
        self
    }

    /// Another descriptor of this open file; the lock is held until both are closed. `None` without a file, or when
    /// there are no descriptors left.
    pub(super) fn try_clone(&self) -> Option<Backing> {
        Some(Backing {
            file: Some(self.file.as_ref()?.try_clone().ok()?),
            path: self.path.clone(),
            facts: self.facts.clone(),
            patience: None,
            held: false,
            written: AtomicBool::new(false),
        })
    }

    /// The facts as of open (and of the last [`Backing::set_len`]).
    pub fn facts(&self) -> &FileInfo {
        &self.facts
    }

    /// Looks at the length anew.
    pub(super) fn refresh(&mut self) -> Result<()> {
        if self.facts.is_file() {
            self.facts.len = self.usage()?.len;
        }
        Ok(())
    }

    /// Notes a length that was just set, or that memory without a file has.
    pub(super) fn set_memory_len(&mut self, len: u64) {
        self.facts.len = len;
    }

    /// Closes the descriptor, of which a mapping that stands has no need.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// The descriptor; `None` for anonymous memory.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The path that the file was opened by; `None` for memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The file, for calls that only files have.
    pub(super) fn file(&self, action: &'static str) -> Result<&File> {
        let none = || Error::new(action, None, ErrorKind::AccessDenied(AccessDenied::NoFile));
        self.file.as_ref().ok_or_else(none)
    }

    /// Whether `path` leads to this file. Another may have been renamed to it since it was opened, or nothing may be
    /// there; what cannot be looked up for another reason is taken for a yes.
    pub fn is_at(&self, path: &Path) -> bool {
        match std::fs::metadata(path) {
            Ok(meta) => (meta.dev(), meta.ino()) == (self.facts.identity.device, self.facts.identity.inode),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Looks anew at what the safety rules for writers depend on: others may have changed it.
    pub(super) fn refresh_rights(&mut self) -> Result<()> {
        if self.facts.kind == Kind::Regular && self.facts.writable {
            self.facts.mode = self.metadata()?.mode();
            self.facts.privileges = Privileges::of(self.file("read its metadata")?, self.facts.mode);
        }
        Ok(())
    }

    /// The safety rule that speaks against storing into this file, if any.
    pub fn refusal(&self) -> Option<WriteGuard> {
        let mode = self.facts.mode;
        match self.facts.kind {
            Kind::CharDevice => Some(WriteGuard::CharDevice),
            Kind::BlockDevice => Some(self.busy_device()),
            Kind::Regular if self.facts.privileges.set_id => Some(WriteGuard::SetId),
            Kind::Regular if self.facts.privileges.capabilities => Some(WriteGuard::Capabilities),
            Kind::Regular if mode & 0o222 == 0 => Some(WriteGuard::ReadOnlyMode),
            _ => None,
        }
    }

    /// Whether some safety rule speaks against storing into the file as it is now, also where it was opened for reading.
    pub fn is_protected(&self) -> bool {
        match (self.facts.kind, &self.file) {
            (Kind::CharDevice | Kind::BlockDevice, _) => true,
            (Kind::Regular, Some(file)) => file.metadata().is_ok_and(|meta| {
                let privileges = Privileges::of(file, meta.mode());
                privileges.set_id || privileges.capabilities || meta.mode() & 0o222 == 0
            }),
            _ => false,
        }
    }

    /// Only an exclusive open tells whether a device is mounted: O_EXCL without O_CREAT, see open(2).
    fn busy_device(&self) -> WriteGuard {
        let path = format!(
            "/proc/self/fd/{}",
            self.file.as_ref().map_or(-1, |file| file.as_raw_fd())
        );
        let probe = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path);
        match probe {
            Err(error) if errno_of(&error) == Errno::EBUSY => WriteGuard::BusyBlockDevice,
            _ => WriteGuard::BlockDevice,
        }
    }

    /// What fstat(2) says of the file now.
    pub fn metadata(&self) -> Result<std::fs::Metadata> {
        let failed = |error: std::io::Error| Error::io("read its metadata", &error);
        self.file("read its metadata")?.metadata().map_err(failed)
    }

    /// Whether the kernel tells us which of its pages are in memory: only of files that we own or may write, see
    /// mincore(2).
    pub(super) fn tells_residency(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let owned = file
            .metadata()
            .is_ok_and(|meta| meta.uid() == nix::unistd::geteuid().as_raw());
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        owned || nix::unistd::access(path.as_str(), nix::unistd::AccessFlags::W_OK).is_ok()
    }

    /// What stands behind the `errno` of a call that would write to the file or, with `len`, set its length.
    pub(super) fn write_refusal(&self, errno: Errno, len: Option<u64>) -> ErrorKind {
        let seals = self.fd().and_then(|fd| fcntl(fd, FcntlArg::F_GET_SEALS).ok());
        let is_sealed = |seals_in_question| seals.is_some_and(|seals| seals & seals_in_question != 0);
        let is_longer = len.is_some_and(|len| len > self.facts.len);
        let of_length = if is_longer {
            libc::F_SEAL_GROW
        } else {
            libc::F_SEAL_SHRINK
        };
        match errno {
            Errno::EPERM if len.is_some() && is_sealed(of_length) => {
                ErrorKind::AccessDenied(AccessDenied::SealedLength)
            }
            Errno::EPERM if is_sealed(libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) => {
                ErrorKind::AccessDenied(AccessDenied::Sealed)
            }
            Errno::EINVAL | Errno::EACCES | Errno::EPERM
                if self.metadata().is_ok_and(|meta| is_read_only_device(&meta)) =>
            {
                ErrorKind::AccessDenied(AccessDenied::ReadOnlyDevice)
            }
            errno => ErrorKind::Sys(errno),
        }
    }

    /// Reads the bytes of `span` into `buf` up to the first page that cannot be read, and says how many they are. Each page
    /// is read for itself: a bad page keeps its neighbours from being mapped, and from being read along with it, where the
    /// kernel has them in one folio.
    pub(super) fn read_by_page(&self, span: ByteRange, buf: &mut [u8]) -> usize {
        let Ok(file) = self.file("read") else { return 0 };
        // Folios that could not be read stay in the cache until they are dropped, and without reading ahead the new ones
        // are single pages. It is advice, so whether it is taken is not asked.
        let around = span.pages(LARGEST_FOLIO);
        let (start, len) = (around.start() as i64, around.len() as i64);
        let _ = posix_fadvise(file, start, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
        let mut done = 0;
        for page in span.windows(self.facts.page) {
            let part = &mut buf[done..done + page.len() as usize];
            let read = uninterrupted(|| pread(file, &mut *part, page.start() as i64));
            done += read.unwrap_or(0);
            if read != Ok(part.len()) {
                break;
            }
        }
        let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_NORMAL);
        done
    }
}

/// Bytes of the largest folio of the page cache.
const LARGEST_FOLIO: u64 = 2 << 20;

/// The length of what has none: a page short of where file offsets end, so that whole pages can be counted.
const ENDLESS: u64 = (i64::MAX as u64 >> 16) << 16;

/// File systems whose files have a length of 0 and contents all the same.
const PSEUDO: [FsType; 5] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::TRACEFS_MAGIC,
];

/// The size of the machine's ordinary huge pages in bytes, `Hugepagesize` of /proc/meminfo; `None` where it has none.
pub fn huge_page() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// Whether a file is a block device that is set read-only, see blockdev(8).
fn is_read_only_device(meta: &std::fs::Metadata) -> bool {
    let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
    meta.file_type().is_block_device()
        && std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro")).is_ok_and(|ro| ro.trim() == "1")
}

fn is_overlay(path: &Path) -> bool {
    statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type() == statfs::OVERLAYFS_SUPER_MAGIC)
}

pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// open's errno, said as the kind of object where that is what it means.
fn unopened(path: &Path, error: &std::io::Error) -> Error {
    match errno_of(error) {
        Errno::EISDIR => Error::new(
            "map it",
            None,
            ErrorKind::UnsupportedFileType(UnsupportedFileType::Directory),
        ),
        Errno::ENXIO if std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) => Error::new(
            "map it",
            None,
            ErrorKind::UnsupportedFileType(UnsupportedFileType::Socket),
        ),
        Errno::EACCES | Errno::EPERM | Errno::EROFS
            if std::fs::metadata(path).is_ok_and(|meta| is_read_only_device(&meta)) =>
        {
            Error::new("open it", None, ErrorKind::AccessDenied(AccessDenied::ReadOnlyDevice))
        }
        errno => {
            let limit = Some(errno).filter(|errno| *errno == Errno::EMFILE);
            let limit = limit.and_then(|_| super::limits::behind_open());
            Error::new("open it", None, limit.map_or(ErrorKind::Sys(errno), ErrorKind::Limit))
        }
    }
}

/// How long any open waits for a lease to be given back.
const LEASE: Duration = Duration::from_secs(1);

/// Asks until there is an answer or `patience` is over; the pauses grow from 1 to 50 ms.
fn patiently<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        let left = patience.checked_sub(begin.elapsed())?;
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
