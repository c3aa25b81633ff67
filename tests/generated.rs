//! Files that are written by the program's own definitions and checked in: man pages, completions, and the help
//! text in README. This holds them in step; `MMAPCTL_REGENERATE=1 cargo test --locked generated` rewrites them.

mod roff;
mod shells;

use crate::support::*;
use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::{Path, PathBuf};

/// The day on which the manual texts last said something new.
const DATE: &str = "2026-11-28";

/// Each page's own text, and its examples, which `--help` shows as well.
const MANUAL: [(&str, &str, &str); 7] = {
    macro_rules! text {
        ($name:literal, $file:literal) => {
            (
                $name,
                include_str!(concat!("../src/manual/", $file, ".manual")),
                include_str!(concat!("../src/manual/", $file, ".examples")),
            )
        };
    }
    [
        text!("mmapctl", "mmapctl"),
        text!("mmapctl-map", "map"),
        text!("mmapctl-cat", "cat"),
        text!("mmapctl-patch", "patch"),
        text!("mmapctl-sync", "sync"),
        text!("mmapctl-zero", "zero"),
        text!("mmapctl-remap", "remap"),
    ]
};

/// Pages that explain: the name, what about, and the text, in which commands stand where they belong.
const TOPICS: [(&str, &str, &str); 1] = [(
    "mmapctl-mappings",
    "what a memory mapping is, shown with mmapctl",
    include_str!("../src/manual/mappings.manual"),
)];

/// Pages of file formats: the name, what it is, its text and its examples.
const FORMATS: [(&str, &str, &str, &str); 1] = [(
    "mmapctl-patch-script",
    "edits of a file, to be checked, applied and undone",
    include_str!("../src/manual/patch-script.manual"),
    include_str!("../src/manual/patch-script.examples"),
)];

const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "completions/mmapctl.bash"),
    (Shell::Zsh, "completions/_mmapctl"),
    (Shell::Fish, "completions/mmapctl.fish"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The command line as clap has it once global options have reached every verb.
fn built() -> Command {
    let mut command = mmapctl::cli::command().term_width(88);
    command.build();
    command
}

/// The verbs; clap's own `help` is none.
fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| verb.get_name() != "help")
}

/// `mmapctl` and the verbs, with the names of their pages.
fn commands() -> Vec<(String, Command)> {
    let command = built();
    let mut all: Vec<_> = verbs(&command).map(|verb| (format!("mmapctl-{}", verb.get_name()), verb.clone())).collect();
    all.insert(0, ("mmapctl".into(), command));
    all
}

// ---- man pages -------------------------------------------------------------------------------------------------------

/// Every page: its path, and its text as it should be.
fn pages() -> Vec<(String, String)> {
    let pages = commands().into_iter().map(|(name, command)| {
        let page = man_page(&name, &command);
        (format!("man/{name}.1"), page)
    });
    let formats = FORMATS.map(|(name, about, manual, examples)| {
        let examples = roff::examples(examples);
        let page = text_page((name, 5), about, manual, &[("EXAMPLES", &examples)]);
        (format!("man/{name}.5"), page)
    });
    let topics = TOPICS.map(|(name, about, manual)| {
        let page = text_page((name, 7), about, manual, &[]);
        (format!("man/{name}.7"), page)
    });
    pages.chain(formats).chain(topics).collect()
}

/// What every page opens with.
const SOURCE: &str = "Written by tests/generated.rs from src/cli.rs, src/cmd and src/manual: edit those.";

fn text_page((name, section): (&str, u8), about: &str, manual: &str, made: &[(&str, &str)]) -> String {
    let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    format!(
        ".\\\" {SOURCE}\n.TH {title} {section} {DATE} \"mmapctl {version}\" mmapctl\n.nh\n.ad l\n\
         .SH NAME\n{} \\- {}\n{}",
        name.replace('-', "\\-"),
        roff::inline(about),
        roff::page(manual, made)
    )
}

fn man_page(name: &str, command: &Command) -> String {
    let (_, manual, examples) = MANUAL
        .into_iter()
        .find(|(known, ..)| *known == name)
        .unwrap_or_else(|| panic!("{name} has no manual text in src/manual"));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let about = about[..1].to_lowercase() + &about[1..];
    let man = Man::new(command.clone().about(about))
        .title(name.to_uppercase())
        .date(DATE)
        .source(concat!("mmapctl ", env!("CARGO_PKG_VERSION")))
        .manual("mmapctl");
    let mut head = Vec::new();
    man.render_title(&mut head).expect("a title");
    man.render_name_section(&mut head).expect("a name");
    let head = String::from_utf8(head).expect("UTF-8");

    let examples = roff::examples(examples);
    let (options, verbs) = (options_section(command), verbs_section(command));
    let mut made = vec![("OPTIONS", options.as_str()), ("EXAMPLES", &examples)];
    if name == "mmapctl" {
        made.push(("VERBS", &verbs));
    }
    // Neither hyphenated nor stretched: options and paths would suffer.
    let head = head.replace(".SH NAME", ".nh\n.ad l\n.SH NAME");
    format!(".\\\" {SOURCE}\n{head}{}{}", synopsis(command), roff::page(manual, &made))
}

