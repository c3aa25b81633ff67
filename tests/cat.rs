//! `cat`, as its users see it, and compared with `hexdump`, `xxd`, `cmp` and `dd`.

use crate::support::*;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// Files that are difficult to dump: writes them, and returns their names.
fn subjects(dir: &Sandbox) -> Vec<&'static str> {
    dir.file("random", noise(70_000));
    dir.file("zero", [0; 9000]);
    dir.file("empty", b"");
    dir.file("one", b"\x7f");
    dir.file("row", b"0123456789abcdef");
    dir.file("odd", noise(4099));
    dir.file("text", "Grüße,\tworld\n".repeat(9));
    // Runs that start and stop inside a row, at rows, and at the end of the file.
    let runs = [
        vec![0xff; 40],
        vec![0; 72],
        b"end".to_vec(),
        vec![0; 61],
        vec![0xff; 64],
    ]
    .concat();
    dir.file("runs", &runs);
    let holes = File::options().write(true).open(dir.sparse("sparse", 300_003)).unwrap();
    holes.write_all_at(b"island", 100_000).unwrap();
    holes.write_all_at(b"shore", 299_998).unwrap();
    vec!["random", "zero", "empty", "one", "row", "odd", "text", "runs", "sparse"]
}

/// Ranges as offset and length, for a file of `len` bytes.
fn ranges(len: u64) -> Vec<(u64, u64)> {
    let all = [
        (0, 1),
        (0, 16),
        (1, 15),
        (3, 40),
        (16, 16),
        (17, 4096),
        (4090, 20),
        (99_990, 40),
        (299_990, 13),
    ];
    let inside = all.into_iter().filter(|(from, count)| from + count <= len);
    // A peer's empty range prints nothing, or everything; ours is an empty file's.
    inside.chain([(len / 3, len - len / 3)]).filter(|range| range.1 > 0).collect()
}

fn cat(dir: &Sandbox, args: &[&str]) -> Vec<u8> {
    let output = dir.mmapctl(&[&["cat"], args].concat());
    output.code(0);
    assert!(output.stderr.is_empty(), "{args:?}: {}", output);
    output.stdout
}

/// Compares a format with a peer's, on every subject and on its ranges; `from` and `count` are the peer's options.
fn like(format: &str, program: &str, options: &[&str], from: &str, count: &str) {
    if !has(program) {
        return;
    }
    let dir = Sandbox::new();
    for name in subjects(&dir) {
        let theirs = dir.peer(program, &[options, &[name]].concat());
        assert!(cat(&dir, &["-f", format, name]) == theirs, "{format} of {name}");
        for (at, len) in ranges(fs::metadata(dir.join(name)).unwrap().len()) {
            let (at, len) = (at.to_string(), len.to_string());
            let theirs = dir.peer(program, &[options, &[from, &at, count, &len, name]].concat());
            let ours = cat(&dir, &["-f", format, "-o", &at, "-n", &len, name]);
            let (ours, theirs) = (String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
            assert!(ours == theirs, "{format} of {name}, {len} from {at}:\n{ours}\n{program}:\n{theirs}");
        }
    }
}

// ---- formats -------------------------------------------------------------------------------------------------------

#[test]
fn canonical_is_hexdump_c_byte_for_byte() {
    like("canonical", "hexdump", &["-C"], "-s", "-n");
}

#[test]
fn canonical_unsqueezed_is_hexdump_cv() {
    needs!(has("hexdump"));
    let dir = Sandbox::new();
    for name in subjects(&dir) {
        let theirs = dir.peer("hexdump", &["-Cv", name]);
        assert!(cat(&dir, &["-f", "canonical", "--no-squeeze", name]) == theirs, "{name}");
    }
}

#[test]
fn xxd_is_xxd_byte_for_byte() {
    like("xxd", "xxd", &[], "-s", "-l");
}

#[test]
fn plain_is_xxd_p_byte_for_byte() {
    like("plain", "xxd", &["-p"], "-s", "-l");
}

#[test]
fn xxd_r_reads_both_dumps_back() {
    needs!(has("xxd"));
    let dir = Sandbox::new();
    for name in subjects(&dir) {
        for (format, options) in [("xxd", &["-r", "dump"][..]), ("plain", &["-r", "-p", "dump"])] {
            fs::write(dir.join("dump"), cat(&dir, &["-f", format, name])).unwrap();
            let back = dir.peer("xxd", options);
            assert!(back == dir.read(name), "{format} of {name}");
        }
    }
}

#[test]
fn raw_is_the_file_and_a_pipe_gets_raw() {
    let dir = Sandbox::new();
    for name in subjects(&dir) {
        let bytes = dir.read(name);
        assert!(cat(&dir, &["-f", "raw", name]) == bytes, "{name}");
        assert!(cat(&dir, &[name]) == bytes, "{name}");
        for (at, len) in ranges(bytes.len() as u64) {
            let part = cat(&dir, &["-o", &at.to_string(), "-n", &len.to_string(), name]);
            assert!(part == bytes[at as usize..(at + len) as usize], "{name}, {len} from {at}");
        }
    }
}

#[test]
fn cmp_and_dd_agree_on_a_stream_of_several_windows() {
    let dir = Sandbox::new();
    let at = (8 << 20) - 3; // a window ends there
    let bytes = noise((9 << 20) + 11);
    dir.file("f", &bytes);
    assert!(cat(&dir, &["f"]) == bytes);
    assert!(cat(&dir, &["f", "-o", &at.to_string(), "-n", "6"]) == bytes[at..at + 6]);
    if has("cmp") {
        let mut ours = dir.command(&["cat", "f"]).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = ours.stdout.take().unwrap();
        Command::new("cmp").args(["-", "f"]).current_dir(&dir).stdin(stdout).outcome().is("exit 0");
        assert!(ours.wait().unwrap().success());
    }
    if has("dd") {
        let theirs = dir.peer("dd", &["if=f", "bs=1", "skip=8388605", "count=6", "status=none"]);
        assert_eq!(cat(&dir, &["f", "-o", "8388605", "-n", "6"]), theirs);
    }
}

#[test]
fn hex_shows_rows_and_the_end() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789abcdefXYZ");
    let rows = "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n\
                00000010  58 59 5a                                          |XYZ|\n\
                00000013\n\
                exit 0";
    dir.run("cat f -x").is(rows);
    dir.run("cat f -f hex").is(rows);
}

