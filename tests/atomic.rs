//! `--atomic`: where the journal is, what every verb does when it finds one, and which are refused.

use crate::support::strace::*;
use crate::support::torn::{beside, edits, identity, journal, old, put, torn, torn_with};
use crate::support::*;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::process::Stdio;

const NOTE: &str = "an atomic patch had been interrupted; the file was put back as it was before the patch";
const RECOVER: &str = "patch f --script /dev/null";

#[test]
fn an_atomic_patch_equals_a_plain_one_and_leaves_no_journal() {
    for line in [
        "patch f -o 100 --expect V fill:77:9000",
        "patch f -o 19998 --grow fill:77:9000",
        "patch f --script s",
        "patch f -o 0 hex: --sync",
    ] {
        let line = line.replace(" --expect V", "");
        let (plain, atomic) = (Sandbox::new(), Sandbox::new());
        for dir in [&plain, &atomic] {
            dir.file("f", old());
            dir.file("s", b"# mmapctl-patch 1\nsize 20000 -> 5000\n8: -> text:short\n");
        }
        let synced = plain.run(&format!("{line} --sync").replace("--sync --sync", "--sync"));
        atomic.run(&format!("{line} --atomic")).is(synced.text());
        let bytes = |dir: &Sandbox| dir.read("f");
        assert!(bytes(&plain) == bytes(&atomic), "{line}");
        assert_eq!(fs::read_dir(&atomic).unwrap().count(), 2, "{line}: something is left");
    }
}

#[test]
fn the_report_says_that_it_was_atomic_and_is_durable() {
    let dir = Sandbox::new();
    dir.file("f", old());
    let report = dir.report("patch f -o 0 dead --atomic");
    assert_eq!(report["atomic"], true);
    assert_eq!(report["durable"], true);
}

#[test]
fn every_verb_that_writes_recovers_first_and_says_so() {
    let dir = Sandbox::new();
    for (line, at, bytes) in [
        ("patch f -o 100 deadbeef", 100, vec![0xde, 0xad, 0xbe, 0xef]),
        ("patch f -o 100 deadbeef --atomic", 100, vec![0xde, 0xad, 0xbe, 0xef]),
        ("zero f -o 100 -n 2", 100, vec![0, 0]),
        ("remap f --size +1", super_end(), vec![0]),
        (RECOVER, 0, vec![]),
    ] {
        let path = torn(&dir);
        let text = dir.run(line);
        text.code(0).has(format!("f: {NOTE}\n"));
        let mut wanted = old();
        wanted.resize(wanted.len().max(at + bytes.len()), 0);
        wanted[at..at + bytes.len()].copy_from_slice(&bytes);
        assert!(read(path) == wanted, "{line}: {text}");
        assert!(!beside(&dir).exists(), "{line}: the journal remains");
        let quiet = dir.run(RECOVER);
        assert_eq!(quiet, "f: no edits; nothing was written\nexit 0", "{line}");
    }
    torn(&dir);
    let text = dir.run(&format!("-q {RECOVER}"));
    assert!(!text.contains(NOTE), "--quiet: {text}");

    // A verb that fails after the recovery has changed the file.
    for line in [
        "patch f -o 100 --expect 0000 dead",
        "zero f -r ..1T",
        "remap f --size 8000T",
    ] {
        for (options, said) in [("-q ", "put back as it was"), ("--json ", "\"recovered\":true")] {
            torn(&dir);
            let text = dir.run(&format!("{options}{line}"));
            assert!(text.contains(said) && !text.ends_with("exit 0"), "{options}{line}: {text}");
            assert!(dir.read("f") == old(), "{options}{line}");
        }
    }
}

fn super_end() -> usize {
    torn::SIZE
}

#[test]
fn reading_verbs_refuse_a_file_that_needs_recovery() {
    let dir = Sandbox::new();
    dir.file("g", old());
    torn(&dir);
    for line in [
        "cat f",
        "cat f -x",
        "map f",
        "patch f -o 0 dead --dry-run",
        "patch f --diff g",
        "patch g --diff f",
    ] {
        let record = read(beside(&dir));
        dir.refused_untouched(line)
            .has("recovery needed")
            .has(".f.mmapctl-undo")
            .has("mmapctl patch f --script /dev/null");
        assert!(read(beside(&dir)) == record, "{line}: the journal was touched");
    }
    let output = dir.mmapctl(&["cat", "f", "--ignore-journal"]);
    assert!(output.status.success() && output.stdout == dir.read("f"));
    dir.mmapctl(&["map", "f", "--ignore-journal"]).code(0);
}

