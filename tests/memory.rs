//! How much memory the program takes.

mod common;

use common::{scratch, sparse, spawnable, told};
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// So many edits are listed.
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
    let dir = scratch();
    script(&dir.path().join("all"), 1);
    script(&dir.path().join("half"), 2);
    for lines in [&["all"][..], &["half", "all"]] {
        sparse(dir.path(), "f", EDITS * 64);
        for script in lines {
            let args = ["patch", "f", "--script", script, "--atomic", "--undo", "undo"];
            let output = spawnable(dir.path(), &args).output().unwrap();
            assert!(output.status.success(), "{}", told(&output));
            std::fs::remove_file(dir.path().join("undo")).unwrap();
        }
    }
    // The largest of all children so far: 64 MiB of the file may be mapped in it.
    let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() as u64 * 1024;
    let allowed = EDITS * 34 + (64 << 20) + (24 << 20);
    assert!(most <= allowed, "{most} bytes, and {allowed} are allowed");
}
