//! `remap --order`, as its users see it: nonlinear views by both methods, in sessions.

use crate::support::views::{METHODS, view};
use crate::support::*;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

#[test]
fn in_a_session_the_view_is_what_cat_shows_by_either_method() {
    let dir = Sandbox::new();
    let page = page_size() as usize;
    let bytes = noise(6 * page - 100);
    let path = dir.file("f", &bytes);
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
            let output = dir.session("f -q", &[&verb, "cat -n 4K", "cat"]);
            let mut expected = view(&bytes, expected);
            let first = expected[..expected.len().min(4096)].to_vec();
            expected.splice(..0, first);
            assert!(output.stdout == expected, "{verb}: {}", output);
            output.code(0);
        }
    }
    assert!(State::of(&path) == before);
}

#[test]
fn patches_in_a_view_reach_the_right_page_of_the_file() {
    let dir = Sandbox::new();
    let page = page_size() as usize;
    for method in METHODS {
        let mut bytes = noise(5 * page);
        let path = dir.file("f", &bytes);
        let order = format!("remap --order reverse --method {method}");
        let across = format!("patch -o {} text:ABCDEF", page - 3);
        dir.session("f -q", &[&order, "patch -o 0 text:X", &across, "sync", "zero -r 2p..2p+16"]).code(0);
        bytes[4 * page] = b'X';
        bytes[5 * page - 3..].copy_from_slice(b"ABC");
        bytes[3 * page..3 * page + 3].copy_from_slice(b"DEF");
        bytes[2 * page..2 * page + 16].fill(0);
        assert!(read(&path) == bytes, "{method}");
    }
}

#[test]
fn a_view_ends_and_an_ordinary_mapping_is_there_again() {
    let dir = Sandbox::new();
    let bytes = noise(3 * page_size() as usize + 5);
    let path = dir.file("f", &bytes);
    let verbs = [
        "remap --order reverse",
        "remap --order linear",
        "cat",
        "remap --size +1",
    ];
    let output = dir.session("f -q", &verbs);
    assert!(output.stdout == bytes, "{}", output);
    output.code(0);
    assert_eq!(fs::metadata(path).unwrap().len(), bytes.len() as u64 + 1);
}

#[test]
fn shared_memory_is_reordered_and_keeps_its_bytes() {
    let dir = Sandbox::new();
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
        let output = dir.session(&format!("{} -q", what.join(" ")), &verbs);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "oneonetwotwo", "{what:?}: {}", output);
    }
    let output = dir.session("--memfd -n 2p -q", &[&patch, "remap --order reverse", "cat -n 3"]);
    assert_eq!(output.stdout, b"one", "{}", output);
    let output = dir.session("--anonymous --shared -n 2p -q", &["remap --order reverse"]);
    assert!(output.is_refusal().contains("--method remap-file-pages"));
}

#[test]
fn the_report_shows_the_order_and_its_kernel_mappings() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", noise(6 * page as usize));
    for method in METHODS {
        let report = dir.report(&format!("remap f --order 3,0..2,5*2 --method {method}"));
        assert_eq!(report["changed"], false, "{report}");
        assert_eq!(report["kernel_mappings"], 4, "{report}");
        assert_eq!(report["unit"], page, "{report}");
        assert_eq!(report["length"], 5 * page, "{report}");
        assert_eq!(report["method"], method, "{report}");
        assert_eq!(report["order"], "3,0..2,5*2", "{report}");
        assert_eq!(report["pieces"][1], serde_json::json!({"view": page, "file": 0, "length": 2 * page}), "{report}");
        let text = dir.run(&format!("remap f --order 3,0..2,5*2 --method {method}"));
        assert!(text.contains("\n  view 0x1000..0x3000 <- file 0x0..0x2000\n") || page != 4096, "{text}");
    }
    // Neighbours in the file are one kernel mapping, however they came to be neighbours.
    assert_eq!(dir.report("remap f --order 0,1,2..4")["kernel_mappings"], 1);
    let units = dir.report("remap f --order reverse --unit 4");
    assert_eq!(units["kernel_mappings"], 2, "{units}");
    assert_eq!(units["unit"], 4 * page, "{units}");
    dir.sparse("g", 100 * page);
    let text = dir.run("remap g --order reverse");
    assert_eq!(text.matches("\n  view ").count(), 16, "{text}");
    text.has("\n  and 84 more pieces\n");
}

