//! `map --hold` and `map -- COMMAND`: what happens while a mapping is held.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A process whose first line of output has been read, if its output is piped.
struct Held {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
    first_line: String,
}

impl Held {
    fn new(dir: &Sandbox, args: &[&str]) -> Held {
        let mut child = dir.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first_line = String::new();
        lines.read_line(&mut first_line).unwrap();
        Held {
            lines: Some(lines),
            first_line,
            child,
        }
    }

    fn of(child: Child) -> Held {
        Held {
            child,
            lines: None,
            first_line: String::new(),
        }
    }

    /// Its exit code after the signal; `None` where the signal killed it.
    fn end_by(&mut self, signal: Signal) -> Option<i32> {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself");
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        assert!(eventually(|| self.child.try_wait().unwrap().is_some()), "it goes on after {signal}");
        self.child.wait().unwrap().code()
    }

    /// utime and stime, in ticks.
    fn ticks(&self) -> Vec<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        fields.skip(11).take(2).map(|field| field.parse().unwrap()).collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- a command beside it -------------------------------------------------------------------------------------------

#[test]
fn a_command_s_exit_code_is_ours() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    dir.file("script", "#!/bin/sh\n");
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -13 $$"], 141),
        (&["sh", "-c", "kill -15 $$"], 143),
        (&["no-such-command-anywhere"], 127),
        (&["./missing"], 127),
        (&["./script"], 126),
        (&["."], 126),
    ] {
        let output = dir.mmapctl(&[&["map", "f", "--"], command].concat());
        output.code(code);
        assert!(output.stdout.is_empty(), "the report would be in the way: {}", output);
        assert_eq!(code == 126 || code == 127, output.contains("! error: cannot run '"), "{}", output);
        output.lacks("os error");
    }
    // A folder in PATH that may not be searched has no say, as in a shell.
    let closed = dir.join("closed");
    fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o000);
    let mut command = dir.command(&["map", "f", "--", "no-such-command-anywhere"]);
    command.env("PATH", &closed).outcome().code(127);
}

#[test]
fn a_command_begins_with_no_signal_held_back() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    let mask = ["grep", "SigBlk", "/proc/self/status"];
    let ours = dir.peer(mask[0], &mask[1..]);
    let output = dir.mmapctl(&[&["map", "f", "--"], &mask[..]].concat());
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&ours));
}

#[test]
fn a_command_finds_the_mapping_in_its_environment() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    let show = "echo \"$MMAPCTL_PATH $MMAPCTL_SIZE\"; test \"$MMAPCTL_PID\" = $PPID && cat \"$MMAPCTL_PATH\" | wc -c";
    let output = dir.mmapctl(&["map", "f", "--", "sh", "-c", show]);
    let path = std::path::absolute(dir.join("f")).unwrap();
    output.is(format!("{} 10000\n10000\nexit 0", path.display()));
    let (mut at, mut command) = (vec!["map", "f", "-r", "1..5", "--"], vec!["sh", "-c", "echo $MMAPCTL_SIZE"]);
    at.append(&mut command);
    dir.mmapctl(&at).is("4\nexit 0");
    // Anonymous memory has no path, and an outer one must not shine through.
    dir.command(&[
        "map",
        "--anonymous",
        "-n",
        "1p",
        "--",
        "sh",
        "-c",
        "echo \"<$MMAPCTL_PATH>\"",
    ])
    .env("MMAPCTL_PATH", "outer")
    .outcome()
    .is("<>\nexit 0");
}

#[test]
fn a_command_runs_while_the_mapping_stands() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    let show = "grep -c \" ..-s .*/f$\" /proc/$MMAPCTL_PID/maps";
    dir.mmapctl(&["map", "f", "--", "sh", "-c", show]).is("1\nexit 0");
}

#[test]
fn a_command_keeps_stdin_and_the_json_report_comes_first() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    dir.mmapctl_fed(&["map", "f", "--", "cat"], "through\n").is("through\nexit 0");
    let report = dir.report("map f --populate --lock=on-fault");
    assert_eq!(report["resident"], report["pages"]);
    let output = dir.mmapctl(&["map", "f", "--populate", "--json", "--", "true"]);
    let report = json(&output.stdout);
    assert_eq!((&report["resident"], output.status.code()), (&report["pages"], Some(0)));
    let output = dir.mmapctl(&["map", "f", "--json", "--", "echo", "after"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("{\"schema\":1,") && text.ends_with("}\nafter\n"), "{text}");
    // --json after the -- is the command's.
    dir.mmapctl(&["map", "f", "--", "echo", "--json"]).is("--json\nexit 0");
}

