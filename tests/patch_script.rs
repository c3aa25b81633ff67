//! `patch --script`, `-e` and `--dry-run`: edit scripts and xxd dumps, as their users see them.

use crate::support::*;
use std::fs;
use std::process::Stdio;

/// Patches `f` with each of `edits` after an `-e`.
fn edit(dir: &Sandbox, edits: &[&str]) -> Outcome {
    let mut args = vec!["patch", "f"];
    args.extend(edits.iter().flat_map(|edit| ["-e", edit]));
    dir.mmapctl(&args)
}

/// Patches `f` with `script`, from stdin.
fn script(dir: &Sandbox, script: &str) -> Outcome {
    dir.run_fed("patch f --script -", script.as_bytes())
}

/// Patches `f` with `script`, from stdin, which must be refused with the file untouched.
fn refused_script(dir: &Sandbox, script: &str) -> Outcome {
    dir.refused_untouched_fed("patch f --script -", script.as_bytes())
}

// ---- what a script says --------------------------------------------------------------------------------------------

#[test]
fn the_script_of_the_design_is_applied_as_it_stands() {
    let dir = Sandbox::new();
    let mut expected = noise(0x100);
    expected[0x40..0x42].copy_from_slice(&[0x74, 0x05]);
    dir.file("f", &expected);
    dir.file(
        "s",
        b"# mmapctl-patch 1\n\
          size 0x100                    # optional guard\n\
          0x40: 7405 -> 9090            # compare, then write\n\
          end-4: -> crc32le:0..end-4    # unconditional\n\
          0x80: -> 00\n\
          +0: text:\"v1.2 # ok\"          # right after the previous edit\n",
    );
    dir.run("patch f --script s").is("f: 16 bytes by 4 edits in 0x40..0x100 changed\nexit 0");
    expected[0x40..0x42].copy_from_slice(&[0x90, 0x90]);
    expected[0x80..0x8a].copy_from_slice(b"\0v1.2 # ok");
    let crc = crc32fast::hash(&expected[..0xfc]);
    expected[0xfc..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(dir.read("f"), expected);
}

#[test]
fn every_way_to_write_a_line_says_the_same() {
    let dir = Sandbox::new();
    let path = dir.join("f");
    for line in [
        "0x10: 00000000 -> 61622363",
        "0x10: 00000000 -> 61622363\n",
        "16: 00000000 -> 61622363",
        "0b1_0000: 00 00 00 00 -> 61 62 23 63",
        "end-0x30: 00000000 -> 61622363",
        "-48: 00000000 -> 61622363",
        "8+8: -> 61622363",
        "0x10: 61622363",
        "0x10:61622363",
        "  \t0x10:\tzero:4\t->\ttext:ab#c\t# why",
        "0x10: zero:2 0000 -> u16le:0x6261 text:#c",
        "0x10: -> text:\"ab#c\"",
        "0x10: -> \"text:ab#c\"#no",
        "0x10: -> hex:\"61 62 23 63\"",
        "0x10: -> text:a\\x62#c",
        "0x10: -> @payload",
        "0x10: -> @\"pay load\"",
        "# a comment\n\n\t\n0x10: -> 61622363\n# another",
        "# mmapctl-patch 1\nsize 64\n0x10: -> 61622363",
        "\u{feff}# mmapctl-patch 1\r\nsize 64\r\n0x10: 00000000 -> 61622363\r\n",
        "\u{feff}0x10: 00000000 -> 61622363",
        "0x10: -> 6162\n+0: -> 2363",
        "0xf: -> 00\n+0: -> 6162\n+0: 0000 -> 2363",
        "0x12: -> 2363\n0x10: -> 6162",
        "0xe: -> 00\n+1: -> 61622363",
    ] {
        fs::write(&path, [0; 64]).unwrap();
        dir.file("payload", "ab#c");
        dir.file("pay load", "ab#c");
        let text = script(&dir, line);
        // A comment begins a word; within one, its mark is text.
        let expected: &[u8] = if line.contains("#no") { b"ab#c#no" } else { b"ab#c" };
        text.ends("\nexit 0");
        let bytes = read(&path);
        assert_eq!(&bytes[16..16 + expected.len()], expected, "{line}");
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), expected.len(), "{line}");
    }
}

