//! `sync`: make a range durable and prove it, by the dirty pages before and after.

use super::options::{RangeArgs, file_path, has_length, unless_cut_short};
use super::{RunOnRegion, VerbContext};
use crate::edit::{Error, ErrorContext, Outcome, Result, sync_parent_dir};
use crate::error::{Exit, report_error};
use crate::mapping::{
    self, Access, Backing, ByteRange, ErrorKind, Flush, Interrupted, MapOptions, ProgressFn, Prot, Region, Visibility,
};
use crate::mapping::{Sharing, dirty_pages, resident, share};
use crate::output::Globals;
use crate::progress::Progress;
use crate::report::Report;
use crate::text::plural;
use nix::errno::Errno;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

// No doc comment, because clap would take it for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/sync.examples"))]
pub struct Args {
    /// The files to make durable
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Also look for the recovery journal of --atomic at this path
    #[arg(help_heading = "Safety", long, value_name = "PATH", value_parser = file_path())]
    journal: Option<PathBuf>,
}

// What to make durable, wherever it comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: RangeArgs,
    /// Start writing and return at once; nothing is promised
    #[arg(long = "async", conflicts_with_all = ["invalidate", "evict"])]
    start_only: bool,
    /// Also ask other mappings of the range to show the new bytes (MS_INVALIDATE)
    #[arg(long)]
    invalidate: bool,
    /// Then drop the clean pages of the range from the page cache
    #[arg(long)]
    evict: bool,
}

/// How many files are synced at a time: each waits for the device, and one flush of the device serves many.
const AT_ONCE: usize = 8;

/// How often the progress of several files is checked.
const LOOK: Duration = Duration::from_millis(100);

/// If more bytes than this are dirty, or the range is longer than this and the number is not known, a flush is done in
/// windows.
const LONG: u64 = 256 << 20;

/// The tip if bytes may be lost.
const LOST_TIP: &str =
    "the kernel has given up these bytes and counts them as clean: see 'dmesg', write them again, then sync";

/// The result for a file: its report, which exists even if something else failed, and that error.
type Synced = (Option<Report>, Option<Error>);

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let mut worst = Exit::Done;
    // The other files are still synced; the process exits with the worst code.
    let mut tell = |(report, error): Synced| {
        let unprinted = report.and_then(|report| report.print(globals).err());
        for error in unprinted.iter().chain(&error) {
            worst = worst.max(report_error(globals, "sync", error));
        }
    };
    // System calls of several threads would be mixed in the trace.
    if args.files.len() == 1 || globals.verbose {
        for file in &args.files {
            let mut progress = Progress::reading(globals, "syncing", 0);
            let outcome = one(file, args, globals, &mut |total, done| progress.step_of(total, done));
            drop(progress);
            tell(outcome);
        }
        return Ok(worst as u8);
    }
    let length = |file: &PathBuf| std::fs::metadata(file).map_or(0, |meta| meta.len());
    let total = args.files.iter().map(length).fold(0, u64::saturating_add);
    let progress = Progress::reading(globals, "syncing", total);
    let done = AtomicU64::new(0);
    let progress = RefCell::new(progress);
    // No signal is blocked here, so none is returned.
    let mut look = || _ = progress.borrow_mut().step(done.load(Ordering::Relaxed));
    let sharing = Sharing {
        helpers: AT_ONCE.min(args.files.len()),
        alone: 0,
        ahead: args.files.len(),
        meanwhile: Some((LOOK, &mut look)),
    };
    let mut files = args.files.iter();
    let take = |(): &mut ()| Ok(files.next());
    let work = |(): &mut (), file: &mut &PathBuf, synced: &mut Synced| {
        let mut reported = 0;
        *synced = one(file, args, globals, &mut |_, so_far| {
            done.fetch_add(so_far - reported, Ordering::Relaxed);
            reported = so_far;
            Ok(())
        });
        Ok(())
    };
    // In the order in which the files were named.
    share(
        sharing,
        &mut (),
        |()| Some(()),
        take,
        work,
        |_, synced| {
            progress.borrow_mut().aside(|| tell(std::mem::take(synced)));
            Ok::<(), Error>(())
        },
    )?;
    Ok(worst as u8)
}

