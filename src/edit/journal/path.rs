//! Where a file's journal is, and how the creation or removal of its name is made durable.

use super::format::DONE;
use super::trust::MODE;
use crate::edit::error::{Error, ErrorContext, Result};
use crate::mapping::{Backing, Kind, mount_id};
use crate::text::{FILE, quoted, shown};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the journal of a file is, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalPath {
    pub(super) path: PathBuf,
    /// The user named it: the tips must name it again, and the file may be anything.
    pub(super) named: bool,
}

impl JournalPath {
    /// `.NAME.mmapctl-undo` beside an open file, after resolving symlinks. `None` for files that have no folder:
    /// devices, anonymous memory, files whose name is gone.
    ///
    /// # Errors
    /// If the kernel cannot report the name: then it is unknown whether a recovery is due.
    pub fn beside(backing: &Backing) -> Result<Option<JournalPath>> {
        let Some(target) = target(backing)? else {
            return Ok(None);
        };
        let Some(base) = target.file_name() else {
            return Ok(None);
        };
        let name = [PREFIX, base.as_bytes(), SUFFIX].concat();
        let path = target.with_file_name(std::ffi::OsString::from_vec(name));
        Ok(Some(JournalPath { path, named: false }))
    }

    /// Where --atomic puts the file's journal: at the path that the user named, or beside the file.
    ///
    /// # Errors
    /// If the file can have no journal beside it, with the reason.
    pub fn of(backing: &Backing, named: Option<&Path>) -> Result<JournalPath> {
        if let Some(path) = named {
            return Ok(JournalPath::at(path));
        }
        let refuse = |why: &str| Err(Error::untouched(why).tip("give a path for it: --journal PATH"));
        let Some(place) = JournalPath::beside(backing)? else {
            return refuse(match backing.facts().kind {
                Kind::Regular => {
                    "the file no longer has a name, beside which the recovery journal of --atomic could be"
                }
                Kind::BlockDevice | Kind::CharDevice => {
                    "a device has no directory for the recovery journal of --atomic"
                }
                _ => "memory has no directory for the recovery journal of --atomic",
            });
        };
        if let Some(fd) = backing.fd()
            && let Ok(folder) = place.folder()
            && is_mounted_alone(backing, fd, &folder)
        {
            return refuse(
                "the file is a mount point, and a program that opens it elsewhere would not find a recovery journal of --atomic beside it",
            );
        }
        Ok(place)
    }

    /// A journal at a path that the user named.
    pub fn at(path: &Path) -> JournalPath {
        let path = path.to_path_buf();
        JournalPath { path, named: true }
    }

