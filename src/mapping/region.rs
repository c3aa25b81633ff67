//! The mapping itself: making it, and the system calls that move bytes over its addresses.
//!
//! One of the core's two doors for `unsafe`, with its rooms in region/; the other is register.rs. Nothing here makes a Rust
//! reference to a mapped byte or dereferences one: addresses go to system calls, which answer a missing page with a
//! short count or EFAULT where a load would raise SIGBUS. Callers speak of file offsets; each call checks them against
//! what is mapped.
#![allow(unsafe_code)]

mod advise;
mod arrange;
mod counts;
mod durable;
mod extents;
mod fork;
mod lease;
mod memory;
mod resize;
mod xattr;

use super::backing::{Backing, Kind};
use super::error::{Error, ErrorKind, Result};
use super::limits;
use super::options::{Lock, MapOptions, Prot, Segment, Visibility, WINDOW};
use super::order::PageOrder;
use super::range::ByteRange;
use super::trace::traced;
pub(super) use counts::{CacheStat, Categories, cachestat};
pub(super) use extents::unwritten_extents;
pub use fork::in_child;
pub(super) use lease::Lease;
pub use memory::memfd_with;
use memory::{MmapRequest, RawMapping};
pub(super) use memory::{huge_memfd, memfd};
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, pread, process_vm_readv};
use std::ffi::c_void;
use std::fs::File;
use std::io::{IoSliceMut, Read, Seek};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
pub(super) use xattr::{LONGEST as LONGEST_XATTR, remove_xattr, xattr};

/// A range of a backing, mapped: whole, through a window that slides over it, or page by page in another order.
/// All offsets are file offsets; of a region in another order ([`Region::arrange`]), they are the view's.
#[derive(Debug)]
pub struct Region {
    // Before the backing, so that a mapping never outlives its descriptor in a trace.
    pub(super) window: Option<Window>,
    /// What MREMAP_DONTUNMAP has left at earlier addresses.
    unmapped_leftovers: Vec<RawMapping>,
    backing: Backing,
    span: ByteRange,
    shape: MapOptions,
    /// The order of its pages, where that is not the file's.
    layout: Option<PageOrder>,
    /// It is private only because the file cannot be mapped shared.
    fell_back: bool,
    /// How its pages are locked in memory, if they are.
    locked: Option<Lock>,
    /// A child does not get the mapping: MADV_DONTFORK.
    dont_fork: bool,
    /// This is such a child.
    not_inherited: bool,
    /// A memfd that bytes take the way through where process_vm_readv(2) is refused.
    bounce_memfd: Option<File>,
}

/// What is mapped at the moment.
#[derive(Debug)]
pub(super) struct Window {
    memory: RawMapping,
    /// The file range behind it, or the view's, whole pages.
    covers: ByteRange,
}

impl Window {
    fn has(&self, offset: u64) -> bool {
        self.covers.start() <= offset && offset < self.covers.end()
    }

    pub(super) fn address(&self, offset: u64) -> usize {
        self.memory.base() + (offset - self.covers.start()) as usize
    }
}

impl Region {
    /// The region `span` of `backing`. Nothing is mapped until the first use, or [`Region::map_now`].
    ///
    /// # Errors
    /// [`ErrorKind::PastEnd`] when the range is not within the length seen at open.
    pub fn new(backing: Backing, span: ByteRange, shape: MapOptions) -> Result<Region> {
        let facts = backing.facts();
        if span.end() > facts.len {
            return Err(Error::new("map", Some(span), ErrorKind::PastEnd { len: facts.len }));
        }
        // A private page's copy would be lost with the window, and anonymous memory altogether.
        let slides = shape.visibility == Visibility::Shared && facts.is_file();
        let window = shape.window.filter(|_| slides).map(|size| size.max(facts.page));
        Ok(Region {
            window: None,
            unmapped_leftovers: Vec::new(),
            backing,
            span,
            shape: MapOptions { window, ..shape },
            layout: None,
            fell_back: false,
            locked: None,
            dont_fork: false,
            not_inherited: false,
            bounce_memfd: None,
        })
    }

    /// Another region, of the whole file, where this one maps a part of it and the bytes of `whole` are the file's own.
    pub(super) fn of_whole_file(&self, whole: ByteRange) -> Option<Region> {
        let is_part = self.is_shared_file() && !self.span().contains(whole);
        let backing = is_part.then(|| self.backing.try_clone()).flatten();
        backing.and_then(|backing| Region::sliding(backing, Prot::Read).ok())
    }

