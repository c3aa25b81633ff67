//! `patch` and the file's length: how a change of it is told.

use crate::support::{file, report, run, run_with, scratch};
use std::fs;

#[test]
fn a_change_of_the_length_is_told_with_and_without_edits() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789abcdef");
    let told = |script: &[u8]| {
        fs::write(&path, b"0123456789abcdef").unwrap();
        run_with(dir.path(), "patch f --script -", script)
    };
    assert_eq!(told(b"size 16 -> 32"), "f: length 0x10 before, 0x20 now\nexit 0");
    assert_eq!(fs::metadata(&path).unwrap().len(), 32);
    assert_eq!(
        told(b"size 16 -> 32\n0: -> 58"),
        "f: 1 byte of 0x0..0x1 changed\n  length      0x10 before, 0x20 now\nexit 0"
    );
    assert_eq!(
        told(b"size 16 -> 8"),
        "f: 8 bytes of 0x8..0x10 changed\n  length      0x10 before, 0x8 now\nexit 0"
    );
    fs::write(&path, [0; 16]).unwrap();
    assert_eq!(
        run_with(dir.path(), "patch f --sync --script -", b"size 16 -> 8"),
        "f: length 0x10 before, 0x8 now, durable\nexit 0"
    );
    fs::write(&path, b"0123456789abcdef").unwrap();
    assert_eq!(
        run(dir.path(), "patch f --grow -o end 0000"),
        "f: 2 bytes of 0x10..0x12 changed\n  length      0x10 before, 0x12 now\nexit 0",
        "appended zeros are changed bytes"
    );
    assert_eq!(
        run(dir.path(), "patch f -o 0 00"),
        "f: 1 byte of 0x0..0x1 changed\nexit 0"
    );
}

#[test]
fn the_json_report_has_both_lengths() {
    let dir = scratch();
    file(dir.path(), "f", b"0123456789abcdef");
    let told = report(dir.path(), "patch f --grow -o end 01020304");
    assert_eq!(
        (&told["size_before"], &told["size"]),
        (&16.into(), &20.into()),
        "{told}"
    );
    let told = report(dir.path(), "patch f -o 0 58");
    assert_eq!(
        (&told["size_before"], &told["size"]),
        (&20.into(), &20.into()),
        "{told}"
    );
    assert_eq!(told["changed"], true);
}
