//! The other formats of `cat`, compared with `xxd -i` and `od`; what fits a terminal; and `--watch`.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Child, Stdio};

fn cat(dir: &Sandbox, args: &[&str]) -> String {
    let output = dir.mmapctl(&[&["cat"], args].concat());
    output.code(0);
    assert!(output.stderr.is_empty(), "{args:?}: {}", output);
    String::from_utf8(output.stdout).unwrap()
}

// ---- arrays --------------------------------------------------------------------------------------------------------

#[test]
fn c_is_xxd_i_byte_for_byte_whatever_the_file_is_called() {
    needs!(has("xxd"));
    let dir = Sandbox::new();
    fs::create_dir(dir.join("sub")).unwrap();
    for (name, len) in [
        ("fw.bin", 100),
        ("./3D-model", 12),
        ("sub/Grüße 2", 13),
        ("9", 1),
        ("empty", 0),
        ("long", 300_000),
    ] {
        dir.file(name, noise(len));
        let theirs = dir.peer("xxd", &["-i", name]);
        assert_eq!(cat(&dir, &["-f", "c", name]).into_bytes(), theirs, "{name}");
    }
    let theirs = dir.peer("xxd", &["-i", "-s", "17", "-l", "40", "fw.bin"]);
    let ours = cat(&dir, &["-f", "c", "-o", "17", "-n", "40", "fw.bin"]);
    assert_eq!(ours.into_bytes(), theirs);
}

#[test]
fn memory_without_a_name_is_called_what_it_is() {
    let dir = Sandbox::new();
    let array = "[] = {\n  0x00, 0x00\n};\nunsigned int ";
    for (memory, name) in [("--anonymous", "anonymous_memory"), ("--memfd=pool-1", "memfd_pool_1")] {
        dir.mmapctl(&["map", memory, "-n", "4K", "-c", "cat -n 2 -f c"])
            .is(format!("unsigned char {name}{array}{name}_len = 2;\nexit 0"));
    }
}

// ---- columns of numbers --------------------------------------------------------------------------------------------

#[test]
fn columns_are_those_of_od_with_longer_offsets() {
    needs!(has("od"));
    let dir = Sandbox::new();
    dir.file("f", noise(3000));
    for (name, od) in [
        ("u8", "u1"),
        ("i8", "d1"),
        ("u16", "u2"),
        ("i16", "d2"),
        ("u32", "u4"),
        ("i32", "d4"),
        ("f32", "f4"),
        ("u64", "u8"),
        ("i64", "d8"),
        ("f64", "f8"),
    ] {
        for (order, endian) in [("le", "--endian=little"), ("be", "--endian=big")] {
            let format = if name.ends_with("8") {
                name.into()
            } else {
                format!("{name}{order}")
            };
            let args = ["-A", "x", "-v", "-j", "24", "-N", "2000", endian, "-t", od, "f"];
            let theirs = String::from_utf8(dir.peer("od", &args)).unwrap();
            // Six digits there, eight here.
            let theirs: String = theirs.lines().map(|line| format!("00{line}\n")).collect();
            assert_eq!(cat(&dir, &["f", "-f", &format, "-o", "24", "-n", "2000"]), theirs, "{format}");
        }
    }
}

#[test]
fn what_is_no_whole_number_and_what_is_left_out_is_said() {
    let dir = Sandbox::new();
    dir.file("f", [&[0, 0, 1, 0].repeat(16)[..], b"xyz"].concat());
    dir.run("cat f -f u32be").is("00000000        256        256        256        256\n\
         *         48 bytes, each row as the one above\n\
         00000040  + 3 bytes: 78 79 7a\n\
         00000043\n\
         exit 0");
    dir.run("cat f -f f64be -r end-9..")
        .is("0000003a   7.291122046767874e-304  + 1 byte: 7a\n00000043\nexit 0");
    let path = dir.sparse("holes", 1 << 30);
    writer(&path).write_all_at(&[7], (1 << 30) - 1).unwrap();
    if fs::metadata(&path).unwrap().blocks() * 512 > 1 << 20 {
        return skip("this file system keeps no holes");
    }
    let text = cat(&dir, &["holes", "-f", "u16le"]);
    assert!(text.starts_with("*         hole 0x0..0x3ff"), "{text}");
    assert!(text.ends_with("  1792\n40000000\n"), "{text}");
}

