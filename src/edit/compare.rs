//! Edits held against the file: what stands there, what differs, and what is not as expected.

use super::edits::{Comparison, Edits, Extra, MANY};
use super::parts::{Part, Parts};
use super::spool::Spool;
use super::sums;
use super::view::refuse_doubles;
use crate::edit::error::{Mismatch, Result};
use crate::mapping::{Piece, Region, Span, Step};
use std::thread;

/// How many bytes of a mismatch are shown.
const SHOWN: u64 = 16;

/// How much of the new bytes is looked at at a time, in bytes.
const BLOCK: u64 = 64 << 10;

/// A word. Almost all edits of a long script are as short, and a call to copy or compare each would take the longest.
const SHORT: usize = 8;

/// The bytes of a part of the file and of the edits in it, one after the other; used anew for each part.
#[derive(Default)]
struct Bytes {
    /// The file's, edit or not.
    have: Vec<u8>,
    /// What the edits replace.
    old: Vec<u8>,
    /// What they write.
    new: Vec<u8>,
    /// What they expect, those that do.
    expected: Vec<u8>,
}

/// What is known of one edit, its bytes seen so far.
#[derive(Default)]
struct Verdict {
    differing: u64,
    unexpected: Option<u64>,
}

/// An edit that does not stand on what it expects.
struct Unexpected {
    /// Its place in the list.
    index: usize,
    /// File offset of the first byte that is other than expected.
    offset: u64,
    /// Where what the edit expects begins in [`Edits::expected`].
    expects: u64,
}

impl Edits {
    /// Reads what every edit would replace and holds it against what it expects; then computes the checksums, which
    /// see all the others. A range that holds the new bytes already is as good as one that holds the expected ones,
    /// unless `strict`: so the same edits twice change nothing. The edits that change nothing go to the end of the
    /// list, and what is known beside the bytes of all goes: many edits take much memory. What lies past the end of the file counts as zeros.
    /// `step` hears how many bytes are read, of [`Edits::to_read`].
    ///
    /// # Errors
    /// What keeps the file or the edits' bytes from being read; in a nonlinear view, edits of one byte at two offsets.
    pub fn compare(&mut self, region: &mut Region, strict: bool, step: &mut Step<'_>) -> Result<Comparison> {
        refuse_doubles(self, region)?;
        let mut all = Comparison::of(self);
        let mut differs = vec![false; self.list.len()];
        // Those of checksums: whether these are right already is known only at the end.
        let doubtful = thread::scope(|scope| {
            let parts = Parts::new(region, Some(scope).filter(|_| self.list.len() >= MANY));
            self.compare_parts(parts, strict, &mut all, &mut differs, step)
        })?;
        let compared = all.old.len();
        sums::compute(
            self,
            region,
            |index, count| {
                differs[index] = count > 0;
                all.differing += count;
            },
            &mut all.old,
            &mut |summed| step(compared + summed),
        )?;
        for one in doubtful.iter().filter(|one| differs[one.index]) {
            let edit = self.written(one.index);
            if !all.mismatches.iter().any(|other| is_in(edit, other.offset)) {
                all.mismatches.push(self.mismatch(one, &mut all.old)?);
            }
        }
        all.differing += self.zeros_from(region.length())?;
        if differs.contains(&false) {
            all.changing = sort_by_change(&mut self.list, &differs);
        }
        self.notes = Vec::new();
        Ok(all)
    }

    /// How many zeros the edits write at or behind `end`. Appended, they are bytes that were not there before, though they
    /// are what was compared.
    fn zeros_from(&mut self, end: u64) -> Result<u64> {
        let mut zeros = 0;
        let first = self.list.partition_point(|edit| edit.span().end() <= end);
        for edit in &self.list[first..] {
            for part in edit.span().from(end.max(edit.at)).windows(BLOCK) {
                let mut bytes = vec![0; part.len() as usize];
                self.new.read_at(edit.from + (part.start() - edit.at), &mut bytes)?;
                zeros += bytes.iter().filter(|byte| **byte == 0).count() as u64;
            }
        }
        Ok(zeros)
    }

