//! Reports that said what was not so.

use crate::support::strace::*;
use crate::support::*;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[test]
fn a_value_with_a_mask_does_not_split_its_edit() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    let patch = |edits: &[&str]| {
        let edits = edits.iter().flat_map(|edit| ["-e", edit]);
        let args: Vec<_> = ["patch", "f"].into_iter().chain(edits).collect();
        dir.mmapctl(&args)
    };
    patch(&["0: -> 0102 u8:4/7 0304"]).is("f: 5 bytes of 0x0..0x5 changed\nexit 0");
    let told_of = dir.report("patch f -o 8 0102 u8:4/7 0304");
    assert_eq!((&told_of["edits"], &told_of["offsets"]), (&1.into(), &vec![8].into()), "{told_of}");
    patch(&["16: 1111111111 -> 0102 u8:4/7 0304"]).code(1).begins("! error: f: bytes at 0x10 are ");
    patch(&["16: 1111111111 -> 0102 u8:4/7 0304", "32: 11 -> 22"]).begins("! error: f: 2 of 2 edits do not match");
    patch(&[
        "32: -> 22 u8:1/1 33",
        "16: 0011000000 -> 0102 u8:4/7 0304",
        "48: 11 u8:1/1 22 -> 010203",
    ])
    .begins("! error: f: 2 of 3 edits do not match");
}

#[test]
fn a_sparsify_that_frees_nothing_is_as_durable_as_its_flush() {
    let dir = Sandbox::new();
    dir.file("f", noise(8192));
    let told_of = dir.report("zero f --sparsify -r .. --sync");
    assert_eq!((&told_of["durable"], &told_of["freed"]), (&true.into(), &0.into()), "{told_of}");
    dir.run("zero f --sparsify -r .. --sync")
        .begins("f: 0x0..0x2000 has no block of zeros that could be freed, durable\n");
    if strace_works() {
        let output = dir.straced(&["-e", "inject=msync:error=EIO"], "zero f --sparsify -r .. --sync");
        let text = &output;
        text.code(3).has("no block was freed");
    }
}

#[test]
fn a_dry_run_counts_the_runs_that_there_will_be() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 24_576]);
    let flags = nix::fcntl::FallocateFlags::empty();
    if nix::fcntl::fallocate(writer(&path), flags, 24_576, 4096).is_err() {
        return skip("there is no fallocate(2) here");
    }
    let mut bytes = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut bytes, &[0; 8396]).unwrap();
    dir.run("sync f --evict -q").code(0);
    let dry = dir.report("zero f --sparsify -r .. --dry-run");
    let real = dir.report("zero f --sparsify -r ..");
    assert_eq!(dry["runs"], real["runs"], "{dry}\n{real}");
    assert_eq!((&real["runs"], &real["freed"]), (&1.into(), &37_068.into()), "{real}");
}

#[test]
fn memory_that_was_only_read_is_not_resident() {
    let dir = Sandbox::new();
    let args = [
        "map",
        "--anonymous",
        "-n",
        "4M",
        "--json",
        "-c",
        "! true",
        "-c",
        "cat -q -f raw -o 0 -n 1M",
    ];
    let lines = ["-c", "patch -q -o 2M 01", "-c", "map"];
    let output = dir.mmapctl(&[&args[..], &lines].concat());
    let line = output.stdout.rsplit(|byte| *byte == b'\n').nth(1).unwrap();
    let told_of: serde_json::Value =
        serde_json::from_slice(line.split(|byte| *byte == 0).next_back().unwrap()).unwrap();
    let resident = told_of["resident"].as_u64().unwrap();
    // A page that was stored into; a huge one where the kernel gives those.
    assert!([1, 512].contains(&resident), "{told_of}");
}

