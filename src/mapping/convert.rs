//! A range made into something else by as many threads as help, a piece at a time, and taken in order.

use super::backing::Backing;
use super::error::{Error, Result};
use super::region::Region;
use super::span::Span;
use super::threads::{Helped, helpers, start_helper};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};

/// About how many bytes a piece has: with what is made of it, it stays in the second-level cache.
const PIECE: u64 = 64 << 10;

/// From so many bytes on a second thread is worth its start.
const LONG: u64 = 1 << 20;

/// How many pieces that are not due yet a thread may have made. With fewer they wait for each other, and what wakes them
/// up may put both on one processor.
const AHEAD: usize = 3;

/// Puts what it makes of bytes that begin at that offset in place of what is there.
type Convert<'a, T> = dyn Fn(u64, &[u8], &mut T) + Sync + 'a;

impl Region {
    /// Hands what `convert` makes of the bytes of `span` to `each`, in order, with the offset behind them. Bytes come to
    /// `convert` in pieces of whole `row`s (bytes), except at the end and before a page that cannot be read; on any
    /// thread, in any order, so what it makes of one piece must not depend on another. It is given memory to use again.
    ///
    /// Bytes that are the file's come by pread(2), which takes no page faults and keeps no other thread from mapping.
    ///
    /// # Errors
    /// As for [`Region::read`], once `each` has had what stands before; what `each` gives.
    pub fn convert<T: Default + Send, E: From<Error>>(
        &mut self,
        span: Span,
        row: u64,
        convert: &Convert<'_, T>,
        mut each: impl FnMut(u64, &T) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let span = self.check_read(Some(span))?;
        self.refuse_device_memory("read", span)?;
        let work = &Work::new(span, row, convert);
        if !self.is_the_files() {
            return work.alone(self, each);
        }
        // What cannot be mapped is refused, however it would be read.
        if !span.is_empty() {
            self.reach(span.start())?;
        }
        let backing = self.backing();
        let most = if span.len() < LONG { 0 } else { helpers() };
        thread::scope(|scope| {
            let (give, take) = channel();
            let helpers: Vec<_> = (0..most)
                .map_while(|helper| work.help(scope, helper, backing, give.clone()))
                .collect();
            drop(give);
            let mut own: Vec<T> = (0..AHEAD).map(|_| T::default()).collect();
            let (mut bytes, mut early) = (Vec::new(), BTreeMap::new());
            let mut due = 0;
            while due < work.count() {
                early.extend(take.try_iter().map(|made: Made<T>| (made.number, made)));
                if let Some(made) = early.remove(&due) {
                    each(work.piece(due).end(), &made.content)?;
                    made.result?;
                    match made.helper.and_then(|helper| helpers.get(helper)) {
                        // One that has found no more to do is gone.
                        Some(free) => drop(free.send(made.content)),
                        None => own.push(made.content),
                    }
                    due += 1;
                    continue;
                }
                work.helped.is_here();
                let made = match own
                    .pop()
                    .and_then(|content| work.next(backing, None, &mut bytes, content))
                {
                    Some(made) => made,
                    // A helper has no way to end with a piece that it has taken and not given.
                    None => take.recv().map_err(|_| Error::sys("read", None, Errno::EIO))?,
                };
                early.insert(made.number, made);
            }
            Ok(())
        })
    }
}

/// A range, and how much of it nobody has taken yet.
struct Work<'a, T> {
    span: Span,
    /// Bytes of a piece; the last may have fewer.
    step: u64,
    /// The number of the next piece.
    next: AtomicU64,
    convert: &'a Convert<'a, T>,
    helped: Helped,
}

/// What was made of a piece, as far as its bytes could be read.
struct Made<T> {
    number: u64,
    /// Whose memory `content` is; the first thread's, if nobody's.
    helper: Option<usize>,
    content: T,
    result: Result<()>,
}

impl<'a, T: Default + Send> Work<'a, T> {
    fn new(span: Span, row: u64, convert: &'a Convert<'a, T>) -> Self {
        let row = row.max(1);
        Work {
            span,
            step: (PIECE / row).max(1).saturating_mul(row),
            next: AtomicU64::new(0),
            convert,
            helped: Helped::here(),
        }
    }

    fn count(&self) -> u64 {
        self.span.len().div_ceil(self.step)
    }

    fn piece(&self, number: u64) -> Span {
        let rest = self.span.from(self.span.start() + number * self.step);
        rest.intersect(Span::at(rest.start(), self.step).unwrap_or(rest))
    }