#[test]
fn edits_of_the_command_line_are_lines_of_a_script() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 32]);
    edit(&dir, &["4: 0000 -> 6162", "+0: text:\"c d\"", "end-1: -> ff # why"])
        .is("f: 6 bytes by 3 edits in 0x4..0x20 changed\nexit 0");
    assert_eq!(&read(&path)[4..9], b"abc d");
    // They may begin with a minus, and go together with values and a script.
    dir.file("s", b"0: -> 01\n");
    dir.run("patch f -o 1 02 -e -4:03 --edit=+0:04 --script s")
        .is("f: 4 bytes by 4 edits in 0x0..0x1e changed\nexit 0");
    let bytes = read(path);
    assert_eq!((bytes[0], bytes[1], bytes[28], bytes[29]), (1, 2, 3, 4));
}

#[test]
fn edits_are_stored_in_any_order_and_with_any_neighbours() {
    let dir = Sandbox::new();
    let mut expected = noise(70_000);
    let path = dir.file("f", &expected);
    let mut lines: Vec<String> = Vec::new();
    for (index, byte) in expected.iter_mut().enumerate() {
        if index % 7 < 3 {
            let new = byte.wrapping_add(1 + index as u8 % 3);
            lines.push(format!("{index:#x}: {byte:02x} -> {new:02x}\n"));
            *byte = new;
        }
    }
    lines.sort_by_key(|line| line.len() * 31 % 7 + line.as_bytes()[4] as usize);
    script(&dir, &lines.concat()).is("f: 30000 bytes by 30000 edits in 0x0..0x1116c changed\nexit 0");
    assert!(read(path) == expected);
}

#[test]
fn an_empty_script_is_no_edit() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 32]);
    let before = State::of(&path);
    for text in [
        "",
        "\n",
        "# mmapctl-patch 1\n",
        "size 32",
        "# mmapctl-patch 1\nsize 0x20\n",
    ] {
        script(&dir, text).is("f: no edits; nothing was written\nexit 0");
    }
    assert_eq!(State::of(&path), before);
}

// ---- the size -------------------------------------------------------------------------------------------------------

#[test]
fn a_script_for_a_file_of_another_size_is_refused() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 32]);
    let before = State::of(&path);
    script(&dir, "# mmapctl-patch 1\nsize 0x21\n0: 00 -> 01\n").is(
        "! error: f: -: line 2: it has 0x20 bytes, but line 2 expects 0x21; nothing was written\n\
         !   tip: the script was made for another file, or another version of it\n\
         exit 1",
    );
    script(&dir, "size 31 -> 33\n").code(1);
    assert_eq!(State::of(&path), before);
    for line in [
        "size",
        "size 32 33",
        "size x",
        "size 020",
        "size 32 ->",
        "size 32 -> x",
        "size -> 32",
    ] {
        refused_script(&dir, line).has("line 1");
    }
}

#[test]
fn a_size_line_with_an_arrow_resizes_the_file() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    let grown = "size 10 -> 16\n8: 3839 -> 6162\n+0: 00000000 -> 63646566\n";
    script(&dir, grown).ends("changed\n  length      0xa before, 0x10 now\nexit 0");
    assert_eq!(read(&path), b"01234567abcdef\0\0");
    // A second run finds all of it done.
    let before = State::of(&path);
    script(&dir, grown).is("f: 0x8..0xe holds these bytes already; nothing was written\nexit 0");
    assert_eq!(State::of(&path), before);
    script(&dir, "size 16 -> 4\n1: 31 -> ff\n").code(0);
    assert_eq!(read(&path), b"0\xff23");
    script(&dir, "size 4 -> 0\n").code(0);
    assert_eq!(read(&path), b"");
    script(&dir, "size 0 -> 3\n0: -> 616263\n").code(0);
    assert_eq!(read(&path), b"abc");
}

#[test]
fn a_resize_after_an_edit_is_refused_and_a_guard_is_not() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    for text in [
        "0: 30 -> 58\nsize 10 -> 12\n10: 0000 -> 6161\n",
        "0: 30 -> 58\nsize 10 -> 8\n",
        "0: text:0 -> 58\n# why\nsize 10 -> 12\n",
    ] {
        refused_script(&dir, text).has("the length is changed after the edit in line 1");
    }
    script(&dir, "0: 30 -> 58\nsize 10\n").code(0);
    // With an edit of the command line it goes.
    dir.file("s", b"size 10 -> 12\n10: 0000 -> 6161\n");
    dir.mmapctl(&["patch", "f", "-e", "1: 31 -> 59", "--script", "s"]).code(0);
    assert_eq!(read(&path), b"XY23456789aa");
}

#[test]
fn edits_past_the_new_end_are_refused() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789");
    refused_script(&dir, "size 10 -> 8\n8: -> 00\n");
    refused_script(&dir, "size 10 -> 8\n7: -> 0000\n");
    refused_script(&dir, "size 10 -> 12\n13: -> 00\n");
    refused_script(&dir, "10: -> 00\nsize 10 -> 12\n");
    refused_script(&dir, "size 10 -> 0xffffffffffffffff\n");
    refused_script(&dir, "size 10 -> 0x7fffffffffffffff\n");
}

