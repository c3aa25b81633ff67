//! Tests of value.rs.

use super::*;
use proptest::prelude::*;

fn bytes(text: &str) -> Vec<u8> {
    match Value::parse(OsStr::new(text)) {
        Ok(Value::Bytes(bytes)) => bytes,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> (String, String) {
    let refusal = Value::parse(OsStr::new(text)).expect_err(text);
    (refusal.message, refusal.tip)
}

#[test]
fn every_kind_gives_its_bytes() {
    let table: &[(&str, &[u8])] = &[
        ("dead", &[0xde, 0xad]),
        ("DE AD be ef", &[0xde, 0xad, 0xbe, 0xef]),
        ("hex:00ff", &[0, 0xff]),
        (r"text:V1\n", b"V1\n"),
        ("text:a:b", b"a:b"),
        (r"text:\x41\u{20ac}\\", "A€\\".as_bytes()),
        (r"text:1\0a\0\x31\\01", b"1\0a\x001\\01"),
        ("cstr:ab", b"ab\0"),
        ("cstr:", b"\0"),
        ("u8:1,2,0xff", &[1, 2, 255]),
        ("i8:-1,-128,127", &[255, 128, 127]),
        ("u16le:0x1234", &[0x34, 0x12]),
        ("u16be:0x1234", &[0x12, 0x34]),
        ("i16be:-2", &[0xff, 0xfe]),
        ("u32le:1", &[1, 0, 0, 0]),
        ("u64be:1_000", &[0, 0, 0, 0, 0, 0, 3, 0xe8]),
        ("u64le:18446744073709551615", &[255; 8]),
        ("i64le:-9223372036854775808", &[0, 0, 0, 0, 0, 0, 0, 0x80]),
        ("f32le:1.5", &[0, 0, 0xc0, 0x3f]),
        ("f64be:-2", &[0xc0, 0, 0, 0, 0, 0, 0, 0]),
        ("f32be:inf", &[0x7f, 0x80, 0, 0]),
    ];
    for (text, expected) in table {
        assert_eq!(bytes(text), *expected, "{text}");
    }
    assert_eq!(Value::parse(OsStr::new("zero:8")), Ok(Value::Fill(0, Qty::Bytes(8))));
    assert_eq!(Value::parse(OsStr::new("fill:5a:4K")), Ok(Value::Fill(0x5a, Qty::Bytes(4096))));
    assert_eq!(Value::parse(OsStr::new("@-")), Ok(Value::Stdin));
    assert_eq!(Value::parse(OsStr::new("@a:b")), Ok(Value::File("a:b".into())));
}

#[test]
fn what_has_two_meanings_is_refused_with_the_way_to_write_each() {
    let table = [
        ("0x1234", "u16le:0x1234"),
        ("0x123", "write 0123 "),
        ("u32:1", "u32le: (x86"),
        ("u8:256", "u16le:256 or u16be:256"),
        ("u8:-1", "write i8:-1"),
        ("u8:-200", "write i16le:-200 or i16be:-200"),
        ("u32le:-1", "write i32le:-1"),
        ("u64be:-2", "write i64be:-2"),
        ("u16le:-40000", "write i32le:-40000"),
        ("i16be:40000", "write u16be:40000"),
        ("i32le:99999999999", "write i64le:99999999999"),
        ("i32be:-99999999999", "write i64be:-99999999999"),
        ("u16be:65536", "write u32be:65536"),
        ("i64le:18446744073709551615", "write u64le:18446744073709551615"),
        ("i32le:18446744073709551615", "write u64le:18446744073709551615"),
        ("i8:200", "u8:200"),
        ("abc", "0abc"),
        ("V1.2", "text:V1.2"),
        ("", "text:WORDS"),
        ("hex:", "9090"),
        ("fill:5a", "fill:BYTE:COUNT"),
        ("fill:5a5a:2", "fill:BYTE:COUNT"),
        ("nope:1", "kinds of value"),
        (r"text:\q", "known are"),
        (r"text:a\", "known are"),
        (r"text:\x4", "known are"),
        (r"text:\x0x41", "known are"),
        (r"text:\x0X", "known are"),
        (r"text:\u{110000}", "known are"),
        (r"text:\u{+41}", "known are"),
        (r"text:\u{-0}", "known are"),
        (r"text:\u{}", "known are"),
        (r"text:1\0532", r"write \x0053 for a NUL and then '53', or \x2b "),
        (r"cstr:\07", r"or \x07 "),
        (r"text:\012x", r"or \x0a "),
        (r"text:\08", r"write \x008 for a NUL and then '8'"),
        (r"text:\000", r"or \x00 for"),
        ("f32le:1e99", "f64le:"),
        ("f64le:x", "1.5"),
        ("@", "@PATH"),
        ("u16le:020", "0x20"),
        ("u8:8/7", "0x0/0x7"),
        ("u8:1/256", "u16le:256"),
        ("f32le:1/2", "u32"),
        ("crc32le:", "0..end-4"),
        ("crc32le:0x40:16", "0x40..+16"),
        ("74??", "--find"),
        ("u64le:18446744073709551616", ""),
    ];
    for (text, tip) in table {
        let (message, said) = refused(text);
        assert!(said.contains(tip) || message.contains(tip), "{text}: {message}; tip: {said}");
    }
}

#[test]
fn a_mask_says_which_bits_count() {
    let masked = |bytes: &[u8], mask: &[u8]| MaskedBytes {
        bytes: bytes.to_vec(),
        mask: mask.to_vec(),
    };
    let value = Value::parse(OsStr::new("u16le:0x4/0x7,0x1234"));
    assert_eq!(value, Ok(Value::Masked(masked(&[4, 0, 0x34, 0x12], &[7, 0, 0xff, 0xff]))));
    assert_eq!(bytes("u16be:0x4/0xffff"), [0, 4], "a full mask is none");
    assert_eq!(pattern(OsStr::new("74 ?? e?")), Ok(masked(&[0x74, 0, 0xe0], &[0xff, 0, 0xf0])));
    assert_eq!(pattern(OsStr::new("text:ab")), Ok(masked(b"ab", &[0xff; 2])));
    for odd in ["fa?", "hex:fa?", "74 fa? ee"] {
        let refusal = pattern(OsStr::new(odd)).expect_err(odd);
        assert_eq!(refusal.message, "'fa?' has an odd number of digits (3)");
        assert_eq!(refusal.tip, "each byte takes two: write 0fa? or fa??");
    }
    for bad in ["??", "7?e", "u8:0/0", "@f", "crc32le:..", "zero:1M", "zero:0"] {
        assert!(pattern(OsStr::new(bad)).is_err(), "{bad}");
    }
}

#[test]
fn text_need_not_be_utf8() {
    let value = Value::parse(OsStr::from_bytes(b"text:\xff\xfe"));
    assert_eq!(value, Ok(Value::Bytes(vec![0xff, 0xfe])));
}

proptest! {
    #[test]
    fn no_argument_panics(argument in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = Value::parse(OsStr::from_bytes(&argument));
    }

    #[test]
    fn nothing_that_looks_like_a_value_panics(argument in r"(hex|text|cstr|zero|fill|crc32(le|be)|[uif](8|16|32|64)(le|be)?)?:?[-0-9a-fx,./?:\\u{}€ ]{0,20}") {
        let _ = Value::parse(OsStr::new(&argument));
    }

    #[test]
    fn hex_comes_back(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
        let text = const_hex::encode(&bytes);
        prop_assert_eq!(Value::parse(OsStr::new(&text)), Ok(Value::Bytes(bytes)));
    }

    #[test]
    fn integers_of_both_orders_are_each_others_mirror(value: u32) {
        let mut little = match Value::parse(OsStr::new(&format!("u32le:{value}"))) { Ok(Value::Bytes(b)) => b, _ => vec![] };
        little.reverse();
        prop_assert_eq!(Value::parse(OsStr::new(&format!("u32be:{value:#x}"))), Ok(Value::Bytes(little)));
    }
}
