//! `map` of several files and of folders: which files, the table, the totals, and what is done to all of them.

use crate::support;
use crate::support::torn::torn;
use crate::support::{Mount, as_ordinary_user, eventually, file, has, json, limited, mmapctl, noise, page_size, peer};
use crate::support::{refused, report, run, run_with, scratch, sparse, spawnable, tmpfs_scratch, told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::{Child, Stdio};

/// The names in a report, in order.
fn names(report: &Value) -> Vec<&str> {
    let files = report["files"].as_array().expect("files");
    files.iter().map(|file| file["file"].as_str().unwrap()).collect()
}

/// What a command line takes, in order; it must end with 0.
fn taken(dir: &Path, line: &str) -> Vec<String> {
    names(&report(dir, line)).into_iter().map(String::from).collect()
}

/// A folder with `a`, `b.db`, `sub/c.db`, `sub/deep/d` and `z`, of 1 to 5 pages.
fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("t/sub/deep")).unwrap();
    for (pages, name) in (1..).zip(["a", "b.db", "sub/c.db", "sub/deep/d", "z"]) {
        file(&dir.join("t"), name, &noise(pages * page_size() as usize));
    }
}

// ---- the table -----------------------------------------------------------------------------------------------------

#[test]
fn several_files_give_a_row_each_and_totals() {
    let dir = scratch();
    file(dir.path(), "b", &noise(10_000));
    file(dir.path(), "a", &noise(5));
    file(dir.path(), "empty", b"");
    run(dir.path(), "sync a b");
    let pages = 10_000u64.div_ceil(page_size());
    let row = |size: &str, pages: u64, name: &str| {
        let count = format!("{pages}/{pages}");
        format!("{size:>10}  {count:>19} 100 %        0  {name}\n")
    };
    let expected = [
        format!("{:>10}  {:>19} {:>14}  FILE\n", "SIZE", "RESIDENT/PAGES", "DIRTY"),
        row("9.8 KiB", pages, "b"),
        row("5 B", 1, "a"),
        row("0 B", 0, "empty"),
        row("9.8 KiB", pages + 1, "total of 3 files"),
    ];
    assert_eq!(run(dir.path(), "map b a empty"), expected.concat() + "exit 0");
    assert_eq!(
        run(dir.path(), "map b a empty --summarize"),
        [&expected[0][..], &expected[4]].concat() + "exit 0"
    );
    assert_eq!(run(dir.path(), "map b a -q"), "exit 0");
}

#[test]
fn json_is_one_object_with_files_and_totals() {
    let dir = scratch();
    tree(dir.path());
    run(dir.path(), "sync t/a t/b.db t/sub/c.db t/sub/deep/d t/z");
    let told = report(dir.path(), "map -R t");
    assert_eq!(told["verb"], "map");
    assert_eq!((&told["file"], &told["changed"]), (&Value::Null, &false.into()));
    assert_eq!(names(&told), ["t/a", "t/b.db", "t/sub/c.db", "t/sub/deep/d", "t/z"]);
    let page = page_size();
    for (pages, file) in (1u64..).zip(told["files"].as_array().unwrap()) {
        let bytes = pages * page;
        for (key, value) in [("size", bytes), ("offset", 0), ("length", bytes), ("page_size", page)] {
            assert_eq!(file[key], value, "{file}");
        }
        assert_eq!(
            (&file["pages"], &file["resident"]),
            (&pages.into(), &pages.into()),
            "{file}"
        );
    }
    let totals = &told["totals"];
    for (key, value) in [
        ("files", 5),
        ("folders", 3),
        ("size", 15 * page),
        ("length", 15 * page),
        ("page_size", page),
        ("pages", 15),
        ("resident", 15),
        ("unknown", 0),
        ("repeated", 0),
        ("failed", 0),
    ] {
        assert_eq!(totals[key], value, "{key} of {totals}");
    }
    let told = report(dir.path(), "map -R t --summarize");
    assert!(told.get("files").is_none() && told["totals"]["pages"] == 15, "{told}");
}

