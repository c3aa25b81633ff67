//! The trace that `-v` prints, compared with what strace sees.

use crate::support::strace::*;
use crate::support::*;

/// A patch across the edge of a window, and the length of the file.
const AT: usize = (8 << 20) - (64 << 10);
const LEN: usize = 128 << 10;
const SIZE: usize = (8 << 20) + (1 << 20);

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
/// mappings of nothing, stacks of threads that glibc gives back) and the length that a memfd of zeros is given.
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
        if line.contains("munmap(") || line.contains("MADV_DONTNEED") {
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
    needs!(strace_works());
    for (line, calls) in [
        (format!("patch f -o {AT} fill:77:{LEN} --sync"), "mmap madvise preadv msync munmap"),
        ("patch f -o 3 dead".into(), "mmap madvise preadv munmap"),
        ("map f --populate --lock --advise random".into(), "mmap madvise mlock munmap"),
        ("map f --private --lock=on-fault".into(), "mmap mlock2 munmap"),
        ("map f --prot none".into(), "mmap munmap"),
        ("sync f".into(), "mmap msync munmap"),
        ("sync f -o 5000 -n 1".into(), "mmap msync munmap"),
        ("sync f --invalidate".into(), "mmap msync munmap"),
        ("sync f --async".into(), "sync_file_range"),
        (format!("zero f -o {AT} -n {LEN} --method write"), "mmap madvise preadv munmap"),
        ("zero f -o 4K -n 8K".into(), "fallocate"),
        ("zero f -o 4K -n 8K --punch".into(), "fallocate"),
        ("remap f --size +64K".into(), "fallocate"),
        ("remap f --size +64K --sparse".into(), "ftruncate fallocate"),
        ("remap f --size -64K".into(), "ftruncate"),
        // Over two windows, and too short for a second thread, whose stack glibc gives back by a call of its own.
        ("cat f -f canonical -r 7936K..8256K".into(), "mmap munmap"),
    ] {
        compare_traces(&[], &line, calls);
    }
    // A call that fails is shown with its error.
    compare_traces(&["-e", "inject=msync:error=EIO:when=1"], "sync f", "mmap msync munmap");
    compare_traces(&["-e", "inject=madvise:error=EFAULT:when=2"], "patch f -o 0 dead", "mmap madvise");
    compare_traces(&["-e", "inject=fallocate:error=EOPNOTSUPP:when=1+"], "zero f -o 0 -n 1", "fallocate preadv");
}

fn compare_traces(options: &[&str], line: &str, calls: &str) {
    let dir = Sandbox::new();
    dir.file("f", vec![0x11; SIZE]);
    let options = [&["-e", SHOWN], options].concat();
    let output = dir.straced(&options, &format!("-v {line}"));
    let text = output.stderr();
    let shown: Vec<_> = text.lines().filter(|line| !line.starts_with("error:")).filter_map(plain).collect();
    let seen = ours(&dir.strace_log());
    assert_eq!(shown.join("\n"), seen.join("\n"), "{line}: shown, and seen by strace");
    for call in calls.split(' ') {
        assert!(seen.iter().any(|line| line.starts_with(call)), "{line}: no {call} in {seen:#?}");
    }
}
