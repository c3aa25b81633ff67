//! `map`, as its users see it.

use crate::support::*;
use predicates::prelude::*;
use std::fs::{self};
use std::os::unix::fs::FileExt;
use std::path::Path;

// ---- the report ----------------------------------------------------------------------------------------------------

#[test]
fn a_file_is_mapped_shared_and_readable_unless_asked_otherwise() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    let page = page_size();
    let report = dir.report("map f --populate");
    for (key, value) in [
        ("verb", "map"),
        ("file", "f"),
        ("backing", "file"),
        ("visibility", "shared"),
        ("protection", "r--"),
    ] {
        assert_eq!(report[key], value, "{report}");
    }
    let pages = 10_000u64.div_ceil(page);
    assert_eq!(report["offset"], 0, "{report}");
    assert_eq!(report["length"], 10_000, "{report}");
    assert_eq!(report["mapped"], pages * page, "{report}");
    assert_eq!(report["page_size"], page, "{report}");
    assert_eq!(report["pages"], pages, "{report}");
    assert_eq!(report["resident"], pages, "{report}");
    assert_eq!(report["locked"], 0, "{report}");
    assert_eq!(report["changed"], false, "{report}");
    let address = report["address"].as_str().unwrap().strip_prefix("0x").unwrap();
    assert_eq!(u64::from_str_radix(address, 16).unwrap() % page, 0, "{report}");
}

#[test]
fn the_text_report_names_file_mapping_and_picture() {
    let dir = Sandbox::new();
    dir.file("f", noise(64 << 10));
    let text = dir.run("map f --populate");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "f: 0x0..0x10000, 64 KiB (65536 bytes)", "{text}");
    assert_eq!(lines[1], "  mapping     file, shared, r--", "{text}");
    assert!(lines[2].starts_with("  address     0x"), "{text}");
    text.has(" (100 %)\n").ends("\nexit 0");
}

#[test]
fn visibility_and_protection_are_as_asked() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    for (options, visibility, protection) in [
        ("f", "shared", "r--"),
        ("f --shared --prot rw", "shared", "rw-"),
        ("f --private", "private", "rw-"),
        ("f --private --prot r", "private", "r--"),
        ("f --prot none", "shared", "---"),
        ("--anonymous -n 64K", "private", "rw-"),
        ("--anonymous -n 64K --shared", "shared", "rw-"),
        ("--anonymous -n 64K --private --prot none", "private", "---"),
        ("--anonymous -n 64K --prot r", "private", "r--"),
    ] {
        let report = dir.report(&format!("map {options}"));
        assert_eq!(report["visibility"], visibility, "{report}");
        assert_eq!(report["protection"], protection, "{report}");
    }
    // A folder mounted noexec forbids these, and a hardened kernel the last.
    for (prot, letters) in [("rx", "r-x"), ("rwx", "rwx")] {
        let output = dir.mmapctl(&["map", "f", "--prot", prot, "--json"]);
        match output.status.code() {
            Some(0) => assert_eq!(json(&output.stdout)["protection"], letters),
            code => assert_eq!((code, output.error()["exit"].as_u64()), (Some(2), Some(2))),
        }
    }
}

#[test]
fn a_range_is_mapped_by_its_pages() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", noise(10 * page as usize));
    for (place, offset, length, pages) in [
        ("-o 2p -n 1p", 2 * page, page, 1),
        ("-r 1..2", 1, 1, 1),
        ("-o 1 -n 1p", 1, page, 2),
        ("-o -1", 10 * page - 1, 1, 1),
        ("-o -1 -n 1G", 10 * page - 1, 1, 1),
    ] {
        let report = dir.report(&format!("map f {place} --populate"));
        assert_eq!(report["offset"], offset, "{place}: {report}");
        assert_eq!(report["length"], length, "{place}: {report}");
        assert_eq!(report["pages"], pages, "{place}: {report}");
        assert_eq!(report["mapped"], pages * page, "{place}: {report}");
    }
    for place in ["-n 0", "-o end", "-o end+1", "-r 4..2", "-o -11p"] {
        dir.refused(&format!("map f {place}"));
    }
}

