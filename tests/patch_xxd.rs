//! `patch --format xxd`: dumps that `xxd` prints in other ways than its own, and dumps that were edited by hand.

use crate::support::*;
use std::fs;

const LINE: &str = "patch f --script - --format xxd";

#[test]
fn the_bits_of_xxd_b_are_not_taken_for_hex() {
    let dir = Sandbox::new();
    dir.file("f", [0x11; 300]);
    for dump in [
        "00000000: 01111111 01000101 01001100 01000110 00000010 00000001  .ELF..\n",
        "00000000: 00000000 00000000 00000000 00000000 00000000 00000000  ......\n",
        "00000006: 00000001 01000001                                      .A\n",
        "00000000: 7405 9090  t...\n00000010: 01111000  x\n",
        "00000000: 00100000 00100000 00100000 00100000 00100000 00100000        \n",
    ] {
        dir.refused_untouched_fed(LINE, dump.as_bytes())
            .has("digits of bits, as 'xxd -b' prints them")
            .has("without -b")
            .has(format!("line {}", dump.lines().count()));
    }
}

#[test]
fn hex_that_has_no_other_digits_than_bits_have_is_hex() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0x11; 16]);
    // As `xxd -g4` prints them, edited or not; and with the characters taken away.
    for dump in [
        "00000000: 01100110 00010001 10101010 11111111  ................",
        "00000000: 01100110 00010001 10101010 11111111  abcdefghijklmnop",
        "00000000: 01100110 00010001 10101010 11111111",
        "00000000: 01100110 00010001 10101010 11111111  abcd5678",
    ] {
        fs::write(&path, [0x22; 16]).unwrap();
        dir.run_fed(LINE, dump.as_bytes()).code(0);
        assert_eq!(read(&path)[..4], [0x01, 0x10, 0x01, 0x10], "{dump}");
    }
}

#[test]
fn the_turned_groups_of_xxd_e_are_not_taken_as_they_stand() {
    let dir = Sandbox::new();
    dir.file("f", [0x11; 300]);
    for dump in [
        "00000000: 464c457f 00010102 00000000 00000000  .ELF............\n00000010: 64636261                             abcd\n",
        "00000000: 33323130 37363534 62613938 66656463  0123456789abcdef\n",
        "00000000: 3130 3332 3534 3736 3938 6261 6463 6665  0123456789abcdef\n",
        // Edited by hand in one place.
        "00000000: ffffffff 37363534 62613938 66656463  0123456789abcdef\n",
    ] {
        dir.refused_untouched_fed(LINE, dump.as_bytes())
            .has("as 'xxd -e' prints them")
            .has("without -e")
            .has("remove the characters");
    }
}

#[test]
fn hex_after_two_spaces_is_refused_and_lookalike_text_is_not() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0x11; 300]);
    for (dump, word) in [
        ("00000000: 64636261 68676665 6c6b6a69     6e6d  abcdefghijklmn\n", "6e6d"),
        ("00000000: 33323130     3534                   012345\n", "3534"),
        ("00000000: 6261   63                                abc\n", "63"),
        ("0: 4142  4344\n", "4344"),
        ("0: 41 42  43 44\n", "43"),
        ("0: 4142  4344  ABCD\n", "4344"),
    ] {
        dir.refused_untouched_fed(LINE, dump.as_bytes())
            .has(format!("line 1: '{word}' follows two spaces"))
            .has("without -e")
            .has("remove the characters");
    }
    for dump in [
        "00000000: 3665 3664 2020 6162 6364 6566 6768       6e6d  abcdefgh",
        "00000000: 3433 3434                                4344",
        "00000000: 3433 3434                                43",
        "00000000: 2063 2064                                 c d",
        "0: 4142  xy43",
        "0: 4142  434",
    ] {
        fs::write(&path, [0x22; 16]).unwrap();
        dir.run_fed(LINE, dump.as_bytes()).code(0);
    }
}

