//! Values: how users write bytes, as `dead`, `text:V1\n`, `u32le:1,2`, `fill:5a:4K` or `@FILE`.

use super::journal::unless_half_patched;
use super::numeric::{KINDS, MaskedBytes, Number, refuse};
use super::spooled::SpooledBytes;
use crate::edit::error::{Error, ErrorContext, Result};
use crate::number::{Offset, ParseError, Qty, Range};
use crate::text::quoted;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A parsed VALUE; its bytes may still have to be read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Some bits of these bytes; the others keep their values.
    Masked(MaskedBytes),
    /// A byte, repeated this many times.
    Fill(u8, Qty),
    /// The CRC-32 (IEEE 802.3, as used by zlib, gzip and PNG) of a range of the file, after all other edits.
    Sum(ChecksumSpec),
    /// The contents of a file.
    File(PathBuf),
    /// The bytes read from stdin.
    Stdin,
}

/// A checksum, which takes four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksumSpec {
    /// The range that it covers.
    pub range: Range,
    /// Whether the highest byte comes first.
    pub big: bool,
}

/// The length of a [`ChecksumSpec`] in bytes.
pub const SUM_LEN: u64 = 4;

impl Value {
    /// Parses `HEX | KIND:ARG | @PATH | @-`. The argument need not be UTF-8: `text:` takes any bytes, `@` any path.
    ///
    /// # Errors
    /// If the argument could be understood in two ways; the tip says how to write each.
    pub fn parse(argument: &OsStr) -> Result<Value, ParseError> {
        let bytes = argument.as_bytes();
        if let Some(path) = bytes.strip_prefix(b"@") {
            return match path {
                b"" => refuse("'@' is not followed by a file name", "write @PATH, or @- for stdin"),
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
                format!("'{text}' combines an offset and a value"),
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

    /// The length in bytes, if it is known before any file is read. `page` is the page size.
    pub fn len(&self, page: u64) -> Result<Option<u64>, ParseError> {
        match self {
            Value::Bytes(bytes) => Ok(Some(bytes.len() as u64)),
            Value::Masked(masked) => Ok(Some(masked.bytes.len() as u64)),
            Value::Fill(_, count) => count.bytes(page).map(Some),
            Value::Sum(_) => Ok(Some(SUM_LEN)),
            Value::File(_) | Value::Stdin => Ok(None),
        }
    }

    /// Appends the bytes to `spool`, but at most `most` bytes from a file or stdin. A checksum, which is not known yet,
    /// is appended as zeros.
    pub fn spool(&self, spool: &mut SpooledBytes, most: u64, page: u64) -> Result<()> {
        match self {
            Value::Bytes(bytes) | Value::Masked(MaskedBytes { bytes, .. }) => spool.push(bytes),
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

/// Claims stdin for one reader, because it can be read only once.
///
/// # Errors
/// If stdin was claimed before. Locking it again would wait forever, and its remaining bytes would be the wrong ones.
pub fn take_stdin() -> Result<()> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(stdin_used_twice());
    }
    Ok(())
}

/// The error for stdin that two are to read.
pub fn stdin_used_twice() -> Error {
    Error::untouched("stdin is used twice").tip("put one of the two into a file: @PATH, --script PATH")
}

fn spool_stdin(spool: &mut SpooledBytes, most: u64) -> Result<()> {
    take_stdin()?;
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        // This is a hint; failing to print it is no reason to stop.
        let _ = std::io::stderr().write_all(b"reading bytes from the terminal; end them with Ctrl-D\n");
    }
    spool.push_from(&mut stdin, most).context("cannot read stdin")
}

/// Parses hex without the prefix `hex:`, where a wrong guess would be a wrong byte.
fn bare_hex(text: &str) -> Result<Value, ParseError> {
    let prefixed = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(digits) =
        prefixed.filter(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit() || c == '_'))
    {
        let even = if digits.len() % 2 == 1 { "0" } else { "" };
        return refuse(
            format!("'{text}' is a number without a byte order"),
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
        // A number followed by other characters is not meant as text.
        let is_text = text.starts_with(char::is_alphabetic) && !text.contains(char::is_control);
        let words = if is_text {
            quoted(Path::new(&format!("text:{text}")))
        } else {
            "text:WORDS".into()
        };
        format!("for text write {words}; kinds of value: {KINDS}, @FILE, @-")
    };
    refuse(format!("'{text}' is not a sequence of hex bytes"), tip)
}

/// Parses what `--find` searches for: any VALUE whose bytes are known, and hex in which `?` stands for any digit
/// (`74??eb`).
pub fn pattern(argument: &OsStr) -> Result<MaskedBytes, ParseError> {
    let text = argument.to_string_lossy();
    let digits = text.strip_prefix("hex:").unwrap_or(&text);
    if digits.contains('?') && digits.chars().all(|c| c == '?' || c.is_ascii_hexdigit() || c == ' ') {
        // Checked first, because what is parsed below is not what the user typed.
        if let Some(word) = digits.split(' ').find(|word| word.len() % 2 == 1) {
            return refuse(
                format!("'{word}' has an odd number of digits ({})", word.len()),
                format!("each byte takes two: write 0{word} or {word}?"),
            );
        }
        // Parsed twice: with ? replaced by 0, and as a mask.
        let bytes = hex(&digits.replace('?', "0"))?;
        let mask = hex(&digits.replace(|c: char| c.is_ascii_hexdigit(), "f").replace('?', "0"))?;
        if mask.iter().all(|bits| *bits == 0) {
            return refuse(format!("'{text}' consists only of wildcards"), "give at least one digit to search for");
        }
        return Ok(MaskedBytes { bytes, mask });
    }
    match Value::parse(argument)? {
        Value::Bytes(bytes) => Ok(MaskedBytes {
            mask: vec![0xff; bytes.len()],
            bytes,
        }),
        Value::Masked(masked) if masked.mask.iter().all(|bits| *bits == 0) => {
            refuse(format!("'{text}' compares no bit, so it matches everywhere"), "give a mask with at least one bit")
        }
        Value::Masked(masked) => Ok(masked),
        Value::Fill(byte, count) => {
            let len = count.bytes(crate::mapping::page_size())?.min(MOST_PATTERN + 1) as usize;
            if len as u64 > MOST_PATTERN || len == 0 {
                return refuse("a pattern of that length", "search for 1 byte to 64K");
            }
            Ok(MaskedBytes {
                bytes: vec![byte; len],
                mask: vec![0xff; len],
            })
        }
        Value::Sum(_) | Value::File(_) | Value::Stdin => {
            refuse(format!("'{text}' cannot be searched for"), "write the bytes themselves: hex, text:…, u32le:…")
        }
    }
}

/// The longest run of one byte to search for.
const MOST_PATTERN: u64 = 64 << 10;

/// Parses pairs of hex digits, in file order; there may be spaces between pairs, as in a dump.
fn hex(text: &str) -> Result<Vec<u8>, ParseError> {
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

fn sum(arg: &str, big: bool) -> Result<Value, ParseError> {
    if arg.is_empty() {
        return refuse("a checksum of nothing", "give the range: crc32le:0..end-4");
    }
    let range = arg.parse()?;
    Ok(Value::Sum(ChecksumSpec { range, big }))
}

fn fill(arg: &str) -> Result<Value, ParseError> {
    let usage = "write fill:BYTE:COUNT, such as fill:ff:4K";
    let Some((byte, count)) = arg.split_once(':') else {
        return refuse(format!("'fill:{arg}' has no count"), usage);
    };
    match hex(byte)?.as_slice() {
        [byte] => Ok(Value::Fill(*byte, count.parse()?)),
        _ => refuse(format!("'{byte}' is more than one byte"), usage),
    }
}

/// Parses text with the escapes of C and `\xHH`, `\u{HEX}`.
fn unescape(text: &[u8]) -> Result<Vec<u8>, ParseError> {
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
                // Checked first, because decode takes "0x" for a prefix without digits.
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
                // `from_str_radix` would accept a sign.
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

/// Rejects `\0` before a digit. C and printf read up to three octal digits there, Rust a NUL followed by the digits, so
/// either interpretation would store bytes that some users did not mean.
fn refuse_octal<T>(rest: &[u8]) -> Result<T, ParseError> {
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
mod tests;