#[test]
fn a_number_has_a_byte_order() {
    let dir = Sandbox::new();
    dir.file("f", b"12345678");
    dir.refused("cat f -f u32").is("! error: --format: 'u32' does not give the byte order\n\
         !   tip: write u32le (x86, ARM: lowest byte first) or u32be (network order)\n\
         exit 2");
    dir.run("cat f -f u32be -n 4").is("00000000  825373492\n00000004\nexit 0");
}

// ---- terminals -----------------------------------------------------------------------------------------------------

/// What a command prints to a terminal of that size; `None`, with a visible skip, where there is none.
fn on_terminal(dir: &Sandbox, (columns, lines): (u32, u32), args: &str) -> Option<String> {
    if !has("script") || !has("stty") {
        return None;
    }
    let binary = BINARY;
    let line = format!("stty cols {columns} rows {lines}; LC_ALL=C.UTF-8 '{binary}' {args}");
    let mut child = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(dir)
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    let mut output = child.stdout.take().unwrap();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut piece) {
        shown.extend_from_slice(&piece[..count]);
        if !args.contains("--watch") {
            continue;
        }
        // A watch has no end: three whole screens are enough.
        let text = String::from_utf8_lossy(&shown);
        if text.matches("\x1b[H").count() > 3 {
            child.kill().unwrap();
            shown = text[..text.rfind("\x1b[H").unwrap()].as_bytes().to_vec();
            break;
        }
    }
    child.wait().unwrap();
    Some(String::from_utf8_lossy(&shown).replace('\r', ""))
}

#[test]
fn rows_fit_a_terminal_and_are_16_bytes_elsewhere() {
    let dir = Sandbox::new();
    dir.file("f", b"0123456789abcdefXYZ");
    let shown = |columns| on_terminal(&dir, (columns, 24), "cat f --color never");
    needs!(let framed = shown(80));
    assert_eq!(
        framed,
        "\
┌────────┬─────────────────────────┬─────────────────────────┬────────────────┐
│00000000│ 30 31 32 33 34 35 36 37 ┊ 38 39 61 62 63 64 65 66 │0123456789abcdef│
│00000010│ 58 59 5a                ┊                         │XYZ             │
│00000013│                         ┊                         │                │
└────────┴─────────────────────────┴─────────────────────────┴────────────────┘
"
    );
    assert_eq!(shown(300).unwrap(), framed);
    let rows = shown(78).unwrap();
    assert!(
        rows.starts_with(
            "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  │0123456789abcdef│\n00000010  58"
        ),
        "{rows}"
    );
    assert_eq!(
        shown(60).unwrap(),
        "00000000  30 31 32 33 34 35 36 37  │01234567│\n\
         00000008  38 39 61 62 63 64 65 66  │89abcdef│\n\
         00000010  58 59 5a                 │XYZ│\n\
         00000013\n"
    );
    // A pipe has no width, whatever the environment says.
    dir.command(&["cat", "f", "-x"])
        .env("COLUMNS", "40")
        .outcome()
        .begins("00000000  30 31 32 33 34 35 36 37  38 39");
}

#[test]
fn on_a_terminal_no_progress_bar_stands_amid_the_dump() {
    let dir = Sandbox::new();
    dir.file("f", noise(8 << 20));
    needs!(let text = on_terminal(&dir, (100, 24), "cat f -f xxd"));
    assert!(text.starts_with("00000000: ") && !text.contains("reading"));
}

#[test]
fn on_a_terminal_a_watch_redraws_in_place_what_fits() {
    let dir = Sandbox::new();
    dir.file("f", noise(160));
    needs!(let text = on_terminal(&dir, (100, 8), "cat f --watch=100ms --color never"));
    let screens: Vec<_> = text.split("\x1b[H").collect();
    assert!(screens.len() > 2 && screens[0].is_empty(), "{text}");
    for screen in &screens[1..] {
        assert!(screen.contains("7 lines more, 0 with changes; --length or a larger terminal shows all"), "{screen}");
        assert_eq!(screen.lines().filter(|line| line.starts_with("\x1b[K")).count(), 7, "{screen}");
    }
}

