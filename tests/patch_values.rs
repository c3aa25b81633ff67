//! Values of `patch`: masks, checksums, and every refusal of an ambiguous one.

use crate::support::*;

/// Patches `f`, of the bytes `before`, and returns its bytes afterwards.
fn patched(dir: &Sandbox, before: &[u8], args: &[&str]) -> Vec<u8> {
    let path = dir.file("f", before);
    dir.mmapctl(&[&["patch", "f"], args].concat()).code(0);
    read(path)
}

// ---- masks -----------------------------------------------------------------------------------------------------------

#[test]
fn only_the_bits_of_a_mask_are_changed() {
    let dir = Sandbox::new();
    for (value, before, after) in [
        ("u8:0x4/0x7", "f3", "f4"),
        ("u8:0/0xff", "f3", "00"),
        ("u8:0/0", "f3", "f3"),
        ("u8:0b100/0b111", "00", "04"),
        ("i8:1/3", "fc", "fd"),
        ("u16le:0x4/0x7", "ffff", "fcff"),
        ("u16be:0x4/0x7", "ffff", "fffc"),
        ("u16le:0x0/0x8000", "ffff", "ff7f"),
        ("u16le:0x4/0x7,0x1234,0/1", "ffffffffffff", "fcff3412feff"),
        ("u32le:0x00120000/0x00ff0000", "aabbccdd", "aabb12dd"),
        ("u32be:0x00120000/0x00ff0000", "aabbccdd", "aa12ccdd"),
        ("i32be:0x00120000/0x00ff0000", "aabbccdd", "aa12ccdd"),
        ("u64be:1/0x8000000000000001", "ffffffffffffffff", "7fffffffffffffff"),
        ("u64le:0x8000000000000000/0x8000000000000000", "0000000000000000", "0000000000000080"),
    ] {
        let before = const_hex::decode(before).unwrap();
        let after_now = patched(&dir, &before, &["-o", "0", value]);
        assert_eq!(const_hex::encode(after_now), after, "{value}");
    }
    // Beside other values, and twice: the second time nothing is left to do.
    assert_eq!(
        patched(&dir, &[0xff; 6], &["-o", "1", "00", "u8:0/0xf0", "aa", "u8:0/1"]),
        [0xff, 0, 0x0f, 0xaa, 0xfe, 0xff]
    );
    dir.run("patch f -o 2 u8:0/0xf0")
        .is("f: 0x2..0x3 holds these bytes already; nothing was written\nexit 0");
}

#[test]
fn only_the_bits_of_a_mask_are_compared() {
    let dir = Sandbox::new();
    assert_eq!(patched(&dir, &[0xa5, 0x11], &["-o", "0", "--expect", "u8:0x5/0xf", "ff"]), [0xff, 0x11]);
    assert_eq!(patched(&dir, &[0xa5, 0x11], &["-e", "0: u8:5/0xf 11 -> u8:0/0xf 22"]), [0xa0, 0x22]);
    assert_eq!(patched(&dir, &[0xa5, 0x11], &["-e", "0: u16be:0xa000/0xf000 -> text:ok"]), *b"ok");
    assert_eq!(patched(&dir, &[0xa5, 0x11], &["-e", "0: a511 -> 00 u8:2/0xf"]), [0, 0x12]);
    let path = dir.file("f", [0xa5, 0x11]);
    let before = State::of(&path);
    dir.run("patch f -o 0 --expect u8:0x6/0xf ff").has("bytes at 0x0 are a5, expected a6").code(1);
    assert_eq!(State::of(&path), before);
}

#[test]
fn masks_of_many_edits_keep_to_their_own() {
    let dir = Sandbox::new();
    let original = noise(4096);
    let mut expected = original.clone();
    let mut script = String::new();
    for at in (0..4096).step_by(4).rev() {
        let (mask, value) = (at as u8 | 1, 0x5a & (at as u8 | 1));
        expected[at] = expected[at] & !mask | value;
        script += &format!("{at}: u8:{value}/{mask}\n");
    }
    let path = dir.file("f", &original);
    dir.run_fed("patch f --script - --undo u", script.as_bytes()).ends("changed\nexit 0");
    assert!(read(&path) == expected);
    dir.run("patch f --script u").ends("changed\nexit 0");
    assert!(read(&path) == original);
}

