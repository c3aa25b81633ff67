//! What the kernel reports about a mapping: pages resident, dirty, in writeback, huge, locked, copied; and holes.

use super::ProgressFn;
use super::backing::Kind;
use super::error::{Error, Result};
use super::options::{MapOptions, Populate, Prot, Visibility, WINDOW};
use super::range::ByteRange;
use super::region::{CacheStat, Region, cachestat};
use super::threads::{Sharing, share};
use nix::errno::Errno;
use std::collections::VecDeque;

/// How much of a region is in memory, and in which state. Counts are of pages of `page` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residency {
    /// Length of a page in bytes.
    pub page: u64,
    /// Pages in the region.
    pub pages: u64,
    /// Pages in memory: of the file's page cache, or of the anonymous mapping. `None` if the kernel does not report
    /// them, because we neither own the file nor may write to it.
    pub resident: Option<u64>,
    /// Pages changed and not yet written back; `None` if that has no meaning or is unknown.
    pub dirty: Option<u64>,
    /// Pages being written back now.
    pub writeback: Option<u64>,
    /// Pages of a private file mapping that a store has copied; `None` for other mappings.
    pub copied: Option<u64>,
    /// Bytes mapped by huge pages.
    pub huge: u64,
    /// Pages that mlock keeps in memory.
    pub locked: u64,
    /// Pages after the one that contains the end of the file. They cannot be read or stored into.
    pub past_end: u64,
    /// Bytes of the file without blocks; `None` if the file system does not report holes.
    pub holes: Option<u64>,
    /// Bytes of the file whose blocks were allocated in advance and are not written yet; `None` if the file system does
    /// not report that.
    pub preallocated: Option<u64>,
    /// The region in order, split into the requested number of cells, or fewer.
    pub cells: Vec<Cell>,
}

/// The most notable state of the pages in a cell of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Some page was copied by a store into a private mapping.
    Copied,
    /// Some page is dirty or in writeback.
    Dirty,
    /// Every page is resident.
    Resident,
    /// Some pages are resident.
    Partly,
    /// No page is resident.
    Absent,
    /// No page is resident, and the file has no block there.
    Hole,
    /// No page is resident, and the file has blocks there that were never written.
    Preallocated,
    /// Every page is past the end of the file.
    PastEnd,
    /// The kernel does not report it.
    Unknown,
}

/// How far ahead of a reader the page cache is looked at, in bytes: further than the kernel reads ahead, so that what it
/// reads ahead was seen while it was absent.
pub(super) const LOOK_AHEAD: u64 = 64 << 20;

/// Ranges of fewer bytes are counted by one thread.
const SHARED: u64 = 64 << 20;

/// The maximum number of data ranges: if there are more, the holes are unknown. This bounds the time it takes.
const MOST_EXTENTS: usize = 1 << 16;

/// How much of a range is in memory. Counts are of pages of `page` bytes, as in [`Residency`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Length of a page in bytes.
    pub page: u64,
    /// Pages in the range.
    pub pages: u64,
    /// Pages in memory.
    pub resident: Option<u64>,
    /// Pages changed and not yet written back.
    pub dirty: Option<u64>,
    /// Pages being written back now.
    pub writeback: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    resident: u64,
    dirty: u64,
    writeback: u64,
    copied: u64,
}

