//! What a program finds when it starts, and is to make the best of: descriptors that are closed, signals that are ignored.

use crate::support::{BINARY, eventually, file, noise, scratch, spawnable, told};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs mmapctl with a shell's redirections, such as `>&-`.
fn redirected(dir: &Path, args: &[&str], redirections: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {redirections}"), "sh", BINARY]);
    shell.args(args).current_dir(dir).env("LC_ALL", "C");
    shell.output().expect("a shell runs")
}

#[test]
fn output_for_a_closed_stdout_is_not_lost_in_silence() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100_000));
    for args in [
        &["cat", "f"][..],
        &["cat", "f", "-x"],
        &["cat", "f", "-f", "xxd"],
        &["cat", "f", "--json"],
        &["map", "f"],
        &["map", "f", "--json"],
        &["sync", "f"],
        &["--help"],
        &["map", "--help"],
        &["--version"],
    ] {
        let output = redirected(dir.path(), args, ">&-");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", told(&output));
        let told = told(&output);
        let says = told.contains("cannot write to stdout: Bad file") && told.contains("EBADF");
        assert!(says, "{args:?}: {told}");
        let tip = told.contains("tip: stdout is not open for writing: send the report somewhere");
        assert_eq!(
            tip,
            ["map", "sync"].contains(&args[0]) && args.len() == 2 && args[1] == "f",
            "{told}"
        );
    }
    let quiet = redirected(dir.path(), &["map", "-q", "f"], ">&-");
    assert_eq!(told(&quiet), "exit 0");
}

#[test]
fn a_change_that_cannot_be_told_is_code_3_and_the_file_has_no_message_in_it() {
    let dir = scratch();
    for (redirections, code) in [
        (">&-", 3),
        ("<&- >&- 2>&-", 3),
        ("<&-", 0),
        ("2>&-", 0),
        ("<&- 2>&-", 0),
        (">/dev/full", 3),
    ] {
        let path = file(dir.path(), "f", &[b'.'; 5000]);
        let output = redirected(dir.path(), &["patch", "f", "-o", "0", "text:new"], redirections);
        assert_eq!(output.status.code(), Some(code), "{redirections}: {}", told(&output));
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 5000 && bytes.starts_with(b"new..."), "{redirections}");
        assert!(bytes[3..].iter().all(|byte| *byte == b'.'), "{redirections}");
        // An error, where there is nobody to hear it.
        let output = redirected(dir.path(), &["patch", "f", "-o", "9000", "77"], redirections);
        assert_eq!(output.status.code(), Some(2), "{redirections}: {}", told(&output));
        assert_eq!(fs::read(&path).unwrap(), bytes, "{redirections}");
    }
}

#[test]
fn children_have_no_file_of_theirs_where_a_descriptor_was_closed() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[b'.'; 5000]);
    // A child that opens the file, and complains.
    let child = "exec 9<>\"$MMAPCTL_PATH\"; readlink /proc/self/fd/2 >seen; echo warning >&2";
    for redirections in ["2>&-", "<&- >&- 2>&-"] {
        redirected(dir.path(), &["map", "-q", "f", "--", "sh", "-c", child], redirections);
        assert_eq!(
            fs::read_to_string(dir.path().join("seen")).unwrap(),
            "/dev/null\n",
            "{redirections}"
        );
        assert_eq!(fs::read(&path).unwrap(), [b'.'; 5000], "{redirections}");
    }
}

#[test]
fn a_closed_stdin_is_empty() {
    let dir = scratch();
    let path = file(dir.path(), "f", &[b'.'; 100]);
    let output = redirected(dir.path(), &["patch", "f", "-o", "0", "@-"], "<&-");
    assert!(told(&output).contains("the input is empty"), "{}", told(&output));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(path).unwrap(), [b'.'; 100]);
}

#[test]
fn a_pipe_without_readers_does_not_kill_it_and_kills_its_children() {
    let dir = scratch();
    file(dir.path(), "f", &noise(4 << 20));
    let mut cat = spawnable(dir.path(), &["cat", "f", "-f", "xxd"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cat.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    assert!(eventually(|| cat.try_wait().unwrap().is_some()));
    assert_eq!(cat.wait().unwrap().code(), Some(0));
    // SIGPIPE is signal 13.
    let mut child = spawnable(dir.path(), &["map", "f", "--", "grep", "SigIgn", "/proc/self/status"]);
    let status = String::from_utf8(child.stdout(Stdio::piped()).output().unwrap().stdout).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap_or_default().trim(), 16).unwrap();
    assert_eq!(ignored >> 12 & 1, 0, "{status}");
}
