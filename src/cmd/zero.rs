//! `zero`: zero a range by the cheapest method that the file system supports.

use super::options::{RangeArgs, WriteArgs, close, size, to_be_durable, usage_after};
use super::{RunOnRegion, VerbContext};
use crate::edit::{
    Error, ErrorContext, Result, RollbackPlan, SpooledBytes, not_taken, rollback_on_error, sync_parent_dir,
};
use crate::error::Exit;
use crate::mapping::{
    self, AccessDenied, ByteRange, ErrorKind, Interrupted, Kind, MAX_FALLOCATE_LEN, Prot, Region, Segment, SpaceUsage,
};
use crate::output::Globals;
use crate::progress::Progress;
use crate::report::Report;
use crate::text::plural;
use clap::ValueEnum;
use nix::errno::Errno;
use std::path::PathBuf;

// No doc comment, because clap would take it for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/zero.examples"))]
pub struct Args {
    /// The file in which a range is zeroed; it keeps its length
    file: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    writer: WriteArgs,
}

// What to zero and how, wherever it comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: RangeArgs,
    /// The method; auto tries zero-range, then write
    #[arg(long, value_name = "METHOD", default_value = "auto", hide_default_value = true)]
    method: ZeroMethod,
    /// Free the blocks; the same as --method punch
    #[arg(long, conflicts_with = "method")]
    punch: bool,
    /// Free blocks that contain only zeros; no byte changes
    #[arg(long, conflicts_with_all = ["method", "punch"])]
    sparsify: bool,
    /// Report what would be zeroed, and what --punch and --sparsify would free; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Return only when the zeros are on the device (msync)
    #[arg(long)]
    sync: bool,
}

/// The means to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ZeroMethod {
    /// The cheapest method that keeps blocks allocated
    Auto,
    /// fallocate(FALLOC_FL_ZERO_RANGE): blocks stay, nothing is written
    ZeroRange,
    /// fallocate(FALLOC_FL_PUNCH_HOLE): blocks are freed
    Punch,
    /// Store zeros through the mapping
    Write,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ZeroPlan {
    Zero(ZeroMethod),
    Sparsify,
}

impl ZeroMethod {
    fn name(self) -> &'static str {
        match self {
            ZeroMethod::Auto => "auto",
            ZeroMethod::ZeroRange => "zero-range",
            ZeroMethod::Punch => "punch",
            ZeroMethod::Write => "write",
        }
    }
}

/// Up to this many old bytes are kept, to be restored if storing zeros fails or is interrupted.
const KEEP: u64 = 64 << 20;

/// How many are kept for one call of fallocate, which hardly ever fails half-way: reading more than this first would
/// take longer than the zeroing.
const KEEP_FOR_CALL: u64 = 1 << 20;

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8> {
    let context = VerbContext::on(&args.file, globals);
    let work = || {
        // Checked before the file is opened, which may wait for a lock.
        args.options.check()?;
        let (mut region, recovered) = if args.options.stores() {
            args.writer.open(&args.file, globals)?
        } else {
            let backing = args.writer.reader().open(&args.file)?;
            (Region::sliding(backing, Prot::Read)?, false)
        };
        let context = context.writing(&args.writer);
        let applied = args.options.apply(&mut region, VerbContext { recovered, ..context });
        close(region, applied.map(|()| Exit::Done as u8)).after_recovery(recovered)
    };
    work().with_path(&args.file)
}

impl RunOnRegion for Options {
    fn stores(&self) -> bool {
        !self.dry_run
    }

    fn check_options(&self) -> Result<()> {
        self.check()
    }

    fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        self.check()?;
        let (span, plan) = self.plan(region)?;
        if self.sync && !self.dry_run {
            sync_parent_dir(region.backing(), context.journal)
                .map_failure(|| Error::untouched("nothing was written"))?;
        }
        if self.dry_run {
            region.check_there(span)?;
        }
        let method = match plan {
            ZeroPlan::Zero(method) => method,
            ZeroPlan::Sparsify => return self.sparsify(region, span, context),
        };
        // The blocks of a private mapping and of anonymous memory belong to no file.
        let of_file = region.is_shared_file() && has_blocks(region);
        let before = of_file.then(|| region.backing().usage()).transpose()?;
        let would_free = self.dry_run && method == ZeroMethod::Punch;
        let would_free = would_free.then(|| region.backing().occupied(span)).transpose()?;
        let mut done_by = method;
        if !self.dry_run && !span.is_empty() {
            let mut progress =
                Progress::writing(context.globals, "zeroing", span.len())?.stepping_to(span.len().saturating_mul(2));
            crate::memory::begin_change();
            done_by = zero(region, span, method, &mut progress)?;
            self.make_durable(region, span, "the range was zeroed, but is not proven durable")?;
        }
        let changed = !self.dry_run && !span.is_empty();
        let after = of_file.then(|| usage_after(region, changed)).transpose()?;
        let usage = before.zip(after);
        let line = if span.is_empty() {
            format!("{}: {span} is empty; nothing to zero", context.name())
        } else if self.dry_run {
            format!("{}: {span} would be zeroed, method {}", context.name(), done_by.name())
        } else {
            let durable = if self.sync { ", durable" } else { "" };
            format!("{}: {span} zeroed by {}{durable}", context.name(), done_by.name())
        };
        let mut report = self
            .report(context, changed, span, done_by.name(), usage)
            .json_field("would_free", would_free)
            .line(line);
        if let Some(bytes) = would_free {
            report = report.text_field("would free", format!("{} at most", size(bytes)));
        }
        allocated(report, usage).stored_in(region).print(context.globals)
    }
}

/// The space that the file uses before and after.
type Change = Option<(SpaceUsage, SpaceUsage)>;

/// Whether the kernel counts the blocks in use: not for a device, for which fstat(2) returns 0.
fn has_blocks(region: &Region) -> bool {
    region.backing().facts().kind != Kind::BlockDevice
}

/// Adds the space that the file uses to a report.
fn allocated(report: Report, usage: Change) -> Report {
    let Some((before, after)) = usage else { return report };
    let text = format!("{} before, {} after", size(before.allocated), size(after.allocated));
    report.text_field("allocated", text)
}

impl Options {
    /// Rejects options that would require guessing how much to zero, before any file is opened.
    fn check(&self) -> Result<()> {
        let (failure, tip) = match &self.place.offset {
            _ if self.place.has_end() => return Ok(()),
            None => {
                ("no range to zero was given", "add --range START..END, or --range .. for the whole file".to_string())
            }
            Some(offset) => (
                "the range to zero has no end",
                format!(
                    "add --length, such as --length 4K, or write --range {offset}.. to zero everything up to the end"
                ),
            ),
        };
        Err(Error::untouched(failure).tip(tip))
    }

    /// The part that the reports of zeroing and of sparsifying have in common.
    fn report(&self, context: VerbContext<'_>, changed: bool, span: ByteRange, method: &str, usage: Change) -> Report {
        Report::new("zero", context.path, changed)
            .range(span)
            .json_field("method", method)
            .json_field("dry_run", self.dry_run)
            .json_field("durable", self.sync && !self.dry_run)
            .json_field("allocated_before", usage.map(|(before, _)| before.allocated))
            .json_field("allocated_after", usage.map(|(_, after)| after.allocated))
            .json_field("recovered", context.recovered)
    }

    fn make_durable(&self, region: &mut Region, span: ByteRange, failure: &str) -> Result<()> {
        if !self.sync {
            return region.send_now().map_failure(not_taken);
        }
        let failed = || Error::changed(failure).tip("see 'dmesg', then run the same command again");
        region.flush(span, false).map(drop).map_failure(failed)
    }

