//! `zero`, as its users see it.

use crate::support;
use crate::support::{
    State, file, is_disk, json, mmapctl, noise, refused_without_touching, report, run, scratch, skip,
};
use crate::support::{allocated, into_full, sparse, synced, tmpfs_scratch, told};
use std::fs;
use std::path::Path;

/// Ranges that end inside pages, at pages, and across them, of a file of 100,001 bytes.
const RANGES: [(usize, usize); 9] = [
    (0, 1),
    (1, 2),
    (4095, 4097),
    (4096, 8192),
    (5000, 5001),
    (4097, 8191),
    (3, 70_000),
    (99_999, 100_001),
    (0, 100_001),
];

/// Zeroes each range of a fresh file by `options` and looks at every byte; the method that the report names must be
/// among `methods`. False where the file system has no such method.
fn zeroes_exactly(dir: &Path, options: &str, methods: &[&str]) -> bool {
    for (from, to) in RANGES {
        let mut expected = noise(100_001);
        let path = file(dir, "f", &expected);
        let before = State::of(&path);
        let line = format!("zero f -r {from}..{to} {options} --json");
        let output = mmapctl(dir, &line.split(' ').collect::<Vec<_>>()).output().unwrap();
        if output.status.code() == Some(2) && told(&output).contains("the file system has no ") {
            assert_eq!(State::of(&path), before, "{line}");
            return false;
        }
        assert_eq!(output.status.code(), Some(0), "{line}: {}", told(&output));
        let report = json(&output.stdout);
        assert!(
            methods.contains(&report["method"].as_str().unwrap()),
            "{line}: {report}"
        );
        assert_eq!(
            (&report["changed"], &report["offset"]),
            (&true.into(), &from.into()),
            "{line}: {report}"
        );
        expected[from..to].fill(0);
        assert!(
            fs::read(&path).unwrap() == expected,
            "{line}: other bytes than those of the range changed"
        );
    }
    true
}

#[test]
fn auto_zeroes_the_range_and_nothing_else() {
    let dir = scratch();
    assert!(zeroes_exactly(dir.path(), "--method auto", &["zero-range", "write"]));
    assert!(zeroes_exactly(dir.path(), "-v", &["zero-range", "write"]));
}

#[test]
fn storing_zeros_zeroes_the_range_and_nothing_else() {
    let dir = scratch();
    assert!(zeroes_exactly(dir.path(), "--method write", &["write"]));
    assert!(zeroes_exactly(dir.path(), "--method write --sync", &["write"]));
}

#[test]
fn zero_range_zeroes_the_range_and_nothing_else() {
    let dir = scratch();
    if !zeroes_exactly(dir.path(), "--method zero-range", &["zero-range"]) {
        assert!(!is_disk(dir.path()), "ext4 and xfs have it");
        skip(
            "zero_range_zeroes_the_range_and_nothing_else",
            "this file system has no zero-range",
        );
    }
}

#[test]
fn punching_zeroes_the_range_and_nothing_else() {
    let dir = scratch();
    if !zeroes_exactly(dir.path(), "--method punch", &["punch"]) || !zeroes_exactly(dir.path(), "--punch", &["punch"]) {
        assert!(!is_disk(dir.path()), "ext4 and xfs have it");
        skip(
            "punching_zeroes_the_range_and_nothing_else",
            "this file system punches no holes",
        );
    }
}

#[test]
fn a_range_of_several_windows_is_zeroed_to_the_byte() {
    let dir = scratch();
    let block = noise(1 << 20);
    let all: Vec<u8> = block.iter().copied().cycle().take(20 << 20).collect();
    let (from, to) = ((8 << 20) - 3, (16 << 20) + 5);
    for method in ["write", "auto"] {
        let path = file(dir.path(), "f", &all);
        report(dir.path(), &format!("zero f -r {from}..{to} --method {method}"));
        let bytes = fs::read(&path).unwrap();
        assert!(bytes[..from] == all[..from] && bytes[to..] == all[to..], "{method}");
        assert!(bytes[from..to].iter().all(|byte| *byte == 0), "{method}");
    }
}

