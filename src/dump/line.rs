//! The parts of a line that formats share: digits, offsets, characters.

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

/// Writes the digits of `rows`, as many of them as there are; by vector instructions where the processor has them.
#[inline]
pub(super) fn encode<const N: usize>(rows: &[[u8; N]], digits: &mut [Digits<N>]) {
    let text = digits[..rows.len()].as_flattened_mut().as_flattened_mut();
    // What it refuses is room of another length.
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

/// Room that a line keeps for its offset: the digits of 64 bits.
pub(super) const OFFSET: usize = 16;

/// How much of that a line of [`in_place`] has not.
pub(super) const LESS: usize = 8;

/// Writes `at` right-aligned into the first [`OFFSET`] bytes of `line`; returns where its eight or
/// more digits begin.
#[inline]
pub(super) fn offset<const LINE: usize>(at: u64, line: &mut [u8; LINE]) -> usize {
    for (index, byte) in at.to_be_bytes().into_iter().enumerate() {
        line[2 * index..][..2].copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    (at.leading_zeros() as usize / 4).min(8)
}

/// The same where eight digits say it all, as of most files: appends `line`, which has room for eight, and writes
/// `at`, below 4 GiB, in front. The line is then filled in where it stands, because a copy of what has just been stored
/// in small pieces waits for all of them, and takes as long as the rest.
#[inline]
pub(super) fn in_place<'a, const LINE: usize>(
    at: u64,
    line: &[u8; LINE],
    out: &'a mut Vec<u8>,
) -> Option<&'a mut [u8; LINE]> {
    let start = out.len();
    out.extend_from_slice(line);
    let line = out[start..].first_chunk_mut::<LINE>()?;
    for (index, byte) in (at as u32).to_be_bytes().into_iter().enumerate() {
        line[2 * index..][..2].copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    Some(line)
}

/// A line as [`in_place`] takes it: without `LESS` of the room in front, of which `line` has all.
pub(super) const fn low<const LINE: usize, const LOW: usize>(line: &[u8; LINE]) -> [u8; LOW] {
    let mut low = [b' '; LOW];
    let mut index = 0;
    while index < LOW {
        low[index] = line[index + LINE - LOW];
        index += 1;
    }
    low
}

/// Whether [`in_place`] is for the row at `at`.
#[inline]
pub(super) fn is_low(at: u64) -> bool {
    at >> 32 == 0
}

/// A byte in the character column: itself if it is printable ASCII, `.` if not.
#[inline]
pub(super) fn character(byte: u8) -> u8 {
    if matches!(byte, b' '..=b'~') { byte } else { b'.' }
}

/// The characters of a row, all at once.
#[inline]
pub(super) fn characters<const N: usize>(row: &[u8; N]) -> [u8; N] {
    let mut text = [0; N];
    // A loop and not `map`, which the compiler makes no vector instructions of.
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
        // Vector instructions take 16 or 32 bytes at a time; what is over has a way of its own.
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
