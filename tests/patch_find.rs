//! `patch --find`: where the bytes are found, or why nothing is written.

use crate::support::*;
use std::fs::{self};
use std::os::unix::fs::FileExt;

/// Patches `f` where `pattern`, which may have spaces, is found.
fn found(dir: &Sandbox, pattern: &str, rest: &[&str]) -> Outcome {
    let args = [&["patch", "f", "--find", pattern][..], rest].concat();
    dir.mmapctl(&args)
}

#[test]
fn the_only_match_is_written_over() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"one two three");
    dir.run("patch f --find text:two text:TWO").is("f: 3 bytes of 0x4..0x7 changed\nexit 0");
    assert_eq!(read(&path), b"one TWO three");
    // Fewer bytes than were found, and more.
    dir.run("patch f --find text:TWO text:2").code(0);
    dir.run("patch f --find text:one text:11111").code(0);
    assert_eq!(read(&path), b"11111WO three");
    // Found at the very end, more has no room.
    dir.refused_untouched("patch f --find text:ee text:eee");
    dir.run("patch f --find text:ee text:EE").code(0);
    assert_eq!(read(path), b"11111WO thrEE");
}

#[test]
fn every_kind_of_value_can_be_looked_for() {
    let dir = Sandbox::new();
    let path = dir.join("f");
    let bytes = b"\0\x01\x02\x03\x04\x05\xff\xff\xff\xffVER\0\x40\x49\x0f\xdb";
    for (pattern, at) in [
        ("0102", 1),
        ("hex:0203", 2),
        ("01 02 03", 1),
        ("u16le:0x0302", 2),
        ("u16be:0x0304,0x05ff", 3),
        ("u8:4", 4),
        ("i32le:-1", 6),
        ("text:VER", 10),
        ("cstr:ER", 11),
        ("fill:ff:4", 6),
        ("f32be:3.14159274", 14),
        ("?1", 1),
        ("0102 ?? 04", 1),
        ("hex:5? 45", 10),
        ("u8:0x50/0xfc", 12),
        ("u32be:0x0f0000ff/0x0f0000ff", 0),
    ] {
        fs::write(&path, bytes).unwrap();
        if pattern.starts_with("u32be") {
            // Bits under a mask: 5f 00 00 ff has them, 56 00 00 ff has not.
            fs::write(&path, b"\x5f\x12\x34\xff\x56\0\0\xff").unwrap();
        }
        found(&dir, pattern, &["aa"]).is(format!("f: 1 byte of {at:#x}..{:#x} changed\nexit 0", at + 1));
    }
}

#[test]
fn bytes_that_are_not_there_are_an_answer_of_no() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"one two three");
    let before = State::of(&path);
    dir.run("patch f --find text:four 00").is(
        "! error: f: the pattern was not found in 0x0..0xd; nothing was written\n\
         !   tip: 'mmapctl cat f -x' shows what is there; this also happens if the same patch is run a second time\n\
         exit 1",
    );
    for rest in ["--all", "--nth 1", "--range 0..2", "--offset 8", "--dry-run"] {
        dir.run(&format!("patch f --find text:one\\x00 00 {rest}")).code(1);
    }
    dir.run("patch f --find text:one\\x20two\\x20three\\x20four 00").code(1);
    assert_eq!(State::of(&path), before);
    dir.file("f", b"");
    dir.run("patch f --find 00 01").code(1);
}

#[test]
fn several_matches_are_named_and_nothing_is_written() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"ab..ab..ab");
    let before = State::of(&path);
    dir.run("patch f --find text:ab 00")
        .is("! error: f: 3 matches, at 0x0, 0x4, 0x8; nothing was written\n\
         !   tip: choose one with --nth N, all with --all, or search only a part with --range\n\
         exit 1");
    assert_eq!(State::of(&path), before);
    dir.file("f", b"ab".repeat(1000));
    dir.run("patch f --find text:ab 00")
        .has("1000 matches, at 0x0, 0x2, 0x4, 0x6, 0x8, 0xa, 0xc, 0xe, …;");
}

