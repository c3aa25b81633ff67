//! `map --hold` and `map -- COMMAND`: what goes on while a mapping stands.

use crate::support;
use crate::support::{eventually, file, json, mmapctl, noise, report, run, scratch, spawnable, told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A process of which the first line has been read, if its output comes here.
struct Held {
    child: Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
    first_line: String,
}

impl Held {
    fn new(dir: &Path, args: &[&str]) -> Held {
        let mut child = spawnable(dir, args).stdout(Stdio::piped()).spawn().unwrap();
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
        assert!(
            eventually(|| self.child.try_wait().unwrap().is_some()),
            "it goes on after {signal}"
        );
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
        // Already gone, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---- a command beside it -------------------------------------------------------------------------------------------

#[test]
fn a_command_s_exit_code_is_ours() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    fs::write(dir.path().join("script"), "#!/bin/sh\n").unwrap();
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
        let output = mmapctl(dir.path(), &[&["map", "f", "--"], command].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {}", told(&output));
        assert!(
            output.stdout.is_empty(),
            "the report would be in the way: {}",
            told(&output)
        );
        assert_eq!(
            code == 126 || code == 127,
            told(&output).contains("! error: cannot run '"),
            "{}",
            told(&output)
        );
        assert!(!told(&output).contains("os error"), "{}", told(&output));
    }
    // A folder in PATH that may not be searched has no say, as in a shell.
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = mmapctl(dir.path(), &["map", "f", "--", "no-such-command-anywhere"]);
    let output = command.env("PATH", &closed).output().unwrap();
    assert_eq!(output.status.code(), Some(127), "{}", told(&output));
}

#[test]
fn a_command_begins_with_no_signal_held_back() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    let mask = ["grep", "SigBlk", "/proc/self/status"];
    let ours = support::peer(dir.path(), mask[0], &mask[1..]);
    let output = mmapctl(dir.path(), &[&["map", "f", "--"], &mask[..]].concat())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&ours));
}

#[test]
fn a_command_finds_the_mapping_in_its_environment() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    let show = "echo \"$MMAPCTL_PATH $MMAPCTL_SIZE\"; test \"$MMAPCTL_PID\" = $PPID && cat \"$MMAPCTL_PATH\" | wc -c";
    let output = mmapctl(dir.path(), &["map", "f", "--", "sh", "-c", show])
        .output()
        .unwrap();
    let path = std::path::absolute(dir.path().join("f")).unwrap();
    assert_eq!(told(&output), format!("{} 10000\n10000\nexit 0", path.display()));
    let (mut at, mut command) = (
        vec!["map", "f", "-r", "1..5", "--"],
        vec!["sh", "-c", "echo $MMAPCTL_SIZE"],
    );
    at.append(&mut command);
    assert_eq!(told(&mmapctl(dir.path(), &at).output().unwrap()), "4\nexit 0");
    // Anonymous memory has no path, and an outer one must not shine through.
    let output = mmapctl(
        dir.path(),
        &[
            "map",
            "--anonymous",
            "-n",
            "1p",
            "--",
            "sh",
            "-c",
            "echo \"<$MMAPCTL_PATH>\"",
        ],
    )
    .env("MMAPCTL_PATH", "outer")
    .output()
    .unwrap();
    assert_eq!(told(&output), "<>\nexit 0");
}

#[test]
fn a_command_runs_while_the_mapping_stands() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    let show = "grep -c \" ..-s .*/f$\" /proc/$MMAPCTL_PID/maps";
    let output = mmapctl(dir.path(), &["map", "f", "--", "sh", "-c", show])
        .output()
        .unwrap();
    assert_eq!(told(&output), "1\nexit 0");
}

#[test]
fn a_command_sees_its_own_stdin_and_the_report_comes_first_in_json() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    let mut command = mmapctl(dir.path(), &["map", "f", "--", "cat"]);
    assert_eq!(
        told(&command.write_stdin("through\n").output().unwrap()),
        "through\nexit 0"
    );
    let told = report(dir.path(), "map f --populate --lock=on-fault");
    assert_eq!(told["resident"], told["pages"]);
    let output = mmapctl(dir.path(), &["map", "f", "--populate", "--json", "--", "true"])
        .output()
        .unwrap();
    let told = json(&output.stdout);
    assert_eq!((&told["resident"], output.status.code()), (&told["pages"], Some(0)));
    let output = mmapctl(dir.path(), &["map", "f", "--json", "--", "echo", "after"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("{\"schema\":1,") && text.ends_with("}\nafter\n"),
        "{text}"
    );
    // --json behind the bar is the command's.
    let output = mmapctl(dir.path(), &["map", "f", "--", "echo", "--json"])
        .output()
        .unwrap();
    assert_eq!(support::told(&output), "--json\nexit 0");
}

