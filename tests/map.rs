//! `map`, as its users see it.

use crate::support;
use crate::support::{
    Mount, as_ordinary_user, check_refusal, file, is_disk, json, limited, mmapctl, noise, page_size, sparse,
};
use crate::support::{refused, report, run, scratch, skip, spawnable, told};
use predicates::prelude::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

// ---- the report ----------------------------------------------------------------------------------------------------

#[test]
fn a_file_is_mapped_shared_and_readable_unless_asked_otherwise() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
    let page = page_size();
    let told = report(dir.path(), "map f --populate");
    for (key, value) in [
        ("verb", "map"),
        ("file", "f"),
        ("backing", "file"),
        ("visibility", "shared"),
        ("protection", "r--"),
    ] {
        assert_eq!(told[key], value, "{told}");
    }
    let pages = 10_000u64.div_ceil(page);
    assert_eq!(
        (&told["offset"], &told["length"]),
        (&0.into(), &10_000.into()),
        "{told}"
    );
    assert_eq!(
        (&told["mapped"], &told["page_size"]),
        (&(pages * page).into(), &page.into()),
        "{told}"
    );
    assert_eq!(
        (&told["pages"], &told["resident"]),
        (&pages.into(), &pages.into()),
        "{told}"
    );
    assert_eq!(
        (&told["locked"], &told["changed"]),
        (&0.into(), &false.into()),
        "{told}"
    );
    let address = told["address"].as_str().unwrap().strip_prefix("0x").unwrap();
    assert_eq!(u64::from_str_radix(address, 16).unwrap() % page, 0, "{told}");
}

#[test]
fn the_text_report_names_file_mapping_and_picture() {
    let dir = scratch();
    file(dir.path(), "f", &noise(64 << 10));
    let told = run(dir.path(), "map f --populate");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "f: 0x0..0x10000, 64 KiB (65536 bytes)", "{told}");
    assert_eq!(lines[1], "  mapping     file, shared, r--", "{told}");
    assert!(lines[2].starts_with("  address     0x"), "{told}");
    assert!(told.contains(" (100 %)\n") && told.ends_with("\nexit 0"), "{told}");
}

#[test]
fn visibility_and_protection_are_as_asked() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
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
        let told = report(dir.path(), &format!("map {options}"));
        assert_eq!(
            (&told["visibility"], &told["protection"]),
            (&visibility.into(), &protection.into()),
            "{told}"
        );
    }
    // A folder mounted noexec forbids these, and a hardened kernel the last.
    for (prot, letters) in [("rx", "r-x"), ("rwx", "rwx")] {
        let output = mmapctl(dir.path(), &["map", "f", "--prot", prot, "--json"])
            .output()
            .unwrap();
        match output.status.code() {
            Some(0) => assert_eq!(json(&output.stdout)["protection"], letters),
            code => assert_eq!((code, json(&output.stderr)["exit"].as_u64()), (Some(2), Some(2))),
        }
    }
}

#[test]
fn a_range_is_mapped_by_its_pages() {
    let dir = scratch();
    let page = page_size();
    file(dir.path(), "f", &noise(10 * page as usize));
    for (place, offset, length, pages) in [
        ("-o 2p -n 1p", 2 * page, page, 1),
        ("-r 1..2", 1, 1, 1),
        ("-o 1 -n 1p", 1, page, 2),
        ("-o -1", 10 * page - 1, 1, 1),
        ("-o -1 -n 1G", 10 * page - 1, 1, 1),
    ] {
        let told = report(dir.path(), &format!("map f {place} --populate"));
        assert_eq!(
            (&told["offset"], &told["length"]),
            (&offset.into(), &length.into()),
            "{place}: {told}"
        );
        assert_eq!(
            (&told["pages"], &told["mapped"]),
            (&pages.into(), &(pages * page).into()),
            "{place}: {told}"
        );
    }
    for place in ["-n 0", "-o end", "-o end+1", "-r 4..2", "-o -11p"] {
        refused(dir.path(), &format!("map f {place}"), b"");
    }
}

