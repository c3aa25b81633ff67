//! `patch` with checksums of what a file grows by.

use crate::support::*;
use std::fs;

#[test]
fn a_checksum_sums_what_the_file_grows_by() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789abcdef");
    let grown = |line: &str| {
        fs::write(&path, b"0123456789abcdef").unwrap();
        dir.run(line).code(0);
        read(&path)
    };
    let sum = |bytes: &[u8]| crc32fast::hash(bytes).to_le_bytes();
    // From the old end on, from within what is added, and from a gap of zeros; over the border it always went.
    let bytes = grown("patch f --grow -e 16:text:more -e 20:crc32le:16..+4");
    assert_eq!(bytes[20..], sum(b"more"));
    let bytes = grown("patch f --grow -e 16:text:more -e 20:crc32le:18..20");
    assert_eq!(bytes[20..], sum(b"re"));
    let bytes = grown("patch f --grow -e 0:crc32le:17..+3 -e 16:text:more");
    assert_eq!(bytes[..4], sum(b"ore"));
    let bytes = grown("patch f --grow -e 16:text:more -e 20:crc32le:10..20");
    assert_eq!(bytes[20..], sum(b"abcdefmore"));
    dir.file("script", b"size 16 -> 32\n0: -> crc32le:20..32\n");
    let bytes = grown("patch f --script script");
    assert_eq!(bytes[..4], sum(&[0; 12]));
}

#[test]
fn a_checksum_of_more_than_the_file_will_have_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789abcdef");
    dir.file("script", b"size 16 -> 32\n0: -> crc32le:20..33\n");
    for line in [
        "patch f --grow -o 0 crc32le:4..100",
        "patch f --grow -o end crc32le:30..40",
        "patch f --grow -e 16:dead -e 0:crc32le:4..19",
        "patch f --script script",
    ] {
        dir.refused_untouched(line).has("sum").has("the file will end at");
    }
    // Without --grow it is said as ever.
    dir.refused_untouched("patch f -o 0 crc32le:20..24").has("lies past the end");
}

#[test]
fn masked_bits_are_not_expected_where_a_checksum_goes() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0, 0x11, 0x22, 0x33, 1, 2, 3, 4]);
    let patch = |edit: &str| dir.mmapctl(&["patch", "f", "-e", edit]);
    for old in ["u32le:0/0xff", "u8:0/0xf 11 22 33", "u32le:0x33221100/0xffffff00"] {
        let before = State::of(&path);
        patch(&format!("0: {old} -> crc32le:4..8"))
            .has("--edit 1: masked bits cannot be expected")
            .code(2)
            .has("tip: expect all of its four bytes");
        assert_eq!(State::of(&path), before);
    }
    // Beside it they can, and so can all of its bytes.
    patch("0: 00112233 u8:1/0xf -> crc32le:5..8 ff").code(0);
    let bytes = read(&path);
    assert_eq!(bytes[..4], crc32fast::hash(&[2, 3, 4]).to_le_bytes());
    assert_eq!(bytes[4..], [0xff, 2, 3, 4]);
}
