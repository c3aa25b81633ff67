//! Values: what a user writes for bytes, as `dead`, `text:V1\n`, `u32le:1,2`, `fill:5a:4K` or `@FILE`.

use super::journal::unless_half_patched;
use super::number::{KINDS, Masked, Number, refuse};
use super::spool::Spool;
use crate::edit::error::{Error, ErrorContext, Result};
use crate::quantity::{Offset, Qty, Range, Refusal};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// A VALUE, read and understood; its bytes may still have to come from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bits of these bytes; the others stay as they are.
    Masked(Masked),
    /// One byte, that many times.
    Fill(u8, Qty),
    /// The CRC-32 (IEEE 802.3, as zlib, gzip and PNG have it) of a range of the file, once all other edits are in.
    Sum(Sum),
    /// The contents of a file.
    File(PathBuf),
    /// What comes on stdin.
    Stdin,
}

/// A checksum that takes four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Of these bytes.
    pub range: Range,
    /// Highest byte first.
    pub big: bool,
}

/// The length of a [`Sum`] in bytes.
pub const SUM_LEN: u64 = 4;

impl Value {
    /// Reads `HEX | KIND:ARG | @PATH | @-`. The argument need not be UTF-8: `text:` takes any bytes, `@` any path.
    ///
    /// # Errors
    /// Whatever could be meant in two ways, with a tip that says how to write each.
    pub fn parse(argument: &OsStr) -> Result<Value, Refusal> {
        let bytes = argument.as_bytes();
        if let Some(path) = bytes.strip_prefix(b"@") {
            return match path {
                b"" => refuse("'@' names no file", "write @PATH, or @- for stdin"),
                b"-" => Ok(Value::Stdin),
                path => Ok(Value::File(OsStr::from_bytes(path).into())),
            };
        }
        let place = bytes.iter().position(|byte| b"=:".contains(byte)).filter(|end| {
            let place = std::str::from_utf8(&bytes[..*end]);
            place.is_ok_and(|place| place.parse::<Offset>().is_ok())
        });
        if let Some(end) = place {
            let text = argument.to_string_lossy();
            return refuse(
                format!("'{text}' is a place and a value in one"),
                format!("write --edit '{}: {}'", &text[..end], &text[end + 1..]),
            );
        }
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
            return bare_hex(&argument.to_string_lossy());
        };
        let (kind, arg) = (&bytes[..colon], &bytes[colon + 1..]);
        let text = || String::from_utf8_lossy(arg);
        match kind {
            b"hex" => hex(&text()).map(Value::Bytes),
            b"text" if arg.is_empty() => refuse("an empty text", "write text:WORDS, or zero:1 for a lone NUL"),
            b"text" => unescape(arg).map(Value::Bytes),
            b"cstr" => unescape(arg).map(|mut bytes| {
                bytes.push(0);
                Value::Bytes(bytes)
            }),
            b"zero" => Ok(Value::Fill(0, text().parse()?)),
            b"fill" => fill(&text()),
            b"crc32le" | b"crc32be" => sum(&text(), kind == b"crc32be"),
            _ => {
                let list = Number::of(&String::from_utf8_lossy(kind))?.list(&text())?;
                Ok(if list.mask.iter().all(|bits| *bits == 0xff) {
                    Value::Bytes(list.bytes)
                } else {
                    Value::Masked(list)
                })
            }
        }
    }

    /// Its length in bytes, where it is known before any file is read. `page` is the size of a page.
    pub fn len(&self, page: u64) -> Result<Option<u64>, Refusal> {
        match self {
            Value::Bytes(bytes) => Ok(Some(bytes.len() as u64)),
            Value::Masked(masked) => Ok(Some(masked.bytes.len() as u64)),
            Value::Fill(_, count) => count.bytes(page).map(Some),
            Value::Sum(_) => Ok(Some(SUM_LEN)),
            Value::File(_) | Value::Stdin => Ok(None),
        }
    }

    /// Appends its bytes to `spool` (for a sum, which is not known yet, zeros), but of what comes from outside no more than `most`.
    pub fn spool(&self, spool: &mut Spool, most: u64, page: u64) -> Result<()> {
        match self {
            Value::Bytes(bytes) | Value::Masked(Masked { bytes, .. }) => spool.push(bytes),
            Value::Sum(_) => spool.push_fill(0, SUM_LEN),
            Value::Fill(byte, count) => spool.push_fill(*byte, count.bytes(page)?),
            Value::File(path) => {
                let mut read = || {
                    let mut file = File::open(path).map_failure(|| {
                        let tip = "@PATH stands for the bytes of a file; text:@… for the characters themselves";
                        Error::untouched("cannot open it").tip(tip)
                    })?;
                    if file.metadata()?.is_dir() {
                        let failure = Error::untouched("it is a directory, not bytes");
                        return Err(failure.tip("@PATH stands for the bytes of a file"));
                    }
                    unless_half_patched(&file, path)?;
                    spool.push_from(&mut file, most)
                };
                read().with_path(path)
            }
            Value::Stdin => spool_stdin(spool, most),
        }
    }
}

