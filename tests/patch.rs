//! `patch`, as its users see it.

use crate::support;
use crate::support::{State, file, has, into_full, json, mmapctl, noise, peer};
use crate::support::{refused_without_touching, report, run, run_with, scratch, skip, spawnable, told};
use predicates::prelude::*;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};

// ---- what is written -----------------------------------------------------------------------------------------------

#[test]
fn bytes_from_stdin_are_written_where_the_offset_says() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 128]);
    let told = run_with(dir.path(), "patch f --offset 0x40", b"\xde\xad");
    assert_eq!(told, "f: 2 bytes of 0x40..0x42 changed\nexit 0");
    let mut expected = vec![0; 128];
    expected[0x40..0x42].copy_from_slice(b"\xde\xad");
    assert_eq!(fs::read(path).unwrap(), expected);
}

#[test]
fn every_kind_of_value_gives_the_bytes_that_other_tools_give() {
    let dir = scratch();
    fs::write(dir.path().join("payload"), b"from a file").unwrap();
    // What printf(1) writes for the same bytes.
    let table = [
        ("dead", r"\336\255"),
        ("hex:DEad", r"\336\255"),
        (r"text:V1\n\x7f", r"V1\n\177"),
        ("cstr:name", r"name\0"),
        ("zero:3", r"\0\0\0"),
        ("fill:5a:4", "ZZZZ"),
        ("u8:1,2,0xff", r"\1\2\377"),
        ("i8:-1,-128", r"\377\200"),
        ("u16le:0x1234", r"\064\022"),
        ("u16be:0x1234", r"\022\064"),
        ("i16le:-2", r"\376\377"),
        ("i16be:-2", r"\377\376"),
        ("u32le:1,2", r"\1\0\0\0\2\0\0\0"),
        ("u32be:1", r"\0\0\0\1"),
        ("i32le:-1", r"\377\377\377\377"),
        ("i32be:-2", r"\377\377\377\376"),
        ("u64le:1", r"\1\0\0\0\0\0\0\0"),
        ("u64be:1", r"\0\0\0\0\0\0\0\1"),
        ("i64le:-2", r"\376\377\377\377\377\377\377\377"),
        ("i64be:-2", r"\377\377\377\377\377\377\377\376"),
        ("f32le:1.5", r"\0\0\300\077"),
        ("f32be:1.5", r"\077\300\0\0"),
        ("f64le:-2", r"\0\0\0\0\0\0\0\300"),
        ("f64be:-2", r"\300\0\0\0\0\0\0\0"),
        ("@payload", "from a file"),
        ("@-", "from a pipe"),
    ];
    for (value, printf) in table {
        let path = file(dir.path(), "f", &[0x11; 64]);
        let mut command = mmapctl(dir.path(), &["patch", "f", "-o", "7", value]);
        command.write_stdin("from a pipe").assert().code(0);
        let bytes = peer(dir.path(), "printf", &[printf]);
        let mut expected = vec![0x11; 64];
        expected[7..7 + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(fs::read(path).unwrap(), expected, "{value}");
    }
}

#[test]
fn hex_bytes_are_what_xxd_reads_from_the_same_digits() {
    if !has("hex_bytes_are_what_xxd_reads_from_the_same_digits", "xxd") {
        return;
    }
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 300]);
    let digits = const_hex::encode(noise(300));
    assert!(run(dir.path(), &format!("patch f -o 0 {digits}")).ends_with("exit 0"));
    fs::write(dir.path().join("digits"), digits).unwrap();
    assert_eq!(
        fs::read(path).unwrap(),
        peer(dir.path(), "xxd", &["-r", "-p", "digits"])
    );
}

#[test]
fn values_follow_one_another_and_stdin_may_be_one_of_them() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 16]);
    fs::write(dir.path().join("p"), b"FILE").unwrap();
    let told = run_with(dir.path(), "patch f -o 1 text:a @p @- u16be:1 zero:1 ff", b"pipe");
    assert_eq!(told, "f: 11 bytes of 0x1..0xe changed\nexit 0");
    assert_eq!(fs::read(path).unwrap(), b"\0aFILEpipe\0\x01\0\xff\0\0");
}

