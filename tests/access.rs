//! `--access`: loads and stores of one width, for registers. Its effect on files is tested by the program; SIGBUS is
//! tested by the library, where the moment can be chosen.

use crate::support::strace::*;
use crate::support::*;
use mmapctl::mapping::{
    Access, Backing, ByteRange, CopyError, CopyTarget, Error, ErrorKind, Holes, MapOptions, PageOrder, PageRun,
    Populate, Prot, Region, Segment, Visibility, Width,
};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::fs::{self};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

const WIDTHS: [usize; 4] = [1, 2, 4, 8];

// ---- what is stored and loaded ----

#[test]
fn stores_of_every_width_are_in_memory_order_and_exact() {
    let dir = Sandbox::new();
    let old = noise(3 * page_size() as usize);
    for width in WIDTHS {
        let path = dir.file("f", &old);
        let at = page_size() as usize - 8; // up to the border of a page, and over it
        let said = dir.run(&format!("patch f -o {at} 0001020304050607 u64le:0x1122334455667788 --access {width}"));
        let (end, stores) = (at + 16, 16 / width);
        let s = if width == 1 { "" } else { "s" };
        said.is(format!("f: {stores} stores of {width} byte{s} in {at:#x}..{end:#x}\nexit 0"));
        let mut new = old.clone();
        new[at..end].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert!(read(&path) == new, "width {width}");
    }
}

#[test]
fn loads_show_the_bytes_in_every_format() {
    let dir = Sandbox::new();
    dir.file("f", noise(20_000));
    for range in ["-r 0..20000", "-r 8..16", "-r 4088..12288", "-r 19992..", "-r 16..16"] {
        for format in ["raw", "hex", "canonical", "xxd", "plain"] {
            let plain = dir.run(&format!("cat f {range} -f {format}"));
            for width in WIDTHS {
                let loaded = dir.run(&format!("cat f {range} -f {format} --access {width}"));
                assert!(loaded == plain, "{range} {format} {width}");
            }
        }
    }
    let loaded = dir.report("cat f -r 8..16 --access 8");
    assert_eq!(loaded["access"], 8);
    assert_eq!(loaded["hex"], dir.report("cat f -r 8..16")["hex"]);
}

#[test]
fn past_the_end_loads_are_clipped_and_stores_refused() {
    let dir = Sandbox::new();
    dir.file("f", [7; 12]);
    dir.run("cat f -o 8 -n 8 --access 4 -f plain").is("07070707\nexit 0");
    dir.refused_untouched("patch f -o 8 u64le:1 --access 8").has("the file ends at 0xc");
}

#[test]
fn holes_are_loaded_rather_than_named() {
    let dir = Sandbox::new();
    dir.sparse("f", 1 << 20);
    dir.run("cat f -x").has("hole");
    dir.run("cat f -x --access 4").lacks("hole");
}

#[test]
fn the_same_store_twice_is_made_twice() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    for _ in 0..2 {
        let report = dir.report("patch f -o 0x10 u32le:1 --access 4");
        assert_eq!(report["changed"], true);
        assert_eq!(report["bytes_changed"], serde_json::Value::Null);
        assert_eq!((&report["access"], &report["stores"]), (&serde_json::json!(4), &serde_json::json!(1)));
    }
}

#[test]
fn edits_are_stored_in_the_order_in_which_they_are_written() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 64]);
    let script = b"0x20: -> u32le:1\n0x10: -> u32le:2\n0x20: -> u32le:3\n+4: -> u32le:4\n";
    dir.run_fed("patch f --access 4 --script - --dry-run", script).is(
        "# mmapctl-patch 1\n# to be applied with --access 4\nsize 0x40\n0x20: -> 01000000\n0x10: -> 02000000\n\
         0x20: -> 03000000\n0x28: -> 04000000\nexit 0",
    );
    assert_eq!(read(&path), [0; 64]);
    let dry = dir.run_fed("patch f --access 4 --script - --dry-run", script);
    let dry = dry.trim_end_matches("exit 0");
    dir.run_fed("patch f --access 4 --script -", dry.as_bytes())
        .is("f: 4 stores of 4 bytes in 0x10..0x2c\nexit 0");
    let bytes = read(&path);
    assert_eq!((bytes[0x10], bytes[0x20], bytes[0x28]), (2, 3, 4));
    // A dump of registers goes back in, too.
    let dump = dir.run("cat f -r 0x10..0x30 --access 4 -f xxd");
    fs::write(&path, [0; 64]).unwrap();
    let dump = dump.trim_end_matches("exit 0");
    dir.run_fed("patch f --access 4 --script - --format xxd", dump.as_bytes()).code(0);
    assert_eq!(read(&path), bytes);
}

