//! A folder for a test, which goes away with it: files, and mmapctl run on them.

use super::{BINARY, Outcome, PATIENCE, Run, hear_signals, json, skip, tips};
use std::fs::{self, File};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder in which mmapctl is run. It stands for its path.
pub struct Sandbox {
    path: PathBuf,
    _folder: Option<TempDir>,
}

impl Sandbox {
    /// A fresh folder.
    pub fn new() -> Sandbox {
        hear_signals();
        Sandbox::of(tempfile::tempdir().expect("a scratch folder"))
    }

    /// A fresh folder on a tmpfs, without mounting one; `None`, with a visible skip, where there is none.
    pub fn in_memory() -> Option<Sandbox> {
        hear_signals();
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).ok()?;
        if file_system(folder.path()) == nix::sys::statfs::TMPFS_MAGIC {
            return Some(Sandbox::of(folder));
        }
        skip("there is no tmpfs to write to");
        None
    }

    fn of(folder: TempDir) -> Sandbox {
        Sandbox {
            path: folder.path().to_path_buf(),
            _folder: Some(folder),
        }
    }

    /// A folder that is there already, and stays.
    pub fn at(path: impl Into<PathBuf>) -> Sandbox {
        Sandbox {
            path: path.into(),
            _folder: None,
        }
    }

    /// Writes a file, and gives its path.
    pub fn file(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, bytes).expect("a scratch file");
        path
    }

    /// Makes a sparse file of `len` bytes, and gives its path.
    pub fn sparse(&self, name: impl AsRef<Path>, len: u64) -> PathBuf {
        let path = self.join(name);
        let made = File::create(&path).and_then(|file| file.set_len(len));
        made.expect("a sparse file");
        path
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        read(self.join(name))
    }

    /// mmapctl with `args`, in the C locale and without the caller's colour settings.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(BINARY, args);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command
    }

    /// Another program, in the C locale and without a stdin.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self).args(args);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// mmapctl under a resource limit, as `ulimit` of sh sets it: "-v 50000".
    pub fn limited(&self, limit: &str, args: &[&str]) -> Command {
        let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        let mut command = self.program("sh", &["-c", &script, BINARY]);
        command.args(args);
        command
    }

    /// How mmapctl ends with these arguments.
    #[track_caller]
    pub fn mmapctl(&self, args: &[&str]) -> Outcome {
        self.command(args).outcome()
    }

    /// How mmapctl ends with these arguments and `input` on its stdin.
    #[track_caller]
    pub fn mmapctl_fed(&self, args: &[&str], input: impl Into<Vec<u8>>) -> Outcome {
        let mut command = assert_cmd::Command::from_std(self.command(args));
        command.write_stdin(input).timeout(PATIENCE).outcome()
    }

    /// How mmapctl ends with a full disk for its stdout.
    #[track_caller]
    pub fn mmapctl_into_full(&self, args: &[&str]) -> Outcome {
        let full = writer(Path::new("/dev/full"));
        self.command(args).stdout(full).outcome()
    }

    /// How a command line ends, which is split at spaces. The commands of its tips are tried in a copy of the folder.
    #[track_caller]
    pub fn run(&self, line: &str) -> Outcome {
        self.run_fed(line, b"")
    }

    /// How a command line ends with `input` on its stdin.
    #[track_caller]
    pub fn run_fed(&self, line: &str, input: impl AsRef<[u8]>) -> Outcome {
        let outcome = self.mmapctl_fed(&words(line), input.as_ref());
        tips::type_in_a_copy(self, &outcome);
        outcome
    }

    /// How `map WHAT` ends with these verbs, each after a `-c`.
    #[track_caller]
    pub fn session(&self, what: &str, verbs: &[&str]) -> Outcome {
        let verbs = verbs.iter().flat_map(|verb| ["-c", verb]);
        self.mmapctl(&["map"].into_iter().chain(words(what)).chain(verbs).collect::<Vec<_>>())
    }

    /// What `map WHAT` with these verbs prints on stdout, when it must end with 0 and say nothing else.
    #[track_caller]
    pub fn session_prints(&self, what: &str, verbs: &[&str]) -> String {
        let outcome = self.session(what, verbs);
        outcome.code(0);
        assert!(outcome.stderr.is_empty(), "{what} {verbs:?}\n{outcome}");
        String::from_utf8_lossy(&outcome.stdout).into_owned()
    }

    /// The JSON report of a command line, which must end with 0 and say nothing else.
    #[track_caller]
    pub fn report(&self, line: &str) -> serde_json::Value {
        let outcome = self.mmapctl(&words(&format!("{line} --json")));
        outcome.code(0);
        assert!(outcome.stderr.is_empty(), "{line}: {outcome}");
        json(&outcome.stdout)
    }

    /// A command line that must be refused, see [`Outcome::is_refusal`].
    #[track_caller]
    pub fn refused(&self, line: &str) -> Outcome {
        self.refused_fed(line, b"")
    }

    /// A command line that must be refused with `input` on its stdin.
    #[track_caller]
    pub fn refused_fed(&self, line: &str, input: impl AsRef<[u8]>) -> Outcome {
        let outcome = self.run_fed(line, input);
        outcome.is_refusal();
        outcome
    }

    /// A command line that must be refused, and must not touch the file "f".
    #[track_caller]
    pub fn refused_untouched(&self, line: &str) -> Outcome {
        self.refused_untouched_fed(line, b"")
    }

    /// A command line that must be refused with `input` on its stdin, and must not touch the file "f".
    #[track_caller]
    pub fn refused_untouched_fed(&self, line: &str, input: impl AsRef<[u8]>) -> Outcome {
        let before = self.state("f");
        let outcome = self.refused_fed(line, input);
        assert!(self.state("f") == before, "{line}: it touched the file");
        outcome
    }

    /// What a peer prints; its failure is the test's.
    #[track_caller]
    pub fn peer(&self, program: &str, args: &[&str]) -> Vec<u8> {
        let mut command = self.program(program, args);
        let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {stderr}");
        output.stdout
    }

    /// The state of a file now.
    pub fn state(&self, name: impl AsRef<Path>) -> State {
        State::of(&self.join(name))
    }

    /// Whether its file system keeps count of dirty pages and writes them by the range: ext4 or xfs.
    pub fn is_disk(&self) -> bool {
        use nix::sys::statfs::{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC};
        [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC].contains(&file_system(self))
    }
}

