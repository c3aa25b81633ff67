//! Blocks that were allocated to a file in advance (fallocate(2)) and have not been written yet. They read as zeros,
//! and SEEK_HOLE reports them as a hole until they are in the page cache; but they take space, and a store into them
//! cannot run out of it.

use super::backing::Backing;
use super::range::ByteRange;
use super::region::{Region, cachestat, unwritten_extents};
use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::os::fd::AsFd;

/// The maximum number of ranges: if there are more, the result is unknown. This bounds the time it takes.
const MOST: usize = 1 << 16;

impl Backing {
    /// The ranges within `span` that have blocks and were never written, ascending; `None` if the file system does not
    /// report that, or if there are too many. A range that was stored to and is not written back yet is still included.
    pub fn preallocated(&self, span: ByteRange) -> Option<Vec<ByteRange>> {
        let span = span.intersect(ByteRange::first(self.facts().len));
        let file = self.file("search for blocks in").ok().filter(|_| self.facts().has_holes())?;
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

    /// On tmpfs, a page that was allocated in advance is in the page cache, but SEEK_DATA skips it.
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
            // Whole pages, halved until each part is entirely cached or not cached. The first half is on top.
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
    /// The ranges of `gap`, which holds no data, that have blocks nevertheless, ascending. None if the file system does
    /// not report that.
    pub fn preallocated(&self, gap: ByteRange) -> Vec<ByteRange> {
        let of_file = |gap| self.backing().preallocated(gap).unwrap_or_default();
        let Some(layout) = self.layout() else {
            return of_file(gap);
        };
        let mut found = Vec::new();
        for part in layout.parts(gap) {
            for extent in of_file(part.file) {
                found.extend(ByteRange::at(part.view + (extent.start() - part.file.start()), extent.len()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
