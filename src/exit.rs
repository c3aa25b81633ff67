//! Exit codes, and how an error becomes one: what is printed for it, and the tip that says what to type.

use crate::mapping::{self, Cause, Hindrance, Interrupted, Limit, Refusal};
use crate::quantity;
use crate::report::{describe, shown};
use nix::errno::Errno;
use serde_json::{Map, Value, json};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the exit code says: above all, whether the file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, as durable as asked.
    Done = 0,
    /// The answer is no: expected bytes differ. The file is untouched.
    No = 1,
    /// Usage or trouble. The file is untouched, or put back as it was.
    Trouble = 2,
    /// Changed, but not proven durable, or the report could not be written.
    NotDurable = 3,
    /// In doubt: a change could not be undone. The message says what to run.
    InDoubt = 4,
}

/// An error with an exit code of its own, and the tip that goes with it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    code: Option<u8>,
    message: String,
    tip: Option<String>,
    source: Option<anyhow::Error>,
}

impl Failure {
    /// An error that ends in `exit`; the message goes behind the file's name.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            code: None,
            message: message.into(),
            tip: None,
            source: None,
        }
    }

    /// Usage or trouble; the file is untouched.
    pub fn trouble(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Trouble, message)
    }

    /// The process ends with this code, which is a command's or a shell's word for it, and none of ours.
    pub fn code(mut self, code: u8) -> Failure {
        self.code = Some(code);
        self
    }

    /// Says what to type instead.
    pub fn tip(mut self, tip: impl Into<String>) -> Failure {
        self.tip = Some(tip.into());
        self
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The file that an error is about: the verb's layer of the message.
#[derive(Debug)]
struct InFile {
    path: PathBuf,
    source: anyhow::Error,
}

impl std::error::Error for InFile {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

impl fmt::Display for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.path))
    }
}

/// The verb had put the file back before it failed: it is other than it was, whatever the exit code says of the verb.
#[derive(Debug)]
struct Recovered {
    source: anyhow::Error,
}

impl std::error::Error for Recovered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("put back as it was before a patch that had been cut short, and then")
    }
}

