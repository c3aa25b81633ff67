//! Where finished bytes become text, and nothing else is touched: one file a format.
//!
//! A format says how one row looks (`Layout`); `Rows` cuts whatever arrives into rows, leaves out
//! the repeated ones and knows holes. So a new format is one `Layout`, and a faster row is a change
//! to one function.

mod canonical;
mod hex;
mod plain;
mod xxd;

/// One dump in the making: bytes in, text out.
pub trait Dump {
    /// Appends the text for `data`, which follows directly on what was fed before.
    ///
    /// Pieces may have any length, 0 too: all text together depends on the bytes, never on where
    /// they were cut. Text can come later than its bytes (a partial row, a run that goes on), at
    /// the latest by [`finish`](Dump::finish).
    fn bytes(&mut self, data: &[u8], out: &mut Vec<u8>);

    /// As [`bytes`](Dump::bytes), on as many threads as there are buffers where `data` is long enough to be worth it:
    /// the text is that of all buffers, one after the other.
    fn share(&mut self, data: &[u8], outs: &mut [Vec<u8>]);

    /// Whether a hole costs no more than a line or two: feed it by [`hole`](Dump::hole) if so, as
    /// zero bytes if not.
    fn names_holes(&self) -> bool;

    /// Appends the text for `len` zero bytes that are a hole in the file, not data; in constant
    /// time, however long.
    ///
    /// Holes that touch are one hole. Without [`names_holes`](Dump::names_holes) the text is still
    /// right, but every row of it is written.
    fn hole(&mut self, len: u64, out: &mut Vec<u8>);

    /// Appends what is left: a partial row, the closing offset. Called once, last.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// How a dump is to look. Formats that copy another tool take from it only what that tool can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours by byte class, as SGR sequences (`hex`).
    pub color: bool,
    /// Leave out rows that repeat the one above, and name holes (`hex`, `canonical`).
    pub squeeze: bool,
    /// The reader's locale is UTF-8, so lines may be drawn (`hex`).
    pub unicode: bool,
}

/// A dump's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own, for people: two groups of eight, characters, colour, named holes and runs.
    Hex,
    /// Byte for byte `hexdump -C` in the C locale, or `hexdump -Cv` without squeezing.
    Canonical,
    /// Byte for byte `xxd`.
    Xxd,
    /// Byte for byte `xxd -p`.
    Plain,
}

/// A dump in `format` whose first byte has file offset `start`; rows begin there, aligned or not.
pub fn dump(format: Format, start: u64, style: Style) -> Box<dyn Dump> {
    match format {
        Format::Hex => Box::new(Rows::new(hex::Hex::new(style), start, style.squeeze)),
        Format::Canonical => Box::new(Rows::new(canonical::Canonical, start, style.squeeze)),
        Format::Xxd => Box::new(Rows::new(xxd::Xxd, start, false)),
        Format::Plain => Box::new(Rows::new(plain::Plain, start, false)),
    }
}

/// How one format lays out a row of `N` bytes, and what it says where rows are left out.
trait Layout<const N: usize>: Sync {
    /// Whether a hole has a line of its own; if not, its rows are zero rows like any other.
    const NAMES_HOLES: bool = false;

    /// Appends one full row, whose first byte has offset `at`. The hot path.
    fn row(&self, at: u64, row: &[u8; N], out: &mut Vec<u8>);

    /// Appends the last row, of which only `len` bytes (more than 0, fewer than `N`) exist; the
    /// others are 0.
    fn short(&self, at: u64, row: &[u8; N], len: usize, out: &mut Vec<u8>);

    /// Appends what stands for `bytes` bytes of rows before `end`, left out because each equals the
    /// one above.
    fn repeats(&self, _end: u64, _bytes: u64, _out: &mut Vec<u8>) {}

    /// Appends the line for a hole; called only with [`NAMES_HOLES`](Layout::NAMES_HOLES).
    fn hole(&self, _from: u64, _to: u64, _out: &mut Vec<u8>) {}

    /// Appends the closing line of a dump that was not empty.
    fn end(&self, _at: u64, _out: &mut Vec<u8>) {}
}

/// Cuts what is fed into rows of `N` bytes for a [`Layout`].
///
/// Runs and holes are put off until something else follows: only then is their length known, and
/// only so does the text not depend on how the input was cut.
struct Rows<L, const N: usize> {
    layout: L,
    start: u64,
    next: Next<N>,
    carry: [u8; N],
    held: usize,
    /// Bytes of a hole that was fed but not yet dealt with; they come after `carry`.
    hole: u64,
}

