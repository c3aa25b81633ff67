//! Errors that strace injects into single system calls: the exit code and the bytes always agree. And what `-v`
//! prints, held against what strace sees.

use crate::support::strace::*;
use crate::support::*;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// A patch over the edge of a window: every call of a store comes twice.
const AT: usize = (8 << 20) - (64 << 10);
const LEN: usize = 128 << 10;
const SIZE: usize = (8 << 20) + (1 << 20);

/// Runs `line` on a fresh "f" of SIZE bytes 0x11 with an error injected, `file_only` when only calls on that file
/// count, and gives the outcome and the bytes.
fn inject(fault: &str, file_only: bool, line: &str) -> (Outcome, Vec<u8>) {
    let dir = Sandbox::new();
    let path = dir.file("f", vec![0x11; SIZE]);
    let fault = format!("inject={fault}");
    let mut options = vec!["-e", &fault];
    if file_only {
        options.extend(["-P", "f"]);
    }
    let output = dir.straced(&options, line);
    let text = output.stderr();
    assert_eq!(output.status.signal(), None, "{fault}: {line}: {text}");
    assert!(!text.contains("panicked") && output.exit() <= 4, "{fault}: {line}: {}: {text}", output.exit());
    (output, read(path))
}

/// The bytes of the file with AT..AT+LEN filled with `byte`.
fn with(byte: u8) -> Vec<u8> {
    let mut bytes = vec![0x11; SIZE];
    bytes[AT..AT + LEN].fill(byte);
    bytes
}

/// Checks what the exit code promises about the bytes.
fn agree(fault: &str, output: &Outcome, bytes: &[u8], new: u8) {
    let (old, new) = (bytes == with(0x11), bytes == with(new));
    let text = output.stderr();
    match output.exit() {
        0 => assert!(new, "{fault}: exit 0 without the new bytes"),
        1 | 2 => assert!(old, "{fault}: exit {} without the old bytes: {text}", output.exit()),
        3 => assert!(new, "{fault}: exit 3 without the new bytes: {text}"),
        4 => assert!(text.contains("in doubt"), "{fault}: exit 4, and it does not say so: {text}"),
        other => panic!("{fault}: exit code {other}: {text}"),
    }
}

/// Injects `errors` into `calls` (with whether only those on the file are meant): the first time, the second, and
/// each time from there on.
fn inject_all(line: &str, new: u8, calls: &[(&str, bool)], errors: &[&str]) {
    for (call, file_only) in calls {
        let mut hits = 0;
        for error in errors {
            for when in ["1", "2", "1+", "2+"] {
                // Calls that no signal interrupts for good are tried again.
                if *error == "EINTR" && when.ends_with('+') {
                    continue;
                }
                let fault = format!("{call}:error={error}:when={when}");
                let (output, bytes) = inject(&fault, *file_only, line);
                agree(&fault, &output, &bytes, new);
                hits += u32::from(output.exit() != 0);
            }
        }
        assert!(hits > 0, "{line}: no error of {call} has had an effect");
    }
}

const ERRORS: [&str; 4] = ["EIO", "ENOSPC", "EINTR", "ENOMEM"];

/// The calls of a writing verb, and whether those on the file alone are meant.
const CALLS: [(&str, bool); 12] = [
    ("openat", true),
    ("statx,fstat,newfstatat", true),
    ("fstatfs", true),
    ("flock", true),
    ("mmap", true),
    ("madvise", false),
    ("pread64", false),
    ("memfd_create", false),
    ("preadv", false),
    ("msync", false),
    ("signalfd4", false),
    ("fallocate", true),
];

#[test]
fn faults_of_opening_calls_of_a_patch_agree_with_its_code() {
    if strace_works() {
        let line = format!("patch f -o {AT} fill:77:{LEN} --sync");
        inject_all(&line, 0x77, &CALLS[..6], &ERRORS);
    }
}

#[test]
fn faults_of_storing_calls_of_a_patch_agree_with_its_code() {
    if strace_works() {
        let line = format!("patch f -o {AT} fill:77:{LEN} --sync");
        inject_all(&line, 0x77, &CALLS[6..11], &ERRORS);
        let (output, bytes) = inject("msync:error=EINTR:when=1", false, &line);
        assert_eq!((output.exit(), bytes == with(0x77)), (0, true), "an interrupted flush is made again");
    }
}

