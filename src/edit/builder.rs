//! Makes [`Edits`] from what users write: resolves places, gathers bytes, checks order and bounds.

mod sort;

use super::edits::{EditDetail, EditMeta, Edits, MOST_CUT, ResolvedChecksum};
use super::fast_lines::FastLines;
use super::value::Value;
use crate::edit::error::{Error, Outcome, Result, SourceLocation};
use crate::mapping::{self, ByteRange, ErrorKind, Region, Segment};
use crate::number::{Offset, ParseError, Qty};
use crate::text::plural;
use nix::errno::Errno;
use std::str::FromStr;

/// Gathers edits in the order in which they are written.
#[derive(Debug)]
pub struct Builder {
    edits: Edits,
    /// The file's length and page size, in bytes.
    len: u64,
    page: u64,
    /// The part of the file that is mapped.
    mapped: ByteRange,
    /// Whether the region is a linear view of a file, so that the limit is the file's end.
    of_file: bool,
    grow: bool,
    /// How many bytes the file system has left for the file to grow by, if known.
    free: u64,
    /// Whether the file is a device without a length; `len` is then a substitute.
    endless: bool,
    /// Whether old and new bytes are swapped.
    reverse: bool,
    ascending: bool,
    /// The end of the previous edit.
    previous: Option<u64>,
}

/// Where an edit is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditPlace {
    /// At an offset.
    At(Offset),
    /// This many bytes after the end of the previous edit.
    Behind(Qty),
}

impl FromStr for EditPlace {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<EditPlace, Self::Err> {
        match text.strip_prefix('+') {
            Some(distance) => distance.parse().map(EditPlace::Behind),
            None => text.parse().map(EditPlace::At),
        }
    }
}

impl Builder {
    /// Creates a builder for edits of a region. With `grow`, they may reach past its end; with `reverse`, each is
    /// undone.
    pub fn new(region: &Region, grow: bool, reverse: bool) -> Builder {
        Builder {
            edits: Edits {
                is_view: region.layout().is_some(),
                len_after: region.length(),
                ..Edits::default()
            },
            len: region.length(),
            page: region.page(),
            mapped: region.span(),
            of_file: region.backing().facts().is_file() && region.layout().is_none(),
            grow,
            free: region.backing().room(),
            endless: !region.backing().facts().has_end(),
            reverse,
            ascending: true,
            previous: None,
        }
    }

    /// How many bytes can be written at `at`, at most.
    pub fn room(&self, at: u64) -> u64 {
        if self.grow {
            (i64::MAX as u64).saturating_sub(at)
        } else {
            self.len.saturating_sub(at)
        }
    }

    /// Whether reversing a growth cuts off what it added.
    fn cuts(&self) -> bool {
        self.reverse && self.edits.len_after < self.len
    }

    /// The reason why a range must not reach past `end`.
    fn ends_at(&self, end: u64) -> ErrorKind {
        match self.of_file {
            true => ErrorKind::PastEnd { len: end },
            false => ErrorKind::NotMapped(self.mapped),
        }
    }

    /// Rejects a range that is not mapped. What the file grows by will be mapped if the mapping reaches the file's end.
    fn check_mapped(&self, action: &'static str, span: ByteRange) -> crate::mapping::Result<()> {
        let grows = self.mapped.end() >= self.len;
        let end = if grows { u64::MAX } else { self.mapped.end() };
        let within = self.mapped.start() <= span.start() && span.end() <= end;
        if within || span.is_empty() {
            return Ok(());
        }
        Err(mapping::Error::new(action, Some(span), ErrorKind::NotMapped(self.mapped)))
    }

    /// Resolves a place to an offset.
    pub fn place(&self, source: &EditPlace) -> Result<u64> {
        match source {
            EditPlace::At(offset) if self.endless && offset.is_from_end() => Err(no_end()),
            EditPlace::At(offset) if self.grow => Ok(offset.place(self.len, self.page)?),
            EditPlace::At(offset) => Ok(offset.resolve(self.len, self.page)?),
            EditPlace::Behind(distance) => {
                let Some(previous) = self.previous else {
                    let failure = Error::untouched("there is no previous edit from which '+' could count");
                    return Err(failure.tip("begin with an offset, such as 0x40"));
                };
                let distance = distance.bytes(self.page)?;
                previous
                    .checked_add(distance)
                    .ok_or_else(|| past_end(previous, distance, self.ends_at(self.len), self.grow))
            }
        }
    }

