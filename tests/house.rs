//! The rules of the house, held by reading its files: what may depend on what, and what stays out of where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A source file, by its path from the root of the repository.
struct Source {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }

    /// Lines of code with their numbers: without comments, and without items under `#[cfg(test)]`.
    fn code(&self) -> Vec<(usize, &str)> {
        let mut code = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            if line == "#[cfg(test)]" {
                // An item that begins in the first column ends there.
                let mut rest = lines.by_ref().map(|(_, line)| line);
                let head = rest.find(|line| !line.starts_with("#["));
                if head.is_some_and(|head| !head.ends_with(';') && !head.ends_with('}')) {
                    let end = rest.find(|line| line.starts_with('}'));
                    assert!(end.is_some(), "{}: an item without an end", self.path);
                }
                continue;
            }
            // A `//` in a string cuts too much, and no rule here is about what follows one.
            let line = line.split("//").next().unwrap_or_default();
            code.push((index + 1, line));
        }
        code
    }
}

/// Whether `text` has `word` with no letter, digit or underscore beside it.
fn has_word(text: &str, word: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(inner) && !after.is_some_and(inner)
    })
}

/// Every line of code that `wrong` says something of, as `path:line: what it says`.
fn complaints(sources: &[Source], mut wrong: impl FnMut(&Source, &str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (number, line) in source.code() {
            if let Some(complaint) = wrong(source, line) {
                complaints.push(format!("{}:{number}: {complaint}: {}", source.path, line.trim()));
            }
        }
    }
    complaints
}

/// The names of a table of Cargo.toml.
fn table(name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    let names: Vec<_> = lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once(" = ")?.0.trim().to_string()))
        .collect();
    assert!(!names.is_empty(), "Cargo.toml has no [{name}]");
    names
}

#[test]
fn the_rules_read_what_they_are_given() {
    let text = "//! Room.\nuse x; // unsafe\n#[cfg(test)]\nmod tests;\nfn f() {}\n#[cfg(test)]\n#[rustfmt::skip]\n\
                mod inner {\n    a.unwrap();\n}\nfn g() {}\n";
    let source = Source {
        path: "src/room.rs".into(),
        text: text.into(),
    };
    let lines: Vec<_> = source.code().into_iter().map(|(number, line)| (number, line.trim())).collect();
    assert_eq!(lines, [(1, ""), (2, "use x;"), (5, "fn f() {}"), (11, "fn g() {}")]);
    assert!(has_word("x unsafe{", "unsafe") && !has_word("unsafe_code", "unsafe") && !has_word("x::clap2", "clap"));
}

#[test]
fn every_file_opens_by_saying_what_its_room_is_for() {
    for source in sources("src").iter().chain(&sources("tests")) {
        let first = source.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 10, "{} opens with '{first}'", source.path);
    }
}

#[test]
fn no_file_is_longer_than_600_lines() {
    for source in sources("src").iter().chain(&sources("tests")) {
        let lines = source.text.lines().count();
        assert!(lines <= 600, "{} has {lines}", source.path);
    }
}

/// Who may import whom: the modules at the top of the crate, those that know nothing first. An arrow that is not here is a
/// new one, and takes a reason.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("text", &[]),
    ("json", &[]),
    ("inherited", &[]),
    ("memory", &[]),
    ("number", &[]),
    ("signals", &[]),
    ("mapping", &[]),
    ("dump", &["number"]),
    ("edit", &["mapping", "number", "text"]),
    ("output", &["edit", "signals"]),
    (
        "error",
        &[
            "edit", "json", "mapping", "memory", "output", "number", "signals", "text",
        ],
    ),
    ("progress", &["edit", "mapping", "output", "number", "signals"]),
    ("report", &["edit", "json", "mapping", "output", "text"]),
    ("usage", &["edit", "number", "text"]),
    (
        "cmd",
        &[
            "dump",
            "edit",
            "error",
            "inherited",
            "json",
            "mapping",
            "memory",
            "output",
            "progress",
            "number",
            "report",
            "signals",
            "text",
            "usage",
        ],
    ),
    (
        "cli",
        &[
            "cmd", "error", "mapping", "output", "number", "report", "signals", "text", "usage",
        ],
    ),
];

