//! Raw `cat`, as its readers get it: into pipes and files of every kind, with nothing lost, changed or passed over.

use crate::support;
use crate::support::faults::{Chance, code, races, stderr, strace_works, straced, words};
use crate::support::views::{session, view};
use crate::support::{
    BINARY, Mount, allocated, file, has, mmapctl, noise, page_size, refused, run, scratch, skip, sparse, spawnable,
    synced, tmpfs_scratch, told, writer,
};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Runs `line` with its stdout to `out`.
fn into(dir: &Path, line: &str, out: File) -> Output {
    let output = spawnable(dir, &words(line)).stdout(out).stderr(Stdio::piped()).output();
    output.expect("mmapctl runs")
}

/// Runs `line` with its stdout to a new file and gives the file's bytes.
fn into_new(dir: &Path, line: &str) -> Vec<u8> {
    let path = dir.join("out");
    let output = into(dir, line, File::create(&path).unwrap());
    assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
    fs::read(path).unwrap()
}

/// The names of the system calls in the log of [`straced`] that begin with one of `calls`, once each.
fn traced(dir: &Path, calls: &[&str]) -> Vec<String> {
    let log = fs::read_to_string(dir.join("strace.log")).unwrap();
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
fn gives(dir: &Path, line: &str, expected: &[u8]) {
    let piped = mmapctl(dir, &words(line)).output().unwrap();
    let told = stderr(&piped);
    assert!(piped.stdout == expected && code(&piped) == 0, "{line} | : {told}");
    assert!(into_new(dir, line) == expected, "{line} >");
}

#[test]
fn every_range_comes_through_a_pipe_and_into_a_file_as_it_is() {
    let dir = scratch();
    let bytes = noise((5 << 20) + 4321);
    file(dir.path(), "f", &bytes);
    for (start, end) in ranges(bytes.len() as u64) {
        let line = format!("cat f -r {start}..{end}");
        gives(dir.path(), &line, &bytes[start as usize..end as usize]);
    }
}

#[test]
fn every_range_of_a_sparse_file_comes_out_with_its_zeros() {
    let dir = scratch();
    let mut bytes = vec![0; (4 << 20) + 100];
    bytes[1 << 20..][..10_000].copy_from_slice(&noise(10_000));
    bytes[3 << 20..][..100].copy_from_slice(&noise(100));
    let path = sparse(dir.path(), "f", bytes.len() as u64);
    writer(&path)
        .write_all_at(&bytes[1 << 20..][..10_000], 1 << 20)
        .unwrap();
    writer(&path).write_all_at(&bytes[3 << 20..][..100], 3 << 20).unwrap();
    for (start, end) in ranges(bytes.len() as u64) {
        for skip_holes in ["", " --skip-holes"] {
            let line = format!("cat f -r {start}..{end}{skip_holes}");
            gives(dir.path(), &line, &bytes[start as usize..end as usize]);
        }
    }
}

#[test]
fn what_goes_within_the_kernel_does_not_come_through_the_process() {
    let test = "what_goes_within_the_kernel_does_not_come_through_the_process";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    let bytes = noise(8 << 20);
    file(dir.path(), "f", &bytes);
    const CALLS: [&str; 4] = ["copy_file_range", "splice", "pread64", "write"];
    let trace = ["-e", "trace=copy_file_range,splice,pread64,write"];
    let output = straced(dir.path(), &trace, "cat f");
    assert!(output.stdout == bytes);
    // The end of it, as much as the pipe holds, is a copy.
    assert_eq!(traced(dir.path(), &CALLS), ["splice", "write"]);
    let output = straced(dir.path(), &trace, "cat f -n 4K");
    assert!(output.stdout == bytes[..4096]);
    assert_eq!(traced(dir.path(), &CALLS), ["write"]);

    let by = |faults: &[&str]| {
        let out = dir.path().join("out");
        let status = Command::new("strace")
            .current_dir(dir.path())
            .args(["-qq", "-f", "-o", "strace.log"])
            .args(trace)
            .args(faults)
            .args([BINARY, "cat", "f"])
            .stdout(File::create(&out).unwrap())
            .status()
            .unwrap();
        assert!(status.success() && fs::read(out).unwrap() == bytes, "{faults:?}");
        traced(dir.path(), &CALLS)
    };
    // Which of the two depends on the file system.
    let first = by(&[]);
    assert!(
        first == ["copy_file_range"] || first == ["pread64", "write"],
        "{first:?}"
    );
    for error in ["EXDEV", "EINVAL", "EOPNOTSUPP", "ETXTBSY", "ENOSYS", "EINTR"] {
        let copy = format!("inject=copy_file_range:error={error}");
        assert!(
            by(&["-e", &copy]).ends_with(&["pread64".into(), "write".into()]),
            "{error}"
        );
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
    if !strace_works("a_splice_that_is_refused_or_interrupted_loses_nothing") {
        return;
    }
    let dir = scratch();
    let bytes = noise(6 << 20);
    file(dir.path(), "f", &bytes);
    for fault in [
        "EINVAL:when=1",
        "EIO:when=2",
        "ENOMEM:when=3+",
        "EINTR:when=2",
        "EINTR",
        "EAGAIN:when=2",
    ] {
        let output = straced(dir.path(), &["-e", &format!("inject=splice:error={fault}")], "cat f");
        assert!(
            output.stdout == bytes && code(&output) == 0,
            "{fault}: {}",
            stderr(&output)
        );
    }
    let output = straced(dir.path(), &["-e", "inject=fcntl:error=EPERM:when=2+"], "cat f");
    assert!(
        output.stdout == bytes,
        "a pipe that cannot be made larger: {}",
        stderr(&output)
    );
}

#[test]
fn once_cat_has_ended_what_it_wrote_is_no_longer_the_files() {
    let dir = scratch();
    let bytes = noise(4 << 20);
    let path = file(dir.path(), "f", &bytes);
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let mut child = spawnable(dir.path(), &["cat", "f"]).stdout(pipe).spawn().unwrap();
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
    assert!(
        got == bytes,
        "the reader got bytes that were stored after cat had ended"
    );
}

/// Whether a child has slept, rather than waited for a processor, for a fifth of a second.
fn reader_is_stuck(child: &mut std::process::Child) -> bool {
    (0..20).all(|_| {
        std::thread::sleep(Duration::from_millis(10));
        child.try_wait().unwrap().is_none() && support::sleeps(child.id())
    })
}

#[test]
fn a_session_never_lends_pages_that_it_may_change() {
    let dir = scratch();
    let bytes = noise(3 << 20);
    let page = page_size() as usize;
    for what in [
        &["f"][..],
        &["f", "--private"],
        &["--memfd", "-n", "3M"],
        &["--anonymous", "-n", "3M"],
    ] {
        file(dir.path(), "f", &bytes);
        file(dir.path(), "bytes", &bytes);
        let verbs = ["patch -o 0 @bytes", "cat", "patch -o 0 fill:00:3M", "cat -n 1p"];
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let mut args = vec!["-q", "map"];
        args.extend(what);
        args.extend(verbs.iter().flat_map(|verb| ["-c", verb]));
        let mut child = spawnable(dir.path(), &args).stdout(pipe).spawn().unwrap();
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
    file(dir.path(), "f", &bytes[..5 * page - 9]);
    let verbs = ["remap --order reverse", "cat", "patch -o 0 00"];
    let output = session(dir.path(), &verbs);
    let expected = view(&bytes[..5 * page - 9], &[4, 3, 2, 1, 0]);
    assert!(output.stdout == expected, "{}", told(&output));
    for holes in ["cat", "cat --skip-holes"] {
        file(dir.path(), "f", &bytes[..5 * page - 9]);
        let out = File::create(dir.path().join("out")).unwrap();
        let args = ["-q", "map", "f", "-c", "remap --order reverse", "-c", holes];
        assert!(spawnable(dir.path(), &args).stdout(out).status().unwrap().success());
        assert!(fs::read(dir.path().join("out")).unwrap() == expected, "{holes}");
    }
}

#[test]
fn a_private_mapping_goes_into_a_file_with_its_own_bytes() {
    let dir = scratch();
    let bytes = noise(2 << 20);
    file(dir.path(), "f", &bytes);
    for holes in ["cat", "cat --skip-holes"] {
        let out = File::create(dir.path().join("out")).unwrap();
        let args = ["-q", "map", "f", "--private", "-c", "patch -o 1M text:own", "-c", holes];
        assert!(spawnable(dir.path(), &args).stdout(out).status().unwrap().success());
        let mut expected = bytes.clone();
        expected[1 << 20..][..3].copy_from_slice(b"own");
        assert!(fs::read(dir.path().join("out")).unwrap() == expected, "{holes}");
    }
    assert!(fs::read(dir.path().join("f")).unwrap() == bytes);
}

#[test]
fn it_writes_where_the_file_stands_and_appends_where_that_is_asked() {
    let dir = scratch();
    let bytes = noise(3 << 20);
    file(dir.path(), "f", &bytes);
    for holes in ["", " --skip-holes"] {
        let path = file(dir.path(), "out", b"before and after");
        let mut out = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        out.seek(SeekFrom::Start(6)).unwrap();
        let mut behind = out.try_clone().unwrap();
        assert_eq!(code(&into(dir.path(), &format!("cat f{holes}"), out)), 0);
        // As after any write, the next one goes on behind it.
        behind.write_all(b"end").unwrap();
        assert!(
            fs::read(&path).unwrap() == [b"before", &bytes[..], b"end"].concat(),
            "{holes}"
        );

        let path = file(dir.path(), "log", b"first;");
        for _ in 0..2 {
            let log = OpenOptions::new().append(true).open(&path).unwrap();
            assert_eq!(code(&into(dir.path(), &format!("cat f{holes}"), log)), 0);
        }
        assert!(
            fs::read(&path).unwrap() == [b"first;", &bytes[..], &bytes].concat(),
            "{holes}"
        );
    }
    // Onto itself, where the two ranges lie over each other.
    let own = OpenOptions::new().write(true).open(dir.path().join("f")).unwrap();
    assert_eq!(code(&into(dir.path(), "cat f", own)), 0);
    assert!(fs::read(dir.path().join("f")).unwrap() == bytes);
}

#[test]
fn from_one_file_system_to_another_nothing_is_lost() {
    let test = "from_one_file_system_to_another_nothing_is_lost";
    let Some(other) = tmpfs_scratch(test) else { return };
    let dir = scratch();
    let bytes = noise((20 << 20) + 5);
    file(dir.path(), "f", &bytes);
    let out = other.path().join("out");
    assert_eq!(code(&into(dir.path(), "cat f -o 3", File::create(&out).unwrap())), 0);
    assert!(fs::read(&out).unwrap() == bytes[3..]);
    // And within a tmpfs, which has no reflinks.
    file(other.path(), "f", &bytes);
    assert!(into_new(other.path(), "cat f -o 3") == bytes[3..]);
}

#[test]
fn where_a_file_system_has_reflinks_a_copy_takes_no_blocks() {
    let test = "where_a_file_system_has_reflinks_a_copy_takes_no_blocks";
    for (mkfs, mib) in [("mkfs.xfs -q -m reflink=1", 400), ("mkfs.btrfs -q", 256)] {
        let Some(mount) = Mount::image(test, mkfs, mib) else {
            continue;
        };
        let bytes = noise(64 << 20);
        let path = file(mount.path(), "f", &bytes);
        synced(&path);
        let free = || nix::sys::statfs::statfs(mount.path()).unwrap();
        let blocks = |fs: nix::sys::statfs::Statfs| fs.blocks_free() * fs.block_size() as u64;
        let before = blocks(free());
        // More than the file system has room for.
        for copy in 0..12 {
            let out = mount.path().join(format!("copy{copy}"));
            let output = into(mount.path(), "cat f", File::create(&out).unwrap());
            assert_eq!(code(&output), 0, "{mkfs}: {}", stderr(&output));
        }
        synced(&path);
        assert!(before - blocks(free()) < 16 << 20, "{mkfs}");
        assert!(fs::read(mount.path().join("copy11")).unwrap() == bytes, "{mkfs}");
    }
}

#[test]
fn a_full_file_system_is_an_error_of_stdout() {
    let test = "a_full_file_system_is_an_error_of_stdout";
    let Some(small) = Mount::tmpfs(test, "2m") else { return };
    let dir = scratch();
    let bytes = noise(4 << 20);
    file(dir.path(), "f", &bytes);
    let out = small.path().join("out");
    let output = into(dir.path(), "cat f", File::create(&out).unwrap());
    let told = stderr(&output);
    assert!(
        code(&output) == 2 && told.contains("cannot write to stdout") && told.contains("space"),
        "{told}"
    );
    let written = fs::read(out).unwrap();
    assert!(!written.is_empty() && bytes.starts_with(&written));
}

#[test]
fn a_pipe_that_does_not_wait_is_waited_for() {
    let dir = scratch();
    let bytes = noise(4 << 20);
    file(dir.path(), "f", &bytes);
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(pipe.as_fd(), nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    let mut child = spawnable(dir.path(), &["cat", "f"]).stdout(pipe).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(got == bytes);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error_at_any_length() {
    let dir = scratch();
    sparse(dir.path(), "f", 64 << 30);
    for enough in [1, 100_000, 3 << 20] {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let child = spawnable(dir.path(), &["cat", "f"])
            .stdout(pipe)
            .stderr(Stdio::piped())
            .spawn();
        reader.read_exact(&mut vec![1; enough]).unwrap();
        drop(reader);
        let output = child.unwrap().wait_with_output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    }
}

#[test]
fn a_file_cut_short_under_way_into_a_file_is_an_error_with_its_offset() {
    let test = "a_file_cut_short_under_way_into_a_file_is_an_error_with_its_offset";
    let dir = scratch();
    let bytes: Vec<u8> = noise(8 << 20).iter().map(|byte| byte | 1).collect();
    let path = file(dir.path(), "f", &bytes);
    let cut = writer(&path);
    let mut chance = Chance::new();
    let mut seen = 0;
    for round in 1..=races() {
        cut.write_all_at(&bytes, 0).unwrap();
        let line = ["cat f", "cat f --skip-holes"][round as usize % 2];
        let out = dir.path().join("out");
        let child = spawnable(dir.path(), &words(line))
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(chance.within(Duration::from_millis(8)));
        let len = 1 + chance.below(8 << 20);
        cut.set_len(len).unwrap();
        let output = child.wait_with_output().unwrap();
        let (told, written) = (stderr(&output), fs::read(&out).unwrap());
        match code(&output) {
            // It was quicker, or saw the file only as it was afterwards.
            0 => assert!(
                written == bytes || written == bytes[..len as usize],
                "round {round}: {line}"
            ),
            2 => {
                seen += 1;
                assert!(
                    told.contains(&format!("{len:#x}")) && told.contains("truncated"),
                    "round {round}: {told}"
                );
                let right = written.iter().zip(&bytes).all(|(one, other)| one == other || *one == 0);
                assert!(right, "round {round}: {line}: other bytes");
            }
            other => panic!("round {round}: {line}: {other}: {told}"),
        }
    }
    if seen == 0 {
        skip(test, "no truncation came in time to matter");
    }
}

#[test]
fn skip_holes_makes_a_file_as_sparse_as_the_range() {
    let dir = scratch();
    let mib = 1 << 20;
    let path = sparse(dir.path(), "f", 64 * mib + 5);
    let data = noise(mib as usize);
    writer(&path).write_all_at(&data, 32 * mib).unwrap();
    synced(&path);
    if allocated(&path) > 4 * mib {
        return skip("skip_holes_makes_a_file_as_sparse_as_the_range", "no holes here");
    }
    let mut expected = vec![0; 64 * mib as usize + 5];
    expected[32 * mib as usize..][..mib as usize].copy_from_slice(&data);
    let out = dir.path().join("out");
    assert!(into_new(dir.path(), "cat f --skip-holes") == expected);
    synced(&out);
    assert!(allocated(&out) <= 2 * mib, "{} bytes have blocks", allocated(&out));
    // What was there before is not left standing in the holes, and what is behind the range stays.
    fs::write(&out, vec![0xaa; 70 << 20]).unwrap();
    assert_eq!(code(&into(dir.path(), "cat f --skip-holes", writer(&out))), 0);
    let bytes = fs::read(&out).unwrap();
    assert!(bytes.starts_with(&expected) && bytes.len() == 70 << 20);
    assert!(bytes[expected.len()..].iter().all(|byte| *byte == 0xaa));
    if strace_works("skip_holes over old bytes where no hole can be punched") {
        fs::write(&out, vec![0xaa; 66 << 20]).unwrap();
        let status = Command::new("strace")
            .current_dir(dir.path())
            .args(["-qq", "-o", "/dev/null", "-e", "inject=fallocate:error=EOPNOTSUPP"])
            .args([BINARY, "cat", "f", "--skip-holes"])
            .stdout(writer(&out))
            .status();
        assert!(status.unwrap().success());
        assert!(fs::read(&out).unwrap().starts_with(&expected));
    }
    // A terabyte of nothing.
    sparse(dir.path(), "hole", 1 << 40);
    let output = into(dir.path(), "cat hole -n 1T --skip-holes", File::create(&out).unwrap());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!((fs::metadata(&out).unwrap().len(), allocated(&out)), (1 << 40, 0));
}

#[test]
fn skip_holes_is_refused_where_the_bytes_are_not_raw() {
    let dir = scratch();
    file(dir.path(), "f", b"12345678");
    for line in ["cat f --skip-holes -x", "cat f --skip-holes -f plain"] {
        let said = refused(dir.path(), line, b"");
        assert!(said.contains("raw"), "{said}");
    }
    let output = mmapctl(dir.path(), &["cat", "f", "--skip-holes", "--json"])
        .output()
        .unwrap();
    assert!(code(&output) == 2 && output.stdout.is_empty(), "{}", told(&output));
    assert!(
        stderr(&output).contains("--skip-holes is for raw"),
        "{}",
        stderr(&output)
    );
    let said = run(dir.path(), "cat f --skip-holes --access 4");
    assert!(
        said.contains("cannot be used with") && said.ends_with("exit 2"),
        "{said}"
    );
    assert_eq!(
        run(dir.path(), "cat f --skip-holes -f raw"),
        "12345678(no newline)\nexit 0"
    );
}

#[test]
fn a_block_device_comes_out_as_its_image() {
    let test = "a_block_device_comes_out_as_its_image";
    if !support::is_root() || !has(test, "losetup") {
        return skip(test, "a loop device takes root");
    }
    let dir = scratch();
    let bytes = noise(6 << 20);
    let path = file(dir.path(), "image", &bytes);
    let made = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&path)
        .output()
        .unwrap();
    if !made.status.success() {
        return skip(test, "no loop device is to be had");
    }
    let device = String::from_utf8(made.stdout).unwrap().trim().to_string();
    let piped = mmapctl(dir.path(), &["cat", &device]).output().unwrap();
    let out = File::create(dir.path().join("out")).unwrap();
    let filed = into(dir.path(), &format!("cat {device}"), out);
    let detached = Command::new("losetup").args(["-d", &device]).status().unwrap();
    assert!(detached.success());
    assert!(piped.stdout == bytes && code(&piped) == 0, "{}", stderr(&piped));
    assert_eq!(code(&filed), 0, "{}", stderr(&filed));
    assert!(fs::read(dir.path().join("out")).unwrap() == bytes);
}

#[test]
fn a_file_is_not_written_out_to_itself() {
    let dir = scratch();
    let bytes = noise(10_000);
    let path = file(dir.path(), "f", &bytes);
    file(dir.path(), "other", &noise(10_000));
    fs::hard_link(&path, dir.path().join("link")).unwrap();
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
        let text = told(&into(dir.path(), line, out));
        assert!(
            text.contains("input file is output file") && text.ends_with("exit 2"),
            "{line}: {text}"
        );
        assert!(fs::read(&path).unwrap() == bytes, "{line}");
    }
    let session = |lines: [&str; 2]| {
        let out = File::options().append(true).open(&path).unwrap();
        let mut command = spawnable(dir.path(), &["map", "f", "-q", "-c", lines[0], "-c", lines[1]]);
        told(&command.stdout(out).output().unwrap())
    };
    let text = session(["patch -o 0 00", "cat -r 0..16"]);
    assert!(
        text.contains("-c 2: input file is output file") && text.ends_with("exit 2"),
        "{text}"
    );
    assert!(fs::read(&path).unwrap()[1..] == bytes[1..]);
    // Over itself, as with '1<> f', but further on than what is read, and as text, which is longer.
    for (line, at) in [("cat f", 1), ("cat f -o 16", 17), ("cat f -x", 0)] {
        let mut out = OpenOptions::new().write(true).open(&path).unwrap();
        out.seek(SeekFrom::Start(at)).unwrap();
        let text = told(&into(dir.path(), line, out));
        assert!(
            text.contains("input file is output file") && text.ends_with("exit 2"),
            "{line}: {text}"
        );
        assert!(fs::read(&path).unwrap()[1..] == bytes[1..], "{line}");
    }
    // Nothing is written of nothing, and to another file everything.
    let out = File::options().append(true).open(&path).unwrap();
    assert_eq!(told(&into(dir.path(), "cat f -r 16..16", out)), "exit 0");
    let out = File::options().append(true).open(dir.path().join("other")).unwrap();
    assert_eq!(told(&into(dir.path(), "cat f", out)), "exit 0");
    assert_eq!(fs::metadata(dir.path().join("other")).unwrap().len(), 20_000);
}
