//! The lock, and the safety rules for writers, where another process comes between: a verb that stores has the lock, or
//! does not store.

use crate::support::*;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// A command that says that it runs, and ends when the test lets it.
const WAITS: &str = "touch ready; while [ ! -e go ]; do sleep .01; done";

/// Runs a session on `f`, during whose first line, which [`WAITS`], another process takes the lock and keeps it.
fn with_the_lock_taken(dir: &Sandbox, lines: &[&str]) -> Outcome {
    let mut args = vec!["map", "f", "--keep-going", "--lock-timeout", "100ms"];
    args.extend(lines.iter().flat_map(|line| ["-c", line]));
    let mut command = dir.command(&args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(eventually(|| dir.join("ready").exists()));
    let other = File::open(dir.join("f")).unwrap();
    assert!(eventually(|| other.try_lock().is_ok()), "the lock is not lent");
    dir.file("go", "");
    let text = child.outcome();
    other.unlock().unwrap();
    text
}

#[test]
fn without_its_lock_a_session_stores_nothing() {
    let verbs = ["patch -o 0 43", "zero -r 1..2", "fork patch -o 2 44", "remap --size +1"];
    for first in [
        format!("! {WAITS}"),
        format!("fork ! {WAITS}"),
        format!("fork ! {WAITS}; kill -9 $PPID"),
    ] {
        let dir = Sandbox::new();
        let path = dir.file("f", [b'A'; 9000]);
        let lines: Vec<_> = std::iter::once(first.as_str()).chain(verbs).collect();
        let text = with_the_lock_taken(&dir, &lines);
        assert!(read(&path) == [b'A'; 9000], "{first}: {text}");
        assert!(!text.contains("changed") && text.ends_with("exit 2") || text.ends_with("exit 137"), "{text}");
        for number in 2..=5 {
            assert!(text.contains(&format!("-c {number}: cannot lock it")), "{first}: {text}");
        }
    }
}

#[test]
fn a_lock_that_is_free_again_is_taken_before_the_next_store() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'A'; 100]);
    let free = "! touch free; sleep .5";
    let waits = format!("! {WAITS}");
    let args = ["map", "f", "-q", "--keep-going", "--lock-timeout", "100ms"];
    let lines = ["-c", &waits, "-c", free, "-c", "patch -o 0 43"];
    let mut command = dir.command(&[&args[..], &lines].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(eventually(|| dir.join("ready").exists()));
    let other = File::open(&path).unwrap();
    assert!(eventually(|| other.try_lock().is_ok()));
    dir.file("go", "");
    assert!(eventually(|| dir.join("free").exists()));
    other.unlock().unwrap();
    let text = child.outcome();
    text.has("-c 1: cannot lock it").lacks("-c 3");
    assert_eq!(read(&path)[0], 0x43, "{text}");
}

#[test]
fn a_session_whose_child_was_killed_holds_its_lock_again() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'A'; 100]);
    let mut command = dir.command(&["map", "f", "-q", "--keep-going", "-c", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    lines.write_all(b"fork ! kill -9 $PPID\npatch -q -o 0 99\n").unwrap();
    assert!(eventually(|| read(&path)[0] == 0x99));
    let taken = File::open(&path).unwrap().try_lock();
    assert!(matches!(taken, Err(fs::TryLockError::WouldBlock)), "{taken:?}");
    drop(lines);
    child.wait().unwrap();
}

#[test]
fn rights_that_change_while_the_lock_is_waited_for_are_kept() {
    for mode in [0o4755, 0o2755, 0o444] {
        let dir = Sandbox::new();
        let path = dir.file("f", [b'A'; 100]);
        set_mode(&path, 0o755);
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        let mut command = dir.command(&["patch", "f", "-o", "0", "43", "--lock-timeout", "100s"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        set_mode(&path, mode);
        other.unlock().unwrap();
        let text = child.outcome();
        assert!(text.contains("cannot write to it") && text.ends_with("exit 2"), "{mode:o}: {text}");
        assert!(read(&path) == [b'A'; 100]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn rights_that_change_in_a_session_are_kept() {
    for mode in ["u+s", "g+s", "a-w"] {
        let dir = Sandbox::new();
        let path = dir.file("f", [b'A'; 100]);
        set_mode(&path, 0o755);
        let changes = format!("! chmod {mode} f");
        for verb in ["patch -o 0 43", "zero -r 0..1", "fork patch -o 0 43", "remap --size +1"] {
            dir.mmapctl(&["map", "f", "-c", &changes, "-c", verb]).code(2).has("cannot write to it");
            assert!(read(&path) == [b'A'; 100], "{mode}: {verb}");
            set_mode(&path, 0o755);
        }
        let args = ["map", "f", "--force", "-q", "-c", &changes, "-c", "patch -q -o 0 43"];
        let text = dir.command(&args).outcome();
        assert_eq!(text, "exit 0", "{mode}");
    }
}
