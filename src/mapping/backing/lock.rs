//! The advisory lock that writers take, flock(2).

use super::{Backing, errno_of, patiently};
use crate::mapping::error::{Error, ErrorKind, Result};
use nix::errno::Errno;
use std::fs::TryLockError;
use std::time::Duration;

impl Backing {
    /// Holds the file against writers that ask: an exclusive flock(2), waited for up to `patience`, kept until
    /// the backing is dropped. The length and the rights are then looked at anew, for the other may have changed them.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] when another process keeps it for longer. A file system without locks gives none and
    /// is no error: the lock is advice.
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

    /// Whether the lock is ours.
    pub fn holds_lock(&self) -> bool {
        self.held
    }

    /// Lets others have the lock; says whether it was held. It is unlocked even where it was not known to be held: a
    /// child shares it, and may have taken it.
    pub(in crate::mapping) fn lend_lock(&mut self) -> Result<bool> {
        let (Some(file), Some(_)) = (&self.file, self.patience) else {
            return Ok(false);
        };
        file.unlock().map_err(|error| Error::io("unlock it", &error))?;
        Ok(std::mem::take(&mut self.held))
    }

    /// Takes the lock again if it was taken before, and waits for that as long as for the first time. It makes no
    /// difference where it is still held, so this is also for a lock of which that is not known: a child that shares it
    /// may have unlocked it.
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
