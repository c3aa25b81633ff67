//! The dump for people: bytes coloured by class, and a line that describes omitted rows.
//!
//! Without colours, line drawing and squeezing it equals `hexdump -Cv`. Lines that replace rows begin with `*`.

use super::color::{COLORS, Color, GREY, RESET, grey};
use super::framed::{Borders, paint};
use super::line::{self, Digits, OFFSET, PAIRS, character, characters, digits_of};
use super::{Gap, RowFormat, Style, annotation};

/// Column of the cell of byte `index`.
const fn cell(index: usize) -> usize {
    OFFSET + 2 + 3 * index + index / 8
}
/// Column of the bar before the characters, after a row of `row` cells.
const fn bar(row: usize) -> usize {
    cell(row - 1) + 4
}
/// The columns of a row of 16 bytes, without the digits of its offset.
pub(super) const BESIDE: usize = bar(16) + 2 + 16 - OFFSET;
const UNICODE_BAR: &[u8] = "│".as_bytes();
const ASCII_BAR: &[u8] = b"|";
const LINE: usize = bar(16) + 2 * UNICODE_BAR.len() + 16 + 1;

/// A line of 16 bytes, which are left blank.
static EMPTY_ASCII: [u8; bar(16) + 2 * ASCII_BAR.len() + 16 + 1] = empty(ASCII_BAR);
static EMPTY_UNICODE: [u8; LINE] = empty(UNICODE_BAR);

const fn empty<const LEN: usize>(mark: &[u8]) -> [u8; LEN] {
    let mut line = [b' '; LEN];
    let mut index = 0;
    while index < mark.len() {
        line[bar(16) + index] = mark[index];
        line[LEN - 1 - mark.len() + index] = mark[index];
        index += 1;
    }
    line[LEN - 1] = b'\n';
    line
}

/// The maximum length of a coloured line, without the first colour and the digits of an offset beyond eight: a switch
/// before each cell and each character, and two for the bars.
const COLOR_LINE: usize = LINE + (16 + 16 + 2) * size_of::<Color>() + RESET.len();

/// mmapctl's own format, with `N` bytes a row: 16, or 8.
pub(super) struct Hex<const N: usize> {
    color: bool,
    bar: &'static [u8],
}

impl<const N: usize> Hex<N> {
    pub(super) fn new(style: Style) -> Self {
        Hex {
            color: style.color,
            bar: if style.unicode { UNICODE_BAR } else { ASCII_BAR },
        }
    }

    fn bare(&self, at: u64, row: &[u8; N], len: usize, out: &mut Vec<u8>) {
        let mut line = [b' '; LINE];
        line::offset(at, &mut line, out);
        for (index, pair) in digits_of(row).iter().enumerate().take(len) {
            line[cell(index)..][..2].copy_from_slice(pair);
        }
        let text = bar(N) + self.bar.len();
        line[bar(N)..text].copy_from_slice(self.bar);
        line[text..][..N].copy_from_slice(&characters(row));
        let end = text + len + self.bar.len();
        line[text + len..end].copy_from_slice(self.bar);
        line[end] = b'\n';
        out.extend_from_slice(&line[..=end]);
    }

    /// Writes a full row of 16 directly into the text. `LEN` is the length of its line, which determines the bar.
    #[inline]
    fn full<const LEN: usize>(at: u64, row: &[u8; N], digits: &Digits<N>, empty: &[u8; LEN], out: &mut Vec<u8>) {
        let wide = const { (LEN - bar(16) - 16 - 1) / 2 };
        let Some(line) = line::append(at, empty, out) else {
            return;
        };
        for (index, pair) in digits.iter().enumerate() {
            line[cell(index)..][..2].copy_from_slice(pair);
        }
        line[bar(16) + wide..][..N].copy_from_slice(&characters(row));
    }

