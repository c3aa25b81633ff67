//! Stores the bytes of edits, all of them or none, and makes them as durable as requested.

use super::edits::{Comparison, Edits, MANY};
use super::journal::{Journal, JournalPath};
use super::rollback::{PartialStore, RollbackPlan, is_others_growth, rollback_on_error};
use super::spooled::SpooledBytes;
use crate::edit::error::{Error, ErrorContext, Result};
use crate::mapping::{ByteRange, ProgressFn, Region, Segment, WINDOW};

/// How durable the new bytes are when the work is done.
#[derive(Debug, Clone, Copy)]
pub enum Durability<'a> {
    /// In the page cache, as a store leaves them.
    Cached,
    /// On the device.
    Synced,
    /// On the device; if the power fails before that, the file is old or new as a whole.
    Atomic(&'a JournalPath),
}

/// How many windows of the file stay mapped at most for many edits (64 MiB): mapped pages count as the process's
/// memory.
const MOST_WINDOWS: usize = 8;

impl Edits {
    /// Stores the edits that `comparison` found to change something, and sets the length: all of it, or nothing. If the
    /// edits are to be durable, stores all of them: after a failed flush, a page may hold the new bytes and be clean
    /// although the device never received them, and only a store makes the next flush write it.
    ///
    /// # Errors
    /// If a page cannot be written. The file is then as it was, unless the error says that it is in doubt, or that it
    /// changed and is not proven durable.
    pub fn store(
        &mut self,
        region: &mut Region,
        comparison: &mut Comparison,
        durability: Durability<'_>,
        step: &mut ProgressFn<'_>,
    ) -> Result<()> {
        let (changing, unchanged) = self.list.split_at(comparison.changing);
        let mut work = Transaction {
            todo: changing,
            span: comparison.span,
            len_after: self.len_after,
            new: &mut self.new,
            old: &mut comparison.old,
        };
        let changes = !changing.is_empty() || work.len_after != region.length();
        work.make_room(region, step)?;
        if !matches!(durability, Durability::Cached) {
            work.store_again(unchanged, region, step).map_failure(|| Error::untouched("nothing was written"))?;
        }
        // Only after making room: that may allocate blocks for a hole, which hold stale data until their zeros are
        // written.
        if matches!(durability, Durability::Atomic(_)) && changes {
            work.settle_old(region, step)?;
        }
        if let Durability::Atomic(place) = durability
            && changes
        {
            // Bytes that the file already holds need no rollback; on a device that has lost them, they are neither old
            // nor new.
            let journal = Journal::begin(place, region, work.len_after, changing, work.old, work.new)?;
            // If a signal arrived in the meantime, the file is still untouched.
            let outcome = step(0).map_err(Error::from);
            let outcome = outcome.and_then(|()| work.all_or_nothing(region, Some(&journal), step));
            let has_stored = !outcome.as_ref().is_err_and(is_others_growth);
            // Another process has set the length since: what is past ours is its own.
            if outcome.is_err() && region.backing().usage().is_ok_and(|now| now.len != region.length()) {
                // If this fails, a recovery takes any bytes there.
                let _ = journal.note_resizing(false);
            }
            return journal.close(outcome, has_stored);
        }
        work.all_or_nothing(region, None, step)?;
        match durability {
            Durability::Cached => region.send_now().map_failure(not_taken),
            _ => work.flush(region).map_failure(|| not_durable(changes)),
        }
    }
}

/// What is stored, and what is needed to roll it back.
struct Transaction<'a> {
    todo: &'a [Segment],
    /// The range from the first edit to the last.
    span: ByteRange,
    /// The file's length after the edits, in bytes.
    len_after: u64,
    new: &'a mut SpooledBytes,
    old: &'a mut SpooledBytes,
}

