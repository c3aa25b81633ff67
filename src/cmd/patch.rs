//! `patch`: edit bytes in place. Everything is checked before the first write; the writes are all or nothing.

mod access;
mod gather;

use super::new_file::{Made, NewFile};
use super::options::{RangeArgs, ReadArgs, WriteArgs, close, to_be_durable, width};
use super::{RunOnRegion, VerbContext};
use crate::edit::{
    Comparison, Durability, Edits, Error, ErrorContext, JournalPath, Mismatch, Outcome, Result, ScriptWriter,
    SourceLocation, Value, diff, each_edit, has_bytes_of_file, pattern, sync_parent_dir, write_undo,
};
use crate::error::Exit;
use crate::mapping::{Access, Backing, Prot, Region, Width};
use crate::output::{self, Globals};
use crate::progress::Progress;
use crate::report::{self, Report, Stream};
use crate::text::{self, plural, quoted};
use clap::ValueEnum;
use clap::builder::{OsStringValueParser, TypedValueParser};
use nix::sys::stat::Mode;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

// No doc comment, because clap would take it for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/patch.examples"))]
pub struct Args {
    /// The file to edit; it keeps its length, unless --grow or a script says otherwise
    file: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    writer: WriteArgs,
}

// What to do to the file, wherever it comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The new bytes, one value after the other: dead, text:V1\n, u32le:1,2, u8:4/7, fill:5a:4K, crc32le:..end-4, @FILE;
    /// without any, they come from stdin
    #[arg(value_name = "VALUE", value_parser = value())]
    values: Vec<Value>,
    #[command(flatten)]
    place: RangeArgs,
    /// Write where this pattern is found, which must be in exactly one place: 7405, 74??eb, text:V1
    #[arg(long, value_name = "VALUE", value_parser = OsStringValueParser::new().try_map(|text| pattern(&text)), conflicts_with = "expect")]
    find: Option<crate::edit::MaskedBytes>,
    /// Write at every match of --find
    #[arg(long, requires = "find")]
    all: bool,
    /// Write at the N-th match of --find, counted from 1
    #[arg(long, value_name = "N", requires = "find", conflicts_with = "all", value_parser = clap::value_parser!(u64).range(1..))]
    nth: Option<u64>,
    /// An edit as a line of a script: '0x40: 7405 -> 9090'; may be repeated
    #[arg(short, long, value_name = "EDIT", allow_hyphen_values = true)]
    edit: Vec<OsString>,
    /// Read edits from a script (- for stdin), see mmapctl-patch-script(5)
    #[arg(long, value_name = "PATH")]
    script: Option<PathBuf>,
    /// The format of the script
    #[arg(long, value_name = "FORMAT", requires = "script")]
    format: Option<ScriptFormat>,
    /// Apply --edit and --script in reverse: replace new bytes by old ones
    #[arg(long)]
    reverse: bool,
    /// Print the script that turns FILE into OTHER, which has the same length; write nothing
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["values", "find", "edit", "script", "offset", "length", "range"])]
    diff: Option<PathBuf>,
    /// Write only if these bytes are there now, or the new ones already are; otherwise exit with 1
    #[arg(long, value_name = "VALUE", value_parser = value())]
    expect: Option<Value>,
    /// Exit with 1 if the old bytes are not there, even if the new ones are, or if nothing would change
    #[arg(long)]
    strict: bool,
    /// Let edits reach past the end of the file, which grows accordingly
    #[arg(long)]
    grow: bool,
    /// Check everything, write nothing, and print the edit script that would be applied
    #[arg(long)]
    dry_run: bool,
    /// First write a script that undoes the patch to this new file
    #[arg(long, value_name = "PATH", conflicts_with = "dry_run")]
    undo: Option<PathBuf>,
    /// Return only when the new bytes are on the device (msync)
    #[arg(long)]
    sync: bool,
    /// Write all bytes or none, even if the power fails (by a recovery journal beside the file); implies --sync
    #[arg(long)]
    atomic: bool,
    /// Store units of exactly this many bytes and read nothing, for device registers
    #[arg(long, value_name = "WIDTH", value_parser = width())]
    access: Option<Width>,
}

