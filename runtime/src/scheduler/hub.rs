//! What the threads of one runtime share: the injector, who sleeps, and each worker's reachable side.

use super::driver::Driver;
use super::fresh::Fresh;
use super::idle::Idle;
use super::inbox::Inbox;
use super::lottery::Chance;
use super::quiet::Watchers;
use super::registry::Registry;
use super::rest::{Daemons, Rest};
use super::spare::{Role, RoleCell, SystemThread};
use super::work::Work;
use crate::fiber::clock::TimeSource;
use crate::fiber::options::Class;
use crate::fiber::{Fiber, FiberRef};
use crate::loom::CachePadded;
use crate::loom::deque::{Injector, Stealer};
use crate::loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use crate::loom::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use crate::stack::{Slabs, StackClass};
use std::any::Any;
use std::time::{Duration, Instant};

/// How far a runtime has come. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Running = 0,
    /// Plain threads spawn no more; fibers still may, and all of them are waited for.
    Draining = 1,
    /// Workers leave at their next turn.
    Stopping = 2,
    /// Workers are gone, and the queues have been emptied for the last time.
    Stopped = 3,
}

/// How much stealable work there is now, as far as the one that added to it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    /// One item, which its own worker most likely gets to first.
    Lone,
    /// Enough for a thief, or nobody else to do it.
    Plenty,
}

/// A counter only its owner writes, so a plain store is enough.
#[derive(Debug)]
pub(crate) struct OwnerCounter(AtomicU64);

impl OwnerCounter {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn add(&self, by: u64) {
        // Release: who sums the counters and finds everything finished sees what was done.
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Release);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What one worker counts. Written by that worker alone.
#[derive(Debug)]
#[allow(missing_docs, reason = "see `runtime::metrics`, which documents each")]
pub(crate) struct Counters {
    pub(crate) turns: OwnerCounter,
    pub(crate) spawned: OwnerCounter,
    pub(crate) finished: OwnerCounter,
    pub(crate) started: OwnerCounter,
    pub(crate) stolen: OwnerCounter,
    pub(crate) handed_over: OwnerCounter,
    pub(crate) slept: OwnerCounter,
    pub(crate) looks: OwnerCounter,
    pub(crate) preempted: OwnerCounter,
    /// The coarse clock when the turn began, in nanoseconds since the hub's origin.
    pub(crate) turn_began: AtomicU64,
    /// One more than the number of the last turn in which `preempt` found nobody who waits.
    pub(crate) alone_in: AtomicU64,
    /// The last measured wait in the ready queue, in nanoseconds.
    pub(crate) ready_delay: AtomicU64,
    /// The length of the longest stuck turn that started fibers waited for, in nanoseconds.
    pub(crate) held_up: AtomicU64,
}

/// One worker, as the others see it.
pub(crate) struct Remote {
    pub(super) inbox: CachePadded<Inbox>,
    /// Unstarted work that placement gave to this worker.
    pub(super) mailbox: [Injector<Work>; 2],
    /// How much of it has not had its first turn.
    pub(super) mailed: AtomicUsize,
    pub(super) stealers: [Stealer<Work>; 2],
    /// The newest unstarted work of the normal class.
    pub(super) fresh: CachePadded<Fresh>,
    /// The core it was last seen on.
    pub(super) core: AtomicU32,
    /// Started fibers that will want this worker again, those that wait for other fibers' ends left out.
    pub(crate) live: CachePadded<AtomicUsize>,
    /// The number of the fiber that runs, or zero.
    pub(crate) running: AtomicU64,
    /// Set by the monitor on a worker that has been in one turn for long: others take what it was given.
    pub(crate) stuck: AtomicBool,
    /// Set by the monitor: look at inbox, poll and timers at the next turn.
    pub(crate) look_now: AtomicBool,
    /// The worker's coarse clock: nanoseconds since the hub's origin, at its last look.
    pub(crate) clock: AtomicU64,
    pub(crate) registry: Mutex<Registry>,
    driver: OnceLock<Box<dyn Driver>>,
    pub(crate) role: RoleCell,
    pub(crate) thread: SystemThread,
    /// Set by the monitor on a worker that sits in a blocking call, cleared by the worker.
    pub(crate) blocked: AtomicBool,
    pub(crate) counters: CachePadded<Counters>,
}

impl Remote {
    /// A worker, or, without a driver, a vacancy.
    pub(super) fn new(driver: Option<Box<dyn Driver>>, stealers: [Stealer<Work>; 2]) -> Self {
        let counter = OwnerCounter::new;
        Self {
            inbox: CachePadded::new(Inbox::new()),
            mailbox: [Injector::new(), Injector::new()],
            mailed: AtomicUsize::new(0),
            stealers,
            fresh: CachePadded::new(Fresh::new()),
            core: AtomicU32::new(u32::MAX),
            live: CachePadded::new(AtomicUsize::new(0)),
            running: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            look_now: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            registry: Mutex::new(Registry::default()),
            role: RoleCell::new(if driver.is_some() {
                Role::Active
            } else {
                Role::Vacant
            }),
            driver: driver.map_or_else(OnceLock::new, OnceLock::from),
            thread: SystemThread::new(),
            blocked: AtomicBool::new(false),
            counters: CachePadded::new(Counters {
                turns: counter(),
                spawned: counter(),
                finished: counter(),
                started: counter(),
                stolen: counter(),
                handed_over: counter(),
                slept: counter(),
                looks: counter(),
                preempted: counter(),
                turn_began: AtomicU64::new(0),
                alone_in: AtomicU64::new(0),
                ready_delay: AtomicU64::new(0),
                held_up: AtomicU64::new(0),
            }),
        }
    }

