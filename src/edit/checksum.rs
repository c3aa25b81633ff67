//! Checksums as values: computed over what the file will hold after all other edits.

use super::edits::{EditDetail, Edits, ResolvedChecksum, count_differing};
use super::spooled::SpooledBytes;
use crate::edit::error::{Error, Result};
use crate::mapping::{
    self, ByteRange, CHUNK_LEN, Chunk, Chunks, Content, Cut, Operation, ProgressFn, Region, Segment, Source, scan,
};
use crc32fast::Hasher;

/// How many pieces each thread may compute ahead of the consumer.
const AHEAD: usize = 6;

/// Computes every checksum of `edits` into its new bytes, each after those that it covers, and passes to `differing`
/// how many of its bytes change. `step` receives the number of bytes that are processed.
///
/// # Errors
/// If checksums cover each other, if the file cannot be read, or if `step` returns [`mapping::Interrupted`].
pub fn compute(
    edits: &mut Edits,
    region: &mut Region,
    mut differing: impl FnMut(usize, u64),
    old: &mut SpooledBytes,
    step: &mut ProgressFn<'_>,
) -> Result<()> {
    let sums: Vec<(usize, ResolvedChecksum)> = (edits.notes.iter().enumerate())
        .filter_map(|(index, note)| match edits.extras[note.extra()?] {
            EditDetail::Sum(sum) => Some((index, sum)),
            EditDetail::Masks { .. } => None,
        })
        .collect();
    let mut done = 0;
    for (index, sum) in in_order(&sums, &edits.list)? {
        let edit = edits.list[index];
        let crc = crc_of(edits, region, sum.range, &mut |part| step(done + part))?;
        done += sum.range.len();
        let bytes = if sum.big { crc.to_be_bytes() } else { crc.to_le_bytes() };
        let mut before = [0; 4];
        old.read_at(edit.from, &mut before)?;
        edits.new.overwrite(edit.from, &bytes)?;
        differing(index, count_differing(&bytes, &before));
    }
    Ok(())
}

/// Sorts `sums`, which are in ascending order, so that each comes after those that it covers. The depth-first search
/// visits a checksum once for each checksum that covers it, which is never more work than reading the bytes.
fn in_order(sums: &[(usize, ResolvedChecksum)], list: &[Segment]) -> Result<Vec<(usize, ResolvedChecksum)>> {
    #[derive(Clone, Copy)]
    enum Seen {
        Not,
        /// Placed once all checksums that it covers are placed.
        Waiting,
        Placed,
    }
    let place = |index: usize| list[sums[index].0].range();
    let summed_by = |index: usize| {
        let range = sums[index].1.range;
        let first = sums.partition_point(|(index, _)| list[*index].range().end() <= range.start());
        (first..sums.len()).take_while(move |other| !place(*other).intersect(range).is_empty())
    };
    let mut seen = vec![Seen::Not; sums.len()];
    let mut order = Vec::with_capacity(sums.len());
    let mut stack = Vec::new();
    for first in 0..sums.len() {
        if matches!(seen[first], Seen::Not) {
            seen[first] = Seen::Waiting;
            stack.push((first, summed_by(first)));
        }
        while let Some((index, others)) = stack.last_mut() {
            let Some(other) = others.next() else {
                seen[*index] = Seen::Placed;
                order.push(sums[*index]);
                stack.pop();
                continue;
            };
            match seen[other] {
                Seen::Placed => {}
                Seen::Not => {
                    seen[other] = Seen::Waiting;
                    stack.push((other, summed_by(other)));
                }
                Seen::Waiting => {
                    let at = place(other).start();
                    let message = format!("the checksum at {at:#x} covers another one that covers it");
                    return Err(Error::untouched(message).tip("move one of the two out of the other's range"));
                }
            }
        }
    }
    Ok(order)
}

fn crc_of(edits: &mut Edits, region: &mut Region, range: ByteRange, step: &mut ProgressFn<'_>) -> Result<u32> {
    let Edits { list, new, .. } = edits;
    let pieces = Unedited {
        cut: Cut::with_holes(range),
        list,
    };
    let mut all = Hasher::new();
    let source = region.source(Operation::Compare, range)?;
    scan([source], AHEAD, pieces, PieceSum::of, |piece, summed| {
        match piece.key {
            false => all.combine(&summed.crc),
            true => {
                let first = first_from(list, piece.range);
                for edit in list[first..].iter().take_while(|edit| edit.at() < piece.range.end()) {
                    let both = edit.range().intersect(piece.range);
                    let into = (both.start() - piece.range.start()) as usize;
                    let from = edit.from + (both.start() - edit.at());
                    new.read_at(from, &mut summed.bytes[into..into + both.len() as usize])?;
                }
                all.update(&summed.bytes);
            }
        }
        step(piece.range.end() - range.start()).map_err(Error::from)
    })?;
    Ok(all.finalize())
}

/// The index of the first edit that ends after the start of `range`.
fn first_from(list: &[Segment], range: ByteRange) -> usize {
    list.partition_point(|edit| edit.range().end() <= range.start())
}

/// The pieces of a range; each one knows whether it contains edits, and a hole ends where an edit begins.
struct Unedited<'a> {
    cut: Cut<1>,
    list: &'a [Segment],
}

impl Chunks<1> for Unedited<'_> {
    type Key = bool;

    fn next(&mut self, sources: &[Source<'_>; 1]) -> mapping::Result<Option<Chunk<bool, 1>>> {
        let Some(mut piece) = self.cut.next(sources)? else {
            return Ok(None);
        };
        let edit = self.list.get(first_from(self.list, piece.range));
        let edit = edit.filter(|edit| edit.at() < piece.range.end());
        let end = match edit {
            Some(edit) if piece.is_zeros == [true] && edit.at() > piece.range.start() => edit.at(),
            Some(_) => piece.range.start().saturating_add(CHUNK_LEN),
            None => piece.range.end(),
        };
        self.cut.shorten(&mut piece, end);
        Ok(Some(Chunk {
            key: edit.is_some_and(|edit| edit.at() < piece.range.end()),
            range: piece.range,
            overlap: piece.overlap,
            is_zeros: piece.is_zeros,
        }))
    }
}

/// The part of a checksum that one piece contributes.
#[derive(Default)]
struct PieceSum {
    /// The checksum of the piece, if it contains no edits.
    crc: Hasher,
    /// The bytes of the piece, into which edits are put, if it contains any.
    bytes: Vec<u8>,
}

impl PieceSum {
    fn of(piece: &Chunk<bool, 1>, [content]: [Content<'_>; 1], summed: &mut PieceSum) {
        match content {
            _ if piece.key => {
                summed.bytes.clear();
                summed.bytes.extend_from_slice(content.as_bytes());
            }
            Content::Zeros(len) => summed.crc = crc_of_zeros(len),
            Content::Bytes(bytes) => {
                summed.crc.reset();
                summed.crc.update(bytes);
            }
        }
    }
}

/// The checksum of `len` zeros, by repeated squaring: the time is proportional to the number of digits of `len`.
fn crc_of_zeros(len: u64) -> Hasher {
    let (mut all, mut power) = (Hasher::new(), Hasher::new());
    power.update(&[0]);
    let mut rest = len;
    while rest > 0 {
        if rest & 1 == 1 {
            all.combine(&power);
        }
        power.combine(&power.clone());
        rest >>= 1;
    }
    all
}

#[cfg(test)]
mod tests;
