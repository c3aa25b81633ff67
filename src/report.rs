//! The report of a verb as text and as JSON: both are built together, in order, from the same facts.

mod frame;

use crate::edit::{Error, ErrorContext, Outcome, Result, RootCause};
use crate::json::{Object, Printable, insert_path};
use crate::mapping::{Backing, ByteRange, Region};
use crate::output::{Globals, is_changed, is_written, out, terminal};
use crate::text::{plural, quoted, shown};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::{Whence, lseek64};
use serde_json::{Value, json};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The version of the JSON objects: with the same version, fields may be added, never changed or removed.
const SCHEMA: u64 = 1;

const ROOM: &str = "free some space where stdout is written, or suppress the report with --quiet";
const OPEN: &str =
    "stdout is not open for writing: redirect the report, for example with '>/dev/null', or suppress it with --quiet";

/// How many bytes of a [`Stream`] are buffered before they are written out.
const STREAMED: usize = 256 << 10;

/// A verb's report.
#[derive(Debug)]
pub struct Report {
    object: Object,
    text: String,
    changed: bool,
    /// The file that `changed` is about; `None` for memory, which is lost when the process ends.
    stored_in: Option<PathBuf>,
    /// The new file that was created.
    made: Option<PathBuf>,
}

impl Report {
    /// A report of `verb` about `path`; `changed` says whether bytes of it have changed.
    pub fn new(verb: &str, path: Option<&Path>, changed: bool) -> Report {
        let mut object = Object::default();
        object.insert("schema", json!(SCHEMA));
        object.insert("verb", json!(verb));
        match path {
            Some(path) => insert_path(&mut object, path),
            None => object.insert("file", Value::Null),
        }
        object.insert("changed", json!(changed));
        Report {
            object,
            text: String::new(),
            changed,
            stored_in: path.map(Path::to_path_buf),
            made: None,
        }
    }

    /// Notes that the verb has created this file.
    pub fn made(self, path: &Path) -> Report {
        Report {
            made: Some(path.to_path_buf()),
            ..self
        }
    }

    /// Sets that the change is of `region`, which may be memory without a file. Reports which privileges of the file
    /// were removed.
    pub fn stored_in(self, region: &Region) -> Report {
        let dropped = region.backing().privileges_dropped();
        let kinds = [
            (dropped.set_id || dropped.set_gid_mark, "set-id", "set-ID bits"),
            (dropped.capabilities, "capabilities", "file capabilities"),
        ];
        let dropped = kinds.iter().filter(|(is_dropped, ..)| *is_dropped);
        let (names, words): (Vec<&str>, Vec<&str>) = dropped.map(|(_, name, words)| (*name, *words)).unzip();
        let mut report = Report {
            stored_in: self.stored_in.filter(|_| region.is_shared_file()),
            ..self
        };
        if !region.is_shared_file() && region.backing().facts().is_file() {
            // The change is of this process's own copy of the file's pages.
            report.object.insert("changed", json!(false));
            report.object.insert("visibility", json!("private"));
        }
        if names.is_empty() {
            return report;
        }
        let text = format!("{}, as write(2) does", words.join(" and "));
        report.json_field("privileges_dropped", names).text_field("dropped", text)
    }

    /// Adds a field of the JSON object: sizes and offsets as integers, addresses as hex strings.
    pub fn json_field(mut self, key: &str, value: impl Into<Value>) -> Report {
        self.object.insert(key, value.into());
        self
    }

    /// Adds a field with a path, as text. If the path is not UTF-8, another field whose name ends in `_hex` has the
    /// exact bytes.
    pub fn path(mut self, key: &str, path: Option<&Path>) -> Report {
        self.object.insert(key, json!(path.map(|path| path.to_string_lossy())));
        if let Some(path) = path.filter(|path| path.to_str().is_none()) {
            let exact = const_hex::encode(path.as_os_str().as_bytes());
            self.object.insert(&format!("{key}_hex"), json!(exact));
        }
        self
    }

    /// Adds the range that the report is about.
    pub fn range(self, span: ByteRange) -> Report {
        self.json_field("offset", span.start()).json_field("length", span.len())
    }

