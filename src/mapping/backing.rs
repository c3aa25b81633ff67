//! What is mapped: a file, or anonymous memory. Opens it, and provides its file information, lock, length and blocks.
//!
//! Code above this module does not depend on how a [`Backing`] was made.

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

/// The memory of a mapping: open, with the file information as it was at open.
#[derive(Debug)]
pub struct Backing {
    pub(super) file: Option<File>,
    /// The path that it was opened by; `None` for memory.
    path: Option<PathBuf>,
    facts: FileInfo,
    /// The timeout for the advisory lock; `None` if the lock was never requested.
    patience: Option<Duration>,
    /// Whether this process holds the lock now.
    held: bool,
    /// Whether anything was written through this descriptor or a mapping of it, see closing.rs.
    pub(super) written: AtomicBool,
}

/// The information about a file at the time it was opened. Lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// The kind of object.
    pub kind: Kind,
    /// The length of the file, of the device, or of the anonymous memory that was requested.
    pub len: u64,
    /// The page size of its mappings: the system's, or the huge page size of a hugetlbfs.
    pub page: u64,
    /// Whether it was opened for writing. A flush through a descriptor that was not proves nothing.
    pub writable: bool,
    /// `st_mode`; 0 for anonymous memory.
    pub mode: u32,
    /// Whether the answers of cachestat(2) are valid. On overlayfs the page cache belongs to the layer below.
    pub counts_cache: bool,
    /// Whether a mapping of it may be the memory of a device rather than the page cache: a character device, or a
    /// file of sysfs (the resource files of PCI).
    pub device_memory: bool,
    /// Whether its file system sends dirty pages at close(2), and may fail only then.
    pub sends_at_close: bool,
    /// The identity of the file; all 0 for anonymous memory.
    pub identity: FileId,
    /// Whether opening it for writing broke its hard links: the other names are on the lower layer of an overlayfs, and
    /// keep the old bytes.
    pub left_its_links: bool,
    /// The privileges that it grants when it is executed. Determined only if it was opened for writing.
    pub privileges: Privileges,
}

/// The identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_nlink`: how many names the file has.
    pub names: u64,
}

impl FileInfo {
    /// Whether the bytes exist outside the mapping, in a file or a device.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::Regular | Kind::BlockDevice | Kind::CharDevice | Kind::Memfd)
    }

    /// Whether its length is known, so that offsets can be counted from its end.
    pub fn has_end(&self) -> bool {
        self.kind != Kind::CharDevice
    }

    /// Whether parts of it may have no blocks. Sysfs fails SEEK_DATA with ENXIO, as if the whole file were a hole.
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
    /// A character device, opened for register access. Its driver defines what is at an offset.
    CharDevice,
    /// A file in memory without a name, see memfd_create(2).
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
    /// O_RDWR if that is allowed, otherwise O_RDONLY (see [`FileInfo::writable`]), otherwise O_WRONLY, which is enough
    /// to flush.
    WriteIfAllowed,
    /// O_RDONLY for [`super::Region::load_units`]. Character devices are allowed.
    ReadRegisters,
    /// O_RDWR for [`super::Region::store_units`]. Character devices are allowed.
    WriteRegisters,
}

impl Access {
    fn is_to_registers(self) -> bool {
        matches!(self, Access::ReadRegisters | Access::WriteRegisters)
    }
}

