//! A dump on its way to stdout: which bytes are laid out in turn, and which apart, by as many threads as help.

use super::CatPlan;
use crate::dump::{Dump, EncodedRows};
use crate::edit::{Error, Result};
use crate::mapping::{self, ByteRange, Chunk, Content, Cut, Operation, Region, scan};
use crate::output;
use crate::progress::Progress;

/// How much text is gathered before it is written out, in bytes.
const TEXT: usize = 256 << 10;

/// How many parts that are not due yet each thread may have laid out.
pub(super) const AHEAD: usize = 6;

/// From so many bytes of data on, rows are laid out apart.
const APART: u64 = 1 << 20;

/// A range that reads as zeros because there is no data.
#[derive(Debug, Clone, Copy)]
pub(super) struct HoleRange {
    pub(super) span: ByteRange,
    /// Whether it has blocks, which were never written.
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

/// `span`, in which there is no data, cut into what has blocks and what has none.
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

/// A dump in the making.
pub(super) struct Dumping<'a> {
    plan: &'a CatPlan<'a>,
    dump: Box<dyn Dump>,
    /// Another like it, in which nothing changes: parts are laid out by it.
    layout: Box<dyn Dump>,
    /// What is not written yet.
    text: Vec<u8>,
    progress: &'a mut Progress,
}

impl<'a> Dumping<'a> {
    /// Of the plan's range; `dump` makes one from its start.
    pub(super) fn new(plan: &'a CatPlan<'a>, dump: impl Fn() -> Box<dyn Dump>, progress: &'a mut Progress) -> Self {
        Dumping {
            plan,
            dump: dump(),
            layout: dump(),
            text: Vec::with_capacity(TEXT * 2),
            progress,
        }
    }

    /// Writes all of it.
    pub(super) fn run(mut self, region: &mut Region) -> Result<()> {
        let span = self.plan.span;
        let mut at = span.start();
        while at < span.end() {
            // A hole is what a load finds to be zeros, where each byte is to be loaded.
            let data = if self.dump.names_holes() && self.plan.access.is_none() {
                region.next_data(at, span)?
            } else {
                Some(span.from(at))
            };
            let begin = data.map_or(span.end(), ByteRange::start);
            let hole = span.from(at).split(begin - at).0;
            // What was cut off meanwhile looks like a hole.
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
                // Up to the first byte that could not be had.
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
            // What stands before the first bad byte is to be shown, to the byte, and so is read once more by itself.
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
            Ok(self
                .progress
                .step(chunk + bytes.len() as u64 - self.plan.span.start())?)
        })
    }

    /// `done` is where what is shown ends.
    fn apart(&mut self, region: &mut Region, rows: ByteRange, row: u64, done: &mut u64) -> Result<()> {
        let layout = &*self.layout;
        let lay_out = |piece: &Chunk<(), 1>, [content]: [Content<'_>; 1], part: &mut EncodedRows| match content {
            Content::Bytes(bytes) => layout.part(piece.range.start(), bytes, part),
            // Holes are read.
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
