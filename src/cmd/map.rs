//! `map`: make a mapping, show how it is in memory, work on it, hold it, run a command while it exists.

mod child;
mod files;
mod glob;
mod hold;
mod many;
mod report;
mod session;
mod shape;
mod table;

use super::options::{RangeArgs, ReadArgs, WriteArgs, close, unless_cut_short};
use super::paths::must_differ;
use super::{RunOnRegion, VerbContext};
use crate::edit::{Error, ErrorContext, Outcome, Result};
use crate::mapping::{ADVICE, Access, Advice, Backing, ByteRange, Kind, Lock, Prot, Region};
use crate::number::interval;
use crate::output::Globals;
use crate::progress::Progress;
use crate::signals::Signals;
use crate::text;
use child::ChildEnv;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use files::Files;
use hold::HoldArgs;
use session::{Script, Session};
use shape::{MappingArgs, wanted_len};
use std::path::{Path, PathBuf};
use std::time::Duration;

// No doc comment, because clap would take it for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/map.examples"))]
pub struct Args {
    /// The files to map, or with -R directories of files; /dev/zero is anonymous memory
    #[arg(value_name = "FILE", required_unless_present_any = ["anonymous", "memfd", "files_from"], conflicts_with_all = ["anonymous", "memfd"])]
    named: Vec<PathBuf>,
    /// Map --length bytes of anonymous memory
    #[arg(long, requires = "length", conflicts_with = "memfd")]
    anonymous: bool,
    /// Map a new file in memory, of --length bytes, which other processes can open while the mapping exists
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "mmapctl", requires = "length")]
    memfd: Option<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    place: RangeArgs,
    #[command(flatten)]
    map_as: MappingArgs,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    session: Script,
    #[command(flatten)]
    writer: WriteArgs,
    /// Map the file even if an interrupted atomic patch has not been recovered
    #[arg(help_heading = "Safety", long)]
    ignore_journal: bool,
    #[command(flatten)]
    stand: HoldArgs,
}

// What to do to an existing mapping.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Bring all pages into memory now
    #[arg(long)]
    populate: bool,
    /// Lock the pages in memory: now, or each when it is first touched
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "now")]
    lock: Option<LockWhen>,
    /// Give the kernel this advice, see madvise(2); may be repeated
    #[arg(long, value_name = "ADVICE", value_parser = advice())]
    advise: Vec<Advice>,
    /// Redraw the report every INTERVAL (default: 1s) until Ctrl-C
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_parser = interval)]
    watch: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LockWhen {
    /// All pages, before anything else happens
    Now,
    /// Each page when it is first touched
    OnFault,
}

