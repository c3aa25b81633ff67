//! Looking for bytes in a file, window by window, across their borders.

use super::number::Masked;
use crate::edit::error::{Error, Outcome, Result};
use crate::mapping::{self, Region, Span, Step};
use crate::text::FILE;
use memchr::memmem::Finder;
use std::ops::Range;

/// Which of the matches are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// The only one.
    Only,
    /// All of them; where they overlap, the first of each cluster.
    All,
    /// The n-th, from 1, counted as for all.
    Nth(u64),
}

/// How many offsets a message names.
const NAMED: usize = 8;

/// The offsets in `span` at which `pattern` stands, as many as `which` asks for.
///
/// # Errors
/// None where there must be one, or several where there must be but one (exit code 1), with their offsets.
pub fn find(region: &mut Region, span: Span, pattern: &Masked, which: Find, step: &mut Step<'_>) -> Result<Vec<u64>> {
    let mut found: Vec<u64> = Vec::new();
    let mut count = 0u64;
    let mut search = Search::new(span.start(), pattern);
    let searched = region.read_ahead(span, |at, bytes| {
        search.feed(bytes);
        while let Some(place) = search.next() {
            count += 1;
            let keep = match which {
                Find::All => true,
                Find::Nth(nth) => count == nth,
                Find::Only => found.len() < NAMED,
            };
            if keep {
                found.push(place);
            }
            if which == Find::Nth(count) {
                return Err(Stop::Found);
            }
            // Overlapping matches are two answers to "where is it", but one place to write to.
            if which != Find::Only {
                search.pass_over();
            }
        }
        step(at + bytes.len() as u64 - span.start()).map_err(|signal| Stop::Failed(signal.into()))
    });
    if let Err(Stop::Failed(error)) = searched {
        return Err(error);
    }
    let answer = |message: String, tip: &str| Err(Error::new(Outcome::Mismatch, message).tip(tip));
    match which {
        _ if count == 0 => answer(
            format!("the bytes to find are not in {span}; nothing was written"),
            &format!("'mmapctl cat {FILE} -x' shows what is there; a second run of the same patch ends here, too"),
        ),
        Find::Nth(nth) if nth > count => answer(
            format!(
                "{}, and number {nth} is wanted; nothing was written",
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
                "take one with --nth N, all with --all, or look in a part with --range",
            )
        }
        _ => Ok(found),
    }
}

/// Why a search ends before its range does.
enum Stop {
    /// The match that is wanted is found.
    Found,
    Failed(Error),
}

impl From<mapping::Error> for Stop {
    fn from(error: mapping::Error) -> Stop {
        Stop::Failed(error.into())
    }
}

/// A pattern on its way through bytes that come in pieces. It meets every match, overlapping ones too, in order; the
/// places of the anchor among them in time that grows with the bytes alone, however often it repeats itself.
struct Search<'a> {
    pattern: &'a Masked,
    /// The part of the pattern that is looked for.
    anchor: Range<usize>,
    finder: Finder<'a>,
    /// How many bytes of the anchor's beginning it has again at the end of its first byte, of its first two, and so on.
    borders: Vec<usize>,
    /// Bytes not done with, of which the first is at this offset.
    text: Vec<u8>,
    begin: u64,
    /// Where in them the search goes on.
    from: usize,
    /// How many bytes before that are the anchor's beginning, as its last place told; 0 where nothing is known.
    begun: usize,
}

