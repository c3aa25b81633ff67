//! A set of edits, compared with the file as a whole before any of them is stored.

use super::journal::{Journal, Place};
use super::spool::Spool;
use super::sums::{self, SumOf};
use super::undo::{Before, Stopped, or_put_back};
use crate::exit::{Exit, Failure, Layer};
use crate::mapping::{Piece, Region, Span, Step};
use std::fmt;

/// One edit: the new bytes of a range, and maybe what it must hold before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// The file range.
    pub span: Span,
    /// Where its new bytes stand in [`Edits::new`].
    pub from: u64,
    /// Where the bytes that it expects stand in [`Edits::expected`], or [`NOTHING`].
    expects: u64,
    /// What else there is to its bytes: its place in [`Edits::extras`] from 1, or 0.
    pub extra: u32,
    /// Where the user wrote it.
    origin: u32,
}

/// Scripts may have millions of edits, so an edit is kept small: this stands for `None`.
const NOTHING: u64 = u64::MAX;

/// The bit that tells an option from a line in [`Edit::origin`].
const IS_OPTION: u32 = 1 << 31;

impl Edit {
    /// An edit of `span`; see the fields for the rest.
    pub fn new(span: Span, from: u64, expects: Option<u64>, extra: u32, origin: Origin) -> Edit {
        Edit {
            span,
            from,
            expects: expects.unwrap_or(NOTHING),
            extra,
            origin: match origin {
                Origin::Arguments => 0,
                Origin::Option(number) => number | IS_OPTION,
                Origin::Line(number) => number & !IS_OPTION,
            },
        }
    }

    /// Where the bytes that it expects stand in [`Edits::expected`]; `None` for an unconditional edit.
    pub fn expects(&self) -> Option<u64> {
        Some(self.expects).filter(|at| *at != NOTHING)
    }

    /// Where the user wrote it.
    pub fn origin(&self) -> Origin {
        match self.origin {
            0 => Origin::Arguments,
            number if number & IS_OPTION != 0 => Origin::Option(number & !IS_OPTION),
            number => Origin::Line(number),
        }
    }
}

/// What a few edits have beside their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// Masks, as long as the edit.
    Masks {
        /// The bits that are changed; `None`: all.
        new: Option<Vec<u8>>,
        /// The bits that are compared; `None`: all.
        old: Option<Vec<u8>>,
    },
    /// The new bytes are a checksum.
    Sum(SumOf),
}

/// Where an edit was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `--offset`, `--find` and the like.
    Arguments,
    /// The n-th `--edit`, from 1.
    Option(u32),
    /// A line of the script, from 1.
    Line(u32),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Arguments => f.write_str("the edit of the command line"),
            Origin::Option(number) => write!(f, "--edit {number}"),
            Origin::Line(number) => write!(f, "line {number}"),
        }
    }
}

/// Edits in ascending order that do not overlap, with their bytes. The new bytes stand in the order of the edits,
/// without gaps. [`super::Builder`] makes them.
#[derive(Debug, Default)]
pub struct Edits {
    /// The edits.
    pub list: Vec<Edit>,
    /// The new bytes.
    pub new: Spool,
    /// The bytes that edits expect.
    pub expected: Spool,
    /// What a few of the edits have beside their bytes.
    pub extras: Vec<Extra>,
    /// The file's length afterwards, in bytes.
    pub len_after: u64,
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
    /// Where the edit was written.
    pub origin: Origin,
}

/// How sure the new bytes are when the work is done.
#[derive(Debug, Clone, Copy)]
pub enum Durability<'a> {
    /// In the page cache, as a store leaves them.
    Cached,
    /// On the device.
    Synced,
    /// On the device, and old or new as a whole if the power fails on the way there.
    Atomic(&'a Place),
}

/// How many bytes of a mismatch are shown.
const SHOWN: u64 = 16;

/// Edits closer than this are read together.
const NEAR: u64 = 4096;

/// The most that is read together, and the step in which a longer edit is read.
const TOGETHER: u64 = 256 << 10;

/// Buffers that every edit uses anew.
#[derive(Default)]
struct Scratch {
    new: Vec<u8>,
    expected: Vec<u8>,
}

/// What is known of one edit, its bytes seen so far.
#[derive(Default)]
struct Verdict {
    differing: u64,
    unexpected: Option<u64>,
}

impl Edits {
    /// The range from the first edit to the last.
    pub fn span(&self) -> Span {
        match (self.list.first(), self.list.last()) {
            (Some(first), Some(last)) => first.span.join(last.span),
            _ => Span::first(0),
        }
    }