#[test]
fn what_xxd_prints_is_told_from_what_it_prints_with_b_and_e() {
    needs!(has("xxd"));
    let dir = Sandbox::new();
    let text: Vec<u8> = b"The quick brown fox jumps over the lazy dog.\n".repeat(7);
    for (name, bytes) in [
        ("noise", noise(299)),
        ("text", text),
        ("short", b"abcdefghijklmn".to_vec()),
    ] {
        dir.file(name, &bytes);
        for options in [
            &["-b"][..],
            &["-b", "-c", "4"],
            &["-e"],
            &["-e", "-g", "2"],
            &["-e", "-g", "8"],
        ] {
            let dump = dir.peer("xxd", &[options, &[name]].concat());
            dir.file("f", [0x11; 400]);
            dir.refused_untouched_fed(LINE, &dump);
        }
        for options in [
            &[][..],
            &["-g", "1"],
            &["-g", "4"],
            &["-g", "8"],
            &["-c", "5"],
            &["-u"],
            &["-g", "0"],
        ] {
            let dump = dir.peer("xxd", &[options, &[name]].concat());
            let path = dir.file("f", vec![0x11; bytes.len()]);
            let text = dir.run_fed(LINE, &dump);
            assert!(text.ends_with("exit 0"), "{options:?}: {text}");
            assert!(read(path) == bytes, "{options:?}");
        }
    }
}

#[test]
fn a_dump_edited_by_hand_keeps_its_old_characters() {
    let dir = Sandbox::new();
    let path = dir.file("f", b"0123456789abcdef");
    for (dump, want) in [
        // One byte, a group turned round by hand, all of it.
        ("00000000: 5858 3233 3435 3637 3839 6162 6364 6566  0123456789abcdef", &b"XX23456789abcdef"[..]),
        ("00000000: 33323130 34353637 38396162 63646566  0123456789abcdef", b"3210456789abcdef"),
        ("00000000: 33323130  0123", b"3210456789abcdef"),
        ("00000000: 5a5a 5a5a 5a5a 5a5a 5a5a 5a5a 5a5a 5a5a  0123456789abcdef", b"ZZZZZZZZZZZZZZZZ"),
    ] {
        fs::write(&path, b"0123456789abcdef").unwrap();
        dir.run_fed(LINE, dump.as_bytes()).code(0);
        assert_eq!(read(&path), want, "{dump}");
    }
}

#[test]
fn decimal_offsets_are_not_read_as_hex() {
    let dir = Sandbox::new();
    dir.file("f", [0x11; 300]);
    let row = |at: &str, len: usize| format!("{at}: {}\n", "4142 ".repeat(len / 2).trim_end());
    for (dump, line) in [
        (row("00000000", 16) + &row("00000016", 16), 2),
        (row("00000000", 16) + &row("00000016", 16) + &row("00000032", 4), 2),
        // Rows are missing between them.
        (row("00000016", 16) + &row("00000064", 16), 2),
        (row("00000000", 16) + &row("00000096", 16) + &row("00000144", 16), 2),
        // xxd -d -c 2, and -c 8: some of their steps are whole rows in hex, too.
        (row("00000008", 2) + &row("00000010", 2), 2),
        (row("00000000", 8) + &row("00000008", 8) + &row("00000016", 8), 3),
        // Past the end of the file, if they are hex.
        (row("00000112", 16) + &row("00000128", 16), 2),
    ] {
        dir.refused_untouched_fed(LINE, dump.as_bytes())
            .has("look decimal, as 'xxd -d' prints them")
            .has(format!("line {line}: "))
            .has("again without -d");
    }
}

#[test]
fn parts_of_a_hex_dump_and_typed_lines_are_taken() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0x11; 300]);
    let row = |at: &str, len: usize| format!("{at}: {}\n", "4142 ".repeat(len / 2).trim_end());
    for dump in [
        row("00000000", 16) + &row("00000040", 16) + &row("000000a0", 16),
        row("00000040", 16) + &row("00000010", 16),
        row("00000010", 16) + &row("00000090", 16) + &row("00000100", 16),
        row("00000013", 16) + &row("00000023", 16) + &row("00000093", 16),
        // Cut short by hand.
        row("00000000", 16) + &row("00000010", 10) + &row("00000020", 16) + &row("00000040", 2),
        // A letter anywhere says that all are hex.
        row("00000008", 2) + &row("00000010", 2) + &row("0000001a", 2),
        row("00000000", 4) + &row("00000007", 2) + &row("0000001a", 2),
        // Typed, as for `xxd -r`.
        "2: 43 43 \n8:\t44 44\r\n".to_string(),
        row("37", 2) + &row("50", 4) + &row("93", 6),
        row("100", 6) + &row("120", 4),
        row("00000016", 16),
    ] {
        fs::write(&path, [0x11; 300]).unwrap();
        dir.run_fed(LINE, dump.as_bytes()).code(0);
    }
}

