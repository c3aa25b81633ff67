//! Live mappings in a session: files that change during it, mremap(2) with and without the file, huge pages.

use crate::support::huge::Pool;
use crate::support::strace::*;
use crate::support::*;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

/// The JSON objects of a session that must end with 0.
fn objects(dir: &Sandbox, what: &str, verbs: &[&str]) -> Vec<serde_json::Value> {
    let text = dir.session(&format!("{what} --json"), verbs);
    let stdout = text.strip_suffix("exit 0").unwrap_or_else(|| panic!("{what} {verbs:?}\n{text}"));
    stdout.lines().map(|line| json(format!("{line}\n").as_bytes())).collect()
}

fn address(object: &serde_json::Value, field: &str) -> u64 {
    let text = object[field].as_str().unwrap_or_else(|| panic!("{field} in {object}"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

// ---- past the end --------------------------------------------------------------------------------------------------

#[test]
fn a_truncated_page_ends_in_zeros_and_the_next_is_an_error() {
    let dir = Sandbox::new();
    let page = page_size();
    for (what, cut) in [("f", "! truncate -s 5000 f"), ("f --private", "! truncate -s 5000 f")] {
        dir.file("f", [b'a'; 20_000]);
        let tail = format!("cat -f plain -r 4998..{}", 5004.min(2 * page));
        let last = format!("cat -f plain -r {}..{}", 2 * page - 1, 2 * page);
        let behind = format!("cat -r {}..+4", 2 * page);
        let across = format!("cat -r {}..+4", 2 * page - 2);
        dir.session(what, &["cat -q -n 0", cut, &tail, &last, &behind])
            .begins("616100000000\n00\n! error: f: -c 5: cannot read ")
            .has(format!("cannot read {:#x}..", 2 * page))
            .code(2)
            .has("the file ends at 0x1388 (5000 bytes)");
        for format in ["", "-f plain ", "-x ", "-f canonical ", "--json "] {
            let text = dir.session(what, &[&format!("{across} {format}").trim_end().replace("  ", " ")]);
            // A new mapping ends where the file does, so nothing after the end is asked of it.
            text.code(2).has("lies past the end");
            dir.file("f", [b'a'; 20_000]);
            dir.session(what, &[cut, &format!("{across} {format}")])
                .has(format!("cannot read {:#x}..", 2 * page))
                .code(2);
        }
        // Piped where no page is looked at.
        dir.file("f", [b'a'; 20_000]);
        let args = ["map", "f", "-c", cut, "-c", "cat"];
        let mut command = dir.command(&args);
        command.stdout(fs::File::create("/dev/null").unwrap()).outcome().code(2);
    }
}

#[test]
fn stores_past_the_end_are_refused_and_before_it_made() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'a'; 20_000]);
    let page = page_size();
    let cut = "! truncate -s 5000 f";
    for verb in [
        "patch -o 5000 00".to_string(),
        "patch -o 4999 0000".into(),
        format!("patch -o {} 00", 2 * page),
        "patch -r 4990..5001 fill:00:11".into(),
        "patch --edit '5000: -> 00'".into(),
        "zero -r 4999..5001".into(),
        format!("zero -r {}..+1", 2 * page),
        "zero -r ..".into(),
    ] {
        dir.file("f", [b'a'; 20_000]);
        dir.session("f", &[cut, &verb]).begins("! error: f: -c 2: ").has("0x1388").code(2);
        assert!(read(&path) == [b'a'; 5000], "{verb}: it touched the file");
        // Grown again, by whomever, there is only zeros.
        writer(&path).set_len(6000).unwrap();
        assert!(read(&path)[5000..] == [0; 1000], "{verb}: it left something behind the end");
    }
    dir.file("f", [b'a'; 20_000]);
    dir.session(
        "f",
        &[
            cut,
            "patch -q -o 4999 62",
            "patch -q --find 6162 6363",
            "zero -q -r 1..2",
            "sync -q",
        ],
    )
    .is("exit 0");
    let bytes = read(&path);
    assert_eq!((bytes.len(), bytes[1], &bytes[4996..]), (5000, 0, &b"aacc"[..]));
}

