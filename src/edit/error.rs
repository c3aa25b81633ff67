//! What stopped the work on a file, and what has become of the file.

use crate::mapping::{self, ErrorKind, Interrupted};
use crate::number;
use crate::text::{describe, shown};
use std::fmt::{Debug, Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};

/// The results of editing, and of the verbs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the file is after an error, from better to worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Untouched: it does not hold the bytes that were expected.
    Mismatch,
    /// Untouched.
    Untouched,
    /// Changed, and then put back as it was.
    RolledBack,
    /// Changed, but not proven durable, or the report of it is lost.
    Changed,
    /// In doubt: a change could not be undone. The message says what to run.
    InDoubt,
}

/// What an error began with.
#[derive(Debug)]
pub enum RootCause {
    /// A rule of our own; the message says which.
    Rule,
    /// An operation of the core.
    Core(mapping::Error),
    /// A call of the standard library.
    Io(io::Error),
    /// A signal that asked to stop; its number.
    Interrupted(i32),
    /// Whoever read stdout has closed it, and there is nobody to go on for.
    ReaderGone,
}

/// An edit whose range holds neither the expected nor the new bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// File offset of the first byte that differs from what is expected.
    pub offset: u64,
    /// What stands there: up to 16 bytes.
    pub found: Vec<u8>,
    /// What was expected there: as many.
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

/// An error: each layer that it passes adds what it knows.
pub struct Error {
    outcome: Outcome,
    details: Box<Details>,
}

struct Details {
    root: RootCause,
    /// What each layer knows, the innermost first.
    messages: Vec<String>,
    /// The tip of the outermost layer that has one.
    tip: Option<String>,
    /// The file that the tip is about: the one named next after it was given.
    tip_path: Option<PathBuf>,
    /// The file that the root cause is about.
    root_path: Option<PathBuf>,
    /// The file named last: the verb's.
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

    /// An error that leaves the file as `outcome` says. The message stands after the file's name.
    pub fn new(outcome: Outcome, message: impl Into<String>) -> Error {
        Error::of(RootCause::Rule, message.into()).ending_in(outcome)
    }

    /// An error that leaves the file untouched.
    pub fn untouched(message: impl Into<String>) -> Error {
        Error::new(Outcome::Untouched, message)
    }

    /// An error after a change that stays.
    pub fn changed(message: impl Into<String>) -> Error {
        Error::new(Outcome::Changed, message)
    }

    /// An error that leaves the file in doubt.
    pub fn in_doubt(message: impl Into<String>) -> Error {
        Error::new(Outcome::InDoubt, message)
    }

    /// The end of a program whose output nobody reads any more.
    pub fn reader_gone() -> Error {
        Error::of(RootCause::ReaderGone, "the reader of stdout has closed it".into())
    }

    /// With this outcome.
    pub fn ending_in(self, outcome: Outcome) -> Error {
        Error { outcome, ..self }
    }

    /// Says what to type instead. [`crate::text::FILE`] in it stands for the file that it is about.
    pub fn tip(mut self, tip: impl Into<String>) -> Error {
        self.details.tip = Some(tip.into()).filter(|tip: &String| !tip.is_empty());
        self.details.tip_path = None;
        self
    }

    /// Where other bytes were found than expected.
    pub fn mismatches(mut self, mismatches: Vec<Mismatch>) -> Error {
        self.details.mismatches = mismatches;
        self
    }

    /// With `message` before what it says.
    pub fn context(mut self, message: impl Into<String>) -> Error {
        self.details.messages.push(message.into());
        self
    }

    /// As the cause of `outer`, which says more; the worse outcome of the two counts.
    pub fn within(self, outer: Error) -> Error {
        let (outcome, message) = (self.outcome.max(outer.outcome), outer.to_string());
        let mut error = self.context(message).ending_in(outcome);
        if let Some(tip) = outer.details.tip {
            error = error.tip(tip);
        }
        error.details.mismatches.extend(outer.details.mismatches);
        error
    }

    /// About the file at `path`.
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

    /// After the file had been put back as it was, where that is so: it is other than it was, whatever the outcome of
    /// what came next.
    pub fn after_recovery(self, recovered: bool) -> Error {
        if !recovered {
            return self;
        }
        let mut error = self.context("put back as it was before an interrupted patch, and then");
        error.details.recovered = true;
        error
    }

    /// What has become of the file.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What it began with.
    pub fn root(&self) -> &RootCause {
        &self.details.root
    }

    /// The error of the core that it began with, if that is so.
    pub fn core(&self) -> Option<&mapping::Error> {
        match &self.details.root {
            RootCause::Core(core) => Some(core),
            _ => None,
        }
    }

    /// Whether nobody reads stdout any more.
    pub fn is_reader_gone(&self) -> bool {
        matches!(self.details.root, RootCause::ReaderGone)
    }

    /// The signal that it began with.
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

    /// The tip that a layer gave, and the file that it is about.
    pub fn tip_given(&self) -> (Option<&str>, Option<&Path>) {
        (self.details.tip.as_deref(), self.details.tip_path.as_deref())
    }

    /// The file that the root cause is about, and the verb's.
    pub fn paths(&self) -> (Option<&Path>, Option<&Path>) {
        (self.details.root_path.as_deref(), self.details.path.as_deref())
    }

    /// Whether the file had been put back as it was, because an atomic patch had been cut short.
    pub fn is_after_recovery(&self) -> bool {
        self.details.recovered
    }

    /// Where other bytes were found than expected.
    pub fn found_mismatches(&self) -> &[Mismatch] {
        &self.details.mismatches
    }
}

/// The facts, the outermost first.
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

/// What is prose alone.
impl From<anyhow::Error> for Error {
    fn from(prose: anyhow::Error) -> Error {
        Error::untouched(format!("{prose:#}"))
    }
}

/// Adds to the error of a result what one layer knows: see the methods of the same names of [`Error`].
pub trait ErrorContext<T> {
    /// A message before what it says.
    fn context(self, message: impl Into<String>) -> Result<T>;
    /// A message that is made where there is an error.
    fn with_context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
    /// A message, an outcome and a tip.
    fn map_failure(self, outer: impl FnOnce() -> Error) -> Result<T>;
    /// The file that it is about.
    fn with_path(self, path: &Path) -> Result<T>;
    /// Whether the file had been put back first.
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
