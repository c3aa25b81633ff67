//! What README and the manual show is run, and must come out as shown.

use crate::support::*;
use std::fs;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The examples of `--help` and the man pages.
const EXAMPLES: [(&str, &str); 8] = [
    ("mmapctl", include_str!("../src/manual/mmapctl.examples")),
    ("map", include_str!("../src/manual/map.examples")),
    ("cat", include_str!("../src/manual/cat.examples")),
    ("patch", include_str!("../src/manual/patch.examples")),
    ("patch-script", include_str!("../src/manual/patch-script.examples")),
    ("sync", include_str!("../src/manual/sync.examples")),
    ("zero", include_str!("../src/manual/zero.examples")),
    ("remap", include_str!("../src/manual/remap.examples")),
];

/// The page that explains mappings, in which commands stand in the text.
const TUTORIAL: &str = include_str!("../src/manual/mappings.manual");

/// A command line of a transcript, and what is shown below it.
struct Step {
    command: String,
    shown: Option<String>,
}

/// Lines that begin with `$ ` are commands, which continue after a backslash; the lines that follow are what they print.
/// A command without lines after it may print anything.
fn steps<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.into(),
                shown: None,
            }),
            (None, Some(step)) if step.shown.is_none() && step.command.ends_with('\\') => {
                step.command += &format!("\n{line}");
            }
            (None, Some(step)) => *step.shown.get_or_insert_default() += &format!("{line}\n"),
            (None, None) => panic!("output before the first command: {line}"),
        }
    }
    steps
}

