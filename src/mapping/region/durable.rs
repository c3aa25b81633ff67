//! Durability: writes the bytes of a region to the device. One of the `unsafe` submodules.
#![allow(unsafe_code)]

use super::super::error::{AccessDenied, Error, ErrorKind, FLUSH, Result};
use super::super::options::Flush;
use super::super::range::ByteRange;
use super::super::trace::{traced, uninterrupted};
use super::Region;
use crate::mapping::{Interrupted, ProgressFn};
use nix::errno::Errno;
use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// How many bytes are waited for at a time; the maximum, if nothing needs to be written; and how long that takes.
const WRITE_BACK: u64 = 64 << 20;
const MOST_WRITE_BACK: u64 = 1 << 30;
const NOTHING: Duration = Duration::from_millis(1);

/// The errors of sync_file_range(2) if it is unavailable or was interrupted, which do not concern the pages.
const NO_CALL: [Errno; 5] = [Errno::ENOSYS, Errno::EPERM, Errno::EINVAL, Errno::ESPIPE, Errno::EINTR];

impl Region {
    /// Writes the dirty pages of `span` to the device and waits: msync(2) with MS_SYNC, and with MS_INVALIDATE if
    /// `invalidate` is set. If the file is open only for reading, msync would return 0 and do nothing, so fdatasync(2)
    /// of the whole file writes the pages. It also replaces msync if the range is too long to be mapped.
    ///
    /// # Errors
    /// An error is final: the kernel has marked the pages clean, and a second flush would prove nothing.
    pub fn flush(&mut self, span: ByteRange, invalidate: bool) -> Result<Flush> {
        let span = self.check("flush", Some(span))?;
        if self.fell_back {
            self.flush_length()?;
            return Ok(Flush::Fdatasync);
        }
        if !self.is_shared_file() {
            let lack = AccessDenied::NeverReachesFile;
            return Err(Error::new("flush", Some(span), ErrorKind::AccessDenied(lack)));
        }
        let writable = self.backing.facts().writable;
        // A file that cannot be mapped shared is flushed by fdatasync.
        let unmappable = |error: &Error| {
            let refused = [Errno::ENODEV, Errno::EACCES, Errno::EINVAL];
            matches!(error.cause, ErrorKind::Sys(errno) if refused.contains(&errno))
                || matches!(error.cause, ErrorKind::AccessDenied(AccessDenied::Sealed | AccessDenied::ReadOnlyDevice))
        };
        // An empty range has no pages, but the length of the file may have changed.
        let by_file = !writable || span.is_empty();
        if by_file {
            self.flush_length()?;
        }
        if (writable || invalidate) && !span.is_empty() {
            let failed = |errno| Error::sys(FLUSH, Some(span), errno);
            match self.msync(span, invalidate) {
                Err(error) if (matches!(error.cause, ErrorKind::Limit(_)) || unmappable(&error)) && !invalidate => {
                    self.flush_length()?;
                    return Ok(Flush::Fdatasync);
                }
                called => called?.map_err(failed)?,
            }
        }
        Ok(if by_file { Flush::Fdatasync } else { Flush::Msync })
    }

    /// Writes all dirty pages of the file and its length to the device and waits: fdatasync(2).
    ///
    /// # Errors
    /// An error is final, as for [`Region::flush`].
    pub fn flush_length(&mut self) -> Result<()> {
        let file = self.backing.file("flush")?;
        let result = nix::unistd::fdatasync(file).map(|()| 0);
        let failed = |errno| Error::sys(FLUSH, Some(self.span), errno);
        traced(result, || format!("fdatasync({})", file.as_raw_fd())).map(drop).map_err(failed)
    }

    /// Sends the stored bytes to a file system that would otherwise receive them at close(2), so that an error can
    /// still be reported as one of the store. For other file systems this does nothing, and it makes nothing durable.
    ///
    /// # Errors
    /// The error of the file system for the dirty pages of the region.
    pub fn send_now(&self) -> Result<()> {
        if !self.backing.facts().sends_at_close || !self.is_shared_file() {
            return Ok(());
        }
        const SEND: libc::c_uint =
            libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        let name = "SYNC_FILE_RANGE_WAIT_BEFORE|SYNC_FILE_RANGE_WRITE|SYNC_FILE_RANGE_WAIT_AFTER";
        // A length of 0 means to the end.
        match self.sync_file_range(ByteRange::first(0), SEND, name)? {
            Err(errno) if !NO_CALL.contains(&errno) => Err(Error::sys("write out", None, errno)),
            // If the call is unavailable, close(2) reports the error.
            _ => Ok(()),
        }
    }

