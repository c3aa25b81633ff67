//! Which journals are trusted and for which file, where they are looked for, and that none reappears once a verb has
//! called the file durable.

use crate::support::strace::*;
use crate::support::torn::{beside, edits, identity, journal, new, old, put, torn, torn_with};
use crate::support::*;
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

const NOTE: &str = "the file was put back as it was before the patch";
const RECOVER: &str = "patch f --script /dev/null";

/// Every verb refuses the journal of "f" with `why`, touches neither, and has no tip to remove anything. What the
/// tip says to type lets the file be used, and keeps the journal.
fn is_not_believed(dir: &Sandbox, why: &str) {
    let (path, place) = (dir.join("f"), beside(dir));
    let (before, record) = (State::of(&path), read(&place));
    for (line, want) in [
        (RECOVER, 2),
        ("patch f -o 0 dead --sync", 2),
        ("patch f -o 0 dead --atomic", 2),
        ("zero f -o 0 -n 1", 2),
        ("remap f --size 1M", 2),
        ("cat f", 2),
        ("map f", 2),
        ("map f -c sync", 2),
        ("patch f -o 0 dead --dry-run", 2),
        // The sync is done; whether the file is half patched is not known.
        ("sync f", 4),
    ] {
        let text = dir.run(line);
        assert!(text.ends_with(&format!("exit {want}")), "{why}: {line}: {text}");
        text.has("cannot be trusted").has(why).lacks("rm ");
        assert!(State::of(&path) == before, "{why}: {line}: the file was touched");
        assert_eq!(read(&place), record, "{why}: {line}: the journal was touched");
    }
    dir.run("cat f --ignore-journal -n 4 -x").code(0);
    let text = dir.run("patch f -o 0 dead");
    let (_, tip) = text.split_once("away: ").expect("a tip");
    let typed = tip.lines().next().unwrap();
    assert!(typed.starts_with("mv -nT "), "{typed}");
    dir.peer("sh", &["-c", typed]);
    dir.run("patch f -o 0 dead").code(0);
    let kept = dir.join("refused-journal");
    assert_eq!(read(&kept), record);
    fs::remove_file(kept).unwrap();
}

#[test]
fn a_journal_with_hard_links_or_a_wide_mode_is_not_trusted() {
    let dir = Sandbox::new();
    // In folders where everybody may create files, and where only the owner may: owner and mode are proof in both.
    for folder_mode in [0o1777, 0o777, 0o700] {
        set_mode(&dir, folder_mode);
        torn(&dir);
        fs::hard_link(beside(&dir), dir.join("log")).unwrap();
        is_not_believed(&dir, "2 hard links");
        fs::remove_file(dir.join("log")).unwrap();
        for mode in [0o644, 0o620, 0o606, 0o700, 0o4600] {
            torn(&dir);
            set_mode(beside(&dir), mode);
            is_not_believed(&dir, &format!("its mode is {mode:04o}"));
        }
        torn(&dir);
        dir.run(RECOVER).has(NOTE);
        assert!(dir.read("f") == old());
    }
}

#[test]
fn a_journal_of_a_user_without_write_access_is_not_trusted() {
    if !is_root() {
        return skip("giving a file away takes root");
    }
    let dir = Sandbox::new();
    set_mode(&dir, 0o1777);
    torn(&dir);
    chown(beside(&dir), Some(12_345), None).unwrap();
    is_not_believed(&dir, "UID 12345");
    // Its owner may write to the file anyway.
    torn(&dir);
    chown(beside(&dir), Some(12_345), None).unwrap();
    chown(dir.join("f"), Some(12_345), None).unwrap();
    dir.run(RECOVER).has(NOTE);
}

/// A sparse file may have any length, and the checksum of a hole of 1 TiB would take minutes under the file's lock.
#[test]
fn a_journal_of_a_tebibyte_is_not_read() {
    let dir = Sandbox::new();
    let path = dir.file("f", old());
    let place = beside(&dir);
    for (begins, exit) in [(&b"MMAPUNDO"[..], 2), (b"MMAPUNDO\x03\0\0\0\0\0\0\0", 2), (b"", 0)] {
        put(&place, begins);
        let made = File::options().write(true).open(&place).and_then(|file| file.set_len(1 << 40));
        if let Err(error) = made {
            return skip(&format!("a file of 1 TiB: {error}"));
        }
        let text = dir.run(RECOVER);
        text.code(exit);
        assert!(read(&path) == old());
        // What does not begin as a journal was never one, so the file was never touched.
        assert_eq!(place.exists(), exit != 0, "{text}");
        let _ = fs::remove_file(&place);
    }
}

