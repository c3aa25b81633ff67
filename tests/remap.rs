//! `remap --size`, as its users see it.

use crate::support;
use crate::support::faults::{strace_works, straced};
use crate::support::{Mount, State, file, limited, noise, refused, refused_without_touching, report, run};
use crate::support::{allocated, into_full, scratch, skip, synced, told};
use std::fs;
use std::path::Path;

#[test]
fn growing_adds_zeros_that_have_blocks() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(10_000));
    let told = report(dir.path(), "remap f --size +1M");
    let mut expected = noise(10_000);
    expected.resize(10_000 + (1 << 20), 0);
    assert!(fs::read(&path).unwrap() == expected);
    assert!(allocated(&path) >= 1 << 20, "{told}");
    assert_eq!(
        (&told["length_before"], &told["length"]),
        (&10_000.into(), &1_058_576.into()),
        "{told}"
    );
    assert_eq!(
        (&told["changed"], &told["allocated_after"]),
        (&true.into(), &allocated(&path).into()),
        "{told}"
    );
}

#[test]
fn growing_sparsely_adds_a_hole() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(10_000));
    report(dir.path(), "remap f --size +64M --sparse");
    assert_eq!(fs::metadata(&path).unwrap().len(), 10_000 + (64 << 20));
    assert!(allocated(&path) < 1 << 20, "{}", allocated(&path));
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[..10_000] == noise(10_000) && bytes[10_000..].iter().all(|byte| *byte == 0));
}

#[test]
fn shrinking_keeps_what_is_left_and_growing_again_gives_zeros() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(2 << 20));
    let before = allocated(&path);
    report(dir.path(), "remap f --size -1M");
    assert!(fs::read(&path).unwrap() == noise(2 << 20)[..1 << 20]);
    assert!(before == 0 || allocated(&path) < before);
    // In the middle of a page: what was behind the new end must not come back.
    report(dir.path(), "remap f --size 5001");
    report(dir.path(), "remap f --size +5000");
    let mut expected = noise(5001);
    expected.resize(10_001, 0);
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn a_size_is_said_in_every_way() {
    let dir = scratch();
    let page = support::page_size();
    for (size, len) in [
        ("--size 0", 0),
        ("--size 1", 1),
        ("--size 0x1001", 4097),
        ("--size 64K", 65_536),
        ("--size 64kB", 64_000),
        ("--size 2p", 2 * page),
        ("--size +1M", 8192 + (1 << 20)),
        ("--size=+1", 8193),
        ("--size -4K", 4096),
        ("--size=-1", 8191),
        ("--size -8192", 0),
        ("--size +0", 8192),
    ] {
        let path = file(dir.path(), "f", &[1; 8192]);
        assert_eq!(report(dir.path(), &format!("remap f {size}"))["length"], len, "{size}");
        assert_eq!(fs::metadata(&path).unwrap().len(), len, "{size}");
    }
}

#[test]
fn the_report_tells_lengths_and_blocks() {
    let dir = scratch();
    file(dir.path(), "f", b"");
    let told = run(dir.path(), "remap f --size 64K");
    assert!(
        told.starts_with("f: length 0 bytes before, 64 KiB (65536 bytes) now\n"),
        "{told}"
    );
    assert!(told.contains("\n  allocated   0 bytes before, "), "{told}");
    assert!(told.ends_with("\nexit 0"), "{told}");
}

#[test]
fn the_same_size_changes_nothing() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(5000));
    synced(&path);
    let before = State::of(&path);
    assert_eq!(
        run(dir.path(), "remap f --size 5000").lines().next(),
        Some("f: the length is 4.9 KiB (5000 bytes) already")
    );
    for size in ["5000", "+0", "-0"] {
        assert_eq!(
            report(dir.path(), &format!("remap f --size {size}"))["changed"],
            false,
            "{size}"
        );
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn sizes_that_no_file_can_have_are_refused() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    assert_eq!(
        refused_without_touching(dir.path(), "remap f --size -101", b""),
        "! error: f: cannot shrink by 0x65; the length is 0x64 (100 bytes)\n\
         !   tip: write the new length itself; 0x64 is the present one\n\
         exit 2"
    );
    for size in [
        "-1G",
        "0x8000000000000000",
        "+0xffffffffffffffff",
        "020",
        "1.5K",
        "1b",
        "3P",
        "0x10K",
        "+-1",
        "end",
    ] {
        refused_without_touching(dir.path(), &format!("remap f --size {size}"), b"");
    }
    // A size is needed, and a place is not understood.
    for line in ["remap f", "remap f --size", "remap f --size 1 -o 1"] {
        assert!(run(dir.path(), line).ends_with("exit 2"), "{line}");
    }
}

#[test]
fn a_size_too_large_for_the_file_system_is_refused_in_words() {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC};
    let dir = scratch();
    // Others may try to allocate it, and fill the disk on the way.
    if ![EXT4_SUPER_MAGIC, TMPFS_MAGIC].contains(&support::file_system(dir.path())) {
        return skip(
            "a_size_too_large_for_the_file_system_is_refused_in_words",
            "asked of ext4 and tmpfs only",
        );
    }
    let path = file(dir.path(), "f", &noise(100));
    for size in ["4096T", "0x7fffffffffffffff"] {
        let text = run(dir.path(), &format!("remap f --size {size}"));
        assert!(
            text.starts_with("! error: f: its length was not changed: cannot "),
            "{text}"
        );
        assert!(text.ends_with("\nexit 2") && !text.contains("os error"), "{text}");
        assert!(fs::read(&path).unwrap() == noise(100));
    }
}

#[test]
fn the_safety_rules_of_writers_hold() {
    support::keeps_the_safety_rules_of_writers("remap FILE --size +1");
}

