//! Restores a file from its journal.

use super::Journal;
use super::format::{JournalContents, ParsedJournal, TargetId, UnknownJournal};
use super::path::{JournalPath, Removal};
use super::trust::{distrust, is_fat};
use crate::edit::error::{Error, ErrorContext, Result};
use crate::mapping::{Backing, ByteRange, Region, Segment};
use crate::text::{quoted, shown};
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{fstatfs, statfs};
use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// The result of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// No journal.
    Nothing,
    /// An unfinished journal, so the target was never touched; the journal was removed.
    Unfinished,
    /// The target was restored.
    PutBack,
}

/// Restores the file that `region` maps from its journal, if there is one, and removes the journal. This can be
/// repeated, and interrupted and repeated, with the same result. The caller holds the lock. `before_change` is called right
/// before the file is changed.
///
/// # Errors
/// If the journal is of another file or owner, or if the length or the bytes are neither old nor new because another
/// program wrote: nothing is changed (exit code 2). If restoring fails, the journal remains (exit code 4).
pub fn recover(region: &mut Region, place: &JournalPath, before_change: impl FnOnce()) -> Result<Recovery> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    // A journal that is not writable is rejected below, with the reason.
    let opened = options.clone().write(true).open(&place.path);
    let opened = match opened {
        Err(error) if error.kind() != ErrorKind::NotFound => options.open(&place.path),
        opened => opened,
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound || place.cannot_exist() => return Ok(Recovery::Nothing),
        // Even if it cannot be opened, its owner can be seen.
        Err(error) => {
            let failure = distrusted(place, region.backing());
            let is_there = std::fs::symlink_metadata(&place.path).is_ok();
            let otherwise = || {
                if is_there {
                    refused(place, "it cannot be opened")
                } else {
                    place.unknown()
                }
            };
            return Err(error).map_failure(|| failure.unwrap_or_else(otherwise));
        }
    };
    let refuse = |why: &str| Err(refused(place, why));
    let meta = file.metadata().context("cannot look at the recovery journal")?;
    let target = region.backing().metadata()?;
    let doubt = distrust(&meta, || is_fat(fstatfs(&file)), region.backing())?;
    // A file that the user named may be anything, and its content says more than its owner does.
    if let Some(why) = doubt.as_deref().filter(|_| !place.named || !meta.is_file()) {
        return Err(not_believed(place, why));
    }
    if (meta.dev(), meta.ino()) == (target.dev(), target.ino()) {
        let failure = Error::untouched(format!("the journal '{}' is the file itself", shown(&place.path)));
        return Err(failure.tip(PATH_OF_ITS_OWN));
    }
    let found = JournalContents::read(&file, meta.len()).map_failure(|| refused(place, "it cannot be read"))?;
    if let ParsedJournal::Unfinished { content } = &found
        && place.named
        && !content.is_ours(&meta)
    {
        return Err(not_ours(place, *content == UnknownJournal::Zeros));
    }
    if let Some(why) = doubt {
        return Err(not_believed(place, &why));
    }
    let record = match found {
        ParsedJournal::Valid(record) => record,
        ParsedJournal::Strange(why) => return refuse(why),
        // Its barrier was never passed, so no store has happened.
        ParsedJournal::Unfinished { .. } => {
            let folder = place.folder().map_failure(|| refused(place, "its directory cannot be opened"))?;
            return match place.remove(&file, &folder) {
                // Should it reappear, it is invalid then, too.
                Ok(()) | Err(Removal::NotDurable(_)) => Ok(Recovery::Unfinished),
                Err(Removal::Stays(error) | Removal::Ended(error)) => {
                    Err(error).map_failure(|| refused(place, "it is invalid and cannot be removed"))
                }
            };
        }
    };
    let identity = TargetId::of(region.backing())?;
    if !record.target.is_of(&identity, !place.named) {
        return Err(of_another_file(place, &record.target, &identity, region.backing()));
    }
    let len = region.length();
    if !record.may_have_left(len, &target) {
        return refuse(&format!(
            "the file has {len:#x} bytes, neither {:#x} as before the patch nor {:#x} as after it, nor any number between",
            record.before, record.after
        ));
    }
    if let Some(at) = record.first_unknown_byte(&file, region)? {
        return refuse(&format!(
            "the byte at {at:#x} is neither the old nor the new one: another program has written to the file"
        ));
    }
    let journal = Journal {
        place: place.clone(),
        folder: place.folder().map_failure(|| refused(place, "its directory cannot be opened"))?,
        file,
        remedy: place.recovery_command(region.backing()),
    };
    before_change();
    record.put_back(&journal.file, region).map_failure(|| journal.left_behind())?;
    journal.end_put_back()?;
    Ok(Recovery::PutBack)
}

