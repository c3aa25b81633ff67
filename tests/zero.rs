//! `zero`, as its users see it.

use crate::support::*;
use std::fs;

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
fn zeroes_exactly(dir: &Sandbox, options: &str, methods: &[&str]) -> bool {
    for (from, to) in RANGES {
        let mut expected = noise(100_001);
        let path = dir.file("f", &expected);
        let before = State::of(&path);
        let line = format!("zero f -r {from}..{to} {options} --json");
        let output = dir.mmapctl(&words(&line));
        if output.status.code() == Some(2) && output.contains("the file system has no ") {
            assert_eq!(State::of(&path), before, "{line}");
            return false;
        }
        output.code(0);
        let report = json(&output.stdout);
        assert!(methods.contains(&report["method"].as_str().unwrap()), "{line}: {report}");
        assert_eq!(report["changed"], true, "{line}: {report}");
        assert_eq!(report["offset"], from, "{line}: {report}");
        expected[from..to].fill(0);
        assert!(read(&path) == expected, "{line}: other bytes than those of the range changed");
    }
    true
}

#[test]
fn auto_zeroes_the_range_and_nothing_else() {
    let dir = Sandbox::new();
    assert!(zeroes_exactly(&dir, "--method auto", &["zero-range", "write"]));
    assert!(zeroes_exactly(&dir, "-v", &["zero-range", "write"]));
}

#[test]
fn storing_zeros_zeroes_the_range_and_nothing_else() {
    let dir = Sandbox::new();
    assert!(zeroes_exactly(&dir, "--method write", &["write"]));
    assert!(zeroes_exactly(&dir, "--method write --sync", &["write"]));
}

#[test]
fn zero_range_zeroes_the_range_and_nothing_else() {
    let dir = Sandbox::new();
    if !zeroes_exactly(&dir, "--method zero-range", &["zero-range"]) {
        assert!(!dir.is_disk(), "ext4 and xfs have it");
        skip("this file system has no zero-range");
    }
}

#[test]
fn punching_zeroes_the_range_and_nothing_else() {
    let dir = Sandbox::new();
    if !zeroes_exactly(&dir, "--method punch", &["punch"]) || !zeroes_exactly(&dir, "--punch", &["punch"]) {
        assert!(!dir.is_disk(), "ext4 and xfs have it");
        skip("this file system punches no holes");
    }
}

#[test]
fn a_range_of_several_windows_is_zeroed_to_the_byte() {
    let dir = Sandbox::new();
    let block = noise(1 << 20);
    let all: Vec<u8> = block.iter().copied().cycle().take(20 << 20).collect();
    let (from, to) = ((8 << 20) - 3, (16 << 20) + 5);
    for method in ["write", "auto"] {
        let path = dir.file("f", &all);
        dir.report(&format!("zero f -r {from}..{to} --method {method}"));
        let bytes = read(&path);
        assert!(bytes[..from] == all[..from] && bytes[to..] == all[to..], "{method}");
        assert!(bytes[from..to].iter().all(|byte| *byte == 0), "{method}");
    }
}

#[test]
fn a_range_that_several_threads_zero_is_zeroed_to_the_byte() {
    let (on_disk, in_memory) = (Sandbox::new(), Sandbox::in_memory());
    for dir in [Some(on_disk), in_memory].into_iter().flatten() {
        let block = noise(1 << 20);
        let path = dir.sparse("f", 90 << 20);
        for mib in (0..90).filter(|mib| mib % 7 != 3) {
            let file = writer(&path);
            std::os::unix::fs::FileExt::write_all_at(&file, &block, mib << 20).unwrap();
        }
        let all = read(&path);
        let (from, to) = (5, (80 << 20) + 3);
        let report = dir.report(&format!("zero f -r {from}..{to} --method write --sync"));
        assert_eq!(report["method"], "write", "{report}");
        assert_eq!(report["durable"], true, "{report}");
        let bytes = read(&path);
        assert!(bytes[..from] == all[..from] && bytes[to..] == all[to..], "outside of the range");
        assert!(bytes[from..to].iter().all(|byte| *byte == 0), "within the range");
    }
}

#[test]
fn auto_falls_back_to_storing_on_tmpfs() {
    needs!(let dir = Sandbox::in_memory());
    assert!(zeroes_exactly(&dir, "--method auto", &["write"]));
    let path = dir.file("f", [1; 9000]);
    assert_eq!(dir.run("zero f -r 1..+4K").lines().next(), Some("f: 0x1..0x1001 zeroed by write"));
    assert_eq!(read(path).iter().filter(|byte| **byte == 0).count(), 4096);
}

#[test]
fn zero_range_is_refused_on_tmpfs_with_the_way_on() {
    needs!(let dir = Sandbox::in_memory());
    dir.file("f", noise(9000));
    dir.refused_untouched("zero f -r .. --method zero-range")
        .has("the file system has no zero-range")
        .has("--method write");
}