#[test]
fn faults_of_zero_agree_with_its_code() {
    if strace_works() {
        let line = format!("zero f -o {AT} -n {LEN} --sync --method write");
        inject_all(&line, 0, &CALLS[..11], &["EIO", "EINTR"]);
    }
}

#[test]
fn faults_of_zero_by_fallocate_agree_with_its_code() {
    if strace_works() {
        for method in ["auto", "zero-range"] {
            let line = format!("zero f -o {AT} -n {LEN} --method {method}");
            let mut calls = vec![("statx", true)];
            if method == "zero-range" {
                // auto goes on to writing.
                calls.extend([("pread64", false), ("fallocate", true)]);
            }
            inject_all(&line, 0, &calls, &["EIO", "ENOSPC", "EINTR"]);
        }
    }
}

#[test]
fn a_report_that_cannot_be_made_after_a_change_is_3() {
    needs!(strace_works());
    // The file is looked at when opened, when locked, before the change and after it.
    for line in [
        format!("zero f -o {AT} -n {LEN}"),
        "remap f --size +1M".into(),
        "remap f --size -1M".into(),
    ] {
        let (output, bytes) = inject("statx:error=EIO:when=4", true, &line);
        let changed = bytes != with(0x11);
        let text = output.stderr();
        match output.exit() {
            0 | 3 => assert!(changed, "{line}: exit {} and no change: {text}", output.exit()),
            other => assert!(!changed, "{line}: exit {other} and the file has changed: {text}"),
        }
    }
}

#[test]
fn a_store_that_fails_in_the_second_window_puts_the_first_back() {
    needs!(strace_works());
    for line in [
        format!("patch f -o {AT} fill:77:{LEN}"),
        format!("zero f -o {AT} -n {LEN} --method write"),
    ] {
        for error in ["EIO", "EFAULT", "EINTR"] {
            let (output, bytes) = inject(&format!("preadv:error={error}:when=2"), false, &line);
            output.code(2).stderr_has("put back").stderr_has("0x800000");
            assert!(bytes == with(0x11), "{line}: {error}: not put back");
        }
        // Putting back fails as well.
        let (output, bytes) = inject("preadv:error=EIO:when=2+", false, &line);
        let text = output.stderr();
        output.code(4).stderr_has("in doubt").stderr_has("  tip: ");
        assert!(text.contains(&format!("{AT:#x}..0x800000")), "{line}: which bytes is not said: {text}");
        assert!(bytes != with(0x11));
    }
}

#[test]
fn a_page_that_was_gone_for_a_moment_is_told_as_a_truncation() {
    needs!(strace_works());
    // Cut short and set back before anybody could look: no length, no error of the medium, no lack of room explains it.
    for (call, line) in [
        ("preadv", "patch f -o 0 dead"),
        ("preadv", "zero f -o 0 -n 1 --method write"),
    ] {
        let (output, bytes) = inject(&format!("{call}:error=EFAULT:when=1"), false, line);
        let text = output.stderr();
        assert!(output.exit() == 2 && bytes == with(0x11), "{line}: {text}");
        output.stderr_has("truncated").stderr_has("0x0");
    }
    // What one read does not give, reading page by page may.
    let (output, bytes) = inject("pread64:error=EIO:when=1", false, "cat f -n 64K --json");
    assert!(output.exit() == 0 && bytes == with(0x11), "{}", output.stderr());
    assert!(String::from_utf8_lossy(&output.stdout).contains(&"11".repeat(64 << 10)));
}

#[test]
fn putting_back_needs_nothing_that_could_run_out_by_then() {
    needs!(strace_works());
    // No descriptor, no memory, after the first store.
    let line = format!("patch f -o {AT} fill:77:{LEN}");
    let dir = Sandbox::new();
    let path = dir.file("f", vec![0x11; SIZE]);
    let options = ["preadv:error=EIO:when=2", "memfd_create:error=EMFILE:when=2+"];
    let output = dir.inject(&options, &line);
    agree("memfd_create in putting back", &output, &read(&path), 0x77);
    output.code(2);
    assert!(read(&path) == with(0x11));
}

