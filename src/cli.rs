//! The command line: global flags, parsing, and what happens to an error at the very end.

mod usage;
mod words;

use crate::cmd::Verb;
use crate::exit::{Exit, Failure, Told};
use crate::{mapping, memory, quantity, report, signals};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use std::error::Error as _;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::mem::ManuallyDrop;
use usage::Typed;

/// See, edit, sync, zero and rearrange bytes in place, through memory mappings.
#[derive(Debug, Parser)]
#[command(name = "mmapctl", version, max_term_width = 100)]
#[command(after_help = "Every verb has a manual page of its own: 'man mmapctl-patch', or 'mmapctl patch --help'.")]
#[command(after_long_help = include_str!("manual/mmapctl.examples"))]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags that every verb takes, before or behind its name.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Report, and errors, as one JSON object each
    #[arg(help_heading = "Global options", long, global = true)]
    pub json: bool,
    /// No report and no progress bar
    #[arg(help_heading = "Global options", short, long, global = true)]
    pub quiet: bool,
    /// Show each mapping system call on stderr as it is made, the way strace writes it
    #[arg(help_heading = "Global options", short, long, global = true)]
    pub verbose: bool,
    /// Colour the output
    #[arg(help_heading = "Global options", long, global = true, value_name = "WHEN")]
    color: Option<When>,
    /// Show progress bars
    #[arg(help_heading = "Global options", long, global = true, value_name = "WHEN")]
    progress: Option<When>,
}

/// A choice that `auto` leaves to where the output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where the output is a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Globals {
    /// Whether stdout, or stderr, is to have colour.
    pub fn color(&self) -> When {
        self.color.unwrap_or(When::Auto)
    }

    /// Whether there are to be progress bars.
    pub fn progress(&self) -> When {
        self.progress.unwrap_or(When::Auto)
    }

    /// These flags, with what `more` asks for beside them.
    pub fn with(&self, more: &Globals) -> Globals {
        Globals {
            json: self.json || more.json,
            quiet: self.quiet || more.quiet,
            verbose: self.verbose || more.verbose,
            color: more.color.or(self.color),
            progress: more.progress.or(self.progress),
        }
    }
}

impl When {
    /// Whether a stream gets colour: NO_COLOR, CLICOLOR_FORCE and TERM=dumb are heard for `auto`.
    pub fn color(self, stream: &impl anstream::stream::RawStream) -> bool {
        match self {
            When::Always => true,
            When::Never => false,
            When::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
        }
    }
}

/// The definition of the command line, from which help, man pages and completions are made.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs a command line, the program's name first; the result is the process's exit code.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> u8 {
    signals::begin();
    let argv = quantity::join_negative_values(argv);
    memory::report_in_json(argv.iter().any(|arg| arg == "--json"));
    if let Some((message, tip)) = Typed::new(&argv, false).detached_value() {
        return refuse(&argv, &Told::usage(message, Some(tip))) as u8;
    }
    let cli = match parse(&argv) {
        Ok(cli) => cli,
        Err(error) => return usage(&argv, &error) as u8,
    };
    mapping::trace_to(|line| say(&format!("{line}\n")));
    mapping::trace(cli.globals.verbose);
    let code = match cli.verb.run(&cli.globals) {
        Ok(code) => code,
        Err(error) if error.chain().any(|layer| layer.is::<report::ReaderGone>()) => Exit::Done as u8,
        Err(error) => tell(&cli.globals, cli.verb.name(), &error) as u8,
    };
    match report::close_stdout() {
        Err(error) if code == Exit::Done as u8 => tell(&cli.globals, cli.verb.name(), &error) as u8,
        _ => code,
    }
}

