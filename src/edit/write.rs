//! Writes edit scripts, as printed by `--dry-run`, `--undo` and `--diff`.

use super::edits::{Comparison, Edits};
use super::script::HEADER;
use crate::edit::error::Result;

/// The maximum number of bytes on either side of a line.
const LINE: u64 = 32;

/// How many bytes of text are buffered before they are written out.
const TEXT: usize = 64 << 10;

/// Writes a script, line by line, to a sink that takes text in large pieces.
pub struct ScriptWriter<S: FnMut(&[u8]) -> Result<()>> {
    text: Vec<u8>,
    sink: S,
}

impl<S: FnMut(&[u8]) -> Result<()>> ScriptWriter<S> {
    /// Begins a script for a file of `len` bytes, which has `len_after` bytes after the script is applied.
    pub fn new(len: u64, len_after: u64, sink: S) -> ScriptWriter<S> {
        let mut text = format!("{HEADER}\nsize {len:#x}").into_bytes();
        if len_after != len {
            text.extend(format!(" -> {len_after:#x}").into_bytes());
        }
        text.push(b'\n');
        ScriptWriter { text, sink }
    }

    /// Says in the script that its offsets are not the file's, if it is made for a nonlinear view.
    pub fn of_view(mut self, is_view: bool) -> ScriptWriter<S> {
        if is_view {
            let comment = b"# offsets of a view: apply it in a session, after the same 'remap --order'\n";
            self.text.extend_from_slice(comment);
        }
        self
    }

    /// Begins a script of unconditional lines, to be applied with `--access WIDTH`; `len` as in [`ScriptWriter::new`],
    /// if the file has a length.
    pub fn of_stores(width: u64, len: Option<u64>, sink: S) -> ScriptWriter<S> {
        let mut text = format!("{HEADER}\n# to be applied with --access {width}\n").into_bytes();
        if let Some(len) = len {
            text.extend(format!("size {len:#x}\n").into_bytes());
        }
        ScriptWriter { text, sink }
    }

    /// Writes an unconditional line: `new` at `at`.
    pub fn store(&mut self, at: u64, new: &[u8]) -> Result<()> {
        push_number(&mut self.text, at);
        self.text.extend_from_slice(b": -> ");
        self.end_line(new)
    }

    /// Writes a line: `old` becomes `new` at `at`; both have the same length.
    pub fn edit(&mut self, at: u64, old: &[u8], new: &[u8]) -> Result<()> {
        push_number(&mut self.text, at);
        self.text.extend_from_slice(b": ");
        push_hex(&mut self.text, old);
        self.text.extend_from_slice(b" -> ");
        self.end_line(new)
    }

    fn end_line(&mut self, new: &[u8]) -> Result<()> {
        push_hex(&mut self.text, new);
        self.text.push(b'\n');
        if self.text.len() >= TEXT {
            (self.sink)(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }

    /// Writes out the rest of the buffer.
    pub fn finish(mut self) -> Result<()> {
        (self.sink)(&self.text)
    }
}

/// Passes the edits of a comparison to `each` in lines of up to 32 bytes that differ: offset, old bytes, new bytes.
/// Omits what lies at or after `end`.
pub fn each_edit(
    edits: &mut Edits,
    comparison: &mut Comparison,
    end: u64,
    mut each: impl FnMut(u64, &[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let (mut old, mut new) = ([0; LINE as usize], [0; LINE as usize]);
    for piece in edits.list[..comparison.changing].iter().filter_map(|piece| piece.before(end)) {
        for line in piece.range().windows(LINE) {
            let from = piece.from + (line.start() - piece.at());
            let (old, new) = (&mut old[..line.len() as usize], &mut new[..line.len() as usize]);
            comparison.old.read_at(from, old)?;
            edits.new.read_at(from, new)?;
            if old != new {
                each(line.start(), old, new)?;
            }
        }
    }
    Ok(())
}

/// Writes the script that reverts `edits`, once they are applied, in a file of `len` bytes.
pub fn write_undo(
    edits: &mut Edits,
    comparison: &mut Comparison,
    len: u64,
    sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut script = ScriptWriter::new(edits.len_after, len, sink).of_view(edits.is_view);
    // Appended bytes are cut off again, whatever they are; bytes that were cut off are written into a file of zeros.
    each_edit(edits, comparison, len, |at, old, new| script.edit(at, new, old))?;
    script.finish()
}

fn push_number(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(b"0x");
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        text.push(b"0123456789abcdef"[(number >> (digit * 4)) as usize & 15]);
    }
}

fn push_hex(text: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        text.push(b"0123456789abcdef"[(byte >> 4) as usize]);
        text.push(b"0123456789abcdef"[(byte & 15) as usize]);
    }
}
