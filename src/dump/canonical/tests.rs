//! Tests of canonical.rs.

use super::super::tests::{BARE, TestPiece, VERBOSE, assert_is_peer, noise, text, text_of};
use super::super::{Format::Canonical, dump};
use proptest::prelude::*;

#[test]
fn the_text_is_that_of_hexdump_c() {
    assert_is_peer(Canonical, BARE, "hexdump", &["-C"], "-n");
}

#[test]
fn without_squeezing_the_text_is_that_of_hexdump_c_v() {
    assert_is_peer(Canonical, VERBOSE, "hexdump", &["-C", "-v"], "-n");
}

#[test]
fn runs_short_rows_and_the_closing_offset_look_so() {
    let data = [vec![0; 48], b"Hello, \x7f\x80\xff\tworld!ab".to_vec()].concat();
    assert_eq!(
        text(Canonical, 0, BARE, &data),
        "\
00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000030  48 65 6c 6c 6f 2c 20 7f  80 ff 09 77 6f 72 6c 64  |Hello, ....world|
00000040  21 61 62                                          |!ab|
00000043
"
    );
}

#[test]
fn a_short_last_row_is_printed_even_if_it_begins_like_the_row_above() {
    assert_eq!(
        text(Canonical, 16, BARE, &[0; 40]),
        "\
00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000030  00 00 00 00 00 00 00 00                           |........|
00000038
"
    );
}

#[test]
fn offsets_grow_beyond_eight_digits() {
    assert_eq!(
        text(Canonical, 0xffff_fff7, BARE, b"0123456789abcdefX"),
        "\
fffffff7  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|
100000007  58                                                |X|
100000008
"
    );
}

#[test]
fn a_hole_of_any_length_takes_no_time() {
    assert_eq!(
        text_of(Canonical, 0, BARE, &[TestPiece::Data(b"a".to_vec()), TestPiece::Hole(1 << 62)]),
        "\
00000000  61 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |a...............|
00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
4000000000000000  00                                                |.|
4000000000000001
"
    );
}

/// The surroundings of a hole: zero bytes, which look like it, or others; with any alignment.
fn around() -> impl Strategy<Value = Vec<u8>> {
    let zeros = (0_usize..70).prop_map(|len| vec![0; len]);
    prop_oneof![(0_usize..70).prop_map(noise), zeros]
}

proptest! {
    #[test]
    fn a_hole_reads_as_the_zero_bytes_it_stands_for(
        before in around(),
        len in 0_usize..500,
        after in around(),
    ) {
        let (mut dump, mut out) = (dump(Canonical, 0, BARE), Vec::new());
        dump.bytes(&before, &mut out);
        dump.hole(len as u64, &mut out);
        dump.bytes(&after, &mut out);
        dump.finish(&mut out);
        let data = [before, vec![0; len], after].concat();
        prop_assert_eq!(String::from_utf8(out).unwrap(), text(Canonical, 0, BARE, &data));
    }
}
