//! Edits: what bytes go where, what must stand there before, and how they get in all or not at all.

mod blocks;
mod builder;
mod compare;
mod diff;
mod find;
mod journal;
mod number;
mod parts;
mod plain;
mod plan;
mod script;
mod spool;
mod sums;
mod undo;
mod value;
mod view;
mod write;
mod xxd;

pub(crate) use builder::no_end;
pub use builder::{Builder, Source};
pub use diff::diff;
pub use find::{Find, find};
pub use journal::{Place, Recovery, distrusted, is_journal_name, recover, settle};
pub use plan::{Comparison, Durability, Edits, Extra, Mismatch, Note, Origin, not_taken};
pub use script::{read_edit, read_script};
pub use spool::Spool;
pub use undo::{Before, or_put_back};
pub use value::{Masked, Value, pattern, take_stdin};
pub use write::{ScriptWriter, each_edit, write_undo};
pub use xxd::read_xxd;

/// The longest line of a script, and the longest list or text that is read whole, in bytes: what is longer is a device
/// without an end, or a mistake.
pub const LONGEST_TEXT: u64 = 64 << 20;
