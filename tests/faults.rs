//! Faults that any user can bring about: files cut short under way, signals, two writers at once, and a reader
//! that stops.

use crate::support;
use crate::support::faults::{Chance, code, races, send, stderr, watched, words};
use crate::support::{
    allocated, eventually, file, into_full, is_root, noise, run, scratch, skip, sleeps, sparse, spawnable,
};
use nix::sys::signal::Signal;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};
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

/// Runs mmapctl time and again on a file "f" of `len` bytes while a thread cuts it short and sets its length back,
/// at random moments; `args` has the round's number. Each outcome is judged for what all have to keep, and then by
/// `judge`, with the file's bytes as they were before and after. The old bytes are all below 0x80.
fn race(test: &str, len: u64, sink: Sink, args: impl Fn(u32) -> String, judge: impl Fn(u32, &Output, &[u8], &[u8])) {
    let dir = scratch();
    let old: Vec<u8> = noise(len as usize).iter().map(|byte| byte & 0x7f).collect();
    let path = file(dir.path(), "f", &old);
    let truncated = OpenOptions::new().write(true).open(&path).unwrap();
    let once = |round| {
        let line = args(round);
        let mut command = spawnable(dir.path(), &words(&line));
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
    assert!(once(0).wait_with_output().unwrap().status.success());
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
            let output = child.wait_with_output().unwrap();
            ended.store(true, Relaxed);
            output
        });
        let told = stderr(&output);
        match code(&output) {
            0 => {}
            2 => {
                cut_short += 1;
                // Short already when it was opened, or cut short afterwards.
                let known = told.contains("the file ends at 0x")
                    || told.contains("lies past the end")
                    || told.contains("it is empty")
                    || told.contains("no whole number of units")
                    || told.contains("0x") && told.contains("truncated");
                assert!(known, "round {round}: neither the offset nor truncation in: {told}");
            }
            // What was stored unread cannot be put back.
            4 if args(round).contains("--access") => {
                cut_short += 1;
                assert!(
                    told.contains("stores were made") && told.contains("truncated"),
                    "round {round}: {told}"
                );
            }
            other => panic!("round {round}: exit code or signal {other}: {told}"),
        }
        judge(round, &output, &old, &fs::read(&path).unwrap());
    }
    // A flush of what is gone succeeds.
    if cut_short == 0 && !args(0).starts_with("sync") {
        skip(test, "no truncation came in time to matter");
    }
}

/// Each byte is what it was, or a zero where the file was cut.
fn are_old_or_cut(bytes: &[u8], old: &[u8]) -> bool {
    bytes.iter().zip(old).all(|(byte, old)| byte == old || *byte == 0)
}

#[test]
fn a_file_cut_short_during_a_raw_cat_to_a_pipe_is_an_error_and_no_signal() {
    let test = "a_file_cut_short_during_a_raw_cat_to_a_pipe_is_an_error_and_no_signal";
    race(
        test,
        LEN,
        Sink::Pipe,
        |_| "cat f".into(),
        |round, output, old, _| {
            assert!(are_old_or_cut(&output.stdout, old), "round {round}: other bytes");
        },
    );
}

#[test]
fn a_file_cut_short_during_a_raw_cat_to_dev_null_is_no_signal() {
    let test = "a_file_cut_short_during_a_raw_cat_to_dev_null_is_no_signal";
    race(test, LEN, Sink::Null, |_| "cat f".into(), |_, _, _, _| {});
}

#[test]
fn a_file_cut_short_during_loads_of_registers_is_an_error_and_no_signal() {
    let test = "a_file_cut_short_during_loads_of_registers_is_an_error_and_no_signal";
    let args = |round| format!("cat f --access {}", 1 << (round % 4));
    race(test, SHORT, Sink::Pipe, args, |round, output, old, _| {
        assert!(are_old_or_cut(&output.stdout, old), "round {round}: other bytes");
    });
}

