//! `cat --watch`: look after look at one range, with what has changed since the last marked.

use super::{Job, Plan};
use crate::cmd::options::size;
use crate::dump::{self, Style};
use crate::exit::Failure;
use crate::mapping::{Cause, Error, Region, Span};
use crate::quantity::human;
use crate::report::{self, Report};
use crate::signals::Signals;
use serde_json::json;
use std::time::Duration;

/// The most that is watched, in bytes: it is kept twice, and its text on top.
const MOST: u64 = 1 << 20;

/// Shows the range again and again until a signal comes: in place on a terminal, one dump behind the other elsewhere.
pub(super) fn watch(region: &mut Region, plan: &Plan<'_>, interval: Duration, job: Job<'_>) -> anyhow::Result<()> {
    let (format, style) = match plan.dump {
        Some((format, style)) if format.has_rows() => (format, style),
        _ => {
            let failure = Failure::trouble("--watch marks what changes, and this format has no rows to mark");
            return Err(failure
                .tip("leave out --format, or give another, such as hex or u32le")
                .into());
        }
    };
    if plan.span.len() > MOST {
        let message = format!(
            "{} is {}, and --watch keeps no more than {} in mind",
            plan.span,
            size(plan.span.len()),
            human(MOST)
        );
        let tip = "say which part: --offset OFFSET --length 256";
        return Err(Failure::trouble(message).tip(tip).into());
    }
    let signals = Signals::hold(&[])?;
    let mut before = None;
    loop {
        region.refresh()?;
        let look = Look::at(region, plan)?;
        let changed = look.changed(before.as_ref());
        if job.globals.json {
            report::anew(&look.json(plan, &changed, job), job.globals)?;
        } else {
            let text = look.text(format, style, changed);
            let text = match report::terminal() {
                Some((_, lines)) => fitting(&text, lines),
                None => text,
            };
            report::anew(&text, job.globals)?;
        }
        before = Some(look);
        if signals.wait(Some(interval)).is_some() {
            return Ok(());
        }
    }
}

/// The range as it was at a time.
struct Look {
    start: u64,
    /// Of a hole the zeros.
    bytes: Vec<u8>,
    /// The holes in it, ascending.
    holes: Vec<Span>,
}

impl Look {
    /// What is there of the plan's range; a file may be shorter than it was, and longer again the next time.
    fn at(region: &mut Region, plan: &Plan<'_>) -> anyhow::Result<Look> {
        let is_file = region.backing().facts().is_file();
        let there = if is_file {
            plan.span.intersect(Span::first(region.length()))
        } else {
            plan.span
        };
        let mut look = Look {
            start: plan.span.start(),
            bytes: Vec::with_capacity(there.len() as usize),
            holes: Vec::new(),
        };
        let mut at = there.start();
        while at < there.end() {
            let data = match plan.access {
                Some(_) => there.from(at),
                None => region.next_data(at, there)?.unwrap_or(there.from(there.end())),
            };
            let begin = if data.is_empty() { there.end() } else { data.start() };
            look.holes
                .extend(Span::at(at, begin - at).filter(|hole| !hole.is_empty()));
            look.bytes.resize((begin - look.start) as usize, 0);
            let read = plan.chunks(region, data, |_, bytes| {
                look.bytes.extend_from_slice(bytes);
                Ok(())
            });
            match read {
                // Cut short since its length was looked at: what is there is shown.
                Err(error) if is_cut_short(&error) => break,
                read => read?,
            }
            at = begin + data.len();
        }
        Ok(look)
    }

    /// For each byte whether it is other than `before`, or was not there; none has changed at the first look.
    fn changed(&self, before: Option<&Look>) -> Vec<bool> {
        let Some(before) = before else {
            return vec![false; self.bytes.len()];
        };
        let old = before.bytes.iter().map(Some).chain(std::iter::repeat(None));
        self.bytes.iter().zip(old).map(|(new, old)| Some(new) != old).collect()
    }

    fn text(&self, format: dump::Format<'_>, style: Style, changed: Vec<bool>) -> String {
        let index = |at: u64| (at - self.start) as usize;
        // A hole that has come to be since is shown as what it reads as: its rows have marks.
        let holes: Vec<Span> = self
            .holes
            .iter()
            .filter(|hole| !changed[index(hole.start())..index(hole.end())].contains(&true))
            .copied()
            .collect();
        let mut dump = dump::marked(format, self.start, style, changed);
        let mut out = Vec::new();
        let mut at = self.start;
        for hole in holes {
            dump.bytes(&self.bytes[index(at)..index(hole.start())], &mut out);
            dump.hole(hole.len(), &mut out);
            at = hole.end();
        }
        dump.bytes(&self.bytes[index(at)..], &mut out);
        dump.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The object of `cat --json`, with the ranges that have changed.
    fn json(&self, plan: &Plan<'_>, changed: &[bool], job: Job<'_>) -> String {
        let mut ranges = Vec::new();
        let mut at = self.start;
        for run in changed.chunk_by(|one, next| one == next) {
            if run.first() == Some(&true) {
                ranges.push(json!({"offset": at, "length": run.len()}));
            }
            at += run.len() as u64;
        }
        let mut report = Report::new("cat", job.path, false)
            .field("offset", self.start)
            .field("length", self.bytes.len());
        if let Some(width) = plan.access {
            report = report.field("access", width.bytes());
        }
        report = report.field("differs", ranges);
        report.field("hex", const_hex::encode(&self.bytes)).json() + "\n"
    }
}

fn is_cut_short(error: &anyhow::Error) -> bool {
    let causes = error.downcast_ref::<Error>().map(|error| &error.cause);
    matches!(
        causes,
        Some(Cause::Shrunk { .. } | Cause::PastEnd { .. } | Cause::Vanished)
    )
}

/// As much of `text` as a terminal of so many lines shows without scrolling, and what that leaves out.
fn fitting(text: &str, lines: usize) -> String {
    let room = lines.saturating_sub(1).max(1);
    let all: Vec<&str> = text.lines().collect();
    if all.len() <= room {
        return text.into();
    }
    let (shown, rest) = all.split_at(room - 1);
    let changed = |line: &&&str| line.starts_with('>') || line.contains(dump::MARK);
    let mut text: String = shown.iter().flat_map(|line| [*line, "\n"]).collect();
    text += &format!(
        "{} more, {} with changes; --length or a larger terminal shows all\n",
        report::plural(rest.len() as u64, "line"),
        rest.iter().filter(changed).count()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_terminal_is_counted() {
        let text = "a\nb\n> c\nd\x1b[7me\n";
        assert_eq!(fitting(text, 5), text);
        assert_eq!(
            fitting(text, 4),
            "a\nb\n2 lines more, 2 with changes; --length or a larger terminal shows all\n"
        );
        assert_eq!(
            fitting(text, 0),
            "4 lines more, 2 with changes; --length or a larger terminal shows all\n"
        );
    }

    #[test]
    fn bytes_that_were_not_there_have_changed() {
        let look = |bytes: &[u8]| Look {
            start: 3,
            bytes: bytes.to_vec(),
            holes: Vec::new(),
        };
        assert_eq!(look(b"abc").changed(None), [false; 3]);
        assert_eq!(look(b"abc").changed(Some(&look(b"aX"))), [false, true, true]);
        assert_eq!(look(b"a").changed(Some(&look(b"abc"))), [false]);
    }
}
