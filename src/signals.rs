//! Signals that would end the process, held back until the work is at a safe place.

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

/// The signals that by default do not end a process, that cannot be held back, or that were dealt with at the start of
/// the program (SIGPIPE is ignored, SIGXFSZ blocked for good).
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

/// What was blocked when the program started, which its children are to inherit.
static INHERITED: OnceLock<SigSet> = OnceLock::new();

/// raise(3) for the signals that [`Signal`] has no name for, see [`raise_unnamed_by`].
static RAISE: OnceLock<fn(i32)> = OnceLock::new();

/// Somebody waits for the signals that ask a process to stop, see [`Signals::hold`].
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Signals that are blocked from when this is made and read here instead.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
}

impl Signals {
    /// Holds back the signals that ask a process to stop, and `also`: for work that waits and changes nothing.
    pub fn hold(also: &[Signal]) -> anyhow::Result<Signals> {
        let mut set: SigSet = STOPPING.into_iter().collect();
        set.extend(also.iter().copied());
        AWAITED.store(true, Ordering::Relaxed);
        Signals::hold_set(&set)
    }

    /// Holds back every signal that would end the process and can be held back: for work that would leave a file
    /// half-written. The real-time signals are among them, and those of a fault (SIGSEGV and its like) where another
    /// process sent them; the kernel ends a process for a fault of its own whether the signal is blocked or not.
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

    /// The number of a signal that has come, if any.
    pub fn pending(&self) -> Option<i32> {
        let info = self.queue.read_signal().ok().flatten()?;
        let signal = info.ssi_signo as i32;
        // Blocked signals are queued even when nohup or the shell has them ignored.
        if is_ignored(signal) {
            self.pending()
        } else {
            Some(signal)
        }
    }

    /// Sleeps until a signal comes, or until `limit` is over (`None`).
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
                    // Rounded up, or the last millisecond would be spent spinning.
                    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
                }
            };
            // A failed poll (EINTR) is asked again like an early one.
            let _ = poll(&mut [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)], timeout);
        }
    }
}

/// Whether the signals that ask a process to stop are waited for, and so do not end it while it writes.
pub fn are_awaited() -> bool {
    AWAITED.load(Ordering::Relaxed)
}

/// Whether one of them has come and nobody has read it yet.
pub fn is_asked_to_stop() -> bool {
    let has_come = |signal: &Signal| is_in("ShdPnd:", *signal as i32) || is_in("SigPnd:", *signal as i32);
    STOPPING
        .iter()
        .any(|signal| has_come(signal) && !is_ignored(*signal as i32))
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

/// Runs `spawn` with the signals that were blocked when the program started, because a child inherits what is blocked.
/// One that comes in this moment ends the process as if it had come before.
pub fn for_child<T>(spawn: impl FnOnce() -> T) -> anyhow::Result<T> {
    let mask = match INHERITED.get() {
        Some(mask) => *mask,
        None => SigSet::thread_get_mask().context("cannot read the signal mask")?,
    };
    let held = mask
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .context("cannot unblock signals")?;
    let result = spawn();
    held.thread_set_mask().context("cannot block signals")?;
    Ok(result)
}

/// Runs `start`, which starts a thread that may outlive the work it was started for, so that the thread takes no
/// signals: one that it took would end the process while another thread holds it back.
pub fn for_thread<T>(start: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let result = start();
    // One's own mask can always be read and set.
    let _ = before.and_then(|mask| mask.thread_set_mask());
    result
}

/// To be called first: remembers what is blocked, for children, and blocks SIGXFSZ, which would kill where EFBIG can be
/// reported. RLIMIT_FSIZE is then an error like any other.
pub fn begin() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGXFSZ);
    // One's own mask can always be read and set.
    if let Ok(before) = set.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
        let _ = INHERITED.set(before);
    }
}

/// Sets what raises a real-time signal: nix has no name for it, and the C library's function is `unsafe`.
pub fn raise_unnamed_by(raise: fn(i32)) {
    let _ = RAISE.set(raise);
}

/// Ends the process by `signal`, so that whoever waits for it sees why. Returns only where it is ignored.
pub fn die_of(signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let mut set = SigSet::empty();
        set.add(signal);
        let _ = set.thread_unblock();
        let _ = raise(signal);
    } else if let Some(raise) = RAISE.get() {
        // What has no name can be released only together.
        let mut set = SigSet::all();
        Signal::iterator().for_each(|signal| set.remove(signal));
        let _ = set.thread_unblock();
        raise(signal);
    }
}

fn is_ignored(signal: i32) -> bool {
    // SIGCHLD is "ignored" by default and wanted all the same.
    signal != Signal::SIGCHLD as i32 && is_in("SigIgn:", signal)
}

/// Whether a signal is in one of the masks of proc_pid_status(5).
fn is_in(mask: &str, signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}
