//! Options that several verbs share, and what they mean: a range of the file, and the rules for writers.

use super::VerbContext;
use super::paths::journal_must_differ;
use crate::edit::{
    Error, ErrorContext, JournalPath, Outcome, Recovery, Result, no_end, recover, recovery_needed, waits_for_recovery,
};
use crate::error::Exit;
use crate::mapping::{self, Access, Backing, ByteRange, ErrorKind, FileInfo, Prot, Region, SpaceUsage, Width};
use crate::memory;
use crate::number::{self, Offset, ParseError, Qty, Range, duration, human};
use crate::output::{self, Globals};
use crate::text;
use clap::Args;
use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

// The range of the file that a verb works on.
#[derive(Debug, Clone, Args)]
pub(crate) struct RangeArgs {
    /// Start of the range: 64, 0x40, 4K, 2p, -16 (from the end), end-1M+4
    #[arg(help_heading = "Range", short, long, value_name = "OFFSET")]
    pub(crate) offset: Option<Offset>,
    /// Length in bytes: 16, 0x10, 4K (1024s), 4kB (1000s), 1p (a page)
    #[arg(help_heading = "Range", short = 'n', long, value_name = "QTY")]
    pub(crate) length: Option<Qty>,
    /// The range START..END, without END, or START..+LENGTH; '..' is the whole file
    #[arg(help_heading = "Range", short, long, value_name = "RANGE", conflicts_with_all = ["offset", "length"])]
    pub(crate) range: Option<Range>,
}

impl RangeArgs {
    /// Whether the user gave a place.
    pub(crate) fn is_given(&self) -> bool {
        self.offset.is_some() || self.length.is_some() || self.range.is_some()
    }

    /// Whether the user gave the number of bytes.
    pub(crate) fn has_end(&self) -> bool {
        self.length.is_some() || self.range.is_some()
    }

    fn range(&self) -> Range {
        match &self.range {
            Some(range) => range.clone(),
            None => Range::new(self.offset.clone(), self.length),
        }
    }

    /// The range from start to end. A bound that was not given is that of the region; with `open`, a missing end does
    /// not matter.
    fn resolve(&self, region: &Region, open: bool) -> Result<ByteRange> {
        let range = self.range();
        if !region.backing().facts().has_end() {
            let from_end = self.offset.as_ref().is_some_and(Offset::is_from_end);
            let implied = self.range.is_none() && self.length.is_none() && !from_end;
            if range.needs_end() && !(open && implied) {
                return Err(no_end());
            }
        }
        let (whole, page) = (region.span(), region.page());
        let len = region.length().max(whole.end());
        let (start, end) = range.resolve_within((whole.start(), whole.end()), len, page)?;
        // `resolve_within` returns start <= end, so the fallback is never used.
        Ok(ByteRange::first(end).from(start))
    }

    /// The part of a file to map, without what is past its end.
    pub(crate) fn to_map(&self, facts: &FileInfo) -> Result<ByteRange> {
        let (start, end) = self.range().resolve(facts.len, facts.page)?;
        Ok(ByteRange::first(end.min(facts.len)).from(start))
    }

    /// The range to read, without what is past the end of the file.
    ///
    /// # Errors
    /// If the range is reversed, begins past the end, or is not all in the region.
    pub(crate) fn resolve_for_read(&self, region: &Region) -> Result<ByteRange> {
        let (whole, asked) = (region.span(), self.resolve(region, false)?);
        let there = asked.intersect(ByteRange::first(region.length().max(whole.end())));
        match asked.start() <= whole.end() && whole.contains(there) {
            true => Ok(there),
            false => Err(mapping::Error::new("read", Some(asked), ErrorKind::NotMapped(whole)).into()),
        }
    }

    /// The range to write, all of which is within the file and the region.
    ///
    /// # Errors
    /// See [`RangeArgs::resolve_for_read`]; also if the range ends past the end of the file.
    pub(crate) fn resolve_for_write(&self, region: &Region) -> Result<ByteRange> {
        check_within(self.resolve(region, true)?, region)
    }

    /// The range to write if the file may grow: it begins at the file's end or before.
    pub(crate) fn to_grow(&self, region: &Region) -> Result<ByteRange> {
        self.resolve(region, false)
    }

