//! The bytes of a region into a descriptor, by the shortest way that there is. Where the region is what its file holds,
//! they need not come through the mapping: splice(2) lends the pages of the page cache to a pipe, copy_file_range(2) goes
//! from file to file, which is a reflink where the file system has them, and where that will not do, they are read and
//! written. Everything else, and whatever these refuse, is written straight from the mapping, and what is wrong comes to
//! light there.

use super::Step;
use super::error::{Error, Result};
use super::region::Region;
use super::shape::Populate;
use super::span::Span;
use super::trace::uninterrupted;
use super::transfer::stepped;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SpliceFFlags, copy_file_range, fallocate, fcntl, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{self, FsType, fstatfs};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, ftruncate, lseek64, write};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// What a pipe is asked to hold, in bytes: what an ordinary user may have (fs.pipe-max-size). With the 64 KiB that it
/// has otherwise, writer and reader wake each other sixteen times as often.
const PIPE: u64 = 1 << 20;

/// The most bytes of one copy_file_range. A reflink takes no time, whatever its length; a copy does.
const COPY: u64 = 64 << 20;

/// How many bytes [`Way::Relay`] takes at a time: they stay in the second-level cache. Of more, the page cache would make
/// larger folios; for those a virtual machine that reports its free pages to its host has memory that the host must find
/// anew, page by page, which takes five times as long as the copy.
const RELAY: usize = 256 << 10;

/// File systems that have no way of their own from file to file. There copy_file_range goes by a pipe within the kernel,
/// which takes longer than two copies by way of a cache.
const NO_COPIES: [FsType; 2] = [statfs::EXT4_SUPER_MAGIC, statfs::TMPFS_MAGIC];

/// Where [`Region::write_to`] failed.
#[derive(Debug)]
pub enum WriteOut {
    /// Reading the mapping.
    Source(Error),
    /// Writing to the descriptor.
    Sink(std::io::Error),
}

impl From<Error> for WriteOut {
    fn from(error: Error) -> WriteOut {
        WriteOut::Source(error)
    }
}

impl WriteOut {
    pub(super) fn sink(errno: Errno) -> WriteOut {
        WriteOut::Sink(errno.into())
    }
}

pub(super) type Written<T> = std::result::Result<T, WriteOut>;

/// What becomes of the holes of a file that is written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// The zeros that they read as.
    Written,
    /// Holes, where the descriptor is a regular file and not one that is appended to; elsewhere zeros.
    Kept,
}

impl Region {
    /// Writes the bytes of `span` to `sink`; waits where the sink does not take more. `step` hears how many bytes are
    /// done.
    ///
    /// A pipe is lent pages of the file, which others may still change until they are read; but not the last ones, as
    /// many as it holds: those are copied, so once this is done, nothing that was written changes any more.
    ///
    /// # Errors
    /// What makes a page unreadable, with its offset: all before it is written. What the sink says.
    pub fn write_to(&mut self, sink: BorrowedFd<'_>, span: Span, holes: Holes, step: &mut Step<'_>) -> Written<()> {
        let span = self.check_read(Some(span))?;
        self.refuse_device_memory("read", span)?;
        if span.is_empty() {
            return Ok(());
        }
        // What cannot be mapped is refused before any of it has gone out.
        self.reach(span.start())?;
        let kind = SinkKind::of(sink);
        let mut out = Outlet {
            way: self.way_to(sink, kind, span),
            sink,
            span,
            copies: Copies::default(),
            memory: Vec::new(),
        };
        if holes == Holes::Written || kind != SinkKind::File {
            return out.pass(self, span, step);
        }
        let mut at = span.start();
        while at < span.end() {
            let data = self.next_data(at, span)?;
            let begin = data.map_or(span.end(), Span::start);
            leave_hole(sink, begin - at).map_err(WriteOut::sink)?;
            out.stepped(begin, step)?;
            let Some(data) = data else { break };
            out.pass(self, data, step)?;
            at = data.end();
        }
        end_here(sink).map_err(WriteOut::sink)?;
        // What was cut off meanwhile looks like a hole.
        Ok(self.check_there(span)?)
    }

    /// The way to begin with.
    fn way_to(&self, sink: BorrowedFd<'_>, kind: SinkKind, span: Span) -> Way {
        match kind {
            _ if !self.is_the_files() => Way::Mapping,
            // Where a mapping stands whole, its session may store into it, or run a command that writes to the file,
            // while the pages are still on their way through further pipes: the reader is owed the bytes as they were.
            SinkKind::Pipe if self.shape().window.is_none() => Way::Mapping,
            SinkKind::Pipe => match enlarge(sink, span.len()) {
                Ok(capacity) => Way::Splice {
                    until: span.end().saturating_sub(capacity),
                },
                Err(_) => Way::Mapping,
            },
            SinkKind::File if fstatfs(sink).is_ok_and(|fs| NO_COPIES.contains(&fs.filesystem_type())) => Way::Relay,
            SinkKind::File => Way::Copy,
            SinkKind::Other => Way::Mapping,
        }
    }
}

