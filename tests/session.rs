//! `map -c`: several verbs on one mapping; what each sees of the others, what a failure stops, how lines are read.

use crate::support::*;
use std::fs;

// ---- what the project promises -------------------------------------------------------------------------------------

#[test]
fn a_private_edit_is_in_the_mapping_and_not_in_the_file() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"old bytes");
    let before = State::of(&path);
    let verbs = ["patch -q -o 0 text:X", "cat -n 4", "! head -c4 f"];
    assert_eq!(dir.session_prints("f --private", &verbs), "Xld old ");
    assert!(State::of(&path) == before, "the file moved");
}

#[test]
fn a_childs_store_is_seen_in_shared_memory_only() {
    let dir = Sandbox::new();
    let verbs = ["fork patch -q -o 0 text:child", "cat -n 5"];
    assert_eq!(dir.session_prints("--anonymous --shared -n 4K", &verbs), "child");
    assert_eq!(dir.session_prints("--anonymous --private -n 4K", &verbs), "\0\0\0\0\0");
    // The child's own copy is there for as long as the child is.
    let verbs = [
        "patch -q -o 0 text:parent",
        "fork cat -n 6",
        "fork patch -q -o 0 text:child!",
        "cat -n 6",
    ];
    assert_eq!(dir.session_prints("--anonymous -n 4K", &verbs), "parentparent");
    // Of a private file mapping the same holds.
    dir.file("f", b"file");
    let verbs = ["fork patch -q -o 0 text:X", "cat -n 4", "! cat f"];
    assert_eq!(dir.session_prints("f --private", &verbs), "filefile");
    assert_eq!(dir.session_prints("f --shared", &verbs), "XileXile");
}

#[test]
fn a_command_opens_the_memory_of_a_memfd_by_its_path() {
    let dir = Sandbox::new();
    let script =
        "\"$0\" patch -q \"$MMAPCTL_PATH\" -o 0 text:hi; \"$0\" cat \"$MMAPCTL_PATH\" -n 2; echo; echo $MMAPCTL_SIZE";
    let args = ["map", "--memfd", "-n", "64M", "--", "sh", "-c", script, BINARY];
    dir.mmapctl(&args).is("hi\n67108864\nexit 0");
    // Both ways, and the bytes that a stranger left are seen here.
    let stranger = format!("! {} patch -q $MMAPCTL_PATH -o 0 --expect text:ours text:back", BINARY);
    let verbs = ["patch -q -o 0 text:ours", &stranger, "cat -n 4"];
    assert_eq!(dir.session_prints("--memfd=box -n 4K", &verbs), "back");
    assert_eq!(
        dir.session_prints("--memfd=box --private -n 4K", &["patch -q -o 0 text:ours", "! head -c4 $MMAPCTL_PATH"]),
        "\0\0\0\0"
    );
}

#[test]
fn dev_zero_is_memory_and_no_file() {
    let dir = Sandbox::new();
    let text = dir.session_prints("/dev/zero -n 4K --private", &["patch -o 0 ff", "cat -x"]);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("/dev/zero: 1 byte of 0x0..0x1 changed"));
    assert!(lines.next().is_some_and(|line| line.starts_with("00000000  ff 00 00 ")), "{text}");
    let verbs = ["fork patch -q -o 0 text:c", "cat -n 1"];
    assert_eq!(dir.session_prints("/dev/zero -n 4K --shared", &verbs), "c");
    assert_eq!(dir.session_prints("/dev/zero -n 4K --private", &verbs), "\0");
}

// ---- the six verbs -------------------------------------------------------------------------------------------------

#[test]
fn every_verb_works_on_the_mapping_that_stands() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'a'; 10_000]);
    let verbs = [
        "patch -o 0x10 --expect 61 62",
        "zero -r 0x20..+4 -q",
        "sync -r ..4K -q",
        "remap --size 12000 -q",
        "patch -o -1 text:z -q",
        "map -q --populate --lock=on-fault --advise random",
        "cat -r 0xe..0x12 -f plain",
    ];
    let text = dir.session_prints("f", &verbs);
    assert_eq!(text, "f: 1 byte of 0x10..0x11 changed\n61616261\n");
    let bytes = fs::read(&path).unwrap();
    assert_eq!((bytes.len(), bytes[0x10], bytes[11_999]), (12_000, b'b', b'z'));
    assert_eq!(bytes[0x20..0x24], [0; 4]);
}

