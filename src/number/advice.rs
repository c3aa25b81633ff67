//! Explains why the grammar refused a text, and what to type instead.
//!
//! First, common slips are corrected, and a text that the grammar then accepts is suggested. Otherwise the wrong part
//! is searched for, down to a single number. The grammar does not call this module, so a text of 100,000 signs is
//! refused without deep recursion.

use super::units::{UNITS, Unit, unit};
use super::{Offset, PREFIXES, ParseError, Qty, Range, SIGNS, Size, digits, plain, split_digits};

const EXAMPLES: &str = "write a number such as 4096, 0x1000, 4K or 3p (pages)";
const RANGES: &str = "write START..END, START..+LENGTH, or .. for everything";
const ENDS: &str = "write end, or end-N such as end-4, as an offset; leave a length out to reach the end";
const UNIT_LIST: &str = "units are B; K M G T (powers of 1024); kB MB GB TB (powers of 1000); p (pages)";
const UNIT_AFTER_PREFIX: &str = "has a unit, and units follow decimal numbers only";

/// What a text was to be parsed as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    Number,
    Quantity,
    Offset,
    Range,
    Size,
}

impl Meant {
    fn admits(self, text: &str) -> bool {
        match self {
            Meant::Number => plain(text).is_some(),
            Meant::Quantity => Qty::read(text).is_some(),
            Meant::Offset => Offset::read(text).is_some(),
            Meant::Range => Range::read(text).is_some(),
            Meant::Size => Size::read(text).is_some(),
        }
    }
}

/// Why the grammar refuses `text`.
pub(super) fn refusal(kind: Meant, text: &str) -> ParseError {
    if text.is_empty() {
        return wrong(text, "is empty", if kind == Meant::Range { RANGES } else { EXAMPLES });
    }
    let squeezed: String = text.split_whitespace().collect();
    if squeezed != text {
        let admitted = kind.admits(&squeezed).then(|| format!("write {squeezed}"));
        let tip = admitted.unwrap_or_else(|| refusal(kind, &squeezed).tip);
        return wrong(text, "contains a blank", tip);
    }
    for (what, mend) in SLIPS {
        let mended = mend(text);
        if kind.admits(&mended) {
            return wrong(text, what, format!("write {mended}"));
        }
    }
    explain(kind, text)
}

