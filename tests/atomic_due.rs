//! When a recovery is due: every verb sees it, under any locks and in any session; and journals that do not matter.

use crate::support::strace::*;
use crate::support::torn::beside;
use crate::support::*;
use std::fs::{self, File};

const RECOVER: &str = "patch f --script /dev/null";

#[test]
fn a_lock_of_somebody_else_hides_no_recovery() {
    let dir = Sandbox::new();
    let path = torn::torn(&dir);
    // Every user who may read the file may hold its lock.
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    for (line, code) in [
        ("cat f -n 4", 2),
        ("map f", 2),
        ("patch f -o 8 01 --dry-run", 2),
        ("sync f", 4),
    ] {
        dir.run(line).code(code).has("recovery needed");
    }
}

#[test]
fn a_mark_on_what_is_no_journal_hides_nothing() {
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    let planted = dir.file(".f.mmapctl-undo", b"planted");
    set_mode(&planted, 0o666);
    let holder = File::open(&planted).unwrap();
    torn::mark_at_work(&holder);
    for (line, code) in [("cat f", 2), ("map f", 2), ("sync f", 4)] {
        dir.run(line).code(code);
    }
}

#[test]
fn session_verbs_refuse_a_file_half_patched_meanwhile() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"......");
    let journal = dir.join(".f.mmapctl-undo");
    let leave = "! umask 077; echo > .f.mmapctl-undo; true";
    let session = |options: &str, verb: &str| {
        let args: Vec<_> = ["map"].into_iter().chain(options.split(' ')).chain(["-c", leave, "-c", verb]).collect();
        dir.mmapctl(&args)
    };
    for (options, verb, code) in [
        // The lock was lent to the command that left it, so the command is what failed.
        ("f --keep-going", "patch -o 0 42", 4),
        ("f --keep-going", "zero -r ..", 4),
        ("f --keep-going", "remap --size 9", 4),
        ("f --keep-going", "fork patch -o 0 42", 4),
        ("f", "cat", 2),
        ("f", "map", 2),
        ("f", "sync", 4),
        ("f --keep-going --prot rw", "sync", 4),
    ] {
        session(options, verb).code(code).has("recovery needed");
        assert_eq!(read(&path), b"......", "{verb}");
        fs::remove_file(&journal).unwrap();
    }
    session("f --ignore-journal", "cat -f raw").is("......(no newline)\nexit 0");
}

#[test]
fn what_is_watched_is_shown_no_more_once_a_patch_was_cut_short() {
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    let journal = dir.join(".f.mmapctl-undo");
    for args in [&["cat", "f", "--watch=10ms"], &["map", "f", "--watch=10ms"]] {
        let mut child = dir
            .command(args)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        fs::write(&journal, "x").unwrap();
        set_mode(&journal, 0o600);
        let output = child.outcome();
        assert!(output.stderr().contains("recovery "), "{args:?}: {}", output.stderr());
        output.code(2);
        fs::remove_file(&journal).unwrap();
    }
    dir.run("map f --ignore-journal -c -").code(2).has("may write");
}

#[test]
fn a_used_journal_that_cannot_be_removed_undoes_nothing() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    dir.inject(&["unlinkat:error=EPERM"], "patch f --atomic -o 0 fill:43:8")
        .code(3)
        .stderr_has("finished journal")
        .lacks("in doubt");
    assert!(read(beside(&dir)).starts_with(b"MMAPDONE"));
    dir.run(RECOVER).code(0);
    assert!(dir.read("f").starts_with(&[0x43; 8]));
    assert!(!beside(&dir).exists());
}

#[test]
fn a_folder_renamed_before_the_journal_is_made_gets_none() {
    needs!(strace_works());
    let dir = Sandbox::new();
    for name in ["d", "e"] {
        fs::create_dir(dir.join(name)).unwrap();
        Sandbox::at(dir.join(name)).file("f", noise(64));
    }
    let log = dir.join("strace.log");
    let slow = ["fdatasync:delay_enter=1000000"];
    let output = std::thread::scope(|scope| {
        let patch = scope.spawn(|| dir.inject(&slow, "patch d/f --atomic -o 0 fill:43:8"));
        let flushes = eventually(|| fs::read_to_string(&log).is_ok_and(|log| log.contains("fdatasync")));
        assert!(flushes, "it does not flush");
        fs::rename(dir.join("d"), dir.join("x")).unwrap();
        fs::rename(dir.join("e"), dir.join("d")).unwrap();
        patch.join().unwrap()
    });
    let text = output.stderr();
    assert!(output.exit() == 2 && text.contains("another file or directory is at its path"), "{text}");
    for name in ["d/f", "x/f"] {
        assert!(dir.read(name) == noise(64), "{name}");
        let journal = dir.join(name).with_file_name(".f.mmapctl-undo");
        assert!(!journal.exists(), "{name}");
    }
}
