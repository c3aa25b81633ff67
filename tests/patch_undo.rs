//! `patch --undo`, `--reverse`, `--diff` and `--grow`: there and back.

use crate::support;
use crate::support::{State, as_ordinary_user, file, has, mmapctl, noise, peer, refused, refused_without_touching};
use crate::support::{report, run, run_with, scratch, sparse, spawnable, told};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

/// Applies a script to `f` and the undo script to that, and the undo script of this to that again: the first gives the
/// original back, the second the patched file.
fn there_and_back(dir: &Path, original: &[u8], script: &str) -> Vec<u8> {
    let path = file(dir, "f", original);
    for name in ["u", "uu", "uuu"] {
        let _ = fs::remove_file(dir.join(name));
    }
    let told = run_with(dir, "patch f --script - --undo u", script.as_bytes());
    assert!(
        !told.contains("nothing was written") && told.ends_with("\nexit 0"),
        "{script}: {told}"
    );
    let patched = fs::read(&path).unwrap();
    let told = run(dir, "patch f --script u --undo uu");
    assert!(
        !told.contains("nothing was written") && told.ends_with("\nexit 0"),
        "{script}: {told}"
    );
    assert_eq!(fs::read(&path).unwrap(), original, "undo of {script}");
    let told = run(dir, "patch f --script uu --undo uuu");
    assert!(
        !told.contains("nothing was written") && told.ends_with("\nexit 0"),
        "{script}: {told}"
    );
    assert_eq!(fs::read(&path).unwrap(), patched, "undo of the undo of {script}");
    // A script that cuts says nothing of what it cuts; all others come out as they went in.
    assert_eq!(
        fs::read(dir.join("u")).unwrap(),
        fs::read(dir.join("uuu")).unwrap(),
        "undo of undo of undo of {script}"
    );
    patched
}

// ---- undo ------------------------------------------------------------------------------------------------------------

#[test]
fn the_undo_script_says_what_stood_there() {
    let dir = scratch();
    file(dir.path(), "f", b"0123456789");
    assert_eq!(
        run(dir.path(), "patch f -o 2 616263 --undo u"),
        "f: 3 bytes of 0x2..0x5 changed\nexit 0"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("u")).unwrap(),
        "# mmapctl-patch 1\nsize 0xa\n0x2: 616263 -> 323334\n"
    );
    assert_eq!(report(dir.path(), "patch f -o 8 00 --undo v")["undo"], "v");
}

#[test]
fn an_undo_script_is_readable_for_no_more_people_than_the_file() {
    let dir = scratch();
    for (of_file, umask, of_script) in [
        (0o600, "002", 0o600),
        (0o640, "002", 0o640),
        (0o755, "002", 0o644),
        (0o666, "077", 0o600),
    ] {
        let path = file(dir.path(), "f", b"secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(of_file)).unwrap();
        let line = format!("umask {umask} && exec \"$0\" patch f -o 0 00 --undo u -q");
        let mut command = std::process::Command::new("sh");
        let command = command.current_dir(dir.path()).args(["-c", &line, support::BINARY]);
        assert!(command.status().unwrap().success());
        let mode = fs::metadata(dir.path().join("u")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, of_script, "{of_file:o}, umask {umask}");
        fs::remove_file(dir.path().join("u")).unwrap();
    }
}

#[test]
fn undo_of_undo_is_the_original_for_every_kind_of_edit() {
    let dir = scratch();
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
        there_and_back(dir.path(), &original, script);
    }
    there_and_back(
        dir.path(),
        &original,
        &String::from("0: -> ffffff\n3: 00\n+0: -> text:\"a b\"\n"),
    );
    // Zeros that were cut off come back with the size alone.
    let mut sparse = vec![0; 9000];
    sparse[0] = 1;
    sparse[8000] = 7;
    there_and_back(dir.path(), &sparse, "size 9000 -> 10\n");
    there_and_back(dir.path(), &sparse, "size 9000 -> 8500\n");
    assert_eq!(there_and_back(dir.path(), b"", "size 0 -> 4\n1: -> 61\n"), b"\0a\0\0");
}

