//! What all formats have in common, and what the tests of each use: inputs, pieces, other tools.

use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

/// No colour, no line drawing.
pub(super) const BARE: Style = Style {
    color: false,
    squeeze: true,
    unicode: false,
    fit: RowWidth::Rows,
};
/// [`BARE`], with every row printed.
pub(super) const VERBOSE: Style = Style { squeeze: false, ..BARE };

/// What a dump is fed with.
#[derive(Clone, Debug)]
pub(super) enum TestPiece {
    Data(Vec<u8>),
    Hole(u64),
    Preallocated(u64),
}

pub(super) fn text_of(format: Format<'_>, start: u64, style: Style, pieces: &[TestPiece]) -> String {
    let mut dump = dump(format, start, style);
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            TestPiece::Data(data) => dump.bytes(data, &mut out),
            TestPiece::Hole(len) => dump.hole(*len, &mut out),
            TestPiece::Preallocated(len) => dump.preallocated(*len, &mut out),
        }
    }
    dump.finish(&mut out);
    String::from_utf8(out).unwrap()
}

pub(super) fn text(format: Format<'_>, start: u64, style: Style, data: &[u8]) -> String {
    text_of(format, start, style, &[TestPiece::Data(data.to_vec())])
}

/// Bytes without a pattern, the same on every run.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

/// Inputs that are likely to reveal errors.
pub(super) fn inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for len in [
        0, 1, 2, 15, 16, 17, 29, 30, 31, 32, 33, 47, 48, 49, 59, 60, 61, 255, 256, 4096, 10_007,
    ] {
        inputs.push(noise(len));
        inputs.push(vec![0; len]);
        inputs.push(vec![b'x'; len]);
        inputs.push((0..len).map(|at| (at / 16 % 2) as u8).collect());
        inputs.push((0..len).map(|at| (at / 80 % 3) as u8 * 0x7f).collect());
    }
    inputs.push((0..=255).collect());
    // Rows that repeat, then one that does not, then the first again: each run has its own mark.
    inputs.push([vec![0; 64], noise(16), vec![0; 64], noise(16).repeat(3), noise(5)].concat());
    inputs
}

/// The output of another tool, or `None` and a message on stderr if it is not installed.
pub(super) fn peer(program: &str, args: &[&str], file: &tempfile::NamedTempFile) -> Option<String> {
    let run = Command::new(program)
        .args(args)
        .arg(file.path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    match run {
        Ok(run) => {
            assert!(run.status.success(), "{program} {args:?}: {}", run.status);
            Some(String::from_utf8(run.stdout).unwrap())
        }
        Err(error) => {
            // Not eprintln, whose output is captured if the test passes, as this one will.
            writeln!(std::io::stderr(), "SKIPPED {program}: {error}").unwrap();
            None
        }
    }
}

/// Asserts that dumps of whole files, and of ranges of them, equal the output of `program`.
pub(super) fn assert_is_peer(format: Format, style: Style, program: &str, args: &[&str], length_flag: &str) {
    for data in inputs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&data, 0).unwrap();
        let Some(whole) = peer(program, args, &file) else {
            return;
        };
        assert_eq!(text(format, 0, style, &data), whole, "{program} {args:?} of {} bytes", data.len());
        for (start, len) in [
            (0, 1),
            (1, 16),
            (5, 40),
            (16, 32),
            (16, 37),
            (33, 4096),
            (7, 9999),
            (250, 1),
        ] {
            if start + len > data.len() {
                continue;
            }
            let (skip, length) = (start.to_string(), len.to_string());
            let args = [args, &["-s", &skip, length_flag, &length]].concat();
            let range = peer(program, &args, &file).unwrap();
            assert_eq!(text(format, start as u64, style, &data[start..][..len]), range, "{program} {args:?}");
        }
    }
    for (data, start) in [
        (noise(64), (1 << 32) - 16),
        (noise(70), (1 << 32) - 37),
        (vec![0; 80], 0x12_3456_7890),
    ] {
        let file = sparse(&data, start);
        let (skip, length) = (start.to_string(), data.len().to_string());
        let args = [args, &["-s", &skip, length_flag, &length]].concat();
        let Some(range) = peer(program, &args, &file) else {
            return;
        };
        assert_eq!(text(format, start, style, &data), range, "{program} {args:?}");
    }
}

