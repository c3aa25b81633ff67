//! `map`: make a mapping, show how it lives in memory, hold it, run a command beside it.

use super::Job;
use super::options::{Reader, Where, duration, size};
use crate::cli::{self, Globals};
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{
    ADVICE, Access, Advice, Backing, Cell, Facts, Kind, Lock, Populate, Prot, Region, Residency, Shape, Span,
    Visibility, survey,
};
use crate::progress::Progress;
use crate::quantity::human;
use crate::report::{self, Report, plural};
use crate::signals::Signals;
use anyhow::Context;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

// Without a doc comment, which clap would take for the verb's description.
#[derive(Debug, clap::Args)]
#[command(after_long_help = include_str!("../manual/map.examples"))]
pub struct Args {
    /// The file to map; /dev/zero gives anonymous memory
    #[arg(required_unless_present = "anonymous", conflicts_with = "anonymous")]
    file: Option<PathBuf>,
    /// Map anonymous memory, --length bytes of it
    #[arg(long, requires = "length")]
    anonymous: bool,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    reader: Reader,
    /// Keep the mapping until SIGTERM or Ctrl-C, or for a while: --hold=10s
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, value_parser = duration, conflicts_with = "command")]
    hold: Option<Option<Duration>>,
    /// Run this command while the mapping stands, and exit with its code
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

