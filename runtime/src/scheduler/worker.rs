//! A worker's loop.

use super::clock::Clock;
use super::home::{Owner, WorkerHome};
use super::hooks::{FiberView, Hooks};
use super::hub::{Hub, Phase, Remote};
use super::placement::Placement;
use super::steal;
use super::work::{Runnable, Unpacked, Work};
use crate::context::Switched;
use crate::fiber::options::Class;
use crate::fiber::state::ToActive;
use crate::fiber::{self, Core, Directive, FiberId, FiberRef, Home, Refusal, current};
use crate::loom::sync::Arc;
use crate::loom::sync::atomic::{Ordering, fence};
use crate::stack::{AltStack, Pool};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// At least one turn in this many is background work, when there is any.
const BACKGROUND_SHARE: u32 = 16;
/// How long a worker out of work looks on before it sleeps: waking costs 20 us, a hand-off to one that
/// looks costs a quarter.
const SPIN: Duration = Duration::from_micros(5);
/// For how long, in nanoseconds, fork and join may go on (a joiner's child first, then the joiner) while
/// other fibers of the worker wait.
const CHAIN: u64 = 1_000_000;
/// Claims after which the local queue may be worth sweeping.
const SWEEP: usize = 64;

/// The loop of one worker, with the embedder's hooks compiled in.
pub(crate) struct Worker<H: Hooks> {
    home: Arc<WorkerHome>,
    hooks: Arc<H>,
    clock: Clock,
    placement: Placement,
    pool: Pool,
    rng: Rng,
    searching: bool,
    /// Whether anything ran since the last sleep: a worker with nothing to do does not spin.
    worked: bool,
    prefer_new: bool,
    normal_turns: u32,
    /// When the worker last chose freely what to run.
    chain_since: u64,
    /// A fiber in the ready queue, and since when: measures how long ready fibers wait.
    probe: Option<(FiberId, u64)>,
    cores: usize,
}

/// What a turn does.
enum Next {
    /// A fiber of this worker's: one that goes on, or one claimed by its joiner and not started yet.
    Resume(FiberRef),
    Start(Work),
}

/// Xorshift (Marsaglia 2003): which victim to rob first needs no better.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// A panic in the scheduler, or in a hook, would leave fibers that nobody runs.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("roving: a panic in the scheduler or in one of its hooks; aborting");
            std::process::abort();
        }
    }
}

impl<H: Hooks> Worker<H> {
    pub(crate) fn new(home: Arc<WorkerHome>, hooks: Arc<H>) -> Self {
        let hub = &home.hub;
        Self {
            clock: Clock::new(hub.origin),
            placement: Placement::default(),
            pool: Pool::new(&hub.slabs),
            rng: Rng(0x9E37_79B9_7F4A_7C15 ^ (home.index as u64 + 1)),
            searching: false,
            worked: false,
            prefer_new: false,
            normal_turns: 0,
            chain_since: 0,
            probe: None,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            hooks,
            home,
        }
    }

    /// Runs until the runtime stops.
    pub(crate) fn run(mut self) {
        let _abort = AbortOnPanic;
        let home = self.home.clone();
        let as_home: Arc<dyn Home> = home.clone();
        let resumed: Option<current::ResumedHook> = H::RESUMED.is_some().then_some(resumed::<H> as _);
        let _mark = current::WorkerMark::new(&as_home, resumed);
        let _here = home.enter();
        // Without it an overflow is reported by the default action of the signal: a plain crash.
        let _alt_stack = AltStack::install();
        self.hooks.worker_start(home.index);
        while home.hub.phase() < Phase::Stopping {
            match self.next().or_else(|| self.find_or_sleep()) {
                Some(next) => self.turn(next),
                None => continue,
            }
        }
        self.leave();
        self.hooks.worker_stop(home.index);
    }

    fn hub(&self) -> &Hub {
        &self.home.hub
    }

    fn remote(&self) -> &Remote {
        &self.home.hub.remotes[self.home.index]
    }

    fn active(&self) -> usize {
        self.hub().remotes.len()
    }

    fn with_owner<R>(&self, f: impl FnOnce(&mut Owner) -> R) -> R {
        // SAFETY: `self` is the worker's loop, on its thread; the closures below only move items.
        unsafe { self.home.with_owner(f) }
    }

