//! A new file into which a verb writes bytes of another file: `patch --undo`, `remap --to`. It gets its name only when
//! it is complete, and only users who can read the other file can read it.

use crate::edit;
use crate::mapping::Backing;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::libc;
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Result};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

/// A file that is being written. Unless it is finished, it is removed.
pub(super) struct NewFile {
    folder: Folder,
    name: OsString,
    file: File,
    /// Its name until it is finished; `None` if it has none (O_TMPFILE), so that not even SIGKILL leaves it behind.
    temporary: Option<OsString>,
}

impl NewFile {
    /// Begins a file that is to be at `path`, where no file may exist, for bytes of `source`; it gets none of the
    /// permissions in `without`.
    ///
    /// # Errors
    /// EEXIST if there is a file; errors of creating a file in that folder.
    pub(super) fn create(path: &Path, source: &Backing, without: Mode) -> edit::Result<NewFile> {
        // Checked again when the file gets its name, and now so that no bytes are written in vain.
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(std::io::Error::from(Errno::EEXIST).into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Err(_) => {}
        }
        let Some(name) = path.file_name() else {
            return Err(std::io::Error::from(Errno::ENOENT).into());
        };
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(std::io::Error::from(Errno::EISDIR).into());
        }
        let folder = Folder::open(folder(path))?;
        let (file, temporary) = match folder.nameless() {
            Some(file) => (file, None),
            None => folder.temporary().map(|(file, name)| (file, Some(name)))?,
        };
        let new = NewFile {
            folder,
            name: name.to_os_string(),
            file,
            temporary,
        };
        source.protect_copy(&new.file, current_umask() | without)?;
        Ok(new)
    }

    /// The file to write to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Closes the complete file and gives it its name, without ever replacing another file. With `durable`, the bytes
    /// are durable before that, and the name afterwards.
    ///
    /// # Errors
    /// EEXIST if there is a file at the path by now; other errors. The file is then gone.
    pub(super) fn finish(mut self, durable: bool) -> Result<Made> {
        if durable {
            self.file.sync_all()?;
        }
        // Closing another descriptor of the file reports the errors that closing the last one would.
        nix::unistd::close(self.file.try_clone()?)?;
        // Everything that may fail comes before the name.
        let made = Made {
            inode: inode_of(&self.file)?,
            folder: Folder(self.folder.0.try_clone()?),
            name: self.name.clone(),
        };
        match &self.temporary {
            None => self.folder.name(&self.file, &self.name)?,
            Some(temporary) => self.folder.rename(temporary, &self.name)?,
        }
        self.temporary = None;
        if durable {
            // Without a metadata journal (ext2), the device still has the file as one without names, which e2fsck would
            // remove: its inode is written once more.
            let named = self.file.sync_all().and_then(|()| self.folder.sync());
            if let Err(error) = named {
                // A name that may vanish again is not what was requested.
                made.remove();
                return Err(error);
            }
        }
        Ok(made)
    }
}

/// A finished file, with what identifies it.
pub(super) struct Made {
    folder: Folder,
    name: OsString,
    /// `st_dev` and `st_ino`.
    inode: (u64, u64),
}

impl Made {
    /// Removes the file, unless another one has its name by now. If that fails, the file remains.
    pub(super) fn remove(&self) {
        let there = fstatat(&self.folder.0, &self.name[..], AtFlags::AT_SYMLINK_NOFOLLOW);
        if there.is_ok_and(|there| (there.st_dev, there.st_ino) == self.inode) {
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// The identity of a file: `st_dev` and `st_ino`.
fn inode_of(file: &File) -> Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // After an error, which is the one that is reported.
            let _ = self.folder.remove(temporary);
        }
    }
}

/// The folder of a new file, held open: users who may write to a folder above it can put another one in its place.
struct Folder(File);

impl Folder {
    /// How many temporary names are tried.
    const TRIES: u32 = 100;

