//! `remap --order`, as its users see it: nonlinear views by both methods, in sessions, and written out.

mod common;

use common::{
    BINARY, Mount, State, check_refusal, file, has, is_root, json, mmapctl, noise, page_size, peer, refused,
    refused_without_touching, report, run, scratch, skip, sparse, told,
};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

const METHODS: [&str; 2] = ["mmap", "remap-file-pages"];

/// The pages of `bytes` in the order given, as a view has them: zeros behind the end of the last page, unless the view
/// ends with it.
fn view(bytes: &[u8], order: &[usize]) -> Vec<u8> {
    let page = page_size() as usize;
    let mut view = Vec::new();
    for (at, number) in order.iter().enumerate() {
        let piece = &bytes[number * page..bytes.len().min((number + 1) * page)];
        view.extend_from_slice(piece);
        if at + 1 < order.len() {
            view.resize((at + 1) * page, 0);
        }
    }
    view
}

/// `map f` with these verbs.
fn session(dir: &Path, verbs: &[&str]) -> std::process::Output {
    session_with(dir, &["f"], verbs)
}

fn session_with(dir: &Path, what: &[&str], verbs: &[&str]) -> std::process::Output {
    let mut args = vec!["-q", "map"];
    args.extend(what);
    args.extend(verbs.iter().flat_map(|verb| ["-c", verb]));
    mmapctl(dir, &args).output().unwrap()
}

#[test]
fn in_a_session_the_view_is_what_cat_shows_by_either_method() {
    let dir = scratch();
    let page = page_size() as usize;
    let bytes = noise(6 * page - 100);
    let path = file(dir.path(), "f", &bytes);
    let cases: [(&str, &[usize]); 6] = [
        ("reverse", &[5, 4, 3, 2, 1, 0]),
        ("3,0..2,5*4", &[3, 0, 1, 5, 5, 5, 5]),
        ("0*3,5", &[0, 0, 0, 5]),
        ("5", &[5]),
        ("2..,..2", &[2, 3, 4, 5, 0, 1]),
        ("linear", &[0, 1, 2, 3, 4, 5]),
    ];
    let before = State::of(&path);
    for method in METHODS {
        for (order, expected) in cases {
            let verb = format!("remap --order {order} --method {method}");
            let output = session(dir.path(), &[&verb, "cat -n 4K", "cat"]);
            let mut expected = view(&bytes, expected);
            let first = expected[..expected.len().min(4096)].to_vec();
            expected.splice(..0, first);
            assert!(output.stdout == expected, "{verb}: {}", told(&output));
            assert_eq!(output.status.code(), Some(0), "{verb}");
        }
    }
    assert!(State::of(&path) == before);
}

#[test]
fn patches_in_a_view_reach_the_right_page_of_the_file() {
    let dir = scratch();
    let page = page_size() as usize;
    for method in METHODS {
        let mut bytes = noise(5 * page);
        let path = file(dir.path(), "f", &bytes);
        let order = format!("remap --order reverse --method {method}");
        let across = format!("patch -o {} text:ABCDEF", page - 3);
        let output = session(
            dir.path(),
            &[&order, "patch -o 0 text:X", &across, "sync", "zero -r 2p..2p+16"],
        );
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        bytes[4 * page] = b'X';
        bytes[5 * page - 3..].copy_from_slice(b"ABC");
        bytes[3 * page..3 * page + 3].copy_from_slice(b"DEF");
        bytes[2 * page..2 * page + 16].fill(0);
        assert!(fs::read(&path).unwrap() == bytes, "{method}");
    }
}

#[test]
fn a_view_ends_and_an_ordinary_mapping_is_there_again() {
    let dir = scratch();
    let bytes = noise(3 * page_size() as usize + 5);
    let path = file(dir.path(), "f", &bytes);
    let verbs = [
        "remap --order reverse",
        "remap --order linear",
        "cat",
        "remap --size +1",
    ];
    let output = session(dir.path(), &verbs);
    assert!(output.stdout == bytes, "{}", told(&output));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(fs::metadata(path).unwrap().len(), bytes.len() as u64 + 1);
}

