//! The fuzzing targets on inputs made here, so that they run without a fuzzer. `PROPTEST_CASES=1000000
//! cargo test --release fuzzed` makes more of them; the fuzzer itself, which takes a nightly toolchain and
//! cargo-fuzz, is `cargo +nightly fuzz run script` (or value, xxd, recovery).

mod parsers;
mod recovery;

use crate::support::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Lines that are almost those of a script.
const LINE: &str = r"(size (0x1000|4096)( -> 0x(1|0f|1f)00)?|(0x[0-9a-f]{1,3}|end-[0-9]{1,2}|\+[0-9]{1,2}|-0x[1-9a]):( [0-9a-f]{2,6}| u8:1/3)?( ->)? ?([0-9a-f]{2,6}|text:.a b.|u16le:[0-9]{1,3}(/0x[0-9a-f]{2})?|zero:[0-9]|fill:[0-9a-f]{2}:[0-9]|crc32(le|be):[0-9]{0,2}\.\.(end-8)?))?( *#.*)?";

/// Rows that are almost those of a dump.
const ROW: &str = r"[0-9a-f]{1,9}:? ?([0-9a-f]{4} ){0,8}([0-9a-f]{1,2})?(  ?[ -~]{0,16})?";

/// A folder on a file system in memory where there is one: each case syncs a few times.
fn folder() -> Sandbox {
    Sandbox::in_memory().unwrap_or_else(Sandbox::new)
}

#[test]
fn any_script_is_refused_or_its_edits_round_trip() {
    let dir = folder();
    let lines = vec(LINE, 0..6).prop_map(|lines| lines.join("\n").into_bytes());
    let texts = prop_oneof![lines, vec(any::<u8>(), 0..200)];
    proptest!(|(options in 0u8..4, text in texts)| {
        parsers::script(&dir, &[&[options], text.as_slice()].concat());
    });
}

#[test]
fn any_dump_is_refused_or_its_edits_round_trip() {
    let dir = folder();
    let rows = vec(ROW, 0..6).prop_map(|rows| rows.join("\n").into_bytes());
    proptest!(|(text in prop_oneof![rows, vec(any::<u8>(), 0..200)])| {
        parsers::xxd(&dir, &text);
    });
}

#[test]
fn any_value_is_refused_or_has_the_bytes_that_it_says() {
    let near = r"(hex|text|cstr|zero|fill|crc32(le|be)|[uif](8|16|32|64)(le|be)?)?:?[-0-9a-fx,./?:\\u{}€ ]{0,20}";
    proptest!(|(text in prop_oneof![near.prop_map(String::into_bytes), vec(any::<u8>(), 0..40)])| {
        parsers::value(&text);
    });
}

#[test]
fn any_journal_is_refused_or_changes_only_what_it_covers() {
    let dir = folder();
    proptest!(|(data in vec(any::<u8>(), 0..400))| {
        recovery::recovery(&dir, &data);
    });
}