#[test]
fn places_are_said_in_every_way_and_negative_ones_need_no_quotes() {
    let dir = scratch();
    let path = dir.path().join("f");
    for (place, at) in [
        ("-o 0x10", 16),
        ("--offset 16", 16),
        ("--offset=0b10000", 16),
        ("-o -0x10", 48),
        ("--offset -16", 48),
        ("--offset=-16", 48),
        ("-o end-4", 60),
        ("-o end-16+2", 50),
        ("-r 4..6", 4),
        ("-r 4..+2", 4),
        ("--range -2..", 62),
        ("-r ..2", 0),
        ("-o 8 -n 2", 8),
        ("-o 8 --length 2", 8),
        ("-n 2", 0),
    ] {
        fs::write(&path, [0; 64]).unwrap();
        let told = run(dir.path(), &format!("patch f {place} aabb"));
        assert!(told.ends_with("\nexit 0"), "{place}: {told}");
        let mut expected = [0; 64];
        expected[at..at + 2].copy_from_slice(b"\xaa\xbb");
        assert_eq!(fs::read(&path).unwrap(), expected, "{place}");
    }
}

#[test]
fn a_range_is_filled_exactly_or_not_at_all() {
    let dir = scratch();
    file(dir.path(), "f", &[7; 64]);
    assert_eq!(
        refused_without_touching(dir.path(), "patch f -r 4..8 aabbcc", b""),
        "! error: f: the range 0x4..0x8 takes 4 bytes, and 3 bytes came\n\
         !   tip: give --offset alone to write as many as there are\n\
         exit 2"
    );
    refused_without_touching(dir.path(), "patch f -r 4..8 aabbccddee", b"");
    refused_without_touching(dir.path(), "patch f -o 4 -n 4 aabbccddee", b"");
    refused_without_touching(dir.path(), "patch f -r 4..8", b"abc");
    refused_without_touching(dir.path(), "patch f -r 4..8", b"abcde");
    refused_without_touching(dir.path(), "patch f -r .. aa", b"");
    assert_eq!(
        run_with(dir.path(), "patch f -r 4..8", b"abcd"),
        "f: 4 bytes of 0x4..0x8 changed\nexit 0"
    );
}

#[test]
fn the_last_byte_can_be_written_and_the_length_never_changes() {
    let dir = scratch();
    for len in [1, 511, 4095, 4096, 4097, 12289] {
        let path = file(dir.path(), "f", &vec![0; len]);
        assert_eq!(
            run(dir.path(), "patch f -o end-1 7f"),
            format!("f: 1 byte of {:#x}..{len:#x} changed\nexit 0", len - 1)
        );
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), len);
        assert_eq!(bytes[len - 1], 0x7f);
        refused_without_touching(dir.path(), "patch f -o end-1 7f80", b"");
        refused_without_touching(dir.path(), "patch f -o end 7f", b"");
    }
}

#[test]
fn a_patch_across_a_window_border_is_right_to_the_byte() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(9 << 20));
    let mut expected = noise(9 << 20);
    let at = (8 << 20) - 5001;
    for byte in &mut expected[at..at + 10_002] {
        *byte ^= 0x55;
    }
    fs::write(dir.path().join("p"), &expected[at..at + 10_002]).unwrap();
    assert_eq!(
        run(dir.path(), &format!("patch f -o {at} @p")),
        format!("f: 10002 bytes of {at:#x}..{:#x} changed\nexit 0", at + 10_002)
    );
    assert!(fs::read(path).unwrap() == expected);
}

#[test]
fn a_payload_of_many_windows_from_a_pipe_is_right_to_the_byte() {
    let dir = scratch();
    let path = support::sparse(dir.path(), "f", 65 << 20);
    let block = noise((1 << 20) + 7); // longer than what is kept in memory, and no multiple of anything
    let payload: Vec<u8> = block.iter().copied().cycle().take(64 << 20).collect();
    fs::write(dir.path().join("p"), &payload).unwrap();
    let mut command = spawnable(dir.path(), &["patch", "f", "-o", "12345"]);
    let output = command
        .stdin(File::open(dir.path().join("p")).unwrap())
        .output()
        .unwrap();
    assert!(told(&output).ends_with("changed\nexit 0"), "{}", told(&output));
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len(), 65 << 20);
    assert!(bytes[12345..12345 + (64 << 20)] == payload);
    assert!(bytes[..12345].iter().all(|byte| *byte == 0));
    assert!(bytes[12345 + (64 << 20)..].iter().all(|byte| *byte == 0));
}

// ---- what is compared ----------------------------------------------------------------------------------------------

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

#[test]
fn a_mismatch_deep_in_a_long_range_is_named_by_its_own_offset() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 100_000]);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"\xab", 70_000)
        .unwrap();
    let before = State::of(&path);
    let told = run(dir.path(), "patch f -o 0 --expect zero:100_000 fill:01:100_000");
    let bytes = format!("ab{}, expected 00{}", "00".repeat(15), "00".repeat(15));
    assert!(
        told.starts_with(&format!(
            "! error: f: bytes at {:#x} are {bytes}; nothing was written\n",
            70_000
        )),
        "{told}"
    );
    assert!(told.ends_with("exit 1"), "{told}");
    assert_eq!(State::of(&path), before);
}