#[test]
fn the_counts_are_those_of_vmtouch_and_fincore() {
    let test = "the_counts_are_those_of_vmtouch_and_fincore";
    let dir = scratch();
    tree(dir.path());
    let partly = sparse(&dir.path().join("t"), "partly", 64 * page_size());
    let mut bytes = vec![0; 3 * page_size() as usize];
    fs::File::open(&partly)
        .unwrap()
        .read_exact_at(&mut bytes, 40 * page_size())
        .unwrap();
    let ours = report(dir.path(), "map -R t");
    if has(test, "vmtouch") {
        let theirs = String::from_utf8(peer(dir.path(), "vmtouch", &["t"])).unwrap();
        let totals = &ours["totals"];
        let line = format!(" {}/{} ", totals["resident"], totals["pages"]);
        assert!(theirs.contains(&line), "{totals}\n{theirs}");
        assert!(
            theirs.contains(&format!("Directories: {}\n", totals["folders"])),
            "{theirs}"
        );
    }
    if has(test, "fincore") {
        for file in ours["files"].as_array().unwrap() {
            let name = file["file"].as_str().unwrap();
            let theirs = peer(
                dir.path(),
                "fincore",
                &["--noheadings", "--raw", "--output", "PAGES", name],
            );
            assert_eq!(
                String::from_utf8_lossy(&theirs).trim(),
                file["resident"].to_string(),
                "{file}"
            );
        }
    }
}

#[test]
fn a_cache_of_many_small_folios_is_counted_by_several_threads_to_the_page() {
    let test = "a_cache_of_many_small_folios_is_counted_by_several_threads_to_the_page";
    let Some(dir) = tmpfs_scratch(test) else { return };
    let path = sparse(dir.path(), "f", 256 << 20);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let half = noise(1 << 20);
    // Every other MiB, and one page more at the end.
    let mut pages = 1;
    for at in (0..255).step_by(2) {
        file.write_all_at(&half, at << 20).unwrap();
        pages += (1 << 20) / page_size();
    }
    file.write_all_at(b"x", (256 << 20) - 1).unwrap();
    for line in ["map f", "map f --range 1p..", "map -R f"] {
        let told = report(dir.path(), line);
        let told = told.get("files").map_or(&told, |files| &files[0]);
        let expected = if line.contains("1p") { pages - 1 } else { pages };
        assert_eq!(told["resident"], expected, "{line}: {told}");
    }
}

#[test]
fn where_cachestat_says_nothing_mincore_counts_and_dirty_pages_are_unknown() {
    let test = "where_cachestat_says_nothing_mincore_counts_and_dirty_pages_are_unknown";
    let Some(mount) = Mount::overlay(test) else { return };
    file(mount.path(), "a", &noise(3 * page_size() as usize));
    file(mount.path(), "b", &noise(1));
    let told = report(mount.path(), "map a b");
    assert_eq!(
        (&told["totals"]["resident"], &told["totals"]["dirty"]),
        (&4.into(), &Value::Null),
        "{told}"
    );
    assert!(run(mount.path(), "map a b").contains(" 100 %        ?  total of 2 files\n"));
}

#[test]
fn the_cache_of_somebody_else_s_file_is_unknown() {
    let test = "the_cache_of_somebody_else_s_file_is_unknown";
    let mut command = spawnable(Path::new("/"), &["map", "/etc/passwd", "/etc/group", "--json"]);
    if !support::is_root() || Path::new("/etc/passwd").metadata().is_err() {
        return support::skip(test, "it takes files of root's, and to be another user");
    }
    command.stdout(Stdio::piped());
    let Some(mut command) = as_ordinary_user(test, command) else {
        return;
    };
    let told = json(&command.output().unwrap().stdout);
    assert_eq!(
        (&told["totals"]["unknown"], &told["totals"]["resident"]),
        (&2.into(), &Value::Null),
        "{told}"
    );
}

// ---- which files ---------------------------------------------------------------------------------------------------

#[test]
fn one_file_has_its_full_report_and_a_row_only_with_r() {
    let dir = scratch();
    tree(dir.path());
    assert!(report(dir.path(), "map t/a")["address"].is_string());
    assert_eq!(taken(dir.path(), "map -R t/a"), ["t/a"]);
}

#[test]
fn a_folder_without_r_is_refused_with_a_tip() {
    let dir = scratch();
    tree(dir.path());
    let text = refused(dir.path(), "map t", b"");
    assert!(
        text.contains("t: cannot map it: it is a directory") && text.contains("mmapctl map -R t"),
        "{text}"
    );
    let text = run(dir.path(), "map t t/a");
    assert!(
        text.contains("it is a directory") && text.contains(" t/a\n") && text.ends_with("exit 2"),
        "{text}"
    );
}

