//! What `patch` refuses: soon, with a message and a tip, and without touching the file.

use crate::support::*;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn places_past_the_end_and_ambiguous_numbers_are_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    for line in [
        "patch f -o 64 00",
        "patch f -o 63 0000",
        "patch f -o 65 00",
        "patch f -o 0x7fffffffffffffff 00",
        "patch f -o 0xffffffffffffffff 00",
        "patch f -o -65 00",
        "patch f -o end+1 00",
        "patch f -r 0..65 zero:65",
        "patch f -r 60..+5 zero:5",
        "patch f -r 65.. 00",
        "patch f -r 8..4 00",
        "patch f -o 0 zero:65",
        "patch f -o 0 zero:1T",
        "patch f -o 0 zero:0xffffffffffffffff zero:0xffffffffffffffff",
        "patch f -o 0 abc",
        "patch f -o 0 0x1234",
        "patch f -o 0 u32:1",
        "patch f -o 0 u8:256",
        "patch f -o 0 V1.2",
        "patch f -o 020 00",
        "patch f -o 00000010 00",
        "patch f -o 0x10K 00",
        "patch f -o 1b 00",
        "patch f -o 1.5K 00",
        "patch f -o 1e1 00",
        "patch f -r 0x0:16 00",
        "patch f -r 0x0-0x10 00",
        "patch f 00",
        "patch f -o 0 --expect abc 00",
    ] {
        dir.refused_untouched(line);
    }
}

#[test]
fn a_place_past_the_end_is_refused_with_length_and_tip() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    dir.refused("patch f -o 62 aabbcc").is("! error: f: cannot write 0x3e..0x41: the file ends at 0x40 (64 bytes)\n\
         !   tip: 'stat f' shows its length; patch --grow lets edits reach past the end, and remap --size moves the end\n\
         exit 2");
}

#[test]
fn what_cannot_be_mapped_or_is_not_there_is_refused_soon() {
    let dir = Sandbox::new();
    fs::create_dir(dir.join("folder")).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    dir.file("empty", "");
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
    for (name, words) in [
        ("folder", "it is a directory"),
        ("fifo", "it is a FIFO"),
        ("socket", "it is a socket"),
        ("missing", "No such file or directory"),
        ("dangling", "No such file or directory"),
        ("missing/f", "No such file or directory"),
        ("empty", "the file ends at 0x0"),
        ("/dev/null", "it is a character device"),
        ("/dev/zero", "/dev/zero: "),
        ("/proc/version", "/proc/version: "),
    ] {
        dir.refused(&format!("patch {name} -o 0 00")).has(words);
    }
    assert!(!dir.join("missing").exists() && !dir.join("nowhere").exists());
    assert_eq!(fs::metadata(dir.join("empty")).unwrap().len(), 0);
}

#[test]
fn input_that_is_empty_or_too_long_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [9; 64]);
    dir.file("empty", "");
    dir.refused_untouched("patch f -o 0");
    dir.refused_untouched("patch f -o 0 @-");
    dir.refused_untouched("patch f -o 0 @empty");
    dir.refused_untouched_fed("patch f -o 60", b"12345");
    dir.refused_untouched("patch f -o 60 @f");
    dir.refused_untouched("patch f -o 0 @/dev/zero");
}

#[test]
fn an_endless_input_is_refused_as_soon_as_it_is_too_long() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(1 << 20));
    let before = State::of(&path);
    let mut command = dir.command(&["patch", "f", "-o", "0"]);
    let mut child = command
        .stdin(File::open("/dev/zero").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if !eventually(|| child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        panic!("it reads on and on");
    }
    child.outcome().is_refusal();
    assert_eq!(State::of(&path), before);
}

