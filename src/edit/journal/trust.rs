//! Which files are trusted as journals. Recovery writes a journal's content into the target, so the journal must come
//! from a user who may write to the target anyway.
//!
//! Owner, mode and link count prove that in any folder, including those in which others may create and rename files:
//! nobody can create a file that another user owns, and a file that others may write or link to is not trusted.

use crate::edit::error::Result;
use crate::mapping::Backing;
use nix::sys::statfs::{FsType, MSDOS_SUPER_MAGIC, Statfs};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The mode that a journal is created with.
pub(super) const MODE: u32 = 0o600;

const EXFAT_SUPER_MAGIC: FsType = FsType(0x2011_bab0);

/// Why the file in the place of the target's journal is not trusted; `None` if it is. `on_fat` returns whether it is on
/// a FAT file system.
///
/// # Errors
/// If the kernel cannot report the owner of the target.
pub(super) fn distrust(journal: &Metadata, on_fat: impl FnOnce() -> bool, target: &Backing) -> Result<Option<String>> {
    let (us, owner) = (nix::unistd::geteuid().as_raw(), target.metadata()?.uid());
    let (mode, links) = (journal.mode() & 0o7777, journal.nlink());
    Ok(if journal.is_symlink() {
        Some("it is a symbolic link".into())
    } else if !journal.is_file() {
        Some("it is not a regular file".into())
    } else if ![us, owner].contains(&journal.uid()) {
        let uid = journal.uid();
        Some(format!("it belongs to another user (UID {uid}), neither to you nor to the owner of the file"))
    } else if links != 1 {
        Some(format!("it has {links} hard links, but a journal has only one"))
    } else if mode & !MODE != 0 && (mode & !MODE_ON_FAT != 0 || !on_fat()) {
        Some(format!("its mode is {mode:04o}, but that of a journal is {MODE:04o}"))
    } else {
        None
    })
}

/// FAT has no modes: a mount option sets one for all files. With this one, at least nobody else may write to them.
const MODE_ON_FAT: u32 = 0o755;

/// Whether this is a FAT file system, which stores neither modes nor inode numbers; `fs` is the result of statfs(2).
pub(super) fn is_fat(fs: nix::Result<Statfs>) -> bool {
    fs.is_ok_and(|fs| [MSDOS_SUPER_MAGIC, EXFAT_SUPER_MAGIC].contains(&fs.filesystem_type()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Access;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn modes_that_fat_gives_to_all_files_are_believed_there_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (target, journal) = (dir.path().join("f"), dir.path().join("j"));
        write(&target, b"x").unwrap();
        write(&journal, b"x").unwrap();
        let target = Backing::open(&target, Access::Read, Duration::ZERO).unwrap();
        let believed = |mode, on_fat| {
            set_permissions(&journal, Permissions::from_mode(mode)).unwrap();
            let meta = journal.metadata().unwrap();
            distrust(&meta, || on_fat, &target).unwrap().is_none()
        };
        for mode in [0o600, 0o400, 0o000] {
            assert!(believed(mode, false) && believed(mode, true), "{mode:o}");
        }
        for mode in [0o755, 0o644, 0o700] {
            assert!(!believed(mode, false) && believed(mode, true), "{mode:o}");
        }
        for mode in [0o777, 0o620, 0o602, 0o4600] {
            assert!(!believed(mode, false) && !believed(mode, true), "{mode:o}");
        }
    }
}
