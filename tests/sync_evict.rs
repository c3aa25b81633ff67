//! `sync --evict`, long flushes and many files, as their users see them.

use crate::support::*;
use std::fs;
use std::os::unix::fs::FileExt;

#[test]
fn what_is_evicted_is_durable_first_and_out_of_memory_then() {
    on_disk(|dir| {
        let bytes = noise(1 << 20);
        let path = dir.file("f", &bytes);
        let report = dir.report("sync f --evict");
        assert_eq!(report["durable"], true, "{report}");
        assert_eq!(report["evicted"], true, "{report}");
        assert_eq!(report["resident_before"], 256, "{report}");
        assert_eq!(report["dirty_after"], 0, "{report}");
        assert_eq!(report["resident_after"], 0, "{report}");
        assert!(read(&path) == bytes, "other bytes came back from the disk");
        dir.run("sync f --evict").has("\n  in memory   256 pages before, 0 pages after\n");
    });
}

#[test]
fn only_the_range_is_evicted() {
    on_disk(|dir| {
        dir.file("f", noise(8 << 20));
        dir.report("sync f --evict");
        dir.read("f");
        let report = dir.report("sync f -r 1M..3M --evict");
        // A large folio that reaches over an edge of the range stays, or goes with it.
        assert!(report["resident_after"].as_u64().unwrap() < 512, "{report}");
        let rest = dir.report("sync f -r 4M.. --evict");
        assert_eq!(rest["resident_before"], 1024, "{rest}");
    });
}

#[test]
fn what_is_evicted_is_read_back_by_windows_and_nothing_else_is() {
    on_disk(|dir| {
        let path = dir.file("f", noise(32 << 20));
        let populated = |options: &str| {
            let text = dir.run(&format!("map f --populate -q -v{options}"));
            text.code(0);
            text.matches("8388608, MADV_POPULATE_READ").count()
        };
        dir.report("sync f");
        assert_eq!(populated(""), 0, "of a file that is all there");
        // For a mapping that is kept, its own page table is filled as well.
        assert_eq!(populated(" --hold=0s"), 4, "of a file that is all there");
        dir.report("sync f -r 8M..24M --evict");
        assert_eq!(populated(""), 2);
        dir.report("sync f -r 8M..24M --evict");
        assert_eq!(populated(" --hold=0s"), 2 + 4);
        assert!(read(&path) == noise(32 << 20));
    });
}

#[test]
fn without_evict_nothing_is_evicted_and_nothing_said() {
    let dir = Sandbox::new();
    dir.file("f", noise(100_000));
    let report = dir.report("sync f");
    assert_eq!(report["evicted"], false, "{report}");
    assert_eq!(report["resident_after"], serde_json::Value::Null, "{report}");
    dir.mmapctl(&["sync", "f", "--async", "--evict"]).code(2);
}

#[test]
fn pages_of_a_tmpfs_have_nowhere_to_go_and_stay() {
    needs!(let dir = Sandbox::in_memory());
    let path = dir.file("f", noise(100_000));
    let report = dir.report("sync f --evict");
    assert_eq!(report["resident_after"], 25, "{report}");
    assert!(read(path) == noise(100_000));
}

#[test]
fn a_session_lets_its_own_pages_go_with_what_it_stored_in_them() {
    on_disk(|dir| {
        let path = dir.file("f", noise(1 << 20));
        let lines = [
            "map",
            "f",
            "--populate",
            "-c",
            "patch -o 0x1000 deadbeef",
            "-c",
            "sync --evict --json",
        ];
        let output = dir.mmapctl(&lines);
        output.code(0);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("\"resident_after\":0"), "{text}");
        assert_eq!(read(path)[0x1000..0x1004], [0xde, 0xad, 0xbe, 0xef]);
    });
}

#[test]
fn many_files_are_all_synced_and_told_in_their_order() {
    let dir = Sandbox::new();
    let names: Vec<_> = (0..40).map(|number| format!("f{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        dir.file(name, noise(5000 + number));
    }
    let line = format!("sync {}", names.join(" "));
    let text = dir.run(&line);
    let found: Vec<_> = text.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(found[..40], names, "{text}");
    text.code(0);
    if dir.is_disk() {
        for name in &names {
            assert_eq!(dir.report(&format!("sync {name}"))["dirty_before"], 0, "{name}");
        }
    }
}

/// How many windows were started and waited for; each kind must cover `len` bytes in order.
fn windows(trace: &str, len: u64) -> usize {
    let calls = ["SYNC_FILE_RANGE_WRITE)", "SYNC_FILE_RANGE_WAIT_BEFORE)"].map(|flag| {
        let calls: Vec<_> = trace.lines().filter(|line| line.contains(flag)).collect();
        let mut at = 0;
        for call in &calls {
            let numbers: Vec<u64> = call.split([',', ' ']).filter_map(|word| word.parse().ok()).collect();
            assert_eq!(numbers[0], at, "{trace}");
            at += numbers[1];
        }
        assert_eq!(at, len, "{trace}");
        calls.len()
    });
    assert_eq!(calls[0], calls[1], "{trace}");
    calls[0]
}

#[test]
fn a_long_flush_goes_by_windows_and_ends_in_one_msync() {
    needs!(let mount = Mount::image("mkfs.ext4 -q", 400));
    let path = mount.sparse("f", 280 << 20);
    let block = noise(1 << 20);
    for mib in 0..280 {
        writer(&path).write_all_at(&block, mib << 20).unwrap();
    }
    // Without a count for a report, the length of the range decides.
    let output = mount.mmapctl(&["sync", "f", "-v", "-q"]);
    let trace = String::from_utf8(output.stderr.clone()).unwrap();
    let count = |part: &str| trace.matches(part).count();
    assert_eq!(output.status.code(), Some(0), "{trace}");
    // What the kernel has written by itself in the meantime is covered by longer ones.
    assert!((3..=5).contains(&windows(&trace, 280 << 20)), "{trace}");
    assert_eq!(count("msync("), 1, "{trace}");
    assert!(trace.rfind("msync(") > trace.rfind("sync_file_range("), "{trace}");
    assert_eq!(mount.report("sync f")["dirty_before"], 0);
}

#[test]
fn windows_grow_over_what_is_clean_and_still_cover_all_of_it() {
    let dir = Sandbox::new();
    let len = 2_u64 << 30;
    let path = dir.sparse("f", len);
    let output = dir.mmapctl(&["sync", "f", "-v", "-q"]);
    let trace = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{trace}");
    // Sixteen at the most on a busy machine, which may keep some of them small; 32 of 64 MiB would be all of it.
    assert!(windows(&trace, len) <= 16, "{trace}");
    assert_eq!(fs::metadata(path).unwrap().len(), len);
}
