//! A frame: as much of a text as a terminal shows without wrapping a line or scrolling, so that the next frame can be
//! drawn over it.

use std::borrow::Cow;
use unicode_width::UnicodeWidthChar;

/// Cuts a text to rows that fit a terminal; `left_out` describes the lines that have no row, in the last row.
pub(super) fn fitting(text: &str, (columns, rows): (usize, usize), left_out: &dyn Fn(&[&str]) -> String) -> String {
    // The cursor stays in the last row.
    let room = rows.saturating_sub(1).max(1);
    let mut lines: Vec<&str> = text.lines().collect();
    let last = if lines.len() > room {
        let rest = lines.split_off(room - 1);
        left_out(&rest)
    } else {
        String::new()
    };
    lines.extend(last.lines());
    lines.iter().flat_map(|line| [cut(line, columns), "\n".into()]).collect()
}

/// The beginning of a line, up to this many columns. Escape sequences of colours take no columns; none is cut, and the
/// colour is reset at the cut.
fn cut(line: &str, columns: usize) -> Cow<'_, str> {
    let (mut taken, mut colored, mut escape) = (0, false, false);
    for (at, c) in line.char_indices() {
        if escape {
            // "ESC [", and numbers up to a letter.
            escape = !c.is_ascii_alphabetic();
        } else if c == '\x1b' {
            (escape, colored) = (true, true);
        } else {
            taken += c.width().unwrap_or(0);
            if taken > columns {
                let end = if colored { "\x1b[0m" } else { "" };
                return format!("{}{end}", &line[..at]).into();
            }
        }
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_row_is_told_of_in_the_last_one() {
        let fit = |rows| fitting("a\nb\nc\nd\n", (9, rows), &|rest| format!("{} more\n", rest.len()));
        assert_eq!(fit(5), "a\nb\nc\nd\n");
        assert_eq!(fit(4), "a\nb\n2 more\n");
        assert_eq!(fit(0), "4 more\n");
        let wide = fitting("a\nb\nc\n", (3, 3), &|_| "and others".into());
        assert_eq!(wide, "a\nand\n");
    }

    #[test]
    fn a_line_is_cut_at_the_last_column_and_its_colour_ends_there() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc");
        assert_eq!(cut("│é│x", 3), "│é│");
        assert_eq!(cut("a\x1b[38;5;9mbc\x1b[0m", 3), "a\x1b[38;5;9mbc\x1b[0m");
        assert_eq!(cut("a\x1b[38;5;9mbcd\x1b[0m", 3), "a\x1b[38;5;9mbc\x1b[0m");
        // A wide character that would fit only by half is cut.
        assert_eq!(cut("ab日本", 3), "ab");
        assert_eq!(cut("", 0), "");
    }
}