#[test]
fn a_watch_of_units_shows_the_whole_ones_of_a_cut_file() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(1000));
    let out = fs::File::create(dir.join("out")).unwrap();
    let args = ["cat", "f", "--json", "--watch=20ms", "-r", "12..144", "--access", "4"];
    let mut child = dir.command(&args).stdout(out).spawn().unwrap();
    let lengths = |wanted: u64| {
        eventually(|| {
            let text = fs::read_to_string(dir.join("out")).unwrap();
            text.lines().any(|line| line.contains(&format!("\"length\":{wanted},")))
        })
    };
    assert!(lengths(132));
    for (len, whole) in [(50, 36), (13, 0), (1000, 132)] {
        writer(&path).set_len(len).unwrap();
        assert!(lengths(whole), "{len}");
    }
    send(child.id() as i32, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn stores_into_a_private_mapping_change_no_file() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abcd");
    let verbs = [
        "patch -o 0 58",
        "zero -r 2..3",
        "fork patch -o 1 59",
        "remap --keep-file --size 8192",
    ];
    let args = ["map", "f", "--private", "--json"];
    let lines: Vec<_> = verbs.iter().flat_map(|verb| ["-c", verb]).collect();
    let output = dir.mmapctl(&[&args[..], &lines].concat());
    let text = &output;
    assert_eq!(text.matches("\"changed\":false").count(), 4, "{text}");
    assert_eq!(text.matches("\"visibility\":\"private\"").count(), 4, "{text}");
    assert_eq!(read(&path), b"abcd");
    let output = dir.mmapctl(&["map", "f", "--json", "-c", "patch -o 0 58"]);
    assert_eq!(json(&output.stdout)["changed"], true);
}

#[test]
fn the_holes_of_hugetlbfs_are_not_known() {
    needs!(let _pool = huge::Pool::new(2));
    needs!(let mount = Mount::hugetlbfs());
    mount.sparse("f", 4 << 20);
    let told_of = mount.report("map f");
    assert!(told_of["hole_bytes"].is_null(), "{told_of}");
}

#[test]
fn the_exact_bytes_of_every_path_are_in_the_json() {
    let dir = Sandbox::new();
    dir.file("f", noise(8192));
    let name = |bytes: &'static [u8]| Path::new(std::ffi::OsStr::from_bytes(bytes));
    fs::copy(dir.join("f"), dir.join(name(b"a\xff"))).unwrap();
    for (args, option, path, field) in [
        (&["patch", "f", "-o", "0", "11"][..], "--undo", name(b"u\xff"), "undo"),
        (&["remap", "f", "--order", "reverse"], "--to", name(b"t\xff"), "to"),
        (&["patch", "f"], "--diff", name(b"a\xff"), "other"),
    ] {
        let mut command = dir.command(args);
        let output = command.arg(option).arg(path).arg("--json").outcome();
        let told_of = json(&output.stdout);
        let exact = const_hex::encode(path.as_os_str().as_bytes());
        assert_eq!(told_of[format!("{field}_hex")], exact, "{told_of}");
    }
    let told_of = dir.report("patch f -o 0 12 --undo v");
    assert!(told_of["undo"] == "v" && told_of.get("undo_hex").is_none(), "{told_of}");
}

#[test]
fn a_command_is_told_the_length_of_a_view() {
    let dir = Sandbox::new();
    dir.file("f", noise(5000));
    let lines = ["-c", "remap --order 1,0,1", "-c", "! echo $MMAPCTL_SIZE"];
    let command = ["--", "sh", "-c", "echo $MMAPCTL_SIZE"];
    let args = [&["map", "f", "-q"][..], &lines, &command].concat();
    dir.mmapctl(&args).is("9096\n9096\nexit 0");
}

#[test]
fn a_block_device_is_reported_as_one() {
    let dir = Sandbox::new();
    let image = dir.file("image", [vec![0; 512 << 10], noise(512 << 10)].concat());
    needs!(let device = LoopDevice::new(&image, &[]));
    let zero = |options: &str| {
        let line = format!("zero {} {options}", device.name());
        dir.mmapctl(&words(&line))
    };
    let dry = json(&zero("-r .. --sparsify --dry-run --json").stdout);
    assert!(dry["would_free"] == 512 << 10 && dry["allocated_before"].is_null(), "{dry}");
    zero("-r .. --sparsify --force").has("512 KiB (524288 bytes) of zeros in ").lacks("allocated");
    for method in ["punch", "zero-range"] {
        let output = zero(&format!("--method {method} -r 524288..524289 --force"));
        let text = &output;
        assert_eq!(output.exit(), 2, "{text}");
        text.has("for whole sectors alone, of 512 bytes");
    }
    assert!(dir.peer("cat", &[device.name()])[512 << 10..] == noise(512 << 10));
}

