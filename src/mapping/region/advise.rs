//! What is asked of a mapping's pages: to be locked in memory, to be let go, and advice. Part of the door for `unsafe`.
#![allow(unsafe_code)]

use super::super::backing::Backing;
use super::super::error::{Cause, Error, Result};
use super::super::layout::Layout;
use super::super::limits;
use super::super::shape::{ADVICE, Advice, Lock, Populate, Prot};
use super::super::span::Span;
use super::super::trace::{traced, uninterrupted};
use super::Region;
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::ffi::c_void;
use std::os::fd::AsRawFd;

impl Backing {
    /// Drops the clean pages of `span` from the page cache, as [`Region::evict`] does; the kernel starts to write the dirty
    /// ones back.
    pub(in crate::mapping) fn evict(&self, span: Span) -> Result<()> {
        // A length of 0 would mean "to the end"; a page that is asked for in part stays.
        let pages = span.pages(self.facts().page);
        if span.is_empty() {
            return Ok(());
        }
        let file = self.file("evict")?;
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        let result = posix_fadvise(file, pages.start() as i64, pages.len() as i64, advice).map(|()| 0);
        let call = || {
            let (fd, start, len) = (file.as_raw_fd(), pages.start(), pages.len());
            format!("fadvise64({fd}, {start}, {len}, POSIX_FADV_DONTNEED)")
        };
        let failed = |errno| Error::sys("evict", Some(span), errno);
        traced(result, call).map(drop).map_err(failed)
    }
}

impl Region {
    /// Takes the pages of `span` out of this mapping, which leaves them in the page cache and changes no byte:
    /// madvise(2) with MADV_DONTNEED. What is locked stays.
    pub fn let_go(&mut self, span: Span) -> Result<()> {
        if self.window.is_some() && self.reaches_file() && !span.is_empty() {
            // A refusal leaves pages where they are, and they are counted afterwards.
            let _ = self.madvise(span, libc::MADV_DONTNEED)?;
        }
        Ok(())
    }

    /// Drops the clean pages of `span` from the page cache: posix_fadvise(2) with POSIX_FADV_DONTNEED. Pages that
    /// somebody has mapped or locked, or that are dirty, stay.
    pub fn evict(&self, span: Span) -> Result<()> {
        let span = self.check("evict", Some(span))?;
        match &self.layout {
            None => self.backing.evict(span),
            Some(layout) => layout.parts(span).try_for_each(|part| self.backing.evict(part.file)),
        }
    }

    /// mlock(2) over the whole mapping.
    ///
    /// # Errors
    /// [`Cause::Limit`] with RLIMIT_MEMLOCK; [`Cause::Shrunk`] when pages at the end are gone; what else keeps a page from
    /// being brought in.
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
                Ok(usage) if usage.len < self.layout.as_ref().map_or(self.span.end(), Layout::file_len) => {
                    Cause::Shrunk { len: usage.len }
                }
                _ => limits::behind_mlock(len).map_or(Cause::Sys(errno), Cause::Limit),
            },
            Err(errno) => Cause::Sys(errno),
        };
        let error = Error::new("lock", Some(self.span), cause);
        match error.cause {
            Cause::Sys(Errno::ENOMEM) if matches!(how, Lock::Now) => Err(self.behind_lock(error)),
            _ => Err(error),
        }
    }

    /// Of a page that cannot be had mlock(2) says ENOMEM and no more; bringing it in tells why.
    fn behind_lock(&mut self, error: Error) -> Error {
        let why = match self.shape.prot {
            Prot::None => self.read(self.span.start(), &mut [0]).err().map(|why| Error {
                span: Some(self.span),
                ..why
            }),
            _ => self.populate(self.span, self.populating(), &mut |_| Ok(())).err(),
        };
        let action = error.action;
        why.map_or(error, |why| Error { action, ..why })
    }

    /// How its pages are brought in, as MAP_POPULATE and mlock(2) have it: a private page that can be stored into is
    /// copied at once.
    pub fn populating(&self) -> Populate {
        if self.shape.prot.writes() && !self.reaches_file() {
            Populate::Write
        } else {
            Populate::Read
        }
    }

    /// madvise(2) over the whole mapping.
    pub fn advise(&mut self, advice: Advice) -> Result<()> {
        let span = self.span;
        let failed = |errno| Error::sys("advise the kernel on", Some(span), errno);
        self.madvise(span, advice.value)?.map_err(failed)?;
        match advice.value {
            libc::MADV_DONTFORK => self.dont_fork = true,
            libc::MADV_DOFORK => self.dont_fork = false,
            _ => {}
        }
        Ok(())
    }

    /// madvise(2) for the pages of `span`, window by window; no further than the first failure.
    pub(in crate::mapping) fn madvise(&mut self, span: Span, advice: libc::c_int) -> Result<nix::Result<()>> {
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