#[test]
fn a_failing_temporary_file_is_met_before_any_write() {
    needs!(strace_works());
    // More than stays in memory.
    for fault in [
        "pwrite64:error=ENOSPC:when=1",
        "pwrite64:error=EIO:when=2+",
        "pread64:error=EIO:when=1+",
    ] {
        let (output, bytes) = inject(fault, false, "patch f -o 0 fill:77:2M");
        output.code(2);
        assert!(bytes == with(0x11), "{fault}");
    }
}

#[test]
fn where_process_vm_readv_is_refused_another_way_is_found() {
    needs!(strace_works());
    for error in ["EPERM", "ENOSYS"] {
        let fault = format!("process_vm_readv:error={error}:when=1+");
        let (output, _) = inject(&fault, false, "cat f -f plain -n 8");
        assert_eq!((output.exit(), output.stdout.as_slice()), (0, b"1111111111111111\n".as_slice()), "{error}");
        let (output, bytes) = inject(&fault, false, &format!("patch f -o {AT} fill:77:{LEN}"));
        assert!(output.exit() == 0 && bytes == with(0x77), "{error}: {}", output.stderr());
        let (output, bytes) = inject(&fault, false, "patch f -o 0 --expect 12 13");
        assert!(output.exit() == 1 && bytes == with(0x11), "{error}: {}", output.stderr());
    }
}

#[test]
fn without_cachestat_sync_says_unknown_and_map_uses_mincore() {
    needs!(strace_works());
    let tried = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "inject=cachestat:error=ENOSYS", "true"])
        .output();
    let known = tried.is_ok_and(|output| output.status.success());
    if !known {
        skip("this strace does not know cachestat: by way of overlayfs, where that says nothing either");
        needs!(let mount = Mount::overlay());
        mount.sparse("f", 1 << 20);
        says_unknown(&mount.run("sync f"), &mount.run("map f --populate"));
        return;
    }
    let (sync, _) = inject("cachestat:error=ENOSYS:when=1+", false, "sync f");
    let (map, _) = inject("cachestat:error=ENOSYS:when=1+", false, "map f --populate");
    says_unknown(&sync, &map);
}

fn says_unknown(sync: &str, map: &str) {
    assert!(
        sync.contains("durable as far as the kernel knows; dirty before unknown, after unknown")
            && sync.ends_with("exit 0"),
        "{sync}"
    );
    assert!(map.contains("(100 %)") && !map.contains("dirty") && map.ends_with("exit 0"), "{map}");
}

#[test]
fn where_fallocate_is_not_supported_zero_writes_and_says_so() {
    needs!(strace_works());
    let fault = "fallocate:error=EOPNOTSUPP:when=1+";
    let (output, bytes) = inject(fault, false, &format!("zero f -o {AT} -n {LEN}"));
    let text = &output;
    text.code(0).has("zeroed by write");
    assert!(bytes == with(0));
    for method in ["zero-range", "punch"] {
        let (output, bytes) = inject(fault, false, &format!("zero f -o {AT} -n {LEN} --method {method}"));
        output.code(2).stderr_has(method).stderr_has("  tip: ");
        assert!(bytes == with(0x11));
    }
    // Growing does without as well.
    let (output, bytes) = inject(fault, false, "remap f --size +64K");
    assert_eq!((output.exit(), bytes.len()), (0, SIZE + 65536), "{}", output.stderr());
}

#[test]
fn a_failed_fallocate_is_rolled_back_if_short_or_in_doubt() {
    needs!(strace_works());
    for method in ["zero-range", "punch"] {
        let fault = "fallocate:error=EIO:when=1+";
        let (output, bytes) = inject(fault, false, &format!("zero f -o {AT} -n {LEN} --method {method}"));
        output.code(2).stderr_has("put back");
        assert!(bytes == with(0x11), "{method}");
        let (output, _) = inject(fault, false, &format!("zero f -o 4096 -n 8M --method {method}"));
        output.code(4).stderr_has("in doubt").stderr_has("0x1000..0x801000");
    }
}

