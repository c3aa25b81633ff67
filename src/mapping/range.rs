//! Byte ranges of a file and the page arithmetic on them. Pure: no system call, no mapping.

use std::fmt;

/// A half-open byte range of a file, `start..end`, in file offsets. `start <= end` always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// The range `start..end`; `None` if `end` is before `start`.
    pub fn new(start: u64, end: u64) -> Option<ByteRange> {
        (start <= end).then_some(ByteRange { start, end })
    }

    /// The `len` bytes from `start`; `None` if their end exceeds `u64::MAX`.
    pub fn at(start: u64, len: u64) -> Option<ByteRange> {
        let end = start.checked_add(len)?;
        Some(ByteRange { start, end })
    }

    /// The first `len` bytes of a file.
    pub fn first(len: u64) -> ByteRange {
        ByteRange { start: 0, end: len }
    }

    /// File offset of the first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// File offset after the last byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// True for a range without bytes.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether every byte of `other` lies in this range.
    pub fn contains(self, other: ByteRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The bytes that are in both ranges; if there are none, an empty range at an arbitrary offset.
    pub fn intersect(self, other: ByteRange) -> ByteRange {
        let start = self.start.max(other.start);
        ByteRange {
            start,
            end: self.end.min(other.end).max(start),
        }
    }

    /// The smallest range that contains both.
    pub fn join(self, other: ByteRange) -> ByteRange {
        ByteRange {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The part of the range from offset `start` on.
    pub fn from(self, start: u64) -> ByteRange {
        ByteRange {
            start: start.clamp(self.start, self.end),
            end: self.end,
        }
    }

    /// Rounded outward to multiples of `page`, a power of two: what the kernel maps for this range.
    ///
    /// ```text
    ///        start          end
    ///   |------[=============]----|---
    ///   ^ page boundary           ^ page boundary
    /// ```
    pub fn pages(self, page: u64) -> ByteRange {
        let mask = page - 1;
        ByteRange {
            start: self.start & !mask,
            // A file ends at i64::MAX at the latest, so this saturates only for invalid ranges.
            end: self.end.saturating_add(mask) & !mask,
        }
    }

    /// The first `len` bytes, or all of them if there are fewer, and the rest.
    pub fn split(self, len: u64) -> (ByteRange, ByteRange) {
        let rest = self.from(self.start.saturating_add(len));
        let first = ByteRange {
            start: self.start,
            end: rest.start.min(self.end),
        };
        (first, rest)
    }

    /// Splits the range at multiples of `step` (not zero), in order. The first and the last piece may be shorter.
    pub fn windows(self, step: u64) -> impl Iterator<Item = ByteRange> {
        let mut at = self.start;
        std::iter::from_fn(move || {
            if at >= self.end {
                return None;
            }
            let boundary = (at / step + 1).saturating_mul(step);
            let piece = ByteRange {
                start: at,
                end: boundary.min(self.end),
            };
            at = piece.end;
            Some(piece)
        })
    }

    /// Splits the range into `count` pieces (not zero) of whole pages, as even as possible; into fewer if there are
    /// fewer pages.
    pub fn cells(self, count: u64, page: u64) -> Vec<ByteRange> {
        let pages = self.pages(page);
        let total = pages.len() / page;
        let count = count.min(total);
        (0..count)
            .map(|i| {
                let bound =
                    |i: u64| pages.start + (u128::from(total) * u128::from(i) / u128::from(count)) as u64 * page;
                ByteRange {
                    start: bound(i),
                    end: bound(i + 1),
                }
                .intersect(self)
            })
            .collect()
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests;
