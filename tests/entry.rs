//! What a program may find when it starts: closed descriptors and ignored signals.

use crate::support::*;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

/// Runs mmapctl with a shell's redirections, such as `>&-`.
fn redirected(dir: &Sandbox, args: &[&str], redirections: &str) -> Outcome {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {redirections}"), "sh", BINARY]);
    shell.args(args).current_dir(dir).env("LC_ALL", "C");
    shell.outcome()
}

#[test]
fn output_for_a_closed_stdout_is_not_lost_in_silence() {
    let dir = Sandbox::new();
    dir.file("f", noise(100_000));
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
        let output = redirected(&dir, args, ">&-");
        output.code(2);
        let text = &output;
        let says = text.contains("cannot write to stdout: Bad file") && text.contains("EBADF");
        assert!(says, "{args:?}: {text}");
        let tip = text.contains("tip: stdout is not open for writing: redirect the report");
        assert_eq!(tip, ["map", "sync"].contains(&args[0]) && args.len() == 2 && args[1] == "f", "{text}");
    }
    redirected(&dir, &["map", "-q", "f"], ">&-").is("exit 0");
}

#[test]
fn a_lost_report_is_3_and_never_written_into_the_file() {
    let dir = Sandbox::new();
    for (redirections, code) in [
        (">&-", 3),
        ("<&- >&- 2>&-", 3),
        ("<&-", 0),
        ("2>&-", 0),
        ("<&- 2>&-", 0),
        (">/dev/full", 3),
    ] {
        let path = dir.file("f", [b'.'; 5000]);
        redirected(&dir, &["patch", "f", "-o", "0", "text:new"], redirections).code(code);
        let bytes = read(&path);
        assert!(bytes.len() == 5000 && bytes.starts_with(b"new..."), "{redirections}");
        assert!(bytes[3..].iter().all(|byte| *byte == b'.'), "{redirections}");
        // An error that cannot be reported.
        redirected(&dir, &["patch", "f", "-o", "9000", "77"], redirections).code(2);
        assert_eq!(read(&path), bytes, "{redirections}");
    }
}

#[test]
fn children_get_no_file_in_place_of_a_closed_descriptor() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'.'; 5000]);
    // A child that opens the file, and complains.
    let child = "exec 9<>\"$MMAPCTL_PATH\"; readlink /proc/self/fd/2 >seen; echo warning >&2";
    for redirections in ["2>&-", "<&- >&- 2>&-"] {
        redirected(&dir, &["map", "-q", "f", "--", "sh", "-c", child], redirections);
        assert_eq!(fs::read_to_string(dir.join("seen")).unwrap(), "/dev/null\n", "{redirections}");
        assert_eq!(read(&path), [b'.'; 5000], "{redirections}");
    }
}

#[test]
fn children_are_waited_for_where_sigchld_is_ignored() {
    needs!(has("python3"));
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 4096]);
    let ignoring =
        "import signal,os,sys; signal.signal(signal.SIGCHLD,signal.SIG_IGN); os.execv(sys.argv[1],sys.argv[1:])";
    let run = |args: &[&str]| dir.program("python3", &[&["-c", ignoring, BINARY], args].concat()).outcome();
    run(&[
        "map",
        "f",
        "-q",
        "-c",
        "fork patch -q -o 0 41",
        "-c",
        "! true",
        "-c",
        "patch -q -o 1 42",
    ])
    .is("exit 0");
    assert_eq!(read(&path)[..2], *b"AB");
    run(&["map", "f", "-q", "--", "sh", "-c", "exit 7"]).code(7);
}

#[test]
fn a_closed_stdin_is_empty() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'.'; 100]);
    redirected(&dir, &["patch", "f", "-o", "0", "@-"], "<&-").has("the input is empty").code(2);
    assert_eq!(read(path), [b'.'; 100]);
}

#[test]
fn a_closed_pipe_kills_its_children_only() {
    let dir = Sandbox::new();
    dir.file("f", noise(4 << 20));
    let mut cat = dir.command(&["cat", "f", "-f", "xxd"]).stdout(Stdio::piped()).spawn().unwrap();
    cat.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    assert!(eventually(|| cat.try_wait().unwrap().is_some()));
    assert_eq!(cat.wait().unwrap().code(), Some(0));
    // SIGPIPE is signal 13.
    let mut child = dir.command(&["map", "f", "--", "grep", "SigIgn", "/proc/self/status"]);
    let status = String::from_utf8(child.stdout(Stdio::piped()).outcome().stdout).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap_or_default().trim(), 16).unwrap();
    assert_eq!(ignored >> 12 & 1, 0, "{status}");
}
