//! The calls that count pages, whose results residency.rs interprets. One of the `unsafe` submodules.
#![allow(unsafe_code)]

use super::super::error::{Error, Result};
use super::super::range::ByteRange;
use super::Region;
use nix::errno::Errno;
use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

/// cachestat(2) of a range of a file; `None` if the kernel does not have it, or a filter denies it.
pub(in crate::mapping) fn cachestat(file: BorrowedFd<'_>, span: ByteRange) -> Option<CacheStat> {
    const SYS_CACHESTAT: libc::c_long = 451; // the same on every architecture
    let range = [span.start(), span.len()];
    let mut stat = CacheStat::default();
    // SAFETY: `range` and `stat` are the two structures of the call, two and five u64, and live through it.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range.as_ptr(), &raw mut stat, 0) };
    Errno::result(result).ok().map(|_| stat)
}

impl Region {
    /// [`cachestat`] of the file range; `None` for a nonlinear view, whose ranges are not ranges of the file.
    pub(in crate::mapping) fn cachestat(&self, span: ByteRange) -> Option<CacheStat> {
        cachestat(self.backing.fd().filter(|_| self.layout.is_none())?, span)
    }

    /// mincore(2): how many pages of `span` are resident.
    pub(in crate::mapping) fn mincore(&mut self, span: ByteRange) -> Result<u64> {
        let mut count = 0;
        self.each_state(span, |_, is_resident| count += u64::from(is_resident))?;
        Ok(count)
    }

    /// mincore(2): the ranges of whole pages in `span` that are not resident.
    pub(in crate::mapping) fn absent(&mut self, span: ByteRange) -> Result<Vec<ByteRange>> {
        let mut absent: Vec<ByteRange> = Vec::new();
        self.each_state(span, |page, is_resident| match absent.last_mut() {
            _ if is_resident => {}
            Some(last) if last.end() == page.start() => *last = last.join(page),
            _ => absent.push(page),
        })?;
        Ok(absent)
    }

    /// Passes each page of `span` to `each`, and whether it is resident.
    fn each_state(&mut self, span: ByteRange, mut each: impl FnMut(ByteRange, bool)) -> Result<()> {
        let page = self.backing.facts().page;
        let system_page = crate::mapping::page_size();
        for part in span.windows(self.shape.window.unwrap_or(1 << 30)) {
            let pages = part.pages(page);
            let address = self.map_window_at(part.start())?.address(pages.start());
            let mut state = vec![0u8; (pages.len() / system_page) as usize];
            // SAFETY: the range is mapped, and the vector has a byte for each of its pages.
            let result = unsafe { libc::mincore(address as *mut c_void, pages.len() as usize, state.as_mut_ptr()) };
            Errno::result(result).map_err(|errno| Error::sys("look at", Some(part), errno))?;
            let heads = state.iter().step_by((page / system_page) as usize);
            for (page, state) in pages.windows(page).zip(heads) {
                each(page, state & 1 == 1);
            }
        }
        Ok(())
    }

    /// PAGEMAP_SCAN (Linux 6.7): passes each run of pages that are present, with its file range and categories, to
    /// `each`. False if the kernel does not have it.
    pub(in crate::mapping) fn scan(&mut self, mut each: impl FnMut(ByteRange, Categories)) -> Result<bool> {
        let (base, len) = self.map_now()?;
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
            return_mask: Categories::PRESENT | Categories::FILE | Categories::ZERO,
            ..ScanArg::default()
        };
        while arg.start < arg.end {
            // SAFETY: `arg` and `runs` are the structures that PAGEMAP_SCAN reads and writes, and live through the
            // call; it reads page tables, not pages.
            let result = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut arg) };
            let Ok(count) = Errno::result(result) else {
                return Ok(false);
            };
            for run in &runs[..count as usize] {
                if let Some(span) = ByteRange::at(first + (run.start - base as u64), run.end - run.start) {
                    each(span, Categories(run.categories));
                }
            }
            arg.start = arg.walk_end;
        }
        Ok(true)
    }
}

/// `struct cachestat` of linux/mman.h: numbers of pages.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::mapping) struct CacheStat {
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
pub(in crate::mapping) struct Categories(u64);

impl Categories {
    const FILE: u64 = 1 << 2;
    const PRESENT: u64 = 1 << 3;
    const ZERO: u64 = 1 << 5;

    /// Whether it is the kernel's single page of zeros, which is mapped for pages that were read and never stored into.
    pub fn is_zero_page(self) -> bool {
        self.0 & Categories::ZERO != 0
    }

    /// Whether it is a page of the file or of shared memory, not a private copy.
    pub fn is_file(self) -> bool {
        self.0 & Categories::FILE != 0
    }
}
