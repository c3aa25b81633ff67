//! Tests of buffer.rs.

use super::*;

#[test]
fn a_buffer_begins_on_a_page_however_long_it_is() {
    let mut buffer = Buffer::default();
    assert!(buffer.is_empty());
    for len in [1, 4097, 3, 1 << 20, 0] {
        buffer.resize(len).unwrap();
        assert_eq!(buffer.len(), len);
        assert!(len == 0 || buffer.as_ptr().addr().is_multiple_of(crate::mapping::page_size() as usize));
    }
    assert!(Buffer::zeroed(9).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    assert!(Buffer::zeroed(usize::MAX / 4).is_err());
}