    /// The whole of `backing`, through a window that slides.
    pub fn sliding(backing: Backing, prot: Prot) -> Result<Region> {
        let span = ByteRange::first(backing.facts().len);
        Region::new(backing, span, MapOptions::sliding(prot))
    }

    /// The file range it stands for. It may reach past the end of a file that became shorter since it was mapped.
    pub fn span(&self) -> ByteRange {
        self.span
    }

    /// How it is mapped.
    pub fn shape(&self) -> MapOptions {
        self.shape
    }

    /// What is mapped.
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// What was mapped, without the mapping.
    pub fn into_backing(self) -> Backing {
        self.backing
    }

    /// Closes the file and keeps the mapping: so many may stand that descriptors would run out. What asks the file
    /// (its length, its pages in the cache) is refused from then on.
    pub fn close_file(&mut self) {
        self.backing.close();
    }

    /// The length of what can be stored into, in bytes: the file's when it was last looked at, the memory's own, or the
    /// view's.
    pub fn length(&self) -> u64 {
        self.layout.as_ref().map_or(self.backing.facts().len, PageOrder::len)
    }

    /// The order of its pages, where that is not the file's; offsets are then the view's.
    pub fn layout(&self) -> Option<&PageOrder> {
        self.layout.as_ref()
    }

    /// The size of its pages in bytes.
    pub fn page(&self) -> u64 {
        self.backing.facts().page
    }

    /// Looks at the file's length anew: others may have changed it, and from now on that is known.
    pub fn refresh(&mut self) -> Result<()> {
        self.backing.refresh()
    }

    /// Gives up the advisory lock while somebody else is to work on the file; says whether it was held.
    pub fn lend_lock(&mut self) -> Result<bool> {
        self.backing.lend_lock()
    }

    /// Takes the lock that was lent, or that a child may have given up, and looks at the length and the rights anew.
    ///
    /// # Errors
    /// As for [`Backing::lock`].
    pub fn take_lock_back(&mut self) -> Result<()> {
        self.backing.take_lock_back()
    }

    /// Looks anew at the rights that the safety rules for writers depend on, see [`Backing::refusal`].
    ///
    /// # Errors
    /// What keeps the kernel from telling.
    pub fn refresh_rights(&mut self) -> Result<()> {
        self.backing.refresh_rights()
    }

    /// Whether what it shows may be the memory of a device. Of that, a private mapping would be in vain.
    pub(super) fn is_device_memory(&self) -> bool {
        self.backing.facts().device_memory && !self.fell_back
    }

    /// Whether this is a child that did not inherit the mapping.
    pub(super) fn is_not_inherited(&self) -> bool {
        self.not_inherited
    }

    /// The step in which work on it goes on: the window's size, or as much where all is mapped. Bytes.
    pub(super) fn window_size(&self) -> u64 {
        self.shape.window.unwrap_or(WINDOW)
    }

    /// Makes the mapping now, and says at what address and how many bytes long it is. Of an empty file there is none: 0, 0.
    pub fn map_now(&mut self) -> Result<(usize, u64)> {
        if self.span.is_empty() && !self.not_inherited {
            return Ok((0, 0));
        }
        let window = self.map_window_at(self.span.start())?;
        Ok((window.memory.base(), window.covers.len()))
    }

    /// The address of a mapping that stands whole; `None` for windows that slide, and before anything is mapped.
    pub fn address(&self) -> Option<usize> {
        let window = self.window.as_ref().filter(|_| self.shape.window.is_none());
        window.map(|window| window.memory.base())
    }

    /// How many bytes of the region are mapped from `offset` on; slides the window there if need be.
    pub(super) fn mapped_len_from(&mut self, offset: u64) -> Result<u64> {
        let end = self.span.end();
        let window = self.map_window_at(offset)?;
        Ok(window.covers.end().min(end).saturating_sub(offset))
    }

    /// Slides a window of `size` bytes, a multiple of [`WINDOW`], from now on; nothing stays mapped until the next use.
    /// A mapping that stands whole is left alone.
    pub fn set_window_size(&mut self, size: u64) {
        if let Some(window) = self.shape.window {
            self.window = None;
            self.shape.window = Some(window.max(size));
        }
    }