    /// The start of the range.
    pub(crate) fn start(&self, region: &Region) -> Result<u64> {
        Ok(self.resolve(region, true)?.start())
    }
}

/// Returns `span` if all of it can be stored into.
pub(crate) fn check_within(span: ByteRange, region: &Region) -> Result<ByteRange> {
    match region.check("write", Some(span))?.end() {
        // A mapping may extend past the end of its file.
        end if end > region.length() && region.backing().facts().is_file() => {
            let len = region.length();
            Err(mapping::Error::new("write", Some(span), ErrorKind::PastEnd { len }).into())
        }
        _ => Ok(span),
    }
}

/// How many times in a row the file may be replaced by another one while waiting for its lock.
const MOST_REPLACED: usize = 4;

/// The path of a file that may not exist yet. open(2) with O_CREAT creates `PATH/` without the slash.
pub(crate) fn file_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str().as_bytes() {
        [.., b'/'] => Err(ParseError {
            message: "a file is needed, and a path with a slash at its end is a directory's".into(),
            tip: "leave out the slash, or add a name".into(),
        }),
        _ => Ok(path),
    })
}

// Rules for verbs that change a file.
#[derive(Debug, Clone, Args)]
pub(crate) struct WriteArgs {
    /// Allow writing to set-user-ID files, read-only files and devices
    #[arg(help_heading = "Safety", long)]
    pub(crate) force: bool,
    /// How long to wait for other writers' advisory lock (flock): 500ms, 10s, 2m
    #[arg(help_heading = "Safety", long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) lock_timeout: Duration,
    /// Path of the recovery journal of --atomic, in place of one beside the file
    #[arg(help_heading = "Safety", long, value_name = "PATH", value_parser = file_path())]
    pub(crate) journal: Option<PathBuf>,
}

impl WriteArgs {
    /// Opens `path` for storing through a mapping: never creates it, applies the safety rules, takes the lock, and
    /// recovers the file if an atomic patch was interrupted; returns whether it did.
    pub(crate) fn open(&self, path: &Path, globals: &Globals) -> Result<(Region, bool)> {
        self.open_for(path, Access::Write, globals)
    }

    /// Opens `path` according to [`WriteArgs::open`], for this kind of access.
    pub(crate) fn open_for(&self, path: &Path, access: Access, globals: &Globals) -> Result<(Region, bool)> {
        let backing = Backing::open(path, access, self.lock_timeout)?;
        let (backing, recovered) = self.open_checked(backing, path, access, globals)?;
        Ok((Region::sliding(backing, Prot::ReadWrite)?, recovered))
    }

    /// Applies the rules of [`WriteArgs::open`] to a file that was opened with `access`. Returns another file if one
    /// was renamed to `path` before the lock was taken.
    pub(crate) fn open_checked(
        &self,
        mut backing: Backing,
        path: &Path,
        access: Access,
        globals: &Globals,
    ) -> Result<(Backing, bool)> {
        for _ in 0..MOST_REPLACED {
            journal_must_differ(&backing, self.journal.as_deref())?;
            unless_refused(&backing, self.force)?;
            has_length(&backing)?;
            backing.lock(self.lock_timeout)?;
            if backing.is_at(path) {
                // The previous holder of the lock may have changed the file's permissions.
                unless_refused(&backing, self.force)?;
                return self.recovered(backing, path, globals);
            }
            backing = Backing::open(path, access, self.lock_timeout)?;
        }
        let failure = Error::untouched("nothing was written: the file was replaced again and again");
        Err(failure.tip("run the command again when no other program replaces the file"))
    }

