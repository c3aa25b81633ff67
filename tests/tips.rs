//! Tips that once said to lose data, and the sources: no tip names a command that takes bytes away. What tips say to
//! type is typed by [`tips`], for every tip that any test sees.

use crate::support::*;
use std::fs;
use std::path::Path;

#[test]
fn tips_that_told_to_lose_data_say_what_to_type_instead() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(4096));
    dir.file("short", noise(1000));
    dir.file("empty", b"");
    dir.file("past.mmp", b"0xfff: 0000 -> 0101\n");
    dir.file("cut.mmp", b"size 0x1000 -> 0x10\nsize 0x1000 -> 0x20\n");
    dir.file("zeros", [0; 64]);
    for (line, tip) in [
        ("patch f -o 0 00 --atomic --journal f", "give --journal another path"),
        ("patch f -o 0 00 --journal zeros", "another path"),
        ("patch f --diff short", "'cmp f short' shows where they differ first"),
        ("patch short --diff f", "'cmp short f'"),
        ("patch /dev/sdz -o 0 00", "'ls /dev' shows what is there"),
        ("patch missing -o 0 00", "'ls .' shows what is there"),
        ("patch f --script past.mmp", "'stat f' shows its length"),
        ("patch f --script cut.mmp", "one size line"),
        ("patch f --offset 0x40 --value dead", "leave it out"),
        ("patch f -r 0..8 dead", "give only --offset"),
        ("patch f -o 0 --expect 0102030405 0102030405", "'mmapctl cat f --range 0x"),
        ("patch f --find text:nowhere 00", "'mmapctl cat f -x' shows what is there"),
        ("zero f -r 0..8K", "'stat f' shows its length"),
        ("zero f -o 0x800", "add --length"),
        ("zero f -r 0x800..0x400", "write 0x400..0x800"),
        ("remap f --size -1M", "0x1000 is the present one"),
        ("remap f --order reverse --to short", "the path of a new file"),
        ("remap empty --order reverse", "--size"),
        ("remap f --size 4K --keep-file", "'remap --size +4K --keep-file'"),
        ("map f --hold 1s", "write --hold=1s"),
        ("map f --ready-fd 9 --hold=1s", "put 9>&1"),
        ("cat f -o 5000", "offsets go up to 0x1000"),
    ] {
        let before = State::of(&path);
        // It types what the tip says, in a copy.
        let text = dir.run(line);
        assert!(text.contains("!   tip: ") && text.contains(tip), "{line}: no '{tip}': {text}");
        text.lacks("short --size").lacks("past.mmp --size");
        assert_eq!(State::of(&path), before, "{line}");
    }
    set_mode(&path, 0o4755);
    dir.run("patch f -o 0 00").has("add --force").lacks("chmod");
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    dir.run("cat fifo").has("each byte once").lacks("'cat fifo'");
}

#[test]
fn names_stay_quoted_in_tips_and_scripts_control_no_terminal() {
    let dir = Sandbox::new();
    let hostile = "q mmapctl cat FILE$(touch PWNED)";
    dir.file(hostile, noise(100));
    let args = ["patch", hostile, "-o", "0", "--expect", "11", "00"];
    let text = dir.mmapctl(&args);
    assert_eq!(text.matches("touch PWNED").count(), 2, "{text}");
    dir.file("f", noise(100));
    let bad = "\x1b]0;title\x07\x1b[31m\u{9b}31m";
    for option in ["--prot", "--color", "--advise", "--hold"] {
        let arg = format!("{option}={bad}");
        let text = dir.mmapctl(&["map", "f", &arg]);
        let controls = |c: char| c.is_control() && c != '\n';
        assert!(text.ends_with("exit 2") && !text.contains(controls), "{option}: {text:?}");
    }
    for (start, line) in [
        ("0x10: -> zzz", "patch f --script s"),
        ("# mmapctl-patch ", "patch f --script s"),
        ("zzz", "patch f --script s"),
        ("zzz", "remap f --order @s"),
        ("patch -o 0 ", "map f --script s"),
        ("zzz", "map f --script s"),
    ] {
        dir.file("s", format!("{start}{bad}\n"));
        let text = dir.run(line);
        let controls = |c: char| c.is_control() && c != '\n';
        text.code(2);
        assert!(!text.chars().any(controls), "{text}");
    }
}

#[test]
fn the_tip_of_a_recovery_names_the_file_that_waits_for_it() {
    let dir = Sandbox::new();
    dir.file("a b", noise(100));
    dir.file("g", noise(100));
    let journal = dir.file(".a b.mmapctl-undo", b"");
    set_mode(journal, 0o600);
    let output = dir.mmapctl(&["patch", "g", "--diff", "a b"]);
    let text = output.is_refusal();
    assert!(text.contains("'mmapctl patch 'a b' --script /dev/null'"), "{text}");
}

/// Every text between double quotes of the sources, with the place that it stands in.
fn literals() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in (1..).zip(code.lines()) {
                let line = line.split("// ").next().unwrap_or_default();
                let mut parts = line.split('"').skip(1).step_by(2);
                all.extend(parts.by_ref().map(|part| (format!("{}:{number}", path.display()), part.to_string())));
            }
        }
    }
    all
}

#[test]
fn no_text_of_the_sources_tells_to_take_bytes_away() {
    let all = literals();
    let tips = |wanted: &str| all.iter().any(|(_, text)| text.contains(wanted));
    assert!(all.len() > 1000 && tips("shows what is there") && tips("where they differ first"), "{}", all.len());
    for (place, text) in &all {
        for harmful in [
            "'rm ",
            ": rm ",
            "rm {",
            "'mv ",
            "'dd ",
            "'truncate ",
            "'shred ",
            "'unlink ",
            "mkfs",
            "wipefs",
            "fallocate -",
            "' > ",
            "remap {file} --size",
            "remap {name} --size",
            "remap FILE --size -",
            "--size 0'",
            "-- --",
        ] {
            assert!(!text.contains(harmful), "{place}: '{harmful}' in: {text}");
        }
    }
}
