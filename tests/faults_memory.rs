//! Memory stays flat: no verb needs more than 16 MiB, however long the file. The tests that measure it run in processes
//! of their own, because the kernel keeps one peak for all the children of a process, and a child's peak begins with
//! the memory of the parent that started it.

use crate::support::*;
use nix::sys::resource::{UsageWho, getrusage};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// The limit in KiB; a build without optimisation is larger itself.
const LIMIT_KIB: i64 = if cfg!(debug_assertions) { 18 << 10 } else { 16 << 10 };

/// The largest peak of any child so far, in KiB.
fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage").max_rss()
}

/// Runs mmapctl, which must end with 0 and stay under the limit.
fn stays_small(dir: &Sandbox, line: &str, input: Option<&str>) {
    let words: Vec<_> = line.split(' ').collect();
    let before = peak();
    let mut command = dir.command(&words);
    if let Some(input) = input {
        command.stdin(File::open(dir.join(input)).unwrap());
    }
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).outcome();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}: {text}", output.status);
    let after = peak();
    assert!(after > 0);
    // The peak of an earlier process says nothing about this one.
    assert!(after < LIMIT_KIB || after == before, "{line}: {after} KiB at its peak");
}

#[test]
fn a_sparse_file_of_a_tib_takes_no_memory() {
    needs!(alone());
    let dir = Sandbox::new();
    let made = File::create(dir.join("f")).and_then(|file| file.set_len(1 << 40));
    if let Err(error) = made {
        return skip(&format!("a file of 1 TiB: {error}"));
    }
    for line in [
        "cat f -o end-16 -x",
        "cat f -x",
        "cat f -f hex -n 512G",
        "patch f -o 512G ff",
        "patch f -o 512G 00 --sync --expect ff",
        "sync f",
        "sync f --async",
        "zero f --range end-1M..",
        "zero f --range 512G..+1M --method write",
        "zero f --range .. --punch",
        "map f",
        "map f --json",
        "remap f --size 2T --sparse",
        "remap f --size 1T",
    ] {
        stays_small(&dir, line, None);
    }
}

#[test]
fn the_longest_file_that_there_is_takes_no_list_of_its_parts() {
    needs!(let dir = Sandbox::in_memory());
    if let Err(error) = File::create(dir.join("f")).and_then(|file| file.set_len(7 << 60)) {
        return skip(&format!("a file of 7 EiB: {error}"));
    }
    // Such a list would take 2 TiB; the limit is there so that the machine is not asked for them.
    let room = "-v 4000000";
    for args in [&["sync", "f"][..], &["sync", "f", "--async"]] {
        dir.limited(room, args).outcome().code(0);
    }
    let mut command = dir.limited(room, &["cat", "f", "--access", "4"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut read = [1; 16];
    child.stdout.take().unwrap().read_exact(&mut read).unwrap();
    assert_eq!(read, [0; 16]);
    // The pipe is closed.
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_long_file_is_shown_and_patched_in_little_memory() {
    needs!(alone());
    let dir = Sandbox::new();
    let path = dir.sparse("f", 256 << 20);
    let file = writer(&path);
    for at in [0, 1, 9, 10, 100, 254] {
        file.write_all_at(&noise(1 << 20), at << 20).unwrap();
    }
    for line in [
        "cat f",
        "cat f -f canonical",
        "cat f -x",
        "cat f -f plain -n 16M",
        "cat f --access 8",
        "patch f -o 0 fill:5a:64M --access 8",
        "cat f --json -n 16M",
        "sync f",
    ] {
        stays_small(&dir, line, None);
    }
    let path = dir.sparse("payload", 40 << 20);
    writer(&path).write_all_at(&noise(1 << 20), 0).unwrap();
    stays_small(&dir, "patch f -o 1000 --sync", Some("payload"));
    stays_small(&dir, "patch f -o 50M fill:77:30M", None);
    stays_small(&dir, "patch f -o 50M @payload", None);
    stays_small(&dir, "patch f -o 50M fill:77:2M --dry-run", None);
    stays_small(&dir, "zero f --range 1M..60M --method write", None);
    stays_small(&dir, "zero f --range 60M..200M --method write", None);
}
