//! `map` of several files: each is opened, brought into memory if requested, counted, and closed, or kept while
//! mappings are held.

use super::child::ChildEnv;
use super::files::{FoundFile, Walk, is_limit};
use super::table::{FileRow, Table};
use super::{Args, VerbContext};
use crate::cmd::options::has_length;
use crate::edit::{Error, ErrorContext, Result};
use crate::error::Exit;
use crate::mapping::{
    self, Backing, ByteRange, ErrorKind, FileInfo, KeptMapping, Kind, MapOptions, Prot, Region, count,
};
use crate::output::Globals;
use crate::signals::Signals;
use crate::text::plural;
use nix::errno::Errno;
use std::time::Duration;

impl Args {
    /// Whether there are several files, or may be.
    ///
    /// # Errors
    /// If options about files are given without files.
    pub(super) fn is_of_many(&self) -> Result<bool> {
        let many = self.files.are_many(&self.named);
        if many && (self.anonymous || self.memfd.is_some()) {
            let failure = Error::untouched("this maps new memory, so there are no files to search for");
            return Err(failure.tip("leave out -R and the other options for several files"));
        }
        if self.files.lacks_list() {
            return Err(Error::untouched("-0 applies only to --files-from").tip("leave it out"));
        }
        Ok(many)
    }

    pub(super) fn run_many(&self, globals: &Globals) -> Result<u8> {
        self.fits_many()?;
        let mut kept = Vec::new();
        let watch = self.options.watch.map(|interval| Signals::hold(&[]).map(|signals| (interval, signals)));
        let watch = watch.transpose()?;
        let watching = watch.as_ref().map(|(_, signals)| signals);
        let mut table = Table::new(globals, !self.files.summarize, watch.is_some());
        if !self.stand.command.is_empty() && !globals.json {
            table = table.silent();
        }
        let (walk, outcome) = self.round(globals, &mut table, Some(&mut kept), watching, true);
        match outcome {
            Err(error) if watch.is_some() && error.signal().is_some() => return Ok(Exit::Done as u8),
            // There is no reader, or there are no results to print.
            Err(error) if error.is_reader_gone() || table.is_empty() && walk.failed == 0 => return Err(error),
            _ => {}
        }
        // Signals are blocked before the mappings are announced.
        let signals = self.stand.signals()?;
        let (name, beside) = (plural(table.files(), "file"), ChildEnv::of_many(table.length()));
        let worst = walk.worst;
        let is_complete = outcome.is_ok() && worst == Exit::Done;
        table.finish(&walk, self.stand.held().filter(|_| is_complete))?;
        outcome?;
        if let Some((interval, signals)) = &watch {
            return self.look_again(*interval, signals, globals, &walk);
        }
        // A process that waits for the mappings relies on all of them.
        if worst > Exit::Done && self.stand.is_asked() {
            let what = match self.stand.command.is_empty() {
                true => "nothing is held",
                false => "the command was not run",
            };
            let failure = Error::untouched(format!("{what}, because not every file could be mapped"));
            return Err(failure.tip("exclude those that cannot be mapped: --exclude GLOB"));
        }
        if worst > Exit::Done {
            return Ok(worst as u8);
        }
        let code = self.stand.stay(&beside, &name, signals.as_ref(), globals)?;
        drop(kept);
        Ok(code)
    }

    /// Counts again and again, until there is a signal; returns the exit code. `first` is the first round. If more files
    /// fail in one than in the round before it, the errors are printed in the next.
    fn look_again(&self, interval: Duration, signals: &Signals, globals: &Globals, first: &Walk<'_>) -> Result<u8> {
        let (mut worst, mut failed, mut tells) = (first.worst, first.failed, false);
        while signals.wait(Some(interval)).is_none() {
            let mut table = Table::new(globals, !self.files.summarize, true);
            let (walk, outcome) = self.round(globals, &mut table, None, Some(signals), tells);
            worst = worst.max(walk.worst);
            (tells, failed) = (walk.failed > failed, walk.failed);
            match outcome {
                Err(error) if error.signal().is_some() => break,
                outcome => outcome?,
            }
            table.finish(&walk, None)?;
        }
        Ok(worst as u8)
    }

