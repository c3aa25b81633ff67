//! The journal and the undo script: whose names they have, what they are durable before, and who may read a file that
//! waits for recovery.

use crate::support::strace::*;
use crate::support::*;
use std::fs::{self};

/// Leaves `f` with its journal, half-patched.
fn killed(dir: &Sandbox, line: &str) {
    dir.straced(&["-e", "inject=msync:signal=KILL"], line).signal(9);
}

#[test]
fn a_journal_does_not_get_the_name_of_another_files() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(8192));
    for line in [
        "patch f -o 0 43 --atomic --journal .g.mmapctl-undo",
        "zero f -r 0..1 --journal .g.mmapctl-undo",
        "remap f --size +1 --journal .G.MMAPCTL-UNDO",
        "sync f --journal .g.mmapctl-undo",
        "cat f -n 1 --journal .g.mmapctl-undo",
        "map f --journal .g.mmapctl-undo",
    ] {
        dir.run(line).code(2).has("is the name of another file's journal");
    }
    assert!(read(&path) == noise(8192));
    let text = dir.run("patch f -q -o 0 43 --atomic --journal ./.f.mmapctl-undo");
    assert_eq!(text, "exit 0", "its own");
}

#[test]
fn values_and_scripts_are_not_read_from_half_patched_files() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let target = dir.file("g", [b'A'; 8192]);
    dir.file("f", noise(8192));
    killed(&dir, "patch f -q -o 0 fill:43:8 --atomic");
    for line in [
        "patch g -o 0 @f",
        "patch g -o 0 --expect @f 41",
        "patch g --script f",
        "patch g --format xxd --script f",
        "map g --script f",
        "remap g --order @f",
    ] {
        dir.mmapctl(&words(line))
            .code(2)
            .has("f: recovery needed: ")
            .has("'mmapctl patch f --script /dev/null'");
    }
    assert!(read(&target) == [b'A'; 8192]);
    dir.run("patch f -q --script /dev/null").is("exit 0");
    dir.run("patch g -q -o 0 @f").is("exit 0");
}

#[test]
fn the_tip_of_a_recovery_keeps_the_safety_rules_in_mind() {
    needs!(strace_works());
    for (mode, option) in [(0o4755, " --force"), (0o444, " --force"), (0o644, "")] {
        if mode == 0o444 && !is_root() {
            // Nobody else can open it for writing.
            continue;
        }
        let dir = Sandbox::new();
        let path = dir.file("f", noise(8192));
        set_mode(&path, mode);
        killed(&dir, &format!("patch f -q -o 0 fill:43:8 --atomic{option}"));
        // A store takes a set-ID bit away from whoever is not root.
        set_mode(&path, mode);
        let remedy = format!("patch f --script /dev/null{option}");
        for line in ["cat f", "map f", "sync f"] {
            let text = dir.mmapctl(&words(line));
            assert!(text.contains(&format!("'mmapctl {remedy}'")), "{mode:o}: {line}: {text}");
        }
        let text = dir.mmapctl(&words(&remedy));
        assert!(text.ends_with("exit 0") && read(&path) == noise(8192), "{mode:o}: {text}");
    }
}

#[test]
fn an_undo_script_that_was_replaced_is_not_removed() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(9000));
    let script = dir.join("u");
    let fault = "inject=preadv:error=EIO:delay_enter=3000000:when=1";
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| dir.straced(&["-e", fault], "patch f -o 0 11 --undo u"));
        assert!(eventually(|| script.exists()));
        let other = dir.file("other", b"precious");
        fs::rename(other, &script).unwrap();
        run.join().unwrap()
    });
    assert_eq!(output.exit(), 2, "{}", output);
    assert_eq!(read(&script), b"precious");
    // One that is still its own goes.
    dir.straced(&["-e", "inject=preadv:error=EIO:when=1"], "patch f -o 0 11 --undo v")
        .code(2);
    assert!(!dir.join("v").exists());
}

/// The names of the calls of a patch, in order, up to its last store.
fn calls(dir: &Sandbox, line: &str) -> Vec<String> {
    let trace = "trace=fsync,fdatasync,linkat,renameat2,preadv";
    dir.straced(&["-y", "-e", trace], line).code(0);
    let log = dir.strace_log();
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
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(9000));
    let calls = calls(&dir, "patch f -q -o 0 11 --undo u");
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
    needs!(strace_works());
    let dir = Sandbox::new();
    let path = dir.sparse("f", 64 << 10);
    synced(&path);
    dir.file("s", b"0: -> 58\n0x8000: -> 00\n");
    let calls = calls(&dir, "patch f -q --atomic --script s");
    let first = |name: &str| calls.iter().position(|call| call == name).unwrap();
    assert!(first("preadv") < first("flush"), "{calls:?}");
}

#[test]
fn a_session_whose_child_leaves_a_journal_ends_in_doubt() {
    needs!(strace_works());
    for verb in [
        "fork patch -q -o 0 4242 --atomic",
        "! mmapctl patch f -q -o 0 4242 --atomic",
    ] {
        for fault in ["inject=msync:error=EIO", "inject=msync:signal=KILL"] {
            let dir = Sandbox::new();
            dir.file("f", noise(8192));
            let verb = verb.replace("mmapctl", BINARY);
            let args = ["-qq", "-f", "-o", "log", "-e", "trace=msync", "-e", fault, BINARY];
            let session = [
                "map",
                "f",
                "-q",
                "-c",
                "patch -q -o 9 41",
                "-c",
                &verb,
                "-c",
                "patch -q -o 5 41",
            ];
            dir.program("strace", &[&args[..], &session].concat())
                .outcome()
                .code(4)
                .has("recovery needed: ");
            dir.run("patch f -q --script /dev/null").is("exit 0");
        }
    }
}