impl Backing {
    /// Opens a file by open(2), never with O_CREAT or O_TRUNC, and without waiting for the other end of a FIFO. If
    /// another process holds a lease on the file, tries again for `patience`.
    ///
    /// # Errors
    /// The error of open; [`ErrorKind::UnsupportedFileType`] for files without pages (directories, FIFOs, sockets,
    /// files of /proc and cgroups), and for character devices unless `access` is to registers.
    pub fn open(path: &Path, access: Access, patience: Duration) -> Result<Backing> {
        let open_with = |read: bool, write: bool| {
            let mut options = OpenOptions::new();
            // O_SYNC makes /dev/mem map memory uncached (devmem2 does the same). It has no effect on other files here,
            // because nothing is written by write(2).
            let uncached = if access.is_to_registers() { libc::O_SYNC } else { 0 };
            options.read(read).write(write).custom_flags(libc::O_NONBLOCK | uncached);
            // With O_NONBLOCK, open(2) of a leased file fails with EWOULDBLOCK at once, and the kernel notifies the
            // holder of the lease. If that is mmapctl, it gives the lease back within milliseconds.
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
                    // We may not read it. It cannot be mapped then, and need not be.
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
            // st_size of a block device is 0. SEEK_END gives its length.
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

    /// A file in memory of `len` bytes, made by memfd_create(2), with huge pages of `huge` bytes if given. `name` is
    /// shown in /proc.
    ///
    /// # Errors
    /// ENODEV or EINVAL if the machine has no huge pages of this size; [`ErrorKind::Limit`] when it is mapped.
    pub fn memfd(name: &CStr, len: u64, huge: Option<u64>) -> Result<Backing> {
        let made = match huge {
            None => memfd(name),
            Some(page) => huge_memfd(name, page),
        };
        let file = made.map_err(|errno| Error::sys("make a memfd", None, errno))?;
        let mut backing = Backing::new(file, true, false)?;
        backing.facts.kind = Kind::Memfd;
        // A length that overflows 64 bits is rejected by set_len.
        let whole = len.checked_next_multiple_of(huge.unwrap_or(1));
        backing.set_len(whole.unwrap_or(u64::MAX))?;
        Ok(backing)
    }

    /// Anonymous memory of `len` bytes, in huge pages of `huge` bytes if given. It exists from when a [`super::Region`]
    /// maps it.
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

    /// Sets the length of `/dev/zero`, which has none of its own.
    pub fn with_len(mut self, len: u64) -> Backing {
        self.facts.len = len;
        self
    }

    /// Another descriptor of this open file. The lock is held until both are closed. `None` if there is no file, or no
    /// descriptors are left.
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

    /// The file information as of open (and of the last [`Backing::set_len`]).
    pub fn facts(&self) -> &FileInfo {
        &self.facts
    }

    /// Reads the length of the file again.
    pub(super) fn refresh(&mut self) -> Result<()> {
        if self.facts.is_file() {
            self.facts.len = self.usage()?.len;
        }
        Ok(())
    }

    /// Records a length that was just set, or the length of memory without a file.
    pub(super) fn set_memory_len(&mut self, len: u64) {
        self.facts.len = len;
    }

    /// The descriptor; `None` for anonymous memory.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The path that the file was opened by; `None` for memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The file, for calls that need one.
    pub(super) fn file(&self, action: &'static str) -> Result<&File> {
        let none = || Error::new(action, None, ErrorKind::AccessDenied(AccessDenied::NoFile));
        self.file.as_ref().ok_or_else(none)
    }

    /// Whether `path` leads to this file. It does not if another file was renamed to it since it was opened, or if it
    /// was removed. A path that cannot be looked up for another reason counts as leading to it.
    pub fn is_at(&self, path: &Path) -> bool {
        match std::fs::metadata(path) {
            Ok(meta) => (meta.dev(), meta.ino()) == (self.facts.identity.device, self.facts.identity.inode),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Reads again what the safety rules for writers depend on, because other processes may have changed it.
    pub(super) fn refresh_rights(&mut self) -> Result<()> {
        if self.facts.kind == Kind::Regular && self.facts.writable {
            self.facts.mode = self.metadata()?.mode();
            self.facts.privileges = Privileges::of(self.file("read its metadata")?, self.facts.mode);
        }
        Ok(())
    }

    /// The safety rule that forbids storing into this file, if any.
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

    /// Whether a safety rule forbids storing into the file as it is now, even if it was opened for reading.
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

    /// Finds out whether a device is in use. Only an exclusive open reports that: O_EXCL without O_CREAT, see open(2).
    fn busy_device(&self) -> WriteGuard {
        let path = format!("/proc/self/fd/{}", self.file.as_ref().map_or(-1, |file| file.as_raw_fd()));
        let probe = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path);
        match probe {
            Err(error) if errno_of(&error) == Errno::EBUSY => WriteGuard::BusyBlockDevice,
            _ => WriteGuard::BlockDevice,
        }
    }

    /// The result of fstat(2) for the file now.
    pub fn metadata(&self) -> Result<std::fs::Metadata> {
        let failed = |error: std::io::Error| Error::io("read its metadata", &error);
        self.file("read its metadata")?.metadata().map_err(failed)
    }

    /// Whether the kernel reports which pages of the file are in memory. It does so only for files that we own or may
    /// write, see mincore(2).
    pub(super) fn tells_residency(&self) -> bool {
        let Some(file) = &self.file else { return true };
        let owned = file.metadata().is_ok_and(|meta| meta.uid() == nix::unistd::geteuid().as_raw());
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        owned || nix::unistd::access(path.as_str(), nix::unistd::AccessFlags::W_OK).is_ok()
    }

    /// The cause of an `errno` of a call that would write to the file or, with `len`, set its length.
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

    /// Reads the bytes of `span` into `buf` up to the first page that cannot be read, and returns how many they are.
    /// Each page is read separately: if the kernel holds a bad page in one folio with its neighbours, these can neither
    /// be mapped nor read together with it.
    pub(super) fn read_by_page(&self, span: ByteRange, buf: &mut [u8]) -> usize {
        let Ok(file) = self.file("read") else { return 0 };
        // A folio that could not be read stays in the cache until it is dropped. Without read-ahead, the new folios are
        // single pages. This is only advice, so errors are ignored.
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

/// Length in bytes of the largest folio of the page cache.
const LARGEST_FOLIO: u64 = 2 << 20;

/// The length used for devices that have none: less than the largest file offset, so that whole pages can be counted.
const ENDLESS: u64 = (i64::MAX as u64 >> 16) << 16;

/// File systems whose files have contents although their length is 0.
const PSEUDO: [FsType; 5] = [
    statfs::PROC_SUPER_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::TRACEFS_MAGIC,
];

/// The size of the machine's default huge pages in bytes, `Hugepagesize` of /proc/meminfo; `None` if it has none.
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

/// The error of an open, expressed as the type of file if the errno means that.
fn unopened(path: &Path, error: &std::io::Error) -> Error {
    match errno_of(error) {
        Errno::EISDIR => Error::new("map it", None, ErrorKind::UnsupportedFileType(UnsupportedFileType::Directory)),
        Errno::ENXIO if std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) => {
            Error::new("map it", None, ErrorKind::UnsupportedFileType(UnsupportedFileType::Socket))
        }
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

/// The minimum time that an open waits for a lease to be given back.
const LEASE: Duration = Duration::from_secs(1);

/// Calls `ask` until it returns a value or `patience` has passed. The pauses grow from 1 to 50 ms.
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