fn parse(argv: &[OsString]) -> Result<Cli, clap::Error> {
    // Not dropped: to free what clap has built, piece by piece, is a tenth of a short command's instructions, and it is
    // freed all at once with the process.
    let mut command = ManuallyDrop::new(command());
    let mut matches = ManuallyDrop::new(command.try_get_matches_from_mut(argv)?);
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Prints an error as the globals want it and gives its exit code, or ends by the signal that it came from.
pub fn tell(globals: &Globals, verb: &str, error: &anyhow::Error) -> Exit {
    let told = Told::of(error);
    if globals.json {
        say(&told.json(Some(verb)));
    } else {
        say(&told.text(globals.color().color(&std::io::stderr())));
    }
    if let Some(signal) = told.signal {
        signals::die_of(signal);
    }
    told.exit
}

/// What clap has to say: help and the version on stdout, mistakes in our own form where we know better.
fn usage(argv: &[OsString], error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        let lost = match error.print() {
            // What is written to a closed stdout, the standard library takes for written.
            Ok(()) => {
                let stdout = std::io::stdout();
                let closed = || nix::unistd::close(nix::libc::STDOUT_FILENO);
                nix::unistd::write(&stdout, b"")
                    .and_then(|_| closed())
                    .err()
                    .map(Into::into)
            }
            // `mmapctl --help | head -1` is a reader that has seen enough.
            Err(error) => Some(error).filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe),
        };
        let Some(lost) = lost else { return Exit::Done };
        let told = Told::usage(format!("cannot write to stdout: {}", report::describe(&lost)), None);
        say(&told.text(false));
        return Exit::Trouble;
    }
    let typed = Typed::new(argv, false);
    let told = match refusal_of(error, &typed) {
        Some((message, tip)) => Told::usage(message, tip),
        None if is_json(argv) => Told::usage(first_paragraph(error), Some("see 'mmapctl --help'".into())),
        None => {
            // Nothing is left to do about a stderr that cannot be written.
            let _ = error.print();
            return Exit::Trouble;
        }
    };
    refuse(argv, &told)
}

fn is_json(argv: &[OsString]) -> bool {
    argv.iter().any(|arg| arg == "--json")
}

/// Reports a mistake on a command line that was not understood, in the form that it asks for.
fn refuse(argv: &[OsString], told: &Told) -> Exit {
    if is_json(argv) {
        say(&told.json(Typed::new(argv, false).verb()));
    } else {
        say(&told.text(std::io::stderr().is_terminal() && When::Auto.color(&std::io::stderr())));
    }
    Exit::Trouble
}

/// A mistake in a line of a session, split into `words`, as an error like any other.
pub(crate) fn complaint(words: &[OsString], error: &clap::Error) -> Failure {
    let typed = Typed::new(words, true);
    if let Some((message, tip)) = typed.detached_value() {
        return Failure::trouble(message).tip(tip);
    }
    let (message, tip) = refusal_of(error, &typed).unwrap_or_else(|| {
        let tip = "verbs are written as for mmapctl itself, without FILE; see 'mmapctl --help'";
        (first_paragraph(error), Some(tip.into()))
    });
    match tip {
        Some(tip) => Failure::trouble(message).tip(tip),
        None => Failure::trouble(message),
    }
}

/// What our own readers of numbers and values have said, or what is said of words that clap does not know; and the tip.
fn refusal_of(error: &clap::Error, typed: &Typed) -> Option<(String, Option<String>)> {
    if let Some(tip) = typed.explain(error) {
        return Some((first_paragraph(error), Some(tip)));
    }
    let refusal = error.source()?.downcast_ref::<quantity::Refusal>()?;
    let message = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => {
            // "--offset <OFFSET>" and "[VALUE]..." as one types them.
            let name = option.split([' ', '=']).next().unwrap_or(option);
            format!("{}: {}", name.trim_matches(['[', ']', '.']), refusal.message)
        }
        _ => refusal.message.clone(),
    };
    let instead = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => typed.instead_of(value),
        _ => None,
    };
    // What makes a value of something else is no help.
    let tip = instead.unwrap_or_else(|| refusal.tip.clone());
    Some((message, Some(tip).filter(|tip| !tip.is_empty())))
}

fn first_paragraph(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no verb given".into();
    }
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let paragraph = lines.collect::<Vec<_>>().join(" ");
    paragraph.trim_start_matches("error: ").to_string()
}

/// Diagnostics go to stderr; there is nobody to tell when that fails.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