    #[inline]
    fn turn(&mut self, next: Next) {
        self.worked = true;
        // While it runs it does not search, and producers must not think that it does.
        self.stop_searching();
        match next {
            Next::Resume(fiber) => self.resume(fiber),
            Next::Start(work) => self.start(work),
        }
        self.remote().counters.turns.add(1);
        self.hooks.turn(self.home.index);
    }

    /// What to do next, without searching elsewhere.
    #[inline]
    fn next(&mut self) -> Option<Next> {
        let due = self.clock.turn();
        if due || self.remote().look_now.load(Ordering::Relaxed) {
            self.look();
            if let Some(work) = self.from_injector(Class::Normal) {
                return Some(Next::Start(work));
            }
        }
        if !self.remote().inbox.is_empty() {
            self.drain_inbox();
        }
        if let Some(fiber) = self.with_owner(|owner| owner.next.take()) {
            if self.clock.coarse() - self.chain_since < CHAIN {
                return Some(Next::Resume(fiber));
            }
            self.home.schedule_here(fiber);
        }
        self.chain_since = self.clock.coarse();
        self.normal_turns += 1;
        if self.normal_turns >= BACKGROUND_SHARE {
            self.normal_turns = 0;
            if let Some(next) = self.of_class(Class::Background) {
                return Some(next);
            }
        }
        self.of_class(Class::Normal)
            .or_else(|| self.from_injector(Class::Normal).map(Next::Start))
            .or_else(|| self.of_class(Class::Background))
    }

    /// New and ready work of a class in turn, so that neither starves.
    #[inline]
    fn of_class(&mut self, class: Class) -> Option<Next> {
        self.prefer_new = !self.prefer_new;
        if self.prefer_new {
            self.new_of(class).map(Next::Start).or_else(|| self.pop_ready(class))
        } else {
            self.pop_ready(class).or_else(|| self.new_of(class).map(Next::Start))
        }
    }

    #[inline]
    fn pop_ready(&mut self, class: Class) -> Option<Next> {
        self.with_owner(|owner| owner.ready[class.index()].pop()).map(Next::Resume)
    }

    /// Unstarted work that is this worker's to start.
    fn new_of(&mut self, class: Class) -> Option<Work> {
        if class == Class::Background && !self.starts_background() {
            return None;
        }
        let remote = self.remote();
        if remote.mailed.load(Ordering::Relaxed) != 0
            && let Some(work) = steal(|| remote.mailbox[class.index()].steal())
        {
            remote.mailed.fetch_sub(1, Ordering::Relaxed);
            return Some(work);
        }
        while let Some(work) = self.with_owner(|owner| owner.local[class.index()].pop()) {
            if let Some(work) = self.place(work, class) {
                return Some(work);
            }
        }
        None
    }

    fn from_injector(&mut self, class: Class) -> Option<Work> {
        if class == Class::Background && !self.starts_background() {
            return None;
        }
        loop {
            let home = &self.home;
            if home.hub.injector[class.index()].is_empty() {
                return None;
            }
            // SAFETY: the worker's thread; stealing into the local queue runs no code of the user's.
            let work = steal(|| unsafe {
                home.with_owner(|owner| {
                    home.hub.injector[class.index()].steal_batch_and_pop(&owner.local[class.index()])
                })
            })?;
            if let Some(work) = self.place(work, class) {
                return Some(work);
            }
        }
    }

    /// The work, if this worker should start it; `None` when it was a tombstone or went elsewhere.
    #[inline]
    fn place(&mut self, work: Work, class: Class) -> Option<Work> {
        let active = self.active();
        if let Some(other) = self.placement.elsewhere(&self.home.hub, self.home.index, active)
            && work.can_be_placed()
        {
            self.remote().counters.handed_over.add(1);
            self.hub().hand_to(other, work, class);
            return None;
        }
        Some(work)
    }

    /// Background fibers start on all workers but the first, so that one is always free for requests.
    fn starts_background(&self) -> bool {
        self.home.index != 0 || self.active() == 1
    }

    fn drain_inbox(&mut self) {
        let home = self.home.clone();
        self.with_owner(|owner| home.hub.remotes[home.index].inbox.drain(&mut owner.ready));
    }