#[test]
fn printed_rows_that_are_no_whole_rows_apart_are_refused() {
    let dir = Sandbox::new();
    dir.file("f", [0x11; 300]);
    let text = "00000000: 4142 4344  ABCD\n0000001c: 4142 4344  ABCD\n0000002a: 4142 4344  ABCD\n";
    dir.refused_untouched_fed(LINE, text.as_bytes())
        .has("line 3: this row is not a whole number of rows of 4 bytes away");
    let overlap = "00000000: 4142 4344  ABCD\n00000002: 4142 4344  ABCD\n";
    dir.refused_untouched_fed(LINE, overlap.as_bytes());
    // Without characters, nothing says that they were printed.
    let typed = "00000000: 4142 4344\n0000001c: 4142 4344\n0000002a: 4142 4344\n";
    dir.run_fed(LINE, typed.as_bytes()).code(0);
}

#[test]
fn what_xxd_prints_with_d_is_refused() {
    needs!(has("xxd"));
    let dir = Sandbox::new();
    let bytes = noise(256);
    dir.file("g", &bytes);
    if !std::process::Command::new("xxd")
        .args(["-d", "-l", "1", "/dev/zero"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        skip("this xxd has no -d");
        return;
    }
    for options in [
        &[][..],
        &["-l", "32"],
        &["-c", "1"],
        &["-c", "2"],
        &["-c", "5"],
        &["-c", "6"],
        &["-c", "8"],
        &["-c", "32"],
        &["-s", "7", "-c", "3"],
    ] {
        let dump = dir.peer("xxd", &[&["-d"], options, &["g"]].concat());
        dir.file("f", [0x11; 700]);
        let text = dir.refused_untouched_fed(LINE, &dump);
        assert!(text.contains("as 'xxd -d' prints them"), "{options:?}: {text}");
        let hex = dir.peer("xxd", &[options, &["g"]].concat());
        let text = dir.run_fed(LINE, &hex);
        assert!(text.ends_with("exit 0"), "{options:?}: {text}");
    }
}

#[test]
fn blanks_at_the_end_tabs_and_carriage_returns_say_nothing() {
    let dir = Sandbox::new();
    let path = dir.file("f", [0; 300]);
    let dump = "00000000: 4142 4344 \n00000004:\t4546\t4748\t\n   \n\t\n00000008: 494a 4b4c  \r\n0000000c: 4d4e 4f50\r\n\
                00000010: 5152 5354 \t\r\n00000014: 5556 5758\t\tUVWX\n00000018: 595a 2020  YZ  \n";
    dir.run_fed(LINE, dump.as_bytes()).code(0);
    assert_eq!(&read(path)[..28], b"ABCDEFGHIJKLMNOPQRSTUVWXYZ  ");
}

#[test]
fn a_dump_without_format_xxd_is_recognised() {
    let dir = Sandbox::new();
    dir.file("f", [0x11; 300]);
    for dump in ["00000000: 4142 4344  ABCD\n", "00000010: 41\n", "0000040: 4142 zz  A\n"] {
        let text = dir.refused_untouched_fed("patch f --script -", dump.as_bytes());
        assert_eq!(text.contains("add --format xxd"), !dump.contains("zz"), "{text}");
    }
}

#[test]
fn a_dump_of_xxd_is_read_as_xxd_reads_it() {
    needs!(has("xxd"));
    let dir = Sandbox::new();
    let wanted = noise(1000);
    dir.file("g", &wanted);
    for options in [
        &[][..],
        &["-c", "7"],
        &["-g", "1"],
        &["-g", "0"],
        &["-u"],
        &["-s", "3", "-l", "500"],
    ] {
        let path = dir.file("f", [0xaa; 1000]);
        let dump = dir.peer("xxd", &[options, &["g"][..]].concat());
        dir.file("dump", &dump);
        let text = dir.run("patch f --script dump --format xxd");
        assert!(text.ends_with("changed\nexit 0"), "{options:?}: {text}");
        let mut expected = vec![0xaa; 1000];
        match options {
            ["-s", ..] => expected[3..503].copy_from_slice(&wanted[3..503]),
            _ => expected.copy_from_slice(&wanted),
        }
        assert!(read(path) == expected, "{options:?}");
    }
}

#[test]
fn our_own_dump_is_read_back() {
    let dir = Sandbox::new();
    let wanted = noise(333);
    dir.file("g", &wanted);
    let path = dir.file("f", [0; 333]);
    let dump = dir.mmapctl(&["cat", "g", "-f", "xxd"]).stdout;
    let crlf = String::from_utf8(dump).unwrap().replace('\n', "\r\n");
    dir.run_fed("patch f --script - --format xxd", crlf.as_bytes()).ends("changed\nexit 0");
    assert_eq!(read(path), wanted);
}

#[test]
fn a_bad_line_of_a_dump_is_an_error_with_its_number() {
    let dir = Sandbox::new();
    dir.file("f", [0; 64]);
    let dump = |line: &str, input: &str| dir.refused_untouched_fed(line, input.as_bytes());
    dump("patch f --script - --format xxd", "00000000: 0102  ..\n\n00000010: 01 2\n").is(
        "! error: f: -: line 3: '00000010: 01 2' is not a line of an xxd dump\n\
         !   tip: a line is OFFSET: HEX, as xxd and cat -f xxd print it; two spaces end the hex\n\
         exit 2",
    );
    for line in [
        "*",
        "00000000 0102",
        "00000000:0102",
        "00000000: 0g02  ..",
        "00000000:   ..",
        "0x10: 0102",
        "# a comment",
        "00000040: 01  .",
        "0000003f: 0102  ..",
        "ffffffffffffffff: 01  .",
        "00000000000000010: 01  .",
        "0: \u{fffd}",
    ] {
        dump("patch f --script - --format xxd", &format!("00000000: 0102  ..\n{line}\n00000020: 03  .\n"))
            .has("line 2: ");
    }
    dump("patch f --script - --format xxd", "00: 0102\n01: 03\n");
    dump("patch f --script - --format xxd --reverse", "00: 0102\n");
    // A dump of the whole, for a file that is shorter.
    dir.refused_fed("patch f --script - --format xxd", b"00000100: 01\n");
}

#[test]
fn blanks_at_the_end_hide_neither_reversed_groups_nor_bits() {
    needs!(has("xxd"));
    let dir = Sandbox::new();
    let text = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcd  ";
    dir.file("f", text);
    for ending in ["", " ", "\t ", " \r"] {
        let ended = |dump: Vec<u8>| String::from_utf8(dump).unwrap().replace('\n', &format!("{ending}\n"));
        let line = "patch f --script - --format xxd";
        let reversed = ended(dir.peer("xxd", &["-e", "f"]));
        dir.run_fed(line, reversed).code(2).has("the bytes of each group are reversed");
        dir.run_fed(line, ended(dir.peer("xxd", &["f"]))).ends("nothing was written\nexit 0");
        for group in ["1", "2", "3", "0"] {
            let bits = ended(dir.peer("xxd", &["-b", "-g", group, "-l", "2", "f"]));
            dir.run_fed(line, bits).code(2).has("digits of bits");
        }
        // Characters that look like hex.
        dir.file("g", b"deadbeefcafe1234feed");
        let dump = ended(dir.peer("xxd", &["g"]));
        dir.run_fed("patch g --script - --format xxd", dump).ends("nothing was written\nexit 0");
    }
    assert_eq!(dir.read("f"), text);
}