    /// Adds a line of text.
    pub fn line(mut self, line: impl AsRef<str>) -> Report {
        self.text += line.as_ref();
        self.text.push('\n');
        self
    }

    /// Adds a labelled line of text.
    pub fn text_field(self, label: &str, value: impl AsRef<str>) -> Report {
        let line = format!("  {label:<11} {}", value.as_ref());
        self.line(line)
    }

    /// Writes the report to stdout in the form that `globals` ask for.
    ///
    /// # Errors
    /// If the report cannot be written: exit code 3 if the file changed, otherwise 2. A reader that has closed the pipe
    /// is no error.
    pub fn print(&self, globals: &Globals) -> Result<()> {
        let text = if globals.json {
            self.json() + "\n"
        } else if globals.quiet {
            return Ok(());
        } else {
            self.text.clone()
        };
        let unprinted = |error: Error| {
            let room = if is_closed(&error) { OPEN } else { ROOM };
            if let Some(path) = &self.made {
                let failure = || {
                    Error::changed(format!("'{}' was written, but not the report", shown(path)))
                        .tip("the change is complete; do not run the command again")
                };
                return Err(error).map_failure(failure);
            }
            let (outcome, what, tip) = match (self.changed, &self.stored_in) {
                (true, Some(path)) => {
                    let tip = format!(
                        "the change is complete; do not run the command again; 'mmapctl sync {}' makes it durable",
                        quoted(path)
                    );
                    (Outcome::Changed, "the file was changed", tip)
                }
                (true, None) => (Outcome::Untouched, "only memory was changed, no file", room.to_string()),
                (false, _) => (Outcome::Untouched, "nothing was changed", room.to_string()),
            };
            let failure = || Error::new(outcome, format!("the report could not be written; {what}")).tip(tip);
            Err(error).map_failure(failure)
        };
        match out(text.as_bytes()) {
            Err(error) if !error.is_reader_gone() => unprinted(error),
            _ => Ok(()),
        }
    }

    /// Writes one of several reports: as text on a terminal, over the previous one, from the upper left corner.
    ///
    /// # Errors
    /// Errors of write(2), and [`RootCause::ReaderGone`].
    pub fn print_redrawn(&self, globals: &Globals) -> Result<()> {
        if globals.json {
            return out((self.json() + "\n").as_bytes());
        }
        if globals.quiet {
            return Ok(());
        }
        redraw(&self.text, &more_lines)
    }

    /// The JSON object without the text.
    pub fn json(&self) -> String {
        self.object.to_string()
    }
}

/// A JSON object with one field that is too long for memory, which is written piece by piece.
pub struct Stream {
    text: Vec<u8>,
    /// The end of the field.
    end: &'static str,
    /// The separator before the next item of a list.
    comma: &'static str,
    /// Whether a part of the object has been written to stdout.
    begun: bool,
}

impl Stream {
    /// Begins the object of `report`, up to a field of this name, which is a string.
    pub fn of_text(report: &Report, name: &str) -> Stream {
        Stream::begin(report, name, "\"", "\"")
    }

    /// Begins the object of `report`, up to a field of this name, which is a list.
    pub fn of_list(report: &Report, name: &str) -> Stream {
        Stream::begin(report, name, "[", "]")
    }

    fn begin(report: &Report, name: &str, begin: &str, end: &'static str) -> Stream {
        let report = report.json();
        let open = report.strip_suffix('}').unwrap_or(&report);
        let text = format!("{open},{}:{begin}", json!(name)).into_bytes();
        Stream {
            text,
            end,
            comma: "",
            begun: false,
        }
    }

    /// Appends the next part of the string.
    pub fn text(&mut self, part: &str) -> Result<()> {
        let quoted = json!(part).to_string();
        self.text.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        self.write(STREAMED)
    }

    /// Appends the next item of the list.
    pub fn item(&mut self, item: &Value) -> Result<()> {
        self.text.extend_from_slice(format!("{}{item}", std::mem::replace(&mut self.comma, ",")).as_bytes());
        self.write(STREAMED)
    }

