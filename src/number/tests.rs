//! What is accepted and its meaning; what is refused and the message for it.

use super::*;
use proptest::prelude::*;
use std::ffi::OsString;

const PAGE: u64 = 4096;

fn refused(kind: &str, text: &str) -> Option<ParseError> {
    match kind {
        "number" => number(text).err(),
        "qty" => text.parse::<Qty>().err(),
        "offset" => text.parse::<Offset>().err(),
        "range" => text.parse::<Range>().err(),
        _ => text.parse::<Size>().err(),
    }
}

fn args(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

#[test]
fn plain_numbers_are_read_in_four_bases() {
    #[rustfmt::skip]
    let table = [
        ("0", 0), ("4096", 4096), ("1_000_000", 1_000_000), ("0x40", 64), ("0x00ffFF", 65535),
        ("0x1_0", 16), ("0b1010", 10), ("0o20", 16), ("18446744073709551615", u64::MAX),
        ("0xffffffffffffffff", u64::MAX),
    ];
    for (text, value) in table {
        assert_eq!(number(text), Ok(value), "{text}");
        assert_eq!(text.parse(), Ok(Qty::Bytes(value)), "{text}");
    }
}

#[test]
fn quantities_carry_units() {
    #[rustfmt::skip]
    let table = [
        ("0B", 0), ("1B", 1), ("4K", 4096), ("4k", 4096), ("4KiB", 4096), ("4kiB", 4096), ("4kB", 4000),
        ("4KB", 4000), ("1_0M", 10 << 20), ("3m", 3 << 20), ("3MB", 3_000_000), ("2G", 2 << 30),
        ("2GB", 2_000_000_000), ("1T", 1 << 40), ("1TiB", 1 << 40), ("1TB", 1_000_000_000_000),
        ("0x10B", 0x10b),
    ];
    for (text, value) in table {
        assert_eq!(text.parse(), Ok(Qty::Bytes(value)), "{text}");
    }
    for text in ["3p", "3page", "3pages"] {
        assert_eq!(text.parse(), Ok(Qty::Pages(3)), "{text}");
    }
}

#[test]
fn offsets_count_from_either_end() {
    #[rustfmt::skip]
    let table = [
        ("0", 0), ("4K", 4096), ("end", 0x8000), ("-0", 0x8000), ("-0x10", 0x7ff0), ("end-4+1", 0x7ffd),
        ("0x1000+2p-1", 0x2fff), ("-0x10+4", 0x7ff4), ("0-1+1", 0), ("1p", 4096),
    ];
    for (text, place) in table {
        let offset: Offset = text.parse().unwrap();
        assert_eq!(offset.resolve(0x8000, PAGE), Ok(place), "{text}");
    }
    assert_eq!("end-4".parse::<Offset>(), "-4".parse());
    assert_eq!("0x40".parse(), Ok(Offset::from(0x40)));
}

#[test]
fn ranges_are_half_open_and_their_end_is_not_clipped() {
    #[rustfmt::skip]
    let table = [
        ("..", (0, 0x1000)), ("0x40..0x80", (0x40, 0x80)), ("0x40..", (0x40, 0x1000)),
        ("..0x80", (0, 0x80)), ("0x40..+16", (0x40, 0x50)), ("..+16", (0, 16)), ("-16..", (0xff0, 0x1000)),
        ("end-16..end", (0xff0, 0x1000)), ("0..-4", (0, 0xffc)), ("..0x2000", (0, 0x2000)),
        ("end..+2p", (0x1000, 0x3000)), ("8..8", (8, 8)), ("0x10+4..0x20-4", (0x14, 0x1c)),
    ];
    for (text, range) in table {
        assert_eq!(text.parse::<Range>().unwrap().resolve(0x1000, PAGE), Ok(range), "{text}");
    }
    let at = |text: &str| Some(text.parse::<Offset>().unwrap());
    assert_eq!(Ok(Range::new(at("0x40"), Some(Qty::Bytes(16)))), "0x40..+16".parse());
    assert_eq!(Ok(Range::new(at("-16"), None)), "-16..".parse());
    assert_eq!(Ok(Range::new(None, Some(Qty::Pages(1)))), "..+1p".parse());
}

#[test]
fn sizes_are_absolute_or_relative() {
    #[rustfmt::skip]
    let table = [
        ("4K", 4096), ("0", 0), ("+1M", 0x101000), ("-1K", 0xc00), ("-1p", 0), ("+2p", 0x3000),
    ];
    for (text, size) in table {
        assert_eq!(text.parse::<Size>().unwrap().resolve(0x1000, PAGE), Ok(size), "{text}");
    }
}

/// Kind, text, what the tip must contain. A part in backquotes is a suggestion, which must itself be accepted.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("qty", "020", &["`20` for decimal", "`0o20` for octal", "`0x20` for hex"]),
    ("qty", "0_89", &["`89` for decimal or `0x89` for hex"]),
    ("qty", "00", &["`0`"]),
    ("qty", "020K", &["`20K`"]),
    ("qty", "00000040", &["`0x40` for hex"]),
    ("offset", "00007f40", &["`0x7f40`"]),
    ("offset", "00000040:", &["`0x40`"]),
    ("qty", "0x10K", &["`16K` or `0x4000`"]),
    ("offset", "0x10p", &["`16p`"]),
    ("qty", "1b", &["`1B` for bytes", "`512` for disk blocks", "`0x1b` for hex"]),
    ("qty", "01b", &["`1B` for bytes"]),
    ("qty", "1.5K", &["`1536`"]),
    ("qty", ".5K", &["`512`"]),
    ("qty", "1.3K", &["write a number"]),
    ("qty", "1.5p", &["write a number"]),
    ("qty", "3P", &["`3p` for pages", "`3072T`"]),
    ("number", "1e3", &["`1000` for decimal", "`0x1e3` for hex"]),
    ("qty", "1E99", &["`0x1e99`"]),
    ("range", "0x40:16", &["`0x40..+16`"]),
    ("range", "00000040:ff", &["`0x40..+0xff`"]),
    ("offset", "0x40:16", &["0x40..+16 as a range"]),
    ("offset", "0x40..0x80", &["--range 0x40..0x80"]),
    ("range", "0x40-0x80", &["`0x40..0x80`"]),
    ("range", "1-2", &["`1..2`"]),
    ("range", "7f00-8f00", &["`0x7f00..0x8f00`"]),
    ("range", "0x40", &["0x40..+LEN", "`0x40..`", "`..0x40`"]),
    ("range", "-16", &["`-16..`"]),
    ("range", "+16", &["`..+16`"]),
    ("range", "ff", &["`0xff`"]),
    ("range", "1..2..3", &["START..END"]),
    ("range", "1...2", &["`1..2`"]),
    ("range", "1..=2", &["`1..2+1`"]),
    ("range", "0x10..=0x1f", &["`0x10..0x1f+1`"]),
    ("range", "..=-1", &["`..-1+1`"]),
    ("range", "..=end-4", &["`..end-4+1`"]),
    ("range", "4..+", &["`4..+16`"]),
    ("range", "", &["START..END"]),
    ("range", "1 .. 2", &["`1..2`"]),
    ("range", "0..020", &["0x20"]),
    ("qty", "ff", &["`0xff`"]),
    ("qty", "7f40", &["`0x7f40`"]),
    ("qty", "4 K", &["`4K`"]),
    ("qty", "17 bytes", &["`17B`"]),
    ("qty", "1.5 KiB", &["`1536`"]),
    ("qty", "4KB/s", &["K M G T"]),
    ("qty", "4gib", &["`4GiB`"]),
    ("qty", "4x", &["units are B"]),
    ("qty", "", &["4096"]),
    ("number", "", &["4096"]),
    ("size", "", &["write a number"]),
    ("qty", "-", &["write one amount"]),
    ("qty", "-5", &["`5`"]),
    ("qty", "1,000", &["`1000`"]),
    ("range", "0x40..1,000", &["`0x40..1000`"]),
    ("qty", "1,5K", &["write a number"]),
    ("range", "4K+1", &["4K+1..+LEN"]),
    ("qty", "4K+1", &["one amount"]),
    ("qty", "1p+1", &["one amount"]),
    ("qty", "end", &["end-N"]),
    ("offset", "END", &["`end`"]),
    ("offset", "end4", &["end-N", "`end-4`"]),
    ("offset", "-", &["`-16`"]),
    ("offset", "--5", &["`-5`"]),
    ("offset", "5+-3", &["`5-3`"]),
    ("offset", "+5", &["`5`"]),
    ("offset", "end+", &["`end+16`"]),
    ("offset", "4+end", &["end-N"]),
    ("qty", "0x", &["0x40"]),
    ("qty", "0xzz", &["0-9 and a-f"]),
    ("qty", "0b", &["0b101", "`0B`"]),
    ("qty", "0b12", &["`0xb12`"]),
    ("qty", "0o89", &["`0o17`"]),
    ("qty", "0X40", &["`0x40`"]),
    ("qty", "0x_40", &["`0x40`"]),
    ("qty", "4_", &["`4`"]),
    ("qty", "4__0K", &["`40K`"]),
    ("qty", "_020", &["write a number"]),
    ("qty", "_", &["write a number"]),
    ("number", "18446744073709551616", &["`0xffffffffffffffff`"]),
    ("qty", "16777216T", &["`0xffffffffffffffff`"]),
    ("number", "4K", &["`4096`"]),
    ("number", "3p", &["in bytes"]),
    ("number", "-1", &["`1`"]),
    ("size", "+", &["`+16`"]),
    ("size", "--4K", &["`-4K`"]),
    ("size", "4K-1", &["one amount"]),
    ("qty", "٣", &["write a number"]),
    ("offset", "0x4é", &["0-9 and a-f"]),
    ("range", "0x40…0x80", &["0-9 and a-f"]),
];

