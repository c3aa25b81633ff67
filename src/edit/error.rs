//! Errors of editing: what stopped the work on a file, and the state that the file is in.

use crate::mapping::{self, ErrorKind, Interrupted};
use crate::number;
use crate::text::{describe, shown};
use std::fmt::{Debug, Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};

/// The results of editing, and of the verbs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The state of the file after an error, from better to worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Untouched: the file does not hold the expected bytes.
    Mismatch,
    /// Untouched.
    Untouched,
    /// Changed, then restored.
    RolledBack,
    /// Changed, but not proven durable, or the report of the change is lost.
    Changed,
    /// In doubt: a change could not be undone. The message says what to run.
    InDoubt,
}

/// What caused an error in the first place.
#[derive(Debug)]
pub enum RootCause {
    /// A rule of mmapctl itself; the message says which.
    Rule,
    /// An operation of the mapping module.
    Core(mapping::Error),
    /// A call of the standard library.
    Io(io::Error),
    /// A signal that asked the program to stop; its number.
    Interrupted(i32),
    /// The reader of stdout has closed it, so there is no reason to continue.
    ReaderGone,
}

/// An edit whose range holds neither the expected nor the new bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// File offset of the first byte that differs from what is expected.
    pub offset: u64,
    /// The bytes found there, up to 16.
    pub found: Vec<u8>,
    /// The bytes expected there, as many as in `found`.
    pub expected: Vec<u8>,
    /// Where the edit was written.
    pub origin: SourceLocation,
}

/// Where an edit was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceLocation {
    /// `--offset`, `--find` and the like.
    Arguments,
    /// The n-th `--edit`, from 1.
    Option(u32),
    /// A line of the script, from 1.
    Line(u32),
}

impl Display for SourceLocation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceLocation::Arguments => f.write_str("the edit on the command line"),
            SourceLocation::Option(number) => write!(f, "--edit {number}"),
            SourceLocation::Line(number) => write!(f, "line {number}"),
        }
    }
}

/// An error. Each layer that it passes through adds what it knows.
pub struct Error {
    outcome: Outcome,
    details: Box<Details>,
}

struct Details {
    root: RootCause,
    /// The messages of the layers, the innermost first.
    messages: Vec<String>,
    /// The tip of the outermost layer that has one.
    tip: Option<String>,
    /// The file that the tip is about: the first path that is added after the tip.
    tip_path: Option<PathBuf>,
    /// The file that the root cause is about.
    root_path: Option<PathBuf>,
    /// The path that was added last: the verb's.
    path: Option<PathBuf>,
    recovered: bool,
    mismatches: Vec<Mismatch>,
}

impl Error {
    fn of(root: RootCause, message: String) -> Error {
        Error {
            outcome: Outcome::Untouched,
            details: Box::new(Details {
                root,
                messages: vec![message],
                tip: None,
                tip_path: None,
                root_path: None,
                path: None,
                recovered: false,
                mismatches: Vec::new(),
            }),
        }
    }

    /// An error that leaves the file in the state `outcome`. The message is printed after the file's name.
    pub fn new(outcome: Outcome, message: impl Into<String>) -> Error {
        Error::of(RootCause::Rule, message.into()).ending_in(outcome)
    }

    /// An error that leaves the file untouched.
    pub fn untouched(message: impl Into<String>) -> Error {
        Error::new(Outcome::Untouched, message)
    }

    /// An error after a change that was not undone.
    pub fn changed(message: impl Into<String>) -> Error {
        Error::new(Outcome::Changed, message)
    }

    /// An error that leaves the file in doubt.
    pub fn in_doubt(message: impl Into<String>) -> Error {
        Error::new(Outcome::InDoubt, message)
    }

    /// The error that ends the program once its output has no reader.
    pub fn reader_gone() -> Error {
        Error::of(RootCause::ReaderGone, "the reader of stdout has closed it".into())
    }

    /// Replaces the outcome.
    pub fn ending_in(self, outcome: Outcome) -> Error {
        Error { outcome, ..self }
    }

    /// Sets the tip, which says what to type instead. [`crate::text::FILE`] in it stands for the file's name.
    pub fn tip(mut self, tip: impl Into<String>) -> Error {
        self.details.tip = Some(tip.into()).filter(|tip: &String| !tip.is_empty());
        self.details.tip_path = None;
        self
    }

    /// Sets the places where the file does not hold the expected bytes.
    pub fn mismatches(mut self, mismatches: Vec<Mismatch>) -> Error {
        self.details.mismatches = mismatches;
        self
    }

    /// Adds a message, which is printed before those already there.
    pub fn context(mut self, message: impl Into<String>) -> Error {
        self.details.messages.push(message.into());
        self
    }

