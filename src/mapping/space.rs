//! The space that a file takes: its length, its blocks and its holes. No `unsafe` here.

use super::backing::{Backing, Kind, errno_of};
use super::error::{AccessDenied, Error, ErrorKind, Result};
use super::range::ByteRange;
use super::trace::traced;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{self, fstatfs};
use nix::unistd::{Whence, lseek64};
use std::cmp::Ordering;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Space that a file occupies on its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceUsage {
    /// `st_size`, bytes.
    pub len: u64,
    /// `st_blocks`, in bytes.
    pub allocated: u64,
}

/// How many bytes after the old end are searched for data that another process appended.
const APPENDED: u64 = 4096;

impl Backing {
    /// The present length and blocks.
    pub fn usage(&self) -> Result<SpaceUsage> {
        let meta = self.metadata()?;
        Ok(SpaceUsage {
            len: if matches!(self.facts().kind, Kind::Regular | Kind::Memfd) {
                meta.len()
            } else {
                self.facts().len
            },
            allocated: meta.blocks() * 512,
        })
    }

    /// The sector size of a block device in bytes, from sysfs; `None` for a file, and if sysfs does not have it. A
    /// partition has the sector size of its disk.
    pub fn sector(&self) -> Option<u64> {
        let meta = self.metadata().ok().filter(|_| self.facts().kind == Kind::BlockDevice)?;
        let folder = format!("/sys/dev/block/{}:{}", major(meta.rdev()), minor(meta.rdev()));
        let read = |above: &str| std::fs::read_to_string(format!("{folder}{above}/queue/logical_block_size")).ok();
        let text = read("").or_else(|| read("/.."))?;
        text.trim().parse().ok().filter(|sector: &u64| sector.is_power_of_two())
    }

    /// How many bytes are free on its file system, including those reserved for root. A file system that does not
    /// report it is unlimited.
    pub fn room(&self) -> u64 {
        match self.fd().map(fstatfs) {
            Some(Ok(fs)) if fs.blocks() > 0 => fs.blocks_free().saturating_mul(fs.block_size() as u64),
            _ => u64::MAX,
        }
    }

    /// The next range of data at or after `from`, within `span`: lseek(2) with SEEK_DATA and SEEK_HOLE. `None` if there
    /// are only holes. On a file system that does not track holes, everything is data; also on one that stored bytes
    /// are sent to only at close(2), because it may report a hole where there is data by now.
    pub fn next_data(&self, from: u64, span: ByteRange) -> Result<Option<ByteRange>> {
        let rest = span.from(from);
        let Some(fd) = self.fd().filter(|_| self.facts().has_holes() && !self.facts().sends_at_close) else {
            return Ok(Some(rest).filter(|rest| !rest.is_empty()));
        };
        if rest.is_empty() {
            return Ok(None);
        }
        let failed = |errno| Err(Error::sys("search for holes in", Some(rest), errno));
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
        let data = ByteRange::first(end.max(start)).from(start);
        Ok(Some(data.intersect(span)).filter(|data| !data.is_empty()))
    }

    /// Sets the length by ftruncate(2). The caller has unmapped the pages that shrinking removes.
    ///
    /// # Errors
    /// EFBIG, also for a length that exceeds all file offsets; any error of ftruncate.
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

