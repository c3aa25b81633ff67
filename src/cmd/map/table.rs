//! The report on several files: a row for each, printed as they are found, and the totals.

use super::files::Walk;
use super::report::percent;
use crate::edit::Result;
use crate::json::{Object, insert_path};
use crate::mapping::{self, ByteRange, Counts};
use crate::number::human;
use crate::output::{self, Globals};
use crate::report::{self, Report};
use crate::text::{self, plural};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// The counts of a file.
#[derive(Debug)]
pub(super) struct FileRow<'a> {
    pub(super) path: &'a Path,
    /// The file's size in bytes.
    pub(super) size: u64,
    /// The range that is counted.
    pub(super) span: ByteRange,
    pub(super) counts: Counts,
}

/// Sums over the rows, in bytes, because page sizes may differ.
#[derive(Debug, Default)]
struct Totals {
    files: u64,
    size: u64,
    length: u64,
    whole_pages: u64,
    resident: PartialSum,
    dirty: PartialSum,
    writeback: PartialSum,
}

/// A sum over the files for which it is known.
#[derive(Debug, Default)]
struct PartialSum {
    bytes: u64,
    /// The number of files for which it is not known.
    unknown: u64,
}

impl PartialSum {
    fn add(&mut self, pages: Option<u64>, page: u64) {
        match pages {
            Some(pages) => self.bytes = self.bytes.saturating_add(pages.saturating_mul(page)),
            None => self.unknown += 1,
        }
    }

    /// The sum in pages; `None` if there are files, and it is not known for any of them.
    fn pages(&self, files: u64, page: u64) -> Option<u64> {
        (files == 0 || self.unknown < files).then_some(self.bytes / page)
    }
}

/// Rows and totals, as text or as one JSON object. Only the text that is about to be written is kept.
#[derive(Debug)]
pub(super) struct Table<'a> {
    globals: &'a Globals,
    totals: Totals,
    text: String,
    written: Instant,
    /// Whether rows are written.
    rows: bool,
    /// Whether anything is written.
    speaks: bool,
    /// Whether everything is written at once, over the previous table.
    anew: bool,
}

/// How many bytes of text are written at once, and how long they may be delayed for that.
const TEXT: usize = 32 << 10;
const PATIENCE: Duration = Duration::from_millis(100);

impl<'a> Table<'a> {
    /// Begins a table, with `rows` or of totals alone; with `anew`, it is written as a whole, over the previous one.
    pub(super) fn new(globals: &'a Globals, rows: bool, anew: bool) -> Table<'a> {
        let mut table = Table {
            globals,
            totals: Totals::default(),
            text: String::new(),
            written: Instant::now(),
            rows,
            speaks: globals.json || !globals.quiet,
            anew,
        };
        table.head();
        table
    }

    /// A table that only counts.
    pub(super) fn silent(self) -> Table<'a> {
        Table { speaks: false, ..self }
    }

    fn head(&mut self) {
        if self.globals.json {
            let head = Report::new("map", None, false).json();
            self.text += head.trim_end_matches('}');
            if self.rows {
                self.text += ",\"files\":[";
            }
        } else {
            self.line("SIZE", "RESIDENT/PAGES", "", "DIRTY", "FILE");
        }
    }

    fn line(&mut self, size: &str, resident: &str, percent: &str, dirty: &str, name: &str) {
        self.text += &format!("{size:>10}  {resident:>19} {percent:>5} {dirty:>8}  {name}\n");
    }

