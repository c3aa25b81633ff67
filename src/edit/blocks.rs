//! Reads a script in blocks of whole lines; for a long script, a second thread reads ahead.

use super::LONGEST_TEXT;
use super::fast_lines::FastLines;
use crate::edit::error::{Error, ErrorContext, Result, SourceLocation};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// How many bytes are read at a time; they fit in the second-level cache.
pub const BLOCK: usize = 256 << 10;

/// How many blocks are read before a thread is started, which pays off only for long scripts.
const ALONE: usize = 4;

/// How many blocks the thread may be ahead.
const AHEAD: usize = 4;

/// The thread leaves every `SHARE`-th block unparsed. The other thread parses it, and also has to append all edits.
const SHARE: usize = 4;

/// Whole lines; the last line of the script may lack its line end.
#[derive(Debug, Default)]
pub struct Block {
    /// The text of the lines.
    pub text: Vec<u8>,
    /// The parsed lines, if [`Block::is_read`].
    pub plain: FastLines,
    /// Whether the second thread has parsed the text and found only plain lines.
    pub is_read: bool,
}

/// The blocks of a script, in order.
pub struct LineBlocks {
    reading: Reading,
    taken: usize,
}

enum Reading {
    Alone(LineSplitter),
    Ahead(Thread),
    Over,
}

/// The thread that reads ahead.
struct Thread {
    blocks: Receiver<io::Result<Block>>,
    /// Used blocks, whose memory is reused.
    used: Sender<Block>,
    handle: JoinHandle<()>,
}

impl LineBlocks {
    /// Reads `source` in blocks of `size` bytes, or more where lines are longer.
    pub fn new(source: impl Read + Send + 'static, size: usize) -> LineBlocks {
        let cutter = LineSplitter {
            source: Box::new(source),
            size,
            cut_off: Vec::new(),
            ended: false,
        };
        LineBlocks {
            reading: Reading::Alone(cutter),
            taken: 0,
        }
    }

    /// Replaces `block` by the next block; returns false at the end.
    pub fn next(&mut self, block: &mut Block) -> io::Result<bool> {
        if let Reading::Alone(cutter) = &mut self.reading {
            self.taken += 1;
            if self.taken <= ALONE {
                return cutter.next(block);
            }
        }
        self.reading = match std::mem::replace(&mut self.reading, Reading::Over) {
            Reading::Alone(cutter) => ahead(cutter),
            other => other,
        };
        match &mut self.reading {
            // No thread could be started.
            Reading::Alone(cutter) => cutter.next(block),
            Reading::Ahead(thread) => match thread.blocks.recv() {
                Ok(next) => {
                    // This fails if the thread has read everything and needs no more memory.
                    let _ = thread.used.send(std::mem::replace(block, next?));
                    Ok(true)
                }
                Err(_) => {
                    self.end();
                    Ok(false)
                }
            },
            Reading::Over => Ok(false),
        }
    }

    /// Waits for the thread, which is about to end: signals that are blocked from now on must not be delivered to it.
    fn end(&mut self) {
        if let Reading::Ahead(thread) = std::mem::replace(&mut self.reading, Reading::Over) {
            // It has not panicked, because a panic ends the process.
            let _ = thread.handle.join();
        }
    }
}

/// Starts the thread that reads the rest of `cutter`. If the script turns out to be wrong, the thread is not joined:
/// its source may be a pipe that never ends.
fn ahead(cutter: LineSplitter) -> Reading {
    // The splitter is sent once the thread exists: if the thread could not be created, its closure would be dropped
    // with the splitter in it.
    let (give, take) = channel();
    let (send, blocks) = sync_channel(AHEAD);
    let (used, spare) = channel();
    let read = move || {
        if let Ok(cutter) = take.recv() {
            send_all(cutter, &send, &spare);
        }
    };
    let start = || Builder::new().name("script".to_string()).spawn(read);
    match without_signals(start) {
        Ok(handle) => match give.send(cutter) {
            Ok(()) => Reading::Ahead(Thread { blocks, used, handle }),
            Err(returned) => Reading::Alone(returned.0),
        },
        Err(_) => Reading::Alone(cutter),
    }
}

