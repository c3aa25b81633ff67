//! `--atomic`: the undo journal, which makes a patch old or new as a whole even when the power fails.
//!
//! ```text
//! magic   8   "MMAPUNDO"            little-endian throughout
//! version 8   1
//! inode   8   of the target; 0 where that says nothing
//! before  8   the target's length, bytes
//! after   8   its length when all is done
//! count   8   edits
//! edits   16 each: offset, length; ascending, not touching
//! old     the old bytes of all edits, then
//! new     the new bytes
//! crc32   4   of all that stands before it
//! ```
//!
//! Order is everything: the journal and its name are durable before the first store, the stores before the journal
//! is unlinked. So an invalid journal means that the target was never touched, and a valid one has all it takes to
//! put it back. Each barrier has a mutant in tests/crash_model.rs that shows what happens without it.

use super::builder::MOST_CUT;
use super::spool::Spool;
use crate::exit::{Exit, Failure, Layer, Told, quoted};
use crate::mapping::{Backing, Kind, Piece, Region, Span};
use crate::report::shown;
use anyhow::Context;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"MMAPUNDO";
const VERSION: u64 = 1;

/// The rights that a journal is made with.
const MODE: u32 = 0o600;
const HEAD: u64 = 48;
const TAIL: u64 = 4;

/// How much is copied at a time, in bytes.
const BLOCK: u64 = 128 << 10;

/// Where the journal of a file is, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    /// The user named it: the tips must name it again, and what is there may be anything.
    named: bool,
}

impl Place {
    /// `.NAME.mmapctl-undo` beside an open file, whatever symlinks led there. `None` for what has no folder of its own
    /// to put one in: devices, anonymous memory, files whose name is gone.
    ///
    /// # Errors
    /// What keeps the kernel from telling the name: then nobody knows whether a recovery is due.
    pub fn beside(backing: &Backing) -> anyhow::Result<Option<Place>> {
        let Some(fd) = backing.fd().filter(|_| backing.facts().kind == Kind::Regular) else {
            return Ok(None);
        };
        let target = match std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
            Ok(target) => target,
            // Without /proc there is nothing to go by, and plain edits are no less safe for it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).or_fail(|| Failure::trouble("cannot tell where its recovery journal is")),
        };
        // A deleted file, or a memfd, has a name that leads nowhere, and a journal there would find no reader.
        let leads_here = match std::fs::metadata(&target) {
            Ok(meta) => meta.ino() == backing.inode()?,
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        let Some(base) = target.file_name().filter(|_| leads_here) else {
            return Ok(None);
        };
        let name = [b".", base.as_bytes(), b".mmapctl-undo"].concat();
        let path = target.with_file_name(std::ffi::OsString::from_vec(name));
        Ok(Some(Place { path, named: false }))
    }

    /// Where the file's journal is: where the user wants it, else beside the file; `None` where there can be none.
    pub fn of(backing: &Backing, named: Option<&Path>) -> Option<Place> {
        match named {
            Some(path) => Some(Place::at(path)),
            // An error was told when the file was opened.
            None => Place::beside(backing).ok().flatten(),
        }
    }

    /// At a path of the user's.
    pub fn at(path: &Path) -> Place {
        let path = path.to_path_buf();
        Place { path, named: true }
    }

    /// The journal's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something is there.
    ///
    /// # Errors
    /// What keeps the kernel from telling, of a path that the user named. Beside a file it is taken for a no: whoever
    /// was given the file without its folder (`cat /dev/stdin < FILE`) may read it.
    pub fn is_taken(&self) -> anyhow::Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if self.named && error.kind() != ErrorKind::NotFound => {
                let message = format!("cannot tell whether the journal '{}' is there", shown(&self.path));
                let tip = "--journal takes the path that was given to --atomic";
                Err(error).or_fail(|| Failure::trouble(message).tip(tip))
            }
            Err(_) => Ok(false),
        }
    }

    /// What to run for the recovery.
    pub fn remedy(&self) -> String {
        let option = match self.named {
            true => format!(" --journal {}", quoted(&self.path)),
            false => String::new(),
        };
        format!("mmapctl patch FILE --script /dev/null{option}")
    }

    /// Takes the journal's name away, durably.
    fn remove(&self) -> Result<(), Removal> {
        std::fs::remove_file(&self.path).map_err(Removal::Stays)?;
        self.sync_folder().map_err(Removal::NotDurable)
    }

    /// Makes sure that no journal comes back here: a patch killed right after it took its own away has not.
    ///
    /// # Errors
    /// What keeps the folder from being synced.
    pub fn settle(&self) -> anyhow::Result<()> {
        self.sync_folder()
            .or_fail(|| Failure::trouble("cannot sync the folder of the recovery journal"))
    }

    /// fsync of the folder: the name's coming or going is durable.
    fn sync_folder(&self) -> std::io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

