//! What people type who know other tools, and slips of the hand: a clear word, code 2, and nothing touched.

use crate::support;
use crate::support::{State, check_refusal, file, json, mmapctl, noise, run_with, scratch, told};
use std::path::Path;

fn fixture() -> tempfile::TempDir {
    let dir = scratch();
    file(dir.path(), "f", &noise(4096));
    dir
}

/// Runs a command line that must be refused at once, with all of `words` in what is said.
fn says(dir: &Path, line: &str, words: &[&str]) {
    let before = State::of(&dir.join("f"));
    let text = support::refused(dir, line, b"");
    for word in words {
        assert!(text.contains(word), "{line}: no '{word}': {text}");
    }
    assert_eq!(State::of(&dir.join("f")), before, "{line}");
}

#[test]
fn a_place_or_a_length_without_its_option_is_recognised() {
    let dir = fixture();
    for (line, words) in [
        ("patch f 0x40 dead", "write --offset 0x40"),
        ("patch f 0 dead", "write --offset 0"),
        ("patch f 64 dead", "give the place with --offset"),
        ("patch f -o 0 0xaa,0xbb", "write aabb"),
        ("remap f --order 1 0", "an order is one word"),
        ("remap f --order=1 0", "an order is one word"),
        ("map f --watch --hold=1s", "leave out the one or the other"),
        ("map f f --watch -- true", "leave out the one or the other"),
        ("zero f 0x40 16", "write --offset 0x40 --length 16"),
        ("zero f 0x40", "write --offset 0x40 --length LENGTH"),
        ("zero f 0x40..0x50", "write --range 0x40..0x50"),
        ("cat f 0x40", "write --offset 0x40 --length"),
        ("cat f 0x40-0x80", "write --range 0x40..0x80"),
        ("cat f 4K 2K", "write --offset 4K --length 2K"),
        ("cat f f", "cat takes one FILE"),
        ("remap f 1M", "write --size 1M"),
        ("remap f +4K", "write --size +4K"),
        ("remap f -4K", "write --size -4K"),
        ("cat f -16", "write --offset -16 --length 16"),
        ("patch f 0x40=dead", "write --edit '0x40: dead'"),
        ("patch f 0x40:dead", "write --edit '0x40: dead'"),
        ("patch f -o 0 --insert 90", "see 'mmapctl patch --help'"),
        ("patch f --undo no/u -o 0 00", "make its folder first: 'mkdir -p no'"),
        ("map no/x", "there is no folder no; 'ls .' shows what is there"),
        (
            "sync 0x40",
            "write --offset 0x40; if it is how many bytes, --length 0x40",
        ),
        ("sync 0x40..0x80", "write --range 0x40..0x80"),
        ("map 4K", "--length 4K"),
        ("sync +4K", "'mmapctl remap --help' has --size"),
    ] {
        says(dir.path(), line, &[words]);
    }
    // With a place, a number is but a value.
    let text = support::refused(dir.path(), "patch f -o 0 0x40", b"");
    assert!(!text.contains("--offset"), "{text}");
    let text = support::refused(dir.path(), "patch f -e 0x40:0x40", b"");
    assert!(!text.contains("--offset"), "{text}");
}

#[test]
fn a_value_that_belongs_to_the_option_before_it_is_no_file() {
    let dir = fixture();
    for (line, tip) in [
        ("map f --hold 0.1s", "write --hold=0.1s"),
        ("map --hold 10 f", "write --hold=10"),
        ("map f --watch 1s", "write --watch=1s"),
        ("cat f --watch 500ms", "write --watch=500ms"),
        ("map f --lock now", "write --lock=now"),
        ("map f --lock on-fault", "write --lock=on-fault"),
        ("map --memfd pool -n 4K", "write --memfd=pool"),
        ("map --anonymous -n 2M --huge 2M", "write --huge=2M"),
    ] {
        says(dir.path(), line, &[tip, "takes its value after a '='"]);
    }
    // A file of that name is meant, and what is no such value is a file's name, too.
    file(dir.path(), "now", b"x");
    let told = support::run(dir.path(), "map f --lock now");
    assert!(told.contains("total of 2 files") && told.ends_with("exit 0"), "{told}");
    let told = support::run(dir.path(), "map f --lock -- true now");
    assert!(told.ends_with("exit 0"), "{told}");
}

#[test]
fn verbs_of_other_tools_lead_to_ours() {
    let dir = fixture();
    for (verb, tip) in [
        ("dump", "'mmapctl cat f -x' shows the bytes"),
        ("hexdump", "'mmapctl cat f -x'"),
        ("XXD", "'mmapctl cat f -x'"),
        ("edit", "the verb is patch"),
        ("write", "the verb is patch"),
        ("undo", "patch --script PATH applies the script"),
        ("diff", "patch --diff OTHER prints"),
        ("resize", "remap changes the length"),
        ("truncate", "remap changes the length"),
        ("fill", "fill:ff:16"),
        ("wipe", "zero makes a range read as zeros"),
        ("flush", "sync makes a range durable"),
        ("stat", "'mmapctl map f' shows"),
        ("pacth", "did you mean patch?"),
        ("frobnicate", "the verbs are map, cat, patch, sync, zero and remap"),
    ] {
        says(dir.path(), &format!("{verb} f"), &[&format!("'{verb}'"), tip]);
    }
}