#[test]
fn sync_of_a_half_patched_file_warns_and_exits_4() {
    let dir = Sandbox::new();
    let path = torn(&dir);
    let before = read(&path);
    dir.run("sync f")
        .code(4)
        .begins("f: 0x0..0x4e20 durable")
        .has("recovery needed")
        .has("--script /dev/null");
    assert!(read(path) == before && beside(&dir).exists());
}

/// Runs writers on "f": each must be refused with `why` and touch nothing.
fn is_refused(dir: &Sandbox, why: &str) {
    let path = dir.join("f");
    for line in [
        RECOVER,
        "zero f -o 0 -n 1",
        "patch f -o 0 dead --atomic",
        "remap f --size 1M",
    ] {
        let (before, inode) = (State::of(&path), fs::symlink_metadata(beside(dir)).unwrap().ino());
        let text = dir.refused(line);
        assert!(
            (text.contains("recovery needed, and refused") || text.contains("recovery refused")) && text.contains(why),
            "{line}: {text}"
        );
        assert!(text.contains("mv -nT ") && text.contains(".f.mmapctl-undo"), "what to do: {line}: {text}");
        assert!(State::of(&path) == before, "{why}: {line}: the file was touched");
        let after = fs::symlink_metadata(beside(dir)).unwrap().ino();
        assert_eq!(after, inode, "{why}: {line}: the journal was touched");
    }
}

#[test]
fn a_journal_that_does_not_fit_the_file_is_refused() {
    let dir = Sandbox::new();
    let path = torn(&dir);
    let place = beside(&dir);
    let (target, size) = (identity(&path), torn::SIZE as u64);
    let good = read(&place);

    let [device, inode, born] = target;
    put(&place, &journal([device, inode + 1, born], size, size, &edits()));
    is_refused(&dir, "another file: inode");
    // One that was removed, and its inode number given to this one.
    put(&place, &journal([device, inode, born + 1], size, size, &edits()));
    is_refused(&dir, "made at another time");

    put(&place, &journal(target, size + 1, size + 2, &edits()));
    is_refused(&dir, "neither 0x4e21 as before the patch nor 0x4e22 as after it");

    put(&place, &good);
    let mut bytes = read(&path);
    bytes[5_000] = old()[5_000] ^ 0x55;
    fs::write(&path, bytes).unwrap();
    is_refused(&dir, "0x1388 is neither the old nor the new one");

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
    is_refused(&dir, "0x7148 is neither the old nor the new one");
    grown(b"");
    dir.run(RECOVER).code(0);
    assert!(read(&path) == old());
}

#[test]
fn an_unknown_journal_is_refused_and_kept() {
    let dir = Sandbox::new();
    let path = torn(&dir);
    let place = beside(&dir);
    let (target, size) = (identity(&path), torn::SIZE as u64);
    let good = read(&place);
    let change = |at: usize, value: u64| {
        let mut bytes = good[..good.len() - 4].to_vec();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        torn::sealed(bytes)
    };
    for (record, why) in [
        (change(8, 1), "another version"),
        (change(8, 0), "another version"),
        (change(0, 7), "not a journal"),
        (change(56, 4), "its contents are not"),
        (change(56, u64::MAX), "its contents are not"),
        (change(72, 5), "its contents are not"),
        (change(72, u64::MAX), "its contents are not"),
        (change(64, u64::MAX), "its contents are not"),
        (change(80, 0), "its contents are not"),
        (journal(target, size, size, &[(size, vec![1], vec![2])]), "its contents are not"),
    ] {
        put(&place, &record);
        is_refused(&dir, why);
    }
}

