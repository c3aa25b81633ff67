//! Tips: what to type for each cause that the mapping module reports, with names that can be pasted into a shell.

use crate::mapping::{AccessDenied, ErrorKind, Limit, RemapUnsupported, UnsupportedFileType, WriteGuard};
use crate::number::{Offset, Range, Size};
use crate::text::{FILE, quoted};
use nix::errno::Errno;
use std::path::Path;

/// The tip for a cause, if there is one.
pub(super) fn of(cause: &ErrorKind, path: Option<&Path>) -> Option<String> {
    let file = path.map_or("FILE".into(), quoted);
    let tip = match cause {
        ErrorKind::Sys(Errno::ENOENT) => {
            let folder = path.and_then(there).unwrap_or(Path::new("."));
            let parent = path.and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty());
            let missing = parent.filter(|parent| *parent != folder).map(|parent| format!("there is no directory {}; ", quoted(parent)));
            let meant = path.and_then(Path::to_str).and_then(meant_by);
            meant.unwrap_or_else(|| format!("{}'ls {}' shows what is there; no verb creates it", missing.unwrap_or_default(), quoted(folder)))
        }
        ErrorKind::Sys(Errno::ENOTDIR) => {
            let part = path.and_then(there).map_or(file, quoted);
            format!("a part of the path is a file, not a directory: 'ls -ld {part}'")
        }
        ErrorKind::Sys(Errno::ELOOP) => format!("the path has a symbolic link, or a loop of them: 'namei {file}'"),
        ErrorKind::Sys(Errno::ENXIO) => format!("no such device is present; 'ls -l {file}' shows its number"),
        ErrorKind::Sys(Errno::EACCES) => format!("see who is permitted to: 'ls -l {file}'"),
        ErrorKind::Sys(Errno::ENODEV) => format!("it can only be read by read(2): 'cat {file}'"),
        ErrorKind::Sys(Errno::EPERM) if path.is_some_and(is_char_device) => {
            "the kernel keeps that memory to itself (CONFIG_STRICT_DEVMEM, lockdown); a PCI device has files of its own: 'ls /sys/bus/pci/devices/*/resource*'".into()
        }
        ErrorKind::Sys(Errno::EINVAL) if path.is_some_and(is_char_device) => {
            "the driver has nothing to map there; of a UIO device, map N is at offset Np, and 'cat /sys/class/uio/uio*/maps/map*/size' has the lengths".into()
        }
        ErrorKind::Sys(Errno::EPERM) => format!("the file may be immutable or append-only: 'lsattr {file}'"),
        ErrorKind::Sys(Errno::EROFS) => format!("the file system is mounted read-only: 'findmnt -T {file}'"),
        ErrorKind::Sys(Errno::ETXTBSY) => {
            format!("it is a running program or an active swap file; work on a copy and rename it over {file}")
        }
        ErrorKind::Sys(Errno::EIO) => "the medium could not be read or written; see 'dmesg'".into(),
        ErrorKind::Sys(Errno::EFBIG) => {
            "the limit is RLIMIT_FSIZE ('ulimit -f'), or the file system's own".into()
        }
        ErrorKind::Sys(Errno::EBUSY) => "some of its pages are locked in memory (mlock)".into(),
        ErrorKind::Sys(Errno::EINVAL) if path.is_some_and(on_hugetlbfs) => {
            "on hugetlbfs, lengths and offsets are multiples of the huge page: 'grep Hugepagesize /proc/meminfo'".into()
        }
        ErrorKind::Full(_) => format!("make room: 'df -h {file}'"),
        ErrorKind::Shrunk { .. } | ErrorKind::Vanished => "another process truncated the file; run the command again when it has finished".into(),
        ErrorKind::PastEnd { .. } if path.is_some_and(is_block_device) => {
            format!("it is a device, which cannot be made longer; 'blockdev --getsize64 {file}' prints its length")
        }
        ErrorKind::PastEnd { .. } => {
            format!("'stat {file}' shows its length; patch --grow lets edits reach past the end, and remap --size moves the end")
        }
        ErrorKind::AccessDenied(AccessDenied::DeviceLength) => format!("'blockdev --getsize64 {file}' prints its length"),
        ErrorKind::AccessDenied(AccessDenied::ReadOnlyDevice) => {
            format!("'blockdev --getro {file}' prints 1; 'blockdev --setrw {file}' allows writing, where the device does")
        }
        ErrorKind::AccessDenied(AccessDenied::Sealed | AccessDenied::SealedLength) => {
            "a seal cannot be removed; work on a copy of it".into()
        }
        ErrorKind::AccessDenied(AccessDenied::NeverReachesFile) => {
            "stores into a private mapping stay in this process; only a shared mapping changes the file".into()
        }
        ErrorKind::AccessDenied(AccessDenied::PrivateResize) => {
            "map it with --shared, or resize the mapping alone with --keep-file".into()
        }
        ErrorKind::AccessDenied(AccessDenied::BeginsBehindEnd | AccessDenied::EndsBeforeFile) => {
            "map the file as a whole, or resize the mapping alone with --keep-file".into()
        }
        ErrorKind::AccessDenied(AccessDenied::SharedAnonymous) => "map a --memfd, or --private".into(),
        ErrorKind::AccessDenied(AccessDenied::ReadOnly | AccessDenied::FileReadOnly) => "map it with --prot rw, or leave out --prot".into(),
        ErrorKind::AccessDenied(AccessDenied::NoRead) => "map it with --prot r, or leave out --prot".into(),
        ErrorKind::NotMapped(_) => "give a range within it, or map more of the file".into(),
        ErrorKind::AddressTaken(_) => format!("leave out --address, or list the mappings: mmapctl map {file} -c '! cat /proc/$MMAPCTL_PID/maps'"),
        ErrorKind::Unaligned(address, page) => {
            format!("write --address {:#x}", (*address as u64 / page * page).max(16 * page))
        }
        ErrorKind::NoRoomBehind => "leave out --no-move".into(),
        ErrorKind::UnsupportedFileType(UnsupportedFileType::Directory) => format!("name a file in it; 'mmapctl map -R {file}' looks at all of them"),
        ErrorKind::UnsupportedFileType(UnsupportedFileType::Socket) => format!("its bytes come through a connection: 'socat - UNIX-CONNECT:{file}'"),
        ErrorKind::UnsupportedFileType(UnsupportedFileType::CharDevice) if path.is_some_and(may_have_registers) => {
            format!("it is read by read(2): 'cat {file}'; registers that can be mapped, by 'mmapctl cat {file} --range 0x0..+4 --access 4'")
        }
        // Bytes that are read from it are lost to all other readers.
        ErrorKind::UnsupportedFileType(UnsupportedFileType::Fifo) => "it can only be read by read(2), and each byte once".into(),
        ErrorKind::UnsupportedFileType(_) => format!("it can only be read by read(2): 'cat {file}'"),
        ErrorKind::Refused(WriteGuard::SetId) => "add --force to write to it: the file then loses the bit if write(2) would remove it".into(),
        ErrorKind::Refused(WriteGuard::Capabilities) => {
            "add --force to write to it: the file then loses its capabilities, as write(2) would remove them".into()
        }
        ErrorKind::Refused(WriteGuard::ReadOnlyMode) => format!("allow it with 'chmod u+w {file}', or add --force"),
        ErrorKind::DeviceMemory => format!("give the width, such as --access 4: 'mmapctl cat {file} --range 0x0..+4 --access 4'"),
        ErrorKind::Bus => "it may be powered down, or gone: see 'dmesg'".into(),
        ErrorKind::Refused(WriteGuard::BlockDevice | WriteGuard::CharDevice) => "add --force if you are sure that it is the right device".into(),
        ErrorKind::Refused(WriteGuard::BusyBlockDevice) => {
            "unmount it first: 'lsblk' shows where it is in use".into()
        }
        ErrorKind::Locked => format!("'lslocks' and 'fuser -v {file}' show by whom; a verb that writes waits longer with --lock-timeout 60s"),
        ErrorKind::Limit(limit) => limit_tip(limit),
        ErrorKind::Nonlinear(_) => "'remap --order linear' makes it a linear mapping of the file again".into(),
        ErrorKind::Arrange(RemapUnsupported::Private) => "map it with --shared, or write a new file with --to OUT".into(),
        ErrorKind::Arrange(RemapUnsupported::NoFile) => "use --method remap-file-pages, or map a --memfd".into(),
        ErrorKind::Arrange(RemapUnsupported::ReadOnly | RemapUnsupported::HugeFile) => "--method mmap works without it".into(),
        ErrorKind::Arrange(RemapUnsupported::HugeMemory) => "map a --memfd, which --huge takes as well".into(),
        _ => return None,
    };
    Some(tip)
}

