//! The journal and the undo script: whose names they have, what they are durable before, and who may read a file that
//! waits for recovery.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{eventually, file, noise, run, scratch, sparse, synced, told};
use faults::{code, strace_works, straced};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Leaves `f` with its journal, half-patched.
fn killed(dir: &Path, line: &str) {
    let output = straced(dir, &["-e", "inject=msync:signal=KILL"], line);
    assert_eq!(code(&output), 137, "{}", told(&output));
}

#[test]
fn a_journal_does_not_get_the_name_of_another_files() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(8192));
    for line in [
        "patch f -o 0 43 --atomic --journal .g.mmapctl-undo",
        "zero f -r 0..1 --journal .g.mmapctl-undo",
        "remap f --size +1 --journal .G.MMAPCTL-UNDO",
        "sync f --journal .g.mmapctl-undo",
        "cat f -n 1 --journal .g.mmapctl-undo",
        "map f --journal .g.mmapctl-undo",
    ] {
        let text = run(dir.path(), line);
        assert!(
            text.contains("is the name of another file's journal") && text.ends_with("exit 2"),
            "{line}: {text}"
        );
    }
    assert!(fs::read(&path).unwrap() == noise(8192));
    let text = run(dir.path(), "patch f -q -o 0 43 --atomic --journal ./.f.mmapctl-undo");
    assert_eq!(text, "exit 0", "its own");
}

#[test]
fn values_and_scripts_are_not_read_from_a_file_that_waits_for_recovery() {
    let test = "values_and_scripts_are_not_read_from_a_file_that_waits_for_recovery";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    let target = file(dir.path(), "g", &[b'A'; 8192]);
    file(dir.path(), "f", &noise(8192));
    killed(dir.path(), "patch f -q -o 0 fill:43:8 --atomic");
    for line in [
        "patch g -o 0 @f",
        "patch g -o 0 --expect @f 41",
        "patch g --script f",
        "patch g --format xxd --script f",
        "map g --script f",
        "remap g --order @f",
    ] {
        let text = told(&common::mmapctl(dir.path(), &faults::words(line)).output().unwrap());
        assert!(
            text.contains("f: recovery needed: ") && text.ends_with("exit 2"),
            "{line}: {text}"
        );
        assert!(text.contains("'mmapctl patch f --script /dev/null'"), "{line}: {text}");
    }
    assert!(fs::read(&target).unwrap() == [b'A'; 8192]);
    assert_eq!(run(dir.path(), "patch f -q --script /dev/null"), "exit 0");
    assert_eq!(run(dir.path(), "patch g -q -o 0 @f"), "exit 0");
}

#[test]
fn the_tip_of_a_recovery_keeps_the_safety_rules_in_mind() {
    let test = "the_tip_of_a_recovery_keeps_the_safety_rules_in_mind";
    if !strace_works(test) {
        return;
    }
    for (mode, option) in [(0o4755, " --force"), (0o444, " --force"), (0o644, "")] {
        let dir = scratch();
        let path = file(dir.path(), "f", &noise(8192));
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        killed(dir.path(), &format!("patch f -q -o 0 fill:43:8 --atomic{option}"));
        let remedy = format!("patch f --script /dev/null{option}");
        for line in ["cat f", "map f", "sync f"] {
            let text = told(&common::mmapctl(dir.path(), &faults::words(line)).output().unwrap());
            assert!(
                text.contains(&format!("'mmapctl {remedy}'")),
                "{mode:o}: {line}: {text}"
            );
        }
        let text = told(&common::mmapctl(dir.path(), &faults::words(&remedy)).output().unwrap());
        assert!(
            text.ends_with("exit 0") && fs::read(&path).unwrap() == noise(8192),
            "{mode:o}: {text}"
        );
    }
}

#[test]
fn an_undo_script_that_another_file_has_replaced_is_not_taken_away() {
    let test = "an_undo_script_that_another_file_has_replaced_is_not_taken_away";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    file(dir.path(), "f", &noise(9000));
    let script = dir.path().join("u");
    let fault = "inject=preadv:error=EIO:delay_enter=3000000:when=1";
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| straced(dir.path(), &["-e", fault], "patch f -o 0 11 --undo u"));
        assert!(eventually(|| script.exists()));
        let other = file(dir.path(), "other", b"precious");
        fs::rename(other, &script).unwrap();
        run.join().unwrap()
    });
    assert_eq!(code(&output), 2, "{}", told(&output));
    assert_eq!(fs::read(&script).unwrap(), b"precious");
    // One that is still its own goes.
    let output = straced(
        dir.path(),
        &["-e", "inject=preadv:error=EIO:when=1"],
        "patch f -o 0 11 --undo v",
    );
    assert_eq!(code(&output), 2, "{}", told(&output));
    assert!(!dir.path().join("v").exists());
}

/// The names of the calls of a patch, in order, up to its last store.
fn calls(dir: &Path, line: &str) -> Vec<String> {
    let trace = "trace=fsync,fdatasync,linkat,renameat2,preadv";
    let output = straced(dir, &["-y", "-e", trace], line);
    assert_eq!(code(&output), 0, "{}", told(&output));
    let log = fs::read_to_string(dir.join("strace.log")).unwrap();
    let target = format!("<{}>", fs::canonicalize(dir.join("f")).unwrap().display());
    let name = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let name = call.split_once('(')?.0;
        let of_target = name.contains("sync") && call.contains(&target);
        Some(if of_target { "flush".into() } else { name.to_string() })
    };
    log.lines().filter_map(name).collect()
}

// A file system without a metadata journal (ext2) keeps what fsync(2) has given it until the next fsync: an inode without
// a name.
#[test]
fn an_undo_script_is_durable_with_its_name() {
    let test = "an_undo_script_is_durable_with_its_name";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    file(dir.path(), "f", &noise(9000));
    let calls = calls(dir.path(), "patch f -q -o 0 11 --undo u");
    let named = calls
        .iter()
        .position(|call| ["linkat", "renameat2"].contains(&call.as_str()))
        .unwrap();
    let stored = calls.iter().position(|call| call == "preadv").unwrap();
    let synced = calls[named..stored].iter().filter(|call| *call == "fsync").count();
    assert_eq!(synced, 2, "the script and its folder: {calls:?}");
}

// What gives a hole its blocks has to be flushed before the journal is there: on a file system that may write those blocks
// down before their zeros (ext3 with data=writeback), a recovery would leave what stood in them.
#[test]
fn edits_that_change_nothing_are_flushed_with_the_old_bytes() {
    let test = "edits_that_change_nothing_are_flushed_with_the_old_bytes";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    let path = sparse(dir.path(), "f", 64 << 10);
    synced(&path);
    file(dir.path(), "s", b"0: -> 58\n0x8000: -> 00\n");
    let calls = calls(dir.path(), "patch f -q --atomic --script s");
    let first = |name: &str| calls.iter().position(|call| call == name).unwrap();
    assert!(first("preadv") < first("flush"), "{calls:?}");
}
