//! Formats bytes as text, and does nothing else. Each format has its own file.
//!
//! A format defines how a row looks (`RowFormat`). `Rows` splits the input into rows, omits repeated rows and handles
//! holes. So a new format is one `RowFormat`, and a faster row is a change of one function.

mod annotation;
mod c;
mod canonical;
mod color;
mod framed;
mod hex;
mod line;
mod marked;
mod plain;
#[cfg(test)]
mod tests;
mod typed;
mod xxd;

use crate::number::NumberFormat;
use line::{Digits, digits_of, encode};

pub use framed::MARK;

/// A dump in progress: bytes in, text out.
pub trait Dump: Sync {
    /// Appends the text for `data`, which follows directly after what was fed before.
    ///
    /// Pieces may have any length, including 0: the whole text depends only on the bytes, not on where they were split.
    /// Text may be appended later than its bytes (a partial row, a run that continues), at the latest by
    /// [`finish`](Dump::finish).
    fn bytes(&mut self, data: &[u8], out: &mut Vec<u8>);

    /// Whether a hole takes no more than a line or two. If so, feed it by [`hole`](Dump::hole), otherwise as zero
    /// bytes.
    fn names_holes(&self) -> bool;

    /// Appends the text for `len` zero bytes that are a hole in the file, not data; in constant time for any length.
    ///
    /// Adjacent holes are one hole. Without [`names_holes`](Dump::names_holes) the text is still correct, but every row
    /// of it is written.
    fn hole(&mut self, len: u64, out: &mut Vec<u8>);

    /// Appends the text for `len` zero bytes in blocks of the file that were never written, as [`hole`](Dump::hole)
    /// does.
    fn preallocated(&mut self, len: u64, out: &mut Vec<u8>);

    /// The length of a row, and how many bytes precede the next row at which no bytes and no hole are pending. From
    /// there on, rows may be laid out [separately](Dump::part).
    fn next_row(&self) -> (u64, u64);

    /// Replaces the contents of `part` by the whole rows of `data`, the first of which begins at offset `at`, laid out
    /// as if no row preceded them. Bytes after the last whole row are ignored. May be called on any thread.
    fn part(&self, at: u64, data: &[u8], part: &mut EncodedRows);

    /// Adds the next rows from `part`: appends the text that precedes them, and returns the part of their text to
    /// print.
    fn join<'a>(&mut self, part: &'a EncodedRows, out: &mut Vec<u8>) -> &'a [u8];

    /// Appends the pending rows and the bytes of a partial row, for a dump that is cut off here. Called once, at the
    /// end.
    fn cut(&mut self, out: &mut Vec<u8>);

    /// Appends the rest: a partial row, the closing offset. Called once, at the end.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// Rows that were laid out separately from those before them.
#[derive(Debug, Default)]
pub struct EncodedRows {
    text: Vec<u8>,
    /// How many bytes the rows have.
    len: u64,
    /// How many bytes the first rows have that are all the same; 0 if there are none.
    lead: u64,
    /// How much of the text belongs to these.
    lead_text: usize,
    /// The first of them.
    first: Vec<u8>,
    /// The last row that was laid out, and how many bytes after it repeat it.
    last: Vec<u8>,
    trail: u64,
}

impl EncodedRows {
    /// How many bytes its rows show.
    pub fn bytes(&self) -> u64 {
        self.len
    }
}

/// The style of a dump. Formats that reproduce another tool use only what that tool supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours by byte class, as SGR sequences (`hex`).
    pub color: bool,
    /// Omit rows that repeat the one above, and name holes (`hex`, `canonical`, columns of numbers).
    pub squeeze: bool,
    /// The locale is UTF-8, so line drawing characters may be used (`hex`).
    pub unicode: bool,
    /// The available width (`hex`).
    pub fit: RowWidth,
}

