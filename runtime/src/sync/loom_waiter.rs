//! Models of the word against a waiter that is a fiber: one whose memory goes when it has left, and whose unpark
//! is used up when it is not asleep. The fiber is played by a thread, its parking by the real state word.

use super::{Ended, GaveUp, Pause, Waiter};
use crate::fiber::parker::{Parked, Unparker};
use crate::fiber::state::{StateWord, ToActive, ToParked, ToReady};
use crate::sync::loom_test::{bounded, exhaustive};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;

struct Actor {
    state: StateWord,
    scheduled: Notify,
    /// Stands for the fiber's record: wakers look at it in `begin`, and the fiber's end writes it.
    memory: UnsafeCell<bool>,
    cancelled: AtomicBool,
    /// What is handed over.
    slot: UnsafeCell<u32>,
    /// The queue: the waiter in it, while it is.
    queue: Mutex<bool>,
    waiter: Waiter,
}

// SAFETY: loom checks the cells, which is what this is for.
unsafe impl Send for Actor {}
// SAFETY: as above.
unsafe impl Sync for Actor {}

impl Actor {
    fn new() -> Arc<Self> {
        let state = StateWord::new();
        assert_eq!(state.transition_to_active(), ToActive::Claimed);
        Arc::new(Self {
            state,
            scheduled: Notify::new(),
            memory: UnsafeCell::new(true),
            cancelled: AtomicBool::new(false),
            slot: UnsafeCell::new(0),
            queue: Mutex::new(true),
            waiter: Waiter::new(Unparker::Future(std::task::Waker::noop().clone())),
        })
    }

    fn park(&self) -> Parked {
        if self.state.transition_to_parked() == ToParked::Parked {
            while self.state.load().is_parked() {
                self.scheduled.wait();
            }
        }
        Parked::Woken
    }

    /// What `Unparker::begin` does with a fiber.
    fn begin(&self) -> ToReady {
        // SAFETY: loom checks it.
        self.memory.with(|memory| assert!(unsafe { *memory }));
        self.state.transition_to_ready()
    }

    fn finish(&self, ready: ToReady) {
        if ready == ToReady::Schedule {
            self.scheduled.notify();
        }
    }

    /// A waker: one that finds the waiter in its queue.
    fn wake(&self, value: u32) -> bool {
        let mut queue = self.queue.lock().unwrap();
        if !std::mem::replace(&mut *queue, false) {
            return false;
        }
        // SAFETY: the node was in the queue, whose lock we hold.
        let Some(choice) = (unsafe { self.waiter.choose(5) }) else {
            return false;
        };
        // SAFETY: loom checks it.
        self.slot.with_mut(|slot| unsafe { *slot = value });
        let ready = choice.wake_by(|_| self.begin());
        drop(queue);
        self.finish(ready);
        true
    }

    /// The fiber: waits, leaves, and is gone.
    fn run(&self) -> bool {
        let is_cancelled = || self.cancelled.load(Ordering::Relaxed);
        let received = match self.waiter.wait_by(|| self.park(), is_cancelled) {
            Pause::Ended(Ended::Woken(5)) => true,
            Pause::Ended(Ended::Chosen(5)) => {
                drop(self.queue.lock().unwrap());
                true
            }
            Pause::Ended(_) => panic!("nobody said that"),
            Pause::Impatient(gave_up) => {
                assert_eq!(gave_up, GaveUp::Cancelled);
                let mut queue = self.queue.lock().unwrap();
                let ended = self.waiter.give_up();
                *queue = false;
                ended.is_some()
            }
        };
        if received {
            // SAFETY: loom checks it.
            assert_eq!(self.slot.with(|slot| unsafe { *slot }), 7);
        }
        // SAFETY: loom checks it.
        self.memory.with_mut(|memory| unsafe { *memory = false });
        received
    }
}

/// Were `Choice::wake` to begin the wake before CHOSEN is set or after WOKEN, this would hang or find a race.
#[test]
fn loom_a_fiber_is_woken_and_not_touched_once_gone() {
    exhaustive(|| {
        let actor = Actor::new();
        let waker = actor.clone();
        let waker = thread::spawn(move || assert!(waker.wake(7)));
        assert!(actor.run());
        waker.join().unwrap();
    });
}

/// A cancellation wakes the fiber while a waker has chosen it, or not yet, or after all.
#[test]
fn loom_a_fiber_that_is_cancelled_meanwhile_has_it_or_has_it_not() {
    bounded(3, || {
        let actor = Actor::new();
        let (waker, canceller) = (actor.clone(), actor.clone());
        let waker = thread::spawn(move || waker.wake(7));
        let canceller = thread::spawn(move || {
            canceller.cancelled.store(true, Ordering::Relaxed);
            // Holds a count of the fiber, so it needs no lock.
            let ready = canceller.state.transition_to_ready();
            canceller.finish(ready);
        });
        let received = actor.run();
        assert_eq!(waker.join().unwrap(), received);
        canceller.join().unwrap();
    });
}
