//! Reading that leaves no trace in the page cache: what was not in memory before is dropped once it was read.

use super::error::Result;
use super::options::{MapOptions, Prot, WINDOW};
use super::range::ByteRange;
use super::region::Region;
use super::residency::LOOK_AHEAD;
use std::collections::VecDeque;
use std::time::Duration;

/// How often, and how long apart, pages are dropped that the kernel may still be reading.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// Drops pages behind a reader of a file.
#[derive(Debug)]
pub struct DropBehind {
    /// A view of the file of its own, in windows of [`WINDOW`].
    region: Region,
    /// What is still to be looked at: to the end of the file, because the kernel reads ahead past the end of the range.
    rest: ByteRange,
    /// What was absent in each window that was looked at.
    absent: VecDeque<(ByteRange, Vec<ByteRange>)>,
}

impl DropBehind {
    /// Prepares to read `span` of `region`. `None` if the pages of this file are not counted one by one: it is not a
    /// file, or we neither own it nor may write to it.
    pub fn new(region: &Region, span: ByteRange) -> Result<Option<DropBehind>> {
        let facts = region.backing().facts();
        let tells = region.is_shared_file() && region.layout().is_none() && region.backing().tells_residency();
        let Some(backing) = region.backing().try_clone().filter(|_| tells) else {
            return Ok(None);
        };
        let whole = ByteRange::first(facts.len);
        let page = facts.page;
        let mut behind = DropBehind {
            region: Region::new(backing, whole, MapOptions::sliding(Prot::Read))?,
            rest: whole.from(span.start() / page * page),
            absent: VecDeque::new(),
        };
        behind.look(span.start())?;
        Ok(Some(behind))
    }

    /// Drops what was absent of all that lies before `offset`, up to which the file was read.
    pub fn passed(&mut self, offset: u64) -> Result<()> {
        self.look(offset)?;
        while self.absent.front().is_some_and(|(window, _)| window.end() <= offset) {
            self.drop_first()?;
        }
        Ok(())
    }

    fn look(&mut self, offset: u64) -> Result<()> {
        while !self.rest.is_empty() && self.rest.start() < offset.saturating_add(LOOK_AHEAD) {
            let (window, rest) = self.rest.split(WINDOW - self.rest.start() % WINDOW);
            let absent = self.region.absent(window)?;
            self.absent.push_back((window, absent));
            self.rest = rest;
        }
        Ok(())
    }

    fn drop_first(&mut self) -> Result<()> {
        let Some((_, absent)) = self.absent.pop_front() else {
            return Ok(());
        };
        // Mapped pages stay, and looking at them maps none.
        absent.into_iter().try_for_each(|range| self.region.evict(range))
    }

    /// Whether a page is in memory that was absent.
    fn remains(&self) -> bool {
        let mut ranges = self.absent.iter().flat_map(|(_, absent)| absent);
        ranges.any(|range| self.region.cachestat(*range).is_some_and(|stat| stat.cached > 0))
    }
}

impl Drop for DropBehind {
    /// Drops the rest, also what the kernel read ahead: pages that it is still reading stay, so it takes a few attempts.
    fn drop(&mut self) {
        for _ in 0..ATTEMPTS {
            for range in self.absent.iter().flat_map(|(_, absent)| absent) {
                // What stays in memory does no harm.
                let _ = self.region.evict(*range);
            }
            if !self.remains() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}
