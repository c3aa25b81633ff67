//! Which journals are believed and of which file, where they are looked for, and that none comes back once a verb has
//! called the file durable.

use crate::support;
use crate::support::faults::{code, stderr, strace_works, straced, words};
use crate::support::torn::{beside, edits, identity, journal, new, old, put, torn, torn_with};
use crate::support::{BINARY, Mount, State, as_ordinary_user, file, has, is_root, run, scratch, skip, spawnable, told};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

const NOTE: &str = "the file was put back as it was before it";
const RECOVER: &str = "patch f --script /dev/null";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Every verb refuses the journal of "f" with `why`, touches neither, and tells nobody to remove anything. What the
/// tip says to type lets the file be used, and keeps the journal.
fn is_not_believed(dir: &Path, why: &str) {
    let (path, place) = (dir.join("f"), beside(dir));
    let (before, record) = (State::of(&path), fs::read(&place).unwrap());
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
        // What is asked for is done; whether the file is half patched, nobody knows.
        ("sync f", 4),
    ] {
        let text = run(dir, line);
        assert!(text.ends_with(&format!("exit {want}")), "{why}: {line}: {text}");
        assert!(
            text.contains("cannot be trusted") && text.contains(why),
            "{line}: {text}"
        );
        assert!(!text.contains("rm "), "{line}: {text}");
        assert!(State::of(&path) == before, "{why}: {line}: the file was touched");
        assert_eq!(
            fs::read(&place).unwrap(),
            record,
            "{why}: {line}: the journal was touched"
        );
    }
    assert!(run(dir, "cat f --ignore-journal -n 4 -x").ends_with("exit 0"));
    let text = run(dir, "patch f -o 0 dead");
    let (_, tip) = text.split_once("out of the way: ").expect("a tip");
    let typed = tip.lines().next().unwrap();
    assert!(typed.starts_with("mv -nT "), "{typed}");
    support::peer(dir, "sh", &["-c", typed]);
    assert!(run(dir, "patch f -o 0 dead").ends_with("exit 0"));
    let kept = dir.join("refused-journal");
    assert_eq!(fs::read(&kept).unwrap(), record);
    fs::remove_file(kept).unwrap();
}

#[test]
fn a_journal_with_a_second_name_or_rights_for_others_is_not_believed() {
    let dir = scratch();
    // A folder in which anybody may make files, and one in which nobody else may: owner and mode prove it in both.
    for folder_mode in [0o1777, 0o777, 0o700] {
        set_mode(dir.path(), folder_mode);
        torn(dir.path());
        fs::hard_link(beside(dir.path()), dir.path().join("log")).unwrap();
        is_not_believed(dir.path(), "2 hard links");
        fs::remove_file(dir.path().join("log")).unwrap();
        for mode in [0o644, 0o620, 0o606, 0o700, 0o4600] {
            torn(dir.path());
            set_mode(&beside(dir.path()), mode);
            is_not_believed(dir.path(), &format!("its mode is {mode:04o}"));
        }
        torn(dir.path());
        assert!(run(dir.path(), RECOVER).contains(NOTE));
        assert!(fs::read(dir.path().join("f")).unwrap() == old());
    }
}

#[test]
fn a_journal_of_somebody_who_may_not_write_the_file_is_not_believed() {
    let test = "a_journal_of_somebody_who_may_not_write_the_file_is_not_believed";
    if !is_root() {
        return skip(test, "giving a file away takes root");
    }
    let dir = scratch();
    set_mode(dir.path(), 0o1777);
    torn(dir.path());
    chown(beside(dir.path()), Some(12_345), None).unwrap();
    is_not_believed(dir.path(), "UID 12345");
    // Its owner may write to the file anyway.
    torn(dir.path());
    chown(beside(dir.path()), Some(12_345), None).unwrap();
    chown(dir.path().join("f"), Some(12_345), None).unwrap();
    assert!(run(dir.path(), RECOVER).contains(NOTE));
}

/// A sparse file is as long as its maker likes, and to sum a TiB of nothing would take minutes under the file's lock.
#[test]
fn what_is_a_tebibyte_long_in_the_place_of_a_journal_is_not_read() {
    let test = "what_is_a_tebibyte_long_in_the_place_of_a_journal_is_not_read";
    let dir = scratch();
    let path = file(dir.path(), "f", &old());
    let place = beside(dir.path());
    for (begins, exit) in [(&b"MMAPUNDO"[..], 2), (b"MMAPUNDO\x02\0\0\0\0\0\0\0", 2), (b"", 0)] {
        put(&place, begins);
        let made = File::options()
            .write(true)
            .open(&place)
            .and_then(|file| file.set_len(1 << 40));
        if let Err(error) = made {
            return skip(test, &format!("a file of 1 TiB: {error}"));
        }
        let text = run(dir.path(), RECOVER);
        assert!(text.ends_with(&format!("exit {exit}")), "{text}");
        assert!(fs::read(&path).unwrap() == old());
        // What does not begin as a journal was never one, so the file was never touched.
        assert_eq!(place.exists(), exit != 0, "{text}");
        let _ = fs::remove_file(&place);
    }
}

