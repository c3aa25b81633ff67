//! Finds blocks of a file that hold only zeros, and frees them. No `unsafe` here.

use super::access::Operation;
use super::backing::Backing;
use super::buffer::Buffer;
use super::error::{AccessDenied, Error, ErrorKind, Result};
use super::range::ByteRange;
use super::region::{Lease, Region, cachestat};
use super::scan::{CHUNK_LEN, Chunk, Chunks, Content, scan};
use super::transfer::report_progress;
use super::zeros::MAX_FALLOCATE_LEN;
use super::{ProgressFn, Source};
use nix::sys::statfs::fstatfs;
use std::collections::VecDeque;
use std::os::fd::AsFd;

/// A run of zeros is freed at the latest when it reaches a multiple of this many bytes.
const LONGEST_RUN: u64 = 32 << 20;

/// How many bytes are read a second time right before they are freed.
const AGAIN: u64 = 1 << 20;

/// How many pieces each thread may examine before their results are due.
const AHEAD: usize = 16;

/// The zeros that were found in the data of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SparseStats {
    /// Bytes of data that were examined, or are in blocks that were never written.
    pub data: u64,
    /// Bytes in whole blocks of zeros.
    pub zeros: u64,
    /// The number of ranges that they form. Each is freed by one call of fallocate.
    pub runs: u64,
}

impl Region {
    /// Finds the blocks within `range` that hold only zeros, in its data (SEEK_DATA) and in blocks that were never
    /// written (these are read only if they are in the page cache). With `punch`, frees them by FALLOC_FL_PUNCH_HOLE,
    /// which does not change the bytes. The block size is that of the file system, and the last block may be cut by the
    /// end of the file. A lease keeps other processes from the file meanwhile. If no lease is available, and once
    /// another process waits for it, zeros are read again right before they are freed. `step` receives how many bytes
    /// are done.
    ///
    /// # Errors
    /// As for [`Region::source`]; any error of reading or punching. Blocks that were freed before stay freed.
    pub fn free_zeros(&mut self, range: ByteRange, punch: bool, step: &mut ProgressFn<'_>) -> Result<SparseStats> {
        let source = self.source(Operation::Read, range)?;
        let Some(backing) = source.backing() else {
            let cause = ErrorKind::AccessDenied(AccessDenied::NeverReachesFile);
            return Err(Error::new("free blocks of", Some(range), cause));
        };
        let mut freeing = Freeing::new(backing, &source, punch)?;
        let grain = freeing.block.min(CHUNK_LEN);
        let pieces = BlockPieces {
            backing,
            range,
            at: range.start(),
            waiting: VecDeque::new(),
        };
        let find = |piece: &Chunk<(), 1>, [content]: [Content<'_>; 1], runs: &mut Vec<ByteRange>| {
            runs.clear();
            let Content::Bytes(bytes) = content else {
                runs.push(piece.range);
                return;
            };
            for block in piece.range.windows(grain) {
                let at = (block.start() - piece.range.start()) as usize;
                if !is_zero(&bytes[at..at + block.len() as usize]) {
                    continue;
                }
                match runs.last_mut().filter(|run| run.end() == block.start()) {
                    Some(run) => *run = run.join(block),
                    None => runs.push(block),
                }
            }
        };
        scan([source], AHEAD, pieces, find, |piece, runs| {
            freeing.stats.data += piece.range.len();
            for run in runs.drain(..) {
                freeing.add(run)?;
            }
            if piece.is_zeros == [true] {
                freeing.end_run()?;
            }
            freeing.lend();
            let end = piece.range.end();
            report_progress(step, end - range.start(), "read", range.from(end))
        })?;
        freeing.end_run()?;
        Ok(freeing.stats)
    }
}

impl Backing {
    /// Bytes within `span` that have blocks, whether written or not.
    pub fn occupied(&self, span: ByteRange) -> Result<u64> {
        let (mut at, mut bytes) = (span.start(), 0);
        loop {
            let data = self.next_data(at, span)?;
            let given = self.preallocated(before(at, data, span)).unwrap_or_default();
            bytes += given.iter().map(|given| given.len()).sum::<u64>();
            let Some(data) = data else { return Ok(bytes) };
            bytes += data.len();
            at = data.end();
        }
    }

    /// The unit in which blocks are freed, in bytes: a power of two.
    fn block(&self) -> Result<u64> {
        let page = self.facts().page;
        if page > super::page_size() {
            return Ok(page);
        }
        let fs = fstatfs(self.file("read")?).map_err(|errno| Error::sys("identify its file system", None, errno))?;
        let block = u64::try_from(fs.block_size()).unwrap_or(page);
        // Network file systems report the size of a transfer.
        Ok(if block.is_power_of_two() && (512..=64 << 10).contains(&block) {
            block
        } else {
            page
        })
    }
}

/// The part of `span` between `at` and the next data.
fn before(at: u64, data: Option<ByteRange>, span: ByteRange) -> ByteRange {
    let rest = span.from(at);
    data.and_then(|data| ByteRange::new(rest.start(), data.start())).unwrap_or(rest)
}

/// The blocks of a range, piece by piece: data, which must be read, and blocks that were never written.
struct BlockPieces<'a> {
    backing: &'a Backing,
    range: ByteRange,
    /// The offset at which the search continues.
    at: u64,
    /// Ranges that were found and are not examined yet, and whether they were never written.
    waiting: VecDeque<(ByteRange, bool)>,
}