#[test]
fn the_methods_make_the_system_calls_that_they_are_named_for() {
    let dir = Sandbox::new();
    dir.file("f", noise(4 * page_size() as usize));
    let calls = |method: &str, call: &str| {
        let text = dir.run(&format!("-v remap f --order reverse --method {method}"));
        text.lines().filter(|line| line.starts_with(&format!("! {call}")) && !line.contains("= -1")).count()
    };
    assert_eq!(calls("remap-file-pages", "remap_file_pages("), 4);
    assert_eq!(calls("mmap", "remap_file_pages("), 0);
    let text = dir.run("-v remap f --order reverse");
    assert_eq!(text.matches("MAP_SHARED|MAP_FIXED,").count(), 4, "{text}");
}

#[test]
fn a_list_comes_from_a_file_or_stdin() {
    let dir = Sandbox::new();
    let bytes = noise(4 * page_size() as usize);
    dir.file("f", &bytes);
    dir.file("list", b"# the last first\n3, 0..2\t0x2 # and\n\n1*2\n");
    let expected = view(&bytes, &[3, 0, 1, 2, 1, 1]);
    let output = dir.mmapctl(&["remap", "f", "--order", "@list", "--to", "-"]);
    assert!(output.stdout == expected, "{}", output);
    let output = dir.mmapctl_fed(&["remap", "f", "--order", "@-", "--to", "-"], "3 0 1 2 1 1");
    assert!(output.stdout == expected, "{}", output);
    dir.file("none", b"# nothing\n");
    dir.file("bad", b"0\n1,4\n");
    dir.refused("remap f --order @none").has("no unit in 'none'");
    dir.refused("remap f --order @bad").has("'bad', line 2: there is no unit 4");
}

#[test]
fn orders_that_no_file_has_are_refused() {
    let dir = Sandbox::new();
    dir.file("f", noise(4 * page_size() as usize));
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
        dir.refused_untouched(&format!("remap f --order {order}"));
    }
    for line in [
        "--order 0 --unit 0",
        "--order 0 --unit 1M",
        "--order 0 --unit 0x4000000000000000",
        "--unit 1",
        "--order 0 --size 1",
    ] {
        dir.run(&format!("remap f {line}")).code(2);
    }
    dir.file("empty", b"");
    dir.refused("remap empty --order reverse");
}

#[test]
fn what_cannot_be_arranged_says_why() {
    let dir = Sandbox::new();
    dir.file("f", noise(2 * page_size() as usize));
    let private = dir.session("f --private -q", &["remap --order reverse"]);
    assert!(private.is_refusal().contains("the mapping is private"));
    let reading = dir.session("f --prot r -q", &["remap --order 1 --method remap-file-pages"]);
    assert!(reading.is_refusal().contains("open for writing"));
    // In a view, verbs that take file offsets are refused, and the mapping stays.
    for verb in [
        "remap --size +4K",
        "patch --atomic -o 0 00",
        "zero -r 0..16 --punch",
        "zero -r 0..16 --method zero-range",
        "remap --order 0 --to g",
        "patch -o end --grow 00",
    ] {
        let output = dir.session("f -q", &["remap --order reverse", verb]);
        let text = output.is_refusal();
        assert!(text.contains("nonlinear view") && text.contains("'remap --order linear'"), "{text}");
    }
    let output = dir.session("f -q", &["remap --order reverse", "patch -o 2p 00"]);
    assert!(!output.is_refusal().contains("the file ends"));
}

#[test]
fn a_read_only_file_is_reordered_by_mmap_only() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(2 * page_size() as usize));
    set_mode(&path, 0o444);
    assert_eq!(dir.report("remap f --order reverse")["kernel_mappings"], 2);
    dir.refused_untouched("remap f --order reverse --method remap-file-pages");
}

#[test]
fn the_zeros_behind_the_end_of_the_file_cannot_be_stored_into() {
    let dir = Sandbox::new();
    let page = page_size();
    let path = dir.file("f", noise(page as usize + 100));
    let before = State::of(&path);
    for method in METHODS {
        let order = format!("remap --order reverse --method {method}");
        for verb in ["patch -o 100 01", "patch -o 99 0001", "zero -r 50..1p"] {
            let output = dir.session("f -q", &[&order, verb]);
            let text = output.is_refusal();
            assert!(text.contains(&format!("the file ends at {:#x}", page + 100)), "{text}");
            assert!(text.contains(" of the view)"), "{text}");
        }
        let output = dir.session("f -q", &[&order, "cat -r 100..1p"]);
        assert!(output.stdout == vec![0; page as usize - 100], "{}", output);
    }
    assert!(State::of(&path) == before);
}

