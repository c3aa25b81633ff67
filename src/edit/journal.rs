//! `--atomic`: the undo journal, which makes a patch old or new as a whole even when the power fails.
//!
//! ```text
//! magic   8   "MMAPUNDO"            little-endian throughout
//! version 8   2
//! device  8   of the target's file system; 0 where that says nothing, as in the next two
//! inode   8   of the target
//! born    8   when the target was made, nanoseconds since 1970
//! before  8   the target's length, bytes
//! after   8   its length when all is done
//! count   8   edits
//! edits   16 each: offset, length; ascending, not touching
//! old     the old bytes of all edits, then
//! new     the new bytes
//! crc32   4   of all that stands before it
//! ```
//!
//! Order is everything: the old bytes are durable before the journal, the journal and its name before the first store,
//! the stores before the magic becomes "MMAPDONE", and that before the journal is unlinked. So an invalid journal means
//! that the target is whole, never touched or done with, and a valid one has all it takes to put it back. Each barrier has
//! a mutant in tests/crash_model.rs that shows what happens without it.

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
use format::{BLOCK, CrcWriter, MAGIC, TargetId, VERSION};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use path::{Removal, mark_at_work};
use std::fs::{File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use trust::{MODE, distrust, is_fat};

/// A journal that is durable: the target may be stored into.
#[derive(Debug)]
pub(super) struct Journal {
    place: JournalPath,
    folder: File,
    /// Open until the end, for its lock: see [`mark_at_work`].
    file: File,
    /// What to run if it stays.
    remedy: String,
}

impl Journal {
    /// Writes the journal of what is about to be stored, and makes it and its name durable.
    ///
    /// # Errors
    /// No room, no right to write in the folder, a journal that is there already. The target is untouched, and nothing
    /// is left behind, unless the error says so (exit code 4).
    pub(super) fn begin(
        place: &JournalPath,
        region: &Region,
        len_after: u64,
        pieces: &[Segment],
        old: &mut SpooledBytes,
        new: &mut SpooledBytes,
    ) -> Result<Journal> {
        let failed = || {
            let message = format!(
                "nothing was written: cannot make the recovery journal '{}'",
                shown(&place.path)
            );
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
        // It is invalid, or says what the target holds anyway; but a valid one that the power's failing brings back
        // would undo a later patch. Whether the folder takes another fsync is not known; more cannot be done.
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
        let target = TargetId::of(region.backing())?;
        let head = [
            VERSION,
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
                for part in ByteRange::first(u64::MAX)
                    .from(piece.from)
                    .split(piece.len())
                    .0
                    .windows(BLOCK)
                {
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

    /// Ends the patch that had `outcome`: once the new bytes are durable, or the old ones again, the journal goes.
    ///
    /// # Errors
    /// That of the outcome, and what [`Journal::end`] or [`Journal::end_put_back`] say; a file in doubt keeps its
    /// journal.
    pub(super) fn close(self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => self.end(),
            Err(error) if error.outcome() == Outcome::InDoubt => Err(error).map_failure(|| self.left_behind()),
            // The file is as it was, durably: its journal has nothing to say any more.
            Err(error) => match self.end_put_back() {
                Ok(()) => Err(error),
                Err(remains) => Err(remains.context(format!("{error}"))),
            },
        }
    }

    /// The new bytes are durable: the journal goes.
    ///
    /// # Errors
    /// Exit code 4 when it stays, for the next writer would undo the patch; 3 when its going is not durable.
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

    /// The old bytes are durable again: the journal goes.
    ///
    /// # Errors
    /// Exit code 4 when it stays; 2 when its going is not durable, for the file is as it was.
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

    /// What to say when the journal stays, and says nothing any more.
    fn ended_one(&self, done: &str, outcome: Outcome) -> Error {
        let path = shown(&self.place.path);
        let message = format!(
            "{done}, but its finished journal '{path}' cannot be removed; verbs that read refuse the file until it is gone"
        );
        let tip = format!(
            "when its directory permits this again, the next verb that writes removes it: '{}'",
            self.remedy
        );
        Error::new(outcome, message).tip(tip)
    }

    /// What to say when the journal stays.
    fn left_behind(&self) -> Error {
        let message = format!("in doubt: the recovery journal '{}' remains", shown(&self.place.path));
        let tip = format!(
            "the next verb that writes to the file puts it back as it was: '{}'",
            self.remedy
        );
        Error::in_doubt(message).tip(tip)
    }
}

/// Sees to it that a recovery will believe the new journal: a umask may have taken rights away.
///
/// # Errors
/// A file system that gives files another owner or mode than asked for. Better no journal than one that is refused
/// when it is needed.
fn make_believable(file: &File, region: &Region) -> Result<()> {
    if file.metadata()?.mode() & 0o7777 != MODE {
        // Where that fails, the mode is looked at below.
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

/// Pieces that touch, as one run: the old and new bytes of both stand side by side in the journal, too. Not a list, which
/// would be as long as that of the pieces.
fn merged(pieces: &[Segment]) -> impl Iterator<Item = ByteRange> {
    pieces
        .chunk_by(|one, next| one.range().end() == next.at())
        .filter_map(|run| Some(run.first()?.range().join(run.last()?.range())))
}
