//! Models of the sleep protocol and the inbox: the real `Idle` and `Inbox`, small workers around them.

use super::fresh::Fresh;
use super::hub::{Amount, OwnerCounter};
use super::idle::Idle;
use super::inbox::Inbox;
use super::quiet::Watchers;
use super::ready::ReadyQueue;
use super::rest::{Daemons, Rest};
use super::work::Work;
use crate::fiber::options::FiberOptions;
use crate::fiber::parker::ThreadParker;
use crate::fiber::{FiberRef, create};
use crate::loom::deque::Injector;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Notify};
use loom::thread;
use std::panic::Location;

/// Two workers over one injector. What a real driver's `park` and `wake` are, `Notify` is here.
struct Model {
    idle: Idle,
    injector: Injector<()>,
    /// Of some third worker that never gets to it.
    fresh: AtomicBool,
    /// Whether a searcher naps before it sleeps.
    naps: bool,
    drivers: [Notify; 2],
    taken: AtomicUsize,
    stop: AtomicBool,
    items: usize,
    /// Whoever takes the first item waits until the last is taken.
    meeting: Option<Notify>,
}

impl Model {
    fn new(items: usize, naps: bool) -> Arc<Self> {
        Arc::new(Self {
            idle: Idle::new(2),
            injector: Injector::new(),
            fresh: AtomicBool::new(false),
            naps,
            drivers: [Notify::new(), Notify::new()],
            taken: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            items,
            meeting: None,
        })
    }

    fn with_meeting(items: usize) -> Arc<Self> {
        let mut model = Self::new(items, false);
        Arc::get_mut(&mut model).unwrap().meeting = Some(Notify::new());
        model
    }

    fn produce(&self) {
        self.injector.push(());
        self.wake_one(Amount::Plenty);
    }

    fn produce_lone(&self) {
        self.fresh.store(true, Ordering::Relaxed);
        self.wake_one(Amount::Lone);
    }

    fn wake_one(&self, amount: Amount) {
        if let Some(worker) = self.idle.notify_one(amount) {
            self.drivers[worker].notify();
        }
    }

    fn take(&self) -> bool {
        self.injector.steal().success().is_some()
            || self.fresh.load(Ordering::Relaxed) && self.fresh.swap(false, Ordering::Relaxed)
    }

