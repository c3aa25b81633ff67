//! `zero --sparsify` and what `--dry-run` says that would be freed: the bytes stay, the blocks of zeros go.

use crate::support;
use crate::support::{
    Mount, State, allocated, file, is_disk, json, mmapctl, noise, refused_without_touching, report, run,
};
use crate::support::{scratch, skip, sparse, synced, told, writer};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

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

/// Runs `line`, which has to leave the bytes and the length of "f" as they are, and gives its report.
fn sparsified(dir: &Path, line: &str) -> serde_json::Value {
    let path = dir.join("f");
    let before = fs::read(&path).unwrap();
    let told = report(dir, line);
    assert!(fs::read(&path).unwrap() == before, "{line}: other bytes");
    assert_eq!(
        (&told["changed"], &told["method"]),
        (&false.into(), &"sparsify".into()),
        "{line}: {told}"
    );
    told
}

#[test]
fn blocks_of_zeros_are_freed_in_runs_and_no_byte_changes() {
    let dir = scratch();
    if !is_disk(dir.path()) {
        let test = "blocks_of_zeros_are_freed_in_runs_and_no_byte_changes";
        return skip(test, "this file system may have blocks of another size");
    }
    let path = file(dir.path(), "f", &blocks(|number| matches!(number, 0..4 | 9 | 60..64)));
    synced(&path);
    let full = allocated(&path);
    let told = sparsified(dir.path(), "zero f -r .. --sparsify");
    assert_eq!(
        (&told["freed"], &told["runs"], &told["would_free"]),
        (&(9 * PAGE).into(), &3.into(), &serde_json::Value::Null),
        "{told}"
    );
    assert_eq!(
        (&told["allocated_before"], &told["allocated_after"]),
        (&full.into(), &(full - 9 * PAGE as u64).into()),
        "{told}"
    );
    assert_eq!(allocated(&path), full - 9 * PAGE as u64);
    let again = sparsified(dir.path(), "zero f -r .. --sparsify");
    assert_eq!((&again["freed"], &again["runs"]), (&0.into(), &0.into()), "{again}");
    assert_eq!(again["data"], 55 * PAGE, "only data is looked at: {again}");
}

#[test]
fn only_whole_blocks_of_the_range_are_freed() {
    let dir = scratch();
    if !is_disk(dir.path()) {
        let test = "only_whole_blocks_of_the_range_are_freed";
        return skip(test, "this file system may have blocks of another size");
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
        let path = file(dir.path(), "f", &blocks(|_| true));
        synced(&path);
        let full = allocated(&path);
        let told = sparsified(dir.path(), &format!("zero f --range {range} --sparsify"));
        assert_eq!(told["freed"], freed * PAGE, "{range}: {told}");
        assert_eq!(allocated(&path), full - (freed * PAGE) as u64, "{range}: {told}");
    }
}

#[test]
fn a_single_byte_keeps_its_block_wherever_it_stands() {
    let dir = scratch();
    for at in [0, 1, 255, 256, 2047, 4094, 4095] {
        let mut bytes = blocks(|_| true);
        bytes[5 * PAGE + at] = 1;
        let path = file(dir.path(), "f", &bytes);
        synced(&path);
        sparsified(dir.path(), "zero f -r .. --sparsify");
        assert_eq!(fs::read(&path).unwrap()[5 * PAGE + at], 1, "{at}");
    }
}

#[test]
fn the_last_block_is_freed_though_the_file_ends_in_it() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[0; 3 * PAGE + 100]);
    synced(&path);
    if allocated(&path) != 4 * PAGE as u64 {
        let test = "the_last_block_is_freed_though_the_file_ends_in_it";
        return skip(test, "this file system has blocks of another size");
    }
    let told = sparsified(dir.path(), "zero f -r .. --sparsify");
    assert_eq!(told["freed"], 3 * PAGE + 100, "{told}");
    assert_eq!((allocated(&path), fs::metadata(&path).unwrap().len()), (0, 12_388));
}

