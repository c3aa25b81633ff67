//! What users of other tools type, and typing errors: a clear message, exit code 2, and nothing touched.

use crate::support::*;

fn fixture() -> Sandbox {
    let dir = Sandbox::new();
    dir.file("f", noise(4096));
    dir
}

/// Runs a command line that must be refused at once, with all of `words` in the message.
fn says(dir: &Sandbox, line: &str, words: &[&str]) {
    let before = dir.state("f");
    let text = dir.refused(line);
    for word in words {
        assert!(text.contains(word), "{line}: no '{word}': {text}");
    }
    assert_eq!(dir.state("f"), before, "{line}");
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
        ("map f --watch --hold=1s", "leave out one or the other"),
        ("map f f --watch -- true", "leave out one or the other"),
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
        ("patch f --undo no/u -o 0 00", "make its directory first: 'mkdir -p no'"),
        ("map no/x", "there is no directory no; 'ls .' shows what is there"),
        ("sync 0x40", "write --offset 0x40; if it is how many bytes, --length 0x40"),
        ("sync 0x40..0x80", "write --range 0x40..0x80"),
        ("map 4K", "--length 4K"),
        ("sync +4K", "'mmapctl remap --help' has --size"),
    ] {
        says(&dir, line, &[words]);
    }
    // With a place, a number is but a value.
    dir.refused("patch f -o 0 0x40").lacks("--offset");
    dir.refused("patch f -e 0x40:0x40").lacks("--offset");
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
        says(&dir, line, &[tip, "takes its value after a '='"]);
    }
    // A file of that name is meant, and what is no such value is a file's name, too.
    dir.file("now", b"x");
    dir.run("map f --lock now").code(0).has("total of 2 files");
    dir.run("map f --lock -- true now").code(0);
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
        says(&dir, &format!("{verb} f"), &[&format!("'{verb}'"), tip]);
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
        ("patch f --offset 0x40 --value dead", "leave it out, and write only the value"),
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
        says(&dir, line, &[tip]);
    }
    let output = dir.mmapctl(&["patch", "f", "--value", "dead", "--json"]);
    output.code(2);
    let tip = output.error()["tip"].to_string();
    assert!(tip.contains("write only the value"), "{tip}");
}

#[test]
fn a_line_of_a_session_is_explained_alike() {
    let dir = fixture();
    let before = dir.state("f");
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
        ("patch -o 0 --value dead", "write only the value"),
        ("map --lock now", "write --lock=now"),
        ("cat --watch 1s", "write --watch=1s"),
        ("cat -C", "write -f canonical"),
        ("cat f", "without FILE"),
    ] {
        let output = dir.mmapctl(&["map", "f", "-c", "patch -o 0 00", "-c", verb]);
        let text = output.is_refusal();
        assert!(text.contains(tip) && text.contains("f: -c 2: "), "{verb}: {text}");
        assert_eq!(dir.state("f"), before, "{verb}");
    }
}

#[test]
fn stdin_is_not_mapped_and_a_file_may_be_called_like_it() {
    let dir = fixture();
    for line in ["cat -", "map -", "patch - -o 0 00", "zero - -n 1", "sync -"] {
        says(&dir, line, &["stdin cannot be mapped"]);
    }
    dir.file("-", b"abc");
    dir.run("cat -").is("abc(no newline)\nexit 0");
}

#[test]
fn names_between_nuls_are_recognised_without_0() {
    let dir = fixture();
    dir.file("list", b"./f\0./missing\0");
    dir.refused("map --files-from list").has("add -0");
    dir.run_fed("map --files-from - -0", b"./f\0").code(0);
    for input in [&b"./f\0"[..], b"./f\0\n", b"\0"] {
        dir.refused_fed("map --files-from -", input).has("add -0");
    }
}

#[test]
fn what_has_no_end_is_not_read_to_its_end() {
    let dir = fixture();
    dir.file("long", [b'x'; 4097]);
    for (line, words) in [
        ("patch f --script /dev/zero", "a line is longer than 64 MiB"),
        ("patch f --script /dev/zero --format xxd", "a line is longer than 64 MiB"),
        ("map f --script /dev/zero", "more than 64 MiB of verbs"),
        ("remap f --order @/dev/zero --to out", "more than 64 MiB"),
        ("map --files-from /dev/zero", "longer than 4096 bytes"),
        ("map --files-from /dev/zero -0", "empty names in a row"),
        ("map --files-from long", "longer than 4096 bytes"),
    ] {
        says(&dir, line, &[words]);
    }
    let endless = vec![b' '; (64 << 20) + 2];
    dir.run_fed("map f -c -", &endless).code(2).has("a line on stdin is longer than 64 MiB");
}