    /// Refuses what a nonlinear view cannot do; `why` follows a comma.
    pub fn check_linear(&self, action: &'static str, why: &'static str) -> Result<()> {
        match self.layout {
            None => Ok(()),
            Some(_) => Err(Error::new(action, None, ErrorKind::Nonlinear(why))),
        }
    }

    pub(super) fn outside(&self, action: &'static str, span: ByteRange) -> Error {
        let of_file = self.layout.is_none() && self.backing.facts().is_file();
        let cause = if of_file && span.end() > self.length() {
            ErrorKind::PastEnd { len: self.length() }
        } else {
            ErrorKind::NotMapped(self.span)
        };
        Error::new(action, Some(span), cause)
    }

    /// Makes the mapping private where the file cannot be mapped shared and nothing is to be stored: of FUSE with direct_io,
    /// some network file systems and some files of sysfs, which answer ENODEV or EACCES. Says whether it did.
    fn falls_back_to_private(&mut self, error: &Error) -> bool {
        let refused = matches!(error.cause, ErrorKind::Sys(Errno::ENODEV | Errno::EACCES));
        let shape = self.shape;
        let reads = !shape.prot.writes() && !shape.dax && shape.visibility == Visibility::Shared;
        if !refused || !reads || self.backing.facts().kind != Kind::Regular {
            return false;
        }
        self.shape.visibility = Visibility::Private;
        self.fell_back = true;
        true
    }

    /// The window that has `offset`, mapped anew if the present one does not.
    pub(super) fn map_window_at(&mut self, offset: u64) -> Result<&Window> {
        if self.not_inherited {
            return Err(Error::new("use", Some(self.span), ErrorKind::NotInherited));
        }
        let window = match self.window.take() {
            Some(window) if window.has(offset) => window,
            other => {
                let pages = self.span.pages(self.page());
                if !pages.contains(ByteRange::at(offset, 1).unwrap_or(self.span)) {
                    self.window = other;
                    return Err(self.outside("map", ByteRange::at(offset, 1).unwrap_or(self.span)));
                }
                drop(other); // unmapped before the next one is mapped
                let covers = match self.shape.window {
                    None => pages,
                    Some(size) => ByteRange::at(offset / size * size, size).map_or(pages, |part| part.intersect(pages)),
                };
                match self.map(covers) {
                    Err(error) if self.falls_back_to_private(&error) => {
                        // What could not be had in either way is told as it was found first.
                        self.map(covers).map_err(|_| {
                            self.shape.visibility = Visibility::Shared;
                            self.fell_back = false;
                            error
                        })?
                    }
                    mapped => mapped?,
                }
            }
        };
        Ok(self.window.insert(window))
    }

    /// mmap(2) of the whole pages `covers`.
    pub(super) fn map(&self, covers: ByteRange) -> Result<Window> {
        let failed = |cause| Error::new("map", Some(covers), cause);
        if self.layout.is_some() {
            // It stands whole from when it was arranged; only a child may be without it.
            return Err(failed(ErrorKind::NotInherited));
        }
        let facts = self.backing.facts();
        let Some(len) = usize::try_from(covers.len()).ok().and_then(NonZeroUsize::new) else {
            return Err(failed(ErrorKind::Sys(Errno::EINVAL)));
        };
        let (file, huge) = match facts.kind {
            Kind::Anonymous => (None, Some(facts.page).filter(|page| *page > super::page_size())),
            _ => (Some(self.backing.file("map")?), None),
        };
        let wanted = MmapRequest {
            file,
            offset: covers.start(),
            len,
            shape: self.shape,
            huge,
            over: false,
        };
        match (RawMapping::map(&wanted), self.shape.address) {
            (Ok(memory), _) => Ok(Window { memory, covers }),
            (Err(Errno::ENOMEM), _) => Err(failed(self.out_of_memory(covers.len()))),
            (Err(Errno::EEXIST), Some(address)) => Err(failed(ErrorKind::AddressTaken(address))),
            (Err(errno), _) if self.shape.prot.writes() => Err(failed(self.backing.write_refusal(errno, None))),
            (Err(errno), _) => Err(failed(ErrorKind::Sys(errno))),
        }
    }

