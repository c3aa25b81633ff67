//! A JSON object whose fields keep the order in which they were set.
//!
//! This replaces serde_json's `preserve_order`, whose hashes need random numbers: std ends the process if the kernel
//! cannot provide them, and a report is written after the file was changed.

use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The object; `Display` writes it on one line.
#[derive(Debug, Clone, Default)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// Sets a field: appends it, or replaces its value.
    pub fn insert(&mut self, key: &str, value: Value) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.into(), value)),
        }
    }
}

impl<'a> FromIterator<(&'a str, Value)> for Object {
    fn from_iter<T: IntoIterator<Item = (&'a str, Value)>>(fields: T) -> Object {
        Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let before = if index == 0 { "{" } else { "," };
            write!(f, "{before}{}:{}", Printable(&json!(key)), Printable(value))?;
        }
        f.write_str(if self.0.is_empty() { "{}" } else { "}" })
    }
}

/// Writes a value on one line, without the control characters of terminals that JSON allows in a string (DEL, and
/// U+0080 to U+009F).
#[derive(Debug)]
pub struct Printable<'a>(pub &'a Value);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They can only be in a string, where an escape means the same.
        for c in self.0.to_string().chars() {
            match c.is_control() {
                true => write!(f, "\\u{:04x}", u32::from(c))?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Sets `"file"`, and `"path_hex"` with the exact bytes if the name is not UTF-8.
pub fn insert_path(object: &mut Object, path: &Path) {
    object.insert("file", json!(path.to_string_lossy()));
    if path.to_str().is_none() {
        object.insert("path_hex", json!(const_hex::encode(path.as_os_str().as_bytes())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_their_last_value() {
        let mut object: Object = [("z", json!(1)), ("a\"", json!("\n"))].into_iter().collect();
        object.insert("m", json!([1, 2]));
        object.insert("z", json!(null));
        assert_eq!(object.to_string(), r#"{"z":null,"a\"":"\n","m":[1,2]}"#);
        assert_eq!(Object::default().to_string(), "{}");
    }
}
