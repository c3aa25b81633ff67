//! Bytes on their way into a file, or kept to put back: in memory while few, in an unlinked file beyond that.

use crate::mapping::memfd_with;
use anyhow::Context;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// Up to this many bytes stay in memory, so that the process does too.
const IN_MEMORY: usize = 1 << 20;

/// A growing sequence of bytes.
#[derive(Debug, Default)]
pub struct Spool {
    bytes: Vec<u8>,
    /// Holds everything once the bytes were too many, or a descriptor was asked for.
    file: Option<File>,
    len: u64,
}

impl Spool {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True while it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// A full or broken temporary directory, once the bytes do not stay in memory.
    pub fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.file.is_none() && self.bytes.len() + bytes.len() > IN_MEMORY {
            // A machine without a writable temporary directory still has memory.
            let file = tempfile::tempfile().or_else(|_| memfd_with(c"mmapctl-spool", b""));
            let mut file = file.context("cannot make a temporary file")?;
            file.write_all(&self.bytes).context("cannot write a temporary file")?;
            self.bytes = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file
                .write_all_at(bytes, self.len)
                .context("cannot write a temporary file")?,
            None => self.bytes.extend_from_slice(bytes),
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Appends `count` bytes that are all `byte`.
    pub fn push_fill(&mut self, byte: u8, count: u64) -> anyhow::Result<()> {
        let block = vec![byte; count.min(IN_MEMORY as u64) as usize];
        let mut left = count;
        while left > 0 {
            let part = left.min(block.len() as u64);
            self.push(&block[..part as usize])?;
            left -= part;
        }
        Ok(())
    }

    /// Appends what `source` has, but no more than `most` bytes: one more is enough to know that it is too much.
    pub fn push_from(&mut self, source: &mut impl Read, most: u64) -> anyhow::Result<()> {
        let mut buf = vec![0; 64 << 10];
        let mut left = most;
        while left > 0 {
            let want = left.min(buf.len() as u64) as usize;
            match source.read(&mut buf[..want]) {
                Ok(0) => break,
                Ok(count) => {
                    self.push(&buf[..count])?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Copies the bytes from `from` on into `buf`, all of which must be there.
    pub fn read_at(&self, from: u64, buf: &mut [u8]) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            return file.read_exact_at(buf, from).context("cannot read a temporary file");
        }
        let end = from as usize + buf.len();
        let bytes = self.bytes.get(from as usize..end);
        buf.copy_from_slice(bytes.context("the payload is shorter than its edits")?);
        Ok(())
    }

    /// A descriptor that gives the bytes at their offsets: what the core stores from.
    pub fn fd(&mut self) -> anyhow::Result<BorrowedFd<'_>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => memfd_with(c"mmapctl-payload", &self.bytes).context("cannot make a memfd")?,
        };
        Ok(File::as_fd(self.file.insert(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_alike_from_memory_from_a_file_and_across_the_change() {
        let mut spool = Spool::default();
        let mut all = Vec::new();
        for round in 0..40u8 {
            let piece = vec![round; 100_000];
            spool.push(&piece).unwrap();
            all.extend(piece);
            let mut back = vec![0; 50];
            spool.read_at(all.len() as u64 - 50, &mut back).unwrap();
            assert_eq!(back, all[all.len() - 50..]);
        }
        assert_eq!(spool.len(), all.len() as u64);
        assert!(spool.bytes.is_empty(), "4 MB do not stay in memory");
        let mut back = vec![0; all.len()];
        spool.read_at(0, &mut back).unwrap();
        assert!(back == all);
    }

    #[test]
    fn a_descriptor_gives_what_was_pushed_before_and_after_it_was_asked_for() {
        let mut spool = Spool::default();
        spool.push(b"abc").unwrap();
        spool.fd().unwrap();
        spool.push(b"def").unwrap();
        let mut back = [0; 6];
        nix::sys::uio::pread(spool.fd().unwrap(), &mut back, 0).unwrap();
        assert_eq!(&back, b"abcdef");
    }

    #[test]
    fn a_source_is_read_no_further_than_asked() {
        let mut spool = Spool::default();
        spool.push_from(&mut std::io::repeat(7), 70_000).unwrap();
        assert_eq!(spool.len(), 70_000);
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let mut spool = Spool::default();
        spool.push(b"ab").unwrap();
        assert!(spool.read_at(1, &mut [0; 2]).is_err());
    }
}