#[test]
fn shared_anonymous_memory_and_memfds_are_arranged_and_keep_their_bytes() {
    let dir = scratch();
    let patch = format!("patch -o {} text:one", page_size());
    let second = format!("cat -n 3 -o {}", 3 * page_size());
    let by_call = "remap --order 1,0*2,1 --method remap-file-pages";
    let back = "remap --order linear --method remap-file-pages";
    let there = format!("cat -n 3 -o {}", page_size());
    let verbs = [
        patch.as_str(),
        by_call,
        "cat -n 3",
        &second,
        "patch -o 0 text:two",
        &second,
        back,
        &there,
    ];
    for what in [
        &["--anonymous", "--shared", "-n", "2p"][..],
        &["--memfd", "-n", "2p"],
        &["/dev/zero", "--shared", "-n", "2p"],
    ] {
        let output = session_with(dir.path(), what, &verbs);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "oneonetwotwo",
            "{what:?}: {}",
            told(&output)
        );
    }
    let output = session_with(
        dir.path(),
        &["--memfd", "-n", "2p"],
        &[&patch, "remap --order reverse", "cat -n 3"],
    );
    assert_eq!(output.stdout, b"one", "{}", told(&output));
    let output = session_with(
        dir.path(),
        &["--anonymous", "--shared", "-n", "2p"],
        &["remap --order reverse"],
    );
    assert!(check_refusal("mmap of memory", &output).contains("--method remap-file-pages"));
}

#[test]
fn the_report_shows_the_layout_and_the_kernel_mappings_that_it_took() {
    let dir = scratch();
    let page = page_size();
    file(dir.path(), "f", &noise(6 * page as usize));
    for method in METHODS {
        let told = report(dir.path(), &format!("remap f --order 3,0..2,5*2 --method {method}"));
        assert_eq!(
            (&told["changed"], &told["kernel_mappings"]),
            (&false.into(), &4.into()),
            "{told}"
        );
        assert_eq!(
            (&told["unit"], &told["length"]),
            (&page.into(), &(5 * page).into()),
            "{told}"
        );
        assert_eq!(
            (&told["method"], &told["order"]),
            (&method.into(), &"3,0..2,5*2".into()),
            "{told}"
        );
        assert_eq!(
            told["pieces"][1],
            serde_json::json!({"view": page, "file": 0, "length": 2 * page}),
            "{told}"
        );
        let text = run(dir.path(), &format!("remap f --order 3,0..2,5*2 --method {method}"));
        assert!(
            text.contains("\n  view 0x1000..0x3000 <- file 0x0..0x2000\n") || page != 4096,
            "{text}"
        );
    }
    // Neighbours in the file are one kernel mapping, whoever put them there.
    assert_eq!(report(dir.path(), "remap f --order 0,1,2..4")["kernel_mappings"], 1);
    let units = report(dir.path(), "remap f --order reverse --unit 4");
    assert_eq!(
        (&units["kernel_mappings"], &units["unit"]),
        (&2.into(), &(4 * page).into()),
        "{units}"
    );
    sparse(dir.path(), "g", 100 * page);
    let text = run(dir.path(), "remap g --order reverse");
    assert_eq!(text.matches("\n  view ").count(), 16, "{text}");
    assert!(text.contains("\n  and 84 more pieces\n"), "{text}");
}

#[test]
fn the_methods_make_the_system_calls_that_they_are_named_for() {
    let dir = scratch();
    file(dir.path(), "f", &noise(4 * page_size() as usize));
    let calls = |method: &str, call: &str| {
        let text = run(dir.path(), &format!("-v remap f --order reverse --method {method}"));
        text.lines()
            .filter(|line| line.starts_with(&format!("! {call}")) && !line.contains("= -1"))
            .count()
    };
    assert_eq!(calls("remap-file-pages", "remap_file_pages("), 4);
    assert_eq!(calls("mmap", "remap_file_pages("), 0);
    let text = run(dir.path(), "-v remap f --order reverse");
    assert_eq!(text.matches("MAP_SHARED|MAP_FIXED,").count(), 4, "{text}");
}