// ---- checksums --------------------------------------------------------------------------------------------------------

#[test]
fn checksums_are_those_of_the_catalogue() {
    let dir = Sandbox::new();
    // The check value of CRC-32/ISO-HDLC is that of "123456789"; the others are zlib's, gzip's and PNG's as well.
    for (text, crc) in [
        ("123456789", 0xcbf4_3926u32),
        ("a", 0xe8b7_be43),
        ("abc", 0x3524_41c2),
        ("The quick brown fox jumps over the lazy dog", 0x414f_a339),
        ("\0", 0xd202_ef8d),
        ("\0\0\0\0", 0x2144_df1c),
        ("IEND", 0xae42_6082),
        ("", 0),
    ] {
        let len = text.len();
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend([0xee; 4]);
        let range = format!("0..{len}");
        for (kind, sum) in [("crc32le", crc.to_le_bytes()), ("crc32be", crc.to_be_bytes())] {
            let after = patched(&dir, &bytes, &["-o", "end-4", &format!("{kind}:{range}")]);
            assert_eq!(after[len..], sum, "{kind} of {text:?}");
            assert_eq!(after[..len], *text.as_bytes());
        }
    }
}

#[test]
fn checksums_are_those_that_zlib_computes() {
    needs!(has("python3"));
    let dir = Sandbox::new();
    // Longer than what is summed at a time, and no multiple of it.
    let bytes = noise((600 << 10) + 13);
    let program = "import zlib;print('%08x'%zlib.crc32(open('f','rb').read()[1000:-4]))";
    let after = patched(&dir, &bytes, &["-o", "end-4", "crc32be:1000..end-4"]);
    let sum = String::from_utf8(dir.peer("python3", &["-c", program])).unwrap();
    assert_eq!(const_hex::encode(&after[after.len() - 4..]), sum.trim());
    assert!(after[..after.len() - 4] == bytes[..bytes.len() - 4]);
}

#[test]
fn a_range_to_sum_is_written_in_every_way() {
    let dir = Sandbox::new();
    let bytes = b"xx123456789yyyy\0\0\0\0";
    for range in [
        "2..11",
        "2..+9",
        "-17..-8",
        "0x2..0xb",
        "end-17..end-8",
        "2..end-8",
        "1+1..11",
        "-17..+9",
    ] {
        let after = patched(&dir, bytes, &["-o", "end-4", &format!("crc32be:{range}")]);
        assert_eq!(after[15..], [0xcb, 0xf4, 0x39, 0x26], "{range}");
    }
    let after = patched(&dir, b"\0\0\0\x00123456789", &["-o", "0", "crc32be:4.."]);
    assert_eq!(after[..4], [0xcb, 0xf4, 0x39, 0x26]);
    let after = patched(&dir, b"123456789\0\0\0\0", &["-o", "9", "crc32be:..9"]);
    assert_eq!(after[9..], [0xcb, 0xf4, 0x39, 0x26]);
}

#[test]
fn a_checksum_sees_every_other_edit_wherever_it_is_written() {
    let dir = Sandbox::new();
    let crc = [0xcb, 0xf4, 0x39, 0x26];
    for edits in [
        ["0: text:1234", "4: text:56789", "end-4: crc32be:0..9"],
        ["end-4: crc32be:0..9", "0: text:1234", "4: text:56789"],
        [
            "0: text:1234",
            "end-4: crc32be:0..9",
            "4: 35 u8:0x6/0xf u8:0x37/0xff text:89",
        ],
    ] {
        // The digits' high nibble is there already.
        let mut args = Vec::new();
        args.extend(edits.iter().flat_map(|edit| ["-e", edit]));
        let after = patched(&dir, b"::::::::::\0\0\0\0", &args);
        assert_eq!(after[..9], *b"123456789", "{edits:?}");
        assert_eq!(after[10..], crc, "{edits:?}");
        dir.mmapctl(&[&["patch", "f"], &args[..]].concat()).ends("nothing was written\nexit 0");
    }
    // In one value list, and over an edit that only partly reaches in.
    assert_eq!(patched(&dir, &[0; 15], &["-o", "0", "ff", "text:123456789", "00", "crc32be:1..10"])[11..], crc);
    let after = patched(
        &dir,
        b"..3456789...\0\0\0\0",
        &["-o", "0", "text:12", "-e", "9: zero:3", "-e", "end-4: crc32be:0..9"],
    );
    assert_eq!(after[12..], crc);
    // Of what the file grows by.
    let script = "size 0 -> 13\n0: text:123456789\n+0: crc32be:0..9\n";
    let path = dir.file("f", b"");
    dir.run_fed("patch f --script -", script.as_bytes()).code(0);
    assert_eq!(read(path), b"123456789\xcb\xf4\x39\x26");
}

