//! `--journal PATH`: what every verb does about a journal that its user names, and what is not taken for one.

use crate::support::faults::{code, stderr, strace_works, straced, words};
use crate::support::torn::{old, torn, torn_with};
use crate::support::{file, json, mmapctl, noise, refused_without_touching, report, run, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A file named "named" of `bytes`, with the rights that a journal is made with.
fn named(dir: &Path, bytes: &[u8]) {
    let path = file(dir, "named", bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn verbs_that_read_refuse_a_file_whose_named_journal_is_there() {
    let dir = scratch();
    torn_with(dir.path(), &dir.path().join("named"));
    for verb in ["cat f", "map f", "patch f -o 0 dead --dry-run", "zero f -n 1 --dry-run"] {
        let line = format!("{verb} --journal named");
        let text = refused_without_touching(dir.path(), &line, b"");
        assert!(
            text.contains("recovery needed") && text.contains("'named'"),
            "{line}: {text}"
        );
        assert!(
            text.contains("mmapctl patch f --script /dev/null --journal named"),
            "{line}: the tip leads nowhere: {text}"
        );
        assert!(dir.path().join("named").exists(), "{line}");
    }
    for line in [
        "cat f --journal named --ignore-journal -n 4",
        "cat f --journal nothing -n 4",
        "cat f -n 4",
    ] {
        assert!(run(dir.path(), line).ends_with("exit 0"), "{line}");
    }
    // A journal beside the file counts as ever.
    torn(dir.path());
    let text = refused_without_touching(dir.path(), "cat f --journal nothing", b"");
    assert!(text.contains(".f.mmapctl-undo"), "{text}");
}

#[test]
fn sync_warns_of_a_named_journal_and_ends_with_4() {
    let dir = scratch();
    torn_with(dir.path(), &dir.path().join("named"));
    assert!(run(dir.path(), "sync f").ends_with("exit 0"));
    let text = run(dir.path(), "sync f --journal named");
    assert!(
        text.starts_with("f: 0x0..0x4e20 durable") && text.ends_with("exit 4"),
        "{text}"
    );
    assert!(
        text.contains("recovery needed") && text.contains("--journal named"),
        "{text}"
    );
}

#[test]
fn sync_says_when_it_cannot_tell_whether_a_recovery_is_due() {
    if !strace_works("sync_says_when_it_cannot_tell_whether_a_recovery_is_due") {
        return;
    }
    let dir = scratch();
    torn(dir.path());
    let output = straced(dir.path(), &["-e", "inject=readlink:error=EACCES"], "sync f");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("cannot tell where its recovery journal is"),
        "{}",
        stderr(&output)
    );
    // What was asked for is done all the same.
    assert!(String::from_utf8_lossy(&output.stdout).contains("durable"));
}

#[test]
fn a_named_journal_that_cannot_be_looked_at_is_said_by_those_who_read() {
    let dir = scratch();
    file(dir.path(), "f", &old());
    file(dir.path(), "g", b"");
    let long = "x".repeat(5_000);
    for (line, want) in [("cat f --journal g/named -n 1", 2), ("sync f --journal g/named", 2)] {
        let text = run(dir.path(), line);
        assert!(text.ends_with(&format!("exit {want}")), "{line}: {text}");
        assert!(
            text.contains("cannot tell whether") && text.contains("'g/named'"),
            "{line}: {text}"
        );
    }
    assert!(run(dir.path(), &format!("cat f -n 1 --journal {long}")).ends_with("exit 2"));
}

#[test]
fn an_empty_journal_that_a_power_cut_left_under_a_users_name_is_taken_away() {
    let dir = scratch();
    for line in [
        "patch f -o 0 dead --journal named",
        "patch f -o 0 beef --atomic --journal named",
    ] {
        file(dir.path(), "f", &old());
        named(dir.path(), b"");
        let text = run(dir.path(), line);
        assert!(text.ends_with("exit 0"), "{line}: {text}");
        assert!(!dir.path().join("named").exists(), "{line}: {text}");
    }
    // One that is shared, or has other rights, is not one that was made for this.
    file(dir.path(), "f", &old());
    named(dir.path(), b"");
    fs::hard_link(dir.path().join("named"), dir.path().join("other")).unwrap();
    refused_without_touching(dir.path(), "patch f -o 0 dead --journal named", b"");
    fs::remove_file(dir.path().join("other")).unwrap();
    fs::set_permissions(dir.path().join("named"), fs::Permissions::from_mode(0o640)).unwrap();
    refused_without_touching(dir.path(), "patch f -o 0 dead --journal named", b"");
    assert!(dir.path().join("named").exists());
}

#[test]
fn zeros_under_a_users_name_stay_and_the_message_says_both_things_that_they_may_be() {
    let dir = scratch();
    file(dir.path(), "f", &old());
    for zeros in [1, 600, 300_000] {
        named(dir.path(), &vec![0; zeros]);
        let text = refused_without_touching(dir.path(), "patch f -o 0 dead --atomic --journal named", b"");
        assert!(text.contains("nothing but zeros") && text.contains("power"), "{text}");
        assert!(
            text.contains("mv -nT named refused-journal") && text.contains("another path"),
            "{text}"
        );
        assert_eq!(fs::read(dir.path().join("named")).unwrap(), vec![0; zeros]);
    }
}

#[test]
fn nobody_is_told_to_remove_a_file_that_is_no_journal() {
    let dir = scratch();
    file(dir.path(), "f", &old());
    for bytes in [&b"milk, bread"[..], &noise(9_000), b"MMAP"] {
        named(dir.path(), bytes);
        let text = refused_without_touching(dir.path(), "patch f -o 0 dead --atomic --journal named", b"");
        assert!(text.contains("no journal of mmapctl's"), "{text}");
        assert!(
            text.contains("another path") && !text.contains("rm ") && !text.contains("mv "),
            "{text}"
        );
        assert_eq!(fs::read(dir.path().join("named")).unwrap(), bytes);
    }
}

#[test]
fn reports_say_whether_the_file_was_put_back_first() {
    let dir = scratch();
    for line in [
        "patch f -o 0 dead",
        "patch f --script /dev/null",
        "zero f -n 4",
        "remap f --size +1",
    ] {
        torn(dir.path());
        assert_eq!(report(dir.path(), line)["recovered"], true, "{line}");
        assert_eq!(report(dir.path(), line)["recovered"], false, "{line}");
    }
    // A dry run reads, and recovers nothing.
    let output = mmapctl(dir.path(), &words("zero f -n 4 --dry-run --json"))
        .output()
        .unwrap();
    assert_eq!(json(&output.stdout)["recovered"], false);
}

#[test]
fn an_answer_of_no_says_that_the_file_was_put_back_first() {
    let dir = scratch();
    for (line, code) in [
        ("patch f -o 0 dead --expect 1234", 1),
        ("patch f --find deadbeefdeadbeef 00", 1),
        ("patch f -o 0 dead --undo f", 2),
        ("zero f -r 0..1G", 2),
    ] {
        torn(dir.path());
        let text = run(dir.path(), line);
        // What is refused before the file is opened recovers nothing.
        let recovered = !line.contains("--undo");
        assert!(text.ends_with(&format!("exit {code}")), "{line}: {text}");
        assert_eq!(
            text.contains("put back as it was before a patch"),
            recovered,
            "{line}: {text}"
        );
        torn(dir.path());
        let output = mmapctl(dir.path(), &words(&format!("{line} --json"))).output().unwrap();
        let error = json(&output.stderr);
        assert_eq!(
            (&error["recovered"], &error["exit"]),
            (&recovered.into(), &code.into()),
            "{line}"
        );
    }
}
