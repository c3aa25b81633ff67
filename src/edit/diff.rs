//! The script that turns one file into another of the same length.

use super::write::ScriptWriter;
use crate::edit::error::{Error, Result};
use crate::mapping::{self, ByteRange, Chunk, Content, Cut, ErrorKind, Operation, ProgressFn, Region, scan};

/// A line continues across up to this many equal bytes between two differences.
const BRIDGE: usize = 4;

/// The maximum number of bytes on either side of a line.
const LINE: usize = 32;

/// A line never crosses a multiple of this: no piece begins elsewhere, holes included, so the script is the same wherever
/// the file has holes.
const BLOCK: u64 = 512;

/// How many pieces each thread may compare ahead of the consumer.
const AHEAD: usize = 6;

/// Writes the script that turns `from` into `to` and returns the number of bytes that differ. `names` are the files as
/// the user typed them.
///
/// # Errors
/// If one of the files is mapped only in part (a script is always for a whole file), if the lengths differ, or if a
/// file cannot be read.
pub fn diff(
    from: &mut Region,
    to: &mut Region,
    (name, other_name): (&str, &str),
    sink: impl FnMut(&[u8]) -> Result<()>,
    step: &mut ProgressFn<'_>,
) -> Result<u64> {
    let (span, other) = (from.span(), to.span());
    let whole = ByteRange::first(from.length());
    if !span.contains(whole) {
        return Err(mapping::Error::new("compare", Some(whole), ErrorKind::NotMapped(span)).into());
    }
    if span != other {
        let message = format!("it has {} bytes, the other {}", span.len(), other.len());
        let tip = format!(
            "--diff takes two files of the same length; 'cmp {name} {other_name}' shows where they differ first"
        );
        return Err(Error::untouched(message).tip(tip));
    }
    let mut script = ScriptWriter::new(span.len(), span.len(), sink).of_view(from.layout().is_some());
    let mut differing = 0;
    let sources = [from.source(Operation::Read, span)?, to.source(Operation::Read, span)?];
    scan(sources, AHEAD, Cut::with_holes(span), Lines::compare, |piece, lines| {
        let mut rest = &lines.bytes[..];
        for (at, len) in lines.places.drain(..) {
            let (old, new) = rest[..2 * len].split_at(len);
            differing += super::edits::count_differing(old, new);
            script.edit(at, old, new)?;
            rest = &rest[2 * len..];
        }
        step(piece.range.end() - span.start()).map_err(Error::from)
    })?;
    script.finish()?;
    Ok(differing)
}

/// The lines of the script for one piece.
#[derive(Default)]
struct Lines {
    /// The offset of each line, and its length in bytes, including the equal bytes in between.
    places: Vec<(u64, usize)>,
    /// The old and the new bytes, line by line.
    bytes: Vec<u8>,
}

impl Lines {
    /// Replaces `lines` by those for `piece`.
    fn compare(piece: &Chunk<(), 2>, contents: [Content<'_>; 2], lines: &mut Lines) {
        lines.places.clear();
        lines.bytes.clear();
        if matches!(contents, [Content::Zeros(_), Content::Zeros(_)]) {
            return;
        }
        let [ours, theirs] = contents.map(Content::as_bytes);
        let mut done = 0;
        // Comparing all of the rest first is one memcmp, and most of most files is equal.
        while done < ours.len() && ours[done..] != theirs[done..] {
            let start = done + equal_prefix(&ours[done..], &theirs[done..]);
            let at = piece.range.start() + start as u64;
            let end = ours.len().min(start + (BLOCK - at % BLOCK) as usize);
            let len = line_len(&ours[start..end], &theirs[start..end]);
            lines.places.push((at, len));
            lines.bytes.extend_from_slice(&ours[start..start + len]);
            lines.bytes.extend_from_slice(&theirs[start..start + len]);
            done = start + len;
        }
    }
}

/// The length of the common prefix.
fn equal_prefix(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 4096;
    let equal = a.chunks(STEP).zip(b.chunks(STEP)).take_while(|(a, b)| a == b).count();
    let start = (equal * STEP).min(a.len());
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

/// The length of the line that begins at a difference: it ends before the next long run of equal bytes.
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
