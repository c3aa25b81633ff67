//! A second thread that reads a range after another while the first works on the bytes that came before.

use super::error::Error;
use super::region::Region;
use super::span::Span;
use super::threads::{Helped, start_helper};
use nix::errno::Errno;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// What came of a range: its bytes as far as they were read, and what kept the rest from it.
type Answer<E> = (Vec<u8>, Result<(), E>);

/// A thread that reads what it is asked for, in that order, by windows of its own. It ends when this is dropped.
pub struct Ahead<E> {
    ask: Sender<(Span, Vec<u8>)>,
    take: Receiver<Answer<E>>,
    helped: Arc<Helped>,
}

impl<E: From<Error> + Send> Ahead<E> {
    /// Starts one in `scope` that reads of `region` by `read`, which puts the bytes of a range in place of those it is
    /// given. `None` where the file cannot be [mapped once more](Region::again), or no thread is to be had.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        region: &Region,
        read: fn(&mut Region, Span, &mut Vec<u8>) -> Result<(), E>,
    ) -> Option<Ahead<E>>
    where
        E: 'scope,
    {
        let mut region = region.again()?;
        let (ask, asked) = channel::<(Span, Vec<u8>)>();
        let (give, take) = channel();
        let helped = Arc::new(Helped::here());
        let reader = Arc::clone(&helped);
        let work = move || {
            for (span, mut have) in asked {
                reader.keep_off();
                let result = read(&mut region, span, &mut have);
                // Nobody takes it any more when what stood before it was wrong.
                if give.send((have, result)).is_err() {
                    return;
                }
            }
        };
        start_helper(scope, work)?;
        Some(Ahead { ask, take, helped })
    }

    /// Asks for the bytes of `span`, in the memory of `have`.
    pub fn ask(&self, span: Span, have: Vec<u8>) {
        self.helped.is_here();
        // One that is gone does not answer, either.
        let _ = self.ask.send((span, have));
    }

    /// Waits for what was asked for first and not taken yet.
    pub fn take(&self) -> Answer<E> {
        // It has no way to end before this is dropped, so there is always an answer to what was asked.
        let gone = || (Vec::new(), Err(Error::sys("read", None, Errno::EIO).into()));
        self.take.recv().unwrap_or_else(|_| gone())
    }
}