// ---- ranges --------------------------------------------------------------------------------------------------------

#[test]
fn a_range_is_said_in_every_way() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789");
    for (place, bytes) in [
        ("-o 4", "456789"),
        ("-o -4", "6789"),
        ("--offset end-4", "6789"),
        ("-n 3", "012"),
        ("-o 0x2 -n 0b11", "234"),
        ("-r 2..5", "234"),
        ("-r 2..+3", "234"),
        ("--range ..end-8", "01"),
        ("-r -3..-1", "78"),
        ("-r ..", "0123456789"),
        ("-o 4 -n 0", ""),
        ("-o 10", ""),
        // Reading past the end clips.
        ("-o 8 -n 1K", "89"),
        ("-r 8..1T", "89"),
        ("-r 10..+1p", ""),
    ] {
        let args: Vec<_> = place.split(' ').chain(["f"]).collect();
        assert_eq!(String::from_utf8(cat(&dir, &args)).unwrap(), bytes, "{place}");
    }
    assert_eq!(dir.run("cat -xo -2 f"), dir.run("cat f -o 8 -x"));
}

#[test]
fn an_offset_past_the_end_is_refused_even_for_reading() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789");
    dir.refused("cat f -o 11").is("! error: f: offset 0xb lies past the end, at 0xa (10 bytes)\n\
         !   tip: offsets go up to 0xa; end-N counts back from the end\n\
         exit 2");
    for line in [
        "cat f -o -11",
        "cat f -r 11..",
        "cat f -r 5..4",
        "cat f -o 020",
        "cat f -o end+1",
        "cat f -n 1b",
    ] {
        dir.refused(line);
    }
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let dir = Sandbox::new();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["fifo", ".", "missing", "/dev/null", "/dev/zero", "/proc/version"] {
        dir.refused(&format!("cat {name}"));
    }
}

// ---- holes ---------------------------------------------------------------------------------------------------------

/// Whether the file system keeps the subject `sparse` with its holes.
fn keeps_holes(path: &Path) -> bool {
    let kept = fs::metadata(path).unwrap().blocks() * 512 < 200_000;
    if !kept {
        skip("this file system keeps no holes");
    }
    kept
}

