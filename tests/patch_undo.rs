//! `patch --undo`, `--reverse`, `--diff` and `--grow`: patches and their reversal.

use crate::support::*;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

/// Applies a script to `f`, then its undo script, then the undo script of that: the second step restores the original,
/// the third the patched file.
fn there_and_back(dir: &Sandbox, original: &[u8], script: &str) -> Vec<u8> {
    let path = dir.file("f", original);
    for name in ["u", "uu", "uuu"] {
        let _ = fs::remove_file(dir.join(name));
    }
    dir.run_fed("patch f --script - --undo u", script.as_bytes())
        .lacks("nothing was written")
        .ends("\nexit 0");
    let patched = read(&path);
    dir.run("patch f --script u --undo uu").lacks("nothing was written").ends("\nexit 0");
    assert_eq!(read(&path), original, "undo of {script}");
    dir.run("patch f --script uu --undo uuu").lacks("nothing was written").ends("\nexit 0");
    assert_eq!(read(&path), patched, "undo of the undo of {script}");
    // A script that shortens the file does not have the bytes that it cuts; all others are reproduced.
    assert_eq!(dir.read("u"), dir.read("uuu"), "undo of undo of undo of {script}");
    patched
}

// ---- undo ------------------------------------------------------------------------------------------------------------

#[test]
fn the_undo_script_says_what_stood_there() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789");
    dir.run("patch f -o 2 616263 --undo u").is("f: 3 bytes of 0x2..0x5 changed\nexit 0");
    assert_eq!(fs::read_to_string(dir.join("u")).unwrap(), "# mmapctl-patch 1\nsize 0xa\n0x2: 616263 -> 323334\n");
    assert_eq!(dir.report("patch f -o 8 00 --undo v")["undo"], "v");
}

#[test]
fn an_undo_script_is_readable_for_no_more_people_than_the_file() {
    let dir = Sandbox::new();
    for (of_file, umask, of_script) in [
        (0o600, "002", 0o600),
        (0o640, "002", 0o640),
        (0o755, "002", 0o644),
        (0o666, "077", 0o600),
    ] {
        let path = dir.file("f", b"secret");
        set_mode(&path, of_file);
        let line = format!("umask {umask} && exec \"$0\" patch f -o 0 00 --undo u -q");
        let mut command = std::process::Command::new("sh");
        let command = command.current_dir(&dir).args(["-c", &line, BINARY]);
        assert!(command.status().unwrap().success());
        let mode = fs::metadata(dir.join("u")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, of_script, "{of_file:o}, umask {umask}");
        fs::remove_file(dir.join("u")).unwrap();
    }
}

#[test]
fn undo_of_undo_is_the_original_for_every_kind_of_edit() {
    let dir = Sandbox::new();
    let original = noise(10_000);
    for script in [
        "0: -> 00\n",
        "100: -> fill:5a:5000\nend-1: -> 5a\n",
        "7: u8:0x3/0xf,0x40/0xc0\n12: u32be:0xa5000000/0xff000000\n",
        "end-4: crc32le:0..end-4\n16: text:hello\n",
        "0: crc32be:4..\n4: crc32le:8..\n8: zero:100\n",
        "size 10000 -> 10003\n9998: -> 0102030405\n",
        "size 10000 -> 20000\n",
        "size 10000 -> 12345\n10000: -> fill:ee:2345\n5: -> crc32le:9..100\n",
        "size 10000 -> 1\n",
        "size 10000 -> 0\n",
        "size 10000 -> 4097\n4096: -> u8:1/1\n0: -> text:head\n",
    ] {
        there_and_back(&dir, &original, script);
    }
    there_and_back(&dir, &original, &String::from("0: -> ffffff\n3: 00\n+0: -> text:\"a b\"\n"));
    // Zeros that were cut off come back with the size alone.
    let mut sparse = vec![0; 9000];
    sparse[0] = 1;
    sparse[8000] = 7;
    there_and_back(&dir, &sparse, "size 9000 -> 10\n");
    there_and_back(&dir, &sparse, "size 9000 -> 8500\n");
    assert_eq!(there_and_back(&dir, b"", "size 0 -> 4\n1: -> 61\n"), b"\0a\0\0");
}

#[test]
fn undo_of_more_than_stays_in_memory_is_right_to_the_byte() {
    let dir = Sandbox::new();
    let original = noise(3 << 20);
    // In no order: the new bytes are put into order where they lie.
    let script = "0x200001: -> fill:ff:0xfff00\n1: -> fill:00:0x1fff00\nend-4: -> crc32le:0..end-4\n0: -> 11\n";
    let patched = there_and_back(&dir, &original, script);
    assert_eq!((patched[0], patched[1], patched[0x20_0001]), (0x11, 0, 0xff));
}