#[test]
fn checksums_of_checksums_are_computed_from_the_inside_out() {
    let dir = Sandbox::new();
    // The third sums the second, which sums the first; they are written in every order.
    let edits = ["100: crc32le:0..100", "104: crc32le:50..104", "108: crc32be:0..108"];
    let mut expected = noise(112);
    let sum = |bytes: &[u8]| crc32fast::hash(bytes);
    let first = sum(&expected[..100]);
    expected[100..104].copy_from_slice(&first.to_le_bytes());
    let second = sum(&expected[50..104]);
    expected[104..108].copy_from_slice(&second.to_le_bytes());
    let third = sum(&expected[..108]);
    expected[108..].copy_from_slice(&third.to_be_bytes());
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let args: Vec<&str> = order.iter().flat_map(|index| ["-e", edits[*index]]).collect();
        assert_eq!(patched(&dir, &noise(112), &args), expected, "{order:?}");
    }
}

/// Each sums the one before it, or after it; to look for the next ready one among all of them took a minute.
#[test]
fn a_chain_of_thousands_of_checksums_is_computed_link_by_link() {
    const LINKS: usize = 5000;
    for backwards in [false, true] {
        let dir = Sandbox::new();
        let mut expected = noise(LINKS * 8);
        dir.file("f", &expected);
        let mut script = String::new();
        let mut before = LINKS;
        for link in 0..LINKS {
            let at = if backwards { LINKS - 1 - link } else { link };
            if before < LINKS {
                script += &format!("{:#x}: -> crc32le:{:#x}..+8\n", at * 8, before * 8);
                let sum = crc32fast::hash(&expected[before * 8..before * 8 + 8]);
                expected[at * 8..at * 8 + 4].copy_from_slice(&sum.to_le_bytes());
            }
            before = at;
        }
        dir.file("s", script);
        dir.run("patch f --script s");
        assert!(dir.read("f") == expected, "backwards: {backwards}");
    }
}

#[test]
fn checksums_that_sum_each_other_or_themselves_are_refused() {
    let dir = Sandbox::new();
    dir.file("f", [7; 64]);
    dir.refused_untouched("patch f -o 60 crc32le:..").is(
        "! error: f: the checksum would be inside the range 0x0..0x40 that it covers\n\
         !   tip: leave its four bytes out: crc32le:0x0..0x3c\n\
         exit 2",
    );
    dir.refused_untouched("patch f -e 0:crc32le:4..8 -e 4:crc32le:0..4").is(
        "! error: f: the checksum at 0x0 covers another one that covers it\n\
         !   tip: move one of the two out of the other's range\n\
         exit 2",
    );
    for line in [
        "patch f -o 0 crc32le:3..8",
        "patch f -o 8 00 crc32le:0..10",
        "patch f -e 0:crc32le:4..8 -e 4:crc32le:8..12 -e 8:crc32le:0..1",
        "patch f --dry-run -e 0:crc32le:4.. -e 60:crc32be:..60",
        "patch f --find 07 --nth 1 crc32le:0..4",
        "patch f --find 0707 --all crc32le:0..4",
    ] {
        dir.refused_untouched(line);
    }
    // Side by side is not within.
    dir.run("patch f -o 0 crc32le:4..8").ends("changed\nexit 0");
    dir.run("patch f -o 4 crc32le:0..4").ends("changed\nexit 0");
}

