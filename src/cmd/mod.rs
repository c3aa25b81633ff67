//! The only list of verbs. A verb is a file: its `Args`, which name files and how to open them; its `Options`, which
//! say what to do; a pure plan; and `apply`, which works on a [`crate::mapping::Region`] without knowing where it came
//! from: a file of its own, or a session in which several verbs work.

mod cat;
mod map;
mod new_file;
mod options;
mod patch;
mod paths;
mod remap;
mod sync;
mod zero;

use crate::edit::Result;
use crate::mapping::Region;
use crate::output::Globals;
use clap::Subcommand;
use std::path::Path;

/// Defines [`Verb`] and [`SessionVerb`] from a list of verbs, so that a new verb is one line: the variant, the file,
/// and its description in `mmapctl --help`. Only the verb in use is built (`defer`): building the options of all verbs
/// would take longer than a whole small patch.
macro_rules! verbs {
    ($($variant:ident, $module:ident, $about:literal;)*) => {
        /// What to do, with its options.
        #[derive(Debug, Subcommand)]
        #[command(defer = true)]
        pub(crate) enum Verb {
            $(#[command(about = $about)] $variant(Box<$module::Args>),)*
        }

        impl Verb {
            /// The names of all verbs.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($module)),*];

            /// The verb's name on the command line.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Verb::$variant(_) => stringify!($module),)*
                }
            }

            /// Runs the verb on the files that it names; returns the process's exit code.
            pub(crate) fn run(&self, globals: &Globals) -> Result<u8> {
                match self {
                    $(Verb::$variant(args) => $module::run(args, globals),)*
                }
            }
        }

        /// What to do to a region that is there already: a verb without its file.
        #[derive(Debug, Subcommand)]
        #[command(defer = true)]
        pub(crate) enum SessionVerb {
            $(#[command(about = $about)] $variant(Box<$module::Options>),)*
        }

        impl SessionVerb {
            /// The verb's name in a session.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(SessionVerb::$variant(_) => stringify!($module),)*
                }
            }

            fn options(&self) -> &dyn RunOnRegion {
                match self {
                    $(SessionVerb::$variant(options) => options.as_ref(),)*
                }
            }
        }
    };
}

verbs! {
    Map, map, "Make a mapping, show how it is held in memory, keep it, or run a command beside it";
    Cat, cat, "Show or stream a range of a file: raw, or as a dump";
    Patch, patch, "Edit bytes in place: checked, and all or nothing";
    Sync, sync, "Make a range of a file durable, and prove it";
    Zero, zero, "Zero a range by the cheapest method that the file system has";
    Remap, remap, "Grow or shrink a file with its blocks, or put its pages in another order";
}

impl SessionVerb {
    /// Runs the verb on `region`, and prints its report.
    pub(crate) fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()> {
        self.options().apply(region, context)
    }

    /// Whether the verb needs a writable mapping, and the rules for writers.
    pub(crate) fn stores(&self) -> bool {
        self.options().stores()
    }

    /// How many of the options take their bytes from stdin.
    pub(crate) fn stdin_uses(&self) -> usize {
        self.options().stdin_uses()
    }

    /// Rejects options that are incomplete or contradict each other, before any file is opened.
    pub(crate) fn check_options(&self) -> Result<()> {
        self.options().check_options()
    }
}

/// A verb's options: what to do to a region, wherever that came from.
trait RunOnRegion {
    /// Runs the verb on `region`, and prints its report.
    fn apply(&self, region: &mut Region, context: VerbContext<'_>) -> Result<()>;

    /// Whether the verb needs a writable mapping, and the rules for writers.
    fn stores(&self) -> bool {
        false
    }

    /// How many of the options take their bytes from stdin, which can be read once.
    fn stdin_uses(&self) -> usize {
        0
    }

    /// Rejects options that are incomplete or contradict each other, before any file is opened.
    fn check_options(&self) -> Result<()> {
        Ok(())
    }
}

/// The context of a verb besides its region: the form of the output, and which file it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VerbContext<'a> {
    pub(crate) globals: &'a Globals,
    /// `None` for memory without a path.
    pub(crate) path: Option<&'a Path>,
    /// The name for memory without a path.
    pub(crate) memory: &'a str,
    /// Where the user wants the recovery journal of an atomic patch, if not beside the file.
    pub(crate) journal: Option<&'a Path>,
    /// Whether the file was recovered first because an atomic patch had been interrupted.
    pub(crate) recovered: bool,
    /// Whether the user wants to read the file as it is, even half-patched.
    pub(crate) ignores_journal: bool,
    /// Whether the user has disabled the safety rules for writers.
    pub(crate) force: bool,
}

impl<'a> VerbContext<'a> {
    fn on(path: &'a Path, globals: &'a Globals) -> VerbContext<'a> {
        VerbContext {
            globals,
            path: Some(path),
            memory: "memory",
            journal: None,
            recovered: false,
            ignores_journal: false,
            force: false,
        }
    }

    /// Adds the recovery journal and the safety rules from the options for writers.
    fn writing(self, writer: &'a options::WriteArgs) -> VerbContext<'a> {
        VerbContext {
            journal: writer.journal.as_deref(),
            force: writer.force,
            ..self
        }
    }

    /// The file's name in a tip.
    fn file(&self) -> String {
        self.path.map_or("FILE".into(), crate::text::quoted)
    }

    /// The file's name in a report.
    fn name(&self) -> String {
        self.path.map_or(self.memory.into(), crate::text::shown)
    }
}
