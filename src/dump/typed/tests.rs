//! Tests of typed.rs.

use super::super::Format;
use super::super::tests::{BARE, VERBOSE, inputs, noise, peer, text};
use super::*;
use std::os::unix::fs::FileExt;

/// Every number format, by name, and its name in od.
pub(in super::super) const UNITS: [(&str, &str, &str); 18] = [
    ("u8", "u1", "little"),
    ("i8", "d1", "little"),
    ("u16le", "u2", "little"),
    ("u16be", "u2", "big"),
    ("i16le", "d2", "little"),
    ("i16be", "d2", "big"),
    ("u32le", "u4", "little"),
    ("u32be", "u4", "big"),
    ("i32le", "d4", "little"),
    ("i32be", "d4", "big"),
    ("f32le", "f4", "little"),
    ("f32be", "f4", "big"),
    ("u64le", "u8", "little"),
    ("u64be", "u8", "big"),
    ("i64le", "d8", "little"),
    ("i64be", "d8", "big"),
    ("f64le", "f8", "little"),
    ("f64be", "f8", "big"),
];

/// The text of od, with offsets of eight digits.
fn widened(od: &str) -> String {
    od.lines()
        .map(|line| {
            let (at, rest) = line.split_once(' ').unwrap_or((line, ""));
            let at = u64::from_str_radix(at, 16).unwrap();
            let space = if rest.is_empty() { "" } else { " " };
            format!("{at:08x}{space}{rest}\n")
        })
        .collect()
}

/// Numbers that are likely to reveal errors, in both lengths and byte orders.
fn numbers() -> Vec<u8> {
    let mut bytes = Vec::new();
    let singles = [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e5,
        999_999.0,
        1e6,
        1e-4,
        1e-5,
        1.5e-7,
        16_777_216.0,
        3.4e38,
        1e-45,
        1.2e-38,
    ];
    for value in singles {
        let single = value as f32;
        bytes.extend([single.to_le_bytes(), single.to_be_bytes()].concat());
        bytes.extend([f64::to_le_bytes(value), f64::to_be_bytes(-value)].concat());
    }
    let doubles = [
        f64::MIN_POSITIVE,
        f64::MAX,
        5e-324,
        1e15,
        1e16,
        123_456_789_012_345_680.0,
        0.1 + 0.2,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        -f64::NAN,
        1e22,
        1e23,
        9_007_199_254_740_993.0,
    ];
    for value in doubles {
        bytes.extend([value.to_le_bytes(), value.to_be_bytes()].concat());
        bytes.extend([(value as f32).to_le_bytes(), (value as f32).to_be_bytes()].concat());
    }
    for power in -148..128 {
        let single = 2f32.powi(power);
        bytes.extend([single.to_le_bytes(), single.to_be_bytes()].concat());
        bytes.extend(2f64.powi(7 * power).to_le_bytes());
    }
    for value in [i64::MIN, -1, i64::MAX, i64::from(i32::MIN), 255, 256, -129] {
        bytes.extend([value.to_le_bytes(), value.to_be_bytes()].concat());
    }
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

#[test]
fn the_text_is_that_of_od_t() {
    let all = inputs().into_iter().filter(|data| data.len() % 8 == 0);
    for data in all.chain([noise(64 << 10), numbers()]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&data, 0).unwrap();
        for (name, od, order) in UNITS {
            let format = Format::Typed(NumberFormat::parse(name).unwrap());
            let order = format!("--endian={order}");
            let Some(theirs) = peer("od", &["-A", "x", "-v", &order, "-t", od], &file) else {
                return;
            };
            let theirs = if data.is_empty() {
                String::new()
            } else {
                widened(&theirs)
            };
            let ours = text(format, 0, VERBOSE, &data);
            for (ours, theirs) in ours.lines().zip(theirs.lines()) {
                assert_eq!(ours, theirs, "{name} of {} bytes", data.len());
            }
            assert_eq!(ours.len(), theirs.len());
        }
    }
}

#[test]
fn bytes_that_are_no_whole_number_are_shown_as_bytes() {
    let text = |name, data: &[u8]| text(Format::Typed(NumberFormat::parse(name).unwrap()), 0, BARE, data);
    assert_eq!(text("u32be", b"\0\0\x01\0abc"), "00000000        256  + 3 bytes: 61 62 63\n00000007\n");
    assert_eq!(text("u16le", b"a"), "00000000  + 1 byte: 61\n00000001\n");
    assert_eq!(text("i8", b"\xff"), "00000000   -1\n00000001\n");
    assert_eq!(
        text("f64le", &[0; 61]),
        "00000000                        0                        0\n\
         *         32 bytes, each row as the one above\n\
         00000030                        0  + 5 bytes: 00 00 00 00 00\n0000003d\n"
    );
}