/// Examines `region` and divides it into at most `cells` cells.
///
/// Sources: cachestat(2) for the pages of a file, or mincore(2) if that is unavailable (overlayfs, an older kernel);
/// the PAGEMAP_SCAN ioctl for anonymous and private pages; /proc/self/smaps for huge and locked pages; lseek(2) for
/// holes.
pub fn measure(region: &mut Region, cells: u64) -> Result<Residency> {
    let page = region.backing().facts().page;
    let span = region.span();
    let spans = span.cells(cells.max(1), page);
    let mut tallies = vec![Tally::default(); spans.len()];
    let anonymous = matches!(region.backing().facts().kind, Kind::Anonymous | Kind::Zero);

    let counted = !anonymous && count_cache(region, &spans, &mut tallies);
    let scanned = if anonymous {
        scan(
            region,
            &spans,
            |categories| !categories.is_zero_page(),
            |tally, pages| tally.resident += pages,
            &mut tallies,
        )?
    } else {
        counted
    };
    // For a file that we neither own nor may write to, mincore reports every page as resident.
    let known = scanned || anonymous || region.backing().tells_residency();
    let pool = in_pool(region, span);
    if !scanned && known {
        for (tally, cell) in tallies.iter_mut().zip(&spans) {
            let there = ByteRange::first(region.length()).intersect(*cell).pages(page).len() / page;
            tally.resident = match pool {
                Some(InPool::All) => there,
                Some(InPool::None) => 0,
                _ => region.mincore(*cell)?,
            };
        }
    }
    // What mincore reports about huge pages holds only for this mapping.
    let cells_known = known && !matches!(pool, Some(InPool::Some(_)));
    let private_file = !anonymous && region.shape().visibility == Visibility::Private;
    let copies_known = private_file
        && scan(
            region,
            &spans,
            |categories| !categories.is_file() && !categories.is_zero_page(),
            |tally, pages| tally.copied += pages,
            &mut tallies,
        )?;

    let pages = |cell: ByteRange| cell.pages(page).len() / page;
    // The pages past the one that contains the end of the file.
    let end = ByteRange::first(region.backing().facts().len).pages(page).end();
    let past_end = |cell: ByteRange| match region.layout() {
        _ if !region.backing().facts().is_file() => 0,
        None => pages(cell.pages(page).from(end)),
        Some(layout) => layout.parts(cell.pages(page)).map(|part| pages(part.file.pages(page).from(end))).sum(),
    };
    let past_ends: Vec<_> = spans.iter().map(|cell| past_end(*cell)).collect();
    let past_end = past_end(span);
    let HoleCounts {
        holes,
        preallocated,
        is_hole,
        is_preallocated,
    } = holes(region, &spans)?;
    let (huge, locked) = smaps(region)?;
    let picture = tallies.iter().zip(&spans).zip(is_hole.into_iter().zip(is_preallocated).zip(past_ends)).map(
        |((tally, span), ((hole, preallocated), past_end))| match tally {
            _ if tally.copied > 0 => Cell::Copied,
            _ if tally.dirty + tally.writeback > 0 => Cell::Dirty,
            _ if tally.resident >= pages(*span) => Cell::Resident,
            _ if tally.resident > 0 => Cell::Partly,
            _ if past_end > 0 && past_end == pages(*span) => Cell::PastEnd,
            _ if hole && preallocated => Cell::Preallocated,
            _ if hole => Cell::Hole,
            _ if !cells_known => Cell::Unknown,
            _ => Cell::Absent,
        },
    );
    let sum = |part: fn(&Tally) -> u64| tallies.iter().map(part).sum::<u64>();
    let pages_total = pages(span);
    Ok(Residency {
        page,
        pages: pages_total,
        resident: match pool {
            Some(InPool::Some(held)) => held,
            _ => known.then(|| sum(|tally| tally.resident).min(pages_total)),
        },
        dirty: counted.then(|| sum(|tally| tally.dirty)),
        writeback: counted.then(|| sum(|tally| tally.writeback)),
        copied: copies_known.then(|| sum(|tally| tally.copied)),
        huge,
        locked: locked.min(pages_total),
        past_end,
        holes,
        preallocated,
        cells: picture.collect(),
    })
}

/// Counts the pages of a region of a file with as few calls as possible: one, without mapping anything, if cachestat(2)
/// supports the file; otherwise mincore(2).
pub fn count(region: &mut Region) -> Result<Counts> {
    let page = region.page();
    let span = region.span();
    let mut counts = Counts {
        page,
        pages: span.pages(page).len() / page,
        resident: Some(0),
        dirty: Some(0),
        writeback: Some(0),
    };
    // A length of 0 would mean "to the end of the file".
    if span.is_empty() {
        return Ok(counts);
    }
    let mut tally = [Tally::default()];
    if count_cache(region, &[span.pages(page)], &mut tally) {
        let [tally] = tally;
        counts.resident = Some(tally.resident);
        counts.dirty = Some(tally.dirty);
        counts.writeback = Some(tally.writeback);
    } else {
        counts.resident = by_mincore(region, span)?;
        (counts.dirty, counts.writeback) = (None, None);
    }
    Ok(counts)
}

