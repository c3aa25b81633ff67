//! Negative offsets on a command line: `--offset -0x10` is joined before clap can parse the offset as an option.

use std::ffi::OsString;

/// Joins an option that takes an OFFSET, RANGE or SIZE with a following value that starts with `-` and a digit.
///
/// clap would parse `-0x10` as an option, and with `allow_hyphen_values` it would parse `--offset --json` as a value.
/// So `-o -0x10` becomes `-o=-0x10`, `--range -16..` becomes `--range=-16..`, and so on for a cluster that ends in `o`
/// or `r` (`-xo -16`). Argument 0, everything from a bare `--` on, and arguments that are not UTF-8 are not changed; an
/// option without a value is left for clap to refuse.
pub fn join_negative_values(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut argv = argv.into_iter();
    let mut joined: Vec<OsString> = argv.next().into_iter().collect();
    let mut takes = false;
    while let Some(arg) = argv.next() {
        let text = arg.to_str().unwrap_or_default();
        if text == "--" {
            joined.push(arg);
            joined.extend(argv);
            break;
        }
        if takes
            && is_negative(text)
            && let Some(option) = joined.last_mut()
        {
            option.push("=");
            option.push(&arg);
            takes = false;
            continue;
        }
        takes = takes_place(text);
        joined.push(arg);
    }
    joined
}

fn is_negative(arg: &str) -> bool {
    arg.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn takes_place(arg: &str) -> bool {
    let cluster = |letters: &str| letters.ends_with(['o', 'r']) && letters.bytes().all(|b| b.is_ascii_alphabetic());
    matches!(arg, "--offset" | "--range" | "--size") || arg.strip_prefix('-').is_some_and(cluster)
}
