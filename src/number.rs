//! The number grammar: parses every count, offset, range and size that a user types.
//!
//! ```text
//! NUM    = decimal | 0x… | 0b… | 0o…            one '_' allowed between two digits
//! QTY    = NUM | DECIMAL UNIT
//! UNIT   = B | K M G T (also k m g t, KiB…: powers of 1024) | kB KB MB GB TB (powers of 1000) | p page pages
//! OFFSET = ["-"] QTY {("+"|"-") QTY} | "end" {("+"|"-") QTY}        "-N" is "end-N"
//! RANGE  = [OFFSET] ".." [OFFSET] | [OFFSET] "..+" QTY              half-open
//! SIZE   = QTY | "+" QTY | "-" QTY                                  grow, shrink
//! ```
//!
//! Prefixes are lower case because `0B` is zero bytes. A text that tools read in different ways (`020`, `1b`, `3P`) is
//! refused, not guessed: a wrong guess here writes to the wrong offset of a file.
//!
//! The parsers (`read`, `scan`) return only whether a text is valid; `advice` explains why one is refused.

mod advice;
mod argv;
mod duration;
mod format;
#[cfg(test)]
mod tests;
mod units;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use advice::{Meant, refusal};
pub use argv::join_negative_values;
pub use duration::{duration, interval};
pub use format::{NoFormat, NumberFormat, NumberKind};
pub use units::human;
use units::{Unit, unit};

/// Why a text is not a quantity, and what to type instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong, quoting the wrong part; one line, no full stop.
    pub message: String,
    /// What to type instead; empty if there is nothing to suggest.
    pub tip: String,
}

impl Display for ParseError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}

fn refuse<T>(message: impl Into<String>, tip: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError {
        message: message.into(),
        tip: tip.into(),
    })
}

// ---- what is public --------------------------------------------------------------------------------------------------

/// A QTY: an amount in bytes, or in pages whose size is known only later. Displayed as it could be typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qty {
    /// This many bytes, `0..=u64::MAX`.
    Bytes(u64),
    /// This many pages, `0..=u64::MAX`; [`Qty::bytes`] checks the product.
    Pages(u64),
}

impl Qty {
    /// The amount in bytes, with pages of `page` bytes. Refuses amounts above `u64::MAX`.
    pub fn bytes(self, page: u64) -> Result<u64, ParseError> {
        match self {
            Qty::Bytes(n) => Ok(n),
            Qty::Pages(n) => n.checked_mul(page).ok_or_else(|| ParseError {
                message: format!("{self} does not fit into 64 bits, at {page} bytes a page"),
                tip: format!("write at most {}p", u64::MAX / page.max(1)),
            }),
        }
    }

    fn read(text: &str) -> Option<Qty> {
        let (n, unit) = scan(text)?;
        unit.unwrap_or(Unit::Bytes(1)).times(n)
    }
}

impl FromStr for Qty {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Qty, ParseError> {
        Qty::read(text).ok_or_else(|| refusal(Meant::Quantity, text))
    }
}

impl Display for Qty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Qty::Bytes(n @ 0..10) => write!(f, "{n}"),
            Qty::Bytes(n) => write!(f, "{n:#x}"),
            Qty::Pages(n) => write!(f, "{n}p"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

/// An OFFSET: counted from the start or from the end, as a sum of signed quantities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    from_end: bool,
    /// If it is counted from the start, the first term is always positive: a leading minus means "from the end".
    terms: Vec<(Sign, Qty)>,
}

impl Offset {
    /// The offset in bytes from the start, for a file of `len` bytes and pages of `page` bytes: `0..=len`. Refuses
    /// offsets before the start and past the end; the end itself is allowed.
    pub fn resolve(&self, len: u64, page: u64) -> Result<u64, ParseError> {
        let at = self.place(len, page)?;
        if at > len {
            return refuse(
                format!("offset {} lies past the end, at {}", self.named(at.into()), extent(len)),
                format!("offsets go up to {len:#x}; end-N counts back from the end"),
            );
        }
        Ok(at)
    }

    /// The offset, even if it is past the end. Every term fits into 64 bits, so no text that fits into memory overflows
    /// the sum.
    ///
    /// # Errors
    /// Refuses offsets before the start, and above `u64::MAX`.
    pub fn place(&self, len: u64, page: u64) -> Result<u64, ParseError> {
        let mut at = if self.from_end { i128::from(len) } else { 0 };
        for (sign, qty) in &self.terms {
            let bytes = i128::from(qty.bytes(page)?);
            at += if *sign == Sign::Plus { bytes } else { -bytes };
        }
        u64::try_from(at).or_else(|_| {
            let (side, tip) = match at {
                ..0 => ("before the start", "write 0 for the start".to_owned()),
                _ => ("past what 64 bits can count", format!("write at most {len:#x}")),
            };
            refuse(format!("offset {} lies {side}; the end is at {}", self.named(at), extent(len)), tip)
        })
    }

