//! `patch` with checksums of what a file grows by.

mod common;

use common::{file, refused_without_touching, run, scratch};
use std::fs;

#[test]
fn a_checksum_sums_what_the_file_grows_by() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789abcdef");
    let grown = |line: &str| {
        fs::write(&path, b"0123456789abcdef").unwrap();
        let told = run(dir.path(), line);
        assert!(told.ends_with("exit 0"), "{line}: {told}");
        fs::read(&path).unwrap()
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
    file(dir.path(), "script", b"size 16 -> 32\n0: -> crc32le:20..32\n");
    let bytes = grown("patch f --script script");
    assert_eq!(bytes[..4], sum(&[0; 12]));
}

#[test]
fn a_checksum_of_more_than_the_file_will_have_is_refused() {
    let dir = scratch();
    file(dir.path(), "f", b"0123456789abcdef");
    file(dir.path(), "script", b"size 16 -> 32\n0: -> crc32le:20..33\n");
    for line in [
        "patch f --grow -o 0 crc32le:4..100",
        "patch f --grow -o end crc32le:30..40",
        "patch f --grow -e 16:dead -e 0:crc32le:4..19",
        "patch f --script script",
    ] {
        let text = refused_without_touching(dir.path(), line, b"");
        assert!(
            text.contains("sum") && text.contains("the file will end at"),
            "{line}: {text}"
        );
    }
    // Without --grow it is said as ever.
    let text = refused_without_touching(dir.path(), "patch f -o 0 crc32le:20..24", b"");
    assert!(text.contains("lies past the end"), "{text}");
}