#[test]
fn hex_names_holes_and_never_prints_them_as_zeros() {
    let dir = Sandbox::new();
    subjects(&dir);
    if !keeps_holes(&dir.join("sparse")) {
        return;
    }
    let text = String::from_utf8(cat(&dir, &["-x", "sparse"])).unwrap();
    let holes: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| line.split_once("hole 0x")?.1.split_once(' ')?.0.split_once("..0x"))
        .map(|(from, to)| (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap()))
        .collect();
    assert_eq!(holes.len(), 2, "{text}");
    assert_eq!(holes[0].0, 0, "{text}");
    assert!(holes[0].1 <= 100_000 && holes[0].1 > 30_000, "{text}");
    assert!(holes[1].0 > 100_006 && holes[1].1 <= 299_998, "{text}");
    for line in text.lines().filter(|line| !line.starts_with('*')) {
        let at = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
        assert!(!holes.iter().any(|(from, to)| (*from..*to).contains(&at)), "{line} lies in a hole");
    }
    assert!(text.contains("|island..........|") && text.contains("|ore|"), "{text}");
}

#[test]
fn no_squeeze_prints_every_row_of_a_hole() {
    let dir = Sandbox::new();
    subjects(&dir);
    let text = String::from_utf8(cat(&dir, &["-x", "--no-squeeze", "sparse"])).unwrap();
    assert!(!text.contains('*'), "a row was left out");
    assert_eq!(text.lines().count(), 300_003usize.div_ceil(16) + 1);
}

#[test]
fn the_end_of_a_sparse_tebibyte_is_reached_at_once() {
    let dir = Sandbox::new();
    let file = File::create(dir.join("f")).unwrap();
    if file.set_len(1 << 40).is_err() {
        return skip("this file system holds no file of 1 TiB");
    }
    file.write_all_at(b"the very end", (1 << 40) - 12).unwrap();
    dir.run("cat f -o end-16 -x").is(
        "fffffffff0  00 00 00 00 74 68 65 20  76 65 72 79 20 65 6e 64  |....the very end|\n\
         10000000000\n\
         exit 0",
    );
    assert_eq!(cat(&dir, &["f", "-o", "-4"]), b" end");
    // The whole of it, where holes are seen, is a few lines.
    if keeps_holes(&dir.join("f")) {
        let begin = std::time::Instant::now();
        dir.run("cat f -x").code(0).begins("*         hole 0x0..0xffffff");
        assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
    }
}

#[test]
fn a_long_dump_of_private_memory_or_a_view_is_of_the_mapping() {
    let dir = Sandbox::new();
    let mut bytes = noise(3 << 20);
    dir.file("f", &bytes);
    let dump_of = |bytes: &[u8]| {
        dir.file("wanted", bytes);
        dir.mmapctl(&["cat", "wanted", "-f", "xxd"]).stdout
    };
    let shown = |args: &[&str]| dir.mmapctl(&[&["map", "f", "-q"], args, &["-c", "cat -f xxd"]].concat()).stdout;
    let pages: Vec<_> = bytes.chunks(4096).rev().flatten().copied().collect();
    if nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE) == Ok(Some(4096)) {
        assert!(shown(&["-c", "remap --order reverse"]) == dump_of(&pages));
    }
    bytes[2 << 20..][..2].copy_from_slice(&[0xde, 0xad]);
    assert!(shown(&["--private", "-c", "patch -o 2M dead"]) == dump_of(&bytes));
}

// ---- where it goes -------------------------------------------------------------------------------------------------

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let dir = Sandbox::new();
    dir.file("f", noise(4 << 20));
    for format in ["raw", "hex", "canonical", "xxd", "plain"] {
        let mut child = dir
            .command(&["cat", "f", "-f", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        if !eventually(|| child.try_wait().unwrap().is_some()) {
            child.kill().unwrap();
            panic!("{format}: it goes on without a reader");
        }
        assert_eq!(child.outcome(), "exit 0", "{format}");
    }
}

#[test]
fn a_full_device_is_an_error() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    for args in [
        &["cat", "f"][..],
        &["cat", "f", "-x"],
        &["cat", "f", "-f", "xxd"],
        &["cat", "f", "--json"],
    ] {
        dir.mmapctl_into_full(args)
            .code(2)
            .has("cannot write to stdout: No space left on device (ENOSPC)")
            .lacks("os error");
    }
}