#[test]
fn memory_has_the_same_verbs() {
    let dir = Sandbox::new();
    for what in [
        "--anonymous --private -n 8K",
        "--anonymous --shared -n 8K",
        "/dev/zero -n 8K",
        "--memfd -n 8K",
        "--memfd --private -n 8K",
    ] {
        let verbs = [
            "patch -q -o 1 text:abcd",
            "zero -q -r 2..4",
            "cat -n 6 -f plain",
            "patch -q --find 64 65",
            "cat -r 4..5",
        ];
        assert_eq!(dir.session_prints(what, &verbs), "006100006400\ne", "{what}");
    }
    let text = dir.session("--anonymous -n 8K", &["zero -r ..", "zero -r .. --json"]);
    let (text, object) = text.split_once('\n').unwrap();
    assert_eq!(text, "anonymous memory: 0x0..0x2000 zeroed by write");
    let object = json(format!("{}\n", object.trim_end_matches("\nexit 0")).as_bytes());
    assert!(object["allocated_before"].is_null(), "{object}");
}

#[test]
fn private_and_read_only_mappings_refuse_changes_of_the_file() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(10_000));
    let before = State::of(&path);
    for (what, verb, why) in [
        (
            "f --private",
            "zero -r .. --punch",
            "punch changes the blocks of a file, which this mapping cannot do",
        ),
        ("f --private", "zero -r .. --method zero-range", "zero-range changes the blocks of a file"),
        ("f --private", "remap --size 4K", "the mapping is private, and its file is not to be changed"),
        ("f --private", "patch -o 0 ff --sync", "changes in this mapping never reach a file"),
        ("f --private", "patch -o 0 ff --atomic", "changes in this mapping never reach a file"),
        ("f --private", "patch -o end --grow ff", "the mapping is private, and its file is not to be changed"),
        ("f --private", "sync", "changes in it never reach a file"),
        ("f --prot r", "patch -o 0 --expect ff 00", "bytes at 0x0"),
        ("f --prot r", "zero -r ..", "the mapping is read-only"),
        ("f --prot r", "zero -r .. --punch", "the mapping is read-only"),
        ("f --prot r", "patch -o 0 0000000000", "the mapping is read-only"),
        ("f --prot none", "cat -n 1", "the mapping does not permit reading (PROT_NONE)"),
        ("f --prot none", "patch -o 0 ff", "the mapping does not permit reading (PROT_NONE)"),
        ("--memfd --private -n 4K", "zero -r .. --punch", "punch changes the blocks of a file"),
        ("--anonymous -n 4K", "zero -r .. --punch", "punch changes the blocks of a file"),
        ("--anonymous -n 4K", "zero -r .. --sync", "changes in this mapping never reach a file"),
        ("--anonymous -n 4K", "sync", "changes in it never reach a file"),
    ] {
        let text = dir.session(what, &[verb]);
        let code = if verb.contains("--expect") { 1 } else { 2 };
        text.code(code).has(why);
        assert!(State::of(&path) == before, "{what} {verb}: it touched the file");
    }
}

#[test]
fn patches_in_a_session_keep_what_they_promise_of_files() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 5000]);
    let verbs = [
        "patch -q -o 0 text:one --atomic --undo undo",
        "! cat undo",
        "patch -q -o end --grow text:more",
        "cat -r 4999..",
        "patch -q --script undo --dry-run",
    ];
    // The length that the undo script was made for is no longer the file's.
    dir.session("f", &verbs)
        .begins("# mmapctl-patch 1\nsize 0x1388\n0x0: 6f6e65 -> 000000\n\0more")
        .code(1)
        .has("-c 5: ");
    let verbs = ["remap -q --size 5000", "patch -q --script undo", "cat -n 3 -f plain"];
    assert_eq!(dir.session_prints("f", &verbs), "000000\n");
    assert_eq!(fs::read(&path).unwrap(), [0; 5000]);
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "a journal was left: {left:?}");
}

#[test]
fn rights_and_rules_for_writers_come_with_a_verb_that_stores() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(100));
    let rights = |verbs: &[&str]| {
        let text = dir.session_prints("f", verbs);
        text.split("mapping     ").nth(1).unwrap().lines().next().unwrap().to_string()
    };
    assert_eq!(rights(&["map"]), "file, shared, r--");
    assert_eq!(rights(&["patch -o 0 --dry-run 00 -q", "map"]), "file, shared, r--");
    assert_eq!(rights(&["map", "fork zero -n 0 -q"]), "file, shared, rw-");

    set_mode(&path, 0o4755);
    let before = State::of(&path);
    dir.session("f", &["patch -o 0 ff"]).code(2).has("set-user-ID");
    assert!(State::of(&path) == before, "it touched the file");
    dir.session("f --private", &["patch -o 0 ff"]).code(0);
    dir.session("f --force", &["patch -o 0 ff"]).code(0);
    // Another writer is waited for, by a session that writes and by no other.
    let lock = fs::File::open(&path).unwrap();
    lock.lock().unwrap();
    dir.session("f --force --lock-timeout 50ms", &["patch -o 0 ff"])
        .code(2)
        .has("another process holds a lock on it");
    dir.session("f --force --lock-timeout 50ms", &["cat -q"]).code(0);
}

