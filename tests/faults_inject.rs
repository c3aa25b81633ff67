//! Errors that strace injects into single system calls: the exit code and the bytes always agree. And what `-v`
//! prints, held against what strace sees.

use crate::support;
use crate::support::faults::{code, stderr, strace_works, straced};
use crate::support::{Mount, file, run, scratch, skip, sparse};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

/// A patch over the edge of a window: every call of a store comes twice.
const AT: usize = (8 << 20) - (64 << 10);
const LEN: usize = 128 << 10;
const SIZE: usize = (8 << 20) + (1 << 20);

/// Runs `line` on a fresh "f" of SIZE bytes 0x11 with an error injected, `file_only` when only calls on that file
/// count, and gives the outcome and the bytes.
fn inject(fault: &str, file_only: bool, line: &str) -> (Output, Vec<u8>) {
    let dir = scratch();
    let path = file(dir.path(), "f", &vec![0x11; SIZE]);
    let fault = format!("inject={fault}");
    let mut options = vec!["-e", &fault];
    if file_only {
        options.extend(["-P", "f"]);
    }
    let output = straced(dir.path(), &options, line);
    let told = stderr(&output);
    assert_eq!(output.status.signal(), None, "{fault}: {line}: {told}");
    assert!(
        !told.contains("panicked") && code(&output) <= 4,
        "{fault}: {line}: {}: {told}",
        code(&output)
    );
    (output, fs::read(path).unwrap())
}

/// All the bytes with AT..AT+LEN other ones.
fn with(byte: u8) -> Vec<u8> {
    let mut bytes = vec![0x11; SIZE];
    bytes[AT..AT + LEN].fill(byte);
    bytes
}

