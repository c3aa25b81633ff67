//! The journal and the undo script: whose names they have, what they are durable before, and who may read a file that
//! waits for recovery.

use crate::support::strace::*;
use crate::support::*;
use std::fs::{self};

/// Leaves `f` with its journal, half-patched.
fn killed(dir: &Sandbox, line: &str) {
    dir.straced(&["-e", "inject=msync:signal=KILL"], line).signal(9);
}

#[test]
fn a_journal_does_not_get_the_name_of_another_files() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(8192));
    for line in [
        "patch f -o 0 43 --atomic --journal .g.mmapctl-undo",
        "zero f -r 0..1 --journal .g.mmapctl-undo",
        "remap f --size +1 --journal .G.MMAPCTL-UNDO",
        "sync f --journal .g.mmapctl-undo",
        "cat f -n 1 --journal .g.mmapctl-undo",
        "map f --journal .g.mmapctl-undo",
    ] {
        dir.run(line).code(2).has("is the name of another file's journal");
    }
    assert!(read(&path) == noise(8192));
    let text = dir.run("patch f -q -o 0 43 --atomic --journal ./.f.mmapctl-undo");
    assert_eq!(text, "exit 0", "its own");
}

#[test]
fn values_and_scripts_are_not_read_from_half_patched_files() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let target = dir.file("g", [b'A'; 8192]);
    dir.file("f", noise(8192));
    killed(&dir, "patch f -q -o 0 fill:43:8 --atomic");
    for line in [
        "patch g -o 0 @f",
        "patch g -o 0 --expect @f 41",
        "patch g --script f",
        "patch g --format xxd --script f",
        "map g --script f",
        "remap g --order @f",
    ] {
        dir.mmapctl(&words(line))
            .code(2)
            .has("f: recovery needed: ")
            .has("'mmapctl patch f --script /dev/null'");
    }
    assert!(read(&target) == [b'A'; 8192]);
    dir.run("patch f -q --script /dev/null").is("exit 0");
    dir.run("patch g -q -o 0 @f").is("exit 0");
}

#[test]
fn the_tip_of_a_recovery_keeps_the_safety_rules_in_mind() {
    needs!(strace_works());
    for (mode, option) in [(0o4755, " --force"), (0o444, " --force"), (0o644, "")] {
        if mode == 0o444 && !is_root() {
            // Nobody else can open it for writing.
            continue;
        }
        let dir = Sandbox::new();
        let path = dir.file("f", noise(8192));
        set_mode(&path, mode);
        killed(&dir, &format!("patch f -q -o 0 fill:43:8 --atomic{option}"));
        // A store takes a set-ID bit away from whoever is not root.
        set_mode(&path, mode);
        let remedy = format!("patch f --script /dev/null{option}");
        for line in ["cat f", "map f", "sync f"] {
            let text = dir.mmapctl(&words(line));
            assert!(text.contains(&format!("'mmapctl {remedy}'")), "{mode:o}: {line}: {text}");
        }
        let text = dir.mmapctl(&words(&remedy));
        assert!(text.ends_with("exit 0") && read(&path) == noise(8192), "{mode:o}: {text}");
    }
}

#[test]
fn an_undo_script_that_was_replaced_is_not_removed() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(9000));
    let script = dir.join("u");
    let fault = "inject=preadv:error=EIO:delay_enter=3000000:when=1";
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| dir.straced(&["-e", fault], "patch f -o 0 11 --undo u"));
        assert!(eventually(|| script.exists()));
        let other = dir.file("other", b"precious");
        fs::rename(other, &script).unwrap();
        run.join().unwrap()
    });
    assert_eq!(output.exit(), 2, "{}", output);
    assert_eq!(read(&script), b"precious");
    // One that is still its own goes.
    dir.straced(&["-e", "inject=preadv:error=EIO:when=1"], "patch f -o 0 11 --undo v").code(2);
    assert!(!dir.join("v").exists());
}

/// The names of the calls of a patch, in order, up to its last store.
fn calls(dir: &Sandbox, line: &str) -> Vec<String> {
    let trace = "trace=fsync,fdatasync,linkat,renameat2,preadv";
    dir.straced(&["-y", "-e", trace], line).code(0);
    let log = dir.strace_log();
    let target = format!("<{}>", fs::canonicalize(dir.join("f")).unwrap().display());
    let name = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let name = call.split_once('(')?.0;
        let of_target = name.contains("sync") && call.contains(&target);
        Some(if of_target { "flush".into() } else { name.to_string() })
    };
    log.lines().filter_map(name).collect()
}

