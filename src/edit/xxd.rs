//! Reads xxd dumps as edits, strictly: where `xxd -r` skips what it does not understand, a line here is an error.
//!
//! Users who edit a dump by hand change the hex and leave the characters after it as they were, so the characters need
//! not match the bytes. But they reveal dumps of `xxd -b` and `xxd -e`, whose digits look like hex and stand for other
//! bytes.

mod rows;

use super::blocks::each_line;
use super::builder::Builder;
use crate::edit::error::{Error, Result, SourceLocation};
use rows::RowStatistics;
use std::io::BufRead;

/// Reads a dump as `xxd` writes it: `00000040: 7405 9090  t...`.
///
/// # Errors
/// If a line is not a row of a dump, or if the dump is of bits (`xxd -b`), of reversed groups (`xxd -e`) or has decimal
/// offsets (`xxd -d`).
pub fn read_xxd(source: &mut impl BufRead, builder: &mut Builder) -> Result<()> {
    let mut bytes = Vec::new();
    let mut order = GroupOrder::default();
    let mut rows = RowStatistics::default();
    let read = each_line(source, 0, |number, line| {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let Some(row) = row(line, &mut bytes) else {
            let shown = String::from_utf8_lossy(&line[..line.len().min(40)]).escape_debug().to_string();
            let failure = Error::untouched(format!("'{shown}' is not a line of an xxd dump"));
            let tip = "a line is OFFSET: HEX, as xxd and cat -f xxd print it; two spaces end the hex";
            return Err(failure.tip(tip));
        };
        if row.is_bits() {
            let failure = Error::untouched("these are digits of bits, as 'xxd -b' prints them, and not hex");
            return Err(failure.tip("dump it again without -b"));
        }
        if let Some(word) = row.more_hex(bytes.len()) {
            let word = String::from_utf8_lossy(word);
            let message = format!("'{word}' follows two spaces, which end the hex; 'xxd -e' prints such rows");
            let tip = "dump it again without -e, or put one space between groups; if the bytes end there, remove the characters";
            return Err(Error::untouched(message).tip(tip));
        }
        order.see(&row, &bytes);
        rows.see(&row, bytes.len() as u64, number);
        builder.add_bytes(row.at, None, &bytes, SourceLocation::Line(number))
    });
    // Decimal offsets read as hex soon exceed the end of the file: reporting the cause is more helpful.
    rows.check_radix()?;
    read?;
    if order.is_turned() {
        let failure = Error::untouched("the bytes of each group are reversed, as 'xxd -e' prints them");
        let tip = "dump it again without -e; if the bytes are in the right order, remove the characters";
        return Err(failure.tip(tip));
    }
    rows.check_gaps()
}

/// Whether a line that is not an edit of a script may be a row of a dump: its offset is padded with zeros, as xxd does
/// it.
pub(super) fn is_row(line: &[u8]) -> bool {
    row(line, &mut Vec::new()).is_some_and(|row| row.digits.len() >= PADDED)
}

/// xxd prints at least this many digits of an offset: older versions seven, present ones eight.
const PADDED: usize = 7;

/// Whether this separates two groups: Vim's xxd also accepts a tab as a blank.
fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A parsed row.
struct DumpRow<'a> {
    at: u64,
    /// The digits of the offset.
    digits: &'a [u8],
    /// The groups of digits, with one blank between them.
    hex: &'a [u8],
    /// What follows the groups: at least two spaces and the characters, or nothing.
    tail: &'a [u8],
}

/// Parses one row, and stores its bytes in `bytes`.
fn row<'a>(line: &'a [u8], bytes: &mut Vec<u8>) -> Option<DumpRow<'a>> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (digits, rest) = (&line[..colon], line.get(colon + 1..)?);
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let at = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let rest = rest.split_first().filter(|(first, _)| is_blank(first))?.1;
    // Two spaces end the hex; a full row may have just one before its characters, but never none.
    let end = rest.windows(2).position(|pair| pair.iter().all(is_blank));
    let (hex, tail) = rest.split_at(end.unwrap_or(rest.len()));
    // One blank, or a carriage return, at the end of the line has no meaning.
    let hex = hex.trim_ascii_end();
    bytes.clear();
    for group in hex.split(is_blank) {
        if group.is_empty() || group.len() % 2 == 1 {
            return None;
        }
        for pair in group.chunks_exact(2) {
            let digit = |index: usize| char::from(pair[index]).to_digit(16);
            bytes.push((digit(0)? << 4 | digit(1)?) as u8);
        }
    }
    Some(DumpRow { at, digits, hex, tail })
}

