//! `sync`: make a range durable and prove it, by the dirty pages before and after.

use super::options::{Where, has_length, recovery_needed, waits_for_recovery};
use super::{Job, OnRegion};
use crate::cli::{self, Globals};
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{self, Access, Backing, Cause, Flush, Prot, Region, Shape, Span, Visibility, unwritten};
use crate::report::{Report, plural};
use nix::errno::Errno;
use std::path::{Path, PathBuf};
use std::time::Duration;

// Without a doc comment, which clap would take for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/sync.examples"))]
pub struct Args {
    /// The files to make durable
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Look for the recovery journal of --atomic at this path, too
    #[arg(help_heading = "Safety", long, value_name = "PATH")]
    journal: Option<PathBuf>,
}

// What to make durable, wherever it comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Where,
    /// Start writing and return at once; nothing is promised
    #[arg(long = "async", conflicts_with = "invalidate")]
    start_only: bool,
    /// Ask other mappings of the range to take the fresh bytes, too (MS_INVALIDATE)
    #[arg(long)]
    invalidate: bool,
}

pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    // The others are synced all the same; the gravest code is the process's.
    let codes = args.files.iter().map(|file| match one(file, args, globals) {
        Ok(()) => Exit::Done,
        Err(error) => cli::tell(globals, "sync", &error),
    });
    Ok(codes.max().unwrap_or(Exit::Done) as u8)
}

fn one(file: &Path, args: &Args, globals: &Globals) -> anyhow::Result<()> {
    let work = || -> anyhow::Result<()> {
        // msync flushes nothing through a descriptor that was opened for reading only.
        let backing = Backing::open(file, Access::WriteIfAllowed, Duration::ZERO)?;
        has_length(&backing)?;
        let prot = if backing.facts().writable {
            Prot::ReadWrite
        } else {
            Prot::Read
        };
        let waits = waits_for_recovery(&backing, args.journal.as_deref());
        let span = Span::first(backing.facts().len);
        let mut region = Region::new(backing, span, Shape::whole(Visibility::Shared, prot))?;
        args.options.apply(&mut region, Job::on(file, globals))?;
        match waits? {
            // What is durable now is half a patch.
            Some(place) => Err(recovery_needed(&place, Exit::InDoubt).into()),
            None => Ok(()),
        }
    };
    work().in_file(file)
}

impl OnRegion for Options {
    fn apply(&self, region: &mut Region, job: Job<'_>) -> anyhow::Result<()> {
        let span = self.place.to_read(region)?;
        let before = unwritten(region, span);
        let method = if self.start_only {
            proven(region.start_writeback(span))?;
            "sync_file_range"
        } else {
            match proven(region.flush(span, self.invalidate))? {
                Flush::Msync => "msync",
                Flush::Fdatasync => "fdatasync",
            }
        };
        let after = unwritten(region, span);
        let pages = |count: Option<u64>| match count {
            None => "unknown".to_string(),
            Some(count) => plural(count, "page"),
        };
        let state = if self.start_only {
            "writing was started, nothing is promised"
        } else {
            "durable"
        };
        let name = job.name();
        let line = format!(
            "{name}: {span} {state}; dirty before {}, after {}",
            pages(before),
            pages(after)
        );
        Report::new("sync", job.path, false)
            .field("offset", span.start())
            .field("length", span.len())
            .field("method", method)
            .field("durable", !self.start_only)
            .field("page_size", mapping::page_size())
            .field("dirty_before", before)
            .field("dirty_after", after)
            .line(line)
            .print(job.globals)
    }
}

/// A flush that failed at the device: the file's bytes may be lost, which is more than trouble.
fn proven<T>(result: mapping::Result<T>) -> anyhow::Result<T> {
    const LOST: [Errno; 5] = [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::ENOLINK, Errno::ESTALE];
    let tip = "the kernel has given up these bytes and counts them as clean: see 'dmesg', write them again, then sync";
    match result {
        // Not so when it never came to a flush: opening or mapping failed.
        Err(error) if error.is_of_flush() && matches!(error.cause, Cause::Sys(errno) if LOST.contains(&errno)) => {
            Err(error).or_fail(|| Failure::new(Exit::NotDurable, "not durable").tip(tip))
        }
        other => Ok(other?),
    }
}