#[test]
fn pages_past_the_end_are_reported_and_parts_of_one_are_not() {
    let dir = Sandbox::new();
    dir.file("f", [b'a'; 20_000]);
    let page = page_size();
    let past = |what: &str, verbs: &[&str]| {
        let objects = objects(&dir, what, &[verbs, &["map"]].concat());
        let last = objects.last().unwrap();
        (last["pages"].as_u64().unwrap(), last["past_end"].as_u64().unwrap())
    };
    let all = 20_000u64.div_ceil(page);
    assert_eq!(past("f", &[]), (all, 0));
    assert_eq!(past("f -r 1..3", &[]), (1, 0));
    assert_eq!(past(&format!("f -r {}..", all * page - page + 1), &[]), (1, 0));
    assert_eq!(past("--anonymous -n 4097", &[]).1, 0);
    assert_eq!(past("f", &["remap --size +1 --keep-file"]), (all, 0));
    assert_eq!(past("f", &[&format!("remap --size {} --keep-file", all * page + 1)]), (all + 1, 1));
    assert_eq!(past(&format!("f -r {}..", page), &[&format!("remap --size {} --keep-file", all * page)]), (all, 1));
    assert_eq!(past("f", &["! truncate -s 5000 f"]), (all, all - 5000u64.div_ceil(page)));
    // It is 5000 bytes long by now.
    let all = 5000u64.div_ceil(page);
    assert_eq!(past("f", &["! truncate -s 0 f"]), (all, all));
}

#[test]
fn a_file_made_longer_again_is_there_again() {
    let dir = Sandbox::new();
    dir.file("f", [b'a'; 20_000]);
    let verbs = [
        "! truncate -s 0 f; truncate -s 20000 f",
        "cat -f plain -r 19998..",
        "patch -q -o 19999 62",
        "! tail -c1 f",
    ];
    dir.session("f", &verbs).is("0000\nb(no newline)\nexit 0");
    // What another process adds after the mapping is there when the mapping grows.
    dir.file("f", [b'a'; 100]);
    let verbs = [
        "! printf more >> f",
        "cat -n 1 -o 99",
        "remap -q --size 104 --keep-file",
        "cat -r 100..",
    ];
    dir.session("f", &verbs).is("amore(no newline)\nexit 0");
}

// ---- mremap --------------------------------------------------------------------------------------------------------

#[test]
fn a_file_and_its_mapping_resize_together_to_odd_sizes() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    let mut wanted = noise(5000);
    let mut verbs = Vec::new();
    for size in [
        5001u64,
        4097,
        4096,
        4095,
        1,
        12_345,
        12_288,
        70_001,
        3,
        8191,
        1 << 20,
        20_000,
    ] {
        let old = wanted.len();
        wanted.resize(size as usize, 0);
        verbs.push(format!("remap -q --size {size}"));
        if size as usize > old {
            // Into the first and last of the new bytes.
            verbs.push(format!("patch -q --edit '{old}: 00 -> ee' --edit '{}: -> ff'", size - 1));
            (wanted[old], wanted[size as usize - 1]) = (0xee, 0xff);
        }
    }
    // 5001 has one new byte, which takes one edit.
    verbs[1] = "patch -q -o -1 ff".into();
    let verbs: Vec<_> = verbs.iter().map(String::as_str).collect();
    assert_eq!(dir.session("f", &[&verbs[..], &["cat -n 1 -q"]].concat()).lines().last(), Some("exit 0"));
    let bytes = read(&path);
    assert_eq!(bytes.len(), 20_000);
    assert!(bytes == wanted, "other bytes");
}

#[test]
fn growing_under_a_mapping_gives_blocks_unless_told_otherwise() {
    let dir = Sandbox::new();
    dir.sparse("f", 4096);
    let text = objects(&dir, "f", &["remap --size 64K", "remap --size 128K --sparse"]);
    assert!(text[0]["allocated_after"].as_u64().unwrap() >= 60 << 10, "{}", text[0]);
    assert_eq!(text[1]["allocated_after"], text[0]["allocated_after"], "{}", text[1]);
    assert_eq!(text[1]["length"], 128 << 10);
    assert_eq!(text[1]["changed"], true);
}