    /// Ends the field and, with the fields that became known only now, the object. After a failure there is no object,
    /// unless a part of it has been written already: then it is completed, with `"complete":false`.
    ///
    /// # Errors
    /// The error of `result`, or one of [`out`].
    pub fn end(mut self, result: Result<()>, more: &[(&str, Value)]) -> Result<()> {
        if result.is_err() && !self.begun {
            return result;
        }
        let incomplete = [("complete", json!(false))];
        let more = if result.is_ok() { more } else { &incomplete };
        self.text.extend_from_slice(self.end.as_bytes());
        for (name, value) in more {
            self.text.extend_from_slice(format!(",{}:{}", json!(name), Printable(value)).as_bytes());
        }
        self.text.extend_from_slice(b"}\n");
        let written = self.write(0);
        // The first error is the cause, even if stdout failed as well.
        result.and(written)
    }

    fn write(&mut self, most: usize) -> Result<()> {
        if self.text.len() > most {
            self.begun = true;
            out(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }
}

/// Writes a text over the previous one on a terminal: as much of it as there is room for now, and a last line in which
/// `left_out` describes the rest.
pub fn redraw(text: &str, left_out: &dyn Fn(&[&str]) -> String) -> Result<()> {
    if !io::stdout().is_terminal() {
        return out(text.as_bytes());
    }
    let frame = match terminal() {
        Some(size) => frame::fitting(text, size, left_out),
        None => text.into(),
    };
    // Each line goes into a cleared row, and everything below is cleared.
    let rows: String = frame.lines().flat_map(|line| ["\x1b[K", line, "\n"]).collect();
    out(format!("\x1b[H{rows}\x1b[J").as_bytes())
}

/// Describes the lines left out, if there is nothing more specific to say.
pub fn more_lines(left_out: &[&str]) -> String {
    let lines = plural(left_out.len() as u64, "line");
    format!("{lines} more; a larger terminal shows them")
}

/// Closes stdout, if anything was written to it, because some file systems (FUSE, NFS) report only then that they are
/// full. Nothing can be written to stdout afterwards.
///
/// # Errors
/// Exit code 3 if a file was changed and the report of it may be lost, otherwise 2.
pub fn close_stdout() -> Result<()> {
    if !is_written() {
        return Ok(());
    }
    let (outcome, what) = match is_changed() {
        true => (Outcome::Changed, "a file was changed, and its report may be lost"),
        false => (Outcome::Untouched, "what was written to stdout may be lost"),
    };
    let closed = nix::unistd::close(libc::STDOUT_FILENO).map_err(io::Error::from);
    closed
        .context("cannot close stdout")
        .map_failure(|| Error::new(outcome, what).tip("check the free space where stdout is written: 'df'"))
}

/// Rejects a stdout that is the file to be read: the output would be read again, or replace bytes that are still to be
/// read. `raw` is the offset of the first byte if bytes are written unchanged: unless stdout is at a later offset, they
/// only overwrite what has been read.
///
/// # Errors
/// Like cat(1): the input file is the output file.
pub fn not_into_itself(backing: &Backing, raw: Option<u64>) -> Result<()> {
    let identity = backing.facts().identity;
    let stdout = io::stdout();
    let is_it = |out: FileStat| (out.st_dev, out.st_ino) == (identity.device, identity.inode);
    // Anonymous memory is no file. A closed stdout is reported when it is written to.
    if !backing.facts().is_file() || !fstat(&stdout).is_ok_and(is_it) {
        return Ok(());
    }
    let appends = fcntl(&stdout, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_APPEND.bits() != 0);
    let position = lseek64(&stdout, 0, Whence::SeekCur).map_or(u64::MAX, |at| at as u64);
    if !appends && raw.is_some_and(|start| position <= start) {
        return Ok(());
    }
    let failure = Error::untouched("input file is output file");
    Err(failure.tip("write to a file that does not exist yet, with '> OTHER'"))
}

/// Whether a write failed because stdout is not open for writing.
fn is_closed(error: &Error) -> bool {
    matches!(error.root(), RootCause::Io(io) if io.raw_os_error() == Some(Errno::EBADF as i32))
}
