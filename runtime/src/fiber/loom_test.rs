//! Models of the fiber's protocols. A fiber is played by a thread: where a real one switches out, the
//! thread waits to be "scheduled"; everything else is the real code.

use super::options::FiberOptions;
use super::parker::ThreadParker;
use super::state::{StateWord, ToActive, ToParked, ToReady};
use super::{Fiber, FiberRef, JoinError, JoinHandle, create};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;
use std::panic::Location;
use std::sync::Mutex;

/// Three threads: without a bound the space is too large.
fn bounded(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(check);
}

struct Actor {
    state: StateWord,
    scheduled: Notify,
    /// Written by wakers before they unpark; no atomics, so that loom checks the ordering.
    message: [UnsafeCell<usize>; 2],
    sent: AtomicUsize,
}

impl Actor {
    fn new() -> Arc<Self> {
        let state = StateWord::new();
        assert_eq!(state.transition_to_active(), ToActive::Claimed);
        Arc::new(Self {
            state,
            scheduled: Notify::new(),
            message: [UnsafeCell::new(0), UnsafeCell::new(0)],
            sent: AtomicUsize::new(0),
        })
    }

    fn park(&self) {
        if self.state.transition_to_parked() == ToParked::Parked {
            // loom's Notify wakes spuriously now and then; a worker does not.
            while self.state.load().is_parked() {
                self.scheduled.wait();
            }
        }
    }

    fn unpark(&self) {
        if self.state.transition_to_ready() == ToReady::Schedule {
            self.scheduled.notify();
        }
    }
}

#[test]
fn loom_unpark_is_never_lost() {
    bounded(|| {
        let fiber = Actor::new();
        let wakers: Vec<_> = (0..2)
            .map(|index| {
                let fiber = fiber.clone();
                thread::spawn(move || {
                    fiber.message[index].with_mut(|cell| unsafe { *cell = index + 1 });
                    fiber.sent.fetch_or(1 << index, Ordering::Relaxed);
                    fiber.unpark();
                })
            })
            .collect();
        // A wait loop as every primitive has it: the condition is relaxed, the unpark orders.
        while fiber.sent.load(Ordering::Relaxed) != 0b11 {
            fiber.park();
        }
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

#[test]
fn loom_unpark_orders_what_came_before_it() {
    loom::model(|| {
        let fiber = Actor::new();
        let waker = {
            let fiber = fiber.clone();
            thread::spawn(move || {
                fiber.message[0].with_mut(|cell| unsafe { *cell = 7 });
                fiber.unpark();
            })
        };
        // With a single unpark and no other condition, a return from park means that it came.
        fiber.park();
        assert_eq!(fiber.message[0].with(|cell| unsafe { *cell }), 7);
        waker.join().unwrap();
    });
}

#[test]
fn loom_thread_parker() {
    loom::model(|| {
        let parker = Arc::new(ThreadParker::new());
        let cell = Arc::new(UnsafeCell::new(0));
        let waker = {
            let (parker, cell) = (parker.clone(), cell.clone());
            thread::spawn(move || {
                cell.with_mut(|cell| unsafe { *cell = 7 });
                parker.unpark();
            })
        };
        let _ = parker.park(None);
        assert_eq!(cell.with(|cell| unsafe { *cell }), 7);
        waker.join().unwrap();
    });
}

/// Counts its drops, to see every outcome and closure dropped exactly once.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn fiber_returning(counter: &Arc<AtomicUsize>) -> (FiberRef, JoinHandle<Counted>) {
    let counter = counter.clone();
    // SAFETY: nothing is borrowed.
    unsafe {
        create(
            move || Counted(counter),
            FiberOptions::default(),
            0,
            Location::caller(),
        )
    }
}

/// What a worker does with an unstarted fiber, on its own stack.
fn start(fiber: &FiberRef) -> bool {
    super::run_in_place(fiber)
}

#[test]
fn loom_join_sees_the_outcome() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (fiber, handle) = fiber_returning(&drops);
        let worker = thread::spawn(move || assert!(start(&fiber)));
        drop(handle.join().unwrap());
        worker.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn loom_two_waiters_are_both_woken() {
    bounded(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (fiber, handle) = fiber_returning(&drops);
        let other = Fiber(fiber.clone());
        let waiter = thread::spawn(move || assert_eq!(other.wait(None), Ok(true)));
        let worker = thread::spawn(move || assert!(start(&fiber)));
        handle.wait().unwrap();
        waiter.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn loom_detached_outcome_is_dropped_once() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (fiber, handle) = fiber_returning(&drops);
        // As long as somebody knows the fiber its record stays: the outcome must not wait for the end of that.
        let known = Fiber(fiber.clone());
        let worker = thread::spawn(move || assert!(start(&fiber)));
        drop(handle);
        worker.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        drop(known);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn loom_cancel_against_start() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (fiber, handle) = fiber_returning(&drops);
        let canceller = {
            let fiber = Fiber(fiber.clone());
            thread::spawn(move || fiber.cancel())
        };
        let ran = start(&fiber);
        match handle.join() {
            Ok(outcome) => {
                assert!(ran);
                drop(outcome);
                assert_eq!(drops.load(Ordering::Relaxed), 1);
            }
            Err(JoinError::Cancelled) => {
                assert!(!ran);
                assert_eq!(drops.load(Ordering::Relaxed), 0);
            }
            Err(other) => panic!("{other}"),
        }
        canceller.join().unwrap();
    });
}

#[test]
fn loom_cancel_against_park() {
    loom::model(|| {
        let fiber = Actor::new();
        let canceller = {
            let fiber = fiber.clone();
            thread::spawn(move || {
                assert!(fiber.state.transition_to_cancelled());
                fiber.unpark();
            })
        };
        // The wait loop of every cancellable wait: without the unpark it would never end.
        while !fiber.state.load().is_cancelled() {
            fiber.park();
        }
        canceller.join().unwrap();
    });
}

#[test]
fn loom_cancel_against_completion() {
    loom::model(|| {
        // Cancelled from inside its closure at the earliest: it has started.
        let drops = Arc::new(AtomicUsize::new(0));
        let slot: Arc<Mutex<Option<Fiber>>> = Arc::default();
        let (inside, counter) = (slot.clone(), drops.clone());
        let closure = move || {
            let me = inside.lock().unwrap().take().unwrap();
            let canceller = thread::spawn(move || me.cancel());
            (Counted(counter), canceller)
        };
        // SAFETY: nothing is borrowed.
        let (fiber, handle) = unsafe { create(closure, FiberOptions::default(), 0, Location::caller()) };
        *slot.lock().unwrap() = Some(Fiber(fiber.clone()));
        assert!(start(&fiber));
        let (outcome, canceller) = handle
            .join()
            .expect("cancelling a running fiber does not take its outcome");
        drop(outcome);
        canceller.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}
