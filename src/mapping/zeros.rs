//! Zeros stored over a range. No `unsafe` here.
//!
//! A store through a mapping is bound by its page faults, of which a thread takes only so many a second. write(2) needs
//! none, but it makes a file longer again that somebody else has just cut, which nothing here ever does: so long ranges
//! are written while a lease keeps everybody else from the file, and where none is to be had, or as soon as somebody
//! waits for it, they are stored, shared out among a few threads, each with its own window on the file.

use super::backing::Backing;
use super::error::{Cause, Error, Result};
use super::region::{Lease, Region, memfd};
use super::shape::{Piece, Prot, Shape, WINDOW};
use super::span::Span;
use super::threads::{helpers, start_helper};
use super::trace::traced;
use super::{Interrupted, Step};
use nix::errno::Errno;
use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs};
use nix::sys::uio::pwrite;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// From so many bytes on, several threads store, and room is asked for by one call where that can be relied on. The old
/// bytes of a range as long as this can still be kept by who calls.
const LONG: u64 = 64 << 20;

/// The most bytes that one call of fallocate(2) is about: none can be interrupted.
pub const CALL: u64 = 1 << 30;

/// How much is written at a time, in bytes.
const BLOCK: usize = 1 << 20;

impl Region {
    /// Makes sure that zeros can be stored over `span`: fallocate(2) where its word is final and the range is long, else
    /// as [`Region::make_writable`]. Contents do not change. `step` hears how many bytes are done.
    ///
    /// # Errors
    /// As for [`Region::make_writable`].
    pub fn make_room(&mut self, span: Span, step: &mut Step<'_>) -> Result<()> {
        let stop = |done: u64, Interrupted(signal)| {
            let rest = span.from(span.start() + done);
            Error::new("prepare", Some(rest), Cause::Interrupted(signal))
        };
        if span.len() > LONG && self.allocation_is_final() {
            let mut done = 0;
            let allocated = span.windows(CALL).try_for_each(|piece| {
                self.backing().allocate(piece).map_err(Some)?;
                done += piece.len();
                step(done).map_err(|signal| Some(stop(done, signal)))
            });
            match allocated {
                Ok(()) => return Ok(()),
                Err(Some(error)) if matches!(error.cause, Cause::Interrupted(_)) => return Err(error),
                // The pages tell which of them has no room.
                Err(_) => {}
            }
        }
        let whole = Piece {
            at: span.start(),
            len: span.len(),
            from: 0,
        };
        self.make_writable(&[whole], step)
    }

    /// Whether a page whose blocks [`Backing::allocate`] has given can be stored into. Not so on btrfs, where a store
    /// takes new blocks, nor on overlayfs, which may lie over it.
    fn allocation_is_final(&self) -> bool {
        let of_file = self.reaches_file() && self.layout().is_none();
        let fs = self.backing().fd().filter(|_| of_file).and_then(|fd| fstatfs(fd).ok());
        fs.is_some_and(|fs| [EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC].contains(&fs.filesystem_type()))
    }