#[test]
fn a_range_that_several_threads_zero_is_zeroed_to_the_byte() {
    let test = "a_range_that_several_threads_zero_is_zeroed_to_the_byte";
    let (on_disk, in_memory) = (scratch(), tmpfs_scratch(test));
    for dir in [Some(on_disk), in_memory].into_iter().flatten() {
        let block = noise(1 << 20);
        let path = support::sparse(dir.path(), "f", 90 << 20);
        for mib in (0..90).filter(|mib| mib % 7 != 3) {
            let file = support::writer(&path);
            std::os::unix::fs::FileExt::write_all_at(&file, &block, mib << 20).unwrap();
        }
        let all = fs::read(&path).unwrap();
        let (from, to) = (5, (80 << 20) + 3);
        let told = report(dir.path(), &format!("zero f -r {from}..{to} --method write --sync"));
        assert_eq!(
            (&told["method"], &told["durable"]),
            (&"write".into(), &true.into()),
            "{told}"
        );
        let bytes = fs::read(&path).unwrap();
        assert!(
            bytes[..from] == all[..from] && bytes[to..] == all[to..],
            "outside of the range"
        );
        assert!(bytes[from..to].iter().all(|byte| *byte == 0), "within the range");
    }
}

#[test]
fn auto_falls_back_to_storing_on_tmpfs() {
    let Some(dir) = tmpfs_scratch("auto_falls_back_to_storing_on_tmpfs") else {
        return;
    };
    assert!(zeroes_exactly(dir.path(), "--method auto", &["write"]));
    let path = file(dir.path(), "f", &[1; 9000]);
    assert_eq!(
        run(dir.path(), "zero f -r 1..+4K").lines().next(),
        Some("f: 0x1..0x1001 zeroed by write")
    );
    assert_eq!(fs::read(path).unwrap().iter().filter(|byte| **byte == 0).count(), 4096);
}

#[test]
fn zero_range_is_refused_on_tmpfs_with_the_way_on() {
    let Some(dir) = tmpfs_scratch("zero_range_is_refused_on_tmpfs_with_the_way_on") else {
        return;
    };
    file(dir.path(), "f", &noise(9000));
    let text = refused_without_touching(dir.path(), "zero f -r .. --method zero-range", b"");
    assert!(text.contains("the file system has no zero-range"), "{text}");
    assert!(text.contains("--method write"), "{text}");
}

#[test]
fn punching_frees_blocks_and_the_others_keep_them() {
    let dir = scratch();
    for (options, frees) in [
        ("--punch", true),
        ("--method write", false),
        ("--method auto", false),
        ("", false),
    ] {
        let path = file(dir.path(), "f", &noise(1 << 20));
        synced(&path); // delayed allocation gives the blocks now
        let full = allocated(&path);
        let line = format!("zero f -r 64K..+512K {options}");
        let told = report(dir.path(), line.trim_end());
        assert_eq!(told["allocated_before"], full, "{line}: {told}");
        assert_eq!(told["allocated_after"], allocated(&path), "{line}: {told}");
        if frees {
            assert!(allocated(&path) <= full - (512 << 10), "{line}: {told}");
        } else {
            assert!(allocated(&path) >= full, "{line}: {told}");
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20, "{line}");
    }
}

#[test]
fn auto_gives_blocks_to_the_holes_of_the_range() {
    let dir = scratch();
    let path = support::sparse(dir.path(), "f", 4 << 20);
    report(dir.path(), "zero f -r 1M..2M --sync");
    let allocated = allocated(&path);
    assert!(((1 << 20)..=(2 << 20)).contains(&allocated), "{allocated}");
    assert!(fs::read(&path).unwrap() == vec![0; 4 << 20]);
}

#[test]
fn a_range_has_to_be_said() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    assert_eq!(
        refused_without_touching(dir.path(), "zero f", b""),
        "! error: f: no range to zero was given\n\
         !   tip: add --range START..END, or --range .. for the whole file\n\
         exit 2"
    );
    refused_without_touching(dir.path(), "zero f --punch", b"");
    report(dir.path(), "zero f --range ..");
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), [0; 100]);
}

#[test]
fn a_range_past_the_end_is_refused_by_every_method() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    for method in ["auto", "zero-range", "punch", "write"] {
        for place in [
            "-r 0..10001",
            "-o 9999 -n 2",
            "-o 10001",
            "-r 10000..+1",
            "-o -10001",
            "-r ..1T",
            "-o 020",
        ] {
            refused_without_touching(dir.path(), &format!("zero f {place} --method {method}"), b"");
        }
    }
    refused_without_touching(dir.path(), "zero f -n 10001 --dry-run", b"");
}