type Slip = (&'static str, fn(&str) -> String);

/// The message for a text that the grammar accepts after this correction.
#[rustfmt::skip]
const SLIPS: [Slip; 9] = [
    ("has upper-case letters where lower-case ones are required", |text| {
        text.replace("0X", "0x").replace("0O", "0o").replace("0B", "0b").replace("END", "end")
    }),
    ("has a '_' that is not between two digits", |text| text.replace('_', "")),
    ("has a ',' in it", |text| {
        // This excludes `1,5`, which may be a fraction.
        let thousands = |group: &str| group.bytes().take_while(u8::is_ascii_digit).count() == 3;
        if text.split(',').skip(1).all(thousands) { text.replace(',', "") } else { String::new() }
    }),
    ("has three dots", |text| text.replace("...", "..")),
    ("includes its end, but ranges here do not", |text| text.replacen("..=", "..", 1) + "+1"),
    ("is not a range", |text| if text.starts_with('+') { format!("..{text}") } else { String::new() }),
    ("has no number after its sign, such as 16", |text| {
        if text.ends_with(SIGNS) { format!("{text}16") } else { String::new() }
    }),
    ("has two signs in a row", |text| text.replace("++", "+").replace("+-", "-").replace("-+", "-").replace("--", "-")),
    ("has a sign where none is allowed", |text| text.trim_start_matches(SIGNS).to_owned()),
];

// ---- which part is wrong ---------------------------------------------------------------------------------------------

fn explain(kind: Meant, text: &str) -> ParseError {
    let after_end = text.strip_prefix("end").filter(|rest| rest.starts_with(SIGNS));
    let mut terms = after_end.unwrap_or(text).split(SIGNS).filter(|term| !term.is_empty());
    let (what, tip) = if let Some(tip) = pair(text) {
        ("contains a ':', and no number does", tip)
    } else if kind == Meant::Range {
        return range(text);
    } else if Meant::Range.admits(text) {
        ("is a range, where one number is required", format!("write --range {text}"))
    } else if let Some(term) = terms.find(|term| !Meant::Quantity.admits(term)) {
        return number(term);
    } else {
        match Qty::read(text) {
            Some(Qty::Bytes(n)) => ("has a unit, where a plain number is required", format!("write {n}")),
            _ => ("is not one plain amount", "write one amount in bytes".to_owned()),
        }
    };
    wrong(text, what, tip)
}

fn range(text: &str) -> ParseError {
    let Some((left, right)) = text.split_once("..") else {
        return not_a_range(text);
    };
    match right.strip_prefix('+') {
        _ if right.contains("..") => wrong(text, "has more than one '..'", RANGES),
        _ if !left.is_empty() && !Meant::Offset.admits(left) => refusal(Meant::Offset, left),
        Some(length) => refusal(Meant::Quantity, length),
        None => refusal(Meant::Offset, right),
    }
}

fn not_a_range(text: &str) -> ParseError {
    let bytes = |text: &str| Qty::read(text).and_then(|qty| qty.bytes(4096).ok());
    if let Some((left, right)) = text.split_once('-')
        && let (Some(left), Some(right)) = (likely(left), likely(right))
        && bytes(&left) < bytes(&right)
    {
        let tip = format!("write {left}..{right} (the end is not included)");
        return wrong(text, "is not a range", tip);
    }
    if !Meant::Offset.admits(text) {
        return refusal(Meant::Offset, text);
    }
    let tip = format!("write {text}..+LEN, {text}.. to go on to the end, or ..{text} to stop there");
    wrong(text, "is not a range", tip)
}

/// The corrected text for `0x40:16`, an offset and a length in other tools, and for `00000040:`, an address in a dump.
fn pair(text: &str) -> Option<String> {
    match text.split_once(':')? {
        (left, "") => Some(format!("write {}", likely(left)?)),
        (left, right) => Some(format!("write {}..+{} as a range", likely(left)?, likely(right)?)),
    }
}

/// The text itself if it is an amount, or hex digits with the missing prefix.
fn likely(text: &str) -> Option<String> {
    let amount = Meant::Quantity.admits(text).then(|| text.to_owned());
    amount.or_else(|| as_hex(text))
}

/// `00007f40` becomes `0x7f40`.
fn as_hex(text: &str) -> Option<String> {
    u64::from_str_radix(text, 16).ok().map(|n| format!("{n:#x}"))
}

// ---- what is wrong with one number -----------------------------------------------------------------------------------

/// The first explanation that applies. The order matters: `01b` is checked as hex before its unit is.
fn number(text: &str) -> ParseError {
    if let Some((prefix, radix)) = PREFIXES.into_iter().find(|(prefix, _)| text.starts_with(prefix)) {
        return prefixed(text, &text[prefix.len()..], radix);
    }
    let (num, tail) = split_digits(text, 10);
    let counted = tail.is_empty() || unit(tail).is_some();
    let (what, tip) = if counted && let Some(refusal) = leading_zero(text, num, tail) {
        return refusal;
    } else if counted && well_spaced(num) {
        return too_large(text);
    } else if let Some(hex) = as_hex(text) {
        ("is not decimal", format!("write {}{hex} for hex", not_hex(text)))
    } else if text.matches('.').count() == 1 {
        let tip = fraction(text).map_or(EXAMPLES.to_owned(), |bytes| format!("write {bytes}"));
        ("is not a whole number", tip)
    } else if text.starts_with("end") {
        ("is not an amount", ENDS.to_owned())
    } else if !num.is_empty() && tail.starts_with(char::is_alphabetic) {
        ("has an unknown unit", known_unit(num, tail) + UNIT_LIST)
    } else {
        ("is not a number", EXAMPLES.to_owned())
    };
    wrong(text, what, tip)
}

fn prefixed(text: &str, body: &str, radix: u32) -> ParseError {
    let (num, tail) = split_digits(body, radix);
    let tip = match radix {
        16 => "hex digits are 0-9 and a-f, as in 0x40",
        8 => "octal digits are 0-7, as in 0o17",
        _ => "binary digits are 0 and 1, as in 0b101; 0B is zero bytes",
    };
    let (what, tip) = match digits(num, radix).zip(unit(tail)).map(|(n, unit)| (n, unit.times(n))) {
        Some((n, Some(Qty::Bytes(bytes)))) => (UNIT_AFTER_PREFIX, format!("write {n}{tail} or {bytes:#x}")),
        Some((n, Some(Qty::Pages(_)))) => (UNIT_AFTER_PREFIX, format!("write {n}{tail}")),
        Some((_, None)) => return too_large(text),
        None if tail.is_empty() && well_spaced(num) => return too_large(text),
        // In a dump, `0b12` may be hex digits that begin with 0b.
        None => match as_hex(text) {
            Some(hex) => ("is not a binary number", format!("write {hex} if it is hex; {tip}")),
            None => ("is not a number after its prefix", tip.to_owned()),
        },
    };
    wrong(text, what, tip)
}

fn leading_zero(text: &str, num: &str, tail: &str) -> Option<ParseError> {
    let padded = num.strip_prefix('0')?.replace('_', "");
    let n: u64 = padded.parse().ok()?;
    unit(tail).map_or(Some(Qty::Bytes(n)), |unit| unit.times(n))?;
    let octal = plain(&format!("0o{n}")).map_or(String::new(), |_| format!(", 0o{n} for octal"));
    let (what, tip) = match padded.len() {
        _ if n == 0 || !tail.is_empty() => ("has leading zeros", format!("write {n}{tail}")),
        // hexdump pads an address to seven digits, other tools pad to more.
        6.. => ("looks like an offset of a dump", format!("write 0x{n} for hex, or {n} for decimal")),
        _ => {
            let tip = format!("write {n} for decimal{octal} or 0x{n} for hex");
            ("starts with 0, which tools read as decimal, octal or hex", tip)
        }
    };
    Some(wrong(text, what, tip))
}

fn too_large(text: &str) -> ParseError {
    let tip = format!("write at most {:#x}", u64::MAX);
    wrong(text, "does not fit into 64 bits", tip)
}

/// Whether the only possible error of these digits is that there are too many.
fn well_spaced(num: &str) -> bool {
    !num.split('_').any(str::is_empty)
}

/// What hex digits without a prefix may mean instead: `1b` disk blocks, as in `dd`, and `1e3` a power of ten.
fn not_hex(text: &str) -> String {
    let times = |base: &str, factor: u64| base.parse::<u64>().ok()?.checked_mul(factor);
    if let Some(n) = text.strip_suffix('b')
        && let Some(bytes) = times(n, 512)
    {
        format!("{}B for bytes, {bytes} for disk blocks of 512 bytes, or ", bytes / 512)
    } else if let Some(t) = text.strip_suffix('E').and_then(|base| times(base, 1 << 20))
        && Unit::Bytes(1 << 40).times(t).is_some()
    {
        format!("{t}T for exbibytes, or ")
    } else if let Some((base, exponent)) = text.split_once(['e', 'E'])
        && let Some(power) = exponent.parse().ok().and_then(|n| 10u64.checked_pow(n))
        && let Some(value) = times(base, power)
    {
        format!("{value} for decimal, or ")
    } else {
        String::new()
    }
}

/// The value of `1.5K` in bytes, if it is an integer.
fn fraction(text: &str) -> Option<u128> {
    let (whole, rest) = text.split_once('.')?;
    let (part, tail) = split_digits(rest, 10);
    let Unit::Bytes(each) = unit(tail)? else { return None };
    let scale = 10u128.checked_pow(part.len().try_into().ok()?)?;
    let value: u128 = format!("0{whole}{part}").parse().ok()?;
    let value = value.checked_mul(each.into())?;
    Some(value / scale).filter(|bytes| value % scale == 0 && *bytes <= u64::MAX.into())
}

/// The unit that matches except for its case. `human` writes `17 bytes`.
fn known_unit(num: &str, tail: &str) -> String {
    let name = if matches!(tail, "byte" | "bytes") { "B" } else { tail };
    let Some((known, _)) = UNITS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
        return String::new();
    };
    let candidate = format!("{num}{known}");
    match digits(num, 10).and_then(|n| n.checked_mul(1024)) {
        Some(t) if tail == "P" => format!("write {candidate} for pages or {t}T for pebibytes; "),
        _ if Meant::Quantity.admits(&candidate) => format!("write {candidate}; "),
        _ => String::new(),
    }
}

/// Refuses `text`, which is quoted without control characters (scripts may come from anywhere) and shortened to fit a
/// line.
fn wrong(text: &str, what: &str, tip: impl Into<String>) -> ParseError {
    let cut = text.char_indices().nth(48).map_or(text.len(), |(at, _)| at);
    let dots = if cut < text.len() { "…" } else { "" };
    ParseError {
        message: format!("'{}{dots}' {what}", text[..cut].escape_debug()),
        tip: tip.into(),
    }
}
