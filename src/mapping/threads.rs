//! Work shared among threads: pieces are taken in order, processed by any thread, and their results are used in order.

use super::error::{Error, Result};
use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, available_parallelism};
use std::time::{Duration, Instant};

/// Length of a helper's stack in bytes.
const STACK: usize = 512 << 10;

/// More threads would only wait for memory.
const MAX_THREADS: usize = 4;

/// About the time that it takes to start a helper.
const START: Duration = Duration::from_micros(100);

/// The number of pieces that the caller takes before it starts a helper, so that small work is done by one thread even
/// on a slow system.
const ALONE: u64 = 16;

/// How many helpers are useful besides this thread. Asked once: that reads eight files of control groups.
fn helpers() -> usize {
    static HELPERS: LazyLock<usize> =
        LazyLock::new(|| available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS) - 1);
    *HELPERS
}

/// How work is shared.
pub struct Sharing<'a> {
    /// The maximum number of helpers.
    pub helpers: usize,
    /// A helper is started after this many pieces were taken and, unless this is 0, only if they took at least as long
    /// as the start of a helper.
    pub alone: u64,
    /// How many results each thread may produce before they are due.
    pub ahead: usize,
    /// A function that the calling thread calls at this interval while it waits. With this, the calling thread takes no
    /// pieces itself once there are helpers.
    pub meanwhile: Option<(Duration, &'a mut dyn FnMut())>,
}

impl Sharing<'_> {
    /// With as many helpers as are useful. Each thread may produce `ahead` results before they are due.
    pub(super) fn of(ahead: usize) -> Self {
        Sharing {
            helpers: helpers(),
            alone: ALONE,
            ahead,
            meanwhile: None,
        }
    }

    /// With as many results ahead as need little memory.
    pub(super) fn of_small_results() -> Self {
        Sharing::of(64)
    }
}

/// A piece that was processed, or the error of taking it.
struct Done<P, T> {
    piece: Option<P>,
    content: T,
    result: Result<()>,
}

struct Queue<F, P, T> {
    take: F,
    /// How many pieces were taken, and how many of their results were used.
    taken: u64,
    used: u64,
    /// There are no more pieces, or no more are wanted.
    is_over: bool,
    /// The results from the next one that is due on.
    done: VecDeque<Option<Done<P, T>>>,
    /// Memory of results that were used, for reuse.
    spare: Vec<T>,
    threads: usize,
    caller_waits: bool,
    helpers_wait: bool,
}

struct Shared<F, P, T> {
    queue: Mutex<Queue<F, P, T>>,
    /// Signals that the result that is due is available.
    due: Condvar,
    /// Signals that there is room for more results.
    room: Condvar,
}

/// Takes pieces by `take`, processes each by `work`, and passes the results to `each`, in the order in which the pieces
/// were taken. `work` reuses the memory of earlier results. Any thread takes and processes pieces, with its own
/// `means`; `lend` creates those of a helper, or returns `None` if there can be no more helpers. Ends with the first
/// error in that order, after all results before it were used. The part of the failed piece that was processed is
/// passed on as well.
///
/// # Errors
/// Any error of `take`, `work` and `each`.
pub fn share<W: Send, P: Send, T: Default + Send, E: From<Error>>(
    sharing: Sharing<'_>,
    means: &mut W,
    mut lend: impl FnMut(&mut W) -> Option<W>,
    take: impl FnMut(&mut W) -> Result<Option<P>> + Send,
    work: impl Fn(&mut W, &mut P, &mut T) -> Result<()> + Sync,
    mut each: impl FnMut(P, &mut T) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let Sharing {
        helpers,
        alone,
        ahead,
        mut meanwhile,
    } = sharing;
    let shared = &Shared {
        queue: Mutex::new(Queue {
            take,
            taken: 0,
            used: 0,
            is_over: false,
            done: VecDeque::new(),
            spare: Vec::new(),
            threads: 1,
            caller_waits: false,
            helpers_wait: false,
        }),
        due: Condvar::new(),
        room: Condvar::new(),
    };
    let (work, begin) = (&work, Instant::now());
    thread::scope(|scope| {
        let _end = EndOnDrop(shared);
        let mut may_help = helpers;
        let mut queue = shared.lock();
        loop {
            if let Some(Some(_)) = queue.done.front() {
                let Some(done) = queue.done.pop_front().flatten() else {
                    continue;
                };
                drop(queue);
                let mut content = done.content;
                done.piece.map_or(Ok(()), |piece| each(piece, &mut content))?;
                done.result?;
                queue = shared.lock();
                queue.spare.push(content);
                queue.used += 1;
                // Helpers are woken when half of the room is free, so that they need not wait for each piece.
                if queue.helpers_wait && queue.has_room(ahead.div_ceil(2)) {
                    queue.helpers_wait = false;
                    shared.room.notify_all();
                }
                continue;
            }
            if queue.is_over && queue.used == queue.taken {
                return Ok(());
            }
            let is_due = queue.taken >= alone && (alone == 0 || begin.elapsed() >= START);
            if may_help > 0 && !queue.is_over && is_due {
                may_help -= 1;
                let help = |mut means| move || shared.help(&mut means, ahead, work);
                let start = |means| Builder::new().stack_size(STACK).spawn_scoped(scope, help(means)).ok();
                match lend(means).and_then(start) {
                    Some(_) => queue.threads += 1,
                    None => may_help = 0,
                }
                continue;
            }
            let takes = meanwhile.is_none() || queue.threads == 1;
            if takes && !queue.is_over && queue.has_room(ahead) {
                if let Some((number, piece, content)) = queue.next(means) {
                    drop(queue);
                    let done = do_piece(means, piece, content, work);
                    queue = shared.lock();
                    queue.put(number, done);
                }
                continue;
            }
            queue.caller_waits = true;
            queue = match &mut meanwhile {
                None => shared.due.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some((often, look)) => {
                    let waited = shared.due.wait_timeout(queue, *often);
                    let (queue, time) = waited.unwrap_or_else(PoisonError::into_inner);
                    if time.timed_out() {
                        look();
                    }
                    queue
                }
            };
            queue.caller_waits = false;
        }
    })
}

