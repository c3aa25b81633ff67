//! `remap --order LIST --to`, as its users see it: views written out, and what may come in between.

use crate::support::strace::*;
use crate::support::views::view;
use crate::support::*;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

#[test]
fn to_writes_the_view_to_a_new_file_or_stdout() {
    let dir = Sandbox::new();
    let page = page_size() as usize;
    let bytes = noise(700 * page - 100);
    let path = dir.file("f", &bytes);
    set_mode(&path, 0o600);
    let before = State::of(&path);
    let reverse: Vec<usize> = (0..700).rev().collect();
    let scattered: Vec<usize> = (0..2000).map(|n| n * 7919 % 700).collect();
    let list: Vec<String> = scattered.iter().map(usize::to_string).collect();
    dir.file("list", list.join("\n").as_bytes());
    // Long enough for a copy within the kernel, and odd places around it.
    let long: Vec<usize> = [699, 5].into_iter().chain(1..650).chain([0, 699]).collect();
    for (order, expected) in [
        ("reverse", &reverse),
        ("@list", &scattered),
        ("699,5,1..650,0,699", &long),
    ] {
        let report = dir.report(&format!("remap f --order {order} --to out"));
        let expected = view(&bytes, expected);
        let out = dir.join("out");
        assert!(read(&out) == expected, "{order}");
        assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o600);
        assert_eq!(report["length"], expected.len(), "{report}");
        assert_eq!(report["to"], "out", "{report}");
        assert!(report.get("kernel_mappings").is_none() && report["changed"] == false, "{report}");
        let output = dir.mmapctl(&["remap", "f", "--order", order, "--to", "-"]);
        assert!(output.stdout == expected, "{order}");
        fs::remove_file(out).unwrap();
    }
    assert!(State::of(&path) == before);
}

#[test]
fn to_writes_what_a_private_mapping_or_memory_holds() {
    let dir = Sandbox::new();
    let page = page_size() as usize;
    let mut bytes = noise(3 * page);
    dir.file("f", &bytes);
    bytes[page] = b'X';
    dir.session("f --private -q", &["patch -o 1p text:X", "remap --order reverse --to out"]).code(0);
    assert!(dir.read("out") == view(&bytes, &[2, 1, 0]));
    let output = dir.session("--anonymous -n 2p -q", &["patch -o 1p text:X", "remap --order 1,0 --to -"]);
    assert!(output.stdout[0] == b'X' && output.stdout.len() == 2 * page, "{}", output);
}

#[test]
fn to_is_refused_with_a_size_and_a_lost_report_is_explained() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    for line in [
        "remap f --size 4K --to out",
        "remap f --size 100 --to -",
        "remap f --size 4K --unit 2",
        "map f -c 'remap --size 4K --method mmap'",
        "map f -c 'remap --order reverse --sparse'",
        "map f -c 'remap --order reverse --keep-file'",
        "map f -c 'remap --dont-unmap --no-move'",
        "map f -c 'remap --size +4K --keep-file --sparse'",
    ] {
        let args = shell_words::split(line).unwrap();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let text = dir.mmapctl(&args);
        assert!(text.ends_with("exit 2"), "{line}: {text}");
        assert!(dir.read("f") == noise(10_000), "{line}");
        assert!(!dir.join("out").exists(), "{line}");
    }
    let args = ["remap", "f", "--order", "reverse", "--to", "out"];
    dir.mmapctl_into_full(&args).code(3).has("'out' was written");
    assert!(dir.join("out").exists());
}

#[test]
fn to_never_writes_over_a_file_that_is_there() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(2 * page_size() as usize));
    let other = dir.file("other", b"mine");
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    for to in ["f", "./f", "other", "link", "no/such/folder", "."] {
        dir.refused_untouched(&format!("remap f --order reverse --to {to}"));
    }
    dir.refused_untouched("remap f --order 9 --to new");
    dir.run("--json remap f --order 0 --to -").code(2);
    assert!(read(other) == b"mine" && !dir.join("new").exists() && path.exists());
    assert!(!dir.join("nowhere").exists());
}

#[test]
fn holes_of_the_file_are_holes_of_what_is_written() {
    let dir = Sandbox::new();
    let page = page_size();
    let path = dir.sparse("f", 64 << 20);
    let source = writer(&path);
    source.write_all_at(&noise(page as usize), 5 * page).unwrap();
    source.write_all_at(&noise(3 << 20), 32 << 20).unwrap();
    let bytes = read(&path);
    if fs::metadata(&path).unwrap().blocks() * 512 > 8 << 20 {
        return skip("the file system has no holes");
    }
    let reverse: Vec<usize> = (0..bytes.len() / page as usize).rev().collect();
    for (order, expected) in [("reverse", view(&bytes, &reverse)), ("linear", bytes.clone())] {
        dir.run(&format!("remap f --order {order} --to out"));
        let out = dir.join("out");
        assert!(read(&out) == expected, "{order}");
        let allocated = fs::metadata(&out).unwrap().blocks() * 512;
        assert!(allocated < 8 << 20, "{order}: {allocated}");
        fs::remove_file(out).unwrap();
    }
}