/// Adds to an error what one layer knows. (anyhow's own contexts cannot be found again in the middle of a chain.)
pub trait Layer<T> {
    /// The exit code, and what it means for the file.
    fn or_fail(self, failure: impl FnOnce() -> Failure) -> anyhow::Result<T>;
    /// The file.
    fn in_file(self, path: &Path) -> anyhow::Result<T>;
    /// Whether the file was put back first, as an atomic patch had been cut short.
    fn after_recovery(self, recovered: bool) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Layer<T> for Result<T, E> {
    fn or_fail(self, failure: impl FnOnce() -> Failure) -> anyhow::Result<T> {
        self.map_err(|error| {
            let source = Some(error.into());
            anyhow::Error::from(Failure { source, ..failure() })
        })
    }

    fn in_file(self, path: &Path) -> anyhow::Result<T> {
        self.map_err(|error| {
            let path = path.to_path_buf();
            let source = error.into();
            anyhow::Error::from(InFile { path, source })
        })
    }

    fn after_recovery(self, recovered: bool) -> anyhow::Result<T> {
        self.map_err(|error| match recovered {
            true => anyhow::Error::from(Recovered { source: error.into() }),
            false => error.into(),
        })
    }
}

/// An error, as it is told to the user.
#[derive(Debug)]
pub struct Told {
    /// The process's exit code.
    pub exit: Exit,
    /// The signal that the process ends with instead, once this is printed.
    pub signal: Option<i32>,
    /// A command's exit code, in place of ours.
    code: Option<u8>,
    message: String,
    tip: Option<String>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    recovered: bool,
}

impl Told {
    /// Walks the chain of `error` once for all that is known about it.
    pub fn of(error: &anyhow::Error) -> Told {
        let mut told = Told {
            exit: Exit::Trouble,
            signal: None,
            code: None,
            message: message(error),
            tip: None,
            path: None,
            offset: None,
            recovered: false,
        };
        // From the outside in: a verb that knows better than the core has spoken first.
        let mut exit = None;
        // The file that a tip is about is the one named last.
        let mut nearest: Option<&Path> = None;
        for layer in error.chain() {
            if let Some(failure) = layer.downcast_ref::<Failure>() {
                exit = exit.max(Some(failure.exit));
                told.code = told.code.or(failure.code);
                told.tip = told.tip.or_else(|| failure.tip.clone());
            } else if let Some(file) = layer.downcast_ref::<InFile>() {
                // The outermost is the verb's; a script or an @FILE may be named further in.
                told.path = told.path.or_else(|| Some(file.path.clone()));
                nearest = Some(&file.path);
            } else if layer.is::<Recovered>() {
                told.recovered = true;
            } else if let Some(core) = layer.downcast_ref::<mapping::Error>() {
                told.offset = core.span.map(mapping::Span::start);
                told.tip = told.tip.or_else(|| tip_for(&core.cause, nearest));
                if let Cause::Interrupted(signal) = core.cause {
                    told.signal = Some(signal);
                }
            } else if let Some(refusal) = layer.downcast_ref::<quantity::Refusal>() {
                let tip = Some(refusal.tip.clone()).filter(|tip| !tip.is_empty());
                told.tip = told.tip.or(tip);
            } else if let Some(io) = layer.downcast_ref::<std::io::Error>() {
                // What else may be wrong with a file that is only read, whoever reads it knows.
                let folder = nearest.filter(|_| io.kind() == std::io::ErrorKind::IsADirectory);
                told.tip = told.tip.or(folder.map(in_folder));
            } else if let Some(Interrupted(signal)) = layer.downcast_ref::<Interrupted>() {
                told.signal = Some(*signal);
            }
        }
        told.exit = exit.unwrap_or(Exit::Trouble);
        // A file left in doubt is worth a code of its own, which a signal's would hide.
        if told.exit > Exit::Trouble {
            told.signal = None;
        }
        told
    }

    /// A mistake on the command line.
    pub fn usage(message: String, tip: Option<String>) -> Told {
        Told {
            exit: Exit::Trouble,
            signal: None,
            code: None,
            message,
            tip,
            path: None,
            offset: None,
            recovered: false,
        }
    }

