//! The real binary, killed before each system call of an atomic patch and of a recovery; and power failures there, on
//! file systems that can be made to lose what was not synced. After a recovery the file is entirely old or new.
//!
//! `MMAPCTL_CRASHES=all` stops at every call; otherwise a sample of them is taken, another in every run.

use crate::support::strace::*;
use crate::support::*;
use std::collections::HashMap;
use std::fs::{self};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SIZE: usize = 40_000;

/// An edit script, by its name.
const KEPT: &str = "kept";
const GROWN: &str = "grown";
const SHRUNK: &str = "shrunk";

/// "f" before the script, and after it.
fn old() -> Vec<u8> {
    noise(SIZE)
}

fn new(script: &str) -> Vec<u8> {
    let mut bytes = old();
    for at in [100, 9_000, 20_477] {
        bytes[at..at + 6].fill(0xaa);
    }
    match script {
        GROWN => {
            bytes.resize(70_000, 0);
            bytes[60_000..60_006].fill(0xbb);
        }
        SHRUNK => bytes.truncate(25_000),
        _ => {}
    }
    bytes
}

/// "f" and the scripts.
fn prepare(dir: &Sandbox) {
    dir.file("f", old());
    let edits = "100: -> fill:aa:6\n9000: -> fill:aa:6\n20477: -> fill:aa:6\n";
    for (name, text) in [
        (KEPT, edits.to_string()),
        (GROWN, format!("size {SIZE} -> 70000\n{edits}60000: -> fill:bb:6\n")),
        (SHRUNK, format!("size {SIZE} -> 25000\n{edits}")),
    ] {
        dir.file(name, format!("# mmapctl-patch 1\n{text}"));
    }
}

fn patch(script: &str) -> String {
    format!("patch f --atomic --script {script}")
}

const RECOVER: &str = "patch f --script /dev/null";

fn journal(dir: &Sandbox) -> PathBuf {
    dir.join(".f.mmapctl-undo")
}

/// Writes the journal of "f" again.
fn put_journal(dir: &Sandbox, record: &[u8]) {
    fs::write(journal(dir), record).unwrap();
    set_mode(journal(dir), 0o600);
}

/// A system call by its name, and its number among the calls of that name.
type Stop = (String, u32);

/// The system calls of `line` from the opening of "f" on.
fn stops(dir: &Sandbox, line: &str) -> Vec<Stop> {
    dir.straced(&[], line).code(0);
    let log = dir.strace_log();
    let mut counts = HashMap::new();
    let (mut stops, mut begun) = (Vec::new(), false);
    for line in log.lines() {
        let Some((_, call)) = line.split_once(' ') else {
            continue;
        };
        let Some((name, arguments)) = call.trim_start().split_once('(') else {
            continue;
        };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let count = counts.entry(name.to_string()).or_insert(0);
        *count += 1;
        begun |= name == "openat" && arguments.contains("\"f\"");
        if begun {
            stops.push((name.to_string(), *count));
        }
    }
    assert!(stops.len() > 15, "{line}: {stops:?}");
    stops
}

/// Every `nth` of them, or all.
fn sample(stops: Vec<Stop>, nth: u64) -> Vec<Stop> {
    let all = std::env::var("MMAPCTL_CRASHES").is_ok_and(|wish| wish == "all");
    let nth = if all { 1 } else { nth };
    let first = Chance::new().below(nth) as usize;
    stops.into_iter().skip(first).step_by(nth as usize).collect()
}

/// Runs `line` and kills it before a call. Some calls come more or less often from run to run (looking for a
/// signal); then it may end well.
fn kill_at(dir: &Sandbox, stop: &Stop, line: &str) -> bool {
    let (name, nth) = stop;
    let output = dir.inject(&[&format!("{name}:signal=KILL:when={nth}")], line);
    let killed = output.exit() == 128 + 9;
    assert!(killed || output.exit() == 0, "{stop:?}: {}: {}", output.exit(), output.stderr());
    killed
}

/// Checks that a recovery makes "f" one of `whole` and leaves no journal, and that a second one finds nothing to do.
fn recovers(dir: &Sandbox, whole: &[&Vec<u8>], at: &str) {
    let path = dir.join("f");
    let is_whole = || {
        let bytes = read(&path);
        whole.iter().any(|one| **one == bytes)
    };
    if !is_whole() {
        let text = dir.run("cat f -n 1");
        assert!(text.contains("recovery needed"), "{at}: half a patch is shown: {text}");
    }
    let first = dir.run(RECOVER);
    assert!(first.ends_with("exit 0"), "{at}: {first}");
    assert!(is_whole(), "{at}: neither old nor new: {first}");
    assert!(!journal(dir).exists(), "{at}: the journal remains: {first}");
    let state = State::of(&path);
    assert_eq!(dir.run(RECOVER), "f: no edits; nothing was written\nexit 0", "{at}");
    assert!(State::of(&path) == state, "{at}: recovering twice is not recovering once");
}

/// Leaves "f" half patched, with its journal, as a crash does. Returns its bytes and the journal's.
fn tear(dir: &Sandbox, script: &str) -> (Vec<u8>, Vec<u8>) {
    assert!(kill_at(dir, &("msync".into(), 1), &patch(script)));
    let path = dir.join("f");
    let writer = writer(&path);
    writer.write_all_at(&old()[9_000..9_003], 9_000).unwrap();
    writer.sync_all().unwrap();
    assert!(journal(dir).exists());
    (read(path), read(journal(dir)))
}

