//! Columns of numbers, with the width and notation of `od -A x -t`.
//!
//! Unlike in od, offsets have eight digits or more, holes and runs are named as in `hex`, the byte order is that of the
//! format and not of the machine, and bytes that do not form a whole number are printed as bytes: od appends zeros to
//! them.

use super::line::{Digits, OFFSET, offset};
use super::{Gap, RowFormat, annotation};
use crate::number::{NumberFormat, NumberKind};
use std::io::Write;

/// Bytes in a row.
const BYTES: usize = 16;

/// The width of the column: the number of digits of the longest number.
fn width(unit: NumberFormat) -> usize {
    match (unit.kind, unit.bytes) {
        (NumberKind::Unsigned, 1) => 3,
        (NumberKind::Signed, 1) => 4,
        (NumberKind::Unsigned, 2) => 5,
        (NumberKind::Signed, 2) => 6,
        (NumberKind::Unsigned, 4) => 10,
        (NumberKind::Signed, 4) => 11,
        (NumberKind::Float, 4) => 15,
        (NumberKind::Float, _) => 24,
        _ => 20,
    }
}

/// The maximum length of a line: a row of `i8` is the longest.
const LINE: usize = OFFSET + BYTES * 5 + 1;

/// The layout of one number format.
pub(super) struct Typed {
    unit: NumberFormat,
    /// The width of a column and the space before it.
    cell: usize,
}

impl Typed {
    pub(super) fn new(unit: NumberFormat) -> Typed {
        Typed {
            unit,
            cell: 1 + width(unit),
        }
    }

    /// Appends the line of the whole numbers within the first `len` bytes.
    #[inline]
    fn line(&self, at: u64, row: &[u8; BYTES], len: usize, out: &mut Vec<u8>) {
        let mut line = [b' '; LINE];
        offset(at, &mut line, out);
        let columns = &mut line[OFFSET..];
        match self.unit.bytes {
            1 => self.columns::<1>(row, len, columns),
            2 => self.columns::<2>(row, len, columns),
            4 => self.columns::<4>(row, len, columns),
            _ => self.columns::<8>(row, len, columns),
        }
        let end = OFFSET + len / self.unit.bytes * self.cell;
        line[end] = b'\n';
        out.extend_from_slice(&line[..=end]);
    }

    #[inline]
    fn columns<const S: usize>(&self, row: &[u8; BYTES], len: usize, columns: &mut [u8]) {
        let (numbers, _) = row[..len].as_chunks::<S>();
        for (number, column) in numbers.iter().zip(columns.chunks_exact_mut(self.cell)) {
            let mut bytes = [0; 8];
            bytes[..S].copy_from_slice(number);
            if self.unit.big {
                bytes[..S].reverse();
            }
            let bits = u64::from_le_bytes(bytes);
            let unused = 64 - 8 * S as u32;
            match self.unit.kind {
                NumberKind::Unsigned => integer(bits, false, column),
                NumberKind::Signed => {
                    let value = ((bits << unused) as i64) >> unused;
                    integer(value.unsigned_abs(), value < 0, column);
                }
                NumberKind::Float => float(bits, S == 4, column),
            }
        }
    }
}

/// Writes a number right-aligned into its column.
#[inline]
fn integer(mut magnitude: u64, negative: bool, column: &mut [u8]) {
    let mut at = column.len();
    loop {
        at -= 1;
        column[at] = b'0' + (magnitude % 10) as u8;
        magnitude /= 10;
        if magnitude == 0 {
            break;
        }
    }
    if negative {
        column[at - 1] = b'-';
    }
}

/// Writes a floating-point number right-aligned into its column, as od does: by `%g` of C with the fewest digits that
/// distinguish it from its neighbours.
fn float(bits: u64, single: bool, column: &mut [u8]) {
    let mut text = [0; 48];
    let mut rest = &mut text[..];
    // The buffer is longer than the longest number, so this cannot fail.
    let _ = if single {
        number(&mut rest, f32::from_bits(bits as u32))
    } else {
        number(&mut rest, f64::from_bits(bits))
    };
    let len = text.iter().position(|byte| *byte == 0).unwrap_or(0);
    let from = column.len().saturating_sub(len);
    let len = len.min(column.len());
    column[from..].copy_from_slice(&text[..len]);
}

/// This many digits distinguish any two numbers of 64 bits.
const MOST_DIGITS: usize = 17;

/// The differences between the two lengths of floating-point numbers.
trait Floating: Copy + std::fmt::LowerExp {
    /// The digits that any number preserves: FLT_DIG, DBL_DIG.
    const DIGITS: i32;
    /// (is negative, is NaN, is infinite, is subnormal or zero)
    fn kind(self) -> (bool, bool, bool, bool);
    /// Whether D.DDDeX parses as this number, except for its sign.
    fn is(self, digits: &[u8], exponent: i32) -> bool;
}

