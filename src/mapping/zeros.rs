//! Stores zeros over a range. No `unsafe` here.
//!
//! The speed of stores through a mapping is limited by the number of page faults that a thread takes a second. write(2)
//! takes none, but it would extend a file that another process has just truncated, which this crate never does. So long
//! ranges are written while a lease keeps other processes from the file. If no lease is available, or as soon as
//! another process waits for it, zeros are stored by a few threads, each with its own window on the file.

use super::backing::Backing;
use super::buffer::Buffer;
use super::error::{Error, ErrorKind, Result};
use super::options::{MapOptions, Prot, Segment, WINDOW};
use super::range::ByteRange;
use super::region::{Lease, Region, memfd};
use super::threads::{Sharing, share};
use super::trace::traced;
use super::{Interrupted, ProgressFn};
use nix::errno::Errno;
use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs};
use nix::sys::uio::pwrite;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Longer ranges are stored by several threads, and their blocks are allocated by one call if that can be relied on.
/// Callers can still keep the old bytes of a range of this length.
const LONG: u64 = 64 << 20;

/// The maximum range of one call of fallocate(2), because a call cannot be interrupted.
pub const MAX_FALLOCATE_LEN: u64 = 1 << 30;

/// How many bytes are written at a time.
const BLOCK: usize = 1 << 20;

impl Region {
    /// Makes sure that zeros can be stored over `span`: by fallocate(2) if its success is final and the range is long,
    /// otherwise as [`Region::make_writable`]. Contents do not change. `step` receives how many bytes are done.
    ///
    /// # Errors
    /// As for [`Region::make_writable`].
    pub fn make_room(&mut self, span: ByteRange, step: &mut ProgressFn<'_>) -> Result<()> {
        let stop = |done: u64, Interrupted(signal)| {
            let rest = span.from(span.start() + done);
            Error::new("prepare", Some(rest), ErrorKind::Interrupted(signal))
        };
        if span.len() > LONG && self.allocation_is_final() {
            let mut done = 0;
            let allocated = span.windows(MAX_FALLOCATE_LEN).try_for_each(|piece| {
                self.backing().allocate(piece).map_err(Some)?;
                done += piece.len();
                step(done).map_err(|signal| Some(stop(done, signal)))
            });
            match allocated {
                Ok(()) => return Ok(()),
                Err(Some(error)) if matches!(error.cause, ErrorKind::Interrupted(_)) => return Err(error),
                // Touching the pages finds out which of them has no room.
                Err(_) => {}
            }
        }
        let whole = Segment::of(span, 0);
        self.make_writable(&[whole], step)
    }

    /// Whether a page whose blocks were allocated by [`Backing::allocate`] can be stored into. This is not so on btrfs,
    /// where a store takes new blocks, nor on overlayfs, which may be on top of it.
    pub(super) fn allocation_is_final(&self) -> bool {
        let of_file = self.is_shared_file() && self.layout().is_none();
        let fs = self.backing().fd().filter(|_| of_file).and_then(|fd| fstatfs(fd).ok());
        fs.is_some_and(|fs| [EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC].contains(&fs.filesystem_type()))
    }

    /// Stores zeros over `span`. `step` receives how many bytes are done.
    ///
    /// # Errors
    /// As for [`Region::store`]. Of a long range, the stored bytes are within the first [`Error::stored`] bytes, but
    /// need not be all of them.
    pub fn zero(&mut self, span: ByteRange, step: &mut ProgressFn<'_>) -> Result<()> {
        if !span.is_empty() {
            self.backing().mark_written();
        }
        let mut written = 0;
        self.drop_privileges()?;
        // If the mapping has no right to store, nothing may be written either, whatever the descriptor allows.
        let stores = self.shape().prot.writes() && self.is_shared_file() && self.layout().is_none();
        if span.len() > LONG && stores && self.check_store(Some(span)).is_ok() {
            written = self.backing().write_zeros(span, step)?;
        }
        let rest = span.from(span.start() + written);
        let mut after = |done| step(written + done);
        self.store_zeros(rest, &mut after).map_err(|error| Error {
            stored: written + error.stored,
            ..error
        })
    }

