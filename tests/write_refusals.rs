//! What is said of files that are written to under conditions of their own: devices that are read-only or end, memfds that
//! are sealed, names on an overlayfs.

use crate::support;
use crate::support::{file, has, is_root, noise, run, scratch, skip};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::AsRawFd;
use std::process::Command;

/// A loop device of 64 KiB.
struct Loop {
    device: String,
    _dir: tempfile::TempDir,
}

impl Loop {
    fn new(test: &str, options: &[&str]) -> Option<Loop> {
        if !has(test, "losetup") || !is_root() {
            skip(test, "a loop device takes root, and losetup");
            return None;
        }
        let dir = scratch();
        let image = file(dir.path(), "image", &noise(64 << 10));
        let mut command = Command::new("losetup");
        let output = command.args(options).args(["-f", "--show"]).arg(&image).output().ok()?;
        if !output.status.success() {
            skip(test, "there is no loop device to be had");
            return None;
        }
        let device = String::from_utf8_lossy(&output.stdout).trim().to_string();
        Some(Loop { device, _dir: dir })
    }

    fn run(&self, line: &str) -> String {
        run(self._dir.path(), &line.replace("DEVICE", &self.device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}

#[test]
fn a_read_only_block_device_is_called_that() {
    let Some(device) = Loop::new("a_read_only_block_device_is_called_that", &["-r"]) else {
        return;
    };
    for line in [
        "patch DEVICE -o 0 ff --force",
        "zero DEVICE -r 0..4K --force",
        "map DEVICE --prot rw",
    ] {
        let text = device.run(line);
        assert!(
            text.contains("the block device is read-only")
                && text.contains("blockdev --getro")
                && text.ends_with("exit 2"),
            "{line}: {text}"
        );
    }
    for line in ["map DEVICE -q", "sync DEVICE -q", "cat DEVICE -n 0"] {
        assert_eq!(device.run(line), "exit 0", "{line}");
    }
}

#[test]
fn a_block_device_cannot_be_made_longer_and_no_tip_says_so() {
    let Some(device) = Loop::new("a_block_device_cannot_be_made_longer_and_no_tip_says_so", &[]) else {
        return;
    };
    for line in [
        "patch DEVICE -o 64K ff --force",
        "patch DEVICE -o 64K ff --force --grow",
        "zero DEVICE -r 60K..+8K --force",
        "remap DEVICE --size +4K --force",
        "remap DEVICE --size -4K --force",
    ] {
        let text = device.run(line);
        assert!(text.contains("device") && text.ends_with("exit 2"), "{line}: {text}");
        assert!(
            text.contains("blockdev --getsize64") && !text.contains("mmapctl remap"),
            "{line}: {text}"
        );
    }
}

#[test]
fn a_sealed_memfd_is_called_that() {
    let dir = scratch();
    let memfd = memfd_create(c"sealed", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&memfd, 8192).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), memfd.as_raw_fd());
    let seal = |seals| assert!(fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).is_ok());
    seal(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK);
    for line in ["remap F --size +4K", "remap F --size -4K", "patch F -o 8K ff --grow"] {
        let text = run(dir.path(), &line.replace('F', &path));
        assert!(
            text.contains("memfd whose length is sealed") && text.ends_with("exit 2"),
            "{line}: {text}"
        );
    }
    seal(SealFlag::F_SEAL_WRITE);
    for line in [
        "patch F -o 0 ff",
        "zero F -r 0..4K",
        "zero F -r 0..4K --punch",
        "map F --prot rw",
    ] {
        let text = run(dir.path(), &line.replace('F', &path));
        assert!(
            text.contains("memfd that is sealed against writing") && text.ends_with("exit 2"),
            "{line}: {text}"
        );
    }
    for line in ["sync F -q", "map F -q"] {
        assert_eq!(run(dir.path(), &line.replace('F', &path)), "exit 0", "{line}");
    }
}

#[test]
fn names_that_overlayfs_splits_are_said() {
    let test = "names_that_overlayfs_splits_are_said";
    let Some(store) = support::Mount::tmpfs(test, "16m") else {
        return;
    };
    let folders = ["lower", "upper", "work", "merged"].map(|name| store.path().join(name));
    for folder in &folders {
        std::fs::create_dir(folder).unwrap();
    }
    file(&folders[0], "f", b"bytes");
    std::fs::hard_link(folders[0].join("f"), folders[0].join("g")).unwrap();
    file(&folders[0], "alone", b"bytes");
    let [lower, upper, work, merged] = &folders;
    let show = |path: &std::path::Path| path.display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        show(lower),
        show(upper),
        show(work)
    );
    let mount = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(merged).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !mount(
        "mount",
        &["-t", "overlay", "-o", &format!("{options},index=off"), "overlay"],
    ) {
        return skip(test, "no overlayfs can be mounted");
    }
    let told = [
        run(merged, "map f g -s"),
        run(merged, "patch alone -q -o 0 42"),
        run(merged, "patch f -q -o 0 42"),
        run(merged, "patch f -q -o 1 42"),
        run(merged, "cat g"),
    ];
    let session = run(merged, "patch g -o 0 43");
    assert!(mount("umount", &[]));
    let note = "overlayfs has copied it from its lower layer to be written to; its other names (hard links) keep the old bytes";
    assert!(told[0].ends_with("exit 0") && !told[0].contains("note:"), "{}", told[0]);
    assert_eq!(told[1..4], ["exit 0", "exit 0", "exit 0"]);
    assert_eq!(told[4], "bytes(no newline)\nexit 0");
    assert!(
        session.contains(&format!("! note: g: {note}\n")) && session.ends_with("exit 0"),
        "{session}"
    );
}
