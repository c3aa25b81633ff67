//! How memory is mapped and used: visibility, protection, populating, locking, advice.

use super::range::ByteRange;
use nix::sys::mman::ProtFlags;

/// The size of a sliding window, in bytes: large enough that mapping it costs nothing compared with copying it, and
/// small enough that the process needs less than 16 MiB for a file of any size.
pub const WINDOW: u64 = 8 << 20;

/// Where a store is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// MAP_SHARED: the file, and every process that maps it.
    Shared,
    /// MAP_PRIVATE: only this mapping. A page that is stored into becomes a copy.
    Private,
}

/// The rights of a mapping, see mmap(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prot {
    /// PROT_NONE: reserved address space.
    None,
    /// PROT_READ.
    Read,
    /// PROT_READ and PROT_WRITE.
    ReadWrite,
    /// PROT_READ and PROT_EXEC.
    ReadExec,
    /// PROT_READ, PROT_WRITE and PROT_EXEC.
    ReadWriteExec,
}

impl Prot {
    /// Whether pages can be stored into.
    pub fn writes(self) -> bool {
        matches!(self, Prot::ReadWrite | Prot::ReadWriteExec)
    }

    pub(super) fn flags(self) -> ProtFlags {
        match self {
            Prot::None => ProtFlags::PROT_NONE,
            Prot::Read => ProtFlags::PROT_READ,
            Prot::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            Prot::ReadExec => ProtFlags::PROT_READ | ProtFlags::PROT_EXEC,
            Prot::ReadWriteExec => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC,
        }
    }
}

/// How a region is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapOptions {
    /// Shared or private.
    pub visibility: Visibility,
    /// Read, write, execute.
    pub prot: Prot,
    /// MAP_NORESERVE: reserve no swap space, or no huge pages, in advance.
    pub noreserve: bool,
    /// The address to map at, instead of one that the kernel chooses. It never replaces another mapping
    /// (MAP_FIXED_NOREPLACE).
    pub address: Option<usize>,
    /// MAP_SYNC: stores to persistent memory are durable as soon as they leave the caches of the processor.
    pub dax: bool,
    /// `Some(n)`: only a window of `n` bytes is mapped, and slides. `None`: the whole range is mapped, at one address.
    pub window: Option<u64>,
}

impl MapOptions {
    /// The options of a verb on a file: shared, and with a sliding window, so that the memory use does not grow with
    /// the file.
    pub fn sliding(prot: Prot) -> MapOptions {
        MapOptions {
            window: Some(WINDOW),
            ..MapOptions::whole(Visibility::Shared, prot)
        }
    }

    /// The whole range at one address.
    pub fn whole(visibility: Visibility, prot: Prot) -> MapOptions {
        MapOptions {
            visibility,
            prot,
            noreserve: false,
            address: None,
            dax: false,
            window: None,
        }
    }
}

/// How a region is resized or moved, see mremap(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resize {
    /// Allocate no blocks for new bytes of the file: they become a hole.
    pub sparse: bool,
    /// Do not change the file: only the mapping is resized, and may exceed the file.
    pub keep_file: bool,
    /// Fail instead of moving the mapping (no MREMAP_MAYMOVE).
    pub no_move: bool,
    /// Move the mapping to this address (MREMAP_FIXED). It never replaces another mapping.
    pub address: Option<usize>,
    /// Move the pages and keep the old mapping (MREMAP_DONTUNMAP).
    pub dont_unmap: bool,
}

/// Bytes to store: a range of the file, and the offset of its bytes in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    range: ByteRange,
    /// Offset in the payload.
    pub from: u64,
}

impl Segment {
    /// `len` bytes at file offset `at`; `None` if their end exceeds `u64::MAX`.
    pub fn new(at: u64, len: u64, from: u64) -> Option<Segment> {
        ByteRange::at(at, len).map(|range| Segment { range, from })
    }

    /// The bytes of `range`.
    pub fn of(range: ByteRange, from: u64) -> Segment {
        Segment { range, from }
    }

    /// File offset of the first byte.
    pub fn at(&self) -> u64 {
        self.range.start()
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.range.len()
    }

    /// True for a segment without bytes.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The file range it covers.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// The first `len` bytes, or all of them if there are fewer, and the rest.
    pub fn split(&self, len: u64) -> (Segment, Segment) {
        let (range, rest) = self.range.split(len);
        (Segment { range, ..*self }, Segment::of(rest, self.from + range.len()))
    }

    /// The part before file offset `end`; `None` if there is none.
    pub fn before(&self, end: u64) -> Option<Segment> {
        let (before, _) = self.split(end.saturating_sub(self.at()));
        Some(before).filter(|before| !before.is_empty())
    }
}

/// How a flush was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// msync(MS_SYNC) on the range.
    Msync,
    /// fdatasync of the whole file, because the file could only be opened for reading.
    Fdatasync,
}

/// Which page faults [`super::Region::populate`] takes in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Populate {
    /// MADV_POPULATE_READ: pages are present.
    Read,
    /// MADV_POPULATE_WRITE: pages are present, writable, and have their blocks.
    Write,
}

/// What [`super::Region::lock`] locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Every page, which is read in now: mlock(2).
    Now,
    /// Each page when it is first accessed: mlock2(2) with MLOCK_ONFAULT.
    OnFault,
}

/// A piece of advice for madvise(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// Its name in lower case, without `MADV_`.
    pub name: &'static str,
    pub(super) value: libc::c_int,
}

/// All advice that does not destroy a file's contents (MADV_REMOVE does, and is provided by `zero --punch`).
pub const ADVICE: [Advice; 17] = {
    const fn of(name: &'static str, value: libc::c_int) -> Advice {
        Advice { name, value }
    }
    [
        of("normal", libc::MADV_NORMAL),
        of("random", libc::MADV_RANDOM),
        of("sequential", libc::MADV_SEQUENTIAL),
        of("willneed", libc::MADV_WILLNEED),
        of("dontneed", libc::MADV_DONTNEED),
        of("free", libc::MADV_FREE),
        of("cold", libc::MADV_COLD),
        of("pageout", libc::MADV_PAGEOUT),
        of("hugepage", libc::MADV_HUGEPAGE),
        of("nohugepage", libc::MADV_NOHUGEPAGE),
        of("collapse", libc::MADV_COLLAPSE),
        of("mergeable", libc::MADV_MERGEABLE),
        of("unmergeable", libc::MADV_UNMERGEABLE),
        of("dontdump", libc::MADV_DONTDUMP),
        of("dodump", libc::MADV_DODUMP),
        of("dontfork", libc::MADV_DONTFORK),
        of("dofork", libc::MADV_DOFORK),
    ]
};
