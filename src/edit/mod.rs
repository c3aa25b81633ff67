//! Edits: what bytes go where, what must stand there before, and how they get in all or not at all.

mod plan;
mod spool;
mod undo;
mod value;

pub use plan::{Comparison, Edit, Edits, Mismatch};
pub use spool::Spool;
pub use undo::or_put_back;
pub use value::Value;
