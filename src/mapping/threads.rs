//! Threads that help the one that was asked for a piece of work, and where they run.

use nix::sched::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, Scope, ScopedJoinHandle, available_parallelism};

/// Bytes of stack: a helper has only to read, count and store.
const STACK: usize = 256 << 10;

/// How often helpers are moved at the most, all of them together: on a busy machine it would not be the last time.
const MOVES: usize = 8;

/// Memory is as busy with more threads.
const MOST: usize = 4;

/// How many helpers are worth having beside this thread.
pub(super) fn helpers() -> usize {
    available_parallelism().map_or(1, NonZero::get).min(MOST) - 1
}

/// Starts a helper. `None` where no thread is to be had.
pub(super) fn start_helper<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok()
}

/// The thread that others help, told apart by its processor.
///
/// The kernel starts a thread, and wakes it up, where there is no work; or, where no processor looks idle, beside the one
/// that wakes it. In a virtual machine a halted processor looks like one that the host has taken away, so both threads
/// end up on one and take turns, and move too often for the kernel to see that. A helper that finds itself there moves on,
/// but only one that reads: there are filters (seccomp) that end a process for the call.
pub(super) struct Helped {
    /// The number of the processor.
    cpu: AtomicUsize,
    /// How often helpers were moved.
    moves: AtomicUsize,
}

impl Helped {
    /// This thread.
    pub(super) fn here() -> Helped {
        let helped = Helped {
            cpu: AtomicUsize::new(usize::MAX),
            moves: AtomicUsize::new(0),
        };
        helped.is_here();
        helped
    }

    /// Says anew where it runs: for the helped thread to call now and then.
    pub(super) fn is_here(&self) {
        if let Ok(cpu) = sched_getcpu() {
            self.cpu.store(cpu, Ordering::Relaxed);
        }
    }

    /// Moves the calling thread, a helper, away from the processor of the helped one; where it runs from then on is for
    /// the kernel to say, as before (sched_setaffinity(2), twice).
    pub(super) fn keep_off(&self) {
        let cpu = self.cpu.load(Ordering::Relaxed);
        if sched_getcpu() != Ok(cpu) || self.moves.fetch_add(1, Ordering::Relaxed) >= MOVES {
            return;
        }
        let this = Pid::from_raw(0);
        let Ok(all) = sched_getaffinity(this) else { return };
        let mut others = all;
        // Where there is no other one, that is refused.
        if others.unset(cpu).is_ok() && sched_setaffinity(this, &others).is_ok() {
            let _ = sched_setaffinity(this, &all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::CpuSet;

    #[test]
    fn a_helper_moves_to_another_processor_and_may_come_back() {
        let this = Pid::from_raw(0);
        let all = sched_getaffinity(this).unwrap();
        // The kernel may bring it back at any time.
        let moved = (0..100).any(|_| {
            let helped = Helped::here();
            let cpu = helped.cpu.load(Ordering::Relaxed);
            helped.keep_off();
            sched_getcpu() != Ok(cpu)
        });
        let processors = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap()).count();
        assert_eq!(moved, processors > 1);
        assert_eq!(sched_getaffinity(this).unwrap(), all);
    }

    #[test]
    fn helpers_move_no_more_than_a_few_times() {
        let helped = Helped::here();
        for _ in 0..100 {
            helped.is_here();
            helped.keep_off();
        }
        helped.is_here();
        let cpu = sched_getcpu();
        let stays = (0..100).any(|_| {
            helped.keep_off();
            sched_getcpu() == cpu
        });
        assert!(stays);
    }
}
