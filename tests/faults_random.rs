//! Errors of random system calls, and signals at random moments, over all verbs: the exit code agrees with the bytes.
//!
//! `MMAPCTL_FAULTS` says how many of each; a few by default.

use crate::support::strace::*;
use crate::support::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The length of the file.
const LEN: usize = 20_000;

/// A command line, quoted as for a shell, and the states that it takes the file "f" through: a session may stop between
/// two verbs.
struct Case {
    line: &'static str,
    steps: &'static [fn(&mut Vec<u8>)],
}

const HELLO: fn(&mut Vec<u8>) = |bytes| bytes[5000..5005].copy_from_slice(b"HELLO");
const ZEROS: fn(&mut Vec<u8>) = |bytes| bytes[4096..12_288].fill(0);

/// Each verb and each of the ways it stores.
const WRITERS: &[Case] = &[
    Case {
        line: "patch f -o 5000 text:HELLO",
        steps: &[HELLO],
    },
    Case {
        line: "patch f -o 5000 text:HELLO --sync",
        steps: &[HELLO],
    },
    Case {
        line: "patch f -o 5000 text:HELLO --atomic",
        steps: &[HELLO],
    },
    Case {
        line: "patch f -o 5000 text:HELLO --atomic --undo u --json",
        steps: &[HELLO],
    },
    Case {
        line: "patch f --script s",
        steps: &[|bytes| {
            bytes[10] = 1;
            bytes[9000] = 2;
            bytes[19_999] = 3;
        }],
    },
    Case {
        line: "patch f --script s --atomic",
        steps: &[|bytes| {
            bytes[10] = 1;
            bytes[9000] = 2;
            bytes[19_999] = 3;
        }],
    },
    Case {
        line: "patch f --grow -o 19998 fill:5a:6000",
        steps: &[|bytes| {
            bytes.truncate(19_998);
            bytes.resize(25_998, 0x5a);
        }],
    },
    Case {
        line: "patch f --grow -o 19998 fill:5a:6000 --atomic",
        steps: &[|bytes| {
            bytes.truncate(19_998);
            bytes.resize(25_998, 0x5a);
        }],
    },
    Case {
        line: "patch f -o 0 @g",
        steps: &[|bytes| bytes[..3].copy_from_slice(b"ggg")],
    },
    Case {
        line: "patch f -e 'end-4: -> crc32le:..end-4' --quiet",
        steps: &[|bytes| {
            let sum = crc32fast::hash(&bytes[..LEN - 4]);
            bytes[LEN - 4..].copy_from_slice(&sum.to_le_bytes());
        }],
    },
    Case {
        line: "zero f -r 4K..12K",
        steps: &[ZEROS],
    },
    Case {
        line: "zero f -r 4K..12K --punch --sync",
        steps: &[ZEROS],
    },
    Case {
        line: "zero f -r 4K..12K --method write --json",
        steps: &[ZEROS],
    },
    Case {
        line: "zero f -r .. --sparsify",
        steps: &[],
    },
    Case {
        line: "remap f --size 30000",
        steps: &[|bytes| bytes.resize(30_000, 0)],
    },
    Case {
        line: "remap f --size -9000",
        steps: &[|bytes| bytes.truncate(11_000)],
    },
    Case {
        line: "remap f --size 30000 --sparse --json",
        steps: &[|bytes| bytes.resize(30_000, 0)],
    },
    Case {
        line: "map f -c 'patch -o 5000 text:HELLO' -c 'zero -r 4K..12K' -c 'sync'",
        steps: &[HELLO, ZEROS],
    },
    Case {
        line: "map f -c 'fork patch -o 5000 text:HELLO --sync' -c '! true' -c 'remap --size 30000'",
        steps: &[HELLO, |bytes| bytes.resize(30_000, 0)],
    },
];

/// Those that leave every file alone.
const READERS: &[&str] = &[
    "cat f",
    "cat f -x",
    "cat f -f canonical",
    "cat f -f u32le --json",
    "map f",
    "map f --populate --json",
    "map f g",
    "map -R .",
    "map --anonymous -n 1M --populate",
    "map --memfd -n 64K -c 'patch -o 0 text:hi' -c cat",
    "map f --private -c 'patch -o 0 text:hi'",
    "patch f --diff g2",
    "patch f -o 0 dead --dry-run",
    "sync f",
    "sync f g --json",
    "remap f --order reverse",
    "remap f --order reverse --to out",
    "remap f --order reverse --to -",
    "zero f -r .. --sparsify --dry-run",
];

