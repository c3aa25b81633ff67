//! Edits held against the file: what stands there, what differs, and what is not as expected.

use super::aliased::reject_aliased_edits;
use super::checksum;
use super::edits::{Comparison, EditDetail, Edits, count_differing};
use super::parts::{EditGroup, EditGroups};
use super::spooled::SpooledBytes;
use crate::edit::error::{Error, Mismatch, Result};
use crate::mapping::{ByteRange, Chunk, Content, Operation, ProgressFn, Region, Segment, scan};

/// How many bytes of a mismatch are shown.
const SHOWN: u64 = 16;

/// How much of the new bytes is looked at at a time, in bytes.
const BLOCK: u64 = 64 << 10;

/// A word. Almost all edits of a long script are as short, and a call to copy or compare each would take the longest.
const SHORT: usize = 8;

/// How many parts each thread may have read before those are due.
const AHEAD: usize = 4;

/// The bytes of the edits in a part, one after the other; used anew for each part.
#[derive(Default)]
struct Bytes {
    /// What they write.
    new: Vec<u8>,
    /// What they expect, those that do.
    expected: Vec<u8>,
}

/// What is known of one edit, its bytes seen so far.
#[derive(Default)]
struct EditDiff {
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
    /// `step` hears how many bytes are read, of [`Edits::bytes_to_read`].
    ///
    /// # Errors
    /// What keeps the file or the edits' bytes from being read; in a nonlinear view, edits of one byte at two offsets.
    pub fn compare(&mut self, region: &mut Region, strict: bool, step: &mut ProgressFn<'_>) -> Result<Comparison> {
        reject_aliased_edits(self, region)?;
        let mut all = Comparison::of(self);
        let mut differs = vec![false; self.list.len()];
        // It is read by threads while the edits' bytes are looked at.
        let list = std::mem::take(&mut self.list);
        let compared = self.compare_parts(&list, region, strict, &mut all, &mut differs, step);
        self.list = list;
        // Those of checksums: whether these are right already is known only at the end.
        let doubtful = compared?;
        let compared = all.old.len();
        checksum::compute(
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
            let written = self.written(&self.list, one.index);
            if !all.mismatches.iter().any(|other| is_in(written, other.offset)) {
                let edit = self.list[one.index];
                all.mismatches.push(self.mismatch(edit, one, &mut all.old)?);
            }
        }
        all.differing += self.zeros_from(region.length())?;
        if differs.contains(&false) {
            all.changing = sort_by_change(&mut self.list, &differs);
        }
        self.notes = Vec::new();
        Ok(all)
    }

    /// How many zeros the edits write at or past `end`. Appended, they are bytes that were not there before, though they
    /// are what was compared.
    fn zeros_from(&mut self, end: u64) -> Result<u64> {
        let mut zeros = 0;
        let first = self.list.partition_point(|edit| edit.range().end() <= end);
        for edit in &self.list[first..] {
            for part in edit.range().from(end.max(edit.at())).windows(BLOCK) {
                let mut bytes = vec![0; part.len() as usize];
                self.new.read_at(edit.from + (part.start() - edit.at()), &mut bytes)?;
                zeros += bytes.iter().filter(|byte| **byte == 0).count() as u64;
            }
        }
        Ok(zeros)
    }

    /// Compares all but checksums: marks the edits that change something in `differs`, and puts what else there is to
    /// know into `all`. Gives the checksums that do not stand on what they expect.
    fn compare_parts(
        &mut self,
        list: &[Segment],
        region: &mut Region,
        strict: bool,
        all: &mut Comparison,
        differs: &mut [bool],
        step: &mut ProgressFn<'_>,
    ) -> Result<Vec<Unexpected>> {
        let mut bytes = Bytes::default();
        // Those of this part.
        let mut unexpected = Vec::new();
        let mut doubtful = Vec::new();
        // Where the bytes that the next edit expects begin.
        let mut expects = 0;
        let mut verdict = EditDiff::default();
        let source = region.source(Operation::Compare, all.span)?;
        let gather = |piece: &Chunk<EditGroup, 1>, [content]: [Content<'_>; 1], old: &mut Vec<u8>| {
            // Of what cannot be read as a whole nothing is compared.
            if piece.range == piece.key.range {
                gather(content.as_bytes(), &piece.key, &list[piece.key.edits.clone()], old);
            }
        };
        let groups = EditGroups::new(list, all.span);
        scan([source], AHEAD, groups, gather, |piece, old| {
            let part = &piece.key;
            if piece.range != part.range {
                return Ok(());
            }
            let edits = &list[part.edits.clone()];
            self.fetch(edits, part, expects, old.len(), &mut bytes)?;
            if edits.len() > 1 && self.extras.is_empty() && *old == bytes.expected {
                // As all expect it, which of many edits is quicker seen at once.
                all.differing += count_differing(&bytes.new, old);
                let mut rest = (&bytes.new[..], &old[..]);
                for (edit, differs) in edits.iter().zip(&mut differs[part.edits.clone()]) {
                    let len = edit.len() as usize;
                    *differs = prefix_differs(rest.0, rest.1, len);
                    rest = (&rest.0[len..], &rest.1[len..]);
                }
                expects += bytes.expected.len() as u64;
                all.old.push(old)?;
                return Ok(step(all.old.len())?);
            }
            // How much of the edits' bytes has been looked at.
            let (mut seen, mut compared) = (0, 0);
            for (index, edit) in part.edits.clone().zip(edits) {
                let note = self.notes[index];
                let both = edit.range().intersect(part.range);
                let len = both.len() as usize;
                let have = &old[seen..seen + len];
                let new = &mut bytes.new[seen..seen + len];
                seen += len;
                let expected = note.expects().then(|| {
                    compared += len;
                    &mut bytes.expected[compared - len..compared]
                });
                self.judge((index, *edit), both.start(), have, expected, new, &mut verdict)?;
                if both.end() < edit.at() + edit.len() {
                    continue;
                }
                let EditDiff {
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
                    expects += edit.len();
                }
            }
            all.old.push(old)?;
            for one in unexpected.drain(..) {
                // One for each edit as it was written.
                let written = self.written(list, one.index);
                if all.mismatches.last().is_none_or(|last| !is_in(written, last.offset)) {
                    all.mismatches.push(self.mismatch(list[one.index], &one, &mut all.old)?);
                }
            }
            Ok::<(), Error>(step(all.old.len())?)
        })?;
        Ok(doubtful)
    }