/// What became of a journal that was to go.
enum Removal {
    /// It is still there.
    Stays(std::io::Error),
    /// It is gone, and may come back when the power fails.
    NotDurable(std::io::Error),
}

/// A journal that is durable: the target may be stored into.
#[derive(Debug)]
pub struct Journal {
    place: Place,
}

impl Journal {
    /// Writes the journal of what is about to be stored, and makes it and its name durable.
    ///
    /// # Errors
    /// No room, no right to write in the folder, a journal that is there already. The target is untouched, and nothing
    /// is left behind, unless the error says so (exit code 4).
    pub fn begin(
        place: &Place,
        region: &Region,
        len_after: u64,
        pieces: &[Piece],
        old: &mut Spool,
        new: &mut Spool,
    ) -> anyhow::Result<Journal> {
        let failed = || {
            let message = format!(
                "nothing was written: cannot make the recovery journal '{}'",
                shown(&place.path)
            );
            Failure::trouble(message).tip("--journal PATH puts it elsewhere, on a durable file system")
        };
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(MODE)
            .custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&place.path).or_fail(failed)?;
        let journal = Journal { place: place.clone() };
        let written = journal.write(file, region, len_after, pieces, old, new);
        let Err(error) = written else { return Ok(journal) };
        // It is invalid, or says what the target holds anyway; but a valid one that the power's failing brings back
        // would undo a later patch. Whether the folder takes another fsync is not known; more cannot be done.
        match place.remove() {
            Ok(()) | Err(Removal::NotDurable(_)) => Err(error).or_fail(failed),
            Err(Removal::Stays(_)) => Err(error).or_fail(failed).or_fail(|| journal.left_behind()),
        }
    }

    fn write(
        &self,
        file: File,
        region: &Region,
        len_after: u64,
        pieces: &[Piece],
        old: &mut Spool,
        new: &mut Spool,
    ) -> anyhow::Result<()> {
        let mut out = Summed::new(BufWriter::with_capacity(BLOCK as usize, file));
        out.put(MAGIC)?;
        let head = [
            VERSION,
            identity(region)?,
            region.length(),
            len_after,
            merged(pieces).count() as u64,
        ];
        for number in head {
            out.put(&number.to_le_bytes())?;
        }
        for run in merged(pieces) {
            out.put(&run.start().to_le_bytes())?;
            out.put(&run.len().to_le_bytes())?;
        }
        let mut bytes = Vec::new();
        for side in [old, new] {
            for piece in pieces {
                for part in Span::at(piece.from, piece.len).unwrap_or(Span::first(0)).windows(BLOCK) {
                    bytes.resize(part.len() as usize, 0);
                    side.read_at(part.start(), &mut bytes)?;
                    out.put(&bytes)?;
                }
            }
        }
        let crc = out.crc.clone().finalize();
        out.put(&crc.to_le_bytes())?;
        let file = out.inner.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()?;
        self.place.sync_folder()?;
        Ok(())
    }

    /// Ends the patch that had `outcome`: once the new bytes are durable, or the old ones again, the journal goes.
    ///
    /// # Errors
    /// That of the outcome, and what [`Journal::end`] or [`Journal::end_put_back`] say; a file in doubt keeps its
    /// journal.
    pub fn close(self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        match outcome {
            Ok(()) => self.end(),
            Err(error) if Told::of(&error).exit == Exit::InDoubt => Err(error).or_fail(|| self.left_behind()),
            // The file is as it was, durably: its journal has nothing to say any more.
            Err(error) => match self.end_put_back() {
                Ok(()) => Err(error),
                Err(remains) => Err(remains.context(format!("{error:#}"))),
            },
        }
    }

    /// The new bytes are durable: the journal goes.
    ///
    /// # Errors
    /// Exit code 4 when it stays, for the next writer would undo the patch; 3 when its going is not durable.
    fn end(self) -> anyhow::Result<()> {
        match self.place.remove() {
            Ok(()) => Ok(()),
            Err(Removal::Stays(error)) => Err(error).or_fail(|| self.left_behind()),
            Err(Removal::NotDurable(error)) => Err(error).or_fail(|| {
                let message = "the file was changed, but the journal's removal is not proven durable";
                let tip =
                    "after a power failure now, the next mmapctl verb that writes may undo the patch; see 'dmesg'";
                Failure::new(Exit::NotDurable, message).tip(tip)
            }),
        }
    }

    /// The old bytes are durable again: the journal goes.
    ///
    /// # Errors
    /// Exit code 4 when it stays; 2 when its going is not durable, for the file is as it was.
    fn end_put_back(self) -> anyhow::Result<()> {
        match self.place.remove() {
            Ok(()) => Ok(()),
            Err(Removal::Stays(error)) => Err(error).or_fail(|| self.left_behind()),
            Err(Removal::NotDurable(error)) => Err(error).or_fail(|| {
                let message = "the file was put back as it was, but the journal's removal is not proven durable";
                let tip = "after a power failure now, the journal may be there again, and other edits in its way; see 'dmesg'";
                Failure::trouble(message).tip(tip)
            }),
        }
    }

    /// What to say when the journal stays.
    fn left_behind(&self) -> Failure {
        let message = format!("in doubt: the recovery journal '{}' remains", shown(&self.place.path));
        let tip = format!(
            "the next verb that writes to the file puts it back as it was: '{}'",
            self.place.remedy()
        );
        Failure::new(Exit::InDoubt, message).tip(tip)
    }
}

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// No journal.
    Nothing,
    /// A journal that was never finished, so that the target was never touched; it was removed.
    Unfinished,
    /// The target was put back as it was before.
    PutBack,
}

