//! Writes a dump to stdout: decides which bytes are formatted in sequence, and which are formatted by several threads.

use super::CatPlan;
use crate::dump::{Dump, EncodedRows};
use crate::edit::{Error, Result};
use crate::mapping::{self, ByteRange, Chunk, Content, Cut, Operation, Region, scan};
use crate::output;
use crate::progress::Progress;

/// How many bytes of text are buffered before they are written out.
const TEXT: usize = 256 << 10;

/// How many parts each thread may format ahead of the consumer.
pub(super) const AHEAD: usize = 6;

/// Several threads format the rows if there are at least this many bytes of data.
const APART: u64 = 1 << 20;

/// A range that reads as zeros because there is no data.
#[derive(Debug, Clone, Copy)]
pub(super) struct HoleRange {
    pub(super) span: ByteRange,
    /// Whether it has blocks that were never written to.
    is_preallocated: bool,
}

impl HoleRange {
    pub(super) fn feed(&self, dump: &mut dyn Dump, out: &mut Vec<u8>) {
        match self.is_preallocated {
            true => dump.preallocated(self.span.len(), out),
            false => dump.hole(self.span.len(), out),
        }
    }
}

/// Cuts `span`, in which there is no data, into the parts with and without blocks.
pub(super) fn gaps(region: &Region, span: ByteRange) -> Vec<HoleRange> {
    let mut gaps = Vec::new();
    if span.is_empty() {
        return gaps;
    }
    let gap = |span: ByteRange, is_preallocated| HoleRange { span, is_preallocated };
    let mut at = span.start();
    for given in region.preallocated(span) {
        let hole = ByteRange::new(at, given.start()).filter(|hole| !hole.is_empty());
        gaps.extend(hole.map(|hole| gap(hole, false)));
        gaps.push(gap(given, true));
        at = given.end();
    }
    let hole = Some(span.from(at)).filter(|hole| !hole.is_empty());
    gaps.extend(hole.map(|hole| gap(hole, false)));
    gaps
}

/// A dump that is being written.
pub(super) struct Dumping<'a> {
    plan: &'a CatPlan<'a>,
    dump: Box<dyn Dump>,
    /// Another dump of this kind, which is never changed: threads format parts with it.
    layout: Box<dyn Dump>,
    /// The text that is not written yet.
    text: Vec<u8>,
    progress: &'a mut Progress,
}

impl<'a> Dumping<'a> {
    /// A dump of the plan's range; `dump` creates one that begins at its start.
    pub(super) fn new(plan: &'a CatPlan<'a>, dump: impl Fn() -> Box<dyn Dump>, progress: &'a mut Progress) -> Self {
        Dumping {
            plan,
            dump: dump(),
            layout: dump(),
            text: Vec::with_capacity(TEXT * 2),
            progress,
        }
    }

    /// Writes the whole dump.
    pub(super) fn run(mut self, region: &mut Region) -> Result<()> {
        let span = self.plan.span;
        let mut at = span.start();
        while at < span.end() {
            // If each byte has to be loaded, a hole is simply loaded as zeros.
            let data = if self.dump.names_holes() && self.plan.access.is_none() {
                region.next_data(at, span)?
            } else {
                Some(span.from(at))
            };
            let begin = data.map_or(span.end(), ByteRange::start);
            let hole = span.from(at).split(begin - at).0;
            // A part of the file that was cut off in the meantime looks like a hole.
            let there = region.check_there(hole);
            let end = there.as_ref().err().and_then(mapping::Error::place).unwrap_or(begin);
            for gap in gaps(region, hole.split(end.clamp(at, begin) - at).0) {
                gap.feed(&mut *self.dump, &mut self.text);
            }
            let result = match (there, data) {
                (Ok(()), Some(data)) => self.data(region, data),
                (there, _) => there.map_err(Error::from),
            };
            if result.is_err() {
                // Shows everything up to the first byte that could not be read.
                self.dump.cut(&mut self.text);
                output::out(&self.text)?;
                return result;
            }
            let Some(data) = data else { break };
            at = data.end();
        }
        self.dump.finish(&mut self.text);
        output::out(&self.text)
    }

    fn data(&mut self, region: &mut Region, data: ByteRange) -> Result<()> {
        if data.len() < APART || self.plan.access.is_some() {
            return self.in_turn(region, data);
        }
        let (row, before) = self.dump.next_row();
        let (head, rest) = data.split(before);
        let (rows, tail) = rest.split(rest.len() / row * row);
        self.in_turn(region, head)?;
        let mut done = rows.start();
        match self.apart(region, rows, row, &mut done) {
            // Everything before the first bad byte is to be shown, to the byte, so it is read again in sequence.
            Err(error) if error.core().is_some() => self.in_turn(region, rows.from(done))?,
            result => result?,
        }
        self.in_turn(region, tail)
    }

    fn in_turn(&mut self, region: &mut Region, span: ByteRange) -> Result<()> {
        self.plan.chunks(region, span, |chunk, bytes| {
            self.dump.bytes(bytes, &mut self.text);
            if self.text.len() >= TEXT {
                output::out(&self.text)?;
                self.text.clear();
            }
            Ok(self.progress.step(chunk + bytes.len() as u64 - self.plan.span.start())?)
        })
    }

    /// Formats `rows` on several threads. `done` is set to the end of what is shown.
    fn apart(&mut self, region: &mut Region, rows: ByteRange, row: u64, done: &mut u64) -> Result<()> {
        let layout = &*self.layout;
        let lay_out = |piece: &Chunk<(), 1>, [content]: [Content<'_>; 1], part: &mut EncodedRows| match content {
            Content::Bytes(bytes) => layout.part(piece.range.start(), bytes, part),
            // Holes are read here, so there are none.
            Content::Zeros(_) => {}
        };
        let source = region.source(Operation::Read, rows)?;
        scan([source], AHEAD, Cut::rows(rows, row), lay_out, |piece, part| {
            let shown = self.dump.join(part, &mut self.text);
            *done += part.bytes();
            if self.text.len() + shown.len() < TEXT {
                self.text.extend_from_slice(shown);
            } else {
                output::out(&self.text)?;
                self.text.clear();
                output::out(shown)?;
            }
            Ok::<_, Error>(self.progress.step(piece.range.end() - self.plan.span.start())?)
        })
    }
}
