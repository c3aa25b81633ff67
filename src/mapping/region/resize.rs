//! Resizes a region, with or without its file, and moves it: mremap(2). One of the `unsafe` submodules.
#![allow(unsafe_code)]

use super::super::backing::Kind;
use super::super::error::{AccessDenied, Error, ErrorKind, Result};
use super::super::limits;
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
    /// Sets the length of the file, and the end of the region accordingly: see [`Region::remap`].
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

    /// Sets the length of the region in bytes: that of its file, so that the mapping ends where the file does; or, with
    /// `keep_file` and for memory without a file, that of the mapping only.
    ///
    /// To grow, allocates the new blocks unless `sparse`, sets the file's length, and only then maps; after a failure
    /// the blocks are freed and the old length is set again. If the file system has no fallocate(2), the new pages are
    /// stored into and flushed, since only that shows whether there is room. To shrink, unmaps, then sets the length.
    /// An existing mapping is resized, or moved, by mremap(2).
    ///
    /// # Errors
    /// [`ErrorKind::Nonlinear`] in a view; [`ErrorKind::AccessDenied`] if the mapping cannot be resized, the file must
    /// not be, or another process has extended it; [`ErrorKind::Shrunk`]; [`ErrorKind::AddressTaken`];
    /// [`ErrorKind::Limit`]; any error of ftruncate, fallocate and mremap.
    pub fn remap(&mut self, len: u64, how: &Resize) -> Result<()> {
        let refused = |lack| Err(Error::new("resize", None, ErrorKind::AccessDenied(lack)));
        if self.not_inherited {
            return Err(Error::new("resize", None, ErrorKind::NotInherited));
        }
        self.check_linear("resize", "and mremap(2) cannot resize across several kernel mappings (EFAULT)")?;
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
            // Otherwise bytes that another process has written after the end, since the length was read, would be cut
            // off.
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
                // The file still has its old length, so the region gets it again.
                self.remap_window(old, &Resize::default())?;
                self.span = old;
                Err(error)
            });
        }
        let before = self.length();
        if len == before {
            return self.remap_window(new, how);
        }
        // Checked before any block is allocated, because ftruncate(2) would fail only after that.
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
            // If the length is any other, the end was set by another process and stays. It also stays if that process
            // came first.
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
                // Blocks after an end that has not moved: most file systems free them when the same length is set,
                // btrfs when a hole is punched. Blocks that cannot be freed take space, but no byte has changed.
                let freed = self.backing.set_len(before).and_then(|()| self.backing.unless_moved());
                let _ = freed.and_then(|()| self.backing.punch(added));
            }
        }
        grown
    }

    /// Allocates blocks for `added`, the bytes after the present end, then sets the length, then maps.
    ///
    /// Blocks come first: fallocate(2) refuses files that ftruncate(2) would not (an active swap file), and a full file
    /// system is detected before the length has changed. The length is also set by fallocate(2), which never shortens a
    /// file; ftruncate(2) is used only if there is no fallocate, or the new bytes are to be a hole.
    fn grow(&mut self, new: ByteRange, added: ByteRange, how: &Resize) -> Result<()> {
        // From the start of the page that contains the end: its blocks may be shared with another file (a reflink).
        let page = self.page();
        let blocks = added.start() / page * page;
        let blocks = ByteRange::new(blocks, added.end()).unwrap_or(added);
        // The length of a file of huge pages must be a multiple of these, which only ftruncate(2) ensures.
        let huge = self.page() != super::super::page_size();
        let asked = match how.sparse {
            // This fails for an active swap file.
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

    /// Allocates the blocks of `added` without fallocate(2), which NFS before 4.2, ext2 and some FUSE file systems do
    /// not have: zeros are stored and flushed. Some of these file systems notice only then that they are full.
    fn fill(&mut self, added: ByteRange) -> Result<()> {
        self.zero(added, &mut |_| Ok(())).map_err(|error| Error { stored: 0, ..error })?;
        self.flush(added, false).map(drop).map_err(|error| {
            let cause = match error.cause {
                ErrorKind::Sys(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => ErrorKind::Full(errno),
                cause => cause,
            };
            // The new bytes are zeros, and the old length is set again, so nothing is lost.
            Error::new("allocate", Some(added), cause)
        })
    }

    /// Makes the mapping of `self.span` a mapping of `new`, which begins at the same offset. A sliding window is
    /// unmapped, and mapped again when it is needed.
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
        if let Some(address) = how.address.filter(|address| !(*address as u64).is_multiple_of(self.page())) {
            self.window = Some(window);
            return Err(failed(ErrorKind::Unaligned(address, self.page())));
        }
        // mremap would unmap whatever is at the address, so the address must be ours first.
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
                // The reserved range is now the mapping.
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
                    // A locked mapping.
                    Errno::EAGAIN => limits::behind_mlock(more).map_or(ErrorKind::Sys(errno), ErrorKind::Limit),
                    errno => ErrorKind::Sys(errno),
                }))
            }
        }
    }

    /// Whether the memory is anonymous, and shared only with child processes.
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
    // With MREMAP_DONTUNMAP the fifth argument is used even if no address is given: it must be NULL then.
    let address = how.address.unwrap_or(0);
    // SAFETY: the range is all of a mapping of ours, to which no Rust reference exists; the caller has reserved a new
    // address, so that nothing else is unmapped.
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
        let fifth = how.address.map_or(String::new(), |address| format!(", {}", Address(address)));
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
            assert_eq!(matches!(error.cause, ErrorKind::Shrunk { len: 2 }), left == 2, "{error}");
            assert_eq!(file.as_file().metadata().unwrap().len(), left);
        }
    }
}