    /// Adds an edit whose bytes are known already.
    ///
    /// # Errors
    /// See [`Builder::add`].
    pub fn add_bytes(&mut self, at: u64, old: Option<&[u8]>, new: &[u8], origin: SourceLocation) -> Result<()> {
        let (old, new) = match (old, self.reverse) {
            (Some(old), true) => (Some(new), old),
            (None, true) => return Err(one_way("an edit without old bytes")),
            (old, false) => (old, new),
        };
        if let Some(old) = old
            && old.len() != new.len()
        {
            return Err(unequal(old.len() as u64, new.len() as u64));
        }
        let end = at.saturating_add(new.len() as u64);
        // Bytes written after the old end are removed with the new end, and an edit across the old end is truncated
        // there.
        let left = match self.cuts() {
            true => new.len().min(self.edits.len_after.saturating_sub(at) as usize),
            false => new.len(),
        };
        if left > 0 || new.is_empty() {
            self.edits.expected.push(old.map_or(&[], |old| &old[..left]))?;
            let from = self.edits.new.len();
            self.edits.new.push(&new[..left])?;
            self.list(at, from, old.is_some(), None, origin)?;
        }
        // A '+' counts from the end that the user wrote, truncated or not.
        self.previous = Some(end);
        Ok(())
    }

    /// Adds the edits of a block that `lines` lines precede. Returns false, with nothing added, if one of them has to
    /// be checked individually.
    pub fn add_plain(&mut self, plain: &FastLines, lines: u32) -> Result<bool> {
        let most = if self.grow { i64::MAX as u64 } else { self.len };
        if plain.end > most || self.cuts() || !self.mapped.contains(ByteRange::first(self.len)) {
            return Ok(false);
        }
        let (Some(first), Some(last)) = (plain.list.first(), plain.list.last()) else {
            return Ok(true);
        };
        let (old, new) = match self.reverse {
            true => (&plain.new, &plain.old),
            false => (&plain.old, &plain.new),
        };
        let edits = &mut self.edits;
        self.ascending &= plain.ascending && edits.list.last().is_none_or(|last| last.at() + last.len() <= first.at());
        self.previous = Some(last.at() + last.len());
        let before = edits.new.len();
        let moved = |edit: &Segment| Segment::of(edit.range(), before + edit.from);
        edits.list.extend(plain.list.iter().map(moved));
        let note = |line: &u32| EditMeta::new(true, 0, SourceLocation::Line(lines + line));
        edits.notes.extend(plain.lines.iter().map(note));
        edits.expected.push(old)?;
        edits.new.push(new)?;
        Ok(true)
    }

