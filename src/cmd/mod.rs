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
use clap::Subcommand;
use std::path::Path;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a mapping, show how it lives in memory, hold it, run a command beside it
    Map(map::Args),
    /// Show or stream a range of a file: raw, or as a dump
    Cat(cat::Args),
    /// Edit bytes in place: checked, and all or nothing
    Patch(patch::Args),
    /// Make a range of a file durable, and prove it
    Sync(sync::Args),
    /// Zero a range by the cheapest means that the file system has
    Zero(zero::Args),
    /// Grow or shrink a file, with its blocks
    Remap(remap::Args),
}

impl Verb {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Map(_) => "map",
            Verb::Cat(_) => "cat",
            Verb::Patch(_) => "patch",
            Verb::Sync(_) => "sync",
            Verb::Zero(_) => "zero",
            Verb::Remap(_) => "remap",
        }
    }

    /// Runs it on the files that it names; gives the process's exit code.
    pub fn run(&self, globals: &Globals) -> anyhow::Result<u8> {
        match self {
            Verb::Map(args) => map::run(args, globals),
            Verb::Cat(args) => cat::run(args, globals),
            Verb::Patch(args) => patch::run(args, globals),
            Verb::Sync(args) => sync::run(args, globals),
            Verb::Zero(args) => zero::run(args, globals),
            Verb::Remap(args) => remap::run(args, globals),
        }
    }
}

/// What a verb knows beside its region: how to speak, and of which file.
#[derive(Debug, Clone, Copy)]
struct Job<'a> {
    globals: &'a Globals,
    /// `None` for anonymous memory.
    path: Option<&'a Path>,
}

impl<'a> Job<'a> {
    fn on(path: &'a Path, globals: &'a Globals) -> Job<'a> {
        Job {
            globals,
            path: Some(path),
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
