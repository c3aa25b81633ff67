//! The bytes of edits are stored, all of them or none, and as durable as asked.

use super::edits::{Comparison, Edits, MANY};
use super::journal::{Journal, JournalPath};
use super::rollback::{PartialStore, RollbackPlan, rollback_on_error};
use super::spooled::SpooledBytes;
use crate::edit::error::{Error, ErrorContext, Result};
use crate::mapping::{ByteRange, ProgressFn, Region, Segment, WINDOW};

/// How sure the new bytes are when the work is done.
#[derive(Debug, Clone, Copy)]
pub enum Durability<'a> {
    /// In the page cache, as a store leaves them.
    Cached,
    /// On the device.
    Synced,
    /// On the device, and old or new as a whole if the power fails on the way there.
    Atomic(&'a JournalPath),
}

/// The most windows of the file that many edits keep mapped, 64 MiB: what is mapped counts as the process's memory.
const MOST_WINDOWS: usize = 8;

impl Edits {
    /// Stores the edits that `comparison` found to change something and sets the length: all of it, or nothing. Where
    /// they are to be durable, stores all edits: a page may hold the new bytes and be clean although the device has never
    /// got them, because a failed flush leaves it so, and only a store makes the next flush write it.
    ///
    /// # Errors
    /// What keeps a page from being written. The file is then as it was, unless the error says that it is in doubt,
    /// or that it changed and is not proven durable.
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
            work.store_again(unchanged, region, step)
                .map_failure(|| Error::untouched("nothing was written"))?;
        }
        // After that: it may give a hole its blocks, and until their zeros are written they have what was there before.
        if matches!(durability, Durability::Atomic(_)) && changes {
            work.settle_old(region, step)?;
        }
        if let Durability::Atomic(place) = durability
            && changes
        {
            // What the file holds already is neither old nor new on a device that has lost it, and needs no way back.
            let journal = Journal::begin(place, region, work.len_after, changing, work.old, work.new)?;
            // A signal that came meanwhile finds the file untouched.
            let outcome = step(0).map_err(Error::from);
            let outcome = outcome.and_then(|()| work.all_or_nothing(region, true, step));
            return journal.close(outcome);
        }
        work.all_or_nothing(region, false, step)?;
        match durability {
            Durability::Cached => region.send_now().map_failure(not_taken),
            _ => work.flush(region).map_failure(|| not_durable(changes)),
        }
    }
}

/// What is stored, and what it is to come to.
struct Transaction<'a> {
    todo: &'a [Segment],
    /// From the first edit to the last.
    span: ByteRange,
    /// The file's length afterwards, in bytes.
    len_after: u64,
    new: &'a mut SpooledBytes,
    old: &'a mut SpooledBytes,
}

impl Transaction<'_> {
    /// What must be there before the first store, so that no later one can fail for want of it.
    fn make_room(&mut self, region: &mut Region, step: &mut ProgressFn<'_>) -> Result<()> {
        // Comparing left pages that can only be read, which would each fault once more; and many edits, which take
        // memory themselves, shall find the pages that were made ready for them still mapped.
        if self.todo.len() >= MANY {
            region.set_window_size((self.todo.len() / MANY).min(MOST_WINDOWS) as u64 * WINDOW);
        }
        self.make_writable(region, step)
            .map_failure(|| Error::untouched("nothing was written"))?;
        if self.len_after > region.length() {
            let sealed = region.backing().unless_sealed();
            sealed.map_failure(|| Error::untouched("nothing was written"))?;
        }
        // Storing, and putting back, must need nothing that could run out by then, such as descriptors and disks.
        self.new.fd()?;
        self.old.settle()?;
        Ok(())
    }

    /// Makes the old bytes and the old length durable: what the page cache alone holds is neither old nor new on the
    /// device, and after a power failure a recovery would find it there. Pages that were made writable are dirty, so a
    /// page is written even if a failed flush has left it clean; afterwards they are made writable again.
    fn settle_old(&self, region: &mut Region, step: &mut ProgressFn<'_>) -> Result<()> {
        region.flush_length().map_failure(|| {
            let message = "nothing was written: the present contents of the file cannot first be made durable";
            Error::untouched(message).tip("the device may have lost data: see 'dmesg'")
        })?;
        self.make_writable(region, &mut |_| step(0))
            .map_failure(|| Error::untouched("nothing was written"))
    }

    fn make_writable(&self, region: &mut Region, step: &mut ProgressFn<'_>) -> crate::mapping::Result<()> {
        let (within, edge) = split_at_end(self.todo, region.length());
        region.make_writable(within, step)?;
        region.make_writable(edge.as_slice(), step)
    }

    /// Stores edits whose bytes stand in the file, which changes nothing that can be seen.
    fn store_again(&mut self, unchanged: &[Segment], region: &mut Region, step: &mut ProgressFn<'_>) -> Result<()> {
        let mut stop = |_| step(0);
        // Zeros past the end are there once the file has grown.
        let (within, edge) = split_at_end(unchanged, region.length());
        for pieces in [within, edge.as_slice()] {
            region.make_writable(pieces, &mut stop)?;
            region.store(pieces, self.new.fd()?, &mut stop)?;
        }
        Ok(())
    }

    /// Stores, and puts back what was stored before a failure; with `durable`, either is on the device then.
    fn all_or_nothing(&mut self, region: &mut Region, durable: bool, step: &mut ProgressFn<'_>) -> Result<()> {
        let len = region.length();
        let stored = self.store_all(region, durable, step);
        if stored.is_err() {
            // Nor must putting back: the payload has served, and its file has all the room that the old bytes take.
            self.old.reuse_file_of(self.new);
        }
        let before = RollbackPlan {
            pieces: self.todo,
            old: Some(self.old),
            len,
            flush: durable,
        };
        rollback_on_error(region, before, stored)
    }

    fn store_all(&mut self, region: &mut Region, durable: bool, step: &mut ProgressFn<'_>) -> Result<(), PartialStore> {
        let len_before = region.length();
        if self.len_after > len_before {
            region.resize(self.len_after, false)?;
            // Blocks alone do not make a page writable (a copy-on-write file system may want more).
            region.make_writable(self.todo, step)?;
        }
        let payload = self.new.fd().map_err(PartialStore::early)?;
        region.store(self.todo, payload, step)?;
        let stored = self.todo.iter().map(|piece| piece.len()).sum();
        let late = |error: crate::mapping::Error| PartialStore {
            error: error.into(),
            stored,
        };
        if self.len_after < len_before {
            region.resize(self.len_after, true).map_err(late)?;
        }
        if durable {
            self.flush(region).map_err(late)?;
        }
        Ok(())
    }

    /// Makes the edits durable, and the length that they leave, by one barrier.
    fn flush(&self, region: &mut Region) -> crate::mapping::Result<()> {
        region.flush(self.span.intersect(region.span()), false).map(drop)
    }
}

/// Splits `pieces`, which ascend, at the offset `len`: the whole pieces before it, and the part before it of the piece that
/// it lies in. Almost always that is all of them, and a million need not be copied.
fn split_at_end(pieces: &[Segment], len: u64) -> (&[Segment], Option<Segment>) {
    let within = pieces.partition_point(|piece| piece.range().end() <= len);
    let edge = pieces.get(within).and_then(|piece| piece.before(len));
    (&pieces[..within], edge)
}

/// What to say when the file system does not take what was stored: see [`Region::send_now`].
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
