//! `zero`: zero a range by the cheapest means that the file system has.

use super::options::{Where, Writer, size, to_be_durable, usage_after};
use super::{Job, OnRegion};
use crate::cli::Globals;
use crate::edit::{Before, Spool, or_put_back};
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{self, Cause, Error, Piece, Prot, Region, Span};
use crate::progress::Progress;
use crate::report::Report;
use anyhow::Context;
use clap::ValueEnum;
use nix::errno::Errno;
use std::path::PathBuf;

// Without a doc comment, which clap would take for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/zero.examples"))]
pub struct Args {
    /// The file to zero a range of; it keeps its length
    file: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    writer: Writer,
}

// What to zero and how, wherever it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Where,
    /// How: auto tries zero-range, then write
    #[arg(long, value_name = "METHOD", default_value = "auto", hide_default_value = true)]
    method: Method,
    /// Free the blocks; the same as --method punch
    #[arg(long, conflicts_with = "method")]
    punch: bool,
    /// Say what would be zeroed, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Return only when the zeros are on the device (msync)
    #[arg(long)]
    sync: bool,
}

/// The means to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// The cheapest that keeps blocks allocated
    Auto,
    /// fallocate(FALLOC_FL_ZERO_RANGE): blocks stay, nothing is written
    ZeroRange,
    /// fallocate(FALLOC_FL_PUNCH_HOLE): blocks are freed
    Punch,
    /// Store zeros through the mapping
    Write,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::ZeroRange => "zero-range",
            Method::Punch => "punch",
            Method::Write => "write",
        }
    }
}

/// Old bytes up to this many are kept, to be put back when storing zeros fails or is interrupted.
const KEEP: u64 = 64 << 20;

/// For one call of fallocate, which hardly ever fails half-way, reading more than this first would cost more than
/// the zeroing.
const KEEP_FOR_CALL: u64 = 1 << 20;

pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    let job = Job::on(&args.file, globals);
    let work = || {
        // Before the file is opened, and waited for.
        args.options.asked()?;
        let (mut region, recovered) = if args.options.stores() {
            args.writer.open(&args.file, globals)?
        } else {
            let backing = args.writer.reader().open(&args.file)?;
            (Region::sliding(backing, Prot::Read)?, false)
        };
        let job = job.writing(&args.writer);
        args.options.apply(&mut region, Job { recovered, ..job })
    };
    work().in_file(&args.file)?;
    Ok(Exit::Done as u8)
}

impl OnRegion for Options {
    fn stores(&self) -> bool {
        !self.dry_run
    }

    fn apply(&self, region: &mut Region, job: Job<'_>) -> anyhow::Result<()> {
        self.asked()?;
        let (span, method) = self.plan(region)?;
        // Of a private mapping, and of anonymous memory, no block is a file's.
        let of_file = region.reaches_file();
        let before = of_file.then(|| region.backing().usage()).transpose()?;
        let mut done_by = method;
        if !self.dry_run && !span.is_empty() {
            let mut progress = Progress::writing(job.globals, "zeroing", span.len() * 2)?;
            done_by = zero(region, span, method, &mut progress)?;
            if self.sync {
                let failed = || {
                    let message = "the range was zeroed, but is not proven durable";
                    Failure::new(Exit::NotDurable, message).tip("see 'dmesg', then run the same command again")
                };
                region.flush(span, false).or_fail(failed)?;
            }
        }
        let changed = !self.dry_run && !span.is_empty();
        let after = of_file.then(|| usage_after(region, changed)).transpose()?;
        let line = if span.is_empty() {
            format!("{}: {span} is empty; nothing to zero", job.name())
        } else if self.dry_run {
            format!("{}: {span} would be zeroed, method {}", job.name(), done_by.name())
        } else {
            let durable = if self.sync { ", durable" } else { "" };
            format!("{}: {span} zeroed by {}{durable}", job.name(), done_by.name())
        };
        let mut report = Report::new("zero", job.path, changed)
            .field("offset", span.start())
            .field("length", span.len())
            .field("method", done_by.name())
            .field("dry_run", self.dry_run)
            .field("durable", self.sync)
            .field("allocated_before", before.map(|usage| usage.allocated))
            .field("allocated_after", after.map(|usage| usage.allocated))
            .field("recovered", job.recovered)
            .line(line);
        if let (Some(before), Some(after)) = (before, after) {
            report = report.fact(
                "allocated",
                format!("{} before, {} after", size(before.allocated), size(after.allocated)),
            );
        }
        report.print(job.globals)
    }
}

impl Options {
    /// Refuses, before any file is opened, to guess that the whole of it is meant.
    fn asked(&self) -> anyhow::Result<()> {
        if !self.place.is_given() {
            let failure = Failure::trouble("which range to zero is not said");
            return Err(failure
                .tip("add --range 0x1000..+4K, or --range .. for the whole file")
                .into());
        }
        Ok(())
    }

