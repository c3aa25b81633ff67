//! A nonlinear view written out, without being mapped: a part of it at a time is gathered in its order and goes out in
//! one piece. Long pieces go from file to file within the kernel, which is a reflink where the file system has them.
//!
//! What is shared with its file is read from the file, by preadv(2) and not through a mapping: one call takes in a whole
//! range and puts each page where it stands in the view, where a mapping would cost a fault and a page table entry for
//! each. It ends with the same exact prefix, and no signal.

use super::Step;
use super::error::{Cause, Error, Result};
use super::layout::Layout;
use super::output::{Copies, WriteOut, Written, wait_for_room};
use super::region::Region;
use super::shape::Populate;
use super::span::Span;
use nix::errno::Errno;
use nix::sys::uio::{preadv, pwrite};
use nix::unistd::write;
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;

/// Where a view goes.
#[derive(Debug, Clone, Copy)]
pub enum Sink<'a> {
    /// A new file of the view's length, all of it a hole: zeros are left out.
    File(&'a File),
    /// Something that takes byte after byte.
    Stream(BorrowedFd<'a>),
}

/// What is gathered before it goes out, in bytes: 64 pages in one preadv. As much as cp(1) takes; a megabyte made every
/// second run on ext4 several times slower, in the copying of the write itself.
const GATHERED: usize = 256 << 10;

/// The least bytes that copy_file_range is asked to copy: where it is no reflink, it is no quicker than a buffer.
const LONG: u64 = 1 << 20;

/// The most stretches of data of a sparse file that are kept in mind; what is behind them is copied, holes and all.
const EXTENTS: usize = 1 << 20;

impl Region {
    /// Writes the view that `layout` makes of this region, which is linear, to `sink`. `step` hears how many bytes are
    /// done.
    ///
    /// # Errors
    /// What makes a page unreadable, at its offset; what the sink says. Part of the view is then written.
    pub fn write_view(&mut self, layout: &Layout, sink: Sink<'_>, step: &mut Step<'_>) -> Written<()> {
        self.check_linear("write it out in another order", "which 'cat' writes out as it is")?;
        let file = Span::first(layout.file_len());
        let mut writer = Writer {
            extents: self.extents(file)?,
            region: self,
            copies: Copies::default(),
            sink,
            done: 0,
            pieces: Vec::new(),
            gathered: 0,
            buffer: vec![0; GATHERED.min(layout.mapped() as usize)],
            step,
        };
        for part in layout.parts(Span::first(layout.len())) {
            let bytes = part.file.intersect(file);
            let mut at = bytes.start();
            while at < bytes.end() {
                let data = writer.data_from(at).intersect(bytes.from(at));
                let next = if data.is_empty() { bytes.end() } else { data.start() };
                writer.zeros(next - at)?;
                writer.data(data)?;
                at = next + data.len();
            }
            // Behind the end of the file, in the middle of the view.
            writer.zeros(part.file.len() - bytes.len())?;
        }
        writer.flush()?;
        // What was a hole has not been looked at.
        Ok(self.check_there(file)?)
    }

    /// The stretches of data of the file, ascending.
    fn extents(&self, file: Span) -> Result<Vec<Span>> {
        let mut extents = Vec::new();
        let mut at = 0;
        while let Some(data) = self.next_data(at, file)? {
            if extents.len() == EXTENTS {
                extents.push(file.from(data.start()));
                break;
            }
            extents.push(data);
            at = data.end();
        }
        Ok(extents)
    }
}

/// The state of writing a view out.
struct Writer<'a, 'b> {
    region: &'a mut Region,
    extents: Vec<Span>,
    copies: Copies,
    sink: Sink<'a>,
    /// The view offset of what comes next, behind all that is gathered.
    done: u64,
    /// What is to be gathered: the file range of each piece, or as many zeros; in the view's order.
    pieces: Vec<(Option<Span>, usize)>,
    /// The bytes of them.
    gathered: usize,
    buffer: Vec<u8>,
    step: &'a mut Step<'b>,
}

impl Writer<'_, '_> {
    /// The first stretch of data at or behind the file offset; empty when there are only holes.
    fn data_from(&self, at: u64) -> Span {
        let index = self.extents.partition_point(|extent| extent.end() <= at);
        self.extents.get(index).map_or(Span::first(0), |extent| extent.from(at))
    }

    fn zeros(&mut self, len: u64) -> Written<()> {
        if len == 0 {
            return Ok(());
        }
        if let Sink::File(_) = self.sink {
            self.flush()?;
            self.done += len;
            return self.stepped();
        }
        let mut rest = len;
        while rest > 0 {
            let len = rest.min(self.room() as u64);
            self.push(None, len)?;
            rest -= len;
        }
        Ok(())
    }

    fn data(&mut self, span: Span) -> Written<()> {
        let mut rest = span;
        if rest.len() >= LONG && self.copies.work() && self.region.reaches_file() {
            self.flush()?;
            rest = self.copy(rest)?;
        }
        while !rest.is_empty() {
            let len = rest.len().min(self.room() as u64);
            self.push(Span::at(rest.start(), len), len)?;
            rest = rest.from(rest.start() + len);
        }
        Ok(())
    }

    /// How much can still be gathered, which is something.
    fn room(&self) -> usize {
        self.buffer.len() - self.gathered
    }

    fn push(&mut self, piece: Option<Span>, len: u64) -> Written<()> {
        self.pieces.push((piece, len as usize));
        self.gathered += len as usize;
        self.done += len;
        if self.room() == 0 { self.flush() } else { Ok(()) }
    }

    /// From file to file; gives what could not be copied this way. The cause of that comes to light on the other.
    fn copy(&mut self, span: Span) -> Written<Span> {
        let Sink::File(out) = self.sink else {
            return Ok(span);
        };
        let mut rest = span;
        while !rest.is_empty() {
            let source = self.region.backing().file("read")?;
            let Ok(count @ 1..) = self.copies.copy(source, rest, out, Some(self.done)) else {
                break;
            };
            rest = rest.from(rest.start() + count as u64);
            self.done += count as u64;
            self.stepped()?;
        }
        Ok(rest)
    }

    /// Gathers the pieces, and writes them.
    fn flush(&mut self) -> Written<()> {
        let len = std::mem::take(&mut self.gathered);
        let pieces = std::mem::take(&mut self.pieces);
        let buffer = &mut self.buffer[..len];
        if self.region.reaches_file() {
            gather(self.region, &pieces, buffer)?;
        } else {
            // Its bytes are in memory alone.
            let mut rest = buffer;
            for (piece, len) in &pieces {
                let (slot, behind) = rest.split_at_mut(*len);
                match piece {
                    Some(span) => self.region.read(span.start(), slot)?,
                    None => slot.fill(0),
                }
                rest = behind;
            }
        }
        let mut at = self.done - len as u64;
        let mut rest = &self.buffer[..len];
        while !rest.is_empty() {
            let written = match self.sink {
                Sink::File(file) => pwrite(file, rest, at as i64),
                Sink::Stream(fd) => write(fd, rest),
            };
            match (written, self.sink) {
                (Ok(count), _) => {
                    at += count as u64;
                    rest = &rest[count..];
                }
                (Err(Errno::EINTR), _) => {}
                (Err(Errno::EAGAIN), Sink::Stream(fd)) => {
                    wait_for_room(fd).map_err(WriteOut::sink)?;
                }
                (Err(errno), _) => return Err(WriteOut::sink(errno)),
            }
        }
        self.pieces = pieces;
        self.pieces.clear();
        self.stepped()
    }

    fn stepped(&mut self) -> Written<()> {
        let interrupted = |super::Interrupted(signal)| Error::new("write", None, Cause::Interrupted(signal));
        (self.step)(self.done).map_err(interrupted)?;
        Ok(())
    }
}

/// Reads each piece into its place in `buffer`, where they stand one behind the other: those that are neighbours in the
/// file, in whatever order they stand here, with one preadv(2).
fn gather(region: &Region, pieces: &[(Option<Span>, usize)], buffer: &mut [u8]) -> Result<()> {
    let mut slots = Vec::with_capacity(pieces.len());
    let mut rest = buffer;
    for (piece, len) in pieces {
        let (slot, behind) = rest.split_at_mut(*len);
        match piece {
            Some(span) => slots.push((*span, slot)),
            None => slot.fill(0),
        }
        rest = behind;
    }
    slots.sort_unstable_by_key(|(span, _)| span.start());
    let file = region.backing().file("read")?;
    let mut slots = slots.into_iter().peekable();
    while let Some((first, slot)) = slots.next() {
        let mut range = first;
        let mut parts = vec![IoSliceMut::new(slot)];
        while let Some((next, slot)) = slots.next_if(|(next, _)| next.start() == range.end() && parts.len() < 1024) {
            range = range.join(next);
            parts.push(IoSliceMut::new(slot));
        }
        let mut parts = &mut parts[..];
        while !range.is_empty() {
            match preadv(file, parts, range.start() as i64) {
                Ok(count) if count > 0 => {
                    range = range.from(range.start() + count as u64);
                    IoSliceMut::advance_slices(&mut parts, count);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::sys("read", Some(range), errno)),
                // The file ends here.
                Ok(_) => return Err(region.fault("read", range, Populate::Read)),
            }
        }
    }
    Ok(())
}