#[test]
fn expected_bytes_let_the_patch_through_and_a_second_run_changes_nothing() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"\0\x74\x05\0");
    assert_eq!(
        run(dir.path(), "patch f -o 1 --expect 7405 9090"),
        "f: 2 bytes of 0x1..0x3 changed\nexit 0"
    );
    let before = State::of(&path);
    assert_eq!(fs::read(&path).unwrap(), b"\0\x90\x90\0");
    assert_eq!(
        run(dir.path(), "patch f -o 1 --expect 7405 9090"),
        "f: 0x1..0x3 holds these bytes already; nothing was written\nexit 0"
    );
    assert_eq!(State::of(&path), before);
    let told = report(dir.path(), "patch f -o 1 9090");
    assert_eq!((&told["changed"], &told["bytes_changed"]), (&false.into(), &0.into()));
    assert_eq!(State::of(&path), before);
}

#[test]
fn an_expectation_of_another_length_is_refused() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 8]);
    refused_without_touching(dir.path(), "patch f -o 0 --expect 00 aabb", b"");
    refused_without_touching(dir.path(), "patch f -o 0 --expect 000000 aabb", b"");
}

#[test]
fn only_differing_bytes_are_counted() {
    let dir = scratch();
    file(dir.path(), "f", b"\x01\x02\x03\x04");
    assert_eq!(
        run(dir.path(), "patch f -o 0 01ff03ff"),
        "f: 2 bytes of 0x0..0x4 changed\nexit 0"
    );
}

#[test]
fn a_dry_run_prints_the_script_and_touches_nothing() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0x11; 0x80]);
    let before = State::of(&path);
    assert_eq!(
        run(dir.path(), "patch f -o 0x1e --dry-run aabb11cc"),
        "# mmapctl-patch 1\n\
         size 0x80\n\
         0x1e: 1111 -> aabb\n\
         0x20: 1111 -> 11cc\n\
         exit 0"
    );
    let told = report(dir.path(), "patch f -o 0x1e --dry-run aabb11cc");
    assert_eq!(told["changed"], false);
    assert_eq!(told["dry_run"], true);
    assert_eq!(told["bytes_changed"], 3);
    assert_eq!(told["edits"][0]["offset"], 0x1e);
    assert_eq!(told["edits"][1]["new"], "11cc");
    assert!(run(dir.path(), "patch f -o 0 --dry-run --expect 22 aa").ends_with("exit 1"));
    assert_eq!(State::of(&path), before);
}

#[test]
fn a_dry_run_needs_no_right_to_write_and_waits_for_no_lock() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 4]);
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    assert_eq!(
        run(dir.path(), "patch f -o 2 --dry-run 01"),
        "# mmapctl-patch 1\nsize 0x4\n0x2: 00 -> 01\nexit 0"
    );
}

#[test]
fn sync_makes_the_bytes_durable_and_says_so() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 8192]);
    assert_eq!(
        run(dir.path(), "patch f -o 4095 --sync aabb"),
        "f: 2 bytes of 0xfff..0x1001 changed, durable\nexit 0"
    );
    assert_eq!(fs::read(path).unwrap()[4095..4097], *b"\xaa\xbb");
    assert_eq!(report(dir.path(), "patch f -o 0 --sync 01")["durable"], true);
    assert_eq!(report(dir.path(), "patch f -o 0 02")["durable"], false);
    if support::is_disk(dir.path()) {
        assert_eq!(report(dir.path(), "patch f -o 0 --sync 03")["durable"], true);
        assert_eq!(report(dir.path(), "sync f")["dirty_before"], 0);
    } else {
        skip(
            "sync_makes_the_bytes_durable_and_says_so",
            "dirty pages are counted on ext4 and xfs",
        );
    }
}

// ---- what is said --------------------------------------------------------------------------------------------------

#[test]
fn the_report_in_json_has_the_facts() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 8]);
    let told = report(dir.path(), "patch f -o 2 0102");
    assert_eq!((&told["verb"], &told["file"]), (&"patch".into(), &"f".into()));
    assert_eq!((&told["offset"], &told["length"]), (&2.into(), &2.into()));
    assert_eq!((&told["changed"], &told["bytes_changed"]), (&true.into(), &2.into()));
    assert!(told.get("path_hex").is_none(), "{told}");
}

