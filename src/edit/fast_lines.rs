//! A fast parser for lines as programs write them, `0x40: 7405 -> 9090`: a script may have a million of them.

use crate::mapping::Segment;

/// A block of a script that consists of plain lines, comments and empty lines only.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FastLines {
    /// The ranges of the edits; `from` counts from the block's first new byte.
    pub list: Vec<Segment>,
    /// The line number of each edit, 1 for the block's first line.
    pub lines: Vec<u32>,
    /// The bytes that the edits expect, all in one.
    pub old: Vec<u8>,
    /// The bytes that the edits write, all in one.
    pub new: Vec<u8>,
    /// The number of lines in the block.
    pub count: u32,
    /// Whether each edit begins at or after the end of the one before.
    pub ascending: bool,
    /// The highest end offset of the edits.
    pub end: u64,
}

impl FastLines {
    /// Reads `text`, which consists of whole lines, and replaces the previous content. Returns false if there is a line
    /// of another kind; the content is then unusable.
    pub fn read(&mut self, text: &[u8]) -> bool {
        self.clear();
        let mut rest = text;
        let mut previous = 0;
        while !rest.is_empty() {
            self.count += 1;
            let from = self.new.len();
            let Some((at, behind)) = self.edit(rest) else {
                // A line that failed half-way has appended bytes; it is neither a comment nor empty, so the whole block
                // is rejected.
                match without_edit(rest) {
                    Some(behind) => rest = behind,
                    None => return false,
                }
                continue;
            };
            rest = behind;
            let len = (self.new.len() - from) as u64;
            let segment = Segment::new(at, len, from as u64);
            let Some(segment) = segment.filter(|_| self.new.len() == self.old.len()) else {
                return false;
            };
            let end = segment.range().end();
            self.list.push(segment);
            self.lines.push(self.count);
            self.ascending &= previous <= at;
            previous = end;
            self.end = self.end.max(end);
        }
        true
    }

    fn clear(&mut self) {
        self.list.clear();
        self.lines.clear();
        self.old.clear();
        self.new.clear();
        self.count = 0;
        self.ascending = true;
        self.end = 0;
    }

    /// Reads the edit at the beginning of `text`; returns its offset and what follows its line.
    fn edit<'a>(&mut self, text: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let (at, rest) = hex_number(text)?;
        let rest = hex_bytes(rest.strip_prefix(b": ")?, &mut self.old)?;
        let rest = hex_bytes(rest.strip_prefix(b" -> ")?, &mut self.new)?;
        Some((at, line_end(rest)?))
    }
}

/// Returns what follows the line end, LF or CRLF, at the beginning of `text`; the last line of a script may lack it.
fn line_end(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => Some(rest),
        [] | [b'\r'] => Some(&[]),
        _ => None,
    }
}

/// Returns what follows the comment or empty line at the beginning of `text`.
fn without_edit(text: &[u8]) -> Option<&[u8]> {
    if text.first() != Some(&b'#') {
        return line_end(text);
    }
    let end = memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1);
    Some(&text[end..])
}

fn hex_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.strip_prefix(b"0x")?;
    let mut value = 0u64;
    let mut count = 0;
    while let Some(digit) = digits.get(count).map(|byte| DIGIT[*byte as usize]).filter(|digit| *digit < 16) {
        if count == 16 {
            return None;
        }
        value = value << 4 | u64::from(digit);
        count += 1;
    }
    (count > 0).then(|| (value, &digits[count..]))
}

/// Appends the bytes whose hex digits `text` begins with, at least one, to `out`; returns what follows them.
fn hex_bytes<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let before = out.len();
    let mut rest = text;
    // Four bytes at a time, as long as possible.
    while let Some((digits, tail)) = rest.split_first_chunk::<8>()
        && let Some(bytes) = four_bytes(*digits)
    {
        out.extend_from_slice(&bytes);
        rest = tail;
    }
    while let [high, tail @ ..] = rest {
        let high = DIGIT[*high as usize];
        if high > 15 {
            break;
        }
        // An odd digit, so this is not a plain line.
        let [low, tail @ ..] = tail else { return None };
        let low = DIGIT[*low as usize];
        if low > 15 {
            return None;
        }
        out.push(high << 4 | low);
        rest = tail;
    }
    (out.len() > before).then_some(rest)
}

/// The bytes that eight hex digits stand for, or `None` if one is not a digit. They are decoded together, as the bytes
/// of a word, because a script has tens of millions of them.
fn four_bytes(digits: [u8; 8]) -> Option<[u8; 4]> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let word = u64::from_le_bytes(digits);
    // Without the top bits, an addition in one byte never carries into the next.
    let seven = word & !HIGH;
    let below = |bytes: u64, limit: u64| !(bytes + (0x80 - limit) * EACH) & HIGH;
    let decimal = below(seven ^ (0x30 * EACH), 10);
    let letter = (seven | (0x20 * EACH)) ^ (0x60 * EACH);
    let letter = below(letter, 7) & !below(letter, 1);
    if (decimal | letter) & !word & HIGH != HIGH {
        return None;
    }
    // The low digit of 'a' and 'A' is 1, and only letters have the bit 0x40.
    let values = (word & (0x0f * EACH)) + ((word >> 6) & EACH) * 9;
    let pairs = ((values << 4) | (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    Some(((fours | (fours >> 16)) as u32).to_le_bytes())
}

/// The value of each hex digit by its character; 255 for other characters.
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

#[cfg(test)]
mod tests;