/// Whether a process holds a signal back.
fn blocks(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal as u32 - 1) & 1 == 1)
}

#[test]
fn a_term_signal_is_handed_to_the_command() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut held = Held::new(dir.path(), &["map", "f", "--", "sh", "-c", script]);
    assert_eq!(held.first_line, "ready\n");
    // The command may be ready before mmapctl has come back from starting it, with its signals released. While it is
    // started, posix_spawn(3) has all signals blocked, too, but does not sleep so that a signal could wake it.
    let pid = held.child.id();
    assert!(eventually(|| support::sleeps(pid) && blocks(pid, Signal::SIGTERM)));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(5));
}

// ---- holding it ----------------------------------------------------------------------------------------------------

#[test]
fn the_mapping_is_the_one_that_the_kernel_lists() {
    let dir = scratch();
    file(dir.path(), "f", &noise(40_000));
    for (options, rights) in [
        (&["--prot", "rw"][..], "rw-s"),
        (&["--private"], "rw-p"),
        (&[], "r--s"),
        (&["--prot", "none"], "---s"),
    ] {
        let mut held = Held::new(dir.path(), &[&["map", "f", "--hold", "--json"], options].concat());
        let told = json(held.first_line.as_bytes());
        let start = u64::from_str_radix(told["address"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        let head = format!(
            "{start:x}-{:x} {rights} 00000000",
            start + told["mapped"].as_u64().unwrap()
        );
        let maps = fs::read_to_string(format!("/proc/{}/maps", held.child.id())).unwrap();
        assert!(
            maps.lines().any(|line| line.starts_with(&head) && line.ends_with("/f")),
            "{head}\n{maps}"
        );
        assert_eq!(told["pid"], held.child.id());
        assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
    }
}

#[test]
fn a_mapping_that_is_held_for_a_while_says_for_how_long() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    for line in ["map f --hold=0.02", "map f f --hold=20ms"] {
        let told = run(dir.path(), line);
        assert!(
            told.contains(", for 20ms, or until SIGTERM or Ctrl-C\n"),
            "{line}: {told}"
        );
        assert!(told.ends_with("exit 0"), "{line}: {told}");
    }
}

#[test]
fn a_held_mapping_ends_on_a_signal_with_0() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut held = Held::new(dir.path(), &["map", "f", "--hold", "--json"]);
        assert_eq!(json(held.first_line.as_bytes())["pid"], held.child.id());
        assert_eq!(held.end_by(signal), Some(0), "{signal}");
    }
    let mut held = Held::new(dir.path(), &["map", "f", "--hold"]);
    let pid = held.child.id();
    let mut line = String::new();
    while !line.contains("held") {
        line.clear();
        assert!(
            held.lines.as_mut().unwrap().read_line(&mut line).unwrap() > 0,
            "it never says that it holds"
        );
    }
    assert_eq!(
        line,
        format!("  held        by process {pid}, until SIGTERM or Ctrl-C\n")
    );
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn a_signal_during_preparation_is_not_lost() {
    let dir = scratch();
    // It has to be gone soon, whenever the signal comes: by the signal before it is held back, with 0 after.
    for delay in 0..20 {
        let mut child = spawnable(
            dir.path(),
            &["map", "--anonymous", "-n", "1M", "--populate", "--hold", "-q"],
        )
        .spawn()
        .unwrap();
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
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    let mut held = Held::new(dir.path(), &["map", "f", "--hold", "--json"]);
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
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    let begin = Instant::now();
    let told = run(dir.path(), "map f --hold=200ms");
    assert!(told.ends_with("exit 0"), "{told}");
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    assert!(run(dir.path(), "map f --hold=soon").ends_with("exit 2"));
    let clash = mmapctl(dir.path(), &["map", "f", "--hold", "--", "true"])
        .output()
        .unwrap();
    assert_eq!(clash.status.code(), Some(2));
}

#[test]
fn a_held_mapping_survives_its_file_s_truncation() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(100_000));
    let mut held = Held::new(dir.path(), &["map", "f", "--populate", "--hold", "--json"]);
    fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
}

