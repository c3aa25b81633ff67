//! Resizing a region, with its file or without, and moving it: mremap(2). Part of the door for `unsafe`.
#![allow(unsafe_code)]

use super::super::backing::Kind;
use super::super::error::{AccessDenied, Error, ErrorKind, Result};
use super::super::options::{Resize, Visibility};
use super::super::range::ByteRange;
use super::super::trace::{Address, traced};
use super::memory::RawMapping;
use super::{Region, Window};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

impl Region {
    /// Sets the length of the file, and with it the end of the region: see [`Region::remap`].
    ///
    /// # Errors
    /// As for [`Region::remap`].
    pub fn resize(&mut self, len: u64, sparse: bool) -> Result<()> {
        let how = Resize {
            sparse,
            ..Resize::default()
        };
        self.remap(len, &how)
    }

    /// Gives the region another length, in bytes: that of its file, and the mapping ends where the file then does; or,
    /// with `keep_file`, and for memory that no file is behind, that of the mapping alone.
    ///
    /// Growing: gives the new bytes blocks unless `sparse`, sets the file's length, and only then maps; a failure frees
    /// the blocks and sets the old length again. Where the file system has no fallocate(2), the new pages are stored into
    /// and flushed: only that shows whether there is room. Shrinking: unmaps, then sets the length. A mapping that exists
    /// is resized, or moved, by mremap(2).
    ///
    /// # Errors
    /// [`ErrorKind::Nonlinear`] in a view; [`ErrorKind::AccessDenied`] where the mapping is such that it cannot be resized, or that
    /// the file must not be, or has become longer by another's hand; [`ErrorKind::Shrunk`]; [`ErrorKind::AddressTaken`];
    /// [`ErrorKind::Limit`]; what ftruncate, fallocate and mremap say.
    pub fn remap(&mut self, len: u64, how: &Resize) -> Result<()> {
        let refused = |lack| Err(Error::new("resize", None, ErrorKind::AccessDenied(lack)));
        if self.not_inherited {
            return Err(Error::new("resize", None, ErrorKind::NotInherited));
        }
        self.check_linear(
            "resize",
            "and mremap(2) cannot resize across several kernel mappings (EFAULT)",
        )?;
        let file = self.backing.facts().is_file();
        let alone = how.keep_file || !file;
        if !alone && matches!(self.backing.facts().kind, Kind::BlockDevice | Kind::CharDevice) {
            return refused(AccessDenied::DeviceLength);
        }
        if file && !alone && self.shape.visibility == Visibility::Private {
            return refused(AccessDenied::PrivateResize);
        }
        if file && !alone && !self.backing.facts().writable {
            return refused(AccessDenied::FileReadOnly);
        }
        if file && !alone && len < self.span.start() {
            return refused(AccessDenied::BeginsBehindEnd);
        }
        if file && !alone && self.span.end() != self.length() {
            return refused(AccessDenied::EndsBeforeFile);
        }
        if file && !alone {
            // What somebody has written behind the end since its length was looked at would be cut off.
            self.backing.unless_moved()?;
        }
        let old = self.span;
        let end = if alone { old.start().checked_add(len) } else { Some(len) };
        let Some(new) = end.and_then(|end| ByteRange::new(old.start().min(end), end)) else {
            return refused(AccessDenied::TooLong);
        };
        if alone {
            if new.is_empty() {
                return refused(AccessDenied::Empty);
            }
            if !file && self.shape.visibility == Visibility::Shared && new.len() > old.pages(self.page()).len() {
                return refused(AccessDenied::SharedAnonymous);
            }
            self.check_lock_of(new.from(old.end()))?;
            self.remap_window(new, how)?;
            self.span = new;
            if !file {
                self.backing.set_memory_len(new.end());
            }
            return Ok(());
        }
        if len < self.length() {
            self.remap_window(new, how)?;
            self.span = new;
            return self.backing.truncate(len).or_else(|error| {
                // Still of the old length: so is the region again.
                self.remap_window(old, &Resize::default())?;
                self.span = old;
                Err(error)
            });
        }
        let before = self.length();
        if len == before {
            return self.remap_window(new, how);
        }
        // Asked before any block is given; ftruncate(2) would refuse it after that.
        if getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(most, _)| len > most) {
            return Err(Error::sys("set its length", None, Errno::EFBIG));
        }
        let added = new.from(before);
        self.check_lock_of(added)?;
        let blocks = self.backing.usage()?.allocated;
        let grown = self.grow(new, added, how);
        if let Err(error) = &grown {
            if self.span != old {
                self.remap_window(old, &Resize::default())?;
                self.span = old;
            }
            // At any other length the end is another process's by now, and stays; so it does where that one came first.
            let now = self.backing.usage()?;
            let is_theirs = matches!(
                error.cause,
                ErrorKind::AccessDenied(AccessDenied::FileGrown | AccessDenied::GrownTogether)
                    | ErrorKind::Shrunk { .. }
            );
            if now.len == len && !is_theirs {
                self.backing.set_len(before)?;
            }
            if now.len == before && now.allocated > blocks {
                // Blocks behind an end that has not moved: most file systems free them when the same length is set, btrfs
                // when a hole is punched. What cannot be freed takes space, and no byte is other than it was.
                let freed = self.backing.set_len(before).and_then(|()| self.backing.unless_moved());
                let _ = freed.and_then(|()| self.backing.punch(added));
            }
        }
        grown
    }

    /// Blocks for `added`, the bytes behind the present end, then the length, then a mapping.
    ///
    /// Blocks come first: fallocate(2) refuses what ftruncate(2) would do (an active swap file), and a full file system
    /// is found before the length has changed. The length is set by fallocate(2), too, which never makes a file shorter;
    /// by ftruncate(2) only where there is no fallocate, or the new bytes are to be a hole.
    fn grow(&mut self, new: ByteRange, added: ByteRange, how: &Resize) -> Result<()> {
        // From the start of the page that the end is in: its blocks may be shared with another file (a reflink).
        let page = self.page();
        let blocks = added.start() / page * page;
        let blocks = ByteRange::new(blocks, added.end()).unwrap_or(added);
        // The length of a file of huge pages must be set in whole ones, which ftruncate(2) alone sees to.
        let huge = self.page() != super::super::page_size();
        let asked = match how.sparse {
            // An active swap file is refused.
            true => self.backing.probe_fallocate(),
            false if huge => self.backing.allocate(blocks),
            false => self.backing.extend(blocks, added),
        };
        let by_hand = match asked {
            Ok(()) => false,
            Err(error) if error.cause == ErrorKind::Sys(Errno::ETXTBSY) => return Err(error),
            Err(_) if how.sparse => false,
            Err(error) if error.cause == ErrorKind::Sys(Errno::EOPNOTSUPP) => true,
            Err(error) => {
                return Err(Error {
                    span: error.span.map(|_| added),
                    ..error
                });
            }
        };
        let was_empty = self.span.is_empty();
        if by_hand || how.sparse || huge {
            self.backing.truncate(new.end())?;
        }
        self.remap_window(new, how)?;
        self.span = new;
        if by_hand {
            self.fill(added)?;
        }
        if let Some(how) = self.locked.filter(|_| was_empty) {
            self.lock(how)?;
        }
        Ok(())
    }

    /// Gives `added` its blocks without fallocate(2), which NFS before 4.2, ext2 and some of FUSE do not have: zeros are
    /// stored and written out. Some of these file systems notice only then that they are full.
    fn fill(&mut self, added: ByteRange) -> Result<()> {
        self.zero(added, &mut |_| Ok(()))
            .map_err(|error| Error { stored: 0, ..error })?;
        self.flush(added, false).map(drop).map_err(|error| {
            let cause = match error.cause {
                ErrorKind::Sys(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => ErrorKind::Full(errno),
                cause => cause,
            };
            // The new bytes are zeros, and the old length is set again: nothing is lost.
            Error::new("allocate", Some(added), cause)
        })
    }

    /// Makes what is mapped of `self.span` a mapping of `new`, which begins at the same offset. A window that slides
    /// is let go, and made anew where it is needed.
    fn remap_window(&mut self, new: ByteRange, how: &Resize) -> Result<()> {
        let window = match self.window.take() {
            Some(window) if self.shape.window.is_none() && !new.is_empty() => window,
            _ => return Ok(()),
        };
        let covers = new.pages(self.page());
        let (base, old_len) = (window.memory.base(), window.memory.len());
        let failed = |cause| Error::new("remap", Some(covers), cause);
        let Some(len) = usize::try_from(covers.len()).ok().and_then(NonZeroUsize::new) else {
            self.window = Some(window);
            return Err(failed(ErrorKind::Sys(Errno::EINVAL)));
        };
        if len.get() == old_len && how.address.is_none() && !how.dont_unmap {
            self.window = Some(Window { covers, ..window });
            return Ok(());
        }
        if let Some(address) = how
            .address
            .filter(|address| !(*address as u64).is_multiple_of(self.page()))
        {
            self.window = Some(window);
            return Err(failed(ErrorKind::Unaligned(address, self.page())));
        }
        // mremap would unmap whatever is at the address, so it must be ours to begin with.
        let reserved = match how.address.map(|address| RawMapping::reserve(Some(address), len)) {
            None => None,
            Some(Ok(reserved)) => Some(reserved),
            Some(Err(errno)) => {
                self.window = Some(window);
                let address = how.address.unwrap_or_default();
                let taken = errno == Errno::EEXIST;
                return Err(failed(if taken {
                    ErrorKind::AddressTaken(address)
                } else {
                    ErrorKind::Sys(errno)
                }));
            }
        };
        match mremap(base, old_len, len, how) {
            Ok(new_base) => {
                // What was reserved is now the mapping.
                if let Some(reserved) = reserved {
                    std::mem::forget(reserved);
                }
                let memory = if how.dont_unmap {
                    self.unmapped_leftovers.push(window.memory);
                    RawMapping::owned(new_base, len.get())
                } else {
                    window.memory.moved(new_base, len.get())
                };
                self.window = Some(Window { memory, covers });
                Ok(())
            }
            Err(errno) => {
                self.window = Some(window);
                let more = (len.get() as u64).saturating_sub(old_len as u64);
                Err(failed(match errno {
                    Errno::ENOMEM => match self.out_of_memory(more) {
                        ErrorKind::Sys(_) if how.no_move => ErrorKind::NoRoomBehind,
                        cause => cause,
                    },
                    errno => ErrorKind::Sys(errno),
                }))
            }
        }
    }

    /// Whether the memory is anonymous, and only this process and its children have it.
    pub fn is_memory(&self) -> bool {
        matches!(self.backing.facts().kind, Kind::Anonymous | Kind::Zero)
    }
}