#[test]
fn options_of_other_tools_lead_to_ours() {
    let dir = fixture();
    for (line, tip) in [
        ("cat f -C", "write -f canonical;"),
        ("cat f --hex", "write -x;"),
        ("cat f -s 0x40", "write --offset 0x40;"),
        ("cat f -s0x40", "write --offset 0x40;"),
        ("cat f --skip", "write --offset 0x40;"),
        ("cat f --seek=16", "write --offset 16;"),
        ("cat f -l 32", "write --length 32;"),
        ("cat f --len", "write --length 16;"),
        ("cat f -p", "write -f plain;"),
        ("cat f --lenght 4", "did you mean --length?"),
        ("cat f --quux", "see 'mmapctl cat --help'"),
        (
            "patch f --offset 0x40 --value dead",
            "leave it out, and write the value alone",
        ),
        ("patch f -s 0x40 dead", "write --offset 0x40;"),
        ("patch f -i -o 0 dead", "leave it out"),
        ("patch f --check -o 0 dead", "write --expect"),
        ("zero f -s 0x40 -l 16", "write --offset 0x40;"),
        ("zero f -o 0 -l 16", "write --length 16;"),
        ("zero f -d", "write --sparsify;"),
        ("remap f -s 1M", "write --size 1M;"),
        ("map f -t", "write --populate;"),
        ("--frobnicate", "see 'mmapctl --help'"),
    ] {
        says(dir.path(), line, &[tip]);
    }
    let output = mmapctl(dir.path(), &["patch", "f", "--value", "dead", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let tip = json(&output.stderr)["tip"].to_string();
    assert!(tip.contains("write the value alone"), "{tip}");
}

#[test]
fn a_line_of_a_session_is_explained_alike() {
    let dir = fixture();
    let before = State::of(&dir.path().join("f"));
    for (verb, tip) in [
        ("dump", "cat -x shows the bytes"),
        ("edit", "the verb is patch"),
        ("resize 1M", "remap changes the length"),
        ("remap 1M", "write --size 1M"),
        ("zero 0x40 16", "write --offset 0x40 --length 16"),
        ("zero -o 0x40", "add --length"),
        ("cat 0x40", "write --offset 0x40 --length 16"),
        ("patch 0x40 dead", "write --offset 0x40"),
        ("patch f -o 0 dead", "without FILE"),
        ("patch -o 0 --value dead", "write the value alone"),
        ("map --lock now", "write --lock=now"),
        ("cat --watch 1s", "write --watch=1s"),
        ("cat -C", "write -f canonical"),
        ("cat f", "without FILE"),
    ] {
        let output = mmapctl(dir.path(), &["map", "f", "-c", "patch -o 0 00", "-c", verb])
            .output()
            .unwrap();
        let text = check_refusal(verb, &output);
        assert!(text.contains(tip) && text.contains("f: -c 2: "), "{verb}: {text}");
        assert_eq!(State::of(&dir.path().join("f")), before, "{verb}");
    }
}

#[test]
fn stdin_is_not_mapped_and_a_file_may_be_called_like_it() {
    let dir = fixture();
    for line in ["cat -", "map -", "patch - -o 0 00", "zero - -n 1", "sync -"] {
        says(dir.path(), line, &["stdin cannot be mapped"]);
    }
    file(dir.path(), "-", b"abc");
    assert_eq!(support::run(dir.path(), "cat -"), "abc(no newline)\nexit 0");
}

#[test]
fn names_between_nuls_are_recognised_without_0() {
    let dir = fixture();
    file(dir.path(), "list", b"./f\0./missing\0");
    let text = support::refused(dir.path(), "map --files-from list", b"");
    assert!(text.contains("add -0"), "{text}");
    let told = run_with(dir.path(), "map --files-from - -0", b"./f\0");
    assert!(told.ends_with("exit 0"), "{told}");
    for input in [&b"./f\0"[..], b"./f\0\n", b"\0"] {
        let text = support::refused(dir.path(), "map --files-from -", input);
        assert!(text.contains("add -0"), "{text}");
    }
}

#[test]
fn what_has_no_end_is_not_read_to_its_end() {
    let dir = fixture();
    file(dir.path(), "long", &[b'x'; 4097]);
    for (line, words) in [
        ("patch f --script /dev/zero", "a line is longer than 64 MiB"),
        (
            "patch f --script /dev/zero --format xxd",
            "a line is longer than 64 MiB",
        ),
        ("map f --script /dev/zero", "more than 64 MiB of verbs"),
        ("remap f --order @/dev/zero --to out", "more than 64 MiB"),
        ("map --files-from /dev/zero", "longer than 4096 bytes"),
        ("map --files-from /dev/zero -0", "empty names in a row"),
        ("map --files-from long", "longer than 4096 bytes"),
    ] {
        says(dir.path(), line, &[words]);
    }
    let endless = vec![b' '; (64 << 20) + 2];
    let text = run_with(dir.path(), "map f -c -", &endless);
    assert!(
        text.contains("a line on stdin is longer than 64 MiB") && text.ends_with("exit 2"),
        "{text}"
    );
}
