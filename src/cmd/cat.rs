//! `cat`: show or stream a range, raw or as a dump.

mod dumping;
mod format;
mod watch;

use super::options::{RangeArgs, ReadArgs, units, width};
use super::{RunOnRegion, VerbContext};
use crate::dump::{self, RowWidth, Style};
use crate::edit::{Error, ErrorContext, Result};
use crate::error::Exit;
use crate::mapping::{
    Access, ByteRange, Chunk, Content, CopyError, Cut, DropBehind, Holes, Operation, Prot, Region, Width, scan,
};
use crate::number::interval;
use crate::output::{self, Globals};
use crate::progress::Progress;
use crate::report::{self, Report, Stream};
use crate::text::{self, describe};
use dumping::{AHEAD, Dumping};
use format::CatFormat;
use nix::libc;
use nix::sys::stat::fstat;
use std::io::{ErrorKind, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

// No doc comment, because clap would take it for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/cat.examples"))]
pub struct Args {
    /// The file to show
    file: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    reader: ReadArgs,
}

// What to show, wherever it comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: RangeArgs,
    /// Output format; by default hex on a terminal, and raw elsewhere
    #[arg(short, long, value_name = "FORMAT", value_parser = format::FormatParser)]
    format: Option<CatFormat>,
    /// Short for --format hex
    #[arg(short = 'x', conflicts_with = "format")]
    hex: bool,
    /// Print repeated rows and holes in full
    #[arg(long)]
    no_squeeze: bool,
    /// Load units of exactly this many bytes, each once, for device registers
    #[arg(long, value_name = "WIDTH", value_parser = width())]
    access: Option<Width>,
    /// Keep holes when raw bytes are written to a file; elsewhere they are written as zeros
    #[arg(long, conflicts_with_all = ["access", "watch"])]
    skip_holes: bool,
    /// Drop from memory what was not there before, once it is read: for backups and caches of CI
    #[arg(long, conflicts_with_all = ["access", "watch"])]
    drop_behind: bool,
    /// Redraw the range every INTERVAL (default: 1s) until Ctrl-C, and mark the bytes that have changed
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_parser = interval)]
    watch: Option<Duration>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let context = VerbContext {
        journal: args.reader.journal.as_deref(),
        ignores_journal: args.reader.ignore_journal,
        ..VerbContext::on(&args.file, globals)
    };
    let work = || {
        let access = args.options.access.map_or(Access::Read, |_| Access::ReadRegisters);
        let backing = args.reader.open_for(&args.file, access)?;
        args.options.apply(&mut Region::sliding(backing, Prot::Read)?, context)
    };
    work().with_path(&args.file)?;
    Ok(Exit::Done as u8)
}

/// What to do, decided before the file is mapped.
struct CatPlan<'a> {
    span: ByteRange,
    /// `None`: bytes are copied out in any widths.
    access: Option<Width>,
    /// `None`: raw.
    dump: Option<(dump::Format<'a>, Style)>,
    /// How raw output treats holes.
    holes: Holes,
    /// Whether what was read is dropped from memory.
    drop_behind: bool,
}

impl RunOnRegion for Options {
    fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        let name = context.path.map_or(context.memory.as_bytes(), |path| path.as_os_str().as_bytes());
        let plan = self.plan(region, name, context.globals)?;
        if !plan.span.is_empty() {
            let raw = plan.dump.is_none() && !context.globals.json && self.watch.is_none();
            report::not_into_itself(region.backing(), raw.then_some(plan.span.start()))?;
        }
        if let Some(interval) = self.watch {
            return watch::watch(region, &plan, interval, context);
        }
        let mut progress = Progress::printing(context.globals, "reading", plan.span.len());
        if self.drop_behind {
            let start = plan.span.start();
            let mut behind = DropBehind::new(region, plan.span)?.ok_or_else(not_counted)?;
            // What stays in memory does no harm.
            progress = progress.calling(move |done| drop(behind.passed(start + done)));
        }
        match plan.dump {
            _ if context.globals.json => json(region, &plan, context, &mut progress),
            None => raw(region, &plan, &mut progress),
            Some((format, style)) => {
                let dump = || dump::dump(format, plan.span.start(), style);
                Dumping::new(&plan, dump, &mut progress).run(region)
            }
        }
    }
}

/// Adapts the style so that rows fit the terminal at its present width, less `margin` columns; `end` is the last
/// offset.
fn fitted(style: Style, end: u64, margin: usize) -> Style {
    let fit = output::terminal().map(|(columns, _)| RowWidth::of(columns.saturating_sub(margin), end, style.unicode));
    Style {
        fit: fit.unwrap_or_default(),
        ..style
    }
}

