//! The ranges that edits lie in, part by part.

use crate::mapping::{self, ByteRange, Chunk, Chunks, HoleFinder, Segment, Source};
use std::ops::Range;

/// Edits closer than this are read together.
const NEAR: u64 = 4096;

/// The most that is read together, and the step in which a longer edit is read.
const TOGETHER: u64 = 256 << 10;

/// A range that is read at a time, with several edits in it, or some of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditGroup {
    /// The edits, by their place in the list.
    pub edits: Range<usize>,
    /// The range.
    pub range: ByteRange,
}

/// The parts that the edits of a list lie in, in order.
pub struct EditGroups<'a> {
    list: &'a [Segment],
    /// From the first edit to the last.
    whole: ByteRange,
    holes: HoleFinder,
    /// Of what was cut last: its edits, and what is left of its range.
    edits: Range<usize>,
    rest: ByteRange,
}

impl<'a> EditGroups<'a> {
    /// The parts of `list`, which reaches over `whole`.
    pub fn new(list: &'a [Segment], whole: ByteRange) -> EditGroups<'a> {
        EditGroups {
            list,
            whole,
            holes: HoleFinder::default(),
            edits: 0..0,
            rest: ByteRange::first(0),
        }
    }

    fn cut(&mut self) -> Option<EditGroup> {
        if self.rest.is_empty() {
            let (count, range) = coalesce(self.list.get(self.edits.end..)?)?;
            self.edits = self.edits.end..self.edits.end + count;
            self.rest = range;
        }
        // Either several edits in one part, or one edit in several.
        let step = if self.edits.len() > 1 { u64::MAX } else { TOGETHER };
        let range = self.rest.windows(step).next()?;
        self.rest = self.rest.from(range.end());
        Some(EditGroup {
            edits: self.edits.clone(),
            range,
        })
    }
}

impl Chunks<1> for EditGroups<'_> {
    type Key = EditGroup;

    fn next(&mut self, [source]: &[Source<'_>; 1]) -> mapping::Result<Option<Chunk<EditGroup, 1>>> {
        let Some(part) = self.cut() else {
            return Ok(None);
        };
        Ok(Some(Chunk {
            range: part.range,
            overlap: 0,
            is_zeros: [self.holes.has(part.range, self.whole, source)?],
            key: part,
        }))
    }
}

/// How many of the edits in `list` are read together, and the range that holds them.
fn coalesce(list: &[Segment]) -> Option<(usize, ByteRange)> {
    let (first, others) = list.split_first()?;
    let mut span = first.range();
    let mut count = 1;
    for edit in others {
        let joined = span.join(edit.range());
        if edit.at() > span.end() + NEAR || joined.len() > TOGETHER {
            break;
        }
        span = joined;
        count += 1;
    }
    Some((count, span))
}

#[cfg(test)]
mod tests;