    fn store_zeros(&mut self, span: ByteRange, step: &mut ProgressFn<'_>) -> Result<()> {
        if span.is_empty() {
            return Ok(());
        }
        // A memfd that is one hole reads as zeros and takes no memory.
        let zeros = memfd(c"mmapctl-zeros").map_err(|errno| Error::sys("zero", Some(span), errno))?;
        zeros.set_len(span.len().min(WINDOW)).map_err(|error| Error::io("zero", &error))?;
        let is_long = span.len() > LONG && self.is_shared_file() && self.layout().is_none();
        // Each thread has its own, smaller window, so that all windows together stay small.
        let shape = MapOptions {
            window: Some(WINDOW / 8),
            ..MapOptions::sliding(Prot::ReadWrite)
        };
        let (mut windows, mut taken) = (span.windows(WINDOW), 0);
        let mut sharing = Sharing::of_small_results();
        match is_long {
            true => sharing.alone = 0,
            false => sharing.helpers = 0,
        }
        let (any, mut done) = (AtomicBool::new(false), 0);
        let result = share(
            sharing,
            &mut Storer::Caller(self),
            |storer| {
                // If there is no descriptor left, there are fewer helpers.
                let region = storer.region();
                let backing = region.backing().try_clone()?;
                Region::new(backing, region.span(), shape).ok().map(Box::new).map(Storer::Helper)
            },
            |_| {
                let window = windows.next();
                taken = window.map_or(taken, |window| window.end() - span.start());
                Ok(window)
            },
            |storer, window: &mut ByteRange, stored: &mut u64| {
                let segment = Segment::of(*window, 0);
                let result = storer.region().store(&[segment], zeros.as_fd(), &mut |_| Ok(()));
                *stored = result.as_ref().map_or_else(|error| error.stored, |()| window.len());
                any.fetch_or(*stored > 0, Ordering::Relaxed);
                result
            },
            |window, stored| {
                done += *stored;
                match step(done) {
                    Err(Interrupted(signal)) if done < span.len() && *stored == window.len() => {
                        let rest = Some(span.from(window.end()));
                        Err(Error::new("zero", rest, ErrorKind::Interrupted(signal)))
                    }
                    _ => Ok(()),
                }
            },
        );
        result.map_err(|error| Error {
            // If several threads store, some may have stored later bytes.
            stored: if is_long && any.into_inner() { taken } else { done },
            ..error
        })
    }
}

/// The mapping through which a thread stores.
enum Storer<'a> {
    Caller(&'a mut Region),
    Helper(Box<Region>),
}

impl Storer<'_> {
    fn region(&mut self) -> &mut Region {
        match self {
            Storer::Caller(region) => region,
            Storer::Helper(region) => region,
        }
    }
}

impl Backing {
    /// Writes zeros over `span` by write(2), as long as no other process accesses the file. Returns how many bytes were
    /// written, which may be 0. The cause is then reported by a store.
    ///
    /// # Errors
    /// A stop that `step` asks for; errors of reading the file's length.
    fn write_zeros(&self, span: ByteRange, step: &mut ProgressFn<'_>) -> Result<u64> {
        let file = self.file("zero")?;
        let mut done = 0;
        let Some(lease) = Lease::take(file) else {
            return Ok(done);
        };
        // Another process may have truncated the file and closed it since its length was read.
        if self.usage()?.len < span.end() {
            return Ok(done);
        }
        // Since it is never stored into, all of it is the kernel's single page of zeros.
        let zeros = Buffer::zeroed(BLOCK)?;
        while done < span.len() && lease.stands() {
            let rest = span.from(span.start() + done);
            let len = rest.len().min(BLOCK as u64) as usize;
            let written = pwrite(file, &zeros[..len], rest.start() as i64);
            let call = || format!("pwrite64({}, \"\\0...\", {len}, {:#x})", file.as_raw_fd(), rest.start());
            match traced(written, call) {
                Ok(count) if count > 0 => done += count as u64,
                Err(Errno::EINTR) => {}
                _ => break,
            }
            if let Err(Interrupted(signal)) = step(done)
                && done < span.len()
            {
                let rest = span.from(span.start() + done);
                let error = Error::new("zero", Some(rest), ErrorKind::Interrupted(signal));
                return Err(Error { stored: done, ..error });
            }
        }
        Ok(done)
    }
}