    /// Whether work waits here that another worker may start.
    fn has_unstarted(&self) -> bool {
        self.mailbox.iter().any(|mail| !mail.is_empty())
            || self.fresh.peek().is_some()
            || self.stealers.iter().any(|queue| !queue.is_empty())
    }

    /// The worker's driver. A place that has never had a worker has none, and nobody asks for it.
    #[inline]
    pub(crate) fn driver(&self) -> &dyn Driver {
        &**self.driver.get().expect("a worker has a driver")
    }

    /// Gives a vacancy its driver; the first one stays.
    pub(crate) fn equip(
        &self,
        driver: impl FnOnce() -> std::io::Result<Box<dyn Driver>>,
    ) -> std::io::Result<()> {
        if self.driver.get().is_none() {
            let _ = self.driver.set(driver()?);
        }
        Ok(())
    }

    /// What placement balances.
    pub(super) fn load(&self) -> usize {
        self.live.load(Ordering::Relaxed) + self.mailed.load(Ordering::Relaxed)
    }
}

/// Something that counts as outstanding for as long as it lives.
pub(crate) struct Outstanding(Weak<Hub>);

impl Outstanding {
    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        hub.count_from_outside();
        Self(Arc::downgrade(hub))
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        if let Some(hub) = self.0.upgrade() {
            hub.count_finished_outside();
        }
    }
}

/// See the module's documentation.
pub(crate) struct Hub {
    pub(crate) id: u32,
    /// The workers, then the places for spares.
    pub(crate) remotes: Box<[Remote]>,
    /// How many of them are workers from start to end.
    pub(crate) regular: usize,
    /// How many places from the first have ever been used.
    pub(super) used: AtomicUsize,
    /// How many have a thread.
    pub(super) threads: AtomicUsize,
    pub(super) injector: [CachePadded<Injector<Work>>; 2],
    pub(super) idle: Idle,
    pub(crate) slabs: Arc<Slabs>,
    pub(super) default_stack: StackClass,
    pub(crate) origin: Instant,
    /// What deadlines go by.
    pub(crate) time: Arc<TimeSource>,
    pub(super) watchers: Watchers,
    /// What draws the turns of its one worker, if they are drawn.
    pub(crate) chance: Option<Chance>,
    phase: AtomicU8,
    /// Spawned by plain threads, and refused by them before they started.
    from_outside: CachePadded<AtomicU64>,
    /// When a plain thread last spawned, by the hub's clock: workers do not spin while it may need the core.
    last_outside: AtomicU64,
    /// Whether all fibers are being asked to stop. Set before the registries are read under their locks; read
    /// after an entry is made under one: an entry that is not seen sees it.
    pub(super) cancelling: AtomicBool,
    /// Futures that ended on threads that are no workers of this runtime.
    finished_outside: AtomicU64,
    drained: Mutex<()>,
    drained_changed: Condvar,
    pub(super) daemons: Daemons,
    pub(super) rest: Rest,
    /// What a higher room keeps with the runtime.
    companion: OnceLock<Arc<dyn Any + Send + Sync>>,
    monitor_asleep: AtomicBool,
    monitor_bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// How long a fiber may run while others wait for its worker, in nanoseconds; zero for ever.
    quantum: AtomicU64,
}

