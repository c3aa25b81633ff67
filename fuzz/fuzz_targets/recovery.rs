//! Any journal: see tests/fuzzed/recovery.rs.
#![no_main]

#[path = "../folder.rs"]
mod folder;
#[path = "../../tests/fuzzed/recovery.rs"]
mod recovery;

libfuzzer_sys::fuzz_target!(|data: &[u8]| recovery::recovery(folder::folder(), data));