/// How a script is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScriptFormat {
    /// An edit script, see mmapctl-patch-script(5)
    Script,
    /// A dump of xxd, read strictly
    Xxd,
}

fn value() -> impl TypedValueParser<Value = Value> {
    OsStringValueParser::new().try_map(|argument| Value::parse(&argument))
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let context = VerbContext::on(&args.file, globals).writing(&args.writer);
    let options = &args.options;
    let work = || -> Result<u8> {
        // Checked before the file is opened, which may wait for a lock.
        options.validate()?;
        options.check_paths(context)?;
        let (mut region, recovered) = if options.stores() {
            let access = options.access.map_or(Access::Write, |_| Access::WriteRegisters);
            args.writer.open_for(&args.file, access, globals)?
        } else {
            let access = options.access.map_or(Access::Read, |_| Access::ReadRegisters);
            let backing = args.writer.reader().open_for(&args.file, access)?;
            (Region::sliding(backing, Prot::Read)?, false)
        };
        let applied = options.apply(&mut region, VerbContext { recovered, ..context });
        close(region, applied.map(|()| Exit::Done as u8)).after_recovery(recovered)
    };
    work().with_path(&args.file)
}

impl RunOnRegion for Options {
    fn stores(&self) -> bool {
        !self.dry_run && self.diff.is_none()
    }

    fn stdin_uses(&self) -> usize {
        let stdin = |values: &[Value]| values.iter().filter(|value| **value == Value::Stdin).count();
        let placed = self.place.is_given() || self.find.is_some();
        usize::from(placed && self.values.is_empty())
            + stdin(&self.values)
            + stdin(self.expect.as_slice())
            + usize::from(self.script.as_deref() == Some(Path::new("-")))
    }

    fn check_options(&self) -> Result<()> {
        self.validate()
    }

    /// Compares, and stores unless the options exclude it.
    fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        self.validate()?;
        self.check_paths(context)?;
        if let Some(other) = &self.diff {
            return print_diff(region, other, context);
        }
        let place = self.durable_in(region, context)?;
        let mut edits = self.gather(region, context)?;
        if let Some(width) = self.access {
            return self.store_units(region, &mut edits, width, context);
        }
        let bytes_to_read = edits.bytes_to_read();
        let mut progress = if self.dry_run {
            Progress::reading(context.globals, "comparing", bytes_to_read)
        } else {
            // After comparing, making room and storing process the bytes once each.
            let work = bytes_to_read.saturating_add(edits.new.len() * 2);
            Progress::writing(context.globals, "patching", bytes_to_read)?.stepping_to(work)
        };
        let mut comparison = edits.compare(region, self.strict, &mut |done| progress.step(done))?;
        if !comparison.mismatches.is_empty() {
            return Err(self.mismatch(&comparison.mismatches, comparison.count, region, context));
        }
        let len = region.length();
        let changes = comparison.changing > 0 || edits.len_after != len;
        if self.strict && !changes {
            let failure = Error::new(Outcome::Mismatch, "the edits have been applied already; nothing was written");
            return Err(failure.tip("without --strict this is success"));
        }
        if self.dry_run {
            return print_script(&mut edits, &mut comparison, len, context);
        }
        self.sync_parent_dir(region, changes, context)?;
        crate::memory::begin_change();
        let undo = match self.undo.as_deref() {
            Some(path) => Some(save_undo(path, region.backing(), &mut edits, &mut comparison, len)?),
            None => None,
        };
        let durability = match place.as_ref() {
            Some(place) => Durability::Atomic(place),
            None if self.sync => Durability::Synced,
            None => Durability::Cached,
        };
        if changes || !matches!(durability, Durability::Cached) {
            let mut done = bytes_to_read;
            let mut last = 0;
            let stored = edits.store(region, &mut comparison, durability, &mut |part| {
                // Each pass counts from 0 again.
                done += if part > last { part - last } else { part };
                last = part;
                progress.step(done)
            });
            if let Err(error) = stored {
                return Err(without_undo(error, undo.as_ref()));
            }
        }
        drop(progress);
        self.report(&edits, &comparison, len, context).stored_in(region).print(context.globals)
    }
}