    /// Compares all but checksums: marks the edits that change something in `differs`, and puts what else there is to
    /// know into `all`. Gives the checksums that do not stand on what they expect.
    fn compare_parts(
        &mut self,
        mut parts: Parts<'_>,
        strict: bool,
        all: &mut Comparison,
        differs: &mut [bool],
        step: &mut Step<'_>,
    ) -> Result<Vec<Unexpected>> {
        let mut bytes = Bytes::default();
        // Those of this part.
        let mut unexpected = Vec::new();
        let mut doubtful = Vec::new();
        // Where the bytes that the next edit expects begin.
        let mut expects = 0;
        let mut verdict = Verdict::default();
        while let Some(part) = parts.next(&self.list, &mut bytes.have)? {
            self.fetch(&part, expects, &mut bytes)?;
            if part.edits.len() > 1 && self.extras.is_empty() && bytes.old == bytes.expected {
                // As all expect it, which of many edits is quicker seen at once.
                all.differing += count_differing(&bytes.new, &bytes.old);
                let mut rest = (&bytes.new[..], &bytes.old[..]);
                for (edit, differs) in self.list[part.edits.clone()].iter().zip(&mut differs[part.edits]) {
                    let len = edit.len as usize;
                    *differs = begin_otherwise(rest.0, rest.1, len);
                    rest = (&rest.0[len..], &rest.1[len..]);
                }
                expects += bytes.expected.len() as u64;
                all.old.push(&bytes.old)?;
                step(all.old.len())?;
                continue;
            }
            // How much of the edits' bytes has been looked at.
            let (mut seen, mut compared) = (0, 0);
            for index in part.edits {
                let (edit, note) = (self.list[index], self.notes[index]);
                let both = edit.span().intersect(part.span);
                let len = both.len() as usize;
                let have = &bytes.have[(both.start() - part.span.start()) as usize..][..len];
                let new = &mut bytes.new[seen..seen + len];
                seen += len;
                let expected = note.expects().then(|| {
                    compared += len;
                    &mut bytes.expected[compared - len..compared]
                });
                self.judge(index, both.start(), have, expected, new, &mut verdict)?;
                if both.end() < edit.at + edit.len {
                    continue;
                }
                let Verdict {
                    differing,
                    unexpected: at,
                } = std::mem::take(&mut verdict);
                differs[index] = differing > 0;
                all.differing += differing;
                if let Some(offset) = at {
                    let one = Unexpected { index, offset, expects };
                    if strict || differing > 0 {
                        unexpected.push(one);
                    } else if self.sums(index) {
                        doubtful.push(one);
                    }
                }
                if note.expects() {
                    expects += edit.len;
                }
            }
            all.old.push(&bytes.old)?;
            for one in unexpected.drain(..) {
                // One for each edit as it was written.
                let edit = self.written(one.index);
                if all.mismatches.last().is_none_or(|last| !is_in(edit, last.offset)) {
                    all.mismatches.push(self.mismatch(&one, &mut all.old)?);
                }
            }
            step(all.old.len())?;
        }
        Ok(doubtful)
    }

    /// Gathers what stands in the places of the edits in `part`, as far as they lie in it, and reads their own bytes. What
    /// they expect begins at `expects`.
    fn fetch(&mut self, part: &Part, expects: u64, bytes: &mut Bytes) -> Result<()> {
        let edits = &self.list[part.edits.clone()];
        let (into, len) = match edits {
            [one] => (part.span.start() - one.at, part.span.len()),
            several => (0, several.iter().map(|edit| edit.len).sum()),
        };
        match edits {
            [_] => bytes.old.clone_from(&bytes.have),
            several => gather(&bytes.have, part.span.start(), several, len as usize, &mut bytes.old),
        }
        let expecting = edits
            .iter()
            .zip(&self.notes[part.edits.clone()])
            .filter(|(_, note)| note.expects());
        let expected_len = expecting.map(|(edit, _)| edit.len).sum::<u64>().min(len);
        bytes.new.resize(len as usize, 0);
        self.new.read_at(edits[0].from + into, &mut bytes.new)?;
        bytes.expected.resize(expected_len as usize, 0);
        self.expected.read_at(expects + into, &mut bytes.expected)
    }

    /// Looks at a part of the `index`-th edit, of which the file has `have` at `at`, in the light of what is to be
    /// there and what it expects; fills in the bits that a mask keeps.
    fn judge(
        &mut self,
        index: usize,
        at: u64,
        have: &[u8],
        expected: Option<&mut [u8]>,
        new: &mut [u8],
        verdict: &mut Verdict,
    ) -> Result<()> {
        let edit = self.list[index];
        let into = (at - edit.at) as usize;
        let (mask, old_mask) = match self.notes[index].extra().map(|index| &self.extras[index]) {
            Some(Extra::Masks { new, old }) => (new.as_deref(), old.as_deref()),
            _ => (None, None),
        };
        if let Some(expected) = expected.filter(|_| verdict.unexpected.is_none()) {
            if let Some(mask) = old_mask {
                keep_outside(&mask[into..], have, expected);
            }
            verdict.unexpected = first_difference(expected, have).map(|index| at + index as u64);
        }
        if let Some(mask) = mask {
            keep_outside(&mask[into..], have, new);
            self.new.overwrite(edit.from + into as u64, new)?;
        }
        // What a checksum will be is not known yet.
        if !self.sums(index) {
            verdict.differing += count_differing(new, have);
        }
        Ok(())
    }

    /// Whether the new bytes of the `index`-th edit are a checksum.
    fn sums(&self, index: usize) -> bool {
        let extra = self.notes[index].extra().map(|index| &self.extras[index]);
        matches!(extra, Some(Extra::Sum(_)))
    }

