//! Durability: what brings the bytes of a region to the device. Part of the door for `unsafe`.
#![allow(unsafe_code)]

use super::super::error::{Cause, Error, FLUSH, Result};
use super::super::shape::Flush;
use super::super::span::Span;
use super::super::trace::{traced, uninterrupted};
use super::Region;
use nix::errno::Errno;
use std::ffi::c_void;
use std::os::fd::AsRawFd;

impl Region {
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
        match &self.layout {
            None => self.start_writeback_of(span),
            Some(layout) => layout
                .parts(span)
                .try_for_each(|part| self.start_writeback_of(part.file)),
        }
    }

    fn start_writeback_of(&self, span: Span) -> Result<()> {
        let fd = self.backing.file("start writing")?.as_raw_fd();
        let (start, len) = (span.start() as i64, span.len() as i64);
        // SAFETY: plain arguments, no memory.
        let result = Errno::result(unsafe { libc::sync_file_range(fd, start, len, libc::SYNC_FILE_RANGE_WRITE) });
        let call = || format!("sync_file_range({fd}, {start}, {len}, SYNC_FILE_RANGE_WRITE)");
        let failed = |errno| Error::sys("start writing", Some(span), errno);
        traced(result, call).map(drop).map_err(failed)
    }
}