impl<'a> DumpRow<'a> {
    fn groups(&self) -> impl Iterator<Item = &'a [u8]> {
        self.hex.split(is_blank)
    }

    /// What the characters may be, if there are `count` of them, with blanks alone before and after them: of blanks at
    /// the end of the line, some may be characters.
    fn characters(&self, count: usize) -> impl Iterator<Item = &'a [u8]> {
        let tail = self.tail;
        let blanks = tail.iter().rev().take_while(|byte| is_blank(byte)).count();
        (0..=blanks).filter_map(move |blank| {
            let text = &tail[..tail.len() - blank];
            let (gap, characters) = text.split_at_checked(text.len().checked_sub(count)?)?;
            (gap.len() >= 2 && gap.iter().all(is_blank)).then_some(characters)
        })
    }

    /// What looks like another group after the end of `count` bytes: the last row of `xxd -e` has a gap before a group
    /// that is not full. Characters may look like a group, too, but then there are at most as many as bytes.
    fn more_hex(&self, count: usize) -> Option<&'a [u8]> {
        let tail = self.tail.trim_ascii_start();
        let word = tail.split(is_blank).next()?;
        let hex = word.len().is_multiple_of(2) && word.iter().all(u8::is_ascii_hexdigit);
        (hex && tail.trim_ascii_end().len() > count && self.characters(count).next().is_none()).then_some(word)
    }

    /// Whether the digits are bits of bytes that the characters show. As hex, the same digits would be four times as many
    /// bytes, with four times as many characters.
    fn is_bits(&self) -> bool {
        let mut said = Vec::new();
        for group in self.groups() {
            let (bytes, rest) = group.as_chunks::<8>();
            let is_bit = |digit: &u8| matches!(digit, b'0' | b'1');
            if !rest.is_empty() || !group.iter().all(is_bit) {
                return false;
            }
            said.extend(bytes.iter().map(|bits| shown(bits.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0')))));
        }
        self.characters(said.len()).any(|characters| characters == said)
    }
}

/// The character that xxd prints for a byte.
fn shown(byte: u8) -> u8 {
    if byte == b' ' || byte.is_ascii_graphic() {
        byte
    } else {
        b'.'
    }
}

/// The order of the bytes within groups, according to the characters after them.
#[derive(Default)]
struct GroupOrder {
    /// How many groups have characters that match the bytes as they are, and not when reversed.
    straight: u64,
    /// How many have characters that match only when reversed.
    turned: u64,
}

impl GroupOrder {
    fn see(&mut self, row: &DumpRow<'_>, bytes: &[u8]) {
        // One group is enough, and almost every dump has one in its first row.
        if self.straight > 0 {
            return;
        }
        let mut turned = 0;
        for characters in row.characters(bytes.len()) {
            let (mut from, mut turned_here) = (0, 0);
            for group in row.groups() {
                let part = from..from + group.len() / 2;
                let (have, said) = (&bytes[part.clone()], &characters[part.clone()]);
                let fits = have.iter().copied().map(shown).eq(said.iter().copied());
                let fits_turned = have.iter().rev().copied().map(shown).eq(said.iter().copied());
                self.straight += u64::from(fits && !fits_turned);
                turned_here += u64::from(fits_turned && !fits);
                from = part.end;
            }
            turned = turned.max(turned_here);
        }
        self.turned += turned;
    }

    /// One group may have been reversed by hand. If there are two, and none in the whole dump matches as it is, the
    /// dump is reversed.
    fn is_turned(&self) -> bool {
        self.turned >= 2 && self.straight == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_to_the_two_spaces() {
        let mut bytes = Vec::new();
        let at = |line: &'static [u8], bytes: &mut Vec<u8>| row(line, bytes).map(|row| row.at);
        assert_eq!(at(b"00000040: 7405 90  t..", &mut bytes), Some(0x40));
        assert_eq!(bytes, [0x74, 5, 0x90]);
        assert_eq!(at(b"100000000: ff", &mut bytes), Some(1 << 32));
        assert_eq!(bytes, [0xff]);
        for line in [
            &b"8: 44 45 "[..],
            b"8:\t44 45",
            b"8: 44\t45\t",
            b"8: 44 45\r",
            b"8: 44 45 \t \r",
        ] {
            assert_eq!(row(line, &mut bytes).map(|row| row.at), Some(8), "{line:?}");
            assert_eq!(bytes, [0x44, 0x45], "{line:?}");
        }
    }

    #[test]
    fn what_xxd_would_skip_in_silence_is_refused() {
        let bad = [
            "",
            "*",
            "00000040 7405",
            "x0: 74",
            "0: 7",
            "0: 0x74",
            "0: 74 0x",
            "0: 74 5",
            "0:74",
            "0: zz",
            "0: ",
            ": 74",
            "0:  74",
            "0: \t74",
            "0: 74 5\t",
            "0: 7\r",
        ];
        for line in bad {
            assert!(row(line.as_bytes(), &mut Vec::new()).is_none(), "{line}");
        }
    }
}