    /// Whether it is counted from the end.
    pub fn is_from_end(&self) -> bool {
        self.from_end
    }

    fn read(text: &str) -> Option<Offset> {
        let (from_end, first, mut rest) = match text.strip_prefix("end") {
            Some(rest) => (true, "", rest),
            None if text.starts_with('-') => (true, "", text),
            None => {
                let (first, rest) = split_at_sign(text);
                (false, first, rest)
            }
        };
        let mut terms = Vec::new();
        if !from_end {
            terms.push((Sign::Plus, Qty::read(first)?));
        }
        while let Some(sign) = rest.chars().next() {
            let sign = match sign {
                '+' => Sign::Plus,
                '-' => Sign::Minus,
                _ => return None,
            };
            let (term, next) = split_at_sign(&rest[1..]);
            terms.push((sign, Qty::read(term)?));
            rest = next;
        }
        Some(Offset { from_end, terms })
    }

    fn named(&self, at: i128) -> String {
        let hex = format!("{}{:#x}", if at < 0 { "-" } else { "" }, at.unsigned_abs());
        if self.from_end || self.terms.len() > 1 {
            format!("{self} ({hex})")
        } else {
            hex
        }
    }
}

/// A length in messages: in hex, to compare with offsets, and with a unit.
fn extent(len: u64) -> String {
    format!("{len:#x} ({})", human(len))
}

impl From<u64> for Offset {
    fn from(bytes: u64) -> Offset {
        Offset {
            from_end: false,
            terms: vec![(Sign::Plus, Qty::Bytes(bytes))],
        }
    }
}

impl FromStr for Offset {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Offset, ParseError> {
        Offset::read(text).ok_or_else(|| refusal(Meant::Offset, text))
    }
}

impl Display for Offset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.from_end {
            f.write_str("end")?;
        }
        for (i, (sign, qty)) in self.terms.iter().enumerate() {
            match sign {
                Sign::Plus if i == 0 && !self.from_end => write!(f, "{qty}")?,
                Sign::Plus => write!(f, "+{qty}")?,
                Sign::Minus => write!(f, "-{qty}")?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Until {
    End,
    At(Offset),
    Length(Qty),
}

/// A RANGE: from one offset to another, which is excluded; or an offset and a length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    start: Option<Offset>,
    until: Until,
}

impl Range {
    /// The range of `--offset A --length L`: `A..+L`; without a length `A..`, without an offset `..+L`.
    pub fn new(start: Option<Offset>, len: Option<Qty>) -> Range {
        Range {
            start,
            until: len.map_or(Until::End, Until::Length),
        }
    }

    /// Start and end in bytes, half-open, for a file of `len` bytes and pages of `page` bytes.
    ///
    /// `start <= end` and `start <= len` hold; the end may be past `len`, and the caller clips or refuses it. Refuses a
    /// start outside the file, an end before the start, and an end above `u64::MAX`.
    pub fn resolve(&self, len: u64, page: u64) -> Result<(u64, u64), ParseError> {
        self.resolve_within((0, len), len, page)
    }

    /// The offsets of start and end in a file of `len` bytes. If start or end is omitted, that of `whole`, a part of
    /// the file, is used. Refuses ranges as [`Range::resolve`] does.
    pub fn resolve_within(&self, whole: (u64, u64), len: u64, page: u64) -> Result<(u64, u64), ParseError> {
        let start = match &self.start {
            Some(offset) => offset.resolve(len, page)?,
            None => whole.0,
        };
        self.until(start, whole.1, len, page)
    }

    /// The offsets of start and end in a file that is about to grow: the start may also be past `len`.
    pub fn place(&self, len: u64, page: u64) -> Result<(u64, u64), ParseError> {
        let start = self.start.as_ref().map_or(Ok(0), |offset| offset.place(len, page))?;
        self.until(start, len, len, page)
    }

    fn until(&self, start: u64, default: u64, len: u64, page: u64) -> Result<(u64, u64), ParseError> {
        let end = match &self.until {
            // If `whole` is a part of the file, its end may be before a start that is valid in the file.
            Until::End => default.max(start),
            Until::At(offset) => offset.place(len, page)?,
            Until::Length(qty) => start.checked_add(qty.bytes(page)?).ok_or_else(|| ParseError {
                message: format!("range {self} ends past what 64 bits can count"),
                tip: format!("write {start:#x}.. to reach the end"),
            })?,
        };
        if end < start {
            return refuse(
                format!("range {self} ends at {end:#x}, before its start at {start:#x}"),
                format!("write {end:#x}..{start:#x}, or {start:#x}..+{end:#x} for a length of {end:#x}"),
            );
        }
        Ok((start, end))
    }

    /// Whether start or end is counted from the end, or is the end itself.
    pub fn needs_end(&self) -> bool {
        let until = match &self.until {
            Until::End => true,
            Until::At(offset) => offset.is_from_end(),
            Until::Length(_) => false,
        };
        until || self.start.as_ref().is_some_and(Offset::is_from_end)
    }

    fn read(text: &str) -> Option<Range> {
        let (left, right) = text.split_once("..")?;
        let start = match left {
            "" => None,
            place => Some(Offset::read(place)?),
        };
        let until = match (right, right.strip_prefix('+')) {
            ("", _) => Until::End,
            (_, Some(length)) => Until::Length(Qty::read(length)?),
            (place, None) => Until::At(Offset::read(place)?),
        };
        Some(Range { start, until })
    }
}

impl FromStr for Range {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Range, ParseError> {
        Range::read(text).ok_or_else(|| refusal(Meant::Range, text))
    }
}

impl Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(start) = &self.start {
            write!(f, "{start}")?;
        }
        match &self.until {
            Until::End => f.write_str(".."),
            Until::At(offset) => write!(f, "..{offset}"),
            Until::Length(qty) => write!(f, "..+{qty}"),
        }
    }
}

