//! Requests for the pages of a mapping: locking them in memory, dropping them, and advice. One of the `unsafe`
//! submodules.
#![allow(unsafe_code)]

use super::super::backing::Backing;
use super::super::error::{Error, ErrorKind, Result};
use super::super::limits;
use super::super::options::{ADVICE, Advice, Lock, MapOptions, Populate, Prot};
use super::super::order::PageOrder;
use super::super::range::ByteRange;
use super::super::residency::resident;
use super::super::trace::{traced, uninterrupted};
use super::Region;
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::ffi::c_void;
use std::os::fd::AsRawFd;

impl Backing {
    /// Drops the clean pages of `span` from the page cache, as [`Region::evict`] does. The kernel starts to write back
    /// the dirty ones.
    pub(in crate::mapping) fn evict(&self, span: ByteRange) -> Result<()> {
        // A length of 0 would mean "to the end". A page that is in the range only in part stays.
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
    /// Removes the pages of `span` from this mapping by madvise(2) with MADV_DONTNEED. They stay in the page cache, and
    /// no byte changes. Locked pages stay mapped.
    pub fn drop_page_table_entries(&mut self, span: ByteRange) -> Result<()> {
        if self.window.is_some() && self.is_shared_file() && !span.is_empty() {
            // If the call fails, the pages stay, and are counted afterwards.
            let _ = self.madvise(span, libc::MADV_DONTNEED)?;
        }
        Ok(())
    }

    /// Drops the clean pages of `span` from the page cache: posix_fadvise(2) with POSIX_FADV_DONTNEED. Pages that are
    /// dirty, locked, or mapped by any process stay.
    pub fn evict(&self, span: ByteRange) -> Result<()> {
        let span = self.check("evict", Some(span))?;
        match &self.layout {
            None => self.backing.evict(span),
            Some(layout) => layout.parts(span).try_for_each(|part| self.backing.evict(part.file)),
        }
    }

    /// mlock(2) of the whole mapping.
    ///
    /// mlock(2) retries a page that cannot be read forever; and if a control group has too little memory, the kernel
    /// kills the process. Both are checked first.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] for RLIMIT_MEMLOCK and for the limit of a control group; [`ErrorKind::Shrunk`] if pages at
    /// the end are missing; any other reason why a page cannot be read in, with its offset.
    pub fn lock(&mut self, how: Lock) -> Result<()> {
        if self.span.is_empty() {
            // The lock applies to the pages that are mapped once the file is longer.
            self.locked = Some(how);
            return Ok(());
        }
        if how == Lock::OnFault || self.shape.prot == Prot::None {
            self.mlock(how)?;
            self.locked = Some(how);
            return Ok(());
        }
        if self.locked != Some(Lock::Now) {
            self.check_memory("lock", self.span)?;
        }
        // This reads nothing in, so that an RLIMIT_MEMLOCK that is too low is reported before the time for reading is
        // spent.
        self.mlock(Lock::OnFault)?;
        let locked = self.populate(self.span, self.populating(), &mut |_| Ok(())).and_then(|()| self.mlock(how));
        if let Err(error) = locked {
            self.munlock();
            return Err(Error {
                action: "lock",
                ..error
            });
        }
        self.locked = Some(how);
        Ok(())
    }

    fn mlock(&mut self, how: Lock) -> Result<()> {
        let (base, len) = self.map_now()?;
        let address = base as *const c_void;
        let (result, call) = match how {
            // SAFETY: the range is mapped; locking changes no byte of it.
            Lock::Now => (unsafe { libc::mlock(address, len as usize) }, format!("mlock({base:#x}, {len})")),
            Lock::OnFault => (
                // SAFETY: as above.
                unsafe { libc::mlock2(address, len as usize, libc::MLOCK_ONFAULT as libc::c_uint) },
                format!("mlock2({base:#x}, {len}, MLOCK_ONFAULT)"),
            ),
        };
        let cause = match traced(Errno::result(result), || call) {
            Ok(_) => return Ok(()),
            Err(errno @ (Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN)) => match self.backing.usage() {
                Ok(usage) if usage.len < self.layout.as_ref().map_or(self.span.end(), PageOrder::file_len) => {
                    ErrorKind::Shrunk { len: usage.len }
                }
                _ => limits::behind_huge(len, self.page())
                    .or_else(|| limits::behind_mlock(len))
                    .map_or(ErrorKind::Sys(errno), ErrorKind::Limit),
            },
            Err(errno) => ErrorKind::Sys(errno),
        };
        let error = Error::new("lock", Some(self.span), cause);
        match error.cause {
            ErrorKind::Sys(Errno::ENOMEM) if matches!(how, Lock::Now) => Err(self.behind_lock(error)),
            _ => Err(error),
        }
    }

    fn munlock(&mut self) {
        self.locked = None;
        if let Some(window) = &self.window {
            let (base, len) = (window.memory.base(), window.memory.len());
            // SAFETY: the range is mapped, and no byte of it changes.
            let result = Errno::result(unsafe { libc::munlock(base as *const c_void, len) });
            // The mapping ends soon, and its locks with it.
            let _ = traced(result, || format!("munlock({base:#x}, {len})"));
        }
    }

    /// Checks that the control groups of this process have enough memory to keep `span` in memory.
    pub(in crate::mapping) fn check_memory(&mut self, action: &'static str, span: ByteRange) -> Result<()> {
        // Huge pages are not counted.
        if self.page() > crate::mapping::page_size() || span.is_empty() {
            return Ok(());
        }
        // Pages that are in memory already may be accounted to another control group.
        let there = match self.populating() {
            Populate::Read if self.is_shared_file() => resident(self, span)?.unwrap_or(0) * self.page(),
            _ => 0,
        };
        match limits::before_locking(span.pages(self.page()).len(), there) {
            Some(limit) => Err(Error::new(action, Some(span), ErrorKind::Limit(limit))),
            None => Ok(()),
        }
    }

    /// Checks that the pages of `added` can be locked. The kernel reads them in when a locked mapping is extended.
    pub(super) fn check_lock_of(&mut self, added: ByteRange) -> Result<()> {
        if self.locked != Some(Lock::Now) || added.is_empty() {
            return Ok(());
        }
        let within = added.intersect(ByteRange::first(self.backing.facts().len));
        let file = self.backing.try_clone().filter(|_| self.backing.facts().is_file());
        let Some(file) = file.filter(|_| !within.is_empty()) else {
            return match limits::before_locking(added.len(), 0) {
                Some(limit) => Err(Error::new("lock", Some(added), ErrorKind::Limit(limit))),
                None => Ok(()),
            };
        };
        let mut probe = Region::new(file, within, MapOptions::sliding(Prot::Read))?;
        probe.check_memory("lock", within)?;
        let failed = |error| Error {
            action: "lock",
            ..error
        };
        probe.populate(within, Populate::Read, &mut |_| Ok(())).map_err(failed)
    }

    /// For a page that is not available mlock(2) returns only ENOMEM. Populating it finds the reason.
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

    /// How its pages are populated, as by MAP_POPULATE and mlock(2): a private page that can be stored into is copied
    /// at once.
    pub fn populating(&self) -> Populate {
        if self.shape.prot.writes() && !self.is_shared_file() {
            Populate::Write
        } else {
            Populate::Read
        }
    }

    /// madvise(2) for the whole mapping.
    pub fn advise(&mut self, advice: Advice) -> Result<()> {
        let span = self.span;
        if span.is_empty() {
            return Ok(());
        }
        let failed = |errno| Error::sys("advise the kernel on", Some(span), errno);
        self.madvise(span, advice.value)?.map_err(failed)?;
        match advice.value {
            libc::MADV_DONTFORK => self.dont_fork = true,
            libc::MADV_DOFORK => self.dont_fork = false,
            _ => {}
        }
        Ok(())
    }

    /// madvise(2) for the pages of `span`, window by window. Stops at the first failure.
    pub(in crate::mapping) fn madvise(&mut self, span: ByteRange, advice: libc::c_int) -> Result<nix::Result<()>> {
        let page = self.backing.facts().page;
        let mut rest = self.check("advise the kernel on", Some(span))?;
        while !rest.is_empty() {
            let end = rest.start() + rest.len().min(self.mapped_len_from(rest.start())?);
            let start = rest.start() / page * page;
            let address = self.map_window_at(start)?.address(start);
            let len = (end - start) as usize;
            let result = uninterrupted(|| {
                // SAFETY: the pages are in our mapping. With the advice in use, its bytes stay those that a read of the
                // file, or of fresh anonymous memory, returns; no Rust reference to them exists.
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
            known.map_or(advice.to_string(), |known| format!("MADV_{}", known.name.to_uppercase()))
        }
    }
}
