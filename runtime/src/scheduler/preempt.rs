//! The end of a quantum, on the stack of the fiber that has had it.
//!
//! The monitor sees that a turn has lasted for a quantum while others wait for the worker, and tells the embedder
//! ([`Hooks::overdue`](super::Hooks::overdue)); the embedder makes the fiber call [`preempt`] where it may be suspended. Only
//! there, on the worker's own thread, is it known for certain whether the turn still lasts and anybody waits.

use super::home::{WorkerHome, with_here};
use crate::fiber::{current, yield_now};
use crate::loom::sync::atomic::Ordering;

/// Suspends the running fiber, as [`yield_now`] does, if it is still in the turn that `Hooks::overdue` named
/// and something else waits for its worker. Returns whether it did, after it has been resumed.
///
/// Does nothing outside fibers.
pub fn preempt(turn: u64) -> bool {
    if current::fiber().is_none() || with_here(|here| here.gives_way(turn)) != Some(true) {
        return false;
    }
    yield_now();
    true
}

impl WorkerHome {
    fn gives_way(&self, turn: u64) -> bool {
        let remote = &self.hub.remotes[self.index];
        let counters = &remote.counters;
        if counters.turns.get() != turn {
            return false;
        }
        // SAFETY: `with_here` runs on the worker's thread; looking at the queues runs no code of the user's.
        let wanted = self.hub.is_wanted(self.index) || unsafe { self.with_owner(|owner| !owner.is_empty()) };
        if wanted {
            counters.preempted.add(1);
            // Timers and I/O that fell due meanwhile have waited long enough.
            remote.look_now.store(true, Ordering::Relaxed);
        } else {
            // The monitor need not ask again in this turn unless it sees something come.
            counters.alone_in.store(turn.wrapping_add(1), Ordering::Relaxed);
        }
        wanted
    }
}
