//! Edit scripts, as mmapctl-patch-script(5) describes them: read a line at a time into a [`Builder`].

use super::builder::{Builder, Source};
use super::plan::Origin;
use super::value::Value;
use crate::exit::Failure;
use crate::quantity;
use anyhow::Context;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;

/// The first line of a script; a script may go without it, but not claim another version.
pub const HEADER: &str = "# mmapctl-patch 1";

/// Reads a whole script. Errors name the line.
pub fn read_script(source: &mut impl BufRead, builder: &mut Builder) -> anyhow::Result<()> {
    each_line(source, |number, line| {
        let origin = Origin::Line(number);
        if plain(line, builder, origin)? {
            return Ok(());
        }
        if number == 1
            && let Some(version) = line.strip_prefix(b"# mmapctl-patch ")
            && version.trim_ascii() != b"1"
        {
            let version = String::from_utf8_lossy(version).trim().to_string();
            let failure = Failure::trouble(format!("scripts of version '{version}' are unknown"));
            return Err(failure.tip(format!("this mmapctl reads '{HEADER}'")).into());
        }
        line_of(line, builder, origin)
    })
}

/// Reads the text of one `--edit`, the `number`-th.
pub fn read_edit(text: &OsStr, number: u32, builder: &mut Builder) -> anyhow::Result<()> {
    let origin = Origin::Option(number);
    line_of(text.as_bytes(), builder, origin).with_context(|| origin.to_string())?;
    if words(text.as_bytes())?.is_empty() {
        let failure = Failure::trouble(format!("{origin} is empty"));
        return Err(failure.tip("write --edit '0x40: 7405 -> 9090'").into());
    }
    Ok(())
}

/// Hands each line of `source` to `each`, with its number, without its end (LF or CRLF) and without the byte order
/// mark that some editors put in front.
pub(super) fn each_line(
    source: &mut impl BufRead,
    mut each: impl FnMut(u32, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut number = 0;
    // The beginning of a line whose end has not been read yet.
    let mut partial: Vec<u8> = Vec::new();
    loop {
        let buffer = source.fill_buf().context("cannot read the script")?;
        let len = buffer.len();
        let mut rest = buffer;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            number += 1;
            let line = if partial.is_empty() {
                &rest[..end]
            } else {
                partial.extend_from_slice(&rest[..end]);
                &partial
            };
            each(number, text_of(line, number)).with_context(|| Origin::Line(number).to_string())?;
            partial.clear();
            rest = &rest[end + 1..];
        }
        partial.extend_from_slice(rest);
        if len == 0 {
            break;
        }
        source.consume(len);
    }
    if !partial.is_empty() {
        number += 1;
        each(number, text_of(&partial, number)).with_context(|| Origin::Line(number).to_string())?;
    }
    Ok(())
}

fn text_of(line: &[u8], number: u32) -> &[u8] {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    match number {
        1 => text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text),
        _ => text,
    }
}

