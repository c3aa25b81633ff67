//! Which files: those named, those listed in a file, those in folders; and which of them are left out.

use super::glob::Glob;
use crate::edit::take_stdin;
use crate::edit::{Error, ErrorContext, Result};
use crate::error::{Exit, report_error};
use crate::mapping::{self, ErrorKind, FileId};
use crate::number::{ParseError, Qty};
use crate::output::Globals;
use clap::builder::{OsStringValueParser, TypedValueParser};
use nix::dir::{Dir, Type};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

// Which files to map.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Map the files in directories and their subdirectories
    #[arg(help_heading = "Several files", short = 'R', long)]
    recursive: bool,
    /// Also map the files listed in this file, one name on each line; - reads the list from stdin
    #[arg(help_heading = "Several files", long, value_name = "FILE", conflicts_with_all = ["anonymous", "memfd"])]
    files_from: Option<PathBuf>,
    /// Names in --files-from end with a NUL, as 'find -print0' writes them
    #[arg(help_heading = "Several files", short = '0', long, requires = "files_from")]
    null: bool,
    /// Skip files that are larger
    #[arg(help_heading = "Several files", long, value_name = "QTY")]
    max_size: Option<Qty>,
    /// Map only files whose name matches, or whose path, if GLOB has a slash; may be repeated
    #[arg(help_heading = "Several files", long, value_name = "GLOB", value_parser = glob())]
    include: Vec<Glob>,
    /// Skip files and directories whose name matches, or whose path; may be repeated
    #[arg(help_heading = "Several files", long, value_name = "GLOB", value_parser = glob())]
    exclude: Vec<Glob>,
    /// Follow symbolic links in directories
    #[arg(help_heading = "Several files", short = 'L', long)]
    dereference: bool,
    /// Enter directories on other file systems
    #[arg(help_heading = "Several files", long)]
    cross_file_system: bool,
    /// Print only the totals
    #[arg(help_heading = "Several files", short, long)]
    pub(super) summarize: bool,
}

fn glob() -> impl TypedValueParser<Value = Glob> {
    OsStringValueParser::new().try_map(|text| -> Result<Glob, ParseError> { Glob::read(text) })
}

/// The longest name in a list, in bytes, with its end: PATH_MAX. What is longer cannot be opened, and a device has no
/// end at all.
const LONGEST_PATH: u64 = 4096;

/// So many empty names in a row are no list, but a device without an end.
const MOST_EMPTY: u32 = 65_536;

/// The end of a recovery journal's name.
const JOURNAL: &[u8] = b".mmapctl-undo";

/// A file to look at.
#[derive(Debug)]
pub(super) struct FoundFile<'a> {
    pub(super) path: &'a Path,
    /// Whether the user has named it, rather than a folder above it.
    pub(super) named: bool,
    /// Whether a recovery journal may be beside it. A folder that has been read tells.
    pub(super) may_wait: bool,
    /// The file system to stay on, by its `st_dev`.
    device: Option<u64>,
}

/// What hears of each file. An error ends it all; what concerns one file is told by whoever hears.
pub(super) type Visit<'a> = dyn FnMut(&mut Walk<'_>, &FoundFile<'_>) -> Result<()> + 'a;

/// Without random keys, for which std ends the process where the kernel has none to give.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// What has been seen on the way.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    files: &'a Files,
    globals: &'a Globals,
    /// Trouble is told, not only counted.
    pub(super) tells: bool,
    /// Whether a file may turn up twice under one name.
    overlaps: bool,
    seen: HashSet<(u64, u64), Hasher>,
    /// Folders that were read.
    pub(super) folders: u64,
    /// Further names of files that were seen already.
    pub(super) repeated: u64,
    /// Files and folders that there was trouble with.
    pub(super) failed: u64,
    /// The gravest trouble.
    pub(super) worst: Exit,
    /// The path at hand, and how much of it is the folder that was named.
    path: PathBuf,
    root: usize,
}

impl Files {
    /// Whether what the user named is more than one file, or may be.
    pub(super) fn are_many(&self, named: &[PathBuf]) -> bool {
        let filters = self.max_size.is_some() || !self.include.is_empty() || !self.exclude.is_empty();
        named.len() > 1 || self.recursive || self.files_from.is_some() || filters || self.summarize
    }

    /// Whether the names come from stdin.
    pub(super) fn reads_stdin(&self) -> bool {
        self.files_from.as_deref() == Some(Path::new("-"))
    }

    /// Whether -0 was given without the list that it is about, where clap lets it pass.
    pub(super) fn lacks_list(&self) -> bool {
        self.null && self.files_from.is_none()
    }