    /// The range of the edit, as it was written, of which the `index`-th of the list is a part.
    fn written(&self, index: usize) -> Span {
        let continues = |index: &usize| self.notes.get(*index).is_some_and(|note| note.continues());
        let (mut first, mut last) = (index, index);
        while continues(&first) {
            first -= 1;
        }
        while continues(&(last + 1)) {
            last += 1;
        }
        self.list[first].span().join(self.list[last].span())
    }

    fn mismatch(&mut self, one: &Unexpected, old: &mut Spool) -> Result<Mismatch> {
        let Piece { at, len, from } = self.list[one.index];
        let note = self.notes[one.index];
        let into = one.offset - at;
        let shown = (len - into).min(SHOWN) as usize;
        let (mut found, mut expected) = (vec![0; shown], vec![0; shown]);
        old.read_at(from + into, &mut found)?;
        self.expected.read_at(one.expects + into, &mut expected)?;
        if let Some(Extra::Masks { old: Some(mask), .. }) = note.extra().map(|index| &self.extras[index]) {
            keep_outside(&mask[into as usize..], &found, &mut expected);
        }
        Ok(Mismatch {
            offset: one.offset,
            found,
            expected,
            origin: note.origin(),
        })
    }
}

fn is_in(span: Span, at: u64) -> bool {
    span.start() <= at && at < span.end()
}

/// Puts the `len` bytes of `edits`, all of which lie in what `have` has from the file offset `start` on, into `out`.
fn gather(have: &[u8], start: u64, edits: &[Piece], len: usize, out: &mut Vec<u8>) {
    out.clear();
    // Room for one word more.
    out.resize(len + SHORT, 0);
    let mut end = 0;
    for edit in edits {
        let (from, len) = (&have[(edit.at - start) as usize..], edit.len as usize);
        match from.first_chunk::<SHORT>() {
            // A word too much is copied sooner than so many bytes, and what comes next is written over it.
            Some(word) if len <= SHORT => out[end..end + SHORT].copy_from_slice(word),
            _ => out[end..end + len].copy_from_slice(&from[..len]),
        }
        end += len;
    }
    out.truncate(len);
}

/// Whether `a` and `b` differ in their first `len` bytes.
fn begin_otherwise(a: &[u8], b: &[u8], len: usize) -> bool {
    match (a.first_chunk::<SHORT>(), b.first_chunk::<SHORT>()) {
        // Of a short run, the word that it begins is looked at, and its other bytes shifted out.
        (Some(a), Some(b)) if 0 < len && len <= SHORT => {
            (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)) << (8 * (SHORT - len)) != 0
        }
        _ => a[..len] != b[..len],
    }
}

/// The bytes of `span`; zeros for what lies behind the end of the file, or of a mapping that reaches further.
///
/// # Errors
/// What keeps the rest from being read, and be it that it is not mapped.
pub(super) fn read_or_zeros(region: &mut Region, span: Span, buf: &mut Vec<u8>) -> Result<()> {
    let end = region.length().max(region.span().end());
    let there = span.intersect(Span::first(end));
    buf.resize(span.len() as usize, 0);
    let (have, behind) = buf.split_at_mut(there.len() as usize);
    behind.fill(0);
    if !there.is_empty() {
        region.read(there.start(), have)?;
    }
    Ok(())
}

/// Puts the bits of `have` that lie outside `mask` into `bytes`.
fn keep_outside(mask: &[u8], have: &[u8], bytes: &mut [u8]) {
    for ((byte, have), mask) in bytes.iter_mut().zip(have).zip(mask) {
        *byte = (*byte & mask) | (have & !mask);
    }
}

/// Brings those of `list` that differ to its front, in place; both parts ascend. Gives how many they are.
fn sort_by_change(list: &mut [Piece], differs: &[bool]) -> usize {
    let (mut front, mut back) = (0, list.len());
    while front < back {
        if differs[front] {
            front += 1;
        } else if !differs[back - 1] {
            back -= 1;
        } else {
            list.swap(front, back - 1);
            (front, back) = (front + 1, back - 1);
        }
    }
    let (changing, unchanged) = list.split_at_mut(front);
    changing.sort_unstable_by_key(|piece| piece.at);
    unchanged.sort_unstable_by_key(|piece| piece.at);
    front
}

/// In how many places two runs of bytes differ.
pub(super) fn count_differing(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    a.iter().zip(b).position(|(a, b)| a != b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn edits_that_change_something_come_first_and_both_parts_ascend(differs in prop::collection::vec(any::<bool>(), 0..200)) {
            let piece = |index: usize| Piece { at: index as u64 * 8, len: 4, from: index as u64 * 4 };
            let mut list: Vec<Piece> = (0..differs.len()).map(piece).collect();
            let changing = sort_by_change(&mut list, &differs);
            let wanted = |changes: bool| (0..differs.len()).filter(|index| differs[*index] == changes).map(piece).collect::<Vec<_>>();
            prop_assert_eq!(&list[..changing], &wanted(true)[..]);
            prop_assert_eq!(&list[changing..], &wanted(false)[..]);
        }
    }
}