fn advice() -> impl TypedValueParser<Value = Advice> {
    PossibleValuesParser::new(ADVICE.map(|advice| advice.name))
        .map(|name| ADVICE.into_iter().find(|advice| advice.name == name).unwrap_or(ADVICE[0]))
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8> {
    args.stand.check()?;
    if args.options.watch.is_some() && args.stand.is_asked() {
        let failure =
            Error::untouched("--watch runs until Ctrl-C, and cannot be combined with --hold, --ready-fd or a COMMAND");
        return Err(failure.tip("leave out one or the other"));
    }
    if args.is_of_many()? {
        return args.run_many(globals);
    }
    let file = args.named.first();
    let memory = match &args.memfd {
        Some(name) => format!("memfd {}", text::shown(Path::new(name))),
        None => "anonymous memory".into(),
    };
    let context = VerbContext {
        globals,
        path: file.map(PathBuf::as_path),
        memory: &memory,
        journal: None,
        recovered: false,
        ignores_journal: args.ignore_journal,
        force: false,
    };
    let result = args.run(context.writing(&args.writer));
    match file {
        Some(file) => result.with_path(file),
        None => result.context(memory),
    }
}

impl Args {
    fn run(&self, context: VerbContext<'_>) -> Result<u8> {
        if self.options.watch.is_some() && !self.session.is_empty() {
            let failure = Error::untouched("--watch redraws the report, and a session prints none");
            return Err(failure.tip("-c 'map --watch' shows it in a session"));
        }
        let script = self.session.file().map(|path| ("--script", path));
        let journal = context.journal.map(|path| ("--journal", path));
        must_differ(&[script], &[journal])?;
        let session = self.session.read(context.globals)?;
        let stores = session.stores();
        if stores && self.ignore_journal && self.map_as.access(stores) == Access::Write {
            let failure =
                Error::untouched("--ignore-journal is only for reading, and a verb of this session may write");
            return Err(failure.tip("leave it out; then the file is first put back as it was"));
        }
        let (backing, span, recovered) = self.backing(stores, context.globals)?;
        let context = VerbContext { recovered, ..context };
        let mut region = self.map_as.region(backing, span, stores)?;
        let outcome = self.work_on(&mut region, session, context);
        close(region, outcome)
    }

    /// Does what the options ask for with an existing mapping; returns the process's exit code.
    fn work_on(&self, region: &mut Region, mut session: Session, context: VerbContext<'_>) -> Result<u8> {
        let stays = !self.session.is_empty() || self.stand.is_asked() || self.options.watch.is_some();
        self.options.bring_in(region, context, stays)?;
        let ended = match session.run(region, context) {
            Ok(0) => self.end_of(region, context),
            ended => ended,
        };
        match region.is_shared_file() && region.backing().is_written() {
            true if !ended.as_ref().is_err_and(Error::is_reader_gone) => ended
                .map_failure(|| Error::changed("the verbs may have changed the file, and then"))
                .after_recovery(context.recovered),
            _ => ended,
        }
    }

    /// What follows the session: prints the report, and holds the mapping or runs a command.
    fn end_of(&self, region: &mut Region, context: VerbContext<'_>) -> Result<u8> {
        // Signals are blocked before the mapping is announced.
        let signals = self.stand.signals()?;
        if self.session.is_empty() && (self.stand.command.is_empty() || context.globals.json) {
            self.report(region, context)?;
        }
        // From now on, this process stores nothing, but others may.
        region.lend_lock()?;
        let beside = ChildEnv::of(region, context.path);
        self.stand.stay(&beside, &context.name(), signals.as_ref(), context.globals)
    }

    fn report(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        if self.options.watch.is_some() {
            return self.options.show(region, context);
        }
        let mut report = report::report(region, context)?;
        if let Some(held) = self.stand.held() {
            report = report.text_field("held", held);
        }
        report.print(context.globals)
    }

    fn backing(&self, stores: bool, globals: &Globals) -> Result<(Backing, ByteRange, bool)> {
        let (backing, recovered) = match self.named.first() {
            None => (self.map_as.memory(&self.place, self.memfd.as_deref())?, false),
            Some(path) => self.file(path, stores, globals)?,
        };
        let facts = backing.facts();
        let span = match facts.kind {
            Kind::Regular | Kind::BlockDevice => self.place.to_map(facts)?,
            _ => ByteRange::first(facts.len),
        };
        let is_file = matches!(facts.kind, Kind::Regular | Kind::BlockDevice);
        // An empty file is shown like one of several files, and a session may make it longer.
        if span.is_empty() && !(is_file && facts.len == 0) {
            let (message, tip) = match is_file {
                true => ("the range is empty", "a mapping must have at least one byte"),
                false => ("a length of 0", "a mapping has at least one page: --length 4K"),
            };
            let failure = Error::untouched(format!("{message}: there is nothing to map"));
            return Err(failure.tip(tip));
        }
        Ok((backing, span, recovered))
    }

    fn reader(&self) -> ReadArgs {
        ReadArgs {
            ignore_journal: self.ignore_journal,
            ..self.writer.reader()
        }
    }

    /// Opens the file, according to the rules for writers if it is to be stored into; returns whether it was recovered
    /// first.
    fn file(&self, path: &Path, stores: bool, globals: &Globals) -> Result<(Backing, bool)> {
        let access = self.map_as.access(stores);
        let backing = Backing::open(path, access, self.writer.lock_timeout)?;
        self.map_as.for_file(backing.facts())?;
        match backing.facts().kind {
            // New memory, which is writable unless the user says otherwise.
            Kind::Zero => {
                let backing = Backing::open(path, Access::WriteIfAllowed, Duration::ZERO)?;
                let len = wanted_len(&self.place, backing.facts().page)?;
                Ok((backing.with_len(len), false))
            }
            _ if stores && access == Access::Write => self.writer.open_checked(backing, path, access, globals),
            _ => {
                self.reader().check(&backing)?;
                Ok((backing, false))
            }
        }
    }
}

impl RunOnRegion for Options {
    fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        self.bring_in(region, context, true)?;
        self.show(region, context)
    }
}

impl Options {
    /// Whether the options bring pages in, keep them, or give the kernel advice about them.
    fn changes_pages(&self) -> bool {
        self.populate || self.lock.is_some() || !self.advise.is_empty()
    }

    /// Applies advice, populating and locking, in this order; with `stays`, this very mapping is used afterwards.
    fn bring_in(&self, region: &mut Region, context: VerbContext<'_>, stays: bool) -> Result<()> {
        for advice in &self.advise {
            region.advise(*advice).with_context(|| format!("--advise {}", advice.name))?;
        }
        if self.populate {
            let span = region.span();
            let mut progress = Progress::reading(context.globals, "populating", span.len());
            // If nothing uses the mapping's page table afterwards, it is enough to bring the pages into the page cache.
            let is_enough =
                !stays && !self.works_on_table() && region.is_shared_file() && region.shape().prot != Prot::None;
            if !is_enough || !region.prefetch(span, &mut |done| progress.step(done))? {
                region.populate(span, region.populating(), &mut |done| progress.step(done))?;
            }
        }
        match self.lock {
            Some(LockWhen::Now) => region.lock(Lock::Now)?,
            Some(LockWhen::OnFault) => region.lock(Lock::OnFault)?,
            None => {}
        }
        Ok(())
    }

    /// Whether pages must be in the page table, to be locked or to be made huge.
    fn works_on_table(&self) -> bool {
        self.lock.is_some() || !self.advise.is_empty()
    }

    /// Prints the report, once or repeatedly: in place on a terminal, otherwise one after the other.
    fn show(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        let Some(interval) = self.watch else {
            return report::report(region, context)?.print(context.globals);
        };
        let signals = Signals::hold(&[])?;
        loop {
            region.refresh()?;
            unless_cut_short(region, context, Outcome::Untouched)?;
            report::report(region, context)?.print_redrawn(context.globals)?;
            if signals.wait(Some(interval)).is_some() {
                return Ok(());
            }
        }
    }
}
