//! Paths on a command line that must be of different files, under any names.

use crate::support::*;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn what_is_written_is_nothing_else_that_the_command_line_names() {
    let dir = Sandbox::new();
    let at = |name: &str| dir.join(name);
    let path = dir.file("f", [0; 8192]);
    dir.file("s", b"0: -> 01\n");
    dir.file("list", b"reverse\n");
    dir.file("other", [1; 8192]);
    fs::create_dir(at("folder")).unwrap();
    for name in ["f", "s", "list", "other"] {
        fs::hard_link(at(name), at(&format!("{name}-link"))).unwrap();
        symlink(name, at(&format!("{name}-symlink"))).unwrap();
    }
    symlink(".", at("here")).unwrap();
    let names = |name: &str| {
        [
            name.to_string(),
            format!("{name}-link"),
            format!("{name}-symlink"),
            format!("here/{name}"),
        ]
    };
    // The line with PATH for each name of the file, and the two that are one.
    for (line, name, pair) in [
        ("patch f -o 0 01 --undo PATH", "f", "FILE and --undo"),
        ("patch f -o 0 01 --journal PATH", "f", "FILE and --journal"),
        ("patch f -o 0 01 --journal PATH --dry-run", "f", "FILE and --journal"),
        ("patch f -o 0 01 --atomic --journal PATH", "f", "FILE and --journal"),
        ("patch f --script s --undo PATH", "s", "--script and --undo"),
        ("patch f --script s --atomic --journal PATH", "s", "--script and --journal"),
        ("patch f -o 0 @s --undo PATH", "s", "@PATH and --undo"),
        ("patch f -o 0 01 --expect @s --undo PATH", "s", "@PATH and --undo"),
        ("patch f -o 0 @s --atomic --journal PATH", "s", "@PATH and --journal"),
        ("patch f --diff other --journal PATH", "other", "--diff and --journal"),
        ("patch f -o 0 01 --atomic --journal new --undo PATH", "new", "--journal and --undo"),
        ("zero f -n 16 --journal PATH", "f", "FILE and --journal"),
        ("zero f -n 16 --dry-run --journal PATH", "f", "FILE and --journal"),
        ("remap f --size +4K --journal PATH", "f", "FILE and --journal"),
        ("remap f --order reverse --to PATH", "f", "FILE and --to"),
        ("remap f --order @list --to PATH", "list", "--order and --to"),
        ("remap f --order reverse --journal new --to PATH", "new", "--journal and --to"),
        ("cat f --journal PATH", "f", "FILE and --journal"),
        ("map f --journal PATH", "f", "FILE and --journal"),
        ("map f other --journal PATH", "f", "FILE and --journal"),
        ("map f --script s --journal PATH", "s", "--script and --journal"),
        ("sync f --journal PATH", "f", "FILE and --journal"),
    ] {
        // Of what is not there, other folders are the only other names.
        let names = match at(name).exists() {
            true => names(name).to_vec(),
            false => vec![
                name.into(),
                format!("./{name}"),
                format!("here/{name}"),
                format!("folder/../{name}"),
            ],
        };
        for name in names {
            let line = line.replace(" PATH", &format!(" {name}"));
            let before = State::of(&path);
            // Some name other files as well, whose report is on stdout.
            dir.run(&line).has(format!("{pair} are the same file, '{name}'")).code(2).has("!   tip: give ");
            assert!(State::of(&path) == before && !at("new").exists(), "{line}");
        }
    }
}

#[test]
fn a_session_keeps_its_outputs_apart_from_its_inputs() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 8192]);
    dir.file("s", b"0: -> 01\n");
    let before = State::of(&path);
    for (verb, pair) in [
        ("patch -o 0 01 --undo f", "FILE and --undo are the same file, 'f'"),
        ("patch --script s --undo s", "--script and --undo are the same file, 's'"),
        ("patch -o 0 01 --undo j", "--journal and --undo are the same file, 'j'"),
        ("remap --order reverse --to ./f", "FILE and --to are the same file, './f'"),
    ] {
        let args = ["map", "f", "--journal", "j", "-c", verb];
        let text = dir.mmapctl(&args);
        assert!(text.contains(pair) && text.ends_with("exit 2"), "{verb}: {text}");
        assert!(State::of(&path) == before && !dir.join("j").exists(), "{verb}");
    }
}

#[test]
fn what_is_only_read_may_be_one_file() {
    let dir = Sandbox::new();
    dir.file("f", b"0123");
    dir.run("patch f -o 4 @f --grow").code(0);
    assert_eq!(dir.read("f"), b"01230123");
    dir.run("patch f --diff f").code(0);
    // A file of the same name in another folder is another file.
    fs::create_dir(dir.join("u")).unwrap();
    dir.run("patch f -o 0 61 --undo u/j --journal j --atomic").code(0);
    assert!(dir.join("u/j").exists());
    dir.refused_untouched("patch f -o 0 62 --undo u/j");
}