/// Claims stdin for one reader; it can be read but once.
///
/// # Errors
/// Where someone has it already. Locking it again would wait for ever, and what is left of it is the wrong bytes.
pub fn take_stdin() -> Result<()> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        let failure = Error::untouched("stdin is asked for twice");
        return Err(failure.tip("put one of the two into a file: @PATH, --script PATH"));
    }
    Ok(())
}

fn spool_stdin(spool: &mut Spool, most: u64) -> Result<()> {
    take_stdin()?;
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        // A hint; not being able to print it is no reason to stop.
        let _ = std::io::stderr().write_all(b"reading bytes from the terminal; end them with Ctrl-D\n");
    }
    spool.push_from(&mut stdin, most).context("cannot read stdin")
}

/// Hex without `hex:` in front, where a wrong guess would be a wrong byte.
fn bare_hex(text: &str) -> Result<Value, Refusal> {
    let prefixed = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(digits) = prefixed.filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit() || c == '_')) {
        let even = if digits.len() % 2 == 1 { "0" } else { "" };
        return refuse(
            format!("'{text}' is a number, and its byte order is not said"),
            format!("write {even}{digits} for these bytes in file order, or u16le:{text}, u32be:{text}, …"),
        );
    }
    if text.is_empty() {
        return refuse("an empty value", "write hex bytes such as 9090, or text:WORDS");
    }
    if text.chars().all(|c| c.is_ascii_hexdigit() || c.is_ascii_whitespace()) {
        return hex(text).map(Value::Bytes);
    }
    if text.chars().all(|c| c.is_ascii_hexdigit() || c == '?') {
        return refuse(
            format!("'{text}' has wildcards, which only --find takes"),
            "to change some bits of a number, write VALUE/MASK: u8:0x40/0xf0",
        );
    }
    let bytes = text.split(',').map(|byte| byte.trim_start_matches("0x"));
    let is_byte = |byte: &str| byte.len() == 2 && byte.chars().all(|c| c.is_ascii_hexdigit());
    let tip = if text.contains("->") {
        "old and new bytes are an edit: --edit 'OFFSET: OLD -> NEW'".to_string()
    } else if bytes.clone().all(is_byte) {
        format!("write {}", bytes.collect::<String>())
    } else {
        // A number with something at its end is not meant for text.
        let is_text = text.starts_with(char::is_alphabetic) && !text.contains(char::is_control);
        let text = if is_text { text } else { "WORDS" };
        format!("for text write text:{text}; kinds of value: {KINDS}, @FILE, @-")
    };
    refuse(format!("'{text}' is not a run of hex bytes"), tip)
}

/// What `--find` looks for: any VALUE whose bytes are known, and hex in which `?` stands for any digit (`74??eb`).
pub fn pattern(argument: &OsStr) -> Result<Masked, Refusal> {
    let text = argument.to_string_lossy();
    let digits = text.strip_prefix("hex:").unwrap_or(&text);
    if digits.contains('?') && digits.chars().all(|c| c == '?' || c.is_ascii_hexdigit() || c == ' ') {
        // Looked at first: what is read below is not what was typed.
        if let Some(word) = digits.split(' ').find(|word| word.len() % 2 == 1) {
            return refuse(
                format!("'{word}' has an odd number of digits ({})", word.len()),
                format!("each byte takes two: write 0{word} or {word}?"),
            );
        }
        // Each digit twice: as it is with ? for 0, and as a mask.
        let bytes = hex(&digits.replace('?', "0"))?;
        let mask = hex(&digits.replace(|c: char| c.is_ascii_hexdigit(), "f").replace('?', "0"))?;
        if mask.iter().all(|bits| *bits == 0) {
            return refuse(
                format!("'{text}' is nothing but wildcards"),
                "give at least one digit to look for",
            );
        }
        return Ok(Masked { bytes, mask });
    }
    match Value::parse(argument)? {
        Value::Bytes(bytes) => Ok(Masked {
            mask: vec![0xff; bytes.len()],
            bytes,
        }),
        Value::Masked(masked) if masked.mask.iter().all(|bits| *bits == 0) => refuse(
            format!("'{text}' compares no bit, and so stands everywhere"),
            "give a mask with at least one bit to look for",
        ),
        Value::Masked(masked) => Ok(masked),
        Value::Fill(byte, count) => {
            let len = count.bytes(crate::mapping::page_size())?.min(MOST_PATTERN + 1) as usize;
            if len as u64 > MOST_PATTERN || len == 0 {
                return refuse("a pattern of that length", "look for 1 byte to 64K");
            }
            Ok(Masked {
                bytes: vec![byte; len],
                mask: vec![0xff; len],
            })
        }
        Value::Sum(_) | Value::File(_) | Value::Stdin => refuse(
            format!("'{text}' is not something to look for"),
            "write the bytes themselves: hex, text:…, u32le:…",
        ),
    }
}

