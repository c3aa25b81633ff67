//! `map` of several files and of folders: which files, the table, the totals, and what is done to all of them.

use crate::support::strace::*;
use crate::support::torn::torn;
use crate::support::*;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Stdio;

/// The names in a report, in order.
fn names(report: &Value) -> Vec<&str> {
    let files = report["files"].as_array().expect("files");
    files.iter().map(|file| file["file"].as_str().unwrap()).collect()
}

/// The files that a command line reports, in order; it must end with 0.
fn taken(dir: &Sandbox, line: &str) -> Vec<String> {
    names(&dir.report(line)).into_iter().map(String::from).collect()
}

/// A folder with `a`, `b.db`, `sub/c.db`, `sub/deep/d` and `z`, of 1 to 5 pages.
pub fn tree(dir: &Sandbox) {
    fs::create_dir_all(dir.join("t/sub/deep")).unwrap();
    for (pages, name) in (1..).zip(["a", "b.db", "sub/c.db", "sub/deep/d", "z"]) {
        Sandbox::at(dir.join("t")).file(name, noise(pages * page_size() as usize));
    }
}

// ---- the table -----------------------------------------------------------------------------------------------------

#[test]
fn several_files_give_a_row_each_and_totals() {
    let dir = Sandbox::new();
    dir.file("b", noise(10_000));
    dir.file("a", noise(5));
    dir.file("empty", b"");
    dir.run("sync a b");
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
    assert_eq!(dir.run("map b a empty"), expected.concat() + "exit 0");
    assert_eq!(dir.run("map b a empty --summarize"), [&expected[0][..], &expected[4]].concat() + "exit 0");
    dir.run("map b a -q").is("exit 0");
}

#[test]
fn json_is_one_object_with_files_and_totals() {
    let dir = Sandbox::new();
    tree(&dir);
    dir.run("sync t/a t/b.db t/sub/c.db t/sub/deep/d t/z");
    let report = dir.report("map -R t");
    assert_eq!(report["verb"], "map");
    assert_eq!(report["file"], Value::Null);
    assert_eq!(report["changed"], false);
    assert_eq!(names(&report), ["t/a", "t/b.db", "t/sub/c.db", "t/sub/deep/d", "t/z"]);
    let page = page_size();
    for (pages, file) in (1u64..).zip(report["files"].as_array().unwrap()) {
        let bytes = pages * page;
        for (key, value) in [("size", bytes), ("offset", 0), ("length", bytes), ("page_size", page)] {
            assert_eq!(file[key], value, "{file}");
        }
        assert_eq!(file["pages"], pages, "{file}");
        assert_eq!(file["resident"], pages, "{file}");
    }
    let totals = &report["totals"];
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
    let report = dir.report("map -R t --summarize");
    assert!(report.get("files").is_none() && report["totals"]["pages"] == 15, "{report}");
}

#[test]
fn the_counts_are_those_of_vmtouch_and_fincore() {
    let dir = Sandbox::new();
    tree(&dir);
    let partly = Sandbox::at(dir.join("t")).sparse("partly", 64 * page_size());
    let mut bytes = vec![0; 3 * page_size() as usize];
    fs::File::open(&partly).unwrap().read_exact_at(&mut bytes, 40 * page_size()).unwrap();
    let ours = dir.report("map -R t");
    if has("vmtouch") {
        let theirs = String::from_utf8(dir.peer("vmtouch", &["t"])).unwrap();
        let totals = &ours["totals"];
        let line = format!(" {}/{} ", totals["resident"], totals["pages"]);
        assert!(theirs.contains(&line), "{totals}\n{theirs}");
        assert!(theirs.contains(&format!("Directories: {}\n", totals["folders"])), "{theirs}");
    }
    if has("fincore") {
        for file in ours["files"].as_array().unwrap() {
            let name = file["file"].as_str().unwrap();
            let theirs = dir.peer("fincore", &["--noheadings", "--raw", "--output", "PAGES", name]);
            assert_eq!(String::from_utf8_lossy(&theirs).trim(), file["resident"].to_string(), "{file}");
        }
    }
}

#[test]
fn several_threads_count_a_cache_of_small_folios_exactly() {
    needs!(let dir = Sandbox::in_memory());
    let path = dir.sparse("f", 256 << 20);
    let file = writer(&path);
    let half = noise(1 << 20);
    // Every other MiB, and one page more at the end.
    let mut pages = 1;
    for at in (0..255).step_by(2) {
        file.write_all_at(&half, at << 20).unwrap();
        pages += (1 << 20) / page_size();
    }
    file.write_all_at(b"x", (256 << 20) - 1).unwrap();
    for line in ["map f", "map f --range 1p..", "map -R f"] {
        let report = dir.report(line);
        let report = report.get("files").map_or(&report, |files| &files[0]);
        let expected = if line.contains("1p") { pages - 1 } else { pages };
        assert_eq!(report["resident"], expected, "{line}: {report}");
    }
}