    /// One msync(2) for the whole range, regardless of the window: no page is touched, so its size costs nothing, while
    /// each call waits for the device.
    fn msync(&self, span: ByteRange, invalidate: bool) -> Result<nix::Result<()>> {
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
        // Only an interrupted call may be repeated.
        let result = uninterrupted(|| {
            // SAFETY: the range is mapped; msync changes no byte of it.
            let result = Errno::result(unsafe { libc::msync(address as *mut c_void, len, flags) });
            traced(result, || format!("msync({address:#x}, {len}, {names})"))
        });
        Ok(result.map(drop))
    }

    /// Starts writing the dirty pages of `span` without waiting: sync_file_range(2) with SYNC_FILE_RANGE_WRITE
    /// (MS_ASYNC does nothing on Linux). It makes nothing durable.
    pub fn start_writeback(&self, span: ByteRange) -> Result<()> {
        let span = self.check("start writing", Some(span))?;
        if span.is_empty() {
            return Ok(()); // a length of 0 would mean "to the end"
        }
        match &self.layout {
            None => self.start_writeback_of(span),
            Some(layout) => layout.parts(span).try_for_each(|part| self.start_writeback_of(part.file)),
        }
    }

    fn start_writeback_of(&self, span: ByteRange) -> Result<()> {
        let failed = |errno| Error::sys("start writing", Some(span), errno);
        let result = self.sync_file_range(span, libc::SYNC_FILE_RANGE_WRITE, "SYNC_FILE_RANGE_WRITE")?;
        result.map_err(failed)
    }

    /// Writes the dirty pages of `span`, one window while the next one is in progress, so that a long flush can show
    /// its progress and be stopped. `step` receives how many bytes are done. This proves nothing: a [`Region::flush`]
    /// must follow, for the bytes that the file system and the device have buffered.
    ///
    /// # Errors
    /// Errors of the device are final, as for [`Region::flush`].
    pub fn write_back(&self, span: ByteRange, step: &mut ProgressFn<'_>) -> Result<()> {
        let span = self.check("flush", Some(span))?;
        if self.layout.is_some() || !self.is_shared_file() {
            return Ok(());
        }
        let write = |window| self.sync_file_range(window, libc::SYNC_FILE_RANGE_WRITE, "SYNC_FILE_RANGE_WRITE");
        let wait = |window| {
            let flag = libc::SYNC_FILE_RANGE_WAIT_BEFORE;
            self.sync_file_range(window, flag, "SYNC_FILE_RANGE_WAIT_BEFORE")
        };
        // If the call is unavailable, the flush writes everything.
        let checked = |result: nix::Result<()>| match result {
            Err(errno) if !NO_CALL.contains(&errno) => Err(Error::sys(FLUSH, Some(span), errno)),
            other => Ok(other.is_ok()),
        };
        let mut size = WRITE_BACK;
        let mut next = span.windows(size).next();
        let mut works = next.map_or(Ok(true), |first| checked(write(first)?))?;
        while let (true, Some(window)) = (works, next) {
            let begin = Instant::now();
            next = span.from(window.end()).windows(size).next();
            if let Some(next) = next {
                works = checked(write(next)?)?;
            }
            // An error of the device is reported only once, so it takes precedence even over a signal.
            works &= checked(wait(window)?)?;
            // A clean range takes little time.
            size = if begin.elapsed() < NOTHING {
                MOST_WRITE_BACK.min(2 * size)
            } else {
                WRITE_BACK
            };
            let done = window.end() - span.start();
            step(done).map_err(|Interrupted(signal)| {
                Error::new("flush", Some(span.from(window.end())), ErrorKind::Interrupted(signal))
            })?;
        }
        Ok(())
    }

    fn sync_file_range(&self, span: ByteRange, flag: libc::c_uint, name: &str) -> Result<nix::Result<()>> {
        let fd = self.backing.file("start writing")?.as_raw_fd();
        let (start, len) = (span.start() as i64, span.len() as i64);
        // SAFETY: plain arguments, no memory.
        let result = Errno::result(unsafe { libc::sync_file_range(fd, start, len, flag) });
        let call = || format!("sync_file_range({fd}, {start}, {len}, {name})");
        Ok(traced(result, call).map(drop))
    }
}
