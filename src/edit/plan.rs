//! A set of edits, compared with the file as a whole before any of them is stored.

use super::journal::{Journal, Place};
use super::spool::Spool;
use super::sums::SumOf;
use super::undo::{Before, Stopped, or_put_back};
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{Piece, Region, Span, Step, WINDOW};
use std::fmt;

/// What there is to know of an edit beside its [`Piece`]. Scripts may have millions of edits, so it is kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// What else there is to its bytes: its place in [`Edits::extras`] from 1, or 0; and [`EXPECTS`].
    extra: u32,
    /// Where the user wrote it.
    origin: u32,
}

/// The bit of [`Note::extra`] that says that the edit expects as many bytes as it writes.
const EXPECTS: u32 = 1 << 31;

/// The bit that tells an option from a line in [`Note::origin`].
const IS_OPTION: u32 = 1 << 31;

impl Note {
    /// Of an edit that expects bytes or not, with the `extra`-th of [`Edits::extras`] from 1, or 0 for none.
    pub fn new(expects: bool, extra: usize, origin: Origin) -> Note {
        let flag = if expects { EXPECTS } else { 0 };
        Note {
            extra: extra as u32 & !EXPECTS | flag,
            origin: match origin {
                Origin::Arguments => 0,
                Origin::Option(number) => number | IS_OPTION,
                Origin::Line(number) => number & !IS_OPTION,
            },
        }
    }

    /// Whether the edit is one on condition: its bytes come next in [`Edits::expected`].
    pub fn expects(self) -> bool {
        self.extra & EXPECTS != 0
    }

    /// What else there is to its bytes: an index of [`Edits::extras`].
    pub fn extra(self) -> Option<usize> {
        (self.extra & !EXPECTS).checked_sub(1).map(|index| index as usize)
    }

    /// Where the user wrote it.
    pub fn origin(self) -> Origin {
        match self.origin {
            0 => Origin::Arguments,
            number if number & IS_OPTION != 0 => Origin::Option(number & !IS_OPTION),
            number => Origin::Line(number),
        }
    }
}

/// What a few edits have beside their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// Masks, as long as the edit.
    Masks {
        /// The bits that are changed; `None`: all.
        new: Option<Vec<u8>>,
        /// The bits that are compared; `None`: all.
        old: Option<Vec<u8>>,
    },
    /// The new bytes are a checksum.
    Sum(SumOf),
}

/// Where an edit was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `--offset`, `--find` and the like.
    Arguments,
    /// The n-th `--edit`, from 1.
    Option(u32),
    /// A line of the script, from 1.
    Line(u32),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Arguments => f.write_str("the edit of the command line"),
            Origin::Option(number) => write!(f, "--edit {number}"),
            Origin::Line(number) => write!(f, "line {number}"),
        }
    }
}

/// Edits in ascending order that do not overlap, with their bytes. Bytes stand in the order of the edits, without gaps.
/// [`super::Builder`] makes them.
#[derive(Debug, Default)]
pub struct Edits {
    /// The edits: file ranges, and where their bytes stand in `new`.
    pub list: Vec<Piece>,
    /// What else there is to know of each.
    pub notes: Vec<Note>,
    /// The new bytes.
    pub new: Spool,
    /// The bytes that edits expect, of those that do.
    pub expected: Spool,
    /// What a few of the edits have beside their bytes.
    pub extras: Vec<Extra>,
    /// The file's length afterwards, in bytes.
    pub len_after: u64,
}

/// What comparing the edits with the file has shown. [`Edits::list`] then has those that change something; of all of
/// them, this keeps what reports say, because ten million cannot be listed twice.
#[derive(Debug)]
pub struct Comparison {
    /// How many edits there are.
    pub count: usize,
    /// The range from the first edit to the last.
    pub span: Span,
    /// Where the first of them go, as many as a message names.
    pub offsets: Vec<u64>,
    /// How many edits change something. They are the first in [`Edits::list`], and then come the others; both ascend.
    pub changing: usize,
    /// What stands in the file now, in the places of the new bytes: enough to undo every edit.
    pub old: Spool,
    /// How many bytes will be other than they are.
    pub differing: u64,
    /// Where other bytes stand than are expected.
    pub mismatches: Vec<Mismatch>,
}

