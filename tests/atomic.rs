//! `--atomic`: where the journal is, what every verb does about one that is found, and which are refused.

use crate::support;
use crate::support::faults::{code, stderr, strace_works, straced, words};
use crate::support::torn::{beside, edits, identity, journal, old, put, torn, torn_with};
use crate::support::{
    BINARY, Mount, State, as_ordinary_user, eventually, file, has, is_root, mmapctl, noise, refused, run, scratch,
    skip, spawnable,
};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

const NOTE: &str = "an atomic patch had been cut short; the file was put back as it was before it";
const RECOVER: &str = "patch f --script /dev/null";

#[test]
fn an_atomic_patch_leaves_what_a_plain_one_leaves_and_no_journal() {
    for line in [
        "patch f -o 100 --expect V fill:77:9000",
        "patch f -o 19998 --grow fill:77:9000",
        "patch f --script s",
        "patch f -o 0 hex: --sync",
    ] {
        let line = line.replace(" --expect V", "");
        let (plain, atomic) = (scratch(), scratch());
        for dir in [&plain, &atomic] {
            file(dir.path(), "f", &old());
            file(
                dir.path(),
                "s",
                b"# mmapctl-patch 1\nsize 20000 -> 5000\n8: -> text:short\n",
            );
        }
        let synced = run(
            plain.path(),
            &format!("{line} --sync").replace("--sync --sync", "--sync"),
        );
        assert_eq!(run(atomic.path(), &format!("{line} --atomic")), synced, "{line}");
        let bytes = |dir: &Path| fs::read(dir.join("f")).unwrap();
        assert!(bytes(plain.path()) == bytes(atomic.path()), "{line}");
        assert_eq!(
            fs::read_dir(atomic.path()).unwrap().count(),
            2,
            "{line}: something is left"
        );
    }
}

#[test]
fn the_report_says_that_it_was_atomic_and_is_durable() {
    let dir = scratch();
    file(dir.path(), "f", &old());
    let report = support::report(dir.path(), "patch f -o 0 dead --atomic");
    assert_eq!((&report["atomic"], &report["durable"]), (&true.into(), &true.into()));
}

#[test]
fn every_verb_that_writes_recovers_first_and_says_so() {
    let dir = scratch();
    for (line, at, bytes) in [
        ("patch f -o 100 deadbeef", 100, vec![0xde, 0xad, 0xbe, 0xef]),
        ("patch f -o 100 deadbeef --atomic", 100, vec![0xde, 0xad, 0xbe, 0xef]),
        ("zero f -o 100 -n 2", 100, vec![0, 0]),
        ("remap f --size +1", super_end(), vec![0]),
        (RECOVER, 0, vec![]),
    ] {
        let path = torn(dir.path());
        let text = run(dir.path(), line);
        assert!(
            text.contains(&format!("f: {NOTE}\n")) && text.ends_with("exit 0"),
            "{line}: {text}"
        );
        let mut wanted = old();
        wanted.resize(wanted.len().max(at + bytes.len()), 0);
        wanted[at..at + bytes.len()].copy_from_slice(&bytes);
        assert!(fs::read(path).unwrap() == wanted, "{line}: {text}");
        assert!(!beside(dir.path()).exists(), "{line}: the journal remains");
        let quiet = run(dir.path(), RECOVER);
        assert_eq!(quiet, "f: no edits; nothing was written\nexit 0", "{line}");
    }
    torn(dir.path());
    let text = run(dir.path(), &format!("-q {RECOVER}"));
    assert!(!text.contains(NOTE), "--quiet: {text}");

    // A verb that then fails has changed the file all the same.
    for line in [
        "patch f -o 100 --expect 0000 dead",
        "zero f -r ..1T",
        "remap f --size 8000T",
    ] {
        for (options, said) in [("-q ", "put back as it was"), ("--json ", "\"recovered\":true")] {
            torn(dir.path());
            let text = run(dir.path(), &format!("{options}{line}"));
            assert!(
                text.contains(said) && !text.ends_with("exit 0"),
                "{options}{line}: {text}"
            );
            assert!(fs::read(dir.path().join("f")).unwrap() == old(), "{options}{line}");
        }
    }
}

fn super_end() -> usize {
    support::torn::SIZE
}