#[test]
fn a_journal_that_is_no_regular_file_is_refused() {
    let dir = Sandbox::new();
    torn(&dir);
    let place = beside(&dir);
    let other = dir.join("other");
    fs::rename(&place, &other).unwrap();

    symlink("other", &place).unwrap();
    is_refused(&dir, "symbolic link");
    assert!(other.exists());
    fs::remove_file(&place).unwrap();
    symlink("nowhere", &place).unwrap();
    is_refused(&dir, "symbolic link");
    assert!(!dir.join("nowhere").exists());
    fs::remove_file(&place).unwrap();

    nix::unistd::mkfifo(&place, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    is_refused(&dir, "not a regular file");
    fs::remove_file(&place).unwrap();

    fs::create_dir(&place).unwrap();
    is_refused(&dir, "not a regular file");
}

#[test]
fn a_journal_of_another_user_is_refused() {
    if !is_root() {
        return skip("giving a file away takes root");
    }
    let dir = Sandbox::new();
    torn(&dir);
    chown(beside(&dir), Some(12_345), None).unwrap();
    is_refused(&dir, "another user");
    // The owner's of the file is as good as ours.
    chown(dir.join("f"), Some(12_345), None).unwrap();
    dir.run(RECOVER).has(NOTE);
}

#[test]
fn an_unfinished_journal_is_removed_and_the_file_untouched() {
    let dir = Sandbox::new();
    let path = torn(&dir);
    let good = read(beside(&dir));
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
        put(&beside(&dir), &record);
        let before = State::of(&path);
        dir.run(RECOVER).is("f: no edits; nothing was written\nexit 0");
        assert!(State::of(&path) == before, "{} bytes: the file was touched", record.len());
        assert!(!beside(&dir).exists(), "{} bytes: it remains", record.len());
    }
}

#[test]
fn a_named_file_that_is_no_journal_is_kept() {
    let dir = Sandbox::new();
    dir.file("f", old());
    dir.file("notes", b"milk, bread");
    for line in [
        "patch f -o 0 dead --journal notes",
        "patch f -o 0 dead --atomic --journal notes",
    ] {
        dir.refused_untouched(line).has("not a journal of mmapctl");
        assert_eq!(dir.read("notes"), b"milk, bread");
    }
    // Zeros may be a journal that never came to the disk, or anything of the user's: a name of theirs is theirs.
    for theirs in [&b""[..], b"MMAP", &[0; 600]] {
        dir.file("notes", theirs);
        dir.refused_untouched("patch f -o 0 dead --atomic --journal notes");
        assert_eq!(dir.read("notes"), theirs);
    }
    dir.file("notes", b"MMAPUNDO\x01\0");
    // Nor is what begins like one, and can be read by others.
    dir.refused_untouched("patch f -o 0 dead --journal notes");
    put(&dir.join("notes"), b"MMAPUNDO\x01\0");
    let text = dir.run("patch f -o 0 dead --atomic --journal notes");
    assert!(text.ends_with("exit 0") && !dir.join("notes").exists(), "{text}");
    // Nor is the file itself its journal, even if it should begin like one.
    dir.file("f", b"MMAPUNDO and more");
    dir.refused_untouched("patch f -o 0 dead --journal f");
    dir.refused_untouched("patch f -o 0 dead --atomic --journal f");
}

#[test]
fn named_and_default_journals_are_both_recovered() {
    let dir = Sandbox::new();
    let elsewhere = Sandbox::new();
    let named = elsewhere.join("j");
    let line = format!("{RECOVER} --journal {}", named.display());
    torn_with(&dir, &named);
    dir.run(&line).has(NOTE);
    assert!(dir.read("f") == old() && !named.exists());
    torn(&dir);
    assert!(dir.run(&line).contains(NOTE), "the one beside the file is forgotten");
    assert!(dir.read("f") == old() && !beside(&dir).exists());
}