#[test]
fn a_page_truncated_under_a_view_is_an_error_with_its_places() {
    let dir = Sandbox::new();
    let page = page_size();
    for verb in ["cat -x", "cat -f plain", "cat", "patch -o 0 00"] {
        let path = dir.file("f", noise(4 * page as usize));
        let cut = format!("! truncate -s {} {}", 2 * page, path.display());
        let output = dir.session(
            "f -q",
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
        let text = &output;
        assert_eq!(output.status.code(), Some(2), "{verb}: {text}");
        let (file, view) = (format!("{:#x}..", 3 * page), format!("(at {page:#x} of the view)"));
        text.has(&file).has(&view);
    }
}

#[test]
fn a_view_near_max_map_count_is_refused_with_what_fits() {
    let dir = Sandbox::new();
    let limit: u64 = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    if limit > 200_000 {
        return skip("vm.max_map_count is larger here");
    }
    let path = dir.sparse("f", 1 << 30);
    let pages = (1u64 << 30) / page_size();
    for method in METHODS {
        let text = dir.refused(&format!("remap f --order reverse --method {method}"));
        let needed = format!("the view takes {pages} kernel mappings, and vm.max_map_count, which is {limit}");
        text.has(&needed).has(format!("'sysctl vm.max_map_count={}'", limit + pages));
        let unit = text.split("--unit ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_string();
        let report = dir.report(&format!("remap f --order reverse --unit {unit} --method {method}"));
        let took = report["kernel_mappings"].as_u64().unwrap();
        assert!(took <= limit - 64 && took > limit / 2, "{took}");
    }
    // A thousand times that takes no memory to refuse, and --to needs no mappings.
    dir.sparse("t", 1 << 40);
    dir.refused("remap t --order reverse");
    dir.run("remap f --order reverse --to g");
    assert_eq!(fs::metadata(dir.join("g")).unwrap().len(), 1 << 30);
    assert!(fs::metadata(path).unwrap().blocks() < 100);
}

#[test]
fn huge_pages_are_arranged_in_units_of_their_own_size() {
    let free: u64 = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .map_or(0, |text| text.trim().parse().unwrap_or(0));
    if !is_root() || free < 3 {
        return skip("takes root and three free huge pages");
    }
    let dir = Sandbox::new();
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
        let output = dir.session("--memfd --huge=2M -n 6M -q", &verbs);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "lastLAST", "{method}: {}", output);
    }
}

