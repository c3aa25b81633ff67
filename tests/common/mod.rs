//! What the integration tests share: running mmapctl, scratch files, file systems to mount, visible skips.
#![allow(dead_code)] // each test binary uses a part

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The binary under test, for [`Command`]s of one's own.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mmapctl");

/// Says that a test did not run, past libtest's capture of output, and why.
pub fn skip(test: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {reason}\n").as_bytes());
}

/// mmapctl with `args`, in `dir`, in the C locale and without the caller's colour settings.
pub fn mmapctl(dir: &Path, args: &[&str]) -> assert_cmd::Command {
    assert_cmd::Command::from_std(spawnable(dir, args))
}

/// The same, for a test that needs the process while it runs.
pub fn spawnable(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .current_dir(dir)
        .args(args)
        .env("LC_ALL", "C")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .stdin(Stdio::null());
    command
}

/// Runs a command line, split at spaces, and gives what it printed in one text, to be held against one literal:
/// stdout, then each line of stderr behind `! `, then `exit N` or `signal N`.
pub fn run(dir: &Path, line: &str) -> String {
    run_with(dir, line, b"")
}

/// As [`run`], with `input` on stdin.
pub fn run_with(dir: &Path, line: &str, input: &[u8]) -> String {
    let mut command = mmapctl(dir, &line.split(' ').collect::<Vec<_>>());
    told(&command.write_stdin(input).output().expect("mmapctl runs"))
}

/// The text form of an outcome; see [`run`].
pub fn told(output: &Output) -> String {
    use std::os::unix::process::ExitStatusExt;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str("(no newline)\n");
    }
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        text += &format!("! {line}\n");
    }
    match (output.status.code(), output.status.signal()) {
        (Some(code), _) => text + &format!("exit {code}"),
        (None, signal) => text + &format!("signal {}", signal.unwrap_or(0)),
    }
}

/// A folder that goes away with the test.
pub fn scratch() -> TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

/// Writes a file of a scratch folder and gives its path.
pub fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("a scratch file");
    path
}

/// A sparse file of `len` bytes.
pub fn sparse(dir: &Path, name: &str, len: u64) -> PathBuf {
    let path = dir.join(name);
    File::create(&path)
        .and_then(|file| file.set_len(len))
        .expect("a sparse file");
    path
}

/// `len` bytes that look random and are the same in every run (xorshift).
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// What must not move when a file is left alone: its bytes, its length, its mtime, its blocks.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    bytes: Vec<u8>,
    mtime: (i64, i64),
    blocks: u64,
}

impl State {
    /// The state of a file now.
    pub fn of(path: &Path) -> State {
        let meta = fs::metadata(path).expect("the file is there");
        State {
            bytes: fs::read(path).expect("the file can be read"),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            blocks: meta.blocks(),
        }
    }
}

/// Whether a peer is installed; if not, says that `test` goes without.
pub fn has(test: &str, tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = folders.any(|folder| folder.join(tool).is_file());
    if !found {
        skip(test, &format!("{tool} is not installed"));
    }
    found
}

/// Whether we are root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a peer and gives its stdout; its failure is the test's.
pub fn peer(dir: &Path, program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .current_dir(dir)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A mounted file system that is unmounted with the test.
pub struct Mount {
    folder: TempDir,
}

impl Mount {
    /// A tmpfs of `size` (as mount writes it: "2m"); `None`, with a visible skip, where that is not allowed.
    pub fn tmpfs(test: &str, size: &str) -> Option<Mount> {
        Mount::new(test, &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    /// A hugetlbfs with pages of 2 MiB; the pool must be filled by the caller.
    pub fn hugetlbfs(test: &str) -> Option<Mount> {
        Mount::new(test, &["-t", "hugetlbfs", "-o", "pagesize=2M", "hugetlbfs"])
    }

    /// A fresh file system of `mkfs` (a command such as "mkfs.ext4 -q -b 1024") in an image of `mib` MiB, by way
    /// of a loop device.
    pub fn image(test: &str, mkfs: &str, mib: u64) -> Option<Mount> {
        let mut words = mkfs.split(' ');
        let tool = words.next().unwrap_or_default();
        if !has(test, tool) || !Mount::allowed(test) {
            return None;
        }
        let images = scratch();
        let image = sparse(images.path(), "image", mib << 20);
        let made = Command::new(tool).args(words).arg(&image).output();
        if !made.is_ok_and(|output| output.status.success()) {
            skip(test, &format!("{mkfs} failed"));
            return None;
        }
        // The loop device keeps the image open, so its name may go.
        Mount::new(test, &["-o", "loop", image.to_str()?])
    }

    fn allowed(test: &str) -> bool {
        if !is_root() {
            skip(test, "mounting a file system takes root");
        }
        is_root()
    }

    fn new(test: &str, args: &[&str]) -> Option<Mount> {
        if !Mount::allowed(test) {
            return None;
        }
        let folder = scratch();
        let output = Command::new("mount").args(args).arg(folder.path()).output().ok()?;
        if !output.status.success() {
            skip(
                test,
                &format!("mount {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim()),
            );
            return None;
        }
        Some(Mount { folder })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it to the last block, with a file of its own.
    pub fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).expect("a filler");
        let mut block = vec![0xaa; 1 << 16];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
        let _ = file.sync_all();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output();
    }
}
