//! Tests of threads.rs.

use super::super::ErrorKind;
use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// Squares of 0 to `count`, computed with `helpers` helpers. The one at `bad` fails, and the caller stops at `stop`.
fn squares(count: u64, helpers: usize, bad: u64, stop: u64) -> (Vec<u64>, Option<ErrorKind>) {
    let mut next = 0;
    let taken = AtomicU64::new(0);
    let mut squares = Vec::new();
    let sharing = Sharing {
        helpers,
        alone: 0,
        ahead: 3,
        meanwhile: None,
    };
    let error = |signal| Error::new("count", None, ErrorKind::Interrupted(signal));
    let result = share(
        sharing,
        &mut (),
        |()| Some(()),
        |()| {
            taken.fetch_add(1, Ordering::Relaxed);
            next += 1;
            Ok(Some(next - 1).filter(|number| *number < count))
        },
        |(), number: &mut u64, square: &mut u64| {
            *square = *number * *number;
            if *number == bad { Err(error(1)) } else { Ok(()) }
        },
        |number, square| {
            squares.push(*square);
            if number == stop { Err(error(2)) } else { Ok(()) }
        },
    );
    assert!(taken.into_inner() <= stop.min(bad).min(count).saturating_add(2 + 3 * (helpers as u64 + 1)));
    (squares, result.err().map(|error| error.cause))
}

#[test]
fn results_come_in_order_and_end_with_the_first_error() {
    let expected = |count: u64| (0..count).map(|number| number * number).collect::<Vec<u64>>();
    for helpers in [0, 1, 3] {
        for count in [0, 1, 5, 5000] {
            assert_eq!(squares(count, helpers, u64::MAX, u64::MAX), (expected(count), None));
        }
        let bad = squares(5000, helpers, 777, u64::MAX);
        assert_eq!(bad, (expected(778), Some(ErrorKind::Interrupted(1))));
        let stopped = squares(5000, helpers, 4000, 777);
        assert_eq!(stopped, (expected(778), Some(ErrorKind::Interrupted(2))));
    }
}

#[test]
fn a_caller_that_looks_in_leaves_the_work_to_others() {
    let (mut looks, mut next, mut sum) = (0, 0, 0);
    let caller = thread::current().id();
    let sharing = Sharing {
        helpers: 2,
        alone: 0,
        ahead: 2,
        meanwhile: Some((Duration::from_millis(1), &mut || looks += 1)),
    };
    let take = |(): &mut ()| {
        next += 1;
        Ok(Some(next).filter(|number| *number <= 4))
    };
    let work = |(): &mut (), number: &mut u64, content: &mut u64| {
        assert_ne!(thread::current().id(), caller);
        thread::sleep(Duration::from_millis(20));
        *content = *number;
        Ok(())
    };
    let each = |_, content: &mut u64| {
        sum += *content;
        Ok::<(), Error>(())
    };
    share(sharing, &mut (), |()| Some(()), take, work, each).unwrap();
    assert_eq!(sum, 10);
    assert!(looks > 0);
}
