//! The ranges that contain edits, part by part.

use crate::mapping::{self, ByteRange, Chunk, Chunks, HoleFinder, Segment, Source};
use std::ops::Range;

/// Edits closer together than this are read together.
const NEAR: u64 = 4096;

/// How many bytes are read together at most; a longer edit is read in steps of this length.
const TOGETHER: u64 = 256 << 10;

/// A range that is read at a time. It contains several edits, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditGroup {
    /// The edits, by their indices in the list.
    pub edits: Range<usize>,
    /// The range.
    pub range: ByteRange,
}

/// The parts that contain the edits of a list, in order.
pub struct EditGroups<'a> {
    list: &'a [Segment],
    /// From the first edit to the last.
    whole: ByteRange,
    holes: HoleFinder,
    /// The rest of the last group: its edits, and the part of its range that is still to be returned.
    edits: Range<usize>,
    rest: ByteRange,
}

impl<'a> EditGroups<'a> {
    /// The parts that contain the edits of `list`, which extend over `whole`.
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

/// How many of the edits in `list` are read together, and the range that contains them.
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
