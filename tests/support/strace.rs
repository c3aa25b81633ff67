//! Errors and signals at single system calls: by strace, and by watching the trace of a child.

use super::{BINARY, Outcome, Run, Sandbox, has, skip, words};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
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
    /// Begins with the time of the clock.
    pub fn new() -> Chance {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Chance(now.map_or(1, |now| now.as_nanos() as u64) | 1)
    }

    /// Begins with `seed`: equal numbers in each run.
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

/// Sends a signal.
pub fn send(pid: i32, signal: nix::sys::signal::Signal) {
    // A process that has just ended needs none; the caller sees it in the outcome.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// Whether strace is there and may trace; if not, says that the test is skipped.
pub fn strace_works() -> bool {
    if !has("strace") {
        return false;
    }
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let works = tried.is_ok_and(|output| output.status.success());
    if !works {
        skip("ptrace is forbidden here");
    }
    works
}

impl Sandbox {
    /// Runs `mmapctl -v LINE` and, at the `nth` line of its trace that begins with `call`, hands the process's number
    /// to `then`. With `shell`, runs it as that script's `exec "$@"`.
    pub fn watched(&self, shell: Option<&str>, line: &str, call: &str, nth: usize, then: impl FnOnce(i32)) -> Outcome {
        let args = [&["-v"], words(line).as_slice()].concat();
        let mut command = match shell {
            None => self.command(&args),
            Some(script) => {
                let script = format!("{script}; exec \"$@\"");
                let mut command = self.program("sh", &["-c", &script, "sh", BINARY]);
                command.args(&args);
                command
            }
        };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mmapctl starts");
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
        assert!(then.is_none(), "{line}: no {call} number {nth} in:\n{}", String::from_utf8_lossy(&seen));
        let mut stdout = Vec::new();
        let read = child.stdout.take().map(|mut pipe| pipe.read_to_end(&mut stdout));
        read.expect("its stdout").expect("its stdout can be read");
        let status = child.wait().expect("mmapctl ends");
        let (stderr, line) = (seen, format!("mmapctl -v {line}"));
        Outcome::new(line, Output { status, stdout, stderr })
    }

    /// How a command line ends under strace with `options`; by the signal that mmapctl ends by. The log of what strace
    /// was told to trace goes to `strace.log`.
    pub fn straced(&self, options: &[&str], line: &str) -> Outcome {
        let mut command = self.program("strace", &["-f", "-qq", "-s", "1", "-o", "strace.log"]);
        command.args(options).arg(BINARY).args(words(line)).outcome()
    }

    /// How a command line ends with these errors injected, as "msync:error=EIO:when=1".
    pub fn inject(&self, faults: &[&str], line: &str) -> Outcome {
        let faults: Vec<_> = faults.iter().map(|fault| format!("inject={fault}")).collect();
        let options: Vec<_> = faults.iter().flat_map(|fault| ["-e", fault]).collect();
        self.straced(&options, line)
    }

    /// The log of strace, with the calls in one line each that it splits because another thread makes one meanwhile.
    #[track_caller]
    pub fn strace_log(&self) -> String {
        let log = String::from_utf8_lossy(&self.read("strace.log")).into_owned();
        let (mut begun, mut whole) = (HashMap::new(), String::new());
        for line in log.lines() {
            let (thread, call) = line.split_once(' ').unwrap_or(("", line));
            if let Some(begin) = call.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, begin);
            } else if let Some((_, end)) = call.split_once(" resumed>") {
                whole += &format!("{thread} {}{end}\n", begun.remove(thread).unwrap_or_default());
            } else {
                whole += &format!("{line}\n");
            }
        }
        for (thread, begin) in begun {
            whole += &format!("{thread} {begin} <unfinished ...>\n");
        }
        whole
    }
}