impl Options {
    /// The journal for --atomic.
    ///
    /// # Errors
    /// If no flush makes the region's bytes durable, or if a journal cannot describe the region.
    fn durable_in(&self, region: &Region, context: VerbContext<'_>) -> Result<Option<JournalPath>> {
        if (self.sync || self.atomic) && !self.dry_run {
            to_be_durable(region)?;
        }
        if !self.atomic || self.dry_run {
            return Ok(None);
        }
        region.check_linear("patch it with --atomic", "and the recovery journal records offsets of the file")?;
        JournalPath::of(region.backing(), context.journal).map(Some)
    }

    /// Before anything is declared durable, ensures that no journal of an earlier patch reappears. Creating a journal
    /// beside the file has this effect, too.
    fn sync_parent_dir(&self, region: &Region, changes: bool, context: VerbContext<'_>) -> Result<()> {
        if self.sync && !self.atomic || self.atomic && (!changes || context.journal.is_some()) {
            sync_parent_dir(region.backing(), context.journal)
                .map_failure(|| Error::untouched("nothing was written"))?;
        }
        Ok(())
    }

    /// The report on a patch of a file that had `len` bytes.
    fn report(&self, edits: &Edits, comparison: &Comparison, len: u64, context: VerbContext<'_>) -> Report {
        let (name, span) = (context.name(), comparison.span);
        let durable = self.sync || self.atomic;
        let resized = edits.len_after != len;
        let lengths = format!("{len:#x} before, {:#x} now", edits.len_after);
        let end = if durable { ", durable" } else { "" };
        let count = comparison.count;
        let within = if count == 1 {
            format!("of {span}")
        } else {
            format!("by {} in {span}", plural(count as u64, "edit"))
        };
        // Appended zeros compare as equal, but they change the file.
        let changed = comparison.changing > 0 || comparison.span.end() > len;
        let line = match (changed, resized, count) {
            (false, true, _) => format!("{name}: length {lengths}{end}"),
            (false, false, 0) => format!("{name}: no edits; nothing was written"),
            (false, false, _) if durable => format!("{name}: {span} holds these bytes already; stored again{end}"),
            (false, false, _) => format!("{name}: {span} holds these bytes already; nothing was written"),
            (true, _, _) => format!("{name}: {} {within} changed{end}", plural(comparison.differing, "byte")),
        };
        let report = Report::new("patch", context.path, changed || resized)
            .range(span)
            .json_field("edits", count)
            .json_field("offsets", comparison.offsets.clone())
            .json_field("bytes_changed", comparison.differing)
            .json_field("size_before", len)
            .json_field("size", edits.len_after)
            .json_field("durable", durable)
            .json_field("atomic", self.atomic)
            .path("undo", self.undo.as_deref())
            .json_field("recovered", context.recovered)
            .line(line);
        if changed && resized {
            return report.text_field("length", lengths);
        }
        report
    }

    fn mismatch(&self, mismatches: &[Mismatch], edits: usize, region: &Region, context: VerbContext<'_>) -> Error {
        let len = region.length();
        let script = |origin: SourceLocation| match (origin, self.script.as_deref()) {
            (SourceLocation::Line(_), Some(path)) => format!("{}: ", text::shown(path)),
            _ => String::new(),
        };
        let one = |one: &Mismatch| {
            let (found, expected) = (const_hex::encode(&one.found), const_hex::encode(&one.expected));
            format!("bytes at {:#x} are {found}, expected {expected}", one.offset)
        };
        let message = match mismatches {
            [only] if edits == 1 => format!("{}; nothing was written", one(only)),
            [only] => format!("{} (1 of {edits} edits: {}); nothing was written", one(only), only.origin),
            several => {
                let mut message = format!("{} of {edits} edits do not match; nothing was written", several.len());
                for mismatch in several {
                    message += &format!("\n  {}{}: {}", script(mismatch.origin), mismatch.origin, one(mismatch));
                }
                message
            }
        };
        let around = mismatches[0].offset;
        // Bytes past the end compare as zeros.
        let range = match around < len {
            true => format!("{around:#x}..+16"),
            false => format!("{:#x}..", len.saturating_sub(16)),
        };
        let tip = match has_bytes_of_file(region) {
            true => format!("see what is there with 'mmapctl cat {} --range {range} -x'", context.file()),
            false => format!("see what is there with -c 'cat --range {range} -x' in the session"),
        };
        Error::new(Outcome::Mismatch, message).tip(tip).mismatches(mismatches.to_vec())
    }
}