    fn open(path: &Path) -> Result<Folder> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        options.open(path).map(Folder)
    }

    /// A file that has no name yet; `None` if the file system does not support that, or /proc, by which it is named
    /// later, is not available.
    fn nameless(&self) -> Option<File> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.0, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR).ok()?);
        fs::metadata(by_descriptor(&file)).is_ok().then_some(file)
    }

    /// A new file that no other user can open, under a name that cannot be guessed.
    fn temporary(&self) -> Result<(File, OsString)> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mut tries = 0;
        loop {
            tries += 1;
            let name = OsString::from(format!(".mmapctl-{:016x}", random()));
            match openat(&self.0, &name[..], flags, Mode::S_IRUSR | Mode::S_IWUSR) {
                Err(Errno::EEXIST) if tries < Self::TRIES => {}
                opened => return Ok((opened?.into(), name)),
            }
        }
    }

    /// Gives this name to a file without a name.
    fn name(&self, file: &File, name: &OsStr) -> Result<()> {
        let here = &self.0;
        Ok(linkat(here, &by_descriptor(file)[..], here, name, AtFlags::AT_SYMLINK_FOLLOW)?)
    }

    /// Renames the file `temporary`, unless the new name exists.
    fn rename(&self, temporary: &OsStr, name: &OsStr) -> Result<()> {
        let here = &self.0;
        match renameat2(here, temporary, here, name, RenameFlags::RENAME_NOREPLACE) {
            // Not every file system supports it. link(2) replaces no file either.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM) => {
                linkat(here, temporary, here, name, AtFlags::empty())?;
                self.remove(temporary)
            }
            renamed => Ok(renamed?),
        }
    }

    fn remove(&self, name: &OsStr) -> Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }

    fn sync(&self) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        File::from(openat(&self.0, ".", flags, Mode::empty())?).sync_all()
    }
}

/// The path through which an open file is given a name, see open(2) on O_TMPFILE.
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The folder of a path.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// The umask from /proc/self/status: umask(2) can read it only by setting it, for all threads. Without /proc, a umask
/// that gives other users no permissions.
fn current_umask() -> Mode {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
    Mode::from_bits_truncate(mask.unwrap_or(0o077))
}

/// A number that cannot be guessed; without /dev/urandom, one that at least differs each time.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.map_or(0, |now| now.as_nanos() as u64) ^ u64::from(std::process::id()) << 40
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Access;
    use std::io::Write;
    use std::time::Duration;

    /// A folder with a file `f`, open for reading.
    fn source() -> (tempfile::TempDir, Backing) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), b"x").unwrap();
        let backing = Backing::open(&folder.path().join("f"), Access::Read, Duration::ZERO).unwrap();
        (folder, backing)
    }

    #[test]
    fn a_file_that_came_to_be_meanwhile_is_not_replaced() {
        let (folder, backing) = source();
        let path = folder.path().join("new");
        let new = NewFile::create(&path, &backing, Mode::empty()).unwrap();
        new.file().write_all(b"ours").unwrap();
        assert!(!path.exists());
        fs::write(&path, b"theirs").unwrap();
        assert_eq!(new.finish(true).err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_has_its_name_when_it_is_finished_and_leaves_nothing_when_it_is_not() {
        let (folder, backing) = source();
        let path = folder.path().join("new");
        drop(NewFile::create(&path, &backing, Mode::empty()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let new = NewFile::create(&path, &backing, Mode::empty()).unwrap();
        new.file().write_all(b"all").unwrap();
        new.finish(true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn where_a_file_must_have_a_name_from_the_beginning_it_is_renamed_and_replaces_nothing() {
        let (dir, _backing) = source();
        let folder = Folder::open(dir.path()).unwrap();
        let (file, name) = folder.temporary().unwrap();
        drop(file);
        assert_eq!(folder.rename(&name, OsStr::new("f")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"x");
        folder.rename(&name, OsStr::new("new")).unwrap();
        assert!(dir.path().join("new").exists() && !dir.path().join(&name).exists());
    }

    #[test]
    fn what_can_be_no_new_file_is_refused_before_anything_is_written() {
        let (folder, backing) = source();
        for (name, kind) in [
            ("f", ErrorKind::AlreadyExists),
            (".", ErrorKind::AlreadyExists),
            ("new/", ErrorKind::IsADirectory),
            ("no/new", ErrorKind::NotFound),
        ] {
            let made = NewFile::create(&folder.path().join(name), &backing, Mode::empty());
            let error = made.err().unwrap();
            assert!(matches!(error.root(), edit::RootCause::Io(io) if io.kind() == kind), "{name}");
        }
        assert!(NewFile::create(Path::new(""), &backing, Mode::empty()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