// A file system without a metadata journal (ext2) keeps what fsync(2) has given it until the next fsync: an inode without
// a name.
#[test]
fn an_undo_script_is_durable_with_its_name() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(9000));
    let calls = calls(&dir, "patch f -q -o 0 11 --undo u");
    let named = calls.iter().position(|call| ["linkat", "renameat2"].contains(&call.as_str())).unwrap();
    let stored = calls.iter().position(|call| call == "preadv").unwrap();
    let synced = calls[named..stored].iter().filter(|call| *call == "fsync").count();
    assert_eq!(synced, 2, "the script and its folder: {calls:?}");
}

// What gives a hole its blocks has to be flushed before the journal is there: on a file system that may write those blocks
// down before their zeros (ext3 with data=writeback), a recovery would leave what stood in them.
#[test]
fn edits_that_change_nothing_are_flushed_with_the_old_bytes() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let path = dir.sparse("f", 64 << 10);
    synced(&path);
    dir.file("s", b"0: -> 58\n0x8000: -> 00\n");
    let calls = calls(&dir, "patch f -q --atomic --script s");
    let first = |name: &str| calls.iter().position(|call| call == name).unwrap();
    assert!(first("preadv") < first("flush"), "{calls:?}");
}

#[test]
fn a_session_whose_child_leaves_a_journal_ends_in_doubt() {
    needs!(strace_works());
    for verb in [
        "fork patch -q -o 0 4242 --atomic",
        "! mmapctl patch f -q -o 0 4242 --atomic",
    ] {
        for fault in ["inject=msync:error=EIO", "inject=msync:signal=KILL"] {
            let dir = Sandbox::new();
            dir.file("f", noise(8192));
            let verb = verb.replace("mmapctl", BINARY);
            let args = ["-qq", "-f", "-o", "log", "-e", "trace=msync", "-e", fault, BINARY];
            let session = [
                "map",
                "f",
                "-q",
                "-c",
                "patch -q -o 9 41",
                "-c",
                &verb,
                "-c",
                "patch -q -o 5 41",
            ];
            dir.program("strace", &[&args[..], &session].concat()).outcome().code(4).has("recovery needed: ");
            dir.run("patch f -q --script /dev/null").is("exit 0");
        }
    }
}

#[test]
fn a_journal_is_found_where_proc_shows_another_path() {
    needs!(strace_works());
    needs!(is_root());
    // Something is mounted over the folder that this process is in.
    let dir = Sandbox::new();
    let here = Sandbox::at(dir.join("here"));
    fs::create_dir(&here).unwrap();
    here.file("f", noise(8192));
    killed(&here, "patch f -q -o 0 fill:43:8 --atomic");
    // Of a descriptor of a file whose name cannot be seen, nobody can tell.
    let by_number =
        "exec 9<>f; mount -t tmpfs tmpfs \"$PWD\" || exit 99; cd /; \"$@\"; code=$?; umount \"$OLDPWD\"; exit $code";
    for line in ["cat /dev/fd/9", "sync /dev/fd/9", "patch /dev/fd/9 -o 0 99"] {
        let args = [&["-c", by_number, "sh", BINARY], words(line).as_slice()].concat();
        let output = here.program("sh", &args).outcome();
        assert!([2, 99].contains(&output.exit()), "{output}");
        assert!(output.exit() == 99 || output.contains("cannot tell where"), "{output}");
    }
    let over = "mount -t tmpfs tmpfs \"$PWD\" && \"$@\"; code=$?; umount \"$PWD\"; exit $code";
    let under_it = |line: &str| {
        let args = [&["-c", over, "sh", BINARY], words(line).as_slice()].concat();
        here.program("sh", &args).outcome()
    };
    if under_it("--version").exit() != 0 {
        return skip("a tmpfs cannot be mounted");
    }
    for line in ["cat f", "map f", "patch f --dry-run -o 9 11"] {
        under_it(line).code(2).has("recovery needed");
    }
    under_it("sync f").code(4);
    under_it("patch f -q -o 9 11 --sync").is("exit 0");
    let mut expected = noise(8192);
    expected[9] = 0x11;
    assert!(here.read("f") == expected);
    under_it("patch f -q -o 9 12 --atomic").is("exit 0");
}

