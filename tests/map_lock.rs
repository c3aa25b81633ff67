//! `map --lock` of what cannot be locked: it says why, and never waits or dies for it.

use crate::support;
use crate::support::{BINARY, file, has, is_root, noise, scratch, skip, sparse, told, writer};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A loop device of 1 MiB of which only the first 64 KiB can be read.
struct Unreadable {
    device: String,
    _dir: tempfile::TempDir,
}

impl Unreadable {
    fn new(test: &str) -> Option<Unreadable> {
        if !has(test, "losetup") || !has(test, "timeout") {
            return None;
        }
        if !is_root() {
            skip(test, "a loop device takes root");
            return None;
        }
        let dir = scratch();
        let image = file(dir.path(), "image", &noise(1 << 20));
        let output = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(&image)
            .output()
            .ok()?;
        if !output.status.success() {
            skip(test, "there is no loop device to be had");
            return None;
        }
        writer(&image).set_len(64 << 10).unwrap();
        let device = String::from_utf8_lossy(&output.stdout).trim().to_string();
        Some(Unreadable { device, _dir: dir })
    }

    /// Runs mmapctl, which would go on for ever, for a minute at the most.
    fn run(&self, args: &[&str]) -> String {
        let args = args.iter().map(|arg| arg.replace("DEVICE", &self.device));
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60", BINARY]).args(args);
        let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
        told(&output.expect("timeout runs"))
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.device]).output();
    }
}

#[test]
fn a_page_that_cannot_be_read_is_not_locked_and_its_offset_is_said() {
    let Some(device) = Unreadable::new("a_page_that_cannot_be_read_is_not_locked_and_its_offset_is_said") else {
        return;
    };
    for args in [
        &["map", "DEVICE", "--lock", "--hold"][..],
        &["map", "DEVICE", "--lock=now", "--", "true"],
        &["map", "DEVICE", "--lock", "--private"],
        &["map", "DEVICE", "-c", "map --lock"],
        &["map", "DEVICE", "-c", "fork map --lock"],
        &["map", "DEVICE", "/dev/zero", "--lock", "--hold"],
    ] {
        let text = device.run(args);
        assert!(
            text.contains("cannot lock 0x10000..0x100000: I/O error (EIO)") && text.ends_with("exit 2"),
            "{args:?}: {text}"
        );
    }
    // The kernel would bring in what is added to a locked mapping.
    let grow = "remap --size 1M --keep-file";
    let text = device.run(&[
        "map", "DEVICE", "-r", "0..64K", "--prot", "r", "--lock", "-q", "-c", grow,
    ]);
    assert!(
        text.contains("cannot lock 0x10000..0x100000: I/O error (EIO)") && text.ends_with("exit 2"),
        "{text}"
    );
    // Nothing is brought in, so nothing is wrong yet.
    let text = device.run(&["map", "DEVICE", "--lock=on-fault", "-q"]);
    assert_eq!(text, "exit 0");
    let text = device.run(&["map", "DEVICE", "-q", "--lock=on-fault", "-c", "cat -f plain"]);
    assert!(
        text.contains("cannot read 0x10000") && text.contains("EIO") && text.ends_with("exit 2"),
        "{}",
        &text[text.len().saturating_sub(500)..]
    );
}

#[test]
fn a_locked_mapping_can_be_locked_again_and_grow() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100_000));
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
    let output = support::mmapctl(dir.path(), &args).output().unwrap();
    assert_eq!(told(&output), "exit 0");
}

/// A control group with a limit on its memory.
struct Group(PathBuf);

impl Group {
    fn new(test: &str, limit: u64) -> Option<Group> {
        let name = format!("mmapctl-{test}-{}", std::process::id());
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
        skip(test, "no control group can be made that limits memory");
        None
    }

    /// Runs mmapctl in the group.
    fn run(&self, dir: &Path, line: &str) -> Output {
        let mut command = Command::new("sh");
        command
            .current_dir(dir)
            .args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""])
            .args([self.0.as_os_str(), BINARY.as_ref()])
            .args(line.split(' '))
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command.output().expect("sh runs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        support::eventually(|| fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_control_group_too_small_for_the_lock_is_named() {
    let Some(group) = Group::new("a_control_group_too_small_for_the_lock_is_named", 32 << 20) else {
        return;
    };
    let dir = scratch();
    sparse(dir.path(), "f", 64 << 20);
    sparse(dir.path(), "small", 4 << 20);
    for line in [
        "map f --lock",
        "map f --lock --hold",
        "map f --lock --private --prot rw",
        "map f small --lock --hold",
        "map --anonymous -n 64M --lock",
        "map --memfd -n 64M --lock",
    ] {
        let text = told(&group.run(dir.path(), line));
        assert!(
            text.contains("may have 33554432 bytes of memory (memory.max), and ") && text.ends_with("exit 2"),
            "{line}: {text}"
        );
    }
    let fits = ["map small --lock -q", "map f --lock=on-fault -q", "map f --populate -q"];
    for line in fits {
        assert_eq!(told(&group.run(dir.path(), line)), "exit 0", "{line}");
    }
}