fn limit_tip(limit: &Limit) -> String {
    match limit {
        Limit::Addresses { .. } => "map less at a time, such as --length 1T".into(),
        Limit::AddressSpace { .. } => "raise it with 'ulimit -v unlimited'".into(),
        Limit::Data { .. } => "raise it with 'ulimit -d unlimited'".into(),
        Limit::CommitLimit { .. } => {
            "raise vm.overcommit_ratio, add swap, or allow overcommit with 'sysctl vm.overcommit_memory=1'".into()
        }
        Limit::Heuristic { .. } => "add --noreserve, or allow it with 'sysctl vm.overcommit_memory=1'".into(),
        Limit::HugePages { page, wanted, total, free } => format!(
            "make more: 'echo {} > /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages'",
            total.saturating_sub(*free).saturating_add(*wanted),
            page / 1024
        ),
        Limit::MapCount { limit } => format!("raise it with 'sysctl vm.max_map_count={}'", limit * 4),
        Limit::Arrangement { limit, needed, .. } => format!(
            "--to OUT writes the view out and maps nothing; or raise it with 'sysctl vm.max_map_count={}'",
            limit.saturating_add(*needed)
        ),
        Limit::OpenFiles { limit } => format!("raise it with 'ulimit -n {}'", limit.saturating_mul(4)),
        Limit::ControlGroup { .. } => {
            "take less of it with --range (or lock each page when it is first touched: --lock=on-fault alone); 'cat /proc/self/cgroup' names the control group, MemoryMax= in a systemd unit raises its limit".into()
        }
        Limit::LockedMemory { .. } => "raise it with 'ulimit -l unlimited' (or LimitMEMLOCK= in a systemd unit)".into(),
    }
}

