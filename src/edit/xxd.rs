//! xxd dumps as edits, read strictly: where `xxd -r` skips what it does not understand, a line here is an error.

use super::builder::Builder;
use super::plan::Origin;
use super::script::each_line;
use crate::exit::Failure;
use std::io::BufRead;

/// Reads a dump as `xxd` writes it: `00000040: 7405 9090  t...`. The column of characters is not looked at.
pub fn read_xxd(source: &mut impl BufRead, builder: &mut Builder) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    each_line(source, |number, line| {
        if line.is_empty() {
            return Ok(());
        }
        let Some(at) = row(line, &mut bytes) else {
            let shown = String::from_utf8_lossy(&line[..line.len().min(40)])
                .escape_debug()
                .to_string();
            let failure = Failure::trouble(format!("'{shown}' is not a line of an xxd dump"));
            let tip = "a line is OFFSET: HEX, as 'xxd' and 'mmapctl cat -f xxd' print it; two spaces end the hex";
            return Err(failure.tip(tip).into());
        };
        builder.add_bytes(at, None, &bytes, Origin::Line(number))
    })
}

/// Reads one row; its offset, and its bytes into `bytes`.
fn row(line: &[u8], bytes: &mut Vec<u8>) -> Option<u64> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (digits, rest) = (&line[..colon], line.get(colon + 1..)?);
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let at = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let rest = rest.strip_prefix(b" ")?;
    // Two spaces end the hex; a full row may have but one before its characters, never fewer.
    let end = rest.windows(2).position(|pair| pair == b"  ").unwrap_or(rest.len());
    bytes.clear();
    for group in rest[..end].split(|byte| *byte == b' ') {
        bytes.extend(const_hex::decode(group).ok().filter(|_| !group.is_empty())?);
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_to_the_two_spaces() {
        let mut bytes = Vec::new();
        assert_eq!(row(b"00000040: 7405 90  t..", &mut bytes), Some(0x40));
        assert_eq!(bytes, [0x74, 5, 0x90]);
        assert_eq!(row(b"100000000: ff", &mut bytes), Some(1 << 32));
        assert_eq!(bytes, [0xff]);
    }

    #[test]
    fn what_xxd_would_skip_in_silence_is_refused() {
        let bad = [
            "",
            "*",
            "00000040 7405",
            "x0: 74",
            "0: 7",
            "0: 74 5",
            "0:74",
            "0: zz",
            "0: ",
            ": 74",
            "0:  74",
        ];
        for line in bad {
            assert_eq!(row(line.as_bytes(), &mut Vec::new()), None, "{line}");
        }
    }
}
