//! What a verb did, as text and as JSON: built once, in order, from the same facts.

mod frame;
mod object;

use crate::cli::Globals;
use crate::exit::{Exit, Failure, Layer, quoted};
use crate::mapping::{Backing, Region, Span};
use crate::signals;
use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::{Whence, lseek64};
pub use object::Object;
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The version of the JSON objects: fields may be added under the same number, never changed or removed.
const SCHEMA: u64 = 1;

const ROOM: &str = "make room where stdout goes, or leave the report out with --quiet";
const OPEN: &str =
    "stdout is not open for writing: send the report somewhere, as with '>/dev/null', or leave it out with --quiet";

/// How often somebody who waits for room in stdout looks whether to stop, in milliseconds.
const LOOK: u16 = 100;

/// How much of a [`Stream`] is gathered before it is written out, in bytes.
const STREAMED: usize = 256 << 10;

/// Whether anything was written to stdout by this process, and whether a file was changed.
static WRITTEN: AtomicBool = AtomicBool::new(false);
static CHANGED: AtomicBool = AtomicBool::new(false);

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
        let report = Report {
            stored_in: self.stored_in.filter(|_| region.reaches_file()),
            ..self
        };
        if names.is_empty() {
            return report;
        }
        let text = format!("{}, as write(2) does", words.join(" and "));
        report.field("privileges_dropped", names).fact("dropped", text)
    }

    /// A field of the JSON object: sizes and offsets as integers, addresses as hex strings.
    pub fn field(mut self, key: &str, value: impl Into<Value>) -> Report {
        self.object.insert(key, value.into());
        self
    }

    /// The range that it is about.
    pub fn range(self, span: Span) -> Report {
        self.field("offset", span.start()).field("length", span.len())
    }

    /// A line of the text.
    pub fn line(mut self, line: impl AsRef<str>) -> Report {
        self.text += line.as_ref();
        self.text.push('\n');
        self
    }

    /// A labelled line of the text.
    pub fn fact(self, label: &str, value: impl AsRef<str>) -> Report {
        let line = format!("  {label:<11} {}", value.as_ref());
        self.line(line)
    }

    /// Writes the report to stdout as `globals` want it.
    ///
    /// # Errors
    /// Exit code 3 when the file changed and nobody can be told, 2 when it did not. A reader that has closed the
    /// pipe has heard enough, and is no error.
    pub fn print(&self, globals: &Globals) -> anyhow::Result<()> {
        let text = if globals.json {
            self.json() + "\n"
        } else if globals.quiet {
            return Ok(());
        } else {
            self.text.clone()
        };
        let unprinted = |error: anyhow::Error| {
            let room = if is_closed(&error) { OPEN } else { ROOM };
            if let Some(path) = &self.made {
                let failure = || {
                    Failure::new(
                        Exit::NotDurable,
                        format!("the report is lost, and '{}' was written", shown(path)),
                    )
                    .tip("it is done, so do not run it again")
                };
                return Err(error).or_fail(failure);
            }
            let (exit, what, tip) = match (self.changed, &self.stored_in) {
                (true, Some(path)) => {
                    let tip = format!(
                        "it is done, so do not run it again; 'mmapctl sync {}' makes it durable",
                        quoted(path)
                    );
                    (Exit::NotDurable, "the file was changed", tip)
                }
                (true, None) => (Exit::Trouble, "memory was changed, and no file", room.to_string()),
                (false, _) => (Exit::Trouble, "nothing was changed", room.to_string()),
            };
            let failure = || Failure::new(exit, format!("the report is lost, and {what}")).tip(tip);
            Err(error).or_fail(failure)
        };
        match out(text.as_bytes()) {
            Err(error) if !error.is::<ReaderGone>() => unprinted(error),
            _ => Ok(()),
        }
    }

    /// Writes one report of many: as text on a terminal, over the one before, from the upper left corner on.
    ///
    /// # Errors
    /// What write(2) says, and [`ReaderGone`], behind which there is nobody to go on for.
    pub fn print_anew(&self, globals: &Globals) -> anyhow::Result<()> {
        if globals.json {
            return out((self.json() + "\n").as_bytes());
        }
        anew(&self.text, &more_lines)
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

    /// The same with a list.
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
    pub fn text(&mut self, part: &str) -> anyhow::Result<()> {
        let quoted = json!(part).to_string();
        self.text.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        self.write(STREAMED)
    }

    /// The next item of the list.
    pub fn item(&mut self, item: &Value) -> anyhow::Result<()> {
        self.text
            .extend_from_slice(format!("{}{item}", std::mem::replace(&mut self.comma, ",")).as_bytes());
        self.write(STREAMED)
    }

    /// Ends the field and, with what is known only now, the object. After a failure there is no object, or where a part
    /// of it has been written already, a whole one with `"complete":false`.
    ///
    /// # Errors
    /// That of `result`; what [`out`] says.
    pub fn end(mut self, result: anyhow::Result<()>, more: &[(&str, Value)]) -> anyhow::Result<()> {
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

    fn write(&mut self, most: usize) -> anyhow::Result<()> {
        if self.text.len() > most {
            self.begun = true;
            out(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }
}

/// The reader of stdout has closed the pipe: it has seen enough, and there is nothing more to do.
#[derive(Debug)]
pub struct ReaderGone;

impl std::error::Error for ReaderGone {}

impl std::fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reader of stdout has closed it")
    }
}

/// As [`Report::print_anew`], for a text made elsewhere: as much of it as the terminal has room for now, with a last line
/// in which `left_out` tells of the others.
pub fn anew(text: &str, left_out: &dyn Fn(&[&str]) -> String) -> anyhow::Result<()> {
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
    format!("{lines} more, in a larger terminal")
}

/// The columns and lines of the terminal that stdout is; `None` where it is none, or does not say (TIOCGWINSZ).
pub fn terminal() -> Option<(usize, usize)> {
    let (columns, lines) = terminal_size::terminal_size_of(io::stdout())?;
    Some((columns.0.into(), lines.0.into()))
}

/// stdout, for bytes that go there straight.
pub fn raw_stdout() -> io::Stdout {
    WRITTEN.store(true, Ordering::Relaxed);
    io::stdout()
}

/// Notes that a file was changed: an output that is lost from here on is exit code 3.
pub fn note_change() {
    CHANGED.store(true, Ordering::Relaxed);
}

/// Closes stdout, if anything was written to it, because a file system may say only then that it has no room (FUSE, NFS).
/// Nothing can be written to it afterwards.
///
/// # Errors
/// Exit code 3 when a file was changed and the report of it may be lost, 2 otherwise.
pub fn close_stdout() -> anyhow::Result<()> {
    if !WRITTEN.load(Ordering::Relaxed) {
        return Ok(());
    }
    let (exit, what) = match CHANGED.load(Ordering::Relaxed) {
        true => (Exit::NotDurable, "a file was changed, and the report of it may be lost"),
        false => (Exit::Trouble, "what was written to stdout may be lost"),
    };
    let closed = nix::unistd::close(libc::STDOUT_FILENO).map_err(io::Error::from);
    closed
        .context("cannot close stdout")
        .or_fail(|| Failure::new(exit, what).tip("see whether there is room where stdout goes: 'df'"))
}

/// Writes `bytes` to stdout, waiting where it does not take more (a terminal or pipe set to O_NONBLOCK).
///
/// # Errors
/// What write(2) says; [`ReaderGone`] for EPIPE.
pub fn out(bytes: &[u8]) -> anyhow::Result<()> {
    let stdout = raw_stdout();
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut piece = rest;
        if signals::are_awaited() {
            // As much as a pipe with room takes without a wait, in which no signal would be heard.
            piece = &rest[..rest.len().min(libc::PIPE_BUF)];
            let mut room = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut room, LOOK) == Ok(0) {
                if signals::is_asked_to_stop() {
                    return Err(ReaderGone.into());
                }
                continue;
            }
        }
        match nix::unistd::write(&stdout, piece) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EPIPE) => return Err(ReaderGone.into()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut room = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
                // An interrupted wait is a short one.
                let _ = poll(&mut room, PollTimeout::NONE);
            }
            Err(errno) => return Err(io::Error::from(errno)).context("cannot write to stdout"),
        }
    }
    Ok(())
}

