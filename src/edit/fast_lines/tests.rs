//! Tests of fast lines.rs.

use super::*;

#[test]
fn numbers_and_bytes_are_read_as_far_as_they_go() {
    assert_eq!(hex_number(b"0x40: "), Some((0x40, b": ".as_slice())));
    assert_eq!(hex_number(b"40: "), None);
    assert_eq!(hex_number(b"0x: "), None);
    assert_eq!(hex_number(b"0x10000000000000000"), None);
    assert_eq!(hex_number(b"0xFEDCBA9876543210:"), Some((0xfedc_ba98_7654_3210, b":".as_slice())));
    assert_eq!(hex_number(b"0x123456789"), Some((0x1_2345_6789, b"".as_slice())));
    let mut out = Vec::new();
    assert_eq!(hex_bytes(b"dead -> ", &mut out), Some(b" -> ".as_slice()));
    assert_eq!(hex_bytes(b"0123456789AB", &mut out), Some(b"".as_slice()));
    assert_eq!(out, [0xde, 0xad, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab]);
    for odd in ["dea", "dead0", "00112233445", "1 2", "", " 12"] {
        assert_eq!(hex_bytes(odd.as_bytes(), &mut out), None, "{odd}");
    }
}

#[test]
fn every_byte_is_a_digit_or_none_wherever_it_stands() {
    for byte in 0..=u8::MAX {
        for place in 0..8 {
            let mut text = *b"0a1B9fF4";
            text[place] = byte;
            let is_digit = byte.is_ascii_hexdigit();
            let number = std::str::from_utf8(&text).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
            let expected = number.filter(|_| is_digit).map(u32::to_be_bytes);
            assert_eq!(four_bytes(text), expected, "{byte:#x} at {place}");
            assert_eq!(DIGIT[byte as usize] < 16, is_digit);
        }
    }
}

#[test]
fn a_block_of_plain_lines_comments_and_empty_lines_is_read() {
    let mut plain = FastLines::default();
    // Twice, because the first reading must leave nothing for the second.
    for _ in 0..2 {
        assert!(plain.read(b"# one\r\n0x40: 7405 -> 9090\r\n\n\r\n0x10: 01 -> fF"));
        let pieces = [(0x40, 2, 0), (0x10, 1, 2)].map(|(at, len, from)| Segment::new(at, len, from).unwrap());
        assert_eq!(plain.list, pieces);
        assert_eq!(plain.lines, [2, 5]);
        assert_eq!((&plain.old[..], &plain.new[..]), (&[0x74, 5, 1][..], &[0x90, 0x90, 0xff][..]));
        assert_eq!((plain.count, plain.ascending, plain.end), (5, false, 0x42));
    }
    assert!(plain.read(b""));
    assert!(plain.list.is_empty() && plain.ascending);
}

#[test]
fn a_line_of_another_kind_is_left_to_others() {
    for line in [
        "size 0x40",
        "+0: 01 -> 02",
        "0x1: -> 02",
        "0x1: 02",
        "0x1: 01 -> 0203",
        "0x1: 01 -> 02 03",
        "0x1: 01 -> 02 # why",
        "0x1:01 -> 02",
        " 0x1: 01 -> 02",
        "0x1: 01 -> 02\r\r\n",
        "0xffffffffffffffff: 01 -> 02",
        "0x1: u8:1 -> 02",
        " # comment",
        "x",
    ] {
        let text = format!("0x0: 00 -> 01\n{line}\n0x8: 00 -> 01\n");
        assert!(!FastLines::default().read(text.as_bytes()), "{line}");
    }
}