#[test]
fn a_store_can_be_made_durable() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    dir.run("patch f -o 0x10 u32le:1 --access 4 --sync")
        .is("f: 1 store of 4 bytes in 0x10..0x14, durable\nexit 0");
}

// ---- what is refused ----

#[test]
fn what_is_not_whole_units_is_refused_with_what_would_be() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    for (line, message, tip) in [
        (
            "patch f -o 0x12 u32le:1 --access 4",
            "0x12..0x16 does not begin at a multiple of 4",
            "begin at 0x10 or 0x14, or give --access 2",
        ),
        ("patch f -o 0x11 u16le:1 --access 2", "a multiple of 2", "--access 1"),
        ("patch f -o 0x10 aabbcc --access 2", "is 3 bytes", "give 2 or 4 bytes, or --access 1"),
        ("patch f -o 0x10 aabb --access 8", "is 2 bytes", "give 8 bytes, or --access 2"),
        (
            "patch f --access 4 -e 0x10:u32le:1 -e 0x16:u32le:1",
            "--edit 2: 0x16..0x1a",
            "begin at 0x14 or 0x18",
        ),
        ("cat f -o 4 -n 8 --access 8", "a multiple of 8", "begin at 0x0 or 0x8"),
        ("cat f -o 8 -n 6 --access 4", "is 6 bytes", "give 4 or 8 bytes"),
    ] {
        dir.refused_untouched(line).has(message).has(tip);
    }
    for width in ["0", "3", "16", "4B", "four"] {
        let line = format!("patch f -o 0 u32le:1 --access {width}");
        dir.run(&line).code(2).has("1, 2, 4, 8");
    }
}

#[test]
fn what_would_have_to_read_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    dir.file("other", [1; 64]);
    let one = "patch f --access 4 -o 0x10 u32le:1";
    for (line, what) in [
        (format!("{one} --expect 00000000"), "--expect"),
        (format!("{one} --strict"), "--strict"),
        (format!("{one} --undo u"), "--undo"),
        (format!("{one} --atomic"), "--atomic"),
        (format!("{one} --grow"), "--grow"),
        ("patch f --access 4 --find 00000000 u32le:1".into(), "--find"),
        ("patch f --access 4 --diff other".into(), "--diff"),
        ("patch f --access 4 --script - --reverse".into(), "--reverse"),
        ("patch f --access 4 -o 0x10 u32le:1/1".into(), "a mask"),
        ("patch f --access 4 -o 0x10 crc32le:0..4".into(), "a checksum"),
    ] {
        dir.refused_untouched(&line).has(what);
    }
    dir.refused_untouched_fed("patch f --access 4 --script -", b"0x10: -> u32le:1\n0x20: 00000000 -> u32le:1\n")
        .has("line 2: an edit with old bytes");
    dir.refused_untouched_fed("patch f --access 4 --script -", b"size 64 -> 128\n").has("length");
    assert!(!dir.join("u").exists());
}

// ---- devices ----

