//! How much memory the program takes, and what it does when there is too little.

use crate::support::*;
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The number of edits in a script.
const EDITS: u64 = 2_000_000;

/// Writes a script of edits of a file of zeros, every `step`-th of [`EDITS`].
fn script(path: &Path, step: usize) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    for index in (0..EDITS).step_by(step) {
        writeln!(out, "{:#x}: 0000 -> {:04x}", index * 64, index & 0xff | 1).unwrap();
    }
    out.flush().unwrap();
}

#[test]
fn a_script_takes_34_bytes_of_memory_an_edit() {
    needs!(alone());
    let dir = Sandbox::new();
    script(&dir.join("all"), 1);
    script(&dir.join("half"), 2);
    for lines in [&["all"][..], &["half", "all"]] {
        dir.sparse("f", EDITS * 64);
        for script in lines {
            let args = ["patch", "f", "--script", script, "--atomic", "--undo", "undo"];
            dir.mmapctl(&args).code(0);
            std::fs::remove_file(dir.join("undo")).unwrap();
        }
    }
    // The largest of all children so far: 64 MiB of the file may be mapped in it.
    let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as u64 * 1024;
    let allowed = EDITS * 34 + (64 << 20) + (24 << 20);
    assert!(most <= allowed, "{most} bytes, and {allowed} are allowed");
}

/// Address space in which the program of a build for tests can start, in MiB: it has to hold the program itself.
const STARTS: u64 = 14;

#[test]
fn too_little_memory_is_code_2_and_never_a_signal() {
    let dir = Sandbox::new();
    let bytes: Vec<u8> = (0..4 << 20).map(|index| index as u8).collect();
    let path = dir.file("f", &bytes);
    let line = |at: u64| format!("{at:#x}: {:02x} -> 01\n", at as u8);
    let lines: String = (0..150_000).map(|index| line(index * 24)).collect();
    dir.file("script", lines);
    dir.file("verbs", b"patch -o 0 fill:77:1M\nzero -r 0..4K\ncat -r 0..64 -x\nremap --size +1M\nsync\nmap\n");
    let mut refused = 0;
    for line in [
        "patch f -o 0 fill:77:3M",
        "patch f -o 0 fill:77:3M --atomic --json",
        "patch f -o 0 fill:77:3M --sync --undo undo",
        "patch f --script script",
        "patch f --find 00010203 --all 00010204",
        "zero f -r 0..3M --method write",
        "remap f --size +1M",
        "remap f --order reverse --to out",
        "cat f -x",
        "cat f --json",
        "sync f verbs script",
        "map f script",
        "map f --script verbs",
    ] {
        for mib in (STARTS..30).step_by(3).chain([45, 75, 110]) {
            std::fs::write(&path, &bytes).unwrap();
            let _ = ["undo", "out"].map(|name| std::fs::remove_file(dir.join(name)));
            let limit = format!("-v {}", mib << 10);
            let words: Vec<&str> = line.split(' ').collect();
            let output = dir.limited(&limit, &words).outcome();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let code = output.status.code().unwrap_or_else(|| panic!("{line} in {mib} MiB: {}", output));
            let changed = read(&path) != bytes;
            let in_session = line.starts_with("map");
            assert!([0, 1, 2].contains(&code), "{line} in {mib} MiB: {text}");
            assert!(!changed || code == 0 || in_session, "{line} in {mib} MiB changed the file: {text}");
            if code == 2 {
                refused += 1;
                assert!(text.contains("RLIMIT_AS"), "{line} in {mib} MiB: {text}");
            }
        }
    }
    assert!(refused > 10, "no limit was in the way");
}