#[test]
fn a_folder_that_takes_no_journal_makes_the_user_name_a_place() {
    let (dir, elsewhere) = (Sandbox::new(), Sandbox::new());
    let path = dir.file("f", old());
    set_mode(&path, 0o666);
    set_mode(&dir, 0o555);
    set_mode(&elsewhere, 0o777);
    let ask = |line: &str| as_ordinary_user(dir.command(&words(line))).map(|mut it| it.outcome());
    needs!(let output = ask("patch f -o 0 dead --atomic"));
    let text = output.is_refusal();
    assert!(text.contains("--journal PATH"), "{text}");
    assert!(read(&path) == old());
    let named = elsewhere.join("j");
    let output = ask(&format!("patch f -o 0 dead --atomic --journal {}", named.display())).unwrap();
    assert_eq!(output.exit(), 0, "{}", output.stderr());
    assert!(read(&path).starts_with(&[0xde, 0xad]) && !named.exists());
    // Plain edits need no journal.
    ask("patch f -o 0 beef").unwrap().code(0);
    set_mode(&dir, 0o755);
}

#[test]
fn a_device_with_a_named_journal_is_known_by_its_bytes() {
    let dir = Sandbox::new();
    let image = dir.file("image", noise(1 << 20));
    needs!(let device = LoopDevice::new(&image, &[]));
    let line = format!("patch {} --force -o 4096 fill:aa:8", device.name());
    dir.refused(&format!("{line} --atomic")).has("--journal PATH");
    dir.run(&format!("{line} --atomic --journal j")).ends("durable\nexit 0");
    assert!(!dir.join("j").exists());
    // The next time it may be another node with another inode number.
    if strace_works() {
        let line = line.replace("aa:8", "bb:8");
        dir.inject(&["msync:signal=KILL:when=1"], &format!("{line} --atomic --journal j")).signal(9);
        let inode = u64::from_le_bytes(dir.read("j")[24..32].try_into().unwrap());
        assert_eq!(inode, 0);
        dir.run(&format!("patch {} --force --script /dev/null --journal j", device.name()))
            .code(0)
            .has(NOTE);
    }
    drop(device);
    assert!(eventually(|| read(&image)[4096..4104] == [0xaa; 8]));
}

#[test]
fn a_name_too_long_for_a_journal_beside_it_is_in_nobodys_way() {
    let dir = Sandbox::new();
    for len in [241, 242, 255] {
        let name = "n".repeat(len);
        dir.file(&name, old());
        for line in [
            "patch N -o 0 dead",
            "zero N -o 0 -n 1",
            "remap N --size +1",
            "cat N -n 1 -x",
            "map N",
            "sync N",
        ] {
            let text = dir.run(&line.replace('N', &name));
            assert!(text.ends_with("exit 0"), "{len}: {line}: {text}");
        }
        let line = format!("patch {name} -o 0 beef --atomic");
        if len == 241 {
            dir.run(&line).ends("durable\nexit 0");
        } else {
            dir.refused(&line).has("name too long").has("--journal PATH");
        }
        dir.run(&format!("patch {name} -o 0 f00d --atomic --journal j")).ends("durable\nexit 0");
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn the_journal_of_a_symlinks_target_is_beside_the_target() {
    let dir = Sandbox::new();
    let deep = Sandbox::at(dir.join("deep"));
    fs::create_dir(&deep).unwrap();
    let path = torn(&deep);
    symlink("deep/f", dir.join("link")).unwrap();
    symlink("deep", dir.join("way")).unwrap();
    for line in ["cat link", "cat way/f"] {
        dir.refused(line).has("recovery needed");
    }
    dir.run("patch link --script /dev/null").has(NOTE);
    assert!(read(&path) == old() && !beside(&deep).exists());
    if strace_works() {
        let kill = ["msync:signal=KILL:when=1"];
        assert_eq!(dir.inject(&kill, "patch link --atomic -o 0 dead").exit(), 128 + 9);
        assert!(beside(&deep).exists() && !dir.join(".link.mmapctl-undo").exists());
    }
}

#[test]
fn a_file_without_a_name_has_no_journal_beside_it() {
    let dir = Sandbox::new();
    let shell = |line: &str| {
        dir.file("f", old());
        let script = format!("exec 3<>f; rm f; {BINARY} patch /dev/fd/3 -o 0 dead {line}");
        let mut command = dir.program("sh", &["-c", &script]);
        command.stdin(Stdio::null()).outcome()
    };
    shell("--sync").code(0);
    let output = shell("--atomic");
    let text = output.is_refusal();
    assert!(text.contains("--journal PATH"), "{text}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "a journal of a file that is gone");
    shell("--atomic --journal j").code(0);
}

#[test]
fn readers_read_during_an_atomic_patch_and_refuse_after_it() {
    let dir = Sandbox::new();
    let path = torn(&dir);
    let holder = writer(&path);
    holder.lock().unwrap();
    // A patch marks its journal so.
    let journal = File::open(beside(&dir)).unwrap();
    torn::mark_at_work(&journal);
    for line in ["cat f -n 1 -x", "map f", "sync f"] {
        dir.run(line).code(0);
    }
    assert!(beside(&dir).exists());
    // Writers wait.
    dir.refused(&format!("{RECOVER} --lock-timeout 50ms")).has("lock");
    holder.unlock().unwrap();
    drop(journal);
    dir.refused("cat f").has("recovery needed");
}

#[test]
fn a_slow_reader_looks_for_the_journal_again() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let path = torn(&dir);
    let holder = writer(&path);
    holder.lock().unwrap();
    let log = dir.join("strace.log");
    let slow = ["flock:delay_enter=500000"];
    let output = std::thread::scope(|scope| {
        let reader = scope.spawn(|| dir.inject(&slow, "cat f -n 4"));
        let looked = eventually(|| fs::read_to_string(&log).is_ok_and(|log| log.contains("mmapctl-undo")));
        assert!(looked, "it does not look for a journal");
        fs::remove_file(beside(&dir)).unwrap();
        holder.unlock().unwrap();
        reader.join().unwrap()
    });
    assert_eq!(output.exit(), 0, "{}", output.stderr());
}

#[test]
fn a_patch_that_just_ended_does_not_look_interrupted() {
    let dir = Sandbox::new();
    dir.file("f", old());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                dir.run(&format!("patch f --atomic -o 0 u32le:{}", round + 1)).code(0);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            dir.run("cat f -n 4 -f plain").code(0);
        }
    });
}

