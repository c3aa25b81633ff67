//! A kernel mapping, and the calls that create one: those of memmap2 if it supports the request, otherwise mmap(2). One
//! of the `unsafe` submodules.
#![allow(unsafe_code)]

use super::super::options::{MapOptions, Prot, Visibility};
use super::super::trace::{Address, traced};
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{self, MapFlags};
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// A kernel mapping that is unmapped when it is dropped.
#[derive(Debug)]
pub(super) enum RawMapping {
    /// A mapping that memmap2 supports.
    Ordinary(MmapRaw),
    /// Any other: shared anonymous memory, PROT_NONE, huge pages, a chosen address, or a mapping that mremap(2) moved.
    Special(NonNull<c_void>, usize),
}

// SAFETY: mappings belong to the process, and all threads see them at the same address; memmap2 does the same for its
// own.
unsafe impl Send for RawMapping {}

/// A request for a mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct MmapRequest<'a> {
    /// `None`: anonymous memory.
    pub file: Option<&'a File>,
    /// File offset of the first byte, a multiple of the page size.
    pub offset: u64,
    /// Length in bytes.
    pub len: NonZeroUsize,
    /// Visibility, rights and the other options.
    pub shape: MapOptions,
    /// The size of the huge pages for anonymous memory, in bytes.
    pub huge: Option<u64>,
    /// Replace what is mapped at the requested address, which must be ours (MAP_FIXED).
    pub over: bool,
}

impl RawMapping {
    /// mmap(2), traced.
    pub fn map(wanted: &MmapRequest<'_>) -> nix::Result<RawMapping> {
        let made = wanted.map().map(Traced);
        traced(made, || wanted.to_string()).map(|made| made.0)
    }

    /// Address space without rights at `address`, if that is free. It takes no memory.
    pub fn reserve(address: Option<usize>, len: NonZeroUsize) -> nix::Result<RawMapping> {
        let shape = MapOptions {
            noreserve: true,
            address,
            ..MapOptions::whole(Visibility::Private, Prot::None)
        };
        RawMapping::map(&MmapRequest {
            file: None,
            offset: 0,
            len,
            shape,
            huge: None,
            over: false,
        })
    }

    /// Creates the mapping `wanted` in place of what is mapped at offset `at` of this one, traced.
    ///
    /// # Errors
    /// EINVAL if it would extend past this mapping; any error of mmap.
    pub fn replace(&mut self, at: usize, wanted: MmapRequest<'_>) -> nix::Result<()> {
        if at.checked_add(wanted.len.get()).is_none_or(|end| end > self.len()) {
            return Err(Errno::EINVAL);
        }
        let wanted = MmapRequest {
            shape: MapOptions {
                address: Some(self.base() + at),
                ..wanted.shape
            },
            over: true,
            ..wanted
        };
        // The new piece belongs to this owner, which unmaps its whole range.
        RawMapping::map(&wanted).map(std::mem::forget)
    }

    pub fn base(&self) -> usize {
        match self {
            RawMapping::Ordinary(raw) => raw.as_ptr() as usize,
            RawMapping::Special(base, _) => base.as_ptr() as usize,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            RawMapping::Ordinary(raw) => raw.len(),
            RawMapping::Special(_, len) => *len,
        }
    }

    /// A mapping that mremap(2) made.
    pub fn owned(base: NonNull<c_void>, len: usize) -> RawMapping {
        RawMapping::Special(base, len)
    }

    /// This mapping after mremap(2) has moved or resized it. The old owner must not unmap its former range.
    pub fn moved(self, base: NonNull<c_void>, len: usize) -> RawMapping {
        std::mem::forget(self);
        RawMapping::Special(base, len)
    }
}

impl Drop for RawMapping {
    fn drop(&mut self) {
        let (base, len) = (self.base(), self.len());
        let result = match self {
            // MmapRaw unmaps when it is dropped, right after this.
            RawMapping::Ordinary(_) => Ok(()),
            // SAFETY: base and len are those of our own mmap, and nothing uses them after the owner.
            RawMapping::Special(base, len) => unsafe { mman::munmap(*base, *len) },
        };
        // munmap of an own mapping fails only if splitting it would exceed max_map_count; here it is unmapped as a
        // whole.
        let _ = traced(result.map(|()| 0), || format!("munmap({base:#x}, {len})"));
    }
}

/// A new mapping, displayed as its address, as strace does.
struct Traced(RawMapping);

impl std::fmt::Display for Traced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Address(self.0.base()).fmt(f)
    }
}

