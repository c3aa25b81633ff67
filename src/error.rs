//! Exit codes, and how an error is printed: as text or JSON, with a tip that says what to type.

mod tips;

use crate::edit::{Error, Mismatch, Outcome, RootCause, SourceLocation};
use crate::json::{Object, insert_path};
use crate::mapping::{ByteRange, ErrorKind};
use crate::memory;
use crate::output::{Globals, write_stderr};
use crate::signals;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code, which above all says whether the file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, as durable as requested.
    Done = 0,
    /// Expected bytes differ. The file is untouched.
    Mismatch = 1,
    /// A usage error or a failure. The file is untouched, or was restored.
    Failed = 2,
    /// Changed, but not proven durable, or the report could not be written.
    NotDurable = 3,
    /// In doubt: a change could not be undone. The message says what to run.
    InDoubt = 4,
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Exit {
        match outcome {
            Outcome::Mismatch => Exit::Mismatch,
            Outcome::Untouched | Outcome::RolledBack => Exit::Failed,
            Outcome::Changed => Exit::NotDurable,
            Outcome::InDoubt => Exit::InDoubt,
        }
    }
}

/// An error as it is reported to the user.
#[derive(Debug)]
pub struct Diagnostic {
    exit: Exit,
    /// The signal by which the process ends, in place of an exit code, once this is printed.
    signal: Option<i32>,
    message: String,
    tip: Option<String>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    recovered: bool,
    mismatches: Option<Vec<Value>>,
}

impl Diagnostic {
    /// Makes the message, the tip and the exit code for `error`.
    pub fn of(error: &Error) -> Diagnostic {
        let exit = error.outcome().into();
        let (root_path, path) = error.paths();
        let (tip, tip_path) = error.tip_given();
        let about = match error.core().map(|core| &core.cause) {
            // The edit may be in a script, but the end that it exceeds is that of the verb's file.
            Some(ErrorKind::PastEnd { .. }) => path,
            _ => root_path,
        };
        let of_root = || match error.root() {
            RootCause::Core(core) => tips::of(&core.cause, about),
            // For other errors, the layer that reads the file adds the tip.
            RootCause::Io(io) if io.kind() == std::io::ErrorKind::IsADirectory => about.map(tips::in_folder),
            _ => None,
        };
        let mismatches = error.found_mismatches();
        let span = error.core().and_then(|core| core.span);
        Diagnostic {
            exit,
            // A file left in doubt has an exit code of its own, which ending by a signal would hide.
            signal: error.signal().filter(|_| exit <= Exit::Failed),
            message: error.to_string(),
            tip: tip.map(|tip| tips::with_file(tip, tip_path)).or_else(of_root),
            path: path.map(PathBuf::from),
            offset: mismatches.first().map(|one| one.offset).or(span.map(ByteRange::start)),
            recovered: error.is_after_recovery(),
            mismatches: (!mismatches.is_empty()).then(|| mismatches.iter().map(mismatch).collect()),
        }
    }

    /// An error on the command line.
    pub fn usage(message: String, tip: Option<String>) -> Diagnostic {
        let error = Error::untouched(message).tip(tip.unwrap_or_default());
        Diagnostic::of(&error)
    }

