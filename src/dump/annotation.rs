//! Lines that are not rows, and describe the bytes that they replace.

use super::Gap;
use crate::number::human;

/// `at` in eight digits or more, for lines that are not performance-critical.
pub(super) fn offset(at: u64) -> String {
    format!("{at:08x}")
}

/// The text that replaces rows that repeat the one above.
pub(super) fn repeats(bytes: u64) -> String {
    format!("{} bytes, each row as the one above", grouped(bytes))
}

/// The text that replaces a gap.
pub(super) fn gap(gap: Gap, from: u64, to: u64) -> String {
    let name = match gap {
        Gap::Hole => "hole",
        Gap::Preallocated => "preallocated",
    };
    format!("{name} {from:#x}..{to:#x} ({})", human(to.wrapping_sub(from)))
}

/// A line that replaces rows from `at` on: its `*` is in the column of offsets, the text in that of the bytes.
pub(super) fn starred(at: u64, text: &str) -> String {
    let width = offset(at).len() + 1;
    format!("{:<width$} {text}", "*")
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (65_536, "65,536"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
