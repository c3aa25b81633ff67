//! FIEMAP: the types of the blocks of a file, see fiemap.rst of the kernel. One of the `unsafe` submodules.
#![allow(unsafe_code)]

use super::super::range::ByteRange;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// Extents per call.
const MOST: usize = 128;

/// Passes the ranges within `span` whose blocks are allocated and not written yet to `each`, in order, until that
/// returns false. Dirty pages are not written for it.
///
/// # Errors
/// EOPNOTSUPP or ENOTTY if the file system does not support it.
pub(in crate::mapping) fn unwritten_extents(
    file: &File,
    span: ByteRange,
    mut each: impl FnMut(ByteRange) -> bool,
) -> nix::Result<()> {
    let mut rest = span;
    while !rest.is_empty() {
        let mut map = Fiemap {
            start: rest.start(),
            length: rest.len(),
            count: MOST as u32,
            ..Fiemap::default()
        };
        // SAFETY: `map` is the structure of the call with room for `count` extents, and lives through it.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut map) };
        Errno::result(result)?;
        let extents = &map.extents[..(map.mapped as usize).min(MOST)];
        let Some(last) = extents.last() else { return Ok(()) };
        for extent in extents.iter().filter(|extent| extent.flags & UNWRITTEN != 0) {
            let found = ByteRange::at(extent.logical, extent.length).map(|found| found.intersect(span));
            if found.is_some_and(|found| !found.is_empty() && !each(found)) {
                return Ok(());
            }
        }
        let end = last.logical.saturating_add(last.length);
        if last.flags & LAST != 0 || end <= rest.start() {
            return Ok(());
        }
        rest = rest.from(end);
    }
    Ok(())
}

/// `_IOWR('f', 11, struct fiemap)`.
const FS_IOC_FIEMAP: u64 = 0xc020_660b;

/// FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_UNWRITTEN.
const LAST: u32 = 1;
const UNWRITTEN: u32 = 0x800;

/// `struct fiemap` of linux/fiemap.h, with its extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; MOST],
}

impl Default for Fiemap {
    fn default() -> Fiemap {
        Fiemap {
            start: 0,
            length: 0,
            flags: 0,
            mapped: 0,
            count: 0,
            reserved: 0,
            extents: [FiemapExtent::default(); MOST],
        }
    }
}

/// `struct fiemap_extent`: offsets and lengths in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    more_reserved: [u32; 3],
}
