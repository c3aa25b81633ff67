//! What the integration tests share: running mmapctl, scratch files, file systems to mount, visible skips.
pub mod faults;
pub mod huge;
pub mod journal_model;
pub mod tips;
pub mod torn;
pub mod views;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The binary under test, for [`Command`]s of one's own.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mmapctl");

/// How long a test waits for what should come at once: on a busy machine that may take a while.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// Gives signals that are ignored back their default actions, for us and for the children of this thread: nohup, and a
/// shell for what it runs in the background, has some ignored. Handlers stay: that of SIGCHLD is how assert_cmd learns
/// that a child has ended.
#[allow(unsafe_code)]
pub fn hear_signals() {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let is_ignored = |one: &Signal| ignored.unwrap_or(0) >> (*one as u32 - 1) & 1 == 1;
        // Rust ignores SIGPIPE by itself, and its standard library relies on that.
        for one in Signal::iterator().filter(|one| *one != Signal::SIGPIPE && is_ignored(one)) {
            // SAFETY: no handler is installed, and an ignored signal has none to lose.
            let _ = unsafe { signal(one, SigHandler::SigDfl) };
        }
    });
    // One's own mask can always be set.
    let _ = SigSet::all().thread_unblock();
}

/// Says that a test did not run, past libtest's capture of output, and why.
pub fn skip(test: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {reason}\n").as_bytes());
}

/// Runs the calling test once more in a process of its own, for what the kernel counts by the process. True in that
/// process, and false in the first one, once the test has passed there.
pub fn alone() -> bool {
    const MARK: &str = "MMAPCTL_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let thread = std::thread::current();
    let name = thread.name().expect("libtest names the threads of tests");
    let output = Command::new(std::env::current_exe().expect("its path"))
        .args(["--exact", name, "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("the tests can be run again");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && stdout.contains(" 1 passed"),
        "{stdout}{stderr}"
    );
    let _ = std::io::stderr().write_all(&output.stderr);
    false
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
    let text = told(&command.write_stdin(input).output().expect("mmapctl runs"));
    tips::type_in_a_copy(dir, &text);
    text
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
    let text = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => text + &format!("exit {code}"),
        (None, signal) => text + &format!("signal {}", signal.unwrap_or(0)),
    };
    tips::check(&text);
    text
}

/// A folder that goes away with the test.
pub fn scratch() -> TempDir {
    hear_signals();
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
#[derive(PartialEq, Eq)]
pub struct State {
    bytes: Vec<u8>,
    mtime: (i64, i64),
    blocks: u64,
}

/// A file's bytes would bury what a failed test has to say.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, crc) = (self.bytes.len(), crc32fast::hash(&self.bytes));
        let ((seconds, nanoseconds), blocks) = (self.mtime, self.blocks);
        write!(
            f,
            "{len} bytes, CRC-32 {crc:08x}, mtime {seconds}.{nanoseconds:09}, {blocks} blocks"
        )
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

    /// The file system that an image already holds, by way of a loop device.
    pub fn loopback(test: &str, image: &Path) -> Option<Mount> {
        Mount::new(test, &["-o", "loop", image.to_str()?])
    }

    /// An overlayfs, of which cachestat(2) knows nothing, on folders of a tmpfs.
    pub fn overlay(test: &str) -> Option<Mount> {
        let store = Mount::tmpfs(test, "16m")?;
        let part = |name: &str| {
            let path = store.path().join(name);
            fs::create_dir(&path).expect("a folder of an overlay");
            path.to_str().map(String::from)
        };
        let (lower, upper, work) = (part("lower")?, part("upper")?, part("work")?);
        let folders = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        // The tmpfs stays, unnamed, while the overlay uses it.
        let mount = Mount::new(test, &["-t", "overlay", "-o", &folders, "overlay"]);
        let _ = Command::new("umount").arg("-l").arg(store.path()).output();
        mount
    }

    /// The files of `source` once more, through a FUSE server without fallocate(2); `options` are bindfs's, such as
    /// "direct_io".
    pub fn bindfs(test: &str, source: &Path, options: &str) -> Option<Mount> {
        if !has(test, "bindfs") || !Mount::allowed(test) {
            return None;
        }
        let folder = scratch();
        let mut command = Command::new("bindfs");
        command.args(["-o", options]).args([source, folder.path()]);
        let output = command.output().ok()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_string();
            skip(test, &format!("bindfs: {reason}"));
            return None;
        }
        Some(Mount { folder })
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
        // A child that another test is just starting may hold a descriptor on it for a moment.
        // No test depends on it, so it is not waited for as long as an answer is.
        let unmounted = (0..100).any(|_| {
            let tried = Command::new("umount").arg(self.path()).output();
            let done = tried.is_ok_and(|output| output.status.success());
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            done
        });
        if !unmounted {
            let _ = Command::new("umount").arg("-l").arg(self.path()).output();
        }
    }
}

/// The one JSON object that `text` is: a report's or an error's.
pub fn json(text: &[u8]) -> serde_json::Value {
    let text = std::str::from_utf8(text).expect("JSON is UTF-8");
    assert_eq!(text.matches('\n').count(), 1, "one object, on one line: {text}");
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(value["schema"], 1, "{text}");
    value
}

