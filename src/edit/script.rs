//! Edit scripts, as mmapctl-patch-script(5) describes them: read a line at a time into a [`Builder`].

use super::blocks::{BLOCK, Block, Blocks, each_line, unreadable};
use super::builder::{Builder, Source};
use super::plain::Plain;
use super::value::Value;
use super::xxd::is_row;
use crate::edit::error::{Error, ErrorContext, Origin, Result};
use crate::quantity;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

/// The first line of a script; a script may go without it, but not claim another version.
pub const HEADER: &str = "# mmapctl-patch 1";

/// Reads a whole script. Errors name the line.
pub fn read_script(source: impl Read + Send + 'static, builder: &mut Builder) -> Result<()> {
    read_blocks(Blocks::new(source, BLOCK), builder)
}

fn read_blocks(mut blocks: Blocks, builder: &mut Builder) -> Result<()> {
    // How many lines have been read.
    let mut lines = 0;
    let mut block = Block::default();
    while unreadable(blocks.next(&mut block))? {
        // The first block begins with the version.
        let plain = block.is_read || (lines > 0 && block.plain.read(&block.text));
        if plain && builder.add_plain(&block.plain, lines)? {
            lines += block.plain.count;
        } else {
            lines = read_lines(&block.text, lines, builder)?;
        }
    }
    Ok(())
}

/// Reads the lines of `text` one by one, before which there were `before`; gives how many there are with them.
fn read_lines(text: &[u8], before: u32, builder: &mut Builder) -> Result<u32> {
    let mut plain = Plain::default();
    each_line(&mut &text[..], before, |number, line| {
        if number == 1
            && let Some(version) = line.strip_prefix(b"# mmapctl-patch ")
            && version.trim_ascii() != b"1"
        {
            let version = String::from_utf8_lossy(version).trim().to_string();
            let failure = Error::untouched(format!("scripts of version '{version}' are unknown"));
            return Err(failure.tip(format!("this mmapctl reads '{HEADER}'")));
        }
        if plain.read(line) && builder.add_plain(&plain, number - 1)? {
            return Ok(());
        }
        line_of(line, builder, Origin::Line(number)).or_else(|error| match is_row(line) {
            true => Err(error).map_failure(|| {
                Error::untouched("this looks like a line of an xxd dump").tip("add --format xxd to apply a dump")
            }),
            false => Err(error),
        })
    })
}

/// Reads the text of one `--edit`, the `number`-th.
pub fn read_edit(text: &OsStr, number: u32, builder: &mut Builder) -> Result<()> {
    let origin = Origin::Option(number);
    line_of(text.as_bytes(), builder, origin).with_context(|| origin.to_string())?;
    if words(text.as_bytes())?.is_empty() {
        let failure = Error::untouched(format!("{origin} is empty"));
        return Err(failure.tip("write --edit '0x40: 7405 -> 9090'"));
    }
    Ok(())
}

/// Any line: `PLACE: [OLD...] -> NEW...`, `PLACE: NEW...`, `size N`, `size N -> M`, a comment, or nothing.
fn line_of(line: &[u8], builder: &mut Builder, origin: Origin) -> Result<()> {
    let words = words(line)?;
    let Some(first) = words.first() else {
        return Ok(());
    };
    if first == b"size" {
        return size(&words[1..], builder, origin);
    }
    let usage = "write OFFSET: OLD -> NEW, OFFSET: -> NEW, or size LENGTH";
    // The place has no colon of its own; the first value may touch the one behind it.
    let Some(colon) = first.iter().position(|byte| *byte == b':') else {
        let message = format!("'{}' has no ':' behind its offset", String::from_utf8_lossy(first));
        return Err(Error::untouched(message).tip(usage));
    };
    let (place, glued) = (&first[..colon], &first[colon + 1..]);
    let source: Source = String::from_utf8_lossy(place).parse()?;
    let mut values = (!glued.is_empty()).then_some(glued).into_iter();
    let rest = words[1..].iter().map(Vec::as_slice);
    let words: Vec<&[u8]> = values.by_ref().chain(rest).collect();
    let arrow = words.iter().position(|word| *word == b"->");
    if let Some(glued) = words.iter().find(|word| is_glued(word)) {
        let message = format!("'{}' has no blanks around its '->'", String::from_utf8_lossy(glued));
        return Err(Error::untouched(message).tip("write OFFSET: OLD -> NEW, with a blank on either side of the arrow"));
    }
    let parse = |words: &[&[u8]]| -> Result<Vec<Value>> {
        let values = words.iter().map(|word| Value::parse(OsStr::from_bytes(word)));
        Ok(values.collect::<Result<_, _>>()?)
    };
    let (old, new) = match arrow {
        Some(arrow) => (parse(&words[..arrow])?, parse(&words[arrow + 1..])?),
        None => (Vec::new(), parse(&words)?),
    };
    if new.is_empty() {
        return Err(Error::untouched("the edit has no new bytes").tip(usage));
    }
    let at = builder.place(&source)?;
    builder.add(at, None, (!old.is_empty()).then_some(&old), &new, origin)
}

/// Hex with an arrow in it, which a text may have but hex may not.
fn is_glued(word: &[u8]) -> bool {
    let hex = |side: &[u8]| side.iter().all(u8::is_ascii_hexdigit);
    let arrow = word.windows(2).position(|pair| pair == b"->");
    word != b"->" && arrow.is_some_and(|at| hex(&word[..at]) && hex(&word[at + 2..]))
}

