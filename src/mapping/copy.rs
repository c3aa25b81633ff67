//! Copies the bytes of a region to a descriptor, in the file's order or in another order.
//!
//! Bytes that are the file's own need not pass through the process: splice(2) moves references to pages of the page
//! cache into a pipe, and copy_file_range(2) copies from file to file (as a reflink if the file system has them).
//! Otherwise bytes are gathered in memory and written. One preadv(2) reads a whole range and puts each page at its
//! place in the output; a mapping would cost a page fault and a page table entry for each. What it cannot read is read
//! through the mapping, whose error is reported after everything before it was written.

use super::ProgressFn;
use super::access::{Operation, Source};
use super::buffer::Buffer;
use super::error::{Error, Result};
use super::order::PageOrder;
use super::range::ByteRange;
use super::region::Region;
use super::trace::uninterrupted;
use super::transfer::report_progress;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SpliceFFlags, copy_file_range, fallocate, fcntl, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{self, FsType, fstatfs};
use nix::sys::uio::{preadv, pwrite};
use nix::unistd::{Whence, ftruncate, lseek64, write};
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd};

/// The requested capacity of a pipe, in bytes: the maximum of an ordinary user (fs.pipe-max-size). With the default of
/// 64 KiB, writer and reader wake each other sixteen times as often.
const PIPE: u64 = 1 << 20;

/// The maximum length of one copy_file_range. A reflink takes no time, whatever its length; a copy does.
const COPY: u64 = 64 << 20;

/// The minimum length of a copy_file_range in another order: without a reflink, it is no faster than gathering.
const LONG: u64 = 1 << 20;

/// How many bytes are gathered before they are written: they stay in the second-level cache. For more, the page cache
/// would use larger folios. A virtual machine that reports its free pages to its host must get the memory for these
/// back from the host page by page, which takes five times as long as the copy.
const GATHERED: usize = 256 << 10;

/// The maximum number of parts of one preadv(2): IOV_MAX.
const PARTS: usize = 1024;

/// The maximum number of data ranges of a sparse file that are remembered. After them, holes are copied like data.
const EXTENTS: usize = 1 << 20;

/// File systems without a copy method of their own. There copy_file_range uses a pipe within the kernel,
/// which takes longer than two copies through a cache.
const NO_COPIES: [FsType; 2] = [statfs::EXT4_SUPER_MAGIC, statfs::TMPFS_MAGIC];

/// Where a copy failed.
#[derive(Debug)]
pub enum CopyError {
    /// Reading the region.
    Source(Error),
    /// Writing to the target.
    Target(std::io::Error),
}

impl From<Error> for CopyError {
    fn from(error: Error) -> CopyError {
        CopyError::Source(error)
    }
}

impl From<Errno> for CopyError {
    fn from(errno: Errno) -> CopyError {
        CopyError::Target(errno.into())
    }
}

/// The result of a copy.
pub type CopyResult<T> = std::result::Result<T, CopyError>;

/// How the holes of a file are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// As zeros.
    Written,
    /// As holes, if the descriptor is a regular file and not in append mode; otherwise as zeros.
    Kept,
}