/// Runs a command line with bash, this build of mmapctl first on PATH; stdout and stderr in one, and success.
fn bash(dir: &Sandbox, line: &str) -> (String, bool) {
    let build = Path::new(BINARY).parent().expect("a folder").to_path_buf();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // mkfs is not on everybody's PATH.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let path = std::env::join_paths([build].into_iter().chain(folders)).expect("a PATH");
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1; {line}")])
        .current_dir(dir)
        .env("PATH", path)
        .env("LC_ALL", "C")
        // Each command has a shell of its own, and forgets what the tutorial has set.
        .env("TIMEFORMAT", "%R seconds")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .outcome();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

/// Whether `text` is what is shown, where `...` stands for anything within a line, and for any lines on its own.
fn matches(shown: &str, text: &str) -> bool {
    let lines = shown.lines().map(|line| {
        if line.trim() == "..." {
            "...".into()
        } else {
            format!("{line}\n")
        }
    });
    let shown: String = lines.collect();
    let parts: Vec<_> = shown.split("...").collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return shown == text;
    };
    let Some(mut rest) = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn run(dir: &Sandbox, what: &str, steps: &[Step]) {
    for Step { command, shown } in steps {
        let (text, success) = bash(dir, command);
        match shown {
            Some(shown) => assert!(matches(shown, &text), "{what}\n$ {command}\nshown:\n{shown}\nprinted:\n{text}"),
            None => assert!(success, "{what}\n$ {command}\n{text}"),
        }
    }
}

#[test]
fn what_readme_shows_is_what_happens() {
    let blocks: Vec<_> = README.split("```console\n").skip(1).collect();
    assert!(!blocks.is_empty(), "README has a transcript");
    for block in blocks {
        let (block, _) = block.split_once("```").expect("a block ends");
        run(&Sandbox::new(), "README", &steps(block.lines()));
    }
}

/// The recipes: what each is for, its commands, and what they print.
fn recipes() -> Vec<(&'static str, &'static str, &'static str)> {
    let (_, section) = README.split_once("\n## Recipes\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("the next section");
    let recipes = section.split("\n### ").skip(1);
    let parts = recipes.map(|recipe| {
        let (title, rest) = recipe.split_once('\n')?;
        let (_, rest) = rest.split_once("```sh\n")?;
        let (commands, rest) = rest.split_once("```\n")?;
        let (_, rest) = rest.split_once("```text\n")?;
        let (printed, _) = rest.split_once("```")?;
        Some((title, commands, printed))
    });
    parts.map(|parts| parts.expect("commands, then what they print")).collect()
}

#[test]
fn every_recipe_prints_what_is_shown_below_it() {
    let recipes = recipes();
    let (_, has_ext4) = bash(&Sandbox::new(), "command -v mkfs.ext4");
    assert!(recipes.len() >= 5, "README has recipes");
    for (title, commands, shown) in recipes {
        // The magic of ext4 where it belongs, for want of the rest of the file system.
        let made = "mmapctl patch disk.img --quiet -o 0x438 u16le:0xef53";
        let commands = if has_ext4 {
            commands.to_string()
        } else {
            commands.replace("mkfs.ext4 -q -F disk.img", made)
        };
        let (text, success) = bash(&Sandbox::new(), &format!("set -e; {commands}"));
        assert!(success, "{title}\n{commands}\n{text}");
        assert_eq!(text, shown, "{title}\n{commands}");
    }
}

#[test]
fn every_example_of_the_manual_runs_and_prints_what_it_shows() {
    for (name, text) in EXAMPLES {
        let dir = Sandbox::new();
        let mut fw = vec![0; 64 << 10];
        if name == "mmapctl" {
            fw[0x40..0x42].copy_from_slice(b"\x74\x05");
        }
        dir.file("fw.bin", &fw);
        dir.file("logo.bin", noise(1000));
        let disk = dir.sparse("disk.img", 1 << 20);
        let disk = fs::OpenOptions::new().write(true).open(disk).expect("it is there");
        std::os::unix::fs::FileExt::write_all_at(&disk, b"data", 512 << 10).expect("room");
        drop(disk);
        let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
        let steps = steps(lines);
        assert!(steps.len() > 2, "{name} has examples");
        run(&dir, name, &steps);
    }
}

#[test]
fn every_tutorial_command_prints_what_it_shows() {
    let dir = Sandbox::new();
    let mut blocks: Vec<Vec<&str>> = vec![Vec::new()];
    for line in TUTORIAL.lines() {
        match (line.strip_prefix("    "), blocks.last_mut()) {
            (Some(line), Some(block)) => block.push(line),
            _ => blocks.push(Vec::new()),
        }
    }
    // Tables and pictures have no commands.
    blocks.retain(|block| block.first().is_some_and(|line| line.starts_with("$ ")));
    let steps: Vec<_> = blocks.into_iter().flat_map(|block| steps(block.into_iter())).collect();
    assert!(steps.len() > 40, "the tutorial has commands");
    run(&dir, "the tutorial", &steps);
}

#[test]
fn three_dots_stand_for_anything_and_nothing_else_is_forgiven() {
    for (shown, text, same) in [
        ("a\n", "a\n", true),
        ("a\n", "a\nb\n", false),
        ("a ...\n", "a 1 2\n", true),
        ("a ...\n", "b 1\n", false),
        ("a ... c\n", "a b c\n", true),
        ("a ... c\n", "a b c d\n", false),
        ("a\n...\n", "a\nb\nc\n", true),
        ("a\n...\n", "a\n", true),
        ("a\n...\nz\n", "a\nb\nz\n", true),
        ("...\n", "a\nb\n", true),
        ("a\n  ...\nz\n", "a\n  b\n  c\nz\n", true),
        ("x...y...\n", "x1y2\n", true),
        ("x...y...\n", "x1z2\n", false),
    ] {
        assert_eq!(matches(shown, text), same, "{shown:?} against {text:?}");
    }
}

/// The two commands under "Install".
fn setup() -> Vec<&'static str> {
    let (_, section) = README.split_once("\n## Install\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("the next section");
    let blocks = section.split("```sh\n").skip(1);
    blocks.filter_map(|block| block.split_once("\n```")).map(|(command, _)| command).collect()
}

#[test]
fn a_newcomer_types_two_commands_of_one_line_each() {
    let setup = setup();
    assert_eq!(setup.len(), 2);
    assert!(setup.iter().all(|command| !command.contains('\n')));
    assert!(setup[0].starts_with("cargo install --locked --path . && "));
    assert_eq!(setup[1], "cargo test --locked");
}

#[test]
fn what_follows_the_installation_in_the_first_command_works() {
    let commands = setup()[0].strip_prefix("cargo install --locked --path . && ").expect("it installs first");
    // This build stands for the installed one.
    let cargo_home = Sandbox::new();
    fs::create_dir(cargo_home.join("bin")).expect("a folder");
    std::os::unix::fs::symlink(BINARY, cargo_home.join("bin/mmapctl")).expect("a link");
    let dir = Sandbox::new();
    let line = format!(
        "export CARGO_HOME='{}' TMPDIR='{}' PATH=/usr/bin:/bin; {commands}",
        cargo_home.display(),
        dir.display()
    );
    let (text, success) = bash(&dir, &line);
    assert!(success, "{text}");
    assert!(text.contains("5 bytes of 0x40..0x45 changed\n"), "{text}");
    assert!(text.contains("\n00000040  48 65 6c 6c 6f 00 "), "{text}");
}

#[test]
fn the_checks_run_the_tests_as_readme_says() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run");
    let script = fs::read_to_string(script).expect(".ci/run");
    assert!(script.contains(setup()[1]), "{} in .ci/run", setup()[1]);
}
