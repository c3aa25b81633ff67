//! The lines of a session, from `-c`, a script or stdin: how they are read, and what is refused before any is run.

use crate::support::*;
use std::fs;

#[test]
fn a_mistake_in_any_line_is_told_before_the_first_is_run() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abc");
    let before = State::of(&path);
    for (line, why) in [
        ("nonsense", "-c 2: unrecognized subcommand 'nonsense'"),
        ("cat f", "-c 2: unexpected argument 'f' found"),
        ("cat -o 020", "-c 2: --offset: "),
        ("patch -o 0 u8:256", "-c 2: VALUE: "),
        ("patch -o 0 'text:a", "-c 2: a quote is not closed"),
        ("fork", "-c 2: 'fork' is not followed by a verb"),
        ("fork # nothing", "-c 2: 'fork' is not followed by a verb"),
        ("!", "-c 2: '!' is not followed by a command"),
        ("fork !", "-c 2: '!' is not followed by a command"),
        ("map f", "-c 2: unexpected argument 'f' found"),
        ("map -c cat", "-c 2: unexpected argument '-c' found"),
        ("map --hold", "-c 2: unexpected argument '--hold' found"),
        ("forkcat", "-c 2: unrecognized subcommand 'forkcat'"),
        ("--json", "-c 2: "),
        ("patch -o 0 ff --lock-timeout 1s", "-c 2: unexpected argument '--lock-timeout' found"),
    ] {
        dir.session("f", &["patch -o 0 ff", line])
            .begins(format!("! error: f: {why}"))
            .code(2)
            .has("\n!   tip: ");
        assert!(State::of(&path) == before, "{line}: it touched the file");
        fs::write(dir.join("script"), format!("# one\npatch -o 0 ff\n{line}\n")).unwrap();
        let text = dir.session("f --script script", &["! echo never"]);
        let why = why.replace("-c 2:", "script: line 3:");
        assert!(text.starts_with(&format!("! error: f: {why}")), "{line}\n{text}");
        assert!(State::of(&path) == before, "{line}: it touched the file");
    }
}

#[test]
fn a_script_may_have_comments_crlf_quotes_and_a_bom() {
    let dir = Sandbox::new();
    let path = dir.file("f", [b'.'; 20]);
    let script = "\u{feff}# what it does\r\n\r\n  patch -q --offset 0 \"text:a b\"\t'text:c\"d'\r\n\tpatch -q -o -3 u8:0x21\n\
                  # cat\n! printf '%s|' 'x  y'\r\ncat -n 20\n\n   \nfork   cat -r 0..1";
    dir.file("script", script);
    assert_eq!(dir.session_prints("f --script script", &[]), "x  y|a bc\"d...........!..a");
    assert_eq!(read(&path), b"a bc\"d...........!..");
    // Behind what -c says, and one that ends in the middle of nothing.
    dir.file("script", "");
    assert_eq!(dir.session_prints("f --script script", &["cat -n 1", "", "# note"]), "a");
    // Bytes that are no UTF-8 are a shell's business, and no verb's.
    dir.file("script", b"! printf '\xff' | od -An -tx1\n");
    assert_eq!(dir.session_prints("f --script script", &[]), " ff\n");
    dir.file("script", b"cat -n \xff\n");
    dir.session("f --script script", &[]).begins("! error: f: script: line 1: the line is not UTF-8");
    for (missing, why) in [("missing", "ENOENT"), (".", "EISDIR")] {
        dir.session(&format!("f --script {missing}"), &[]).code(2).has(why).has("!   tip: -c - reads");
    }
}

#[test]
fn verbs_on_stdin_run_as_they_come_and_stay_unread_by_commands() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abcdef");
    let lines = b"# begin\ncat -n 1\n! cat\ncat -n 2\r\nfork ! cat\npatch -q -o 0 text:X\ncat -n 3";
    dir.run_fed("map f -c -", lines).is("aabXbc(no newline)\nexit 0");
    // In the place of the -.
    let args = ["map", "f", "-c", "! printf 1", "-c", "-", "-c", "! printf 3"];
    dir.mmapctl_fed(&args, "! printf 2\n").is("123(no newline)\nexit 0");
    // The verbs before a mistake have been run by then.
    dir.run_fed("map f -c -", b"patch -q -o 0 text:Y\n\nnonsense\npatch -q -o 0 text:Z\n")
        .begins("! error: f: stdin: line 3: unrecognized subcommand 'nonsense'")
        .code(2);
    assert_eq!(read(&path), b"Ybcdef");
    dir.run_fed("map f --keep-going -c -", b"nonsense\ncat -n 1\n! exit 3\n")
        .code(2)
        .begins("Y(no newline)\n! error: ");
    // Asked for twice.
    for (line, input) in [
        ("map f -c - -c -", ""),
        ("map f -c -", "patch -o 0 @-\nabc"),
        ("map f -c -", "patch -o 0\nabc"),
        ("map f -c -", "patch --script -\n0: 61\n"),
    ] {
        dir.run_fed(line, input.as_bytes()).code(2).has("stdin is used twice");
    }
    assert_eq!(read(&path), b"Ybcdef");
    dir.run_fed("map f -c -", b"").is("exit 0");
}

#[test]
fn a_verb_takes_stdin_where_the_lines_do_not() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"abcdef");
    let args = ["map", "f", "-c", "patch -q -o 1", "-c", "! wc -c"];
    dir.mmapctl_fed(&args, "XY").is("0\nexit 0");
    assert_eq!(read(&path), b"aXYdef");
}
