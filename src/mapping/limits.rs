//! Why the kernel returned ENOMEM: the limits on address space, committed and locked memory, by name and value.

use nix::sys::resource::{Resource, getrlimit};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;

/// A limit that was exceeded. All amounts are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The number of addresses of a process on this machine (2^47 on x86-64).
    Addresses {
        /// The number of addresses.
        limit: u64,
        /// The requested length of the mapping.
        wanted: u64,
    },
    /// RLIMIT_AS, the size of the address space, see setrlimit(2).
    AddressSpace {
        /// The value of the limit.
        limit: u64,
        /// The address space that the process would have needed.
        needed: u64,
    },
    /// RLIMIT_DATA, the size of private writable memory, see setrlimit(2).
    Data {
        /// The value of the limit.
        limit: u64,
        /// The memory that the process would have needed.
        needed: u64,
    },
    /// Strict overcommit accounting, `vm.overcommit_memory = 2`, see proc_sys_vm(5).
    CommitLimit {
        /// CommitLimit of /proc/meminfo.
        limit: u64,
        /// Committed_AS of /proc/meminfo.
        committed: u64,
        /// The requested length of the mapping.
        wanted: u64,
    },
    /// The heuristic of `vm.overcommit_memory = 0`: one mapping larger than all memory and swap is refused.
    Heuristic {
        /// The sum of MemTotal and SwapTotal.
        memory: u64,
        /// The requested length of the mapping.
        wanted: u64,
    },
    /// `vm.max_map_count`, the number of kernel mappings of a process.
    MapCount {
        /// The value of the sysctl.
        limit: u64,
    },
    /// Too many kernel mappings for a nonlinear view. This is checked before it is made, because at the limit it could
    /// not be undone either.
    Arrangement {
        /// The value of the sysctl.
        limit: u64,
        /// The number of kernel mappings that the view needs.
        needed: u64,
        /// The number of mappings that the process may still make, less a reserve for everything else.
        free: u64,
    },
    /// The pool of huge pages, `nr_hugepages`, see hugetlbpage.rst of the kernel.
    HugePages {
        /// The size of a huge page.
        page: u64,
        /// Pages in the pool.
        total: u64,
        /// Pages that are neither in use nor reserved for another mapping.
        free: u64,
        /// Requested pages.
        wanted: u64,
    },
    /// RLIMIT_MEMLOCK, the memory that a process without CAP_IPC_LOCK may lock.
    LockedMemory {
        /// The value of the limit.
        limit: u64,
        /// The memory to lock, including what the process has locked already.
        wanted: u64,
    },
    /// The memory of a control group, `memory.max`, see cgroup-v2.rst of the kernel. More than that cannot be locked:
    /// the kernel would kill the process.
    ControlGroup {
        /// The value of the limit.
        limit: u64,
        /// The memory to lock, including what the process has locked already.
        wanted: u64,
    },
    /// RLIMIT_NOFILE, the number of descriptors that a process may have open.
    OpenFiles {
        /// The value of the limit.
        limit: u64,
    },
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Addresses { limit, wanted } => {
                write!(f, "a process on this machine has addresses for {limit} bytes, but {wanted} were requested")
            }
            Limit::AddressSpace { limit, needed } => {
                write!(f, "the address space limit RLIMIT_AS is {limit} bytes, but {needed} are needed")
            }
            Limit::Data { limit, needed } => {
                write!(f, "the data limit RLIMIT_DATA is {limit} bytes, but {needed} are needed")
            }
            Limit::CommitLimit {
                limit,
                committed,
                wanted,
            } => write!(
                f,
                "strict overcommit (vm.overcommit_memory = 2) refuses {wanted} bytes: CommitLimit is {limit}, of which {committed} are committed"
            ),
            Limit::Heuristic { memory, wanted } => write!(
                f,
                "{wanted} bytes are more than memory and swap together ({memory} bytes), which vm.overcommit_memory = 0 refuses"
            ),
            Limit::MapCount { limit } => {
                write!(f, "the process has reached vm.max_map_count, {limit} kernel mappings")
            }
            Limit::Arrangement { limit, needed, free } => write!(
                f,
                "the view takes {needed} kernel mappings, and vm.max_map_count, which is {limit}, leaves room for {free}"
            ),
            Limit::HugePages {
                page,
                total,
                free,
                wanted,
            } => write!(
                f,
                "{wanted} huge pages of {} KiB were requested, but of the {total} in the pool (nr_hugepages) only {free} are free",
                page / 1024
            ),
            Limit::LockedMemory { limit, wanted } => {
                write!(f, "the locked memory limit RLIMIT_MEMLOCK is {limit} bytes, and {wanted} were to be locked")
            }
            Limit::ControlGroup { limit, wanted } => write!(
                f,
                "the control group of this process may have {limit} bytes of memory (memory.max), and {wanted} were to stay in it"
            ),
            Limit::OpenFiles { limit } => {
                write!(f, "the process has as many open files as RLIMIT_NOFILE permits, {limit}")
            }
        }
    }
}