    /// Looks outside: timers and I/O, and what the others should know of this worker.
    #[cold]
    fn look(&mut self) {
        let now = self.clock.read();
        let home = self.home.clone();
        let remote = &home.hub.remotes[home.index];
        remote.clock.store(now, Ordering::Relaxed);
        remote.look_now.store(false, Ordering::Relaxed);
        remote.stuck.store(false, Ordering::Relaxed);
        remote.counters.looks.add(1);
        remote.driver.poll();
        self.clock.looked();
        self.placement.forget();
        if self.probe.is_none() {
            let last = self.with_owner(|owner| owner.ready[Class::Normal.index()].last_id());
            self.probe = last.map(|id| (id, now));
        }
        self.sweep_tombstones();
    }

    /// Rids the local queue of entries whose fiber was claimed by its joiner.
    fn sweep_tombstones(&mut self) {
        let home = self.home.clone();
        let swept = self.with_owner(|owner| {
            let queue = &owner.local[Class::Normal.index()];
            let len = queue.len();
            if owner.claims < SWEEP || owner.claims < len / 2 {
                return 0;
            }
            owner.claims = 0;
            let mut swept = 0;
            for _ in 0..len {
                let Some(work) = queue.pop() else { break };
                if work.is_tombstone() {
                    // Only a count is dropped: the claimer runs the fiber, or it was cancelled and its
                    // handle's reference is what frees it.
                    drop(work);
                    swept += 1;
                } else {
                    queue.push(work);
                }
            }
            swept
        });
        home.hub.remotes[home.index].counters.finished.add(swept);
    }

    fn start(&mut self, work: Work) {
        match work.unpack() {
            Unpacked::Fiber(fiber) => match fiber.state.transition_to_active() {
                ToActive::Claimed => self.start_claimed(fiber),
                ToActive::Taken => self.remote().counters.finished.add(1),
            },
            Unpacked::Future(runnable) => self.poll_future(runnable),
        }
    }

    fn poll_future(&mut self, runnable: Runnable) {
        // A panic in the future is carried to its handle by the task itself.
        runnable.run();
    }

    fn start_claimed(&mut self, fiber: FiberRef) {
        let class = fiber.stack.unwrap_or(self.hub().default_stack);
        let stack = match self.pool.take(class) {
            Ok(stack) => stack,
            Err(error) => {
                // SAFETY: the right to start it is ours.
                unsafe { fiber::refuse_claimed(&fiber, Refusal::NoStack(error)) };
                self.remote().counters.finished.add(1);
                return;
            }
        };
        let area = stack.embedder_area();
        // SAFETY: this worker is its home from here on, and the fiber does not run yet.
        unsafe { fiber.with_owned(|owned| owned.area = (!area.is_empty()).then_some(area)) };
        // SAFETY: the right to start it is ours, and it is only resumed here.
        let context = unsafe { fiber::mount(&fiber, stack) };
        // SAFETY: this is the home worker's loop.
        unsafe { fiber.with_context(|slot| *slot = Some(context)) };
        self.remote().counters.started.add(1);
        self.switch_to(fiber, true);
    }

    #[inline]
    fn resume(&mut self, fiber: FiberRef) {
        if let Some((probed, since)) = self.probe
            && probed == fiber.id
        {
            self.probe = None;
            let delay = self.clock.read().saturating_sub(since);
            self.remote().counters.ready_delay.store(delay, Ordering::Relaxed);
        }
        // SAFETY: this is the home worker's loop.
        if unsafe { fiber.with_context(|context| context.is_none()) } {
            return self.start_claimed(fiber);
        }
        // SAFETY: this is the home worker's thread.
        unsafe {
            fiber.with_owned(|owned| {
                if !owned.counted {
                    owned.counted = true;
                    self.home.change_live(1);
                }
            });
        }
        self.switch_to(fiber, false);
    }

