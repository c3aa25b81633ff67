//! The rights that a file has beyond its permission bits: the privileges of a program, which a store must remove, and
//! the access control list, which a copy of the file's bytes must not exceed.

use super::{Backing, Kind};
use crate::mapping::error::{Error, Result};
use crate::mapping::region::{LONGEST_XATTR, remove_xattr, xattr};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{fchown, geteuid};
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

const CAPABILITIES: &CStr = c"security.capability";
const ACCESS_LIST: &CStr = c"system.posix_acl_access";

/// The privileges that a program file grants to the process that runs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// The set-user-ID bit, or the set-group-ID bit with the group's execute permission.
    pub set_id: bool,
    /// The set-group-ID bit without that permission. It grants nothing, but write(2) removes it if the writer is not in
    /// the group.
    pub set_gid_mark: bool,
    /// File capabilities, see capabilities(7).
    pub capabilities: bool,
}

impl Privileges {
    /// The privileges of an open file with this `st_mode`.
    pub(in crate::mapping) fn of(file: &File, mode: u32) -> Privileges {
        let set_gid = mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0;
        Privileges {
            set_id: mode & libc::S_ISUID != 0 || set_gid,
            set_gid_mark: mode & libc::S_ISGID != 0 && !set_gid,
            // EOVERFLOW: the capabilities of another user namespace.
            capabilities: matches!(xattr(file, CAPABILITIES, 0), Ok(Some(_)) | Err(Errno::EOVERFLOW)),
        }
    }

    fn any(self) -> bool {
        self.set_id || self.capabilities
    }
}

impl Backing {
    fn privileges(&self) -> Result<Privileges> {
        let file = self.file("read its metadata")?;
        let meta = file.metadata().map_err(|error| Error::io("read its metadata", &error))?;
        Ok(Privileges::of(file, meta.mode()))
    }

    /// Called before the first store: removes the privileges that write(2) would remove and a store through a mapping
    /// does not. These are file capabilities, and the set-ID bits unless we have CAP_FSETID, as root has.
    ///
    /// # Errors
    /// EPERM if they remain. Nothing has been stored then.
    pub(in crate::mapping) fn drop_privileges(&self) -> Result<()> {
        if !self.facts().privileges.any() || !self.privileges()?.any() {
            return Ok(());
        }
        let file = self.file("store")?;
        // The kernel applies the rule of write(2) to fallocate(2), too, which changes no byte. If the file system does
        // not support the call, or the kernel is older than that rule (Linux 5.17), chown(2) without a new owner
        // removes the privileges.
        let _ = fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 1);
        let stay = |left: Privileges| left.capabilities || left.set_id && !geteuid().is_root();
        if stay(self.privileges()?) {
            let _ = fchown(file, None, None);
        }
        if stay(self.privileges()?) {
            let action = "take away its set-user-ID bit or its capabilities";
            return Err(Error::sys(action, None, Errno::EPERM));
        }
        Ok(())
    }

    /// The privileges that the file had when it was opened for writing and has lost since.
    pub fn privileges_dropped(&self) -> Privileges {
        let had = self.facts().privileges;
        let now = if had.any() || had.set_gid_mark {
            self.privileges().unwrap_or(had)
        } else {
            had
        };
        Privileges {
            set_id: had.set_id && !now.set_id,
            set_gid_mark: had.set_gid_mark && !now.set_gid_mark,
            capabilities: had.capabilities && !now.capabilities,
        }
    }

    /// Sets the permissions of `copy`, a new file of ours that receives bytes of this one: we get the rights that the
    /// owner of this file has, and nobody else gets more rights to the copy than to this file. `umask` removes more.
    ///
    /// # Errors
    /// An error of reading the metadata of this file or of the copy. If the file system cannot set permissions, the
    /// copy keeps those it was created with.
    pub fn protect_copy(&self, copy: &File, umask: Mode) -> Result<()> {
        let gid = copy.metadata().map_err(|error| Error::io("read its metadata", &error))?.gid();
        let mode = self.mode_of_copy(gid)? & !umask.bits();
        // A default list of the directory may have given the copy a list, whose entries the group bits would enable.
        if remove_xattr(copy, ACCESS_LIST).is_ok() {
            let _ = fchmod(copy, Mode::from_bits_truncate(mode));
        }
        Ok(())
    }

    /// The permission bits for a file of ours, with the group `gid`, that receives bytes of this one.
    fn mode_of_copy(&self, gid: u32) -> Result<u32> {
        if !matches!(self.facts().kind, Kind::Regular | Kind::BlockDevice | Kind::CharDevice) {
            // Memory has no permission bits, and other users cannot access it.
            return Ok(0o600);
        }
        let file = self.file("read its metadata")?;
        let meta = file.metadata().map_err(|error| Error::io("read its metadata", &error))?;
        let list = match xattr(file, ACCESS_LIST, LONGEST_XATTR) {
            Ok(None) => Some(Vec::new()),
            Ok(Some(list)) => entries(&list),
            Err(_) => None,
        };
        Ok(match list {
            Some(list) => copied(meta.mode(), &list, meta.gid() == gid),
            // It is unknown who has which rights.
            None => meta.mode() & 0o700,
        })
    }
}

/// An entry of an access control list, for anybody but the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    rights: u32,
}

// The tags of linux/posix_acl.h.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// Parses a list in the format of linux/posix_acl_xattr.h: the version, 4 bytes, then entries of tag, rights (2 bytes
/// each) and user or group (4 bytes), all little-endian. `None` if it is not such a list.
fn entries(list: &[u8]) -> Option<Vec<Entry>> {
    let (version, rest) = list.split_first_chunk()?;
    let (entries, odd) = rest.as_chunks::<8>();
    if u32::from_le_bytes(*version) != 2 || !odd.is_empty() {
        return None;
    }
    let entry = |[tag, tag_high, rights, rights_high, ..]: &[u8; 8]| {
        let tag = u16::from_le_bytes([*tag, *tag_high]);
        let rights = u32::from(u16::from_le_bytes([*rights, *rights_high]));
        [OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHERS].contains(&tag).then_some(Entry { tag, rights })
    };
    entries.iter().map(entry).collect()
}

/// The permission bits for a copy of a file with this mode and access control list. `same_group` says whether both have
/// the same group.
fn copied(mode: u32, list: &[Entry], same_group: bool) -> u32 {
    let right = |tag| list.iter().find(|entry| entry.tag == tag).map(|entry| entry.rights);
    // With a list, the group bits of the mode are its mask: the most rights that anybody but the owner and others may
    // have.
    let mask = right(MASK).unwrap_or(0o7);
    let mut group = right(GROUP).map_or(mode >> 3 & 0o7, |rights| rights & mask);
    let mut others = right(OTHERS).unwrap_or(mode & 0o7);
    if !same_group {
        // For the copy, members of the file's group count as others, and some of the file's others are in the copy's
        // group.
        group &= others;
        others = group;
    }
    // A named user or group may belong to the copy's group, or to the others.
    for named in list.iter().filter(|entry| [USER, NAMED_GROUP].contains(&entry.tag)) {
        group &= named.rights & mask;
        others &= named.rights & mask;
    }
    mode & 0o700 | group << 3 | others
}

#[cfg(test)]
mod tests;
