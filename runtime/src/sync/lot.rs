//! Queues of waiters, keyed by an address: for locks that have no room for a queue of their own.
//!
//! After WebKit's `WTF::ParkingLot` (Filip Pizlo) and parking_lot's `parking_lot_core`. Two differences: the
//! waiters are fibers as well as threads, and what a waker decides it decides in two steps, the code for
//! each waiter it tries first and what the word is to say last, both under the lock of the queue.

use super::waiter::{GaveUp, Patience};
use super::waiters::{Place, Wait, WaitQueue, Waiters};
use crate::fiber::parker::{Parker, Wake};
use crate::fiber::{Cancelled, WaitReason};
use crate::loom::sync::MutexGuard;
use crate::loom::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Instant;

/// A prime, so that the distances of objects from one another do not show. Far more than there are workers.
#[cfg(not(loom))]
const SHARDS: usize = 251;
#[cfg(loom)]
const SHARDS: usize = 1;

/// Queues of waiters, by the address they wait at.
pub struct Lot {
    shards: Box<[Shard]>,
}

struct Shard {
    /// How many wait or are about to: an estimate for those that do not hold the lock.
    waiting: AtomicUsize,
    queues: Waiters<Vec<Keyed>>,
}

/// The queue of one address. There is one as long as somebody waits.
struct Keyed {
    address: usize,
    /// The wakers' own: zero when the first waiter comes.
    note: u32,
    queue: WaitQueue<u32>,
}

/// How a wait at an address ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LotWait {
    /// There was no need to wait.
    Unneeded,
    /// A waker said this.
    Woken(u32),
    /// The deadline came first.
    TimedOut,
}

/// Where a waiter queues up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LotPlace {
    /// Behind those that wait already.
    Back,
    /// Before them, for one that has waited before.
    Front,
}

/// What a waker found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LotWoken {
    /// The code that a waiter is woken with; `None` when none was.
    pub code: Option<u32>,
    /// Whether others still wait at the address.
    pub more: bool,
}

fn find(queues: &mut [Keyed], address: usize) -> Option<&mut Keyed> {
    queues.iter_mut().find(|keyed| keyed.address == address)
}

fn forget(queues: &mut Vec<Keyed>, address: usize) {
    if let Some(index) = queues.iter().position(|keyed| keyed.address == address) {
        queues.swap_remove(index);
    }
}

impl Lot {
    /// An empty one.
    pub fn new() -> Self {
        let shard = |_| Shard {
            waiting: AtomicUsize::new(0),
            queues: Waiters::new(Vec::new()),
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
        }
    }

    fn shard(&self, address: usize) -> &Shard {
        &self.shards[address % SHARDS]
    }

    /// Whether somebody may wait at an address, for one that has just changed what is waited for and would
    /// rather not take a lock: either it sees the waiter, or the waiter's `needed` sees the change.
    #[inline]
    pub fn may_have_waiters(&self, address: usize) -> bool {
        // Pairs with the fence of `wait`: the change comes before this fence, or the count after that one.
        fence(Ordering::SeqCst);
        self.shard(address).waiting.load(Ordering::Relaxed) != 0
    }

    /// Waits at an address until `deadline` at most, if `needed` says so, and tells wakers `token`.
    ///
    /// `needed` is called under the lock that wakers take, which must not wait for anybody: who changes what it
    /// looks at and then wakes at this address is seen by it, or finds the waiter.
    ///
    /// # Errors
    /// [`Cancelled`] when the calling fiber is; it was not woken then.
    ///
    /// # Panics
    /// On a worker between two fibers, where nothing can wait.
    pub fn wait(
        &self,
        address: usize,
        (place, token): (LotPlace, u32),
        deadline: Option<Instant>,
        needed: impl FnOnce() -> bool,
    ) -> Result<LotWait, Cancelled> {
        let parker = Parker::current();
        let shard = self.shard(address);
        let queues = shard.queues.lock();
        shard.waiting.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence of `may_have_waiters`.
        fence(Ordering::SeqCst);
        if !needed() {
            shard.waiting.fetch_sub(1, Ordering::Relaxed);
            return Ok(LotWait::Unneeded);
        }
        let place = match place {
            LotPlace::Back => Place::Back,
            LotPlace::Front => Place::Front,
        };
        let patience = Patience::until(deadline, WaitReason::Mutex);
        let waiting = Waiting { address };
        let ended = shard
            .queues
            .wait(queues, &parker, (place, token), &patience, waiting);
        shard.waiting.fetch_sub(1, Ordering::Relaxed);
        match ended {
            Ok(code) => Ok(LotWait::Woken(code)),
            Err(GaveUp::TimedOut) => Ok(LotWait::TimedOut),
            Err(GaveUp::Cancelled) => Err(Cancelled),
        }
    }

    /// Wakes the first waiter at an address.
    ///
    /// `decide` is shown the wakers' note of this address and the waiter's token; it gives the code to wake it with
    /// (below 2^30), or `None` to leave it and all others where they are. It may be called again, when the waiter
    /// turns out to be gone. `settle` is called once, last. Both run under the lock that waiters take to look
    /// whether they need wait, and must not wait for anybody, nor call this lot.
    pub fn wake_one(
        &self,
        address: usize,
        mut decide: impl FnMut(&mut u32, u32) -> Option<u32>,
        settle: impl FnOnce(LotWoken),
    ) {
        let shard = self.shard(address);
        let mut queues = shard.queues.lock();
        let mut woken = LotWoken {
            code: None,
            more: false,
        };
        let mut wake = Wake::Nothing;
        if let Some(keyed) = find(&mut queues, address) {
            let note = &mut keyed.note;
            let choice = keyed.queue.choose(|&token| {
                woken.code = decide(note, token);
                woken.code
            });
            match choice {
                Some(choice) => wake = choice.wake(),
                // Those that were shown are gone, or are to be left.
                None => woken.code = None,
            }
            woken.more = !keyed.queue.is_empty();
        }
        if !woken.more {
            forget(&mut queues, address);
        }
        settle(woken);
        drop(queues);
        wake.finish();
    }

    /// Wakes all that wait at an address now, with `code`.
    pub fn wake_all(&self, address: usize, code: u32) {
        let shard = self.shard(address);
        let mut end = None;
        loop {
            let mut queues = shard.queues.lock();
            let Some(keyed) = find(&mut queues, address) else {
                return;
            };
            let end = *end.get_or_insert(keyed.queue.tickets());
            let choice = keyed.queue.choose_before(end, |_| code);
            let Some(choice) = choice else { return };
            let wake = choice.wake();
            if keyed.queue.is_empty() {
                forget(&mut queues, address);
            }
            drop(queues);
            wake.finish();
        }
    }
}

/// One wait at an address.
struct Waiting {
    address: usize,
}

impl Wait<Vec<Keyed>> for Waiting {
    type Data = u32;

    fn queue<'q>(&self, queues: &'q mut Vec<Keyed>) -> &'q mut WaitQueue<u32> {
        let found = queues.iter().position(|keyed| keyed.address == self.address);
        let index = found.unwrap_or_else(|| {
            queues.push(Keyed {
                address: self.address,
                note: 0,
                queue: WaitQueue::new(),
            });
            queues.len() - 1
        });
        &mut queues[index].queue
    }

    fn left(self, mut queues: MutexGuard<'_, Vec<Keyed>>) {
        if find(&mut queues, self.address).is_some_and(|keyed| keyed.queue.is_empty()) {
            forget(&mut queues, self.address);
        }
    }
}

impl Default for Lot {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Lot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lot").finish_non_exhaustive()
    }
}
