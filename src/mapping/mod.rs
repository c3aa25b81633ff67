//! The core: mappings of files and of anonymous memory, without a signal, a lost byte or a false promise.
//!
//! It uses std, nix, memmap2 and libc alone, and knows nothing of command lines or reports. Its invariants:
//!
//! 1. No Rust reference to a mapped byte exists, and outside `register.rs` none is dereferenced: in by `preadv`
//!    from a file (a memfd, for what is not large) that holds the payload, 1,024 segments a call, where a short
//!    count is an exact prefix; out by `process_vm_readv`. Bytes that are the file's own, which `access.rs` alone
//!    decides, are read by `pread`, by many threads (`scan.rs`), as page faults and sliding windows make threads wait
//!    for each other; or they go out (`copy.rs`) by `splice`, `copy_file_range`, or `preadv` and `write`; never by
//!    `vmsplice`, which would leave in a pipe pages that a later store changes. Long ranges of zeros are written by
//!    `pwrite` (`zeros.rs`), but only under a lease that keeps everybody else from cutting the file, which that would
//!    make longer again. In `register.rs` a load or store is one instruction written by hand, and a SIGBUS of that
//!    instruction, and of no other, comes back from it as an error.
//! 2. Offsets are file offsets everywhere outside `region.rs`; where a region is a nonlinear view (`layout.rs`), they
//!    are the view's, and errors name both.
//! 3. A range is checked against the length seen at open before anything is mapped. memmap2 checks too little to
//!    rely on.
//! 4. Grow: allocate, set the length, then map. Shrink: unmap, then set the length.
//! 5. Bytes are called durable only after a successful flush covering them, through a descriptor opened for
//!    writing (msync through a read-only one returns 0 and flushes nothing; fdatasync is used there).
//! 6. A failed flush is final: the kernel marks the pages clean, so trying again proves nothing. Store again, or
//!    say exit code 3.
//! 7. `unsafe` lives in `region.rs`, with its rooms in `region/`, and in `register.rs` (outside of the core, in
//!    `entry.rs`), denied elsewhere by lint; each block states its contract.
//! 8. Device memory is touched by `register.rs` alone: nobody copies or populates it, or reads it to find a cause,
//!    and for an access no page of it is mapped that was not asked for.
//! 9. Memory that the kernel copies file bytes into, in pieces of more than a page, begins on a page (`buffer.rs`).

mod access;
mod backing;
mod buffer;
mod copy;
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
pub use error::{AccessDenied, Error, ErrorKind, RemapUnsupported, Result, UnsupportedFileType, WriteGuard};
pub use limits::Limit;
pub use options::{ADVICE, Advice, Flush, Lock, MapOptions, Populate, Prot, Resize, Segment, Visibility, WINDOW};
pub use order::{Extent, PageOrder, PageRun, RemapMethod};
pub use range::ByteRange;
pub use region::{Region, in_child, memfd_with};
pub use register::Width;
pub use residency::{Cell, Counts, Residency, count, dirty_pages, measure, prefetch, resident};
pub use scan::{CHUNK_LEN, Chunk, Chunks, Content, Cut, HoleFinder, scan};
pub use space::SpaceUsage;
pub use sparse::SparseStats;
pub use threads::{Sharing, share};
pub use trace::{trace, trace_to};
pub use zeros::MAX_FALLOCATE_LEN;

/// A signal asked to stop; its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted(pub i32);

/// The one arrow back: hears after each piece of work how many bytes are done, and may ask to stop. Progress
/// bars, Ctrl-C and fault tests all hang on it.
pub type ProgressFn<'a> = dyn FnMut(u64) -> std::result::Result<(), Interrupted> + 'a;

/// The system's page size in bytes.
pub fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(4096, |size| size as u64)
}
