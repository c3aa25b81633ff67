//! Compares edits with the file: its present bytes, which of them differ, and which are not as expected.

use super::aliased::reject_aliased_edits;
use super::checksum;
use super::edits::{Comparison, EditDetail, Edits, count_differing};
use super::parts::{EditGroup, EditGroups};
use super::spooled::SpooledBytes;
use crate::edit::error::{Error, Mismatch, Result};
use crate::mapping::{ByteRange, Chunk, Content, Operation, ProgressFn, Region, Segment, scan};

/// How many bytes of a mismatch are shown.
const SHOWN: u64 = 16;

/// How many of the new bytes are examined at a time.
const BLOCK: u64 = 64 << 10;

/// The length of a word. Almost all edits of a long script are this short, and a call to copy or compare each one would
/// dominate the time.
const SHORT: usize = 8;

/// How many parts each thread may read ahead of the consumer.
const AHEAD: usize = 4;

/// The bytes of the edits in a part, one after the other; the buffers are reused for each part.
#[derive(Default)]
struct Bytes {
    /// The bytes that the edits write.
    new: Vec<u8>,
    /// The bytes that conditional edits expect.
    expected: Vec<u8>,
}

/// The result for one edit, as far as its bytes have been examined.
#[derive(Default)]
struct EditDiff {
    differing: u64,
    unexpected: Option<u64>,
}

/// An edit at whose place the file does not hold the expected bytes.
struct Unexpected {
    /// Its index in the list.
    index: usize,
    /// File offset of the first byte that differs from what is expected.
    offset: u64,
    /// Where the bytes that the edit expects begin in [`Edits::expected`].
    expects: u64,
}

impl Edits {
    /// Reads the bytes that every edit would replace and compares them with what it expects; then computes the
    /// checksums, which take all other edits into account. A range that holds the new bytes already is accepted like
    /// one that holds the expected bytes, unless `strict`: so applying the same edits twice changes nothing. The edits
    /// that change nothing are moved to the end of the list, and the properties of all edits are dropped, because many
    /// edits take much memory. Bytes past the end of the file count as zeros. `step` receives the number of bytes read,
    /// of [`Edits::bytes_to_read`].
    ///
    /// # Errors
    /// If the file or the bytes of the edits cannot be read, or if in a nonlinear view edits are of one byte at two
    /// offsets.
    pub fn compare(&mut self, region: &mut Region, strict: bool, step: &mut ProgressFn<'_>) -> Result<Comparison> {
        reject_aliased_edits(self, region)?;
        let mut all = Comparison::of(self);
        let mut differs = vec![false; self.list.len()];
        // Threads read it while the bytes of the edits are examined.
        let list = std::mem::take(&mut self.list);
        let compared = self.compare_parts(&list, region, strict, &mut all, &mut differs, step);
        self.list = list;
        // Mismatches of checksums: whether the checksum is correct already is known only at the end.
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
        all.differing += self.zeros_past_end(region.length(), &mut all.old)?;
        if differs.contains(&false) {
            all.changing = sort_by_change(&mut self.list, &differs);
        }
        self.notes = Vec::new();
        Ok(all)
    }

    /// How many zeros the edits append to a file of `len` bytes, or cut off from it. They were compared as equal.
    fn zeros_past_end(&mut self, len: u64, old: &mut SpooledBytes) -> Result<u64> {
        let mut zeros = 0;
        let shorter = len.min(self.len_after);
        let first = self.list.partition_point(|edit| edit.range().end() <= shorter);
        for edit in &self.list[first..] {
            for part in edit.range().from(shorter.max(edit.at())).windows(BLOCK) {
                let mut bytes = vec![0; part.len() as usize];
                let side = if len > shorter { &mut *old } else { &mut self.new };
                side.read_at(edit.from + (part.start() - edit.at()), &mut bytes)?;
                zeros += bytes.iter().filter(|byte| **byte == 0).count() as u64;
            }
        }
        Ok(zeros)
    }

    /// Compares all edits except for the checksums themselves: marks the edits that change something in `differs`, and
    /// stores the other results in `all`. Returns the checksums that do not find the bytes that they expect.
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
        // The mismatches of this part.
        let mut unexpected = Vec::new();
        let mut doubtful = Vec::new();
        // Where the bytes that the next edit expects begin.
        let mut expects = 0;
        let mut verdict = EditDiff::default();
        let source = region.source(Operation::Compare, all.span)?;
        let gather = |piece: &Chunk<EditGroup, 1>, [content]: [Content<'_>; 1], old: &mut Vec<u8>| {
            // Nothing is compared of a part that cannot be read as a whole.
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
                // Since all edits expect these bytes, one comparison of all of them is faster.
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
            // How many of the edits' bytes have been examined.
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
                // One mismatch for each edit as the user wrote it.
                let written = self.written(list, one.index);
                if all.mismatches.last().is_none_or(|last| !is_in(written, last.offset)) {
                    all.mismatches.push(self.mismatch(list[one.index], &one, &mut all.old)?);
                }
            }
            Ok::<(), Error>(step(all.old.len())?)
        })?;
        Ok(doubtful)
    }

    /// Reads the `len` bytes of `edits` that lie in `part`. The bytes that they expect begin at `expects`.
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
        let expecting = edits.iter().zip(&self.notes[part.edits.clone()]).filter(|(_, note)| note.expects());
        let expected_len = expecting.map(|(edit, _)| edit.len()).sum::<u64>().min(len as u64);
        bytes.new.resize(len, 0);
        self.new.read_at(edits[0].from + into, &mut bytes.new)?;
        bytes.expected.resize(expected_len as usize, 0);
        self.expected.read_at(expects + into, &mut bytes.expected)
    }

    /// Compares a part of the `index`-th edit with `have`, the bytes of the file at `at`: both the new bytes and the
    /// expected ones. Fills in the bits that a mask preserves.
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
        // The value of a checksum is not known yet.
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

    /// The range of the edit as the user wrote it, of which the `index`-th edit of `list` is a part.
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

/// Replaces `out` by the bytes of `edits` that lie in `part`, taken from `have`, which are the file's bytes there.
fn gather(have: &[u8], part: &EditGroup, edits: &[Segment], out: &mut Vec<u8>) {
    if let [_] = edits {
        out.clear();
        out.extend_from_slice(have);
        return;
    }
    let start = part.range.start();
    let len = edits.iter().map(|edit| edit.len()).sum::<u64>() as usize;
    out.clear();
    // Room for one more word.
    out.resize(len + SHORT, 0);
    let mut end = 0;
    for edit in edits {
        let (from, len) = (&have[(edit.at() - start) as usize..], edit.len() as usize);
        match from.first_chunk::<SHORT>() {
            // Copying a whole word is faster than copying `len` bytes; the next edit overwrites the excess.
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
        // Of a short run, the word that begins it is compared, and the excess bytes are shifted out.
        (Some(a), Some(b)) if 0 < len && len <= SHORT => {
            (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)) << (8 * (SHORT - len)) != 0
        }
        _ => a[..len] != b[..len],
    }
}

/// Copies the bits of `have` outside `mask` into `bytes`.
fn keep_outside(mask: &[u8], have: &[u8], bytes: &mut [u8]) {
    for ((byte, have), mask) in bytes.iter_mut().zip(have).zip(mask) {
        *byte = (*byte & mask) | (have & !mask);
    }
}

/// Moves the elements of `list` that differ to its front, in place, and returns their number. Both parts are in
/// ascending order.
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