    fn plan(&self, region: &Region) -> anyhow::Result<(Span, Method)> {
        let method = if self.punch { Method::Punch } else { self.method };
        let method = match method {
            // The blocks of a private or anonymous mapping are no file's.
            Method::Auto if !region.reaches_file() || region.layout().is_some() => Method::Write,
            Method::ZeroRange | Method::Punch => {
                region.check_linear("zero it", "whose offsets fallocate(2) does not know")?;
                method
            }
            method => method,
        };
        if matches!(method, Method::Punch | Method::ZeroRange) && !region.reaches_file() {
            let message = format!(
                "{} changes blocks of a file, which this mapping never does",
                method.name()
            );
            let failure = Failure::trouble(message);
            return Err(failure.tip("--method write stores zeros, and so does auto").into());
        }
        if !region.shape().prot.writes() && !self.dry_run {
            let cause = Cause::Protection("the mapping is read-only");
            return Err(Error::new("zero", None, cause).into());
        }
        if self.sync && !self.dry_run {
            to_be_durable(region)?;
        }
        Ok((self.place.to_write(region)?, method))
    }
}

/// Zeroes `span` and says by which method it was done.
fn zero(region: &mut Region, span: Span, method: Method, progress: &mut Progress) -> anyhow::Result<Method> {
    match method {
        Method::Write => write(region, span, progress)?,
        Method::Punch => call(region, span, |region| region.backing().punch(span), Method::Punch)?,
        Method::ZeroRange => call(
            region,
            span,
            |region| region.backing().zero_range(span),
            Method::ZeroRange,
        )?,
        Method::Auto => {
            // Blocks for the holes first, so that a full file system is met before anything is zeroed. Where that
            // or zero-range is refused, storing decides: it fails only where there really is no room.
            if region.backing().allocate(span).is_ok() {
                let zeroed = call(
                    region,
                    span,
                    |region| region.backing().zero_range(span),
                    Method::ZeroRange,
                );
                if !zeroed.as_ref().is_err_and(is_unsupported) {
                    return zeroed.map(|()| Method::ZeroRange);
                }
            }
            write(region, span, progress)?;
            return Ok(Method::Write);
        }
    }
    Ok(method)
}

fn write(region: &mut Region, span: Span, progress: &mut Progress) -> anyhow::Result<()> {
    let all = [whole(span)];
    region
        .make_writable(&all, &mut |done| progress.step(done))
        .context("nothing was written")?;
    let mut old = kept(region, span, KEEP)?;
    let stored = region.zero(span, &mut |done| progress.step(span.len() + done));
    let before = before(region, &all, old.as_mut());
    or_put_back(region, before, stored.map_err(Into::into))
}

/// One call of fallocate that does it all; a failure may still have zeroed a part.
fn call(
    region: &mut Region,
    span: Span,
    fallocate: impl FnOnce(&Region) -> mapping::Result<()>,
    method: Method,
) -> anyhow::Result<()> {
    let mut old = kept(region, span, KEEP_FOR_CALL)?;
    let result = fallocate(region).map_err(|error| {
        let half_way = matches!(error.cause, Cause::Full(_) | Cause::Sys(Errno::EIO | Errno::EINTR));
        Error {
            stored: if half_way { span.len() } else { 0 },
            ..error
        }
    });
    let all = [whole(span)];
    let before = before(region, &all, old.as_mut());
    let outcome = or_put_back(region, before, result.map_err(Into::into));
    if outcome.as_ref().is_err_and(is_unsupported) {
        let failure = Failure::trouble(format!("the file system has no {}", method.name()));
        return outcome.or_fail(|| failure.tip("--method write works everywhere; auto picks what works"));
    }
    outcome
}

/// Whether the file system refused the call as such, with nothing done.
fn is_unsupported(error: &anyhow::Error) -> bool {
    let refused = |error: &Error| {
        matches!(
            error.cause,
            Cause::Sys(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL)
        )
    };
    error.chain().any(|layer| layer.downcast_ref().is_some_and(refused))
}

/// The bytes of `span`, to be put back, unless they are more than `most`.
fn kept(region: &mut Region, span: Span, most: u64) -> anyhow::Result<Option<Spool>> {
    if span.len() > most {
        return Ok(None);
    }
    let mut old = Spool::default();
    region.read_chunks(span, |_, bytes| old.push(bytes))?;
    // Putting back must need nothing that could run out by then, such as descriptors.
    old.fd()?;
    Ok(Some(old))
}

fn before<'a>(region: &Region, pieces: &'a [Piece], old: Option<&'a mut Spool>) -> Before<'a> {
    Before {
        pieces,
        old,
        len: region.length(),
        flush: false,
    }
}

fn whole(span: Span) -> Piece {
    Piece {
        at: span.start(),
        len: span.len(),
        from: 0,
    }
}