/// Runs `start`, which starts a thread that may outlive its work, so that the thread receives no signals: a signal that
/// it received would end the process while another thread blocks it.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let result = start();
    // Reading and setting the calling thread's mask cannot fail.
    let _ = before.and_then(|mask| mask.thread_set_mask());
    result
}

fn send_all(mut cutter: LineSplitter, send: &SyncSender<io::Result<Block>>, spare: &Receiver<Block>) {
    for turn in 1.. {
        let mut block = spare.try_recv().unwrap_or_default();
        let result = match cutter.next(&mut block) {
            Ok(true) => {
                block.is_read = turn % SHARE != 0 && block.plain.read(&block.text);
                Ok(block)
            }
            Ok(false) => return,
            Err(error) => Err(error),
        };
        let failed = result.is_err();
        // The receiver is gone if an earlier block was wrong.
        if send.send(result).is_err() || failed {
            return;
        }
    }
}

/// Rejects a line of at least `len` bytes, if that exceeds [`LONGEST_TEXT`].
pub(super) fn check_line(len: usize) -> io::Result<()> {
    match len as u64 > LONGEST_TEXT {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than 64 MiB")),
        false => Ok(()),
    }
}

/// Splits a source at line ends.
struct LineSplitter {
    source: Box<dyn Read + Send>,
    size: usize,
    /// The beginning of a line that did not fit in the last block.
    cut_off: Vec<u8>,
    ended: bool,
}

impl LineSplitter {
    fn next(&mut self, block: &mut Block) -> io::Result<bool> {
        let text = &mut block.text;
        text.clear();
        text.append(&mut self.cut_off);
        text.reserve(self.size);
        block.is_read = false;
        while !self.ended {
            check_line(text.len())?;
            let before = text.len();
            let mut part = self.source.by_ref().take(self.size as u64);
            self.ended = part.read_to_end(text)? < self.size;
            if let Some(end) = memchr::memrchr(b'\n', &text[before..]).filter(|_| !self.ended) {
                let end = before + end + 1;
                self.cut_off.extend_from_slice(&text[end..]);
                text.truncate(end);
                break;
            }
        }
        Ok(!text.is_empty())
    }
}

/// Calls `each` with each line of `source` and its number, which is `before` plus one for the first line. The line has
/// no line end (LF or CRLF), and no byte order mark, which some editors put first. Returns the number of the last line.
pub(super) fn each_line(
    source: &mut impl BufRead,
    before: u32,
    mut each: impl FnMut(u32, &[u8]) -> Result<()>,
) -> Result<u32> {
    let mut number = before;
    // The beginning of a line whose end has not been read yet.
    let mut partial: Vec<u8> = Vec::new();
    loop {
        let buffer = unreadable(source.fill_buf())?;
        let len = buffer.len();
        let mut rest = buffer;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            number += 1;
            let line = if partial.is_empty() {
                &rest[..end]
            } else {
                partial.extend_from_slice(&rest[..end]);
                &partial
            };
            each(number, text_of(line, number)).with_context(|| SourceLocation::Line(number).to_string())?;
            partial.clear();
            rest = &rest[end + 1..];
        }
        partial.extend_from_slice(rest);
        unreadable(check_line(partial.len()))?;
        if len == 0 {
            break;
        }
        source.consume(len);
    }
    if !partial.is_empty() {
        number += 1;
        each(number, text_of(&partial, number)).with_context(|| SourceLocation::Line(number).to_string())?;
    }
    Ok(number)
}

fn text_of(line: &[u8], number: u32) -> &[u8] {
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    match number {
        1 => text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text),
        _ => text,
    }
}

/// Adds to an error that it is about the script; a line that is too long has its own tip.
pub(super) fn unreadable<T>(read: std::io::Result<T>) -> Result<T> {
    let is_too_long = read.as_ref().err().map(std::io::Error::kind) == Some(ErrorKind::InvalidData);
    let failure = Error::untouched("cannot read the script");
    read.map_failure(|| match is_too_long {
        true => failure.tip("a script has one edit on each line, such as '0x40: 7405 -> 9090'"),
        false => failure,
    })
}