// How to map, whatever is mapped.
#[derive(Debug, clap::Args)]
struct Options {
    /// Stores reach the file and everybody who maps it (the default for files)
    #[arg(long, conflicts_with = "private")]
    shared: bool,
    /// Stores stay in this mapping, as copies of its pages (the default for anonymous memory)
    #[arg(long)]
    private: bool,
    /// Rights of the mapping [default: r for shared files, else rw]
    #[arg(long, value_name = "PROT")]
    prot: Option<Rights>,
    /// Bring in every page now
    #[arg(long)]
    populate: bool,
    /// Lock the pages in memory: now, or each when it is first touched
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "now")]
    lock: Option<LockWhen>,
    /// Take no swap space in advance (MAP_NORESERVE)
    #[arg(long)]
    noreserve: bool,
    /// Advise the kernel, see madvise(2); may be given again
    #[arg(long, value_name = "ADVICE", value_parser = advice())]
    advise: Vec<Advice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rights {
    /// Read
    R,
    /// Read and write
    Rw,
    /// Read and execute
    Rx,
    /// Read, write and execute
    Rwx,
    /// No access: reserved address space
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LockWhen {
    /// All of them, before anything else happens
    Now,
    /// Each page when it is first touched
    OnFault,
}

fn advice() -> impl TypedValueParser<Value = Advice> {
    PossibleValuesParser::new(ADVICE.map(|advice| advice.name)).map(|name| {
        ADVICE
            .into_iter()
            .find(|advice| advice.name == name)
            .unwrap_or(ADVICE[0])
    })
}

/// Cells of the picture.
const CELLS: u64 = 64;

pub(super) fn run(args: &Args, globals: &Globals) -> anyhow::Result<u8> {
    let job = Job {
        globals,
        path: args.file.as_deref(),
        recovered: false,
    };
    let work = || args.run(job);
    match &args.file {
        Some(file) => work().in_file(file),
        None => work().context("anonymous memory"),
    }
}

impl Args {
    fn run(&self, job: Job<'_>) -> anyhow::Result<u8> {
        let (backing, span) = self.backing()?;
        let shape = self.options.shape(backing.facts());
        let mut region = Region::new(backing, span, shape)?;
        // From before the mapping is announced, so that no request to end it is missed.
        let signals = match (&self.hold, self.command.is_empty()) {
            (None, true) => None,
            _ => Some(Signals::hold(&[Signal::SIGCHLD])?),
        };
        self.options.apply(&mut region, job)?;
        if self.command.is_empty() || job.globals.json {
            self.report(&mut region, job)?;
        }
        match (&signals, &self.hold) {
            (Some(signals), Some(limit)) => {
                signals.wait(*limit);
                Ok(Exit::Done as u8)
            }
            (Some(signals), None) => self.run_command(&region, signals, job),
            (None, _) => Ok(Exit::Done as u8),
        }
    }

    fn backing(&self) -> anyhow::Result<(Backing, Span)> {
        let page = crate::mapping::page_size();
        let backing = match &self.file {
            None => Backing::anonymous(self.wanted_len(page)?),
            Some(path) => {
                let backing = Backing::open(path, self.access(), Duration::ZERO)?;
                self.reader.check(&backing)?;
                match backing.facts().kind {
                    // Fresh memory, which is to be stored into unless the user says otherwise.
                    Kind::Zero => {
                        let backing = Backing::open(path, Access::WriteIfAllowed, Duration::ZERO)?;
                        backing.with_len(self.wanted_len(page)?)
                    }
                    _ => backing,
                }
            }
        };
        let facts = backing.facts();
        let span = match facts.kind {
            Kind::Anonymous | Kind::Zero => Span::first(facts.len),
            _ => self.place.to_read(facts)?,
        };
        if span.is_empty() {
            let (message, tip) = match (facts.is_file(), facts.len) {
                (true, 0) => (
                    "it is empty",
                    "'mmapctl remap FILE --size +4K' makes an empty file longer",
                ),
                (true, _) => ("the range is empty", "a mapping has at least one byte"),
                (false, _) => ("a length of 0", "a mapping has at least one page: --length 4K"),
            };

            return Err(Failure::trouble(format!("{message}: there is nothing to map"))
                .tip(tip)
                .into());
        }
        Ok((backing, span))
    }

    /// A shared mapping that stores needs a descriptor that may write; everything else gets by without.
    fn access(&self) -> Access {
        let writes = self.options.prot.is_some_and(|prot| prot.prot().writes());
        if writes && !self.options.private {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// The length of memory that has none of its own.
    fn wanted_len(&self, page: u64) -> anyhow::Result<u64> {
        match self.place.length {
            Some(length) if self.place.offset.is_none() => Ok(length.bytes(page)?),
            _ => {
                let failure = Failure::trouble("how much memory to map is not said");
                Err(failure.tip("add --length 4K, and no --offset or --range").into())
            }
        }
    }

    fn report(&self, region: &mut Region, job: Job<'_>) -> anyhow::Result<()> {
        let (address, mapped) = region.establish()?;
        let facts = region.backing().facts().clone();
        let shape = region.shape();
        let span = region.span();
        let seen = survey(region, CELLS)?;
        let backing = match facts.kind {
            Kind::Regular => "file",
            Kind::BlockDevice => "block device",
            Kind::CharDevice => "character device",
            Kind::Zero => "/dev/zero",
            Kind::Anonymous => "anonymous",
        };
        let visibility = match shape.visibility {
            Visibility::Shared => "shared",
            Visibility::Private => "private",
        };
        let pages = |count: u64| format!("{count} of {}", plural(seen.pages, "page"));
        let resident = match seen.resident {
            Some(count) => format!("{} ({} %)", pages(count), percent(count, seen.pages)),
            None => "unknown: the kernel tells only the owner of a file, or who may write to it".into(),
        };
        let some = |count: Option<u64>| count.filter(|count| *count > 0);
        let mut report = Report::new("map", job.path, false)
            .field("backing", backing)
            .field("visibility", visibility)
            .field("protection", letters(shape.prot))
            .field("address", format!("{address:#x}"))
            .field("offset", span.start())
            .field("length", span.len())
            .field("mapped", mapped)
            .field("page_size", seen.page)
            .field("pages", seen.pages)
            .field("resident", seen.resident)
            .field("dirty", seen.dirty)
            .field("writeback", seen.writeback)
            .field("copied", seen.copied)
            .field("huge_bytes", seen.huge)
            .field("locked", seen.locked)
            .field("hole_bytes", seen.holes)
            .field("pid", std::process::id())
            .line(format!("{}: {span}, {}", job.name(), size(span.len())))
            .fact("mapping", format!("{backing}, {visibility}, {}", letters(shape.prot)))
            .fact(
                "address",
                format!("{address:#x}, {} of {}", plural(seen.pages, "page"), human(seen.page)),
            )
            .fact("resident", resident);
        for (label, count) in [
            ("dirty", seen.dirty),
            ("writeback", seen.writeback),
            ("copied", seen.copied),
            ("locked", Some(seen.locked)),
        ] {
            if let Some(count) = some(count) {
                report = report.fact(label, pages(count));
            }
        }
        for (label, bytes) in [("huge pages", Some(seen.huge)), ("holes", seen.holes)] {
            if let Some(bytes) = some(bytes) {
                report = report.fact(label, size(bytes));
            }
        }
        report = report.line(picture(&seen));
        if self.hold.is_some() {
            let pid = std::process::id();
            report = report.fact("held", format!("by process {pid}, until SIGTERM or Ctrl-C"));
        }
        report.print(job.globals)
    }

    /// Runs the command and waits for it; its exit code, or 128 and the number of the signal that ended it, as a
    /// shell has it.
    fn run_command(&self, region: &Region, signals: &Signals, job: Job<'_>) -> anyhow::Result<u8> {
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .env("MMAPCTL_SIZE", region.span().len().to_string())
            .env("MMAPCTL_PID", std::process::id().to_string())
            .env_remove("MMAPCTL_PATH");
        if let Some(path) = self.file.as_ref().filter(|_| region.backing().facts().is_file()) {
            command.env("MMAPCTL_PATH", std::path::absolute(path).unwrap_or(path.clone()));
        }
        match signals.released(|| command.spawn())? {
            Ok(child) => wait_for(child, signals),
            Err(error) => {
                // The codes that env(1) and the shells give.
                let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
                let name = report::shown(Path::new(&self.command[0]));
                let error = anyhow::Error::from(error).context(format!("cannot run '{name}'"));
                cli::tell(job.globals, "map", &error);
                Ok(code)
            }
        }
    }
}

fn wait_for(mut child: Child, signals: &Signals) -> anyhow::Result<u8> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the command")? {
            let killed = status.signal().map(|signal| 128 + signal);
            return Ok(killed.or(status.code()).unwrap_or(Exit::Trouble as i32) as u8);
        }
        match signals.wait(None) {
            // The terminal sends these to the command as well; it decides.
            Some(Signal::SIGINT | Signal::SIGQUIT | Signal::SIGCHLD) | None => {}
            Some(signal) => {
                // A child that has just ended needs no signal.
                let _ = kill(Pid::from_raw(child.id() as i32), signal);
            }
        }
    }
}

