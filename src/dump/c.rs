//! Reproduces `xxd -i`: an array for a C source, and its length.

use super::RowFormat;
use super::line::{Digits, digits_of};

/// Bytes in a line.
const BYTES: usize = 12;
/// `0xab, `
const CELL: usize = 6;
/// The end of the previous line, the indent, and the cells; no comma after the last, which is added by the next line.
const LINE: usize = 4 + BYTES * CELL - 2;

/// The layout of `xxd -i`.
pub(super) struct C {
    name: String,
    start: u64,
}

impl C {
    /// For a file of this name, as it was typed, from offset `start` on.
    pub(super) fn new(name: &[u8], start: u64) -> C {
        let digit = name.first().is_some_and(u8::is_ascii_digit);
        let letters = name.iter().map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(*byte),
            _ => '_',
        });
        let name = (if digit { "__" } else { "" }).chars().chain(letters).collect();
        C { name, start }
    }

    #[inline]
    fn line(&self, at: u64, digits: &Digits<BYTES>, len: usize, out: &mut Vec<u8>) {
        let mut line = [b' '; LINE + 2];
        line[..2].copy_from_slice(b",\n");
        for (index, [high, low]) in digits.iter().copied().enumerate() {
            line[4 + CELL * index..][..CELL].copy_from_slice(&[b'0', b'x', high, low, b',', b' ']);
        }
        let begin = if at == self.start { 2 } else { 0 };
        out.extend_from_slice(&line[begin..2 + CELL * len]);
    }
}

impl RowFormat<BYTES> for C {
    const FRAMES_NOTHING: bool = true;

    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("unsigned char {}[] = {{\n", self.name).as_bytes());
    }

    #[inline]
    fn row(&self, at: u64, _row: &[u8; BYTES], digits: &Digits<BYTES>, out: &mut Vec<u8>) {
        self.line(at, digits, BYTES, out);
    }

    fn short(&self, at: u64, row: &[u8; BYTES], len: usize, out: &mut Vec<u8>) {
        self.line(at, &digits_of(row), len, out);
    }

    fn end(&self, at: u64, out: &mut Vec<u8>) {
        let len = at.wrapping_sub(self.start);
        let end = if len > 0 { "\n" } else { "" };
        out.extend_from_slice(format!("{end}}};\nunsigned int {}_len = {len};\n", self.name).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::{BARE, inputs, peer, text};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_text_is_that_of_xxd_i() {
        for data in inputs() {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().write_all_at(&data, 0).unwrap();
            let Some(whole) = peer("xxd", &["-i"], &file) else {
                return;
            };
            let format = Format::C(file.path().as_os_str().as_bytes());
            assert_eq!(text(format, 0, BARE, &data), whole, "{} bytes", data.len());
            for (start, len) in [(0, 1), (1, 12), (5, 40), (33, 4096)] {
                if start + len <= data.len() {
                    let (skip, length) = (start.to_string(), len.to_string());
                    let range = peer("xxd", &["-i", "-s", &skip, "-l", &length], &file).unwrap();
                    assert_eq!(text(format, start as u64, BARE, &data[start..][..len]), range);
                }
            }
        }
    }

    #[test]
    fn names_become_identifiers_and_commas_stand_between_bytes_alone() {
        assert_eq!(
            text(Format::C("3é/a.b".as_bytes()), 5, BARE, b"0123456789abc"),
            "unsigned char __3___a_b[] = {\n  \
             0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62,\n  0x63\n};\n\
             unsigned int __3___a_b_len = 13;\n"
        );
        assert_eq!(text(Format::C(b"x"), 0, BARE, b""), "unsigned char x[] = {\n};\nunsigned int x_len = 0;\n");
    }
}
