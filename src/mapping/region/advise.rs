//! What is asked of a mapping as such: to be locked in memory, and advice. Part of the door for `unsafe`.
#![allow(unsafe_code)]

use super::super::error::{Cause, Error, Result};
use super::super::layout::Layout;
use super::super::limits;
use super::super::shape::{ADVICE, Advice, Lock};
use super::super::span::Span;
use super::super::trace::{traced, uninterrupted};
use super::Region;
use nix::errno::Errno;
use std::ffi::c_void;

impl Region {
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
                Ok(usage) if usage.len < self.layout.as_ref().map_or(self.span.end(), Layout::file_len) => {
                    Cause::Shrunk { len: usage.len }
                }
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