#[test]
fn verbs_that_read_refuse_a_file_that_waits_for_recovery_unless_told_otherwise() {
    let dir = scratch();
    file(dir.path(), "g", &old());
    torn(dir.path());
    for line in [
        "cat f",
        "cat f -x",
        "map f",
        "patch f -o 0 dead --dry-run",
        "patch f --diff g",
        "patch g --diff f",
    ] {
        let record = fs::read(beside(dir.path())).unwrap();
        let text = support::refused_without_touching(dir.path(), line, b"");
        assert!(
            text.contains("recovery needed") && text.contains(".f.mmapctl-undo"),
            "{line}: {text}"
        );
        assert!(text.contains("mmapctl patch f --script /dev/null"), "{line}: {text}");
        assert!(
            fs::read(beside(dir.path())).unwrap() == record,
            "{line}: the journal was touched"
        );
    }
    let output = mmapctl(dir.path(), &["cat", "f", "--ignore-journal"]).output().unwrap();
    assert!(output.status.success() && output.stdout == fs::read(dir.path().join("f")).unwrap());
    assert_eq!(
        code(&mmapctl(dir.path(), &["map", "f", "--ignore-journal"]).output().unwrap()),
        0
    );
}

#[test]
fn sync_makes_the_half_patched_file_durable_warns_and_ends_with_4() {
    let dir = scratch();
    let path = torn(dir.path());
    let before = fs::read(&path).unwrap();
    let text = run(dir.path(), "sync f");
    assert!(
        text.starts_with("f: 0x0..0x4e20 durable") && text.ends_with("exit 4"),
        "{text}"
    );
    assert!(
        text.contains("recovery needed") && text.contains("--script /dev/null"),
        "{text}"
    );
    assert!(fs::read(path).unwrap() == before && beside(dir.path()).exists());
}

/// Runs writers on "f", which has to be refused with `why`, with nothing touched.
fn is_refused(dir: &Path, why: &str) {
    let path = dir.join("f");
    for line in [
        RECOVER,
        "zero f -o 0 -n 1",
        "patch f -o 0 dead --atomic",
        "remap f --size 1M",
    ] {
        let (before, inode) = (State::of(&path), fs::symlink_metadata(beside(dir)).unwrap().ino());
        let text = refused(dir, line, b"");
        assert!(
            (text.contains("recovery needed, and refused") || text.contains("recovery refused")) && text.contains(why),
            "{line}: {text}"
        );
        assert!(
            text.contains("mv -nT ") && text.contains(".f.mmapctl-undo"),
            "what to do: {line}: {text}"
        );
        assert!(State::of(&path) == before, "{why}: {line}: the file was touched");
        let after = fs::symlink_metadata(beside(dir)).unwrap().ino();
        assert_eq!(after, inode, "{why}: {line}: the journal was touched");
    }
}

#[test]
fn a_journal_that_does_not_fit_the_file_is_refused() {
    let dir = scratch();
    let path = torn(dir.path());
    let place = beside(dir.path());
    let (target, size) = (identity(&path), support::torn::SIZE as u64);
    let good = fs::read(&place).unwrap();

    let [device, inode, born] = target;
    put(&place, &journal([device, inode + 1, born], size, size, &edits()));
    is_refused(dir.path(), "another file: inode");
    // One that was removed, and its inode number given to this one.
    put(&place, &journal([device, inode, born + 1], size, size, &edits()));
    is_refused(dir.path(), "made at another time");

    put(&place, &journal(target, size + 1, size + 2, &edits()));
    is_refused(dir.path(), "neither the 0x4e21 of before nor the 0x4e22 of after");

    put(&place, &good);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5_000] = old()[5_000] ^ 0x55;
    fs::write(&path, bytes).unwrap();
    is_refused(dir.path(), "0x1388 is neither the old nor the new one");

    // Of what the file has grown by, putting back takes all away.
    put(&place, &journal(target, size, size + 10_000, &edits()));
    let grown = |stray: &[u8]| {
        let mut bytes = old();
        bytes.resize(size as usize + 9_000, 0);
        bytes.extend_from_slice(stray);
        bytes.resize(size as usize + 10_000, 0);
        fs::write(&path, bytes).unwrap();
    };
    grown(b"precious");
    is_refused(dir.path(), "0x7148 is neither the old nor the new one");
    grown(b"");
    assert!(run(dir.path(), RECOVER).ends_with("exit 0"));
    assert!(fs::read(&path).unwrap() == old());
}

