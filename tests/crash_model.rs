//! The undo journal's protocol: its model's crash states, all of them; the model's mutants; and that the model's steps
//! are the program's.

use crate::support;
use crate::support::faults::{code, strace_works, straced};
use crate::support::journal_model::*;
use crate::support::{file, scratch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn no_crash_at_any_step_of_a_patch_or_of_its_recovery_leaves_a_file_torn_or_a_journal_refused() {
    let states = Model::check(Mutant::None).unwrap_or_else(|error| panic!("{error}"));
    assert!(states > 300, "only {states} states were seen");
}

#[test]
fn the_model_catches_every_mutant_of_the_protocol() {
    let check = |mutant: &Mutant| {
        let caught = Model::check(*mutant).err();
        // Shown by --nocapture: whether each is caught for the right reason.
        caught.is_none()
    };
    let escaped: Vec<_> = MUTANTS.into_iter().filter(check).collect();
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
}

// ---- the model's order is the program's ----

const CALLS: &str = "trace=openat,write,pwrite64,pwritev,fsync,fdatasync,msync,sync_file_range,syncfs,sync,preadv,\
                     ftruncate,fallocate,unlink,unlinkat,rename,flock,madvise,process_vm_readv,memfd_create,mmap";

/// The names of a model's steps, stores and writes that follow each other as one.
fn names(ops: &[Op]) -> Vec<&'static str> {
    let name = |op: &Op| match op {
        Op::Create(_) => "create",
        Op::Write(_) => "write",
        Op::FsyncJournal => "fsync journal",
        Op::FsyncFolder => "fsync folder",
        Op::Store(..) => "store",
        Op::Msync => "flush",
        Op::End => "end journal",
        Op::Unlink => "unlink",
    };
    merged(ops.iter().map(name).collect())
}

fn merged(mut names: Vec<&'static str>) -> Vec<&'static str> {
    names.dedup_by(|a, b| a == b && ["write", "store"].contains(a));
    names
}

/// The same of what strace saw mmapctl do. The target is "f" of `dir`.
fn seen(dir: &Path) -> Vec<&'static str> {
    let log = fs::read_to_string(dir.join("strace.log")).unwrap();
    let folder = format!("<{}>)", fs::canonicalize(dir).unwrap().display());
    let step = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let name = call.split_once('(')?.0;
        let journal = call.contains(".f.mmapctl-undo");
        match name {
            "openat" if journal && call.contains("O_CREAT") => Some("create"),
            "pwrite64" if journal => Some("end journal"),
            "write" | "pwritev" if journal => Some("write"),
            "fsync" if journal => Some("fsync journal"),
            "fsync" if call.contains(&folder) => Some("fsync folder"),
            "preadv" | "ftruncate" => Some("store"),
            "fallocate" if call.contains("/f>") => Some("store"),
            "msync" => Some("flush"),
            "fdatasync" if call.contains("/f>") => Some("flush"),
            "unlink" | "unlinkat" if journal => Some("unlink"),
            "fsync" | "fdatasync" | "sync" | "syncfs" | "sync_file_range" | "rename" => Some("something else"),
            _ => None,
        }
    };
    merged(log.lines().filter_map(step).collect())
}

/// A file, and patches of it, with the values that the model has for them.
const PATCHES: [(Shape, Target, &str); 3] = [
    (Shape::Kept, [NEW, NEW, OLD], "patch f --atomic --script kept"),
    (Shape::Grown, [NEW; 3], "patch f --atomic --script grown"),
    (Shape::Shrunk, [NEW; 3], "patch f --atomic --script shrunk"),
];

fn prepare(dir: &Path) {
    file(dir, "f", &support::noise(16384));
    for (name, edits) in [
        ("kept", "4000: -> aabbcc\n12000: -> ddee"),
        ("grown", "size 16384 -> 30000\n4000: -> aabbcc\n20000: -> ddee"),
        ("shrunk", "size 16384 -> 9000\n0x10: -> aabbcc"),
    ] {
        file(dir, name, format!("# mmapctl-patch 1\n{edits}\n").as_bytes());
    }
}