#[test]
fn unchanged_bytes_have_no_undo_line_and_undo_may_be_empty() {
    let dir = Sandbox::new();
    let path = dir.file("f", [7; 100]);
    let before = State::of(&path);
    dir.run("patch f -o 0 fill:07:100 --undo u").ends("nothing was written\nexit 0");
    assert_eq!(State::of(&path), before);
    assert_eq!(fs::read_to_string(dir.join("u")).unwrap(), "# mmapctl-patch 1\nsize 0x64\n");
    dir.run("patch f --script u").code(0);
}

#[test]
fn undo_never_writes_over_what_is_there() {
    let dir = Sandbox::new();
    let path = dir.file("u", b"mine");
    dir.file("f", [0; 8]);
    fs::create_dir(dir.join("folder")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("u", dir.join("link")).unwrap();
    dir.refused_untouched("patch f -o 0 01 --undo u").is(
        "! error: f: nothing was written: cannot make the undo script 'u': File exists (EEXIST)\n\
         !   tip: --undo needs the path of a file that does not exist yet\n\
         exit 2",
    );
    for name in ["f", "link", "dangling", "folder", "missing/u", "/dev/null", "."] {
        dir.refused_untouched(&format!("patch f -o 0 01 --undo {name}"));
    }
    assert_eq!(read(path), b"mine");
    assert!(!dir.join("nowhere").exists());
}

#[test]
fn a_patch_that_fails_leaves_no_undo_script() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    for (line, code) in [
        ("patch f -o 0 --expect 11 22 --undo u", 1),
        ("patch f --find 11 22 --undo u", 1),
        ("patch f -o 0 00 --strict --undo u", 1),
        ("patch f -o 64 22 --undo u", 2),
        ("patch f -e nonsense --undo u", 2),
        ("patch f -e 0:11 -e 0:22 --undo u", 2),
        ("patch f -e 0:crc32le:0.. --undo u", 2),
        ("patch missing -o 0 22 --undo u", 2),
        ("patch f -o 0 22 --dry-run --undo u", 2),
        ("patch f --diff f --undo u", 2),
    ] {
        let before = dir.state("f");
        dir.run(line).code(code);
        assert!(!dir.join("u").exists(), "{line}: it left an undo script");
        assert_eq!(dir.state("f"), before, "{line}");
    }
    // One that fails when it is about to store: there is no such length.
    let text = dir.run_fed("patch f --script - --undo u", b"size 64 -> 0x7fffffffffffffff\n");
    text.code(2);
    assert!(!dir.join("u").exists(), "{text}");
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 64);
}

#[test]
fn an_incomplete_undo_script_is_removed() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(1 << 20));
    let before = State::of(&path);
    // The shell's limit is in units of 512 or 1024 bytes; a file of that size is enough for the payload, which goes
    // through a memfd, and for half the script.
    let line = "patch f -o 0 fill:00:256K --undo u";
    let mut command = dir.limited("-f 600", &words(line));
    command.outcome().code(2).has("nothing was written: cannot make the undo script 'u'");
    assert!(!dir.join("u").exists());
    assert_eq!(State::of(&path), before);
}

#[test]
fn the_undo_script_is_durable_before_the_first_store() {
    needs!(has("strace"));
    let dir = Sandbox::new();
    dir.file("f", [0; 8192]);
    let output = dir
        .program("strace", &["-f", "-y", "-o", "trace", "-e", "trace=fsync,fdatasync,preadv,preadv2"])
        .arg(BINARY)
        .args(["patch", "f", "-o", "0", "aabb", "--undo", "u"])
        .outcome();
    let Ok(trace) = fs::read_to_string(dir.join("trace")) else {
        return skip("strace cannot trace here");
    };
    if output.status.code() != Some(0) {
        return skip(&format!("strace: {}", output));
    }
    let folder = fs::canonicalize(&dir).unwrap();
    let place = |call: &str| trace.lines().position(|line| line.contains(call));
    // The script, which has a temporary name until then.
    let file = place(&format!("<{}/#", folder.display())).or(place(&format!("<{}/.mmapctl-", folder.display())));
    let name = place(&format!("<{}>)", folder.display()));
    let store = place("preadv");
    assert!(file.is_some() && name.is_some() && store.is_some(), "{trace}");
    assert!(file < name && name < store, "{trace}");
}

