//! `patch --access`: stores units of one width into the registers of a device, without reading any.

use super::Options;
use crate::cmd::VerbContext;
use crate::cmd::options::units;
use crate::edit::{EditDetail, EditMeta, Edits, Error, ErrorContext, Result, ScriptWriter, SourceLocation};
use crate::mapping::{self, ByteRange, Region, Width};
use crate::output;
use crate::progress::Progress;
use crate::report::Report;
use crate::text::plural;
use serde_json::{Value, json};

impl Options {
    /// Rejects options that require reading.
    pub(super) fn asked_of_registers(&self) -> Result<()> {
        if self.access.is_none() {
            return Ok(());
        }
        let reading = [
            (self.expect.is_some(), "--expect"),
            (self.find.is_some(), "--find"),
            (self.strict, "--strict"),
            (self.undo.is_some(), "--undo"),
            (self.reverse, "--reverse"),
            (self.diff.is_some(), "--diff"),
            (self.atomic, "--atomic"),
        ];
        if let Some((_, option)) = reading.into_iter().find(|(given, _)| *given) {
            return Err(needs_to_read(option));
        }
        if self.grow {
            let failure = Error::untouched("--access stores into existing bytes, and --grow adds bytes");
            return Err(failure.tip("leave out one of the two"));
        }
        Ok(())
    }

    /// Stores all edits in the order in which they were written.
    pub(super) fn store_units(
        &self,
        region: &mut Region,
        edits: &mut Edits,
        width: Width,
        context: VerbContext<'_>,
    ) -> Result<()> {
        let facts = region.backing().facts().clone();
        for (edit, note) in edits.list.iter().zip(&edits.notes) {
            let checked = of_stores_alone(edits, *note).and_then(|()| units(edit.range(), width));
            match note.origin() {
                SourceLocation::Arguments => checked?,
                origin => checked.with_context(|| origin.to_string())?,
            }
        }
        if edits.len_after != region.length() {
            let failure = Error::untouched("--access does not change the length of a file");
            return Err(failure.tip("take the line with the new size out of the script"));
        }
        if self.sync && facts.device_memory {
            let failure = Error::untouched("a device has no cached pages that --sync could write to it");
            return Err(failure.tip("leave out --sync: the store goes to the device itself"));
        }
        let len = Some(region.length()).filter(|_| facts.has_end());
        if self.dry_run {
            return print_stores(edits, width, len, context);
        }
        self.sync_parent_dir(region, true, context)?;
        let list = edits.list.clone();
        let total = list.iter().map(|edit| edit.len()).sum();
        let all = list.iter().map(|edit| edit.range()).reduce(ByteRange::join).unwrap_or(ByteRange::first(0));
        let mut progress = Progress::writing(context.globals, "storing", total)?;
        let mut pieces = list.clone();
        pieces.sort_by_key(|piece| piece.at());
        region.make_units_writable(&pieces).map_failure(|| Error::untouched("nothing was written"))?;
        crate::memory::begin_change();
        let mut before = 0;
        for edit in &list {
            let start = edit.at();
            let mut done = before;
            let stored = region.store_units(edit.range(), width, |at, bytes| {
                done = before + (at - start);
                progress.step(done).map_err(|signal| interrupted(signal, edit.range().from(at)))?;
                edits.new.read_at(edit.from + (at - start), bytes)
            });
            if let Err(error) = stored {
                let of_core = error.core();
                let done = of_core.map_or(done, |error| done.max(before + error.stored));
                return Err(error).map_failure(|| cut_short(done, total, width, all, context));
            }
            before += edit.len();
        }
        if self.sync {
            region.flush(all, false).map_failure(|| {
                let tip = "the device may have lost data: see 'dmesg', write the bytes again and sync again";
                Error::changed("the file was changed, but is not proven durable").tip(tip)
            })?;
        }
        drop(progress);
        let stores = total / width.bytes();
        let line = format!(
            "{}: {} of {} in {all}{}",
            context.name(),
            plural(stores, "store"),
            plural(width.bytes(), "byte"),
            if self.sync { ", durable" } else { "" }
        );
        // Whether any bytes changed is unknown without reading them.
        Report::new("patch", context.path, !list.is_empty())
            .json_field("offset", all.start())
            .json_field("length", all.len())
            .json_field("edits", edits.count())
            .json_field("bytes_changed", Value::Null)
            .json_field("access", width.bytes())
            .json_field("stores", stores)
            .json_field("size", len)
            .json_field("durable", self.sync)
            .json_field("atomic", false)
            .json_field("recovered", context.recovered)
            .line(line)
            .stored_in(region)
            .print(context.globals)
    }
}

