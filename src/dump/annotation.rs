//! Lines that are no rows: what they say of the bytes that they stand for.

use super::Gap;
use crate::number::human;

/// `at` in eight digits or more, for lines that aren't hot.
pub(super) fn offset(at: u64) -> String {
    format!("{at:08x}")
}

/// What stands for rows that repeat the one above.
pub(super) fn repeats(bytes: u64) -> String {
    format!("{} bytes, each row as the one above", grouped(bytes))
}

/// What stands for a gap.
pub(super) fn gap(gap: Gap, from: u64, to: u64) -> String {
    let name = match gap {
        Gap::Hole => "hole",
        Gap::Preallocated => "preallocated",
    };
    format!("{name} {from:#x}..{to:#x} ({})", human(to.wrapping_sub(from)))
}

/// A remark that stands for rows from `at` on: its `*` is in the column of offsets, the rest in that of the bytes.
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
