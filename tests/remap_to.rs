//! `remap --order LIST --to`, as its users see it: views written out, and what may come in between.

use crate::support;
use crate::support::faults::{strace_works, straced};
use crate::support::views::{session_with, view};
use crate::support::{
    BINARY, Mount, State, file, mmapctl, noise, page_size, peer, refused, refused_without_touching, report, run,
    scratch, skip, sparse, told,
};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

#[test]
fn to_writes_the_view_to_a_new_file_or_stdout() {
    let dir = scratch();
    let page = page_size() as usize;
    let bytes = noise(700 * page - 100);
    let path = file(dir.path(), "f", &bytes);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let before = State::of(&path);
    let reverse: Vec<usize> = (0..700).rev().collect();
    let scattered: Vec<usize> = (0..2000).map(|n| n * 7919 % 700).collect();
    let list: Vec<String> = scattered.iter().map(usize::to_string).collect();
    file(dir.path(), "list", list.join("\n").as_bytes());
    // Long enough for a copy within the kernel, and odd places around it.
    let long: Vec<usize> = [699, 5].into_iter().chain(1..650).chain([0, 699]).collect();
    for (order, expected) in [
        ("reverse", &reverse),
        ("@list", &scattered),
        ("699,5,1..650,0,699", &long),
    ] {
        let told = report(dir.path(), &format!("remap f --order {order} --to out"));
        let expected = view(&bytes, expected);
        let out = dir.path().join("out");
        assert!(fs::read(&out).unwrap() == expected, "{order}");
        assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            (&told["length"], &told["to"]),
            (&expected.len().into(), &"out".into()),
            "{told}"
        );
        assert!(
            told.get("kernel_mappings").is_none() && told["changed"] == false,
            "{told}"
        );
        let output = mmapctl(dir.path(), &["remap", "f", "--order", order, "--to", "-"])
            .output()
            .unwrap();
        assert!(output.stdout == expected, "{order}");
        fs::remove_file(out).unwrap();
    }
    assert!(State::of(&path) == before);
}

#[test]
fn to_writes_what_a_private_mapping_or_memory_holds() {
    let dir = scratch();
    let page = page_size() as usize;
    let mut bytes = noise(3 * page);
    file(dir.path(), "f", &bytes);
    bytes[page] = b'X';
    let output = session_with(
        dir.path(),
        &["f", "--private"],
        &["patch -o 1p text:X", "remap --order reverse --to out"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(fs::read(dir.path().join("out")).unwrap() == view(&bytes, &[2, 1, 0]));
    let output = session_with(
        dir.path(),
        &["--anonymous", "-n", "2p"],
        &["patch -o 1p text:X", "remap --order 1,0 --to -"],
    );
    assert!(
        output.stdout[0] == b'X' && output.stdout.len() == 2 * page,
        "{}",
        told(&output)
    );
}

#[test]
fn to_is_refused_beside_a_size_and_a_lost_report_says_what_was_made() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
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
        let told = support::told(&support::mmapctl(dir.path(), &args).output().unwrap());
        assert!(told.ends_with("exit 2"), "{line}: {told}");
        assert!(fs::read(dir.path().join("f")).unwrap() == noise(10_000), "{line}");
        assert!(!dir.path().join("out").exists(), "{line}");
    }
    let args = ["remap", "f", "--order", "reverse", "--to", "out"];
    let told = support::told(&support::into_full(dir.path(), &args));
    assert!(told.contains("'out' was written") && told.ends_with("exit 3"), "{told}");
    assert!(dir.path().join("out").exists());
}

#[test]
fn to_never_writes_over_a_file_that_is_there() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(2 * page_size() as usize));
    let other = file(dir.path(), "other", b"mine");
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    for to in ["f", "./f", "other", "link", "no/such/folder", "."] {
        refused_without_touching(dir.path(), &format!("remap f --order reverse --to {to}"), b"");
    }
    refused_without_touching(dir.path(), "remap f --order 9 --to new", b"");
    assert!(run(dir.path(), "--json remap f --order 0 --to -").ends_with("exit 2"));
    assert!(fs::read(other).unwrap() == b"mine" && !dir.path().join("new").exists() && path.exists());
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn holes_of_the_file_are_holes_of_what_is_written() {
    let dir = scratch();
    let page = page_size();
    let path = sparse(dir.path(), "f", 64 << 20);
    let source = fs::File::options().write(true).open(&path).unwrap();
    source.write_all_at(&noise(page as usize), 5 * page).unwrap();
    source.write_all_at(&noise(3 << 20), 32 << 20).unwrap();
    let bytes = fs::read(&path).unwrap();
    if fs::metadata(&path).unwrap().blocks() * 512 > 8 << 20 {
        return skip(
            "holes_of_the_file_are_holes_of_what_is_written",
            "the file system has no holes",
        );
    }
    let reverse: Vec<usize> = (0..bytes.len() / page as usize).rev().collect();
    for (order, expected) in [("reverse", view(&bytes, &reverse)), ("linear", bytes.clone())] {
        run(dir.path(), &format!("remap f --order {order} --to out"));
        let out = dir.path().join("out");
        assert!(fs::read(&out).unwrap() == expected, "{order}");
        let allocated = fs::metadata(&out).unwrap().blocks() * 512;
        assert!(allocated < 8 << 20, "{order}: {allocated}");
        fs::remove_file(out).unwrap();
    }
}