#[test]
fn a_whole_journal_that_is_not_understood_is_refused_and_not_thrown_away() {
    let dir = scratch();
    let path = torn(dir.path());
    let place = beside(dir.path());
    let (target, size) = (identity(&path), support::torn::SIZE as u64);
    let good = fs::read(&place).unwrap();
    let change = |at: usize, value: u64| {
        let mut bytes = good[..good.len() - 4].to_vec();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        support::torn::sealed(bytes)
    };
    for (record, why) in [
        (change(8, 1), "another version"),
        (change(8, 0), "another version"),
        (change(0, 7), "no journal"),
        (change(56, 4), "its contents are not"),
        (change(56, u64::MAX), "its contents are not"),
        (change(72, 5), "its contents are not"),
        (change(72, u64::MAX), "its contents are not"),
        (change(64, u64::MAX), "its contents are not"),
        (change(80, 0), "its contents are not"),
        (
            journal(target, size, size, &[(size, vec![1], vec![2])]),
            "its contents are not",
        ),
    ] {
        put(&place, &record);
        is_refused(dir.path(), why);
    }
}

#[test]
fn what_is_no_regular_file_in_the_place_of_the_journal_is_refused() {
    let dir = scratch();
    torn(dir.path());
    let place = beside(dir.path());
    let other = dir.path().join("other");
    fs::rename(&place, &other).unwrap();

    symlink("other", &place).unwrap();
    is_refused(dir.path(), "symbolic link");
    assert!(other.exists());
    fs::remove_file(&place).unwrap();
    symlink("nowhere", &place).unwrap();
    is_refused(dir.path(), "symbolic link");
    assert!(!dir.path().join("nowhere").exists());
    fs::remove_file(&place).unwrap();

    nix::unistd::mkfifo(&place, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    is_refused(dir.path(), "not a regular file");
    fs::remove_file(&place).unwrap();

    fs::create_dir(&place).unwrap();
    is_refused(dir.path(), "not a regular file");
}

#[test]
fn a_journal_of_another_user_is_refused() {
    let test = "a_journal_of_another_user_is_refused";
    if !is_root() {
        return skip(test, "giving a file away takes root");
    }
    let dir = scratch();
    torn(dir.path());
    chown(beside(dir.path()), Some(12_345), None).unwrap();
    is_refused(dir.path(), "another user");
    // The owner's of the file is as good as ours.
    chown(dir.path().join("f"), Some(12_345), None).unwrap();
    assert!(run(dir.path(), RECOVER).contains(NOTE));
}

#[test]
fn a_journal_that_was_never_finished_is_taken_away_and_the_file_left_alone() {
    let dir = scratch();
    let path = torn(dir.path());
    let good = fs::read(beside(dir.path())).unwrap();
    let mut flipped = good.clone();
    flipped[60] ^= 1;
    let cut = (0..good.len()).step_by(7).map(|len| good[..len].to_vec());
    let sectors = [
        vec![0; 512],
        vec![0; 4096],
        noise(512),
        flipped,
        [&good[..], b"x"].concat(),
    ];
    for record in cut.chain(sectors) {
        put(&beside(dir.path()), &record);
        let before = State::of(&path);
        assert_eq!(run(dir.path(), RECOVER), "f: no edits; nothing was written\nexit 0");
        assert!(
            State::of(&path) == before,
            "{} bytes: the file was touched",
            record.len()
        );
        assert!(!beside(dir.path()).exists(), "{} bytes: it remains", record.len());
    }
}

#[test]
fn a_file_that_the_user_names_as_journal_and_is_none_is_not_thrown_away() {
    let dir = scratch();
    file(dir.path(), "f", &old());
    file(dir.path(), "notes", b"milk, bread");
    for line in [
        "patch f -o 0 dead --journal notes",
        "patch f -o 0 dead --atomic --journal notes",
    ] {
        let text = support::refused_without_touching(dir.path(), line, b"");
        assert!(text.contains("no journal of mmapctl's"), "{text}");
        assert_eq!(fs::read(dir.path().join("notes")).unwrap(), b"milk, bread");
    }
    // Zeros may be a journal that never came to the disk, or anything of the user's: a name of theirs is theirs.
    for theirs in [&b""[..], b"MMAP", &[0; 600]] {
        file(dir.path(), "notes", theirs);
        support::refused_without_touching(dir.path(), "patch f -o 0 dead --atomic --journal notes", b"");
        assert_eq!(fs::read(dir.path().join("notes")).unwrap(), theirs);
    }
    file(dir.path(), "notes", b"MMAPUNDO\x01\0");
    // Nor is what begins like one, and can be read by others.
    support::refused_without_touching(dir.path(), "patch f -o 0 dead --journal notes", b"");
    put(&dir.path().join("notes"), b"MMAPUNDO\x01\0");
    let text = run(dir.path(), "patch f -o 0 dead --atomic --journal notes");
    assert!(text.ends_with("exit 0") && !dir.path().join("notes").exists(), "{text}");
    // Nor is the file itself its journal, even if it should begin like one.
    file(dir.path(), "f", b"MMAPUNDO and more");
    support::refused_without_touching(dir.path(), "patch f -o 0 dead --journal f", b"");
    support::refused_without_touching(dir.path(), "patch f -o 0 dead --atomic --journal f", b"");
}

#[test]
fn a_named_journal_is_recovered_by_its_name_and_one_beside_the_file_too() {
    let dir = scratch();
    let elsewhere = scratch();
    let named = elsewhere.path().join("j");
    let line = format!("{RECOVER} --journal {}", named.display());
    torn_with(dir.path(), &named);
    assert!(run(dir.path(), &line).contains(NOTE));
    assert!(fs::read(dir.path().join("f")).unwrap() == old() && !named.exists());
    torn(dir.path());
    assert!(
        run(dir.path(), &line).contains(NOTE),
        "the one beside the file is forgotten"
    );
    assert!(fs::read(dir.path().join("f")).unwrap() == old() && !beside(dir.path()).exists());
}

#[test]
fn a_folder_that_takes_no_journal_makes_the_user_name_a_place() {
    let test = "a_folder_that_takes_no_journal_makes_the_user_name_a_place";
    let (dir, elsewhere) = (scratch(), scratch());
    let path = file(dir.path(), "f", &old());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let ask =
        |line: &str| as_ordinary_user(test, spawnable(dir.path(), &words(line))).map(|mut it| it.output().unwrap());
    let Some(output) = ask("patch f -o 0 dead --atomic") else {
        return;
    };
    let text = support::check_refusal("--atomic", &output);
    assert!(text.contains("--journal PATH"), "{text}");
    assert!(fs::read(&path).unwrap() == old());
    let named = elsewhere.path().join("j");
    let output = ask(&format!("patch f -o 0 dead --atomic --journal {}", named.display())).unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::read(&path).unwrap().starts_with(&[0xde, 0xad]) && !named.exists());
    // Plain edits need no journal.
    assert_eq!(code(&ask("patch f -o 0 beef").unwrap()), 0);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// A loop device on an image, detached with the test.
struct Device(String);

impl Device {
    fn new(test: &str, image: &Path) -> Option<Device> {
        if !is_root() || !has(test, "losetup") {
            skip(test, "a loop device takes root");
            return None;
        }
        let output = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(image)
            .output()
            .ok()?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_string();
        if name.is_empty() {
            skip(test, &format!("losetup: {}", stderr(&output).trim()));
            return None;
        }
        Some(Device(name))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).output();
    }
}