impl Options {
    /// Makes the plan. `name` is the file's name in a C source.
    fn plan<'a>(&self, region: &Region, name: &'a [u8], globals: &Globals) -> Result<CatPlan<'a>> {
        let terminal = std::io::stdout().is_terminal();
        let format = match self.format {
            _ if self.hex => CatFormat::Hex,
            Some(format) => format,
            None if terminal || self.watch.is_some() => CatFormat::Hex,
            None => CatFormat::Raw,
        };
        let span = self.place.resolve_for_read(region)?;
        let color = format == CatFormat::Hex && globals.color().color(&std::io::stdout());
        let unicode = text::is_utf8();
        let style = Style {
            color,
            squeeze: !self.no_squeeze,
            unicode,
            fit: RowWidth::default(),
        };
        let style = fitted(style, span.end(), 0);
        let dump = format.dump(name);
        if self.skip_holes && (dump.is_some() || globals.json) {
            let failure = Error::untouched("--skip-holes is for raw output into a file, which this is not");
            return Err(failure.tip("write -f raw, without --json, and send it to a file with '>'"));
        }
        if let Some(width) = self.access {
            units(span, width)?;
        }
        Ok(CatPlan {
            span,
            access: self.access,
            dump: dump.map(|dump| (dump, style)),
            holes: if self.skip_holes { Holes::Kept } else { Holes::Written },
            drop_behind: self.drop_behind,
        })
    }
}

impl CatPlan<'_> {
    /// Passes the bytes of `span`, a part of the plan's range, to `each` in order, with their offsets.
    fn chunks(&self, region: &mut Region, span: ByteRange, each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        match self.access {
            Some(width) => region.load_units(span, width, each),
            None => region.read_chunks(span, each),
        }
    }
}

/// The error for memory, a view, or a file of somebody else's, of which the kernel does not tell what is in memory.
fn not_counted() -> Error {
    let message = "--drop-behind cannot tell which of its pages were in memory before";
    Error::untouched(message).tip("it takes a file that you own or may write to; leave the option out")
}

fn raw(region: &mut Region, plan: &CatPlan<'_>, progress: &mut Progress) -> Result<()> {
    let span = plan.span;
    // A pipe into which pages are spliced holds them until its reader has read them.
    let holds_pages = || fstat(output::raw_stdout()).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
    if plan.access.is_some() || plan.drop_behind && holds_pages() {
        return plan.chunks(region, span, |chunk, bytes| {
            output::out(bytes)?;
            Ok(progress.step(chunk + bytes.len() as u64 - span.start())?)
        });
    }
    let written = region.write_to_fd(output::raw_stdout().as_fd(), span, plan.holes, &mut |done| progress.step(done));
    match written {
        Ok(()) => Ok(()),
        Err(CopyError::Source(error)) => Err(error.into()),
        // The reader has seen enough.
        Err(CopyError::Target(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(CopyError::Target(error)) => Err(Error::untouched(format!("cannot write to stdout: {}", describe(&error)))),
    }
}

/// Prints the report, with the bytes as its last field, which is streamed to bound the memory use.
fn json(region: &mut Region, plan: &CatPlan<'_>, context: VerbContext<'_>, progress: &mut Progress) -> Result<()> {
    let span = plan.span;
    let mut report = Report::new("cat", context.path, false).range(span);
    if let Some(width) = plan.access {
        report = report.json_field("access", width.bytes());
    }
    let mut hex = Stream::of_text(&report, "hex");
    let read = match plan.access {
        Some(width) => region.load_units(span, width, |chunk, bytes| {
            hex.text(&const_hex::encode(bytes))?;
            Ok::<_, Error>(progress.step(chunk + bytes.len() as u64 - span.start())?)
        }),
        None => region.source(Operation::Read, span).map_err(Into::into).and_then(|source| {
            let encode = |_: &Chunk<(), 1>, [content]: [Content<'_>; 1], text: &mut String| {
                *text = match content {
                    Content::Bytes(bytes) => const_hex::encode(bytes),
                    Content::Zeros(len) => "00".repeat(len as usize),
                };
            };
            scan([source], AHEAD, Cut::rows(span, 1), encode, |piece, text| {
                hex.text(text)?;
                Ok(progress.step(piece.range.end() - span.start())?)
            })
        }),
    };
    hex.end(read, &[])
}