#[test]
fn a_watch_fits_the_rows_and_columns_of_its_terminal() {
    let dir = Sandbox::new();
    dir.file("f", noise(1 << 20));
    fs::create_dir(dir.join("many")).unwrap();
    for number in 0..30 {
        Sandbox::at(dir.join("many")).file(format!("number-{number}"), b"x");
    }
    let fits = |size: (u32, u32), line: &str| {
        let args = format!("{line} --watch=100ms");
        needs!(let text = on_terminal(&dir, size, &args));
        let screens: Vec<_> = text.split("\x1b[H").skip(1).collect();
        assert!(!screens.is_empty(), "{args}: {text}");
        for screen in screens {
            let plain = without_escapes(screen);
            let columns = plain.lines().map(|line| line.chars().count()).max();
            let of_text = (columns.unwrap_or(0), plain.lines().count() + 1);
            assert!(of_text.0 <= size.0 as usize && of_text.1 <= size.1 as usize, "{args} at {size:?}: {plain}");
        }
    };
    std::thread::scope(|scope| {
        for size in [(60, 24), (30, 8), (20, 6), (70, 3)] {
            for line in ["cat f -n 1K --color always", "map f", "map -R many"] {
                let fits = &fits;
                scope.spawn(move || fits(size, line));
            }
        }
    });
}

#[test]
fn a_watch_follows_the_size_of_its_terminal() {
    if !has("script") || !has("stty") || !has("tty") {
        return;
    }
    let dir = Sandbox::new();
    dir.file("f", noise(64));
    let binary = BINARY;
    let line = format!("stty cols 80 rows 24; tty; LC_ALL=C.UTF-8 '{binary}' cat f --watch=10ms --color never");
    let mut child = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(&dir)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let terminal = lines.next().unwrap();
    let mut shows = |part: &str| lines.any(|line| line.contains(part));
    assert!(shows("\x1b[K  00000010  "));
    dir.peer("stty", &["-F", terminal.trim(), "cols", "45"]);
    // Eight bytes a row in place of sixteen.
    assert!(shows("\x1b[K  00000008  "));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A text as a terminal shows it, without its colours.
fn without_escapes(text: &str) -> String {
    let parts = text.split("\x1b[");
    let rest = |part: &str| part.split_once(|c: char| c.is_ascii_alphabetic()).map(|(_, rest)| rest.to_string());
    let first = text.split("\x1b[").next().unwrap_or_default().to_string();
    std::iter::once(first).chain(parts.skip(1).filter_map(rest)).collect()
}

// ---- watching ------------------------------------------------------------------------------------------------------

/// A running `cat --watch` and the lines that it prints.
struct Watch(Child, Box<dyn Iterator<Item = String>>);

impl Watch {
    fn new(dir: &Sandbox, args: &[&str]) -> Watch {
        let mut child = dir.command(&[&["cat"], args].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        Watch(child, Box::new(lines))
    }

    /// The next line for which `wanted` is true.
    fn find(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.1.find(|line| wanted(line)).expect("the watch goes on")
    }

    /// Ends it by Ctrl-C, and returns its exit code.
    fn end(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT).unwrap();
        self.1.by_ref().for_each(drop);
        assert!(eventually(|| self.0.try_wait().unwrap().is_some()));
        self.0.wait().unwrap().code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watch_marks_the_rows_that_have_changed_until_ctrl_c() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'x'; 80]);
    for (format, row, dump_end) in [
        ("hex", "00000030  78 4e 78", "00000050"),
        ("xxd", "00000030: 784e 7878", "00000040: 7878 "),
        ("u8", "00000030 120  78 120", "00000050"),
        ("canonical", "00000030  78 4e 78", "00000050"),
    ] {
        fs::write(&path, [b'x'; 80]).unwrap();
        let mut watch = Watch::new(&dir, &["f", "-f", format, "--watch=10ms"]);
        let first = watch.find(|line| line.contains(dump_end));
        assert!(first.starts_with("  "), "{first}");
        writer(&path).write_all_at(b"N", 0x31).unwrap();
        let line = watch.find(|line| line.starts_with('>'));
        assert!(line.starts_with(&format!("> {row}")), "{format}: {line}");
        // It is the same as before at the look after the next.
        watch.find(|line| line.starts_with(&format!("  {row}")));
        assert_eq!(watch.end(), Some(0), "{format}");
    }
}

