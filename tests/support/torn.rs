//! Files as a crash in an atomic patch leaves them, made by hand: half patched, with their journal.
use crate::support::*;
use nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The length of [`torn`]'s file.
pub const SIZE: usize = 20_000;

/// Edits as a journal has them: offset, old bytes, new bytes.
pub type Edits = [(u64, Vec<u8>, Vec<u8>)];

/// What a journal says of its target: the device, the inode and the birth time.
pub type Identity = [u64; 3];

/// The identity of a file on a file system with a device of its own, without one, or on overlayfs.
pub fn identity(path: &Path) -> Identity {
    let meta = std::fs::metadata(path).expect("it is there");
    let born = meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let device = Some(meta.dev()).filter(|device| nix::sys::stat::major(*device) != 0);
    let overlay = nix::sys::statfs::statfs(path).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    [
        device.unwrap_or(0),
        if overlay { 0 } else { meta.ino() },
        born.map_or(0, |born| born.as_nanos() as u64),
    ]
}

/// A journal, as src/edit/journal.rs draws it.
pub fn journal(target: Identity, before: u64, after: u64, edits: &Edits) -> Vec<u8> {
    let mut bytes = b"MMAPUNDO".to_vec();
    let [device, inode, born] = target;
    for number in [3, device, inode, born, before, after, edits.len() as u64] {
        bytes.extend(number.to_le_bytes());
    }
    for (at, old, _) in edits {
        bytes.extend(at.to_le_bytes());
        bytes.extend((old.len() as u64).to_le_bytes());
    }
    edits.iter().for_each(|(_, old, _)| bytes.extend(old));
    edits.iter().for_each(|(_, _, new)| bytes.extend(new));
    sealed(bytes)
}

/// The position of the byte that is 1 while the length is being changed.
pub const RESIZING_AT: usize = 15;

/// The checksum of a journal's bytes before it, which does not cover [`RESIZING_AT`].
pub fn sum(body: &[u8]) -> [u8; 4] {
    let mut body = body.to_vec();
    if let Some(resizing) = body.get_mut(RESIZING_AT) {
        *resizing = 0;
    }
    crc32fast::hash(&body).to_le_bytes()
}

/// Adds the checksum at the end.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(sum(&bytes));
    bytes
}

/// The bytes of [`torn`]'s file before the patch.
pub fn old() -> Vec<u8> {
    noise(SIZE)
}

/// The edits of the patch of [`torn`].
pub fn edits() -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    let old = old();
    let edit = |at: usize| (at as u64, old[at..at + 4].to_vec(), vec![0xee; 4]);
    vec![edit(100), edit(5_000), edit(15_000)]
}

/// The bytes that the patch of [`torn`] would have made.
pub fn new() -> Vec<u8> {
    let mut bytes = old();
    for (at, _, new) in edits() {
        bytes[at as usize..at as usize + 4].copy_from_slice(&new);
    }
    bytes
}

/// Where the journal of "f" is.
pub fn beside(dir: &Sandbox) -> PathBuf {
    dir.join(".f.mmapctl-undo")
}

/// Makes "f" of `dir` half patched, with a journal at `place`. Its inode stays, if it was there.
pub fn torn_with(dir: &Sandbox, place: &Path) {
    let mut bytes = new();
    bytes[5_001..5_004].copy_from_slice(&old()[5_001..5_004]);
    let path = dir.file("f", &bytes);
    let record = journal(identity(&path), SIZE as u64, SIZE as u64, &edits());
    put(place, &record);
}

/// Puts a journal of these bytes at `place`, with the mode that one is made with.
pub fn put(place: &Path, record: &[u8]) {
    std::fs::write(place, record).expect("a journal");
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// Makes "f" of `dir` half patched, with its journal beside it, and gives its path.
pub fn torn(dir: &Sandbox) -> PathBuf {
    torn_with(dir, &beside(dir));
    dir.join("f")
}

/// Marks a journal as a patch that is at work does, until `journal` is closed.
pub fn mark_at_work(journal: &std::fs::File) {
    let mark = nix::libc::flock {
        l_type: nix::libc::F_RDLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(journal, nix::fcntl::FcntlArg::F_OFD_SETLK(&mark)).unwrap();
}