#[test]
fn a_pipe_set_to_nonblock_gets_everything_all_the_same() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let dir = Sandbox::new();
    let bytes = noise(1 << 20);
    dir.file("f", &bytes);
    for (format, expected) in [("raw", bytes.clone()), ("plain", cat(&dir, &["-f", "plain", "f"]))] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut command = dir.command(&["cat", "f", "-f", format]);
        let mut child = command.stdout(writer).spawn().unwrap();
        drop(command); // and the writing end with it
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(all == expected, "{format}: {} bytes of {}", all.len(), expected.len());
    }
}

#[test]
fn colour_comes_only_where_it_is_wanted() {
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    let colored = |variable: Option<(&str, &str)>, args: &[&str]| {
        let mut command = dir.command(&[&["cat", "f"], args].concat());
        command.env("TERM", "xterm").envs(variable);
        command.outcome().stdout.contains(&0x1b)
    };
    // A pipe, here.
    assert!(!colored(None, &["-x"]));
    assert!(!colored(Some(("NO_COLOR", "1")), &["-x"]));
    assert!(colored(Some(("CLICOLOR_FORCE", "1")), &["-x"]));
    assert!(!colored(Some(("CLICOLOR_FORCE", "")), &["-x"]));
    assert!(colored(None, &["-x", "--color", "always"]));
    assert!(colored(Some(("NO_COLOR", "1")), &["-x", "--color", "always"]));
    assert!(!colored(Some(("CLICOLOR_FORCE", "1")), &["-x", "--color", "never"]));
    // What other tools read stays as they write it.
    for format in ["canonical", "xxd", "plain"] {
        assert!(!colored(None, &["-f", format, "--color", "always"]), "{format}");
    }
}

#[test]
fn colour_changes_no_character() {
    let dir = Sandbox::new();
    dir.file("f", noise(4099));
    let mut text = String::from_utf8(cat(&dir, &["f", "-x", "--color", "always"])).unwrap();
    while let Some(at) = text.find("\x1b[") {
        let end = at + text[at..].find('m').unwrap();
        text.replace_range(at..=end, "");
    }
    assert_eq!(text.into_bytes(), cat(&dir, &["f", "-x"]));
}

#[test]
fn json_has_the_bytes_as_hex() {
    let dir = Sandbox::new();
    let bytes = noise(600_001);
    dir.file("f", &bytes);
    let report = dir.report("cat f -o 1");
    assert_eq!(report["verb"], "cat");
    assert_eq!(report["file"], "f");
    assert_eq!(report["changed"], false);
    assert_eq!(report["offset"], 1);
    assert_eq!(report["length"], 600_000);
    assert_eq!(report["hex"], const_hex::encode(&bytes[1..]));
    assert_eq!(dir.report("cat f -n 0")["hex"], "");
    let output = dir.mmapctl(&["cat", "missing", "--json"]);
    assert!(output.stdout.is_empty());
    assert_eq!(output.error()["exit"], 2);
}

#[test]
fn unicode_is_drawn_where_the_locale_has_it() {
    let dir = Sandbox::new();
    dir.file("f", b"x");
    for (locale, bar) in [
        ("C.UTF-8", "│x│"),
        ("de_DE.utf8", "│x│"),
        ("C", "|x|"),
        ("POSIX", "|x|"),
    ] {
        let output = dir.command(&["cat", "f", "-x"]).env("LC_ALL", locale).outcome();
        assert!(String::from_utf8_lossy(&output.stdout).contains(bar), "{locale}: {}", output);
    }
}

#[test]
fn a_read_only_file_in_a_read_only_folder_is_shown() {
    let dir = Sandbox::new();
    let folder = dir.join("folder");
    fs::create_dir(&folder).unwrap();
    let path = Sandbox::at(&folder).file("f", b"look, don't touch");
    set_mode(&path, 0o444);
    set_mode(&folder, 0o555);
    let shown = Sandbox::at(&folder).run("cat f -n 4");
    set_mode(&folder, 0o755);
    shown.is("look(no newline)\nexit 0");
}

#[test]
fn a_file_that_may_not_be_read_is_refused_by_name() {
    let dir = Sandbox::new();
    set_mode(&dir, 0o755);
    let path = dir.file("f", b"secret");
    set_mode(&path, 0o000);
    needs!(let mut command = as_ordinary_user(dir.command(&["cat", "f"])));
    command.outcome().is_refusal().has("f: cannot open it: Permission denied (EACCES)");
}
