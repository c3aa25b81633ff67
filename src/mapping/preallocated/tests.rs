//! Tests of preallocated.rs.

use super::super::Access;
use super::*;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

#[test]
fn what_was_allocated_and_not_written_is_found_on_disk_and_in_memory() {
    let page = crate::mapping::page_size();
    for folder in ["/dev/shm", "/var/tmp"] {
        let Ok(file) = tempfile::NamedTempFile::new_in(folder) else {
            let skipped = "SKIPPED what_was_allocated_and_not_written_is_found_on_disk_and_in_memory: cannot write to";
            writeln!(std::io::stderr(), "{skipped} {folder}").unwrap();
            continue;
        };
        file.as_file().set_len(100 * page).unwrap();
        let mut backing = Backing::open(file.path(), Access::Write, Duration::ZERO).unwrap();
        let whole = ByteRange::first(100 * page);
        let Some(before) = backing.preallocated(whole) else {
            let skipped = "SKIPPED what_was_allocated_and_not_written_is_found_on_disk_and_in_memory: no FIEMAP on";
            writeln!(std::io::stderr(), "{skipped} {folder}").unwrap();
            continue;
        };
        assert_eq!(before, []);
        let given = [
            ByteRange::at(7 * page, 5 * page).unwrap(),
            ByteRange::at(50 * page, page).unwrap(),
        ];
        for span in given {
            backing.allocate(span).unwrap();
        }
        assert_eq!(backing.preallocated(whole).unwrap(), given);
        file.as_file().write_all_at(b"data", 8 * page).unwrap();
        file.as_file().sync_all().unwrap();
        let around = backing.preallocated(whole.from(page)).unwrap();
        let parts = [
            ByteRange::at(7 * page, page).unwrap(),
            ByteRange::at(9 * page, 3 * page).unwrap(),
            given[1],
        ];
        assert_eq!(around, parts, "{folder}");
        backing.set_len(50 * page + 10).unwrap();
        let last = backing.preallocated(whole).unwrap().last().copied();
        assert_eq!(last, ByteRange::at(50 * page, 10));
    }
}
