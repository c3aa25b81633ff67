//! Finding zeros that stand in blocks of a file for nothing, and giving those back. No `unsafe` here.

use super::backing::Backing;
use super::error::{Cause, Error, Result};
use super::region::{Lease, cachestat};
use super::span::Span;
use super::threads::{helpers, start_helper};
use super::zeros::CALL;
use super::{Interrupted, Step};
use nix::errno::Errno;
use nix::sys::statfs::fstatfs;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// How much is read at a time to look for zeros, in bytes: it stays in the second-level cache.
const CHUNK: u64 = 256 << 10;

/// How much a thread looks at before it takes the next part, in bytes. What was found to be zeros is punched at the end
/// of a part at the latest.
const PART: u64 = 32 << 20;

/// So many runs of zeros may wait for the thread that punches before the one that finds the next waits, too.
const WAITING: usize = 64;

/// How much is read once more, right before it is freed, in bytes.
const AGAIN: u64 = 1 << 20;

/// Zeros found in the data of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Zeros {
    /// Bytes of data looked at, or in blocks that were never written.
    pub data: u64,
    /// Bytes in whole blocks of zeros.
    pub zeros: u64,
    /// How many stretches they came in.
    pub runs: u64,
}

impl Backing {
    /// Finds the blocks within `span` that hold nothing but zeros, in its data (SEEK_DATA) and in blocks that were never
    /// written, which are not read unless they are in the page cache, and with `punch` gives
    /// them back: FALLOC_FL_PUNCH_HOLE, which leaves the bytes as they are. A block is the file system's; the last may be
    /// cut by the end of the file. Reads by pread(2), which no truncation turns into a signal. A lease keeps the file to
    /// this process meanwhile; where there is none to be had, and once somebody waits for it, zeros are read once more
    /// right before they are freed. `step` hears how many bytes are done.
    ///
    /// # Errors
    /// What reading or punching says; what was punched before stays.
    pub fn zeros(&self, span: Span, punch: bool, step: &mut Step<'_>) -> Result<Zeros> {
        let search = Search::new(self, span, punch)?;
        let most = if span.len() > PART { helpers() } else { 0 };
        thread::scope(|scope| {
            let start = |_| start_helper(scope, || search.run(&mut |_| Ok(())));
            let helpers: Vec<_> = (0..most).filter_map(start).collect();
            let mut found = search.run(step);
            for helper in helpers {
                let lost = |_| Err(Error::sys("read", Some(span), Errno::EIO));
                let more = helper.join().unwrap_or_else(lost);
                found = found.and_then(|found| more.map(|more| found.and(more)));
            }
            let kept = search.kept.load(Ordering::Relaxed);
            let joined = joined(&mut locked(&search.edges));
            found.map(|found| Zeros {
                zeros: found.zeros.saturating_sub(kept),
                runs: found.runs - joined,
                ..found
            })
        })
    }

    /// Bytes within `span` that have blocks, written or not.
    pub fn occupied(&self, span: Span) -> Result<u64> {
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
        let fs = fstatfs(self.file("read")?).map_err(|errno| Error::sys("look at its file system", None, errno))?;
        let block = u64::try_from(fs.block_size()).unwrap_or(page);
        // Network file systems give the size of a transfer.
        Ok(if block.is_power_of_two() && (512..=64 << 10).contains(&block) {
            block
        } else {
            page
        })
    }
}

/// What lies within `span` between `at` and the next data.
fn before(at: u64, data: Option<Span>, span: Span) -> Span {
    let rest = span.from(at);
    data.and_then(|data| Span::new(rest.start(), data.start()))
        .unwrap_or(rest)
}

/// Blocks of a file that may be zeros.
#[derive(Debug, Clone, Copy)]
enum Stretch {
    /// Data, which has to be read.
    Data(Span),
    /// Blocks that were never written, none of them in the page cache.
    Unwritten(Span),
}

/// Where a search is.
struct Cursor {
    /// What was found and is not looked at yet.
    waiting: VecDeque<Stretch>,
    /// Where to look on.
    at: u64,
}

/// A search for zeros, part by part, by whoever has time.
struct Search<'a> {
    backing: &'a Backing,
    file: &'a File,
    span: Span,
    block: u64,
    punch: bool,
    cursor: Mutex<Cursor>,
    /// Blocks that are to be freed, in the order in which they were found.
    found: Mutex<VecDeque<Span>>,
    /// Held by who frees them: the file system lets in one at a time, and the others look on meanwhile.
    punching: Mutex<()>,
    /// That nobody else has the file open, so that what was read is what is there.
    lease: Mutex<Option<Lease<'a>>>,
    /// Bytes that were zeros when they were found, and no more when they were to be freed.
    kept: AtomicU64,
    stop: AtomicBool,
    /// Runs that begin or end with what was looked at at a time: with the next, they may be one.
    edges: Mutex<Vec<Span>>,
}

