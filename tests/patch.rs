//! `patch`, as its users see it.

use crate::support::*;
use predicates::prelude::*;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

// ---- what is written -----------------------------------------------------------------------------------------------

#[test]
fn bytes_from_stdin_are_written_where_the_offset_says() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 128]);
    dir.run_fed("patch f --offset 0x40", b"\xde\xad").is("f: 2 bytes of 0x40..0x42 changed\nexit 0");
    let mut expected = vec![0; 128];
    expected[0x40..0x42].copy_from_slice(b"\xde\xad");
    assert_eq!(read(path), expected);
}

#[test]
fn every_kind_of_value_gives_the_bytes_that_other_tools_give() {
    let dir = Sandbox::new();
    dir.file("payload", b"from a file");
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
        let path = dir.file("f", [0x11; 64]);
        let mut command = assert_cmd::Command::from_std(dir.command(&["patch", "f", "-o", "7", value]));
        command.write_stdin("from a pipe").assert().code(0);
        let bytes = dir.peer("printf", &[printf]);
        let mut expected = vec![0x11; 64];
        expected[7..7 + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(read(path), expected, "{value}");
    }
}

#[test]
fn hex_bytes_are_what_xxd_reads_from_the_same_digits() {
    needs!(has("xxd"));
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 300]);
    let digits = const_hex::encode(noise(300));
    dir.run(&format!("patch f -o 0 {digits}")).code(0);
    dir.file("digits", digits);
    assert_eq!(read(path), dir.peer("xxd", &["-r", "-p", "digits"]));
}

#[test]
fn values_follow_one_another_and_stdin_may_be_one_of_them() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 16]);
    dir.file("p", b"FILE");
    dir.run_fed("patch f -o 1 text:a @p @- u16be:1 zero:1 ff", b"pipe")
        .is("f: 11 bytes of 0x1..0xe changed\nexit 0");
    assert_eq!(read(path), b"\0aFILEpipe\0\x01\0\xff\0\0");
}

#[test]
fn places_are_taken_in_every_form_and_may_be_negative() {
    let dir = Sandbox::new();
    let path = dir.join("f");
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
        dir.run(&format!("patch f {place} aabb")).ends("\nexit 0");
        let mut expected = [0; 64];
        expected[at..at + 2].copy_from_slice(b"\xaa\xbb");
        assert_eq!(read(&path), expected, "{place}");
    }
}

#[test]
fn a_range_is_filled_exactly_or_not_at_all() {
    let dir = Sandbox::new();
    dir.file("f", [7; 64]);
    dir.refused_untouched("patch f -r 4..8 aabbcc").is(
        "! error: f: the range 0x4..0x8 has 4 bytes, but 3 bytes were given\n\
         !   tip: give only --offset to write all of them\n\
         exit 2",
    );
    dir.refused_untouched("patch f -r 4..8 aabbccddee");
    dir.refused_untouched("patch f -o 4 -n 4 aabbccddee");
    dir.refused_untouched_fed("patch f -r 4..8", b"abc");
    dir.refused_untouched_fed("patch f -r 4..8", b"abcde");
    dir.refused_untouched("patch f -r .. aa");
    dir.run_fed("patch f -r 4..8", b"abcd").is("f: 4 bytes of 0x4..0x8 changed\nexit 0");
}

#[test]
fn the_last_byte_can_be_written_and_the_length_never_changes() {
    let dir = Sandbox::new();
    for len in [1, 511, 4095, 4096, 4097, 12289] {
        let path = dir.file("f", vec![0; len]);
        dir.run("patch f -o end-1 7f").is(format!("f: 1 byte of {:#x}..{len:#x} changed\nexit 0", len - 1));
        let bytes = read(&path);
        assert_eq!(bytes.len(), len);
        assert_eq!(bytes[len - 1], 0x7f);
        dir.refused_untouched("patch f -o end-1 7f80");
        dir.refused_untouched("patch f -o end 7f");
    }
}

#[test]
fn a_patch_across_a_window_border_is_right_to_the_byte() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(9 << 20));
    let mut expected = noise(9 << 20);
    let at = (8 << 20) - 5001;
    for byte in &mut expected[at..at + 10_002] {
        *byte ^= 0x55;
    }
    fs::write(dir.join("p"), &expected[at..at + 10_002]).unwrap();
    dir.run(&format!("patch f -o {at} @p"))
        .is(format!("f: 10002 bytes of {at:#x}..{:#x} changed\nexit 0", at + 10_002));
    assert!(read(path) == expected);
}

#[test]
fn a_payload_of_many_windows_from_a_pipe_is_right_to_the_byte() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 65 << 20);
    let block = noise((1 << 20) + 7); // longer than what is kept in memory, and no multiple of anything
    let payload: Vec<u8> = block.iter().copied().cycle().take(64 << 20).collect();
    dir.file("p", &payload);
    let mut command = dir.command(&["patch", "f", "-o", "12345"]);
    command.stdin(File::open(dir.join("p")).unwrap()).outcome().ends("changed\nexit 0");
    let bytes = read(path);
    assert_eq!(bytes.len(), 65 << 20);
    assert!(bytes[12345..12345 + (64 << 20)] == payload);
    assert!(bytes[..12345].iter().all(|byte| *byte == 0));
    assert!(bytes[12345 + (64 << 20)..].iter().all(|byte| *byte == 0));
}