#[test]
fn undo_of_more_than_stays_in_memory_is_right_to_the_byte() {
    let dir = scratch();
    let original = noise(3 << 20);
    // In no order: the new bytes are put into order where they lie.
    let script = "0x200001: -> fill:ff:0xfff00\n1: -> fill:00:0x1fff00\nend-4: -> crc32le:0..end-4\n0: -> 11\n";
    let patched = there_and_back(dir.path(), &original, script);
    assert_eq!((patched[0], patched[1], patched[0x20_0001]), (0x11, 0, 0xff));
}

#[test]
fn what_was_the_same_before_has_no_line_and_an_undo_without_lines_is_written_all_the_same() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[7; 100]);
    let before = State::of(&path);
    assert!(run(dir.path(), "patch f -o 0 fill:07:100 --undo u").ends_with("nothing was written\nexit 0"));
    assert_eq!(State::of(&path), before);
    assert_eq!(
        fs::read_to_string(dir.path().join("u")).unwrap(),
        "# mmapctl-patch 1\nsize 0x64\n"
    );
    assert!(run(dir.path(), "patch f --script u").ends_with("exit 0"));
}

#[test]
fn undo_never_writes_over_what_is_there() {
    let dir = scratch();
    let path = file(dir.path(), "u", b"mine");
    file(dir.path(), "f", &[0; 8]);
    fs::create_dir(dir.path().join("folder")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    symlink("u", dir.path().join("link")).unwrap();
    assert_eq!(
        refused_without_touching(dir.path(), "patch f -o 0 01 --undo u", b""),
        "! error: f: nothing was written: cannot make the undo script 'u': File exists (EEXIST)\n\
         !   tip: --undo takes a file that is not there yet\n\
         exit 2"
    );
    for name in ["f", "link", "dangling", "folder", "missing/u", "/dev/null", "."] {
        refused_without_touching(dir.path(), &format!("patch f -o 0 01 --undo {name}"), b"");
    }
    assert_eq!(fs::read(path).unwrap(), b"mine");
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_patch_that_fails_leaves_no_undo_script() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
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
        let before = State::of(&dir.path().join("f"));
        let told = run(dir.path(), line);
        assert!(told.ends_with(&format!("exit {code}")), "{line}: {told}");
        assert!(!dir.path().join("u").exists(), "{line}: it left an undo script");
        assert_eq!(State::of(&dir.path().join("f")), before, "{line}");
    }
    // One that fails when it is about to store: there is no such length.
    let told = run_with(
        dir.path(),
        "patch f --script - --undo u",
        b"size 64 -> 0x7fffffffffffffff\n",
    );
    assert!(told.ends_with("exit 2"), "{told}");
    assert!(!dir.path().join("u").exists(), "{told}");
    assert_eq!(fs::metadata(dir.path().join("f")).unwrap().len(), 64);
}

#[test]
fn an_undo_script_that_cannot_be_written_whole_is_not_left_behind() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(1 << 20));
    let before = State::of(&path);
    // The shell's limit is in units of 512 or 1024 bytes; a file of that size is enough for the payload, which goes
    // through a memfd, and for half the script.
    let line = "patch f -o 0 fill:00:256K --undo u";
    let mut command = support::limited(dir.path(), "-f 600", &line.split(' ').collect::<Vec<_>>());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("nothing was written: cannot make the undo script 'u'"));
    assert!(!dir.path().join("u").exists());
    assert_eq!(State::of(&path), before);
}