    /// As `Worker::nap`; its time is over as soon as it may be.
    fn nap(&self, me: usize) {
        if self.idle.nap(me) {
            if self.injector.is_empty() && !self.stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            self.idle.nap_is_over(me);
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
        let mut naps = self.naps;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if self.take() {
                if std::mem::take(&mut searching)
                    && let Some(worker) = self.idle.stop_searching()
                {
                    self.drivers[worker].notify();
                }
                let taken = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
                if taken == self.items {
                    self.stop();
                    self.meeting.iter().for_each(Notify::notify);
                } else {
                    self.meeting.iter().for_each(Notify::wait);
                }
                continue;
            }
            if !searching && self.idle.start_searching(2) {
                searching = true;
                continue;
            }
            if searching && std::mem::take(&mut naps) {
                self.nap(me);
                continue;
            }
            self.idle.fall_asleep(me, std::mem::take(&mut searching));
            let fresh = || self.fresh.load(Ordering::Relaxed);
            let found = !self.injector.is_empty()
                || (fresh() && !self.idle.somebody_searches())
                || self.stop.load(Ordering::Relaxed);
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
        let model = Model::new(2, false);
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

/// What a searcher leaves behind, others are woken for: the producer was silent because somebody searched.
#[test]
fn loom_the_last_searcher_passes_the_torch() {
    model(|| {
        let model = Model::with_meeting(2);
        let workers = [0, 1].map(|me| {
            let model = model.clone();
            thread::spawn(move || model.work(me))
        });
        model.produce();
        model.produce();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// The same with an item of which only a searcher, or one that naps, hears.
#[test]
fn loom_lone_work_is_not_lost() {
    model(|| {
        let model = Model::new(2, true);
        let worker = {
            let model = model.clone();
            thread::spawn(move || model.work(0))
        };
        let other = {
            let model = model.clone();
            thread::spawn(move || model.work(1))
        };
        model.produce();
        model.produce_lone();
        worker.join().unwrap();
        other.join().unwrap();
        assert_eq!(model.taken.load(Ordering::Relaxed), 2);
    });
}

/// A nap without an end of its own is ended by plenty of work, and by work for its worker alone.
#[test]
fn loom_a_nap_is_ended() {
    for mail in [false, true] {
        loom::model(move || {
            let idle = Arc::new(Idle::new(2));
            let work = Arc::new(AtomicBool::new(false));
            let driver = Arc::new(Notify::new());
            assert!(idle.start_searching(2));
            let producer = {
                let (idle, work, driver) = (idle.clone(), work.clone(), driver.clone());
                thread::spawn(move || {
                    work.store(true, Ordering::Relaxed);
                    let wakes = if mail {
                        idle.notify(0)
                    } else {
                        idle.notify_one(Amount::Plenty) == Some(0)
                    };
                    if wakes {
                        driver.notify();
                    }
                })
            };
            assert!(idle.nap(0));
            if !work.load(Ordering::Relaxed) {
                driver.wait();
            }
            idle.nap_is_over(0);
            producer.join().unwrap();
            assert!(idle.somebody_searches(), "it still searches");
        });
    }
}

/// Owner and thief never both get it, and it is not lost.
#[test]
fn loom_fresh_work_is_taken_once() {
    loom::model(|| {
        let fresh = Arc::new(Fresh::new());
        let fibers = [some_fiber(), some_fiber()];
        let [first, second] = fibers.clone();
        let thief = {
            let fresh = fresh.clone();
            thread::spawn(move || fresh.peek().and_then(|seen| fresh.take_seen(seen)))
        };
        let mut taken = Vec::new();
        taken.extend(fresh.put(Work::fiber(first)));
        taken.extend(fresh.put(Work::fiber(second)));
        taken.extend(fresh.take());
        taken.extend(thief.join().unwrap());
        assert!(fresh.peek().is_none());
        assert_eq!(taken.len(), 2);
        for fiber in &fibers {
            assert!(!fiber.state.load().is_done());
        }
        drop(taken);
        // Work that is dropped is refused, each fiber once (twice would fail in the state word).
        for fiber in &fibers {
            assert!(fiber.state.load().is_done());
        }
    });
}

/// The injector above has a lock, which orders what the protocol must order; the real one has none. So here stealable
/// work is a number, relaxed throughout, and one worker is enough.
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
        if idle.notify_one(Amount::Plenty).is_some() {
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

/// The counters of a worker, one for what a plain thread spawns, and those who wait for the end: as in `Hub`.
struct Counting {
    spawned: OwnerCounter,
    finished: OwnerCounter,
    from_outside: OwnerCounter,
    daemons: Daemons,
    rest: Rest,
}

impl Counting {
    fn new() -> Self {
        Self {
            spawned: OwnerCounter::new(),
            finished: OwnerCounter::new(),
            from_outside: OwnerCounter::new(),
            daemons: Daemons::default(),
            rest: Rest::default(),
        }
    }

    /// As `Hub::outstanding_but_daemons`.
    fn awaited(&self) -> u64 {
        let begun = self.daemons.begun();
        let finished = self.finished.get();
        fence(Ordering::SeqCst);
        let spawned = self.spawned.get() + self.from_outside.get();
        let ended = self.daemons.ended();
        spawned
            .wrapping_add(ended)
            .wrapping_sub(finished)
            .wrapping_sub(begun)
    }

    fn announce(&self) {
        self.rest.announce(|| self.awaited() == 0);
    }

    fn wait(&self) {
        let parker = std::sync::Arc::new(ThreadParker::new());
        while !self.rest.wait(&parker, None, || self.awaited() == 0) {}
    }
}

#[test]
fn loom_the_end_of_the_last_fiber_wakes_who_waits() {
    loom::model(|| {
        let counting = Arc::new(Counting::new());
        counting.from_outside.add(1);
        let worker = {
            let counting = counting.clone();
            thread::spawn(move || {
                counting.finished.add(1);
                counting.announce();
            })
        };
        // Hangs, which loom reports, if the wake-up is lost.
        counting.wait();
        worker.join().unwrap();
    });
}

/// A fiber that spawns a daemon and lives on must be waited for, whenever one looks; afterwards the daemon must not.
#[test]
fn loom_a_daemon_is_not_waited_for_and_hides_nobody() {
    loom::model(|| {
        let counting = Arc::new(Counting::new());
        let ended = Arc::new(AtomicBool::new(false));
        // The fiber.
        counting.from_outside.add(1);
        let worker = {
            let (counting, ended) = (counting.clone(), ended.clone());
            thread::spawn(move || {
                // The fiber spawns a daemon.
                counting.spawned.add(1);
                counting.daemons.begin();
                // Its end.
                ended.store(true, Ordering::Relaxed);
                counting.finished.add(1);
                counting.announce();
            })
        };
        counting.wait();
        assert!(
            ended.load(Ordering::Relaxed),
            "somebody was still to be waited for"
        );
        worker.join().unwrap();
    });
}

#[test]
fn loom_a_daemon_that_ends_hides_nobody() {
    loom::model(|| {
        let counting = Arc::new(Counting::new());
        let ended = Arc::new(AtomicBool::new(false));
        // The daemon, the fiber.
        counting.from_outside.add(2);
        counting.daemons.begin();
        let worker = {
            let (counting, ended) = (counting.clone(), ended.clone());
            thread::spawn(move || {
                counting.daemons.end();
                counting.finished.add(1);
                ended.store(true, Ordering::Relaxed);
                counting.finished.add(1);
                counting.announce();
            })
        };
        counting.wait();
        assert!(
            ended.load(Ordering::Relaxed),
            "somebody was still to be waited for"
        );
        worker.join().unwrap();
    });
}

/// A worker with two items to do, which may fall asleep before each, and one that watches for the time after both.
#[test]
fn loom_a_quiet_moment_is_not_missed() {
    struct Watched {
        idle: Idle,
        injector: Injector<()>,
        watchers: Watchers,
        driver: Notify,
        done: AtomicUsize,
        stop: AtomicBool,
    }
    impl Watched {
        fn work(&self) {
            loop {
                while crate::scheduler::steal(|| self.injector.steal()).is_some() {
                    self.done.fetch_add(1, Ordering::Relaxed);
                }
                self.idle.fall_asleep(0, false);
                let stops = self.stop.load(Ordering::Relaxed);
                if !stops && self.injector.is_empty() {
                    self.watchers.tell();
                    self.driver.wait();
                }
                if self.idle.awake(0) {
                    let _ = self.idle.stop_searching();
                }
                if stops {
                    return;
                }
            }
        }
    }
    loom::model(move || {
        let model = Arc::new(Watched {
            idle: Idle::new(1),
            injector: Injector::new(),
            watchers: Watchers::new(),
            driver: Notify::new(),
            done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let worker = thread::spawn({
            let model = model.clone();
            move || model.work()
        });
        let producer = thread::spawn({
            let model = model.clone();
            move || {
                for _ in 0..2 {
                    model.injector.push(());
                    if model.idle.notify_one(Amount::Plenty).is_some() {
                        model.driver.notify();
                    }
                }
            }
        });
        model.watchers.join();
        let mut seen = None;
        // Waits for ever, which the model reports, if the last sleep is not told.
        while model.watchers.wait(&mut seen, None) {
            let quiet = model.idle.while_asleep(1, || model.injector.is_empty());
            // Read after that: what the sleeper has done is seen, also the item it took last.
            if quiet && model.done.load(Ordering::Relaxed) == 2 {
                break;
            }
        }
        model.watchers.leave();
        model.stop.store(true, Ordering::Relaxed);
        if model.idle.notify(0) {
            model.driver.notify();
        }
        producer.join().unwrap();
        worker.join().unwrap();
    });
}