#[test]
fn a_named_journal_is_believed_by_the_same_rules() {
    let dir = scratch();
    let named = dir.path().join("j");
    let line = format!("{RECOVER} --journal j");
    torn_with(dir.path(), &named);
    set_mode(&named, 0o640);
    for (line, want) in [(line.as_str(), 2), ("cat f --journal j", 2), ("sync f --journal j", 4)] {
        let text = run(dir.path(), line);
        assert!(
            text.contains("its mode is 0640") && text.ends_with(&format!("exit {want}")),
            "{line}: {text}"
        );
        assert!(!text.contains("mv ") && !text.contains("rm "), "{line}: {text}");
    }
    set_mode(&named, 0o600);
    assert!(run(dir.path(), &line).contains(NOTE));
}

#[test]
fn whatever_the_umask_a_journal_is_made_that_will_be_believed() {
    let test = "whatever_the_umask_a_journal_is_made_that_will_be_believed";
    if !strace_works(test) {
        return;
    }
    for umask in ["000", "022", "777"] {
        let dir = scratch();
        file(dir.path(), "f", &old());
        let script = format!(
            "umask {umask}; exec strace -f -qq -o /dev/null -e inject=msync:signal=KILL:when=1 {BINARY} patch f -o 0 dead \
             --atomic"
        );
        let mut command = Command::new("sh");
        let killed = command.current_dir(dir.path()).args(["-c", &script]).output().unwrap();
        assert_eq!(code(&killed), 128 + 9, "{umask}: {}", stderr(&killed));
        assert!(run(dir.path(), RECOVER).contains(NOTE), "{umask}");
    }
}

/// A bindfs of `folder`, unmounted with the test.
struct Bindfs(tempfile::TempDir);

