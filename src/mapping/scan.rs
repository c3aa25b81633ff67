//! The reader: pieces of a range, taken in file order by as many threads as help. A thread reads a piece into memory of
//! its own and transforms it there, and what it makes of it is handed on in order.
//!
//! The kernel's read-ahead is the best reader of what is not in memory yet, and it is fed in order (asking it ahead of
//! time is slower). Of what is in memory, a thread copies and transforms a piece that stays in the second-level cache.

use super::access::{Operation, Source};
use super::buffer::Buffer;
use super::error::{Error, Result};
use super::range::ByteRange;
use super::region::Region;
use super::threads::{Sharing, share};

/// How many bytes are read at a time, where a result is small beside them.
pub const CHUNK_LEN: u64 = 256 << 10;

/// How many bytes are read at a time where they become text, which is several times as long.
pub const TEXT_PIECE: u64 = 64 << 10;

/// HoleFinder shorter than this are read: asking for them would take longer.
const MIN_HOLE: u64 = 64 << 10;

/// After so many bytes of data the next hole is not looked for yet.
const MOST_TOGETHER: u64 = 32 << 20;

/// A piece to be read, of `N` sources.
#[derive(Debug)]
pub struct Chunk<K, const N: usize> {
    /// What it stands for.
    pub range: ByteRange,
    /// How many bytes are to be read after it, as far as they are there.
    pub overlap: u64,
    /// For each source whether it is known to hold nothing but zeros there, which need not be read.
    pub is_zeros: [bool; N],
    /// What else there is to know of it.
    pub key: K,
}

/// What a source has in a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// As many zeros, from a hole.
    Zeros(u64),
}

/// What the bytes of a hole are.
static ZEROS: [u8; CHUNK_LEN as usize] = [0; CHUNK_LEN as usize];

impl<'a> Content<'a> {
    /// The bytes. Of a hole there are no more than [`CHUNK_LEN`], which is what is read at a time.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Content::Bytes(bytes) => bytes,
            Content::Zeros(len) => &ZEROS[..len.min(CHUNK_LEN) as usize],
        }
    }
}

/// The pieces of a scan, in file order.
pub trait Chunks<const N: usize>: Send {
    /// What goes along with a piece.
    type Key: Send;

    /// The next piece. `None` after the last.
    ///
    /// # Errors
    /// What keeps holes from being looked for.
    fn next(&mut self, sources: &[Source<'_>; N]) -> Result<Option<Chunk<Self::Key, N>>>;
}

/// Reads `pieces` of `sources`, makes something of each by `transform`, on any thread and in any order, and hands that to
/// `each` in order. Results are used again, so `transform` puts what it makes in place of what is there. `ahead` is how
/// many results a thread may have made that are not due yet.
///
/// # Errors
/// The first in file order, once `each` has had what stands before it, to the byte; what `each` gives.
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
    /// Hands the bytes of `range` to `each`, in order and in pieces of up to 256 KiB, with their file offsets.
    ///
    /// # Errors
    /// As for [`Region::read`], once `each` has had what stands before; what `each` gives.
    pub fn read_chunks<E: From<Error>>(
        &mut self,
        range: ByteRange,
        mut each: impl FnMut(u64, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut source = self.source(Operation::Read, range)?;
        let mut buffer = Buffer::default();
        for piece in range.windows(CHUNK_LEN) {
            let result = source.read(piece, &mut buffer);
            // What stands before a bad page is worth having.
            each(piece.start(), &buffer)?;
            result?;
        }
        Ok(())
    }
}

/// What one thread reads with.
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

    /// `None` where a source is a mapping.
    fn try_clone(&self) -> Option<Self> {
        let sources: Option<Vec<_>> = self.sources.iter().map(Source::try_clone).collect();
        sources?.try_into().ok().map(PieceReader::new)
    }

    /// Reads `piece` of each source. What cannot be read is cut off it.
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
            // An error in the overlap is one of the next piece, which will meet it, too.
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

/// A range in pieces of one length, with its holes apart if they are asked for.
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
    /// Pieces of [`CHUNK_LEN`] bytes that end at multiples of that, and holes.
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

    /// Pieces of whole rows of `row` bytes, but for the last one; holes are read.
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

    /// With `overlap` more bytes read after each piece, as far as the range goes. Before data, as many bytes of a hole are
    /// read.
    pub fn overlapping(self, overlap: u64) -> Cut<N> {
        Cut {
            overlap,
            len: self.len.max(overlap.saturating_mul(2)),
            ..self
        }
    }

    /// Gives back what of `piece`, the last one, is at or after `end`.
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
                // What begins in a hole and ends in data is found by reading both.
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

/// The holes of a source, asked for one after the other.
#[derive(Debug, Default)]
pub struct HoleFinder {
    /// Where the last answer begins, where in it data begins, and where that ends.
    known: Option<(u64, u64, u64)>,
}

impl HoleFinder {
    /// Whether there is a hole at the start of `rest`, and where that, or the data there, ends. HoleFinder that are short count
    /// as data.
    ///
    /// # Errors
    /// What keeps them from being looked for.
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

    /// Whether all of `range`, a part of `whole`, lies in a hole; never so where it is shorter than holes that count.
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
