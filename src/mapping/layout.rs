//! Nonlinear views: which pages of a file stand where in a mapping of it. Pure: no system call, no mapping.

use super::error::{Cause, Error, Result};
use super::span::Span;
use nix::errno::Errno;

/// By which system call a region becomes a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arranging {
    /// mmap(2) with MAP_FIXED, for each piece.
    Mmap,
    /// remap_file_pages(2), for each piece that is not where a linear mapping has it.
    RemapFilePages,
}

/// Units of a file, one behind the other, and all of them as often as `times` says. Nothing in it grows with the
/// number of units, so that a terabyte in reverse takes no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of the unit that stands first.
    pub first: u64,
    /// How many units; the others follow in ascending order, or in descending order.
    pub count: u64,
    /// Whether each is one before its predecessor, not one behind it.
    pub descending: bool,
    /// How often.
    pub times: u64,
}

impl Run {
    fn low(&self) -> u64 {
        if self.descending {
            (self.first + 1).saturating_sub(self.count)
        } else {
            self.first
        }
    }

    fn high(&self) -> u64 {
        if self.descending {
            self.first
        } else {
            self.first.saturating_add(self.count - 1)
        }
    }

    fn last(&self) -> u64 {
        if self.descending { self.low() } else { self.high() }
    }
}

/// A stretch of a view that is linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it stands in the view: the offset of its first byte.
    pub view: u64,
    /// What stands there. Its end is a page's: it may lie behind the end of the file, and the bytes between are zeros.
    pub file: Span,
}

/// The pages of a file in an order of one's own.
///
/// A unit is as long as the pages that it has: where the file ends in the middle of a unit, the unit ends with the
/// page that the end is in. In that page, what follows the end reads as zeros; when it is the view's last page, the
/// view ends where the file does.
///
/// ```text
///   file   |  0  |  1  |  2|        view of 2,0,1   |  2|0|  0  |  1  |
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    runs: Vec<Run>,
    /// The view offset behind each run.
    ends: Vec<u64>,
    /// Bytes a unit.
    unit: u64,
    /// Bytes of the file.
    file: u64,
    /// Bytes of the file's pages.
    pages: u64,
    /// Bytes of the view.
    len: u64,
}

impl Layout {
    /// The view of a file of `file` bytes, in pages of `page` bytes, that `runs` of units of `unit` bytes (a multiple
    /// of the page) make.
    ///
    /// # Errors
    /// [`Cause::PastEnd`] for a unit that the file does not have; EINVAL for a view without any; EOVERFLOW for one
    /// that is longer than a file can be.
    pub fn new(runs: Vec<Run>, unit: u64, page: u64, file: u64) -> Result<Layout> {
        let failed = |span, cause| Err(Error::new("arrange", span, cause));
        let mut layout = Layout {
            runs,
            ends: Vec::new(),
            unit: unit.max(page),
            file,
            pages: Span::first(file).pages(page).end(),
            len: 0,
        };
        let mut end = 0u64;
        for run in &layout.runs {
            let start = run.high().saturating_mul(layout.unit);
            if start >= layout.pages || run.count > run.high() + 1 {
                return failed(Some(Span::first(start).from(start)), Cause::PastEnd { len: file });
            }
            let len = layout.block(run).len().checked_mul(run.times);
            let sum = len.and_then(|len| end.checked_add(len));
            let Some(sum) = sum.filter(|sum| i64::try_from(*sum).is_ok()) else {
                return failed(None, Cause::Sys(Errno::EOVERFLOW));
            };
            end = sum;
            layout.ends.push(end);
        }
        let last = layout.runs.last().map(|run| layout.span_of(run.last()));
        match last {
            Some(last) if end > 0 => {
                layout.len = end - last.end().saturating_sub(file);
                Ok(layout)
            }
            _ => failed(None, Cause::Sys(Errno::EINVAL)),
        }
    }

