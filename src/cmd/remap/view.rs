//! `remap --order`: the pages of a file in another order, as a nonlinear mapping or written to a file.

use super::Args;
use super::order::OrderArg;
use crate::cmd::VerbContext;
use crate::cmd::new_file::{NewFile, folder};
use crate::cmd::options::{ReadArgs, close, size};
use crate::cmd::paths::must_differ;
use crate::edit::{Error, ErrorContext, Result, is_journal_name};
use crate::error::Exit;
use crate::mapping::{
    self, ByteRange, CopyError, CopyTarget, ErrorKind, Limit, MapOptions, PageOrder, Prot, Region, RemapMethod,
    Visibility,
};
use crate::number::{ParseError, human};
use crate::output;
use crate::progress::Progress;
use crate::report::{Report, not_into_itself};
use crate::text::{describe, plural, quoted, shown};
use clap::ValueEnum;
use clap::builder::{OsStringValueParser, TypedValueParser};
use nix::sys::stat::Mode;
use serde_json::json;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

// Options for the pages in another order.
#[derive(Debug, clap::Args)]
pub(super) struct View {
    /// Put pages in another order: 3,0..2,5*4 (numbers of units), reverse, linear, or @PATH to read a list
    #[arg(help_heading = "Order", long, value_name = "LIST", value_parser = order(), conflicts_with_all = ["size", "address", "dont_unmap"])]
    order: Option<OrderArg>,
    /// The size of a unit of the order, in pages [default: 1]
    #[arg(help_heading = "Order", long, value_name = "PAGES", requires = "order", value_parser = pages)]
    unit: Option<u64>,
    /// How to make the mapping [default: mmap]
    #[arg(help_heading = "Order", long, value_name = "METHOD", requires = "order")]
    method: Option<OrderMethod>,
    /// Instead of mapping the pages, write them in that order to this new file, or with - to stdout
    #[arg(help_heading = "Order", long, value_name = "PATH", requires = "order")]
    to: Option<PathBuf>,
}

/// The system calls that make a nonlinear mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OrderMethod {
    /// mmap(2) with MAP_FIXED for each piece; needs only read permission
    Mmap,
    /// remap_file_pages(2) for each piece; needs write permission
    RemapFilePages,
}

impl OrderMethod {
    fn name(self) -> &'static str {
        match self {
            OrderMethod::Mmap => "mmap",
            OrderMethod::RemapFilePages => "remap-file-pages",
        }
    }

    fn arranging(self) -> RemapMethod {
        match self {
            OrderMethod::Mmap => RemapMethod::Mmap,
            OrderMethod::RemapFilePages => RemapMethod::RemapFilePages,
        }
    }
}

fn order() -> impl TypedValueParser<Value = OrderArg> {
    OsStringValueParser::new().try_map(|typed: OsString| OrderArg::parse(&typed))
}

fn pages(text: &str) -> Result<u64, ParseError> {
    // A user who writes bytes here means another number of pages than the one in the usual tip about numbers.
    let number = crate::number::number(text).map_err(|refusal| ParseError {
        tip: "a unit is counted in pages: --unit 16 is 64 KiB where a page is 4 KiB".into(),
        ..refusal
    });
    match number? {
        0 => Err(ParseError {
            message: "a unit has at least one page".into(),
            tip: "write --unit 1, or leave it out".into(),
        }),
        pages => Ok(pages),
    }
}

/// How many pieces the text shows at most.
const SHOWN: usize = 16;

/// How many pieces a JSON report lists at most.
const LISTED: usize = 1000;

/// Runs the verb outside of a session: reading is enough for all methods but one.
pub(super) fn run(args: &Args, mut context: VerbContext<'_>) -> Result<u8> {
    let backing = if args.options.view.writes() {
        let (region, recovered) = args.writer.open(&args.file, context.globals)?;
        context.recovered = recovered;
        region.into_backing()
    } else {
        let reader = ReadArgs {
            ignore_journal: args.ignore_journal,
            ..args.writer.reader()
        };
        reader.open(&args.file)?
    };
    let prot = if backing.facts().writable {
        Prot::ReadWrite
    } else {
        Prot::Read
    };
    let span = ByteRange::first(backing.facts().len);
    let shape = match args.options.view.to {
        Some(_) => MapOptions::sliding(prot),
        None => MapOptions::whole(Visibility::Shared, prot),
    };
    let mut region = Region::new(backing, span, shape)?;
    let applied = args.options.view.apply(&mut region, context);
    close(region, applied.map(|()| Exit::Done as u8)).after_recovery(context.recovered)
}