/// What the next row's text depends on beside the row.
#[derive(Clone, Copy)]
struct Next<const N: usize> {
    /// Its offset. It wraps, so that the last row of a 64-bit address space is no special case.
    at: u64,
    squeeze: bool,
    /// The row last laid out, if the next can be called a repetition of it; unused without
    /// `squeeze`.
    above: Option<[u8; N]>,
    /// Bytes in rows left out since `above`.
    repeated: u64,
}

/// Rows of fewer bytes than this are not worth another thread.
const WORTH_A_THREAD: usize = 64 << 10;

impl<const N: usize> Next<N> {
    #[inline]
    fn row(&mut self, layout: &impl Layout<N>, row: &[u8; N], out: &mut Vec<u8>) {
        if self.squeeze {
            if self.above.as_ref() == Some(row) {
                self.leave_out(N as u64);
                return;
            }
            self.end_run(layout, out);
            self.above = Some(*row);
        }
        layout.row(self.at, row, out);
        self.at = self.at.wrapping_add(N as u64);
    }

    fn rows(&mut self, layout: &impl Layout<N>, rows: &[[u8; N]], out: &mut Vec<u8>) {
        for row in rows {
            self.row(layout, row, out);
        }
    }

    fn leave_out(&mut self, bytes: u64) {
        self.repeated += bytes;
        self.at = self.at.wrapping_add(bytes);
    }

    fn end_run(&mut self, layout: &impl Layout<N>, out: &mut Vec<u8>) {
        if self.repeated > 0 {
            layout.repeats(self.at, self.repeated, out);
            self.repeated = 0;
        }
    }

    /// Where to cut `rows` into up to `parts` that can be laid out apart: each but the first begins with a row that is
    /// other than the one above, so that no run reaches over a cut. Gives the index of each cut, ascending.
    fn cuts(&self, rows: &[[u8; N]], parts: usize) -> Vec<usize> {
        let parts = parts.min(rows.len() * N / WORTH_A_THREAD);
        let mut cuts: Vec<usize> = Vec::new();
        for part in 1..parts {
            let even = rows.len() / parts * part;
            let from = cuts.last().map_or(even, |last| even.max(last + 1));
            let begins = |index: &usize| !self.squeeze || rows[*index] != rows[index - 1];
            cuts.extend((from..rows.len()).find(begins));
        }
        cuts
    }

    /// The state of a part of `rows` that begins at a cut.
    fn at_cut(self, rows: &[[u8; N]], begin: usize) -> Self {
        if begin == 0 {
            return self;
        }
        Next {
            at: self.at.wrapping_add((begin * N) as u64),
            above: self.squeeze.then(|| rows[begin - 1]),
            repeated: 0,
            ..self
        }
    }
}

impl<L: Layout<N>, const N: usize> Rows<L, N> {
    fn new(layout: L, start: u64, squeeze: bool) -> Self {
        let next = Next {
            at: start,
            squeeze,
            above: None,
            repeated: 0,
        };
        Rows {
            layout,
            start,
            next,
            carry: [0; N],
            held: 0,
            hole: 0,
        }
    }

    /// Lays out the carried row once it is full.
    fn end_carry(&mut self, out: &mut Vec<u8>) {
        if self.held == N {
            self.held = 0;
            let row = self.carry;
            self.next.row(&self.layout, &row, out);
        }
    }

    fn end_hole(&mut self, out: &mut Vec<u8>) {
        let mut len = std::mem::take(&mut self.hole);
        if self.held > 0 {
            let pad = len.min((N - self.held) as u64);
            self.carry[self.held..][..pad as usize].fill(0);
            self.held += pad as usize;
            len -= pad;
            self.end_carry(out);
        }
        let tail = len % N as u64;
        if len > tail {
            self.zero_rows(len - tail, out);
        }
        if tail > 0 {
            self.carry[..tail as usize].fill(0);
            self.held = tail as usize;
        }
    }

    /// `bytes` bytes of zero rows that are a hole; a positive multiple of `N`, with nothing
    /// carried.
    fn zero_rows(&mut self, bytes: u64, out: &mut Vec<u8>) {
        let (next, layout) = (&mut self.next, &self.layout);
        if !next.squeeze {
            for _ in 0..bytes / N as u64 {
                next.row(layout, &[0; N], out);
            }
        } else if L::NAMES_HOLES {
            next.end_run(layout, out);
            let to = next.at.wrapping_add(bytes);
            layout.hole(next.at, to, out);
            next.at = to;
            // What is above the next row is now a hole's line, which no row repeats.
            next.above = None;
        } else {
            next.row(layout, &[0; N], out);
            next.leave_out(bytes - N as u64);
        }
    }

