//! `sync`, as its users see it, and by what the kernel counts as dirty.

use crate::support;
use crate::support::{Mount, State, file, is_disk, is_root, json, mmapctl, refused, report, run, scratch, skip, told};
use predicates::prelude::*;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

/// Runs `check` in a folder whose file system counts dirty pages by the range: the scratch folder's, or an ext4
/// of our own.
fn on_disk(test: &str, check: impl FnOnce(&Path)) {
    let dir = scratch();
    if is_disk(dir.path()) {
        return check(dir.path());
    }
    if let Some(mount) = Mount::image(test, "mkfs.ext4 -q", 64) {
        check(mount.path());
    }
}

fn store(path: &Path, at: u64, bytes: &[u8]) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, at)
        .unwrap();
}

#[test]
fn pages_that_a_writer_left_dirty_are_clean_afterwards() {
    on_disk("pages_that_a_writer_left_dirty_are_clean_afterwards", |dir| {
        let path = file(dir, "f", &[1; 40_960]);
        report(dir, "sync f");
        store(&path, 5000, b"x");
        let first = report(dir, "sync f");
        assert!(first["dirty_before"].as_u64().unwrap() > 0, "{first}");
        assert_eq!(first["dirty_after"], 0, "{first}");
        assert_eq!(
            (&first["durable"], &first["method"]),
            (&true.into(), &"msync".into()),
            "{first}"
        );
        let second = report(dir, "sync f");
        assert_eq!(
            (&second["dirty_before"], &second["dirty_after"]),
            (&0.into(), &0.into()),
            "{second}"
        );
    });
}

#[test]
fn a_range_that_is_synced_leaves_far_away_pages_dirty() {
    on_disk("a_range_that_is_synced_leaves_far_away_pages_dirty", |dir| {
        let path = support::sparse(dir, "f", 16 << 20);
        fs::write(&path, vec![1; 16 << 20]).unwrap();
        report(dir, "sync f");
        for at in [0x1234, 8 << 20, (16 << 20) - 1] {
            store(&path, at, b"x");
        }
        let near = report(dir, "sync f -o 0x1234 -n 1");
        assert!(near["dirty_before"].as_u64().unwrap() > 0, "{near}");
        assert_eq!(near["dirty_after"], 0, "{near}");
        assert_eq!(
            (&near["offset"], &near["length"]),
            (&0x1234.into(), &1.into()),
            "{near}"
        );
        for place in ["-r 8M..+1", "-o -1"] {
            let far = report(dir, &format!("sync f {place}"));
            assert!(
                far["dirty_before"].as_u64().unwrap() > 0,
                "it synced {place}, too: {far}"
            );
            assert_eq!(far["dirty_after"], 0, "{far}");
        }
        assert_eq!(report(dir, "sync f")["dirty_before"], 0);
    });
}

#[test]
fn a_file_keeps_its_bytes_its_length_and_its_mtime() {
    let dir = scratch();
    let path = file(dir.path(), "f", &support::noise(10_001));
    report(dir.path(), "sync f"); // delayed allocation gives the blocks now
    let before = State::of(&path);
    for line in ["sync f", "sync f --async", "sync f --invalidate", "sync f -r 1..5"] {
        report(dir.path(), line);
        assert_eq!(State::of(&path), before, "{line}");
    }
}

#[test]
fn the_others_are_synced_when_one_of_several_is_missing() {
    let dir = scratch();
    for name in ["a", "c"] {
        file(dir.path(), name, &[1; 100]);
    }
    let told = run(dir.path(), "sync a missing c");
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].starts_with("a: 0x0..0x64 durable"), "{told}");
    assert!(lines[1].starts_with("c: 0x0..0x64 durable"), "{told}");
    assert_eq!(
        lines[2],
        "! error: missing: cannot open it: No such file or directory (ENOENT)"
    );
    assert_eq!(lines.last(), Some(&"exit 2"), "{told}");

    on_disk("the_others_are_synced_when_one_of_several_is_missing", |dir| {
        file(dir, "a", &[1; 100]);
        file(dir, "c", &[2; 100]);
        mmapctl(dir, &["sync", "a", "missing", "c"]).assert().code(2);
        assert_eq!(report(dir, "sync a")["dirty_before"], 0);
        assert_eq!(report(dir, "sync c")["dirty_before"], 0);
    });
}

