//! Tests of script.rs.

use super::super::edits::{EditMeta, Edits};
use super::super::spooled::SpooledBytes;
use super::*;
use crate::mapping::{Backing, Prot, Region, Segment};
use proptest::prelude::*;
use std::io::Cursor;

fn split(line: &str) -> Vec<String> {
    let words = words(line.as_bytes()).unwrap();
    words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[test]
fn words_end_at_white_space_and_comments_begin_at_a_words_start() {
    assert_eq!(split("0x40: 74 -> 90  # why"), ["0x40:", "74", "->", "90"]);
    assert_eq!(split(r##"+0: text:"v1.2 # ok" x"##), ["+0:", "text:v1.2 # ok", "x"]);
    assert_eq!(split("a#b\t#c"), ["a#b"]);
    assert_eq!(split(r#"text:"a\"b\\""#), [r#"text:a\"b\\"#]);
    assert!(words(b"text:\"a").is_err());
    assert_eq!(split("  # nothing"), [""; 0]);
}

fn builder(grow: bool, reverse: bool) -> Builder {
    // Nothing is mapped until something is read.
    let region = Region::sliding(Backing::anonymous(0x1000, None), Prot::Read).unwrap();
    Builder::new(&region, grow, reverse)
}

/// All properties of edits.
type All = (Vec<Segment>, Vec<EditMeta>, Vec<u8>, Vec<u8>, u64);

/// The result of a script: its edits, or the message.
fn all(read: Result<()>, builder: Builder) -> Result<All, String> {
    let bytes = |mut spool: SpooledBytes| {
        let mut bytes = vec![0; spool.len() as usize];
        spool.read_at(0, &mut bytes).map(|()| bytes)
    };
    let edits = |edits: Edits| -> Result<All> {
        let (new, expected) = (bytes(edits.new)?, bytes(edits.expected)?);
        Ok((edits.list, edits.notes, new, expected, edits.len_after))
    };
    read.and_then(|()| builder.finish()).and_then(edits).map_err(|error| format!("{error}"))
}

/// Reads `text` in blocks of at least `size` bytes, from the fifth on with a second thread.
fn in_blocks(text: &[u8], size: usize, grow: bool, reverse: bool) -> Result<All, String> {
    let mut builder = builder(grow, reverse);
    let read = read_blocks(LineBlocks::new(Cursor::new(text.to_vec()), size), &mut builder);
    all(read, builder)
}

/// Reads `text` line by line, without the fast parser.
fn line_by_line(text: &[u8], grow: bool, reverse: bool) -> Result<All, String> {
    let mut builder = builder(grow, reverse);
    let line = |number: u32, line: &[u8]| line_of(line, &mut builder, SourceLocation::Line(number));
    let read = each_line(&mut &text[..], 0, line).map(drop);
    all(read, builder)
}

/// Lines with a placeholder for the offset, and how often each occurs: most are plain, few are wrong.
const LINES: [(u32, &str); 14] = [
    (400, "0xAT: 0102 -> 0304"),
    (200, "0xAT: 000102030405060708 -> 08070605040302010f"),
    (100, "0xAT: fF -> Aa"),
    (40, "# why"),
    (40, ""),
    (20, "0xAT: -> 0102"),
    (20, "0xAT: text:a -> text:\"b # c\""),
    (20, "+0: 01 -> 02"),
    (10, "size 0x1000"),
    (1, "size 0x1000 -> 0xf80"),
    (1, "0xAT: 01 -> 0203"),
    (1, "0xfff: 0102 -> 0304"),
    (1, "0x0: 0102 -> 0304"),
    (1, "0xAT: 01 -> 0"),
];

fn line() -> impl Strategy<Value = &'static str> {
    let of = LINES.map(|(weight, line)| (weight, Just(line).boxed()));
    proptest::strategy::Union::new_weighted(of.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_and_single_lines_come_to_the_same(
        lines in proptest::collection::vec((line(), 9..20u64), 0..120),
        size in 1..400usize,
        (grow, reverse, crlf, ends) in any::<(bool, bool, bool, bool)>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let mut text = String::new();
        let mut at = 0x20;
        for (line, step) in lines {
            at += step;
            text += &line.replace("AT", &format!("{at:x}"));
            text += end;
        }
        let text = if ends { text.as_str() } else { text.trim_end() };
        prop_assert_eq!(
            in_blocks(text.as_bytes(), size, grow, reverse),
            line_by_line(text.as_bytes(), grow, reverse)
        );
    }
}

#[test]
fn a_bad_line_in_the_seventh_block_is_named_by_its_number() {
    for (bad, complaint) in [
        ("0x200: 01 -> 0", "line 130: "),
        ("0x200: 01 -> 0203", "line 130: 1 byte expected, but 2 bytes will be written"),
        ("0x1000: 01 -> 02", "line 130: cannot write 0x1000..0x1001: "),
        ("nonsense", "line 130: 'nonsense' has no ':'"),
    ] {
        let mut lines: Vec<String> = (0..200).map(|line| format!("{:#05x}: 01 -> 02", line * 2)).collect();
        lines[129] = bad.to_string();
        // A line has 16 bytes, so a block has twenty.
        let error = in_blocks(lines.join("\n").as_bytes(), 320, false, false).unwrap_err();
        assert!(error.starts_with(complaint), "{bad}: {error}");
    }
}

#[test]
fn a_version_is_looked_for_in_the_first_line_alone() {
    let read = |text: &str| in_blocks(text.as_bytes(), 8, false, false).map(|all| all.0.len());
    assert!(read("# mmapctl-patch 2\n").unwrap_err().contains("version '2'"));
    assert_eq!(read(&"# mmapctl-patch 1\n".repeat(20)), Ok(0));
    assert_eq!(read(&format!("{}# mmapctl-patch 2\n0x0: 00 -> 01", "\n".repeat(99))), Ok(1));
}

#[test]
fn a_source_that_fails_later_on_fails_the_script() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::PermissionDenied)?;
            buf[0] = b'\n';
            Ok(1)
        }
    }
    for count in [0, 1, 5, 500] {
        let mut builder = builder(false, false);
        let error = read_blocks(LineBlocks::new(Broken(count), 10), &mut builder).unwrap_err();
        assert!(format!("{error}").starts_with("cannot read the script: "), "{count}");
    }
}

#[test]
fn a_wrong_script_is_told_while_its_source_still_waits() {
    struct Endless(Cursor<Vec<u8>>);
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buf)? {
                0 => std::thread::park_timeout(std::time::Duration::from_secs(3600)),
                count => return Ok(count),
            }
            Ok(0)
        }
    }
    // After the blocks that are read without the thread, which then waits at the end.
    let text = "# a line\n".repeat(99) + "nonsense\n" + &"# a line\n".repeat(20);
    let source = Endless(Cursor::new(text.into_bytes()));
    let mut builder = builder(false, false);
    let error = read_blocks(LineBlocks::new(source, 64), &mut builder).unwrap_err();
    assert!(format!("{error}").starts_with("line 100: "));
}