    /// The journal's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file at the journal's path.
    ///
    /// # Errors
    /// If the kernel cannot tell. In a folder beside the file that this process may not search, that counts as a no: it
    /// may read a file that it was given without its folder (`cat /dev/stdin < FILE`).
    pub fn is_taken(&self) -> Result<bool> {
        match std::fs::symlink_metadata(&self.path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(_) if self.cannot_exist() => Ok(false),
            Err(error) if !self.named && error.kind() == ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error).map_failure(|| self.unknown()),
        }
    }

    /// Whether it is beside a file whose name is nearly as long as names can be, so that no journal can have been
    /// created.
    pub(super) fn cannot_exist(&self) -> bool {
        !self.named && self.name().len() > libc::NAME_MAX as usize
    }

    /// The error if the kernel does not tell whether there is a journal.
    pub(super) fn unknown(&self) -> Error {
        let message = format!("cannot tell whether the journal '{}' is there", shown(&self.path));
        Error::untouched(message).tip(match self.named {
            true => "--journal takes the path that was given to --atomic",
            false => "without it, an atomic patch may have been interrupted; cat and map read the file as it is with --ignore-journal",
        })
    }

    /// Whether the patch that made this journal is still running; `None` if that is unknown, because this process may
    /// not open the journal or its file system has no such locks.
    pub fn is_at_work(&self) -> Option<bool> {
        let file = self.open().ok()?;
        let mut lock = whole_file(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
        Some(lock.l_type != libc::F_UNLCK as libc::c_short)
    }

    /// Whether the journal is marked as done: the patch that made it has ended.
    pub fn is_done(&self) -> bool {
        let mut magic = [0; DONE.len()];
        let read = self.open().and_then(|file| file.read_exact_at(&mut magic, 0));
        read.is_ok() && magic == *DONE
    }

    fn open(&self) -> std::io::Result<File> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.path)
    }

    /// The command that recovers the file.
    pub fn recovery_command(&self, target: &Backing) -> String {
        // The safety rules for writers apply to a recovery, too.
        let force = if target.is_protected() { " --force" } else { "" };
        let option = match self.named {
            true => format!(" --journal {}", quoted(&self.path)),
            false => String::new(),
        };
        format!("mmapctl patch {FILE} --script /dev/null{option}{force}")
    }

    /// Removes the journal and its name, durably. It is invalidated first: a file system without a metadata journal
    /// (ext2, FAT) may reuse its blocks and inode for the next journal, which after a power failure could have the
    /// content of this one. `folder` is the one in which the journal was found: by now another folder may have that
    /// path, with the journal of another file.
    pub(super) fn remove(&self, journal: &File, folder: &File) -> Result<(), Removal> {
        let end = |journal: &File| journal.write_all_at(DONE, 0).and_then(|()| journal.sync_all());
        let ended = match end(journal) {
            // A journal of mode 0400 was opened for reading only.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                self.open_to_end(journal, folder).and_then(|journal| end(&journal))
            }
            ended => ended,
        };
        let unlink = || -> std::io::Result<()> {
            let (meta, named) = (journal.metadata()?, fstatat(folder, self.name(), AtFlags::AT_SYMLINK_NOFOLLOW)?);
            if (meta.dev(), meta.ino()) != (named.st_dev, named.st_ino) {
                return Err(std::io::Error::other("another file has its name now"));
            }
            Ok(unlinkat(folder, self.name(), UnlinkatFlags::NoRemoveDir)?)
        };
        unlink().map_err(|error| match ended {
            Ok(()) => Removal::Ended(error),
            Err(_) => Removal::Stays(error),
        })?;
        ended.and(folder.sync_all()).map_err(Removal::NotDurable)
    }

    fn open_to_end(&self, journal: &File, folder: &File) -> std::io::Result<File> {
        journal.set_permissions(Permissions::from_mode(MODE))?;
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = File::from(openat(folder, self.name(), flags, Mode::empty())?);
        match (opened.metadata()?.ino(), journal.metadata()?.ino()) {
            (one, other) if one == other => Ok(opened),
            _ => Err(std::io::Error::other("another file has its name now")),
        }
    }

    /// Whether `folder` contains the file that this journal's name belongs to, unless the user named the journal.
    pub(super) fn is_beside(&self, folder: &File, target: &Backing) -> Result<bool> {
        let name = self.name().as_bytes();
        let name = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
        let Some(name) = name.filter(|_| !self.named) else {
            return Ok(true);
        };
        let meta = target.metadata()?;
        let there = fstatat(folder, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW);
        match there {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (meta.dev(), meta.ino())),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(std::io::Error::from(errno).into()),
        }
    }

    /// The journal's name in its folder.
    pub(super) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    pub(super) fn folder(&self) -> std::io::Result<File> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
    }

    /// See the function [`sync_parent_dir`]; for one folder.
    fn sync_parent_dir(&self, backing: &Backing) -> std::io::Result<()> {
        let opened = self.folder();
        if self.named {
            return match opened {
                // There is no folder, so no journal that could reappear.
                Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => Ok(()),
                opened => opened?.sync_all(),
            };
        }
        let Some(fd) = backing.fd() else { return Ok(()) };
        let synced = match opened {
            Ok(folder) if !is_mounted_alone(backing, fd, &folder) => folder.sync_all(),
            _ => return sync_file_system(fd),
        };
        match synced {
            // The file system does not support fsync of folders.
            Err(error) if [Some(libc::EINVAL), Some(libc::EOPNOTSUPP)].contains(&error.raw_os_error()) => {
                sync_file_system(fd)
            }
            other => other,
        }
    }
}

/// Ensures that no removed journal of this file reappears after a power failure. If an atomic patch was killed after it
/// removed its journal and before the removal was durable, whoever next declares the file durable must do this; nothing
/// visible shows that there was such a patch. If the folder cannot be opened, or is not the one that contains the
/// file's own name, the whole file system is synced instead.
///
/// # Errors
/// If the folder cannot be synced.
pub fn sync_parent_dir(backing: &Backing, named: Option<&Path>) -> Result<()> {
    let failed = |place: &Path| {
        let message = format!(
            "cannot make the removal of a recovery journal at '{}' durable: it may come back after a power failure",
            shown(place)
        );
        Error::untouched(message).tip("the device may be failing: see 'dmesg'")
    };
    match (JournalPath::beside(backing), backing.fd()) {
        (Ok(Some(place)), _) => place.sync_parent_dir(backing).map_failure(|| failed(&place.path))?,
        // Callers that need the journal's path get this error from [`JournalPath::beside`] themselves.
        (Err(_), Some(fd)) => sync_file_system(fd).map_failure(|| failed(Path::new(".*.mmapctl-undo")))?,
        _ => {}
    }
    match named.map(JournalPath::at) {
        Some(place) => place.sync_parent_dir(backing).map_failure(|| failed(&place.path)),
        None => Ok(()),
    }
}

