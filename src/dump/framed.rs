//! The framed dump for people on a terminal; and rows in which single bytes can be marked.

use super::color::{COLORS, Color, GREY, RESET, grey};
use super::line::{Digits, PAIRS, character};
use super::{Gap, RowFormat, Style, annotation};

/// The columns of a row, without the digits of its offset.
pub(super) const BESIDE: usize = 2 + CELLS + 1 + 16 + 1;
/// The start of a mark in a coloured dump: reverse video.
pub const MARK: &str = "\x1b[7m";
/// The columns between the bar after the offset and the one before the characters.
const CELLS: usize = 2 * (1 + 8 * 3) + 1;

/// The borders between the parts of a row.
pub(super) struct Borders<'a> {
    offset: (&'a str, &'a str),
    middle: &'a str,
    text: (&'a [u8], &'a [u8], &'a [u8]),
}

impl<'a> Borders<'a> {
    /// The borders of rows without a frame.
    pub(super) fn open(bar: &'a [u8]) -> Borders<'a> {
        Borders {
            offset: ("", "  "),
            middle: "  ",
            text: (b"  ", bar, bar),
        }
    }

    const FRAME: Borders<'static> = Borders {
        offset: ("│", "│ "),
        middle: " ┊ ",
        text: (b" ", "│".as_bytes(), "│".as_bytes()),
    };
}

/// Switches colours and marks, but only where they change.
struct BorderWriter<'a> {
    out: &'a mut Vec<u8>,
    color: bool,
    ink: Option<Color>,
    reverse: bool,
}

impl BorderWriter<'_> {
    fn put(&mut self, ink: Color, reverse: bool, text: &[u8]) {
        if self.color {
            if self.reverse && !reverse {
                self.out.extend_from_slice(b"\x1b[27m");
            }
            if self.ink != Some(ink) {
                self.out.extend_from_slice(&ink);
                self.ink = Some(ink);
            }
            if reverse && !self.reverse {
                self.out.extend_from_slice(MARK.as_bytes());
            }
            self.reverse = reverse;
        }
        self.out.extend_from_slice(text);
    }

    /// Appends spaces and borders between two parts, in the current colour if there is one.
    fn gap(&mut self, text: &[u8]) {
        let ink = if text.is_ascii() {
            self.ink.unwrap_or(GREY)
        } else {
            GREY
        };
        self.put(ink, false, text);
    }

    fn end(&mut self) {
        if self.color {
            self.out.extend_from_slice(RESET);
        }
        self.out.push(b'\n');
    }
}

/// Appends a row of `len` bytes. If `color` is set, those whose entry in `changed` is true are in reverse video.
pub(super) fn paint<const N: usize>(
    seams: &Borders<'_>,
    offset: &str,
    row: &[u8; N],
    len: usize,
    changed: &[bool],
    color: bool,
    out: &mut Vec<u8>,
) {
    let is_changed = |index: usize| changed.get(index).copied().unwrap_or(false);
    let mut brush = BorderWriter {
        out,
        color,
        ink: None,
        reverse: false,
    };
    // Without colours, the change is marked here.
    let edge = if !color && changed.contains(&true) {
        ">"
    } else {
        seams.offset.0
    };
    brush.put(GREY, false, edge.as_bytes());
    brush.put(GREY, false, offset.as_bytes());
    brush.gap(seams.offset.1.as_bytes());
    for (index, byte) in row.iter().enumerate() {
        if index > 0 {
            brush.gap(if index % 8 == 0 { seams.middle.as_bytes() } else { b" " });
        }
        if index < len {
            brush.put(COLORS[usize::from(*byte)], is_changed(index), &PAIRS[usize::from(*byte)]);
        } else {
            brush.gap(b"  ");
        }
    }
    brush.gap(seams.text.0);
    brush.put(GREY, false, seams.text.1);
    for (index, byte) in row.iter().enumerate().take(len) {
        brush.put(COLORS[usize::from(*byte)], is_changed(index), &[character(*byte)]);
    }
    if !seams.offset.0.is_empty() {
        for _ in len..N {
            brush.gap(b" ");
        }
    }
    brush.put(GREY, false, seams.text.2);
    brush.end();
}

/// mmapctl's own format in a frame.
pub(super) struct Framed {
    color: bool,
    digits: usize,
}

impl Framed {
    /// With this many digits for an offset.
    pub(super) fn new(style: Style, digits: usize) -> Framed {
        Framed {
            color: style.color,
            digits,
        }
    }

    fn offset(&self, at: u64) -> String {
        format!("{at:0digits$x}", digits = self.digits)
    }

    /// A horizontal bar, with its corners and crossings.
    fn across(&self, [left, offset, middle, text, right]: [char; 5], out: &mut Vec<u8>) {
        let (digits, half, chars) = ("─".repeat(self.digits), "─".repeat(CELLS / 2), "─".repeat(16));
        grey(self.color, &format!("{left}{digits}{offset}{half}{middle}{half}{text}{chars}{right}"), out);
    }

    fn annotation(&self, text: &str, out: &mut Vec<u8>) {
        let (digits, room) = (self.digits, CELLS + 16);
        grey(self.color, &format!("│{:<digits$}│ {text:<room$}│", "*"), out);
    }
}

impl RowFormat<16> for Framed {
    const NAMES_HOLES: bool = true;

    fn begin(&self, out: &mut Vec<u8>) {
        self.across(['┌', '┬', '┬', '┬', '┐'], out);
    }

    fn row(&self, at: u64, row: &[u8; 16], _digits: &Digits<16>, out: &mut Vec<u8>) {
        self.marked(at, row, 16, &[], out);
    }

    fn short(&self, at: u64, row: &[u8; 16], len: usize, out: &mut Vec<u8>) {
        self.marked(at, row, len, &[], out);
    }

    fn marked(&self, at: u64, row: &[u8; 16], len: usize, changed: &[bool], out: &mut Vec<u8>) {
        paint(&Borders::FRAME, &self.offset(at), row, len, changed, self.color, out);
    }

    fn has_margin(&self) -> bool {
        false
    }

    fn repeats(&self, _end: u64, bytes: u64, out: &mut Vec<u8>) {
        self.annotation(&annotation::repeats(bytes), out);
    }

    fn gap(&self, gap: Gap, from: u64, to: u64, out: &mut Vec<u8>) {
        self.annotation(&annotation::gap(gap, from, to), out);
    }

    fn end(&self, at: u64, out: &mut Vec<u8>) {
        let (half, chars) = (" ".repeat(CELLS / 2), " ".repeat(16));
        grey(self.color, &format!("│{}│{half}┊{half}│{chars}│", self.offset(at)), out);
        self.across(['└', '┴', '┴', '┴', '┘'], out);
    }
}

#[cfg(test)]
mod tests;
