//! All or nothing: after a store that failed half-way, the old bytes and the old length come back.

use super::spool::Spool;
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{self, Cause, Piece, Region};

/// What a file was before a store began.
pub struct Before<'a> {
    /// What was to be stored, in the order of storing.
    pub pieces: &'a [Piece],
    /// The old bytes, in the same places as the new ones have in the payload; `None` when they were too many to keep.
    pub old: Option<&'a mut Spool>,
    /// The length, in bytes.
    pub len: u64,
    /// Whether the old bytes must be on the device again.
    pub flush: bool,
}

/// A store that ended early.
#[derive(Debug)]
pub struct Stopped {
    /// Why.
    pub error: anyhow::Error,
    /// How many bytes of the pieces were stored, counted from the first on.
    pub stored: u64,
}

impl Stopped {
    /// Before anything was stored.
    pub fn early(error: anyhow::Error) -> Stopped {
        Stopped { error, stored: 0 }
    }
}

impl From<mapping::Error> for Stopped {
    fn from(error: mapping::Error) -> Stopped {
        let stored = error.stored;
        Stopped {
            error: error.into(),
            stored,
        }
    }
}

/// Passes success through. After a failure, puts back what was stored before it.
///
/// # Errors
/// The failure, with what became of the file said in front: nothing was written, or it was put back as it was
/// (exit code 2), or, when that failed too or the old bytes were not kept, that it is in doubt (exit code 4).
pub fn or_put_back(region: &mut Region, before: Before<'_>, result: Result<(), Stopped>) -> anyhow::Result<()> {
    let Err(Stopped { error, stored }) = result else {
        return Ok(());
    };
    if stored == 0 && region.length() == before.len {
        return Err(error.context("nothing was written"));
    }
    let changed = prefix(before.pieces, stored);
    let undone = match before.old {
        Some(old) => put_back(region, &changed, old, before.len, before.flush),
        None => Err(Failure::trouble("the old bytes were too many to keep").into()),
    };
    match undone {
        Ok(()) => Err(error.context("the file was put back as it was")),
        Err(trouble) => {
            let ranges = changed.iter().map(|piece| piece.span().to_string()).take(4);
            let ranges = ranges.collect::<Vec<_>>().join(", ");
            let more = if changed.len() > 4 { ", …" } else { "" };
            let message = format!("in doubt: {ranges}{more} changed and could not be put back ({trouble:#})");
            let tip = "run the same command again when the cause is gone, or take these bytes from a backup";
            Err(error).or_fail(|| Failure::new(Exit::InDoubt, message).tip(tip))
        }
    }
}

fn put_back(region: &mut Region, pieces: &[Piece], old: &mut Spool, len: u64, flush: bool) -> anyhow::Result<()> {
    if region.length() < len {
        region.resize(len, true)?;
    }
    let pieces: Vec<Piece> = pieces.iter().filter_map(|piece| piece.before(len)).collect();
    match region.store(&pieces, old.fd()?, &mut |_| Ok(())) {
        // Pieces ascend, so all that still exists is back; what the file has lost was not ours to keep.
        Ok(())
        | Err(mapping::Error {
            cause: Cause::Shrunk { .. } | Cause::Vanished,
            ..
        }) => {}
        Err(error) => return Err(error.into()),
    }
    if region.length() > len {
        region.resize(len, true)?;
    }
    if flush {
        if let (Some(first), Some(last)) = (pieces.first(), pieces.last()) {
            region.flush(first.span().join(last.span()).intersect(region.span()), false)?;
        }
        region.flush_length()?;
    }
    Ok(())
}

/// The pieces that make up the first `stored` bytes.
fn prefix(pieces: &[Piece], stored: u64) -> Vec<Piece> {
    let mut left = stored;
    let mut whole = Vec::new();
    for piece in pieces {
        let len = piece.len.min(left);
        if len == 0 {
            break;
        }
        left -= len;
        whole.push(Piece { len, ..*piece });
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, len: u64, from: u64) -> Piece {
        Piece { at, len, from }
    }

    #[test]
    fn a_prefix_cuts_the_last_piece_it_reaches() {
        let pieces = [piece(100, 4, 0), piece(200, 4, 4), piece(300, 4, 8)];
        assert_eq!(prefix(&pieces, 6), [piece(100, 4, 0), piece(200, 2, 4)]);
        assert_eq!(prefix(&pieces, 8), pieces[..2]);
        assert_eq!(prefix(&pieces, 0), []);
    }
}