#[test]
fn without_cachestat_mincore_counts_and_dirty_is_unknown() {
    needs!(let mount = Mount::overlay());
    mount.file("a", noise(3 * page_size() as usize));
    mount.file("b", noise(1));
    let report = mount.report("map a b");
    assert_eq!(report["totals"]["resident"], 4, "{report}");
    assert_eq!(report["totals"]["dirty"], Value::Null, "{report}");
    mount.run("map a b").has(" 100 %        ?  total of 2 files\n");
}

#[test]
fn the_cache_of_somebody_else_s_file_is_unknown() {
    let mut command = Sandbox::at(Path::new("/")).command(&["map", "/etc/passwd", "/etc/group", "--json"]);
    if !is_root() || Path::new("/etc/passwd").metadata().is_err() {
        return skip("it takes files of root's, and to be another user");
    }
    command.stdout(Stdio::piped());
    needs!(let mut command = as_ordinary_user(command));
    let report = json(&command.outcome().stdout);
    assert_eq!(report["totals"]["unknown"], 2, "{report}");
    assert_eq!(report["totals"]["resident"], Value::Null, "{report}");
}

// ---- which files ---------------------------------------------------------------------------------------------------

#[test]
fn one_file_has_its_full_report_and_a_row_only_with_r() {
    let dir = Sandbox::new();
    tree(&dir);
    assert!(dir.report("map t/a")["address"].is_string());
    assert_eq!(taken(&dir, "map -R t/a"), ["t/a"]);
}

#[test]
fn a_folder_without_r_is_refused_with_a_tip() {
    let dir = Sandbox::new();
    tree(&dir);
    dir.refused("map t").has("t: cannot map it: it is a directory").has("mmapctl map -R t");
    dir.run("map t t/a").code(2).has("it is a directory").has(" t/a\n");
}

#[test]
fn patterns_are_about_names_or_with_a_slash_about_paths() {
    let dir = Sandbox::new();
    tree(&dir);
    for (options, expected) in [
        ("--include *.db", &["t/b.db", "t/sub/c.db"][..]),
        ("--include *.db --include z", &["t/b.db", "t/sub/c.db", "t/z"]),
        ("--include *.db --exclude c*", &["t/b.db"]),
        ("--exclude sub", &["t/a", "t/b.db", "t/z"]),
        ("--exclude sub/", &["t/a", "t/b.db", "t/z"]),
        ("--exclude a/", &["t/a", "t/b.db", "t/sub/c.db", "t/sub/deep/d", "t/z"]),
        ("--exclude sub/deep", &["t/a", "t/b.db", "t/sub/c.db", "t/z"]),
        ("--exclude /b.db --exclude /c.db", &["t/a", "t/sub/c.db", "t/sub/deep/d", "t/z"]),
        ("--include sub/**", &["t/sub/c.db", "t/sub/deep/d"]),
        ("--include **/d", &["t/sub/deep/d"]),
        ("--include [az]", &["t/a", "t/z"]),
        ("--max-size 2p", &["t/a", "t/b.db"]),
        ("--max-size 1", &[]),
    ] {
        assert_eq!(taken(&dir, &format!("map -R t {options}")), expected, "{options}");
    }
    // A named folder is entered whatever its name is; a named file has to pass.
    assert_eq!(taken(&dir, "map -R t --exclude t --include a"), ["t/a"]);
    assert_eq!(taken(&dir, "map t/a t/z --exclude z"), ["t/a"]);
    assert_eq!(taken(&dir, "map t/a t/z --exclude /t/a"), ["t/z"]);
}

#[test]
fn patterns_that_are_none_are_refused() {
    let dir = Sandbox::new();
    tree(&dir);
    for option in ["--include [a", "--exclude {a,b", "--include a\\", "--include sub/"] {
        dir.refused(&format!("map -R t {option}"));
    }
}