/// The longest run of a byte to look for.
const MOST_PATTERN: u64 = 64 << 10;

/// Pairs of hex digits, in file order; spaces may stand between pairs, as in a dump.
fn hex(text: &str) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for word in text.split_ascii_whitespace() {
        if let Some(bad) = word.chars().find(|c| !c.is_ascii_hexdigit()) {
            return refuse(
                format!("'{bad}' in '{text}' is not a hex digit"),
                "hex bytes are pairs of 0-9 and a-f, such as 7f45",
            );
        }
        let Ok(part) = const_hex::decode(word) else {
            return refuse(
                format!("'{word}' has an odd number of hex digits ({})", word.len()),
                format!("each byte takes two: did you mean 0{word}?"),
            );
        };
        bytes.extend(part);
    }
    if bytes.is_empty() {
        return refuse("a value without bytes", "write hex bytes such as 9090");
    }
    Ok(bytes)
}

fn sum(arg: &str, big: bool) -> Result<Value, Refusal> {
    if arg.is_empty() {
        return refuse("a checksum of nothing", "say of which bytes: crc32le:0..end-4");
    }
    let range = arg.parse()?;
    Ok(Value::Sum(Sum { range, big }))
}

fn fill(arg: &str) -> Result<Value, Refusal> {
    let usage = "write fill:BYTE:COUNT, such as fill:ff:4K";
    let Some((byte, count)) = arg.split_once(':') else {
        return refuse(format!("'fill:{arg}' says no count"), usage);
    };
    match hex(byte)?.as_slice() {
        [byte] => Ok(Value::Fill(*byte, count.parse()?)),
        _ => refuse(format!("'{byte}' is more than one byte"), usage),
    }
}

/// Text with the escapes of C and `\xHH`, `\u{HEX}`.
fn unescape(text: &[u8]) -> Result<Vec<u8>, Refusal> {
    const ESCAPES: &str = r"known are \n \t \r \0 \a \b \e \f \v \\ \' \x41 and \u{20ac}; write \\ for a backslash";
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let [escape, tail @ ..] = rest else {
            return refuse("the text ends in a backslash", ESCAPES);
        };
        rest = tail;
        if *escape == b'0' && rest.first().is_some_and(u8::is_ascii_digit) {
            return refuse_octal(rest);
        }
        let simple = b"n\nt\tr\r0\0a\x07b\x08e\x1bf\x0cv\x0b\\\\''\"\"".as_slice();
        if let Some(pair) = simple.chunks(2).find(|pair| pair[0] == *escape) {
            out.push(pair[1]);
            continue;
        }
        let wrong = || refuse(format!("'\\{}' is not an escape", *escape as char), ESCAPES);
        match escape {
            b'x' => {
                // Looked at first: decode takes "0x" for a prefix of no digits.
                let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
                let Some(byte) = digits.and_then(|digits| const_hex::decode(digits).ok()) else {
                    return refuse(r"'\x' takes two hex digits", ESCAPES);
                };
                out.extend(byte);
                rest = &rest[2..];
            }
            b'u' => {
                let close = rest.iter().position(|byte| *byte == b'}');
                let digits = close.and_then(|close| std::str::from_utf8(rest.get(1..close)?).ok());
                // It would take a sign.
                let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                match (code.and_then(char::from_u32), close) {
                    (Some(c), Some(close)) if rest[0] == b'{' => {
                        out.extend(c.to_string().as_bytes());
                        rest = &rest[close + 1..];
                    }
                    _ => return refuse(r"'\u' takes a character's number in braces", ESCAPES),
                }
            }
            _ => return wrong(),
        }
    }
    Ok(out)
}

