//! Makes edits from the options of `patch`: their places and their bytes.

use super::{Options, ScriptFormat, quoted};
use crate::cmd::paths::must_differ;
use crate::cmd::{RunOnRegion, VerbContext};
use crate::edit::{
    Builder, Edits, Error, ErrorContext, Find, MaskedBytes, Result, SourceLocation, Value, find, is_journal_name,
    read_edit, read_script, read_xxd, stdin_used_twice, take_stdin, unless_half_patched,
};
use crate::mapping::{ByteRange, Region};
use crate::progress::Progress;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

impl Options {
    /// Rejects contradictory options, before any file is opened.
    pub(super) fn validate(&self) -> Result<()> {
        let wrong = |message: &str, tip: &str| Err(Error::untouched(message).tip(tip));
        self.asked_of_registers()?;
        if self.undo.as_deref().is_some_and(is_journal_name) {
            return wrong(
                "--undo has the name of a recovery journal, which the next verb that writes to that file removes",
                "give the script another name, such as --undo undo.patch",
            );
        }
        // clap drops the requirement of another option if a third one excludes that option.
        if (self.all || self.nth.is_some()) && self.find.is_none() {
            return wrong("--all and --nth apply only to --find", "leave them out, or add --find VALUE");
        }
        if self.format.is_some() && self.script.is_none() {
            return wrong("--format applies only to --script", "leave it out");
        }
        let placed = self.place.is_given() || self.find.is_some();
        let scripted = !self.edit.is_empty() || self.script.is_some();
        if self.diff.is_some() {
            let writes = self.sync || self.atomic || self.undo.is_some() || self.grow || self.reverse || self.strict;
            if writes || self.expect.is_some() {
                return wrong(
                    "--diff prints a script and writes nothing",
                    "save its script, and give these options when it is applied: --script PATH",
                );
            }
            return Ok(());
        }
        if !placed && (!scripted || !self.values.is_empty() || self.expect.is_some()) {
            return wrong(
                "no place to write was given",
                "give the place with --offset, and the bytes as VALUE: see 'mmapctl patch --help'",
            );
        }
        if self.reverse && (placed || !scripted) {
            return wrong(
                "--reverse applies only to --edit and --script",
                "give the old bytes in place of the new ones",
            );
        }
        if self.stdin_uses() > 1 {
            return Err(stdin_used_twice());
        }
        Ok(())
    }

    /// Rejects an output that is also an input or another output.
    pub(super) fn check_paths(&self, context: VerbContext<'_>) -> Result<()> {
        let is_file = |path: &&Path| *path != Path::new("-");
        let inputs = [
            context.path.map(|path| ("FILE", path)),
            self.diff.as_deref().map(|path| ("--diff", path)),
            self.script.as_deref().filter(is_file).map(|path| ("--script", path)),
        ];
        let values = self.values.iter().chain(&self.expect).filter_map(|value| match value {
            Value::File(path) => Some(Some(("@PATH", path.as_path()))),
            _ => None,
        });
        let outputs = [
            context.journal.map(|path| ("--journal", path)),
            self.undo.as_deref().map(|path| ("--undo", path)),
        ];
        let inputs: Vec<_> = inputs.into_iter().chain(values).collect();
        must_differ(&inputs, &outputs)
    }

    /// Makes all edits from all options.
    pub(super) fn gather(&self, region: &mut Region, context: VerbContext<'_>) -> Result<Edits> {
        let mut builder = Builder::new(region, self.grow, self.reverse);
        match &self.find {
            Some(pattern) => self.found(pattern, region, &mut builder, context)?,
            None if self.place.is_given() => self.placed(region, &mut builder)?,
            None => {}
        }
        for (number, text) in (1..).zip(&self.edit) {
            read_edit(text, number, &mut builder)?;
        }
        if let Some(path) = &self.script {
            self.scripted(path, &mut builder)?;
        }
        if self.access.is_some() {
            return Ok(builder.as_written());
        }
        builder.finish()
    }

    /// Adds the values at the place that the options name.
    fn placed(&self, region: &Region, builder: &mut Builder) -> Result<()> {
        let exact = match (self.place.has_end(), self.grow) {
            (false, _) => None,
            (true, false) => Some(self.place.resolve_for_write(region)?),
            (true, true) => Some(self.place.to_grow(region)?),
        };
        // Without an end, the values determine the length, which is checked against the end of the file and of the
        // mapping.
        let start = exact.map_or_else(|| self.place.start(region), |place| Ok(place.start()))?;
        let stdin = [Value::Stdin];
        let values = if self.values.is_empty() {
            &stdin
        } else {
            self.values.as_slice()
        };
        let expect = self.expect.as_ref().map(std::slice::from_ref);
        builder.add(start, exact, expect, values, SourceLocation::Arguments)
    }

    /// Adds the values at the matches of `pattern`.
    fn found(
        &self,
        pattern: &MaskedBytes,
        region: &mut Region,
        builder: &mut Builder,
        context: VerbContext<'_>,
    ) -> Result<()> {
        let which = match self.nth {
            Some(nth) => Find::Nth(nth),
            None if self.all => Find::All,
            None => Find::Only,
        };
        // After the end of a file that was shortened while mapped, nothing can be stored.
        let span = self.place.resolve_for_read(region)?.intersect(ByteRange::first(region.length()));
        let mut progress = Progress::reading(context.globals, "searching", span.len());
        let places = find(region, span, pattern, which, &mut |done| progress.step(done))?;
        // stdin can be read only once, however many matches there are.
        let mut bytes = Vec::new();
        let values = if self.values.is_empty() || self.values.contains(&Value::Stdin) {
            take_stdin()?;
            let mut stdin = std::io::stdin().lock().take(MOST_FOR_ALL + 1);
            stdin.read_to_end(&mut bytes).context("cannot read stdin")?;
            if bytes.len() as u64 > MOST_FOR_ALL {
                let failure = Error::untouched("stdin has more than 16 MiB");
                return Err(failure.tip("put the bytes into a file, and give @PATH"));
            }
            let read = |value: &Value| match value {
                Value::Stdin => Value::Bytes(bytes.clone()),
                other => other.clone(),
            };
            let given = if self.values.is_empty() {
                &[Value::Stdin]
            } else {
                self.values.as_slice()
            };
            given.iter().map(read).collect()
        } else {
            self.values.clone()
        };
        for at in places {
            builder.add(at, None, None, &values, SourceLocation::Arguments)?;
        }
        Ok(())
    }

    fn scripted(&self, path: &Path, builder: &mut Builder) -> Result<()> {
        let source: Box<dyn Read + Send> = if path == Path::new("-") {
            take_stdin()?;
            Box::new(std::io::stdin())
        } else {
            let failed = || {
                Error::untouched("cannot open it").tip(format!("--script - reads stdin; see 'ls -l {}'", quoted(path)))
            };
            let file = File::open(path).map_failure(failed).with_path(path)?;
            unless_half_patched(&file, path).with_path(path)?;
            Box::new(file)
        };
        let read = match self.format.unwrap_or(ScriptFormat::Script) {
            ScriptFormat::Script => read_script(source, builder),
            ScriptFormat::Xxd => read_xxd(&mut BufReader::with_capacity(256 << 10, source), builder),
        };
        read.with_path(path)
    }
}

/// How many bytes are read from stdin at most, to be written in several places.
const MOST_FOR_ALL: u64 = 16 << 20;