fn needs_to_read(what: &str) -> Error {
    Error::untouched(format!("{what} must read the existing bytes, and --access reads nothing"))
        .tip("leave out one of the two; cat --access 4 reads a register")
}

/// Rejects an edit that depends on the present bytes.
fn of_stores_alone(edits: &Edits, note: EditMeta) -> Result<()> {
    if note.expects() {
        let failure = needs_to_read("an edit with old bytes");
        return Err(failure.tip("write OFFSET: -> NEW, without the old bytes"));
    }
    match note.extra().and_then(|index| edits.extras.get(index)) {
        None => Ok(()),
        Some(EditDetail::Masks { .. }) => {
            let failure = needs_to_read("a mask");
            Err(failure.tip("read the register with cat --access, and write all of its bits"))
        }
        Some(EditDetail::Sum(_)) => {
            let failure = needs_to_read("a checksum");
            Err(failure.tip("write the number itself: u32le:0x1234"))
        }
    }
}

fn interrupted(mapping::Interrupted(signal): mapping::Interrupted, rest: ByteRange) -> Error {
    mapping::Error::new("store", Some(rest), mapping::ErrorKind::Interrupted(signal)).into()
}

/// Stores cannot be undone without having read the old bytes; before the first one, nothing has happened.
fn cut_short(done: u64, total: u64, width: Width, all: ByteRange, context: VerbContext<'_>) -> Error {
    if done == 0 {
        return Error::untouched("nothing was written");
    }
    let (made, of) = (done / width.bytes(), plural(total / width.bytes(), "store"));
    let message = format!("{made} of {of} were made, and cannot be undone, as --access reads nothing");
    let tip = format!(
        "see what is there with 'mmapctl cat {} --range {all} --access {}', and store the rest from that offset on",
        context.file(),
        width.bytes()
    );
    Error::in_doubt(message).tip(tip)
}

/// `--dry-run`: prints what would be stored as a script.
fn print_stores(edits: &mut Edits, width: Width, len: Option<u64>, context: VerbContext<'_>) -> Result<()> {
    let mut script = ScriptWriter::of_stores(width.bytes(), len, output::out).of_view(edits.is_view);
    let mut lines = Vec::new();
    let mut bytes = Vec::new();
    for edit in edits.list.clone() {
        for line in edit.range().windows(LINE) {
            bytes.resize(line.len() as usize, 0);
            edits.new.read_at(edit.from + (line.start() - edit.at()), &mut bytes)?;
            if context.globals.json {
                lines.push(json!({"offset": line.start(), "old": null, "new": const_hex::encode(&bytes)}));
            } else {
                script.store(line.start(), &bytes)?;
            }
        }
    }
    if !context.globals.json {
        return script.finish();
    }
    Report::new("patch", context.path, false)
        .json_field("dry_run", true)
        .json_field("access", width.bytes())
        .json_field("size", len)
        .json_field("size_after", len)
        .json_field("bytes_changed", Value::Null)
        .json_field("edits", lines)
        .print(context.globals)
}

/// The maximum number of bytes in a line; a multiple of every width.
const LINE: u64 = 32;
