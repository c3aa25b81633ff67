//! `map -c`: several verbs on one region, one after the other, which share nothing but the region.

use super::child::ChildEnv;
use crate::cmd::options::{unless_cut_short, unless_refused};
use crate::cmd::{SessionVerb, Verb, VerbContext};
use crate::edit::{
    Error, ErrorContext, LONGEST_TEXT, Outcome, Result, stdin_used_twice, take_stdin, unless_half_patched,
    waits_for_recovery,
};
use crate::error::{Exit, report_command, report_error};
use crate::mapping::{self, Region};
use crate::output::{self, Globals};
use crate::signals;
use crate::text;
use crate::usage;

use clap::{Args, FromArgMatches, Subcommand};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How many children may be nested: each takes a process, and stack.
const FORKS: usize = 16;

// The verbs of a session, as the user wrote them.
#[derive(Debug, Args)]
pub(crate) struct Script {
    /// Run a verb, without FILE, on this mapping; also 'fork VERB', '! SHELL COMMAND', or - to read verbs from stdin, one on each line. May be repeated
    #[arg(
        help_heading = "Session",
        short = 'c',
        value_name = "VERB",
        allow_hyphen_values = true
    )]
    lines: Vec<OsString>,
    /// Then run the verbs in this file, one on each line
    #[arg(help_heading = "Session", long, value_name = "PATH")]
    script: Option<PathBuf>,
    /// Continue after a verb that failed; the session ends with the exit code of the first failure
    #[arg(help_heading = "Session", long)]
    keep_going: bool,
}

/// The verbs of a session, parsed.
#[derive(Debug)]
pub(crate) struct Session {
    parts: Vec<ScriptPart>,
    keep_going: bool,
    reader: LineReader,
}

#[derive(Debug)]
enum ScriptPart {
    /// Verbs that are parsed in advance, so that a mistake in the last line is reported before the first is run.
    Steps(Vec<SessionStep>),
    /// Lines that are run as they arrive.
    Stdin,
}

/// A line.
#[derive(Debug)]
struct SessionStep {
    /// Where it was written: the beginning of messages about it.
    origin: String,
    globals: Globals,
    what: What,
}

#[derive(Debug)]
enum What {
    Verb(SessionVerb),
    /// A shell command.
    Shell(OsString),
    /// Any of these in a child process.
    Fork(Box<What>),
}

impl Script {
    /// Whether there is no verb.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.script.is_none()
    }

    /// The file that contains verbs.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.script.as_deref()
    }

    /// Parses all verbs except those on stdin.
    ///
    /// # Errors
    /// If a line is not a verb, or has options that the verb does not have.
    pub(crate) fn read(&self, globals: &Globals) -> Result<Session> {
        let mut reader = LineReader::new(globals);
        let mut parts = Vec::new();
        let mut steps = Vec::new();
        let mut stdin_uses = self.lines.iter().filter(|line| *line == "-").count();
        let mut once = |step: Option<SessionStep>| {
            stdin_uses += step.as_ref().map_or(0, |step| step.what.stdin_uses());
            if stdin_uses > 1 {
                Err(stdin_used_twice())
            } else {
                Ok(step)
            }
        };
        for (number, line) in (1..).zip(&self.lines) {
            if line == "-" {
                take_stdin()?;
                parts.push(ScriptPart::Steps(std::mem::take(&mut steps)));
                parts.push(ScriptPart::Stdin);
                continue;
            }
            let origin = format!("-c {number}");
            let step = reader.read(line, &origin).and_then(&mut once).context(origin)?;
            steps.extend(step);
        }
        if let Some(path) = &self.script {
            let failed = || Error::untouched("cannot read it").tip("-c - reads the verbs from stdin");
            let mut text = Vec::new();
            let file = File::open(path).map_failure(failed).with_path(path)?;
            unless_half_patched(&file, path).with_path(path)?;
            let read = file.take(LONGEST_TEXT + 1).read_to_end(&mut text);
            read.map_failure(failed).with_path(path)?;
            if text.len() as u64 > LONGEST_TEXT {
                let failure = Error::untouched("it has more than 64 MiB of verbs");
                return Err(failure.tip("-c - reads them from stdin, and runs each when it arrives")).with_path(path);
            }
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
                let origin = format!("{}: line {number}", text::shown(path));
                let step = reader.read(OsStr::from_bytes(line), &origin).and_then(&mut once);
                steps.extend(step.context(origin)?);
            }
        }
        parts.push(ScriptPart::Steps(steps));
        Ok(Session {
            parts,
            keep_going: self.keep_going,
            reader,
        })
    }
}