    /// Adds an edit at `at`: the values `new`, one after the other. If there are values `old`, the file must hold them.
    /// If `exact` is given, the values must fill that range.
    ///
    /// # Errors
    /// If the range reaches past the end, if old and new bytes differ in length, or if a value is empty.
    pub fn add(
        &mut self,
        at: u64,
        exact: Option<ByteRange>,
        old: Option<&[Value]>,
        new: &[Value],
        origin: SourceLocation,
    ) -> Result<()> {
        if let Some(old) = old.filter(|_| self.cuts()) {
            let flat = |values: &[Value]| -> Result<Vec<u8>> {
                let bytes = values.iter().map(|value| match value {
                    Value::Bytes(bytes) => Ok(bytes.as_slice()),
                    _ => Err(one_way("an edit with other than plain bytes, in a script that lengthens the file,")),
                });
                Ok(bytes.collect::<Result<Vec<_>, _>>()?.concat())
            };
            return self.add_bytes(at, Some(&flat(old)?), &flat(new)?, origin);
        }
        let (old, new) = match (old, self.reverse) {
            (Some(old), true) => (Some(new), old),
            (None, true) => return Err(one_way("an edit without old bytes")),
            (old, false) => (old, new),
        };
        let expects = self.edits.expected.len();
        let from = self.edits.new.len();
        let end = self.ends_at(self.len);
        if let Some(place) = exact.filter(|place| place.len() > self.room(at)) {
            return Err(past_end(at, place.len(), end, self.grow));
        }
        let room = exact.map_or(self.room(at), ByteRange::len);
        let too_many = |len: u64| -> Error {
            match exact {
                Some(place) => unfilled(place, &format!("at least {}", plural(len, "byte"))),
                None => past_end(at, len, end.clone(), self.grow),
            }
        };
        // Values that are too long are not read at all, and those from outside only as far as there is room.
        let known = known_len(new, self.page)?;
        if known > room {
            return Err(too_many(known));
        }
        if at.saturating_add(known).saturating_sub(self.len) > self.free {
            return Err(mapping::Error::new("write", ByteRange::at(at, known), ErrorKind::Full(Errno::ENOSPC)).into());
        }
        let mut parts: Vec<(u64, Option<EditDetail>)> = Vec::new();
        for value in new {
            let into = self.edits.new.len() - from;
            value.spool(&mut self.edits.new, (room - into).saturating_add(1), self.page)?;
            let len = self.edits.new.len() - from;
            if len > room {
                return Err(too_many(len));
            }
            parts.push((into, self.extra(value, ByteRange::at(at + into, len - into))?));
        }
        let len = self.edits.new.len() - from;
        if let Some(place) = exact.filter(|place| len > 0 && len != place.len()) {
            return Err(unfilled(place, &plural(len, "byte")));
        }
        let mut old_masks = None;
        if let Some(old) = old {
            if old.iter().any(|value| matches!(value, Value::Sum(_))) {
                let failure = Error::untouched("a checksum can be written, but not expected");
                return Err(failure.tip("expect the bytes themselves"));
            }
            let known = known_len(old, self.page)?;
            if known > len {
                return Err(unequal(known, len));
            }
            // The masks are as long as the bytes, so they are made only if one is needed.
            let mut masks = old.iter().any(|value| matches!(value, Value::Masked(_))).then(Vec::new);
            for value in old {
                let begin = self.edits.expected.len();
                let most = (len + 1).saturating_sub(begin - expects);
                value.spool(&mut self.edits.expected, most, self.page)?;
                if let Some(masks) = &mut masks {
                    mask_of(value, self.edits.expected.len() - begin, masks);
                }
            }
            let expected = self.edits.expected.len() - expects;
            if expected != len {
                return Err(unequal(expected, len));
            }
            old_masks = masks;
        }
        // Values without masks or checksums become a single edit; otherwise each value becomes an edit.
        if old_masks.is_none() && parts.iter().all(|(_, extra)| extra.is_none()) {
            parts.truncate(1);
        }
        let ends: Vec<u64> = parts.iter().skip(1).map(|part| part.0).chain([len]).collect();
        for ((into, extra), end) in parts.into_iter().zip(ends) {
            let compared = || old_masks.as_ref().map(|masks| masks[into as usize..end as usize].to_vec());
            let extra = match extra {
                Some(EditDetail::Masks { new, .. }) => Some(EditDetail::Masks { new, old: compared() }),
                None if old_masks.is_some() => Some(EditDetail::Masks {
                    new: None,
                    old: compared(),
                }),
                // An edit has either a mask or a checksum, and without its mask the wrong bits would be compared.
                Some(EditDetail::Sum(_)) if compared().is_some_and(|masks| masks.iter().any(|bits| *bits != 0xff)) => {
                    let failure = Error::untouched("masked bits cannot be expected where a checksum is written");
                    return Err(failure.tip("expect all of its four bytes, or none: OFFSET: -> crc32le:0..end-4"));
                }
                extra => extra,
            };
            self.list_until(at + into, from + into, end - into, old.is_some(), extra, origin)?;
            if into > 0
                && let Some(note) = self.edits.notes.last_mut()
            {
                *note = note.continuing();
                self.edits.continued += 1;
            }
        }
        Ok(())
    }

    fn extra(&self, value: &Value, place: Option<ByteRange>) -> Result<Option<EditDetail>> {
        match value {
            Value::Masked(masked) => Ok(Some(EditDetail::Masks {
                new: Some(masked.mask.clone()),
                old: None,
            })),
            Value::Sum(sum) => {
                if self.endless {
                    return Err(no_end());
                }
                // A checksum may cover what the file grows by; `finish` knows where that ends.
                let (start, end) = match self.grow {
                    true => sum.range.place(self.len, self.page)?,
                    false => sum.range.resolve(self.len, self.page)?,
                };
                let range = ByteRange::first(end).from(start);
                if !self.grow && end > self.len {
                    return Err(mapping::Error::new("sum", Some(range), ErrorKind::PastEnd { len: self.len }).into());
                }
                self.check_mapped("sum", range)?;
                if let Some(place) = place.filter(|place| !place.intersect(range).is_empty()) {
                    let failure =
                        Error::untouched(format!("the checksum would be inside the range {range} that it covers"));
                    let (order, before, after) = (if sum.big { "be" } else { "le" }, place.start(), place.end());
                    return Err(failure.tip(match (range.start() < before, after < range.end()) {
                        (true, _) => {
                            format!("leave its four bytes out: crc32{order}:{:#x}..{before:#x}", range.start())
                        }
                        (_, true) => format!("leave its four bytes out: crc32{order}:{after:#x}..{:#x}", range.end()),
                        _ => "give a range that does not have its own four bytes".into(),
                    }));
                }
                Ok(Some(EditDetail::Sum(ResolvedChecksum { range, big: sum.big })))
            }
            _ => Ok(None),
        }
    }