#[test]
fn a_file_of_many_parts_is_searched_by_all_threads_to_the_byte() {
    let dir = scratch();
    let path = sparse(dir.path(), "f", 100 << 20);
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
    let told = sparsified(dir.path(), "zero f -r .. --sparsify");
    if is_disk(dir.path()) {
        assert_eq!(told["data"], 67 << 20, "{told}");
        assert_eq!(told["freed"], (33 << 20) - 2 * PAGE, "{told}");
    }
    assert!(allocated(&path) < full - (32 << 20), "{told}");
}

#[test]
fn a_dry_run_says_what_would_be_freed_and_frees_nothing() {
    let dir = scratch();
    let path = file(dir.path(), "f", &blocks(|number| number % 2 == 0));
    synced(&path);
    let before = State::of(&path);
    let told = sparsified(dir.path(), "zero f -r .. --sparsify --dry-run");
    assert_eq!(
        (&told["would_free"], &told["freed"], &told["runs"]),
        (&(32 * PAGE).into(), &serde_json::Value::Null, &32.into()),
        "{told}"
    );
    let told = run(dir.path(), "zero f -r .. --sparsify --dry-run");
    assert!(
        told.starts_with("f: 128 KiB (131072 bytes) of zeros in 0x0..0x40000 would be freed, 32 runs\n"),
        "{told}"
    );
    // Punching takes the data of the range, whatever it is; a hole has nothing to give.
    let told = report(dir.path(), "zero f -r 64K.. --punch --dry-run");
    assert_eq!(told["would_free"], 192 << 10, "{told}");
    assert_eq!(State::of(&path), before);
    sparse(dir.path(), "hole", 1 << 20);
    let told = report(dir.path(), "zero hole -r .. --punch --dry-run");
    assert_eq!(told["would_free"], 0, "{told}");
    // Nor does it ask for the right to write, or for the lock.
    let holder = fs::File::open(&path).unwrap();
    holder.lock().unwrap();
    sparsified(dir.path(), "zero f -r .. --sparsify --dry-run --lock-timeout 50ms");
}

#[test]
fn what_cannot_go_with_sparsify_is_refused() {
    let dir = scratch();
    file(dir.path(), "f", &noise(PAGE));
    for more in ["--punch", "--method write", "--method auto"] {
        let line = format!("zero f -r .. --sparsify {more}");
        let output = mmapctl(dir.path(), &line.split(' ').collect::<Vec<_>>())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {}", told(&output));
    }
    for line in ["zero f --sparsify", "zero f -r 0..4097 --sparsify"] {
        refused_without_touching(dir.path(), line, b"");
    }
    let private = run_words(dir.path(), &["map", "f", "--private", "-c", "zero -r .. --sparsify"]);
    assert!(
        private.contains("--sparsify changes blocks of a file") && private.ends_with("exit 2"),
        "{private}"
    );
    support::keeps_the_safety_rules_of_writers("zero FILE -r .. --sparsify");
}

fn run_words(dir: &Path, words: &[&str]) -> String {
    told(&mmapctl(dir, words).output().unwrap())
}

#[test]
fn an_empty_file_and_an_empty_range_have_nothing_to_free() {
    let dir = scratch();
    file(dir.path(), "f", b"");
    file(dir.path(), "g", &[0; 10_000]);
    for line in [
        "zero f -r .. --sparsify",
        "zero g -r 5..5 --sparsify",
        "zero g -r end.. --sparsify",
    ] {
        assert_eq!(report(dir.path(), line)["freed"], 0, "{line}");
    }
}

#[test]
fn in_a_session_sparsify_works_on_the_mapping_that_stands() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(64 * PAGE));
    synced(&path);
    let lines = [
        "map",
        "f",
        "-c",
        "zero -r 64K..128K --method write",
        "-c",
        "zero -r .. --sparsify --json",
    ];
    let output = mmapctl(dir.path(), &lines).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let last = output
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .next_back()
        .unwrap();
    assert_eq!(json(last)["freed"], 64 << 10);
    let mut expected = noise(64 * PAGE);
    expected[64 << 10..128 << 10].fill(0);
    assert!(fs::read(&path).unwrap() == expected);
}

