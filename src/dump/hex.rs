//! The dump for people: bytes coloured by class, and a line that says what was left out.
//!
//! Without colour, line drawing and squeezing it is `hexdump -Cv`. Lines that stand for rows begin
//! with `*`.

use super::color::{GREY, INKS, Ink, RESET, grey};
use super::framed::{Seams, paint};
use super::line::{self, Digits, OFFSET, PAIRS, character, characters, digits_of};
use super::{Gap, Layout, Style, remark};

/// Where the cell of byte `index` begins.
const fn cell(index: usize) -> usize {
    OFFSET + 2 + 3 * index + index / 8
}
/// Where the characters' bar is behind a row of `row` cells.
const fn bar(row: usize) -> usize {
    cell(row - 1) + 4
}
/// The columns of a row of 16 beside the digits of its offset.
pub(super) const BESIDE: usize = bar(16) + 2 + 16 - OFFSET;
const UNICODE_BAR: &[u8] = "│".as_bytes();
const ASCII_BAR: &[u8] = b"|";
const LINE: usize = bar(16) + 2 * UNICODE_BAR.len() + 16 + 1;

/// A line of 16 bytes without them.
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

/// The longest that a coloured line gets, but for the first colour and what an offset has beyond eight digits: a switch
/// before each cell and each character, and two for the bars.
const COLOR_LINE: usize = LINE + (16 + 16 + 2) * size_of::<Ink>() + RESET.len();