#[test]
fn a_full_file_system_leaves_the_length_as_it_was() {
    const TEST: &str = "a_full_file_system_leaves_the_length_as_it_was";
    let Some(mount) = Mount::tmpfs(TEST, "2m") else {
        return;
    };
    fill_and_grow(mount.path(), || mount.fill());
}

#[test]
fn a_full_ext4_leaves_the_length_as_it_was() {
    const TEST: &str = "a_full_ext4_leaves_the_length_as_it_was";
    let Some(mount) = Mount::image(TEST, "mkfs.ext4 -q", 16) else {
        return;
    };
    fill_and_grow(mount.path(), || mount.fill());
}

fn fill_and_grow(dir: &Path, fill: impl FnOnce()) {
    file(dir, "f", &noise(5000));
    let path = dir.join("f");
    synced(&path);
    fill();
    let bytes = fs::read(&path).unwrap();
    let text = refused(dir, "remap f --size +1M", b"");
    assert!(
        text.contains("its length was not changed: cannot allocate 0x1388..0x101388"),
        "{text}"
    );
    assert!(text.contains("the file system is full (ENOSPC)"), "{text}");
    assert!(fs::read(&path).unwrap() == bytes, "its bytes or its length changed");
    // A hole needs no room, and a shorter file less.
    report(dir, "remap f --size +1M --sparse");
    report(dir, "remap f --size 100");
    assert!(fs::read(&path).unwrap() == bytes[..100]);
}

#[test]
fn the_file_size_limit_is_a_message_and_no_signal() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(5000));
    let before = State::of(&path);
    for args in [
        &["remap", "f", "--size", "+1M"][..],
        &["remap", "f", "--size", "+1M", "--sparse"],
    ] {
        let output = limited(dir.path(), "-f 100", args).output().unwrap();
        let text = told(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.starts_with("! error: f: ") && text.contains("File too large (EFBIG)"),
            "{text}"
        );
        assert_eq!(State::of(&path), before);
    }
    let output = limited(dir.path(), "-f 100", &["remap", "f", "--size", "+1K"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

#[test]
fn a_report_that_cannot_be_written_is_3_after_a_change() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[1; 100]);
    for code in [3, 2] {
        let output = into_full(dir.path(), &["remap", "f", "--size", "50"]);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    }
    assert_eq!(fs::read(path).unwrap(), [1; 50]);
}

#[test]
fn a_sparse_tebibyte_is_made_and_unmade_at_once() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"start");
    let begin = std::time::Instant::now();
    let told = run(dir.path(), "remap f --size 1T --sparse");
    if !told.ends_with("exit 0") {
        assert_eq!(fs::read(path).unwrap(), b"start");
        return skip("a_sparse_tebibyte_is_made_and_unmade_at_once", &told);
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 40);
    report(dir.path(), "remap f --size 5");
    assert_eq!(fs::read(path).unwrap(), b"start");
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

#[test]
fn without_fallocate_room_is_proved_by_a_flush() {
    let test = "without_fallocate_room_is_proved_by_a_flush";
    let Some(store) = Mount::tmpfs(test, "4m") else { return };
    let path = file(store.path(), "f", &noise(5000));
    let Some(fuse) = Mount::bindfs(test, store.path(), "noatime") else {
        return;
    };
    let told = report(fuse.path(), "remap f --size +1M");
    assert!(
        allocated(&path) >= 1 << 20 && told["allocated_after"] == allocated(&path),
        "{told}"
    );
    store.fill();
    for line in [
        &["remap", "f", "--size", "+1M"][..],
        &["map", "f", "-c", "remap --size +1M"],
        &["patch", "f", "-o", "1M", "fill:ff:1M", "--grow"],
    ] {
        let before = fs::read(&path).unwrap();
        let text = support::told(&support::mmapctl(fuse.path(), line).output().unwrap());
        assert!(
            text.contains("the file system is full") && text.ends_with("exit 2"),
            "{line:?}: {text}"
        );
        assert!(fs::read(&path).unwrap() == before, "{line:?}");
    }
}

#[test]
fn an_active_swap_file_is_left_alone() {
    let test = "an_active_swap_file_is_left_alone";
    let Some(mount) = Mount::image(test, "mkfs.ext4 -q", 16) else {
        return;
    };
    let path = file(mount.path(), "f", &vec![0; 1 << 20]);
    let run_tool = |tool: &str| {
        let output = std::process::Command::new(tool).arg(&path).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !run_tool("mkswap") || !run_tool("swapon") {
        skip(test, "swapon is refused");
        return;
    }
    let lines = ["--size +1M", "--size +1M --sparse", "--size -4K"];
    let told = lines.map(|size| run(mount.path(), &format!("remap f {size}")));
    let len = fs::metadata(&path).unwrap().len();
    assert!(run_tool("swapoff"));
    for told in told {
        assert!(told.contains("ETXTBSY") && told.ends_with("exit 2"), "{told}");
        assert!(told.contains("its length was not changed"), "{told}");
    }
    assert_eq!(len, 1 << 20);
}

#[test]
fn blocks_that_were_given_before_a_failure_are_given_back() {
    if !strace_works("blocks_that_were_given_before_a_failure_are_given_back") {
        return;
    }
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(10_000));
    synced(&path);
    let options = ["-e", "inject=ftruncate:error=EIO:when=1", "-P", "f"];
    let output = straced(dir.path(), &options, "remap f --size 1M");
    let text = told(&output);
    assert!(text.contains("EIO") && text.ends_with("exit 2"), "{text}");
    assert!(fs::read(&path).unwrap() == noise(10_000));
    assert!(allocated(&path) < 1 << 20, "{}", allocated(&path));
}
