//! `zero --sparsify`, and what `--dry-run` says it would free: the bytes stay, the blocks of zeros are freed.

use crate::support::*;
use std::fs;
use std::os::unix::fs::FileExt;

const PAGE: usize = 4096;

/// 64 blocks of 4 KiB of which those whose number is in `zeros` are zeros.
fn blocks(zeros: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut bytes = noise(64 * PAGE);
    for (number, block) in bytes.chunks_mut(PAGE).enumerate() {
        if zeros(number) {
            block.fill(0);
        }
    }
    bytes
}

/// Runs `line`, which must keep the bytes and the length of "f", and returns its report.
fn sparsified(dir: &Sandbox, line: &str) -> serde_json::Value {
    let path = dir.join("f");
    let before = read(&path);
    let report = dir.report(line);
    assert!(read(&path) == before, "{line}: other bytes");
    assert_eq!(report["changed"], false, "{line}: {report}");
    assert_eq!(report["method"], "sparsify", "{line}: {report}");
    report
}

#[test]
fn blocks_of_zeros_are_freed_in_runs_and_no_byte_changes() {
    let dir = Sandbox::new();
    if !dir.is_disk() {
        return skip("this file system may have blocks of another size");
    }
    let path = dir.file("f", blocks(|number| matches!(number, 0..4 | 9 | 60..64)));
    synced(&path);
    let full = allocated(&path);
    let text = sparsified(&dir, "zero f -r .. --sparsify");
    assert_eq!(text["freed"], 9 * PAGE, "{text}");
    assert_eq!(text["runs"], 3, "{text}");
    assert_eq!(text["would_free"], serde_json::Value::Null, "{text}");
    assert_eq!(text["allocated_before"], full, "{text}");
    assert_eq!(text["allocated_after"], full - 9 * PAGE as u64, "{text}");
    assert_eq!(allocated(&path), full - 9 * PAGE as u64);
    let again = sparsified(&dir, "zero f -r .. --sparsify");
    assert_eq!(again["freed"], 0, "{again}");
    assert_eq!(again["runs"], 0, "{again}");
    assert_eq!(again["data"], 55 * PAGE, "only data is looked at: {again}");
}

#[test]
fn only_whole_blocks_of_the_range_are_freed() {
    let dir = Sandbox::new();
    if !dir.is_disk() {
        return skip("this file system may have blocks of another size");
    }
    for (range, freed) in [
        ("1..4096", 0),
        ("0..4095", 0),
        ("1..3*", 0),
        ("4095..12289", 2),
        ("4096..8192", 1),
        ("8191..", 62),
        ("-4097..", 1),
    ] {
        let range = range.replace("3*", "8191");
        let path = dir.file("f", blocks(|_| true));
        synced(&path);
        let full = allocated(&path);
        let text = sparsified(&dir, &format!("zero f --range {range} --sparsify"));
        assert_eq!(text["freed"], freed * PAGE, "{range}: {text}");
        assert_eq!(allocated(&path), full - (freed * PAGE) as u64, "{range}: {text}");
    }
}

#[test]
fn a_single_byte_keeps_its_block_wherever_it_stands() {
    let dir = Sandbox::new();
    for at in [0, 1, 255, 256, 2047, 4094, 4095] {
        let mut bytes = blocks(|_| true);
        bytes[5 * PAGE + at] = 1;
        let path = dir.file("f", &bytes);
        synced(&path);
        sparsified(&dir, "zero f -r .. --sparsify");
        assert_eq!(read(&path)[5 * PAGE + at], 1, "{at}");
    }
}

#[test]
fn the_last_block_is_freed_though_the_file_ends_in_it() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 3 * PAGE + 100]);
    synced(&path);
    if allocated(&path) != 4 * PAGE as u64 {
        return skip("this file system has blocks of another size");
    }
    let text = sparsified(&dir, "zero f -r .. --sparsify");
    assert_eq!(text["freed"], 3 * PAGE + 100, "{text}");
    assert_eq!((allocated(&path), fs::metadata(&path).unwrap().len()), (0, 12_388));
}