/// Syncs one file. `step` receives the total number of bytes, and how many are done.
fn one(
    file: &Path,
    args: &Args,
    globals: &Globals,
    step: &mut dyn FnMut(u64, u64) -> Result<(), Interrupted>,
) -> Synced {
    let mut report = None;
    let mut work = || -> Result<()> {
        // msync flushes nothing through a descriptor that was opened for reading only.
        let backing = Backing::open(file, Access::WriteIfAllowed, Duration::ZERO)?;
        has_length(&backing)?;
        let prot = if backing.facts().writable {
            Prot::ReadWrite
        } else {
            Prot::Read
        };
        let span = ByteRange::first(backing.facts().len);
        let mut region = Region::new(backing, span, MapOptions::whole(Visibility::Shared, prot))?;
        let journal = args.journal.as_deref();
        let context = VerbContext {
            journal,
            ..VerbContext::on(file, globals)
        };
        let worked = args.options.work(&mut region, context, &mut |done| step(span.len(), done))?;
        // What is durable now may be half a patch.
        let whole = unless_cut_short(&region, context, Outcome::InDoubt);
        let closed = region.into_backing().finish();
        closed.map_failure(|| Error::changed("not durable").tip(LOST_TIP))?;
        report = Some(worked);
        whole
    };
    let error = work().with_path(file).err();
    (report, error)
}

impl RunOnRegion for Options {
    fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        let mut progress = Progress::reading(context.globals, "syncing", region.span().len());
        let report = self.work(region, context, &mut |done| progress.step(done))?;
        drop(progress);
        report.print(context.globals)
    }
}

impl Options {
    fn work(&self, region: &mut Region, context: VerbContext<'_>, step: &mut ProgressFn<'_>) -> Result<Report> {
        let span = self.place.resolve_for_read(region)?;
        let in_memory = self.evict.then(|| resident(region, span)).transpose()?;
        if self.evict {
            // The flush before that knows what this mapping has made dirty.
            region.drop_page_table_entries(span)?;
        }
        // Counting takes longer than flushing a clean file, so it is skipped if the report is not printed.
        let counts = context.globals.json || !context.globals.quiet;
        let dirty_pages = |region: &Region| counts.then(|| dirty_pages(region, span)).flatten();
        let before = dirty_pages(region);
        let method = if self.start_only {
            proven(region.start_writeback(span))?;
            "sync_file_range"
        } else {
            let much = before.map_or(span.len(), |pages| pages.saturating_mul(mapping::page_size()));
            if much >= LONG {
                proven(region.write_back(span, step))?;
            }
            let method = match proven(region.flush(span, self.invalidate))? {
                Flush::Msync => "msync",
                Flush::Fdatasync => "fdatasync",
            };
            if region.is_shared_file() {
                sync_parent_dir(region.backing(), context.journal).map_failure(|| Error::changed("not durable"))?;
            }
            method
        };
        let after = dirty_pages(region);
        let left = match in_memory {
            None => None,
            Some(_) => {
                region.evict(span)?;
                Some(resident(region, span)?)
            }
        };
        let pages = |count: Option<u64>| match count {
            None => "unknown".to_string(),
            Some(count) => plural(count, "page"),
        };
        let (state, words) = match before {
            _ if self.start_only => ("started", "writing was started, nothing is promised"),
            Some(1..) => ("durable", "durable"),
            // If a flush that cleaned these pages failed, its error was reported to the process that made it, and is
            // not reported again.
            _ => ("as-far-as-known", "durable as far as the kernel knows"),
        };
        let name = context.name();
        let line = format!("{name}: {span} {words}; dirty before {}, after {}", pages(before), pages(after));
        let mut report = Report::new("sync", context.path, false)
            .range(span)
            .json_field("method", method)
            .json_field("durable", state == "durable")
            .json_field("state", state)
            .json_field("page_size", mapping::page_size())
            .json_field("dirty_before", before)
            .json_field("dirty_after", after)
            .json_field("evicted", self.evict)
            .json_field("resident_before", in_memory.flatten())
            .json_field("resident_after", left.flatten())
            .line(line);
        if let (Some(in_memory), Some(left)) = (in_memory, left) {
            let text = format!("{} before, {} after", pages(in_memory), pages(left));
            report = report.text_field("in memory", text);
        }
        Ok(report)
    }
}

/// Marks a flush that failed at the device: the file's bytes may be lost, which is worse than a failure.
fn proven<T>(result: mapping::Result<T>) -> Result<T> {
    const LOST: [Errno; 5] = [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::ENOLINK, Errno::ESTALE];
    match result {
        // Only if there was a flush: opening or mapping may have failed before it.
        Err(error) if error.is_of_flush() && matches!(error.cause, ErrorKind::Sys(errno) if LOST.contains(&errno)) => {
            Err(error).map_failure(|| Error::changed("not durable").tip(LOST_TIP))
        }
        other => Ok(other?),
    }
}
