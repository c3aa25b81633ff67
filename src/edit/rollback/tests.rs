//! Tests of rollback.rs.

use super::*;
use crate::mapping::{Access, Backing, Prot};
use std::io::Write;
use std::time::Duration;

fn piece(at: u64, len: u64, from: u64) -> Segment {
    Segment::new(at, len, from).unwrap()
}

#[test]
fn nothing_comes_to_light_behind_an_end_that_moved_during_the_store() {
    let Ok(file) = tempfile::NamedTempFile::new_in("/dev/shm") else {
        // Not eprintln: its output is captured if the test passes, as this one does.
        writeln!(
            std::io::stderr(),
            "SKIPPED nothing_comes_to_light_behind_an_end_that_moved_during_the_store: there is no tmpfs to write to"
        )
        .unwrap();
        return;
    };
    std::fs::write(file.path(), [b'A'; 5000]).unwrap();
    let backing = Backing::open(file.path(), Access::Write, Duration::ZERO).unwrap();
    let mut region = Region::sliding(backing, Prot::ReadWrite).unwrap();
    let (mut old, mut new) = (SpooledBytes::default(), SpooledBytes::default());
    old.push(&[b'A'; 600]).unwrap();
    new.push(&[b'B'; 600]).unwrap();
    let pieces = [piece(4300, 300, 0), piece(4700, 300, 300)];
    file.as_file().set_len(4500).unwrap();
    let stored = region.store(&pieces, new.fd().unwrap(), &mut |_| Ok(()));
    let before = RollbackPlan {
        pieces: &pieces,
        old: Some(&mut old),
        len: 5000,
        flush: false,
        tip: "",
    };
    rollback_on_error(&mut region, before, stored.map_err(PartialStore::from)).unwrap_err();
    file.as_file().set_len(6000).unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    assert!(bytes[..4500] == [b'A'; 4500] && bytes[4500..] == [0; 1500]);
}

#[test]
fn a_prefix_cuts_the_last_piece_it_reaches() {
    let pieces = [piece(100, 4, 0), piece(200, 4, 4), piece(300, 4, 8)];
    assert_eq!(prefix(&pieces, 6), (&pieces[..1], Some(piece(200, 2, 4))));
    assert_eq!(prefix(&pieces, 8), (&pieces[..2], None));
    assert_eq!(prefix(&pieces, 0), (&pieces[..0], None));
    assert_eq!(prefix(&pieces, 12), (&pieces[..], None));
}