// ---- telling others that it is there -------------------------------------------------------------------------------

/// mmapctl as a child of a shell that opens `redirections` for it first; the process's number is mmapctl's.
fn redirected(dir: &Path, redirections: &str, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command
        .current_dir(dir)
        .args(["-c", &format!("exec \"$0\" \"$@\" {redirections}"), support::BINARY])
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// KiB locked by a process.
fn locked(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    line.unwrap().trim().to_string()
}

fn whole_pages(len: u64) -> String {
    let page = support::page_size();
    format!("{} kB", len.div_ceil(page) * page / 1024)
}

#[test]
fn a_line_on_the_ready_descriptor_comes_when_the_lock_is_in_place() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    nix::unistd::mkfifo(&dir.path().join("ready"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let args = ["map", "f", "--lock", "--hold", "-q", "--ready-fd", "7"];
    let child = redirected(dir.path(), "7> ready", &args).spawn().unwrap();
    let mut held = Held::of(child);
    // To the end of the stream, which comes because the descriptor is closed.
    assert_eq!(fs::read_to_string(dir.path().join("ready")).unwrap(), "READY=1\n");
    assert_eq!(locked(held.child.id()), whole_pages(10_000));
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
    // Behind the verbs of a session as well, and without anything to hold.
    let args = ["map", "f", "-c", "! echo verb >> log", "--ready-fd", "3"];
    let output = redirected(dir.path(), "3>> log", &args).output().unwrap();
    assert_eq!(told(&output), "exit 0");
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "verb\nREADY=1\n");
    // Commands do not get it.
    let args = ["map", "f", "-q", "-c", "! test ! -e /proc/self/fd/7", "--ready-fd", "7"];
    let output = redirected(dir.path(), "7> own", &args).output().unwrap();
    assert_eq!(told(&output), "exit 0");
    let args = ["map", "f", "-q", "-c", "! exit 3", "--hold", "--ready-fd", "3"];
    let output = redirected(dir.path(), "3> no", &args).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(fs::read_to_string(dir.path().join("no")).unwrap(), "");
}

#[test]
fn a_ready_descriptor_need_not_be_one_that_could_be_opened_again() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    // A shell passes it on by its number.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 3>&0 0</dev/null", "sh", support::BINARY])
        .args(["map", "f", "-q", "--ready-fd", "3"])
        .current_dir(dir.path())
        .stdin(std::os::fd::OwnedFd::from(theirs));
    assert_eq!(told(&command.output().unwrap()), "exit 0");
    drop(command);
    let mut heard = String::new();
    std::io::Read::read_to_string(&mut ours, &mut heard).unwrap();
    assert_eq!(heard, "READY=1\n");
}

#[test]
fn a_ready_descriptor_that_cannot_be_written_is_an_error() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    for (redirections, number) in [("", "99"), ("3< f", "3"), ("3> /dev/full", "3")] {
        let args = ["map", "f", "--hold=180s", "-q", "--ready-fd", number];
        let told = told(&redirected(dir.path(), redirections, &args).output().unwrap());
        assert!(
            told.contains(&format!("cannot write to the file descriptor {number} of --ready-fd")),
            "{redirections}: {told}"
        );
        assert!(
            told.contains("tip: open it in the shell") && told.ends_with("exit 2"),
            "{told}"
        );
    }
    // No more than the descriptor allows, even where the file would allow it.
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), noise(100));
    // Nor is a file of our own taken for it, which gets the first number that is free.
    let script = ["-c", "patch -q -o 0 ff", "--hold=1ms", "-q", "--ready-fd"];
    for number in ["3", "4", "5", "6"] {
        let output = mmapctl(dir.path(), &[&["map", "f"], &script[..], &[number]].concat()).output();
        let told = told(&output.unwrap());
        assert!(told.contains("Bad file number") && told.ends_with("exit 2"), "{told}");
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), noise(100), "{number}");
    }
    // What fails when the verbs have changed the file is 3.
    let args = [&["map", "f"], &script[..], &["3"]].concat();
    let told = told(&redirected(dir.path(), "3> /dev/full", &args).output().unwrap());
    assert!(
        told.contains("the verbs may have changed the file") && told.ends_with("exit 3"),
        "{told}"
    );
    for number in ["2", "-1", "x"] {
        assert!(run(dir.path(), &format!("map f --hold --ready-fd {number}")).ends_with("exit 2"));
    }
}

