//! The script that turns one file into another of the same length.

use super::write::ScriptWriter;
use crate::exit::Failure;
use crate::mapping::{Region, Step};

/// Equal bytes up to this many between two differences do not end a line.
const BRIDGE: usize = 4;

/// The most bytes on either side of a line.
const LINE: usize = 32;

/// Writes the script that turns `from` into `to`; gives the number of bytes that differ.
///
/// # Errors
/// Files of different length; what keeps either from being read.
pub fn diff(
    from: &mut Region,
    to: &mut Region,
    sink: impl FnMut(&[u8]) -> anyhow::Result<()>,
    step: &mut Step<'_>,
) -> anyhow::Result<u64> {
    let (span, other) = (from.span(), to.span());
    if span != other {
        let message = format!("it has {} bytes, the other {}", span.len(), other.len());
        let tip = "make the lengths equal with 'mmapctl remap FILE --size N'";
        return Err(Failure::trouble(message).tip(tip).into());
    }
    let mut script = ScriptWriter::new(span.len(), span.len(), sink);
    let mut differing = 0;
    let mut theirs = Vec::new();
    from.read_chunks(span, |at, ours| {
        theirs.resize(ours.len(), 0);
        to.read(at, &mut theirs)?;
        let mut done = 0;
        // Comparing all of it first is one memcmp, and most of most files is equal.
        while done < ours.len() && ours[done..] != theirs[done..] {
            let skipped = equal_prefix(&ours[done..], &theirs[done..]);
            let start = done + skipped;
            let len = line_len(&ours[start..], &theirs[start..]);
            let (old, new) = (&ours[start..start + len], &theirs[start..start + len]);
            differing += super::compare::count_differing(old, new);
            script.edit(at + start as u64, old, new)?;
            done = start + len;
        }
        step(at + ours.len() as u64 - span.start()).map_err(anyhow::Error::from)
    })?;
    script.finish()?;
    Ok(differing)
}

/// How many bytes both begin with alike.
fn equal_prefix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let blocks = a.chunks(BLOCK).zip(b.chunks(BLOCK)).take_while(|(a, b)| a == b).count();
    let start = (blocks * BLOCK).min(a.len());
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

/// The length of the line that begins with a difference: up to the next long stretch of equal bytes.
fn line_len(a: &[u8], b: &[u8]) -> usize {
    let mut end = 1;
    for index in 1..a.len().min(LINE) {
        if index - end >= BRIDGE {
            break;
        }
        if a[index] != b[index] {
            end = index + 1;
        }
    }
    end
}