/// A file with `data` at offset `start`, which may exceed the size of the disk.
fn sparse(data: &[u8], start: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(start + data.len() as u64 + 100).unwrap();
    file.as_file().write_all_at(data, start).unwrap();
    file
}

fn formats() -> impl Strategy<Value = Format<'static>> {
    let units = ["u8", "i16be", "u32le", "f32be", "i64le", "f64le"];
    prop_oneof![
        Just(Format::Hex),
        Just(Format::Canonical),
        Just(Format::Xxd),
        Just(Format::Plain),
        Just(Format::C(b"name")),
        proptest::sample::select(units.to_vec()).prop_map(typed),
    ]
}

fn typed(name: &str) -> Format<'static> {
    Format::Typed(NumberFormat::parse(name).unwrap())
}

/// Whether the format has a line for a hole.
fn names_holes(format: Format<'_>) -> bool {
    matches!(format, Format::Hex | Format::Typed(_))
}

fn styles() -> impl Strategy<Value = Style> {
    let fits = prop_oneof![Just(RowWidth::Rows), Just(RowWidth::Narrow), Just(RowWidth::Framed(8))];
    (any::<[bool; 3]>(), fits).prop_map(|([color, squeeze, unicode], fit)| Style {
        color,
        squeeze,
        unicode,
        fit,
    })
}

/// Data with few values and long runs, so that rows repeat, and with holes.
pub(super) fn pieces() -> impl Strategy<Value = Vec<TestPiece>> {
    let run = (prop_oneof![Just(0_u8), Just(b'a'), any::<u8>()], 0_usize..80)
        .prop_map(|(byte, len)| TestPiece::Data(vec![byte; len]));
    let mixed = proptest::collection::vec(any::<u8>(), 0..40).prop_map(TestPiece::Data);
    let hole = (0_u64..400).prop_map(TestPiece::Hole);
    let preallocated = (0_u64..400).prop_map(TestPiece::Preallocated);
    proptest::collection::vec(prop_oneof![3 => run, 1 => mixed, 1 => hole, 1 => preallocated], 0..12)
}