#[test]
fn all_matches_are_written_over_or_the_one_that_is_counted() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"ab..ab..ab");
    dir.run("patch f --find text:ab text:X --all --dry-run")
        .is("# mmapctl-patch 1\nsize 0xa\n0x0: 61 -> 58\n0x4: 61 -> 58\n0x8: 61 -> 58\nexit 0");
    let report = dir.report("patch f --find text:ab text:X --nth 2");
    assert_eq!(report["offsets"], serde_json::json!([4]));
    assert_eq!(read(&path), b"ab..Xb..ab");
    dir.run("patch f --find text:ab text:YZ --all")
        .is("f: 4 bytes by 2 edits in 0x0..0xa changed\nexit 0");
    assert_eq!(read(&path), b"YZ..Xb..YZ");
    let before = State::of(&path);
    dir.run("patch f --find text:YZ text:YZ --nth 3").is(
        "! error: f: there are 2 matches, but number 3 was requested; nothing was written\n\
         !   tip: count from 1, or give --all\n\
         exit 1",
    );
    assert_eq!(State::of(&path), before);
}

#[test]
fn overlapping_matches_are_ambiguous_unless_all_are_written() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"xaaaaax");
    let before = State::of(&path);
    dir.run("patch f --find text:aaa text:b").has("3 matches, at 0x1, 0x2, 0x3;");
    assert_eq!(State::of(&path), before);
    dir.run("patch f --find text:aaa text:b --nth 2").code(1);
    assert_eq!(State::of(&path), before);
    dir.run("patch f --find text:aa text:bc --all").code(0);
    assert_eq!(read(&path), b"xbcbcax");
    // New bytes that are longer than what was found would write over one another.
    dir.refused_untouched("patch f --find text:bc text:123 --all").has("two edits write to 0x3..0x4");
}

#[test]
fn a_range_bounds_the_search() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abcabcabc");
    for (place, at) in [
        ("--range 1..8", 3),
        ("--range 3..6", 3),
        ("--range 6..", 6),
        ("--range -3..", 6),
        ("--offset 4", 6),
        ("--range ..3", 0),
        ("--range 0..+5", 0),
        ("--range 6..100", 6),
    ] {
        dir.run(&format!("patch f --find text:abc text:abc {place} --dry-run"))
            .is("# mmapctl-patch 1\nsize 0x9\nexit 0");
        let report = dir.report(&format!("patch f --find text:abc text:abc {place}"));
        assert_eq!(report["offset"], at, "{place}");
    }
    // A match must be within it as a whole.
    dir.run("patch f --find text:abc 00 --range 1..5").code(1);
    dir.run("patch f --find text:abc 00 --range 4..4").code(1);
    dir.refused_untouched("patch f --find text:abc 00 --range 10..");
    dir.refused_untouched("patch f --find text:abc 00 --offset 10");
    assert_eq!(read(path), b"abcabcabc");
}

#[test]
fn matches_across_the_borders_of_chunks_and_windows_are_found() {
    let dir = Sandbox::new();
    const CHUNK: u64 = 256 << 10;
    const WINDOW: u64 = 8 << 20;
    let needle = b"\x01needle that is twenty-nine\x02\x03";
    let path = dir.sparse("f", 2 * WINDOW + 100);
    let store = |bytes: &[u8], at| {
        let file = writer(&path);
        file.write_all_at(bytes, at).unwrap();
    };
    let hex = const_hex::encode(needle);
    let wild = format!("01{}02", "?".repeat(2 * needle.len() - 6));
    let mut places = Vec::new();
    for border in [CHUNK, 2 * CHUNK, WINDOW, 2 * WINDOW] {
        for before in [0, 1, 15, needle.len() as u64 - 1, needle.len() as u64] {
            places.push(border - before);
        }
    }
    for at in places {
        store(needle, at);
        let report = dir.report(&format!("patch f --find {hex} {hex}"));
        assert_eq!(report["offset"], at, "{at:#x}");
        let report = dir.report(&format!("patch f --find {wild} 01"));
        assert_eq!(report["offset"], at, "{at:#x}, with wildcards");
        store(&[0; 30], at);
    }
}