/// Whether a process blocks a signal.
fn blocks(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as u32 - 1) & 1 == 1)
}

#[test]
fn a_term_signal_is_handed_to_the_command() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut held = Held::new(&dir, &["map", "f", "--", "sh", "-c", script]);
    assert_eq!(held.first_line, "ready\n");
    // The command may be ready before mmapctl has come back from starting it, with its signals released. While it is
    // started, posix_spawn(3) has all signals blocked, too, but does not sleep so that a signal could wake it.
    let pid = held.child.id();
    assert!(eventually(|| sleeps(pid) && blocks(pid, Signal::SIGTERM)));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(5));
}

// ---- holding it ----------------------------------------------------------------------------------------------------

#[test]
fn the_mapping_is_the_one_that_the_kernel_lists() {
    let dir = Sandbox::new();
    dir.file("f", noise(40_000));
    for (options, rights) in [
        (&["--prot", "rw"][..], "rw-s"),
        (&["--private"], "rw-p"),
        (&[], "r--s"),
        (&["--prot", "none"], "---s"),
    ] {
        let mut held = Held::new(&dir, &[&["map", "f", "--hold", "--json"], options].concat());
        let report = json(held.first_line.as_bytes());
        let start = u64::from_str_radix(report["address"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        let head = format!("{start:x}-{:x} {rights} 00000000", start + report["mapped"].as_u64().unwrap());
        let maps = fs::read_to_string(format!("/proc/{}/maps", held.child.id())).unwrap();
        assert!(maps.lines().any(|line| line.starts_with(&head) && line.ends_with("/f")), "{head}\n{maps}");
        assert_eq!(report["pid"], held.child.id());
        assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
    }
}

#[test]
fn a_mapping_that_is_held_for_a_while_says_for_how_long() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    for line in ["map f --hold=0.02", "map f f --hold=20ms"] {
        dir.run(line).has(", for 20ms, or until SIGTERM or Ctrl-C\n").code(0);
    }
}

#[test]
fn a_held_mapping_ends_on_a_signal_with_0() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut held = Held::new(&dir, &["map", "f", "--hold", "--json"]);
        assert_eq!(json(held.first_line.as_bytes())["pid"], held.child.id());
        assert_eq!(held.end_by(signal), Some(0), "{signal}");
    }
    let mut held = Held::new(&dir, &["map", "f", "--hold"]);
    let pid = held.child.id();
    let mut line = String::new();
    while !line.contains("held") {
        line.clear();
        assert!(held.lines.as_mut().unwrap().read_line(&mut line).unwrap() > 0, "it never says that it holds");
    }
    assert_eq!(line, format!("  held        by process {pid}, until SIGTERM or Ctrl-C\n"));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn a_signal_during_preparation_is_not_lost() {
    let dir = Sandbox::new();
    // It must end soon, whenever the signal comes: by the signal before it is blocked, with 0 after.
    for delay in 0..20 {
        let mut child = dir.command(&["map", "--anonymous", "-n", "1M", "--populate", "--hold", "-q"]).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(delay * 300));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        if !eventually(|| child.try_wait().unwrap().is_some()) {
            child.kill().unwrap();
            panic!("the signal after {delay} × 300 µs was lost");
        }
        let status = child.wait().unwrap();
        let by = std::os::unix::process::ExitStatusExt::signal(&status);
        assert!(status.code() == Some(0) || by == Some(15), "{status}");
    }
}

#[test]
fn holding_takes_no_time_of_the_processor() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    let mut held = Held::new(&dir, &["map", "f", "--hold", "--json"]);
    // From the report to the wait it may take a while.
    assert!(eventually(|| {
        let before = held.ticks();
        std::thread::sleep(Duration::from_millis(500));
        held.ticks() == before
    }));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn a_mapping_held_for_a_while_ends_by_itself() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    let begin = Instant::now();
    dir.run("map f --hold=200ms").code(0);
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    dir.run("map f --hold=soon").code(2);
    dir.mmapctl(&["map", "f", "--hold", "--", "true"]).code(2);
}