#[test]
fn the_undo_script_and_its_name_are_on_the_device_before_the_first_store() {
    let test = "the_undo_script_and_its_name_are_on_the_device_before_the_first_store";
    if !has(test, "strace") {
        return;
    }
    let dir = scratch();
    file(dir.path(), "f", &[0; 8192]);
    let output = std::process::Command::new("strace")
        .current_dir(dir.path())
        .args(["-f", "-y", "-o", "trace", "-e", "trace=fsync,fdatasync,preadv,preadv2"])
        .arg(support::BINARY)
        .args(["patch", "f", "-o", "0", "aabb", "--undo", "u"])
        .output()
        .unwrap();
    let Ok(trace) = fs::read_to_string(dir.path().join("trace")) else {
        return support::skip(test, "strace cannot trace here");
    };
    if output.status.code() != Some(0) {
        return support::skip(test, &format!("strace: {}", told(&output)));
    }
    let folder = fs::canonicalize(dir.path()).unwrap();
    let place = |call: &str| trace.lines().position(|line| line.contains(call));
    // The script, which has a temporary name until then.
    let file = place(&format!("<{}/#", folder.display())).or(place(&format!("<{}/.mmapctl-", folder.display())));
    let name = place(&format!("<{}>)", folder.display()));
    let store = place("preadv");
    assert!(file.is_some() && name.is_some() && store.is_some(), "{trace}");
    assert!(file < name && name < store, "{trace}");
}

#[test]
fn a_folder_that_takes_no_files_is_refused_before_anything_is_written() {
    let test = "a_folder_that_takes_no_files_is_refused_before_anything_is_written";
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 8]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    fs::create_dir(dir.path().join("closed")).unwrap();
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = State::of(&path);
    let command = spawnable(dir.path(), &["patch", "f", "-o", "0", "01", "--undo", "closed/u"]);
    let Some(mut command) = as_ordinary_user(test, command) else {
        return;
    };
    let told = told(&command.output().unwrap());
    assert!(
        told.contains("cannot make the undo script 'closed/u': Permission denied"),
        "{told}"
    );
    assert!(told.ends_with("exit 2"), "{told}");
    assert_eq!(State::of(&path), before);
}

// ---- reverse ---------------------------------------------------------------------------------------------------------

