//! The mapping itself: creates it, and makes the system calls that copy bytes from and to its addresses.
//!
//! One of the two modules of the core with `unsafe`, together with its submodules in region/; the other is register.rs.
//! Nothing here creates or dereferences a Rust reference to a mapped byte. Addresses are passed to system calls, which
//! report a missing page by a short count or EFAULT where a load would raise SIGBUS. Callers pass file offsets, and
//! each call checks them against what is mapped.
#![allow(unsafe_code)]

mod advise;
mod arrange;
mod counts;
mod durable;
mod extents;
mod fork;
mod lease;
mod memory;
mod mount;
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
pub use mount::mount_id;
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, pread, process_vm_readv};
use std::ffi::c_void;
use std::fs::File;
use std::io::{IoSliceMut, Read, Seek};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
pub(super) use xattr::{LONGEST as LONGEST_XATTR, remove_xattr, xattr};

/// A mapped range of a backing: mapped as a whole, through a sliding window, or page by page in another order. All
/// offsets are file offsets, except in a region in another order ([`Region::arrange`]), where they are offsets in the
/// view.
#[derive(Debug)]
pub struct Region {
    // Declared before the backing, so that a mapping is always dropped before its descriptor.
    pub(super) window: Option<Window>,
    /// The mappings that MREMAP_DONTUNMAP left at earlier addresses.
    unmapped_leftovers: Vec<RawMapping>,
    backing: Backing,
    span: ByteRange,
    shape: MapOptions,
    /// The order of its pages, if that is not the file's.
    layout: Option<PageOrder>,
    /// Whether it is private only because the file cannot be mapped shared.
    fell_back: bool,
    /// How its pages are locked in memory, if they are.
    locked: Option<Lock>,
    /// Whether a child does not inherit the mapping: MADV_DONTFORK.
    dont_fork: bool,
    /// Whether this process is such a child.
    not_inherited: bool,
    /// A memfd through which bytes are copied if process_vm_readv(2) is refused.
    bounce_memfd: Option<File>,
}

/// The part of the region that is mapped now.
#[derive(Debug)]
pub(super) struct Window {
    memory: RawMapping,
    /// The file range that it maps, or the range of the view, in whole pages.
    covers: ByteRange,
}