#[test]
fn a_named_journal_is_believed_by_the_same_rules() {
    let dir = Sandbox::new();
    let named = dir.join("j");
    let line = format!("{RECOVER} --journal j");
    torn_with(&dir, &named);
    set_mode(&named, 0o640);
    for (line, want) in [(line.as_str(), 2), ("cat f --journal j", 2), ("sync f --journal j", 4)] {
        dir.run(line).code(want).has("its mode is 0640").lacks("mv ").lacks("rm ");
    }
    set_mode(&named, 0o600);
    dir.run(&line).has(NOTE);
}

#[test]
fn whatever_the_umask_a_journal_is_made_that_will_be_believed() {
    needs!(strace_works());
    for umask in ["000", "022", "777"] {
        let dir = Sandbox::new();
        dir.file("f", old());
        let script = format!(
            "umask {umask}; exec strace -f -qq -o /dev/null -e inject=msync:signal=KILL:when=1 {BINARY} patch f -o 0 dead \
             --atomic"
        );
        let mut command = Command::new("sh");
        let killed = command.current_dir(&dir).args(["-c", &script]).outcome();
        assert_eq!(killed.exit(), 128 + 9, "{umask}: {}", killed.stderr());
        assert!(dir.run(RECOVER).contains(NOTE), "{umask}");
    }
}

#[test]
fn where_no_journal_would_be_believed_none_is_begun() {
    for options in [["-p", "a+rw"], ["--create-for-user=12345", "--create-for-group=12345"]] {
        let (dir, elsewhere) = (Sandbox::new(), Sandbox::new());
        dir.file("f", old());
        needs!(let mount = Mount::bindfs(&dir, &options));
        let at = &mount;
        let text = at.refused("patch f -o 0 dead --atomic");
        assert!(at.read("f") == old());
        text.has("recovery would not trust it").has("--journal PATH");
        assert!(!beside(at).exists(), "{options:?}");
        let named = elsewhere.join("j").display().to_string();
        let text = at.run(&format!("patch f -o 0 dead --atomic --journal {named}"));
        assert!(text.ends_with("durable\nexit 0"), "{options:?}: {text}");
    }
}

// ---- of which file ----

/// A loop device that is in use until the end of the test.
struct Taken(String);

impl Taken {
    fn new(dir: &Sandbox) -> Option<Taken> {
        let image = dir.sparse("other", 1 << 20);
        let output = Command::new("losetup").args(["-f", "--show"]).arg(image).output().ok()?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_string();
        (!name.is_empty()).then_some(Taken(name))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).output();
    }
}

#[test]
fn a_file_is_recognised_under_another_device_number() {
    for mkfs in ["mkfs.ext4 -q", "mkfs.ext4 -q -I 128", "mkfs.xfs -q", "mkfs.btrfs -q"] {
        let dir = Sandbox::new();
        let named = dir.join("j");
        needs!(let image = file_system_image(&dir.join("image"), mkfs, 320));
        needs!(let mount = Mount::loopback(&image));
        torn(&mount);
        let target = identity(&mount.join("f"));
        put(&named, &journal(target, torn::SIZE as u64, torn::SIZE as u64, &edits()));
        fs::copy(beside(&mount), dir.join("copy")).unwrap();
        drop(mount);
        // It has the number that was free first, which is another one now.
        let Some(_taken) = Taken::new(&dir) else {
            return skip("there is no other loop device");
        };
        needs!(let mount = Mount::loopback(&image));
        let now = identity(&mount.join("f"));
        let text = mount.run(RECOVER);
        assert!(text.contains(NOTE) && text.ends_with("exit 0"), "{mkfs}: {text}");
        assert!(mount.read("f") == old(), "{mkfs}");
        // One elsewhere is known by when the file was made. Where that is not kept, the message says what to do.
        fs::write(mount.join("f"), new()).unwrap();
        let text = mount.run(&format!("{RECOVER} --journal {}", named.display()));
        if target[2] != 0 || target[0] == now[0] {
            assert!(text.contains(NOTE) && text.ends_with("exit 0"), "{mkfs}: {text}");
        } else {
            assert!(text.contains("device") && text.ends_with("exit 2"), "{mkfs}: {text}");
            let (_, tip) = text.split_once("recover: ").expect("a tip");
            let typed = tip.lines().next().unwrap();
            let folder = Path::new(BINARY).parent().unwrap().display();
            let script = format!("PATH={folder}:$PATH; {typed}");
            mount.peer("sh", &["-c", &script]);
        }
        assert!(mount.read("f") == old(), "{mkfs}");
    }
}

