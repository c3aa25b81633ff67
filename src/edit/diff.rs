//! The script that turns one file into another of the same length.

use super::compare::read_or_zeros;
use super::write::ScriptWriter;
use crate::edit::error::{Error, Result};
use crate::mapping::{self, Ahead, Cause, Region, Span, Step};
use std::thread::Scope;

/// Equal bytes up to this many between two differences do not end a line.
const BRIDGE: usize = 4;

/// The most bytes on either side of a line.
const LINE: usize = 32;

/// From this length on, a second thread reads the other file.
const LONG: u64 = 64 << 20;

/// How much it reads at a time, in bytes: what [`Region::read_chunks`] gives of the first file; and how often ahead.
const CHUNK: u64 = 256 << 10;
const AHEAD: usize = 8;

/// Writes the script that turns `from` into `to`, files that one types as `names`; gives the number of bytes that differ.
///
/// # Errors
/// A file that is mapped in part, for a script is one of a whole file; files of different length; what keeps either from
/// being read.
pub fn diff(
    from: &mut Region,
    to: &mut Region,
    (name, other_name): (&str, &str),
    sink: impl FnMut(&[u8]) -> Result<()>,
    step: &mut Step<'_>,
) -> Result<u64> {
    let (span, other) = (from.span(), to.span());
    let whole = Span::first(from.length());
    if !span.contains(whole) {
        return Err(mapping::Error::new("compare", Some(whole), Cause::NotMapped(span)).into());
    }
    if span != other {
        let message = format!("it has {} bytes, the other {}", span.len(), other.len());
        let tip = format!(
            "--diff takes two files of the same length; 'cmp {name} {other_name}' shows where they differ first"
        );
        return Err(Error::untouched(message).tip(tip));
    }
    let mut script = ScriptWriter::new(span.len(), span.len(), sink);
    let mut differing = 0;
    std::thread::scope(|scope| {
        let mut other = Other::new(to, Some(scope).filter(|_| span.len() >= LONG));
        compare(from, &mut other, &mut script, &mut differing, step)
    })?;
    script.finish()?;
    Ok(differing)
}

/// The file to compare with, read in order.
struct Other<'a> {
    region: &'a mut Region,
    thread: Option<Ahead<Error>>,
    /// What the thread has not been asked for yet.
    rest: Span,
    have: Vec<u8>,
}

impl<'a> Other<'a> {
    fn new<'scope>(region: &'a mut Region, scope: Option<&'scope Scope<'scope, '_>>) -> Other<'a> {
        let thread = scope.and_then(|scope| Ahead::start(scope, region, read_or_zeros));
        let mut other = Other {
            rest: region.span(),
            region,
            thread,
            have: Vec::new(),
        };
        for _ in 0..AHEAD {
            other.ask();
        }
        other
    }

    /// Asks for the next bytes.
    fn ask(&mut self) {
        if let (Some(thread), Some(span)) = (&self.thread, self.rest.windows(CHUNK).next()) {
            thread.ask(span, std::mem::take(&mut self.have));
            self.rest = self.rest.from(span.end());
        }
    }

    /// The `len` bytes at `at`.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        match &self.thread {
            Some(thread) => {
                let (next, result) = thread.take();
                result?;
                self.ask();
                self.have = next;
            }
            None => {
                self.have.resize(len, 0);
                self.region.read(at, &mut self.have)?;
            }
        }
        // Fewer of ours are there where a file was cut short.
        Ok(&self.have[..len.min(self.have.len())])
    }
}

fn compare(
    from: &mut Region,
    other: &mut Other<'_>,
    script: &mut ScriptWriter<impl FnMut(&[u8]) -> Result<()>>,
    differing: &mut u64,
    step: &mut Step<'_>,
) -> Result<()> {
    let start_of_all = from.span().start();
    from.read_chunks(from.span(), |at, ours| {
        let theirs = other.bytes(at, ours.len())?;
        let mut done = 0;
        // Comparing all of it first is one memcmp, and most of most files is equal.
        while done < ours.len() && ours[done..] != theirs[done..] {
            let skipped = equal_prefix(&ours[done..], &theirs[done..]);
            let start = done + skipped;
            let len = line_len(&ours[start..], &theirs[start..]);
            let (old, new) = (&ours[start..start + len], &theirs[start..start + len]);
            *differing += super::compare::count_differing(old, new);
            script.edit(at + start as u64, old, new)?;
            done = start + len;
        }
        step(at + ours.len() as u64 - start_of_all).map_err(Error::from)
    })
}

/// How many bytes both begin with alike.
fn equal_prefix(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let blocks = a.chunks(BLOCK).zip(b.chunks(BLOCK)).take_while(|(a, b)| a == b).count();
    let start = (blocks * BLOCK).min(a.len());
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

/// The length of the line that begins with a difference: up to the next long stretch of equal bytes.
fn line_len(a: &[u8], b: &[u8]) -> usize {
    let mut end = 1;
    for index in 1..a.len().min(LINE) {
        if index - end >= BRIDGE {
            break;
        }
        if a[index] != b[index] {
            end = index + 1;
        }
    }
    end
}
