//! The space that a file takes up: its length, its blocks and its holes. No `unsafe` here.

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

/// How many bytes behind the old end are looked at for what another process appended.
const APPENDED: u64 = 4096;

impl Backing {
    /// Length and blocks as they are now.
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

    /// The sector of a block device, in bytes, as sysfs has it; `None` for a file, and where sysfs does not say. A
    /// partition has that of its disk.
    pub fn sector(&self) -> Option<u64> {
        let meta = self
            .metadata()
            .ok()
            .filter(|_| self.facts().kind == Kind::BlockDevice)?;
        let folder = format!("/sys/dev/block/{}:{}", major(meta.rdev()), minor(meta.rdev()));
        let read = |above: &str| std::fs::read_to_string(format!("{folder}{above}/queue/logical_block_size")).ok();
        let text = read("").or_else(|| read("/.."))?;
        text.trim().parse().ok().filter(|sector: &u64| sector.is_power_of_two())
    }

    /// How many bytes its file system has left, for everybody and for root; one that does not say has no end.
    pub fn room(&self) -> u64 {
        match self.fd().map(fstatfs) {
            Some(Ok(fs)) if fs.blocks() > 0 => fs.blocks_free().saturating_mul(fs.block_size() as u64),
            _ => u64::MAX,
        }
    }

    /// The next stretch of data at or behind `from`, within `span`: lseek(2) with SEEK_DATA and SEEK_HOLE.
    /// `None` when there are only holes. A file system that does not know its holes has none, and one that is only sent
    /// later what was stored may call a hole what has data by now.
    pub fn next_data(&self, from: u64, span: ByteRange) -> Result<Option<ByteRange>> {
        let rest = span.from(from);
        let Some(fd) = self
            .fd()
            .filter(|_| self.facts().has_holes() && !self.facts().sends_at_close)
        else {
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

    /// Whether the file has the length that is known of it.
    ///
    /// # Errors
    /// [`ErrorKind::Shrunk`] and [`AccessDenied::FileGrown`] where it has another.
    pub(super) fn unless_moved(&self) -> Result<()> {
        let (now, known) = (self.usage()?.len, self.facts().len);
        match now.cmp(&known) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Error::new("resize", None, ErrorKind::Shrunk { len: now })),
            Ordering::Greater => Err(Error::new(
                "resize",
                None,
                ErrorKind::AccessDenied(AccessDenied::FileGrown),
            )),
        }
    }

    /// [`Backing::set_len`], unless the length has changed since it was last looked at. What another process appends
    /// between that look and the call is cut off: no call compares a length and sets it.
    pub(super) fn truncate(&mut self, len: u64) -> Result<()> {
        self.unless_moved()?;
        self.set_len(len)
    }

    /// Makes the file longer by `added`, the bytes after its end, and gives `blocks`, which ends with them, their blocks. All
    /// by fallocate(2), which never makes a file shorter, whatever another process appends meanwhile.
    ///
    /// # Errors
    /// As of [`Backing::unless_moved`]; [`AccessDenied::GrownTogether`] when another process appended first, between the
    /// look at the length and the call, and may have zeros of ours after its bytes; what fallocate says.
    pub(super) fn extend(&mut self, blocks: ByteRange, added: ByteRange) -> Result<()> {
        let (last, none) = (added.from(added.end() - 1), FallocateFlags::empty());
        // A call that fails may have set a length on the way to the one asked for (ext4), so all blocks are there before the
        // length is set; but tmpfs never does, and counts a block that is given twice as written.
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
        // Whatever cannot be found out from here on, the file is longer, and is to be cut back.
        let before = self.facts().len;
        self.set_memory_len(added.end());
        let now = self.usage()?.len;
        if now < added.end() {
            self.set_memory_len(before);
            return Err(Error::new("resize", None, ErrorKind::Shrunk { len: now }));
        }
        // Bytes that were appended after the call are after the new end, and none of ours; before it, at the old end,
        // where there are zeros otherwise. Zeros that were appended there cannot be told from ours.
        if !self.has_bytes(added.intersect(ByteRange::at(added.start(), APPENDED).unwrap_or(added)))? {
            return Ok(());
        }
        // If all of it is the other's, the call has done nothing.
        if now > added.end() && self.has_bytes(last)? {
            self.set_memory_len(before);
            return Err(Error::new(
                "resize",
                None,
                ErrorKind::AccessDenied(AccessDenied::FileGrown),
            ));
        }
        self.set_memory_len(now);
        Err(Error::new(
            "resize",
            None,
            ErrorKind::AccessDenied(AccessDenied::GrownTogether),
        ))
    }

    /// Whether something else than zeros stands in `span`. Reads no block that was never written, for it would count as
    /// written from then on. The range has no more than [`APPENDED`] bytes.
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

    /// Asks whether fallocate(2) may be called at all, which it may not for an active swap file (ETXTBSY): for a hole
    /// where nothing can be.
    pub(super) fn probe_fallocate(&self) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let far = ByteRange::at(i64::MAX as u64 >> 16 << 16, 4096).unwrap_or(ByteRange::first(0));
        let probed = self.fallocate("set its length", flags, far);
        probed.map_err(|error| Error { span: None, ..error })
    }

    /// Refuses a memfd that is sealed against writing, of which a mapping that stores would be refused.
    pub fn unless_sealed(&self) -> Result<()> {
        let seals = self.fd().and_then(|fd| fcntl(fd, FcntlArg::F_GET_SEALS).ok());
        let sealed = seals.is_some_and(|seals| seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) != 0);
        match sealed {
            true => Err(Error::new(
                "write to it",
                None,
                ErrorKind::AccessDenied(AccessDenied::Sealed),
            )),
            false => Ok(()),
        }
    }

    /// Gives every byte of `span` a block, so that no later store can fail for want of one; contents and length
    /// stay. fallocate(2) with FALLOC_FL_KEEP_SIZE; on xfs, where a store into a reflink takes a new block, with
    /// FALLOC_FL_UNSHARE_RANGE, which gives it that. btrfs promises nothing.
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
    /// EOPNOTSUPP where the file system cannot (tmpfs, hugetlbfs, btrfs's older kernels).
    pub fn zero_range(&self, span: ByteRange) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.drop_privileges()?;
        self.fallocate("zero", flags, span)
    }

    /// Zeroes `span` and frees the blocks that lie in it whole: FALLOC_FL_PUNCH_HOLE.
    pub fn punch(&self, span: ByteRange) -> Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        self.drop_privileges()?;
        self.fallocate("punch a hole in", flags, span)
    }

    fn fallocate(&self, action: &'static str, flags: FallocateFlags, span: ByteRange) -> Result<()> {
        let file = self.file(action)?;
        self.mark_written();
        let result = traced(
            fallocate(file, flags, span.start() as i64, span.len() as i64).map(|()| 0),
            || {
                let names: Vec<_> = flags.iter_names().map(|(name, _)| name).collect();
                format!(
                    "fallocate({}, {}, {}, {})",
                    file.as_raw_fd(),
                    if names.is_empty() { "0".into() } else { names.join("|") },
                    span.start(),
                    span.len()
                )
            },
        );
        let cause = |errno| match errno {
            Errno::ENOSPC | Errno::EDQUOT => ErrorKind::Full(errno),
            errno => self.write_refusal(errno, Some(span.end()).filter(|end| *end > self.facts().len)),
        };
        result
            .map(drop)
            .map_err(|errno| Error::new(action, Some(span), cause(errno)))
    }
}