#[test]
fn a_device_is_patched_atomically_with_a_named_journal_and_known_again_by_its_bytes() {
    let test = "a_device_is_patched_atomically_with_a_named_journal_and_known_again_by_its_bytes";
    let dir = scratch();
    let image = file(dir.path(), "image", &noise(1 << 20));
    let Some(device) = Device::new(test, &image) else {
        return;
    };
    let line = format!("patch {} --force -o 4096 fill:aa:8", device.0);
    let text = refused(dir.path(), &format!("{line} --atomic"), b"");
    assert!(text.contains("--journal PATH"), "{text}");
    assert!(run(dir.path(), &format!("{line} --atomic --journal j")).ends_with("durable\nexit 0"));
    assert!(!dir.path().join("j").exists());
    // The next time it may be another node with another inode number.
    if strace_works(test) {
        let line = line.replace("aa:8", "bb:8");
        let output = straced(
            dir.path(),
            &["-e", "inject=msync:signal=KILL:when=1"],
            &format!("{line} --atomic --journal j"),
        );
        assert_eq!(code(&output), 128 + 9);
        let inode = u64::from_le_bytes(fs::read(dir.path().join("j")).unwrap()[24..32].try_into().unwrap());
        assert_eq!(inode, 0);
        let text = run(
            dir.path(),
            &format!("patch {} --force --script /dev/null --journal j", device.0),
        );
        assert!(text.contains(NOTE) && text.ends_with("exit 0"), "{text}");
    }
    drop(device);
    assert!(eventually(|| fs::read(&image).unwrap()[4096..4104] == [0xaa; 8]));
}