    /// Frees the blocks of zeros, or counts them. The bytes never change, so it may be ended at any moment.
    fn sparsify(&self, region: &mut Region, span: ByteRange, context: VerbContext<'_>) -> Result<()> {
        let before = region.backing().usage()?;
        let mut progress = Progress::reading(context.globals, "looking for zeros", span.len());
        let found = region.free_zeros(span, !self.dry_run, &mut |done| progress.step(done));
        drop(progress);
        let found = match found {
            Err(error) if unsupported(&error) => {
                let failure = Error::untouched("the file system cannot free blocks in the middle of a file");
                return Err(error)
                    .map_failure(|| failure.tip("'cp --sparse=always' makes a copy without these blocks"));
            }
            found => found.context("no byte was changed; blocks freed before stay freed")?,
        };
        if !self.dry_run {
            let failure = match found.zeros {
                0 => "no block was freed, and what is there is not proven durable; no byte was changed",
                _ => "blocks were freed, but that is not proven durable; no byte was changed",
            };
            self.make_durable(region, span, failure)?;
        }
        let after = region.backing().usage()?;
        // hugetlbfs does not distinguish holes from data, and a file without blocks frees none.
        let facts = region.backing().facts();
        let freed = match facts.page > mapping::page_size() && !self.dry_run {
            true => before.allocated.saturating_sub(after.allocated),
            // Which blocks of a device are in use is not known.
            false if facts.kind == Kind::BlockDevice => u64::MAX,
            false => before.allocated,
        };
        let zeros = found.zeros.min(freed);
        let runs = plural(found.runs, "run");
        let durable = if self.sync { ", durable" } else { "" };
        let line = match (zeros, self.dry_run) {
            (0, true) => format!("{}: {span} has no block of zeros that could be freed", context.name()),
            (0, false) => format!("{}: {span} has no block of zeros that could be freed{durable}", context.name()),
            (zeros, true) => format!("{}: {} of zeros in {span} would be freed, {runs}", context.name(), size(zeros)),
            (zeros, false) => format!("{}: {} of zeros in {span} freed, {runs}{durable}", context.name(), size(zeros)),
        };
        let usage = Some((before, after)).filter(|_| has_blocks(region));
        let report = self
            .report(context, false, span, "sparsify", usage)
            .json_field("data", found.data)
            .json_field("freed", (!self.dry_run).then_some(zeros))
            .json_field("would_free", self.dry_run.then_some(zeros))
            .json_field("runs", found.runs)
            .line(line);
        allocated(report, usage).stored_in(region).print(context.globals)
    }

    fn plan(&self, region: &Region) -> Result<(ByteRange, ZeroPlan)> {
        let method = if self.punch || self.sparsify {
            ZeroMethod::Punch
        } else {
            self.method
        };
        let method = match method {
            // The blocks of a private or anonymous mapping belong to no file.
            ZeroMethod::Auto if !region.is_shared_file() || region.layout().is_some() => ZeroMethod::Write,
            ZeroMethod::ZeroRange | ZeroMethod::Punch => {
                region.check_linear("zero it", "whose offsets fallocate(2) does not know")?;
                method
            }
            method => method,
        };
        if matches!(method, ZeroMethod::Punch | ZeroMethod::ZeroRange) && !region.is_shared_file() {
            let message = format!(
                "{} changes the blocks of a file, which this mapping cannot do",
                if self.sparsify { "--sparsify" } else { method.name() }
            );
            let failure = Error::untouched(message);
            return Err(failure.tip("--method write stores zeros, and so does auto"));
        }
        let span = self.place.resolve_for_write(region)?;
        if !region.shape().prot.writes() && !self.dry_run {
            let cause = ErrorKind::AccessDenied(AccessDenied::ReadOnly);
            return Err(mapping::Error::new("zero", Some(span), cause).into());
        }
        if self.sync && !self.dry_run {
            to_be_durable(region)?;
        }
        let plan = if self.sparsify {
            ZeroPlan::Sparsify
        } else {
            ZeroPlan::Zero(method)
        };
        Ok((span, plan))
    }
}

/// Zeroes `span` and returns the method that was used.
fn zero(region: &mut Region, span: ByteRange, method: ZeroMethod, progress: &mut Progress) -> Result<ZeroMethod> {
    let zero_range = |region: &Region, piece| region.backing().zero_range(piece);
    match method {
        ZeroMethod::Write => write(region, span, progress)?,
        ZeroMethod::Punch => call(region, span, |region, piece| region.backing().punch(piece), method, progress)?,
        ZeroMethod::ZeroRange => call(region, span, zero_range, method, progress)?,
        ZeroMethod::Auto => {
            // First allocates blocks for the holes, so that a full file system is noticed before anything is zeroed. If
            // allocating or zero-range is not supported, bytes are stored, which fails only if there really is no room.
            if allocate(region, span, progress)? {
                let zeroed = call(region, span, zero_range, ZeroMethod::ZeroRange, progress);
                if !zeroed.as_ref().is_err_and(is_unsupported) {
                    return zeroed.map(|()| ZeroMethod::ZeroRange);
                }
            }
            write(region, span, progress)?;
            return Ok(ZeroMethod::Write);
        }
    }
    Ok(method)
}

