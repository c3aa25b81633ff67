//! Tests of framed.rs.

use super::super::tests::{BARE, TestPiece, VERBOSE, pieces, text_of};
use super::super::{Format, RowWidth, Style};
use proptest::prelude::*;

const FRAMED: Style = Style {
    unicode: true,
    fit: RowWidth::Framed(8),
    ..BARE
};

#[test]
fn rows_remarks_and_the_end_stand_in_a_frame() {
    let pieces = [
        TestPiece::Data([&b"Hello, \x7f\x80\xff\tworld"[..], &[0; 48]].concat()),
        TestPiece::Hole(0x8_0000),
        TestPiece::Data(b"abc".to_vec()),
    ];
    assert_eq!(
        text_of(Format::Hex, 0, FRAMED, &pieces),
        "\
┌────────┬─────────────────────────┬─────────────────────────┬────────────────┐
│00000000│ 48 65 6c 6c 6f 2c 20 7f ┊ 80 ff 09 77 6f 72 6c 64 │Hello, ....world│
│00000010│ 00 00 00 00 00 00 00 00 ┊ 00 00 00 00 00 00 00 00 │................│
│*       │ 32 bytes, each row as the one above                                │
│*       │ hole 0x40..0x80040 (512 KiB)                                       │
│00080040│ 61 62 63                ┊                         │abc             │
│00080043│                         ┊                         │                │
└────────┴─────────────────────────┴─────────────────────────┴────────────────┘
"
    );
    assert_eq!(text_of(Format::Hex, 0, FRAMED, &[]), "");
}

#[test]
fn a_terminal_gets_what_fits_it() {
    for (columns, end, unicode, fit) in [
        (79, 100, true, RowWidth::Framed(8)),
        (78, 100, true, RowWidth::Rows),
        (200, 100, true, RowWidth::Framed(8)),
        (200, 100, false, RowWidth::Rows),
        (80, 1 << 33, true, RowWidth::Framed(9)),
        (80, 1 << 37, true, RowWidth::Rows),
        (77, 100, true, RowWidth::Narrow),
        (0, u64::MAX, true, RowWidth::Narrow),
    ] {
        assert_eq!(RowWidth::of(columns, end, unicode), fit, "{columns} columns, up to {end:#x}");
    }
}

proptest! {
    #[test]
    fn no_line_is_wider_than_what_it_was_made_for(
        start in 0_u64..1 << 40,
        pieces in pieces(),
        columns in 45_usize..100,
        unicode in any::<bool>(),
    ) {
        let fit = RowWidth::of(columns, start + 20_000, unicode);
        let text = text_of(Format::Hex, start, Style { unicode, fit, ..VERBOSE }, &pieces);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        // A row has at least eight bytes.
        prop_assert!(widest <= columns || fit == RowWidth::Narrow, "{widest} of {columns}:\n{text}");
        if let RowWidth::Framed(digits) = fit {
            prop_assert!(text.lines().all(|line| line.chars().count() == digits + super::BESIDE), "{text}");
        }
    }

    #[test]
    fn a_frame_says_what_rows_without_one_say(pieces in pieces(), squeeze in any::<bool>(), color in any::<bool>()) {
        let style = Style { squeeze, color, ..FRAMED };
        let words = |text: String| -> Vec<String> {
            let mut text = text.replace(['│', '┊'], " ");
            while let Some(at) = text.find('\x1b') {
                let end = at + text[at..].find('m').unwrap();
                text.replace_range(at..=end, "");
            }
            let lines = text.lines().filter(|line| !line.starts_with(['┌', '└']));
            // The characters may include spaces.
            lines.map(|line| line.split_whitespace().collect::<String>()).collect()
        };
        prop_assert_eq!(
            words(text_of(Format::Hex, 0, style, &pieces)),
            words(text_of(Format::Hex, 0, Style { fit: RowWidth::Rows, ..style }, &pieces))
        );
    }
}