#[test]
fn an_error_in_json_is_one_object_on_stderr() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 8]);
    for (line, code) in [
        ("patch f -o 8 00 --json", 2),
        ("--json patch f -o 0 --expect 01 02", 1),
        ("patch f -o 0 abc --json", 2),
        ("patch f --nonsense --json", 2),
        ("patch missing -o 0 00 --json", 2),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let output = mmapctl(dir.path(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        let error = json(&output.stderr);
        assert_eq!(error["exit"], code, "{line}: {error}");
        assert!(
            error["error"].is_string() && error["tip"].is_string(),
            "{line}: {error}"
        );
    }
    let output = mmapctl(dir.path(), &["patch", "f", "-o", "6", "010203", "--json"])
        .output()
        .unwrap();
    let error = json(&output.stderr);
    assert_eq!((&error["file"], &error["verb"]), (&"f".into(), &"patch".into()));
    assert_eq!(error["offset"], 6);
}

#[test]
fn a_name_that_is_not_utf8_is_told_by_its_bytes() {
    let dir = scratch();
    let name = std::ffi::OsStr::from_bytes(b"f\xff");
    if fs::write(dir.path().join(name), [0; 8]).is_err() {
        skip(
            "a_name_that_is_not_utf8_is_told_by_its_bytes",
            "this file system takes UTF-8 names only",
        );
        return;
    }
    let output = mmapctl(dir.path(), &["patch", "--json", "-o", "0", "--expect", "00", "--"])
        .arg(name)
        .arg("01")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let report = json(&output.stdout);
    assert_eq!(report["path_hex"], "66ff");
    assert_eq!(report["file"], "f\u{fffd}");
    let mut command = mmapctl(dir.path(), &["patch", "--json", "-o", "9", "--"]);
    let error = json(&command.arg(name).arg("01").output().unwrap().stderr);
    assert_eq!(error["path_hex"], "66ff");
    assert_eq!(fs::read(dir.path().join(name)).unwrap()[0], 1);
}

#[test]
fn a_report_that_cannot_be_written_is_3_after_a_change_and_2_without_one() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 8]);
    for (json, code) in [(false, 3), (false, 2), (true, 3), (true, 2)] {
        let byte = if json { "02" } else { "01" };
        let args = [
            "patch",
            "f",
            "-o",
            "0",
            byte,
            if json { "--json" } else { "--color=never" },
        ];
        let output = into_full(dir.path(), &args);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        let said = if code == 3 {
            "the file was changed"
        } else {
            "nothing was changed"
        };
        assert!(told(&output).contains(said), "{}", told(&output));
    }
    assert_eq!(fs::read(path).unwrap()[0], 2);
    // A dry run's script is the product, not the report; losing it is trouble all the same.
    let output = into_full(dir.path(), &["patch", "f", "-o", "0", "03", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reader_that_closed_the_pipe_is_no_error() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 8]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = spawnable(dir.path(), &["patch", "f", "-o", "0", "01"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(told(&output), "exit 0");
    assert_eq!(fs::read(path).unwrap()[0], 1);
}

#[test]
fn quiet_prints_nothing() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 8]);
    assert_eq!(run(dir.path(), "patch f -o 0 01 -q"), "exit 0");
    assert_eq!(run(dir.path(), "--quiet patch f -o 0 01"), "exit 0");
    // Errors are not chatter.
    assert!(run(dir.path(), "patch f -o 8 01 -q").starts_with("! error: f: "));
}

#[test]
fn verbose_shows_the_system_calls_on_stderr() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 8]);
    let line = |call: &str| predicate::str::is_match(format!("(?m)^{call} = ")).unwrap();
    mmapctl(dir.path(), &["patch", "f", "-o", "2", "0102", "-v", "--sync"])
        .assert()
        .code(0)
        .stdout("f: 2 bytes of 0x2..0x4 changed, durable\n")
        .stderr(line(r"mmap\(NULL, \d+, PROT_READ\|PROT_WRITE, MAP_SHARED, \d+, 0\)"))
        .stderr(line(r"preadv\(\d+, \[\{iov_base=0x[0-9a-f]+, iov_len=2\}\], 1, 0\)"))
        .stderr(line(r"msync\(0x[0-9a-f]+, \d+, MS_SYNC\)"));
}

#[test]
fn no_progress_bar_and_no_colour_reach_a_pipe() {
    let dir = scratch();
    support::sparse(dir.path(), "f", 32 << 20);
    let told = run(dir.path(), "patch f -o 0 fill:41:32M");
    assert_eq!(told, "f: 33554432 bytes of 0x0..0x2000000 changed\nexit 0");
    assert!(!run(dir.path(), "patch f -o end 00").contains('\x1b'));
    assert!(run(dir.path(), "patch f -o end 00 --color always").contains("\x1b["));
}

#[test]
fn stdin_is_left_alone_when_values_are_given() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 8]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = spawnable(dir.path(), &["patch", "f", "-o", "0", "01", "-q"]);
    assert!(command.stdin(reader.try_clone().unwrap()).status().unwrap().success());
    std::io::Write::write_all(&mut &writer, b"still here").unwrap();
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "still here");
}
