//! Errors injected into every system call of an atomic patch and of a recovery: the exit code, the bytes and the journal
//! always agree. And arbitrary bytes in the journal's place.
//!
//! `MMAPCTL_CRASHES=all` tries every call; otherwise a sample of them is taken, another in every run.

use crate::support::strace::*;
use crate::support::torn::{beside, old, torn, torn_with};
use crate::support::*;
use mmapctl::edit::{JournalPath, Recovery, recover};
use mmapctl::mapping::{Access, Backing, Prot, Region};
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

const RECOVER: &str = "patch f --script /dev/null";

/// Calls whose result the program does not need, or that cannot fail: its own memory, exiting, signals, random seeds.
const OTHERS: [&str; 12] = [
    "brk",
    "munmap",
    "exit_group",
    "sigaltstack",
    "rt_sigprocmask",
    "getrandom",
    "getpid",
    "mremap",
    "fcntl",
    "close",
    "ioctl",
    "prlimit64",
];

/// The system calls of `line` from the opening of "f" on: the name, the count and the line of strace.
fn calls(dir: &Sandbox, line: &str) -> Vec<(String, u32, String)> {
    dir.straced(&["-y"], line).code(0);
    let log = dir.strace_log();
    let (mut counts, mut found, mut begun) = (HashMap::new(), Vec::new(), false);
    for line in log.lines() {
        let Some((name, arguments)) = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('('))
        else {
            continue;
        };
        let count = counts.entry(name.to_string()).or_insert(0);
        *count += 1;
        begun |= name == "openat" && arguments.contains("\"f\"");
        if begun && !OTHERS.contains(&name) && !arguments.contains("MAP_ANONYMOUS") && !name.starts_with("+++") {
            found.push((name.to_string(), *count, arguments.to_string()));
        }
    }
    found
}

/// Every fault of a sample of the calls, with the line of the call.
fn faults_of(dir: &Sandbox, line: &str) -> Vec<(String, String)> {
    let all = std::env::var("MMAPCTL_CRASHES").is_ok_and(|wish| wish == "all");
    let step = if all { 1 } else { 3 };
    let mut faults = Vec::new();
    for (name, nth, doing) in calls(dir, line) {
        for fault in ["EIO", "ENOSPC", "EINTR"] {
            faults.push((format!("{name}:error={fault}:when={nth}"), doing.clone()));
            // An interrupted call is tried again, for ever if necessary.
            if fault != "EINTR" {
                faults.push((format!("{name}:error={fault}:when={nth}+"), doing.clone()));
            }
        }
    }
    let first = Chance::new().below(step as u64) as usize;
    faults.into_iter().skip(first).step_by(step).collect()
}

/// Runs `line` on what is in `dir`, with a fault.
fn injected(dir: &Sandbox, fault: &str, line: &str) -> Outcome {
    let output = dir.inject(&[fault], line);
    let text = output.stderr();
    assert_eq!(output.status.signal(), None, "{fault}: {line}: {text}");
    assert!(!text.contains("panicked") && output.exit() <= 4, "{fault}: {line}: {}: {text}", output.exit());
    output
}

/// Checks that a message of exit code 4 names the journal and the command that recovers.
fn says_what_to_run(fault: &str, text: &str, place: &Path, option: &str) {
    let name = place.file_name().unwrap().to_str().unwrap();
    assert!(text.contains("in doubt") && text.contains(name), "{fault}: {text}");
    assert!(text.contains(&format!("'mmapctl patch f --script /dev/null{option}'")), "{fault}: {text}");
}

/// Whether a journal that could not be removed undoes nothing.
fn has_served(journal: &[u8]) -> bool {
    journal.starts_with(b"MMAPDONE")
}

