//! Tests of rights.rs.

use super::*;

#[test]
fn a_copy_gives_nobody_more_than_the_file() {
    let named = |tag, rights| Entry { tag, rights };
    // The list that setfacl(1) makes for a file of mode 0600: the mask is in the group bits of the mode.
    let one_user = [
        named(OWNER, 6),
        named(USER, 6),
        named(GROUP, 0),
        named(MASK, 6),
        named(OTHERS, 0),
    ];
    let denied = [
        named(OWNER, 6),
        named(USER, 0),
        named(GROUP, 4),
        named(MASK, 4),
        named(OTHERS, 4),
    ];
    let weak_mask = [
        named(OWNER, 6),
        named(NAMED_GROUP, 7),
        named(GROUP, 6),
        named(MASK, 4),
        named(OTHERS, 4),
    ];
    for (mode, list, same_group, copy) in [
        (0o100_000, &[][..], true, 0),
        (0o100_644, &[], true, 0o644),
        (0o104_755, &[], true, 0o755),
        (0o100_640, &[], true, 0o640),
        (0o100_640, &[], false, 0o600),
        (0o100_644, &[], false, 0o644),
        (0o100_604, &[], false, 0o600),
        (0o100_400, &[], true, 0o400),
        (0o100_660, &one_user, true, 0o600),
        (0o100_644, &denied, true, 0o600),
        (0o100_644, &weak_mask, true, 0o644),
    ] {
        assert_eq!(copied(mode, list, same_group), copy, "{mode:o} {list:?} {same_group}");
    }
}

#[test]
fn what_is_no_access_control_list_is_not_taken_for_one() {
    let entry = |tag: u16, rights: u16| [tag.to_le_bytes(), rights.to_le_bytes(), [255; 2], [255; 2]].concat();
    let list = [vec![2, 0, 0, 0], entry(OWNER, 6), entry(MASK, 4)].concat();
    let entries_of = |list: &[u8]| entries(list).map(|list| list.iter().map(|entry| entry.rights).collect());
    assert_eq!(entries_of(&list), Some(vec![6, 4]));
    assert_eq!(entries_of(&list[..19]), None);
    assert_eq!(entries_of(b"\x02"), None);
    assert_eq!(entries_of(&[&[3, 0, 0, 0], &list[4..]].concat()), None);
    assert_eq!(entries_of(&[&list[..], &entry(0x40, 7)].concat()), None);
}
