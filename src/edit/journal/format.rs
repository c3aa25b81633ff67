//! The format of a journal: the identity of its target, the ranges, the old and the new bytes, a checksum.

use super::trust::{MODE, is_fat};
use crate::edit::edits::MOST_CUT;
use crate::edit::error::Result;
use crate::mapping::{Backing, ByteRange, Kind, Segment};
use nix::sys::stat::major;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, fstatfs};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

pub(super) const MAGIC: &[u8; 8] = b"MMAPUNDO";
/// The magic once everything is done. The checksum covers it, so the journal is then invalid.
pub(super) const DONE: &[u8; 8] = b"MMAPDONE";
const VERSION: u64 = 3;
/// The end of the version field; the version determines the layout of what follows.
const VERSION_END: u64 = 16;
/// The position of the byte that says whether the target's length is being changed: the last of the version field. It
/// is not in the checksum, so that it can be changed by itself.
pub(super) const RESIZING_AT: u64 = VERSION_END - 1;
const HEAD: u64 = 64;
const TAIL: u64 = 4;

/// How many bytes are copied at a time.
pub(super) const BLOCK: u64 = 128 << 10;

/// Identifies the target of a journal, also after a power failure; a field is 0 if it identifies nothing.
///
/// The birth time is stored on disk with the inode, so it is better evidence than a device number. The device number
/// may change at every boot (a loop device, a USB stick, and every file system without a device of its own), and xfs,
/// f2fs and FAT derive f_fsid of statfs(2) from it. Neither number changes if a file is removed and another one gets
/// its inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetId {
    /// `st_dev`; 0 for file systems without a device of their own, which are numbered in the order in which they are
    /// mounted.
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Nanoseconds since 1970; 0 if the file system does not store it.
    pub(super) born: u64,
}

impl TargetId {
    /// The identity of an open file. It is empty for a device, whose node may be another one when the power is back,
    /// and for files on FAT and FUSE, which generate inode numbers as needed: there the length and the bytes must
    /// suffice. overlayfs may renumber a file when it is mounted, but shows the birth time of the underlying file.
    pub(super) fn of(target: &Backing) -> Result<TargetId> {
        let nothing = TargetId {
            device: 0,
            inode: 0,
            born: 0,
        };
        let Some(fs) = target.fd().map(fstatfs) else {
            return Ok(nothing);
        };
        let is = |magic: FsType| fs.is_ok_and(|fs| fs.filesystem_type() == magic);
        if target.facts().kind != Kind::Regular || is_fat(fs) || is(FUSE_SUPER_MAGIC) {
            return Ok(nothing);
        }
        let meta = target.metadata()?;
        let born = meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(TargetId {
            device: if major(meta.dev()) == 0 { 0 } else { meta.dev() },
            inode: if is(OVERLAYFS_SUPER_MAGIC) { 0 } else { meta.ino() },
            born: born.map_or(0, |born| born.as_nanos() as u64),
        })
    }

    /// Whether a journal with this identity was written for the file whose identity is `now`. A journal `beside` its
    /// file is on the same device.
    pub(super) fn is_of(&self, now: &TargetId, beside: bool) -> bool {
        // A field that the journal does not have is not known of the file either, otherwise the journal is of another
        // file.
        let agree = |said, known| said == known || said != 0 && known == 0;
        let born = self.born != 0 && self.born == now.born;
        self.inode == now.inode && agree(self.born, now.born) && (born || beside || agree(self.device, now.device))
    }
}

/// A writer that computes the checksum of the bytes written through it.
pub(super) struct CrcWriter<W> {
    pub(super) inner: W,
    pub(super) crc: crc32fast::Hasher,
}

impl<W: Write> CrcWriter<W> {
    pub(super) fn new(inner: W) -> CrcWriter<W> {
        CrcWriter {
            inner,
            crc: crc32fast::Hasher::new(),
        }
    }

    /// Writes the version field.
    pub(super) fn put_version(&mut self, resizing: bool) -> std::io::Result<()> {
        self.crc.update(&VERSION.to_le_bytes());
        self.inner.write_all(&(VERSION | u64::from(resizing) << 56).to_le_bytes())
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crc.update(bytes);
        self.inner.write_all(bytes)
    }
}

