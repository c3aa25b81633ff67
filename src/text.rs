//! Text for people: names, counts and system errors, as they appear in messages and reports.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// "1 page", "2 pages".
pub fn plural(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Whether the locale uses UTF-8, by the environment variables and their precedence in setlocale(3).
pub fn is_utf8() -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    value.is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

/// Placeholder for the file's name in a tip that is written where the name is unknown. No name contains a NUL.
pub const FILE: &str = "\0";

/// An operating system error without Rust's "(os error 28)".
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}

/// A path for people: unchanged, or escaped if control characters would garble the line.
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.into_owned()
    }
}

/// A path as typed in a shell: one word, not an option, and exactly these bytes.
pub fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let dash = if bytes.starts_with(b"-") { "./" } else { "" };
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    match path.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => format!("{dash}{text}"),
        Some(text) if !text.chars().any(char::is_control) => format!("'{dash}{}'", text.replace('\'', "'\\''")),
        _ => format!("$'{dash}{}'", escaped(bytes)),
    }
}

/// Escapes for `$'...'`, in which a shell interprets a backslash as C does.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text += "\\n",
                '\t' => text += "\\t",
                '\\' | '\'' => text.extend(['\\', c]),
                c if c.is_control() => text += &hex(c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        text += &hex(chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_file_name_that_a_shell_would_split_is_quoted_in_tips() {
        assert_eq!(quoted(Path::new("fw.bin")), "fw.bin");
        assert_eq!(quoted(Path::new("it's a")), r"'it'\''s a'");
        assert_eq!(quoted(Path::new("")), "''");
    }

    #[test]
    fn a_file_name_that_is_no_plain_text_can_be_pasted_all_the_same() {
        let raw = |bytes: &'static [u8]| quoted(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(raw(b"-x.bin"), "./-x.bin");
        assert_eq!(raw(b"-a b"), "'./-a b'");
        assert_eq!(raw(b"a\nb"), r"$'a\nb'");
        assert_eq!(raw(b"-\x1b\t'\\"), r"$'./-\x1b\t\'\\'");
        assert_eq!(raw(b"\xffe \xc3\xa9"), r"$'\xffe é'");
    }
}