#[test]
fn a_list_comes_from_a_file_or_stdin() {
    let dir = scratch();
    let bytes = noise(4 * page_size() as usize);
    file(dir.path(), "f", &bytes);
    file(dir.path(), "list", b"# the last first\n3, 0..2\t0x2 # and\n\n1*2\n");
    let expected = view(&bytes, &[3, 0, 1, 2, 1, 1]);
    let output = mmapctl(dir.path(), &["remap", "f", "--order", "@list", "--to", "-"])
        .output()
        .unwrap();
    assert!(output.stdout == expected, "{}", told(&output));
    let mut command = mmapctl(dir.path(), &["remap", "f", "--order", "@-", "--to", "-"]);
    let output = command.write_stdin("3 0 1 2 1 1").output().unwrap();
    assert!(output.stdout == expected, "{}", told(&output));
    file(dir.path(), "none", b"# nothing\n");
    file(dir.path(), "bad", b"0\n1,4\n");
    assert!(refused(dir.path(), "remap f --order @none", b"").contains("no unit in 'none'"));
    assert!(refused(dir.path(), "remap f --order @bad", b"").contains("'bad', line 2: there is no unit 4"));
}

#[test]
fn orders_that_no_file_has_are_refused() {
    let dir = scratch();
    file(dir.path(), "f", &noise(4 * page_size() as usize));
    for order in [
        "4",
        "0..5",
        "4..",
        "2..2",
        "3..1",
        "1*0",
        ",",
        "1,,2",
        "x",
        "-1",
        "1K",
        "@",
        "0*0x7fffffffffffffff",
    ] {
        refused_without_touching(dir.path(), &format!("remap f --order {order}"), b"");
    }
    for line in [
        "--order 0 --unit 0",
        "--order 0 --unit 0x4000000000000000",
        "--unit 1",
        "--order 0 --size 1",
    ] {
        let text = run(dir.path(), &format!("remap f {line}"));
        assert!(text.ends_with("exit 2"), "{line}: {text}");
    }
    file(dir.path(), "empty", b"");
    refused(dir.path(), "remap empty --order reverse", b"");
}

#[test]
fn what_cannot_be_arranged_says_why() {
    let dir = scratch();
    file(dir.path(), "f", &noise(2 * page_size() as usize));
    let private = session_with(dir.path(), &["f", "--private"], &["remap --order reverse"]);
    assert!(check_refusal("private", &private).contains("the mapping is private"));
    let reading = session_with(
        dir.path(),
        &["f", "--prot", "r"],
        &["remap --order 1 --method remap-file-pages"],
    );
    assert!(check_refusal("read-only", &reading).contains("open for writing"));
    // In a view, what speaks of file offsets is refused, and the mapping goes on.
    for verb in [
        "remap --size +4K",
        "patch --atomic -o 0 00",
        "zero -r 0..16 --punch",
        "zero -r 0..16 --method zero-range",
        "remap --order 0 --to g",
        "patch -o end --grow 00",
    ] {
        let output = session(dir.path(), &["remap --order reverse", verb]);
        let text = check_refusal(verb, &output);
        assert!(
            text.contains("nonlinear view") && text.contains("'remap --order linear'"),
            "{text}"
        );
    }
    let output = session(dir.path(), &["remap --order reverse", "patch -o 2p 00"]);
    assert!(!check_refusal("behind the view", &output).contains("the file ends"));
}

#[test]
fn a_file_of_which_only_reading_is_allowed_is_arranged_by_mmap_and_not_by_the_other() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(2 * page_size() as usize));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(report(dir.path(), "remap f --order reverse")["kernel_mappings"], 2);
    refused_without_touching(dir.path(), "remap f --order reverse --method remap-file-pages", b"");
}

#[test]
fn the_zeros_behind_the_end_of_the_file_cannot_be_stored_into() {
    let dir = scratch();
    let page = page_size();
    let path = file(dir.path(), "f", &noise(page as usize + 100));
    let before = State::of(&path);
    for method in METHODS {
        let order = format!("remap --order reverse --method {method}");
        for verb in ["patch -o 100 01", "patch -o 99 0001", "zero -r 50..1p"] {
            let output = session(dir.path(), &[&order, verb]);
            let text = check_refusal(verb, &output);
            assert!(text.contains(&format!("the file ends at {:#x}", page + 100)), "{text}");
            assert!(text.contains(" of the view)"), "{text}");
        }
        let output = session(dir.path(), &[&order, "cat -r 100..1p"]);
        assert!(output.stdout == vec![0; page as usize - 100], "{}", told(&output));
    }
    assert!(State::of(&path) == before);
}

