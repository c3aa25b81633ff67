//! close(2) of a file that was written to. No `unsafe` here.
//!
//! Network file systems and FUSE send what is dirty when a descriptor is closed, so an error that a store caused may
//! come only then; the implicit close of a descriptor that is dropped would lose it.

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
    /// Notes that bytes, blocks or the length are about to be changed through this descriptor or a mapping of it, also by
    /// a child.
    pub fn mark_written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// Whether anything was written through this descriptor or a mapping of it, so that an error of
    /// [`Backing::finish`] may mean that it is lost.
    pub fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// close(2), with its error read. Mappings that stand keep the file open.
    ///
    /// # Errors
    /// What close says. The descriptor is gone all the same.
    pub fn finish(mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        nix::unistd::close(file).map_err(|errno| Error::sys("close", None, errno))
    }
}