#[test]
fn a_full_disk_takes_the_new_file_away_again() {
    let Some(mount) = Mount::tmpfs("a_full_disk_takes_the_new_file_away_again", "1m") else {
        return;
    };
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(2 << 20));
    let before = State::of(&path);
    let out = mount.path().join("out");
    for order in ["reverse", "linear"] {
        let text = refused(
            dir.path(),
            &format!("remap f --order {order} --to {}", out.display()),
            b"",
        );
        assert!(
            text.contains("ENOSPC")
                && text.contains("was not made")
                && fs::read_dir(mount.path()).unwrap().count() == 0,
            "{text}"
        );
    }
    assert!(State::of(&path) == before);
}

#[test]
fn a_file_cut_short_while_it_is_written_out_is_an_error_with_an_offset() {
    use std::io::Read;
    let dir = scratch();
    let len = 64 << 20;
    let path = file(dir.path(), "f", &noise(len));
    let mut child = support::spawnable(dir.path(), &["remap", "f", "--order", "reverse", "--to", "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is full, so it waits for us.
    let mut first = vec![0; 4096];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("! error: f: cannot read 0x") && text.contains("it now ends at 0x3e8"),
        "{text}"
    );
}

#[test]
fn an_interrupted_writing_out_leaves_no_file() {
    let test = "an_interrupted_writing_out_leaves_no_file";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    file(dir.path(), "f", &noise(4 << 20));
    let inject = ["-e", "inject=pwrite64:signal=TERM:when=2"];
    let text = told(&straced(dir.path(), &inject, "remap f --order reverse --to out"));
    assert!(
        text.contains("interrupted by SIGTERM") && text.ends_with("signal 15"),
        "{text}"
    );
    assert_eq!(names(dir.path()), ["f", "strace.log"]);
}

/// What is in a folder, in alphabetical order.
fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_has_its_name_only_when_it_is_whole() {
    let test = "a_new_file_has_its_name_only_when_it_is_whole";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    let bytes = noise(4 << 20);
    file(dir.path(), "f", &bytes);
    let killed = ["-e", "inject=pwrite64:signal=KILL:when=9"];
    let text = told(&straced(dir.path(), &killed, "remap f --order reverse --to out"));
    assert!(text.ends_with("signal 9"), "{text}");
    assert!(!dir.path().join("out").exists());
    // Not even a temporary name is left of it.
    assert!(names(dir.path()).iter().all(|name| !name.starts_with(".mmapctl-")));
    let refused = ["-e", "inject=link,linkat,rename,renameat,renameat2:error=EIO"];
    let text = told(&straced(dir.path(), &refused, "remap f --order linear --to other"));
    assert!(
        text.contains("! error: f: cannot write 'other', which was not made") && text.ends_with("exit 2"),
        "{text}"
    );
    assert!(!dir.path().join("other").exists());
    assert!(names(dir.path()).iter().all(|name| !name.starts_with(".mmapctl-")));
}

#[test]
fn a_reader_that_has_seen_enough_of_a_view_is_no_error() {
    let dir = scratch();
    file(dir.path(), "f", &noise(8 << 20));
    let script = "\"$0\" remap f --order reverse --to - | head -c 10 | wc -c; ";
    let output = std::process::Command::new("bash")
        .current_dir(dir.path())
        .args(["-c", &format!("set -o pipefail; {script}"), BINARY])
        .output();
    let Ok(output) = output else {
        return skip(
            "a_reader_that_has_seen_enough_of_a_view_is_no_error",
            "bash is not installed",
        );
    };
    assert_eq!(told(&output).trim_start(), "10\nexit 0");
}

#[test]
fn long_pieces_are_reflinks_where_the_file_system_has_them() {
    let test = "long_pieces_are_reflinks_where_the_file_system_has_them";
    let Some(mount) = Mount::image(test, "mkfs.xfs -q -m reflink=1", 320) else {
        return;
    };
    let bytes = noise(64 << 20);
    file(mount.path(), "f", &bytes);
    peer(mount.path(), "sync", &["-f", "."]);
    let free = || nix::sys::statfs::statfs(mount.path()).unwrap().blocks_available();
    let before = free();
    run(mount.path(), "remap f --order reverse --unit 1024 --to out");
    peer(mount.path(), "sync", &["-f", "."]);
    let taken = before.saturating_sub(free()) * 4096;
    let unit = 1024 * page_size() as usize;
    let expected: Vec<u8> = bytes.chunks(unit).rev().flatten().copied().collect();
    assert!(fs::read(mount.path().join("out")).unwrap() == expected);
    assert!(taken < 8 << 20, "{taken} bytes of blocks were taken");
}