#[test]
fn a_list_gives_the_names_by_lines_or_by_nuls() {
    let dir = Sandbox::new();
    tree(&dir);
    dir.file("two\nlines", noise(1));
    dir.file("list", b"t/z\n\nt/a");
    assert_eq!(taken(&dir, "map --files-from list"), ["t/z", "t/a"]);
    assert_eq!(taken(&dir, "map --files-from list t/b.db"), ["t/b.db", "t/z", "t/a"]);
    let report = dir.run_fed("map --files-from - -0 --json", b"two\nlines\0t/a\0");
    assert_eq!(names(&json(report.strip_suffix("exit 0").unwrap().as_bytes())), ["two\nlines", "t/a"]);
    dir.run_fed("map --files-from - -R -s", b"t\n").has(" total of 5 files in 3 folders\n");
    dir.refused("map --files-from missing").has("missing: cannot read the list of files");
    for line in ["map -0 t/a", "map --files-from list --anonymous -n 4K"] {
        dir.run(line).code(2);
    }
}

#[test]
fn names_that_are_no_text_are_told_exactly() {
    let dir = Sandbox::new();
    let name = OsStr::from_bytes(b"odd\xff");
    dir.file(name, "x");
    let report = dir.report("map -R .");
    assert_eq!(report["files"][0]["path_hex"], "2e2f6f6464ff", "{report}");
}

#[test]
fn a_file_with_several_names_is_counted_once() {
    let dir = Sandbox::new();
    tree(&dir);
    fs::hard_link(dir.join("t/a"), dir.join("t/sub/same")).unwrap();
    dir.run("map -R t").has(" total of 5 files in 3 folders, 1 more names of files already counted\n");
    // So is one that is named twice, and a folder in a folder.
    assert_eq!(taken(&dir, "map t/a t/a t/sub/same t/z"), ["t/a", "t/z"]);
    assert_eq!(dir.report("map -R t t/sub t")["totals"]["files"], 5);
}

#[test]
fn links_in_folders_are_followed_only_with_l_and_circles_end() {
    let dir = Sandbox::new();
    tree(&dir);
    dir.file("outside", noise(1));
    symlink("../outside", dir.join("t/link")).unwrap();
    symlink("..", dir.join("t/sub/up")).unwrap();
    symlink("nowhere", dir.join("t/broken")).unwrap();
    symlink("t", dir.join("named")).unwrap();
    assert_eq!(dir.report("map -R t")["totals"]["files"], 5);
    let report = dir.report("map -R -L t");
    assert!(names(&report).contains(&"t/link") && report["totals"]["files"] == 6, "{report}");
    // What is named is meant.
    assert_eq!(dir.report("map -R named")["totals"]["files"], 5);
    assert_eq!(dir.report("map t/link t/a")["totals"]["files"], 2);
}