#[test]
fn concurrent_atomic_patches_are_serialised_or_refused() {
    let dir = Sandbox::new();
    let path = dir.file("f", old());
    let places = [0, 5_000, 12_000, 19_000];
    for (name, byte) in [("a", "aa"), ("b", "bb")] {
        let lines: String = places.iter().map(|at| format!("{at}: -> fill:{byte}:900\n")).collect();
        dir.file(name, format!("# mmapctl-patch 1\n{lines}"));
    }
    let mut refusals = 0;
    for round in 0..200 {
        let timeout = if round % 2 == 0 { "180s" } else { "0" };
        // Now and then with one that is plain.
        let others = if round % 5 < 3 { "--atomic" } else { "--sync" };
        let start = |script: &str, how: &str| {
            let args = ["patch", "f", how, "--script", script, "--lock-timeout", timeout];
            let mut command = dir.command(&args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children = [start("a", "--atomic"), start("b", others)];
        let outputs = children.map(|child| child.outcome());
        let codes = [outputs[0].exit(), outputs[1].exit()];
        if round % 2 == 0 {
            assert_eq!(codes, [0, 0], "{}{}", outputs[0].stderr(), outputs[1].stderr());
        } else {
            assert!(codes.contains(&0) && codes.iter().all(|code| [0, 2].contains(code)), "{codes:?}");
            refusals += codes.iter().filter(|code| **code == 2).count();
        }
        let bytes = read(&path);
        let byte = bytes[0];
        assert!([0xaa, 0xbb].contains(&byte));
        let whole = places.iter().all(|at| bytes[*at..*at + 900].iter().all(|have| *have == byte));
        assert!(whole, "round {round}: the two are mixed");
        assert!(!beside(&dir).exists());
    }
    assert!(refusals > 0 || !dir.is_disk(), "none of them ever met another");
}

#[test]
fn a_full_disk_is_met_before_anything_is_written() {
    needs!(let mount = Mount::image("mkfs.ext4 -q", 16));
    let path = mount.file("f", noise(1 << 20));
    File::open(&path).unwrap().sync_all().unwrap();
    mount.fill();
    mount.refused("patch f --atomic -o 0 fill:77:1M").has("nothing was written").has("ENOSPC");
    assert!(read(&path) == noise(1 << 20) && !beside(&mount).exists());
}
