//! Faults of file systems, which take root to bring about: no room, huge pages.

use crate::support;
use crate::support::faults::{code, stderr, strace_works, straced, words};
use crate::support::huge::Pool;
use crate::support::writer;
use crate::support::{Mount, State, allocated, file, mmapctl, noise, run, scratch, sparse};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn outcome(dir: &Path, line: &str) -> Output {
    mmapctl(dir, &words(line)).output().expect("mmapctl runs")
}

/// Runs `line`, which has to end with 2 and say that there is no room, and leave the file alone.
fn finds_no_room(mount: &Mount, line: &str) {
    let path = mount.path().join("f");
    let before = fs::read(&path).ok();
    let len = fs::metadata(&path).unwrap().len();
    let output = outcome(mount.path(), line);
    let told = stderr(&output);
    assert_eq!(code(&output), 2, "{line}: {told}");
    assert!(told.contains("no room"), "{line}: {told}");
    // Met before the first store, not put back after it.
    assert!(!told.contains("put back"), "{line}: {told}");
    assert_eq!(fs::metadata(&path).unwrap().len(), len, "{line}: another length");
    // A hole can't be read from a full tmpfs, by nobody, but through read(2).
    assert!(fs::read(&path).ok() == before, "{line}: other bytes");
}

/// 64 KiB of data, then a hole of as much.
fn half_a_hole(mount: &Mount) -> PathBuf {
    let path = sparse(mount.path(), "f", 128 << 10);
    let file = writer(&path);
    file.write_all_at(&noise(64 << 10), 0).unwrap();
    file.sync_all().unwrap();
    path
}

#[test]
fn on_a_full_tmpfs_a_store_into_a_hole_is_refused_and_the_rest_works() {
    let test = "on_a_full_tmpfs_a_store_into_a_hole_is_refused_and_the_rest_works";
    let Some(mount) = Mount::tmpfs(test, "2m") else { return };
    let path = half_a_hole(&mount);
    mount.fill();
    finds_no_room(&mount, "patch f -o 100K dead");
    finds_no_room(&mount, "patch f -o 0 fill:77:128K");
    finds_no_room(&mount, "zero f --range 96K..112K --method write");
    finds_no_room(&mount, "zero f --range .. --method write");
    finds_no_room(&mount, "zero f --range ..");
    finds_no_room(&mount, "remap f --size +1M");
    let output = outcome(mount.path(), "map f --populate");
    let told = stderr(&output);
    assert_eq!(code(&output), 2, "{told}");
    assert!(told.contains("no room") && told.contains("0x10000"), "{told}");
    // A load of a hole takes a page that is not to be had; read(2) takes none.
    for line in ["cat f", "cat f -f plain", "cat f -o 64K -f xxd"] {
        let output = outcome(mount.path(), line);
        assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
    }
    assert!(outcome(mount.path(), "cat f").stdout == fs::read(&path).unwrap());
    // What has its pages works.
    assert_eq!(
        run(mount.path(), "patch f -o 0x10 fill:77:60K"),
        "f: 61190 bytes of 0x10..0xf010 changed\nexit 0"
    );
    assert_eq!(code(&outcome(mount.path(), "zero f --range 1K..2K --method write")), 0);
    let output = outcome(mount.path(), "zero f --range 4K..8K --punch");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[16..1024].iter().all(|byte| *byte == 0x77));
    assert!(bytes[4096..8192].iter().all(|byte| *byte == 0));
    // The page that the punch gave back is room for one.
    assert_eq!(
        run(mount.path(), "patch f -o 100K dead"),
        "f: 2 bytes of 0x19000..0x19002 changed\nexit 0"
    );
}

#[test]
fn a_store_that_finds_no_room_at_a_later_window_leaves_everything_as_it_was() {
    let test = "a_store_that_finds_no_room_at_a_later_window_leaves_everything_as_it_was";
    // On tmpfs reading a hole takes room, on ext4 only storing does.
    for mount in [Mount::tmpfs(test, "24m"), Mount::image(test, "mkfs.ext4 -q", 24)]
        .into_iter()
        .flatten()
    {
        finds_no_room_later(&mount);
    }
}

fn finds_no_room_later(mount: &Mount) {
    let path = sparse(mount.path(), "f", 30 << 20);
    writer(&path).write_all_at(&noise(3 << 20), 1 << 20).unwrap();
    let bytes = fs::read(&path).unwrap();
    for line in [
        "patch f -o 4097 fill:77:29M",
        "zero f --range 4097..29M --method write",
        "patch f -o 4097 fill:00:29M",
    ] {
        let output = outcome(mount.path(), line);
        let told = stderr(&output);
        assert_eq!(code(&output), 2, "{line}: {told}");
        assert!(told.contains("no room") && !told.contains("put back"), "{line}: {told}");
        let at = told
            .split("0x")
            .nth(1)
            .and_then(|rest| u64::from_str_radix(rest.split("..").next()?, 16).ok());
        // At a later window; or earlier, where comparing ahead has taken the room for holes that it read.
        assert!(at.is_some_and(|at| at >= 4096), "{line}: not where it failed: {told}");
        assert!(fs::read(&path).unwrap() == bytes, "{line}: other bytes");
        // The pages that were made for it are holes again for the next.
        fs::write(&path, &bytes[..4 << 20]).unwrap();
        writer(&path).set_len(30 << 20).unwrap();
    }
}

