//! Durability where it is hard to have: a device that fails to write, and file systems that fail at close(2).

use crate::support;
use crate::support::faults::{code, stderr, strace_works, words};
use crate::support::{
    BINARY, Mount, as_ordinary_user, eventually, file, has, mmapctl, noise, peer, report, run, scratch, sparse,
};
use crate::support::{spawnable, synced, writer};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn outcome(dir: &Path, line: &str) -> Output {
    mmapctl(dir, &words(line)).output().expect("mmapctl runs")
}

/// An ext4 on an image on a full tmpfs, with the blocks of its file "f" punched out of the image: writing "f" back
/// fails. `None`, with a visible skip, where it cannot be had.
struct Broken {
    // Unmounted in this order.
    device: Mount,
    store: Mount,
}

impl Broken {
    fn new(test: &str) -> Option<Broken> {
        if !has(test, "mkfs.ext4") {
            return None;
        }
        let store = Mount::tmpfs(test, "16m")?;
        let image = sparse(store.path(), "image", 12 << 20);
        // Without a journal, whose blocks would fail first.
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-b", "4096", "-O", "^has_journal"])
            .arg(&image)
            .output();
        assert!(made.unwrap().status.success(), "mkfs.ext4 on a tmpfs");
        let device = Mount::loopback(test, &image)?;
        // A pattern to find the blocks by.
        let pattern = noise(64 << 10);
        let path = device.path().join("f");
        fs::write(&path, &pattern).unwrap();
        synced(&path);
        peer(device.path(), "sync", &["-f", "."]);
        let stored = fs::read(&image).unwrap();
        let blocks: Vec<_> = (0..stored.len())
            .step_by(4096)
            .filter(|at| pattern.chunks(4096).any(|block| stored[*at..].starts_with(block)))
            .collect();
        assert_eq!(blocks.len(), 16, "the file's blocks in the image");
        let mut filler = File::create(store.path().join("filler")).unwrap();
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

    /// From now on the device takes what is written.
    fn mend(&self) {
        fs::remove_file(self.store.path().join("filler")).unwrap();
    }

    /// What the device has, rather than the page cache.
    fn on_device(&self) -> Vec<u8> {
        let path = self.device.path().join("f");
        let file = File::open(&path).unwrap();
        let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        nix::fcntl::posix_fadvise(&file, 0, 0, advice).unwrap();
        fs::read(&path).unwrap()
    }
}

#[test]
fn a_patch_that_the_device_does_not_take_is_changed_but_not_durable() {
    let test = "a_patch_that_the_device_does_not_take_is_changed_but_not_durable";
    let Some(broken) = Broken::new(test) else { return };
    let dir = broken.device.path();
    let output = outcome(dir, "patch f -o 0x40 deadbeef --sync");
    let told = stderr(&output);
    assert_eq!(code(&output), 3, "{told}");
    assert!(
        told.contains("not proven durable") && told.contains("cannot flush"),
        "{told}"
    );
    assert!(
        told.contains("  tip: ") && told.contains("again"),
        "what to do is not said: {told}"
    );
    assert_eq!(fs::read(dir.join("f")).unwrap()[0x40..0x44], [0xde, 0xad, 0xbe, 0xef]);
}

#[test]
fn zeros_that_the_device_does_not_take_are_not_durable() {
    let test = "zeros_that_the_device_does_not_take_are_not_durable";
    let Some(broken) = Broken::new(test) else { return };
    let output = outcome(broken.device.path(), "zero f --range ..4K --method write --sync");
    let told = stderr(&output);
    assert_eq!(code(&output), 3, "{told}");
    assert!(
        told.contains("not proven durable") && told.contains("  tip: "),
        "{told}"
    );
}

#[test]
fn a_sync_that_the_device_does_not_take_is_3_and_says_what_to_do() {
    let test = "a_sync_that_the_device_does_not_take_is_3_and_says_what_to_do";
    let Some(broken) = Broken::new(test) else { return };
    let path = broken.device.path().join("f");
    writer(&path).write_all_at(b"new", 0).unwrap();
    let output = outcome(broken.device.path(), "sync f");
    let told = stderr(&output);
    assert_eq!(code(&output), 3, "{told}");
    assert!(told.contains("not durable") && told.contains("cannot flush"), "{told}");
    assert!(told.contains("write them again"), "what to do is not said: {told}");
    // The kernel has told its one error, and the pages are clean; what stands in memory is not on the device.
    let second = run(broken.device.path(), "sync f");
    assert_eq!(
        second,
        "f: 0x0..0x10000 durable as far as the kernel knows; dirty before 0 pages, after 0 pages\nexit 0"
    );
    // Without the pages in memory, what is read is what the device has.
    assert_eq!(fs::read(&path).unwrap()[..3], *b"new");
    assert!(run(broken.device.path(), "sync f --evict").ends_with("exit 0"));
    assert_ne!(fs::read(&path).unwrap()[..3], *b"new", "the bytes were not lost");
}

#[test]
fn of_several_files_the_one_that_the_device_does_not_take_is_told_in_its_place() {
    let test = "of_several_files_the_one_that_the_device_does_not_take_is_told_in_its_place";
    let Some(broken) = Broken::new(test) else { return };
    let dir = broken.device.path();
    sparse(dir, "before", 4096);
    sparse(dir, "behind", 4096);
    writer(&dir.join("f")).write_all_at(b"new", 0).unwrap();
    let told = run(dir, "sync before f missing behind");
    let found: Vec<_> = [
        "before: 0x0",
        "behind: 0x0",
        "! error: f: not durable",
        "! error: missing: ",
    ]
    .map(|part| told.find(part))
    .to_vec();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{told}");
    assert!(told.ends_with("exit 3"), "the gravest: {told}");
}

#[test]
fn a_readers_sync_that_the_device_does_not_take_is_3() {
    let test = "a_readers_sync_that_the_device_does_not_take_is_3";
    let Some(broken) = Broken::new(test) else { return };
    let path = broken.device.path().join("f");
    writer(&path).write_all_at(b"new", 0).unwrap();
    // Who may not open it for writing has fdatasync do it.
    let command = spawnable(broken.device.path(), &["sync", "f"]);
    let Some(mut command) = as_ordinary_user(test, command) else {
        return;
    };
    let output = command.output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}

#[test]
fn after_a_failed_flush_the_same_patch_stores_the_bytes_again() {
    let test = "after_a_failed_flush_the_same_patch_stores_the_bytes_again";
    for option in ["--sync", "--atomic"] {
        let Some(broken) = Broken::new(test) else { return };
        let dir = broken.device.path();
        assert_eq!(code(&outcome(dir, "patch f -o 0x40 deadbeef --sync")), 3);
        broken.mend();
        // The page cache holds the new bytes, clean, and the device does not.
        assert_eq!(fs::read(dir.join("f")).unwrap()[0x40..0x44], [0xde, 0xad, 0xbe, 0xef]);
        let told = report(dir, &format!("patch f -o 0x40 deadbeef {option}"));
        assert_eq!((&told["changed"], &told["durable"]), (&false.into(), &true.into()));
        assert_eq!(broken.on_device()[0x40..0x44], [0xde, 0xad, 0xbe, 0xef], "{option}");
    }
}

#[test]
fn bytes_that_are_there_are_stored_again_beside_others_that_are_not() {
    let test = "bytes_that_are_there_are_stored_again_beside_others_that_are_not";
    let Some(broken) = Broken::new(test) else { return };
    let dir = broken.device.path();
    assert_eq!(code(&outcome(dir, "patch f -o 0x40 deadbeef --sync")), 3);
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
    let output = mmapctl(dir, &line).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let stored = broken.on_device();
    assert_eq!(stored[0x40..0x44], [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(stored[0x8000..0x8002], [0xca, 0xfe]);
}

#[test]
fn a_sync_that_finds_nothing_dirty_does_not_call_it_durable_in_json() {
    let dir = scratch();
    synced(&file(dir.path(), "f", b"clean"));
    let told = report(dir.path(), "sync f");
    assert_eq!(
        (&told["durable"], &told["state"]),
        (&false.into(), &"as-far-as-known".into())
    );
    assert_eq!(report(dir.path(), "sync f --async")["state"], "started");
    if support::is_disk(dir.path()) {
        writer(&dir.path().join("f")).write_all_at(b"dirty", 0).unwrap();
        let told = report(dir.path(), "sync f");
        assert_eq!((&told["durable"], &told["state"]), (&true.into(), &"durable".into()));
    }
}

// ---- close(2) ----

/// Runs `line`, whose words are quoted as for a shell, with stdout in the file "out" and ENOSPC for each close of `path`.
fn close_fails(dir: &Path, path: &str, line: &str) -> Output {
    Command::new("strace")
        .current_dir(dir)
        .args(["-f", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=close"])
        .args(["-e", "inject=close:error=ENOSPC", BINARY])
        .args(shell_words::split(line).unwrap())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(File::create(dir.join("out")).unwrap())
        .stderr(Stdio::piped())
        .output()
        .expect("strace runs")
}

#[test]
fn an_error_of_close_is_one_of_the_verb_that_wrote() {
    if !strace_works("an_error_of_close_is_one_of_the_verb_that_wrote") {
        return;
    }
    let dir = scratch();
    let lost = "may not keep the change";
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
        file(dir.path(), "f", &noise(8192));
        let output = close_fails(dir.path(), "f", line);
        let told = stderr(&output);
        assert_eq!(code(&output), exit, "{line}: {told}");
        assert!(told.contains(says), "{line}: {told}");
    }
}

#[test]
fn an_error_of_closing_stdout_is_2_or_3_after_a_change() {
    if !strace_works("an_error_of_closing_stdout_is_2_or_3_after_a_change") {
        return;
    }
    let dir = scratch();
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
        file(dir.path(), "f", &noise(8192));
        let output = close_fails(dir.path(), "out", line);
        let told = stderr(&output);
        assert_eq!(code(&output), exit, "{line}: {told}");
        assert_eq!(told.contains("ENOSPC"), exit != 0, "{line}: {told}");
    }
}

#[test]
fn behind_bindfs_a_full_disk_is_met_before_the_verb_ends() {
    let test = "behind_bindfs_a_full_disk_is_met_before_the_verb_ends";
    if !has(test, "bindfs") {
        return;
    }
    let Some(store) = Mount::tmpfs(test, "4m") else { return };
    sparse(store.path(), "f", 2 << 20);
    let Some(behind) = Mount::bindfs(test, store.path(), "rw") else {
        return;
    };
    store.fill();
    for line in [
        "patch f -o 1M text:HELLO",
        "zero f -r 1M..1028K --method write",
        "map f -c 'patch -o 1M dead'",
    ] {
        let words = shell_words::split(line).unwrap();
        let output = mmapctl(behind.path(), &words.iter().map(String::as_str).collect::<Vec<_>>())
            .output()
            .unwrap();
        let told = stderr(&output);
        assert_eq!(code(&output), 3, "{line}: {told}");
        assert!(told.contains("ENOSPC"), "{line}: {told}");
    }
    let copy = File::create(behind.path().join("copy")).unwrap();
    let output = spawnable(behind.path(), &["cat", BINARY])
        .stdout(copy)
        .output()
        .unwrap();
    assert_eq!(code(&output), 2, "{}", stderr(&output));
}

// ---- a file that another takes the place of ----

/// Holds the lock of "f" until `line` waits for it, then does `then`, and gives what became of `line`.
fn while_it_waits(dir: &Path, line: &str, then: impl FnOnce()) -> Output {
    let lock = writer(&dir.join("f"));
    lock.lock().unwrap();
    let words = shell_words::split(line).unwrap();
    let mut command = spawnable(dir, &words.iter().map(String::as_str).collect::<Vec<_>>());
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
    child.wait_with_output().unwrap()
}

#[test]
fn a_file_that_takes_the_place_of_the_one_waited_for_is_the_one_that_is_changed() {
    for line in [
        "patch f -o 0 text:ABC --sync",
        "patch f -o 0 text:ABC --atomic",
        "map f -c 'patch -o 0 text:ABC'",
    ] {
        let dir = scratch();
        file(dir.path(), "f", b"old-content");
        file(dir.path(), "new", b"new-content");
        let output = while_it_waits(dir.path(), line, || {
            fs::rename(dir.path().join("new"), dir.path().join("f")).unwrap();
        });
        assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"ABC-content", "{line}");
    }
}

#[test]
fn a_file_that_is_deleted_while_it_is_waited_for_is_trouble() {
    let dir = scratch();
    for line in [
        "patch f -o 0 dead",
        "zero f -r ..",
        "remap f --size 8K",
        "map f -c 'zero -r ..'",
    ] {
        file(dir.path(), "f", b"old-content");
        let output = while_it_waits(dir.path(), line, || fs::remove_file(dir.path().join("f")).unwrap());
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains("ENOENT"), "{line}: {}", stderr(&output));
    }
}

#[test]
fn a_session_does_not_store_into_a_file_that_was_replaced() {
    let dir = scratch();
    file(dir.path(), "f", b"old-content");
    file(dir.path(), "new", b"new-content");
    let line = ["map", "f", "-c", "! mv new f", "-c", "cat", "-c", "patch -o 0 text:ABC"];
    let output = mmapctl(dir.path(), &line).output().unwrap();
    let told = stderr(&output);
    assert_eq!(code(&output), 2, "{told}");
    assert_eq!(output.stdout, b"old-content");
    assert!(told.contains("not the one at this path any more"), "{told}");
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"new-content");
}