#[test]
fn a_full_disk_takes_the_new_file_away_again() {
    needs!(let mount = Mount::tmpfs("1m"));
    let dir = Sandbox::new();
    let path = dir.file("f", noise(2 << 20));
    let before = State::of(&path);
    let out = mount.join("out");
    for order in ["reverse", "linear"] {
        let text = dir.refused(&format!("remap f --order {order} --to {}", out.display()));
        assert!(
            text.contains("ENOSPC") && text.contains("was not made") && fs::read_dir(&mount).unwrap().count() == 0,
            "{text}"
        );
    }
    assert!(State::of(&path) == before);
}

#[test]
fn a_truncation_while_writing_out_is_an_error_with_an_offset() {
    use std::io::Read;
    let dir = Sandbox::new();
    let len = 64 << 20;
    let path = dir.file("f", noise(len));
    let mut child = dir
        .command(&["remap", "f", "--order", "reverse", "--to", "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is full, so it waits for us.
    let mut first = vec![0; 4096];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    writer(&path).set_len(1000).unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let output = child.outcome();
    let text = &output;
    assert_eq!(output.status.code(), Some(2), "{text}");
    text.has("! error: f: cannot read 0x").has("it now ends at 0x3e8");
}

#[test]
fn an_interrupted_writing_out_leaves_no_file() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(4 << 20));
    let inject = ["pwrite64:signal=TERM:when=2"];
    dir.inject(&inject, "remap f --order reverse --to out")
        .has("interrupted by SIGTERM")
        .ends("signal 15");
    assert_eq!(names(&dir), ["f", "strace.log"]);
}

/// What is in a folder, in alphabetical order.
fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_file_has_its_name_only_when_it_is_whole() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let bytes = noise(4 << 20);
    dir.file("f", &bytes);
    let killed = ["pwrite64:signal=KILL:when=9"];
    dir.inject(&killed, "remap f --order reverse --to out").ends("signal 9");
    assert!(!dir.join("out").exists());
    // Not even a temporary name is left of it.
    assert!(names(&dir).iter().all(|name| !name.starts_with(".mmapctl-")));
    let refused = ["link,linkat,rename,renameat,renameat2:error=EIO"];
    dir.inject(&refused, "remap f --order linear --to other")
        .code(2)
        .has("! error: f: cannot write 'other', which was not made");
    assert!(!dir.join("other").exists());
    assert!(names(&dir).iter().all(|name| !name.starts_with(".mmapctl-")));
}

#[test]
fn a_reader_that_has_seen_enough_of_a_view_is_no_error() {
    let dir = Sandbox::new();
    dir.file("f", noise(8 << 20));
    let script = "\"$0\" remap f --order reverse --to - | head -c 10 | wc -c; ";
    needs!(has("bash"));
    let output = dir.program("bash", &["-c", &format!("set -o pipefail; {script}"), BINARY]).outcome();
    assert_eq!(output.trim_start(), "10\nexit 0");
}

#[test]
fn long_pieces_are_reflinks_where_the_file_system_has_them() {
    needs!(let mount = Mount::image("mkfs.xfs -q -m reflink=1", 320));
    let bytes = noise(64 << 20);
    mount.file("f", &bytes);
    mount.peer("sync", &["-f", "."]);
    let free = || nix::sys::statfs::statfs(&**mount).unwrap().blocks_available();
    let before = free();
    mount.run("remap f --order reverse --unit 1024 --to out");
    mount.peer("sync", &["-f", "."]);
    let taken = before.saturating_sub(free()) * 4096;
    let unit = 1024 * page_size() as usize;
    let expected: Vec<u8> = bytes.chunks(unit).rev().flatten().copied().collect();
    assert!(mount.read("out") == expected);
    assert!(taken < 8 << 20, "{taken} bytes of blocks were taken");
}

#[test]
fn a_session_on_a_part_writes_the_whole_file_in_another_order() {
    let dir = Sandbox::new();
    let bytes = noise(16 * page_size() as usize);
    dir.file("f", &bytes);
    dir.session("f -q -r 0..1p", &["remap --order reverse --to out"]).code(0);
    let reversed: Vec<u8> = bytes.rchunks(page_size() as usize).flatten().copied().collect();
    assert!(dir.read("out") == reversed && dir.read("f") == bytes);
}