    /// Lays out what is carried with the head of `data`; gives the whole rows behind it, and carries the rest.
    fn whole_rows<'a>(&mut self, mut data: &'a [u8], out: &mut Vec<u8>) -> &'a [[u8; N]] {
        if data.is_empty() {
            return &[];
        }
        self.end_hole(out);
        if self.held > 0 {
            let (head, rest) = data.split_at(data.len().min(N - self.held));
            self.carry[self.held..][..head.len()].copy_from_slice(head);
            self.held += head.len();
            self.end_carry(out);
            data = rest;
        }
        let (rows, rest) = data.as_chunks::<N>();
        if !rest.is_empty() {
            self.carry[..rest.len()].copy_from_slice(rest);
            self.held = rest.len();
        }
        rows
    }
}

impl<L: Layout<N>, const N: usize> Dump for Rows<L, N> {
    fn bytes(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let rows = self.whole_rows(data, out);
        self.next.rows(&self.layout, rows, out);
    }

    fn share(&mut self, data: &[u8], outs: &mut [Vec<u8>]) {
        let Some((first, others)) = outs.split_first_mut() else {
            return;
        };
        let rows = self.whole_rows(data, first);
        let cuts = self.next.cuts(rows, 1 + others.len());
        let ends = cuts.iter().copied().chain([rows.len()]);
        let mut parts = [0].iter().chain(&cuts).copied().zip(ends);
        let (layout, before) = (&self.layout, self.next);
        let lay_out = |(begin, end): (usize, usize), out: &mut Vec<u8>| {
            let mut next = before.at_cut(rows, begin);
            next.rows(layout, &rows[begin..end], out);
            if end < rows.len() {
                next.end_run(layout, out);
            }
            next
        };
        let Some(here) = parts.next() else { return };
        self.next = std::thread::scope(|scope| {
            let mut afar = Vec::new();
            for (part, out) in parts.zip(others) {
                let mut text = std::mem::take(out);
                let lay_out = &lay_out;
                let work = move || (lay_out(part, &mut text), text);
                afar.push((part, out, std::thread::Builder::new().spawn_scoped(scope, work)));
            }
            let mut next = lay_out(here, first);
            for (part, out, handle) in afar {
                next = match handle.map(|handle| handle.join()) {
                    Ok(Ok((after, text))) => {
                        *out = text;
                        after
                    }
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    // Where no thread is to be had, this one does it all.
                    Err(_) => lay_out(part, out),
                };
            }
            next
        });
    }

    fn names_holes(&self) -> bool {
        self.next.squeeze
    }

    fn hole(&mut self, len: u64, _out: &mut Vec<u8>) {
        self.hole += len;
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.end_hole(out);
        self.next.end_run(&self.layout, out);
        if self.held > 0 {
            self.carry[self.held..].fill(0);
            self.layout.short(self.next.at, &self.carry, self.held, out);
        }
        let end = self.next.at.wrapping_add(self.held as u64);
        if end != self.start {
            self.layout.end(end, out);
        }
    }
}

/// The two digits of every byte.
static PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Room that a line keeps for its offset: the digits of 64 bits.
const OFFSET: usize = 16;

