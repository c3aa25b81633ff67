//! The length: what others append while a file grows, and what a power failure leaves of a change of it.

use crate::support::strace::*;
use crate::support::*;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs `line` on a file of 1000 bytes, whose `nth` fallocate(2) is held up while another process appends.
fn appended_beside(line: &str, nth: u32) -> (i32, Vec<u8>, Outcome) {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'A'; 1000]);
    dir.file("script", b"size 1000 -> 1004\n");
    let delay = format!("inject=fallocate:delay_enter=1000000:when={nth}");
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| dir.straced(&["-e", &delay], line));
        std::thread::sleep(Duration::from_millis(500));
        let mut log = OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(&[b'B'; 20_000]).unwrap();
        run.join().unwrap()
    });
    (output.exit(), read(&path), output)
}

// What is left: ftruncate(2), which alone makes a hole (--sparse), or grows a file where there is no fallocate(2), or
// makes one shorter, comes right after a look at the length; an append between the two is cut off.
#[test]
fn what_another_appends_while_a_file_grows_is_kept() {
    needs!(strace_works());
    for line in [
        "patch f --grow -o end text:XYZW",
        "patch f --script script",
        "remap f --size +4",
        "remap f --size +4 --sparse",
    ] {
        for nth in [1, 2] {
            let (code, bytes, text) = appended_beside(line, nth);
            let kept = bytes.iter().filter(|byte| **byte == b'B').count();
            assert_eq!(kept, 20_000, "{line}: {text}");
            assert!(bytes.starts_with(&[b'A'; 1000]), "{line}: {text}");
            // Where the append came first, nothing was done.
            let len = if code == 0 { 21_004 } else { 21_000 };
            assert!([0, 2].contains(&code) && bytes.len() == len, "{line}: {}: {text}", bytes.len());
        }
    }
}

/// What is left of `f` by an atomic patch with this script that is killed before its bytes are flushed.
fn killed(dir: &Sandbox, script: &str) {
    dir.file("script", script);
    dir.straced(&["-e", "inject=msync:signal=KILL"], "patch f -q --atomic --script script").signal(9);
}

#[test]
fn a_length_on_the_way_is_one_that_recovery_takes_back() {
    needs!(strace_works());
    let old = noise(100_000);
    // The script, the length that is found, and whether it is one of the patch's.
    let (longer, shorter) = ("size 100000 -> 105000\n0: -> 58", "size 100000 -> 8192\n0: -> 58");
    for (script, len, is_ours) in [
        (longer, 100_000, true),
        (longer, 102_400, true),
        (longer, 105_000, true),
        // As e2fsck rounds it.
        (longer, 106_496, true),
        (longer, 99_999, false),
        (longer, 106_497, false),
        (longer, 110_592, false),
        (shorter, 8192, true),
        (shorter, 8193, true),
        (shorter, 50_000, true),
        (shorter, 100_000, true),
        (shorter, 102_400, true),
        (shorter, 8191, false),
        (shorter, 106_496, false),
    ] {
        for holds_old in [false, true] {
            let dir = Sandbox::new();
            let path = dir.file("f", &old);
            killed(&dir, script);
            if holds_old {
                // The blocks behind the new end have not been taken yet.
                let mut bytes = read(&path);
                bytes.truncate(8192);
                bytes.extend_from_slice(&old[bytes.len()..]);
                writer(&path).write_all(&bytes).unwrap();
            }
            writer(&path).set_len(len).unwrap();
            let text = dir.mmapctl(&["patch", "f", "--script", "/dev/null"]);
            let what = format!("{script} {len} {holds_old}: {text}");
            match is_ours {
                true => assert!(text.ends_with("exit 0") && read(&path) == old, "{what}"),
                false => assert!(text.contains("bytes, neither ") && text.ends_with("exit 2"), "{what}"),
            }
        }
    }
}

#[test]
fn a_resize_that_meets_another_process_changes_nothing() {
    needs!(strace_works());
    let (code, bytes, text) = appended_beside("remap f --size +4", 1);
    // On a machine so busy that the append came before the file was opened, or after, there is nothing to see.
    if bytes.len() == 21_000 {
        assert!(code == 2 && text.contains("its length was not changed: "), "{text}");
    }
}

