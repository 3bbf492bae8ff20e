use super::{LONG, SHORT, until};
use crate::sync::{Barrier, BarrierError};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

#[test]
fn all_pass_together_again_and_again() {
    const PARTIES: usize = 4;
    let barrier = Barrier::new(PARTIES);
    let (arrived, leaders) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for _ in 0..PARTIES {
            s.spawn(|| {
                for round in 1..=100 {
                    arrived.fetch_add(1, SeqCst);
                    let passed = barrier.wait().unwrap();
                    assert!(arrived.load(SeqCst) >= round * PARTIES);
                    leaders.fetch_add(usize::from(passed.is_leader()), SeqCst);
                    barrier.wait().unwrap();
                }
            });
        }
    });
    assert_eq!(leaders.into_inner(), 100);
    assert_eq!((barrier.parties(), barrier.waiting()), (PARTIES, 0));
}

#[test]
fn one_that_gives_up_breaks_it_for_all() {
    let barrier = Barrier::new(3);
    thread::scope(|s| {
        let patient = s.spawn(|| barrier.wait());
        until(|| barrier.waiting() == 1);
        assert_eq!(barrier.wait_timeout(SHORT), Err(BarrierError::TimedOut));
        assert_eq!(patient.join().unwrap(), Err(BarrierError::Broken));
    });
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait_timeout(LONG), Err(BarrierError::Broken));
    barrier.reset();
    assert!(!barrier.is_broken());
    assert_eq!(
        barrier.wait_deadline(std::time::Instant::now()),
        Err(BarrierError::TimedOut)
    );
}

#[test]
fn aborted_and_reset() {
    let barrier = Barrier::new(2);
    let broken_by = |action: fn(&Barrier)| {
        thread::scope(|s| {
            let waiter = s.spawn(|| barrier.wait());
            until(|| barrier.waiting() == 1);
            action(&barrier);
            assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
        });
    };
    broken_by(Barrier::reset);
    assert!(!barrier.is_broken());
    broken_by(Barrier::abort);
    assert!(barrier.is_broken());
}

#[test]
fn of_one_and_of_none() {
    for parties in [0, 1] {
        let passed = Barrier::new(parties).wait().unwrap();
        assert!(passed.is_leader());
        assert_eq!(passed.index(), 0);
    }
}