    /// Recovers a locked file if an atomic patch was interrupted; returns whether it did.
    fn recovered(&self, backing: Backing, path: &Path, globals: &Globals) -> Result<(Backing, bool)> {
        if backing.facts().left_its_links {
            let note = "overlayfs has copied the file from its lower layer for writing; its other names (hard links) keep the old bytes";
            output::print_note(globals, &format!("{}: {note}", text::shown(path)));
        }
        let mut region = Region::sliding(backing, Prot::ReadWrite)?;
        let mut recovered = false;
        let mut recover_at = |region: &mut Region, place: &JournalPath| -> Result<()> {
            if recover(region, place, memory::begin_change).after_recovery(recovered)? == Recovery::PutBack {
                recovered = true;
                let note = "an atomic patch had been interrupted; the file was put back as it was before the patch";
                output::print_note(globals, &format!("{}: {note}", text::shown(path)));
            }
            Ok(())
        };
        // The journal of another atomic patch may be beside the file even if this patch's journal is elsewhere.
        let mut beside = JournalPath::beside(region.backing())?;
        while let Some(place) = &beside {
            recover_at(&mut region, place)?;
            // A directory on the way may have been renamed before the look.
            let again = JournalPath::beside(region.backing())?;
            if again == beside {
                break;
            }
            beside = again;
        }
        if let Some(journal) = &self.journal {
            recover_at(&mut region, &JournalPath::at(journal))?;
        }
        Ok((region.into_backing(), recovered))
    }

    /// The rules for reading the same file, for a dry run, which writes nothing.
    pub(crate) fn reader(&self) -> ReadArgs {
        ReadArgs {
            ignore_journal: false,
            journal: self.journal.clone(),
        }
    }
}

// Rules for verbs that only read.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReadArgs {
    /// Read the file even if an interrupted atomic patch has not been recovered
    #[arg(help_heading = "Safety", long)]
    pub(crate) ignore_journal: bool,
    /// Also look for the recovery journal of --atomic at this path
    #[arg(help_heading = "Safety", long, value_name = "PATH", value_parser = file_path())]
    pub(crate) journal: Option<PathBuf>,
}

impl ReadArgs {
    /// Opens `path` for reading.
    ///
    /// # Errors
    /// If an interrupted atomic patch has left the file half-patched, unless the user ignores that.
    pub(crate) fn open(&self, path: &Path) -> Result<Backing> {
        self.open_for(path, Access::Read)
    }

    /// Opens `path` according to [`ReadArgs::open`], for this kind of access.
    pub(crate) fn open_for(&self, path: &Path, access: Access) -> Result<Backing> {
        let backing = Backing::open(path, access, Duration::ZERO)?;
        has_length(&backing)?;
        self.check(&backing)?;
        Ok(backing)
    }

    /// Applies the rules of [`ReadArgs::open`] to an open file.
    pub(crate) fn check(&self, backing: &Backing) -> Result<()> {
        if self.ignore_journal {
            return Ok(());
        }
        journal_must_differ(backing, self.journal.as_deref())?;
        match waits_for_recovery(backing, self.journal.as_deref())? {
            Some(place) => Err(recovery_needed(&place, backing, Outcome::Untouched)),
            None => Ok(()),
        }
    }
}

/// Rejects a file that the safety rules for writers protect, unless `force`.
pub(crate) fn unless_refused(backing: &Backing, force: bool) -> Result<()> {
    match backing.refusal().filter(|_| !force) {
        Some(refusal) => Err(mapping::Error::new("write to it", None, ErrorKind::Refused(refusal)).into()),
        None => Ok(()),
    }
}

/// Rejects a region whose file an interrupted atomic patch has left half-patched in the meantime, with an error of this
/// outcome. A sync would make half a patch durable, so that is never ignored there (exit code 4).
pub(crate) fn unless_cut_short(region: &Region, context: VerbContext<'_>, outcome: Outcome) -> Result<()> {
    let backing = region.backing();
    if context.ignores_journal && outcome != Outcome::InDoubt && !backing.holds_lock() {
        return Ok(());
    }
    journal_must_differ(backing, context.journal)?;
    match waits_for_recovery(backing, context.journal)? {
        Some(place) => Err(recovery_needed(&place, backing, outcome)),
        None => Ok(()),
    }
}

