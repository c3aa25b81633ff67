//! `cat --watch`: shows one range repeatedly, and marks what has changed since the last time.

use super::dumping::{HoleRange, gaps};
use super::{CatPlan, VerbContext, fitted};
use crate::cmd::options::{size, unless_cut_short};
use crate::dump::{self, Style};
use crate::edit::{Error, Outcome, Result};
use crate::mapping::{ByteRange, ErrorKind, Region};
use crate::number::human;
use crate::output;
use crate::report::{self, Report};
use crate::signals::Signals;
use crate::text;
use serde_json::json;
use std::time::Duration;

/// How many bytes can be watched at most: they are kept twice, and their text as well.
const MOST: u64 = 1 << 20;

/// Shows the range repeatedly until there is a signal: in place on a terminal, otherwise one dump after the other.
pub(super) fn watch(
    region: &mut Region,
    plan: &CatPlan<'_>,
    interval: Duration,
    context: VerbContext<'_>,
) -> Result<()> {
    let (format, style) = match plan.dump {
        Some((format, style)) if format.has_rows() => (format, style),
        _ => {
            let failure = Error::untouched("--watch marks what changes, and this format has no rows to mark");
            return Err(failure.tip("leave out --format, or give another, such as hex or u32le"));
        }
    };
    if plan.span.len() > MOST {
        let message =
            format!("{} is {}, and --watch compares at most {}", plan.span, size(plan.span.len()), human(MOST));
        let tip = "give a part: --offset OFFSET --length 256";
        return Err(Error::untouched(message).tip(tip));
    }
    // Marks take two columns unless they are colours.
    let margin = if style.color { 0 } else { 2 };
    let signals = Signals::hold(&[])?;
    let mut before = None;
    loop {
        region.refresh()?;
        unless_cut_short(region, context, Outcome::Untouched)?;
        let look = Snapshot::at(region, plan)?;
        let changed = look.changed(before.as_ref());
        if context.globals.json {
            output::out(look.json(plan, &changed, context).as_bytes())?;
        } else {
            let style = fitted(style, plan.span.end(), margin);
            report::redraw(&look.text(format, style, changed), &left_out)?;
        }
        before = Some(look);
        if signals.wait(Some(interval)).is_some() {
            return Ok(());
        }
    }
}

/// The content of the range at one moment.
struct Snapshot {
    start: u64,
    /// The bytes; zeros for a hole.
    bytes: Vec<u8>,
    /// The parts without data, in ascending order.
    gaps: Vec<HoleRange>,
}

impl Snapshot {
    /// Reads what exists of the plan's range; a file may be shorter than before, and longer again the next time.
    fn at(region: &mut Region, plan: &CatPlan<'_>) -> Result<Snapshot> {
        let is_file = region.backing().facts().is_file();
        let there = if is_file {
            plan.span.intersect(ByteRange::first(region.length()))
        } else {
            plan.span
        };
        // If the file ends within a unit, the units before it are complete.
        let there = match plan.access {
            Some(width) => {
                let whole = there.len() / width.bytes() * width.bytes();
                ByteRange::at(there.start(), whole).unwrap_or(there)
            }
            None => there,
        };
        let mut look = Snapshot {
            start: plan.span.start(),
            bytes: Vec::with_capacity(there.len() as usize),
            gaps: Vec::new(),
        };
        let mut at = there.start();
        while at < there.end() {
            let data = match plan.access {
                Some(_) => there.from(at),
                None => region.next_data(at, there)?.unwrap_or(there.from(there.end())),
            };
            let begin = if data.is_empty() { there.end() } else { data.start() };
            let (gap, _) = there.from(at).split(begin - at);
            look.gaps.extend(gaps(region, gap));
            look.bytes.resize((begin - look.start) as usize, 0);
            let read = plan.chunks(region, data, |_, bytes| {
                look.bytes.extend_from_slice(bytes);
                Ok(())
            });
            match read {
                // The file was shortened after its length was read: show what is there.
                Err(error) if is_cut_short(&error) => break,
                read => read?,
            }
            at = begin + data.len();
        }
        Ok(look)
    }

    /// For each byte, whether it differs from `before`, or was not there. At the first time, none has changed.
    fn changed(&self, before: Option<&Snapshot>) -> Vec<bool> {
        let Some(before) = before else {
            return vec![false; self.bytes.len()];
        };
        let old = before.bytes.iter().map(Some).chain(std::iter::repeat(None));
        self.bytes.iter().zip(old).map(|(new, old)| Some(new) != old).collect()
    }

    fn text(&self, format: dump::Format<'_>, style: Style, changed: Vec<bool>) -> String {
        let index = |at: u64| (at - self.start) as usize;
        // A new hole is shown as zeros, because its rows have marks.
        let is_marked = |gap: &HoleRange| changed[index(gap.span.start())..index(gap.span.end())].contains(&true);
        let gaps: Vec<HoleRange> = self.gaps.iter().filter(|gap| !is_marked(gap)).copied().collect();
        let mut dump = dump::marked(format, self.start, style, changed);
        let mut out = Vec::new();
        let mut at = self.start;
        for gap in gaps {
            dump.bytes(&self.bytes[index(at)..index(gap.span.start())], &mut out);
            gap.feed(&mut *dump, &mut out);
            at = gap.span.end();
        }
        dump.bytes(&self.bytes[index(at)..], &mut out);
        dump.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The object of `cat --json`, with the ranges that have changed.
    fn json(&self, plan: &CatPlan<'_>, changed: &[bool], context: VerbContext<'_>) -> String {
        let mut ranges = Vec::new();
        let mut at = self.start;
        for run in changed.chunk_by(|one, next| one == next) {
            if run.first() == Some(&true) {
                ranges.push(json!({"offset": at, "length": run.len()}));
            }
            at += run.len() as u64;
        }
        let mut report = Report::new("cat", context.path, false)
            .json_field("offset", self.start)
            .json_field("length", self.bytes.len());
        if let Some(width) = plan.access {
            report = report.json_field("access", width.bytes());
        }
        report = report.json_field("differs", ranges);
        report.json_field("hex", const_hex::encode(&self.bytes)).json() + "\n"
    }
}

fn is_cut_short(error: &Error) -> bool {
    let causes = error.core().map(|error| &error.cause);
    matches!(causes, Some(ErrorKind::Shrunk { .. } | ErrorKind::PastEnd { .. } | ErrorKind::Vanished))
}

/// Describes the rows that do not fit on the terminal.
fn left_out(rows: &[&str]) -> String {
    let changed = |row: &&&str| row.starts_with('>') || row.contains(dump::MARK);
    format!(
        "{} more, {} with changes; --length or a larger terminal shows all",
        text::plural(rows.len() as u64, "line"),
        rows.iter().filter(changed).count()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rows_left_out_it_is_told_how_many_changed() {
        assert_eq!(
            left_out(&["a", "> c", "d\x1b[7me"]),
            "3 lines more, 2 with changes; --length or a larger terminal shows all"
        );
    }

    #[test]
    fn bytes_that_were_not_there_have_changed() {
        let look = |bytes: &[u8]| Snapshot {
            start: 3,
            bytes: bytes.to_vec(),
            gaps: Vec::new(),
        };
        assert_eq!(look(b"abc").changed(None), [false; 3]);
        assert_eq!(look(b"abc").changed(Some(&look(b"aX"))), [false, true, true]);
        assert_eq!(look(b"a").changed(Some(&look(b"abc"))), [false]);
    }
}
