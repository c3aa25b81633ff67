//! `patch`: edit bytes in place. Checked before anything is written, all or nothing after.

use super::Job;
use super::options::{Where, Writer, open_to_read, within};
use crate::cli::Globals;
use crate::edit::{Comparison, Edit, Edits, Mismatch, Value};
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{Cause, Error, Facts, Prot, Region, Span};
use crate::progress::Progress;
use crate::report::{self, Report, plural};
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::json;
use std::path::PathBuf;

// Without a doc comment, which clap would take for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/patch.examples"))]
pub struct Args {
    /// The file to edit; it keeps its length
    file: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    writer: Writer,
}

// What to do to the file, wherever it comes from.
#[derive(Debug, clap::Args)]
struct Options {
    /// The new bytes, one value after the other: dead, text:V1\n, u32le:1,2, fill:5a:4K, @FILE; without any, stdin
    #[arg(value_name = "VALUE", value_parser = value())]
    values: Vec<Value>,
    #[command(flatten)]
    place: Where,
    /// Write only if these bytes stand there now (or the new ones already do), else exit with 1
    #[arg(long, value_name = "VALUE", value_parser = value())]
    expect: Option<Value>,
    /// Check everything, write nothing, and print the edit script that would be applied
    #[arg(long)]
    dry_run: bool,
    /// Return only when the new bytes are on the device (msync)
    #[arg(long)]
    sync: bool,
}

fn value() -> impl TypedValueParser<Value = Value> {
    OsStringValueParser::new().try_map(|argument| Value::parse(&argument))
}

pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    let job = Job::on(&args.file, globals);
    let work = || {
        args.options.asked()?;
        let (backing, prot) = if args.options.dry_run {
            (open_to_read(&args.file)?, Prot::Read)
        } else {
            (args.writer.open(&args.file)?, Prot::ReadWrite)
        };
        args.options.apply(&mut Region::sliding(backing, prot)?, job)
    };
    work().in_file(&args.file)?;
    Ok(Exit::Done as u8)
}

impl Options {
    /// Refuses, before any file is opened, what cannot be meant.
    fn asked(&self) -> anyhow::Result<()> {
        if !self.place.is_given() {
            let failure = Failure::trouble("where to write is not said");
            return Err(failure.tip("add --offset, such as --offset 0x40").into());
        }
        Ok(())
    }

    fn apply(&self, region: &mut Region, job: Job<'_>) -> anyhow::Result<()> {
        let place = self.plan(region.backing().facts())?;
        let mut edits = self.gather(place, region.backing().facts())?;
        let total = edits.new.len();
        // Comparing, making room and storing go over the bytes once each.
        let mut progress = if self.dry_run {
            Progress::reading(job.globals, "comparing", total)
        } else {
            Progress::writing(job.globals, "patching", total * 3)?
        };
        let mut comparison = edits.compare(region, &mut |done| progress.step(done))?;
        if !comparison.mismatches.is_empty() {
            return Err(mismatch(&comparison.mismatches, edits.list.len(), job).into());
        }
        if self.dry_run {
            return script(&edits, &comparison, region.backing().facts(), job);
        }
        if !comparison.todo.is_empty() {
            let mut done = total;
            let mut last = 0;
            edits.store(region, &mut comparison, &mut |part| {
                done += if part >= last { part - last } else { part };
                last = part;
                progress.step(done)
            })?;
        }
        let span = edits.span();
        let changed = !comparison.todo.is_empty();
        if self.sync {
            region.flush(span, false).or_fail(|| not_durable(changed))?;
        }
        drop(progress);
        self.report(span, &comparison, job).print(job.globals)
    }

    /// Where the bytes go: a range to fill exactly, or all that is left behind an offset.
    fn plan(&self, facts: &Facts) -> anyhow::Result<Span> {
        let place = self.place.to_write(facts)?;
        let known = self.values.iter().try_fold(0u64, |sum, value| {
            let len = value.len(facts.page)?.unwrap_or(0);
            anyhow::Ok(sum.saturating_add(len))
        })?;
        self.fits(place, known)?;
        Ok(place)
    }

    /// Whether `len` new bytes are not too many.
    fn fits(&self, place: Span, len: u64) -> anyhow::Result<()> {
        if len <= place.len() {
            return Ok(());
        }
        if self.place.has_end() {
            return Err(unequal(place, &format!("at least {}", plural(len, "byte"))).into());
        }
        let end = place.start().saturating_add(len);
        let span = Span::new(place.start(), end).unwrap_or(place);
        Err(Error::new("write", Some(span), Cause::PastEnd { len: place.end() }).into())
    }

