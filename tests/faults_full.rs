//! Faults of file systems that only root can cause: no room, huge pages.

use crate::support::huge::Pool;
use crate::support::strace::*;
use crate::support::*;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

fn outcome(dir: &Sandbox, line: &str) -> Outcome {
    dir.mmapctl(&words(line))
}

/// Runs `line`, which must end with 2, report that there is no room, and leave the file untouched.
fn finds_no_room(mount: &Mount, line: &str) {
    let path = mount.join("f");
    let before = fs::read(&path).ok();
    let len = fs::metadata(&path).unwrap().len();
    let output = outcome(mount, line);
    output.code(2).stderr_has("no room");
    // Met before the first store, not put back after it.
    output.lacks("put back");
    assert_eq!(fs::metadata(&path).unwrap().len(), len, "{line}: another length");
    // A hole of a full tmpfs can be read by read(2) only.
    assert!(fs::read(&path).ok() == before, "{line}: other bytes");
}

/// 64 KiB of data, then a hole of as much.
fn half_a_hole(mount: &Mount) -> PathBuf {
    let path = mount.sparse("f", 128 << 10);
    let file = writer(&path);
    file.write_all_at(&noise(64 << 10), 0).unwrap();
    file.sync_all().unwrap();
    path
}

#[test]
fn a_full_tmpfs_refuses_stores_into_holes_only() {
    needs!(let mount = Mount::tmpfs("2m"));
    let path = half_a_hole(&mount);
    mount.fill();
    finds_no_room(&mount, "patch f -o 100K dead");
    finds_no_room(&mount, "patch f -o 0 fill:77:128K");
    finds_no_room(&mount, "zero f --range 96K..112K --method write");
    finds_no_room(&mount, "zero f --range .. --method write");
    finds_no_room(&mount, "zero f --range ..");
    finds_no_room(&mount, "remap f --size +1M");
    outcome(&mount, "map f --populate").code(2).stderr_has("no room").stderr_has("0x10000");
    // A load of a hole takes a page that is not to be had; read(2) takes none.
    for line in ["cat f", "cat f -f plain", "cat f -o 64K -f xxd"] {
        outcome(&mount, line).code(0);
    }
    assert!(outcome(&mount, "cat f").stdout == read(&path));
    // What has its pages works.
    mount.run("patch f -o 0x10 fill:77:60K").is("f: 61190 bytes of 0x10..0xf010 changed\nexit 0");
    outcome(&mount, "zero f --range 1K..2K --method write").code(0);
    outcome(&mount, "zero f --range 4K..8K --punch").code(0);
    let bytes = read(&path);
    assert!(bytes[16..1024].iter().all(|byte| *byte == 0x77));
    assert!(bytes[4096..8192].iter().all(|byte| *byte == 0));
    // The page that the punch gave back is room for one.
    mount.run("patch f -o 100K dead").is("f: 2 bytes of 0x19000..0x19002 changed\nexit 0");
}

#[test]
fn no_room_at_a_later_window_leaves_the_file_untouched() {
    // On tmpfs reading a hole takes room, on ext4 only storing does.
    for mount in [Mount::tmpfs("24m"), Mount::image("mkfs.ext4 -q", 24)].into_iter().flatten() {
        finds_no_room_later(&mount);
    }
}

fn finds_no_room_later(mount: &Mount) {
    let path = mount.sparse("f", 30 << 20);
    writer(&path).write_all_at(&noise(3 << 20), 1 << 20).unwrap();
    let bytes = read(&path);
    for line in [
        "patch f -o 4097 fill:77:29M",
        "zero f --range 4097..29M --method write",
        "patch f -o 4097 fill:00:29M",
    ] {
        let output = outcome(mount, line);
        let text = output.stderr();
        output.code(2).stderr_has("no room").lacks("put back");
        let at = text.split("0x").nth(1).and_then(|rest| u64::from_str_radix(rest.split("..").next()?, 16).ok());
        // At a later window; or earlier, where comparing ahead has taken the room for holes that it read.
        assert!(at.is_some_and(|at| at >= 4096), "{line}: not where it failed: {text}");
        assert!(read(&path) == bytes, "{line}: other bytes");
        // The pages that were made for it are holes again for the next.
        fs::write(&path, &bytes[..4 << 20]).unwrap();
        writer(&path).set_len(30 << 20).unwrap();
    }
}

/// xfs reserves a few blocks that fallocate may use and write may not.
fn take_the_rest(file: &File) {
    let flags = nix::fcntl::FallocateFlags::empty();
    let mut at = 0;
    while nix::fcntl::fallocate(file, flags, at, 4096).is_ok() {
        at += 4096;
    }
}