#[test]
fn every_refusal_says_what_to_type_and_its_suggestions_are_accepted() {
    for (kind, text, pieces) in REFUSED {
        let refusal = refused(kind, text).unwrap_or_else(|| panic!("{kind} {text:?} is accepted"));
        for piece in *pieces {
            assert!(refusal.tip.contains(&piece.replace('`', "")), "{kind} {text:?}: {refusal:?}");
            for suggestion in piece.split('`').skip(1).step_by(2) {
                // For a range, a part of it may be suggested.
                let found = refused(kind, suggestion).and_then(|_| refused("offset", suggestion));
                assert_eq!(found, None, "{kind} {text:?} suggests {suggestion:?}");
            }
        }
    }
}

/// The refusals that the design document lists under "Numbers", verbatim.
#[test]
fn the_refusals_the_design_lists_keep_their_tips() {
    for (kind, text, tip) in [
        ("qty", "020", "write 20 for decimal, 0o20 for octal or 0x20 for hex"),
        ("qty", "00000040", "write 0x40 for hex, or 40 for decimal"),
        ("qty", "0x10K", "write 16K or 0x4000"),
        ("qty", "1b", "write 1B for bytes, 512 for disk blocks of 512 bytes, or 0x1b for hex"),
        ("qty", "1.5K", "write 1536"),
        (
            "qty",
            "3P",
            "write 3p for pages or 3072T for pebibytes; units are B; K M G T (powers of 1024); \
             kB MB GB TB (powers of 1000); p (pages)",
        ),
        ("qty", "1e3", "write 1000 for decimal, or 0x1e3 for hex"),
        ("offset", "0x40:16", "write 0x40..+16 as a range"),
        ("range", "0x40:16", "write 0x40..+16 as a range"),
        ("range", "0x40-0x80", "write 0x40..0x80 (the end is not included)"),
    ] {
        assert_eq!(refused(kind, text).map(|refusal| refusal.tip).as_deref(), Some(tip), "{kind} {text:?}");
    }
}