#[test]
fn several_files_give_an_object_each_in_json() {
    let dir = scratch();
    file(dir.path(), "a", &[1; 100]);
    file(dir.path(), "b", &[1; 200]);
    let output = mmapctl(dir.path(), &["sync", "--json", "a", "missing", "b"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let objects: Vec<_> = output.stdout.split_inclusive(|byte| *byte == b'\n').map(json).collect();
    let names: Vec<_> = objects.iter().map(|object| object["file"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(objects[1]["length"], 200);
    let error = json(&output.stderr);
    assert_eq!((&error["file"], &error["exit"]), (&"missing".into(), &2.into()));
}

#[test]
fn the_report_in_json_has_the_facts() {
    let dir = scratch();
    file(dir.path(), "f", &[1; 10_000]);
    let told = report(dir.path(), "sync f -r 100..+200");
    assert_eq!(
        (&told["verb"], &told["changed"]),
        (&"sync".into(), &false.into()),
        "{told}"
    );
    assert_eq!((&told["offset"], &told["length"]), (&100.into(), &200.into()), "{told}");
    assert_eq!(told["page_size"], support::page_size(), "{told}");
    assert!(
        told.get("dirty_before").is_some() && told.get("dirty_after").is_some(),
        "{told}"
    );
}

#[test]
fn async_promises_nothing() {
    let dir = scratch();
    file(dir.path(), "f", &[1; 100]);
    assert!(
        run(dir.path(), "sync f --async").starts_with("f: 0x0..0x64 writing was started, nothing is promised; "),
        "{}",
        run(dir.path(), "sync f --async")
    );
    let told = report(dir.path(), "sync f --async");
    assert_eq!(
        (&told["durable"], &told["method"]),
        (&false.into(), &"sync_file_range".into()),
        "{told}"
    );
    let clash = mmapctl(dir.path(), &["sync", "f", "--async", "--invalidate"])
        .output()
        .unwrap();
    assert_eq!(clash.status.code(), Some(2));
}

#[test]
fn verbose_shows_one_msync_of_whole_pages() {
    let dir = scratch();
    file(dir.path(), "f", &[1; 50_000]);
    let page = support::page_size();
    let call = |flags| predicate::str::is_match(format!(r"(?m)^msync\(0x[0-9a-f]+, {page}, {flags}\) = 0$")).unwrap();
    mmapctl(dir.path(), &["sync", "f", "-r", "1..2", "-v"])
        .assert()
        .code(0)
        .stderr(call("MS_SYNC"));
    mmapctl(dir.path(), &["sync", "f", "-r", "1..2", "-v", "--invalidate"])
        .assert()
        .code(0)
        .stderr(call(r"MS_SYNC\|MS_INVALIDATE"));
}

#[test]
fn a_file_that_may_only_be_read_is_synced_by_fdatasync() {
    const TEST: &str = "a_file_that_may_only_be_read_is_synced_by_fdatasync";
    if !is_root() {
        let dir = scratch();
        let path = file(dir.path(), "f", &[1; 10_000]);
        fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
        let told = report(dir.path(), "sync f -n 10");
        assert_eq!(told["method"], "fdatasync", "{told}");
        if is_disk(dir.path()) {
            assert_eq!(report(dir.path(), "sync f")["dirty_before"], 0);
        }
        return;
    }
    let Some(mount) = Mount::tmpfs(TEST, "1m") else {
        return;
    };
    file(mount.path(), "f", &[1; 10_000]);
    let remount = std::process::Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(mount.path())
        .status();
    assert!(remount.unwrap().success());
    let told = report(mount.path(), "sync f");
    assert_eq!(
        (&told["method"], &told["state"]),
        (&"fdatasync".into(), &"as-far-as-known".into()),
        "{told}"
    );
}

#[test]
fn a_read_only_file_really_becomes_clean() {
    const TEST: &str = "a_read_only_file_really_becomes_clean";
    // msync would return 0 here and flush nothing; for root, an ordinary user has to try.
    on_disk(TEST, |dir| {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        let path = file(dir, "f", &[1; 10_000]);
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        if is_root() {
            // Dirty pages are told to the owner, and to those who may write.
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        }
        let command = support::spawnable(dir, &["sync", "f", "--json"]);
        let Some(mut command) = support::as_ordinary_user(TEST, command) else {
            return;
        };
        let told = json(&command.output().unwrap().stdout);
        assert_eq!(told["method"], "fdatasync", "{told}");
        assert!(told["dirty_before"].as_u64().unwrap() > 0, "{told}");
        assert_eq!(told["dirty_after"], 0, "{told}");
    });
}

#[test]
fn an_empty_file_and_an_empty_range_are_durable_already() {
    let dir = scratch();
    file(dir.path(), "empty", b"");
    file(dir.path(), "f", &[1; 100]);
    assert!(run(dir.path(), "sync empty").starts_with("empty: 0x0..0x0 durable as far as the kernel knows; "));
    for line in [
        "sync empty",
        "sync f -n 0",
        "sync f -o end",
        "sync empty --async",
        "sync f -n 0 --async",
    ] {
        assert_eq!(report(dir.path(), line)["length"], 0, "{line}");
    }
}

#[test]
fn a_range_past_the_end_is_clipped_and_a_start_past_it_refused() {
    let dir = scratch();
    file(dir.path(), "f", &[1; 100]);
    assert_eq!(report(dir.path(), "sync f -r 90..1G")["length"], 10);
    refused(dir.path(), "sync f -o 101", b"");
    refused(dir.path(), "sync f -o -101", b"");
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let dir = scratch();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in [".", "fifo", "missing", "/dev/null", "/proc/version"] {
        refused(dir.path(), &format!("sync {name}"), b"");
    }
    assert!(mmapctl(dir.path(), &["sync"]).output().unwrap().status.code() == Some(2));
}

#[test]
fn dev_zero_has_nothing_to_make_durable() {
    let dir = scratch();
    let output = mmapctl(dir.path(), &["sync", "/dev/zero"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

#[test]
fn a_tebibyte_of_hole_is_synced_at_once() {
    let dir = scratch();
    let file = File::create(dir.path().join("f")).unwrap();
    if file.set_len(1 << 40).is_err() {
        return skip(
            "a_tebibyte_of_hole_is_synced_at_once",
            "this file system holds no file of 1 TiB",
        );
    }
    file.write_all_at(b"x", 1 << 39).unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(report(dir.path(), "sync f")["length"], 1u64 << 40);
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}
