//! Messages about special files that are written to: read-only and full devices, sealed memfds, names on an overlayfs.

use crate::support::*;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::AsRawFd;
use std::process::Command;

/// A loop device of 64 KiB.
struct Loop {
    device: LoopDevice,
    dir: Sandbox,
}

impl Loop {
    fn new(options: &[&str]) -> Option<Loop> {
        let dir = Sandbox::new();
        let image = dir.file("image", noise(64 << 10));
        let device = LoopDevice::new(&image, options)?;
        Some(Loop { device, dir })
    }

    fn run(&self, line: &str) -> Outcome {
        self.dir.run(&line.replace("DEVICE", self.device.name()))
    }
}

#[test]
fn a_read_only_block_device_is_called_that() {
    needs!(let device = Loop::new(&["-r"]));
    for line in [
        "patch DEVICE -o 0 ff --force",
        "zero DEVICE -r 0..4K --force",
        "map DEVICE --prot rw",
    ] {
        device.run(line).code(2).has("the block device is read-only").has("blockdev --getro");
    }
    for line in ["map DEVICE -q", "sync DEVICE -q", "cat DEVICE -n 0"] {
        device.run(line).is("exit 0");
    }
}

#[test]
fn a_block_device_cannot_be_made_longer_and_no_tip_says_so() {
    needs!(let device = Loop::new(&[]));
    for line in [
        "patch DEVICE -o 64K ff --force",
        "patch DEVICE -o 64K ff --force --grow",
        "zero DEVICE -r 60K..+8K --force",
        "remap DEVICE --size +4K --force",
        "remap DEVICE --size -4K --force",
    ] {
        device.run(line).code(2).has("device").has("blockdev --getsize64").lacks("mmapctl remap");
    }
}

#[test]
fn a_sealed_memfd_is_called_that() {
    let dir = Sandbox::new();
    let memfd = memfd_create(c"sealed", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&memfd, 8192).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), memfd.as_raw_fd());
    let seal = |seals| assert!(fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).is_ok());
    seal(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK);
    for line in ["remap F --size +4K", "remap F --size -4K", "patch F -o 8K ff --grow"] {
        dir.run(&line.replace('F', &path)).code(2).has("memfd whose length is sealed");
    }
    seal(SealFlag::F_SEAL_WRITE);
    for line in [
        "patch F -o 0 ff",
        "zero F -r 0..4K",
        "zero F -r 0..4K --punch",
        "map F --prot rw",
    ] {
        dir.run(&line.replace('F', &path)).code(2).has("memfd that is sealed against writing");
    }
    for line in ["sync F -q", "map F -q"] {
        dir.run(&line.replace('F', &path)).is("exit 0");
    }
}

#[test]
fn names_that_overlayfs_splits_are_said() {
    needs!(let store = Mount::tmpfs("16m"));
    let folders = ["lower", "upper", "work", "merged"].map(|name| Sandbox::at(store.join(name)));
    for folder in &folders {
        std::fs::create_dir(folder).unwrap();
    }
    folders[0].file("f", b"bytes");
    std::fs::hard_link(folders[0].join("f"), folders[0].join("g")).unwrap();
    folders[0].file("alone", b"bytes");
    let [lower, upper, work, merged] = &folders;
    let show = |path: &Sandbox| path.display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", show(lower), show(upper), show(work));
    let mount = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(merged).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !mount("mount", &["-t", "overlay", "-o", &format!("{options},index=off"), "overlay"]) {
        return skip("no overlayfs can be mounted");
    }
    let text = [
        merged.run("map f g -s"),
        merged.run("patch alone -q -o 0 42"),
        merged.run("patch f -q -o 0 42"),
        merged.run("patch f -q -o 1 42"),
        merged.run("cat g"),
    ];
    let session = merged.run("patch g -o 0 43");
    assert!(mount("umount", &[]));
    let note = "overlayfs has copied the file from its lower layer for writing; its other names (hard links) keep the old bytes";
    assert!(text[0].ends_with("exit 0") && !text[0].contains("note:"), "{}", text[0]);
    assert_eq!(text[1..4], ["exit 0", "exit 0", "exit 0"]);
    assert_eq!(text[4], "bytes(no newline)\nexit 0");
    session.code(0).has(format!("! note: g: {note}\n"));
}