/// Marks an open journal as that of a running patch, with a lock that ends with the process. The lock on the target
/// does not show this, because anyone who may read the target can hold it, too.
pub(super) fn mark_at_work(journal: &File) {
    // If there are no such locks, readers wait for the lock on the target instead.
    let _ = fcntl(journal, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_RDLCK)));
}

/// An open file description lock, see fcntl(2).
fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// syncfs(2).
fn sync_file_system(fd: BorrowedFd<'_>) -> std::io::Result<()> {
    nix::unistd::syncfs(fd).map_err(|errno: Errno| errno.into())
}

/// Whether a file is mounted on its own over another name (`mount --bind FILE FILE`, `docker -v FILE:FILE`), so that
/// `folder`, which contains that name, does not contain the file's own name. If the kernel does not report the mounts,
/// the device numbers are compared.
fn is_mounted_alone(backing: &Backing, file: BorrowedFd<'_>, folder: &File) -> bool {
    match (mount_id(file), mount_id(folder.as_fd())) {
        (Some(of_file), Some(of_folder)) => of_file != of_folder,
        _ => folder.metadata().is_ok_and(|meta| meta.dev() != backing.facts().identity.device),
    }
}

/// The path of an open regular file, without a symlink at its end; `None` for anything else, and if the file has no name
/// any more. It is the path that the kernel shows, or if another file is there, or none, the one that the user gave:
/// the kernel shows the name that was opened, even after the file came back under it by another link, and shows the
/// path in another mount namespace, or one over which something was mounted.
fn target(backing: &Backing) -> Result<Option<PathBuf>> {
    let Some(fd) = backing.fd().filter(|_| backing.facts().kind == Kind::Regular) else {
        return Ok(None);
    };
    let unknown = || Error::untouched("cannot tell where its recovery journal is");
    let file = backing.metadata()?;
    let leads_here =
        |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()) == (file.dev(), file.ino()));
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let shown_leads = match &shown {
        Ok(path) => leads_here(path),
        Err(_) => Ok(false),
    };
    // The path of a journal beside it must not be too long either.
    let is_short = |path: &Path| path.as_os_str().len() + PREFIX.len() + SUFFIX.len() < libc::PATH_MAX as usize;
    if let (Ok(path), Ok(true)) = (&shown, &shown_leads)
        && is_short(path)
    {
        return Ok(Some(path.clone()));
    }
    let given = match backing.path().map(without_links) {
        Some(Ok(path)) if leads_here(&path).is_ok_and(|here| here) => return Ok(Some(path)),
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    match (shown, shown_leads) {
        (Ok(path), Ok(true)) => Ok(Some(path)),
        // A path that cannot be looked up is the best that is known.
        (Ok(path), Err(error)) if error.kind() != ErrorKind::NotFound => Ok(Some(path)),
        (Ok(path), _) => {
            given.map_failure(unknown)?;
            // The kernel says this of a name that is gone. Otherwise the file has one that this process cannot see.
            let is_gone = path.as_os_str().as_bytes().ends_with(b" (deleted)") || file.nlink() == 0;
            match is_gone {
                true => Ok(None),
                false => Err(unknown().tip(
                    "give a path that leads to the file here; cat and map read it as it is with --ignore-journal",
                )),
            }
        }
        (Err(error), _) if error.kind() == ErrorKind::NotFound => {
            given.map_failure(unknown)?;
            let message = "cannot tell where its recovery journal is, as another file is at its path now";
            Err(Error::untouched(message).tip("run the same command again"))
        }
        (Err(error), _) => Err(error).map_failure(unknown),
    }
}

/// The path to which the symlinks at the end of `path` lead.
fn without_links(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ELOOP.into())
}

/// As many as the kernel follows, see path_resolution(7).
const MOST_LINKS: usize = 40;

const PREFIX: &[u8] = b".";
const SUFFIX: &[u8] = b".mmapctl-undo";

/// Whether this could be the name of some file's recovery journal: the next verb that writes to that file would remove
/// any other file of this name.
pub fn is_journal_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes().to_ascii_lowercase();
    name.starts_with(PREFIX) && name.ends_with(SUFFIX) && name.len() > PREFIX.len() + SUFFIX.len()
}

/// What became of a journal that was to be removed.
pub(super) enum Removal {
    /// It is still there.
    Stays(std::io::Error),
    /// It is still there, but is invalid now.
    Ended(std::io::Error),
    /// It is gone, but may reappear after a power failure.
    NotDurable(std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_journals_are_known() {
        for name in [".f.mmapctl-undo", "a/b/.f.mmapctl-undo", "../.F.MMAPCTL-UNDO"] {
            assert!(is_journal_name(Path::new(name)), "{name}");
        }
        for name in [
            "f.mmapctl-undo",
            ".mmapctl-undo",
            "undo",
            ".f.mmapctl-undo/undo",
            "..",
            "",
        ] {
            assert!(!is_journal_name(Path::new(name)), "{name}");
        }
    }
}