#[test]
fn patterns_are_about_names_or_with_a_slash_about_paths() {
    let dir = scratch();
    tree(dir.path());
    for (options, expected) in [
        ("--include *.db", &["t/b.db", "t/sub/c.db"][..]),
        ("--include *.db --include z", &["t/b.db", "t/sub/c.db", "t/z"]),
        ("--include *.db --exclude c*", &["t/b.db"]),
        ("--exclude sub", &["t/a", "t/b.db", "t/z"]),
        ("--exclude sub/", &["t/a", "t/b.db", "t/z"]),
        ("--exclude a/", &["t/a", "t/b.db", "t/sub/c.db", "t/sub/deep/d", "t/z"]),
        ("--exclude sub/deep", &["t/a", "t/b.db", "t/sub/c.db", "t/z"]),
        (
            "--exclude /b.db --exclude /c.db",
            &["t/a", "t/sub/c.db", "t/sub/deep/d", "t/z"],
        ),
        ("--include sub/**", &["t/sub/c.db", "t/sub/deep/d"]),
        ("--include **/d", &["t/sub/deep/d"]),
        ("--include [az]", &["t/a", "t/z"]),
        ("--max-size 2p", &["t/a", "t/b.db"]),
        ("--max-size 1", &[]),
    ] {
        assert_eq!(taken(dir.path(), &format!("map -R t {options}")), expected, "{options}");
    }
    // A named folder is entered whatever its name is; a named file has to pass.
    assert_eq!(taken(dir.path(), "map -R t --exclude t --include a"), ["t/a"]);
    assert_eq!(taken(dir.path(), "map t/a t/z --exclude z"), ["t/a"]);
    assert_eq!(taken(dir.path(), "map t/a t/z --exclude /t/a"), ["t/z"]);
}

#[test]
fn patterns_that_are_none_are_refused() {
    let dir = scratch();
    tree(dir.path());
    for option in ["--include [a", "--exclude {a,b", "--include a\\", "--include sub/"] {
        refused(dir.path(), &format!("map -R t {option}"), b"");
    }
}

#[test]
fn a_list_gives_the_names_by_lines_or_by_nuls() {
    let dir = scratch();
    tree(dir.path());
    file(dir.path(), "two\nlines", &noise(1));
    file(dir.path(), "list", b"t/z\n\nt/a");
    assert_eq!(taken(dir.path(), "map --files-from list"), ["t/z", "t/a"]);
    assert_eq!(
        taken(dir.path(), "map --files-from list t/b.db"),
        ["t/b.db", "t/z", "t/a"]
    );
    let told = run_with(dir.path(), "map --files-from - -0 --json", b"two\nlines\0t/a\0");
    assert_eq!(
        names(&json(told.strip_suffix("exit 0").unwrap().as_bytes())),
        ["two\nlines", "t/a"]
    );
    let told = run_with(dir.path(), "map --files-from - -R -s", b"t\n");
    assert!(told.contains(" total of 5 files in 3 folders\n"), "{told}");
    let text = refused(dir.path(), "map --files-from missing", b"");
    assert!(text.contains("missing: cannot read the list of files"), "{text}");
    for line in ["map -0 t/a", "map --files-from list --anonymous -n 4K"] {
        assert!(run(dir.path(), line).ends_with("exit 2"), "{line}");
    }
}

#[test]
fn names_that_are_no_text_are_told_exactly() {
    let dir = scratch();
    let name = OsStr::from_bytes(b"odd\xff");
    fs::write(dir.path().join(name), "x").unwrap();
    let told = report(dir.path(), "map -R .");
    assert_eq!(told["files"][0]["path_hex"], "2e2f6f6464ff", "{told}");
}

#[test]
fn a_file_with_several_names_is_counted_once() {
    let dir = scratch();
    tree(dir.path());
    fs::hard_link(dir.path().join("t/a"), dir.path().join("t/sub/same")).unwrap();
    let told = run(dir.path(), "map -R t");
    assert!(
        told.contains(" total of 5 files in 3 folders, 1 further names of a file counted once\n"),
        "{told}"
    );
    // So is one that is named twice, and a folder in a folder.
    assert_eq!(taken(dir.path(), "map t/a t/a t/sub/same t/z"), ["t/a", "t/z"]);
    assert_eq!(report(dir.path(), "map -R t t/sub t")["totals"]["files"], 5);
}

