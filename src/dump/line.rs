//! The parts of a line that several formats use: digits, offsets, characters.

/// The two digits of every byte.
pub(super) static PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The two digits of each byte of a row.
pub(super) type Digits<const N: usize> = [[u8; 2]; N];

/// Writes the digits of all `rows`, by vector instructions if the processor has them.
#[inline]
pub(super) fn encode<const N: usize>(rows: &[[u8; N]], digits: &mut [Digits<N>]) {
    let text = digits[..rows.len()].as_flattened_mut().as_flattened_mut();
    // It fails only if the lengths do not match.
    let encoded = const_hex::encode_to_slice(rows.as_flattened(), text);
    debug_assert!(encoded.is_ok());
}

/// The digits of one row.
pub(super) fn digits_of<const N: usize>(row: &[u8; N]) -> Digits<N> {
    let mut digits = [[[0; 2]; N]];
    encode(&[*row], &mut digits);
    let [digits] = digits;
    digits
}

/// The digits of an offset below 4 GiB, for which each line has room.
pub(super) const OFFSET: usize = 8;

/// Writes the last eight digits of `at` at the start of `line`. The digits before them, if any, are appended to `out`.
#[inline]
pub(super) fn offset<const LEN: usize>(at: u64, line: &mut [u8; LEN], out: &mut Vec<u8>) {
    long_offset(at, out);
    short_offset(at, line);
}

/// Appends the digits for which a line has no room, of an offset of 4 GiB or more.
#[inline]
fn long_offset(at: u64, out: &mut Vec<u8>) {
    if at >> 32 != 0 {
        let mut digits = [0; OFFSET];
        short_offset(at >> 32, &mut digits);
        out.extend_from_slice(&digits[at.leading_zeros() as usize / 4..]);
    }
}

#[inline]
fn short_offset<const LEN: usize>(at: u64, line: &mut [u8; LEN]) {
    for (index, byte) in (at as u32).to_be_bytes().into_iter().enumerate() {
        line[2 * index..][..2].copy_from_slice(&PAIRS[usize::from(byte)]);
    }
}

/// Appends `empty`, a line with a blank row, with the offset `at`, and returns it to be filled in place: copying bytes
/// that were just stored in small pieces waits for all these stores, and takes as long as the rest. There is always
/// one.
#[inline]
pub(super) fn append<'a, const LEN: usize>(
    at: u64,
    empty: &[u8; LEN],
    out: &'a mut Vec<u8>,
) -> Option<&'a mut [u8; LEN]> {
    long_offset(at, out);
    out.extend_from_slice(empty);
    let line = out.last_chunk_mut::<LEN>()?;
    short_offset(at, line);
    Some(line)
}

/// A byte in the character column: itself if it is printable ASCII, otherwise `.`.
#[inline]
pub(super) fn character(byte: u8) -> u8 {
    if matches!(byte, b' '..=b'~') { byte } else { b'.' }
}

/// The characters of a row, all at once.
#[inline]
pub(super) fn characters<const N: usize>(row: &[u8; N]) -> [u8; N] {
    let mut text = [0; N];
    // A loop instead of `map`, which the compiler does not vectorize.
    for (character_of, byte) in text.iter_mut().zip(row) {
        *character_of = character(*byte);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_of_many_rows_are_those_of_each_byte() {
        let rows: [[u8; 256]; 3] = std::array::from_fn(|turn| std::array::from_fn(|byte| (byte ^ turn) as u8));
        for count in 0..=rows.len() {
            let mut digits = [[[0; 2]; 256]; 3];
            encode(&rows[..count], &mut digits);
            for (row, digits) in rows[..count].iter().zip(&digits) {
                assert_eq!(*digits, row.map(|byte| PAIRS[usize::from(byte)]));
            }
            assert!(digits[count..].as_flattened().iter().all(|pair| *pair == [0; 2]));
        }
    }

    #[test]
    fn rows_of_any_length_have_their_digits() {
        // Vector instructions process 16 or 32 bytes at a time, and separate code processes the rest.
        fn check<const N: usize>() {
            let row: [u8; N] = std::array::from_fn(|index| (index * 37 + N) as u8);
            assert_eq!(digits_of(&row), row.map(|byte| PAIRS[usize::from(byte)]), "{N} bytes");
        }
        check::<1>();
        check::<8>();
        check::<12>();
        check::<16>();
        check::<30>();
        check::<33>();
        check::<64>();
    }
}
