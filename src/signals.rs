//! Ctrl-C and its kind, held back until the work is at a safe place.

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The signals that ask a process to stop.
const STOPPING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals that are blocked from when this is made and read here instead.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
    /// What was blocked before.
    mask_before: SigSet,
}

impl Signals {
    /// Holds back the signals that ask a process to stop, and `also`.
    pub fn hold(also: &[Signal]) -> anyhow::Result<Signals> {
        let mut set: SigSet = STOPPING.into_iter().collect();
        set.extend(also.iter().copied());
        let mask_before = set
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .context("cannot hold back signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let queue = SignalFd::with_flags(&set, flags).context("cannot wait for signals")?;
        Ok(Signals { queue, mask_before })
    }

    /// Runs `spawn` with the signals as they were before, because a child inherits what is blocked. One that comes in
    /// this moment ends the process as if it had come before.
    pub fn released<T>(&self, spawn: impl FnOnce() -> T) -> anyhow::Result<T> {
        with_mask(self.mask_before, spawn)
    }

    /// A signal that has come, if any.
    pub fn pending(&self) -> Option<Signal> {
        let info = self.queue.read_signal().ok().flatten()?;
        let signal = Signal::try_from(info.ssi_signo as i32).ok()?;
        // Blocked signals are queued even when nohup or the shell has them ignored.
        if is_ignored(signal) {
            self.pending()
        } else {
            Some(signal)
        }
    }

    /// Sleeps until a signal comes, or until `limit` is over (`None`).
    pub fn wait(&self, limit: Option<Duration>) -> Option<Signal> {
        let begin = Instant::now();
        loop {
            if let Some(signal) = self.pending() {
                return Some(signal);
            }
            let timeout = match limit {
                None => PollTimeout::NONE,
                Some(limit) => {
                    let left = limit.checked_sub(begin.elapsed())?;
                    // Rounded up, or the last millisecond would be spent spinning.
                    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
                }
            };
            // A failed poll (EINTR) is asked again like an early one.
            let _ = poll(&mut [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)], timeout);
        }
    }
}

/// Runs `work`, and lets through afterwards what it holds back and did not before: for one of several that share a
/// process. A signal that has come meanwhile then has its effect.
pub fn let_through_after<T>(work: impl FnOnce() -> T) -> T {
    let before = SigSet::thread_get_mask();
    let result = work();
    // One's own mask can always be read and set.
    let _ = before.and_then(|mask| mask.thread_set_mask());
    result
}

/// Runs `spawn` with the signals as they are, but for SIGXFSZ, which a child would inherit as blocked.
pub fn for_child<T>(spawn: impl FnOnce() -> T) -> anyhow::Result<T> {
    let mask = SigSet::thread_get_mask().context("cannot see which signals are held back")?;
    with_mask(mask, spawn)
}

fn with_mask<T>(mut mask: SigSet, spawn: impl FnOnce() -> T) -> anyhow::Result<T> {
    mask.remove(Signal::SIGXFSZ);
    let held = mask
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .context("cannot release signals")?;
    let result = spawn();
    held.thread_set_mask().context("cannot hold back signals")?;
    Ok(result)
}

/// SIGXFSZ would kill where EFBIG can be told: RLIMIT_FSIZE is then an error like any other.
pub fn refuse_sigxfsz() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGXFSZ);
    // Blocking one's own signal cannot fail.
    let _ = set.thread_block();
}

/// Ends the process by `signal`, so that whoever waits for it sees why. Returns only where it is ignored.
pub fn die_of(signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let mut set = SigSet::empty();
        set.add(signal);
        let _ = set.thread_unblock();
        let _ = raise(signal);
    }
}

fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    // SIGCHLD is "ignored" by default and wanted all the same.
    signal != Signal::SIGCHLD && mask >> (signal as u32 - 1) & 1 == 1
}
