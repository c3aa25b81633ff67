//! How to map: the options of `map` that determine what is mapped, and how.

use crate::cmd::options::{RangeArgs, address};
use crate::edit::{Error, ErrorContext, Result};
use crate::mapping::{
    self, Access, Backing, ByteRange, ErrorKind, FileInfo, Kind, Limit, MapOptions, Prot, Region, Visibility,
};
use crate::number::Qty;
use crate::text;
use clap::ValueEnum;
use nix::errno::Errno;
use std::ffi::CString;

// What mapping to make, of any kind of memory.
#[derive(Debug, clap::Args)]
pub(super) struct MappingArgs {
    /// Stores change the file, for everybody who maps it (the default, except for anonymous memory)
    #[arg(long, conflicts_with = "private")]
    shared: bool,
    /// Stores stay in this mapping, as copies of its pages (the default for anonymous memory)
    #[arg(long)]
    private: bool,
    /// Access rights of the mapping [default: r for a file mapped shared that no verb stores into, otherwise rw]
    #[arg(long, value_name = "PROT")]
    prot: Option<Rights>,
    /// Reserve no swap space or huge pages in advance (MAP_NORESERVE)
    #[arg(long)]
    noreserve: bool,
    /// Use huge pages of this size for anonymous memory or a memfd: 2M, 1G [default: Hugepagesize of /proc/meminfo]
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true)]
    huge: Option<Option<Qty>>,
    /// Map at this address, a multiple of the page size, and never over another mapping
    #[arg(long, value_name = "ADDR", value_parser = address)]
    address: Option<usize>,
    /// Map persistent memory directly, so that stores need no msync (MAP_SYNC)
    #[arg(long, conflicts_with = "private")]
    dax: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rights {
    /// Read
    R,
    /// Read and write
    Rw,
    /// Read and execute
    Rx,
    /// Read, write and execute
    Rwx,
    /// No access: reserved address space
    None,
}

/// The maximum length of a memfd's name in bytes, see memfd_create(2).
const LONGEST_NAME: usize = 249;

impl Rights {
    fn prot(self) -> Prot {
        match self {
            Rights::R => Prot::Read,
            Rights::Rw => Prot::ReadWrite,
            Rights::Rx => Prot::ReadExec,
            Rights::Rwx => Prot::ReadWriteExec,
            Rights::None => Prot::None,
        }
    }
}

impl MappingArgs {
    /// How a backing with these facts is mapped; with `stores`, a verb of the session stores into it.
    pub(super) fn shape(&self, facts: &FileInfo, stores: bool) -> MapOptions {
        let anonymous = facts.kind == Kind::Anonymous;
        let private = self.private || (anonymous && !self.shared);
        let named = matches!(facts.kind, Kind::Regular | Kind::BlockDevice);
        let default = if named && !private && !stores {
            Rights::R
        } else {
            Rights::Rw
        };
        let visibility = if private {
            Visibility::Private
        } else {
            Visibility::Shared
        };
        MapOptions {
            noreserve: self.noreserve,
            address: self.address,
            dax: self.dax,
            ..MapOptions::whole(visibility, self.prot.unwrap_or(default).prot())
        }
    }

    /// Whether the user specified how to map.
    pub(super) fn is_given(&self) -> bool {
        self.shared || self.private || self.prot.is_some() || self.noreserve || self.dax
    }

    /// Whether the user specified an address.
    pub(super) fn has_address(&self) -> bool {
        self.address.is_some()
    }