/// Calls that begin or end a process, that glibc makes before `main`, or that wake threads, which would then sleep for
/// ever: errors of these are not the program's.
const NOT_OURS: &str =
    "futex execve exit exit_group arch_prctl set_tid_address set_robust_list rseq rt_sigreturn mprotect brk";

const ERRORS: &str = "EIO ENOSPC ENOMEM EINTR EINVAL EPERM EACCES EAGAIN ENOSYS EOPNOTSUPP EFAULT EMFILE EDQUOT";

fn count(few: u64) -> u64 {
    let wish = std::env::var("MMAPCTL_FAULTS").ok();
    wish.and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Numbers that are equal in each run, unless `MMAPCTL_FAULTS` asks for others.
fn chance() -> Chance {
    match std::env::var_os("MMAPCTL_FAULTS") {
        Some(_) => Chance::new(),
        None => Chance::seeded(0x6d6d_6170),
    }
}

fn pick<'a>(chance: &mut Chance, words: &'a str) -> &'a str {
    let words: Vec<&str> = words.split_ascii_whitespace().collect();
    words[chance.below(words.len() as u64) as usize]
}

/// The files that the command lines name.
fn prepare(dir: &Sandbox) -> Vec<u8> {
    let old = noise(LEN);
    dir.file("f", &old);
    dir.file("g", b"ggg");
    dir.file("g2", [old[..100].to_vec(), vec![7; LEN - 100]].concat());
    dir.file("s", b"# mmapctl-patch 1\n10: -> 01\n9000: -> 02\n19999: -> 03\n");
    old
}

