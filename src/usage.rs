//! Errors on a command line: what is wrong, and what to type instead. clap's own suggestions are not passed on: for an
//! unknown option it suggests `-- --value`, which would store that text in the file.

mod words;

use crate::edit::Error;
use crate::number::{self, Offset, Qty, Range, Size, duration};
use crate::text::quoted;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::error::Error as _;
use std::ffi::OsString;
use std::path::Path;
use words::{OPTIONS, REPORTS, Takes, VERBS};

/// Options that are not suggested for a similar word: they disable a safety rule, or reverse a patch.
const NEVER_GUESSED: [&str; 4] = ["--help", "--force", "--ignore-journal", "--reverse"];

/// Options of `map` that its verbs have themselves outside of a session.
const OF_SESSIONS: [&str; 4] = ["--force", "--journal", "--lock-timeout", "--ignore-journal"];

/// The words that the user typed: with the program's name, or in a session without it.
pub(crate) struct CommandLine {
    words: Vec<String>,
    /// The original words: the name of a file need not be UTF-8.
    raw: Vec<OsString>,
    /// The names of the verbs.
    verbs: &'static [&'static str],
    /// Whether the session determines the file.
    in_session: bool,
}

impl CommandLine {
    pub(crate) fn new(words: &[OsString], verbs: &'static [&'static str], in_session: bool) -> CommandLine {
        CommandLine {
            words: words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            raw: words.to_vec(),
            verbs,
            in_session,
        }
    }

    /// Finds a value that is separated from its option, although the option takes its value after a '='. It would be
    /// taken for a file. Returns the message and the tip.
    pub(crate) fn detached_value(&self) -> Option<(String, String)> {
        let end = self.words.iter().position(|word| word == "--");
        let words = &self.words[..end.unwrap_or(self.words.len())];
        let verb = self.verb().filter(|verb| ["map", "cat"].contains(verb))?;
        for (index, pair) in words.windows(2).enumerate() {
            let [option, value] = pair else { continue };
            let fits = match option.as_str() {
                "--hold" | "--watch" => duration(value).is_ok(),
                "--lock" => ["now", "on-fault"].contains(&value.as_str()),
                "--huge" => value.parse::<Qty>().is_ok(),
                "--memfd" => !value.starts_with('-'),
                _ => false,
            };
            // The word may be the value of another option, and is then no option itself.
            let is_value = index > 0 && matches!(words[index - 1].as_str(), "-c" | "--script" | "--files-from");
            // A file of that name may be meant, but --memfd takes no file.
            let is_file = option != "--memfd" && Path::new(value).symlink_metadata().is_ok();
            if fits && !is_value && !is_file && (verb == "map" || option == "--watch") {
                return Some((
                    format!("{option} takes its value after a '=', and '{value}' would be a FILE"),
                    format!("write {option}={}", quoted(Path::new(&self.raw[index + 1]))),
                ));
            }
        }
        None
    }

    /// The tip for an unknown verb, an unknown option, or an extra word; `None` for other errors.
    pub(crate) fn explain(&self, error: &clap::Error) -> Option<String> {
        match error.kind() {
            ErrorKind::InvalidSubcommand => {
                Some(self.unknown_verb(text(error, ContextKind::InvalidSubcommand)?, error))
            }
            ErrorKind::UnknownArgument => {
                let word = text(error, ContextKind::InvalidArg)?;
                Some(match word.strip_prefix('-') {
                    Some(_) => self.unknown_option(word, error),
                    None => self.extra_word(word),
                })
            }
            _ => None,
        }
    }

    /// What a rejected VALUE may be instead: FILE, in a session, or the place to write to, if none was given.
    pub(crate) fn instead_of(&self, value: &str) -> Option<String> {
        let is_place = |word: &String| {
            ["-o", "-r", "-e", "--offset", "--range", "--find", "--edit", "--script"]
                .iter()
                .any(|option| word.starts_with(option))
        };
        if self.in_session && Path::new(value).is_file() {
            return Some("verbs are written as for mmapctl itself, without FILE".to_string());
        }
        let placed = self.words.iter().any(is_place) || self.verb() != Some("patch");
        let is_number = value.parse::<Offset>().is_ok();
        (is_number && !placed).then(|| format!("if it is the place to write to, write --offset {value}"))
    }

    /// The verb, as the user typed it.
    pub(crate) fn verb(&self) -> Option<&str> {
        let words = self.words.iter().skip(usize::from(!self.in_session));
        words.map(String::as_str).find(|word| self.verbs.contains(word))
    }

    fn help(&self) -> String {
        match self.verb() {
            Some(verb) => format!("see 'mmapctl {verb} --help'"),
            None => "see 'mmapctl --help'".to_string(),
        }
    }

    /// The word after the `nth`, if there is one and it is not an option.
    fn argument_after(&self, nth: usize) -> Option<&str> {
        let next = self.words.get(nth + 1).map(String::as_str);
        next.filter(|word| !word.starts_with('-'))
    }

    fn unknown_verb(&self, word: &str, error: &clap::Error) -> String {
        let lower = word.to_lowercase();
        let names = |list: &str| list.split(' ').any(|name| name == lower);
        let at = self.words.iter().position(|typed| typed == word);
        let file = at.filter(|at| self.argument_after(*at).is_some()).map(|at| quoted(Path::new(&self.raw[at + 1])));
        let file = file.as_deref().unwrap_or("FILE");
        let tip = VERBS.iter().find(|(list, ..)| names(list)).map(|(.., how)| *how);
        let report = names(REPORTS).then_some("'mmapctl map FILE' shows what part of a file is in memory");
        match tip.or(report) {
            Some(how) if self.in_session => how
                .replace("'mmapctl cat FILE -x'", "cat -x")
                .replace("'mmapctl map FILE' shows how a file lives", "map shows how the mapping lives"),
            Some(how) => how.replace("FILE", file),
            None => match suggested(error, ContextKind::SuggestedSubcommand).or_else(|| self.verb_as_option(word)) {
                Some(verb) => format!("did you mean {verb}? See 'mmapctl {verb} --help'"),
                None => "the verbs are map, cat, patch, sync, zero and remap: see 'mmapctl --help'".to_string(),
            },
        }
    }

    fn unknown_option(&self, word: &str, error: &clap::Error) -> String {
        let verb = self.verb().unwrap_or_default();
        let name = word.split('=').next().unwrap_or(word);
        // clap reports the first letter of what it takes for a cluster of short options.
        let typed = self.words.iter().find(|typed| typed.starts_with(word));
        let is_number = word[1..].starts_with(|c: char| c.is_ascii_digit());
        if let Some(number) = typed.filter(|_| is_number) {
            return self.extra_word(number);
        }
        if self.in_session && OF_SESSIONS.contains(&name) {
            return format!("it applies to the whole session: mmapctl map FILE {name} …");
        }
        if verb == "remap" && self.words.iter().any(|word| word.starts_with("--order")) {
            return self.help();
        }
        let fits = |(names, verbs, ..): &&(&str, &str, &str, Takes)| {
            let of_verb = *verbs == "*" && verb != "remap" || verbs.split(' ').any(|name| name == verb);
            of_verb && names.split(' ').any(|known| known == name)
        };
        if let Some((_, _, instead, takes)) = OPTIONS.iter().find(fits) {
            let value = self.value_of(name).filter(|value| takes.admits(value));
            let example = match (takes, &value) {
                (Takes::Nothing, _) => String::new(),
                (_, Some(value)) => format!(" {value}"),
                (Takes::Offset, None) => " 0x40".to_string(),
                (Takes::Length, None) => " 16".to_string(),
                (Takes::Size, None) => " +4K".to_string(),
            };
            return format!("{instead}{example}; {}", self.help());
        }
        let first = |option: &str| option.trim_start_matches('-').chars().next();
        let alike = |option: &String| first(option) == first(word) && !NEVER_GUESSED.contains(&option.as_str());
        match suggested(error, ContextKind::SuggestedArg).filter(alike) {
            Some(option) => format!("did you mean {option}? {}", capital(&self.help())),
            None => self.help(),
        }
    }

    /// The verb, if it was written like an option.
    fn verb_as_option(&self, word: &str) -> Option<String> {
        let verb = word.trim_start_matches('-').to_lowercase();
        self.verbs.contains(&verb.as_str()).then_some(verb)
    }

    /// The value of an option, joined to it or after it.
    fn value_of(&self, name: &str) -> Option<String> {
        let (at, word) = self.words.iter().enumerate().find(|(_, word)| word.starts_with(name))?;
        let joined = word[name.len()..].trim_start_matches('=');
        match joined {
            "" => self.argument_after(at).map(str::to_string),
            joined => Some(joined.to_string()),
        }
    }

    /// The tip for a word that is neither a verb nor an option, where no word is expected.
    fn extra_word(&self, word: &str) -> String {
        let verb = self.verb().unwrap_or_default();
        let at = self.words.iter().rposition(|typed| typed == word);
        if verb == "remap" && self.words.iter().any(|word| word.starts_with("--order")) {
            return "an order is one word, with commas: --order 3,0..2,5*4".to_string();
        }
        if verb == "remap" && word.parse::<Size>().is_ok() {
            return format!("write --size {word}");
        }
        // An offset may contain a '-', but two numbers with a '-' between them are meant as a range.
        let is_amount = |text: &str| text.parse::<Qty>().is_ok();
        let ends = word.split_once('-').filter(|(start, end)| is_amount(start) && is_amount(end));
        if let Some((start, end)) = ends.filter(|_| verb != "remap") {
            return format!("write --range {start}..{end}");
        }
        if verb != "remap" && word.parse::<Range>().is_ok() {
            return format!("write --range {word}");
        }
        if verb != "remap" && word.parse::<Offset>().is_ok() {
            let length = at.and_then(|at| self.argument_after(at)).filter(|next| Takes::Length.admits(next));
            // The length to zero must not be guessed.
            let example = if verb == "zero" { "LENGTH" } else { "16" };
            return format!("write --offset {word} --length {}", length.unwrap_or(example));
        }
        if self.in_session {
            return format!("verbs are written as for mmapctl itself, without FILE; {}", self.help());
        }
        match verb {
            "" => self.help(),
            verb => format!("{verb} takes one FILE; {}", self.help()),
        }
    }
}

