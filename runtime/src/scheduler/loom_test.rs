//! Models of the sleep protocol and the inbox: the real `Idle` and `Inbox`, small workers around them.

use super::idle::Idle;
use super::inbox::Inbox;
use super::ready::ReadyQueue;
use crate::fiber::options::FiberOptions;
use crate::fiber::{FiberRef, create};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Notify};
use loom::thread;
use std::panic::Location;

/// Stealable work. Relaxed throughout: the real queues have no lock that would order what the protocol must.
#[derive(Default)]
struct Items(AtomicUsize);

impl Items {
    fn push(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn steal(&self) -> bool {
        let one_less = |items: usize| items.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// Two workers over one injector. What a real driver's `park` and `wake` are, `Notify` is here.
struct Model {
    idle: Idle,
    injector: Items,
    drivers: [Notify; 2],
    taken: AtomicUsize,
    stop: AtomicBool,
    items: usize,
}

impl Model {
    fn new(items: usize) -> Arc<Self> {
        Arc::new(Self {
            idle: Idle::new(2),
            injector: Items::default(),
            drivers: [Notify::new(), Notify::new()],
            taken: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            items,
        })
    }

    fn produce(&self) {
        self.injector.push();
        if let Some(worker) = self.idle.notify_one() {
            self.drivers[worker].notify();
        }
    }

    /// As `Hub::advance`.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for (worker, driver) in self.drivers.iter().enumerate() {
            if self.idle.notify(worker) {
                driver.notify();
            }
        }
    }

    /// As `Worker::run`: run, search, sleep.
    fn work(&self, me: usize) {
        let mut searching = false;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if self.injector.steal() {
                if std::mem::take(&mut searching)
                    && let Some(worker) = self.idle.stop_searching()
                {
                    self.drivers[worker].notify();
                }
                if self.taken.fetch_add(1, Ordering::Relaxed) + 1 == self.items {
                    self.stop();
                }
                continue;
            }
            if !searching && self.idle.start_searching(2) {
                searching = true;
                continue;
            }
            self.idle.fall_asleep(me, std::mem::take(&mut searching));
            let found = !self.injector.is_empty() || self.stop.load(Ordering::Relaxed);
            if !found {
                self.drivers[me].wait();
            }
            searching = self.idle.awake(me);
            if found && !searching {
                searching = self.idle.start_searching(usize::MAX);
            }
        }
    }
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Three threads with loops: without a bound the space is too large.
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(check);
}

/// If a wake-up could be lost, some execution would end with everybody asleep: loom calls that a deadlock.
#[test]
fn loom_sleep_loses_no_wake_up() {
    model(|| {
        let model = Model::new(2);
        let worker = {
            let model = model.clone();
            thread::spawn(move || model.work(0))
        };
        let other = {
            let model = model.clone();
            thread::spawn(move || model.work(1))
        };
        model.produce();
        model.produce();
        worker.join().unwrap();
        other.join().unwrap();
        assert_eq!(model.taken.load(Ordering::Relaxed), 2);
    });
}

/// A pinned fiber needs its own worker, searchers or not.
#[test]
fn loom_targeted_wake_up_is_not_lost() {
    model(|| {
        let idle = Arc::new(Idle::new(1));
        let mail = Arc::new(AtomicUsize::new(0));
        let driver = Arc::new(Notify::new());
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (idle, mail, driver) = (idle.clone(), mail.clone(), driver.clone());
                thread::spawn(move || {
                    mail.fetch_add(1, Ordering::Relaxed);
                    if idle.notify(0) {
                        driver.notify();
                    }
                })
            })
            .collect();
        while mail.load(Ordering::Relaxed) < 2 {
            idle.fall_asleep(0, false);
            if mail.load(Ordering::Relaxed) < 2 {
                driver.wait();
            }
            assert!(!idle.awake(0));
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

fn some_fiber() -> FiberRef {
    // SAFETY: nothing is borrowed.
    let (fiber, handle) = unsafe { create(|| (), FiberOptions::default(), 0, Location::caller()) };
    drop(handle);
    fiber
}

#[test]
fn loom_inbox_delivers_all_in_order() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new());
        let first = some_fiber();
        let second = some_fiber();
        let third = some_fiber();
        let ids = [first.id, second.id, third.id];
        let one = {
            let inbox = inbox.clone();
            thread::spawn(move || {
                inbox.push(first);
                inbox.push(second);
            })
        };
        let two = {
            let inbox = inbox.clone();
            thread::spawn(move || inbox.push(third))
        };
        let mut ready: [ReadyQueue; 2] = Default::default();
        let mut moved = inbox.drain(&mut ready);
        one.join().unwrap();
        two.join().unwrap();
        moved += inbox.drain(&mut ready);
        assert_eq!(moved, 3);
        let order: Vec<_> = std::iter::from_fn(|| ready[0].pop())
            .map(|fiber| fiber.id)
            .collect();
        let at = |id| order.iter().position(|&other| other == id).unwrap();
        assert!(at(ids[0]) < at(ids[1]), "one producer's fibers stay in order");
        assert!(order.contains(&ids[2]));
    });
}