#[test]
fn negative_places_need_no_quotes() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[1; 32]);
    assert_eq!(
        run(dir.path(), "zero f -o -16 -n 8 --method write").lines().next(),
        Some("f: 0x10..0x18 zeroed by write")
    );
    assert_eq!(
        run(dir.path(), "zero f --range -4.. --method write").lines().next(),
        Some("f: 0x1c..0x20 zeroed by write")
    );
    let zeros: Vec<_> = (0..32).filter(|at| fs::read(&path).unwrap()[*at] == 0).collect();
    assert_eq!(zeros, [16, 17, 18, 19, 20, 21, 22, 23, 28, 29, 30, 31]);
}

#[test]
fn a_dry_run_touches_nothing() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(10_000));
    synced(&path);
    let before = State::of(&path);
    for method in ["auto", "zero-range", "punch", "write"] {
        let told = run(dir.path(), &format!("zero f -r 1..+2 --method {method} --dry-run"));
        assert!(
            told.starts_with(&format!("f: 0x1..0x3 would be zeroed, method {method}\n")),
            "{told}"
        );
        assert!(told.ends_with("exit 0"), "{told}");
        let told = report(dir.path(), &format!("zero f -r .. --method {method} --dry-run"));
        assert_eq!(
            (&told["changed"], &told["dry_run"]),
            (&false.into(), &true.into()),
            "{told}"
        );
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn an_empty_range_changes_nothing() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(100));
    file(dir.path(), "empty", b"");
    let before = State::of(&path);
    for line in [
        "zero f -n 0",
        "zero f -r end..",
        "zero f -r 5..5 --punch",
        "zero empty -r ..",
    ] {
        assert_eq!(report(dir.path(), line)["changed"], false, "{line}");
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn a_range_without_an_end_is_refused_with_both_ways_to_give_one() {
    let dir = scratch();
    file(dir.path(), "f", &[1; 10_000]);
    for options in ["", " --punch", " --sparsify", " --dry-run", " --method write"] {
        let text = refused_without_touching(dir.path(), &format!("zero f -o 0x1000{options}"), b"");
        assert!(text.contains("no end of the range to zero"), "{text}");
        assert!(
            text.contains("add --length") && text.contains("write --range 0x1000.. "),
            "{text}"
        );
        let text = refused_without_touching(dir.path(), &format!("zero f{options}"), b"");
        assert!(text.contains("--range START..END, or --range .. "), "{text}");
    }
    let text = refused_without_touching(dir.path(), "zero f -o -16", b"");
    assert!(text.contains("--range end-0x10.. "), "{text}");
}

#[test]
fn a_session_refuses_a_range_without_an_end_before_it_runs_anything() {
    let dir = scratch();
    file(dir.path(), "f", &[1; 10_000]);
    let before = State::of(&dir.path().join("f"));
    for verb in ["zero -o 0x1000", "zero", "patch 00", "remap"] {
        let output = mmapctl(dir.path(), &["map", "f", "-c", "patch -o 0 00", "-c", verb])
            .output()
            .unwrap();
        let text = support::check_refusal(verb, &output);
        assert!(text.contains("f: -c 2: "), "{text}");
        assert_eq!(State::of(&dir.path().join("f")), before, "{verb}");
    }
    let output = mmapctl(dir.path(), &["map", "f", "-c", "-"])
        .write_stdin("zero -o 0\n")
        .output()
        .unwrap();
    support::check_refusal("zero -o 0, from stdin", &output);
    assert_eq!(State::of(&dir.path().join("f")), before);
}

#[test]
fn sync_is_told_apart() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    for method in ["auto", "write"] {
        let told = run(dir.path(), &format!("zero f -r 1..9999 --method {method} --sync"));
        assert!(told.lines().next().unwrap().ends_with(", durable"), "{told}");
    }
    assert_eq!(report(dir.path(), "zero f -n 1 --sync")["durable"], true);
    assert_eq!(report(dir.path(), "zero f -n 1")["durable"], false);
}

#[test]
fn a_dry_run_has_made_nothing_durable() {
    let dir = scratch();
    file(dir.path(), "f", &[1; 100]);
    for options in ["--sync", "--sync --sparsify", "--sync --punch"] {
        let told = report(dir.path(), &format!("zero f -r .. {options} --dry-run"));
        assert_eq!(told["durable"], false, "{options}: {told}");
    }
    assert_eq!(report(dir.path(), "zero f -r .. --sync")["durable"], true);
}

