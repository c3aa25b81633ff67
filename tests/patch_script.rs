//! `patch --script`, `-e` and `--dry-run`: edit scripts and xxd dumps, as their users see them.

use crate::support;
use crate::support::{State, check_refusal, file, has, mmapctl, noise, peer, refused, refused_without_touching};
use crate::support::{report, run, run_with, scratch, spawnable, told};
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// Patches `f` with each of `edits` behind an `-e`.
fn edit(dir: &Path, edits: &[&str]) -> String {
    let mut args = vec!["patch", "f"];
    args.extend(edits.iter().flat_map(|edit| ["-e", edit]));
    told(&mmapctl(dir, &args).output().unwrap())
}

/// Patches `f` with `script`, from stdin.
fn script(dir: &Path, script: &str) -> String {
    run_with(dir, "patch f --script -", script.as_bytes())
}

/// The same, refused with exit code 2 and the file untouched.
fn refused_script(dir: &Path, script: &str) -> String {
    refused_without_touching(dir, "patch f --script -", script.as_bytes())
}

// ---- what a script says --------------------------------------------------------------------------------------------

#[test]
fn the_script_of_the_design_is_applied_as_it_stands() {
    let dir = scratch();
    let mut expected = noise(0x100);
    expected[0x40..0x42].copy_from_slice(&[0x74, 0x05]);
    file(dir.path(), "f", &expected);
    file(
        dir.path(),
        "s",
        b"# mmapctl-patch 1\n\
          size 0x100                    # optional guard\n\
          0x40: 7405 -> 9090            # compare, then write\n\
          end-4: -> crc32le:0..end-4    # unconditional\n\
          0x80: -> 00\n\
          +0: text:\"v1.2 # ok\"          # right after the previous edit\n",
    );
    assert_eq!(
        run(dir.path(), "patch f --script s"),
        "f: 16 bytes by 4 edits in 0x40..0x100 changed\nexit 0"
    );
    expected[0x40..0x42].copy_from_slice(&[0x90, 0x90]);
    expected[0x80..0x8a].copy_from_slice(b"\0v1.2 # ok");
    let crc = crc32fast::hash(&expected[..0xfc]);
    expected[0xfc..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), expected);
}

#[test]
fn every_way_to_write_a_line_says_the_same() {
    let dir = scratch();
    let path = dir.path().join("f");
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
        fs::write(dir.path().join("payload"), "ab#c").unwrap();
        fs::write(dir.path().join("pay load"), "ab#c").unwrap();
        let told = script(dir.path(), line);
        // A comment begins a word; within one, its mark is text.
        let expected: &[u8] = if line.contains("#no") { b"ab#c#no" } else { b"ab#c" };
        assert!(told.ends_with("\nexit 0"), "{line}: {told}");
        let bytes = fs::read(&path).unwrap();
        assert_eq!(&bytes[16..16 + expected.len()], expected, "{line}");
        assert_eq!(
            bytes.iter().filter(|byte| **byte != 0).count(),
            expected.len(),
            "{line}"
        );
    }
}

#[test]
fn edits_of_the_command_line_are_lines_of_a_script() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 32]);
    assert_eq!(
        edit(
            dir.path(),
            &["4: 0000 -> 6162", "+0: text:\"c d\"", "end-1: -> ff # why"]
        ),
        "f: 6 bytes by 3 edits in 0x4..0x20 changed\nexit 0"
    );
    assert_eq!(&fs::read(&path).unwrap()[4..9], b"abc d");
    // They may begin with a minus, and go together with values and a script.
    file(dir.path(), "s", b"0: -> 01\n");
    assert_eq!(
        run(dir.path(), "patch f -o 1 02 -e -4:03 --edit=+0:04 --script s"),
        "f: 4 bytes by 4 edits in 0x0..0x1e changed\nexit 0"
    );
    let bytes = fs::read(path).unwrap();
    assert_eq!((bytes[0], bytes[1], bytes[28], bytes[29]), (1, 2, 3, 4));
}

