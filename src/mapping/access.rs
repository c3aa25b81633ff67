//! The one decision about the bytes of a region: whether they may be read at all (rights, the end of the file, the
//! memory of a device, a child that did not inherit the mapping), and whether they come from the file or through the
//! mapping.
//!
//! Bytes of a region are read only through a [`Source`], which only [`Region::source`] makes; the exception is
//! register.rs. Bytes that are the file's own are read by pread(2) on any number of threads, without page faults and
//! without windows that make threads wait for each other. Bytes that are only in the mapping are read by
//! process_vm_readv(2).

use super::backing::{Backing, Kind};
use super::buffer::Buffer;
use super::error::{AccessDenied, Error, ErrorKind, Result};
use super::options::{Populate, Prot, Segment};
use super::range::ByteRange;
use super::region::Region;
use super::trace::uninterrupted;
use nix::errno::Errno;
use nix::sys::uio::pread;
use std::fs::File;

/// What the bytes are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To get their contents. All of them must exist.
    Read,
    /// To compare their contents. Bytes past the end of the file count as zeros, even in a mapping that exceeds it.
    Compare,
}

/// Where the bytes of a range come from. Only the range that was asked for can be read.
#[derive(Debug)]
pub struct Source<'a> {
    origin: ByteOrigin<'a>,
    /// The part of the requested range that exists.
    range: ByteRange,
}

#[derive(Debug)]
enum ByteOrigin<'a> {
    /// They are read by pread(2).
    File(&'a Backing, &'a File),
    /// They are only in the mapping.
    Mapping(&'a mut Region),
}

