//! Bytes into and out of a region, range by range: what slides the window, populates ahead, batches, and says
//! at which offset and why it could not go on. No `unsafe` and no address: those are region.rs's.

use super::backing::Kind;
use super::error::{Error, ErrorKind, Result};
use super::limits;
use super::options::{Populate, Segment, WINDOW};
use super::range::ByteRange;
use super::region::Region;
use super::{Interrupted, ProgressFn};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// The most pieces that one preadv takes: IOV_MAX.
const PIECES: usize = 1024;

impl Region {
    /// The next stretch at or after `from`, within `span`, that does not merely read as zeros because the file has a
    /// hole there. `None` when there are only holes.
    pub fn next_data(&self, from: u64, span: ByteRange) -> Result<Option<ByteRange>> {
        let rest = span.from(from);
        if let Some(layout) = self.layout() {
            for part in layout.parts(rest) {
                let bytes = part.file.intersect(ByteRange::first(self.backing().facts().len));
                let data = self.backing().next_data(bytes.start(), bytes)?;
                if let Some(data) = data {
                    return Ok(ByteRange::at(
                        part.view + (data.start() - part.file.start()),
                        data.len(),
                    ));
                }
            }
            return Ok(None);
        }
        // A private page may have been copied over a hole, and past the end of the file there are no holes.
        if !self.is_shared_file() || rest.start() >= self.length() {
            return Ok(Some(rest).filter(|rest| !rest.is_empty()));
        }
        let within = span.intersect(ByteRange::first(self.length()));
        match self.backing().next_data(from, within)? {
            None if within.end() < span.end() => Ok(Some(span.from(within.end()))),
            data => Ok(data),
        }
    }

    /// Brings in the pages of `span`; `step` hears how many bytes are done.
    pub fn populate(&mut self, span: ByteRange, how: Populate, step: &mut ProgressFn<'_>) -> Result<()> {
        let span = self.check("populate", Some(span))?;
        // Memory that no file takes back stays, unless it is swapped out.
        let stays = how == Populate::Write && !self.is_shared_file() || self.backing().facts().kind == Kind::Memfd;
        if stays && !limits::has_swap() {
            self.check_memory("populate", span)?;
        }
        for window in span.windows(self.window_size()) {
            self.populate_window(window, how)?;
            report_progress(step, window.end() - span.start(), "populate", span.from(window.end()))?;
        }
        Ok(())
    }

    /// Makes sure that every page under `pieces` (ascending) can be stored into: present, writable, with blocks.
    /// Contents do not change. It is a check, not a promise: a truncation may still come before the store.
    ///
    /// # Errors
    /// [`ErrorKind::Full`], [`ErrorKind::Shrunk`] and what else keeps a page from being written, at its offset.
    pub fn make_writable(&mut self, pieces: &[Segment], step: &mut ProgressFn<'_>) -> Result<()> {
        if self.layout().is_some() {
            // Zeros past the end of the file have a page that can be made writable, and that would be for nothing.
            for piece in pieces {
                self.check_store(Some(piece.range()))?;
            }
        }
        let page = self.backing().facts().page;
        let mut pieces = pieces.iter().peekable();
        let mut done = 0;
        while let Some(piece) = pieces.next() {
            let mut run = piece.range();
            // Neighbours on the same or the next page go along in one call; no page between them is touched for nothing.
            let mut reach = run.pages(page).end() + page;
            while let Some(next) = pieces.next_if(|next| next.at() < reach) {
                run = run.join(next.range());
                if run.end() + page > reach {
                    reach = run.pages(page).end() + page;
                }
            }
            for window in run.windows(self.window_size()) {
                self.populate_window(window, Populate::Write)?;
                done += window.len();
                report_progress(step, done, "prepare", run.from(window.end()))?;
            }
        }
        Ok(())
    }

