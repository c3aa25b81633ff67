//! mmapctl gives nobody more rights than the file does: the privileges of programs, and the permissions of new files.

use crate::support::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Each verb that changes bytes of `f`, and a session in which one does.
const WRITERS: [&[&str]; 6] = [
    &["patch", "f", "-o", "4100", "ee"],
    &["patch", "f", "-o", "4100", "ee", "--atomic"],
    &["zero", "f", "-r", "4096..+4096"],
    &["zero", "f", "-r", "4096..+100", "--method", "write"],
    &["remap", "f", "--size", "+4K"],
    &["map", "f", "-c", "patch -o 4100 ee"],
];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn file_capabilities_are_not_kept_by_a_store() {
    needs!(has("setcap"));
    let dir = Sandbox::new();
    let path = dir.join("f");
    let has_any = || !dir.peer("getcap", &["f"]).is_empty();
    for writer in WRITERS {
        dir.file("f", noise(10_000));
        set_mode(&path, 0o755);
        let set = Command::new("setcap").args(["cap_setuid+ep"]).arg(&path).outcome();
        if !set.status.success() || !has_any() {
            return skip("file capabilities cannot be set here");
        }
        let before = read(&path);
        let line = writer.join(" ");
        let outcome = dir.mmapctl(writer);
        assert!(
            outcome.contains("! error: f: cannot write to it: it has file capabilities")
                && outcome.contains("add --force to write to it")
                && outcome.ends_with("exit 2"),
            "{line}: {outcome}"
        );
        assert!(has_any() && read(&path) == before, "{line}");
        let outcome = dir.command(writer).arg("--force").outcome();
        assert!(
            outcome.contains("  dropped     file capabilities, as write(2) does\n") && outcome.ends_with("exit 0"),
            "{line}: {outcome}"
        );
        assert!(!has_any() && read(&path) != before, "{line}");
        assert!(!dir.mmapctl(writer).contains("dropped"), "{line}");
    }
}

#[test]
fn a_patch_that_writes_nothing_keeps_file_capabilities() {
    needs!(has("setcap"));
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 100]);
    let set = Command::new("setcap").args(["cap_setuid+ep"]).arg(&path).outcome();
    if !set.status.success() {
        return skip("file capabilities cannot be set here");
    }
    for (line, code) in [
        ("patch f --force -o 0 01 --expect 02", 1),
        ("patch f --force -o 0 00", 0),
        ("patch f --force -o 0 01 --dry-run", 0),
        ("patch f --force -o 100 01", 2),
        ("zero f --force -r 0..0", 0),
    ] {
        let outcome = dir.run(line);
        outcome.code(code);
        assert!(!dir.peer("getcap", &["f"]).is_empty(), "{line}: {outcome}");
    }
}