impl Comparison {
    /// Of `edits`, before any of them has been compared.
    pub(super) fn of(edits: &Edits) -> Comparison {
        Comparison {
            count: edits.list.len(),
            span: edits.span(),
            offsets: edits.list.iter().take(MOST_OFFSETS).map(|edit| edit.at).collect(),
            changing: edits.list.len(),
            old: Spool::default(),
            differing: 0,
            mismatches: Vec::new(),
        }
    }
}

/// An edit whose range holds neither the expected nor the new bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// File offset of the first byte that differs from what is expected.
    pub offset: u64,
    /// What stands there: up to 16 bytes.
    pub found: Vec<u8>,
    /// What was expected there: as many.
    pub expected: Vec<u8>,
    /// Where the edit was written.
    pub origin: Origin,
}

/// How sure the new bytes are when the work is done.
#[derive(Debug, Clone, Copy)]
pub enum Durability<'a> {
    /// In the page cache, as a store leaves them.
    Cached,
    /// On the device.
    Synced,
    /// On the device, and old or new as a whole if the power fails on the way there.
    Atomic(&'a Place),
}

/// The most offsets of edits that a JSON report lists; the script has them all.
pub const MOST_OFFSETS: usize = 1000;

/// The most windows of the file that many edits keep mapped, 64 MiB: what is mapped counts as the process's memory.
const MOST_WINDOWS: usize = 8;

/// So many edits take about as much memory as a window, 3 MiB and their bytes, and keep a second thread busy.
pub(super) const MANY: usize = 100_000;

impl Edits {
    /// The range from the first edit to the last.
    pub fn span(&self) -> Span {
        match (self.list.first(), self.list.last()) {
            (Some(first), Some(last)) => first.span().join(last.span()),
            _ => Span::first(0),
        }
    }

    /// How many bytes comparing reads: those under the edits, and those that checksums are of.
    pub fn to_read(&self) -> u64 {
        let summed = self.extras.iter().map(|extra| match extra {
            Extra::Sum(sum) => sum.range.len(),
            Extra::Masks { .. } => 0,
        });
        summed.fold(self.new.len(), u64::saturating_add)
    }

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
        step: &mut Step<'_>,
    ) -> anyhow::Result<()> {
        let (changing, unchanged) = self.list.split_at(comparison.changing);
        let mut work = Work {
            todo: changing,
            span: comparison.span,
            len_after: self.len_after,
            new: &mut self.new,
            old: &mut comparison.old,
        };
        let changes = !changing.is_empty() || work.len_after != region.length();
        work.make_room(region, step)?;
        if matches!(durability, Durability::Atomic(_)) && changes {
            work.settle_old(region, step)?;
        }
        if !matches!(durability, Durability::Cached) {
            work.store_again(unchanged, region, step)
                .or_fail(|| Failure::trouble("nothing was written"))?;
        }
        if let Durability::Atomic(place) = durability
            && changes
        {
            // What the file holds already is neither old nor new on a device that has lost it, and needs no way back.
            let journal = Journal::begin(place, region, work.len_after, changing, work.old, work.new)?;
            // A signal that came meanwhile finds the file untouched.
            let outcome = step(0).map_err(anyhow::Error::from);
            let outcome = outcome.and_then(|()| work.all_or_nothing(region, true, step));
            return journal.close(outcome);
        }
        work.all_or_nothing(region, false, step)?;
        match durability {
            Durability::Cached => region.send_now().or_fail(not_taken),
            _ => work.flush(region).or_fail(|| not_durable(changes)),
        }
    }
}

/// What is stored, and what it is to come to.
struct Work<'a> {
    todo: &'a [Piece],
    /// From the first edit to the last.
    span: Span,
    /// The file's length afterwards, in bytes.
    len_after: u64,
    new: &'a mut Spool,
    old: &'a mut Spool,
}

