//! Nonlinear views: the pages of a region in another order, by mmap(2) or remap_file_pages(2). One of the `unsafe`
//! submodules.
#![allow(unsafe_code)]

use super::super::backing::Kind;
use super::super::error::{Error, ErrorKind, RemapUnsupported, Result};
use super::super::limits;
use super::super::options::{MapOptions, Prot, Visibility};
use super::super::order::{PageOrder, RemapMethod};
use super::super::range::ByteRange;
use super::super::trace::{Address, traced};
use super::memory::{MmapRequest, RawMapping};
use super::{Region, Window};
use nix::errno::Errno;
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

impl Region {
    /// Makes the region the view that `layout` describes, of the whole of its backing. Offsets are then offsets in the
    /// view. A linear layout makes it an ordinary mapping again. The previous mapping, with its locks and advice, is
    /// removed once the view exists; if that fails, it stays.
    ///
    /// # Errors
    /// [`ErrorKind::Arrange`] if the method does not support the region; [`ErrorKind::Limit`] if the view would come
    /// near `vm.max_map_count`, before anything is mapped; any error of mmap(2) and remap_file_pages(2).
    pub fn arrange(&mut self, layout: PageOrder, method: RemapMethod) -> Result<()> {
        let failed = |cause| Error::new("arrange", None, cause);
        if self.not_inherited {
            return Err(failed(ErrorKind::NotInherited));
        }
        if let Some(hindrance) = self.hindrance(&layout, method) {
            return Err(failed(ErrorKind::Arrange(hindrance)));
        }
        if let Some(limit) = limits::before_arranging(layout.kernel_mappings()) {
            return Err(failed(ErrorKind::Limit(limit)));
        }
        let len = usize::try_from(layout.mapped()).ok().and_then(NonZeroUsize::new);
        let len = len.ok_or_else(|| failed(ErrorKind::Sys(Errno::ENOMEM)))?;
        if self.is_memory() {
            // The view is made from this mapping.
            self.map_now()?;
        }
        let made = match method {
            RemapMethod::Mmap => self.map_parts(&layout, len),
            RemapMethod::RemapFilePages => self.remap_parts(&layout, len),
        };
        let memory = made.map_err(|errno| match errno {
            Errno::ENOMEM => failed(self.out_of_memory(layout.mapped())),
            errno => failed(ErrorKind::Sys(errno)),
        })?;
        let covers = ByteRange::first(layout.mapped());
        self.window = Some(Window { memory, covers });
        self.span = ByteRange::first(layout.len());
        self.shape = MapOptions {
            window: None,
            address: None,
            ..self.shape
        };
        self.layout = Some(layout).filter(|layout| !layout.is_linear());
        self.dont_fork = false;
        Ok(())
    }

    fn hindrance(&self, layout: &PageOrder, method: RemapMethod) -> Option<RemapUnsupported> {
        let facts = self.backing.facts();
        let huge = facts.page > crate::mapping::page_size();
        match method {
            _ if self.shape.visibility == Visibility::Private => Some(RemapUnsupported::Private),
            RemapMethod::Mmap if self.is_memory() => Some(RemapUnsupported::NoFile),
            RemapMethod::Mmap => None,
            RemapMethod::RemapFilePages if facts.kind == Kind::Anonymous && huge => Some(RemapUnsupported::HugeMemory),
            RemapMethod::RemapFilePages if self.is_memory() => None,
            RemapMethod::RemapFilePages if !facts.writable => Some(RemapUnsupported::ReadOnly),
            RemapMethod::RemapFilePages if huge && layout.mapped() > facts.len => Some(RemapUnsupported::HugeFile),
            RemapMethod::RemapFilePages => None,
        }
    }

    /// Reserves address space of the view's length, and maps each part over it.
    fn map_parts(&self, layout: &PageOrder, len: NonZeroUsize) -> nix::Result<RawMapping> {
        let file = self.backing.file("map").map_err(|_| Errno::EBADF)?;
        let mut memory = if self.page() > crate::mapping::page_size() {
            // Only a mapping of the file itself gets an address that is aligned for its huge pages.
            RawMapping::map(&MmapRequest {
                file: Some(file),
                offset: 0,
                len,
                shape: MapOptions {
                    noreserve: true,
                    ..MapOptions::whole(Visibility::Shared, Prot::None)
                },
                huge: None,
                over: false,
            })?
        } else {
            RawMapping::reserve(None, len)?
        };
        for part in layout.parts(ByteRange::first(layout.mapped())) {
            let wanted = MmapRequest {
                file: Some(file),
                offset: part.file.start(),
                len: NonZeroUsize::new(part.file.len() as usize).ok_or(Errno::EINVAL)?,
                shape: self.shape,
                huge: None,
                over: true,
            };
            memory.replace(part.view as usize, wanted)?;
        }
        Ok(memory)
    }

