//! `--atomic`: the undo journal, which makes a patch old or new as a whole even if the power fails.
//!
//! ```text
//! magic   8   "MMAPUNDO"            little-endian throughout
//! version 7   3
//! length  1   1 while the length is being changed, else 0; not in the checksum
//! device  8   of the target's file system; 0 if it identifies nothing, as in the next two
//! inode   8   of the target
//! born    8   the target's birth time, nanoseconds since 1970
//! before  8   the target's length before the patch, bytes
//! after   8   its length after the patch, bytes
//! count   8   edits
//! edits   16 each: offset, length; ascending, not touching
//! old     the old bytes of all edits, then
//! new     the new bytes
//! crc32   4   of everything before it
//! ```
//!
//! A file system without a journal of its own may make a new length, and the blocks for it, durable before their bytes:
//! after a power failure, deleted files' bytes are in the part by which the file has grown. So `length` is 1 from before
//! the length changes until a longer file's new part is durable, and a recovery then takes any bytes past the shorter
//! of the two lengths. Otherwise it refuses there what is neither old nor new, because another program wrote it.
//!
//! The order of the steps is what makes this work: the old bytes are durable before the journal, the journal and its
//! name before the first store, the stores before the magic becomes "MMAPDONE", and that before the journal is
//! unlinked. So an invalid journal means that the target is whole, either because it was never touched or because the
//! patch has ended, and a valid one has everything that is needed to restore it. For each barrier, a mutant in
//! tests/crash_model.rs shows what happens without it.

mod due;
mod format;
mod path;
mod recover;
mod trust;

use crate::edit::error::{Error, ErrorContext, Outcome, Result};
pub use due::{recovery_needed, unless_half_patched, waits_for_recovery};
pub use path::{JournalPath, is_journal_name, sync_parent_dir};
pub use recover::{Recovery, recover};

