//! The orders that `remap --order` takes: units of a file by their numbers.
//!
//! ```text
//! LIST = ITEM {"," ITEM} | "@" PATH            in a file, white space parts as well, and '#' begins a comment
//! ITEM = "reverse" | "linear" | UNITS ["*" NUM]
//! UNITS = NUM | [NUM] ".." [NUM] | [NUM] "..+" NUM        half-open, as every RANGE; NUM as in number.rs
//! ```

use crate::edit::{Error, ErrorContext, LONGEST_TEXT, Result, take_stdin, unless_half_patched};
use crate::mapping::PageRun;
use crate::number::{ParseError, number};
use crate::text::{plural, shown};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An order, as the user typed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderArg {
    text: String,
    source: OrderSource,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum OrderSource {
    Items(Vec<Item>),
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Reverse,
    Linear,
    Units { start: u64, end: End, times: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One unit.
    One,
    /// An exclusive end.
    At(u64),
    /// This many units.
    Length(u64),
    /// Up to and including the last unit.
    Last,
}

const TIP: &str = "write unit numbers such as 3,0..2,5*4; or reverse, linear, @FILE";

fn refuse<T>(message: String, tip: impl Into<String>) -> Result<T, ParseError> {
    let tip = tip.into();
    Err(ParseError { message, tip })
}

impl OrderArg {
    /// Parses what the user typed.
    ///
    /// # Errors
    /// If it is not a list.
    pub(super) fn parse(typed: &OsStr) -> Result<OrderArg, ParseError> {
        let text = typed.to_string_lossy().into_owned();
        let source = match typed.as_bytes().strip_prefix(b"@") {
            Some(b"") => {
                return refuse("'@' is not followed by a file name".into(), "write @FILE, or @- for stdin");
            }
            Some(path) => OrderSource::File(OsStr::from_bytes(path).into()),
            None => {
                let mut items = Vec::new();
                for part in text.split(',') {
                    items.push(item(part.trim())?);
                }
                OrderSource::Items(items)
            }
        };
        Ok(OrderArg { text, source })
    }

    /// The order, as the user typed it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The file that contains the list.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.source {
            OrderSource::File(path) if path != "-" => Some(path),
            _ => None,
        }
    }

    /// Whether the list comes from stdin.
    pub(super) fn is_stdin(&self) -> bool {
        matches!(&self.source, OrderSource::File(path) if path == "-")
    }

    /// Whether the order is the whole file in reverse.
    pub(super) fn is_reverse(&self) -> bool {
        matches!(&self.source, OrderSource::Items(items) if items[..] == [Item::Reverse])
    }

    /// The runs of a file of `units` units; reads the list from its file.
    ///
    /// # Errors
    /// If it is not a list, if it names units that the file does not have, or if its file cannot be read.
    pub(super) fn runs(&self, units: u64) -> Result<Vec<PageRun>> {
        match &self.source {
            OrderSource::Items(items) => Ok(items.iter().map(|item| item.run(units)).collect::<Result<_, _>>()?),
            OrderSource::File(path) => {
                let name = shown(path);
                let text = read(path).with_context(|| format!("cannot read the order in '{name}'"))?;
                let mut runs = Vec::new();
                for (line, items) in (1..).zip(text.lines()) {
                    let place = || format!("'{name}', line {line}");
                    let items = items.split('#').next().unwrap_or_default();
                    for word in items.split([',', ' ', '\t', '\r']).filter(|word| !word.is_empty()) {
                        runs.push(item(word).and_then(|item| item.run(units)).with_context(place)?);
                    }
                }
                if runs.is_empty() {
                    let failure = Error::untouched(format!("there is no unit in '{name}'"));
                    return Err(failure.tip("a view has at least one: 3,0..2,5*4, separated by commas or white space"));
                }
                Ok(runs)
            }
        }
    }
}