    /// Creates a linear mapping of the view's length, and calls remap_file_pages(2) for each part that is elsewhere.
    fn remap_parts(&self, layout: &PageOrder, len: NonZeroUsize) -> nix::Result<RawMapping> {
        let memory = if self.is_memory() {
            let window = self.window.as_ref().ok_or(Errno::EFAULT)?;
            second_mapping(window.memory.base(), len)?
        } else {
            RawMapping::map(&MmapRequest {
                file: Some(self.backing.file("map").map_err(|_| Errno::EBADF)?),
                offset: 0,
                len,
                shape: MapOptions {
                    address: None,
                    ..self.shape
                },
                huge: None,
                over: false,
            })?
        };
        for part in layout.parts(ByteRange::first(layout.mapped())) {
            // A second mapping of memory begins with what the first one began with.
            if part.file.start() != part.view || self.is_memory() {
                remap_file_pages(&memory, part.view, part.file)?;
            }
        }
        Ok(memory)
    }

    /// How many kernel mappings this region consists of, from /proc/self/maps; `None` if that cannot be read, or
    /// nothing is mapped.
    pub fn kernel_mappings(&self) -> Option<u64> {
        let window = self.window.as_ref()?;
        let (base, len) = (window.memory.base(), window.memory.len());
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        Some(count_within(&maps, base, base + len))
    }
}

fn count_within(maps: &str, from: usize, to: usize) -> u64 {
    let within = |line: &&str| {
        let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
        let address = |text: &str| usize::from_str_radix(text, 16).unwrap_or(0);
        bounds.is_some_and(|(start, end)| address(start) < to && from < address(end))
    };
    maps.lines().filter(within).count() as u64
}

/// Another mapping, of `len` bytes, of the shared memory at `base`: mremap(2) with an old length of 0.
fn second_mapping(base: usize, len: NonZeroUsize) -> nix::Result<RawMapping> {
    // SAFETY: with an old length of 0 the mapping at `base`, which is ours, does not change; the kernel chooses the
    // address of the new one.
    let made = unsafe { libc::mremap(base as *mut c_void, 0, len.get(), libc::MREMAP_MAYMOVE) };
    let result = match made {
        libc::MAP_FAILED => Err(Errno::last()),
        made => Ok(Address(made as usize)),
    };
    let made = traced(result, || format!("mremap({base:#x}, 0, {len}, MREMAP_MAYMOVE)"))?;
    let made = NonNull::new(made.0 as *mut c_void).ok_or(Errno::EFAULT)?;
    Ok(RawMapping::owned(made, len.get()))
}

/// remap_file_pages(2): maps the file range `file` at `view` in `memory`. Without MAP_NONBLOCK it would read every
/// page.
fn remap_file_pages(memory: &RawMapping, view: u64, file: ByteRange) -> nix::Result<()> {
    let address = memory.base() + view as usize;
    let page = file.start() / crate::mapping::page_size();
    let (len, flags) = (file.len(), libc::MAP_NONBLOCK);
    // SAFETY: the range lies in `memory`, which is ours, and no Rust reference to it exists. The libc crate has only
    // the number of the call.
    let result = unsafe { libc::syscall(libc::SYS_remap_file_pages, address, len, 0, page, flags) };
    traced(Errno::result(result), || format!("remap_file_pages({address:#x}, {len}, 0, {page}, MAP_NONBLOCK)"))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::count_within;

    #[test]
    fn kernel_mappings_are_counted_within_the_bounds_alone() {
        let maps = "1000-2000 r--s 0 00:00 0 /f\n2000-4000 r--s 1 00:00 0 /f\n4000-5000 rw-p 0 00:00 0\n";
        assert_eq!(count_within(maps, 0x1000, 0x4000), 2);
        assert_eq!(count_within(maps, 0x2000, 0x4001), 2);
        assert_eq!(count_within(maps, 0x5000, 0x6000), 0);
    }
}