    /// Runs a fiber until it suspends or ends.
    #[inline]
    fn switch_to(&mut self, fiber: FiberRef, first: bool) {
        let core = fiber.as_ptr();
        self.hooks.before_resume(FiberView::new(&fiber), first);
        current::set_fiber(Some(core));
        // SAFETY: this is the home worker's loop, on its base stack.
        let switched = unsafe {
            fiber.with_context(|context| context.as_mut().expect("a started fiber has a context").resume())
        };
        current::set_fiber(None);
        match switched {
            Switched::Suspended(directive) => {
                self.hooks.after_suspend(FiberView::new(&fiber));
                self.suspended(fiber, directive);
            }
            Switched::Finished => self.finished(fiber),
        }
    }

    #[inline]
    fn suspended(&mut self, fiber: FiberRef, directive: Directive) {
        let counts = directive == Directive::Yield || !fiber.reason().is_for_children();
        // SAFETY: this is the home worker's thread. The fiber may have been made runnable by another
        // thread meanwhile, but only this one can resume it.
        unsafe {
            fiber.with_owned(|owned| {
                if owned.counted != counts {
                    owned.counted = counts;
                    self.home.change_live(if counts { 1 } else { -1 });
                }
            });
        }
        fiber.since.store(self.clock.coarse(), Ordering::Relaxed);
        match directive {
            Directive::Yield => self.home.schedule_here(fiber),
            // The count now belongs to whoever moves it from PARKED to ACTIVE.
            Directive::Park => {
                let _ = fiber.into_raw();
            }
        }
    }

    fn finished(&mut self, fiber: FiberRef) {
        self.hooks.fiber_end(FiberView::new(&fiber));
        // SAFETY: this is the home worker's loop.
        let context = unsafe { fiber.with_context(Option::take) };
        self.pool.give(context.expect("it has just run").into_stack());
        // SAFETY: this is the home worker's thread.
        let enrolled = unsafe {
            fiber.with_owned(|owned| {
                if std::mem::take(&mut owned.counted) {
                    self.home.change_live(-1);
                }
                owned.area = None;
                owned.enrolled.take()
            })
        };
        if let Some(place) = enrolled {
            self.remote().registry.lock().remove(place);
        }
        self.remote().counters.finished.add(1);
    }

    /// Out of work: search, look on for a moment, sleep. `None` after a sleep, or to look at the phase.
    #[cold]
    fn find_or_sleep(&mut self) -> Option<Next> {
        if let Some(next) = self.search() {
            return Some(next);
        }
        if self.worked && self.may_spin() {
            let until = Instant::now() + SPIN;
            while Instant::now() < until {
                for _ in 0..8 {
                    crate::loom::hint::spin_loop();
                }
                if self.has_own_work() || self.has_stealable() {
                    return self.search().or_else(|| self.next());
                }
            }
        }
        self.worked = false;
        self.sleep();
        None
    }

    /// Tries to steal, as a searcher.
    fn search(&mut self) -> Option<Next> {
        if !self.searching {
            if !self.home.hub.idle.start_searching(self.active()) {
                return None;
            }
            self.searching = true;
        }
        let found = self.from_injector(Class::Normal).or_else(|| self.rob(Class::Normal)).or_else(|| {
            self.from_injector(Class::Background).or_else(|| self.rob(Class::Background))
        })?;
        self.stop_searching();
        Some(Next::Start(found))
    }

    fn stop_searching(&mut self) {
        if std::mem::take(&mut self.searching)
            && let Some(worker) = self.home.hub.idle.stop_searching()
        {
            self.hub().remotes[worker].driver.wake();
        }
    }

    fn rob(&mut self, class: Class) -> Option<Work> {
        if class == Class::Background && !self.starts_background() {
            return None;
        }
        let count = self.hub().remotes.len();
        let first = self.rng.below(count);
        for victim in (first..count).chain(0..first).filter(|&victim| victim != self.home.index) {
            let home = &self.home;
            let remote = &home.hub.remotes[victim];
            // SAFETY: the worker's thread; stealing into the local queue runs no code of the user's.
            let mut robbed = steal(|| unsafe {
                home.with_owner(|owner| {
                    remote.stealers[class.index()].steal_batch_and_pop(&owner.local[class.index()])
                })
            });
            // What placement gave to a worker is for that worker, unless it does not get to it.
            if robbed.is_none() && remote.stuck.load(Ordering::Relaxed) {
                robbed = steal(|| remote.mailbox[class.index()].steal());
                if robbed.is_some() {
                    remote.mailed.fetch_sub(1, Ordering::Relaxed);
                }
            }
            if robbed.is_some() {
                self.remote().counters.stolen.add(1);
                return robbed;
            }
        }
        None
    }

