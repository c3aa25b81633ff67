//! Memory that the kernel copies into and out of. It begins on a page boundary: some processors copy to any other place
//! five times slower, and the chunks of malloc(3) begin 16 bytes into a page.

use super::error::{Error, ErrorKind, Result};
use super::limits;
use memmap2::MmapMut;
use nix::errno::Errno;
use std::ops::{Deref, DerefMut};

/// A buffer of bytes that begins on a page boundary. An empty one takes no memory.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Option<MmapMut>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// As for [`Buffer::resize`].
    pub fn zeroed(len: usize) -> Result<Buffer> {
        let mut buffer = Buffer::default();
        buffer.resize(len)?;
        Ok(buffer)
    }

    /// Sets the length in bytes. The contents are unspecified: the caller fills the buffer.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`], or ENOMEM, if the memory cannot be allocated.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        if self.memory.as_ref().map_or(0, |memory| memory.len()) < len {
            // The old memory is freed before the new memory is allocated.
            (self.memory, self.len) = (None, 0);
            let page = super::page_size() as usize;
            let memory = MmapMut::map_anon(len.next_multiple_of(page)).map_err(|_| {
                let limit = limits::behind_mmap(len as u64, true).map(ErrorKind::Limit);
                Error::new("take memory", None, limit.unwrap_or(ErrorKind::Sys(Errno::ENOMEM)))
            })?;
            debug_assert!(memory.as_ptr().addr().is_multiple_of(page));
            self.memory = Some(memory);
        }
        self.len = len;
        Ok(())
    }

    /// Keeps no more than the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory[..self.len])
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory[..self.len])
    }
}

#[cfg(test)]
mod tests;