    /// Rejects options that are for one mapping only.
    fn fits_many(&self) -> Result<()> {
        self.files.check()?;
        let (message, tip) = if !self.session.is_empty() {
            let message = "a session works on one mapping, but several files are given";
            (message, "run one session for each file")
        } else if self.map_as.has_address() {
            ("--address applies to one mapping, but several files are given", "leave it out")
        } else if self.options.watch.is_some() && self.files.reads_stdin() {
            ("--watch reads the list of files again, and stdin cannot be read twice", "write the list to a file")
        } else {
            return Ok(());
        };
        Err(Error::untouched(message).tip(tip))
    }

    /// Visits all files once, and with `tells` prints the errors. Mappings are kept in the first round only, if there is a
    /// list for them; later rounds only count.
    fn round<'a>(
        &'a self,
        globals: &'a Globals,
        table: &mut Table<'_>,
        mut kept: Option<&mut Vec<KeptMapping>>,
        signals: Option<&Signals>,
        tells: bool,
    ) -> (Walk<'a>, Result<()>) {
        self.files.walk(&self.named, globals, tells, &mut |walk, found| {
            if let Some(signal) = signals.and_then(Signals::pending) {
                return Err(mapping::Interrupted(signal).into());
            }
            match self.one(walk, found, kept.as_deref_mut(), globals).with_path(found.path) {
                Ok(None) => Ok(()),
                Ok(Some((size, span, counts))) => table.row(&FileRow {
                    path: found.path,
                    size,
                    span,
                    counts,
                }),
                Err(error) if !found.named && is_nothing(&error) => Ok(()),
                Err(error) if is_limit(&error) => Err(error),
                Err(error) => {
                    walk.trouble(&error);
                    Ok(())
                }
            }
        })
    }

    /// One file's size, range and counts; `None` if it is to be skipped.
    fn one(
        &self,
        walk: &mut Walk<'_>,
        found: &FoundFile<'_>,
        kept: Option<&mut Vec<KeptMapping>>,
        globals: &Globals,
    ) -> Result<Option<(u64, ByteRange, mapping::Counts)>> {
        let backing = Backing::open(found.path, self.map_as.access(false), self.writer.lock_timeout)?;
        let facts = backing.facts();
        if !found.named && facts.kind != Kind::Regular {
            return Ok(None);
        }
        has_length(&backing)?;
        self.map_as.for_file(facts)?;
        if !walk.admits(found, facts)? {
            return Ok(None);
        }
        if found.may_wait || self.writer.journal.is_some() {
            self.reader().check(&backing)?;
        }
        let size = facts.len;
        let span = self.span_of(facts, found.named)?;
        let kept = kept.filter(|_| !span.is_empty() && self.maps_many());
        let Some(kept) = kept else {
            // Counting usually does not need a mapping.
            let mut region = Region::new(backing, span, MapOptions::sliding(Prot::Read))?;
            return Ok(Some((size, span, count(&mut region)?)));
        };
        let mut region = self.map_as.region(backing, span, false)?;
        let stays = self.keeps_many();
        self.options.bring_in(&mut region, VerbContext::on(found.path, globals), stays)?;
        let counts = count(&mut region)?;
        if stays {
            kept.push(region.into_mapping());
        }
        Ok(Some((size, span, counts)))
    }

    /// The range of a file; empty if the file is in a named folder and is too short.
    fn span_of(&self, facts: &FileInfo, named: bool) -> Result<ByteRange> {
        match self.place.to_map(facts) {
            Err(_) if !named => {
                let long = FileInfo {
                    len: i64::MAX as u64,
                    ..facts.clone()
                };
                // A range that is invalid even for the longest possible file is an error for every file.
                self.place.to_map(&long).map(|_| ByteRange::first(0))
            }
            resolved => resolved,
        }
    }

    fn maps_many(&self) -> bool {
        self.keeps_many() || self.options.changes_pages() || self.map_as.is_given()
    }

    fn keeps_many(&self) -> bool {
        let watched = self.options.watch.is_some() && self.options.changes_pages();
        watched || self.options.lock.is_some() || self.stand.is_asked()
    }
}

/// Whether this is a file without pages, as in the kernel's own file systems, or one that was removed in the meantime.
fn is_nothing(error: &Error) -> bool {
    error
        .core()
        .is_some_and(|core| matches!(core.cause, ErrorKind::UnsupportedFileType(_) | ErrorKind::Sys(Errno::ENOENT)))
}
