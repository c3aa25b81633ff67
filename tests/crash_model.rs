//! The undo journal's protocol: all crash states of its model, the mutants of the model, and a check that the steps of
//! the model are those of the program.

use crate::support::journal_model::*;
use crate::support::strace::*;
use crate::support::*;
use std::fs;

#[test]
fn no_crash_at_any_step_leaves_a_file_torn() {
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
        Op::Create(..) => "create",
        Op::Write(_) => "write",
        Op::FsyncJournal => "fsync journal",
        Op::FsyncFolder => "fsync folder",
        Op::Store(..) | Op::Lengthen(_) => "store",
        Op::Note(_) => "note",
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

/// The names of the steps that strace saw mmapctl take. The target is "f" of `dir`.
fn seen(dir: &Sandbox) -> Vec<&'static str> {
    let log = dir.strace_log();
    let folder = format!("<{}>)", fs::canonicalize(dir).unwrap().display());
    let step = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let name = call.split_once('(')?.0;
        let journal = call.contains(".f.mmapctl-undo");
        match name {
            "openat" if journal && call.contains("O_CREAT") => Some("create"),
            "pwrite64" if journal && call.contains(", 1, 15)") => Some("note"),
            "pwrite64" if journal => Some("end journal"),
            "write" | "pwritev" if journal => Some("write"),
            "fsync" | "fdatasync" if journal => Some("fsync journal"),
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

fn prepare(dir: &Sandbox) {
    dir.file("f", noise(16384));
    for (name, edits) in [
        ("kept", "4000: -> aabbcc\n12000: -> ddee"),
        ("grown", "size 16384 -> 30000\n4000: -> aabbcc\n20000: -> ddee"),
        ("shrunk", "size 16384 -> 9000\n0x10: -> aabbcc"),
    ] {
        dir.file(name, format!("# mmapctl-patch 1\n{edits}\n"));
    }
}

/// Runs `line` under strace; it must end with 0.
fn traced(dir: &Sandbox, line: &str) {
    dir.straced(&["-y", "-e", CALLS], line).code(0);
}

#[test]
fn the_steps_of_the_model_are_those_of_the_program() {
    needs!(strace_works());
    for (shape, new, line) in PATCHES {
        let dir = Sandbox::new();
        prepare(&dir);
        traced(&dir, line);
        let steps = names(&patch([OLD; 3], new, shape, Mutant::None));
        assert_eq!(seen(&dir), steps, "{line}");
        let begin = ["flush", "create", "write", "fsync journal", "fsync folder", "store"];
        let change = match shape {
            Shape::Kept => &["flush"][..],
            Shape::Grown => &["flush", "note", "fsync journal", "store", "flush"],
            Shape::Shrunk => &["note", "fsync journal", "store", "flush"],
        };
        let end = ["end journal", "fsync journal", "unlink", "fsync folder"];
        assert_eq!(steps, [&begin, change, &end].concat());
    }
}

#[test]
fn an_atomic_patch_takes_six_barriers_and_up_to_two_for_a_new_length() {
    needs!(strace_works());
    for (script, expected) in [
        ("0: -> aabb", 6),
        ("size 16384 -> 9000", 7),
        ("size 16384 -> 8192", 7),
        ("size 16384 -> 0", 7),
        ("size 16384 -> 9000\n8990: -> fill:77:10", 7),
        ("size 16384 -> 20000", 8),
    ] {
        let dir = Sandbox::new();
        prepare(&dir);
        dir.file("script", script);
        traced(&dir, "patch f --atomic --script script");
        let log = dir.strace_log();
        let barriers = ["fsync(", "fdatasync(", "msync(", "sync(", "syncfs(", "sync_file_range("];
        let is_barrier = |line: &&str| barriers.iter().any(|call| line.contains(&format!(" {call}")));
        let count = log.lines().filter(is_barrier).count();
        assert_eq!(count, expected, "{script}: {log}");
    }
}

#[test]
fn the_steps_of_the_models_recovery_are_those_of_the_programs() {
    needs!(strace_works());
    for (shape, new, line) in PATCHES {
        let dir = Sandbox::new();
        prepare(&dir);
        let kill = ["msync:signal=KILL:when=1"];
        assert_eq!(dir.inject(&kill, line).exit(), 128 + 9);
        traced(&dir, "patch f --script /dev/null");
        assert!(dir.read("f") == noise(16384), "{line}");
        let mut world = World::at_rest(None, [OLD; 3]);
        // The first flush is that of the old bytes.
        for op in patch([OLD; 3], new, shape, Mutant::None).into_iter().skip(1) {
            if op == Op::Msync {
                break;
            }
            world.apply(op);
        }
        assert_eq!(seen(&dir), names(&recovery(&world, Mutant::None).unwrap()), "{line}");
        // An invalid journal is taken away, and that is all.
        let invalid = dir.file(".f.mmapctl-undo", b"MMAPUNDO\x01");
        set_mode(invalid, 0o600);
        traced(&dir, "patch f --script /dev/null");
        assert_eq!(seen(&dir), ["end journal", "fsync journal", "unlink", "fsync folder"]);
    }
}

#[test]
fn an_atomic_patch_without_changes_leaves_no_journal_to_return() {
    if strace_works() {
        let dir = Sandbox::new();
        prepare(&dir);
        let bytes = const_hex::encode(&noise(16384)[..4]);
        traced(&dir, &format!("patch f --atomic -o 0 {bytes}"));
        let steps = patch([OLD; 3], [OLD; 3], Shape::Kept, Mutant::None);
        assert_eq!(seen(&dir), names(&steps));
    }
}

#[test]
fn durable_verbs_leave_no_journal_to_return() {
    needs!(strace_works());
    let dir = Sandbox::new();
    let (changed, unchanged) = ([NEW, NEW, OLD], [OLD; 3]);
    let durable = |new| names(&journal_model::synced([OLD; 3], new, Mutant::None));
    let sync = names(&sync(Mutant::None));
    dir.file("sync", b"sync");
    dir.file("patch", b"patch -o 0 aabb --sync");
    dir.file("zero", b"zero -o 0 -n 4 --sync");
    let bytes = const_hex::encode(&noise(16384)[..4]);
    for (line, steps) in [
        ("patch f --sync -o 0 aabb", durable(changed)),
        ("patch f --sync --access 2 -o 0 aabb", vec!["fsync folder", "flush"]),
        (&format!("patch f --sync -o 0 {bytes}"), durable(unchanged)),
        ("zero f --sync -o 0 -n 4 --method write", durable(changed)),
        ("zero f --sync -o 0 -n 4 --method punch", durable(changed)),
        ("sync f", sync.clone()),
        ("map f --script sync", sync.clone()),
        ("map f --script patch", durable(changed)),
        ("map f --script zero", durable(changed)),
    ] {
        prepare(&dir);
        traced(&dir, line);
        assert_eq!(seen(&dir), steps, "{line}");
    }
    // What promises nothing waits for no folder.
    for line in ["patch f -o 0 aabb", "zero f -o 0 -n 4 --method write", "sync f --async"] {
        prepare(&dir);
        traced(&dir, line);
        assert!(!seen(&dir).contains(&"fsync folder"), "{line}");
    }
}

/// What a patch does, without the addresses, lengths and numbers in it, and without what concerns the journal.
fn doings(dir: &Sandbox) -> Vec<String> {
    let log = dir.strace_log();
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
fn an_atomic_patch_adds_only_a_journal_and_its_barriers() {
    needs!(strace_works());
    for (shape, _, line) in &PATCHES {
        let dir = Sandbox::new();
        prepare(&dir);
        traced(&dir, line);
        let mut atomic = doings(&dir);
        // The old bytes are flushed first, and of a longer file the new part, too.
        let flushes = if *shape == Shape::Grown { 2 } else { 1 };
        for _ in 0..flushes {
            let flush = atomic.iter().position(|call| call.starts_with("fdatasync"));
            let flush = flush.expect("a flush before the stores");
            atomic.remove(flush);
            // It ends that their pages are writable.
            while atomic[flush].starts_with("madvise") {
                atomic.remove(flush);
            }
        }
        prepare(&dir);
        traced(&dir, &line.replace("--atomic", "--sync"));
        let durable = doings(&dir);
        assert_eq!(atomic, durable, "{line}");
    }
}