/// On a full file system with blocks: a hole takes nothing, allocated pages do, and a file does not grow.
fn a_full(mkfs: &str, mib: u64) {
    needs!(let mount = Mount::image(mkfs, mib));
    half_a_hole(&mount);
    let rest = File::create(mount.join("rest")).unwrap();
    mount.fill();
    take_the_rest(&rest);
    finds_no_room(&mount, "patch f -o 100K dead");
    finds_no_room(&mount, "patch f -o 100K dead --sync");
    finds_no_room(&mount, "patch f -o 60K fill:77:8K");
    finds_no_room(&mount, "zero f --range 96K..112K --method write");
    finds_no_room(&mount, "remap f --size +1M");
    mount.run("patch f -o 0x10 dead --sync").is("f: 2 bytes of 0x10..0x12 changed, durable\nexit 0");
    assert_eq!(outcome(&mount, "cat f -f canonical").exit(), 0, "a hole costs nothing to read");
    outcome(&mount, "zero f --range 4K..8K --punch").code(0);
}

#[test]
fn on_a_full_ext4_a_store_into_a_hole_is_refused() {
    a_full("mkfs.ext4 -q", 16);
}

#[test]
fn a_full_ext4_of_small_blocks_refuses_stores_into_holes() {
    a_full("mkfs.ext4 -q -b 1024", 16);
    // A page of which only the first block is there.
    needs!(let mount = Mount::image("mkfs.ext4 -q -b 1024", 16));
    let path = mount.join("f");
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
    a_full("mkfs.xfs -q", 300);
}

#[test]
fn a_full_xfs_refuses_stores_into_reflinks() {
    needs!(let mount = Mount::image("mkfs.xfs -q -m reflink=1", 400));
    // Long enough for zeros to be given room by fallocate, and written.
    let bytes = noise(70 << 20);
    let (path, other) = (mount.join("f"), mount.join("other"));
    fs::write(&other, &bytes).unwrap();
    let copied = Command::new("cp").arg("--reflink=always").args([&other, &path]).status();
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
    fs::remove_file(mount.join("filler")).unwrap();
    outcome(&mount, "zero f --range .. --method write --sync").code(0);
    assert!(read(&path).iter().all(|byte| *byte == 0));
    assert!(read(&other) == bytes);
}

#[test]
fn on_a_nearly_full_xfs_a_store_works_or_finds_no_room() {
    needs!(let mount = Mount::image("mkfs.xfs -q", 300));
    let path = half_a_hole(&mount);
    mount.fill();
    // A store finds no room, and fallocate finds some.
    let before = read(&path);
    let output = outcome(&mount, "patch f -o 100K dead");
    if output.exit() == 0 {
        assert_eq!(read(&path)[100 << 10..][..2], [0xde, 0xad]);
    } else {
        output.code(2).stderr_has("no room");
        assert!(read(&path) == before, "exit 2 and other bytes");
    }
}

#[test]
fn on_a_full_btrfs_exit_code_and_bytes_agree() {
    needs!(let mount = Mount::image("mkfs.btrfs -q --mixed", 110));
    let path = half_a_hole(&mount);
    mount.fill();
    let len = fs::metadata(&path).unwrap().len();
    // Copy on write: any store may find no room, and its free space is a matter of opinion.
    for line in [
        "patch f -o 100K dead",
        "patch f -o 0x10 dead",
        "patch f -o 8K fill:77:100K",
        "zero f -r 1000..50000 --punch",
        "zero f -r 1000..60000",
    ] {
        let before = read(&path);
        let output = outcome(&mount, line);
        let same = read(&path) == before;
        match output.exit() {
            0 => assert!(!same, "{line}: exit 0, and nothing has changed"),
            2 => {
                assert!(same, "{line}: exit 2, and bytes have changed");
                output.stderr_has("no room: the file system is full").stderr_has("make room");
            }
            other => panic!("{line}: {other}: {}", output.stderr()),
        }
    }
    outcome(&mount, "remap f --size +64M").code(2);
    assert_eq!(fs::metadata(&path).unwrap().len(), len);
}

// ---- huge pages ----

#[test]
fn huge_pages_of_zeros_are_freed_and_holes_not_counted() {
    needs!(let _pool = Pool::new(8));
    needs!(let mount = Mount::hugetlbfs());
    let path = mount.sparse("f", 8 << 20);
    let line = "map f -q -c";
    let store = |verb| {
        let words: Vec<_> = words(line).into_iter().chain([verb]).collect();
        mount.mmapctl(&words).code(0);
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
        mount.run(line).has(said);
    }
    assert_eq!((allocated(&path), read(&path)[5 << 20]), (2 << 20, 1));
}