/// The usage line of `--help`, in the fonts of a man page.
fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let words = usage.trim_start_matches("Usage: ").trim().split(' ');
    let words = words.map(|word| match word.find(|c: char| c.is_ascii_uppercase()) {
        // [OPTIONS], <FILE>, [VALUE]...: the name alone is set off.
        Some(at) if !word.starts_with("--") => {
            let len = word[at..].find(|c: char| !c.is_ascii_uppercase()).unwrap_or(word.len() - at);
            let (before, behind) = (word[..at].replace('<', ""), word[at + len..].replace('>', ""));
            format!("{before}*{}*{behind}", &word[at..at + len])
        }
        _ => word
            .split_inclusive('[')
            .map(|part| {
                if part.ends_with('[') {
                    part.into()
                } else {
                    format!("`{part}`")
                }
            })
            .collect(),
    });
    format!(".SH SYNOPSIS\n{}\n", roff::inline(&words.collect::<Vec<_>>().join(" ")))
}

/// The options under their headings, arguments first and what every verb has last. clap_mangen renders one part at
/// a time: the others are hidden from it.
fn options_section(command: &Command) -> String {
    let mut headings: Vec<_> = command.get_arguments().filter_map(Arg::get_help_heading).collect();
    headings.sort_by_key(|heading| (*heading == "Global options", *heading));
    headings.dedup();
    let mut section = ".SH OPTIONS\n".to_string();
    section += &options(command, |arg| arg.is_positional());
    section += &options(command, |arg| !arg.is_positional() && arg.get_help_heading().is_none());
    for heading in headings {
        section += &format!(".SS \"{heading}\"\n");
        section += &options(command, |arg| arg.get_help_heading() == Some(heading));
    }
    section
}

fn options(command: &Command, wanted: impl Fn(&Arg) -> bool) -> String {
    let part = command.clone().mut_args(|arg| {
        let hidden = !wanted(&arg);
        arg.hide(hidden)
    });
    let mut rendered = Vec::new();
    let result = Man::new(part).render_options_section(&mut rendered);
    result.expect("options are rendered");
    roff::options(&String::from_utf8(rendered).expect("UTF-8"))
}

fn verbs_section(command: &Command) -> String {
    let entries = verbs(command).map(|verb| {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        format!(".TP\n\\fBmmapctl\\-{}\\fR(1)\n{}\n", verb.get_name(), roff::inline(&about))
    });
    format!(".SH VERBS\n{}", entries.collect::<String>())
}

// ---- every generated file --------------------------------------------------------------------------------------------

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut mmapctl::cli::command(), "mmapctl", &mut script);
    let script = String::from_utf8(script).expect("UTF-8");
    if shell != Shell::Fish {
        return script;
    }
    // Behind 'mmapctl --color ' clap_complete's argparse fails for want of the value that is being completed, and
    // nothing is offered. The line is then understood without its last word.
    let parse = "argparse -s (__fish_mmapctl_global_optspecs) -- $cmd 2>/dev/null\n";
    let again = format!("{parse}    or begin\n        set -e cmd[-1]\n        {parse}    end\n");
    assert_eq!(script.matches(parse).count(), 1, "clap_complete writes another script than it did");
    script.replace(parse, &again)
}

/// README with the help between its markers regenerated.
fn readme() -> String {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (begin, end) = ("<!-- help -->\n", "<!-- /help -->");
    let (before, rest) = text.split_once(begin).expect("README has the marker of its help");
    let (_, behind) = rest.split_once(end).expect("README has the marker behind its help");
    let help = built().render_help().to_string();
    let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("{before}{begin}```text\n{help}```\n{end}{behind}")
}

/// Every generated file, with its text as it should be.
fn generated() -> Vec<(PathBuf, String)> {
    let pages = pages().into_iter().map(|(path, page)| (root().join(path), page));
    let scripts = SHELLS.map(|(shell, path)| (root().join(path), completions(shell)));
    let mut files: Vec<_> = pages.chain(scripts).collect();
    files.push((root().join("README.md"), readme()));
    files
}