#[test]
fn keep_file_resizes_the_mapping_alone() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    let before = State::of(&path);
    let text = objects(
        &dir,
        "f",
        &[
            "remap --size 64K --keep-file",
            "map",
            "remap --size 1 --keep-file",
            "cat",
        ],
    );
    assert_eq!(text[0]["length"], 64 << 10);
    assert_eq!(text[0]["changed"], false);
    assert_eq!(text[1]["length"], 64 << 10);
    assert_eq!(text[3]["hex"], format!("{:02x}", noise(1)[0]));
    assert!(State::of(&path) == before, "the file moved");
    for (what, verb, why) in [
        ("f", "remap --size 0 --keep-file", "a mapping has at least one page"),
        ("--anonymous -n 4K", "remap --size 0", "a mapping has at least one page"),
        (
            "--anonymous --shared -n 4K",
            "remap --size 8K",
            "shared anonymous memory cannot become longer than it was made",
        ),
        ("f --private", "remap --size 1", "its file is not to be changed"),
        ("f", "remap --size 100000T --keep-file", "cannot remap"),
        ("f --prot r", "remap --size 100", "the file is open for reading only"),
        ("f -r 4096..", "remap --size 4095", "the mapping begins after the new end"),
        ("--anonymous -n 4K", "patch -o 4095 0000", "only 0x0..0x1000 is mapped"),
        ("--anonymous -n 4K", "zero -r 0..4097", "only 0x0..0x1000 is mapped"),
        ("f", "remap --size 7fffffffffffffff", "--size"),
    ] {
        dir.session(what, &[verb]).code(2).has(why).has("-c 1: ");
    }
    assert!(State::of(&path) == before, "the file moved");
    // Within its last page shared anonymous memory has room.
    dir.session("--anonymous --shared -n 1", &["remap --size 4096 -q", "cat -o 4095 -x"]).code(0);
}

#[test]
fn memory_grows_and_keeps_its_bytes_wherever_it_goes() {
    let dir = Sandbox::new();
    let there = "0x600000000000";
    let verbs = [
        "patch -o 0 text:kept",
        "remap --size 1M",
        &format!("remap --size 2M --address {there}"),
        "cat -n 4",
        "cat -o 2097151",
        "remap --size 1 --no-move",
        "cat",
    ];
    let text = objects(&dir, "--anonymous -n 4K", &verbs);
    assert_eq!(address(&text[2], "address"), 0x6000_0000_0000);
    assert_eq!(text[3]["hex"], "6b657074");
    assert_eq!(text[4]["hex"], "00");
    assert_eq!(address(&text[5], "address"), 0x6000_0000_0000);
    assert_eq!(text[6]["hex"], "6b");
}

#[test]
fn an_address_is_never_taken_from_another_mapping() {
    let dir = Sandbox::new();
    dir.file("f", noise(5000));
    // Two mappings of one process cannot be asked for on one command line, but a mapping is at its own address.
    let there = "0x600000000000";
    dir.session(&format!("f --address {there}"), &[&format!("remap --address {there}"), "cat -n 0"])
        .has(format!("there is a mapping at {there} already (EEXIST)"))
        .code(2)
        .has("/proc/$MMAPCTL_PID/maps'\n");
    let next = format!("0x{:x}", 0x6000_0000_0000u64 + 2 * page_size());
    let text = objects(&dir, &format!("f --address {there}"), &["map", &format!("remap --address {next}"), "cat -n 4"]);
    assert_eq!(text[0]["address"], there);
    assert_eq!(text[1]["address"], next.as_str());
    for (what, verbs) in [("f --address 0x1001", &[][..]), ("f", &["remap --address 0x1001"])] {
        let text = dir.session(what, verbs);
        let why = format!("the address 0x1001 is not a multiple of the page size, {:#x}", page_size());
        text.code(2).has(&why).has("tip: write --address 0x1000");
    }
    for bad in ["0", "4K", "x", "-1"] {
        dir.session(&format!("f --address {bad}"), &[]).code(2).has("tip: ");
    }
}

#[test]
fn what_may_not_move_says_what_is_in_the_way() {
    let dir = Sandbox::new();
    dir.file("f", noise(5000));
    // The page right after the mapping is the one that it is to grow into.
    dir.session("f", &["remap --size 1T --sparse --no-move", "cat -n 0"])
        .has("its length was not changed")
        .has("tip: leave out --no-move")
        .code(2);
    assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 5000);
    let text = objects(&dir, "f --address 0x600000000000", &["remap --size 1M --no-move --sparse"]);
    assert_eq!(text[0]["address"], text[0]["address_before"]);
}

