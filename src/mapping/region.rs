//! The mapping itself: making it, and every system call on its addresses.
//!
//! One of the two doors for `unsafe` (the other is register.rs). Nothing here makes a Rust reference to a mapped byte or dereferences one:
//! addresses go to system calls, which answer a missing page with a short count or EFAULT where a load would
//! raise SIGBUS. Callers speak of file offsets; each call checks them against what is mapped.
#![allow(unsafe_code)]

use super::backing::{Backing, Kind};
use super::error::{Cause, Error, FLUSH, Result};
use super::limits;
use super::shape::{ADVICE, Advice, Flush, Lock, Piece, Populate, Prot, Shape, Visibility, WINDOW};
use super::span::Span;
use super::trace::{Address, traced, uninterrupted};
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{self, MapFlags};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io::{IoSliceMut, Read, Seek, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// A range of a backing, mapped: whole, or through a window that slides over it. All offsets are file offsets.
#[derive(Debug)]
pub struct Region {
    // Before the backing, so that a mapping never outlives its descriptor in a trace.
    pub(super) window: Option<Window>,
    backing: Backing,
    span: Span,
    shape: Shape,
    /// A memfd that bytes take the way through where process_vm_readv(2) is refused.
    detour: Option<File>,
}

/// What is mapped at the moment.
#[derive(Debug)]
pub(super) struct Window {
    memory: Memory,
    /// The file range behind it, whole pages.
    covers: Span,
}

impl Window {
    fn has(&self, offset: u64) -> bool {
        self.covers.start() <= offset && offset < self.covers.end()
    }

    pub(super) fn address(&self, offset: u64) -> usize {
        self.memory.base() + (offset - self.covers.start()) as usize
    }
}

/// A kernel mapping that ends with its owner.
#[derive(Debug)]
enum Memory {
    /// What memmap2 can express.
    Ordinary(MmapRaw),
    /// The rest: shared anonymous memory, PROT_NONE, and private or writable code.
    Special(NonNull<c_void>, usize),
}

impl Memory {
    fn base(&self) -> usize {
        match self {
            Memory::Ordinary(raw) => raw.as_ptr() as usize,
            Memory::Special(base, _) => base.as_ptr() as usize,
        }
    }

    fn len(&self) -> usize {
        match self {
            Memory::Ordinary(raw) => raw.len(),
            Memory::Special(_, len) => *len,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (base, len) = (self.base(), self.len());
        let result = match self {
            // MmapRaw unmaps when it is dropped, right after this.
            Memory::Ordinary(_) => Ok(()),
            // SAFETY: base and len are those of our own mmap, and nothing uses them after the owner.
            Memory::Special(base, len) => unsafe { mman::munmap(*base, *len) },
        };
        // munmap of one's own mapping fails only where splitting would pass max_map_count; it is whole here.
        let _ = traced(result.map(|()| 0), || format!("munmap({base:#x}, {len})"));
    }
}

impl Region {
    /// The region `span` of `backing`. Nothing is mapped until the first use, or [`Region::establish`].
    ///
    /// # Errors
    /// [`Cause::PastEnd`] when the range is not within the length seen at open.
    pub fn new(backing: Backing, span: Span, shape: Shape) -> Result<Region> {
        let facts = backing.facts();
        if span.end() > facts.len {
            return Err(Error::new("map", Some(span), Cause::PastEnd { len: facts.len }));
        }
        // A private page's copy would be lost with the window, and anonymous memory altogether.
        let slides = shape.visibility == Visibility::Shared && facts.is_file();
        let window = shape.window.filter(|_| slides).map(|size| size.max(facts.page));
        Ok(Region {
            window: None,
            backing,
            span,
            shape: Shape { window, ..shape },
            detour: None,
        })
    }

    /// The whole of `backing`, through a window that slides.
    pub fn sliding(backing: Backing, prot: Prot) -> Result<Region> {
        let span = Span::first(backing.facts().len);
        Region::new(backing, span, Shape::sliding(prot))
    }

    /// The file range it stands for.
    pub fn span(&self) -> Span {
        self.span
    }

    /// How it is mapped.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What is mapped.
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Whether stores reach a file.
    pub fn reaches_file(&self) -> bool {
        self.backing.facts().is_file() && self.shape.visibility == Visibility::Shared
    }

    /// The step in which work on it goes on: the window's size, or as much where all is mapped. Bytes.
    pub(super) fn window_size(&self) -> u64 {
        self.shape.window.unwrap_or(WINDOW)
    }

    /// Makes the mapping now, and says at what address and how many bytes long it is.
    pub fn establish(&mut self) -> Result<(usize, u64)> {
        let window = self.slide_to(self.span.start())?;
        Ok((window.memory.base(), window.covers.len()))
    }

    /// How many bytes of the region are mapped from `offset` on; slides the window there if need be.
    pub(super) fn reach(&mut self, offset: u64) -> Result<u64> {
        let end = self.span.end();
        let window = self.slide_to(offset)?;
        Ok(window.covers.end().min(end).saturating_sub(offset))
    }

    /// Slides a window of `size` bytes, a multiple of [`WINDOW`], from now on; nothing stays mapped until the next use.
    pub fn widen(&mut self, size: u64) {
        self.window = None;
        self.shape.window = self.shape.window.map(|window| window.max(size));
    }

    /// `span`, if it lies within the region.
    pub(super) fn check(&self, action: &'static str, span: Option<Span>) -> Result<Span> {
        match span {
            Some(span) if self.span.contains(span) => Ok(span),
            _ => Err(self.past_end(action, span.unwrap_or(self.span))),
        }
    }

    fn past_end(&self, action: &'static str, span: Span) -> Error {
        Error::new(action, Some(span), Cause::PastEnd { len: self.span.end() })
    }

    /// The window that has `offset`, mapped anew if the present one does not.
    pub(super) fn slide_to(&mut self, offset: u64) -> Result<&Window> {
        let window = match self.window.take() {
            Some(window) if window.has(offset) => window,
            other => {
                drop(other); // unmapped before the next one is mapped
                let pages = self.span.pages(self.backing.facts().page);
                let covers = match self.shape.window {
                    None => pages,
                    Some(size) => Span::at(offset / size * size, size).map_or(pages, |part| part.intersect(pages)),
                };
                if !covers.contains(Span::at(offset, 1).unwrap_or(self.span)) {
                    return Err(self.past_end("map", Span::at(offset, 1).unwrap_or(self.span)));
                }
                self.map(covers)?
            }
        };
        Ok(self.window.insert(window))
    }

    /// mmap(2) of the whole pages `covers`.
    pub(super) fn map(&self, covers: Span) -> Result<Window> {
        let failed = |cause| Error::new("map", Some(covers), cause);
        let Some(len) = usize::try_from(covers.len()).ok().and_then(NonZeroUsize::new) else {
            return Err(failed(Cause::Sys(Errno::EINVAL)));
        };
        let file = match self.backing.facts().kind {
            Kind::Anonymous => None,
            _ => Some(self.backing.file("map")?),
        };
        let made = map_memory(file, covers.start(), len, self.shape).map(Traced);
        match traced(made, || describe_mmap(file, covers.start(), len, self.shape)) {
            Ok(Traced(memory)) => Ok(Window { memory, covers }),
            Err(Errno::ENOMEM) => {
                let charged = self.shape.prot.writes() && !self.reaches_file() && !self.shape.noreserve;
                let limit = limits::behind_mmap(covers.len(), charged);
                Err(failed(limit.map_or(Cause::Sys(Errno::ENOMEM), Cause::Limit)))
            }
            Err(errno) => Err(failed(Cause::Sys(errno))),
        }
    }

    // ---- bytes; transfer.rs makes whole ranges of these ----

    /// Copies bytes from `at` on out of the mapping, as many as are mapped there and fit `buf`, without a signal:
    /// process_vm_readv(2) on oneself, or by way of a memfd where a container's filter refuses that. A short
    /// count is an exact prefix; EFAULT, or 0, is a first page that cannot be had.
    pub(super) fn copy_out(&mut self, at: u64, buf: &mut [u8]) -> Result<nix::Result<usize>> {
        let len = buf.len().min(self.reach(at)? as usize);
        let buf = &mut buf[..len];
        let address = self.slide_to(at)?.address(at);
        if self.detour.is_none() {
            let remote = [RemoteIoVec { base: address, len }];
            match process_vm_readv(nix::unistd::getpid(), &mut [IoSliceMut::new(buf)], &remote) {
                Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => {
                    let memfd = memfd(c"mmapctl-detour");
                    self.detour = Some(memfd.map_err(|errno| Error::sys("read", Span::at(at, len as u64), errno))?);
                }
                other => return Ok(other),
            }
        }
        match &mut self.detour {
            Some(detour) => Ok(copy_by_way_of(detour, address, buf)),
            None => Ok(Err(Errno::EFAULT)),
        }
    }

    /// One write(2) of the bytes of `span` to `sink`, straight from the mapping, as many as are mapped from its
    /// start on and the sink takes. EFAULT, or 0, is a first page that cannot be had.
    pub(super) fn send(&mut self, sink: BorrowedFd<'_>, span: Span) -> Result<nix::Result<usize>> {
        let len = span.len().min(self.reach(span.start())?) as usize;
        let address = self.slide_to(span.start())?.address(span.start());
        // SAFETY: the range is mapped, and the kernel only reads it.
        let count = unsafe { libc::write(sink.as_raw_fd(), address as *const c_void, len) };
        Ok(Errno::result(count).map(|count| count as usize))
    }

    /// One preadv(2) from `payload` into the mapping. The pieces, at most 1,024, lie in the present window, and
    /// their payload is contiguous. A short count is an exact prefix; EFAULT is a first page that cannot be had.
    pub(super) fn copy_in(&mut self, pieces: &[Piece], payload: BorrowedFd<'_>) -> Result<nix::Result<usize>> {
        let mapped = |window: &&Window| pieces.iter().all(|piece| window.covers.contains(piece.span()));
        let (Some(window), Some(first)) = (self.window.as_ref().filter(mapped), pieces.first()) else {
            return Err(self.past_end("store", self.span));
        };
        let part = |piece: &Piece| libc::iovec {
            iov_base: window.address(piece.at) as *mut c_void,
            iov_len: piece.len as usize,
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

    // ---- durability ----

    /// Writes the dirty pages of `span` to the device and waits: msync(2) with MS_SYNC, and with MS_INVALIDATE
    /// when `invalidate` is set. Where the file is open for reading only, msync would return 0 and do nothing, so
    /// fdatasync(2) of the whole file does that part.
    ///
    /// # Errors
    /// Final: the kernel has marked the pages clean, and trying again would prove nothing.
    pub fn flush(&mut self, span: Span, invalidate: bool) -> Result<Flush> {
        let span = self.check("flush", Some(span))?;
        if !self.reaches_file() {
            let why = "changes in it never reach a file";
            return Err(Error::new("flush", Some(span), Cause::Protection(why)));
        }
        let writable = self.backing.facts().writable;
        // An empty range has no page to name, but the file's length may be news.
        let by_file = !writable || span.is_empty();
        if by_file {
            self.flush_length()?;
        }
        if (writable || invalidate) && !span.is_empty() {
            let failed = |errno| Error::sys(FLUSH, Some(span), errno);
            self.msync(span, invalidate)?.map_err(failed)?;
        }
        Ok(if by_file { Flush::Fdatasync } else { Flush::Msync })
    }

    /// Writes all dirty pages of the file and its length to the device and waits: fdatasync(2).
    ///
    /// # Errors
    /// Final, as those of [`Region::flush`].
    pub fn flush_length(&mut self) -> Result<()> {
        let file = self.backing.file("flush")?;
        let result = nix::unistd::fdatasync(file).map(|()| 0);
        let failed = |errno| Error::sys(FLUSH, Some(self.span), errno);
        traced(result, || format!("fdatasync({})", file.as_raw_fd()))
            .map(drop)
            .map_err(failed)
    }

    /// One msync(2) for the range, whatever the window: no page is touched, so its size costs nothing, and each
    /// call waits for the device anew.
    fn msync(&self, span: Span, invalidate: bool) -> Result<nix::Result<()>> {
        let pages = span.pages(self.backing.facts().page);
        let whole;
        let window = match &self.window {
            Some(window) if window.covers.contains(pages) => window,
            _ => {
                whole = self.map(pages)?;
                &whole
            }
        };
        let (address, len) = (window.address(pages.start()), pages.len() as usize);
        let (flags, names) = if invalidate {
            (libc::MS_SYNC | libc::MS_INVALIDATE, "MS_SYNC|MS_INVALIDATE")
        } else {
            (libc::MS_SYNC, "MS_SYNC")
        };
        // An interruption is the only failure that may be tried again.
        let result = uninterrupted(|| {
            // SAFETY: the range is mapped; msync changes no byte of it.
            let result = Errno::result(unsafe { libc::msync(address as *mut c_void, len, flags) });
            traced(result, || format!("msync({address:#x}, {len}, {names})"))
        });
        Ok(result.map(drop))
    }

    /// Starts writing the dirty pages of `span` and does not wait: sync_file_range(2) with
    /// SYNC_FILE_RANGE_WRITE (MS_ASYNC does nothing on Linux). It promises nothing.
    pub fn start_writeback(&self, span: Span) -> Result<()> {
        let span = self.check("start writing", Some(span))?;
        if span.is_empty() {
            return Ok(()); // a length of 0 would mean "to the end"
        }
        let fd = self.backing.file("start writing")?.as_raw_fd();
        let (start, len) = (span.start() as i64, span.len() as i64);
        // SAFETY: plain arguments, no memory.
        let result = Errno::result(unsafe { libc::sync_file_range(fd, start, len, libc::SYNC_FILE_RANGE_WRITE) });
        let call = || format!("sync_file_range({fd}, {start}, {len}, SYNC_FILE_RANGE_WRITE)");
        let failed = |errno| Error::sys("start writing", Some(span), errno);
        traced(result, call).map(drop).map_err(failed)
    }

    // ---- the mapping as such ----

    /// mlock(2) over the whole mapping.
    ///
    /// # Errors
    /// [`Cause::Limit`] with RLIMIT_MEMLOCK; [`Cause::Shrunk`] when pages at the end are gone.
    pub fn lock(&mut self, how: Lock) -> Result<()> {
        let (base, len) = self.establish()?;
        let address = base as *const c_void;
        let (result, call) = match how {
            // SAFETY: the range is mapped; locking changes no byte of it.
            Lock::Now => (
                unsafe { libc::mlock(address, len as usize) },
                format!("mlock({base:#x}, {len})"),
            ),
            Lock::OnFault => (
                // SAFETY: as above.
                unsafe { libc::mlock2(address, len as usize, libc::MLOCK_ONFAULT as libc::c_uint) },
                format!("mlock2({base:#x}, {len}, MLOCK_ONFAULT)"),
            ),
        };
        let cause = match traced(Errno::result(result), || call) {
            Ok(_) => return Ok(()),
            Err(errno @ (Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN)) => match self.backing.usage() {
                Ok(usage) if usage.len < self.span.end() => Cause::Shrunk { len: usage.len },
                _ => limits::behind_mlock(len).map_or(Cause::Sys(errno), Cause::Limit),
            },
            Err(errno) => Cause::Sys(errno),
        };
        Err(Error::new("lock", Some(self.span), cause))
    }

    /// madvise(2) over the whole mapping.
    pub fn advise(&mut self, advice: Advice) -> Result<()> {
        let span = self.span;
        let failed = |errno| Error::sys("advise the kernel on", Some(span), errno);
        self.madvise(span, advice.value)?.map_err(failed)
    }

    /// madvise(2) for the pages of `span`, window by window; no further than the first failure.
    pub(super) fn madvise(&mut self, span: Span, advice: libc::c_int) -> Result<nix::Result<()>> {
        let page = self.backing.facts().page;
        let mut rest = self.check("advise the kernel on", Some(span))?;
        while !rest.is_empty() {
            let end = rest.start() + rest.len().min(self.reach(rest.start())?);
            let start = rest.start() / page * page;
            let address = self.slide_to(start)?.address(start);
            let len = (end - start) as usize;
            let result = uninterrupted(|| {
                // SAFETY: the pages are in our mapping. No advice in use makes its bytes other than what a read of
                // the file, or of fresh anonymous memory, gives; no Rust reference to them exists.
                let result = Errno::result(unsafe { libc::madvise(address as *mut c_void, len, advice) });
                let call = || format!("madvise({address:#x}, {len}, {})", advice_name(advice));
                traced(result, call)
            });
            match result {
                Ok(_) => rest = rest.from(end),
                Err(errno) => return Ok(Err(errno)),
            }
        }
        Ok(Ok(()))
    }

    /// Sets the length of the file and of the region with it, which then ends where the file does.
    ///
    /// Growing: sets the length, gives the new bytes blocks unless `sparse`, and only then maps; a failure sets
    /// the old length again. Shrinking: unmaps, then sets the length.
    pub fn resize(&mut self, len: u64, sparse: bool) -> Result<()> {
        let old = self.backing.facts().len;
        self.window = None;
        self.backing.set_len(len)?;
        self.span = Span::new(self.span.start().min(len), len).unwrap_or(Span::first(len));
        if len <= old || sparse {
            return Ok(());
        }
        let new = self.span.from(old);
        let allocated = match self.backing.allocate(new) {
            // No fallocate here (NFS, some FUSE): a write fault on each page has the same effect.
            Err(error) if error.cause == Cause::Sys(Errno::EOPNOTSUPP) => {
                self.populate(new, Populate::Write, &mut |_| Ok(()))
            }
            other => other,
        };
        if let Err(error) = allocated {
            self.window = None;
            self.span = self.span.intersect(Span::first(old));
            self.backing.set_len(old)?;
            return Err(error);
        }
        Ok(())
    }

    // ---- what the kernel says of it; residency.rs makes sense of it ----

    /// cachestat(2) of the file range; `None` where the kernel or a filter does not have it.
    pub(super) fn cachestat(&self, span: Span) -> Option<CacheStat> {
        const SYS_CACHESTAT: libc::c_long = 451; // the same on every architecture
        let fd = self.backing.fd()?.as_raw_fd();
        let range = [span.start(), span.len()];
        let mut stat = CacheStat::default();
        // SAFETY: `range` and `stat` are the two structures of the call, two and five u64, and live through it.
        let result = unsafe { libc::syscall(SYS_CACHESTAT, fd, range.as_ptr(), &raw mut stat, 0) };
        Errno::result(result).ok().map(|_| stat)
    }

    /// mincore(2): how many pages of `span` are resident.
    pub(super) fn mincore(&mut self, span: Span) -> Result<u64> {
        let page = self.backing.facts().page;
        let system_page = super::page_size();
        let mut count = 0;
        for part in span.windows(self.shape.window.unwrap_or(1 << 30)) {
            let pages = part.pages(page);
            let address = self.slide_to(part.start())?.address(pages.start());
            let mut state = vec![0u8; (pages.len() / system_page) as usize];
            // SAFETY: the range is mapped, and the vector has a byte for each of its pages.
            let result = unsafe { libc::mincore(address as *mut c_void, pages.len() as usize, state.as_mut_ptr()) };
            Errno::result(result).map_err(|errno| Error::sys("look at", Some(part), errno))?;
            let heads = state.iter().step_by((page / system_page) as usize);
            count += heads.filter(|byte| *byte & 1 == 1).count() as u64;
        }
        Ok(count)
    }

    /// PAGEMAP_SCAN (Linux 6.7): hands each run of pages that are present, with its file range and categories,
    /// to `each`. False where the kernel does not have it.
    pub(super) fn scan(&mut self, mut each: impl FnMut(Span, Categories)) -> Result<bool> {
        let (base, len) = self.establish()?;
        let first = self.span.pages(self.backing.facts().page).start();
        let Ok(pagemap) = File::open("/proc/self/pagemap") else {
            return Ok(false);
        };
        let mut runs = [PageRegion::default(); 256];
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: base as u64,
            end: base as u64 + len,
            vec: runs.as_mut_ptr() as u64,
            vec_len: runs.len() as u64,
            category_mask: Categories::PRESENT,
            return_mask: Categories::PRESENT | Categories::FILE,
            ..ScanArg::default()
        };
        while arg.start < arg.end {
            // SAFETY: `arg` and `runs` are the structures that PAGEMAP_SCAN reads and writes, and live through
            // the call; it looks at page tables, not at pages.
            let result = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut arg) };
            let Ok(count) = Errno::result(result) else {
                return Ok(false);
            };
            for run in &runs[..count as usize] {
                if let Some(span) = Span::at(first + (run.start - base as u64), run.end - run.start) {
                    each(span, Categories(run.categories));
                }
            }
            arg.start = arg.walk_end;
        }
        Ok(true)
    }
}

/// The signal-free way from an address into `buf` that needs no process_vm_readv: write(2) from the mapping into a
/// memfd, which answers a bad page as that does, and a read from there.
fn copy_by_way_of(detour: &mut File, address: usize, buf: &mut [u8]) -> nix::Result<usize> {
    let io = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    detour.rewind().map_err(io)?;
    // SAFETY: the caller's range is mapped, and the kernel only reads it.
    let count = unsafe { libc::write(detour.as_raw_fd(), address as *const c_void, buf.len()) };
    let count = Errno::result(count)? as usize;
    detour.rewind().map_err(io)?;
    detour.read_exact(&mut buf[..count]).map_err(io)?;
    Ok(count)
}

/// `struct cachestat` of linux/mman.h: numbers of pages.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CacheStat {
    pub cached: u64,
    pub dirty: u64,
    pub writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// The PAGE_IS_* bits of a run of pages.
#[derive(Clone, Copy)]
pub(super) struct Categories(u64);

impl Categories {
    const FILE: u64 = 1 << 2;
    const PRESENT: u64 = 1 << 3;

    /// A page of the file or of shared memory, not a private copy.
    pub fn is_file(self) -> bool {
        self.0 & Categories::FILE != 0
    }
}

/// The mapping that mmap made; its address is what strace prints.
struct Traced(Memory);

impl std::fmt::Display for Traced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Address(self.0.base()).fmt(f)
    }
}

