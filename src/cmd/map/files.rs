//! Finds files: those named, those listed in a file, and those in directories, without those that are excluded.

use super::glob::Glob;
use crate::edit::{Error, ErrorContext, Result, take_stdin, unless_half_patched};
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

/// The longest name in a list in bytes, including its end: PATH_MAX. Longer names cannot be opened, and a device may
/// have no end at all.
const LONGEST_PATH: u64 = 4096;

/// A list with more empty names in a row than this is a device without an end.
const MOST_EMPTY: u32 = 65_536;

/// The end of a recovery journal's name.
const JOURNAL: &[u8] = b".mmapctl-undo";

/// A file that was found.
#[derive(Debug)]
pub(super) struct FoundFile<'a> {
    pub(super) path: &'a Path,
    /// Whether the user has named the file itself, rather than a folder above it.
    pub(super) named: bool,
    /// Whether there may be a recovery journal beside it, which is known for a folder that was read.
    pub(super) may_wait: bool,
    /// The file system to stay on, by its `st_dev`.
    device: Option<u64>,
}

/// Called for each file. An error ends the walk; errors of a single file are reported by the callback.
pub(super) type Visit<'a> = dyn FnMut(&mut Walk<'_>, &FoundFile<'_>) -> Result<()> + 'a;

/// Without random keys, because std ends the process if the kernel cannot provide them.
type Hasher = BuildHasherDefault<DefaultHasher>;

/// The state of the walk.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    files: &'a Files,
    globals: &'a Globals,
    /// Whether errors are reported, and not only counted.
    pub(super) tells: bool,
    /// Whether a file may be found twice by one name.
    overlaps: bool,
    seen: HashSet<(u64, u64), Hasher>,
    /// The number of folders that were read.
    pub(super) folders: u64,
    /// The number of further names of files that were found already.
    pub(super) repeated: u64,
    /// The number of files and folders with errors.
    pub(super) failed: u64,
    /// The worst exit code so far.
    pub(super) worst: Exit,
    /// The current path, and the length of the part that is the named folder.
    path: PathBuf,
    root: usize,
}

impl Files {
    /// Whether the user named more than one file, or may have.
    pub(super) fn are_many(&self, named: &[PathBuf]) -> bool {
        let filters = self.max_size.is_some() || !self.include.is_empty() || !self.exclude.is_empty();
        named.len() > 1 || self.recursive || self.files_from.is_some() || filters || self.summarize
    }

    /// Whether the names come from stdin.
    pub(super) fn reads_stdin(&self) -> bool {
        self.files_from.as_deref() == Some(Path::new("-"))
    }

    /// Whether -0 was given without a list, in cases that clap accepts.
    pub(super) fn lacks_list(&self) -> bool {
        self.null && self.files_from.is_none()
    }

    /// Rejects options that make no sense, before any file is opened.
    pub(super) fn check(&self) -> Result<()> {
        if self.include.iter().any(Glob::takes_folders_only) {
            let failure =
                Error::untouched("--include selects files, and a pattern that ends with a slash matches directories");
            return Err(failure.tip("write --include 'FOLDER/**'"));
        }
        Ok(())
    }

    /// Calls `visit` for all files: in the order in which they were named, the files of a folder sorted by name.
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
    /// Reports an error of a single file; the walk continues.
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

    /// Whether an open file is to be counted: it is not too large, is on the right file system, and was not found
    /// before by another name.
    pub(super) fn admits(&mut self, found: &FoundFile<'_>, facts: &mapping::FileInfo) -> Result<bool> {
        let FileId { device, inode, names } = facts.identity;
        let limit = self.files.max_size.map(|size| size.bytes(facts.page)).transpose()?;
        if limit.is_some_and(|limit| facts.len > limit) || found.device.is_some_and(|wanted| wanted != device) {
            return Ok(false);
        }
        // Most files have one name: they are recorded only if they may be found again.
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
            let file = File::open(list).map_failure(failed).with_path(list)?;
            unless_half_patched(&file, list).with_path(list)?;
            Box::new(BufReader::new(file))
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
            // If anything is wrong with it, opening it will report that.
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

    /// Enters the folder at `path`.
    fn enter(&mut self, meta: &fs::Metadata, device: Option<u64>, visit: &mut Visit<'_>) -> Result<()> {
        if device.is_some_and(|device| device != meta.dev()) {
            return Ok(());
        }
        // Links may form a cycle, and folders that are named twice are counted once.
        if self.overlaps && !self.seen.insert((meta.dev(), meta.ino())) {
            return Ok(());
        }
        let entries = match read_sorted(&self.path) {
            Ok(entries) => entries,
            // The folder was removed in the meantime.
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
        // Checked before anything else: an excluded file may be inaccessible, too.
        let is_folder = kind == Some(Type::Directory);
        if !link && !self.wants(below, is_folder) {
            return Ok(());
        }
        let is_file = kind == Some(Type::File);
        if !is_file {
            // A link, a folder, a file that was removed, or one of unknown kind.
            let meta = match fs::metadata(&self.path) {
                Ok(meta) => meta,
                // A dangling link is skipped like a FIFO.
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
        // Taken out because the callback borrows the walk.
        let path = std::mem::take(&mut self.path);
        let found = FoundFile {
            path: &path,
            named: false,
            // A link leads to a file in another folder.
            may_wait: may_wait || link,
            device,
        };
        let outcome = visit(self, &found);
        self.path = path;
        outcome
    }

    /// Whether the filters accept what is at `path`, relative to the named folder.
    fn wants(&self, path: &Path, is_folder: bool) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(path, is_folder));
        let included = is_folder || self.files.include.is_empty() || any(&self.files.include);
        included && !any(&self.files.exclude)
    }
}

/// The entries of a folder sorted by name, each with its kind if known. Not with std's `read_dir`, which ends the
/// process if closing the folder fails.
fn read_sorted(path: &Path) -> std::io::Result<Vec<(OsString, Option<Type>)>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = Dir::open(path, flags, Mode::empty())?;
    let mut entries = Vec::new();
    for entry in folder.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            entries.push((name.to_os_string(), entry.file_type().or_else(|| type_of(&path.join(name)))));
        }
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// The kind of an entry, for file systems that do not list it.
fn type_of(path: &Path) -> Option<Type> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    match kind {
        _ if kind.is_symlink() => Some(Type::Symlink),
        _ if kind.is_dir() => Some(Type::Directory),
        _ if kind.is_file() => Some(Type::File),
        _ => None,
    }
}

/// Whether every other file would fail in the same way, because of a limit of the process or the machine.
pub(super) fn is_limit(error: &Error) -> bool {
    error.core().is_some_and(|core| matches!(core.cause, ErrorKind::Limit(_)))
}