/// All states that the file may be in: after none of the steps, after the first, and so on.
fn states(old: &[u8], steps: &[fn(&mut Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut states = vec![old.to_vec()];
    for step in steps {
        let mut bytes = states[states.len() - 1].clone();
        step(&mut bytes);
        states.push(bytes);
    }
    states
}

/// Checks the exit code against the bytes of the file.
fn agree(dir: &Sandbox, what: &str, exit: i32, text: &str, states: &[Vec<u8>]) {
    let mut now = dir.read("f");
    let journal = dir.join(".f.mmapctl-undo");
    if let Ok(left) = fs::read(&journal) {
        // One that has served undoes nothing.
        assert!(
            exit == 4 || exit > 128 || left.starts_with(b"MMAPDONE"),
            "{what}: exit {exit}, and a journal is left: {text}"
        );
        let recovery = dir.run("patch f --script /dev/null --quiet");
        assert!(recovery.ends_with("exit 0"), "{what}: recovery: {recovery}");
        now = dir.read("f");
    }
    let (first, last) = (&states[0], &states[states.len() - 1]);
    let known = states.contains(&now);
    match exit {
        0 => assert!(now == *last, "{what}: exit 0 without the new bytes: {text}"),
        1 | 2 if states.len() <= 2 => assert!(now == *first, "{what}: exit {exit} without the old bytes: {text}"),
        3 if states.len() <= 2 => assert!(now == *last, "{what}: exit 3 without the new bytes: {text}"),
        1..=3 => assert!(known, "{what}: exit {exit} between two states: {text}"),
        4 if journal_was_named(text) => assert!(known, "{what}: exit 4, recovered to neither: {text}"),
        4 => assert!(text.contains("in doubt"), "{what}: exit 4 without a word of doubt: {text}"),
        // A command's own, which may meet the fault as well.
        5..=127 if what.contains('!') => assert!(known, "{what}: between two states: {text}"),
        128.. => assert!(known, "{what}: died between two states: {text}"),
        other => panic!("{what}: exit code {other}: {text}"),
    }
    assert!(known || exit == 4, "{what}: {exit}");
    if dir.join("u").exists() && now == *last && exit != 4 {
        let undone = dir.run("patch f --script u --quiet");
        assert!(undone.ends_with("exit 0"), "{what}: undo: {undone}");
        assert!(dir.read("f") == *first, "{what}: the undo script");
    }
    if let Ok(out) = fs::read(dir.join("out")) {
        // A view is whole pages.
        assert_eq!(out.len(), LEN.next_multiple_of(4096), "{what}: a part of an output under its name: {text}");
    }
}

fn journal_was_named(text: &str) -> bool {
    text.contains(".mmapctl-undo")
}

/// How many times `line` makes each system call, in the process that it is run as.
fn calls(line: &str) -> BTreeMap<String, u64> {
    let dir = Sandbox::new();
    prepare(&dir);
    strace(&dir, &["-o", "log"], line).code(0);
    let log = fs::read_to_string(dir.join("log")).unwrap();
    let ours = log.split(' ').next().unwrap_or_default();
    let mut calls = BTreeMap::new();
    for call in log.lines().filter_map(|line| line.strip_prefix(ours)) {
        let name = call.trim_start().split('(').next().unwrap_or_default();
        let is_call =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if is_call && !NOT_OURS.split(' ').any(|not| not == name) {
            *calls.entry(name.to_string()).or_insert(0) += 1;
        }
    }
    assert!(calls.len() > 5, "{line}: {log}");
    calls
}

fn strace(dir: &Sandbox, options: &[&str], line: &str) -> Outcome {
    dir.program("strace", &["-f", "-qq"])
        .args(options)
        .arg(BINARY)
        .args(shell_words::split(line).unwrap())
        .outcome()
}

#[test]
fn whatever_call_fails_the_exit_code_agrees_with_the_bytes() {
    needs!(strace_works());
    let mut chance = chance();
    let mut known = BTreeMap::new();
    for _ in 0..count(80) {
        let dir = Sandbox::new();
        let old = prepare(&dir);
        let which = chance.below((WRITERS.len() + READERS.len()) as u64) as usize;
        let (line, states) = match WRITERS.get(which) {
            Some(case) => (case.line, states(&old, case.steps)),
            None => (READERS[which - WRITERS.len()], vec![old]),
        };
        let calls: &BTreeMap<String, u64> = known.entry(which).or_insert_with(|| calls(line));
        let Some((call, times)) = calls.iter().nth(chance.below(calls.len() as u64) as usize) else {
            continue;
        };
        let error = pick(&mut chance, ERRORS);
        let nth = 1 + chance.below(*times);
        // A call that is always interrupted, or always would block, is tried for ever.
        let plus = match chance.below(3) == 0 && error != "EINTR" && error != "EAGAIN" {
            true => "+",
            false => "",
        };
        let fault = format!("inject={call}:error={error}:when={nth}{plus}");
        let output = strace(&dir, &["-o", "/dev/null", "-e", &fault], line);
        let text = output.stderr();
        let what = format!("{fault}: {line}");
        assert_eq!(output.status.signal(), None, "{what}: {text}");
        agree(&dir, &what, output.exit(), &text, &states);
    }
}

/// Signals that end a process and can be blocked, without those that the kernel sends for a fault of the program itself.
const SIGNALS: [i32; 14] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGKILL,
];

#[test]
fn a_signal_at_any_moment_leaves_the_old_bytes_or_the_new() {
    let mut chance = chance();
    for _ in 0..count(60) {
        let dir = Sandbox::new();
        let old = prepare(&dir);
        let case = &WRITERS[chance.below(WRITERS.len() as u64) as usize];
        let signal = SIGNALS[chance.below(SIGNALS.len() as u64) as usize];
        // Whatever ends it, SIGKILL leaves a plain patch where it was: only --atomic promises more.
        let whole = signal != libc::SIGKILL || case.line.contains("--atomic") || case.steps.is_empty();
        let begin = Instant::now();
        let after = chance.within(Duration::from_millis(12));
        let words = shell_words::split(case.line).unwrap();
        let mut command = dir.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while begin.elapsed() < after {
            std::thread::sleep(Duration::from_micros(100));
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        // It may have ended already.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal).unwrap());
        let output = child.outcome();
        let what = format!("signal {signal} after {after:?}: {}", case.line);
        if whole {
            let died = output.status.signal();
            assert!(died.is_none_or(|died| died == signal), "{what}: died of {died:?}: {}", output.stderr());
            agree(&dir, &what, output.exit(), &output.stderr(), &states(&old, case.steps));
        }
    }
    // A patch that was killed is no hindrance to the next.
    let dir = Sandbox::new();
    prepare(&dir);
    dir.mmapctl(&["patch", "f", "-o", "0", "dead"]).code(0);
}