impl Hub {
    pub(super) fn new(
        remotes: Box<[Remote]>,
        slabs: Arc<Slabs>,
        default_stack: StackClass,
        time: Arc<TimeSource>,
        chance: Option<Chance>,
    ) -> Self {
        let regular = remotes
            .iter()
            .filter(|remote| remote.role.get() == Role::Active)
            .count();
        static NEXT: crate::loom::statics::AtomicU64 = crate::loom::statics::AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed) as u32,
            idle: Idle::new(remotes.len()),
            remotes,
            regular,
            used: AtomicUsize::new(regular),
            threads: AtomicUsize::new(regular),
            injector: [
                CachePadded::new(Injector::new()),
                CachePadded::new(Injector::new()),
            ],
            slabs,
            default_stack,
            origin: Instant::now(),
            time,
            watchers: Watchers::new(),
            chance,
            phase: AtomicU8::new(Phase::Running as u8),
            from_outside: CachePadded::new(AtomicU64::new(0)),
            last_outside: AtomicU64::new(0),
            drained: Mutex::new(()),
            drained_changed: Condvar::new(),
            daemons: Daemons::default(),
            rest: Rest::default(),
            cancelling: AtomicBool::new(false),
            finished_outside: AtomicU64::new(0),
            companion: OnceLock::new(),
            monitor_asleep: AtomicBool::new(false),
            monitor_bell: OnceLock::new(),
            quantum: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            2 => Phase::Stopping,
            _ => Phase::Stopped,
        }
    }

    /// Moves to a later phase and wakes every worker to see it.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.fetch_max(to as u8, Ordering::AcqRel);
        // Pairs with the fence of a worker that falls asleep and then looks at the phase.
        fence(Ordering::SeqCst);
        for (index, remote) in self.workers().iter().enumerate() {
            if self.idle.notify(index) {
                remote.driver().wake();
            }
        }
    }

    /// Makes work from a plain thread visible and wakes a worker for it.
    pub(crate) fn inject(&self, work: Work, class: Class) {
        self.from_outside.fetch_add(1, Ordering::Relaxed);
        self.last_outside.store(self.now(), Ordering::Relaxed);
        self.injector[class.index()].push(work);
        self.wake_one(Amount::Plenty);
        // Pairs with the fence of `advance`: either it empties the queues after our push, or we see it.
        fence(Ordering::SeqCst);
        if self.phase() == Phase::Stopped {
            self.empty_queues();
        }
    }

    /// Hands unstarted work to one worker. A plain thread counts it as `inject` does.
    pub(crate) fn hand_to(&self, worker: usize, work: Work, class: Class) {
        let remote = &self.remotes[worker];
        remote.mailed.fetch_add(1, Ordering::Relaxed);
        remote.mailbox[class.index()].push(work);
        self.wake_worker(worker);
        // After the fence in `wake_worker`: see `dismiss`.
        if !remote.is_active() {
            self.forward_mail(worker);
        }
    }

    pub(crate) fn count_from_outside(&self) {
        self.from_outside.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_finished_outside(&self) {
        // Release: as `OwnerCounter::add`.
        self.finished_outside.fetch_add(1, Ordering::Release);
        if self.phase() == Phase::Draining {
            self.announce_progress();
        }
        self.announce_rest();
    }

    /// Keeps something of a higher room with the runtime; the first call counts.
    pub(crate) fn set_companion(&self, companion: Arc<dyn Any + Send + Sync>) {
        let _ = self.companion.set(companion);
    }

    /// What [`Hub::set_companion`] keeps.
    pub(crate) fn companion<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.companion.get()?.clone().downcast().ok()
    }

    /// How long a fiber may run while others wait for its worker.
    pub(crate) fn quantum(&self) -> Option<Duration> {
        match self.quantum.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Sets it. The monitor reads it at its next sample.
    pub(crate) fn set_quantum(&self, quantum: Option<Duration>) {
        let nanos = quantum.map_or(0, |quantum| {
            u64::try_from(quantum.as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        self.quantum.store(nanos, Ordering::Relaxed);
    }

    /// Whether something waits for this worker, as far as others can see: its ready queue is its own.
    pub(crate) fn is_wanted(&self, worker: usize) -> bool {
        let remote = &self.remotes[worker];
        !remote.inbox.is_empty()
            || remote.mailed.load(Ordering::Relaxed) != 0
            || remote.fresh.peek().is_some()
            || remote.stealers.iter().any(|queue| !queue.is_empty())
            || self.injector.iter().any(|queue| !queue.is_empty())
    }

    /// What wakes the monitor; the first call counts.
    pub(crate) fn set_monitor_bell(&self, bell: Box<dyn Fn() + Send + Sync>) {
        let _ = self.monitor_bell.set(bell);
    }

    /// The monitor is about to sleep, or has slept.
    pub(crate) fn monitor_sleeps(&self, asleep: bool) {
        self.monitor_asleep.store(asleep, Ordering::Relaxed);
        // Pairs with the fence in `ring_monitor`: either the monitor sees the worker awake, or the worker sees
        // the monitor asleep.
        fence(Ordering::SeqCst);
    }

    /// Called by a worker that has woken.
    pub(super) fn ring_monitor(&self) {
        fence(Ordering::SeqCst);
        if self.monitor_asleep.load(Ordering::Relaxed)
            && let Some(bell) = self.monitor_bell.get()
        {
            bell();
        }
    }

    /// Whether every worker sleeps.
    pub(crate) fn all_asleep(&self) -> bool {
        self.idle.sleeping() + self.idle.resting() >= self.threads()
    }

    /// How many workers have a thread.
    pub(crate) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    /// How many workers sleep, spares that rest among them.
    pub(crate) fn sleeping(&self) -> usize {
        self.idle.sleeping() + self.idle.resting()
    }

    /// Whether this worker sleeps.
    pub(crate) fn is_asleep(&self, worker: usize) -> bool {
        self.idle.is_asleep(worker)
    }

    /// Finds somebody for the unstarted work of a worker that is stuck.
    pub(crate) fn rescue(&self, worker: usize) {
        if self.remotes[worker].has_unstarted() {
            self.wake_one(Amount::Plenty);
        }
    }

    /// Whether there is work that any worker may start.
    pub(crate) fn has_unstarted(&self) -> bool {
        self.injector.iter().any(|queue| !queue.is_empty())
            || self.workers().iter().any(Remote::has_unstarted)
    }

    /// After stealable work was pushed.
    #[inline]
    pub(super) fn wake_one(&self, amount: Amount) {
        if let Some(worker) = self.idle.notify_one(amount) {
            self.remotes[worker].driver().wake();
        }
    }

    /// Wakes one worker so that it looks around.
    pub(crate) fn wake_up(&self, worker: usize) {
        self.wake_worker(worker);
    }

    /// After something for this worker was pushed.
    #[inline]
    pub(super) fn wake_worker(&self, worker: usize) {
        if self.idle.notify(worker) {
            self.remotes[worker].driver().wake();
        }
    }

    /// The worker with the lowest load, of those that may start this class.
    pub(crate) fn least_loaded(&self, class: Class) -> usize {
        let first = usize::from(class == Class::Background && self.regular > 1);
        let workers = self.workers();
        (first..workers.len())
            .filter(|&index| workers[index].is_active())
            .min_by_key(|&index| {
                (
                    workers[index].stuck.load(Ordering::Relaxed),
                    workers[index].load(),
                )
            })
            .unwrap_or(0)
    }

    /// Whether a plain thread has spawned within the last millisecond.
    pub(super) fn outsiders_are_busy(&self, now: u64) -> bool {
        now.saturating_sub(self.last_outside.load(Ordering::Relaxed)) < 1_000_000
    }

    /// Fibers and futures spawned and not yet ended. Exact when it says zero; see the README.
    pub(crate) fn outstanding(&self) -> u64 {
        // Finished first: between the two reads the first sum can only fall short, so equal sums mean
        // that nothing was outstanding in between.
        let finished = self.finished();
        fence(Ordering::SeqCst);
        self.spawned().wrapping_sub(finished)
    }

    pub(super) fn finished(&self) -> u64 {
        let workers = self.workers().iter();
        let sum: u64 = workers.map(|remote| remote.counters.finished.get()).sum();
        sum + self.finished_outside.load(Ordering::Acquire)
    }

    pub(super) fn spawned(&self) -> u64 {
        let workers = self.workers().iter();
        let sum: u64 = workers.map(|remote| remote.counters.spawned.get()).sum();
        sum + self.from_outside.load(Ordering::Acquire)
    }

    /// Called by a worker about to sleep while the runtime drains.
    pub(super) fn announce_progress(&self) {
        drop(self.drained.lock());
        self.drained_changed.notify_all();
    }

    /// Blocks the calling thread until nothing is outstanding; false when `deadline` came first.
    pub(crate) fn wait_drained(&self, deadline: Option<Instant>) -> bool {
        let mut guard = self.drained.lock();
        loop {
            if self.outstanding() == 0 {
                return true;
            }
            if self.drained_changed.wait_until(&mut guard, deadline) {
                return self.outstanding() == 0;
            }
        }
    }

    /// Whether a worker other than this one has fresh work.
    pub(super) fn has_fresh(&self, but: usize) -> bool {
        let others = self
            .workers()
            .iter()
            .enumerate()
            .filter(|&(index, _)| index != but);
        others
            .into_iter()
            .any(|(_, remote)| remote.fresh.peek().is_some())
    }

    /// How much has been spawned on workers other than this one.
    pub(super) fn spawned_by_others(&self, but: usize) -> u64 {
        let others = self
            .workers()
            .iter()
            .enumerate()
            .filter(|&(index, _)| index != but);
        others.fold(0, |sum, (_, remote)| {
            sum.wrapping_add(remote.counters.spawned.get())
        })
    }

    /// Whether any queue holds stealable work of this class. Fresh work is not counted.
    pub(super) fn has_stealable(&self, class: Class) -> bool {
        let class = class.index();
        !self.injector[class].is_empty()
            || self
                .workers()
                .iter()
                .any(|remote| !remote.stealers[class].is_empty())
    }

    /// Asks every started fiber to stop, those that suspend for the first time later included.
    pub(crate) fn cancel_all(&self) {
        self.cancelling.store(true, Ordering::Relaxed);
        for remote in self.workers() {
            let fibers: Vec<FiberRef> = remote.registry.lock().iter().collect();
            for fiber in fibers {
                Fiber(fiber).cancel();
            }
        }
    }

    /// Refuses everything unstarted. After the last worker has left.
    pub(crate) fn empty_queues(&self) {
        for class in Class::ALL {
            while let Some(work) = super::steal(|| self.injector[class.index()].steal()) {
                drop(work);
            }
            for remote in self.workers() {
                while let Some(work) = super::steal(|| remote.mailbox[class.index()].steal()) {
                    drop(work);
                }
            }
        }
    }
}
