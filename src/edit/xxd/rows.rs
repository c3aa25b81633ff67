//! Checks that the rows of a dump are where xxd prints them if their offsets are hex: those of `xxd -d` are decimal.
//!
//! xxd prints rows of one width, each at the end of the row before it. Users remove rows and shorten some of them, so a
//! gap of whole rows means nothing. A dump is decimal if a row begins where the row before it ends when both offsets
//! are read as decimal, and not when they are read as hex (`00000000` and, 16 bytes later, `00000016`). If rows are
//! missing between every two that are there, the distances show it: those of a decimal dump are whole rows only when
//! read as decimal. A dump with a letter in any of its offsets is not decimal. A single row cannot be distinguished
//! from hex.

use super::{DumpRow, PADDED};
use crate::edit::error::{Error, ErrorContext, Result, SourceLocation};

/// Statistics of the rows of a dump.
#[derive(Default)]
pub(super) struct RowStatistics {
    /// All rows, by their offsets as hex.
    hex: Steps,
    /// All rows, by their offsets as decimal.
    decimal: Steps,
    /// The rows with as many characters as bytes, by their offsets as hex. These were printed by xxd, not typed.
    printed: Steps,
    /// The end of the previous row, as hex and as decimal.
    ends: Option<(u64, u64)>,
    /// The first line that begins where the row before it ends if both offsets are decimal, and not if they are hex.
    goes_on: Option<u32>,
    /// Whether an offset has a letter, or too many digits, so that the offsets are hex.
    is_hex: bool,
    /// Whether an offset has fewer digits than xxd prints.
    is_typed: bool,
}

/// What the offsets of rows have in common.
#[derive(Default)]
struct Steps {
    first: Option<u64>,
    /// The greatest common divisor of all distances from the first row.
    step: u64,
    /// The number of bytes in the widest row.
    width: u64,
    /// The first line at which some distance was not a multiple of the width, or 0.
    line: u32,
}

impl RowStatistics {
    /// Adds the row of `len` bytes on line `number`.
    pub(super) fn see(&mut self, row: &DumpRow<'_>, len: u64, number: u32) {
        self.hex.see(row.at, len, number);
        if row.characters(len as usize).next().is_some() {
            self.printed.see(row.at, len, number);
        }
        self.is_typed |= row.digits.len() < PADDED;
        let decimal = std::str::from_utf8(row.digits).ok().and_then(|text| text.parse().ok());
        let Some(decimal) = decimal.filter(|_| !self.is_hex) else {
            self.is_hex = true;
            return;
        };
        self.decimal.see(decimal, len, number);
        if self.ends.is_some_and(|(hex, end)| end == decimal && hex != row.at) {
            self.goes_on.get_or_insert(number);
        }
        self.ends = Some((row.at.saturating_add(len), decimal.saturating_add(len)));
    }

    /// Rejects rows whose offsets can be decimal; to be called after all rows were added.
    pub(super) fn check_radix(&self) -> Result<()> {
        if self.is_hex || !self.decimal.are_whole_rows() {
            return Ok(());
        }
        let in_steps = !self.is_typed && !self.hex.are_whole_rows();
        let Some(line) = self.goes_on.or(in_steps.then_some(self.hex.line)) else {
            return Ok(());
        };
        let failure =
            Error::untouched("the offsets look decimal, as 'xxd -d' prints them: read as hex, the rows leave gaps");
        let tip = "dump it again without -d; if the offsets are hex, write an edit script: 0x40: -> 9090";
        Err(failure.tip(tip)).context(SourceLocation::Line(line).to_string())
    }

    /// Rejects rows that were printed, but not as one dump; to be called after all rows were added.
    pub(super) fn check_gaps(&self) -> Result<()> {
        if !self.printed.are_whole_rows() {
            let width = self.printed.width;
            let message = format!(
                "this row is not a whole number of rows of {} away from the others, and no dump of xxd has such a gap",
                crate::text::plural(width, "byte")
            );
            let tip = "apply two dumps one after the other; if the offsets are right, remove the characters";
            let failure = Error::untouched(message).tip(tip);
            return Err(failure).context(SourceLocation::Line(self.printed.line).to_string());
        }
        Ok(())
    }
}

impl Steps {
    fn see(&mut self, at: u64, len: u64, number: u32) {
        let first = *self.first.get_or_insert(at);
        self.step = gcd(self.step, at.abs_diff(first));
        self.width = self.width.max(len);
        if self.line == 0 && !self.are_whole_rows() {
            self.line = number;
        }
    }

    /// Whether all distances are multiples of the width.
    fn are_whole_rows(&self) -> bool {
        self.width == 0 || self.step.is_multiple_of(self.width)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
