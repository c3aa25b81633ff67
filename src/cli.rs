//! The command line: global flags, parsing, and reporting errors at the very end.

use crate::cmd::Verb;
use crate::error::{Diagnostic, Exit, report_error, report_in_json};
use crate::mapping;
use crate::number;
use crate::output::{Globals, When, write_stderr};
use crate::report;
use crate::signals;
use crate::text::describe;
use crate::usage::{CommandLine, first_paragraph, refusal_of};
use clap::{CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::io::IsTerminal;

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

/// The definition of the command line, from which help, man pages and completions are generated.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs a command line, which begins with the program's name; returns the process's exit code.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> u8 {
    signals::begin();
    let argv = number::join_negative_values(argv);
    report_in_json(argv.iter().any(|arg| arg == "--json"));
    if let Some((message, tip)) = CommandLine::new(&argv, Verb::NAMES, false).detached_value() {
        return refuse(&argv, &Diagnostic::usage(message, Some(tip))) as u8;
    }
    let cli = match parse(&argv) {
        Ok(cli) => cli,
        Err(error) => return usage(&argv, &error) as u8,
    };
    mapping::trace_to(|line| write_stderr(&format!("{line}\n")));
    mapping::trace(cli.globals.verbose);
    let code = match cli.verb.run(&cli.globals) {
        Ok(code) => code,
        Err(error) if error.is_reader_gone() => Exit::Done as u8,
        Err(error) => report_error(&cli.globals, cli.verb.name(), &error) as u8,
    };
    match report::close_stdout() {
        Err(error) if code == Exit::Done as u8 => report_error(&cli.globals, cli.verb.name(), &error) as u8,
        _ => code,
    }
}

fn parse(argv: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(argv)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Prints clap's messages: help and the version on stdout, errors in mmapctl's own form where that is more helpful.
fn usage(argv: &[OsString], error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        let lost = match error.print() {
            // The standard library treats a write to a closed stdout as successful.
            Ok(()) => {
                let stdout = std::io::stdout();
                let closed = || nix::unistd::close(nix::libc::STDOUT_FILENO);
                nix::unistd::write(&stdout, b"").and_then(|_| closed()).err().map(Into::into)
            }
            // In `mmapctl --help | head -1`, the reader has seen enough.
            Err(error) => Some(error).filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe),
        };
        let Some(lost) = lost else { return Exit::Done };
        let diagnostic = Diagnostic::usage(format!("cannot write to stdout: {}", describe(&lost)), None);
        write_stderr(&diagnostic.text(false));
        return Exit::Failed;
    }
    let typed = CommandLine::new(argv, Verb::NAMES, false);
    let diagnostic = match refusal_of(error, &typed) {
        Some((message, tip)) => Diagnostic::usage(message, tip),
        // clap prints the typed words without escaping them.
        None if is_json(argv) || argv.iter().any(|arg| arg.to_string_lossy().contains(char::is_control)) => {
            Diagnostic::usage(first_paragraph(error), Some("see 'mmapctl --help'".into()))
        }
        None => {
            // If stderr cannot be written, nothing more can be done.
            let _ = error.print();
            return Exit::Failed;
        }
    };
    refuse(argv, &diagnostic)
}

fn is_json(argv: &[OsString]) -> bool {
    argv.iter().any(|arg| arg == "--json")
}

/// Reports an error on a command line that could not be parsed, in the form that it asks for.
fn refuse(argv: &[OsString], diagnostic: &Diagnostic) -> Exit {
    if is_json(argv) {
        write_stderr(&diagnostic.json(CommandLine::new(argv, Verb::NAMES, false).verb(), None));
    } else {
        write_stderr(&diagnostic.text(std::io::stderr().is_terminal() && When::Auto.color(&std::io::stderr())));
    }
    Exit::Failed
}