use super::spooled::SpooledBytes;
use crate::mapping::{ByteRange, Region, Segment};
use crate::text::shown;
use format::{BLOCK, CrcWriter, MAGIC, RESIZING_AT, TargetId};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use path::{Removal, mark_at_work};
use std::fs::{File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use trust::{MODE, distrust, is_fat};

/// A durable journal: the target may be written to.
#[derive(Debug)]
pub(super) struct Journal {
    place: JournalPath,
    folder: File,
    /// Kept open until the end because of its lock, see [`mark_at_work`].
    file: File,
    /// The command to run if the journal remains.
    remedy: String,
}

impl Journal {
    /// Writes the journal of what is about to be stored, and makes the journal and its name durable.
    ///
    /// # Errors
    /// If there is no room or no permission to write in the folder, or if there is a journal already. The target is
    /// untouched, and nothing is left behind, unless the error says so (exit code 4).
    pub(super) fn begin(
        place: &JournalPath,
        region: &Region,
        len_after: u64,
        pieces: &[Segment],
        old: &mut SpooledBytes,
        new: &mut SpooledBytes,
    ) -> Result<Journal> {
        let failed = || {
            let message = format!("nothing was written: cannot make the recovery journal '{}'", shown(&place.path));
            Error::untouched(message).tip("--journal PATH puts it elsewhere, on a durable file system")
        };
        let folder = place.folder().map_failure(failed)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let opened = openat(&folder, place.name(), flags, Mode::from_bits_truncate(MODE));
        let file = File::from(opened.map_err(std::io::Error::from).map_failure(failed)?);
        mark_at_work(&file);
        let journal = Journal {
            place: place.clone(),
            folder,
            file,
            remedy: place.recovery_command(region.backing()),
        };
        let written = journal.write(region, len_after, pieces, old, new);
        let Err(error) = written else { return Ok(journal) };
        // The journal is invalid, or holds what the target holds anyway. But a valid journal that reappears after a
        // power failure would undo a later patch. It is unknown whether another fsync of the folder would succeed, so
        // nothing more can be done.
        match place.remove(&journal.file, &journal.folder) {
            Ok(()) | Err(Removal::NotDurable(_)) => Err(error).map_failure(failed),
            Err(Removal::Ended(_)) => Err(error)
                .map_failure(failed)
                .map_failure(|| journal.ended_one("the file is as it was", Outcome::Untouched)),
            Err(Removal::Stays(_)) => Err(error).map_failure(failed).map_failure(|| journal.left_behind()),
        }
    }

    fn write(
        &self,
        region: &Region,
        len_after: u64,
        pieces: &[Segment],
        old: &mut SpooledBytes,
        new: &mut SpooledBytes,
    ) -> Result<()> {
        make_believable(&self.file, region)?;
        if !self.place.is_beside(&self.folder, region.backing())? {
            let failure = Error::untouched("another file or directory is at its path now");
            return Err(failure.tip("run the same command again"));
        }
        let mut out = CrcWriter::new(BufWriter::with_capacity(BLOCK as usize, &self.file));
        out.put(MAGIC)?;
        out.put_version(len_after > region.length())?;
        let target = TargetId::of(region.backing())?;
        let head = [
            target.device,
            target.inode,
            target.born,
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
                for part in ByteRange::first(u64::MAX).from(piece.from).split(piece.len()).0.windows(BLOCK) {
                    bytes.resize(part.len() as usize, 0);
                    side.read_at(part.start(), &mut bytes)?;
                    out.put(&bytes)?;
                }
            }
        }
        let crc = out.crc.clone().finalize();
        out.put(&crc.to_le_bytes())?;
        out.inner.into_inner().map_err(|error| error.into_error())?;
        self.file.sync_all()?;
        self.folder.sync_all()?;
        Ok(())
    }

    /// Notes, durably, whether the target's length is being changed.
    pub(super) fn note_resizing(&self, resizing: bool) -> std::io::Result<()> {
        self.file.write_all_at(&[u8::from(resizing)], RESIZING_AT)?;
        self.file.sync_data()
    }

    /// Ends the patch that had `outcome`: removes the journal once the new bytes, or the old ones again, are durable, or if
    /// nothing was stored (not `has_stored`).
    ///
    /// # Errors
    /// Errors of the outcome, of [`Journal::end`] and of [`Journal::end_put_back`]; a file in doubt keeps its journal.
    pub(super) fn close(self, outcome: Result<()>, has_stored: bool) -> Result<()> {
        match outcome {
            Ok(()) => self.end(),
            Err(error) if error.outcome() == Outcome::InDoubt && has_stored => {
                Err(error).map_failure(|| self.left_behind())
            }
            // The file is as it was, durably, so its journal is obsolete.
            Err(error) => match self.end_put_back() {
                Ok(()) => Err(error),
                Err(remains) => Err(remains.context(format!("{error}"))),
            },
        }
    }

    /// Removes the journal after the new bytes are durable.
    ///
    /// # Errors
    /// Exit code 4 if the journal remains, because the next writer would undo the patch; 3 if its removal is not
    /// durable.
    fn end(self) -> Result<()> {
        match self.place.remove(&self.file, &self.folder) {
            Ok(()) => Ok(()),
            Err(Removal::Stays(error)) => Err(error).map_failure(|| self.left_behind()),
            Err(Removal::Ended(error)) => {
                Err(error).map_failure(|| self.ended_one("the file was changed, durably", Outcome::Changed))
            }
            Err(Removal::NotDurable(error)) => Err(error).map_failure(|| {
                let message = "the file was changed, but the journal's removal is not proven durable";
                let tip = "if the power fails now, the next mmapctl verb that writes may undo the patch; see 'dmesg'";
                Error::changed(message).tip(tip)
            }),
        }
    }

    /// Removes the journal after the old bytes are durable again.
    ///
    /// # Errors
    /// Exit code 4 if the journal remains; 2 if its removal is not durable, because the file is as it was.
    fn end_put_back(self) -> Result<()> {
        match self.place.remove(&self.file, &self.folder) {
            Ok(()) => Ok(()),
            Err(Removal::Stays(error)) => Err(error).map_failure(|| self.left_behind()),
            Err(Removal::Ended(error)) => Err(error).map_failure(|| self.ended_one("the file was put back as it was", Outcome::RolledBack)),
            Err(Removal::NotDurable(error)) => Err(error).map_failure(|| {
                let message = "the file was put back as it was, but the journal's removal is not proven durable";
                let tip = "if the power fails now, the journal may be there again, and recovery refused because of later edits; see 'dmesg'";
                Error::untouched(message).tip(tip)
            }),
        }
    }

    /// The error for a journal that remains, but is marked as done.
    fn ended_one(&self, done: &str, outcome: Outcome) -> Error {
        let path = shown(&self.place.path);
        let message = format!(
            "{done}, but its finished journal '{path}' cannot be removed; verbs that read refuse the file until it is gone"
        );
        let tip =
            format!("when its directory permits this again, the next verb that writes removes it: '{}'", self.remedy);
        Error::new(outcome, message).tip(tip)
    }

    /// The error for a journal that remains.
    fn left_behind(&self) -> Error {
        let message = format!("in doubt: the recovery journal '{}' remains", shown(&self.place.path));
        let tip = format!("the next verb that writes to the file puts it back as it was: '{}'", self.remedy);
        Error::in_doubt(message).tip(tip)
    }
}

/// Ensures that a recovery will trust the new journal: a umask may have removed permissions.
///
/// # Errors
/// If the file system creates files with another owner or mode than requested. No journal is better than one that is
/// rejected when it is needed.
fn make_believable(file: &File, region: &Region) -> Result<()> {
    if file.metadata()?.mode() & 0o7777 != MODE {
        // If this fails, the check of the mode below notices.
        let _ = file.set_permissions(Permissions::from_mode(MODE));
    }
    match distrust(&file.metadata()?, || is_fat(fstatfs(file)), region.backing())? {
        None => Ok(()),
        Some(why) => {
            let message = format!("recovery would not trust it: {why}");
            let tip = "--journal PATH puts it elsewhere, on a file system that keeps owners and modes";
            Err(Error::untouched(message).tip(tip))
        }
    }
}

/// Joins pieces that touch, which are adjacent in the journal, too, with both their old and their new bytes. This is an
/// iterator because a list would be as long as that of the pieces.
fn merged(pieces: &[Segment]) -> impl Iterator<Item = ByteRange> {
    pieces
        .chunk_by(|one, next| one.range().end() == next.at())
        .filter_map(|run| Some(run.first()?.range().join(run.last()?.range())))
}