/// The line that programs write, `0x40: 7405 -> 9090`, without a detour: a script may have a million of them. False,
/// with nothing done, for every other line.
fn plain(line: &[u8], builder: &mut Builder, origin: Origin) -> anyhow::Result<bool> {
    let Some((at, rest)) = hex_number(line) else {
        return Ok(false);
    };
    let mut bytes = [0u8; 2 * MOST_PLAIN];
    let Some(rest) = rest.strip_prefix(b": ") else {
        return Ok(false);
    };
    let Some((old, rest)) = hex_bytes(rest, &mut bytes) else {
        return Ok(false);
    };
    let Some(rest) = rest.strip_prefix(b" -> ") else {
        return Ok(false);
    };
    let (before, after) = bytes.split_at_mut(old);
    match hex_bytes(rest, after) {
        Some((new, [])) => {
            builder.add_bytes(at, Some(before), &after[..new], origin)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The most bytes a side of a plain line has.
const MOST_PLAIN: usize = 64;

fn hex_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.strip_prefix(b"0x")?;
    let mut value = 0u64;
    let mut count = 0;
    while let Some(digit) = digits
        .get(count)
        .map(|byte| DIGIT[*byte as usize])
        .filter(|digit| *digit < 16)
    {
        if count == 16 {
            return None;
        }
        value = value << 4 | u64::from(digit);
        count += 1;
    }
    (count > 0).then(|| (value, &digits[count..]))
}

fn hex_bytes<'a>(text: &'a [u8], out: &mut [u8]) -> Option<(usize, &'a [u8])> {
    let mut count = 0;
    let mut rest = text;
    while let [high, low, tail @ ..] = rest {
        let (high, low) = (DIGIT[*high as usize], DIGIT[*low as usize]);
        if high > 15 {
            break;
        }
        // An odd digit, or more than there is room for: not a plain line.
        if low > 15 || count == out.len() {
            return None;
        }
        out[count] = high << 4 | low;
        count += 1;
        rest = tail;
    }
    let odd = matches!(rest, [last] if DIGIT[*last as usize] < 16);
    (count > 0 && !odd).then_some((count, rest))
}

/// The value of a hex digit, by its character; 255 for what is none.
const DIGIT: [u8; 256] = {
    let mut table = [255; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Any line: `PLACE: [OLD...] -> NEW...`, `PLACE: NEW...`, `size N`, `size N -> M`, a comment, or nothing.
fn line_of(line: &[u8], builder: &mut Builder, origin: Origin) -> anyhow::Result<()> {
    let words = words(line)?;
    let Some(first) = words.first() else {
        return Ok(());
    };
    if first == b"size" {
        return size(&words[1..], builder, origin);
    }
    let usage = "write OFFSET: OLD -> NEW, OFFSET: -> NEW, or size LENGTH";
    // The place has no colon of its own; the first value may touch the one behind it.
    let Some(colon) = first.iter().position(|byte| *byte == b':') else {
        let message = format!("'{}' has no ':' behind its offset", String::from_utf8_lossy(first));
        return Err(Failure::trouble(message).tip(usage).into());
    };
    let (place, glued) = (&first[..colon], &first[colon + 1..]);
    let source: Source = String::from_utf8_lossy(place).parse()?;
    let mut values = (!glued.is_empty()).then_some(glued).into_iter();
    let rest = words[1..].iter().map(Vec::as_slice);
    let words: Vec<&[u8]> = values.by_ref().chain(rest).collect();
    let arrow = words.iter().position(|word| *word == b"->");
    if let Some(glued) = words.iter().find(|word| is_glued(word)) {
        let message = format!("'{}' has no blanks around its '->'", String::from_utf8_lossy(glued));
        return Err(Failure::trouble(message)
            .tip("write OFFSET: OLD -> NEW, with a blank on either side of the arrow")
            .into());
    }
    let parse = |words: &[&[u8]]| -> anyhow::Result<Vec<Value>> {
        let values = words.iter().map(|word| Value::parse(OsStr::from_bytes(word)));
        Ok(values.collect::<Result<_, _>>()?)
    };
    let (old, new) = match arrow {
        Some(arrow) => (parse(&words[..arrow])?, parse(&words[arrow + 1..])?),
        None => (Vec::new(), parse(&words)?),
    };
    if new.is_empty() {
        return Err(Failure::trouble("the edit has no new bytes").tip(usage).into());
    }
    let at = builder.place(&source)?;
    builder.add(at, None, (!old.is_empty()).then_some(&old), &new, origin)
}

/// Hex with an arrow in it, which a text may have but hex may not.
fn is_glued(word: &[u8]) -> bool {
    let hex = |side: &[u8]| side.iter().all(u8::is_ascii_hexdigit);
    let arrow = word.windows(2).position(|pair| pair == b"->");
    word != b"->" && arrow.is_some_and(|at| hex(&word[..at]) && hex(&word[at + 2..]))
}

fn size(words: &[Vec<u8>], builder: &mut Builder, origin: Origin) -> anyhow::Result<()> {
    let number = |word: &[u8]| quantity::number(&String::from_utf8_lossy(word));
    match words {
        [now] => builder.resize(number(now)?, None, origin),
        [before, arrow, after] if arrow == b"->" => builder.resize(number(before)?, Some(number(after)?), origin),
        _ => {
            let failure = Failure::trouble("'size' takes one length, or two with '->' between them");
            Err(failure.tip("write size 0x10000").into())
        }
    }
}

/// Splits a line at white space, up to a comment. Double quotes keep white space and `#`; they vanish, and what is
/// between them keeps its backslashes, for the value to read.
fn words(line: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
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
                            let failure = Failure::trouble("a '\"' is not closed");
                            return Err(failure.tip("write \\\" for a quotation mark within the text").into());
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
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        let words = words(line.as_bytes()).unwrap();
        words
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    #[test]
    fn words_end_at_white_space_and_comments_begin_at_a_words_start() {
        assert_eq!(split("0x40: 74 -> 90  # why"), ["0x40:", "74", "->", "90"]);
        assert_eq!(split(r##"+0: text:"v1.2 # ok" x"##), ["+0:", "text:v1.2 # ok", "x"]);
        assert_eq!(split("a#b\t#c"), ["a#b"]);
        assert_eq!(split(r#"text:"a\"b\\""#), [r#"text:a\"b\\"#]);
        assert!(words(b"text:\"a").is_err());
        assert_eq!(split("  # nothing"), [""; 0]);
    }

    #[test]
    fn plain_numbers_and_bytes_are_read_as_far_as_they_go() {
        assert_eq!(hex_number(b"0x40: "), Some((0x40, b": ".as_slice())));
        assert_eq!(hex_number(b"40: "), None);
        assert_eq!(hex_number(b"0x: "), None);
        let mut out = [0; 4];
        assert_eq!(hex_bytes(b"dead -> ", &mut out), Some((2, b" -> ".as_slice())));
        assert_eq!(out[..2], [0xde, 0xad]);
        assert_eq!(hex_bytes(b"dea", &mut out), None);
        assert_eq!(hex_bytes(b"0011223344", &mut out), None);
    }
}
