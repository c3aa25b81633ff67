//! The reader: reads a range in pieces, in file order, on as many threads as help. Each thread reads a piece into its
//! own memory and transforms it there. The results are consumed in order.
//!
//! Data that is not in memory is best read by the kernel's read-ahead, which works for reads in file order (asking it
//! ahead of time is slower). Data that is in memory is copied and transformed in pieces that fit into the second-level
//! cache.

use super::access::{Operation, Source};
use super::buffer::Buffer;
use super::error::{Error, Result};
use super::range::ByteRange;
use super::region::Region;
use super::threads::{Sharing, share};

/// How many bytes are read at a time where the result is small in comparison.
pub const CHUNK_LEN: u64 = 256 << 10;

/// How many bytes are read at a time where they become text, which is several times as long.
pub const TEXT_PIECE: u64 = 64 << 10;

/// Holes shorter than this are read, because looking for them would take longer.
const MIN_HOLE: u64 = 64 << 10;

/// After this many bytes of data, the search for the next hole is put off.
const MOST_TOGETHER: u64 = 32 << 20;

/// A piece of the range, to be read from `N` sources.
#[derive(Debug)]
pub struct Chunk<K, const N: usize> {
    /// The range of the piece.
    pub range: ByteRange,
    /// How many bytes after the piece are read as well, if they exist.
    pub overlap: u64,
    /// For each source, whether the piece is known to be all zeros, which need not be read.
    pub is_zeros: [bool; N],
    /// Data of the consumer that belongs to the piece.
    pub key: K,
}

/// What a source contains in a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// This many zeros, from a hole.
    Zeros(u64),
}

/// The bytes of a hole.
static ZEROS: [u8; CHUNK_LEN as usize] = [0; CHUNK_LEN as usize];

impl<'a> Content<'a> {
    /// The bytes. A piece in a hole has at most [`CHUNK_LEN`] of them, as that much is read at a time.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Content::Bytes(bytes) => bytes,
            Content::Zeros(len) => &ZEROS[..len.min(CHUNK_LEN) as usize],
        }
    }
}

/// The pieces of a scan, in file order.
pub trait Chunks<const N: usize>: Send {
    /// The type of [`Chunk::key`].
    type Key: Send;