#[test]
fn a_refusal_quotes_the_text_short_and_without_control_characters() {
    let refusal = number(&format!("\u{1b}[31m{}", "é".repeat(200))).unwrap_err();
    assert!(refusal.message.len() < 160 && !refusal.message.contains('\u{1b}'), "{refusal}");
}

#[test]
fn long_nonsense_is_refused_without_deep_recursion() {
    for piece in [
        "+", "-", ":", "1:", "=", ".", "..=", "end", "end-", "0X", "1-", "_", "0", " ", "1 ", "1.", "e",
    ] {
        for start in ["", "+", "..", "..=", "0x", "end", "1"] {
            let text = start.to_owned() + &piece.repeat(5_000);
            for kind in ["number", "qty", "offset", "range", "size"] {
                refused(kind, &text);
            }
        }
    }
}

#[test]
fn a_place_outside_is_refused_with_the_offset_and_the_length() {
    let resolve = |text: &str, len| text.parse::<Offset>().unwrap().resolve(len, PAGE);
    assert_eq!(resolve("0x1000", 0x1000), Ok(0x1000));
    assert_eq!(resolve("end-0x1000", 0x1000), Ok(0));
    let past = resolve("8193", 0x1000).unwrap_err();
    assert_eq!(past.message, "offset 0x2001 lies past the end, at 0x1000 (4 KiB)");
    let before = resolve("-0x1001", 0x1000).unwrap_err();
    assert_eq!(before.message, "offset end-0x1001 (-0x1) lies before the start; the end is at 0x1000 (4 KiB)");
    assert!(resolve("end+0xffffffffffffffff", 1).unwrap_err().message.contains("64 bits"));
    assert!(resolve("4503599627370496p", u64::MAX).unwrap_err().message.contains("64 bits"));
}

