//! What any journal must come to: a refusal that moves nothing, or a recovery that moves only what it covers.

use mmapctl::edit::{JournalPath, Recovery, recover};
use mmapctl::mapping::{Access, Backing, Prot, Region};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Bytes to make choices from; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        u64::from(self.byte()) | u64::from(self.byte()) << 8
    }

    /// Small, huge, or close to a border.
    fn number(&mut self) -> u64 {
        match self.byte() {
            0 => u64::MAX - self.word(),
            1 => (i64::MAX as u64).wrapping_add(self.word()).wrapping_sub(0x8000),
            2 => self.word() << 16,
            _ => self.word(),
        }
    }
}

/// What a journal says, read by its format alone, which src/edit/journal.rs draws.
struct Said {
    before: u64,
    after: u64,
    /// Whether the length was being changed.
    resizing: bool,
    /// Offset, old and new bytes.
    edits: Vec<(u64, Vec<u8>, Vec<u8>)>,
}

/// The checksum of a journal's bytes before it: of all but the one that is 1 while the length is being changed.
fn sum_of(body: &[u8]) -> [u8; 4] {
    let mut body = body.to_vec();
    body.iter_mut().skip(15).take(1).for_each(|resizing| *resizing = 0);
    crc32fast::hash(&body).to_le_bytes()
}

/// A journal that is whole and sound; `None` for anything else.
fn said(journal: &[u8]) -> Option<Said> {
    let (body, sum) = journal.split_at_checked(journal.len().checked_sub(4)?)?;
    if sum_of(body) != sum {
        return None;
    }
    let mut rest = body.strip_prefix(b"MMAPUNDO")?;
    let mut number = || {
        let (number, tail) = rest.split_first_chunk::<8>()?;
        rest = tail;
        Some(u64::from_le_bytes(*number))
    };
    let (version, _device, _inode, _born) = (number()?, number()?, number()?, number()?);
    let (before, after, count) = (number()?, number()?, number()?);
    if version & (u64::MAX >> 8) != 3 {
        return None;
    }
    let resizing = version >> 56 != 0;
    let mut ranges = Vec::new();
    for _ in 0..count {
        ranges.push((number()?, number()?));
    }
    let old_len = rest.len() / 2;
    let (mut old, mut new) = rest.split_at_checked(old_len)?;
    let mut edits = Vec::new();
    for (at, len) in ranges {
        let (head_old, tail_old) = old.split_at_checked(len as usize)?;
        let (head_new, tail_new) = new.split_at_checked(len as usize)?;
        (old, new) = (tail_old, tail_new);
        edits.push((at, head_old.to_vec(), head_new.to_vec()));
    }
    (old.is_empty() && new.is_empty()).then_some(Said {
        before,
        after,
        resizing,
        edits,
    })
}

/// A file and a journal for it, both made from `choices`: a sound pair, then spoilt in a few places.
fn made(choices: &mut Choices<'_>, target: &Path) -> (Vec<u8>, Vec<u8>) {
    let len = choices.word() % 9000;
    let len_after = match choices.byte() {
        0 => len + choices.word() % 9000,
        1 => len.saturating_sub(choices.word() % 9000),
        _ => len,
    };
    let mut file: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
    let (mut ranges, mut old, mut new) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = choices.word() % 512;
    for _ in 0..choices.byte() % 8 {
        let size = u64::from(choices.byte() % 40) + 1;
        if at + size > len.max(len_after) {
            break;
        }
        ranges.push((at, size));
        for at in at..at + size {
            old.push(file.get(at as usize).copied().unwrap_or(0));
            new.push(choices.byte());
        }
        at += size + 1 + choices.word() % 5000;
    }
    // How far the patch came before it was cut short: any byte old or new.
    if choices.byte() & 1 == 0 {
        file.resize(len.max(len_after) as usize, 0);
        let stores = ranges.iter().flat_map(|(at, size)| *at..at + size).zip(&new);
        for (at, byte) in stores {
            if choices.byte() & 1 == 0 {
                file[at as usize] = *byte;
            }
        }
        file.truncate(len_after as usize);
    }
    let meta = fs::metadata(target).unwrap();
    let born = meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    // Not every file system knows when a file was made.
    let born = born.filter(|_| choices.byte() & 1 == 0).map_or(0, |born| born.as_nanos() as u64);
    let resizing = u64::from(choices.byte() == 1) << 56;
    let mut head = vec![3 | resizing, 0, meta.ino(), born, len, len_after, ranges.len() as u64];
    head.extend(ranges.iter().flat_map(|(at, size)| [*at, *size]));
    let mut journal = b"MMAPUNDO".to_vec();
    journal.extend(head.iter().flat_map(|number| number.to_le_bytes()));
    journal.extend(old.iter().chain(&new));
    for _ in 0..choices.byte() % 4 {
        match choices.byte() % 5 {
            0 => {
                let word = choices.word() as usize % (journal.len() / 8);
                journal[word * 8..][..8].copy_from_slice(&choices.number().to_le_bytes());
            }
            1 => {
                let at = choices.word() as usize % journal.len();
                journal[at] ^= choices.byte();
            }
            2 => journal.truncate(8 + choices.word() as usize % (journal.len() - 7)),
            3 => journal.push(choices.byte()),
            _ => {
                let at = choices.word() as usize;
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= choices.byte();
                }
            }
        }
    }
    let mut sum = sum_of(&journal);
    if choices.byte() == 1 {
        sum[0] ^= 1 << (choices.byte() % 8);
    }
    journal.extend(sum);
    if choices.byte() == 1 {
        journal.truncate(choices.word() as usize);
    }
    (file, journal)
}