impl Session {
    /// Whether some verb needs a writable mapping. For verbs on stdin this is unknown, so it is assumed.
    pub(crate) fn stores(&self) -> bool {
        self.parts.iter().any(|part| match part {
            ScriptPart::Steps(steps) => steps.iter().any(|step| step.what.stores()),
            ScriptPart::Stdin => true,
        })
    }

    /// Runs the verbs in order until one fails; returns the exit code of the first failure, or 0. The failure has been
    /// reported by then.
    ///
    /// # Errors
    /// If stdin cannot be read, or if stdout has no reader any more.
    pub(crate) fn run(&mut self, region: &mut Region, context: VerbContext<'_>) -> Result<u8> {
        let mut first = 0;
        let parts = std::mem::take(&mut self.parts);
        let from_stdin = parts.iter().any(|part| matches!(part, ScriptPart::Stdin));
        let surroundings = Surroundings { context, from_stdin };
        for part in &parts {
            match part {
                ScriptPart::Steps(steps) => {
                    for step in steps {
                        let code = step.run(region, surroundings)?;
                        first = if first == 0 { code } else { first };
                        if first != 0 && !self.keep_going {
                            return Ok(first);
                        }
                    }
                }
                ScriptPart::Stdin => {
                    let mut stdin = std::io::stdin().lock();
                    for number in 1.. {
                        let Some(line) = next_line(&mut stdin)? else { break };
                        let origin = format!("stdin: line {number}");
                        let code = match self.reader.read(OsStr::from_bytes(&line), &origin) {
                            Ok(None) => 0,
                            Ok(Some(step)) => step.run(region, surroundings)?,
                            Err(error) => report(error, &origin, "map", context),
                        };
                        first = if first == 0 { code } else { first };
                        if first != 0 && !self.keep_going {
                            return Ok(first);
                        }
                    }
                }
            }
        }
        Ok(first)
    }
}

/// The context of a step besides the region.
#[derive(Debug, Clone, Copy)]
struct Surroundings<'a> {
    context: VerbContext<'a>,
    /// Whether the verbs come from stdin, which a command must not consume.
    from_stdin: bool,
}

impl SessionStep {
    /// Runs the step, reports its error, and returns its exit code. A verb that stores blocks signals until the process
    /// ends, so that the exit code of a single verb is correct; in a session, they are unblocked once the step has been
    /// reported.
    fn run(&self, region: &mut Region, surroundings: Surroundings<'_>) -> Result<u8> {
        signals::let_through_after(|| self.run_and_tell(region, surroundings))
    }

