//! Tests of range.rs.

use super::*;
use proptest::prelude::*;

fn span(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

#[test]
fn pages_round_outward() {
    assert_eq!(span(1, 4095).pages(4096), span(0, 4096));
    assert_eq!(span(4096, 8192).pages(4096), span(4096, 8192));
    assert_eq!(span(4097, 8193).pages(4096), span(4096, 12288));
    assert_eq!(span(5, 5).pages(4096), span(0, 4096));
}

#[test]
fn windows_cut_at_multiples_and_cover_the_range() {
    let pieces: Vec<ByteRange> = span(5, 25).windows(10).collect();
    assert_eq!(pieces, [span(5, 10), span(10, 20), span(20, 25)]);
    assert_eq!(span(7, 7).windows(10).count(), 0);
    assert_eq!(span(u64::MAX - 3, u64::MAX).windows(1 << 20).count(), 1);
}

#[test]
fn a_range_that_runs_backwards_or_past_u64_is_no_span() {
    assert_eq!(ByteRange::new(2, 1), None);
    assert_eq!(ByteRange::at(u64::MAX, 2), None);
}

proptest! {
    #[test]
    fn cells_cover_the_range_once_and_in_order(start in 0..1u64 << 40, len in 1..1u64 << 40, count in 1..200u64) {
        let whole = span(start, start + len);
        let cells = whole.cells(count, 4096);
        prop_assert!(cells.len() as u64 <= count);
        prop_assert_eq!(cells[0].start(), start);
        prop_assert_eq!(cells[cells.len() - 1].end(), start + len);
        for pair in cells.windows(2) {
            prop_assert_eq!(pair[0].end(), pair[1].start());
            prop_assert_eq!(pair[0].end() % 4096, 0);
        }
    }
}