impl<'a> Search<'a> {
    fn new(begin: u64, pattern: &'a Masked) -> Search<'a> {
        let anchor = anchor(pattern);
        let run = &pattern.bytes[anchor.clone()];
        Search {
            pattern,
            finder: Finder::new(run),
            borders: borders(run),
            text: Vec::new(),
            begin,
            from: anchor.start,
            begun: 0,
            anchor,
        }
    }

    /// Takes the bytes that follow, once there is no match left in those before.
    fn feed(&mut self, bytes: &[u8]) {
        // A match that begins in the last len - 1 bytes has been seen only in part.
        let seen = (self.text.len() + 1).saturating_sub(self.pattern.bytes.len());
        self.text.drain(..seen);
        self.begin += seen as u64;
        self.from = self.from.saturating_sub(seen).max(self.anchor.start);
        self.text.extend_from_slice(bytes);
    }

    /// The offset of the next match that lies in the bytes there are as a whole.
    fn next(&mut self) -> Option<u64> {
        let len = self.pattern.bytes.len();
        // Behind this the rest of a match would have no room.
        let end = self.text.len().checked_sub(len - self.anchor.end)?;
        while let Some(place) = self.next_anchor(end) {
            let start = place - self.anchor.start;
            if self.anchor.len() == len || matches(&self.text[start..start + len], self.pattern) {
                return Some(self.begin + start as u64);
            }
        }
        None
    }

    /// Passes over what overlaps the match that was found last.
    fn pass_over(&mut self) {
        self.from += self.pattern.bytes.len() - self.anchor.len().max(1);
        self.begun = 0;
    }

    /// The next place of the anchor before `end`.
    fn next_anchor(&mut self, end: usize) -> Option<usize> {
        let run = &self.pattern.bytes[self.anchor.clone()];
        // What the last place of it ends with may begin the next one, as Knuth, Morris and Pratt have it.
        while self.begun > 0 {
            let byte = self.text[..end].get(self.from)?;
            self.from += 1;
            while self.begun > 0 && run[self.begun] != *byte {
                self.begun = self.borders[self.begun - 1];
            }
            self.begun += usize::from(run[self.begun] == *byte);
            if self.begun == run.len() {
                self.begun = self.borders[run.len() - 1];
                return Some(self.from - run.len());
            }
        }
        let place = self.from + self.finder.find(self.text.get(self.from..end)?)?;
        self.from = place + run.len().max(1);
        self.begun = self.borders.last().copied().unwrap_or(0);
        Some(place)
    }
}

/// For each beginning of `run`, the length of the longest shorter beginning of it that it ends with.
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

/// The longest run of the pattern without a wildcard, which is quick to look for; it may be empty.
fn anchor(pattern: &Masked) -> Range<usize> {
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

fn matches(part: &[u8], pattern: &Masked) -> bool {
    // So many at a time without a look at each, which the compiler makes a few wide instructions of.
    const BLOCK: usize = 64;
    let mut blocks = (part.chunks(BLOCK))
        .zip(pattern.bytes.chunks(BLOCK))
        .zip(pattern.mask.chunks(BLOCK));
    blocks.all(|((have, want), mask)| {
        let bytes = have.iter().zip(want).zip(mask);
        bytes.fold(0, |other, ((have, want), mask)| other | ((have ^ want) & mask)) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a search finds in `pieces`, all of it, or what does not overlap.
    fn found(pieces: &[&[u8]], pattern: &Masked, overlapping: bool) -> Vec<u64> {
        let mut search = Search::new(1000, pattern);
        let mut found = Vec::new();
        for piece in pieces {
            search.feed(piece);
            while let Some(at) = search.next() {
                found.push(at);
                if !overlapping {
                    search.pass_over();
                }
            }
        }
        found
    }

    /// The same, place by place.
    fn looked_up(text: &[u8], pattern: &Masked, overlapping: bool) -> Vec<u64> {
        let mut found = Vec::new();
        let mut free = 0;
        for (at, part) in text.windows(pattern.bytes.len()).enumerate() {
            let mut bytes = part.iter().zip(&pattern.bytes).zip(&pattern.mask);
            if at >= free && bytes.all(|((have, want), mask)| have & mask == want & mask) {
                found.push(1000 + at as u64);
                free = if overlapping { 0 } else { at + part.len() };
            }
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn a_search_finds_what_looking_at_every_place_finds(
            text in proptest::collection::vec(0..2u8, 0..120),
            pattern in proptest::collection::vec((0..2u8, prop_oneof![6 => Just(0xff), 1 => Just(0), 1 => Just(0xf1)]), 1..9),
            size in 1..40usize,
        ) {
            let (bytes, mask): (Vec<u8>, Vec<u8>) = pattern.into_iter().unzip();
            let bytes = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
            let pattern = Masked { bytes, mask };
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            for overlapping in [true, false] {
                prop_assert_eq!(
                    found(&pieces, &pattern, overlapping),
                    looked_up(&text, &pattern, overlapping)
                );
            }
        }
    }

    #[test]
    fn a_long_pattern_that_repeats_itself_is_looked_for_once_a_byte() {
        let pattern = Masked {
            bytes: vec![0; 60_000],
            mask: vec![0xff; 60_000],
        };
        // Going over the pattern for each place would take a minute of a test.
        let text = vec![0; 1_000_000];
        let pieces: Vec<&[u8]> = text.chunks(256 << 10).collect();
        assert!(found(&pieces, &pattern, true).into_iter().eq(1000..941_001));
        assert_eq!(
            found(&pieces, &pattern, false),
            (0..16).map(|n| 1000 + n * 60_000).collect::<Vec<u64>>()
        );
    }

    #[test]
    fn the_anchor_is_the_longest_exact_run() {
        let anchor_of = |mask: &[u8]| {
            anchor(&Masked {
                bytes: vec![0; mask.len()],
                mask: mask.to_vec(),
            })
        };
        assert_eq!(anchor_of(&[0xff, 0, 0xff, 0xff, 0xf0]), 2..4);
        assert_eq!(anchor_of(&[0xff; 3]), 0..3);
        assert_eq!(anchor_of(&[0xf0, 0x0f]), 0..0);
    }
}
