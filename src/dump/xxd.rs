//! Reproduces `xxd`, with every row: the format that `xxd -r` and `patch --format xxd` read.

use super::RowFormat;
use super::line::{self, Digits, OFFSET, characters, digits_of};

/// Column of the cell of byte `index`.
const fn cell(index: usize) -> usize {
    OFFSET + 2 + 2 * index + index / 2
}
const TEXT: usize = cell(15) + 4;
const LINE: usize = TEXT + 16 + 1;

/// A line with the row left blank.
const EMPTY: [u8; LINE] = {
    let mut line = [b' '; LINE];
    line[OFFSET] = b':';
    line[LINE - 1] = b'\n';
    line
};

/// The layout of `xxd`.
pub(super) struct Xxd;

impl RowFormat<16> for Xxd {
    #[inline]
    fn row(&self, at: u64, row: &[u8; 16], digits: &Digits<16>, out: &mut Vec<u8>) {
        let Some(line) = line::append(at, &EMPTY, out) else {
            return;
        };
        let (groups, _) = digits.as_flattened().as_chunks::<4>();
        for (index, group) in groups.iter().enumerate() {
            line[cell(2 * index)..][..4].copy_from_slice(group);
        }
        line[TEXT..][..16].copy_from_slice(&characters(row));
    }

    fn short(&self, at: u64, row: &[u8; 16], len: usize, out: &mut Vec<u8>) {
        self.row(at, row, &digits_of(row), out);
        if let Some(line) = out.last_chunk_mut::<LINE>() {
            line[cell(len)..TEXT].fill(b' ');
        }
        out.truncate(out.len() - LINE + TEXT + len);
        out.push(b'\n');
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