    /// Returns the next piece, or `None` after the last.
    ///
    /// # Errors
    /// An error of the search for holes.
    fn next(&mut self, sources: &[Source<'_>; N]) -> Result<Option<Chunk<Self::Key, N>>>;
}

/// Reads `pieces` of `sources`, calls `transform` for each, on any thread and in any order, and passes the results to
/// `each` in order. Results are reused, so `transform` must overwrite what it finds there. `ahead` is how many results
/// a thread may produce before they are due.
///
/// # Errors
/// The first error in file order, after `each` received everything before it, to the byte; errors of `each`.
pub fn scan<P: Chunks<N>, T: Default + Send, E: From<Error>, const N: usize>(
    sources: [Source<'_>; N],
    ahead: usize,
    mut pieces: P,
    transform: impl Fn(&Chunk<P::Key, N>, [Content<'_>; N], &mut T) + Sync,
    mut each: impl FnMut(&Chunk<P::Key, N>, &mut T) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut reader = PieceReader::new(sources);
    share(
        Sharing::of(ahead),
        &mut reader,
        |reader| reader.try_clone(),
        |reader| pieces.next(&reader.sources),
        |reader, piece: &mut Chunk<P::Key, N>, made| {
            let result = reader.read(piece);
            if !piece.range.is_empty() {
                transform(piece, reader.contents(piece), made);
            }
            result
        },
        |piece, made| match piece.range.is_empty() {
            true => Ok(()),
            false => each(&piece, made),
        },
    )
}

impl Region {
    /// Passes the bytes of `range` to `each`, in order and in pieces of up to 256 KiB, with their file offsets.
    ///
    /// # Errors
    /// As for [`Region::read`], after `each` received the bytes before the error; errors of `each`.
    pub fn read_chunks<E: From<Error>>(
        &mut self,
        range: ByteRange,
        mut each: impl FnMut(u64, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut source = self.source(Operation::Read, range)?;
        let mut buffer = Buffer::default();
        for piece in range.windows(CHUNK_LEN) {
            let result = source.read(piece, &mut buffer);
            // The bytes before a page that cannot be read are passed on.
            each(piece.start(), &buffer)?;
            result?;
        }
        Ok(())
    }
}

/// The sources and buffers of one thread.
struct PieceReader<'a, const N: usize> {
    sources: [Source<'a>; N],
    buffers: [Buffer; N],
}

impl<'a, const N: usize> PieceReader<'a, N> {
    fn new(sources: [Source<'a>; N]) -> Self {
        PieceReader {
            sources,
            buffers: std::array::from_fn(|_| Buffer::default()),
        }
    }

    /// `None` if a source is a mapping.
    fn try_clone(&self) -> Option<Self> {
        let sources: Option<Vec<_>> = self.sources.iter().map(Source::try_clone).collect();
        sources?.try_into().ok().map(PieceReader::new)
    }

    /// Reads `piece` of each source. The piece is cut before the first byte that cannot be read.
    fn read<K>(&mut self, piece: &mut Chunk<K, N>) -> Result<()> {
        let mut result: Result<()> = Ok(());
        let range = piece.range;
        for (index, source) in self.sources.iter_mut().enumerate() {
            let read = match piece.is_zeros[index] {
                true => source.check_there(range),
                false => {
                    let with_overlap = ByteRange::at(range.start(), range.len() + piece.overlap);
                    source.read(with_overlap.unwrap_or(range), &mut self.buffers[index])
                }
            };
            let Err(error) = read else { continue };
            let bad = error.place().unwrap_or(range.start());
            // An error in the overlap belongs to the next piece, which will hit it as well.
            if bad < piece.range.end() || piece.range.is_empty() {
                piece.range = piece.range.intersect(ByteRange::first(bad.max(range.start())));
                result = Err(error);
            }
        }
        result
    }

    fn contents<K>(&self, piece: &Chunk<K, N>) -> [Content<'_>; N] {
        let len = piece.range.len();
        std::array::from_fn(|index| match (piece.is_zeros[index], &self.buffers[index]) {
            (true, _) => Content::Zeros(len),
            (false, bytes) => Content::Bytes(&bytes[..bytes.len().min((len + piece.overlap) as usize)]),
        })
    }
}

/// Splits a range into pieces of one length, and optionally its holes into pieces of their own.
#[derive(Debug)]
pub struct Cut<const N: usize> {
    rest: ByteRange,
    end: u64,
    /// Pieces end at multiples of `len` from here.
    origin: u64,
    len: u64,
    overlap: u64,
    holes: Option<[HoleFinder; N]>,
}

impl<const N: usize> Cut<N> {
    /// Pieces of [`CHUNK_LEN`] bytes that end at multiples of it, and holes.
    pub fn with_holes(range: ByteRange) -> Cut<N> {
        Cut {
            rest: range,
            end: range.end(),
            origin: 0,
            len: CHUNK_LEN,
            overlap: 0,
            holes: Some(std::array::from_fn(|_| HoleFinder::default())),
        }
    }

    /// Pieces of whole rows of `row` bytes, except for the last piece. Holes are read.
    pub fn rows(range: ByteRange, row: u64) -> Cut<N> {
        Cut {
            rest: range,
            end: range.end(),
            origin: range.start(),
            len: (TEXT_PIECE / row.max(1)).max(1).saturating_mul(row.max(1)),
            overlap: 0,
            holes: None,
        }
    }

    /// Reads `overlap` more bytes after each piece, within the range. The last `overlap` bytes of a hole before data
    /// are read, too.
    pub fn overlapping(self, overlap: u64) -> Cut<N> {
        Cut {
            overlap,
            len: self.len.max(overlap.saturating_mul(2)),
            ..self
        }
    }

    /// Takes the bytes of `piece`, the last one, that are at or after `end` back into the rest of the range.
    pub fn shorten(&mut self, piece: &mut Chunk<(), N>, end: u64) {
        let (range, after) = piece.range.split(end.saturating_sub(piece.range.start()));
        self.rest = after.join(self.rest);
        piece.range = range;
    }
}

impl<const N: usize> Chunks<N> for Cut<N> {
    type Key = ();

    fn next(&mut self, sources: &[Source<'_>; N]) -> Result<Option<Chunk<(), N>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.rest.start();
        let mut end = self.end;
        let mut is_zeros = [false; N];
        if let Some(holes) = &mut self.holes {
            for (index, holes) in holes.iter_mut().enumerate() {
                let (hole, until) = holes.at(start, self.rest, &sources[index])?;
                // A match that begins in a hole and ends in data is found by reading both.
                let until = match hole && until < self.end {
                    true => until.saturating_sub(self.overlap),
                    false => until,
                };
                is_zeros[index] = hole && until > start;
                if until > start {
                    end = end.min(until);
                }
            }
        }
        if is_zeros != [true; N] {
            let boundary = ((start - self.origin) / self.len + 1).saturating_mul(self.len);
            end = end.min(boundary.saturating_add(self.origin));
        }
        let (range, rest) = self.rest.split(end - start);
        self.rest = rest;
        Ok(Some(Chunk {
            range,
            overlap: self.overlap.min(rest.len()),
            is_zeros,
            key: (),
        }))
    }
}

/// Finds the holes of a source, in ascending order.
#[derive(Debug, Default)]
pub struct HoleFinder {
    /// The last answer: where it begins, where data begins in it, and where that ends.
    known: Option<(u64, u64, u64)>,
}

impl HoleFinder {
    /// Whether there is a hole at the start of `rest`, and where the hole, or the data, ends. Short holes count as
    /// data.
    ///
    /// # Errors
    /// An error of the search for holes.
    pub fn at(&mut self, start: u64, rest: ByteRange, source: &Source<'_>) -> Result<(bool, u64)> {
        let (from, data, end) = match self.known {
            Some(known) if (known.0..known.2).contains(&start) => known,
            _ => {
                let (mut data, mut end) = match source.next_data(start, rest)? {
                    None => (rest.end(), rest.end()),
                    Some(data) => (data.start(), data.end()),
                };
                if data - start < MIN_HOLE && data < rest.end() {
                    data = start;
                }
                while end < rest.end() && end - start < MOST_TOGETHER {
                    let next = source.next_data(end, rest)?;
                    if next.map_or(rest.end(), ByteRange::start) - end >= MIN_HOLE {
                        break;
                    }
                    end = next.map_or(rest.end(), ByteRange::end);
                }
                (start, data, end)
            }
        };
        self.known = Some((from, data, end));
        Ok(match start < data {
            true => (true, data),
            false => (false, end),
        })
    }

    /// Whether all of `range`, a part of `whole`, lies in a hole. Always false if it is shorter than the holes that
    /// count.
    ///
    /// # Errors
    /// As for [`HoleFinder::at`].
    pub fn has(&mut self, range: ByteRange, whole: ByteRange, source: &Source<'_>) -> Result<bool> {
        if range.len() < MIN_HOLE {
            return Ok(false);
        }
        let (is_hole, until) = self.at(range.start(), whole.from(range.start()), source)?;
        Ok(is_hole && until >= range.end())
    }
}

#[cfg(test)]
mod tests;