#[test]
fn links_in_folders_are_followed_only_with_l_and_circles_end() {
    let dir = scratch();
    tree(dir.path());
    file(dir.path(), "outside", &noise(1));
    symlink("../outside", dir.path().join("t/link")).unwrap();
    symlink("..", dir.path().join("t/sub/up")).unwrap();
    symlink("nowhere", dir.path().join("t/broken")).unwrap();
    symlink("t", dir.path().join("named")).unwrap();
    assert_eq!(report(dir.path(), "map -R t")["totals"]["files"], 5);
    let told = report(dir.path(), "map -R -L t");
    assert!(
        names(&told).contains(&"t/link") && told["totals"]["files"] == 6,
        "{told}"
    );
    // What is named is meant.
    assert_eq!(report(dir.path(), "map -R named")["totals"]["files"], 5);
    assert_eq!(report(dir.path(), "map t/link t/a")["totals"]["files"], 2);
}

#[test]
fn special_files_are_passed_over_in_folders_and_refused_by_name() {
    let dir = scratch();
    tree(dir.path());
    let fifo = dir.path().join("t/fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("t/socket")).unwrap();
    assert_eq!(report(dir.path(), "map -R t")["totals"]["files"], 5);
    let told = run(
        dir.path(),
        "map t/fifo t/socket /dev/null /dev/zero /proc/self/status t/a",
    );
    for name in ["t/fifo", "t/socket", "/dev/null", "/dev/zero", "/proc/self/status"] {
        assert!(told.contains(&format!("! error: {name}: ")), "{name}: {told}");
    }
    assert!(
        told.contains(" total of 1 file, 5 failed\n") && told.ends_with("exit 2"),
        "{told}"
    );
    // Files of the kernel's own are special, too.
    assert_eq!(report(dir.path(), "map -R /proc/self/fdinfo")["totals"]["files"], 0);
}

#[test]
fn other_file_systems_are_entered_only_when_told() {
    let test = "other_file_systems_are_entered_only_when_told";
    let Some(mount) = Mount::tmpfs(test, "1m") else { return };
    file(mount.path(), "inside", &noise(1));
    let dir = scratch();
    tree(dir.path());
    symlink(mount.path(), dir.path().join("t/mounted")).unwrap();
    let files = |options: &str| report(dir.path(), &format!("map -R t -L{options}"))["totals"]["files"].clone();
    assert_eq!((files(""), files(" --cross-file-system")), (5.into(), 6.into()));
    // Its own is that of the folder named.
    assert_eq!(report(mount.path(), "map -R .")["totals"]["files"], 1);
}

#[test]
fn what_cannot_be_opened_is_told_and_the_rest_goes_on() {
    let dir = scratch();
    tree(dir.path());
    let told = run(dir.path(), "map t/missing t/a t/gone");
    assert!(
        told.contains("  t/a\n") && told.contains(" total of 1 file, 2 failed\n"),
        "{told}"
    );
    assert!(
        told.contains("! error: t/missing: cannot open it: No such file or directory (ENOENT)\n"),
        "{told}"
    );
    assert!(told.contains("! error: t/gone: ") && told.ends_with("exit 2"), "{told}");
    let output = mmapctl(dir.path(), &["map", "t/missing", "t/a", "--json"])
        .output()
        .unwrap();
    assert_eq!(
        (json(&output.stderr)["file"].as_str(), output.status.code()),
        (Some("t/missing"), Some(2))
    );
    assert_eq!(json(&output.stdout)["totals"]["failed"], 1);
}

#[test]
fn a_file_that_waits_for_recovery_is_an_error_unless_ignored() {
    let dir = scratch();
    fs::create_dir(dir.path().join("t")).unwrap();
    torn(&dir.path().join("t"));
    file(dir.path(), "t/other", &noise(1));
    for line in ["map -R t", "map t/f t/other"] {
        let told = run(dir.path(), line);
        assert!(
            told.contains("! error: t/f: recovery needed") && told.contains("  t/other\n"),
            "{told}"
        );
        assert!(told.ends_with("exit 2"), "{told}");
    }
    assert!(taken(dir.path(), "map -R t --ignore-journal").contains(&"t/f".to_string()));
}

#[test]
fn a_range_is_that_of_each_file() {
    let dir = scratch();
    tree(dir.path());
    let told = report(dir.path(), "map -R t --range 1p..3p");
    let pages = told["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["pages"].as_u64().unwrap());
    assert_eq!(pages.collect::<Vec<_>>(), [0, 1, 2, 2, 2], "{told}");
    assert_eq!(report(dir.path(), "map -R t --offset -1p")["totals"]["pages"], 5);
    assert_eq!(report(dir.path(), "map -R t --length 1")["totals"]["length"], 5);
    // By name, a place past the end is a mistake; and some are one whatever the file.
    assert!(run(dir.path(), "map t/a t/z --offset 2p").contains("! error: t/a: "));
    assert!(run(dir.path(), "map -R t --range 2p..1p").contains(" total of 0 files in 3 folders, 5 failed\n"));
}

// ---- what is done to all of them -----------------------------------------------------------------------------------

#[test]
fn what_is_for_one_mapping_is_refused_with_several() {
    let dir = scratch();
    tree(dir.path());
    file(dir.path(), "script", b"cat\n");
    for (line, word) in [
        ("map t/a t/z -c cat", "session"),
        ("map -R t --script script", "session"),
        ("map t/a t/z --address 0x10000000", "--address"),
        ("map --files-from - --watch", "--watch"),
        ("map --anonymous -n 4K -R", "new memory"),
    ] {
        assert!(refused(dir.path(), line, b"t/a").contains(word), "{line}");
    }
}

#[test]
fn populate_brings_all_of_them_in() {
    let dir = scratch();
    for name in ["a", "b"] {
        sparse(dir.path(), name, 64 * page_size());
    }
    let resident = |options: &str| report(dir.path(), &format!("map a b{options}"))["totals"]["resident"].clone();
    assert_ne!(resident(""), 128);
    assert_eq!((resident(" --populate"), resident("")), (128.into(), 128.into()));
    // One file, too, of which a part is there already.
    let path = sparse(dir.path(), "c", (24 << 20) + 1);
    fs::File::open(path)
        .unwrap()
        .read_exact_at(&mut [0; 8192], 9 << 20)
        .unwrap();
    let told = report(dir.path(), "map c --populate");
    assert_eq!(told["resident"], told["pages"], "{told}");
}

#[test]
fn each_option_reaches_every_file() {
    let dir = scratch();
    tree(dir.path());
    let told = run(
        dir.path(),
        "map t/a t/z --private --advise random --populate --lock=on-fault -q -v",
    );
    for call in ["mmap(NULL, ", "MADV_RANDOM", "MADV_POPULATE_WRITE", "mlock2("] {
        assert_eq!(told.matches(call).count(), 2, "{call}: {told}");
    }
    // Nothing is mapped only to be counted.
    assert_eq!(run(dir.path(), "map t/a t/z -q -v"), "exit 0");
}

/// A process that holds mappings, once its table is there.
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
        assert!(
            eventually(|| self.0.try_wait().unwrap().is_some()),
            "it goes on after SIGTERM"
        );
        self.0.wait().unwrap().code()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Already gone, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn held_files_stay_mapped_with_no_descriptor_each() {
    let dir = scratch();
    for number in 0..300 {
        file(dir.path(), &format!("f{number:03}"), &noise(1));
    }
    let mut held = Held::new(
        limited(
            dir.path(),
            "-n 64",
            &["map", "-R", ".", "--lock=on-fault", "--hold", "-s"],
        ),
        "held by process",
    );
    let maps = held.proc("maps");
    // The binary is mapped, too, wherever it lies.
    let held_files = format!("{}/f", dir.path().canonicalize().unwrap().display());
    let count = maps.lines().filter(|line| line.contains(&held_files)).count();
    assert_eq!(count, 300, "{maps}");
    let fds = fs::read_dir(format!("/proc/{}/fd", held.0.id())).unwrap().count();
    assert!(fds < 10, "{fds} descriptors are open");
    assert_eq!(held.end(), Some(0));
}

#[test]
fn held_files_are_locked() {
    let dir = scratch();
    tree(dir.path());
    let args = ["map", "-R", "t", "--lock", "--hold"];
    let mut held = Held::new(spawnable(dir.path(), &args), "held by process");
    let locked = format!("{:8} kB\n", 15 * page_size() / 1024);
    assert!(
        held.proc("status").contains(&format!("VmLck:\t{locked}")),
        "{}",
        held.proc("status")
    );
    assert_eq!(held.end(), Some(0));
}

#[test]
fn nothing_is_held_or_announced_unless_every_file_is_mapped() {
    let dir = scratch();
    tree(dir.path());
    for line in [
        "map t/a missing --hold",
        "map t/a missing --hold=1h --lock",
        "map -R t missing --lock --hold",
        "map missing gone --lock --hold",
        "map t/a missing",
    ] {
        let announced = dir.path().join("ready");
        let mut args: Vec<_> = line.split(' ').collect();
        args.extend(["--ready-fd", "3"]);
        let mut command = std::process::Command::new("sh");
        command
            .current_dir(dir.path())
            .args(["-c", "exec \"$0\" \"$@\" 3> ready", support::BINARY])
            .args(&args);
        let text = told(&command.output().unwrap());
        assert!(text.ends_with("exit 2") && text.contains(" failed\n"), "{line}: {text}");
        assert!(
            text.contains("nothing is held, because not every file could be mapped") && !text.contains("held by"),
            "{line}: {text}"
        );
        assert_eq!(fs::read_to_string(announced).unwrap(), "", "{line}");
    }
    let report = mmapctl(dir.path(), &["map", "t/a", "missing", "--hold", "--json"])
        .output()
        .unwrap();
    let text = told(&report);
    assert!(text.ends_with("exit 2") && !text.contains("held by"), "{text}");
}

#[test]
fn limits_are_named_once_and_end_it() {
    let test = "limits_are_named_once_and_end_it";
    let dir = scratch();
    tree(dir.path());
    let kib = 4 * page_size() / 1024;
    let command = limited(dir.path(), &format!("-l {kib}"), &["map", "-R", "t", "--lock"]);
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if let Some(mut command) = as_ordinary_user(test, command) {
        let text = told(&command.output().unwrap());
        // The third file is one too many, not larger than the limit by itself.
        assert_eq!(text.matches("! error: ").count(), 1, "{text}");
        assert!(
            text.contains("! error: t/sub/c.db: cannot lock") && text.contains("RLIMIT_MEMLOCK"),
            "{text}"
        );
        assert!(text.contains(" total of 2 files in "), "{text}");
        assert!(text.ends_with("exit 2"), "{text}");
    }
    let text = told(&limited(dir.path(), "-n 3", &["map", "t/a", "t/z"]).output().unwrap());
    assert!(
        text.contains("RLIMIT_NOFILE") && text.contains("tip: raise it with 'ulimit -n"),
        "{text}"
    );
    assert!(
        text.ends_with("exit 2") && text.matches("! error: ").count() == 1,
        "{text}"
    );
}

#[test]
fn a_command_runs_beside_all_of_them_or_not_at_all() {
    let dir = scratch();
    tree(dir.path());
    let show = "echo $MMAPCTL_SIZE ${MMAPCTL_PATH-none}; grep -c /t/ /proc/$MMAPCTL_PID/maps; exit 7";
    let output = mmapctl(dir.path(), &["map", "-R", "t", "--", "sh", "-c", show])
        .output()
        .unwrap();
    assert_eq!(told(&output), format!("{} none\n5\nexit 7", 15 * page_size()));
    let output = mmapctl(dir.path(), &["map", "t/a", "missing", "--", "touch", "ran"])
        .output()
        .unwrap();
    let text = told(&output);
    assert!(
        text.contains("the command was not run") && text.ends_with("exit 2"),
        "{text}"
    );
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn a_watch_looks_at_the_folder_again_and_ends_on_a_signal() {
    let dir = scratch();
    tree(dir.path());
    let command = spawnable(dir.path(), &["map", "-R", "t", "--watch=10ms", "--json", "-s"]);
    let mut held = Held::new(command, "\"files\":5");
    assert_eq!(json((held.1[0].clone() + "\n").as_bytes())["totals"]["files"], 5);
    assert_eq!(held.end(), Some(0));
    let mut child = spawnable(dir.path(), &["map", "-R", "t", "--watch=10ms", "-s"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(" total of 5 files ")));
    file(dir.path(), "t/new", &noise(1));
    assert!(lines.any(|line| line.contains(" total of 6 files ")));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    lines.by_ref().for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_well_and_a_full_device_does_not() {
    let dir = scratch();
    for number in 0..2000 {
        file(dir.path(), &format!("{number:0200}"), b"");
    }
    let line = format!("'{}' map -R . | head -n 1; echo ${{PIPESTATUS[0]}}", support::BINARY);
    if has("a_reader_that_has_seen_enough_ends_it_well", "bash") {
        let text = String::from_utf8(peer(dir.path(), "bash", &["-c", &line])).unwrap();
        assert!(text.ends_with("FILE\n0\n"), "{text}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = spawnable(dir.path(), &["map", "-R", "."])
        .stdout(full)
        .output()
        .unwrap();
    let text = told(&output);
    assert!(
        text.contains("cannot write to stdout") && text.ends_with("exit 2"),
        "{text}"
    );
}