#[test]
fn a_range_that_cannot_be_summed_is_refused() {
    let dir = Sandbox::new();
    dir.file("f", [7; 64]);
    for (value, words) in [
        ("crc32le:", "0..end-4"),
        ("crc32le:0..61", "inside the range"),
        ("crc32le:0..65", "the file ends at 0x40"),
        ("crc32le:65..", "past the end"),
        ("crc32le:8..4", "before its start"),
        ("crc32le:0x40:16", "0x40..+16"),
        ("crc32le:0x0-0x10", ".."),
        ("crc32le:020..", "0x20"),
        ("crc32le:16", ".."),
        ("crc32:0..4", "crc32le:"),
        ("crc32xx:0..4", "kinds of value"),
        ("crc16le:0..4", "kinds of value"),
    ] {
        dir.refused_untouched(&format!("patch f -o 60 {value}")).has(words);
    }
    // A sum takes four bytes.
    dir.refused_untouched("patch f -o 61 crc32le:0..4");
    dir.refused_untouched("patch f -r 60..61 crc32le:0..4");
    // It can be written, but not expected.
    dir.refused_untouched("patch f -o 60 --expect crc32le:0..4 00000000");
    dir.refused_untouched("patch f -e 60:crc32le:0..4->00000000");
}

// ---- what is refused -------------------------------------------------------------------------------------------------