#[test]
fn edits_are_stored_in_any_order_and_with_any_neighbours() {
    let dir = scratch();
    let mut expected = noise(70_000);
    let path = file(dir.path(), "f", &expected);
    let mut lines: Vec<String> = Vec::new();
    for (index, byte) in expected.iter_mut().enumerate() {
        if index % 7 < 3 {
            let new = byte.wrapping_add(1 + index as u8 % 3);
            lines.push(format!("{index:#x}: {byte:02x} -> {new:02x}\n"));
            *byte = new;
        }
    }
    lines.sort_by_key(|line| line.len() * 31 % 7 + line.as_bytes()[4] as usize);
    assert_eq!(
        script(dir.path(), &lines.concat()),
        "f: 30000 bytes by 30000 edits in 0x0..0x1116c changed\nexit 0"
    );
    assert!(fs::read(path).unwrap() == expected);
}

#[test]
fn an_empty_script_is_no_edit() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 32]);
    let before = State::of(&path);
    for text in [
        "",
        "\n",
        "# mmapctl-patch 1\n",
        "size 32",
        "# mmapctl-patch 1\nsize 0x20\n",
    ] {
        assert_eq!(
            script(dir.path(), text),
            "f: no edits; nothing was written\nexit 0",
            "{text}"
        );
    }
    assert_eq!(State::of(&path), before);
}

// ---- the size -------------------------------------------------------------------------------------------------------

#[test]
fn a_script_for_a_file_of_another_size_is_refused() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 32]);
    let before = State::of(&path);
    assert_eq!(
        script(dir.path(), "# mmapctl-patch 1\nsize 0x21\n0: 00 -> 01\n"),
        "! error: f: -: line 2: it has 0x20 bytes, and line 2 expects 0x21; nothing was written\n\
         !   tip: the script was made for another file, or another version of it\n\
         exit 1"
    );
    assert!(script(dir.path(), "size 31 -> 33\n").ends_with("exit 1"));
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
        let text = refused_script(dir.path(), line);
        assert!(text.contains("line 1"), "{text}");
    }
}