#[test]
fn a_range_of_a_file_is_named_by_the_file_s_offsets() {
    let dir = Sandbox::new();
    let bytes = noise(20_000);
    dir.file("f", &bytes);
    let page = page_size();
    let (start, end) = (page + 1, 3 * page + 3);
    let what = format!("f --range {start}..{end}");
    let hex = |range: std::ops::Range<u64>| {
        let bytes = &bytes[range.start as usize..range.end as usize];
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
    };
    let read = |place: &str| dir.session_prints(&what, &[&format!("cat -f plain {place}")]);
    // A place that is left out is the mapping's own.
    assert_eq!(read("-n 3"), hex(start..start + 3));
    assert_eq!(read(&format!("-o {}", end - 2)), hex(end - 2..end));
    assert_eq!(read(&format!("-r {}..+2", page + 9)), hex(page + 9..page + 11));
    for (verb, why) in [
        ("cat -o 0 -n 2".to_string(), "is mapped"),
        (format!("patch -o {} 00", page), "is mapped"),
        (format!("patch -o {} 0000", end - 1), "is mapped"),
        (format!("patch -o {end} 00"), "is mapped"),
        ("patch -o 20000 00".into(), "the file ends at 0x4e20"),
        (format!("zero -r {}..", page), "is mapped"),
        ("remap --size +1".into(), "the mapping does not end where its file does"),
    ] {
        dir.session(&what, &[&verb]).code(2).has(why);
    }
    assert_eq!(dir.read("f"), bytes);
    dir.session_prints(
        &what,
        &[
            &format!("patch -q -o {start} 00"),
            &format!("patch -q -o {} ff", end - 1),
        ],
    );
    let mut wanted = bytes.clone();
    (wanted[start as usize], wanted[end as usize - 1]) = (0, 0xff);
    assert_eq!(dir.read("f"), wanted);
}

// ---- failing -------------------------------------------------------------------------------------------------------

#[test]
fn a_failing_verb_ends_the_session_with_its_code_and_number() {
    let dir = Sandbox::new();
    dir.file("f", noise(100));
    dir.session("f", &["cat -n 0", "patch -o 0 --expect 00112233 44556677", "! echo never"])
        .begins("! error: f: -c 2: bytes at 0x0 are ")
        .code(1)
        .lacks("never");
    dir.session("f", &["cat -o 1000", "! echo never"])
        .code(2)
        .begins("! error: f: -c 1: offset 0x3e8 lies past the end");
    for (command, code) in [
        ("! exit 7", 7),
        ("!kill -9 $$", 137),
        ("! no-such-command 2>/dev/null", 127),
        ("fork ! exit 9", 9),
        ("fork! exit 4", 4),
    ] {
        dir.session("f", &["! true", command, "! echo never"])
            .begins("! error: f: -c 2: '! ")
            .ends(format!("ended with {code}\nexit {code}"));
    }
}

#[test]
fn keep_going_goes_on_and_gives_the_first_failure_s_code() {
    let dir = Sandbox::new();
    dir.file("f", b"abc");
    let verbs = [
        "! true",
        "patch -o 0 --expect 00 61 --strict",
        "cat -o 9",
        "! exit 7",
        "fork cat -n 1",
    ];
    let text = dir.session("f --keep-going", &verbs);
    text.begins("a(no newline)\n! error: f: -c 2: ");
    for part in [
        "! error: f: -c 3: ",
        "! error: f: -c 4: '! exit 7' ended with 7",
        "exit 1",
    ] {
        text.has(part);
    }
    let args = [
        "map",
        "f",
        "--keep-going",
        "-c",
        "! exit 3",
        "-c",
        "cat -n 1",
        "--",
        "echo",
        "never",
    ];
    // What was to come after the session does not.
    dir.mmapctl(&args).code(3);
}

#[test]
fn a_failing_child_is_reported_once_with_its_code() {
    let dir = Sandbox::new();
    dir.file("f", b"abc");
    let text = dir.session("f", &["fork patch -o 0 --expect 00 01"]);
    assert_eq!(text.matches("error").count(), 1, "{text}");
    text.code(1).begins("! error: f: -c 1: bytes at 0x0 are 61, expected 00");
    assert_eq!(dir.session_prints("f", &["fork fork cat", "fork ! echo d"]), "abcd\n");
}

#[test]
fn a_child_does_not_get_a_mapping_that_is_advised_so() {
    let dir = Sandbox::new();
    dir.file("f", b"abc");
    for what in ["f", "f --private", "--anonymous -n 4K", "--memfd -n 4K"] {
        dir.session(&format!("{what} --advise dontfork"), &["fork cat -n 3"])
            .has("the child did not inherit the mapping (MADV_DONTFORK)")
            .code(2);
        for verb in [
            "fork map",
            "fork patch -o 0 00",
            "fork zero -r ..",
            "fork sync",
            "fork remap --size 8K",
            "fork remap --dont-unmap",
        ] {
            dir.session(&format!("{what} --advise dontfork"), &[verb]).code(2).lacks("panic");
        }
        let verbs = ["map -q --advise dofork", "fork cat -n 3", "! true"];
        dir.session(&format!("{what} --advise dontfork"), &verbs).code(0);
    }
    assert_eq!(dir.read("f"), b"abc");
}

