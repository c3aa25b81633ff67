//! Faults that any user can cause: files truncated during a verb, signals, two writers at once, and a stopped reader.

use crate::support::strace::*;
use crate::support::*;
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

// ---- truncation ----

/// The length of a file that is cut short.
const LEN: u64 = 3 << 20;

/// A shorter one, for what is slow in a debug build.
const SHORT: u64 = 1 << 20;

/// Where stdout goes.
#[derive(Clone, Copy, PartialEq)]
enum Sink {
    Pipe,
    Null,
}

/// Runs mmapctl many times on a file "f" of `len` bytes while a thread cuts it short and sets its length back,
/// at random moments; `args` has the round's number. Each outcome is checked for what every verb promises, and then by
/// `judge`, with the file's bytes as they were before and after. The old bytes are all below 0x80.
fn race(len: u64, sink: Sink, args: impl Fn(u32) -> String, judge: impl Fn(u32, &Outcome, &[u8], &[u8])) {
    let dir = Sandbox::new();
    let old: Vec<u8> = noise(len as usize).iter().map(|byte| byte & 0x7f).collect();
    let path = dir.file("f", &old);
    let truncated = writer(&path);
    let once = |round| {
        let line = args(round);
        let mut command = dir.command(&words(&line));
        command.stderr(Stdio::piped());
        command.stdout(if sink == Sink::Pipe {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.spawn().expect("mmapctl starts")
    };
    // How long it takes undisturbed, so that the moments fall inside.
    let begin = Instant::now();
    once(0).outcome().code(0);
    let usual = begin.elapsed();

    let mut chance = Chance::new();
    let mut cut_short = 0;
    for round in 1..=races() {
        truncated.write_all_at(&old, 0).unwrap();
        let child = once(round);
        let moments: Vec<_> = (0..=chance.below(3))
            .map(|_| {
                let stays = if chance.below(2) == 0 {
                    Duration::ZERO
                } else {
                    usual / 2
                };
                (chance.within(usual), chance.below(LEN), chance.within(stays))
            })
            .collect();
        let ended = AtomicBool::new(false);
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                for (pause, cut, stays) in moments {
                    std::thread::sleep(pause);
                    truncated.set_len(cut).unwrap();
                    if !stays.is_zero() {
                        std::thread::sleep(stays);
                    }
                    truncated.set_len(len).unwrap();
                    // Now and then without a pause, so that the length is back before anybody looks.
                    while round.is_multiple_of(8) && !ended.load(Relaxed) {
                        truncated.set_len(cut).unwrap();
                        truncated.set_len(len).unwrap();
                    }
                }
            });
            let output = child.outcome();
            ended.store(true, Relaxed);
            output
        });
        let text = output.stderr();
        match output.exit() {
            0 => {}
            2 => {
                cut_short += 1;
                // Short already when it was opened, or cut short afterwards.
                let known = text.contains("the file ends at 0x")
                    || text.contains("lies past the end")
                    || text.contains("it is empty")
                    || text.contains("not a whole number of units")
                    || text.contains("0x") && text.contains("truncated");
                assert!(known, "round {round}: neither the offset nor truncation in: {text}");
            }
            // What was stored unread cannot be put back.
            4 if args(round).contains("--access") => {
                cut_short += 1;
                assert!(text.contains("stores were made") && text.contains("truncated"), "round {round}: {text}");
            }
            other => panic!("round {round}: exit code or signal {other}: {text}"),
        }
        judge(round, &output, &old, &read(&path));
    }
    // A flush of truncated pages succeeds.
    if cut_short == 0 && !args(0).starts_with("sync") {
        skip("no truncation came in time to matter");
    }
}

/// Whether each byte is the old one, or a zero where the file was cut.
fn are_old_or_cut(bytes: &[u8], old: &[u8]) -> bool {
    bytes.iter().zip(old).all(|(byte, old)| byte == old || *byte == 0)
}

