//! Bytes on their way into a file, or kept to put back: in memory while few, in an unlinked file beyond that.

use crate::edit::error::{Error, ErrorContext, Result};
use crate::mapping::memfd_with;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Up to this many bytes stay in the process's memory.
const IN_MEMORY: usize = 256 << 10;

/// Up to this many stay in a memfd, which is quicker than a file; beyond, they can be paged out to one.
const IN_MEMFD: u64 = 16 << 20;

/// How much of the file part is read at a time.
const BLOCK: usize = 128 << 10;

/// A growing sequence of bytes.
#[derive(Debug, Default)]
pub struct SpooledBytes {
    /// The first part, once the bytes were too many, or a descriptor was asked for.
    file: Option<File>,
    /// Length of the part in the file.
    filed: u64,
    /// What follows it.
    tail: Vec<u8>,
    /// A block of the file part and where it begins: reads mostly go forward in small steps.
    block: (u64, Vec<u8>),
}

impl SpooledBytes {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.filed + self.tail.len() as u64
    }

    /// True while it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// A full or broken temporary directory, once the bytes do not stay in memory.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.tail.is_empty() && self.tail.len() + bytes.len() > IN_MEMORY {
            self.file_tail()?;
        }
        self.tail.extend_from_slice(bytes);
        Ok(())
    }

    fn file_tail(&mut self) -> Result<()> {
        let file = match self.file.take() {
            Some(file) if self.filed <= IN_MEMFD && self.len() > IN_MEMFD => moved_to_disk(file)?,
            Some(file) => file,
            None => memfd_with(c"mmapctl-spool", b"").context("cannot make a memfd")?,
        };
        let file = self.file.insert(file);
        file.write_all_at(&self.tail, self.filed)
            .context("cannot write a temporary file")?;
        self.filed += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// Appends `count` bytes that are all `byte`.
    pub fn push_fill(&mut self, byte: u8, count: u64) -> Result<()> {
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
    pub fn push_from(&mut self, source: &mut impl Read, most: u64) -> Result<()> {
        // A page is enough for most values, and memory that is not touched costs no page fault.
        let mut buf = vec![0; 4 << 10];
        let mut left = most;
        while left > 0 {
            let want = left.min(buf.len() as u64) as usize;
            match source.read(&mut buf[..want]) {
                Ok(0) => break,
                Ok(count) => {
                    self.push(&buf[..count])?;
                    left -= count as u64;
                    if count == buf.len() {
                        buf.resize(64 << 10, 0);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Copies the bytes from `from` on into `buf`, all of which must be there.
    pub fn read_at(&mut self, from: u64, buf: &mut [u8]) -> Result<()> {
        let mut from = from;
        let mut rest = buf;
        while !rest.is_empty() {
            let source = if from < self.filed {
                self.filed_at(from, rest.len())?
            } else {
                let at = (from - self.filed) as usize;
                self.tail.get(at..).unwrap_or_default()
            };
            if source.is_empty() {
                return Err(too_short());
            }
            let count = source.len().min(rest.len());
            rest[..count].copy_from_slice(&source[..count]);
            rest = &mut rest[count..];
            from += count as u64;
        }
        Ok(())
    }

    /// What the file part has from `from` on, a block of it.
    fn filed_at(&mut self, from: u64, wanted: usize) -> Result<&[u8]> {
        let (start, block) = &mut self.block;
        let held = *start..*start + block.len() as u64;
        if !held.contains(&from) {
            // Of what lies far away, no more than is wanted: the next read may be as far from there.
            let goes_on = (held.end..=held.end + BLOCK as u64).contains(&from);
            let len = if goes_on { BLOCK } else { wanted.min(BLOCK) };
            block.resize(len.min((self.filed - from) as usize), 0);
            *start = from;
            let file = self.file.as_ref().ok_or_else(too_short)?;
            if let Err(error) = file.read_exact_at(block, from) {
                block.clear();
                return Err(error).context("cannot read a temporary file");
            }
        }
        Ok(&block[(from - *start) as usize..])
    }

    /// Writes over bytes that are there already.
    pub fn overwrite(&mut self, from: u64, bytes: &[u8]) -> Result<()> {
        if from + bytes.len() as u64 > self.len() {
            return Err(too_short());
        }
        let filed = (self.filed.saturating_sub(from) as usize).min(bytes.len());
        if let Some(file) = self.file.as_ref().filter(|_| filed > 0) {
            file.write_all_at(&bytes[..filed], from)
                .context("cannot write a temporary file")?;
            self.block.1.clear();
        }
        let into_tail = (from + filed as u64).saturating_sub(self.filed) as usize;
        let rest = &bytes[filed..];
        self.tail[into_tail..into_tail + rest.len()].copy_from_slice(rest);
        Ok(())
    }

    /// Uses the file of `other`, whose bytes are lost, for a descriptor of these bytes: none has to be made then.
    pub fn reuse_file_of(&mut self, other: &mut SpooledBytes) {
        if self.file.is_none() {
            self.file = other.file.take();
        }
    }

    /// Writes out what a file that is there already has not yet, so that [`SpooledBytes::fd`] cannot fail later for want of room.
    pub fn settle(&mut self) -> Result<()> {
        if self.file.is_some() && !self.tail.is_empty() {
            self.file_tail()?;
        }
        Ok(())
    }

    /// A descriptor that gives the bytes at their offsets: what the core stores from.
    pub fn fd(&mut self) -> Result<BorrowedFd<'_>> {
        if self.file.is_none() || !self.tail.is_empty() {
            self.file_tail()?;
        }
        Ok(self.file.as_ref().ok_or_else(too_short)?.as_fd())
    }
}

/// The contents of a memfd in an unlinked file. A machine without a writable temporary directory keeps the memfd.
fn too_short() -> Error {
    Error::untouched("the payload is shorter than its edits")
}

fn moved_to_disk(memfd: File) -> Result<File> {
    let Ok(mut file) = tempfile::tempfile() else {
        return Ok(memfd);
    };
    // It has no name that others could open it by; where its permissions cannot be set, that has to do.
    let _ = file.set_permissions(Permissions::from_mode(0o600));
    let mut source = &memfd;
    source.rewind().context("cannot read a memfd")?;
    std::io::copy(&mut source, &mut file).context("cannot write a temporary file")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_alike_from_memory_from_a_file_and_across_the_change() {
        let mut spool = SpooledBytes::default();
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
        assert!(spool.tail.len() <= IN_MEMORY, "4 MB do not stay in memory");
        let mut back = vec![0; all.len()];
        spool.read_at(0, &mut back).unwrap();
        assert!(back == all);
        for from in (0..all.len() - 7).step_by(999) {
            spool.read_at(from as u64, &mut back[..7]).unwrap();
            assert_eq!(back[..7], all[from..from + 7]);
        }
    }

    #[test]
    fn a_descriptor_gives_what_was_pushed_before_and_after_it_was_asked_for() {
        let mut spool = SpooledBytes::default();
        spool.push(b"abc").unwrap();
        spool.fd().unwrap();
        spool.push(b"def").unwrap();
        let mut back = [0; 6];
        nix::sys::uio::pread(spool.fd().unwrap(), &mut back, 0).unwrap();
        assert_eq!(&back, b"abcdef");
    }

    #[test]
    fn bytes_can_be_written_over_in_the_file_in_memory_and_across() {
        let mut spool = SpooledBytes::default();
        spool.push(b"abcd").unwrap();
        spool.fd().unwrap();
        spool.push(b"efgh").unwrap();
        let mut back = [0; 8];
        spool.read_at(0, &mut back).unwrap();
        spool.overwrite(2, b"CDEF").unwrap();
        spool.overwrite(0, b"A").unwrap();
        spool.overwrite(7, b"H").unwrap();
        spool.read_at(0, &mut back).unwrap();
        assert_eq!(&back, b"AbCDEFgH");
        assert!(spool.overwrite(7, b"xx").is_err());
    }

    #[test]
    fn a_source_is_read_no_further_than_asked() {
        let mut spool = SpooledBytes::default();
        spool.push_from(&mut std::io::repeat(7), 70_000).unwrap();
        assert_eq!(spool.len(), 70_000);
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let mut spool = SpooledBytes::default();
        spool.push(b"ab").unwrap();
        assert!(spool.read_at(1, &mut [0; 2]).is_err());
    }
}