impl Search<'_> {
    fn new(backing: &Backing, span: Span, punch: bool) -> Result<Search<'_>> {
        let file = backing.file("read")?;
        let lease = if punch { Lease::take(file) } else { None };
        // Since the length was looked at, somebody may have written behind it and gone.
        let is_known = backing.usage()?.len == backing.facts().len;
        Ok(Search {
            backing,
            file,
            span,
            block: backing.block()?,
            punch,
            cursor: Mutex::new(Cursor {
                waiting: VecDeque::new(),
                at: span.start(),
            }),
            found: Mutex::new(VecDeque::new()),
            punching: Mutex::new(()),
            lease: Mutex::new(lease.filter(|_| is_known)),
            kept: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            edges: Mutex::new(Vec::new()),
        })
    }

    fn run(&self, step: &mut Step<'_>) -> Result<Zeros> {
        let mut found = Zeros::default();
        let mut buf = Vec::new();
        let mut work = || -> Result<()> {
            while let Some(part) = self.next()? {
                let end = match part {
                    Stretch::Data(part) => {
                        self.look(part, &mut buf, &mut found)?;
                        part.end()
                    }
                    Stretch::Unwritten(part) => {
                        found.data += part.len();
                        self.free(part, part, &mut found)?;
                        self.punch_found(true)?;
                        part.end()
                    }
                };
                step(end - self.span.start()).map_err(|Interrupted(signal)| {
                    Error::new("read", Some(self.span.from(end)), Cause::Interrupted(signal))
                })?;
            }
            Ok(())
        };
        let result = work();
        if result.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        result.map(|()| found)
    }

    fn next(&self) -> Result<Option<Stretch>> {
        let mut cursor = locked(&self.cursor);
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        while cursor.waiting.is_empty() && cursor.at < self.span.end() {
            let data = self.backing.next_data(cursor.at, self.span)?;
            let gap = before(cursor.at, data, self.span);
            let given = self.backing.preallocated(gap).unwrap_or_default();
            cursor.waiting.extend(given.into_iter().map(Stretch::Unwritten));
            cursor.waiting.extend(data.map(Stretch::Data));
            cursor.at = data.map_or(self.span.end(), Span::end);
        }
        let Some(next) = cursor.waiting.pop_front() else {
            return Ok(None);
        };
        let (whole, size) = match next {
            Stretch::Data(whole) => (whole, PART),
            Stretch::Unwritten(whole) => (whole, CALL),
        };
        let as_found = |span| match next {
            Stretch::Data(_) => Stretch::Data(span),
            Stretch::Unwritten(_) => Stretch::Unwritten(span),
        };
        let part = whole.windows(size.max(self.block)).next();
        let rest = whole.from(part.map_or(whole.end(), Span::end));
        if !rest.is_empty() {
            cursor.waiting.push_front(as_found(rest));
        }
        Ok(part.map(as_found))
    }

    fn look(&self, part: Span, buf: &mut Vec<u8>, found: &mut Zeros) -> Result<()> {
        found.data += part.len();
        let grain = self.block.min(CHUNK);
        // Zeros that have not ended yet.
        let mut run: Option<Span> = None;
        for chunk in part.windows(CHUNK) {
            self.backing.read(chunk, buf)?;
            for piece in chunk.windows(grain) {
                let at = (piece.start() - chunk.start()) as usize;
                if is_zero(&buf[at..at + piece.len() as usize]) {
                    run = Some(run.map_or(piece, |run| run.join(piece)));
                } else if let Some(run) = run.take() {
                    self.free(run, part, found)?;
                }
            }
        }
        run.map_or(Ok(()), |run| self.free(run, part, found))?;
        self.punch_found(true)
    }

    /// Counts the whole blocks of `run`, which was found in `part`, and frees them.
    fn free(&self, run: Span, part: Span, found: &mut Zeros) -> Result<()> {
        let len = self.backing.facts().len;
        let mask = self.block - 1;
        let end = if run.end() >= len {
            (run.end() + mask) & !mask
        } else {
            run.end() & !mask
        };
        let Some(blocks) = Span::new((run.start() + mask) & !mask, end).filter(|blocks| !blocks.is_empty()) else {
            return Ok(());
        };
        found.zeros += blocks.intersect(Span::first(len)).len();
        found.runs += 1;
        if run.start() == part.start() || run.end() == part.end() {
            locked(&self.edges).push(blocks);
        }
        if !self.punch {
            return Ok(());
        }
        self.drop_pages(blocks);
        let mut waiting = locked(&self.found);
        waiting.push_back(blocks);
        let many = waiting.len() > WAITING;
        drop(waiting);
        self.punch_found(many)
    }

    /// Drops the pages of `blocks`, which the punch, that the file system lets in one at a time, would do while others
    /// wait. But not dirty ones, which the kernel would begin to write, nor, as far as can be seen now, those that are to
    /// be read once more.
    fn drop_pages(&self, blocks: Span) {
        let is_clean = || cachestat(self.file.as_fd(), blocks).is_some_and(|stat| stat.dirty + stat.writeback == 0);
        if self.backing.facts().counts_cache && locked(&self.lease).is_some() && is_clean() {
            // What stays is dropped by the punch.
            let _ = self.backing.evict(blocks);
        }
    }

    /// Frees what was found, unless another thread is at it; with `wait`, nothing that was found before is left then.
    fn punch_found(&self, wait: bool) -> Result<()> {
        let _turn = match self.punching.try_lock() {
            Ok(turn) => turn,
            Err(_) if !wait => return Ok(()),
            Err(_) => locked(&self.punching),
        };
        let next = || locked(&self.found).pop_front();
        while let Some(blocks) = next() {
            if self.is_alone() {
                self.backing.punch(blocks)?;
            } else {
                self.punch_what_still_is(blocks)?;
            }
        }
        // Who waits for the file does not wait for the next zeros.
        self.is_alone();
        Ok(())
    }

    /// Whether the lease stands; if somebody waits for it, it is given back. Asked by who punches, so that nothing is
    /// punched any more on the word of a lease that is gone.
    fn is_alone(&self) -> bool {
        let mut lease = locked(&self.lease);
        lease.take_if(|lease| !lease.stands());
        lease.is_some()
    }

    /// Frees what is still zeros, read once more right before. What somebody stores between the two calls is lost.
    fn punch_what_still_is(&self, blocks: Span) -> Result<()> {
        let mut buf = Vec::new();
        for piece in blocks.windows(self.block.max(AGAIN)) {
            let there = piece.intersect(Span::first(self.backing.usage()?.len));
            // What was the file's last block may have been written on.
            let whole = there.end() == piece.end() || there.end() == self.backing.facts().len;
            self.backing.read(there, &mut buf)?;
            if whole && is_zero(&buf) {
                self.backing.punch(piece)?;
            } else {
                let found = piece.intersect(Span::first(self.backing.facts().len));
                self.kept.fetch_add(found.len(), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// How many of these runs are the continuation of another.
fn joined(edges: &mut [Span]) -> u64 {
    edges.sort_unstable_by_key(|run| run.start());
    let pairs = edges.windows(2).filter(|pair| pair[0].end() == pair[1].start());
    pairs.count() as u64
}

impl Zeros {
    fn and(self, other: Zeros) -> Zeros {
        Zeros {
            data: self.data + other.data,
            zeros: self.zeros + other.zeros,
            runs: self.runs + other.runs,
        }
    }
}

/// What is behind `mutex`; no thread can have left it half-way, as none panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Or-ed in pieces that the compiler makes vector instructions of, and that end the look at most blocks of data early.
fn is_zero(bytes: &[u8]) -> bool {
    let (pieces, rest) = bytes.as_chunks::<256>();
    let none = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
    pieces.iter().all(|piece| none(piece)) && none(rest)
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    #[test]
    fn what_is_written_after_it_was_found_to_be_zeros_is_not_freed() {
        let Ok(file) = tempfile::NamedTempFile::new_in("/dev/shm") else {
            // Not eprintln, which is captured in a test that passes, as this one will.
            writeln!(
                std::io::stderr(),
                "SKIPPED what_is_written_after_it_was_found_to_be_zeros_is_not_freed: there is no tmpfs to write to"
            )
            .unwrap();
            return;
        };
        std::fs::write(file.path(), vec![0; 3 * AGAIN as usize + 100]).unwrap();
        let backing = Backing::open(file.path(), Access::Write, Duration::ZERO).unwrap();
        // Somebody else has it open: there is no lease.
        let search = Search::new(&backing, Span::first(backing.facts().len), true).unwrap();
        assert!(!search.is_alone());
        file.as_file().write_all_at(b"x", AGAIN + 7).unwrap();
        file.as_file().write_all_at(b"appended", 3 * AGAIN + 100).unwrap();
        let blocks = Span::first(3 * AGAIN + 4096);
        search.punch_what_still_is(blocks).unwrap();
        assert_eq!(search.kept.load(Ordering::Relaxed), AGAIN + 100);
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(bytes[AGAIN as usize + 7], b'x');
        assert_eq!(bytes[3 * AGAIN as usize + 100..], *b"appended");
        assert_eq!(backing.usage().unwrap().allocated, AGAIN + 4096);
    }

    proptest! {
        #[test]
        fn a_block_is_zero_when_no_byte_of_it_is_another(len in 0usize..5000, at in 0usize..5000, byte in 1u8..) {
            let mut bytes = vec![0; len];
            prop_assert!(is_zero(&bytes));
            if at < len {
                bytes[at] = byte;
                prop_assert!(!is_zero(&bytes));
            }
        }
    }
}