impl View {
    /// An option that has no meaning without --order, if it is given without.
    pub(super) fn option_without_order(&self) -> Option<&'static str> {
        let given = [
            (self.to.is_some(), "--to"),
            (self.unit.is_some(), "--unit"),
            (self.method.is_some(), "--method"),
        ];
        let alone = given.into_iter().find(|(given, _)| *given && self.order.is_none());
        alone.map(|(_, option)| option)
    }

    pub(super) fn stdin_uses(&self) -> usize {
        usize::from(self.order.as_ref().is_some_and(OrderArg::is_stdin))
    }

    /// Whether an order was given.
    pub(super) fn is_given(&self) -> bool {
        self.order.is_some()
    }

    /// Whether a writable descriptor is needed.
    pub(super) fn writes(&self) -> bool {
        self.to.is_none() && self.method == Some(OrderMethod::RemapFilePages)
    }

    /// Maps the view in place of the region, or writes the view out.
    pub(super) fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        let Some(order) = &self.order else { return Ok(()) };
        self.check_paths(order, context)?;
        let (layout, unit) = self.layout(order, region)?;
        let report = |region: &Region| self.report(region, order, &layout, unit, context);
        match self.to.as_deref() {
            None => {
                let method = self.method.unwrap_or(OrderMethod::Mmap);
                let arranged = region.arrange(layout.clone(), method.arranging());
                arranged.or_else(|error| fitting(error, order, region))?;
                report(region).print(context.globals)
            }
            Some(path) if path == "-" => to_stdout(region, &layout, context),
            Some(path) => {
                to_file(region, &layout, path, context)?;
                report(region).made(path).print(context.globals)
            }
        }
    }

    /// Rejects an output that is also an input or another output.
    fn check_paths(&self, order: &OrderArg, context: VerbContext<'_>) -> Result<()> {
        let inputs = [
            context.path.map(|path| ("FILE", path)),
            order.file().map(|path| ("--order", path)),
        ];
        let to = self.to.as_deref().filter(|path| *path != "-");
        let outputs = [
            context.journal.map(|path| ("--journal", path)),
            to.map(|path| ("--to", path)),
        ];
        must_differ(&inputs, &outputs)
    }

    /// The view, and its unit in bytes.
    fn layout(&self, order: &OrderArg, region: &Region) -> Result<(PageOrder, u64)> {
        let facts = region.backing().facts();
        if facts.len == 0 {
            let failure = Error::untouched("it is empty: there are no pages to arrange");
            return Err(failure.tip("a file gets pages by --size, or by what is written into it"));
        }
        let pages = self.unit.unwrap_or(1);
        let Some(unit) = facts.page.checked_mul(pages).filter(|unit| i64::try_from(*unit).is_ok()) else {
            let failure = Error::untouched(format!("a unit of {} is longer than a file can be", plural(pages, "page")));
            return Err(failure.tip("write --unit 1, or leave it out"));
        };
        let runs = order.runs(facts.len.div_ceil(unit))?;
        let layout = PageOrder::new(runs, unit, facts.page, facts.len).map_failure(|| {
            Error::untouched("the view would be longer than a file can be").tip("repeat its units less often")
        })?;
        Ok((layout, unit))
    }

    fn report(
        &self,
        region: &Region,
        order: &OrderArg,
        layout: &PageOrder,
        unit: u64,
        context: VerbContext<'_>,
    ) -> Report {
        let name = context.name();
        let method = self.method.unwrap_or(OrderMethod::Mmap).name();
        let mut report = Report::new("remap", context.path, false)
            .json_field("order", order.text())
            .json_field("unit", unit)
            .json_field("recovered", context.recovered)
            .json_field("length", layout.len());
        report = match &self.to {
            Some(path) => report.path("to", Some(path)).line(format!(
                "{name}: {} in the order {} written to {}",
                size(layout.len()),
                order.text(),
                shown(path)
            )),
            None => {
                let address = region.address().map(|address| format!("{address:#x}"));
                let mappings = region.kernel_mappings();
                let count =
                    mappings.map_or("an unknown number of kernel mappings".into(), |n| plural(n, "kernel mapping"));
                report
                    .json_field("method", method)
                    .json_field("kernel_mappings", mappings)
                    .json_field("address", address.clone())
                    .line(format!("{name}: mapped in the order {}, {}", order.text(), size(layout.len())))
                    .text_field("mapping", format!("{count} by {method}, at {}", address.unwrap_or_default()))
            }
        };
        let pieces: Vec<_> = layout.parts(ByteRange::first(layout.mapped())).take(LISTED).collect();
        let count = layout.kernel_mappings();
        report = report.text_field("unit", human(unit)).json_field("piece_count", count).json_field(
            "pieces",
            pieces
                .iter()
                .map(|piece| json!({"view": piece.view, "file": piece.file.start(), "length": piece.file.len()}))
                .collect::<Vec<_>>(),
        );
        // If only one piece would be left out, it is shown: a line about it would be just as long.
        let shown = if count <= SHOWN as u64 + 1 {
            count as usize
        } else {
            SHOWN
        };
        for piece in pieces.iter().take(shown) {
            let view = ByteRange::at(piece.view, piece.file.len()).unwrap_or(piece.file);
            report = report.line(format!("  view {view} <- file {}", piece.file));
        }
        match count - shown as u64 {
            0 => report,
            more => report.line(format!("  and {}", plural(more, "more piece"))),
        }
    }
}