#[test]
fn tips_about_values_work_when_typed() {
    let dir = Sandbox::new();
    dir.file("f", [0; 4096]);
    dir.file("x", b"x");
    for (line, tip) in [
        ("patch f -o 0 crc32le:..16", "out: crc32le:0x4..0x10"),
        ("patch f -o 0 crc32be:0..end-4", "out: crc32be:0x4..0xffc"),
        ("patch f -o 8 crc32le:0..10", "out: crc32le:0x0..0x8"),
        ("patch f -o 0 crc32le:0..4", "a range that does not have its own four bytes"),
        ("patch f -o 0 0x", "text:WORDS"),
        ("map f --dax", "leave it out: stores are durable after 'mmapctl sync f'"),
        ("map --memfd -n 4K --dax", "leave it out\n"),
    ] {
        dir.refused_untouched(line).has(tip);
    }
    for (value, tip) in [
        ("two words", "write 'text:two words'"),
        ("it's", r"write 'text:it'\''s'"),
    ] {
        dir.mmapctl(&["patch", "f", "-o", "0", value]).code(2).has(tip);
    }
    // Bytes past the end compare as zeros, and cannot be shown.
    dir.mmapctl(&["patch", "x", "--grow", "-e", "0: 7800000001 -> 0102030405"])
        .code(1)
        .has("bytes at 0x4 are 00, expected 01")
        .has("'mmapctl cat x --range 0x0.. -x'");
    dir.run("cat x --range 0x0.. -x").code(0);
}

#[test]
fn scripts_of_a_view_say_that_their_offsets_are_not_the_files() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.sparse("f", 2 * page);
    dir.sparse("g", 2 * page);
    let verbs = [
        "remap --order reverse",
        "patch -o 0 aa --undo undo",
        "patch -o 0 bb --dry-run",
        "patch --diff g",
    ];
    let text = dir.session_prints("f -q", &verbs);
    let note = "# offsets of a view: apply it in a session, after the same 'remap --order'\n";
    assert_eq!(text.matches(note).count(), 2, "{text}");
    assert!(String::from_utf8(dir.read("undo")).unwrap().contains(note));
    dir.run("patch f -o 0 bb --dry-run").lacks(note);
}

#[test]
fn json_has_no_control_character_of_a_name() {
    let dir = Sandbox::new();
    let name = "a\u{9b}31m\u{7f}";
    dir.file(name, [0; 64]);
    let undo = format!("{name}.undo");
    for args in [
        &["cat", name][..],
        &["map", name],
        &["map", "-R", "."],
        &["sync", name, "missing"],
        &["patch", name, "-o", "0", "01", "--undo", &undo],
        &["cat", "no\u{9b}"],
    ] {
        let output = dir.mmapctl(&[args, &["--json"]].concat());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains("\\u009b"), "{args:?}: {text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{args:?}: {text:?}");
    }
}

#[test]
fn a_view_that_is_written_out_is_not_mapped_as_a_whole() {
    needs!(let dir = Sandbox::in_memory());
    dir.sparse("f", 200 << 40);
    dir.run("remap f --order 1,0 --to out -q").is("exit 0");
    assert_eq!(dir.read("out").len() as u64, 2 * page_size());
    dir.run("remap f --order 0 --to - -q").code(0);
}

#[test]
fn registers_of_a_view_have_the_views_offsets() {
    let dir = Sandbox::new();
    let page = page_size() as usize;
    let bytes = [vec![b'A'; page], vec![b'B'; page], vec![b'C'; page]].concat();
    let path = dir.file("f", &bytes);
    let long = "remap -q --order 2,1,0,2,1";
    let last = format!("-r {}..+4 --access 4", 3 * page);
    assert_eq!(dir.session_prints("f -q", &[long, &format!("cat {last}")]), "CCCC");
    for (order, place) in [(long, 3 * page), ("remap -q --order 2,1", 0)] {
        dir.file("f", &bytes);
        let patch = format!("patch -q -o {place} text:wxyz --access 4");
        dir.session("f -q", &[order, &patch]).is("exit 0");
        assert_eq!(read(&path)[2 * page..][..4], *b"wxyz");
    }
}