impl Region {
    /// Decides where the bytes of `range` come from.
    ///
    /// # Errors
    /// [`ErrorKind::PastEnd`], [`ErrorKind::NotMapped`]; [`ErrorKind::AccessDenied`] without the right to read;
    /// [`ErrorKind::DeviceMemory`]; [`ErrorKind::NotInherited`]; any error of mapping the range, even if it would not
    /// be read through the mapping.
    pub fn source(&mut self, operation: Operation, range: ByteRange) -> Result<Source<'_>> {
        let range = match operation {
            Operation::Read => range,
            Operation::Compare => range.intersect(ByteRange::first(self.length().max(self.span().end()))),
        };
        // The whole range to compare may lie past the end.
        if operation == Operation::Read || !range.is_empty() {
            self.check_read(range)?;
        }
        self.refuse_device_memory("read", range)?;
        if !range.is_empty() {
            // A range that cannot be mapped is refused, however it would be read.
            self.mapped_len_from(range.start())?;
        }
        let is_in_file = self.matches_page_cache() && range.end() <= self.backing().facts().len;
        let origin = match is_in_file {
            true => ByteOrigin::File(self.backing(), self.backing().file("read")?),
            false => ByteOrigin::Mapping(self),
        };
        Ok(Source { origin, range })
    }

    /// The source of `range` through the mapping, even if the file has the bytes: used where reading the file failed.
    ///
    /// # Errors
    /// As for [`Region::source`].
    pub(super) fn mapped_source(&mut self, range: ByteRange) -> Result<Source<'_>> {
        self.source(Operation::Read, range)?;
        let origin = ByteOrigin::Mapping(self);
        Ok(Source { origin, range })
    }

    /// Reads the bytes at file offset `offset`.
    ///
    /// # Errors
    /// As for [`Region::source`]; the reason why a page cannot be read, with the offset of the first byte that was not
    /// read. The bytes before it in `buf` are valid.
    pub fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let range = ByteRange::at(offset, buf.len() as u64);
        let range = self.check("read", range)?;
        self.source(Operation::Read, range)?.read_into(range, buf).1
    }

    /// Whether stores reach a file.
    pub fn is_shared_file(&self) -> bool {
        self.backing().facts().is_file() && self.shape().visibility == super::Visibility::Shared
    }

    /// Whether a byte here is what read(2) returns for the file at that offset. This is false for private pages, pages
    /// of a view, and files without pages in the page cache.
    fn matches_page_cache(&self) -> bool {
        let kind = self.backing().facts().kind;
        let has_pages = matches!(kind, Kind::Regular | Kind::BlockDevice | Kind::Memfd);
        has_pages && self.is_shared_file() && self.layout().is_none()
    }

    /// Returns `range` if it lies within the region.
    ///
    /// # Errors
    /// [`ErrorKind::PastEnd`], [`ErrorKind::NotMapped`], [`ErrorKind::NotInherited`].
    pub fn check(&self, action: &'static str, range: Option<ByteRange>) -> Result<ByteRange> {
        match range {
            _ if self.is_not_inherited() => Err(Error::new(action, range, ErrorKind::NotInherited)),
            Some(range) if self.span().contains(range) => Ok(range),
            _ => Err(self.outside(action, range.unwrap_or(self.span()))),
        }
    }

    pub(super) fn check_read(&self, range: ByteRange) -> Result<()> {
        self.check("read", Some(range))?;
        match self.shape().prot {
            Prot::None => Err(Error::new("read", Some(range), ErrorKind::AccessDenied(AccessDenied::NoRead))),
            _ => Ok(()),
        }
    }

    /// Returns `range` if it lies within the region and within the file. On tmpfs, bytes that are stored past the end
    /// appear when the file grows. The zeros in the middle of a view, past the end of the file, cannot be stored into.
    pub(super) fn check_store(&self, range: Option<ByteRange>) -> Result<ByteRange> {
        let range = self.check("store", range)?;
        let len = self.backing().facts().len;
        let Some(layout) = self.layout() else {
            return match range.end() {
                end if end > len => Err(Error::new("store", Some(range), ErrorKind::PastEnd { len })),
                _ => Ok(range),
            };
        };
        match layout.parts(range).find(|part| part.file.end() > len) {
            None => Ok(range),
            Some(part) => {
                let past_end = part.file.from(len);
                Err(Error {
                    view: Some(part.view + (past_end.start() - part.file.start())),
                    ..Error::new("store", Some(past_end), ErrorKind::PastEnd { len })
                })
            }
        }
    }

    /// Checks that all of `pieces` can be stored. Returns the number of their bytes, and the range from the lowest to
    /// the highest.
    pub(super) fn check_stores(&mut self, pieces: &[Segment]) -> Result<(u64, Option<ByteRange>)> {
        let Some(first) = pieces.first().map(|piece| piece.range()) else {
            return Ok((0, None));
        };
        if !self.shape().prot.writes() {
            let cause = ErrorKind::AccessDenied(AccessDenied::ReadOnly);
            return Err(Error::new("store", Some(first), cause));
        }
        let total = pieces.iter().map(|piece| piece.len()).fold(0, u64::saturating_add);
        // For a million segments, checking the range from the lowest to the highest is faster than checking each.
        let mut ranges = pieces.iter().map(|piece| ByteRange::at(piece.at(), piece.len()));
        let all = ranges.try_fold(first, |all, range| Some(all.join(range?)));
        if self.layout().is_some() || self.check_store(all).is_err() {
            for piece in pieces {
                self.check_store(ByteRange::at(piece.at(), piece.len()))?;
            }
        }
        self.refuse_device_memory("store", first)?;
        Ok((total, all))
    }

    /// Fails for device memory: the kernel's copies use access widths of its own choice, and some fail with a bare
    /// EFAULT.
    pub(super) fn refuse_device_memory(&mut self, action: &'static str, range: ByteRange) -> Result<()> {
        if !self.backing().facts().device_memory || range.is_empty() {
            return Ok(());
        }
        // Most files of sysfs cannot be mapped at all, and that is then the error.
        self.mapped_len_from(range.start())?;
        match self.is_device_memory() {
            true => Err(Error::new(action, Some(range), ErrorKind::DeviceMemory)),
            false => Ok(()),
        }
    }

    /// Checks that no part of `range` is past the end of the file. If the file was truncated since its length was last
    /// read, its end is exact; otherwise the rest of the page with the end, which reads as zeros, is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Shrunk`], [`ErrorKind::PastEnd`], with the first offset that is missing.
    pub fn check_there(&self, range: ByteRange) -> Result<()> {
        self.check_still("read", range, Populate::Read)
    }

    pub(super) fn check_still(&self, action: &'static str, range: ByteRange, how: Populate) -> Result<()> {
        if range.is_empty() || !self.backing().facts().is_file() {
            return Ok(());
        }
        let (known, now) = (self.backing().facts().len, self.backing().usage()?.len);
        let end = if now < known {
            now
        } else {
            ByteRange::first(known).pages(self.page()).end()
        };
        let gone = match self.layout() {
            None => range.from(end),
            Some(layout) => {
                let cut = layout.parts(range).find(|part| part.file.end() > end);
                range.from(cut.map_or(range.end(), |part| part.view + end.saturating_sub(part.file.start())))
            }
        };
        match gone.is_empty() {
            true => Ok(()),
            false => Err(self.fault(action, gone, how)),
        }
    }
}