/// Where the bytes are copied to.
#[derive(Debug, Clone, Copy)]
pub enum CopyTarget<'a> {
    /// A new file of the output's length that is one hole: zeros are skipped.
    NewFile(&'a File),
    /// A descriptor that is written sequentially from its present position.
    Descriptor(BorrowedFd<'a>),
}

impl Region {
    /// Writes the bytes of `range` to `target`, waiting while that is not ready. `step` gets how many bytes are done.
    ///
    /// A pipe receives references to pages of the file, which other processes can still change until they are read. The
    /// last pages, as many as the pipe holds, are copied instead, so nothing that was written changes after the call.
    ///
    /// # Errors
    /// The reason why a page cannot be read, with its offset: everything before it was written. Any error of the
    /// target.
    pub fn write_to_fd(
        &mut self,
        target: BorrowedFd<'_>,
        range: ByteRange,
        holes: Holes,
        step: &mut ProgressFn<'_>,
    ) -> CopyResult<()> {
        let is_in_file = self.source(Operation::Read, range)?.file().is_some();
        if range.is_empty() {
            return Ok(());
        }
        let kind = TargetKind::of(target);
        let method = match kind {
            _ if !is_in_file => CopyMethod::ReadWrite,
            // If the whole region is mapped, its session may store into it, or run a command that writes to the file,
            // while its pages are still in later pipes. The reader must get the bytes as they were.
            TargetKind::Pipe if self.shape().window.is_none() => CopyMethod::ReadWrite,
            TargetKind::Pipe => match enlarge(target, range.len()) {
                Ok(capacity) => CopyMethod::Splice {
                    until: range.end().saturating_sub(capacity),
                },
                Err(_) => CopyMethod::ReadWrite,
            },
            TargetKind::File => CopyMethod::between_files(target, 0),
            TargetKind::Other => CopyMethod::ReadWrite,
        };
        let keeps_holes = holes == Holes::Kept && kind == TargetKind::File;
        let mut copier = Copier {
            keeps_holes,
            linear: Some(range),
            ..Copier::new(self, CopyTarget::Descriptor(target), method, step)
        };
        if !keeps_holes {
            copier.copy(range)?;
            return copier.flush();
        }
        let copied = copier.data_and_holes(range);
        // This is done after an error as well: a hole at the end exists only once the file is long enough.
        end_here(target)?;
        copied
    }

    /// Writes the view that `layout` makes of this linear region to `target`. `step` receives how many bytes are done.
    ///
    /// # Errors
    /// The reason why a page cannot be read, with its offset; any error of the target. Part of the view is then
    /// written.
    pub fn write_view(
        &mut self,
        layout: &PageOrder,
        target: CopyTarget<'_>,
        step: &mut ProgressFn<'_>,
    ) -> CopyResult<()> {
        self.check_linear("write it out in another order", "which 'cat' writes out as it is")?;
        let file = ByteRange::first(layout.file_len());
        if let Some(mut whole) = self.of_whole_file(file) {
            return whole.write_view(layout, target, step);
        }
        let is_in_file = self.source(Operation::Read, file)?.file().is_some();
        let extents = self.extents(file)?;
        let method = match target {
            CopyTarget::NewFile(out) if is_in_file => CopyMethod::between_files(out.as_fd(), LONG),
            _ => CopyMethod::ReadWrite,
        };
        let data_from = |at: u64| {
            let index = extents.partition_point(|extent| extent.end() <= at);
            extents.get(index).map(|extent| extent.from(at))
        };
        let mut copier = Copier::new(self, target, method, step);
        for part in layout.parts(ByteRange::first(layout.len())) {
            let mut rest = part.file.intersect(file);
            // The zeros past the end of the file, in the middle of the view.
            let past_end = part.file.len() - rest.len();
            while !rest.is_empty() {
                let data = data_from(rest.start()).map_or(rest.from(rest.end()), |data| data.intersect(rest));
                let begin = if data.is_empty() { rest.end() } else { data.start() };
                copier.zeros(begin - rest.start())?;
                copier.copy(data)?;
                rest = rest.from(begin + data.len());
            }
            copier.zeros(past_end)?;
        }
        copier.flush()?;
        // Ranges that were holes have not been read.
        Ok(self.check_there(file)?)
    }

    /// The ranges of data of the file, ascending.
    fn extents(&self, file: ByteRange) -> Result<Vec<ByteRange>> {
        let mut extents = Vec::new();
        let mut at = 0;
        while let Some(data) = self.next_data(at, file)? {
            if extents.len() == EXTENTS {
                extents.push(file.from(data.start()));
                break;
            }
            extents.push(data);
            at = data.end();
        }
        Ok(extents)
    }
}

/// The kind of descriptor that the bytes are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TargetKind {
    /// A pipe or a FIFO.
    Pipe,
    /// A regular file that is written at its position.
    File,
    /// A terminal, a socket or a device, or a file in append mode, which supports nothing but write(2).
    Other,
}

impl TargetKind {
    fn of(target: BorrowedFd<'_>) -> TargetKind {
        let kind = fstat(target).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        let appends = || fcntl(target, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_APPEND.bits() != 0);
        match kind {
            Ok(SFlag::S_IFIFO) => TargetKind::Pipe,
            Ok(SFlag::S_IFREG) if !appends() => TargetKind::File,
            _ => TargetKind::Other,
        }
    }
}

/// How bytes are copied to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyMethod {
    /// splice(2) up to this offset, and then as for [`CopyMethod::ReadWrite`].
    Splice { until: u64 },
    /// copy_file_range(2), for at least this many bytes.
    KernelCopy { least: u64 },
    /// They are gathered in memory, and written from there.
    ReadWrite,
}