/// What the exit code promises of the bytes.
fn agree(fault: &str, output: &Output, bytes: &[u8], new: u8) {
    let (old, new) = (bytes == with(0x11), bytes == with(new));
    let told = stderr(output);
    match code(output) {
        0 => assert!(new, "{fault}: exit 0 without the new bytes"),
        1 | 2 => assert!(old, "{fault}: exit {} without the old bytes: {told}", code(output)),
        3 => assert!(new, "{fault}: exit 3 without the new bytes: {told}"),
        4 => assert!(
            told.contains("in doubt"),
            "{fault}: exit 4, and it does not say so: {told}"
        ),
        other => panic!("{fault}: exit code {other}: {told}"),
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
                hits += u32::from(code(&output) != 0);
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
    ("process_vm_readv", false),
    ("memfd_create", false),
    ("preadv", false),
    ("msync", false),
    ("signalfd4", false),
    ("fallocate", true),
];

#[test]
fn whatever_call_of_a_patch_fails_the_exit_code_says_what_became_of_the_file() {
    if strace_works("whatever_call_of_a_patch_fails_the_exit_code_says_what_became_of_the_file") {
        let line = format!("patch f -o {AT} fill:77:{LEN} --sync");
        inject_all(&line, 0x77, &CALLS[..6], &ERRORS);
    }
}

#[test]
fn whatever_later_call_of_a_patch_fails_the_exit_code_says_what_became_of_the_file() {
    if strace_works("whatever_later_call_of_a_patch_fails_the_exit_code_says_what_became_of_the_file") {
        let line = format!("patch f -o {AT} fill:77:{LEN} --sync");
        inject_all(&line, 0x77, &CALLS[6..11], &ERRORS);
        let (output, bytes) = inject("msync:error=EINTR:when=1", false, &line);
        assert_eq!(
            (code(&output), bytes == with(0x77)),
            (0, true),
            "an interrupted flush is made again"
        );
    }
}

#[test]
fn whatever_call_of_zero_fails_the_exit_code_says_what_became_of_the_file() {
    if strace_works("whatever_call_of_zero_fails_the_exit_code_says_what_became_of_the_file") {
        let line = format!("zero f -o {AT} -n {LEN} --sync --method write");
        inject_all(&line, 0, &CALLS[..11], &["EIO", "EINTR"]);
    }
}

#[test]
fn whatever_call_of_zero_by_fallocate_fails_the_exit_code_says_what_became_of_the_file() {
    if strace_works("whatever_call_of_zero_by_fallocate_fails_the_exit_code_says_what_became_of_the_file") {
        for method in ["auto", "zero-range"] {
            let line = format!("zero f -o {AT} -n {LEN} --method {method}");
            let mut calls = vec![("statx", true)];
            if method == "zero-range" {
                // auto goes on to writing.
                calls.extend([("process_vm_readv", false), ("fallocate", true)]);
            }
            inject_all(&line, 0, &calls, &["EIO", "ENOSPC", "EINTR"]);
        }
    }
}

#[test]
fn a_report_that_cannot_be_made_after_a_change_is_3() {
    let test = "a_report_that_cannot_be_made_after_a_change_is_3";
    if !strace_works(test) {
        return;
    }
    // The file is looked at when opened, when locked, before the change and after it.
    for line in [
        format!("zero f -o {AT} -n {LEN}"),
        "remap f --size +1M".into(),
        "remap f --size -1M".into(),
    ] {
        let (output, bytes) = inject("statx:error=EIO:when=4", true, &line);
        let changed = bytes != with(0x11);
        let told = stderr(&output);
        match code(&output) {
            0 | 3 => assert!(changed, "{line}: exit {} and no change: {told}", code(&output)),
            other => assert!(!changed, "{line}: exit {other} and the file has changed: {told}"),
        }
    }
}

#[test]
fn a_store_that_fails_in_the_second_window_puts_the_first_back() {
    let test = "a_store_that_fails_in_the_second_window_puts_the_first_back";
    if !strace_works(test) {
        return;
    }
    for line in [
        format!("patch f -o {AT} fill:77:{LEN}"),
        format!("zero f -o {AT} -n {LEN} --method write"),
    ] {
        for error in ["EIO", "EFAULT", "EINTR"] {
            let (output, bytes) = inject(&format!("preadv:error={error}:when=2"), false, &line);
            let told = stderr(&output);
            assert_eq!(code(&output), 2, "{line}: {error}: {told}");
            assert!(
                told.contains("put back") && told.contains("0x800000"),
                "{line}: {error}: {told}"
            );
            assert!(bytes == with(0x11), "{line}: {error}: not put back");
        }
        // Putting back fails as well.
        let (output, bytes) = inject("preadv:error=EIO:when=2+", false, &line);
        let told = stderr(&output);
        assert_eq!(code(&output), 4, "{line}: {told}");
        assert!(told.contains("in doubt") && told.contains("  tip: "), "{line}: {told}");
        assert!(
            told.contains(&format!("{AT:#x}..0x800000")),
            "{line}: which bytes is not said: {told}"
        );
        assert!(bytes != with(0x11));
    }
}

#[test]
fn a_page_that_was_gone_for_a_moment_is_told_as_a_truncation() {
    let test = "a_page_that_was_gone_for_a_moment_is_told_as_a_truncation";
    if !strace_works(test) {
        return;
    }
    // Cut short and set back before anybody could look: no length, no error of the medium, no lack of room tells.
    for (call, line) in [
        ("preadv", "patch f -o 0 dead"),
        ("preadv", "zero f -o 0 -n 1 --method write"),
    ] {
        let (output, bytes) = inject(&format!("{call}:error=EFAULT:when=1"), false, line);
        let told = stderr(&output);
        assert!(code(&output) == 2 && bytes == with(0x11), "{line}: {told}");
        assert!(told.contains("truncated") && told.contains("0x0"), "{line}: {told}");
    }
    // What the mapping does not give, read(2) may.
    let (output, bytes) = inject("process_vm_readv:error=EFAULT:when=1", false, "cat f -n 64K --json");
    assert!(code(&output) == 0 && bytes == with(0x11), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&"11".repeat(64 << 10)));
}