#[test]
fn a_size_with_an_arrow_grows_and_shrinks_the_file_with_its_edits() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    let grown = "size 10 -> 16\n8: 3839 -> 6162\n+0: 00000000 -> 63646566\n";
    assert!(script(dir.path(), grown).ends_with("changed\n  length      0xa before, 0x10 now\nexit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"01234567abcdef\0\0");
    // A second run finds all of it done.
    let before = State::of(&path);
    assert_eq!(
        script(dir.path(), grown),
        "f: 0x8..0xe holds these bytes already; nothing was written\nexit 0"
    );
    assert_eq!(State::of(&path), before);
    assert!(script(dir.path(), "size 16 -> 4\n1: 31 -> ff\n").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"0\xff23");
    assert!(script(dir.path(), "size 4 -> 0\n").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert!(script(dir.path(), "size 0 -> 3\n0: -> 616263\n").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"abc");
}

#[test]
fn a_size_that_changes_the_length_behind_an_edit_is_refused_and_a_guard_is_not() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    for text in [
        "0: 30 -> 58\nsize 10 -> 12\n10: 0000 -> 6161\n",
        "0: 30 -> 58\nsize 10 -> 8\n",
        "0: text:0 -> 58\n# why\nsize 10 -> 12\n",
    ] {
        let told = refused_script(dir.path(), text);
        assert!(
            told.contains("the length is changed behind the edit of line 1"),
            "{told}"
        );
    }
    assert!(script(dir.path(), "0: 30 -> 58\nsize 10\n").ends_with("exit 0"));
    // With an edit of the command line it goes.
    file(dir.path(), "s", b"size 10 -> 12\n10: 0000 -> 6161\n");
    let output = mmapctl(dir.path(), &["patch", "f", "-e", "1: 31 -> 59", "--script", "s"]).output();
    assert_eq!(output.unwrap().status.code(), Some(0));
    assert_eq!(fs::read(&path).unwrap(), b"XY23456789aa");
}

#[test]
fn edits_past_the_new_end_are_refused() {
    let dir = scratch();
    file(dir.path(), "f", b"0123456789");
    refused_script(dir.path(), "size 10 -> 8\n8: -> 00\n");
    refused_script(dir.path(), "size 10 -> 8\n7: -> 0000\n");
    refused_script(dir.path(), "size 10 -> 12\n13: -> 00\n");
    refused_script(dir.path(), "10: -> 00\nsize 10 -> 12\n");
    refused_script(dir.path(), "size 10 -> 0xffffffffffffffff\n");
    refused_script(dir.path(), "size 10 -> 0x7fffffffffffffff\n");
}

// ---- what is compared ------------------------------------------------------------------------------------------------

#[test]
fn so_many_edits_that_two_threads_work_on_them_are_held_against_the_file_one_by_one() {
    let dir = scratch();
    let path = dir.path().join("f");
    let (old, new) = (noise(120_000 * 16), noise(120_000 * 16 + 8)[8..].to_vec());
    let (mut text, mut patched) = (String::new(), old.clone());
    for at in (0..old.len()).step_by(16) {
        let (old, new) = (&old[at..at + 4], &new[at..at + 4]);
        text += &format!("{at:#x}: {} -> {}\n", const_hex::encode(old), const_hex::encode(new));
        patched[at..at + 4].copy_from_slice(new);
    }
    file(dir.path(), "s", text.as_bytes());
    let changed = old.iter().zip(&patched).filter(|(old, new)| old != new).count();
    // From the old bytes, from the new ones, and with half of them in.
    for half in [0, old.len() / 2] {
        fs::write(&path, [&patched[..half], &old[half..]].concat()).unwrap();
        let told = run(dir.path(), "patch f --script s");
        assert!(
            half > 0 || told.starts_with(&format!("f: {changed} bytes by 120000 edits in 0x0..")),
            "{told}"
        );
        assert!(told.ends_with(" changed\nexit 0"), "{told}");
        assert!(fs::read(&path).unwrap() == patched);
    }
    assert!(run(dir.path(), "patch f --script s").ends_with(" holds these bytes already; nothing was written\nexit 0"));
    assert!(run(dir.path(), "patch f --script s --reverse").ends_with(" changed\nexit 0"));
    assert!(fs::read(&path).unwrap() == old);
    let mut other = old.clone();
    let wrong = [16, 70_000 * 16 + 3, 119_999 * 16];
    for at in wrong {
        other[at] = !(old[at] ^ new[at]);
        assert!(other[at] != old[at] && other[at] != new[at]);
    }
    fs::write(&path, &other).unwrap();
    let told = run(dir.path(), "patch f --script s");
    assert!(
        told.starts_with("! error: f: 3 of 120000 edits do not match; nothing was written\n"),
        "{told}"
    );
    for at in wrong {
        let line = format!("s: line {}: bytes at {at:#x} are {:02x}", at / 16 + 1, other[at]);
        assert!(told.contains(&line), "{line}: {told}");
    }
    assert!(told.ends_with("exit 1"), "{told}");
    assert!(fs::read(&path).unwrap() == other);
}

#[test]
fn all_mismatches_are_told_at_once_with_their_lines_and_nothing_is_written() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789abcdef");
    let before = State::of(&path);
    assert_eq!(
        script(
            dir.path(),
            "# mmapctl-patch 1\n8: 3838 -> ffff\n\n0: 30 -> ee\n2: 3233 -> dddd\n4: 00000000 -> aaaaaaaa\n"
        ),
        "! error: f: 2 of 4 edits do not match; nothing was written\n\
         !   -: line 6: bytes at 0x4 are 34353637, expected 00000000\n\
         !   -: line 2: bytes at 0x9 are 39, expected 38\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x4..+16 -x'\n\
         exit 1"
    );
    file(dir.path(), "s", b"1: 00 -> 01\n3: 00 -> 01");
    assert_eq!(
        run(dir.path(), "patch f -e 0:00 -e 2:ff->00 --script s"),
        "! error: f: --edit 2: 'ff->00' has no blanks around its '->'\n\
         !   tip: write OFFSET: OLD -> NEW, with a blank on either side of the arrow\n\
         exit 2"
    );
    let output = mmapctl(dir.path(), &["patch", "f", "-e", "2: ff -> 00", "--script", "s"]).output();
    assert_eq!(
        told(&output.unwrap()),
        "! error: f: 3 of 3 edits do not match; nothing was written\n\
         !   s: line 1: bytes at 0x1 are 31, expected 00\n\
         !   --edit 1: bytes at 0x2 are 32, expected ff\n\
         !   s: line 2: bytes at 0x3 are 33, expected 00\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x1..+16 -x'\n\
         exit 1"
    );
    assert_eq!(
        script(dir.path(), "0: 30 -> ee\n1: ff -> 00\n"),
        "! error: f: bytes at 0x1 are 31, expected ff (1 of 2 edits: line 2); nothing was written\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x1..+16 -x'\n\
         exit 1"
    );
    assert_eq!(State::of(&path), before);
}