/// Puts the file that `region` maps back as its journal says, if there is one, and removes the journal. Done twice,
/// or interrupted and done again, it comes to the same. The caller holds the lock.
///
/// # Errors
/// A journal of another file or owner, a length or bytes that are neither old nor new: somebody else wrote, and
/// nothing is touched (exit code 2). What fails while putting back leaves the journal (exit code 4).
pub fn recover(region: &mut Region, place: &Place) -> anyhow::Result<Recovery> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(&place.path) {
        Ok(file) => file,
        // Beside a name that is nearly as long as names can be, none can have been made.
        Err(error) if [ErrorKind::NotFound, ErrorKind::InvalidFilename].contains(&error.kind()) => {
            return Ok(Recovery::Nothing);
        }
        Err(error) => return Err(error).or_fail(|| refused(place, "it cannot be opened")),
    };
    let refuse = |why: &str| Err(refused(place, why).into());
    let meta = file.metadata().context("cannot look at the recovery journal")?;
    let owner = region.backing().owner()?;
    let us = nix::unistd::geteuid().as_raw();
    if !meta.is_file() {
        return refuse("it is not a regular file");
    }
    if place.named && meta.ino() == region.backing().inode()? {
        return refuse("it is the file itself, or one with its inode number");
    }
    if ![us, owner, 0].contains(&meta.uid()) {
        return refuse("it belongs to another user");
    }
    let record = match Record::read(&file, meta.len()).or_fail(|| refused(place, "it cannot be read"))? {
        Found::Valid(record) => record,
        Found::Strange(why) => return refuse(why),
        Found::Unfinished { content } if place.named && !content.is_ours(&meta) => {
            return Err(not_ours(place, content == Content::Zeros).into());
        }
        // Its barrier was never passed, so no store has happened.
        Found::Unfinished { .. } => {
            return match place.remove() {
                // Should it come back, it is invalid then, too.
                Ok(()) | Err(Removal::NotDurable(_)) => Ok(Recovery::Unfinished),
                Err(Removal::Stays(error)) => {
                    Err(error).or_fail(|| refused(place, "it is invalid and cannot be removed"))
                }
            };
        }
    };
    if ![identity(region)?, 0].contains(&record.inode) {
        return refuse("it was written for another file");
    }
    let len = region.length();
    if len != record.before && len != record.after {
        return refuse(&format!(
            "the file has {len:#x} bytes, neither the {:#x} of before nor the {:#x} of after",
            record.before, record.after
        ));
    }
    if let Some(at) = record.stranger(&file, region)? {
        return refuse(&format!(
            "the byte at {at:#x} is neither the old nor the new one: somebody else wrote to the file"
        ));
    }
    let journal = Journal { place: place.clone() };
    crate::memory::begin_change();
    record.put_back(&file, region).or_fail(|| journal.left_behind())?;
    journal.end_put_back()?;
    Ok(Recovery::PutBack)
}