/// xfs keeps a few blocks back from write, which fallocate gets.
fn take_the_rest(file: &File) {
    let flags = nix::fcntl::FallocateFlags::empty();
    let mut at = 0;
    while nix::fcntl::fallocate(file, flags, at, 4096).is_ok() {
        at += 4096;
    }
}

/// On a full file system with blocks: a hole takes nothing, allocated pages do, and a file does not grow.
fn a_full(test: &str, mkfs: &str, mib: u64) {
    let Some(mount) = Mount::image(test, mkfs, mib) else {
        return;
    };
    half_a_hole(&mount);
    let rest = File::create(mount.path().join("rest")).unwrap();
    mount.fill();
    take_the_rest(&rest);
    finds_no_room(&mount, "patch f -o 100K dead");
    finds_no_room(&mount, "patch f -o 100K dead --sync");
    finds_no_room(&mount, "patch f -o 60K fill:77:8K");
    finds_no_room(&mount, "zero f --range 96K..112K --method write");
    finds_no_room(&mount, "remap f --size +1M");
    assert_eq!(
        run(mount.path(), "patch f -o 0x10 dead --sync"),
        "f: 2 bytes of 0x10..0x12 changed, durable\nexit 0"
    );
    assert_eq!(
        code(&outcome(mount.path(), "cat f -f canonical")),
        0,
        "a hole costs nothing to read"
    );
    let output = outcome(mount.path(), "zero f --range 4K..8K --punch");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn on_a_full_ext4_a_store_into_a_hole_is_refused() {
    a_full("on_a_full_ext4_a_store_into_a_hole_is_refused", "mkfs.ext4 -q", 16);
}

#[test]
fn on_a_full_ext4_with_blocks_smaller_than_pages_a_store_into_a_hole_is_refused() {
    let test = "on_a_full_ext4_with_blocks_smaller_than_pages_a_store_into_a_hole_is_refused";
    a_full(test, "mkfs.ext4 -q -b 1024", 16);
    // A page of which only the first block is there.
    let Some(mount) = Mount::image(test, "mkfs.ext4 -q -b 1024", 16) else {
        return;
    };
    let path = mount.path().join("f");
    fs::write(&path, noise(1024)).unwrap();
    let file = writer(&path);
    file.set_len(8192).unwrap();
    file.sync_all().unwrap();
    mount.fill();
    finds_no_room(&mount, "patch f -o 2048 dead");
    finds_no_room(&mount, "patch f -o 1022 deadbeef");
}

#[test]
fn on_a_full_xfs_a_store_into_a_hole_is_refused() {
    a_full("on_a_full_xfs_a_store_into_a_hole_is_refused", "mkfs.xfs -q", 300);
}

#[test]
fn on_a_full_xfs_a_store_into_a_reflink_is_refused_and_else_leaves_the_other_file_alone() {
    let test = "on_a_full_xfs_a_store_into_a_reflink_is_refused_and_else_leaves_the_other_file_alone";
    let Some(mount) = Mount::image(test, "mkfs.xfs -q -m reflink=1", 400) else {
        return;
    };
    // Long enough for zeros to be given room by fallocate, and written.
    let bytes = noise(70 << 20);
    let (path, other) = (mount.path().join("f"), mount.path().join("other"));
    fs::write(&other, &bytes).unwrap();
    let copied = Command::new("cp")
        .arg("--reflink=always")
        .args([&other, &path])
        .status();
    assert!(copied.unwrap().success());
    // But for some blocks, which xfs keeps back.
    mount.fill();
    for line in [
        "patch f -o 1M dead",
        "zero f --range .. --method write",
        "zero f -o 1M -n 8K --method write",
    ] {
        finds_no_room(&mount, line);
    }
    fs::remove_file(mount.path().join("filler")).unwrap();
    assert_eq!(
        code(&outcome(mount.path(), "zero f --range .. --method write --sync")),
        0
    );
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
    assert!(fs::read(&other).unwrap() == bytes);
}

#[test]
fn on_an_xfs_with_its_last_blocks_kept_back_a_store_works_or_finds_no_room() {
    let test = "on_an_xfs_with_its_last_blocks_kept_back_a_store_works_or_finds_no_room";
    let Some(mount) = Mount::image(test, "mkfs.xfs -q", 300) else {
        return;
    };
    let path = half_a_hole(&mount);
    mount.fill();
    // A store finds no room, and fallocate finds some.
    let before = fs::read(&path).unwrap();
    let output = outcome(mount.path(), "patch f -o 100K dead");
    let told = stderr(&output);
    if code(&output) == 0 {
        assert_eq!(fs::read(&path).unwrap()[100 << 10..][..2], [0xde, 0xad]);
    } else {
        assert!(code(&output) == 2 && told.contains("no room"), "{told}");
        assert!(fs::read(&path).unwrap() == before, "exit 2 and other bytes");
    }
}

#[test]
fn on_a_full_btrfs_exit_code_and_bytes_agree() {
    let test = "on_a_full_btrfs_exit_code_and_bytes_agree";
    let Some(mount) = Mount::image(test, "mkfs.btrfs -q", 110) else {
        return;
    };
    let path = half_a_hole(&mount);
    mount.fill();
    let len = fs::metadata(&path).unwrap().len();
    // Copy on write: any store may find no room, and its free space is a matter of opinion.
    for line in [
        "patch f -o 100K dead",
        "patch f -o 0x10 dead",
        "patch f -o 8K fill:77:100K",
    ] {
        let before = fs::read(&path).unwrap();
        let output = outcome(mount.path(), line);
        let same = fs::read(&path).unwrap() == before;
        match code(&output) {
            0 => assert!(!same, "{line}: exit 0, and nothing has changed"),
            2 => assert!(same, "{line}: exit 2, and bytes have changed"),
            other => panic!("{line}: {other}: {}", stderr(&output)),
        }
    }
    let output = outcome(mount.path(), "remap f --size +64M");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_eq!(fs::metadata(&path).unwrap().len(), len);
}

// ---- huge pages ----

#[test]
fn huge_pages_of_zeros_are_freed_and_holes_are_not_counted_among_them() {
    let test = "huge_pages_of_zeros_are_freed_and_holes_are_not_counted_among_them";
    let Some(_pool) = Pool::new(test, 8) else { return };
    let Some(mount) = Mount::hugetlbfs(test) else { return };
    let path = sparse(mount.path(), "f", 8 << 20);
    let line = "map f -q -c";
    let store = |verb| {
        let words: Vec<_> = words(line).into_iter().chain([verb]).collect();
        let output = mmapctl(mount.path(), &words).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    };
    store("zero -r 0..4M");
    store("patch -o 5M 01");
    for (line, said) in [
        // It cannot know which of the zeros are a hole, but no more is there than is allocated.
        ("zero f -r .. --sparsify --dry-run --json", "\"would_free\":6291456"),
        // A part of a huge page stays.
        ("zero f -r ..3M --sparsify --json", "\"freed\":2097152"),
        ("zero f -r .. --sparsify --json", "\"freed\":2097152"),
    ] {
        let text = run(mount.path(), line);
        assert!(text.contains(said), "{line}: {text}");
    }
    assert_eq!((allocated(&path), fs::read(&path).unwrap()[5 << 20]), (2 << 20, 1));
}

#[test]
fn a_file_of_huge_pages_is_patched_zeroed_shown_mapped_and_resized() {
    let test = "a_file_of_huge_pages_is_patched_zeroed_shown_mapped_and_resized";
    let Some(_pool) = Pool::new(test, 8) else { return };
    let Some(mount) = Mount::hugetlbfs(test) else { return };
    let dir = mount.path();
    let path = sparse(dir, "f", 4 << 20);
    // What the others get.
    let line = "if=/dev/zero of=f bs=4 count=1 conv=notrunc";
    let mut dd = Command::new("dd");
    let dd = dd
        .current_dir(dir)
        .args(words(line))
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(
        !dd.status.success() && stderr(&dd).contains("Invalid argument"),
        "{}",
        stderr(&dd)
    );

    assert_eq!(
        run(dir, "patch f -o 0x1ffffe deadbeef --sync"),
        "f: 4 bytes of 0x1ffffe..0x200002 changed, durable\nexit 0"
    );
    let expected = [0xde, 0xad, 0xbe, 0xef];
    let output = outcome(dir, "cat f -o 0x1ffffe -n 4");
    assert_eq!((code(&output), output.stdout.as_slice()), (0, expected.as_slice()));
    assert_eq!(fs::read(&path).unwrap()[0x1ffffe..0x200002], expected);
    assert_eq!(
        run(dir, "patch f -o 0x1ffffe --expect 00 11").lines().last(),
        Some("exit 1")
    );

    let zeroed = run(dir, "zero f -o 0x1fffff -n 2");
    assert!(
        zeroed.starts_with("f: 0x1fffff..0x200001 zeroed by write\n"),
        "{zeroed}"
    );
    assert_eq!(fs::read(&path).unwrap()[0x1ffffe..0x200002], [0xde, 0, 0, 0xef]);
    let zeroed = run(dir, "zero f --range .. --json");
    assert!(
        zeroed.contains("\"method\":\"") && zeroed.ends_with("exit 0"),
        "{zeroed}"
    );
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));

    let map = run(dir, "map f --populate --lock --json");
    for part in [
        "\"page_size\":2097152",
        "\"pages\":2",
        "\"resident\":2",
        "\"huge_bytes\":4194304",
    ] {
        assert!(map.contains(part), "{part} in {map}");
    }
    assert!(run(dir, "cat f -f canonical -o 2M -n 32").ends_with("exit 0"));
    assert!(run(dir, "sync f").ends_with("exit 0"));

    let output = outcome(dir, "remap f --size +1M");
    let told = stderr(&output);
    assert_eq!(code(&output), 2, "{told}");
    assert!(told.contains("  tip: ") && told.contains("huge page"), "{told}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 4 << 20);
    assert!(run(dir, "remap f --size +2M").ends_with("exit 0"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 6 << 20);
    assert_eq!(allocated(&path), 6 << 20, "with its pages");
    assert!(run(dir, "remap f --size 2M").ends_with("exit 0"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20);
}

#[test]
fn a_pool_without_huge_pages_left_is_trouble_and_no_signal() {
    let test = "a_pool_without_huge_pages_left_is_trouble_and_no_signal";
    let Some(_pool) = Pool::new(test, 8) else { return };
    let Some(mount) = Mount::hugetlbfs(test) else { return };
    let dir = mount.path();
    sparse(dir, "f", 256 << 20);
    let before = State::of(&sparse(dir, "small", 2 << 20));
    for line in [
        "patch f -o 0 fill:77:64M",
        "patch f -o 200M dead",
        "map f --populate",
        "map f --populate --noreserve",
    ] {
        let output = outcome(dir, line);
        let told = stderr(&output);
        match code(&output) {
            // A few pages in one window are there for it.
            0 => assert!(line.contains("dead"), "{line}: exit 0"),
            2 => assert!(
                told.contains("ENOMEM") || told.contains("huge page") || told.contains("no room"),
                "{line}: {told}"
            ),
            other => panic!("{line}: {other}: {told}"),
        }
    }
    assert_eq!(State::of(&dir.join("small")), before);
    // Not one byte of the patch that did not fit.
    assert_eq!(run(dir, "remap f --size 16M --sparse").lines().last(), Some("exit 0"));
    let output = outcome(dir, "cat f -n 8M");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(output.stdout.iter().all(|byte| *byte == 0), "bytes of a refused patch");
}

#[test]
fn a_temporary_folder_that_is_full_is_met_before_anything_is_written() {
    let test = "a_temporary_folder_that_is_full_is_met_before_anything_is_written";
    if !strace_works(test) {
        return;
    }
    // Room for the new bytes and all but the last of the old ones.
    let Some(temporary) = Mount::tmpfs(test, "34700k") else {
        return;
    };
    let dir = scratch();
    let old = noise(17 << 20);
    let path = file(dir.path(), "f", &old);
    file(dir.path(), "new", &vec![0x77; 17 << 20]);
    let temporary = format!("TMPDIR={}", temporary.path().display());
    let options = ["-E", &temporary, "-e", "inject=preadv:error=EIO:when=3"];
    let output = straced(dir.path(), &options, "patch f -o 0 @new");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(fs::read(&path).unwrap() == old, "{}", stderr(&output));
}

#[test]
fn huge_pages_that_a_file_has_count_as_resident() {
    let test = "huge_pages_that_a_file_has_count_as_resident";
    let Some(_pool) = Pool::new(test, 4) else { return };
    let Some(mount) = Mount::hugetlbfs(test) else { return };
    let dir = mount.path();
    sparse(dir, "f", 6 << 20);
    let resident = |line: &str| support::report(dir, line)["resident"].clone();
    assert_eq!(resident("map f"), 0);
    assert!(run(dir, "patch f -q -o 2M 01").ends_with("exit 0"));
    // Not by this process: another has touched it, and is gone.
    assert_eq!(resident("map f"), 1);
    assert_eq!(resident("map f --private --noreserve"), 1);
    assert_eq!(resident("map f -r 0..2M"), serde_json::Value::Null);
    let text = run(dir, "map f -r 2M..4M");
    assert!(
        text.contains("of huge pages the kernel counts those of the whole file"),
        "{text}"
    );
    assert_eq!(resident("map f --populate"), 3);
    assert_eq!(resident("map f -r 2M..4M"), 1);
    let table = support::report(dir, "map f -R");
    assert_eq!(table["files"][0]["resident"], 3, "{table}");
}
