//! Exit codes, and how an error becomes one: what is printed for it, and the tip that says what to type.

mod tip;

use crate::json::{Object, insert_path};
use crate::mapping::{self, Cause, Interrupted};
use crate::memory;
use crate::output::{Globals, say};
use crate::quantity;
use crate::signals;
use crate::text::{describe, shown};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the exit code says: above all, whether the file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, as durable as asked.
    Done = 0,
    /// The answer is no: expected bytes differ. The file is untouched.
    No = 1,
    /// Usage or trouble. The file is untouched, or put back as it was.
    Trouble = 2,
    /// Changed, but not proven durable, or the report could not be written.
    NotDurable = 3,
    /// In doubt: a change could not be undone. The message says what to run.
    InDoubt = 4,
}

/// An error with an exit code of its own, and the tip that goes with it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    code: Option<u8>,
    message: String,
    tip: Option<String>,
    fields: Vec<(&'static str, Value)>,
    source: Option<anyhow::Error>,
}

impl Failure {
    /// An error that ends in `exit`; the message goes behind the file's name.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            code: None,
            message: message.into(),
            tip: None,
            fields: Vec::new(),
            source: None,
        }
    }

    /// Usage or trouble; the file is untouched.
    pub fn trouble(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Trouble, message)
    }

    /// The process ends with this code, which is a command's or a shell's word for it, and none of ours.
    pub fn code(mut self, code: u8) -> Failure {
        self.code = Some(code);
        self
    }

    /// The same with this exit code.
    pub fn ending_in(mut self, exit: Exit) -> Failure {
        self.exit = exit;
        self
    }

    /// Says what to type instead.
    pub fn tip(mut self, tip: impl Into<String>) -> Failure {
        self.tip = Some(tip.into());
        self
    }

    /// A field of the error's JSON object, for what the message says in prose.
    pub fn field(mut self, name: &'static str, value: impl Into<Value>) -> Failure {
        self.fields.push((name, value.into()));
        self
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The file that an error is about: the verb's layer of the message.
#[derive(Debug)]
struct InFile {
    path: PathBuf,
    source: anyhow::Error,
}

impl std::error::Error for InFile {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

impl fmt::Display for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.path))
    }
}

/// The verb had put the file back before it failed: it is other than it was, whatever the exit code says of the verb.
#[derive(Debug)]
struct Recovered {
    source: anyhow::Error,
}

impl std::error::Error for Recovered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("put back as it was before a patch that had been cut short, and then")
    }
}

/// Adds to an error what one layer knows. (anyhow's own contexts cannot be found again in the middle of a chain.)
pub trait Layer<T> {
    /// The exit code, and what it means for the file.
    fn or_fail(self, failure: impl FnOnce() -> Failure) -> anyhow::Result<T>;
    /// The file.
    fn in_file(self, path: &Path) -> anyhow::Result<T>;
    /// Whether the file was put back first, as an atomic patch had been cut short.
    fn after_recovery(self, recovered: bool) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Layer<T> for Result<T, E> {
    fn or_fail(self, failure: impl FnOnce() -> Failure) -> anyhow::Result<T> {
        self.map_err(|error| {
            let source = Some(error.into());
            anyhow::Error::from(Failure { source, ..failure() })
        })
    }

    fn in_file(self, path: &Path) -> anyhow::Result<T> {
        self.map_err(|error| {
            let path = path.to_path_buf();
            let source = error.into();
            anyhow::Error::from(InFile { path, source })
        })
    }

    fn after_recovery(self, recovered: bool) -> anyhow::Result<T> {
        self.map_err(|error| match recovered {
            true => anyhow::Error::from(Recovered { source: error.into() }),
            false => error.into(),
        })
    }
}

/// An error, as it is told to the user.
#[derive(Debug)]
pub struct Told {
    /// The process's exit code.
    pub exit: Exit,
    /// The signal that the process ends with instead, once this is printed.
    pub signal: Option<i32>,
    /// A command's exit code, in place of ours.
    code: Option<u8>,
    message: String,
    tip: Option<String>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    recovered: bool,
    fields: Vec<(&'static str, Value)>,
}

impl Told {
    /// Walks the chain of `error` once for all that is known about it.
    pub fn of(error: &anyhow::Error) -> Told {
        let mut told = Told {
            exit: Exit::Trouble,
            signal: None,
            code: None,
            message: message(error),
            tip: None,
            path: None,
            offset: None,
            recovered: false,
            fields: Vec::new(),
        };
        // From the outside in: a verb that knows better than the core has spoken first.
        let mut exit = None;
        // The file that a tip is about is the one named last.
        let mut nearest: Option<&Path> = None;
        for layer in error.chain() {
            if let Some(failure) = layer.downcast_ref::<Failure>() {
                exit = exit.max(Some(failure.exit));
                told.code = told.code.or(failure.code);
                // Where a tip is written, the file's name is not always known.
                let tip = || Some(tip::with_file(failure.tip.as_ref()?, nearest));
                told.tip = told.tip.or_else(tip);
                told.fields.extend(failure.fields.iter().cloned());
            } else if let Some(file) = layer.downcast_ref::<InFile>() {
                // The outermost is the verb's; a script or an @FILE may be named further in.
                told.path = told.path.or_else(|| Some(file.path.clone()));
                nearest = Some(&file.path);
            } else if layer.is::<Recovered>() {
                told.recovered = true;
            } else if let Some(core) = layer.downcast_ref::<mapping::Error>() {
                told.offset = core.span.map(mapping::Span::start);
                // A script may have an edit past the end, but the end is the file's.
                let about = match core.cause {
                    Cause::PastEnd { .. } => told.path.as_deref().or(nearest),
                    _ => nearest,
                };
                told.tip = told.tip.take().or_else(|| tip::of(&core.cause, about));
                if let Cause::Interrupted(signal) = core.cause {
                    told.signal = Some(signal);
                }
            } else if let Some(refusal) = layer.downcast_ref::<quantity::Refusal>() {
                let tip = Some(refusal.tip.clone()).filter(|tip| !tip.is_empty());
                told.tip = told.tip.or(tip);
            } else if let Some(io) = layer.downcast_ref::<std::io::Error>() {
                // What else may be wrong with a file that is only read, whoever reads it knows.
                let folder = nearest.filter(|_| io.kind() == std::io::ErrorKind::IsADirectory);
                told.tip = told.tip.or(folder.map(tip::in_folder));
            } else if let Some(Interrupted(signal)) = layer.downcast_ref::<Interrupted>() {
                told.signal = Some(*signal);
            }
        }
        told.exit = exit.unwrap_or(Exit::Trouble);
        // A file left in doubt is worth a code of its own, which a signal's would hide.
        if told.exit > Exit::Trouble {
            told.signal = None;
        }
        told
    }