/// The width of a `hex` dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowWidth {
    /// 16 bytes a row: for any output that is not a terminal.
    #[default]
    Rows,
    /// 8 bytes a row.
    Narrow,
    /// 16 bytes a row in a frame, with this many digits for the offset.
    Framed(usize),
}

impl RowWidth {
    /// The best width whose rows fit a terminal of `columns` columns, for offsets up to `end`.
    ///
    /// Never more than 16 bytes: offsets then increase by the same digit in every dump, and rows of 32 bytes are hard
    /// to read.
    pub fn of(columns: usize, end: u64, unicode: bool) -> RowWidth {
        let digits = annotation::offset(end).len();
        if unicode && digits + framed::BESIDE <= columns {
            RowWidth::Framed(digits)
        } else if digits + hex::BESIDE <= columns {
            RowWidth::Rows
        } else {
            RowWidth::Narrow
        }
    }
}

/// A dump's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format<'a> {
    /// mmapctl's own format, for people: two groups of eight, characters, colours, named holes and runs.
    Hex,
    /// Identical to `hexdump -C` in the C locale, or to `hexdump -Cv` without squeezing.
    Canonical,
    /// Identical to `xxd`.
    Xxd,
    /// Identical to `xxd -p`.
    Plain,
    /// Identical to `xxd -i` of a file of this name, as it was typed.
    C(&'a [u8]),
    /// Columns of numbers, as `od` prints them.
    Typed(NumberFormat),
}

impl Format<'_> {
    /// Whether a row is a line, so that it can be marked.
    pub fn has_rows(self) -> bool {
        !matches!(self, Format::C(_))
    }
}

/// A dump in `format` whose first byte has file offset `start`. Rows begin there, aligned or not.
pub fn dump(format: Format<'_>, start: u64, style: Style) -> Box<dyn Dump> {
    of(format, start, style, None)
}

/// A dump that marks the bytes whose entry in `changed` is true. A row with a mark is never omitted.
///
/// Marks are reverse video if colours are used, otherwise `>` in front of the row. Formats [without
/// rows](Format::has_rows) have no marks.
pub fn marked(format: Format<'_>, start: u64, style: Style, changed: Vec<bool>) -> Box<dyn Dump> {
    of(format, start, style, Some(changed))
}

fn of(format: Format<'_>, start: u64, style: Style, changed: Option<Vec<bool>>) -> Box<dyn Dump> {
    match (format, style.fit) {
        (Format::Hex, RowWidth::Rows) => rows(hex::Hex::<16>::new(style), start, style.squeeze, changed),
        (Format::Hex, RowWidth::Narrow) => rows(hex::Hex::<8>::new(style), start, style.squeeze, changed),
        (Format::Hex, RowWidth::Framed(digits)) => {
            rows(framed::Framed::new(style, digits), start, style.squeeze, changed)
        }
        (Format::Canonical, _) => rows(canonical::Canonical, start, style.squeeze, changed),
        (Format::Xxd, _) => rows(xxd::Xxd, start, false, changed),
        (Format::Plain, _) => rows(plain::Plain, start, false, changed),
        (Format::C(name), _) => rows(c::C::new(name, start), start, false, changed),
        (Format::Typed(unit), _) => rows(typed::Typed::new(unit), start, style.squeeze, changed),
    }
}

fn rows<L, const N: usize>(layout: L, start: u64, squeeze: bool, changed: Option<Vec<bool>>) -> Box<dyn Dump>
where
    L: RowFormat<N> + 'static,
{
    match changed {
        None => Box::new(Rows::new(layout, start, squeeze)),
        Some(changed) => Box::new(Rows::new(marked::Marked::new(layout, start, changed), start, squeeze)),
    }
}

/// Why a file reads as zeros where it has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// It has no blocks.
    Hole,
    /// It has blocks that were never written.
    Preallocated,
}

/// How one format lays out a row of `N` bytes, and what it prints for omitted rows.
trait RowFormat<const N: usize>: Sync {
    /// Whether a hole has its own line. If not, it is printed as rows of zeros.
    const NAMES_HOLES: bool = false;

