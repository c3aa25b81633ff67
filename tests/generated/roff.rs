//! Manual texts as roff: a plain markup, small enough to be read as it stands.
//!
//! ```text
//! # HEADING
//! A paragraph, on one line or several, with `bold` and *italic* words.
//! : `term`
//!   What it means, indented by two.
//! 1. A numbered paragraph.
//!     Four blanks: kept as it is.
//! ```

use std::fmt::Write;

/// The page of one command, in the order of its manual text. The sections named in `made` have no text of their
/// own there: what stands in `made` is put in.
pub fn page(manual: &str, made: &[(&str, &str)]) -> String {
    let mut roff = String::new();
    let mut filled = 0;
    for block in blocks(manual) {
        let Some(heading) = block.strip_prefix("# ") else {
            render(&block, &mut roff);
            continue;
        };
        match made.iter().find(|(name, _)| *name == heading) {
            Some((_, section)) => {
                roff.push_str(section);
                filled += 1;
            }
            None => _ = writeln!(roff, ".SH {}", quoted(heading)),
        }
    }
    assert_eq!(filled, made.len(), "the manual text has a heading for each made section");
    without_paragraphs_behind_headings(&roff)
}

/// A heading begins a paragraph of its own.
fn without_paragraphs_behind_headings(roff: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in roff.lines() {
        if line != ".PP" || !lines.last().is_some_and(|last| last.starts_with(".SH")) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// The options as clap_mangen renders them, without its headings, and with each list of values on one line or, where
/// the values are explained, as a list that lint has nothing against.
pub fn options(rendered: &str) -> String {
    let mut roff = String::new();
    let mut lines = rendered.lines();
    while let Some(line) = lines.next() {
        match line {
            "" | ".br" => {}
            _ if line.starts_with(".SH") || line.starts_with(".ie") || line.starts_with(".el") => {}
            r"\fIPossible values:\fR" => {
                let list = lines.by_ref().take_while(|line| *line != ".RE");
                let list: Vec<_> = list.filter(|line| !line.starts_with('.')).collect();
                roff += &values(&list);
            }
            _ => roff += &format!("{line}\n"),
        }
    }
    roff
}

fn values(list: &[&str]) -> String {
    let pairs = list.iter().map(|line| line.split_once(": "));
    let Some(pairs) = pairs.collect::<Option<Vec<_>>>() else {
        return format!(".br\nOne of \\fB{}\\fR.\n", list.join("\\fR, \\fB"));
    };
    let width = pairs.iter().map(|(value, _)| value.len()).max().unwrap_or(0) + 2;
    let entries = pairs.iter().map(|(value, text)| format!(".TP {width}\n\\fB{value}\\fR\n{text}\n"));
    format!(".RS\n.PD 0\n{}.PD\n.RE\n", entries.collect::<String>())
}

/// The section of examples, from the text that `--help` ends with.
pub fn examples(text: &str) -> String {
    let mut roff = ".SH EXAMPLES\n".to_string();
    let mut shown = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("  ")) {
        if let Some(line) = line.strip_prefix("    ") {
            shown.push(line);
        } else {
            roff += &transcript(&shown);
            roff += &format!(".PP\n{}\n", inline(line.trim()));
            shown.clear();
        }
    }
    roff + &transcript(&shown)
}

/// Lines as they are, commands in bold.
fn transcript(lines: &[&str]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    // A command continues after a backslash at the end of its line.
    let mut goes_on = false;
    let lines = lines.iter().map(|line| {
        let command = goes_on || line.starts_with("$ ");
        goes_on = command && line.ends_with('\\');
        match command {
            true => format!("\\fB{}\\fR\n", verbatim(line)),
            false => verbatim(line) + "\n",
        }
    });
    format!(".PP\n.RS 4\n.nf\n{}.fi\n.RE\n", lines.collect::<String>())
}

/// A line of text with `bold` and *italic* words.
pub fn inline(text: &str) -> String {
    let mut roff = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*']) {
        roff += &escaped(&rest[..at]);
        let mark = &rest[at..=at];
        let (word, behind) = rest[at + 1..].split_once(mark).unwrap_or_else(|| panic!("an open {mark} in: {text}"));
        let font = if mark == "`" { "B" } else { "I" };
        roff += &format!("\\f{font}{}\\fR", verbatim(word));
        rest = behind;
    }
    roff + &escaped(rest)
}

/// Paragraphs, headings, terms with their text, list items and verbatim blocks, each in one string.
fn blocks(manual: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut fresh = true;
    for line in manual.lines() {
        let begins = line.starts_with("# ") || line.starts_with(": ") || numbered(line).is_some();
        match blocks.last_mut() {
            _ if line.is_empty() => fresh = true,
            Some(block) if !fresh && !begins => *block += &format!("\n{line}"),
            _ => {
                blocks.push(line.to_string());
                fresh = false;
            }
        }
    }
    blocks
}

fn render(block: &str, roff: &mut String) {
    if block.starts_with("    ") {
        let lines = block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
        *roff += &transcript(&lines.collect::<Vec<_>>());
    } else if let Some(definition) = block.strip_prefix(": ") {
        let (term, text) = definition.split_once('\n').expect("a term has a text");
        *roff += &format!(".TP\n{}\n{}\n", inline(term), sentences(text));
    } else if let Some((number, text)) = numbered(block) {
        *roff += &format!(".IP {number}. 4\n{}\n", sentences(text));
    } else {
        *roff += &format!(".PP\n{}\n", sentences(block));
    }
}

fn numbered(line: &str) -> Option<(&str, &str)> {
    let (number, text) = line.split_once(". ")?;
    number.parse::<u8>().is_ok().then_some((number, text))
}

/// A line for each sentence, as roff likes it.
fn sentences(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    inline(&words.join(" ")).replace(". ", ".\n")
}

/// Characters that have another meaning in roff, or come out as something that a shell does not take.
fn verbatim(text: &str) -> String {
    let mut roff = String::new();
    for c in text.chars() {
        match c {
            '\\' => roff.push_str("\\e"),
            '-' => roff.push_str("\\-"),
            '\'' => roff.push_str("\\(aq"),
            '`' => roff.push_str("\\(ga"),
            '^' => roff.push_str("\\(ha"),
            '~' => roff.push_str("\\(ti"),
            c => roff.push(c),
        }
    }
    guarded(roff)
}

fn escaped(text: &str) -> String {
    guarded(text.replace('\\', "\\e").replace('\'', "\\(aq"))
}

/// A point at a line's head would make it a request.
fn guarded(text: String) -> String {
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}

fn quoted(heading: &str) -> String {
    if heading.contains(' ') {
        format!("\"{heading}\"")
    } else {
        heading.to_string()
    }
}