    fn run_and_tell(&self, region: &mut Region, surroundings: Surroundings<'_>) -> Result<u8> {
        let context = VerbContext {
            globals: &self.globals,
            ..surroundings.context
        };
        crate::memory::end_change();
        mapping::trace(self.globals.verbose);
        let result = self.what.run(
            region,
            Surroundings {
                context,
                ..surroundings
            },
            &self.origin,
        );
        mapping::trace(surroundings.context.globals.verbose);
        match result {
            Ok(code) => Ok(code),
            Err(error) if error.is_reader_gone() => Err(error),
            Err(error) => Ok(report(error, &self.origin, self.what.name(), context)),
        }
    }
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            What::Verb(verb) => verb.name(),
            What::Shell(_) => "map",
            What::Fork(what) => what.name(),
        }
    }

    fn stdin_uses(&self) -> usize {
        match self {
            What::Verb(verb) => verb.stdin_uses(),
            What::Shell(_) => 0,
            What::Fork(what) => what.stdin_uses(),
        }
    }

    fn stores(&self) -> bool {
        match self {
            What::Verb(verb) => verb.stores(),
            What::Shell(_) => false,
            What::Fork(what) => what.stores(),
        }
    }

    fn run(&self, region: &mut Region, surroundings: Surroundings<'_>, origin: &str) -> Result<u8> {
        let context = surroundings.context;
        match self {
            What::Verb(verb) => {
                // Taking the lock back after an earlier command may have failed.
                if verb.stores() && !region.backing().holds_lock() {
                    region.take_lock_back()?;
                }
                // From now on, changes of the file by other verbs, commands and processes are known.
                region.refresh()?;
                if verb.stores()
                    && region.is_shared_file()
                    && context.path.is_some_and(|path| !region.backing().is_at(path))
                {
                    let failure =
                        Error::untouched("nothing was written: the mapped file is no longer the one at this path");
                    return Err(
                        failure.tip("it was replaced or deleted; start a new session for the file that is there now")
                    );
                }
                if verb.stores() && region.is_shared_file() {
                    region.refresh_rights()?;
                    unless_refused(region.backing(), context.force)?;
                }
                if let SessionVerb::Sync(_) = verb {
                    verb.apply(region, context)?;
                    // What is durable now is half a patch.
                    unless_cut_short(region, context, Outcome::InDoubt)?;
                } else {
                    unless_cut_short(region, context, Outcome::Untouched)?;
                    verb.apply(region, context)?;
                }
                Ok(Exit::Done as u8)
            }
            What::Shell(line) => {
                // The command may be a writer, too, and would wait for the lock of this process.
                let lent = region.lend_lock()?;
                let ended = ChildEnv::of(region, context.path)
                    .shell(line, surroundings.from_stdin)
                    .and_then(|child| child.wait());
                let code = self.end_child(ended, lent, region, context, origin)?;
                if code != 0 {
                    let line = text::shown(Path::new(line));
                    let failure = Error::untouched(format!("'! {line}' ended with {code}"));
                    report_command(context.globals, &of_line(failure, origin, context), code);
                }
                Ok(code)
            }
            What::Fork(what) => {
                if what.stores() {
                    region.backing().mark_written();
                }
                let held = region.backing().holds_lock();
                let child = || {
                    region.look_after_fork();
                    match what.run(region, surroundings, origin) {
                        Ok(code) => code,
                        // The parent notices the missing reader itself.
                        Err(error) if error.is_reader_gone() => 0,
                        Err(error) => report(error, origin, what.name(), context),
                    }
                };
                let ended = mapping::in_child(child).map_err(Error::from);
                self.end_child(ended, held, region, context, origin)
            }
        }
    }

    /// Takes the lock back that this process had before a child, and which a child shares and may release. A journal is
    /// the child's: there was none before. If both the child and this failed, the exit code is the child's.
    fn end_child(
        &self,
        ended: Result<u8>,
        held: bool,
        region: &mut Region,
        context: VerbContext<'_>,
        origin: &str,
    ) -> Result<u8> {
        if !held {
            return ended;
        }
        let back = region.take_lock_back().map_err(Error::from);
        let back = back.and_then(|()| match waits_for_recovery(region.backing(), context.journal)? {
            Some(place) if place.is_done() => Ok(()),
            _ => unless_cut_short(region, context, Outcome::InDoubt),
        });
        // What a verb has stored in the child stays, whatever this process can no longer tell.
        let stored = matches!(ended, Ok(0)) && self.stores();
        match back {
            Err(error) if error.outcome() == Outcome::InDoubt => Err(error),
            Err(error) => match ended {
                Ok(code) if code != 0 => {
                    report(error, origin, self.name(), context);
                    Ok(code)
                }
                _ if stored => Err(error.within(Error::changed("the child may have changed the file"))),
                _ => Err(error),
            },
            Ok(()) => ended,
        }
    }
}