#[test]
fn special_files_are_skipped_in_folders_and_refused_by_name() {
    let dir = Sandbox::new();
    tree(&dir);
    let fifo = dir.join("t/fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("t/socket")).unwrap();
    assert_eq!(dir.report("map -R t")["totals"]["files"], 5);
    let report = dir.run("map t/fifo t/socket /dev/null /dev/zero /proc/self/status t/a");
    for name in ["t/fifo", "t/socket", "/dev/null", "/dev/zero", "/proc/self/status"] {
        assert!(report.contains(&format!("! error: {name}: ")), "{name}: {report}");
    }
    report.code(2).has(" total of 1 file, 5 failed\n");
    // Files of the kernel's own are special, too.
    assert_eq!(dir.report("map -R /proc/self/fdinfo")["totals"]["files"], 0);
}

#[test]
fn other_file_systems_are_entered_only_when_told() {
    needs!(let mount = Mount::tmpfs("1m"));
    mount.file("inside", noise(1));
    let dir = Sandbox::new();
    tree(&dir);
    symlink(&mount, dir.join("t/mounted")).unwrap();
    let files = |options: &str| dir.report(&format!("map -R t -L{options}"))["totals"]["files"].clone();
    assert_eq!((files(""), files(" --cross-file-system")), (5.into(), 6.into()));
    // Its own is that of the folder named.
    assert_eq!(mount.report("map -R .")["totals"]["files"], 1);
}

#[test]
fn what_cannot_be_opened_is_told_and_the_rest_goes_on() {
    let dir = Sandbox::new();
    tree(&dir);
    dir.run("map t/missing t/a t/gone")
        .has("  t/a\n")
        .has(" total of 1 file, 2 failed\n")
        .has("! error: t/missing: cannot open it: No such file or directory (ENOENT)\n")
        .code(2)
        .has("! error: t/gone: ");
    let output = dir.mmapctl(&["map", "t/missing", "t/a", "--json"]);
    assert_eq!((output.error()["file"].as_str(), output.status.code()), (Some("t/missing"), Some(2)));
    assert_eq!(json(&output.stdout)["totals"]["failed"], 1);
}

#[test]
fn a_file_that_waits_for_recovery_is_an_error_unless_ignored() {
    let dir = Sandbox::new();
    fs::create_dir(dir.join("t")).unwrap();
    torn(&Sandbox::at(dir.join("t")));
    dir.file("t/other", noise(1));
    for line in ["map -R t", "map t/f t/other"] {
        dir.run(line).has("! error: t/f: recovery needed").has("  t/other\n").code(2);
    }
    assert!(taken(&dir, "map -R t --ignore-journal").contains(&"t/f".to_string()));
}

#[test]
fn a_range_is_that_of_each_file() {
    let dir = Sandbox::new();
    tree(&dir);
    let report = dir.report("map -R t --range 1p..3p");
    let pages = report["files"].as_array().unwrap().iter().map(|file| file["pages"].as_u64().unwrap());
    assert_eq!(pages.collect::<Vec<_>>(), [0, 1, 2, 2, 2], "{report}");
    assert_eq!(dir.report("map -R t --offset -1p")["totals"]["pages"], 5);
    assert_eq!(dir.report("map -R t --length 1")["totals"]["length"], 5);
    // By name, a place past the end is a mistake; and some are one whatever the file.
    dir.run("map t/a t/z --offset 2p").has("! error: t/a: ");
    dir.run("map -R t --range 2p..1p").has(" total of 0 files in 3 folders, 5 failed\n");
}

// ---- what is done to all of them -----------------------------------------------------------------------------------

#[test]
fn what_is_for_one_mapping_is_refused_with_several() {
    let dir = Sandbox::new();
    tree(&dir);
    dir.file("script", b"cat\n");
    for (line, word) in [
        ("map t/a t/z -c cat", "session"),
        ("map -R t --script script", "session"),
        ("map t/a t/z --address 0x10000000", "--address"),
        ("map --files-from - --watch", "--watch"),
        ("map --anonymous -n 4K -R", "new memory"),
    ] {
        dir.refused_fed(line, b"t/a").has(word);
    }
}

#[test]
fn populate_brings_all_of_them_in() {
    let dir = Sandbox::new();
    for name in ["a", "b"] {
        dir.sparse(name, 64 * page_size());
    }
    let resident = |options: &str| dir.report(&format!("map a b{options}"))["totals"]["resident"].clone();
    assert_ne!(resident(""), 128);
    assert_eq!((resident(" --populate"), resident("")), (128.into(), 128.into()));
    // One file, too, of which a part is there already.
    let path = dir.sparse("c", (24 << 20) + 1);
    fs::File::open(path).unwrap().read_exact_at(&mut [0; 8192], 9 << 20).unwrap();
    let report = dir.report("map c --populate");
    assert_eq!(report["resident"], report["pages"], "{report}");
}

#[test]
fn what_is_the_same_for_all_files_is_asked_once() {
    needs!(strace_works());
    let dir = Sandbox::new();
    for name in 0..50 {
        dir.file(name.to_string(), noise(100));
    }
    let traced = ["-qq", "-f", "-o", "log", BINARY, "map", "-R", ".", "-q"];
    dir.program("strace", &traced).outcome().code(0);
    let log = String::from_utf8(dir.read("log")).unwrap();
    let calls = log.lines().count();
    assert!(calls < 50 * 8 + 200, "{calls} system calls:\n{log}");
}

#[test]
fn each_option_reaches_every_file() {
    let dir = Sandbox::new();
    tree(&dir);
    let report = dir.run("map t/a t/z --private --advise random --populate --lock=on-fault -q -v");
    for call in ["mmap(NULL, ", "MADV_RANDOM", "MADV_POPULATE_WRITE", "mlock2("] {
        assert_eq!(report.matches(call).count(), 2, "{call}: {report}");
    }
    // Nothing is mapped only to be counted.
    dir.run("map t/a t/z -q -v").is("exit 0");
}

#[test]
fn a_closed_pipe_ends_it_well_and_a_full_device_does_not() {
    let dir = Sandbox::new();
    for number in 0..2000 {
        dir.file(format!("{number:0200}"), b"");
    }
    let line = format!("'{}' map -R . | head -n 1; echo ${{PIPESTATUS[0]}}", BINARY);
    if has("bash") {
        let text = String::from_utf8(dir.peer("bash", &["-c", &line])).unwrap();
        assert!(text.ends_with("FILE\n0\n"), "{text}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = dir.command(&["map", "-R", "."]).stdout(full).outcome();
    let text = &output;
    text.code(2).has("cannot write to stdout");
}