impl Region {
    /// Reads the pages of `span` into the page cache, in order, and skips those that are there. They are mapped through
    /// another, sliding window and unmapped again, which takes half as long as populating a mapping of the whole range.
    /// `step` receives how many bytes are done. Returns whether it did, which it cannot where cachestat(2) does not
    /// support the file.
    ///
    /// # Errors
    /// As for [`Region::populate`].
    pub fn prefetch(&self, span: ByteRange, step: &mut ProgressFn<'_>) -> Result<bool> {
        let (facts, page) = (self.backing().facts(), self.page());
        let is_counted = facts.counts_cache && self.layout().is_none() && page == super::page_size();
        let Some(backing) = self.backing().try_clone().filter(|_| is_counted) else {
            return Ok(false);
        };
        let within = span.intersect(ByteRange::first(facts.len));
        let mut reader = Region::new(backing, within, MapOptions::sliding(Prot::Read))?;
        let is_there = |window: &ByteRange| {
            let pages = window.pages(page);
            self.cachestat(pages).is_some_and(|stat| stat.cached >= pages.len() / page)
        };
        // Asked this far ahead: what the kernel reads ahead is there too, and must be touched all the same, or it stops
        // reading ahead.
        let mut windows = within.windows(WINDOW).map(|window| (is_there(&window), window));
        let mut ahead: VecDeque<_> = windows.by_ref().take((LOOK_AHEAD / WINDOW) as usize).collect();
        while let Some((is_there, window)) = ahead.pop_front() {
            if !is_there {
                let before = window.start() - span.start();
                reader.populate(window, Populate::Read, &mut |done| step(before + done))?;
            }
            ahead.extend(windows.next());
        }
        Ok(true)
    }
}

/// The number of dirty and in-writeback pages of a range together; `None` if the kernel does not report it.
pub fn dirty_pages(region: &Region, span: ByteRange) -> Option<u64> {
    if !region.backing().facts().counts_cache || region.layout().is_some() {
        return None;
    }
    // A length of 0 would mean "to the end of the file".
    if span.is_empty() {
        return Some(0);
    }
    // Counted in parts by several threads, which helps if the cache has small folios. If there are too many parts, one
    // call counts them all.
    let page = region.backing().facts().page;
    let spans: Vec<_> = span.pages(page).windows(COUNTED).take(MOST_PARTS + 1).collect();
    let mut tallies = vec![Tally::default(); spans.len()];
    let unit = page / super::page_size();
    let counted = spans.len() <= MOST_PARTS && count_cache(region, &spans, &mut tallies);
    if !counted {
        let stat = region.cachestat(span.pages(page))?;
        return Some(stat.dirty + stat.writeback);
    }
    Some(tallies.iter().map(|tally| (tally.dirty + tally.writeback) * unit).sum())
}

/// Pages of `span` in memory, of [`Region::page`] bytes; `None` if the kernel does not report them.
pub fn resident(region: &mut Region, span: ByteRange) -> Result<Option<u64>> {
    if span.is_empty() {
        return Ok(Some(0));
    }
    let mut tally = [Tally::default()];
    if count_cache(region, &[span.pages(region.page())], &mut tally) {
        return Ok(Some(tally[0].resident));
    }
    by_mincore(region, span)
}

/// Pages of `span` in memory, if cachestat is unavailable.
fn by_mincore(region: &mut Region, span: ByteRange) -> Result<Option<u64>> {
    match in_pool(region, span) {
        Some(InPool::All) => Ok(Some(span.pages(region.page()).len() / region.page())),
        Some(InPool::None) => Ok(Some(0)),
        Some(InPool::Some(held)) => Ok(held),
        None if region.backing().tells_residency() => region.mincore(span).map(Some),
        None => Ok(None),
    }
}

/// How much of a file of huge pages is in memory, that is, in pages of the pool.
#[derive(Debug, Clone, Copy)]
enum InPool {
    All,
    None,
    /// A part of the file. The field is the number of pages of the range, if that is the whole file.
    Some(Option<u64>),
}