#[test]
fn a_held_mapping_survives_its_file_s_truncation() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(100_000));
    let mut held = Held::new(&dir, &["map", "f", "--populate", "--hold", "--json"]);
    writer(&path).set_len(0).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
}

// ---- telling others that it is there -------------------------------------------------------------------------------

/// mmapctl as a child of a shell that opens `redirections` for it first; the process's number is mmapctl's.
fn redirected(dir: &Sandbox, redirections: &str, args: &[&str]) -> std::process::Command {
    let mut command = dir.program("sh", &["-c", &format!("exec \"$0\" \"$@\" {redirections}"), BINARY]);
    command.args(args);
    command
}

/// KiB locked by a process.
fn locked(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    line.unwrap().trim().to_string()
}

fn whole_pages(len: u64) -> String {
    let page = page_size();
    format!("{} kB", len.div_ceil(page) * page / 1024)
}

#[test]
fn the_ready_line_comes_when_the_lock_is_held() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    nix::unistd::mkfifo(&dir.join("ready"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let args = ["map", "f", "--lock", "--hold", "-q", "--ready-fd", "7"];
    let child = redirected(&dir, "7> ready", &args).spawn().unwrap();
    let mut held = Held::of(child);
    // To the end of the stream, which comes because the descriptor is closed.
    assert_eq!(fs::read_to_string(dir.join("ready")).unwrap(), "READY=1\n");
    assert_eq!(locked(held.child.id()), whole_pages(10_000));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
    // Behind the verbs of a session as well, and without anything to hold.
    let args = ["map", "f", "-c", "! echo verb >> log", "--ready-fd", "3"];
    redirected(&dir, "3>> log", &args).outcome().is("exit 0");
    assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), "verb\nREADY=1\n");
    // Commands do not get it.
    let args = ["map", "f", "-q", "-c", "! test ! -e /proc/self/fd/7", "--ready-fd", "7"];
    redirected(&dir, "7> own", &args).outcome().is("exit 0");
    let args = ["map", "f", "-q", "-c", "! exit 3", "--hold", "--ready-fd", "3"];
    redirected(&dir, "3> no", &args).outcome().code(3);
    assert_eq!(fs::read_to_string(dir.join("no")).unwrap(), "");
}

#[test]
fn a_ready_descriptor_may_be_a_socket() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    // A shell passes it on by its number.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 3>&0 0</dev/null", "sh", BINARY])
        .args(["map", "f", "-q", "--ready-fd", "3"])
        .current_dir(&dir)
        .stdin(std::os::fd::OwnedFd::from(theirs));
    command.outcome().is("exit 0");
    drop(command);
    let mut heard = String::new();
    std::io::Read::read_to_string(&mut ours, &mut heard).unwrap();
    assert_eq!(heard, "READY=1\n");
}

#[test]
fn a_ready_descriptor_that_cannot_be_written_is_an_error() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    for (redirections, number) in [("", "99"), ("3< f", "3"), ("3> /dev/full", "3")] {
        let args = ["map", "f", "--hold=180s", "-q", "--ready-fd", number];
        redirected(&dir, redirections, &args)
            .outcome()
            .has(format!("cannot write to the file descriptor {number} of --ready-fd"))
            .code(2)
            .has("tip: open it in the shell");
    }
    // No more than the descriptor allows, even where the file would allow it.
    assert_eq!(dir.read("f"), noise(100));
    // A file that mmapctl opens itself, which gets the first free number, is not used instead.
    let script = ["-c", "patch -q -o 0 ff", "--hold=1ms", "-q", "--ready-fd"];
    for number in ["3", "4", "5", "6"] {
        let output = dir.mmapctl(&[&["map", "f"], &script[..], &[number]].concat());
        let text = output;
        assert!(text.contains("Bad file number") && text.ends_with("exit 2"), "{text}");
        assert_eq!(dir.read("f"), noise(100), "{number}");
    }
    // What fails when the verbs have changed the file is 3.
    let args = [&["map", "f"], &script[..], &["3"]].concat();
    redirected(&dir, "3> /dev/full", &args).outcome().code(3).has("the verbs may have changed the file");
    for number in ["2", "-1", "x"] {
        dir.run(&format!("map f --hold --ready-fd {number}")).code(2);
    }
}

