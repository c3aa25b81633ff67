//! Edits in a nonlinear view, in which one byte of the file may appear at several offsets.

use super::edits::{EditDetail, Edits};
use crate::edit::error::{Error, Result};
use crate::mapping::{ByteRange, Extent, PageOrder, Region};

/// Rejects edits of one byte of the file at two offsets of the view, and checksums over bytes that are edited at
/// another offset. The order of the stores would decide which byte remains, and no undo script could express that.
///
/// # Errors
/// Exit code 2, with both offsets.
pub fn reject_aliased_edits(edits: &Edits, region: &Region) -> Result<()> {
    let Some(layout) = region.layout() else {
        return Ok(());
    };
    let refuse = |first: u64, second: u64, what: &str| {
        let message = format!("{first:#x} and {second:#x} of the view are the same byte of the file, {what}");
        let failure = Error::untouched(message);
        Err(failure.tip("give each byte once; 'map FILE -c \"remap --order …\" -c map' shows the view"))
    };
    let mut parts: Vec<Extent> = edits.list.iter().flat_map(|edit| layout.parts(edit.range())).collect();
    parts.sort_by_key(|part| part.file.start());
    for pair in parts.windows(2) {
        let again = pair[0].file.intersect(pair[1].file);
        if !again.is_empty() {
            let [first, second] = [place(&pair[0], again), place(&pair[1], again)];
            return refuse(first.min(second), first.max(second), "and both are edited");
        }
    }
    for extra in &edits.extras {
        let EditDetail::Sum(sum) = extra else { continue };
        if let Some((summed, edited)) = summed_elsewhere(&parts, layout, sum.range) {
            return refuse(summed, edited, "and one is in a checksum's range, the other is edited");
        }
    }
    Ok(())
}

/// Finds a byte within `range` of the view that also appears in one of `parts`, which are in ascending file order.
fn summed_elsewhere(parts: &[Extent], layout: &PageOrder, range: ByteRange) -> Option<(u64, u64)> {
    layout.parts(range).find_map(|summed| {
        let first = parts.partition_point(|part| part.file.end() <= summed.file.start());
        let meet = parts[first..].iter().map(|part| (part, part.file.intersect(summed.file)));
        meet.take_while(|(_, both)| !both.is_empty())
            .map(|(part, both)| (place(&summed, both), place(part, both)))
            .find(|(summed, edited)| summed != edited)
    })
}

/// The offset in the view of the first byte of `file`, which lies in `part`.
fn place(part: &Extent, file: ByteRange) -> u64 {
    part.view + (file.start() - part.file.start())
}
