//! Words from other tools: names of verbs and options, and what mmapctl calls them.

/// Names that are not verbs, the verb that was meant, and how it is used. `FILE` stands for the file.
pub(super) const VERBS: [(&str, &str, &str); 8] = [
    (
        "dump hexdump hd xxd od hex show view print read less more head tail type",
        "cat",
        "'mmapctl cat FILE -x' shows the bytes",
    ),
    (
        "edit write set poke put modify change replace store overwrite sed",
        "patch",
        "the verb is patch, with --offset and the new bytes: see 'mmapctl patch --help'",
    ),
    (
        "undo revert restore rollback unpatch",
        "patch",
        "patch --script PATH applies the script that --undo PATH wrote: see 'mmapctl patch --help'",
    ),
    (
        "diff cmp compare",
        "patch",
        "patch --diff OTHER prints the script that turns one file into the other: see 'mmapctl patch --help'",
    ),
    (
        "resize truncate grow shrink extend size allocate fallocate reorder",
        "remap",
        "remap changes the length, with --size, and the order of pages, with --order: see 'mmapctl remap --help'",
    ),
    (
        "fill",
        "patch",
        "patch repeats one byte with a value such as fill:ff:16: see 'mmapctl patch --help'",
    ),
    (
        "wipe clear erase blank punch discard trim sparsify dig",
        "zero",
        "zero makes a range read as zeros, with --punch or --sparsify frees blocks: see 'mmapctl zero --help'",
    ),
    (
        "flush fsync fdatasync msync commit save evict",
        "sync",
        "sync makes a range durable: see 'mmapctl sync --help'",
    ),
];

/// Names that suggest `map`, whose report is what the user asks for.
pub(super) const REPORTS: &str =
    "mmap info stat status ls mincore fincore vmtouch residency cached lock mlock hold run";

/// How an option of another name gets its value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Offset,
    Length,
    Size,
}

/// Options that a verb does not have: their names, the verbs (`*` for all), and what to write instead. The first match
/// counts. If the option takes a value, the typed one is written after it.
pub(super) const OPTIONS: [(&str, &str, &str, Takes); 27] = [
    ("-C --canonical", "cat", "write -f canonical", Takes::Nothing),
    ("-h -X --hex --hexdump --dump --format-hex", "cat", "write -x", Takes::Nothing),
    ("-p --ps --plain --postscript", "cat", "write -f plain", Takes::Nothing),
    ("-i --include", "cat", "write -f c", Takes::Nothing),
    ("-e -t --type", "cat", "write the type of the columns: -f u32le, -f i16be, -f f64le", Takes::Nothing),
    ("--xxd", "cat", "write -f xxd", Takes::Nothing),
    ("--raw", "cat", "write -f raw", Takes::Nothing),
    ("-F --follow", "cat map", "write --watch", Takes::Nothing),
    ("-s -l -n --length --len --to-size", "remap", "write --size", Takes::Size),
    (
        "--grow --extend --add",
        "remap",
        "write --size +SIZE, which makes it longer by that much",
        Takes::Nothing,
    ),
    (
        "--shrink --reduce --cut",
        "remap",
        "write --size -SIZE, which cuts that much off its end",
        Takes::Nothing,
    ),
    (
        "--value --values --val --data --bytes --write --new --hex --text --string --with",
        "patch",
        "leave it out, and write only the value: dead, text:words, u32le:1",
        Takes::Nothing,
    ),
    ("--old --check --verify --compare", "patch", "write --expect with the old bytes", Takes::Nothing),
    (
        "--backup --bak --save",
        "patch",
        "write --undo PATH, which keeps the old bytes as a script",
        Takes::Nothing,
    ),
    (
        "-f --file --input --patch",
        "patch",
        "write --script PATH for edits, or @PATH for the bytes of a file",
        Takes::Nothing,
    ),
    (
        "-i -w --in-place --inplace",
        "patch zero",
        "leave it out: files are changed in place",
        Takes::Nothing,
    ),
    ("-p --punch-hole --discard", "zero", "write --punch", Takes::Nothing),
    ("-d --dig-holes", "zero", "write --sparsify", Takes::Nothing),
    ("-z --zero-range", "zero", "write --method zero-range", Takes::Nothing),
    ("-t --touch --preload --prefault", "map", "write --populate", Takes::Nothing),
    ("--mlock --pin", "map", "write --lock", Takes::Nothing),
    ("-e --evict --drop", "map", "sync has it: 'mmapctl sync --help'", Takes::Nothing),
    (
        "-s -j --skip --seek --start --from --begin --addr --address --pos --position --at",
        "*",
        "write --offset",
        Takes::Offset,
    ),
    ("-l -N --len --bytes --count --limit --size", "*", "write --length", Takes::Length),
    ("--end --until --stop --to", "*", "write --range START..END, without its end", Takes::Nothing),
    ("--dry --simulate --preview --no-act", "patch zero", "write --dry-run", Takes::Nothing),
    ("--fsync --flush --durable", "patch zero", "write --sync", Takes::Nothing),
];