impl Bindfs {
    fn new(test: &str, folder: &Path, options: &[&str]) -> Option<Bindfs> {
        if !is_root() || !has(test, "bindfs") {
            skip(test, "bindfs takes root");
            return None;
        }
        let mount = Bindfs(scratch());
        let output = Command::new("bindfs")
            .args(options)
            .arg(folder)
            .arg(mount.0.path())
            .output()
            .ok()?;
        if !output.status.success() {
            skip(test, &stderr(&output));
            return None;
        }
        Some(mount)
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn where_no_journal_would_be_believed_none_is_begun() {
    let test = "where_no_journal_would_be_believed_none_is_begun";
    for options in [["-p", "a+rw"], ["--create-for-user=12345", "--create-for-group=12345"]] {
        let (dir, elsewhere) = (scratch(), scratch());
        file(dir.path(), "f", &old());
        let Some(mount) = Bindfs::new(test, dir.path(), &options) else {
            return;
        };
        let at = mount.0.path();
        let text = support::refused(at, "patch f -o 0 dead --atomic", b"");
        assert!(fs::read(at.join("f")).unwrap() == old());
        assert!(
            text.contains("no recovery would believe it") && text.contains("--journal PATH"),
            "{text}"
        );
        assert!(!beside(at).exists(), "{options:?}");
        let named = elsewhere.path().join("j").display().to_string();
        let text = run(at, &format!("patch f -o 0 dead --atomic --journal {named}"));
        assert!(text.ends_with("durable\nexit 0"), "{options:?}: {text}");
    }
}

// ---- of which file ----

/// A loop device that is taken until the end.
struct Taken(String);

impl Taken {
    fn new(dir: &Path) -> Option<Taken> {
        let image = support::sparse(dir, "other", 1 << 20);
        let output = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(image)
            .output()
            .ok()?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_string();
        (!name.is_empty()).then_some(Taken(name))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).output();
    }
}

/// An image with a file system by `mkfs`, without what it lacks.
fn image(test: &str, dir: &Path, name: &str, mkfs: &str) -> Option<std::path::PathBuf> {
    let mut words = mkfs.split(' ');
    let tool = words.next()?;
    if !is_root() || !has(test, tool) {
        skip(test, "mounting a file system takes root, and mkfs");
        return None;
    }
    let image = support::sparse(dir, name, 320 << 20);
    let made = Command::new(tool).args(words).arg(&image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        skip(test, &format!("{mkfs} failed"));
        return None;
    }
    Some(image)
}

#[test]
fn after_a_restart_a_file_is_known_again_under_another_device_number() {
    let test = "after_a_restart_a_file_is_known_again_under_another_device_number";
    for mkfs in ["mkfs.ext4 -q", "mkfs.ext4 -q -I 128", "mkfs.xfs -q", "mkfs.btrfs -q"] {
        let dir = scratch();
        let named = dir.path().join("j");
        let Some(image) = image(test, dir.path(), "image", mkfs) else {
            return;
        };
        let Some(mount) = Mount::loopback(test, &image) else {
            return;
        };
        torn(mount.path());
        let target = identity(&mount.path().join("f"));
        put(
            &named,
            &journal(target, support::torn::SIZE as u64, support::torn::SIZE as u64, &edits()),
        );
        fs::copy(beside(mount.path()), dir.path().join("copy")).unwrap();
        drop(mount);
        // It has the number that was free first, which is another one now.
        let Some(_taken) = Taken::new(dir.path()) else {
            return skip(test, "there is no other loop device");
        };
        let Some(mount) = Mount::loopback(test, &image) else {
            return;
        };
        let now = identity(&mount.path().join("f"));
        let text = run(mount.path(), RECOVER);
        assert!(text.contains(NOTE) && text.ends_with("exit 0"), "{mkfs}: {text}");
        assert!(fs::read(mount.path().join("f")).unwrap() == old(), "{mkfs}");
        // One elsewhere is known by when the file was made. Where that is not kept, the message says what to do.
        fs::write(mount.path().join("f"), new()).unwrap();
        let text = run(mount.path(), &format!("{RECOVER} --journal {}", named.display()));
        if target[2] != 0 || target[0] == now[0] {
            assert!(text.contains(NOTE) && text.ends_with("exit 0"), "{mkfs}: {text}");
        } else {
            assert!(text.contains("device") && text.ends_with("exit 2"), "{mkfs}: {text}");
            let (_, tip) = text.split_once("recover: ").expect("a tip");
            let typed = tip.lines().next().unwrap();
            let folder = Path::new(BINARY).parent().unwrap().display();
            let script = format!("PATH={folder}:$PATH; {typed}");
            support::peer(mount.path(), "sh", &["-c", &script]);
        }
        assert!(fs::read(mount.path().join("f")).unwrap() == old(), "{mkfs}");
    }
}

#[test]
fn on_overlayfs_a_file_is_known_again_under_another_inode_number() {
    let test = "on_overlayfs_a_file_is_known_again_under_another_inode_number";
    if !is_root() || !has(test, "unshare") || !strace_works(test) {
        return skip(test, "mounting takes root");
    }
    let dir = scratch();
    for folder in ["lower", "store", "mnt"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    file(dir.path(), "lower/f", &old());
    // The lower file's number is shown until the next mount.
    let overlay = "mount -t overlay -o lowerdir=lower,upperdir=store/u,workdir=store/w overlay mnt";
    let killed = "strace -f -qq -o /dev/null -e inject=msync:signal=KILL:when=1";
    let script = format!(
        "mount -t tmpfs tmpfs store && mkdir store/u store/w && {overlay} || exit 99; {killed} {BINARY} patch mnt/f -o 0 dead \
         --atomic; stat -c %i mnt/f; umount mnt && {overlay} || exit 99; stat -c %i mnt/f; {BINARY} patch mnt/f --script \
         /dev/null && cmp mnt/f lower/f && ls -A mnt"
    );
    let mut command = Command::new("unshare");
    command
        .current_dir(dir.path())
        .args(["-m", "sh", "-c", &script])
        .env("LC_ALL", "C");
    let output = command.output().unwrap();
    if code(&output) == 99 {
        return skip(test, &stderr(&output));
    }
    let text = told(&output);
    assert!(text.contains(NOTE) && text.ends_with("exit 0"), "{text}");
    assert!(text.contains("\nf\n") && !text.contains(".f.mmapctl-undo\n"), "{text}");
}

#[test]
fn a_journal_is_not_taken_for_that_of_another_file_with_the_same_inode_number() {
    let test = "a_journal_is_not_taken_for_that_of_another_file_with_the_same_inode_number";
    for mkfs in ["mkfs.ext4 -q", "mkfs.ext4 -q -I 128"] {
        let dir = scratch();
        let named = dir.path().join("j");
        let images = ["a", "b"].map(|name| image(test, dir.path(), name, mkfs));
        let [Some(first), Some(second)] = images else { return };
        let Some(one) = Mount::loopback(test, &first) else {
            return;
        };
        torn_with(one.path(), &named);
        let Some(other) = Mount::loopback(test, &second) else {
            return;
        };
        let path = file(other.path(), "f", &new());
        let target = identity(&path);
        assert_eq!(target[1], identity(&one.path().join("f"))[1], "the test proves nothing");
        let text = run(other.path(), &format!("{RECOVER} --journal {}", named.display()));
        assert!(text.contains("another file") || text.contains("device"), "{text}");
        assert!(text.ends_with("exit 2"), "{text}");
        assert!(fs::read(path).unwrap() == new() && named.exists());
    }
}

// ---- where it is looked for ----

/// mmapctl where there is no /proc; `None`, with a visible skip, where that cannot be had.
fn without_proc(test: &str, dir: &Path, line: &str) -> Option<Output> {
    if !is_root() || !has(test, "unshare") {
        skip(test, "taking /proc away takes root");
        return None;
    }
    let script = format!("umount -l /proc && exec {BINARY} {line}");
    let mut command = Command::new("unshare");
    command
        .current_dir(dir)
        .args(["-m", "sh", "-c", &script])
        .env("LC_ALL", "C");
    let output = command.output().ok()?;
    if code(&output) == 32 || stderr(&output).contains("unshare") {
        skip(test, &stderr(&output));
        return None;
    }
    Some(output)
}

#[test]
fn without_proc_a_journal_is_seen_all_the_same() {
    let test = "without_proc_a_journal_is_seen_all_the_same";
    let dir = scratch();
    let deep = dir.path().join("deep");
    fs::create_dir(&deep).unwrap();
    std::os::unix::fs::symlink("deep/f", dir.path().join("link")).unwrap();
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
        let Some(output) = without_proc(test, dir.path(), line) else {
            return;
        };
        let text = told(&output);
        assert_eq!(code(&output), want, "{line}: {text}");
        match want {
            0 => assert!(text.contains(NOTE) && !beside(&deep).exists(), "{line}: {text}"),
            _ => assert!(
                text.contains("recovery needed") && beside(&deep).exists(),
                "{line}: {text}"
            ),
        }
    }
}

#[test]
fn a_file_that_is_mounted_by_itself_gets_no_journal_that_nobody_would_find() {
    let test = "a_file_that_is_mounted_by_itself_gets_no_journal_that_nobody_would_find";
    if !is_root() || !has(test, "unshare") {
        return skip(test, "mounting takes root");
    }
    let dir = scratch();
    for folder in ["home", "box"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let path = file(dir.path(), "home/f", &old());
    let mounted = |more: &str, line: &str| {
        file(dir.path(), "box/f", b"");
        let script = format!("{more} : > box/f && mount --bind home/f box/f && exec {BINARY} patch box/f -o 0 {line}");
        let mut command = Command::new("unshare");
        command
            .current_dir(dir.path())
            .args(["-m", "sh", "-c", &script])
            .env("LC_ALL", "C");
        command.output().unwrap()
    };
    // Of another file system, and of the same one; and where /proc does not tell.
    for more in [
        "mount -t tmpfs tmpfs box &&",
        "",
        "mount -t tmpfs tmpfs box && umount -l /proc &&",
    ] {
        let output = mounted(more, "dead --atomic");
        let text = support::check_refusal("--atomic", &output);
        assert!(
            text.contains("mounted by itself") && text.contains("--journal PATH"),
            "{text}"
        );
        assert!(fs::read(&path).unwrap() == old());
        for line in ["dead --atomic --journal j", "beef --sync", "dead"] {
            let output = mounted(more, line);
            assert_eq!(code(&output), 0, "{more} {line}: {}", stderr(&output));
        }
        fs::write(&path, old()).unwrap();
    }
}

// ---- that none comes back ----

#[test]
fn nothing_is_called_durable_while_a_journal_may_come_back() {
    let test = "nothing_is_called_durable_while_a_journal_may_come_back";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    let path = file(dir.path(), "f", &old());
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
        let output = straced(dir.path(), &["-e", "inject=fsync:error=EIO"], line);
        let text = told(&output);
        assert_eq!(code(&output), want, "{line}: {text}");
        assert!(
            text.contains("journal") && text.contains("may come back"),
            "{line}: {text}"
        );
        assert!(output.stdout.is_empty(), "{line}: {text}");
        assert!(fs::read(&path).unwrap() == old(), "{line}: {text}");
        assert!(run(dir.path(), line).ends_with("exit 0"), "{line}");
        fs::write(&path, old()).unwrap();
    }
    // A file system that has no fsync of folders is synced as a whole.
    let options = ["-e", "trace=fsync,syncfs", "-e", "inject=fsync:error=EINVAL"];
    let output = straced(dir.path(), &options, "sync f");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        fs::read_to_string(dir.path().join("strace.log"))
            .unwrap()
            .contains("syncfs(")
    );
}