#[test]
fn dirty_pages_and_holes_are_counted() {
    on_disk(|dir| {
        let path = dir.sparse("f", 4 << 20);
        let file = writer(&path);
        file.write_all_at(&[1; 8192], 1 << 20).unwrap();
        file.sync_all().unwrap();
        let clean = dir.report("map f");
        assert_eq!(clean["dirty"], 0, "{clean}");
        assert_eq!(clean["writeback"], 0, "{clean}");
        let holes = clean["hole_bytes"].as_u64().unwrap();
        assert!((3 << 20..(4 << 20) - 8191).contains(&holes), "{clean}");
        file.write_all_at(&[2], 1 << 20).unwrap();
        let dirty = dir.report("map f");
        assert!(dirty["dirty"].as_u64().unwrap() + dirty["writeback"].as_u64().unwrap() > 0, "{dirty}");
        let text = dir.run("map f");
        let strip = text.lines().find_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']')).unwrap();
        assert_eq!(strip.len(), 64, "{text}");
        assert!(strip.starts_with('_') && strip.as_bytes()[16] == b'd' && strip.ends_with('_'), "{text}");
    });
}

#[test]
fn anonymous_memory_is_all_there_once_populated() {
    let dir = Sandbox::new();
    let pages = (1 << 20) / page_size();
    for visibility in ["--shared", "--private"] {
        let line = format!("map --anonymous -n 1M {visibility}");
        let empty = dir.report(&line);
        assert_eq!(empty["pages"], pages, "{empty}");
        assert_eq!(empty["resident"], 0, "{empty}");
        let full = dir.report(&format!("{line} --populate"));
        assert_eq!(full["pages"], pages, "{full}");
        assert_eq!(full["resident"], pages, "{full}");
        assert_eq!(full["backing"], "anonymous", "{full}");
        assert_eq!(full["file"], serde_json::Value::Null, "{full}");
    }
}

#[test]
fn populating_a_private_mapping_leaves_the_file() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(40_000));
    let before = State::of(&path);
    let report = dir.report("map f --private --populate");
    // Not known before Linux 6.7.
    if !report["copied"].is_null() {
        assert_eq!(report["copied"], report["pages"], "{report}");
    }
    assert_eq!(State::of(&path), before);
}

#[test]
fn dev_zero_is_anonymous_memory_of_the_length_asked_for() {
    let dir = Sandbox::new();
    dir.refused("map /dev/zero");
    dir.refused("map /dev/zero -o 4096 -n 4096");
    for line in [
        "map /dev/zero -n 64K",
        "map /dev/zero -n 64K --private",
        "map /dev/zero -n 64K --prot rw",
    ] {
        let report = dir.report(&format!("{line} --populate"));
        assert_eq!((&report["length"], &report["resident"]), (&65_536.into(), &report["pages"]), "{line}: {report}");
    }
}

#[test]
fn the_picture_is_ascii_or_unicode_as_the_locale_says() {
    let dir = Sandbox::new();
    dir.file("f", noise(64 << 10));
    dir.report("sync f"); // dirty pages have a mark of their own
    for (locale, strip) in [("C", "################"), ("C.UTF-8", "████████████████")]
    {
        let mut command = dir.command(&["map", "f", "--populate"]);
        let output = command.env("LC_ALL", locale).outcome();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.is_ascii(), locale == "C", "{text}");
        if page_size() == 4096 {
            assert!(text.contains(&format!("\n  [{strip}]\n")), "{text}");
        }
    }
    let anonymous = dir.run("map --anonymous -n 16p --populate");
    anonymous.has("\n  [################]\n  # resident\n");
    let absent = dir.run("map --anonymous -n 16p");
    absent.has("\n  [................]\n  . absent\n");
}

// ---- asking for it -------------------------------------------------------------------------------------------------