    /// Whether a dump without bytes has its first and last lines, too.
    const FRAMES_NOTHING: bool = false;

    /// Appends the first line, if there is one.
    fn begin(&self, _out: &mut Vec<u8>) {}

    /// Appends one full row, whose first byte has offset `at`. The hot path.
    fn row(&self, at: u64, row: &[u8; N], digits: &Digits<N>, out: &mut Vec<u8>);

    /// Appends the last row, of which only `len` bytes (more than 0, fewer than `N`) exist; the others are 0.
    fn short(&self, at: u64, row: &[u8; N], len: usize, out: &mut Vec<u8>);

    /// Appends the text for `bytes` bytes of rows before `end` that are omitted because each equals the one above.
    fn repeats(&self, _end: u64, _bytes: u64, _out: &mut Vec<u8>) {}

    /// Appends the line for a gap; called only with [`NAMES_HOLES`](RowFormat::NAMES_HOLES).
    fn gap(&self, _gap: Gap, _from: u64, _to: u64, _out: &mut Vec<u8>) {}

    /// Appends the closing line of a dump that ends at `at`.
    fn end(&self, _at: u64, _out: &mut Vec<u8>) {}

    /// Appends a row of `len` bytes, 1 to `N`, and marks those whose entry in `changed` is true.
    fn marked(&self, at: u64, row: &[u8; N], len: usize, changed: &[bool], out: &mut Vec<u8>) {
        out.extend_from_slice(if changed.contains(&true) { b"> " } else { b"  " });
        if len == N {
            self.row(at, row, &digits_of(row), out);
        } else {
            self.short(at, row, len, out);
        }
    }

    /// Whether marks are printed in front of the row. Every line then has a margin for them.
    fn has_margin(&self) -> bool {
        true
    }

    /// Whether the row at `at` must be printed even if it repeats the one above.
    #[inline]
    fn keeps(&self, _at: u64) -> bool {
        false
    }
}

/// Splits the input into rows of `N` bytes for a [`RowFormat`].
///
/// Runs and holes are pending until something else follows: only then is their length known, and only so is the text
/// independent of how the input was split.
struct Rows<L, const N: usize> {
    layout: L,
    start: u64,
    next: Next<N>,
    carry: [u8; N],
    held: usize,
    begun: bool,
    /// Bytes of a gap that was fed but not processed yet; they come after `carry`.
    gap: u64,
    /// The kind of that gap.
    kind: Gap,
}

/// The state that the text of the next row depends on, besides the row.
#[derive(Clone, Copy)]
struct Next<const N: usize> {
    /// Its offset. It wraps, so that the last row of a 64-bit address space needs no special case.
    at: u64,
    squeeze: bool,
    /// The row that was last laid out, if the next one can be a repetition of it; unused without `squeeze`.
    above: Option<[u8; N]>,
    /// Bytes in rows omitted since `above`.
    repeated: u64,
}

/// How many rows are encoded at a time: their digits stay in the first-level cache until they are laid out.
const BLOCK: usize = 64;

impl<const N: usize> Next<N> {
    fn new(at: u64, squeeze: bool) -> Self {
        Next {
            at,
            squeeze,
            above: None,
            repeated: 0,
        }
    }

    fn rows(&mut self, layout: &impl RowFormat<N>, mut rest: &[[u8; N]], out: &mut Vec<u8>) {
        let mut digits = [[[0; 2]; N]; BLOCK];
        while let Some(row) = rest.first() {
            // Rows that are omitted need no digits.
            if self.repeats(layout, row) {
                self.leave_out(N as u64);
                rest = &rest[1..];
                continue;
            }
            let (block, others) = rest.split_at(rest.len().min(BLOCK));
            encode(block, &mut digits);
            for (row, digits) in block.iter().zip(&digits) {
                self.row(layout, row, digits, out);
            }
            rest = others;
        }
    }