impl Takes {
    fn admits(self, value: &str) -> bool {
        match self {
            Takes::Nothing => false,
            Takes::Offset => value.parse::<Offset>().is_ok(),
            Takes::Length => value.parse::<Qty>().is_ok(),
            Takes::Size => value.parse::<Size>().is_ok(),
        }
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// The first of the names that clap finds similar.
fn suggested(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

fn capital(text: &str) -> String {
    text.replacen("see", "See", 1)
}

/// Turns a clap error for a line of a session, split into `words`, into an error.
pub(crate) fn complaint(words: &[OsString], verbs: &'static [&'static str], error: &clap::Error) -> Error {
    let typed = CommandLine::new(words, verbs, true);
    if let Some((message, tip)) = typed.detached_value() {
        return Error::untouched(message).tip(tip);
    }
    let (message, tip) = refusal_of(error, &typed).unwrap_or_else(|| {
        let tip = "verbs are written as for mmapctl itself, without FILE; see 'mmapctl --help'";
        (first_paragraph(error), Some(tip.into()))
    });
    match tip {
        Some(tip) => Error::untouched(message).tip(tip),
        None => Error::untouched(message),
    }
}

/// The message and the tip of mmapctl's own parsers of numbers and values, or the tip for words that clap does not
/// know.
pub(crate) fn refusal_of(error: &clap::Error, typed: &CommandLine) -> Option<(String, Option<String>)> {
    if let Some(tip) = typed.explain(error) {
        return Some((first_paragraph(error), Some(tip)));
    }
    let refusal = error.source()?.downcast_ref::<number::ParseError>()?;
    let message = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => {
            // "--offset <OFFSET>" and "[VALUE]..." as the user types them.
            let name = option.split([' ', '=']).next().unwrap_or(option);
            format!("{}: {}", name.trim_matches(['[', ']', '.']), refusal.message)
        }
        _ => refusal.message.clone(),
    };
    let instead = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => typed.instead_of(value),
        _ => None,
    };
    // If the value is meant as something else, how to write it as a VALUE is no help.
    let tip = instead.unwrap_or_else(|| refusal.tip.clone());
    Some((message, Some(tip).filter(|tip| !tip.is_empty())))
}

pub(crate) fn first_paragraph(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no verb given".into();
    }
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let paragraph = lines.collect::<Vec<_>>().join(" ");
    paragraph.trim_start_matches("error: ").to_string()
}