#[test]
fn what_is_applied_already_is_success_unless_strict() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    let text = "2: 32 -> aa\n4: 34 -> bb\n6: -> 36\n";
    assert_eq!(
        script(dir.path(), text),
        "f: 2 bytes by 3 edits in 0x2..0x7 changed\nexit 0"
    );
    let before = State::of(&path);
    assert_eq!(
        script(dir.path(), text),
        "f: 0x2..0x7 holds these bytes already; nothing was written\nexit 0"
    );
    assert_eq!(
        run_with(dir.path(), "patch f --script - --strict", text.as_bytes()),
        "! error: f: 2 of 3 edits do not match; nothing was written\n\
         !   -: line 1: bytes at 0x2 are aa, expected 32\n\
         !   -: line 2: bytes at 0x4 are bb, expected 34\n\
         !   tip: see what is there with 'mmapctl cat f --range 0x2..+16 -x'\n\
         exit 1"
    );
    assert_eq!(
        run(dir.path(), "patch f --strict -e 6:36"),
        "! error: f: the edits have been applied already; nothing was written\n\
         !   tip: without --strict this is success\n\
         exit 1"
    );
    assert_eq!(State::of(&path), before);
    // One of two is done: the other one follows, but not under --strict.
    fs::write(&path, b"01\xaa3456789").unwrap();
    let before = State::of(&path);
    assert!(run_with(dir.path(), "patch f --script - --strict", text.as_bytes()).ends_with("exit 1"));
    assert_eq!(State::of(&path), before);
    assert_eq!(
        script(dir.path(), text),
        "f: 1 byte by 3 edits in 0x2..0x7 changed\nexit 0"
    );
    assert_eq!(fs::read(&path).unwrap(), b"01\xaa3\xbb56789");
}

#[test]
fn old_bytes_in_front_of_a_checksum_are_compared() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    let before = State::of(&path);
    let told = script(dir.path(), "0: deadbeef -> crc32le:4..\n");
    assert!(told.contains("bytes at 0x0 are 30313233, expected deadbeef"), "{told}");
    assert!(told.ends_with("exit 1"), "{told}");
    assert_eq!(State::of(&path), before);
    assert!(script(dir.path(), "0: 30313233 -> crc32le:4..\n").ends_with("changed\nexit 0"));
    assert!(script(dir.path(), "0: 30313233 -> crc32le:4..\n").ends_with("nothing was written\nexit 0"));
}

// ---- what is refused -------------------------------------------------------------------------------------------------

