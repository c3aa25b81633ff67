//! Tips are for typing: every tip that a test sees is checked for commands that lose data, and its commands are run in a
//! copy of the test's folder, where every file must be as before.

use super::{BINARY, Sandbox};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs that a tip may name besides mmapctl. They look, wait or set a limit, and take no file away.
const HARMLESS: [&str; 26] = [
    "cat", "chmod", "cmp", "command", "cp", "df", "dmesg", "echo", "findmnt", "fuser", "grep", "ls", "lsattr", "lsblk",
    "blockdev", "lslocks", "mkdir", "namei", "socat", "stat", "sysctl", "ulimit", "find", "id", "remap", "map",
];

/// Words of commands that take bytes away.
const HARMFUL: [&str; 10] = [
    "rm", "rmdir", "mv", "truncate", "shred", "unlink", "mkfs", "wipefs", "mkswap", "fstrim",
];

/// The longest copy that is made, in bytes.
const MOST: u64 = 2 << 20;

/// The tips in the text of an outcome, see [`super::Outcome`].
pub fn tips(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("!   tip: "))
}

/// Whether a tip names nothing that takes bytes away.
pub fn check(text: &str) {
    for tip in tips(text) {
        // To rename a file to a name that is free loses nothing, and can be turned round.
        let rest = tip.replace("mv -nT ", "");
        let mut words = rest.split(|c: char| !(c.is_alphanumeric() || "-_./".contains(c)));
        let harmful = words.find(|word| HARMFUL.contains(word));
        assert!(harmful.is_none(), "a tip says '{}': {text}", harmful.unwrap_or_default());
        assert!(!tip.contains("dd if=") && !tip.contains("dd of="), "{text}");
        assert!(!tip.contains("-- --"), "a tip makes a value of an option: {text}");
        for quoted in commands(tip) {
            let program = quoted.split(' ').next().unwrap_or_default();
            let is_name = program.chars().all(|c| c.is_ascii_lowercase());
            let known = program == "mmapctl" || HARMLESS.contains(&program);
            assert!(known || !is_name || !quoted.contains(' '), "a tip names '{program}': {text}");
        }
    }
}

/// The texts between quotes, which are no apostrophes.
fn commands(tip: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut from = 0;
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    while let Some(start) = tip[from..].find('\'').map(|at| from + at + 1) {
        from = start;
        if is_letter(tip[..start - 1].chars().next_back()) {
            continue;
        }
        let mut ends = tip[start..].match_indices('\'').map(|(at, _)| start + at);
        if let Some(end) = ends.find(|end| !is_letter(tip[end + 1..].chars().next())) {
            all.push(&tip[start..end]);
            from = end + 1;
        }
    }
    all
}

/// Runs the commands of tips in a copy of `dir`.
pub fn type_in_a_copy(dir: &Path, text: &str) {
    for tip in tips(text) {
        for command in commands(tip).into_iter().filter(|command| command.starts_with("mmapctl ")) {
            type_one(dir, command, text);
        }
    }
}

fn type_one(dir: &Path, command: &str, text: &str) {
    let copy = Sandbox::new();
    if !copy_of(dir, &copy) {
        return;
    }
    // A path to the original is one to the copy.
    let command = command.replace(&*dir.to_string_lossy(), &copy.to_string_lossy());
    let before = contents(&copy);
    let binaries = Path::new(BINARY).parent().expect("a binary lies in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    // Some of them run until a signal ends them.
    let typed = Command::new("timeout")
        .args(["-k", "5", "2", "sh", "-c", &command])
        .current_dir(&copy)
        .env("PATH", format!("{}:{path}", binaries.display()))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("timeout and sh are there");
    let said = String::from_utf8_lossy(&typed.stderr);
    assert!(
        !["unexpected argument", "unrecognized subcommand", "required argument"]
            .iter()
            .any(|words| said.contains(words)),
        "'{command}' cannot be typed: {said}\n{text}"
    );
    let after = contents(&copy);
    for (name, bytes) in &before {
        assert!(after.get(name) == Some(bytes), "'{command}' changed {}, or took it away:\n{text}", name.display());
    }
}

/// Copies the files of a folder; false where they are too long, or of a kind that cannot be copied.
fn copy_of(from: &Path, to: &Path) -> bool {
    let mut total = 0;
    let Ok(entries) = fs::read_dir(from) else { return false };
    entries.flatten().all(|entry| {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let Ok(meta) = fs::symlink_metadata(&source) else {
            return false;
        };
        total += meta.len();
        if meta.is_symlink() {
            let link = fs::read_link(&source);
            link.is_ok_and(|link| link.is_relative() && std::os::unix::fs::symlink(link, target).is_ok())
        } else if meta.is_dir() {
            fs::create_dir(&target).is_ok() && copy_of(&source, &target)
        } else {
            meta.is_file() && total <= MOST && fs::copy(source, target).is_ok()
        }
    })
}

/// The bytes of every file below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                folders.push(path);
            } else if kind.is_ok_and(|kind| kind.is_file()) {
                let bytes = fs::read(&path).unwrap_or_default();
                all.insert(path, bytes);
            }
        }
    }
    all
}