    /// Makes this error the cause of `outer`, which adds its message; the worse of the two outcomes counts.
    pub fn within(self, outer: Error) -> Error {
        let (outcome, message) = (self.outcome.max(outer.outcome), outer.to_string());
        let mut error = self.context(message).ending_in(outcome);
        if let Some(tip) = outer.details.tip {
            error = error.tip(tip);
        }
        error.details.mismatches.extend(outer.details.mismatches);
        error
    }

    /// Adds the path of the file that the error is about.
    pub fn with_path(self, path: &Path) -> Error {
        let mut error = self.context(shown(path));
        let details = &mut error.details;
        if details.tip.is_some() && details.tip_path.is_none() {
            details.tip_path = Some(path.into());
        }
        details.root_path.get_or_insert_with(|| path.into());
        details.path = Some(path.into());
        error
    }

    /// Notes that the file had been recovered before the error, if so. Its content has then changed, whatever the
    /// outcome of the operation that followed.
    pub fn after_recovery(self, recovered: bool) -> Error {
        if !recovered {
            return self;
        }
        let mut error = self.context("put back as it was before an interrupted patch, and then");
        error.details.recovered = true;
        error
    }

    /// The state that the file is in.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The root cause.
    pub fn root(&self) -> &RootCause {
        &self.details.root
    }

    /// The error of the mapping module that is the root cause, if it is one.
    pub fn core(&self) -> Option<&mapping::Error> {
        match &self.details.root {
            RootCause::Core(core) => Some(core),
            _ => None,
        }
    }

    /// Whether the root cause is that the reader of stdout has closed it.
    pub fn is_reader_gone(&self) -> bool {
        matches!(self.details.root, RootCause::ReaderGone)
    }

    /// The signal that is the root cause, if it is one.
    pub fn signal(&self) -> Option<i32> {
        match &self.details.root {
            RootCause::Interrupted(signal) => Some(*signal),
            RootCause::Core(core) => match core.cause {
                ErrorKind::Interrupted(signal) => Some(signal),
                _ => None,
            },
            _ => None,
        }
    }

    /// The tip that a layer added, and the file that it is about.
    pub fn tip_given(&self) -> (Option<&str>, Option<&Path>) {
        (self.details.tip.as_deref(), self.details.tip_path.as_deref())
    }

    /// The file that the root cause is about, and the verb's file.
    pub fn paths(&self) -> (Option<&Path>, Option<&Path>) {
        (self.details.root_path.as_deref(), self.details.path.as_deref())
    }

    /// Whether the file had been recovered before the error, after an interrupted atomic patch.
    pub fn is_after_recovery(&self) -> bool {
        self.details.recovered
    }

    /// The places where the file does not hold the expected bytes.
    pub fn found_mismatches(&self) -> &[Mismatch] {
        &self.details.mismatches
    }
}

/// Prints the messages, the outermost first.
impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let messages = self.details.messages.iter().rev().map(String::as_str);
        f.write_str(&messages.collect::<Vec<_>>().join(": "))
    }
}

impl Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {self} ({:?})", self.outcome, self.details.root)
    }
}

impl From<mapping::Error> for Error {
    fn from(error: mapping::Error) -> Error {
        let message = error.to_string();
        Error::of(RootCause::Core(error), message)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        let message = describe(&error);
        Error::of(RootCause::Io(error), message)
    }
}

impl From<Interrupted> for Error {
    fn from(Interrupted(signal): Interrupted) -> Error {
        let message = ErrorKind::Interrupted(signal).to_string();
        Error::of(RootCause::Interrupted(signal), message)
    }
}

impl From<number::ParseError> for Error {
    fn from(refusal: number::ParseError) -> Error {
        Error::untouched(refusal.message).tip(refusal.tip)
    }
}

/// Keeps only the text of the error.
impl From<anyhow::Error> for Error {
    fn from(prose: anyhow::Error) -> Error {
        Error::untouched(format!("{prose:#}"))
    }
}

/// Adds to the error of a result what one layer knows, see the methods of [`Error`].
pub trait ErrorContext<T> {
    /// Adds a message before those already there.
    fn context(self, message: impl Into<String>) -> Result<T>;
    /// Adds a message that is only made if there is an error.
    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
    /// Adds a message, an outcome and a tip.
    fn map_failure(self, outer: impl FnOnce() -> Error) -> Result<T>;
    /// Adds the path of the file that the error is about.
    fn with_path(self, path: &Path) -> Result<T>;
    /// Notes whether the file had been recovered before the error.
    fn after_recovery(self, recovered: bool) -> Result<T>;
}

impl<T, E: Into<Error>> ErrorContext<T> for std::result::Result<T, E> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().context(message))
    }

    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| error.into().context(message()))
    }

    fn map_failure(self, outer: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|error| error.into().within(outer()))
    }

    fn with_path(self, path: &Path) -> Result<T> {
        self.map_err(|error| error.into().with_path(path))
    }

    fn after_recovery(self, recovered: bool) -> Result<T> {
        self.map_err(|error| error.into().after_recovery(recovered))
    }
}