    fn populate_window(&mut self, span: ByteRange, how: Populate) -> Result<()> {
        let (action, advice) = match how {
            Populate::Read => ("populate", libc::MADV_POPULATE_READ),
            Populate::Write => ("prepare", libc::MADV_POPULATE_WRITE),
        };
        self.refuse_device_memory(action, span)?;
        match self.madvise(span, advice)? {
            // Linux before 5.14 does not know the advice: then the store itself is the check.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(Errno::EFAULT) => {
                // It does not say which page. Those before it are there by now, so asking one by one is quick.
                for page in span.windows(self.backing().facts().page) {
                    if self.madvise(page, advice)?.is_ok() {
                        continue;
                    }
                    let error = self.fault(action, span.from(page.start()), how);
                    // Looking for the cause has asked for the page's blocks, and that may have mended it: xfs keeps
                    // blocks back from faults that it gives to fallocate.
                    if error.cause != ErrorKind::Vanished || self.madvise(page, advice)?.is_err() {
                        return Err(error);
                    }
                }
                // Whatever it was has passed, and every page is there.
                Ok(())
            }
            Err(errno) => Err(Error::sys(action, Some(span), errno)),
        }
    }

    /// Stores `pieces` in the order given, from `payload`, up to 1,024 of them in a system call while their
    /// payload is contiguous. `step` hears how many bytes are done.
    ///
    /// # Errors
    /// What makes a page unwritable, at its offset; [`Error::stored`] says how many bytes came before. That the file was
    /// cut meanwhile, at its new end; then all that are still there are stored.
    pub fn store(&mut self, pieces: &[Segment], payload: BorrowedFd<'_>, step: &mut ProgressFn<'_>) -> Result<()> {
        let (total, all) = self.check_stores(pieces)?;
        self.drop_privileges()?;
        if total > 0 {
            self.backing().mark_written();
        }
        let mut rest = pieces;
        // How much of the first of them is stored.
        let mut into = 0;
        let mut done = 0;
        while let Some((first, others)) = rest.split_first() {
            let stored = |error| Error { stored: done, ..error };
            if into == first.len() {
                (rest, into) = (others, 0);
                continue;
            }
            let (_, first) = first.split(into);
            // The window must not slide under a batch.
            let most = self.mapped_len_from(first.at()).map_err(stored)?.min(WINDOW);
            let (count, len) = match batch(rest, ByteRange::first(first.at() + most).from(first.at())) {
                // It reaches out of the window, or is stored in part already.
                (0, _) => (0, first.len().min(most)),
                whole => whole,
            };
            let part = [first.split(len).0];
            let batch = if count > 0 { &rest[..count] } else { &part };
            match self.write_segments(batch, payload).map_err(stored)? {
                Ok(copied) if copied as u64 == len => done += len,
                Err(errno) if errno != Errno::EFAULT => {
                    return Err(stored(Error::sys("store", Some(first.range()), errno)));
                }
                // A short count is an exact prefix; what follows it is the page that could not be had.
                short => {
                    done += short.map_or(0, |count| count as u64);
                    let bad = locate(pieces, done).unwrap_or(first.range());
                    let error = self.fault("store", bad, Populate::Write);
                    return Err(Error { stored: done, ..error });
                }
            }
            rest = &rest[count..];
            into = if count > 0 { 0 } else { into + len };
            if let Err(Interrupted(signal)) = step(done)
                && done < total
            {
                let error = Error::new("store", locate(pieces, done), ErrorKind::Interrupted(signal));
                return Err(Error { stored: done, ..error });
            }
        }
        // Behind an end that has come to lie in a page, a store is no error, and goes nowhere.
        match all.filter(|_| self.is_shared_file()) {
            Some(all) => self
                .check_still("store", all, Populate::Write)
                .map_err(|error| Error { stored: done, ..error }),
            None => Ok(()),
        }
    }

    /// Before the first store into a file: [`Backing::drop_privileges`](super::Backing::drop_privileges).
    pub(super) fn drop_privileges(&self) -> Result<()> {
        match self.is_shared_file() {
            true => self.backing().drop_privileges(),
            false => Ok(()),
        }
    }

    /// The cause behind EFAULT, which says nothing: looks at the length, the free space, the medium. In a view, at what
    /// stands at its first byte.
    pub(super) fn fault(&self, action: &'static str, span: ByteRange, how: Populate) -> Error {
        let file = self.layout().map(|layout| layout.behind(span, self.page()));
        match file {
            None => self.fault_in_file(action, span, how),
            Some(file) => Error {
                view: Some(span.start()),
                ..self.fault_in_file(action, file.unwrap_or(span), how)
            },
        }
    }

    fn fault_in_file(&self, action: &'static str, span: ByteRange, how: Populate) -> Error {
        let error = |cause| Error::new(action, Some(span), cause);
        let Ok(file) = self.backing().file(action) else {
            return error(ErrorKind::Sys(Errno::EFAULT));
        };
        match self.backing().usage() {
            Ok(usage) if usage.len < span.end() => {
                // Cut within the span, between the fault and the question: the first byte gone is the offset.
                let gone = span.from(usage.len);
                let len = usage.len;
                let known = self.backing().facts().len <= len;
                return Error::new(
                    action,
                    Some(gone),
                    if known {
                        ErrorKind::PastEnd { len }
                    } else {
                        ErrorKind::Shrunk { len }
                    },
                );
            }
            _ => {}
        }
        if how == Populate::Write && self.backing().facts().writable {
            let page = self.backing().facts().page;
            let first = span.split(1).0.pages(page);
            if let Err(Error {
                cause: cause @ (ErrorKind::Full(_) | ErrorKind::Sys(Errno::EPERM | Errno::EIO)),
                ..
            }) = self
                .backing()
                .allocate(first.intersect(ByteRange::first(self.backing().facts().len)))
            {
                return error(cause);
            }
        }
        if let Err(errno) = nix::sys::uio::pread(file, &mut [0], span.start() as i64) {
            return error(ErrorKind::Sys(errno));
        }
        // A load of a hole takes a page on tmpfs, and a full one has none to give.
        if nix::sys::statfs::fstatfs(file).is_ok_and(|fs| fs.blocks_available() == 0) {
            return error(ErrorKind::Full(Errno::ENOSPC));
        }
        // All is well now, so the page must have been past the end for a moment.
        error(ErrorKind::Vanished)
    }
}

