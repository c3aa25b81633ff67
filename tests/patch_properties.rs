//! Properties of `patch`: random edits of random files against a model in memory, applied and undone, and parsers that
//! refuse arbitrary bytes without a panic and without touching the file. `PROPTEST_CASES` sets how many are tried.

use crate::support::*;
use mmapctl::edit::{
    Builder, Durability, Error, ScriptWriter, SourceLocation, Value, each_edit, read_script, read_xxd, write_undo,
};
use mmapctl::edit::{Find, diff, find, pattern};
use mmapctl::mapping::{Access, Backing, ByteRange, Prot, Region};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufReader, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// `few` cases, unless the environment says how many.
fn cases(few: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(few),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

// ---- patch, without a process ---------------------------------------------------------------------------------------

/// What a patch left.
struct Applied {
    /// The script that reverts it.
    undo: Vec<u8>,
    /// The script that a dry run prints.
    dry: Vec<u8>,
}

fn region(path: &Path, prot: Prot) -> Region {
    let backing = Backing::open(path, Access::Write, Duration::ZERO).expect("the file opens");
    Region::sliding(backing, prot).expect("a region")
}

/// The longest file that a test lets arbitrary bytes make.
const MOST: u64 = 8 << 20;

/// Patches `path` as `mmapctl patch` does, with the edits that `gather` reads.
fn patch(
    path: &Path,
    gather: impl FnOnce(&mut Builder) -> mmapctl::edit::Result<()>,
) -> mmapctl::edit::Result<Applied> {
    let mut region = region(path, Prot::ReadWrite);
    let mut builder = Builder::new(&region, false, false);
    gather(&mut builder)?;
    let mut edits = builder.finish()?;
    if edits.len_after > MOST {
        return Err(Error::untouched("a file of that length is not for tests"));
    }
    let mut comparison = edits.compare(&mut region, false, &mut |_| Ok(()))?;
    if !comparison.mismatches.is_empty() {
        return Err(Error::untouched(format!("{:?}", comparison.mismatches)));
    }
    let (len, after) = (region.span().end(), edits.len_after);
    let (mut undo, mut dry) = (Vec::new(), Vec::new());
    write_undo(&mut edits, &mut comparison, len, |text| {
        undo.extend_from_slice(text);
        Ok(())
    })?;
    let mut script = ScriptWriter::new(len, after, |text: &[u8]| {
        dry.extend_from_slice(text);
        Ok(())
    });
    each_edit(&mut edits, &mut comparison, after, |at, old, new| script.edit(at, old, new))?;
    script.finish()?;
    edits.store(&mut region, &mut comparison, Durability::Cached, &mut |_| Ok(()))?;
    Ok(Applied { undo, dry })
}

/// Text that comes in pieces shorter than most lines, as it may from a pipe.
fn in_small_pieces(text: &[u8]) -> BufReader<Trickle> {
    BufReader::with_capacity(37, Trickle(Cursor::new(text.to_vec())))
}

/// A source that returns a few bytes at a time.
struct Trickle(Cursor<Vec<u8>>);

impl Read for Trickle {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = buf.len().min(37);
        self.0.read(&mut buf[..len])
    }
}

fn apply(path: &Path, script: &[u8]) -> mmapctl::edit::Result<Applied> {
    patch(path, |builder| read_script(in_small_pieces(script), builder))
}

/// Whether a script may be tried: not one that could wait for stdin or read other files.
fn names_a_file(script: &[u8]) -> bool {
    script.contains(&b'@')
}

// ---- random files and edits ------------------------------------------------------------------------------------------

/// What one edit does, and how it is written.
#[derive(Debug, Clone)]
enum New {
    Hex(Vec<u8>),
    Spaced(Vec<u8>),
    Text(Vec<u8>),
    Numbers(Vec<u16>),
    Fill(u8, u16),
    /// Values and masks.
    Masked(Vec<(u16, u16)>),
    /// Of a range that is chosen when the other edits are known: two fractions of the file.
    Sum(bool, u16, u16),
}

impl New {
    fn len(&self) -> usize {
        match self {
            New::Hex(bytes) | New::Spaced(bytes) | New::Text(bytes) => bytes.len(),
            New::Numbers(numbers) => numbers.len() * 2,
            New::Masked(numbers) => numbers.len() * 2,
            New::Fill(_, count) => usize::from(*count),
            New::Sum(..) => 4,
        }
    }
}

