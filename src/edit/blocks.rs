//! A script in blocks of whole lines; in a long one, a second thread reads ahead.

use super::LONGEST_TEXT;
use super::fast_lines::FastLines;
use crate::edit::error::{Error, ErrorContext, Result, SourceLocation};
use crate::signals;
use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

/// How much is read at a time, in bytes: it stays in the second-level cache.
pub const BLOCK: usize = 256 << 10;

/// So many blocks are read before a thread is worth starting.
const ALONE: usize = 4;

/// How many blocks the thread may be ahead.
const AHEAD: usize = 4;

/// Every so many blocks the thread leaves one to be read by the other, which has to add all edits to those before.
const SHARE: usize = 4;

/// Whole lines; the last of the script may lack its end.
#[derive(Debug, Default)]
pub struct Block {
    /// Their text.
    pub text: Vec<u8>,
    /// What the text says, if [`Block::is_read`].
    pub plain: FastLines,
    /// The second thread has read it, and found nothing but plain lines.
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
    /// Used ones, whose memory serves again.
    used: Sender<Block>,
    handle: JoinHandle<()>,
}

impl LineBlocks {
    /// Of what `source` gives, in blocks of `size` bytes and more where lines are longer.
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

    /// The next block in place of `block`; false at the end.
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
            // There is no thread to be had.
            Reading::Alone(cutter) => cutter.next(block),
            Reading::Ahead(thread) => match thread.blocks.recv() {
                Ok(next) => {
                    // A thread that has read all needs no memory any more.
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

    /// Waits for the thread to end, which it is about to: signals that are held back from now on must not find it.
    fn end(&mut self) {
        if let Reading::Ahead(thread) = std::mem::replace(&mut self.reading, Reading::Over) {
            // It has not panicked, for that would have been the end of the process.
            let _ = thread.handle.join();
        }
    }
}

/// Starts the thread that reads the rest of what `cutter` cuts. When the script turns out to be wrong, nobody waits for it: its source may be a
/// pipe that never ends.
fn ahead(cutter: LineSplitter) -> Reading {
    // The cutter goes there when the thread is, for a thread that cannot be made would take it along.
    let (give, take) = channel();
    let (send, blocks) = sync_channel(AHEAD);
    let (used, spare) = channel();
    let read = move || {
        if let Ok(cutter) = take.recv() {
            send_all(cutter, &send, &spare);
        }
    };
    let start = || Builder::new().name("script".to_string()).spawn(read);
    match signals::for_thread(start) {
        Ok(handle) => match give.send(cutter) {
            Ok(()) => Reading::Ahead(Thread { blocks, used, handle }),
            Err(returned) => Reading::Alone(returned.0),
        },
        Err(_) => Reading::Alone(cutter),
    }
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
        // Nobody takes it any more when a block before it was wrong.
        if send.send(result).is_err() || failed {
            return;
        }
    }
}

/// Refuses a line that has no end after `len` bytes.
pub(super) fn check_line(len: usize) -> io::Result<()> {
    match len as u64 > LONGEST_TEXT {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line is longer than 64 MiB",
        )),
        false => Ok(()),
    }
}

/// Cuts at the ends of lines.
struct LineSplitter {
    source: Box<dyn Read + Send>,
    size: usize,
    /// The beginning of the line that the last block was too short for.
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

/// Hands each line of `source` to `each`, with its number, `before` and one for the first, without its end (LF or CRLF)
/// and without the byte order mark that some editors put in front. Gives the number of the last one.
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

/// Says of an error that it is about the script; a line that is too long has a tip of its own.
pub(super) fn unreadable<T>(read: std::io::Result<T>) -> Result<T> {
    let is_too_long = read.as_ref().err().map(std::io::Error::kind) == Some(ErrorKind::InvalidData);
    let failure = Error::untouched("cannot read the script");
    read.map_failure(|| match is_too_long {
        true => failure.tip("a script has one edit on each line, such as '0x40: 7405 -> 9090'"),
        false => failure,
    })
}
