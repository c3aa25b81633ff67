//! Several files that `map` holds, locks or watches together.

use crate::map_many::tree;
use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// A process that holds mappings, once it has printed its table.
struct Held(Child, Vec<String>);

impl Held {
    fn new(mut command: std::process::Command, last: &str) -> Held {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut read = Vec::new();
        for line in lines {
            let end = line.contains(last);
            read.push(line);
            if end {
                break;
            }
        }
        Held(child, read)
    }

    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap()
    }

    /// Its exit code after SIGTERM.
    fn end(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        assert!(eventually(|| self.0.try_wait().unwrap().is_some()), "it goes on after SIGTERM");
        self.0.wait().unwrap().code()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn held_files_stay_mapped_with_no_descriptor_each() {
    let dir = Sandbox::new();
    for number in 0..300 {
        dir.file(format!("f{number:03}"), noise(1));
    }
    let mut held =
        Held::new(dir.limited("-n 64", &["map", "-R", ".", "--lock=on-fault", "--hold", "-s"]), "held by process");
    let maps = held.proc("maps");
    // The binary is mapped too.
    let held_files = format!("{}/f", dir.canonicalize().unwrap().display());
    let count = maps.lines().filter(|line| line.contains(&held_files)).count();
    assert_eq!(count, 300, "{maps}");
    let fds = fs::read_dir(format!("/proc/{}/fd", held.0.id())).unwrap().count();
    assert!(fds < 10, "{fds} descriptors are open");
    assert_eq!(held.end(), Some(0));
}

#[test]
fn held_files_are_locked() {
    let dir = Sandbox::new();
    tree(&dir);
    let args = ["map", "-R", "t", "--lock", "--hold"];
    let mut held = Held::new(dir.command(&args), "held by process");
    let locked = format!("{:8} kB\n", 15 * page_size() / 1024);
    assert!(held.proc("status").contains(&format!("VmLck:\t{locked}")), "{}", held.proc("status"));
    assert_eq!(held.end(), Some(0));
}

#[test]
fn nothing_is_held_or_announced_unless_every_file_is_mapped() {
    let dir = Sandbox::new();
    tree(&dir);
    for line in [
        "map t/a missing --hold",
        "map t/a missing --hold=1h --lock",
        "map -R t missing --lock --hold",
        "map missing gone --lock --hold",
        "map t/a missing",
    ] {
        let announced = dir.join("ready");
        let mut args: Vec<_> = line.split(' ').collect();
        args.extend(["--ready-fd", "3"]);
        let mut command = dir.program("sh", &["-c", "exec \"$0\" \"$@\" 3> ready", BINARY]);
        command.args(&args);
        let text = command.outcome();
        assert!(text.ends_with("exit 2") && text.contains(" failed\n"), "{line}: {text}");
        assert!(
            text.contains("nothing is held, because not every file could be mapped") && !text.contains("held by"),
            "{line}: {text}"
        );
        assert_eq!(fs::read_to_string(announced).unwrap(), "", "{line}");
    }
    let report = dir.mmapctl(&["map", "t/a", "missing", "--hold", "--json"]);
    let text = &report;
    text.code(2).lacks("held by");
}

#[test]
fn limits_are_named_once_and_end_it() {
    let dir = Sandbox::new();
    tree(&dir);
    let kib = 4 * page_size() / 1024;
    let command = dir.limited(&format!("-l {kib}"), &["map", "-R", "t", "--lock"]);
    set_mode(&dir, 0o755);
    if let Some(mut command) = as_ordinary_user(command) {
        let text = command.outcome();
        // The third file is one too many, not larger than the limit by itself.
        assert_eq!(text.matches("! error: ").count(), 1, "{text}");
        text.has("! error: t/sub/c.db: cannot lock")
            .has("RLIMIT_MEMLOCK")
            .has(" total of 2 files in ")
            .code(2);
    }
    let text = dir.limited("-n 3", &["map", "t/a", "t/z"]).outcome();
    text.has("RLIMIT_NOFILE").has("tip: raise it with 'ulimit -n");
    assert!(text.ends_with("exit 2") && text.matches("! error: ").count() == 1, "{text}");
}

#[test]
fn a_command_runs_beside_all_of_them_or_not_at_all() {
    let dir = Sandbox::new();
    tree(&dir);
    let show = "echo $MMAPCTL_SIZE ${MMAPCTL_PATH-none}; grep -c /t/ /proc/$MMAPCTL_PID/maps; exit 7";
    dir.mmapctl(&["map", "-R", "t", "--", "sh", "-c", show])
        .is(format!("{} none\n5\nexit 7", 15 * page_size()));
    let output = dir.mmapctl(&["map", "t/a", "missing", "--", "touch", "ran"]);
    let text = &output;
    text.code(2).has("the command was not run");
    assert!(!dir.join("ran").exists());
}

#[test]
fn a_watch_looks_at_the_folder_again_and_ends_on_a_signal() {
    let dir = Sandbox::new();
    tree(&dir);
    let command = dir.command(&["map", "-R", "t", "--watch=10ms", "--json", "-s"]);
    let mut held = Held::new(command, "\"files\":5");
    assert_eq!(json((held.1[0].clone() + "\n").as_bytes())["totals"]["files"], 5);
    assert_eq!(held.end(), Some(0));
    let mut child = dir.command(&["map", "-R", "t", "--watch=10ms", "-s"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(" total of 5 files ")));
    dir.file("t/new", noise(1));
    assert!(lines.any(|line| line.contains(" total of 6 files ")));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    lines.by_ref().for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
