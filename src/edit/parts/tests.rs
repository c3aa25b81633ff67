//! Tests of parts.rs.

use super::*;

#[test]
fn edits_that_are_near_share_a_part_and_a_long_one_has_several() {
    let piece = |at: u64, len: u64| Segment::new(at, len, 0).unwrap();
    let list = [piece(1, 3), piece(4000, 9), piece(20_000, TOGETHER + 5)];
    let mut parts = EditGroups::new(&list, ByteRange::first(1 << 20));
    let mut all = std::iter::from_fn(|| parts.cut().map(|part| (part.edits, part.range.start(), part.range.end())));
    assert_eq!(all.next(), Some((0..2, 1, 4009)));
    assert_eq!(all.next(), Some((2..3, 20_000, TOGETHER)));
    assert_eq!(all.next(), Some((2..3, TOGETHER, TOGETHER + 20_005)));
    assert_eq!(all.next(), None);
}
