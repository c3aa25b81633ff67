//! A new file that a verb writes bytes of another file to: `patch --undo`, `remap --to`. It gets its name only when it is
//! whole, and nobody can read it who cannot read the file that the bytes are from.

use crate::mapping::Backing;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file in the making. Unless it is finished, it is removed.
pub(super) struct NewFile {
    path: PathBuf,
    file: File,
    temporary: Temporary,
}

impl NewFile {
    /// Begins a file that is to be at `path`, where nothing may be, for bytes of `source`; it gets none of the permissions
    /// in `without`.
    ///
    /// # Errors
    /// EEXIST when something is there; what keeps a file from being made in that folder.
    pub(super) fn create(path: &Path, source: &Backing, without: Mode) -> anyhow::Result<NewFile> {
        // Asked again when the file gets its name, and asked now so that nothing is written for nothing.
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(std::io::Error::from(Errno::EEXIST).into()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Err(error) if path.file_name().is_none() => return Err(error.into()),
            Err(_) if path.as_os_str().as_bytes().ends_with(b"/") => {
                return Err(std::io::Error::from(Errno::EISDIR).into());
            }
            Err(_) => {}
        }
        let (file, temporary) = Temporary::create(folder(path))?;
        source.protect_copy(&file, current_umask() | without)?;
        Ok(NewFile {
            path: path.to_path_buf(),
            file,
            temporary,
        })
    }

    /// What to write to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The file is whole: closes it and gives it its name, without ever replacing another file. With `durable` the bytes
    /// are on the device before that, and the name afterwards.
    ///
    /// # Errors
    /// EEXIST when something has come to be at the path; what else fails. The file is then gone.
    pub(super) fn finish(self, durable: bool) -> Result<()> {
        let NewFile { path, file, temporary } = self;
        if durable {
            file.sync_all()?;
        }
        nix::unistd::close(file)?;
        publish(&temporary.0, &path)?;
        drop(temporary);
        if durable {
            File::open(folder(&path))
                .and_then(|folder| folder.sync_all())
                .inspect_err(|_| {
                    let _ = fs::remove_file(&path);
                })?;
        }
        Ok(())
    }
}

/// Gives the file at `temporary` the name `path`, unless that is taken.
fn publish(temporary: &Path, path: &Path) -> Result<()> {
    // link(2) never replaces anything, which rename(2) does.
    match fs::hard_link(temporary, path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
        // A file system without hard links, such as vfat.
        Err(_) => {}
    }
    // So the name is taken first, by an empty file, and that is replaced.
    File::create_new(path)?;
    fs::rename(temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// The folder of a path.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// The umask, as /proc/self/status has it: umask(2) can only be asked by setting it, for all threads. Without /proc, one
/// that gives others nothing.
fn current_umask() -> Mode {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
    Mode::from_bits_truncate(mask.unwrap_or(0o077))
}

/// The temporary name of a file, which is removed.
struct Temporary(PathBuf);

impl Temporary {
    /// How many names are tried.
    const TRIES: u32 = 100;

    /// A new file in `folder` that nobody else can open, under a name that nobody can guess.
    fn create(folder: &Path) -> Result<(File, Temporary)> {
        let mut tries = 0;
        loop {
            tries += 1;
            let path = folder.join(format!(".mmapctl-{:016x}", random()));
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match opened {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < Self::TRIES => {}
                opened => return opened.map(|file| (file, Temporary(path))),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may have been renamed, and somebody else may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

/// A number that others cannot guess; without /dev/urandom, one that is at least another each time.
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
        assert_eq!(new.finish(true).unwrap_err().kind(), ErrorKind::AlreadyExists);
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
    fn what_can_be_no_new_file_is_refused_before_anything_is_written() {
        let (folder, backing) = source();
        for (name, kind) in [
            ("f", ErrorKind::AlreadyExists),
            (".", ErrorKind::AlreadyExists),
            ("new/", ErrorKind::IsADirectory),
            ("no/new", ErrorKind::NotFound),
        ] {
            let made = NewFile::create(&folder.path().join(name), &backing, Mode::empty());
            let error = made.err().and_then(|error| error.downcast::<std::io::Error>().ok());
            assert_eq!(error.map(|error| error.kind()), Some(kind), "{name}");
        }
        assert!(NewFile::create(Path::new(""), &backing, Mode::empty()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