impl Transaction<'_> {
    /// Allocates everything before the first store, so that no later store can fail for lack of it.
    fn make_room(&mut self, region: &mut Region, step: &mut ProgressFn<'_>) -> Result<()> {
        // The comparison left read-only pages, each of which would fault once more. And many edits, which take memory
        // themselves, should find the pages that were prepared for them still mapped.
        if self.todo.len() >= MANY {
            region.set_window_size((self.todo.len() / MANY).min(MOST_WINDOWS) as u64 * WINDOW);
        }
        self.make_writable(region, step).map_failure(|| Error::untouched("nothing was written"))?;
        if self.len_after > region.length() {
            let sealed = region.backing().unless_sealed();
            sealed.map_failure(|| Error::untouched("nothing was written"))?;
        }
        // Storing and rolling back must not need anything that could run out by then, such as descriptors or disk
        // space.
        self.new.fd()?;
        self.old.settle()?;
        Ok(())
    }

    /// Makes the old bytes and the old length durable. Bytes that only the page cache holds are neither old nor new on
    /// the device, and after a power failure a recovery would find that state. Pages that were made writable are dirty,
    /// so a page is written even if a failed flush left it clean; afterwards the pages are made writable again.
    fn settle_old(&self, region: &mut Region, step: &mut ProgressFn<'_>) -> Result<()> {
        region.flush_length().map_failure(|| {
            let message = "nothing was written: the present contents of the file cannot first be made durable";
            Error::untouched(message).tip("the device may have lost data: see 'dmesg'")
        })?;
        self.make_writable(region, &mut |_| step(0)).map_failure(|| Error::untouched("nothing was written"))
    }

    fn make_writable(&self, region: &mut Region, step: &mut ProgressFn<'_>) -> crate::mapping::Result<()> {
        let (within, edge) = split_at_end(self.todo, region.length());
        region.make_writable(within, step)?;
        region.make_writable(edge.as_slice(), step)
    }

    /// Stores edits whose bytes the file already holds, which changes nothing visible.
    fn store_again(&mut self, unchanged: &[Segment], region: &mut Region, step: &mut ProgressFn<'_>) -> Result<()> {
        let mut stop = |_| step(0);
        // Zeros past the end exist once the file has grown.
        let (within, edge) = split_at_end(unchanged, region.length());
        for pieces in [within, edge.as_slice()] {
            region.make_writable(pieces, &mut stop)?;
            region.store(pieces, self.new.fd()?, &mut stop)?;
        }
        Ok(())
    }

    /// Stores the edits; after a failure, restores what was stored before it. With a journal, the result of either is
    /// on the device.
    fn all_or_nothing(
        &mut self,
        region: &mut Region,
        journal: Option<&Journal>,
        step: &mut ProgressFn<'_>,
    ) -> Result<()> {
        let len = region.length();
        let stored = self.store_all(region, journal, step);
        if stored.is_err() {
            // Rolling back must not need any of that either: the payload is no longer needed, and its file has enough
            // room for the old bytes.
            self.old.reuse_file_of(self.new);
        }
        let before = RollbackPlan {
            pieces: self.todo,
            old: Some(self.old),
            len,
            flush: journal.is_some(),
            tip: "the script that --undo wrote puts the old bytes back; without one, take them from a backup, or write \
                  the new bytes to these offsets again",
        };
        rollback_on_error(region, before, stored)
    }

    fn store_all(
        &mut self,
        region: &mut Region,
        journal: Option<&Journal>,
        step: &mut ProgressFn<'_>,
    ) -> Result<(), PartialStore> {
        let len_before = region.length();
        if self.len_after > len_before {
            region.resize(self.len_after, false)?;
            // Allocated blocks alone do not make a page writable (a copy-on-write file system may need more).
            region.make_writable(self.todo, step)?;
            if let Some(journal) = journal {
                // The new part must not show what was in its blocks before.
                region.flush_length()?;
                noted(journal, false).map_err(PartialStore::early)?;
                region.make_writable(self.todo, step)?;
            }
        }
        let payload = self.new.fd().map_err(PartialStore::early)?;
        region.store(self.todo, payload, step)?;
        let stored = self.todo.iter().map(|piece| piece.len()).sum();
        let late = |error: crate::mapping::Error| PartialStore {
            error: error.into(),
            stored,
        };
        if self.len_after < len_before {
            if let Some(journal) = journal {
                // Putting back makes the file longer again.
                noted(journal, true).map_err(|error| PartialStore { error, stored })?;
            }
            region.resize(self.len_after, true).map_err(late)?;
        }
        if journal.is_some() {
            self.flush(region).map_err(late)?;
        }
        Ok(())
    }

    /// Makes the edits and the new length durable, with one barrier.
    fn flush(&self, region: &mut Region) -> crate::mapping::Result<()> {
        region.flush(self.span.intersect(region.span()), false).map(drop)
    }
}

fn noted(journal: &Journal, resizing: bool) -> Result<()> {
    journal.note_resizing(resizing).context("cannot write the recovery journal")
}

/// Splits `pieces`, which are in ascending order, at the offset `len`: returns the pieces that end at or before it, and
/// of the piece that contains it the part before it. Almost always these are all of the pieces, so a million need not
/// be copied.
fn split_at_end(pieces: &[Segment], len: u64) -> (&[Segment], Option<Segment>) {
    let within = pieces.partition_point(|piece| piece.range().end() <= len);
    let edge = pieces.get(within).and_then(|piece| piece.before(len));
    (&pieces[..within], edge)
}

/// The error for a file system that does not accept what was stored, see [`Region::send_now`].
pub fn not_taken() -> Error {
    let tip =
        "the bytes may be lost: remove the cause, then store the same bytes at the same offsets again, with --sync";
    Error::changed("the file was changed, but its file system did not accept all of it").tip(tip)
}

fn not_durable(changes: bool) -> Error {
    let tip =
        "the device may have lost data: see 'dmesg'; then store the same bytes at the same offsets again, with --sync";
    let message = match changes {
        true => "the file was changed, but is not proven durable",
        false => "the bytes are there, but not proven durable",
    };
    Error::changed(message).tip(tip)
}
