//! mmapctl: bytes of files and of memory, in place, through memory mappings.

pub mod dump;
pub mod mapping;
pub mod quantity;