/// Runs it under strace, which must end well.
fn traced(dir: &Path, line: &str) {
    let output = straced(dir, &["-y", "-e", CALLS], line);
    assert_eq!(code(&output), 0, "{line}: {}", support::faults::stderr(&output));
}

#[test]
fn the_steps_of_the_model_are_those_of_the_program() {
    let test = "the_steps_of_the_model_are_those_of_the_program";
    if !strace_works(test) {
        return;
    }
    for (shape, new, line) in PATCHES {
        let dir = scratch();
        prepare(dir.path());
        traced(dir.path(), line);
        let steps = names(&patch([OLD; 3], new, shape, Mutant::None));
        assert_eq!(seen(dir.path()), steps, "{line}");
        assert_eq!(
            steps,
            [
                "flush",
                "create",
                "write",
                "fsync journal",
                "fsync folder",
                "store",
                "flush",
                "end journal",
                "fsync journal",
                "unlink",
                "fsync folder"
            ]
        );
    }
}

#[test]
fn an_atomic_patch_takes_six_barriers_whatever_becomes_of_the_length() {
    let test = "an_atomic_patch_takes_six_barriers_whatever_becomes_of_the_length";
    if !strace_works(test) {
        return;
    }
    let sizes = ["16384 -> 9000", "16384 -> 8192", "16384 -> 0", "16384 -> 20000"].map(|size| format!("size {size}"));
    let edits = [
        "0: -> aabb".to_string(),
        "size 16384 -> 9000\n8990: -> fill:77:10".to_string(),
    ];
    for script in sizes.into_iter().chain(edits) {
        let dir = scratch();
        prepare(dir.path());
        file(dir.path(), "script", script.as_bytes());
        traced(dir.path(), "patch f --atomic --script script");
        let log = fs::read_to_string(dir.path().join("strace.log")).unwrap();
        let barriers = ["fsync(", "fdatasync(", "msync(", "sync(", "syncfs(", "sync_file_range("];
        let is_barrier = |line: &&str| barriers.iter().any(|call| line.contains(&format!(" {call}")));
        let count = log.lines().filter(is_barrier).count();
        assert_eq!(count, 6, "{script}: {log}");
    }
}

#[test]
fn the_steps_of_the_models_recovery_are_those_of_the_programs() {
    let test = "the_steps_of_the_models_recovery_are_those_of_the_programs";
    if !strace_works(test) {
        return;
    }
    for (shape, new, line) in PATCHES {
        let dir = scratch();
        prepare(dir.path());
        let kill = ["-e", "inject=msync:signal=KILL:when=1"];
        assert_eq!(code(&straced(dir.path(), &kill, line)), 128 + 9);
        traced(dir.path(), "patch f --script /dev/null");
        assert!(
            fs::read(dir.path().join("f")).unwrap() == support::noise(16384),
            "{line}"
        );
        let mut world = World::at_rest(None, [OLD; 3]);
        // The first flush is that of the old bytes.
        for op in patch([OLD; 3], new, shape, Mutant::None).into_iter().skip(1) {
            if op == Op::Msync {
                break;
            }
            world.apply(op);
        }
        assert_eq!(
            seen(dir.path()),
            names(&recovery(&world, Mutant::None).unwrap()),
            "{line}"
        );
        // An invalid journal is taken away, and that is all.
        let invalid = file(dir.path(), ".f.mmapctl-undo", b"MMAPUNDO\x01");
        fs::set_permissions(invalid, fs::Permissions::from_mode(0o600)).unwrap();
        traced(dir.path(), "patch f --script /dev/null");
        assert_eq!(
            seen(dir.path()),
            ["end journal", "fsync journal", "unlink", "fsync folder"]
        );
    }
}

#[test]
fn a_patch_that_changes_nothing_stores_again_and_makes_sure_that_no_journal_comes_back() {
    if strace_works("a_patch_that_changes_nothing_stores_again_and_makes_sure_that_no_journal_comes_back") {
        let dir = scratch();
        prepare(dir.path());
        let bytes = const_hex::encode(&support::noise(16384)[..4]);
        traced(dir.path(), &format!("patch f --atomic -o 0 {bytes}"));
        let steps = patch([OLD; 3], [OLD; 3], Shape::Kept, Mutant::None);
        assert_eq!(seen(dir.path()), names(&steps));
    }
}

