//! Edits: what bytes go where, what must stand there before, and how they get in all or not at all.

mod apply;
mod blocks;
mod builder;
mod compare;
mod diff;
mod edits;
mod error;
mod find;
mod journal;
mod number;
mod parts;
mod plain;
mod script;
mod spool;
mod sums;
mod undo;
mod value;
mod view;
mod write;
mod xxd;

pub use apply::{Durability, not_taken};
pub(crate) use builder::no_end;
pub use builder::{Builder, Source};
pub use diff::diff;
pub use edits::{Comparison, Edits, Extra, Note};
pub use error::{Error, ErrorContext, Mismatch, Origin, Outcome, Result, RootCause};
pub use find::{Find, find};
pub use journal::{
    Place, Recovery, is_journal_name, recover, recovery_needed, settle, unless_half_patched, waits_for_recovery,
};
pub use number::Masked;
pub use script::{read_edit, read_script};
pub use spool::Spool;
pub use undo::{Before, or_put_back};
pub use value::{Value, pattern, take_stdin};
pub use write::{ScriptWriter, each_edit, write_undo};
pub use xxd::read_xxd;

/// The longest line of a script, and the longest list or text that is read whole, in bytes: what is longer is a device
/// without an end, or a mistake.
pub const LONGEST_TEXT: u64 = 64 << 20;
