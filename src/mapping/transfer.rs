//! Transfers bytes into and out of a region, range by range: slides the window, populates ahead, batches, and reports
//! at which offset and why it failed. No `unsafe` and no addresses, which are in region.rs.

use super::backing::Kind;
use super::error::{Error, ErrorKind, Result};
use super::limits;
use super::options::{Populate, Prot, Segment, WINDOW};
use super::range::ByteRange;
use super::region::Region;
use super::{Interrupted, ProgressFn};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// The maximum number of segments of one preadv: IOV_MAX.
const PIECES: usize = 1024;

impl Region {
    /// The next range at or after `from`, within `span`, that is not merely a hole of the file, which reads as zeros.
    /// `None` if there are only holes.
    pub fn next_data(&self, from: u64, span: ByteRange) -> Result<Option<ByteRange>> {
        let rest = span.from(from);
        if let Some(layout) = self.layout() {
            for part in layout.parts(rest) {
                let bytes = part.file.intersect(ByteRange::first(self.backing().facts().len));
                let data = self.backing().next_data(bytes.start(), bytes)?;
                if let Some(data) = data {
                    return Ok(ByteRange::at(part.view + (data.start() - part.file.start()), data.len()));
                }
            }
            return Ok(None);
        }
        // A private page may be a copy over a hole, and there are no holes past the end of the file.
        if !self.is_shared_file() || rest.start() >= self.length() {
            return Ok(Some(rest).filter(|rest| !rest.is_empty()));
        }
        let within = span.intersect(ByteRange::first(self.length()));
        match self.backing().next_data(from, within)? {
            None if within.end() < span.end() => Ok(Some(span.from(within.end()))),
            data => Ok(data),
        }
    }

    /// Populates the pages of `span`, after [`Region::prefetch`] if all of the region is mapped. `step` receives how many
    /// bytes are done.
    pub fn populate(&mut self, span: ByteRange, how: Populate, step: &mut ProgressFn<'_>) -> Result<()> {
        let span = self.check("populate", Some(span))?;
        // Memory that is not backed by a file stays in memory unless it is swapped out.
        let stays = how == Populate::Write && !self.is_shared_file() || self.backing().facts().kind == Kind::Memfd;
        if stays && !limits::has_swap() {
            self.check_memory("populate", span)?;
        }
        let is_whole = self.shape().window.is_none() && self.shape().prot != Prot::None;
        let is_read = is_whole && self.prefetch(span, step)?;
        for window in span.windows(self.window_size()) {
            self.populate_window(window, how)?;
            let done = if is_read {
                span.len()
            } else {
                window.end() - span.start()
            };
            report_progress(step, done, "populate", span.from(window.end()))?;
        }
        Ok(())
    }

