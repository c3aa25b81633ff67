//! The sequences by which testers of file systems drive a mapping with xfs_io, in a session: both must leave the same
//! bytes, in memory and on the device. Where xfs_io stores past the end of the file, a session refuses; what comes
//! to light when the file grows over that place must be the same in both.

use crate::support::*;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

/// One sequence: how it is written for xfs_io, and for a session. `F` is the file.
struct Sequence {
    name: &'static str,
    /// The file's length before, full of 0x61.
    len: u64,
    xfs_io: &'static [&'static str],
    /// `map F OPTIONS`.
    options: &'static str,
    session: &'static [&'static str],
    /// How the session ends: 2 where it goes on after a refusal.
    code: i32,
}

const SEQUENCES: [Sequence; 8] = [
    Sequence {
        name: "truncated below the mapping, extended again, stored to",
        len: 16384,
        xfs_io: &[
            "mmap -rw 0 16384",
            "mwrite -S 0x58 1000 5000",
            "truncate 5000",
            "mwrite -S 0x59 0 100",
            "truncate 16384",
            "mwrite -S 0x5a 12000 300",
            "mwrite -S 0x57 4990 20",
        ],
        options: "",
        session: &[
            "patch -q -o 1000 fill:58:5000",
            "! truncate -s 5000 F",
            "patch -q -o 0 fill:59:100",
            "! truncate -s 16384 F",
            "patch -q -o 12000 fill:5a:300",
            "patch -q -o 4990 fill:57:20",
        ],
        code: 0,
    },
    Sequence {
        name: "a store into the page's tail behind the end, and a file that grows over it",
        len: 5000,
        xfs_io: &[
            "mmap -rw 0 5000",
            "mwrite -S 0x58 4900 100",
            "truncate 4000",
            "mwrite -S 0x59 4050 40",
            "truncate 9000",
        ],
        options: "--keep-going",
        session: &[
            "patch -q -o 4900 fill:58:100",
            "! truncate -s 4000 F",
            "patch -q -o 4050 fill:59:40",
            "! truncate -s 9000 F",
        ],
        code: 2,
    },
    Sequence {
        name: "the mapping grown and shrunk to odd sizes",
        len: 100_000,
        xfs_io: &[
            "mmap -rw 0 4097",
            "mremap -m 12289",
            "mwrite -S 0x58 4095 8194",
            "mremap -m 77777",
            "mwrite -S 0x59 77000 777",
            "mremap 5001",
            "mwrite -S 0x5a 0 5001",
            "mremap -m 99999",
            "mwrite -S 0x57 99998 1",
        ],
        options: "-n 4097",
        session: &[
            "remap -q --keep-file --size 12289",
            "patch -q -o 4095 fill:58:8194",
            "remap -q --keep-file --size 77777",
            "patch -q -o 77000 fill:59:777",
            "remap -q --keep-file --size 5001",
            "patch -q -o 0 fill:5a:5001",
            "remap -q --keep-file --size 99999",
            "patch -q -o 99998 fill:57:1",
        ],
        code: 0,
    },
    Sequence {
        name: "file and mapping grown and shrunk together",
        len: 5000,
        xfs_io: &[
            "mmap -rw 0 5000",
            "mwrite -S 0x58 4000 1000",
            "truncate 13001",
            "mremap -m 13001",
            "mwrite -S 0x59 5500 7501",
            "mremap 7003",
            "truncate 7003",
            "mwrite -S 0x5a 6000 1003",
            "truncate 20000",
            "mremap -m 20000",
        ],
        options: "",
        session: &[
            "patch -q -o 4000 fill:58:1000",
            "remap -q --size 13001",
            "patch -q -o 5500 fill:59:7501",
            "remap -q --size 7003",
            "patch -q -o 6000 fill:5a:1003",
            "remap -q --size 20000",
        ],
        code: 0,
    },
    Sequence {
        name: "punched and zeroed under a live mapping",
        len: 65536,
        xfs_io: &[
            "mmap -rw 0 65536",
            "mwrite -S 0x58 0 65536",
            "fpunch 4096 8192",
            "mwrite -S 0x59 6000 100",
            "fpunch 20001 9999",
            "fzero 40001 5003",
            "mwrite -S 0x5a 44000 2000",
            "fpunch 60000 5536",
        ],
        options: "",
        session: &[
            "patch -q -o 0 fill:58:64K",
            "zero -q --punch -r 4096..+8192",
            "patch -q -o 6000 fill:59:100",
            "zero -q --punch -r 20001..+9999",
            "zero -q --method zero-range -r 40001..+5003",
            "patch -q -o 44000 fill:5a:2000",
            "zero -q --punch -r 60000..+5536",
        ],
        code: 0,
    },
    Sequence {
        name: "the tail behind the end of the file",
        len: 10_001,
        xfs_io: &[
            "mmap -rw 0 10001",
            "mwrite -S 0x58 9990 11",
            "msync -s",
            "truncate 10100",
            "mremap -m 10100",
            "mwrite -S 0x59 10099 1",
            "truncate 12288",
        ],
        options: "",
        session: &[
            "patch -q -o 9990 fill:58:11",
            "sync -q",
            "! truncate -s 10100 F",
            "remap -q --keep-file --size 10100",
            "patch -q -o 10099 fill:59:1",
            "! truncate -s 12288 F",
        ],
        code: 0,
    },
    Sequence {
        name: "a part of a file, synced in ranges",
        len: 65536,
        xfs_io: &[
            "mmap -rw 8192 32768",
            "mwrite -S 0x58 9000 20000",
            "msync -s 8192 4096",
            "mwrite -S 0x59 9500 10",
            "msync -s 16384 8192",
        ],
        options: "-r 8192..+32768",
        session: &[
            "patch -q -o 9000 fill:58:20000",
            "sync -q -r 8192..+4096",
            "patch -q -o 9500 fill:59:10",
            "sync -q -r 16384..+8192",
        ],
        code: 0,
    },
    Sequence {
        name: "a private mapping, truncated and extended",
        len: 16384,
        xfs_io: &["truncate 5000", "truncate 16384"],
        options: "--private",
        session: &[
            "patch -q -o 0 fill:58:16384",
            "! truncate -s 5000 F; truncate -s 16384 F",
            "patch -q -o 100 fill:59:100",
        ],
        code: 0,
    },
];

