//! Checks that paths on a command line are different files: an output must not be an input, nor be written twice.

use super::new_file::folder;
use crate::edit::{Error, JournalPath, Result, is_journal_name};
use crate::mapping::Backing;
use crate::text::shown;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What a path is for, as users know it (`FILE`, `--undo`), and the path.
pub(super) type Named<'a> = (&'a str, &'a Path);

/// Rejects an output that is also an input or another output, under whatever name. Two inputs may be one file. An
/// option that was not given is `None`.
///
/// # Errors
/// If two of them are one file.
pub(super) fn must_differ(inputs: &[Option<Named<'_>>], outputs: &[Option<Named<'_>>]) -> Result<()> {
    for (index, output) in outputs.iter().enumerate() {
        let Some(output) = output else { continue };
        for other in inputs.iter().chain(&outputs[..index]).flatten() {
            if are_one(other.1, output.1) {
                return Err(the_same(other.0, *output));
            }
        }
    }
    Ok(())
}

/// Rejects a `--journal` that is the open file itself, or has the name that belongs to the journal of another file: the
/// next verb that writes to that file would take it for its own journal.
///
/// # Errors
/// See [`must_differ`].
pub(super) fn journal_must_differ(file: &Backing, journal: Option<&Path>) -> Result<()> {
    if let Some(path) = journal.filter(|path| is_journal_name(path)) {
        let own = JournalPath::beside(file)?;
        if !own.is_some_and(|own| are_one_name(own.path(), path)) {
            let failure =
                Error::untouched(format!("--journal: '{}' is the name of another file's journal", shown(path)));
            return Err(failure.tip("name it otherwise, such as --journal undo.journal"));
        }
    }
    let identity = file.facts().identity;
    let identity = (identity.device, identity.inode);
    let is_it = |path: &&Path| fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == identity);
    match journal.filter(is_it) {
        Some(path) => Err(the_same("FILE", ("--journal", path))),
        None => Ok(()),
    }
}

fn the_same(one: &str, (other, path): Named<'_>) -> Error {
    let message = format!("{one} and {other} are the same file, '{}'", shown(path));
    Error::untouched(message).tip(format!("give {other} another path, at which no file exists"))
}

/// Whether two paths lead to one file, or would once a file is created there.
fn are_one(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => is_same(&one, &other),
        (Err(_), Err(_)) => are_one_name(one, other),
        _ => false,
    }
}

/// Whether two paths are one name in one folder.
fn are_one_name(one: &Path, other: &Path) -> bool {
    let folders = (fs::metadata(folder(one)), fs::metadata(folder(other)));
    let in_one = matches!(folders, (Ok(one), Ok(other)) if is_same(&one, &other));
    in_one && one.file_name() == other.file_name()
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let same_device = one.file_type().is_block_device() && other.file_type().is_block_device();
    (one.dev(), one.ino()) == (other.dev(), other.ino()) || same_device && one.rdev() == other.rdev()
}
