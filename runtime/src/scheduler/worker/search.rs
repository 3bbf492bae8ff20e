//! Out of work: searching, looking on, sleeping.

use super::{Next, Worker};
use crate::fiber::options::Class;
use crate::loom::sync::atomic::Ordering;
use crate::scheduler::fresh::Sighting;
use crate::scheduler::hooks::Hooks;
use crate::scheduler::hub::{Amount, Phase};
use crate::scheduler::spare::Role;
use crate::scheduler::steal;
use crate::scheduler::work::Work;
use std::time::Duration;

/// How long a worker out of work looks on before it sleeps, at least (if at all) and at most: waking costs 20 us, and
/// the waker a few; a hand-off to one that looks on, a hundredth of that.
const LEAST_PATIENCE: u64 = 5_000;
const MOST_PATIENCE: u64 = 50_000;
/// A sleep this short should have been spent looking on.
const SHORT_SLEEP: u64 = 50_000;
/// While looking on, between two looks at more than the inbox: the queues of others (each takes a cache line
/// from its owner), timers and I/O.
const GLANCE: u64 = 1_000;
/// Others had the core for this long when it was offered to them.
const CROWDED: u64 = 500_000;
/// For how long a worker then sleeps at once: a sleeper that is woken gets the core sooner.
const CROWD_STAYS: u64 = 20_000_000;
/// For how long a worker must have been in one turn before a thief takes the newest work it has.
const RIPE: u64 = 2_000;
/// How long a searcher rests between looks at fresh work that its own workers keep getting to first.
const NAP: Duration = Duration::from_micros(100);
/// How long a resting spare waits before it ends.
const REST: Duration = Duration::from_secs(10);
/// How long a worker sleeps before it gives back stacks it does not need.
const TIDY_AFTER: Duration = Duration::from_secs(1);

/// Fresh work that a searcher has seen with its victim.
#[derive(Clone, Copy)]
pub(super) struct Suspect {
    work: Sighting,
    /// The victim's turn at the time.
    turn: u64,
    since: u64,
}

/// What a worker has learnt of waiting.
#[derive(Default)]
pub(super) struct Idling {
    /// For how long, in nanoseconds, it looks on.
    patience: u64,
    /// It was woken to search, and somebody else had been faster.
    in_vain: bool,
    /// What the others had spawned when it last lay down.
    spawned: u64,
    /// Until when it does not look on at all: others want the core, and keep it.
    crowded_until: u64,
    suspects: Vec<Option<Suspect>>,
}

impl<H: Hooks> Worker<H> {
    /// Out of work: search, look on for a moment, sleep. `None` after a sleep, or to look at the phase.
    #[cold]
    pub(super) fn find_or_sleep(&mut self) -> Option<Next> {
        if let Some(next) = self.search().or_else(|| self.look_on()) {
            return Some(next);
        }
        self.untidy |= std::mem::take(&mut self.worked);
        if !self.nap() {
            self.sleep();
        }
        None
    }

    /// Looks for work for a while without sleeping, if there is likely to be some.
    fn look_on(&mut self) -> Option<Next> {
        let start = self.clock.read();
        let patience = if self.worked && self.may_look_on(start) {
            self.idling.patience
        } else {
            0
        };
        // Fresh work must lie for a while before it is ours.
        let ripening = if self.searching && self.hub().has_fresh(self.home.index) {
            RIPE + GLANCE
        } else {
            0
        };
        if patience.max(ripening) == 0 {
            return None;
        }
        let alone = !self.shares_core();
        let mut now = start;
        loop {
            let glanced = now;
            while alone && now - glanced < GLANCE {
                for _ in 0..8 {
                    crate::loom::hint::spin_loop();
                }
                if self.has_own_work() {
                    return self.next();
                }
                now = self.clock.read();
            }
            // Whoever else wants the core may have what this one waits for.
            crate::loom::thread::yield_now();
            // A safe point: whoever waits for all of the embedder's threads must not wait for this one.
            self.hooks.turn(self.home.index);
            self.hub().remotes[self.home.index].driver().poll();
            self.clock.looked();
            if let Some(next) = self.next().or_else(|| self.search()) {
                return Some(next);
            }
            now = self.clock.read();
            if now - glanced >= CROWDED {
                self.idling.crowded_until = now + CROWD_STAYS;
                return None;
            }
            if now - start >= patience.max(ripening) {
                break;
            }
        }
        let less = self.idling.patience / 2;
        self.idling.patience = if less < LEAST_PATIENCE { 0 } else { less };
        None
    }