#[test]
fn putting_back_needs_nothing_that_could_run_out_by_then() {
    let test = "putting_back_needs_nothing_that_could_run_out_by_then";
    if !strace_works(test) {
        return;
    }
    // No descriptor, no memory, after the first store.
    let line = format!("patch f -o {AT} fill:77:{LEN}");
    let dir = scratch();
    let path = file(dir.path(), "f", &vec![0x11; SIZE]);
    let options = [
        "-e",
        "inject=preadv:error=EIO:when=2",
        "-e",
        "inject=memfd_create:error=EMFILE:when=2+",
    ];
    let output = straced(dir.path(), &options, &line);
    let told = stderr(&output);
    agree("memfd_create in putting back", &output, &fs::read(&path).unwrap(), 0x77);
    assert_eq!(code(&output), 2, "{told}");
    assert!(fs::read(&path).unwrap() == with(0x11));
}

#[test]
fn a_temporary_file_that_fails_is_met_before_anything_is_written() {
    let test = "a_temporary_file_that_fails_is_met_before_anything_is_written";
    if !strace_works(test) {
        return;
    }
    // More than stays in memory.
    for fault in [
        "pwrite64:error=ENOSPC:when=1",
        "pwrite64:error=EIO:when=2+",
        "pread64:error=EIO:when=1",
    ] {
        let (output, bytes) = inject(fault, false, "patch f -o 0 fill:77:2M");
        assert_eq!(code(&output), 2, "{fault}: {}", stderr(&output));
        assert!(bytes == with(0x11), "{fault}");
    }
}

#[test]
fn where_process_vm_readv_is_refused_another_way_is_found() {
    let test = "where_process_vm_readv_is_refused_another_way_is_found";
    if !strace_works(test) {
        return;
    }
    for error in ["EPERM", "ENOSYS"] {
        let fault = format!("process_vm_readv:error={error}:when=1+");
        let (output, _) = inject(&fault, false, "cat f -f plain -n 8");
        assert_eq!(
            (code(&output), output.stdout.as_slice()),
            (0, b"1111111111111111\n".as_slice()),
            "{error}"
        );
        let (output, bytes) = inject(&fault, false, &format!("patch f -o {AT} fill:77:{LEN}"));
        assert!(
            code(&output) == 0 && bytes == with(0x77),
            "{error}: {}",
            stderr(&output)
        );
        let (output, bytes) = inject(&fault, false, "patch f -o 0 --expect 12 13");
        assert!(
            code(&output) == 1 && bytes == with(0x11),
            "{error}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn where_the_kernel_has_no_count_of_dirty_pages_sync_says_unknown_and_map_asks_mincore() {
    let test = "where_the_kernel_has_no_count_of_dirty_pages_sync_says_unknown_and_map_asks_mincore";
    if !strace_works(test) {
        return;
    }
    let tried = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "inject=cachestat:error=ENOSYS", "true"])
        .output();
    let known = tried.is_ok_and(|output| output.status.success());
    if !known {
        skip(
            test,
            "this strace does not know cachestat: by way of overlayfs, where that says nothing either",
        );
        let Some(mount) = Mount::overlay(test) else { return };
        sparse(mount.path(), "f", 1 << 20);
        says_unknown(&run(mount.path(), "sync f"), &run(mount.path(), "map f --populate"));
        return;
    }
    let (sync, _) = inject("cachestat:error=ENOSYS:when=1+", false, "sync f");
    let (map, _) = inject("cachestat:error=ENOSYS:when=1+", false, "map f --populate");
    says_unknown(&support::told(&sync), &support::told(&map));
}

fn says_unknown(sync: &str, map: &str) {
    assert!(
        sync.contains("durable as far as the kernel knows; dirty before unknown, after unknown")
            && sync.ends_with("exit 0"),
        "{sync}"
    );
    assert!(
        map.contains("(100 %)") && !map.contains("dirty") && map.ends_with("exit 0"),
        "{map}"
    );
}

