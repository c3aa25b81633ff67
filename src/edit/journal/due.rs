//! Whether a file needs recovery: an atomic patch was interrupted, and the file may be half-patched.

use super::path::JournalPath;
use super::recover::distrusted;
use crate::edit::error::{Error, ErrorContext, Outcome, Result};
use crate::mapping::{Access, Backing, ErrorKind};
use crate::text::shown;
use nix::errno::Errno;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Rejects an open file from which bytes or lines are to be read, if it needs recovery.
///
/// # Errors
/// If the file needs recovery.
pub fn unless_half_patched(file: &File, path: &Path) -> Result<()> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(());
    }
    let backing = match Backing::open(path, Access::Read, Duration::ZERO) {
        Ok(backing) => backing,
        Err(error) => match error.cause {
            // A file that cannot be mapped (/proc) cannot have been patched. One that has lost its name since has no
            // journal that could be found.
            ErrorKind::UnsupportedFileType(_) | ErrorKind::Sys(Errno::ENOENT) => return Ok(()),
            _ => return Err(error).map_failure(|| Error::untouched("cannot tell whether it needs recovery")),
        },
    };
    let identity = backing.facts().identity;
    if (meta.dev(), meta.ino()) != (identity.device, identity.inode) {
        return Ok(());
    }
    match waits_for_recovery(&backing, None)? {
        Some(place) => Err(recovery_needed(&place, &backing, Outcome::Untouched)),
        None => Ok(()),
    }
}

/// Returns the journal of a file, beside it or at `named`, if there is one and the patch that made it has ended.
///
/// # Errors
/// If the kernel cannot report the state of the file.
pub fn waits_for_recovery(backing: &Backing, named: Option<&Path>) -> Result<Option<JournalPath>> {
    let mut beside = JournalPath::beside(backing)?;
    while let Some(place) = &beside {
        if waits_at(backing, place)? {
            return Ok(beside);
        }
        // A directory on the way may have been renamed before the look.
        let again = JournalPath::beside(backing)?;
        if again == beside {
            break;
        }
        beside = again;
    }
    match named.map(JournalPath::at) {
        Some(place) if waits_at(backing, &place)? => Ok(Some(place)),
        _ => Ok(None),
    }
}

fn waits_at(backing: &Backing, place: &JournalPath) -> Result<bool> {
    // While this process holds the lock, no other patch of the file is running.
    match backing.holds_lock() {
        true => place.is_taken(),
        false => waits(backing, place),
    }
}

/// How long a verb that reads waits for the lock of a patch whose journal it may not open: the default of
/// --lock-timeout.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a patch may take from making its journal to marking it.
const MARK_TIMEOUT: Duration = Duration::from_secs(1);

fn waits(backing: &Backing, place: &JournalPath) -> Result<bool> {
    let begin = Instant::now();
    while place.is_taken()? {
        let at_work = place.is_at_work();
        // Anyone can mark a file of their own that they have put in its place.
        if at_work == Some(true) && distrusted(place, backing).is_none() {
            return Ok(false);
        }
        let Some(file) = backing.fd().and_then(|fd| fd.try_clone_to_owned().ok()).map(File::from) else {
            return Ok(true);
        };
        match file.try_lock_shared() {
            // A writer holds the lock, or anyone who may read the file. If it is a patch that is about to mark its
            // journal, that takes almost no time; if the mark cannot be seen, wait as for any writer.
            Err(TryLockError::WouldBlock) => {
                let patience = if at_work.is_none() { LOCK_TIMEOUT } else { MARK_TIMEOUT };
                if begin.elapsed() >= patience {
                    return Ok(true);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            // On a file system without locks, running patches cannot be distinguished from interrupted ones.
            Err(TryLockError::Error(_)) => return Ok(true),
            Ok(()) => {
                // Checked again under the lock: a patch that was running a moment ago has removed its journal by now.
                let taken = place.is_taken();
                // Released at once, because readers hold no lock.
                file.unlock().context("cannot unlock it")?;
                return taken;
            }
        }
    }
    Ok(false)
}

/// The error for a file that needs recovery, with this outcome.
pub fn recovery_needed(place: &JournalPath, backing: &Backing, outcome: Outcome) -> Error {
    let message = format!("recovery needed: an atomic patch was interrupted, and left '{}'", shown(place.path()));
    let tip = match backing.holds_lock() {
        true => "start a new session: one that stores puts the file back first".into(),
        false => format!(
            "any verb that writes puts the file back: '{}'; cat and map show it as it is with --ignore-journal",
            place.recovery_command(backing)
        ),
    };
    // Writers would reject this journal; the error says why.
    let failure = distrusted(place, backing).unwrap_or_else(|| Error::untouched(message).tip(tip));
    failure.ending_in(outcome)
}
