//! Checksums as values: computed over what the file will hold once every other edit is in.

use super::plan::{Edits, Extra, count_differing, read_or_zeros};
use super::spool::Spool;
use crate::exit::Failure;
use crate::mapping::{Region, Span};

/// A checksum whose range is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumOf {
    /// The bytes it sums.
    pub range: Span,
    /// Highest byte first.
    pub big: bool,
}

/// How much is summed at a time, in bytes.
const CHUNK: u64 = 256 << 10;

/// Computes every checksum of `edits` into its new bytes, those first that no other one is summed by, and tells
/// `differing` for each how many of its bytes change.
///
/// # Errors
/// Checksums that sum each other; what keeps the file from being read.
pub fn compute(
    edits: &mut Edits,
    region: &mut Region,
    mut differing: impl FnMut(usize, u64),
    old: &mut Spool,
) -> anyhow::Result<()> {
    let mut waiting: Vec<(usize, SumOf)> = (edits.list.iter().enumerate())
        .filter(|(_, edit)| edit.extra > 0)
        .filter_map(|(index, edit)| match edits.extras[edit.extra as usize - 1] {
            Extra::Sum(sum) => Some((index, sum)),
            Extra::Masks { .. } => None,
        })
        .collect();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|(_, sum)| {
            let covers = |(other, _): &(usize, SumOf)| !edits.list[*other].span.intersect(sum.range).is_empty();
            !waiting.iter().any(covers)
        });
        let Some(ready) = ready else {
            let at = edits.list[waiting[0].0].span.start();
            let message = format!("the checksum at {at:#x} sums another one that sums it");
            return Err(Failure::trouble(message)
                .tip("leave one of the two out of the other's range")
                .into());
        };
        let (index, sum) = waiting.swap_remove(ready);
        let edit = edits.list[index];
        let crc = crc_of(edits, region, sum.range)?;
        let bytes = if sum.big { crc.to_be_bytes() } else { crc.to_le_bytes() };
        let mut before = [0; 4];
        old.read_at(edit.from, &mut before)?;
        edits.new.overwrite(edit.from, &bytes)?;
        differing(index, count_differing(&bytes, &before));
    }
    Ok(())
}

fn crc_of(edits: &mut Edits, region: &mut Region, range: Span) -> anyhow::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = Vec::new();
    for part in range.windows(CHUNK) {
        read_or_zeros(region, part, &mut bytes)?;
        let first = edits.list.partition_point(|edit| edit.span.end() <= part.start());
        for index in first..edits.list.len() {
            let edit = edits.list[index];
            let both = edit.span.intersect(part);
            if both.is_empty() {
                break;
            }
            let into = (both.start() - part.start()) as usize;
            let from = edit.from + (both.start() - edit.span.start());
            edits.new.read_at(from, &mut bytes[into..into + both.len() as usize])?;
        }
        crc.update(&bytes);
    }
    Ok(crc.finalize())
}
