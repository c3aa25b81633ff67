//! `map --lock` of what cannot be locked: it says why, and neither hangs nor is killed.

use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A loop device of 1 MiB of which only the first 64 KiB can be read.
struct Unreadable {
    device: LoopDevice,
    _dir: Sandbox,
}

impl Unreadable {
    fn new() -> Option<Unreadable> {
        if !has("timeout") {
            return None;
        }
        let dir = Sandbox::new();
        let image = dir.file("image", noise(1 << 20));
        let device = LoopDevice::new(&image, &[])?;
        writer(&image).set_len(64 << 10).unwrap();
        Some(Unreadable { device, _dir: dir })
    }

    /// Runs mmapctl for a minute at the most.
    fn run(&self, args: &[&str]) -> Outcome {
        let args = args.iter().map(|arg| arg.replace("DEVICE", self.device.name()));
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60", BINARY]).args(args);
        command.env("LC_ALL", "C").stdin(Stdio::null()).outcome()
    }
}

#[test]
fn an_unreadable_page_is_not_locked_and_its_offset_named() {
    needs!(let device = Unreadable::new());
    for args in [
        &["map", "DEVICE", "--lock", "--hold"][..],
        &["map", "DEVICE", "--lock=now", "--", "true"],
        &["map", "DEVICE", "--lock", "--private"],
        &["map", "DEVICE", "-c", "map --lock"],
        &["map", "DEVICE", "-c", "fork map --lock"],
        &["map", "DEVICE", "/dev/zero", "--lock", "--hold"],
    ] {
        device.run(args).code(2).has("cannot lock 0x10000..0x100000: I/O error (EIO)");
    }
    // The kernel would bring in what is added to a locked mapping.
    let grow = "remap --size 1M --keep-file";
    device
        .run(&[
            "map", "DEVICE", "-r", "0..64K", "--prot", "r", "--lock", "-q", "-c", grow,
        ])
        .code(2)
        .has("cannot lock 0x10000..0x100000: I/O error (EIO)");
    // Nothing is brought in, so nothing is wrong yet.
    device.run(&["map", "DEVICE", "--lock=on-fault", "-q"]).is("exit 0");
    let text = device.run(&["map", "DEVICE", "-q", "--lock=on-fault", "-c", "cat -f plain"]);
    assert!(
        text.contains("cannot read 0x10000") && text.contains("EIO") && text.ends_with("exit 2"),
        "{}",
        &text[text.len().saturating_sub(500)..]
    );
}

#[test]
fn a_locked_mapping_can_be_locked_again_and_grow() {
    let dir = Sandbox::new();
    dir.file("f", noise(100_000));
    let args = [
        "map",
        "f",
        "-q",
        "--lock",
        "-c",
        "map --lock -q",
        "-c",
        "remap --size 200K -q",
    ];
    dir.mmapctl(&args).is("exit 0");
}

/// A control group with a limit on its memory.
struct Group(PathBuf);

impl Group {
    fn new(limit: u64) -> Option<Group> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("mmapctl-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        for (root, file) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            let folder = Path::new(root).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Group(folder);
            if fs::write(group.0.join(file), limit.to_string()).is_ok() {
                return Some(group);
            }
        }
        skip("no control group can be made that limits memory");
        None
    }

    /// Runs mmapctl in the group.
    fn run(&self, dir: &Sandbox, line: &str) -> Outcome {
        let mut command = dir.program("sh", &["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]);
        command.args([self.0.as_os_str(), BINARY.as_ref()]).args(line.split(' '));
        command.outcome()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        eventually(|| fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_control_group_too_small_for_the_lock_is_named() {
    needs!(let group = Group::new(32 << 20));
    let dir = Sandbox::new();
    dir.sparse("f", 64 << 20);
    dir.sparse("small", 4 << 20);
    for line in [
        "map f --lock",
        "map f --lock --hold",
        "map f --lock --private --prot rw",
        "map f small --lock --hold",
        "map --anonymous -n 64M --lock",
        "map --memfd -n 64M --lock",
    ] {
        group.run(&dir, line).code(2).has("may have 33554432 bytes of memory (memory.max), and ");
    }
    let fits = ["map small --lock -q", "map f --lock=on-fault -q", "map f --populate -q"];
    for line in fits {
        group.run(&dir, line).is("exit 0");
    }
}
