//! What the kernel says of a mapping: pages resident, dirty, in writeback, huge, locked, copied; and holes.

use super::ProgressFn;
use super::backing::Kind;
use super::error::{Error, Result};
use super::options::{Populate, Visibility, WINDOW};
use super::range::ByteRange;
use super::region::{CacheStat, Region, cachestat};
use super::threads::{Sharing, share};
use nix::errno::Errno;

/// How a region lives in memory. Counts are of pages of `page` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residency {
    /// Bytes a page.
    pub page: u64,
    /// Pages in the region.
    pub pages: u64,
    /// Pages in memory: of the file's page cache, or of the anonymous mapping; `None` where the kernel does not
    /// tell, because the file is neither ours nor writable for us.
    pub resident: Option<u64>,
    /// Pages changed and not yet written back; `None` where that has no meaning or can't be known.
    pub dirty: Option<u64>,
    /// Pages being written back now.
    pub writeback: Option<u64>,
    /// Pages of a private file mapping that a store has copied; `None` for other mappings.
    pub copied: Option<u64>,
    /// Bytes mapped by huge pages.
    pub huge: u64,
    /// Pages that mlock keeps in memory.
    pub locked: u64,
    /// Pages behind the one that the file ends in, which nothing can be read from or stored into.
    pub past_end: u64,
    /// Bytes of the file that have no block; `None` where the file system does not say.
    pub holes: Option<u64>,
    /// Bytes of the file whose blocks were given in advance and are not written yet; `None` where the file system does not
    /// say.
    pub preallocated: Option<u64>,
    /// The region in order, cut into as many cells as asked for, or fewer.
    pub cells: Vec<Cell>,
}

/// What stands out in one cell of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Some page was copied by a store into a private mapping.
    Copied,
    /// Some page is dirty or in writeback.
    Dirty,
    /// Every page is resident.
    Resident,
    /// Some pages are.
    Partly,
    /// None is.
    Absent,
    /// None is, and the file has no block there.
    Hole,
    /// None is, and the file has blocks there that were never written.
    Preallocated,
    /// Every page is past the end of the file.
    PastEnd,
    /// The kernel does not tell.
    Unknown,
}

/// Of fewer bytes, one thread counts the pages.
const SHARED: u64 = 64 << 20;

/// How many stretches of data are looked at before the holes count as unknown: a bound on the time it takes.
const MOST_EXTENTS: usize = 1 << 16;

/// How much of a range is in memory. Counts are of pages of `page` bytes, and as in [`Residency`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Bytes a page.
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

/// Looks at `region` and sorts it into at most `cells` cells.
///
/// Sources: cachestat(2) for what belongs to a file, mincore(2) where that says nothing (overlayfs, an older
/// kernel); the PAGEMAP_SCAN ioctl for anonymous and private pages; /proc/self/smaps for huge and locked ones;
/// lseek(2) for holes.
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
    // For a file that we neither own nor may write, mincore says that every page is resident.
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
    // What mincore says of huge pages is true of this mapping alone.
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

    // Behind the page that the end is in.
    let there = match region.backing().facts().is_file() {
        true => ByteRange::first(region.length()).pages(page).end(),
        false => span.pages(page).end(),
    };
    let HoleCounts {
        holes,
        preallocated,
        is_hole,
        is_preallocated,
    } = holes(region, &spans)?;
    let (huge, locked) = smaps(region)?;
    let pages = |cell: &ByteRange| cell.pages(page).len() / page;
    let picture = tallies
        .iter()
        .zip(&spans)
        .zip(is_hole.into_iter().zip(is_preallocated))
        .map(|((tally, span), (hole, preallocated))| match tally {
            _ if tally.copied > 0 => Cell::Copied,
            _ if tally.dirty + tally.writeback > 0 => Cell::Dirty,
            _ if tally.resident >= pages(span) => Cell::Resident,
            _ if tally.resident > 0 => Cell::Partly,
            _ if span.start() >= there => Cell::PastEnd,
            _ if hole && preallocated => Cell::Preallocated,
            _ if hole => Cell::Hole,
            _ if !cells_known => Cell::Unknown,
            _ => Cell::Absent,
        });
    let sum = |part: fn(&Tally) -> u64| tallies.iter().map(part).sum::<u64>();
    let pages_total = pages(&span);
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
        past_end: pages(&span).saturating_sub(there.saturating_sub(span.pages(page).start()) / page),
        holes,
        preallocated,
        cells: picture.collect(),
    })
}

/// Counts the pages of a region of a file, with as few calls as there are: one, where cachestat(2) speaks for it,
/// and nothing is mapped then; else mincore(2).
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

/// Brings the pages of a file into memory, for whom it may serve: what the page cache has is not mapped first, which
/// for small folios takes as long as reading does. `step` hears how many bytes are done.
pub fn prefetch(region: &mut Region, step: &mut ProgressFn<'_>) -> Result<()> {
    let span = region.span();
    let page = region.page();
    for window in span.windows(WINDOW.max(page)) {
        let mut tally = [Tally::default()];
        let pages = window.pages(page);
        if count_cache(region, &[pages], &mut tally) && tally[0].resident >= pages.len() / page {
            continue;
        }
        let before = window.start() - span.start();
        region.populate(window, Populate::Read, &mut |done| step(before + done))?;
    }
    Ok(())
}