    /// Two lines for people.
    pub fn text(&self, color: bool) -> String {
        let (red, green, plain) = if color {
            ("\x1b[1m\x1b[31m", "\x1b[32m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut text = format!("{red}error:{plain} {}\n", self.message);
        if let Some(tip) = &self.tip {
            text += &format!("  {green}tip:{plain} {tip}\n");
        }
        text
    }

    /// One JSON object on a line.
    pub fn json(&self, verb: Option<&str>) -> String {
        let mut object = Map::new();
        object.insert("schema".into(), json!(1));
        object.insert("verb".into(), json!(verb));
        if let Some(path) = &self.path {
            crate::report::insert_path(&mut object, path);
        }
        object.insert("error".into(), json!(self.message));
        object.insert("tip".into(), json!(self.tip));
        object.insert("offset".into(), json!(self.offset));
        object.insert("recovered".into(), json!(self.recovered));
        object.insert("exit".into(), json!(self.code.unwrap_or(self.exit as u8)));
        format!("{}\n", Value::Object(object))
    }
}

/// Each layer of the chain adds one fact; the outermost comes first.
fn message(error: &anyhow::Error) -> String {
    let layers = error.chain().map(|layer| match layer.downcast_ref::<std::io::Error>() {
        Some(io) => describe(io),
        None => layer.to_string(),
    });
    layers.collect::<Vec<_>>().join(": ")
}

impl std::error::Error for Interrupted {}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Cause::Interrupted(self.0).fmt(f)
    }
}

/// What to type, for the causes that the core reports.
fn tip_for(cause: &Cause, path: Option<&Path>) -> Option<String> {
    let file = path.map_or("FILE".into(), quoted);
    let tip = match cause {
        Cause::Sys(Errno::ENOENT) => {
            let folder = path.and_then(there).unwrap_or(Path::new("."));
            format!(
                "'ls {}' shows what is there; a new file, which no verb makes, comes by 'truncate -s 64K {file}'",
                quoted(folder)
            )
        }
        Cause::Sys(Errno::ENOTDIR) => {
            let part = path.and_then(there).map_or(file, quoted);
            format!("on the way there is a file where a folder should be: 'ls -ld {part}'")
        }
        Cause::Sys(Errno::ELOOP) => format!("a symbolic link is in the way, or a circle of them: 'namei {file}'"),
        Cause::Sys(Errno::ENXIO) => format!("nothing is behind it now; 'ls -l {file}' shows which device it stands for"),
        Cause::Sys(Errno::EACCES) => format!("see who may: 'ls -l {file}'"),
        Cause::Sys(Errno::ENODEV) => format!("its bytes come by read(2) alone: 'cat {file}'"),
        Cause::Sys(Errno::EPERM) if path.is_some_and(is_char_device) => {
            "the kernel keeps that memory to itself (CONFIG_STRICT_DEVMEM, lockdown); a PCI device has files of its own: 'ls /sys/bus/pci/devices/*/resource*'".into()
        }
        Cause::Sys(Errno::EINVAL) if path.is_some_and(is_char_device) => {
            "the driver has nothing to map there; of a UIO device, map N is at offset Np, and 'cat /sys/class/uio/uio*/maps/map*/size' has the lengths".into()
        }
        Cause::Sys(Errno::EPERM) => format!("the file may be immutable or append-only: 'lsattr {file}'"),
        Cause::Sys(Errno::EROFS) => format!("the file system is mounted read-only: 'findmnt -T {file}'"),
        Cause::Sys(Errno::ETXTBSY) => {
            format!("it is a running program or an active swap file; work on a copy and rename it over {file}")
        }
        Cause::Sys(Errno::EIO) => "the medium could not be read or written; see 'dmesg'".into(),
        Cause::Sys(Errno::EFBIG) => {
            "the limit is RLIMIT_FSIZE ('ulimit -f'), or the file system's own".into()
        }
        Cause::Sys(Errno::EBUSY) => "some of its pages are locked in memory (mlock)".into(),
        Cause::Sys(Errno::EINVAL) if path.is_some_and(on_hugetlbfs) => {
            "on hugetlbfs, lengths and offsets are multiples of the huge page: 'grep Hugepagesize /proc/meminfo'".into()
        }
        Cause::Full(_) => format!("make room: 'df -h {file}'"),
        Cause::Shrunk { .. } | Cause::Vanished => "another process cut the file short; run again when it is done".into(),
        Cause::PastEnd { .. } => format!("see its length with 'stat {file}'; grow it with 'mmapctl remap {file} --size +4K'"),
        Cause::Protection("changes in it never reach a file") => "map the file with --shared".into(),
        Cause::Protection("the mapping is private, and its file is not to be changed") => {
            "map it with --shared, or resize the mapping alone with --keep-file".into()
        }
        Cause::Protection("the mapping begins behind the new end" | "the mapping does not end where its file does") => {
            "map the file as a whole, or resize the mapping alone with --keep-file".into()
        }
        Cause::Protection("shared anonymous memory stays as long as it was made") => "map a --memfd, or --private".into(),
        Cause::Protection("the mapping is read-only" | "the file is open for reading only") => "map it with --prot rw, or leave out --prot".into(),
        Cause::Protection(why) if why.ends_with("(PROT_NONE)") => "map it with --prot r, or leave out --prot".into(),
        Cause::NotMapped(_) => "give a range within it, or map more of the file".into(),
        Cause::AddressTaken(_) => "leave out --address, or see what is where: mmapctl map FILE -c '! cat /proc/$MMAPCTL_PID/maps'".into(),
        Cause::Unaligned(address, page) => {
            format!("write --address {:#x}", (*address as u64 / page * page).max(16 * page))
        }
        Cause::NoRoomBehind => "leave out --no-move".into(),
        Cause::Unmappable("a directory") => format!("name a file in it; 'mmapctl map -R {file}' looks at all of them"),
        Cause::Unmappable("a socket") => format!("its bytes come by a connection: 'socat - UNIX-CONNECT:{file}'"),
        Cause::Unmappable("a character device") if path.is_some_and(may_have_registers) => {
            format!("its bytes come by read(2): 'cat {file}'; registers that it lets one map, by 'mmapctl cat {file} --range 0x0..+4 --access 4'")
        }
        Cause::Unmappable(_) => format!("its bytes come by read(2) alone: 'cat {file}'"),
        Cause::Refused(Refusal::SetId) => format!("drop the bit with 'chmod ug-s {file}', or add --force"),
        Cause::Refused(Refusal::ReadOnlyMode) => format!("allow it with 'chmod u+w {file}', or add --force"),
        Cause::DeviceMemory => format!("give the width, such as --access 4: 'mmapctl cat {file} --range 0x0..+4 --access 4'"),
        Cause::Bus => "it may be powered down, or gone: see 'dmesg'".into(),
        Cause::Refused(Refusal::BlockDevice | Refusal::CharDevice) => "add --force if you are sure that it is the right device".into(),
        Cause::Refused(Refusal::BusyBlockDevice) => {
            "unmount it first ('lsblk' shows where it is in use); --force writes all the same, and may destroy a mounted file system".into()
        }
        Cause::Locked => format!("'lslocks' and 'fuser -v {file}' show by whom; a verb that writes waits longer with --lock-timeout 60s"),
        Cause::Limit(limit) => remedy(limit),
        Cause::Nonlinear(_) => "'remap --order linear' makes it a linear mapping of the file again".into(),
        Cause::Arrange(Hindrance::Private) => "map it with --shared, or write a new file with --to OUT".into(),
        Cause::Arrange(Hindrance::NoFile) => "use --method remap-file-pages, or map a --memfd".into(),
        Cause::Arrange(Hindrance::ReadOnly | Hindrance::HugeFile) => "--method mmap does without".into(),
        Cause::Arrange(Hindrance::HugeMemory) => "map a --memfd, which --huge takes as well".into(),
        _ => return None,
    };
    Some(tip)
}

fn remedy(limit: &Limit) -> String {
    match limit {
        Limit::Addresses { .. } => "map less at a time, such as --length 1T".into(),
        Limit::AddressSpace { .. } => "raise it with 'ulimit -v unlimited'".into(),
        Limit::CommitLimit { .. } => {
            "raise vm.overcommit_ratio, add swap, or allow overcommit with 'sysctl vm.overcommit_memory=1'".into()
        }
        Limit::Heuristic { .. } => "add --noreserve, or allow it with 'sysctl vm.overcommit_memory=1'".into(),
        Limit::HugePages { page, wanted, .. } => format!(
            "make more: 'echo {wanted} > /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages'",
            page / 1024
        ),
        Limit::MapCount { limit } => format!("raise it with 'sysctl vm.max_map_count={}'", limit * 4),
        Limit::Arrangement { limit, needed, .. } => format!(
            "--to OUT writes the view out and maps nothing; or raise it with 'sysctl vm.max_map_count={}'",
            limit.saturating_add(*needed)
        ),
        Limit::OpenFiles { limit } => format!("raise it with 'ulimit -n {}'", limit.saturating_mul(4)),
        Limit::LockedMemory { .. } => "raise it with 'ulimit -l unlimited' (or LimitMEMLOCK= in a systemd unit)".into(),
    }
}

fn in_folder(path: &Path) -> String {
    format!("name a file in it: 'ls {}' shows them", quoted(path))
}

/// The nearest there is on the way to `path`.
fn there(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|path| path.symlink_metadata().is_ok())
}