impl CopyMethod {
    fn between_files(target: BorrowedFd<'_>, least: u64) -> CopyMethod {
        match fstatfs(target).is_ok_and(|fs| NO_COPIES.contains(&fs.filesystem_type())) {
            true => CopyMethod::ReadWrite,
            false => CopyMethod::KernelCopy { least },
        }
    }
}

/// The state of a copy.
struct Copier<'a, 'b> {
    region: &'a mut Region,
    target: CopyTarget<'a>,
    method: CopyMethod,
    keeps_holes: bool,
    /// The whole range, if it is written in the file's order.
    linear: Option<ByteRange>,
    /// How many bytes of output precede the next one, including those that are gathered.
    done: u64,
    /// The parts to gather, in the order of the output: the file range of each, or `None` for zeros, and its length.
    parts: Vec<(Option<ByteRange>, usize)>,
    /// The sum of their lengths.
    gathered: usize,
    buffer: Buffer,
    step: &'a mut ProgressFn<'b>,
}

impl<'a, 'b> Copier<'a, 'b> {
    fn new(region: &'a mut Region, target: CopyTarget<'a>, method: CopyMethod, step: &'a mut ProgressFn<'b>) -> Self {
        Copier {
            region,
            target,
            method,
            keeps_holes: false,
            linear: None,
            done: 0,
            parts: Vec::new(),
            gathered: 0,
            buffer: Buffer::default(),
            step,
        }
    }

    /// Writes the data of `range`, and keeps its holes.
    fn data_and_holes(&mut self, range: ByteRange) -> CopyResult<()> {
        let mut at = range.start();
        while at < range.end() {
            let data = self.region.next_data(at, range)?;
            let begin = data.map_or(range.end(), ByteRange::start);
            let hole = range.intersect(ByteRange::first(begin)).from(at);
            // A range that was truncated meanwhile looks like a hole.
            let there = self.region.check_there(hole);
            let end = there.as_ref().err().and_then(Error::place).unwrap_or(begin);
            self.zeros(end.clamp(at, begin) - at)?;
            there?;
            let Some(data) = data else { break };
            self.copy(data)?;
            at = data.end();
        }
        self.flush()
    }

    /// Writes `len` zeros, or leaves a hole.
    fn zeros(&mut self, len: u64) -> CopyResult<()> {
        if len == 0 {
            return Ok(());
        }
        match self.target {
            CopyTarget::Descriptor(target) if self.keeps_holes => {
                self.flush()?;
                leave_hole(target, len)?;
            }
            CopyTarget::NewFile(_) => self.flush()?,
            CopyTarget::Descriptor(_) => {
                let mut rest = len;
                while rest > 0 {
                    rest -= self.push(None, rest)?;
                }
                return Ok(());
            }
        }
        self.done += len;
        self.report_progress()
    }