#[test]
fn a_page_cut_off_under_a_view_is_an_error_with_its_places_and_no_signal() {
    let dir = scratch();
    let page = page_size();
    for verb in ["cat -x", "cat -f plain", "cat", "patch -o 0 00"] {
        let path = file(dir.path(), "f", &noise(4 * page as usize));
        let cut = format!("! truncate -s {} {}", 2 * page, path.display());
        let output = session(
            dir.path(),
            &[
                "remap --order 1,3,0",
                &cut,
                if verb.starts_with("patch") {
                    "patch -o 1p 00"
                } else {
                    verb
                },
            ],
        );
        let text = told(&output);
        assert_eq!(output.status.code(), Some(2), "{verb}: {text}");
        let (file, view) = (format!("{:#x}..", 3 * page), format!("(at {page:#x} of the view)"));
        assert!(text.contains(&file) && text.contains(&view), "{verb}: {text}");
    }
}

#[test]
fn a_view_near_vm_max_map_count_is_refused_early_with_what_would_fit() {
    let dir = scratch();
    let limit: u64 = fs::read_to_string("/proc/sys/vm/max_map_count")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if limit > 200_000 {
        return skip(
            "a_view_near_vm_max_map_count_is_refused_early_with_what_would_fit",
            "vm.max_map_count is larger here",
        );
    }
    let path = sparse(dir.path(), "f", 1 << 30);
    let pages = (1u64 << 30) / page_size();
    for method in METHODS {
        let text = refused(dir.path(), &format!("remap f --order reverse --method {method}"), b"");
        let needed = format!("the view takes {pages} kernel mappings, and vm.max_map_count, which is {limit}");
        assert!(text.contains(&needed), "{text}");
        assert!(
            text.contains(&format!("'sysctl vm.max_map_count={}'", limit + pages)),
            "{text}"
        );
        let unit = text
            .split("--unit ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap()
            .to_string();
        let told = report(
            dir.path(),
            &format!("remap f --order reverse --unit {unit} --method {method}"),
        );
        let took = told["kernel_mappings"].as_u64().unwrap();
        assert!(took <= limit - 64 && took > limit / 2, "{took}");
    }
    // A thousand times that takes no memory to refuse, and --to needs no mappings.
    sparse(dir.path(), "t", 1 << 40);
    refused(dir.path(), "remap t --order reverse", b"");
    run(dir.path(), "remap f --order reverse --to g");
    assert_eq!(fs::metadata(dir.path().join("g")).unwrap().len(), 1 << 30);
    assert!(fs::metadata(path).unwrap().blocks() < 100);
}

#[test]
fn to_writes_the_view_to_a_new_file_or_stdout() {
    let dir = scratch();
    let page = page_size() as usize;
    let bytes = noise(700 * page - 100);
    let path = file(dir.path(), "f", &bytes);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let before = State::of(&path);
    let reverse: Vec<usize> = (0..700).rev().collect();
    let scattered: Vec<usize> = (0..2000).map(|n| n * 7919 % 700).collect();
    let list: Vec<String> = scattered.iter().map(usize::to_string).collect();
    file(dir.path(), "list", list.join("\n").as_bytes());
    // Long enough for a copy within the kernel, and odd places around it.
    let long: Vec<usize> = [699, 5].into_iter().chain(1..650).chain([0, 699]).collect();
    for (order, expected) in [
        ("reverse", &reverse),
        ("@list", &scattered),
        ("699,5,1..650,0,699", &long),
    ] {
        let told = report(dir.path(), &format!("remap f --order {order} --to out"));
        let expected = view(&bytes, expected);
        let out = dir.path().join("out");
        assert!(fs::read(&out).unwrap() == expected, "{order}");
        assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            (&told["length"], &told["to"]),
            (&expected.len().into(), &"out".into()),
            "{told}"
        );
        assert!(
            told.get("kernel_mappings").is_none() && told["changed"] == false,
            "{told}"
        );
        let output = mmapctl(dir.path(), &["remap", "f", "--order", order, "--to", "-"])
            .output()
            .unwrap();
        assert!(output.stdout == expected, "{order}");
        fs::remove_file(out).unwrap();
    }
    assert!(State::of(&path) == before);
}