fn new_bytes() -> impl Strategy<Value = New> {
    prop_oneof![
        4 => vec(any::<u8>(), 1..80).prop_map(New::Hex),
        1 => vec(any::<u8>(), 1..40).prop_map(New::Spaced),
        1 => vec(any::<u8>(), 1..40).prop_map(New::Text),
        1 => vec(any::<u16>(), 1..10).prop_map(New::Numbers),
        1 => (any::<u8>(), 1..5000u16).prop_map(|(byte, count)| New::Fill(byte, count)),
        2 => vec(any::<(u16, u16)>(), 1..6).prop_map(|list| {
            New::Masked(list.into_iter().map(|(value, mask)| (value & mask, mask)).collect())
        }),
        1 => any::<(bool, u16, u16)>().prop_map(|(big, from, to)| New::Sum(big, from, to)),
    ]
}

/// An edit as it is drawn: distance to the one before, whether it says the old bytes, how its place is said, its rank
/// in the script, its bytes.
type Drawn = (u16, bool, u8, u32, New);

/// A file, a script for it, and what the file must hold when that has been applied.
#[derive(Debug, Clone)]
struct Case {
    file: Vec<u8>,
    script: String,
    after: Vec<u8>,
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn case_of(file: Vec<u8>, resize: i32, drawn: Vec<Drawn>) -> Case {
    let len = file.len();
    let len_after = (len as i64 + i64::from(resize)).max(1) as usize;
    let mut placed = Vec::new();
    let mut at = 0;
    for (gap, says_old, place, rank, new) in drawn {
        at += usize::from(gap);
        let end = at + new.len();
        if end > len_after {
            continue;
        }
        placed.push((rank, at..end, says_old, place, new));
        at = end;
    }
    // What is longer comes up as zeros.
    let mut old = file.clone();
    old.resize(len.max(len_after), 0);
    let mut after = old.clone();
    for (_, range, _, _, new) in &placed {
        let target = &mut after[range.clone()];
        match new {
            New::Hex(bytes) | New::Spaced(bytes) | New::Text(bytes) => target.copy_from_slice(bytes),
            New::Numbers(numbers) => {
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
                target.copy_from_slice(&bytes);
            }
            New::Fill(byte, _) => target.fill(*byte),
            New::Masked(numbers) => {
                for (pair, (value, mask)) in target.chunks_mut(2).zip(numbers) {
                    let word = u16::from_le_bytes([pair[0], pair[1]]);
                    pair.copy_from_slice(&(word & !mask | value).to_le_bytes());
                }
            }
            New::Sum(..) => {}
        }
    }
    // Each sum covers the bytes between it and the sum before it, so none covers itself or another one.
    let mut from = 0;
    let mut ranges = Vec::new();
    for (_, range, _, _, new) in &placed {
        let New::Sum(big, a, b) = new else {
            ranges.push(0..0);
            continue;
        };
        let room = range.start.min(len).saturating_sub(from);
        let (a, b) = (usize::from(*a) * room / 0xffff, usize::from(*b) * room / 0xffff);
        // What a file grows by can be summed to its end, but a range cannot begin there.
        let summed = (from + a.min(b)).min(len)..(from + a.max(b)).min(len);
        let crc = crc32(&after[summed.clone()]);
        let bytes = if *big { crc.to_be_bytes() } else { crc.to_le_bytes() };
        after[range.clone()].copy_from_slice(&bytes);
        from = range.end;
        ranges.push(summed);
    }
    after.truncate(len_after);
    let mut lines: Vec<_> = placed.into_iter().zip(ranges).collect();
    lines.sort_by_key(|((rank, ..), _)| *rank);
    let mut script = format!("# mmapctl-patch 1\nsize {len:#x}");
    if len_after != len {
        script += &format!(" -> {len_after}");
    }
    script += "\n";
    // A size that shrinks is an edit like any other, so the first line is not recognised by its distance.
    let mut previous = None;
    for ((_, range, says_old, place, new), summed) in lines {
        let at = range.start;
        script += &match (place % 4, previous) {
            (0, Some(previous)) if previous <= at => format!("+{:#x}", at - previous),
            (1, _) if at < len => format!("end-{}", len - at),
            (2, _) => format!("{at}"),
            _ => format!("{at:#x}"),
        };
        script += ": ";
        if says_old {
            script += &format!("{} ", const_hex::encode(&old[range.clone()]));
        }
        script += "-> ";
        script += &match &new {
            New::Hex(bytes) => const_hex::encode(bytes),
            New::Spaced(bytes) => bytes.iter().map(|byte| format!("{byte:02X} ")).collect(),
            New::Text(bytes) => format!("text:\"{}\" # it ends here", escaped(bytes)),
            New::Numbers(numbers) => format!("u16be:{}", joined(numbers.iter().map(|number| format!("{number}")))),
            New::Fill(byte, count) => format!("fill:{byte:02x}:{count}"),
            New::Masked(numbers) => {
                let pairs = numbers.iter().map(|(value, mask)| format!("{value:#x}/{mask:#x}"));
                format!("u16le:{}", joined(pairs))
            }
            New::Sum(big, ..) => {
                let kind = if *big { "crc32be" } else { "crc32le" };
                format!("{kind}:{:#x}..{:#x}", summed.start, summed.end)
            }
        };
        script += "\n";
        previous = Some(range.end);
    }
    Case { file, script, after }
}

/// Text with escapes for what a quoted text cannot hold.
fn escaped(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'"' => "\\\"".to_string(),
        b'\\' => "\\\\".to_string(),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(one).collect()
}

fn joined(numbers: impl Iterator<Item = String>) -> String {
    numbers.collect::<Vec<_>>().join(",")
}

/// Up to `most` bytes; drawn as one number, because a byte at a time takes a second for a few hundred files.
fn contents(most: usize) -> impl Strategy<Value = Vec<u8>> {
    (1..most, any::<usize>(), any::<bool>()).prop_map(|(len, skip, sparse)| {
        let skip = skip % 5000;
        let mut bytes = noise(skip + len).split_off(skip);
        if sparse {
            // Zeros are what a grown file has, and what an undo script leaves out.
            bytes.iter_mut().filter(|byte| **byte < 200).for_each(|byte| *byte = 0);
        }
        bytes
    })
}

/// Files of up to three pages, and edits of them.
fn case() -> impl Strategy<Value = Case> {
    let file = contents(10_000);
    let resize = prop_oneof![3 => Just(0), 1 => -5000..5000i32];
    let gap = prop_oneof![0..3u16, 0..500u16, 0..5000u16];
    let drawn = vec((gap, any::<bool>(), any::<u8>(), any::<u32>(), new_bytes()), 0..20);
    (file, resize, drawn).prop_map(|(file, resize, drawn)| case_of(file, resize, drawn))
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_script_does_what_a_model_does_and_only_once(case in case()) {
        let dir = Sandbox::new();
        let path = dir.file("f", &case.file);
        apply(&path, case.script.as_bytes()).unwrap_or_else(|error| panic!("{error:#}\n{}", case.script));
        prop_assert!(fs::read(&path).unwrap() == case.after, "{}", case.script);
        // Places that count from the end are others once the length has changed.
        if case.file.len() == case.after.len() && !case.script.contains('/') {
            apply(&path, case.script.as_bytes()).unwrap_or_else(|error| panic!("{error:#}\n{}", case.script));
            prop_assert!(fs::read(&path).unwrap() == case.after, "{}", case.script);
        }
    }

    #[test]
    fn undo_gives_the_original_and_undo_of_undo_the_patched_file(case in case()) {
        let dir = Sandbox::new();
        let path = dir.file("f", &case.file);
        let applied = apply(&path, case.script.as_bytes()).unwrap();
        let undone = apply(&path, &applied.undo).unwrap_or_else(|error| panic!("{error:#}\n{}", case.script));
        prop_assert!(fs::read(&path).unwrap() == case.file, "{}", case.script);
        apply(&path, &undone.undo).unwrap_or_else(|error| panic!("{error:#}\n{}", case.script));
        prop_assert!(fs::read(&path).unwrap() == case.after, "{}", case.script);
    }

    #[test]
    fn what_a_dry_run_prints_does_what_the_patch_does(case in case()) {
        let dir = Sandbox::new();
        let path = dir.file("f", &case.file);
        let applied = apply(&path, case.script.as_bytes()).unwrap();
        fs::write(&path, &case.file).unwrap();
        apply(&path, &applied.dry).unwrap_or_else(|error| panic!("{error:#}\n{}", case.script));
        prop_assert!(fs::read(&path).unwrap() == case.after, "{}", case.script);
    }

    #[test]
    fn the_difference_of_two_files_applied_to_one_gives_the_other(
        one in contents(20_000),
        changes in vec((any::<prop::sample::Index>(), vec(any::<u8>(), 1..100)), 0..20),
    ) {
        let mut other = one.clone();
        for (index, bytes) in &changes {
            let at = index.index(one.len());
            let len = bytes.len().min(one.len() - at);
            other[at..at + len].copy_from_slice(&bytes[..len]);
        }
        let dir = Sandbox::new();
        let (from, to) = (dir.file("f", &one), dir.file("g", &other));
        let mut script = Vec::new();
        let count = {
            let (mut from, mut to) = (region(&from, Prot::Read), region(&to, Prot::Read));
            let sink = |text: &[u8]| { script.extend_from_slice(text); Ok(()) };
            diff(&mut from, &mut to, ("f", "g"), sink, &mut |_| Ok(())).unwrap()
        };
        let differing = one.iter().zip(&other).filter(|(a, b)| a != b).count();
        prop_assert_eq!(count, differing as u64);
        let back = apply(&from, &script).unwrap();
        prop_assert!(fs::read(&from).unwrap() == other);
        apply(&from, &back.undo).unwrap();
        prop_assert!(fs::read(&from).unwrap() == one);
    }

    #[test]
    fn bytes_are_found_where_a_plain_search_finds_them(
        text in vec(0..3u8, 1..3000),
        want in vec((0..3u8, prop_oneof![3 => Just(0xffu8), 1 => Just(0xf0), 1 => Just(0)]), 1..6),
        place in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let digits: String = want.iter().map(|(byte, mask)| match mask {
            0xff => format!("{byte:02x}"),
            0xf0 => "0?".to_string(),
            _ => "??".to_string(),
        }).collect();
        prop_assume!(want.iter().any(|(_, mask)| *mask != 0));
        let (a, b) = (place.0.index(text.len() + 1), place.1.index(text.len() + 1));
        let (a, b) = (a.min(b), a.max(b));
        let mut expected = Vec::new();
        let mut free = a;
        for at in a..=b.saturating_sub(want.len()) {
            let here = at >= free && at + want.len() <= b;
            let matches = |(have, (want, mask)): (&u8, &(u8, u8))| have & mask == want & mask;
            if here && text[at..].iter().zip(&want).all(matches) {
                expected.push(at as u64);
                free = at + want.len();
            }
        }
        let dir = Sandbox::new();
        let mut region = region(&dir.file("f", &text), Prot::Read);
        let span = ByteRange::new(a as u64, b as u64).unwrap();
        let pattern = pattern(OsStr::new(&digits)).unwrap();
        let found = find(&mut region, span, &pattern, Find::All, &mut |_| Ok(()));
        prop_assert_eq!(found.ok().unwrap_or_default(), expected, "{} in {}", digits, span);
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_patch_equals_its_dry_run_and_its_undo_reverts_it(case in case()) {
        let dir = Sandbox::new();
        let path = dir.file("f", &case.file);
        dir.file("s", case.script.as_bytes());
        let run = |args: &[&str]| dir.mmapctl(args);
        let printed = run(&["patch", "f", "--script", "s", "--dry-run"]);
        prop_assert_eq!(printed.status.code(), Some(0), "{}\n{}", printed, case.script);
        prop_assert!(fs::read(&path).unwrap() == case.file, "a dry run touched the file: {}", case.script);
        dir.file("dry", &printed.stdout);
        for script in ["s", "dry"] {
            fs::write(&path, &case.file).unwrap();
            let _ = fs::remove_file(dir.join("u"));
            let patched = run(&["patch", "f", "--script", script, "--undo", "u"]);
            prop_assert_eq!(patched.status.code(), Some(0), "{}\n{}", patched, case.script);
            prop_assert!(fs::read(&path).unwrap() == case.after, "{}: {}", script, case.script);
            let undone = run(&["patch", "f", "--script", "u"]);
            prop_assert_eq!(undone.status.code(), Some(0), "{}\n{}", undone, case.script);
            prop_assert!(fs::read(&path).unwrap() == case.file, "{}: {}", script, case.script);
        }
    }
}

// ---- arbitrary input --------------------------------------------------------------------------------------------------

/// Checks that what is refused leaves the file unchanged, and that what is accepted can be undone.
fn refused_or_reversible(bytes: &[u8], gather: impl FnOnce(&mut Builder) -> mmapctl::edit::Result<()>) {
    let dir = Sandbox::new();
    let path = dir.file("f", bytes);
    match patch(&path, gather) {
        Err(_) => assert!(fs::read(&path).unwrap() == bytes, "what is refused is not touched"),
        Ok(applied) => {
            apply(&path, &applied.undo).expect("its undo script can be applied");
            assert!(fs::read(&path).unwrap() == bytes, "undo gives the original");
        }
    }
}

fn script_of_arbitrary(bytes: &[u8], script: &[u8]) {
    if !names_a_file(script) {
        refused_or_reversible(bytes, |builder| read_script(in_small_pieces(script), builder));
    }
}

/// Changes of single bytes: replaced, inserted, removed.
type Change = (prop::sample::Index, u8, u8);

fn changed(text: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (index, how, byte) in changes {
        let at = index.index(text.len().max(1));
        match how % 3 {
            0 if at < text.len() => text[at] = *byte,
            1 if at < text.len() => drop(text.remove(at)),
            _ => text.insert(at.min(text.len()), *byte),
        }
    }
    text
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    // Mostly what the grammar knows; no unit larger than K, which would make a file too large for a test.
    let alphabet = b"0123456789abcdefx+-:> \"\\#/,.sizendtext\n\rKpB_?\xff\0".to_vec();
    vec((any::<prop::sample::Index>(), any::<u8>(), prop::sample::select(alphabet)), 1..5)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn arbitrary_bytes_as_a_script_are_refused_or_reversible(script in vec(any::<u8>(), 0..60)) {
        script_of_arbitrary(&[0x11; 300], &script);
    }

    #[test]
    fn what_looks_like_a_script_is_refused_or_reversible(
        lines in vec(
            r#"(size |[+]|end-|0x)?[0-9a-f]{1,3}:? ?((hex|text|cstr|zero|fill|crc32[lb]e|[uif](8|16|32)([lb]e)?):)?[-0-9a-f",./\\ ]{0,6}( -> )?((fill|zero|text|u8|u16le|crc32le):)?[-0-9a-f.",/]{0,8}( #)?\r?"#,
            0..6,
        ),
    ) {
        script_of_arbitrary(&[0; 300], lines.join("\n").as_bytes());
    }

    #[test]
    fn a_damaged_script_is_refused_or_reversible(case in case(), changes in changes()) {
        script_of_arbitrary(&case.file, &changed(case.script.as_bytes(), &changes));
    }

    #[test]
    fn arbitrary_bytes_as_a_dump_are_refused_or_reversible(dump in vec(any::<u8>(), 0..60)) {
        refused_or_reversible(&[0x11; 300], |builder| read_xxd(&mut in_small_pieces(&dump), builder));
    }

    #[test]
    fn a_damaged_dump_is_refused_or_reversible(
        rows in vec((0..300u64, vec(any::<u8>(), 1..17)), 1..5),
        changes in changes(),
    ) {
        let mut dump = String::new();
        for (at, bytes) in rows {
            let pairs: String = bytes.chunks(2).map(|pair| const_hex::encode(pair) + " ").collect();
            dump += &format!("{at:08x}: {pairs} {}\n", ".".repeat(bytes.len()));
        }
        let dump = changed(dump.as_bytes(), &changes);
        refused_or_reversible(&[0x11; 300], |builder| read_xxd(&mut in_small_pieces(&dump), builder));
    }

    #[test]
    fn arbitrary_bytes_as_a_value_are_refused_or_reversible(
        value in prop_oneof![
            vec(any::<u8>(), 0..30),
            r"(hex|text|cstr|zero|fill|crc32(le|be)|[uif](8|16|32|64)(le|be)?)?:?[-0-9a-fxKp,./?:\\u{} ]{0,12}"
                .prop_map(String::into_bytes),
        ],
        at in 0..310u64,
    ) {
        let text = OsStr::from_bytes(&value);
        let _ = pattern(text);
        if names_a_file(&value) {
            return Ok(());
        }
        refused_or_reversible(&[0x11; 300], |builder| {
            builder.add(at, None, None, &[Value::parse(text)?], SourceLocation::Arguments)
        });
    }
}