fn map_memory(file: Option<&File>, offset: u64, len: NonZeroUsize, shape: Shape) -> nix::Result<Memory> {
    let mut options = MmapOptions::new();
    options.offset(offset).len(len.get());
    if shape.noreserve {
        options.no_reserve_swap();
    }
    let ordinary = match (file, shape.visibility, shape.prot) {
        (Some(file), Visibility::Shared, Prot::Read) => options.map_raw_read_only(file),
        (Some(file), Visibility::Shared, Prot::ReadWrite) => options.map_raw(file),
        // SAFETY: the contract is about the slices that Mmap and MmapMut lend; they become MmapRaw, which lends
        // none, before anybody can ask.
        (Some(file), Visibility::Shared, Prot::ReadExec) => unsafe { options.map_exec(file) }.map(MmapRaw::from),
        // SAFETY: as above.
        (Some(file), Visibility::Private, Prot::Read) => unsafe { options.map_copy_read_only(file) }.map(MmapRaw::from),
        // SAFETY: as above.
        (Some(file), Visibility::Private, Prot::ReadWrite) => unsafe { options.map_copy(file) }.map(MmapRaw::from),
        (None, Visibility::Private, Prot::ReadWrite) => options.map_anon().map(MmapRaw::from),
        _ => return map_special(file, offset, len, shape),
    };
    ordinary
        .map(Memory::Ordinary)
        .map_err(|error| error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw))
}

