//! Raw `cat`, as its readers get it: into pipes and files of every kind, with nothing lost, changed or skipped.

use crate::support::strace::*;
use crate::support::views::view;
use crate::support::*;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs `line` with its stdout to `out`.
fn into(dir: &Sandbox, line: &str, out: File) -> Outcome {
    dir.command(&words(line)).stdout(out).outcome()
}

/// Runs `line` with its stdout to a new file and returns the file's bytes.
fn into_new(dir: &Sandbox, line: &str) -> Vec<u8> {
    let path = dir.join("out");
    into(dir, line, File::create(&path).unwrap()).code(0);
    read(path)
}

/// The names of the system calls in the log of [`straced`] that begin with one of `calls`, once each.
fn traced(dir: &Sandbox, calls: &[&str]) -> Vec<String> {
    let log = dir.strace_log();
    let seen = |call: &&&str| log.lines().any(|line| line.contains(&format!(" {call}(")));
    calls.iter().filter(seen).map(|call| call.to_string()).collect()
}

/// Ranges of a file of `len` bytes with odd and even places, longer and shorter than a pipe.
fn ranges(len: u64) -> Vec<(u64, u64)> {
    let page = page_size();
    let (one, mib) = (1, 1 << 20);
    [(0, len), (one, len), (page, len - page), (page + 7, len - 1)]
        .into_iter()
        .chain([
            (len - one, len),
            (5, 6),
            (3 * page, 3 * page),
            (100, mib + 100),
            (0, 2 * mib),
            (9, 3 * mib),
        ])
        .collect()
}

/// Asserts that a line gives these bytes, into a pipe and into a new file.
fn gives(dir: &Sandbox, line: &str, expected: &[u8]) {
    let piped = dir.mmapctl(&words(line));
    let text = piped.stderr();
    assert!(piped.stdout == expected && piped.exit() == 0, "{line} | : {text}");
    assert!(into_new(dir, line) == expected, "{line} >");
}

#[test]
fn every_range_comes_through_a_pipe_and_into_a_file_as_it_is() {
    let dir = Sandbox::new();
    let bytes = noise((5 << 20) + 4321);
    dir.file("f", &bytes);
    for (start, end) in ranges(bytes.len() as u64) {
        let line = format!("cat f -r {start}..{end}");
        gives(&dir, &line, &bytes[start as usize..end as usize]);
    }
}

#[test]
fn every_range_of_a_sparse_file_comes_out_with_its_zeros() {
    let dir = Sandbox::new();
    let mut bytes = vec![0; (4 << 20) + 100];
    bytes[1 << 20..][..10_000].copy_from_slice(&noise(10_000));
    bytes[3 << 20..][..100].copy_from_slice(&noise(100));
    let path = dir.sparse("f", bytes.len() as u64);
    writer(&path).write_all_at(&bytes[1 << 20..][..10_000], 1 << 20).unwrap();
    writer(&path).write_all_at(&bytes[3 << 20..][..100], 3 << 20).unwrap();
    for (start, end) in ranges(bytes.len() as u64) {
        for skip_holes in ["", " --skip-holes"] {
            let line = format!("cat f -r {start}..{end}{skip_holes}");
            gives(&dir, &line, &bytes[start as usize..end as usize]);
        }
    }
}

#[test]
fn raw_output_is_copied_within_the_kernel() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let bytes = noise(8 << 20);
    dir.file("f", &bytes);
    const CALLS: [&str; 4] = ["copy_file_range", "splice", "pread64", "write"];
    let trace = ["-e", "trace=copy_file_range,splice,pread64,write"];
    let output = dir.straced(&trace, "cat f");
    assert!(output.stdout == bytes);
    // The end of it, as much as the pipe holds, is a copy.
    assert_eq!(traced(&dir, &CALLS), ["splice", "pread64", "write"]);
    let output = dir.straced(&trace, "cat f -n 4K");
    assert!(output.stdout == bytes[..4096]);
    assert_eq!(traced(&dir, &CALLS), ["pread64", "write"]);

    let by = |faults: &[&str]| {
        let out = dir.join("out");
        let status = dir
            .program("strace", &["-qq", "-f", "-o", "strace.log"])
            .args(trace)
            .args(faults)
            .args([BINARY, "cat", "f"])
            .stdout(File::create(&out).unwrap())
            .status()
            .unwrap();
        assert!(status.success() && read(out) == bytes, "{faults:?}");
        traced(&dir, &CALLS)
    };
    // Which of the two depends on the file system.
    let first = by(&[]);
    assert!(first == ["copy_file_range"] || first == ["pread64", "write"], "{first:?}");
    for error in ["EXDEV", "EINVAL", "EOPNOTSUPP", "ETXTBSY", "ENOSYS", "EINTR"] {
        let copy = format!("inject=copy_file_range:error={error}");
        assert!(by(&["-e", &copy]).ends_with(&["pread64".into(), "write".into()]), "{error}");
        // Before the first piece, between two, and half way through one.
        for fault in [
            "pread64:when=1",
            "pread64:when=2",
            "pread64:when=4..5",
            "write:when=1",
            "write:when=2",
        ] {
            let (call, when) = fault.split_once(':').unwrap();
            by(&["-e", &copy, "-e", &format!("inject={call}:error={error}:{when}")]);
        }
        if error != "EINTR" {
            by(&["-e", &copy, "-e", &format!("inject=pread64:error={error}:when=3+")]);
        }
    }
}

