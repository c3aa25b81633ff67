//! `sync`, as its users see it, and by what the kernel counts as dirty.

use crate::support::*;
use predicates::prelude::*;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

fn store(path: &Path, at: u64, bytes: &[u8]) {
    writer(path).write_all_at(bytes, at).unwrap();
}

#[test]
fn pages_that_a_writer_left_dirty_are_clean_afterwards() {
    on_disk(|dir| {
        let path = dir.file("f", [1; 40_960]);
        dir.report("sync f");
        store(&path, 5000, b"x");
        let first = dir.report("sync f");
        assert!(first["dirty_before"].as_u64().unwrap() > 0, "{first}");
        assert_eq!(first["dirty_after"], 0, "{first}");
        assert_eq!(first["durable"], true, "{first}");
        assert_eq!(first["method"], "msync", "{first}");
        let second = dir.report("sync f");
        assert_eq!(second["dirty_before"], 0, "{second}");
        assert_eq!(second["dirty_after"], 0, "{second}");
    });
}

/// Anybody on the machine may have everything written back by sync(2): pages that were to be dirty are made so again.
fn despite_others(mut dirty: impl FnMut() -> bool) {
    assert!((0..5).any(|_| dirty()), "no page was dirty when it was looked at");
}

#[test]
fn a_range_that_is_synced_leaves_far_away_pages_dirty() {
    on_disk(|dir| {
        let path = dir.sparse("f", 16 << 20);
        fs::write(&path, vec![1; 16 << 20]).unwrap();
        dir.report("sync f");
        despite_others(|| {
            for at in [0x1234, 8 << 20, (16 << 20) - 1] {
                store(&path, at, b"x");
            }
            // The far ones are still dirty after the near one was synced.
            ["-o 0x1234 -n 1", "-r 8M..+1", "-o -1"].into_iter().all(|place| {
                let report = dir.report(&format!("sync f {place}"));
                assert_eq!(report["dirty_after"], 0, "{report}");
                report["dirty_before"].as_u64().unwrap() > 0
            })
        });
        let near = dir.report("sync f -o 0x1234 -n 1");
        assert_eq!(near["offset"], 0x1234, "{near}");
        assert_eq!(near["length"], 1, "{near}");
        assert_eq!(dir.report("sync f")["dirty_before"], 0);
    });
}

#[test]
fn a_file_keeps_its_bytes_its_length_and_its_mtime() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(10_001));
    dir.report("sync f"); // delayed allocation gives the blocks now
    let before = State::of(&path);
    for line in ["sync f", "sync f --async", "sync f --invalidate", "sync f -r 1..5"] {
        dir.report(line);
        assert_eq!(State::of(&path), before, "{line}");
    }
}

#[test]
fn the_others_are_synced_when_one_of_several_is_missing() {
    let dir = Sandbox::new();
    for name in ["a", "c"] {
        dir.file(name, [1; 100]);
    }
    let text = dir.run("sync a missing c");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("a: 0x0..0x64 durable"), "{text}");
    assert!(lines[1].starts_with("c: 0x0..0x64 durable"), "{text}");
    assert_eq!(lines[2], "! error: missing: cannot open it: No such file or directory (ENOENT)");
    assert_eq!(lines.last(), Some(&"exit 2"), "{text}");

    on_disk(|dir| {
        dir.file("a", [1; 100]);
        dir.file("c", [2; 100]);
        assert_cmd::Command::from_std(dir.command(&["sync", "a", "missing", "c"])).assert().code(2);
        assert_eq!(dir.report("sync a")["dirty_before"], 0);
        assert_eq!(dir.report("sync c")["dirty_before"], 0);
    });
}