#[test]
fn pages_that_are_moved_leave_an_old_mapping_behind() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    let before = State::of(&path);
    for (what, hex) in [("--anonymous -n 8K", "6b657074"), ("f --private", "6b657074")] {
        let text = objects(&dir, what, &["patch -o 0 text:kept", "remap --dont-unmap", "cat -n 4", "map"]);
        assert_eq!(text[1]["left_at"], text[1]["address_before"]);
        assert_ne!(text[1]["address"], text[1]["address_before"]);
        assert_eq!(text[2]["hex"], hex);
        assert_eq!(text[3]["address"], text[1]["address"]);
    }
    assert!(State::of(&path) == before, "the file moved");
    dir.session("f", &["remap --dont-unmap"]).code(0).has("a second mapping of the same pages at 0x");
    // The kernel's own list has both.
    dir.session("f", &["remap --dont-unmap -q", "! grep -c '/f$' /proc/$MMAPCTL_PID/maps"])
        .is("2\nexit 0");
    dir.session("f", &["remap --dont-unmap --size 1"]).code(2).has("cannot be used with");
    dir.session("f", &["remap -v --address 0x600000000000"])
        .has("MREMAP_MAYMOVE|MREMAP_FIXED, 0x600000000000) = 0x600000000000");
}

#[test]
fn what_only_a_live_mapping_has_is_refused_of_a_file() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    let before = State::of(&path);
    for options in [
        "--size 1 --keep-file",
        "--size 1 --no-move",
        "--address 0x600000000000",
        "--dont-unmap",
    ] {
        dir.refused(&format!("remap f {options}")).has("mmapctl map f -c 'remap");
    }
    assert!(State::of(&path) == before, "the file moved");
}

// ---- others at work ------------------------------------------------------------------------------------------------

#[test]
fn a_command_may_write_to_the_file_that_the_session_writes_to() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"......");
    let soon = "--lock-timeout 180s";
    let ours = |text: &str| format!("patch -q -o 0 text:{text}");
    let theirs = |at: u8| format!("{} patch -q {soon} f -o {at} text:B", BINARY);
    let verbs = [&ours("A"), &format!("! {}", theirs(1)), "patch -q -o 2 text:C", "cat"];
    dir.session("f", &verbs.map(|verb| verb as &str)).is("ABC...(no newline)\nexit 0");
    let args = ["map", "f", "-c", &ours("X"), "--", "sh", "-c", &theirs(5)];
    dir.mmapctl(&args).is("exit 0");
    assert_eq!(read(&path), b"XBC..B");
    // A command that keeps the lock, and one that leaves half a patch.
    let keep = "! (flock 9; while [ -e f ]; do sleep 0.1; done) 9<f >&- 2>&- & while flock -n f true; do :; done";
    dir.session("f --lock-timeout 50ms", &[&ours("A"), keep, &ours("B")])
        .has("-c 2: ")
        .has("another process holds a lock")
        .code(2);
    // The keeper ends when the file is gone.
    fs::remove_file(&path).unwrap();
    dir.file("f", b"......");
    dir.session("f", &[&ours("A"), "! umask 077; echo > .f.mmapctl-undo", &ours("B")])
        .code(4)
        .has("-c 2: recovery needed: an atomic patch was interrupted");
    assert_eq!(read(&path), b"A.....");
}