/// Whether a character device may be one that can be mapped, which memory's own (but for /dev/mem), terminals and
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

fn is_char_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_char_device())
}

fn on_hugetlbfs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::HUGETLBFS_MAGIC)
}

/// A path as one types it in a shell, where it is one word, no option, and the very same bytes.
pub fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let dash = if bytes.starts_with(b"-") { "./" } else { "" };
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    match path.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => format!("{dash}{text}"),
        Some(text) if !text.chars().any(char::is_control) => format!("'{dash}{}'", text.replace('\'', "'\\''")),
        _ => format!("$'{dash}{}'", escaped(bytes)),
    }
}

/// For within `$'...'`, in which a shell takes a backslash as C does.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text += "\\n",
                '\t' => text += "\\t",
                '\\' | '\'' => text.extend(['\\', c]),
                c if c.is_control() => text += &hex(c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        text += &hex(chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mapping::Span;
    use std::ffi::OsStr;

    fn told(error: impl Into<anyhow::Error>) -> Told {
        Told::of(&error.into())
    }

    #[test]
    fn a_plain_error_is_trouble() {
        assert_eq!(told(anyhow::anyhow!("x")).exit, Exit::Trouble);
    }

    #[test]
    fn the_answer_no_is_1_and_keeps_its_tip_behind_the_file_name() {
        let failure = Failure::new(Exit::No, "bytes differ").tip("look");
        let told = told(Err::<(), _>(failure).in_file(Path::new("a b")).unwrap_err());
        assert_eq!(told.exit, Exit::No);
        assert_eq!(told.text(false), "error: a b: bytes differ\n  tip: look\n");
        assert!(
            told.json(Some("patch"))
                .contains(r#""file":"a b","error":"a b: bytes differ","tip":"look""#)
        );
    }

    #[test]
    fn a_failure_to_undo_outranks_what_went_wrong_first() {
        let core = mapping::Error::sys("store", Span::new(64, 68), Errno::EIO);
        let error = Err::<(), _>(core)
            .or_fail(|| Failure::new(Exit::InDoubt, "could not be put back"))
            .unwrap_err();
        let told = Told::of(&error);
        assert_eq!(told.exit, Exit::InDoubt);
        assert_eq!(told.offset, Some(64));
        assert_eq!(
            told.message,
            "could not be put back: cannot store 0x40..0x44: I/O error (EIO)"
        );
    }

    #[test]
    fn an_interruption_ends_in_its_signal_unless_the_file_is_in_doubt() {
        let stop = || mapping::Error::new("store", None, Cause::Interrupted(2));
        assert_eq!(told(stop()).signal, Some(2));
        let doubt = Err::<(), _>(stop()).or_fail(|| Failure::new(Exit::InDoubt, "half"));
        assert_eq!(told(doubt.unwrap_err()).signal, None);
    }

    #[test]
    fn a_file_name_that_a_shell_would_split_is_quoted_in_tips() {
        assert_eq!(quoted(Path::new("fw.bin")), "fw.bin");
        assert_eq!(quoted(Path::new("it's a")), r"'it'\''s a'");
        assert_eq!(quoted(Path::new("")), "''");
    }

    #[test]
    fn a_file_name_that_is_no_plain_text_can_be_pasted_all_the_same() {
        let raw = |bytes: &'static [u8]| quoted(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(raw(b"-x.bin"), "./-x.bin");
        assert_eq!(raw(b"-a b"), "'./-a b'");
        assert_eq!(raw(b"a\nb"), r"$'a\nb'");
        assert_eq!(raw(b"-\x1b\t'\\"), r"$'./-\x1b\t\'\\'");
        assert_eq!(raw(b"\xffe \xc3\xa9"), r"$'\xffe é'");
    }
}
