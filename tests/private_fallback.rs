//! Files that cannot be mapped shared, or not at all: what only reads maps them privately, and `sync` needs no mapping.

use crate::support::*;
use std::fs;
use std::os::unix::fs::chown;

#[test]
fn a_file_without_shared_mappings_is_read_and_flushed() {
    needs!(let store = Mount::tmpfs("16m"));
    let bytes = noise(5 << 20);
    let path = store.file("f", &bytes);
    let mut other = bytes.clone();
    other[1000] ^= 0xff;
    store.file("g", &other);
    needs!(let fuse = Mount::bindfs(&store, &["-o", "direct_io"]));
    let output = fuse.mmapctl(&["cat", "f"]);
    assert!(output.status.success() && output.stdout == bytes, "{:?}", output.status);
    let dump = |folder: &Sandbox| folder.mmapctl(&["cat", "f", "-x"]);
    assert!(dump(&fuse).stdout == dump(&store).stdout);
    let map = fuse.report("map f --populate");
    assert_eq!((&map["visibility"], &map["resident"]), (&"private".into(), &map["pages"]), "{map}");
    for (verb, method) in [("sync f", "fdatasync"), ("sync f --evict", "fdatasync")] {
        assert_eq!(fuse.report(verb)["method"], method, "{verb}");
    }
    let mut session = fuse.command(&["map", "f", "-q", "-c", "cat -n 4 -f plain", "-c", "sync -q"]);
    session.outcome().ends("\nexit 0");
    let diff = store.run(&format!("patch f --diff {}/g", fuse.display()));
    assert!(diff.contains("\n0x3e8: ") && diff.lines().count() == 4, "{diff}");
    let mut reversed = fuse.command(&["remap", "f", "--order", "reverse", "--to", "-"]);
    assert_eq!(reversed.outcome().stdout.len(), bytes.len());
    fuse.run("map f --shared").code(2).has("no shared mappings");
    // What stores is refused, and nothing has changed.
    for line in ["patch f -o 0 ffff", "zero f -r 0..4K --method write", "map f --prot rw"] {
        fuse.run(line).code(2).has("ENODEV");
    }
    assert!(read(path) == bytes);
}

#[test]
fn a_file_of_sysfs_that_can_only_be_mapped_privately_is_read() {
    let path = "/sys/kernel/btf/vmlinux";
    let Ok(bytes) = fs::read(path) else {
        return skip("there is none");
    };
    let dir = Sandbox::new();
    let output = dir.mmapctl(&["cat", path]);
    let text = String::from_utf8_lossy(&output.stderr);
    // Before Linux 6.16 it cannot be mapped at all.
    let is_old = text.contains("ENODEV");
    assert!(is_old || output.stdout == bytes, "{:?}: {text}", output.status);
    let text = dir.run(&format!("cat {path} -n 4 -f plain"));
    assert!(is_old || text.starts_with(&const_hex::encode(&bytes[..4])), "{text}");
}

#[test]
fn its_owner_can_sync_a_file_that_only_writers_may_open() {
    let dir = Sandbox::new();
    let path = dir.file("f", noise(5000));
    set_mode(&dir, 0o755);
    if is_root() {
        chown(&path, Some(65534), Some(65534)).unwrap();
    }
    set_mode(&path, 0o200);
    let user = |args: &[&str]| {
        let mut command = as_ordinary_user(dir.command(args))?;
        Some(command.outcome())
    };
    for args in [&["sync", "f"][..], &["sync", "f", "--async"], &["sync", "f", "--evict"]] {
        needs!(let text = user(args));
        assert!(text.starts_with("f: 0x0..0x1388 ") && text.ends_with("exit 0"), "{args:?}: {text}");
    }
    for args in [&["cat", "f"][..], &["patch", "f", "-o", "0", "00"]] {
        let text = user(args).unwrap();
        assert!(text.contains("EACCES") && text.ends_with("exit 2"), "{args:?}: {text}");
    }
}