/// A SIZE, for `remap --size`: a new length, or a change of the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// `QTY`: exactly this long.
    To(Qty),
    /// `+QTY`: longer by this.
    Grow(Qty),
    /// `-QTY`: shorter by this.
    Shrink(Qty),
}

impl Size {
    /// The new length in bytes, from the present length `len` and pages of `page` bytes: `0..=i64::MAX`, the limit of
    /// off_t. Refuses shrinking below 0 and growing above `i64::MAX`.
    pub fn resolve(self, len: u64, page: u64) -> Result<u64, ParseError> {
        let new = match self {
            Size::To(qty) => Some(qty.bytes(page)?),
            Size::Grow(qty) => len.checked_add(qty.bytes(page)?),
            Size::Shrink(qty) => Some(len.checked_sub(qty.bytes(page)?).ok_or_else(|| ParseError {
                message: format!("cannot shrink by {qty}; the length is {}", extent(len)),
                tip: format!("write the new length itself; {len:#x} is the present one"),
            })?),
        };
        new.filter(|new| i64::try_from(*new).is_ok()).ok_or_else(|| ParseError {
            message: format!("size {self} is larger than a file can be; the length is {}", extent(len)),
            tip: format!("write at most {:#x}", i64::MAX),
        })
    }

    fn read(text: &str) -> Option<Size> {
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(more), _) => Qty::read(more).map(Size::Grow),
            (_, Some(less)) => Qty::read(less).map(Size::Shrink),
            _ => Qty::read(text).map(Size::To),
        }
    }
}

impl FromStr for Size {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Size, ParseError> {
        Size::read(text).ok_or_else(|| refusal(Meant::Size, text))
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Size::To(qty) => write!(f, "{qty}"),
            Size::Grow(qty) => write!(f, "+{qty}"),
            Size::Shrink(qty) => write!(f, "-{qty}"),
        }
    }
}

/// Parses a non-negative number NUM, `0..=u64::MAX`, for values and lists. Refuses a sign or a unit.
pub fn number(text: &str) -> Result<u64, ParseError> {
    plain(text).ok_or_else(|| refusal(Meant::Number, text))
}

// ---- reading one number: the only path from digits to a value ---------------------------------------------------------

const SIGNS: [char; 2] = ['+', '-'];
const PREFIXES: [(&str, u32); 3] = [("0x", 16), ("0o", 8), ("0b", 2)];
fn plain(text: &str) -> Option<u64> {
    match scan(text)? {
        (n, None) => Some(n),
        _ => None,
    }
}

/// Parses NUM, or DECIMAL UNIT; no sign, no blanks.
fn scan(text: &str) -> Option<(u64, Option<Unit>)> {
    for (prefix, radix) in PREFIXES {
        if let Some(num) = text.strip_prefix(prefix) {
            return Some((digits(num, radix)?, None));
        }
    }
    let (num, tail) = split_digits(text, 10);
    let padded = num.len() > 1 && num.starts_with('0');
    let unit = unit(tail);
    if padded || (unit.is_none() && !tail.is_empty()) {
        return None;
    }
    Some((digits(num, 10)?, unit))
}

/// Parses digits of `radix`, with single underscores between digits; `None` if 64 bits are not enough.
fn digits(num: &str, radix: u32) -> Option<u64> {
    if num.split('_').any(str::is_empty) {
        return None;
    }
    num.chars()
        .filter(|c| *c != '_')
        .try_fold(0u64, |n, c| n.checked_mul(radix.into())?.checked_add(c.to_digit(radix)?.into()))
}

fn split_digits(text: &str, radix: u32) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_digit(radix) && c != '_').unwrap_or(text.len()))
}

fn split_at_sign(text: &str) -> (&str, &str) {
    text.split_at(text.find(SIGNS).unwrap_or(text.len()))
}