fn patched_with_faults(place: &Path, dir: &Sandbox, script: &str, new: &[u8]) {
    let option = if place == beside(dir) {
        String::new()
    } else {
        format!(" --journal {}", place.display())
    };
    let line = format!("patch f --atomic --script s{option}");
    dir.file("f", old());
    dir.file("s", format!("# mmapctl-patch 1\n{script}"));
    let mut seen = HashMap::new();
    for (fault, doing) in faults_of(dir, &line) {
        dir.file("f", old());
        let output = injected(dir, &fault, &line);
        let (bytes, text) = (dir.read("f"), output.stderr());
        let left = fs::read(place).is_ok_and(|journal| !has_served(&journal));
        let (is_old, is_new) = (bytes == old(), bytes == new);
        let story = format!(
            "{fault} in {doing}: exit {}, old: {is_old}, new: {is_new}, journal: {left}: {text}",
            output.exit()
        );
        *seen.entry(output.exit()).or_insert(0) += 1;
        match output.exit() {
            0 | 3 => assert!(is_new && !left, "{story}"),
            2 => assert!(is_old && !left, "{story}"),
            4 => says_what_to_run(&fault, &text, place, &option),
            _ => panic!("{story}"),
        }
        let after = dir.run(&format!("{RECOVER}{option}"));
        let bytes = dir.read("f");
        assert!(after.ends_with("exit 0") && !place.exists(), "{story}, then {after}");
        assert!(bytes == old() || bytes == new, "{story}, then neither old nor new");
    }
    assert!(seen.contains_key(&0) && seen.contains_key(&2), "{seen:?}");
}

fn new() -> Vec<u8> {
    torn::new()
}

const KEPT: &str = "100: -> fill:ee:4\n5000: -> fill:ee:4\n15000: -> fill:ee:4\n";

#[test]
fn atomic_patch_faults_code_bytes_and_journal_agree() {
    if strace_works() {
        let dir = Sandbox::new();
        patched_with_faults(&beside(&dir), &dir, KEPT, &new());
    }
}

#[test]
fn atomic_resize_faults_code_bytes_and_journal_agree() {
    if strace_works() {
        let dir = Sandbox::new();
        let mut grown = new();
        grown.resize(50_000, 0);
        let script = format!("size 20000 -> 50000\n{KEPT}");
        patched_with_faults(&beside(&dir), &dir, &script, &grown);
        let script = "size 20000 -> 9000\n100: -> fill:ee:4\n5000: -> fill:ee:4\n";
        patched_with_faults(&beside(&dir), &dir, script, &new()[..9_000]);
    }
}

#[test]
fn named_journal_faults_agree_and_the_message_names_it() {
    if strace_works() {
        let (dir, elsewhere) = (Sandbox::new(), Sandbox::new());
        patched_with_faults(&elsewhere.join("j"), &dir, KEPT, &new());
    }
}

#[test]
fn recovery_faults_code_bytes_and_journal_agree() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let place = beside(&dir);
    torn(&dir);
    let mut seen = HashMap::new();
    for (fault, doing) in faults_of(&dir, RECOVER) {
        let path = torn(&dir);
        let (half, record) = (read(&path), read(&place));
        let output = injected(&dir, &fault, RECOVER);
        let (bytes, text) = (read(&path), output.stderr());
        let left = fs::read(&place).ok();
        let story = format!("{fault} in {doing}: exit {}, journal: {}: {text}", output.exit(), left.is_some());
        *seen.entry(output.exit()).or_insert(0) += 1;
        match output.exit() {
            0 => assert!(bytes == old() && left.is_none(), "{story}"),
            // Nothing was touched, or all was put back.
            2 if left.as_ref().is_some_and(|left| !has_served(left)) => {
                assert!(bytes == half && left == Some(record), "{story}")
            }
            2 => assert!(bytes == old(), "{story}"),
            4 => says_what_to_run(&fault, &text, &place, ""),
            _ => panic!("{story}"),
        }
        assert!(dir.run(RECOVER).ends_with("exit 0"), "{story}");
        assert!(read(&path) == old() && !place.exists(), "{story}, and no second recovery mends it");
    }
    assert!([0, 2, 4].iter().all(|code| seen.contains_key(code)), "{seen:?}");
}

