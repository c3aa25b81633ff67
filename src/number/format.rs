//! The names of number formats, which `cat` shows and `patch` writes: `u8`, `i32le`, `f64be`.

/// The type of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// Without a sign.
    Unsigned,
    /// In two's complement.
    Signed,
    /// IEEE 754 binary32 or binary64.
    Float,
}

/// How a number is stored: its type, length and byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberFormat {
    /// Its type.
    pub kind: NumberKind,
    /// Its length in bytes: 1, 2, 4 or 8; for floating-point numbers 4 or 8.
    pub bytes: usize,
    /// Big-endian: the highest byte first.
    pub big: bool,
}

/// Why a name is not the name of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFormat {
    /// There is no format of this name.
    Unknown,
    /// It has several bytes, and the name does not give the byte order.
    NoByteOrder,
}

impl NumberFormat {
    /// The format of this name.
    ///
    /// # Errors
    /// Whether there is no such format, or only the byte order is missing.
    pub fn parse(name: &str) -> Result<NumberFormat, NoFormat> {
        let kind = match name.chars().next() {
            Some('u') => NumberKind::Unsigned,
            Some('i') => NumberKind::Signed,
            Some('f') => NumberKind::Float,
            _ => return Err(NoFormat::Unknown),
        };
        let digits = name[1..].trim_end_matches(|c: char| !c.is_ascii_digit());
        let bytes = match (digits, kind) {
            ("8", NumberKind::Unsigned | NumberKind::Signed) => 1,
            ("16", NumberKind::Unsigned | NumberKind::Signed) => 2,
            ("32", _) => 4,
            ("64", _) => 8,
            _ => return Err(NoFormat::Unknown),
        };
        let big = match (&name[1 + digits.len()..], bytes) {
            ("", 1) | ("le", _) => false,
            ("be", _) => true,
            ("", _) => return Err(NoFormat::NoByteOrder),
            _ => return Err(NoFormat::Unknown),
        };
        Ok(NumberFormat { kind, bytes, big })
    }
}
