//! The names of `cat`'s formats, and their meaning.

use crate::dump;
use crate::number::{NoFormat, NumberFormat, ParseError};
use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Arg, Command};
use std::ffi::OsStr;

/// How bytes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatFormat {
    Raw,
    Hex,
    Canonical,
    Xxd,
    Plain,
    C,
    Typed(NumberFormat),
}

/// The names, with their descriptions in help.
const NAMES: [(&str, &str); 24] = [
    ("raw", "The bytes as they are"),
    ("hex", "For people: coloured by kind of byte, with holes named"),
    ("canonical", "As 'hexdump -C'"),
    ("xxd", "As 'xxd'; 'xxd -r' reads it"),
    ("plain", "As 'xxd -p'"),
    ("c", "As 'xxd -i': an array for a C source"),
    ("u8", "Columns of numbers, as 'od -t u1'"),
    ("i8", "Columns of signed numbers, as 'od -t d1'"),
    ("u16le", "Unsigned, 16 bits, lowest byte first"),
    ("u16be", "Unsigned, 16 bits, highest byte first"),
    ("i16le", "Signed, 16 bits, lowest byte first"),
    ("i16be", "Signed, 16 bits, highest byte first"),
    ("u32le", "Unsigned, 32 bits, lowest byte first"),
    ("u32be", "Unsigned, 32 bits, highest byte first"),
    ("i32le", "Signed, 32 bits, lowest byte first"),
    ("i32be", "Signed, 32 bits, highest byte first"),
    ("u64le", "Unsigned, 64 bits, lowest byte first"),
    ("u64be", "Unsigned, 64 bits, highest byte first"),
    ("i64le", "Signed, 64 bits, lowest byte first"),
    ("i64be", "Signed, 64 bits, highest byte first"),
    ("f32le", "Floating-point, 32 bits, lowest byte first"),
    ("f32be", "Floating-point, 32 bits, highest byte first"),
    ("f64le", "Floating-point, 64 bits, lowest byte first"),
    ("f64be", "Floating-point, 64 bits, highest byte first"),
];

impl CatFormat {
    fn of(name: &str) -> Option<CatFormat> {
        Some(match name {
            "raw" => CatFormat::Raw,
            "hex" => CatFormat::Hex,
            "canonical" => CatFormat::Canonical,
            "xxd" => CatFormat::Xxd,
            "plain" => CatFormat::Plain,
            "c" => CatFormat::C,
            name => CatFormat::Typed(NumberFormat::parse(name).ok()?),
        })
    }

    /// The dump format for a file of this name; `None` for raw bytes.
    pub(super) fn dump(self, name: &[u8]) -> Option<dump::Format<'_>> {
        Some(match self {
            CatFormat::Raw => return None,
            CatFormat::Hex => dump::Format::Hex,
            CatFormat::Canonical => dump::Format::Canonical,
            CatFormat::Xxd => dump::Format::Xxd,
            CatFormat::Plain => dump::Format::Plain,
            CatFormat::C => dump::Format::C(name),
            CatFormat::Typed(unit) => dump::Format::Typed(unit),
        })
    }
}

/// The parser for `--format`.
#[derive(Clone)]
pub(super) struct FormatParser;

impl TypedValueParser for FormatParser {
    type Value = CatFormat;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<CatFormat, clap::Error> {
        if value.to_str().map(NumberFormat::parse) == Some(Err(NoFormat::NoByteOrder)) {
            let refuse = |name: String| -> Result<CatFormat, ParseError> {
                Err(ParseError {
                    message: format!("'{name}' does not give the byte order"),
                    tip: format!("write {name}le (x86, ARM: lowest byte first) or {name}be (network order)"),
                })
            };
            return StringValueParser::new().try_map(refuse).parse_ref(command, arg, value);
        }
        // Every name is that of a format, which a test verifies.
        let of = |name: String| CatFormat::of(&name).unwrap_or(CatFormat::Raw);
        PossibleValuesParser::new(names()).map(of).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(names()))
    }
}

fn names() -> impl Iterator<Item = PossibleValue> {
    NAMES.iter().map(|(name, help)| PossibleValue::new(*name).help(*help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_format_of_its_own() {
        let formats: Vec<_> = NAMES.iter().map(|(name, _)| CatFormat::of(name).unwrap()).collect();
        for (index, format) in formats.iter().enumerate() {
            assert!(!formats[..index].contains(format), "{}", NAMES[index].0);
        }
    }
}