/// On each kind of file system: sparsify keeps the bytes and frees, and every method of zeroing zeroes or is refused.
fn zeroes_and_frees(test: &str, mount: Option<Mount>, block: usize) {
    let Some(mount) = mount else { return };
    let dir = mount.path();
    let mut bytes = noise(1 << 20);
    bytes[256 << 10..512 << 10].fill(0);
    // A run of one block, by itself.
    bytes[768 << 10..(768 << 10) + block].fill(0);
    let path = file(dir, "f", &bytes);
    synced(&path);
    let full = allocated(&path);
    let told = sparsified(dir, "zero f -r .. --sparsify --sync");
    assert_eq!(told["freed"], (256 << 10) + block, "{test}: {told}");
    assert_eq!(told["durable"], true, "{test}: {told}");
    assert!(allocated(&path) <= full - (256 << 10), "{test}: {told}");
    for method in ["auto", "write", "punch", "zero-range"] {
        let path = file(dir, "f", &bytes);
        let line = format!("zero f -r 5..300001 --method {method}");
        let output = mmapctl(dir, &line.split(' ').collect::<Vec<_>>()).output().unwrap();
        let now = fs::read(&path).unwrap();
        if output.status.success() {
            assert!(now[5..300_001].iter().all(|byte| *byte == 0), "{test}: {line}");
            assert!(
                now[..5] == bytes[..5] && now[300_001..] == bytes[300_001..],
                "{test}: {line}"
            );
        } else {
            assert_eq!(output.status.code(), Some(2), "{test}: {}", told_of(&output));
            assert!(method == "zero-range" && now == bytes, "{test}: {}", told_of(&output));
        }
    }
}

fn told_of(output: &std::process::Output) -> String {
    told(output)
}

#[test]
fn ext4_with_small_blocks_frees_each_of_them() {
    let test = "ext4_with_small_blocks_frees_each_of_them";
    zeroes_and_frees(test, Mount::image(test, "mkfs.ext4 -q -b 1024", 16), 1024);
}

#[test]
fn xfs_zeroes_and_frees() {
    let test = "xfs_zeroes_and_frees";
    zeroes_and_frees(test, Mount::image(test, "mkfs.xfs -q", 300), PAGE);
}

#[test]
fn btrfs_zeroes_and_frees() {
    let test = "btrfs_zeroes_and_frees";
    zeroes_and_frees(test, Mount::image(test, "mkfs.btrfs -q", 110), PAGE);
}

#[test]
fn tmpfs_zeroes_and_frees() {
    let test = "tmpfs_zeroes_and_frees";
    zeroes_and_frees(test, Mount::tmpfs(test, "8m"), PAGE);
}

#[test]
fn overlayfs_zeroes_and_frees() {
    let test = "overlayfs_zeroes_and_frees";
    zeroes_and_frees(test, Mount::overlay(test), PAGE);
}

#[test]
fn blocks_that_were_never_written_are_freed_in_the_page_cache_or_not() {
    let test = "blocks_that_were_never_written_are_freed_in_the_page_cache_or_not";
    let folders = [Some(scratch()), support::tmpfs_scratch(test)];
    for dir in folders.into_iter().flatten() {
        let mut seen = Vec::new();
        for cached in [false, true] {
            let path = file(dir.path(), "f", b"");
            report(dir.path(), "remap f --size 1M");
            if report(dir.path(), "map f")["preallocated_bytes"].is_null() {
                skip(test, "no FIEMAP here");
                continue;
            }
            assert!(allocated(&path) >= 1 << 20);
            if cached {
                report(dir.path(), "map f --populate");
            }
            let dry = sparsified(dir.path(), "zero f -r .. --sparsify --dry-run");
            let punch = report(dir.path(), "zero f -r .. --punch --dry-run");
            assert_eq!(punch["would_free"], 1 << 20, "cached: {cached}: {punch}");
            let told = sparsified(dir.path(), "zero f -r .. --sparsify");
            assert_eq!(
                (&dry["would_free"], &told["freed"]),
                (&(1 << 20).into(), &(1 << 20).into())
            );
            assert_eq!(allocated(&path), 0, "cached: {cached}");
            seen.push((told["data"].clone(), told["runs"].clone(), dry["runs"].clone()));
            fs::remove_file(path).unwrap();
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    }
}