#[test]
fn a_file_that_came_back_by_another_link_has_its_journal() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let again = || {
        dir.file("f", noise(8192));
        dir.file("other", b"other");
        let _ = fs::remove_file(dir.join("link"));
        fs::hard_link(dir.join("f"), dir.join("link")).unwrap();
    };
    again();
    let swap = "! mv other f; mv link f";
    dir.session("f -q", &[swap, "patch -q -o 0 44", "patch -q -o 1 45 --atomic"]).is("exit 0");
    again();
    let fault = "inject=msync:signal=KILL:when=1";
    let leave = format!("! strace -o log -e trace=msync -e {fault} {BINARY} patch f -q -o 0 fill:43:8 --atomic; true");
    dir.session("f -q", &[swap, &leave, "cat -n 2"]).code(2).has("recovery needed");
    dir.run("patch f -q --script /dev/null").is("exit 0");
    assert!(dir.read("f") == noise(8192));
}

#[test]
fn what_cannot_be_told_of_a_journal_is_not_taken_for_none() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(8192));
    dir.file("g", [b'A'; 8192]);
    killed(&dir, "patch f -q -o 0 fill:43:8 --atomic");
    for error in ["EIO", "ESTALE", "EMFILE"] {
        // The look at the journal is the last statx of them.
        for line in ["cat f -n 2", "map f -s", "patch f --dry-run -o 9 11"] {
            for nth in 1..20 {
                let output = dir.inject(&[&format!("statx:error={error}:when={nth}")], line);
                let is_look = dir.strace_log().lines().any(|line| line.contains("undo") && line.contains("INJECTED"));
                assert!(!is_look || output.exit() == 2, "{line}: {output}");
            }
        }
        for nth in 1..12 {
            dir.inject(&[&format!("openat:error={error}:when={nth}")], "patch g -o 0 @f");
            assert!(dir.read("g") == [b'A'; 8192], "{error} {nth}");
        }
    }
}

#[test]
fn a_file_with_a_very_long_path_is_one_like_others() {
    needs!(has("bash"));
    let top = Sandbox::new();
    let name = "d".repeat(200);
    let make = format!("i=0; while [ $i -lt 25 ]; do mkdir {name} && cd {name} || exit 9; i=$((i+1)); done");
    let run = |line: &str| {
        let enter = format!("i=0; while [ $i -lt 25 ]; do cd {name} || exit 9; i=$((i+1)); done; exec \"$@\"");
        let args = [&["-c", &enter, "sh", BINARY], words(line).as_slice()].concat();
        top.program("bash", &args).outcome()
    };
    top.program("bash", &["-c", &format!("{make}; printf 12345678 >f")]).outcome().code(0);
    run("cat f").is("12345678(no newline)\nexit 0");
    run("patch f -q -o 0 61 --atomic").is("exit 0");
    run("sync f -q").is("exit 0");
    run("cat f -n 1").is("a(no newline)\nexit 0");
}

#[test]
fn a_journal_has_no_slash_at_its_end() {
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    for line in [
        "patch f -o 0 01 --atomic --journal J/",
        "cat f --journal J/",
        "sync f --journal d/J//",
    ] {
        dir.refused_untouched(line).has("--journal: a file is needed");
    }
    assert!(!dir.join("J").exists());
}

#[test]
fn a_writer_that_may_not_search_the_directory_is_told_that() {
    needs!(is_root());
    needs!(has("setpriv"));
    let dir = Sandbox::new();
    let path = dir.file("f", noise(64));
    set_mode(&path, 0o666);
    set_mode(&dir, 0o700);
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", BINARY];
    let args = [&nobody, words("patch /dev/stdin -o 0 11").as_slice()].concat();
    let mut command = dir.program("setpriv", &args);
    command.current_dir("/").stdin(fs::File::options().read(true).write(true).open(&path).unwrap());
    let output = command.outcome();
    if output.exit() == 127 || output.contains("failed to execute") {
        return skip("the binary may not be run by others");
    }
    output.code(2).has("cannot tell whether the journal").lacks("move the journal away");
}