#[test]
fn a_line_that_is_not_understood_is_refused_with_its_number() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    for (line, words) in [
        ("nonsense", "'nonsense' has no ':' behind its offset"),
        ("0x10 00 -> 01", "has no ':' behind its offset"),
        ("0x10:", "the edit has no new bytes"),
        ("0x10: 00 ->", "the edit has no new bytes"),
        ("0x10: ->", "the edit has no new bytes"),
        (": 00", ""),
        ("020: 00", "020"),
        ("0x10K: 00", "0x10K"),
        ("1.5K: 00", "1.5K"),
        ("0x10: 0x1234", "its byte order is not said"),
        ("0x10: 00 -> abc", "odd number of hex digits"),
        ("0x10: 74?? -> 9090", "wildcards"),
        ("0x10: 00 -> 01 -> 02", "'->'"),
        ("0x10: 00 01 -> 02", "2 bytes expected, where 1 byte will be written"),
        ("0x10: 00 -> text:\"ab", "is not closed"),
        ("0x40: 00 -> 01", "the file ends at 0x40"),
        ("0x3f: 0000 -> 0101", "the file ends at 0x40"),
        ("end: -> 01", "the file ends at 0x40"),
        ("end+1: -> 01", "past the end"),
        ("-65: -> 01", "before the start"),
        ("+0: -> 01", "no edit before"),
        ("+end: -> 01", "end"),
        ("0xfffffffffffffffff: 00 -> 01", "0xfffffffffffffffff"),
        ("0xffffffffffffffff: 00 -> 01", ""),
        ("0x10: -> @missing", "missing"),
        ("0x10: -> crc32le:0..0x41", "the file ends at 0x40"),
    ] {
        // The first lines are fine, and must not be applied.
        let text = refused_script(dir.path(), &format!("# a comment\n\n{line}\n"));
        assert!(text.starts_with("! error: f: -: line 3: "), "{line}: {text}");
        assert!(text.contains(words), "{line}: {text}");
        let output = mmapctl(dir.path(), &["patch", "f", "-e", line]).output().unwrap();
        let text = check_refusal(line, &output);
        assert!(text.starts_with("! error: f: --edit 1: "), "{line}: {text}");
        if line != "+0: -> 01" {
            assert!(refused_script(dir.path(), &format!("0: 00 -> 01\r\n{line}\r\n")).contains("line 2"));
        }
    }
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), [0; 64]);
}

#[test]
fn a_script_of_another_version_is_refused() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    assert_eq!(
        refused_script(dir.path(), "# mmapctl-patch 2\n0: 00 -> 01\n"),
        "! error: f: -: line 1: scripts of version '2' are unknown\n\
         !   tip: this mmapctl reads '# mmapctl-patch 1'\n\
         exit 2"
    );
    refused_script(dir.path(), "\u{feff}# mmapctl-patch 10\r\n");
    refused_script(dir.path(), "# mmapctl-patch \n");
    // Later it is a comment like any other.
    assert!(script(dir.path(), "0: 00 -> 01\n# mmapctl-patch 2\n").ends_with("exit 0"));
}

#[test]
fn edits_that_overlap_are_refused_wherever_they_come_from() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    assert_eq!(
        refused_script(dir.path(), "0x10: -> 01020304\n0: -> 01\n0x12: -> 05060708\n"),
        "! error: f: two edits write to 0x12..0x14: line 1 and line 3\n\
         !   tip: leave one of them out, or make them one\n\
         exit 2"
    );
    let text = refused_without_touching(dir.path(), "patch f -o 4 0102 -e 5:03", b"");
    assert!(
        text.contains("0x5..0x6: the edit of the command line and --edit 1"),
        "{text}"
    );
    refused_without_touching(dir.path(), "patch f -e 5:03 -e 5:03", b"");
    // Side by side is not over one another.
    assert!(edit(dir.path(), &["6: 01", "4: 0102", "7: 03"]).ends_with("exit 0"));
}