#[test]
fn every_verb_works_on_a_file_of_huge_pages() {
    needs!(let _pool = Pool::new(8));
    needs!(let mount = Mount::hugetlbfs());
    let dir = &mount;
    let path = dir.sparse("f", 4 << 20);
    // What the others get.
    let line = "if=/dev/zero of=f bs=4 count=1 conv=notrunc";
    let mut dd = Command::new("dd");
    let dd = dd.current_dir(dir).args(words(line)).env("LC_ALL", "C").outcome();
    assert!(!dd.status.success() && dd.stderr().contains("Invalid argument"), "{}", dd.stderr());

    dir.run("patch f -o 0x1ffffe deadbeef --sync")
        .is("f: 4 bytes of 0x1ffffe..0x200002 changed, durable\nexit 0");
    let expected = [0xde, 0xad, 0xbe, 0xef];
    let output = outcome(dir, "cat f -o 0x1ffffe -n 4");
    assert_eq!((output.exit(), output.stdout.as_slice()), (0, expected.as_slice()));
    assert_eq!(read(&path)[0x1ffffe..0x200002], expected);
    assert_eq!(dir.run("patch f -o 0x1ffffe --expect 00 11").lines().last(), Some("exit 1"));

    let zeroed = dir.run("zero f -o 0x1fffff -n 2");
    zeroed.begins("f: 0x1fffff..0x200001 zeroed by write\n");
    assert_eq!(read(&path)[0x1ffffe..0x200002], [0xde, 0, 0, 0xef]);
    dir.run("zero f --range .. --json").code(0).has("\"method\":\"");
    assert!(read(&path).iter().all(|byte| *byte == 0));

    let map = dir.run("map f --populate --lock --json");
    for part in [
        "\"page_size\":2097152",
        "\"pages\":2",
        "\"resident\":2",
        "\"huge_bytes\":4194304",
    ] {
        assert!(map.contains(part), "{part} in {map}");
    }
    dir.run("cat f -f canonical -o 2M -n 32").code(0);
    dir.run("sync f").code(0);

    outcome(dir, "remap f --size +1M").code(2).stderr_has("  tip: ").stderr_has("huge page");
    assert_eq!(fs::metadata(&path).unwrap().len(), 4 << 20);
    dir.run("remap f --size +2M").code(0);
    assert_eq!(fs::metadata(&path).unwrap().len(), 6 << 20);
    assert_eq!(allocated(&path), 6 << 20, "with its pages");
    dir.run("remap f --size 2M").code(0);
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 << 20);
}

#[test]
fn a_pool_without_huge_pages_left_is_trouble_and_no_signal() {
    needs!(let _pool = Pool::new(8));
    needs!(let mount = Mount::hugetlbfs());
    let dir = &mount;
    dir.sparse("f", 256 << 20);
    let before = State::of(&dir.sparse("small", 2 << 20));
    for line in [
        "patch f -o 0 fill:77:64M",
        "patch f -o 200M dead",
        "map f --populate",
        "map f --populate --noreserve",
    ] {
        let output = outcome(dir, line);
        let text = output.stderr();
        match output.exit() {
            // A few pages in one window are there for it.
            0 => assert!(line.contains("dead"), "{line}: exit 0"),
            2 => assert!(
                text.contains("ENOMEM") || text.contains("huge page") || text.contains("no room"),
                "{line}: {text}"
            ),
            other => panic!("{line}: {other}: {text}"),
        }
    }
    assert_eq!(dir.state("small"), before);
    // Not one byte of the patch that did not fit.
    assert_eq!(dir.run("remap f --size 16M --sparse").lines().last(), Some("exit 0"));
    let output = outcome(dir, "cat f -n 8M");
    output.code(0);
    assert!(output.stdout.iter().all(|byte| *byte == 0), "bytes of a refused patch");
}

#[test]
fn a_full_temporary_folder_is_met_before_any_write() {
    needs!(strace_works());
    // Room for the new bytes and all but the last of the old ones.
    needs!(let temporary = Mount::tmpfs("34700k"));
    let dir = Sandbox::new();
    let old = noise(17 << 20);
    let path = dir.file("f", &old);
    dir.file("new", vec![0x77; 17 << 20]);
    let temporary = format!("TMPDIR={}", temporary.display());
    let options = ["-E", &temporary, "-e", "inject=preadv:error=EIO:when=3"];
    let output = dir.straced(&options, "patch f -o 0 @new");
    output.code(2);
    assert!(read(&path) == old, "{}", output.stderr());
}

#[test]
fn huge_pages_that_a_file_has_count_as_resident() {
    needs!(let _pool = Pool::new(4));
    needs!(let mount = Mount::hugetlbfs());
    let dir = &mount;
    dir.sparse("f", 6 << 20);
    let resident = |line: &str| dir.report(line)["resident"].clone();
    assert_eq!(resident("map f"), 0);
    dir.run("patch f -q -o 2M 01").code(0);
    // Not by this process: another one has touched it, and has ended.
    assert_eq!(resident("map f"), 1);
    assert_eq!(resident("map f --private --noreserve"), 1);
    assert_eq!(resident("map f -r 0..2M"), serde_json::Value::Null);
    dir.run("map f -r 2M..4M").has("the kernel counts huge pages only for the whole file");
    assert_eq!(resident("map f --populate"), 3);
    assert_eq!(resident("map f -r 2M..4M"), 1);
    let table = dir.report("map f -R");
    assert_eq!(table["files"][0]["resident"], 3, "{table}");
}
