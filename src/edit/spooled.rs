//! Bytes to be written into a file, or kept for a rollback: in memory while they are few, otherwise in an unlinked
//! file.

use crate::edit::error::{Error, ErrorContext, Result};
use crate::mapping::memfd_with;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Up to this many bytes stay in the process's memory.
const IN_MEMORY: usize = 256 << 10;

/// Up to this many bytes stay in a memfd, which is faster than a file; more go to a file, to which they can be paged
/// out.
const IN_MEMFD: u64 = 16 << 20;

/// How many bytes of the file part are read at a time.
const BLOCK: usize = 128 << 10;

/// A growing sequence of bytes.
#[derive(Debug, Default)]
pub struct SpooledBytes {
    /// The file with the first part, if the bytes became too many or a descriptor was requested.
    file: Option<File>,
    /// The length of the part in the file.
    filed: u64,
    /// The bytes after that part.
    tail: Vec<u8>,
    /// A block of the file part and its offset: reads mostly advance in small steps.
    block: (u64, Vec<u8>),
}

impl SpooledBytes {
    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.filed + self.tail.len() as u64
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// If the bytes do not fit in memory, and the temporary directory is full or broken.
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
        file.write_all_at(&self.tail, self.filed).context("cannot write a temporary file")?;
        self.filed += self.tail.len() as u64;
        self.tail.clear();
        Ok(())
    }

    /// Appends `count` bytes, all of them `byte`.
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

    /// Appends what `source` yields, but at most `most` bytes: one more than allowed is enough to notice an excess.
    pub fn push_from(&mut self, source: &mut impl Read, most: u64) -> Result<()> {
        // A page is enough for most values, and memory that is not touched causes no page fault.
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

    /// Reads the bytes from the offset `from` into `buf`; all of them must exist.
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

    /// Returns a block of the file part, from the offset `from`.
    fn filed_at(&mut self, from: u64, wanted: usize) -> Result<&[u8]> {
        let (start, block) = &mut self.block;
        let held = *start..*start + block.len() as u64;
        if !held.contains(&from) {
            // For a distant offset, only what is wanted is read: the next read may be just as distant from there.
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

    /// Overwrites existing bytes.
    pub fn overwrite(&mut self, from: u64, bytes: &[u8]) -> Result<()> {
        if from + bytes.len() as u64 > self.len() {
            return Err(too_short());
        }
        let filed = (self.filed.saturating_sub(from) as usize).min(bytes.len());
        if let Some(file) = self.file.as_ref().filter(|_| filed > 0) {
            file.write_all_at(&bytes[..filed], from).context("cannot write a temporary file")?;
            self.block.1.clear();
        }
        let into_tail = (from + filed as u64).saturating_sub(self.filed) as usize;
        let rest = &bytes[filed..];
        self.tail[into_tail..into_tail + rest.len()].copy_from_slice(rest);
        Ok(())
    }

    /// Takes over the file of `other`, whose bytes are lost, for the descriptor of these bytes, so that no file has to
    /// be created then.
    pub fn reuse_file_of(&mut self, other: &mut SpooledBytes) {
        if self.file.is_none() {
            self.file = other.file.take();
        }
    }

    /// If there is a file already, writes the bytes to it that it does not have yet, so that [`SpooledBytes::fd`]
    /// cannot fail later for lack of space.
    pub fn settle(&mut self) -> Result<()> {
        if self.file.is_some() && !self.tail.is_empty() {
            self.file_tail()?;
        }
        Ok(())
    }

    /// A descriptor of a file that holds the bytes at their offsets, for storing from it.
    pub fn fd(&mut self) -> Result<BorrowedFd<'_>> {
        if self.file.is_none() || !self.tail.is_empty() {
            self.file_tail()?;
        }
        Ok(self.file.as_ref().ok_or_else(too_short)?.as_fd())
    }
}

fn too_short() -> Error {
    Error::untouched("the payload is shorter than its edits")
}

/// Moves the contents of a memfd to an unlinked file. Without a writable temporary directory, the memfd is kept.
fn moved_to_disk(memfd: File) -> Result<File> {
    let Ok(mut file) = tempfile::tempfile() else {
        return Ok(memfd);
    };
    // The file has no name by which others could open it, so a failure to set its permissions is acceptable.
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