#[test]
fn every_piece_of_advice_is_understood() {
    let dir = Sandbox::new();
    dir.file("f", noise(10_000));
    for advice in [
        "normal",
        "random",
        "sequential",
        "willneed",
        "dontneed",
        "free",
        "cold",
        "pageout",
        "hugepage",
        "nohugepage",
        "collapse",
        "mergeable",
        "unmergeable",
        "dontdump",
        "dodump",
        "dontfork",
        "dofork",
    ] {
        let output = dir.mmapctl(&["map", "f", "--advise", advice, "--json"]);
        match output.status.code() {
            Some(0) => assert!(json(&output.stdout)["pages"].is_u64()),
            // Accepted by mmapctl and refused by the kernel, which may lack an advice, or allow it for other mappings only.
            Some(2) => {
                let error = output.error();
                let text = error["error"].as_str().unwrap();
                assert!(text.starts_with(&format!("f: --advise {advice}: cannot advise")), "{error}");
            }
            _ => panic!("{advice}: {}", output),
        }
    }
    // These always work on a shared file.
    let line = "map f --advise random --advise willneed --advise dontfork";
    dir.run(line).code(0);
    assert_cmd::Command::from_std(dir.command(&["map", "f", "--advise", "random", "-v"]))
        .assert()
        .stderr(predicate::str::is_match(r"(?m)^madvise\(0x[0-9a-f]+, \d+, MADV_RANDOM\) = 0$").unwrap());
    dir.run("map f --advise remove").code(2);
}

#[test]
fn locking_shows_every_page_locked_or_names_the_limit() {
    let dir = Sandbox::new();
    dir.file("f", noise(64 << 10));
    for line in [
        "map f --lock --populate",
        "map f --lock=now --populate",
        "map --anonymous -n 64K --lock",
    ] {
        let output = dir.mmapctl(&words(&format!("{line} --json")));
        if output.status.code() == Some(0) {
            let report = json(&output.stdout);
            assert_eq!(
                (&report["locked"], &report["resident"]),
                (&report["pages"], &report["pages"]),
                "{line}: {report}"
            );
        } else {
            output.has("RLIMIT_MEMLOCK is ");
        }
    }
}

