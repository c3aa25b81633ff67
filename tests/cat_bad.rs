//! `cat` of what cannot be read to its end: everything before the first bad byte is printed, and nothing after it.

use crate::support::strace::*;
use crate::support::*;
use std::fs;
use std::io::Read;
use std::process::Stdio;

const FORMATS: [&str; 8] = ["raw", "hex", "xxd", "canonical", "plain", "c", "u32le", "u64be"];

/// The dump of `bytes`, as if they were in a file called `name`.
fn dump(bytes: &[u8], name: &str, format: &str) -> Vec<u8> {
    let dir = Sandbox::new();
    // Only the name of the C array depends on the path.
    dir.file("part", bytes);
    let output = dir.mmapctl(&["cat", "part", "-f", format]);
    let array: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    match format {
        "c" => String::from_utf8(output.stdout).unwrap().replace("char part", &format!("char {array}")).into(),
        _ => output.stdout,
    }
}

/// Whether `shown` is the dump of exactly `bytes`.
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
fn an_unreadable_page_ends_the_output_where_it_begins() {
    let dir = Sandbox::new();
    let bytes = noise(8 << 20);
    for bad in [(3_usize << 20) + 77 * 4096, 1 << 20, 4096] {
        let image = dir.file("image", &bytes);
        needs!(let device = LoopDevice::new(&image, &[]));
        writer(&image).set_len(bad as u64).unwrap();
        for format in FORMATS {
            // Of a range of less than 1 MiB one thread makes the dump, of a longer one several.
            for from in [0, (bad.saturating_sub(100_000)) & !0xfff] {
                let range = match from {
                    0 => "..".into(),
                    from => format!("{from}..+200000"),
                };
                let line = ["cat", device.name(), "-f", format, "-r", &range];
                let output = dir.mmapctl(&line);
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(2), "{line:?}: {text}");
                assert!(text.contains(&format!("cannot read {bad:#x}..")) && text.contains("EIO"), "{line:?}: {text}");
                if from == 0 {
                    let exact = is_exact(&output.stdout, &bytes[..bad], device.name(), format);
                    assert!(exact, "{line:?}: {} bytes of output", output.stdout.len());
                } else if format == "raw" {
                    assert!(output.stdout == bytes[from..bad], "{line:?}: {} bytes", output.stdout.len());
                }
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_within_a_row_is_shown_to_its_last_byte() {
    let dir = Sandbox::new();
    let bytes = noise(8 << 20);
    let path = dir.join("f");
    for format in FORMATS.iter().filter(|format| **format != "raw") {
        for left in [(3 << 20) + 5003, (7 << 20) + 1] {
            dir.file("f", &bytes);
            let mut child = dir
                .command(&["cat", "f", "-f", format])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // No more has been read than what the pipe and the dump's own memory hold.
            let mut pipe = child.stdout.take().unwrap();
            let mut shown = vec![0; 1];
            pipe.read_exact(&mut shown).unwrap();
            writer(&path).set_len(left as u64).unwrap();
            pipe.read_to_end(&mut shown).unwrap();
            let output = child.outcome();
            let text = &output;
            assert!(
                text.contains("truncated meanwhile")
                    && text.contains(&format!("{left:#x}"))
                    && text.ends_with("exit 2"),
                "{format}: {text}"
            );
            assert!(is_exact(&shown, &bytes[..left], "f", format), "{format}: {} bytes of output", shown.len());
        }
    }
}

#[test]
fn a_dump_shows_what_was_read_before_a_truncation() {
    needs!(strace_works());
    for format in ["hex", "canonical", "xxd", "plain"] {
        let dir = Sandbox::new();
        let bytes = noise(40_000);
        let path = dir.file("f", &bytes);
        let slow = "inject=pread64:delay_exit=600000:when=1";
        let mut command = dir.program("strace", &["-f", "-qq", "-o", "strace.log", "-e", slow]);
        command.args([BINARY, "cat", "f", "-f", format]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert!(eventually(|| fs::read_to_string(dir.join("strace.log")).is_ok_and(|log| log.contains("pread64("))));
        writer(&path).set_len(39_000).unwrap();
        let output = child.outcome();
        // All of it, or up to the new end, by when the read was made.
        let there = if output.exit() == 0 {
            &bytes[..]
        } else {
            &bytes[..39_000]
        };
        assert!(is_exact(&output.stdout, there, "f", format), "{format}: {output}");
    }
}