/// The answer for a file of huge pages. cachestat(2) does not support these, and mincore(2) reports only the pages that
/// this mapping has accessed. The kernel counts a file's pages (`st_blocks`), but does not report which they are.
fn in_pool(region: &Region, span: ByteRange) -> Option<InPool> {
    let (facts, page) = (region.backing().facts(), region.page());
    if !facts.is_file() || page <= super::page_size() || region.layout().is_some() {
        return None;
    }
    let usage = region.backing().usage().ok()?;
    let (whole, held) = (ByteRange::first(usage.len).pages(page), usage.allocated / page);
    Some(match held {
        0 => InPool::None,
        held if held >= whole.len() / page => InPool::All,
        held => InPool::Some(span.pages(page).contains(whole).then_some(held)),
    })
}

/// Counts by cachestat(2). False if that does not support this file.
fn count_cache(region: &Region, spans: &[ByteRange], tallies: &mut [Tally]) -> bool {
    let facts = region.backing().facts();
    // The ranges of a nonlinear view are not ranges of the file.
    let tells = facts.counts_cache && region.layout().is_none();
    let Some(file) = region.backing().fd().filter(|_| tells) else {
        return false;
    };
    let page = facts.page;
    let unit = page / super::page_size();
    let of = |stat: CacheStat, span: &ByteRange| Tally {
        // A folio that extends past the end of the cell is counted as a whole.
        resident: (stat.cached / unit).min(span.pages(page).len() / page),
        dirty: stat.dirty / unit,
        writeback: stat.writeback / unit,
        copied: 0,
    };
    // A small file is one range, and nobody shares that.
    if let ([span], [tally]) = (spans, &mut *tallies)
        && span.len() < SHARED
    {
        return cachestat(file, *span).map(|stat| *tally = of(stat, span)).is_some();
    }
    let (mut rest, mut into) = (spans.iter(), tallies.iter_mut());
    // A cache of small folios has many more of them, and walking over them waits for memory.
    let mut sharing = Sharing::of_small_results();
    sharing.alone = 1;
    if spans.iter().map(|span| span.len()).sum::<u64>() < SHARED {
        sharing.helpers = 0;
    }
    let counted = share(
        sharing,
        &mut (),
        |()| Some(()),
        |()| Ok(rest.next()),
        |(), span, tally: &mut Tally| {
            let silent = || Error::sys("count the pages of", Some(**span), Errno::ENOSYS);
            *tally = of(cachestat(file, **span).ok_or_else(silent)?, span);
            Ok(())
        },
        |_, tally| {
            if let Some(into) = into.next() {
                *into = *tally;
            }
            Ok::<(), Error>(())
        },
    );
    counted.is_ok()
}

/// How many bytes one call counts when several threads share a file, and the maximum number of such parts. One call
/// over the holes of a file of many TiB takes no time, but thousands would.
const COUNTED: u64 = 64 << 20;
const MOST_PARTS: usize = 1 << 10;

/// Adds the pages of each run that PAGEMAP_SCAN reports and `wanted` accepts to the cells that contain them.
fn scan(
    region: &mut Region,
    spans: &[ByteRange],
    wanted: impl Fn(super::region::Categories) -> bool,
    mut add: impl FnMut(&mut Tally, u64),
    tallies: &mut [Tally],
) -> Result<bool> {
    let page = region.backing().facts().page;
    region.scan(|run, categories| {
        if !wanted(categories) {
            return;
        }
        let first = spans.partition_point(|cell| cell.end() <= run.start());
        for (cell, tally) in spans[first..].iter().zip(&mut tallies[first..]) {
            let part = cell.pages(page).intersect(run);
            if part.is_empty() {
                break;
            }
            add(tally, part.len() / page);
        }
    })
}

/// The parts of a file without data.
struct HoleCounts {
    /// Bytes without blocks.
    holes: Option<u64>,
    /// Bytes in blocks that were never written.
    preallocated: Option<u64>,
    /// For each cell, whether it contains no data.
    is_hole: Vec<bool>,
    /// For each cell, whether some of its blocks were never written.
    is_preallocated: Vec<bool>,
}

