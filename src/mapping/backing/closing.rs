//! close(2) of a file that was written to. No `unsafe` here.
//!
//! Network file systems and FUSE send dirty pages when a descriptor is closed, so the error of a store may be reported
//! only then. Dropping a descriptor closes it and loses that error.

use super::Backing;
use crate::mapping::error::{Error, Result};
use nix::sys::statfs::{self, FsType};
use std::sync::atomic::Ordering;

/// File systems that send dirty pages at close(2): FUSE, NFS, SMB (three versions of its client), 9P, AFS, Coda, Ceph.
const SENDS_AT_CLOSE: [FsType; 9] = [
    statfs::FUSE_SUPER_MAGIC,
    statfs::NFS_SUPER_MAGIC,
    statfs::SMB_SUPER_MAGIC,
    FsType(0xff53_4d42),
    FsType(0xfe53_4d42),
    FsType(0x0102_1997),
    statfs::AFS_SUPER_MAGIC,
    statfs::CODA_SUPER_MAGIC,
    FsType(0x00c3_6400),
];

/// Whether a file system of this type sends dirty pages at close(2).
pub(in crate::mapping) fn sends_at_close(fs: FsType) -> bool {
    SENDS_AT_CLOSE.contains(&fs)
}

impl Backing {
    /// Records that bytes, blocks or the length are about to be changed through this descriptor or a mapping of it,
    /// including by a child.
    pub fn mark_written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// Whether anything was written through this descriptor or a mapping of it. If so, an error of [`Backing::finish`]
    /// may mean that it is lost.
    pub fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// Closes the descriptor by close(2) and checks its result. Existing mappings keep the file open.
    ///
    /// # Errors
    /// The error of close. The descriptor is closed nevertheless.
    pub fn finish(mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        nix::unistd::close(file).map_err(|errno| Error::sys("close", None, errno))
    }
}
