//! What a verb did, as text and as JSON: built once, in order, from the same facts.

mod frame;

use crate::edit::{Error, ErrorContext, Outcome, Result, RootCause};
use crate::json::{Object, insert_path};
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

/// The version of the JSON objects: fields may be added under the same number, never changed or removed.
const SCHEMA: u64 = 1;

const ROOM: &str = "free some space where stdout is written, or suppress the report with --quiet";
const OPEN: &str =
    "stdout is not open for writing: redirect the report, for example with '>/dev/null', or suppress it with --quiet";

/// How much of a [`Stream`] is gathered before it is written out, in bytes.
const STREAMED: usize = 256 << 10;

/// A verb's report.
#[derive(Debug)]
pub struct Report {
    object: Object,
    text: String,
    changed: bool,
    /// The file that `changed` is about; `None` for memory, which goes with the process.
    stored_in: Option<PathBuf>,
    /// A new file that was made.
    made: Option<PathBuf>,
}

impl Report {
    /// A report of `verb` about `path`; `changed` says whether bytes of it are other than before.
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

    /// The verb has made this file.
    pub fn made(self, path: &Path) -> Report {
        Report {
            made: Some(path.to_path_buf()),
            ..self
        }
    }

    /// What changed is bytes of `region`, which may be memory that reaches no file. Says which privileges of the file were
    /// taken away.
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
            // What changed is this process's own copy of the file's pages.
            report.object.insert("changed", json!(false));
            report.object.insert("visibility", json!("private"));
        }
        if names.is_empty() {
            return report;
        }
        let text = format!("{}, as write(2) does", words.join(" and "));
        report
            .json_field("privileges_dropped", names)
            .text_field("dropped", text)
    }

    /// A field of the JSON object: sizes and offsets as integers, addresses as hex strings.
    pub fn json_field(mut self, key: &str, value: impl Into<Value>) -> Report {
        self.object.insert(key, value.into());
        self
    }

    /// A field that is a path, as text; and where that is not UTF-8, one whose name ends in `_hex` with the exact bytes.
    pub fn path(mut self, key: &str, path: Option<&Path>) -> Report {
        self.object.insert(key, json!(path.map(|path| path.to_string_lossy())));
        if let Some(path) = path.filter(|path| path.to_str().is_none()) {
            let exact = const_hex::encode(path.as_os_str().as_bytes());
            self.object.insert(&format!("{key}_hex"), json!(exact));
        }
        self
    }

    /// The range that it is about.
    pub fn range(self, span: ByteRange) -> Report {
        self.json_field("offset", span.start()).json_field("length", span.len())
    }

    /// A line of the text.
    pub fn line(mut self, line: impl AsRef<str>) -> Report {
        self.text += line.as_ref();
        self.text.push('\n');
        self
    }

    /// A labelled line of the text.
    pub fn text_field(self, label: &str, value: impl AsRef<str>) -> Report {
        let line = format!("  {label:<11} {}", value.as_ref());
        self.line(line)
    }

    /// Writes the report to stdout as `globals` want it.
    ///
    /// # Errors
    /// Exit code 3 when the file changed and nobody can be told, 2 when it did not. A reader that has closed the
    /// pipe has heard enough, and is no error.
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

    /// Writes one report of many: as text on a terminal, over the one before, from the upper left corner on.
    ///
    /// # Errors
    /// What write(2) says, and that nobody reads stdout any more.
    pub fn print_redrawn(&self, globals: &Globals) -> Result<()> {
        if globals.json {
            return out((self.json() + "\n").as_bytes());
        }
        redraw(&self.text, &more_lines)
    }

    /// The JSON object alone.
    pub fn json(&self) -> String {
        self.object.to_string()
    }
}

/// A JSON object with one field that is too long to be held, which is written as it comes.
pub struct Stream {
    text: Vec<u8>,
    /// How the field ends.
    end: &'static str,
    /// What comes before the next item of a list.
    comma: &'static str,
    /// A part of the object is on stdout.
    begun: bool,
}

impl Stream {
    /// The object of `report`, up to a field of this name, which is a text.
    pub fn of_text(report: &Report, name: &str) -> Stream {
        Stream::begin(report, name, "\"", "\"")
    }

    /// The object of `report`, up to a field of this name, which is a list.
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

    /// The next part of the text.
    pub fn text(&mut self, part: &str) -> Result<()> {
        let quoted = json!(part).to_string();
        self.text.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        self.write(STREAMED)
    }

    /// The next item of the list.
    pub fn item(&mut self, item: &Value) -> Result<()> {
        self.text
            .extend_from_slice(format!("{}{item}", std::mem::replace(&mut self.comma, ",")).as_bytes());
        self.write(STREAMED)
    }

    /// Ends the field and, with what is known only now, the object. After a failure there is no object, or where a part
    /// of it has been written already, a whole one with `"complete":false`.
    ///
    /// # Errors
    /// That of `result`; what [`out`] says.
    pub fn end(mut self, result: Result<()>, more: &[(&str, Value)]) -> Result<()> {
        if result.is_err() && !self.begun {
            return result;
        }
        let incomplete = [("complete", json!(false))];
        let more = if result.is_ok() { more } else { &incomplete };
        self.text.extend_from_slice(self.end.as_bytes());
        for (name, value) in more {
            self.text
                .extend_from_slice(format!(",{}:{value}", json!(name)).as_bytes());
        }
        self.text.extend_from_slice(b"}\n");
        let written = self.write(0);
        // What came first is the cause, also of a stdout that takes no more.
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

/// Writes a text over the one before on a terminal: as much of it as there is room for now, with a last line in which
/// `left_out` describes the others.
pub fn redraw(text: &str, left_out: &dyn Fn(&[&str]) -> String) -> Result<()> {
    if !io::stdout().is_terminal() {
        return out(text.as_bytes());
    }
    let frame = match terminal() {
        Some(size) => frame::fitting(text, size, left_out),
        None => text.into(),
    };
    // Each line into an empty row, and nothing of what stood below.
    let rows: String = frame.lines().flat_map(|line| ["\x1b[K", line, "\n"]).collect();
    out(format!("\x1b[H{rows}\x1b[J").as_bytes())
}

/// What there is to say of lines left out, where they are of no kind of their own.
pub fn more_lines(left_out: &[&str]) -> String {
    let lines = plural(left_out.len() as u64, "line");
    format!("{lines} more; a larger terminal shows them")
}

/// Closes stdout, if anything was written to it, because a file system may say only then that it has no room (FUSE, NFS).
/// Nothing can be written to it afterwards.
///
/// # Errors
/// Exit code 3 when a file was changed and the report of it may be lost, 2 otherwise.
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

/// Refuses a stdout that is the very file that is about to be read: what is written would be read again, or replace what
/// is still to be read. `raw` is where the bytes begin that are written as they are: no earlier than there, they are
/// written over what has been read.
///
/// # Errors
/// As cat(1) has it: the input file is the output file.
pub fn not_into_itself(backing: &Backing, raw: Option<u64>) -> Result<()> {
    let identity = backing.facts().identity;
    let stdout = io::stdout();
    let is_it = |out: FileStat| (out.st_dev, out.st_ino) == (identity.device, identity.inode);
    // Anonymous memory is no file, and a stdout that is closed is met when it is written to.
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

/// Whether what failed is a write to a stdout that is not open for that.
fn is_closed(error: &Error) -> bool {
    matches!(error.root(), RootCause::Io(io) if io.raw_os_error() == Some(Errno::EBADF as i32))
}
