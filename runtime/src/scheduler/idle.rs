//! Who sleeps, who searches, and who is woken. The README beside this file argues why no wake-up is
//! lost. After rayon's `rayon-core/src/sleep` and tokio's `runtime/scheduler/multi_thread/idle.rs`; the
//! difference is the word per worker, since pinned fibers need *their* worker, not any.

use super::hub::Amount;
use crate::loom::CachePadded;
use crate::loom::sync::Mutex;
use crate::loom::sync::atomic::{AtomicU32, Ordering, fence};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;
/// Taken off the list of sleepers, and counted as a searcher by the one that did.
const WOKEN_TO_SEARCH: u32 = 2;
/// Sleeps for a moment, on no list and still a searcher: what is for itself alone wakes it, and so does plenty.
const NAPPING: u32 = 3;

const NOBODY: u32 = 0;

/// One more searcher; sleepers are counted in the upper half of the word.
const SEARCHER: u32 = 1;
const SLEEPER: u32 = 1 << 16;

fn searchers(counts: u32) -> u32 {
    counts & (SLEEPER - 1)
}

fn sleepers(counts: u32) -> u32 {
    counts >> 16
}

#[derive(Default)]
struct Asleep {
    /// Those that may be woken to search. Most recently asleep last: it is woken first, its caches being the
    /// warmest.
    searchers: Vec<usize>,
    /// Spares that rest: only their own work wakes them, and they are not counted as sleepers.
    resting: Vec<usize>,
}

pub(super) struct Idle {
    /// How many search and how many sleep. Written under the lock where it concerns sleepers.
    counts: CachePadded<AtomicU32>,
    asleep: Mutex<Asleep>,
    /// How many rest. Written under the lock.
    resting: AtomicU32,
    /// The worker that naps, counted from one.
    napper: AtomicU32,
    words: Box<[CachePadded<AtomicU32>]>,
}