// ---- what is compared ------------------------------------------------------------------------------------------------

#[test]
fn edits_for_two_threads_are_each_compared_with_the_file() {
    let dir = Sandbox::new();
    let path = dir.join("f");
    let (old, new) = (noise(120_000 * 16), noise(120_000 * 16 + 8)[8..].to_vec());
    let (mut text, mut patched) = (String::new(), old.clone());
    for at in (0..old.len()).step_by(16) {
        let (old, new) = (&old[at..at + 4], &new[at..at + 4]);
        text += &format!("{at:#x}: {} -> {}\n", const_hex::encode(old), const_hex::encode(new));
        patched[at..at + 4].copy_from_slice(new);
    }
    dir.file("s", text);
    let changed = old.iter().zip(&patched).filter(|(old, new)| old != new).count();
    // From the old bytes, from the new ones, and with half of them in.
    for half in [0, old.len() / 2] {
        fs::write(&path, [&patched[..half], &old[half..]].concat()).unwrap();
        let text = dir.run("patch f --script s");
        assert!(half > 0 || text.starts_with(&format!("f: {changed} bytes by 120000 edits in 0x0..")), "{text}");
        text.ends(" changed\nexit 0");
        assert!(read(&path) == patched);
    }
    dir.run("patch f --script s").ends(" holds these bytes already; nothing was written\nexit 0");
    dir.run("patch f --script s --reverse").ends(" changed\nexit 0");
    assert!(read(&path) == old);
    let mut other = old.clone();
    let wrong = [16, 70_000 * 16 + 3, 119_999 * 16];
    for at in wrong {
        other[at] = !(old[at] ^ new[at]);
        assert!(other[at] != old[at] && other[at] != new[at]);
    }
    fs::write(&path, &other).unwrap();
    let text = dir.run("patch f --script s");
    text.begins("! error: f: 3 of 120000 edits do not match; nothing was written\n");
    for at in wrong {
        let line = format!("s: line {}: bytes at {at:#x} are {:02x}", at / 16 + 1, other[at]);
        assert!(text.contains(&line), "{line}: {text}");
    }
    text.code(1);
    assert!(read(&path) == other);
}

#[test]
fn all_mismatches_are_reported_and_nothing_is_written() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789abcdef");
    let before = State::of(&path);
    script(
        &dir,
        "# mmapctl-patch 1\n8: 3838 -> ffff\n\n0: 30 -> ee\n2: 3233 -> dddd\n4: 00000000 -> aaaaaaaa\n",
    )
    .is("! error: f: 2 of 4 edits do not match; nothing was written\n\
         !   -: line 6: bytes at 0x4 are 34353637, expected 00000000\n\
         !   -: line 2: bytes at 0x9 are 39, expected 38\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x4..+16 -x'\n\
         exit 1");
    dir.file("s", b"1: 00 -> 01\n3: 00 -> 01");
    dir.run("patch f -e 0:00 -e 2:ff->00 --script s").is(
        "! error: f: --edit 2: 'ff->00' has no blanks around its '->'\n\
         !   tip: write OFFSET: OLD -> NEW, with a blank on either side of the arrow\n\
         exit 2",
    );
    dir.mmapctl(&["patch", "f", "-e", "2: ff -> 00", "--script", "s"]).is(
        "! error: f: 3 of 3 edits do not match; nothing was written\n\
         !   s: line 1: bytes at 0x1 are 31, expected 00\n\
         !   --edit 1: bytes at 0x2 are 32, expected ff\n\
         !   s: line 2: bytes at 0x3 are 33, expected 00\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x1..+16 -x'\n\
         exit 1",
    );
    script(&dir, "0: 30 -> ee\n1: ff -> 00\n").is(
        "! error: f: bytes at 0x1 are 31, expected ff (1 of 2 edits: line 2); nothing was written\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x1..+16 -x'\n\
         exit 1",
    );
    assert_eq!(State::of(&path), before);
}