#[test]
fn locking_on_fault_brings_nothing_in() {
    let dir = Sandbox::new();
    let text = dir.run("map --anonymous -n 32K --lock=on-fault --json");
    assert!(
        text.contains(r#""resident":0,"#) && text.ends_with("exit 0") || text.contains("RLIMIT_MEMLOCK"),
        "{text}"
    );
}

#[test]
fn a_small_limit_on_locked_memory_is_explained_by_name() {
    let args = ["map", "--anonymous", "-n", "1M", "--lock"];
    needs!(let mut command = as_ordinary_user(Sandbox::at(Path::new("/")).limited("-l 8", &args)));
    command
        .outcome()
        .is_refusal()
        .has("RLIMIT_MEMLOCK is 8192 bytes, and 1048576 were to be locked")
        .has("ulimit -l");
}

#[test]
fn pages_without_room_are_reported_as_not_locked() {
    needs!(let mount = Mount::tmpfs("1m"));
    mount.sparse("f", 64 << 10);
    mount.fill();
    for line in ["map f --lock", "map f --lock --prot rw", "map f --lock --private"] {
        mount.refused(line).has("cannot lock 0x0..0x10000: no room: the file system is full (ENOSPC)");
    }
}

#[test]
fn a_small_address_space_is_explained_by_name() {
    let dir = Sandbox::new();
    let output = dir.limited("-v 50000", &["map", "--anonymous", "-n", "1G"]).outcome();
    let text = output.is_refusal();
    assert!(text.contains("RLIMIT_AS is 51200000 bytes"), "{text}");
    assert!(text.contains("ulimit -v unlimited"), "{text}");
}

#[test]
fn more_memory_than_addresses_is_explained_for_every_kind() {
    let dir = Sandbox::new();
    for memory in [
        "--anonymous",
        "--memfd",
        "--anonymous --huge",
        "--memfd --huge",
        "/dev/zero",
    ] {
        for length in ["0xffffffffffffffff", "0x7fffffffffffffff", "1000000T"] {
            let text = dir.refused(&format!("map {memory} --noreserve -n {length}"));
            let explained =
                text.contains("a process on this machine has addresses for ") && text.contains("--length 1T");
            // On a kernel without them.
            let no_huge = memory.contains("--huge") && text.contains("no huge pages of that size");
            assert!(explained || no_huge, "{memory} {length}: {text}");
        }
    }
}

#[test]
fn a_tebibyte_works_with_noreserve_or_is_explained() {
    let dir = Sandbox::new();
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    let reserved = dir.run("map --anonymous --private -n 1T");
    let free = dir.run("map --anonymous --private -n 1T --noreserve");
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let small = kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap() < 512 << 20;
    match mode.trim() {
        "2" if small => {
            reserved.code(2).has("CommitLimit is ");
            free.code(2).has("CommitLimit is ");
        }
        "1" => {
            reserved.code(0);
            free.code(0);
        }
        "0" => {
            free.begins("anonymous memory: 0x0..0x10000000000, 1 TiB").code(0);
            if small {
                reserved.has("vm.overcommit_memory = 0 refuses").code(2).has("--noreserve");
            }
        }
        other => skip(other),
    }
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let dir = Sandbox::new();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in [".", "fifo", "missing", "/dev/null", "/proc/version"] {
        dir.refused(&format!("map {name}"));
    }
    dir.refused("map --anonymous -n 020");
    for line in [
        "map",
        "map --anonymous",
        "map empty --anonymous -n 1p",
        "map empty --shared --private",
    ] {
        dir.run(line).code(2);
    }
}

#[test]
fn what_stands_in_the_way_is_told_with_what_to_type() {
    let dir = Sandbox::new();
    dir.file("q", noise(100));
    fs::create_dir(dir.join("folder")).unwrap();
    std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
    for (line, tip) in [
        ("cat q/x", "'ls -ld q'"),
        ("cat loop", "'namei loop'"),
        ("cat folder/missing/x", "'ls folder' shows"),
        ("cat -- -x", "'ls .' shows what is there"),
        ("cat /dev/null", "only be read by read(2): 'cat /dev/null'"),
        ("patch q --script folder", "'ls folder'"),
        ("map q --address 0xffffffffffff0000", "leave it out"),
        ("remap q --size 7E", "7340032T for exbibytes, or 0x7e for hex"),
    ] {
        dir.run(line).code(2).has(tip);
    }
    for (rights, verb, tip) in [
        ("none", "cat", "--prot r,"),
        ("r", "patch -o 0 00", "--prot rw,"),
        ("r", "zero -r ..4", "--prot rw,"),
        ("r", "remap --size 16K", "--prot rw,"),
        ("none", "map --lock", "--prot r,"),
    ] {
        dir.mmapctl(&["map", "q", "--prot", rights, "-c", verb]).is_refusal().has(tip);
    }
    for (command, code, tip) in [("no-such", 127, "'command -v no-such'"), ("./q", 126, "'ls -l ./q'")] {
        dir.run(&format!("map q -- {command}")).code(code).has(tip);
    }
    let name = format!("--memfd={}", "x".repeat(250));
    let long = dir.mmapctl(&["map", &name, "-n", "4K"]);
    assert!(long.is_refusal().contains("at most 249"));
    dir.mmapctl_into_full(&["patch", "q", "-o", "0", "text:new"]).has("do not run the command again");
    for verb in ["patch -o 0 text:New", "patch -o 0 text:New! --access 4", "zero -r ..4"] {
        for memory in [
            &["q", "--private"][..],
            &["--memfd", "-n", "4K"],
            &["--anonymous", "-n", "4K"],
        ] {
            let lost = dir.mmapctl_into_full(&[&["map"], memory, &["-c", verb]].concat());
            lost.has("the report could not be written; only memory was changed, no file").code(2);
        }
    }
}

#[test]
fn a_shared_writable_mapping_needs_the_right_to_write() {
    let dir = Sandbox::new();
    set_mode(&dir, 0o755);
    set_mode(dir.file("f", noise(100)), 0o444);
    for (args, code) in [
        (&["map", "f"][..], 0),
        (&["map", "f", "--private"], 0),
        (&["map", "f", "--prot", "rw"], 2),
    ] {
        needs!(let mut command = as_ordinary_user(dir.command(args)));
        let output = command.outcome();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", output);
    }
}

#[test]
fn blocks_that_were_never_written_are_no_hole() {
    let dir = Sandbox::new();
    dir.file("p", b"");
    dir.report("remap p --size 1M");
    let first = dir.report("map p");
    if first["preallocated_bytes"].is_null() {
        return skip("no FIEMAP here");
    }
    assert_eq!(first["hole_bytes"], 0);
    assert_eq!(first["preallocated_bytes"], 1 << 20);
    dir.run("map p").has("\n  preallocated 1 MiB (1048576 bytes)\n").has("o preallocated").lacks("hole");
    dir.run("cat p -x").is("*         preallocated 0x0..0x100000 (1 MiB)\n00100000\nexit 0");
    // Behind them a hole; in the page cache the blocks are what they were.
    dir.report("remap p --size 2M --sparse");
    dir.report("map p --populate -n 64K");
    let report = dir.report("map p");
    assert_eq!(report["hole_bytes"], 1 << 20);
    assert_eq!(report["preallocated_bytes"], 1 << 20);
    dir.report("patch p -o 512K 01 --sync");
    let report = dir.report("map p");
    assert_eq!(report["preallocated_bytes"], (1 << 20) - page_size(), "{report}");
}

#[test]
fn allocated_blocks_of_a_memfd_are_no_hole() {
    let dir = Sandbox::new();
    let args = [
        "map",
        "--memfd",
        "-n",
        "64K",
        "-q",
        "-c",
        "remap --size 1M -q",
        "-c",
        "cat -x",
    ];
    dir.mmapctl(&args).is(
        "*         hole 0x0..0x10000 (64 KiB)\n*         preallocated 0x10000..0x100000 (960 KiB)\n00100000\nexit 0",
    );
}

#[test]
fn an_empty_file_has_a_report_of_nothing() {
    let dir = Sandbox::new();
    dir.file("e", b"");
    dir.run("map e").is(
        "e: 0x0..0x0, 0 bytes\n  mapping     file, shared, r--\n  address     none, as there are no bytes to map\n  \
         resident    0 of 0 pages\nexit 0",
    );
    let report = dir.report("map e --populate --lock --advise random");
    let numbers = ["length", "mapped", "pages", "locked", "hole_bytes"].map(|key| report[key].as_u64());
    assert_eq!((numbers, &report["address"]), ([Some(0); 5], &serde_json::Value::Null), "{report}");
    dir.run("map e --hold=10ms").code(0);
    dir.run("map e -o 1").code(2);
    dir.run("map e --private -q").code(0);
}

#[test]
fn a_session_begins_on_an_empty_file_and_grows_it() {
    let dir = Sandbox::new();
    let path = dir.file("e", b"");
    let session = |verbs: &[&str]| {
        let mut args = vec!["map", "e", "--lock", "-q"];
        args.extend(verbs.iter().flat_map(|verb| ["-c", verb]));
        dir.mmapctl(&args)
    };
    for verb in [
        "cat",
        "sync",
        "zero -r ..",
        "map",
        "fork map",
        "remap --size 0",
        "! true",
    ] {
        session(&[verb]).is("exit 0");
    }
    let text = session(&[
        "remap --size 4K",
        "patch -o 0 text:hi --sync",
        "cat -n 3 -f plain",
        "map --json",
    ]);
    text.code(0).has("686900\n");
    // What was asked of the mapping holds for its pages.
    text.has("\"locked\":1,");
    assert_eq!(read(&path)[..3], *b"hi\0");
    session(&["remap --size 0", "map", "patch -o 0 41 --grow"]).is("exit 0");
    assert_eq!(read(&path), b"A");
}