proptest! {
    #[test]
    fn the_text_does_not_depend_on_how_the_input_is_cut(
        format in formats(),
        style in styles(),
        start in any::<u64>(),
        pieces in pieces(),
        cuts in proptest::collection::vec(0_usize..50, 1..20),
    ) {
        let mut cuts = cuts.into_iter().cycle();
        let mut cut = Vec::new();
        for piece in &pieces {
            match piece {
                TestPiece::Data(data) => {
                    let mut rest = &data[..];
                    // A bound on the number of cuts, because all of them may be 0.
                    for at in cuts.by_ref().take(30) {
                        let (head, tail) = rest.split_at(at.min(rest.len()));
                        cut.push(TestPiece::Data(head.to_vec()));
                        rest = tail;
                    }
                    cut.push(TestPiece::Data(rest.to_vec()));
                }
                TestPiece::Hole(len) => {
                    let at = cuts.next().map_or(0, |at| at as u64).min(*len);
                    cut.extend([TestPiece::Hole(at), TestPiece::Data(vec![]), TestPiece::Hole(len - at)]);
                }
                TestPiece::Preallocated(len) => {
                    let at = cuts.next().map_or(0, |at| at as u64).min(*len);
                    let (head, tail) = (TestPiece::Preallocated(at), TestPiece::Preallocated(len - at));
                    cut.extend([head, TestPiece::Hole(0), tail]);
                }
            }
        }
        prop_assert_eq!(
            text_of(format, start, style, &pieces),
            text_of(format, start, style, &cut)
        );
    }

    #[test]
    fn rows_that_are_laid_out_apart_are_those_of_the_dump(
        format in formats(),
        style in styles(),
        start in any::<u64>(),
        pieces in pieces(),
        cuts in proptest::collection::vec(1_usize..5, 1..10),
    ) {
        let (mut whole, layout) = (dump(format, start, style), dump(format, start, style));
        let mut cuts = cuts.into_iter().cycle();
        let mut at = start;
        let mut out = Vec::new();
        // The buffer is reused.
        let mut part = EncodedRows::default();
        for piece in &pieces {
            let data = match piece {
                TestPiece::Hole(len) => {
                    whole.hole(*len, &mut out);
                    at = at.wrapping_add(*len);
                    continue;
                }
                TestPiece::Preallocated(len) => {
                    whole.preallocated(*len, &mut out);
                    at = at.wrapping_add(*len);
                    continue;
                }
                TestPiece::Data(data) => data,
            };
            let (row, before) = whole.next_row();
            let (head, mut rest) = data.split_at(data.len().min(before as usize));
            whole.bytes(head, &mut out);
            at = at.wrapping_add(head.len() as u64);
            while rest.len() >= row as usize {
                let len = rest.len().min(cuts.next().unwrap_or(1) * row as usize) / row as usize * row as usize;
                let (rows, others) = rest.split_at(len);
                layout.part(at, rows, &mut part);
                let shown = whole.join(&part, &mut out).to_vec();
                out.extend(shown);
                at = at.wrapping_add(len as u64);
                rest = others;
            }
            whole.bytes(rest, &mut out);
            at = at.wrapping_add(rest.len() as u64);
        }
        whole.finish(&mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), text_of(format, start, style, &pieces));
    }

    #[test]
    fn a_hole_is_zero_bytes_wherever_it_is_not_named(
        format in formats(),
        style in styles(),
        start in 0_u64..1 << 40,
        pieces in pieces(),
    ) {
        let style = Style { squeeze: style.squeeze && !names_holes(format), ..style };
        let zeros: Vec<TestPiece> = pieces
            .iter()
            .map(|piece| match piece {
                TestPiece::Hole(len) | TestPiece::Preallocated(len) => TestPiece::Data(vec![0; *len as usize]),
                data => data.clone(),
            })
            .collect();
        prop_assert_eq!(
            text_of(format, start, style, &pieces),
            text_of(format, start, style, &zeros)
        );
    }
}

#[test]
fn nothing_in_is_nothing_out() {
    for format in [
        Format::Hex,
        Format::Canonical,
        Format::Xxd,
        Format::Plain,
        typed("u32le"),
    ] {
        let framed = Style {
            fit: RowWidth::Framed(8),
            ..BARE
        };
        for style in [BARE, VERBOSE, framed, Style { color: true, ..BARE }] {
            for start in [0, 5] {
                assert_eq!(text_of(format, start, style, &[]), "");
                assert_eq!(text_of(format, start, style, &[TestPiece::Data(vec![]), TestPiece::Hole(0)]), "");
            }
        }
    }
}

#[test]
fn only_squeezing_formats_name_holes() {
    let names = |format, style| dump(format, 0, style).names_holes();
    assert!(names(Format::Hex, BARE) && names(Format::Canonical, BARE));
    assert!(!names(Format::Hex, VERBOSE) && !names(Format::Canonical, VERBOSE));
    assert!(names(typed("i8"), BARE) && !names(typed("i8"), VERBOSE));
    assert!(!names(Format::C(b"c"), BARE) && !names(Format::Xxd, BARE) && !names(Format::Plain, BARE));
}

#[test]
fn the_last_row_of_the_address_space_is_a_row_like_any_other() {
    let text = text(Format::Canonical, u64::MAX - 15, BARE, &[b'z'; 16]);
    assert_eq!(text.lines().nth(1), Some("00000000"));
    assert!(text.starts_with("fffffffffffffff0  7a 7a"));
}