#[test]
fn a_script_with_old_bytes_goes_both_ways() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    let script = b"size 10\n2: 3233 -> 6162\n8: text:8 -> text:x\n+0: u8:0x39 -> u8:0x40\n";
    file(dir.path(), "s", script);
    assert!(run(dir.path(), "patch f --script s").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"01ab4567x@");
    assert_eq!(
        run(dir.path(), "patch f --script s --reverse --dry-run"),
        "# mmapctl-patch 1\nsize 0xa\n0x2: 6162 -> 3233\n0x8: 78 -> 38\n0x9: 40 -> 39\nexit 0"
    );
    assert_eq!(
        run(dir.path(), "patch f --script s --reverse"),
        "f: 4 bytes by 3 edits in 0x2..0xa changed\nexit 0"
    );
    assert_eq!(fs::read(&path).unwrap(), b"0123456789");
    let before = State::of(&path);
    assert!(run(dir.path(), "patch f --script s --reverse").ends_with("nothing was written\nexit 0"));
    assert!(run(dir.path(), "patch f --script s --reverse --strict").ends_with("exit 1"));
    assert_eq!(State::of(&path), before);
    fs::write(&path, b"01zz456789").unwrap();
    let told = run(dir.path(), "patch f --script s --reverse");
    assert!(told.contains("bytes at 0x2 are 7a7a, expected 6162"), "{told}");
    let output = mmapctl(dir.path(), &["patch", "f", "--reverse", "-e", "2: 00 -> 7a"]).output();
    assert!(told_ends(&output.unwrap(), "exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"01\0z456789");
}

fn told_ends(output: &std::process::Output, end: &str) -> bool {
    told(output).ends_with(end)
}

#[test]
fn what_has_no_old_bytes_cannot_be_reversed() {
    let dir = scratch();
    file(dir.path(), "f", &[0; 64]);
    assert_eq!(
        refused_without_touching(dir.path(), "patch f --script - --reverse", b"0: 00 -> 01\n4: -> 02\n"),
        "! error: f: -: line 2: an edit without old bytes cannot be reversed\n\
         !   tip: only OFFSET: OLD -> NEW can; apply the script that --undo wrote instead\n\
         exit 2"
    );
    for line in [
        "patch f -o 0 01 --reverse",
        "patch f -o 0 --expect 00 01 --reverse",
        "patch f --find 00 --nth 1 01 --reverse",
        "patch f --reverse",
        "patch f --reverse -e 0:01",
    ] {
        refused_without_touching(dir.path(), line, b"");
    }
    refused_without_touching(
        dir.path(),
        "patch f --script - --reverse",
        b"0: 00000000 -> crc32le:4..\n",
    );
}

#[test]
fn a_script_that_changes_the_size_goes_both_ways_or_says_why_not() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    let script = b"size 10 -> 12\n9: 390000 -> 616263\n";
    assert!(run_with(dir.path(), "patch f --script -", script).ends_with("exit 0"));
    let told = run_with(dir.path(), "patch f --script - --reverse", script);
    assert!(told.ends_with("exit 0"), "{told}");
    assert_eq!(fs::read(&path).unwrap(), b"0123456789");
    // What follows a dropped edit, or a cut one, still stands where it stood.
    for script in [
        &b"size 4 -> 8\n0x0: 00 -> 11\n0x4: 00 -> 22\n+0: 00 -> 33\n+1: 00 -> 44\n"[..],
        b"size 4 -> 8\n0x2: 00000000 -> 11223344\n+0: 00 -> 33\n",
        b"size 4 -> 8\n0x4: u8:0 -> u8:0x22\n+0: u8:0 -> u8:0x33\n0x1: 33 -> 55\n",
    ] {
        fs::write(&path, [0, 0x33, 0, 0]).unwrap();
        let told = run_with(dir.path(), "patch f --script -", script);
        assert!(told.ends_with("exit 0"), "{told}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 8);
        let told = run_with(dir.path(), "patch f --script - --reverse", script);
        assert!(told.ends_with("exit 0"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), [0, 0x33, 0, 0]);
    }
    fs::write(&path, b"0123456789").unwrap();
    // What was cut off is not in the script.
    assert!(run_with(dir.path(), "patch f --script -", b"size 10 -> 4\n").ends_with("exit 0"));
    refused_without_touching(dir.path(), "patch f --script - --reverse", b"size 10 -> 4\n");
}

// ---- diff ------------------------------------------------------------------------------------------------------------

#[test]
fn the_difference_is_a_script_that_gives_the_other_file() {
    let dir = scratch();
    let mut other = noise(700_000);
    let path = file(dir.path(), "f", &other);
    for at in [0, 3, 7, 8, 40, 41, 4095, 4096, 262_143, 262_144, 300_000, 699_999] {
        other[at] ^= 0x5a;
    }
    other[500_000..500_100].fill(0);
    file(dir.path(), "g", &other);
    let before = (State::of(&path), State::of(&dir.path().join("g")));
    let output = mmapctl(dir.path(), &["patch", "f", "--diff", "g"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!((State::of(&path), State::of(&dir.path().join("g"))), before);
    file(dir.path(), "s", &output.stdout);
    assert!(run(dir.path(), "patch f --script s").ends_with("changed\nexit 0"));
    assert!(fs::read(&path).unwrap() == other);
    assert!(run(dir.path(), "patch f --script s --reverse").ends_with("changed\nexit 0"));
    assert!(fs::read(&path).unwrap() == noise(700_000));
    let told = report(dir.path(), "patch f --diff g");
    let differing = other.iter().zip(noise(700_000)).filter(|(a, b)| **a != *b).count();
    assert_eq!(told["bytes_differing"], differing);
    assert_eq!(told["script"].as_str().map(str::as_bytes), Some(&output.stdout[..]));
    assert_eq!((&told["changed"], &told["other"]), (&false.into(), &"g".into()));
}

#[test]
fn of_long_files_a_second_thread_reads_one_and_the_difference_is_the_same() {
    // Long enough for the thread, with an odd end, and mostly holes.
    let len = (64 << 20) + 300_001;
    let dir = scratch();
    let (a, b) = (sparse(dir.path(), "a", len), sparse(dir.path(), "b", len));
    let mut script = format!("# mmapctl-patch 1\nsize {len:#x}\n");
    // At the borders of what is read at a time, and at both ends.
    for at in [0, (256 << 10) - 1, 256 << 10, 5_000_000, 64 << 20, len - 1] {
        for (path, byte) in [(&a, 0x11), (&b, 0x22)] {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .write_all_at(&[byte], at)
                .unwrap();
        }
        script += &format!("{at:#x}: 11 -> 22\n");
    }
    assert_eq!(run(dir.path(), "patch a --diff b"), script + "exit 0");
    // The other is cut short below what the first has.
    fs::OpenOptions::new()
        .write(true)
        .open(&b)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    assert!(run(dir.path(), "patch a --diff b").ends_with("exit 2"));
}

#[test]
fn the_difference_is_told_in_short_lines() {
    let dir = scratch();
    file(dir.path(), "f", b"0123456789abcdef0123456789abcdef0123456789abcdef");
    file(dir.path(), "g", b"X12Y456789abcdefZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ");
    assert_eq!(
        run(dir.path(), "patch f --diff g"),
        format!(
            "# mmapctl-patch 1\nsize 0x30\n0x0: 30313233 -> 58313259\n0x10: {0} -> {1}\nexit 0",
            const_hex::encode("0123456789abcdef0123456789abcdef"),
            "5a".repeat(32)
        )
    );
}

#[test]
fn equal_files_differ_in_nothing_and_those_of_other_lengths_are_refused() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(5000));
    file(dir.path(), "g", &noise(5000));
    assert_eq!(
        run(dir.path(), "patch f --diff g"),
        "# mmapctl-patch 1\nsize 0x1388\nexit 0"
    );
    assert_eq!(
        run(dir.path(), "patch f --diff f"),
        "# mmapctl-patch 1\nsize 0x1388\nexit 0"
    );
    file(dir.path(), "g", &noise(5001));
    assert_eq!(
        refused_without_touching(dir.path(), "patch f --diff g", b""),
        "! error: f: it has 5000 bytes, the other 5001\n\
         !   tip: --diff takes two files of the same length; 'cmp f g' shows where they differ first\n\
         exit 2"
    );
    let text = refused(dir.path(), "patch f --diff missing", b"");
    assert!(text.contains("missing: "), "{text}");
    let text = refused(dir.path(), "patch missing --diff f", b"");
    assert!(text.contains("missing: "), "{text}");
    refused(dir.path(), "patch f --diff .", b"");
    file(dir.path(), "e", b"");
    assert_eq!(
        run(dir.path(), "patch e --diff e"),
        "# mmapctl-patch 1\nsize 0x0\nexit 0"
    );
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
        refused_without_touching(dir.path(), &format!("patch f --diff f {option}"), b"");
    }
    for option in ["00", "-o 0", "-e 0:00", "--script s", "--find 00"] {
        assert!(
            run(dir.path(), &format!("patch f --diff f {option}")).ends_with("exit 2"),
            "{option}"
        );
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn the_difference_is_what_cmp_sees() {
    if !has("the_difference_is_what_cmp_sees", "cmp") {
        return;
    }
    let dir = scratch();
    file(dir.path(), "f", &noise(9 << 20));
    let mut other = noise(9 << 20);
    let len = other.len();
    for byte in other.iter_mut().step_by(100_003) {
        *byte = !*byte;
    }
    other[len - 1] ^= 1;
    file(dir.path(), "g", &other);
    let output = mmapctl(dir.path(), &["patch", "f", "--diff", "g"]).output().unwrap();
    file(dir.path(), "s", &output.stdout);
    assert!(run(dir.path(), "patch f --script s").ends_with("exit 0"));
    assert!(peer(dir.path(), "cmp", &["f", "g"]).is_empty());
    // One line a place, and the two of the header.
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().lines().count(),
        2 + len.div_ceil(100_003) + 1
    );
}

// ---- grow ------------------------------------------------------------------------------------------------------------

#[test]
fn a_file_grows_by_what_reaches_past_its_end_when_asked() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    for line in ["patch f -o 8 61626364", "patch f -o end 61", "patch f -e end-1:6162"] {
        refused_without_touching(dir.path(), line, b"");
    }
    assert_eq!(
        run(dir.path(), "patch f -o 8 61626364 --grow --dry-run"),
        "# mmapctl-patch 1\nsize 0xa -> 0xc\n0x8: 38390000 -> 61626364\nexit 0"
    );
    let told = report(dir.path(), "patch f -o 8 61626364 --grow --undo u");
    assert_eq!((&told["size"], &told["length"]), (&12.into(), &4.into()));
    assert_eq!(fs::read(&path).unwrap(), b"01234567abcd");
    assert!(run(dir.path(), "patch f --script u").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"0123456789");
    assert!(run_with(dir.path(), "patch f -o end --grow", b"from a pipe").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"0123456789from a pipe");
    assert!(run(dir.path(), "patch f -e end:61 -e +0:62 -e 0:63 --grow").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"c123456789from a pipeab");
    assert!(run(dir.path(), "patch f -r -1..+2 6263 --grow").ends_with("exit 0"));
    assert_eq!(fs::read(&path).unwrap(), b"c123456789from a pipeabc");
}