/// What kind of descriptor takes the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SinkKind {
    /// A pipe or a FIFO.
    Pipe,
    /// A regular file with a position to write at.
    File,
    /// A terminal, a socket, a device; and a file that is appended to, which takes nothing but writes.
    Other,
}

impl SinkKind {
    fn of(sink: BorrowedFd<'_>) -> SinkKind {
        let kind = fstat(sink).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        let appends = || fcntl(sink, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_APPEND.bits() != 0);
        match kind {
            Ok(SFlag::S_IFIFO) => SinkKind::Pipe,
            Ok(SFlag::S_IFREG) if !appends() => SinkKind::File,
            _ => SinkKind::Other,
        }
    }
}

/// How bytes come from a file to a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// splice(2) up to this offset, and write(2) from the mapping behind it.
    Splice { until: u64 },
    /// copy_file_range(2).
    Copy,
    /// pread(2) and write(2).
    Relay,
    /// write(2) from the mapping.
    Mapping,
}

/// The state of writing a range out.
struct Outlet<'a> {
    sink: BorrowedFd<'a>,
    span: Span,
    way: Way,
    copies: Copies,
    /// For [`Way::Relay`].
    memory: Vec<u8>,
}

impl Outlet<'_> {
    /// Writes `data`, a part of the range.
    fn pass(&mut self, region: &mut Region, data: Span, step: &mut Step<'_>) -> Written<()> {
        let mut rest = data;
        while !rest.is_empty() && self.way != Way::Mapping {
            let file = region.backing().file("read")?;
            let mut from = rest.start() as i64;
            let moved = match self.way {
                Way::Splice { until } if rest.start() < until => {
                    let len = rest.len().min(until - rest.start()).min(PIPE) as usize;
                    uninterrupted(|| splice(file, Some(&mut from), self.sink, None, len, SpliceFFlags::empty()))
                }
                Way::Copy => self.copies.copy(file, rest, self.sink, None),
                Way::Relay => self.relay(file, rest),
                Way::Splice { .. } | Way::Mapping => break,
            };
            match (moved, self.way) {
                (Ok(count), _) if count > 0 => {
                    let end = rest.start() + count as u64;
                    region.check_there(Span::new(rest.start(), end).unwrap_or(rest))?;
                    rest = rest.from(end);
                    self.stepped(end, step)?;
                }
                (Err(Errno::EPIPE), _) => return Err(WriteOut::sink(Errno::EPIPE)),
                (Err(Errno::EAGAIN), Way::Splice { .. }) => wait_for_room(self.sink).map_err(WriteOut::sink)?,
                // The file ends here, a page cannot be read, the disk is full, or this way is not for these two: the
                // next one tells.
                (_, Way::Copy) => self.way = Way::Relay,
                _ => self.way = Way::Mapping,
            }
        }
        self.write(region, rest, step)
    }

    /// Takes some bytes from the start of `span` on through memory; says how many have arrived.
    fn relay(&mut self, file: &File, span: Span) -> nix::Result<usize> {
        self.memory.resize(RELAY, 0);
        let most = span.len().min(RELAY as u64) as usize;
        let memory = &mut self.memory[..most];
        let taken = uninterrupted(|| pread(file, memory, span.start() as i64))?;
        let mut arrived = 0;
        while arrived < taken {
            match uninterrupted(|| write(self.sink, &memory[arrived..taken])) {
                Ok(count) if count > 0 => arrived += count,
                // What has not arrived is taken from the file once more.
                Err(errno) if arrived == 0 => return Err(errno),
                _ => break,
            }
        }
        Ok(arrived)
    }

    /// Writes `data` straight from the mapping.
    fn write(&self, region: &mut Region, data: Span, step: &mut Step<'_>) -> Written<()> {
        for window in data.windows(region.window_size()) {
            let mut rest = window;
            // A pipe takes a page's worth at a time or nothing, wherever the mapping's pages begin: with EFAULT behind
            // it, what stands before the bad page is asked for again by itself.
            let mut by_page = false;
            while !rest.is_empty() {
                let part = rest.windows(region.page()).next().filter(|_| by_page).unwrap_or(rest);
                match region.send(self.sink, part)? {
                    Ok(count) if count > 0 => rest = rest.from(rest.start() + count as u64),
                    Ok(_) | Err(Errno::EFAULT) if !by_page => by_page = true,
                    Ok(_) | Err(Errno::EFAULT) => {
                        let count = self.write_page(region, part)?;
                        if count > 0 {
                            rest = rest.from(rest.start() + count);
                            continue;
                        }
                        return Err(region
                            .fault("read", self.span.from(rest.start()), Populate::Read)
                            .into());
                    }
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => wait_for_room(self.sink).map_err(WriteOut::sink)?,
                    Err(errno) => return Err(WriteOut::sink(errno)),
                }
            }
            // /dev/null takes everything without a look, so a file cut short would go unnoticed.
            region.check_there(window)?;
            self.stepped(window.end(), step)?;
        }
        Ok(())
    }

    /// Writes the bytes of `page`, which the mapping does not give, as far as they can be read by themselves; says how
    /// many they are.
    fn write_page(&self, region: &Region, page: Span) -> Written<u64> {
        if !region.is_the_files() {
            return Ok(0);
        }
        let mut bytes = vec![0; page.len() as usize];
        let count = region.backing().read_by_page(page, &mut bytes);
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            match write(self.sink, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait_for_room(self.sink).map_err(WriteOut::sink)?,
                Err(errno) => return Err(WriteOut::sink(errno)),
            }
        }
        Ok(count as u64)
    }

    /// Everything before the offset `at` is done.
    fn stepped(&self, at: u64, step: &mut Step<'_>) -> Result<()> {
        stepped(step, at - self.span.start(), "read", self.span.from(at))
    }
}