#[test]
fn a_truncation_during_a_raw_cat_to_a_pipe_is_no_signal() {
    race(
        LEN,
        Sink::Pipe,
        |_| "cat f".into(),
        |round, output, old, _| {
            assert!(are_old_or_cut(&output.stdout, old), "round {round}: other bytes");
        },
    );
}

#[test]
fn a_truncation_during_a_raw_cat_to_dev_null_is_no_signal() {
    race(LEN, Sink::Null, |_| "cat f".into(), |_, _, _, _| {});
}

#[test]
fn a_truncation_during_register_loads_is_no_signal() {
    let args = |round| format!("cat f --access {}", 1 << (round % 4));
    race(SHORT, Sink::Pipe, args, |round, output, old, _| {
        assert!(are_old_or_cut(&output.stdout, old), "round {round}: other bytes");
    });
}

#[test]
fn a_truncation_during_register_stores_is_no_signal() {
    let args = |round| format!("patch f -o 0 fill:aa:{SHORT} --access {}", 1 << (round % 4));
    race(SHORT, Sink::Pipe, args, |round, _, old, new| {
        let known = new.iter().zip(old).all(|(new, old)| [0xaa, *old, 0].contains(new));
        assert!(known, "round {round}: bytes of no known origin");
    });
}

#[test]
fn a_file_cut_short_during_a_dump_is_an_error_and_no_signal() {
    let formats = ["canonical", "hex", "plain"];
    let args = |round| format!("cat f -f {}", formats[round as usize % 3]);
    race(SHORT, Sink::Pipe, args, |_, _, _, _| {});
}

#[test]
fn a_truncation_during_a_patch_rolls_back_what_exists() {
    let fill = |round: u32| 0x80 | round as u8;
    let args = |round| format!("patch f -o 64K fill:{:02x}:2M", fill(round));
    race(LEN, Sink::Null, args, |round, output, old, now| {
        let (before, rest) = now.split_at(64 << 10);
        let (range, after) = rest.split_at(2 << 20);
        let outside = are_old_or_cut(before, old) && are_old_or_cut(after, &old[(64 << 10) + (2 << 20)..]);
        assert!(outside, "round {round}: bytes outside the patch are others");
        if output.status.success() {
            let new = range.iter().all(|byte| *byte == fill(round) || *byte == 0);
            assert!(new, "round {round}: exit 0, and old bytes are left");
        } else {
            let back = are_old_or_cut(range, &old[64 << 10..]);
            assert!(back, "round {round}: exit 2, and new bytes are left");
        }
    });
}

#[test]
fn a_truncation_while_zeroing_is_no_signal() {
    let args = |_| "zero f --range ..2M --method write".to_string();
    race(LEN, Sink::Null, args, |round, output, _, now| {
        let zeroed = now[..2 << 20].iter().all(|byte| *byte == 0);
        let short_at_open = output.stderr().contains("ends at");
        assert!(zeroed || output.exit() == 2 || short_at_open, "round {round}: exit 0 without zeros");
    });
}

#[test]
fn a_file_cut_short_during_sync_is_no_signal() {
    race(LEN, Sink::Null, |_| "sync f".into(), |_, _, _, _| {});
}

#[test]
fn a_truncation_while_populating_is_no_signal() {
    let args = |round: u32| {
        // An ordinary user may not lock as much everywhere.
        let lock = if is_root() && round.is_multiple_of(2) {
            " --lock"
        } else {
            ""
        };
        format!("map f --populate{lock}")
    };
    race(LEN, Sink::Null, args, |_, _, _, _| {});
}