impl Chunks<1> for BlockPieces<'_> {
    type Key = ();

    fn next(&mut self, _: &[Source<'_>; 1]) -> Result<Option<Chunk<(), 1>>> {
        while self.waiting.is_empty() && self.at < self.range.end() {
            let data = self.backing.next_data(self.at, self.range)?;
            let gap = before(self.at, data, self.range);
            let given = self.backing.preallocated(gap).unwrap_or_default();
            self.waiting.extend(given.into_iter().map(|given| (given, true)));
            self.waiting.extend(data.map(|data| (data, false)));
            self.at = data.map_or(self.range.end(), ByteRange::end);
        }
        let Some((whole, is_unwritten)) = self.waiting.pop_front() else {
            return Ok(None);
        };
        let size = if is_unwritten { MAX_FALLOCATE_LEN } else { CHUNK_LEN };
        let range = whole.windows(size).next().unwrap_or(whole);
        let rest = whole.from(range.end());
        if !rest.is_empty() {
            self.waiting.push_front((rest, is_unwritten));
        }
        Ok(Some(Chunk {
            range,
            overlap: 0,
            is_zeros: [is_unwritten],
            key: (),
        }))
    }
}

/// Zeros that are to be freed.
struct Freeing<'a> {
    backing: &'a Backing,
    source: Option<Source<'a>>,
    /// Length of a block in bytes.
    block: u64,
    punch: bool,
    /// Held if no other process has the file open, so that its bytes are still those that were read.
    lease: Option<Lease<'a>>,
    /// The last run of zeros, which may continue.
    run: Option<ByteRange>,
    stats: SparseStats,
}

impl Freeing<'_> {
    fn new<'a>(backing: &'a Backing, source: &Source<'a>, punch: bool) -> Result<Freeing<'a>> {
        let lease = if punch {
            Lease::take(backing.file("read")?)
        } else {
            None
        };
        // Another process may have written past the known length and closed the file before the lease was taken.
        let is_known = backing.usage()?.len == backing.facts().len;
        Ok(Freeing {
            backing,
            source: source.try_clone(),
            block: backing.block()?,
            punch,
            lease: lease.filter(|_| is_known),
            run: None,
            stats: SparseStats::default(),
        })
    }

    /// Adds zeros, which may continue the last run.
    fn add(&mut self, run: ByteRange) -> Result<()> {
        let joined = match self.run.take() {
            Some(before) if before.end() == run.start() && !before.end().is_multiple_of(LONGEST_RUN) => {
                before.join(run)
            }
            Some(before) => {
                self.free(before)?;
                run
            }
            None => run,
        };
        self.run = Some(joined);
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        self.run.take().map_or(Ok(()), |run| self.free(run))
    }

    /// Counts the whole blocks of `run`, and frees them.
    fn free(&mut self, run: ByteRange) -> Result<()> {
        let len = self.backing.facts().len;
        let mask = self.block - 1;
        let end = if run.end() >= len {
            (run.end() + mask) & !mask
        } else {
            run.end() & !mask
        };
        let Some(blocks) = ByteRange::new((run.start() + mask) & !mask, end).filter(|blocks| !blocks.is_empty()) else {
            return Ok(());
        };
        self.stats.zeros += blocks.intersect(ByteRange::first(len)).len();
        self.stats.runs += 1;
        if !self.punch {
            return Ok(());
        }
        if !self.is_alone() {
            return self.punch_what_still_is(blocks);
        }
        self.drop_pages(blocks);
        self.backing.punch(blocks)
    }

    /// Drops the pages of `blocks`, which is faster than if the punch drops them. Dirty pages are not dropped, because
    /// the kernel would start to write them.
    fn drop_pages(&self, blocks: ByteRange) {
        let stat = self.backing.fd().and_then(|fd| cachestat(fd.as_fd(), blocks));
        let is_clean = stat.is_some_and(|stat| stat.dirty + stat.writeback == 0);
        if self.backing.facts().counts_cache && is_clean {
            // Pages that stay are dropped by the punch.
            let _ = self.backing.evict(blocks);
        }
    }

    /// Gives the lease back if another process waits for it.
    fn lend(&mut self) {
        self.lease.take_if(|lease| !lease.stands());
    }

    /// Whether the lease is still held.
    fn is_alone(&mut self) -> bool {
        self.lend();
        self.lease.is_some()
    }

    /// Frees the blocks that still are zeros, which are read again right before. Bytes that another process stores
    /// between the two calls are lost.
    fn punch_what_still_is(&mut self, blocks: ByteRange) -> Result<()> {
        let mut buffer = Buffer::default();
        for piece in blocks.windows(self.block.max(AGAIN)) {
            let there = piece.intersect(ByteRange::first(self.backing.usage()?.len));
            // The block that was the last of the file may have been extended.
            let whole = there.end() == piece.end() || there.end() == self.backing.facts().len;
            let source = self.source.as_ref().and_then(|source| source.of_file_now(there));
            let is_read = source.map(|mut source| source.read(there, &mut buffer)).transpose()?.is_some();
            if whole && is_read && is_zero(&buffer) {
                self.backing.punch(piece)?;
            } else {
                let found = piece.intersect(ByteRange::first(self.backing.facts().len));
                self.stats.zeros = self.stats.zeros.saturating_sub(found.len());
            }
        }
        Ok(())
    }
}

/// Ors the bytes of a piece together, which the compiler vectorizes. The pieces are short, so that most blocks of data
/// are recognized early.
fn is_zero(bytes: &[u8]) -> bool {
    let (pieces, rest) = bytes.as_chunks::<256>();
    let none = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
    pieces.iter().all(|piece| none(piece)) && none(rest)
}

#[cfg(test)]
mod tests;
