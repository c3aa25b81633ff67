//! Tests of limits.rs.

use super::*;

const T: u64 = 1 << 40;

fn roomy() -> LimitState {
    LimitState {
        addresses: 1 << 47,
        address_space: 1 << 20,
        address_space_limit: u64::MAX,
        data: 1 << 20,
        data_limit: u64::MAX,
        overcommit: 1,
        commit_limit: 12 << 30,
        committed: 1 << 30,
        memory: 24 << 30,
        map_count: 30,
        map_count_limit: 65_530,
    }
}

#[test]
fn nothing_in_the_way_explains_nothing() {
    assert_eq!(roomy().explain(T, true), None);
}

#[test]
fn more_than_there_are_addresses_is_named_before_any_limit_that_could_be_raised() {
    let state = LimitState {
        address_space_limit: 1 << 30,
        overcommit: 2,
        ..roomy()
    };
    for len in [1 << 47, u64::MAX] {
        let text = state.explain(len, true).unwrap().to_string();
        assert!(text.contains("has addresses for 140737488355328 bytes"), "{text}");
    }
}

#[test]
fn the_data_limit_is_named_for_private_writable_memory() {
    let state = LimitState {
        data_limit: 64 << 20,
        ..roomy()
    };
    assert!(state.explain(63 << 20, true).is_none() && state.explain(1 << 30, false).is_none());
    let text = state.explain(64 << 20, true).unwrap().to_string();
    assert!(text.contains("RLIMIT_DATA is 67108864 bytes, but 68157440 are needed"), "{text}");
}

#[test]
fn a_small_address_space_is_named_next() {
    let state = LimitState {
        address_space_limit: 1 << 30,
        overcommit: 2,
        ..roomy()
    };
    let limit = state.explain(T, true).unwrap();
    assert!(matches!(limit, Limit::AddressSpace { limit: 0x4000_0000, .. }));
    assert!(limit.to_string().contains("RLIMIT_AS is 1073741824 bytes"));
}

#[test]
fn strict_overcommit_is_explained_with_its_commit_limit_even_for_noreserve() {
    let state = LimitState {
        overcommit: 2,
        ..roomy()
    };
    for charged in [true, false] {
        let text = state.explain(T, charged).unwrap().to_string();
        assert!(text.contains("CommitLimit is 12884901888"), "{text}");
    }
}

#[test]
fn the_heuristic_refuses_only_what_is_charged() {
    let state = LimitState {
        overcommit: 0,
        ..roomy()
    };
    assert!(matches!(state.explain(T, true), Some(Limit::Heuristic { .. })));
    assert_eq!(state.explain(T, false), None);
}

#[test]
fn the_number_of_kernel_mappings_is_the_last_suspect() {
    let state = LimitState {
        map_count: 65_529,
        ..roomy()
    };
    assert_eq!(state.explain(4096, true), Some(Limit::MapCount { limit: 65_530 }));
}

#[test]
fn a_view_leaves_headroom_below_the_number_of_kernel_mappings() {
    let free = 65_530 - 30 - HEADROOM;
    assert_eq!(roomy().arrange(free), None);
    let text = roomy().arrange(free + 1).unwrap().to_string();
    assert!(text.contains(&format!("leaves room for {free}")), "{text}");
    // If /proc cannot be read, the kernel decides.
    let unknown = LimitState {
        map_count_limit: 0,
        ..roomy()
    };
    assert_eq!(unknown.arrange(1 << 40), None);
}

#[test]
fn the_control_groups_of_both_versions_are_found_with_those_above_them() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("a/memory.max", "1000\n");
    write("a/memory.stat", "anon 5\nfile 300\n");
    write("a/b/memory.max", "max\n");
    write("memory/c/memory.limit_in_bytes", "2000\n");
    write("memory/memory.limit_in_bytes", "9223372036854771712\n");
    let all = |text| ControlGroup::all(root.path(), text);
    let group = |limit, cache| ControlGroup { limit, cache };
    assert_eq!(all("0::/a/b\n"), [group(1000, 300)]);
    let first = group(2000, 0);
    let above = group(9_223_372_036_854_771_712, 0);
    assert_eq!(all("5:cpu,memory:/c\n4:pids:/a\n"), [first, above]);
    assert_eq!(all("0::/\n\nnonsense\n1:name=systemd:/a"), []);
}

#[test]
fn what_another_group_has_in_memory_is_not_counted() {
    let group = ControlGroup {
        limit: 1000,
        cache: 300,
    };
    let wanted = |locked, len, there| match group.explain(locked, len, there) {
        Some(Limit::ControlGroup { limit: 1000, wanted }) => wanted,
        other => u64::from(other.is_some()),
    };
    assert_eq!(wanted(0, 1000, 0), 0);
    assert_eq!(wanted(1, 1000, 0), 1001);
    assert_eq!(wanted(0, 5000, 5000), 0);
    assert_eq!(wanted(0, 5000, 4000), 1300);
}

#[test]
fn this_machine_can_be_read() {
    let state = LimitState::read();
    // This holds for any thread, whose stack may be elsewhere.
    let elsewhere = std::thread::spawn(addresses).join().unwrap();
    assert!(state.addresses > 1 << 30 && state.addresses == elsewhere);
    assert!(state.memory > 0 && state.address_space > 0 && state.map_count > 0);
}