/// Our own layout, `N` bytes a row: 16, or 8.
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

    /// A full row of 16, where it stands in the text; `LEN` is that of its line, by which the bar is known.
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
        let mut pen = Pen {
            line: [b' '; COLOR_LINE],
            len: 0,
            ink: GREY,
        };
        out.extend_from_slice(&GREY);
        line::offset(at, &mut pen.line, out);
        pen.len = OFFSET;
        let mut colors = 0;
        for (index, byte) in row.iter().enumerate().take(len) {
            // The line is spaces already, so a gap is a step.
            pen.len = colors + cell(index);
            let before = pen.len;
            pen.switch(INKS[usize::from(*byte)]);
            colors += pen.len - before;
            let [high, low] = PAIRS[usize::from(*byte)];
            // As long as a sequence, to cover one that wasn't kept.
            pen.put(&[high, low, b' ', b' ', b' ']);
        }
        pen.len = colors + bar(N);
        pen.switch(GREY);
        pen.put(self.bar);
        for byte in row.iter().take(len) {
            pen.switch(INKS[usize::from(*byte)]);
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
struct Pen {
    line: [u8; COLOR_LINE],
    len: usize,
    ink: Ink,
}

impl Pen {
    #[inline]
    fn put(&mut self, text: &[u8]) {
        self.line[self.len..][..text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    /// Writes the sequence in any case and keeps it if it is needed: in mixed data a branch would
    /// be guessed wrong every other byte, which costs more than the store. What is written next
    /// must cover a sequence that wasn't kept.
    #[inline]
    fn switch(&mut self, ink: Ink) {
        self.line[self.len..][..ink.len()].copy_from_slice(&ink);
        self.len += ink.len() * usize::from(self.ink != ink);
        self.ink = ink;
    }
}

impl<const N: usize> Layout<N> for Hex<N> {
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
        let text = remark::repeats(bytes);
        grey(self.color, &remark::starred(end.wrapping_sub(bytes), &text), out);
    }

    fn gap(&self, gap: Gap, from: u64, to: u64, out: &mut Vec<u8>) {
        grey(self.color, &remark::starred(from, &remark::gap(gap, from, to)), out);
    }

    fn end(&self, at: u64, out: &mut Vec<u8>) {
        grey(self.color, &remark::offset(at), out);
    }

    fn marked(&self, at: u64, row: &[u8; N], len: usize, changed: &[bool], out: &mut Vec<u8>) {
        if self.color {
            let seams = Seams::open(self.bar);
            paint(&seams, &remark::offset(at), row, len, changed, true, out);
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
mod tests {
    use super::super::Format::{Canonical, Hex};
    use super::super::tests::{BARE, Piece, VERBOSE, inputs, pieces, text, text_of};
    use super::*;
    use proptest::prelude::*;

    const COLOR: Style = Style { color: true, ..BARE };

    /// The text without its colours; anything but a known sequence stays in.
    fn stripped(text: &str) -> String {
        let mut text = text.to_string();
        for code in ["\x1b[90m", "\x1b[36m", "\x1b[32m", "\x1b[35m", "\x1b[33m", "\x1b[0m"] {
            text = text.replace(code, "");
        }
        text
    }

    #[test]
    fn rows_runs_and_the_closing_offset_look_so() {
        let data = [vec![0xff; 48], b"Hello, \x7f\x80\xff\tworld!ab".to_vec()].concat();
        assert_eq!(
            text(Hex, 0x40, Style { unicode: true, ..BARE }, &data),
            "\
00000040  ff ff ff ff ff ff ff ff  ff ff ff ff ff ff ff ff  │................│
*         32 bytes, each row as the one above
00000070  48 65 6c 6c 6f 2c 20 7f  80 ff 09 77 6f 72 6c 64  │Hello, ....world│
00000080  21 61 62                                          │!ab│
00000083
"
        );
    }

    #[test]
    fn a_hole_is_one_line_and_the_rows_it_shares_are_filled_with_zero_bytes() {
        let pieces = [
            Piece::Data(b"0123456789".to_vec()),
            Piece::Hole(6 + 0x40_0000 + 3),
            Piece::Data(b"abc".to_vec()),
            Piece::Hole(10),
            Piece::Hole(16),
        ];
        assert_eq!(
            text_of(Hex, 0x10_0000 - 16, BARE, &pieces),
            "\
000ffff0  30 31 32 33 34 35 36 37  38 39 00 00 00 00 00 00  |0123456789......|
*         hole 0x100000..0x500000 (4 MiB)
00500000  00 00 00 61 62 63 00 00  00 00 00 00 00 00 00 00  |...abc..........|
*         hole 0x500010..0x500020 (16 bytes)
00500020
"
        );
    }

    #[test]
    fn blocks_that_were_never_written_are_told_from_a_hole() {
        let pieces = [
            Piece::Preallocated(0x1000),
            Piece::Preallocated(0x1008),
            Piece::Hole(0x18),
            Piece::Data(b"abc".to_vec()),
        ];
        assert_eq!(
            text_of(Hex, 0, BARE, &pieces),
            "\
*         preallocated 0x0..0x2000 (8 KiB)
00002000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*         hole 0x2010..0x2020 (16 bytes)
00002020  61 62 63                                          |abc|
00002023
"
        );
    }

    #[test]
    fn a_hole_ends_a_run_and_zero_bytes_after_it_are_data_again() {
        let pieces = [
            Piece::Data(vec![0; 64]),
            Piece::Hole(4096 + 1024),
            Piece::Data(vec![0; 40]),
        ];
        assert_eq!(
            text_of(Hex, 0xffff_fff0, BARE, &pieces),
            "\
fffffff0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*          48 bytes, each row as the one above
*          hole 0x100000030..0x100001430 (5 KiB)
100001430  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*          16 bytes, each row as the one above
100001450  00 00 00 00 00 00 00 00                           |........|
100001458
"
        );
    }

    #[test]
    fn a_hole_of_any_length_takes_no_time() {
        assert_eq!(
            text_of(Hex, 0, BARE, &[Piece::Hole(1 << 62)]),
            "*         hole 0x0..0x4000000000000000 (4 EiB)\n4000000000000000\n"
        );
    }

    #[test]
    fn colour_changes_only_with_the_class_and_ends_with_the_line() {
        assert_eq!(
            text(Hex, 0, COLOR, b"\0ab \n\x01\xff"),
            "\x1b[90m00000000  00 \x1b[36m61 62 \x1b[32m20 0a \x1b[35m01 \x1b[33mff                              \
             \x1b[90m|.\x1b[36mab\x1b[32m .\x1b[35m.\x1b[33m.\x1b[90m|\x1b[0m\n\x1b[90m00000007\x1b[0m\n"
        );
    }

    #[test]
    fn a_line_has_room_for_a_change_at_every_byte_and_the_longest_offset() {
        let style = Style {
            color: true,
            squeeze: false,
            unicode: true,
            ..BARE
        };
        let text = text(Hex, u64::MAX - 99, style, &b"a\xff".repeat(16));
        let longest = text.lines().map(str::len).max().unwrap() - GREY.len() - OFFSET;
        assert!(
            (COLOR_LINE - 15..=COLOR_LINE).contains(&(longest + 1)),
            "{longest} of {COLOR_LINE}"
        );
    }

    #[test]
    fn bare_and_unsqueezed_it_is_the_canonical_dump() {
        for data in inputs() {
            assert_eq!(text(Hex, 3, VERBOSE, &data), text(Canonical, 3, VERBOSE, &data));
        }
    }

    proptest! {
        #[test]
        fn colour_adds_nothing_but_colour(
            start in any::<u64>(),
            pieces in pieces(),
            squeeze in any::<bool>(),
            unicode in any::<bool>(),
        ) {
            let style = Style { color: false, squeeze, unicode, ..BARE };
            let colored = text_of(Hex, start, Style { color: true, ..style }, &pieces);
            prop_assert!(colored.lines().all(|line| line.ends_with("\x1b[0m")));
            prop_assert_eq!(stripped(&colored), text_of(Hex, start, style, &pieces));
        }

        #[test]
        fn every_byte_left_out_is_accounted_for(pieces in pieces()) {
            // Rows count 16 each, remarks what they say: together they make the closing offset's
            // row.
            let text = text_of(Hex, 0, BARE, &pieces);
            let total: u64 = pieces.iter().map(|piece| match piece {
                Piece::Data(data) => data.len() as u64,
                Piece::Hole(len) | Piece::Preallocated(len) => *len,
            }).sum();
            let mut at = 0;
            for line in text.lines() {
                if let Some(remark) = line.strip_prefix("*         ") {
                    let named = remark.strip_prefix("hole 0x").or(remark.strip_prefix("preallocated 0x"));
                    at = match named {
                        Some(range) => {
                            let (range, _) = range.split_once(' ').unwrap();
                            let (from, to) = range.split_once("..0x").unwrap();
                            prop_assert_eq!(u64::from_str_radix(from, 16).unwrap(), at);
                            u64::from_str_radix(to, 16).unwrap()
                        }
                        None => {
                            let (bytes, _) = remark.split_once(' ').unwrap();
                            at + bytes.replace(',', "").parse::<u64>().unwrap()
                        }
                    };
                } else {
                    prop_assert_eq!(u64::from_str_radix(&line[..8], 16).unwrap(), at);
                    at = total.min(at + 16);
                }
            }
            prop_assert_eq!(at, total);
        }
    }
}