    /// Why the kernel said ENOMEM to `len` more bytes of mapping.
    fn out_of_memory(&self, len: u64) -> ErrorKind {
        let charged = self.shape.prot.writes() && !self.is_shared_file() && !self.shape.noreserve;
        let limit = limits::behind_huge(len, self.page()).or_else(|| limits::behind_mmap(len, charged));
        limit.map_or(ErrorKind::Sys(Errno::ENOMEM), ErrorKind::Limit)
    }
    // ---- bytes; transfer.rs makes whole ranges of these ----

    /// Copies bytes from `at` on out of the mapping, as many as are mapped there and fit `buf`, without a signal:
    /// process_vm_readv(2) on oneself, or by way of a memfd where a container's filter refuses that. A short
    /// count is an exact prefix; EFAULT, or 0, is a first page that cannot be had.
    pub(super) fn read_into(&mut self, at: u64, buf: &mut [u8]) -> Result<nix::Result<usize>> {
        let len = buf.len().min(self.mapped_len_from(at)? as usize);
        let buf = &mut buf[..len];
        let address = self.map_window_at(at)?.address(at);
        if self.bounce_memfd.is_none() {
            let remote = [RemoteIoVec { base: address, len }];
            match process_vm_readv(nix::unistd::getpid(), &mut [IoSliceMut::new(buf)], &remote) {
                Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => {
                    let memfd = memfd(c"mmapctl-detour");
                    self.bounce_memfd =
                        Some(memfd.map_err(|errno| Error::sys("read", ByteRange::at(at, len as u64), errno))?);
                }
                // Some drivers map pages that only the process's own instructions may read.
                Err(Errno::EFAULT) if self.fell_back => {
                    return Ok(pread(self.backing.file("read")?, buf, at as i64));
                }
                other => return Ok(other),
            }
        }
        match &mut self.bounce_memfd {
            Some(bounce_memfd) => Ok(copy_by_way_of(bounce_memfd, address, buf)),
            None => Ok(Err(Errno::EFAULT)),
        }
    }

    /// One preadv(2) from `payload` into the mapping. The pieces, at most 1,024, lie in the present window, and
    /// their payload is contiguous. A short count is an exact prefix; EFAULT is a first page that cannot be had.
    pub(super) fn write_segments(&mut self, pieces: &[Segment], payload: BorrowedFd<'_>) -> Result<nix::Result<usize>> {
        let mapped = |window: &&Window| pieces.iter().all(|piece| window.covers.contains(piece.range()));
        let (Some(window), Some(first)) = (self.window.as_ref().filter(mapped), pieces.first()) else {
            return Err(self.outside("store", self.span));
        };
        let part = |piece: &Segment| libc::iovec {
            iov_base: window.address(piece.at()) as *mut c_void,
            iov_len: piece.len() as usize,
        };
        let parts: Vec<_> = pieces.iter().map(part).collect();
        // SAFETY: every part lies in the mapping, which is ours; no Rust reference to it exists.
        let count = unsafe {
            libc::preadv(
                payload.as_raw_fd(),
                parts.as_ptr(),
                parts.len() as libc::c_int,
                first.from as libc::off_t,
            )
        };
        let result = Errno::result(count);
        let result = traced(result, || {
            let fd = payload.as_raw_fd();
            let base = parts[0].iov_base as usize;
            let more = if parts.len() > 1 { ", ..." } else { "" };
            let first_part = format!("{{iov_base={base:#x}, iov_len={}}}{more}", parts[0].iov_len);
            format!("preadv({fd}, [{first_part}], {}, {})", parts.len(), first.from)
        });
        Ok(result.map(|count| count as usize))
    }
}

/// The signal-free way from an address into `buf` that needs no process_vm_readv: write(2) from the mapping into a
/// memfd, which answers a bad page as that does, and a read from there.
fn copy_by_way_of(bounce_memfd: &mut File, address: usize, buf: &mut [u8]) -> nix::Result<usize> {
    let io = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    bounce_memfd.rewind().map_err(io)?;
    // SAFETY: the caller's range is mapped, and the kernel only reads it.
    let count = unsafe { libc::write(bounce_memfd.as_raw_fd(), address as *const c_void, buf.len()) };
    let count = Errno::result(count)? as usize;
    bounce_memfd.rewind().map_err(io)?;
    bounce_memfd.read_exact(&mut buf[..count]).map_err(io)?;
    Ok(count)
}