#[test]
fn a_script_that_cannot_be_read_is_refused() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    fs::create_dir(dir.path().join("folder")).unwrap();
    let text = refused_without_touching(dir.path(), "patch f --script missing", b"");
    assert!(text.contains("missing: "), "{text}");
    let output = mmapctl(dir.path(), &["patch", "f", "--script", "folder"])
        .output()
        .unwrap();
    assert!(told(&output).contains("folder"), "{}", told(&output));
    assert_eq!(output.status.code(), Some(2));
    assert!(run(dir.path(), "patch f --format xxd").ends_with("exit 2"));
    assert!(run(dir.path(), "patch f --script s --format ihex").ends_with("exit 2"));
    refused_without_touching(dir.path(), "patch f --script - 00", b"0: 01");
}

#[test]
fn stdin_is_given_to_one_reader_and_a_second_is_refused() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    file(dir.path(), "s", b"0: -> @-\n");
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
        let text = refused_without_touching(dir.path(), line, b"4: 00 -> 01\n");
        assert!(text.contains("stdin is asked for twice"), "{line}: {text}");
    }
    // The script itself names it: that must be seen before anyone waits.
    let text = refused_script(dir.path(), "0: -> @-\n");
    assert!(
        text.contains("line 1: ") && text.contains("stdin is asked for twice"),
        "{text}"
    );
    assert_eq!(
        run_with(dir.path(), "patch f --script s", b"from a pipe"),
        "f: 11 bytes of 0x0..0xb changed\nexit 0"
    );
}

// ---- a dry run -------------------------------------------------------------------------------------------------------

#[test]
fn what_a_dry_run_prints_can_be_read_applied_and_reversed() {
    let dir = scratch();
    let original = noise(200);
    let path = file(dir.path(), "f", &original);
    let before = State::of(&path);
    let edits = [
        "4: text:hello",
        "end-4: crc32be:0..end-4",
        "100: fill:ff:40",
        "+0: u8:0x10/0x30,5/7",
    ];
    let mut args = vec!["patch", "f", "--dry-run"];
    args.extend(edits.iter().flat_map(|edit| ["-e", edit]));
    let output = mmapctl(dir.path(), &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(State::of(&path), before);
    assert!(
        output.stdout.starts_with(b"# mmapctl-patch 1\nsize 0xc8\n0x4: "),
        "{}",
        told(&output)
    );
    file(dir.path(), "s", &output.stdout);
    assert!(edit(dir.path(), &edits).ends_with("exit 0"));
    let patched = fs::read(&path).unwrap();
    assert!(run(dir.path(), "patch f --script s --reverse").ends_with("changed\nexit 0"));
    assert_eq!(fs::read(&path).unwrap(), original);
    assert!(run(dir.path(), "patch f --script s").ends_with("changed\nexit 0"));
    assert_eq!(fs::read(&path).unwrap(), patched);
    // What changes nothing has no lines.
    assert_eq!(
        run(dir.path(), "patch f --script s --dry-run"),
        "# mmapctl-patch 1\nsize 0xc8\nexit 0"
    );
}

#[test]
fn the_report_lists_what_a_script_did() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    file(dir.path(), "s", b"size 64 -> 66\n2: 00 -> 01\n+2: 0000 -> 0203\n");
    let told = report(dir.path(), "patch f --script s --dry-run");
    assert_eq!((&told["size"], &told["size_after"]), (&64.into(), &66.into()));
    assert_eq!(told["edits"][1]["offset"], 5);
    let told = report(dir.path(), "patch f --script s");
    assert_eq!((&told["edits"], &told["bytes_changed"]), (&2.into(), &3.into()));
    assert_eq!(told["offsets"], serde_json::json!([2, 5]));
    assert_eq!(told["size"], 66);
}

// ---- xxd ------------------------------------------------------------------------------------------------------------