#[test]
fn what_is_applied_already_is_success_unless_strict() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    let text = "2: 32 -> aa\n4: 34 -> bb\n6: -> 36\n";
    script(&dir, text).is("f: 2 bytes by 3 edits in 0x2..0x7 changed\nexit 0");
    let before = State::of(&path);
    script(&dir, text).is("f: 0x2..0x7 holds these bytes already; nothing was written\nexit 0");
    dir.run_fed("patch f --script - --strict", text.as_bytes()).is(
        "! error: f: 2 of 3 edits do not match; nothing was written\n\
         !   -: line 1: bytes at 0x2 are aa, expected 32\n\
         !   -: line 2: bytes at 0x4 are bb, expected 34\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x2..+16 -x'\n\
         exit 1",
    );
    dir.run("patch f --strict -e 6:36")
        .is("! error: f: the edits have been applied already; nothing was written\n\
         !   tip: without --strict this is success\n\
         exit 1");
    assert_eq!(State::of(&path), before);
    // One of two is done: the other one follows, but not under --strict.
    fs::write(&path, b"01\xaa3456789").unwrap();
    let before = State::of(&path);
    dir.run_fed("patch f --script - --strict", text.as_bytes()).code(1);
    assert_eq!(State::of(&path), before);
    script(&dir, text).is("f: 1 byte by 3 edits in 0x2..0x7 changed\nexit 0");
    assert_eq!(read(&path), b"01\xaa3\xbb56789");
}

#[test]
fn old_bytes_in_front_of_a_checksum_are_compared() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    let before = State::of(&path);
    script(&dir, "0: deadbeef -> crc32le:4..\n")
        .has("bytes at 0x0 are 30313233, expected deadbeef")
        .code(1);
    assert_eq!(State::of(&path), before);
    script(&dir, "0: 30313233 -> crc32le:4..\n").ends("changed\nexit 0");
    script(&dir, "0: 30313233 -> crc32le:4..\n").ends("nothing was written\nexit 0");
}

// ---- what is refused -------------------------------------------------------------------------------------------------

#[test]
fn a_line_that_is_not_understood_is_refused_with_its_number() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    for (line, words) in [
        ("nonsense", "'nonsense' has no ':' after its offset"),
        ("0x10 00 -> 01", "has no ':' after its offset"),
        ("0x10:", "the edit has no new bytes"),
        ("0x10: 00 ->", "the edit has no new bytes"),
        ("0x10: ->", "the edit has no new bytes"),
        (": 00", ""),
        ("020: 00", "020"),
        ("0x10K: 00", "0x10K"),
        ("1.5K: 00", "1.5K"),
        ("0x10: 0x1234", "is a number without a byte order"),
        ("0x10: 00 -> abc", "odd number of hex digits"),
        ("0x10: 74?? -> 9090", "wildcards"),
        ("0x10: 00 -> 01 -> 02", "'->'"),
        ("0x10: 00 01 -> 02", "2 bytes expected, but 1 byte will be written"),
        ("0x10: 00 -> text:\"ab", "is not closed"),
        ("0x40: 00 -> 01", "the file ends at 0x40"),
        ("0x3f: 0000 -> 0101", "the file ends at 0x40"),
        ("end: -> 01", "the file ends at 0x40"),
        ("end+1: -> 01", "past the end"),
        ("-65: -> 01", "before the start"),
        ("+0: -> 01", "no previous edit"),
        ("+end: -> 01", "end"),
        ("0xfffffffffffffffff: 00 -> 01", "0xfffffffffffffffff"),
        ("0xffffffffffffffff: 00 -> 01", ""),
        ("0x10: -> @missing", "missing"),
        ("0x10: -> crc32le:0..0x41", "the file ends at 0x40"),
    ] {
        // The first lines are fine, and must not be applied.
        refused_script(&dir, &format!("# a comment\n\n{line}\n"))
            .begins("! error: f: -: line 3: ")
            .has(words);
        let output = dir.mmapctl(&["patch", "f", "-e", line]);
        let text = output.is_refusal();
        assert!(text.starts_with("! error: f: --edit 1: "), "{line}: {text}");
        if line != "+0: -> 01" {
            refused_script(&dir, &format!("0: 00 -> 01\r\n{line}\r\n")).has("line 2");
        }
    }
    assert_eq!(dir.read("f"), [0; 64]);
}

#[test]
fn a_script_of_another_version_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    refused_script(&dir, "# mmapctl-patch 2\n0: 00 -> 01\n").is(
        "! error: f: -: line 1: scripts of version '2' are unknown\n\
         !   tip: this mmapctl reads '# mmapctl-patch 1'\n\
         exit 2",
    );
    refused_script(&dir, "\u{feff}# mmapctl-patch 10\r\n");
    refused_script(&dir, "# mmapctl-patch \n");
    // Later it is a comment like any other.
    script(&dir, "0: 00 -> 01\n# mmapctl-patch 2\n").code(0);
}

