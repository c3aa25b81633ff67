//! What the fault tests share: chance, watching a child's system calls, strace's injected errors.
use crate::support::{BINARY, has, skip, spawnable};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How often a race is run: `MMAPCTL_RACES`, or enough to see a fault that is not rare.
pub fn races() -> u32 {
    let wish = std::env::var("MMAPCTL_RACES").ok();
    wish.and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// Numbers that look random (xorshift) and differ from run to run.
pub struct Chance(u64);

impl Chance {
    /// Begins where the clock stands.
    pub fn new() -> Chance {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Chance(now.map_or(1, |now| now.as_nanos() as u64) | 1)
    }

    /// The same numbers in each run.
    pub fn seeded(seed: u64) -> Chance {
        Chance(seed | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    /// A time up to `most`.
    pub fn within(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64))
    }
}

/// `args` split at spaces, for [`spawnable`].
pub fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// The exit code, or 128 and the signal.
pub fn code(output: &Output) -> i32 {
    let status = output.status;
    status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

/// What went to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `mmapctl -v LINE` and, at the `nth` line of its trace that begins with `call`, hands the process's number
/// to `then`. With `shell`, runs it as that script's `exec "$@"`.
pub fn watched(dir: &Path, shell: Option<&str>, line: &str, call: &str, nth: usize, then: impl FnOnce(i32)) -> Output {
    let args = [&["-v"], words(line).as_slice()].concat();
    let mut command = match shell {
        None => spawnable(dir, &args),
        Some(script) => {
            let mut command = Command::new("sh");
            let script = format!("{script}; exec \"$@\"");
            command.current_dir(dir).args(["-c", &script, "sh", BINARY]).args(&args);
            command.env("LC_ALL", "C").stdin(Stdio::null());
            command
        }
    };
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mmapctl starts");
    let mut trace = BufReader::new(child.stderr.take().expect("its stderr"));
    let mut seen = Vec::new();
    let (mut left, mut then) = (nth, Some(then));
    loop {
        let from = seen.len();
        if trace.read_until(b'\n', &mut seen).expect("its trace") == 0 {
            break;
        }
        if seen[from..].starts_with(call.as_bytes()) {
            left = left.saturating_sub(1);
            if let Some(then) = then.take_if(|_| left == 0) {
                then(child.id() as i32);
            }
        }
    }
    assert!(
        then.is_none(),
        "{line}: no {call} number {nth} in:\n{}",
        String::from_utf8_lossy(&seen)
    );
    let mut stdout = Vec::new();
    let read = child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut stdout));
    read.expect("its stdout").expect("its stdout can be read");
    Output {
        status: child.wait().expect("mmapctl ends"),
        stdout,
        stderr: seen,
    }
}

/// Sends a signal.
pub fn send(pid: i32, signal: nix::sys::signal::Signal) {
    // A process that has just ended needs none; the caller sees it in the outcome.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// Whether strace is there and may trace; if not, says that `test` goes without.
pub fn strace_works(test: &str) -> bool {
    if !has(test, "strace") {
        return false;
    }
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let works = tried.is_ok_and(|output| output.status.success());
    if !works {
        skip(test, "ptrace is forbidden here");
    }
    works
}

/// mmapctl under strace with `options`. Ends by the signal that mmapctl ends by. The log of what strace was told to
/// trace goes to `strace.log` in `dir`.
pub fn straced(dir: &Path, options: &[&str], line: &str) -> Output {
    let log = dir.join("strace.log");
    Command::new("strace")
        .current_dir(dir)
        .args(["-f", "-qq", "-s", "1", "-o"])
        .arg(log)
        .args(options)
        .arg(BINARY)
        .args(words(line))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("strace runs")
}