    /// The view's length in bytes.
    #[allow(clippy::len_without_is_empty)] // a view has at least one page
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The length of its pages, in bytes.
    pub fn mapped(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The length of the file that it was made for, in bytes.
    pub fn file_len(&self) -> u64 {
        self.file
    }

    /// Whether each byte stands where it stands in the file.
    pub fn is_linear(&self) -> bool {
        let first = self.parts(Span::first(self.mapped())).next();
        first.is_some_and(|part| part.file == Span::first(self.mapped()))
    }

    /// How many kernel mappings it takes: neighbours in the view that are neighbours in the file become one.
    pub fn kernel_mappings(&self) -> u64 {
        let of_run = |run: &Run| {
            let block = if run.descending { run.count } else { 1 };
            let joined = if run.last() + 1 == run.first { run.times - 1 } else { 0 };
            block.saturating_mul(run.times) - joined
        };
        let joined = self.runs.windows(2).filter(|pair| pair[0].last() + 1 == pair[1].first);
        let joined = joined.count() as u64;
        self.runs.iter().map(of_run).fold(0, u64::saturating_add) - joined
    }

    /// The linear stretches of the view range `span`, in order, each as long as it can be.
    pub fn parts(&self, span: Span) -> impl Iterator<Item = Part> {
        let mut at = span.start();
        std::iter::from_fn(move || {
            let mut part = self.stretch(at).filter(|_| at < span.end())?;
            loop {
                at = part.view + part.file.len();
                match self.stretch(at) {
                    Some(next) if next.file.start() == part.file.end() && at < span.end() => {
                        part.file = part.file.join(next.file);
                    }
                    _ => break,
                }
            }
            let behind = at.saturating_sub(span.end());
            let end = part.file.end() - behind;
            part.file = Span::new(part.file.start(), end).unwrap_or(part.file);
            Some(part)
        })
    }

    /// The bytes of the file that stand at `span` of the view first, in one piece; with a place in the zeros behind
    /// its end, the page that they are in.
    pub fn behind(&self, span: Span, page: u64) -> Option<Span> {
        let file = self.parts(span).next()?.file;
        let bytes = file.intersect(Span::first(self.file));
        if bytes.is_empty() {
            return Some(file.pages(page).intersect(Span::first(self.file)));
        }
        Some(bytes)
    }

    /// From the view offset `at` on, as far as its run tells without a look at the next.
    fn stretch(&self, at: u64) -> Option<Part> {
        let index = self.ends.partition_point(|end| *end <= at);
        let run = self.runs.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let block = self.block(run);
        let within = (at - start) % block.len();
        let file = if run.descending {
            // Only the first may be short: it alone may be the file's last.
            let head = self.span_of(run.first);
            match within.checked_sub(head.len()) {
                None => head.from(head.start() + within),
                Some(within) => {
                    let unit = self.span_of(run.first - 1 - within / self.unit);
                    unit.from(unit.start() + within % self.unit)
                }
            }
        } else {
            block.from(block.start() + within)
        };
        Some(Part { view: at, file })
    }

    /// The file range of the units of a run.
    fn block(&self, run: &Run) -> Span {
        self.span_of(run.low()).join(self.span_of(run.high()))
    }

    /// The file range of a unit's pages.
    fn span_of(&self, unit: u64) -> Span {
        let start = unit.saturating_mul(self.unit);
        Span::first(self.pages).from(start).split(self.unit).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;

    fn up(first: u64, count: u64) -> Run {
        Run {
            first,
            count,
            descending: false,
            times: 1,
        }
    }

    fn down(first: u64, count: u64) -> Run {
        Run {
            descending: true,
            ..up(first, count)
        }
    }

    fn layout(runs: &[Run], unit: u64, file: u64) -> Layout {
        Layout::new(runs.to_vec(), unit * PAGE, PAGE, file).unwrap()
    }

    /// The file offset of each page of the view.
    fn pages(layout: &Layout) -> Vec<u64> {
        let whole = Span::first(layout.mapped());
        let parts = layout.parts(whole);
        parts
            .flat_map(|part| part.file.windows(PAGE))
            .map(|page| page.start() / PAGE)
            .collect()
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
        let three = Run { times: 3, ..up(2, 1) };
        assert_eq!(pages(&super::tests::layout(&[three], 4, 10 * PAGE)), [8, 9, 8, 9, 8, 9]);
    }

    #[test]
    fn neighbours_join_across_runs_and_in_repetitions() {
        let layout = layout(&[up(0, 2), up(2, 1), down(4, 2)], 1, 8 * PAGE);
        assert_eq!(pages(&layout), [0, 1, 2, 4, 3]);
        assert_eq!(layout.kernel_mappings(), 3);
        let twice = Run { times: 2, ..down(1, 2) };
        let layout = super::tests::layout(&[twice], 1, 8 * PAGE);
        assert_eq!(pages(&layout), [1, 0, 1, 0]);
        assert_eq!(layout.kernel_mappings(), 3);
    }

    #[test]
    fn a_terabyte_in_reverse_is_one_run() {
        let units = 1 << 28;
        let layout = layout(&[down(units - 1, units)], 1, units * PAGE);
        assert_eq!(layout.kernel_mappings(), units);
        let last = layout.parts(Span::first(layout.len()).from(layout.len() - 1)).next();
        assert_eq!(last.map(|part| part.file.start()), Some(PAGE - 1));
    }

    #[test]
    fn what_the_file_has_not_is_refused() {
        let new = |runs: &[Run], file| Layout::new(runs.to_vec(), PAGE, PAGE, file).map_err(|error| error.cause);
        assert_eq!(new(&[up(3, 2)], 4 * PAGE), Err(Cause::PastEnd { len: 4 * PAGE }));
        assert_eq!(new(&[down(1, 3)], 4 * PAGE), Err(Cause::PastEnd { len: 4 * PAGE }));
        assert_eq!(new(&[up(0, 1)], 0), Err(Cause::PastEnd { len: 0 }));
        assert_eq!(new(&[], 4 * PAGE), Err(Cause::Sys(Errno::EINVAL)));
        for times in [u64::MAX, 1 << 51] {
            let often = Run { times, ..up(0, 1) };
            assert_eq!(new(&[often], PAGE), Err(Cause::Sys(Errno::EOVERFLOW)));
        }
    }

    fn any_run(units: u64) -> impl Strategy<Value = Run> {
        (0..units, 0..units, any::<bool>(), 1..4u64).prop_map(|(one, other, descending, times)| {
            let (low, high) = (one.min(other), one.max(other));
            Run {
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
            // The slow way: unit by unit, page by page.
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
            let parts: Vec<Part> = layout.parts(Span::first(layout.mapped())).collect();
            prop_assert_eq!(parts.len() as u64, mappings);
            let linear = expected.iter().enumerate().all(|(at, page)| at as u64 == *page);
            prop_assert_eq!(layout.is_linear(), linear);
            // From any byte on, and only up to where it was asked.
            for start in (0..layout.len()).step_by(1000) {
                let span = Span::at(start, 5000).unwrap().intersect(Span::first(layout.len()));
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
}