/// Refuses `\0` before a digit. C and printf read up to three octal digits there, and Rust a NUL and the digits, so either
/// reading would store bytes that some of its users did not mean.
fn refuse_octal<T>(rest: &[u8]) -> Result<T, Refusal> {
    let octal = rest.iter().take(2).take_while(|digit| (b'0'..=b'7').contains(*digit));
    let (byte, len) = octal.fold((0, 0), |(byte, len), digit| (byte * 8 + (digit - b'0'), len + 1));
    let shown: String = rest.iter().take(len.max(1)).copied().map(char::from).collect();
    let one_byte = match len {
        0 => String::new(),
        _ => format!(r", or \x{byte:02x} for the byte with the octal number {shown}"),
    };
    refuse(
        format!(r"'\0{shown}' could be a NUL and then '{shown}', or an octal number as in C"),
        format!(r"write \x00{shown} for a NUL and then '{shown}'{one_byte}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Vec<u8> {
        match Value::parse(OsStr::new(text)) {
            Ok(Value::Bytes(bytes)) => bytes,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refused(text: &str) -> (String, String) {
        let refusal = Value::parse(OsStr::new(text)).expect_err(text);
        (refusal.message, refusal.tip)
    }

    #[test]
    fn every_kind_gives_its_bytes() {
        let table: &[(&str, &[u8])] = &[
            ("dead", &[0xde, 0xad]),
            ("DE AD be ef", &[0xde, 0xad, 0xbe, 0xef]),
            ("hex:00ff", &[0, 0xff]),
            (r"text:V1\n", b"V1\n"),
            ("text:a:b", b"a:b"),
            (r"text:\x41\u{20ac}\\", "A€\\".as_bytes()),
            (r"text:1\0a\0\x31\\01", b"1\0a\x001\\01"),
            ("cstr:ab", b"ab\0"),
            ("cstr:", b"\0"),
            ("u8:1,2,0xff", &[1, 2, 255]),
            ("i8:-1,-128,127", &[255, 128, 127]),
            ("u16le:0x1234", &[0x34, 0x12]),
            ("u16be:0x1234", &[0x12, 0x34]),
            ("i16be:-2", &[0xff, 0xfe]),
            ("u32le:1", &[1, 0, 0, 0]),
            ("u64be:1_000", &[0, 0, 0, 0, 0, 0, 3, 0xe8]),
            ("u64le:18446744073709551615", &[255; 8]),
            ("i64le:-9223372036854775808", &[0, 0, 0, 0, 0, 0, 0, 0x80]),
            ("f32le:1.5", &[0, 0, 0xc0, 0x3f]),
            ("f64be:-2", &[0xc0, 0, 0, 0, 0, 0, 0, 0]),
            ("f32be:inf", &[0x7f, 0x80, 0, 0]),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(text), *expected, "{text}");
        }
        assert_eq!(Value::parse(OsStr::new("zero:8")), Ok(Value::Fill(0, Qty::Bytes(8))));
        assert_eq!(
            Value::parse(OsStr::new("fill:5a:4K")),
            Ok(Value::Fill(0x5a, Qty::Bytes(4096)))
        );
        assert_eq!(Value::parse(OsStr::new("@-")), Ok(Value::Stdin));
        assert_eq!(Value::parse(OsStr::new("@a:b")), Ok(Value::File("a:b".into())));
    }

    #[test]
    fn what_has_two_meanings_is_refused_with_the_way_to_write_each() {
        let table = [
            ("0x1234", "u16le:0x1234"),
            ("0x123", "write 0123 "),
            ("u32:1", "u32le: (x86"),
            ("u8:256", "u16le:256 or u16be:256"),
            ("u8:-1", "write i8:-1"),
            ("u8:-200", "write i16le:-200 or i16be:-200"),
            ("u32le:-1", "write i32le:-1"),
            ("u64be:-2", "write i64be:-2"),
            ("u16le:-40000", "write i32le:-40000"),
            ("i16be:40000", "write u16be:40000"),
            ("i32le:99999999999", "write i64le:99999999999"),
            ("i32be:-99999999999", "write i64be:-99999999999"),
            ("u16be:65536", "write u32be:65536"),
            ("i64le:18446744073709551615", "write u64le:18446744073709551615"),
            ("i32le:18446744073709551615", "write u64le:18446744073709551615"),
            ("i8:200", "u8:200"),
            ("abc", "0abc"),
            ("V1.2", "text:V1.2"),
            ("", "text:WORDS"),
            ("hex:", "9090"),
            ("fill:5a", "fill:BYTE:COUNT"),
            ("fill:5a5a:2", "fill:BYTE:COUNT"),
            ("nope:1", "kinds of value"),
            (r"text:\q", "known are"),
            (r"text:a\", "known are"),
            (r"text:\x4", "known are"),
            (r"text:\x0x41", "known are"),
            (r"text:\x0X", "known are"),
            (r"text:\u{110000}", "known are"),
            (r"text:\u{+41}", "known are"),
            (r"text:\u{-0}", "known are"),
            (r"text:\u{}", "known are"),
            (r"text:1\0532", r"write \x0053 for a NUL and then '53', or \x2b "),
            (r"cstr:\07", r"or \x07 "),
            (r"text:\012x", r"or \x0a "),
            (r"text:\08", r"write \x008 for a NUL and then '8'"),
            (r"text:\000", r"or \x00 for"),
            ("f32le:1e99", "f64le:"),
            ("f64le:x", "1.5"),
            ("@", "@PATH"),
            ("u16le:020", "0x20"),
            ("u8:8/7", "0x0/0x7"),
            ("u8:1/256", "u16le:256"),
            ("f32le:1/2", "u32"),
            ("crc32le:", "0..end-4"),
            ("crc32le:0x40:16", "0x40..+16"),
            ("74??", "--find"),
            ("u64le:18446744073709551616", ""),
        ];
        for (text, tip) in table {
            let (message, said) = refused(text);
            assert!(
                said.contains(tip) || message.contains(tip),
                "{text}: {message}; tip: {said}"
            );
        }
    }

    #[test]
    fn a_mask_says_which_bits_count() {
        let masked = |bytes: &[u8], mask: &[u8]| Masked {
            bytes: bytes.to_vec(),
            mask: mask.to_vec(),
        };
        let value = Value::parse(OsStr::new("u16le:0x4/0x7,0x1234"));
        assert_eq!(
            value,
            Ok(Value::Masked(masked(&[4, 0, 0x34, 0x12], &[7, 0, 0xff, 0xff])))
        );
        assert_eq!(bytes("u16be:0x4/0xffff"), [0, 4], "a full mask is none");
        assert_eq!(
            pattern(OsStr::new("74 ?? e?")),
            Ok(masked(&[0x74, 0, 0xe0], &[0xff, 0, 0xf0]))
        );
        assert_eq!(pattern(OsStr::new("text:ab")), Ok(masked(b"ab", &[0xff; 2])));
        for odd in ["fa?", "hex:fa?", "74 fa? ee"] {
            let refusal = pattern(OsStr::new(odd)).expect_err(odd);
            assert_eq!(refusal.message, "'fa?' has an odd number of digits (3)");
            assert_eq!(refusal.tip, "each byte takes two: write 0fa? or fa??");
        }
        for bad in ["??", "7?e", "u8:0/0", "@f", "crc32le:..", "zero:1M", "zero:0"] {
            assert!(pattern(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_need_not_be_utf8() {
        let value = Value::parse(OsStr::from_bytes(b"text:\xff\xfe"));
        assert_eq!(value, Ok(Value::Bytes(vec![0xff, 0xfe])));
    }

    proptest! {
        #[test]
        fn no_argument_panics(argument in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Value::parse(OsStr::from_bytes(&argument));
        }

        #[test]
        fn nothing_that_looks_like_a_value_panics(argument in r"(hex|text|cstr|zero|fill|crc32(le|be)|[uif](8|16|32|64)(le|be)?)?:?[-0-9a-fx,./?:\\u{}€ ]{0,20}") {
            let _ = Value::parse(OsStr::new(&argument));
        }

        #[test]
        fn hex_comes_back(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let text = const_hex::encode(&bytes);
            prop_assert_eq!(Value::parse(OsStr::new(&text)), Ok(Value::Bytes(bytes)));
        }

        #[test]
        fn integers_of_both_orders_are_each_others_mirror(value: u32) {
            let mut little = match Value::parse(OsStr::new(&format!("u32le:{value}"))) { Ok(Value::Bytes(b)) => b, _ => vec![] };
            little.reverse();
            prop_assert_eq!(Value::parse(OsStr::new(&format!("u32be:{value:#x}"))), Ok(Value::Bytes(little)));
        }
    }
}
