//! Edits, and the result of comparing them with the file.

use super::spooled::SpooledBytes;
use crate::edit::error::{Mismatch, SourceLocation};
use crate::mapping::{ByteRange, Segment};

/// How many offsets of edits a JSON report lists at most; the script has all of them.
pub const MOST_OFFSETS: usize = 1000;

/// This many edits take about as much memory as a window (3 MiB, plus their bytes) and keep a second thread busy.
pub(super) const MANY: usize = 100_000;

/// How many bytes a script may cut off at most. They are kept for the rollback and for `--undo`.
pub(super) const MOST_CUT: u64 = 64 << 20;

/// Properties of an edit besides its [`Segment`]. It is kept small: ten million edits take 330 MiB, and with a field for
/// each property 406.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditMeta {
    /// The edit's position in [`Edits::extras`], counted from 1, or 0 for none; with the flags [`EXPECTS`] and
    /// [`CONTINUES`].
    extra: u32,
    /// Where the user wrote the edit.
    origin: u32,
}

/// The flag in [`EditMeta::extra`] for an edit that expects as many bytes as it writes.
const EXPECTS: u32 = 1 << 31;

/// The flag in [`EditMeta::extra`] for an edit that continues the one before: the user wrote both as one edit.
const CONTINUES: u32 = 1 << 30;

/// The flag in [`EditMeta::origin`] that distinguishes an option from a line.
const IS_OPTION: u32 = 1 << 31;

impl EditMeta {
    /// Creates the properties of an edit. `extra` is its position in [`Edits::extras`], counted from 1, or 0 for none.
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

    /// Whether the edit is conditional: its bytes come next in [`Edits::expected`].
    pub fn expects(self) -> bool {
        self.extra & EXPECTS != 0
    }

    /// Marks the edit as a further part of an edit that the user wrote as one, such as a value with a mask or a
    /// checksum.
    pub fn continuing(self) -> EditMeta {
        EditMeta {
            extra: self.extra | CONTINUES,
            ..self
        }
    }

    /// Whether the user wrote this edit and the one before as one.
    pub fn continues(self) -> bool {
        self.extra & CONTINUES != 0
    }

    /// The index in [`Edits::extras`] of the edit's mask or checksum, if it has one.
    pub fn extra(self) -> Option<usize> {
        (self.extra & !(EXPECTS | CONTINUES)).checked_sub(1).map(|index| index as usize)
    }

    /// Where the user wrote the edit.
    pub fn origin(self) -> SourceLocation {
        match self.origin {
            0 => SourceLocation::Arguments,
            number if number & IS_OPTION != 0 => SourceLocation::Option(number & !IS_OPTION),
            number => SourceLocation::Line(number),
        }
    }
}

/// Details that only a few edits have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditDetail {
    /// Masks, each as long as the edit.
    Masks {
        /// The bits that are changed; `None` means all.
        new: Option<Vec<u8>>,
        /// The bits that are compared; `None` means all.
        old: Option<Vec<u8>>,
    },
    /// The new bytes are a checksum.
    Sum(ResolvedChecksum),
}

/// Edits in ascending order that do not overlap, with their bytes. The bytes are in the order of the edits, without
/// gaps. [`super::Builder`] makes them.
#[derive(Debug, Default)]
pub struct Edits {
    /// The edits: file ranges, and the positions of their bytes in `new`.
    pub list: Vec<Segment>,
    /// The properties of each edit.
    pub notes: Vec<EditMeta>,
    /// The new bytes.
    pub new: SpooledBytes,
    /// The bytes that conditional edits expect.
    pub expected: SpooledBytes,
    /// The details that a few of the edits have.
    pub extras: Vec<EditDetail>,
    /// How many edits continue the one before, see [`EditMeta::continues`].
    pub continued: usize,
    /// The file's length after the edits, in bytes.
    pub len_after: u64,
    /// Whether the offsets are those of a nonlinear view.
    pub is_view: bool,
}

/// The result of comparing the edits with the file. After the comparison, the first entries of [`Edits::list`] are the
/// edits that change something. What reports need of all the edits is kept here, because ten million cannot be listed
/// twice.
#[derive(Debug)]
pub struct Comparison {
    /// The number of edits.
    pub count: usize,
    /// The range from the first edit to the last.
    pub span: ByteRange,
    /// The offsets of the first edits, as many as a message lists.
    pub offsets: Vec<u64>,
    /// How many edits change something. They come first in [`Edits::list`], followed by the others; both parts are in
    /// ascending order.
    pub changing: usize,
    /// The file's current bytes at the places of the new bytes: enough to undo every edit.
    pub old: SpooledBytes,
    /// How many bytes will change.
    pub differing: u64,
    /// Where the file does not hold the bytes that are expected.
    pub mismatches: Vec<Mismatch>,
}

impl Comparison {
    /// The state before any of `edits` has been compared.
    pub(super) fn of(edits: &Edits) -> Comparison {
        let written = edits.list.iter().zip(&edits.notes).filter(|(_, note)| !note.continues());
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
    /// The bytes that the checksum covers.
    pub range: ByteRange,
    /// Whether the highest byte comes first.
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

    /// The number of edits as the user wrote them.
    pub fn count(&self) -> usize {
        self.list.len() - self.continued
    }

    /// How many bytes the comparison reads: those that edits replace, and those that checksums cover.
    pub fn bytes_to_read(&self) -> u64 {
        let summed = self.extras.iter().map(|extra| match extra {
            EditDetail::Sum(sum) => sum.range.len(),
            EditDetail::Masks { .. } => 0,
        });
        summed.fold(self.new.len(), u64::saturating_add)
    }
}

/// The number of positions at which `a` and `b` differ.
pub(super) fn count_differing(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}
