//! Tests of transfer.rs.

use super::super::{Access, Backing, Buffer, Prot};
use super::*;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

/// A file of 5000 bytes that was truncated to 4500 after it was opened.
fn cut(prot: Prot) -> (tempfile::NamedTempFile, Region) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[b'A'; 5000]).unwrap();
    let access = if prot.writes() { Access::Write } else { Access::Read };
    let backing = Backing::open(file.path(), access, Duration::ZERO).unwrap();
    let region = Region::sliding(backing, prot).unwrap();
    file.as_file().set_len(4500).unwrap();
    (file, region)
}

#[test]
fn what_was_cut_off_within_a_page_is_not_read_as_zeros() {
    let (_file, mut region) = cut(Prot::Read);
    let mut buf = [0; 1000];
    assert!(region.read(3500, &mut buf).is_ok());
    let error = region.read(4000, &mut buf).unwrap_err();
    assert_eq!(error.cause, ErrorKind::Shrunk { len: 4500 });
    assert_eq!((error.place(), &buf[..500]), (Some(4500), &[b'A'; 500][..]));
    let mut seen = Vec::new();
    let result = region.read_chunks(ByteRange::first(5000), |_, bytes| {
        seen.extend_from_slice(bytes);
        Ok::<_, Error>(())
    });
    assert_eq!(result.unwrap_err().cause, ErrorKind::Shrunk { len: 4500 });
    assert_eq!(seen, [b'A'; 4500]);
}

#[test]
fn nor_where_the_page_behind_it_is_gone_too() {
    let (file, mut region) = cut(Prot::Read);
    file.as_file().set_len(100).unwrap();
    let error = region.read(0, &mut Buffer::zeroed(5000).unwrap()).unwrap_err();
    assert_eq!((error.cause.clone(), error.place()), (ErrorKind::Shrunk { len: 100 }, Some(100)));
}

#[test]
fn what_is_stored_behind_an_end_that_has_moved_is_not_called_stored() {
    let (file, mut region) = cut(Prot::ReadWrite);
    let mut payload = tempfile::tempfile().unwrap();
    payload.write_all(b"BBBB").unwrap();
    let mut store = |at| region.store(&[Segment::new(at, 4, 0).unwrap()], payload.as_fd(), &mut |_| Ok(()));
    for (at, gone) in [(4990, 4990), (4498, 4500)] {
        let error = store(at).unwrap_err();
        assert_eq!((error.cause, error.stored), (ErrorKind::Shrunk { len: 4500 }, 4));
        assert_eq!(error.span.map(ByteRange::start), Some(gone));
    }
    store(4400).unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    assert_eq!((bytes.len(), &bytes[4400..4404]), (4500, &b"BBBB"[..]));
}