#[test]
fn a_service_manager_hears_of_readiness_and_of_the_end() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    let path = dir.join("socket");
    let name = format!("mmapctl-test-{}", std::process::id());
    let sockets = [
        (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
        (
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            format!("@{name}"),
        ),
    ];
    for (socket, address) in sockets {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let hear = || {
            let mut buf = [0; 1000];
            let len = socket.recv(&mut buf).expect("a datagram comes");
            String::from_utf8_lossy(&buf[..len]).into_owned()
        };
        let mut command = dir.command(&["map", "f", "--lock", "--hold", "-q"]);
        let mut held = Held::of(command.env("NOTIFY_SOCKET", &address).spawn().unwrap());
        assert_eq!(hear(), "READY=1\nSTATUS=holding f, 10000 bytes\n");
        assert_eq!(locked(held.child.id()), whole_pages(10_000));
        // A tick may still go to what follows the datagram.
        assert!(eventually(|| {
            let before = held.ticks();
            std::thread::sleep(Duration::from_millis(300));
            held.ticks() == before
        }));
        assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
        assert_eq!(hear(), "STOPPING=1\n");
        // A time limit ends it in the same way; and a command must not notify the service manager.
        let mut command = dir.command(&["map", "f", "--hold=1ms", "-q", "-c", "! echo \"<$NOTIFY_SOCKET>\""]);
        command.env("NOTIFY_SOCKET", &address).outcome().is("<>\nexit 0");
        assert_eq!((hear(), hear().as_str()), ("READY=1\nSTATUS=holding f, 10000 bytes\n".into(), "STOPPING=1\n"));
        // Who only looks holds nothing.
        let mut command = dir.command(&["map", "f", "-q"]);
        assert!(command.env("NOTIFY_SOCKET", &address).status().unwrap().success());
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 100]).is_err());
    }
    let mut command = dir.command(&["map", "f", "--hold=180s", "-q"]);
    command
        .env("NOTIFY_SOCKET", "/nowhere")
        .outcome()
        .code(2)
        .has("cannot notify the service manager (NOTIFY_SOCKET)");
}

#[test]
fn killed_outright_it_leaves_nothing_behind() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    for what in [
        &["f", "--lock", "-c", "patch -q -o 0 ff"][..],
        &["--memfd=box", "-n", "4M", "-c", "patch -q -o 0 ff"],
    ] {
        let args = [&["map"], what, &["-c", "map --json", "--hold"]].concat();
        let mut held = Held::new(&dir, &args);
        let report = json(held.first_line.as_bytes());
        let path = report["path"].as_str().unwrap_or("f").to_string();
        let memory = dir.join(&path);
        assert_eq!(read(&memory)[0], 0xff);
        assert_eq!(held.end_by(Signal::SIGKILL), None);
        assert_eq!(memory.exists(), path == "f", "{path}");
        let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["f"]);
        dir.run("patch f --lock-timeout 50ms -q -o 0 ff").is("exit 0");
    }
}

#[test]
fn two_processes_share_a_memfd_that_a_third_holds() {
    let dir = Sandbox::new();
    let mut held = Held::new(&dir, &["map", "--memfd=board", "-n", "64K", "--hold", "--json"]);
    let report = json(held.first_line.as_bytes());
    let path = report["path"].as_str().unwrap();
    assert_eq!(path.split('/').nth(2), Some(held.child.id().to_string().as_str()));
    dir.run(&format!("patch {path} -q -o 0 text:ping")).is("exit 0");
    dir.run(&format!("patch {path} -q --find text:ping text:pong")).is("exit 0");
    dir.run(&format!("cat {path} -n 4")).is("pong(no newline)\nexit 0");
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
    dir.run(&format!("cat {path} -n 4")).code(2);
}

#[test]
fn a_writer_is_not_kept_waiting_by_a_session_that_only_holds() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    let mut held = Held::new(
        &dir,
        &[
            "map",
            "f",
            "-c",
            "patch -q -o 0 ff",
            "-c",
            "! echo verbs are done",
            "--hold",
        ],
    );
    assert_eq!(held.first_line, "verbs are done\n");
    dir.run("patch f -q -o 1 ff --lock-timeout 180s").is("exit 0");
    assert_eq!(held.end_by(Signal::SIGINT), Some(0));
}
