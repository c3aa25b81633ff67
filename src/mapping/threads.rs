//! Work shared among threads: pieces are taken in order, done by whoever has time, and their results used in order.

use super::error::{Error, Result};
use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, available_parallelism};
use std::time::{Duration, Instant};

/// Bytes of stack of a helper.
const STACK: usize = 512 << 10;

/// More threads would find memory busy.
const MAX_THREADS: usize = 4;

/// About as long as the start of a helper takes.
const ALONE: Duration = Duration::from_micros(100);

/// How many helpers are worth having beside this thread.
fn helpers() -> usize {
    available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS) - 1
}

/// How work is shared.
pub struct Sharing<'a> {
    /// How many threads may help at the most.
    pub helpers: usize,
    /// For how long this thread works alone: what takes no longer is not worth the start of a helper.
    pub alone: Duration,
    /// How many results that are not due yet there may be for each thread.
    pub ahead: usize,
    /// What the calling thread does so often while it waits. With this it takes no piece itself.
    pub meanwhile: Option<(Duration, &'a mut dyn FnMut())>,
}

impl Sharing<'_> {
    /// Among as many threads as help, which may have `ahead` results each that are not due yet.
    pub(super) fn of(ahead: usize) -> Self {
        Sharing {
            helpers: helpers(),
            alone: ALONE,
            ahead,
            meanwhile: None,
        }
    }

    /// As many results as that take little memory.
    pub(super) fn of_small_results() -> Self {
        Sharing::of(64)
    }
}

/// A piece that is done, or that could not be taken.
struct Done<P, T> {
    piece: Option<P>,
    content: T,
    result: Result<()>,
}

struct State<F, P, T> {
    take: F,
    /// How many pieces were taken, and the results of how many were used.
    taken: u64,
    used: u64,
    /// There are no more pieces, or none is wanted.
    is_over: bool,
    /// Results of the pieces from the one that is due on.
    done: VecDeque<Option<Done<P, T>>>,
    /// Memory of results that were used.
    spare: Vec<T>,
    threads: usize,
    caller_waits: bool,
    helpers_wait: bool,
}

struct Shared<F, P, T> {
    state: Mutex<State<F, P, T>>,
    /// The result that is due is there.
    due: Condvar,
    /// There is room for more results.
    room: Condvar,
}

/// Takes piece after piece by `take`, does each by `work` in the memory of a result that was used before, and hands the
/// results to `each`, in the order in which the pieces were taken. Any thread takes and does pieces, with `means` of its
/// own; `lend` makes those of a helper, or says that there can be no more of them. Ends with the first error in that
/// order, once all results before it were used; what was done of the piece that failed is handed on, too.
///
/// # Errors
/// What `take`, `work` and `each` give.
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
        state: Mutex::new(State {
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
        let mut state = shared.lock();
        loop {
            if let Some(Some(_)) = state.done.front() {
                let Some(done) = state.done.pop_front().flatten() else {
                    continue;
                };
                drop(state);
                let mut content = done.content;
                done.piece.map_or(Ok(()), |piece| each(piece, &mut content))?;
                done.result?;
                state = shared.lock();
                state.spare.push(content);
                state.used += 1;
                // Woken for half of the room at a time, helpers need not wait for each piece.
                if state.helpers_wait && state.has_room(ahead.div_ceil(2)) {
                    state.helpers_wait = false;
                    shared.room.notify_all();
                }
                continue;
            }
            if state.is_over && state.used == state.taken {
                return Ok(());
            }
            if may_help > 0 && !state.is_over && begin.elapsed() >= alone {
                may_help -= 1;
                let help = |mut means| move || shared.help(&mut means, ahead, work);
                let start = |means| Builder::new().stack_size(STACK).spawn_scoped(scope, help(means)).ok();
                match lend(means).and_then(start) {
                    Some(_) => state.threads += 1,
                    None => may_help = 0,
                }
                continue;
            }
            let takes = meanwhile.is_none() || state.threads == 1;
            if takes && !state.is_over && state.has_room(ahead) {
                if let Some((number, piece, content)) = state.next(means) {
                    drop(state);
                    let done = do_piece(means, piece, content, work);
                    state = shared.lock();
                    state.put(number, done);
                }
                continue;
            }
            state.caller_waits = true;
            state = match &mut meanwhile {
                None => shared.due.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some((often, look)) => {
                    let waited = shared.due.wait_timeout(state, *often);
                    let (state, time) = waited.unwrap_or_else(PoisonError::into_inner);
                    if time.timed_out() {
                        look();
                    }
                    state
                }
            };
            state.caller_waits = false;
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

impl<F, P, T: Default> State<F, P, T> {
    fn has_room(&self, ahead: usize) -> bool {
        self.taken - self.used < (ahead * self.threads) as u64
    }

    /// The next piece, its number, and memory for its result. `None` where there is none, or where that cannot be said,
    /// which is a result of its own.
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
        // Nobody wants what comes after an error.
        self.is_over |= done.result.is_err();
        // Those in front of it were popped, and the one that is being used was not counted yet.
        let first = self.taken - self.done.len() as u64;
        self.done[(number - first) as usize] = Some(done);
    }
}

impl<F, P, T: Default> Shared<F, P, T> {
    fn lock(&self) -> MutexGuard<'_, State<F, P, T>> {
        // No thread leaves it half-way, as none panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes and does pieces until there are no more. A panic ends the process, as the caller would wait for ever.
    fn help<W>(&self, means: &mut W, ahead: usize, work: &impl Fn(&mut W, &mut P, &mut T) -> Result<()>)
    where
        F: FnMut(&mut W) -> Result<Option<P>>,
    {
        let _abort = AbortOnPanic;
        let mut state = self.lock();
        while !state.is_over {
            if !state.has_room(ahead) {
                state.helpers_wait = true;
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some((number, piece, content)) = state.next(means) {
                drop(state);
                let done = do_piece(means, piece, content, work);
                state = self.lock();
                state.put(number, done);
            }
            self.tell_caller(&state);
        }
        self.tell_caller(&state);
    }

    fn tell_caller(&self, state: &State<F, P, T>) {
        let is_due = matches!(state.done.front(), Some(Some(_)));
        if state.caller_waits && (is_due || state.is_over) {
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

/// Sends the helpers home, however the caller leaves.
struct EndOnDrop<'a, F, P, T: Default>(&'a Shared<F, P, T>);

impl<F, P, T: Default> Drop for EndOnDrop<'_, F, P, T> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests;