/// The content of a journal file.
#[derive(Debug)]
pub(super) enum ParsedJournal {
    Valid(JournalContents),
    /// Not a complete journal: its writing was interrupted, or it never was a journal.
    Unfinished {
        content: UnknownJournal,
    },
    /// Complete, but of an unsupported form. Treating it as unfinished would discard what it says.
    Strange(&'static str),
}

/// The content of a file that is not a complete journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownJournal {
    /// The beginning of a journal.
    Begun,
    /// Nothing.
    Empty,
    /// Zeros: a journal whose blocks never reached the disk, or anything of the user's.
    Zeros,
    /// Anything else.
    Other,
}

impl UnknownJournal {
    /// Whether a file at a path that the user named may be removed. An empty file has no content to lose, but its name
    /// may have a meaning (as a lock, for example), so it must have the mode and the single name that a journal is
    /// created with.
    pub(super) fn is_ours(self, meta: &std::fs::Metadata) -> bool {
        self == UnknownJournal::Begun
            || self == UnknownJournal::Empty && meta.mode() & 0o7777 == MODE && meta.nlink() == 1
    }
}

/// A valid journal, read.
#[derive(Debug)]
pub(super) struct JournalContents {
    pub(super) target: TargetId,
    pub(super) before: u64,
    pub(super) after: u64,
    /// Whether the length was being changed.
    pub(super) resizing: bool,
    /// The edits; `from` is the offset of their old bytes in the journal.
    pub(super) old: Vec<Segment>,
    /// The distance from the old bytes to the new ones in the journal.
    pub(super) to_new: u64,
}

