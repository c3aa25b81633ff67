//! Looking for bytes in a file, window by window, across their borders.

use super::value::Masked;
use crate::exit::{Exit, Failure};
use crate::mapping::{Region, Span, Step};
use memchr::memmem::Finder;

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
pub fn find(
    region: &mut Region,
    span: Span,
    pattern: &Masked,
    which: Find,
    step: &mut Step<'_>,
) -> anyhow::Result<Vec<u64>> {
    let mut found: Vec<u64> = Vec::new();
    let mut count = 0u64;
    let mut free = 0;
    let len = pattern.bytes.len() as u64;
    each_match(region, span, pattern, step, |at| {
        // Overlapping matches are two answers to "where is it", but one place to write to.
        if which != Find::Only && at < free {
            return;
        }
        free = at + len;
        count += 1;
        let keep = match which {
            Find::All => true,
            Find::Nth(nth) => count == nth,
            Find::Only => found.len() < NAMED,
        };
        if keep {
            found.push(at);
        }
    })?;
    let answer = |message: String, tip: &str| Err(Failure::new(Exit::No, message).tip(tip).into());
    match which {
        _ if count == 0 => answer(
            format!("the bytes to find are not in {span}; nothing was written"),
            "'mmapctl cat FILE -x' shows what is there; a second run of the same patch ends here, too",
        ),
        Find::Nth(nth) if nth > count => answer(
            format!("there are {count} matches, and number {nth} is wanted; nothing was written"),
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

/// Calls `each` with the offset of every match, overlapping ones too, in order.
fn each_match(
    region: &mut Region,
    span: Span,
    pattern: &Masked,
    step: &mut Step<'_>,
    mut each: impl FnMut(u64),
) -> anyhow::Result<()> {
    let anchor = anchor(pattern);
    let finder = Finder::new(&pattern.bytes[anchor.clone()]);
    let len = pattern.bytes.len();
    // The end of the chunk before, which may hold the first bytes of a match.
    let mut text: Vec<u8> = Vec::new();
    region.read_ahead(span, |at, bytes| {
        let begin = at - text.len() as u64;
        text.extend_from_slice(bytes);
        let mut from = anchor.start;
        while let Some(hit) = text.get(from..).and_then(|rest| finder.find(rest)) {
            let start = from + hit - anchor.start;
            from += hit + 1;
            if text.get(start..start + len).is_some_and(|part| matches(part, pattern)) {
                each(begin + start as u64);
            }
        }
        // A match that begins in the last len - 1 bytes has been seen only in part.
        let seen = text.len().saturating_sub(len - 1);
        text.drain(..seen);
        step(at + bytes.len() as u64 - span.start()).map_err(anyhow::Error::from)
    })
}

/// The longest run of the pattern without a wildcard, which is quick to look for; it may be empty.
fn anchor(pattern: &Masked) -> std::ops::Range<usize> {
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
    let mut bytes = part.iter().zip(&pattern.bytes).zip(&pattern.mask);
    bytes.all(|((have, want), mask)| have & mask == want & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

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