    /// One piece after the other, through the mapping.
    fn alone<E: From<Error>>(
        &self,
        region: &mut Region,
        mut each: impl FnMut(u64, &T) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (mut bytes, mut content) = (Vec::new(), T::default());
        for piece in (0..self.count()).map(|number| self.piece(number)) {
            let result = region.read_chunk(piece, &mut bytes);
            (self.convert)(piece.start(), &bytes, &mut content);
            each(piece.end(), &content)?;
            result?;
        }
        Ok(())
    }

    /// Takes the next piece and makes it, in the memory of `content`; `bytes` is memory to read into. `None` when each piece
    /// has somebody.
    fn next(&self, backing: &Backing, helper: Option<usize>, bytes: &mut Vec<u8>, mut content: T) -> Option<Made<T>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.count() {
            return None;
        }
        let piece = self.piece(number);
        let result = backing.read(piece, bytes);
        (self.convert)(piece.start(), bytes, &mut content);
        Some(Made {
            number,
            helper,
            content,
            result,
        })
    }

    /// Starts a thread that makes pieces in the memory it is sent, and ends when there is no more of either. `None` where
    /// no thread is to be had.
    fn help<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        helper: usize,
        backing: &'scope Backing,
        give: Sender<Made<T>>,
    ) -> Option<Sender<T>> {
        let (free, contents): (_, Receiver<T>) = channel();
        for _ in 0..AHEAD {
            free.send(T::default()).ok()?;
        }
        let work = move || {
            let mut bytes = Vec::new();
            for content in contents {
                self.helped.keep_off();
                let made = self.next(backing, Some(helper), &mut bytes, content);
                // Nobody takes it any more when what stood before it was wrong.
                if made.is_none_or(|made| give.send(made).is_err()) {
                    return;
                }
            }
        };
        start_helper(scope, work)?;
        Some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cause;
    use super::super::transfer::tests::six_mebibytes;
    use super::*;

    /// What `convert` gave for `span` of a file of 6 MiB of which `len` bytes are left when it comes to reading: where the
    /// pieces ended, and the error. It wants no more from `stop` on. What is made of bytes here is each of them, plus one.
    fn convert(span: Span, row: u64, len: u64, stop: u64) -> (Vec<u64>, Option<Error>) {
        let (bytes, mut region) = six_mebibytes(len);
        let (mut ends, mut all) = (Vec::new(), Vec::new());
        let plus_one = |at: u64, bytes: &[u8], out: &mut Vec<u8>| {
            assert_eq!((at - span.start()) % row, 0);
            out.clear();
            out.extend(bytes.iter().map(|byte| byte.wrapping_add(1)));
        };
        let result = region.convert(span, row, &plus_one, |end, text: &Vec<u8>| {
            ends.push(end);
            all.extend_from_slice(text);
            match end >= stop {
                true => Err(Error::new("take", None, Cause::Interrupted(2))),
                false => Ok(()),
            }
        });
        let expected = bytes[span.start() as usize..][..all.len()].iter();
        assert!(expected.map(|byte| byte.wrapping_add(1)).eq(all.iter().copied()));
        let there = if result.is_ok() {
            span.len()
        } else {
            len.min(stop) - span.start()
        };
        assert!(all.len() as u64 >= there, "{} of {there} bytes", all.len());
        (ends, result.err())
    }

    #[test]
    fn pieces_come_in_order_and_whole() {
        let whole = Span::first(6 << 20);
        for (span, row) in [
            (whole, 16),
            (whole, 30),
            (whole.from(12_345), 12),
            (whole.from((6 << 20) - 100), 16),
            (whole, 100_000),
            (Span::first(0), 16),
        ] {
            let (ends, error) = convert(span, row, 6 << 20, u64::MAX);
            assert!(error.is_none(), "{error:?}");
            assert!(ends.is_sorted());
            assert_eq!(ends.last().copied().unwrap_or(0), span.end());
            let step = (PIECE / row).max(1) * row;
            assert_eq!(ends.len() as u64, span.len().div_ceil(step));
        }
    }

    #[test]
    fn what_stands_before_an_error_comes_first() {
        let whole = Span::first(6 << 20);
        for len in [0, 5000, (3 << 20) + 77] {
            let (_, error) = convert(whole, 16, len, u64::MAX);
            let error = error.unwrap();
            assert_eq!((error.cause.clone(), error.place()), (Cause::Shrunk { len }, Some(len)));
        }
    }

    #[test]
    fn who_wants_no_more_gets_no_more() {
        let (ends, error) = convert(Span::first(6 << 20), 16, 6 << 20, 1 << 20);
        assert_eq!(error.unwrap().cause, Cause::Interrupted(2));
        assert_eq!(ends.last(), Some(&(1 << 20)));
    }
}
