//! mmapctl: shows, edits, syncs, zeroes and rearranges bytes of files and of memory in place, through memory mappings.
//!
//! How the modules are connected; data flows in one direction:
//!
//! ```text
//! argv ─ cli ─▶ cmd::VERB::Args ─▶ mapping::Backing (facts) ─▶ plan, pure ─▶ mapping::Region ─▶ effect
//!                                                                                               │
//!                    exit code ◀─ error ◀ text or JSON ◀─ report::Report ◀──────────────────────┘
//! ```
//!
//! | module | purpose |
//! |---|---|
//! | [`cli`] | parsing, and reporting errors at the end; no module imports it |
//! | `usage` | errors on a command line, in mmapctl's own form |
//! | [`cmd`] | the only list of verbs; one file for each verb |
//! | [`mapping`] | the core: mappings, without signals; its documentation begins with its invariants |
//! | [`edit`] | values, the payload, and stores that are all or nothing |
//! | [`dump`] | bytes as text, one file for each format |
//! | [`number`] | numbers, offsets, ranges and sizes, as users write them |
//! | [`report`], [`progress`], [`error`] | output: results, progress, errors |
//! | [`output`] | the global options, stdout and stderr |
//! | [`text`], [`json`] | how names, numbers and objects are written |
//! | [`inherited`] | descriptors that the caller has opened |
//! | [`memory`] | what happens when memory runs out |
//! | [`signals`] | Ctrl-C, blocked until the work is at a safe point |
//!
//! The binary is `main.rs`, which glibc enters through `entry.rs`. The only call in the other direction is
//! [`mapping::ProgressFn`], which serves progress, Ctrl-C and fault tests.
//!
//! This library serves the binary and its tests; its interface is not a promise to other crates.

pub mod cli;
pub mod cmd;
pub mod dump;
pub mod edit;
pub mod error;
pub mod inherited;
pub mod json;
pub mod mapping;
pub mod memory;
pub mod number;
pub mod output;
pub mod progress;
pub mod report;
pub mod signals;
pub mod text;
mod usage;
