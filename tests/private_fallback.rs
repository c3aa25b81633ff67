//! Files that cannot be mapped shared, or not at all: what only reads maps them privately, and `sync` needs no mapping.

use crate::support;
use crate::support::{Mount, file, mmapctl, noise, report, run, scratch, skip, told};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

#[test]
fn a_file_that_cannot_be_mapped_shared_is_read_and_flushed_all_the_same() {
    let test = "a_file_that_cannot_be_mapped_shared_is_read_and_flushed_all_the_same";
    let Some(store) = Mount::tmpfs(test, "16m") else { return };
    let bytes = noise(5 << 20);
    let path = file(store.path(), "f", &bytes);
    let mut other = bytes.clone();
    other[1000] ^= 0xff;
    file(store.path(), "g", &other);
    let Some(fuse) = Mount::bindfs(test, store.path(), "direct_io") else {
        return;
    };
    let output = mmapctl(fuse.path(), &["cat", "f"]).output().unwrap();
    assert!(output.status.success() && output.stdout == bytes, "{:?}", output.status);
    let dump = |folder: &Path| mmapctl(folder, &["cat", "f", "-x"]).output().unwrap();
    assert!(dump(fuse.path()).stdout == dump(store.path()).stdout);
    let map = report(fuse.path(), "map f --populate");
    assert_eq!(
        (&map["visibility"], &map["resident"]),
        (&"private".into(), &map["pages"]),
        "{map}"
    );
    for (verb, method) in [("sync f", "fdatasync"), ("sync f --evict", "fdatasync")] {
        assert_eq!(report(fuse.path(), verb)["method"], method, "{verb}");
    }
    let mut session = mmapctl(
        fuse.path(),
        &["map", "f", "-q", "-c", "cat -n 4 -f plain", "-c", "sync -q"],
    );
    let text = told(&session.output().unwrap());
    assert!(text.ends_with("\nexit 0"), "{text}");
    let diff = run(store.path(), &format!("patch f --diff {}/g", fuse.path().display()));
    assert!(diff.contains("\n0x3e8: ") && diff.lines().count() == 4, "{diff}");
    let mut reversed = mmapctl(fuse.path(), &["remap", "f", "--order", "reverse", "--to", "-"]);
    assert_eq!(reversed.output().unwrap().stdout.len(), bytes.len());
    let text = run(fuse.path(), "map f --shared");
    assert!(
        text.contains("no shared mappings") && text.ends_with("exit 2"),
        "{text}"
    );
    // What stores is refused, and nothing has changed.
    for line in ["patch f -o 0 ffff", "zero f -r 0..4K --method write", "map f --prot rw"] {
        let text = run(fuse.path(), line);
        assert!(text.contains("ENODEV") && text.ends_with("exit 2"), "{line}: {text}");
    }
    assert!(fs::read(path).unwrap() == bytes);
}

#[test]
fn a_file_of_sysfs_that_can_only_be_mapped_privately_is_read() {
    let path = "/sys/kernel/btf/vmlinux";
    let Ok(bytes) = fs::read(path) else {
        return skip(
            "a_file_of_sysfs_that_can_only_be_mapped_privately_is_read",
            "there is none",
        );
    };
    let dir = scratch();
    let output = mmapctl(dir.path(), &["cat", path]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // Before Linux 6.16 it cannot be mapped at all.
    let is_old = text.contains("ENODEV");
    assert!(is_old || output.stdout == bytes, "{:?}: {text}", output.status);
    let text = run(dir.path(), &format!("cat {path} -n 4 -f plain"));
    assert!(is_old || text.starts_with(&const_hex::encode(&bytes[..4])), "{text}");
}

#[test]
fn its_owner_can_sync_a_file_that_only_writers_may_open() {
    let test = "its_owner_can_sync_a_file_that_only_writers_may_open";
    let dir = scratch();
    let path = file(dir.path(), "f", &noise(5000));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if support::is_root() {
        chown(&path, Some(65534), Some(65534)).unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o200)).unwrap();
    let user = |args: &[&str]| {
        let mut command = support::as_ordinary_user(test, support::spawnable(dir.path(), args))?;
        Some(told(&command.output().unwrap()))
    };
    for args in [&["sync", "f"][..], &["sync", "f", "--async"], &["sync", "f", "--evict"]] {
        let Some(text) = user(args) else { return };
        assert!(
            text.starts_with("f: 0x0..0x1388 ") && text.ends_with("exit 0"),
            "{args:?}: {text}"
        );
    }
    for args in [&["cat", "f"][..], &["patch", "f", "-o", "0", "00"]] {
        let text = user(args).unwrap_or_default();
        assert!(text.contains("EACCES") && text.ends_with("exit 2"), "{args:?}: {text}");
    }
}