#[test]
fn a_file_of_many_parts_is_searched_by_all_threads_to_the_byte() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 100 << 20);
    let block = noise(1 << 20);
    let zeros = vec![0; 1 << 20];
    // Data, zeros and holes by turns, and a byte at both ends of zeros.
    for mib in 0..100u64 {
        match mib % 3 {
            0 => writer(&path).write_all_at(&block, mib << 20).unwrap(),
            1 => writer(&path).write_all_at(&zeros, mib << 20).unwrap(),
            _ => {}
        }
    }
    writer(&path).write_all_at(b"x", 1 << 20).unwrap();
    writer(&path).write_all_at(b"x", (98 << 20) - 1).unwrap();
    synced(&path);
    let full = allocated(&path);
    let text = sparsified(&dir, "zero f -r .. --sparsify");
    if dir.is_disk() {
        assert_eq!(text["data"], 67 << 20, "{text}");
        assert_eq!(text["freed"], (33 << 20) - 2 * PAGE, "{text}");
    }
    assert!(allocated(&path) < full - (32 << 20), "{text}");
}

#[test]
fn a_dry_run_says_what_would_be_freed_and_frees_nothing() {
    let dir = Sandbox::new();
    let path = dir.file("f", blocks(|number| number % 2 == 0));
    synced(&path);
    let before = State::of(&path);
    let text = sparsified(&dir, "zero f -r .. --sparsify --dry-run");
    assert_eq!(text["would_free"], 32 * PAGE, "{text}");
    assert_eq!(text["freed"], serde_json::Value::Null, "{text}");
    assert_eq!(text["runs"], 32, "{text}");
    dir.run("zero f -r .. --sparsify --dry-run")
        .begins("f: 128 KiB (131072 bytes) of zeros in 0x0..0x40000 would be freed, 32 runs\n");
    // Punching takes the data of the range, whatever it is; a hole has nothing to give.
    let report = dir.report("zero f -r 64K.. --punch --dry-run");
    assert_eq!(report["would_free"], 192 << 10, "{report}");
    assert_eq!(State::of(&path), before);
    dir.sparse("hole", 1 << 20);
    let report = dir.report("zero hole -r .. --punch --dry-run");
    assert_eq!(report["would_free"], 0, "{report}");
    // Nor does it ask for the right to write, or for the lock.
    let holder = fs::File::open(&path).unwrap();
    holder.lock().unwrap();
    sparsified(&dir, "zero f -r .. --sparsify --dry-run --lock-timeout 50ms");
}

#[test]
fn what_cannot_go_with_sparsify_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", noise(PAGE));
    for more in ["--punch", "--method write", "--method auto"] {
        let line = format!("zero f -r .. --sparsify {more}");
        dir.mmapctl(&words(&line)).code(2);
    }
    for line in ["zero f --sparsify", "zero f -r 0..4097 --sparsify"] {
        dir.refused_untouched(line);
    }
    dir.mmapctl(&["map", "f", "--private", "-c", "zero -r .. --sparsify"])
        .code(2)
        .has("--sparsify changes the blocks of a file");
    keeps_the_safety_rules_of_writers("zero FILE -r .. --sparsify");
}

#[test]
fn an_empty_file_and_an_empty_range_have_nothing_to_free() {
    let dir = Sandbox::new();
    dir.file("f", b"");
    dir.file("g", [0; 10_000]);
    for line in [
        "zero f -r .. --sparsify",
        "zero g -r 5..5 --sparsify",
        "zero g -r end.. --sparsify",
    ] {
        assert_eq!(dir.report(line)["freed"], 0, "{line}");
    }
}

