//! `patch` and the file's length: how a change of it is reported.

use crate::support::*;
use std::fs;

#[test]
fn a_change_of_the_length_is_told_with_and_without_edits() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789abcdef");
    let text = |script: &[u8]| {
        fs::write(&path, b"0123456789abcdef").unwrap();
        dir.run_fed("patch f --script -", script)
    };
    text(b"size 16 -> 32").is("f: length 0x10 before, 0x20 now\nexit 0");
    assert_eq!(fs::metadata(&path).unwrap().len(), 32);
    text(b"size 16 -> 32\n0: -> 58").is("f: 1 byte of 0x0..0x1 changed\n  length      0x10 before, 0x20 now\nexit 0");
    text(b"size 16 -> 8").is("f: 8 bytes of 0x8..0x10 changed\n  length      0x10 before, 0x8 now\nexit 0");
    fs::write(&path, [0; 16]).unwrap();
    dir.run_fed("patch f --sync --script -", b"size 16 -> 8")
        .is("f: length 0x10 before, 0x8 now, durable\nexit 0");
    fs::write(&path, b"0123456789abcdef").unwrap();
    assert_eq!(
        dir.run("patch f --grow -o end 0000"),
        "f: 2 bytes of 0x10..0x12 changed\n  length      0x10 before, 0x12 now\nexit 0",
        "appended zeros are changed bytes"
    );
    dir.run("patch f -o 0 00").is("f: 1 byte of 0x0..0x1 changed\nexit 0");
}

#[test]
fn the_json_report_has_both_lengths() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789abcdef");
    let report = dir.report("patch f --grow -o end 01020304");
    assert_eq!(report["size_before"], 16, "{report}");
    assert_eq!(report["size"], 20, "{report}");
    let report = dir.report("patch f -o 0 58");
    assert_eq!(report["size_before"], 20, "{report}");
    assert_eq!(report["size"], 20, "{report}");
    assert_eq!(report["changed"], true);
}