#[test]
fn a_failed_resize_keeps_the_length_or_is_in_doubt() {
    needs!(strace_works());
    for error in ["EIO", "ENOSPC", "EINTR", "EPERM"] {
        for (call, line) in [
            ("ftruncate:error=EX:when=1", "remap f --size +1M --sparse"),
            ("fallocate:error=EX:when=2", "remap f --size +1M"),
            ("ftruncate:error=EX:when=1", "remap f --size -1M"),
            ("fallocate:error=EX:when=1", "remap f --size +1M"),
        ] {
            let fault = call.replace("EX", error);
            let (output, bytes) = inject(&fault, true, line);
            // std sets a length again when that was interrupted.
            if fault.starts_with("ftruncate:error=EINTR") {
                output.code(0);
                continue;
            }
            let text = output.stderr();
            assert_eq!((output.exit(), bytes.len()), (2, SIZE), "{fault}: {line}: {text}");
            assert!(bytes == with(0x11) && text.contains("length was not changed"), "{fault}: {line}: {text}");
        }
    }
    // The blocks can't be had, and the old length can't be set again.
    let dir = Sandbox::new();
    let path = dir.file("f", [0x11; 4096]);
    let options = ["fallocate:error=ENOSPC:when=1", "ftruncate:error=EIO:when=2"];
    let output = dir.inject(&options, "remap f --size +1M");
    let text = output.stderr();
    let len = fs::metadata(&path).unwrap().len();
    match output.exit() {
        2 => assert_eq!(len, 4096, "exit 2 with another length: {text}"),
        other => assert!(other == 4 && text.contains("in doubt"), "{other}: {text}"),
    }
}

#[test]
fn a_sync_is_3_if_its_flush_fails_and_2_if_it_never_flushes() {
    needs!(strace_works());
    for (fault, file_only, expected) in [
        ("msync:error=EIO:when=1", false, 3),
        ("msync:error=ENOSPC:when=1", false, 3),
        ("msync:error=EBUSY:when=1", false, 2),
        ("msync:error=EINTR:when=1", false, 0),
        ("openat:error=EIO:when=1", true, 2),
        ("mmap:error=EIO:when=1", true, 2),
        ("statx:error=EIO:when=1", true, 2),
    ] {
        let (output, bytes) = inject(fault, file_only, "sync f");
        assert_eq!(output.exit(), expected, "{fault}: {}", output.stderr());
        assert!(bytes == with(0x11));
    }
}

// ---- signals at each call ----

#[test]
fn a_signal_at_any_call_of_a_patch_leaves_all_or_nothing() {
    needs!(strace_works());
    let line = format!("patch f -o {AT} fill:77:{LEN} --sync");
    let calls = [
        "openat",
        "flock",
        "mmap",
        "madvise",
        "process_vm_readv",
        "memfd_create",
        "preadv",
        "msync",
    ];
    let mut put_back = 0;
    for call in calls {
        for when in 1..=2 {
            let dir = Sandbox::new();
            let path = dir.file("f", vec![0x11; SIZE]);
            // `read` is traced along so that the signal is there by the time it is asked for.
            let signal = ["INT", "TERM"][when - 1];
            let options = [
                "-e",
                "trace=all",
                "-e",
                &format!("inject={call}:signal={signal}:when={when}"),
            ];
            let output = dir.straced(&options, &line);
            let bytes = read(path);
            let text = output.stderr();
            match (output.status.signal(), output.exit()) {
                (Some(_), _) => assert!(bytes == with(0x11), "{call} {when}: died, and the bytes are others: {text}"),
                (None, 0) => assert!(bytes == with(0x77), "{call} {when}: exit 0 without the new bytes"),
                (None, other) => panic!("{call} {when}: {other}: {text}"),
            }
            put_back += u32::from(text.contains("put back"));
        }
    }
    assert!(put_back > 0, "a signal at the first store of two has to be heard");
}

#[test]
fn a_window_error_is_reported_if_the_next_cannot_start() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.sparse("f", 300 << 20);
    // The first window is started, the second not, and then the first one has failed.
    let options = ["sync_file_range:error=EINTR:when=2", "sync_file_range:error=EIO:when=3"];
    dir.inject(&options, "sync f -q").code(3);
}

#[test]
fn a_filter_that_interrupts_a_call_for_ever_ends_in_a_message() {
    needs!(strace_works());
    let line = format!("patch f -o {AT} fill:77:{LEN} --sync");
    for (call, want) in [("madvise", 2), ("msync", 3)] {
        let (output, bytes) = inject(&format!("{call}:error=EINTR:when=1+"), false, &line);
        assert_eq!(output.exit(), want, "{call}: {}", output.stderr());
        output.stderr_has("(EINTR)");
        assert_eq!(bytes[AT] == 0x77, want == 3, "{call}");
    }
}