#[test]
fn to_writes_what_a_private_mapping_or_memory_holds() {
    let dir = scratch();
    let page = page_size() as usize;
    let mut bytes = noise(3 * page);
    file(dir.path(), "f", &bytes);
    bytes[page] = b'X';
    let output = session_with(
        dir.path(),
        &["f", "--private"],
        &["patch -o 1p text:X", "remap --order reverse --to out"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(fs::read(dir.path().join("out")).unwrap() == view(&bytes, &[2, 1, 0]));
    let output = session_with(
        dir.path(),
        &["--anonymous", "-n", "2p"],
        &["patch -o 1p text:X", "remap --order 1,0 --to -"],
    );
    assert!(
        output.stdout[0] == b'X' && output.stdout.len() == 2 * page,
        "{}",
        told(&output)
    );
}

#[test]
fn to_never_writes_over_a_file_that_is_there() {
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(2 * page_size() as usize));
    let other = file(dir.path(), "other", b"mine");
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    for to in ["f", "./f", "other", "link", "no/such/folder", "."] {
        refused_without_touching(dir.path(), &format!("remap f --order reverse --to {to}"), b"");
    }
    refused_without_touching(dir.path(), "remap f --order 9 --to new", b"");
    assert!(run(dir.path(), "--json remap f --order 0 --to -").ends_with("exit 2"));
    assert!(fs::read(other).unwrap() == b"mine" && !dir.path().join("new").exists() && path.exists());
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn holes_of_the_file_are_holes_of_what_is_written() {
    let dir = scratch();
    let page = page_size();
    let path = sparse(dir.path(), "f", 64 << 20);
    let source = fs::File::options().write(true).open(&path).unwrap();
    source.write_all_at(&noise(page as usize), 5 * page).unwrap();
    source.write_all_at(&noise(3 << 20), 32 << 20).unwrap();
    let bytes = fs::read(&path).unwrap();
    if fs::metadata(&path).unwrap().blocks() * 512 > 8 << 20 {
        return skip(
            "holes_of_the_file_are_holes_of_what_is_written",
            "the file system has no holes",
        );
    }
    let reverse: Vec<usize> = (0..bytes.len() / page as usize).rev().collect();
    for (order, expected) in [("reverse", view(&bytes, &reverse)), ("linear", bytes.clone())] {
        run(dir.path(), &format!("remap f --order {order} --to out"));
        let out = dir.path().join("out");
        assert!(fs::read(&out).unwrap() == expected, "{order}");
        let allocated = fs::metadata(&out).unwrap().blocks() * 512;
        assert!(allocated < 8 << 20, "{order}: {allocated}");
        fs::remove_file(out).unwrap();
    }
}

#[test]
fn a_full_disk_takes_the_new_file_away_again() {
    let Some(mount) = Mount::tmpfs("a_full_disk_takes_the_new_file_away_again", "1m") else {
        return;
    };
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(2 << 20));
    let before = State::of(&path);
    let out = mount.path().join("out");
    for order in ["reverse", "linear"] {
        let text = refused(
            dir.path(),
            &format!("remap f --order {order} --to {}", out.display()),
            b"",
        );
        assert!(
            text.contains("ENOSPC") && text.contains("was removed") && !out.exists(),
            "{text}"
        );
    }
    assert!(State::of(&path) == before);
}

#[test]
fn a_file_cut_short_while_it_is_written_out_is_an_error_with_an_offset() {
    use std::io::Read;
    let dir = scratch();
    let len = 64 << 20;
    let path = file(dir.path(), "f", &noise(len));
    let mut child = common::spawnable(dir.path(), &["remap", "f", "--order", "reverse", "--to", "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is full, so it waits for us.
    let mut first = vec![0; 4096];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("! error: f: cannot read 0x") && text.contains("it now ends at 0x3e8"),
        "{text}"
    );
}

#[test]
fn an_interrupted_writing_out_leaves_no_file() {
    let test = "an_interrupted_writing_out_leaves_no_file";
    if !has(test, "strace") {
        return;
    }
    let dir = scratch();
    file(dir.path(), "f", &noise(4 << 20));
    let output = std::process::Command::new("strace")
        .current_dir(dir.path())
        .args([
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=pwrite64:signal=TERM:when=2",
            BINARY,
        ])
        .args(["remap", "f", "--order", "reverse", "--to", "out"])
        .output()
        .unwrap();
    let text = told(&output);
    if text.contains("ptrace") {
        return skip(test, "ptrace is forbidden here");
    }
    assert!(text.contains("interrupted by SIGTERM"), "{text}");
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_reader_that_has_seen_enough_of_a_view_is_no_error() {
    let dir = scratch();
    file(dir.path(), "f", &noise(8 << 20));
    let script = "\"$0\" remap f --order reverse --to - | head -c 10 | wc -c; ";
    let output = std::process::Command::new("bash")
        .current_dir(dir.path())
        .args(["-c", &format!("set -o pipefail; {script}"), BINARY])
        .output();
    let Ok(output) = output else {
        return skip(
            "a_reader_that_has_seen_enough_of_a_view_is_no_error",
            "bash is not installed",
        );
    };
    assert_eq!(told(&output).trim_start(), "10\nexit 0");
}

#[test]
fn long_pieces_are_reflinks_where_the_file_system_has_them() {
    let test = "long_pieces_are_reflinks_where_the_file_system_has_them";
    let Some(mount) = Mount::image(test, "mkfs.xfs -q -m reflink=1", 320) else {
        return;
    };
    let bytes = noise(64 << 20);
    file(mount.path(), "f", &bytes);
    peer(mount.path(), "sync", &["-f", "."]);
    let free = || nix::sys::statfs::statfs(mount.path()).unwrap().blocks_available();
    let before = free();
    run(mount.path(), "remap f --order reverse --unit 1024 --to out");
    peer(mount.path(), "sync", &["-f", "."]);
    let taken = before.saturating_sub(free()) * 4096;
    let unit = 1024 * page_size() as usize;
    let expected: Vec<u8> = bytes.chunks(unit).rev().flatten().copied().collect();
    assert!(fs::read(mount.path().join("out")).unwrap() == expected);
    assert!(taken < 8 << 20, "{taken} bytes of blocks were taken");
}

#[test]
fn huge_pages_are_arranged_in_units_of_their_own_size() {
    let test = "huge_pages_are_arranged_in_units_of_their_own_size";
    let free: u64 = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .map_or(0, |text| text.trim().parse().unwrap_or(0));
    if !is_root() || free < 3 {
        return skip(test, "takes root and three free huge pages");
    }
    let dir = scratch();
    for method in METHODS {
        let order = format!("remap --order reverse --method {method}");
        let verbs = [
            "patch -o 4M text:last",
            &order,
            "cat -n 4",
            "patch -o 0 text:LAST",
            "remap --order linear",
            "cat -o 4M -n 4",
        ];
        let output = session_with(dir.path(), &["--memfd", "--huge=2M", "-n", "6M"], &verbs);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "lastLAST",
            "{method}: {}",
            told(&output)
        );
    }
}

#[test]
fn a_map_of_a_view_counts_by_its_own_pages() {
    let dir = scratch();
    let page = page_size();
    file(dir.path(), "f", &noise(4 * page as usize));
    let output = mmapctl(
        dir.path(),
        &["--json", "map", "f", "-c", "remap --order 0*8", "-c", "map"],
    )
    .output()
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let seen = json(format!("{}\n", text.lines().nth(1).unwrap()).as_bytes());
    assert_eq!(
        (&seen["length"], &seen["pages"]),
        (&(8 * page).into(), &8.into()),
        "{seen}"
    );
    assert_eq!(
        (&seen["dirty"], &seen["hole_bytes"]),
        (&serde_json::Value::Null, &serde_json::Value::Null),
        "{seen}"
    );
}
