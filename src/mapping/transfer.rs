//! Bytes into and out of a region, range by range: what slides the window, populates ahead, batches, and says
//! at which offset and why it could not go on. No `unsafe` and no address: those are region.rs's.

use super::ahead::Ahead;
use super::backing::Kind;
use super::error::{Cause, Error, Protection, Result};
use super::limits;
use super::region::Region;
use super::shape::{Piece, Populate, WINDOW};
use super::span::Span;
use super::{Interrupted, Step};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;
use std::thread;

/// How much [`Region::read_chunks`] copies at a time, in bytes: it stays in the second-level cache.
const CHUNK: u64 = 256 << 10;

/// From so many bytes on a second thread is worth its start, and how many chunks it is asked for at a time.
const LONG: u64 = 4 << 20;
const AHEAD: usize = 4;

/// The most pieces that one preadv takes: IOV_MAX.
const PIECES: usize = 1024;

impl Region {
    /// Copies the bytes at file offset `offset` out of the mapping.
    ///
    /// # Errors
    /// What makes a page unreadable, with the offset of the first byte that could not be had; what stands before
    /// it in `buf` is right.
    pub fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let whole = self.check_read(Span::at(offset, buf.len() as u64))?;
        self.refuse_device_memory("read", whole)?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            match self.copy_out(at, &mut buf[done..])? {
                // A short count is an exact prefix: the next round meets the bad page itself.
                Ok(count) if count > 0 => done += count,
                Ok(_) | Err(Errno::EFAULT) => {
                    self.check_still("read", Span::new(offset, at).unwrap_or(whole), Populate::Read)?;
                    let by_page = match self.is_the_files() {
                        true => self.backing().read_by_page(whole.from(at), &mut buf[done..]),
                        false => 0,
                    };
                    if by_page > 0 {
                        done += by_page;
                        continue;
                    }
                    return Err(self.fault("read", whole.from(at), Populate::Read));
                }
                Err(errno) => return Err(Error::sys("read", Some(whole.from(at)), errno)),
            }
        }
        // Of a page that the end has come to lie in, the rest reads as zeros without an error.
        self.check_still("read", whole, Populate::Read)
    }

    /// Hands the bytes of `span` to `each`, in order and in pieces of up to 256 KiB, with their file offsets.
    /// Nothing is populated ahead: the copy takes the faults itself, sixteen pages at a time, which is quicker than
    /// going over the page tables twice.
    pub fn read_chunks<E: From<Error>>(
        &mut self,
        span: Span,
        mut each: impl FnMut(u64, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let span = self.check_read(Some(span))?;
        let mut buf = Vec::new();
        for chunk in span.windows(CHUNK) {
            let result = self.read_chunk(chunk, &mut buf);
            // What stands before a bad page is worth having.
            each(chunk.start(), &buf)?;
            result?;
        }
        Ok(())
    }

    /// The same for an `each` that takes its time: of a long range, a second thread reads what comes next meanwhile.
    pub fn read_ahead<E: From<Error>>(
        &mut self,
        span: Span,
        mut each: impl FnMut(u64, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let span = self.check_read(Some(span))?;
        thread::scope(|scope| {
            let start = || Ahead::start(scope, self, Region::read_chunk);
            let Some(ahead) = (span.len() >= LONG).then(start).flatten() else {
                return self.read_chunks(span, each);
            };
            let mut chunks = span.windows(CHUNK);
            for chunk in chunks.by_ref().take(AHEAD) {
                ahead.ask(chunk, Vec::new());
            }
            for chunk in span.windows(CHUNK) {
                let (buf, result) = ahead.take();
                each(chunk.start(), &buf)?;
                result?;
                if let Some(next) = chunks.next() {
                    ahead.ask(next, buf);
                }
            }
            Ok(())
        })
    }

    /// Reads the bytes of `chunk` in place of those in `buf`.
    ///
    /// # Errors
    /// As for [`Region::read`]; `buf` then has what stands before.
    pub(super) fn read_chunk(&mut self, chunk: Span, buf: &mut Vec<u8>) -> Result<()> {
        buf.resize(chunk.len() as usize, 0);
        self.read(chunk.start(), buf).inspect_err(|error| {
            let bad = error.place().unwrap_or(chunk.start());
            buf.truncate(bad.saturating_sub(chunk.start()) as usize);
        })
    }

    /// Makes sure that no part of `span` is past the end of the file: of the file as it was last looked at when that
    /// has been cut, else behind the page that the end is in, whose tail reads as zeros.
    ///
    /// # Errors
    /// [`Cause::Shrunk`], [`Cause::PastEnd`], at the first offset that is gone.
    pub fn check_there(&self, span: Span) -> Result<()> {
        self.check_still("read", span, Populate::Read)
    }

    fn check_still(&self, action: &'static str, span: Span, how: Populate) -> Result<()> {
        if span.is_empty() || !self.backing().facts().is_file() {
            return Ok(());
        }
        let (known, now) = (self.backing().facts().len, self.backing().usage()?.len);
        let end = if now < known {
            now
        } else {
            Span::first(known).pages(self.page()).end()
        };
        let gone = match self.layout() {
            None => span.from(end),
            Some(layout) => {
                let cut = layout.parts(span).find(|part| part.file.end() > end);
                span.from(cut.map_or(span.end(), |part| part.view + end.saturating_sub(part.file.start())))
            }
        };
        if gone.is_empty() {
            return Ok(());
        }
        Err(self.fault(action, gone, how))
    }

    /// The next stretch at or behind `from`, within `span`, that does not merely read as zeros because the file has a
    /// hole there. `None` when there are only holes.
    pub fn next_data(&self, from: u64, span: Span) -> Result<Option<Span>> {
        let rest = span.from(from);
        if let Some(layout) = self.layout() {
            for part in layout.parts(rest) {
                let bytes = part.file.intersect(Span::first(self.backing().facts().len));
                let data = self.backing().next_data(bytes.start(), bytes)?;
                if let Some(data) = data {
                    return Ok(Span::at(part.view + (data.start() - part.file.start()), data.len()));
                }
            }
            return Ok(None);
        }
        // A private page may have been copied over a hole, and behind the end of the file there are no holes.
        if !self.reaches_file() || rest.start() >= self.length() {
            return Ok(Some(rest).filter(|rest| !rest.is_empty()));
        }
        let within = span.intersect(Span::first(self.length()));
        match self.backing().next_data(from, within)? {
            None if within.end() < span.end() => Ok(Some(span.from(within.end()))),
            data => Ok(data),
        }
    }

    /// Brings in the pages of `span`; `step` hears how many bytes are done.
    pub fn populate(&mut self, span: Span, how: Populate, step: &mut Step<'_>) -> Result<()> {
        let span = self.check("populate", Some(span))?;
        // Memory that no file takes back stays, unless it is swapped out.
        let stays = how == Populate::Write && !self.reaches_file() || self.backing().facts().kind == Kind::Memfd;
        if stays && !limits::has_swap() {
            self.check_memory("populate", span)?;
        }
        for window in span.windows(self.window_size()) {
            self.populate_window(window, how)?;
            stepped(step, window.end() - span.start(), "populate", span.from(window.end()))?;
        }
        Ok(())
    }

    /// Makes sure that every page under `pieces` (ascending) can be stored into: present, writable, with blocks.
    /// Contents do not change. It is a check, not a promise: a truncation may still come before the store.
    ///
    /// # Errors
    /// [`Cause::Full`], [`Cause::Shrunk`] and what else keeps a page from being written, at its offset.
    pub fn make_writable(&mut self, pieces: &[Piece], step: &mut Step<'_>) -> Result<()> {
        if self.layout().is_some() {
            // Zeros behind the end of the file have a page that can be made writable, and that would be for nothing.
            for piece in pieces {
                self.check_store(Some(piece.span()))?;
            }
        }
        let page = self.backing().facts().page;
        let mut pieces = pieces.iter().peekable();
        let mut done = 0;
        while let Some(piece) = pieces.next() {
            let mut run = piece.span();
            // Neighbours on the same or the next page go along in one call; no page between them is touched for nothing.
            let mut reach = run.pages(page).end() + page;
            while let Some(next) = pieces.next_if(|next| next.at < reach) {
                run = run.join(next.span());
                if run.end() + page > reach {
                    reach = run.pages(page).end() + page;
                }
            }
            for window in run.windows(self.window_size()) {
                self.populate_window(window, Populate::Write)?;
                done += window.len();
                stepped(step, done, "prepare", run.from(window.end()))?;
            }
        }
        Ok(())
    }

    fn populate_window(&mut self, span: Span, how: Populate) -> Result<()> {
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
                    if error.cause != Cause::Vanished || self.madvise(page, advice)?.is_err() {
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
    pub fn store(&mut self, pieces: &[Piece], payload: BorrowedFd<'_>, step: &mut Step<'_>) -> Result<()> {
        if !self.shape().prot.writes() {
            let first = pieces.first().map(|piece| piece.span());
            return Err(Error::new("store", first, Cause::Protection(Protection::ReadOnly)));
        }
        let (total, all) = self.check_stores(pieces)?;
        if let Some(first) = pieces.first() {
            self.refuse_device_memory("store", first.span())?;
            self.drop_privileges()?;
        }
        if total > 0 {
            self.backing().mark_written();
        }
        let mut rest = pieces;
        // How much of the first of them is stored.
        let mut into = 0;
        let mut done = 0;
        while let Some((first, others)) = rest.split_first() {
            let stored = |error| Error { stored: done, ..error };
            if into == first.len {
                (rest, into) = (others, 0);
                continue;
            }
            let first = after(*first, into);
            // The window must not slide under a batch.
            let most = self.reach(first.at).map_err(stored)?.min(WINDOW);
            let (count, len) = match batch(rest, Span::first(first.at + most).from(first.at)) {
                // It reaches out of the window, or is stored in part already.
                (0, _) => (0, first.len.min(most)),
                whole => whole,
            };
            let part = [Piece { len, ..first }];
            let batch = if count > 0 { &rest[..count] } else { &part };
            match self.copy_in(batch, payload).map_err(stored)? {
                Ok(copied) if copied as u64 == len => done += len,
                Err(errno) if errno != Errno::EFAULT => {
                    return Err(stored(Error::sys("store", Some(first.span()), errno)));
                }
                // A short count is an exact prefix; what follows it is the page that could not be had.
                short => {
                    done += short.map_or(0, |count| count as u64);
                    let bad = locate(pieces, done).unwrap_or(first.span());
                    let error = self.fault("store", bad, Populate::Write);
                    return Err(Error { stored: done, ..error });
                }
            }
            rest = &rest[count..];
            into = if count > 0 { 0 } else { into + len };
            if let Err(Interrupted(signal)) = step(done)
                && done < total
            {
                let error = Error::new("store", locate(pieces, done), Cause::Interrupted(signal));
                return Err(Error { stored: done, ..error });
            }
        }
        // Behind an end that has come to lie in a page, a store is no error, and goes nowhere.
        match all.filter(|_| self.reaches_file()) {
            Some(all) => self
                .check_still("store", all, Populate::Write)
                .map_err(|error| Error { stored: done, ..error }),
            None => Ok(()),
        }
    }

    /// Before the first store into a file: [`Backing::drop_privileges`](super::Backing::drop_privileges).
    pub(super) fn drop_privileges(&self) -> Result<()> {
        match self.reaches_file() {
            true => self.backing().drop_privileges(),
            false => Ok(()),
        }
    }

    /// Makes sure that all of `pieces` can be stored; gives how many bytes they have, and the range from the lowest to
    /// the highest.
    fn check_stores(&self, pieces: &[Piece]) -> Result<(u64, Option<Span>)> {
        let total = pieces.iter().map(|piece| piece.len).fold(0, u64::saturating_add);
        // Of a million pieces, the range from the lowest to the highest says it quicker than each of them would.
        let mut spans = pieces.iter().map(|piece| Span::at(piece.at, piece.len));
        let all = spans.next().flatten();
        let all = all.and_then(|first| spans.try_fold(first, |all, span| Some(all.join(span?))));
        if self.layout().is_some() || self.check_store(all).is_err() {
            for piece in pieces {
                self.check_store(Span::at(piece.at, piece.len))?;
            }
        }
        Ok((total, all))
    }

    /// The kernel's copies of device memory have the widths that suit the kernel, and some are refused with a bare
    /// EFAULT.
    pub(super) fn refuse_device_memory(&mut self, action: &'static str, span: Span) -> Result<()> {
        if !self.backing().facts().device_memory || span.is_empty() {
            return Ok(());
        }
        // Most files of sysfs cannot be mapped at all, and that is then the error.
        self.reach(span.start())?;
        match self.is_device_memory() {
            true => Err(Error::new(action, Some(span), Cause::DeviceMemory)),
            false => Ok(()),
        }
    }

    /// The cause behind EFAULT, which says nothing: looks at the length, the free space, the medium. In a view, at what
    /// stands at its first byte.
    pub(super) fn fault(&self, action: &'static str, span: Span, how: Populate) -> Error {
        let file = self.layout().map(|layout| layout.behind(span, self.page()));
        match file {
            None => self.fault_in_file(action, span, how),
            Some(file) => Error {
                view: Some(span.start()),
                ..self.fault_in_file(action, file.unwrap_or(span), how)
            },
        }
    }

    fn fault_in_file(&self, action: &'static str, span: Span, how: Populate) -> Error {
        let error = |cause| Error::new(action, Some(span), cause);
        let Ok(file) = self.backing().file(action) else {
            return error(Cause::Sys(Errno::EFAULT));
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
                        Cause::PastEnd { len }
                    } else {
                        Cause::Shrunk { len }
                    },
                );
            }
            _ => {}
        }
        if how == Populate::Write && self.backing().facts().writable {
            let page = self.backing().facts().page;
            let first = Span::at(span.start(), 1).unwrap_or(span).pages(page);
            if let Err(Error {
                cause: cause @ (Cause::Full(_) | Cause::Sys(Errno::EPERM | Errno::EIO)),
                ..
            }) = self
                .backing()
                .allocate(first.intersect(Span::first(self.backing().facts().len)))
            {
                return error(cause);
            }
        }
        if let Err(errno) = nix::sys::uio::pread(file, &mut [0], span.start() as i64) {
            return error(Cause::Sys(errno));
        }
        // A load of a hole takes a page on tmpfs, and a full one has none to give.
        if nix::sys::statfs::fstatfs(file).is_ok_and(|fs| fs.blocks_available() == 0) {
            return error(Cause::Full(Errno::ENOSPC));
        }
        // All is well now, so the page must have been past the end for a moment.
        error(Cause::Vanished)
    }
}