fn read<F: std::str::FromStr>(digits: &[u8], exponent: i32) -> Option<F> {
    let digits = std::str::from_utf8(digits).ok()?;
    format!("{}.{}e{exponent}", &digits[..1], &digits[1..]).parse().ok()
}

impl Floating for f32 {
    const DIGITS: i32 = f32::DIGITS as i32;

    fn kind(self) -> (bool, bool, bool, bool) {
        let tiny = self.abs() < f32::MIN_POSITIVE;
        (self.is_sign_negative(), self.is_nan(), self.is_infinite(), tiny)
    }

    fn is(self, digits: &[u8], exponent: i32) -> bool {
        read(digits, exponent) == Some(self.abs())
    }
}

impl Floating for f64 {
    const DIGITS: i32 = f64::DIGITS as i32;

    fn kind(self) -> (bool, bool, bool, bool) {
        let tiny = self.abs() < f64::MIN_POSITIVE;
        (self.is_sign_negative(), self.is_nan(), self.is_infinite(), tiny)
    }

    fn is(self, digits: &[u8], exponent: i32) -> bool {
        read(digits, exponent) == Some(self.abs())
    }
}

/// The digits of D.DDDeX, followed by zeros; returns their number and X.
fn scientific(digits: &mut [u8; 24], value: std::fmt::Arguments<'_>) -> std::io::Result<(usize, i32)> {
    let mut text = [0; 40];
    let mut rest = &mut text[..];
    rest.write_fmt(value)?;
    let left = rest.len();
    let text = &text[..text.len() - left];
    let end = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let exponent = std::str::from_utf8(text.get(end + 1..).unwrap_or_default());
    *digits = [b'0'; 24];
    let mut count = 0;
    let said = text[..end].iter().filter(|byte| byte.is_ascii_digit());
    for (slot, digit) in digits.iter_mut().zip(said) {
        *slot = *digit;
        count += 1;
    }
    Ok((count, exponent.ok().and_then(|text| text.parse().ok()).unwrap_or(0)))
}

fn number<F: Floating>(out: &mut &mut [u8], value: F) -> std::io::Result<()> {
    let (negative, nan, infinite, tiny) = value.kind();
    let sign = if negative { "-" } else { "" };
    if nan || infinite {
        return write!(out, "{sign}{}", if nan { "nan" } else { "inf" });
    }
    let mut digits = [b'0'; 24];
    let (mut count, _) = scientific(&mut digits, format_args!("{value:e}"))?;
    // Halfway between two numbers of that length, C rounds to even. If the result parses as another number, more digits
    // are used.
    let shortest = digits;
    let exponent = loop {
        let (_, exponent) = scientific(&mut digits, format_args!("{value:.*e}", count - 1))?;
        if digits == shortest || count >= MOST_DIGITS || value.is(&digits[..count], exponent) {
            break exponent;
        }
        count += 1;
    };
    let count = digits[..count].iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
    let digits = std::str::from_utf8(&digits).unwrap_or_default();
    // A subnormal number has no more digits than needed.
    let precision = if tiny {
        count as i32
    } else {
        F::DIGITS.max(count as i32)
    };
    if (-4..precision).contains(&exponent) {
        if exponent < 0 {
            let zeros = &"000"[..(-exponent - 1) as usize];
            return write!(out, "{sign}0.{zeros}{}", &digits[..count]);
        }
        let whole = exponent as usize + 1;
        write!(out, "{sign}{}", &digits[..whole])?;
        return if count > whole {
            write!(out, ".{}", &digits[whole..count])
        } else {
            Ok(())
        };
    }
    write!(out, "{sign}{}", &digits[..1])?;
    if count > 1 {
        write!(out, ".{}", &digits[1..count])?;
    }
    write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

impl RowFormat<BYTES> for Typed {
    const NAMES_HOLES: bool = true;

    #[inline]
    fn row(&self, at: u64, row: &[u8; BYTES], _digits: &Digits<BYTES>, out: &mut Vec<u8>) {
        self.line(at, row, BYTES, out);
    }

    fn short(&self, at: u64, row: &[u8; BYTES], len: usize, out: &mut Vec<u8>) {
        self.line(at, row, len, out);
        out.pop();
        let whole = len / self.unit.bytes * self.unit.bytes;
        if whole < len {
            let s = if len - whole == 1 { "" } else { "s" };
            out.extend_from_slice(format!("  + {} byte{s}:", len - whole).as_bytes());
            for byte in &row[whole..len] {
                out.extend_from_slice(format!(" {byte:02x}").as_bytes());
            }
        }
        out.push(b'\n');
    }

    fn repeats(&self, end: u64, bytes: u64, out: &mut Vec<u8>) {
        let text = annotation::repeats(bytes);
        out.extend_from_slice(annotation::starred(end.wrapping_sub(bytes), &text).as_bytes());
        out.push(b'\n');
    }

    fn gap(&self, gap: Gap, from: u64, to: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(annotation::starred(from, &annotation::gap(gap, from, to)).as_bytes());
        out.push(b'\n');
    }

    fn end(&self, at: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(annotation::offset(at).as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