#[test]
fn a_service_manager_hears_of_readiness_and_of_the_end() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    let path = dir.path().join("socket");
    let name = format!("mmapctl-test-{}", std::process::id());
    let sockets = [
        (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
        (
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            format!("@{name}"),
        ),
    ];
    for (socket, address) in sockets {
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let hear = || {
            let mut buf = [0; 1000];
            let len = socket.recv(&mut buf).expect("a datagram comes");
            String::from_utf8_lossy(&buf[..len]).into_owned()
        };
        let mut command = spawnable(dir.path(), &["map", "f", "--lock", "--hold", "-q"]);
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
        // A limit of time comes to the same; and a command is not to speak for us.
        let mut command = spawnable(
            dir.path(),
            &["map", "f", "--hold=1ms", "-q", "-c", "! echo \"<$NOTIFY_SOCKET>\""],
        );
        let output = command.env("NOTIFY_SOCKET", &address).output().unwrap();
        assert_eq!(told(&output), "<>\nexit 0");
        assert_eq!(
            (hear(), hear().as_str()),
            ("READY=1\nSTATUS=holding f, 10000 bytes\n".into(), "STOPPING=1\n")
        );
        // Who only looks holds nothing.
        let mut command = spawnable(dir.path(), &["map", "f", "-q"]);
        assert!(command.env("NOTIFY_SOCKET", &address).status().unwrap().success());
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 100]).is_err());
    }
    let mut command = spawnable(dir.path(), &["map", "f", "--hold=180s", "-q"]);
    let told = told(&command.env("NOTIFY_SOCKET", "/nowhere").output().unwrap());
    assert!(
        told.contains("cannot tell the service manager (NOTIFY_SOCKET)") && told.ends_with("exit 2"),
        "{told}"
    );
}

#[test]
fn killed_outright_it_leaves_nothing_behind() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    for what in [
        &["f", "--lock", "-c", "patch -q -o 0 ff"][..],
        &["--memfd=box", "-n", "4M", "-c", "patch -q -o 0 ff"],
    ] {
        let args = [&["map"], what, &["-c", "map --json", "--hold"]].concat();
        let mut held = Held::new(dir.path(), &args);
        let told = json(held.first_line.as_bytes());
        let path = told["path"].as_str().unwrap_or("f").to_string();
        let memory = dir.path().join(&path);
        assert_eq!(fs::read(&memory).unwrap()[0], 0xff);
        assert_eq!(held.end_by(Signal::SIGKILL), None);
        assert_eq!(memory.exists(), path == "f", "{path}");
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["f"]);
        assert_eq!(run(dir.path(), "patch f --lock-timeout 50ms -q -o 0 ff"), "exit 0");
    }
}

#[test]
fn two_processes_share_a_memfd_that_a_third_holds() {
    let dir = scratch();
    let mut held = Held::new(dir.path(), &["map", "--memfd=board", "-n", "64K", "--hold", "--json"]);
    let told = json(held.first_line.as_bytes());
    let path = told["path"].as_str().unwrap();
    assert_eq!(path.split('/').nth(2), Some(held.child.id().to_string().as_str()));
    assert_eq!(run(dir.path(), &format!("patch {path} -q -o 0 text:ping")), "exit 0");
    assert_eq!(
        run(dir.path(), &format!("patch {path} -q --find text:ping text:pong")),
        "exit 0"
    );
    assert_eq!(run(dir.path(), &format!("cat {path} -n 4")), "pong(no newline)\nexit 0");
    assert_eq!(held.end_by(Signal::SIGTERM), Some(0));
    assert!(run(dir.path(), &format!("cat {path} -n 4")).ends_with("exit 2"));
}

#[test]
fn a_writer_is_not_kept_waiting_by_a_session_that_only_holds() {
    let dir = scratch();
    file(dir.path(), "f", &noise(100));
    let mut held = Held::new(
        dir.path(),
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
    assert_eq!(run(dir.path(), "patch f -q -o 1 ff --lock-timeout 180s"), "exit 0");
    assert_eq!(held.end_by(Signal::SIGINT), Some(0));
}