#[test]
fn an_undo_in_a_read_only_folder_is_refused_before_any_write() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8]);
    set_mode(&path, 0o666);
    fs::create_dir(dir.join("closed")).unwrap();
    set_mode(dir.join("closed"), 0o555);
    set_mode(&dir, 0o755);
    let before = State::of(&path);
    let command = dir.command(&["patch", "f", "-o", "0", "01", "--undo", "closed/u"]);
    needs!(let mut command = as_ordinary_user(command));
    command.outcome().has("cannot make the undo script 'closed/u': Permission denied").code(2);
    assert_eq!(State::of(&path), before);
}

// ---- reverse ---------------------------------------------------------------------------------------------------------

#[test]
fn a_script_with_old_bytes_goes_both_ways() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    let script = b"size 10\n2: 3233 -> 6162\n8: text:8 -> text:x\n+0: u8:0x39 -> u8:0x40\n";
    dir.file("s", script);
    dir.run("patch f --script s").code(0);
    assert_eq!(read(&path), b"01ab4567x@");
    dir.run("patch f --script s --reverse --dry-run")
        .is("# mmapctl-patch 1\nsize 0xa\n0x2: 6162 -> 3233\n0x8: 78 -> 38\n0x9: 40 -> 39\nexit 0");
    dir.run("patch f --script s --reverse").is("f: 4 bytes by 3 edits in 0x2..0xa changed\nexit 0");
    assert_eq!(read(&path), b"0123456789");
    let before = State::of(&path);
    dir.run("patch f --script s --reverse").ends("nothing was written\nexit 0");
    dir.run("patch f --script s --reverse --strict").code(1);
    assert_eq!(State::of(&path), before);
    fs::write(&path, b"01zz456789").unwrap();
    dir.run("patch f --script s --reverse").has("bytes at 0x2 are 7a7a, expected 6162");
    dir.mmapctl(&["patch", "f", "--reverse", "-e", "2: 00 -> 7a"]).code(0);
    assert_eq!(read(&path), b"01\0z456789");
}

#[test]
fn what_has_no_old_bytes_cannot_be_reversed() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    dir.refused_untouched_fed("patch f --script - --reverse", b"0: 00 -> 01\n4: -> 02\n").is(
        "! error: f: -: line 2: an edit without old bytes cannot be reversed\n\
         !   tip: only OFFSET: OLD -> NEW can; apply the script that --undo wrote instead\n\
         exit 2",
    );
    for line in [
        "patch f -o 0 01 --reverse",
        "patch f -o 0 --expect 00 01 --reverse",
        "patch f --find 00 --nth 1 01 --reverse",
        "patch f --reverse",
        "patch f --reverse -e 0:01",
    ] {
        dir.refused_untouched(line);
    }
    dir.refused_untouched_fed("patch f --script - --reverse", b"0: 00000000 -> crc32le:4..\n");
}

#[test]
fn a_resizing_script_is_reversible_or_says_why_not() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    let script = b"size 10 -> 12\n9: 390000 -> 616263\n";
    dir.run_fed("patch f --script -", script).code(0);
    dir.run_fed("patch f --script - --reverse", script).code(0);
    assert_eq!(read(&path), b"0123456789");
    // Edits after a dropped or cut one keep their places.
    for script in [
        &b"size 4 -> 8\n0x0: 00 -> 11\n0x4: 00 -> 22\n+0: 00 -> 33\n+1: 00 -> 44\n"[..],
        b"size 4 -> 8\n0x2: 00000000 -> 11223344\n+0: 00 -> 33\n",
        b"size 4 -> 8\n0x4: u8:0 -> u8:0x22\n+0: u8:0 -> u8:0x33\n0x1: 33 -> 55\n",
    ] {
        fs::write(&path, [0, 0x33, 0, 0]).unwrap();
        dir.run_fed("patch f --script -", script).code(0);
        assert_eq!(fs::metadata(&path).unwrap().len(), 8);
        dir.run_fed("patch f --script - --reverse", script).code(0);
        assert_eq!(read(&path), [0, 0x33, 0, 0]);
    }
    fs::write(&path, b"0123456789").unwrap();
    // What was cut off is not in the script.
    dir.run_fed("patch f --script -", b"size 10 -> 4\n").code(0);
    dir.refused_untouched_fed("patch f --script - --reverse", b"size 10 -> 4\n");
}

// ---- diff ------------------------------------------------------------------------------------------------------------