#[test]
fn punching_frees_blocks_and_the_others_keep_them() {
    let dir = Sandbox::new();
    for (options, frees) in [
        ("--punch", true),
        ("--method write", false),
        ("--method auto", false),
        ("", false),
    ] {
        let path = dir.file("f", noise(1 << 20));
        synced(&path); // delayed allocation gives the blocks now
        let full = allocated(&path);
        let line = format!("zero f -r 64K..+512K {options}");
        let report = dir.report(line.trim_end());
        assert_eq!(report["allocated_before"], full, "{line}: {report}");
        assert_eq!(report["allocated_after"], allocated(&path), "{line}: {report}");
        if frees {
            assert!(allocated(&path) <= full - (512 << 10), "{line}: {report}");
        } else {
            assert!(allocated(&path) >= full, "{line}: {report}");
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20, "{line}");
    }
}

#[test]
fn auto_gives_blocks_to_the_holes_of_the_range() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 4 << 20);
    dir.report("zero f -r 1M..2M --sync");
    let allocated = allocated(&path);
    assert!(((1 << 20)..=(2 << 20)).contains(&allocated), "{allocated}");
    assert!(read(&path) == vec![0; 4 << 20]);
}

#[test]
fn a_range_has_to_be_said() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    dir.refused_untouched("zero f").is("! error: f: no range to zero was given\n\
         !   tip: add --range START..END, or --range .. for the whole file\n\
         exit 2");
    dir.refused_untouched("zero f --punch");
    dir.report("zero f --range ..");
    assert_eq!(dir.read("f"), [0; 100]);
}

#[test]
fn a_range_past_the_end_is_refused_by_every_method() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
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
            dir.refused_untouched(&format!("zero f {place} --method {method}"));
        }
    }
    dir.refused_untouched("zero f -n 10001 --dry-run");
}

#[test]
fn negative_places_need_no_quotes() {
    let dir = Sandbox::new();
    let path = dir.file("f", [1; 32]);
    assert_eq!(dir.run("zero f -o -16 -n 8 --method write").lines().next(), Some("f: 0x10..0x18 zeroed by write"));
    assert_eq!(dir.run("zero f --range -4.. --method write").lines().next(), Some("f: 0x1c..0x20 zeroed by write"));
    let zeros: Vec<_> = (0..32).filter(|at| read(&path)[*at] == 0).collect();
    assert_eq!(zeros, [16, 17, 18, 19, 20, 21, 22, 23, 28, 29, 30, 31]);
}

#[test]
fn a_dry_run_touches_nothing() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(10_000));
    synced(&path);
    let before = State::of(&path);
    for method in ["auto", "zero-range", "punch", "write"] {
        dir.run(&format!("zero f -r 1..+2 --method {method} --dry-run"))
            .begins(format!("f: 0x1..0x3 would be zeroed, method {method}\n"))
            .code(0);
        let report = dir.report(&format!("zero f -r .. --method {method} --dry-run"));
        assert_eq!(report["changed"], false, "{report}");
        assert_eq!(report["dry_run"], true, "{report}");
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn an_empty_range_changes_nothing() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(100));
    dir.file("empty", b"");
    let before = State::of(&path);
    for line in [
        "zero f -n 0",
        "zero f -r end..",
        "zero f -r 5..5 --punch",
        "zero empty -r ..",
    ] {
        assert_eq!(dir.report(line)["changed"], false, "{line}");
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn a_range_without_an_end_is_refused_with_two_tips() {
    let dir = Sandbox::new();
    dir.file("f", [1; 10_000]);
    for options in ["", " --punch", " --sparsify", " --dry-run", " --method write"] {
        dir.refused_untouched(&format!("zero f -o 0x1000{options}"))
            .has("the range to zero has no end")
            .has("add --length")
            .has("write --range 0x1000.. ");
        dir.refused_untouched(&format!("zero f{options}")).has("--range START..END, or --range .. ");
    }
    dir.refused_untouched("zero f -o -16").has("--range end-0x10.. ");
}

#[test]
fn a_session_refuses_a_range_without_an_end_before_it_runs() {
    let dir = Sandbox::new();
    dir.file("f", [1; 10_000]);
    let before = dir.state("f");
    for verb in ["zero -o 0x1000", "zero", "patch 00", "remap"] {
        let output = dir.mmapctl(&["map", "f", "-c", "patch -o 0 00", "-c", verb]);
        let text = output.is_refusal();
        assert!(text.contains("f: -c 2: "), "{text}");
        assert_eq!(dir.state("f"), before, "{verb}");
    }
    dir.mmapctl_fed(&["map", "f", "-c", "-"], "zero -o 0\n").is_refusal();
    assert_eq!(dir.state("f"), before);
}

#[test]
fn sync_is_told_apart() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    for method in ["auto", "write"] {
        let text = dir.run(&format!("zero f -r 1..9999 --method {method} --sync"));
        assert!(text.lines().next().unwrap().ends_with(", durable"), "{text}");
    }
    assert_eq!(dir.report("zero f -n 1 --sync")["durable"], true);
    assert_eq!(dir.report("zero f -n 1")["durable"], false);
}

