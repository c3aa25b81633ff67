//! All or nothing: after a store that failed half-way, restores the old bytes and the old length.

use super::spooled::SpooledBytes;
use crate::edit::error::{Error, Outcome, Result};
use crate::mapping::{self, AccessDenied, ByteRange, ErrorKind, Region, Segment};
use nix::sys::uio::pread;
use std::os::fd::BorrowedFd;

/// The state of a file before a store.
pub struct RollbackPlan<'a> {
    /// The pieces to be stored, in the order of storing.
    pub pieces: &'a [Segment],
    /// The old bytes, at the same positions as the new ones have in the payload; `None` if they were too many to keep.
    pub old: Option<&'a mut SpooledBytes>,
    /// The length, in bytes.
    pub len: u64,
    /// Whether the old bytes must be made durable again.
    pub flush: bool,
    /// What the user may do if they cannot be restored.
    pub tip: &'static str,
}

/// A store that failed before its end.
#[derive(Debug)]
pub struct PartialStore {
    /// The cause.
    pub error: Error,
    /// How many bytes of the pieces were stored, counted from the first piece.
    pub stored: u64,
}

impl PartialStore {
    /// A failure before anything was stored.
    pub fn early(error: Error) -> PartialStore {
        PartialStore { error, stored: 0 }
    }
}

impl From<mapping::Error> for PartialStore {
    fn from(error: mapping::Error) -> PartialStore {
        let stored = error.stored;
        PartialStore {
            error: error.into(),
            stored,
        }
    }
}

/// Passes success through. After a failure, restores what was stored before it.
///
/// # Errors
/// The failure, with the state of the file in front: nothing was written, or it was restored (exit code 2), or it is in
/// doubt because restoring failed too or the old bytes were not kept (exit code 4).
pub fn rollback_on_error(
    region: &mut Region,
    before: RollbackPlan<'_>,
    result: Result<(), PartialStore>,
) -> Result<()> {
    let Err(PartialStore { error, stored }) = result else {
        return Ok(());
    };
    if stored == 0 && region.length() == before.len {
        return Err(error.context("nothing was written"));
    }
    let changed = prefix(before.pieces, stored);
    let undone = match before.old {
        Some(old) => put_back(region, changed, old, before.len, before.flush),
        None => Err(Error::untouched("there were too many old bytes to keep")),
    };
    match undone {
        Ok(()) => Err(error.context("the file was put back as it was").ending_in(Outcome::RolledBack)),
        Err(trouble) => {
            let (whole, edge) = changed;
            let count = whole.len() + usize::from(edge.is_some());
            let ranges = whole.iter().chain(&edge).map(|piece| piece.range().to_string()).take(4);
            let ranges = ranges.collect::<Vec<_>>().join(", ");
            let more = if count > 4 { ", …" } else { "" };
            let what = if count == 0 { "its length" } else { &ranges };
            let message = format!("in doubt: {what}{more} changed and could not be put back ({trouble})");
            let tip = match is_others_growth(&error) {
                true => {
                    "nothing was stored: look at the end of the file, and run the same command again where the other program does not append"
                }
                false => before.tip,
            };
            Err(error.within(Error::in_doubt(message).tip(tip)))
        }
    }
}

/// Whether the file could not be made longer because another process did. Nothing was stored then, and a recovery would
/// cut off what that process wrote.
pub(super) fn is_others_growth(error: &Error) -> bool {
    let theirs = ErrorKind::AccessDenied(AccessDenied::GrownTogether);
    error.core().is_some_and(|core| core.cause == theirs)
}

/// Whole pieces, and the beginning of the next one. Not a list of its own: it would be as long as that of all pieces,
/// and perhaps no memory is left.
type Prefix<'a> = (&'a [Segment], Option<Segment>);

fn put_back(region: &mut Region, changed: Prefix<'_>, old: &mut SpooledBytes, len: u64, flush: bool) -> Result<()> {
    if region.length() < len {
        region.resize(len, true)?;
    }
    // The pieces are in ascending order, so those within the old length come first.
    let (all, edge) = changed;
    let whole = &all[..all.partition_point(|piece| piece.range().end() <= len)];
    let edge = all[whole.len()..].first().copied().or(edge).and_then(|piece| piece.before(len));
    let last = edge.or(whole.last().copied());
    let payload = old.fd()?;
    let store = |region: &mut Region| {
        region
            .store(whole, payload, &mut |_| Ok(()))
            .and_then(|_| region.store(edge.as_slice(), payload, &mut |_| Ok(())))
    };
    let stored = match store(region) {
        // A page that was missing for a moment ended the store early; the pieces after it still have to be restored.
        Err(mapping::Error {
            cause: ErrorKind::Vanished,
            ..
        }) => store(region),
        stored => stored,
    };
    match stored {
        Ok(()) => {}
        // Pieces are in ascending order, so everything that still exists is restored. The part that the file has lost
        // was removed by another program, and must not reappear when the file grows again.
        Err(mapping::Error {
            cause: ErrorKind::Shrunk { len: now },
            ..
        }) => {
            if let Some(last) = last {
                let page = ByteRange::first(now).pages(region.backing().facts().page);
                let tail = ByteRange::first(page.end().min(last.range().end())).from(now);
                // If the end has moved once more, nothing can be done about it.
                let _ = region.zero(tail, &mut |_| Ok(()));
            }
        }
        // The kernel may have failed before it changed anything.
        Err(_) if whole.iter().chain(&edge).all(|piece| holds(region, piece, payload)) => {}
        Err(error) => return Err(error.into()),
    }
    if region.length() > len {
        region.resize(len, true)?;
    }
    if flush {
        if let (Some(first), Some(last)) = (whole.first().or(edge.as_ref()), last) {
            region.flush(first.range().join(last.range()).intersect(region.span()), false)?;
        }
        region.flush_length()?;
        return Ok(());
    }
    Ok(region.send_now()?)
}

/// Whether the region has the bytes of `payload` at `piece`.
fn holds(region: &mut Region, piece: &Segment, payload: BorrowedFd<'_>) -> bool {
    // A rollback allocates nothing.
    const BLOCK: usize = 4096;
    let (mut old, mut now) = ([0; BLOCK], [0; BLOCK]);
    piece.range().windows(BLOCK as u64).all(|part| {
        let len = part.len() as usize;
        let at = piece.from + (part.start() - piece.at());
        pread(payload, &mut old[..len], at as i64) == Ok(len)
            && region.read(part.start(), &mut now[..len]).is_ok()
            && old[..len] == now[..len]
    })
}

/// The pieces that make up the first `stored` bytes.
fn prefix(pieces: &[Segment], stored: u64) -> Prefix<'_> {
    let mut left = stored;
    for (index, piece) in pieces.iter().enumerate() {
        if piece.len() > left {
            let edge = (left > 0).then_some(piece.split(left).0);
            return (&pieces[..index], edge);
        }
        left -= piece.len();
    }
    (pieces, None)
}

#[cfg(test)]
mod tests;