fn refused(place: &Place, why: &str) -> Failure {
    let path = shown(&place.path);
    Failure::trouble(format!("recovery needed, and refused: the journal '{path}': {why}")).tip(format!(
        "if the file is right as it is, remove the journal: rm {}",
        quoted(&place.path)
    ))
}

/// What stands under a name of the user's and is no journal: it may be anything, and is not ours to remove.
fn not_ours(place: &Place, zeros: bool) -> Failure {
    let path = shown(&place.path);
    let rest = "--journal takes a path of its own: name another path, where nothing is";
    if !zeros {
        return Failure::trouble(format!("'{path}' is there, and is no journal of mmapctl's")).tip(rest);
    }
    Failure::trouble(format!(
        "'{path}' is there and has nothing but zeros: a journal that a power failure kept from the disk, before the \
         file was touched, or a file of yours"
    ))
    .tip(format!(
        "if it is a journal, remove it: rm {}; if not, name another path",
        quoted(&place.path)
    ))
}

/// The target's inode number; 0 where it may be another one when the power is back: of a device node, and of file
/// systems that make such numbers up as they go. There the length and the bytes have to do.
fn identity(region: &Region) -> anyhow::Result<u64> {
    use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, MSDOS_SUPER_MAGIC, fstatfs};
    const EXFAT_SUPER_MAGIC: FsType = FsType(0x2011_bab0);
    let backing = region.backing();
    if backing.facts().kind != Kind::Regular {
        return Ok(0);
    }
    let fs = backing.fd().and_then(|fd| fstatfs(fd).ok());
    let passing = [MSDOS_SUPER_MAGIC, EXFAT_SUPER_MAGIC, FUSE_SUPER_MAGIC];
    match fs.is_some_and(|fs| passing.contains(&fs.filesystem_type())) {
        true => Ok(0),
        false => Ok(backing.inode()?),
    }
}

/// Pieces that touch, as one run: the old and new bytes of both stand side by side in the journal, too. Not a list, which
/// would be as long as that of the pieces.
fn merged(pieces: &[Piece]) -> impl Iterator<Item = Span> {
    pieces
        .chunk_by(|one, next| one.span().end() == next.at)
        .filter_map(|run| Some(run.first()?.span().join(run.last()?.span())))
}

/// A writer that keeps the checksum of what went through it.
struct Summed<W> {
    inner: W,
    crc: crc32fast::Hasher,
}

impl<W: Write> Summed<W> {
    fn new(inner: W) -> Summed<W> {
        Summed {
            inner,
            crc: crc32fast::Hasher::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crc.update(bytes);
        self.inner.write_all(bytes)
    }
}

/// What is in the place of a journal.
#[derive(Debug)]
enum Found {
    Valid(Record),
    /// Not whole: its writing was cut short, or it is none.
    Unfinished {
        content: Content,
    },
    /// Whole, and not to be understood. To take it for unfinished would be to forget what it says.
    Strange(&'static str),
}

/// What is in a file that is no whole journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// It begins as a journal does.
    Begun,
    /// Nothing.
    Empty,
    /// Zeros, which a journal is whose blocks never came to the disk; or anything of the user's.
    Zeros,
    /// Something else.
    Other,
}

impl Content {
    /// Whether a file under a name of the user's may go. An empty one has nothing to lose, but its name may mean
    /// something (a lock, say), so it must have the rights and the one name that a journal is made with.
    fn is_ours(self, meta: &std::fs::Metadata) -> bool {
        self == Content::Begun || self == Content::Empty && meta.mode() & 0o7777 == MODE && meta.nlink() == 1
    }
}

/// A valid journal, read.
#[derive(Debug)]
struct Record {
    inode: u64,
    before: u64,
    after: u64,
    /// The edits; `from` is where their old bytes stand in the journal.
    old: Vec<Piece>,
    /// How far behind the old bytes the new ones stand.
    to_new: u64,
}

impl Record {
    /// Reads what a file of `len` bytes has for a journal.
    fn read(file: &File, len: u64) -> std::io::Result<Found> {
        let mut source = BufReader::new(file);
        let mut magic = Vec::new();
        source.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if len < HEAD + TAIL || !is_sound(file, len)? {
            let content = match magic.as_slice() {
                begun if begun == MAGIC => Content::Begun,
                [] => Content::Empty,
                [0, ..] if are_zeros(file)? => Content::Zeros,
                _ => Content::Other,
            };
            return Ok(Found::Unfinished { content });
        }
        source.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        let mut number = || -> std::io::Result<u64> {
            let mut bytes = [0; 8];
            source.read_exact(&mut bytes)?;
            Ok(u64::from_le_bytes(bytes))
        };
        let (version, inode, before, after, count) = (number()?, number()?, number()?, number()?, number()?);
        let bytes = len - HEAD - TAIL;
        if magic != MAGIC {
            return Ok(Found::Strange("it is no journal of mmapctl's"));
        }
        if version != VERSION {
            return Ok(Found::Strange("another version of mmapctl wrote it"));
        }
        let nonsense = Ok(Found::Strange("its checksum is right and its contents are not"));
        if count > bytes / 16 || before > after.saturating_add(MOST_CUT) {
            return nonsense;
        }
        let mut old = Vec::new();
        let mut from = HEAD + count * 16;
        let mut end = 0;
        for index in 0..count {
            let (at, len) = (number()?, number()?);
            let Some(span) = Span::at(at, len) else { return nonsense };
            if len == 0 || (index > 0 && at <= end) || span.end() > before.max(after) {
                return nonsense;
            }
            end = span.end();
            old.push(Piece { at, len, from });
            from = from.saturating_add(len);
        }
        let to_new = from - (HEAD + count * 16);
        if to_new.checked_mul(2) != Some(bytes - count * 16) {
            return nonsense;
        }
        Ok(Found::Valid(Record {
            inode,
            before,
            after,
            old,
            to_new,
        }))
    }