#[test]
fn a_journal_is_seen_below_a_directory_that_may_not_be_searched() {
    needs!(strace_works());
    needs!(is_root());
    needs!(has("setpriv"));
    let dir = Sandbox::new();
    set_mode(&dir, 0o755);
    let closed = Sandbox::at(dir.join("closed"));
    let inner = Sandbox::at(closed.join("inner"));
    fs::create_dir_all(&inner).unwrap();
    for name in ["f", "g"] {
        set_mode(inner.file(name, noise(8192)), 0o666);
    }
    killed(&inner, "patch f -q -o 0 fill:43:8 --atomic");
    let program = dir.join("mmapctl");
    fs::copy(BINARY, &program).unwrap();
    set_mode(&closed, 0o700);
    let run = |line: &str| {
        let nobody = [
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            program.to_str().unwrap(),
        ];
        inner.program("setpriv", &[&nobody, words(line).as_slice()].concat()).outcome()
    };
    for (line, code) in [
        ("cat f -n 2", 2),
        ("map f -s", 2),
        ("sync f", 4),
        ("patch f --dry-run -o 9 11", 2),
    ] {
        run(line).code(code).has("recovery needed");
    }
    run("patch g -o 0 @f --dry-run").code(2).has("recovery needed");
    run("patch g -q -o 0 11").is("exit 0");
}

#[test]
fn without_proc_a_mount_point_has_no_journal_beside_it_either() {
    needs!(is_root());
    let dir = Sandbox::new();
    for folder in ["a", "b"] {
        fs::create_dir(dir.join(folder)).unwrap();
        dir.file(format!("{folder}/f"), noise(8192));
    }
    fs::copy(BINARY, dir.join("m")).unwrap();
    let script =
        "mount --bind a/f b/f || exit 99; chroot . /m patch /b/f -o 0 12 --atomic; code=$?; umount b/f; exit $code";
    let output = dir.program("sh", &["-c", script]).outcome();
    if output.exit() == 99 {
        return skip("no file can be mounted");
    }
    output.code(2).has("the file is a mount point");
    assert!(dir.read("a/f") == noise(8192));
}

#[test]
fn a_fork_that_stored_is_not_untouched_if_the_parent_cannot_look() {
    needs!(strace_works());
    let dir = Sandbox::new();
    for nth in 8..22 {
        let path = dir.file("f", noise(8192));
        let fault = format!("inject=statx:error=EIO:when={nth}");
        let args = [
            "-qq",
            "-f",
            "-o",
            "log",
            "-e",
            &fault,
            BINARY,
            "map",
            "f",
            "-c",
            "fork remap --size 9000 -q",
        ];
        let output = dir.program("strace", &args).outcome();
        let changed = read(&path).len() == 9000;
        assert!([0, 3, 4].contains(&output.exit()) || !changed, "{nth}: {output}");
    }
}

#[test]
fn a_journal_whose_path_would_be_too_long_is_found_from_its_directory() {
    needs!(strace_works());
    needs!(has("bash"));
    let top = Sandbox::new();
    // The path of the file has 4090 bytes; that of its journal would have 14 more.
    let enter = "d=$(printf 'd%.0s' {1..200}); while [ ${#PWD} -lt 3700 ]; do mkdir -p $d; cd $d || exit 9; done; \
                 d=$(printf 'e%.0s' {1..190}); mkdir -p $d; cd $d; d=$(printf 'g%.0s' $(seq $((4087-${#PWD})))); \
                 mkdir -p $d; cd $d || exit 9; exec \"$@\"";
    let run = |program: &[&str]| top.program("bash", &[&["-c", enter, "bash"], program].concat()).outcome();
    run(&["sh", "-c", "printf 12345678 >f"]).code(0);
    let fault = [
        "strace",
        "-o",
        "/dev/null",
        "-e",
        "inject=msync:signal=KILL:when=1",
        BINARY,
    ];
    run(&[&fault[..], &["patch", "f", "-q", "-o", "0", "6161", "--atomic"]].concat());
    run(&[BINARY, "cat", "f", "-n", "2"]).code(2).has("recovery needed");
    run(&[BINARY, "sync", "f"]).code(4);
    run(&[BINARY, "patch", "f", "-q", "-o", "7", "62"]).code(0);
    run(&[BINARY, "cat", "f"]).is("1234567b(no newline)\nexit 0");
}