#[test]
fn a_dump_of_xxd_is_read_as_xxd_reads_it() {
    if !has("a_dump_of_xxd_is_read_as_xxd_reads_it", "xxd") {
        return;
    }
    let dir = scratch();
    let wanted = noise(1000);
    file(dir.path(), "g", &wanted);
    for options in [
        &[][..],
        &["-c", "7"],
        &["-g", "1"],
        &["-g", "0"],
        &["-u"],
        &["-s", "3", "-l", "500"],
    ] {
        let path = file(dir.path(), "f", &[0xaa; 1000]);
        let dump = peer(dir.path(), "xxd", &[options, &["g"][..]].concat());
        file(dir.path(), "dump", &dump);
        let told = run(dir.path(), "patch f --script dump --format xxd");
        assert!(told.ends_with("changed\nexit 0"), "{options:?}: {told}");
        let mut expected = vec![0xaa; 1000];
        match options {
            ["-s", ..] => expected[3..503].copy_from_slice(&wanted[3..503]),
            _ => expected.copy_from_slice(&wanted),
        }
        assert!(fs::read(path).unwrap() == expected, "{options:?}");
    }
}

#[test]
fn our_own_dump_is_read_back() {
    let dir = scratch();
    let wanted = noise(333);
    file(dir.path(), "g", &wanted);
    let path = file(dir.path(), "f", &[0; 333]);
    let dump = mmapctl(dir.path(), &["cat", "g", "-f", "xxd"]).output().unwrap().stdout;
    let crlf = String::from_utf8(dump).unwrap().replace('\n', "\r\n");
    let told = run_with(dir.path(), "patch f --script - --format xxd", crlf.as_bytes());
    assert!(told.ends_with("changed\nexit 0"), "{told}");
    assert_eq!(fs::read(path).unwrap(), wanted);
}

#[test]
fn a_bad_line_of_a_dump_is_an_error_with_its_number() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    let dump = |line: &str, input: &str| refused_without_touching(dir.path(), line, input.as_bytes());
    assert_eq!(
        dump(
            "patch f --script - --format xxd",
            "00000000: 0102  ..\n\n00000010: 01 2\n"
        ),
        "! error: f: -: line 3: '00000010: 01 2' is not a line of an xxd dump\n\
         !   tip: a line is OFFSET: HEX, as xxd and cat -f xxd print it; two spaces end the hex\n\
         exit 2"
    );
    for line in [
        "*",
        "00000000 0102",
        "00000000:0102",
        "00000000: 0g02  ..",
        "00000000:   ..",
        "0x10: 0102",
        "# a comment",
        "00000040: 01  .",
        "0000003f: 0102  ..",
        "ffffffffffffffff: 01  .",
        "00000000000000010: 01  .",
        "0: \u{fffd}",
    ] {
        let text = dump(
            "patch f --script - --format xxd",
            &format!("00000000: 0102  ..\n{line}\n00000020: 03  .\n"),
        );
        assert!(text.contains("line 2: "), "{line}: {text}");
    }
    dump("patch f --script - --format xxd", "00: 0102\n01: 03\n");
    dump("patch f --script - --format xxd --reverse", "00: 0102\n");
    // A dump of the whole, for a file that is shorter.
    refused(dir.path(), "patch f --script - --format xxd", b"00000100: 01\n");
}

#[test]
fn a_script_that_never_ends_is_read_no_further_than_its_first_mistake() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    let mut child = spawnable(dir.path(), &["patch", "f", "--script", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // Ends with EPIPE as soon as nobody reads on.
        while std::io::Write::write_all(&mut pipe, &b"nonsense\n".repeat(1000)).is_ok() {}
    });
    assert!(
        support::eventually(|| child.try_wait().unwrap().is_some()),
        "it reads on"
    );
    writer.join().unwrap();
    assert!(told(&child.wait_with_output().unwrap()).contains("line 1: "));
}