#[test]
fn the_safety_rules_of_writers_hold() {
    support::keeps_the_safety_rules_of_writers("zero FILE -o 0 -n 1");
}

#[test]
fn a_report_that_cannot_be_written_is_3_after_a_change() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[1; 100]);
    for (options, code) in [(&["-n", "2"][..], 3), (&["-n", "0"], 2), (&["-n", "2", "--dry-run"], 2)] {
        let args = [&["zero", "f", "--method", "write"][..], options].concat();
        let output = into_full(dir.path(), &args);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    }
    assert_eq!(fs::read(path).unwrap()[..3], [0, 0, 1]);
}

/// A file longer than what one thread stores, and the range that is zeroed in it.
const LONG: usize = (65 << 20) + 12_345;
const WITHIN: std::ops::Range<usize> = 4_097..LONG - 7;

#[test]
fn a_long_range_is_written_where_nobody_else_has_the_file_and_stored_where_somebody_has() {
    let dir = scratch();
    let bytes = noise(LONG);
    let mut expected = bytes.clone();
    expected[WITHIN].fill(0);
    let line = format!("zero f -v --method write -r {}..{}", WITHIN.start, WITHIN.end);
    for shared in [false, true] {
        let path = file(dir.path(), "f", &bytes);
        let other = shared.then(|| fs::File::open(&path).unwrap());
        let output = mmapctl(dir.path(), &line.split(' ').collect::<Vec<_>>())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert!(fs::read(&path).unwrap() == expected, "shared: {shared}");
        let calls = told(&output);
        let leased = calls.contains("F_SETLEASE, F_WRLCK) = 0");
        assert!(!(leased && shared), "a lease on a file that somebody else has open");
        assert_eq!(calls.contains("pwrite64("), leased, "{calls}");
        assert_eq!(calls.contains("preadv("), !leased, "{calls}");
        if !leased && !shared {
            skip("zeros written under a lease", "the file system grants none");
        }
        drop(other);
    }
}

#[test]
fn a_file_cut_while_zeros_are_written_stays_as_short_as_it_was_cut() {
    let dir = scratch();
    let len = 512 << 20;
    let path = support::sparse(dir.path(), "f", len);
    let tmpfs = !is_disk(dir.path());
    for round in 1..=6u64 {
        if tmpfs {
            return skip(
                "a file cut while zeros are written",
                "memory is not for files of that size",
            );
        }
        support::writer(&path).set_len(len).unwrap();
        let words = ["zero", "f", "-q", "-r", "..", "--method", "write"];
        let mut child = support::spawnable(dir.path(), &words)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        // Waits for the lease to be given back, where there is one.
        nix::unistd::truncate(&path, (round << 20) as i64).unwrap();
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 2 | 4)), "{code:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), round << 20, "round {round}");
    }
}

#[test]
fn a_mapping_without_the_right_to_store_keeps_a_long_range_as_it_is() {
    let dir = scratch();
    let bytes = noise(LONG);
    let path = file(dir.path(), "f", &bytes);
    let verb = format!("zero --method write -r {}..{}", WITHIN.start, WITHIN.end);
    let words = ["map", "f", "-q", "--prot", "r", "-c", &verb];
    let output = mmapctl(dir.path(), &words).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_limit_on_the_length_of_files_is_none_on_zeros_within_one() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[b'x'; 8192]);
    let words = ["zero", "f", "-r", "..4K", "--method", "write"];
    let output = support::limited(dir.path(), "-f 16", &words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(fs::read(&path).unwrap() == [[0; 4096], [b'x'; 4096]].concat());
}

#[test]
fn progress_counts_each_byte_once() {
    let dir = scratch();
    for (line, end) in [
        ("zero f -r ..", "zeroing 100 % of 64 MiB"),
        ("zero f -r .. --method write", "zeroing 100 % of 64 MiB"),
        ("zero f -r .. --punch", "zeroing 100 % of 64 MiB"),
        ("patch f -o 0 fill:5a:1M", "patching 100 % of 1 MiB"),
    ] {
        sparse(dir.path(), "f", 64 << 20);
        let told = run(dir.path(), &format!("{line} --progress always"));
        assert!(told.contains(&format!("! {end}\nexit 0")), "{line}: {told}");
    }
}
