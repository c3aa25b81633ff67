//! How bytes are read: into memory that begins on a page, and holes not at all.

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{mmapctl, noise, report, scratch, skip, sparse};
use faults::{strace_works, straced};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

#[test]
fn what_is_read_by_more_than_a_page_begins_on_one() {
    let test = "what_is_read_by_more_than_a_page_begins_on_one";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    fs::write(dir.path().join("f"), noise(3 << 20)).unwrap();
    fs::write(dir.path().join("g"), noise(3 << 20)).unwrap();
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
        let _ = fs::remove_file(dir.path().join("TO"));
        let options = ["-e", "raw=pread64", "-e", "trace=pread64"];
        straced(dir.path(), &options, line);
        let log = fs::read_to_string(dir.path().join("strace.log")).unwrap();
        for call in log.lines().filter(|call| call.contains("pread64(")) {
            let arguments: Vec<&str> = call.split(['(', ',', ')']).map(str::trim).collect();
            let is_long = u64::from_str_radix(arguments[3].trim_start_matches("0x"), 16).unwrap() > 4096;
            assert!(!is_long || arguments[2].ends_with("000"), "{line}: {call}");
        }
    }
}

#[test]
fn holes_are_not_read_by_verbs_that_compare() {
    let test = "holes_are_not_read_by_verbs_that_compare";
    let dir = scratch();
    for name in ["f", "g"] {
        sparse(dir.path(), name, 10 << 30);
    }
    if fs::metadata(dir.path().join("f")).unwrap().blocks() > 0 {
        skip(test, "this file system has no holes");
        return;
    }
    for line in [
        "patch f -o end-4 crc32le:..end-4 --dry-run",
        "patch f --diff g",
        "patch f --find text:never-there 00",
    ] {
        let begin = Instant::now();
        let output = mmapctl(dir.path(), &line.split(' ').collect::<Vec<_>>())
            .output()
            .unwrap();
        assert!(output.status.code().unwrap() < 2, "{line}: {output:?}");
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "{line}: {:?}",
            begin.elapsed()
        );
        for name in ["f", "g"] {
            let report = report(dir.path(), &format!("map {name}"));
            // The four bytes of the checksum are read.
            assert!(report["resident"].as_u64().unwrap() <= 1, "{line}: {report}");
        }
    }
}