#[test]
fn old_bytes_that_cannot_be_put_back_are_in_doubt_whatever_the_kernel_says_of_the_page() {
    if !strace_works("old_bytes_that_cannot_be_put_back_are_in_doubt_whatever_the_kernel_says_of_the_page") {
        return;
    }
    for option in ["-q", "--atomic"] {
        let dir = scratch();
        let old = noise(64 << 10);
        file(dir.path(), "f", &old);
        let edits: String = (0..60_000)
            .step_by(9)
            .map(|at| format!("{at}: -> {:02x}\n", !old[at]))
            .collect();
        file(dir.path(), "s", format!("# mmapctl-patch 1\n{edits}").as_bytes());
        let output = Command::new("strace")
            .current_dir(dir.path())
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "inject=preadv:error=EFAULT:when=4+",
                BINARY,
            ])
            .args(["patch", "f", "--script", "s", option])
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let told = stderr(&output);
        assert_eq!(code(&output), 4, "{option}: {told}");
        assert!(told.contains("in doubt"), "{told}");
        assert_eq!(
            dir.path().join(".f.mmapctl-undo").exists(),
            option == "--atomic",
            "{told}"
        );
        if option == "--atomic" {
            assert!(run(dir.path(), "patch f --script /dev/null").ends_with("exit 0"));
            assert!(fs::read(dir.path().join("f")).unwrap() == old);
        }
    }
}
