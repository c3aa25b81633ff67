//! Durability under faults: a device that fails to write, and file systems that fail at close(2).

use crate::support::strace::*;
use crate::support::*;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

fn outcome(dir: &Sandbox, line: &str) -> Outcome {
    dir.mmapctl(&words(line))
}

/// An ext4 on an image on a full tmpfs, with the blocks of its file "f" punched out of the image: writing "f" back
/// fails. `None`, with a visible skip, where that is not possible.
struct Broken {
    // Unmounted in this order.
    device: Mount,
    store: Mount,
}

impl Broken {
    fn new() -> Option<Broken> {
        if !has("mkfs.ext4") {
            return None;
        }
        let store = Mount::tmpfs("16m")?;
        let image = store.sparse("image", 12 << 20);
        // Without a journal, whose blocks would fail first.
        let made = Command::new("mkfs.ext4").args(["-q", "-b", "4096", "-O", "^has_journal"]).arg(&image).output();
        assert!(made.unwrap().status.success(), "mkfs.ext4 on a tmpfs");
        let device = Mount::loopback(&image)?;
        // A pattern to find the blocks by.
        let pattern = noise(64 << 10);
        let path = device.join("f");
        fs::write(&path, &pattern).unwrap();
        synced(&path);
        device.peer("sync", &["-f", "."]);
        let stored = read(&image);
        let blocks: Vec<_> = (0..stored.len())
            .step_by(4096)
            .filter(|at| pattern.chunks(4096).any(|block| stored[*at..].starts_with(block)))
            .collect();
        assert_eq!(blocks.len(), 16, "the file's blocks in the image");
        let mut filler = File::create(store.join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[0xaa; 4096]).is_ok() {}
        for at in blocks {
            // A hole for each block, and at once something else in the room that it leaves.
            let image = writer(&image);
            let flags =
                nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
            nix::fcntl::fallocate(&image, flags, at as i64, 4096).unwrap();
        }
        while std::io::Write::write_all(&mut filler, &[0xaa; 4096]).is_ok() {}
        Some(Broken { device, store })
    }

    /// Lets the device accept writes from now on.
    fn mend(&self) {
        fs::remove_file(self.store.join("filler")).unwrap();
    }

    /// What the device has, rather than the page cache.
    fn on_device(&self) -> Vec<u8> {
        let path = self.device.join("f");
        let file = File::open(&path).unwrap();
        let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        nix::fcntl::posix_fadvise(&file, 0, 0, advice).unwrap();
        read(&path)
    }
}

#[test]
fn a_patch_that_the_device_rejects_is_not_durable() {
    needs!(let broken = Broken::new());
    let dir = &broken.device;
    let output = outcome(dir, "patch f -o 0x40 deadbeef --sync");
    let text = output.stderr();
    output.code(3).stderr_has("not proven durable").stderr_has("cannot flush");
    assert!(text.contains("  tip: ") && text.contains("again"), "what to do is not said: {text}");
    assert_eq!(dir.read("f")[0x40..0x44], [0xde, 0xad, 0xbe, 0xef]);
}

#[test]
fn zeros_that_the_device_does_not_take_are_not_durable() {
    needs!(let broken = Broken::new());
    outcome(&broken.device, "zero f --range ..4K --method write --sync")
        .code(3)
        .stderr_has("not proven durable")
        .stderr_has("  tip: ");
}

#[test]
fn a_sync_that_the_device_rejects_is_3_with_a_tip() {
    needs!(let broken = Broken::new());
    let path = broken.device.join("f");
    writer(&path).write_all_at(b"new", 0).unwrap();
    let output = outcome(&broken.device, "sync f");
    let text = output.stderr();
    output.code(3).stderr_has("not durable").stderr_has("cannot flush");
    assert!(text.contains("write them again"), "what to do is not said: {text}");
    // The kernel has reported its one error, and the pages are clean; what is in memory is not on the device.
    broken
        .device
        .run("sync f")
        .is("f: 0x0..0x10000 durable as far as the kernel knows; dirty before 0 pages, after 0 pages\nexit 0");
    // Without the pages in memory, what is read is what the device has.
    assert_eq!(read(&path)[..3], *b"new");
    broken.device.run("sync f --evict").code(0);
    assert_ne!(read(&path)[..3], *b"new", "the bytes were not lost");
}

#[test]
fn of_several_files_the_failing_one_is_reported_in_order() {
    needs!(let broken = Broken::new());
    let dir = &broken.device;
    dir.sparse("before", 4096);
    dir.sparse("behind", 4096);
    writer(&dir.join("f")).write_all_at(b"new", 0).unwrap();
    let text = dir.run("sync before f missing behind");
    let found: Vec<_> = [
        "before: 0x0",
        "behind: 0x0",
        "! error: f: not durable",
        "! error: missing: ",
    ]
    .map(|part| text.find(part))
    .to_vec();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{text}");
    assert!(text.ends_with("exit 3"), "the gravest: {text}");
}

