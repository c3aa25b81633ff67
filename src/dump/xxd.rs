//! `xxd`, byte for byte, every row: what `xxd -r` and `patch --format xxd` read back.

use super::Layout;
use super::line::{Digits, LESS, OFFSET, characters, digits_of, in_place, is_low, low, offset};

/// Where the cell of byte `index` begins; a line has room for the longest offset.
const fn cell(index: usize) -> usize {
    OFFSET + 2 + 2 * index + index / 2
}
const TEXT: usize = cell(15) + 4;
const LINE: usize = TEXT + 16 + 1;

const EMPTY: [u8; LINE] = {
    let mut line = [b' '; LINE];
    line[OFFSET] = b':';
    line[LINE - 1] = b'\n';
    line
};

/// The layout of `xxd`.
pub(super) struct Xxd;

/// The same with room for eight digits.
const LOW: [u8; LINE - LESS] = low(&EMPTY);

/// Fills in cells and characters; a line may lack room in front.
#[inline]
fn fill<const LEN: usize>(row: &[u8; 16], digits: &Digits<16>, line: &mut [u8; LEN]) {
    let less = const { LINE - LEN };
    let (groups, _) = digits.as_flattened().as_chunks::<4>();
    for (index, group) in groups.iter().enumerate() {
        line[cell(2 * index) - less..][..4].copy_from_slice(group);
    }
    line[TEXT - less..][..16].copy_from_slice(&characters(row));
}

/// A full row as a line, and where in it the text begins.
fn line_of(at: u64, row: &[u8; 16], digits: &Digits<16>) -> ([u8; LINE], usize) {
    let mut line = EMPTY;
    let begin = offset(at, &mut line);
    fill(row, digits, &mut line);
    (line, begin)
}

impl Layout<16> for Xxd {
    #[inline]
    fn row(&self, at: u64, row: &[u8; 16], digits: &Digits<16>, out: &mut Vec<u8>) {
        if is_low(at) {
            if let Some(line) = in_place(at, &LOW, out) {
                fill(row, digits, line);
            }
            return;
        }
        let (line, begin) = line_of(at, row, digits);
        out.extend_from_slice(&line[begin..]);
    }

    fn short(&self, at: u64, row: &[u8; 16], len: usize, out: &mut Vec<u8>) {
        let (mut line, begin) = line_of(at, row, &digits_of(row));
        line[cell(len)..TEXT].fill(b' ');
        line[TEXT + len] = b'\n';
        out.extend_from_slice(&line[begin..=TEXT + len]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format::Xxd;
    use super::super::tests::{BARE, assert_is_peer, text};

    #[test]
    fn the_text_is_that_of_xxd() {
        assert_is_peer(Xxd, BARE, "xxd", &[], "-l");
    }

    #[test]
    fn rows_and_a_short_last_row_look_so() {
        assert_eq!(
            text(Xxd, 0xffff_fff0, BARE, b"\0Hello, \x7f\x80\xff\tworl\0\0d!"),
            "\
fffffff0: 0048 656c 6c6f 2c20 7f80 ff09 776f 726c  .Hello, ....worl
100000000: 0000 6421                                ..d!
"
        );
    }

    #[test]
    fn repeated_rows_are_all_printed() {
        assert_eq!(text(Xxd, 0, BARE, &[0; 64]).lines().count(), 4);
    }
}
