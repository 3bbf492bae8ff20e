//! A worker's loop.

mod draw;
mod leave;
mod run;
mod search;

use super::clock::Clock;
use super::home::{Owner, WorkerHome};
use super::hooks::Hooks;
use super::hub::{Amount, Hub, Phase, Remote};
use super::placement::Placement;
use super::spare::Role;
use super::steal;
use super::work::Work;
use crate::fiber::options::Class;
use crate::fiber::{FiberId, FiberRef, Home, current};
use crate::loom::sync::Arc;
use crate::loom::sync::atomic::Ordering;
use crate::stack::{AltStack, Pool};

/// At least one turn in this many is background work, when there is any.
const BACKGROUND_SHARE: u32 = 16;
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
    idling: search::Idling,
    /// What is about to run, or runs, came out of the mailbox.
    starts_mail: bool,
    /// Whether the pool may hold more stacks than an idle worker needs.
    untidy: bool,
    /// A spare that has been dismissed.
    retired: bool,
    prefer_new: bool,
    prefer_injected: bool,
    normal_turns: u32,
    /// When the worker last chose freely what to run.
    chain_since: u64,
    /// A fiber in the ready queue, and since when: measures how long ready fibers wait.
    probe: Option<(FiberId, u64)>,
    cores: usize,
    /// What the turns are drawn from, of a worker that schedules by chance.
    lots: draw::Lots,
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
            idling: search::Idling::default(),
            starts_mail: false,
            untidy: false,
            retired: false,
            prefer_new: false,
            prefer_injected: false,
            normal_turns: 0,
            chain_since: 0,
            probe: None,
            lots: draw::Lots::default(),
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
        let resumed: Option<current::ResumedHook> = H::RESUMED.is_some().then_some(run::resumed::<H> as _);
        let _mark = current::WorkerMark::new(&as_home, resumed);
        let _here = home.enter();
        // Without it an overflow is reported by the default action of the signal: a plain crash.
        let _alt_stack = AltStack::install();
        self.hooks.worker_start(home.index);
        self.remote().thread.adopt();
        // Such a worker draws whenever it would look.
        let by_chance = home.hub.is_by_chance();
        self.remote().look_now.fetch_or(by_chance, Ordering::Relaxed);
        while home.hub.phase() < Phase::Stopping && !self.retired {
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

    /// Whether this worker starts fibers: a spare may rest.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.home.index < self.hub().regular || self.remote().role.get() == Role::Active
    }

    fn with_owner<R>(&self, f: impl FnOnce(&mut Owner) -> R) -> R {
        // SAFETY: `self` is the worker's loop, on its thread; the closures below only move items.
        unsafe { self.home.with_owner(f) }
    }

    #[inline(always)] // see `switch_to`
    fn turn(&mut self, next: Next) {
        self.worked = true;
        // While it runs it does not search, and producers must not think that it does.
        self.stop_searching();
        let counters = &self.remote().counters;
        counters.turn_began.store(self.clock.coarse(), Ordering::Relaxed);
        let ready = match next {
            Next::Resume(fiber) => self.ready_to_resume(fiber),
            Next::Start(work) => self.start(work),
        };
        if let Some((fiber, first)) = ready {
            self.switch_to(fiber, first);
        }
        if std::mem::take(&mut self.starts_mail) {
            self.remote().mailed.fetch_sub(1, Ordering::Relaxed);
        }
        self.remote().counters.turns.add(1);
        self.hooks.turn(self.home.index);
    }

    /// What to do next, without searching elsewhere.
    #[inline]
    fn next(&mut self) -> Option<Next> {
        let due = self.clock.turn();
        if due || self.remote().look_now.load(Ordering::Relaxed) {
            let by_chance = self.hub().is_by_chance();
            let next = if by_chance {
                self.draw()
            } else {
                self.look_for_work()
            };
            if by_chance || next.is_some() {
                return next;
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
            if let Some(next) = self.background_turn() {
                return Some(next);
            }
        }
        self.of_class(Class::Normal)
            .or_else(|| self.take_injected(Class::Normal).map(Next::Start))
            .or_else(|| self.of_class(Class::Background))
    }

    /// New and ready work of a class in turn, so that neither starves.
    #[inline]
    fn of_class(&mut self, class: Class) -> Option<Next> {
        self.prefer_new = !self.prefer_new;
        if self.prefer_new {
            self.new_of(class)
                .map(Next::Start)
                .or_else(|| self.pop_ready(class))
        } else {
            self.pop_ready(class)
                .or_else(|| self.new_of(class).map(Next::Start))
        }
    }

    #[inline]
    fn pop_ready(&mut self, class: Class) -> Option<Next> {
        self.with_owner(|owner| owner.ready[class.index()].pop())
            .map(Next::Resume)
    }

    /// Unstarted work that is this worker's to start.
    fn new_of(&mut self, class: Class) -> Option<Work> {
        if class == Class::Background && !self.starts_background() {
            return None;
        }
        let remote = self.remote();
        if !self.is_active() {
            // What is left of its own spawns is for thieves, what it was given for whoever has time.
            if remote.mailed.load(Ordering::Relaxed) != 0 {
                self.hub().forward_mail(self.home.index);
            }
            if let Some(work) = remote.fresh.take() {
                self.with_owner(|owner| owner.local[class.index()].push(work));
                self.hub().wake_one(Amount::Plenty);
            }
            return None;
        }
        if remote.mailed.load(Ordering::Relaxed) != 0
            && let Some(work) = steal(|| remote.mailbox[class.index()].steal())
        {
            // It counts as mail until its first turn is over, and then as live if it is: whoever spreads fibers
            // meanwhile sees that this worker has one.
            self.starts_mail = true;
            return Some(work);
        }
        while let Some(work) = self.pop_new(class) {
            if let Some(work) = self.place(work, class) {
                return Some(work);
            }
        }
        None
    }

    /// The oldest unstarted work of this worker's.
    #[inline]
    fn pop_new(&self, class: Class) -> Option<Work> {
        let oldest = self.with_owner(|owner| owner.local[class.index()].pop());
        if oldest.is_some() || class == Class::Background {
            return oldest;
        }
        self.remote().fresh.take()
    }

    fn take_injected(&mut self, class: Class) -> Option<Work> {
        if !self.is_active() {
            return None;
        }
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
        // The first worker starts no background work, so none is handed to it.
        let first = usize::from(class == Class::Background && self.hub().regular > 1);
        let used = self.hub().workers().len();
        if let Some(other) = self
            .placement
            .elsewhere(&self.home.hub, self.home.index, first..used)
            && work.can_be_placed()
        {
            self.remote().counters.handed_over.add(1);
            self.hub().hand_to(other, work, class);
            return None;
        }
        Some(work)
    }

    /// Background work amid normal work: what is here, and what others have brought, in turn.
    fn background_turn(&mut self) -> Option<Next> {
        self.prefer_injected = !self.prefer_injected;
        if self.prefer_injected
            && let Some(work) = self.take_injected(Class::Background)
        {
            return Some(Next::Start(work));
        }
        self.of_class(Class::Background)
            .or_else(|| self.take_injected(Class::Background).map(Next::Start))
    }

    fn starts_background(&self) -> bool {
        self.home.starts_background()
    }

    fn drain_inbox(&mut self) {
        let home = self.home.clone();
        self.with_owner(|owner| home.hub.remotes[home.index].inbox.drain(&mut owner.ready));
    }

    /// Looks outside, and whether plain threads have brought something.
    #[cold]
    fn look_for_work(&mut self) -> Option<Next> {
        self.look();
        self.take_injected(Class::Normal).map(Next::Start)
    }

    /// Looks outside: timers and I/O, and what the others should know of this worker.
    #[cold]
    fn look(&mut self) {
        let now = self.clock.read();
        let home = self.home.clone();
        let remote = &home.hub.remotes[home.index];
        remote.clock.store(now, Ordering::Relaxed);
        remote.look_now.store(false, Ordering::Relaxed);
        let was_stuck = remote.stuck.load(Ordering::Relaxed);
        remote.stuck.store(false, Ordering::Relaxed);
        remote.blocked.store(false, Ordering::Relaxed);
        remote.counters.looks.add(1);
        remote.driver().poll();
        if was_stuck {
            self.note_held_up(now);
        }
        self.clock.looked();
        self.placement.forget();
        if self.probe.is_none() {
            let last = self.with_owner(|owner| owner.ready[Class::Normal.index()].last_id());
            self.probe = last.map(|id| (id, now));
        }
        self.sweep_tombstones();
    }

    /// The last turn was long. Who waits now has waited for it: at most for as long as it took.
    fn note_held_up(&mut self, now: u64) {
        let ready = self.with_owner(|owner| owner.ready.iter().any(|queue| !queue.is_empty()));
        let remote = self.remote();
        if ready || !remote.inbox.is_empty() {
            let turn = now.saturating_sub(remote.counters.turn_began.load(Ordering::Relaxed));
            let longest = remote.counters.held_up.load(Ordering::Relaxed).max(turn);
            remote.counters.held_up.store(longest, Ordering::Relaxed);
        }
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
                    if work.is_daemon() {
                        home.hub.daemon_ends();
                    }
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
}
