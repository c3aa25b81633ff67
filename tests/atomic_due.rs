//! When a recovery is due: who sees it, whoever holds locks and in whichever session; and journals that are in nobody's way.

use crate::support;
use crate::support::faults::{code, stderr, strace_works, straced};
use crate::support::torn::beside;
use crate::support::{file, noise, run, scratch, spawnable};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

const RECOVER: &str = "patch f --script /dev/null";

#[test]
fn a_lock_of_somebody_else_hides_no_recovery() {
    let dir = scratch();
    let path = support::torn::torn(dir.path());
    // Whoever may read the file may hold its lock.
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    for (line, code) in [
        ("cat f -n 4", 2),
        ("map f", 2),
        ("patch f -o 8 01 --dry-run", 2),
        ("sync f", 4),
    ] {
        let text = run(dir.path(), line);
        assert!(
            text.contains("recovery needed") && text.ends_with(&format!("exit {code}")),
            "{line}: {text}"
        );
    }
}

#[test]
fn a_mark_on_what_is_no_journal_hides_nothing() {
    let dir = scratch();
    file(dir.path(), "f", &noise(64));
    let planted = file(dir.path(), ".f.mmapctl-undo", b"planted");
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o666)).unwrap();
    let holder = File::open(&planted).unwrap();
    support::torn::mark_at_work(&holder);
    for (line, code) in [("cat f", 2), ("map f", 2), ("sync f", 4)] {
        let text = run(dir.path(), line);
        assert!(text.ends_with(&format!("exit {code}")), "{line}: {text}");
    }
}

#[test]
fn no_verb_of_a_session_works_on_a_file_that_was_left_half_patched_meanwhile() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"......");
    let journal = dir.path().join(".f.mmapctl-undo");
    let leave = "! umask 077; echo > .f.mmapctl-undo; true";
    let session = |options: &str, verb: &str| {
        let args: Vec<_> = ["map"]
            .into_iter()
            .chain(options.split(' '))
            .chain(["-c", leave, "-c", verb])
            .collect();
        support::told(&support::mmapctl(dir.path(), &args).output().unwrap())
    };
    for (options, verb, code) in [
        ("f --keep-going", "patch -o 0 42", 2),
        ("f --keep-going", "zero -r ..", 2),
        ("f --keep-going", "remap --size 9", 2),
        ("f --keep-going", "fork patch -o 0 42", 2),
        ("f", "cat", 2),
        ("f", "map", 2),
        ("f", "sync", 4),
        ("f --keep-going --prot rw", "sync", 4),
    ] {
        let told = session(options, verb);
        assert!(
            told.contains("recovery needed") && told.ends_with(&format!("exit {code}")),
            "{options} {verb}: {told}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"......", "{verb}");
        fs::remove_file(&journal).unwrap();
    }
    let told = session("f --ignore-journal", "cat -f raw");
    assert_eq!(told, "......(no newline)\nexit 0");
}

#[test]
fn what_is_watched_is_shown_no_more_once_a_patch_was_cut_short() {
    let dir = scratch();
    file(dir.path(), "f", &noise(64));
    let journal = dir.path().join(".f.mmapctl-undo");
    for args in [&["cat", "f", "--watch=10ms"], &["map", "f", "--watch=10ms"]] {
        let mut child = spawnable(dir.path(), args)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        fs::write(&journal, "x").unwrap();
        fs::set_permissions(&journal, fs::Permissions::from_mode(0o600)).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(stderr(&output).contains("recovery "), "{args:?}: {}", stderr(&output));
        assert_eq!(code(&output), 2);
        fs::remove_file(&journal).unwrap();
    }
    let text = run(dir.path(), "map f --ignore-journal -c -");
    assert!(text.contains("may write") && text.ends_with("exit 2"), "{text}");
}

#[test]
fn a_journal_that_has_served_and_cannot_be_removed_undoes_nothing() {
    let test = "a_journal_that_has_served_and_cannot_be_removed_undoes_nothing";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    file(dir.path(), "f", &noise(64));
    let output = straced(
        dir.path(),
        &["-e", "inject=unlinkat:error=EPERM"],
        "patch f --atomic -o 0 fill:43:8",
    );
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("which has served") && !stderr(&output).contains("in doubt"),
        "{}",
        stderr(&output)
    );
    assert!(fs::read(beside(dir.path())).unwrap().starts_with(b"MMAPDONE"));
    assert!(run(dir.path(), RECOVER).ends_with("exit 0"));
    assert!(fs::read(dir.path().join("f")).unwrap().starts_with(&[0x43; 8]));
    assert!(!beside(dir.path()).exists());
}

#[test]
fn a_folder_renamed_before_the_journal_is_made_gets_none() {
    let test = "a_folder_renamed_before_the_journal_is_made_gets_none";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    for name in ["d", "e"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        file(&dir.path().join(name), "f", &noise(64));
    }
    let log = dir.path().join("strace.log");
    let slow = ["-e", "inject=fdatasync:delay_enter=1000000"];
    let output = std::thread::scope(|scope| {
        let patch = scope.spawn(|| straced(dir.path(), &slow, "patch d/f --atomic -o 0 fill:43:8"));
        let flushes = support::eventually(|| fs::read_to_string(&log).is_ok_and(|log| log.contains("fdatasync")));
        assert!(flushes, "it does not flush");
        fs::rename(dir.path().join("d"), dir.path().join("x")).unwrap();
        fs::rename(dir.path().join("e"), dir.path().join("d")).unwrap();
        patch.join().unwrap()
    });
    let told = stderr(&output);
    assert!(
        code(&output) == 2 && told.contains("another file is at its path"),
        "{told}"
    );
    for name in ["d/f", "x/f"] {
        assert!(fs::read(dir.path().join(name)).unwrap() == noise(64), "{name}");
        let journal = dir.path().join(name).with_file_name(".f.mmapctl-undo");
        assert!(!journal.exists(), "{name}");
    }
}