/// mremap(2) of a whole mapping of ours.
fn mremap(base: usize, old_len: usize, len: NonZeroUsize, how: &Resize) -> nix::Result<NonNull<c_void>> {
    let mut flags = if how.no_move { 0 } else { libc::MREMAP_MAYMOVE };
    let mut names = if how.no_move { vec![] } else { vec!["MREMAP_MAYMOVE"] };
    if how.address.is_some() {
        flags |= libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        names.push("MREMAP_FIXED");
    }
    if how.dont_unmap {
        flags |= libc::MREMAP_DONTUNMAP;
        names.push("MREMAP_DONTUNMAP");
    }
    // The fifth argument is looked at with MREMAP_DONTUNMAP even where no address is given: it must be NULL then.
    let address = how.address.unwrap_or(0);
    // SAFETY: the range is all of a mapping of ours, to which no Rust reference exists; a new address has been
    // reserved by the caller, so that nothing else is unmapped.
    let moved = unsafe { libc::mremap(base as *mut c_void, old_len, len.get(), flags, address as *mut c_void) };
    let result = match moved {
        libc::MAP_FAILED => Err(Errno::last()),
        moved => Ok(Address(moved as usize)),
    };
    let names = if names.is_empty() {
        "0".to_string()
    } else {
        names.join("|")
    };
    let result = traced(result, || {
        let fifth = how
            .address
            .map_or(String::new(), |address| format!(", {}", Address(address)));
        format!("mremap({}, {old_len}, {len}, {names}{fifth})", Address(base))
    });
    result.and_then(|moved| NonNull::new(moved.0 as *mut c_void).ok_or(Errno::EFAULT))
}

#[cfg(test)]
mod tests {
    use super::super::super::{Access, Backing, Prot};
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn what_another_has_appended_is_not_cut_off() {
        for (len, left) in [(100, 1005), (3, 1005), (100, 2), (3, 2)] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(b"bytes").unwrap();
            let backing = Backing::open(file.path(), Access::Write, Duration::ZERO).unwrap();
            let mut region = Region::sliding(backing, Prot::ReadWrite).unwrap();
            file.as_file().set_len(left).unwrap();
            let error = region.resize(len, false).unwrap_err();
            assert_eq!(
                matches!(error.cause, ErrorKind::Shrunk { len: 2 }),
                left == 2,
                "{error}"
            );
            assert_eq!(file.as_file().metadata().unwrap().len(), left);
        }
    }
}
