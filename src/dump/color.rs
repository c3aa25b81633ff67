//! The colours of dumps: one for each class of bytes, and grey for anything else.

/// A colour, as the SGR sequence that switches to it. All have the same length and set only the foreground, so that
/// each replaces the previous one.
pub(super) type Color = [u8; 5];
pub(super) const GREY: Color = *b"\x1b[90m";
const CYAN: Color = *b"\x1b[36m";
const GREEN: Color = *b"\x1b[32m";
const MAGENTA: Color = *b"\x1b[35m";
const YELLOW: Color = *b"\x1b[33m";
pub(super) const RESET: &[u8] = b"\x1b[0m";

/// hexyl's classes: NUL, printable, white space, other control, not ASCII.
pub(super) static COLORS: [Color; 256] = {
    let mut inks = [YELLOW; 256];
    let mut byte = 0;
    while byte < 128 {
        inks[byte] = match byte as u8 {
            0 => GREY,
            b'\t'..=b'\r' | b' ' => GREEN,
            b'!'..=b'~' => CYAN,
            _ => MAGENTA,
        };
        byte += 1;
    }
    inks
};

/// Appends a line that is not a row, in grey if `color` is set.
pub(super) fn grey(color: bool, text: &str, out: &mut Vec<u8>) {
    if color {
        out.extend_from_slice(&GREY);
    }
    out.extend_from_slice(text.as_bytes());
    if color {
        out.extend_from_slice(RESET);
    }
    out.push(b'\n');
}
