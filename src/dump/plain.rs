//! Reproduces `xxd -p`: only digits, thirty bytes a line, for other programs.

use super::RowFormat;
use super::line::{Digits, digits_of};

/// Bytes in a line.
const BYTES: usize = 30;

/// The layout of `xxd -p`.
pub(super) struct Plain;

impl RowFormat<BYTES> for Plain {
    #[inline]
    fn row(&self, _at: u64, _row: &[u8; BYTES], digits: &Digits<BYTES>, out: &mut Vec<u8>) {
        out.extend_from_slice(digits.as_flattened());
        out.push(b'\n');
    }

    fn short(&self, _at: u64, row: &[u8; BYTES], len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(digits_of(row)[..len].as_flattened());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format::Plain;
    use super::super::tests::{BARE, assert_is_peer, text};

    #[test]
    fn the_text_is_that_of_xxd_p() {
        assert_is_peer(Plain, BARE, "xxd", &["-p"], "-l");
    }

    #[test]
    fn lines_hold_thirty_bytes_and_the_last_ends_too() {
        assert_eq!(text(Plain, 7, BARE, &[0xab; 30]), format!("{}\n", "ab".repeat(30)));
        assert_eq!(text(Plain, 0, BARE, &[0x0f; 32]), format!("{}\n0f0f\n", "0f".repeat(30)));
    }
}