// ---- what is compared ----------------------------------------------------------------------------------------------

#[test]
fn other_bytes_than_expected_are_shown_and_nothing_is_touched() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"\x75\x05");
    let before = State::of(&path);
    dir.run("patch f -o 0 --expect 7405 9090").is(
        "! error: f: bytes at 0x0 are 7505, expected 7405; nothing was written\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x0..+16 -x'\n\
         exit 1",
    );
    assert_eq!(State::of(&path), before);
}

#[test]
fn a_mismatch_deep_in_a_long_range_is_named_by_its_own_offset() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 100_000]);
    writer(&path).write_all_at(b"\xab", 70_000).unwrap();
    let before = State::of(&path);
    let text = dir.run("patch f -o 0 --expect zero:100_000 fill:01:100_000");
    let bytes = format!("ab{}, expected 00{}", "00".repeat(15), "00".repeat(15));
    text.begins(format!("! error: f: bytes at {:#x} are {bytes}; nothing was written\n", 70_000))
        .code(1);
    assert_eq!(State::of(&path), before);
}

#[test]
fn expected_bytes_are_patched_once_and_kept_by_a_second_run() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"\0\x74\x05\0");
    dir.run("patch f -o 1 --expect 7405 9090").is("f: 2 bytes of 0x1..0x3 changed\nexit 0");
    let before = State::of(&path);
    assert_eq!(read(&path), b"\0\x90\x90\0");
    dir.run("patch f -o 1 --expect 7405 9090")
        .is("f: 0x1..0x3 holds these bytes already; nothing was written\nexit 0");
    assert_eq!(State::of(&path), before);
    let report = dir.report("patch f -o 1 9090");
    assert_eq!(report["changed"], false);
    assert_eq!(report["bytes_changed"], 0);
    assert_eq!(State::of(&path), before);
}

#[test]
fn an_expectation_of_another_length_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0; 8]);
    dir.refused_untouched("patch f -o 0 --expect 00 aabb");
    dir.refused_untouched("patch f -o 0 --expect 000000 aabb");
}

#[test]
fn only_differing_bytes_are_counted() {
    let dir = Sandbox::new();
    dir.file("f", b"\x01\x02\x03\x04");
    dir.run("patch f -o 0 01ff03ff").is("f: 2 bytes of 0x0..0x4 changed\nexit 0");
}

#[test]
fn a_dry_run_prints_the_script_and_touches_nothing() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0x11; 0x80]);
    let before = State::of(&path);
    dir.run("patch f -o 0x1e --dry-run aabb11cc").is("# mmapctl-patch 1\n\
         size 0x80\n\
         0x1e: 1111 -> aabb\n\
         0x20: 1111 -> 11cc\n\
         exit 0");
    let report = dir.report("patch f -o 0x1e --dry-run aabb11cc");
    assert_eq!(report["changed"], false);
    assert_eq!(report["dry_run"], true);
    assert_eq!(report["bytes_changed"], 3);
    assert_eq!(report["edits"][0]["offset"], 0x1e);
    assert_eq!(report["edits"][1]["new"], "11cc");
    dir.run("patch f -o 0 --dry-run --expect 22 aa").code(1);
    assert_eq!(State::of(&path), before);
}

#[test]
fn a_dry_run_needs_no_right_to_write_and_waits_for_no_lock() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 4]);
    set_mode(&path, 0o444);
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    dir.run("patch f -o 2 --dry-run 01").is("# mmapctl-patch 1\nsize 0x4\n0x2: 00 -> 01\nexit 0");
}

#[test]
fn sync_makes_the_bytes_durable_and_says_so() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8192]);
    dir.run("patch f -o 4095 --sync aabb").is("f: 2 bytes of 0xfff..0x1001 changed, durable\nexit 0");
    assert_eq!(read(path)[4095..4097], *b"\xaa\xbb");
    assert_eq!(dir.report("patch f -o 0 --sync 01")["durable"], true);
    assert_eq!(dir.report("patch f -o 0 02")["durable"], false);
    if dir.is_disk() {
        assert_eq!(dir.report("patch f -o 0 --sync 03")["durable"], true);
        assert_eq!(dir.report("sync f")["dirty_before"], 0);
    } else {
        skip("dirty pages are counted on ext4 and xfs");
    }
}

// ---- what is said --------------------------------------------------------------------------------------------------

#[test]
fn the_report_in_json_has_the_facts() {
    let dir = Sandbox::new();
    dir.file("f", [0; 8]);
    let report = dir.report("patch f -o 2 0102");
    assert_eq!(report["verb"], "patch");
    assert_eq!(report["file"], "f");
    assert_eq!(report["offset"], 2);
    assert_eq!(report["length"], 2);
    assert_eq!(report["changed"], true);
    assert_eq!(report["bytes_changed"], 2);
    assert!(report.get("path_hex").is_none(), "{report}");
}