#[test]
fn a_program_that_is_executed_has_none_of_the_mapping() {
    let dir = Sandbox::new();
    dir.file("a-name-to-find", b"abc");
    let verbs = [
        "fork ! grep -c a-name-to-find /proc/$MMAPCTL_PID/maps",
        "! grep -c a-name-to-find /proc/self/maps || true",
    ];
    assert_eq!(dir.session_prints("a-name-to-find", &verbs), "1\n0\n");
}

// ---- how it speaks -------------------------------------------------------------------------------------------------

#[test]
fn each_verb_of_a_session_has_a_json_object_of_its_own() {
    let dir = Sandbox::new();
    dir.file("f", noise(5000));
    let verbs = [
        "patch -o 0 ff",
        "cat -n 2",
        "zero -r 8..9",
        "sync",
        "map",
        "remap --size +1",
        "fork cat -n 1",
        "! true",
    ];
    let report = dir.session_prints("f --json", &verbs);
    let objects: Vec<_> = report.lines().map(|line| json(format!("{line}\n").as_bytes())).collect();
    let names: Vec<_> = objects.iter().map(|object| object["verb"].as_str().unwrap()).collect();
    assert_eq!(names, ["patch", "cat", "zero", "sync", "map", "remap", "cat"]);
    assert!(objects.iter().all(|object| object["file"] == "f"));
    assert_eq!(objects[5]["length"], 5001);
    // Of one verb alone, where it says so itself.
    let report = dir.session_prints("f", &["cat -n 1 --json", "sync -q", "cat -n 0"]);
    assert_eq!(json(report.as_bytes())["verb"], "cat");
    // An error names its verb, and its code is the one that the session ends with.
    for (verb, name, code) in [
        ("cat -o 9K", "cat", 2),
        ("! exit 7", "map", 7),
        ("patch --find 00112233445566 --strict 00112233445566", "patch", 1),
    ] {
        let output = dir.mmapctl(&["map", "f", "--json", "-c", verb]);
        let error = output.error();
        assert_eq!((error["verb"].as_str(), error["exit"].as_i64()), (Some(name), Some(code)), "{error}");
        assert_eq!(output.status.code(), Some(code as i32), "{error}");
        assert!(error["error"].as_str().unwrap().starts_with("f: -c 1: "), "{error}");
    }
    let output = dir.mmapctl(&["map", "f", "--json", "--", "./missing"]);
    assert_eq!((output.error()["exit"].as_i64(), output.status.code()), (Some(127), Some(127)));
}

#[test]
fn quiet_and_verbose_hold_for_all_verbs_or_for_one() {
    let dir = Sandbox::new();
    dir.file("f", noise(5000));
    let verbs = ["patch -o 0 ff", "map", "sync", "cat -n 0"];
    assert_eq!(dir.session_prints("f -q", &verbs), "");
    dir.session("f -v -q --prot rw", &["cat -n 0", "sync"]).has("! mmap(NULL, 8192, ").has("! msync(0x");
    let text = dir.session("f --prot rw -q", &["sync -r 0..1", "sync -v", "sync -r 0..1"]);
    assert_eq!(text.matches("! msync(0x").count(), 1, "{text}");
    text.lacks("! mmap(");
}

#[test]
fn a_reader_that_has_gone_ends_a_session_without_a_complaint() {
    let dir = Sandbox::new();
    dir.file("f", noise(5000));
    let script = format!("{{ {} map f -c 'cat -x' -c 'cat -x' -c 'cat -x'; echo $? >&2; }} | head -1", BINARY);
    let output = dir.program("sh", &["-c", &script]).outcome();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "0\n");
}

#[test]
fn help_for_a_verb_is_had_in_a_session_too() {
    let dir = Sandbox::new();
    dir.file("f", b"abc");
    let text = dir.session_prints("f", &["patch --help"]);
    assert!(text.starts_with("Edit bytes in place") && text.contains("--atomic"), "{text}");
}

#[test]
fn children_of_children_have_an_end() {
    let dir = Sandbox::new();
    dir.file("f", b"abcd");
    let nested = |forks: usize| dir.mmapctl(&["map", "f", "-c", &("fork ".repeat(forks) + "cat")]);
    nested(16).has("abcd");
    for forks in [17, 20_000] {
        nested(forks).code(2).has("nested 'fork' verbs");
    }
}