/// Writes `at` right-aligned into the first [`OFFSET`] bytes of `line`; returns where its eight or
/// more digits begin.
#[inline]
fn offset<const LINE: usize>(at: u64, line: &mut [u8; LINE]) -> usize {
    for (index, byte) in at.to_be_bytes().into_iter().enumerate() {
        line[2 * index..][..2].copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    (at.leading_zeros() as usize / 4).min(8)
}

/// `at` in eight digits or more, for lines that aren't hot.
fn offset_text(at: u64) -> String {
    format!("{at:08x}")
}

/// A byte in the character column: itself if it is printable ASCII, `.` if not.
#[inline]
fn character(byte: u8) -> u8 {
    if matches!(byte, b' '..=b'~') { byte } else { b'.' }
}

#[cfg(test)]
mod tests {
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
    };
    /// The same, with every row printed.
    pub(super) const VERBOSE: Style = Style { squeeze: false, ..BARE };

    /// What a dump is fed.
    #[derive(Clone, Debug)]
    pub(super) enum Piece {
        Data(Vec<u8>),
        Hole(u64),
    }

    pub(super) fn text_of(format: Format, start: u64, style: Style, pieces: &[Piece]) -> String {
        let mut dump = dump(format, start, style);
        let mut out = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Data(data) => dump.bytes(data, &mut out),
                Piece::Hole(len) => dump.hole(*len, &mut out),
            }
        }
        dump.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    pub(super) fn text(format: Format, start: u64, style: Style, data: &[u8]) -> String {
        text_of(format, start, style, &[Piece::Data(data.to_vec())])
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

    /// Inputs at which a dump can go wrong.
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
        // Rows that repeat, then one that does not, then the first again: each run has its own
        // mark.
        inputs.push([vec![0; 64], noise(16), vec![0; 64], noise(16).repeat(3), noise(5)].concat());
        inputs
    }

    /// The output of another tool, or `None`, said aloud, if it isn't installed.
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
                // Not eprintln, which is captured in a test that passes, as this one will.
                writeln!(std::io::stderr(), "SKIPPED {program}: {error}").unwrap();
                None
            }
        }
    }

    /// Asserts that a dump of whole files, and of ranges of them, is what `program` prints.
    pub(super) fn assert_is_peer(format: Format, style: Style, program: &str, args: &[&str], length_flag: &str) {
        for data in inputs() {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().write_all_at(&data, 0).unwrap();
            let Some(whole) = peer(program, args, &file) else {
                return;
            };
            assert_eq!(
                text(format, 0, style, &data),
                whole,
                "{program} {args:?} of {} bytes",
                data.len()
            );
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
                assert_eq!(
                    text(format, start as u64, style, &data[start..][..len]),
                    range,
                    "{program} {args:?}"
                );
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

    /// A file with `data` at offset `start`, beyond what the disk holds.
    fn sparse(data: &[u8], start: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(start + data.len() as u64 + 100).unwrap();
        file.as_file().write_all_at(data, start).unwrap();
        file
    }

    fn formats() -> impl Strategy<Value = Format> {
        prop_oneof![
            Just(Format::Hex),
            Just(Format::Canonical),
            Just(Format::Xxd),
            Just(Format::Plain)
        ]
    }

    fn styles() -> impl Strategy<Value = Style> {
        any::<[bool; 3]>().prop_map(|[color, squeeze, unicode]| Style {
            color,
            squeeze,
            unicode,
        })
    }

    /// Data with few values and long runs, so that rows do repeat, and holes in it.
    pub(super) fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let run = (prop_oneof![Just(0_u8), Just(b'a'), any::<u8>()], 0_usize..80)
            .prop_map(|(byte, len)| Piece::Data(vec![byte; len]));
        let mixed = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Piece::Data);
        let hole = (0_u64..400).prop_map(Piece::Hole);
        proptest::collection::vec(prop_oneof![3 => run, 1 => mixed, 1 => hole], 0..12)
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
                    Piece::Data(data) => {
                        let mut rest = &data[..];
                        // A bound on the cuts, as they may all be 0.
                        for at in cuts.by_ref().take(30) {
                            let (head, tail) = rest.split_at(at.min(rest.len()));
                            cut.push(Piece::Data(head.to_vec()));
                            rest = tail;
                        }
                        cut.push(Piece::Data(rest.to_vec()));
                    }
                    Piece::Hole(len) => {
                        let at = cuts.next().map_or(0, |at| at as u64).min(*len);
                        cut.extend([Piece::Hole(at), Piece::Data(vec![]), Piece::Hole(len - at)]);
                    }
                }
            }
            prop_assert_eq!(
                text_of(format, start, style, &pieces),
                text_of(format, start, style, &cut)
            );
        }

        #[test]
        fn a_hole_is_zero_bytes_wherever_it_is_not_named(
            format in formats(),
            style in styles(),
            start in 0_u64..1 << 40,
            pieces in pieces(),
        ) {
            let style = Style { squeeze: style.squeeze && format != Format::Hex, ..style };
            let zeros: Vec<Piece> = pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Hole(len) => Piece::Data(vec![0; *len as usize]),
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
        for format in [Format::Hex, Format::Canonical, Format::Xxd, Format::Plain] {
            for style in [BARE, VERBOSE, Style { color: true, ..BARE }] {
                for start in [0, 5] {
                    assert_eq!(text_of(format, start, style, &[]), "");
                    assert_eq!(
                        text_of(format, start, style, &[Piece::Data(vec![]), Piece::Hole(0)]),
                        ""
                    );
                }
            }
        }
    }

    #[test]
    fn only_squeezing_formats_name_holes() {
        let names = |format, style| dump(format, 0, style).names_holes();
        assert!(names(Format::Hex, BARE) && names(Format::Canonical, BARE));
        assert!(!names(Format::Hex, VERBOSE) && !names(Format::Canonical, VERBOSE));
        assert!(!names(Format::Xxd, BARE) && !names(Format::Plain, BARE));
    }

    #[test]
    fn the_last_row_of_the_address_space_is_a_row_like_any_other() {
        let text = text(Format::Canonical, u64::MAX - 15, BARE, &[b'z'; 16]);
        assert_eq!(text.lines().nth(1), Some("00000000"));
        assert!(text.starts_with("fffffffffffffff0  7a 7a"));
    }
}