#[test]
fn where_fallocate_is_not_supported_zero_writes_and_says_so() {
    let test = "where_fallocate_is_not_supported_zero_writes_and_says_so";
    if !strace_works(test) {
        return;
    }
    let fault = "fallocate:error=EOPNOTSUPP:when=1+";
    let (output, bytes) = inject(fault, false, &format!("zero f -o {AT} -n {LEN}"));
    let told = support::told(&output);
    assert!(told.contains("zeroed by write") && told.ends_with("exit 0"), "{told}");
    assert!(bytes == with(0));
    for method in ["zero-range", "punch"] {
        let (output, bytes) = inject(fault, false, &format!("zero f -o {AT} -n {LEN} --method {method}"));
        let told = stderr(&output);
        assert!(
            code(&output) == 2 && told.contains(method) && told.contains("  tip: "),
            "{told}"
        );
        assert!(bytes == with(0x11));
    }
    // Growing does without as well.
    let (output, bytes) = inject(fault, false, "remap f --size +64K");
    assert_eq!((code(&output), bytes.len()), (0, SIZE + 65536), "{}", stderr(&output));
}

#[test]
fn a_fallocate_that_fails_is_put_back_while_that_is_cheap_and_in_doubt_beyond() {
    let test = "a_fallocate_that_fails_is_put_back_while_that_is_cheap_and_in_doubt_beyond";
    if !strace_works(test) {
        return;
    }
    for method in ["zero-range", "punch"] {
        let fault = "fallocate:error=EIO:when=1+";
        let (output, bytes) = inject(fault, false, &format!("zero f -o {AT} -n {LEN} --method {method}"));
        let told = stderr(&output);
        assert!(code(&output) == 2 && told.contains("put back"), "{method}: {told}");
        assert!(bytes == with(0x11), "{method}");
        let (output, _) = inject(fault, false, &format!("zero f -o 4096 -n 8M --method {method}"));
        let told = stderr(&output);
        assert_eq!(code(&output), 4, "{method}: {told}");
        assert!(
            told.contains("in doubt") && told.contains("0x1000..0x801000"),
            "{method}: {told}"
        );
    }
}

#[test]
fn a_resize_that_fails_leaves_the_length_or_says_that_it_is_in_doubt() {
    let test = "a_resize_that_fails_leaves_the_length_or_says_that_it_is_in_doubt";
    if !strace_works(test) {
        return;
    }
    for error in ["EIO", "ENOSPC", "EINTR", "EPERM"] {
        for (call, line) in [
            ("ftruncate:error=EX:when=1", "remap f --size +1M"),
            ("ftruncate:error=EX:when=1", "remap f --size -1M"),
            ("fallocate:error=EX:when=1", "remap f --size +1M"),
        ] {
            let fault = call.replace("EX", error);
            let (output, bytes) = inject(&fault, true, line);
            // std sets a length again when that was interrupted.
            if fault.starts_with("ftruncate:error=EINTR") {
                assert_eq!(code(&output), 0, "{line}");
                continue;
            }
            let told = stderr(&output);
            assert_eq!((code(&output), bytes.len()), (2, SIZE), "{fault}: {line}: {told}");
            assert!(
                bytes == with(0x11) && told.contains("length was not changed"),
                "{fault}: {line}: {told}"
            );
        }
    }
    // The blocks can't be had, and the old length can't be set again.
    let dir = scratch();
    let path = file(dir.path(), "f", &[0x11; 4096]);
    let options = [
        "-e",
        "inject=fallocate:error=ENOSPC:when=1",
        "-e",
        "inject=ftruncate:error=EIO:when=2",
    ];
    let output = straced(dir.path(), &options, "remap f --size +1M");
    let told = stderr(&output);
    let len = fs::metadata(&path).unwrap().len();
    match code(&output) {
        2 => assert_eq!(len, 4096, "exit 2 with another length: {told}"),
        other => assert!(other == 4 && told.contains("in doubt"), "{other}: {told}"),
    }
}

#[test]
fn a_sync_whose_flush_fails_is_3_and_one_that_never_came_to_it_is_2() {
    let test = "a_sync_whose_flush_fails_is_3_and_one_that_never_came_to_it_is_2";
    if !strace_works(test) {
        return;
    }
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
        assert_eq!(code(&output), expected, "{fault}: {}", stderr(&output));
        assert!(bytes == with(0x11));
    }
}