    /// A mistake on the command line.
    pub fn usage(message: String, tip: Option<String>) -> Told {
        Told {
            exit: Exit::Trouble,
            signal: None,
            code: None,
            message,
            tip,
            path: None,
            offset: None,
            recovered: false,
            fields: Vec::new(),
        }
    }

    /// Two lines for people.
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

    /// One JSON object on a line.
    pub fn json(&self, verb: Option<&str>) -> String {
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
        object.insert("exit", json!(self.code.unwrap_or(self.exit as u8)));
        for (name, value) in &self.fields {
            object.insert(name, value.clone());
        }
        format!("{object}\n")
    }
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

static JSON: AtomicBool = AtomicBool::new(false);

/// Notes that errors are to be JSON, for [`out_of_memory`], which has no arguments to look at.
pub fn report_in_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// What to print when the system refused `size` bytes.
pub fn out_of_memory(size: usize) -> String {
    let (why, tip) = memory::explain(size);
    let told = Told::usage(format!("out of memory: {why}"), Some(tip.into()));
    match JSON.load(Ordering::Relaxed) {
        true => told.json(None),
        false => told.text(false),
    }
}

/// A text without characters that control a terminal: it may quote a script, which comes from anywhere.
fn harmless(text: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_control() && c != '\n' => c.escape_debug().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Each layer of the chain adds one fact; the outermost comes first.
fn message(error: &anyhow::Error) -> String {
    let layers = error.chain().map(|layer| match layer.downcast_ref::<std::io::Error>() {
        Some(io) => describe(io),
        None => layer.to_string(),
    });
    layers.collect::<Vec<_>>().join(": ")
}

impl std::error::Error for Interrupted {}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Cause::Interrupted(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mapping::Span;
    use nix::errno::Errno;

    fn told(error: impl Into<anyhow::Error>) -> Told {
        Told::of(&error.into())
    }

    #[test]
    fn a_plain_error_is_trouble() {
        assert_eq!(told(anyhow::anyhow!("x")).exit, Exit::Trouble);
    }

    #[test]
    fn the_answer_no_is_1_and_keeps_its_tip_behind_the_file_name() {
        let failure = Failure::new(Exit::No, "bytes differ").tip("look");
        let told = told(Err::<(), _>(failure).in_file(Path::new("a b")).unwrap_err());
        assert_eq!(told.exit, Exit::No);
        assert_eq!(told.text(false), "error: a b: bytes differ\n  tip: look\n");
        assert!(
            told.json(Some("patch"))
                .contains(r#""file":"a b","error":"a b: bytes differ","tip":"look""#)
        );
    }

    #[test]
    fn a_failure_to_undo_outranks_what_went_wrong_first() {
        let core = mapping::Error::sys("store", Span::new(64, 68), Errno::EIO);
        let error = Err::<(), _>(core)
            .or_fail(|| Failure::new(Exit::InDoubt, "could not be put back"))
            .unwrap_err();
        let told = Told::of(&error);
        assert_eq!(told.exit, Exit::InDoubt);
        assert_eq!(told.offset, Some(64));
        assert_eq!(
            told.message,
            "could not be put back: cannot store 0x40..0x44: I/O error (EIO)"
        );
    }

    #[test]
    fn an_interruption_ends_in_its_signal_unless_the_file_is_in_doubt() {
        let stop = || mapping::Error::new("store", None, Cause::Interrupted(2));
        assert_eq!(told(stop()).signal, Some(2));
        let doubt = Err::<(), _>(stop()).or_fail(|| Failure::new(Exit::InDoubt, "half"));
        assert_eq!(told(doubt.unwrap_err()).signal, None);
    }
}