impl Deref for Sandbox {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Sandbox {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// As an argument of a command.
impl AsRef<std::ffi::OsStr> for Sandbox {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.path.as_os_str()
    }
}

/// A command line, split at spaces.
pub fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// The bytes of a file.
#[track_caller]
pub fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file that is there, open for writing.
pub fn writer(path: &Path) -> File {
    File::options().write(true).open(path).expect("a file to write to")
}

/// Brings a file to its disk, which gives it its blocks.
pub fn synced(path: &Path) {
    File::open(path).and_then(|file| file.sync_all()).expect("a sync");
}

/// The bytes that a file's blocks have.
pub fn allocated(path: &Path) -> u64 {
    fs::metadata(path).expect("the file is there").blocks() * 512
}

/// Sets the permissions of a file.
#[track_caller]
pub fn set_mode(path: impl AsRef<Path>, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// The kind of file system that a folder is on.
pub fn file_system(dir: &Path) -> nix::sys::statfs::FsType {
    let about = nix::sys::statfs::statfs(dir).expect("statfs of a scratch folder");
    about.filesystem_type()
}

/// What must not move when a file is left alone: its bytes, its length, its mtime, its blocks.
#[derive(PartialEq, Eq)]
pub struct State {
    bytes: Vec<u8>,
    mtime: (i64, i64),
    blocks: u64,
}

/// Without the bytes, which would hide the message of a failed test.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, crc) = (self.bytes.len(), crc32fast::hash(&self.bytes));
        let ((seconds, nanoseconds), blocks) = (self.mtime, self.blocks);
        write!(f, "{len} bytes, CRC-32 {crc:08x}, mtime {seconds}.{nanoseconds:09}, {blocks} blocks")
    }
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

/// Whether a verb that writes keeps the safety rules: `line` has `FILE` where the file stands, and changes any file
/// that is not empty.
pub fn keeps_the_safety_rules_of_writers(line: &str) {
    let dir = Sandbox::new();
    let path = dir.file("f", super::noise(100));
    let on = |name: &str| line.replace("FILE", name);
    for mode in [0o444, 0o4755] {
        set_mode(&path, mode);
        dir.refused_untouched(&on("f"));
    }
    set_mode(&path, 0o644);
    let holder = File::open(&path).expect("our own file");
    holder.lock().expect("nobody else has it");
    dir.refused_untouched(&(on("f") + " --lock-timeout 50ms"));
    holder.unlock().expect("it is ours");
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for name in [".", "fifo", "missing", "/dev/null", "/dev/zero", "/proc/version"] {
        dir.refused(&on(name));
    }
    assert!(!dir.join("missing").exists());
}
