//! The names of number formats, which `cat` shows and `patch` writes: `u8`, `i32le`, `f64be`.

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// Not negative.
    Unsigned,
    /// In two's complement.
    Signed,
    /// IEEE 754 binary32 or binary64.
    Float,
}

/// How a number is kept: what it is, how long, in which byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberFormat {
    /// What it is.
    pub kind: NumberKind,
    /// Its length in bytes: 1, 2, 4 or 8; of floating-point numbers 4 or 8.
    pub bytes: usize,
    /// Highest byte first.
    pub big: bool,
}

/// Why a name is that of no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFormat {
    /// There is none of that name.
    Unknown,
    /// It has several bytes, and the name does not say in which order.
    NoByteOrder,
}

impl NumberFormat {
    /// The format of that name.
    ///
    /// # Errors
    /// That there is none, and whether a byte order would make it one.
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
