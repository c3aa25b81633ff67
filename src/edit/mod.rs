//! Edits: which bytes are written where, what must be there before, and how all of them are stored or none.

mod aliased;
mod apply;
mod blocks;
mod builder;
mod checksum;
mod compare;
mod diff;
mod edits;
mod error;
mod fast_lines;
mod find;
mod journal;
mod numeric;
mod parts;
mod rollback;
mod script;
mod spooled;
mod value;
mod write;
mod xxd;

pub use apply::{Durability, not_taken};
pub(crate) use builder::no_end;
pub use builder::{Builder, EditPlace};
pub use diff::diff;
pub use edits::{Comparison, EditDetail, EditMeta, Edits};
pub use error::{Error, ErrorContext, Mismatch, Outcome, Result, RootCause, SourceLocation};
pub use find::{Find, find, has_bytes_of_file};
pub use journal::{
    JournalPath, Recovery, is_journal_name, recover, recovery_needed, sync_parent_dir, unless_half_patched,
    waits_for_recovery,
};
pub use numeric::MaskedBytes;
pub use rollback::{RollbackPlan, rollback_on_error};
pub use script::{read_edit, read_script};
pub use spooled::SpooledBytes;
pub use value::{Value, pattern, stdin_used_twice, take_stdin};
pub use write::{ScriptWriter, each_edit, write_undo};
pub use xxd::read_xxd;

/// The longest line of a script, and the longest list or text that is read as a whole, in bytes: anything longer is a
/// device without an end, or a mistake.
pub const LONGEST_TEXT: u64 = 64 << 20;
