//! A set of edits, compared with the file as a whole before any of them is stored.

use super::spool::Spool;
use super::undo::or_put_back;
use crate::mapping::{Piece, Region, Span, Step};

/// One edit: the new bytes of a range, and maybe what it must hold before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// The file range.
    pub span: Span,
    /// Where its new bytes stand in [`Edits::new`].
    pub from: u64,
    /// Where the bytes that it expects stand in [`Edits::expected`]; `None` for an unconditional edit.
    pub expects: Option<u64>,
}

/// Edits in ascending order that do not overlap, with their bytes. The new bytes stand in the order of the edits,
/// without gaps.
#[derive(Debug, Default)]
pub struct Edits {
    /// The edits.
    pub list: Vec<Edit>,
    /// The new bytes.
    pub new: Spool,
    /// The bytes that edits expect.
    pub expected: Spool,
}

/// What comparing the edits with the file has shown.
#[derive(Debug, Default)]
pub struct Comparison {
    /// What stands in the file now, in the places of the new bytes: enough to undo every edit.
    pub old: Spool,
    /// The edits that change something.
    pub todo: Vec<Piece>,
    /// How many bytes will be other than they are.
    pub differing: u64,
    /// Where other bytes stand than are expected.
    pub mismatches: Vec<Mismatch>,
}

/// An edit whose range holds neither the expected nor the new bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// File offset of the first byte that differs from what is expected.
    pub offset: u64,
    /// What stands there: up to 16 bytes.
    pub found: Vec<u8>,
    /// What was expected there: as many.
    pub expected: Vec<u8>,
}

/// How many bytes of a mismatch are shown.
const SHOWN: u64 = 16;

impl Edits {
    /// Reads what every edit would replace and holds it against what it expects. A range that holds the new bytes
    /// already is as good as one that holds the expected ones: the same edits twice change nothing.
    ///
    /// # Errors
    /// What keeps the file or the edits' bytes from being read.
    pub fn compare(&self, region: &mut Region, step: &mut Step<'_>) -> anyhow::Result<Comparison> {
        let mut all = Comparison::default();
        for edit in &self.list {
            let before = all.old.len();
            let mut differing = 0;
            let mut unexpected = None;
            let mut new = Vec::new();
            let mut expected = Vec::new();
            region.read_chunks(edit.span, |at, have| {
                let into = at - edit.span.start();
                new.resize(have.len(), 0);
                self.new.read_at(edit.from + into, &mut new)?;
                if new != have {
                    differing += new.iter().zip(have).filter(|(new, old)| new != old).count() as u64;
                }
                if let Some(from) = edit.expects.filter(|_| unexpected.is_none()) {
                    expected.resize(have.len(), 0);
                    self.expected.read_at(from + into, &mut expected)?;
                    unexpected = first_difference(&expected, have).map(|index| at + index as u64);
                }
                all.old.push(have)?;
                step(all.old.len()).map_err(anyhow::Error::from)
            })?;
            if let Some(offset) = unexpected.filter(|_| differing > 0) {
                all.mismatches.push(self.mismatch(edit, offset, &all.old, before)?);
            }
            if differing > 0 {
                all.differing += differing;
                all.todo.push(Piece {
                    at: edit.span.start(),
                    len: edit.span.len(),
                    from: edit.from,
                });
            }
        }
        Ok(all)
    }

    fn mismatch(&self, edit: &Edit, offset: u64, old: &Spool, from: u64) -> anyhow::Result<Mismatch> {
        let into = offset - edit.span.start();
        let len = (edit.span.end() - offset).min(SHOWN) as usize;
        let (mut found, mut expected) = (vec![0; len], vec![0; len]);
        old.read_at(from + into, &mut found)?;
        self.expected.read_at(edit.expects.unwrap_or(0) + into, &mut expected)?;
        Ok(Mismatch {
            offset,
            found,
            expected,
        })
    }

    /// Stores the edits that `comparison` found to change something: all of them, or none.
    ///
    /// # Errors
    /// What keeps a page from being written. The file is then as it was, unless the error says that it is in doubt.
    pub fn store(
        &mut self,
        region: &mut Region,
        comparison: &mut Comparison,
        step: &mut Step<'_>,
    ) -> anyhow::Result<()> {
        let todo = &comparison.todo;
        // Putting back must need nothing that could run out by then, such as descriptors.
        comparison.old.fd()?;
        let payload = self.new.fd()?;
        let stored = region
            .make_writable(todo, step)
            .and_then(|()| region.store(todo, payload, step));
        or_put_back(region, todo, Some(&mut comparison.old), stored)
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    a.iter().zip(b).position(|(a, b)| a != b)
}
