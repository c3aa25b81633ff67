//! Tests of register.rs.

use super::super::{Access, Backing, Prot};
use super::*;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::time::Duration;

/// The address of a page that is mapped and cannot be had, with what keeps it mapped.
fn lost_page() -> (tempfile::NamedTempFile, Region, usize) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(PART).unwrap();
    let backing = Backing::open(file.path(), Access::ReadRegisters, Duration::ZERO).unwrap();
    let mut region = Region::sliding(backing, Prot::Read).unwrap();
    let address = region.map_just(Span::first(8)).unwrap();
    file.as_file().set_len(0).unwrap();
    (file, region, address)
}

/// How a child ends that does `work`.
fn end_of(work: impl FnOnce()) -> WaitStatus {
    // SAFETY: the child calls `work`, which allocates nothing and takes no lock but our own, and ends.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        ForkResult::Child => {
            work();
            // SAFETY: it ends the process, and runs nothing of the parent's before that.
            unsafe { libc::_exit(0) }
        }
    }
}

fn bus_error(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _))
}

#[test]
fn sigbus_of_an_access_is_an_outcome_and_any_other_kills_as_ever() {
    let (_file, _region, address) = lost_page();
    let other = || {
        // SAFETY: the address is mapped; that its page is gone is what the test is about.
        unsafe { std::ptr::read_volatile(address as *const u8) };
    };
    for width in Width::ALL {
        assert_eq!(load_all(address, &mut [0; 8], width), Ok(0));
    }
    // Before, during and after the time of the handler.
    assert!(bus_error(end_of(other)));
    assert!(bus_error(end_of(|| {
        let _guard = Guard::new();
        other();
    })));
    assert!(bus_error(end_of(|| {
        let _ = load_all(address, &mut [0; 8], Width::Four);
        other();
    })));
}

#[test]
fn the_functions_are_told_apart_by_their_addresses() {
    let mut all: Vec<usize> = instruction::LOADS.iter().map(|load| *load as usize).collect();
    all.extend(instruction::STORES.iter().map(|store| *store as usize));
    all.push(instruction::faulted as *const () as usize);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 9);
}