#[test]
fn dirty_pages_and_holes_are_counted() {
    let dir = scratch();
    if !is_disk(dir.path()) {
        return skip(
            "dirty_pages_and_holes_are_counted",
            "the scratch folder is not on ext4 or xfs",
        );
    }
    let path = support::sparse(dir.path(), "f", 4 << 20);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[1; 8192], 1 << 20).unwrap();
    file.sync_all().unwrap();
    let clean = report(dir.path(), "map f");
    assert_eq!(
        (&clean["dirty"], &clean["writeback"]),
        (&0.into(), &0.into()),
        "{clean}"
    );
    let holes = clean["hole_bytes"].as_u64().unwrap();
    assert!((3 << 20..(4 << 20) - 8191).contains(&holes), "{clean}");
    file.write_all_at(&[2], 1 << 20).unwrap();
    let dirty = report(dir.path(), "map f");
    assert!(
        dirty["dirty"].as_u64().unwrap() + dirty["writeback"].as_u64().unwrap() > 0,
        "{dirty}"
    );
    let told = run(dir.path(), "map f");
    let strip = told
        .lines()
        .find_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']'))
        .unwrap();
    assert_eq!(strip.len(), 64, "{told}");
    assert!(
        strip.starts_with('_') && strip.as_bytes()[16] == b'd' && strip.ends_with('_'),
        "{told}"
    );
}

#[test]
fn anonymous_memory_is_all_there_once_populated() {
    let dir = scratch();
    let pages = (1 << 20) / page_size();
    for visibility in ["--shared", "--private"] {
        let line = format!("map --anonymous -n 1M {visibility}");
        let empty = report(dir.path(), &line);
        assert_eq!(
            (&empty["pages"], &empty["resident"]),
            (&pages.into(), &0.into()),
            "{empty}"
        );
        let full = report(dir.path(), &format!("{line} --populate"));
        assert_eq!(
            (&full["pages"], &full["resident"]),
            (&pages.into(), &pages.into()),
            "{full}"
        );
        assert_eq!(
            (&full["backing"], &full["file"]),
            (&"anonymous".into(), &serde_json::Value::Null),
            "{full}"
        );
    }
}

#[test]
fn populating_a_private_mapping_copies_its_pages_and_leaves_the_file() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(40_000));
    let before = support::State::of(&path);
    let told = report(dir.path(), "map f --private --populate");
    // Not known before Linux 6.7.
    if !told["copied"].is_null() {
        assert_eq!(told["copied"], told["pages"], "{told}");
    }
    assert_eq!(support::State::of(&path), before);
}

#[test]
fn dev_zero_is_anonymous_memory_of_the_length_asked_for() {
    let dir = scratch();
    refused(dir.path(), "map /dev/zero", b"");
    refused(dir.path(), "map /dev/zero -o 4096 -n 4096", b"");
    for line in [
        "map /dev/zero -n 64K",
        "map /dev/zero -n 64K --private",
        "map /dev/zero -n 64K --prot rw",
    ] {
        let told = report(dir.path(), &format!("{line} --populate"));
        assert_eq!(
            (&told["length"], &told["resident"]),
            (&65_536.into(), &told["pages"]),
            "{line}: {told}"
        );
    }
}

#[test]
fn the_picture_is_ascii_or_unicode_as_the_locale_says() {
    let dir = scratch();
    file(dir.path(), "f", &noise(64 << 10));
    report(dir.path(), "sync f"); // dirty pages have a mark of their own
    for (locale, strip) in [("C", "################"), ("C.UTF-8", "████████████████")]
    {
        let mut command = spawnable(dir.path(), &["map", "f", "--populate"]);
        let output = command.env("LC_ALL", locale).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.is_ascii(), locale == "C", "{text}");
        if page_size() == 4096 {
            assert!(text.contains(&format!("\n  [{strip}]\n")), "{text}");
        }
    }
    let anonymous = run(dir.path(), "map --anonymous -n 16p --populate");
    assert!(
        anonymous.contains("\n  [################]\n  # resident\n"),
        "{anonymous}"
    );
    let absent = run(dir.path(), "map --anonymous -n 16p");
    assert!(absent.contains("\n  [................]\n  . absent\n"), "{absent}");
}

// ---- asking for it -------------------------------------------------------------------------------------------------

#[test]
fn every_piece_of_advice_is_understood() {
    let dir = scratch();
    file(dir.path(), "f", &noise(10_000));
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
        let output = mmapctl(dir.path(), &["map", "f", "--advise", advice, "--json"])
            .output()
            .unwrap();
        match output.status.code() {
            Some(0) => assert!(json(&output.stdout)["pages"].is_u64()),
            // Understood, and refused by the kernel: not every build has every piece, nor for every mapping.
            Some(2) => {
                let error = json(&output.stderr);
                let text = error["error"].as_str().unwrap();
                assert!(
                    text.starts_with(&format!("f: --advise {advice}: cannot advise")),
                    "{error}"
                );
            }
            _ => panic!("{advice}: {}", told(&output)),
        }
    }
    // These always work on a shared file.
    let line = "map f --advise random --advise willneed --advise dontfork";
    assert!(run(dir.path(), line).ends_with("exit 0"));
    mmapctl(dir.path(), &["map", "f", "--advise", "random", "-v"])
        .assert()
        .stderr(predicate::str::is_match(r"(?m)^madvise\(0x[0-9a-f]+, \d+, MADV_RANDOM\) = 0$").unwrap());
    assert!(run(dir.path(), "map f --advise remove").ends_with("exit 2"));
}