    #[inline]
    fn row(&mut self, layout: &impl RowFormat<N>, row: &[u8; N], digits: &Digits<N>, out: &mut Vec<u8>) {
        if self.squeeze {
            if self.repeats(layout, row) {
                self.leave_out(N as u64);
                return;
            }
            self.end_run(layout, out);
            self.above = Some(*row);
        }
        layout.row(self.at, row, digits, out);
        self.at = self.at.wrapping_add(N as u64);
    }

    /// Whether `row`, which is the next one, is omitted.
    #[inline]
    fn repeats(&self, layout: &impl RowFormat<N>, row: &[u8; N]) -> bool {
        self.squeeze && self.above.as_ref() == Some(row) && !layout.keeps(self.at)
    }

    fn leave_out(&mut self, bytes: u64) {
        self.repeated += bytes;
        self.at = self.at.wrapping_add(bytes);
    }

    fn end_run(&mut self, layout: &impl RowFormat<N>, out: &mut Vec<u8>) {
        if self.repeated > 0 {
            layout.repeats(self.at, self.repeated, out);
            self.repeated = 0;
        }
    }
}

impl<L: RowFormat<N>, const N: usize> Rows<L, N> {
    fn new(layout: L, start: u64, squeeze: bool) -> Self {
        Rows {
            layout,
            start,
            next: Next::new(start, squeeze),
            carry: [0; N],
            held: 0,
            begun: false,
            gap: 0,
            kind: Gap::Hole,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.begun {
            self.begun = true;
            self.layout.begin(out);
        }
    }

    /// Lays out the carried row once it is full.
    fn end_carry(&mut self, out: &mut Vec<u8>) {
        if self.held == N {
            self.held = 0;
            let row = self.carry;
            self.next.row(&self.layout, &row, &digits_of(&row), out);
        }
    }

    fn begin_gap(&mut self, kind: Gap, len: u64, out: &mut Vec<u8>) {
        if self.kind != kind && len > 0 {
            if self.gap > 0 {
                self.begin(out);
                self.end_gap(out);
            }
            self.kind = kind;
        }
        self.gap += len;
    }

    fn end_gap(&mut self, out: &mut Vec<u8>) {
        let mut len = std::mem::take(&mut self.gap);
        if self.held > 0 {
            let pad = len.min((N - self.held) as u64);
            self.carry[self.held..][..pad as usize].fill(0);
            self.held += pad as usize;
            len -= pad;
            self.end_carry(out);
        }
        let tail = len % N as u64;
        if len > tail {
            self.zero_rows(len - tail, out);
        }
        if tail > 0 {
            self.carry[..tail as usize].fill(0);
            self.held = tail as usize;
        }
    }

    /// Lays out `bytes` bytes of zero rows that are a gap: a positive multiple of `N`, with nothing carried.
    fn zero_rows(&mut self, bytes: u64, out: &mut Vec<u8>) {
        let (next, layout) = (&mut self.next, &self.layout);
        if !next.squeeze {
            for _ in 0..bytes / N as u64 {
                next.row(layout, &[0; N], &[*b"00"; N], out);
            }
        } else if L::NAMES_HOLES {
            next.end_run(layout, out);
            let to = next.at.wrapping_add(bytes);
            layout.gap(self.kind, next.at, to, out);
            next.at = to;
            // The next row now follows the line of a gap, which no row repeats.
            next.above = None;
        } else {
            next.row(layout, &[0; N], &[*b"00"; N], out);
            next.leave_out(bytes - N as u64);
        }
    }

    /// Lays out the carried bytes with the start of `data`. Returns the whole rows after it, and carries the rest.
    fn whole_rows<'a>(&mut self, mut data: &'a [u8], out: &mut Vec<u8>) -> &'a [[u8; N]] {
        if data.is_empty() {
            return &[];
        }
        self.begin(out);
        self.end_gap(out);
        if self.held > 0 {
            let (head, rest) = data.split_at(data.len().min(N - self.held));
            self.carry[self.held..][..head.len()].copy_from_slice(head);
            self.held += head.len();
            self.end_carry(out);
            data = rest;
        }
        let (rows, rest) = data.as_chunks::<N>();
        if !rest.is_empty() {
            self.carry[..rest.len()].copy_from_slice(rest);
            self.held = rest.len();
        }
        rows
    }
}

