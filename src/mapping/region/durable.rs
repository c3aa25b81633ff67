//! Durability: what brings the bytes of a region to the device. Part of the door for `unsafe`.
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

/// What is waited for at a time, in bytes; the most of it, while there is nothing to wait for, and what that takes.
const WRITE_BACK: u64 = 64 << 20;
const MOST_WRITE_BACK: u64 = 1 << 30;
const NOTHING: Duration = Duration::from_millis(1);

/// How sync_file_range(2) says that it cannot be used here, or was interrupted, which says nothing about the pages.
const NO_CALL: [Errno; 5] = [Errno::ENOSYS, Errno::EPERM, Errno::EINVAL, Errno::ESPIPE, Errno::EINTR];

impl Region {
    /// Writes the dirty pages of `span` to the device and waits: msync(2) with MS_SYNC, and with MS_INVALIDATE
    /// when `invalidate` is set. Where the file is open for reading only, msync would return 0 and do nothing, so
    /// fdatasync(2) of the whole file does that part; and it does all of it where the range is too long to be mapped.
    ///
    /// # Errors
    /// Final: the kernel has marked the pages clean, and trying again would prove nothing.
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
        // What cannot be mapped shared is flushed as a file.
        let unmappable = |error: &Error| {
            let refused = [Errno::ENODEV, Errno::EACCES, Errno::EINVAL];
            matches!(error.cause, ErrorKind::Sys(errno) if refused.contains(&errno))
                || matches!(
                    error.cause,
                    ErrorKind::AccessDenied(AccessDenied::Sealed | AccessDenied::ReadOnlyDevice)
                )
        };
        // An empty range has no page to name, but the file's length may be news.
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
    /// Final, as those of [`Region::flush`].
    pub fn flush_length(&mut self) -> Result<()> {
        let file = self.backing.file("flush")?;
        let result = nix::unistd::fdatasync(file).map(|()| 0);
        let failed = |errno| Error::sys(FLUSH, Some(self.span), errno);
        traced(result, || format!("fdatasync({})", file.as_raw_fd()))
            .map(drop)
            .map_err(failed)
    }

    /// Sends what was stored to a file system that would otherwise take it at close(2), so that an error is met while
    /// it can still be reported as one of the store. Other file systems are asked nothing, and nothing is durable by it.
    ///
    /// # Errors
    /// What the file system has said to the pages of the region that were dirty.
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
            // Where the call is not to be had, close(2) reports the error.
            _ => Ok(()),
        }
    }

    /// One msync(2) for the range, whatever the window: no page is touched, so its size costs nothing, and each
    /// call waits for the device anew.
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
    pub fn start_writeback(&self, span: ByteRange) -> Result<()> {
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

    fn start_writeback_of(&self, span: ByteRange) -> Result<()> {
        let failed = |errno| Error::sys("start writing", Some(span), errno);
        let result = self.sync_file_range(span, libc::SYNC_FILE_RANGE_WRITE, "SYNC_FILE_RANGE_WRITE")?;
        result.map_err(failed)
    }

    /// Writes the dirty pages of `span` out, a window at a time while the next is on its way, so that there is something
    /// to tell of a long flush and it can be ended; `step` hears how many bytes are done. It proves nothing yet:
    /// [`Region::flush`] is still to come, for what the file system and the device keep back.
    ///
    /// # Errors
    /// Errors of the device are final, like those of [`Region::flush`].
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
        // Where the call is not to be had, the flush does it all.
        let told = |result: nix::Result<()>| match result {
            Err(errno) if !NO_CALL.contains(&errno) => Err(Error::sys(FLUSH, Some(span), errno)),
            other => Ok(other.is_ok()),
        };
        let mut size = WRITE_BACK;
        let mut next = span.windows(size).next();
        let mut works = next.map_or(Ok(true), |first| told(write(first)?))?;
        while let (true, Some(window)) = (works, next) {
            let begin = Instant::now();
            next = span.from(window.end()).windows(size).next();
            if let Some(next) = next {
                works = told(write(next)?)?;
            }
            // An error of the device is told once, here or never: not even a signal comes before it.
            works &= told(wait(window)?)?;
            // A clean range is soon gone through.
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
