//! Any format, with marks on the bytes that changed since the last report.

use super::line::Digits;
use super::{Gap, RowFormat};

/// A format of rows, some of which have marks.
pub(super) struct Marked<L> {
    layout: L,
    start: u64,
    /// An entry for each byte from `start` on.
    changed: Vec<bool>,
}

impl<L> Marked<L> {
    pub(super) fn new(layout: L, start: u64, changed: Vec<bool>) -> Self {
        Marked { layout, start, changed }
    }

    /// The entries of up to `len` bytes at `at`.
    fn of(&self, at: u64, len: usize) -> &[bool] {
        let from = usize::try_from(at.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.changed.get(from..).unwrap_or_default();
        &rest[..len.min(rest.len())]
    }
}

impl<L> Marked<L> {
    fn margin<const N: usize>(&self, out: &mut Vec<u8>)
    where
        L: RowFormat<N>,
    {
        if self.layout.has_margin() {
            out.extend_from_slice(b"  ");
        }
    }
}

impl<L: RowFormat<N>, const N: usize> RowFormat<N> for Marked<L> {
    const NAMES_HOLES: bool = L::NAMES_HOLES;
    const FRAMES_NOTHING: bool = L::FRAMES_NOTHING;

    fn begin(&self, out: &mut Vec<u8>) {
        self.layout.begin(out);
    }

    fn row(&self, at: u64, row: &[u8; N], _digits: &Digits<N>, out: &mut Vec<u8>) {
        self.layout.marked(at, row, N, self.of(at, N), out);
    }

    fn short(&self, at: u64, row: &[u8; N], len: usize, out: &mut Vec<u8>) {
        self.layout.marked(at, row, len, self.of(at, len), out);
    }

    fn repeats(&self, end: u64, bytes: u64, out: &mut Vec<u8>) {
        self.margin(out);
        self.layout.repeats(end, bytes, out);
    }

    fn gap(&self, gap: Gap, from: u64, to: u64, out: &mut Vec<u8>) {
        self.margin(out);
        self.layout.gap(gap, from, to, out);
    }

    fn end(&self, at: u64, out: &mut Vec<u8>) {
        let before = out.len();
        self.margin(out);
        let margin = out.len();
        self.layout.end(at, out);
        // A line that does not exist needs no margin.
        if out.len() == margin {
            out.truncate(before);
        }
    }

    fn keeps(&self, at: u64) -> bool {
        self.of(at, N).contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::BARE;
    use super::super::{Dump, Format, Style, marked};
    use crate::number::NumberFormat;

    fn text(format: Format<'_>, style: Style, data: &[u8], changed: &[usize]) -> String {
        let changed = (0..data.len()).map(|index| changed.contains(&index)).collect();
        let mut dump: Box<dyn Dump> = marked(format, 0x40, style, changed);
        let mut out = Vec::new();
        dump.bytes(data, &mut out);
        dump.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn without_colour_rows_have_marks_in_front_and_are_not_left_out() {
        assert_eq!(
            text(Format::Hex, BARE, &[b'x'; 83], &[0x25, 82]),
            "  00000040  78 78 78 78 78 78 78 78  78 78 78 78 78 78 78 78  |xxxxxxxxxxxxxxxx|\n  \
               *         16 bytes, each row as the one above\n\
             > 00000060  78 78 78 78 78 78 78 78  78 78 78 78 78 78 78 78  |xxxxxxxxxxxxxxxx|\n  \
               *         32 bytes, each row as the one above\n\
             > 00000090  78 78 78                                          |xxx|\n  \
               00000093\n"
        );
        let unit = NumberFormat::parse("u32be").unwrap();
        assert_eq!(text(Format::Typed(unit), BARE, &[0, 0, 1, 0], &[3]), "> 00000040        256\n  00000044\n");
        assert_eq!(text(Format::Plain, BARE, &[0, 1], &[1]), "> 0001\n");
    }

    #[test]
    fn with_colour_the_bytes_themselves_are_in_reverse_video() {
        let style = Style { color: true, ..BARE };
        assert_eq!(
            text(Format::Hex, style, b"abc", &[1]).lines().next(),
            Some(
                "\x1b[90m00000040  \x1b[36m61 \x1b[7m62\x1b[27m 63                                          \
                 \x1b[90m|\x1b[36ma\x1b[7mb\x1b[27mc\x1b[90m|\x1b[0m"
            )
        );
    }
}
