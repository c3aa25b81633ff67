//! `patch` in a session on a part of a file: what is not mapped is neither read, nor taken for zeros.

use crate::support::*;

/// How a session on `range` of `f` refuses a `patch`, with nothing touched.
fn refused_in(dir: &Sandbox, range: &str, patch: &str) -> Outcome {
    let before = dir.state("f");
    let args = ["-q", "map", "f", "-r", range, "-c", patch];
    let text = dir.mmapctl(&args);
    text.is_refusal();
    assert!(dir.state("f") == before, "{patch}: it touched the file");
    text
}

#[test]
fn a_checksum_of_what_is_not_mapped_is_refused() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", vec![b'A'; 3 * page as usize]);
    let range = format!("{page}..{}", 2 * page);
    for sum in [
        format!("0..{page}"),
        format!("{}..+2", page - 1),
        "..".to_string(),
        format!("{}..", page + 4),
        format!("{}..+1", 2 * page),
    ] {
        for (at, rest) in [(page, ""), (2 * page - 4, " --grow"), (2 * page - 4, " --dry-run")] {
            let text = refused_in(&dir, &range, &format!("patch -o {at} crc32le:{sum}{rest}"));
            let said = format!("only {page:#x}..{:#x} is mapped", 2 * page);
            text.has("cannot sum").has(&said);
        }
    }
    let sum = format!("patch -o {page} crc32le:{}..+4 -q", page + 4);
    let args = ["-q", "map", "f", "-r", &range, "-c", &sum];
    dir.mmapctl(&args).code(0);
    let at = page as usize;
    let written = &dir.read("f")[at..at + 4];
    assert_eq!(*written, crc32fast::hash(b"AAAA").to_le_bytes());
}

#[test]
fn an_edit_outside_the_mapping_is_refused_in_every_form() {
    let dir = Sandbox::new();
    let page = page_size();
    let mut bytes = vec![b'A'; 3 * page as usize];
    bytes[page as usize..][..2].fill(0);
    dir.file("f", &bytes);
    let range = format!("{page}..{}", 2 * page);
    let said = format!("only {page:#x}..{:#x} is mapped", 2 * page);
    for bad in [
        format!("{:#x}: 0000 -> 4243", page - 2),
        format!("{:#x}: 0000 -> 4243", page - 1),
        format!("{:#x}: 0000 -> 4243", 2 * page - 1),
        format!("{:#x}: 4141 -> 4243", 2 * page),
        format!("{:#x}: -> 4243", page - 2),
        format!("{:#x}: text:AA -> 4243", 2 * page),
    ] {
        let good = format!("{page:#x}: 0000 -> 5a5a\n");
        for (script, line) in [
            (format!("{bad}\n{good}"), 1),
            (format!("{good}{bad}\n"), 2),
            // Behind the first block, plain lines are read many at a time.
            (format!("{good}{}{bad}\n", "# why\n".repeat(200_000)), 200_002),
        ] {
            dir.file("s", script);
            for rest in ["", " --grow", " --dry-run"] {
                let text = refused_in(&dir, &range, &format!("patch --script s{rest}"));
                assert!(text.contains(&format!("line {line}: cannot write")), "{bad}: {text}");
                assert!(text.contains(&said), "{bad}: {text}");
            }
        }
    }
}

#[test]
fn growing_is_refused_if_the_mapping_ends_before_the_file() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", vec![b'A'; 2 * page as usize]);
    // They are near enough for both to be read together, with the bytes between them.
    for first in [0, page - 4] {
        let patch = format!("patch --grow -e '{first}: -> 5a' -e '{}: -> 5a'", 2 * page);
        refused_in(&dir, &format!("0..{page}"), &patch);
    }
}

#[test]
fn a_difference_is_one_of_whole_files() {
    let dir = Sandbox::new();
    let page = page_size();
    dir.file("f", vec![b'A'; 2 * page as usize]);
    dir.file("other", vec![b'B'; page as usize]);
    for (start, end) in [(0, page), (page, 2 * page)] {
        let text = refused_in(&dir, &format!("{start}..{end}"), "patch --diff other");
        let said = format!("cannot compare 0x0..{:#x}: only {start:#x}..{end:#x} is mapped", 2 * page);
        text.has(&said);
    }
    refused_in(&dir, "..", "patch --diff other").has(format!("the other {page}")).has("'cmp f other'");
    dir.file("other", vec![b'A'; 2 * page as usize]);
    let args = ["-q", "map", "f", "-c", "patch --diff other"];
    dir.mmapctl(&args).code(0);
}