/// Recovers a file from a journal, both made from `data`, in `dir`, which nobody else uses.
pub fn recovery(dir: &Path, data: &[u8]) {
    let mut choices = Choices(data);
    let path = dir.join("target");
    if !path.exists() {
        fs::write(&path, b"").unwrap();
    }
    let mode = choices.byte();
    let (file, journal) = if mode & 1 != 0 {
        let len = choices.word() as usize % 9000;
        (vec![choices.byte(); len], choices.0.to_vec())
    } else {
        made(&mut choices, &path)
    };
    fs::write(&path, &file).unwrap();
    let named = mode & 2 != 0;
    let beside = dir.join(".target.mmapctl-undo");
    let place = if named { dir.join("named") } else { beside };
    fs::write(&place, &journal).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).unwrap();

    let run = || {
        let backing = Backing::open(&path, Access::Write, Duration::ZERO).unwrap();
        let there = if named {
            JournalPath::at(&place)
        } else {
            JournalPath::beside(&backing).unwrap().unwrap()
        };
        recover(&mut Region::sliding(backing, Prot::ReadWrite).unwrap(), &there, || ())
    };
    let outcome = run();
    let after = fs::read(&path).unwrap();
    let left = fs::read(&place).ok();
    match outcome {
        Err(_) => {
            assert!(after == file, "refused, and changed");
            assert!(left.as_deref() == Some(&journal), "refused, and the journal is gone");
            fs::remove_file(&place).unwrap();
            return;
        }
        Ok(Recovery::Nothing) => panic!("the journal was not seen"),
        Ok(Recovery::Unfinished) => {
            assert!(after == file, "never begun, and changed");
            assert!(said(&journal).is_none(), "a sound journal was forgotten");
            let ours = journal.starts_with(b"MMAPUNDO");
            assert!(ours || !named || journal.is_empty(), "a file of the user's was removed");
        }
        Ok(Recovery::PutBack) => {
            let said = said(&journal).expect("an unsound journal was used");
            let len = file.len() as u64;
            assert!(len == said.before || len == said.after, "a file of another length");
            let mut want = file.clone();
            want.resize(said.before as usize, 0);
            for (at, old, _) in &said.edits {
                let at = *at as usize;
                let end = want.len().min(at + old.len());
                if at < end {
                    want[at..end].copy_from_slice(&old[..end - at]);
                }
            }
            assert!(after == want, "other bytes than the covered ones changed, or not all of those");
            let strict = match said.resizing {
                true => said.before.min(said.after) as usize,
                false => file.len(),
            };
            for (at, old, new) in &said.edits {
                let file = file.iter().take(strict).enumerate();
                for (index, have) in file.skip(*at as usize).take(old.len()) {
                    let nth = index - *at as usize;
                    assert!(*have == old[nth] || *have == new[nth], "a byte of somebody else's was lost");
                }
            }
        }
    }
    assert_eq!(left, None, "the journal is still there");
    assert_eq!(run().unwrap(), Recovery::Nothing);
    assert!(fs::read(&path).unwrap() == after);
}