    /// Reads the `len` bytes of `edits` that lie in `part`. What they expect begins at `expects`.
    fn fetch(
        &mut self,
        edits: &[Segment],
        part: &EditGroup,
        expects: u64,
        len: usize,
        bytes: &mut Bytes,
    ) -> Result<()> {
        let into = match edits {
            [one] => part.range.start() - one.at(),
            _ => 0,
        };
        let expecting = edits
            .iter()
            .zip(&self.notes[part.edits.clone()])
            .filter(|(_, note)| note.expects());
        let expected_len = expecting.map(|(edit, _)| edit.len()).sum::<u64>().min(len as u64);
        bytes.new.resize(len, 0);
        self.new.read_at(edits[0].from + into, &mut bytes.new)?;
        bytes.expected.resize(expected_len as usize, 0);
        self.expected.read_at(expects + into, &mut bytes.expected)
    }

    /// Looks at a part of the `index`-th edit, of which the file has `have` at `at`, in the light of what is to be
    /// there and what it expects; fills in the bits that a mask keeps.
    fn judge(
        &mut self,
        (index, edit): (usize, Segment),
        at: u64,
        have: &[u8],
        expected: Option<&mut [u8]>,
        new: &mut [u8],
        verdict: &mut EditDiff,
    ) -> Result<()> {
        let into = (at - edit.at()) as usize;
        let (mask, old_mask) = match self.notes[index].extra().map(|index| &self.extras[index]) {
            Some(EditDetail::Masks { new, old }) => (new.as_deref(), old.as_deref()),
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
        matches!(extra, Some(EditDetail::Sum(_)))
    }

    /// The range of the edit, as it was written, of which the `index`-th of `list` is a part.
    fn written(&self, list: &[Segment], index: usize) -> ByteRange {
        let continues = |index: &usize| self.notes.get(*index).is_some_and(|note| note.continues());
        let (mut first, mut last) = (index, index);
        while continues(&first) {
            first -= 1;
        }
        while continues(&(last + 1)) {
            last += 1;
        }
        list[first].range().join(list[last].range())
    }

    fn mismatch(&mut self, edit: Segment, one: &Unexpected, old: &mut SpooledBytes) -> Result<Mismatch> {
        let (at, len, from) = (edit.at(), edit.len(), edit.from);
        let note = self.notes[one.index];
        let into = one.offset - at;
        let shown = (len - into).min(SHOWN) as usize;
        let (mut found, mut expected) = (vec![0; shown], vec![0; shown]);
        old.read_at(from + into, &mut found)?;
        self.expected.read_at(one.expects + into, &mut expected)?;
        if let Some(EditDetail::Masks { old: Some(mask), .. }) = note.extra().map(|index| &self.extras[index]) {
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

fn is_in(range: ByteRange, at: u64) -> bool {
    range.start() <= at && at < range.end()
}

/// Puts the bytes of `edits` that lie in `part`, of which the file has `have`, in place of those in `out`.
fn gather(have: &[u8], part: &EditGroup, edits: &[Segment], out: &mut Vec<u8>) {
    if let [_] = edits {
        out.clear();
        out.extend_from_slice(have);
        return;
    }
    let start = part.range.start();
    let len = edits.iter().map(|edit| edit.len()).sum::<u64>() as usize;
    out.clear();
    // Room for one word more.
    out.resize(len + SHORT, 0);
    let mut end = 0;
    for edit in edits {
        let (from, len) = (&have[(edit.at() - start) as usize..], edit.len() as usize);
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
fn prefix_differs(a: &[u8], b: &[u8], len: usize) -> bool {
    match (a.first_chunk::<SHORT>(), b.first_chunk::<SHORT>()) {
        // Of a short run, the word that it begins is looked at, and its other bytes shifted out.
        (Some(a), Some(b)) if 0 < len && len <= SHORT => {
            (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)) << (8 * (SHORT - len)) != 0
        }
        _ => a[..len] != b[..len],
    }
}

/// Puts the bits of `have` that lie outside `mask` into `bytes`.
fn keep_outside(mask: &[u8], have: &[u8], bytes: &mut [u8]) {
    for ((byte, have), mask) in bytes.iter_mut().zip(have).zip(mask) {
        *byte = (*byte & mask) | (have & !mask);
    }
}

/// Brings those of `list` that differ to its front, in place; both parts ascend. Gives how many they are.
fn sort_by_change(list: &mut [Segment], differs: &[bool]) -> usize {
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
    changing.sort_unstable_by_key(|piece| piece.at());
    unchanged.sort_unstable_by_key(|piece| piece.at());
    front
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    a.iter().zip(b).position(|(a, b)| a != b)
}

#[cfg(test)]
mod tests;