    /// Checks that the file still has its last known length.
    ///
    /// # Errors
    /// [`ErrorKind::Shrunk`] or [`AccessDenied::FileGrown`] if it has another length.
    pub(super) fn unless_moved(&self) -> Result<()> {
        let (now, known) = (self.usage()?.len, self.facts().len);
        match now.cmp(&known) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Error::new("resize", None, ErrorKind::Shrunk { len: now })),
            Ordering::Greater => Err(Error::new("resize", None, ErrorKind::AccessDenied(AccessDenied::FileGrown))),
        }
    }

    /// [`Backing::set_len`], unless the length has changed since it was last read. Bytes that another process appends
    /// between this check and the call are cut off, because no call can compare and set the length.
    pub(super) fn truncate(&mut self, len: u64) -> Result<()> {
        self.unless_moved()?;
        self.set_len(len)
    }

    /// Extends the file by `added`, the bytes after its end, and allocates `blocks`, which ends where `added` does.
    /// This uses only fallocate(2), which never shortens a file, whatever another process appends meanwhile.
    ///
    /// # Errors
    /// As for [`Backing::unless_moved`]; [`AccessDenied::GrownTogether`] if another process appended between the
    /// check of the length and the call, and may have zeros of ours after its bytes; any error of fallocate.
    pub(super) fn extend(&mut self, blocks: ByteRange, added: ByteRange) -> Result<()> {
        let (last, none) = (added.from(added.end() - 1), FallocateFlags::empty());
        // A failed call may have set a length before the requested one (ext4), so all blocks are allocated before the
        // length is set. tmpfs never does that, and counts a block that is allocated twice as written.
        let is_tmpfs = self
            .fd()
            .map(fstatfs)
            .is_some_and(|fs| fs.is_ok_and(|fs| fs.filesystem_type() == statfs::TMPFS_MAGIC));
        if is_tmpfs {
            self.fallocate("allocate", none, blocks)?;
        } else {
            self.allocate(blocks)?;
            self.unless_moved()?;
            match self.fallocate("set its length", none, last) {
                Err(error) if error.cause == ErrorKind::Sys(Errno::EOPNOTSUPP) => return self.truncate(added.end()),
                other => other?,
            }
        }
        // From here on the file is longer, and must be truncated again if a check fails.
        let before = self.facts().len;
        self.set_memory_len(added.end());
        let now = self.usage()?.len;
        if now < added.end() {
            self.set_memory_len(before);
            return Err(Error::new("resize", None, ErrorKind::Shrunk { len: now }));
        }
        // Bytes that were appended after the call are after the new end, and are not ours. Bytes that were appended
        // before it are at the old end, where there are only zeros otherwise. Appended zeros cannot be distinguished
        // from ours.
        if !self.has_bytes(added.intersect(ByteRange::at(added.start(), APPENDED).unwrap_or(added)))? {
            return Ok(());
        }
        // If all of it was written by the other process, the call has changed nothing.
        if now > added.end() && self.has_bytes(last)? {
            self.set_memory_len(before);
            return Err(Error::new("resize", None, ErrorKind::AccessDenied(AccessDenied::FileGrown)));
        }
        self.set_memory_len(now);
        Err(Error::new("resize", None, ErrorKind::AccessDenied(AccessDenied::GrownTogether)))
    }

    /// Whether `span` contains anything but zeros. Does not read blocks that were never written, because they would
    /// count as written afterwards. The range has at most [`APPENDED`] bytes.
    fn has_bytes(&self, span: ByteRange) -> Result<bool> {
        let mut bytes = [0; APPENDED as usize];
        let mut at = span.start();
        while let Some(data) = self.next_data(at, span)? {
            let bytes = &mut bytes[..(data.len().min(APPENDED)) as usize];
            let read = self.file("read")?.read_exact_at(bytes, data.start());
            read.map_err(|error| Error::io("read", &error))?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
            at = data.end();
        }
        Ok(false)
    }

    /// Tests whether fallocate(2) is allowed, by punching a hole where no data can be. It is not allowed for an active
    /// swap file (ETXTBSY).
    pub(super) fn probe_fallocate(&self) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let past_all_data = i64::MAX as u64 >> 16 << 16;
        let far = ByteRange::first(past_all_data + 4096).from(past_all_data);
        let probed = self.fallocate("set its length", flags, far);
        probed.map_err(|error| Error { span: None, ..error })
    }

    /// Fails for a memfd that is sealed against writing, for which a mapping that stores would fail.
    pub fn unless_sealed(&self) -> Result<()> {
        let seals = self.fd().and_then(|fd| fcntl(fd, FcntlArg::F_GET_SEALS).ok());
        let sealed = seals.is_some_and(|seals| seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) != 0);
        match sealed {
            true => Err(Error::new("write to it", None, ErrorKind::AccessDenied(AccessDenied::Sealed))),
            false => Ok(()),
        }
    }

    /// Allocates a block for every byte of `span`, so that no later store can fail for lack of one. Contents and length
    /// do not change. Uses fallocate(2) with FALLOC_FL_KEEP_SIZE, and on xfs with FALLOC_FL_UNSHARE_RANGE, because
    /// there a store into a reflink takes a new block. On btrfs there is no such guarantee.
    pub fn allocate(&self, span: ByteRange) -> Result<()> {
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
    /// EOPNOTSUPP if the file system does not support it (tmpfs, hugetlbfs, older kernels on btrfs).
    pub fn zero_range(&self, span: ByteRange) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.drop_privileges()?;
        self.fallocate("zero", flags, span)
    }

    /// Zeroes `span` and frees the blocks that lie in it entirely: FALLOC_FL_PUNCH_HOLE.
    pub fn punch(&self, span: ByteRange) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.drop_privileges()?;
        self.fallocate("punch a hole in", flags, span)
    }

    fn fallocate(&self, action: &'static str, flags: FallocateFlags, span: ByteRange) -> Result<()> {
        let file = self.file(action)?;
        self.mark_written();
        let result = traced(fallocate(file, flags, span.start() as i64, span.len() as i64).map(|()| 0), || {
            let names: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
            format!(
                "fallocate({}, {}, {}, {})",
                file.as_raw_fd(),
                if names.is_empty() { "0".into() } else { names.join("|") },
                span.start(),
                span.len()
            )
        });
        let cause = |errno| match errno {
            Errno::ENOSPC | Errno::EDQUOT => ErrorKind::Full(errno),
            errno => self.write_refusal(errno, Some(span.end()).filter(|end| *end > self.facts().len)),
        };
        result.map(drop).map_err(|errno| Error::new(action, Some(span), cause(errno)))
    }
}