#[test]
fn signals_are_heard_between_verbs_and_by_commands() {
    let dir = Sandbox::new();
    dir.file("f", [0; 4096]);
    let held = |verb: &str| {
        let words = [
            "map",
            "f",
            "-q",
            "-c",
            verb,
            "--",
            "grep",
            "SigBlk",
            "/proc/self/status",
        ];
        dir.mmapctl(&words)
    };
    assert_eq!(held("patch -o 0 01 -q"), held("cat -q -n 0"));
    let mut session = dir
        .command(&["map", "f", "-q", "-c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = session.stdin.take().unwrap();
    lines.write_all(b"patch -o 0 02 -q\ncat -n 1 -f plain\n").unwrap();
    let mut shown = [0; 3];
    session.stdout.take().unwrap().read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"02\n");
    // It waits for the next line now, or soon.
    send(session.id() as i32, Signal::SIGTERM);
    eventually(|| session.try_wait().unwrap().is_some());
    drop(lines);
    assert_eq!(session.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn what_stands_behind_the_session_finds_what_it_has_done() {
    let dir = Sandbox::new();
    dir.file("f", b"abc");
    let args = [
        "map",
        "f",
        "-c",
        "patch -q -o 0 text:X",
        "--",
        "sh",
        "-c",
        "cat f; exit 5",
    ];
    dir.mmapctl(&args).is("Xbc(no newline)\nexit 5");
    dir.session("f --watch", &["cat"]).code(2).has("--watch redraws the report");
    let args = ["map", "f", "-c", "! exit 3", "--hold"];
    dir.mmapctl(&args).code(3);
}

// ---- memfds and huge pages -----------------------------------------------------------------------------------------

#[test]
fn a_memfd_grows_and_its_reader_sees_it() {
    let dir = Sandbox::new();
    let verbs = [
        "remap -q --size 1M",
        "patch -q -o -4 text:last",
        "! stat -Lc %s $MMAPCTL_PATH; tail -c4 $MMAPCTL_PATH",
    ];
    dir.session("--memfd=box -n 4K", &verbs).is("1048576\nlast(no newline)\nexit 0");
    dir.session("--memfd=box -n 4K", &["map", "! readlink $MMAPCTL_PATH"])
        .begins("memfd box: 0x0..0x1000, 4 KiB")
        .has("\n/memfd:box (deleted)\n")
        .has("mapping     memfd, shared, rw-")
        .has("path        /proc/");
}

#[test]
fn memory_of_huge_pages_is_worked_on_like_any_other() {
    needs!(let _pool = Pool::new(4));
    let dir = Sandbox::new();
    for what in [
        "--memfd --huge=2M -n 4M",
        "--anonymous --huge=2M -n 3M",
        "--anonymous --shared --huge=2M -n 4M",
    ] {
        let text = objects(
            &dir,
            what,
            &[
                "patch -o 2M text:huge",
                "map",
                "cat -r 2M..+4",
                "zero -r 2M..+2",
                "cat -r 2M..+4",
            ],
        );
        assert_eq!(
            (&text[1]["page_size"], &text[1]["pages"], &text[1]["resident"]),
            (&(2 << 20).into(), &2.into(), &1.into()),
            "{what}: {}",
            text[1]
        );
        assert_eq!(text[1]["huge_bytes"], 2 << 20, "{what}: {}", text[1]);
        assert_eq!(text[2]["hex"], "68756765", "{what}");
        assert_eq!(text[4]["hex"], "00006765", "{what}");
    }
    // More than there are is refused by name, or met at the first touch.
    dir.session("--memfd --huge=2M -n 1G", &[])
        .has("512 huge pages of 2048 KiB were requested, but of the ")
        .code(2)
        .has("nr_hugepages'");
    dir.session("--anonymous --huge=2M -n 1G --noreserve", &["patch -q -o 0 ff", "zero -r .."])
        .code(2)
        .has("-c 2: ");
}

#[test]
fn huge_pages_that_the_machine_has_not_are_refused() {
    let dir = Sandbox::new();
    dir.file("f", noise(5000));
    for (what, why) in [
        ("--anonymous -n 4M --huge=3M", "this machine has no huge pages of that size"),
        ("--memfd -n 4M --huge=4K", "this machine has no huge pages of that size"),
        ("--memfd -n 4M --huge=512G", "this machine has no huge pages of that size"),
        ("--anonymous -n 4M --huge=512G", "this machine has no huge pages of that size"),
        ("f --huge", "--huge is for memory"),
        ("f --dax", "--dax needs a file in persistent memory"),
    ] {
        dir.session(what, &["cat"]).code(2).has(why).has("\n!   tip: ");
    }
}

#[test]
fn a_script_without_an_end_is_refused() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(100));
    let before = State::of(&path);
    dir.run("map f --script /dev/zero").code(2).has("more than 64 MiB");
    assert_eq!(State::of(&path), before);
}