#[test]
fn a_file_that_needs_recovery_is_read_or_put_back_as_was_asked() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let again = || {
        dir.file("f", [b'A'; 8192]);
        killed(&dir, "patch f -q -o 0 5555 --atomic");
    };
    again();
    for line in ["map --files-from f", "map --files-from f -0"] {
        dir.mmapctl(&words(line)).code(2).has("f: recovery needed");
    }
    for line in [
        "remap f --order 0 --method remap-file-pages --ignore-journal",
        "remap f --size 8192 --ignore-journal",
    ] {
        dir.run(line).code(2).has("--ignore-journal is only for reading");
    }
    let verbs = ["patch -q -o 0 11", "cat -n 2 -f plain"];
    assert_eq!(dir.session_prints("f -q --private --ignore-journal", &verbs), "1155\n");
    assert!(dir.join(".f.mmapctl-undo").exists());
    for line in [
        "patch f -o 9 41 --access 1",
        "remap f --order 0 --method remap-file-pages",
    ] {
        let output = dir.mmapctl(&words(&format!("{line} --json")));
        if !output.contains("remap_file_pages") {
            output.code(0).has("\"recovered\":true");
        }
        again();
    }
}

#[test]
fn a_fork_that_left_a_finished_journal_ends_as_the_verb_does() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(8192));
    let args = [
        "-qq",
        "-f",
        "-o",
        "log",
        "-e",
        "inject=unlinkat:error=EPERM",
        BINARY,
        "map",
        "f",
        "-q",
    ];
    let verb = ["-c", "fork patch -q -o 0 4343 --atomic"];
    let output = dir.program("strace", &[&args[..], &verb].concat()).outcome();
    output.code(3).lacks("was interrupted");
    assert_eq!(dir.read("f")[..2], *b"CC");
}

#[test]
fn a_journal_is_found_in_a_directory_that_was_renamed_meanwhile() {
    needs!(strace_works());
    for (line, call, code) in [
        ("patch d/f -q -o 9 99 --sync", "openat", 0),
        ("cat d/f -n 2", "statx", 2),
    ] {
        let dir = Sandbox::new();
        let folder = Sandbox::at(dir.join("d"));
        fs::create_dir(&folder).unwrap();
        folder.file("f", noise(8192));
        killed(&folder, "patch f -q -o 0 fill:43:8 --atomic");
        let (journal, delay) = (folder.join(".f.mmapctl-undo"), format!("inject={call}:delay_enter=1000000"));
        let journal = journal.canonicalize().unwrap();
        let output = std::thread::scope(|scope| {
            let run = scope.spawn(|| dir.straced(&["-P", journal.to_str().unwrap(), "-e", &delay], line));
            std::thread::sleep(std::time::Duration::from_millis(500));
            fs::rename(&folder, dir.join("e")).unwrap();
            run.join().unwrap()
        });
        output.code(code);
        let mut expected = noise(8192);
        if code == 0 {
            expected[9] = 0x99;
            assert!(dir.read("e/f") == expected);
        }
    }
}

#[test]
fn a_failed_look_beside_a_new_journal_names_its_cause() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    let output = dir.inject(&["newfstatat:error=EIO:when=1"], "patch f -o 0 41 --atomic");
    if output.exit() != 0 {
        output.code(2).has("EIO").lacks("another file or directory");
    }
}

#[test]
fn map_of_several_files_looks_for_journals_as_map_of_one_does() {
    needs!(strace_works());
    let dir = Sandbox::new();
    fs::create_dir(dir.join("t")).unwrap();
    for name in ["t/f", "t/g"] {
        dir.file(name, noise(8192));
    }
    let mut watch = dir.command(&["map", "-R", "t", "--watch=50ms"]);
    watch.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let watch = watch.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    killed(&dir, "patch t/f -q -o 0 5555 --atomic");
    std::thread::sleep(std::time::Duration::from_millis(500));
    send(watch.id() as i32, nix::sys::signal::Signal::SIGTERM);
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("recovery needed"), "{output:?}");
    dir.run("patch t/f -q --script /dev/null").is("exit 0");
    killed(&dir, "patch t/f -q -o 0 5555 --atomic --journal J");
    dir.run("map -R t --journal J").code(2).has("recovery needed");
}
