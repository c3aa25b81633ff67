//! Searches a file for bytes, piece by piece, including matches across the borders of pieces.

use super::numeric::MaskedBytes;
use crate::edit::error::{Error, Outcome, Result};
use crate::mapping::{self, ByteRange, Chunk, Content, Cut, Operation, ProgressFn, Region, scan};
use crate::text::FILE;
use memchr::memmem::Finder;
use std::ops::Range;

/// Which of the matches are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// The only match.
    Only,
    /// All matches; of overlapping ones, the first of each cluster.
    All,
    /// The n-th match, from 1, counted as in `All`.
    Nth(u64),
}

/// How many offsets a message lists.
const NAMED: usize = 8;

/// How many pieces each thread may search ahead of the consumer.
const AHEAD: usize = 6;

/// Whether another command, without the session, would show the same bytes at the same offsets.
pub fn has_bytes_of_file(region: &Region) -> bool {
    region.is_shared_file() && region.layout().is_none() && region.backing().path().is_some()
}

/// Returns the offsets in `range` at which `pattern` matches, as many as `which` asks for.
///
/// # Errors
/// If there is no match, or if there are several where only one is allowed (exit code 1, with their offsets).
pub fn find(
    region: &mut Region,
    range: ByteRange,
    pattern: &MaskedBytes,
    which: Find,
    step: &mut ProgressFn<'_>,
) -> Result<Vec<u64>> {
    let needle = Needle::new(pattern);
    let mut matches = Matches::new(which, pattern.bytes.len());
    let shows = match has_bytes_of_file(region) {
        true => format!("'mmapctl cat {FILE} -x'"),
        false => "-c 'cat -x' in the session".into(),
    };
    let source = region.source(Operation::Read, range)?;
    // A match that begins in a piece may end after it.
    let pieces = Cut::with_holes(range).overlapping(pattern.bytes.len().saturating_sub(1) as u64);
    let search = |piece: &Chunk<(), 1>, [content]: [Content<'_>; 1], runs: &mut Vec<Range<u64>>| {
        runs.clear();
        needle.search(piece.range.start(), content, piece.overlap, runs);
    };
    let searched =
        scan([source], AHEAD, pieces, search, |piece, runs| match runs.drain(..).any(|run| matches.add(run)) {
            true => Err(Stop::Found),
            false => step(piece.range.end() - range.start()).map_err(|signal| Stop::Failed(signal.into())),
        });
    if let Err(Stop::Failed(error)) = searched {
        return Err(error);
    }
    let Matches { found, count, .. } = matches;
    let answer = |message: String, tip: &str| Err(Error::new(Outcome::Mismatch, message).tip(tip));
    match which {
        _ if count == 0 => answer(
            format!("the pattern was not found in {range}; nothing was written"),
            &format!("{shows} shows what is there; this also happens if the same patch is run a second time"),
        ),
        Find::Nth(nth) if nth > count => answer(
            format!(
                "{}, but number {nth} was requested; nothing was written",
                match count {
                    1 => "there is 1 match".to_string(),
                    count => format!("there are {count} matches"),
                }
            ),
            "count from 1, or give --all",
        ),
        Find::Only if count > 1 => {
            let offsets: Vec<_> = found.iter().map(|at| format!("{at:#x}")).collect();
            let more = if count as usize > found.len() { ", …" } else { "" };
            answer(
                format!("{count} matches, at {}{more}; nothing was written", offsets.join(", ")),
                "choose one with --nth N, all with --all, or search only a part with --range",
            )
        }
        _ => Ok(found),
    }
}

/// Why a search ends before the end of its range.
enum Stop {
    /// The wanted match was found.
    Found,
    Failed(Error),
}

impl From<mapping::Error> for Stop {
    fn from(error: mapping::Error) -> Stop {
        Stop::Failed(error.into())
    }
}

/// Collects the wanted matches.
struct Matches {
    which: Find,
    /// The length of the pattern in bytes.
    len: u64,
    /// The offsets of the matches, as far as they are wanted or listed in a message.
    found: Vec<u64>,
    count: u64,
    /// The end of the previous match: the first offset that does not overlap it.
    free: u64,
}

impl Matches {
    fn new(which: Find, len: usize) -> Matches {
        Matches {
            which,
            len: len as u64,
            found: Vec::new(),
            count: 0,
            free: 0,
        }
    }

    /// Adds matches that begin at each offset of `run`, including overlapping ones; returns whether all wanted matches
    /// are found.
    fn add(&mut self, run: Range<u64>) -> bool {
        if self.which == Find::Only {
            self.count += run.end - run.start;
            self.found.extend(run.take(NAMED - self.found.len()));
            return false;
        }
        // Overlapping matches answer "where is it" separately, but are one place to write to.
        let mut place = run.start.max(self.free);
        if let Find::Nth(nth) = self.which {
            let there = run.end.saturating_sub(place).div_ceil(self.len);
            let before = there.min(nth - self.count - 1);
            (self.count, place) = (self.count + before, place + before * self.len);
        }
        while place < run.end {
            self.count += 1;
            self.found.push(place);
            place += self.len;
            if self.which == Find::Nth(self.count) {
                return true;
            }
        }
        self.free = self.free.max(place);
        false
    }
}