pub(super) fn in_folder(path: &Path) -> String {
    format!("name a file in it: 'ls {}' shows them", quoted(path))
}

/// Puts the name of the file that a tip is about into it.
pub(super) fn with_file(tip: &str, path: Option<&Path>) -> String {
    tip.replace(FILE, &path.map_or("FILE".into(), quoted))
}

/// A tip for a word in place of FILE that is not the name of any file: what the user may have meant.
fn meant_by(word: &str) -> Option<String> {
    let tip = if word == "-" {
        "stdin cannot be mapped: save it in a file first, and name that".to_string()
    } else if word.contains("..") && word.parse::<Range>().is_ok() {
        format!("if it is a range, write --range {word}")
    } else if word.starts_with(|first: char| first.is_ascii_digit()) && word.parse::<Offset>().is_ok() {
        format!("if it is a place in the file, write --offset {word}; if it is how many bytes, --length {word}")
    } else if word.parse::<Size>().is_ok() {
        "if it is a change of the length, 'mmapctl remap --help' has --size".to_string()
    } else {
        return None;
    };
    Some(tip)
}

/// The nearest ancestor of `path` that exists.
fn there(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|path| path.symlink_metadata().is_ok())
}

/// Whether a character device may be one that can be mapped. Memory devices (except for /dev/mem), terminals and
/// consoles are not; their numbers are in devices.txt of the kernel.
fn may_have_registers(path: &Path) -> bool {
    use nix::sys::stat::{major, minor, stat};
    let number = stat(path).map_or(0, |stat| stat.st_rdev);
    match (major(number), minor(number)) {
        (1, minor) => minor == 1,
        (4 | 5 | 136..=143, _) => false,
        _ => true,
    }
}

fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}

fn is_char_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_char_device())
}

fn on_hugetlbfs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::HUGETLBFS_MAGIC)
}