#[test]
fn a_range_that_is_none_is_refused() {
    let resolve = |text: &str| text.parse::<Range>().unwrap().resolve(0x1000, PAGE);
    let backwards = resolve("0x80..0x40").unwrap_err();
    assert_eq!(backwards.message, "range 0x80..0x40 ends at 0x40, before its start at 0x80");
    assert!(backwards.tip.contains("0x40..0x80"));
    assert!(resolve("0x1001..").is_err());
    assert!(resolve("0x1001..0x1002").is_err());
    assert!(resolve("..-0x1001").is_err());
    assert!(resolve("..end+0xffffffffffffffff").is_err());
    assert_eq!(resolve("..+0xffffffffffffffff"), Ok((0, u64::MAX)));
    assert!(resolve("1..+0xffffffffffffffff").unwrap_err().message.contains("64 bits"));
}

#[test]
fn a_size_no_file_can_have_is_refused() {
    let resolve = |text: &str, len| text.parse::<Size>().unwrap().resolve(len, PAGE);
    assert_eq!(resolve("0x7fffffffffffffff", 0), Ok(i64::MAX as u64));
    assert!(resolve("0x8000000000000000", 0).is_err());
    assert!(resolve("+1", i64::MAX as u64).is_err());
    assert!(resolve("+0xffffffffffffffff", 1).is_err());
    assert_eq!(resolve("-2p", 0x1000).unwrap_err().message, "cannot shrink by 2p; the length is 0x1000 (4 KiB)");
}

#[test]
fn amounts_are_written_for_readers() {
    for (bytes, text) in [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1025, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (64 << 20, "64 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 60, "1 EiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(human(bytes), text);
    }
}

#[test]
fn negative_places_are_joined_to_their_option() {
    for (line, joined) in [
        ("mmapctl cat f --offset -0x10", "mmapctl cat f --offset=-0x10"),
        ("mmapctl cat -o -16 f", "mmapctl cat -o=-16 f"),
        ("mmapctl cat -xo -16 f", "mmapctl cat -xo=-16 f"),
        ("mmapctl zero f -r -16..", "mmapctl zero f -r=-16.."),
        ("mmapctl remap f --size -1M", "mmapctl remap f --size=-1M"),
        ("mmapctl cat f --offset", "mmapctl cat f --offset"),
        ("mmapctl cat f -o --json", "mmapctl cat f -o --json"),
        ("mmapctl cat f -o -x", "mmapctl cat f -o -x"),
        ("mmapctl cat f -o -- -1", "mmapctl cat f -o -- -1"),
        ("mmapctl map f -- tail -o -1", "mmapctl map f -- tail -o -1"),
        ("mmapctl cat f --offset=3 -1", "mmapctl cat f --offset=3 -1"),
        ("mmapctl cat f -n -1", "mmapctl cat f -n -1"),
        ("mmapctl cat f -o -1 -2", "mmapctl cat f -o=-1 -2"),
        ("-o -1", "-o -1"),
    ] {
        assert_eq!(join_negative_values(args(line)), args(joined), "{line}");
    }
    assert!(join_negative_values([]).is_empty());
}

#[test]
fn arguments_that_are_not_utf8_pass_untouched() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(b"-1\xff".to_vec());
    let argv = || vec!["mmapctl".into(), odd(), "-o".into(), odd(), odd(), "-1".into()];
    assert_eq!(join_negative_values(argv()), argv());
}

fn soup() -> impl Strategy<Value = String> {
    let tokens = [
        "0",
        "1",
        "7",
        "020",
        "0x",
        "0x1f",
        "0b",
        "0o",
        "ff",
        "_",
        "K",
        "kB",
        "KiB",
        "B",
        "b",
        "P",
        "p",
        "pages",
        "e",
        "h",
        ".",
        "..",
        "..+",
        "=",
        "end",
        "END",
        "+",
        "-",
        ":",
        ",",
        " ",
        "é",
        "\u{1b}",
        "…",
        "18446744073709551615",
    ];
    let soup = prop::collection::vec(prop::sample::select(tokens.to_vec()), 0..9);
    prop_oneof![3 => soup.prop_map(|tokens| tokens.concat()), 1 => any::<String>()]
}