fn refused(place: &JournalPath, why: &str) -> Error {
    let path = shown(&place.path);
    Error::untouched(format!("recovery needed, and refused: the journal '{path}': {why}")).tip(out_of_the_way(place))
}

/// A tip that loses nothing, because the journal may turn out to be needed.
fn out_of_the_way(place: &JournalPath) -> String {
    format!("if the file is correct as it is, move the journal away: {}", rename(place))
}

/// The command that renames the file in the journal's place to an unused name, without following a link there.
fn rename(place: &JournalPath) -> String {
    let names = (1..).map(|number| match number {
        1 => "refused-journal".to_string(),
        number => format!("refused-journal-{number}"),
    });
    let mut paths = names.map(|name| place.path.with_file_name(name));
    let free = paths.find(|path| std::fs::symlink_metadata(path).is_err());
    let free = free.unwrap_or_else(|| place.path.with_extension("refused"));
    format!("mv -nT {} {}", quoted(&place.path), quoted(&free))
}

/// The error for a file in a journal's place that anyone may have put there.
fn not_believed(place: &JournalPath, why: &str) -> Error {
    let path = shown(&place.path);
    let failure = Error::untouched(format!(
        "recovery refused: '{path}' is in the place of the recovery journal, and cannot be trusted: {why}"
    ));
    failure.tip(match place.named {
        true => "--journal takes the path that was given to --atomic".to_string(),
        false => format!(
            "'ls -l {}' shows its owner, who can recover the file; {}",
            quoted(&place.path),
            out_of_the_way(place)
        ),
    })
}

/// Why the file in a journal's place is not trusted, as far as that is visible without opening it.
pub fn distrusted(place: &JournalPath, target: &Backing) -> Option<Error> {
    let meta = std::fs::symlink_metadata(&place.path).ok()?;
    let why = distrust(&meta, || is_fat(statfs(&place.path)), target).ok()??;
    Some(not_believed(place, &why))
}

/// The error for a journal that identifies another file than the present one.
fn of_another_file(place: &JournalPath, said: &TargetId, now: &TargetId, target: &Backing) -> Error {
    if said.inode != now.inode {
        return refused(
            place,
            &format!("it was written for another file: inode {}, and this is inode {}", said.inode, now.inode),
        );
    }
    if said.device == now.device || said.born != now.born && said.born != 0 && now.born != 0 {
        return refused(
            place,
            "it was written for another file, which had the same inode number and was made at another time",
        );
    }
    let device = |device| format!("{}:{}", major(device), minor(device));
    let failure = refused(
        place,
        &format!(
            "it was written for a file on device {}, and this one is on {}",
            device(said.device),
            device(now.device)
        ),
    );
    match (JournalPath::beside(target), target.path()) {
        (Ok(Some(beside)), Some(file)) => failure.tip(format!(
            "device numbers may change at a restart; if it nevertheless belongs to this file, put it beside the file and recover: mv -nT {} {} && mmapctl patch {} --script /dev/null",
            quoted(&place.path),
            quoted(&beside.path),
            quoted(file)
        )),
        _ => failure,
    }
}

const PATH_OF_ITS_OWN: &str = "--journal needs a path of its own: give another path, at which no file exists";