#[test]
fn in_a_session_sparsify_works_on_the_mapping_that_stands() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(64 * PAGE));
    synced(&path);
    let lines = [
        "map",
        "f",
        "-c",
        "zero -r 64K..128K --method write",
        "-c",
        "zero -r .. --sparsify --json",
    ];
    let output = dir.mmapctl(&lines);
    output.code(0);
    let last = output.stdout.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
    assert_eq!(json(last)["freed"], 64 << 10);
    let mut expected = noise(64 * PAGE);
    expected[64 << 10..128 << 10].fill(0);
    assert!(read(&path) == expected);
}

/// On each kind of file system: sparsify keeps the bytes and frees, and every method of zeroing zeroes or is refused.
fn zeroes_and_frees(mount: Option<Mount>, block: usize) {
    needs!(let mount = mount);
    let dir = &mount;
    let mut bytes = noise(1 << 20);
    bytes[256 << 10..512 << 10].fill(0);
    // A run of one block, by itself.
    bytes[768 << 10..(768 << 10) + block].fill(0);
    let path = dir.file("f", &bytes);
    synced(&path);
    let full = allocated(&path);
    let text = sparsified(dir, "zero f -r .. --sparsify --sync");
    assert_eq!(text["freed"], (256 << 10) + block, "{text}");
    assert_eq!(text["durable"], true, "{text}");
    assert!(allocated(&path) <= full - (256 << 10), "{text}");
    for method in ["auto", "write", "punch", "zero-range"] {
        let path = dir.file("f", &bytes);
        let line = format!("zero f -r 5..300001 --method {method}");
        let output = dir.mmapctl(&words(&line));
        let now = read(&path);
        if output.status.success() {
            assert!(now[5..300_001].iter().all(|byte| *byte == 0), "{line}");
            assert!(now[..5] == bytes[..5] && now[300_001..] == bytes[300_001..], "{line}");
        } else {
            output.code(2);
            assert!(method == "zero-range" && now == bytes, "{}", output);
        }
    }
}

#[test]
fn ext4_with_small_blocks_frees_each_of_them() {
    zeroes_and_frees(Mount::image("mkfs.ext4 -q -b 1024", 16), 1024);
}

#[test]
fn xfs_zeroes_and_frees() {
    zeroes_and_frees(Mount::image("mkfs.xfs -q", 300), PAGE);
}

#[test]
fn btrfs_zeroes_and_frees() {
    zeroes_and_frees(Mount::image("mkfs.btrfs -q", 110), PAGE);
}

#[test]
fn tmpfs_zeroes_and_frees() {
    zeroes_and_frees(Mount::tmpfs("8m"), PAGE);
}

#[test]
fn overlayfs_zeroes_and_frees() {
    zeroes_and_frees(Mount::overlay(), PAGE);
}

#[test]
fn unwritten_blocks_are_freed_whether_cached_or_not() {
    let folders = [Some(Sandbox::new()), Sandbox::in_memory()];
    for dir in folders.into_iter().flatten() {
        let mut seen = Vec::new();
        for cached in [false, true] {
            let path = dir.file("f", b"");
            dir.report("remap f --size 1M");
            if dir.report("map f")["preallocated_bytes"].is_null() {
                skip("no FIEMAP here");
                continue;
            }
            assert!(allocated(&path) >= 1 << 20);
            if cached {
                dir.report("map f --populate");
            }
            let dry = sparsified(&dir, "zero f -r .. --sparsify --dry-run");
            let punch = dir.report("zero f -r .. --punch --dry-run");
            assert_eq!(punch["would_free"], 1 << 20, "cached: {cached}: {punch}");
            let text = sparsified(&dir, "zero f -r .. --sparsify");
            assert_eq!(dry["would_free"], 1 << 20);
            assert_eq!(text["freed"], 1 << 20);
            assert_eq!(allocated(&path), 0, "cached: {cached}");
            seen.push((text["data"].clone(), text["runs"].clone(), dry["runs"].clone()));
            fs::remove_file(path).unwrap();
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    }
}