#[test]
fn a_watch_ends_although_its_reader_does_not_read() {
    let dir = Sandbox::new();
    dir.file("f", noise(1 << 20));
    for args in [&["cat", "f", "--watch=10ms"], &["map", "f", "--watch=10ms"]] {
        let mut child = dir.command(args).stdout(Stdio::piped()).spawn().unwrap();
        if args[0] == "cat" {
            // In write(2), or about to.
            assert!(eventually(|| sleeps(child.id())));
        }
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        assert!(eventually(|| child.try_wait().unwrap().is_some()));
        let status = child.wait().unwrap();
        // It may have been too early to be waited for.
        assert!(status.code() == Some(0) || status.code().is_none(), "{status}");
    }
}

#[test]
fn a_coloured_watch_marks_the_bytes_themselves() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abcd");
    let mut watch = Watch::new(&dir, &["f", "--watch=10ms", "--color=always"]);
    watch.find(|line| line.contains("00000004"));
    writer(&path).write_all_at(b"X", 2).unwrap();
    let line = watch.find(|line| line.contains("\x1b[7m"));
    assert!(line.contains("61 62 \x1b[7m58\x1b[27m 64"), "{line:?}");
    assert!(line.contains("ab\x1b[7mX\x1b[27md"), "{line:?}");
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn a_watch_in_json_is_an_object_each_time_with_what_differs() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abcdefgh");
    let mut watch = Watch::new(&dir, &["f", "-o", "1", "--watch=10ms", "--json"]);
    let object = |line: String| json((line + "\n").as_bytes());
    let first = object(watch.find(|_| true));
    assert_eq!(first["differs"], serde_json::json!([]));
    assert_eq!(first["hex"], const_hex::encode("bcdefgh"));
    writer(&path).write_all_at(b"XY", 2).unwrap();
    let second = object(watch.find(|line| !line.contains("\"differs\":[]")));
    assert_eq!(second["hex"], const_hex::encode("bXYefgh"));
    assert_eq!(second["differs"], serde_json::json!([{"offset": 2, "length": 2}]));
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn a_watch_outlives_a_file_that_is_cut_and_written_anew() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'x'; 10_000]);
    let mut watch = Watch::new(&dir, &["f", "--watch=10ms"]);
    watch.find(|line| line == "  00002710");
    fs::write(&path, b"short").unwrap();
    watch.find(|line| line == "  00000005");
    fs::write(&path, [b'y'; 10_000]).unwrap();
    let line = watch.find(|line| line.starts_with('>'));
    assert!(line.contains("79 79"), "{line}");
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn watching_shows_holes_filled_and_punched() {
    let dir = Sandbox::new();
    let path = dir.sparse("f", 256 << 10);
    let mut watch = Watch::new(&dir, &["f", "--watch=10ms"]);
    let first = watch.find(|_| true);
    if !first.contains("hole 0x0..0x40000 (256 KiB)") {
        watch.end();
        return skip("this file system does not show its holes");
    }
    writer(&path).write_all_at(b"island", 0x20000).unwrap();
    let line = watch.find(|line| line.starts_with('>'));
    assert!(line.starts_with("> 00020000  69 73 6c 61 6e 64"), "{line}");
    watch.find(|line| line.starts_with("  00020000  69"));
    dir.mmapctl(&["zero", "f", "-r", "..", "--punch", "-q"]).code(0);
    let line = watch.find(|line| line.starts_with('>'));
    assert!(line.starts_with("> 00020000  00 00"), "{line}");
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn a_watch_is_of_rows_and_of_what_fits_memory() {
    let dir = Sandbox::new();
    dir.sparse("f", (1 << 20) + 1);
    dir.refused("cat f --watch").is(
        "! error: f: 0x0..0x100001 is 1.0 MiB (1048577 bytes), and --watch compares at most 1 MiB\n\
         !   tip: give a part: --offset OFFSET --length 256\n\
         exit 2",
    );
    for format in ["raw", "c"] {
        dir.refused(&format!("cat f -n 16 --watch -f {format}")).has("no rows to mark");
    }
    for often in ["0", "0.0001ms", "9ms"] {
        dir.run(&format!("cat f -n 16 --watch={often}"))
            .has("the interval is too short: write 10ms or more");
    }
}

#[test]
fn a_session_watches_its_own_view() {
    let dir = Sandbox::new();
    dir.file("f", b"abcd");
    let line = [
        "map",
        "f",
        "--private",
        "-c",
        "patch -o 1 text:Z",
        "-c",
        "cat --watch=10ms",
    ];
    let mut child = dir.command(&line).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut watch = Watch(child, Box::new(lines));
    watch.find(|line| line.contains("61 5a 63 64"));
    assert_eq!(watch.end(), Some(0));
}