#[test]
fn edits_that_overlap_are_refused_wherever_they_come_from() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    refused_script(&dir, "0x10: -> 01020304\n0: -> 01\n0x12: -> 05060708\n").is(
        "! error: f: two edits write to 0x12..0x14: line 1 and line 3\n\
         !   tip: leave out one of them, or combine them\n\
         exit 2",
    );
    dir.refused_untouched("patch f -o 4 0102 -e 5:03")
        .has("0x5..0x6: the edit on the command line and --edit 1");
    dir.refused_untouched("patch f -e 5:03 -e 5:03");
    // Side by side is not over one another.
    edit(&dir, &["6: 01", "4: 0102", "7: 03"]).code(0);
}

#[test]
fn a_script_that_cannot_be_read_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    fs::create_dir(dir.join("folder")).unwrap();
    dir.refused_untouched("patch f --script missing").has("missing: ");
    dir.mmapctl(&["patch", "f", "--script", "folder"]).has("folder").code(2);
    dir.run("patch f --format xxd").code(2);
    dir.run("patch f --script s --format ihex").code(2);
    dir.refused_untouched_fed("patch f --script - 00", b"0: 01");
}

#[test]
fn stdin_is_given_to_one_reader_and_a_second_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    dir.file("s", b"0: -> @-\n");
    for line in [
        "patch f -o 0 @- @-",
        "patch f -o 0 --expect @- @-",
        "patch f -o 0 --expect @-",
        "patch f -o 0 --script -",
        "patch f -o 0 @- --script -",
        "patch f -e 0:@- --script -",
        "patch f -e 0:@- -e 8:@-",
        "patch f -o 8 @- --script s",
        "patch f -o 8 --script s",
        "patch f --find 0000 --nth 1 --script -",
    ] {
        dir.refused_untouched_fed(line, b"4: 00 -> 01\n").has("stdin is used twice");
    }
    // The script itself names it: that must be seen before anyone waits.
    refused_script(&dir, "0: -> @-\n").has("line 1: ").has("stdin is used twice");
    dir.run_fed("patch f --script s", b"from a pipe").is("f: 11 bytes of 0x0..0xb changed\nexit 0");
}

// ---- a dry run -------------------------------------------------------------------------------------------------------

#[test]
fn what_a_dry_run_prints_can_be_read_applied_and_reversed() {
    let dir = Sandbox::new();
    let original = noise(200);
    let path = dir.file("f", &original);
    let before = State::of(&path);
    let edits = [
        "4: text:hello",
        "end-4: crc32be:0..end-4",
        "100: fill:ff:40",
        "+0: u8:0x10/0x30,5/7",
    ];
    let mut args = vec!["patch", "f", "--dry-run"];
    args.extend(edits.iter().flat_map(|edit| ["-e", edit]));
    let output = dir.mmapctl(&args);
    output.code(0);
    assert_eq!(State::of(&path), before);
    assert!(output.stdout.starts_with(b"# mmapctl-patch 1\nsize 0xc8\n0x4: "), "{}", output);
    dir.file("s", &output.stdout);
    edit(&dir, &edits).code(0);
    let patched = read(&path);
    dir.run("patch f --script s --reverse").ends("changed\nexit 0");
    assert_eq!(read(&path), original);
    dir.run("patch f --script s").ends("changed\nexit 0");
    assert_eq!(read(&path), patched);
    // What changes nothing has no lines.
    dir.run("patch f --script s --dry-run").is("# mmapctl-patch 1\nsize 0xc8\nexit 0");
}

#[test]
fn the_report_lists_what_a_script_did() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    dir.file("s", b"size 64 -> 66\n2: 00 -> 01\n+2: 0000 -> 0203\n");
    let report = dir.report("patch f --script s --dry-run");
    assert_eq!(report["size"], 64);
    assert_eq!(report["size_after"], 66);
    assert_eq!(report["edits"][1]["offset"], 5);
    let report = dir.report("patch f --script s");
    assert_eq!(report["edits"], 2);
    assert_eq!(report["bytes_changed"], 3);
    assert_eq!(report["offsets"], serde_json::json!([2, 5]));
    assert_eq!(report["size"], 66);
}

#[test]
fn an_endless_script_is_read_up_to_its_first_mistake() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    let mut child = dir
        .command(&["patch", "f", "--script", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // Ends with EPIPE when nobody reads any more.
        while std::io::Write::write_all(&mut pipe, &b"nonsense\n".repeat(1000)).is_ok() {}
    });
    assert!(eventually(|| child.try_wait().unwrap().is_some()), "it reads on");
    writer.join().unwrap();
    child.outcome().has("line 1: ");
}