    /// Reads what every edit would replace and holds it against what it expects; then computes the checksums, which
    /// see all the others. A range that holds the new bytes already is as good as one that holds the expected ones,
    /// unless `strict`: so the same edits twice change nothing. What lies past the end of the file counts as zeros.
    ///
    /// # Errors
    /// What keeps the file or the edits' bytes from being read.
    pub fn compare(&mut self, region: &mut Region, strict: bool, step: &mut Step<'_>) -> anyhow::Result<Comparison> {
        let mut all = Comparison::default();
        let mut scratch = Scratch::default();
        let mut have = Vec::new();
        let mut differs = vec![false; self.list.len()];
        // Checksums that do not stand on what they expect; whether they are right already is known only at the end.
        let mut doubtful = Vec::new();
        let mut index = 0;
        while index < self.list.len() {
            let (count, group) = self.together(index);
            // Either several edits in one part, or one edit in several.
            let step_len = if count > 1 { u64::MAX } else { TOGETHER };
            let mut verdict = Verdict::default();
            for part in group.windows(step_len) {
                read_or_zeros(region, part, &mut have)?;
                for (nth, differs) in differs[index..index + count].iter_mut().enumerate() {
                    let edit = self.list[index + nth];
                    let both = edit.span.intersect(part);
                    let into = (both.start() - part.start()) as usize;
                    let bytes = &have[into..into + both.len() as usize];
                    all.old.push(bytes)?;
                    self.judge(edit, both.start(), bytes, &mut scratch, &mut verdict)?;
                    if both.end() < edit.span.end() {
                        continue;
                    }
                    let Verdict { differing, unexpected } = std::mem::take(&mut verdict);
                    *differs = differing > 0;
                    all.differing += differing;
                    let Some(offset) = unexpected else { continue };
                    if strict || differing > 0 {
                        let mismatch = self.mismatch(&edit, offset, &mut all.old)?;
                        all.mismatches.push(mismatch);
                    } else if edit.extra > 0 {
                        doubtful.push((index + nth, offset));
                    }
                }
                step(all.old.len())?;
            }
            index += count;
        }
        sums::compute(
            self,
            region,
            |index, count| {
                differs[index] = count > 0;
                all.differing += count;
            },
            &mut all.old,
        )?;
        for (index, offset) in doubtful.into_iter().filter(|(index, _)| differs[*index]) {
            let mismatch = self.mismatch(&self.list[index].clone(), offset, &mut all.old)?;
            all.mismatches.push(mismatch);
        }
        all.todo = (self.list.iter().zip(differs))
            .filter(|(_, differs)| *differs)
            .map(|(edit, _)| Piece {
                at: edit.span.start(),
                len: edit.span.len(),
                from: edit.from,
            })
            .collect();
        Ok(all)
    }

    /// How many edits from `index` on are read together, and the range that holds them.
    fn together(&self, index: usize) -> (usize, Span) {
        let mut span = self.list[index].span;
        let mut count = 1;
        for edit in &self.list[index + 1..] {
            let joined = span.join(edit.span);
            if edit.span.start() > span.end() + NEAR || joined.len() > TOGETHER {
                break;
            }
            span = joined;
            count += 1;
        }
        (count, span)
    }

    /// Looks at a part of an edit, of which the file has `have` at `at`; fills in the bits that a mask keeps.
    fn judge(
        &mut self,
        edit: Edit,
        at: u64,
        have: &[u8],
        scratch: &mut Scratch,
        verdict: &mut Verdict,
    ) -> anyhow::Result<()> {
        let into = at - edit.span.start();
        let part = into as usize..into as usize + have.len();
        let extra = edit.extra.checked_sub(1).map(|index| &self.extras[index as usize]);
        let (mask, old_mask) = match extra {
            Some(Extra::Masks { new, old }) => (new.as_deref(), old.as_deref()),
            _ => (None, None),
        };
        if let Some(from) = edit.expects().filter(|_| verdict.unexpected.is_none()) {
            let expected = match old_mask {
                None => self.expected.slice(from + into, have.len(), &mut scratch.expected)?,
                Some(mask) => {
                    scratch.expected.resize(have.len(), 0);
                    self.expected.read_at(from + into, &mut scratch.expected)?;
                    keep_outside(&mask[part.clone()], have, &mut scratch.expected);
                    &scratch.expected
                }
            };
            verdict.unexpected = first_difference(expected, have).map(|index| at + index as u64);
        }
        if matches!(extra, Some(Extra::Sum(_))) {
            return Ok(());
        }
        let new = match mask {
            None => self.new.slice(edit.from + into, have.len(), &mut scratch.new)?,
            Some(mask) => {
                scratch.new.resize(have.len(), 0);
                self.new.read_at(edit.from + into, &mut scratch.new)?;
                keep_outside(&mask[part], have, &mut scratch.new);
                self.new.overwrite(edit.from + into, &scratch.new)?;
                &scratch.new
            }
        };
        if new != have {
            verdict.differing += count_differing(new, have);
        }
        Ok(())
    }

