//! Tests of compare.rs.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn edits_that_change_something_come_first_and_both_parts_ascend(differs in prop::collection::vec(any::<bool>(), 0..200)) {
        let piece = |index: usize| Segment::new(index as u64 * 8, 4, index as u64 * 4).unwrap();
        let mut list: Vec<Segment> = (0..differs.len()).map(piece).collect();
        let changing = sort_by_change(&mut list, &differs);
        let wanted = |changes: bool| (0..differs.len()).filter(|index| differs[*index] == changes).map(piece).collect::<Vec<_>>();
        prop_assert_eq!(&list[..changing], &wanted(true)[..]);
        prop_assert_eq!(&list[changing..], &wanted(false)[..]);
    }
}