#[test]
fn a_store_by_an_ordinary_user_takes_the_set_user_id_bit_away() {
    let dir = Sandbox::new();
    set_mode(&dir, 0o777);
    for writer in WRITERS {
        let path = dir.file("f", noise(10_000));
        set_mode(&path, 0o4757);
        let line = writer.join(" ");
        // As root it is another user's file.
        let mut command = dir.command(writer);
        command.args(["--force", "--json"]);
        needs!(let mut command = as_ordinary_user(command));
        let outcome = command.outcome();
        assert!(outcome.ends_with("exit 0"), "{line}: {outcome}");
        assert!(outcome.contains(r#""privileges_dropped":["set-id"]"#), "{line}: {outcome}");
        assert_eq!(mode(&path), 0o757, "{line}: {outcome}");
        fs::remove_file(&path).unwrap();
    }
}

/// What writes a new file `new` with bytes of `f`.
const MAKERS: [&[&str]; 2] = [
    &["patch", "f", "-o", "0", "79", "--undo", "new", "--force"],
    &["remap", "f", "--order", "linear", "--to", "new"],
];

#[test]
fn a_new_file_can_be_read_by_nobody_who_cannot_read_its_source() {
    let dir = Sandbox::new();
    for (of_source, umask, of_script, of_view) in [
        (0o000, "000", 0o000, 0o000),
        (0o400, "000", 0o400, 0o400),
        (0o600, "000", 0o600, 0o600),
        (0o640, "000", 0o640, 0o640),
        (0o755, "022", 0o644, 0o755),
        (0o666, "077", 0o600, 0o600),
    ] {
        for (maker, expected) in MAKERS.iter().zip([of_script, of_view]) {
            let path = dir.file("f", b"root:secret-hash");
            set_mode(&path, of_source);
            if fs::File::options().read(true).write(true).open(&path).is_err() {
                // Only root can, and so can only root copy it.
                fs::remove_file(&path).unwrap();
                continue;
            }
            let line = format!("umask {umask} && exec \"$0\" \"$@\" -q");
            let mut command = Command::new("sh");
            let command = command.current_dir(&dir).args(["-c", &line, BINARY]).args(*maker);
            let outcome = command.outcome();
            assert_eq!(outcome, "exit 0", "{maker:?}");
            let new = dir.join("new");
            assert_eq!(mode(&new), expected, "{maker:?} of {of_source:o}, umask {umask}");
            fs::remove_file(new).unwrap();
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_new_file_of_memory_is_for_its_maker_alone() {
    let dir = Sandbox::new();
    for memory in ["--anonymous", "--memfd"] {
        let line = ["map", memory, "-n", "1p", "-c", "remap --order linear --to new"];
        dir.mmapctl(&line).code(0);
        assert_eq!(mode(&dir.join("new")), 0o600, "{memory}");
        fs::remove_file(dir.join("new")).unwrap();
    }
}

#[test]
fn an_access_control_list_gives_a_new_file_nothing() {
    needs!(has("setfacl"));
    let dir = Sandbox::new();
    let path = dir.file("f", b"secret");
    set_mode(&path, 0o600);
    let works = Command::new("setfacl").args(["-m", "u:65534:rw"]).arg(&path).status();
    if !works.is_ok_and(|status| status.success()) {
        return skip("the file system has no access control lists");
    }
    // The list's mask stands where the group's permissions are otherwise.
    assert_eq!(mode(&path), 0o660);
    let new = dir.join("new");
    for maker in MAKERS {
        dir.mmapctl(maker).code(0);
        assert_eq!(mode(&new), 0o600, "{maker:?}");
        fs::remove_file(&new).unwrap();
    }
    // Nor does a folder that has a list for every new file in it.
    dir.peer("setfacl", &["-b", "f"]);
    set_mode(&path, 0o640);
    dir.peer("setfacl", &["-d", "-m", "u:65534:rw", "."]);
    for maker in MAKERS {
        dir.mmapctl(maker).code(0);
        let list = String::from_utf8(dir.peer("getfacl", &["-c", "new"])).unwrap();
        assert!(!list.contains("nobody") && !list.contains("65534"), "{maker:?}: {list}");
        assert_eq!(mode(&new), 0o640, "{maker:?}");
        fs::remove_file(&new).unwrap();
    }
}

#[test]
fn another_group_does_not_get_the_source_groups_permissions() {
    if !is_root() {
        return skip("giving a file to another group takes root");
    }
    let dir = Sandbox::new();
    let path = dir.file("f", b"secret");
    std::os::unix::fs::chown(&path, None, Some(4)).unwrap();
    for (of_source, of_new) in [(0o640, 0o600), (0o644, 0o644), (0o604, 0o600)] {
        set_mode(&path, of_source);
        for maker in MAKERS {
            dir.mmapctl(maker).code(0);
            let new = dir.join("new");
            assert_eq!(mode(&new), of_new, "{maker:?} of {of_source:o}");
            fs::remove_file(&new).unwrap();
        }
    }
}