#[test]
fn a_character_device_takes_force_a_length_and_a_mapping() {
    let dir = Sandbox::at("/");
    for (line, message) in [
        ("patch /dev/null -o 0 00 --access 1", "it is a character device"),
        ("patch /dev/null -o 0 00 --access 1 --force", "it does not support memory mapping (ENODEV)"),
        ("cat /dev/null -n 4 --access 4", "it does not support memory mapping (ENODEV)"),
        ("cat /dev/null", "it is a character device"),
        ("cat /dev/zero", "it has no length"),
        ("cat /dev/zero --access 4", "has no length"),
        ("cat /dev/zero -o 64 --access 4", "has no length"),
        ("cat /dev/zero -r 64.. --access 4", "has no length"),
        ("cat /dev/zero -r 64..end --access 4", "has no length"),
        ("cat /dev/zero -o -64 -n 4 --access 4", "has no length"),
        ("patch /dev/zero -o -4 u32le:1 --access 4 --force", "has no length"),
        ("patch /dev/zero -r 64.. u32le:1 --access 4 --force", "has no length"),
        ("patch /dev/zero -e end-4:u32le:1 --access 4 --force", "has no length"),
        ("patch /dev/zero -o 0 crc32le:..4 --access 4 --force", "has no length"),
        ("patch /dev/zero -o 64 u32le:1 --access 4 --force --sync", "--sync"),
        ("patch /dev/zero -o 64 u32le:1 --access 4", "it is a character device"),
        ("cat /dev/zero -o 0x7fffffffffffff00 -n 4 --access 4", "past the end"),
        ("cat /dev/zero -o 2 -n 4 --access 4", "a multiple of 4"),
    ] {
        dir.refused(line).has(message);
    }
    dir.refused_fed("patch /dev/zero --script - --access 4 --force", b"size 4\n0: -> 01020304\n")
        .has("has no length");
    // Of all character devices /dev/zero is the one that every machine lets one map.
    dir.run("cat /dev/zero -r 64..+8 --access 4 -f plain").is("0000000000000000\nexit 0");
    dir.run("patch /dev/zero -o 64 u32le:1,2 --access 4 --force")
        .is("/dev/zero: 2 stores of 4 bytes in 0x40..0x48\nexit 0");
    // A shared, writable mapping of it is a file as long as the mapping, so that a page further on does not answer.
    for line in [
        "patch /dev/zero -o 1p u32le:1 --access 4 --force",
        "patch /dev/zero -o 0x10000000000 u32le:1 --access 4 --force",
    ] {
        dir.refused(line).has("the device did not answer (SIGBUS)");
    }
    dir.run("patch /dev/zero -o 64 u32le:1 --access 4 --dry-run")
        .is("# mmapctl-patch 1\n# to be applied with --access 4\n0x40: -> 01000000\nexit 0");
}

#[test]
fn only_the_pages_of_the_range_are_mapped_at_once() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.sparse("f", 64 << 20);
    for (target, line, at, pages, prot) in [
        ("f", "cat TARGET -o AT -n 16 --access 8 -f plain", 5 * page + 8, 1, "PROT_READ"),
        ("f", "cat TARGET -o AT -n 16 --access 8 -f plain", 6 * page - 8, 2, "PROT_READ"),
        ("/dev/zero", "cat TARGET -o AT -n 16M --access 8 -f plain", 0, (16 << 20) / page, "PROT_READ"),
        (
            "/dev/zero",
            "patch TARGET -o AT fill:00:64K --access 8 --force",
            0,
            (64 << 10) / page,
            "PROT_READ|PROT_WRITE",
        ),
    ] {
        let line = line.replace("TARGET", target).replace("AT", &at.to_string());
        let said = dir.run(&format!("-v {line}"));
        let maps: Vec<_> = said.lines().filter(|line| line.starts_with("! mmap(")).collect();
        let start = match at / page * page {
            0 => "0".into(),
            start => format!("{start:#x}"),
        };
        let len = pages * page;
        let wanted = format!("! mmap(NULL, {len}, {prot}, MAP_SHARED, 3, {start}) = 0x");
        assert!(maps.len() == 1 && maps[0].starts_with(&wanted), "{line}\n{maps:?}\n{wanted}");
        said.has("! munmap(");
        // A device's pages are not to be touched in advance.
        assert!(target == "f" || !said.contains("madvise"), "{line}");
    }
}