    /// The access that is needed to map a file. A mapping that could store into the file needs a writable descriptor;
    /// for everything else, reading is enough.
    pub(super) fn access(&self, stores: bool) -> Access {
        let writes = self.prot.map_or(stores, |prot| prot.prot().writes());
        if writes && !self.private {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// Memory without a file of the user's: anonymous, or with `memfd`, a file without a name.
    pub(super) fn memory(&self, place: &RangeArgs, memfd: Option<&str>) -> Result<Backing> {
        let huge = self.huge_page()?;
        let len = wanted_len(place, huge.unwrap_or(mapping::page_size()))?;
        let Some(name) = memfd else {
            return Ok(Backing::anonymous(len.next_multiple_of(huge.unwrap_or(1)), huge));
        };
        if name.len() > LONGEST_NAME {
            let failure = Error::untouched(format!("the name has {} bytes", name.len()));
            return Err(failure.tip(format!("at most {LONGEST_NAME} bytes are allowed")));
        }
        let name = CString::new(name).map_err(anyhow::Error::new).context("the name has a NUL in it")?;
        let made = Backing::memfd(&name, len, huge);
        let refused = |error: &mapping::Error| matches!(error.cause, ErrorKind::Sys(Errno::ENODEV | Errno::EINVAL));
        match made {
            Err(error) if huge.is_some() && refused(&error) => Err(error).map_failure(no_such_pages),
            made => Ok(made?),
        }
    }

    /// Rejects options that have no meaning for a file.
    pub(super) fn for_file(&self, facts: &FileInfo) -> Result<()> {
        if self.huge.is_some() && facts.page == mapping::page_size() {
            let failure = Error::untouched("--huge is for memory, and a file has the pages of its file system");
            return Err(failure
                .tip("use --memfd or --anonymous, a file on hugetlbfs, or --advise hugepage for a file on tmpfs"));
        }
        Ok(())
    }

    /// Maps the region; if that fails, the error explains which option may be the cause.
    pub(super) fn region(&self, backing: Backing, span: ByteRange, stores: bool) -> Result<Region> {
        let shape = self.shape(backing.facts(), stores);
        let page = backing.facts().page;
        if let Some(address) = self.address.filter(|address| !(*address as u64).is_multiple_of(page)) {
            return Err(mapping::Error::new("map", Some(span), ErrorKind::Unaligned(address, page)).into());
        }
        let huge = self.huge.is_some();
        let in_file = backing.facts().is_file() && backing.path().is_some();
        let mut region = Region::new(backing, span, shape)?;
        let unsupported =
            |error: &mapping::Error| matches!(error.cause, ErrorKind::Sys(Errno::EOPNOTSUPP | Errno::EINVAL));
        match region.map_now() {
            Err(error) if self.dax && unsupported(&error) => Err(error).map_failure(|| {
                let message = "--dax needs a file in persistent memory, on a file system mounted with -o dax";
                Error::untouched(message).tip(match in_file {
                    true => format!("leave it out: stores are durable after 'mmapctl sync {}'", text::FILE),
                    false => "leave it out".into(),
                })
            }),
            Err(error) if self.address.is_some() && error.cause == ErrorKind::Sys(Errno::ENOMEM) => Err(error)
                .map_failure(|| {
                    let message = "there is no room for it at that --address";
                    Error::untouched(message).tip("leave it out, and the kernel chooses an address")
                }),
            Err(error) if huge && unsupported(&error) => Err(error).map_failure(no_such_pages),
            Err(error) => Err(error.into()),
            // For reading it was mapped privately, which is not what the user asked for.
            Ok(_) if self.shared && region.shape().visibility == Visibility::Private => {
                let failure = Error::untouched("its file system has no shared mappings (ENODEV)");
                Err(failure.tip("leave out --shared, and it is mapped private"))
            }
            Ok(_) => Ok(region),
        }
    }

    /// The requested size of huge pages, in bytes.
    fn huge_page(&self) -> Result<Option<u64>> {
        let wanted = match self.huge {
            None => return Ok(None),
            Some(None) => mapping::huge_page(),
            Some(Some(size)) => Some(size.bytes(mapping::page_size())?),
        };
        match wanted {
            Some(size) if size.is_power_of_two() && size > mapping::page_size() => Ok(Some(size)),
            _ => Err(no_such_pages()),
        }
    }
}

fn no_such_pages() -> Error {
    Error::untouched("this machine has no huge pages of that size")
        .tip("'ls /sys/kernel/mm/hugepages' shows which it has; write --huge=2M")
}

/// The requested length of new memory, which has no length of its own. Rounding it up to whole pages does not overflow.
pub(super) fn wanted_len(place: &RangeArgs, page: u64) -> Result<u64> {
    match place.length {
        Some(length) if place.offset.is_none() => {
            let len = length.bytes(page)?;
            let whole = len.checked_next_multiple_of(page).map(i64::try_from);
            match whole {
                Some(Ok(_)) => Ok(len),
                _ => {
                    let cause = ErrorKind::Limit(Limit::of_addresses(len));
                    Err(mapping::Error::new("map", Some(ByteRange::first(len)), cause).into())
                }
            }
        }
        _ => {
            let failure = Error::untouched("no length of the memory was given");
            Err(failure.tip("add --length 4K, and no --offset or --range"))
        }
    }
}