    #[inline]
    fn colored(&self, at: u64, row: &[u8; N], len: usize, out: &mut Vec<u8>) {
        let mut pen = ColorWriter {
            line: [b' '; COLOR_LINE],
            len: 0,
            ink: GREY,
        };
        out.extend_from_slice(&GREY);
        line::offset(at, &mut pen.line, out);
        pen.len = OFFSET;
        let mut colors = 0;
        for (index, byte) in row.iter().enumerate().take(len) {
            // The line is filled with spaces, so a gap needs only a step.
            pen.len = colors + cell(index);
            let before = pen.len;
            pen.switch(COLORS[usize::from(*byte)]);
            colors += pen.len - before;
            let [high, low] = PAIRS[usize::from(*byte)];
            // As long as a sequence, to overwrite one that was not kept.
            pen.put(&[high, low, b' ', b' ', b' ']);
        }
        pen.len = colors + bar(N);
        pen.switch(GREY);
        pen.put(self.bar);
        for byte in row.iter().take(len) {
            pen.switch(COLORS[usize::from(*byte)]);
            pen.put(&[character(*byte)]);
        }
        pen.switch(GREY);
        pen.put(self.bar);
        pen.put(RESET);
        pen.put(b"\n");
        out.extend_from_slice(&pen.line[..pen.len]);
    }
}

/// Writes a coloured line, switching colour only where it changes.
struct ColorWriter {
    line: [u8; COLOR_LINE],
    len: usize,
    ink: Color,
}

impl ColorWriter {
    #[inline]
    fn put(&mut self, text: &[u8]) {
        self.line[self.len..][..text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    /// Always writes the sequence, and keeps it if it is needed: in mixed data a branch would be mispredicted every
    /// other byte, which costs more than the store. The next write must overwrite a sequence that was not kept.
    #[inline]
    fn switch(&mut self, ink: Color) {
        self.line[self.len..][..ink.len()].copy_from_slice(&ink);
        self.len += ink.len() * usize::from(self.ink != ink);
        self.ink = ink;
    }
}

impl<const N: usize> RowFormat<N> for Hex<N> {
    const NAMES_HOLES: bool = true;

    #[inline]
    fn row(&self, at: u64, row: &[u8; N], digits: &Digits<N>, out: &mut Vec<u8>) {
        if self.color {
            self.colored(at, row, N, out);
        } else if N != 16 {
            self.bare(at, row, N, out);
        } else if self.bar.len() == UNICODE_BAR.len() {
            Self::full(at, row, digits, &EMPTY_UNICODE, out);
        } else {
            Self::full(at, row, digits, &EMPTY_ASCII, out);
        }
    }

    fn short(&self, at: u64, row: &[u8; N], len: usize, out: &mut Vec<u8>) {
        if self.color {
            self.colored(at, row, len, out);
        } else {
            self.bare(at, row, len, out);
        }
    }

    fn repeats(&self, end: u64, bytes: u64, out: &mut Vec<u8>) {
        let text = annotation::repeats(bytes);
        grey(self.color, &annotation::starred(end.wrapping_sub(bytes), &text), out);
    }

    fn gap(&self, gap: Gap, from: u64, to: u64, out: &mut Vec<u8>) {
        grey(self.color, &annotation::starred(from, &annotation::gap(gap, from, to)), out);
    }

    fn end(&self, at: u64, out: &mut Vec<u8>) {
        grey(self.color, &annotation::offset(at), out);
    }

    fn marked(&self, at: u64, row: &[u8; N], len: usize, changed: &[bool], out: &mut Vec<u8>) {
        if self.color {
            let seams = Borders::open(self.bar);
            paint(&seams, &annotation::offset(at), row, len, changed, true, out);
            return;
        }
        out.extend_from_slice(if changed.contains(&true) { b"> " } else { b"  " });
        self.bare(at, row, len, out);
    }

    fn has_margin(&self) -> bool {
        !self.color
    }
}

#[cfg(test)]
mod tests;