    /// Stores zeros over `span`; `step` hears how many bytes are done.
    ///
    /// # Errors
    /// As for [`Region::store`]; of a long range, what was stored is within the first [`Error::stored`] bytes, and need
    /// not be all of them.
    pub fn zero(&mut self, span: Span, step: &mut Step<'_>) -> Result<()> {
        if !span.is_empty() {
            self.backing().mark_written();
        }
        let mut written = 0;
        self.drop_privileges()?;
        // Where the mapping gives no right to store, there is none to write either, whatever the descriptor allows.
        let stores = self.shape().prot.writes() && self.reaches_file() && self.layout().is_none();
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

    fn store_zeros(&mut self, span: Span, step: &mut Step<'_>) -> Result<()> {
        if span.is_empty() {
            return Ok(());
        }
        // A memfd that is one hole reads as zeros and takes no memory.
        let zeros = memfd(c"mmapctl-zeros").map_err(|errno| Error::sys("zero", Some(span), errno))?;
        zeros
            .set_len(span.len().min(WINDOW))
            .map_err(|error| Error::io("zero", &error))?;
        let work = ZeroWork {
            span,
            zeros: &zeros,
            next: AtomicU64::new(span.start() / WINDOW),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let mut others = Vec::new();
        if span.len() > LONG && self.reaches_file() && self.layout().is_none() {
            // Where there is no descriptor for one more, there are fewer helpers.
            others.extend((0..helpers()).map_while(|_| self.backing().again()));
        }
        let whole = self.span();
        let result = thread::scope(|scope| {
            let start = |backing: Backing| {
                let work = &work;
                start_helper(scope, move || {
                    // A smaller window, so that all of them together stay small.
                    let shape = Shape {
                        window: Some(WINDOW / 8),
                        ..Shape::sliding(Prot::ReadWrite)
                    };
                    let mut region = Region::new(backing, whole, shape)?;
                    work.run(&mut region, &mut |_| Ok(()))
                })
            };
            let helpers: Vec<_> = others.into_iter().filter_map(start).collect();
            let first = work.run(self, step);
            // A helper has no way to panic; if it did, what it had taken is not stored.
            let lost = || Err(Error::sys("zero", Some(span), Errno::EIO));
            let helped = helpers
                .into_iter()
                .map(|helper| helper.join().unwrap_or_else(|_| lost()));
            helped.fold(first, Result::and)
        });
        result.map_err(|error| Error {
            stored: work.begun(),
            ..error
        })
    }
}

/// One range, zeroed window by window by whoever has time.
struct ZeroWork<'a> {
    span: Span,
    zeros: &'a File,
    /// The number of the next window.
    next: AtomicU64,
    /// Bytes.
    done: AtomicU64,
    stop: AtomicBool,
}

impl ZeroWork<'_> {
    fn window(&self, number: u64) -> Span {
        let start = number.saturating_mul(WINDOW);
        Span::new(start, start.saturating_add(WINDOW)).map_or(Span::first(0), |window| window.intersect(self.span))
    }

    fn run(&self, region: &mut Region, step: &mut Step<'_>) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let window = self.window(self.next.fetch_add(1, Ordering::Relaxed));
            if window.is_empty() {
                break;
            }
            let piece = Piece {
                at: window.start(),
                len: window.len(),
                from: 0,
            };
            if let Err(error) = region.store(&[piece], self.zeros.as_fd(), &mut |_| Ok(())) {
                self.done.fetch_add(error.stored, Ordering::Relaxed);
                self.stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
            let done = self.done.fetch_add(window.len(), Ordering::Relaxed) + window.len();
            if let Err(Interrupted(signal)) = step(done)
                && done < self.span.len()
            {
                self.stop.store(true, Ordering::Relaxed);
                let rest = self.span.from(window.end());
                return Err(Error::new("zero", Some(rest), Cause::Interrupted(signal)));
            }
        }
        Ok(())
    }

    /// How far stores have come, in bytes from the start: exactly, where one thread has stored.
    fn begun(&self) -> u64 {
        let done = self.done.load(Ordering::Relaxed);
        if self.span.len() <= LONG || done == 0 {
            return done;
        }
        let end = self.next.load(Ordering::Relaxed).saturating_mul(WINDOW);
        end.min(self.span.end()) - self.span.start()
    }
}

impl Backing {
    /// Writes zeros over `span` by write(2), as far as that goes without anybody else at the file; gives how many bytes
    /// that is. It may be none, and why is for a store to say.
    ///
    /// # Errors
    /// That `step` asks to stop; that the file cannot be looked at.
    fn write_zeros(&self, span: Span, step: &mut Step<'_>) -> Result<u64> {
        let file = self.file("zero")?;
        let mut done = 0;
        let Some(lease) = Lease::take(file) else {
            return Ok(done);
        };
        // Since the length was looked at, somebody may have cut the file and gone.
        if self.usage()?.len < span.end() {
            return Ok(done);
        }
        // Never stored into, it is the kernel's one page of zeros all over.
        let zeros = vec![0; BLOCK];
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
                let error = Error::new("zero", Some(rest), Cause::Interrupted(signal));
                return Err(Error { stored: done, ..error });
            }
        }
        Ok(done)
    }
}