#[test]
fn the_difference_is_a_script_that_gives_the_other_file() {
    let dir = Sandbox::new();
    let mut other = noise(700_000);
    let path = dir.file("f", &other);
    for at in [0, 3, 7, 8, 40, 41, 4095, 4096, 262_143, 262_144, 300_000, 699_999] {
        other[at] ^= 0x5a;
    }
    other[500_000..500_100].fill(0);
    dir.file("g", &other);
    let before = (State::of(&path), dir.state("g"));
    let output = dir.mmapctl(&["patch", "f", "--diff", "g"]);
    output.code(0);
    assert_eq!((State::of(&path), dir.state("g")), before);
    dir.file("s", &output.stdout);
    dir.run("patch f --script s").ends("changed\nexit 0");
    assert!(read(&path) == other);
    dir.run("patch f --script s --reverse").ends("changed\nexit 0");
    assert!(read(&path) == noise(700_000));
    let report = dir.report("patch f --diff g");
    let differing = other.iter().zip(noise(700_000)).filter(|(a, b)| **a != *b).count();
    assert_eq!(report["bytes_differing"], differing);
    assert_eq!(report["script"].as_str().map(str::as_bytes), Some(&output.stdout[..]));
    assert_eq!(report["changed"], false);
    assert_eq!(report["other"], "g");
}

#[test]
fn the_diff_of_long_files_is_the_same_on_two_threads() {
    // Long enough for the thread, with an odd end, and mostly holes.
    let len = (64 << 20) + 300_001;
    let dir = Sandbox::new();
    let (a, b) = (dir.sparse("a", len), dir.sparse("b", len));
    let mut script = format!("# mmapctl-patch 1\nsize {len:#x}\n");
    // At the borders of what is read at a time, and at both ends.
    for at in [0, (256 << 10) - 1, 256 << 10, 5_000_000, 64 << 20, len - 1] {
        for (path, byte) in [(&a, 0x11), (&b, 0x22)] {
            writer(path).write_all_at(&[byte], at).unwrap();
        }
        script += &format!("{at:#x}: 11 -> 22\n");
    }
    assert_eq!(dir.run("patch a --diff b"), script + "exit 0");
    // The other is cut short below what the first has.
    writer(&b).set_len(1 << 20).unwrap();
    dir.run("patch a --diff b").code(2);
}

#[test]
fn the_difference_is_told_in_short_lines() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789abcdef0123456789abcdef0123456789abcdef");
    dir.file("g", b"X12Y456789abcdefZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ");
    dir.run("patch f --diff g").is(format!(
        "# mmapctl-patch 1\nsize 0x30\n0x0: 30313233 -> 58313259\n0x10: {0} -> {1}\nexit 0",
        const_hex::encode("0123456789abcdef0123456789abcdef"),
        "5a".repeat(32)
    ));
}

#[test]
fn the_difference_does_not_depend_on_holes() {
    let dir = Sandbox::new();
    let len = 300_000_u64;
    let (sparse, mut other) = (dir.sparse("sparse", len), vec![0; len as usize]);
    writer(&sparse).write_all_at(&[0x11], 4095).unwrap();
    for border in [4096, 256 << 10] {
        other[border - 2..border + 2].fill(0x22);
    }
    dir.file("dense", read(&sparse));
    dir.file("other", other);
    let script = dir.run("patch dense --diff other");
    script.has("0xffe: 0011 -> 2222\n0x1000: 0000 -> 2222\n0x3fffe: 0000 -> 2222\n0x40000: 0000 -> 2222\n");
    assert_eq!(dir.run("patch sparse --diff other"), script);
}

#[test]
fn equal_files_have_no_diff_and_other_lengths_are_refused() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    dir.file("g", noise(5000));
    dir.run("patch f --diff g").is("# mmapctl-patch 1\nsize 0x1388\nexit 0");
    dir.run("patch f --diff f").is("# mmapctl-patch 1\nsize 0x1388\nexit 0");
    dir.file("g", noise(5001));
    dir.refused_untouched("patch f --diff g").is("! error: f: it has 5000 bytes, the other 5001\n\
         !   tip: --diff takes two files of the same length; 'cmp f g' shows where they differ first\n\
         exit 2");
    dir.refused("patch f --diff missing").has("missing: ");
    dir.refused("patch missing --diff f").has("missing: ");
    dir.refused("patch f --diff .");
    dir.file("e", b"");
    dir.run("patch e --diff e").is("# mmapctl-patch 1\nsize 0x0\nexit 0");
    // It writes nothing, so it takes nothing that is about writing.
    let before = State::of(&path);
    for option in [
        "--undo u",
        "--sync",
        "--atomic",
        "--grow",
        "--strict",
        "--reverse",
        "--expect 00",
    ] {
        dir.refused_untouched(&format!("patch f --diff f {option}"));
    }
    for option in ["00", "-o 0", "-e 0:00", "--script s", "--find 00"] {
        dir.run(&format!("patch f --diff f {option}")).code(2);
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn the_difference_is_what_cmp_sees() {
    needs!(has("cmp"));
    let dir = Sandbox::new();
    dir.file("f", noise(9 << 20));
    let mut other = noise(9 << 20);
    let len = other.len();
    for byte in other.iter_mut().step_by(100_003) {
        *byte = !*byte;
    }
    other[len - 1] ^= 1;
    dir.file("g", &other);
    let output = dir.mmapctl(&["patch", "f", "--diff", "g"]);
    dir.file("s", &output.stdout);
    dir.run("patch f --script s").code(0);
    assert!(dir.peer("cmp", &["f", "g"]).is_empty());
    // One line a place, and the two of the header.
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2 + len.div_ceil(100_003) + 1);
}

