//! The report on several files: a row each, as they come, and the totals.

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

/// A file, as it is counted.
#[derive(Debug)]
pub(super) struct FileRow<'a> {
    pub(super) path: &'a Path,
    /// Bytes of the file.
    pub(super) size: u64,
    /// The range looked at.
    pub(super) span: ByteRange,
    pub(super) counts: Counts,
}

/// Sums over the rows, in bytes, because pages may be of several sizes.
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

/// A sum over the files of which it is known.
#[derive(Debug, Default)]
struct PartialSum {
    bytes: u64,
    /// Files of which it is not.
    unknown: u64,
}

impl PartialSum {
    fn add(&mut self, pages: Option<u64>, page: u64) {
        match pages {
            Some(pages) => self.bytes = self.bytes.saturating_add(pages.saturating_mul(page)),
            None => self.unknown += 1,
        }
    }

    /// In pages; `None` where it is known of none of so many files.
    fn pages(&self, files: u64, page: u64) -> Option<u64> {
        (files == 0 || self.unknown < files).then_some(self.bytes / page)
    }
}

/// Rows and totals, as text or as one JSON object, of which no more is kept than is about to be written.
#[derive(Debug)]
pub(super) struct Table<'a> {
    globals: &'a Globals,
    totals: Totals,
    text: String,
    written: Instant,
    /// Rows are written.
    rows: bool,
    /// Anything is.
    speaks: bool,
    /// All of it at once, over the one before.
    anew: bool,
}

/// Bytes of text that are written in one go, and how long they may wait for that.
const TEXT: usize = 32 << 10;
const PATIENCE: Duration = Duration::from_millis(100);

impl<'a> Table<'a> {
    /// With `rows`, or of totals alone; `anew`: written whole, over the one before.
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

    /// One that only counts.
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

    /// A file more.
    ///
    /// # Errors
    /// Errors of [`output::out`].
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

    /// Bytes of all ranges together.
    pub(super) fn length(&self) -> u64 {
        self.totals.length
    }

    /// Whether no file has come yet.
    pub(super) fn is_empty(&self) -> bool {
        self.totals.files == 0
    }

    /// How many files there are.
    pub(super) fn files(&self) -> u64 {
        self.totals.files
    }

    /// The totals, and `held`: what is told of a mapping that is kept.
    ///
    /// # Errors
    /// Errors of [`output::out`].
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
            // Of a part that is known, a share of the whole says nothing.
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

/// In a column: as short as it comes.
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

/// Of nothing, all is there.
fn share_of(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { percent(part, whole) }
}
