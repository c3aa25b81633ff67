//! Checksums as values: computed over what the file will hold once every other edit is in.

use super::compare::{count_differing, read_or_zeros};
use super::edits::{Edits, Extra, SumOf};
use super::spool::Spool;
use crate::edit::error::{Error, Result};
use crate::mapping::{Piece, Region, Span, Step};

/// How much is summed at a time, in bytes.
const CHUNK: u64 = 256 << 10;

/// Computes every checksum of `edits` into its new bytes, those first that no other one is summed by, and tells
/// `differing` for each how many of its bytes change. `step` hears how many bytes are summed.
///
/// # Errors
/// Checksums that sum each other; what keeps the file from being read; that `step` asks to stop.
pub fn compute(
    edits: &mut Edits,
    region: &mut Region,
    mut differing: impl FnMut(usize, u64),
    old: &mut Spool,
    step: &mut Step<'_>,
) -> Result<()> {
    let sums: Vec<(usize, SumOf)> = (edits.notes.iter().enumerate())
        .filter_map(|(index, note)| match edits.extras[note.extra()?] {
            Extra::Sum(sum) => Some((index, sum)),
            Extra::Masks { .. } => None,
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

/// `sums`, which ascend, in an order in which each comes behind those that it sums. A depth-first search that looks at
/// each of them once for each sum over it: never more work than summing their bytes will be.
fn in_order(sums: &[(usize, SumOf)], list: &[Piece]) -> Result<Vec<(usize, SumOf)>> {
    #[derive(Clone, Copy)]
    enum Seen {
        Not,
        /// Its turn comes when those that it sums have had theirs.
        Waiting,
        Placed,
    }
    let place = |index: usize| list[sums[index].0].span();
    let summed_by = |index: usize| {
        let range = sums[index].1.range;
        let first = sums.partition_point(|(index, _)| list[*index].span().end() <= range.start());
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
                    let message = format!("the checksum at {at:#x} sums another one that sums it");
                    return Err(Error::untouched(message).tip("leave one of the two out of the other's range"));
                }
            }
        }
    }
    Ok(order)
}

fn crc_of(edits: &mut Edits, region: &mut Region, range: Span, step: &mut Step<'_>) -> Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = Vec::new();
    for part in range.windows(CHUNK) {
        read_or_zeros(region, part, &mut bytes)?;
        let first = edits.list.partition_point(|edit| edit.span().end() <= part.start());
        for index in first..edits.list.len() {
            let edit = edits.list[index];
            let both = edit.span().intersect(part);
            if both.is_empty() {
                break;
            }
            let into = (both.start() - part.start()) as usize;
            let from = edit.from + (both.start() - edit.at);
            edits.new.read_at(from, &mut bytes[into..into + both.len() as usize])?;
        }
        crc.update(&bytes);
        step(part.end() - range.start())?;
    }
    Ok(crc.finalize())
}
