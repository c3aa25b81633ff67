//! `--include` and `--exclude`: patterns of names and of paths, as in .gitignore and rsync.

use crate::number::ParseError;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A pattern. Without a slash, it is matched against the file's name; with one, against its path relative to the named
/// folder, where `*` does not match a slash and `**` does. A pattern that ends with a slash matches only folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    pattern: Vec<u8>,
    of_path: bool,
    folders_only: bool,
}

impl Glob {
    /// Parses a pattern from the command line.
    pub(super) fn read(text: OsString) -> Result<Glob, ParseError> {
        let shown = text.to_string_lossy().into_owned();
        let mut pattern = text.into_vec();
        let folders_only = pattern.len() > 1 && pattern.ends_with(b"/");
        if folders_only {
            pattern.pop();
        }
        let of_path = pattern.contains(&b'/');
        if pattern.starts_with(b"/") {
            pattern.remove(0);
        }
        // The matcher would interpret it as "everything but".
        if pattern.starts_with(b"!") {
            pattern.insert(0, b'\\');
        }
        let pattern = without_control_escapes(&pattern);
        let refusal = |message: String| ParseError {
            message,
            tip: "write '*.db', 'cache/**', '{a,b}?' or '[0-9]*'; a backslash makes the next character ordinary".into(),
        };
        if pattern.is_empty() {
            return Err(refusal(format!("the pattern '{shown}' matches nothing")));
        }
        match fast_glob::validate(&pattern) {
            Err(error) => Err(refusal(format!("'{shown}' is not a pattern: {error}"))),
            Ok(()) => Ok(Glob {
                pattern,
                of_path,
                folders_only,
            }),
        }
    }

    /// Whether the pattern matches what is at `path`, relative to the named folder.
    pub(super) fn matches(&self, path: &std::path::Path, is_folder: bool) -> bool {
        if self.folders_only && !is_folder {
            return false;
        }
        let what = match path.file_name() {
            Some(name) if !self.of_path => name,
            _ => path.as_os_str(),
        };
        fast_glob::glob_match(&self.pattern, what.as_bytes())
    }

    /// Whether only folders match it.
    pub(super) fn takes_folders_only(&self) -> bool {
        self.folders_only
    }
}

/// Writes `\n` and the like as `[n]`, or within a class as `n`: the matcher would interpret them as control characters, and
/// a backslash is to make the next character ordinary.
fn without_control_escapes(pattern: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut in_class = false;
    let mut rest = pattern.iter();
    while let Some(byte) = rest.next() {
        let escaped = rest.as_slice().first().filter(|_| *byte == b'\\');
        match escaped {
            Some(letter) if letter.is_ascii_alphabetic() && in_class => plain.push(*letter),
            Some(letter) if letter.is_ascii_alphabetic() => plain.extend([b'[', *letter, b']']),
            Some(other) => plain.extend([b'\\', *other]),
            None => {
                in_class = *byte == b'[' || in_class && *byte != b']';
                plain.push(*byte);
            }
        }
        if escaped.is_some() {
            rest.next();
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn takes(pattern: &str, path: &str) -> bool {
        Glob::read(pattern.into()).unwrap().matches(Path::new(path), false)
    }

    #[test]
    fn without_a_slash_it_is_about_the_name() {
        assert!(takes("*.db", "a/b/x.db") && takes("[!a]?", "a/bc") && takes("{x,y}", "a/y"));
        assert!(!takes("*.db", "a.db/x") && !takes("x", "x/y") && !takes("X", "x"));
    }

    #[test]
    fn with_a_slash_it_is_about_the_path_from_the_named_folder_on() {
        assert!(takes("a/*.db", "a/x.db") && takes("a/**", "a/b/x") && takes("**/x", "a/b/x") && takes("/x", "x"));
        assert!(!takes("a/*.db", "a/b/x.db") && !takes("/x", "a/x") && !takes("b/x", "a/b/x"));
    }

    #[test]
    fn a_slash_at_the_end_takes_folders_alone() {
        let glob = Glob::read("cache/".into()).unwrap();
        assert!(glob.matches(Path::new("a/cache"), true) && !glob.matches(Path::new("a/cache"), false));
    }

    #[test]
    fn names_that_are_no_text_and_exclamation_marks_are_ordinary() {
        let odd = OsString::from_vec(b"\xff*".to_vec());
        let name = OsString::from_vec(b"\xff\xfe".to_vec());
        assert!(Glob::read(odd).unwrap().matches(Path::new(&name), false));
        assert!(takes("!x", "!x") && !takes("!x", "y"));
    }

    #[test]
    fn a_backslash_makes_a_letter_ordinary() {
        for letter in ["b", "c", "n", "r", "t", "v"] {
            assert!(takes(&format!("\\{letter}"), letter) && !takes(&format!("\\{letter}"), "x"), "{letter}");
        }
        assert!(takes(r"\*\\", r"*\") && takes(r"\[a", "[a") && takes(r"[\b\n]", "n") && !takes(r"[\b]", "a"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_tip() {
        for bad in ["", "/", "[a", "{a,b", "a\\"] {
            let refusal = Glob::read(bad.into()).unwrap_err();
            assert!(!refusal.tip.is_empty() && refusal.message.contains(bad), "{bad}");
        }
    }
}