#[test]
fn a_name_too_long_for_a_journal_beside_it_is_in_nobodys_way() {
    let dir = scratch();
    for len in [241, 242, 255] {
        let name = "n".repeat(len);
        file(dir.path(), &name, &old());
        for line in [
            "patch N -o 0 dead",
            "zero N -o 0 -n 1",
            "remap N --size +1",
            "cat N -n 1 -x",
            "map N",
            "sync N",
        ] {
            let text = run(dir.path(), &line.replace('N', &name));
            assert!(text.ends_with("exit 0"), "{len}: {line}: {text}");
        }
        let line = format!("patch {name} -o 0 beef --atomic");
        if len == 241 {
            assert!(run(dir.path(), &line).ends_with("durable\nexit 0"));
        } else {
            let text = refused(dir.path(), &line, b"");
            assert!(
                text.contains("name too long") && text.contains("--journal PATH"),
                "{text}"
            );
        }
        let text = run(dir.path(), &format!("patch {name} -o 0 f00d --atomic --journal j"));
        assert!(text.ends_with("durable\nexit 0"), "{text}");
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_journal_of_a_symlinks_target_is_beside_the_target() {
    let test = "the_journal_of_a_symlinks_target_is_beside_the_target";
    let dir = scratch();
    let deep = dir.path().join("deep");
    fs::create_dir(&deep).unwrap();
    let path = torn(&deep);
    symlink("deep/f", dir.path().join("link")).unwrap();
    symlink("deep", dir.path().join("way")).unwrap();
    for line in ["cat link", "cat way/f"] {
        assert!(refused(dir.path(), line, b"").contains("recovery needed"));
    }
    assert!(run(dir.path(), "patch link --script /dev/null").contains(NOTE));
    assert!(fs::read(&path).unwrap() == old() && !beside(&deep).exists());
    if strace_works(test) {
        let kill = ["-e", "inject=msync:signal=KILL:when=1"];
        assert_eq!(
            code(&straced(dir.path(), &kill, "patch link --atomic -o 0 dead")),
            128 + 9
        );
        assert!(beside(&deep).exists() && !dir.path().join(".link.mmapctl-undo").exists());
    }
}

#[test]
fn a_file_without_a_name_has_no_journal_beside_it() {
    let dir = scratch();
    let shell = |line: &str| {
        file(dir.path(), "f", &old());
        let script = format!("exec 3<>f; rm f; {BINARY} patch /dev/fd/3 -o 0 dead {line}");
        let mut command = Command::new("sh");
        command.current_dir(dir.path()).args(["-c", &script]).env("LC_ALL", "C");
        command.stdin(Stdio::null()).output().unwrap()
    };
    assert_eq!(code(&shell("--sync")), 0);
    let output = shell("--atomic");
    let text = support::check_refusal("--atomic", &output);
    assert!(text.contains("--journal PATH"), "{text}");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "a journal of a file that is gone"
    );
    assert_eq!(code(&shell("--atomic --journal j")), 0);
}

#[test]
fn while_an_atomic_patch_is_at_work_readers_read_and_afterwards_they_refuse() {
    let dir = scratch();
    let path = torn(dir.path());
    let holder = File::options().write(true).open(&path).unwrap();
    holder.lock().unwrap();
    // A patch marks its journal so.
    let journal = File::open(beside(dir.path())).unwrap();
    support::torn::mark_at_work(&journal);
    for line in ["cat f -n 1 -x", "map f", "sync f"] {
        let text = run(dir.path(), line);
        assert!(text.ends_with("exit 0"), "{line}: {text}");
    }
    assert!(beside(dir.path()).exists());
    // Writers wait.
    let text = refused(dir.path(), &format!("{RECOVER} --lock-timeout 50ms"), b"");
    assert!(text.contains("lock"), "{text}");
    holder.unlock().unwrap();
    drop(journal);
    assert!(refused(dir.path(), "cat f", b"").contains("recovery needed"));
}

#[test]
fn a_reader_that_is_slow_to_ask_for_the_lock_looks_again_whether_the_journal_is_there() {
    let test = "a_reader_that_is_slow_to_ask_for_the_lock_looks_again_whether_the_journal_is_there";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    let path = torn(dir.path());
    let holder = File::options().write(true).open(&path).unwrap();
    holder.lock().unwrap();
    let log = dir.path().join("strace.log");
    let slow = ["-e", "inject=flock:delay_enter=500000"];
    let output = std::thread::scope(|scope| {
        let reader = scope.spawn(|| straced(dir.path(), &slow, "cat f -n 4"));
        let looked = eventually(|| fs::read_to_string(&log).is_ok_and(|log| log.contains("mmapctl-undo")));
        assert!(looked, "it does not look for a journal");
        fs::remove_file(beside(dir.path())).unwrap();
        holder.unlock().unwrap();
        reader.join().unwrap()
    });
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn no_reader_takes_a_patch_that_has_just_ended_for_one_that_was_cut_short() {
    let dir = scratch();
    file(dir.path(), "f", &old());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                let text = run(dir.path(), &format!("patch f --atomic -o 0 u32le:{}", round + 1));
                assert!(text.ends_with("exit 0"), "{text}");
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let text = run(dir.path(), "cat f -n 4 -f plain");
            assert!(text.ends_with("exit 0"), "{text}");
        }
    });
}

