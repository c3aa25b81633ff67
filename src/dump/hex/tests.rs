//! Tests of hex.rs.

use super::super::Format::{Canonical, Hex};
use super::super::tests::{BARE, TestPiece, VERBOSE, inputs, pieces, text, text_of};
use super::*;
use proptest::prelude::*;

const COLOR: Style = Style { color: true, ..BARE };

/// The text without its colours; anything but a known sequence stays in.
fn stripped(text: &str) -> String {
    let mut text = text.to_string();
    for code in ["\x1b[90m", "\x1b[36m", "\x1b[32m", "\x1b[35m", "\x1b[33m", "\x1b[0m"] {
        text = text.replace(code, "");
    }
    text
}

#[test]
fn rows_runs_and_the_closing_offset_look_so() {
    let data = [vec![0xff; 48], b"Hello, \x7f\x80\xff\tworld!ab".to_vec()].concat();
    assert_eq!(
        text(Hex, 0x40, Style { unicode: true, ..BARE }, &data),
        "\
00000040  ff ff ff ff ff ff ff ff  ff ff ff ff ff ff ff ff  │................│
*         32 bytes, each row as the one above
00000070  48 65 6c 6c 6f 2c 20 7f  80 ff 09 77 6f 72 6c 64  │Hello, ....world│
00000080  21 61 62                                          │!ab│
00000083
"
    );
}

#[test]
fn a_hole_is_one_line_and_the_rows_it_shares_are_filled_with_zero_bytes() {
    let pieces = [
        TestPiece::Data(b"0123456789".to_vec()),
        TestPiece::Hole(6 + 0x40_0000 + 3),
        TestPiece::Data(b"abc".to_vec()),
        TestPiece::Hole(10),
        TestPiece::Hole(16),
    ];
    assert_eq!(
        text_of(Hex, 0x10_0000 - 16, BARE, &pieces),
        "\
000ffff0  30 31 32 33 34 35 36 37  38 39 00 00 00 00 00 00  |0123456789......|
*         hole 0x100000..0x500000 (4 MiB)
00500000  00 00 00 61 62 63 00 00  00 00 00 00 00 00 00 00  |...abc..........|
*         hole 0x500010..0x500020 (16 bytes)
00500020
"
    );
}

#[test]
fn blocks_that_were_never_written_are_told_from_a_hole() {
    let pieces = [
        TestPiece::Preallocated(0x1000),
        TestPiece::Preallocated(0x1008),
        TestPiece::Hole(0x18),
        TestPiece::Data(b"abc".to_vec()),
    ];
    assert_eq!(
        text_of(Hex, 0, BARE, &pieces),
        "\
*         preallocated 0x0..0x2000 (8 KiB)
00002000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*         hole 0x2010..0x2020 (16 bytes)
00002020  61 62 63                                          |abc|
00002023
"
    );
}

#[test]
fn a_hole_ends_a_run_and_zero_bytes_after_it_are_data_again() {
    let pieces = [
        TestPiece::Data(vec![0; 64]),
        TestPiece::Hole(4096 + 1024),
        TestPiece::Data(vec![0; 40]),
    ];
    assert_eq!(
        text_of(Hex, 0xffff_fff0, BARE, &pieces),
        "\
fffffff0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*          48 bytes, each row as the one above
*          hole 0x100000030..0x100001430 (5 KiB)
100001430  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*          16 bytes, each row as the one above
100001450  00 00 00 00 00 00 00 00                           |........|
100001458
"
    );
}

#[test]
fn a_hole_of_any_length_takes_no_time() {
    assert_eq!(
        text_of(Hex, 0, BARE, &[TestPiece::Hole(1 << 62)]),
        "*         hole 0x0..0x4000000000000000 (4 EiB)\n4000000000000000\n"
    );
}

#[test]
fn colour_changes_only_with_the_class_and_ends_with_the_line() {
    assert_eq!(
        text(Hex, 0, COLOR, b"\0ab \n\x01\xff"),
        "\x1b[90m00000000  00 \x1b[36m61 62 \x1b[32m20 0a \x1b[35m01 \x1b[33mff                              \
         \x1b[90m|.\x1b[36mab\x1b[32m .\x1b[35m.\x1b[33m.\x1b[90m|\x1b[0m\n\x1b[90m00000007\x1b[0m\n"
    );
}

#[test]
fn a_line_has_room_for_a_change_at_every_byte_and_the_longest_offset() {
    let style = Style {
        color: true,
        squeeze: false,
        unicode: true,
        ..BARE
    };
    let text = text(Hex, u64::MAX - 99, style, &b"a\xff".repeat(16));
    let longest = text.lines().map(str::len).max().unwrap() - GREY.len() - OFFSET;
    assert!((COLOR_LINE - 15..=COLOR_LINE).contains(&(longest + 1)), "{longest} of {COLOR_LINE}");
}

#[test]
fn bare_and_unsqueezed_it_is_the_canonical_dump() {
    for data in inputs() {
        assert_eq!(text(Hex, 3, VERBOSE, &data), text(Canonical, 3, VERBOSE, &data));
    }
}

proptest! {
    #[test]
    fn colour_adds_nothing_but_colour(
        start in any::<u64>(),
        pieces in pieces(),
        squeeze in any::<bool>(),
        unicode in any::<bool>(),
    ) {
        let style = Style { color: false, squeeze, unicode, ..BARE };
        let colored = text_of(Hex, start, Style { color: true, ..style }, &pieces);
        prop_assert!(colored.lines().all(|line| line.ends_with("\x1b[0m")));
        prop_assert_eq!(stripped(&colored), text_of(Hex, start, style, &pieces));
    }

    #[test]
    fn every_byte_left_out_is_accounted_for(pieces in pieces()) {
        // Each row counts as 16 bytes, and each line between rows as many as it says. Their sum is the offset in the
        // last line.
        let text = text_of(Hex, 0, BARE, &pieces);
        let total: u64 = pieces.iter().map(|piece| match piece {
            TestPiece::Data(data) => data.len() as u64,
            TestPiece::Hole(len) | TestPiece::Preallocated(len) => *len,
        }).sum();
        let mut at = 0;
        for line in text.lines() {
            if let Some(remark) = line.strip_prefix("*         ") {
                let named = remark.strip_prefix("hole 0x").or(remark.strip_prefix("preallocated 0x"));
                at = match named {
                    Some(range) => {
                        let (range, _) = range.split_once(' ').unwrap();
                        let (from, to) = range.split_once("..0x").unwrap();
                        prop_assert_eq!(u64::from_str_radix(from, 16).unwrap(), at);
                        u64::from_str_radix(to, 16).unwrap()
                    }
                    None => {
                        let (bytes, _) = remark.split_once(' ').unwrap();
                        at + bytes.replace(',', "").parse::<u64>().unwrap()
                    }
                };
            } else {
                prop_assert_eq!(u64::from_str_radix(&line[..8], 16).unwrap(), at);
                at = total.min(at + 16);
            }
        }
        prop_assert_eq!(at, total);
    }
}