fn map_special(file: Option<&File>, offset: u64, len: NonZeroUsize, shape: Shape) -> nix::Result<Memory> {
    let (prot, flags) = (shape.prot.flags(), map_flags(file.is_some(), shape));
    let base = match file {
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing one.
        Some(file) => unsafe { mman::mmap(None, len, prot, flags, file, offset as i64) },
        // SAFETY: as above.
        None => unsafe { mman::mmap_anonymous(None, len, prot, flags) },
    };
    base.map(|base| Memory::Special(base, len.get()))
}

fn map_flags(file: bool, shape: Shape) -> MapFlags {
    let mut flags = match shape.visibility {
        Visibility::Shared => MapFlags::MAP_SHARED,
        Visibility::Private => MapFlags::MAP_PRIVATE,
    };
    flags.set(MapFlags::MAP_ANONYMOUS, !file);
    flags.set(MapFlags::MAP_NORESERVE, shape.noreserve);
    flags
}

fn describe_mmap(file: Option<&File>, offset: u64, len: NonZeroUsize, shape: Shape) -> String {
    let prot: Vec<_> = match shape.prot {
        Prot::None => vec!["PROT_NONE"],
        prot => prot.flags().iter_names().map(|(name, _)| name).collect(),
    };
    let flags: Vec<_> = map_flags(file.is_some(), shape)
        .iter_names()
        .map(|(name, _)| name)
        .collect();
    // MAP_ANON is the older name of the same bit.
    let flags: Vec<_> = flags.into_iter().filter(|name| *name != "MAP_ANON").collect();
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    let offset = Address(offset as usize).to_string().replace("NULL", "0");
    format!(
        "mmap(NULL, {len}, {}, {}, {fd}, {offset})",
        prot.join("|"),
        flags.join("|")
    )
}

fn advice_name(advice: libc::c_int) -> String {
    match advice {
        libc::MADV_POPULATE_READ => "MADV_POPULATE_READ".to_string(),
        libc::MADV_POPULATE_WRITE => "MADV_POPULATE_WRITE".to_string(),
        _ => {
            let known = ADVICE.iter().find(|known| known.value == advice);
            known.map_or(advice.to_string(), |known| {
                format!("MADV_{}", known.name.to_uppercase())
            })
        }
    }
}

/// An anonymous file in memory, closed on exec.
pub fn memfd(name: &CStr) -> nix::Result<File> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from)
}

/// A memfd that holds `bytes`.
pub fn memfd_with(name: &CStr, bytes: &[u8]) -> std::io::Result<File> {
    let mut file = memfd(name)?;
    file.write_all(bytes)?;
    Ok(file)
}
