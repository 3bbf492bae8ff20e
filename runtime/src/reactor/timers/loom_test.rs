//! Models of timers shared between the worker they belong to and those who arm and disarm them. Time does not pass in
//! a model: a timer is due at once or never comes due, and an alarm rings as soon as it is set.

use super::shared::SharedTimers;
use crate::fiber::state::{StateWord, ToActive, ToParked, ToReady};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;
use std::time::{Duration, Instant};

/// A fiber, played by a thread, with the real state word.
struct Actor {
    state: StateWord,
    scheduled: Notify,
    /// Stands for the fiber's record: `begin` looks at it, and the fiber's end writes it.
    memory: UnsafeCell<bool>,
    fired: AtomicUsize,
}

// SAFETY: loom checks the cell, which is what this is for.
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
            fired: AtomicUsize::new(0),
        })
    }

    /// As `park_fiber`.
    fn park(&self) {
        if self.state.transition_to_parked() == ToParked::Parked {
            while self.state.load().is_parked() {
                self.scheduled.wait();
            }
        }
    }

    /// As `Unparker::begin`.
    fn begin(&self) -> ToReady {
        // SAFETY: loom checks it.
        self.memory.with(|memory| assert!(unsafe { *memory }));
        self.fired.fetch_add(1, Ordering::Relaxed);
        self.state.transition_to_ready()
    }

    fn unpark(&self) {
        if self.state.transition_to_ready() == ToReady::Schedule {
            self.scheduled.notify();
        }
    }

    /// The fiber has ended: nobody may look at its record any more.
    fn end(&self) {
        // SAFETY: loom checks it.
        self.memory.with_mut(|memory| unsafe { *memory = false });
    }
}

fn expire(timers: &SharedTimers<Arc<Actor>>) {
    let mut wakes = Vec::new();
    timers.expire(
        Instant::now,
        8,
        |_| {},
        |actor| {
            if actor.begin() == ToReady::Schedule {
                wakes.push(actor);
            }
        },
    );
    wakes.into_iter().for_each(|actor| actor.scheduled.notify());
}

/// A fiber waits with a deadline, is woken, and calls its timer off, while two workers find the timer due (the owner,
/// and one that looks in its place): it fires once or is called off, never both, and it fires before the fiber
/// learns that it is too late.
#[test]
fn loom_a_timer_is_called_off_or_fires() {
    loom::model(|| {
        let timers = Arc::new(SharedTimers::new());
        let fiber = Actor::new();
        let key = timers.arm(Instant::now(), fiber.clone()).key;
        let looks: Vec<_> = (0..2)
            .map(|_| {
                let timers = timers.clone();
                thread::spawn(move || expire(&timers))
            })
            .collect();
        // Woken by somebody else, before it parks.
        fiber.unpark();
        fiber.park();
        let called_off = timers.disarm(key);
        assert_eq!(fiber.fired.load(Ordering::Relaxed), usize::from(!called_off));
        assert!(!timers.disarm(key), "it is gone, one way or the other");
        fiber.end();
        looks.into_iter().for_each(|look| look.join().unwrap());
    });
}

/// The same with a fiber that really parks: either wake ends it, and the timer's does not outlive it.
#[test]
fn loom_a_timer_against_another_wake() {
    loom::model(|| {
        let timers = Arc::new(SharedTimers::new());
        let fiber = Actor::new();
        let key = timers.arm(Instant::now(), fiber.clone()).key;
        let look = thread::spawn({
            let timers = timers.clone();
            move || expire(&timers)
        });
        let waker = thread::spawn({
            let fiber = fiber.clone();
            // Holds a count of the fiber, so it needs no lock and looks at no memory.
            move || fiber.unpark()
        });
        fiber.park();
        let called_off = timers.disarm(key);
        assert_eq!(fiber.fired.load(Ordering::Relaxed), usize::from(!called_off));
        fiber.end();
        look.join().unwrap();
        waker.join().unwrap();
    });
}

/// A poll with a waker and an alarm.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: loom::sync::Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// Timers are armed while the owner falls asleep, one of them for a time that never comes: it learns of the other
/// before it sleeps, or is woken for it.
#[test]
fn loom_a_sleeper_learns_of_an_earlier_timer() {
    loom::model(|| {
        let timers = Arc::new(SharedTimers::new());
        let bell = Arc::new(Bell::default());
        let fired = Arc::new(AtomicBool::new(false));
        let never = Instant::now() + Duration::from_secs(3600);
        let others: Vec<_> = [never, Instant::now()]
            .into_iter()
            .map(|deadline| {
                let (timers, bell) = (timers.clone(), bell.clone());
                thread::spawn(move || {
                    if timers.arm(deadline, deadline).wake {
                        bell.ring();
                    }
                })
            })
            .collect();
        while !fired.load(Ordering::Relaxed) {
            // As `PollDriver::park`: the alarm of a timer that is due rings at once.
            match timers.fall_asleep() {
                Some(deadline) if deadline < never => {}
                _ => bell.wait(),
            }
            timers.awake();
            timers.expire(Instant::now, 8, |_| {}, |_| fired.store(true, Ordering::Relaxed));
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(timers.fall_asleep().is_some_and(|next| next >= never));
    });
}