// ---- signals at each call ----

#[test]
fn a_signal_at_any_call_of_a_patch_leaves_all_or_nothing() {
    let test = "a_signal_at_any_call_of_a_patch_leaves_all_or_nothing";
    if !strace_works(test) {
        return;
    }
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
            let dir = scratch();
            let path = file(dir.path(), "f", &vec![0x11; SIZE]);
            // `read` is traced along so that the signal is there by the time it is asked for.
            let signal = ["INT", "TERM"][when - 1];
            let options = [
                "-e",
                "trace=all",
                "-e",
                &format!("inject={call}:signal={signal}:when={when}"),
            ];
            let output = straced(dir.path(), &options, &line);
            let bytes = fs::read(path).unwrap();
            let told = stderr(&output);
            match (output.status.signal(), code(&output)) {
                (Some(_), _) => assert!(
                    bytes == with(0x11),
                    "{call} {when}: died, and the bytes are others: {told}"
                ),
                (None, 0) => assert!(bytes == with(0x77), "{call} {when}: exit 0 without the new bytes"),
                (None, other) => panic!("{call} {when}: {other}: {told}"),
            }
            put_back += u32::from(told.contains("put back"));
        }
    }
    assert!(put_back > 0, "a signal at the first store of two has to be heard");
}

#[test]
fn a_device_error_of_a_window_is_told_though_the_next_window_cannot_be_started() {
    let test = "a_device_error_of_a_window_is_told_though_the_next_window_cannot_be_started";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    sparse(dir.path(), "f", 300 << 20);
    // The first window is started, the second not, and then the first one has failed.
    let options = [
        "-e",
        "inject=sync_file_range:error=EINTR:when=2",
        "-e",
        "inject=sync_file_range:error=EIO:when=3",
    ];
    let output = straced(dir.path(), &options, "sync f -q");
    assert_eq!(code(&output), 3, "{}", stderr(&output));
}

// ---- the trace ----

/// The calls that `-v` shows.
const SHOWN: &str = "trace=mmap,munmap,madvise,msync,mlock,mlock2,preadv,ftruncate,fallocate,sync_file_range,fdatasync";

