//! Any edit script: see `script` in tests/fuzzed/parsers.rs.
#![no_main]

#[path = "../folder.rs"]
mod folder;
#[allow(dead_code)] // the parsers of the other targets
#[path = "../../tests/fuzzed/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| parsers::script(folder::folder(), data));