impl MmapRequest<'_> {
    fn map(&self) -> nix::Result<RawMapping> {
        let shape = self.shape;
        if shape.address.is_some() || shape.dax || self.huge.is_some() {
            return self.map_special();
        }
        let mut options = MmapOptions::new();
        options.offset(self.offset).len(self.len.get());
        if shape.noreserve {
            options.no_reserve_swap();
        }
        let ordinary = match (self.file, shape.visibility, shape.prot) {
            (Some(file), Visibility::Shared, Prot::Read) => options.map_raw_read_only(file),
            (Some(file), Visibility::Shared, Prot::ReadWrite) => options.map_raw(file),
            // SAFETY: the contract is about the slices that Mmap and MmapMut lend. They become MmapRaw, which lends
            // none, before any are borrowed.
            (Some(file), Visibility::Shared, Prot::ReadExec) => unsafe { options.map_exec(file) }.map(MmapRaw::from),
            (Some(file), Visibility::Private, Prot::Read) => {
                // SAFETY: as above.
                unsafe { options.map_copy_read_only(file) }.map(MmapRaw::from)
            }
            // SAFETY: as above.
            (Some(file), Visibility::Private, Prot::ReadWrite) => unsafe { options.map_copy(file) }.map(MmapRaw::from),
            (None, Visibility::Private, Prot::ReadWrite) => options.map_anon().map(MmapRaw::from),
            _ => return self.map_special(),
        };
        ordinary
            .map(RawMapping::Ordinary)
            .map_err(|error| error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw))
    }

    fn map_special(&self) -> nix::Result<RawMapping> {
        let (prot, flags) = (self.shape.prot.flags(), self.flags());
        let address = self.shape.address.and_then(NonZeroUsize::new);
        let base = match self.file {
            // SAFETY: a new mapping affects no existing one: the kernel chooses the address, or refuses one that is in
            // use (MAP_FIXED_NOREPLACE); or the mapping that it replaces is ours, as `replace` has checked.
            Some(file) => unsafe { mman::mmap(address, self.len, prot, flags, file, self.offset as i64) },
            // SAFETY: as above.
            None => unsafe { mman::mmap_anonymous(address, self.len, prot, flags) },
        }?;
        let memory = RawMapping::Special(base, self.len.get());
        // A kernel before 4.17 takes the address as a hint.
        match address {
            Some(address) if memory.base() != address.get() => Err(Errno::EEXIST),
            _ => Ok(memory),
        }
    }

    fn flags(&self) -> MapFlags {
        let mut flags = match self.shape.visibility {
            Visibility::Shared if self.shape.dax => MapFlags::MAP_SHARED_VALIDATE | MapFlags::MAP_SYNC,
            Visibility::Shared => MapFlags::MAP_SHARED,
            Visibility::Private => MapFlags::MAP_PRIVATE,
        };
        flags.set(MapFlags::MAP_ANONYMOUS, self.file.is_none());
        flags.set(MapFlags::MAP_NORESERVE, self.shape.noreserve);
        flags.set(MapFlags::MAP_FIXED_NOREPLACE, self.shape.address.is_some() && !self.over);
        flags.set(MapFlags::MAP_FIXED, self.over);
        if let Some(huge) = self.huge {
            // The size is a power of two. Its logarithm is in the upper bits, see mmap(2).
            let size = MapFlags::from_bits_retain((huge.trailing_zeros() as libc::c_int) << libc::MAP_HUGE_SHIFT);
            flags |= MapFlags::MAP_HUGETLB | size;
        }
        flags
    }
}

/// The format of strace.
impl std::fmt::Display for MmapRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prot: Vec<_> = match self.shape.prot {
            Prot::None => vec!["PROT_NONE"],
            prot => prot.flags().iter_names().map(|(name, _)| name).collect(),
        };
        let flags = self.flags();
        let visibility = match self.shape.visibility {
            Visibility::Shared if self.shape.dax => "MAP_SHARED_VALIDATE",
            Visibility::Shared => "MAP_SHARED",
            Visibility::Private => "MAP_PRIVATE",
        };
        // Formatted by hand, because some bits have two names and some names include bits of others.
        let known = [
            (MapFlags::MAP_SYNC, "MAP_SYNC"),
            (MapFlags::MAP_ANONYMOUS, "MAP_ANONYMOUS"),
            (MapFlags::MAP_NORESERVE, "MAP_NORESERVE"),
            (MapFlags::MAP_FIXED, "MAP_FIXED"),
            (MapFlags::MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"),
            (MapFlags::MAP_HUGETLB, "MAP_HUGETLB"),
        ];
        let known = known.into_iter().filter(|(flag, _)| flags.contains(*flag));
        let mut names: Vec<String> = vec![visibility.into()];
        names.extend(known.map(|(_, name)| name.into()));
        if let Some(huge) = self.huge {
            names.push(format!("{}<<MAP_HUGE_SHIFT", huge.trailing_zeros()));
        }
        let fd = self.file.map_or(-1, |file| file.as_raw_fd());
        let offset = Address(self.offset as usize).to_string().replace("NULL", "0");
        let address = Address(self.shape.address.unwrap_or(0));
        let (prot, names) = (prot.join("|"), names.join("|"));
        write!(f, "mmap({address}, {}, {prot}, {names}, {fd}, {offset})", self.len)
    }
}

/// An anonymous file in memory, closed on exec.
pub fn memfd(name: &CStr) -> nix::Result<File> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from)
}

/// A memfd that holds `bytes`.
pub fn memfd_with(name: &CStr, bytes: &[u8]) -> std::io::Result<File> {
    let mut file = memfd(name)?;
    file.write_all(bytes)?;
    Ok(file)
}

/// A memfd of huge pages of `page` bytes, a power of two.
pub fn huge_memfd(name: &CStr, page: u64) -> nix::Result<File> {
    let size = MFdFlags::from_bits_retain(page.trailing_zeros() << libc::MAP_HUGE_SHIFT);
    memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB | size).map(File::from)
}