#[test]
fn a_file_on_overlayfs_is_recognised_under_another_inode() {
    if !is_root() || !has("unshare") || !strace_works() {
        return skip("mounting takes root");
    }
    let dir = Sandbox::new();
    for folder in ["lower", "store", "mnt"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    dir.file("lower/f", old());
    // The lower file's number is shown until the next mount.
    let overlay = "mount -t overlay -o lowerdir=lower,upperdir=store/u,workdir=store/w overlay mnt";
    let killed = "strace -f -qq -o /dev/null -e inject=msync:signal=KILL:when=1";
    let script = format!(
        "mount -t tmpfs tmpfs store && mkdir store/u store/w && {overlay} || exit 99; {killed} {BINARY} patch mnt/f -o 0 dead \
         --atomic; stat -c %i mnt/f; umount mnt && {overlay} || exit 99; stat -c %i mnt/f; {BINARY} patch mnt/f --script \
         /dev/null && cmp mnt/f lower/f && ls -A mnt"
    );
    let mut command = dir.program("unshare", &["-m", "sh", "-c", &script]);
    let output = command.outcome();
    if output.exit() == 99 {
        return skip(&output.stderr());
    }
    let text = &output;
    text.code(0).has(NOTE).has("\nf\n").lacks(".f.mmapctl-undo\n");
}

#[test]
fn a_journal_is_not_used_for_a_file_that_reuses_the_inode() {
    for mkfs in ["mkfs.ext4 -q", "mkfs.ext4 -q -I 128"] {
        let dir = Sandbox::new();
        let named = dir.join("j");
        let images = ["a", "b"].map(|name| file_system_image(&dir.join(name), mkfs, 320));
        let [Some(first), Some(second)] = images else { return };
        needs!(let one = Mount::loopback(&first));
        torn_with(&one, &named);
        needs!(let other = Mount::loopback(&second));
        let path = other.file("f", new());
        let target = identity(&path);
        assert_eq!(target[1], identity(&one.join("f"))[1], "the test proves nothing");
        let text = other.run(&format!("{RECOVER} --journal {}", named.display()));
        assert!(text.contains("another file") || text.contains("device"), "{text}");
        text.code(2);
        assert!(read(path) == new() && named.exists());
    }
}

// ---- where it is looked for ----

/// mmapctl without a /proc; `None`, with a visible skip, where that is not possible.
fn without_proc(dir: &Sandbox, line: &str) -> Option<Outcome> {
    if !is_root() || !has("unshare") {
        skip("taking /proc away takes root");
        return None;
    }
    let script = format!("umount -l /proc && exec {BINARY} {line}");
    let mut command = dir.program("unshare", &["-m", "sh", "-c", &script]);
    let output = command.outcome();
    if output.exit() == 32 || output.stderr().contains("unshare") {
        skip(&output.stderr());
        return None;
    }
    Some(output)
}

#[test]
fn without_proc_a_journal_is_seen_all_the_same() {
    let dir = Sandbox::new();
    let deep = Sandbox::at(dir.join("deep"));
    fs::create_dir(&deep).unwrap();
    std::os::unix::fs::symlink("deep/f", dir.join("link")).unwrap();
    for (line, want) in [
        ("cat link -n 4", 2),
        ("map link", 2),
        ("sync link", 4),
        ("patch link -o 0 text:Q", 0),
        ("zero deep/f -o 0 -n 1", 0),
        ("map link -c 'patch -o 0 dead'", 0),
        ("patch link -o 100 dead --atomic", 0),
    ] {
        torn(&deep);
        needs!(let output = without_proc(&dir, line));
        let text = &output;
        assert_eq!(output.exit(), want, "{line}: {text}");
        match want {
            0 => assert!(text.contains(NOTE) && !beside(&deep).exists(), "{line}: {text}"),
            _ => assert!(text.contains("recovery needed") && beside(&deep).exists(), "{line}: {text}"),
        }
    }
}

#[test]
fn a_bind_mounted_file_gets_no_journal_that_is_never_found() {
    if !is_root() || !has("unshare") {
        return skip("mounting takes root");
    }
    let dir = Sandbox::new();
    for folder in ["home", "box"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    let path = dir.file("home/f", old());
    let mounted = |more: &str, line: &str| {
        dir.file("box/f", b"");
        let script = format!("{more} : > box/f && mount --bind home/f box/f && exec {BINARY} patch box/f -o 0 {line}");
        let mut command = dir.program("unshare", &["-m", "sh", "-c", &script]);
        command.outcome()
    };
    // Of another file system, and of the same one; and where /proc does not tell.
    for more in [
        "mount -t tmpfs tmpfs box &&",
        "",
        "mount -t tmpfs tmpfs box && umount -l /proc &&",
    ] {
        let output = mounted(more, "dead --atomic");
        let text = output.is_refusal();
        assert!(text.contains("a mount point") && text.contains("--journal PATH"), "{text}");
        assert!(read(&path) == old());
        for line in ["dead --atomic --journal j", "beef --sync", "dead"] {
            mounted(more, line).code(0);
        }
        fs::write(&path, old()).unwrap();
    }
}

// ---- that none comes back ----

#[test]
fn nothing_is_called_durable_while_a_journal_may_come_back() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let path = dir.file("f", old());
    let bytes = const_hex::encode(&old()[..4]);
    for (line, want) in [
        ("sync f", 3),
        ("patch f -o 0 dead --sync", 2),
        (&format!("patch f -o 0 {bytes} --sync"), 2),
        (&format!("patch f -o 0 {bytes} --atomic"), 2),
        ("zero f -o 0 -n 4 --sync", 2),
        ("zero f --range .. --sparsify --sync", 2),
        ("patch f -o 0 dead --access 2 --sync", 2),
    ] {
        let output = dir.inject(&["fsync:error=EIO"], line);
        let text = &output;
        assert_eq!(output.exit(), want, "{line}: {text}");
        text.has("journal").has("may come back");
        assert!(output.stdout.is_empty(), "{line}: {text}");
        assert!(read(&path) == old(), "{line}: {text}");
        dir.run(line).code(0);
        fs::write(&path, old()).unwrap();
    }
    // A file system that has no fsync of folders is synced as a whole.
    let options = ["-e", "trace=fsync,syncfs", "-e", "inject=fsync:error=EINVAL"];
    dir.straced(&options, "sync f").code(0);
    assert!(dir.strace_log().contains("syncfs("));
}

#[test]
fn whoever_cannot_open_the_folder_syncs_the_file_all_the_same() {
    let dir = Sandbox::new();
    let path = dir.file("f", old());
    set_mode(&path, 0o666);
    set_mode(&dir, 0o311);
    for line in ["sync f", "patch f -o 0 dead --sync", "zero f -o 0 -n 4 --sync"] {
        needs!(let mut command = as_ordinary_user(dir.command(&words(line))));
        let output = command.outcome();
        assert_eq!(output.exit(), 0, "{line}: {}", output.stderr());
        assert!(output.contains("durable"), "{line}");
    }
    set_mode(&dir, 0o755);
}

#[test]
fn a_removed_journal_stays_removed_after_a_durable_verb() {
    if !strace_works() || !has("xfs_io") {
        return;
    }
    let dir = Sandbox::new();
    let log = Sandbox::new();
    needs!(let image = file_system_image(&dir.join("image"), "mkfs.ext4 -q", 320));
    let mut mount = Mount::loopback(&image);
    for line in [
        "patch f -o 10 text:HELLO --sync",
        "patch f -o 10 text:HELLO --atomic",
        "sync f",
    ] {
        needs!(let at = mount.take());
        at.file("f", [0; 8192]);
        at.peer("sync", &["-f", "."]);
        let target = at.join("f");
        let patch = format!("patch {} -o 10 text:HELLO --atomic", target.display());
        // The journal, its name, the empty journal, and the one that does not come any more.
        let kill = ["fsync:error=EINTR:signal=KILL:when=4"];
        log.inject(&kill, &patch).signal(9);
        assert!(!beside(&at).exists());
        let text = at.run(line);
        assert!(text.contains("durable") || text.contains("already"), "{line}: {text}");
        text.code(0);
        let folder = at.to_str().unwrap().to_string();
        Sandbox::at(Path::new("/")).peer("xfs_io", &["-x", "-c", "shutdown", &folder]);
        drop(at);
        needs!(let at = Mount::loopback(&image));
        assert!(!beside(&at).exists(), "{line}: the journal is there again");
        assert_eq!(at.run("patch f -o 4000 00 -q"), "exit 0", "{line}");
        assert_eq!(&at.read("f")[10..15], b"HELLO", "{line}");
        mount = Some(at);
    }
}

// ---- names that are a journal's ----

#[test]
fn an_undo_script_does_not_get_the_name_of_a_journal() {
    let dir = Sandbox::new();
    let path = dir.file("f", old());
    dir.file("g", old());
    let full = dir.join(".f.mmapctl-undo").display().to_string();
    for name in [".f.mmapctl-undo", "./.f.mmapctl-undo", ".g.mmapctl-undo", &full] {
        for how in ["", " --atomic", " --sync"] {
            let line = format!("patch f -o 0 dead --undo {name}{how}");
            dir.refused_untouched(&line).has("recovery journal");
        }
        dir.file("session", format!("patch -o 0 dead --undo {name}"));
        dir.refused_untouched("map f --script session").has("recovery journal");
    }
    assert!(read(path) == old());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    dir.refused_untouched("remap f --order reverse --to .g.mmapctl-undo").has("recovery journal");
    dir.run("patch f -o 0 dead --undo f.mmapctl-undo").code(0);
}