impl JournalContents {
    /// Reads and classifies a journal file of `len` bytes.
    pub(super) fn read(file: &File, len: u64) -> std::io::Result<ParsedJournal> {
        let mut source = BufReader::new(file);
        let mut magic = Vec::new();
        source.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if let Some(why) = implausible(file, len)? {
            return Ok(ParsedJournal::Strange(why));
        }
        // A long file that does not begin as a journal is none, whatever its checksum.
        let long = len > SUMMED_AT_ONCE;
        if len < VERSION_END + TAIL || long && magic != MAGIC || !is_sound(file, len)? {
            let content = match magic.as_slice() {
                begun if begun == MAGIC || begun == DONE => UnknownJournal::Begun,
                [] => UnknownJournal::Empty,
                [0, ..] if !long && are_zeros(file)? => UnknownJournal::Zeros,
                _ => UnknownJournal::Other,
            };
            return Ok(ParsedJournal::Unfinished { content });
        }
        source.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        let mut number = || -> std::io::Result<u64> {
            let mut bytes = [0; 8];
            source.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        if magic != MAGIC {
            return Ok(ParsedJournal::Strange("it is not a journal of mmapctl"));
        }
        let (version, resizing) = version_of(number()?);
        if version != VERSION {
            return Ok(ParsedJournal::Strange("another version of mmapctl wrote it"));
        }
        let nonsense = Ok(ParsedJournal::Strange("its checksum is correct, but its contents are not"));
        let Some(bytes) = len.checked_sub(HEAD + TAIL) else {
            return nonsense;
        };
        let target = TargetId {
            device: number()?,
            inode: number()?,
            born: number()?,
        };
        let (before, after, count) = (number()?, number()?, number()?);
        if count > bytes / 16 || before > after.saturating_add(MOST_CUT) {
            return nonsense;
        }
        let mut old = Vec::new();
        let mut from = HEAD + count * 16;
        let mut end = 0;
        for index in 0..count {
            let (at, len) = (number()?, number()?);
            let Some(span) = ByteRange::at(at, len) else {
                return nonsense;
            };
            if len == 0 || (index > 0 && at <= end) || span.end() > before.max(after) {
                return nonsense;
            }
            end = span.end();
            old.push(Segment::of(span, from));
            from = from.saturating_add(len);
        }
        let to_new = from - (HEAD + count * 16);
        if to_new.checked_mul(2) != Some(bytes - count * 16) {
            return nonsense;
        }
        Ok(ParsedJournal::Valid(JournalContents {
            target,
            before,
            after,
            resizing,
            old,
            to_new,
        }))
    }
}

/// The version, and whether the length was being changed.
fn version_of(field: u64) -> (u64, bool) {
    (field & (u64::MAX >> 8), field >> 56 != 0)
}

/// Whether all bytes of the file are zero.
fn are_zeros(file: &File) -> std::io::Result<bool> {
    let mut source = BufReader::with_capacity(BLOCK as usize, file);
    source.seek(SeekFrom::Start(0))?;
    loop {
        let part = source.fill_buf()?;
        let len = part.len();
        if len == 0 || part.iter().any(|byte| *byte != 0) {
            return Ok(len == 0);
        }
        source.consume(len);
    }
}

/// Up to this many bytes, a file is checksummed without checking its header first.
const SUMMED_AT_ONCE: u64 = 64 << 20;

/// Why, according to its header, a long journal is not worth reading and checksumming as a whole. A sparse file may be
/// as long as the file system allows.
fn implausible(file: &File, len: u64) -> std::io::Result<Option<&'static str>> {
    if len <= SUMMED_AT_ONCE {
        return Ok(None);
    }
    let mut source = BufReader::with_capacity(BLOCK as usize, file);
    source.seek(SeekFrom::Start(0))?;
    let mut head = [0; HEAD as usize];
    source.read_exact(&mut head)?;
    let number = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if !head.starts_with(MAGIC) {
        return Ok(None);
    }
    if version_of(number(MAGIC.len())).0 != VERSION {
        return Ok(Some("another version of mmapctl wrote it"));
    }
    let count = number(head.len() - 8);
    let mut bytes: u64 = 0;
    for index in 0..count {
        let mut edit = [0; 16];
        source.read_exact(&mut edit)?;
        let edited = edit[8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        bytes = bytes.saturating_add(edited);
        if edited == 0 || index > len / 16 {
            break;
        }
    }
    let says = bytes.saturating_mul(2).saturating_add(count.saturating_mul(16)).saturating_add(HEAD + TAIL);
    Ok((len > says).then_some("it is longer than it says"))
}

/// Whether the checksum at the end matches everything before it.
fn is_sound(file: &File, len: u64) -> std::io::Result<bool> {
    let mut source = BufReader::with_capacity(BLOCK as usize, file);
    source.seek(SeekFrom::Start(0))?;
    let mut crc = crc32fast::Hasher::new();
    let mut block = vec![0; BLOCK as usize];
    let mut left = len - TAIL;
    while left > 0 {
        let part = &mut block[..left.min(BLOCK) as usize];
        match source.read_exact(part) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if left == len - TAIL
            && let Some(resizing) = part.get_mut(RESIZING_AT as usize)
        {
            *resizing = 0;
        }
        crc.update(part);
        left -= part.len() as u64;
    }
    let mut sum = [0; TAIL as usize];
    source.read_exact(&mut sum)?;
    Ok(crc.finalize().to_le_bytes() == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_inode_and_its_birth_and_only_then_by_its_device() {
        let file = |device, inode, born| TargetId { device, inode, born };
        let said = file(7, 12, 1_000);
        for (now, beside, elsewhere) in [
            (file(7, 12, 1_000), true, true),
            // After a reboot.
            (file(8, 12, 1_000), true, true),
            (file(0, 12, 1_000), true, true),
            // Removed and created again.
            (file(7, 12, 1_001), false, false),
            (file(7, 13, 1_000), false, false),
            // Through an overlayfs.
            (file(0, 0, 1_000), false, false),
            // Moved to another kernel, which does not report the birth time.
            (file(7, 12, 0), true, true),
            (file(8, 12, 0), true, false),
        ] {
            assert_eq!(said.is_of(&now, true), beside, "{now:?}");
            assert_eq!(said.is_of(&now, false), elsewhere, "{now:?}");
        }
        let unknown = file(0, 0, 0);
        assert!(unknown.is_of(&unknown, false) && !unknown.is_of(&said, true) && !said.is_of(&unknown, true));
    }
}