    fn list(
        &mut self,
        at: u64,
        from: u64,
        expects: bool,
        extra: Option<EditDetail>,
        origin: SourceLocation,
    ) -> Result<()> {
        let len = self.edits.new.len() - from;
        self.list_until(at, from, len, expects, extra, origin)
    }

    fn list_until(
        &mut self,
        at: u64,
        from: u64,
        len: u64,
        expects: bool,
        extra: Option<EditDetail>,
        origin: SourceLocation,
    ) -> Result<()> {
        if len == 0 {
            let failure = Error::untouched("there are no bytes to write: the input is empty");
            return Err(failure.tip("give a VALUE, or send the bytes to stdin"));
        }
        if len > self.room(at) {
            return Err(past_end(at, len, self.ends_at(self.len), self.grow));
        }
        let Some(span) = ByteRange::at(at, len) else {
            return Err(past_end(at, len, self.ends_at(self.len), self.grow));
        };
        self.check_mapped("write", span)?;
        self.ascending &= self.edits.list.last().is_none_or(|last| last.at() + last.len() <= at);
        self.previous = Some(span.end());
        let extra = match extra {
            None => 0,
            Some(extra) => {
                self.edits.extras.push(extra);
                self.edits.extras.len()
            }
        };
        self.edits.list.push(Segment::of(span, from));
        self.edits.notes.push(EditMeta::new(expects, extra, origin));
        Ok(())
    }

    /// Sets the file's length from `before`, which the file must have now (or the new length already).
    ///
    /// # Errors
    /// If the file has another length, which is a mismatch, not a usage error.
    pub fn resize(&mut self, before: u64, after: Option<u64>, origin: SourceLocation) -> Result<()> {
        if self.endless {
            return Err(no_end());
        }
        let (before, after) = match after {
            Some(after) if self.reverse && after < before => return Err(one_way("what a script cuts off")),
            Some(after) if self.reverse => (after, Some(before)),
            after => (before, after),
        };
        if self.len != before && Some(self.len) != after {
            let message =
                format!("it has {:#x} bytes, but {origin} expects {before:#x}; nothing was written", self.len);
            return Err(Error::new(Outcome::Mismatch, message)
                .tip("the script was made for another file, or another version of it"));
        }
        if self.edits.len_after != self.len && Some(self.edits.len_after) != after {
            let failure = Error::untouched("an earlier line sets another length");
            return Err(failure.tip("give one size line"));
        }
        let Some(after) = after.filter(|after| *after != self.len) else {
            return Ok(());
        };
        // The edits so far were checked against the present length of the file.
        if let Some(SourceLocation::Line(line)) = self.edits.notes.last().map(|note| note.origin()) {
            let failure = Error::untouched(format!("the length is changed after the edit in line {line}"));
            return Err(failure.tip("put the size line before the edits"));
        }
        if after > i64::MAX as u64 {
            let failure = Error::untouched(format!("no file can have {after:#x} bytes"));
            return Err(failure.tip("64-bit file offsets end at 0x7fffffffffffffff"));
        }
        self.edits.len_after = after;
        if let Some(cut) = ByteRange::new(after, self.len) {
            if cut.len() > MOST_CUT {
                let failure =
                    Error::untouched(format!("{} are too many to cut off in a script", plural(cut.len(), "byte")));
                return Err(failure.tip("a script keeps what it cuts off; remap --size cuts without keeping"));
            }
            // Cut-off bytes are an edit like any other: kept, restored if necessary, and written into undo scripts.
            let from = self.edits.new.len();
            let previous = self.previous;
            self.edits.new.push_fill(0, cut.len())?;
            self.list(after, from, false, None, origin)?;
            // A '+' counts from the last edit that the user wrote, not from this one.
            self.previous = previous;
        } else {
            self.grow = true;
        }
        Ok(())
    }