impl Idle {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            counts: CachePadded::new(AtomicU32::new(0)),
            asleep: Mutex::new(Asleep::default()),
            resting: AtomicU32::new(0),
            napper: AtomicU32::new(NOBODY),
            words: (0..workers)
                .map(|_| CachePadded::new(AtomicU32::new(AWAKE)))
                .collect(),
        }
    }

    /// After stealable work was made visible: the sleeper to wake, if one should be. It is counted as a
    /// searcher already, so that no second producer wakes a second worker for the same reason.
    #[inline]
    #[must_use = "the worker was taken off the list: its driver must be woken"]
    pub(super) fn notify_one(&self, amount: Amount) -> Option<usize> {
        // Pairs with the fences in `fall_asleep` and `nap`: either we see the sleeper, or it sees our work.
        fence(Ordering::SeqCst);
        let counts = self.counts.load(Ordering::Relaxed);
        if searchers(counts) != 0 {
            // One that naps looks at lone work when its nap is over, and is not kept from the rest.
            return (amount == Amount::Plenty).then(|| self.rouse()).flatten();
        }
        if sleepers(counts) == 0 {
            return None;
        }
        self.notify_one_slow()
    }

    /// Takes the right to wake the one that naps, if one does.
    fn rouse(&self) -> Option<usize> {
        let napper = self.napper.load(Ordering::Relaxed);
        (napper != NOBODY && self.ends_nap(napper)).then(|| napper as usize - 1)
    }

    fn ends_nap(&self, napper: u32) -> bool {
        self.napper
            .compare_exchange(napper, NOBODY, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// A searcher announces a nap: it stays one, so that no producer wakes another for lone work. The caller must
    /// then look once more at everything but fresh work, and call [`Idle::nap_is_over`]. False: another naps.
    pub(super) fn nap(&self, worker: usize) -> bool {
        let lies_down = self
            .napper
            .compare_exchange(NOBODY, worker as u32 + 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if lies_down {
            self.words[worker].store(NAPPING, Ordering::Relaxed);
            // Pairs with the fences of `notify_one` and `notify`.
            fence(Ordering::SeqCst);
        }
        lies_down
    }

    /// Ends a nap.
    pub(super) fn nap_is_over(&self, worker: usize) {
        self.words[worker].store(AWAKE, Ordering::Relaxed);
        self.ends_nap(worker as u32 + 1);
    }

    #[cold]
    fn notify_one_slow(&self) -> Option<usize> {
        let mut asleep = self.asleep.lock();
        // A searcher that appeared meanwhile looks at every queue before it sleeps: it will do.
        if searchers(self.counts.load(Ordering::Relaxed)) != 0 {
            return None;
        }
        let worker = asleep.searchers.pop()?;
        self.counts.fetch_sub(SLEEPER - SEARCHER, Ordering::Relaxed);
        self.words[worker].store(WOKEN_TO_SEARCH, Ordering::Relaxed);
        Some(worker)
    }

    /// Wakes a sleeper other than the first worker, searchers or not: for background work that the first
    /// worker found and may not start.
    #[must_use = "the worker was taken off the list: its driver must be woken"]
    pub(super) fn notify_another(&self) -> Option<usize> {
        let mut asleep = self.asleep.lock();
        let worker = asleep.searchers.pop_if(|worker| *worker != 0)?;
        self.counts.fetch_sub(SLEEPER - SEARCHER, Ordering::Relaxed);
        self.words[worker].store(WOKEN_TO_SEARCH, Ordering::Relaxed);
        Some(worker)
    }

    /// After work for this very worker was made visible; true when its driver must be woken.
    #[inline]
    #[must_use = "the worker was taken off the list: its driver must be woken"]
    pub(super) fn notify(&self, worker: usize) -> bool {
        // Pairs with the fence in `fall_asleep`.
        fence(Ordering::SeqCst);
        match self.words[worker].load(Ordering::Relaxed) {
            ASLEEP => self.take_off(worker),
            NAPPING => self.ends_nap(worker as u32 + 1),
            _ => false,
        }
    }

    #[cold]
    fn take_off(&self, worker: usize) -> bool {
        let mut asleep = self.asleep.lock();
        if let Some(at) = asleep.searchers.iter().position(|&sleeper| sleeper == worker) {
            asleep.searchers.remove(at);
            self.counts.fetch_sub(SLEEPER, Ordering::Relaxed);
        } else if let Some(at) = asleep.resting.iter().position(|&sleeper| sleeper == worker) {
            asleep.resting.swap_remove(at);
            self.resting.fetch_sub(1, Ordering::Relaxed);
        } else {
            return false;
        }
        self.words[worker].store(AWAKE, Ordering::Relaxed);
        true
    }

    /// Announces sleep. The caller must then look once more at everything that could concern it, and
    /// call [`Idle::awake`] when it finds something, or when it has slept.
    pub(super) fn fall_asleep(&self, worker: usize, searching: bool) {
        {
            let mut asleep = self.asleep.lock();
            debug_assert_eq!(self.words[worker].load(Ordering::Relaxed), AWAKE);
            // The first worker starts no background work: it is woken last.
            if worker == 0 {
                asleep.searchers.insert(0, worker);
            } else {
                asleep.searchers.push(worker);
            }
            self.words[worker].store(ASLEEP, Ordering::Relaxed);
            let delta = SLEEPER - if searching { SEARCHER } else { 0 };
            self.counts.fetch_add(delta, Ordering::Relaxed);
        }
        // Pairs with the fences of `notify_one` and `notify`.
        fence(Ordering::SeqCst);
    }

    /// As [`Idle::fall_asleep`], for a spare that rests: it does not search.
    pub(super) fn fall_asleep_resting(&self, worker: usize) {
        {
            let mut asleep = self.asleep.lock();
            asleep.resting.push(worker);
            self.words[worker].store(ASLEEP, Ordering::Relaxed);
            self.resting.fetch_add(1, Ordering::Relaxed);
        }
        // Pairs with the fence of `notify`.
        fence(Ordering::SeqCst);
    }

    /// Ends sleep; true when the worker was woken to search, and counts as a searcher.
    pub(super) fn awake(&self, worker: usize) -> bool {
        if self.words[worker].load(Ordering::Relaxed) == ASLEEP && self.take_off(worker) {
            return false;
        }
        // Somebody took us off the list. They wrote the word under the lock, before we got here or
        // while `take_off` waited for it.
        self.words[worker].swap(AWAKE, Ordering::Relaxed) == WOKEN_TO_SEARCH
    }

    /// Asks to search of one's own accord; refused while half of the workers do.
    pub(super) fn start_searching(&self, active: usize) -> bool {
        let counts = self.counts.load(Ordering::Relaxed);
        if 2 * searchers(counts) as usize >= active {
            return false;
        }
        // May pass the half by a little when several ask at once: it is a brake, not a bound.
        self.counts.fetch_add(SEARCHER, Ordering::Relaxed);
        true
    }

    /// Ends a search that found work. The last searcher passes the torch: what it found may not be
    /// alone, and producers were silent because it searched.
    #[must_use = "the worker was taken off the list: its driver must be woken"]
    pub(super) fn stop_searching(&self) -> Option<usize> {
        // AcqRel: not needed for the protocol, whose fence is in `notify_one`.
        let before = self.counts.fetch_sub(SEARCHER, Ordering::AcqRel);
        if searchers(before) == 1 {
            self.notify_one(Amount::Plenty)
        } else {
            None
        }
    }

    /// Whether anybody searches, or will when its nap is over.
    pub(super) fn somebody_searches(&self) -> bool {
        searchers(self.counts.load(Ordering::Relaxed)) != 0
    }

    /// How many workers sleep.
    pub(super) fn sleeping(&self) -> usize {
        sleepers(self.counts.load(Ordering::Relaxed)) as usize
    }

    /// Whether so many workers sleep and `holds`, which is asked while none of them can wake.
    pub(super) fn while_asleep(&self, workers: usize, holds: impl FnOnce() -> bool) -> bool {
        let asleep = self.asleep.lock();
        asleep.searchers.len() + asleep.resting.len() >= workers && holds()
    }

    /// How many resting spares sleep.
    pub(super) fn resting(&self) -> usize {
        self.resting.load(Ordering::Relaxed) as usize
    }

    pub(super) fn is_asleep(&self, worker: usize) -> bool {
        matches!(self.words[worker].load(Ordering::Relaxed), ASLEEP | NAPPING)
    }
}