    /// Refuses what makes no sense before anything is looked at.
    pub(super) fn check(&self) -> Result<()> {
        if self.include.iter().any(Glob::takes_folders_only) {
            let failure =
                Error::untouched("--include selects files, and a pattern that ends with a slash matches directories");
            return Err(failure.tip("write --include 'FOLDER/**'"));
        }
        Ok(())
    }

    /// Takes `visit` through all files: in the order named, folders sorted by name.
    pub(super) fn walk<'a>(
        &'a self,
        named: &[PathBuf],
        globals: &'a Globals,
        tells: bool,
        visit: &mut Visit<'_>,
    ) -> (Walk<'a>, Result<()>) {
        let mut walk = Walk {
            files: self,
            globals,
            tells,
            overlaps: named.len() > 1 || self.files_from.is_some() || self.dereference,
            seen: HashSet::default(),
            folders: 0,
            repeated: 0,
            failed: 0,
            worst: Exit::Done,
            path: PathBuf::new(),
            root: 0,
        };
        let named = named.iter().try_for_each(|path| walk.named(path, visit));
        let outcome = named.and_then(|()| match &self.files_from {
            Some(list) => walk.list(list, visit),
            None => Ok(()),
        });
        (walk, outcome)
    }
}

impl Walk<'_> {
    /// Says what was wrong with a file, and goes on.
    pub(super) fn trouble(&mut self, error: &Error) {
        self.failed += 1;
        if self.tells {
            self.worst = self.worst.max(report_error(self.globals, "map", error));
        }
    }

    fn trouble_here(&mut self, action: &'static str, error: &std::io::Error) {
        let error = Err::<(), _>(mapping::Error::io(action, error));
        if let Err(error) = error.with_path(&self.path) {
            self.trouble(&error);
        }
    }

    /// Whether a file that is open is one to count: no larger than wanted, on the file system wanted, and not seen
    /// already under another name.
    pub(super) fn admits(&mut self, found: &FoundFile<'_>, facts: &mapping::FileInfo) -> Result<bool> {
        let FileId { device, inode, names } = facts.identity;
        let limit = self.files.max_size.map(|size| size.bytes(facts.page)).transpose()?;
        if limit.is_some_and(|limit| facts.len > limit) || found.device.is_some_and(|wanted| wanted != device) {
            return Ok(false);
        }
        // Of the many files with one name, none is remembered unless it may come again.
        if (names > 1 || self.overlaps) && !self.seen.insert((device, inode)) {
            self.repeated += 1;
            return Ok(false);
        }
        Ok(true)
    }

    fn list(&mut self, list: &Path, visit: &mut Visit<'_>) -> Result<()> {
        let mut reader: Box<dyn BufRead> = if list == Path::new("-") {
            take_stdin()?;
            Box::new(std::io::stdin().lock())
        } else {
            let failed = || Error::untouched("cannot read the list of files").tip("--files-from - reads it from stdin");
            Box::new(BufReader::new(File::open(list).map_failure(failed).with_path(list)?))
        };
        let end = if self.files.null { 0 } else { b'\n' };
        let mut name = Vec::new();
        let mut empty = 0;
        loop {
            name.clear();
            let failed = || Error::untouched("cannot read the list of files");
            let read = reader.by_ref().take(LONGEST_PATH + 1).read_until(end, &mut name);
            match read.map_failure(failed).with_path(list)? as u64 {
                0 => return Ok(()),
                read if read > LONGEST_PATH => {
                    let failure = Error::untouched(format!("a name in it is longer than {LONGEST_PATH} bytes"));
                    return Err(failure.tip("--files-from takes a list with one name on each line")).with_path(list);
                }
                _ => {}
            }
            if name.last() == Some(&end) {
                name.pop();
            }
            if name.contains(&0) {
                let failure =
                    Error::untouched("a name in it contains a NUL; 'find -print0' writes these between names");
                return Err(failure.tip("add -0, for names that end with a NUL")).with_path(list);
            }
            empty = if name.is_empty() { empty + 1 } else { 0 };
            if empty > MOST_EMPTY {
                let failure = Error::untouched(format!("it has more than {MOST_EMPTY} empty names in a row"));
                return Err(failure.tip("--files-from takes a list with one name on each line")).with_path(list);
            }
            if !name.is_empty() {
                self.named(Path::new(OsStr::from_bytes(&name)), visit)?;
            }
        }
    }

    fn named(&mut self, path: &Path, visit: &mut Visit<'_>) -> Result<()> {
        let folder = Some(path).filter(|_| self.files.recursive);
        let folder = folder.and_then(|path| fs::metadata(path).ok().filter(fs::Metadata::is_dir));
        let meta = match folder {
            Some(meta) => meta,
            None if !self.wants(path, false) => return Ok(()),
            // Whatever is wrong with it, opening it tells.
            None => {
                let found = FoundFile {
                    path,
                    named: true,
                    may_wait: true,
                    device: None,
                };
                return visit(self, &found);
            }
        };
        self.path = path.to_path_buf();
        let length = path.as_os_str().len();
        self.root = length + usize::from(!path.as_os_str().as_bytes().ends_with(b"/"));
        let device = Some(meta.dev()).filter(|_| !self.files.cross_file_system);
        self.enter(&meta, device, visit)
    }

    /// A folder, which `path` leads to.
    fn enter(&mut self, meta: &fs::Metadata, device: Option<u64>, visit: &mut Visit<'_>) -> Result<()> {
        if device.is_some_and(|device| device != meta.dev()) {
            return Ok(());
        }
        // Links may lead in a circle, and folders named twice are counted once.
        if self.overlaps && !self.seen.insert((meta.dev(), meta.ino())) {
            return Ok(());
        }
        let entries = match read_sorted(&self.path) {
            Ok(entries) => entries,
            // A folder that went away on the way to it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.trouble_here("read the directory", &error);
                return Ok(());
            }
        };
        self.folders += 1;
        let may_wait = entries.iter().any(|(name, _)| name.as_bytes().ends_with(JOURNAL));
        for (name, kind) in entries {
            self.path.push(&name);
            let outcome = self.entry(kind, may_wait, device, visit);
            self.path.pop();
            outcome?;
        }
        Ok(())
    }

    fn entry(&mut self, kind: Option<Type>, may_wait: bool, device: Option<u64>, visit: &mut Visit<'_>) -> Result<()> {
        let link = kind == Some(Type::Symlink);
        if link && !self.files.dereference {
            return Ok(());
        }
        let below = self.path.as_os_str().as_bytes().get(self.root..).unwrap_or_default();
        let below = Path::new(OsStr::from_bytes(below));
        // Before it is looked at: what is left out may be out of reach, too.
        let is_folder = kind == Some(Type::Directory);
        if !link && !self.wants(below, is_folder) {
            return Ok(());
        }
        let is_file = kind == Some(Type::File);
        if !is_file {
            // Links, folders, and what went away or is of a kind that nobody told.
            let meta = match fs::metadata(&self.path) {
                Ok(meta) => meta,
                // A link into nowhere is as special as a FIFO.
                Err(error) if link || error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => {
                    self.trouble_here("read its metadata", &error);
                    return Ok(());
                }
            };
            if link && !self.wants(below, meta.is_dir()) {
                return Ok(());
            }
            if meta.is_dir() {
                return self.enter(&meta, device, visit);
            }
            if !meta.is_file() {
                return Ok(());
            }
        }
        // Taken out while somebody else has the walk.
        let path = std::mem::take(&mut self.path);
        let found = FoundFile {
            path: &path,
            named: false,
            // Behind a link, the folder is another.
            may_wait: may_wait || link,
            device,
        };
        let outcome = visit(self, &found);
        self.path = path;
        outcome
    }

    /// Whether the filters let pass what is at `path`, seen from the folder that was named.
    fn wants(&self, path: &Path, is_folder: bool) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(path, is_folder));
        let included = is_folder || self.files.include.is_empty() || any(&self.files.include);
        included && !any(&self.files.exclude)
    }
}

/// The entries of a folder by name, each with its kind where that is known. Not by std's `read_dir`, which ends the
/// process where closing the folder fails.
fn read_sorted(path: &Path) -> std::io::Result<Vec<(OsString, Option<Type>)>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = Dir::open(path, flags, Mode::empty())?;
    let mut entries = Vec::new();
    for entry in folder.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            entries.push((
                name.to_os_string(),
                entry.file_type().or_else(|| type_of(&path.join(name))),
            ));
        }
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// Of what the file system does not say in its list.
fn type_of(path: &Path) -> Option<Type> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    match kind {
        _ if kind.is_symlink() => Some(Type::Symlink),
        _ if kind.is_dir() => Some(Type::Directory),
        _ if kind.is_file() => Some(Type::File),
        _ => None,
    }
}

/// Whether every other file would meet the same: a limit of the process or the machine.
pub(super) fn is_limit(error: &Error) -> bool {
    error
        .core()
        .is_some_and(|core| matches!(core.cause, ErrorKind::Limit(_)))
}