#[test]
fn a_splice_that_is_refused_or_interrupted_loses_nothing() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let bytes = noise(6 << 20);
    dir.file("f", &bytes);
    for fault in [
        "EINVAL:when=1",
        "EIO:when=2",
        "ENOMEM:when=3+",
        "EINTR:when=2",
        "EINTR",
        "EAGAIN:when=2",
    ] {
        let output = dir.inject(&[&format!("splice:error={fault}")], "cat f");
        assert!(output.stdout == bytes && output.exit() == 0, "{fault}: {}", output.stderr());
    }
    let output = dir.inject(&["fcntl:error=EPERM:when=2+"], "cat f");
    assert!(output.stdout == bytes, "a pipe that cannot be made larger: {}", output.stderr());
}

#[test]
fn once_cat_has_ended_what_it_wrote_is_no_longer_the_files() {
    let dir = Sandbox::new();
    let bytes = noise(4 << 20);
    let path = dir.file("f", &bytes);
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let mut child = dir.command(&["cat", "f"]).stdout(pipe).spawn().unwrap();
    // Reads on only while it has to, so that the pipe is as full as it can be when the file is written over.
    let mut got = Vec::new();
    let mut piece = vec![0; 1 << 16];
    while child.try_wait().unwrap().is_none() {
        let left = bytes.len() - got.len();
        if left > 1 << 20 {
            let count = reader.read(&mut piece).unwrap();
            got.extend(&piece[..count]);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A pipe of less than a mebibyte, where a user has many, needs more to be read.
        if left <= 1 << 20 && reader_is_stuck(&mut child) {
            let count = reader.read(&mut piece).unwrap();
            got.extend(&piece[..count]);
        }
    }
    assert!(got.len() < bytes.len(), "nothing was left in the pipe");
    writer(&path).write_all_at(&vec![0; bytes.len()], 0).unwrap();
    reader.read_to_end(&mut got).unwrap();
    assert!(got == bytes, "the reader got bytes that were stored after cat had ended");
}

/// Whether a child has slept, rather than waited for a processor, for a fifth of a second.
fn reader_is_stuck(child: &mut std::process::Child) -> bool {
    (0..20).all(|_| {
        std::thread::sleep(Duration::from_millis(10));
        child.try_wait().unwrap().is_none() && sleeps(child.id())
    })
}

#[test]
fn a_session_never_lends_pages_that_it_may_change() {
    let dir = Sandbox::new();
    let bytes = noise(3 << 20);
    let page = page_size() as usize;
    for what in [
        &["f"][..],
        &["f", "--private"],
        &["--memfd", "-n", "3M"],
        &["--anonymous", "-n", "3M"],
    ] {
        dir.file("f", &bytes);
        dir.file("bytes", &bytes);
        let verbs = ["patch -o 0 @bytes", "cat", "patch -o 0 fill:00:3M", "cat -n 1p"];
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let mut args = vec!["-q", "map"];
        args.extend(what);
        args.extend(verbs.iter().flat_map(|verb| ["-c", verb]));
        let mut child = dir.command(&args).stdout(pipe).spawn().unwrap();
        // The rest stays in the pipe while the session stores.
        let mut got = vec![1; 5 << 19];
        reader.read_exact(&mut got).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        reader.read_to_end(&mut got).unwrap();
        assert!(child.wait().unwrap().success(), "{what:?}");
        let expected = [&bytes, &vec![0; page][..]].concat();
        assert!(got == expected, "{what:?}");
    }
    // A view is read in its own order, into a pipe and into a file.
    dir.file("f", &bytes[..5 * page - 9]);
    let verbs = ["remap --order reverse", "cat", "patch -o 0 00"];
    let output = dir.session("f -q", &verbs);
    let expected = view(&bytes[..5 * page - 9], &[4, 3, 2, 1, 0]);
    assert!(output.stdout == expected, "{}", output);
    for holes in ["cat", "cat --skip-holes"] {
        dir.file("f", &bytes[..5 * page - 9]);
        let out = File::create(dir.join("out")).unwrap();
        let args = ["-q", "map", "f", "-c", "remap --order reverse", "-c", holes];
        assert!(dir.command(&args).stdout(out).status().unwrap().success());
        assert!(dir.read("out") == expected, "{holes}");
    }
}

#[test]
fn a_private_mapping_goes_into_a_file_with_its_own_bytes() {
    let dir = Sandbox::new();
    let bytes = noise(2 << 20);
    dir.file("f", &bytes);
    for holes in ["cat", "cat --skip-holes"] {
        let out = File::create(dir.join("out")).unwrap();
        let args = ["-q", "map", "f", "--private", "-c", "patch -o 1M text:own", "-c", holes];
        assert!(dir.command(&args).stdout(out).status().unwrap().success());
        let mut expected = bytes.clone();
        expected[1 << 20..][..3].copy_from_slice(b"own");
        assert!(dir.read("out") == expected, "{holes}");
    }
    assert!(dir.read("f") == bytes);
}

#[test]
fn raw_output_starts_at_the_file_offset_or_appends() {
    let dir = Sandbox::new();
    let bytes = noise(3 << 20);
    dir.file("f", &bytes);
    for holes in ["", " --skip-holes"] {
        let path = dir.file("out", b"before and after");
        let mut out = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        out.seek(SeekFrom::Start(6)).unwrap();
        let mut behind = out.try_clone().unwrap();
        into(&dir, &format!("cat f{holes}"), out).code(0);
        // As after any write, the next one continues after it.
        behind.write_all(b"end").unwrap();
        assert!(read(&path) == [b"before", &bytes[..], b"end"].concat(), "{holes}");

        let path = dir.file("log", b"first;");
        for _ in 0..2 {
            let log = OpenOptions::new().append(true).open(&path).unwrap();
            into(&dir, &format!("cat f{holes}"), log).code(0);
        }
        assert!(read(&path) == [b"first;", &bytes[..], &bytes].concat(), "{holes}");
    }
    // Onto itself, where the two ranges lie over each other.
    let own = writer(&dir.join("f"));
    into(&dir, "cat f", own).code(0);
    assert!(dir.read("f") == bytes);
}

#[test]
fn from_one_file_system_to_another_nothing_is_lost() {
    needs!(let other = Sandbox::in_memory());
    let dir = Sandbox::new();
    let bytes = noise((20 << 20) + 5);
    dir.file("f", &bytes);
    let out = other.join("out");
    into(&dir, "cat f -o 3", File::create(&out).unwrap()).code(0);
    assert!(read(&out) == bytes[3..]);
    // And within a tmpfs, which has no reflinks.
    other.file("f", &bytes);
    assert!(into_new(&other, "cat f -o 3") == bytes[3..]);
}

#[test]
fn where_a_file_system_has_reflinks_a_copy_takes_no_blocks() {
    for (mkfs, mib) in [("mkfs.xfs -q -m reflink=1", 400), ("mkfs.btrfs -q", 256)] {
        let Some(mount) = Mount::image(mkfs, mib) else {
            continue;
        };
        let bytes = noise(64 << 20);
        let path = mount.file("f", &bytes);
        synced(&path);
        let free = || nix::sys::statfs::statfs(&**mount).unwrap();
        let blocks = |fs: nix::sys::statfs::Statfs| fs.blocks_free() * fs.block_size() as u64;
        let before = blocks(free());
        // More than the file system has room for.
        for copy in 0..12 {
            let out = mount.join(format!("copy{copy}"));
            let output = into(&mount, "cat f", File::create(&out).unwrap());
            assert_eq!(output.exit(), 0, "{mkfs}: {}", output.stderr());
        }
        synced(&path);
        assert!(before - blocks(free()) < 16 << 20, "{mkfs}");
        assert!(mount.read("copy11") == bytes, "{mkfs}");
    }
}

#[test]
fn a_full_file_system_is_an_error_of_stdout() {
    needs!(let small = Mount::tmpfs("2m"));
    let dir = Sandbox::new();
    let bytes = noise(4 << 20);
    dir.file("f", &bytes);
    let out = small.join("out");
    into(&dir, "cat f", File::create(&out).unwrap())
        .code(2)
        .stderr_has("cannot write to stdout")
        .stderr_has("space");
    let written = read(out);
    assert!(!written.is_empty() && bytes.starts_with(&written));
}

#[test]
fn a_pipe_that_does_not_wait_is_waited_for() {
    let dir = Sandbox::new();
    let bytes = noise(4 << 20);
    dir.file("f", &bytes);
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(pipe.as_fd(), nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    let mut child = dir.command(&["cat", "f"]).stdout(pipe).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(got == bytes);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_at_any_length() {
    let dir = Sandbox::new();
    dir.sparse("f", 64 << 30);
    for enough in [1, 100_000, 3 << 20] {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let child = dir.command(&["cat", "f"]).stdout(pipe).stderr(Stdio::piped()).spawn();
        reader.read_exact(&mut vec![1; enough]).unwrap();
        drop(reader);
        let output = child.unwrap().outcome();
        assert_eq!((output.exit(), output.stderr().as_str()), (0, ""));
    }
}

#[test]
fn a_truncation_during_a_copy_to_a_file_names_its_offset() {
    let dir = Sandbox::new();
    let bytes: Vec<u8> = noise(8 << 20).iter().map(|byte| byte | 1).collect();
    let path = dir.file("f", &bytes);
    let cut = writer(&path);
    let mut chance = Chance::new();
    let mut seen = 0;
    for round in 1..=races() {
        cut.write_all_at(&bytes, 0).unwrap();
        let line = ["cat f", "cat f --skip-holes"][round as usize % 2];
        let out = dir.join("out");
        let child = dir
            .command(&words(line))
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(chance.within(Duration::from_millis(8)));
        let len = 1 + chance.below(8 << 20);
        cut.set_len(len).unwrap();
        let output = child.outcome();
        let (text, written) = (output.stderr(), read(&out));
        match output.exit() {
            // It was quicker, or saw the file only as it was afterwards.
            0 => assert!(written == bytes || written == bytes[..len as usize], "round {round}: {line}"),
            2 => {
                seen += 1;
                assert!(text.contains(&format!("{len:#x}")) && text.contains("truncated"), "round {round}: {text}");
                let right = written.iter().zip(&bytes).all(|(one, other)| one == other || *one == 0);
                assert!(right, "round {round}: {line}: other bytes");
            }
            other => panic!("round {round}: {line}: {other}: {text}"),
        }
    }
    if seen == 0 {
        skip("no truncation came in time to matter");
    }
}

#[test]
fn skip_holes_makes_a_file_as_sparse_as_the_range() {
    let dir = Sandbox::new();
    let mib = 1 << 20;
    let path = dir.sparse("f", 64 * mib + 5);
    let data = noise(mib as usize);
    writer(&path).write_all_at(&data, 32 * mib).unwrap();
    synced(&path);
    if allocated(&path) > 4 * mib {
        return skip("no holes here");
    }
    let mut expected = vec![0; 64 * mib as usize + 5];
    expected[32 * mib as usize..][..mib as usize].copy_from_slice(&data);
    let out = dir.join("out");
    assert!(into_new(&dir, "cat f --skip-holes") == expected);
    synced(&out);
    assert!(allocated(&out) <= 2 * mib, "{} bytes have blocks", allocated(&out));
    // What was there before is not left standing in the holes, and what is after the range stays.
    fs::write(&out, vec![0xaa; 70 << 20]).unwrap();
    into(&dir, "cat f --skip-holes", writer(&out)).code(0);
    let bytes = read(&out);
    assert!(bytes.starts_with(&expected) && bytes.len() == 70 << 20);
    assert!(bytes[expected.len()..].iter().all(|byte| *byte == 0xaa));
    if strace_works() {
        fs::write(&out, vec![0xaa; 66 << 20]).unwrap();
        let status = dir
            .program("strace", &["-qq", "-o", "/dev/null", "-e", "inject=fallocate:error=EOPNOTSUPP"])
            .args([BINARY, "cat", "f", "--skip-holes"])
            .stdout(writer(&out))
            .status();
        assert!(status.unwrap().success());
        assert!(read(&out).starts_with(&expected));
    }
    // A terabyte of nothing.
    dir.sparse("hole", 1 << 40);
    into(&dir, "cat hole -n 1T --skip-holes", File::create(&out).unwrap()).code(0);
    assert_eq!((fs::metadata(&out).unwrap().len(), allocated(&out)), (1 << 40, 0));
}

#[test]
fn skip_holes_ends_at_the_first_byte_that_is_not_had() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let path = dir.sparse("f", 8 << 20);
    let data = noise(1 << 20);
    writer(&path).write_all_at(&data, 0).unwrap();
    writer(&path).write_all_at(&data, 5 << 20).unwrap();
    synced(&path);
    if allocated(&path) > 4 << 20 {
        return skip("no holes here");
    }
    // The data after the hole cannot be read, in any way.
    for first in 1..8 {
        let fault = format!("inject=pread64,copy_file_range,sendfile:error=EIO:when={first}+");
        let others = "inject=ioctl,process_vm_readv,madvise:error=EFAULT";
        let args = ["-qq", "-o", "/dev/null", "-e", &fault, "-e", others];
        let mut command = dir.program("strace", &args);
        let out = File::create(dir.join("out")).unwrap();
        let output = command.args([BINARY, "cat", "f", "--skip-holes"]).stdout(out).outcome();
        let written = dir.read("out");
        if output.exit() == 2 {
            let place = format!("cannot read {:#x}..", written.len());
            assert!(output.stderr().contains(&place), "{} bytes: {output}", written.len());
        }
        assert!(read(&path).starts_with(&written), "{output}");
    }
}

#[test]
fn skip_holes_is_refused_where_the_bytes_are_not_raw() {
    let dir = Sandbox::new();
    dir.file("f", b"12345678");
    for line in ["cat f --skip-holes -x", "cat f --skip-holes -f plain"] {
        dir.refused(line).has("raw");
    }
    let output = dir.mmapctl(&["cat", "f", "--skip-holes", "--json"]);
    assert!(output.exit() == 2 && output.stdout.is_empty(), "{}", output);
    output.stderr_has("--skip-holes is for raw");
    dir.run("cat f --skip-holes --access 4").code(2).has("cannot be used with");
    dir.run("cat f --skip-holes -f raw").is("12345678(no newline)\nexit 0");
}

#[test]
fn a_block_device_comes_out_as_its_image() {
    if !is_root() || !has("losetup") {
        return skip("a loop device takes root");
    }
    let dir = Sandbox::new();
    let bytes = noise(6 << 20);
    let path = dir.file("image", &bytes);
    let made = Command::new("losetup").args(["--find", "--show"]).arg(&path).outcome();
    if !made.status.success() {
        return skip("no loop device is to be had");
    }
    let device = String::from_utf8(made.stdout).unwrap().trim().to_string();
    let piped = dir.mmapctl(&["cat", &device]);
    let out = File::create(dir.join("out")).unwrap();
    let filed = into(&dir, &format!("cat {device}"), out);
    let detached = Command::new("losetup").args(["-d", &device]).status().unwrap();
    assert!(detached.success());
    assert!(piped.stdout == bytes && piped.exit() == 0, "{}", piped.stderr());
    filed.code(0);
    assert!(dir.read("out") == bytes);
}

#[test]
fn a_file_is_not_written_out_to_itself() {
    let dir = Sandbox::new();
    let bytes = noise(10_000);
    let path = dir.file("f", &bytes);
    dir.file("other", noise(10_000));
    fs::hard_link(&path, dir.join("link")).unwrap();
    for line in [
        "cat f",
        "cat link",
        "cat f -r 0..16",
        "cat f -x",
        "cat f -f c",
        "cat f --json",
        "cat f --skip-holes",
        "cat f --access 1",
        "cat f --watch -n 16",
        "remap f --order reverse --to -",
        "patch f --diff other",
        "patch other --diff f",
    ] {
        let out = File::options().append(true).open(&path).unwrap();
        into(&dir, line, out).code(2).has("input file is output file");
        assert!(read(&path) == bytes, "{line}");
    }
    let session = |lines: [&str; 2]| {
        let out = File::options().append(true).open(&path).unwrap();
        let mut command = dir.command(&["map", "f", "-q", "-c", lines[0], "-c", lines[1]]);
        command.stdout(out).outcome()
    };
    let text = session(["patch -o 0 00", "cat -r 0..16"]);
    text.code(2).has("-c 2: input file is output file");
    assert!(read(&path)[1..] == bytes[1..]);
    // Over itself, as with '1<> f', but further on than what is read, and as text, which is longer.
    for (line, at) in [("cat f", 1), ("cat f -o 16", 17), ("cat f -x", 0)] {
        let mut out = writer(&path);
        out.seek(SeekFrom::Start(at)).unwrap();
        into(&dir, line, out).code(2).has("input file is output file");
        assert!(read(&path)[1..] == bytes[1..], "{line}");
    }
    // Nothing is written of nothing, and to another file everything.
    let out = File::options().append(true).open(&path).unwrap();
    into(&dir, "cat f -r 16..16", out).is("exit 0");
    let out = File::options().append(true).open(dir.join("other")).unwrap();
    into(&dir, "cat f", out).is("exit 0");
    assert_eq!(fs::metadata(dir.join("other")).unwrap().len(), 20_000);
}