/// A line of either trace with addresses, and the bytes that strace would show, left out; `None` for what is no
/// call.
fn plain(line: &str) -> Option<String> {
    // "1234  call(...) = 0" where strace follows children.
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    // strace shows calls that it has no name for, filter or not.
    if !line.starts_with(|c: char| c.is_ascii_lowercase())
        || line.starts_with("syscall_")
        || !line.contains('(')
        || !line.contains(" = ")
    {
        return None;
    }
    let mut text = String::new();
    let mut rest = line;
    let whole;
    // strace shows the first byte of what preadv stores.
    if let Some((before, after)) = line.split_once("iov_base=\"") {
        let behind = after.split_once(", iov_len").map_or("", |(_, behind)| behind);
        whole = format!("{before}iov_base=0x0, iov_len{behind}");
        rest = &whole;
    }
    while let Some((before, after)) = rest.split_once("0x") {
        text += before;
        text += "ADDRESS";
        rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    text += rest;
    // strace lines results up; error texts are libc's own.
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    Some(text.split(" (").next().unwrap_or_default().to_string())
}

/// strace's lines without those of the allocator and the loader (unmappings of what was not mapped from a file,
/// mappings of nothing) and the length that a memfd of zeros is given.
fn ours(log: &str) -> Vec<String> {
    let argument = |line: &str, nth: usize| {
        let inside = line.split(['(', ')']).nth(1).unwrap_or_default();
        inside.split(", ").nth(nth).unwrap_or_default().to_string()
    };
    let is_file = |line: &&str| line.contains("mmap(") && !line.contains("MAP_ANONYMOUS");
    let mapped: Vec<_> = log.lines().filter(is_file).collect();
    let base = |line: &&str| line.rsplit(" = ").next().unwrap_or_default().to_string();
    let bases: Vec<_> = mapped.iter().map(base).collect();
    let keep = |line: &&str| {
        if line.contains("munmap(") {
            bases.contains(&argument(line, 0))
        } else if line.contains("mmap(") {
            is_file(line)
        } else if line.contains("ftruncate(") {
            mapped.iter().all(|mmap| argument(mmap, 4) == argument(line, 0))
        } else {
            true
        }
    };
    log.lines().filter(keep).filter_map(plain).collect()
}

#[test]
fn the_verbose_trace_is_what_strace_sees() {
    let test = "the_verbose_trace_is_what_strace_sees";
    if !strace_works(test) {
        return;
    }
    for (line, calls) in [
        (
            format!("patch f -o {AT} fill:77:{LEN} --sync"),
            "mmap madvise preadv msync munmap",
        ),
        ("patch f -o 3 dead".into(), "mmap madvise preadv munmap"),
        (
            "map f --populate --lock --advise random".into(),
            "mmap madvise mlock munmap",
        ),
        ("map f --private --lock=on-fault".into(), "mmap mlock2 munmap"),
        ("map f --prot none".into(), "mmap munmap"),
        ("sync f".into(), "mmap msync munmap"),
        ("sync f -o 5000 -n 1".into(), "mmap msync munmap"),
        ("sync f --invalidate".into(), "mmap msync munmap"),
        ("sync f --async".into(), "sync_file_range"),
        (
            format!("zero f -o {AT} -n {LEN} --method write"),
            "mmap madvise preadv munmap",
        ),
        ("zero f -o 4K -n 8K".into(), "fallocate"),
        ("zero f -o 4K -n 8K --punch".into(), "fallocate"),
        ("remap f --size +64K".into(), "ftruncate fallocate"),
        ("remap f --size +64K --sparse".into(), "ftruncate"),
        ("remap f --size -64K".into(), "ftruncate"),
        // Over two windows, and too short for a second thread, whose stack glibc gives back by a call of its own.
        ("cat f -f canonical -r 7936K..8256K".into(), "mmap munmap"),
    ] {
        compare_traces(&[], &line, calls);
    }
    // A call that fails is shown with its error.
    compare_traces(&["-e", "inject=msync:error=EIO:when=1"], "sync f", "mmap msync munmap");
    compare_traces(
        &["-e", "inject=madvise:error=EFAULT:when=2"],
        "patch f -o 0 dead",
        "mmap madvise",
    );
    compare_traces(
        &["-e", "inject=fallocate:error=EOPNOTSUPP:when=1+"],
        "zero f -o 0 -n 1",
        "fallocate preadv",
    );
}

fn compare_traces(options: &[&str], line: &str, calls: &str) {
    let dir = scratch();
    file(dir.path(), "f", &vec![0x11; SIZE]);
    let options = [&["-e", SHOWN], options].concat();
    let output = straced(dir.path(), &options, &format!("-v {line}"));
    let told = stderr(&output);
    let shown: Vec<_> = told
        .lines()
        .filter(|line| !line.starts_with("error:"))
        .filter_map(plain)
        .collect();
    let seen = ours(&log(dir.path()));
    assert_eq!(shown.join("\n"), seen.join("\n"), "{line}: shown, and seen by strace");
    for call in calls.split(' ') {
        assert!(
            seen.iter().any(|line| line.starts_with(call)),
            "{line}: no {call} in {seen:#?}"
        );
    }
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("strace.log")).expect("strace's log")
}

#[test]
fn a_filter_that_interrupts_a_call_for_ever_ends_in_a_message() {
    if !strace_works("a_filter_that_interrupts_a_call_for_ever_ends_in_a_message") {
        return;
    }
    let line = format!("patch f -o {AT} fill:77:{LEN} --sync");
    for (call, want) in [("madvise", 2), ("msync", 3)] {
        let (output, bytes) = inject(&format!("{call}:error=EINTR:when=1+"), false, &line);
        assert_eq!(code(&output), want, "{call}: {}", stderr(&output));
        assert!(stderr(&output).contains("(EINTR)"), "{call}: {}", stderr(&output));
        assert_eq!(bytes[AT] == 0x77, want == 3, "{call}");
    }
}
