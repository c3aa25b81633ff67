//! `patch`, as its users see it.

mod common;

use common::{State, file, run, run_with, scratch};

#[test]
fn bytes_from_stdin_are_written_where_the_offset_says() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 128]);
    let told = run_with(dir.path(), "patch f --offset 0x40", b"\xde\xad");
    assert_eq!(told, "f: 2 bytes of 0x40..0x42 changed\nexit 0");
    let mut expected = vec![0; 128];
    expected[0x40..0x42].copy_from_slice(b"\xde\xad");
    assert_eq!(std::fs::read(path).unwrap(), expected);
}

#[test]
fn other_bytes_than_expected_are_shown_and_nothing_is_touched() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"\x75\x05");
    let before = State::of(&path);
    assert_eq!(
        run(dir.path(), "patch f -o 0 --expect 7405 9090"),
        "! error: f: bytes at 0x0 are 7505, expected 7405; nothing was written\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x0..+16 -x'\n\
         exit 1"
    );
    assert_eq!(State::of(&path), before);
}
