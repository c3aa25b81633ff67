//! All or nothing: after a store that failed half-way, the old bytes go back.

use super::spool::Spool;
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{self, Cause, Piece, Region};

/// Passes success through. After a failure, puts back what [`mapping::Region::store`] had stored of `pieces`
/// before it, from `old`, where the bytes stand in the same places as in the payload.
///
/// # Errors
/// The failure, with what became of the file said in front: nothing was written, or it was put back as it was
/// (exit code 2), or, when that failed too or `old` was not kept, that it is in doubt (exit code 4).
pub fn or_put_back(
    region: &mut Region,
    pieces: &[Piece],
    old: Option<&mut Spool>,
    result: mapping::Result<()>,
) -> anyhow::Result<()> {
    let Err(error) = result else {
        return Ok(());
    };
    if error.stored == 0 {
        return Err(anyhow::Error::from(error).context("nothing was written"));
    }
    let changed = prefix(pieces, error.stored);
    let undone = match old {
        Some(old) => put_back(region, &changed, old),
        None => Err(Failure::trouble("the old bytes were too many to keep").into()),
    };
    match undone {
        Ok(()) => Err(anyhow::Error::from(error).context("the file was put back as it was")),
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

fn put_back(region: &mut Region, pieces: &[Piece], old: &mut Spool) -> anyhow::Result<()> {
    match region.store(pieces, old.fd()?, &mut |_| Ok(())) {
        Ok(()) => Ok(()),
        // Pieces ascend, so all that still exists is back; what the file has lost was not ours to keep.
        Err(mapping::Error {
            cause: Cause::Shrunk { .. } | Cause::Vanished,
            ..
        }) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