    /// Adds a file.
    ///
    /// # Errors
    /// See [`output::out`].
    pub(super) fn row(&mut self, row: &FileRow<'_>) -> Result<()> {
        let Counts {
            page,
            pages,
            resident,
            dirty,
            writeback,
        } = row.counts;
        let totals = &mut self.totals;
        totals.files += 1;
        totals.size = totals.size.saturating_add(row.size);
        totals.length = totals.length.saturating_add(row.span.len());
        totals.whole_pages = totals.whole_pages.saturating_add(pages.saturating_mul(page));
        totals.resident.add(resident, page);
        totals.dirty.add(dirty, page);
        totals.writeback.add(writeback, page);
        if !self.rows || !self.speaks {
            return Ok(());
        }
        if self.globals.json {
            let mut object = Object::default();
            insert_path(&mut object, row.path);
            for (key, value) in [
                ("size", json!(row.size)),
                ("offset", json!(row.span.start())),
                ("length", json!(row.span.len())),
                ("page_size", json!(page)),
                ("pages", json!(pages)),
                ("resident", json!(resident)),
                ("dirty", json!(dirty)),
                ("writeback", json!(writeback)),
            ] {
                object.insert(key, value);
            }
            let comma = if totals.files > 1 { "," } else { "" };
            self.text += &format!("{comma}{}", object);
        } else {
            let share = resident.map(|resident| format!("{} %", share_of(resident, pages)));
            self.line(
                &size(row.span.len()),
                &format!("{}/{pages}", count(resident)),
                &share.unwrap_or_default(),
                &count(dirty),
                &text::shown(row.path),
            );
        }
        if !self.anew && (self.text.len() >= TEXT || self.written.elapsed() >= PATIENCE) {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        output::out(self.text.as_bytes())?;
        self.text.clear();
        self.written = Instant::now();
        Ok(())
    }

    /// The number of bytes in all ranges.
    pub(super) fn length(&self) -> u64 {
        self.totals.length
    }

    /// Whether no file was added yet.
    pub(super) fn is_empty(&self) -> bool {
        self.totals.files == 0
    }

    /// The number of files.
    pub(super) fn files(&self) -> u64 {
        self.totals.files
    }

    /// Writes the totals, and `held`: the description of a mapping that is kept.
    ///
    /// # Errors
    /// See [`output::out`].
    pub(super) fn finish(mut self, walk: &Walk<'_>, held: Option<String>) -> Result<()> {
        if !self.speaks {
            return Ok(());
        }
        let page = mapping::page_size();
        let Totals {
            files,
            size: bytes,
            length,
            whole_pages,
            resident,
            dirty,
            writeback,
        } = &self.totals;
        let (files, bytes, length, whole) = (*files, *bytes, *length, *whole_pages);
        let unknown = resident.unknown;
        let pages = |sum: &PartialSum| sum.pages(files, page);
        let (resident, dirty, writeback) = (pages(resident), pages(dirty), pages(writeback));
        if self.globals.json {
            let totals: Object = [
                ("files", json!(files)),
                ("folders", json!(walk.folders)),
                ("size", json!(bytes)),
                ("length", json!(length)),
                ("page_size", json!(page)),
                ("pages", json!(whole / page)),
                ("resident", json!(resident)),
                ("dirty", json!(dirty)),
                ("writeback", json!(writeback)),
                ("unknown", json!(unknown)),
                ("repeated", json!(walk.repeated)),
                ("failed", json!(walk.failed)),
            ]
            .into_iter()
            .collect();
            let end = if self.rows { "]" } else { "" };
            self.text += &format!("{end},\"totals\":{totals},\"pid\":{}}}\n", std::process::id());
        } else {
            let mut name = format!("total of {}", plural(files, "file"));
            if walk.folders > 0 {
                name += &format!(" in {}", plural(walk.folders, "folder"));
            }
            for (count, what) in [
                (walk.repeated, "more names of files already counted"),
                (unknown, "not reported by the kernel"),
                (walk.failed, "failed"),
            ] {
                if count > 0 {
                    name += &format!(", {count} {what}");
                }
            }
            // If only a part is known, its share of the whole means nothing.
            let share = resident.filter(|_| unknown == 0);
            let share = share.map(|resident| format!("{} %", share_of(resident, whole / page)));
            self.line(
                &size(length),
                &format!("{}/{}", count(resident), whole / page),
                &share.unwrap_or_default(),
                &count(dirty),
                &name,
            );
            if let Some(held) = held {
                self.text += &format!("held {held}\n");
            }
        }
        if self.anew && !self.globals.json {
            return report::redraw(&self.text, &report::more_lines);
        }
        self.write()
    }
}

/// The size for a column, as short as possible.
fn size(bytes: u64) -> String {
    if bytes < 1024 {
        format!("{bytes} B")
    } else {
        human(bytes)
    }
}

fn count(count: Option<u64>) -> String {
    count.map_or("?".into(), |count| count.to_string())
}

/// The whole of nothing counts as 100 percent.
fn share_of(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { percent(part, whole) }
}