/// Says to `step` that `done` bytes are done; where it asks to stop, that is an error at the start of `rest`.
pub(super) fn stepped(step: &mut Step<'_>, done: u64, action: &'static str, rest: Span) -> Result<()> {
    step(done).map_err(|Interrupted(signal)| Error::new(action, Some(rest), Cause::Interrupted(signal)))
}

/// How many of `pieces` one preadv takes, those that lie in `window` whole, with their payload in one run, and how many
/// bytes they have: no more than the window has.
fn batch(pieces: &[Piece], window: Span) -> (usize, u64) {
    let Some(first) = pieces.first() else {
        return (0, 0);
    };
    let mut len = 0;
    let fits = |piece: &&Piece| {
        let fits = piece.from == first.from + len && window.contains(piece.span()) && len + piece.len <= window.len();
        len += if fits { piece.len } else { 0 };
        fits
    };
    let count = pieces.iter().take(PIECES).take_while(fits).count();
    (count, len)
}

/// What is left of `piece` behind its first `len` bytes.
fn after(piece: Piece, len: u64) -> Piece {
    Piece {
        at: piece.at + len,
        len: piece.len - len,
        from: piece.from + len,
    }
}

/// Where the byte that `done` others came before belongs: from there to its piece's end.
fn locate(pieces: &[Piece], done: u64) -> Option<Span> {
    let mut before = 0;
    for piece in pieces {
        if done < before + piece.len {
            return Some(piece.span().from(piece.at + (done - before)));
        }
        before += piece.len;
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Access, Backing, Prot};
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// A file of 6 MiB, as it was looked at, of which `len` bytes are left; with the bytes that it had.
    pub(in super::super) fn six_mebibytes(len: u64) -> (Vec<u8>, Region) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..6 << 18u32).flat_map(u32::to_le_bytes).collect();
        file.write_all(&bytes).unwrap();
        let backing = Backing::open(file.path(), Access::Read, Duration::ZERO).unwrap();
        let region = Region::sliding(backing, Prot::Read).unwrap();
        file.as_file().set_len(len).unwrap();
        (bytes, region)
    }

    /// What came of the bytes of `span`, of a file of 6 MiB of which `len` are left when it comes to reading: where each
    /// piece began, the bytes, and the error. At `stop` the receiver wants no more.
    fn read(span: Span, len: u64, ahead: bool, stop: u64) -> (Vec<u64>, Vec<u8>, Option<String>) {
        let (bytes, mut region) = six_mebibytes(len);
        let (mut starts, mut all) = (Vec::new(), Vec::new());
        let each = |at, bytes: &[u8]| {
            starts.push(at);
            all.extend_from_slice(bytes);
            match at >= stop {
                true => Err(Error::new("take", None, Cause::Interrupted(2))),
                false => Ok(()),
            }
        };
        let result = match ahead {
            true => region.read_ahead(span, each),
            false => region.read_chunks(span, each),
        };
        assert!(all.iter().eq(&bytes[span.start() as usize..][..all.len()]));
        (starts, all, result.err().map(|error| error.to_string()))
    }

    /// A file of 5000 bytes, as it was looked at, of which 4500 are left.
    fn cut(prot: Prot) -> (tempfile::NamedTempFile, Region) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'A'; 5000]).unwrap();
        let access = if prot.writes() { Access::Write } else { Access::Read };
        let backing = Backing::open(file.path(), access, Duration::ZERO).unwrap();
        let region = Region::sliding(backing, prot).unwrap();
        file.as_file().set_len(4500).unwrap();
        (file, region)
    }

    #[test]
    fn what_was_cut_off_within_a_page_is_not_read_as_zeros() {
        let (_file, mut region) = cut(Prot::Read);
        let mut buf = [0; 1000];
        assert!(region.read(3500, &mut buf).is_ok());
        let error = region.read(4000, &mut buf).unwrap_err();
        assert_eq!(error.cause, Cause::Shrunk { len: 4500 });
        assert_eq!((error.place(), &buf[..500]), (Some(4500), &[b'A'; 500][..]));
        let mut seen = Vec::new();
        let result = region.read_chunks(Span::first(5000), |_, bytes| {
            seen.extend_from_slice(bytes);
            Ok::<_, Error>(())
        });
        assert_eq!(result.unwrap_err().cause, Cause::Shrunk { len: 4500 });
        assert_eq!(seen, [b'A'; 4500]);
    }

    #[test]
    fn nor_where_the_page_behind_it_is_gone_too() {
        let (file, mut region) = cut(Prot::Read);
        file.as_file().set_len(100).unwrap();
        let error = region.read(0, &mut [0; 5000]).unwrap_err();
        assert_eq!(
            (error.cause.clone(), error.place()),
            (Cause::Shrunk { len: 100 }, Some(100))
        );
    }

    #[test]
    fn what_is_stored_behind_an_end_that_has_moved_is_not_called_stored() {
        let (file, mut region) = cut(Prot::ReadWrite);
        let mut payload = tempfile::tempfile().unwrap();
        payload.write_all(b"BBBB").unwrap();
        let mut store = |at| region.store(&[Piece { at, len: 4, from: 0 }], payload.as_fd(), &mut |_| Ok(()));
        for (at, gone) in [(4990, 4990), (4498, 4500)] {
            let error = store(at).unwrap_err();
            assert_eq!((error.cause, error.stored), (Cause::Shrunk { len: 4500 }, 4));
            assert_eq!(error.span.map(Span::start), Some(gone));
        }
        store(4400).unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!((bytes.len(), &bytes[4400..4404]), (4500, &b"BBBB"[..]));
    }

    #[test]
    fn a_thread_that_reads_ahead_gives_the_same_bytes_and_meets_the_same_error() {
        let whole = Span::first(6 << 20);
        for span in [whole, whole.from(12_345), whole.from(5 << 20), Span::first(0)] {
            for (len, stop) in [
                (6 << 20, u64::MAX),
                (4 << 20, u64::MAX),
                (0, u64::MAX),
                (6 << 20, 5 << 20),
            ] {
                let alone = read(span, len, false, stop);
                let fails = !span.is_empty() && (len < 6 << 20 || stop < u64::MAX);
                assert_eq!(alone.2.is_some(), fails, "{span}, {len} left");
                assert_eq!(alone, read(span, len, true, stop), "{span}, {len} left");
            }
        }
    }
}
