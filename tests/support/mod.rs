//! What the tests share: sandboxes, outcomes, mounts, injected errors and visible skips.

pub mod huge;
pub mod journal_model;
mod mounts;
mod outcome;
mod sandbox;
pub mod strace;
pub mod tips;
pub mod torn;
pub mod views;

pub use mounts::{LoopDevice, Mount, file_system_image, on_disk};
pub use outcome::{Outcome, Run};
pub use sandbox::*;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Ends a test where one of these is missing; each says so itself. `needs!(let x = option)` is for what the test uses.
macro_rules! needs {
    (let $name:pat = $what:expr) => {
        let Some($name) = $what else {
            return;
        };
    };
    ($($what:expr),+) => {
        $(if !$what {
            return;
        })+
    };
}
pub(crate) use needs;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mmapctl");

/// How long a test waits for what should happen at once: on a busy machine that may take a while.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// Restores the default actions of ignored signals, for this process and the children of this thread: nohup, and a
/// shell for its background jobs, ignore some. Handlers stay: assert_cmd learns by that of SIGCHLD that a child has
/// ended.
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

/// Says that the calling test did not run, or not all of it, and why: past libtest's capture of output.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
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
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains(" 1 passed"), "{stdout}{stderr}");
    let _ = std::io::stderr().write_all(&output.stderr);
    false
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

/// Whether a peer is installed; if not, says that the test is skipped.
pub fn has(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = folders.any(|folder| folder.join(tool).is_file());
    if !found {
        skip(&format!("{tool} is not installed"));
    }
    found
}

/// Whether we are root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The one JSON object that `text` is: a report's or an error's.
pub fn json(text: &[u8]) -> serde_json::Value {
    let text = std::str::from_utf8(text).expect("JSON is UTF-8");
    assert_eq!(text.matches('\n').count(), 1, "one object, on one line: {text}");
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(value["schema"], 1, "{text}");
    value
}

/// Turns `command` into one of an ordinary user, if we are root; `None`, with a visible skip, where that user
/// cannot reach the binary.
pub fn as_ordinary_user(mut command: Command) -> Option<Command> {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    if !is_root() {
        return Some(command);
    }
    let probe = Command::new(BINARY).arg("--version").uid(NOBODY).gid(NOBODY).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("nobody but root can run the binary where it lies");
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

/// The system's page size in bytes.
pub fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().expect("a page size") as u64
}