    /// The first byte covered that is neither old nor new, or that somebody wrote beside them into what the file grew by.
    fn stranger(&self, file: &File, region: &mut Region) -> anyhow::Result<Option<u64>> {
        use std::os::unix::fs::FileExt;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut found = None;
        let there = region.length();
        for piece in self.old.iter().filter_map(|piece| piece.before(there)) {
            region.read_chunks(piece.span(), |at, have| {
                let from = piece.from + (at - piece.at);
                for (side, from) in [(&mut old, from), (&mut new, from + self.to_new)] {
                    side.resize(have.len(), 0);
                    file.read_exact_at(side, from)
                        .context("cannot read the recovery journal")?;
                }
                let strange = |(index, have): (usize, &u8)| *have != old[index] && *have != new[index];
                let first = have.iter().enumerate().position(strange);
                // Bytes that were cut off and then came back are zeros, as the new ones.
                found = found.or(first.map(|index| at + index as u64));
                anyhow::Ok(())
            })?;
        }
        for gap in self.gaps(there) {
            let mut at = gap.start();
            while let Some(data) = region.next_data(at, gap)? {
                region.read_chunks(data, |at, have| {
                    let first = have.iter().position(|byte| *byte != 0);
                    found = found.or(first.map(|index| at + index as u64));
                    anyhow::Ok(())
                })?;
                at = data.end();
            }
        }
        Ok(found)
    }

    /// What a file of length `there` has grown by, without the pieces.
    fn gaps(&self, there: u64) -> Vec<Span> {
        let whole = Span::new(self.before, there).unwrap_or(Span::first(0));
        let (mut rest, mut gaps) = (whole, Vec::new());
        let grown = self.old.iter().map(|piece| piece.span().intersect(whole));
        for piece in grown.filter(|piece| !piece.is_empty()) {
            gaps.extend(Span::new(rest.start(), piece.start()));
            rest = rest.from(piece.end());
        }
        gaps.push(rest);
        gaps
    }

    /// Stores the old bytes and sets the old length, durably.
    fn put_back(&self, file: &File, region: &mut Region) -> anyhow::Result<()> {
        if region.length() < self.before {
            region.resize(self.before, true)?;
        }
        let pieces: Vec<Piece> = self.old.iter().filter_map(|piece| piece.before(self.before)).collect();
        region.store(&pieces, file.as_fd(), &mut |_| Ok(()))?;
        if region.length() > self.before {
            region.resize(self.before, true)?;
        }
        if let (Some(first), Some(last)) = (pieces.first(), pieces.last()) {
            region.flush(first.span().join(last.span()), false)?;
        }
        if self.before != self.after {
            region.flush_length()?;
        }
        Ok(())
    }
}

/// Whether a file has no other bytes.
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

/// Whether the checksum at the end is that of all that stands before it.
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
        crc.update(part);
        left -= part.len() as u64;
    }
    let mut sum = [0; TAIL as usize];
    source.read_exact(&mut sum)?;
    Ok(crc.finalize().to_le_bytes() == sum)
}