#[test]
fn too_many_old_bytes_are_refused_before_they_are_read() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 16]);
    let before = State::of(&path);
    let most = "0xffffffffffffffff";
    for (args, words) in [
        (&["-o", "0", "--expect", "zero:700M", "00"][..], "734003200 bytes expected"),
        (&["-e", &format!("0: zero:{most} -> 02")], "bytes expected, but 1 byte"),
        (&["-e", "0: zero:700M zero:1 u8:0/1 -> 02"], "734003202 bytes expected"),
        (&["-e", &format!("0: zero:{most} zero:{most} -> 02")], "bytes expected"),
        (&["-e", &format!("0: 02 -> zero:{most}"), "--reverse"], "bytes expected, but 1 byte"),
        (&["-e", "0: @/dev/zero -> 02"], "2 bytes expected, but 1 byte"),
        (&["-e", "0: 00 @/dev/zero -> 0203"], "3 bytes expected, but 2 bytes"),
        (
            &["-r", "0xf..0xffffffffffffffff", "fill:00:0xfffffffffffffff0", "--grow"],
            "cannot write 0xf..0xffffffffffffffff",
        ),
        (&["-o", "end", "zero:4096T", "zero:1", "--grow"], "no room"),
    ] {
        let args = [&["patch", "f"], args].concat();
        // In so little memory that they have no room, with the files after it no longer than a megabyte.
        let output = dir.limited("-v 300000 && ulimit -f 2000", &args).outcome();
        let text = output.is_refusal();
        assert!(text.contains(words), "{args:?}: {text}");
        assert_eq!(State::of(&path), before);
    }
}

#[test]
fn a_folder_or_nothing_behind_an_at_sign_is_refused_with_a_tip() {
    let dir = Sandbox::new();
    dir.file("f", [9; 64]);
    fs::create_dir(dir.join("folder")).unwrap();
    dir.refused_untouched("patch f -o 0 @folder").has("folder: ");
    dir.refused_untouched("patch f -o 0 @missing").has("missing: cannot open it: No such file");
}

#[test]
fn a_read_only_file_is_refused_even_to_root_unless_forced() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8]);
    set_mode(&path, 0o444);
    dir.refused_untouched("patch f -o 0 01");
    if is_root() {
        // If the bit is cleared then, a line of its own says so: see rights.rs.
        dir.run("patch f -o 0 01 --force").code(0).begins("f: 1 byte of 0x0..0x1 changed\n");
        assert_eq!(read(path)[0], 1);
    } else {
        // --force is not sudo.
        dir.refused_untouched("patch f -o 0 01 --force");
    }
}

#[test]
fn a_set_uid_file_is_refused_unless_forced() {
    let dir = Sandbox::new();
    for mode in [0o4755, 0o2755] {
        let path = dir.file("f", [0; 8]);
        set_mode(&path, mode);
        if fs::metadata(&path).unwrap().permissions().mode() & 0o6000 == 0 {
            skip("the bit does not stick here");
            continue;
        }
        dir.refused_untouched("patch f -o 0 01").has("set-user-ID");
        let text = dir.run("patch f -o 0 01 --force");
        let dropped = "  dropped     set-ID bits, as write(2) does\n";
        assert_eq!(text.replace(dropped, ""), "f: 1 byte of 0x0..0x1 changed\nexit 0");
        // root may keep them.
        assert_eq!(text.contains(dropped), !is_root(), "{text}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_symlink_to_a_file_is_followed() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8]);
    std::os::unix::fs::symlink("f", dir.join("link")).unwrap();
    dir.run("patch link -o 0 01").is("link: 1 byte of 0x0..0x1 changed\nexit 0");
    assert_eq!(read(path)[0], 1);
    assert!(dir.join("link").is_symlink());
}

#[test]
fn a_lock_held_by_another_process_is_refused_after_the_timeout() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8]);
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    let begin = Instant::now();
    let text = dir.refused_untouched("patch f -o 0 01 --lock-timeout 100ms");
    assert!(begin.elapsed() >= Duration::from_millis(100), "{:?}", begin.elapsed());
    text.has("another process holds a lock");
}

#[test]
fn a_lock_released_in_time_is_waited_for() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8]);
    let holder = File::open(&path).unwrap();
    holder.lock().unwrap();
    let mut child = dir.command(&["patch", "f", "-o", "0", "01", "-q", "--lock-timeout", "180s"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    assert_eq!(read(&path), [0; 8]);
    holder.unlock().unwrap();
    assert!(eventually(|| child.try_wait().unwrap().is_some()), "it waits on");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(read(&path)[0], 1);
}
