//! Tests of checksum.rs.

use super::*;

#[test]
fn zeros_are_summed_by_their_number() {
    for len in [0, 1, 2, 3, 255, 65_537, 1_000_000] {
        let expected = crc32fast::hash(&vec![0; len]);
        assert_eq!(crc_of_zeros(len as u64).finalize(), expected, "{len}");
    }
}
