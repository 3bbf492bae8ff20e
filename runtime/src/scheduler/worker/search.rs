//! Out of work: searching, looking on, sleeping.

use super::{Next, Worker};
use crate::fiber::options::Class;
use crate::loom::sync::atomic::Ordering;
use crate::scheduler::hooks::Hooks;
use crate::scheduler::hub::Phase;
use crate::scheduler::spare::Role;
use crate::scheduler::steal;
use crate::scheduler::work::Work;
use std::time::{Duration, Instant};

/// How long a worker out of work looks on before it sleeps: waking costs 20 us, a hand-off to one that
/// looks costs a quarter.
const SPIN: Duration = Duration::from_micros(5);
/// How long a resting spare waits before it ends.
const REST: Duration = Duration::from_secs(10);
/// How long a worker sleeps before it gives back stacks it does not need.
const TIDY_AFTER: Duration = Duration::from_secs(1);

/// What a thief takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    All,
    /// Not the only item of a queue.
    LeaveLone,
}

impl<H: Hooks> Worker<H> {
    /// Out of work: search, look on for a moment, sleep. `None` after a sleep, or to look at the phase.
    #[cold]
    pub(super) fn find_or_sleep(&mut self) -> Option<Next> {
        if self.worked && self.may_spin() {
            // A lone fiber in a queue is most likely about to be started, or joined, by the one that spawned it:
            // taking it at once would only drag it across. If it is still there after the spin, it is ours.
            if let Some(next) = self.search(Take::LeaveLone) {
                return Some(next);
            }
            let until = Instant::now() + SPIN;
            while Instant::now() < until {
                for _ in 0..8 {
                    crate::loom::hint::spin_loop();
                }
                if self.has_own_work() {
                    return self.next();
                }
                if let Some(next) = self.search(Take::LeaveLone) {
                    return Some(next);
                }
            }
        }
        if let Some(next) = self.search(Take::All) {
            return Some(next);
        }
        self.untidy |= std::mem::take(&mut self.worked);
        self.sleep();
        None
    }

    /// Tries to steal, as a searcher.
    fn search(&mut self, take: Take) -> Option<Next> {
        if !self.searching {
            if !self.is_active() || !self.home.hub.idle.start_searching(self.hub().threads()) {
                return None;
            }
            self.searching = true;
        }
        let found = self
            .take_injected(Class::Normal)
            .or_else(|| self.rob(Class::Normal, take))
            .or_else(|| {
                self.take_injected(Class::Background)
                    .or_else(|| self.rob(Class::Background, take))
            })?;
        self.stop_searching();
        Some(Next::Start(found))
    }

    pub(super) fn stop_searching(&mut self) {
        if std::mem::take(&mut self.searching)
            && let Some(worker) = self.home.hub.idle.stop_searching()
        {
            self.hub().remotes[worker].driver().wake();
        }
    }

    fn rob(&mut self, class: Class, take: Take) -> Option<Work> {
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
            if take == Take::LeaveLone && remote.stealers[class.index()].len() < 2 {
                continue;
            }
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
        let running = self.hub().threads().saturating_sub(self.hub().idle.sleeping());
        running <= self.cores && self.cores > 1 && !self.hub().outsiders_are_busy(self.hub().now())
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
        let found = self.has_own_work() || self.has_stealable() || hub.phase() >= Phase::Stopping;
        if !active && Class::ALL.iter().any(|&class| hub.has_stealable(class)) {
            // Ours among them, perhaps: somebody must start it.
            hub.wake_one();
        }
        if !self.starts_background()
            && hub.has_stealable(Class::Background)
            && let Some(worker) = hub.idle.notify_another()
        {
            hub.remotes[worker].driver().wake();
        }
        if !found {
            if hub.phase() == Phase::Draining {
                hub.announce_progress();
            }
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
        if found && !self.searching && self.has_stealable() {
            // Stealable work that nobody may be searching for: do it ourselves, brake or no brake.
            self.searching = hub.idle.start_searching(usize::MAX);
        }
        let before = self.clock.coarse();
        let now = self.clock.read();
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
    }

    /// A worker woken to search must end its search, whatever it finds first.
    fn search_woken(&mut self) -> Option<Next> {
        if !self.searching {
            return None;
        }
        let next = self.search(Take::All);
        self.stop_searching();
        next
    }
}