/// The state that the limits are compared with. The comparison is a pure function of it.
#[derive(Debug, Clone, Default)]
struct LimitState {
    addresses: u64,
    address_space: u64,
    address_space_limit: u64,
    /// Private writable memory of the process, and its limit.
    data: u64,
    data_limit: u64,
    overcommit: u64,
    commit_limit: u64,
    committed: u64,
    memory: u64,
    map_count: u64,
    map_count_limit: u64,
}

/// The limit that explains ENOMEM from an mmap of `len` bytes. `charged` says whether the mapping counts as committed
/// memory (private and writable, or shared and anonymous, and not MAP_NORESERVE).
pub(super) fn behind_mmap(len: u64, charged: bool) -> Option<Limit> {
    LimitState::read().explain(len, charged)
}

impl Limit {
    /// The limit for a mapping whose length in whole pages overflows.
    pub fn of_addresses(wanted: u64) -> Limit {
        let limit = addresses();
        Limit::Addresses { limit, wanted }
    }
}

/// How many addresses a process has. The kernel does not report that, but puts the stack at their upper end.
fn addresses() -> u64 {
    let on_the_stack = 0u8;
    let address = std::ptr::from_ref(&on_the_stack).addr() as u64;
    address.checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// The limit that explains ENOMEM from an mmap of `len` bytes in huge pages of `page` bytes.
pub(super) fn behind_huge(len: u64, page: u64) -> Option<Limit> {
    if page <= super::page_size() {
        return None;
    }
    if len > addresses() {
        return Some(Limit::of_addresses(len));
    }
    let folder = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page / 1024);
    let count = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok()?.trim().parse::<u64>().ok();
    let (total, free, promised) = (count("nr_hugepages")?, count("free_hugepages")?, count("resv_hugepages")?);
    let (free, wanted) = (free.saturating_sub(promised), len.div_ceil(page));
    (wanted > free).then_some(Limit::HugePages {
        page,
        total,
        free,
        wanted,
    })
}

/// Kernel mappings that a nonlinear view leaves free: at the limit, even unmapping the middle of a mapping fails.
const HEADROOM: u64 = 64;

/// The limit that keeps the process from making `needed` more kernel mappings, if any.
pub(super) fn before_arranging(needed: u64) -> Option<Limit> {
    LimitState::read().arrange(needed)
}

/// The limit that explains a failed mlock of `len` more bytes, which a process that has CAP_IPC_LOCK does not have.
pub(super) fn behind_mlock(len: u64) -> Option<Limit> {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    if capabilities.is_some_and(|mask| mask >> CAP_IPC_LOCK & 1 == 1) {
        return None;
    }
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    let wanted = locked().saturating_add(len);
    (limit < wanted).then_some(Limit::LockedMemory { limit, wanted })
}

/// Bytes that the process has locked in memory.
fn locked() -> u64 {
    of_status("VmLck:")
}

/// A field of /proc/self/status that is a size, in bytes.
fn of_status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// The control group that has too little memory to lock `len` more bytes. `there` of them are in memory already, on the
/// account of any group.
pub(super) fn before_locking(len: u64, there: u64) -> Option<Limit> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = ControlGroup::all(Path::new("/sys/fs/cgroup"), &groups);
    groups.iter().find_map(|group| group.explain(locked(), len, there))
}

/// Whether there is free swap space for memory that is not locked.
pub(super) fn has_swap() -> bool {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = meminfo.lines().find_map(|line| line.strip_prefix("SwapFree:"));
    free.is_some_and(|free| free.trim() != "0 kB")
}

/// A control group with a limit on its memory. All amounts are in bytes.
#[derive(Debug, PartialEq, Eq)]
struct ControlGroup {
    limit: u64,
    /// The part of its memory that holds pages of files.
    cache: u64,
}