#[test]
fn ambiguous_values_are_refused_with_both_spellings() {
    let dir = Sandbox::new();
    dir.file("f", [7; 64]);
    for (value, tips) in [
        ("0x1234", &["1234 ", "u16le:0x1234", "u32be:0x1234"][..]),
        ("0x123", &["0123 ", "u16le:0x123"]),
        ("0X12", &["12 "]),
        ("u16:1", &["u16le: ", "u16be: "]),
        ("u32:1", &["u32le: ", "u32be: "]),
        ("i64:1", &["i64le: ", "i64be: "]),
        ("f32:1", &["f32le: ", "f32be: "]),
        ("u8:256", &["u16le:256", "u16be:256"]),
        ("u8:-1", &["i8:-1"]),
        ("i8:128", &["u8:128"]),
        ("i8:-129", &["i16le:-129"]),
        ("u16le:65536", &["u32le:65536"]),
        ("u32be:4294967296", &["u64be:4294967296"]),
        ("u64le:18446744073709551616", &[""]),
        ("i64le:-9223372036854775809", &["hex bytes"]),
        ("abc", &["0abc"]),
        ("90 9", &["09"]),
        ("hex:9", &["09"]),
        ("hex:", &["9090"]),
        ("hex:zz", &["0-9 and a-f"]),
        ("V1.2", &["text:V1.2"]),
        ("hello", &["text:hello"]),
        ("", &["text:"]),
        ("text:", &["text:WORDS", "zero:1"]),
        (r"text:\q", &[r"\n", r"\x41"]),
        (r"text:a\", &[r"\\"]),
        (r"text:\x4", &[r"\x41"]),
        (r"text:\u{110000}", &[r"\u{20ac}"]),
        (r"cstr:\z", &[r"\n"]),
        ("fill:5a", &["fill:BYTE:COUNT"]),
        ("fill:5a5a:2", &["fill:BYTE:COUNT"]),
        ("fill:5:2", &["05"]),
        ("fill:zz:2", &["hex"]),
        ("zero:", &[""]),
        ("zero:-1", &["1"]),
        ("nope:1", &["kinds of value", "text:"]),
        ("u24le:1", &["kinds of value"]),
        ("u16ne:1", &["kinds of value"]),
        ("U8:1", &["kinds of value"]),
        ("f32le:1e99", &["f64le:"]),
        ("f64le:1e999", &["inf"]),
        ("f64le:x", &["1.5"]),
        ("f32le:1/2", &["u32"]),
        ("u8:8/7", &["0x0/0x7"]),
        ("u8:1/256", &["u16le:256"]),
        ("u8:1/", &[""]),
        ("u8:", &[""]),
        ("u8:1,,2", &[""]),
        ("u8:1 2", &[""]),
        ("@", &["@PATH", "@-"]),
        ("74??", &["--find", "VALUE/MASK"]),
        // Numbers, wherever they stand.
        ("u16le:020", &["0x20", "0o20"]),
        ("u32le:00000040", &["0x40", "40"]),
        ("u16le:1K", &["1024"]),
        ("u16le:1.5", &[""]),
        ("u16le:1e3", &["1000"]),
        ("zero:0x10K", &["16K", "0x4000"]),
        ("zero:1b", &["1B", "512", "0x1b"]),
        ("zero:1.5K", &["1536"]),
        ("zero:3P", &["3p"]),
        ("zero:1e3", &["1000"]),
        ("fill:00:020", &["0x20"]),
    ] {
        let before = dir.state("f");
        let edit = format!("0: 07 -> \"{value}\"");
        for args in [
            &["patch", "f", "-o", "0", "--", value][..],
            &["patch", "f", "-o", "0", "--expect", value, "--", "07"],
            &["patch", "f", "-e", &edit],
        ] {
            // A backslash before a quotation mark is another mistake.
            let tips = if edit.ends_with("\\\"") && args.contains(&"-e") {
                &[]
            } else {
                tips
            };
            let output = dir.mmapctl(args);
            let text = output.is_refusal();
            for tip in tips {
                assert!(text.contains(tip), "{args:?}: no '{tip}' in\n{text}");
            }
        }
        assert_eq!(dir.state("f"), before, "{value}");
    }
}

#[test]
fn ambiguous_numbers_are_refused_with_both_spellings() {
    let dir = Sandbox::new();
    dir.file("f", [7; 64]);
    for (number, tips) in [
        ("020", &["0x20", "0o20"][..]),
        ("00000040", &["0x40", "40"]),
        ("0x10K", &["16K", "0x4000"]),
        ("1b", &["1B", "0x1b"]),
        ("1.5K", &["1536"]),
        ("3P", &["3p"]),
        ("1e3", &["1000"]),
        ("1E3", &["1000"]),
        ("0x", &[""]),
        ("0xg", &[""]),
        ("1__0", &[""]),
        ("_1", &[""]),
        ("1Q", &[""]),
        ("", &[""]),
        ("0x10000000000000000", &[""]),
        ("ff", &["0xff"]),
    ] {
        for option in ["--offset", "--length"] {
            let before = dir.state("f");
            let output = dir.mmapctl(&["patch", "f", &format!("{option}={number}"), "00"]);
            let text = output.is_refusal();
            for tip in tips {
                assert!(text.contains(tip), "{option}={number}: no '{tip}' in\n{text}");
            }
            assert_eq!(dir.state("f"), before, "{option}={number}");
        }
        if !number.is_empty() {
            dir.refused_untouched_fed("patch f --script -", format!("{number}: -> 00").as_bytes())
                .has("line 1: ");
            dir.refused_untouched(&format!("patch f -r {number}..+1 00"));
        }
    }
    for (range, tip) in [
        ("0x40:16", "0x40..+16"),
        ("0x10-0x20", "0x10..0x20"),
        ("16", ".."),
        ("1...3", ""),
        ("1..2..3", ""),
        ("1,2", ""),
    ] {
        dir.refused_untouched(&format!("patch f -r {range} 00")).has(tip);
    }
}

#[test]
fn an_octal_escape_is_refused_wherever_a_text_is_read() {
    let dir = Sandbox::new();
    dir.file("f", [0x11; 64]);
    for line in [
        r"patch f -o 0 text:1\0532",
        r"patch f -o 0 cstr:\07",
        r"patch f -o 0 text:\012x",
        r"patch f -o 0 text:\08",
        r"patch f -o 0 --expect text:\00 00",
        r"patch f --find text:\053 00",
        r"patch f -e 0:text:\053",
        r"patch f -e 0:text:\053 --dry-run",
    ] {
        dir.refused_untouched(line).has(r"write \x00");
    }
    for script in [
        &br"0: text:\053"[..],
        br#"0: 11 -> text:"a\053""#,
        br"0: text:\053 -> 00",
    ] {
        dir.refused_untouched_fed("patch f --script -", script).has("line 1: ").has(r"\x2b");
    }
    let args = ["map", "f", "-c", r"patch -o 0 'text:\053'"];
    let output = dir.mmapctl(&args);
    let text = output.is_refusal();
    assert!(text.contains(r"\x2b"), "{text}");
}