#[test]
fn nobody_imports_whom_the_table_does_not_name() {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        let room = source.path.trim_start_matches("src/").split(['/', '.']).next().unwrap();
        if ["lib", "main", "entry"].contains(&room) {
            continue;
        }
        let (_, may) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("the table does not have {room}"));
        let code = source.code().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
        for part in code.split("crate::").skip(1) {
            let name = part.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
            assert!(!name.is_empty(), "{}: imports in braces are not read here", source.path);
            if name != room && !may.contains(&name) {
                found.push(format!("{}: {room} imports {name}", source.path));
            }
        }
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn unsafe_code_lives_behind_its_doors() {
    const DOORS: [&str; 3] = ["src/entry", "src/mapping/region", "src/mapping/register"];
    let rooms = sources("src");
    // The door itself, or a room behind it.
    let behind = |source: &Source| {
        let is_at = |door: &&str| source.path == format!("{door}.rs") || source.path.starts_with(&format!("{door}/"));
        DOORS.iter().any(is_at)
    };
    let found = complaints(&rooms, |source, line| {
        let said = has_word(line, "unsafe") || has_word(line, "unsafe_code");
        (said && !behind(source)).then(|| "unsafe code outside of its doors".into())
    });
    assert_eq!(found, [""; 0]);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""));
    // Each block in there states its contract.
    let rooms: Vec<_> = rooms.iter().filter(|source| behind(source)).collect();
    assert!(rooms.len() > DOORS.len());
    for source in rooms {
        let blocks = source
            .code()
            .iter()
            .filter(|(_, line)| line.contains("unsafe {") || line.contains("#[unsafe("))
            .count();
        let contracts = source.text.matches("// SAFETY: ").count();
        assert!(blocks <= contracts, "{}: {blocks} blocks, {contracts} contracts", source.path);
    }
}

#[test]
fn the_core_knows_std_nix_memmap2_and_libc_alone() {
    const ALLOWED: [&str; 3] = ["nix", "memmap2", "libc"];
    let mut others = [table("dependencies"), table("dev-dependencies")].concat();
    others.retain(|name| !ALLOWED.contains(&name.as_str()));
    let others: Vec<_> = others.into_iter().map(|name| name.replace('-', "_")).collect();
    assert!(others.iter().any(|name| name == "clap") && others.iter().any(|name| name == "anyhow"));
    let mut core = sources("src/mapping");
    core.retain(|source| !source.is_test());
    let found = complaints(&core, |source, line| {
        let name = others.iter().find(|name| has_word(line, name));
        let out = line.match_indices("crate::").any(|(at, _)| !line[at..].starts_with("crate::mapping"));
        // Files of the room itself are one step below it; two steps up lead out.
        let depth = source.path.matches('/').count() - if source.path.ends_with("/mod.rs") { 1 } else { 0 };
        let up = line.contains(&"super::".repeat(depth));
        match name {
            Some(name) => Some(format!("the core must not know {name}")),
            None if out || up => Some("a path that leads out of the core".into()),
            None => None,
        }
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_type_name_has_one_meaning() {
    // Each verb has its Args and Options, each room its Error and Result.
    const SHARED: [&str; 4] = ["Args", "Options", "Error", "Result"];
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        for (_, line) in source.code() {
            // An associated type of a trait's is indented, and has the trait's meaning.
            let words: Vec<_> = line.split([' ', '<', '(', '{', ';', ':', '=']).collect();
            let at = words.iter().position(|word| ["struct", "enum", "type", "trait"].contains(word));
            let Some(name) = at.filter(|_| !line.starts_with(' ')).and_then(|at| words.get(at + 1)) else {
                continue;
            };
            if let Some((_, other)) = seen.iter().find(|(known, _)| known == name).filter(|_| !SHARED.contains(name)) {
                found.push(format!("{}: {name} is also in {other}", source.path));
            }
            seen.push((name.to_string(), source.path.clone()));
        }
    }
    assert!(seen.len() > 100, "only {} types were seen", seen.len());
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_doc_comment_stands_by_itself() {
    const LEANING: [&str; 5] = ["The same", "As above", "As [", "Those of", "Does it"];
    let mut found = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        for (index, line) in source.text.lines().enumerate() {
            let text = line.trim_start().strip_prefix("/// ").unwrap_or_default();
            if LEANING.iter().any(|words| text.starts_with(words)) {
                found.push(format!("{}:{}: {text}", source.path, index + 1));
            }
        }
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn only_the_places_for_output_write_to_the_terminal() {
    let found = complaints(&sources("src"), |_, line| {
        let macros = [
            "println!(",
            "print!(",
            "eprintln!(",
            "eprint!(",
            "dbg!(",
            "process::exit(",
        ];
        let found = macros.iter().find(|name| line.contains(*name));
        found.map(|name| format!("{name} knows no closed pipe and no exit code"))
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_toolchain_that_we_name_builds_every_dependency() {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return crate::support::skip("cargo did not start this test");
    };
    // Of the packages for this machine alone: those for others need not have been fetched.
    let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-vV").output().unwrap();
    let about = String::from_utf8(rustc.stdout).unwrap();
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--format-version",
            "1",
            "--filter-platform",
            host,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages.iter().find(|package| package["name"] == "mmapctl").unwrap();
    let limit = version(ours["rust_version"].as_str().expect("Cargo.toml states our rust-version"));
    let built: Vec<_> = metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| &node["id"]).collect();
    let mut asked = 0;
    for package in packages.iter().filter(|package| built.contains(&&package["id"])) {
        let Some(needs) = package["rust_version"].as_str() else {
            continue;
        };
        asked += 1;
        let name = &package["name"];
        assert!(version(needs) <= limit, "{name} needs Rust {needs}, and Cargo.toml promises {limit:?}");
    }
    assert!(asked > 20, "only {asked} packages say what they need");
}

/// "1.89" and "1.89.0" as numbers that compare.
fn version(text: &str) -> [u64; 3] {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}