/// The error for a file at a path that the user named that is no journal: it may be anything, so it must not be
/// removed.
fn not_ours(place: &JournalPath, zeros: bool) -> Error {
    let path = shown(&place.path);
    if !zeros {
        return Error::untouched(format!("'{path}' exists, and is not a journal of mmapctl")).tip(PATH_OF_ITS_OWN);
    }
    Error::untouched(format!(
        "'{path}' exists and contains only zeros: it is a journal that did not reach the disk before a power failure (then the file is untouched), or a file of yours"
    ))
    .tip(format!(
        "if it is a journal, move it away: {}; if not, give another path",
        rename(place)
    ))
}

impl JournalContents {
    /// Whether the patch, or an earlier recovery, may have left the file at the length `len` when the power failed: one
    /// of the two lengths, or one between them. btrfs shortens a file extent by extent, and may have made each length
    /// on the way durable. After such a failure e2fsck rounds the length up to the last block that it finds.
    fn may_have_left(&self, len: u64, target: &Metadata) -> bool {
        let (least, most) = (self.before.min(self.after), self.before.max(self.after));
        let rounded = most.checked_next_multiple_of(target.blksize());
        (least..=most).contains(&len) || least < most && rounded == Some(len)
    }

    /// The first byte in the pieces that is neither old nor new, or that another program wrote outside them into the
    /// part by which the file grew. While the length was being changed, the bytes past the shorter length may be
    /// anything.
    fn first_unknown_byte(&self, file: &File, region: &mut Region) -> Result<Option<u64>> {
        use std::os::unix::fs::FileExt;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut found = None;
        let there = match self.resizing {
            true => region.length().min(self.before).min(self.after),
            false => region.length(),
        };
        for piece in self.old.iter().filter_map(|piece| piece.before(there)) {
            region.read_chunks(piece.range(), |at, have| {
                let from = piece.from + (at - piece.at());
                for (side, from) in [(&mut old, from), (&mut new, from + self.to_new)] {
                    side.resize(have.len(), 0);
                    file.read_exact_at(side, from).context("cannot read the recovery journal")?;
                }
                let strange = |(index, have): (usize, &u8)| *have != old[index] && *have != new[index];
                let first = have.iter().enumerate().position(strange);
                // Bytes that were cut off and then reappeared are zeros, as the new ones are.
                found = found.or(first.map(|index| at + index as u64));
                Ok::<_, Error>(())
            })?;
        }
        for gap in self.gaps(there) {
            let mut at = gap.start();
            while let Some(data) = region.next_data(at, gap)? {
                region.read_chunks(data, |at, have| {
                    let first = have.iter().position(|byte| *byte != 0);
                    found = found.or(first.map(|index| at + index as u64));
                    Ok::<_, Error>(())
                })?;
                at = data.end();
            }
        }
        Ok(found)
    }

    /// The parts by which a file, now of length `there`, has grown, without the pieces.
    fn gaps(&self, there: u64) -> Vec<ByteRange> {
        let whole = ByteRange::first(there).from(self.before);
        let (mut rest, mut gaps) = (whole, Vec::new());
        let grown = self.old.iter().map(|piece| piece.range().intersect(whole));
        for piece in grown.filter(|piece| !piece.is_empty()) {
            gaps.extend(ByteRange::new(rest.start(), piece.start()));
            rest = rest.from(piece.end());
        }
        gaps.push(rest);
        gaps
    }

    /// Stores the old bytes and sets the old length, durably.
    fn put_back(&self, file: &File, region: &mut Region) -> Result<()> {
        if region.length() < self.before {
            region.resize(self.before, true)?;
        }
        let pieces: Vec<Segment> = self.old.iter().filter_map(|piece| piece.before(self.before)).collect();
        region.store(&pieces, file.as_fd(), &mut |_| Ok(()))?;
        if region.length() > self.before {
            region.resize(self.before, true)?;
        }
        if let (Some(first), Some(last)) = (pieces.first(), pieces.last()) {
            region.flush(first.range().join(last.range()), false)?;
        }
        if self.before != self.after {
            region.flush_length()?;
        }
        Ok(())
    }
}