/// If there are too many kernel mappings, adds a tip about what would fit.
fn fitting(error: mapping::Error, order: &OrderArg, region: &Region) -> Result<()> {
    let ErrorKind::Limit(Limit::Arrangement { needed, free, limit }) = error.cause else {
        return Err(error.into());
    };
    let raise = format!("raise it with 'sysctl vm.max_map_count={}'", limit.saturating_add(needed));
    let facts = region.backing().facts();
    let tip = if region.layout().is_some() {
        format!("first release those of the current view with 'remap --order linear'; or {raise}")
    } else if order.is_reverse() && free > 0 {
        let unit = facts.len.div_ceil(facts.page).div_ceil(free);
        format!("--unit {unit} would fit; --to OUT maps nothing; or {raise}")
    } else {
        format!("use a larger --unit, or --to OUT, which maps nothing; or {raise}")
    };
    Err(error).map_failure(|| Error::untouched("nothing was mapped").tip(tip))
}

fn to_stdout(region: &mut Region, layout: &PageOrder, context: VerbContext<'_>) -> Result<()> {
    if context.globals.json {
        let failure = Error::untouched("with --to - the bytes go to stdout, where no report can be written");
        return Err(failure.tip("leave out --json, or write --to FILE"));
    }
    not_into_itself(region.backing(), None)?;
    let mut progress = Progress::printing(context.globals, "writing", layout.len());
    let stdout = output::raw_stdout();
    match region.write_view(layout, CopyTarget::Descriptor(stdout.as_fd()), &mut |done| progress.step(done)) {
        Ok(()) => Ok(()),
        Err(CopyError::Source(error)) => Err(error.into()),
        // The reader has seen enough.
        Err(CopyError::Target(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(CopyError::Target(error)) => Err(Error::untouched(format!("cannot write to stdout: {}", describe(&error)))),
    }
}

fn to_file(region: &mut Region, layout: &PageOrder, path: &Path, context: VerbContext<'_>) -> Result<()> {
    // Checked before a file is created that would have to be removed again.
    region.check_linear("write it out in another order", "which 'cat' writes out as it is")?;
    let name = shown(path);
    if is_journal_name(path) {
        let failure = Error::untouched(format!(
            "'{name}' is the name of a recovery journal, which the next verb that writes to that file removes"
        ));
        return Err(failure.tip("give the output another name, such as --to view.bin"));
    }
    let mut progress = Progress::writing(context.globals, "writing", layout.len())?;
    let making = || {
        let tip = "--to needs the path of a new file, in an existing directory";
        Error::untouched(format!("cannot make '{name}'")).tip(tip)
    };
    let out = NewFile::create(path, region.backing(), Mode::empty()).map_failure(making)?;
    let failed = |error: std::io::Error| {
        let failure = Error::untouched(format!("cannot write '{name}', which was not made: {}", describe(&error)));
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                failure.tip(format!("make room: 'df -h {}'", quoted(folder(path))))
            }
            std::io::ErrorKind::FileTooLarge => {
                failure.tip("the limit is RLIMIT_FSIZE ('ulimit -f'), or the file system's own")
            }
            _ => failure,
        }
    };
    out.file().set_len(layout.len()).map_err(failed)?;
    match region.write_view(layout, CopyTarget::NewFile(out.file()), &mut |done| progress.step(done)) {
        Ok(()) => {
            // The file exists from now on, even if memory for its report runs out.
            crate::memory::begin_change();
            Ok(out.finish(false).map(drop).map_err(failed)?)
        }
        Err(CopyError::Source(error)) => Err(error).map_failure(|| Error::untouched(format!("'{name}' was not made"))),
        Err(CopyError::Target(error)) => Err(failed(error)),
    }
}
