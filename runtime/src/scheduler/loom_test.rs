//! Models of the sleep protocol and the inbox: the real `Idle` and `Inbox`, small workers around them.

use super::idle::Idle;
use super::inbox::Inbox;
use super::ready::ReadyQueue;
use crate::fiber::options::FiberOptions;
use crate::fiber::{FiberRef, create};
use crate::loom::deque::Injector;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex, Notify};
use loom::thread;
use std::panic::Location;

/// Two workers over one injector. What a real driver's `park` and `wake` are, `Notify` is here.
struct Model {
    idle: Idle,
    injector: Injector<usize>,
    drivers: [Notify; 2],
    taken: AtomicUsize,
    stop: AtomicBool,
    items: usize,
    /// A turn lasts until all items have been taken.
    long_turns: bool,
    all_taken: (Mutex<bool>, Condvar),
}

impl Model {
    fn new(items: usize, long_turns: bool) -> Arc<Self> {
        Arc::new(Self {
            idle: Idle::new(2),
            injector: Injector::new(),
            drivers: [Notify::new(), Notify::new()],
            taken: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            items,
            long_turns,
            all_taken: (Mutex::new(false), Condvar::new()),
        })
    }

    fn produce(&self, item: usize) {
        self.injector.push(item);
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

    /// A turn.
    fn run(&self) {
        let last = self.taken.fetch_add(1, Ordering::Relaxed) + 1 == self.items;
        if self.long_turns {
            let (lock, condvar) = &self.all_taken;
            let mut all_taken = lock.lock().unwrap();
            *all_taken |= last;
            while !*all_taken {
                all_taken = condvar.wait(all_taken).unwrap();
            }
            condvar.notify_all();
        }
        if last {
            self.stop();
        }
    }

    /// As `Worker::run`: run, search, sleep.
    fn work(&self, me: usize) {
        let mut searching = false;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(_item) = self.injector.steal().success() {
                if std::mem::take(&mut searching)
                    && let Some(worker) = self.idle.stop_searching()
                {
                    self.drivers[worker].notify();
                }
                self.run();
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

    fn check(items: usize, long_turns: bool) {
        let model = Self::new(items, long_turns);
        let workers = [0, 1].map(|me| {
            let model = model.clone();
            thread::spawn(move || model.work(me))
        });
        (0..items).for_each(|item| model.produce(item));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(model.taken.load(Ordering::Relaxed), items);
        assert_eq!(model.idle.sleeping(), 0, "nobody sleeps any more");
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
    model(|| Model::check(2, false));
}

/// The second item is pushed while there is a searcher, so silently. If the searcher finds the first one and says
/// nothing, the second waits for the end of its turn, while the other worker sleeps.
#[test]
fn loom_nobody_sleeps_through_a_long_turn() {
    model(|| Model::check(2, true));
}

/// The injector above has a lock, which orders what the protocol must order: the real one has none. So here stealable
/// work is a number, relaxed throughout.
#[test]
fn loom_stealable_work_or_its_sleeper_is_seen() {
    loom::model(|| {
        let idle = Arc::new(Idle::new(1));
        let items = Arc::new(AtomicUsize::new(0));
        let driver = Arc::new(Notify::new());
        let worker = thread::spawn({
            let (idle, items, driver) = (idle.clone(), items.clone(), driver.clone());
            move || {
                let mut searching = false;
                // Only this thread takes: what it sees is there.
                while items.load(Ordering::Relaxed) == 0 {
                    if !searching && idle.start_searching(2) {
                        searching = true;
                        continue;
                    }
                    idle.fall_asleep(0, std::mem::take(&mut searching));
                    if items.load(Ordering::Relaxed) == 0 {
                        driver.wait();
                    }
                    searching = idle.awake(0);
                }
                if searching {
                    assert_eq!(idle.stop_searching(), None, "there is nobody else");
                }
            }
        });
        items.fetch_add(1, Ordering::Relaxed);
        if idle.notify_one().is_some() {
            driver.notify();
        }
        worker.join().unwrap();
        assert_eq!(idle.sleeping(), 0);
    });
}

/// A pinned fiber needs its own worker, searchers or not.
#[test]
fn loom_targeted_wake_up_is_not_lost() {
    model(|| {
        let idle = Arc::new(Idle::new(1));
        let mail = Arc::new(AtomicUsize::new(0));
        let driver = Arc::new(Notify::new());
        // Outside the model: loom need not try their orders.
        let (wakes, mut sleeps) = (Arc::new(std::sync::atomic::AtomicUsize::new(0)), 0);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (idle, mail, driver) = (idle.clone(), mail.clone(), driver.clone());
                let wakes = wakes.clone();
                thread::spawn(move || {
                    mail.fetch_add(1, Ordering::Relaxed);
                    if idle.notify(0) {
                        wakes.fetch_add(1, Ordering::Relaxed);
                        driver.notify();
                    }
                })
            })
            .collect();
        while mail.load(Ordering::Relaxed) < 2 {
            idle.fall_asleep(0, false);
            sleeps += 1;
            if mail.load(Ordering::Relaxed) < 2 {
                driver.wait();
            }
            assert!(!idle.awake(0));
        }
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(
            wakes.load(Ordering::Relaxed) <= sleeps,
            "one wake a sleep at most"
        );
        assert_eq!(idle.sleeping(), 0);
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