#[test]
fn a_patch_killed_at_any_call_leaves_the_file_old_or_new() {
    needs!(strace_works());
    let dir = Sandbox::new();
    for script in [KEPT, GROWN, SHRUNK] {
        prepare(&dir);
        let (mut killed, mut put_back) = (0, 0);
        let stops = stops(&dir, &patch(script));
        for stop in sample(stops, 2) {
            prepare(&dir);
            killed += u32::from(kill_at(&dir, &stop, &patch(script)));
            put_back += u32::from(journal(&dir).exists());
            recovers(&dir, &[&old(), &new(script)], &format!("{script}: {stop:?}"));
        }
        assert!(killed > 10 && put_back > 3, "{script}: {killed} kills, {put_back} journals");
    }
}

#[test]
fn a_recovery_killed_at_any_call_is_done_by_the_next_verb() {
    needs!(strace_works());
    let dir = Sandbox::new();
    for script in [KEPT, GROWN, SHRUNK] {
        prepare(&dir);
        let (torn, record) = tear(&dir, script);
        let stops = stops(&dir, RECOVER);
        for stop in sample(stops, 2) {
            dir.file("f", &torn);
            put_journal(&dir, &record);
            kill_at(&dir, &stop, RECOVER);
            recovers(&dir, &[&old()], &format!("{script}: {stop:?}"));
        }
    }
}

/// How the power of a mounted image is cut.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// The file system's shutdown ioctl: what is not on the device by now never gets there.
    Shutdown,
    /// The device as it is at this moment, copied.
    Copy,
}

/// A machine that can lose power: a file system in an image.
struct Machine {
    _folder: Sandbox,
    image: PathBuf,
    mount: Option<Mount>,
    cut: Cut,
}

impl Machine {
    fn new(mkfs: &str, mib: u64, cut: Cut) -> Option<Machine> {
        let needed = if cut == Cut::Shutdown { "xfs_io" } else { "cp" };
        if !strace_works() || !has(needed) {
            return None;
        }
        let folder = Sandbox::new();
        let image = file_system_image(&folder.join("image"), mkfs, mib)?;
        let mount = Some(Mount::loopback(&image)?);
        Some(Machine {
            _folder: folder,
            image,
            mount,
            cut,
        })
    }

    fn dir(&self) -> &Sandbox {
        self.mount.as_ref().expect("it is mounted")
    }

    fn sync(&self) {
        self.dir().peer("sync", &["-f", "."]);
    }

    /// Cuts the power and starts again.
    fn lose_power(&mut self) {
        let next = self.image.with_extension("next");
        match self.cut {
            Cut::Shutdown => {
                let folder = self.dir().to_str().expect("a plain name").to_string();
                Sandbox::at(Path::new("/")).peer("xfs_io", &["-x", "-c", "shutdown", &folder]);
            }
            Cut::Copy => {
                let folder = self.image.parent().expect("it lies in a folder");
                Sandbox::at(folder).peer("cp", &["--sparse=always", "image", "image.next"]);
            }
        }
        self.mount = None;
        if self.cut == Cut::Copy {
            fs::rename(&next, &self.image).unwrap();
        }
        self.mount = Mount::loopback(&self.image);
        assert!(self.mount.is_some(), "the file system does not come back");
    }

    /// Cuts the power before each of a sample of the calls, of patches and of recoveries.
    fn try_all(&mut self, nth: u64) {
        // Or all that follows would prove nothing.
        self.dir().file("unsynced", b"lost");
        self.lose_power();
        let kept = fs::read(self.dir().join("unsynced")).unwrap_or_default();
        assert!(kept != b"lost", "the power's failing loses nothing");
        for script in [KEPT, GROWN, SHRUNK] {
            prepare(self.dir());
            let found = stops(self.dir(), &patch(script));
            for stop in sample(found, nth) {
                let at = format!("{script}: {stop:?}");
                prepare(self.dir());
                self.sync();
                kill_at(self.dir(), &stop, &patch(script));
                self.lose_power();
                recovers(self.dir(), &[&old(), &new(script)], &at);
            }
            // An exit code of 0 is a promise.
            prepare(self.dir());
            self.sync();
            self.dir().run(&patch(script)).has(", durable\n").ends("\nexit 0");
            self.lose_power();
            recovers(self.dir(), &[&new(script)], script);

            prepare(self.dir());
            let (torn, record) = tear(self.dir(), script);
            let found = stops(self.dir(), RECOVER);
            for stop in sample(found, nth * 2) {
                let at = format!("recovery of {script}: {stop:?}");
                self.dir().file("f", &torn);
                put_journal(self.dir(), &record);
                self.sync();
                kill_at(self.dir(), &stop, RECOVER);
                self.lose_power();
                recovers(self.dir(), &[&old()], &at);
            }
        }
    }
}

#[test]
fn on_ext4_the_power_may_fail_at_any_system_call() {
    if let Some(mut machine) = Machine::new("mkfs.ext4 -q", 16, Cut::Shutdown) {
        machine.try_all(8);
    }
}

#[test]
fn on_xfs_the_power_may_fail_at_any_system_call() {
    if let Some(mut machine) = Machine::new("mkfs.xfs -q", 300, Cut::Shutdown) {
        machine.try_all(8);
    }
}

#[test]
fn on_btrfs_the_power_may_fail_at_any_system_call() {
    if let Some(mut machine) = Machine::new("mkfs.btrfs -q", 110, Cut::Copy) {
        machine.try_all(12);
    }
}