fn qty() -> impl Strategy<Value = Qty> {
    let n = prop_oneof![any::<u64>(), 0..20_000u64, Just(u64::MAX)];
    (n, any::<bool>()).prop_map(|(n, pages)| if pages { Qty::Pages(n) } else { Qty::Bytes(n) })
}

fn offset() -> impl Strategy<Value = Offset> {
    let sign = prop_oneof![Just(Sign::Plus), Just(Sign::Minus)];
    let terms = prop::collection::vec((sign, qty()), 0..4);
    (any::<bool>(), qty(), terms).prop_map(|(from_end, first, mut terms)| {
        if !from_end {
            terms.insert(0, (Sign::Plus, first));
        }
        Offset { from_end, terms }
    })
}

fn range() -> impl Strategy<Value = Range> {
    let until = prop_oneof![
        Just(Until::End),
        offset().prop_map(Until::At),
        qty().prop_map(Until::Length)
    ];
    (prop::option::of(offset()), until).prop_map(|(start, until)| Range { start, until })
}

fn size() -> impl Strategy<Value = Size> {
    let make = prop::sample::select(vec![Size::To as fn(Qty) -> Size, Size::Grow, Size::Shrink]);
    (make, qty()).prop_map(|(make, qty)| make(qty))
}

fn comes_back<T: FromStr<Err = ParseError> + Display + PartialEq + fmt::Debug>(value: &T) {
    assert_eq!(value.to_string().parse().as_ref(), Ok(value));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_with_a_tip(text in soup()) {
        for kind in ["number", "qty", "offset", "range", "size"] {
            if let Some(refusal) = refused(kind, &text) {
                prop_assert!(!refusal.message.is_empty() && !refusal.tip.is_empty(), "{:?}", refusal);
                let printed = refusal.message.clone() + &refusal.tip;
                prop_assert!(!printed.contains(char::is_control), "{:?}", refusal);
            }
        }
        text.parse::<Qty>().iter().for_each(comes_back);
        text.parse::<Offset>().iter().for_each(comes_back);
        text.parse::<Range>().iter().for_each(comes_back);
        text.parse::<Size>().iter().for_each(comes_back);
    }

    #[test]
    fn what_is_printed_reads_back_equal(qty in qty(), offset in offset(), range in range(), size in size()) {
        comes_back(&qty);
        comes_back(&offset);
        comes_back(&range);
        comes_back(&size);
    }

    #[test]
    fn what_resolves_lies_where_it_was_promised(
        offset in offset(), range in range(), size in size(),
        len in prop_oneof![any::<u64>(), 0..20_000u64],
        page in prop_oneof![Just(4096), any::<u64>(), Just(0)],
    ) {
        if let Ok(at) = offset.resolve(len, page) {
            prop_assert!(at <= len);
        }
        if let Ok((start, end)) = range.resolve(len, page) {
            prop_assert!(start <= end && start <= len);
        }
        if let Ok(new) = size.resolve(len, page) {
            prop_assert!(i64::try_from(new).is_ok());
        }
    }

    #[test]
    fn any_amount_can_be_written_for_a_reader(bytes in any::<u64>(), shift in 0..64u32) {
        let text = human(bytes >> shift);
        prop_assert!(text.len() <= 10 && text.contains(' '), "{}", text);
    }

    #[test]
    fn joining_keeps_every_argument(argv in prop::collection::vec("-{0,2}[or0-9x]{0,3}", 0..8)) {
        let argv: Vec<OsString> = argv.into_iter().map(OsString::from).collect();
        let joined = join_negative_values(argv.clone());
        let flat = |args: &[OsString]| args.iter().map(|a| a.to_string_lossy().replace('=', "")).collect::<String>();
        prop_assert_eq!(flat(&argv), flat(&joined));
    }
}

#[test]
fn a_name_says_kind_length_and_order() {
    let of = |name| NumberFormat::parse(name).map(|format| (format.kind, format.bytes, format.big));
    assert_eq!(of("u8"), Ok((NumberKind::Unsigned, 1, false)));
    assert_eq!(of("i32be"), Ok((NumberKind::Signed, 4, true)));
    assert_eq!(of("f64le"), Ok((NumberKind::Float, 8, false)));
    for name in ["u16", "u32", "f64"] {
        assert_eq!(of(name), Err(NoFormat::NoByteOrder), "{name}");
    }
    for name in ["", "u", "f16le", "f8", "u128le", "x8", "8", "u32lebe", "é"] {
        assert_eq!(of(name), Err(NoFormat::Unknown), "{name}");
    }
}