    /// Spinning helps while a core is free: not when plain threads spawn, nor when every core has a
    /// worker that runs and one more thread would only take turns with it.
    fn may_spin(&self) -> bool {
        let running = self.active() - self.hub().idle.sleeping();
        running <= self.cores && self.cores > 1 && !self.hub().outsiders_are_busy(self.hub().now())
    }

    /// Whether there is stealable work that this worker may start.
    fn has_stealable(&self) -> bool {
        let hub = self.hub();
        hub.has_stealable(Class::Normal) || (self.starts_background() && hub.has_stealable(Class::Background))
    }

    /// Whether something came for this worker alone.
    fn has_own_work(&self) -> bool {
        let remote = self.remote();
        !remote.inbox.is_empty() || remote.mailed.load(Ordering::Relaxed) != 0
    }

    fn sleep(&mut self) {
        let home = self.home.clone();
        let (hub, index) = (&home.hub, home.index);
        let remote = &hub.remotes[index];
        hub.idle.fall_asleep(index, std::mem::take(&mut self.searching));
        // From here on producers see us asleep; what they pushed before is ours to see.
        let found = self.has_own_work() || self.has_stealable() || hub.phase() >= Phase::Stopping;
        if !self.starts_background()
            && hub.has_stealable(Class::Background)
            && let Some(worker) = hub.idle.notify_another()
        {
            hub.remotes[worker].driver.wake();
        }
        if !found {
            if hub.phase() == Phase::Draining {
                hub.announce_progress();
            }
            remote.counters.slept.add(1);
            self.hooks.before_sleep(index);
            remote.driver.park(None);
            self.hooks.after_sleep(index);
        }
        self.searching = hub.idle.awake(index);
        if found && !self.searching && self.has_stealable() {
            // Stealable work that nobody may be searching for: do it ourselves, brake or no brake.
            self.searching = hub.idle.start_searching(usize::MAX);
        }
        let now = self.clock.read();
        remote.clock.store(now, Ordering::Relaxed);
        self.clock.looked();
        if let Some(next) = self.search_woken() {
            self.turn(next);
        }
    }

    /// A worker woken to search must end its search, whatever it finds first.
    fn search_woken(&mut self) -> Option<Next> {
        if !self.searching {
            return None;
        }
        let next = self.search();
        self.stop_searching();
        next
    }

    /// The runtime stops: refuses what has not started, abandons what has.
    fn leave(&mut self) {
        self.stop_searching();
        let home = self.home.clone();
        let remote = &home.hub.remotes[home.index];
        fence(Ordering::SeqCst);
        for class in Class::ALL {
            while let Some(work) = self.with_owner(|owner| owner.local[class.index()].pop()) {
                drop(work);
            }
        }
        self.with_owner(|owner| owner.clear_next());
        while let Some(Next::Resume(fiber)) =
            self.pop_ready(Class::Normal).or_else(|| self.pop_ready(Class::Background))
        {
            // SAFETY: this is the home worker's loop.
            if unsafe { fiber.with_context(|context| context.is_none()) } {
                // SAFETY: claimed and never started.
                unsafe { fiber::refuse_claimed(&fiber, Refusal::Abandoned) };
            } else {
                // Started: it is listed, and abandoned below through its own reference.
                std::mem::forget(fiber);
            }
        }
        let listed: Vec<FiberRef> = remote.registry.lock().iter().collect();
        for fiber in listed {
            // SAFETY: this is the home worker's loop, which will not resume it any more.
            if let Some(context) = unsafe { fiber.with_context(Option::take) } {
                context.leak();
                home.hub.slabs.note_leaked();
            }
            // SAFETY: it never runs again.
            unsafe { fiber::abandon(fiber) };
        }
        // After the last fiber of this worker is done: those that still wait through it are others'.
        remote.driver.shut();
    }
}

fn resumed<H: Hooks>(core: NonNull<Core>) {
    if let Some(hook) = H::RESUMED {
        // SAFETY: called by the fiber itself, which is alive.
        hook(FiberView::new(unsafe { core.as_ref() }));
    }
}