impl Options {
    fn shape(&self, facts: &Facts) -> Shape {
        let anonymous = facts.kind == Kind::Anonymous;
        let private = self.private || (anonymous && !self.shared);
        let default = if facts.is_file() && !private {
            Rights::R
        } else {
            Rights::Rw
        };
        let visibility = if private {
            Visibility::Private
        } else {
            Visibility::Shared
        };
        Shape {
            noreserve: self.noreserve,
            ..Shape::whole(visibility, self.prot.unwrap_or(default).prot())
        }
    }

    fn apply(&self, region: &mut Region, job: Job<'_>) -> anyhow::Result<()> {
        region.establish()?;
        for advice in &self.advise {
            region
                .advise(*advice)
                .with_context(|| format!("--advise {}", advice.name))?;
        }
        if self.populate {
            // As MAP_POPULATE: a private page that can be stored into is copied now.
            let shape = region.shape();
            let how = if shape.prot.writes() && !region.reaches_file() {
                Populate::Write
            } else {
                Populate::Read
            };
            let span = region.span();
            let mut progress = Progress::reading(job.globals, "populating", span.len());
            region.populate(span, how, &mut |done| progress.step(done))?;
        }
        match self.lock {
            Some(LockWhen::Now) => region.lock(Lock::Now)?,
            Some(LockWhen::OnFault) => region.lock(Lock::OnFault)?,
            None => {}
        }
        Ok(())
    }
}

impl Rights {
    fn prot(self) -> Prot {
        match self {
            Rights::R => Prot::Read,
            Rights::Rw => Prot::ReadWrite,
            Rights::Rx => Prot::ReadExec,
            Rights::Rwx => Prot::ReadWriteExec,
            Rights::None => Prot::None,
        }
    }
}

/// As /proc/PID/maps writes them.
fn letters(prot: Prot) -> &'static str {
    match prot {
        Prot::None => "---",
        Prot::Read => "r--",
        Prot::ReadWrite => "rw-",
        Prot::ReadExec => "r-x",
        Prot::ReadWriteExec => "rwx",
    }
}

/// Rounded down, so that 100 means all.
fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole.max(1))) as u64
}

/// The strip of cells, and a legend of those that are in it.
fn picture(seen: &Residency) -> String {
    const MARKS: [(Cell, char, char, &str); 7] = [
        (Cell::Resident, '█', '#', "resident"),
        (Cell::Partly, '▒', '+', "partly"),
        (Cell::Dirty, '◆', 'd', "dirty"),
        (Cell::Copied, '◇', 'c', "copied"),
        (Cell::Absent, '·', '.', "absent"),
        (Cell::Hole, '░', '_', "hole"),
        (Cell::Unknown, '?', '?', "unknown"),
    ];
    let unicode = report::is_utf8();
    let mark = |(_, fancy, plain, _): &(Cell, char, char, &str)| if unicode { *fancy } else { *plain };
    let strip = seen.cells.iter().map(|cell| {
        let found = MARKS.iter().find(|entry| entry.0 == *cell);
        found.map_or('?', mark)
    });
    let strip: String = strip.collect();
    let present = MARKS.iter().filter(|entry| seen.cells.contains(&entry.0));
    let legend = present.map(|entry| format!("{} {}", mark(entry), entry.3));
    let legend = legend.collect::<Vec<_>>().join("  ");
    format!("  [{strip}]\n  {legend}")
}
