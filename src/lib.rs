//! mmapctl: bytes of files and of memory seen, edited, made durable, zeroed and rearranged in place, through
//! memory mappings.
//!
//! The map of this house; data flows one way through it:
//!
//! ```text
//! argv ─ cli ─▶ cmd::VERB::Args ─▶ mapping::Backing (facts) ─▶ plan, pure ─▶ mapping::Region ─▶ effect
//!                                                                                               │
//!                    exit code ◀─ error ◀ text or JSON ◀─ report::Report ◀──────────────────────┘
//! ```
//!
//! | room | what it is for |
//! |---|---|
//! | [`cli`] | parsing, the last word on errors; nobody imports it |
//! | `usage` | mistakes on a command line, in our own words |
//! | [`cmd`] | the only list of verbs; each verb is a file |
//! | [`mapping`] | the core: mappings, without a signal; its invariants open the file |
//! | [`edit`] | values, the payload, and stores that are all or nothing |
//! | [`dump`] | bytes as text, a file a format |
//! | [`number`] | numbers, offsets, ranges and sizes, as users write them |
//! | [`report`], [`progress`], [`error`] | what is said: results, waiting, errors |
//! | [`output`] | the global options, stdout and stderr |
//! | [`text`], [`json`] | how names, numbers and objects are written |
//! | [`inherited`] | descriptors that the caller has opened |
//! | [`memory`] | what happens when there is none left |
//! | [`signals`] | Ctrl-C, held back until the work is at a safe place |
//!
//! The binary is `main.rs`, which glibc enters by `entry.rs`. The one arrow back is [`mapping::ProgressFn`], which serves progress, Ctrl-C and fault tests alike.
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