    /// Returns the edits in the order in which they were added, even if several are at the same place: the effect on a
    /// register depends on the order.
    pub fn as_written(self) -> Edits {
        self.edits
    }

    /// Returns the edits in ascending order.
    ///
    /// # Errors
    /// If edits overlap, or if they leave a gap after the end of the file.
    pub fn finish(mut self) -> Result<Edits> {
        // Scripts mostly have ascending edits: then none overlap, and a million edits need not be checked again.
        if !self.ascending {
            self.edits.sort()?;
            self.refuse_overlap()?;
        }
        let mut end = self.edits.len_after.max(self.len);
        let list = &self.edits.list;
        let within = list.partition_point(|edit| edit.at() + edit.len() <= end);
        for edit in &list[within..] {
            if edit.at() > end {
                return Err(past_end(edit.at(), edit.len(), self.ends_at(end), self.grow));
            }
            end = end.max(edit.at() + edit.len());
        }
        if end > self.len {
            self.edits.len_after = self.edits.len_after.max(end);
        }
        self.check_sums()?;
        Ok(self.edits)
    }

    /// Rejects a checksum over bytes that are cut off, or that the file never has.
    fn check_sums(&self) -> Result<()> {
        let len = self.edits.len_after;
        for extra in &self.edits.extras {
            let EditDetail::Sum(ResolvedChecksum { range, .. }) = extra else {
                continue;
            };
            if range.end() > len && len < self.len {
                let failure = Error::untouched(format!("the checksum's range {range} includes bytes that are cut off"));
                return Err(failure.tip("give a range that remains"));
            }
            if range.end() > len {
                let failure =
                    Error::untouched(format!("cannot compute the checksum of {range}: the file will end at {len:#x}"));
                return Err(failure.tip(format!("give a range within 0..{len:#x}")));
            }
        }
        Ok(())
    }

    fn refuse_overlap(&self) -> Result<()> {
        let list = &self.edits.list;
        let Some(first) = list.windows(2).position(|pair| pair[1].at() < pair[0].at() + pair[0].len()) else {
            return Ok(());
        };
        let both = list[first].range().intersect(list[first + 1].range());
        let origin = |index: usize| self.edits.notes[index].origin();
        let message = format!("two edits write to {both}: {} and {}", origin(first), origin(first + 1));
        Err(Error::untouched(message).tip("leave out one of them, or combine them"))
    }
}

/// The known length of the values, in bytes: those that come from outside may be empty.
fn known_len(values: &[Value], page: u64) -> Result<u64, ParseError> {
    values.iter().try_fold(0u64, |known, value| Ok(known.saturating_add(value.len(page)?.unwrap_or(0))))
}

/// Appends the mask of `value`, which has `len` bytes.
fn mask_of(value: &Value, len: u64, masks: &mut Vec<u8>) {
    match value {
        Value::Masked(masked) => masks.extend(&masked.mask),
        _ => masks.resize(masks.len() + len as usize, 0xff),
    }
}

/// The error for a place counted from the end of a device, and for setting the length of a device.
pub(crate) fn no_end() -> Error {
    Error::untouched("a character device has no length, so no end to count from")
        .tip("write an offset, and a length if needed: --range 0x1000..+4")
}

fn one_way(what: &str) -> Error {
    let tip = "only OFFSET: OLD -> NEW can; apply the script that --undo wrote instead";
    Error::untouched(format!("{what} cannot be reversed")).tip(tip)
}

fn past_end(at: u64, len: u64, cause: ErrorKind, grow: bool) -> Error {
    let (range, _) = ByteRange::first(u64::MAX).from(at).split(len);
    let error = Error::from(mapping::Error::new("write", Some(range), cause));
    match grow {
        true => error.tip("with --grow an edit begins at the end of the file or before it; remap --size moves the end"),
        false => error,
    }
}

fn unfilled(place: ByteRange, given: &str) -> Error {
    let message = format!("the range {place} has {}, but {given} were given", plural(place.len(), "byte"));
    Error::untouched(message).tip("give only --offset to write all of them")
}

fn unequal(old: u64, new: u64) -> Error {
    let bytes = |count| plural(count, "byte");
    let message = format!("{} expected, but {} will be written", bytes(old), bytes(new));
    Error::untouched(message).tip("give both the same length")
}
