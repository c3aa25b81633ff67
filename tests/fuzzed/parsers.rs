//! What any input to the parsers of `patch` must come to: an error, or edits that keep the promises of [`Edits`].

use mmapctl::edit::{
    Builder, EditDetail, Edits, ScriptWriter, SpooledBytes, Value, each_edit, pattern, read_script, read_xxd,
};
use mmapctl::mapping::{Access, Backing, Prot, Region};
use std::ffi::OsStr;
use std::io::{BufReader, Cursor};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// The length of the file that scripts are for.
const LEN: usize = 0x1000;

/// More than this is not written out only to look at it.
const MOST: u64 = 1 << 20;

fn region(dir: &Path) -> Region {
    let path = dir.join("edited");
    if !path.exists() {
        let bytes: Vec<u8> = (0..LEN).map(|at| (at * 7 + at / 256) as u8).collect();
        std::fs::write(&path, bytes).unwrap();
    }
    Region::sliding(Backing::open(&path, Access::Read, Duration::ZERO).unwrap(), Prot::Read).unwrap()
}

/// Any script is refused, or gives sound edits; and what `--dry-run` prints for them does the same.
/// The first byte says whether to grow the file, and whether to go backwards.
pub fn script(dir: &Path, data: &[u8]) {
    let Some((options, text)) = data.split_first() else {
        return;
    };
    // No file of the machine is an input, and stdin is not ours.
    if text.contains(&b'@') {
        return;
    }
    let mut region = region(dir);
    let mut builder = Builder::new(&region, options & 1 != 0, options & 2 != 0);
    if read_script(Cursor::new(text.to_vec()), &mut builder).is_err() {
        return;
    }
    let Ok(mut edits) = builder.finish() else { return };
    check(&edits);
    if edits.len_after != LEN as u64 {
        return;
    }
    let Some((printed, image)) = applied(&mut edits, &mut region) else {
        return;
    };
    let mut builder = Builder::new(&region, false, false);
    read_script(Cursor::new(printed.clone()), &mut builder).expect("what --dry-run prints can be read");
    let mut again = builder.finish().expect("what --dry-run prints is sound");
    check(&again);
    let (reprinted, same) = applied(&mut again, &mut region).expect("what --dry-run prints matches");
    assert!(image == same, "the printed script does something else");
    assert_eq!(printed, reprinted);
}

/// Any dump is refused, or gives sound edits, which written as a dump give the same again.
pub fn xxd(dir: &Path, data: &[u8]) {
    let region = region(dir);
    let read = |text: &[u8]| {
        let mut builder = Builder::new(&region, false, false);
        read_xxd(&mut BufReader::with_capacity(16, text), &mut builder)?;
        builder.finish()
    };
    let Ok(mut edits) = read(data) else { return };
    check(&edits);
    let mut dump = String::new();
    for edit in edits.list.clone() {
        let bytes = taken(&mut edits.new, edit.from, edit.len());
        dump += &format!("{:08x}: {}\n", edit.at(), const_hex::encode(bytes));
    }
    let mut again = read(dump.as_bytes()).expect("a dump of what was read can be read");
    assert_eq!(spans(&edits), spans(&again));
    let len = edits.new.len();
    assert!(taken(&mut edits.new, 0, len) == taken(&mut again.new, 0, len));
}

/// Any value is refused, or has the bytes that it says it has.
pub fn value(data: &[u8]) {
    let argument = OsStr::from_bytes(data);
    if let Ok(masked) = pattern(argument) {
        assert_eq!(masked.bytes.len(), masked.mask.len());
        assert!(masked.mask.iter().any(|bits| *bits != 0), "a pattern that stands everywhere");
    }
    let Ok(value) = Value::parse(argument) else { return };
    match &value {
        Value::Bytes(bytes) => {
            assert!(!bytes.is_empty());
            let hex = const_hex::encode(bytes);
            assert_eq!(Value::parse(OsStr::new(&hex)), Ok(value.clone()));
        }
        Value::Masked(masked) => {
            assert_eq!(masked.bytes.len(), masked.mask.len());
            let outside = |(byte, mask): (&u8, &u8)| byte & !mask != 0;
            assert!(!masked.bytes.iter().zip(&masked.mask).any(outside), "{masked:?}");
        }
        Value::File(_) | Value::Stdin => return,
        Value::Fill(..) | Value::Sum(_) => {}
    }
    let Ok(Some(len)) = value.len(4096) else { return };
    if len <= MOST {
        let mut spool = SpooledBytes::default();
        value.spool(&mut spool, MOST, 4096).expect("bytes at hand");
        assert_eq!(spool.len(), len);
    }
}

/// What [`Edits`] promises.
fn check(edits: &Edits) {
    let end = edits.len_after.max(LEN as u64);
    let (mut free, mut from, mut expected) = (0, 0, 0);
    assert_eq!(edits.list.len(), edits.notes.len());
    for (edit, note) in edits.list.iter().zip(&edits.notes) {
        let span = edit.range();
        assert!(!span.is_empty() && span.start() >= free && span.end() <= end, "{edit:?}");
        assert_eq!(edit.from, from, "the new bytes stand in order, without gaps");
        (free, from) = (span.end(), from + edit.len());
        expected += if note.expects() { edit.len() } else { 0 };
        let Some(extra) = note.extra() else {
            continue;
        };
        match &edits.extras[extra] {
            EditDetail::Masks { new, old } => {
                for mask in [new, old].into_iter().flatten() {
                    assert_eq!(mask.len() as u64, edit.len());
                }
            }
            EditDetail::Sum(sum) => assert!(sum.range.intersect(span).is_empty()),
        }
    }
    assert_eq!(edits.new.len(), from);
    assert_eq!(edits.expected.len(), expected);
}

/// The script that `--dry-run` prints, and the file as it will be; `None` where the edits do not match the file.
fn applied(edits: &mut Edits, region: &mut Region) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut image = vec![0; LEN];
    region.read(0, &mut image).unwrap();
    let mut comparison = edits.compare(region, false, &mut |_| Ok(())).ok()?;
    if !comparison.mismatches.is_empty() {
        return None;
    }
    for piece in edits.list.clone() {
        let bytes = taken(&mut edits.new, piece.from, piece.len());
        image[piece.at() as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    let mut printed = Vec::new();
    let mut script = ScriptWriter::new(LEN as u64, LEN as u64, |text| {
        printed.extend_from_slice(text);
        Ok(())
    });
    each_edit(edits, &mut comparison, LEN as u64, |at, old, new| script.edit(at, old, new)).unwrap();
    script.finish().unwrap();
    Some((printed, image))
}

fn spans(edits: &Edits) -> Vec<(u64, u64)> {
    let spans = edits.list.iter().map(|edit| (edit.at(), edit.len()));
    spans.collect()
}

fn taken(spool: &mut SpooledBytes, from: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    spool.read_at(from, &mut bytes).unwrap();
    bytes
}