impl<'a> Source<'a> {
    /// The source for one more thread; `None` if the bytes are only in the mapping.
    pub(super) fn try_clone(&self) -> Option<Source<'a>> {
        match self.origin {
            ByteOrigin::File(backing, file) => Some(Source {
                origin: ByteOrigin::File(backing, file),
                range: self.range,
            }),
            ByteOrigin::Mapping(_) => None,
        }
    }

    /// The source for a range of the file as it is now, which may be longer than it was.
    pub(super) fn of_file_now(&self, range: ByteRange) -> Option<Source<'a>> {
        self.try_clone().map(|source| Source { range, ..source })
    }

    /// The file, if the bytes are the file's own: for system calls that copy within the kernel.
    pub(super) fn file(&self) -> Option<&File> {
        match self.origin {
            ByteOrigin::File(_, file) => Some(file),
            ByteOrigin::Mapping(_) => None,
        }
    }

    /// The backing, if the bytes are the file's own.
    pub(super) fn backing(&self) -> Option<&'a Backing> {
        match self.origin {
            ByteOrigin::File(backing, _) => Some(backing),
            ByteOrigin::Mapping(_) => None,
        }
    }

    /// Replaces the contents of `buffer` by the bytes of `range`. Bytes past the end are zeros.
    ///
    /// # Errors
    /// As for [`Region::read`]; `buffer` then contains the bytes before the error.
    pub(super) fn read(&mut self, range: ByteRange, buffer: &mut Buffer) -> Result<()> {
        buffer.resize(range.len() as usize)?;
        let (count, result) = self.read_into(range, buffer);
        buffer.truncate(count);
        result
    }

    /// Reads the bytes of `range` into `buf`, which has the same length. Returns how many bytes are valid, and the
    /// error of the others.
    pub(super) fn read_into(&mut self, range: ByteRange, buf: &mut [u8]) -> (usize, Result<()>) {
        let page = super::page_size() as usize;
        debug_assert!(buf.len() <= page || buf.as_ptr().addr().is_multiple_of(page));
        let there = range.intersect(self.range);
        let (buf, past_end) = buf.split_at_mut(there.len() as usize);
        past_end.fill(0);
        match self.read_there(there, buf) {
            Ok(()) => (range.len() as usize, Ok(())),
            Err(error) => {
                let bad = error.place().unwrap_or(there.start());
                (bad.saturating_sub(there.start()).min(there.len()) as usize, Err(error))
            }
        }
    }

    /// Reads all of `range`, which exists.
    ///
    /// # Errors
    /// The error of reading the byte at its offset. The bytes before it are valid.
    fn read_there(&mut self, range: ByteRange, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let rest = range.from(range.start() + done as u64);
            let into = &mut buf[done..];
            let read = match &mut self.origin {
                ByteOrigin::File(_, file) => uninterrupted(|| pread(*file, &mut *into, rest.start() as i64)),
                ByteOrigin::Mapping(region) => region.read_into(rest.start(), into)?,
            };
            // A short count is an exact prefix: the next iteration gets the error of the bad page.
            if let Ok(count @ 1..) = read {
                done += count;
                continue;
            }
            match (&self.origin, read) {
                (ByteOrigin::File(backing, _), Ok(_)) => {
                    let len = backing.usage()?.len;
                    let cause = if len < rest.end() {
                        ErrorKind::Shrunk { len }
                    } else {
                        ErrorKind::Vanished
                    };
                    return Err(Error::new("read", Some(rest), cause));
                }
                (ByteOrigin::File(backing, _), Err(errno)) => match backing.read_by_page(rest, into) {
                    0 => return Err(Error::sys("read", Some(rest), errno)),
                    count => done += count,
                },
                (ByteOrigin::Mapping(region), Ok(_) | Err(Errno::EFAULT)) => {
                    region.check_there(range.split(done as u64).0)?;
                    return Err(region.fault("read", rest, Populate::Read));
                }
                (_, Err(errno)) => return Err(Error::sys("read", Some(rest), errno)),
            }
        }
        match &self.origin {
            // If the end of the file has moved into a page, the rest of that page reads as zeros without an error.
            ByteOrigin::Mapping(region) => region.check_there(range),
            ByteOrigin::File(..) => Ok(()),
        }
    }

    /// The next range of data at or after `from`, within `range`. Everything else reads as zeros.
    pub(super) fn next_data(&self, from: u64, range: ByteRange) -> Result<Option<ByteRange>> {
        let within = range.intersect(self.range).from(from);
        match &self.origin {
            _ if within.is_empty() => Ok(None),
            ByteOrigin::File(backing, _) => backing.next_data(from, within),
            ByteOrigin::Mapping(region) => region.next_data(from, within),
        }
    }

    /// Checks that `range`, which was reported as a hole, has not been truncated.
    ///
    /// # Errors
    /// [`ErrorKind::Shrunk`] at the end of the file.
    pub(super) fn check_there(&self, range: ByteRange) -> Result<()> {
        let range = range.intersect(self.range);
        match &self.origin {
            _ if range.is_empty() => Ok(()),
            ByteOrigin::File(backing, _) => match backing.usage()?.len {
                len if len < range.end() => Err(Error::new("read", Some(range.from(len)), ErrorKind::Shrunk { len })),
                _ => Ok(()),
            },
            ByteOrigin::Mapping(region) => region.check_there(range),
        }
    }
}