impl Work<'_> {
    /// What must be there before the first store, so that no later one can fail for want of it.
    fn make_room(&mut self, region: &mut Region, step: &mut Step<'_>) -> anyhow::Result<()> {
        // Comparing left pages that can only be read, which would each fault once more; and many edits, which take
        // memory themselves, shall find the pages that were made ready for them still mapped.
        if self.todo.len() >= MANY {
            region.widen((self.todo.len() / MANY).min(MOST_WINDOWS) as u64 * WINDOW);
        }
        self.make_writable(region, step)
            .or_fail(|| Failure::trouble("nothing was written"))?;
        // Storing, and putting back, must need nothing that could run out by then, such as descriptors and disks.
        self.new.fd()?;
        self.old.settle()?;
        Ok(())
    }

    /// Makes the old bytes and the old length durable: what the page cache alone holds is neither old nor new on the
    /// device, and after a power failure a recovery would find it there. Pages that were made writable are dirty, so a
    /// page is written even if a failed flush has left it clean; afterwards they are made writable again.
    fn settle_old(&self, region: &mut Region, step: &mut Step<'_>) -> anyhow::Result<()> {
        region.flush_length().or_fail(|| {
            let message = "nothing was written: what the file holds cannot be made durable first";
            Failure::trouble(message).tip("the device may have lost data: see 'dmesg'")
        })?;
        self.make_writable(region, &mut |_| step(0))
            .or_fail(|| Failure::trouble("nothing was written"))
    }

    fn make_writable(&self, region: &mut Region, step: &mut Step<'_>) -> crate::mapping::Result<()> {
        let (within, edge) = split_at_end(self.todo, region.length());
        region.make_writable(within, step)?;
        region.make_writable(edge.as_slice(), step)
    }

    /// Stores edits whose bytes stand in the file, which changes nothing that can be seen.
    fn store_again(&mut self, unchanged: &[Piece], region: &mut Region, step: &mut Step<'_>) -> anyhow::Result<()> {
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
    fn all_or_nothing(&mut self, region: &mut Region, durable: bool, step: &mut Step<'_>) -> anyhow::Result<()> {
        let len = region.length();
        let stored = self.attempt(region, durable, step);
        if stored.is_err() {
            // Nor must putting back: the payload has served, and its file has all the room that the old bytes take.
            self.old.take_over(self.new);
        }
        let before = Before {
            pieces: self.todo,
            old: Some(self.old),
            len,
            flush: durable,
        };
        or_put_back(region, before, stored)
    }

    fn attempt(&mut self, region: &mut Region, durable: bool, step: &mut Step<'_>) -> Result<(), Stopped> {
        let len_before = region.length();
        if self.len_after > len_before {
            region.resize(self.len_after, false)?;
            // Blocks alone do not make a page writable (a copy-on-write file system may want more).
            region.make_writable(self.todo, step)?;
        }
        let payload = self.new.fd().map_err(Stopped::early)?;
        region.store(self.todo, payload, step)?;
        let stored = self.todo.iter().map(|piece| piece.len).sum();
        let late = |error: crate::mapping::Error| Stopped {
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

/// Those of `pieces`, which ascend, that lie before the offset `len`, and what does of the one that it lies in: almost
/// always they are all, and a million need not be copied.
fn split_at_end(pieces: &[Piece], len: u64) -> (&[Piece], Option<Piece>) {
    let within = pieces.partition_point(|piece| piece.span().end() <= len);
    let edge = pieces.get(within).and_then(|piece| piece.before(len));
    (&pieces[..within], edge)
}

/// What to say when the file system does not take what was stored: see [`Region::send_now`].
pub fn not_taken() -> Failure {
    let tip =
        "the bytes may be lost: when the cause is gone, store the same bytes at the same offsets again, with --sync";
    Failure::new(
        Exit::NotDurable,
        "the file was changed, but its file system did not take all of it",
    )
    .tip(tip)
}

fn not_durable(changes: bool) -> Failure {
    let tip =
        "the device may have lost data: see 'dmesg'; then store the same bytes at the same offsets again, with --sync";
    let message = match changes {
        true => "the file was changed, but is not proven durable",
        false => "the bytes are there, but not proven durable",
    };
    Failure::new(Exit::NotDurable, message).tip(tip)
}