fn size(words: &[Vec<u8>], builder: &mut Builder, origin: Origin) -> Result<()> {
    let number = |word: &[u8]| quantity::number(&String::from_utf8_lossy(word));
    match words {
        [now] => builder.resize(number(now)?, None, origin),
        [before, arrow, after] if arrow == b"->" => builder.resize(number(before)?, Some(number(after)?), origin),
        _ => {
            let failure = Error::untouched("'size' takes one length, or two with '->' between them");
            Err(failure.tip("write size 0x10000"))
        }
    }
}

/// Splits a line at white space, up to a comment. Double quotes keep white space and `#`; they vanish, and what is
/// between them keeps its backslashes, for the value to read.
fn words(line: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'#' if word.is_none() => break,
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next() {
                        Some(b'"') => break,
                        Some(b'\\') => {
                            word.push(b'\\');
                            word.extend(bytes.next());
                        }
                        Some(byte) => word.push(byte),
                        None => {
                            let failure = Error::untouched("a '\"' is not closed");
                            return Err(failure.tip("write \\\" for a quotation mark within the text"));
                        }
                    }
                }
            }
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::super::edits::{Edits, Note};
    use super::super::spool::Spool;
    use super::*;
    use crate::mapping::{Backing, Prot, Region, Segment};
    use proptest::prelude::*;
    use std::io::Cursor;

    fn split(line: &str) -> Vec<String> {
        let words = words(line.as_bytes()).unwrap();
        words
            .iter()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
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
        // Not mapped until something is read.
        let region = Region::sliding(Backing::anonymous(0x1000, None), Prot::Read).unwrap();
        Builder::new(&region, grow, reverse)
    }

    /// All there is to know of edits.
    type All = (Vec<Segment>, Vec<Note>, Vec<u8>, Vec<u8>, u64);

    /// What a script comes to: its edits, or the message.
    fn all(read: Result<()>, builder: Builder) -> Result<All, String> {
        let bytes = |mut spool: Spool| {
            let mut bytes = vec![0; spool.len() as usize];
            spool.read_at(0, &mut bytes).map(|()| bytes)
        };
        let edits = |edits: Edits| -> Result<All> {
            let (new, expected) = (bytes(edits.new)?, bytes(edits.expected)?);
            Ok((edits.list, edits.notes, new, expected, edits.len_after))
        };
        read.and_then(|()| builder.finish())
            .and_then(edits)
            .map_err(|error| format!("{error}"))
    }

    /// Reads `text` in blocks of `size` bytes and more, from the fifth on with a second thread.
    fn in_blocks(text: &[u8], size: usize, grow: bool, reverse: bool) -> Result<All, String> {
        let mut builder = builder(grow, reverse);
        let read = read_blocks(Blocks::new(Cursor::new(text.to_vec()), size), &mut builder);
        all(read, builder)
    }

    /// Reads `text` a line at a time, and no line as a plain one.
    fn line_by_line(text: &[u8], grow: bool, reverse: bool) -> Result<All, String> {
        let mut builder = builder(grow, reverse);
        let line = |number: u32, line: &[u8]| line_of(line, &mut builder, Origin::Line(number));
        let read = each_line(&mut &text[..], 0, line).map(drop);
        all(read, builder)
    }

    /// Lines with a place to be filled in, and how often each comes: mostly plain ones, few that are wrong.
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
            (
                "0x200: 01 -> 0203",
                "line 130: 1 byte expected, where 2 bytes will be written",
            ),
            ("0x1000: 01 -> 02", "line 130: cannot write 0x1000..0x1001: "),
            ("nonsense", "line 130: 'nonsense' has no ':'"),
        ] {
            let mut lines: Vec<String> = (0..200).map(|line| format!("{:#05x}: 01 -> 02", line * 2)).collect();
            lines[129] = bad.to_string();
            // A line has 16 bytes, so twenty of them a block.
            let error = in_blocks(lines.join("\n").as_bytes(), 320, false, false).unwrap_err();
            assert!(error.starts_with(complaint), "{bad}: {error}");
        }
    }

    #[test]
    fn a_version_is_looked_for_in_the_first_line_alone() {
        let read = |text: &str| in_blocks(text.as_bytes(), 8, false, false).map(|all| all.0.len());
        assert!(read("# mmapctl-patch 2\n").unwrap_err().contains("version '2'"));
        assert_eq!(read(&"# mmapctl-patch 1\n".repeat(20)), Ok(0));
        assert_eq!(
            read(&format!("{}# mmapctl-patch 2\n0x0: 00 -> 01", "\n".repeat(99))),
            Ok(1)
        );
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
            let error = read_blocks(Blocks::new(Broken(count), 10), &mut builder).unwrap_err();
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
        // Behind the blocks that are read without the thread, which then waits at the end.
        let text = "# a line\n".repeat(99) + "nonsense\n" + &"# a line\n".repeat(20);
        let source = Endless(Cursor::new(text.into_bytes()));
        let mut builder = builder(false, false);
        let error = read_blocks(Blocks::new(source, 64), &mut builder).unwrap_err();
        assert!(format!("{error}").starts_with("line 100: "));
    }
}