#[test]
fn whoever_cannot_open_the_folder_syncs_the_file_all_the_same() {
    let test = "whoever_cannot_open_the_folder_syncs_the_file_all_the_same";
    let dir = scratch();
    let path = file(dir.path(), "f", &old());
    set_mode(&path, 0o666);
    set_mode(dir.path(), 0o311);
    for line in ["sync f", "patch f -o 0 dead --sync", "zero f -o 0 -n 4 --sync"] {
        let Some(mut command) = as_ordinary_user(test, spawnable(dir.path(), &words(line))) else {
            return;
        };
        let output = command.output().unwrap();
        assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
        assert!(told(&output).contains("durable"), "{line}");
    }
    set_mode(dir.path(), 0o755);
}

#[test]
fn a_journal_that_was_removed_does_not_come_back_after_a_verb_that_says_durable() {
    let test = "a_journal_that_was_removed_does_not_come_back_after_a_verb_that_says_durable";
    if !strace_works(test) || !has(test, "xfs_io") {
        return;
    }
    let dir = scratch();
    let log = scratch();
    let Some(image) = image(test, dir.path(), "image", "mkfs.ext4 -q") else {
        return;
    };
    let mut mount = Mount::loopback(test, &image);
    for line in [
        "patch f -o 10 text:HELLO --sync",
        "patch f -o 10 text:HELLO --atomic",
        "sync f",
    ] {
        let Some(at) = mount.take() else { return };
        file(at.path(), "f", &[0; 8192]);
        support::peer(at.path(), "sync", &["-f", "."]);
        let target = at.path().join("f");
        let patch = format!("patch {} -o 10 text:HELLO --atomic", target.display());
        // The journal, its name, the empty journal, and the one that does not come any more.
        let kill = ["-e", "inject=fsync:error=EINTR:signal=KILL:when=4"];
        let output = straced(log.path(), &kill, &patch);
        assert_eq!(code(&output), 128 + 9, "{}", stderr(&output));
        assert!(!beside(at.path()).exists());
        let text = run(at.path(), line);
        assert!(text.contains("durable") || text.contains("already"), "{line}: {text}");
        assert!(text.ends_with("exit 0"), "{line}: {text}");
        let folder = at.path().to_str().unwrap().to_string();
        support::peer(Path::new("/"), "xfs_io", &["-x", "-c", "shutdown", &folder]);
        drop(at);
        let Some(at) = Mount::loopback(test, &image) else {
            return;
        };
        assert!(!beside(at.path()).exists(), "{line}: the journal is there again");
        assert_eq!(run(at.path(), "patch f -o 4000 00 -q"), "exit 0", "{line}");
        assert_eq!(&fs::read(at.path().join("f")).unwrap()[10..15], b"HELLO", "{line}");
        mount = Some(at);
    }
}