    /// Writes the bytes of `data`.
    fn copy(&mut self, data: ByteRange) -> CopyResult<()> {
        let rest = self.copy_in_kernel(data)?;
        for piece in rest.windows(GATHERED as u64) {
            let mut rest = piece;
            while !rest.is_empty() {
                let len = self.push(Some(rest), rest.len())?;
                rest = rest.from(rest.start() + len);
            }
            if self.linear.is_some() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Copies within the kernel, as far as that works. Returns the range that is left.
    fn copy_in_kernel(&mut self, data: ByteRange) -> CopyResult<ByteRange> {
        let mut rest = data;
        while !rest.is_empty() {
            if !matches!(self.method, CopyMethod::Splice { until } if rest.start() < until)
                && !matches!(self.method, CopyMethod::KernelCopy { least } if rest.len() >= least)
            {
                break;
            }
            self.flush()?;
            let file = self.region.backing().file("read")?;
            let mut from = rest.start() as i64;
            let moved = match (self.method, self.target) {
                (CopyMethod::Splice { until }, CopyTarget::Descriptor(pipe)) => {
                    let len = rest.len().min(until - rest.start()).min(PIPE) as usize;
                    uninterrupted(|| splice(file, Some(&mut from), pipe, None, len, SpliceFFlags::empty()))
                }
                (_, CopyTarget::Descriptor(out)) => copy_once(file, rest, out, None),
                (_, CopyTarget::NewFile(out)) => copy_once(file, rest, out.as_fd(), Some(self.done)),
            };
            match (moved, self.target) {
                (Ok(count), _) if count > 0 => {
                    let (moved, after) = rest.split(count as u64);
                    self.region.check_there(moved)?;
                    rest = after;
                    self.done += count as u64;
                    self.report_progress()?;
                }
                (Err(Errno::EPIPE), _) => return Err(Errno::EPIPE.into()),
                (Err(Errno::EAGAIN), CopyTarget::Descriptor(pipe)) if self.method != CopyMethod::ReadWrite => {
                    wait_for_room(pipe)?;
                }
                // The file ends here, a page cannot be read, the disk is full, or this method does not support these
                // two files. The next method finds out which.
                _ => self.method = CopyMethod::ReadWrite,
            }
        }
        Ok(rest)
    }

    /// Adds as much of `part`, which has `len` bytes, as fits. Returns how many bytes that is.
    fn push(&mut self, part: Option<ByteRange>, len: u64) -> CopyResult<u64> {
        let len = len.min((GATHERED - self.gathered) as u64);
        self.parts.push((part.map(|part| part.split(len).0), len as usize));
        self.gathered += len as usize;
        self.done += len;
        if self.gathered == GATHERED {
            self.flush()?;
        }
        Ok(len)
    }

    /// Reads the parts, and writes them.
    fn flush(&mut self) -> CopyResult<()> {
        if self.gathered == 0 {
            return Ok(());
        }
        self.buffer.resize(self.gathered)?;
        let (count, result) = read_parts(self.region, &self.parts, &mut self.buffer);
        let mut at = self.done - self.gathered as u64;
        let mut rest = &self.buffer[..count];
        // An error that does not repeat was transient.
        let mut last_error = None;
        while !rest.is_empty() {
            let written = match self.target {
                CopyTarget::NewFile(file) => pwrite(file, rest, at as i64),
                CopyTarget::Descriptor(fd) => write(fd, rest),
            };
            match (written, self.target) {
                (Ok(count), _) => {
                    at += count as u64;
                    rest = &rest[count..];
                }
                (Err(Errno::EINTR), _) => {}
                (Err(Errno::EAGAIN), CopyTarget::Descriptor(fd)) => wait_for_room(fd)?,
                (Err(errno), _) if errno == Errno::EPIPE || last_error == Some(errno) => return Err(errno.into()),
                (Err(errno), _) => last_error = Some(errno),
            }
        }
        self.parts.clear();
        self.gathered = 0;
        // The missing bytes are all of the range from there on.
        result.map_err(|error| match (self.linear, error.place()) {
            (Some(range), Some(bad)) if error.view.is_none() => Error {
                span: Some(range.from(bad)),
                ..error
            },
            _ => error,
        })?;
        self.report_progress()
    }

    fn report_progress(&mut self) -> CopyResult<()> {
        Ok(match self.linear {
            Some(range) => report_progress(self.step, self.done, "read", range.from(range.start() + self.done)),
            None => (self.step)(self.done)
                .map_err(|super::Interrupted(signal)| Error::new("write", None, super::ErrorKind::Interrupted(signal))),
        }?)
    }
}

/// One copy_file_range(2) from the start of `range`, to the offset `to` or to the position of the other file. Returns
/// how many bytes were copied.
///
/// # Errors
/// EXDEV between two file systems, EINVAL for a range that overlaps itself, ETXTBSY for a swap file, and others.
fn copy_once(file: &File, range: ByteRange, out: BorrowedFd<'_>, to: Option<u64>) -> nix::Result<usize> {
    let (mut from, mut to) = (range.start() as i64, to.map(|to| to as i64));
    let len = range.len().min(COPY) as usize;
    uninterrupted(|| copy_file_range(file, Some(&mut from), out, to.as_mut(), len))
}

/// Reads the parts into `buffer`, one after the other. Returns how many bytes are valid, and the error of the others.
fn read_parts(region: &mut Region, parts: &[(Option<ByteRange>, usize)], buffer: &mut [u8]) -> (usize, Result<()>) {
    let all = parts.iter().filter_map(|(range, _)| *range);
    let Some(all) = all.reduce(ByteRange::join) else {
        buffer.fill(0);
        return (buffer.len(), Ok(()));
    };
    let gathered = match region.source(Operation::Read, all) {
        Ok(source) => parts.len() > 1 && gather(&source, parts, buffer).is_ok(),
        Err(error) => return (0, Err(error)),
    };
    if gathered {
        return (buffer.len(), Ok(()));
    }
    let mut done = 0;
    for (range, len) in parts {
        let slot = &mut buffer[done..done + len];
        let result = match range {
            Some(range) => read_part(region, *range, slot),
            None => {
                slot.fill(0);
                (*len, Ok(()))
            }
        };
        done += result.0;
        if result.1.is_err() {
            return (done, result.1);
        }
    }
    (done, Ok(()))
}

/// Reads a part. The bytes that reading the file did not return are read through the mapping.
fn read_part(region: &mut Region, range: ByteRange, slot: &mut [u8]) -> (usize, Result<()>) {
    let count = match region.source(Operation::Read, range) {
        Ok(mut source) => match source.read_into(range, slot) {
            (count, Err(_)) if source.file().is_some() => count,
            read => return read,
        },
        Err(error) => return (0, Err(error)),
    };
    // Whole pages keep the rest of the buffer aligned, which is read faster.
    let count = count / region.page() as usize * region.page() as usize;
    let rest = range.from(range.start() + count as u64);
    match region.mapped_source(rest) {
        Ok(mut source) => {
            let (more, result) = source.read_into(rest, &mut slot[count..]);
            (count + more, result)
        }
        Err(error) => (count, Err(error)),
    }
}

/// Reads ranges that are adjacent in the file, in whatever order they are here, with one preadv(2).
///
/// # Errors
/// Any error of preadv(2); EFAULT if the file ends.
fn gather(source: &Source<'_>, parts: &[(Option<ByteRange>, usize)], buffer: &mut [u8]) -> nix::Result<()> {
    let file = source.file().ok_or(Errno::EBADF)?;
    let mut slots = Vec::with_capacity(parts.len());
    let mut rest = buffer;
    for (range, len) in parts {
        let (slot, after) = rest.split_at_mut(*len);
        match range {
            Some(range) => slots.push((*range, slot)),
            None => slot.fill(0),
        }
        rest = after;
    }
    slots.sort_unstable_by_key(|(range, _)| range.start());
    let mut slots = slots.into_iter().peekable();
    while let Some((first, slot)) = slots.next() {
        let mut range = first;
        let mut parts = vec![IoSliceMut::new(slot)];
        while let Some((next, slot)) = slots.next_if(|(next, _)| next.start() == range.end() && parts.len() < PARTS) {
            range = range.join(next);
            parts.push(IoSliceMut::new(slot));
        }
        let mut parts = &mut parts[..];
        while !range.is_empty() {
            match uninterrupted(|| preadv(file, parts, range.start() as i64))? {
                0 => return Err(Errno::EFAULT),
                count => {
                    range = range.from(range.start() + count as u64);
                    IoSliceMut::advance_slices(&mut parts, count);
                }
            }
        }
    }
    Ok(())
}

/// Enlarges the pipe to hold `len` bytes, as far as that is allowed. Returns its capacity in bytes.
fn enlarge(pipe: BorrowedFd<'_>, len: u64) -> nix::Result<u64> {
    let now = fcntl(pipe, FcntlArg::F_GETPIPE_SZ)? as u64;
    if len <= now || now >= PIPE {
        return Ok(now);
    }
    // EPERM if this user's pipes hold a lot already. The pipe then keeps its capacity.
    let new = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE as i32)).map_or(now, |size| size as u64);
    Ok(new)
}

/// Advances the position of a file by `len` bytes, which become a hole, or zeros if the file system has no holes.
fn leave_hole(file: BorrowedFd<'_>, len: u64) -> nix::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let at = lseek64(file, 0, Whence::SeekCur)?;
    let end = lseek64(file, len as i64, Whence::SeekCur)?;
    // Bytes of a file that existed before.
    let old = ByteRange::new(at as u64, (fstat(file)?.st_size as u64).min(end as u64));
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

/// Extends a file to its position if it is shorter, after a hole at the end.
fn end_here(file: BorrowedFd<'_>) -> nix::Result<()> {
    let at = lseek64(file, 0, Whence::SeekCur)?;
    if fstat(file)?.st_size < at {
        ftruncate(file, at)?;
    }
    Ok(())
}

/// Waits until a nonblocking descriptor accepts more.
fn wait_for_room(target: BorrowedFd<'_>) -> nix::Result<()> {
    match poll(&mut [PollFd::new(target, PollFlags::POLLOUT)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