    /// Tries to steal, as a searcher.
    fn search(&mut self) -> Option<Next> {
        if self.hub().is_by_chance() {
            // There is nobody to steal from, and what plain threads spawned takes its chance with the rest.
            let next = self.draw()?;
            self.stop_searching();
            return Some(next);
        }
        if !self.searching {
            if !self.is_active() || !self.home.hub.idle.start_searching(self.hub().threads()) {
                return None;
            }
            self.searching = true;
        }
        let found = self
            .take_injected(Class::Normal)
            .or_else(|| self.rob(Class::Normal))
            .or_else(|| {
                self.take_injected(Class::Background)
                    .or_else(|| self.rob(Class::Background))
            })
            .or_else(|| self.rob_of_fresh())?;
        self.idling.in_vain = false;
        self.stop_searching();
        Some(Next::Start(found))
    }

    /// Takes the newest work of one that has not got to it for a while.
    fn rob_of_fresh(&mut self) -> Option<Work> {
        let home = self.home.clone();
        let workers = home.hub.workers();
        let suspects = &mut self.idling.suspects;
        suspects.resize(workers.len(), None);
        for (victim, (remote, suspect)) in workers.iter().zip(suspects).enumerate() {
            if victim == home.index {
                continue;
            }
            let Some(work) = remote.fresh.peek() else {
                *suspect = None;
                continue;
            };
            let turn = remote.counters.turns.get();
            let now = home.hub.now();
            let known = suspect.filter(|known| known.work == work && known.turn == turn);
            let since = known.map_or(now, |known| known.since);
            if now - since >= RIPE
                && let Some(work) = remote.fresh.take_seen(work)
            {
                *suspect = None;
                self.remote().counters.stolen.add(1);
                return Some(work);
            }
            *suspect = Some(Suspect { work, turn, since });
        }
        None
    }

    pub(super) fn stop_searching(&mut self) {
        if std::mem::take(&mut self.searching)
            && let Some(worker) = self.home.hub.idle.stop_searching()
        {
            self.hub().remotes[worker].driver().wake();
        }
    }