fn holes(region: &Region, spans: &[ByteRange]) -> Result<HoleCounts> {
    let span = region.span().intersect(ByteRange::first(region.length()));
    let unknown = HoleCounts {
        holes: None,
        preallocated: None,
        is_hole: vec![false; spans.len()],
        is_preallocated: vec![false; spans.len()],
    };
    // A view has the file's pages at other offsets, possibly several times. hugetlbfs does not distinguish holes from
    // data.
    let facts = region.backing().facts();
    if !facts.has_holes() || facts.page > super::page_size() || region.layout().is_some() {
        return Ok(unknown);
    }
    let preallocated = region.backing().preallocated(span);
    let mut found = HoleCounts {
        preallocated: preallocated.as_ref().map(|extents| total(extents)),
        is_hole: vec![true; spans.len()],
        ..unknown
    };
    let preallocated = preallocated.unwrap_or_default();
    mark(spans, &preallocated, &mut found.is_preallocated, true);
    let (mut data, mut extents) = (Vec::new(), 0);
    let mut at = span.start();
    while let Some(extent) = region.backing().next_data(at, span)? {
        extents += 1;
        if extents > MOST_EXTENTS {
            found.is_hole = vec![false; spans.len()];
            return Ok(found);
        }
        data.push(extent);
        at = extent.end();
    }
    mark(spans, &data, &mut found.is_hole, false);
    // Blocks that were never written and are in the page cache count as data, too.
    let both = overlap(&data, &preallocated);
    found.holes = Some(span.len() - (total(&data) + total(&preallocated) - both));
    Ok(found)
}

fn total(spans: &[ByteRange]) -> u64 {
    spans.iter().map(|span| span.len()).sum()
}

/// The number of bytes that are in both of two ascending lists.
fn overlap(some: &[ByteRange], others: &[ByteRange]) -> u64 {
    let mut bytes = 0;
    for span in some {
        let first = others.partition_point(|other| other.end() <= span.start());
        let within = others[first..].iter().take_while(|other| other.start() < span.end());
        bytes += within.map(|other| other.intersect(*span).len()).sum::<u64>();
    }
    bytes
}

/// Sets the mark of each cell that overlaps one of `extents`.
fn mark(cells: &[ByteRange], extents: &[ByteRange], marks: &mut [bool], value: bool) {
    for extent in extents {
        let first = cells.partition_point(|cell| cell.end() <= extent.start());
        for (cell, mark) in cells[first..].iter().zip(&mut marks[first..]) {
            if cell.start() >= extent.end() {
                break;
            }
            *mark = value;
        }
    }
}

/// The bytes in huge pages and the number of locked pages, from /proc/self/smaps.
fn smaps(region: &mut Region) -> Result<(u64, u64)> {
    let (base, len) = region.map_now()?;
    let page = region.backing().facts().page;
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    Ok(read_smaps(&text, base as u64, base as u64 + len, page))
}

/// The part of [`smaps`] that only parses text.
fn read_smaps(text: &str, from: u64, to: u64, page: u64) -> (u64, u64) {
    const HUGE: [&str; 5] = [
        "AnonHugePages",
        "ShmemPmdMapped",
        "FilePmdMapped",
        "Shared_Hugetlb",
        "Private_Hugetlb",
    ];
    let (mut huge, mut locked) = (0, 0);
    let (mut ours, mut present) = (false, 0);
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        // Only the first line of a mapping has its address range before the first colon.
        if let Some((start, end)) = key.split(' ').next().and_then(|range| range.split_once('-')) {
            let bound = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            ours = bound(start) < to && from < bound(end);
            present = 0;
            continue;
        }
        if !ours {
            continue;
        }
        let bytes = || value.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib * 1024);
        match key {
            "Rss" => present += bytes(),
            _ if HUGE.contains(&key) => {
                huge += bytes();
                // Rss does not include hugetlb pages.
                if key.ends_with("_Hugetlb") {
                    present += bytes();
                }
            }
            "VmFlags" if value.split_whitespace().any(|flag| flag == "lo") => locked += present / page,
            _ => {}
        }
    }
    (huge, locked)
}

#[cfg(test)]
mod tests;