#[test]
fn the_memory_of_a_device_is_neither_copied_nor_populated() {
    let mut region = open(Path::new("/dev/zero"), Access::WriteRegisters);
    let page = ByteRange::first(page_size());
    let piece = Segment::new(0, 4, 0).unwrap();
    let payload = tempfile::tempfile().unwrap();
    let outcomes = [
        region.read(0, &mut [0; 4]),
        region.read_chunks(page, |_, _| Ok(())),
        region.populate(page, Populate::Read, &mut |_| Ok(())),
        region.make_writable(&[piece], &mut |_| Ok(())),
        region.store(&[piece], payload.as_fd(), &mut |_| Ok(())),
    ];
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().cause, ErrorKind::DeviceMemory);
    }
    let sent = region.write_to_fd(payload.as_fd(), page, Holes::Written, &mut |_| Ok(()));
    assert!(matches!(sent, Err(CopyError::Source(error)) if error.cause == ErrorKind::DeviceMemory));
    let reversed = PageRun {
        first: 1,
        count: 2,
        descending: true,
        times: 1,
    };
    let order = PageOrder::new(vec![reversed], page_size(), page_size(), 2 * page_size()).unwrap();
    let target = CopyTarget::Descriptor(payload.as_fd());
    let sent = region.write_view(&order, target, &mut |_| Ok(()));
    assert!(matches!(sent, Err(CopyError::Source(error)) if error.cause == ErrorKind::DeviceMemory));
    let freed = region.free_zeros(page, false, &mut |_| Ok(()));
    assert_eq!(freed.unwrap_err().cause, ErrorKind::DeviceMemory);
    region.make_units_writable(&[piece]).unwrap();
}

#[test]
fn memory_that_is_mapped_as_a_whole_is_accessed_where_it_is() {
    let dir = Sandbox::new();
    let path = dir.file("f", [7; 4096]);
    let private = Backing::open(&path, Access::Read, Duration::ZERO).unwrap();
    let shape = MapOptions::whole(Visibility::Private, Prot::ReadWrite);
    let anonymous = Backing::anonymous(4096, None);
    for (backing, before) in [(private, 7), (anonymous, 0)] {
        let mut region = Region::new(backing, ByteRange::first(4096), shape).unwrap();
        let first = region.map_now().unwrap();
        let stored = region.store_units(ByteRange::new(8, 16).unwrap(), Width::Eight, |_, bytes| {
            bytes.copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
            Ok::<_, Error>(())
        });
        stored.unwrap();
        let mut bytes: Vec<u8> = Vec::new();
        let loaded = region.load_units(ByteRange::first(16), Width::Four, |_, more| {
            bytes.extend(more);
            Ok::<_, Error>(())
        });
        loaded.unwrap();
        assert_eq!(bytes, [[before; 8], [1, 2, 3, 4, 5, 6, 7, 8]].concat());
        assert_eq!(region.map_now().unwrap(), first);
    }
    assert_eq!(read(path), [7; 4096]);
}

// ---- SIGBUS ----

/// A file of `pages` pages and its region.
fn region(dir: &Sandbox, pages: u64, access: Access) -> Region {
    let path = dir.file("f", noise((pages * page_size()) as usize));
    open(&path, access)
}

fn open(path: &Path, access: Access) -> Region {
    let backing = Backing::open(path, access, Duration::ZERO).unwrap();
    let prot = if access == Access::ReadRegisters {
        Prot::Read
    } else {
        Prot::ReadWrite
    };
    Region::sliding(backing, prot).unwrap()
}

fn cut(dir: &Sandbox, len: u64) {
    let file = writer(&dir.join("f"));
    file.set_len(len).unwrap();
}

#[test]
fn a_load_of_what_was_cut_off_is_an_error_at_its_offset() {
    let dir = Sandbox::new();
    let page = page_size();
    let all = ByteRange::first(3 * page);
    for width in Width::ALL {
        let mut region = region(&dir, 3, Access::ReadRegisters);
        let mut seen = 0;
        let outcome = region.load_units(all, width, |at, bytes| -> Result<(), Error> {
            assert_eq!(at, seen);
            seen += bytes.len() as u64;
            cut(&dir, page);
            Ok(())
        });
        let error = outcome.unwrap_err();
        assert_eq!(error.cause, ErrorKind::Shrunk { len: page }, "{error}");
        assert_eq!((seen, error.span), (page, ByteRange::new(page, 3 * page)));
        // And the region is as good as before.
        region.load_units(ByteRange::first(8), width, |_, _| Ok::<_, Error>(())).unwrap();
    }
}

