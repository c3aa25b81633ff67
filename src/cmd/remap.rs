//! `remap`: grow or shrink a file, with its blocks.

use super::Job;
use super::options::{Writer, size, usage_after};
use crate::cli::Globals;
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{self, Facts, Region};
use crate::quantity::Size;
use crate::report::Report;
use crate::signals::Signals;
use anyhow::Context;
use std::path::PathBuf;

// Without a doc comment, which clap would take for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/remap.examples"))]
pub struct Args {
    /// The file to resize
    file: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    writer: Writer,
}

// What to do to the mapping and its file.
#[derive(Debug, clap::Args)]
struct Options {
    /// The new length: 64K, +1M (longer by), -1M (shorter by)
    #[arg(long, value_name = "SIZE")]
    size: Size,
    /// Do not allocate blocks for the new bytes: they become a hole
    #[arg(long)]
    sparse: bool,
}

pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    let job = Job::on(&args.file, globals);
    let work = || {
        let (mut region, recovered) = args.writer.open(&args.file, globals)?;
        args.options.apply(&mut region, Job { recovered, ..job })
    };
    work().in_file(&args.file)?;
    Ok(Exit::Done as u8)
}

impl Options {
    fn apply(&self, region: &mut Region, job: Job<'_>) -> anyhow::Result<()> {
        let before = region.backing().usage()?;
        let len = self.plan(region.backing().facts())?;
        // A signal between setting the length and allocating would leave the one without the other.
        let _signals = Signals::hold(&[])?;
        if len != before.len {
            region
                .resize(len, self.sparse)
                .or_else(|error| unchanged(region, before.len, error))?;
        }
        let after = usage_after(region, len != before.len)?;
        let name = job.name();
        let line = if len == before.len {
            format!("{name}: the length is {} already", size(len))
        } else {
            format!("{name}: length {} before, {} now", size(before.len), size(after.len))
        };
        Report::new("remap", job.path, len != before.len)
            .field("length_before", before.len)
            .field("length", after.len)
            .field("allocated_before", before.allocated)
            .field("allocated_after", after.allocated)
            .field("recovered", job.recovered)
            .line(line)
            .fact(
                "allocated",
                format!("{} before, {} after", size(before.allocated), size(after.allocated)),
            )
            .print(job.globals)
    }

    fn plan(&self, facts: &Facts) -> anyhow::Result<u64> {
        Ok(self.size.resolve(facts.len, facts.page)?)
    }
}

/// A resize that failed has set the old length again, unless that failed, too.
fn unchanged(region: &Region, before: u64, error: mapping::Error) -> anyhow::Result<()> {
    if region.backing().usage().is_ok_and(|now| now.len == before) {
        return Err(error).context("its length was not changed");
    }
    let tip = format!("look at its length with 'stat', and set it with --size {before}");
    Err(error).or_fail(|| Failure::new(Exit::InDoubt, "in doubt: its length may have changed").tip(tip))
}
