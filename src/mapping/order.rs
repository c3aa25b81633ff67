//! Nonlinear views: the order in which a mapping shows the pages of a file. Pure: no system call, no mapping.

use super::error::{Error, ErrorKind, Result};
use super::range::ByteRange;
use nix::errno::Errno;

/// The system call by which a region becomes a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemapMethod {
    /// mmap(2) with MAP_FIXED, for each piece.
    Mmap,
    /// remap_file_pages(2), for each piece that is not at its place in a linear mapping.
    RemapFilePages,
}

/// Consecutive units of a file, repeated `times` times. Its size does not depend on the number of units, so a terabyte
/// in reverse order takes no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRun {
    /// The number of the first unit.
    pub first: u64,
    /// The number of units. The others follow in ascending or descending order.
    pub count: u64,
    /// Whether each unit precedes its predecessor in the file, instead of following it.
    pub descending: bool,
    /// How many times the units are repeated.
    pub times: u64,
}

impl PageRun {
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

/// A linear part of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of its first byte in the view.
    pub view: u64,
    /// The file range that it shows. It ends at the end of a page, which may be after the end of the file; the bytes
    /// between are zeros.
    pub file: ByteRange,
}

/// The pages of a file in an order given by the user.
///
/// A unit is as long as the pages that it has: if the file ends in the middle of a unit, the unit ends with the page
/// that contains the end of the file. The rest of that page reads as zeros. If it is the last page of the view, the
/// view ends where the file does.
///
/// ```text
///   file   |  0  |  1  |  2|        view of 2,0,1   |  2|0|  0  |  1  |
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOrder {
    runs: Vec<PageRun>,
    /// The view offset after each run.
    ends: Vec<u64>,
    /// Length of a unit in bytes.
    unit: u64,
    /// Length of the file in bytes.
    file: u64,
    /// Length of the file's pages in bytes.
    pages: u64,
    /// Length of the view in bytes.
    len: u64,
}

impl PageOrder {
    /// The view of a file of `file` bytes, with pages of `page` bytes, that consists of `runs` of units of `unit` bytes
    /// (a multiple of `page`).
    ///
    /// # Errors
    /// [`ErrorKind::PastEnd`] for a unit that the file does not have; EINVAL for a view without units; EOVERFLOW for a
    /// view that is longer than the maximum length of a file.
    pub fn new(runs: Vec<PageRun>, unit: u64, page: u64, file: u64) -> Result<PageOrder> {
        let failed = |span, cause| Err(Error::new("arrange", span, cause));
        let mut layout = PageOrder {
            runs,
            ends: Vec::new(),
            unit: unit.max(page),
            file,
            pages: ByteRange::first(file).pages(page).end(),
            len: 0,
        };
        let mut end = 0u64;
        for run in &layout.runs {
            let start = run.high().saturating_mul(layout.unit);
            if start >= layout.pages || run.count > run.high() + 1 {
                return failed(Some(ByteRange::first(start).from(start)), ErrorKind::PastEnd { len: file });
            }
            let len = layout.block(run).len().checked_mul(run.times);
            let sum = len.and_then(|len| end.checked_add(len));
            let Some(sum) = sum.filter(|sum| i64::try_from(*sum).is_ok()) else {
                return failed(None, ErrorKind::Sys(Errno::EOVERFLOW));
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
            _ => failed(None, ErrorKind::Sys(Errno::EINVAL)),
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

    /// Whether each byte has the same offset in the view and in the file.
    pub fn is_linear(&self) -> bool {
        let first = self.parts(ByteRange::first(self.mapped())).next();
        first.is_some_and(|part| part.file == ByteRange::first(self.mapped()))
    }

    /// How many kernel mappings it takes. Neighbours in the view that are neighbours in the file share one.
    pub fn kernel_mappings(&self) -> u64 {
        let of_run = |run: &PageRun| {
            let block = if run.descending { run.count } else { 1 };
            let joined = if run.last() + 1 == run.first { run.times - 1 } else { 0 };
            block.saturating_mul(run.times) - joined
        };
        let joined = self.runs.windows(2).filter(|pair| pair[0].last() + 1 == pair[1].first);
        let joined = joined.count() as u64;
        self.runs.iter().map(of_run).fold(0, u64::saturating_add) - joined
    }

    /// The linear parts of the view range `span`, in order, each as long as possible.
    pub fn parts(&self, span: ByteRange) -> impl Iterator<Item = Extent> {
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
            part.file = ByteRange::new(part.file.start(), end).unwrap_or(part.file);
            Some(part)
        })
    }

    /// The file range of the first linear part of `span` in the view. If `span` starts in the zeros after the end of
    /// the file, the page that they are in.
    pub fn behind(&self, span: ByteRange, page: u64) -> Option<ByteRange> {
        let file = self.parts(span).next()?.file;
        let bytes = file.intersect(ByteRange::first(self.file));
        if bytes.is_empty() {
            return Some(file.pages(page).intersect(ByteRange::first(self.file)));
        }
        Some(bytes)
    }

    /// The linear part from the view offset `at` on, up to the end of its run.
    fn stretch(&self, at: u64) -> Option<Extent> {
        let index = self.ends.partition_point(|end| *end <= at);
        let run = self.runs.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let block = self.block(run);
        let within = (at - start) % block.len();
        let file = if run.descending {
            // Only the first unit may be short, because only it may be the last of the file.
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
        Some(Extent { view: at, file })
    }

    /// The file range of the units of a run.
    fn block(&self, run: &PageRun) -> ByteRange {
        self.span_of(run.low()).join(self.span_of(run.high()))
    }

    /// The file range of a unit's pages.
    fn span_of(&self, unit: u64) -> ByteRange {
        let start = unit.saturating_mul(self.unit);
        ByteRange::first(self.pages).from(start).split(self.unit).0
    }
}

#[cfg(test)]
mod tests;