#[test]
fn a_map_of_a_view_counts_by_its_own_pages() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", noise(4 * page as usize));
    let output = dir.mmapctl(&["--json", "map", "f", "-c", "remap --order 0*8", "-c", "map"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let seen = json(format!("{}\n", text.lines().nth(1).unwrap()).as_bytes());
    assert_eq!(seen["length"], 8 * page, "{seen}");
    assert_eq!(seen["pages"], 8, "{seen}");
    assert_eq!(seen["dirty"], serde_json::Value::Null, "{seen}");
    assert_eq!(seen["hole_bytes"], serde_json::Value::Null, "{seen}");
}

#[test]
fn the_verbs_find_undo_and_flush_in_a_view_as_in_a_file() {
    let dir = Sandbox::new();
    let page = page_size() as usize;
    let mut bytes = vec![0; 4 * page];
    // Together only in the view: the end of page 3, then the beginning of page 1.
    bytes[4 * page - 3..].copy_from_slice(b"abc");
    bytes[page..page + 3].copy_from_slice(b"def");
    let path = dir.file("f", &bytes);
    let verbs = [
        "remap --order 3,1,0",
        "patch --find text:cdef text:CDEF --undo undo --sync",
        "sync --async -r 1p..2p",
    ];
    dir.session("f -q", &verbs).code(0);
    let mut expected = bytes.clone();
    expected[4 * page - 1] = b'C';
    expected[page..page + 3].copy_from_slice(b"DEF");
    assert!(read(&path) == expected);
    dir.session("f -q", &["remap --order 3,1,0", "patch --script undo"]).code(0);
    assert!(read(&path) == bytes);
}

#[test]
fn a_byte_that_stands_in_a_view_twice_is_edited_once() {
    let dir = Sandbox::new();
    let page = page_size();
    let bytes = noise(2 * page as usize);
    let path = dir.file("f", &bytes);
    let order = "remap --order 0,1,0 --method mmap";
    let again = 2 * page;
    for (verb, why) in [
        (format!("patch -e '0: -> 01' -e '{again}: -> 02'"), "both are edited"),
        (format!("patch -e '0: -> 010203' -e '{}: -> 02'", again + 2), "both are edited"),
        (format!("patch -e '0: -> 5a' -e '8: -> crc32le:{again}..{}'", again + 8), "one is in a checksum"),
    ] {
        for verb in [verb.clone(), format!("{verb} --dry-run")] {
            let output = dir.session("f -q", &[order, &verb]);
            let text = &output;
            text.has(why).has("the same byte of the file");
            assert_eq!(output.status.code(), Some(2), "{verb}: {text}");
            assert!(read(&path) == bytes, "{verb}");
        }
    }
    // A checksum of edited bytes, and a page that is in the view twice and edited once.
    let verb = format!("patch -e '{again}: -> 5a' -e '{}: -> crc32le:{again}..{}'", again + 8, again + 8);
    dir.session("f -q", &[order, &verb]).code(0);
    let now = read(&path);
    assert_eq!(now[0], 0x5a);
    assert_eq!(now[8..12], crc32fast::hash(&now[..8]).to_le_bytes());
}

#[test]
fn a_dump_of_a_view_names_the_holes_where_the_view_has_them() {
    let dir = Sandbox::new();
    let page = page_size();
    let path = dir.sparse("f", 8 * page);
    writer(&path).write_all_at(b"data", 6 * page).unwrap();
    if fs::metadata(&path).unwrap().blocks() * 512 >= 8 * page {
        return skip("the file system has no holes");
    }
    let dump = dir.session("f -q", &["remap --order 0,1,6,7,0", "cat -f canonical"]);
    let whole = dir.session("f -q", &["remap --order 0,1,6,7,0", "cat -f canonical --no-squeeze"]);
    let text = &dump;
    text.has(format!("{:08x}  64 61 74 61 00", 2 * page)).has(format!("\n{:08x}\n", 5 * page));
    assert_eq!(whole.lines().count() as u64, 5 * page / 16 + 2, "{}", whole);
    dir.session("f -q", &["remap --order 0,1,6,7,0", "cat -x"]).has("hole");
}

#[test]
fn every_byte_of_any_order_is_the_right_one_by_each_way() {
    let dir = Sandbox::new();
    let page = page_size() as usize;
    let mut state = 88_172_645_463_325_252u64;
    let mut below = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for _ in 0..12 {
        let len = 1 + below(30 * page as u64) as usize;
        let bytes = noise(len);
        dir.file("f", &bytes);
        let pages = len.div_ceil(page);
        let unit = 1 + below(4) as usize;
        let units = pages.div_ceil(unit);
        let order: Vec<usize> = (0..1 + below(20)).map(|_| below(units as u64) as usize).collect();
        let in_pages =
            order.iter().flat_map(|number| (number * unit..(number + 1) * unit).filter(|page| *page < pages));
        let expected = view(&bytes, &in_pages.collect::<Vec<_>>());
        let list: Vec<String> = order.iter().map(usize::to_string).collect();
        let verb = format!("remap --order {} --unit {unit}", list.join(","));
        for method in METHODS {
            let output = dir.session("f -q", &[&format!("{verb} --method {method}"), "cat"]);
            assert!(output.stdout == expected, "{len} bytes, {verb}: {}", output);
        }
        let output = dir.session("f -q", &[&format!("{verb} --to -")]);
        assert!(output.stdout == expected, "{len} bytes, {verb} --to -");
        let output = dir.session("f -q", &[&format!("{verb} --to out")]);
        assert!(fs::read(dir.join("out")).is_ok_and(|out| out == expected), "{len} bytes, {verb}: {}", output);
        fs::remove_file(dir.join("out")).unwrap();
    }
}
