//! Reproduces `hexdump -C` of util-linux in the C locale.
//!
//! A row equal to the one above is printed as `*`, once per run. A short last row is always printed, even if it begins
//! like the row above: the test for that in util-linux cannot succeed.

use super::RowFormat;
use super::line::{self, Digits, OFFSET, characters, digits_of};

/// Column of the cell of byte `index`.
const fn cell(index: usize) -> usize {
    OFFSET + 2 + 3 * index + index / 8
}
const BAR: usize = cell(15) + 4;
const TEXT: usize = BAR + 1;
const LINE: usize = TEXT + 16 + 2;

/// A line with the row left blank.
const EMPTY: [u8; LINE] = {
    let mut line = [b' '; LINE];
    line[BAR] = b'|';
    line[TEXT + 16] = b'|';
    line[TEXT + 17] = b'\n';
    line
};

/// The layout of `hexdump -C`.
pub(super) struct Canonical;

impl RowFormat<16> for Canonical {
    #[inline]
    fn row(&self, at: u64, row: &[u8; 16], digits: &Digits<16>, out: &mut Vec<u8>) {
        let Some(line) = line::append(at, &EMPTY, out) else {
            return;
        };
        for (index, pair) in digits.iter().enumerate() {
            line[cell(index)..][..2].copy_from_slice(pair);
        }
        line[TEXT..][..16].copy_from_slice(&characters(row));
    }

    fn short(&self, at: u64, row: &[u8; 16], len: usize, out: &mut Vec<u8>) {
        self.row(at, row, &digits_of(row), out);
        if let Some(line) = out.last_chunk_mut::<LINE>() {
            line[cell(len)..BAR].fill(b' ');
            line[TEXT + len] = b'|';
        }
        out.truncate(out.len() - LINE + TEXT + len + 1);
        out.push(b'\n');
    }

    fn repeats(&self, _end: u64, _bytes: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"*\n");
    }

    fn end(&self, at: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(super::annotation::offset(at).as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