/// A mapping without its file, which stays mapped until it is dropped.
#[derive(Debug)]
pub struct KeptMapping(#[expect(dead_code, reason = "kept to be dropped")] Option<Window>);

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
    /// [`ErrorKind::PastEnd`] if the range exceeds the length at open.
    pub fn new(backing: Backing, span: ByteRange, shape: MapOptions) -> Result<Region> {
        let facts = backing.facts();
        if span.end() > facts.len {
            return Err(Error::new("map", Some(span), ErrorKind::PastEnd { len: facts.len }));
        }
        // Sliding the window would lose the copies of private pages, and all of anonymous memory.
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

    /// A region of the whole file, if this one maps only a part of it and the bytes of `whole` are the file's own.
    pub(super) fn of_whole_file(&self, whole: ByteRange) -> Option<Region> {
        let is_part = self.is_shared_file() && !self.span().contains(whole);
        let backing = is_part.then(|| self.backing.try_clone()).flatten();
        backing.and_then(|backing| Region::sliding(backing, Prot::Read).ok())
    }

    /// The whole of `backing`, through a sliding window.
    pub fn sliding(backing: Backing, prot: Prot) -> Result<Region> {
        let span = ByteRange::first(backing.facts().len);
        Region::new(backing, span, MapOptions::sliding(prot))
    }

    /// The file range of the region. It may exceed the file, if that was truncated after it was mapped.
    pub fn span(&self) -> ByteRange {
        self.span
    }

    /// How it is mapped.
    pub fn shape(&self) -> MapOptions {
        self.shape
    }

    /// The backing that is mapped.
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Drops the mapping and returns the backing.
    pub fn into_backing(self) -> Backing {
        self.backing
    }

    /// Closes the file and keeps the mapping, so that many mappings do not run out of descriptors.
    pub fn into_mapping(self) -> KeptMapping {
        KeptMapping(self.window)
    }

    /// The length of what can be stored into, in bytes: of the file when its length was last read, of the memory, or of
    /// the view.
    pub fn length(&self) -> u64 {
        self.layout.as_ref().map_or(self.backing.facts().len, PageOrder::len)
    }

    /// The order of its pages, if that is not the file's. Offsets are then offsets in the view.
    pub fn layout(&self) -> Option<&PageOrder> {
        self.layout.as_ref()
    }

    /// The size of its pages in bytes.
    pub fn page(&self) -> u64 {
        self.backing.facts().page
    }

    /// Reads the length of the file again, which other processes may have changed.
    pub fn refresh(&mut self) -> Result<()> {
        self.backing.refresh()
    }

    /// Releases the advisory lock while another process works on the file. Returns whether it was held.
    pub fn lend_lock(&mut self) -> Result<bool> {
        self.backing.lend_lock()
    }

    /// Takes back the lock that was lent, or that a child may have released, and reads the length and the rights again.
    ///
    /// # Errors
    /// As for [`Backing::lock`].
    pub fn take_lock_back(&mut self) -> Result<()> {
        self.backing.take_lock_back()
    }

    /// Reads again the rights that the safety rules for writers depend on, see [`Backing::refusal`].
    ///
    /// # Errors
    /// The error of reading them.
    pub fn refresh_rights(&mut self) -> Result<()> {
        self.backing.refresh_rights()
    }

    /// Whether its bytes may be the memory of a device. A mapping that fell back to private is excluded.
    pub(super) fn is_device_memory(&self) -> bool {
        self.backing.facts().device_memory && !self.fell_back
    }

    /// Whether this is a child that did not inherit the mapping.
    pub(super) fn is_not_inherited(&self) -> bool {
        self.not_inherited
    }

    /// How many bytes one step of work on the region covers: the size of the window, or the default if all of it is
    /// mapped.
    pub(super) fn window_size(&self) -> u64 {
        self.shape.window.unwrap_or(WINDOW)
    }

    /// Maps the region now, and returns the address and length (bytes) of the mapping. Both are 0 for an empty file.
    pub fn map_now(&mut self) -> Result<(usize, u64)> {
        if self.span.is_empty() && !self.not_inherited {
            return Ok((0, 0));
        }
        let window = self.map_window_at(self.span.start())?;
        Ok((window.memory.base(), window.covers.len()))
    }

    /// The address of a mapping of the whole region; `None` for sliding windows, and before anything is mapped.
    pub fn address(&self) -> Option<usize> {
        let window = self.window.as_ref().filter(|_| self.shape.window.is_none());
        window.map(|window| window.memory.base())
    }

    /// How many bytes of the region are mapped from `offset` on. Slides the window there if needed.
    pub(super) fn mapped_len_from(&mut self, offset: u64) -> Result<u64> {
        let end = self.span.end();
        let window = self.map_window_at(offset)?;
        Ok(window.covers.end().min(end).saturating_sub(offset))
    }

    /// Sets the size of the sliding window to `size` bytes, a multiple of [`WINDOW`]. Nothing stays mapped until the
    /// next use. A mapping of the whole region is not changed.
    pub fn set_window_size(&mut self, size: u64) {
        if let Some(window) = self.shape.window {
            self.window = None;
            self.shape.window = Some(window.max(size));
        }
    }

    /// Fails if the region is a nonlinear view. `why` is a phrase that follows a comma.
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

    /// Makes the mapping private if the file cannot be mapped shared and nothing is to be stored. Files of FUSE with
    /// direct_io, some network file systems and some files of sysfs answer ENODEV or EACCES. Returns whether it did.
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

    /// The window that contains `offset`; maps it if the present one does not.
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
                        // If both attempts fail, the error of the first one is reported.
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
            // It is mapped as a whole when it is arranged, and only a child may lack it.
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

    /// Why the kernel returned ENOMEM for `len` more bytes of mapping.
    fn out_of_memory(&self, len: u64) -> ErrorKind {
        let charged = self.shape.prot.writes() && !self.is_shared_file() && !self.shape.noreserve;
        let limit = limits::behind_huge(len, self.page()).or_else(|| limits::behind_mmap(len, charged));
        limit.map_or(ErrorKind::Sys(Errno::ENOMEM), ErrorKind::Limit)
    }
    // ---- bytes; transfer.rs transfers whole ranges with these ----

    /// Copies bytes from offset `at` on out of the mapping, as many as are mapped there and fit `buf`, without risking
    /// a signal: by process_vm_readv(2) on this process itself, or through a memfd if a container's filter refuses
    /// that. A short count is an exact prefix. EFAULT, or 0, means that the first page cannot be read.
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
                // Some drivers map pages that only instructions of the process itself can read.
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

    /// Stores by one preadv(2) from `payload` into the mapping. The segments, at most 1,024, lie in the present window,
    /// and their payload is contiguous. A short count is an exact prefix. EFAULT means that the first page cannot be
    /// written.
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
            libc::preadv(payload.as_raw_fd(), parts.as_ptr(), parts.len() as libc::c_int, first.from as libc::off_t)
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

/// Copies from an address into `buf` without process_vm_readv and without risking a signal: write(2) from the mapping
/// into a memfd, which reports a bad page in the same way, and a read from there.
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