#[test]
fn several_files_give_an_object_each_in_json() {
    let dir = Sandbox::new();
    dir.file("a", [1; 100]);
    dir.file("b", [1; 200]);
    let output = dir.mmapctl(&["sync", "--json", "a", "missing", "b"]);
    output.code(2);
    let objects: Vec<_> = output.stdout.split_inclusive(|byte| *byte == b'\n').map(json).collect();
    let names: Vec<_> = objects.iter().map(|object| object["file"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(objects[1]["length"], 200);
    let error = output.error();
    assert_eq!(error["file"], "missing");
    assert_eq!(error["exit"], 2);
}

#[test]
fn the_report_in_json_has_the_facts() {
    let dir = Sandbox::new();
    dir.file("f", [1; 10_000]);
    let report = dir.report("sync f -r 100..+200");
    assert_eq!(report["verb"], "sync", "{report}");
    assert_eq!(report["changed"], false, "{report}");
    assert_eq!(report["offset"], 100, "{report}");
    assert_eq!(report["length"], 200, "{report}");
    assert_eq!(report["page_size"], page_size(), "{report}");
    assert!(report.get("dirty_before").is_some() && report.get("dirty_after").is_some(), "{report}");
}

#[test]
fn async_promises_nothing() {
    let dir = Sandbox::new();
    dir.file("f", [1; 100]);
    dir.run("sync f --async").begins("f: 0x0..0x64 writing was started, nothing is promised; ");
    let report = dir.report("sync f --async");
    assert_eq!(report["durable"], false, "{report}");
    assert_eq!(report["method"], "sync_file_range", "{report}");
    dir.mmapctl(&["sync", "f", "--async", "--invalidate"]).code(2);
}

#[test]
fn verbose_shows_one_msync_of_whole_pages() {
    let dir = Sandbox::new();
    dir.file("f", [1; 50_000]);
    let page = page_size();
    let call = |flags| predicate::str::is_match(format!(r"(?m)^msync\(0x[0-9a-f]+, {page}, {flags}\) = 0$")).unwrap();
    assert_cmd::Command::from_std(dir.command(&["sync", "f", "-r", "1..2", "-v"]))
        .assert()
        .code(0)
        .stderr(call("MS_SYNC"));
    assert_cmd::Command::from_std(dir.command(&["sync", "f", "-r", "1..2", "-v", "--invalidate"]))
        .assert()
        .code(0)
        .stderr(call(r"MS_SYNC\|MS_INVALIDATE"));
}

#[test]
fn a_file_that_may_only_be_read_is_synced_by_fdatasync() {
    if !is_root() {
        let dir = Sandbox::new();
        let path = dir.file("f", [1; 10_000]);
        set_mode(path, 0o444);
        let report = dir.report("sync f -n 10");
        assert_eq!(report["method"], "fdatasync", "{report}");
        if dir.is_disk() {
            assert_eq!(dir.report("sync f")["dirty_before"], 0);
        }
        return;
    }
    needs!(let mount = Mount::tmpfs("1m"));
    mount.file("f", [1; 10_000]);
    let remount = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&mount).status();
    assert!(remount.unwrap().success());
    let report = mount.report("sync f");
    assert_eq!(report["method"], "fdatasync", "{report}");
    assert_eq!(report["state"], "as-far-as-known", "{report}");
}

#[test]
fn a_read_only_file_really_becomes_clean() {
    // msync would return 0 here and flush nothing; for root, an ordinary user has to try.
    on_disk(|dir| {
        set_mode(dir, 0o755);
        let path = dir.file("f", [1; 10_000]);
        set_mode(&path, 0o444);
        if is_root() {
            // Dirty pages are reported to the owner, and to those who may write.
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        }
        needs!(let _ = as_ordinary_user(dir.command(&["sync"])));
        despite_others(|| {
            writer(&path).write_all_at(&[2], 5000).unwrap();
            let mut command = as_ordinary_user(dir.command(&["sync", "f", "--json"])).unwrap();
            let report = json(&command.outcome().stdout);
            assert_eq!(report["method"], "fdatasync", "{report}");
            assert_eq!(report["dirty_after"], 0, "{report}");
            report["dirty_before"].as_u64().unwrap() > 0
        });
    });
}

#[test]
fn an_empty_file_and_an_empty_range_are_durable_already() {
    let dir = Sandbox::new();
    dir.file("empty", b"");
    dir.file("f", [1; 100]);
    dir.run("sync empty").begins("empty: 0x0..0x0 durable as far as the kernel knows; ");
    for line in [
        "sync empty",
        "sync f -n 0",
        "sync f -o end",
        "sync empty --async",
        "sync f -n 0 --async",
    ] {
        assert_eq!(dir.report(line)["length"], 0, "{line}");
    }
}

#[test]
fn a_range_past_the_end_is_clipped_and_a_start_past_it_refused() {
    let dir = Sandbox::new();
    dir.file("f", [1; 100]);
    assert_eq!(dir.report("sync f -r 90..1G")["length"], 10);
    dir.refused("sync f -o 101");
    dir.refused("sync f -o -101");
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let dir = Sandbox::new();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in [".", "fifo", "missing", "/dev/null", "/proc/version"] {
        dir.refused(&format!("sync {name}"));
    }
    assert!(dir.mmapctl(&["sync"]).status.code() == Some(2));
}

#[test]
fn dev_zero_has_nothing_to_make_durable() {
    let dir = Sandbox::new();
    dir.mmapctl(&["sync", "/dev/zero"]).code(2);
}

#[test]
fn a_tebibyte_of_hole_is_synced_at_once() {
    let dir = Sandbox::new();
    let file = File::create(dir.join("f")).unwrap();
    if file.set_len(1 << 40).is_err() {
        return skip("this file system holds no file of 1 TiB");
    }
    file.write_all_at(b"x", 1 << 39).unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(dir.report("sync f")["length"], 1u64 << 40);
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}
