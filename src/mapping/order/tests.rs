//! Tests of order.rs.

use super::*;
use proptest::prelude::*;

const PAGE: u64 = 4096;

fn up(first: u64, count: u64) -> PageRun {
    PageRun {
        first,
        count,
        descending: false,
        times: 1,
    }
}

fn down(first: u64, count: u64) -> PageRun {
    PageRun {
        descending: true,
        ..up(first, count)
    }
}

fn layout(runs: &[PageRun], unit: u64, file: u64) -> PageOrder {
    PageOrder::new(runs.to_vec(), unit * PAGE, PAGE, file).unwrap()
}

/// The file offset of each page of the view.
fn pages(layout: &PageOrder) -> Vec<u64> {
    let whole = ByteRange::first(layout.mapped());
    let parts = layout.parts(whole);
    parts.flat_map(|part| part.file.windows(PAGE)).map(|page| page.start() / PAGE).collect()
}

#[test]
fn reverse_has_the_last_page_first_and_ends_with_a_whole_one() {
    let layout = layout(&[down(3, 4)], 1, 4 * PAGE - 100);
    assert_eq!(pages(&layout), [3, 2, 1, 0]);
    assert_eq!((layout.len(), layout.mapped()), (4 * PAGE, 4 * PAGE));
    assert_eq!(layout.kernel_mappings(), 4);
    assert!(!layout.is_linear());
}

#[test]
fn a_view_that_ends_with_the_files_last_page_ends_with_its_last_byte() {
    let layout = layout(&[up(1, 1), up(3, 1)], 1, 4 * PAGE - 100);
    assert_eq!((layout.len(), layout.mapped()), (2 * PAGE - 100, 2 * PAGE));
}

#[test]
fn a_last_unit_is_as_long_as_the_pages_it_has() {
    // Ten pages in units of four: 0..4, 4..8, 8..10.
    let layout = layout(&[down(2, 3)], 4, 10 * PAGE);
    assert_eq!(pages(&layout), [8, 9, 4, 5, 6, 7, 0, 1, 2, 3]);
    assert_eq!(layout.kernel_mappings(), 3);
    let three = PageRun { times: 3, ..up(2, 1) };
    assert_eq!(pages(&super::tests::layout(&[three], 4, 10 * PAGE)), [8, 9, 8, 9, 8, 9]);
}

#[test]
fn neighbours_join_across_runs_and_in_repetitions() {
    let layout = layout(&[up(0, 2), up(2, 1), down(4, 2)], 1, 8 * PAGE);
    assert_eq!(pages(&layout), [0, 1, 2, 4, 3]);
    assert_eq!(layout.kernel_mappings(), 3);
    let twice = PageRun { times: 2, ..down(1, 2) };
    let layout = super::tests::layout(&[twice], 1, 8 * PAGE);
    assert_eq!(pages(&layout), [1, 0, 1, 0]);
    assert_eq!(layout.kernel_mappings(), 3);
}

#[test]
fn a_terabyte_in_reverse_is_one_run() {
    let units = 1 << 28;
    let layout = layout(&[down(units - 1, units)], 1, units * PAGE);
    assert_eq!(layout.kernel_mappings(), units);
    let last = layout.parts(ByteRange::first(layout.len()).from(layout.len() - 1)).next();
    assert_eq!(last.map(|part| part.file.start()), Some(PAGE - 1));
}

#[test]
fn what_the_file_has_not_is_refused() {
    let new = |runs: &[PageRun], file| PageOrder::new(runs.to_vec(), PAGE, PAGE, file).map_err(|error| error.cause);
    assert_eq!(new(&[up(3, 2)], 4 * PAGE), Err(ErrorKind::PastEnd { len: 4 * PAGE }));
    assert_eq!(new(&[down(1, 3)], 4 * PAGE), Err(ErrorKind::PastEnd { len: 4 * PAGE }));
    assert_eq!(new(&[up(0, 1)], 0), Err(ErrorKind::PastEnd { len: 0 }));
    assert_eq!(new(&[], 4 * PAGE), Err(ErrorKind::Sys(Errno::EINVAL)));
    for times in [u64::MAX, 1 << 51] {
        let often = PageRun { times, ..up(0, 1) };
        assert_eq!(new(&[often], PAGE), Err(ErrorKind::Sys(Errno::EOVERFLOW)));
    }
}

fn any_run(units: u64) -> impl Strategy<Value = PageRun> {
    (0..units, 0..units, any::<bool>(), 1..4u64).prop_map(|(one, other, descending, times)| {
        let (low, high) = (one.min(other), one.max(other));
        PageRun {
            first: if descending { high } else { low },
            count: high - low + 1,
            descending,
            times,
        }
    })
}

proptest! {
    #[test]
    fn each_byte_of_a_view_is_the_right_one_of_the_file(
        (file, unit, runs) in (1..40 * PAGE, 1..5u64).prop_flat_map(|(file, unit)| {
            let units = file.div_ceil(unit * PAGE);
            (Just(file), Just(unit), prop::collection::vec(any_run(units), 1..6))
        })
    ) {
        // The slow method: unit by unit, page by page.
        let mut expected = Vec::new();
        let total = file.div_ceil(PAGE);
        for run in &runs {
            for _ in 0..run.times {
                for i in 0..run.count {
                    let number = if run.descending { run.first - i } else { run.first + i };
                    expected.extend((number * unit..(number + 1) * unit).filter(|page| *page < total));
                }
            }
        }
        let layout = layout(&runs, unit, file);
        prop_assert_eq!(&pages(&layout), &expected);
        prop_assert_eq!(layout.mapped(), expected.len() as u64 * PAGE);
        let tail = if expected.last() == Some(&(total - 1)) { total * PAGE - file } else { 0 };
        prop_assert_eq!(layout.len(), layout.mapped() - tail);
        let mappings = 1 + expected.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count() as u64;
        prop_assert_eq!(layout.kernel_mappings(), mappings);
        let parts: Vec<Extent> = layout.parts(ByteRange::first(layout.mapped())).collect();
        prop_assert_eq!(parts.len() as u64, mappings);
        let linear = expected.iter().enumerate().all(|(at, page)| at as u64 == *page);
        prop_assert_eq!(layout.is_linear(), linear);
        // From any offset on, and only within the requested range.
        for start in (0..layout.len()).step_by(1000) {
            let span = ByteRange::at(start, 5000).unwrap().intersect(ByteRange::first(layout.len()));
            let mut at = start;
            for part in layout.parts(span) {
                prop_assert_eq!(part.view, at);
                for (view, file) in (at..).zip(part.file.start()..part.file.end()).step_by(500) {
                    prop_assert_eq!(file, expected[(view / PAGE) as usize] * PAGE + view % PAGE);
                }
                at += part.file.len();
            }
            prop_assert_eq!(at, span.end());
        }
    }
}