/// A pattern prepared for searching, shared by any number of threads.
struct Needle<'a> {
    pattern: &'a MaskedBytes,
    /// The part of the pattern that is searched for first.
    anchor: Range<usize>,
    finder: Finder<'a>,
    /// For each prefix of the anchor, from one byte up, the length of its longest border (see [`borders`]).
    borders: Vec<usize>,
}

impl<'a> Needle<'a> {
    fn new(pattern: &'a MaskedBytes) -> Needle<'a> {
        let anchor = anchor(pattern);
        let run = &pattern.bytes[anchor.clone()];
        Needle {
            pattern,
            finder: Finder::new(run),
            borders: borders(run),
            anchor,
        }
    }

    /// Appends the offsets of all matches in `content`, which begins at the offset `at`, as runs of consecutive
    /// offsets. A hole is followed by `overlap` more bytes of zeros.
    fn search(&self, at: u64, content: Content<'_>, overlap: u64, runs: &mut Vec<Range<u64>>) {
        match content {
            Content::Zeros(len) => {
                let places = (len + overlap + 1).saturating_sub(self.pattern.bytes.len() as u64);
                if places > 0 && matches(&vec![0; self.pattern.bytes.len()], self.pattern) {
                    runs.push(at..at + places);
                }
            }
            Content::Bytes(text) => {
                let mut search = Search {
                    needle: self,
                    text,
                    from: self.anchor.start,
                    begun: 0,
                };
                while let Some(place) = search.next() {
                    let place = at + place as u64;
                    match runs.last_mut().filter(|run| run.end == place) {
                        Some(run) => run.end += 1,
                        None => runs.push(place..place + 1),
                    }
                }
            }
        }
    }
}

/// A search in bytes. It yields every match in order, including overlapping ones. It finds the anchor in linear time,
/// however repetitive the anchor is.
struct Search<'a> {
    needle: &'a Needle<'a>,
    text: &'a [u8],
    /// The position in `text` at which the search continues.
    from: usize,
    /// How many bytes before `from` are known to be a prefix of the anchor, from the previous occurrence; 0 if nothing
    /// is known.
    begun: usize,
}

impl Search<'_> {
    /// The position in the text at which the next match begins.
    fn next(&mut self) -> Option<usize> {
        let Needle { pattern, anchor, .. } = self.needle;
        let len = pattern.bytes.len();
        // Past this end the rest of a match would not fit.
        let end = (self.text.len() + anchor.end).checked_sub(len)?;
        while let Some(place) = self.next_anchor(end) {
            let start = place - anchor.start;
            if anchor.len() == len || matches(&self.text[start..start + len], pattern) {
                return Some(start);
            }
        }
        None
    }

    /// The position of the next occurrence of the anchor before `end`.
    fn next_anchor(&mut self, end: usize) -> Option<usize> {
        let Needle {
            pattern,
            anchor,
            finder,
            borders,
        } = self.needle;
        let run = &pattern.bytes[anchor.clone()];
        // The end of the previous occurrence may be the beginning of the next one (Knuth, Morris and Pratt). zero:4K in
        // 64 MiB of zeros takes 0.16 s; if each search began anew, it would take 66 s.
        while self.begun > 0 {
            let byte = self.text[..end].get(self.from)?;
            self.from += 1;
            while self.begun > 0 && run[self.begun] != *byte {
                self.begun = borders[self.begun - 1];
            }
            self.begun += usize::from(run[self.begun] == *byte);
            if self.begun == run.len() {
                self.begun = borders[run.len() - 1];
                return Some(self.from - run.len());
            }
        }
        let place = self.from + finder.find(self.text.get(self.from..end)?)?;
        self.from = place + run.len().max(1);
        self.begun = borders.last().copied().unwrap_or(0);
        Some(place)
    }
}

/// For each prefix of `run`, the length of its longest border: a shorter prefix that is also a suffix of it.
fn borders(run: &[u8]) -> Vec<usize> {
    let mut borders = Vec::with_capacity(run.len());
    let mut len = 0;
    for (index, byte) in run.iter().enumerate() {
        while len > 0 && run[len] != *byte {
            len = borders[len - 1];
        }
        len += usize::from(index > 0 && run[len] == *byte);
        borders.push(len);
    }
    borders
}

/// The longest part of the pattern without a wildcard, which can be searched for quickly; it may be empty.
fn anchor(pattern: &MaskedBytes) -> Range<usize> {
    let mut best = 0..0;
    let mut start = 0;
    for (index, mask) in pattern.mask.iter().enumerate() {
        if *mask != 0xff {
            start = index + 1;
        } else if index + 1 - start > best.len() {
            best = start..index + 1;
        }
    }
    best
}

fn matches(part: &[u8], pattern: &MaskedBytes) -> bool {
    // The compiler turns a block without branches into a few wide instructions.
    const BLOCK: usize = 64;
    let mut blocks = (part.chunks(BLOCK)).zip(pattern.bytes.chunks(BLOCK)).zip(pattern.mask.chunks(BLOCK));
    blocks.all(|((have, want), mask)| {
        let bytes = have.iter().zip(want).zip(mask);
        bytes.fold(0, |other, ((have, want), mask)| other | ((have ^ want) & mask)) == 0
    })
}

#[cfg(test)]
mod tests;