/// Says to `step` that `done` bytes are done; where it asks to stop, that is an error at the start of `rest`.
pub(super) fn report_progress(
    step: &mut ProgressFn<'_>,
    done: u64,
    action: &'static str,
    rest: ByteRange,
) -> Result<()> {
    step(done).map_err(|Interrupted(signal)| Error::new(action, Some(rest), ErrorKind::Interrupted(signal)))
}

/// How many of `pieces` one preadv takes, those that lie in `window` whole, with their payload in one run, and how many
/// bytes they have: no more than the window has.
fn batch(pieces: &[Segment], window: ByteRange) -> (usize, u64) {
    let Some(first) = pieces.first() else {
        return (0, 0);
    };
    let mut len = 0;
    let fits = |piece: &&Segment| {
        let fits =
            piece.from == first.from + len && window.contains(piece.range()) && len + piece.len() <= window.len();
        len += if fits { piece.len() } else { 0 };
        fits
    };
    let count = pieces.iter().take(PIECES).take_while(fits).count();
    (count, len)
}

/// Where the byte that `done` others came before belongs: from there to its piece's end.
fn locate(pieces: &[Segment], done: u64) -> Option<ByteRange> {
    let mut before = 0;
    for piece in pieces {
        if done < before + piece.len() {
            return Some(piece.range().from(piece.at() + (done - before)));
        }
        before += piece.len();
    }
    None
}

#[cfg(test)]
mod tests;
