//! The units of amounts: the value of each as typed, and the best one for a reader.

use super::Qty;

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Bytes(u64),
    Page,
}

impl Unit {
    pub(super) fn times(self, n: u64) -> Option<Qty> {
        match self {
            Unit::Bytes(each) => n.checked_mul(each).map(Qty::Bytes),
            Unit::Page => Some(Qty::Pages(n)),
        }
    }
}

/// For each unit, the suggested spelling precedes the others.
#[rustfmt::skip]
pub(super) const UNITS: [(&str, Unit); 25] = {
    use Unit::{Bytes, Page};
    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;
    const T: u64 = 1 << 40;
    [
        ("B", Bytes(1)),
        ("K", Bytes(K)), ("k", Bytes(K)), ("KiB", Bytes(K)), ("kiB", Bytes(K)),
        ("M", Bytes(M)), ("m", Bytes(M)), ("MiB", Bytes(M)), ("miB", Bytes(M)),
        ("G", Bytes(G)), ("g", Bytes(G)), ("GiB", Bytes(G)), ("giB", Bytes(G)),
        ("T", Bytes(T)), ("t", Bytes(T)), ("TiB", Bytes(T)), ("tiB", Bytes(T)),
        ("kB", Bytes(1000)), ("KB", Bytes(1000)), ("MB", Bytes(1_000_000)),
        ("GB", Bytes(1_000_000_000)), ("TB", Bytes(1_000_000_000_000)),
        ("p", Page), ("page", Page), ("pages", Page),
    ]
};

pub(super) fn unit(name: &str) -> Option<Unit> {
    UNITS.iter().find(|(known, _)| *known == name).map(|(_, unit)| *unit)
}

/// An amount of bytes for a reader: `64 MiB`, one decimal if that is inexact (`1.5 GiB`), `17 bytes` below 1024.
pub fn human(bytes: u64) -> String {
    const NAMES: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" });
    }
    let power = bytes.ilog2() / 10;
    let name = |power: u32| NAMES[power as usize - 1];
    let unit = 1u128 << (10 * power);
    let bytes = u128::from(bytes);
    if bytes % unit == 0 {
        return format!("{} {}", bytes / unit, name(power));
    }
    match (bytes * 10 + unit / 2) / unit {
        // Avoids "1024.0 KiB".
        10240.. if power < 6 => format!("1.0 {}", name(power + 1)),
        tenths => format!("{}.{} {}", tenths / 10, tenths % 10, name(power)),
    }
}
