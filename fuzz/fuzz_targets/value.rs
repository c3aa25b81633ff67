//! Any value: see `value` in tests/fuzzed/parsers.rs.
#![no_main]

#[allow(dead_code)] // the parsers of the other targets
#[path = "../../tests/fuzzed/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| parsers::value(data));
