//! `remap`: grow or shrink a file and its blocks, and a live mapping with it; or put its pages in another order.

mod order;
mod view;

use super::options::{WriteArgs, address, close, size, usage_after};
use super::{RunOnRegion, VerbContext};
use crate::edit::{Error, ErrorContext, Result};
use crate::error::Exit;
use crate::mapping::{self, AccessDenied, ErrorKind, Region, Resize, Visibility};
use crate::number::Size;
use crate::output::Globals;
use crate::report::Report;
use crate::signals::Signals;
use crate::text::FILE;
use std::path::PathBuf;
use view::View;

// No doc comment, because clap would take it for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/remap.examples"))]
pub struct Args {
    /// The file to resize, or to show in another order
    file: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    writer: WriteArgs,
    /// With --order: show the file even if an interrupted atomic patch has not been recovered
    #[arg(help_heading = "Safety", long)]
    ignore_journal: bool,
}

// What to do to the mapping and its file.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The new length: 64K, +1M (longer by), -1M (shorter by)
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// Do not allocate blocks for the new bytes: they become a hole
    #[arg(long, requires = "size")]
    sparse: bool,
    #[command(flatten)]
    view: View,
    #[command(flatten)]
    live: Live,
}

// Options for an existing mapping, in a session of 'mmapctl map'.
#[derive(Debug, clap::Args)]
struct Live {
    /// In a session: resize only the mapping, even past the end of the file, and leave the file as it is
    #[arg(help_heading = "Live mapping", long, requires = "size")]
    keep_file: bool,
    /// In a session: fail rather than move the mapping to another address
    #[arg(help_heading = "Live mapping", long, requires = "size", conflicts_with_all = ["address", "dont_unmap"])]
    no_move: bool,
    /// In a session: move the mapping to this address, never over another mapping (MREMAP_FIXED)
    #[arg(help_heading = "Live mapping", long, value_name = "ADDR", value_parser = address)]
    address: Option<usize>,
    /// In a session: move the pages, and keep the old mapping without them (MREMAP_DONTUNMAP)
    #[arg(help_heading = "Live mapping", long, conflicts_with = "size")]
    dont_unmap: bool,
}

impl Live {
    fn is_given(&self) -> bool {
        self.keep_file || self.no_move || self.address.is_some() || self.dont_unmap
    }
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let context = VerbContext::on(&args.file, globals).writing(&args.writer);
    let work = || {
        args.options.validate()?;
        if args.ignore_journal && args.options.stores() {
            let failure = Error::untouched("--ignore-journal is only for reading, and this may write");
            return Err(failure.tip("leave it out; then the file is first put back as it was"));
        }
        if args.options.live.is_given() {
            let failure = Error::untouched("there is no mapping of the file that could be moved, or resized alone");
            let tip =
                format!("make one and work on it: mmapctl map {} -c 'remap --size +4K --keep-file'", context.file());
            return Err(failure.tip(tip));
        }
        if args.options.view.is_given() {
            return view::run(args, context);
        }
        let (mut region, recovered) = args.writer.open(&args.file, globals)?;
        let applied = args.options.apply(&mut region, VerbContext { recovered, ..context });
        close(region, applied.map(|()| Exit::Done as u8)).after_recovery(recovered)
    };
    work().with_path(&args.file)
}

impl RunOnRegion for Options {
    fn stores(&self) -> bool {
        self.view.writes() || !self.live.keep_file && self.size.is_some()
    }

    fn stdin_uses(&self) -> usize {
        self.view.stdin_uses()
    }

    fn check_options(&self) -> Result<()> {
        self.validate()
    }

    fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        self.validate()?;
        if self.view.is_given() {
            return self.view.apply(region, context);
        }
        let how = Resize {
            sparse: self.sparse,
            keep_file: self.live.keep_file || self.size.is_none(),
            no_move: self.live.no_move,
            address: self.live.address,
            dont_unmap: self.live.dont_unmap,
        };
        let of_file = region.backing().facts().is_file() && !how.keep_file;
        let usage = |region: &Region| region.backing().usage().ok().filter(|_| of_file);
        let (before, address) = (usage(region), region.address());
        let old = if of_file { region.length() } else { region.span().len() };
        let new = match self.size {
            Some(size) => size.resolve(old, region.page())?,
            None => old,
        };
        // A signal between setting the length and allocating would leave the file with one but not the other.
        let _signals = Signals::hold_all()?;
        crate::memory::begin_change();
        region.remap(new, &how).or_else(|error| unchanged(region, before.map(|before| before.len), error))?;
        let changed = of_file && new != old;
        let name = context.name();
        // The length is that of the file, and may stay the same.
        let what = if of_file { "length" } else { "mapping" };
        let line = if self.size.is_none() {
            format!("{name}: moved {}", size(old))
        } else if new == old {
            format!("{name}: the {what} is {} already", size(new))
        } else {
            format!("{name}: {what} {} before, {} now", size(old), size(new))
        };
        let mut report = Report::new("remap", context.path, changed)
            .json_field("length_before", old)
            .json_field("length", new)
            .json_field("recovered", context.recovered)
            .line(line);
        if let Some(before) = before {
            let after = usage_after(region, changed)?;
            report = report
                .json_field("allocated_before", before.allocated)
                .json_field("allocated_after", after.allocated)
                .text_field("allocated", format!("{} before, {} after", size(before.allocated), size(after.allocated)));
        }
        if let (Some(from), Some(to)) = (address, region.address()) {
            let moved = match from == to {
                true => format!("at {to:#x} as before"),
                false => format!("moved from {from:#x} to {to:#x}"),
            };
            report = report
                .json_field("address_before", format!("{from:#x}"))
                .json_field("address", format!("{to:#x}"))
                .text_field("mapping", moved);
            if self.live.dont_unmap {
                let what = if region.shape().visibility == Visibility::Shared {
                    "a second mapping of the same pages"
                } else {
                    "a mapping without its pages"
                };
                report = report
                    .json_field("left_at", format!("{from:#x}"))
                    .text_field("left", format!("{what} at {from:#x} (MREMAP_DONTUNMAP)"));
            }
        }
        report.stored_in(region).print(context.globals)
    }
}

impl Options {
    /// Rejects options that say nothing to do, before any file is opened.
    fn validate(&self) -> Result<()> {
        let wrong = |message: &str, tip: &str| Err(Error::untouched(message).tip(tip));
        // clap drops the requirement of another option if a third one excludes that option.
        let of_size = [
            (self.sparse, "--sparse"),
            (self.live.keep_file, "--keep-file"),
            (self.live.no_move, "--no-move"),
        ];
        let alone = of_size.iter().find(|(given, _)| *given && self.size.is_none());
        if let Some((_, option)) = alone {
            return wrong(&format!("{option} applies only to --size"), "see 'mmapctl remap --help'");
        }
        if self.sparse && self.live.keep_file {
            return wrong(
                "--sparse applies to the file, which --keep-file does not change",
                "leave out one or the other",
            );
        }
        if let Some(option) = self.view.option_without_order() {
            let tip = match self.size {
                Some(_) => "--size changes the file itself, and writes no other file",
                None => "see 'mmapctl remap --help'",
            };
            return wrong(&format!("{option} applies only to --order"), tip);
        }
        let given = self.size.is_some() || self.view.is_given();
        if !given && self.live.address.is_none() && !self.live.dont_unmap {
            return wrong("no change was requested", "add --size or --order: see 'mmapctl remap --help'");
        }
        Ok(())
    }
}

/// A resize that failed has restored the old length, unless that failed, too.
fn unchanged(region: &Region, before: Option<u64>, error: mapping::Error) -> Result<()> {
    let Some(before) = before else {
        return Err(error.into());
    };
    // Noticed before the length was changed: another process has changed it.
    let moved = matches!(error.cause, ErrorKind::AccessDenied(AccessDenied::FileGrown) | ErrorKind::Shrunk { .. });
    if moved || region.backing().usage().is_ok_and(|now| now.len == before) {
        return Err(error).context("its length was not changed");
    }
    let tip = format!("its length was {before} bytes; 'mmapctl map {FILE}' shows what it is now");
    Err(error).map_failure(|| Error::in_doubt("in doubt: its length may have changed").tip(tip))
}