/// Dirty and in-writeback pages of a range, together; `None` where the kernel does not say.
pub fn dirty_pages(region: &Region, span: ByteRange) -> Option<u64> {
    if !region.backing().facts().counts_cache || region.layout().is_some() {
        return None;
    }
    // A length of 0 would mean "to the end of the file".
    if span.is_empty() {
        return Some(0);
    }
    // In parts, which several threads share where the cache is one of small folios; of too many, one is enough to know.
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

/// Pages of `span` in memory, of [`Region::page`] bytes; `None` where the kernel does not tell.
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

/// Pages of `span` in memory, where cachestat says nothing.
fn by_mincore(region: &mut Region, span: ByteRange) -> Result<Option<u64>> {
    match in_pool(region, span) {
        Some(InPool::All) => Ok(Some(span.pages(region.page()).len() / region.page())),
        Some(InPool::None) => Ok(Some(0)),
        Some(InPool::Some(held)) => Ok(held),
        None if region.backing().tells_residency() => region.mincore(span).map(Some),
        None => Ok(None),
    }
}

/// How much of a file of huge pages is in memory, which is to say in pages of the pool.
#[derive(Debug, Clone, Copy)]
enum InPool {
    All,
    None,
    /// A part of the file; how many pages of the range, where that is the whole file.
    Some(Option<u64>),
}

/// For a file of huge pages, of which cachestat(2) says nothing and mincore(2) only what this mapping has touched. The
/// kernel counts a file's pages (`st_blocks`), and does not say which they are.
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

/// False where cachestat has nothing to say of this file.
fn count_cache(region: &Region, spans: &[ByteRange], tallies: &mut [Tally]) -> bool {
    let facts = region.backing().facts();
    // The ranges of a nonlinear view are no ranges of the file.
    let tells = facts.counts_cache && region.layout().is_none();
    let Some(file) = region.backing().fd().filter(|_| tells) else {
        return false;
    };
    let page = facts.page;
    let unit = page / super::page_size();
    let of = |stat: CacheStat, span: &ByteRange| Tally {
        // A folio that reaches over the cell's edge counts whole.
        resident: (stat.cached / unit).min(span.pages(page).len() / page),
        dirty: stat.dirty / unit,
        writeback: stat.writeback / unit,
        copied: 0,
    };
    let (mut rest, mut into) = (spans.iter(), tallies.iter_mut());
    // A cache of small folios is so many times more of them, and the walk over them waits for memory.
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

/// What one call counts where several threads share a file, in bytes, and how many such parts there may be: one call over
/// the holes of a file of many TiB takes no time, and thousands would.
const COUNTED: u64 = 64 << 20;
const MOST_PARTS: usize = 1 << 10;

/// Adds the pages of each run that PAGEMAP_SCAN reports and `wanted` takes to the cells that it lies in.
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

/// What of a file has no data.
struct HoleCounts {
    /// Bytes without a block.
    holes: Option<u64>,
    /// Bytes in blocks that were never written.
    preallocated: Option<u64>,
    /// For each cell whether there is no data in it.
    is_hole: Vec<bool>,
    /// For each cell whether some of its blocks were never written.
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
    // A view has the file's pages at other places, and may have one several times. hugetlbfs does not tell holes from
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
    // Of the blocks that were never written, those in the page cache count as data, too.
    let both = overlap(&data, &preallocated);
    found.holes = Some(span.len() - (total(&data) + total(&preallocated) - both));
    Ok(found)
}

fn total(spans: &[ByteRange]) -> u64 {
    spans.iter().map(|span| span.len()).sum()
}

/// Bytes that are in both of two ascending lists.
fn overlap(some: &[ByteRange], others: &[ByteRange]) -> u64 {
    let mut bytes = 0;
    for span in some {
        let first = others.partition_point(|other| other.end() <= span.start());
        let within = others[first..].iter().take_while(|other| other.start() < span.end());
        bytes += within.map(|other| other.intersect(*span).len()).sum::<u64>();
    }
    bytes
}

/// Sets the mark of each cell that some of `extents` lies in.
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

/// Bytes in huge pages, and pages locked, by /proc/self/smaps.
fn smaps(region: &mut Region) -> Result<(u64, u64)> {
    let (base, len) = region.map_now()?;
    let page = region.backing().facts().page;
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    Ok(read_smaps(&text, base as u64, base as u64 + len, page))
}

/// The part of [`smaps`] that only reads text.
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
        // Only the head line of a mapping has its address range before the first colon.
        if let Some((start, end)) = key.split(' ').next().and_then(|range| range.split_once('-')) {
            let bound = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            ours = bound(start) < to && from < bound(end);
            present = 0;
            continue;
        }
        if !ours {
            continue;
        }
        let bytes = || {
            value
                .trim()
                .trim_end_matches(" kB")
                .parse::<u64>()
                .map_or(0, |kib| kib * 1024)
        };
        match key {
            "Rss" => present += bytes(),
            _ if HUGE.contains(&key) => {
                huge += bytes();
                // Rss leaves hugetlb pages out.
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