#[test]
fn two_patches_of_which_one_is_atomic_at_least_come_one_after_the_other_or_are_refused() {
    let dir = scratch();
    let path = file(dir.path(), "f", &old());
    let places = [0, 5_000, 12_000, 19_000];
    for (name, byte) in [("a", "aa"), ("b", "bb")] {
        let lines: String = places.iter().map(|at| format!("{at}: -> fill:{byte}:900\n")).collect();
        file(dir.path(), name, format!("# mmapctl-patch 1\n{lines}").as_bytes());
    }
    let mut refusals = 0;
    for round in 0..200 {
        let timeout = if round % 2 == 0 { "180s" } else { "0" };
        // Now and then with one that is plain.
        let others = if round % 5 < 3 { "--atomic" } else { "--sync" };
        let start = |script: &str, how: &str| {
            let args = ["patch", "f", how, "--script", script, "--lock-timeout", timeout];
            let mut command = spawnable(dir.path(), &args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children = [start("a", "--atomic"), start("b", others)];
        let outputs = children.map(|child| child.wait_with_output().unwrap());
        let codes = [code(&outputs[0]), code(&outputs[1])];
        if round % 2 == 0 {
            assert_eq!(codes, [0, 0], "{}{}", stderr(&outputs[0]), stderr(&outputs[1]));
        } else {
            assert!(
                codes.contains(&0) && codes.iter().all(|code| [0, 2].contains(code)),
                "{codes:?}"
            );
            refusals += codes.iter().filter(|code| **code == 2).count();
        }
        let bytes = fs::read(&path).unwrap();
        let byte = bytes[0];
        assert!([0xaa, 0xbb].contains(&byte));
        let whole = places
            .iter()
            .all(|at| bytes[*at..*at + 900].iter().all(|have| *have == byte));
        assert!(whole, "round {round}: the two are mixed");
        assert!(!beside(dir.path()).exists());
    }
    assert!(
        refusals > 0 || !support::is_disk(dir.path()),
        "none of them ever met another"
    );
}

#[test]
fn a_full_disk_is_met_before_anything_is_written() {
    let test = "a_full_disk_is_met_before_anything_is_written";
    let Some(mount) = Mount::image(test, "mkfs.ext4 -q", 16) else {
        return;
    };
    let path = file(mount.path(), "f", &noise(1 << 20));
    File::open(&path).unwrap().sync_all().unwrap();
    mount.fill();
    let text = refused(mount.path(), "patch f --atomic -o 0 fill:77:1M", b"");
    assert!(
        text.contains("nothing was written") && text.contains("ENOSPC"),
        "{text}"
    );
    assert!(fs::read(&path).unwrap() == noise(1 << 20) && !beside(mount.path()).exists());
}