impl ControlGroup {
    /// The groups that `text`, the contents of /proc/self/cgroup, names, and their ancestors. In a container `text` may
    /// have the host's names, which do not exist there; the root does.
    fn all(root: &Path, text: &str) -> Vec<ControlGroup> {
        let of_line = |line: &str| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            // Version 2 has no list of controllers.
            let (folder, limit, cache) = match controllers {
                "" => (root.to_path_buf(), "memory.max", "file"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    (root.join("memory"), "memory.limit_in_bytes", "total_cache")
                }
                _ => return None,
            };
            let groups = Path::new(path).ancestors().map(move |path| {
                let folder = folder.join(path.strip_prefix("/").unwrap_or(path));
                // "max" means no limit.
                let limit = fs::read_to_string(folder.join(limit)).ok()?.trim().parse().ok()?;
                let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
                let words = stat.lines().filter_map(|line| line.split_once(' '));
                let found = words.into_iter().find(|(name, _)| *name == cache);
                let cache = found.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0);
                Some(ControlGroup { limit, cache })
            });
            Some(groups.flatten().collect::<Vec<_>>())
        };
        text.lines().filter_map(of_line).flatten().collect()
    }

    fn explain(&self, locked: u64, len: u64, there: u64) -> Option<Limit> {
        // Of the bytes that are in memory already, this group can account for no more than its cache.
        let more = len.saturating_sub(there).saturating_add(there.min(self.cache));
        let wanted = locked.saturating_add(more);
        (wanted > self.limit).then_some(Limit::ControlGroup {
            limit: self.limit,
            wanted,
        })
    }
}

/// The limit that explains EMFILE.
pub(super) fn behind_open() -> Option<Limit> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(Limit::OpenFiles { limit })
}

/// How many lines a file has. It is read by the page, because at the limit of mappings no memory can be allocated for
/// all of it.
fn lines(path: &str) -> u64 {
    let Ok(mut file) = fs::File::open(path) else { return 0 };
    let mut buffer = [0; 4096];
    let mut count = 0;
    while let Ok(read @ 1..) = file.read(&mut buffer) {
        count += buffer[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    count
}

impl LimitState {
    fn read() -> LimitState {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |key: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let number = line.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok());
            number.unwrap_or(0) * 1024
        };
        let number = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
        };
        LimitState {
            addresses: addresses(),
            // The most so far: another thread may have given back what was in the way a moment ago.
            address_space: (number("/proc/self/statm") * super::page_size()).max(of_status("VmPeak:")),
            address_space_limit: getrlimit(Resource::RLIMIT_AS).map_or(u64::MAX, |(soft, _)| soft),
            data: of_status("VmData:"),
            data_limit: getrlimit(Resource::RLIMIT_DATA).map_or(u64::MAX, |(soft, _)| soft),
            overcommit: number("/proc/sys/vm/overcommit_memory"),
            commit_limit: kib("CommitLimit"),
            committed: kib("Committed_AS"),
            memory: kib("MemTotal") + kib("SwapTotal"),
            map_count: lines("/proc/self/maps"),
            map_count_limit: number("/proc/sys/vm/max_map_count"),
        }
    }

    fn arrange(&self, needed: u64) -> Option<Limit> {
        let limit = self.map_count_limit;
        let free = limit.saturating_sub(self.map_count + HEADROOM);
        (limit > 0 && needed > free).then_some(Limit::Arrangement { limit, needed, free })
    }

    fn explain(&self, len: u64, charged: bool) -> Option<Limit> {
        let needed = self.address_space.saturating_add(len);
        // The kernel reserves some of the last addresses.
        if needed.saturating_add(super::page_size()) > self.addresses {
            return Some(Limit::Addresses {
                limit: self.addresses,
                wanted: len,
            });
        }
        if needed > self.address_space_limit {
            return Some(Limit::AddressSpace {
                limit: self.address_space_limit,
                needed,
            });
        }
        let data = self.data.saturating_add(len);
        if charged && data > self.data_limit {
            return Some(Limit::Data {
                limit: self.data_limit,
                needed: data,
            });
        }
        // Mode 2 charges MAP_NORESERVE mappings as well, so `charged` matters only in the other modes.
        if self.overcommit == 2 && self.committed.saturating_add(len) > self.commit_limit {
            return Some(Limit::CommitLimit {
                limit: self.commit_limit,
                committed: self.committed,
                wanted: len,
            });
        }
        if self.overcommit == 0 && charged && len > self.memory {
            return Some(Limit::Heuristic {
                memory: self.memory,
                wanted: len,
            });
        }
        // The kernel refuses at the limit, and unmapping the middle of a mapping takes one more.
        if self.map_count_limit > 0 && self.map_count + 2 >= self.map_count_limit {
            return Some(Limit::MapCount {
                limit: self.map_count_limit,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests;
