//! Tests of scan.rs.

use super::super::{Access, Backing, ErrorKind, Prot};
use super::*;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const LEN: u64 = 6 << 20;

fn region(file: &tempfile::NamedTempFile) -> Region {
    let backing = Backing::open(file.path(), Access::Read, Duration::ZERO).unwrap();
    Region::sliding(backing, Prot::Read).unwrap()
}

/// A file of 6 MiB that was truncated to `len` bytes after it was opened, and its former bytes.
fn six_mebibytes(len: u64) -> (Vec<u8>, Region) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..6 << 18u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&bytes).unwrap();
    let region = region(&file);
    file.as_file().set_len(len).unwrap();
    (bytes, region)
}

/// The ends of the pieces of `range` of that file, and the error. Ends the scan at `stop`. The transformation adds one
/// to each byte.
fn plus_one(range: ByteRange, row: u64, len: u64, stop: u64) -> (Vec<u64>, Option<Error>) {
    let (bytes, mut region) = six_mebibytes(len);
    let (mut ends, mut all) = (Vec::new(), Vec::new());
    let source = region.source(Operation::Read, range).unwrap();
    let result = scan(
        [source],
        3,
        Cut::rows(range, row),
        |piece, [content], made: &mut Vec<u8>| {
            assert_eq!((piece.range.start() - range.start()) % row, 0);
            let Content::Bytes(bytes) = content else {
                panic!("holes were not asked for")
            };
            made.clear();
            made.extend(bytes.iter().map(|byte| byte.wrapping_add(1)));
        },
        |piece, made| {
            ends.push(piece.range.end());
            all.extend_from_slice(made);
            match piece.range.end() >= stop {
                true => Err(Error::new("take", None, ErrorKind::Interrupted(2))),
                false => Ok(()),
            }
        },
    );
    let expected = bytes[range.start() as usize..][..all.len()].iter();
    assert!(expected.map(|byte| byte.wrapping_add(1)).eq(all.iter().copied()));
    if result.is_err() {
        assert!(all.len() as u64 >= len.min(stop) - range.start());
    }
    (ends, result.err())
}

#[test]
fn pieces_come_in_order_and_whole() {
    let whole = ByteRange::first(LEN);
    for (range, row) in [
        (whole, 16),
        (whole, 30),
        (whole.from(12_345), 12),
        (whole.from(LEN - 100), 16),
        (whole, 100_000),
        (ByteRange::first(0), 16),
    ] {
        let (ends, error) = plus_one(range, row, LEN, u64::MAX);
        assert!(error.is_none(), "{error:?}");
        assert!(ends.is_sorted());
        assert_eq!(ends.last().copied().unwrap_or(0), range.end());
        let step = (TEXT_PIECE / row).max(1) * row;
        assert_eq!(ends.len() as u64, range.len().div_ceil(step));
    }
}

#[test]
fn what_stands_before_an_error_comes_first() {
    for len in [0, 5000, (3 << 20) + 77] {
        let (ends, error) = plus_one(ByteRange::first(LEN), 16, len, u64::MAX);
        let error = error.unwrap();
        assert_eq!((error.cause.clone(), error.place()), (ErrorKind::Shrunk { len }, Some(len)));
        assert_eq!(ends.last().copied().unwrap_or(0), len);
    }
}

#[test]
fn a_scan_that_is_stopped_hands_on_no_more() {
    let (ends, error) = plus_one(ByteRange::first(LEN), 16, LEN, 1 << 20);
    assert_eq!(error.unwrap().cause, ErrorKind::Interrupted(2));
    assert_eq!(ends.last(), Some(&(1 << 20)));
}

#[test]
fn holes_of_either_file_are_not_read_and_pieces_overlap() {
    let files = [(); 2].map(|()| tempfile::NamedTempFile::new().unwrap());
    let whole = ByteRange::first(64 << 20);
    for (file, data) in files.iter().zip([3 << 20, 40 << 20]) {
        file.as_file().set_len(whole.end()).unwrap();
        file.as_file().write_all_at(&[7; 4096], data).unwrap();
    }
    let mut regions = files.each_ref().map(region);
    let is_sparse = |region: &Region| region.backing().next_data(5 << 20, whole).unwrap().map(|next| next.start());
    if is_sparse(&regions[0]).is_some() || is_sparse(&regions[1]) != Some(40 << 20) {
        return; // a file system without holes
    }
    let sources = regions.each_mut().map(|region| region.source(Operation::Read, whole).unwrap());
    let (mut at, mut bytes, mut sevens) = (0, 0, 0);
    let each = |piece: &Chunk<(), 2>, (read, seen): &mut (u64, u64)| {
        assert_eq!(piece.range.start(), at);
        at = piece.range.end();
        (bytes, sevens) = (bytes + *read, sevens + *seen);
        Ok::<(), Error>(())
    };
    let count = |piece: &Chunk<(), 2>, contents: [Content<'_>; 2], made: &mut (u64, u64)| {
        *made = (0, 0);
        for content in contents {
            match content {
                Content::Zeros(len) => assert_eq!(len, piece.range.len()),
                Content::Bytes(bytes) => {
                    assert_eq!(bytes.len() as u64, piece.range.len() + piece.overlap);
                    made.0 += bytes.len() as u64;
                    made.1 += bytes[..piece.range.len() as usize].iter().filter(|byte| **byte == 7).count() as u64;
                }
            }
        }
    };
    scan(sources, 4, Cut::with_holes(whole).overlapping(10), count, each).unwrap();
    assert_eq!((at, sevens), (whole.end(), 2 * 4096));
    assert!(bytes < 1 << 20, "{bytes} bytes were read");
}