/// Runs a `cat` whose stdout nobody reads at first, cuts the file to `len` once the pipe is full, and reads on.
fn cut_while_it_waits(dir: &Sandbox, line: &str, len: u64) -> Outcome {
    let mut child = dir.command(&words(line)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let mut stdout = vec![0; 1];
    pipe.read_exact(&mut stdout).unwrap();
    assert!(eventually(|| sleeps(child.id())), "it never waits for its reader");
    let path = dir.join("f");
    writer(&path).set_len(len).unwrap();
    pipe.read_to_end(&mut stdout).unwrap();
    let mut outcome = child.outcome();
    outcome.stdout = stdout;
    outcome
}

#[test]
fn a_raw_cat_of_a_file_cut_short_ends_at_the_cut_and_names_it() {
    let dir = Sandbox::new();
    dir.file("f", noise(4 << 20));
    let output = cut_while_it_waits(&dir, "cat f", 1 << 20);
    output.code(2);
    assert!(output.stdout.len() <= 1 << 20, "{} bytes", output.stdout.len());
    output.stderr_has("0x100000").stderr_has("truncated");
}

#[test]
fn a_raw_cat_to_dev_null_which_never_looks_notices_the_cut() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 64 << 30);
    // The first of thousands of windows, for each goes by in microseconds.
    dir.watched(Some("exec >/dev/null"), "cat f", "mmap(", 1, |_| writer(&path).set_len(4096).unwrap())
        .code(2)
        .stderr_has("truncated")
        .stderr_has("0x1000");
}

#[test]
fn a_dump_never_shows_what_was_cut_off_as_a_hole() {
    let dir = Sandbox::new();
    // Data, a hole, data; cut off after the first data.
    let path = dir.sparse("f", 3 << 20);
    let writer = writer(&path);
    writer.write_all_at(&noise(1 << 20), 0).unwrap();
    writer.write_all_at(&noise(1 << 20), 2 << 20).unwrap();
    let output = cut_while_it_waits(&dir, "cat f -x", 1 << 20);
    let end = String::from_utf8_lossy(&output.stdout[output.stdout.len().saturating_sub(200)..]).into_owned();
    assert_eq!(output.exit(), 2, "stdout ends with:\n{end}");
    output.stderr_has("truncated");
}

// ---- signals ----

/// Bytes of a patch over four windows, which a debug build takes half a second for.
const LARGE: u64 = 25 << 20;

/// What a file of zeros holds after a patch.
#[derive(Debug, PartialEq)]
enum Whole {
    Old,
    New,
    Mixed,
}

fn whole(path: &Path, from: u64, new: u8) -> Whole {
    let bytes = read(path);
    let range = &bytes[from as usize..(from + LARGE) as usize];
    let outside = bytes[..from as usize].iter().chain(&bytes[(from + LARGE) as usize..]);
    let untouched = outside.clone().all(|byte| *byte == 0x11);
    // As slices, which is many times faster than byte by byte in a debug build.
    if untouched && range == vec![0x11; range.len()] {
        Whole::Old
    } else if untouched && range == vec![new; range.len()] {
        Whole::New
    } else {
        Whole::Mixed
    }
}

/// Interrupts `line` at its `nth` store, of four, and expects all or nothing. On a busy machine the signal may come too
/// late, and everything is new. Returns whether it came in time.
fn interrupted_at(line: &str, nth: usize, signal: Signal, new: u8) -> bool {
    let dir = Sandbox::new();
    let path = dir.file("f", vec![0x11; LARGE as usize + 8192]);
    let output = dir.watched(None, line, "preadv(", nth, |pid| send(pid, signal));
    let state = whole(&path, 4096, new);
    if output.status.signal() == Some(signal as i32) {
        let text = output.stderr();
        assert_eq!(state, Whole::Old, "{line}: died of {signal}: {text}");
        output.stderr_has("put back").stderr_has(signal.as_str());
        true
    } else {
        assert_eq!((output.exit(), state), (0, Whole::New), "{line}: {}", output.stderr());
        false
    }
}

#[test]
fn an_interrupted_patch_rolls_back_and_dies_of_the_signal() {
    let line = format!("patch f -o 4096 fill:77:{LARGE}");
    for (nth, signal) in [
        (1, Signal::SIGINT),
        (1, Signal::SIGTERM),
        (2, Signal::SIGHUP),
        (1, Signal::SIGQUIT),
    ] {
        let in_time = eventually(|| interrupted_at(&line, nth, signal, 0x77));
        assert!(in_time, "every {signal} came too late");
    }
}