// ---- names that are a journal's ----

#[test]
fn an_undo_script_does_not_get_the_name_of_a_journal() {
    let dir = scratch();
    let path = file(dir.path(), "f", &old());
    file(dir.path(), "g", &old());
    let full = dir.path().join(".f.mmapctl-undo").display().to_string();
    for name in [".f.mmapctl-undo", "./.f.mmapctl-undo", ".g.mmapctl-undo", &full] {
        for how in ["", " --atomic", " --sync"] {
            let line = format!("patch f -o 0 dead --undo {name}{how}");
            let text = support::refused_without_touching(dir.path(), &line, b"");
            assert!(text.contains("recovery journal"), "{line}: {text}");
        }
        file(
            dir.path(),
            "session",
            format!("patch -o 0 dead --undo {name}").as_bytes(),
        );
        let text = support::refused_without_touching(dir.path(), "map f --script session", b"");
        assert!(text.contains("recovery journal"), "{text}");
    }
    assert!(fs::read(path).unwrap() == old());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    let text = support::refused_without_touching(dir.path(), "remap f --order reverse --to .g.mmapctl-undo", b"");
    assert!(text.contains("recovery journal"), "{text}");
    let text = run(dir.path(), "patch f -o 0 dead --undo f.mmapctl-undo");
    assert!(text.ends_with("exit 0"), "{text}");
}