/// Runs a command line with `--json`, which must end with 0, and gives its report.
pub fn report(dir: &Path, line: &str) -> serde_json::Value {
    let output = mmapctl(dir, &format!("{line} --json").split(' ').collect::<Vec<_>>())
        .output()
        .expect("mmapctl runs");
    assert_eq!(output.status.code(), Some(0), "{line}: {}", told(&output));
    assert!(output.stderr.is_empty(), "{line}: {}", told(&output));
    json(&output.stdout)
}

/// The kind of file system that a folder is on.
pub fn file_system(dir: &Path) -> nix::sys::statfs::FsType {
    nix::sys::statfs::statfs(dir)
        .expect("statfs of a scratch folder")
        .filesystem_type()
}

/// Whether a folder's file system keeps count of dirty pages and writes them by the range: ext4 or xfs.
pub fn is_disk(dir: &Path) -> bool {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC};
    [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC].contains(&file_system(dir))
}

/// A scratch folder on a tmpfs, without mounting one; `None`, with a visible skip, where there is none.
pub fn tmpfs_scratch(test: &str) -> Option<TempDir> {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).ok()?;
    if file_system(folder.path()) == nix::sys::statfs::TMPFS_MAGIC {
        return Some(folder);
    }
    skip(test, "there is no tmpfs to write to");
    None
}

/// mmapctl with a stdout that is always full.
pub fn into_full(dir: &Path, args: &[&str]) -> Output {
    let full = writer(Path::new("/dev/full"));
    spawnable(dir, args).stdout(full).output().expect("mmapctl runs")
}

/// mmapctl under a resource limit, as `ulimit` of sh sets it: "-v 50000".
pub fn limited(dir: &Path, limit: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .current_dir(dir)
        .args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\""), BINARY])
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// Turns `command` into one of an ordinary user, if we are root; `None`, with a visible skip, where that user
/// cannot reach the binary.
pub fn as_ordinary_user(test: &str, mut command: Command) -> Option<Command> {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    if !is_root() {
        return Some(command);
    }
    let probe = Command::new(BINARY).arg("--version").uid(NOBODY).gid(NOBODY).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip(test, "nobody but root can run the binary where it lies");
        return None;
    }
    command.uid(NOBODY).gid(NOBODY);
    Some(command)
}

/// Asks every few milliseconds until the answer is yes, and gives up only after [`PATIENCE`].
pub fn eventually(mut ask: impl FnMut() -> bool) -> bool {
    let begin = std::time::Instant::now();
    while begin.elapsed() < PATIENCE {
        if ask() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    false
}

/// Whether a process sleeps in a system call.
pub fn sleeps(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

/// Runs a command line that must be refused: exit 2, soon, in words for people and with a tip, nothing on stdout.
/// Gives what was said.
pub fn refused(dir: &Path, line: &str, input: &[u8]) -> String {
    let mut command = mmapctl(dir, &line.split(' ').collect::<Vec<_>>());
    let output = command
        .write_stdin(input)
        .timeout(PATIENCE)
        .output()
        .expect("mmapctl runs");
    let text = check_refusal(line, &output);
    tips::type_in_a_copy(dir, &text);
    text
}

/// As [`refused`], and the file `f` of `dir` is not moved by it.
pub fn refused_without_touching(dir: &Path, line: &str, input: &[u8]) -> String {
    let before = State::of(&dir.join("f"));
    let text = refused(dir, line, input);
    assert!(State::of(&dir.join("f")) == before, "{line}: it touched the file");
    text
}

/// Whether a verb that writes keeps the safety rules: `line` has `FILE` where the file stands, and changes any file
/// that is not empty.
pub fn keeps_the_safety_rules_of_writers(line: &str) {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(100));
    let on = |name: &str| line.replace("FILE", name);
    for mode in [0o444, 0o4755] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
        refused_without_touching(dir.path(), &on("f"), b"");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("our own file");
    let holder = File::open(&path).expect("our own file");
    holder.lock().expect("nobody else has it");
    refused_without_touching(dir.path(), &(on("f") + " --lock-timeout 50ms"), b"");
    holder.unlock().expect("it is ours");
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    for name in [".", "fifo", "missing", "/dev/null", "/dev/zero", "/proc/version"] {
        refused(dir.path(), &on(name), b"");
    }
    assert!(!dir.path().join("missing").exists());
}

/// Whether an outcome is a refusal, see [`refused`].
pub fn check_refusal(line: &str, output: &Output) -> String {
    let text = told(output);
    assert_eq!(output.status.code(), Some(2), "{line}\n{text}");
    assert!(output.stdout.is_empty(), "{line}\n{text}");
    assert!(text.starts_with("! error: "), "{line}\n{text}");
    assert!(text.contains("\n!   tip: "), "no tip: {line}\n{text}");
    for word in ["Os {", "panicked", "os error"] {
        assert!(!text.contains(word), "{line}\n{text}");
    }
    text
}

/// The system's page size in bytes.
pub fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().expect("a page size") as u64
}