/// Reads the list from its file, or from stdin.
fn read(path: &Path) -> Result<String> {
    let source: Box<dyn Read> = if path == "-" {
        take_stdin()?;
        Box::new(std::io::stdin())
    } else {
        let file = File::open(path)?;
        unless_half_patched(&file, path).with_path(path)?;
        Box::new(file)
    };
    let mut bytes = Vec::new();
    source.take(LONGEST_TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_TEXT {
        let failure = Error::untouched("there are more than 64 MiB in it");
        return Err(failure.tip("ranges such as 0..2,5*4 are shorter"));
    }
    String::from_utf8(bytes)
        .map_err(anyhow::Error::new)
        .map_failure(|| Error::untouched("it is not text").tip(TIP))
}

fn item(text: &str) -> Result<Item, ParseError> {
    match text {
        "" => return refuse("the order is empty, or has no unit between two commas".into(), TIP),
        "reverse" => return Ok(Item::Reverse),
        "linear" => return Ok(Item::Linear),
        _ => {}
    }
    let (units, times) = match text.split_once('*') {
        Some((units, times)) => (units, number(times)?),
        None => (text, 1),
    };
    let (start, end) = match units.split_once("..") {
        Some((start, end)) => {
            let start = if start.is_empty() { 0 } else { number(start)? };
            let end = match end.strip_prefix('+') {
                _ if end.is_empty() => End::Last,
                Some(length) => End::Length(number(length)?),
                None => End::At(number(end)?),
            };
            (start, end)
        }
        None if units.starts_with(|c: char| c.is_ascii_digit()) => (number(units)?, End::One),
        None => return refuse(format!("'{text}' is neither a unit nor an order"), TIP),
    };
    match end {
        End::At(end) if end < start => refuse(
            format!("the range {units} runs backwards"),
            format!("write {end}..{start}; 'reverse' is all units in descending order"),
        ),
        End::At(end) if end == start => {
            refuse(format!("the range {units} has no unit"), format!("write {start} for one"))
        }
        End::Length(0) => refuse(format!("the range {units} has no unit"), format!("write {start} for one")),
        _ if times == 0 => refuse(format!("'{text}' repeats a unit 0 times"), "leave it out, or write *1"),
        end => Ok(Item::Units { start, end, times }),
    }
}

impl Item {
    fn run(self, units: u64) -> Result<PageRun, ParseError> {
        let ascending = |first, count, times| PageRun {
            first,
            count,
            descending: false,
            times,
        };
        let (start, count, times) = match self {
            Item::Linear => return Ok(ascending(0, units, 1)),
            Item::Reverse => {
                return Ok(PageRun {
                    descending: true,
                    ..ascending(units - 1, units, 1)
                });
            }
            Item::Units { start, end, times } => {
                let count = match end {
                    End::One => 1,
                    End::At(end) => end - start,
                    End::Length(count) => count,
                    End::Last => units.saturating_sub(start).max(1),
                };
                (start, count, times)
            }
        };
        if start.checked_add(count).is_none_or(|end| end > units) {
            let beyond = start.max(units);
            return refuse(
                format!("there is no unit {beyond}: the file has {}, counted from 0", plural(units, "unit")),
                format!("write at most {}", units - 1),
            );
        }
        Ok(ascending(start, count, times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &str, units: u64) -> Result<Vec<(u64, u64, bool, u64)>, String> {
        let order = OrderArg::parse(OsStr::new(text)).map_err(|refusal| refusal.message)?;
        let runs = order.runs(units).map_err(|error| format!("{error}"))?;
        let tuple = |run: &PageRun| (run.first, run.count, run.descending, run.times);
        Ok(runs.iter().map(tuple).collect())
    }

    #[test]
    fn lists_are_units_ranges_and_repetitions() {
        let cases: [(&str, &[_]); 8] = [
            ("3,0..2,5*4", &[(3, 1, false, 1), (0, 2, false, 1), (5, 1, false, 4)]),
            ("0x3, 0b1", &[(3, 1, false, 1), (1, 1, false, 1)]),
            ("reverse", &[(7, 8, true, 1)]),
            ("linear", &[(0, 8, false, 1)]),
            ("4..,..4", &[(4, 4, false, 1), (0, 4, false, 1)]),
            ("..", &[(0, 8, false, 1)]),
            ("2..+3*2", &[(2, 3, false, 2)]),
            ("reverse,linear", &[(7, 8, true, 1), (0, 8, false, 1)]),
        ];
        for (text, expected) in cases {
            assert_eq!(runs(text, 8).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_and_so_is_what_the_file_has_not() {
        for text in [
            "",
            ",",
            "1,,2",
            "1,",
            "backwards",
            "-1",
            "1*0",
            "1*",
            "*2",
            "2..2",
            "3..1",
            "1..+0",
            "01",
            "1K",
            "1-3",
            "@",
            "reverse*2",
            "1.5",
            "…",
            "1..2..3",
            "8",
            "7..9",
            "8..",
            "0xffffffffffffffff..+2",
            "18446744073709551616",
        ] {
            let refused = runs(text, 8);
            assert!(refused.is_err(), "{text}: {refused:?}");
        }
        assert_eq!(runs("0,9", 8), Err("there is no unit 9: the file has 8 units, counted from 0".into()));
        assert_eq!(runs("2..9", 1), Err("there is no unit 2: the file has 1 unit, counted from 0".into()));
    }
}