#[test]
fn locking_shows_every_page_locked_or_names_the_limit() {
    let dir = scratch();
    file(dir.path(), "f", &noise(64 << 10));
    for line in [
        "map f --lock --populate",
        "map f --lock=now --populate",
        "map --anonymous -n 64K --lock",
    ] {
        let output = mmapctl(dir.path(), &format!("{line} --json").split(' ').collect::<Vec<_>>())
            .output()
            .unwrap();
        if output.status.code() == Some(0) {
            let told = json(&output.stdout);
            assert_eq!(
                (&told["locked"], &told["resident"]),
                (&told["pages"], &told["pages"]),
                "{line}: {told}"
            );
        } else {
            assert!(
                told(&output).contains("RLIMIT_MEMLOCK is "),
                "{line}: {}",
                told(&output)
            );
        }
    }
}

#[test]
fn locking_on_fault_brings_nothing_in() {
    let dir = scratch();
    let told = run(dir.path(), "map --anonymous -n 32K --lock=on-fault --json");
    assert!(
        told.contains(r#""resident":0,"#) && told.ends_with("exit 0") || told.contains("RLIMIT_MEMLOCK"),
        "{told}"
    );
}

#[test]
fn a_small_limit_on_locked_memory_is_explained_by_name() {
    const TEST: &str = "a_small_limit_on_locked_memory_is_explained_by_name";
    let args = ["map", "--anonymous", "-n", "1M", "--lock"];
    let Some(mut command) = as_ordinary_user(TEST, limited(Path::new("/"), "-l 8", &args)) else {
        return;
    };
    let text = check_refusal("map --lock under ulimit -l 8", &command.output().unwrap());
    assert!(
        text.contains("RLIMIT_MEMLOCK is 8192 bytes, and 1048576 were to be locked"),
        "{text}"
    );
    assert!(text.contains("ulimit -l"), "{text}");
}

#[test]
fn pages_that_a_full_file_system_has_no_room_for_are_not_locked_and_it_says_so() {
    const TEST: &str = "pages_that_a_full_file_system_has_no_room_for_are_not_locked_and_it_says_so";
    let Some(mount) = Mount::tmpfs(TEST, "1m") else { return };
    sparse(mount.path(), "f", 64 << 10);
    mount.fill();
    for line in ["map f --lock", "map f --lock --prot rw", "map f --lock --private"] {
        let text = refused(mount.path(), line, b"");
        assert!(
            text.contains("cannot lock 0x0..0x10000: no room: the file system is full (ENOSPC)"),
            "{line}: {text}"
        );
    }
}

#[test]
fn a_small_address_space_is_explained_by_name() {
    let dir = scratch();
    let output = limited(dir.path(), "-v 50000", &["map", "--anonymous", "-n", "1G"])
        .output()
        .unwrap();
    let text = check_refusal("map under ulimit -v 50000", &output);
    assert!(text.contains("RLIMIT_AS is 51200000 bytes"), "{text}");
    assert!(text.contains("ulimit -v unlimited"), "{text}");
}

#[test]
fn more_memory_than_there_are_addresses_is_explained_whatever_it_is_made_of() {
    let dir = scratch();
    for memory in [
        "--anonymous",
        "--memfd",
        "--anonymous --huge",
        "--memfd --huge",
        "/dev/zero",
    ] {
        for length in ["0xffffffffffffffff", "0x7fffffffffffffff", "1000000T"] {
            let text = refused(dir.path(), &format!("map {memory} --noreserve -n {length}"), b"");
            let explained =
                text.contains("a process of this machine has addresses for ") && text.contains("--length 1T");
            // On a kernel without them.
            let no_huge = memory.contains("--huge") && text.contains("no huge pages of that size");
            assert!(explained || no_huge, "{memory} {length}: {text}");
        }
    }
}

#[test]
fn a_tebibyte_works_without_reserve_and_else_works_or_is_explained() {
    let dir = scratch();
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    let reserved = run(dir.path(), "map --anonymous --private -n 1T");
    let free = run(dir.path(), "map --anonymous --private -n 1T --noreserve");
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let small = kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap() < 512 << 20;
    match mode.trim() {
        "2" if small => {
            assert!(
                reserved.contains("CommitLimit is ") && reserved.ends_with("exit 2"),
                "{reserved}"
            );
            assert!(free.contains("CommitLimit is ") && free.ends_with("exit 2"), "{free}");
        }
        "1" => {
            assert!(reserved.ends_with("exit 0"), "{reserved}");
            assert!(free.ends_with("exit 0"), "{free}");
        }
        "0" => {
            assert!(
                free.starts_with("anonymous memory: 0x0..0x10000000000, 1 TiB"),
                "{free}"
            );
            assert!(free.ends_with("exit 0"), "{free}");
            if small {
                assert!(reserved.contains("vm.overcommit_memory = 0 refuses"), "{reserved}");
                assert!(
                    reserved.contains("--noreserve") && reserved.ends_with("exit 2"),
                    "{reserved}"
                );
            }
        }
        other => skip("a_tebibyte_works_without_reserve_and_else_works_or_is_explained", other),
    }
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let dir = scratch();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in [".", "fifo", "missing", "/dev/null", "/proc/version"] {
        refused(dir.path(), &format!("map {name}"), b"");
    }
    refused(dir.path(), "map --anonymous -n 020", b"");
    for line in [
        "map",
        "map --anonymous",
        "map empty --anonymous -n 1p",
        "map empty --shared --private",
    ] {
        assert!(run(dir.path(), line).ends_with("exit 2"), "{line}");
    }
}

#[test]
fn what_stands_in_the_way_is_told_with_what_to_type() {
    let dir = scratch();
    file(dir.path(), "q", &noise(100));
    fs::create_dir(dir.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
    for (line, tip) in [
        ("cat q/x", "'ls -ld q'"),
        ("cat loop", "'namei loop'"),
        ("cat folder/missing/x", "'ls folder' shows"),
        ("cat -- -x", "'ls .' shows what is there"),
        ("cat /dev/null", "by read(2) alone: 'cat /dev/null'"),
        ("patch q --script folder", "'ls folder'"),
        ("map q --address 0xffffffffffff0000", "leave it out"),
        ("remap q --size 7E", "7340032T for exbibytes, or 0x7e for hex"),
    ] {
        let text = run(dir.path(), line);
        assert!(text.contains(tip) && text.ends_with("exit 2"), "{line}: {text}");
    }
    for (rights, verb, tip) in [
        ("none", "cat", "--prot r,"),
        ("r", "patch -o 0 00", "--prot rw,"),
        ("r", "zero -r ..4", "--prot rw,"),
        ("r", "remap --size 16K", "--prot rw,"),
        ("none", "map --lock", "--prot r,"),
    ] {
        let output = mmapctl(dir.path(), &["map", "q", "--prot", rights, "-c", verb]).output();
        let text = check_refusal(verb, &output.unwrap());
        assert!(text.contains(tip), "{verb}: {text}");
    }
    for (command, code, tip) in [("no-such", 127, "'command -v no-such'"), ("./q", 126, "'ls -l ./q'")] {
        let text = run(dir.path(), &format!("map q -- {command}"));
        assert!(text.contains(tip) && text.ends_with(&format!("exit {code}")), "{text}");
    }
    let name = format!("--memfd={}", "x".repeat(250));
    let long = mmapctl(dir.path(), &["map", &name, "-n", "4K"]).output().unwrap();
    assert!(check_refusal("a long name", &long).contains("at most 249"));
    let lost = support::into_full(dir.path(), &["patch", "q", "-o", "0", "text:new"]);
    assert!(told(&lost).contains("do not run it again"), "{}", told(&lost));
    for verb in ["patch -o 0 text:New", "patch -o 0 text:New! --access 4", "zero -r ..4"] {
        for memory in [
            &["q", "--private"][..],
            &["--memfd", "-n", "4K"],
            &["--anonymous", "-n", "4K"],
        ] {
            let lost = told(&support::into_full(
                dir.path(),
                &[&["map"], memory, &["-c", verb]].concat(),
            ));
            assert!(
                lost.contains("the report is lost, and memory was changed, and no file"),
                "{lost}"
            );
            assert!(lost.ends_with("exit 2"), "{verb}: {lost}");
        }
    }
}

#[test]
fn a_shared_writable_mapping_needs_the_right_to_write() {
    const TEST: &str = "a_shared_writable_mapping_needs_the_right_to_write";
    let dir = scratch();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(file(dir.path(), "f", &noise(100)), Permissions::from_mode(0o444)).unwrap();
    for (args, code) in [
        (&["map", "f"][..], 0),
        (&["map", "f", "--private"], 0),
        (&["map", "f", "--prot", "rw"], 2),
    ] {
        let Some(mut command) = as_ordinary_user(TEST, spawnable(dir.path(), args)) else {
            return;
        };
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", told(&output));
    }
}

#[test]
fn blocks_that_were_never_written_are_no_hole() {
    let dir = scratch();
    file(dir.path(), "p", b"");
    report(dir.path(), "remap p --size 1M");
    let first = report(dir.path(), "map p");
    if first["preallocated_bytes"].is_null() {
        return skip("blocks_that_were_never_written_are_no_hole", "no FIEMAP here");
    }
    assert_eq!(
        (&first["hole_bytes"], &first["preallocated_bytes"]),
        (&0.into(), &(1 << 20).into())
    );
    let text = run(dir.path(), "map p");
    assert!(text.contains("\n  preallocated 1 MiB (1048576 bytes)\n"), "{text}");
    assert!(text.contains("o preallocated") && !text.contains("hole"), "{text}");
    assert_eq!(
        run(dir.path(), "cat p -x"),
        "*         preallocated 0x0..0x100000 (1 MiB)\n00100000\nexit 0"
    );
    // Behind them a hole; in the page cache the blocks are what they were.
    report(dir.path(), "remap p --size 2M --sparse");
    report(dir.path(), "map p --populate -n 64K");
    let told = report(dir.path(), "map p");
    assert_eq!(
        (&told["hole_bytes"], &told["preallocated_bytes"]),
        (&(1 << 20).into(), &(1 << 20).into())
    );
    report(dir.path(), "patch p -o 512K 01 --sync");
    let told = report(dir.path(), "map p");
    assert_eq!(told["preallocated_bytes"], (1 << 20) - page_size(), "{told}");
}

#[test]
fn in_a_memfd_too_blocks_that_were_given_in_advance_are_no_hole() {
    let dir = scratch();
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
    let output = mmapctl(dir.path(), &args).output().unwrap();
    assert_eq!(
        told(&output),
        "*         hole 0x0..0x10000 (64 KiB)\n*         preallocated 0x10000..0x100000 (960 KiB)\n00100000\nexit 0"
    );
}

#[test]
fn an_empty_file_has_a_report_of_nothing() {
    let dir = scratch();
    file(dir.path(), "e", b"");
    assert_eq!(
        run(dir.path(), "map e"),
        "e: 0x0..0x0, 0 bytes\n  mapping     file, shared, r--\n  address     none, as there are no bytes to map\n  \
         resident    0 of 0 pages\nexit 0"
    );
    let told = report(dir.path(), "map e --populate --lock --advise random");
    let numbers = ["length", "mapped", "pages", "locked", "hole_bytes"].map(|key| told[key].as_u64());
    assert_eq!(
        (numbers, &told["address"]),
        ([Some(0); 5], &serde_json::Value::Null),
        "{told}"
    );
    assert!(run(dir.path(), "map e --hold=10ms").ends_with("exit 0"));
    assert!(run(dir.path(), "map e -o 1").ends_with("exit 2"));
    assert!(run(dir.path(), "map e --private -q").ends_with("exit 0"));
}

#[test]
fn a_session_begins_on_an_empty_file_and_grows_it() {
    let dir = scratch();
    let path = file(dir.path(), "e", b"");
    let session = |verbs: &[&str]| {
        let mut args = vec!["map", "e", "--lock", "-q"];
        args.extend(verbs.iter().flat_map(|verb| ["-c", verb]));
        told(&mmapctl(dir.path(), &args).output().unwrap())
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
        assert_eq!(session(&[verb]), "exit 0", "{verb}");
    }
    let text = session(&[
        "remap --size 4K",
        "patch -o 0 text:hi --sync",
        "cat -n 3 -f plain",
        "map --json",
    ]);
    assert!(text.contains("686900\n") && text.ends_with("exit 0"), "{text}");
    // What was asked of the mapping holds for its pages.
    assert!(text.contains("\"locked\":1,"), "{text}");
    assert_eq!(fs::read(&path).unwrap()[..3], *b"hi\0");
    assert_eq!(session(&["remap --size 0", "map", "patch -o 0 41 --grow"]), "exit 0");
    assert_eq!(fs::read(&path).unwrap(), b"A");
}