#[test]
fn a_failed_recovery_names_the_journal_option() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let place = dir.join("a b");
    torn_with(&dir, &place);
    fs::rename(&place, dir.join("j")).unwrap();
    let output = injected(&dir, "msync:error=EIO:when=1+", &format!("{RECOVER} --journal j"));
    output.code(4);
    says_what_to_run("msync", &output.stderr(), Path::new("j"), " --journal j");
}

#[test]
fn a_rolled_back_patch_is_2_even_if_its_journal_may_stay() {
    needs!(strace_works());
    let dir = Sandbox::new();
    dir.file("f", old());
    let options = ["msync:error=EIO:when=1", "fsync:error=EIO:when=3"];
    dir.inject(&options, "patch f --atomic -o 100 dead")
        .code(2)
        .stderr_has("put back")
        .stderr_has("not proven durable");
    assert!(dir.read("f") == old() && !beside(&dir).exists());
}

// ---- arbitrary bytes in the journal's place ----

const SMALL: usize = 300;

/// Something like a journal: parts of a valid one, wrong numbers, with a valid checksum or without.
fn journals() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let length = prop_oneof![8 => Just(SMALL as u64), 2 => 0..600u64, 1 => Just(1 << 20), 1 => (1u64 << 62)..];
    let edit = (0..SMALL as u64 + 20, prop::collection::vec(any::<bool>(), 0..12));
    let edits = prop::collection::vec(edit, 0..5);
    let change = prop::option::weighted(0.4, (0..200usize, any::<u8>()));
    let cut = prop::option::weighted(0.2, 0..200usize);
    (length.clone(), length, edits, change, cut, any::<bool>(), any::<bool>()).prop_map(
        |(before, after, mut edits, change, cut, seal, ours)| {
            edits.sort();
            let bytes = noise_with(0);
            let edit = |(at, differs): &(u64, Vec<bool>)| {
                let old: Vec<u8> =
                    (0..differs.len()).map(|index| bytes.get(*at as usize + index).copied().unwrap_or(0)).collect();
                let new = old.iter().zip(differs).map(|(old, differs)| old ^ (u8::from(*differs) * 0x5a)).collect();
                // Either side may be the one that the file has.
                (*at, old, new)
            };
            let edits: Vec<_> = edits
                .iter()
                .map(edit)
                .map(|(at, old, new): (u64, Vec<u8>, Vec<u8>)| if ours { (at, old, new) } else { (at, new, old) })
                .collect();
            // Of which file, recovered() fills in.
            let mut record = torn::journal([0; 3], before, after, &edits);
            if let Some((at, byte)) = change {
                let at = at % record.len();
                record[at] = byte;
            }
            if let Some(len) = cut {
                record.truncate(len);
            }
            if seal && record.len() >= 4 {
                record.truncate(record.len() - 4);
                record = torn::sealed(record);
            }
            (record, seal)
        },
    )
}

fn noise_with(byte: u8) -> Vec<u8> {
    let mut bytes = noise(SMALL);
    bytes[0] ^= byte;
    bytes
}

/// What a journal covers of a file, and the length that it sets, by an independent parser. `None` when it is not valid.
fn covers(record: &[u8], target: torn::Identity) -> Option<(Vec<std::ops::Range<u64>>, u64)> {
    let (body, sum) = record.split_at_checked(record.len().checked_sub(4)?)?;
    let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let version = number(8)? & (u64::MAX >> 8);
    if torn::sum(body) != sum || !body.starts_with(b"MMAPUNDO") || version != 3 {
        return None;
    }
    let [_, inode, born] = target;
    if number(24)? != inode || ![0, born].contains(&number(32)?) {
        return None;
    }
    let count = number(56)?.min(1000) as usize;
    let ranges = (0..count)
        .map(|index| Some(number(64 + index * 16)?..number(64 + index * 16)?.checked_add(number(72 + index * 16)?)?));
    Some((ranges.collect::<Option<_>>()?, number(40)?))
}