/// The next line of the verbs on stdin, if there is one.
fn next_line(stdin: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = stdin.take(LONGEST_TEXT + 1).read_until(b'\n', &mut line);
    match read.context("cannot read stdin")? as u64 {
        0 => Ok(None),
        read if read > LONGEST_TEXT => Err(Error::untouched("a line on stdin is longer than 64 MiB")),
        _ => Ok(Some(line)),
    }
}

/// Reports the error of the line at `origin`; returns its exit code.
fn report(error: Error, origin: &str, verb: &str, context: VerbContext<'_>) -> u8 {
    report_error(context.globals, verb, &of_line(error, origin, context)) as u8
}

/// Adds to an error the line and the file of the session.
fn of_line(error: Error, origin: &str, context: VerbContext<'_>) -> Error {
    let error = error.context(origin);
    match context.path {
        Some(path) => error.after_recovery(context.recovered).with_path(path),
        None => error.context(context.memory),
    }
}

/// Parses lines; the definition of the verbs is made once for all of them.
#[derive(Debug)]
struct LineReader {
    verbs: clap::Command,
    globals: Globals,
}

impl LineReader {
    fn new(globals: &Globals) -> LineReader {
        let verbs = clap::Command::new("map -c")
            .no_binary_name(true)
            .subcommand_required(true)
            .disable_help_subcommand(true);
        LineReader {
            verbs: Globals::augment_args(SessionVerb::augment_subcommands(verbs)),
            globals: globals.clone(),
        }
    }

    /// Parses a line; returns `None` if it is empty, a comment, or a request for help, which has been printed.
    fn read(&mut self, line: &OsStr, origin: &str) -> Result<Option<SessionStep>> {
        let line = line.as_bytes().trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(None);
        }
        let step = |what, globals| SessionStep {
            origin: origin.to_string(),
            globals,
            what,
        };
        if let Some(rest) = line.strip_prefix(b"!") {
            let command = OsStr::from_bytes(rest.trim_ascii()).to_os_string();
            if command.is_empty() {
                let failure = Error::untouched("'!' is not followed by a command");
                return Err(failure.tip("write ! COMMAND, such as ! cmp FILE OTHER"));
            }
            return Ok(Some(step(What::Shell(command), self.globals.clone())));
        }
        if let Some(rest) =
            line.strip_prefix(b"fork").filter(|rest| rest.first().is_none_or(|byte| b" \t!".contains(byte)))
        {
            let within = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            if within.take_while(|word| *word == b"fork").count() >= FORKS {
                let failure = Error::untouched(format!("more than {FORKS} nested 'fork' verbs"));
                return Err(failure.tip("leave some of them out"));
            }
            let Some(inner) = self.read(OsStr::from_bytes(rest), origin)? else {
                let failure = Error::untouched("'fork' is not followed by a verb");
                return Err(failure.tip("write fork VERB, such as fork patch -o 0 text:child"));
            };
            return Ok(Some(step(What::Fork(Box::new(inner.what)), inner.globals)));
        }
        let line = std::str::from_utf8(line).map_err(anyhow::Error::new).context("the line is not UTF-8")?;
        let words = shell_words::split(line).map_err(anyhow::Error::new).map_failure(|| {
            Error::untouched("a quote is not closed").tip("quotes are those of the shell: 'text:a b'")
        })?;
        // Argument 0 is skipped, because it would be the program's name.
        let words = std::iter::once(OsString::new()).chain(words.into_iter().map(OsString::from));
        let words = crate::number::join_negative_values(words).split_off(1);
        let read = self.verbs.try_get_matches_from_mut(&words).and_then(|matches| {
            let verb = SessionVerb::from_arg_matches(&matches)?;
            Ok((verb, Globals::from_arg_matches(&matches)?))
        });
        match read {
            Ok((verb, globals)) => {
                verb.check_options()?;
                Ok(Some(step(What::Verb(verb), self.globals.with(&globals))))
            }
            Err(error) if !error.use_stderr() => {
                output::out(error.render().to_string().as_bytes())?;
                Ok(None)
            }
            Err(error) => Err(usage::complaint(&words, Verb::NAMES, &error)),
        }
    }
}