/// File systems with blocks as large as a page, and smaller.
const SYSTEMS: [(&str, u64); 4] = [
    ("mkfs.ext4 -q -F -b 4096", 32),
    ("mkfs.ext4 -q -F -b 1024", 32),
    ("mkfs.xfs -q -f -b size=4096", 320),
    ("mkfs.xfs -q -f -b size=1024", 320),
];

/// An image that can be unmounted and mounted again.
struct Disk {
    image: PathBuf,
    mount: Option<Mount>,
    _folder: Sandbox,
}

impl Disk {
    fn new(mkfs: &str, mib: u64) -> Option<Disk> {
        if !has("xfs_io") {
            return None;
        }
        let folder = Sandbox::new();
        let image = file_system_image(&folder.join("image"), mkfs, mib)?;
        let mount = Some(Mount::loopback(&image)?);
        Some(Disk {
            image,
            mount,
            _folder: folder,
        })
    }

    fn remount(&mut self) {
        drop(self.mount.take());
        self.mount = Mount::loopback(&self.image);
    }

    /// Stops all writing to the device: the shutdown ioctl, without flushing the log.
    fn cut_power(&self) {
        self.peer("xfs_io", &["-x", "-c", "shutdown", "."]);
    }
}

impl Deref for Disk {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        self.mount.as_ref().expect("it is mounted")
    }
}

/// Runs xfs_io, which ends with 0 even after an error, but prints nothing when it succeeds.
fn xfs_io(dir: &Sandbox, name: &str, commands: &[&str]) {
    let mut args: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
    args.push(name);
    let output = dir.program("xfs_io", &args).outcome();
    assert_eq!(output, "exit 0", "xfs_io {args:?}");
}

fn session(dir: &Sandbox, name: &str, options: &str, verbs: &[&str]) -> (i32, Outcome) {
    let verbs: Vec<String> = verbs.iter().map(|verb| verb.replace(" F", &format!(" {name}"))).collect();
    let mut args = vec!["map", name];
    args.extend(options.split(' ').filter(|word| !word.is_empty()));
    args.extend(verbs.iter().flat_map(|verb| ["-c", verb]));
    let output = dir.mmapctl(&args);
    (output.status.code().unwrap_or(-1), output)
}

