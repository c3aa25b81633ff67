//! The only list of verbs. A verb is a file: its `Args`, a pure plan, and `apply`, which works on a
//! [`crate::mapping::Region`] and never asks where it came from.

mod cat;
mod map;
mod options;
mod patch;
mod remap;
mod sync;
mod zero;

use crate::cli::Globals;
use clap::{ArgMatches, Args as _, Command, FromArgMatches, Subcommand};
use std::path::Path;

/// Makes [`Verb`] of a list of verbs: the variant, the file, and what `mmapctl --help` says of it.
///
/// By hand rather than by clap's derive, so that only the verb in use is built: the options of all six would take
/// longer than the whole of a small patch.
macro_rules! verbs {
    ($($variant:ident, $module:ident, $about:literal;)*) => {
        /// What to do, with its options.
        #[derive(Debug)]
        pub(crate) enum Verb {
            $($variant(Box<$module::Args>),)*
        }

        impl Verb {
            /// Its name on the command line.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $(Verb::$variant(_) => stringify!($module),)*
                }
            }

            /// Runs it on the files that it names; gives the process's exit code.
            pub(crate) fn run(&self, globals: &Globals) -> anyhow::Result<u8> {
                match self {
                    $(Verb::$variant(args) => $module::run(args, globals),)*
                }
            }
        }

        impl FromArgMatches for Verb {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Verb, clap::Error> {
                match matches.subcommand() {
                    $(Some((stringify!($module), matches)) => {
                        $module::Args::from_arg_matches(matches).map(|args| Verb::$variant(Box::new(args)))
                    })*
                    _ => Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Verb::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl Subcommand for Verb {
            fn augment_subcommands(command: Command) -> Command {
                command
                    .subcommand_required(true)
                    .arg_required_else_help(true)
                    $(.subcommand(Command::new(stringify!($module)).about($about).defer($module::Args::augment_args)))*
            }

            fn augment_subcommands_for_update(command: Command) -> Command {
                Verb::augment_subcommands(command)
            }

            fn has_subcommand(name: &str) -> bool {
                [$(stringify!($module)),*].contains(&name)
            }
        }
    };
}

verbs! {
    Map, map, "Make a mapping, show how it lives in memory, hold it, run a command beside it";
    Cat, cat, "Show or stream a range of a file: raw, or as a dump";
    Patch, patch, "Edit bytes in place: checked, and all or nothing";
    Sync, sync, "Make a range of a file durable, and prove it";
    Zero, zero, "Zero a range by the cheapest means that the file system has";
    Remap, remap, "Grow or shrink a file, with its blocks";
}

/// What a verb knows beside its region: how to speak, and of which file.
#[derive(Debug, Clone, Copy)]
struct Job<'a> {
    globals: &'a Globals,
    /// `None` for anonymous memory.
    path: Option<&'a Path>,
    /// Whether an atomic patch had been cut short, and the file was put back first.
    recovered: bool,
}

impl<'a> Job<'a> {
    fn on(path: &'a Path, globals: &'a Globals) -> Job<'a> {
        Job {
            globals,
            path: Some(path),
            recovered: false,
        }
    }

    /// The file as a tip names it.
    fn file(&self) -> String {
        self.path.map_or("FILE".into(), crate::exit::quoted)
    }

    /// The file as a report names it.
    fn name(&self) -> String {
        self.path.map_or("anonymous memory".into(), crate::report::shown)
    }
}