#[test]
fn a_file_cut_short_during_stores_into_registers_is_an_error_and_no_signal() {
    let test = "a_file_cut_short_during_stores_into_registers_is_an_error_and_no_signal";
    let args = |round| format!("patch f -o 0 fill:aa:{SHORT} --access {}", 1 << (round % 4));
    race(test, SHORT, Sink::Pipe, args, |round, _, old, new| {
        let known = new.iter().zip(old).all(|(new, old)| [0xaa, *old, 0].contains(new));
        assert!(known, "round {round}: bytes of no known origin");
    });
}

#[test]
fn a_file_cut_short_during_a_dump_is_an_error_and_no_signal() {
    let test = "a_file_cut_short_during_a_dump_is_an_error_and_no_signal";
    let formats = ["canonical", "hex", "plain"];
    let args = |round| format!("cat f -f {}", formats[round as usize % 3]);
    race(test, SHORT, Sink::Pipe, args, |_, _, _, _| {});
}

#[test]
fn a_file_cut_short_during_a_patch_is_put_back_as_far_as_it_exists() {
    let test = "a_file_cut_short_during_a_patch_is_put_back_as_far_as_it_exists";
    let fill = |round: u32| 0x80 | round as u8;
    let args = |round| format!("patch f -o 64K fill:{:02x}:2M", fill(round));
    race(test, LEN, Sink::Null, args, |round, output, old, now| {
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
fn a_file_cut_short_while_zeros_are_written_is_an_error_and_no_signal() {
    let test = "a_file_cut_short_while_zeros_are_written_is_an_error_and_no_signal";
    let args = |_| "zero f --range ..2M --method write".to_string();
    race(test, LEN, Sink::Null, args, |round, output, _, now| {
        let zeroed = now[..2 << 20].iter().all(|byte| *byte == 0);
        let short_at_open = stderr(output).contains("ends at");
        assert!(
            zeroed || code(output) == 2 || short_at_open,
            "round {round}: exit 0 without zeros"
        );
    });
}

#[test]
fn a_file_cut_short_during_sync_is_no_signal() {
    let test = "a_file_cut_short_during_sync_is_no_signal";
    race(test, LEN, Sink::Null, |_| "sync f".into(), |_, _, _, _| {});
}

#[test]
fn a_file_cut_short_while_it_is_mapped_and_populated_is_an_error_and_no_signal() {
    let test = "a_file_cut_short_while_it_is_mapped_and_populated_is_an_error_and_no_signal";
    let args = |round: u32| {
        // An ordinary user may not lock as much everywhere.
        let lock = if is_root() && round.is_multiple_of(2) {
            " --lock"
        } else {
            ""
        };
        format!("map f --populate{lock}")
    };
    race(test, LEN, Sink::Null, args, |_, _, _, _| {});
}

/// Runs a `cat` whose stdout nobody reads at first, cuts the file to `len` once the pipe is full, and reads on.
fn cut_while_it_waits(dir: &Path, line: &str, len: u64) -> Output {
    let mut child = spawnable(dir, &words(line))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let mut stdout = vec![0; 1];
    pipe.read_exact(&mut stdout).unwrap();
    assert!(eventually(|| sleeps(child.id())), "it never waits for its reader");
    let path = dir.join("f");
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
    pipe.read_to_end(&mut stdout).unwrap();
    let output = child.wait_with_output().unwrap();
    Output { stdout, ..output }
}

#[test]
fn a_raw_cat_of_a_file_cut_short_ends_at_the_cut_and_names_it() {
    let dir = scratch();
    file(dir.path(), "f", &noise(4 << 20));
    let output = cut_while_it_waits(dir.path(), "cat f", 1 << 20);
    assert_eq!(code(&output), 2);
    assert!(output.stdout.len() <= 1 << 20, "{} bytes", output.stdout.len());
    let told = stderr(&output);
    assert!(told.contains("0x100000") && told.contains("truncated"), "{told}");
}

#[test]
fn a_raw_cat_to_dev_null_which_never_looks_notices_the_cut() {
    let dir = scratch();
    let path = sparse(dir.path(), "f", 64 << 30);
    // The first of thousands of windows, for each goes by in microseconds.
    let output = watched(dir.path(), Some("exec >/dev/null"), "cat f", "mmap(", 1, |_| {
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4096)
            .unwrap()
    });
    let told = stderr(&output);
    assert_eq!(code(&output), 2, "{told}");
    assert!(told.contains("truncated") && told.contains("0x1000"), "{told}");
}

#[test]
fn a_dump_never_shows_what_was_cut_off_as_a_hole() {
    let dir = scratch();
    // Data, a hole, data; cut off behind the first data.
    let path = sparse(dir.path(), "f", 3 << 20);
    let writer = OpenOptions::new().write(true).open(path).unwrap();
    writer.write_all_at(&noise(1 << 20), 0).unwrap();
    writer.write_all_at(&noise(1 << 20), 2 << 20).unwrap();
    let output = cut_while_it_waits(dir.path(), "cat f -x", 1 << 20);
    let end = String::from_utf8_lossy(&output.stdout[output.stdout.len().saturating_sub(200)..]).into_owned();
    assert_eq!(code(&output), 2, "stdout ends with:\n{end}");
    assert!(stderr(&output).contains("truncated"), "{}", stderr(&output));
}

// ---- signals ----

/// Bytes of a patch over four windows, which a debug build takes half a second for.
const LARGE: u64 = 25 << 20;

/// What a file of zeros, patched or not, turned out to be.
#[derive(Debug, PartialEq)]
enum Whole {
    Old,
    New,
    Mixed,
}

fn whole(path: &Path, from: u64, new: u8) -> Whole {
    let bytes = fs::read(path).unwrap();
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

/// Interrupts `line` at its `nth` store, of four, and demands all or nothing. The signal comes at once, but a
/// busy machine may be late: then everything is new. Gives whether it came in time.
fn interrupted_at(line: &str, nth: usize, signal: Signal, new: u8) -> bool {
    let dir = scratch();
    let path = file(dir.path(), "f", &vec![0x11; LARGE as usize + 8192]);
    let output = watched(dir.path(), None, line, "preadv(", nth, |pid| send(pid, signal));
    let state = whole(&path, 4096, new);
    if output.status.signal() == Some(signal as i32) {
        let told = stderr(&output);
        assert_eq!(state, Whole::Old, "{line}: died of {signal}: {told}");
        assert!(told.contains("put back") && told.contains(signal.as_str()), "{told}");
        true
    } else {
        assert_eq!((code(&output), state), (0, Whole::New), "{line}: {}", stderr(&output));
        false
    }
}

#[test]
fn an_interrupted_patch_puts_everything_back_and_dies_of_the_signal() {
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
fn interrupted_zeroing_puts_everything_back_and_dies_of_the_signal() {
    let line = format!("zero f -o 4096 -n {LARGE} --method write");
    for (nth, signal) in [(1, Signal::SIGINT), (2, Signal::SIGTERM)] {
        let in_time = eventually(|| interrupted_at(&line, nth, signal, 0));
        assert!(in_time, "every {signal} came too late");
    }
}

#[test]
fn interrupted_zeroing_of_more_than_is_kept_is_in_doubt_and_says_how_far_it_came() {
    let test = "interrupted_zeroing_of_more_than_is_kept_is_in_doubt_and_says_how_far_it_came";
    let dir = scratch();
    let path = file(dir.path(), "f", &vec![0x11; 200 << 20]);
    let line = "zero f --range 4096.. --method write";
    // Written under a lease, and, while somebody else has the file open, stored.
    for shared in [false, true] {
        fs::write(&path, vec![0x11; 200 << 20]).unwrap();
        let other = shared.then(|| fs::File::open(&path).unwrap());
        // pwrite64 or preadv.
        let output = watched(dir.path(), None, line, "p", 2, |pid| send(pid, Signal::SIGINT));
        drop(other);
        let (told, bytes) = (stderr(&output), fs::read(&path).unwrap());
        if code(&output) == 0 {
            skip(test, "the signal came too late");
            continue;
        }
        assert_eq!(code(&output), 4, "{told}");
        assert!(
            told.contains("in doubt: 0x1000..") && told.contains("run the same command again"),
            "{told}"
        );
        let end = told
            .split("0x1000..0x")
            .nth(1)
            .and_then(|rest| usize::from_str_radix(rest.split(' ').next()?, 16).ok())
            .expect("how far it came");
        assert!(
            bytes[end..].iter().all(|byte| *byte == 0x11),
            "zeros behind {end:#x}: {told}"
        );
        assert!(bytes[..4096].iter().all(|byte| *byte == 0x11));
        assert_eq!(code(&spawnable(dir.path(), &words(line)).output().unwrap()), 0);
        assert!(fs::read(&path).unwrap()[4096..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_signal_at_any_moment_leaves_the_file_wholly_old_or_wholly_new() {
    let dir = scratch();
    let line = format!("patch f -o 4096 fill:77:{LARGE}");
    let path = file(dir.path(), "f", &vec![0x11; LARGE as usize + 8192]);
    let begin = Instant::now();
    let output = spawnable(dir.path(), &words(&line)).output().unwrap();
    assert_eq!(code(&output), 0, "{}", support::told(&output));
    let usual = begin.elapsed();
    use Signal::{SIGALRM, SIGINT, SIGTERM, SIGUSR1, SIGXCPU};
    let kinds = [SIGINT, SIGTERM, SIGXCPU, SIGALRM, SIGUSR1];
    let mut chance = Chance::new();
    for round in 0..races() / 16 {
        fs::write(&path, vec![0x11; LARGE as usize + 8192]).unwrap();
        let mut command = spawnable(dir.path(), &words(&line));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(chance.within(usual));
        let signal = kinds[round as usize % kinds.len()];
        send(child.id() as i32, signal);
        let output = child.wait_with_output().unwrap();
        let expected = if output.status.success() {
            Whole::New
        } else {
            Whole::Old
        };
        assert_eq!(whole(&path, 4096, 0x77), expected, "{}", stderr(&output));
        if expected == Whole::Old {
            assert_eq!(output.status.signal(), Some(signal as i32), "{}", stderr(&output));
        }
    }
}

#[test]
fn a_checksum_of_very_much_can_be_interrupted() {
    let dir = scratch();
    // Minutes of summing.
    let path = sparse(dir.path(), "f", 1 << 40);
    let line = words("patch f -o end-4 crc32le:0..end-4");
    let mut child = spawnable(dir.path(), &line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    send(child.id() as i32, Signal::SIGINT);
    eventually(|| child.try_wait().unwrap().is_some());
    // Of one that sums on, which would take minutes.
    send(child.id() as i32, Signal::SIGKILL);
    let output = child.wait_with_output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.signal(), Some(Signal::SIGINT as i32), "{told}");
    assert_eq!(allocated(&path), 0);
}

#[test]
fn a_signal_that_the_caller_ignores_is_ignored() {
    let line = format!("patch f -o 4096 fill:77:{LARGE}");
    for (trap, signal) in [("trap '' INT", Signal::SIGINT), ("trap '' HUP", Signal::SIGHUP)] {
        let dir = scratch();
        let path = file(dir.path(), "f", &vec![0x11; LARGE as usize + 8192]);
        let output = watched(dir.path(), Some(trap), &line, "preadv(", 1, |pid| send(pid, signal));
        assert_eq!(code(&output), 0, "{trap}: {}", stderr(&output));
        assert_eq!(whole(&path, 4096, 0x77), Whole::New);
    }
}

#[test]
fn waiting_for_a_lock_can_be_interrupted() {
    let dir = scratch();
    let path = file(dir.path(), "f", b"old");
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    let mut command = spawnable(dir.path(), &words("patch f -o 0 6e6577 --lock-timeout 180s"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    send(child.id() as i32, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.signal(),
        Some(Signal::SIGINT as i32),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

// ---- two writers ----

#[test]
fn two_patches_at_once_never_leave_a_mixture() {
    let dir = scratch();
    let path = sparse(dir.path(), "f", 10 << 20);
    // Over the edge of a window, so that each stores twice.
    let (at, len) = ((8 << 20) - (64 << 10), 128 << 10);
    for round in 1..=2 * races() {
        let pair = [round as u8 & 0x7f, round as u8 | 0x80]
            .map(|byte| (byte, format!("patch f -o {at} fill:{byte:02x}:{len}")));
        let children = pair.each_ref().map(|(_, line)| {
            let mut command = spawnable(dir.path(), &words(line));
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        });
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_eq!(code(&output), 0, "{}", stderr(&output));
        }
        let mut range = vec![0; len];
        File::open(&path).unwrap().read_exact_at(&mut range, at).unwrap();
        let uniform = pair.iter().any(|(byte, _)| range == vec![*byte; len]);
        let ends = (range[0], range[range.len() - 1]);
        assert!(
            uniform,
            "round {round}: a mixture that begins and ends with {ends:02x?}"
        );
    }
}

#[test]
fn a_patch_in_the_midst_of_its_stores_keeps_others_out() {
    let dir = scratch();
    let path = file(dir.path(), "f", &vec![0x11; LARGE as usize + 8192]);
    let line = format!("patch f -o 4096 fill:77:{LARGE}");
    let mut second = None;
    let first = watched(dir.path(), None, &line, "preadv(", 1, |pid| {
        send(pid, Signal::SIGSTOP);
        let line = format!("patch f -o 4096 fill:66:{LARGE} --lock-timeout 200ms");
        second = spawnable(dir.path(), &words(&line)).output().ok();
        send(pid, Signal::SIGCONT);
    });
    let second = second.unwrap();
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    if second.status.success() {
        // The first was through before it was stopped.
        assert_eq!(whole(&path, 4096, 0x66), Whole::New, "a mixture");
    } else {
        assert_eq!(code(&second), 2);
        assert!(stderr(&second).contains("lock"), "{}", stderr(&second));
        assert_eq!(whole(&path, 4096, 0x77), Whole::New, "a mixture");
    }
}

// ---- readers that stop ----

#[test]
fn a_dump_ends_when_its_reader_does() {
    let dir = scratch();
    // All of it would take minutes.
    sparse(dir.path(), "f", 1 << 40);
    for line in [
        "cat f -f plain",
        "cat f -f canonical --no-squeeze",
        "cat f --json",
        "cat f",
    ] {
        let mut command = spawnable(dir.path(), &words(line));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut [0; 16]).unwrap();
        drop(pipe);
        let ended = eventually(|| child.try_wait().unwrap().is_some());
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        assert!(ended, "{line}: it goes on after its reader has gone");
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{line}");
    }
}

#[test]
fn a_full_output_is_trouble_and_says_so() {
    let dir = scratch();
    file(dir.path(), "f", &noise(1 << 20));
    for line in ["cat f", "cat f -f canonical", "sync f", "map f"] {
        let output = into_full(dir.path(), &words(line));
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains("ENOSPC"), "{line}: {}", stderr(&output));
    }
    let output = into_full(dir.path(), &words("patch f -o 0 dead"));
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert_eq!(fs::read(dir.path().join("f")).unwrap()[..2], [0xde, 0xad]);
    assert_eq!(run(dir.path(), "-q patch f -o 0 beef"), "exit 0");
}
