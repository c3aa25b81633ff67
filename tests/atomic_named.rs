//! `--journal PATH`: what every verb does with a named journal, and which files are not accepted as one.

use crate::support::strace::*;
use crate::support::torn::{old, torn, torn_with};
use crate::support::*;
use std::fs;

/// Makes the file "named" of `bytes`, with the mode of a journal.
fn named(dir: &Sandbox, bytes: &[u8]) {
    let path = dir.file("named", bytes);
    set_mode(path, 0o600);
}

#[test]
fn verbs_that_read_refuse_a_file_whose_named_journal_is_there() {
    let dir = Sandbox::new();
    torn_with(&dir, &dir.join("named"));
    for verb in ["cat f", "map f", "patch f -o 0 dead --dry-run", "zero f -n 1 --dry-run"] {
        let line = format!("{verb} --journal named");
        let text = dir.refused_untouched(&line);
        text.has("recovery needed").has("'named'");
        assert!(
            text.contains("mmapctl patch f --script /dev/null --journal named"),
            "{line}: the tip leads nowhere: {text}"
        );
        assert!(dir.join("named").exists(), "{line}");
    }
    for line in [
        "cat f --journal named --ignore-journal -n 4",
        "cat f --journal nothing -n 4",
        "cat f -n 4",
    ] {
        dir.run(line).code(0);
    }
    // A journal beside the file counts as ever.
    torn(&dir);
    dir.refused_untouched("cat f --journal nothing").has(".f.mmapctl-undo");
}

#[test]
fn sync_warns_of_a_named_journal_and_ends_with_4() {
    let dir = Sandbox::new();
    torn_with(&dir, &dir.join("named"));
    dir.run("sync f").code(0);
    dir.run("sync f --journal named")
        .code(4)
        .begins("f: 0x0..0x4e20 durable")
        .has("recovery needed")
        .has("--journal named");
}

#[test]
fn sync_says_when_it_cannot_tell_whether_a_recovery_is_due() {
    needs!(strace_works());
    let dir = Sandbox::new();
    torn(&dir);
    let output = dir.inject(&["readlink:error=EACCES"], "sync f");
    output.code(2).stderr_has("cannot tell where its recovery journal is");
    // The sync is done nevertheless.
    assert!(String::from_utf8_lossy(&output.stdout).contains("durable"));
}

#[test]
fn readers_report_a_named_journal_they_cannot_look_at() {
    let dir = Sandbox::new();
    dir.file("f", old());
    dir.file("g", b"");
    let long = "x".repeat(5_000);
    for (line, want) in [("cat f --journal g/named -n 1", 2), ("sync f --journal g/named", 2)] {
        dir.run(line).code(want).has("cannot tell whether").has("'g/named'");
    }
    dir.run(&format!("cat f -n 1 --journal {long}")).code(2);
}

#[test]
fn an_empty_named_journal_of_a_power_cut_is_removed() {
    let dir = Sandbox::new();
    for line in [
        "patch f -o 0 dead --journal named",
        "patch f -o 0 beef --atomic --journal named",
    ] {
        dir.file("f", old());
        named(&dir, b"");
        let text = dir.run(line);
        text.code(0);
        assert!(!dir.join("named").exists(), "{line}: {text}");
    }
    // One that is shared, or has other rights, is not one that was made for this.
    dir.file("f", old());
    named(&dir, b"");
    fs::hard_link(dir.join("named"), dir.join("other")).unwrap();
    dir.refused_untouched("patch f -o 0 dead --journal named");
    fs::remove_file(dir.join("other")).unwrap();
    set_mode(dir.join("named"), 0o640);
    dir.refused_untouched("patch f -o 0 dead --journal named");
    assert!(dir.join("named").exists());
}

#[test]
fn a_named_journal_of_zeros_is_kept_and_explained() {
    let dir = Sandbox::new();
    dir.file("f", old());
    for zeros in [1, 600, 300_000] {
        named(&dir, &vec![0; zeros]);
        dir.refused_untouched("patch f -o 0 dead --atomic --journal named")
            .has("only zeros")
            .has("power")
            .has("mv -nT named refused-journal")
            .has("another path");
        assert_eq!(dir.read("named"), vec![0; zeros]);
    }
}

#[test]
fn nobody_is_told_to_remove_a_file_that_is_no_journal() {
    let dir = Sandbox::new();
    dir.file("f", old());
    for bytes in [&b"milk, bread"[..], &noise(9_000), b"MMAP"] {
        named(&dir, bytes);
        dir.refused_untouched("patch f -o 0 dead --atomic --journal named")
            .has("not a journal of mmapctl")
            .has("another path")
            .lacks("rm ")
            .lacks("mv ");
        assert_eq!(dir.read("named"), bytes);
    }
}

#[test]
fn reports_say_whether_the_file_was_put_back_first() {
    let dir = Sandbox::new();
    for line in [
        "patch f -o 0 dead",
        "patch f --script /dev/null",
        "zero f -n 4",
        "remap f --size +1",
    ] {
        torn(&dir);
        assert_eq!(dir.report(line)["recovered"], true, "{line}");
        assert_eq!(dir.report(line)["recovered"], false, "{line}");
    }
    // A dry run reads, and recovers nothing.
    let output = dir.mmapctl(&words("zero f -n 4 --dry-run --json"));
    assert_eq!(json(&output.stdout)["recovered"], false);
}

#[test]
fn an_answer_of_no_says_that_the_file_was_put_back_first() {
    let dir = Sandbox::new();
    for (line, code) in [
        ("patch f -o 0 dead --expect 1234", 1),
        ("patch f --find deadbeefdeadbeef 00", 1),
        ("patch f -o 0 dead --undo f", 2),
        ("zero f -r 0..1G", 2),
    ] {
        torn(&dir);
        let text = dir.run(line);
        // What is refused before the file is opened recovers nothing.
        let recovered = !line.contains("--undo");
        text.code(code);
        assert_eq!(text.contains("put back as it was before an interrupted patch"), recovered, "{line}: {text}");
        torn(&dir);
        let output = dir.mmapctl(&words(&format!("{line} --json")));
        let error = output.error();
        assert_eq!(error["recovered"], recovered, "{line}");
        assert_eq!(error["exit"], code, "{line}");
    }
}