    /// The error as text, on two lines.
    pub fn text(&self, color: bool) -> String {
        let (red, green, plain) = if color {
            ("\x1b[1m\x1b[31m", "\x1b[32m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut text = format!("{red}error:{plain} {}\n", harmless(&self.message));
        if let Some(tip) = &self.tip {
            text += &format!("  {green}tip:{plain} {}\n", harmless(tip));
        }
        text
    }

    /// The error as one JSON object on a line. `code` is the exit code if it is that of a command that mmapctl ran.
    pub fn json(&self, verb: Option<&str>, code: Option<u8>) -> String {
        let mut object = Object::default();
        object.insert("schema", json!(1));
        object.insert("verb", json!(verb));
        if let Some(path) = &self.path {
            insert_path(&mut object, path);
        }
        object.insert("error", json!(self.message));
        object.insert("tip", json!(self.tip));
        object.insert("offset", json!(self.offset));
        object.insert("recovered", json!(self.recovered));
        object.insert("exit", json!(code.unwrap_or(self.exit as u8)));
        if let Some(mismatches) = &self.mismatches {
            object.insert("mismatches", json!(mismatches));
        }
        format!("{object}\n")
    }
}

fn mismatch(one: &Mismatch) -> Value {
    let (edit, line) = match one.origin {
        SourceLocation::Arguments => (None, None),
        SourceLocation::Option(number) => (Some(number), None),
        SourceLocation::Line(number) => (None, Some(number)),
    };
    json!({
        "offset": one.offset,
        "found": const_hex::encode(&one.found),
        "expected": const_hex::encode(&one.expected),
        "edit": edit,
        "line": line,
    })
}

/// Reports an error in the form that `globals` ask for, and returns its exit code; or ends the process by the signal
/// that caused it.
pub fn report_error(globals: &Globals, verb: &str, error: &Error) -> Exit {
    report_with_code(globals, verb, error, None)
}

/// Reports that a command ended with this code or could not be started, like [`report_error`].
pub fn report_command(globals: &Globals, error: &Error, code: u8) {
    report_with_code(globals, "map", error, Some(code));
}

fn report_with_code(globals: &Globals, verb: &str, error: &Error, code: Option<u8>) -> Exit {
    let diagnostic = Diagnostic::of(error);
    if globals.json {
        write_stderr(&diagnostic.json(Some(verb), code));
    } else {
        write_stderr(&diagnostic.text(globals.color().color(&std::io::stderr())));
    }
    if let Some(signal) = diagnostic.signal {
        signals::die_of(signal);
    }
    diagnostic.exit
}

static JSON: AtomicBool = AtomicBool::new(false);

/// Notes that errors are to be reported in JSON, for [`out_of_memory`], which has no access to the arguments.
pub fn report_in_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// The message for an allocation of `size` bytes that the system refused.
pub fn out_of_memory(size: usize) -> String {
    let (why, tip) = memory::explain(size);
    let diagnostic = Diagnostic::usage(format!("out of memory: {why}"), Some(tip.into()));
    match JSON.load(Ordering::Relaxed) {
        true => diagnostic.json(None, None),
        false => diagnostic.text(false),
    }
}

/// Escapes control characters, which could control a terminal: the text may quote a script from any source.
fn harmless(text: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_control() && c != '\n' => c.escape_debug().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::{ErrorContext, Result};
    use crate::mapping;
    use nix::errno::Errno;
    use std::path::Path;

    fn diagnostic(error: impl Into<Error>) -> Diagnostic {
        Diagnostic::of(&error.into())
    }

    #[test]
    fn an_error_without_an_outcome_is_2() {
        assert_eq!(diagnostic(Error::untouched("x")).exit, Exit::Failed);
        assert_eq!(diagnostic(mapping::Error::sys("store", None, Errno::EIO)).exit, Exit::Failed);
    }

    #[test]
    fn a_mismatch_is_1_and_keeps_its_tip_behind_the_file_name() {
        let error = Error::new(Outcome::Mismatch, "bytes differ").tip("look");
        let diagnostic = diagnostic(error.with_path(Path::new("a b")));
        assert_eq!(diagnostic.exit, Exit::Mismatch);
        assert_eq!(diagnostic.text(false), "error: a b: bytes differ\n  tip: look\n");
        assert!(
            diagnostic
                .json(Some("patch"), None)
                .contains(r#""file":"a b","error":"a b: bytes differ","tip":"look""#)
        );
    }

    #[test]
    fn a_failure_to_undo_outranks_what_went_wrong_first() {
        let core = mapping::Error::sys("store", ByteRange::new(64, 68), Errno::EIO);
        let result: Result<()> = Err(core).map_failure(|| Error::in_doubt("could not be put back"));
        let diagnostic = Diagnostic::of(&result.unwrap_err());
        assert_eq!(diagnostic.exit, Exit::InDoubt);
        assert_eq!(diagnostic.offset, Some(64));
        assert_eq!(diagnostic.message, "could not be put back: cannot store 0x40..0x44: I/O error (EIO)");
    }

    #[test]
    fn a_tip_is_about_the_file_named_next() {
        let error = Error::untouched("x").tip(format!("see {}", crate::text::FILE));
        let error = error.with_path(Path::new("script")).with_path(Path::new("target"));
        assert_eq!(diagnostic(error).tip.as_deref(), Some("see script"));
        let past = mapping::Error::new("read", None, ErrorKind::PastEnd { len: 1 });
        let error = Error::from(past).with_path(Path::new("script")).with_path(Path::new("target"));
        assert!(diagnostic(error).tip.unwrap().contains("'stat target'"));
    }

    #[test]
    fn an_interruption_ends_in_its_signal_unless_the_file_is_in_doubt() {
        let stop = || mapping::Error::new("store", None, ErrorKind::Interrupted(2));
        assert_eq!(diagnostic(stop()).signal, Some(2));
        let doubt = Error::from(stop()).within(Error::in_doubt("half"));
        assert_eq!(diagnostic(doubt).signal, None);
    }
}