    /// Reads the bytes from where they come, no more of them than there is room for.
    fn gather(&self, place: Span, facts: &Facts) -> anyhow::Result<Edits> {
        let mut edits = Edits::default();
        let stdin = [Value::Stdin];
        let values = if self.values.is_empty() {
            &stdin
        } else {
            self.values.as_slice()
        };
        for value in values {
            let most = place.len() - edits.new.len() + 1;
            value.spool(&mut edits.new, most, facts.page)?;
            self.fits(place, edits.new.len())?;
        }
        let len = edits.new.len();
        if len == 0 {
            let failure = Failure::trouble("there are no bytes to write: the input is empty");
            return Err(failure.tip("give a VALUE, or send the bytes to stdin").into());
        }
        if self.place.has_end() && len < place.len() {
            return Err(unequal(place, &plural(len, "byte")).into());
        }
        let span = within(Span::at(place.start(), len).unwrap_or(place), facts)?;
        if let Some(expect) = &self.expect {
            expect.spool(&mut edits.expected, len + 1, facts.page)?;
            let expected = edits.expected.len();
            if expected != len {
                let than = if expected > len { "more" } else { "fewer" };
                let failure = Failure::trouble(format!("--expect has {than} bytes than the {len} to write"));
                return Err(failure.tip("give both the same length").into());
            }
        }
        edits.list.push(Edit {
            span,
            from: 0,
            expects: self.expect.is_some().then_some(0),
        });
        Ok(edits)
    }

    fn report(&self, span: Span, comparison: &Comparison, job: Job<'_>) -> Report {
        let changed = !comparison.todo.is_empty();
        let name = job.name();
        let line = match (changed, self.sync) {
            (false, _) => format!("{name}: {span} holds these bytes already; nothing was written"),
            (true, sync) => format!(
                "{name}: {} of {span} changed{}",
                plural(comparison.differing, "byte"),
                if sync { ", durable" } else { "" }
            ),
        };
        Report::new("patch", job.path, changed)
            .field("offset", span.start())
            .field("length", span.len())
            .field("bytes_changed", comparison.differing)
            .field("durable", self.sync)
            .line(line)
    }
}

fn unequal(place: Span, given: &str) -> Failure {
    let message = format!(
        "the range {place} takes {}, and {given} came",
        plural(place.len(), "byte")
    );
    Failure::trouble(message)
        .tip("give --offset alone to write as many as there are, or fill:00:LENGTH to clear the rest")
}

fn not_durable(changed: bool) -> Failure {
    let state = if changed {
        "the file was changed, but is"
    } else {
        "the file is"
    };
    let message = format!("{state} not proven durable");
    let tip = "the device may have lost data: see 'dmesg', write the bytes again and sync again";
    Failure::new(Exit::NotDurable, message).tip(tip)
}

fn mismatch(mismatches: &[Mismatch], edits: usize, job: Job<'_>) -> Failure {
    let lines = mismatches.iter().map(|one| {
        let (found, expected) = (const_hex::encode(&one.found), const_hex::encode(&one.expected));
        format!("bytes at {:#x} are {found}, expected {expected}", one.offset)
    });
    let mut message = lines.collect::<Vec<_>>().join("\n       ");
    if edits > 1 {
        message += &format!(" ({} of {edits} edits)", mismatches.len());
    }
    message += "; nothing was written";
    let around = mismatches[0].offset;
    let tip = format!(
        "see what is there with 'mmapctl cat {} --range {around:#x}..+16 -x'",
        job.file()
    );
    Failure::new(Exit::No, message).tip(tip)
}

/// `--dry-run`: the edit script that would be applied, a line for each 32 bytes that differ.
fn script(edits: &Edits, comparison: &Comparison, facts: &Facts, job: Job<'_>) -> anyhow::Result<()> {
    const LINE: u64 = 32;
    let mut script = format!("# mmapctl-patch 1\nsize {:#x}\n", facts.len);
    let mut objects = Vec::new();
    for piece in &comparison.todo {
        for line in piece.span().windows(LINE) {
            let from = piece.from + (line.start() - piece.at);
            let (mut old, mut new) = ([0; LINE as usize], [0; LINE as usize]);
            let (old, new) = (&mut old[..line.len() as usize], &mut new[..line.len() as usize]);
            comparison.old.read_at(from, old)?;
            edits.new.read_at(from, new)?;
            if old == new {
                continue;
            }
            let (old, new) = (const_hex::encode(old), const_hex::encode(new));
            if job.globals.json {
                objects.push(json!({"offset": line.start(), "old": old, "new": new}));
                continue;
            }
            script += &format!("{:#x}: {old} -> {new}\n", line.start());
            if script.len() > 1 << 16 {
                report::out(script.as_bytes())?;
                script.clear();
            }
        }
    }
    if job.globals.json {
        let report = Report::new("patch", job.path, false)
            .field("dry_run", true)
            .field("size", facts.len)
            .field("bytes_changed", comparison.differing)
            .field("edits", objects);
        return report.print(job.globals);
    }
    report::out(script.as_bytes())
}

impl Edits {
    /// The range from the first edit to the last.
    fn span(&self) -> Span {
        let spans = self.list.iter().map(|edit| edit.span);
        spans.reduce(Span::join).unwrap_or(Span::first(0))
    }
}
