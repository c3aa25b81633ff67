//! The file's bytes under edits, part by part; where the edits are many, a second thread reads ahead.

use super::compare::read_or_zeros;
use crate::edit::error::{Error, Result};
use crate::mapping::{Ahead, Piece, Region, Span};
use std::collections::VecDeque;
use std::ops::Range;
use std::thread::Scope;

/// Edits closer than this are read together.
const NEAR: u64 = 4096;

/// The most that is read together, and the step in which a longer edit is read.
const TOGETHER: u64 = 256 << 10;

/// How many parts are under way at a time.
const AHEAD: usize = 8;

/// Every so many parts the thread leaves one to be read by the other, which would wait for it else.
const SHARE: usize = 4;

/// A range that is read at a time, with several edits in it, or some of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The edits, by their place in the list.
    pub edits: Range<usize>,
    /// The range.
    pub span: Span,
}

/// The parts of a region that edits lie in, in order.
pub struct Parts<'a> {
    region: &'a mut Region,
    thread: Option<Ahead<Error>>,
    /// Those that the thread was asked for, and between them those that it was not.
    queue: VecDeque<(Part, Reader)>,
    /// How many have been in the queue.
    queued: usize,
    /// Of what was cut last: its edits, and what is left of its range.
    edits: Range<usize>,
    rest: Span,
}

/// Who reads a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Thread,
    Caller,
}

impl<'a> Parts<'a> {
    /// The parts of `region`, none of them read yet; by a thread in `scope` if there is one. It ends with the parts.
    pub fn new<'scope>(region: &'a mut Region, scope: Option<&'scope Scope<'scope, '_>>) -> Parts<'a> {
        let thread = scope.and_then(|scope| Ahead::start(scope, region, read_or_zeros));
        Parts {
            region,
            thread,
            queue: VecDeque::new(),
            queued: 0,
            edits: 0..0,
            rest: Span::first(0),
        }
    }

    /// The next part in which edits of `list` lie, which is the same each time, and its bytes in place of those in
    /// `have`: zeros behind the end of the region. `None` behind the last one.
    ///
    /// # Errors
    /// What keeps the part from being read: the first in the order of the file, whoever reads.
    pub fn next(&mut self, list: &[Piece], have: &mut Vec<u8>) -> Result<Option<Part>> {
        self.fill_queue(list, have);
        let Some((part, reader)) = self.queue.pop_front() else {
            return Ok(None);
        };
        match &self.thread {
            Some(thread) if reader == Reader::Thread => {
                let (bytes, result) = thread.take();
                *have = bytes;
                result?;
            }
            _ => read_or_zeros(self.region, part.span, have)?,
        }
        Ok(Some(part))
    }

    /// Asks the thread for what comes next; the memory of `have` serves for one part of it.
    fn fill_queue(&mut self, list: &[Piece], have: &mut Vec<u8>) {
        let most = if self.thread.is_some() { AHEAD } else { 1 };
        while self.queue.len() < most
            && let Some(part) = self.cut(list)
        {
            self.queued += 1;
            let reader = match &self.thread {
                Some(thread) if !self.queued.is_multiple_of(SHARE) => {
                    thread.ask(part.span, std::mem::take(have));
                    Reader::Thread
                }
                _ => Reader::Caller,
            };
            self.queue.push_back((part, reader));
        }
    }

    fn cut(&mut self, list: &[Piece]) -> Option<Part> {
        if self.rest.is_empty() {
            let (count, span) = together(list.get(self.edits.end..)?)?;
            self.edits = self.edits.end..self.edits.end + count;
            self.rest = span;
        }
        // Either several edits in one part, or one edit in several.
        let step = if self.edits.len() > 1 { u64::MAX } else { TOGETHER };
        let span = self.rest.windows(step).next()?;
        self.rest = self.rest.from(span.end());
        Some(Part {
            edits: self.edits.clone(),
            span,
        })
    }
}

/// How many of the edits in `list` are read together, and the range that holds them.
fn together(list: &[Piece]) -> Option<(usize, Span)> {
    let (first, others) = list.split_first()?;
    let mut span = first.span();
    let mut count = 1;
    for edit in others {
        let joined = span.join(edit.span());
        if edit.at > span.end() + NEAR || joined.len() > TOGETHER {
            break;
        }
        span = joined;
        count += 1;
    }
    Some((count, span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Access, Backing, Prot};
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    /// The length of the file.
    const LEN: u64 = 2 << 20;

    /// All parts of a file of 2 MiB, of which `len` bytes are left when it comes to reading, and the bytes in them; and
    /// what went wrong, if anything.
    fn read(list: &[Piece], len: u64, with_thread: bool) -> (Vec<(Part, Vec<u8>)>, Option<String>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..LEN as u32 / 4).flat_map(u32::to_le_bytes).collect();
        file.write_all(&bytes).unwrap();
        let backing = Backing::open(file.path(), Access::Read, Duration::ZERO).unwrap();
        let mut region = Region::sliding(backing, Prot::Read).unwrap();
        file.as_file().set_len(len).unwrap();
        let mut all = Vec::new();
        let mut have = Vec::new();
        thread::scope(|scope| {
            let mut parts = Parts::new(&mut region, Some(scope).filter(|_| with_thread));
            assert_eq!(parts.thread.is_some(), with_thread);
            loop {
                match parts.next(list, &mut have) {
                    Ok(Some(part)) => all.push((part, have.clone())),
                    Ok(None) => return (all, None),
                    Err(error) => return (all, Some(format!("{error}"))),
                }
            }
        })
    }

    #[test]
    fn a_thread_reads_the_same_parts_and_meets_the_same_error() {
        let piece = |at: u64, len: u64| Piece { at, len, from: 0 };
        let scattered: Vec<Piece> = (0..250).map(|index| piece(index * 8000 + 3, 5)).collect();
        let crowded: Vec<Piece> = (0..25_000).map(|index| piece(index * 83, 9)).collect();
        let long = [piece(1, 3), piece(5000, LEN / 2), piece(LEN / 2 + 6000, LEN / 2 - 9)];
        for list in [&scattered[..], &crowded, &long, &[]] {
            for len in [LEN, LEN / 3, 0] {
                let (alone, error) = read(list, len, false);
                assert_eq!(error.is_some(), len < LEN && !list.is_empty());
                for (part, have) in &alone {
                    let byte = |at: u64| (at / 4).to_le_bytes()[at as usize % 4] * u8::from(at < LEN);
                    let span = part.span;
                    assert!(have.iter().copied().eq((span.start()..span.end()).map(byte)), "{span}");
                }
                assert!((alone, error) == read(list, len, true), "{} left", len);
            }
        }
    }
}
