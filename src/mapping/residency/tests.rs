//! Tests of residency.rs.

use super::*;

#[test]
fn smaps_gives_huge_and_locked_of_our_mapping_only() {
    let text = "\
7f0000000000-7f0000400000 rw-s 00000000 fe:00 12 /tmp/f: odd name
Rss:                4096 kB
FilePmdMapped:      2048 kB
VmFlags: rd wr sh mr mw me ms lo sd
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Rss:                1024 kB
AnonHugePages:      1024 kB
VmFlags: rd wr mr mw me ac lo sd
";
    let (huge, locked) = read_smaps(text, 0x7f00_0000_0000, 0x7f00_0040_0000, 4096);
    assert_eq!((huge, locked), (2 << 20, 1024));
}

#[test]
fn a_mapping_without_the_lock_flag_has_no_locked_pages() {
    let text = "1000-3000 r--s 0 00:00 0\nRss: 8 kB\nVmFlags: rd sh\n";
    assert_eq!(read_smaps(text, 0x1000, 0x3000, 4096), (0, 0));
}
