//! `remap --size`, as its users see it.

use crate::support::strace::*;
use crate::support::*;
use std::fs;

#[test]
fn growing_adds_zeros_that_have_blocks() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(10_000));
    let report = dir.report("remap f --size +1M");
    let mut expected = noise(10_000);
    expected.resize(10_000 + (1 << 20), 0);
    assert!(read(&path) == expected);
    assert!(allocated(&path) >= 1 << 20, "{report}");
    assert_eq!(report["length_before"], 10_000, "{report}");
    assert_eq!(report["length"], 1_058_576, "{report}");
    assert_eq!(report["changed"], true, "{report}");
    assert_eq!(report["allocated_after"], allocated(&path), "{report}");
}

#[test]
fn growing_sparsely_adds_a_hole() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(10_000));
    dir.report("remap f --size +64M --sparse");
    assert_eq!(fs::metadata(&path).unwrap().len(), 10_000 + (64 << 20));
    assert!(allocated(&path) < 1 << 20, "{}", allocated(&path));
    let bytes = read(&path);
    assert!(bytes[..10_000] == noise(10_000) && bytes[10_000..].iter().all(|byte| *byte == 0));
}

#[test]
fn shrinking_keeps_what_is_left_and_growing_again_gives_zeros() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(2 << 20));
    let before = allocated(&path);
    dir.report("remap f --size -1M");
    assert!(read(&path) == noise(2 << 20)[..1 << 20]);
    assert!(before == 0 || allocated(&path) < before);
    // In the middle of a page: what was after the new end must not come back.
    dir.report("remap f --size 5001");
    dir.report("remap f --size +5000");
    let mut expected = noise(5001);
    expected.resize(10_001, 0);
    assert!(read(&path) == expected);
}

#[test]
fn a_size_is_said_in_every_way() {
    let dir = Sandbox::new();
    let page = page_size();
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
        let path = dir.file("f", [1; 8192]);
        assert_eq!(dir.report(&format!("remap f {size}"))["length"], len, "{size}");
        assert_eq!(fs::metadata(&path).unwrap().len(), len, "{size}");
    }
}

#[test]
fn the_report_tells_lengths_and_blocks() {
    let dir = Sandbox::new();
    dir.file("f", b"");
    dir.run("remap f --size 64K")
        .begins("f: length 0 bytes before, 64 KiB (65536 bytes) now\n")
        .has("\n  allocated   0 bytes before, ")
        .ends("\nexit 0");
}

#[test]
fn the_same_size_changes_nothing() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    synced(&path);
    let before = State::of(&path);
    assert_eq!(dir.run("remap f --size 5000").lines().next(), Some("f: the length is 4.9 KiB (5000 bytes) already"));
    for size in ["5000", "+0", "-0"] {
        assert_eq!(dir.report(&format!("remap f --size {size}"))["changed"], false, "{size}");
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn sizes_that_no_file_can_have_are_refused() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    dir.refused_untouched("remap f --size -101").is(
        "! error: f: cannot shrink by 0x65; the length is 0x64 (100 bytes)\n\
         !   tip: write the new length itself; 0x64 is the present one\n\
         exit 2",
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
        dir.refused_untouched(&format!("remap f --size {size}"));
    }
    // A size is needed, and a place is not understood.
    for line in ["remap f", "remap f --size", "remap f --size 1 -o 1"] {
        dir.run(line).code(2);
    }
}

#[test]
fn a_size_too_large_for_the_file_system_is_refused_in_words() {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC};
    let dir = Sandbox::new();
    // Others may try to allocate it, and fill the disk on the way.
    if ![EXT4_SUPER_MAGIC, TMPFS_MAGIC].contains(&file_system(&dir)) {
        return skip("asked of ext4 and tmpfs only");
    }
    let path = dir.file("f", noise(100));
    for size in ["4096T", "0x7fffffffffffffff"] {
        dir.run(&format!("remap f --size {size}"))
            .begins("! error: f: its length was not changed: cannot ")
            .ends("\nexit 2")
            .lacks("os error");
        assert!(read(&path) == noise(100));
    }
}

#[test]
fn the_safety_rules_of_writers_hold() {
    keeps_the_safety_rules_of_writers("remap FILE --size +1");
}

#[test]
fn a_full_file_system_leaves_the_length_as_it_was() {
    needs!(let mount = Mount::tmpfs("2m"));
    fill_and_grow(&mount, || mount.fill());
}