#[test]
fn an_error_in_json_is_one_object_on_stderr() {
    let dir = Sandbox::new();
    dir.file("f", [0; 8]);
    for (line, code) in [
        ("patch f -o 8 00 --json", 2),
        ("--json patch f -o 0 --expect 01 02", 1),
        ("patch f -o 0 abc --json", 2),
        ("patch f --nonsense --json", 2),
        ("patch missing -o 0 00 --json", 2),
    ] {
        let output = dir.mmapctl(&words(line));
        output.code(code);
        assert!(output.stdout.is_empty(), "{line}");
        let error = output.error();
        assert_eq!(error["exit"], code, "{line}: {error}");
        assert!(error["error"].is_string() && error["tip"].is_string(), "{line}: {error}");
    }
    let output = dir.mmapctl(&["patch", "f", "-o", "6", "010203", "--json"]);
    let error = output.error();
    assert_eq!(error["file"], "f");
    assert_eq!(error["verb"], "patch");
    assert_eq!(error["offset"], 6);
}

#[test]
fn a_name_that_is_not_utf8_is_told_by_its_bytes() {
    let dir = Sandbox::new();
    let name = std::ffi::OsStr::from_bytes(b"f\xff");
    if fs::write(dir.join(name), [0; 8]).is_err() {
        skip("this file system takes UTF-8 names only");
        return;
    }
    let output = dir.command(&["patch", "--json", "-o", "0", "--expect", "00", "--"]).arg(name).arg("01").outcome();
    output.code(0);
    let report = json(&output.stdout);
    assert_eq!(report["path_hex"], "66ff");
    assert_eq!(report["file"], "f\u{fffd}");
    let mut command = dir.command(&["patch", "--json", "-o", "9", "--"]);
    let error = json(&command.arg(name).arg("01").outcome().stderr);
    assert_eq!(error["path_hex"], "66ff");
    assert_eq!(dir.read(name)[0], 1);
}

#[test]
fn a_lost_report_is_3_after_a_change_and_2_without() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8]);
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
        let output = dir.mmapctl_into_full(&args);
        output.code(code);
        let said = if code == 3 {
            "the file was changed"
        } else {
            "nothing was changed"
        };
        output.has(said);
    }
    assert_eq!(read(path)[0], 2);
    // The script of a dry run is its output, not a report; losing it is an error too.
    dir.mmapctl_into_full(&["patch", "f", "-o", "0", "03", "--dry-run"]).code(2);
}

#[test]
fn a_reader_that_closed_the_pipe_is_no_error() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    dir.command(&["patch", "f", "-o", "0", "01"]).stdout(writer).outcome().is("exit 0");
    assert_eq!(read(path)[0], 1);
}

#[test]
fn quiet_prints_nothing() {
    let dir = Sandbox::new();
    dir.file("f", [0; 8]);
    dir.run("patch f -o 0 01 -q").is("exit 0");
    dir.run("--quiet patch f -o 0 01").is("exit 0");
    // Errors are not chatter.
    dir.run("patch f -o 8 01 -q").begins("! error: f: ");
}

#[test]
fn verbose_shows_the_system_calls_on_stderr() {
    let dir = Sandbox::new();
    dir.file("f", [0; 8]);
    let line = |call: &str| predicate::str::is_match(format!("(?m)^{call} = ")).unwrap();
    assert_cmd::Command::from_std(dir.command(&["patch", "f", "-o", "2", "0102", "-v", "--sync"]))
        .assert()
        .code(0)
        .stdout("f: 2 bytes of 0x2..0x4 changed, durable\n")
        .stderr(line(r"mmap\(NULL, \d+, PROT_READ\|PROT_WRITE, MAP_SHARED, \d+, 0\)"))
        .stderr(line(r"preadv\(\d+, \[\{iov_base=0x[0-9a-f]+, iov_len=2\}\], 1, 0\)"))
        .stderr(line(r"msync\(0x[0-9a-f]+, \d+, MS_SYNC\)"));
}

#[test]
fn no_progress_bar_and_no_colour_reach_a_pipe() {
    let dir = Sandbox::new();
    dir.sparse("f", 32 << 20);
    dir.run("patch f -o 0 fill:41:32M").is("f: 33554432 bytes of 0x0..0x2000000 changed\nexit 0");
    assert!(!dir.run("patch f -o end 00").contains('\x1b'));
    dir.run("patch f -o end 00 --color always").has("\x1b[");
}

#[test]
fn stdin_is_left_alone_when_values_are_given() {
    let dir = Sandbox::new();
    dir.file("f", [0; 8]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = dir.command(&["patch", "f", "-o", "0", "01", "-q"]);
    assert!(command.stdin(reader.try_clone().unwrap()).status().unwrap().success());
    std::io::Write::write_all(&mut &writer, b"still here").unwrap();
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "still here");
}
