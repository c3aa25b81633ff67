//! How a run of mmapctl ended: its text to compare with a literal, and expectations that print it when they fail.

use super::{json, tips};
use std::cell::OnceCell;
use std::fmt;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output};

/// What a process printed and how it ended. It stands for its transcript, to be held against one literal: stdout, then
/// each line of stderr after `! `, then `exit N` or `signal N`.
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    command: String,
    text: OnceCell<String>,
}

impl Outcome {
    /// Of the command that is described so. The tips in it are checked, see [`tips::check`].
    #[track_caller]
    pub fn new(command: String, output: Output) -> Outcome {
        let outcome = Outcome {
            status: output.status,
            stdout: output.stdout,
            stderr: output.stderr,
            command,
            text: OnceCell::new(),
        };
        tips::check(&transcript(&[], &outcome.stderr));
        outcome
    }

    /// The transcript.
    pub fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let end = match (self.status.code(), self.status.signal()) {
                (Some(code), _) => format!("exit {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or(0)),
            };
            transcript(&self.stdout, &self.stderr) + &end
        })
    }

    /// The exit code, or 128 and the signal.
    pub fn exit(&self) -> i32 {
        let signal = || self.status.signal().map(|signal| 128 + signal);
        self.status.code().or_else(signal).expect("it has ended")
    }

    /// What went to stderr.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The one JSON object on stderr.
    pub fn error(&self) -> serde_json::Value {
        json(&self.stderr)
    }

    #[track_caller]
    fn expect(&self, is_so: bool, what: impl fmt::Display) -> &Outcome {
        assert!(is_so, "{what}\n$ {}\n{self}", self.command);
        self
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn code(&self, code: i32) -> &Outcome {
        self.expect(self.status.code() == Some(code), format_args!("not exit {code}:"))
    }

    /// It ended by this signal.
    #[track_caller]
    pub fn signal(&self, signal: i32) -> &Outcome {
        self.expect(self.status.signal() == Some(signal), format_args!("not signal {signal}:"))
    }

    /// Its transcript has these words.
    #[track_caller]
    pub fn has(&self, words: impl AsRef<str>) -> &Outcome {
        let words = words.as_ref();
        self.expect(self.text().contains(words), format_args!("no {words:?} in:"))
    }

    /// Its transcript does not have these words.
    #[track_caller]
    pub fn lacks(&self, words: impl AsRef<str>) -> &Outcome {
        let words = words.as_ref();
        self.expect(!self.text().contains(words), format_args!("{words:?} in:"))
    }

    /// Its transcript begins with these words.
    #[track_caller]
    pub fn begins(&self, words: impl AsRef<str>) -> &Outcome {
        let words = words.as_ref();
        self.expect(self.text().starts_with(words), format_args!("no {words:?} at the beginning of:"))
    }

    /// Its transcript ends with these words.
    #[track_caller]
    pub fn ends(&self, words: impl AsRef<str>) -> &Outcome {
        let words = words.as_ref();
        self.expect(self.text().ends_with(words), format_args!("no {words:?} at the end of:"))
    }

    /// These words are on stderr.
    #[track_caller]
    pub fn stderr_has(&self, words: impl AsRef<str>) -> &Outcome {
        let words = words.as_ref();
        self.expect(self.stderr().contains(words), format_args!("no {words:?} on stderr of:"))
    }

    /// Its transcript is this text.
    #[track_caller]
    pub fn is(&self, text: impl AsRef<str>) -> &Outcome {
        assert_eq!(self, text.as_ref(), "$ {}", self.command);
        self
    }

    /// It is a refusal: exit 2, in words for people and with a tip, nothing on stdout.
    #[track_caller]
    pub fn is_refusal(&self) -> &Outcome {
        self.code(2).begins("! error: ").has("\n!   tip: ");
        for word in ["Os {", "panicked", "os error"] {
            self.lacks(word);
        }
        self.expect(self.stdout.is_empty(), "something on stdout of:")
    }
}

fn transcript(stdout: &[u8], stderr: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(stdout).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str("(no newline)\n");
    }
    for line in String::from_utf8_lossy(stderr).lines() {
        text += &format!("! {line}\n");
    }
    text
}

impl Deref for Outcome {
    type Target = str;

    fn deref(&self) -> &str {
        self.text()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(), f)
    }
}

impl PartialEq<str> for Outcome {
    fn eq(&self, text: &str) -> bool {
        self.text() == text
    }
}

impl PartialEq<&str> for Outcome {
    fn eq(&self, text: &&str) -> bool {
        self.text() == *text
    }
}

impl PartialEq<String> for Outcome {
    fn eq(&self, text: &String) -> bool {
        self.text() == text
    }
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Outcome) -> bool {
        self.text() == other.text()
    }
}

/// Processes that are waited for.
pub trait Run {
    /// How it ends.
    fn outcome(self) -> Outcome;
}

impl Run for &mut Command {
    #[track_caller]
    fn outcome(self) -> Outcome {
        let output = self.output().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        Outcome::new(format!("{self:?}"), output)
    }
}

impl Run for &mut assert_cmd::Command {
    #[track_caller]
    fn outcome(self) -> Outcome {
        let output = self.output().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        Outcome::new(format!("{self:?}"), output)
    }
}

impl Run for Child {
    #[track_caller]
    fn outcome(self) -> Outcome {
        let output = self.wait_with_output().expect("its output");
        Outcome::new(String::from("(started earlier)"), output)
    }
}