#[test]
fn a_full_ext4_leaves_the_length_as_it_was() {
    needs!(let mount = Mount::image("mkfs.ext4 -q", 16));
    fill_and_grow(&mount, || mount.fill());
}

fn fill_and_grow(dir: &Sandbox, fill: impl FnOnce()) {
    dir.file("f", noise(5000));
    let path = dir.join("f");
    synced(&path);
    fill();
    let bytes = read(&path);
    dir.refused("remap f --size +1M")
        .has("its length was not changed: cannot allocate 0x1388..0x101388")
        .has("the file system is full (ENOSPC)");
    assert!(read(&path) == bytes, "its bytes or its length changed");
    // A hole needs no room, and a shorter file less.
    dir.report("remap f --size +1M --sparse");
    dir.report("remap f --size 100");
    assert!(read(&path) == bytes[..100]);
}

#[test]
fn the_file_size_limit_is_a_message_and_no_signal() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    let before = State::of(&path);
    for args in [
        &["remap", "f", "--size", "+1M"][..],
        &["remap", "f", "--size", "+1M", "--sparse"],
    ] {
        let output = dir.limited("-f 100", args).outcome();
        let text = &output;
        assert_eq!(output.status.code(), Some(2), "{text}");
        text.begins("! error: f: ").has("File too large (EFBIG)");
        assert_eq!(State::of(&path), before);
    }
    dir.limited("-f 100", &["remap", "f", "--size", "+1K"]).outcome().code(0);
}

#[test]
fn a_report_that_cannot_be_written_is_3_after_a_change() {
    let dir = Sandbox::new();
    let path = dir.file("f", [1; 100]);
    for code in [3, 2] {
        dir.mmapctl_into_full(&["remap", "f", "--size", "50"]).code(code);
    }
    assert_eq!(read(path), [1; 50]);
}

#[test]
fn a_sparse_tebibyte_is_made_and_unmade_at_once() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"start");
    let begin = std::time::Instant::now();
    let text = dir.run("remap f --size 1T --sparse");
    if !text.ends_with("exit 0") {
        assert_eq!(read(path), b"start");
        return skip(&text);
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 40);
    dir.report("remap f --size 5");
    assert_eq!(read(path), b"start");
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

#[test]
fn without_fallocate_room_is_proved_by_a_flush() {
    needs!(let store = Mount::tmpfs("4m"));
    let path = store.file("f", noise(5000));
    needs!(let fuse = Mount::bindfs(&store, &["-o", "noatime"]));
    let report = fuse.report("remap f --size +1M");
    assert!(allocated(&path) >= 1 << 20 && report["allocated_after"] == allocated(&path), "{report}");
    store.fill();
    for line in [
        &["remap", "f", "--size", "+1M"][..],
        &["map", "f", "-c", "remap --size +1M"],
        &["patch", "f", "-o", "1M", "fill:ff:1M", "--grow"],
    ] {
        let before = read(&path);
        fuse.mmapctl(line).code(2).has("the file system is full");
        assert!(read(&path) == before, "{line:?}");
    }
}

#[test]
fn an_active_swap_file_is_left_alone() {
    needs!(let mount = Mount::image("mkfs.ext4 -q", 16));
    let path = mount.file("f", vec![0; 1 << 20]);
    let run_tool = |tool: &str| {
        let output = std::process::Command::new(tool).arg(&path).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !run_tool("mkswap") || !run_tool("swapon") {
        skip("swapon is refused");
        return;
    }
    let lines = ["--size +1M", "--size +1M --sparse", "--size -4K"];
    let text = lines.map(|size| mount.run(&format!("remap f {size}")));
    let len = fs::metadata(&path).unwrap().len();
    assert!(run_tool("swapoff"));
    for text in text {
        assert!(text.contains("ETXTBSY") && text.ends_with("exit 2"), "{text}");
        assert!(text.contains("its length was not changed"), "{text}");
    }
    assert_eq!(len, 1 << 20);
}

#[test]
fn blocks_that_were_given_before_a_failure_are_given_back() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let path = dir.file("f", noise(10_000));
    synced(&path);
    let options = ["-e", "inject=fallocate:error=EIO:when=2", "-P", "f"];
    let output = dir.straced(&options, "remap f --size 1M");
    let text = &output;
    text.code(2).has("EIO");
    assert!(read(&path) == noise(10_000));
    assert!(allocated(&path) < 1 << 20, "{}", allocated(&path));
}
