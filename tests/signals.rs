//! Every signal that would end the program is blocked while a file is half-written, and what was done is rolled back.

use crate::support::strace::*;
use crate::support::*;
use nix::sys::signal::{SigSet, Signal};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

/// The file's length: more than is stored by one call.
const LEN: usize = 12 << 20;

/// The numbers of all signals whose default is to end the process and that can be blocked.
fn deadly() -> impl Iterator<Item = i32> {
    use Signal::*;
    const OTHERS: [Signal; 11] = [
        SIGCHLD, SIGCONT, SIGKILL, SIGPIPE, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SIGXFSZ,
    ];
    // The C library keeps those before SIGRTMIN to itself.
    let named = (1..32).filter(|number| OTHERS.iter().all(|other| *other as i32 != *number));
    named.chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

/// Runs `line` on a file of 0x11, with `signal` sent at its first `call`. Returns the bytes of the file and how the
/// process ended.
fn signalled(dir: &Sandbox, line: &str, call: &str, signal: i32) -> (Vec<u8>, Outcome) {
    let path = dir.file("f", vec![0x11; LEN]);
    let inject = format!("inject={call}:signal={signal}:when=1");
    let output = dir.straced(&["-e", &format!("trace={call}"), "-e", &inject], line);
    (read(path), output)
}

#[test]
fn every_deadly_signal_during_a_patch_puts_the_file_back() {
    needs!(strace_works());
    let dir = Sandbox::new();
    for signal in deadly() {
        let line = format!("patch f -o 0 fill:77:{LEN}");
        let (bytes, output) = signalled(&dir, &line, "preadv", signal);
        let text = &output;
        assert_eq!(output.status.signal(), Some(signal), "{text}");
        assert!(bytes.iter().all(|byte| *byte == 0x11), "torn by {signal}: {text}");
        assert!(text.contains("put back") && text.contains("interrupted by SIG"), "{text}");
    }
}

#[test]
fn every_writing_verb_holds_signals_back() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let last = libc::SIGRTMAX();
    for signal in [
        Signal::SIGUSR1 as i32,
        Signal::SIGXCPU as i32,
        Signal::SIGSEGV as i32,
        last,
    ] {
        for line in [
            format!("zero f -o 0 -n {LEN} --method write"),
            format!("patch f --atomic -o 0 fill:77:{LEN}"),
            "map f --script verbs".to_string(),
        ] {
            dir.file("verbs", format!("patch -o 0 fill:77:{LEN}\n"));
            let (bytes, output) = signalled(&dir, &line, "preadv", signal);
            let text = &output;
            assert_eq!(output.status.signal(), Some(signal), "{line}: {text}");
            assert!(bytes.iter().all(|byte| *byte == 0x11), "{line}: torn by {signal}: {text}");
        }
        // Length and blocks go together, and there is nothing to put back.
        let line = format!("remap f --size {}", LEN * 2);
        let (bytes, output) = signalled(&dir, &line, "fallocate", signal);
        assert_eq!((output.status.code(), bytes.len()), (Some(0), LEN * 2), "{}", output);
    }
}

#[test]
fn commands_get_the_signals_as_the_caller_had_them() {
    let dir = Sandbox::new();
    dir.file("f", [0; 4096]);
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR2);
    blocked.add(Signal::SIGXFSZ);
    let before = blocked.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK).unwrap();
    let mask = "SigBlk:\t0000000001000800\n";
    // A shell would clear the mask itself.
    let beside = dir.run("map f -q -- grep SigBlk /proc/self/status");
    before.thread_set_mask().unwrap();
    beside.is(format!("{mask}exit 0"));
}

#[test]
fn a_thread_left_by_a_wrong_script_takes_no_signals() {
    let dir = Sandbox::new();
    dir.file("f", [0; 4096]);
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = dir.command(&["-q", "map", "f", "--keep-going"]);
    command.args(["-c", "patch --script fifo", "-c"]);
    // 'script' is the thread's name.
    command.arg("! for t in /proc/$MMAPCTL_PID/task/*; do echo $(cat $t/comm; grep SigBlk $t/status); done");
    let child = command.stdout(std::process::Stdio::piped());
    let child = child.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut fifo = writer(&dir.join("fifo"));
    // The script is read by a second thread from its second MiB on.
    let line = b"0x40: 00 -> 01\n";
    let text = [
        line.repeat((2 << 20) / line.len()).as_slice(),
        b"wrong\n".as_slice(),
        &line.repeat(20_000),
    ]
    .concat();
    // It stays open, and the thread waits for the rest of a block.
    fifo.write_all(&text).unwrap();
    let text = child.outcome();
    drop(fifo);
    let mask = text.split("script SigBlk: ").nth(1).unwrap_or_else(|| panic!("{text}"));
    let mask = u64::from_str_radix(mask.split('\n').next().unwrap(), 16).unwrap();
    for signal in deadly() {
        assert_eq!(mask >> (signal - 1) & 1, 1, "{signal} is not blocked: {text}");
    }
}
