//! Huge pages for a test, which all tests of the machine take from one pool.

use crate::support::{is_root, skip};
use std::fs::{self, File};

/// Some huge pages of 2 MiB for one test at a time, and as many as before when it ends.
pub struct Pool {
    before: String,
    _lock: File,
}

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl Pool {
    /// Adds `pages` to the pool; `None`, with a visible skip, where that is not possible.
    pub fn new(pages: u64) -> Option<Pool> {
        if !is_root() {
            skip("reserving huge pages takes root");
            return None;
        }
        let lock = File::create(std::env::temp_dir().join("mmapctl-tests-hugepages.lock")).ok();
        let Some(lock) = lock.filter(|lock| lock.lock().is_ok()) else {
            skip("no lock for the huge pages");
            return None;
        };
        let Ok(before) = fs::read_to_string(POOL) else {
            skip("this kernel has no huge pages of 2 MiB");
            return None;
        };
        let wanted = before.trim().parse::<u64>().unwrap_or(0) + pages;
        let set = fs::write(POOL, wanted.to_string());
        let pool = Pool { before, _lock: lock };
        let got = fs::read_to_string(POOL).unwrap_or_default();
        if set.is_err() || got.trim() != wanted.to_string() {
            skip("there is no memory in one piece for huge pages");
            return None;
        }
        Some(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = fs::write(POOL, self.before.trim());
    }
}