#[test]
fn a_long_pattern_is_found_across_many_pages() {
    let dir = Sandbox::new();
    let mut bytes = noise(1 << 20);
    bytes[200_000..265_000].fill(0xff);
    dir.file("f", &bytes);
    let report = dir.report("patch f --find fill:ff:65_000 00");
    assert_eq!(report["offset"], 200_000);
    let hex = const_hex::encode(&noise(1 << 20)[300_000..330_000]);
    assert_eq!(dir.report(&format!("patch f --find {hex} 00"))["offset"], 300_000);
}

#[test]
fn values_from_stdin_go_to_every_match() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"ab..ab..ab");
    dir.run_fed("patch f --find text:ab --all", b"12")
        .is("f: 6 bytes by 3 edits in 0x0..0xa changed\nexit 0");
    assert_eq!(read(&path), b"12..12..12");
    dir.run_fed("patch f --find text:12 --nth 2 text:x @-", b"y").code(0);
    assert_eq!(read(&path), b"12..xy..12");
    dir.refused_untouched("patch f --find text:xy");
    dir.refused_untouched_fed("patch f --find text:xy", b"1234567");
}

#[test]
fn more_on_stdin_than_is_kept_is_refused_and_not_cut_off() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 20 << 20);
    writer(&path).write_all_at(b"ab", 0).unwrap();
    let input = vec![7; (16 << 20) + 1];
    dir.refused_fed("patch f --find text:ab", &input).has("stdin has more than 16 MiB");
    assert_eq!(read(path)[..2], *b"ab");
}

#[test]
fn find_writes_masked_values_and_checksums() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"123456789\0\0\0\0MAGIC\xf5");
    dir.run("patch f --find 00000000 crc32be:0..9").code(0);
    dir.run("patch f --find text:MAGIC text:MAGIC u8:0xa/0xf").code(0);
    assert_eq!(read(path), b"123456789\xcb\xf4\x39\x26MAGIC\xfa");
}

#[test]
fn what_cannot_be_looked_for_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    for pattern in [
        "??",
        "????",
        "?",
        "7?e",
        "hex:??",
        "u8:0/0",
        "u16le:0/0,0/0",
        "zero:0",
        "zero:65K",
        "fill:00:1T",
        "@f",
        "@-",
        "crc32le:..",
        "0x1234",
        "u32:1",
        "V1.2",
        "text:",
    ] {
        dir.refused_untouched(&format!("patch f --find {pattern} 00"));
    }
    for line in [
        "patch f --find 00 --nth 0 01",
        "patch f --find 00 --nth 1 --all 01",
        "patch f --all 01",
        "patch f --nth 1 01",
        "patch f --find 00 --expect 00 01",
        "patch f --find 00 --find 01 01",
    ] {
        let before = dir.state("f");
        dir.run(line).code(2);
        assert_eq!(dir.state("f"), before, "{line}");
    }
}

#[test]
fn a_search_is_limited_by_offset_length_and_range_alike() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"..XX....XX....XX..");
    for limits in ["-o 4 -n 8", "-o 4 --length 8", "-r 4..12", "-r 4..+8", "-o 8 -n 2"] {
        fs::write(&path, b"..XX....XX....XX..").unwrap();
        dir.run(&format!("patch f --find text:XX text:YY {limits}"))
            .is("f: 2 bytes of 0x8..0xa changed\nexit 0");
    }
    // A length alone counts from the start; a match that reaches over the end is none.
    dir.run("patch f --find text:XX text:YY -n 4").is("f: 2 bytes of 0x2..0x4 changed\nexit 0");
    dir.run("patch f --find text:XX text:YY -o 12 -n 3").code(1).has("not found in 0xc..0xf");
}