#[test]
fn a_dry_run_has_made_nothing_durable() {
    let dir = Sandbox::new();
    dir.file("f", [1; 100]);
    for options in ["--sync", "--sync --sparsify", "--sync --punch"] {
        let report = dir.report(&format!("zero f -r .. {options} --dry-run"));
        assert_eq!(report["durable"], false, "{options}: {report}");
    }
    assert_eq!(dir.report("zero f -r .. --sync")["durable"], true);
}

#[test]
fn the_safety_rules_of_writers_hold() {
    keeps_the_safety_rules_of_writers("zero FILE -o 0 -n 1");
}

#[test]
fn a_report_that_cannot_be_written_is_3_after_a_change() {
    let dir = Sandbox::new();
    let path = dir.file("f", [1; 100]);
    for (options, code) in [(&["-n", "2"][..], 3), (&["-n", "0"], 2), (&["-n", "2", "--dry-run"], 2)] {
        let args = [&["zero", "f", "--method", "write"][..], options].concat();
        dir.mmapctl_into_full(&args).code(code);
    }
    assert_eq!(read(path)[..3], [0, 0, 1]);
}

/// A file longer than what one thread stores, and the range that is zeroed in it.
const LONG: usize = (65 << 20) + 12_345;
const WITHIN: std::ops::Range<usize> = 4_097..LONG - 7;

#[test]
fn a_long_range_is_written_only_under_a_lease() {
    let dir = Sandbox::new();
    let bytes = noise(LONG);
    let mut expected = bytes.clone();
    expected[WITHIN].fill(0);
    let line = format!("zero f -v --method write -r {}..{}", WITHIN.start, WITHIN.end);
    for shared in [false, true] {
        let path = dir.file("f", &bytes);
        let other = shared.then(|| fs::File::open(&path).unwrap());
        let output = dir.mmapctl(&words(&line));
        output.code(0);
        assert!(read(&path) == expected, "shared: {shared}");
        let calls = &output;
        let leased = calls.contains("F_SETLEASE, F_WRLCK) = 0");
        assert!(!(leased && shared), "a lease on a file that somebody else has open");
        assert_eq!(calls.contains("pwrite64("), leased, "{calls}");
        assert_eq!(calls.contains("preadv("), !leased, "{calls}");
        if !leased && !shared {
            skip("the file system grants none");
        }
        drop(other);
    }
}

#[test]
fn a_file_truncated_while_zeroing_stays_short() {
    let dir = Sandbox::new();
    let len = 512 << 20;
    let path = dir.sparse("f", len);
    let tmpfs = !dir.is_disk();
    for round in 1..=6u64 {
        if tmpfs {
            return skip("memory is not for files of that size");
        }
        writer(&path).set_len(len).unwrap();
        let words = ["zero", "f", "-q", "-r", "..", "--method", "write"];
        let mut child = dir.command(&words).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        // Waits for the lease to be given back, where there is one.
        nix::unistd::truncate(&path, (round << 20) as i64).unwrap();
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 2 | 4)), "{code:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), round << 20, "round {round}");
    }
}

#[test]
fn a_read_only_mapping_is_not_zeroed() {
    let dir = Sandbox::new();
    let bytes = noise(LONG);
    let path = dir.file("f", &bytes);
    let verb = format!("zero --method write -r {}..{}", WITHIN.start, WITHIN.end);
    let words = ["map", "f", "-q", "--prot", "r", "-c", &verb];
    dir.mmapctl(&words).code(2);
    assert!(read(&path) == bytes);
}

#[test]
fn a_limit_on_the_length_of_files_is_none_on_zeros_within_one() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'x'; 8192]);
    let words = ["zero", "f", "-r", "..4K", "--method", "write"];
    dir.limited("-f 16", &words).outcome().code(0);
    assert!(read(&path) == [[0; 4096], [b'x'; 4096]].concat());
}

#[test]
fn progress_counts_each_byte_once() {
    let dir = Sandbox::new();
    for (line, end) in [
        ("zero f -r ..", "zeroing 100 % of 64 MiB"),
        ("zero f -r .. --method write", "zeroing 100 % of 64 MiB"),
        ("zero f -r .. --punch", "zeroing 100 % of 64 MiB"),
        ("patch f -o 0 fill:5a:1M", "patching 100 % of 1 MiB"),
    ] {
        dir.sparse("f", 64 << 20);
        dir.run(&format!("{line} --progress always")).has(format!("! {end}\nexit 0"));
    }
}
