//! `cat` of what cannot be read to its end: everything before the first bad byte comes out, and nothing after it.

use crate::support;
use crate::support::{file, has, is_root, mmapctl, noise, skip, spawnable, told};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

const FORMATS: [&str; 8] = ["raw", "hex", "xxd", "canonical", "plain", "c", "u32le", "u64be"];

/// A loop device on an image, detached with the test.
struct Loop(String);

impl Loop {
    fn on(test: &str, image: &Path) -> Option<Loop> {
        if !is_root() || !has(test, "losetup") {
            skip(test, "a loop device takes root");
            return None;
        }
        let output = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(image)
            .output()
            .ok()?;
        if !output.status.success() {
            skip(test, "no loop device is to be had");
            return None;
        }
        Some(Loop(String::from_utf8(output.stdout).ok()?.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).output();
    }
}

/// The dump of `bytes` by itself, as it would be of a file called `name`.
fn dump(bytes: &[u8], name: &str, format: &str) -> Vec<u8> {
    let dir = support::scratch();
    // Only the name of the C array depends on the path.
    file(dir.path(), "part", bytes);
    let output = mmapctl(dir.path(), &["cat", "part", "-f", format]).output().unwrap();
    let array: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .collect();
    match format {
        "c" => String::from_utf8(output.stdout)
            .unwrap()
            .replace("char part", &format!("char {array}"))
            .into(),
        _ => output.stdout,
    }
}

/// Whether `shown` has every byte that `bytes` has, and no more.
fn is_exact(shown: &[u8], bytes: &[u8], name: &str, format: &str) -> bool {
    let whole = dump(bytes, name, format);
    // A dump that breaks off has no closing lines: the last offset, or the end of the array and its length.
    let most = match format {
        "hex" | "canonical" | "u32le" | "u64be" => 10,
        "c" => 60,
        _ => 0,
    };
    whole.starts_with(shown.strip_suffix(b"\n").unwrap_or(shown)) && shown.len() + most >= whole.len()
}

#[test]
fn a_page_that_cannot_be_read_ends_the_output_and_those_before_it_do_not() {
    let test = "a_page_that_cannot_be_read_ends_the_output_and_those_before_it_do_not";
    let dir = support::scratch();
    let bytes = noise(8 << 20);
    for bad in [(3_usize << 20) + 77 * 4096, 1 << 20, 4096] {
        let image = file(dir.path(), "image", &bytes);
        let Some(device) = Loop::on(test, &image) else { return };
        fs::File::options()
            .write(true)
            .open(&image)
            .unwrap()
            .set_len(bad as u64)
            .unwrap();
        for format in FORMATS {
            // Of a range of less than 1 MiB one thread makes the dump, of a longer one several.
            for from in [0, (bad.saturating_sub(100_000)) & !0xfff] {
                let range = match from {
                    0 => "..".into(),
                    from => format!("{from}..+200000"),
                };
                let line = ["cat", &device.0, "-f", format, "-r", &range];
                let output = spawnable(dir.path(), &line).output().unwrap();
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(2), "{line:?}: {text}");
                assert!(
                    text.contains(&format!("cannot read {bad:#x}..")) && text.contains("EIO"),
                    "{line:?}: {text}"
                );
                if from == 0 {
                    let exact = is_exact(&output.stdout, &bytes[..bad], &device.0, format);
                    assert!(exact, "{line:?}: {} bytes of output", output.stdout.len());
                } else if format == "raw" {
                    assert!(
                        output.stdout == bytes[from..bad],
                        "{line:?}: {} bytes",
                        output.stdout.len()
                    );
                }
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_within_a_row_is_shown_to_its_last_byte() {
    let dir = support::scratch();
    let bytes = noise(8 << 20);
    let path = dir.path().join("f");
    for format in FORMATS.iter().filter(|format| **format != "raw") {
        for left in [(3 << 20) + 5003, (7 << 20) + 1] {
            file(dir.path(), "f", &bytes);
            let mut child = spawnable(dir.path(), &["cat", "f", "-f", format])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // No more has been read than what the pipe and the dump's own memory hold.
            let mut pipe = child.stdout.take().unwrap();
            let mut shown = vec![0; 1];
            pipe.read_exact(&mut shown).unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(left as u64)
                .unwrap();
            pipe.read_to_end(&mut shown).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = told(&output);
            assert!(
                text.contains("truncated under us") && text.contains(&format!("{left:#x}")) && text.ends_with("exit 2"),
                "{format}: {text}"
            );
            assert!(
                is_exact(&shown, &bytes[..left], "f", format),
                "{format}: {} bytes of output",
                shown.len()
            );
        }
    }
}