#[test]
fn a_range_past_the_mapped_part_is_refused() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", noise(3 * page as usize));
    let part = format!("f -q -r 0..{}", 2 * page);
    for verb in [
        format!("cat -r {}..+8", 2 * page - 4),
        format!("cat -r {}..+4", 2 * page),
        format!("sync -r {}..+8", 2 * page),
    ] {
        dir.session(&part, &[&verb]).code(2).has("is mapped");
    }
    assert_eq!(dir.session_prints(&part, &[&format!("cat -r {}.. -f plain", 2 * page)]), "");
    // The end of the file still cuts what reaches past it.
    let verb = format!("cat -r {}..+9000", 3 * page - 4);
    assert_eq!(dir.session("f -q", &[&verb]).stdout, noise(3 * page as usize)[3 * page as usize - 4..]);
}

#[test]
fn a_session_in_which_two_read_stdin_runs_neither() {
    let dir = Sandbox::new();
    dir.file("f", [b'0'; 8]);
    for lines in [
        &["patch -o 0", "patch -o 4 @-"][..],
        &["patch -q -o 0 61", "patch -o 4 @-", "-"],
        &["fork patch -o 0", "remap --order @-"],
    ] {
        let args: Vec<_> = lines.iter().flat_map(|line| ["-c", line]).collect();
        dir.mmapctl_fed(&[&["map", "f"], args.as_slice()].concat(), "abc")
            .code(2)
            .has("-c 2: stdin is used twice");
        assert_eq!(dir.read("f"), [b'0'; 8]);
    }
}

#[test]
fn zeros_that_are_cut_off_count() {
    let dir = Sandbox::new();
    dir.file("f", b"abc\0\0\0");
    dir.run_fed("patch f --script -", "size 6 -> 1\n").begins("f: 5 bytes of 0x1..0x6 changed\n");
    dir.file("f", [0; 8192]);
    dir.file("s", "size 8192 -> 4096\n");
    assert_eq!(dir.report("patch f --script s")["bytes_changed"], 4096);
}

#[test]
fn a_mismatch_in_a_session_is_shown_where_it_was_met() {
    let dir = Sandbox::new();
    dir.file("f", noise(3 * page_size() as usize));
    let there = "see what is there with -c 'cat --range 0x0..+16 -x' in the session";
    for (what, first) in [
        ("f -q", "remap -q --order 2,1,0"),
        ("f -q --private", "map -q"),
        ("--memfd -n 8K -q", "map -q"),
    ] {
        let found = dir.session(what, &[first, "patch -o 0 --expect 22222222222222 33333333333333"]);
        found.code(1).has(there);
        let lost = dir.session(what, &[first, "patch --find text:never-there 33"]);
        lost.code(1).has("-c 'cat -x' in the session shows what is there");
    }
}

#[test]
fn pages_of_a_view_past_the_end_are_counted_and_not_zeroed_by_a_dry_run() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", noise(3 * page as usize));
    let cut = format!("! truncate -s {} f", page - 96);
    let order = "remap -q --order 2,1,0";
    let output = dir.mmapctl(&["map", "f", "-q", "--json", "-c", order, "-c", &cut, "-c", "map"]);
    output.code(0).has("\"past_end\":2,");
    for verb in ["zero -r 0..4 --dry-run", "zero -r 0..4"] {
        dir.session("f -q", &[order, &cut, verb]).code(2);
        dir.file("f", noise(3 * page as usize));
    }
}

#[test]
fn registers_of_a_mapping_without_rights_are_not_loaded() {
    let dir = Sandbox::new();
    dir.file("f", noise(8192));
    for what in ["f", "f --private", "--memfd -n 4K", "--anonymous -n 4K"] {
        for verb in ["cat -n 8 --access 8", "fork cat -n 1 --access 1", "cat -n 1"] {
            dir.session(&format!("{what} --prot none -q"), &[verb]).code(2).has("PROT_NONE");
        }
    }
}