#[test]
fn a_store_past_a_truncation_reports_the_stores_before_it() {
    let dir = Sandbox::new();
    let page = page_size();
    for width in Width::ALL {
        let mut region = region(&dir, 3, Access::WriteRegisters);
        let span = ByteRange::new(8, 3 * page).unwrap();
        let outcome = region.store_units(span, width, |at, bytes| -> Result<(), Error> {
            bytes.fill(0x5a);
            if at == page {
                cut(&dir, page);
            }
            Ok(())
        });
        let error = outcome.unwrap_err();
        assert_eq!(error.cause, ErrorKind::Shrunk { len: page }, "{error}");
        assert_eq!((error.stored, error.span), (page - 8, ByteRange::new(page, 3 * page)));
        let bytes = dir.read("f");
        assert!(bytes[..8] == noise(8) && bytes[8..].iter().all(|byte| *byte == 0x5a));
        assert_eq!(bytes.len() as u64, page);
    }
}

#[test]
fn zeros_behind_an_end_within_a_page_are_not_taken_for_bytes() {
    let dir = Sandbox::new();
    let mut region = region(&dir, 1, Access::ReadRegisters);
    cut(&dir, 100);
    let outcome = region.load_units(ByteRange::first(128), Width::Eight, |_, _| Ok::<_, Error>(()));
    assert_eq!(outcome.unwrap_err().cause, ErrorKind::Shrunk { len: 100 });
}

#[test]
fn a_blocked_sigbus_does_not_kill_and_stays_blocked() {
    let dir = Sandbox::new();
    let mut region = region(&dir, 1, Access::WriteRegisters);
    cut(&dir, 0);
    let mut bus = SigSet::empty();
    bus.add(Signal::SIGBUS);
    let before = bus.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    let outcome = region.store_units(ByteRange::first(4), Width::Four, |_, _| Ok::<_, Error>(()));
    let mask = SigSet::thread_get_mask().unwrap();
    before.thread_set_mask().unwrap();
    assert_eq!(outcome.unwrap_err().cause, ErrorKind::Shrunk { len: 0 });
    assert!(mask.contains(Signal::SIGBUS));
}

#[test]
fn a_full_tmpfs_is_an_error_before_and_after_the_first_store() {
    needs!(let mount = Mount::tmpfs("1m"));
    let page = page_size();
    let path = mount.sparse("f", 4 * page);
    mount.fill();
    mount
        .run(&format!("patch f -o {page} u32le:1 --access 4"))
        .has("nothing was written")
        .has("no room")
        .code(2)
        .has("tip: make room");
    mount.run("cat f -n 16 --access 4 -x").code(2).has("no room");
    // The signal itself, without having asked before.
    let mut region = open(&path, Access::WriteRegisters);
    let piece = Segment::new(page, 4, 0).unwrap();
    assert!(region.make_units_writable(&[piece]).is_err());
    let outcome = region.store_units(piece.range(), Width::Four, |_, _| Ok::<_, Error>(()));
    let error = outcome.unwrap_err();
    assert!(matches!(error.cause, ErrorKind::Full(_)), "{error}");
    assert_eq!((error.stored, error.span), (0, Some(piece.range())));
}

#[test]
fn interrupted_stores_are_counted_and_exit_4() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 32 << 20);
    // Mapped 8 MiB at a time to be made writable, and again to be stored into.
    let line = "patch f -o 0 fill:5a:32M --access 1";
    let output = dir.watched(None, line, "mmap(", 6, |_| cut(&dir, 0));
    if output.exit() == 0 {
        return skip("the truncation came too late");
    }
    output
        .code(4)
        .stderr_has(" of 33554432 stores were made, and cannot be undone")
        .stderr_has("truncated meanwhile")
        .stderr_has("tip: see what is there");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn a_signal_between_stores_leaves_the_stored_bytes_known() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 32 << 20);
    let line = "--json patch f -o 0 fill:5a:32M --access 1";
    let output = dir.watched(None, line, "mmap(", 6, |pid| send(pid, Signal::SIGINT));
    if output.exit() == 0 {
        return skip("the signal came too late");
    }
    output.code(4);
    let error = output.stderr().lines().last().map(|line| json(format!("{line}\n").as_bytes()));
    let at = error.unwrap()["offset"].as_u64().unwrap() as usize;
    let bytes = read(path);
    assert!(at > 8 << 20 && bytes[..at].iter().all(|byte| *byte == 0x5a) && bytes[at..].iter().all(|byte| *byte == 0));
}
