//! Edit scripts, as described in mmapctl-patch-script(5): read line by line into a [`Builder`].

use super::blocks::{BLOCK, Block, LineBlocks, each_line, unreadable};
use super::builder::{Builder, EditPlace};
use super::fast_lines::FastLines;
use super::value::Value;
use super::xxd::is_row;
use crate::edit::error::{Error, ErrorContext, Result, SourceLocation};
use crate::number;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

/// The first line of a script. A script may omit it, but not state another version.
pub const HEADER: &str = "# mmapctl-patch 1";

/// Reads a whole script. Errors name the line.
pub fn read_script(source: impl Read + Send + 'static, builder: &mut Builder) -> Result<()> {
    read_blocks(LineBlocks::new(source, BLOCK), builder)
}

fn read_blocks(mut blocks: LineBlocks, builder: &mut Builder) -> Result<()> {
    // How many lines have been read.
    let mut lines = 0;
    let mut block = Block::default();
    while unreadable(blocks.next(&mut block))? {
        // The first block begins with the version.
        let plain = block.is_read || (lines > 0 && block.plain.read(&block.text));
        if plain && builder.add_plain(&block.plain, lines)? {
            lines += block.plain.count;
        } else {
            lines = read_lines(&block.text, lines, builder)?;
        }
    }
    Ok(())
}

/// Reads the lines of `text` one by one; `before` lines precede it. Returns the total number of lines.
fn read_lines(text: &[u8], before: u32, builder: &mut Builder) -> Result<u32> {
    let mut plain = FastLines::default();
    each_line(&mut &text[..], before, |number, line| {
        if number == 1
            && let Some(version) = line.strip_prefix(b"# mmapctl-patch ")
            && version.trim_ascii() != b"1"
        {
            let version = String::from_utf8_lossy(version).trim().to_string();
            let failure = Error::untouched(format!("scripts of version '{version}' are unknown"));
            return Err(failure.tip(format!("this mmapctl reads '{HEADER}'")));
        }
        if plain.read(line) && builder.add_plain(&plain, number - 1)? {
            return Ok(());
        }
        line_of(line, builder, SourceLocation::Line(number)).or_else(|error| match is_row(line) {
            true => Err(error).map_failure(|| {
                Error::untouched("this looks like a line of an xxd dump").tip("add --format xxd to apply a dump")
            }),
            false => Err(error),
        })
    })
}

/// Reads the text of one `--edit`, the `number`-th.
pub fn read_edit(text: &OsStr, number: u32, builder: &mut Builder) -> Result<()> {
    let origin = SourceLocation::Option(number);
    line_of(text.as_bytes(), builder, origin).with_context(|| origin.to_string())?;
    if words(text.as_bytes())?.is_empty() {
        let failure = Error::untouched(format!("{origin} is empty"));
        return Err(failure.tip("write --edit '0x40: 7405 -> 9090'"));
    }
    Ok(())
}

/// Reads any line: `PLACE: [OLD...] -> NEW...`, `PLACE: NEW...`, `size N`, `size N -> M`, a comment, or nothing.
fn line_of(line: &[u8], builder: &mut Builder, origin: SourceLocation) -> Result<()> {
    let words = words(line)?;
    let Some(first) = words.first() else {
        return Ok(());
    };
    if first == b"size" {
        return size(&words[1..], builder, origin);
    }
    let usage = "write OFFSET: OLD -> NEW, OFFSET: -> NEW, or size LENGTH";
    // The place itself has no colon; the first value may follow the colon directly.
    let Some(colon) = first.iter().position(|byte| *byte == b':') else {
        let message = format!("'{}' has no ':' after its offset", String::from_utf8_lossy(first));
        return Err(Error::untouched(message).tip(usage));
    };
    let (place, glued) = (&first[..colon], &first[colon + 1..]);
    let source: EditPlace = String::from_utf8_lossy(place).parse()?;
    let mut values = (!glued.is_empty()).then_some(glued).into_iter();
    let rest = words[1..].iter().map(Vec::as_slice);
    let words: Vec<&[u8]> = values.by_ref().chain(rest).collect();
    let arrow = words.iter().position(|word| *word == b"->");
    if let Some(glued) = words.iter().find(|word| is_glued(word)) {
        let message = format!("'{}' has no blanks around its '->'", String::from_utf8_lossy(glued));
        return Err(Error::untouched(message).tip("write OFFSET: OLD -> NEW, with a blank on either side of the arrow"));
    }
    let parse = |words: &[&[u8]]| -> Result<Vec<Value>> {
        let values = words.iter().map(|word| Value::parse(OsStr::from_bytes(word)));
        Ok(values.collect::<Result<_, _>>()?)
    };
    let (old, new) = match arrow {
        Some(arrow) => (parse(&words[..arrow])?, parse(&words[arrow + 1..])?),
        None => (Vec::new(), parse(&words)?),
    };
    if new.is_empty() {
        return Err(Error::untouched("the edit has no new bytes").tip(usage));
    }
    let at = builder.place(&source)?;
    builder.add(at, None, (!old.is_empty()).then_some(&old), &new, origin)
}

/// Whether this is hex with an arrow in it; a text may contain an arrow, hex may not.
fn is_glued(word: &[u8]) -> bool {
    let hex = |side: &[u8]| side.iter().all(u8::is_ascii_hexdigit);
    let arrow = word.windows(2).position(|pair| pair == b"->");
    word != b"->" && arrow.is_some_and(|at| hex(&word[..at]) && hex(&word[at + 2..]))
}

fn size(words: &[Vec<u8>], builder: &mut Builder, origin: SourceLocation) -> Result<()> {
    let number = |word: &[u8]| number::number(&String::from_utf8_lossy(word));
    match words {
        [now] => builder.resize(number(now)?, None, origin),
        [before, arrow, after] if arrow == b"->" => builder.resize(number(before)?, Some(number(after)?), origin),
        _ => {
            let failure = Error::untouched("'size' takes one length, or two with '->' between them");
            Err(failure.tip("write size 0x10000"))
        }
    }
}

/// Splits a line at white space, up to a comment. Double quotes protect white space and `#`. The quotes are removed,
/// but backslashes between them are kept, because the value interprets them.
fn words(line: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'#' if word.is_none() => break,
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next() {
                        Some(b'"') => break,
                        Some(b'\\') => {
                            word.push(b'\\');
                            word.extend(bytes.next());
                        }
                        Some(byte) => word.push(byte),
                        None => {
                            let failure = Error::untouched("a '\"' is not closed");
                            return Err(failure.tip("write \\\" for a quotation mark within the text"));
                        }
                    }
                }
            }
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests;
