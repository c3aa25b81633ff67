//! `--json` and errors: stdout has whole objects or nothing, and the facts of the message are in fields.

use crate::support::strace::*;
use crate::support::*;
use serde_json::{Value, json};

/// A long file, two others, and scripts.
fn fixture() -> Sandbox {
    let dir = Sandbox::new();
    let bytes = noise(2 << 20);
    dir.file("f", &bytes);
    let mut other = bytes.clone();
    other.iter_mut().for_each(|byte| *byte ^= 0xff);
    dir.file("same-length", &other);
    dir.file("short", &bytes[..1000]);
    dir.file("empty", b"");
    dir.file("s", b"0: 00 -> 01\n\n0x40: 0000 -> 0101\n");
    dir.file("past", b"0x200000: 00 -> 01\n");
    dir
}

/// The objects on stdout, each of which must be whole, and on a line of its own.
fn objects(line: &str, stdout: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stdout).expect("JSON is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "{line}: {text}");
    let parse = |object: &str| serde_json::from_str(object).unwrap_or_else(|error| panic!("{line}: {error}: {object}"));
    text.lines().map(parse).collect()
}

fn run(dir: &Sandbox, line: &str) -> Outcome {
    let words = shell_words::split(line).unwrap();
    dir.mmapctl(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn an_error_leaves_nothing_of_an_object_on_stdout() {
    let dir = fixture();
    for line in [
        "patch f --diff short --json",
        "patch f --diff missing --json",
        "patch f --diff . --json",
        "patch f -o 0 --expect 00 01 --json",
        "patch f --script s --json",
        "patch f --script s --dry-run --json",
        "patch f --script past --dry-run --json",
        "patch f --find text:nowhere 00 --json",
        "patch empty -o 0 00 --json",
        "patch f --json",
        "patch f 0x40 dead --json",
        "cat f -r 3M.. --json",
        "cat f --skip-holes --json",
        "cat missing --json",
        "cat f 0x40 --json",
        "zero f -o 0 --json",
        "zero f -r 0..3M --json",
        "remap f --json",
        "remap f --size -3M --json",
        "remap f --order 0,9999 --json",
        "remap f --order reverse --to - --json",
        "map missing --json",
        "map f -r 3M.. --json",
        "map f -c 'cat -r 3M..' --json",
        "map f -c 'patch -o 0 --expect 00 01' --json",
        "map f --prot r -c 'zero -r ..' --json",
        "sync missing --json",
        "dump f --json",
    ] {
        let before = dir.state("f");
        let output = run(&dir, line);
        assert!(!output.status.success() && output.stdout.is_empty(), "{line}: {}", output);
        let error = output.error();
        assert_eq!(error["exit"], output.status.code().unwrap(), "{line}: {error}");
        assert!(error["error"].is_string(), "{line}: {error}");
        assert_eq!(dir.state("f"), before, "{line}");
    }
}

#[test]
fn an_object_begun_before_an_error_is_completed_and_marked() {
    needs!(strace_works());
    let dir = fixture();
    let mut parts = 0;
    for line in [
        "cat f --json",
        "patch f -r .. @same-length --dry-run --json",
        "patch f --diff same-length --json",
    ] {
        for call in ["pread64", "process_vm_readv"] {
            for when in ["1+", "5+"] {
                let fault = format!("inject={call}:error=EIO:when={when}");
                let output = dir.straced(&["-e", &format!("trace={call}"), "-e", &fault], line);
                let objects = objects(&fault, &output.stdout);
                if output.status.success() {
                    continue;
                }
                assert!(objects.len() <= 1, "{fault}");
                for object in objects {
                    assert_eq!(object["complete"], false, "{line}: {fault}");
                    parts += 1;
                }
            }
        }
    }
    assert!(parts > 0, "no error came after the first part");
}

#[test]
fn all_mismatches_are_fields_of_the_error() {
    let dir = fixture();
    let path = dir.file("g", [0x11; 100]);
    let before = State::of(&path);
    let error = |line: &str| {
        let output = run(&dir, line);
        output.code(1);
        assert!(output.stdout.is_empty(), "{line}");
        output.error()
    };
    let text = error("patch g --script s -e '3: 2211 -> 3333' -e '9: 11 -> 12' --json");
    assert_eq!(text["offset"], 0, "{text}");
    assert_eq!(
        text["mismatches"],
        json!([
            {"offset": 0, "found": "11", "expected": "00", "edit": null, "line": 1},
            {"offset": 3, "found": "1111", "expected": "2211", "edit": 1, "line": null},
            {"offset": 0x40, "found": "1111", "expected": "0000", "edit": null, "line": 3},
        ]),
        "{text}"
    );
    let text = error("patch g -o 8 --expect 1122 3344 --json");
    assert_eq!(text["offset"], 9, "{text}");
    assert_eq!(
        text["mismatches"],
        json!([{"offset": 9, "found": "11", "expected": "22", "edit": null, "line": null}])
    );
    assert_eq!(text["file"], "g");
    assert!(text["error"].as_str().unwrap().contains("bytes at 0x9 are 11"), "{text}");
    assert_eq!(State::of(&path), before);
}