/// Closes the file that a verb or a session worked on, and returns `outcome`, which is an exit code or an error. If
/// anything was written, an error of close(2) is an error of the verb.
///
/// # Errors
/// The error of the outcome. If close fails: exit code 3, or 4 if old bytes had been restored.
pub(crate) fn close(region: Region, outcome: Result<u8>) -> Result<u8> {
    let backing = region.into_backing();
    if !backing.is_written() {
        return outcome;
    }
    output::note_change();
    let Err(error) = backing.finish() else { return outcome };
    let tip = "the file system may have lost the bytes: look for the cause in 'dmesg' and 'df', then check the file";
    let failure = match &outcome {
        Ok(code) if *code == Exit::InDoubt as u8 => Error::in_doubt("in doubt"),
        Err(error) if !error.is_reader_gone() => match error.outcome() {
            Outcome::Changed | Outcome::InDoubt => return outcome,
            _ => Error::in_doubt(format!("in doubt: {error}; and then")),
        },
        _ => Error::changed("the file was changed, but the change may be lost"),
    };
    Err(error).map_failure(|| failure.tip(tip))
}

/// The space that a file uses after the work. If it cannot be determined, the error says that the file was changed.
pub(crate) fn usage_after(region: &Region, changed: bool) -> Result<SpaceUsage> {
    let usage = region.backing().usage();
    if !changed {
        return Ok(usage?);
    }
    usage.map_failure(|| Error::changed("the file was changed, but the report could not be written"))
}

/// Rejects, before anything is stored, a mapping whose bytes no flush makes durable.
pub(crate) fn to_be_durable(region: &Region) -> Result<()> {
    if region.is_shared_file() {
        return Ok(());
    }
    let failure = Error::untouched("changes in this mapping never reach a file, so nothing can make them durable");
    Err(failure.tip("leave out --sync and --atomic, or map a file --shared"))
}

/// Rejects `/dev/zero`: it can be mapped, but has no bytes of its own to show or to change.
pub(crate) fn has_length(backing: &Backing) -> Result<()> {
    if backing.facts().kind == crate::mapping::Kind::Zero {
        let failure = Error::untouched("its mappings are new anonymous memory, and it has no length");
        return Err(failure.tip("'mmapctl map /dev/zero --length 4K' makes one"));
    }
    Ok(())
}

/// The parser for `--access`.
pub(crate) fn width() -> impl TypedValueParser<Value = Width> {
    let names = PossibleValuesParser::new(["1", "2", "4", "8"]);
    names.map(|text| match text.as_str() {
        "1" => Width::One,
        "2" => Width::Two,
        "4" => Width::Four,
        _ => Width::Eight,
    })
}

/// Rejects a range that does not consist of whole, aligned units of `width`; the tip says what would fit.
pub(crate) fn units(span: ByteRange, width: Width) -> Result<()> {
    if width.divides(span) {
        return Ok(());
    }
    let bytes = width.bytes();
    let fits = Width::ALL.into_iter().rfind(|width| width.divides(span));
    let narrower = fits.unwrap_or(Width::One).bytes();
    let (message, tip) = if span.start().is_multiple_of(bytes) {
        let (less, more) = (span.len() / bytes * bytes, span.len().next_multiple_of(bytes));
        let whole = if less > 0 {
            format!("{less} or {more}")
        } else {
            more.to_string()
        };
        (
            format!("{span} is {}, which is not a whole number of units of {bytes}", text::plural(span.len(), "byte")),
            format!("give {whole} bytes, or --access {narrower}"),
        )
    } else {
        let below = span.start() / bytes * bytes;
        (
            format!("{span} does not begin at a multiple of {bytes}, and unaligned accesses are not made"),
            format!("begin at {below:#x} or {:#x}, or give --access {narrower}", below.saturating_add(bytes)),
        )
    };
    Err(Error::untouched(message).tip(tip))
}

/// Parses an address in memory, as in /proc/PID/maps and the reports, with the prefix 0x.
pub(crate) fn address(text: &str) -> Result<usize, ParseError> {
    let address = usize::try_from(number::number(text)?).ok();
    address.filter(|address| *address > 0).ok_or_else(|| ParseError {
        message: format!("'{text}' is not an address that a mapping can have"),
        tip: "write one such as 0x7f0000000000".into(),
    })
}

/// "64 MiB (67108864 bytes)", or just the number of bytes if it is small.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        human(bytes)
    } else {
        format!("{} ({bytes} bytes)", human(bytes))
    }
}