    /// Makes every page of `pieces` (ascending) ready for stores: present, writable, with blocks. Contents do not
    /// change. This is a check, not a guarantee: the file may still be truncated before the store.
    ///
    /// # Errors
    /// [`ErrorKind::Full`], [`ErrorKind::Shrunk`] and any other reason why a page cannot be written, with its offset.
    pub fn make_writable(&mut self, pieces: &[Segment], step: &mut ProgressFn<'_>) -> Result<()> {
        if self.layout().is_some() {
            // Zeros past the end of the file have a page that can be made writable, but stores into it are lost.
            for piece in pieces {
                self.check_store(Some(piece.range()))?;
            }
        }
        let page = self.backing().facts().page;
        let mut pieces = pieces.iter().peekable();
        let mut done = 0;
        while let Some(piece) = pieces.next() {
            let mut run = piece.range();
            // Segments on the same or the next page are combined into one call. No page between them is touched
            // needlessly.
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
            // Linux before 5.14 does not support the advice. The store itself is then the check.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(Errno::EFAULT) => {
                // The call does not report which page. The pages before it are present by now, so trying them one by
                // one is fast.
                for page in span.windows(self.backing().facts().page) {
                    if self.madvise(page, advice)?.is_ok() {
                        continue;
                    }
                    let error = self.fault(action, span.from(page.start()), how);
                    // The search for the cause allocated the page's blocks, which may have solved the problem: xfs
                    // reserves blocks that it gives to fallocate, but not to page faults.
                    if error.cause != ErrorKind::Vanished {
                        return Err(error);
                    }
                    if self.madvise(page, advice)?.is_err() {
                        // On btrfs, fallocate(2) succeeds where a store finds no room.
                        let is_full = how == Populate::Write
                            && self.is_shared_file()
                            && !self.allocation_is_final()
                            && self.madvise(page, libc::MADV_POPULATE_READ)?.is_ok();
                        let cause = if is_full {
                            ErrorKind::Full(Errno::ENOSPC)
                        } else {
                            error.cause
                        };
                        return Err(Error { cause, ..error });
                    }
                }
                // The cause was transient, and every page is present.
                Ok(())
            }
            Err(errno) => Err(Error::sys(action, Some(span), errno)),
        }
    }

    /// Stores `pieces` in the given order, from `payload`, with up to 1,024 of them in a system call as long as their
    /// payload is contiguous. `step` receives how many bytes are done.
    ///
    /// # Errors
    /// The reason why a page cannot be written, with its offset; [`Error::stored`] says how many bytes were stored
    /// before. If the file was truncated meanwhile, an error at its new end; everything before the end was then stored.
    pub fn store(&mut self, pieces: &[Segment], payload: BorrowedFd<'_>, step: &mut ProgressFn<'_>) -> Result<()> {
        let (total, all) = self.check_stores(pieces)?;
        self.drop_privileges()?;
        if total > 0 {
            self.backing().mark_written();
        }
        let mut rest = pieces;
        // How many bytes of the first of them are stored.
        let mut into = 0;
        let mut done = 0;
        while let Some((first, others)) = rest.split_first() {
            let stored = |error| Error { stored: done, ..error };
            if into == first.len() {
                (rest, into) = (others, 0);
                continue;
            }
            let (_, first) = first.split(into);
            // The window must not slide during a batch.
            let most = self.mapped_len_from(first.at()).map_err(stored)?.min(WINDOW);
            let (count, len) = match batch(rest, ByteRange::first(first.at() + most).from(first.at())) {
                // The segment extends past the window, or is stored in part already.
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
                // A short count is an exact prefix, and the page after it is not available.
                short => {
                    done += short.map_or(0, |count| count as u64);
                    let bad = locate(pieces, done).unwrap_or(first.range());
                    let mut error = self.fault("store", bad, Populate::Write);
                    if error.cause == ErrorKind::Vanished
                        && let Err(found) = self.populate_window(bad.split(1).0, Populate::Write)
                    {
                        error.cause = found.cause;
                    }
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
        // If the end of the file has moved into a page, a store after it is no error, but is lost.
        match all.filter(|_| self.is_shared_file()) {
            Some(all) => {
                self.check_still("store", all, Populate::Write).map_err(|error| Error { stored: done, ..error })
            }
            None => Ok(()),
        }
    }

    /// Called before the first store into a file: [`Backing::drop_privileges`](super::Backing::drop_privileges).
    pub(super) fn drop_privileges(&self) -> Result<()> {
        match self.is_shared_file() {
            true => self.backing().drop_privileges(),
            false => Ok(()),
        }
    }

    /// Finds the cause of an EFAULT: checks the length, the free space and the medium. In a view, checks the part of
    /// the file that its first byte is in.
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
        if let Some(limit) = limits::behind_huge(span.pages(self.page()).len(), self.page()) {
            return error(ErrorKind::Limit(limit));
        }
        let Ok(file) = self.backing().file(action) else {
            return error(ErrorKind::Sys(Errno::EFAULT));
        };
        match self.backing().usage() {
            Ok(usage) if usage.len < span.end() => {
                // Truncated within the span, between the fault and this check: the first missing byte is the offset.
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
            }) = self.backing().allocate(first.intersect(ByteRange::first(self.backing().facts().len)))
            {
                return error(cause);
            }
        }
        if let Err(errno) = nix::sys::uio::pread(file, &mut [0], span.start() as i64) {
            return error(ErrorKind::Sys(errno));
        }
        // A load from a hole allocates a page on tmpfs, which fails if that is full.
        if nix::sys::statfs::fstatfs(file).is_ok_and(|fs| fs.blocks_available() == 0) {
            return error(ErrorKind::Full(Errno::ENOSPC));
        }
        // There is no error now, so the page must have been past the end for a moment.
        error(ErrorKind::Vanished)
    }
}

/// Passes `done` to `step`. If that asks to stop, returns an error at the start of `rest`.
pub(super) fn report_progress(
    step: &mut ProgressFn<'_>,
    done: u64,
    action: &'static str,
    rest: ByteRange,
) -> Result<()> {
    step(done).map_err(|Interrupted(signal)| Error::new(action, Some(rest), ErrorKind::Interrupted(signal)))
}

/// How many of `pieces` one preadv takes, and how many bytes they have. It takes those that lie in `window` entirely
/// and whose payload is contiguous; they have no more bytes than the window.
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

/// The range from the byte that follows the first `done` bytes of `pieces` to the end of its segment.
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