// ---- grow ------------------------------------------------------------------------------------------------------------

#[test]
fn a_file_grows_by_what_reaches_past_its_end_when_asked() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    for line in ["patch f -o 8 61626364", "patch f -o end 61", "patch f -e end-1:6162"] {
        dir.refused_untouched(line);
    }
    dir.run("patch f -o 8 61626364 --grow --dry-run")
        .is("# mmapctl-patch 1\nsize 0xa -> 0xc\n0x8: 38390000 -> 61626364\nexit 0");
    let report = dir.report("patch f -o 8 61626364 --grow --undo u");
    assert_eq!(report["size"], 12);
    assert_eq!(report["length"], 4);
    assert_eq!(read(&path), b"01234567abcd");
    dir.run("patch f --script u").code(0);
    assert_eq!(read(&path), b"0123456789");
    dir.run_fed("patch f -o end --grow", b"from a pipe").code(0);
    assert_eq!(read(&path), b"0123456789from a pipe");
    dir.run("patch f -e end:61 -e +0:62 -e 0:63 --grow").code(0);
    assert_eq!(read(&path), b"c123456789from a pipeab");
    dir.run("patch f -r -1..+2 6263 --grow").code(0);
    assert_eq!(read(&path), b"c123456789from a pipeabc");
}

#[test]
fn growing_by_zeros_is_growing() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abc");
    dir.run("patch f -o end zero:8189 --grow")
        .is("f: 8189 bytes of 0x3..0x2000 changed\n  length      0x3 before, 0x2000 now\nexit 0");
    let mut expected = b"abc".to_vec();
    expected.resize(8192, 0);
    assert_eq!(read(&path), expected);
    let before = State::of(&path);
    dir.run("patch f -o 3 zero:8189 --grow").ends("nothing was written\nexit 0");
    assert_eq!(State::of(&path), before);
    // Of appended bytes all count, of the others those that differ.
    let count = |line: &str| {
        dir.file("f", b"ab\0d");
        dir.report(line)["bytes_changed"].as_u64()
    };
    assert_eq!(count("patch f -o 2 000000010000 --grow"), Some(5));
    assert_eq!(count("patch f -o 2 000000010000 --grow --dry-run"), Some(5));
    assert_eq!(count("patch f -o 0 61 -e end:00 -e +0:zero:100K --grow"), Some(100 * 1024 + 1));
    assert_eq!(count("patch f -o end crc32le:0..0 --grow"), Some(4));
    assert_eq!(count("patch f -o 0 616200"), Some(0));
}

#[test]
fn no_gap_is_left_between_the_end_and_what_is_added() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789");
    for line in [
        "patch f -o 11 00 --grow",
        "patch f -o end+1 00 --grow",
        "patch f -e 11:00 --grow",
        "patch f -e 10:00 -e 12:00 --grow",
        "patch f -o 0x7fffffffffffffff 00 --grow",
        "patch f -o 0xffffffffffffffff 00 --grow",
        "patch f -e 0xffffffffffffffff:00 --grow",
        "patch f -o -11 00 --grow",
    ] {
        dir.refused_untouched(line);
    }
}

#[test]
fn a_file_that_cannot_grow_is_as_it_was() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789");
    let before = State::of(&path);
    let line = "patch f -o 8 fill:ff:2M --grow --undo u";
    let mut command = dir.limited("-f 100", &words(line));
    let output = command.outcome();
    output.code(2);
    assert_eq!(State::of(&path), before, "{}", output);
    assert!(!dir.join("u").exists());
    assert!(File::open(path).unwrap().metadata().unwrap().len() == 10);
}