#[test]
fn sessions_leave_the_bytes_that_xfs_io_leaves() {
    for (mkfs, mib) in SYSTEMS {
        needs!(let mut disk = Disk::new(mkfs, mib));
        let names = |number: usize| (format!("theirs{number}"), format!("ours{number}"));
        let mut wanted = Vec::new();
        for (number, sequence) in SEQUENCES.iter().enumerate() {
            let (theirs, ours) = names(number);
            for name in [&theirs, &ours] {
                fs::write(disk.join(name), vec![b'a'; sequence.len as usize]).expect("room");
            }
            disk.peer("sync", &["-f", "."]);
            xfs_io(&disk, &theirs, sequence.xfs_io);
            let (code, text) = session(&disk, &ours, sequence.options, sequence.session);
            assert_eq!(code, sequence.code, "{mkfs}: {}\n{text}", sequence.name);
            let bytes = |name: &str| read(disk.join(name));
            same(&bytes(&theirs), &bytes(&ours), &format!("{mkfs}: {}", sequence.name));
            wanted.push(bytes(&ours));
        }
        disk.remount();
        for (number, (sequence, wanted)) in SEQUENCES.iter().zip(&wanted).enumerate() {
            let (theirs, ours) = names(number);
            let bytes = |name: &str| read(disk.join(name));
            let what = format!("{mkfs}, after a remount: {}", sequence.name);
            same(wanted, &bytes(&ours), &what);
            same(&bytes(&theirs), &bytes(&ours), &what);
        }
    }
}

#[test]
fn synced_ranges_survive_a_power_cut() {
    for (mkfs, mib) in SYSTEMS {
        needs!(let mut disk = Disk::new(mkfs, mib));
        for name in ["theirs", "ours"] {
            fs::write(disk.join(name), vec![b'a'; 65536]).expect("room");
        }
        disk.peer("sync", &["-f", "."]);
        xfs_io(
            &disk,
            "theirs",
            &[
                "mmap -rw 0 65536",
                "mwrite -S 0x58 0 65536",
                "msync -s 4096 4096",
                "msync -s 20480 12288",
                "mwrite -S 0x59 4096 100",
            ],
        );
        let verbs = [
            "patch -q -o 0 fill:58:64K",
            "sync -q -r 4096..+4096",
            "sync -q -r 20480..+12288",
            "patch -q -o 4096 fill:59:100",
        ];
        let (code, text) = session(&disk, "ours", "", &verbs);
        assert_eq!(code, 0, "{mkfs}\n{text}");
        disk.cut_power();
        disk.remount();
        for name in ["theirs", "ours"] {
            let bytes = read(disk.join(name));
            assert_eq!(bytes.len(), 65536, "{mkfs}: {name}");
            // What was stored last was not asked to be there, and may be.
            let fresh = |byte: &u8| *byte == 0x58;
            assert!(bytes[4196..8192].iter().all(fresh), "{mkfs}: {name}: the first range");
            assert!(bytes[4096..4196].iter().all(|byte| [0x58, 0x59].contains(byte)), "{mkfs}: {name}");
            assert!(bytes[20480..32768].iter().all(fresh), "{mkfs}: {name}: the second range");
            assert!(bytes.iter().all(|byte| [b'a', 0x58, 0x59].contains(byte)), "{mkfs}: {name}: bytes from nowhere");
        }
    }
}

#[test]
fn a_store_to_a_reflinked_extent_leaves_the_other_file_alone() {
    for (mkfs, mib) in SYSTEMS.into_iter().filter(|(mkfs, _)| mkfs.contains("xfs")) {
        needs!(let mut disk = Disk::new(mkfs, mib));
        fs::write(disk.join("origin"), vec![b'a'; 65536]).expect("room");
        disk.peer("sync", &["-f", "."]);
        for name in ["theirs", "ours"] {
            disk.peer("cp", &["--reflink=always", "origin", name]);
        }
        let stores = [
            "mmap -rw 0 65536",
            "mwrite -S 0x58 5000 10000",
            "fpunch 30000 5000",
            "mwrite -S 0x59 32000 10",
            "msync -s",
        ];
        xfs_io(&disk, "theirs", &stores);
        let verbs = [
            "patch -q -o 5000 fill:58:10000",
            "zero -q --punch -r 30000..+5000",
            "patch -q -o 32000 fill:59:10",
            "sync -q",
        ];
        let (code, text) = session(&disk, "ours", "", &verbs);
        assert_eq!(code, 0, "{mkfs}\n{text}");
        for time in ["before", "after"] {
            let bytes = |name: &str| read(disk.join(name));
            same(&bytes("theirs"), &bytes("ours"), &format!("{mkfs}, {time} a remount"));
            same(&[b'a'; 65536], &bytes("origin"), &format!("{mkfs}, {time} a remount: the origin"));
            disk.remount();
        }
    }
}

fn same(wanted: &[u8], found: &[u8], what: &str) {
    assert_eq!(wanted.len(), found.len(), "{what}: lengths");
    let first = wanted.iter().zip(found).position(|(wanted, found)| wanted != found);
    if let Some(at) = first {
        panic!("{what}: at {at:#x} stands {:#04x}, not {:#04x}", found[at], wanted[at]);
    }
}