impl<L: RowFormat<N>, const N: usize> Dump for Rows<L, N> {
    fn bytes(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let rows = self.whole_rows(data, out);
        self.next.rows(&self.layout, rows, out);
    }

    fn names_holes(&self) -> bool {
        self.next.squeeze
    }

    fn hole(&mut self, len: u64, out: &mut Vec<u8>) {
        self.begin_gap(Gap::Hole, len, out);
    }

    fn preallocated(&mut self, len: u64, out: &mut Vec<u8>) {
        self.begin_gap(Gap::Preallocated, len, out);
    }

    fn next_row(&self) -> (u64, u64) {
        let row = N as u64;
        let waiting = self.held as u64 + self.gap % row;
        let before = if self.held == 0 && self.gap == 0 {
            0
        } else {
            row - waiting % row
        };
        (row, before)
    }

    fn part(&self, at: u64, data: &[u8], part: &mut EncodedRows) {
        let EncodedRows { text, first, last, .. } = part;
        for old in [&mut *text, &mut *first, &mut *last] {
            old.clear();
        }
        let (rows, _) = data.as_chunks::<N>();
        let mut next = Next::new(at, self.next.squeeze);
        let (mut same, mut lead_text) = (0, 0);
        if let Some((row, rest)) = rows.split_first() {
            next.row(&self.layout, row, &digits_of(row), text);
            same = 1 + rest.iter().take_while(|row| next.repeats(&self.layout, row)).count();
            next.leave_out((same - 1) as u64 * N as u64);
            first.extend_from_slice(row);
        }
        let others = &rows[same..];
        if !others.is_empty() {
            next.end_run(&self.layout, text);
            lead_text = text.len();
            next.rows(&self.layout, others, text);
        }
        last.extend(next.above.iter().flatten());
        *part = EncodedRows {
            len: rows.len() as u64 * N as u64,
            lead: same as u64 * N as u64,
            lead_text,
            trail: next.repeated,
            ..std::mem::take(part)
        };
    }

    fn join<'a>(&mut self, part: &'a EncodedRows, out: &mut Vec<u8>) -> &'a [u8] {
        let Ok(first) = <&[u8; N]>::try_from(&part.first[..]) else {
            return &[];
        };
        self.begin(out);
        let (next, layout) = (&mut self.next, &self.layout);
        let repeats = next.repeats(layout, first);
        if repeats {
            next.leave_out(part.lead);
        }
        if repeats && part.lead == part.len {
            return &[];
        }
        next.end_run(layout, out);
        let before = if repeats { part.lead } else { 0 };
        next.at = next.at.wrapping_add(part.len - before);
        next.above = <[u8; N]>::try_from(&part.last[..]).ok();
        next.repeated = part.trail;
        &part.text[if repeats { part.lead_text } else { 0 }..]
    }

    fn cut(&mut self, out: &mut Vec<u8>) {
        if self.gap > 0 {
            self.begin(out);
        }
        self.end_gap(out);
        self.next.end_run(&self.layout, out);
        if self.held > 0 {
            self.carry[self.held..].fill(0);
            self.layout.short(self.next.at, &self.carry, self.held, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if L::FRAMES_NOTHING {
            self.begin(out);
        }
        self.cut(out);
        let end = self.next.at.wrapping_add(self.held as u64);
        if end != self.start || L::FRAMES_NOTHING {
            self.layout.end(end, out);
        }
    }
}