#[test]
fn a_memfd_sealed_against_writing_does_not_grow() {
    let memfd = memfd_create("x", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    nix::unistd::write(&memfd, &[b'a'; 5000]).unwrap();
    let seals = nix::fcntl::SealFlag::F_SEAL_SHRINK | nix::fcntl::SealFlag::F_SEAL_WRITE;
    nix::fcntl::fcntl(&memfd, nix::fcntl::FcntlArg::F_ADD_SEALS(seals)).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), memfd.as_raw_fd());
    let mut command = Command::new(BINARY);
    command.args(["patch", &path, "-o", "end", "--grow", "11"]).env("LC_ALL", "C");
    command.outcome().code(2).has("sealed against writing");
    assert_eq!(nix::sys::stat::fstat(&memfd).unwrap().st_size, 5000);
}

#[test]
fn growth_takes_the_same_blocks_as_before() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    dir.run("remap f --size 1M -q").code(0);
    let bytes = read(&path);
    assert!(bytes.len() == 1 << 20 && bytes.starts_with(&noise(5000)) && bytes[5000..].iter().all(|byte| *byte == 0));
    assert!(allocated(&path) >= 1 << 20);
}

/// Metadata, such as a length and its blocks, reaches the device; then the power fails. Returns what is left then.
fn cut(mount: &Mount, image: &Path) -> Option<Mount> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let here = mounts.lines().find(|line| line.contains(mount.to_str().unwrap()));
    let device = here.unwrap().split(' ').next().unwrap();
    File::open(device).unwrap().sync_all().unwrap();
    let copy = image.with_extension("cut");
    fs::copy(image, &copy).unwrap();
    let checked = Command::new("e2fsck").arg("-fy").arg(&copy).output();
    checked.expect("e2fsck runs");
    Mount::loopback(&copy)
}

/// Leaves another file's bytes in all free blocks.
fn soil(mount: &Mount) {
    mount.fill();
    fs::remove_file(mount.join("filler")).unwrap();
    nix::unistd::syncfs(File::open(mount).unwrap()).unwrap();
}

#[test]
fn a_power_failure_may_leave_anything_where_the_length_is_being_changed() {
    needs!(strace_works());
    let images = Sandbox::new();
    for mkfs in ["mkfs.ext2 -q -F -b 4096", "mkfs.ext4 -q -F -O ^has_journal"] {
        for (script, kills) in [
            ("size 40000 -> 90000\n10: -> 4242\n", &[("patch f -q --atomic --script s", "fdatasync", 2)][..]),
            ("size 40000 -> 50001\n39990: -> fill:44:5000\n", &[("patch f -q --atomic --script s", "msync", 1)]),
            // The recovery makes the file longer again.
            (
                "size 40000 -> 5000\n10: -> 4242\n",
                &[
                    ("patch f -q --atomic --script s", "msync", 1),
                    ("patch f --script /dev/null", "msync", 1),
                ],
            ),
        ] {
            needs!(let image = file_system_image(&images.join("image"), mkfs, 24));
            needs!(let mount = Mount::loopback(&image));
            let path = mount.file("f", noise(40_000));
            mount.file("s", format!("# mmapctl-patch 1\n{script}"));
            synced(&path);
            for (line, call, nth) in kills {
                soil(&mount);
                mount.inject(&[&format!("{call}:signal=KILL:when={nth}")], line).signal(9);
            }
            needs!(let after = cut(&mount, &image));
            after.run("patch f --script /dev/null").code(0);
            assert!(after.read("f") == noise(40_000), "{mkfs}: {script}");
            assert!(!after.join(".f.mmapctl-undo").exists());
        }
    }
}

#[test]
fn an_atomic_patch_that_meets_an_append_leaves_no_journal_that_would_undo_it() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let path = dir.file("f", [b'A'; 1000]);
    let delay = "inject=fallocate:delay_enter=1000000:when=1";
    std::thread::scope(|scope| {
        let run = scope.spawn(|| dir.straced(&["-e", delay], "patch f --grow -o end fill:42:5000 --atomic"));
        std::thread::sleep(Duration::from_millis(500));
        let mut log = OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(b"theirs").unwrap();
        let output = run.join().unwrap();
        assert!([2, 4].contains(&output.exit()), "{output}");
    });
    assert!(!dir.join(".f.mmapctl-undo").exists());
    dir.run("patch f -q --script /dev/null").is("exit 0");
    assert!(read(&path).starts_with(&[&[b'A'; 1000][..], b"theirs"].concat()));
}