#[test]
fn checked_in_files_are_what_the_program_would_write() {
    let mut stale = Vec::new();
    for (path, text) in generated() {
        if std::env::var_os("MMAPCTL_REGENERATE").is_some() {
            fs::write(&path, text).expect("the file can be written");
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(path.strip_prefix(root()).unwrap_or(&path).to_path_buf());
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} are out of step; rewrite them with 'MMAPCTL_REGENERATE=1 cargo test --locked generated'"
    );
}

// ---- what the files must hold ----------------------------------------------------------------------------------------

fn longs(command: &Command) -> Vec<&str> {
    command.get_arguments().filter_map(Arg::get_long).collect()
}

/// The enumerated values of all options of a command, with the option's name.
fn choices(command: &Command) -> Vec<(&str, String)> {
    let options = command.get_arguments().filter(|option| option.get_action().takes_values());
    let with_values = options.flat_map(|option| {
        let values = option.get_possible_values();
        values
            .into_iter()
            .map(move |value| (option.get_long().unwrap_or_default(), value.get_name().to_string()))
    });
    with_values.collect()
}

#[test]
fn nothing_is_hidden_so_nothing_leaks() {
    for (name, command) in commands() {
        assert!(!command.is_hide_set(), "{name}");
        for argument in command.get_arguments() {
            assert!(!argument.is_hide_set(), "{name} {}", argument.get_id());
        }
    }
}

#[test]
fn every_option_is_in_its_man_page_and_in_every_completion() {
    for (name, command) in commands() {
        let page = man_page(&name, &command);
        for long in longs(&command) {
            let option = format!("--{long}");
            let in_roff = option.replace('-', "\\-");
            assert!(page.contains(&in_roff), "{option} in man/{name}.1");
            for (shell, path) in SHELLS {
                let wanted = if shell == Shell::Fish {
                    format!(" -l {long} ")
                } else {
                    option.clone()
                };
                assert!(completions(shell).contains(&wanted), "{option} of {name} in {path}");
            }
        }
    }
}

#[test]
fn every_value_is_in_every_completion_and_man_page() {
    for (name, command) in commands() {
        let page = man_page(&name, &command);
        for (option, value) in choices(&command) {
            assert!(page.contains(&value.replace('-', "\\-")), "--{option} {value} in man/{name}.1");
            for (shell, path) in SHELLS {
                let script = completions(shell);
                let line = script.lines().any(|line| line.contains(&value));
                assert!(line, "--{option} {value} in {path}");
            }
        }
    }
}

#[test]
fn every_page_has_the_sections_of_a_manual_in_order() {
    for (name, command) in commands() {
        let page = man_page(&name, &command);
        let wanted = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ];
        let places = wanted.map(|heading| page.find(&format!("\n.SH {heading}\n")));
        assert!(places.iter().all(Option::is_some), "{name}: {places:?}");
        assert!(places.is_sorted(), "{name}: {places:?}");
    }
    for (path, page) in pages() {
        let mut wanted = vec!["NAME", "DESCRIPTION", "EXAMPLES", "\"SEE ALSO\""];
        if path.ends_with(".7") {
            // Its commands stand in the text.
            wanted.remove(2);
        }
        let places: Vec<_> = wanted.iter().map(|heading| page.find(&format!("\n.SH {heading}\n"))).collect();
        assert!(places.iter().all(Option::is_some), "{path}: {places:?}");
        assert!(places.is_sorted(), "{path}: {places:?}");
    }
}

#[test]
fn every_page_that_a_page_names_is_there() {
    let pages = pages();
    for (path, page) in &pages {
        for named in page.split("\\fB").filter(|part| part.starts_with("mmapctl")) {
            let Some((name, section)) = named.split_once("\\fR(") else {
                continue;
            };
            let named = format!("man/{}.{}", name.replace("\\-", "-"), &section[..1]);
            assert!(pages.iter().any(|(path, _)| *path == named), "{path} names {named}");
        }
    }
}

#[test]
fn mandoc_finds_nothing_to_say_of_the_man_pages() {
    needs!(has("mandoc"));
    for (page, _) in pages() {
        let output = std::process::Command::new("mandoc")
            .current_dir(root())
            .args(["-T", "lint", "-W", "warning", &page])
            .outcome();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "{page}");
    }
}

#[test]
fn no_line_of_a_man_page_is_wider_than_a_terminal() {
    needs!(has("mandoc"));
    for (page, _) in pages() {
        let text = Sandbox::at(root()).peer("mandoc", &["-T", "ascii", "-O", "width=78", &page]);
        // Bold is a letter struck over itself.
        let text = String::from_utf8_lossy(&text).into_owned();
        for line in text.lines() {
            let width = line.chars().count() - 2 * line.matches('\u{8}').count();
            assert!(width <= 80, "{page}: {line}");
        }
    }
}