/// `--undo`: writes the reverse script, which is durable with its name before the first store.
fn save_undo(path: &Path, source: &Backing, edits: &mut Edits, comparison: &mut Comparison, len: u64) -> Result<Made> {
    let mut write = || -> Result<Made> {
        let executable = Mode::S_IXUSR | Mode::S_IXGRP | Mode::S_IXOTH;
        let script = NewFile::create(path, source, executable)?;
        let mut out = script.file();
        write_undo(edits, comparison, len, |text| Ok(out.write_all(text)?))?;
        Ok(script.finish(true)?)
    };
    write().map_failure(|| {
        let message = format!("nothing was written: cannot make the undo script '{}'", text::shown(path));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        Error::untouched(message).tip(match folder {
            Some(folder) => format!("make its directory first: 'mkdir -p {}'", quoted(folder)),
            None => "--undo needs the path of a file that does not exist yet".to_string(),
        })
    })
}

/// Removes the undo script if the patch left the file as it was; keeps it if the file changed, or may have.
fn without_undo(error: Error, undo: Option<&Made>) -> Error {
    if let Some(script) = undo.filter(|_| error.outcome() <= Outcome::RolledBack) {
        // The script only repeats what the file holds.
        script.remove();
    }
    error
}

/// `--dry-run`: prints the edit script that would be applied.
fn print_script(edits: &mut Edits, comparison: &mut Comparison, len: u64, context: VerbContext<'_>) -> Result<()> {
    let after = edits.len_after;
    if !context.globals.json {
        let mut script = ScriptWriter::new(len, after, output::out).of_view(edits.is_view);
        each_edit(edits, comparison, after.max(len), |at, old, new| {
            // Bytes that are cut off need no line, because the size line says it.
            if at < after { script.edit(at, old, new) } else { Ok(()) }
        })?;
        return script.finish();
    }
    let report = Report::new("patch", context.path, false)
        .json_field("dry_run", true)
        .json_field("size", len)
        .json_field("size_after", after)
        .json_field("bytes_changed", comparison.differing);
    let mut lines = Stream::of_list(&report, "edits");
    let result = each_edit(edits, comparison, after, |at, old, new| {
        lines.item(&json!({"offset": at, "old": const_hex::encode(old), "new": const_hex::encode(new)}))
    });
    lines.end(result, &[])
}

/// `--diff`: prints the script that turns the file into `other`.
fn print_diff(region: &mut Region, other: &Path, context: VerbContext<'_>) -> Result<()> {
    let opened = ReadArgs::default().open(other).and_then(|backing| Ok(Region::sliding(backing, Prot::Read)?));
    let mut theirs = opened.with_path(other)?;
    report::not_into_itself(region.backing(), None)?;
    report::not_into_itself(theirs.backing(), None).with_path(other)?;
    let mut progress = Progress::reading(context.globals, "comparing", region.span().len());
    let report = Report::new("patch", context.path, false).path("other", Some(other));
    let mut script = context.globals.json.then(|| Stream::of_text(&report, "script"));
    let mut differing = 0;
    let result = diff(
        region,
        &mut theirs,
        (&context.file(), &quoted(other)),
        |text| match &mut script {
            Some(script) => script.text(&String::from_utf8_lossy(text)),
            None => output::out(text),
        },
        &mut |done| progress.step(done),
    )
    .map(|count| differing = count);
    match script {
        Some(script) => script.end(result, &[("bytes_differing", differing.into())]),
        None => result,
    }
}