#[test]
fn interrupted_zeroing_rolls_back_and_dies_of_the_signal() {
    let line = format!("zero f -o 4096 -n {LARGE} --method write");
    for (nth, signal) in [(1, Signal::SIGINT), (2, Signal::SIGTERM)] {
        let in_time = eventually(|| interrupted_at(&line, nth, signal, 0));
        assert!(in_time, "every {signal} came too late");
    }
}

#[test]
fn interrupted_long_zeroing_is_in_doubt_and_says_how_far() {
    let dir = Sandbox::new();
    let path = dir.file("f", vec![0x11; 200 << 20]);
    let line = "zero f --range 4096.. --method write";
    // Written under a lease, and, while somebody else has the file open, stored.
    for shared in [false, true] {
        fs::write(&path, vec![0x11; 200 << 20]).unwrap();
        let other = shared.then(|| fs::File::open(&path).unwrap());
        // pwrite64 or preadv.
        let output = dir.watched(None, line, "p", 2, |pid| send(pid, Signal::SIGINT));
        drop(other);
        let (text, bytes) = (output.stderr(), read(&path));
        if output.exit() == 0 {
            skip("the signal came too late");
            continue;
        }
        assert_eq!(output.exit(), 4, "{text}");
        assert!(text.contains("in doubt: 0x1000..") && text.contains("run the same command again"), "{text}");
        let end = text
            .split("0x1000..0x")
            .nth(1)
            .and_then(|rest| usize::from_str_radix(rest.split(' ').next()?, 16).ok())
            .expect("how far it came");
        assert!(bytes[end..].iter().all(|byte| *byte == 0x11), "zeros behind {end:#x}: {text}");
        assert!(bytes[..4096].iter().all(|byte| *byte == 0x11));
        dir.mmapctl(&words(line)).code(0);
        assert!(read(&path)[4096..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_signal_at_any_moment_leaves_the_file_old_or_new() {
    let dir = Sandbox::new();
    let line = format!("patch f -o 4096 fill:77:{LARGE}");
    let path = dir.file("f", vec![0x11; LARGE as usize + 8192]);
    let begin = Instant::now();
    dir.mmapctl(&words(&line)).code(0);
    let usual = begin.elapsed();
    use Signal::{SIGALRM, SIGINT, SIGTERM, SIGUSR1, SIGXCPU};
    let kinds = [SIGINT, SIGTERM, SIGXCPU, SIGALRM, SIGUSR1];
    let mut chance = Chance::new();
    for round in 0..races() / 16 {
        fs::write(&path, vec![0x11; LARGE as usize + 8192]).unwrap();
        let mut command = dir.command(&words(&line));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(chance.within(usual));
        let signal = kinds[round as usize % kinds.len()];
        send(child.id() as i32, signal);
        let output = child.outcome();
        let expected = if output.status.success() {
            Whole::New
        } else {
            Whole::Old
        };
        assert_eq!(whole(&path, 4096, 0x77), expected, "{}", output.stderr());
        if expected == Whole::Old {
            output.signal(signal as i32);
        }
    }
}

#[test]
fn a_checksum_of_very_much_can_be_interrupted() {
    let dir = Sandbox::new();
    // Minutes of summing: holes would take no time.
    let old = vec![0x11; 9 << 20];
    let path = dir.file("f", &old);
    let sum = |index: u64| format!("{:#x}: -> crc32le:0..8M\n", (8 << 20) + 4 * index);
    dir.file("s", (0..200_000).map(sum).collect::<String>());
    let line = words("patch f --script s");
    let mut child = dir.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    send(child.id() as i32, Signal::SIGINT);
    eventually(|| child.try_wait().unwrap().is_some());
    // Of one that sums on, which would take minutes.
    send(child.id() as i32, Signal::SIGKILL);
    child.outcome().signal(Signal::SIGINT as i32);
    assert!(read(&path) == old);
}

#[test]
fn a_signal_that_the_caller_ignores_is_ignored() {
    let line = format!("patch f -o 4096 fill:77:{LARGE}");
    for (trap, signal) in [("trap '' INT", Signal::SIGINT), ("trap '' HUP", Signal::SIGHUP)] {
        let dir = Sandbox::new();
        let path = dir.file("f", vec![0x11; LARGE as usize + 8192]);
        dir.watched(Some(trap), &line, "preadv(", 1, |pid| send(pid, signal)).code(0);
        assert_eq!(whole(&path, 4096, 0x77), Whole::New);
    }
}

#[test]
fn waiting_for_a_lock_can_be_interrupted() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"old");
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    let mut command = dir.command(&words("patch f -o 0 6e6577 --lock-timeout 180s"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    send(child.id() as i32, Signal::SIGINT);
    child.outcome().signal(Signal::SIGINT as i32);
    assert_eq!(read(&path), b"old");
}

// ---- two writers ----

#[test]
fn two_patches_at_once_never_leave_a_mixture() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 10 << 20);
    // Over the edge of a window, so that each stores twice.
    let (at, len) = ((8 << 20) - (64 << 10), 128 << 10);
    for round in 1..=2 * races() {
        let pair = [round as u8 & 0x7f, round as u8 | 0x80]
            .map(|byte| (byte, format!("patch f -o {at} fill:{byte:02x}:{len}")));
        let children = pair.each_ref().map(|(_, line)| {
            let mut command = dir.command(&words(line));
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for child in children {
            child.outcome().code(0);
        }
        let mut range = vec![0; len];
        File::open(&path).unwrap().read_exact_at(&mut range, at).unwrap();
        let uniform = pair.iter().any(|(byte, _)| range == vec![*byte; len]);
        let ends = (range[0], range[range.len() - 1]);
        assert!(uniform, "round {round}: a mixture that begins and ends with {ends:02x?}");
    }
}

#[test]
fn a_patch_in_the_midst_of_its_stores_keeps_others_out() {
    let dir = Sandbox::new();
    let path = dir.file("f", vec![0x11; LARGE as usize + 8192]);
    let line = format!("patch f -o 4096 fill:77:{LARGE}");
    let mut second = None;
    let first = dir.watched(None, &line, "preadv(", 1, |pid| {
        send(pid, Signal::SIGSTOP);
        let line = format!("patch f -o 4096 fill:66:{LARGE} --lock-timeout 200ms");
        second = Some(dir.mmapctl(&words(&line)));
        send(pid, Signal::SIGCONT);
    });
    let second = second.unwrap();
    first.code(0);
    if second.status.success() {
        // The first was through before it was stopped.
        assert_eq!(whole(&path, 4096, 0x66), Whole::New, "a mixture");
    } else {
        assert_eq!(second.exit(), 2);
        assert!(second.stderr().contains("lock"), "{}", second.stderr());
        assert_eq!(whole(&path, 4096, 0x77), Whole::New, "a mixture");
    }
}

// ---- readers that stop ----

#[test]
fn a_dump_ends_when_its_reader_does() {
    let dir = Sandbox::new();
    // All of it would take minutes.
    dir.sparse("f", 1 << 40);
    for line in [
        "cat f -f plain",
        "cat f -f canonical --no-squeeze",
        "cat f --json",
        "cat f",
    ] {
        let mut command = dir.command(&words(line));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut [0; 16]).unwrap();
        drop(pipe);
        let ended = eventually(|| child.try_wait().unwrap().is_some());
        let _ = child.kill();
        let output = child.outcome();
        assert!(ended, "{line}: it goes on after its reader has gone");
        assert_eq!((output.exit(), output.stderr().as_str()), (0, ""), "{line}");
    }
}

#[test]
fn a_full_output_is_trouble_and_says_so() {
    let dir = Sandbox::new();
    dir.file("f", noise(1 << 20));
    for line in ["cat f", "cat f -f canonical", "sync f", "map f"] {
        dir.mmapctl_into_full(&words(line)).code(2).stderr_has("ENOSPC");
    }
    dir.mmapctl_into_full(&words("patch f -o 0 dead")).code(3);
    assert_eq!(dir.read("f")[..2], [0xde, 0xad]);
    dir.run("-q patch f -o 0 beef").is("exit 0");
}