#[test]
fn growing_by_zeros_is_growing() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"abc");
    assert_eq!(
        run(dir.path(), "patch f -o end zero:8189 --grow"),
        "f: 8189 bytes of 0x3..0x2000 changed\n  length      0x3 before, 0x2000 now\nexit 0"
    );
    let mut expected = b"abc".to_vec();
    expected.resize(8192, 0);
    assert_eq!(fs::read(&path).unwrap(), expected);
    let before = State::of(&path);
    assert!(run(dir.path(), "patch f -o 3 zero:8189 --grow").ends_with("nothing was written\nexit 0"));
    assert_eq!(State::of(&path), before);
    // Of appended bytes all count, of the others those that differ.
    let count = |line: &str| {
        file(dir.path(), "f", b"ab\0d");
        report(dir.path(), line)["bytes_changed"].as_u64()
    };
    assert_eq!(count("patch f -o 2 000000010000 --grow"), Some(5));
    assert_eq!(count("patch f -o 2 000000010000 --grow --dry-run"), Some(5));
    assert_eq!(
        count("patch f -o 0 61 -e end:00 -e +0:zero:100K --grow"),
        Some(100 * 1024 + 1)
    );
    assert_eq!(count("patch f -o end crc32le:0..0 --grow"), Some(4));
    assert_eq!(count("patch f -o 0 616200"), Some(0));
}

#[test]
fn no_gap_is_left_between_the_end_and_what_is_added() {
    let dir = scratch();
    file(dir.path(), "f", b"0123456789");
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
        refused_without_touching(dir.path(), line, b"");
    }
}

#[test]
fn a_file_that_cannot_grow_is_as_it_was() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"0123456789");
    let before = State::of(&path);
    let line = "patch f -o 8 fill:ff:2M --grow --undo u";
    let mut command = support::limited(dir.path(), "-f 100", &line.split(' ').collect::<Vec<_>>());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert_eq!(State::of(&path), before, "{}", told(&output));
    assert!(!dir.path().join("u").exists());
    assert!(File::open(path).unwrap().metadata().unwrap().len() == 10);
}
