//! How bytes are read: into memory that begins on a page, and holes not at all.

use crate::support::strace::*;
use crate::support::*;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

#[test]
fn what_is_read_by_more_than_a_page_begins_on_one() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(3 << 20));
    dir.file("g", noise(3 << 20));
    for line in [
        "cat f -x",
        "cat f -f xxd",
        "cat f --json",
        "patch f --diff g",
        "patch f --find text:never-there 00",
        "patch f -o end-4 crc32le:..end-4 --dry-run",
        "remap f --order reverse --to TO",
        "map --anonymous -n 1M -c cat",
        "map f --private -c cat",
    ] {
        let _ = fs::remove_file(dir.join("TO"));
        let options = ["-e", "raw=pread64", "-e", "trace=pread64"];
        dir.straced(&options, line);
        let log = dir.strace_log();
        for call in log.lines().filter(|call| call.contains("pread64(")) {
            let arguments: Vec<&str> = call.split(['(', ',', ')']).map(str::trim).collect();
            let is_long = u64::from_str_radix(arguments[3].trim_start_matches("0x"), 16).unwrap() > 4096;
            assert!(!is_long || arguments[2].ends_with("000"), "{line}: {call}");
        }
    }
}

#[test]
fn holes_are_not_read_by_verbs_that_compare() {
    let dir = Sandbox::new();
    for name in ["f", "g"] {
        dir.sparse(name, 10 << 30);
    }
    if fs::metadata(dir.join("f")).unwrap().blocks() > 0 {
        skip("this file system has no holes");
        return;
    }
    for line in [
        "patch f -o end-4 crc32le:..end-4 --dry-run",
        "patch f --diff g",
        "patch f --find text:never-there 00",
    ] {
        let begin = Instant::now();
        let output = dir.mmapctl(&words(line));
        assert!(output.status.code().unwrap() < 2, "{line}: {output:?}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{line}: {:?}", begin.elapsed());
        for name in ["f", "g"] {
            let report = dir.report(&format!("map {name}"));
            // The four bytes of the checksum are read.
            assert!(report["resident"].as_u64().unwrap() <= 1, "{line}: {report}");
        }
    }
}

#[test]
fn what_is_not_the_files_is_read_where_it_is() {
    let dir = Sandbox::new();
    let page = page_size();
    let mut bytes = noise(3 * page as usize);
    bytes[..4].copy_from_slice(b"head");
    bytes[2 * page as usize..][..4].copy_from_slice(b"tail");
    dir.file("f", &bytes);
    fs::copy(dir.join("f"), dir.join("g")).unwrap();
    let (private, dont_fork) = ("f --private --prot rw -q", "f --advise dontfork -q");
    let (view, anonymous) = ("f -q", "--anonymous -n 64K -q");
    // The bytes that a mapping has and its file has not, or not there.
    let (mine, reversed) = (["patch -o 0 text:mine"], ["remap --order reverse"]);
    for (what, first, verb, code, expected) in [
        // A private mapping has its own bytes, and the file others.
        (private, &mine[..], "cat -n 4", 0, "mine"),
        (private, &mine, "cat -n 4 --json", 0, "6d696e65"),
        (private, &mine, "patch --find text:head 00 --dry-run", 1, "not found in"),
        (private, &mine, "patch --find text:mine 00 --dry-run", 0, "0x0: 6d -> 00"),
        (private, &mine, "patch --diff g", 0, "0x0: 6d696e65 -> 68656164"),
        (private, &mine, "patch -o 0 text:mine --strict", 1, "applied already"),
        (private, &[], "zero -r .. --sparsify", 2, "cannot do"),
        // A view has the file's pages in another order.
        (view, &reversed, "cat -n 4", 0, "tail"),
        (view, &reversed, "patch --find text:tail 00 --dry-run", 0, "0x0: 74 -> 00"),
        (view, &reversed, "patch --diff g", 0, "0x0: 7461696c"),
        (view, &reversed, "patch -o 0 00 --expect text:t --dry-run", 0, "0x0: 74 -> 00"),
        (view, &reversed, "zero -r .. --sparsify", 2, "nonlinear view"),
        // Memory has no file.
        (anonymous, &mine, "cat -n 4", 0, "mine"),
        (anonymous, &mine, "patch --find text:mine 00 --dry-run", 0, "0x0: 6d -> 00"),
        (anonymous, &mine, "patch -o 8 crc32le:0..4 --dry-run", 0, "0x8: 00000000 -> 93d3a869"),
        (anonymous, &[], "zero -r .. --sparsify", 2, "cannot do"),
        // A child that did not inherit the mapping has nothing.
        (dont_fork, &[], "fork cat -n 4", 2, "did not inherit"),
        (dont_fork, &[], "fork patch --find text:head 00 --dry-run", 2, "did not inherit"),
        ("f -q", &[], "fork cat -n 4", 0, "head"),
        // No right to read.
        ("f --prot none -q", &[], "cat -n 4", 2, "PROT_NONE"),
        ("f --prot none -q", &[], "patch --find text:head 00 --dry-run", 2, "PROT_NONE"),
    ] {
        dir.session(what, &[first, &[verb]].concat()).code(code).has(expected);
    }
    assert_eq!(dir.read("f"), bytes);
}

#[test]
fn a_read_that_drops_behind_leaves_what_was_in_memory_and_nothing_else() {
    on_disk(|dir| {
        let bytes = noise(12 << 20);
        let path = dir.file("f", &bytes);
        let resident = || dir.report("map f")["resident"].as_u64().unwrap();
        dir.report("sync f --evict");
        assert_eq!(resident(), 0);
        // A part of a window, and what the kernel reads ahead of it.
        fs::File::open(&path).unwrap().read_exact_at(&mut [0; 300_000], 5 << 20).unwrap();
        let before = resident();
        assert!(before >= 300_000 / page_size());
        for line in [
            "cat f --drop-behind",
            "cat f --drop-behind -f canonical",
            "cat f --drop-behind --json",
            "cat f --drop-behind -o 1M -n 9M",
            "map f -q -c 'cat --drop-behind -f raw'",
        ] {
            // Its stdout is a pipe, into which pages could be spliced.
            let output = dir.mmapctl(&shell_words::split(line).unwrap().iter().map(String::as_str).collect::<Vec<_>>());
            output.code(0);
            if line == "cat f --drop-behind" {
                assert!(output.stdout == bytes);
            }
            let text = format!("{line}: {before} pages before");
            // One page that lies across a border of windows may go.
            assert!((before - 1..=before).contains(&resident()), "{text}, {} after", resident());
        }
        let out = fs::File::create(dir.join("out")).unwrap();
        let mut command = dir.command(&["cat", "f", "--drop-behind"]);
        command.stdout(out).outcome().code(0);
        assert!(dir.read("out") == bytes && resident() <= before);
    });
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    dir.session("--anonymous -n 4K", &["cat --drop-behind"])
        .code(2)
        .has("cannot tell which of its pages were in memory");
    dir.run("cat f --drop-behind --watch").code(2);
}
