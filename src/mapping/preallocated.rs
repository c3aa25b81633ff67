//! Blocks that were given to a file in advance (fallocate(2)) and have not been written yet. They read as zeros, and
//! SEEK_HOLE says that they are a hole until they are in the page cache; but a store there finds room, and they take space.

use super::backing::Backing;
use super::range::ByteRange;
use super::region::{Region, cachestat, unwritten_extents};
use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::os::fd::AsFd;

/// How many ranges are looked for before all counts as unknown: a bound on the time it takes.
const MOST: usize = 1 << 16;

impl Backing {
    /// The ranges within `span` that have blocks and were never written, ascending; `None` where the file system does not
    /// say, or where there are too many. What was stored and is not written back yet is still among them.
    pub fn preallocated(&self, span: ByteRange) -> Option<Vec<ByteRange>> {
        let span = span.intersect(ByteRange::first(self.facts().len));
        let file = self
            .file("search for blocks in")
            .ok()
            .filter(|_| self.facts().has_holes())?;
        let mut found: Vec<ByteRange> = Vec::new();
        let asked = unwritten_extents(file, span, |extent| {
            match found.last_mut().filter(|last| last.end() == extent.start()) {
                Some(last) => *last = last.join(extent),
                None => found.push(extent),
            }
            found.len() <= MOST
        });
        match asked {
            Ok(()) => Some(found).filter(|found| found.len() <= MOST),
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY) => self.preallocated_in_memory(span),
            Err(_) => None,
        }
    }

    /// On tmpfs a page that was given in advance is in the page cache, and yet SEEK_DATA passes it over.
    fn preallocated_in_memory(&self, span: ByteRange) -> Option<Vec<ByteRange>> {
        let file = self.file("search for blocks in").ok()?;
        if !fstatfs(file).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC) {
            return None;
        }
        let mut found: Vec<ByteRange> = Vec::new();
        let mut at = span.start();
        loop {
            let data = self.next_data(at, span).ok()?;
            let gap = ByteRange::new(at, data.map_or(span.end(), |data| data.start()))?;
            let page = super::page_size();
            // Whole pages, halved until each part is there or not. The first half is on top.
            let mut waiting = vec![gap.pages(page)];
            while let Some(pages) = waiting.pop().filter(|pages| !pages.is_empty() && found.len() <= MOST) {
                let cached = cachestat(file.as_fd(), pages)?.cached * page;
                if cached >= pages.len() {
                    let part = pages.intersect(gap);
                    match found.last_mut().filter(|last| last.end() == part.start()) {
                        Some(last) => *last = last.join(part),
                        None => found.push(part),
                    }
                } else if cached > 0 {
                    let (head, tail) = pages.split((pages.len() / 2).next_multiple_of(page));
                    waiting.extend([tail, head]);
                }
            }
            match data {
                Some(data) if found.len() <= MOST => at = data.end(),
                Some(_) => return None,
                None => return Some(found).filter(|found| found.len() <= MOST),
            }
        }
    }
}

impl Region {
    /// What of `gap`, in which there is no data, has blocks all the same: the ranges, ascending. None where the file system
    /// does not say.
    pub fn preallocated(&self, gap: ByteRange) -> Vec<ByteRange> {
        let of_file = |gap| self.backing().preallocated(gap).unwrap_or_default();
        let Some(layout) = self.layout() else {
            return of_file(gap);
        };
        let mut found = Vec::new();
        for part in layout.parts(gap) {
            for extent in of_file(part.file) {
                found.extend(ByteRange::at(
                    part.view + (extent.start() - part.file.start()),
                    extent.len(),
                ));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
