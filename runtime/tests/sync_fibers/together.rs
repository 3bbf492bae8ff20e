//! Event and Barrier.

use crate::support::{LONG, on_each, until, until_parked};
use roving_runtime::sync::{Barrier, BarrierError, Event};
use roving_runtime::{WaitReason, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Setting wakes everyone who waits, once each, though they wait again at once.
#[test]
fn an_event_that_is_set_again_and_again() {
    on_each(|runtime| {
        const FIBERS: usize = 50;
        let event = Arc::new(Event::new());
        let woken = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..FIBERS)
            .map(|_| {
                let (event, woken) = (event.clone(), woken.clone());
                runtime.spawn(move || {
                    for _ in 0..3 {
                        event.wait().unwrap();
                        woken.fetch_add(1, SeqCst);
                        // Not again before it is cleared.
                        while event.is_set() {
                            yield_now();
                        }
                    }
                })
            })
            .collect();
        for round in 1..=3 {
            until_parked(runtime, WaitReason::Event, FIBERS);
            event.set();
            until(|| woken.load(SeqCst) == round * FIBERS);
            event.clear();
        }
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(woken.load(SeqCst), 3 * FIBERS);
    });
}

#[test]
fn a_barrier_of_fibers_and_threads() {
    on_each(|runtime| {
        const PARTIES: usize = 24;
        let barrier = Arc::new(Barrier::new(PARTIES));
        let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (barrier, arrived, leaders) = (barrier.clone(), arrived.clone(), leaders.clone());
            move || {
                for round in 1..=20 {
                    arrived.fetch_add(1, SeqCst);
                    let passed = barrier.wait_timeout(LONG).unwrap();
                    assert!(arrived.load(SeqCst) >= round * PARTIES);
                    leaders.fetch_add(usize::from(passed.is_leader()), SeqCst);
                }
            }
        };
        let fibers: Vec<_> = (0..PARTIES - 2).map(|_| runtime.spawn(work())).collect();
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(work())).collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(leaders.load(SeqCst), 20);
    });
}

#[test]
fn a_cancelled_member_breaks_the_barrier() {
    on_each(|runtime| {
        let barrier = Arc::new(Barrier::new(40));
        let members: Vec<_> = (0..38)
            .map(|_| {
                let barrier = barrier.clone();
                runtime.spawn(move || barrier.wait())
            })
            .collect();
        let thread = std::thread::spawn({
            let barrier = barrier.clone();
            move || barrier.wait()
        });
        until(|| barrier.waiting() == 39);
        until_parked(runtime, WaitReason::Barrier, 38);
        members[7].cancel();
        for (number, member) in members.into_iter().enumerate() {
            let expected = if number == 7 {
                BarrierError::Cancelled
            } else {
                BarrierError::Broken
            };
            assert_eq!(member.join().unwrap(), Err(expected));
        }
        assert_eq!(thread.join().unwrap(), Err(BarrierError::Broken));
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    });
}

/// The last comes as another gives up: either all pass, or none does.
#[test]
fn a_barrier_passed_and_broken_at_once() {
    on_each(|runtime| {
        for _ in 0..100 {
            let barrier = Arc::new(Barrier::new(20));
            let members: Vec<_> = (0..19)
                .map(|_| {
                    let barrier = barrier.clone();
                    runtime.spawn(move || barrier.wait())
                })
                .collect();
            until(|| barrier.waiting() == 19);
            let canceller = std::thread::spawn({
                // One that is woken in the second batch.
                let last = members[18].fiber();
                move || last.cancel()
            });
            let last = barrier.wait().is_ok();
            let passed: Vec<_> = members
                .into_iter()
                .map(|member| member.join().unwrap().is_ok())
                .collect();
            canceller.join().unwrap();
            assert!(
                passed.iter().all(|passed| *passed == last),
                "{passed:?}, the last: {last}"
            );
        }
    });
}
