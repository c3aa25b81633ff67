//! Tests of sparse.rs.

use super::super::{Access, Prot};
use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

#[test]
fn what_is_written_after_it_was_found_to_be_zeros_is_not_freed() {
    let Ok(file) = tempfile::NamedTempFile::new_in("/dev/shm") else {
        // Not eprintln, whose output is captured if the test passes, as this one will.
        writeln!(
            std::io::stderr(),
            "SKIPPED what_is_written_after_it_was_found_to_be_zeros_is_not_freed: there is no tmpfs to write to"
        )
        .unwrap();
        return;
    };
    std::fs::write(file.path(), vec![0; 3 * AGAIN as usize + 100]).unwrap();
    let backing = Backing::open(file.path(), Access::Write, Duration::ZERO).unwrap();
    // The file is open a second time, so there is no lease.
    let len = backing.facts().len;
    let mut region = Region::sliding(backing, Prot::ReadWrite).unwrap();
    let source = region.source(Operation::Read, ByteRange::first(len)).unwrap();
    let backing = source.backing().unwrap();
    let mut freeing = Freeing::new(backing, &source, true).unwrap();
    assert!(!freeing.is_alone());
    file.as_file().write_all_at(b"x", AGAIN + 7).unwrap();
    file.as_file().write_all_at(b"appended", 3 * AGAIN + 100).unwrap();
    let blocks = ByteRange::first(3 * AGAIN + 4096);
    freeing.stats.zeros = blocks.len();
    freeing.punch_what_still_is(blocks).unwrap();
    assert_eq!(freeing.stats.zeros, blocks.len() - (AGAIN + 100));
    let bytes = std::fs::read(file.path()).unwrap();
    assert_eq!(bytes[AGAIN as usize + 7], b'x');
    assert_eq!(bytes[3 * AGAIN as usize + 100..], *b"appended");
    assert_eq!(backing.usage().unwrap().allocated, AGAIN + 4096);
}

proptest! {
    #[test]
    fn a_block_is_zero_when_no_byte_of_it_is_another(len in 0usize..5000, at in 0usize..5000, byte in 1u8..) {
        let mut bytes = vec![0; len];
        prop_assert!(is_zero(&bytes));
        if at < len {
            bytes[at] = byte;
            prop_assert!(!is_zero(&bytes));
        }
    }
}