#[test]
fn a_readers_sync_that_the_device_does_not_take_is_3() {
    needs!(let broken = Broken::new());
    let path = broken.device.join("f");
    writer(&path).write_all_at(b"new", 0).unwrap();
    // Who may not open it for writing has fdatasync do it.
    let command = broken.device.command(&["sync", "f"]);
    needs!(let mut command = as_ordinary_user(command));
    command.outcome().code(3);
}

#[test]
fn after_a_failed_flush_the_same_patch_stores_the_bytes_again() {
    for option in ["--sync", "--atomic"] {
        needs!(let broken = Broken::new());
        let dir = &broken.device;
        outcome(dir, "patch f -o 0x40 deadbeef --sync").code(3);
        broken.mend();
        // The page cache holds the new bytes, clean, and the device does not.
        assert_eq!(dir.read("f")[0x40..0x44], [0xde, 0xad, 0xbe, 0xef]);
        let report = dir.report(&format!("patch f -o 0x40 deadbeef {option}"));
        assert_eq!(report["changed"], false);
        assert_eq!(report["durable"], true);
        assert_eq!(broken.on_device()[0x40..0x44], [0xde, 0xad, 0xbe, 0xef], "{option}");
    }
}

#[test]
fn unchanged_bytes_beside_changed_ones_are_stored_again() {
    needs!(let broken = Broken::new());
    let dir = &broken.device;
    outcome(dir, "patch f -o 0x40 deadbeef --sync").code(3);
    broken.mend();
    let line = [
        "patch",
        "f",
        "-e",
        "0x40: -> deadbeef",
        "-e",
        "0x8000: -> cafe",
        "--sync",
    ];
    dir.mmapctl(&line).code(0);
    let stored = broken.on_device();
    assert_eq!(stored[0x40..0x44], [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(stored[0x8000..0x8002], [0xca, 0xfe]);
}

#[test]
fn a_sync_without_dirty_pages_is_not_durable_in_json() {
    let dir = Sandbox::new();
    synced(&dir.file("f", b"clean"));
    let report = dir.report("sync f");
    assert_eq!(report["durable"], false);
    assert_eq!(report["state"], "as-far-as-known");
    assert_eq!(dir.report("sync f --async")["state"], "started");
    if dir.is_disk() {
        writer(&dir.join("f")).write_all_at(b"dirty", 0).unwrap();
        let report = dir.report("sync f");
        assert_eq!(report["durable"], true);
        assert_eq!(report["state"], "durable");
    }
}

// ---- close(2) ----

/// Runs `line`, whose words are quoted as for a shell, with stdout in the file "out" and ENOSPC for each close of `path`.
fn close_fails(dir: &Sandbox, path: &str, line: &str) -> Outcome {
    dir.program("strace", &["-f", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=close"])
        .args(["-e", "inject=close:error=ENOSPC", BINARY])
        .args(shell_words::split(line).unwrap())
        .stdout(File::create(dir.join("out")).unwrap())
        .stderr(Stdio::piped())
        .outcome()
}

#[test]
fn an_error_of_close_is_one_of_the_verb_that_wrote() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let lost = "the change may be lost";
    for (line, exit, says) in [
        ("patch f -o 0 dead", 3, lost),
        ("patch f -o 0 dead --sync", 3, lost),
        ("patch f -o 0 dead --atomic", 3, lost),
        ("patch f -o 0 dead --expect 00ff", 1, "expected"),
        ("patch f -o 0 dead --dry-run", 0, ""),
        ("zero f -r ..", 3, lost),
        ("zero f -r .. --method write", 3, lost),
        ("zero f -r .. --punch", 3, lost),
        ("remap f --size +4K", 3, lost),
        ("remap f --order reverse --to new", 0, ""),
        ("map f -c 'patch -o 0 dead'", 3, lost),
        ("map f -c 'fork patch -o 0 dead'", 3, lost),
        ("map f -c cat", 0, ""),
        ("sync f", 3, "not durable"),
        ("cat f", 0, ""),
    ] {
        dir.file("f", noise(8192));
        close_fails(&dir, "f", line).code(exit).stderr_has(says);
    }
}

#[test]
fn an_error_of_closing_stdout_is_2_or_3_after_a_change() {
    needs!(strace_works());
    let dir = Sandbox::new();
    for (line, exit) in [
        ("cat f", 2),
        ("cat f -x", 2),
        ("cat f --json", 2),
        ("--help", 2),
        ("map f", 2),
        ("remap f --order reverse --to -", 2),
        ("patch f -o 0 dead --dry-run", 2),
        ("patch f -o 0 dead", 3),
        ("patch f -o 0 dead --json", 3),
        ("patch f -o 0 beef --quiet", 0),
        ("zero f -r ..", 3),
        ("map f -c 'zero -r ..'", 3),
    ] {
        dir.file("f", noise(8192));
        let output = close_fails(&dir, "out", line);
        let text = output.stderr();
        output.code(exit);
        assert_eq!(text.contains("ENOSPC"), exit != 0, "{line}: {text}");
    }
}

#[test]
fn behind_bindfs_a_full_disk_is_met_before_the_verb_ends() {
    needs!(has("bindfs"));
    needs!(let store = Mount::tmpfs("4m"));
    store.sparse("f", 2 << 20);
    needs!(let behind = Mount::bindfs(&store, &["-o", "rw"]));
    store.fill();
    for line in [
        "patch f -o 1M text:HELLO",
        "zero f -r 1M..1028K --method write",
        "map f -c 'patch -o 1M dead'",
    ] {
        let words = shell_words::split(line).unwrap();
        let output = behind.mmapctl(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let text = output.stderr();
        assert_eq!(output.exit(), 3, "{line}: {text}");
        assert!(text.contains("ENOSPC"), "{line}: {text}");
    }
    let copy = File::create(behind.join("copy")).unwrap();
    behind.command(&["cat", BINARY]).stdout(copy).outcome().code(2);
}

// ---- a file that another takes the place of ----

/// Holds the lock of "f" until `line` waits for it, then calls `then`, and returns how `line` ended.
fn while_it_waits(dir: &Sandbox, line: &str, then: impl FnOnce()) -> Outcome {
    let lock = writer(&dir.join("f"));
    lock.lock().unwrap();
    let words = shell_words::split(line).unwrap();
    let mut command = dir.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waits = || {
        // It has the file open, and no lock yet.
        let open = format!("/proc/{}/fd", child.id());
        let files = fs::read_dir(open).map(|files| files.flatten().filter_map(|file| fs::read_link(file.path()).ok()));
        files.is_ok_and(|mut files| files.any(|file| file.ends_with("f")))
    };
    assert!(eventually(waits), "{line}: it never opened the file");
    then();
    drop(lock);
    child.outcome()
}

#[test]
fn a_file_replaced_during_the_wait_is_the_one_patched() {
    for line in [
        "patch f -o 0 text:ABC --sync",
        "patch f -o 0 text:ABC --atomic",
        "map f -c 'patch -o 0 text:ABC'",
    ] {
        let dir = Sandbox::new();
        dir.file("f", b"old-content");
        dir.file("new", b"new-content");
        while_it_waits(&dir, line, || {
            fs::rename(dir.join("new"), dir.join("f")).unwrap();
        })
        .code(0);
        assert_eq!(dir.read("f"), b"ABC-content", "{line}");
    }
}

#[test]
fn a_file_that_is_deleted_while_it_is_waited_for_is_trouble() {
    let dir = Sandbox::new();
    for line in [
        "patch f -o 0 dead",
        "zero f -r ..",
        "remap f --size 8K",
        "map f -c 'zero -r ..'",
    ] {
        dir.file("f", b"old-content");
        while_it_waits(&dir, line, || fs::remove_file(dir.join("f")).unwrap()).code(2).stderr_has("ENOENT");
    }
}

#[test]
fn a_session_does_not_store_into_a_file_that_was_replaced() {
    let dir = Sandbox::new();
    dir.file("f", b"old-content");
    dir.file("new", b"new-content");
    let line = ["map", "f", "-c", "! mv new f", "-c", "cat", "-c", "patch -o 0 text:ABC"];
    let output = dir.mmapctl(&line);
    output.code(2);
    assert_eq!(output.stdout, b"old-content");
    output.stderr_has("no longer the one at this path");
    assert_eq!(dir.read("f"), b"new-content");
}

#[test]
fn a_failed_rollback_is_in_doubt_even_if_the_page_looks_clean() {
    needs!(strace_works());
    for option in ["-q", "--atomic"] {
        let dir = Sandbox::new();
        let old = noise(64 << 10);
        dir.file("f", &old);
        let edits: String = (0..60_000).step_by(9).map(|at| format!("{at}: -> {:02x}\n", !old[at])).collect();
        dir.file("s", format!("# mmapctl-patch 1\n{edits}"));
        let line = format!("patch f --script s {option}");
        let output = dir.inject(&["preadv:error=EFAULT:when=4+"], &line);
        let text = output.stderr();
        output.code(4).stderr_has("in doubt");
        assert_eq!(dir.join(".f.mmapctl-undo").exists(), option == "--atomic", "{text}");
        if option == "--atomic" {
            dir.run("patch f --script /dev/null").code(0);
            assert!(dir.read("f") == old);
        }
    }
}