/// Copies from file to file within the kernel, and how that goes.
#[derive(Debug, Default)]
pub(super) struct Copies {
    refused: bool,
}

impl Copies {
    /// Whether copying has not been refused yet, so that it is worth asking again.
    pub(super) fn work(&self) -> bool {
        !self.refused
    }

    /// One copy_file_range(2) from the start of `span` on, to the offset `to` or to where the other file stands; says
    /// how many bytes were copied.
    ///
    /// # Errors
    /// What the call says: EXDEV between two file systems, EINVAL for a range that overlaps itself, ETXTBSY for a swap
    /// file. That is, or 0 is, how it is from now on.
    pub(super) fn copy(&mut self, file: &File, span: Span, out: impl AsFd, to: Option<u64>) -> nix::Result<usize> {
        let (mut from, mut to) = (span.start() as i64, to.map(|to| to as i64));
        let len = span.len().min(COPY) as usize;
        let copied = uninterrupted(|| copy_file_range(file, Some(&mut from), &out, to.as_mut(), len));
        self.refused |= !copied.is_ok_and(|count| count > 0);
        copied
    }
}

/// Gives the pipe room for `len` bytes, as far as that is allowed; says how many bytes it holds.
fn enlarge(pipe: BorrowedFd<'_>, len: u64) -> nix::Result<u64> {
    let now = fcntl(pipe, FcntlArg::F_GETPIPE_SZ)? as u64;
    if len <= now || now >= PIPE {
        return Ok(now);
    }
    // EPERM where this user's pipes hold much already: then it stays as it is.
    let new = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE as i32)).map_or(now, |size| size as u64);
    Ok(new)
}

/// Moves the position of a file over `len` bytes that become a hole, or zeros where the file system has none.
fn leave_hole(file: BorrowedFd<'_>, len: u64) -> nix::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let at = lseek64(file, 0, Whence::SeekCur)?;
    let end = lseek64(file, len as i64, Whence::SeekCur)?;
    // Bytes of a file that was not made anew.
    let old = Span::new(at as u64, (fstat(file)?.st_size as u64).min(end as u64));
    let Some(old) = old.filter(|old| !old.is_empty()) else {
        return Ok(());
    };
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    if fallocate(file, flags, old.start() as i64, old.len() as i64).is_ok() {
        return Ok(());
    }
    let zeros = vec![0; old.len().min(64 << 10) as usize];
    let mut rest = old;
    while !rest.is_empty() {
        let len = rest.len().min(zeros.len() as u64) as usize;
        let count = uninterrupted(|| pwrite(file, &zeros[..len], rest.start() as i64))?;
        rest = rest.from(rest.start() + count as u64);
    }
    Ok(())
}

/// Makes a file at least as long as where its position is, behind a hole at the end.
fn end_here(file: BorrowedFd<'_>) -> nix::Result<()> {
    let at = lseek64(file, 0, Whence::SeekCur)?;
    if fstat(file)?.st_size < at {
        ftruncate(file, at)
    } else {
        Ok(())
    }
}

/// Waits until a descriptor that does not wait by itself takes more.
pub(super) fn wait_for_room(sink: BorrowedFd<'_>) -> nix::Result<()> {
    match poll(&mut [PollFd::new(sink, PollFlags::POLLOUT)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