#[test]
fn what_calls_a_file_durable_makes_sure_that_no_journal_comes_back() {
    let test = "what_calls_a_file_durable_makes_sure_that_no_journal_comes_back";
    if !strace_works(test) {
        return;
    }
    let dir = scratch();
    let (changed, unchanged) = ([NEW, NEW, OLD], [OLD; 3]);
    let synced = |new| names(&support::journal_model::synced([OLD; 3], new, Mutant::None));
    let sync = names(&sync(Mutant::None));
    file(dir.path(), "sync", b"sync");
    file(dir.path(), "patch", b"patch -o 0 aabb --sync");
    file(dir.path(), "zero", b"zero -o 0 -n 4 --sync");
    let bytes = const_hex::encode(&support::noise(16384)[..4]);
    for (line, steps) in [
        ("patch f --sync -o 0 aabb", synced(changed)),
        ("patch f --sync --access 2 -o 0 aabb", vec!["fsync folder", "flush"]),
        (&format!("patch f --sync -o 0 {bytes}"), synced(unchanged)),
        ("zero f --sync -o 0 -n 4 --method write", synced(changed)),
        ("zero f --sync -o 0 -n 4 --method punch", synced(changed)),
        ("sync f", sync.clone()),
        ("map f --script sync", sync.clone()),
        ("map f --script patch", synced(changed)),
        ("map f --script zero", synced(changed)),
    ] {
        prepare(dir.path());
        traced(dir.path(), line);
        assert_eq!(seen(dir.path()), steps, "{line}");
    }
    // What promises nothing waits for no folder.
    for line in ["patch f -o 0 aabb", "zero f -o 0 -n 4 --method write", "sync f --async"] {
        prepare(dir.path());
        traced(dir.path(), line);
        assert!(!seen(dir.path()).contains(&"fsync folder"), "{line}");
    }
}

/// What a patch does, without the addresses, lengths and numbers in it, and without what concerns the journal.
fn doings(dir: &Path) -> Vec<String> {
    let log = fs::read_to_string(dir.join("strace.log")).unwrap();
    let folder = fs::canonicalize(dir).unwrap().display().to_string();
    let aside = [
        ".mmapctl-undo",
        &format!("\"{folder}\""),
        "fsync(",
        "/proc/self/fdinfo/",
    ];
    let calls = log.lines().filter_map(|line| line.split_once(' '));
    calls
        .map(|(_, call)| call.trim_start())
        .filter(|call| !aside.iter().any(|part| call.contains(part)))
        // Memory of the program's own.
        .filter(|call| !call.contains("MAP_ANONYMOUS") && !call.contains("<pipe:"))
        .map(|call| {
            let (name, rest) = call.split_once('(').unwrap_or((call, ""));
            let object = rest.split(['<', '>']).nth(1).unwrap_or_default();
            let asked = ["MADV_", "MAP_SHARED", "MS_SYNC", "LOCK_EX", "O_RDWR"];
            let asked: Vec<_> = asked.into_iter().filter(|word| rest.contains(word)).collect();
            format!("{name} {object} {}", asked.join(" "))
        })
        .collect()
}

#[test]
fn apart_from_the_journal_and_its_five_barriers_an_atomic_patch_does_what_a_synced_one_does() {
    let test = "apart_from_the_journal_and_its_five_barriers_an_atomic_patch_does_what_a_synced_one_does";
    if !strace_works(test) {
        return;
    }
    for (_, _, line) in &PATCHES {
        let dir = scratch();
        prepare(dir.path());
        traced(dir.path(), line);
        let mut atomic = doings(dir.path());
        let flush = atomic.iter().position(|call| call.starts_with("fdatasync"));
        let flush = flush.expect("the old bytes are flushed first");
        atomic.remove(flush);
        // It ends that their pages are writable.
        while atomic[flush].starts_with("madvise") {
            atomic.remove(flush);
        }
        prepare(dir.path());
        traced(dir.path(), &line.replace("--atomic", "--sync"));
        let synced = doings(dir.path());
        assert_eq!(atomic, synced, "{line}");
    }
}
