//! The advisory lock that writers take, flock(2).

use super::{Backing, errno_of, patiently};
use crate::mapping::error::{Error, ErrorKind, Result};
use nix::errno::Errno;
use std::fs::TryLockError;
use std::time::Duration;

impl Backing {
    /// Takes an exclusive flock(2), which keeps out writers that take it as well. Waits for up to `patience`, and keeps
    /// the lock until the backing is dropped. The length and the rights are then read again, because another process
    /// may have changed them.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if another process keeps it for longer. On a file system without locks it succeeds without
    /// a lock: the lock is advisory.
    pub fn lock(&mut self, patience: Duration) -> Result<()> {
        let file = self.file("lock it")?;
        let outcome = patiently(patience, || match file.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            Ok(()) => Some(Ok(())),
            Err(TryLockError::Error(error)) => Some(Err(error)),
        });
        match outcome {
            None => Err(Error::new("lock it", None, ErrorKind::Locked)),
            Some(Err(error)) if errno_of(&error) == Errno::EINTR => Err(Error::io("lock it", &error)),
            Some(_) => {
                (self.patience, self.held) = (Some(patience), true);
                self.facts.len = self.usage()?.len;
                self.refresh_rights()
            }
        }
    }

    /// Whether this process holds the lock.
    pub fn holds_lock(&self) -> bool {
        self.held
    }

    /// Releases the lock for other processes, and returns whether it was held. It is released even if it was not known
    /// to be held, because a child shares it and may have taken it.
    pub(in crate::mapping) fn lend_lock(&mut self) -> Result<bool> {
        let (Some(file), Some(_)) = (&self.file, self.patience) else {
            return Ok(false);
        };
        file.unlock().map_err(|error| Error::io("unlock it", &error))?;
        Ok(std::mem::take(&mut self.held))
    }

    /// Takes the lock again if it was taken before, with the same timeout. This has no effect if it is still held, so
    /// it may be called when that is unknown: a child shares the lock and may have released it.
    pub(in crate::mapping) fn take_lock_back(&mut self) -> Result<()> {
        match self.patience {
            Some(patience) => {
                self.held = false;
                self.lock(patience)
            }
            None => Ok(()),
        }
    }
}
