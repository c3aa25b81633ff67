//! Blocks signals that would end the process until the work has reached a safe state.

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The signals that ask a process to stop.
const STOPPING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// The signals that do not end a process by default, that cannot be blocked, or that are handled at the start of the
/// program (SIGPIPE is ignored, SIGXFSZ is always blocked).
const HARMLESS: [Signal; 11] = [
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGKILL,
    Signal::SIGPIPE,
    Signal::SIGSTOP,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGXFSZ,
];

/// The signals that were blocked when the program started, which its children inherit.
static INHERITED: OnceLock<SigSet> = OnceLock::new();

/// Calls raise(3) for the signals that [`Signal`] does not name, see [`raise_unnamed_by`].
static RAISE: OnceLock<fn(i32)> = OnceLock::new();

/// Whether the signals that ask a process to stop are waited for, see [`Signals::hold`].
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Signals that are blocked while this exists, and read here instead.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
}

impl Signals {
    /// Blocks the signals that ask a process to stop, and `also`: for work that waits and changes nothing.
    pub fn hold(also: &[Signal]) -> anyhow::Result<Signals> {
        let mut set: SigSet = STOPPING.into_iter().collect();
        set.extend(also.iter().copied());
        AWAITED.store(true, Ordering::Relaxed);
        Signals::hold_set(&set)
    }

    /// Blocks every signal that would end the process and can be blocked: for work that would leave a file partly
    /// written. This includes the real-time signals, and those of a fault (such as SIGSEGV) that another process sends.
    /// For a fault of its own, the kernel ends a process even if the signal is blocked.
    pub fn hold_all() -> anyhow::Result<Signals> {
        let mut set = SigSet::all();
        HARMLESS.into_iter().for_each(|signal| set.remove(signal));
        Signals::hold_set(&set)
    }

    fn hold_set(set: &SigSet) -> anyhow::Result<Signals> {
        set.thread_block().context("cannot block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let queue = SignalFd::with_flags(set, flags).context("cannot wait for signals")?;
        Ok(Signals { queue })
    }

    /// The number of a signal that has arrived, if any.
    pub fn pending(&self) -> Option<i32> {
        let info = self.queue.read_signal().ok().flatten()?;
        let signal = info.ssi_signo as i32;
        // Blocked signals are queued even if nohup or the shell set them to be ignored.
        if is_ignored(signal) {
            self.pending()
        } else {
            Some(signal)
        }
    }

    /// Sleeps until a signal arrives, or until `limit` has passed (`None`).
    pub fn wait(&self, limit: Option<Duration>) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(signal) = self.pending() {
                return Some(signal);
            }
            let timeout = match limit {
                None => PollTimeout::NONE,
                Some(limit) => {
                    let left = limit.checked_sub(begin.elapsed())?;
                    // Rounded up, because otherwise the last millisecond would be spent spinning.
                    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
                }
            };
            // A failed poll (EINTR) is repeated, as one that returned early.
            let _ = poll(&mut [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)], timeout);
        }
    }
}

/// Whether the signals that ask a process to stop are waited for, and so do not end it while it writes.
pub fn are_awaited() -> bool {
    AWAITED.load(Ordering::Relaxed)
}

/// Whether a signal that asks the process to stop is pending.
pub fn is_asked_to_stop() -> bool {
    let has_come = |signal: &Signal| is_in("ShdPnd:", *signal as i32) || is_in("SigPnd:", *signal as i32);
    STOPPING.iter().any(|signal| has_come(signal) && !is_ignored(*signal as i32))
}

/// Runs `work`, and afterwards unblocks the signals that it blocked: for one of several tasks that share a process. A
/// signal that arrived meanwhile then takes effect.
pub fn let_through_after<T>(work: impl FnOnce() -> T) -> T {
    let before = SigSet::thread_get_mask();
    let result = work();
    // Reading and setting the calling thread's mask cannot fail.
    let _ = before.and_then(|mask| mask.thread_set_mask());
    result
}

/// Runs `spawn` with the signal mask from the start of the program, because a child inherits the mask. A signal that
/// arrives meanwhile ends the process as if it had arrived before.
pub fn for_child<T>(spawn: impl FnOnce() -> T) -> anyhow::Result<T> {
    let mask = match INHERITED.get() {
        Some(mask) => *mask,
        None => SigSet::thread_get_mask().context("cannot read the signal mask")?,
    };
    let held = mask.thread_swap_mask(SigmaskHow::SIG_SETMASK).context("cannot unblock signals")?;
    let result = spawn();
    held.thread_set_mask().context("cannot block signals")?;
    Ok(result)
}

/// Must be called first: records the signal mask for children, and blocks SIGXFSZ, so that exceeding RLIMIT_FSIZE is
/// reported as EFBIG instead of ending the process.
pub fn begin() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGXFSZ);
    // Reading and setting the calling thread's mask cannot fail.
    if let Ok(before) = set.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
        let _ = INHERITED.set(before);
    }
}

/// Sets the function that raises a real-time signal: nix has no name for these, and the C library's function is
/// `unsafe`.
pub fn raise_unnamed_by(raise: fn(i32)) {
    let _ = RAISE.set(raise);
}

/// Ends the process by `signal`, so that the parent process sees the reason. Returns only if the signal is ignored.
pub fn die_of(signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let mut set = SigSet::empty();
        set.add(signal);
        let _ = set.thread_unblock();
        let _ = raise(signal);
    } else if let Some(raise) = RAISE.get() {
        // Signals without a name can only be unblocked together.
        let mut set = SigSet::all();
        Signal::iterator().for_each(|signal| set.remove(signal));
        let _ = set.thread_unblock();
        raise(signal);
    }
}

fn is_ignored(signal: i32) -> bool {
    // SIGCHLD is "ignored" by default and needed nevertheless.
    signal != Signal::SIGCHLD as i32 && is_in("SigIgn:", signal)
}

/// Whether a signal is in one of the masks of proc_pid_status(5).
fn is_in(mask: &str, signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}