/// Refuses a stdout that is the very file that is about to be read: what is written would be read again, or replace what
/// is still to be read. `raw` is where the bytes begin that are written as they are: no earlier than there, they are
/// written over what has been read.
///
/// # Errors
/// As cat(1) has it: the input file is the output file.
pub fn not_into_itself(backing: &Backing, raw: Option<u64>) -> anyhow::Result<()> {
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
    let failure = Failure::trouble("input file is output file");
    Err(failure
        .tip("write to a file that is not there yet, with '> OTHER'")
        .into())
}

/// Whether what failed is a write to a stdout that is not open for that.
fn is_closed(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.and_then(io::Error::raw_os_error) == Some(Errno::EBADF as i32)
}

/// A remark on stderr, for people.
pub fn note(globals: &Globals, text: &str) {
    if !globals.quiet && !globals.json {
        // Nobody listening is no reason to stop.
        let _ = io::stderr().write_all(format!("note: {text}\n").as_bytes());
    }
}

/// "1 page", "2 pages".
pub fn plural(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Whether the locale says that text is UTF-8, by the variables and their precedence of setlocale(3).
pub fn is_utf8() -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    value.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// An operating system error without Rust's "(os error 28)".
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}

/// A path for people: as it is, or escaped where control characters would garble the line.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.into_owned()
    }
}

/// `"file"`, and `"path_hex"` with the exact bytes when the name is not UTF-8.
pub fn insert_path(object: &mut Object, path: &Path) {
    object.insert("file", json!(path.to_string_lossy()));
    if path.to_str().is_none() {
        object.insert("path_hex", json!(const_hex::encode(path.as_os_str().as_bytes())));
    }
}