fn do_piece<W, P, T>(
    means: &mut W,
    mut piece: P,
    mut content: T,
    work: &impl Fn(&mut W, &mut P, &mut T) -> Result<()>,
) -> Done<P, T> {
    let result = work(means, &mut piece, &mut content);
    Done {
        piece: Some(piece),
        content,
        result,
    }
}

impl<F, P, T: Default> Queue<F, P, T> {
    fn has_room(&self, ahead: usize) -> bool {
        self.taken - self.used < (ahead * self.threads) as u64
    }

    /// The next piece, its number, and memory for its result. `None` if there is none, or if taking it failed, which is
    /// recorded as a result.
    fn next<W>(&mut self, means: &mut W) -> Option<(u64, P, T)>
    where
        F: FnMut(&mut W) -> Result<Option<P>>,
    {
        if self.is_over {
            return None;
        }
        let piece = (self.take)(means);
        if let Ok(None) = piece {
            self.is_over = true;
            return None;
        }
        let number = self.taken;
        self.taken += 1;
        self.done.push_back(None);
        let content = self.spare.pop().unwrap_or_default();
        match piece {
            Ok(piece) => Some((number, piece?, content)),
            Err(error) => {
                let (piece, result) = (None, Err(error));
                self.put(number, Done { piece, content, result });
                None
            }
        }
    }

    fn put(&mut self, number: u64, done: Done<P, T>) {
        // Pieces after an error are not needed.
        self.is_over |= done.result.is_err();
        // Results before it were removed, and the one in use is not counted as used yet.
        let first = self.taken - self.done.len() as u64;
        self.done[(number - first) as usize] = Some(done);
    }
}

impl<F, P, T: Default> Shared<F, P, T> {
    fn lock(&self) -> MutexGuard<'_, Queue<F, P, T>> {
        // No thread leaves the queue inconsistent, because none panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes and processes pieces until there are no more. A panic aborts the process, because the caller would wait
    /// forever.
    fn help<W>(&self, means: &mut W, ahead: usize, work: &impl Fn(&mut W, &mut P, &mut T) -> Result<()>)
    where
        F: FnMut(&mut W) -> Result<Option<P>>,
    {
        let _abort = AbortOnPanic;
        let mut queue = self.lock();
        while !queue.is_over {
            if !queue.has_room(ahead) {
                queue.helpers_wait = true;
                queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some((number, piece, content)) = queue.next(means) {
                drop(queue);
                let done = do_piece(means, piece, content, work);
                queue = self.lock();
                queue.put(number, done);
            }
            self.tell_caller(&queue);
        }
        self.tell_caller(&queue);
    }

    fn tell_caller(&self, queue: &Queue<F, P, T>) {
        let is_due = matches!(queue.done.front(), Some(Some(_)));
        if queue.caller_waits && (is_due || queue.is_over) {
            self.due.notify_one();
        }
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Ends the helpers, however the caller returns.
struct EndOnDrop<'a, F, P, T: Default>(&'a Shared<F, P, T>);

impl<F, P, T: Default> Drop for EndOnDrop<'_, F, P, T> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests;