    fn rob(&mut self, class: Class) -> Option<Work> {
        if class == Class::Background && !self.starts_background() {
            return None;
        }
        let count = self.hub().workers().len();
        let first = self.rng.below(count);
        for victim in (first..count)
            .chain(0..first)
            .filter(|&victim| victim != self.home.index)
        {
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

    /// Looking on helps while a core is free: not when plain threads spawn, nor when every core has a worker that
    /// runs and one more thread would only take turns with it, nor when others keep the core for long.
    fn may_look_on(&self, now: u64) -> bool {
        let running = self.hub().threads().saturating_sub(self.hub().idle.sleeping());
        running <= self.cores && now >= self.idling.crowded_until && !self.hub().outsiders_are_busy(now)
    }

    /// Whether a worker that is awake was last seen on this one's core: the system often starts a woken thread
    /// where its waker runs.
    fn shares_core(&self) -> bool {
        // SAFETY: takes nothing.
        let core = unsafe { libc::sched_getcpu() };
        let Ok(core) = u32::try_from(core) else {
            return false;
        };
        self.remote().core.store(core, Ordering::Relaxed);
        let hub = self.hub();
        hub.workers().iter().enumerate().any(|(index, remote)| {
            index != self.home.index
                && remote.core.load(Ordering::Relaxed) == core
                && remote.role.get() != Role::Vacant
                && !hub.is_asleep(index)
        })
    }

    /// A searcher that was woken in vain, or leaves fresh work to its owner, looks again soon, and keeps others
    /// from being woken for the like. False when there is no reason for it.
    fn nap(&mut self) -> bool {
        let home = self.home.clone();
        let (hub, index) = (&home.hub, home.index);
        if !self.searching {
            return false;
        }
        let spawned = hub.spawned_by_others(index);
        let goes_on = spawned != std::mem::replace(&mut self.idling.spawned, spawned);
        if !(self.idling.in_vain && goes_on || hub.has_fresh(index)) || !hub.idle.nap(index) {
            return false;
        }
        if !(self.has_own_work() || self.has_stealable() || hub.phase() >= Phase::Stopping) {
            self.hooks.before_sleep(index);
            hub.remotes[index].driver().park(Some(NAP));
            self.hooks.after_sleep(index);
        }
        hub.idle.nap_is_over(index);
        hub.remotes[index]
            .clock
            .store(self.clock.read(), Ordering::Relaxed);
        self.clock.looked();
        true
    }

    /// Whether there is stealable work that this worker may start.
    fn has_stealable(&self) -> bool {
        if !self.is_active() {
            return false;
        }
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
        let active = self.is_active();
        if active {
            hub.idle.fall_asleep(index, std::mem::take(&mut self.searching));
        } else {
            self.stop_searching();
            hub.idle.fall_asleep_resting(index);
        }
        // From here on producers see us asleep; what they pushed before is ours to see.
        let due = hub.is_due(index);
        let found = self.has_own_work()
            || self.has_stealable()
            || (active && hub.has_fresh(index) && !hub.idle.somebody_searches())
            || hub.phase() >= Phase::Stopping
            || due;
        if due {
            // By a clock that stands nothing but a look wakes them.
            remote.look_now.store(true, Ordering::Relaxed);
        }
        if !active && Class::ALL.iter().any(|&class| hub.has_stealable(class)) {
            // Ours among them, perhaps: somebody must start it.
            hub.wake_one(Amount::Plenty);
        }
        if !self.starts_background()
            && hub.has_stealable(Class::Background)
            && let Some(worker) = hub.idle.notify_another()
        {
            hub.remotes[worker].driver().wake();
        }
        let before = self.clock.read();
        if !found {
            if hub.phase() == Phase::Draining {
                hub.announce_progress();
            }
            hub.announce_rest();
            hub.watchers.tell();
            remote.counters.slept.add(1);
            self.hooks.before_sleep(index);
            let timeout = if active {
                self.untidy.then_some(TIDY_AFTER)
            } else {
                Some(REST)
            };
            remote.driver().park(timeout);
            self.hooks.after_sleep(index);
        }
        self.searching = hub.idle.awake(index);
        hub.ring_monitor();
        if found && !self.searching && (self.has_stealable() || hub.has_fresh(index)) {
            // Stealable work that nobody may be searching for: do it ourselves, brake or no brake.
            self.searching = hub.idle.start_searching(usize::MAX);
        }
        let now = self.clock.read();
        if !found && now - before < SHORT_SLEEP {
            self.idling.patience = (2 * self.idling.patience).clamp(LEAST_PATIENCE, MOST_PATIENCE);
        }
        if now - before >= TIDY_AFTER.as_nanos() as u64 {
            self.untidy = self.pool.decay();
        }
        remote.clock.store(now, Ordering::Relaxed);
        self.clock.looked();
        if !active && !found && now - before >= REST.as_nanos() as u64 {
            self.retire();
        }
        if let Some(next) = self.search_woken() {
            self.turn(next);
        }
    }

    /// A spare that has rested, with nothing left to do, ends.
    fn retire(&mut self) {
        let home = self.home.clone();
        let remote = &home.hub.remotes[home.index];
        let busy = remote.live.load(Ordering::Relaxed) != 0
            || remote.registry.lock().len() != 0
            || self.has_own_work()
            || self.with_owner(|owner| !owner.is_empty());
        // The monitor may want it back at this moment: one of the two succeeds.
        self.retired = !busy && home.hub.dismiss(home.index, Role::Resting);
        if self.retired {
            // One fewer that must sleep for all to do so.
            home.hub.watchers.tell();
        }
    }

    /// A worker woken to search must end its search, whatever it finds first.
    fn search_woken(&mut self) -> Option<Next> {
        if !self.searching {
            return None;
        }
        let next = self.search();
        self.idling.in_vain = next.is_none();
        if next.is_some() {
            self.stop_searching();
        }
        next
    }
}
