//! The core: mappings of files and of anonymous memory. No SIGBUS ends the process, no byte is lost, and nothing is
//! reported as done or durable that is not.
//!
//! It uses only std, nix, memmap2 and libc, and knows nothing of command lines or reports. Its invariants:
//!
//! 1. No Rust reference to a mapped byte exists, and none is dereferenced outside `register.rs`. Bytes are stored by
//!    `preadv` from a file that holds the payload (a memfd, if the payload is not large), 1,024 segments a call; a
//!    short count is an exact prefix. Bytes are loaded by `process_vm_readv`. Bytes that are the file's own, which only
//!    `access.rs` decides, are read by `pread` on many threads (`scan.rs`), because page faults and sliding windows
//!    make threads wait for each other. They are written out (`copy.rs`) by `splice`, `copy_file_range`, or `preadv`
//!    and `write`, but never by `vmsplice`: that would leave pages in a pipe that a later store changes. Long ranges of
//!    zeros are written by `pwrite` (`zeros.rs`), but only under a lease that keeps other processes from truncating the
//!    file, because `pwrite` would extend it again. In `register.rs`, a load or store is one handwritten instruction. A
//!    SIGBUS of that instruction, and of no other, is returned as an error.
//! 2. Offsets are file offsets everywhere outside `region.rs`. Where a region is a nonlinear view (`order.rs`), they
//!    are offsets in the view, and errors name both.
//! 3. A range is checked against the length at open before anything is mapped. The checks of memmap2 are not
//!    sufficient.
//! 4. To grow a file: allocate, set the length, then map. To shrink it: unmap, then set the length.
//! 5. Bytes are called durable only after a successful flush that covers them, through a descriptor opened for writing.
//!    (msync through a read-only descriptor returns 0 and flushes nothing; fdatasync is used there.)
//! 6. A failed flush is final. The kernel marks the pages clean, so a second flush proves nothing. Store the bytes
//!    again, or exit with code 3.
//! 7. `unsafe` is used only in `region.rs`, its submodules in `region/`, and `register.rs` (outside the core, in
//!    `entry.rs`). A lint denies it elsewhere. Each block states its contract.
//! 8. Only `register.rs` accesses device memory. Nothing else copies or populates it, or reads it to find the cause of
//!    an error. An access maps only the pages that were asked for.
//! 9. Memory that the kernel copies file bytes into, in pieces of more than a page, begins on a page boundary
//!    (`buffer.rs`).

mod access;
mod backing;
mod buffer;
mod copy;
mod drop_behind;
mod error;
mod limits;
mod options;
mod order;
mod preallocated;
mod range;
mod region;
mod register;
mod residency;
mod scan;
mod space;
mod sparse;
mod threads;
mod trace;
mod transfer;
mod zeros;

pub use access::{Operation, Source};
pub use backing::{Access, Backing, FileId, FileInfo, Kind, Privileges, huge_page};
pub use buffer::Buffer;
pub use copy::{CopyError, CopyResult, CopyTarget, Holes};
pub use drop_behind::DropBehind;
pub use error::{AccessDenied, Error, ErrorKind, RemapUnsupported, Result, UnsupportedFileType, WriteGuard};
pub use limits::Limit;
pub use options::{ADVICE, Advice, Flush, Lock, MapOptions, Populate, Prot, Resize, Segment, Visibility, WINDOW};
pub use order::{Extent, PageOrder, PageRun, RemapMethod};
pub use range::ByteRange;
pub use region::{KeptMapping, Region, in_child, memfd_with, mount_id};
pub use register::Width;
pub use residency::{Cell, Counts, Residency, count, dirty_pages, measure, resident};
pub use scan::{CHUNK_LEN, Chunk, Chunks, Content, Cut, HoleFinder, scan};
pub use space::SpaceUsage;
pub use sparse::SparseStats;
pub use threads::{Sharing, share};
pub use trace::{trace, trace_to};
pub use zeros::MAX_FALLOCATE_LEN;

/// A signal asked to stop. The field is its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted(pub i32);

/// The only callback into the layers above: receives after each piece of work how many bytes are done, and may ask to
/// stop. Progress bars, Ctrl-C and fault tests use it.
pub type ProgressFn<'a> = dyn FnMut(u64) -> std::result::Result<(), Interrupted> + 'a;

/// The system's page size in bytes.
pub fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(4096, |size| size as u64)
}