    fn mismatch(&mut self, edit: &Edit, offset: u64, old: &mut Spool) -> anyhow::Result<Mismatch> {
        let into = offset - edit.span.start();
        let len = (edit.span.end() - offset).min(SHOWN) as usize;
        let (mut found, mut expected) = (vec![0; len], vec![0; len]);
        old.read_at(edit.from + into, &mut found)?;
        self.expected
            .read_at(edit.expects().unwrap_or(0) + into, &mut expected)?;
        let extra = edit.extra.checked_sub(1).map(|index| &self.extras[index as usize]);
        if let Some(Extra::Masks { old: Some(mask), .. }) = extra {
            keep_outside(&mask[into as usize..], &found, &mut expected);
        }
        Ok(Mismatch {
            offset,
            found,
            expected,
            origin: edit.origin(),
        })
    }

    /// Stores the edits that `comparison` found to change something and sets the length: all of it, or nothing.
    ///
    /// # Errors
    /// What keeps a page from being written. The file is then as it was, unless the error says that it is in doubt,
    /// or that it changed and is not proven durable.
    pub fn store(
        &mut self,
        region: &mut Region,
        comparison: &mut Comparison,
        durability: Durability<'_>,
        step: &mut Step<'_>,
    ) -> anyhow::Result<()> {
        let len_before = region.span().end();
        let todo = &comparison.todo;
        // Almost always all of them; a million need not be copied.
        let within = todo.partition_point(|piece| piece.span().end() <= len_before);
        let edge = todo.get(within).and_then(|piece| piece.before(len_before));
        region
            .make_writable(&todo[..within], step)
            .and_then(|()| region.make_writable(edge.as_slice(), step))
            .or_fail(|| Failure::trouble("nothing was written"))?;
        // Storing must need nothing that could run out once the journal is made, such as descriptors.
        self.new.fd()?;
        if let Durability::Atomic(place) = durability {
            let old = &mut comparison.old;
            let journal = Journal::begin(place, region, self.len_after, todo, old, &mut self.new)?;
            let outcome = self.all_or_nothing(region, comparison, true, step);
            return journal.close(outcome);
        }
        self.all_or_nothing(region, comparison, false, step)?;
        if matches!(durability, Durability::Synced) {
            self.flush(region).or_fail(not_durable)?;
        }
        Ok(())
    }

    /// Stores, and puts back what was stored before a failure; with `durable`, either is on the device then.
    fn all_or_nothing(
        &mut self,
        region: &mut Region,
        comparison: &mut Comparison,
        durable: bool,
        step: &mut Step<'_>,
    ) -> anyhow::Result<()> {
        let len = region.span().end();
        let stored = self.attempt(region, &comparison.todo, durable, step);
        if stored.is_err() {
            // Nor must putting back: the payload has served, and its file has all the room that the old bytes take.
            comparison.old.take_over(&mut self.new);
        }
        let before = Before {
            pieces: &comparison.todo,
            old: Some(&mut comparison.old),
            len,
            flush: durable,
        };
        or_put_back(region, before, stored)
    }

    fn attempt(
        &mut self,
        region: &mut Region,
        todo: &[Piece],
        durable: bool,
        step: &mut Step<'_>,
    ) -> Result<(), Stopped> {
        let len_before = region.span().end();
        if self.len_after > len_before {
            region.resize(self.len_after, false)?;
            // Blocks alone do not make a page writable (a copy-on-write file system may want more).
            region.make_writable(todo, step)?;
        }
        let payload = self.new.fd().map_err(Stopped::early)?;
        region.store(todo, payload, step)?;
        let stored = todo.iter().map(|piece| piece.len).sum();
        let late = |error: crate::mapping::Error| Stopped {
            error: error.into(),
            stored,
        };
        if self.len_after < len_before {
            region.resize(self.len_after, true).map_err(late)?;
        }
        if durable {
            self.flush(region).map_err(late)?;
        }
        Ok(())
    }

    /// Makes the edits durable, and the length that they leave, by one barrier.
    fn flush(&self, region: &mut Region) -> crate::mapping::Result<()> {
        region.flush(self.span().intersect(region.span()), false).map(drop)
    }
}

fn not_durable() -> Failure {
    let tip = "the device may have lost data: see 'dmesg', write the bytes again and sync again";
    Failure::new(Exit::NotDurable, "the file was changed, but is not proven durable").tip(tip)
}

/// The bytes of `span`; zeros for what lies past the end of the region.
pub(super) fn read_or_zeros(region: &mut Region, span: Span, buf: &mut Vec<u8>) -> anyhow::Result<()> {
    let there = span.intersect(region.span());
    buf.clear();
    buf.resize(span.len() as usize, 0);
    if !there.is_empty() {
        region.read(there.start(), &mut buf[..there.len() as usize])?;
    }
    Ok(())
}

/// Puts the bits of `have` that lie outside `mask` into `bytes`.
fn keep_outside(mask: &[u8], have: &[u8], bytes: &mut [u8]) {
    for ((byte, have), mask) in bytes.iter_mut().zip(have).zip(mask) {
        *byte = (*byte & mask) | (have & !mask);
    }
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