/// Allocates the blocks for all of `span`; returns false if the file system does not support that.
///
/// # Errors
/// If there was a signal.
fn allocate(region: &Region, span: ByteRange, progress: &mut Progress) -> Result<bool> {
    // Data has blocks already.
    if region.backing().next_data(span.start(), span).is_ok_and(|data| data == Some(span)) {
        return Ok(true);
    }
    for piece in span.windows(MAX_FALLOCATE_LEN) {
        if region.backing().allocate(piece).is_err() {
            return Ok(false);
        }
        progress.step(piece.end() - span.start()).context("nothing was written")?;
    }
    Ok(true)
}

fn write(region: &mut Region, span: ByteRange, progress: &mut Progress) -> Result<()> {
    region.make_room(span, &mut |done| progress.step(done)).context("nothing was written")?;
    let mut old = old_bytes(region, span, KEEP)?;
    let stored = region.zero(span, &mut |done| progress.step(span.len() + done));
    let all = [whole(span)];
    let before = before(region, &all, old.as_mut());
    rollback_on_error(region, before, stored.map_err(Into::into))
}

/// Zeroes all of it with calls of fallocate, each for a part that does not take long. A call that fails may still have
/// zeroed a part.
fn call(
    region: &mut Region,
    span: ByteRange,
    fallocate: impl Fn(&Region, ByteRange) -> mapping::Result<()>,
    method: ZeroMethod,
    progress: &mut Progress,
) -> Result<()> {
    let mut old = old_bytes(region, span, KEEP_FOR_CALL)?;
    let mut done = 0;
    let result = span.windows(MAX_FALLOCATE_LEN).try_for_each(|piece| {
        fallocate(region, piece).map_err(|error| {
            let half_way = matches!(error.cause, ErrorKind::Full(_) | ErrorKind::Sys(Errno::EIO | Errno::EINTR));
            mapping::Error {
                stored: done + if half_way { piece.len() } else { 0 },
                ..error
            }
        })?;
        done += piece.len();
        match progress.step(span.len() + done) {
            Err(Interrupted(signal)) if done < span.len() => Err(mapping::Error {
                stored: done,
                ..mapping::Error::new("zero", Some(span.from(piece.end())), ErrorKind::Interrupted(signal))
            }),
            _ => Ok(()),
        }
    });
    let all = [whole(span)];
    let before = before(region, &all, old.as_mut());
    let outcome = rollback_on_error(region, before, result.map_err(Into::into));
    if outcome.as_ref().is_err_and(is_unsupported) {
        if let Some(sector) = unaligned(region, span) {
            let failure = Error::untouched(format!(
                "a block device has {} for whole sectors alone, of {sector} bytes",
                method.name()
            ));
            let tip = "give a range of whole sectors; --method write takes any";
            return outcome.map_failure(|| failure.tip(tip));
        }
        let failure = Error::untouched(format!("the file system has no {}", method.name()));
        return outcome
            .map_failure(|| failure.tip("--method write works everywhere; auto chooses a method that works"));
    }
    outcome
}

/// The sector size of a block device in bytes, if `span` does not consist of whole sectors.
fn unaligned(region: &Region, span: ByteRange) -> Option<u64> {
    let sector = region.backing().sector()?;
    let is_whole = span.start().is_multiple_of(sector) && span.end().is_multiple_of(sector);
    (!is_whole).then_some(sector)
}

/// Whether the file system rejected the call itself, with nothing done.
fn is_unsupported(error: &Error) -> bool {
    error.core().is_some_and(unsupported)
}

fn unsupported(error: &mapping::Error) -> bool {
    let refused = matches!(error.cause, ErrorKind::Sys(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL));
    refused && error.stored == 0
}

/// Reads the bytes of `span` for a rollback, unless they are more than `most`.
fn old_bytes(region: &mut Region, span: ByteRange, most: u64) -> Result<Option<SpooledBytes>> {
    if span.len() > most {
        return Ok(None);
    }
    let mut old = SpooledBytes::default();
    region.read_chunks(span, |_, bytes| old.push(bytes))?;
    // A rollback must not need anything that could run out by then, such as descriptors.
    old.fd()?;
    Ok(Some(old))
}

fn before<'a>(region: &Region, pieces: &'a [Segment], old: Option<&'a mut SpooledBytes>) -> RollbackPlan<'a> {
    RollbackPlan {
        pieces,
        old,
        len: region.length(),
        flush: false,
        tip: "remove the cause and run the same command again, which completes the change, or take these bytes from a \
              backup",
    }
}

fn whole(range: ByteRange) -> Segment {
    Segment::of(range, 0)
}
