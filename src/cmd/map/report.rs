//! How a mapping is in memory: the report of `map`, and its picture.

use super::child::memfd_path;
use crate::cmd::VerbContext;
use crate::cmd::options::size;
use crate::edit::Result;
use crate::mapping::{Cell, Kind, Prot, Region, Residency, Visibility, measure, page_size};
use crate::number::human;
use crate::output;
use crate::report::Report;
use crate::text::{self, plural};
use std::os::fd::AsRawFd;

/// The maximum number of cells in the picture, and the number of columns beside them.
const CELLS: u64 = 64;
const BESIDE: u64 = 4;

/// The report of a region in its present state.
pub(super) fn report(region: &mut Region, context: VerbContext<'_>) -> Result<Report> {
    let (address, mapped) = region.map_now()?;
    let kind = region.backing().facts().kind;
    let shape = region.shape();
    let span = region.span();
    let fit = output::terminal().map(|(columns, _)| (columns as u64).saturating_sub(BESIDE));
    let seen = measure(region, fit.map_or(CELLS, |fit| fit.clamp(1, CELLS)))?;
    let backing = match kind {
        Kind::Regular => "file",
        Kind::BlockDevice => "block device",
        Kind::CharDevice => "character device",
        Kind::Memfd => "memfd",
        Kind::Zero => "/dev/zero",
        Kind::Anonymous => "anonymous",
    };
    let visibility = match shape.visibility {
        Visibility::Shared => "shared",
        Visibility::Private => "private",
    };
    let nonlinear = if region.layout().is_some() { ", nonlinear" } else { "" };
    let pages = |count: u64| format!("{count} of {}", plural(seen.pages, "page"));
    let resident = match seen.resident {
        Some(count) if seen.pages == 0 => pages(count),
        Some(count) => format!("{} ({} %)", pages(count), percent(count, seen.pages)),
        None if seen.page > page_size() => "unknown: the kernel counts huge pages only for the whole file".into(),
        None => "unknown: the kernel reports it only to those who own the file or may write it".into(),
    };
    let at = match mapped {
        0 => "none, as there are no bytes to map".into(),
        _ => format!("{address:#x}, {} of {}", plural(seen.pages, "page"), human(seen.page)),
    };
    // Where other processes can open the same memory.
    let path = region.backing().fd().filter(|_| kind == Kind::Memfd);
    let path = path.map(|fd| memfd_path(fd.as_raw_fd()).display().to_string());
    let mut report = Report::new("map", context.path, false)
        .json_field("backing", backing)
        .json_field("visibility", visibility)
        .json_field("nonlinear", region.layout().is_some())
        .json_field("protection", letters(shape.prot))
        .json_field("address", (mapped > 0).then(|| format!("{address:#x}")))
        .range(span)
        .json_field("mapped", mapped)
        .json_field("page_size", seen.page)
        .json_field("pages", seen.pages)
        .json_field("resident", seen.resident)
        .json_field("dirty", seen.dirty)
        .json_field("writeback", seen.writeback)
        .json_field("copied", seen.copied)
        .json_field("huge_bytes", seen.huge)
        .json_field("locked", seen.locked)
        .json_field("hole_bytes", seen.holes)
        .json_field("preallocated_bytes", seen.preallocated)
        .json_field("past_end", seen.past_end)
        .json_field("path", path.clone())
        .json_field("pid", std::process::id())
        .line(format!("{}: {span}, {}", context.name(), size(span.len())))
        .text_field("mapping", format!("{backing}, {visibility}, {}{nonlinear}", letters(shape.prot)))
        .text_field("address", at);
    if let Some(path) = path {
        report = report.text_field("path", path);
    }
    report = report.text_field("resident", resident);
    let some = |count: Option<u64>| count.filter(|count| *count > 0);
    for (label, count) in [
        ("dirty", seen.dirty),
        ("writeback", seen.writeback),
        ("copied", seen.copied),
        ("locked", Some(seen.locked)),
        ("past end", Some(seen.past_end)),
    ] {
        if let Some(count) = some(count) {
            report = report.text_field(label, pages(count));
        }
    }
    for (label, bytes) in [
        ("huge pages", Some(seen.huge)),
        ("holes", seen.holes),
        ("preallocated", seen.preallocated),
    ] {
        if let Some(bytes) = some(bytes) {
            report = report.text_field(label, size(bytes));
        }
    }
    match seen.pages {
        0 => Ok(report),
        _ => Ok(report.line(picture(&seen))),
    }
}

/// The letters that /proc/PID/maps uses.
fn letters(prot: Prot) -> &'static str {
    match prot {
        Prot::None => "---",
        Prot::Read => "r--",
        Prot::ReadWrite => "rw-",
        Prot::ReadExec => "r-x",
        Prot::ReadWriteExec => "rwx",
    }
}

/// Rounded down, so that 100 means all.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole.max(1))) as u64
}

/// The row of cells, and a legend of those that occur in it.
fn picture(seen: &Residency) -> String {
    const MARKS: [(Cell, char, char, &str); 9] = [
        (Cell::Resident, '█', '#', "resident"),
        (Cell::Partly, '▒', '+', "partly"),
        (Cell::Dirty, '◆', 'd', "dirty"),
        (Cell::Copied, '◇', 'c', "copied"),
        (Cell::Absent, '·', '.', "absent"),
        (Cell::Hole, '░', '_', "hole"),
        (Cell::Preallocated, '▫', 'o', "preallocated"),
        (Cell::PastEnd, '×', 'x', "past the end"),
        (Cell::Unknown, '?', '?', "unknown"),
    ];
    let unicode = text::is_utf8();
    let mark = |(_, fancy, plain, _): &(Cell, char, char, &str)| if unicode { *fancy } else { *plain };
    let strip = seen.cells.iter().map(|cell| {
        let found = MARKS.iter().find(|entry| entry.0 == *cell);
        found.map_or('?', mark)
    });
    let strip: String = strip.collect();
    let present = MARKS.iter().filter(|entry| seen.cells.contains(&entry.0));
    let legend = present.map(|entry| format!("{} {}", mark(entry), entry.3));
    let legend = legend.collect::<Vec<_>>().join("  ");
    format!("  [{strip}]\n  {legend}")
}
