//! Edits, and what comparing them with the file has shown.

use super::spooled::SpooledBytes;
use crate::edit::error::{Mismatch, SourceLocation};
use crate::mapping::{ByteRange, Segment};

/// The most offsets of edits that a JSON report lists; the script has them all.
pub const MOST_OFFSETS: usize = 1000;

/// So many edits take about as much memory as a window, 3 MiB and their bytes, and keep a second thread busy.
pub(super) const MANY: usize = 100_000;

/// The most bytes that a script cuts off: they are kept, so that all or nothing holds, and so does --undo.
pub(super) const MOST_CUT: u64 = 64 << 20;

/// What there is to know of an edit beside its [`Segment`]. Scripts may have millions of edits, so it is kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditMeta {
    /// What else there is to its bytes: its place in [`Edits::extras`] from 1, or 0; and [`EXPECTS`].
    extra: u32,
    /// Where the user wrote it.
    origin: u32,
}

/// The bit of [`EditMeta::extra`] that says that the edit expects as many bytes as it writes.
const EXPECTS: u32 = 1 << 31;

/// The bit of [`EditMeta::extra`] that says that the edit goes on with the bytes of the one before: users wrote one.
const CONTINUES: u32 = 1 << 30;

/// The bit that tells an option from a line in [`EditMeta::origin`].
const IS_OPTION: u32 = 1 << 31;

impl EditMeta {
    /// Of an edit that expects bytes or not, with the `extra`-th of [`Edits::extras`] from 1, or 0 for none.
    pub fn new(expects: bool, extra: usize, origin: SourceLocation) -> EditMeta {
        let flag = if expects { EXPECTS } else { 0 };
        EditMeta {
            extra: extra as u32 & !(EXPECTS | CONTINUES) | flag,
            origin: match origin {
                SourceLocation::Arguments => 0,
                SourceLocation::Option(number) => number | IS_OPTION,
                SourceLocation::Line(number) => number & !IS_OPTION,
            },
        }
    }

    /// Whether the edit is one on condition: its bytes come next in [`Edits::expected`].
    pub fn expects(self) -> bool {
        self.extra & EXPECTS != 0
    }

    /// As a further part of what is one edit to the user: of a value with a mask, or a checksum, among others.
    pub fn continuing(self) -> EditMeta {
        EditMeta {
            extra: self.extra | CONTINUES,
            ..self
        }
    }

    /// Whether the edit is one with that before it.
    pub fn continues(self) -> bool {
        self.extra & CONTINUES != 0
    }

    /// What else there is to its bytes: an index of [`Edits::extras`].
    pub fn extra(self) -> Option<usize> {
        (self.extra & !(EXPECTS | CONTINUES))
            .checked_sub(1)
            .map(|index| index as usize)
    }

    /// Where the user wrote it.
    pub fn origin(self) -> SourceLocation {
        match self.origin {
            0 => SourceLocation::Arguments,
            number if number & IS_OPTION != 0 => SourceLocation::Option(number & !IS_OPTION),
            number => SourceLocation::Line(number),
        }
    }
}

/// What a few edits have beside their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditDetail {
    /// Masks, as long as the edit.
    Masks {
        /// The bits that are changed; `None`: all.
        new: Option<Vec<u8>>,
        /// The bits that are compared; `None`: all.
        old: Option<Vec<u8>>,
    },
    /// The new bytes are a checksum.
    Sum(ResolvedChecksum),
}

/// Edits in ascending order that do not overlap, with their bytes. Bytes stand in the order of the edits, without gaps.
/// [`super::Builder`] makes them.
#[derive(Debug, Default)]
pub struct Edits {
    /// The edits: file ranges, and where their bytes stand in `new`.
    pub list: Vec<Segment>,
    /// What else there is to know of each.
    pub notes: Vec<EditMeta>,
    /// The new bytes.
    pub new: SpooledBytes,
    /// The bytes that edits expect, of those that do.
    pub expected: SpooledBytes,
    /// What a few of the edits have beside their bytes.
    pub extras: Vec<EditDetail>,
    /// How many of them are further parts of what is one edit to the user, see [`EditMeta::continues`].
    pub continued: usize,
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
    pub span: ByteRange,
    /// Where the first of them go, as many as a message names.
    pub offsets: Vec<u64>,
    /// How many edits change something. They are the first in [`Edits::list`], and then come the others; both ascend.
    pub changing: usize,
    /// What stands in the file now, in the places of the new bytes: enough to undo every edit.
    pub old: SpooledBytes,
    /// How many bytes will be other than they are.
    pub differing: u64,
    /// Where other bytes stand than are expected.
    pub mismatches: Vec<Mismatch>,
}

impl Comparison {
    /// Of `edits`, before any of them has been compared.
    pub(super) fn of(edits: &Edits) -> Comparison {
        let written = edits
            .list
            .iter()
            .zip(&edits.notes)
            .filter(|(_, note)| !note.continues());
        Comparison {
            count: edits.count(),
            span: edits.span(),
            offsets: written.take(MOST_OFFSETS).map(|(edit, _)| edit.at()).collect(),
            changing: edits.list.len(),
            old: SpooledBytes::default(),
            differing: 0,
            mismatches: Vec::new(),
        }
    }
}

/// A checksum whose range is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedChecksum {
    /// The bytes it sums.
    pub range: ByteRange,
    /// Highest byte first.
    pub big: bool,
}

impl Edits {
    /// The range from the first edit to the last.
    pub fn span(&self) -> ByteRange {
        match (self.list.first(), self.list.last()) {
            (Some(first), Some(last)) => first.range().join(last.range()),
            _ => ByteRange::first(0),
        }
    }

    /// How many edits there are, as they were written.
    pub fn count(&self) -> usize {
        self.list.len() - self.continued
    }

    /// How many bytes comparing reads: those under the edits, and those that checksums are of.
    pub fn bytes_to_read(&self) -> u64 {
        let summed = self.extras.iter().map(|extra| match extra {
            EditDetail::Sum(sum) => sum.range.len(),
            EditDetail::Masks { .. } => 0,
        });
        summed.fold(self.new.len(), u64::saturating_add)
    }
}

/// In how many places two runs of bytes differ.
pub(super) fn count_differing(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}
