//! Tests of find.rs.

use super::*;
use proptest::prelude::*;

/// The matches found in `text` when it is searched in pieces of `size`: all of them, or those that do not overlap.
fn found(text: &[u8], size: usize, pattern: &MaskedBytes, overlapping: bool) -> Vec<u64> {
    let (needle, mut runs) = (Needle::new(pattern), Vec::new());
    let overlap = pattern.bytes.len() - 1;
    for start in (0..text.len()).step_by(size) {
        let bytes = &text[start..text.len().min(start + size + overlap)];
        let mut found = Vec::new();
        needle.search(1000 + start as u64, Content::Bytes(bytes), 0, &mut found);
        if bytes.iter().all(|byte| *byte == 0) {
            let mut in_hole = Vec::new();
            needle.search(1000 + start as u64, Content::Zeros(bytes.len() as u64), 0, &mut in_hole);
            assert_eq!(found, in_hole);
        }
        runs.append(&mut found);
    }
    if overlapping {
        return runs.into_iter().flatten().collect();
    }
    let mut all = Matches::new(Find::All, pattern.bytes.len());
    assert!(!runs.iter().any(|run| all.add(run.clone())));
    for nth in [1, 2, all.count] {
        let mut one = Matches::new(Find::Nth(nth), pattern.bytes.len());
        let is_there = nth > 0 && runs.iter().any(|run| one.add(run.clone()));
        let place = all.found.get((nth.max(1) - 1) as usize).filter(|_| nth > 0);
        assert_eq!(one.found.first().filter(|_| is_there), place);
    }
    all.found
}

/// The matches found by comparing at every offset.
fn looked_up(text: &[u8], pattern: &MaskedBytes, overlapping: bool) -> Vec<u64> {
    let mut found = Vec::new();
    let mut free = 0;
    for (at, part) in text.windows(pattern.bytes.len()).enumerate() {
        let mut bytes = part.iter().zip(&pattern.bytes).zip(&pattern.mask);
        if at >= free && bytes.all(|((have, want), mask)| have & mask == want & mask) {
            found.push(1000 + at as u64);
            free = if overlapping { 0 } else { at + part.len() };
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_looking_at_every_place_finds(
        text in proptest::collection::vec(0..2u8, 0..120),
        pattern in proptest::collection::vec((0..2u8, prop_oneof![6 => Just(0xff), 1 => Just(0), 1 => Just(0xf1)]), 1..9),
        size in 1..40usize,
    ) {
        let (bytes, mask): (Vec<u8>, Vec<u8>) = pattern.into_iter().unzip();
        let bytes = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        let pattern = MaskedBytes { bytes, mask };
        for overlapping in [true, false] {
            prop_assert_eq!(
                found(&text, size, &pattern, overlapping),
                looked_up(&text, &pattern, overlapping)
            );
        }
    }
}

#[test]
fn a_long_pattern_that_repeats_itself_is_looked_for_once_a_byte() {
    let pattern = MaskedBytes {
        bytes: vec![0; 60_000],
        mask: vec![0xff; 60_000],
    };
    // Comparing the pattern at every offset would make this test take a minute.
    let text = vec![0; 1_000_000];
    assert!(found(&text, 256 << 10, &pattern, true).into_iter().eq(1000..941_001));
    assert_eq!(found(&text, 256 << 10, &pattern, false), (0..16).map(|n| 1000 + n * 60_000).collect::<Vec<u64>>());
}

#[test]
fn the_anchor_is_the_longest_exact_run() {
    let anchor_of = |mask: &[u8]| {
        anchor(&MaskedBytes {
            bytes: vec![0; mask.len()],
            mask: mask.to_vec(),
        })
    };
    assert_eq!(anchor_of(&[0xff, 0, 0xff, 0xff, 0xf0]), 2..4);
    assert_eq!(anchor_of(&[0xff; 3]), 0..3);
    assert_eq!(anchor_of(&[0xf0, 0x0f]), 0..0);
}
