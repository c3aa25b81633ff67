//! The space that a file takes up: its length, its blocks and its holes. No `unsafe` here.

use super::backing::{Backing, Kind, errno_of};
use super::error::{Cause, Error, Result};
use super::span::Span;
use super::trace::traced;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{self, fstatfs};
use nix::unistd::{Whence, lseek64};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Space that a file occupies on its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// `st_size`, bytes.
    pub len: u64,
    /// `st_blocks`, in bytes.
    pub allocated: u64,
}

impl Backing {
    /// Length and blocks as they are now.
    pub fn usage(&self) -> Result<Usage> {
        let meta = self.metadata()?;
        Ok(Usage {
            len: if matches!(self.facts().kind, Kind::Regular | Kind::Memfd) {
                meta.len()
            } else {
                self.facts().len
            },
            allocated: meta.blocks() * 512,
        })
    }

    /// How many bytes its file system has left, for everybody and for root; one that does not say has no end.
    pub fn room(&self) -> u64 {
        match self.fd().map(fstatfs) {
            Some(Ok(fs)) if fs.blocks() > 0 => fs.blocks_free().saturating_mul(fs.block_size() as u64),
            _ => u64::MAX,
        }
    }

    /// The next stretch of data at or behind `from`, within `span`: lseek(2) with SEEK_DATA and SEEK_HOLE.
    /// `None` when there are only holes. A file system that does not know its holes has none.
    pub fn next_data(&self, from: u64, span: Span) -> Result<Option<Span>> {
        let rest = span.from(from);
        let Some(fd) = self.fd().filter(|_| self.facts().has_holes()) else {
            return Ok(Some(rest).filter(|rest| !rest.is_empty()));
        };
        if rest.is_empty() {
            return Ok(None);
        }
        let failed = |errno| Err(Error::sys("look for holes in", Some(rest), errno));
        let seek = |at: u64, whence| lseek64(fd, at as i64, whence);
        let start = match seek(rest.start(), Whence::SeekData) {
            Ok(at) => at as u64,
            Err(Errno::ENXIO) => return Ok(None),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(rest)),
            Err(errno) => return failed(errno),
        };
        let end = match seek(start, Whence::SeekHole) {
            Ok(at) => at as u64,
            Err(Errno::ENXIO) => return Ok(None), // truncated between the two calls
            Err(errno) => return failed(errno),
        };
        let data = Span::first(end.max(start)).from(start);
        Ok(Some(data.intersect(span)).filter(|data| !data.is_empty()))
    }

    /// ftruncate(2). The caller has unmapped what a shrinking would take away.
    ///
    /// # Errors
    /// EFBIG for what no file offset can count, too; what ftruncate says.
    pub fn set_len(&mut self, len: u64) -> Result<()> {
        let file = self.file("set its length")?;
        let fd = file.as_raw_fd();
        let failed = |errno| Error::sys("set its length", None, errno);
        if i64::try_from(len).is_err() {
            return Err(failed(Errno::EFBIG));
        }
        self.mark_written();
        let result = traced(file.set_len(len).map(|()| 0).map_err(|error| errno_of(&error)), || {
            format!("ftruncate({fd}, {len})")
        });
        let refused = |errno| Error::new("set its length", None, self.write_refusal(errno, Some(len)));
        result.map_err(refused)?;
        self.set_memory_len(len);
        Ok(())
    }

    /// Gives every byte of `span` a block, so that no later store can fail for want of one; contents and length
    /// stay. fallocate(2) with FALLOC_FL_KEEP_SIZE; on xfs, where a store into a reflink takes a new block, with
    /// FALLOC_FL_UNSHARE_RANGE, which gives it that. btrfs promises nothing.
    pub fn allocate(&self, span: Span) -> Result<()> {
        let fs = fstatfs(self.file("allocate")?).map(|fs| fs.filesystem_type());
        let flags = match fs {
            Ok(statfs::XFS_SUPER_MAGIC) => FallocateFlags::FALLOC_FL_UNSHARE_RANGE,
            _ => FallocateFlags::empty(),
        };
        self.fallocate("allocate", flags | FallocateFlags::FALLOC_FL_KEEP_SIZE, span)
    }

    /// Zeroes `span` and keeps its blocks: FALLOC_FL_ZERO_RANGE.
    ///
    /// # Errors
    /// EOPNOTSUPP where the file system cannot (tmpfs, hugetlbfs, btrfs's older kernels).
    pub fn zero_range(&self, span: Span) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.drop_privileges()?;
        self.fallocate("zero", flags, span)
    }

    /// Zeroes `span` and frees the blocks that lie in it whole: FALLOC_FL_PUNCH_HOLE.
    pub fn punch(&self, span: Span) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.drop_privileges()?;
        self.fallocate("punch a hole in", flags, span)
    }

    fn fallocate(&self, action: &'static str, flags: FallocateFlags, span: Span) -> Result<()> {
        let file = self.file(action)?;
        self.mark_written();
        let result = traced(
            fallocate(file, flags, span.start() as i64, span.len() as i64).map(|()| 0),
            || {
                let flags: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
                format!(
                    "fallocate({}, {}, {}, {})",
                    file.as_raw_fd(),
                    flags.join("|"),
                    span.start(),
                    span.len()
                )
            },
        );
        let cause = |errno| match errno {
            Errno::ENOSPC | Errno::EDQUOT => Cause::Full(errno),
            errno => self.write_refusal(errno, Some(span.end()).filter(|end| *end > self.facts().len)),
        };
        result
            .map(drop)
            .map_err(|errno| Error::new(action, Some(span), cause(errno)))
    }
}