/// `record` with the identity of the file at `path`, if it has a valid checksum and no identity.
fn addressed(record: &[u8], path: &Path) -> Vec<u8> {
    let mut record = record.to_vec();
    let body = record.len().saturating_sub(4);
    if record.get(16..40) == Some(&[0; 24]) && torn::sealed(record[..body].to_vec()) == record {
        for (place, number) in record[16..40].chunks_exact_mut(8).zip(torn::identity(path)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        record.truncate(body);
        record = torn::sealed(record);
    }
    record
}

/// Recovers "f", of `bytes`, from a journal of `record`. Returns the journal as written, the result, and the bytes of
/// "f" afterwards.
fn recovered(dir: &Sandbox, bytes: &[u8], record: &[u8]) -> (Vec<u8>, mmapctl::edit::Result<Recovery>, Vec<u8>) {
    let path = dir.file("f", bytes);
    let record = addressed(record, &path);
    torn::put(&beside(dir), &record);
    let backing = Backing::open(&path, Access::Write, Duration::ZERO).unwrap();
    let place = JournalPath::beside(&backing).unwrap().unwrap();
    let mut region = Region::sliding(backing, Prot::ReadWrite).unwrap();
    let outcome = recover(&mut region, &place, || ());
    // A journal may well say that the file had a terabyte.
    let mut after = Vec::new();
    fs::File::open(path).unwrap().take(2 << 20).read_to_end(&mut after).unwrap();
    (record, outcome, after)
}

proptest! {
    #[test]
    fn an_arbitrary_journal_changes_only_what_a_valid_one_covers((record, _) in journals()) {
        let dir = Sandbox::new();
        let before = noise_with(0);
        let (record, outcome, after) = recovered(&dir, &before, &record);
        match (covers(&record, torn::identity(&dir.join("f"))), outcome) {
            (Some((ranges, len)), Ok(Recovery::PutBack)) => {
                prop_assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), len);
                for (at, (was, is)) in before.iter().zip(&after).enumerate() {
                    prop_assert!(was == is || ranges.iter().any(|range| range.contains(&(at as u64))), "byte {}", at);
                }
                prop_assert!(!beside(&dir).exists());
            }
            (_, Ok(outcome)) => {
                prop_assert!(outcome == Recovery::Unfinished && after == before);
                prop_assert!(!beside(&dir).exists());
            }
            (_, Err(error)) => {
                // A length beyond what the file system has is met when it is to be set.
                prop_assert!(after == before, "{:#}", error);
                prop_assert!(beside(&dir).exists());
            }
        }
    }

    #[test]
    fn bytes_that_are_no_journal_at_all_change_nothing(record in prop::collection::vec(any::<u8>(), 0..300), seal: bool) {
        let dir = Sandbox::new();
        let record = if seal { torn::sealed(record) } else { record };
        let (_, outcome, after) = recovered(&dir, &noise_with(1), &record);
        prop_assert!(after == noise_with(1));
        prop_assert!(matches!(outcome, Ok(Recovery::Unfinished) | Err(_)));
    }
}

#[test]
fn enough_of_the_arbitrary_journals_are_valid() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let dir = Sandbox::new();
    let mut put_back = 0;
    for _ in 0..200 {
        let (record, _) = journals().new_tree(&mut runner).unwrap().current();
        let (_, outcome, _) = recovered(&dir, &noise_with(0), &record);
        put_back += u32::from(matches!(outcome, Ok(Recovery::PutBack)));
        let _ = fs::remove_file(beside(&dir));
    }
    assert!(put_back > 10, "{put_back} of 200");
}
