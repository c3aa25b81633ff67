//! The rights that a file gives beyond its permission bits: the privileges of a program, which a store must take away,
//! and the access control list, which a copy of the file's bytes must not exceed.

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

/// What a program file gives to the process that runs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privileges {
    /// The set-user-ID bit, or the set-group-ID bit with the group's execute permission.
    pub set_id: bool,
    /// The set-group-ID bit without that permission, which gives nothing, but which write(2) takes away from whoever is
    /// not in the group.
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
            // EOVERFLOW: those of another user namespace.
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
        let meta = file
            .metadata()
            .map_err(|error| Error::io("read its metadata", &error))?;
        Ok(Privileges::of(file, meta.mode()))
    }

    /// Before the first store: takes away what write(2) would take away, which a store through a mapping does not. That is
    /// file capabilities, and the set-ID bits unless we have CAP_FSETID, as root has.
    ///
    /// # Errors
    /// EPERM when they stay. Nothing has been stored then.
    pub(in crate::mapping) fn drop_privileges(&self) -> Result<()> {
        if !self.facts().privileges.any() || !self.privileges()?.any() {
            return Ok(());
        }
        let file = self.file("store")?;
        // The kernel applies the rule of write(2) to fallocate(2) as well, which changes no byte. Where the file system
        // does not know the call, or is older than that rule (Linux 5.17), a change of owner to nobody new takes away all.
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

    /// The privileges that the file had when it was opened for writing and has no more.
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

    /// Gives `copy`, a new file of ours that gets bytes of this one, its permissions: what the owner of this file may do
    /// we may do with the copy, and nobody else may do more with the copy than with this file. `umask` takes away more.
    ///
    /// # Errors
    /// What keeps this file or the copy from being looked at. A file system on which permissions cannot be set keeps
    /// those that `copy` was made with.
    pub fn protect_copy(&self, copy: &File, umask: Mode) -> Result<()> {
        let gid = copy
            .metadata()
            .map_err(|error| Error::io("read its metadata", &error))?
            .gid();
        let mode = self.mode_of_copy(gid)? & !umask.bits();
        // A folder may have given the copy a list of its own, whose entries the group bits would bring to life.
        if remove_xattr(copy, ACCESS_LIST).is_ok() {
            let _ = fchmod(copy, Mode::from_bits_truncate(mode));
        }
        Ok(())
    }

    /// The permission bits for a file of ours, and of the group `gid`, that has bytes of this one.
    fn mode_of_copy(&self, gid: u32) -> Result<u32> {
        if !matches!(self.facts().kind, Kind::Regular | Kind::BlockDevice | Kind::CharDevice) {
            // Memory has no permission bits, and no other user can reach it.
            return Ok(0o600);
        }
        let file = self.file("read its metadata")?;
        let meta = file
            .metadata()
            .map_err(|error| Error::io("read its metadata", &error))?;
        let list = match xattr(file, ACCESS_LIST, LONGEST_XATTR) {
            Ok(None) => Some(Vec::new()),
            Ok(Some(list)) => entries(&list),
            Err(_) => None,
        };
        Ok(match list {
            Some(list) => copied(meta.mode(), &list, meta.gid() == gid),
            // Who may do what is not known.
            None => meta.mode() & 0o700,
        })
    }
}

/// An entry of an access control list that is for others than the owner.
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

/// Reads the list as linux/posix_acl_xattr.h has it: the version, 4 bytes, then entries of tag, rights (2 bytes each) and
/// user or group (4 bytes), all little-endian. `None` for what is no such list.
fn entries(list: &[u8]) -> Option<Vec<Entry>> {
    let (version, rest) = list.split_first_chunk()?;
    let (entries, odd) = rest.as_chunks::<8>();
    if u32::from_le_bytes(*version) != 2 || !odd.is_empty() {
        return None;
    }
    let entry = |[tag, tag_high, rights, rights_high, ..]: &[u8; 8]| {
        let tag = u16::from_le_bytes([*tag, *tag_high]);
        let rights = u32::from(u16::from_le_bytes([*rights, *rights_high]));
        [OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHERS]
            .contains(&tag)
            .then_some(Entry { tag, rights })
    };
    entries.iter().map(entry).collect()
}

/// The permission bits for a copy of a file with this mode and access control list; `same_group` says whether both belong
/// to one group.
fn copied(mode: u32, list: &[Entry], same_group: bool) -> u32 {
    let right = |tag| list.iter().find(|entry| entry.tag == tag).map(|entry| entry.rights);
    // With a list, the group bits of the mode are its mask: the most that anybody but the owner and others may do.
    let mask = right(MASK).unwrap_or(0o7);
    let mut group = right(GROUP).map_or(mode >> 3 & 0o7, |rights| rights & mask);
    let mut others = right(OTHERS).unwrap_or(mode & 0o7);
    if !same_group {
        // The members of the file's group are others to the copy, and some of the others are its group.
        group &= others;
        others = group;
    }
    // Somebody who is named may be a member of the copy's group, or one of the others.
    for named in list.iter().filter(|entry| [USER, NAMED_GROUP].contains(&entry.tag)) {
        group &= named.rights & mask;
        others &= named.rights & mask;
    }
    mode & 0o700 | group << 3 | others
}

#[cfg(test)]
mod tests;
