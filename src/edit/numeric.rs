//! Numbers as values: `u16le:1,2`, `i8:-1`, `f32be:1.5`, and with a mask `u16le:0x4/0x7`.

use crate::number::{self, NoFormat, NumberFormat, NumberKind, ParseError};

/// Bytes of which only some bits count: those set in a mask of the same length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaskedBytes {
    /// The bytes; bits outside the mask are 0.
    pub bytes: Vec<u8>,
    /// The mask.
    pub mask: Vec<u8>,
}

/// The kinds of value, for messages.
pub(super) const KINDS: &str = "hex text cstr zero fill, u8 i8, {u,i}{16,32,64}{le,be}, {f32,f64}{le,be}, crc32{le,be}";

/// A number format that converts values to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(NumberFormat);

/// The smallest and the largest integer of this many bits.
fn bounds(kind: NumberKind, bits: u32) -> (i128, i128) {
    match kind {
        NumberKind::Signed => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        _ => (0, (1i128 << bits) - 1),
    }
}

/// The kind, as its letter and its bits, that can hold `value`, which this kind of `bits` cannot: the same number of
/// bits with or without a sign, otherwise more bits.
fn fitting(kind: NumberKind, bits: u32, value: i128) -> Option<(char, u32)> {
    let other = match kind {
        NumberKind::Signed => NumberKind::Unsigned,
        _ => NumberKind::Signed,
    };
    let wider = [8, 16, 32, 64].into_iter().filter(|wider| *wider > bits);
    let kinds = std::iter::once((other, bits)).chain(wider.flat_map(|wider| [(kind, wider), (other, wider)]));
    let fits = |(kind, bits): &(NumberKind, u32)| {
        let (least, most) = bounds(*kind, *bits);
        (least..=most).contains(&value)
    };
    let letter = |kind| if kind == NumberKind::Signed { 'i' } else { 'u' };
    kinds.into_iter().find(fits).map(|(kind, bits)| (letter(kind), bits))
}

impl Number {
    /// The kind of this name.
    pub(super) fn of(kind: &str) -> Result<Number, ParseError> {
        let unknown = || {
            let tip = format!("kinds of value: {KINDS}, @FILE, @-; for text write text:WORDS");
            refuse(format!("'{kind}:' is not a kind of value"), tip)
        };
        if kind == "crc32" {
            return refuse(
                "'crc32:' does not give the byte order",
                "write crc32le: (gzip, ZIP: lowest byte first) or crc32be: (PNG: highest byte first)",
            );
        }
        NumberFormat::parse(kind).map(Number).or_else(|no| match no {
            NoFormat::Unknown => unknown(),
            NoFormat::NoByteOrder => refuse(
                format!("'{kind}:' does not give the byte order"),
                format!("write {kind}le: (x86, ARM: lowest byte first) or {kind}be: (network order)"),
            ),
        })
    }

    /// `1,2,3`; each number may have a mask: `4/7`.
    pub(super) fn list(self, text: &str) -> Result<MaskedBytes, ParseError> {
        let mut all = MaskedBytes::default();
        for item in text.split(',') {
            let item = item.trim();
            let (value, mask) = match item.split_once('/') {
                Some((value, mask)) => (value.trim(), Some(mask.trim())),
                None => (item, None),
            };
            let bits = match self.0.kind {
                NumberKind::Float => self.float(value)?,
                NumberKind::Unsigned | NumberKind::Signed => self.integer(value)?,
            };
            let mask = mask.map(|mask| self.mask(item, bits, mask)).transpose()?;
            all.bytes.extend(self.in_order(bits));
            all.mask.extend(self.in_order(mask.unwrap_or(u64::MAX)));
        }
        Ok(all)
    }

    fn in_order(self, bits: u64) -> Vec<u8> {
        let mut bytes = bits.to_le_bytes()[..self.0.bytes].to_vec();
        if self.0.big {
            bytes.reverse();
        }
        bytes
    }

    /// The bits that a value may change; it must not set any others.
    fn mask(self, item: &str, value: u64, text: &str) -> Result<u64, ParseError> {
        if self.0.kind == NumberKind::Float {
            return refuse(
                format!("'{item}': a floating-point number cannot have a mask"),
                "use u32 or u64 for the same bytes",
            );
        }
        let unsigned = Number(NumberFormat {
            kind: NumberKind::Unsigned,
            ..self.0
        });
        let mask = unsigned.integer(text)?;
        let width = u64::MAX >> (64 - self.0.bytes * 8);
        let outside = value & width & !mask;
        if outside != 0 {
            return refuse(
                format!("'{item}' sets bits outside its mask ({outside:#x})"),
                format!("write VALUE/MASK with the value's bits in their places: {:#x}/{mask:#x}", value & mask),
            );
        }
        Ok(mask)
    }

    fn integer(self, text: &str) -> Result<u64, ParseError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let magnitude = i128::from(number::number(digits)?);
        let value = if negative { -magnitude } else { magnitude };
        let bits = self.0.bytes as u32 * 8;
        let (least, most) = bounds(self.0.kind, bits);
        if value < least || value > most {
            let tip = match fitting(self.0.kind, bits, value) {
                Some((letter, 8)) => format!("write {letter}8:{text}"),
                Some((letter, bits)) if self.0.bytes == 1 => {
                    format!("write {letter}{bits}le:{text} or {letter}{bits}be:{text}")
                }
                Some((letter, bits)) => format!("write {letter}{bits}{}:{text}", if self.0.big { "be" } else { "le" }),
                None => "numbers have at most 64 bits; write longer ones as hex bytes".into(),
            };
            let kind = if self.0.kind == NumberKind::Signed {
                "signed"
            } else {
                "unsigned"
            };
            return refuse(format!("{text} does not fit {bits} {kind} bits, which hold {least} to {most}"), tip);
        }
        Ok(value as u64)
    }

    fn float(self, text: &str) -> Result<u64, ParseError> {
        let tip = "write a decimal number such as 1.5 or -2e10, or inf, or nan";
        let Ok(value) = text.parse::<f64>() else {
            return refuse(format!("'{text}' is not a floating-point number"), tip);
        };
        let bits = match self.0.bytes {
            // Rounded once, from the text: converting by way of f64 would round twice.
            4 => text.parse::<f32>().map(|single| (single.is_infinite(), single.to_bits().into())),
            _ => Ok((value.is_infinite(), value.to_bits())),
        };
        let named = text.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("inf");
        match bits {
            Ok((true, _)) if !named => refuse(
                format!("{text} is too large for {} bits", self.0.bytes * 8),
                "write inf if that is meant, or use f64le: or f64be:",
            ),
            Ok((_, bits)) => Ok(bits),
            Err(_) => refuse(format!("'{text}' is not a floating-point number"), tip),
        }
    }
}

pub(super) fn refuse<T>(message: impl Into<String>, tip: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError {
        message: message.into(),
        tip: tip.into(),
    })
}
